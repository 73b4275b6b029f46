//! Who listens to a stream, what the platform chooses for them, and who publishes.

use veza_client::proto::gateway::v1::*;
use veza_client::proto::media::MediaPacket;
use veza_client::proto::v1::{ErrorCode, PublishedRung, QualityPin, QualityReason, push};

use super::streams::{create, forbidden, get, mask, start, stop, wrong_state};
use super::{bad_field, not_found, refusal, stage};
use crate::carrier::{SOON, ask};
use crate::scenarios::live::{publish, talk};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_listens_is_listed_and_what_they_are_sent_is_chosen() {
    let (stage, backend) = stage().await;
    let mut streams = backend.streams();
    streams.create_stream(create("show", "alice")).await.unwrap();
    let listed = |page_size, page_token: &str, actor: &str| ListListenersRequest {
        stream: "show".into(),
        page_size,
        page_token: page_token.into(),
        actor: actor.into(),
    };
    assert!(streams.list_listeners(listed(0, "", "")).await.unwrap().into_inner().listeners.is_empty());
    let silent = GetAudioMetricsRequest { stream: "show".into(), actor: "alice".into() };
    assert_eq!(refusal(streams.get_audio_metrics(silent.clone()).await), wrong_state(), "before it is live");

    let alice = stage.player("alice").await;
    let published = publish(&alice, "show").await;
    let mut bob = stage.player("bob").await;
    let carol = stage.player("carol").await;
    for player in [&bob, &carol] {
        ask!(player, Listen { stream: "show" } => Listening).unwrap();
    }
    let page = streams.list_listeners(listed(1, "", "alice")).await.unwrap().into_inner();
    assert_eq!(page.listeners.iter().map(|listener| listener.user.as_str()).collect::<Vec<_>>(), ["bob"]);
    let page = streams.list_listeners(listed(1, &page.next_page_token, "alice")).await.unwrap().into_inner();
    let [listener] = &page.listeners[..] else { panic!("{page:?}") };
    assert_eq!((listener.user.as_str(), listener.fixed, page.next_page_token.as_str()), ("carol", false, ""));
    assert!(listener.since_ms > 0 && listener.quality.unwrap().bits_per_second == 96_000);
    assert_eq!(refusal(streams.list_listeners(listed(0, "", "bob")).await), forbidden(), "who listens is not for all");
    let shown = streams.get_stream(get("show", "")).await.unwrap().into_inner().stream.unwrap();
    assert_eq!((shown.listeners, shown.listeners_peak), (2, 2));

    let fix = |user: &str, actor: &str, quality: Option<Quality>| SetListenerQualityRequest {
        stream: "show".into(),
        user: user.into(),
        actor: actor.into(),
        quality,
        ..Default::default()
    };
    let low = Some(Quality { bits_per_second: 40_000, packet_ms: 60, redundancy: 1 });
    let fixed = streams.set_listener_quality(fix("bob", "alice", low)).await.unwrap().into_inner().listener.unwrap();
    let given = Quality { bits_per_second: 32_000, packet_ms: 60, redundancy: 1 };
    assert_eq!((fixed.user.as_str(), fixed.fixed, fixed.quality), ("bob", true, Some(given)));
    let told = |reason: QualityReason| {
        move |event: &push::Event| match event {
            push::Event::QualityChanged(changed) => changed.quality.filter(|quality| quality.reason() == reason),
            _ => None,
        }
    };
    let quality = bob.hear(told(QualityReason::Choice)).await;
    assert_eq!((quality.rung, quality.packet_ms, quality.redundancy), (1, 60, 1));
    // The listener's own pin does not undo it.
    let pinned = ask!(bob, SetQuality { stream: "show", pin: QualityPin::High } => QualitySet).unwrap();
    assert_eq!(pinned.quality.unwrap().bits_per_second, 32_000);

    let mut media = bob.connection.media().unwrap();
    let heard = async {
        loop {
            let (bytes, _) = tokio::time::timeout(SOON, media.next()).await.expect("nothing came").unwrap();
            let packet = MediaPacket::read(bytes).unwrap();
            if packet.fresh == 3 && packet.frames.iter().all(|frame| frame.rung == 1) && packet.frames.len() > 3 {
                return;
            }
        }
    };
    tokio::join!(talk(&alice, &published, 0..60), heard);
    let metrics = streams.get_audio_metrics(silent.clone()).await.unwrap().into_inner();
    assert_eq!((metrics.peak_db, metrics.ingest_loss), (-30.0, 0.0));
    assert!((metrics.rms_db + 30.0).abs() < 1e-6 && metrics.added_ms_p99 >= metrics.added_ms_p50, "{metrics:?}");
    assert!(metrics.ingest_bits_per_second > 0 && metrics.egress_bits_per_second > 0);
    let full = Quality { bits_per_second: 96_000, packet_ms: 60, redundancy: 0 };
    let shares: Vec<_> = metrics.qualities.iter().map(|share| (share.quality.unwrap(), share.listeners)).collect();
    assert_eq!(shares, [(full, 1), (given, 1)], "by WebSocket packets are long");

    let released = streams.set_listener_quality(fix("bob", "bob", None)).await.unwrap().into_inner().listener.unwrap();
    assert_eq!((released.fixed, released.quality.unwrap().bits_per_second), (false, 96_000));
    assert_eq!(refusal(streams.set_listener_quality(fix("bob", "carol", low)).await), forbidden());
    assert_eq!(refusal(streams.set_listener_quality(fix("dave", "alice", low)).await), not_found());
    let odd = Some(Quality { bits_per_second: 40_000, packet_ms: 30, redundancy: 0 });
    assert_eq!(bad_field(streams.set_listener_quality(fix("bob", "", odd)).await), "quality.packet_ms");
    assert_eq!(bad_field(streams.list_listeners(ListListenersRequest::default()).await), "stream");
    assert_eq!(
        refusal(streams.get_audio_metrics(GetAudioMetricsRequest { stream: "none".into(), ..silent }).await),
        not_found()
    );

    drop(carol);
    streams.stop_stream(stop("show", "alice")).await.unwrap();
    let over = streams.get_stream(get("show", "")).await.unwrap().into_inner().stream.unwrap();
    assert_eq!((over.listeners_peak, over.state()), (2, StreamState::Ended), "the most there were stays in the record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_ranked_by_their_listeners_and_published_by_who_was_named() {
    let (stage, backend) = stage().await;
    let mut streams = backend.streams();
    for stream in ["quiet", "show"] {
        let publishers = vec!["bob".into()];
        streams.create_stream(CreateStreamRequest { publishers, ..create(stream, "alice") }).await.unwrap();
        streams.start_stream(start(stream, "alice")).await.unwrap();
    }
    let carol = stage.player("carol").await;
    ask!(carol, Listen { stream: "quiet" } => Listening).unwrap();
    let live = |sort: StreamSort, page_token: &str| ListLiveRequest {
        sort: sort.into(),
        page_size: 1,
        page_token: page_token.into(),
        ..Default::default()
    };
    let page = streams.list_live(live(StreamSort::Listeners, "")).await.unwrap().into_inner();
    let of = |page: &ListLiveResponse| page.streams.iter().map(|s| (s.id.clone(), s.listeners)).collect::<Vec<_>>();
    assert_eq!(of(&page), [("quiet".to_owned(), 1)]);
    let page = streams.list_live(live(StreamSort::Listeners, &page.next_page_token)).await.unwrap().into_inner();
    assert_eq!((of(&page), page.next_page_token.as_str()), (vec![("show".to_owned(), 0)], ""));

    let bob = stage.player("bob").await;
    publish(&bob, "show").await;
    let refused = ask!(bob, EndStream { stream: "show" } => StreamEnded).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::PermissionDenied, "who publishes it does not end it");
    let refused = ask!(carol, PublishStream { stream: "show", rungs: vec![PublishedRung { rung: 0, bits_per_second: 32_000, channels: 1 }] } => StreamPublished);
    assert_eq!(refused.unwrap_err().code(), ErrorCode::PermissionDenied);

    let named = |count: usize| UpdateStreamRequest {
        stream: Some(Stream {
            id: "show".into(),
            publishers: (0..count).map(|at| format!("user-{at}")).collect(),
            ..Default::default()
        }),
        update_mask: mask(&["publishers"]),
        actor: "alice".into(),
        ..Default::default()
    };
    assert_eq!(streams.update_stream(named(8)).await.unwrap().into_inner().stream.unwrap().publishers.len(), 8);
    assert_eq!(bad_field(streams.update_stream(named(9)).await), "stream.publishers");
}
