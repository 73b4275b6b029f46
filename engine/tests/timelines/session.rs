use std::sync::Arc;

use veza_engine::audio::AudioAsk;
use veza_engine::ledger::Content;
use veza_engine::room::Delivered;
use veza_engine::session::{Admitted, Note, Output, Profile, Refusal, Refused, Session, Settings};
use veza_engine::{Anchor as Place, Answer, Ask, Joined, Page, Ticket, Timestamp, View};
use veza_proto::frame::FrameError;
use veza_proto::v1::{
    ClientFrame, Deletion, Delivery, Hello, History, JoinRoom, LeaveRoom, Message, MessageDelivered, Ping,
    PresenceChanged, Publish, Published, RefreshToken, Repair, Room, RoomCursor, RoomEvicted, Sanction, Typing,
    client_frame::Command, history::Anchor, message::Change, push, reply, room_resumed, server_frame, verdict::Outcome,
};
use veza_proto::{Encoded, Format, Lane, RoomId, UserId};

use crate::{Stage, check, number, value};

#[test]
fn sessions() {
    check("session", Stall::new);
}

/// A session whose link takes everything at once, unless it is stalled.
struct Stall {
    session: Session,
    asked: Vec<Ticket>,
    stalled: bool,
    now: Timestamp,
    lines: Vec<String>,
}

impl Stall {
    fn new() -> Self {
        Self { session: session(true), asked: Vec::new(), stalled: false, now: Timestamp::default(), lines: Vec::new() }
    }

    fn frame(&mut self, lane: Lane, command: Command) {
        self.session.handle_frame(lane, ClientFrame { id: 7, command: Some(command) }, self.now);
    }

    fn answer(&mut self, answer: Answer) {
        let ticket = self.asked.remove(0);
        self.session.handle_answer(ticket, answer, self.now);
    }
}

fn session(datagrams: bool) -> Session {
    let settings = Settings { rooms_max: 2, ..Settings::default() };
    let transport = if datagrams { "webtransport" } else { "websocket" };
    let profile = Profile { transport, format: Format::Proto, datagrams, needs_ping: !datagrams, jitter: 0 };
    Session::new(Arc::new(settings), profile, Timestamp::default())
}

fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

fn message(room: &str, seq: u64) -> Message {
    Message { room: room.into(), epoch: 1, seq, body: format!("m{seq}"), ..Message::default() }
}

fn delivery(room: &str, seq: u64, bytes: usize) -> Encoded {
    let body = "x".repeat(bytes);
    Encoded::push(push::Event::Message(MessageDelivered { message: Some(Message { body, ..message(room, seq) }) }))
}

fn cursor(room: &str, at: &str, delivery: Delivery) -> RoomCursor {
    let (epoch, last) = at.split_once(':').expect("a cursor is epoch:last");
    RoomCursor {
        room: room.into(),
        epoch: epoch.parse().unwrap(),
        last_seq: last.parse().unwrap(),
        delivery: delivery.into(),
    }
}

impl Stage for Stall {
    fn act(&mut self, ms: u64, words: &[&str]) {
        self.now = Timestamp::from_millis(ms);
        let now = self.now;
        let fast = if words.contains(&"fast") { Delivery::Fast } else { Delivery::Unspecified };
        match *words {
            // The link.
            ["websocket"] => self.session = session(false),
            ["stalls"] => self.stalled = true,
            ["flows"] => self.stalled = false,
            ["pong"] => self.session.handle_alive(now),
            // The client.
            ["hello", user, ..] => {
                let rooms = words[2..].iter().filter_map(|word| word.split_once('@'));
                let rooms = rooms.map(|(room, at)| cursor(room, at, fast)).collect();
                self.frame(Lane::Control, Command::Hello(Hello { token: user.into(), rooms, ..Hello::default() }));
            }
            ["refresh", token] => {
                self.frame(Lane::Control, Command::RefreshToken(RefreshToken { token: token.into() }));
            }
            ["ping"] => self.frame(Lane::Control, Command::Ping(Ping { client_time_ms: ms })),
            ["join", name, ..] => {
                let cursor = value(words, "cursor").map(|at| cursor(name, at, fast));
                let (room, delivery) = (name.into(), fast.into());
                let join = JoinRoom { room, cursor, delivery, ..JoinRoom::default() };
                self.frame(Lane::Control, Command::JoinRoom(join));
            }
            ["leave", name] => self.frame(Lane::Control, Command::LeaveRoom(LeaveRoom { room: name.into() })),
            ["publish", room, cmid, ..] => {
                let body = "x".repeat(number(words, "bytes").unwrap_or(2) as usize);
                for _ in 0..number(words, "times").unwrap_or(1) {
                    let (room, cmid, body) = (room.into(), cmid.into(), body.clone());
                    let publish = Publish { room, cmid, body, ..Publish::default() };
                    self.frame(Lane::Chat, Command::Publish(publish));
                }
            }
            ["publish-in-bulk", room] => {
                let (room, cmid, body) = (room.into(), "c".into(), "hi".into());
                let publish = Publish { room, cmid, body, ..Publish::default() };
                self.frame(Lane::Bulk(1), Command::Publish(publish));
            }
            ["history", room, ..] => {
                let anchor = match number(words, "after") {
                    Some(after) => Anchor::AfterSeq(after),
                    None => Anchor::BeforeSeq(number(words, "before").unwrap_or(0)),
                };
                let limit = number(words, "limit").unwrap_or(0) as u32;
                let history = History { room: room.into(), anchor: Some(anchor), limit, ..History::default() };
                self.frame(Lane::Bulk(3), Command::History(history));
            }
            ["repair", room, ..] => {
                let (after_seq, up_to_seq) = (number(words, "after").unwrap(), number(words, "up-to").unwrap_or(0));
                let repair = Repair { room: room.into(), epoch: 1, after_seq, up_to_seq };
                self.frame(Lane::Chat, Command::Repair(repair));
            }
            ["types", room] => {
                let typing = Command::Typing(Typing { room: room.into(), active: true });
                self.session.handle_datagram(ClientFrame { id: 0, command: Some(typing) }, now);
            }
            // Any command, as the canonical JSON of its frame, written without spaces.
            ["sends", json] => {
                let frame = veza_proto::frame::client_from_json(json).unwrap();
                let lane = Lane::of(&frame);
                self.session.handle_frame(lane, frame, now);
            }
            ["junk"] => self.session.handle_bad_frame(Lane::Control, &FrameError::Malformed("?".into()), now),
            ["oversize"] => {
                self.session.handle_bad_frame(Lane::Chat, &FrameError::TooLarge { len: 65_537, max: 65_536 }, now);
            }
            // Who answers.
            ["admitted", user, ..] => {
                let token_expires = Timestamp::from_millis(number(words, "token-until").unwrap_or(10_000_000));
                let admitted = Admitted {
                    user: UserId::parse(user).unwrap(),
                    session_id: "id".into(),
                    resume_token: "resume".into(),
                    resumed: words.contains(&"resumed"),
                    token_expires,
                };
                self.session.handle_admitted(Ok(admitted), now);
            }
            ["refused", why] => {
                let why = match why {
                    "unauthenticated" => Refusal::Unauthenticated,
                    "too-many-connections" => Refusal::TooManyConnections,
                    "denied" => Refusal::Denied,
                    "deferred" => Refusal::Deferred { retry_after_ms: 9_000 },
                    "undecided" => Refusal::Undecided { retry_after_ms: 1_000 },
                    _ => Refusal::Overloaded,
                };
                self.session.handle_admitted(Err(Refused { why, message: "no".into() }), now);
            }
            ["refreshed", ..] => {
                let expires = Timestamp::from_millis(number(words, "token-until").unwrap());
                let ticket = self.asked.remove(0);
                self.session.handle_refreshed(ticket, Ok(expires), now);
            }
            ["joined", name, ..] => {
                let head = number(words, "head").unwrap();
                let first_available = number(words, "first").unwrap_or(1);
                let room = Room { id: name.into(), epoch: 1, head, ..Room::default() };
                let present = vec!["alice".into()];
                let (statuses, receipts) = (Vec::new(), Vec::new());
                let joined = Joined { room, first_available, present, present_total: 1, statuses, receipts };
                self.answer(Answer::Joined(Box::new(joined)));
            }
            ["page", name, ..] => {
                let (from, to) = (number(words, "from").unwrap_or(1), number(words, "to").unwrap_or(0));
                let bytes = number(words, "bytes").unwrap_or(2) as usize;
                let messages =
                    (from..=to).map(|seq| Message { body: "x".repeat(bytes), ..message(name, seq) }).collect();
                let head = number(words, "head").unwrap_or(to);
                let first_available = number(words, "first").unwrap_or(1);
                self.answer(Answer::Page(Box::new(Page {
                    room: room(name),
                    epoch: 1,
                    more_before: from > first_available || to < from,
                    more_after: to >= from && to < head,
                    messages,
                    head,
                    first_available,
                })));
            }
            ["published", cmid, ..] => {
                let seq = number(words, "seq").unwrap();
                self.answer(Answer::Published(Published { cmid: cmid.into(), seq, ..Published::default() }));
            }
            ["left"] => self.answer(Answer::Left),
            ["not-found"] => self.answer(Answer::Refused(veza_engine::session::not_found())),
            // The room.
            ["delivers", name, ..] => {
                let bytes = number(words, "bytes").unwrap_or(2) as usize;
                let from = number(words, "seq").or(number(words, "from")).unwrap();
                for seq in from..=number(words, "to").unwrap_or(from) {
                    let frame = delivery(name, seq, bytes);
                    let delivered = Delivered { epoch: 1, seq, frame, retracts: None };
                    self.session.handle_delivery(&room(name), &delivered, now);
                }
            }
            ["missed", name] => self.session.handle_missed(&room(name), now),
            ["presence", name] => {
                let changed = PresenceChanged { room: name.into(), joined: vec!["bob".into()], ..Default::default() };
                let frame = Encoded::push(push::Event::PresenceChanged(changed));
                self.session.handle_notice(&room(name), &frame, now);
            }
            ["deletes", name, ..] => {
                let (seq, target) = (number(words, "seq").unwrap(), number(words, "of").unwrap());
                let change = Some(Change::Deletion(Deletion { target }));
                let message = Some(Message { change, author: "mod".into(), ..message(name, seq) });
                let frame = Encoded::push(push::Event::Message(MessageDelivered { message }));
                let delivered = Delivered { epoch: 1, seq, frame, retracts: Some(target) };
                self.session.handle_delivery(&room(name), &delivered, now);
            }
            ["evicts", name] => {
                let evicted = RoomEvicted { room: name.into(), sanction: Sanction::Ban.into(), ..Default::default() };
                self.session.handle_evicted(&room(name), evicted, now);
            }
            ["drains"] => self.session.handle_drain(std::time::Duration::from_millis(700), now),
            ["passes"] => self.session.handle_timeout(now),
            _ => panic!("{words:?}"),
        }
    }

    fn outcome(&mut self) -> Vec<String> {
        loop {
            let before = self.lines.len();
            while let Some(output) = self.session.poll_output() {
                let line = self.done(output);
                self.lines.extend(line);
            }
            while !self.stalled
                && let Some(lane) = self.session.next_lane(|_| true)
            {
                let frame = self.session.pop_frame(lane).unwrap();
                self.lines.push(format!("{} <- {}", name(lane), said(&frame)));
                self.session.handle_written(self.now);
            }
            if self.lines.len() == before {
                return fold(std::mem::take(&mut self.lines));
            }
        }
    }
}

impl Stall {
    fn done(&mut self, output: Output) -> Option<String> {
        Some(match output {
            Output::Admit(admit) => format!("admit? {}", admit.token),
            Output::Refresh { ticket, token } => {
                self.asked.push(ticket);
                format!("refresh? {token}")
            }
            Output::Ask { ticket, ask } => {
                let line = format!("ask {}", asked(&ask));
                if !matches!(ask, Ask::Typing { .. } | Ask::Status { .. }) {
                    self.asked.push(ticket);
                }
                line
            }
            Output::AskAudio { ticket, ask } => {
                let line = format!("ask audio {ask:?}");
                if !matches!(ask, AudioAsk::Report(_)) {
                    self.asked.push(ticket);
                }
                line
            }
            Output::Media(packet) => format!("media of {} bytes", packet.len()),
            Output::Datagram(datagram) => format!("datagram <- {}", said(&datagram.frame)),
            Output::Ping => "ping the link".into(),
            Output::Close { code, reason } => format!("close {} {reason:?}", code.code()),
            Output::Note(Note::ErrorSaid(_)) => return None,
            Output::Note(note) => format!("note {note:?}"),
        })
    }
}

/// Many lines that begin alike become the first and the last.
fn fold(lines: Vec<String>) -> Vec<String> {
    let mut folded: Vec<String> = Vec::new();
    let mut run: Vec<String> = Vec::new();
    let kind = |line: &str| line.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let mut flush = |run: &mut Vec<String>| {
        if run.len() > 6 {
            folded.push(run[0].clone());
            folded.push(format!("… {} more", run.len() - 2));
            folded.push(run[run.len() - 1].clone());
        } else {
            folded.append(run);
        }
        run.clear();
    };
    for line in lines {
        if run.last().is_some_and(|last| kind(last) != kind(&line)) {
            flush(&mut run);
        }
        run.push(line);
    }
    flush(&mut run);
    folded
}

fn name(lane: Lane) -> String {
    match lane {
        Lane::Control => "control".into(),
        Lane::Chat => "chat".into(),
        Lane::Bulk(stream) => format!("bulk{stream}"),
    }
}

fn asked(ask: &Ask) -> String {
    match ask {
        Ask::Join { room, .. } => format!("join {room}"),
        Ask::Subscribe { room } => format!("subscribe {room}"),
        Ask::Leave { room } => format!("leave {room}"),
        Ask::Append { room, cmid, content: Content::Text { body, .. } } => {
            format!("publish {room} {cmid} ({} bytes)", body.len())
        }
        Ask::Append { room, cmid, content } => format!("append {room} {cmid} {content:?}"),
        Ask::Read { room, view, anchor, limit } => {
            let view = match view {
                View::Everything => "all of ".to_owned(),
                View::Timeline => String::new(),
                View::Thread(root) => format!("thread {root} of "),
            };
            let anchor = match anchor {
                Place::After(after) => format!("after={after}"),
                Place::Before(u64::MAX) => "before=end".to_owned(),
                Place::Before(before) => format!("before={before}"),
                Place::Around(seq) => format!("around={seq}"),
            };
            format!("read {view}{room} {anchor} limit={limit}")
        }
        Ask::Typing { room, .. } => format!("typing {room}"),
        other => format!("{other:?}"),
    }
}

fn said(frame: &Encoded) -> String {
    match frame.frame().frame.as_ref().unwrap() {
        server_frame::Frame::Reply(reply) => format!("reply {}", replied(reply.result.as_ref().unwrap())),
        server_frame::Frame::Push(push) => format!("push {}", pushed(push.event.as_ref().unwrap())),
    }
}

fn replied(result: &reply::Result) -> String {
    match result {
        reply::Result::Error(error) if error.temporary => {
            format!("{:?} {:?} retry in {} ms", error.code(), error.message, error.retry_after_ms)
        }
        reply::Result::Error(error) => format!("{:?} {:?}", error.code(), error.message),
        reply::Result::Welcome(welcome) => format!("welcome {} resumed={}", welcome.user, welcome.resumed),
        reply::Result::RoomJoined(joined) => format!("joined {}", verdict(joined.verdict.as_ref().unwrap())),
        reply::Result::Published(published) => format!("published {} seq={}", published.cmid, published.seq),
        reply::Result::HistoryPage(page) => {
            format!("page {} more_before={} more_after={}", range(&page.messages), page.more_before, page.more_after)
        }
        reply::Result::Repaired(repaired) => format!("repaired {} head={}", range(&repaired.messages), repaired.head),
        reply::Result::Pong(pong) => format!("pong {}", pong.client_time_ms),
        other => format!("{other:?}"),
    }
}

fn pushed(event: &push::Event) -> String {
    match event {
        push::Event::Message(delivered) => {
            let message = delivered.message.as_ref().unwrap();
            let deleted = if message.deleted.is_some() { " deleted" } else { "" };
            format!("message {}{deleted}", message.seq)
        }
        push::Event::RoomResumed(resumed) => match resumed.result.as_ref().unwrap() {
            room_resumed::Result::Joined(joined) => {
                format!("resumed {} {}", resumed.room, verdict(joined.verdict.as_ref().unwrap()))
            }
            room_resumed::Result::Error(error) => format!("resumed {} {:?}", resumed.room, error.code()),
        },
        push::Event::RoomHead(head) => format!("head {} {}", head.room, head.head),
        push::Event::RoomLagging(lagging) => format!("lagging {} last={}", lagging.room, lagging.last_delivered),
        push::Event::PresenceChanged(changed) => format!("presence {:?}", changed.joined),
        push::Event::Closing(closing) => format!("closing {}", closing.code),
        push::Event::Reconnect(reconnect) => format!("reconnect after {} ms", reconnect.after_ms),
        push::Event::TokenExpiring(expiring) => format!("token expiring at {}", expiring.token_expires_ms),
        push::Event::TypingChanged(typing) => format!("{} types", typing.user),
        push::Event::RoomEvicted(evicted) => format!("evicted from {} {:?}", evicted.room, evicted.sanction()),
        push::Event::RoomChanged(changed) => format!("room changed {:?}", changed.room),
        push::Event::ReceiptsChanged(changed) => format!("receipts {:?}", changed.receipts),
        push::Event::StreamChanged(changed) => format!("stream changed {:?}", changed.stream),
        push::Event::QualityChanged(changed) => format!("quality changed {:?}", changed.quality),
        push::Event::IngestReport(report) => format!("ingest {report:?}"),
    }
}

fn verdict(verdict: &veza_proto::v1::Verdict) -> String {
    match verdict.outcome.as_ref().unwrap() {
        Outcome::Live(_) => "live".into(),
        Outcome::Recovered(recovered) => format!("recovered {}", recovered.messages),
        Outcome::Gap(gap) => format!("gap {:?} first={}", gap.reason(), gap.first_available),
    }
}

fn range(messages: &[Message]) -> String {
    match (messages.first(), messages.last()) {
        (Some(first), Some(last)) => format!("{}..{}", first.seq, last.seq),
        _ => "nothing".into(),
    }
}
