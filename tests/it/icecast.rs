//! Source clients: what they send under a mount is a stream that people hear, and what is wrong is said.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use veza_client::Media;
use veza_client::proto::gateway::v1::RevokeUserRequest;
use veza_client::proto::v1::AudioState;
use veza_sound::opus::{Decoder, FRAME_SAMPLES};
use veza_sound::testing::{frequency, ogg_opus, opus, tone, wav};

use crate::carrier::{Carrier, Player, SOON, Stage, ask};
use crate::gateway::Backend;
use crate::scenarios::live::{create, listen, next, told};
use crate::server::{Start, get, token_for};

/// A source client's connection.
struct Source(TcpStream);

impl Source {
    /// Sends a head of these lines.
    async fn open(stage: &Stage, head: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", stage.process.icecast)).await.unwrap();
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        Self(stream)
    }

    /// Sends a mount's head as today's clients do.
    async fn put(stage: &Stage, mount: &str, password: &str, more: &str) -> Self {
        let head = format!("PUT /{mount} HTTP/1.1\r\nHost: x\r\n{}{more}", basic("source", password));
        Self::open(stage, &head).await
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    async fn send_chunk(&mut self, bytes: &[u8]) {
        self.send(format!("{:x}\r\n", bytes.len()).as_bytes()).await;
        self.send(bytes).await;
        self.send(b"\r\n").await;
    }

    /// A head that comes before the end.
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = tokio::time::timeout(SOON, self.0.read_u8()).await.expect("nothing was answered");
            head.push(byte.expect("the connection ended"));
        }
        String::from_utf8(head).unwrap()
    }

    /// Everything to the end: the status of the answer, and its sentence.
    async fn answer(mut self) -> (u16, String) {
        let mut text = String::new();
        tokio::time::timeout(SOON, self.0.read_to_string(&mut text)).await.expect("no end").unwrap();
        let (head, sentence) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), sentence.trim_end().to_owned())
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

async fn stage() -> Stage {
    Stage::new(Start::new().variable("ICECAST_PORT", 0).run(), Carrier::Quic).await
}

/// Somebody who listens to a stream of the DJ's that is there already.
async fn listener(stage: &Stage, stream: &str) -> (Player, Media) {
    let dj = stage.player("dj").await;
    create(&dj, stream).await;
    let bob = stage.player("bob").await;
    let media = bob.connection.media().unwrap();
    listen(&bob, stream).await;
    (bob, media)
}

/// What is heard of the next frames, on whatever rung: two channels, 48 kHz.
async fn heard(media: &mut Media, frames: usize) -> Vec<f32> {
    let (mut decoder, mut sound, mut from) = (Decoder::new(2).unwrap(), Vec::new(), None);
    while sound.len() < frames * FRAME_SAMPLES * 2 {
        let packet = next(media).await;
        let mut fresh: Vec<_> = packet.frames.iter().collect();
        fresh.sort_by_key(|frame| std::cmp::Reverse(frame.age));
        for frame in fresh {
            let index = packet.newest - u32::from(frame.age);
            if from.is_some_and(|from| index < from) {
                continue;
            }
            from = Some(index + 1);
            let mut decoded = vec![0.0; FRAME_SAMPLES * 2];
            decoder.decode(&frame.payload, &mut decoded).unwrap();
            sound.extend(decoded);
        }
    }
    sound
}

/// Whether a piece in the middle is this tone.
fn is_tone(sound: &[f32], hertz: f64) -> bool {
    let middle = &sound[sound.len() / 4 / 2 * 2..sound.len() * 3 / 4];
    (frequency(middle, 2) - hertz).abs() < 3.0
}

/// A file as the encoders of the field write it.
fn encoded(program: &[&str], wav: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program[0])
        .args(&program[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{} is needed (scripts/setup.sh installs it): {error}", program[0]));
    let (mut input, wav) = (child.stdin.take().unwrap(), wav.to_vec());
    let writer = std::thread::spawn(move || input.write_all(&wav));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{program:?}");
    output.stdout
}

async fn playing(bob: &mut Player, title: &str) {
    told(bob, |stream| stream.playing == title).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opus_in_ogg_is_heard_as_it_came_from_mono_to_stereo() {
    let stage = stage().await;
    let (mut bob, mut media) = listener(&stage, "show").await;
    let (low, high) = (opus(&tone(440.0, 48_000, 1, 2.0), 1), opus(&tone(880.0, 48_000, 2, 2.0), 2));
    let more = "Content-Type: audio/ogg\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n";
    let mut source = Source::put(&stage, "show", &stage.token("dj").await, more).await;
    assert_eq!(source.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    let first = ogg_opus(7, 1, &["ARTIST=Somebody", "TITLE=Low"], &low, 10);
    let second = ogg_opus(8, 2, &["TITLE=High"], &high, 10);
    for piece in [first, second].concat().chunks(1_000) {
        source.send_chunk(piece).await;
    }
    source.send(b"0\r\n\r\n").await;
    let sound = heard(&mut media, 190).await;
    assert!(is_tone(&sound[..90 * 1_920], 440.0) && is_tone(&sound[110 * 1_920..180 * 1_920], 880.0));
    playing(&mut bob, "Somebody – Low").await;
    playing(&mut bob, "High").await;
    assert_eq!(source.answer().await, (200, "the source has ended".into()));
    told(&mut bob, |stream| !stream.on_air && stream.state() == AudioState::Live).await;
    let metrics = get(stage.process.metrics, "/metrics", "").body;
    for line in ["veza_icecast_sources 0", "ended_total{reason=\"over\"} 1", "answers_total{status=\"200\"} 1"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_sound_is_heard_at_its_own_pitch() {
    let stage = stage().await;
    let token = stage.token("dj").await;
    let [mono, stereo] = [1, 2].map(|channels| wav(&tone(523.0, 44_100, usize::from(channels), 3.0), channels, 44_100));
    let kinds = [
        ("wav", "audio/wav", mono.clone()),
        ("vorbis", "application/ogg", encoded(&["oggenc", "-Q", "-o", "-", "-"], &stereo)),
        ("mp3", "audio/mpeg", encoded(&["lame", "--quiet", "-b", "128", "-", "-"], &mono)),
        ("flac", "audio/flac", encoded(&["flac", "-s", "-c", "-"], &stereo)),
    ];
    for (mount, kind, file) in kinds {
        let (_bob, mut media) = listener(&stage, mount).await;
        // As clients of old announce it, which know of no lengths.
        let head = format!("SOURCE /{mount} ICE/1.0\r\n{}Content-Type: {kind}\r\n", basic("source", &token));
        let mut source = Source::open(&stage, &head).await;
        assert_eq!(source.head().await, "HTTP/1.0 200 OK\r\n\r\n", "{mount}");
        let sending = async {
            source.send(&file).await;
            source.0.shutdown().await.unwrap();
        };
        let ((), sound) = tokio::join!(sending, heard(&mut media, 120));
        assert!(is_tone(&sound, 523.0), "{mount}: {}", frequency(&sound, 2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said() {
    let stage = stage().await;
    let token = stage.token("dj").await;
    let ogg = "Content-Type: audio/ogg\r\n";
    let sound = opus(&tone(440.0, 48_000, 1, 0.6), 1);
    let whole = ogg_opus(7, 1, &[], &sound, 5);
    let wide = wav(&tone(440.0, 48_000, 6, 0.2), 6, 48_000);
    let of = |length: usize| format!("{ogg}Content-Length: {length}\r\n");
    /// What it is, the password, more headers, the body; the status and part of the sentence that answer it.
    type Case<'a> = (&'a str, &'a str, &'a str, &'a [u8], u16, &'a str);
    let cases: [Case<'_>; 9] = [
        ("a wrong password", "no-token", ogg, &[], 401, "the token is not valid"),
        ("a page", &token, "Content-Type: text/html\r\n", &[], 415, "taken are Ogg"),
        ("no kind at all", &token, "", &[], 415, "taken are Ogg"),
        ("a name that is none", &token, ogg, &[], 400, "stream"),
        ("a body of two lengths", &token, &of(5), &[], 400, "transfer encoding"),
        ("text that says it is Ogg", &token, &of(100), &[b'x'; 100], 415, "what the source sends"),
        ("Ogg that breaks off", &token, &of(whole.len() - 300), &whole[..whole.len() - 300], 400, "breaks off"),
        ("Ogg without its end", &token, &of(60), &whole[..60], 400, "breaks off"),
        (
            "six channels",
            &token,
            &format!("Content-Type: audio/wav\r\nContent-Length: {}\r\n", wide.len()),
            &wide,
            415,
            "channels",
        ),
    ];
    for (at, (what, password, more, body, status, sentence)) in cases.into_iter().enumerate() {
        let mount = if what.starts_with("a name") { "no%20name".to_owned() } else { format!("show-{at}") };
        let more =
            if what.ends_with("lengths") { format!("{more}Transfer-Encoding: chunked\r\n") } else { more.into() };
        let mut source = Source::put(&stage, &mount, password, &more).await;
        source.send(body).await;
        let (given, said) = source.answer().await;
        assert_eq!(given, status, "{what}: {said}");
        assert!(said.contains(sentence), "{what}: {said}");
    }
    let asked = async |head: &str| Source::open(&stage, head).await.answer().await.0;
    assert_eq!(asked("PUT /show HTTP/1.1\r\nContent-Type: audio/ogg\r\n").await, 401, "nothing is shown");
    let other = format!("PUT /show HTTP/1.1\r\n{ogg}{}", basic("somebody", &token));
    assert_eq!(asked(&other).await, 401, "another's name");
    assert_eq!(asked("POST /show HTTP/1.1\r\n").await, 405);
    assert_eq!(asked("GET /show HTTP/1.1\r\n").await, 404);
    assert_eq!(asked("hello\r\n").await, 400);
    assert_eq!(asked("OPTIONS * HTTP/1.1\r\n").await, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_at_their_bound_and_one_past() {
    let stage = stage().await;
    let padded = |length: usize| {
        let mut head = "OPTIONS * HTTP/1.1\r\n".to_owned();
        while length - head.len() > 2_000 {
            let _ = write!(head, "x: {}\r\n", "y".repeat(995));
        }
        // Its own line end, and the empty line.
        let rest = length - head.len() - "x: \r\n".len() - 2;
        format!("{head}x: {}\r\n", "y".repeat(rest))
    };
    for (length, status) in [(8_192, 204), (8_193, 431)] {
        let head = padded(length);
        assert_eq!(head.len() + 2, length);
        assert_eq!(Source::open(&stage, &head).await.answer().await.0, status, "{length}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_at_their_bound_and_one_past() {
    let start = Start::new().variable("ICECAST_PORT", 0).variable("ICECAST_SOURCES_MAX", 1);
    let stage = Stage::new(start.run(), Carrier::Quic).await;
    let token = stage.token("dj").await;
    let more = "Content-Type: audio/ogg\r\nExpect: 100-continue\r\n";
    let mut first = Source::put(&stage, "one", &token, more).await;
    first.head().await;
    let (status, said) = Source::put(&stage, "one", &token, more).await.answer().await;
    assert_eq!((status, said.as_str()), (403, "the mount is in use: somebody publishes this stream"));
    assert_eq!(Source::put(&stage, "two", &token, more).await.answer().await.0, 503);
    drop(first);
    tokio::time::timeout(SOON, async {
        while Source::put(&stage, "two", &token, more).await.head().await.starts_with("HTTP/1.1 503") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_stands_for_a_token_that_is_too_long() {
    let stage = stage().await;
    let token = stage.token("dj").await;
    let ask = async |head: String| Source::open(&stage, &head).await.answer().await;
    let (status, said) = ask(format!("GET /password HTTP/1.1\r\nAuthorization: Bearer {token}\r\n")).await;
    assert_eq!(status, 200);
    let made: serde_json::Value = serde_json::from_str(&said).unwrap();
    let password = made["password"].as_str().unwrap();
    assert_eq!((made["user"].as_str(), password.len()), (Some("dj"), 28));
    assert_eq!(ask(format!("GET /password HTTP/1.1\r\n{}", basic("dj", password))).await.0, 403);
    for wrong in [basic("source", password), basic("eve", password), basic("dj", &password[1..])] {
        assert_eq!(ask(format!("GET /password HTTP/1.1\r\n{wrong}")).await.0, 401);
    }

    let (mut bob, mut media) = listener(&stage, "show").await;
    let head =
        format!("PUT /show HTTP/1.1\r\nContent-Type: audio/wav\r\nExpect: 100-continue\r\n{}", basic("dj", password));
    let mut source = Source::open(&stage, &head).await;
    source.head().await;
    source.send(&wav(&tone(440.0, 48_000, 2, 1.0), 2, 48_000)).await;
    assert!(is_tone(&heard(&mut media, 40).await, 440.0));
    // What is played comes beside it, as clients of old say it.
    let said =
        format!("GET /admin/metadata?mode=updinfo&mount=/show&song=A+%26+B HTTP/1.0\r\n{}", basic("dj", password));
    assert_eq!(ask(said).await, (200, "said".into()));
    playing(&mut bob, "A & B").await;
    let others = stage.token("eve").await;
    let said =
        format!("GET /admin/metadata?mode=updinfo&mount=/show&song=Mine HTTP/1.0\r\n{}", basic("source", &others));
    assert_eq!(ask(said).await.0, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_ends_with_its_stream() {
    let stage = stage().await;
    let (mut bob, _media) = listener(&stage, "show").await;
    let token = stage.token("dj").await;
    let more = "Content-Type: audio/wav\r\nExpect: 100-continue\r\n";
    let sound = wav(&tone(440.0, 48_000, 2, 20.0), 2, 48_000);
    let mut source = Source::put(&stage, "show", &token, more).await;
    source.head().await;
    let (mut reader, mut writer) = source.0.into_split();
    let sending = tokio::spawn(async move { writer.write_all(&sound).await });
    told(&mut bob, |stream| stream.on_air).await;
    let eve = stage.token("eve").await;
    assert_eq!(Source::put(&stage, "show", &eve, more).await.answer().await.0, 403, "a foreign stream");
    let dj = stage.player("dj").await;
    ask!(dj, EndStream { stream: "show" } => StreamEnded).unwrap();
    let mut said = String::new();
    tokio::time::timeout(SOON, reader.read_to_string(&mut said)).await.expect("no end").unwrap();
    assert!(said.starts_with("HTTP/1.1 410 Gone") && said.ends_with("the stream is over\n"), "{said}");
    sending.abort();
    let (status, _) = Source::put(&stage, "show", &token, more).await.answer().await;
    assert_eq!(status, 410, "another show is another stream");
    told(&mut bob, |stream| stream.state() == AudioState::Ended).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_ends_with_its_token_and_with_the_server() {
    let start = Start::new().variable("ICECAST_PORT", 0).roomy();
    let stage = Stage::new(start.run(), Carrier::Quic).await;
    let token = |seconds| token_for("dj", &[], Duration::from_secs(seconds));
    let more = "Content-Type: audio/ogg\r\nExpect: 100-continue\r\n";
    let mut short = Source::put(&stage, "short", &token(3), more).await;
    short.head().await;
    assert_eq!(short.answer().await, (401, "what the source showed has expired".into()));
    let mut long = Source::put(&stage, "long", &token(3_600), more).await;
    long.head().await;
    stage.process.terminate();
    assert_eq!(long.answer().await, (503, "the server goes away: come back".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_ends_when_its_user_is_revoked_and_its_stream_waits() {
    let stage = stage().await;
    let backend = Backend::of(&stage.process).await;
    let (mut bob, _media) = listener(&stage, "show").await;
    let token = stage.token("dj").await;
    let more = "Content-Type: audio/wav\r\nExpect: 100-continue\r\n";
    let mut source = Source::put(&stage, "show", &token, more).await;
    source.head().await;
    let sound = wav(&tone(440.0, 48_000, 2, 20.0), 2, 48_000);
    source.send(&sound[..48_000 * 4]).await;
    told(&mut bob, |stream| stream.on_air).await;

    backend.auth().revoke_user(RevokeUserRequest { user: "dj".into(), ..Default::default() }).await.unwrap();
    assert_eq!(source.answer().await, (401, "what the source showed was revoked".into()));
    // The stream is not over: another publisher may go on in it.
    told(&mut bob, |stream| !stream.on_air && stream.state() == AudioState::Live).await;
    assert_eq!(Source::put(&stage, "show", &token, more).await.answer().await.0, 401, "nor is it let in again");
    drop(bob);
    let said = stage.process.said();
    let ended: Vec<_> = said.iter().filter(|line| line.contains("a source has ended")).collect();
    assert!(ended.len() == 1 && ended[0].contains("what the source showed was revoked"), "{ended:?}");
}
