//! The table of answers of `docs/PROTOCOL.md`, over every carrier: what a wrong client is told, and with which code it is closed.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use veza_client::proto::v1::{
    ClientFrame, CreateRoom, ErrorCode, Hello, History, Ping, Publish, Repair, client_frame::Command, push, reply,
    server_frame,
};

use crate::carrier::{Carrier, Player, Stage};
use crate::raw::{Heard, Raw, SILENCE, deaf_websocket, upgrade};
use crate::server::{Process, Start};

async fn each(test: impl AsyncFn(&Stage)) {
    for carrier in Carrier::ALL {
        test(&Stage::new(Process::start(), carrier).await).await;
    }
}

fn hello(token: String) -> ClientFrame {
    ClientFrame { id: 1, command: Some(Command::Hello(Hello { token, ..Hello::default() })) }
}

fn error_of(heard: &Heard) -> Option<ErrorCode> {
    let Heard::Frame(frame) = heard else { return None };
    let Some(server_frame::Frame::Reply(reply)) = &frame.frame else { return None };
    match &reply.result {
        Some(reply::Result::Error(error)) => Some(error.code()),
        _ => None,
    }
}

fn closing_of(frames: &[veza_client::proto::v1::ServerFrame]) -> Option<u32> {
    frames.iter().find_map(|frame| match &frame.frame {
        Some(server_frame::Frame::Push(push)) => match &push.event {
            Some(push::Event::Closing(closing)) => Some(closing.code),
            _ => None,
        },
        _ => None,
    })
}

async fn welcomed(stage: &Stage) -> Raw {
    let mut raw = Raw::open(stage).await;
    raw.say(&hello(stage.token("alice").await)).await;
    assert!(matches!(raw.next().await, Heard::Frame(_)));
    raw
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_says_nothing_is_closed_after_five_seconds() {
    each(async |stage| {
        let (begin, mut raw) = (Instant::now(), Raw::open(stage).await);
        let (frames, code) = raw.rest().await;
        assert_eq!((closing_of(&frames), code), (Some(4401), 4401), "{:?}", stage.carrier);
        assert!(begin.elapsed() >= Duration::from_millis(4_900));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_is_unauthenticated() {
    each(async |stage| {
        let forged = {
            let mut token = stage.token("alice").await;
            let flipped = if token.pop() == Some('A') { "BB" } else { "AA" };
            token.pop();
            token + flipped
        };
        for token in [String::new(), "nonsense".into(), forged] {
            let mut raw = Raw::open(stage).await;
            raw.say(&hello(token)).await;
            assert_eq!(error_of(&raw.next().await), Some(ErrorCode::Unauthenticated));
            let (frames, code) = raw.rest().await;
            assert_eq!((closing_of(&frames), code), (Some(4401), 4401), "{:?}", stage.carrier);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_malformed_frames_within_a_minute_close_the_link() {
    each(async |stage| {
        let mut raw = welcomed(stage).await;
        raw.junk().await;
        assert_eq!(error_of(&raw.next().await), Some(ErrorCode::Malformed), "{:?}", stage.carrier);
        raw.say(&ClientFrame { id: 5, command: Some(Command::Ping(Ping::default())) }).await;
        assert!(error_of(&raw.next().await).is_none(), "the link goes on");
        raw.junk().await;
        raw.junk().await;
        let (frames, code) = raw.rest().await;
        assert_eq!((closing_of(&frames), code), (Some(4400), 4400), "{:?}", stage.carrier);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_over_the_limit_ends_a_websocket_and_stops_a_stream() {
    each(async |stage| {
        let mut raw = welcomed(stage).await;
        raw.oversize().await;
        if !stage.carrier.has_datagrams() {
            assert_eq!(raw.rest().await.1, 1009);
            return;
        }
        // The stream is stopped; the third one within a minute closes the session.
        for _ in 0..2 {
            raw.reopen().await;
            raw.oversize().await;
        }
        let (frames, code) = raw.rest().await;
        assert_eq!(code, 4409, "{:?} {frames:?}", stage.carrier);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_room_and_a_foreign_one_get_the_same_answer() {
    each(async |stage| {
        let owner = stage.player_in("owner", "secret").await;
        owner.publish("secret", "c", "hello").await.unwrap();
        let alice = stage.player("alice").await;
        let join = alice.join("nowhere").await.unwrap_err();
        assert_eq!(join.code(), ErrorCode::NotFound);
        let mut answers = Vec::new();
        for room in ["nowhere", "secret"] {
            answers.push(alice.publish(room, "c", "hello").await.unwrap_err());
            let history = History { room: room.into(), ..History::default() };
            answers.push(alice.ask(Command::History(history)).await.unwrap_err());
            let repair = Repair { room: room.into(), epoch: 1, after_seq: 0, up_to_seq: 0 };
            answers.push(alice.ask(Command::Repair(repair)).await.unwrap_err());
        }
        assert!(answers.iter().all(|error| *error == join), "{answers:?}");
    })
    .await;
}

/// Asks again where the rate says to wait.
async fn patiently(player: &Player, command: Command) -> Result<reply::Result, veza_client::proto::v1::Error> {
    loop {
        match player.ask(command.clone()).await {
            Err(error) if error.code() == ErrorCode::RateLimited => {
                tokio::time::sleep(Duration::from_millis(error.retry_after_ms.into())).await;
            }
            answer => return answer,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_128th_room_is_joined_and_the_129th_refused() {
    for carrier in [Carrier::WebTransport, Carrier::Quic, Carrier::WebSocketJson] {
        let process = Start::new().variable("VEZA_REQUESTS_PER_SECOND", 10_000).run();
        let stage = Stage::new(process, carrier).await;
        let alice = stage.player("alice").await;
        assert_eq!(alice.connection.welcome().limits.unwrap().rooms_max, 128);
        for n in 1..=129 {
            let room = format!("room-{n}");
            let create = CreateRoom { room: room.clone(), ..CreateRoom::default() };
            patiently(&alice, Command::CreateRoom(create)).await.unwrap();
            let joined = alice.join(&room).await;
            if n <= 128 {
                joined.unwrap();
            } else {
                assert_eq!(joined.unwrap_err().code(), ErrorCode::Limit, "{carrier:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_publish_rate_at_its_burst_and_one_past() {
    each(async |stage| {
        let alice = stage.player_in("alice", "garden").await;
        let cmids: Vec<String> = (0..41).map(|n| format!("c{n}")).collect();
        let at_once = cmids.iter().map(|cmid| alice.publish("garden", cmid, "hello"));
        let answers = futures_util::future::join_all(at_once).await;
        let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert!(refused.len() <= 1, "{refused:?}");
        if let [error] = refused[..] {
            assert_eq!((error.code(), error.temporary), (ErrorCode::RateLimited, true));
            assert!((1..=50).contains(&error.retry_after_ms), "{error:?}");
        }
        let flood: Vec<String> = (0..60).map(|n| format!("f{n}")).collect();
        let flooding = flood.iter().map(|cmid| alice.publish("garden", cmid, "hello"));
        let refused = futures_util::future::join_all(flooding).await.into_iter().filter(Result::is_err).count();
        assert!(refused >= 20, "{refused} of 60 were refused");
        // Nothing of what was refused was stored: the log is dense and as long as the acknowledgements.
        let stored = alice.join("garden").await.unwrap().room.unwrap().head;
        let acknowledged = answers.iter().filter(|answer| answer.is_ok()).count() + 60 - refused;
        assert_eq!(stored, acknowledged as u64);
    })
    .await;
}

/// However many connections a user has, they say no more over all of them than one user may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_rate_is_one_over_all_connections() {
    const BURST: u64 = 6;
    for carrier in Carrier::ALL {
        let start = Start::new().variable("VEZA_USER_PUBLISH_PER_SECOND", 1);
        let stage = Stage::new(start.variable("VEZA_USER_PUBLISH_BURST", BURST).run(), carrier).await;
        let [one, bob] = stage.in_room("garden", ["alice", "bob"]).await;
        let two = stage.player_in("alice", "garden").await;
        let (begun, mut accepted) = (Instant::now(), 0);
        let (cmid, error) = loop {
            let cmid = format!("c{accepted}");
            let player = if accepted % 2 == 0 { &one } else { &two };
            match player.publish("garden", &cmid, "hello").await {
                Ok(_) => accepted += 1,
                Err(error) => break (cmid, error),
            }
            assert!(accepted < 1_000, "{carrier:?}: nothing is refused");
        };
        assert_eq!((error.code(), error.temporary), (ErrorCode::RateLimited, true), "{carrier:?}");
        assert!((1..=1_000).contains(&error.retry_after_ms), "{error:?}");
        // The burst, and one more for every second that has passed.
        assert!((BURST..=BURST + begun.elapsed().as_secs() + 1).contains(&accepted), "{carrier:?}: {accepted}");
        // Others have a quota of their own, and what was refused goes a little later.
        bob.publish("garden", &cmid, "hello").await.unwrap();
        let again = Publish { room: "garden".into(), cmid, body: "hello".into(), ..Publish::default() };
        let stored = patiently(&two, Command::Publish(again)).await.unwrap();
        assert!(matches!(stored, reply::Result::Published(published) if published.seq == accepted + 2), "{carrier:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tenth_connection_of_a_user_is_welcomed_and_the_eleventh_not() {
    each(async |stage| {
        let mut players = Vec::new();
        for _ in 0..10 {
            players.push(stage.player("alice").await);
        }
        let mut raw = Raw::open(stage).await;
        raw.say(&hello(stage.token("alice").await)).await;
        assert_eq!(error_of(&raw.next().await), Some(ErrorCode::Limit));
        let (frames, code) = raw.rest().await;
        assert_eq!((closing_of(&frames), code), (Some(4504), 4504), "{:?}", stage.carrier);
        stage.player("bob").await;
        // One that leaves makes room.
        players.pop().unwrap().connection.bye().await;
        stage.player("alice").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_refuses_over_every_carrier() {
    for carrier in Carrier::ALL {
        let process = Start::new().variable("MAX_CONNECTIONS", 2).run();
        let stage = Stage::new(process, carrier).await;
        let (_one, _two) = (stage.player("alice").await, stage.player("bob").await);
        let token = stage.token("carol").await;
        let third = stage.try_hello(Hello { token, ..Hello::default() }).await;
        assert!(matches!(third, Err(veza_client::Error::Connect(_))), "{carrier:?}");
        if !carrier.has_datagrams() {
            assert_eq!(upgrade(stage.process.websocket, "/ws", &[]).await.err(), Some(503));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_origin_and_a_wrong_path_never_become_a_websocket() {
    let process = Process::start();
    let own = format!("http://127.0.0.1:{}", process.http);
    for (origin, status) in [("https://evil.example", 403), ("null", 403), (own.as_str(), 0)] {
        let refused = upgrade(process.websocket, "/ws", &[("origin", origin)]).await.err().unwrap_or(0);
        assert_eq!(refused, status, "{origin}");
    }
    assert_eq!(upgrade(process.websocket, "/elsewhere", &[]).await.err(), Some(404));
    let huge = "x".repeat(17 * 1024);
    assert_eq!(upgrade(process.websocket, "/ws", &[("x-huge", &huge)]).await.err(), Some(431));
    assert_eq!(upgrade(process.websocket, "/ws", &[("sec-websocket-protocol", "mqtt")]).await.err(), Some(400));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_origin_and_a_wrong_path_never_become_a_webtransport_session() {
    let stage = Stage::new(Process::start(), Carrier::WebTransport).await;
    let url = stage.server.target().webtransport.unwrap();
    let tls = stage.server.trust().unwrap().config(&[b"h3"], false).unwrap();
    let config = wtransport::ClientConfig::builder().with_bind_default().with_custom_tls(tls).build();
    let endpoint = wtransport::Endpoint::client(config).unwrap();
    let own = format!("http://127.0.0.1:{}", stage.process.http);
    for (url, origin, welcome) in [
        (url.clone(), "https://evil.example", false),
        (url.clone(), "null", false),
        (url.replace("/wt", "/elsewhere"), own.as_str(), false),
        (url.clone(), own.as_str(), true),
    ] {
        let request = wtransport::endpoint::ConnectOptions::builder(&url).add_header("origin", origin).build();
        let connected = endpoint.connect(request).await;
        assert_eq!(connected.is_ok(), welcome, "{url} from {origin}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_failed_logins_block_an_address_for_a_while() {
    let stage = Stage::new(Process::start(), Carrier::WebSocketJson).await;
    for _ in 0..10 {
        let mut raw = Raw::open(&stage).await;
        raw.say(&hello("nonsense".into())).await;
        assert_eq!(raw.rest().await.1, 4401);
    }
    assert_eq!(upgrade(stage.process.websocket, "/ws", &[]).await.err(), Some(429));
}

/// Forty seconds: a ping after 25 of silence, ten to answer it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_that_answers_no_ping_is_closed() {
    let stage = Stage::new(Process::start(), Carrier::WebSocketJson).await;
    let begin = Instant::now();
    let mut stream = deaf_websocket(&stage, &hello(stage.token("alice").await)).await;
    let mut said = Vec::new();
    tokio::time::timeout(SILENCE, stream.read_to_end(&mut said))
        .await
        .expect("the server keeps a dead client")
        .unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(29), "after {:?}", begin.elapsed());
    let code = 4410u16.to_be_bytes();
    assert!(said.windows(2).any(|bytes| bytes == code), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publish_before_hello_and_hello_twice_are_out_of_order() {
    each(async |stage| {
        let mut raw = Raw::open(stage).await;
        let publish = Publish { room: "lobby".into(), cmid: "c".into(), body: "hi".into(), ..Publish::default() };
        raw.say(&ClientFrame { id: 3, command: Some(Command::Publish(publish)) }).await;
        assert_eq!(error_of(&raw.next().await), Some(ErrorCode::OutOfOrder));
        raw.say(&hello(stage.token("alice").await)).await;
        assert!(error_of(&raw.next().await).is_none());
        raw.say(&hello(stage.token("alice").await)).await;
        assert_eq!(error_of(&raw.next().await), Some(ErrorCode::OutOfOrder));
    })
    .await;
}
