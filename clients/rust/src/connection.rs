use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use veza_proto::v1::client_frame::Command;
use veza_proto::v1::{Bye, ClientFrame, Closing, Hello, Push, Reply, Welcome, push, reply, server_frame};
use veza_proto::{CloseCode, Format};

use crate::error::{Ended, Error};
use crate::link::streams::BulkOpener;
use crate::link::{Inbound, Lane, Link};
use crate::race::{self, Memory};
use crate::{Endpoints, Preference, Target, Transport};

/// Commands waiting for the link; more of them make their callers wait.
const REQUESTS: usize = 16;
/// Bytes the link may hold unsent before it takes no more commands.
const BUFFERED_BYTES_MAX: usize = 128 * 1024;
/// After a bye the server closes; after this long the client does.
const BYE_WITHIN: Duration = Duration::from_secs(1);

/// One session on one link: hello was said and answered. Cloning counts a reference; when the last is dropped the link
/// closes without a bye, so that the session can be resumed.
///
/// It never reconnects: [`crate::Client`] does. One task drives it, and while nothing happens no timer runs.
#[derive(Clone)]
pub struct Connection {
    requests: mpsc::Sender<Request>,
    shared: Arc<Shared>,
}

/// What the server says without being asked. Whoever asks commands must also read this (or drop it, which discards
/// everything): a full queue stops the link from being read, replies included, and the server sees a slow consumer.
pub struct Pushes {
    events: mpsc::Receiver<push::Event>,
    shared: Arc<Shared>,
}

/// How a [`Connection`] is opened.
#[derive(Debug, Clone)]
pub struct Options {
    pub preference: Preference,
    /// On WebSocket; streams always carry protobuf.
    pub format: Format,
    /// From the first packet to the welcome.
    pub open_within: Duration,
    /// From a command to its reply.
    pub reply_within: Duration,
    /// Pushes that wait to be read. Memory is taken as they come.
    pub pushes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            preference: Preference::Auto,
            format: Format::Proto,
            open_within: Duration::from_secs(15),
            reply_within: Duration::from_secs(15),
            pushes: 256,
        }
    }
}

struct Shared {
    welcome: Welcome,
    transport: Transport,
    bulk: Option<BulkOpener>,
    reply_within: Duration,
    opened: Instant,
    /// Milliseconds after `opened` at which the server was last heard.
    heard_ms: AtomicU64,
    ended: OnceLock<Ended>,
}

enum Request {
    Command { lane: Lane, command: Box<Command>, reply: Option<oneshot::Sender<Result<reply::Result, Error>>> },
    Bye,
}

impl Connection {
    /// Connects, says hello, and waits for the welcome.
    ///
    /// # Errors
    /// [`Error::Connect`] when no link can be made, [`Error::Refused`] when the server does not want this hello,
    /// [`Error::Ended`] or [`Error::Timeout`] when it does not answer.
    pub async fn open(
        endpoints: &Endpoints,
        target: &Target,
        hello: Hello,
        options: &Options,
    ) -> Result<(Self, Pushes), Error> {
        Self::open_remembering(endpoints, target, hello, options, &mut Memory::default()).await
    }

    pub(crate) async fn open_remembering(
        endpoints: &Endpoints,
        target: &Target,
        hello: Hello,
        options: &Options,
        memory: &mut Memory,
    ) -> Result<(Self, Pushes), Error> {
        let opening = async {
            let mut link = race::connect(endpoints, target, options.preference, options.format, memory).await?;
            let (welcome, early) = say_hello(&mut link, hello).await?;
            Ok::<_, Error>((link, welcome, early))
        };
        let opened = tokio::time::timeout(options.open_within, opening).await;
        let (link, welcome, early) = opened.map_err(|_| Error::Timeout(options.open_within))??;
        Ok(Self::start(link, welcome, early, options))
    }

    fn start(link: Link, welcome: Welcome, held: VecDeque<push::Event>, options: &Options) -> (Self, Pushes) {
        let (requests, received) = mpsc::channel(REQUESTS);
        let (pushes, events) = mpsc::channel(options.pushes.max(1));
        let shared = Arc::new(Shared {
            welcome,
            transport: link.transport(),
            bulk: link.bulk(),
            reply_within: options.reply_within,
            opened: Instant::now(),
            heard_ms: AtomicU64::new(0),
            ended: OnceLock::new(),
        });
        let driver = Driver {
            link,
            requests: received,
            pushes,
            held,
            waiting: BTreeMap::new(),
            next_id: HELLO_ID + 1,
            closing: None,
            shared: shared.clone(),
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with the last handle of its connection, or with the link"
        )]
        tokio::spawn(driver.run());
        (Self { requests, shared: shared.clone() }, Pushes { events, shared })
    }

    pub fn welcome(&self) -> &Welcome {
        &self.shared.welcome
    }

    pub fn transport(&self) -> Transport {
        self.shared.transport
    }

    /// How the link ended, once it has.
    pub fn ended(&self) -> Option<&Ended> {
        self.shared.ended.get()
    }

    /// How long the server has been silent. Pings count as words on WebSocket; QUIC watches over itself.
    pub fn silent_for(&self) -> Duration {
        let heard = Duration::from_millis(self.shared.heard_ms.load(Ordering::Relaxed));
        self.shared.opened.elapsed().saturating_sub(heard)
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Asks and waits for the answer, on the lane where the command belongs.
    ///
    /// # Errors
    /// [`Error::Refused`] with the server's error, [`Error::Ended`], [`Error::Timeout`].
    pub async fn command(&self, command: Command) -> Result<reply::Result, Error> {
        let within = self.shared.reply_within;
        tokio::time::timeout(within, self.ask(command)).await.unwrap_or(Err(Error::Timeout(within)))
    }

    /// Says without waiting for an answer: typing, which has none. Waits only for room in the queue.
    pub async fn tell(&self, command: Command) -> Result<(), Error> {
        let lane = lane_of(&command);
        self.request(Request::Command { lane, command: Box::new(command), reply: None }).await
    }

    /// Leaves for good: the session cannot be resumed. Waits until the link has ended, about a second at most.
    pub async fn bye(self) {
        // A link that has ended already needs no farewell.
        if self.request(Request::Bye).await.is_ok() {
            self.requests.closed().await;
        }
    }

    async fn ask(&self, command: Command) -> Result<reply::Result, Error> {
        if let (Command::History(_) | Command::ListRooms(_), Some(bulk)) = (&command, &self.shared.bulk) {
            let answer = bulk.ask(&ClientFrame { id: HELLO_ID, command: Some(command) }).await.map_err(Error::Ended)?;
            return match answer.frame {
                Some(server_frame::Frame::Reply(reply)) => result_of(reply),
                Some(server_frame::Frame::Push(_)) | None => Err(Error::Unexpected),
            };
        }
        let (reply, answered) = oneshot::channel();
        let lane = lane_of(&command);
        self.request(Request::Command { lane, command: Box::new(command), reply: Some(reply) }).await?;
        answered.await.unwrap_or_else(|_| Err(self.end()))
    }

    async fn request(&self, request: Request) -> Result<(), Error> {
        self.requests.send(request).await.map_err(|_| self.end())
    }

    fn end(&self) -> Error {
        Error::Ended(self.shared.end())
    }
}

impl Shared {
    fn end(&self) -> Ended {
        self.ended.get().cloned().unwrap_or_else(|| Ended::lost("the connection's task is gone"))
    }
}

impl Pushes {
    /// The next push in the order it came, or how the link ended.
    ///
    /// # Errors
    /// The end, when everything before it was read.
    pub async fn next(&mut self) -> Result<push::Event, Ended> {
        match self.events.recv().await {
            Some(event) => Ok(event),
            None => Err(self.shared.end()),
        }
    }
}

/// Publishes and repairs share the chat lane with the deliveries they belong to; the rest is control.
fn lane_of(command: &Command) -> Lane {
    match command {
        Command::Publish(_) | Command::Repair(_) => Lane::Chat,
        Command::Typing(_) => Lane::Datagram,
        Command::Hello(_)
        | Command::RefreshToken(_)
        | Command::Ping(_)
        | Command::Bye(_)
        | Command::CreateRoom(_)
        | Command::JoinRoom(_)
        | Command::LeaveRoom(_)
        | Command::ListRooms(_)
        | Command::History(_)
        | Command::Unsubscribe(_) => Lane::Control,
    }
}

const HELLO_ID: u32 = 1;

/// Waits for the welcome. Pushes of the other lanes may come before it and are kept.
async fn say_hello(link: &mut Link, hello: Hello) -> Result<(Welcome, VecDeque<push::Event>), Error> {
    link.start_send(Lane::Control, &ClientFrame { id: HELLO_ID, command: Some(Command::Hello(hello)) });
    let mut early = VecDeque::new();
    loop {
        match std::future::poll_fn(|cx| poll_link(link, cx, true)).await {
            Inbound::Frame(frame) => match frame.frame {
                Some(server_frame::Frame::Reply(reply)) => match result_of(reply) {
                    Ok(reply::Result::Welcome(welcome)) => return Ok((welcome, early)),
                    Ok(_) => return Err(Error::Unexpected),
                    Err(error) => {
                        link.close(CloseCode::Normal).await;
                        return Err(error);
                    }
                },
                Some(server_frame::Frame::Push(Push { event: Some(push::Event::Closing(closing)) })) => {
                    return Err(Error::Ended(ended_by(&closing)));
                }
                Some(server_frame::Frame::Push(Push { event: Some(event) })) => early.push_back(event),
                Some(server_frame::Frame::Push(Push { event: None })) | None => {}
            },
            Inbound::Alive => {}
            Inbound::Ended(ended) => return Err(Error::Ended(ended)),
        }
    }
}

fn result_of(reply: Reply) -> Result<reply::Result, Error> {
    match reply.result {
        Some(reply::Result::Error(error)) => Err(Error::Refused(error)),
        Some(result) => Ok(result),
        None => Err(Error::Unexpected),
    }
}

fn ended_by(closing: &Closing) -> Ended {
    Ended {
        retry_after: Duration::from_millis(closing.retry_after_ms.into()),
        ..Ended::closed(closing.code.into(), closing.reason.as_bytes())
    }
}

/// Writes what waits, then reads if there is room for what comes.
fn poll_link(link: &mut Link, cx: &mut std::task::Context<'_>, read: bool) -> Poll<Inbound> {
    let _written_or_waiting = link.poll_flush(cx);
    if !read {
        return Poll::Pending;
    }
    let inbound = link.poll_recv(cx);
    if inbound.is_pending() {
        // Reading may have queued something of its own (a pong).
        let _written_or_waiting = link.poll_flush(cx);
    }
    inbound
}

/// The task behind a connection.
struct Driver {
    link: Link,
    requests: mpsc::Receiver<Request>,
    pushes: mpsc::Sender<push::Event>,
    /// Pushes that found the queue full; while there are some nothing more is read.
    held: VecDeque<push::Event>,
    waiting: BTreeMap<u32, oneshot::Sender<Result<reply::Result, Error>>>,
    next_id: u32,
    /// The server's last words, which say more than the transport's close.
    closing: Option<Ended>,
    shared: Arc<Shared>,
}

enum Woken {
    Request(Option<Request>),
    Link(Inbound),
}

enum Leave {
    Ended(Ended),
    Bye,
    Dropped,
}

impl Driver {
    async fn run(mut self) {
        let leave = self.drive().await;
        let ended = match leave {
            Leave::Ended(ended) => ended,
            Leave::Bye => {
                let goodbye = ClientFrame { id: 0, command: Some(Command::Bye(Bye {})) };
                self.link.start_send(Lane::Control, &goodbye);
                let ended = tokio::time::timeout(BYE_WITHIN, self.until_end()).await;
                ended.unwrap_or_else(|_| Ended::lost("left"))
            }
            Leave::Dropped => Ended::lost("left"),
        };
        self.link.close(CloseCode::Normal).await;
        let ended = self.closing.take().unwrap_or(ended);
        tracing::debug!(%ended, transport = self.shared.transport.label(), "the connection ended");
        // Nobody else sets it.
        self.shared.ended.set(ended.clone()).ok();
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            waiting.send(Err(Error::Ended(ended.clone()))).ok();
        }
    }

    /// Woken by, in this order: room for a held push, a command, the link.
    async fn drive(&mut self) -> Leave {
        loop {
            let read = self.held.is_empty();
            let woken = tokio::select! {
                biased;
                permit = self.pushes.reserve(), if !read => {
                    match (permit, self.held.pop_front()) {
                        (Ok(permit), Some(event)) => permit.send(event),
                        // Nobody reads pushes: they are discarded.
                        (Err(_), _) => self.held.clear(),
                        (Ok(_), None) => {}
                    }
                    continue;
                }
                request = self.requests.recv(), if self.link.buffered() < BUFFERED_BYTES_MAX => Woken::Request(request),
                inbound = std::future::poll_fn(|cx| poll_link(&mut self.link, cx, read)) => Woken::Link(inbound),
            };
            match woken {
                Woken::Request(Some(Request::Command { lane, command, reply })) => self.send(lane, *command, reply),
                Woken::Request(Some(Request::Bye)) => return Leave::Bye,
                Woken::Request(None) => return Leave::Dropped,
                Woken::Link(inbound) => {
                    if let Some(ended) = self.take(inbound) {
                        return Leave::Ended(ended);
                    }
                }
            }
        }
    }

    async fn until_end(&mut self) -> Ended {
        loop {
            let inbound = std::future::poll_fn(|cx| poll_link(&mut self.link, cx, true)).await;
            self.held.clear();
            if let Some(ended) = self.take(inbound) {
                return ended;
            }
        }
    }

    fn send(&mut self, lane: Lane, command: Command, reply: Option<oneshot::Sender<Result<reply::Result, Error>>>) {
        let id = match reply {
            None => 0,
            Some(reply) => {
                let id = self.next_id;
                self.next_id = self.next_id.checked_add(1).unwrap_or(HELLO_ID + 1);
                // Callers that gave up waiting leave their entry behind until its reply comes, or until here.
                if self.waiting.len() >= 256 {
                    self.waiting.retain(|_, waiting| !waiting.is_closed());
                }
                self.waiting.insert(id, reply);
                id
            }
        };
        self.link.start_send(lane, &ClientFrame { id, command: Some(command) });
    }

    fn take(&mut self, inbound: Inbound) -> Option<Ended> {
        let heard = u64::try_from(self.shared.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.heard_ms.store(heard, Ordering::Relaxed);
        match inbound {
            Inbound::Alive => {}
            Inbound::Ended(ended) => return Some(ended),
            Inbound::Frame(frame) => match frame.frame {
                Some(server_frame::Frame::Reply(reply)) => self.answer(reply),
                Some(server_frame::Frame::Push(Push { event: Some(event) })) => self.push(event),
                Some(server_frame::Frame::Push(Push { event: None })) | None => {}
            },
        }
        None
    }

    fn answer(&mut self, reply: Reply) {
        match self.waiting.remove(&reply.id) {
            // A caller that gave up does not want it.
            Some(waiting) => drop(waiting.send(result_of(reply))),
            None => tracing::debug!(id = reply.id, "a reply that nobody waits for"),
        }
    }

    fn push(&mut self, event: push::Event) {
        if let push::Event::Closing(closing) = &event {
            self.closing = Some(ended_by(closing));
            return;
        }
        match self.pushes.try_send(event) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(event)) => self.held.push_back(event),
        }
    }
}

#[cfg(test)]
mod tests;
