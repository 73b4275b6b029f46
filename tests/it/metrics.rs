//! What operators see: counters that agree with what happened, on a listener of their own, and spans at the collector.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use veza::telemetry::metrics::ALL;
use veza_client::proto::v1::{
    Delivery, ErrorCode, Hello, History, ListRooms, Repair, RoomCursor, RoomSettings, Sanction, Typing,
    client_frame::Command, push,
};

use crate::carrier::{Carrier, SOON, Stage, ask};
use crate::raw::upgrade;
use crate::server::{Process, Start, get};

/// What this traffic cannot move: it needs a slow reader, a bad network, another certificate, a collector, a consumer of
/// events or a webhook, or what [`moderation_and_retention_are_counted`] tells.
const LEFT_ALONE: &[&str] = &[
    "veza_events_delivered_total",
    "veza_events_lag",
    "veza_events_lag_seconds",
    "veza_events_kept",
    "veza_events_streams",
    "veza_webhooks_attempts_total",
    "veza_webhooks_attempt_seconds",
    "veza_webhooks_dead_letters_total",
    "veza_webhooks_dead_letters_dropped_total",
    "veza_webhooks_missed_total",
    "veza_webhooks_lag",
    "veza_webhooks_lag_seconds",
    // The database takes what is told of them.
    "veza_sessions_untold_total",
    // Nobody is live here.
    "veza_audio_packets_received_total",
    "veza_audio_packets_refused_total",
    "veza_audio_packets_sent_total",
    "veza_audio_packets_dropped_total",
    "veza_audio_quality_changes_total",
    "veza_audio_underruns_total",
    "veza_audio_forward_seconds",
    "veza_audio_made_rungs",
    "veza_audio_made_refused_total",
    "veza_audio_made_frames_total",
    "veza_audio_made_frames_dropped_total",
    "veza_audio_codec_seconds",
    "veza_audio_streams",
    "veza_audio_listeners",
    "veza_icecast_sources",
    "veza_icecast_answers_total",
    "veza_icecast_ended_total",
    "veza_user_rate_refused_total",
    "veza_evicted_total",
    "veza_expired_total",
    "veza_lagging_total",
    "veza_datagrams_dropped_total",
    "veza_certificate_reloads_total",
    "veza_spans_exported_total",
    "veza_store_upkeep_seconds",
    "veza_draining",
    // What needs the platform: its calls, keys that it publishes, its revocations and its say.
    "veza_gateway_calls_total",
    "veza_gateway_call_seconds",
    "veza_gateway_connections",
    "veza_jwks_reads_total",
    "veza_revocations_total",
    "veza_revoked_sessions_total",
    "veza_devices_seen_total",
    "veza_authz_total",
    "veza_authz_cached_total",
    "veza_authz_seconds",
    "veza_authz_down",
];
const CARRIERS: [Carrier; 3] = [Carrier::WebTransport, Carrier::Quic, Carrier::WebSocketJson];
/// Published by each of the three before the second one goes away, and while it is away.
const LIVE: u64 = 5;
const MISSED: u64 = 7;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_counters_agree_with_what_happened() {
    let mut stage = Stage::new(Process::start(), Carrier::WebTransport).await;
    assert_eq!(stage.process.get("/metrics").status, 404, "metrics are not for the public port");
    for carrier in CARRIERS {
        stage.carrier = carrier;
        tell_the_story(&stage).await;
    }
    let strange = upgrade(stage.process.websocket, "/ws", &[("origin", "https://elsewhere.example")]).await;
    assert_eq!(strange.err(), Some(403));

    let everybody_is_gone = |scrape: &Scrape| {
        let failed = scrape.sum("veza_hello_failed_total") == CARRIERS.len() as f64;
        failed && scrape.sum("veza_sessions") == 0.0 && scrape.sum("veza_subscriptions") == 0.0
    };
    let scrape = Scrape::when(&stage.process, everybody_is_gone).await;
    for metric in ALL.iter().filter(|metric| !LEFT_ALONE.contains(&metric.name)) {
        let name = if metric.kind == "histogram" { format!("{}_count", metric.name) } else { metric.name.to_owned() };
        assert!(scrape.has(&name), "{} is not exported", metric.name);
        let moved = scrape.sum(&name) > 0.0 || metric.kind == "gauge";
        assert!(moved, "{} has not moved; {}", metric.name, metric.help);
    }

    let carriers = CARRIERS.len() as f64;
    let stored = carriers * (LIVE + MISSED) as f64;
    for carrier in CARRIERS {
        let of = |name: &str| scrape.of(name, &[("transport", carrier.label())]);
        assert_eq!((of("veza_sessions_opened_total"), of("veza_sessions_closed_total")), (3.0, 3.0), "{carrier:?}");
        assert_eq!((of("veza_sessions_resumed_total"), of("veza_hello_failed_total")), (1.0, 1.0), "{carrier:?}");
        assert_eq!(of("veza_links_accepted_total"), 4.0, "{carrier:?}");
        assert_eq!(of("veza_handshake_seconds_count"), 4.0, "{carrier:?}");
    }
    for (name, labels, expected) in [
        ("veza_published_total", [("outcome", "stored")], stored),
        ("veza_published_total", [("outcome", "duplicate")], carriers),
        ("veza_published_total", [("outcome", "conflict")], carriers),
        ("veza_errors_sent_total", [("code", "ERROR_CODE_NOT_FOUND")], carriers),
        ("veza_errors_sent_total", [("code", "ERROR_CODE_CMID_CONFLICT")], carriers),
        ("veza_errors_sent_total", [("code", "ERROR_CODE_UNAUTHENTICATED")], carriers),
        ("veza_resume_verdicts_total", [("verdict", "recovered")], carriers),
        ("veza_links_refused_total", [("reason", "origin")], 1.0),
        ("veza_committed_writes_total", [("kind", "append")], stored + 2.0 * carriers),
        ("veza_committed_writes_total", [("kind", "create_room")], carriers),
        ("veza_store_reads_total", [("kind", "rooms")], carriers),
        ("veza_auth_total", [("outcome", "ok")], 3.0 * carriers),
        ("veza_auth_total", [("outcome", "invalid")], carriers),
    ] {
        assert_eq!(scrape.of(name, &labels), expected, "{name} {labels:?}");
    }
    assert_eq!(scrape.sum("veza_replayed_messages_total"), carriers * MISSED as f64);
    // Alice hears everything, bob what was live by the fast way and the rest when he is back.
    assert_eq!(scrape.sum("veza_deliveries_total"), 2.0 * stored);
    // On QUIC and WebTransport the live ones go to bob as datagrams, unless one did not fit at its moment.
    assert!(scrape.of("veza_deliveries_total", &[("path", "datagram")]) > 0.0);
    assert_eq!(scrape.sum("veza_typing_total"), carriers);
    assert_eq!(scrape.sum("veza_commit_queue"), 0.0);
    assert_eq!(scrape.sum("veza_publish_commit_seconds_count"), stored + 2.0 * carriers);
    assert!(scrape.text.lines().all(|line| line.starts_with('#') || line.starts_with("veza_") || line.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moderation_and_retention_are_counted() {
    let start = Start::new().variable("VEZA_USER_PUBLISH_PER_SECOND", 1).variable("VEZA_USER_PUBLISH_BURST", 20);
    let stage = Stage::new(start.run(), Carrier::WebSocketProto).await;
    let [alice, mut bob, mut carol] = stage.in_room("garden", ["alice", "bob", "carol"]).await;
    for (user, sanction) in [("bob", Sanction::Kick), ("carol", Sanction::Ban)] {
        ask!(alice, Moderate { room: "garden", user: user, sanction: sanction } => MemberUpdated).unwrap();
    }
    bob.evicted().await;
    carol.evicted().await;
    let settings = RoomSettings { retention_entries: 10, ..RoomSettings::default() };
    ask!(alice, UpdateRoom { room: "garden", settings: settings } => RoomUpdated).unwrap();
    let mut refused = 0;
    while refused == 0 {
        let publish = alice.publish("garden", &veza_client::new_cmid(), "hello").await;
        refused += usize::from(publish.is_err_and(|error| error.code() == ErrorCode::RateLimited));
    }
    let expired = |scrape: &Scrape| scrape.sum("veza_expired_total") > 0.0;
    let scrape = Scrape::when(&stage.process, expired).await;
    for (name, labels, expected) in [
        ("veza_evicted_total", [("sanction", "kick")], 1.0),
        ("veza_evicted_total", [("sanction", "ban")], 1.0),
        ("veza_errors_sent_total", [("code", "ERROR_CODE_RATE_LIMITED")], 1.0),
    ] {
        assert_eq!(scrape.of(name, &labels), expected, "{name} {labels:?}");
    }
    assert_eq!(scrape.sum("veza_user_rate_refused_total"), 1.0);
}

/// Alice and bob in a room; bob leaves without a word, misses something and comes back; somebody fails to come in.
async fn tell_the_story(stage: &Stage) {
    let room = stage.carrier.label();
    let mut alice = stage.player_in("alice", room).await;
    let mut bob = stage.player("bob").await;
    let joined = bob.join_from(room, None, Delivery::Fast).await.unwrap().room.unwrap();
    for n in 1..=LIVE {
        alice.publish(room, &format!("c{n}"), "hello").await.unwrap();
    }
    assert!(alice.publish(room, "c1", "hello").await.unwrap().duplicate);
    assert_eq!(alice.publish(room, "c1", "other").await.unwrap_err().code(), ErrorCode::CmidConflict);
    assert_eq!(alice.publish("nowhere", "c1", "hello").await.unwrap_err().code(), ErrorCode::NotFound);
    bob.messages(LIVE as usize).await;
    bob.connection.tell(Command::Typing(Typing { room: room.into(), active: true })).await.unwrap();
    alice.hear(|event| matches!(event, push::Event::TypingChanged(_)).then_some(())).await;
    let history = History { room: room.into(), ..History::default() };
    bob.ask(Command::History(history)).await.unwrap();
    bob.ask(Command::ListRooms(ListRooms::default())).await.unwrap();
    bob.ask(Command::Repair(Repair { room: room.into(), epoch: joined.epoch, after_seq: 1, up_to_seq: 3 }))
        .await
        .unwrap();

    let resume_token = bob.connection.welcome().resume_token.clone();
    drop(bob);
    // Until the server has noticed, what is published still goes to the old link's queue.
    let one = |scrape: &Scrape| scrape.of("veza_sessions", &[("transport", room)]) == 1.0;
    Scrape::when(&stage.process, one).await;
    for n in 1..=MISSED {
        alice.publish(room, &format!("m{n}"), "are you there?").await.unwrap();
    }
    let cursor = RoomCursor { room: room.into(), epoch: joined.epoch, last_seq: LIVE, delivery: Delivery::Fast.into() };
    let token = stage.token("bob").await;
    let mut bob =
        stage.try_hello(Hello { token, resume_token, rooms: vec![cursor], ..Hello::default() }).await.unwrap();
    bob.messages(MISSED as usize).await;
    alice.messages((LIVE + MISSED) as usize).await;
    assert!(stage.try_hello(Hello { token: "no token".into(), ..Hello::default() }).await.is_err());
    alice.connection.bye().await;
    bob.connection.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_is_traced_to_the_collector() {
    let collector = Collector::start();
    let start = Start::new()
        .variable("TRACING_ENABLED", true)
        .variable("JAEGER_ENDPOINT", format!("http://127.0.0.1:{}", collector.port))
        .variable("SERVICE_NAME", "traced-server");
    let stage = Stage::new(start.run(), Carrier::Quic).await;
    let alice = stage.player_in("alice", "garden").await;
    alice.publish("garden", "c1", "body-that-nobody-may-read").await.unwrap();
    let spans = ["verify-token", "publish", "commit", "fan-out"];
    let begun = Instant::now();
    while let Some(missing) = spans.iter().find(|name| !collector.has_span(name)) {
        assert!(begun.elapsed() < SOON, "no span is named {missing}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(collector.holds(b"traced-server"));
    assert!(!collector.holds(b"body-that-nobody-may-read"));
}

/// What the exporter shows: every sample's value by its name and labels.
struct Scrape {
    text: String,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    fn new(process: &Process) -> Self {
        let answer = get(process.metrics, "/metrics", "");
        assert_eq!(answer.status, 200, "{answer:?}");
        let samples = answer.body.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (sample, value) = line.rsplit_once(' ')?;
            Some((sample.to_owned(), value.parse().unwrap()))
        });
        Self { samples: samples.collect(), text: answer.body }
    }

    /// The first one that is as it should become.
    async fn when(process: &Process, ready: impl Fn(&Scrape) -> bool) -> Self {
        let begun = Instant::now();
        loop {
            let scrape = Self::new(process);
            if ready(&scrape) {
                return scrape;
            }
            assert!(begun.elapsed() < SOON, "it did not come to that:\n{}", scrape.text);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn named(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        let of_name = move |sample: &str| sample.split('{').next() == Some(name);
        self.samples.iter().filter(move |(sample, _)| of_name(sample)).map(|(sample, value)| (sample.as_str(), *value))
    }

    fn has(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    fn sum(&self, name: &str) -> f64 {
        self.named(name).map(|(_, value)| value).sum()
    }

    /// The sum of the samples with these labels.
    fn of(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labelled =
            |sample: &str| labels.iter().all(|(label, value)| sample.contains(&format!("{label}=\"{value}\"")));
        self.named(name).filter(|(sample, _)| labelled(sample)).map(|(_, value)| value).sum()
    }
}

/// A collector that keeps what it is sent.
struct Collector {
    port: u16,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let collector = Self { port: listener.local_addr().unwrap().port(), received: Arc::default() };
        let received = Arc::clone(&collector.received);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let received = Arc::clone(&received);
                std::thread::spawn(move || take(stream.unwrap(), &received));
            }
        });
        collector
    }

    /// Whether a span of this name came: field 5 of OTLP's `Span`, a string.
    fn has_span(&self, name: &str) -> bool {
        let length = u8::try_from(name.len()).unwrap();
        self.holds(&[&[5 << 3 | 2, length], name.as_bytes()].concat())
    }

    fn holds(&self, bytes: &[u8]) -> bool {
        self.received.lock().unwrap().windows(bytes.len()).any(|window| window == bytes)
    }
}

/// Answers every request of a connection with 200, however it is framed: a pause in the stream ends a request.
fn take(mut stream: TcpStream, received: &Mutex<Vec<u8>>) {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (mut buffer, mut fresh) = ([0; 16 * 1024], false);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                received.lock().unwrap().extend_from_slice(&buffer[..read]);
                fresh = true;
            }
            Err(_pause) if fresh => {
                fresh = false;
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                    return;
                }
            }
            Err(_pause) => {}
        }
    }
}
