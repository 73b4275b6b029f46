//! The task behind a client: one pass of [`Engine::run`] per link.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use veza_proto::v1::client_frame::Command;
use veza_proto::v1::{
    self, JoinRoom, RefreshToken, Repair, RoomEvicted, RoomJoined, RoomResumed, push, reply, room_resumed,
};

use super::opening::Opening;
use super::status::Status;
use super::subscription::Subscription;
use super::{Config, Current, EntryReply, Request};
use crate::Transport;
use crate::connection::{Connection, Pushes};
use crate::error::{Error, passes_by_itself};
use crate::event::{Event, State};
use crate::outbox::{Outbox, Ticket};
use crate::race::Memory;
use crate::reconnect::{self, Next, backoff};
use crate::room::{RoomLog, Step};

/// Asking again what the server refused for now without saying when.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// A server that owes an answer and is silent for this long is asked for a sign of life. On QUIC a server that was killed says
/// nothing by itself; the one started in its place resets the connection when it hears from it.
const NUDGE_AFTER: Duration = Duration::from_secs(1);
/// A link that held this long was a good one: the back-off starts anew.
const GOOD_LINK: Duration = Duration::from_secs(5);
/// Beyond the announced heartbeat, a WebSocket server that is silent for this long is gone.
const SILENCE_GRACE: Duration = Duration::from_secs(15);
/// Hellos in a row that may be refused for their token.
const REFUSED_TOKENS_MAX: u32 = 3;

pub(super) struct Engine {
    config: Config,
    requests: mpsc::Receiver<Request>,
    events: mpsc::Sender<Event>,
    current: watch::Sender<Current>,
    rooms: BTreeMap<String, Subscription>,
    outbox: Outbox<EntryReply>,
    status: Status,
    /// No entry before this: the server asked for patience.
    paused_until: Option<Instant>,
    resume_token: String,
    last_token: String,
    refused_tokens: u32,
    attempt: u32,
    memory: Memory,
}

/// An answer from the link.
enum Done {
    Published(Ticket, Result<reply::Result, Error>),
    Joined(String, Result<reply::Result, Error>),
    Repaired(String, Repair, Result<reply::Result, Error>),
    Refreshed(Result<reply::Result, Error>),
    StatusSet(Result<reply::Result, Error>),
    Nudged,
}

type InFlight = FuturesUnordered<BoxFuture<'static, Done>>;

/// Why a pass ends.
enum Leave {
    /// The link ended or does not answer.
    Lost(Error),
    /// The server announced its going and the announced time has come.
    Moving,
    /// The owner said close, or dropped every handle.
    Closed(Option<oneshot::Sender<()>>),
}

impl Engine {
    pub(super) fn new(
        config: Config,
        requests: mpsc::Receiver<Request>,
        events: mpsc::Sender<Event>,
        current: watch::Sender<Current>,
    ) -> Self {
        Self {
            config,
            requests,
            events,
            current,
            rooms: BTreeMap::new(),
            outbox: Outbox::default(),
            status: Status::default(),
            paused_until: None,
            resume_token: String::new(),
            last_token: String::new(),
            refused_tokens: 0,
            attempt: 0,
            memory: Memory::default(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.tell(Event::State(State::Connecting)).await;
            let leave = match self.connect().await {
                Ok((connection, pushes)) => {
                    let since = Instant::now();
                    let leave = self.serve(connection, pushes).await;
                    if since.elapsed() >= GOOD_LINK {
                        self.attempt = 0;
                    }
                    leave
                }
                Err(leave) => leave,
            };
            let after = match leave {
                Leave::Closed(done) => {
                    self.close(None, "closed by its owner".into()).await;
                    if let Some(done) = done {
                        done.send(()).ok();
                    }
                    return;
                }
                Leave::Moving => Duration::ZERO,
                Leave::Lost(error) => {
                    let (not_before, why) = match self.judge(&error) {
                        Ok(not_before) => (not_before, error.to_string()),
                        Err(code) => return self.close(code, error.to_string()).await,
                    };
                    let after = not_before + backoff(self.attempt, rand::random());
                    self.attempt = self.attempt.saturating_add(1);
                    self.tell(Event::State(State::Reconnecting { after, why })).await;
                    after
                }
            };
            if let Err(done) = self.wait(after).await {
                self.close(None, "closed by its owner".into()).await;
                if let Some(done) = done {
                    done.send(()).ok();
                }
                return;
            }
        }
    }

    /// How long to wait at least, or the code to stop with.
    fn judge(&mut self, error: &Error) -> Result<Duration, Option<veza_proto::CloseCode>> {
        match reconnect::after(error) {
            Next::Retry { not_before } => Ok(not_before),
            Next::NewToken => {
                self.refused_tokens += 1;
                if self.refused_tokens >= REFUSED_TOKENS_MAX {
                    return Err(Some(veza_proto::CloseCode::Unauthenticated));
                }
                Ok(Duration::ZERO)
            }
            Next::Stop { code } => Err(code),
        }
    }

    /// One attempt. Requests are taken meanwhile.
    async fn connect(&mut self) -> Result<(Connection, Pushes), Leave> {
        let known = self.rooms.values().filter(|room| room.log.is_known());
        let opening = Opening {
            config: self.config.clone(),
            resume_token: self.resume_token.clone(),
            rooms: known.map(|room| room.log.cursor()).collect(),
            refused_token: (self.refused_tokens > 0).then(|| self.last_token.clone()),
            memory: self.memory,
        };
        let mut opening = Box::pin(opening.open());
        loop {
            let opened = tokio::select! {
                opened = &mut opening => opened,
                request = self.requests.recv() => match self.request(request) {
                    Ok(()) => continue,
                    Err(done) => return Err(Leave::Closed(done)),
                },
            };
            (self.memory, self.last_token) = (opened.memory, opened.token);
            if opened.link.is_ok() {
                self.refused_tokens = 0;
            }
            return opened.link.map_err(Leave::Lost);
        }
    }

    async fn wait(&mut self, delay: Duration) -> Result<(), Option<oneshot::Sender<()>>> {
        let mut until = std::pin::pin!(tokio::time::sleep(delay));
        loop {
            tokio::select! {
                () = &mut until => return Ok(()),
                request = self.requests.recv() => self.request(request)?,
            }
        }
    }

    /// Takes a request; the error is the owner's wish to close.
    fn request(&mut self, request: Option<Request>) -> Result<(), Option<oneshot::Sender<()>>> {
        match request {
            None => return Err(None),
            Some(Request::Close { done }) => return Err(Some(done)),
            Some(Request::Entry { entry, reply }) => self.outbox.push(entry, reply),
            Some(Request::Status { presence, reply }) => self.status.say(presence, reply),
            Some(Request::Forget { room }) => drop(self.rooms.remove(&room)),
            Some(Request::Join { room, delivery, invite, reply }) => {
                let fresh = || Subscription::new(RoomLog::new(room.clone(), delivery));
                let subscription = self.rooms.entry(room.clone()).or_insert_with(fresh);
                subscription.waiting.push(reply);
                subscription.invite = invite;
                // A room that is joined already is asked again: the caller wants its state, and the log takes the verdict.
                subscription.due = None;
            }
        }
        Ok(())
    }

    /// One link's life.
    async fn serve(&mut self, connection: Connection, mut pushes: Pushes) -> Leave {
        let welcome = connection.welcome().clone();
        self.resume_token.clone_from(&welcome.resume_token);
        self.outbox.again_all();
        self.status.begin_link();
        for room in self.rooms.values_mut() {
            room.begin_link();
        }
        self.tell(Event::State(State::Connected {
            transport: connection.transport(),
            user: welcome.user.clone(),
            resumed: welcome.resumed,
        }))
        .await;
        self.current.send_replace(Current::Link(connection.clone()));
        let leave = self.follow(&connection, &mut pushes, &welcome).await;
        self.current.send_replace(Current::None);
        if let Leave::Closed(Some(_)) = &leave {
            connection.bye().await;
        }
        for room in self.rooms.values_mut() {
            room.log.unsettle();
        }
        leave
    }

    async fn follow(&mut self, connection: &Connection, pushes: &mut Pushes, welcome: &v1::Welcome) -> Leave {
        let mut in_flight = InFlight::new();
        let (mut moving_at, mut nudged) = (None, Instant::now());
        let silence_max = (connection.transport() == Transport::WebSocket)
            .then(|| Duration::from_millis(welcome.heartbeat_ms.into()) + SILENCE_GRACE);
        loop {
            self.pump(connection, &in_flight);
            let silent_at = silence_max.map(|max| Instant::now() + max.saturating_sub(connection.silent_for()));
            let heard = Instant::now().checked_sub(connection.silent_for()).unwrap_or(nudged);
            let nudge_at = self.is_owed(&in_flight).then(|| heard.max(nudged) + NUDGE_AFTER);
            let due = self.due().into_iter().chain(moving_at).chain(silent_at).chain(nudge_at).min();
            let timer = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                push = pushes.next() => match push {
                    Ok(push::Event::Reconnect(drain)) => {
                        moving_at = Some(Instant::now() + Duration::from_millis(drain.after_ms.into()));
                    }
                    Ok(push::Event::TokenExpiring(_)) => in_flight.push(self.refresh(connection)),
                    Ok(push) => self.push(push).await,
                    Err(ended) => return Leave::Lost(Error::Ended(ended)),
                },
                Some(done) = in_flight.next() => {
                    if let Err(error) = self.done(done).await {
                        return Leave::Lost(error);
                    }
                }
                request = self.requests.recv() => {
                    if let Err(done) = self.request(request) {
                        return Leave::Closed(done);
                    }
                }
                () = timer => {
                    if moving_at.is_some_and(|at| at <= Instant::now()) {
                        return Leave::Moving;
                    }
                    if silence_max.is_some_and(|max| connection.silent_for() >= max) {
                        return Leave::Lost(Error::Timeout(connection.silent_for()));
                    }
                    if nudge_at.is_some_and(|at| at <= Instant::now()) {
                        nudged = Instant::now();
                        in_flight.push(nudge(connection.clone()));
                    }
                }
            }
        }
    }

    /// Whether the server has something to answer: a command, or where a room goes on.
    fn is_owed(&self, in_flight: &InFlight) -> bool {
        !in_flight.is_empty() || self.outbox.has_queued() || self.rooms.values().any(|room| !room.log.is_settled())
    }

    /// Starts everything that can be started now: joins, repairs, entries, the status.
    fn pump(&mut self, connection: &Connection, in_flight: &InFlight) {
        let now = Instant::now();
        for (id, room) in &mut self.rooms {
            if room.wants_join(now) {
                (room.joining, room.due) = (true, None);
                let join = JoinRoom {
                    room: id.clone(),
                    delivery: room.log.delivery().into(),
                    cursor: room.log.is_known().then(|| room.log.cursor()),
                    invite: room.invite.clone(),
                };
                let (connection, id) = (connection.clone(), id.clone());
                in_flight.push(Box::pin(async move {
                    let answer = connection.command(Command::JoinRoom(join)).await;
                    Done::Joined(id, answer)
                }));
            } else if let Some(repair) = room.wants_repair(now) {
                room.repairing = true;
                let (connection, id) = (connection.clone(), id.clone());
                in_flight.push(Box::pin(async move {
                    let answer = connection.command(Command::Repair(repair.clone())).await;
                    Done::Repaired(id, repair, answer)
                }));
            }
        }
        if let Some(presence) = self.status.send(now) {
            let connection = connection.clone();
            in_flight.push(Box::pin(async move {
                Done::StatusSet(connection.command(Command::SetPresence(presence)).await)
            }));
        }
        if self.paused_until.is_some_and(|until| until > now) {
            return;
        }
        self.paused_until = None;
        // Until its verdict a room is unknown to the new link, and an entry for it would be refused for good.
        let rooms = &self.rooms;
        let takes = |room: &str| rooms.get(room).is_none_or(|room| room.log.is_settled());
        while let Some((ticket, entry)) = self.outbox.send(takes) {
            let connection = connection.clone();
            in_flight.push(Box::pin(async move {
                let answer = connection.command(entry.into()).await;
                Done::Published(ticket, answer)
            }));
        }
    }

    fn due(&self) -> Option<Instant> {
        let paused = self.paused_until.filter(|_| self.outbox.has_queued());
        self.rooms.values().filter_map(|room| room.due).chain(paused).chain(self.status.due).min()
    }

    fn refresh(&self, connection: &Connection) -> BoxFuture<'static, Done> {
        let (source, connection) = (self.config.token.clone(), connection.clone());
        Box::pin(async move {
            let answer = match source.get().await {
                Ok(token) => connection.command(Command::RefreshToken(RefreshToken { token })).await,
                Err(error) => Err(error),
            };
            Done::Refreshed(answer)
        })
    }

    async fn push(&mut self, event: push::Event) {
        match event {
            push::Event::Message(delivered) => {
                let Some(message) = delivered.message else { return };
                let Some(room) = self.rooms.get_mut(&message.room) else { return };
                let steps = room.log.deliver(message);
                room.look(!steps.is_empty());
                self.show(steps).await;
            }
            push::Event::RoomResumed(RoomResumed { room, result }) => match result {
                Some(room_resumed::Result::Joined(joined)) => self.settle(&room, joined, true).await,
                Some(room_resumed::Result::Error(error)) => self.refused(&room, error).await,
                None => {}
            },
            push::Event::RoomHead(head) => {
                if let Some(room) = self.rooms.get_mut(&head.room) {
                    room.log.head(head.epoch, head.head);
                    room.look(false);
                }
            }
            push::Event::RoomLagging(lagging) => {
                if let Some(room) = self.rooms.get_mut(&lagging.room) {
                    room.log.lagging(lagging.epoch, lagging.last_delivered);
                    room.look(false);
                }
            }
            push::Event::RoomEvicted(evicted) => self.evicted(evicted).await,
            push::Event::RoomChanged(changed) => {
                if let Some(room) = changed.room {
                    self.tell(Event::RoomChanged(room)).await;
                }
            }
            push::Event::ReceiptsChanged(receipts) => self.tell(Event::Receipts(receipts)).await,
            push::Event::PresenceChanged(presence) => self.tell(Event::Presence(presence)).await,
            push::Event::TypingChanged(typing) => self.tell(Event::Typing(typing)).await,
            // The connection and the caller have taken these.
            push::Event::TokenExpiring(_) | push::Event::Reconnect(_) | push::Event::Closing(_) => {}
            // Live audio is asked of a connection, not of the client that keeps rooms.
            push::Event::StreamChanged(_) | push::Event::QualityChanged(_) | push::Event::IngestReport(_) => {}
        }
    }

    /// An answer that means the link itself is broken comes back as the error.
    async fn done(&mut self, done: Done) -> Result<(), Error> {
        match done {
            Done::Published(ticket, Ok(reply::Result::Published(published))) => {
                if let Some(reply) = self.outbox.finish(ticket) {
                    reply.send(Ok(published)).ok();
                }
            }
            Done::Published(ticket, answer) => match answer.err().unwrap_or(Error::Unexpected) {
                Error::Refused(refused) if passes_by_itself(&refused) => {
                    self.outbox.again(ticket);
                    let until = Instant::now() + patience(&refused);
                    self.paused_until = Some(self.paused_until.map_or(until, |paused| paused.max(until)));
                }
                error @ (Error::Ended(_) | Error::Timeout(_)) => return Err(error),
                error @ (Error::Refused(_)
                | Error::Unexpected
                | Error::Connect(_)
                | Error::Token(_)
                | Error::Closed) => {
                    if let Some(reply) = self.outbox.finish(ticket) {
                        reply.send(Err(error)).ok();
                    }
                }
            },
            Done::Joined(room, Ok(reply::Result::RoomJoined(joined))) => self.settle(&room, joined, false).await,
            Done::Joined(room, answer) => {
                let error = answer.err().unwrap_or(Error::Unexpected).refusal()?;
                self.refused(&room, error).await;
            }
            Done::Repaired(id, asked, Ok(reply::Result::Repaired(page))) => {
                let Some(room) = self.rooms.get_mut(&id) else { return Ok(()) };
                let steps = room.log.repaired(&asked, page);
                room.repairing = false;
                room.due = room.log.missing().map(|_| Instant::now());
                self.show(steps).await;
            }
            Done::Repaired(id, _, answer) => {
                let error = answer.err().unwrap_or(Error::Unexpected).refusal()?;
                let Some(room) = self.rooms.get_mut(&id) else { return Ok(()) };
                room.repairing = false;
                room.due = Some(Instant::now() + patience(&error));
                if !error.temporary {
                    // Only a new verdict can say where this room goes on.
                    room.log.unsettle();
                }
            }
            Done::StatusSet(Ok(reply::Result::PresenceSet(_))) => self.status.answered(&Ok(())),
            Done::StatusSet(answer) => {
                let error = answer.err().unwrap_or(Error::Unexpected).refusal()?;
                if passes_by_itself(&error) {
                    self.status.again(Instant::now() + patience(&error));
                } else {
                    self.status.answered(&Err(Error::Refused(error)));
                }
            }
            Done::Nudged => {}
            Done::Refreshed(answer) => {
                if let Err(error) = answer {
                    // The server will say when it has had enough of the old one.
                    tracing::info!(%error, "the token could not be refreshed");
                }
            }
        }
        Ok(())
    }

    async fn settle(&mut self, id: &str, joined: RoomJoined, resumed: bool) {
        let Some(room) = self.rooms.get_mut(id) else { return };
        let known = room.log.is_known();
        // A room that stands already keeps its place: a second join only asks for the room's state.
        let steps = if room.log.is_settled() { Vec::new() } else { room.log.settle(&joined) };
        room.joining = false;
        room.invite.clear();
        room.look(true);
        for waiting in room.waiting.drain(..) {
            waiting.send(Ok(joined.clone())).ok();
        }
        if known || resumed {
            let verdict = joined.verdict.unwrap_or_default();
            self.tell(Event::Resumed { room: id.to_owned(), verdict }).await;
        }
        self.show(steps).await;
    }

    async fn refused(&mut self, id: &str, error: v1::Error) {
        let Some(room) = self.rooms.get_mut(id) else { return };
        room.joining = false;
        if passes_by_itself(&error) {
            room.due = Some(Instant::now() + patience(&error));
            return;
        }
        let known = room.log.is_known();
        for waiting in room.waiting.drain(..) {
            waiting.send(Err(Error::Refused(error.clone()))).ok();
        }
        self.rooms.remove(id);
        if known {
            self.tell(Event::Left { room: id.to_owned(), error }).await;
        }
    }

    /// The log ends here. Whoever is just joining the room anew waits for that answer instead.
    async fn evicted(&mut self, evicted: RoomEvicted) {
        if let Some(room) = self.rooms.remove(&evicted.room)
            && !room.waiting.is_empty()
        {
            self.rooms.insert(evicted.room.clone(), room.anew());
        }
        self.tell(Event::Evicted(evicted)).await;
    }

    async fn show(&self, steps: Vec<Step>) {
        for step in steps {
            self.tell(match step {
                Step::Message(message) => Event::Message(message),
                Step::Hole(hole) => Event::Gap(hole),
            })
            .await;
        }
    }

    /// An owner that dropped its receiver wants no events.
    async fn tell(&self, event: Event) {
        self.events.send(event).await.ok();
    }

    async fn close(&mut self, code: Option<veza_proto::CloseCode>, reason: String) {
        self.requests.close();
        self.current.send_replace(Current::Closed);
        for waiting in self.outbox.drain() {
            waiting.send(Err(Error::Closed)).ok();
        }
        self.status.close();
        self.rooms.clear();
        self.tell(Event::State(State::Closed { code, reason })).await;
    }
}

fn nudge(connection: Connection) -> BoxFuture<'static, Done> {
    Box::pin(async move {
        // Nobody waits for the pong: hearing it is enough, and the link's end is noticed by its pushes.
        connection.tell(Command::Ping(v1::Ping::default())).await.ok();
        Done::Nudged
    })
}

fn patience(error: &v1::Error) -> Duration {
    if error.retry_after_ms == 0 { RETRY_AFTER } else { Duration::from_millis(error.retry_after_ms.into()) }
}
