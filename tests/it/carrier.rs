//! The four ways to carry a session, and a player that speaks over any of them.

use std::time::Duration;

use veza_client::proto::Format;
use veza_client::proto::v1::{
    Delivery, Error, ErrorCode, Hello, JoinRoom, Message, Publish, Published, RoomCursor, RoomJoined,
    client_frame::Command, push, reply,
};
use veza_client::{Connection, Ended, Endpoints, Options, Preference, Pushes, Server, Transport};

use crate::server::Process;

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
        let create = veza_client::proto::v1::CreateRoom { room: room.into(), title: String::new() };
        match player.ask(Command::CreateRoom(create)).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.code(), ErrorCode::AlreadyExists),
        }
        player.join(room).await.unwrap();
        player
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
        let join = JoinRoom { room: room.into(), cursor, delivery: delivery.into() };
        match self.ask(Command::JoinRoom(join)).await? {
            reply::Result::RoomJoined(joined) => Ok(joined),
            other => panic!("{other:?}"),
        }
    }

    pub async fn publish(&self, room: &str, cmid: &str, body: &str) -> Result<Published, Error> {
        let publish = Publish { room: room.into(), cmid: cmid.into(), body: body.into() };
        match self.ask(Command::Publish(publish)).await? {
            reply::Result::Published(published) => Ok(published),
            other => panic!("{other:?}"),
        }
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

    pub async fn message(&mut self) -> Message {
        self.hear(|event| match event {
            push::Event::Message(delivered) => delivered.message.clone(),
            _ => None,
        })
        .await
    }

    /// The next `count` messages.
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
