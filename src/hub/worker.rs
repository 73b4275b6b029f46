//! One worker: the rooms that hash to it, driven one input at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram};
use tokio::sync::mpsc;
use veza_engine::room::{Appended, Facts, Output, Room, unavailable};
use veza_engine::{Answer, SessionKey, Ticket, Timestamp};
use veza_proto::v1::{Message, TypingChanged, push};
use veza_proto::{Cmid, Encoded, RoomId, UserId};

use super::Caller;
use super::convert;
use super::mailbox::{Delivery, Letter, Mailbox};
use crate::bus::{Announced, Announcement, Bus};
use crate::clock::Clock;
use crate::store::{Anchor, Busy, QUEUED_WRITES_MAX, Store, Write, WriterHandle};
use crate::tasks::Tasks;
use crate::telemetry::metrics as declared;

/// Commands that may wait for one worker; past it a publish is answered `unavailable`.
const COMMANDS_MAX: usize = 16_384;
/// Results of the store that may wait: more than can be under way, so handing one over never fails.
const RESULTS_MAX: usize = QUEUED_WRITES_MAX * 2;
/// A room nobody listens to is forgotten after this.
const IDLE_ROOM: Duration = Duration::from_secs(60);
/// How often deadlines of rooms are looked at.
const TICK: Duration = Duration::from_millis(100);

/// What a worker is told.
pub(super) enum Command {
    Subscribe {
        caller: Caller,
        ticket: Ticket,
        facts: Box<Facts>,
    },
    Unsubscribe {
        room: RoomId,
        session: SessionKey,
        answer: Option<(Arc<Mailbox>, Ticket, Answer)>,
    },
    Publish {
        caller: Caller,
        ticket: Ticket,
        room: RoomId,
        cmid: Cmid,
        body: String,
        received: Instant,
        span: tracing::Span,
    },
    Typing {
        room: RoomId,
        session: SessionKey,
        active: bool,
    },
    TypingElsewhere {
        room: RoomId,
        user: UserId,
        active: bool,
    },
    /// Another node committed this.
    Announced {
        room: RoomId,
        message: Message,
    },
    /// Announcements were lost.
    Resync,
}

/// What the store answered.
enum Done {
    Appended { publish: Box<Publishing>, appended: Appended },
    Fetched { room: RoomId, messages: Option<Vec<Message>> },
    Facts(Facts),
}

/// A publish that waits for its commit.
struct Publishing {
    room: RoomId,
    session: SessionKey,
    mailbox: Arc<Mailbox>,
    ticket: Ticket,
    received: Instant,
    span: tracing::Span,
}

#[derive(Clone)]
pub(super) struct WorkerHandle {
    commands: mpsc::Sender<Command>,
    /// Subscriptions and their ends, in order, and what else must not be lost when `commands` is full; their number is
    /// bounded by the sessions'.
    surely: mpsc::Sender<Command>,
    tasks: Tasks,
}

impl WorkerHandle {
    /// # Errors
    /// The worker has more to do than it can.
    pub(super) fn send(&self, command: Command) -> Result<(), Busy> {
        self.commands.try_send(command).map_err(|_full| Busy)
    }

    /// Sends what must arrive; when the worker is behind, a task waits for it.
    pub(super) fn send_surely(&self, command: Command) {
        if let Err(mpsc::error::TrySendError::Full(command)) = self.surely.try_send(command) {
            let surely = self.surely.clone();
            self.tasks.spawn("worker-backlog", async move {
                // A closed channel means that the worker has stopped, and with it everything it could be told.
                let _stopped = surely.send(command).await;
            });
        }
    }
}

struct Worker {
    node: u64,
    rooms: HashMap<RoomId, Slot>,
    store: Arc<dyn Store>,
    writer: WriterHandle,
    bus: Arc<dyn Bus>,
    clock: Clock,
    tasks: Tasks,
    results: mpsc::Sender<Done>,
    meters: Meters,
}

struct Slot {
    room: Room,
    listeners: HashMap<SessionKey, Arc<Mailbox>>,
    appending: usize,
    idle_since: Option<Instant>,
}

struct Meters {
    commit: Histogram,
    fanout: Histogram,
    typing: Counter,
}

/// Starts a worker's task.
pub(super) fn start(
    node: u64,
    store: Arc<dyn Store>,
    writer: WriterHandle,
    bus: Arc<dyn Bus>,
    clock: Clock,
    tasks: &Tasks,
) -> WorkerHandle {
    let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
    let (surely, surely_queue) = mpsc::channel(COMMANDS_MAX);
    let (results, result_queue) = mpsc::channel(RESULTS_MAX);
    let meters = Meters {
        commit: declared::publish_commit_seconds(),
        fanout: declared::publish_fanout_seconds(),
        typing: declared::typing_total(),
    };
    let worker =
        Worker { node, rooms: HashMap::new(), store, writer, bus, clock, tasks: tasks.clone(), results, meters };
    tasks.spawn("hub-worker", worker.run(command_queue, surely_queue, result_queue));
    WorkerHandle { commands, surely, tasks: tasks.clone() }
}

impl Worker {
    /// Results go first, for they let go of what waits; then what must arrive; then new work.
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut surely: mpsc::Receiver<Command>,
        mut results: mpsc::Receiver<Done>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stop = self.tasks.token();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(done) = results.recv() => self.done(done),
                Some(command) = surely.recv() => self.command(command),
                _ = tick.tick() => self.tick(),
                Some(command) = commands.recv() => self.command(command),
                else => break,
            }
        }
        self.finish(results).await;
    }

    /// The writer answers everything it has before it stops; those answers still reach their sessions.
    async fn finish(mut self, mut results: mpsc::Receiver<Done>) {
        let waiting = |worker: &Worker| worker.rooms.values().any(|slot| slot.appending > 0);
        while waiting(&self)
            && let Ok(Some(done)) = tokio::time::timeout(Duration::from_secs(10), results.recv()).await
        {
            self.done(done);
        }
    }

    fn command(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::Subscribe { caller, ticket, facts } => self.subscribe(caller, ticket, *facts, now),
            Command::Unsubscribe { room, session, answer } => self.unsubscribe(&room, session, answer, now),
            Command::Publish { caller, ticket, room, cmid, body, received, span } => {
                let Some(slot) = self.rooms.get_mut(&room) else {
                    let refused = Answer::Refused(veza_engine::session::not_found());
                    caller.mailbox.answer(ticket, refused);
                    return;
                };
                slot.room.handle_publish(caller.session, ticket, cmid, body);
                self.perform(&room, Some(&Origin { mailbox: &caller.mailbox, received, span: &span }));
            }
            Command::Typing { room, session, active } => {
                if let Some(slot) = self.rooms.get_mut(&room) {
                    slot.room.handle_typing(session, active);
                    self.perform(&room, None);
                }
            }
            Command::TypingElsewhere { room, user, active } => {
                if let Some(slot) = self.rooms.get(&room) {
                    let typing = TypingChanged { room: String::from(&room), user: String::from(&user), active };
                    let frame = Encoded::push(push::Event::TypingChanged(typing));
                    for mailbox in slot.listeners.values() {
                        mailbox.whisper(Letter::Volatile(frame.clone()));
                    }
                }
            }
            Command::Announced { room, message } => {
                if let Some(slot) = self.rooms.get_mut(&room) {
                    slot.room.handle_committed(message);
                    self.perform(&room, None);
                }
            }
            Command::Resync => {
                for room in self.rooms.keys().cloned().collect::<Vec<_>>() {
                    self.ask_facts(room);
                }
            }
        }
    }

    fn subscribe(&mut self, caller: Caller, ticket: Ticket, facts: Facts, now: Timestamp) {
        if caller.mailbox.is_closed() {
            return;
        }
        let id = facts.id.clone();
        let slot = self.rooms.entry(id.clone()).or_insert_with(|| {
            declared::rooms_loaded().increment(1.0);
            Slot { room: Room::new(facts.clone()), listeners: HashMap::new(), appending: 0, idle_since: None }
        });
        slot.idle_since = None;
        if slot.listeners.insert(caller.session, Arc::clone(&caller.mailbox)).is_none() {
            declared::subscriptions().increment(1.0);
        }
        slot.room.handle_facts(&facts, now);
        slot.room.handle_subscribe(caller.session, &caller.user, ticket, now);
        let span = tracing::Span::none();
        self.perform(&id, Some(&Origin { mailbox: &caller.mailbox, received: Instant::now(), span: &span }));
    }

    fn unsubscribe(
        &mut self,
        room: &RoomId,
        session: SessionKey,
        answer: Option<(Arc<Mailbox>, Ticket, Answer)>,
        now: Timestamp,
    ) {
        if let Some(slot) = self.rooms.get_mut(room) {
            slot.room.handle_unsubscribe(session, now);
            if slot.listeners.remove(&session).is_some() {
                declared::subscriptions().decrement(1.0);
            }
            self.perform(room, None);
        }
        if let Some((mailbox, ticket, answer)) = answer {
            mailbox.answer(ticket, answer);
        }
    }

    fn done(&mut self, done: Done) {
        let now = self.clock.now();
        match done {
            Done::Appended { publish, appended } => {
                declared::published_total(convert::outcome(&appended)).increment(1);
                self.meters.commit.record(publish.received.elapsed());
                let Publishing { room, session, mailbox, ticket, received, span } = *publish;
                let Some(slot) = self.rooms.get_mut(&room) else { return };
                slot.appending -= 1;
                let _publish = span.enter();
                let _fanout = tracing::debug_span!("fan-out", listeners = slot.listeners.len()).entered();
                let committed = Instant::now();
                slot.room.handle_appended(session, ticket, appended);
                self.perform(&room, Some(&Origin { mailbox: &mailbox, received, span: &span }));
                self.meters.fanout.record(committed.elapsed());
            }
            Done::Fetched { room, messages } => {
                if let Some(slot) = self.rooms.get_mut(&room) {
                    slot.room.handle_fetched(messages, now);
                    self.perform(&room, None);
                }
            }
            Done::Facts(facts) => {
                if let Some(slot) = self.rooms.get_mut(&facts.id) {
                    slot.room.handle_facts(&facts, now);
                }
            }
        }
    }

    /// Fires the rooms' deadlines and forgets idle rooms.
    fn tick(&mut self) {
        let now = self.clock.now();
        let due: Vec<RoomId> = self
            .rooms
            .iter()
            .filter(|(_, slot)| slot.room.poll_timeout().is_some_and(|at| at <= now))
            .map(|(room, _)| room.clone())
            .collect();
        for room in due {
            if let Some(slot) = self.rooms.get_mut(&room) {
                slot.room.handle_timeout(now);
            }
            self.perform(&room, None);
        }
        let before = self.rooms.len();
        self.rooms.retain(|_, slot| {
            if !slot.room.is_idle() || slot.appending > 0 {
                slot.idle_since = None;
                return true;
            }
            slot.idle_since.get_or_insert_with(Instant::now).elapsed() < IDLE_ROOM
        });
        let forgotten = before - self.rooms.len();
        if forgotten > 0 {
            declared::rooms_loaded().decrement(forgotten as f64);
        }
    }

    /// Does what the room wants done.
    fn perform(&mut self, id: &RoomId, origin: Option<&Origin<'_>>) {
        let Some(slot) = self.rooms.get_mut(id) else { return };
        let mut refused = Vec::new();
        let mut fetch = None;
        while let Some(output) = slot.room.poll_output() {
            match output {
                Output::Answer { session, ticket, answer } => match (origin, slot.listeners.get(&session)) {
                    (Some(origin), _) => origin.mailbox.answer(ticket, answer),
                    (None, Some(mailbox)) => mailbox.answer(ticket, answer),
                    (None, None) => {}
                },
                Output::Deliver { epoch, seq, frame } => {
                    let delivery = Delivery { room: id.clone(), epoch, seq, frame, committed: Instant::now() };
                    for mailbox in slot.listeners.values() {
                        mailbox.deliver(&delivery);
                    }
                }
                Output::Volatile { frame, except } => {
                    self.meters.typing.increment(1);
                    for (session, mailbox) in &slot.listeners {
                        if *session != except {
                            mailbox.whisper(Letter::Volatile(frame.clone()));
                        }
                    }
                }
                Output::Presence { frame } => {
                    for mailbox in slot.listeners.values() {
                        mailbox.whisper(Letter::Presence(id.clone(), frame.clone()));
                    }
                }
                Output::Announce(message) => announce(self.node, self.bus.as_ref(), message),
                Output::Fetch { after, limit } => fetch = Some((after, limit)),
                Output::Append { session, ticket, author, cmid, body } => {
                    let Some(origin) = origin else { unreachable!("only a publish appends") };
                    let at_ms = self.clock.now().as_millis();
                    let write = Write::Append { room: id.clone(), author, cmid, body, at_ms };
                    let publish = Box::new(Publishing {
                        room: id.clone(),
                        session,
                        mailbox: Arc::clone(origin.mailbox),
                        ticket: ticket.clone(),
                        received: origin.received,
                        span: origin.span.clone(),
                    });
                    let results = self.results.clone();
                    let reply = Box::new(move |written| {
                        let appended = convert::appended(&publish.room, written);
                        if results.try_send(Done::Appended { publish, appended }).is_err() {
                            tracing::error!(
                                "a worker lost the result of a commit; its room will read it from the store"
                            );
                        }
                    });
                    match self.writer.try_submit(write, reply) {
                        Ok(()) => slot.appending += 1,
                        Err(Busy) => refused.push(ticket),
                    }
                }
            }
        }
        for ticket in refused {
            declared::published_total("unavailable").increment(1);
            if let Some(origin) = origin {
                origin.mailbox.answer(ticket, Answer::Refused(unavailable()));
            }
        }
        if let Some((after, limit)) = fetch {
            self.fetch(id.clone(), after, limit);
        }
    }

    fn fetch(&self, room: RoomId, after: u64, limit: u32) {
        let Some(slot) = self.rooms.get(&room) else { return };
        let (store, results, epoch) = (Arc::clone(&self.store), self.results.clone(), slot.room.epoch());
        self.tasks.spawn("room-fetch", async move {
            let messages = match store.messages(&room, epoch, Anchor::After(after), limit).await {
                Ok(records) => Some(records.into_iter().map(convert::message).collect()),
                Err(error) => {
                    tracing::error!(%error, room = room.as_str(), "a room could not read what it missed");
                    None
                }
            };
            let _stopped = results.send(Done::Fetched { room, messages }).await;
        });
    }

    fn ask_facts(&self, room: RoomId) {
        let (store, results) = (Arc::clone(&self.store), self.results.clone());
        self.tasks.spawn("room-facts", async move {
            if let Ok(Some(record)) = store.room(&room).await {
                let _stopped = results.send(Done::Facts(convert::facts(record))).await;
            }
        });
    }
}

/// Where the input at hand came from.
struct Origin<'a> {
    mailbox: &'a Arc<Mailbox>,
    received: Instant,
    span: &'a tracing::Span,
}

/// Tells the other nodes. What gets lost on the way they read from the store.
fn announce(node: u64, bus: &dyn Bus, message: Message) {
    bus.publish(Announcement { node, event: Announced::Message(message) });
}
