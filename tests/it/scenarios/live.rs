//! Live audio: published, listened to, gone and come back.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use veza_client::Media;
use veza_client::proto::media::{MediaFrame, MediaPacket};
use veza_client::proto::v1::{
    AudioState, AudioStream, ErrorCode, IngestReport, Listening, PublishedRung, QualityPin, QualityReason,
    StreamPublished, push,
};

use crate::carrier::{Player, SOON, Stage, ask};

/// Full-band CELT, 20 ms.
const TOC: u8 = 0xfc;

fn rungs() -> Vec<PublishedRung> {
    let rung = |rung, bits_per_second, channels| PublishedRung { rung, bits_per_second, channels };
    vec![rung(0, 96_000, 2), rung(1, 32_000, 1)]
}

pub async fn create(player: &Player, stream: &str) -> AudioStream {
    ask!(player, CreateStream { stream: stream, title: "A show" } => StreamCreated).unwrap().stream.unwrap()
}

pub async fn publish(player: &Player, stream: &str) -> StreamPublished {
    ask!(player, PublishStream { stream: stream, rungs: rungs() } => StreamPublished).unwrap()
}

pub async fn listen(player: &Player, stream: &str) -> Listening {
    ask!(player, Listen { stream: stream } => Listening).unwrap()
}

/// A frame that names its index.
fn frame(rung: u8, bytes: usize, index: u32) -> MediaFrame {
    let mut payload = vec![rung; bytes];
    payload[0] = TOC;
    payload[1..5].copy_from_slice(&index.to_be_bytes());
    MediaFrame { age: 0, rung, switch_point: index.is_multiple_of(10), payload: payload.into() }
}

/// A frame on every rung, as long as its rung's bits say.
fn packet(handle: u32, index: u32) -> MediaPacket {
    MediaPacket { handle, newest: index, level: 30, fresh: 1, frames: vec![frame(0, 240, index), frame(1, 80, index)] }
}

async fn send(player: &Player, packet: &MediaPacket) {
    player.connection.send_media(packet.write().unwrap().slice(1..)).await.unwrap();
}

/// Sends frames as a microphone makes them.
pub async fn talk(player: &Player, published: &StreamPublished, frames: std::ops::Range<u32>) {
    let mut clock = tokio::time::interval(Duration::from_millis(20));
    for index in frames {
        clock.tick().await;
        send(player, &packet(published.handle, published.first_index + index)).await;
    }
}

pub async fn next(media: &mut Media) -> MediaPacket {
    let (bytes, _) = tokio::time::timeout(SOON, media.next()).await.expect("nothing came").expect("the link ended");
    MediaPacket::read(bytes).unwrap()
}

/// Indices as they come, with what names them inside, until this one has come.
async fn heard_until(media: &mut Media, last: u32) -> BTreeSet<u32> {
    let mut heard = BTreeSet::new();
    while !heard.contains(&last) {
        let packet = next(media).await;
        for frame in &packet.frames {
            let index = packet.newest - u32::from(frame.age);
            assert_eq!(frame.payload[1..5], index.to_be_bytes(), "a frame is what its index says");
            heard.insert(index);
        }
    }
    heard
}

pub async fn told(player: &mut Player, want: impl Fn(&AudioStream) -> bool) -> AudioStream {
    player
        .hear(|event| match event {
            push::Event::StreamChanged(changed) => changed.stream.clone().filter(|stream| want(stream)),
            _ => None,
        })
        .await
}

async fn reported(player: &mut Player, want: impl Fn(&IngestReport) -> bool) -> IngestReport {
    player
        .hear(|event| match event {
            push::Event::IngestReport(report) => Some(report.clone()).filter(|report| want(report)),
            _ => None,
        })
        .await
}

pub async fn a_stream_is_heard_by_who_listens(stage: &Stage) {
    let mut alice = stage.player("alice").await;
    let made = create(&alice, "show").await;
    assert_eq!((made.state(), made.owner.as_str(), made.room.as_str()), (AudioState::Created, "alice", "stream.show"));
    assert_eq!(create(&alice, "show").await, made, "asked again it is the same");

    // Bob is early: the stream is there, and silent.
    let mut bob = stage.player("bob").await;
    let mut media = bob.connection.media().unwrap();
    let listening = listen(&bob, "show").await;
    assert!(listening.rungs.is_empty() && !listening.stream.unwrap().on_air);

    let published = publish(&alice, "show").await;
    assert_eq!(published.handle, listening.handle);
    told(&mut bob, |stream| stream.on_air).await;
    assert_eq!(told(&mut alice, |stream| stream.listeners == 1).await.state(), AudioState::Live);
    let (live, first) = (ask!(bob, ListStreams {} => StreamList).unwrap(), published.first_index);
    assert_eq!(live.streams.iter().map(|s| (s.id.as_str(), s.listeners)).collect::<Vec<_>>(), [("show", 1)]);

    let ((), heard) = tokio::join!(talk(&alice, &published, 0..60), heard_until(&mut media, first + 57));
    assert!(heard.len() >= 50, "{heard:?}");
    bob.join("stream.show").await.unwrap();

    ask!(alice, EndStream { stream: "show" } => StreamEnded).unwrap();
    told(&mut bob, |stream| stream.state() == AudioState::Ended).await;
    let refused = ask!(bob, Listen { stream: "show" } => Listening).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Gone);
}

/// Alice is on air, and Bob listens: what each was told.
async fn on_air(stage: &Stage) -> (Player, StreamPublished, Player, Listening) {
    let alice = stage.player("alice").await;
    create(&alice, "show").await;
    let published = publish(&alice, "show").await;
    let bob = stage.player("bob").await;
    let listening = listen(&bob, "show").await;
    (alice, published, bob, listening)
}

pub async fn a_publisher_who_comes_back_goes_on_in_the_same_stream(stage: &Stage) {
    let (alice, published, mut bob, _) = on_air(stage).await;
    let mut media = bob.connection.media().unwrap();
    talk(&alice, &published, 0..10).await;
    let before = published.first_index + 10;

    drop(alice);
    told(&mut bob, |stream| !stream.on_air && stream.state() == AudioState::Live).await;
    let alice = stage.player("alice").await;
    let again = publish(&alice, "show").await;
    assert_eq!(again.handle, published.handle);
    assert!(again.first_index >= before, "{} after {before}", again.first_index);
    told(&mut bob, |stream| stream.on_air).await;
    // Packets of WebSocket hold three frames: the last ones wait for more.
    tokio::join!(talk(&alice, &again, 0..12), heard_until(&mut media, again.first_index + 8));
}

pub async fn a_publisher_comes_back_with_another_ladder(stage: &Stage) {
    let (alice, published, mut bob, listening) = on_air(stage).await;
    let mut media = bob.connection.media().unwrap();
    assert_eq!(listening.rungs, rungs());
    tokio::join!(talk(&alice, &published, 0..12), heard_until(&mut media, published.first_index + 8));

    drop(alice);
    told(&mut bob, |stream| !stream.on_air).await;
    let alice = stage.player("alice").await;
    let other = vec![PublishedRung { rung: 2, bits_per_second: 64_000, channels: 1 }];
    let again = ask!(alice, PublishStream { stream: "show", rungs: other.clone() } => StreamPublished).unwrap();
    let rungs = |event: &push::Event| match event {
        push::Event::StreamChanged(changed) => Some(changed.rungs.clone()).filter(|rungs| !rungs.is_empty()),
        _ => None,
    };
    assert_eq!(bob.hear(rungs).await, other);
    let quality = |event: &push::Event| match event {
        push::Event::QualityChanged(changed) => changed.quality.filter(|quality| quality.rung == 2),
        _ => None,
    };
    assert_eq!(bob.hear(quality).await.bits_per_second, 64_000);

    // What he hears now is on the new rung, and the indices go on.
    let talking = async {
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        for index in again.first_index..again.first_index + 12 {
            clock.tick().await;
            let frames = vec![frame(2, 160, index)];
            send(&alice, &MediaPacket { handle: again.handle, newest: index, level: 30, fresh: 1, frames }).await;
        }
    };
    let listening = async {
        loop {
            let packet = next(&mut media).await;
            if packet.newest >= again.first_index + 8 {
                return packet.frames.iter().map(|frame| frame.rung).collect::<BTreeSet<_>>();
            }
        }
    };
    assert_eq!(tokio::join!(talking, listening).1, BTreeSet::from([2]));
}

pub async fn only_its_own_publisher_is_heard(stage: &Stage) {
    let mut alice = stage.player("alice").await;
    create(&alice, "show").await;
    let published = publish(&alice, "show").await;
    let mallory = stage.player("mallory").await;
    let mut media = mallory.connection.media().unwrap();
    listen(&mallory, "show").await;

    let refused = ask!(mallory, PublishStream { stream: "show", rungs: rungs() } => StreamPublished).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::PermissionDenied);
    let refused = ask!(mallory, EndStream { stream: "show" } => StreamEnded).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::PermissionDenied);
    let refused = ask!(mallory, CreateStream { stream: "show", title: "Mine" } => StreamCreated).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::AlreadyExists);

    // Packets with a stolen handle go nowhere: the first thing that is heard is Alice's.
    for index in 0..5 {
        let mut stolen = packet(published.handle, published.first_index + index);
        stolen.frames[0].payload = Bytes::from_static(&[TOC, 0xff, 0xff, 0xff, 0xff]);
        send(&mallory, &stolen).await;
    }
    tokio::join!(talk(&alice, &published, 0..12), heard_until(&mut media, published.first_index + 8));

    // What is not 20 ms of Opus, or on a rung that nobody announced, is refused, and Alice is told why.
    let mut wrong = packet(published.handle, published.first_index + 12);
    wrong.frames[0].payload = Bytes::from_static(&[0xfd, 0, 0, 0, 0]);
    wrong.frames[1].rung = 5;
    send(&alice, &wrong).await;
    let report = reported(&mut alice, |report| report.refused == 2).await;
    assert_eq!(report.refusal, "a frame is on a rung that was not announced");
    assert!(!report.displaced, "it is Alice's stream still");

    // Alice from elsewhere takes over; here she is told.
    let elsewhere = stage.player("alice").await;
    publish(&elsewhere, "show").await;
    let report = reported(&mut alice, |report| report.displaced).await;
    assert!(!report.refusal.is_empty(), "it is said for people, too");
}

pub async fn a_listener_chooses_a_quality(stage: &Stage) {
    let alice = stage.player("alice").await;
    create(&alice, "show").await;
    let published = publish(&alice, "show").await;
    let bob = stage.player("bob").await;
    let mut media = bob.connection.media().unwrap();
    let listening = listen(&bob, "show").await;
    assert_eq!(listening.rungs, rungs());
    assert_eq!(listening.quality.unwrap().bits_per_second, 96_000);
    let low = ask!(bob, SetQuality { stream: "show", pin: QualityPin::Low } => QualitySet).unwrap().quality.unwrap();
    assert_eq!((low.bits_per_second, low.pin(), low.reason()), (32_000, QualityPin::Low, QualityReason::Choice));
    let switched = async { while next(&mut media).await.frames.iter().any(|frame| frame.rung == 0) {} };
    tokio::join!(talk(&alice, &published, 0..30), switched);

    ask!(bob, Unlisten { stream: "show" } => Unlistened).unwrap();
    let refused = ask!(bob, SetQuality { stream: "show" } => QualitySet).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotFound);
}

pub async fn streams_at_their_bounds_and_one_past(stage: &Stage) {
    let alice = stage.player("alice").await;
    for stream in ["one", "two", "three", "four", "five"] {
        create(&alice, stream).await;
    }
    for stream in ["one", "two", "three", "four"] {
        listen(&alice, stream).await;
    }
    let refused = ask!(alice, Listen { stream: "five" } => Listening).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Limit);
    ask!(alice, Unlisten { stream: "one" } => Unlistened).unwrap();
    listen(&alice, "five").await;

    let rung = |rung| PublishedRung { rung, bits_per_second: 6_000, channels: 1 };
    let five: Vec<_> = (0..5).map(rung).collect();
    let refused = ask!(alice, PublishStream { stream: "two", rungs: five } => StreamPublished).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidArgument);
    let four: Vec<_> = (0..4).map(rung).collect();
    ask!(alice, PublishStream { stream: "two", rungs: four } => StreamPublished).unwrap();
    let refused = ask!(alice, Listen { stream: "nowhere" } => Listening).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotFound);
    // 57 bytes make an id that fits into its room's, one more does not.
    create(&alice, &"x".repeat(57)).await;
    let refused = ask!(alice, CreateStream { stream: "y".repeat(58), title: "Y" } => StreamCreated).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidArgument);
}
