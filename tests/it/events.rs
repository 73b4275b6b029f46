//! Events as a backend consumes them: in order, at least once, whoever dies meanwhile.

mod told;

use std::collections::BTreeMap;

use futures_util::future::join_all;
use tokio::sync::watch;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;
use veza_client::proto::gateway::v1::event::Kind;
use veza_client::proto::gateway::v1::subscribe_response::What;
use veza_client::proto::gateway::v1::{
    AcknowledgeRequest, Consumer, DeleteConsumerRequest, Event, EventFilter, EventKind, GetConsumerRequest,
    ListConsumersRequest, SubscribeRequest, SubscribeResponse, subscribe_request,
};
use veza_client::proto::v1::Sanction;

use crate::carrier::SOON;
use crate::gateway::{Backend, bad_field, gateway_ban, not_found, refusal, send, stage, stage_of};
use crate::server::Start;

const ROOMS: [&str; 3] = ["one", "two", "three"];
const DEATHS: usize = 20;
/// Messages that somebody says in each room.
const EACH: u64 = 150;

/// A stream of a consumer, and where it stood.
struct Stream {
    consumer: Consumer,
    inner: Streaming<SubscribeResponse>,
}

impl Stream {
    async fn open(backend: &Backend, request: SubscribeRequest) -> Result<Self, Status> {
        let mut inner = backend.events().subscribe(request).await?.into_inner();
        let first = tokio::time::timeout(SOON, inner.message()).await.expect("where it stands comes first")?;
        let Some(What::Consumer(consumer)) = first.and_then(|first| first.what) else { panic!("no consumer") };
        Ok(Self { consumer, inner })
    }

    async fn of(backend: &Backend, name: &str) -> Self {
        Self::open(backend, named(name)).await.unwrap()
    }

    async fn next(&mut self) -> Result<Event, Status> {
        loop {
            let said = tokio::time::timeout(SOON, self.inner.message()).await.expect("an event comes soon")?;
            if let Some(What::Event(event)) = said.expect("the stream goes on").what {
                return Ok(event);
            }
        }
    }

    async fn take(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.next().await.unwrap());
        }
        events
    }
}

fn named(name: &str) -> SubscribeRequest {
    SubscribeRequest { consumer: name.into(), ..SubscribeRequest::default() }
}

async fn acknowledge(backend: &Backend, name: &str, position: u64) -> Result<u64, Status> {
    let request = AcknowledgeRequest { consumer: name.into(), position };
    Ok(backend.events().acknowledge(request).await?.into_inner().position)
}

/// What an event is, in a word, and of what it tells.
fn what(event: &Event) -> String {
    match event.kind.as_ref().unwrap() {
        Kind::Message(stored) => format!("{}", stored.message.as_ref().unwrap().seq),
        Kind::RoomCreated(_) => "created".into(),
        Kind::MemberJoined(_) => format!("{} joined", event.user),
        Kind::MemberLeft(left) => format!("{} left, {:?}", event.user, left.sanction()),
        Kind::MemberSanctioned(sanctioned) => format!("{} {:?}", event.user, sanctioned.sanction()),
        other => format!("{other:?}"),
    }
}

/// The value of a metric, which is told after a while.
async fn until_exported(port: u16, metric: &str) -> f64 {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let text = crate::server::get(port, "/metrics", "").body;
        let value = text.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse::<f64>().ok());
        match value.filter(|value| *value > 0.0) {
            Some(value) => return value,
            None => assert!(tokio::time::Instant::now() < deadline, "{metric} is not told:\n{text}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Somebody who says everything once, however often the server dies.
async fn talk(room: &str, mut backend: watch::Receiver<Backend>) {
    for nth in 1..=EACH {
        let key = format!("{room}-{nth}");
        loop {
            let now = backend.borrow_and_update().clone();
            match now.messages().send(send(room, "alice", &key, "hello")).await {
                Ok(_) => break,
                Err(_dead) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    }
}

/// What a consumer knows that is killed again and again: the cursor is the server's.
#[derive(Default)]
struct Seen {
    /// The last number of each room.
    last: BTreeMap<String, u64>,
    acknowledged: u64,
    highest: u64,
    again: usize,
}

impl Seen {
    fn take(&mut self, event: &Event) {
        assert!(event.position > self.acknowledged, "{} was acknowledged", event.position);
        if event.position <= self.highest {
            self.again += 1;
            return;
        }
        self.highest = event.position;
        let Some(Kind::Message(stored)) = &event.kind else { return };
        let message = stored.message.as_ref().unwrap();
        let last = self.last.entry(event.room.clone()).or_default();
        assert_eq!(message.seq, *last + 1, "{}: in order, and nothing is missing", event.room);
        *last = message.seq;
    }

    fn is_complete(&self) -> bool {
        ROOMS.iter().all(|room| self.last.get(*room) == Some(&EACH))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_dies_twenty_times_under_load_misses_nothing() {
    let mut process = Start::new().talkative().settled().run();
    let _kept = process.keep_data();
    let mut backend = Backend::of(&process).await;
    drop(Stream::of(&backend, "shop").await);
    for room in ROOMS {
        backend.room(room, "alice", &[]).await;
    }
    let (tell, told) = watch::channel(backend.clone());
    let talking: Vec<_> = ROOMS.iter().map(|room| tokio::spawn(talk(room, told.clone()))).collect();
    let mut seen = Seen::default();
    for death in 1..=DEATHS {
        if death == DEATHS / 2 {
            process.kill();
            process = process.again().talkative().run();
            backend = Backend::of(&process).await;
            tell.send(backend.clone()).unwrap();
        }
        let mut stream = Stream::of(&backend, "shop").await;
        assert_eq!(stream.consumer.position, seen.acknowledged, "acknowledgements outlive everybody");
        for nth in 0..12 {
            let event = stream.next().await.unwrap();
            seen.take(&event);
            // Some is dealt with and not acknowledged when it dies.
            if nth == 7 {
                seen.acknowledged = acknowledge(&backend, "shop", event.position).await.unwrap();
                assert_eq!(seen.acknowledged, event.position);
            }
        }
    }
    let mut stream = Stream::of(&backend, "shop").await;
    while !seen.is_complete() {
        seen.take(&stream.next().await.unwrap());
    }
    join_all(talking).await;
    // Twelve were taken each time, and eight of them acknowledged.
    assert_eq!(seen.again, DEATHS * 4, "duplicates are those that were not acknowledged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_stand_side_by_side_and_hear_what_they_asked_for() {
    let (_stage, backend) = stage().await;
    backend.room("before", "alice", &[]).await;
    let mut all = Stream::of(&backend, "all").await;
    let of = |kinds: &[EventKind], rooms: &[&str], users: &[&str]| {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let kinds = kinds.iter().map(|kind| i32::from(*kind)).collect();
        Some(EventFilter { kinds, rooms: texts(rooms), users: texts(users) })
    };
    let filtered = |name: &str, filter| SubscribeRequest { filter, ..named(name) };
    let messages = filtered("messages", of(&[EventKind::Message], &["den"], &[]));
    let mut messages = Stream::open(&backend, messages).await.unwrap();
    let mut bob = Stream::open(&backend, filtered("bob", of(&[], &[], &["bob"]))).await.unwrap();
    for room in ["lounge", "den"] {
        backend.room(room, "alice", &["bob"]).await;
        backend.say(room, "bob", "k1", "hello").await;
    }
    backend.moderation().ban(gateway_ban("den", "alice", "bob")).await.unwrap();
    let wanted = |room: &str, more: &[&str]| {
        let common = ["created", "alice joined", "bob joined", "1"];
        common.iter().chain(more).map(|what| format!("{room}: {what}")).collect::<Vec<_>>()
    };
    let banned = format!("bob left, {:?}", Sanction::Ban);
    let all_wanted = [wanted("lounge", &[]), wanted("den", &["2", "bob Ban", &banned])].concat();
    let said = |events: Vec<Event>| events.iter().map(|e| format!("{}: {}", e.room, what(e))).collect::<Vec<_>>();
    assert_eq!(said(all.take(11).await), all_wanted);
    assert_eq!(said(messages.take(2).await), ["den: 1", "den: 2"]);
    let of_bob =
        ["lounge: bob joined", "lounge: 1", "den: bob joined", "den: 1", "den: bob Ban", &format!("den: {banned}")];
    assert_eq!(said(bob.take(6).await), of_bob);
    let listed = backend.events().list_consumers(ListConsumersRequest { page_size: 2, ..Default::default() }).await;
    let listed = listed.unwrap().into_inner();
    let names: Vec<_> = listed.consumers.iter().map(|consumer| consumer.name.as_str()).collect();
    assert_eq!(names, ["all", "bob"]);
    let rest = ListConsumersRequest { page_size: 2, page_token: listed.next_page_token };
    let rest = backend.events().list_consumers(rest).await.unwrap().into_inner();
    assert_eq!((rest.consumers[0].name.as_str(), rest.next_page_token.as_str()), ("messages", ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_stream_takes_over_and_a_deleted_consumer_ends() {
    let (_stage, backend) = stage().await;
    let mut first = Stream::of(&backend, "shop").await;
    let mut second = Stream::of(&backend, "shop").await;
    assert_eq!(refusal(first.next().await), (Code::Aborted, "TAKEN_OVER".into()));
    backend.room("lounge", "alice", &[]).await;
    assert_eq!(what(&second.next().await.unwrap()), "created");
    let get = || GetConsumerRequest { consumer: "shop".into() };
    let consumer = backend.events().get_consumer(get()).await.unwrap().into_inner().consumer.unwrap();
    assert!(consumer.connected && consumer.head > consumer.position, "{consumer:?}");
    let delete = DeleteConsumerRequest { consumer: "shop".into(), idempotency_key: "k1".into() };
    for _twice in 0..2 {
        backend.events().delete_consumer(delete.clone()).await.unwrap();
    }
    loop {
        // What was on its way arrives.
        match second.next().await {
            Ok(_) => {}
            refused => break assert_eq!(refusal(refused), not_found()),
        }
    }
    assert_eq!(refusal(backend.events().get_consumer(get()).await), not_found());
    assert_eq!(refusal(acknowledge(&backend, "shop", 1).await), not_found());
    let other = DeleteConsumerRequest { consumer: "other".into(), idempotency_key: "k1".into() };
    let reused = backend.events().delete_consumer(other).await;
    assert_eq!(refusal(reused), (Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_runs_as_far_ahead_as_its_window() {
    let (_stage, backend) = stage().await;
    let narrow = SubscribeRequest { window: 2, ..named("shop") };
    let mut stream = Stream::open(&backend, narrow).await.unwrap();
    backend.room("lounge", "alice", &["bob", "carol"]).await;
    let two = stream.take(2).await;
    // The third waits for the first, whenever that comes.
    let third = tokio::time::timeout(std::time::Duration::from_millis(300), stream.inner.message()).await;
    assert!(third.is_err(), "{third:?}");
    acknowledge(&backend, "shop", two[0].position).await.unwrap();
    assert_eq!(what(&stream.next().await.unwrap()), "bob joined");
    for (window, name) in [(10_001, "shop"), (1, ""), (1, "Shop"), (1, "a/b")] {
        let refused = backend.events().subscribe(SubscribeRequest { window, ..named(name) }).await;
        assert_eq!(bad_field(refused), if window == 1 { "consumer" } else { "window" });
    }
    Stream::open(&backend, SubscribeRequest { window: 10_000, ..named(&"n".repeat(64)) }).await.unwrap();
    let long = backend.events().subscribe(named(&"n".repeat(65))).await;
    assert_eq!(bad_field(long), "consumer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_falls_behind_what_is_kept_is_told_where_it_goes_on() {
    let (stage, backend) = stage_of(Start::new().talkative().variable("EVENTS_MAX", 1_000)).await;
    drop(Stream::of(&backend, "shop").await);
    backend.room("lounge", "alice", &[]).await;
    let say = async |lane: usize| {
        for nth in 0..100 {
            backend.say("lounge", "alice", &format!("{lane}-{nth}"), "hello").await;
        }
    };
    join_all((0..12).map(say)).await;
    let refused = loop {
        match Stream::open(&backend, named("shop")).await {
            // It was not tidied up yet.
            Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
            Err(refused) => break refused,
        }
    };
    let lag = "veza_events_lag{consumer=\"shop\"}";
    let behind = until_exported(stage.process.metrics, lag).await;
    assert!(behind > 1_000.0, "{behind}");
    let first: u64 = refused.get_details_error_info().unwrap().metadata["first_position"].parse().unwrap();
    assert_eq!(refusal(Err::<(), _>(refused)), (Code::OutOfRange, "EVENTS_EXPIRED".into()));
    let too_early = subscribe_request::Start::AfterPosition(first - 2);
    let early = backend.events().subscribe(SubscribeRequest { start: Some(too_early), ..named("late") }).await;
    assert_eq!(refusal(early), (Code::OutOfRange, "EVENTS_EXPIRED".into()));
    acknowledge(&backend, "shop", first - 1).await.unwrap();
    assert_eq!(Stream::of(&backend, "shop").await.next().await.unwrap().position, first);
}
