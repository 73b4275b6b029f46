//! One worker: the rooms that hash to it, driven one input at a time.

mod input;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram};
use tokio::sync::mpsc;
use veza_engine::ledger::{MemberRow, RoomRow, Write, not_found};
use veza_engine::room::{Appended, Ended, Output, Room, unavailable};
use veza_engine::{Answer, SessionKey, Ticket, Timestamp};
use veza_proto::v1::{Message, RoomEvicted, TypingChanged, push};
use veza_proto::{Encoded, RoomId, UserId};

use super::Caller;
use super::convert;
use super::fanout::{Content, Listeners, SLICE};
use super::mailbox::{Delivery, Mailbox};
use crate::bus::{Announced, Announcement, Bus};
use crate::clock::Clock;
use crate::crash;
use crate::store::{Anchor, Busy, QUEUED_WRITES_MAX, Store, StoreError, View, WriterHandle};
use crate::tasks::Tasks;
use crate::telemetry::metrics as declared;
pub(super) use input::{Command, Here, WorkerHandle};
use input::{Done, Publishing};

/// Commands that may wait for one worker; past it a publish is answered `unavailable`.
const COMMANDS_MAX: usize = 16_384;
/// Results of the store that may wait: more than can be under way, so handing one over never fails.
const RESULTS_MAX: usize = QUEUED_WRITES_MAX * 2;
/// A room nobody listens to is forgotten after this.
const IDLE_ROOM: Duration = Duration::from_secs(60);
/// A room that waits to know how it stands asks the store again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How often deadlines of rooms are looked at.
const TICK: Duration = Duration::from_millis(100);

struct Worker {
    node: u64,
    rooms: HashMap<RoomId, Slot>,
    /// Large rooms that have something to hand out, in turn.
    busy: VecDeque<RoomId>,
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
    listeners: Listeners,
    appending: usize,
    /// The store is being asked what has become of the room.
    looking: bool,
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
    let results_handle = results.clone();
    let worker = Worker {
        node,
        rooms: HashMap::new(),
        busy: VecDeque::new(),
        store,
        writer,
        bus,
        clock,
        tasks: tasks.clone(),
        results,
        meters,
    };
    tasks.spawn("hub-worker", worker.run(command_queue, surely_queue, result_queue));
    WorkerHandle { commands, surely, results: results_handle, tasks: tasks.clone() }
}

impl Worker {
    /// Results go first, for they let go of what waits; then what must arrive; then new work. Between any two of them one
    /// slice of a large room's listeners is served, and the sessions it woke run before the next.
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
                () = std::future::ready(()), if !self.busy.is_empty() => {}
                else => break,
            }
            if self.serve_slice() {
                tokio::task::yield_now().await;
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

    /// Serves a slice of the large room whose turn it is: whether there was one.
    fn serve_slice(&mut self) -> bool {
        let Some(room) = self.busy.pop_front() else { return false };
        if let Some(slot) = self.rooms.get_mut(&room) {
            slot.listeners.serve(SLICE);
            if slot.listeners.is_busy() {
                self.busy.push_back(room);
            }
        }
        true
    }

    fn command(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::Subscribe { caller, ticket, row, member } => self.subscribe(&caller, ticket, &row, &member, now),
            Command::Unsubscribe { room, session, answer } => self.unsubscribe(&room, session, answer, now),
            Command::Publish { caller, ticket, room, cmid, content, received, span } => {
                let Some(slot) = self.rooms.get_mut(&room) else {
                    let refused = Answer::Refused(not_found());
                    caller.mailbox.answer(ticket, refused);
                    return;
                };
                slot.room.handle_publish(caller.session, ticket, cmid, content);
                self.perform(&room, Some(&Origin { mailbox: &caller.mailbox, received, span: &span }));
            }
            Command::Status { room, session, status } => {
                self.tell(&room, |room| room.handle_status(session, status, now));
            }
            Command::Marked { room, user, delivered_seq, read_seq } => {
                self.tell(&room, |room| room.handle_marked(&user, delivered_seq, read_seq, now));
            }
            Command::Changed { row, notes } => {
                self.tell(&row.id.clone(), |room| room.handle_changed(&row, notes, now));
            }
            Command::Ended { row, ended } => {
                // A room that nobody had loaded remembers it too: somebody may be on the way in.
                self.slot(&row);
                self.tell(&row.id.clone(), |room| room.handle_ended(&ended, now));
            }
            Command::Doubt { room } => self.look(&room),
            Command::Row(row) => self.tell(&row.id.clone(), |room| room.handle_row(&row, now)),
            Command::Typing { room, session, active } => {
                self.tell(&room, |room| room.handle_typing(session, active));
            }
            Command::TypingElsewhere { room, user, active } => {
                if let Some(slot) = self.rooms.get_mut(&room) {
                    let typing = TypingChanged { room: String::from(&room), user: String::from(&user), active };
                    let frame = Encoded::push(push::Event::TypingChanged(typing));
                    slot.listeners.hand_out(Content::Volatile { frame, except: None });
                    self.keep_serving(&room);
                }
            }
            Command::Here { room, user, reply } => {
                let here = self.rooms.get(&room).map_or_else(Here::default, |slot| Here {
                    present: u32::try_from(slot.room.users().count()).unwrap_or(u32::MAX),
                    user: user.is_some_and(|user| slot.room.users().any(|here| *here == user)),
                });
                let _gone = reply.send(here);
            }
            Command::Announced { room, message } => {
                self.tell(&room, |room| room.handle_committed(message));
            }
            Command::Resync => {
                for room in self.rooms.keys().cloned().collect::<Vec<_>>() {
                    self.look(&room);
                }
            }
        }
    }

    /// The room, loaded from now on.
    fn slot(&mut self, row: &RoomRow) -> &mut Slot {
        let slot = self.rooms.entry(row.id.clone()).or_insert_with(|| {
            declared::rooms_loaded().increment(1.0);
            Slot {
                room: Room::new(row.clone()),
                listeners: Listeners::default(),
                appending: 0,
                looking: false,
                idle_since: None,
            }
        });
        slot.idle_since = None;
        slot
    }

    /// Tells a room that is loaded here; of others the store knows.
    fn tell(&mut self, id: &RoomId, what: impl FnOnce(&mut Room)) {
        if let Some(slot) = self.rooms.get_mut(id) {
            what(&mut slot.room);
            self.perform(id, None);
        }
    }

    fn subscribe(&mut self, caller: &Caller, ticket: Ticket, row: &RoomRow, member: &MemberRow, now: Timestamp) {
        if caller.mailbox.is_closed() {
            return;
        }
        let slot = self.slot(row);
        if slot.listeners.insert(caller.session, Arc::clone(&caller.mailbox)) {
            declared::subscriptions().increment(1.0);
        }
        slot.room.handle_row(row, now);
        slot.room.handle_subscribe(caller.session, &caller.user, row, member, ticket, now);
        if !slot.room.has(caller.session) {
            slot.listeners.remove(caller.session);
            declared::subscriptions().decrement(1.0);
        }
        let span = tracing::Span::none();
        self.perform(&row.id, Some(&Origin { mailbox: &caller.mailbox, received: Instant::now(), span: &span }));
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
            if slot.listeners.remove(session).is_some() {
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
                let Publishing { room, session, mailbox, ticket, cmid, received, span } = *publish;
                let Some(slot) = self.rooms.get_mut(&room) else { return };
                slot.appending -= 1;
                let doubtful = appended == Appended::Unavailable;
                let _publish = span.enter();
                let _fanout = tracing::debug_span!("fan-out", listeners = slot.listeners.len()).entered();
                let committed = Instant::now();
                slot.room.handle_appended(session, ticket, &cmid, appended);
                self.perform(&room, Some(&Origin { mailbox: &mailbox, received, span: &span }));
                self.meters.fanout.record(committed.elapsed());
                if doubtful {
                    self.doubt(&room);
                }
            }
            Done::Stored { room, message } => {
                announce(self.node, self.bus.as_ref(), message.clone());
                let author = UserId::parse(&message.author).ok().filter(|_| message.change.is_none());
                let seq = message.seq;
                self.tell(&room, |room| {
                    room.handle_committed(message);
                    if let Some(author) = author {
                        room.handle_marked(&author, seq, seq, now);
                    }
                });
            }
            Done::Fetched { room, messages } => {
                if let Some(slot) = self.rooms.get_mut(&room) {
                    slot.room.handle_fetched(messages, now);
                    self.perform(&room, None);
                }
            }
            Done::Looked { row, gone } => {
                if let Some(slot) = self.rooms.get_mut(&row.id) {
                    slot.looking = false;
                }
                self.tell(&row.id.clone(), |room| {
                    room.handle_row(&row, now);
                    for user in gone {
                        let evicted = RoomEvicted::default();
                        room.handle_ended(&Ended { user, evicted, revision: row.revision + 1 }, now);
                    }
                });
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
            if !slot.room.is_idle() || slot.appending > 0 || slot.listeners.is_busy() {
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
                Output::Answer { session, ticket, answer } => match (origin, slot.listeners.get(session)) {
                    (Some(origin), _) => origin.mailbox.answer(ticket, answer),
                    (None, Some(mailbox)) => mailbox.answer(ticket, answer),
                    (None, None) => {}
                },
                Output::Deliver(entry) => {
                    crash::point("before_fan_out");
                    let delivery = Delivery { room: id.clone(), entry, committed: Instant::now() };
                    slot.listeners.hand_out(Content::Delivery(delivery));
                }
                Output::Volatile { frame, except } => {
                    self.meters.typing.increment(1);
                    slot.listeners.hand_out(Content::Volatile { frame, except: Some(except) });
                }
                Output::Notice { frame } => slot.listeners.hand_out(Content::Notice(id.clone(), frame)),
                Output::Evict { session, evicted } => {
                    if let Some(mailbox) = slot.listeners.remove(session) {
                        declared::subscriptions().decrement(1.0);
                        declared::evicted_total(convert::sanction(&evicted)).increment(1);
                        mailbox.evict(id, evicted);
                    }
                }
                Output::Announce(message) => announce(self.node, self.bus.as_ref(), message),
                Output::Fetch { after, limit } => fetch = Some((after, limit)),
                Output::Append { session, ticket, author, cmid, content } => {
                    let Some(origin) = origin else { unreachable!("only a publish appends") };
                    let at_ms = self.clock.now().as_millis();
                    let author = author.into();
                    let write = Write::Append { room: id.clone(), author, cmid: cmid.clone(), content, at_ms };
                    let publish = Box::new(Publishing {
                        room: id.clone(),
                        session,
                        mailbox: Arc::clone(origin.mailbox),
                        ticket: ticket.clone(),
                        cmid,
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
        self.keep_serving(id);
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

    /// A large room that has something to hand out gets its turn.
    fn keep_serving(&mut self, room: &RoomId) {
        if self.rooms.get(room).is_some_and(|slot| slot.listeners.is_busy()) && !self.busy.contains(room) {
            self.busy.push_back(room.clone());
        }
    }

    fn fetch(&self, room: RoomId, after: u64, limit: u32) {
        let Some(slot) = self.rooms.get(&room) else { return };
        let (store, results, epoch) = (Arc::clone(&self.store), self.results.clone(), slot.room.epoch());
        self.tasks.spawn("room-fetch", async move {
            let read = store.entries(&room, epoch, View::Everything, Anchor::After(after), limit, None);
            let messages = match read.await {
                Ok(records) => Some(records.into_iter().map(convert::message).collect()),
                Err(error) => {
                    tracing::error!(%error, room = room.as_str(), "a room could not read what it missed");
                    None
                }
            };
            let _stopped = results.send(Done::Fetched { room, messages }).await;
        });
    }

    /// A write of the room was not answered: this node looks what has become of it, and the others are told to.
    fn doubt(&mut self, room: &RoomId) {
        let event = Announced::Doubt { room: room.clone() };
        self.bus.publish(Announcement { node: self.node, event });
        self.look(room);
    }

    /// Asks the store how the room is and whether those who are here are members still, until it answers.
    fn look(&mut self, room: &RoomId) {
        let Some(slot) = self.rooms.get_mut(room).filter(|slot| !slot.looking) else { return };
        slot.looking = true;
        let users: Vec<UserId> = slot.room.users().cloned().collect();
        let (store, results, room, stop) =
            (Arc::clone(&self.store), self.results.clone(), room.clone(), self.tasks.token());
        self.tasks.spawn("room-look", async move {
            loop {
                match look_at(store.as_ref(), &room, &users).await {
                    Ok(Some((row, gone))) => {
                        let _stopped = results.send(Done::Looked { row: Box::new(row), gone }).await;
                        return;
                    }
                    Ok(None) => return,
                    Err(error) => tracing::warn!(%error, room = room.as_str(), "a room asks the store again"),
                }
                if stop.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await.is_none() {
                    return;
                }
            }
        });
    }
}

/// The room, and which of the users are no members of it any more. The room is read first: who has gone after that had
/// been let in at its revision or before, and who is let in later stays.
async fn look_at(
    store: &dyn Store,
    room: &RoomId,
    users: &[UserId],
) -> Result<Option<(RoomRow, Vec<UserId>)>, StoreError> {
    let Some(row) = store.room(room).await? else { return Ok(None) };
    let members = store.members_of(room, users).await?;
    let is_member = |user: &UserId| members.iter().any(|(of, member)| of == user && member.joined.is_some());
    let gone = users.iter().filter(|user| !is_member(user)).cloned().collect();
    Ok(Some((row, gone)))
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
