//! `veza chat` and `veza publish` as they are used in a pipe.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use veza_client::proto::media::MediaPacket;
use veza_client::proto::v1::{ErrorCode, Listening, PublishedRung};
use veza_sound::opus::{Decoder, FRAME_SAMPLES};
use veza_sound::testing;

use crate::carrier::{Carrier, Player, SOON, Stage, ask};
use crate::server::{Process, Start};

/// What the terminal shows when these lines are typed.
fn chat(process: &Process, user: &str, lines: &[&str]) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_veza"))
        .args(["chat", "--url", &process.url(), "--room", "porch", "--user", user, "--transport", "quic"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_typed_is_said_changed_and_found_again() {
    let process = Start::new().run();
    chat(&process, "alice", &["helo", "the second", "/edit 1 hello", "/react 2 👍", "/pin 1", "/thread 2 an answer"]);
    // Somebody else enters later and sees what has become of it.
    let shown = chat(&process, "bob", &["/thread 2", "/search hello", "/pins", "/edits 1", "/unread"]);
    for line in [
        "#1 alice: hello (edited) (pinned)",
        "#2 alice: the second [👍 1] [1 in /thread 2]",
        "#6 alice: [thread #2] an answer",
        "1. helo",
        "2. hello",
        "-- everything is read",
    ] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
    assert_eq!(shown.matches("#1 alice: hello").count(), 3, "on entry, found, and pinned:\n{shown}");
}

#[test]
fn what_is_refused_is_said_plainly() {
    let process = Start::new().run();
    chat(&process, "alice", &["mine", "/mute bob"]);
    let shown = chat(&process, "bob", &["/edit 1 yours", "/delete 99", "/role alice guest", "/edit nothing", "/fly"]);
    for line in [
        "!! you may edit only your own messages (PERMISSION_DENIED)",
        "!! no such message (NOT_FOUND)",
        "(PERMISSION_DENIED)",
        "-- /edit N TEXT",
        "-- no such command: fly",
    ] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
}

/// `veza publish` of this file as alice's stream "show", with these arguments besides.
fn publish(process: &Process, file: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_veza"))
        .args(["publish", "--url", &process.url(), "--user", "alice", "--transport", "quic", "--stream", "show"])
        .args(arguments)
        .arg(file)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// How it ended, once it has, and what it said.
fn ended(mut publishing: Child) -> (Option<i32>, String) {
    let deadline = Instant::now() + SOON;
    while publishing.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            publishing.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = publishing.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A file with a tone of another rate than Opus has.
fn tone(folder: &tempfile::TempDir, seconds: f64) -> PathBuf {
    let file = folder.path().join("A tone.wav");
    std::fs::write(&file, testing::wav(&testing::tone(440.0, 44_100, 2, seconds), 2, 44_100)).unwrap();
    file
}

/// What the stream sounds like to bob, who listens as soon as somebody publishes it: three seconds, of one channel.
async fn heard(bob: &Player) -> (Listening, Vec<f32>) {
    let mut media = bob.connection.media().unwrap();
    let on_air = async {
        loop {
            match ask!(bob, Listen { stream: "show" } => Listening) {
                Ok(listening) if !listening.rungs.is_empty() => break listening,
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let listening = tokio::time::timeout(SOON, on_air).await.expect("nobody publishes");
    let (mut decoder, mut samples, mut heard) = (Decoder::new(1).unwrap(), vec![0.0; FRAME_SAMPLES], Vec::new());
    while heard.len() < 3 * 48_000 {
        let (bytes, _) = tokio::time::timeout(SOON, media.next()).await.expect("nothing came").unwrap();
        let packet = MediaPacket::read(bytes).unwrap();
        let mut fresh: Vec<_> = packet.frames.iter().filter(|frame| frame.age < packet.fresh).collect();
        fresh.sort_by_key(|frame| std::cmp::Reverse(frame.age));
        for frame in fresh {
            decoder.decode(&frame.payload, &mut samples).unwrap();
            heard.extend_from_slice(&samples);
        }
    }
    (listening, heard)
}

fn sounds_like_the_tone(heard: &[f32]) {
    let hertz = testing::frequency(&heard[heard.len() - 24_000..], 1);
    assert!((439.0..441.0).contains(&hertz), "{hertz} Hz");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_published_and_heard_as_it_sounds() {
    let stage = Stage::new(Process::start(), Carrier::Quic).await;
    let folder = tempfile::tempdir().unwrap();
    let publishing = publish(&stage.process, &tone(&folder, 12.0), &["--again"]);
    let bob = stage.player("bob").await;
    let (listening, sound) = heard(&bob).await;
    assert_eq!(listening.stream.unwrap().title, "A tone");
    let bits: Vec<_> = listening.rungs.iter().map(|rung| rung.bits_per_second).collect();
    assert_eq!(bits, [96_000, 32_000]);
    sounds_like_the_tone(&sound);

    // Ctrl-C ends it, and the stream.
    let stopped = Command::new("kill").args(["-INT", &publishing.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    let (code, said) = ended(publishing);
    assert!(code == Some(0) && said.contains("show is over"), "{said}");
    let gone = ask!(bob, Listen { stream: "show" } => Listening).unwrap_err();
    assert_eq!(gone.code(), ErrorCode::Gone);
    // What is over stays over.
    let (code, said) = ended(publish(&stage.process, &tone(&folder, 1.0), &[]));
    assert!(code == Some(1) && said.contains("(GONE)"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_file_is_the_end_of_its_stream() {
    let stage = Stage::new(Process::start(), Carrier::Quic).await;
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = ended(publish(&stage.process, &tone(&folder, 0.5), &["--voice"]));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.lines().collect::<Vec<_>>(), ["-- show is on air: 24 and 12 kb/s", "-- show is over"]);
    let bob = stage.player("bob").await;
    assert_eq!(ask!(bob, Listen { stream: "show" } => Listening).unwrap_err().code(), ErrorCode::Gone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_goes_on_in_the_same_stream_when_the_server_comes_back() {
    let mut stage = Stage::new(Start::new().settled().run(), Carrier::Quic).await;
    let folder = tempfile::tempdir().unwrap();
    let mut publishing = publish(&stage.process, &tone(&folder, 12.0), &["--again"]);
    let mut said = BufReader::new(publishing.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(said.next().unwrap(), "-- show is on air: 96 and 32 kb/s");
    let again = stage.process.again();
    let data = stage.process.keep_data();
    stage.process.stop();
    assert!(said.next().unwrap().ends_with("; coming back"));
    let stage = Stage::new(again.run(), Carrier::Quic).await;
    assert_eq!(said.next().unwrap(), "-- on air again");
    sounds_like_the_tone(&heard(&stage.player("bob").await).await.1);

    // Another publisher takes the place: the stream is theirs, and goes on.
    let alice = stage.player("alice").await;
    let rungs = vec![PublishedRung { rung: 0, bits_per_second: 32_000, channels: 1 }];
    ask!(alice, PublishStream { stream: "show", rungs: rungs } => StreamPublished).unwrap();
    assert!(said.next().unwrap().contains("somebody else publishes this stream now"));
    assert_eq!(ended(publishing).0, Some(1));
    let listed = ask!(alice, ListStreams {} => StreamList).unwrap();
    assert!(listed.streams[0].on_air, "{listed:?}");
    drop(data);
}

#[test]
fn what_cannot_be_published_is_said_plainly() {
    let process = Process::start();
    let folder = tempfile::tempdir().unwrap();
    let said = |file: &Path, bytes: Option<&[u8]>, arguments: &[&str]| {
        if let Some(bytes) = bytes {
            std::fs::write(file, bytes).unwrap();
        }
        let (code, said) = ended(publish(&process, file, arguments));
        assert_eq!(code, Some(1), "{said}");
        said
    };
    let file = folder.path().join("show.ogg");
    let missing = said(&file, None, &[]);
    assert!(missing.contains("show.ogg: it cannot be read: No such file"), "{missing}");
    let unknown = said(&file, Some(b"no sound at all, but long enough to be looked at for a while"), &[]);
    assert!(unknown.contains("show.ogg: it cannot be played"), "{unknown}");
    let twice = said(Path::new("-"), None, &["--again"]);
    assert!(twice.contains("the standard input cannot be played again"), "{twice}");

    let token = folder.path().join("token");
    std::fs::write(&token, "no token of this server").unwrap();
    let refused = said(&tone(&folder, 0.5), None, &["--token-file", token.to_str().unwrap()]);
    assert!(refused.contains("(UNAUTHENTICATED)") && !refused.contains("no token of this server"), "{refused}");
}
