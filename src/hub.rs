//! The rooms of this node. Sessions ask, and so do calls of the platform's backend; workers own the rooms and drive their state machines; the store's writer commits.
//!
//! Each worker owns the rooms that hash to it, so a room is never locked. What needs the database waits outside of the
//! workers: writes that are no log entries of an author go through the writer, reads are done by tasks of a bounded number.

mod asker;
mod calls;
mod convert;
mod direct;
mod fanout;
mod guard;
pub mod mailbox;
mod quotas;
mod reads;
mod retention;
#[cfg(test)]
mod tests;
mod worker;
mod writes;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, broadcast};
use veza_engine::ledger::{MemberRow, RoomRow, Settings, Write, not_found};
use veza_engine::room::unavailable;
use veza_engine::{Answer, Ask, SessionKey, Ticket};
use veza_proto::v1::{Error, RoomKind};
use veza_proto::{RoomId, UserId};

use crate::authz::Authz;
use crate::bus::{Announced, Bus};
use crate::clock::Clock;
use crate::store::{Store, StoreError, WriterHandle};
use crate::tasks::Tasks;
use crate::telemetry::metrics as declared;
use asker::Asker;
pub use calls::Call;
use guard::Guarded;
use mailbox::Mailbox;
use quotas::Quotas;
pub use quotas::UserRate;
use worker::{Command, WorkerHandle};

/// Reads from the store that may run at once; more wait their turn.
const READS_MAX: usize = 64;

/// The way to the rooms. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    writer: WriterHandle,
    workers: Vec<WorkerHandle>,
    reads: Semaphore,
    quotas: Quotas,
    guarded: Guarded,
    bus: Arc<dyn Bus>,
    node: u64,
    clock: Clock,
    tasks: Tasks,
}

/// What stands before what users say: how much, and the platform.
#[derive(Clone)]
pub struct Guards {
    pub rate: UserRate,
    pub authz: Authz,
}

/// Who asks, and where the answers go.
#[derive(Debug, Clone)]
pub struct Caller {
    pub session: SessionKey,
    pub user: UserId,
    /// What the user's token says of premium rooms.
    pub entitlements: Arc<[String]>,
    pub mailbox: Arc<Mailbox>,
}

impl Hub {
    /// Starts `workers` workers, the listener of the bus and the retention.
    pub fn start(
        store: Arc<dyn Store>,
        writer: WriterHandle,
        bus: Arc<dyn Bus>,
        workers: usize,
        guards: Guards,
        clock: Clock,
        tasks: &Tasks,
    ) -> Self {
        let node = rand::random();
        let worker = |_| worker::start(node, Arc::clone(&store), writer.clone(), Arc::clone(&bus), clock, tasks);
        let workers = (0..workers.max(1)).map(worker).collect();
        let shared = Shared {
            store,
            writer,
            workers,
            reads: Semaphore::new(READS_MAX),
            quotas: Quotas::new(guards.rate),
            guarded: Guarded::by(guards.authz),
            bus: Arc::clone(&bus),
            node,
            clock,
            tasks: tasks.clone(),
        };
        let hub = Self { shared: Arc::new(shared) };
        tasks.spawn("bus-listener", hub.clone().listen(bus, tasks.clone()));
        tasks.spawn("retention", hub.clone().keep_retention(tasks.clone()));
        hub
    }

    /// What tells this node from others, new with every start.
    pub fn node(&self) -> u64 {
        self.shared.node
    }

    /// Takes an ask; its answer comes into the caller's mailbox.
    pub fn ask(&self, caller: &Caller, ticket: Ticket, ask: Ask) {
        if let Ask::Append { .. } = &ask
            && let Err(error) = self.within_rate(&caller.user)
        {
            caller.mailbox.answer(ticket, Answer::Refused(error));
        } else if self.shared.guarded.is_asked() {
            self.guard(caller, ticket, ask);
        } else {
            self.carry_out(caller, ticket, ask);
        }
    }

    /// Does what was asked for.
    fn carry_out(&self, caller: &Caller, ticket: Ticket, ask: Ask) {
        match ask {
            Ask::Join { room, invite } => self.join(caller, ticket, room, invite),
            Ask::Leave { room } => self.leave(caller, ticket, room),
            Ask::Subscribe { room } => {
                let (asker, subscriber) = (caller.asker(&ticket), caller.clone());
                self.read(asker, "member", move |hub, _| async move {
                    hub.subscribe_member(subscriber, ticket, room).await
                });
            }
            Ask::Unsubscribe { room } => {
                let answer = Some((Arc::clone(&caller.mailbox), ticket, Answer::Unsubscribed));
                let session = caller.session;
                self.worker(&room).send_surely(Command::Unsubscribe { room: room.clone(), session, answer });
            }
            Ask::Append { room, cmid, content } => {
                let received = Instant::now();
                let span = tracing::debug_span!("publish", room = room.as_str(), bytes = content.len());
                let command = Command::Publish {
                    caller: caller.clone(),
                    ticket: ticket.clone(),
                    room: room.clone(),
                    cmid,
                    content,
                    received,
                    span,
                };
                self.send(&room, command, caller, ticket);
            }
            Ask::Typing { room, active } => {
                let _volatile = self.worker(&room).send(Command::Typing { room, session: caller.session, active });
            }
            Ask::Status { room, status } => {
                self.worker(&room).send_surely(Command::Status { room: room.clone(), session: caller.session, status });
            }
            Ask::Write(_)
            | Ask::OpenDirect { .. }
            | Ask::Invite { .. }
            | Ask::Mark { .. }
            | Ask::Read { .. }
            | Ask::ListRooms { .. }
            | Ask::ListMembers { .. }
            | Ask::ListInvites { .. }
            | Ask::ListAudit { .. }
            | Ask::ListRevisions { .. }
            | Ask::ListReactions { .. }
            | Ask::ListPins { .. }
            | Ask::ListUnread { .. }
            | Ask::Search { .. } => self.settle(caller.asker(&ticket), ask),
        }
    }

    /// What is the same for sessions and for calls: reads, and writes that are no entries of an author.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest was taken before, by whom it concerns")]
    fn settle(&self, asker: Asker, ask: Ask) {
        match ask {
            Ask::Write(write) => self.write_as_asked(asker, *write),
            Ask::OpenDirect { user } => self.open_direct(asker, user),
            Ask::Invite { room, user, uses_max, seconds } => self.invite(asker, room, user, uses_max, seconds),
            Ask::Mark { room, delivered_seq, read_seq } => self.mark(asker, room, delivered_seq, read_seq),
            read => self.read(asker, reads::kind(&read), move |hub, asker| async move {
                hub.look_up(&asker, read).await.map(Some)
            }),
        }
    }

    /// Takes one from what a user may say.
    pub fn within_rate(&self, user: &UserId) -> Result<(), Error> {
        self.shared.quotas.take(user, self.shared.clock.now()).inspect_err(|_| {
            declared::user_rate_refused_total().increment(1);
        })
    }

    /// The session has ended: it leaves the rooms it was subscribed to, and none that it asked for lets it in any more.
    pub fn forget<'a>(&self, session: SessionKey, mailbox: &Mailbox, rooms: impl Iterator<Item = &'a RoomId>) {
        mailbox.close();
        for room in rooms {
            self.worker(room).send_surely(Command::Unsubscribe { room: room.clone(), session, answer: None });
        }
    }

    /// Creates a room that the server itself wants to be there. Nobody is its member yet.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn ensure_room(&self, room: RoomId, title: &str) -> Result<(), StoreError> {
        let (kind, at_ms) = (RoomKind::Public, self.shared.clock.now().as_millis());
        let (title, topic, settings) = (title.to_owned(), String::new(), Settings::of(kind));
        let create = Write::CreateRoom { room, title, topic, kind, settings, creator: None, at_ms };
        self.shared.store.commit(&[create]).await.map(|_| ())
    }

    fn subscribe(&self, caller: Caller, ticket: Ticket, row: RoomRow, member: MemberRow) {
        let room = row.id.clone();
        let command = Command::Subscribe { caller, ticket, row: Box::new(row), member: Box::new(member) };
        self.worker(&room).send_surely(command);
    }

    async fn subscribe_member(
        self,
        caller: Caller,
        ticket: Ticket,
        room: RoomId,
    ) -> Result<Option<Answer>, StoreError> {
        match self.shared.store.membership(&room, &caller.user).await? {
            Some((row, Some(member))) if member.joined.is_some() => {
                self.subscribe(caller, ticket, row, member);
                Ok(None)
            }
            Some((row, Some(outsider))) => {
                let refusal = outsider.outside(&row, self.shared.clock.now().as_millis());
                Ok(Some(Answer::Refused(refusal.to_error())))
            }
            Some((_, None)) | None => Ok(Some(Answer::Refused(not_found()))),
        }
    }

    /// Runs a read in a task of its own. `None` means that the answer comes from elsewhere.
    fn read<F, R>(&self, asker: Asker, kind: &'static str, read: F)
    where
        F: FnOnce(Hub, Asker) -> R + Send + 'static,
        R: Future<Output = Result<Option<Answer>, StoreError>> + Send,
    {
        let hub = self.clone();
        self.shared.tasks.spawn("store-read", async move {
            let Ok(_turn) = hub.shared.reads.acquire().await else { return };
            match read(hub.clone(), asker.clone()).await {
                Ok(Some(answer)) => asker.answer(answer),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(kind, %error, "a read from the store failed");
                    asker.answer(Answer::Refused(unavailable()));
                }
            }
        });
    }

    fn worker(&self, room: &RoomId) -> &WorkerHandle {
        let mut hasher = DefaultHasher::new();
        room.hash(&mut hasher);
        let at = hasher.finish() % self.shared.workers.len() as u64;
        &self.shared.workers[usize::try_from(at).unwrap_or(0)]
    }

    fn send(&self, room: &RoomId, command: Command, caller: &Caller, ticket: Ticket) {
        if self.worker(room).send(command).is_err() {
            caller.mailbox.answer(ticket, Answer::Refused(unavailable()));
        }
    }

    /// Passes on what other nodes committed. After a loss every room asks the store where it stands.
    async fn listen(self, bus: Arc<dyn Bus>, tasks: Tasks) {
        let mut announcements = bus.subscribe();
        let stop = tasks.token();
        while let Some(announced) = stop.run_until_cancelled(announcements.recv()).await {
            match announced {
                Ok(announcement) if announcement.node == self.shared.node => {}
                Ok(announcement) => self.heard(announcement.event),
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "the bus was faster than this node: every room asks the store");
                    for worker in &self.shared.workers {
                        worker.send_surely(Command::Resync);
                    }
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn heard(&self, event: Announced) {
        match event {
            Announced::Message(message) => {
                if let Ok(room) = RoomId::parse(&message.room) {
                    self.worker(&room).send_surely(Command::Announced { room, message });
                }
            }
            Announced::Changed(row) => {
                let room = row.id.clone();
                self.worker(&room).send_surely(Command::Changed { row, notes: Vec::new() });
            }
            Announced::Ended { row, ended } => {
                let room = row.id.clone();
                self.worker(&room).send_surely(Command::Ended { row, ended });
            }
            Announced::Doubt { room } => {
                self.worker(&room).send_surely(Command::Doubt { room: room.clone() });
            }
            Announced::Typing { room, user, active } => {
                let _volatile = self.worker(&room).send(Command::TypingElsewhere { room, user, active });
            }
        }
    }
}
