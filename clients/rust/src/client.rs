use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use veza_proto::v1::client_frame::Command;
use veza_proto::v1::{
    CreateRoom, Delivery, History, HistoryPage, LeaveRoom, ListRooms, Ping, Publish, Published, Room, RoomJoined,
    RoomList, Typing, history, reply,
};

use crate::connection::{Connection, Options};
use crate::error::Error;
use crate::event::Event;
use crate::{Endpoints, Target};

mod engine;
mod opening;
mod subscription;

/// Publishes of one client that wait for their acknowledgement; further callers wait before they queue one.
const PUBLISHES_MAX: usize = 1024;
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
    publishes: Arc<Semaphore>,
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

    async fn get(&self) -> Result<String, Error> {
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

type PublishReply = oneshot::Sender<Result<Published, Error>>;
type JoinReply = oneshot::Sender<Result<RoomJoined, Error>>;

enum Request {
    Join { room: String, delivery: Delivery, reply: JoinReply },
    Forget { room: String },
    Publish { publish: Publish, reply: PublishReply },
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
        (Self { requests, current, publishes: Arc::new(Semaphore::new(PUBLISHES_MAX)) }, receiver)
    }

    /// Becomes a member of the room and receives it from here on, across reconnects. Joining again changes nothing but
    /// tells the room's state.
    ///
    /// # Errors
    /// [`Error::Refused`] when the server says no, [`Error::Closed`].
    pub async fn join(&self, room: &str, delivery: Delivery) -> Result<RoomJoined, Error> {
        let (reply, answer) = oneshot::channel();
        self.request(Request::Join { room: room.to_owned(), delivery, reply }).await?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Ends the membership.
    ///
    /// # Errors
    /// As [`Client::join`].
    pub async fn leave(&self, room: &str) -> Result<(), Error> {
        self.request(Request::Forget { room: room.to_owned() }).await?;
        let reply::Result::RoomLeft(_) = self.ask(Command::LeaveRoom(LeaveRoom { room: room.to_owned() })).await?
        else {
            return Err(Error::Unexpected);
        };
        Ok(())
    }

    /// Publishes Markdown and waits until it is stored, across reconnects if need be: the server stores it once.
    ///
    /// # Errors
    /// [`Error::Refused`] when the server will never take it, [`Error::Closed`].
    pub async fn publish(&self, room: &str, body: impl Into<String>) -> Result<Published, Error> {
        self.publish_as(room, new_cmid(), body).await
    }

    /// [`Client::publish`] with a message id of one's own, for what was begun by an earlier process.
    ///
    /// # Errors
    /// As [`Client::publish`]; `CMID_CONFLICT` when the id was used with another body.
    pub async fn publish_as(
        &self,
        room: &str,
        cmid: impl Into<String>,
        body: impl Into<String>,
    ) -> Result<Published, Error> {
        let _permit = self.publishes.acquire().await.map_err(|_| Error::Closed)?;
        let publish = Publish { room: room.to_owned(), cmid: cmid.into(), body: body.into() };
        let (reply, answer) = oneshot::channel();
        self.request(Request::Publish { publish, reply }).await?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// One page of a room's history, in ascending order. `limit` 0 is the server's default.
    ///
    /// # Errors
    /// As [`Client::join`].
    pub async fn history(&self, room: &str, anchor: history::Anchor, limit: u32) -> Result<HistoryPage, Error> {
        let history = History { room: room.to_owned(), anchor: Some(anchor), limit };
        let reply::Result::HistoryPage(page) = self.ask(Command::History(history)).await? else {
            return Err(Error::Unexpected);
        };
        Ok(page)
    }

    /// Creates a room and becomes its member.
    ///
    /// # Errors
    /// As [`Client::join`]; `ALREADY_EXISTS` also when a lost link hid that it was created.
    pub async fn create_room(&self, room: &str, title: &str) -> Result<Room, Error> {
        let create = CreateRoom { room: room.to_owned(), title: title.to_owned() };
        let reply::Result::RoomCreated(created) = self.ask(Command::CreateRoom(create)).await? else {
            return Err(Error::Unexpected);
        };
        created.room.ok_or(Error::Unexpected)
    }

    /// One page of the rooms; pass `next` of the last page as `after`.
    ///
    /// # Errors
    /// As [`Client::join`].
    pub async fn rooms(&self, mine: bool, after: &str) -> Result<RoomList, Error> {
        let reply::Result::RoomList(list) =
            self.ask(Command::ListRooms(ListRooms { mine, after: after.to_owned(), limit: 0 })).await?
        else {
            return Err(Error::Unexpected);
        };
        Ok(list)
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
        let reply::Result::Pong(_) = self.ask(Command::Ping(Ping { client_time_ms: 0 })).await? else {
            return Err(Error::Unexpected);
        };
        Ok(asked.elapsed())
    }

    /// Says bye and ends. Publishes that are not acknowledged answer [`Error::Closed`].
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

/// A message id that nobody else chooses: 128 random bits.
pub fn new_cmid() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests;
