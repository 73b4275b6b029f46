//! A node of the server: real sessions and rooms, and between them what the hub and the tasks of the sessions do.

pub(crate) mod bus;
mod hub;
mod rooms;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use veza_engine::room::{Delivered, Room};
use veza_engine::session::{Admitted, Output, Profile, Session, Settings};
use veza_engine::{Answer, SessionKey, Ticket, Timestamp, retracted};
use veza_proto::v1::{ClientFrame, RoomEvicted};
use veza_proto::{CloseCode, Encoded, Lane, RoomId, UserId};

use crate::link::Link;
use crate::stage::{Event, Life, LinkNo, MS, NodeNo, Stage};
use crate::store::Store;

/// Letters of a session that may wait: few, so that the bound is met.
const LETTERS_MAX: usize = 48;
/// The wall clock when a run begins.
const EPOCH_MS: u64 = 1_700_000_000_000;
/// How long a token is good for.
const TOKEN: Duration = Duration::from_secs(90);

pub(crate) type Links = BTreeMap<LinkNo, Link>;

/// What a node reaches for while it works.
pub(crate) struct Around<'a> {
    pub(crate) links: &'a mut Links,
    pub(crate) store: &'a mut Store,
    pub(crate) stage: &'a mut Stage,
}

#[derive(Debug)]
pub(crate) struct Node {
    no: NodeNo,
    lives: u32,
    pub(crate) up: bool,
    /// How far the node's clock is from the run's.
    pub(crate) clock_ms: i64,
    sessions: BTreeMap<SessionKey, Seat>,
    rooms: BTreeMap<RoomId, Slot>,
    begun: u64,
    settings: Arc<Settings>,
    /// The bus does not reach this node until then.
    pub(crate) cut_off_until: u64,
}

/// One session and its task.
#[derive(Debug)]
struct Seat {
    session: Session,
    link: LinkNo,
    id: String,
    letters: VecDeque<Letter>,
    missed: Vec<RoomId>,
    /// The task will run by itself.
    called: bool,
    /// It has no turn before this.
    stalled_until: u64,
    armed: Option<u64>,
}

#[derive(Debug)]
enum Letter {
    Answer(Box<(Ticket, Answer)>),
    Delivery(RoomId, Delivered),
    Missed(RoomId),
    Notice(RoomId, Encoded),
    Evicted(RoomId, RoomEvicted),
    Volatile(Encoded),
    Close(CloseCode),
}

/// A room that is loaded here.
#[derive(Debug)]
struct Slot {
    room: Room,
    listeners: BTreeMap<SessionKey, UserId>,
    appending: usize,
    /// The database is being asked what has become of the room.
    looking: bool,
    idle_since: Option<u64>,
}

impl Node {
    pub(crate) fn new(no: NodeNo, stage: &mut Stage) -> Self {
        let settings = Settings { publish_per_second: 10, publish_burst: 20, ..Settings::default() };
        let mut node = Self {
            no,
            lives: 0,
            up: false,
            clock_ms: 0,
            sessions: BTreeMap::new(),
            rooms: BTreeMap::new(),
            begun: 0,
            settings: Arc::new(settings),
            cut_off_until: 0,
        };
        node.start(stage);
        node
    }

    pub(crate) fn life(&self) -> Life {
        Life { node: self.no, count: self.lives }
    }

    pub(crate) fn lives(&self, life: Life) -> bool {
        self.up && self.lives == life.count
    }

    pub(crate) fn start(&mut self, stage: &mut Stage) {
        self.up = true;
        self.lives += 1;
        let first = stage.now + stage.chance.below(100 * MS);
        stage.at(first, Event::Tick(self.life()));
    }

    /// Everything that was in memory is gone, and nobody is told.
    pub(crate) fn crash(&mut self, links: &mut Links) {
        self.up = false;
        self.rooms.clear();
        for seat in std::mem::take(&mut self.sessions).into_values() {
            if let Some(link) = links.get_mut(&seat.link) {
                link.cut = true;
            }
        }
    }

    pub(crate) fn now(&self, stage: &Stage) -> Timestamp {
        let ms = EPOCH_MS + stage.now / MS;
        Timestamp::from_millis(ms.saturating_add_signed(self.clock_ms))
    }

    /// The clock has jumped: every deadline is looked at anew.
    pub(crate) fn clock_jumped(&mut self, around: &mut Around<'_>) {
        for key in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.deadline(key, around);
        }
    }

    /// A client connects: the session that its link leads to.
    pub(crate) fn accept(&mut self, link: LinkNo, quic: bool, stage: &mut Stage) -> SessionKey {
        self.begun += 1;
        let key = SessionKey(u64::from(self.lives) * 1_000_000 + self.begun);
        let transport = if quic { "webtransport" } else { "websocket" };
        let jitter = u16::try_from(stage.chance.below(1_000)).unwrap_or(0);
        let format = veza_proto::Format::Proto;
        let profile = Profile { transport, format, datagrams: quic, needs_ping: !quic, jitter };
        let session = Session::new(Arc::clone(&self.settings), profile, self.now(stage));
        let seat = Seat {
            session,
            link,
            id: format!("{}-{}", self.no, key.0),
            letters: VecDeque::new(),
            missed: Vec::new(),
            called: false,
            stalled_until: 0,
            armed: None,
        };
        self.sessions.insert(key, seat);
        key
    }

    pub(crate) fn frame(&mut self, key: SessionKey, lane: Lane, frame: ClientFrame, around: &mut Around<'_>) {
        let now = self.now(around.stage);
        if let Some(seat) = self.sessions.get_mut(&key) {
            seat.session.handle_frame(lane, frame, now);
            self.drive(key, around);
        }
    }

    pub(crate) fn datagram(&mut self, key: SessionKey, frame: ClientFrame, around: &mut Around<'_>) {
        let now = self.now(around.stage);
        if let Some(seat) = self.sessions.get_mut(&key) {
            seat.session.handle_datagram(frame, now);
            self.drive(key, around);
        }
    }

    pub(crate) fn alive(&mut self, key: SessionKey, around: &mut Around<'_>) {
        let now = self.now(around.stage);
        if let Some(seat) = self.sessions.get_mut(&key) {
            seat.session.handle_alive(now);
            self.drive(key, around);
        }
    }

    /// The link takes frames again.
    pub(crate) fn flows(&mut self, key: SessionKey, around: &mut Around<'_>) {
        if self.sessions.contains_key(&key) {
            self.drive(key, around);
        }
    }

    /// The link is gone.
    pub(crate) fn gone(&mut self, key: SessionKey, around: &mut Around<'_>) {
        if self.sessions.contains_key(&key) {
            self.leave(key, around);
        }
    }

    /// A session's task has no turn for a while.
    pub(crate) fn stall(&mut self, key: SessionKey, until: u64) {
        if let Some(seat) = self.sessions.get_mut(&key) {
            seat.stalled_until = until;
        }
    }

    /// The task's turn: it takes its letters.
    pub(crate) fn task(&mut self, key: SessionKey, around: &mut Around<'_>) {
        let now = self.now(around.stage);
        let life = self.life();
        let Some(seat) = self.sessions.get_mut(&key) else { return };
        if around.stage.now < seat.stalled_until {
            around.stage.at(seat.stalled_until, Event::Task { life, session: key });
            return;
        }
        seat.called = false;
        while let Some(letter) = self.sessions.get_mut(&key).and_then(|seat| seat.letters.pop_front()) {
            let Some(seat) = self.sessions.get_mut(&key) else { return };
            match letter {
                Letter::Answer(answer) => seat.session.handle_answer(answer.0, answer.1, now),
                Letter::Delivery(room, entry) => seat.session.handle_delivery(&room, &entry, now),
                Letter::Missed(room) => {
                    seat.missed.retain(|missed| *missed != room);
                    seat.session.handle_missed(&room, now);
                }
                Letter::Notice(room, frame) => seat.session.handle_notice(&room, &frame, now),
                Letter::Evicted(room, evicted) => seat.session.handle_evicted(&room, evicted, now),
                Letter::Volatile(frame) => seat.session.handle_volatile(&frame),
                Letter::Close(code) => seat.session.close(code, "elsewhere", now),
            }
            self.drive(key, around);
        }
    }

    /// A deadline of the session may have come.
    pub(crate) fn deadline(&mut self, key: SessionKey, around: &mut Around<'_>) {
        let now = self.now(around.stage);
        let Some(seat) = self.sessions.get_mut(&key) else { return };
        seat.armed = None;
        seat.session.handle_timeout(now);
        self.drive(key, around);
    }

    pub(crate) fn admitted(&mut self, key: SessionKey, token: &str, resume: &str, around: &mut Around<'_>) {
        let now = self.now(around.stage);
        let (user, until) = token.split_once('@').unwrap_or((token, "0"));
        let expires = Timestamp::from_millis(until.parse().unwrap_or(0));
        let older = self.sessions.iter().find(|(_, seat)| seat.id == resume).map(|(key, _)| *key);
        let Some(seat) = self.sessions.get_mut(&key) else { return };
        let resumed = !resume.is_empty();
        if resumed {
            seat.id = resume.to_owned();
        }
        let admitted = Admitted {
            user: UserId::parse(user).expect("the users of a run have short names"),
            session_id: seat.id.clone(),
            resume_token: seat.id.clone(),
            resumed,
            token_expires: expires,
        };
        seat.session.handle_admitted(Ok(admitted), now);
        self.drive(key, around);
        if let Some(older) = older.filter(|older| *older != key) {
            self.post(older, Letter::Close(CloseCode::Superseded), around.stage);
        }
    }

    /// A token that is good for a while by this node's clock.
    pub(crate) fn token(&self, user: &str, stage: &Stage) -> String {
        format!("{user}@{}", (self.now(stage) + TOKEN).as_millis())
    }

    /// Does what the session wants done, and sends what its link takes.
    pub(crate) fn drive(&mut self, key: SessionKey, around: &mut Around<'_>) {
        loop {
            let Some(seat) = self.sessions.get_mut(&key) else { return };
            let link = seat.link;
            if let Some(output) = seat.session.poll_output() {
                match output {
                    Output::Admit(admit) => {
                        let (life, token, resume) = (self.life(), admit.token, admit.resume_token);
                        around.stage.soon(100, 2 * MS, Event::Admitted { life, session: key, token, resume });
                    }
                    Output::Refresh { ticket, token } => {
                        let until = token.split_once('@').and_then(|(_, until)| until.parse().ok());
                        let until = until.map(Timestamp::from_millis).ok_or_else(|| "no token".to_owned());
                        let now = self.now(around.stage);
                        self.seat(key).session.handle_refreshed(ticket, until, now);
                    }
                    Output::Ask { ticket, ask } => self.ask(key, ticket, ask, around),
                    Output::Datagram(datagram) => {
                        let sent = around
                            .links
                            .get_mut(&link)
                            .is_some_and(|link| link.send_down_datagram(&datagram.frame, around.stage));
                        if !sent {
                            let now = self.now(around.stage);
                            self.seat(key).session.handle_datagram_unsent(datagram, now);
                        }
                    }
                    Output::Ping => around.stage.soon(MS, 40 * MS, Event::Pong { link }),
                    Output::Close { .. } => {
                        self.close(key, around);
                        return;
                    }
                    // Nobody here has to do with live audio.
                    Output::AskAudio { .. } | Output::Media(_) | Output::Note(_) => {}
                }
            } else if !self.write(key, around) {
                break;
            }
        }
        self.arm(key, around.stage);
    }

    /// Sends a round of frames; `false` when there was nothing that the link took.
    fn write(&mut self, key: SessionKey, around: &mut Around<'_>) -> bool {
        let now = self.now(around.stage);
        let seat = self.seat(key);
        let Some(link) = around.links.get_mut(&seat.link) else { return false };
        let mut sent = false;
        while let Some(lane) = seat.session.next_lane(|lane| link.takes(lane)) {
            let Some(frame) = seat.session.pop_frame(lane) else { break };
            link.send_down(lane, &frame, around.stage);
            sent = true;
        }
        if sent {
            seat.session.handle_written(now);
        }
        sent
    }

    /// What waits in the control lane, then the end.
    fn close(&mut self, key: SessionKey, around: &mut Around<'_>) {
        let seat = self.seat(key);
        if let Some(link) = around.links.get_mut(&seat.link) {
            while let Some(frame) = seat.session.pop_frame(Lane::Control) {
                link.send_down(Lane::Control, &frame, around.stage);
            }
            link.close_down(around.stage);
        }
        self.leave(key, around);
    }

    fn leave(&mut self, key: SessionKey, around: &mut Around<'_>) {
        let Some(seat) = self.sessions.remove(&key) else { return };
        if let Some(link) = around.links.get_mut(&seat.link) {
            link.close_down(around.stage);
        }
        for room in seat.session.rooms() {
            self.unsubscribe(room, key, around);
        }
    }

    fn arm(&mut self, key: SessionKey, stage: &mut Stage) {
        let (life, now_ms) = (self.life(), self.now(stage).as_millis());
        let seat = self.seat(key);
        let Some((at, _)) = seat.session.poll_timeout() else { return };
        let at = stage.now + at.as_millis().saturating_sub(now_ms) * MS;
        if seat.armed.is_none_or(|armed| at < armed) {
            seat.armed = Some(at);
            stage.at(at, Event::Deadline { life, session: key });
        }
    }

    fn post(&mut self, key: SessionKey, letter: Letter, stage: &mut Stage) {
        let life = self.life();
        let Some(seat) = self.sessions.get_mut(&key) else { return };
        let full = seat.letters.len() >= LETTERS_MAX;
        match letter {
            Letter::Delivery(room, entry) => {
                if let Some(target) = entry.retracts {
                    take_back(&mut seat.letters, &room, &entry, target);
                }
                if !full {
                    seat.letters.push_back(Letter::Delivery(room, entry));
                } else if !seat.missed.contains(&room) {
                    seat.missed.push(room.clone());
                    seat.letters.push_back(Letter::Missed(room));
                }
            }
            Letter::Notice(..) | Letter::Volatile(_) if full => {}
            letter @ (Letter::Answer(_)
            | Letter::Missed(_)
            | Letter::Notice(..)
            | Letter::Evicted(..)
            | Letter::Volatile(_)
            | Letter::Close(_)) => seat.letters.push_back(letter),
        }
        if !seat.called {
            seat.called = true;
            stage.soon(20, 500, Event::Task { life, session: key });
        }
    }

    fn seat(&mut self, key: SessionKey) -> &mut Seat {
        self.sessions.get_mut(&key).expect("only a session that is there is driven")
    }

    /// Sessions that rooms deliver to and that are not there, or have left the room.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        for (id, slot) in &self.rooms {
            for key in slot.listeners.keys() {
                let listens = self.sessions.get(key).is_some_and(|seat| seat.session.rooms().any(|room| room == id));
                if !listens {
                    leaks.push(format!("node {}: {id} delivers to {key:?}, which is not in it", self.no));
                }
            }
        }
        leaks
    }
}

/// What a deletion deletes and the session has not taken yet is let go without its content.
fn take_back(letters: &mut VecDeque<Letter>, of: &RoomId, deletion: &Delivered, target: u64) {
    for letter in letters {
        if let Letter::Delivery(room, entry) = letter
            && room == of
            && let Some(frame) = retracted(&entry.frame, target, &deletion.frame)
        {
            entry.frame = frame;
        }
    }
}
