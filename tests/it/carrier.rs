//! The four ways to carry a session, and a player that speaks over any of them.

use std::time::Duration;

use veza_client::proto::Format;
use veza_client::proto::v1::{
    CreateRoom, DeleteMessage, Delivery, EditMessage, Error, ErrorCode, Hello, HistoryPage, Message, Pin, Publish,
    Published, React, Room, RoomCursor, RoomEvicted, RoomJoined, View, client_frame::Command, history::Anchor, push,
    reply,
};
use veza_client::{Connection, Ended, Endpoints, Options, Preference, Pushes, Server, Transport};

use crate::server::Process;

/// Asks one command and gives the answer of its kind, or the server's refusal: `ask!(alice, ListPins { room: "x" } =>
/// PinList)`. Values become what their field is made of; what is left out is at its default.
macro_rules! ask {
    ($player:expr, $command:ident {} => $answer:ident) => {
        match $player.ask(veza_client::proto::v1::client_frame::Command::$command(Default::default())).await {
            Ok(veza_client::proto::v1::reply::Result::$answer(answer)) => Ok(answer),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    };
    ($player:expr, $command:ident { $($name:ident : $value:expr),* $(,)? } => $answer:ident) => {{
        let mut command = veza_client::proto::v1::$command::default();
        $(command.$name = $value.into();)*
        match $player.ask(veza_client::proto::v1::client_frame::Command::$command(command)).await {
            Ok(veza_client::proto::v1::reply::Result::$answer(answer)) => Ok(answer),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    }};
}
pub(crate) use ask;

/// Patience for anything that must come. Long, for the machine may be busy; what is waited for comes at once.
pub const SOON: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    WebTransport,
    Quic,
    WebSocketProto,
    WebSocketJson,
}

impl Carrier {
    pub const ALL: [Carrier; 4] =
        [Carrier::WebTransport, Carrier::Quic, Carrier::WebSocketProto, Carrier::WebSocketJson];

    pub fn options(self) -> Options {
        let (transport, format) = match self {
            Carrier::WebTransport => (Transport::WebTransport, Format::Proto),
            Carrier::Quic => (Transport::Quic, Format::Proto),
            Carrier::WebSocketProto => (Transport::WebSocket, Format::Proto),
            Carrier::WebSocketJson => (Transport::WebSocket, Format::Json),
        };
        Options { preference: Preference::Only(transport), format, ..Options::default() }
    }

    pub fn label(self) -> &'static str {
        match self {
            Carrier::WebTransport => "webtransport",
            Carrier::Quic => "quic",
            Carrier::WebSocketProto | Carrier::WebSocketJson => "websocket",
        }
    }

    pub fn has_datagrams(self) -> bool {
        matches!(self, Carrier::WebTransport | Carrier::Quic)
    }
}

/// A server and the way to it.
pub struct Stage {
    pub process: Process,
    pub server: Server,
    pub endpoints: Endpoints,
    pub carrier: Carrier,
}

impl Stage {
    pub async fn new(process: Process, carrier: Carrier) -> Self {
        let (server, endpoints) = process.describe().await;
        Self { process, server, endpoints, carrier }
    }

    pub async fn token(&self, user: &str) -> String {
        self.server.dev_login(user).await.unwrap()
    }

    /// A welcomed session.
    pub async fn player(&self, user: &str) -> Player {
        let token = self.token(user).await;
        self.try_hello(Hello { token, ..Hello::default() }).await.unwrap()
    }

    pub async fn try_hello(&self, hello: Hello) -> Result<Player, veza_client::Error> {
        let options = self.carrier.options();
        let (connection, pushes) = Connection::open(&self.endpoints, &self.server.target(), hello, &options).await?;
        Ok(Player { connection, pushes, held: Vec::new() })
    }

    /// A welcomed session in a room that is made for it.
    pub async fn player_in(&self, user: &str, room: &str) -> Player {
        let player = self.player(user).await;
        match player.create(CreateRoom { room: room.into(), ..CreateRoom::default() }).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.code(), ErrorCode::AlreadyExists),
        }
        player.join(room).await.unwrap();
        player
    }

    /// Welcomed sessions of these users in one room: the first makes it and owns it.
    pub async fn in_room<const N: usize>(&self, room: &str, users: [&str; N]) -> [Player; N] {
        let mut players = Vec::new();
        for user in users {
            players.push(self.player_in(user, room).await);
        }
        players.try_into().unwrap_or_else(|_| unreachable!("as many players as users"))
    }

    /// A welcomed session whose token holds these entitlements.
    pub async fn entitled(&self, user: &str, entitlements: &[&str]) -> Player {
        let token = crate::server::token_with(user, entitlements);
        self.try_hello(Hello { token, ..Hello::default() }).await.unwrap()
    }
}

/// Somebody who speaks over one link.
pub struct Player {
    pub connection: Connection,
    pub pushes: Pushes,
    held: Vec<push::Event>,
}

impl Player {
    /// The reply, or the server's refusal. Anything else fails the test.
    pub async fn ask(&self, command: Command) -> Result<reply::Result, Error> {
        match self.connection.command(command).await {
            Ok(result) => Ok(result),
            Err(veza_client::Error::Refused(error)) => Err(error),
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn join(&self, room: &str) -> Result<RoomJoined, Error> {
        self.join_from(room, None, Delivery::Unspecified).await
    }

    pub async fn join_from(
        &self,
        room: &str,
        cursor: Option<RoomCursor>,
        delivery: Delivery,
    ) -> Result<RoomJoined, Error> {
        ask!(self, JoinRoom { room: room, cursor: cursor, delivery: delivery } => RoomJoined)
    }

    pub async fn join_invited(&self, room: &str, invite: &str) -> Result<RoomJoined, Error> {
        ask!(self, JoinRoom { room: room, invite: invite } => RoomJoined)
    }

    pub async fn create(&self, create: CreateRoom) -> Result<Room, Error> {
        match self.ask(Command::CreateRoom(create)).await? {
            reply::Result::RoomCreated(created) => Ok(created.room.unwrap()),
            other => panic!("{other:?}"),
        }
    }

    pub async fn publish(&self, room: &str, cmid: &str, body: &str) -> Result<Published, Error> {
        self.say(Publish { room: room.into(), cmid: cmid.into(), body: body.into(), ..Publish::default() }).await
    }

    pub async fn say(&self, publish: Publish) -> Result<Published, Error> {
        self.entry(Command::Publish(publish)).await
    }

    pub async fn edit(&self, room: &str, cmid: &str, seq: u64, body: &str) -> Result<Published, Error> {
        let (room, cmid, body) = (room.into(), cmid.into(), body.into());
        self.entry(Command::EditMessage(EditMessage { room, cmid, seq, body, ..EditMessage::default() })).await
    }

    pub async fn delete(&self, room: &str, cmid: &str, seq: u64) -> Result<Published, Error> {
        let (room, cmid) = (room.into(), cmid.into());
        self.entry(Command::DeleteMessage(DeleteMessage { room, cmid, seq, ..DeleteMessage::default() })).await
    }

    pub async fn react(&self, room: &str, cmid: &str, seq: u64, emoji: &str) -> Result<Published, Error> {
        let (room, cmid, emoji) = (room.into(), cmid.into(), emoji.into());
        self.entry(Command::React(React { room, cmid, seq, emoji, remove: false })).await
    }

    pub async fn unreact(&self, room: &str, cmid: &str, seq: u64, emoji: &str) -> Result<Published, Error> {
        let (room, cmid, emoji) = (room.into(), cmid.into(), emoji.into());
        self.entry(Command::React(React { room, cmid, seq, emoji, remove: true })).await
    }

    pub async fn pin(&self, room: &str, cmid: &str, seq: u64) -> Result<Published, Error> {
        self.entry(Command::Pin(Pin { room: room.into(), cmid: cmid.into(), seq, remove: false })).await
    }

    pub async fn unpin(&self, room: &str, cmid: &str, seq: u64) -> Result<Published, Error> {
        self.entry(Command::Pin(Pin { room: room.into(), cmid: cmid.into(), seq, remove: true })).await
    }

    async fn entry(&self, command: Command) -> Result<Published, Error> {
        match self.ask(command).await? {
            reply::Result::Published(published) => Ok(published),
            other => panic!("{other:?}"),
        }
    }

    /// The last messages as the room shows them.
    pub async fn history(&self, room: &str) -> HistoryPage {
        ask!(self, History { room: room } => HistoryPage).unwrap()
    }

    /// The whole log from its start, every entry; at most a page.
    pub async fn log(&self, room: &str) -> Vec<Message> {
        let (anchor, view) = (Anchor::AfterSeq(0), View::Everything);
        ask!(self, History { room: room, anchor: anchor, view: view, limit: 100u32 } => HistoryPage).unwrap().messages
    }

    /// The next push that `pick` takes; others are kept for later calls.
    pub async fn hear<T>(&mut self, pick: impl Fn(&push::Event) -> Option<T>) -> T {
        if let Some(at) = self.held.iter().position(|event| pick(event).is_some()) {
            let event = self.held.remove(at);
            return pick(&event).unwrap();
        }
        loop {
            let next = tokio::time::timeout(SOON, self.pushes.next()).await;
            let event = next.expect("nothing was heard in time").expect("the link ended");
            match pick(&event) {
                Some(heard) => return heard,
                None => self.held.push(event),
            }
        }
    }

    pub async fn evicted(&mut self) -> RoomEvicted {
        self.hear(|event| match event {
            push::Event::RoomEvicted(evicted) => Some(evicted.clone()),
            _ => None,
        })
        .await
    }

    /// The next entry of a log.
    pub async fn message(&mut self) -> Message {
        self.hear(|event| match event {
            push::Event::Message(delivered) => delivered.message.clone(),
            _ => None,
        })
        .await
    }

    /// The next `count` entries.
    pub async fn messages(&mut self, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        while messages.len() < count {
            messages.push(self.message().await);
        }
        messages
    }

    /// How the link ends, once it does.
    pub async fn end(mut self) -> Ended {
        loop {
            match tokio::time::timeout(SOON, self.pushes.next()).await.expect("the link did not end in time") {
                Ok(_) => {}
                Err(ended) => return ended,
            }
        }
    }
}
