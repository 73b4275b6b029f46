//! The server is killed in the middle of a burst, three times, and nothing that was acknowledged is lost, doubled or moved.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use veza_client::proto::v1::{Delivery, Message, Published, history};
use veza_client::{Client, Config, Event, Events, Options, State, TokenSource};

use crate::carrier::{Carrier, SOON};
use crate::server::{Process, Start};

const ROOM: &str = "crash";
/// What each of the three says at once, and how often, until the last kill is over.
const VOLLEY: usize = 12;
const EVERY: Duration = Duration::from_millis(36);
/// Acknowledgements between the kills.
const MANY: usize = 200;
/// Publishes of one client that wait for their acknowledgement at the same time.
const IN_FLIGHT: usize = 24;

/// The burst as it goes, for whoever decides when to kill.
#[derive(Default)]
struct Burst {
    begun: AtomicUsize,
    acknowledged: AtomicUsize,
    duplicates: AtomicUsize,
    over: AtomicBool,
}

impl Burst {
    /// Publishes that are not acknowledged.
    fn open(&self) -> usize {
        let acknowledged = self.acknowledged.load(Ordering::SeqCst);
        self.begun.load(Ordering::SeqCst) - acknowledged
    }
}

/// What one client has shown its user.
#[derive(Default)]
struct Shown {
    messages: Vec<Message>,
    connects: usize,
    resumes: usize,
    wrong: Vec<String>,
}

struct Talker {
    carrier: Carrier,
    client: Client,
    shown: Arc<Mutex<Shown>>,
}

impl Talker {
    fn connects(&self) -> usize {
        self.shown.lock().unwrap().connects
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_during_a_burst_lose_nothing_that_was_acknowledged() {
    let mut process = Start::new().settled().talkative().run();
    let _kept = process.keep_data();
    let carriers = [Carrier::WebTransport, Carrier::Quic, Carrier::WebSocketJson];
    let (begun, mut talkers) = (Instant::now(), Vec::new());
    for (user, carrier) in ["alice", "bob", "carol"].into_iter().zip(carriers) {
        talkers.push(talker(&process, user, carrier, begun).await);
    }
    talkers[0].client.create_room(ROOM, "Crash").await.unwrap();
    for talker in &talkers {
        let delivery = if talker.carrier.has_datagrams() { Delivery::Fast } else { Delivery::Unspecified };
        talker.client.join(ROOM, delivery).await.unwrap();
    }

    let burst = Arc::new(Burst::default());
    let mut said = JoinSet::new();
    for talker in &talkers {
        said.spawn(talk(talker.client.clone(), talker.carrier, Arc::clone(&burst)));
    }
    let (mut unacknowledged, mut connects) = (Vec::new(), vec![0; talkers.len()]);
    // In the first rush, then while the clients are just coming back, then when all have found their pace again.
    for (acknowledged, online, down_ms) in [(MANY, 3, 0), (1, 1, 250), (MANY, 3, 50)] {
        let before = burst.acknowledged.load(Ordering::SeqCst);
        wait_until(|| {
            let back = talkers.iter().zip(&connects).filter(|(talker, before)| talker.connects() > **before).count();
            back >= online && burst.acknowledged.load(Ordering::SeqCst) >= before + acknowledged
        })
        .await;
        connects = talkers.iter().map(Talker::connects).collect();
        tokio::task::block_in_place(|| {
            // At the beginning of a volley, so that its commit is under way.
            while burst.open() < VOLLEY / 2 {
                std::thread::yield_now();
            }
            process.kill();
        });
        eprintln!("{:6} ms  killed", begun.elapsed().as_millis());
        unacknowledged.push(burst.open());
        tokio::time::sleep(Duration::from_millis(down_ms)).await;
        let again = process.again().talkative();
        process = tokio::task::block_in_place(|| again.run());
    }
    wait_until(|| talkers.iter().zip(&connects).all(|(talker, before)| talker.connects() > *before)).await;
    burst.over.store(true, Ordering::SeqCst);
    // Every publish was acknowledged in the end, those that were open at a kill too.
    let acknowledged: BTreeMap<String, Published> = said.join_all().await.into_iter().flatten().collect();
    assert_eq!(acknowledged.len(), burst.begun.load(Ordering::SeqCst));
    // One volley may be answered between the decision to kill and the death.
    let interrupting = unacknowledged.iter().filter(|open| **open > 0).count();
    assert!(interrupting >= 2, "no publish was open at a kill: {unacknowledged:?}");

    let truth = history_by_a_stranger(&process).await;
    assert_eq!(
        truth.iter().map(|m| m.seq).collect::<Vec<_>>(),
        (1..=truth.len() as u64).collect::<Vec<_>>(),
        "not dense"
    );
    assert!(truth.iter().all(|message| message.epoch == truth[0].epoch), "the log was replaced");

    // Each of them stands where its acknowledgement says, and nothing else does.
    assert_eq!(truth.len(), acknowledged.len());
    for message in &truth {
        let published = &acknowledged[&message.body];
        assert_eq!((published.epoch, published.seq), (message.epoch, message.seq), "{}", message.body);
    }
    for talker in &talkers {
        let label = talker.carrier.label();
        let shown = || talker.shown.lock().unwrap().messages.len();
        wait_until(|| shown() >= truth.len()).await;
        let shown = talker.shown.lock().unwrap();
        assert!(shown.wrong.is_empty(), "{label}: {:?}", shown.wrong);
        assert_eq!(shown.messages, truth, "{label} shows something else than the history");
        assert!(shown.connects > 2, "{label} connected {} times", shown.connects);
        assert_eq!(shown.resumes, shown.connects - 1, "{label} lost its session");
    }
    let duplicates = burst.duplicates.load(Ordering::SeqCst);
    eprintln!(
        "{} messages; open at the kills: {unacknowledged:?}; stored already when sent again: {duplicates}",
        truth.len()
    );
}

async fn talker(process: &Process, user: &str, carrier: Carrier, begun: Instant) -> Talker {
    let (client, events) = connect(process, user, carrier).await;
    let shown = Arc::<Mutex<Shown>>::default();
    tokio::spawn(watch(carrier, begun, events, Arc::clone(&shown)));
    Talker { carrier, client, shown }
}

async fn connect(process: &Process, user: &str, carrier: Carrier) -> (Client, Events) {
    let (server, endpoints) = process.describe().await;
    let token = server.dev_login(user).await.unwrap();
    let config = Config::new(endpoints, server.target(), TokenSource::fixed(token));
    // A handshake that a kill interrupts is given up soon and tried again.
    Client::start(Config { options: Options { open_within: Duration::from_secs(3), ..carrier.options() }, ..config })
}

/// Shows what comes, as a page would.
async fn watch(carrier: Carrier, begun: Instant, mut events: Events, shown: Arc<Mutex<Shown>>) {
    while let Some(event) = events.recv().await {
        if let Event::State(state) = &event {
            eprintln!("{:6} ms  {} {state:?}", begun.elapsed().as_millis(), carrier.label());
        }
        let shown = &mut *shown.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Message(message) => shown.messages.push(message),
            Event::State(State::Connected { resumed, .. }) => {
                shown.connects += 1;
                shown.resumes += usize::from(resumed);
            }
            Event::Gap(_) | Event::Left { .. } | Event::Evicted(_) | Event::State(State::Closed { .. }) => {
                shown.wrong.push(format!("{event:?}"));
            }
            Event::State(_)
            | Event::Resumed { .. }
            | Event::RoomChanged(_)
            | Event::Receipts(_)
            | Event::Presence(_)
            | Event::Typing(_) => {}
        }
    }
}

/// Publishes until the burst is over and gives the acknowledgements by body.
async fn talk(client: Client, carrier: Carrier, burst: Arc<Burst>) -> Vec<(String, Published)> {
    let (window, mut publishes) = (Arc::new(Semaphore::new(IN_FLIGHT)), JoinSet::new());
    let mut pace = tokio::time::interval(EVERY);
    for at in 0.. {
        if at % VOLLEY == 0 {
            pace.tick().await;
        }
        if burst.over.load(Ordering::SeqCst) {
            break;
        }
        let place = Arc::clone(&window).acquire_owned().await.unwrap();
        let (client, burst) = (client.clone(), Arc::clone(&burst));
        publishes.spawn(async move {
            let body = format!("{} {at}", carrier.label());
            burst.begun.fetch_add(1, Ordering::SeqCst);
            let published = client.publish(ROOM, body.clone()).await.unwrap();
            burst.acknowledged.fetch_add(1, Ordering::SeqCst);
            burst.duplicates.fetch_add(usize::from(published.duplicate), Ordering::SeqCst);
            drop(place);
            (body, published)
        });
    }
    publishes.join_all().await
}

/// The whole log as somebody reads it who was never there.
async fn history_by_a_stranger(process: &Process) -> Vec<Message> {
    let (stranger, _events) = connect(process, "dave", Carrier::WebSocketProto).await;
    stranger.join(ROOM, Delivery::Unspecified).await.unwrap();
    let mut messages = Vec::new();
    loop {
        let after = messages.last().map_or(0, |message: &Message| message.seq);
        let page = stranger.history(ROOM, history::Anchor::AfterSeq(after), 0).await.unwrap();
        messages.extend(page.messages);
        if !page.more_after {
            return messages;
        }
    }
}

async fn wait_until(mut reached: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(3 * SOON, async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    waited.await.expect("it did not come so far in time");
}
