//! Every kind of event that is no write of a room: sessions, revocations, streams, reviews.

use veza_client::proto::CloseCode;
use veza_client::proto::gateway::v1::event::Kind;
use veza_client::proto::gateway::v1::{
    CreateStreamRequest, DecideRequest, Decision, Event, EventFilter, FileReviewRequest, MintConnectTokenRequest,
    Outcome, ReviewCategory, RevokeDeviceRequest, RevokeTokenRequest, RevokeUserRequest, StartStreamRequest,
    StopStreamRequest, SubscribeRequest, revoke_token_request, revoked,
};
use veza_client::proto::v1::Hello;

use super::{Stream, named};
use crate::carrier::{Carrier, Stage};
use crate::gateway::{Backend, stage};
use crate::postgres;
use crate::server::Start;

/// A stream of what is about this user.
async fn about(backend: &Backend, user: &str) -> Stream {
    let filter = Some(EventFilter { users: vec![user.into()], ..EventFilter::default() });
    Stream::open(backend, SubscribeRequest { filter, ..named("shop") }).await.unwrap()
}

/// `+ phone quic first`, and of which session.
fn line(event: &Event) -> (String, String) {
    match event.kind.as_ref().unwrap() {
        Kind::SessionConnected(it) => {
            assert_eq!((event.room.as_str(), it.node.len()), ("", 16));
            let first = if it.first { " first" } else { "" };
            (format!("+ {} {}{first}", it.device, it.transport), it.session.clone())
        }
        Kind::SessionDisconnected(it) => {
            assert_eq!((event.room.as_str(), it.node.len()), ("", 16));
            (format!("- {} {}{}", it.device, it.code, if it.last { " last" } else { "" }), it.session.clone())
        }
        Kind::Revoked(it) => (format!("revoked by {}", it.actor), String::new()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_told_as_they_come_and_go_on_every_carrier() {
    for carrier in Carrier::ALL {
        let mut process = Start::new().roomy().settled().run();
        let _kept = process.keep_data();
        let backend = Backend::of(&process).await;
        let stage = Stage::new(process, carrier).await;
        let mut stream = about(&backend, "bob").await;
        let token = async |device: &str| {
            let (user, device) = (String::from("bob"), device.to_owned());
            let asked = MintConnectTokenRequest { user, device, ..MintConnectTokenRequest::default() };
            backend.auth().mint_connect_token(asked).await.unwrap().into_inner().token
        };
        let (phone, laptop) = (token("phone").await, token("laptop").await);
        let enter = async |token: &str, resume_token: &str| {
            let (token, resume_token) = (token.to_owned(), resume_token.to_owned());
            stage.try_hello(Hello { token, resume_token, ..Hello::default() }).await.unwrap()
        };
        let on_phone = enter(&phone, "").await;
        let on_laptop = enter(&laptop, "").await;
        let welcome = on_phone.connection.welcome().clone();
        // The network changes: the session goes on over another link.
        let on_train = enter(&phone, &welcome.resume_token).await;
        on_laptop.connection.bye().await;
        drop(on_phone);
        let all = RevokeUserRequest { user: "bob".into(), ..RevokeUserRequest::default() };
        backend.auth().revoke_user(all).await.unwrap();
        assert_eq!(on_train.end().await.code, Some(CloseCode::Revoked));

        let told: Vec<_> = stream.take(7).await.iter().map(line).collect();
        // The node's comings and goings have an order among themselves.
        let (revoked, told): (Vec<_>, Vec<_>) = told.into_iter().partition(|(line, _)| line.starts_with("revoked"));
        assert_eq!(revoked[0].0, "revoked by service:gateway");
        let lines: Vec<_> = told.iter().map(|(line, _)| line.clone()).collect();
        let carried = carrier.label();
        let expected = [
            format!("+ phone {carried} first"),
            format!("+ laptop {carried}"),
            "- phone 4502".into(),
            format!("+ phone {carried}"),
            "- laptop 4000".into(),
            "- phone 4503 last".into(),
        ];
        assert_eq!(lines, expected, "{carrier:?}");
        for nth in [0, 2, 3, 5] {
            assert_eq!(told[nth].1, welcome.session_id, "{carrier:?}, {nth}");
        }
    }
}

/// Whoever is sent away by a stop is told of before the server ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_there_when_the_server_stops_has_gone() {
    let mut process = Start::new().roomy().settled().variable("VEZA_DRAIN_GRACE_SECONDS", 6).run();
    let _kept = process.keep_data();
    let backend = Backend::of(&process).await;
    drop(about(&backend, "bob").await);
    let mut stage = Stage::new(process, Carrier::Quic).await;
    let bob = stage.player("bob").await;
    let stopping = tokio::task::spawn_blocking(move || (stage.process.stop(), stage));
    bob.end().await;
    let (code, stage) = stopping.await.unwrap();
    assert_eq!(code, Some(0));
    let process = stage.process.again().run();
    let mut stream = about(&Backend::of(&process).await, "bob").await;
    let told: Vec<_> = stream.take(2).await.iter().map(|event| line(event).0).collect();
    assert_eq!(told, ["+  quic first", "-  4012 last"]);
}

/// What is told of streams, reviews and revocations, and about whom.
async fn records_are_told(backend: Backend) {
    let mut stream = Stream::of(&backend, "shop").await;
    let made = CreateStreamRequest {
        stream: "show".into(),
        title: "A show".into(),
        owner: "alice".into(),
        ..Default::default()
    };
    backend.streams().create_stream(made).await.unwrap();
    let show = || String::from("show");
    for _twice in 0..2 {
        backend.streams().start_stream(StartStreamRequest { stream: show(), ..Default::default() }).await.unwrap();
    }
    backend.streams().stop_stream(StopStreamRequest { stream: show(), ..Default::default() }).await.unwrap();
    backend.join("stream.show", "bob").await;
    let seq = backend.say("stream.show", "bob", "b1", "buy this").await;
    let report = FileReviewRequest {
        room: "stream.show".into(),
        seq,
        category: ReviewCategory::Spam.into(),
        actor: "alice".into(),
        ..Default::default()
    };
    let filed = backend.moderation().file_review(report).await.unwrap().into_inner().review.unwrap();
    let decision = Decision { outcome: Outcome::Warn.into(), statement: "advertising".into(), ..Default::default() };
    let decide = DecideRequest { id: filed.id.clone(), decision: Some(decision), ..Default::default() };
    let decided = backend.moderation().decide(decide).await.unwrap().into_inner().review.unwrap();
    let which = Some(revoke_token_request::Which::TokenId("t1".into()));
    backend.auth().revoke_token(RevokeTokenRequest { which, ..Default::default() }).await.unwrap();
    let (user, device) = (String::from("bob"), String::from("phone"));
    backend.auth().revoke_device(RevokeDeviceRequest { user, device, ..Default::default() }).await.unwrap();

    // A room is made with the stream, and bob joins and speaks.
    let told = stream.take(11).await;
    let of_streams: Vec<_> = told
        .iter()
        .filter_map(|event| match event.kind.as_ref().unwrap() {
            Kind::StreamChanged(it) => {
                assert_eq!((event.room.as_str(), event.user.as_str()), ("stream.show", "alice"));
                Some((it.stream.as_ref().unwrap().revision, it.stream.as_ref().unwrap().state().as_str_name()))
            }
            _ => None,
        })
        .collect();
    let states = ["STREAM_STATE_CREATED", "STREAM_STATE_LIVE", "STREAM_STATE_ENDED"];
    assert_eq!(of_streams, [(1, states[0]), (2, states[1]), (3, states[2])], "what was live already has not changed");
    let of_reviews: Vec<_> = told
        .iter()
        .filter_map(|event| match event.kind.as_ref().unwrap() {
            Kind::ReviewChanged(it) => {
                assert_eq!((event.room.as_str(), event.user.as_str()), ("stream.show", "bob"));
                it.review.clone()
            }
            _ => None,
        })
        .collect();
    assert_eq!(of_reviews.len(), 2);
    assert_eq!((&of_reviews[0].id, of_reviews[0].revision, of_reviews[0].reporter.as_str()), (&filed.id, 1, "alice"));
    assert_eq!(of_reviews[1], decided);
    let of_revocations: Vec<_> = told
        .iter()
        .filter_map(|event| match event.kind.as_ref().unwrap() {
            Kind::Revoked(it) => Some((event.user.as_str(), it.what.clone().unwrap(), it.actor.as_str())),
            _ => None,
        })
        .collect();
    let by = "service:gateway";
    let revoked = [("", revoked::What::TokenId("t1".into()), by), ("bob", revoked::What::Device("phone".into()), by)];
    assert_eq!(of_revocations, revoked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_reviews_and_revocations_are_told() {
    let (_stage, backend) = stage().await;
    records_are_told(backend).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_reviews_and_revocations_are_told_on_postgresql() {
    let Some(cluster) = postgres::cluster() else { return };
    let database = cluster.database();
    let process = Start::new().talkative().variable("DATABASE_URL", database).variable("DATABASE_POOL_SIZE", 8).run();
    records_are_told(Backend::of(&process).await).await;
}
