use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use veza_proto::v1::client_frame::Command;
use veza_proto::v1::{Delivery, Ping, PresenceState, Published, RoomJoined, SetPresence, Typing, reply};

use crate::connection::{Connection, Options};
use crate::entry::Entry;
use crate::error::Error;
use crate::event::Event;
use crate::{Endpoints, Target};

/// The answer of the kind that belongs to the question.
macro_rules! answer {
    ($result:expr, $kind:ident) => {{
        let reply::Result::$kind(answer) = $result else { return Err(Error::Unexpected) };
        answer
    }};
}

mod engine;
mod members;
mod messages;
mod opening;
mod rooms;
mod status;
mod subscription;

/// Entries of one client that wait for their acknowledgement; further callers wait before they queue one.
const ENTRIES_MAX: usize = 1024;
/// Requests and events between the client's owner and its task.
const REQUESTS: usize = 64;
const EVENTS: usize = 1024;
/// Times a question without effect is asked again after its link was lost.
const ASK_TIMES: usize = 5;

/// A session that survives its links: it reconnects, resumes, re-sends what was not acknowledged, and gives every
/// message of the joined rooms in order and once. Cloning counts a reference; when the last is dropped the link closes
/// and the session can be resumed by no one; [`Client::close`] says bye.
#[derive(Clone)]
pub struct Client {
    requests: mpsc::Sender<Request>,
    current: watch::Receiver<Current>,
    entries: Arc<Semaphore>,
}

/// The receiving end of a client. Read it: when [`Event`]s pile up to a thousand the client waits, and with it the
/// acknowledgements. Dropping it discards all events instead.
pub type Events = mpsc::Receiver<Event>;

/// What a client is made from.
#[derive(Clone)]
pub struct Config {
    pub endpoints: Endpoints,
    pub target: Target,
    pub token: TokenSource,
    /// Product and version for the server's logs, at most 128 bytes.
    pub client: String,
    pub options: Options,
}

/// An attempt takes at most this long. A handshake that dies with its server would otherwise hold up the next attempt.
const OPEN_WITHIN: Duration = Duration::from_secs(8);

impl Config {
    /// With the fallback race and this crate's name.
    pub fn new(endpoints: Endpoints, target: Target, token: TokenSource) -> Self {
        let client = concat!("veza-client/", env!("CARGO_PKG_VERSION")).to_owned();
        let options = Options { open_within: OPEN_WITHIN, ..Options::default() };
        Self { endpoints, target, token, client, options }
    }
}

/// Gives the token for every hello and every refresh.
#[derive(Clone)]
pub struct TokenSource(Arc<dyn Fn() -> TokenFuture + Send + Sync>);

type TokenFuture = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

impl TokenSource {
    /// Asks `source` each time a token is needed; its error is a sentence.
    pub fn new<F, R>(source: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, String>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(source())))
    }

    /// Always the same token: when it ends, so does the client.
    pub fn fixed(token: impl Into<String>) -> Self {
        let token = token.into();
        Self::new(move || std::future::ready(Ok(token.clone())))
    }

    /// A token.
    ///
    /// # Errors
    /// [`Error::Token`] with the source's sentence.
    pub async fn get(&self) -> Result<String, Error> {
        (self.0)().await.map_err(Error::Token)
    }
}

/// The link that carries the session now.
#[derive(Clone)]
enum Current {
    None,
    Link(Connection),
    Closed,
}

type EntryReply = oneshot::Sender<Result<Published, Error>>;
type JoinReply = oneshot::Sender<Result<RoomJoined, Error>>;
type StatusReply = oneshot::Sender<Result<(), Error>>;

enum Request {
    Join { room: String, delivery: Delivery, invite: String, reply: JoinReply },
    Forget { room: String },
    Entry { entry: Entry, reply: EntryReply },
    Status { presence: SetPresence, reply: StatusReply },
    Close { done: oneshot::Sender<()> },
}

impl Client {
    /// Starts connecting and returns at once; [`Event::State`] tells how it goes.
    pub fn start(config: Config) -> (Self, Events) {
        let (requests, received) = mpsc::channel(REQUESTS);
        let (events, receiver) = mpsc::channel(EVENTS);
        let (link, current) = watch::channel(Current::None);
        let engine = engine::Engine::new(config, received, events, link);
        #[expect(clippy::disallowed_methods, reason = "it ends with the last handle of its client")]
        tokio::spawn(engine.run());
        (Self { requests, current, entries: Arc::new(Semaphore::new(ENTRIES_MAX)) }, receiver)
    }

    /// Has an entry made in a room's log and waits until it is stored, across reconnects if need be: it is sent again
    /// under the same cmid, in its order, and the server stores it once. An entry without a cmid is given one.
    ///
    /// # Errors
    /// [`Error::Refused`] when the server will not take it, [`Error::Closed`]. `SLOW_MODE` and `MUTED` come back at once,
    /// with the time to wait; `RATE_LIMITED` and `UNAVAILABLE` are waited out.
    pub async fn send(&self, entry: impl Into<Entry>) -> Result<Published, Error> {
        let entry = entry.into().named();
        let _permit = self.entries.acquire().await.map_err(|_| Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.request(Request::Entry { entry, reply }).await?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// How I am, for everybody in my rooms. It is said again on every new link, until another is said.
    ///
    /// # Errors
    /// [`Error::Refused`] when the text is too long, [`Error::Closed`].
    pub async fn set_presence(&self, state: PresenceState, text: &str) -> Result<(), Error> {
        let presence = SetPresence { state: state.into(), text: text.to_owned() };
        let (reply, answer) = oneshot::channel();
        self.request(Request::Status { presence, reply }).await?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Tells the room that this user types, or stopped. Volatile: lost without a link, and nobody answers.
    pub async fn typing(&self, room: &str, active: bool) {
        let link = self.current.borrow().clone();
        if let Current::Link(connection) = link {
            // A link that just ended loses it, as the network may.
            connection.tell(Command::Typing(Typing { room: room.to_owned(), active })).await.ok();
        }
    }

    /// The round trip through the server's session, as it is now.
    ///
    /// # Errors
    /// As [`Client::join`].
    pub async fn ping(&self) -> Result<std::time::Duration, Error> {
        let asked = std::time::Instant::now();
        answer!(self.ask(Command::Ping(Ping { client_time_ms: 0 })).await?, Pong);
        Ok(asked.elapsed())
    }

    /// Says bye and ends. Entries that are not acknowledged answer [`Error::Closed`].
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        if self.request(Request::Close { done }).await.is_ok() {
            closed.await.ok();
        }
    }

    /// Asks something without effect (or whose repetition has none), again when the link is lost meanwhile.
    async fn ask(&self, command: Command) -> Result<reply::Result, Error> {
        let mut lost = Error::Closed;
        for _ in 0..ASK_TIMES {
            let connection = self.link().await?;
            match connection.command(command.clone()).await {
                Err(error @ (Error::Ended(_) | Error::Timeout(_))) => lost = error,
                answer => return answer,
            }
            // The client's task notices the same end; ask again on the next link.
            let mut current = self.current.clone();
            let next = current.wait_for(|current| match current {
                Current::Link(now) => !now.is_same(&connection),
                Current::None | Current::Closed => true,
            });
            next.await.map_err(|_| Error::Closed)?;
        }
        Err(lost)
    }

    async fn link(&self) -> Result<Connection, Error> {
        let mut current = self.current.clone();
        let link = current.wait_for(|current| match current {
            Current::Link(_) | Current::Closed => true,
            Current::None => false,
        });
        match link.await.map_err(|_| Error::Closed)?.clone() {
            Current::Link(connection) => Ok(connection),
            Current::None | Current::Closed => Err(Error::Closed),
        }
    }

    async fn request(&self, request: Request) -> Result<(), Error> {
        self.requests.send(request).await.map_err(|_| Error::Closed)
    }
}

#[cfg(test)]
mod tests;
