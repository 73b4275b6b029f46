//! The platform's say: asked before somebody connects, joins or publishes; heard in time, or done without.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use veza::rpc::authz_server::{Authz, AuthzServer};
use veza_client::proto::CloseCode;
use veza_client::proto::gateway::v1::{
    ConnectRequest, ConnectResponse, Decided, JoinRequest, JoinResponse, PublishRequest, PublishResponse,
    RevokeUserRequest,
};
use veza_client::proto::v1::{
    CreateInvite, CreateRoom, ErrorCode, Hello, Publish, RoomKind, RoomSettings, client_frame::Command, reply,
};

use super::platform::Backend;
use crate::carrier::{Carrier, SOON, Stage};
use crate::raw::{Heard, Raw};
use crate::server::{Start, get};

/// What the platform was asked.
#[derive(Debug, Clone, PartialEq)]
enum Asked {
    Connect(ConnectRequest),
    Join(JoinRequest),
    Publish(PublishRequest),
}

/// What it says.
#[derive(Debug, Clone)]
enum Says {
    Yes {
        cache_seconds: u32,
    },
    Grants(Vec<String>),
    No(&'static str),
    NotNow {
        retry_after_ms: u32,
    },
    YesAfter(Duration),
    /// When the test says so.
    YesWhen,
    Nothing,
    Failure,
}

const YES: Says = Says::Yes { cache_seconds: 0 };

type Mind = Arc<dyn Fn(&Asked) -> Says + Send + Sync>;

/// What was asked, and the bearer it came with.
type Log = Arc<Mutex<Vec<(Asked, Option<String>)>>>;

/// A platform of the tests. It ends with the test's runtime.
#[derive(Clone)]
struct Platform {
    mind: Arc<Mutex<Mind>>,
    asked: Log,
    decided: Arc<Mutex<Arc<tokio::sync::Notify>>>,
    port: u16,
}

impl Platform {
    async fn start(mind: impl Fn(&Asked) -> Says + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", mind).await
    }

    async fn at(address: &str, mind: impl Fn(&Asked) -> Says + Send + Sync + 'static) -> Self {
        let incoming = TcpIncoming::bind(address.parse().unwrap()).unwrap();
        let port = incoming.local_addr().unwrap().port();
        let platform =
            Self { mind: Arc::new(Mutex::new(Arc::new(mind))), asked: Arc::default(), decided: Arc::default(), port };
        let serving = tonic::transport::Server::builder().add_service(AuthzServer::new(platform.clone()));
        tokio::spawn(serving.serve_with_incoming(incoming));
        platform
    }

    fn thinks(&self, mind: impl Fn(&Asked) -> Says + Send + Sync + 'static) {
        *self.mind.lock().unwrap() = Arc::new(mind);
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().iter().map(|(asked, _)| asked.clone()).collect()
    }

    async fn decide<T>(&self, request: &Request<T>, asked: Asked) -> Result<(Decided, Vec<String>), Status> {
        let bearer = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let says = {
            let mind = Arc::clone(&*self.mind.lock().unwrap());
            mind(&asked)
        };
        self.asked.lock().unwrap().push((asked, bearer));
        let yes = Decided { allow: true, ..Decided::default() };
        match says {
            Says::Yes { cache_seconds } => Ok((Decided { cache_seconds, ..yes }, Vec::new())),
            Says::Grants(entitlements) => Ok((yes, entitlements)),
            Says::No(reason) => Ok((Decided { reason: reason.into(), ..Decided::default() }, Vec::new())),
            Says::NotNow { retry_after_ms } => Ok((Decided { retry_after_ms, ..Decided::default() }, Vec::new())),
            Says::YesAfter(wait) => {
                tokio::time::sleep(wait).await;
                Ok((yes, Vec::new()))
            }
            Says::YesWhen => {
                let decided = Arc::clone(&*self.decided.lock().unwrap());
                decided.notified().await;
                Ok((yes, Vec::new()))
            }
            Says::Nothing => std::future::pending().await,
            Says::Failure => Err(Status::internal("out of order")),
        }
    }
}

#[tonic::async_trait]
impl Authz for Platform {
    async fn connect(&self, request: Request<ConnectRequest>) -> Result<Response<ConnectResponse>, Status> {
        let asked = Asked::Connect(request.get_ref().clone());
        let (decided, entitlements) = self.decide(&request, asked).await?;
        Ok(Response::new(ConnectResponse { decided: Some(decided), entitlements }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let asked = Asked::Join(request.get_ref().clone());
        let (decided, _) = self.decide(&request, asked).await?;
        Ok(Response::new(JoinResponse { decided: Some(decided) }))
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let asked = Asked::Publish(request.get_ref().clone());
        let (decided, _) = self.decide(&request, asked).await?;
        Ok(Response::new(PublishResponse { decided: Some(decided) }))
    }
}

fn start(platform: &Platform) -> Start {
    // Long, so that only what never answers is given up.
    Start::new().roomy().variable("AUTHZ_GRPC_URL", platform.url()).variable("AUTHZ_TIMEOUT_MS", 10_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_platform_forbids_is_told_in_its_words_on_every_carrier() {
    let platform = Platform::start(|asked| match asked {
        Asked::Connect(asked) if asked.user == "mallory" => Says::No("your account is closed"),
        Asked::Connect(asked) if asked.user == "early" => Says::NotNow { retry_after_ms: 5_000 },
        Asked::Join(asked) if asked.room == "backstage" && asked.user != "alice" => Says::No("only for the band"),
        Asked::Publish(asked) if asked.attachments > 0 => Says::No("your plan has no pictures"),
        _ => YES,
    })
    .await;
    let mut stage = Stage::new(start(&platform).run(), Carrier::Quic).await;
    for (carrier, room) in Carrier::ALL.into_iter().zip(["one", "two", "three", "four"]) {
        stage.carrier = carrier;
        for (user, sentence, temporary, code) in [
            ("mallory", "your account is closed", false, CloseCode::Revoked),
            ("early", "the platform does not allow this", true, CloseCode::Overloaded),
        ] {
            let mut raw = Raw::open(&stage).await;
            raw.say(&hello(stage.token(user).await)).await;
            let Heard::Frame(frame) = raw.next().await else { panic!("no answer on {carrier:?}") };
            let error = refusal(&frame).unwrap_or_else(|| panic!("{frame:?}"));
            assert_eq!((error.code(), error.message.as_str()), (ErrorCode::PermissionDenied, sentence));
            assert_eq!((error.temporary, error.retry_after_ms > 0), (temporary, temporary));
            let (_, closed) = raw.rest().await;
            assert!([code.code(), code.websocket()].map(u64::from).contains(&closed), "{carrier:?}: {closed}");
        }
        let alice = stage.player_in("alice", "backstage").await;
        let bob = stage.player_in("bob", room).await;
        let denied = bob.join("backstage").await.unwrap_err();
        assert_eq!((denied.code(), denied.message.as_str()), (ErrorCode::PermissionDenied, "only for the band"));
        alice.publish("backstage", &format!("a-{room}"), "hello").await.unwrap();
        bob.publish(room, "b1", "hello").await.unwrap();
        let picture = Publish { attachments: vec![picture()], ..text(room, "b2", "look") };
        let denied = bob.say(picture).await.unwrap_err();
        assert_eq!(
            (denied.code(), denied.message.as_str()),
            (ErrorCode::PermissionDenied, "your plan has no pictures")
        );
        bob.publish(room, "b3", "then without").await.unwrap();
        assert_eq!(bob.log(room).await.len(), 2, "what was let through");
    }
    let join = platform.asked().into_iter().find_map(|asked| match asked {
        Asked::Join(join) if join.room == "backstage" && join.user == "bob" => Some(join),
        _ => None,
    });
    let join = join.unwrap();
    assert_eq!((join.kind(), join.member, join.invited), (RoomKind::Public, false, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_says_who_comes_and_may_be_given_entitlements() {
    let platform = Platform::start(|asked| match asked {
        Asked::Connect(asked) if asked.user == "bob" => Says::Grants(vec!["gold".into()]),
        _ => YES,
    })
    .await;
    let start = start(&platform).variable("AUTHZ_TOKEN", "a-token-of-the-tests");
    let stage = Stage::new(start.run(), Carrier::WebTransport).await;
    let alice = stage.player("alice").await;
    let settings = RoomSettings { entitlement: "gold".into(), ..RoomSettings::default() };
    let kind = RoomKind::Premium.into();
    let lounge = CreateRoom { room: "lounge".into(), kind, settings: Some(settings), ..CreateRoom::default() };
    alice.create(lounge).await.unwrap();
    let token = crate::server::token_with("bob", &[]);
    let bob = stage.try_hello(Hello { token, client: "app/7".into(), ..Hello::default() }).await.unwrap();
    bob.join("lounge").await.unwrap();
    let carol = stage.player("carol").await;
    assert_eq!(carol.join("lounge").await.unwrap_err().code(), ErrorCode::PermissionDenied, "the room's own rule");

    let (asked, bearer) = platform.asked.lock().unwrap()[1].clone();
    let Asked::Connect(asked) = asked else { panic!("{asked:?}") };
    assert_eq!((asked.user.as_str(), asked.address.as_str()), ("bob", "127.0.0.1"));
    assert_eq!((asked.client.as_str(), asked.transport.as_str()), ("app/7", "webtransport"));
    assert_eq!(bearer.as_deref(), Some("Bearer a-token-of-the-tests"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_room_stays_unknown_to_whom_the_platform_denies_it() {
    let platform = Platform::start(|asked| match asked {
        Asked::Join(asked) if asked.user != "alice" => Says::No("not you"),
        _ => YES,
    })
    .await;
    let stage = Stage::new(start(&platform).run(), Carrier::Quic).await;
    let alice = stage.player("alice").await;
    let den = CreateRoom { room: "den".into(), kind: RoomKind::Private.into(), ..CreateRoom::default() };
    alice.create(den).await.unwrap();
    let [bob, carol] = [stage.player("bob").await, stage.player("carol").await];
    let command =
        Command::CreateInvite(CreateInvite { room: "den".into(), user: "carol".into(), ..CreateInvite::default() });
    assert!(matches!(alice.ask(command).await.unwrap(), reply::Result::InviteCreated(_)));
    let unknown = bob.join("nowhere").await.unwrap_err();
    assert_eq!(bob.join("den").await.unwrap_err(), unknown, "word for word");
    assert_eq!(bob.join_invited("den", "no-such-code").await.unwrap_err(), unknown);
    let denied = carol.join("den").await.unwrap_err();
    assert_eq!((denied.code(), denied.message.as_str()), (ErrorCode::PermissionDenied, "not you"), "she was invited");
    let rooms: Vec<String> = platform
        .asked()
        .into_iter()
        .filter_map(|asked| if let Asked::Join(join) = asked { Some(join.room) } else { None })
        .collect();
    assert!(!rooms.contains(&"nowhere".to_owned()), "what is not there is nobody's business");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_is_made_in_the_same_breath_is_asked_about_like_any_other() {
    let platform = Platform::start(|asked| if let Asked::Join(_) = asked { Says::No("not today") } else { YES }).await;
    let stage = Stage::new(start(&platform).run(), Carrier::WebSocketProto).await;
    let alice = stage.player("alice").await;
    for nth in 0..20 {
        let room = format!("den-{nth}");
        let making = alice.create(CreateRoom { room: room.clone(), ..CreateRoom::default() });
        // The join goes out behind it and comes before it is stored.
        let (made, joined) = futures_util::future::join(making, alice.join(&room)).await;
        made.unwrap();
        let denied = joined.unwrap_err();
        assert_eq!((denied.code(), denied.message.as_str()), (ErrorCode::PermissionDenied, "not today"), "{room}");
    }
    let joins = platform.asked().into_iter().filter(|asked| matches!(asked, Asked::Join(_))).count();
    assert_eq!(joins, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_says_keeps_its_order_while_the_platform_thinks() {
    // The later a message, the faster its answer: whoever did not wait would overtake.
    let platform = Platform::start(|asked| match asked {
        Asked::Publish(asked) => Says::YesAfter(Duration::from_millis(u64::from(20 - asked.body_bytes.min(20)) * 10)),
        Asked::Join(_) => Says::YesAfter(Duration::from_millis(50)),
        Asked::Connect(_) => YES,
    })
    .await;
    let stage = Stage::new(start(&platform).run(), Carrier::WebSocketProto).await;
    let alice = stage.player("alice").await;
    alice.create(CreateRoom { room: "garden".into(), ..CreateRoom::default() }).await.unwrap();
    // A join and what comes behind it go out in one breath.
    let joining = alice.join("garden");
    let saying = (1..=20_usize).map(|n| {
        let alice = &alice;
        async move { alice.publish("garden", &format!("c{n}"), &"x".repeat(n)).await }
    });
    let saying = futures_util::future::join_all(saying);
    let (joined, said) = futures_util::future::join(joining, saying).await;
    joined.unwrap();
    let seqs: Vec<u64> = said.into_iter().map(|published| published.unwrap().seq).collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
    let bodies: Vec<usize> = alice
        .log("garden")
        .await
        .iter()
        .filter(|message| !message.body.is_empty())
        .map(|message| message.body.len())
        .collect();
    assert_eq!(bodies, (1..=20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_thinks_holds_up_only_whom_it_thinks_about() {
    let platform = Platform::start(|asked| match asked {
        Asked::Publish(asked) if asked.user == "bob" => Says::Nothing,
        Asked::Connect(asked) if asked.user == "carol" => Says::Nothing,
        _ => YES,
    })
    .await;
    let stage = Stage::new(start(&platform).variable("AUTHZ_ON_PUBLISH", "closed").run(), Carrier::Quic).await;
    let [alice, bob] = stage.in_room("garden", ["alice", "bob"]).await;
    let carol = stage.player("carol");
    let stuck = futures_util::future::join(bob.publish("garden", "b1", "hello?"), carol);
    let others = async {
        for n in 0..50 {
            alice.publish("garden", &format!("a{n}"), "hello").await.unwrap();
        }
        // Bob's own session goes on too, beside what waits.
        bob.history("garden").await;
    };
    let others = std::pin::pin!(others);
    match futures_util::future::select(Box::pin(stuck), others).await {
        futures_util::future::Either::Right(_) => {}
        futures_util::future::Either::Left(_) => panic!("the platform never answered them"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_answer_open_goes_on_and_closed_says_when_to_come_back() {
    for says in [Says::Nothing, Says::Failure] {
        let platform = Platform::start(|_| YES).await;
        let begin = |connect: &str, join: &str, publish: &str| {
            start(&platform)
                .variable("AUTHZ_TIMEOUT_MS", 200)
                .variable("AUTHZ_ON_CONNECT", connect)
                .variable("AUTHZ_ON_JOIN", join)
                .variable("AUTHZ_ON_PUBLISH", publish)
                .run()
        };
        let open = Stage::new(begin("open", "open", "open"), Carrier::Quic).await;
        let closed = Stage::new(begin("closed", "closed", "closed"), Carrier::Quic).await;
        let alice = closed.player_in("alice", "garden").await;
        let answer = says.clone();
        platform.thinks(move |_| answer.clone());
        let bob = open.player_in("bob", "garden").await;
        bob.publish("garden", "b1", "hello").await.unwrap();

        let refused = alice.publish("garden", "a1", "hello").await.unwrap_err();
        assert_eq!((refused.code(), refused.temporary), (ErrorCode::Unavailable, true), "{refused:?}");
        assert!(refused.retry_after_ms > 0);
        let refused = alice.join("garden").await.unwrap_err();
        assert_eq!((refused.code(), refused.temporary), (ErrorCode::Unavailable, true), "{refused:?}");
        let token = closed.token("carol").await;
        let refused = closed.try_hello(Hello { token, ..Hello::default() }).await.err().unwrap();
        assert!(
            matches!(&refused, veza_client::Error::Refused(error) if error.code() == ErrorCode::Unavailable && error.temporary),
            "{refused}"
        );
        platform.thinks(|_| YES);
        let begun = Instant::now();
        // The join that was refused has taken her out.
        while alice.join("garden").await.is_err() || alice.publish("garden", "a1", "hello").await.is_err() {
            assert!(begun.elapsed() < SOON, "the platform answers again and is not asked");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_is_down_is_left_alone_and_found_again() {
    let platform = Platform::start(|_| YES).await;
    // Nobody listens there: the port is free again.
    let gone = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() };
    let start = start(&platform)
        .variable("AUTHZ_GRPC_URL", format!("http://127.0.0.1:{gone}"))
        .variable("AUTHZ_ON_CONNECT", "open");
    let stage =
        Stage::new(start.variable("AUTHZ_ON_JOIN", "open").variable("AUTHZ_ON_PUBLISH", "closed").run(), Carrier::Quic)
            .await;
    let alice = stage.player_in("alice", "garden").await;
    for n in 0..8 {
        assert_eq!(
            alice.publish("garden", &format!("a{n}"), "hello").await.unwrap_err().code(),
            ErrorCode::Unavailable
        );
    }
    let scrape = get(stage.process.metrics, "/metrics", "").body;
    assert!(scrape.contains("veza_authz_down 1"), "{scrape}");
    assert!(scrape.contains("veza_authz_total{call=\"publish\",outcome=\"unasked\"}"), "{scrape}");
    let back = Platform::at(&format!("127.0.0.1:{gone}"), |_| YES).await;
    let begun = Instant::now();
    while alice.publish("garden", "again", "hello").await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is back and nobody asks");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!back.asked().is_empty());
    assert!(get(stage.process.metrics, "/metrics", "").body.contains("veza_authz_down 0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_kept_as_long_as_it_says() {
    let platform = Platform::start(|asked| match asked {
        Asked::Publish(asked) if asked.user == "alice" => Says::Yes { cache_seconds: 300 },
        _ => YES,
    })
    .await;
    let stage = Stage::new(start(&platform).variable("AUTHZ_CACHE_SECONDS", 300).run(), Carrier::Quic).await;
    let [alice, bob] = stage.in_room("garden", ["alice", "bob"]).await;
    for n in 0..5 {
        alice.publish("garden", &format!("a{n}"), &"x".repeat(n + 1)).await.unwrap();
        bob.publish("garden", &format!("b{n}"), "hello").await.unwrap();
    }
    let count = |user: &str| {
        platform.asked().iter().filter(|asked| matches!(asked, Asked::Publish(asked) if asked.user == user)).count()
    };
    assert_eq!((count("alice"), count("bob")), (1, 5));
    let scrape = get(stage.process.metrics, "/metrics", "").body;
    assert!(scrape.contains("veza_authz_cached_total{call=\"publish\"} 4"), "{scrape}");
    assert!(scrape.contains("veza_authz_total{call=\"publish\",outcome=\"allowed\"} 6"), "{scrape}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resumed_session_is_asked_about_its_rooms_again() {
    let platform = Platform::start(|_| YES).await;
    let stage = Stage::new(start(&platform).run(), Carrier::WebTransport).await;
    let bob = stage.player_in("bob", "garden").await;
    let resume_token = bob.connection.welcome().resume_token.clone();
    let joined = bob.join("garden").await.unwrap().room.unwrap();
    drop(bob);
    platform.thinks(|asked| if let Asked::Join(_) = asked { Says::No("your plan has ended") } else { YES });
    let cursor =
        veza_client::proto::v1::RoomCursor { room: "garden".into(), epoch: joined.epoch, ..Default::default() };
    let token = stage.token("bob").await;
    let hello = Hello { token, resume_token, rooms: vec![cursor], ..Hello::default() };
    let mut bob = stage.try_hello(hello).await.unwrap();
    let error = bob
        .hear(|event| match event {
            veza_client::proto::v1::push::Event::RoomResumed(resumed) => match &resumed.result {
                Some(veza_client::proto::v1::room_resumed::Result::Error(error)) => Some(error.clone()),
                _ => None,
            },
            _ => None,
        })
        .await;
    assert_eq!((error.code(), error.message.as_str()), (ErrorCode::PermissionDenied, "your plan has ended"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_revoked_while_the_platform_thinks_does_not_come_in() {
    let decided = Arc::new(tokio::sync::Notify::new());
    let platform = Platform::start(|_| Says::YesWhen).await;
    *platform.decided.lock().unwrap() = Arc::clone(&decided);
    let stage = Stage::new(start(&platform).run(), Carrier::Quic).await;
    let mut backend = Backend::of(&stage.process).await;
    let (token, _) = backend.mint("bob", "").await;
    let coming = stage.try_hello(Hello { token, ..Hello::default() });
    let revoking = async {
        let begun = Instant::now();
        while platform.asked().is_empty() {
            assert!(begun.elapsed() < SOON, "nobody was asked");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // His token was good when it was checked, and he has no session yet that could be closed.
        let bob = RevokeUserRequest { user: "bob".into(), ..RevokeUserRequest::default() };
        assert_eq!(backend.auth.revoke_user(bob).await.unwrap().into_inner().sessions_closed, 0);
        decided.notify_one();
    };
    let (came, ()) = tokio::join!(coming, revoking);
    let refused = came.err().expect("he is in");
    assert!(
        matches!(&refused, veza_client::Error::Refused(error) if error.message == "the token was revoked"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_with_tls_is_believed_by_its_authority_and_sees_our_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let acceptor = acceptor(dir.path(), true);
    let platform = Platform::start(|_| YES).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let port = platform.port;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(socket).await else { return };
                let mut inner = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut stream, &mut inner).await;
            });
        }
    });
    let file = |name: &str| dir.path().join(name).display().to_string();
    let known = Start::new().roomy().variable("AUTHZ_GRPC_URL", &url).variable("AUTHZ_CA_FILE", file("ca.pem"));
    let with_ours =
        known.clone().variable("AUTHZ_CERT_FILE", file("client.pem")).variable("AUTHZ_KEY_FILE", file("client.key"));
    let stage = Stage::new(with_ours.variable("AUTHZ_TIMEOUT_MS", 10_000).run(), Carrier::Quic).await;
    stage.player("alice").await;
    assert_eq!(platform.asked().len(), 1);
    // Without our certificate, or without its authority, there is no answer.
    let stranger = Start::new().roomy().variable("AUTHZ_GRPC_URL", &url);
    for start in [known, stranger] {
        let stage = Stage::new(start.run(), Carrier::Quic).await;
        let token = stage.token("alice").await;
        let refused = stage.try_hello(Hello { token, ..Hello::default() }).await.err().unwrap();
        assert!(
            matches!(&refused, veza_client::Error::Refused(error) if error.code() == ErrorCode::Unavailable),
            "{refused}"
        );
    }
    assert_eq!(platform.asked().len(), 1);
}

/// TLS for 127.0.0.1 by an authority in `ca.pem`, which has also signed `client.pem`, that clients may have to show.
pub fn acceptor(dir: &Path, wants_certificate: bool) -> TlsAcceptor {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, &ca_key);
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap(), key)
    };
    let (server, server_key) = signed("127.0.0.1");
    let (client, client_key) = signed("veza.example");
    std::fs::write(dir.join("ca.pem"), ca_certificate.pem()).unwrap();
    std::fs::write(dir.join("client.pem"), client.pem()).unwrap();
    std::fs::write(dir.join("client.key"), client_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(ca_certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
    let verifier = if wants_certificate { verifier } else { verifier.allow_unauthenticated() };
    let verifier = verifier.build().unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn hello(token: String) -> veza_client::proto::v1::ClientFrame {
    let hello = Hello { token, ..Hello::default() };
    veza_client::proto::v1::ClientFrame { id: 1, command: Some(Command::Hello(hello)) }
}

fn refusal(frame: &veza_client::proto::v1::ServerFrame) -> Option<veza_client::proto::v1::Error> {
    let Some(veza_client::proto::v1::server_frame::Frame::Reply(reply)) = &frame.frame else { return None };
    if let Some(reply::Result::Error(error)) = &reply.result { Some(error.clone()) } else { None }
}

fn text(room: &str, cmid: &str, body: &str) -> Publish {
    Publish { room: room.into(), cmid: cmid.into(), body: body.into(), ..Publish::default() }
}

fn picture() -> veza_client::proto::v1::Attachment {
    veza_client::proto::v1::Attachment {
        url: "https://files.example/a".into(),
        name: "a".into(),
        media_type: "image/png".into(),
        size_bytes: 1,
        sha256: vec![0; 32].into(),
    }
}
