//! The rooms of this node. Sessions ask; workers own the rooms and drive their state machines; the store's writer commits.
//!
//! Each worker owns the rooms that hash to it, so a room is never locked. What needs the database waits outside of the
//! workers: membership goes through the writer, pages are read by tasks of a bounded number.

mod convert;
pub mod mailbox;
#[cfg(test)]
mod tests;
mod worker;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, broadcast};
use veza_engine::room::unavailable;
use veza_engine::session::not_found;
use veza_engine::{Answer, Ask, Page, SessionKey, Ticket};
use veza_proto::v1::{Error, ErrorCode, RoomList};
use veza_proto::{RoomId, UserId};

use crate::bus::{Announced, Bus};
use crate::clock::Clock;
use crate::store::{Anchor, Busy, Store, StoreError, Write, WriteError, WriterHandle, Written};
use crate::tasks::Tasks;
use mailbox::Mailbox;
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
    clock: Clock,
    tasks: Tasks,
}

/// Who asks, and where the answers go.
#[derive(Debug, Clone)]
pub struct Caller {
    pub session: SessionKey,
    pub user: UserId,
    pub mailbox: Arc<Mailbox>,
}

impl Hub {
    /// Starts `workers` workers and the listener of the bus.
    pub fn start(
        store: Arc<dyn Store>,
        writer: WriterHandle,
        bus: Arc<dyn Bus>,
        workers: usize,
        clock: Clock,
        tasks: &Tasks,
    ) -> Self {
        let node = rand::random();
        let worker = |_| worker::start(node, Arc::clone(&store), writer.clone(), Arc::clone(&bus), clock, tasks);
        let workers = (0..workers.max(1)).map(worker).collect();
        let shared = Shared { store, writer, workers, reads: Semaphore::new(READS_MAX), clock, tasks: tasks.clone() };
        let hub = Self { shared: Arc::new(shared) };
        tasks.spawn("bus-listener", hub.clone().listen(node, bus, tasks.clone()));
        hub
    }

    /// Takes an ask; its answer comes into the caller's mailbox.
    pub fn ask(&self, caller: &Caller, ticket: Ticket, ask: Ask) {
        match ask {
            Ask::CreateRoom { room, title } => self.create(caller, ticket, room, title),
            Ask::Join { room } => self.join(caller, ticket, room),
            Ask::Leave { room } => self.leave(caller, ticket, room),
            Ask::Subscribe { room } => self.read(caller, ticket, "member", move |hub, caller, ticket| async move {
                hub.subscribe_member(caller, ticket, room).await
            }),
            Ask::Unsubscribe { room } => self.unsubscribe(caller, ticket, room, Answer::Unsubscribed),
            Ask::ListRooms { mine, after, limit } => {
                self.read(caller, ticket, "rooms", move |hub, caller, _| async move {
                    hub.list(mine.then_some(&caller.user), after.as_deref(), limit).await.map(Some)
                });
            }
            Ask::Publish { room, cmid, body } => {
                let received = Instant::now();
                let span = tracing::debug_span!("publish", room = room.as_str(), bytes = body.len());
                let command = Command::Publish {
                    caller: caller.clone(),
                    ticket: ticket.clone(),
                    room: room.clone(),
                    cmid,
                    body,
                    received,
                    span,
                };
                self.send(&room, command, caller, ticket);
            }
            Ask::Typing { room, active } => {
                let _volatile = self.worker(&room).send(Command::Typing { room, session: caller.session, active });
            }
            Ask::ReadAfter { room, after, limit } => {
                self.read(caller, ticket, "messages", move |hub, _, _| async move {
                    hub.page(room, Anchor::After(after), limit).await.map(Some)
                });
            }
            Ask::ReadBefore { room, before, limit } => {
                self.read(caller, ticket, "messages", move |hub, _, _| async move {
                    hub.page(room, Anchor::Before(before), limit).await.map(Some)
                });
            }
        }
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
    pub async fn ensure_room(&self, room: RoomId, title: &str, creator: UserId) -> Result<(), StoreError> {
        let at_ms = self.shared.clock.now().as_millis();
        let leave = Write::RemoveMember { room: room.clone(), user: creator.clone() };
        let create = Write::CreateRoom { room, title: title.to_owned(), creator, at_ms };
        self.shared.store.commit(&[create, leave]).await.map(|_| ())
    }

    fn create(&self, caller: &Caller, ticket: Ticket, room: RoomId, title: String) {
        let at_ms = self.shared.clock.now().as_millis();
        let write = Write::CreateRoom { room, title, creator: caller.user.clone(), at_ms };
        self.write(caller, ticket, write, |written| {
            let Written::RoomCreated(room) = written else {
                let error = Error::permanent(ErrorCode::AlreadyExists, "there is a room with this id");
                return Some(Answer::Refused(error));
            };
            Some(Answer::Created(convert::room(room)))
        });
    }

    /// Membership first, durably; then the subscription.
    fn join(&self, caller: &Caller, ticket: Ticket, room: RoomId) {
        let at_ms = self.shared.clock.now().as_millis();
        let write = Write::AddMember { room: room.clone(), user: caller.user.clone(), at_ms };
        let (hub, subscriber, subscription) = (self.clone(), caller.clone(), ticket.clone());
        self.write(caller, ticket, write, move |written| {
            let Written::MemberAdded { room, .. } = written else { return Some(Answer::Refused(not_found())) };
            hub.subscribe(subscriber, subscription, convert::facts(room));
            None
        });
    }

    fn leave(&self, caller: &Caller, ticket: Ticket, room: RoomId) {
        let write = Write::RemoveMember { room: room.clone(), user: caller.user.clone() };
        let (hub, leaver, leaving) = (self.clone(), caller.clone(), ticket.clone());
        self.write(caller, ticket, write, move |written| {
            if written != (Written::MemberRemoved { was_member: true }) {
                return Some(Answer::Refused(not_found()));
            }
            hub.unsubscribe(&leaver, leaving, room, Answer::Left);
            None
        });
    }

    fn unsubscribe(&self, caller: &Caller, ticket: Ticket, room: RoomId, answer: Answer) {
        let answer = Some((Arc::clone(&caller.mailbox), ticket, answer));
        self.worker(&room).send_surely(Command::Unsubscribe { room: room.clone(), session: caller.session, answer });
    }

    fn subscribe(&self, caller: Caller, ticket: Ticket, facts: veza_engine::room::Facts) {
        let room = facts.id.clone();
        self.worker(&room).send_surely(Command::Subscribe { caller, ticket, facts: Box::new(facts) });
    }

    async fn subscribe_member(
        self,
        caller: Caller,
        ticket: Ticket,
        room: RoomId,
    ) -> Result<Option<Answer>, StoreError> {
        let store = &self.shared.store;
        if !store.is_member(&room, &caller.user).await? {
            return Ok(Some(Answer::Refused(not_found())));
        }
        let Some(record) = store.room(&room).await? else { return Ok(Some(Answer::Refused(not_found()))) };
        self.subscribe(caller, ticket, convert::facts(record));
        Ok(None)
    }

    async fn list(&self, member: Option<&UserId>, after: Option<&str>, limit: u32) -> Result<Answer, StoreError> {
        let mut rooms = self.shared.store.rooms(member, after, limit + 1).await?;
        let more = rooms.len() > limit as usize;
        rooms.truncate(limit as usize);
        let next = rooms.last().filter(|_| more).map(|room| room.id.as_str().to_owned()).unwrap_or_default();
        Ok(Answer::Listed(RoomList { rooms: rooms.into_iter().map(convert::room).collect(), next }))
    }

    async fn page(&self, room: RoomId, anchor: Anchor, limit: u32) -> Result<Answer, StoreError> {
        let store = &self.shared.store;
        let Some(record) = store.room(&room).await? else { return Ok(Answer::Refused(not_found())) };
        let messages = store.messages(&room, record.epoch, anchor, limit).await?;
        let newest = messages.last().map_or(0, |message| message.seq);
        Ok(Answer::Page(Box::new(Page {
            room,
            epoch: record.epoch,
            head: record.head.max(newest),
            first_available: record.first_available,
            messages: messages.into_iter().map(convert::message).collect(),
        })))
    }

    /// Hands a write to the writer; `answer` turns what was written into the answer, or takes care of it itself.
    fn write(
        &self,
        caller: &Caller,
        ticket: Ticket,
        write: Write,
        answer: impl FnOnce(Written) -> Option<Answer> + Send + 'static,
    ) {
        let (mailbox, reply_ticket) = (Arc::clone(&caller.mailbox), ticket.clone());
        let reply = move |written: Result<Written, WriteError>| {
            let answered = match written {
                Ok(written) => answer(written),
                Err(error) => Some(Answer::Refused(convert::write_error(&error))),
            };
            if let Some(answered) = answered {
                mailbox.answer(reply_ticket, answered);
            }
        };
        if let Err(Busy) = self.shared.writer.try_submit(write, Box::new(reply)) {
            caller.mailbox.answer(ticket, Answer::Refused(unavailable()));
        }
    }

    /// Runs a read in a task of its own. `None` means that the answer comes from elsewhere.
    fn read<F, R>(&self, caller: &Caller, ticket: Ticket, kind: &'static str, read: F)
    where
        F: FnOnce(Hub, Caller, Ticket) -> R + Send + 'static,
        R: Future<Output = Result<Option<Answer>, StoreError>> + Send,
    {
        let (hub, caller) = (self.clone(), caller.clone());
        self.shared.tasks.spawn("store-read", async move {
            let Ok(_turn) = hub.shared.reads.acquire().await else { return };
            match read(hub.clone(), caller.clone(), ticket.clone()).await {
                Ok(Some(answer)) => caller.mailbox.answer(ticket, answer),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(kind, %error, "a read from the store failed");
                    caller.mailbox.answer(ticket, Answer::Refused(unavailable()));
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
    async fn listen(self, node: u64, bus: Arc<dyn Bus>, tasks: Tasks) {
        let mut announcements = bus.subscribe();
        let stop = tasks.token();
        while let Some(announced) = stop.run_until_cancelled(announcements.recv()).await {
            match announced {
                Ok(announcement) if announcement.node == node => {}
                Ok(announcement) => match announcement.event {
                    Announced::Message(message) => {
                        if let Ok(room) = RoomId::parse(&message.room) {
                            self.worker(&room).send_surely(Command::Announced { room, message });
                        }
                    }
                    Announced::Typing { room, user, active } => {
                        let _volatile = self.worker(&room).send(Command::TypingElsewhere { room, user, active });
                    }
                },
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
}
