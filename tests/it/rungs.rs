//! Rungs that nobody publishes: made for who needs them, while there is room.

use std::collections::BTreeMap;
use std::time::Duration;

use veza_client::Media;
use veza_client::proto::media::{MediaFrame, MediaPacket};
use veza_client::proto::v1::{PublishedRung, QualityPin, QualityReason, StreamPublished};
use veza_sound::opus::{Coding, Decoder, Encoder, FRAME_SAMPLES};

use crate::carrier::{Carrier, Player, SOON, Stage, ask};
use crate::server::{Process, Start, get};

const HERTZ: f64 = 440.0;
/// Frames on the made rung that a listener waits for: a second and a half.
const ENOUGH: usize = 75;

fn rung(rung: u32, bits_per_second: u32, channels: u32) -> PublishedRung {
    PublishedRung { rung, bits_per_second, channels }
}

/// A publisher with a tone, on one rung or more.
struct Tone {
    encoders: Vec<(u8, Encoder, usize)>,
    /// What was sent on rung 0, by index.
    sent: BTreeMap<u32, Vec<u8>>,
}

impl Tone {
    fn new(rungs: &[PublishedRung]) -> Self {
        let encoder = |rung: &PublishedRung| {
            let channels = rung.channels as usize;
            let coding = Coding { bits_per_second: rung.bits_per_second, channels, voice: false, complexity: 5 };
            (rung.rung as u8, Encoder::new(coding).unwrap(), channels)
        };
        Self { encoders: rungs.iter().map(encoder).collect(), sent: BTreeMap::new() }
    }

    fn packet(&mut self, handle: u32, index: u32) -> MediaPacket {
        let sample = |at: usize| {
            let time = (index as usize * FRAME_SAMPLES + at) as f64 / 48_000.0;
            (time * HERTZ * std::f64::consts::TAU).sin() as f32 * 0.5
        };
        let mut frames = Vec::new();
        for (rung, encoder, channels) in &mut self.encoders {
            let samples: Vec<f32> =
                (0..FRAME_SAMPLES).flat_map(|at| std::iter::repeat_n(sample(at), *channels)).collect();
            let (mut payload, switch_point) = (Vec::new(), index.is_multiple_of(10));
            encoder.encode(&samples, switch_point, &mut payload).unwrap();
            if *rung == 0 {
                self.sent.insert(index, payload.clone());
            }
            frames.push(MediaFrame { age: 0, rung: *rung, switch_point, payload: payload.into() });
        }
        MediaPacket { handle, newest: index, level: 9, fresh: 1, frames }
    }

    /// Plays it as long as it is waited for.
    async fn play(&mut self, player: &Player, published: &StreamPublished) {
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        for index in published.first_index.. {
            clock.tick().await;
            let packet = self.packet(published.handle, index);
            player.connection.send_media(packet.write().unwrap().slice(1..)).await.unwrap();
        }
    }
}

/// Waits until so many rungs are made. What nobody uses is made for ten seconds more.
async fn until_made(process: &Process, rungs: u32) {
    let deadline = tokio::time::Instant::now() + 4 * SOON;
    loop {
        let text = get(process.metrics, "/metrics", "").body;
        let made = text.lines().find_map(|line| line.strip_prefix("veza_audio_made_rungs ")?.parse().ok());
        if made == Some(f64::from(rungs)) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{made:?} rungs are made, not {rungs}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Frames as a player takes them, by index, until there are enough on this rung.
async fn heard(media: &mut Media, rung: u8) -> BTreeMap<u32, MediaFrame> {
    let mut heard = BTreeMap::new();
    while heard.values().filter(|frame: &&MediaFrame| frame.rung == rung).count() < ENOUGH {
        let (bytes, _) = tokio::time::timeout(SOON, media.next()).await.expect("nothing came").expect("the link ended");
        let packet = MediaPacket::read(bytes).unwrap();
        for frame in packet.frames {
            heard.entry(packet.newest - u32::from(frame.age)).or_insert(frame);
        }
    }
    heard
}

/// How high and how loud the last second of it is, in one decoder.
fn sound(heard: &BTreeMap<u32, MediaFrame>) -> (f64, f32) {
    let mut decoder = Decoder::new(1).unwrap();
    let mut all = Vec::new();
    for frame in heard.values() {
        let mut samples = [0.0; FRAME_SAMPLES];
        decoder.decode(&frame.payload, &mut samples).unwrap();
        all.extend(samples);
    }
    let second = &all[all.len() - 48_000..];
    let crossings = second.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count();
    let loudest = second.iter().fold(0.0_f32, |loudest, sample| loudest.max(sample.abs()));
    (crossings as f64, loudest)
}

async fn a_missing_rung_is_made(carrier: Carrier) {
    let server = Start::new().roomy().variable("AUDIO_CODEC_THREADS", 1).run();
    let stage = Stage::new(server, carrier).await;
    let alice = stage.player("alice").await;
    ask!(alice, CreateStream { stream: "show", title: "A show" } => StreamCreated).unwrap();
    let rungs = vec![rung(0, 96_000, 2)];
    let published = ask!(alice, PublishStream { stream: "show", rungs: rungs.clone() } => StreamPublished).unwrap();

    let (bob, carol) = (stage.player("bob").await, stage.player("carol").await);
    let listening = ask!(bob, Listen { stream: "show", pin: QualityPin::Low } => Listening).unwrap();
    let offered: Vec<u32> = listening.rungs.iter().map(|rung| rung.bits_per_second / 1_000).collect();
    assert_eq!(offered, [96, 64, 48, 32, 24]);
    assert_eq!(listening.rungs[0], rungs[0], "what is published keeps its number");
    let quality = listening.quality.unwrap();
    assert_eq!((quality.bits_per_second, quality.reason()), (24_000, QualityReason::Start));
    ask!(carol, Listen { stream: "show" } => Listening).unwrap();
    let (mut low, mut high) = (bob.connection.media().unwrap(), carol.connection.media().unwrap());

    let mut tone = Tone::new(&rungs);
    let made = quality.rung as u8;
    let (low, high) = tokio::select! {
        () = tone.play(&alice, &published) => unreachable!("it goes on"),
        heard = async { tokio::join!(heard(&mut low, made), heard(&mut high, 0)) } => heard,
    };
    let frames = low.iter().filter(|(_, frame)| frame.rung == made);
    let bytes: usize = frames.clone().map(|(_, frame)| frame.payload.len()).sum();
    let bits_per_second = bytes * 8 * 50 / frames.clone().count();
    assert!((15_000..26_000).contains(&bits_per_second), "{bits_per_second}");
    assert!(frames.clone().all(|(index, frame)| !frame.switch_point || index % 10 == 0));
    let (hertz, loudest) = sound(&low);
    assert!((hertz - HERTZ).abs() < 3.0 && (0.4..0.6).contains(&loudest), "{hertz} Hz, {loudest}");
    // What is published is sent as it came.
    assert!(high.iter().all(|(index, frame)| frame.rung == 0 && frame.payload == tone.sent[index]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rung_that_nobody_publishes_is_made_for_who_needs_it() {
    a_missing_rung_is_made(Carrier::Quic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_by_websocket_too() {
    a_missing_rung_is_made(Carrier::WebSocketProto).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_the_nearest_published_rung_is_sent_and_said() {
    // One per cent of a thread is less than any rung takes.
    let server = Start::new().roomy().variable("AUDIO_CODEC_THREADS", 1).variable("AUDIO_CODEC_BUDGET", 1).run();
    let stage = Stage::new(server, Carrier::Quic).await;
    let alice = stage.player("alice").await;
    ask!(alice, CreateStream { stream: "show", title: "A show" } => StreamCreated).unwrap();
    let rungs = vec![rung(0, 96_000, 2), rung(1, 32_000, 1)];
    let published = ask!(alice, PublishStream { stream: "show", rungs: rungs.clone() } => StreamPublished).unwrap();

    let bob = stage.player("bob").await;
    let listening = ask!(bob, Listen { stream: "show" } => Listening).unwrap();
    assert_eq!(listening.quality.unwrap().bits_per_second, 96_000);
    // Low is 24 and medium is 48: the nearest one is 32.
    for pin in [QualityPin::Low, QualityPin::Medium] {
        let set = ask!(bob, SetQuality { stream: "show", pin: pin } => QualitySet).unwrap().quality.unwrap();
        assert_eq!((set.rung, set.bits_per_second, set.reason()), (1, 32_000, QualityReason::Capacity), "{pin:?}");
    }
    let (mut media, mut tone) = (bob.connection.media().unwrap(), Tone::new(&rungs));
    let heard = tokio::select! {
        () = tone.play(&alice, &published) => unreachable!("it goes on"),
        heard = heard(&mut media, 1) => heard,
    };
    assert!(heard.values().all(|frame| frame.rung <= 1), "nothing was made");
    let set = ask!(bob, SetQuality { stream: "show", pin: QualityPin::High } => QualitySet).unwrap().quality.unwrap();
    assert_eq!((set.bits_per_second, set.reason()), (96_000, QualityReason::Choice));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rung_that_nobody_uses_any_more_is_made_no_longer() {
    let server = Start::new().roomy().variable("AUDIO_CODEC_THREADS", 1).run();
    let stage = Stage::new(server, Carrier::Quic).await;
    let alice = stage.player("alice").await;
    ask!(alice, CreateStream { stream: "show", title: "A show" } => StreamCreated).unwrap();
    let rungs = vec![rung(0, 96_000, 2)];
    let published = ask!(alice, PublishStream { stream: "show", rungs: rungs.clone() } => StreamPublished).unwrap();
    let (bob, carol) = (stage.player("bob").await, stage.player("carol").await);
    for player in [&bob, &carol] {
        let low = ask!(player, Listen { stream: "show", pin: QualityPin::Low } => Listening).unwrap();
        assert_eq!(low.quality.unwrap().bits_per_second, 24_000);
    }
    let (mut media, mut tone) = (bob.connection.media().unwrap(), Tone::new(&rungs));
    let story = async {
        until_made(&stage.process, 1).await;
        // One goes, one stays with what is published: nobody is sent what was made.
        ask!(carol, Unlisten { stream: "show" } => Unlistened).unwrap();
        ask!(bob, SetQuality { stream: "show", pin: QualityPin::High } => QualitySet).unwrap();
        until_made(&stage.process, 0).await;
        assert!(heard(&mut media, 0).await.len() >= ENOUGH, "what is published goes on");
        // Who needs it again gets it again.
        let low = ask!(carol, Listen { stream: "show", pin: QualityPin::Low } => Listening).unwrap();
        assert_eq!(low.quality.unwrap().bits_per_second, 24_000);
        until_made(&stage.process, 1).await;
    };
    tokio::select! {
        () = tone.play(&alice, &published) => unreachable!("it goes on"),
        () = story => {}
    }
}
