//! One client's session: hello, resume, rooms, lanes, quotas and the heartbeat, whatever link carries it.
//!
//! The shell feeds it what the link and the rooms say and does what [`Session::poll_output`] yields. Frames to be sent
//! wait in lanes, which the shell empties as the link takes them ([`Session::next_lane`], [`Session::pop_frame`]).

mod admission;
mod commands;
mod deliveries;
mod lanes;
mod messages;
mod rooms;
mod streams;
mod subscription;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use veza_proto::frame::FrameError;
use veza_proto::v1::{
    ClientFrame, Closing, Delivery, Error, ErrorCode, Hello, Limits, Reconnect, RoomCursor, RoomResumed, TokenAccepted,
    TokenExpiring, Welcome, client_frame::Command, push, reply, room_resumed,
};
use veza_proto::{CloseCode, Encoded, Format, Lane, RoomId, UserId, limits as wire};

use crate::ask::{Ask, Purpose, Status, Ticket};
use crate::audio::AudioAsk;
pub use crate::ledger::not_found;
use crate::limits;
use crate::quota::Strikes;
use crate::{Timestamp, TokenBucket};
pub use admission::{Admit, Admitted, Refusal, Refused};
use lanes::Lanes;
pub use streams::place_after;
use subscription::{Cursor, Subscription};

/// What an operator sets for every session.
#[derive(Debug, Clone)]
pub struct Settings {
    pub rooms_max: usize,
    pub publish_per_second: u32,
    pub publish_burst: u32,
    pub requests_per_second: u32,
    pub server_version: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rooms_max: 128,
            publish_per_second: 20,
            publish_burst: 40,
            requests_per_second: 100,
            server_version: String::new(),
        }
    }
}

/// What the link is like.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// As the welcome says it.
    pub transport: &'static str,
    pub format: Format,
    /// Datagrams can be lost and overtake, so fast delivery makes sense.
    pub datagrams: bool,
    /// The link has no keep-alive of its own (WebSocket).
    pub needs_ping: bool,
    /// From 0 to 999: spreads the first ping of sessions that began together.
    pub jitter: u16,
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Check who this is; answer with [`Session::handle_admitted`].
    Admit(Admit),
    /// Check a fresh token; answer with [`Session::handle_refreshed`].
    Refresh { ticket: Ticket, token: String },
    /// Ask the rooms or the store; answer with [`Session::handle_answer`].
    Ask { ticket: Ticket, ask: Ask },
    /// Ask the streams; answer with [`Session::handle_answer`], where there is an answer.
    AskAudio { ticket: Ticket, ask: AudioAsk },
    /// A media packet of the client, within its rate.
    Media(Bytes),
    /// Send by datagram; tell [`Session::handle_datagram_unsent`] when it was too large or dropped.
    Datagram(Datagram),
    /// Send the transport's ping.
    Ping,
    /// Send what waits in the control lane, then close. Nothing comes after it.
    Close { code: CloseCode, reason: String },
    /// Something worth counting.
    Note(Note),
}

/// A push that may be lost.
#[derive(Debug, Clone)]
pub struct Datagram {
    pub frame: Encoded,
    /// With a room and its sequence number it is a message, which goes by stream when the datagram cannot.
    pub message: Option<(RoomId, u64)>,
}

/// Things the shell counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    Welcomed { resumed: bool },
    Verdict(&'static str),
    Replayed(u64),
    Lagging,
    ErrorSaid(ErrorCode),
    DatagramOverRate,
    MediaOverRate,
}

/// Why a deadline is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    Hello,
    Queue,
    FastHeads,
    Heartbeat,
    TokenWarning,
    TokenEnd,
}

/// The session's state machine.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    profile: Profile,
    phase: Phase,
    outputs: VecDeque<Output>,
    lanes: Lanes,
    subscriptions: BTreeMap<RoomId, Subscription>,
    /// Counts joins and resumes of rooms.
    joins: u32,
    /// What the client says of its user, told in every room.
    status: Status,
    asks_in_flight: u32,
    heads_due: Option<Timestamp>,
    heard: Timestamp,
    pinged: Option<Timestamp>,
    publishes: TokenBucket,
    requests: TokenBucket,
    datagrams: TokenBucket,
    media: TokenBucket,
    malformed: Strikes,
    oversize: Strikes,
    refusals: Strikes,
    datagram_refusals: Strikes,
}

#[derive(Debug)]
enum Phase {
    AwaitingHello { since: Timestamp },
    Admitting(Box<Pending>),
    Open(Box<Open>),
    Closed,
}

#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    rooms: Vec<RoomCursor>,
}

#[derive(Debug)]
struct Open {
    user: UserId,
    token_expires: Timestamp,
    token_warned: bool,
}

impl Session {
    pub fn new(settings: Arc<Settings>, profile: Profile, now: Timestamp) -> Self {
        let publishes = TokenBucket::new(settings.publish_per_second, settings.publish_burst, now);
        let requests = TokenBucket::new(settings.requests_per_second, settings.requests_per_second * 2, now);
        let datagrams = TokenBucket::new(limits::DATAGRAMS_PER_SECOND, limits::DATAGRAMS_PER_SECOND, now);
        let media = TokenBucket::new(limits::MEDIA_PER_SECOND, limits::MEDIA_BURST, now);
        Self {
            settings,
            profile,
            phase: Phase::AwaitingHello { since: now },
            outputs: VecDeque::new(),
            lanes: Lanes::new(profile.format),
            subscriptions: BTreeMap::new(),
            joins: 0,
            status: Status::default(),
            asks_in_flight: 0,
            heads_due: None,
            heard: now,
            pinged: None,
            publishes,
            requests,
            datagrams,
            media,
            malformed: Strikes::default(),
            oversize: Strikes::default(),
            refusals: Strikes::default(),
            datagram_refusals: Strikes::default(),
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            self.outputs = VecDeque::new();
        }
        output
    }

    /// The user, once welcomed.
    pub fn user(&self) -> Option<&UserId> {
        match &self.phase {
            Phase::Open(open) => Some(&open.user),
            Phase::AwaitingHello { .. } | Phase::Admitting(_) | Phase::Closed => None,
        }
    }

    /// The rooms this session is subscribed to or asked to be.
    pub fn rooms(&self) -> impl Iterator<Item = &RoomId> {
        self.subscriptions.keys()
    }

    /// The lane of the next frame to send, among those the link is ready for.
    pub fn next_lane(&self, ready: impl FnMut(Lane) -> bool) -> Option<Lane> {
        self.lanes.next_lane(ready)
    }

    /// Takes the next frame of a lane; call [`Session::handle_written`] after a round of these.
    pub fn pop_frame(&mut self, lane: Lane) -> Option<Encoded> {
        self.lanes.pop(lane)
    }

    /// Bytes waiting to be sent.
    pub fn queued_bytes(&self) -> usize {
        self.lanes.bytes()
    }

    /// Frames left the lanes: what waited for room may go on.
    pub fn handle_written(&mut self, now: Timestamp) {
        self.advance_replays(now);
    }

    /// A frame came in on a lane.
    pub fn handle_frame(&mut self, lane: Lane, frame: ClientFrame, now: Timestamp) {
        self.handle_alive(now);
        let ticket = Ticket { lane, id: frame.id, purpose: Purpose::Command, since: now };
        let Some(command) = frame.command else {
            self.malformed(&ticket, "the frame has no command this server knows", now);
            return;
        };
        match (&self.phase, command) {
            (Phase::Closed, _) => {}
            (Phase::AwaitingHello { .. }, Command::Hello(hello)) => self.hello(ticket, hello, now),
            (Phase::AwaitingHello { .. } | Phase::Admitting(_), _) => {
                self.refuse(&ticket, Error::permanent(ErrorCode::OutOfOrder, "say hello first"), now);
            }
            (Phase::Open(_), command) => self.command(ticket, command, now),
        }
    }

    /// A frame came in by datagram. Only volatile commands may; others are dropped, since their loss would be silent.
    pub fn handle_datagram(&mut self, frame: ClientFrame, now: Timestamp) {
        self.handle_alive(now);
        if !self.datagram_within_rate(now) {
            return;
        }
        match (&self.phase, frame.command) {
            (Phase::Open(_), Some(Command::Typing(typing))) => self.typing(&typing, now),
            (Phase::Open(_), Some(Command::ReceiverReport(report))) => self.receiver_report(report, now),
            _ => {}
        }
    }

    /// A datagram that is no frame.
    pub fn handle_bad_datagram(&mut self, now: Timestamp) {
        self.handle_alive(now);
        self.datagram_within_rate(now);
    }

    /// Bytes that are no frame, or too many of them.
    pub fn handle_bad_frame(&mut self, lane: Lane, error: &FrameError, now: Timestamp) {
        self.handle_alive(now);
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        let ticket = Ticket { lane, id: 0, purpose: Purpose::Command, since: now };
        match error {
            FrameError::TooLarge { .. } => {
                self.refuse(&ticket, Error::permanent(ErrorCode::TooLarge, error.to_string()), now);
                if self.oversize.strike(limits::STRIKE_WINDOW, limits::OVERSIZE_STRIKES as u32, now) {
                    self.close(CloseCode::TooLarge, "frames over the size limit, again and again", now);
                }
            }
            FrameError::BadLength | FrameError::Malformed(_) => self.malformed(&ticket, "not a frame of veza.v1", now),
        }
    }

    /// Any sign of life.
    pub fn handle_alive(&mut self, now: Timestamp) {
        self.heard = now;
        self.pinged = None;
    }

    /// The answer to [`Output::Admit`].
    pub fn handle_admitted(&mut self, admitted: Result<Admitted, Refused>, now: Timestamp) {
        let Phase::Admitting(pending) = std::mem::replace(&mut self.phase, Phase::Closed) else { return };
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(refused) => {
                self.phase = Phase::AwaitingHello { since: now };
                self.refuse(&pending.ticket, refused.error(), now);
                self.close(refused.why.close_code(), &refused.message, now);
                return;
            }
        };
        let welcome = self.welcome(&admitted, now);
        self.phase = Phase::Open(Box::new(Open {
            user: admitted.user,
            token_expires: admitted.token_expires,
            token_warned: false,
        }));
        self.note(Note::Welcomed { resumed: admitted.resumed });
        self.reply(&pending.ticket, reply::Result::Welcome(welcome), now);
        for cursor in pending.rooms {
            self.resume_room(cursor, now);
        }
    }

    /// The answer to [`Output::Refresh`]: the new token's end, or why it is none.
    pub fn handle_refreshed(&mut self, ticket: Ticket, refreshed: Result<Timestamp, String>, now: Timestamp) {
        let Phase::Open(open) = &mut self.phase else { return };
        match refreshed {
            Ok(expires) => {
                open.token_expires = expires;
                open.token_warned = false;
                let accepted = TokenAccepted { token_expires_ms: expires.as_millis() };
                self.reply(&ticket, reply::Result::TokenAccepted(accepted), now);
            }
            Err(message) => self.refuse(&ticket, Error::permanent(ErrorCode::Unauthenticated, message), now),
        }
    }

    /// The node goes away: come back after this long.
    pub fn handle_drain(&mut self, after: Duration, now: Timestamp) {
        if let Phase::Open(_) = self.phase {
            let after_ms = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
            let reconnect = Reconnect { after_ms, reason: "the server restarts".into() };
            self.push(Lane::Control, push::Event::Reconnect(reconnect), now);
        }
    }

    /// Ends the session with a code: the closing push, then the transport's close.
    pub fn close(&mut self, code: CloseCode, reason: &str, now: Timestamp) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.phase = Phase::Closed;
        let retry_after_ms = if code.may_retry() { 1_000 } else { 0 };
        let closing = Closing { code: code.code().into(), reason: reason.to_owned(), retry_after_ms };
        self.push(Lane::Control, push::Event::Closing(closing), now);
        self.outputs.push_back(Output::Close { code, reason: reason.to_owned() });
    }

    /// The next deadline and its reason.
    pub fn poll_timeout(&self) -> Option<(Timestamp, Timeout)> {
        let open = match &self.phase {
            Phase::Closed => return None,
            Phase::AwaitingHello { since } => return Some((*since + limits::HELLO_DEADLINE, Timeout::Hello)),
            Phase::Admitting(_) => return None,
            Phase::Open(open) => open,
        };
        let token = if open.token_warned {
            (open.token_expires + limits::TOKEN_GRACE, Timeout::TokenEnd)
        } else {
            (open.token_expires - limits::TOKEN_WARNING, Timeout::TokenWarning)
        };
        let candidates = [
            Some(token),
            self.heads_due.map(|at| (at, Timeout::FastHeads)),
            self.lanes.deadline().map(|at| (at, Timeout::Queue)),
            self.heartbeat_deadline().map(|at| (at, Timeout::Heartbeat)),
        ];
        candidates.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Fires every deadline that has come.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some((at, reason)) = self.poll_timeout()
            && at <= now
        {
            match reason {
                Timeout::Hello => self.close(CloseCode::Unauthenticated, "no hello within 5 seconds", now),
                Timeout::Queue => self.relieve(now),
                Timeout::FastHeads => self.say_heads(now),
                Timeout::Heartbeat => self.heartbeat(now),
                Timeout::TokenWarning => self.warn_of_token_end(now),
                Timeout::TokenEnd => self.close(CloseCode::Unauthenticated, "the token has expired", now),
            }
        }
    }

    fn hello(&mut self, ticket: Ticket, hello: Hello, now: Timestamp) {
        if hello.rooms.len() > self.settings.rooms_max {
            let message =
                format!("hello names {} rooms, a connection may have {}", hello.rooms.len(), self.settings.rooms_max);
            self.refuse(&ticket, Error::permanent(ErrorCode::Limit, message), now);
            return;
        }
        for (what, len, max) in [
            ("token", hello.token.len(), wire::TOKEN_BYTES_MAX),
            ("client", hello.client.len(), wire::CLIENT_BYTES_MAX),
            ("resume_token", hello.resume_token.len(), wire::TOKEN_BYTES_MAX),
        ] {
            if len > max {
                let message = format!("{what} may have {max} bytes, this has {len}");
                self.refuse(&ticket, Error::permanent(ErrorCode::InvalidArgument, message), now);
                return;
            }
        }
        self.phase = Phase::Admitting(Box::new(Pending { ticket, rooms: hello.rooms }));
        let admit = Admit { token: hello.token, resume_token: hello.resume_token, client: hello.client };
        self.outputs.push_back(Output::Admit(admit));
    }

    fn welcome(&self, admitted: &Admitted, now: Timestamp) -> Welcome {
        let heartbeat = if self.profile.needs_ping { limits::PING_AFTER } else { limits::QUIC_KEEP_ALIVE };
        Welcome {
            session_id: admitted.session_id.clone(),
            user: admitted.user.as_str().to_owned(),
            resume_token: admitted.resume_token.clone(),
            resumed: admitted.resumed,
            limits: Some(Limits {
                frame_bytes_max: wire::FRAME_BYTES_MAX as u32,
                body_bytes_max: wire::BODY_BYTES_MAX as u32,
                rooms_max: u32::try_from(self.settings.rooms_max).unwrap_or(u32::MAX),
                history_page_max: wire::HISTORY_PAGE_MAX,
                publish_per_second: self.settings.publish_per_second,
                publish_burst: self.settings.publish_burst,
            }),
            heartbeat_ms: heartbeat.as_millis() as u32,
            server_time_ms: now.as_millis(),
            token_expires_ms: admitted.token_expires.as_millis(),
            server_version: self.settings.server_version.clone(),
            transport: self.profile.transport.to_owned(),
        }
    }

    fn resume_room(&mut self, cursor: RoomCursor, now: Timestamp) {
        let room = match RoomId::parse(&cursor.room) {
            Ok(room) => room,
            Err(error) => {
                let error = Error::permanent(ErrorCode::InvalidArgument, error.to_string());
                self.say_resumed(cursor.room, room_resumed::Result::Error(error), now);
                return;
            }
        };
        if self.subscriptions.contains_key(&room) {
            let error = Error::permanent(ErrorCode::InvalidArgument, "hello names this room twice");
            self.say_resumed(cursor.room, room_resumed::Result::Error(error), now);
            return;
        }
        let (position, delivery) = (Cursor::of(&cursor), cursor.delivery());
        let number = self.begin_join(&room, position, delivery);
        let purpose = Purpose::Resume { room: room.clone(), number };
        let ticket = Ticket { lane: Lane::Control, id: 0, purpose, since: now };
        self.ask(ticket, Ask::Subscribe { room });
    }

    /// Asks anew where this session stands in a room: the number of that asking. Only the newest one's answer counts.
    fn begin_join(&mut self, room: &RoomId, cursor: Option<Cursor>, delivery: Delivery) -> u32 {
        self.joins = self.joins.wrapping_add(1);
        let (number, datagrams) = (self.joins, self.profile.datagrams);
        self.subscriptions
            .entry(room.clone())
            .and_modify(|subscription| subscription.rejoin(number, cursor, delivery, datagrams))
            .or_insert_with(|| Subscription::joining(number, cursor, delivery, datagrams));
        number
    }

    fn say_resumed(&mut self, room: String, result: room_resumed::Result, now: Timestamp) {
        let resumed = RoomResumed { room, result: Some(result) };
        self.push(Lane::Control, push::Event::RoomResumed(resumed), now);
    }

    fn heartbeat_deadline(&self) -> Option<Timestamp> {
        if !self.profile.needs_ping {
            return None;
        }
        Some(match self.pinged {
            Some(at) => at + limits::PONG_WITHIN,
            None => self.heard + limits::PING_AFTER - Duration::from_millis(u64::from(self.profile.jitter) * 5),
        })
    }

    fn heartbeat(&mut self, now: Timestamp) {
        if self.pinged.is_some() {
            self.close(CloseCode::Silent, "no sign of life after a ping", now);
            return;
        }
        self.pinged = Some(now);
        self.outputs.push_back(Output::Ping);
    }

    fn warn_of_token_end(&mut self, now: Timestamp) {
        if let Phase::Open(open) = &mut self.phase {
            open.token_warned = true;
            let token_expires_ms = open.token_expires.as_millis();
            self.push(Lane::Control, push::Event::TokenExpiring(TokenExpiring { token_expires_ms }), now);
        }
    }

    fn datagram_within_rate(&mut self, now: Timestamp) -> bool {
        if self.datagrams.take(now).is_ok() {
            return true;
        }
        self.note(Note::DatagramOverRate);
        if self.datagram_refusals.strike(limits::ABUSE_WINDOW, limits::DATAGRAMS_ABUSE, now) {
            self.close(CloseCode::Abuse, "ten times the datagram rate for ten seconds", now);
        }
        false
    }

    fn malformed(&mut self, ticket: &Ticket, message: &str, now: Timestamp) {
        self.refuse(ticket, Error::permanent(ErrorCode::Malformed, message), now);
        if self.malformed.strike(limits::STRIKE_WINDOW, limits::MALFORMED_STRIKES as u32, now) {
            self.close(CloseCode::Malformed, "three malformed frames within a minute", now);
        }
    }

    fn ask(&mut self, ticket: Ticket, ask: Ask) {
        self.asks_in_flight += 1;
        self.outputs.push_back(Output::Ask { ticket, ask });
    }

    fn reply(&mut self, ticket: &Ticket, result: reply::Result, now: Timestamp) {
        self.lanes.push(ticket.lane, Encoded::reply(ticket.id, result), now);
        self.relieve(now);
    }

    fn refuse(&mut self, ticket: &Ticket, error: Error, now: Timestamp) {
        self.note(Note::ErrorSaid(error.code()));
        let limited = error.code() == ErrorCode::RateLimited;
        self.reply(ticket, reply::Result::Error(error), now);
        if limited && self.refusals.strike(limits::ABUSE_WINDOW, limits::ABUSE_REFUSALS, now) {
            self.close(CloseCode::Abuse, "the rate limits were ignored", now);
        }
    }

    fn push(&mut self, lane: Lane, event: push::Event, now: Timestamp) {
        self.lanes.push(lane, Encoded::push(event), now);
    }

    fn note(&mut self, note: Note) {
        self.outputs.push_back(Output::Note(note));
    }
}

fn delivery_of(number: i32) -> Delivery {
    Delivery::try_from(number).unwrap_or(Delivery::Unspecified)
}
