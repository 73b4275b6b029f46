//! Access that ends: a token, a device, a user, on every carrier, while much is being said.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use veza_client::proto::CloseCode;
use veza_client::proto::gateway::v1::{
    GetUserInfoRequest, RevokeDeviceRequest, RevokeTokenRequest, RevokeUserRequest, revoke_token_request::Which,
};
use veza_client::proto::v1::{CreateRoom, ErrorCode, Hello, push};

use super::platform::Backend;
use crate::carrier::{Carrier, Player, SOON, Stage};
use crate::postgres;

/// What is revoked of bob's.
#[derive(Debug, Clone, Copy)]
enum What {
    Token,
    Device,
    User,
}

async fn revoke(backend: &mut Backend, what: What, token_id: &str) -> u32 {
    let (user, device) = (String::from("bob"), String::from("phone"));
    match what {
        What::Token => {
            let which = Some(Which::TokenId(token_id.into()));
            let asked = RevokeTokenRequest { which, ..RevokeTokenRequest::default() };
            backend.auth.revoke_token(asked).await.unwrap().into_inner().sessions_closed
        }
        What::Device => {
            let asked = RevokeDeviceRequest { user, device, ..RevokeDeviceRequest::default() };
            backend.auth.revoke_device(asked).await.unwrap().into_inner().sessions_closed
        }
        What::User => {
            let asked = RevokeUserRequest { user, ..RevokeUserRequest::default() };
            backend.auth.revoke_user(asked).await.unwrap().into_inner().sessions_closed
        }
    }
}

async fn enter(stage: &Stage, token: &str) -> Player {
    stage.try_hello(Hello { token: token.into(), ..Hello::default() }).await.unwrap()
}

async fn refused(stage: &Stage, token: &str) -> String {
    match stage.try_hello(Hello { token: token.into(), ..Hello::default() }).await {
        Err(veza_client::Error::Refused(error)) => {
            assert_eq!(error.code(), ErrorCode::Unauthenticated);
            error.message
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the token is still taken"),
    }
}

/// Alice talks without a pause; bob listens on this carrier by two tokens, one of another device. What is revoked ends one of
/// them or both, and what ends says so. How long it takes is told, not judged: see docs/performance.md.
async fn ends(stage: &Stage, backend: &mut Backend, what: What) {
    let room = format!("{what:?}-{:?}", stage.carrier).to_lowercase();
    let (alice, _) = backend.mint("alice", "").await;
    let alice = enter(stage, &alice).await;
    alice.create(CreateRoom { room: room.clone(), ..CreateRoom::default() }).await.unwrap();
    alice.join(&room).await.unwrap();
    let (phone, phone_id) = backend.mint("bob", "phone").await;
    let (laptop, _) = backend.mint("bob", "laptop").await;
    let (on_phone, on_laptop) = (enter(stage, &phone).await, enter(stage, &laptop).await);
    for player in [&on_phone, &on_laptop] {
        player.join(&room).await.unwrap();
    }
    let resume_token = on_phone.connection.welcome().resume_token.clone();

    let said = AtomicU64::new(0);
    let talking = async {
        for n in 0_u64.. {
            let published = alice.publish(&room, &format!("c{n}"), "hello").await.unwrap();
            said.store(published.seq, Ordering::Relaxed);
        }
    };
    let acting = async {
        while said.load(Ordering::Relaxed) < 50 {
            tokio::task::yield_now().await;
        }
        let called = Instant::now();
        let closed = revoke(backend, what, &phone_id).await;
        assert_eq!(closed, if matches!(what, What::User) { 2 } else { 1 }, "{what:?} on {:?}", stage.carrier);
        let answered = Instant::now();
        let (heard, code) = rest(on_phone).await;
        let (to_answer, to_end) = (answered - called, called.elapsed());
        eprintln!("{what:?} on {:?}: answered after {to_answer:?}, the link ended after {to_end:?}", stage.carrier);
        assert_eq!(code, Some(CloseCode::Revoked), "{what:?} on {:?}", stage.carrier);
        // It is over although she goes on.
        let last = *heard.last().unwrap();
        while said.load(Ordering::Relaxed) <= last {
            tokio::task::yield_now().await;
        }
        match what {
            What::User => assert_eq!(rest(on_laptop).await.1, Some(CloseCode::Revoked)),
            What::Token | What::Device => {
                let mut on_laptop = on_laptop;
                let before = said.load(Ordering::Relaxed);
                while on_laptop.message().await.seq <= before {}
            }
        }
    };
    tokio::select! {
        () = talking => unreachable!("she talks for ever"),
        () = acting => {}
    }
    assert_eq!(refused(stage, &phone).await, "the token was revoked");
    let resumed = Hello { token: phone.clone(), resume_token, ..Hello::default() };
    assert!(stage.try_hello(resumed).await.is_err(), "nor by the session it had");
    if let What::User = what {
        assert_eq!(refused(stage, &laptop).await, "the token was revoked");
    } else {
        enter(stage, &laptop).await;
    }
}

/// The numbers of what is still heard until the link ends, and how it ends.
async fn rest(mut player: Player) -> (BTreeSet<u64>, Option<CloseCode>) {
    let mut heard = BTreeSet::new();
    loop {
        match tokio::time::timeout(SOON, player.pushes.next()).await.expect("the link did not end in time") {
            Ok(push::Event::Message(delivered)) => {
                heard.insert(delivered.message.unwrap().seq);
            }
            Ok(_) => {}
            Err(ended) => return (heard, ended.code),
        }
    }
}

async fn every_carrier(what: What) {
    for carrier in Carrier::ALL {
        let stage = Stage::new(Backend::start().run(), carrier).await;
        let mut backend = Backend::of(&stage.process).await;
        ends(&stage, &mut backend, what).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_ends_its_session_and_no_other() {
    every_carrier(What::Token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_device_ends_its_sessions_and_no_others() {
    every_carrier(What::Device).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_user_is_out_everywhere() {
    every_carrier(What::User).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_revoked_stays_so_after_a_restart() {
    let databases = [None, postgres::cluster().map(|cluster| cluster.database())];
    for (at, database) in databases.into_iter().enumerate().filter(|(at, database)| *at == 0 || database.is_some()) {
        let with_database = |start: crate::server::Start| match &database {
            Some(url) => start.variable("DATABASE_URL", url).variable("DATABASE_POOL_SIZE", 8),
            None => start,
        };
        let mut stage = Stage::new(with_database(Backend::start()).run(), Carrier::Quic).await;
        let mut backend = Backend::of(&stage.process).await;
        let mut tokens = Vec::new();
        for what in [What::Token, What::Device, What::User] {
            let user = if let What::User = what { "bob" } else { "carol" };
            let (token, id) = backend.mint(user, "phone").await;
            match what {
                What::Device => {
                    let (user, device) = ("carol".into(), "phone".into());
                    backend
                        .auth
                        .revoke_device(RevokeDeviceRequest { user, device, ..Default::default() })
                        .await
                        .unwrap();
                }
                What::Token | What::User => {
                    revoke(&mut backend, what, &id).await;
                }
            }
            tokens.push(token);
        }
        let (dave, _) = backend.mint("dave", "").await;
        let data = stage.process.keep_data();
        let kept = stage.process.data.clone();
        stage.process.kill();
        stage = Stage::new(with_database(Backend::start().data(&kept)).run(), Carrier::Quic).await;
        for token in tokens {
            assert_eq!(refused(&stage, &token).await, "the token was revoked", "database {at}");
        }
        enter(&stage, &dave).await;
        drop(data);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_revokes_ends_sessions_of_the_others() {
    let Some(cluster) = postgres::cluster() else { return };
    let database = cluster.database();
    let node = || Backend::start().variable("DATABASE_URL", &database).variable("DATABASE_POOL_SIZE", 8);
    // One issuer for both: the second node has the first one's key.
    let one = Stage::new(node().run(), Carrier::Quic).await;
    let key = one.process.data.join("data/auth/ed25519.pem");
    let two = Stage::new(node().variable("AUTH_KEY_FILE", key.display()).run(), Carrier::WebSocketProto).await;
    let mut backend = Backend::of(&one.process).await;
    let (token, _) = backend.mint("bob", "phone").await;
    let there = enter(&two, &token).await;
    assert_eq!(revoke(&mut backend, What::User, "").await, 0, "he is not on this node");
    let (_, code) = rest(there).await;
    assert_eq!(code, Some(CloseCode::Revoked));
    assert_eq!(refused(&two, &token).await, "the token was revoked");
    assert_eq!(refused(&one, &token).await, "the token was revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refreshed_token_carries_the_session_and_its_revocation_ends_it() {
    let stage = Stage::new(Backend::start().run(), Carrier::WebTransport).await;
    let mut backend = Backend::of(&stage.process).await;
    let ((first, first_id), (second, second_id)) = (backend.mint("bob", "").await, backend.mint("bob", "phone").await);
    let bob = enter(&stage, &first).await;
    crate::carrier::ask!(bob, RefreshToken { token: second } => TokenAccepted).unwrap();
    assert_eq!(revoke(&mut backend, What::Token, &first_id).await, 0, "the old one carries nothing any more");
    let info = GetUserInfoRequest { user: "bob".into() };
    let info = backend.auth.get_user_info(info).await.unwrap().into_inner();
    assert_eq!((info.connected, info.sessions.len(), info.sessions[0].device.as_str()), (true, 1, "phone"));
    assert_eq!(revoke(&mut backend, What::Token, &second_id).await, 1);
    assert_eq!(bob.end().await.code, Some(CloseCode::Revoked));

    let counted = |name: &str| crate::server::get(stage.process.metrics, "/metrics", "").body.contains(name);
    assert!(counted("veza_revoked_sessions_total{kind=\"token\"} 1"));
    let begun = Instant::now();
    while !counted("veza_revocations_total{kind=\"token\"} 2")
        || !counted("veza_devices_seen_total{outcome=\"stored\"} 1")
    {
        assert!(begun.elapsed() < SOON, "neither was counted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
