//! A server small enough to read, for tests: one room, one log in memory, WebSocket only, and whims on request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as WsMessage;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use veza_proto::v1::client_frame::Command;
use veza_proto::v1::{
    ClientFrame, Closing, Deletion, Edit, Error, ErrorCode, Hello, Live, Message, MessageDelivered, Pong, PresenceSet,
    Published, Recovered, Repair, Repaired, Room, RoomCursor, RoomJoined, RoomResumed, SetPresence, Verdict, Welcome,
    message::Change, push, reply, room_resumed, server_frame, verdict,
};
use veza_proto::{CloseCode, Encoded};

use crate::{EndpointOptions, Endpoints, Preference, Target, Transport, Trust};

pub(crate) const ROOM: &str = "lobby";
const EPOCH: u64 = 3;

/// What the peer does at the next opportunity, once each, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Whim {
    /// Stores the next entry and drops the link instead of acknowledging.
    LoseTheAcknowledgement,
    /// Refuses the next entry for this many milliseconds, storing nothing.
    RateLimit(u32),
    /// Refuses the next entry because the room is in slow mode.
    SlowMode(u32),
    /// Stores the next entry without delivering it to anybody.
    LoseTheDelivery,
    /// Answers the next hello with an error.
    RefuseHello(ErrorCode),
    /// Answers the next hello's cursors only after this many milliseconds.
    ResumeSlowly(u64),
    /// Closes with this code right after the next welcome.
    CloseAfterWelcome(CloseCode),
}

#[derive(Default)]
struct State {
    log: Vec<Message>,
    whims: VecDeque<Whim>,
    hellos: Vec<Hello>,
    statuses: Vec<SetPresence>,
}

#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) target: Target,
    state: Arc<Mutex<State>>,
    out: broadcast::Sender<Out>,
}

#[derive(Clone)]
enum Out {
    Frame(Encoded),
    /// Subscribes every link and says this.
    Resume(Vec<Encoded>),
    Drop,
}

impl Peer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = Target { websocket: Some(format!("ws://{address}/ws")), ..Target::default() };
        let peer = Self { target, state: Arc::default(), out: broadcast::channel(256).0 };
        let serving = peer.clone();
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let peer = serving.clone();
                tokio::spawn(async move { peer.serve(socket).await });
            }
        });
        peer
    }

    pub(crate) fn endpoints() -> Endpoints {
        Endpoints::new(&EndpointOptions::new(Trust::Insecure)).unwrap()
    }

    pub(crate) fn options(format: veza_proto::Format) -> crate::Options {
        crate::Options { preference: Preference::Only(Transport::WebSocket), format, ..crate::Options::default() }
    }

    pub(crate) fn whim(&self, whim: Whim) {
        self.state.lock().unwrap().whims.push_back(whim);
    }

    pub(crate) fn hellos(&self) -> Vec<Hello> {
        self.state.lock().unwrap().hellos.clone()
    }

    /// What was said of being here, on every link.
    pub(crate) fn statuses(&self) -> Vec<SetPresence> {
        self.state.lock().unwrap().statuses.clone()
    }

    pub(crate) fn log(&self) -> Vec<Message> {
        self.state.lock().unwrap().log.clone()
    }

    pub(crate) fn bodies(&self) -> Vec<String> {
        self.state.lock().unwrap().log.iter().map(|message| message.body.clone()).collect()
    }

    /// Says something to everyone.
    pub(crate) fn push(&self, event: push::Event) {
        self.out.send(Out::Frame(Encoded::push(event))).ok();
    }

    /// The network fails for everyone.
    pub(crate) fn drop_links(&self) {
        self.out.send(Out::Drop).ok();
    }

    /// A message of somebody else, stored and delivered.
    pub(crate) fn say(&self, body: &str) {
        let message = self.store("bob", of_bob(body)).0;
        self.push(push::Event::Message(MessageDelivered { message: Some(message) }));
    }

    /// The same, delivered to nobody.
    pub(crate) fn say_unheard(&self, body: &str) {
        self.store("bob", of_bob(body));
    }

    fn take(&self, wanted: impl Fn(&Whim) -> bool) -> Option<Whim> {
        let mut state = self.state.lock().unwrap();
        if state.whims.front().is_some_and(wanted) { state.whims.pop_front() } else { None }
    }

    fn store(&self, author: &str, entry: Message) -> (Message, bool) {
        let mut state = self.state.lock().unwrap();
        if let Some(found) = state.log.iter().find(|message| message.cmid == entry.cmid) {
            return (found.clone(), true);
        }
        let seq = state.log.len() as u64 + 1;
        let message = Message { room: ROOM.into(), epoch: EPOCH, seq, author: author.into(), ..entry };
        state.log.push(message.clone());
        (message, false)
    }

    async fn serve(&self, socket: TcpStream) {
        #[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
        let subprotocol = |request: &Request, mut response: Response| {
            let offered = request.headers()["sec-websocket-protocol"].clone();
            response.headers_mut().insert("sec-websocket-protocol", offered);
            Ok(response)
        };
        let mut socket = tokio_tungstenite::accept_hdr_async(socket, subprotocol).await.unwrap();
        let mut out = self.out.subscribe();
        let mut joined = false;
        let mut json = false;
        loop {
            tokio::select! {
                message = socket.next() => {
                    let frame: ClientFrame = match message {
                        Some(Ok(WsMessage::Binary(bytes))) => veza_proto::frame::decode(&bytes).unwrap(),
                        Some(Ok(WsMessage::Text(text))) => {
                            json = true;
                            veza_proto::frame::client_from_json(&text).unwrap()
                        }
                        _ => return,
                    };
                    let Some(answers) = self.answer(frame, &mut joined) else { return };
                    for answer in answers {
                        send(&mut socket, &answer, json).await;
                        if is_closing(&answer) {
                            socket.close(None).await.ok();
                            return;
                        }
                    }
                }
                pushed = out.recv() => match pushed.unwrap() {
                    Out::Drop => return,
                    Out::Frame(frame) if joined => send(&mut socket, &frame, json).await,
                    Out::Frame(_) => {}
                    Out::Resume(frames) => {
                        joined = true;
                        for frame in frames {
                            send(&mut socket, &frame, json).await;
                        }
                    }
                },
            }
        }
    }

    /// `None` drops the link.
    fn answer(&self, frame: ClientFrame, joined: &mut bool) -> Option<Vec<Encoded>> {
        let reply = |result| Encoded::reply(frame.id, result);
        let refuse = |error| vec![Encoded::reply(frame.id, reply::Result::Error(error))];
        Some(match frame.command? {
            Command::Hello(hello) => {
                self.state.lock().unwrap().hellos.push(hello.clone());
                if let Some(Whim::RefuseHello(code)) = self.take(|whim| matches!(whim, Whim::RefuseHello(_))) {
                    return Some(refuse(Error::permanent(code, "no")));
                }
                let welcome = Welcome {
                    user: "alice".into(),
                    resume_token: "resume".into(),
                    resumed: !hello.resume_token.is_empty(),
                    heartbeat_ms: 25_000,
                    ..Welcome::default()
                };
                let mut answers = vec![reply(reply::Result::Welcome(welcome))];
                let whim = self.take(|whim| matches!(whim, Whim::CloseAfterWelcome(_)));
                if let Some(Whim::CloseAfterWelcome(code)) = whim {
                    let closing = Closing { code: code.code().into(), reason: "whim".into(), retry_after_ms: 0 };
                    answers.push(Encoded::push(push::Event::Closing(closing)));
                    return Some(answers);
                }
                let mut resumed = Vec::new();
                for cursor in &hello.rooms {
                    let (verdict, missed) = self.resume(cursor);
                    let result = Some(room_resumed::Result::Joined(verdict));
                    resumed.push(Encoded::push(push::Event::RoomResumed(RoomResumed { room: ROOM.into(), result })));
                    resumed.extend(missed.into_iter().map(delivery));
                }
                if let Some(Whim::ResumeSlowly(after)) = self.take(|whim| matches!(whim, Whim::ResumeSlowly(_))) {
                    let out = self.out.clone();
                    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
                    tokio::spawn(async move {
                        tokio::time::sleep(std::time::Duration::from_millis(after)).await;
                        out.send(Out::Resume(resumed)).ok();
                    });
                } else {
                    *joined |= !resumed.is_empty();
                    answers.extend(resumed);
                }
                answers
            }
            Command::JoinRoom(join) if join.room == ROOM => {
                *joined = true;
                let (verdict, missed) = self.resume(&join.cursor.unwrap_or_default());
                let mut answers = vec![reply(reply::Result::RoomJoined(verdict))];
                answers.extend(missed.into_iter().map(delivery));
                answers
            }
            Command::JoinRoom(_) => refuse(Error::permanent(ErrorCode::NotFound, "no such room")),
            Command::Publish(publish) if publish.body.is_empty() && *joined => {
                refuse(Error::permanent(ErrorCode::InvalidArgument, "body is empty"))
            }
            Command::Publish(publish) => {
                let entry = Message { cmid: publish.cmid, body: publish.body, ..Message::default() };
                return self.entry(frame.id, entry, *joined);
            }
            Command::EditMessage(edit) => {
                let change = Edit { target: edit.seq, body: edit.body, revision: 1, mentions: edit.mentions };
                return self.entry(frame.id, changing(edit.cmid, Change::Edit(change)), *joined);
            }
            Command::DeleteMessage(delete) => {
                let change = Change::Deletion(Deletion { target: delete.seq });
                return self.entry(frame.id, changing(delete.cmid, change), *joined);
            }
            Command::SetPresence(presence) => {
                self.state.lock().unwrap().statuses.push(presence.clone());
                if presence.text == "too long" {
                    return Some(refuse(Error::permanent(ErrorCode::InvalidArgument, "text is too long")));
                }
                vec![reply(reply::Result::PresenceSet(PresenceSet {}))]
            }
            Command::Repair(repair) => vec![reply(reply::Result::Repaired(self.repair(&repair)))],
            Command::Ping(ping) => {
                let pong = Pong { client_time_ms: ping.client_time_ms, server_time_ms: 1 };
                vec![reply(reply::Result::Pong(pong))]
            }
            Command::Bye(_) => {
                let closing = Closing { code: CloseCode::Normal.code().into(), ..Closing::default() };
                vec![Encoded::push(push::Event::Closing(closing))]
            }
            other @ (Command::RefreshToken(_)
            | Command::CreateRoom(_)
            | Command::LeaveRoom(_)
            | Command::ListRooms(_)
            | Command::History(_)
            | Command::Typing(_)
            | Command::Unsubscribe(_)
            | Command::React(_)
            | Command::Pin(_)
            | Command::Mark(_)
            | Command::UpdateRoom(_)
            | Command::ListMembers(_)
            | Command::SetRole(_)
            | Command::Moderate(_)
            | Command::CreateInvite(_)
            | Command::ListInvites(_)
            | Command::RevokeInvite(_)
            | Command::OpenDirect(_)
            | Command::ListUnread(_)
            | Command::Search(_)
            | Command::ListRevisions(_)
            | Command::ListReactions(_)
            | Command::ListPins(_)
            | Command::ListAudit(_)
            | Command::ListStreams(_)
            | Command::CreateStream(_)
            | Command::PublishStream(_)
            | Command::EndStream(_)
            | Command::SetPlaying(_)
            | Command::Listen(_)
            | Command::Unlisten(_)
            | Command::SetQuality(_)
            | Command::ReceiverReport(_)) => panic!("the peer does not know {other:?}"),
        })
    }

    /// Stores, delivers and acknowledges, as far as no whim forbids; `None` drops the link.
    fn entry(&self, id: u32, entry: Message, joined: bool) -> Option<Vec<Encoded>> {
        let refuse = |error| Some(vec![Encoded::reply(id, reply::Result::Error(error))]);
        match self.take(|whim| matches!(whim, Whim::RateLimit(_) | Whim::SlowMode(_))) {
            Some(Whim::RateLimit(wait)) => return refuse(Error::temporary(ErrorCode::RateLimited, "slower", wait)),
            Some(Whim::SlowMode(wait)) => return refuse(Error::temporary(ErrorCode::SlowMode, "too soon", wait)),
            Some(_) | None => {}
        }
        if !joined {
            return refuse(Error::permanent(ErrorCode::NotFound, "not subscribed"));
        }
        let (message, duplicate) = self.store("alice", entry);
        if self.take(|whim| *whim == Whim::LoseTheAcknowledgement).is_some() {
            return None;
        }
        if !duplicate && self.take(|whim| *whim == Whim::LoseTheDelivery).is_none() {
            self.push(push::Event::Message(MessageDelivered { message: Some(message.clone()) }));
        }
        let Message { room, cmid, epoch, seq, at_ms, .. } = message;
        let published = Published { room, cmid, epoch, seq, at_ms, duplicate };
        Some(vec![Encoded::reply(id, reply::Result::Published(published))])
    }

    fn resume(&self, cursor: &RoomCursor) -> (RoomJoined, Vec<Message>) {
        let state = self.state.lock().unwrap();
        let room = Room { id: ROOM.into(), epoch: EPOCH, head: state.log.len() as u64, ..Room::default() };
        let missed = match cursor.epoch {
            EPOCH => state.log[usize::try_from(cursor.last_seq).unwrap()..].to_vec(),
            _ => Vec::new(),
        };
        let outcome = match cursor.epoch {
            0 => verdict::Outcome::Live(Live {}),
            _ => verdict::Outcome::Recovered(Recovered { messages: missed.len() as u64 }),
        };
        let verdict = Some(Verdict { outcome: Some(outcome) });
        (RoomJoined { room: Some(room), verdict, ..RoomJoined::default() }, missed)
    }

    fn repair(&self, asked: &Repair) -> Repaired {
        let state = self.state.lock().unwrap();
        let head = state.log.len() as u64;
        let up_to = if asked.up_to_seq == 0 { head } else { asked.up_to_seq };
        let wanted = |message: &&Message| message.seq > asked.after_seq && message.seq <= up_to;
        Repaired {
            room: ROOM.into(),
            epoch: EPOCH,
            messages: state.log.iter().filter(wanted).take(100).cloned().collect(),
            head,
        }
    }
}

fn of_bob(body: &str) -> Message {
    Message { body: body.into(), cmid: crate::new_cmid(), ..Message::default() }
}

fn changing(cmid: String, change: Change) -> Message {
    Message { cmid, change: Some(change), ..Message::default() }
}

fn is_closing(frame: &Encoded) -> bool {
    let Some(server_frame::Frame::Push(push)) = &frame.frame().frame else { return false };
    matches!(push.event, Some(push::Event::Closing(_)))
}

fn delivery(message: Message) -> Encoded {
    Encoded::push(push::Event::Message(MessageDelivered { message: Some(message) }))
}

async fn send(socket: &mut WebSocketStream<TcpStream>, frame: &Encoded, json: bool) {
    let message = if json {
        WsMessage::text(String::from_utf8(frame.json().to_vec()).unwrap())
    } else {
        WsMessage::binary(frame.message())
    };
    // A client that has left does not listen.
    socket.send(message).await.ok();
}
