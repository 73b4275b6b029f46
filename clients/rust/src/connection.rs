use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use veza_proto::Format;
use veza_proto::v1::client_frame::Command;
use veza_proto::v1::{ClientFrame, Hello, Welcome, push, reply, server_frame};

use crate::error::{Ended, Error};
use crate::link::streams::BulkOpener;
use crate::link::{Lane, Link};
use crate::race::{self, Memory};
use crate::{Endpoints, Preference, Target, Transport};

mod driver;

use driver::{Driver, HELLO_ID, result_of, say_hello};

/// Commands waiting for the link; more of them make their callers wait.
const REQUESTS: usize = 16;
/// Media packets that wait to be read: a second of four streams.
const MEDIA: usize = 200;

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
    media: Mutex<Option<Media>>,
}

enum Request {
    Command { lane: Lane, command: Box<Command>, reply: Option<oneshot::Sender<Result<reply::Result, Error>>> },
    Media(Bytes),
    Bye,
}

/// A media packet, and when it came.
type Arrived = (Bytes, Instant);

/// The media packets of a connection, as they come. Up to a second's worth waits to be read; what comes then is lost.
pub struct Media(mpsc::Receiver<Arrived>);

impl Media {
    /// The next packet ([`veza_proto::media::MediaPacket::read`]) and when it came; `None` when the link has ended.
    pub async fn next(&mut self) -> Option<(Bytes, Instant)> {
        self.0.recv().await
    }
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
        let (media, arriving) = mpsc::channel(MEDIA);
        let (pushes, events) = mpsc::channel(options.pushes.max(1));
        let shared = Arc::new(Shared {
            welcome,
            transport: link.transport(),
            bulk: link.bulk(),
            reply_within: options.reply_within,
            opened: Instant::now(),
            heard_ms: AtomicU64::new(0),
            ended: OnceLock::new(),
            media: Mutex::new(Some(Media(arriving))),
        });
        let driver = Driver::new(link, received, pushes, media, held, shared.clone());
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

    /// The media packets of this connection, to whoever asks first.
    pub fn media(&self) -> Option<Media> {
        self.shared.media.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Sends a media packet ([`veza_proto::media::MediaPacket::write`] without its first byte). It may be lost.
    ///
    /// # Errors
    /// [`Error::Ended`]
    pub async fn send_media(&self, packet: Bytes) -> Result<(), Error> {
        self.request(Request::Media(packet)).await
    }

    /// Leaves for good: the session cannot be resumed. Waits until the link has ended, about a second at most.
    pub async fn bye(self) {
        // A link that has ended already needs no farewell.
        if self.request(Request::Bye).await.is_ok() {
            self.requests.closed().await;
        }
    }

    async fn ask(&self, command: Command) -> Result<reply::Result, Error> {
        if let Some(bulk) = self.shared.bulk.as_ref().filter(|_| is_bulk(&command)) {
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

/// What opens a stream of its own where the link has streams: histories, searches and lists.
fn is_bulk(command: &Command) -> bool {
    matches!(
        command,
        Command::History(_)
            | Command::Search(_)
            | Command::ListRooms(_)
            | Command::ListMembers(_)
            | Command::ListInvites(_)
            | Command::ListUnread(_)
            | Command::ListRevisions(_)
            | Command::ListReactions(_)
            | Command::ListPins(_)
            | Command::ListAudit(_)
            | Command::ListStreams(_)
    )
}

/// What makes entries of a log, and repairs, share the chat lane with the deliveries they belong to; the rest is control.
fn lane_of(command: &Command) -> Lane {
    match command {
        Command::Publish(_)
        | Command::EditMessage(_)
        | Command::DeleteMessage(_)
        | Command::React(_)
        | Command::Pin(_)
        | Command::Repair(_) => Lane::Chat,
        Command::Typing(_) | Command::ReceiverReport(_) => Lane::Datagram,
        Command::Hello(_)
        | Command::RefreshToken(_)
        | Command::Ping(_)
        | Command::Bye(_)
        | Command::CreateRoom(_)
        | Command::JoinRoom(_)
        | Command::LeaveRoom(_)
        | Command::ListRooms(_)
        | Command::OpenDirect(_)
        | Command::UpdateRoom(_)
        | Command::ListMembers(_)
        | Command::SetRole(_)
        | Command::Moderate(_)
        | Command::CreateInvite(_)
        | Command::ListInvites(_)
        | Command::RevokeInvite(_)
        | Command::Mark(_)
        | Command::SetPresence(_)
        | Command::History(_)
        | Command::Search(_)
        | Command::ListUnread(_)
        | Command::ListRevisions(_)
        | Command::ListReactions(_)
        | Command::ListPins(_)
        | Command::ListAudit(_)
        | Command::Unsubscribe(_)
        | Command::ListStreams(_)
        | Command::CreateStream(_)
        | Command::PublishStream(_)
        | Command::EndStream(_)
        | Command::SetPlaying(_)
        | Command::Listen(_)
        | Command::Unlisten(_)
        | Command::SetQuality(_) => Lane::Control,
    }
}

#[cfg(test)]
mod tests;
