//! A client as `docs/PROTOCOL.md` tells clients to be: it keeps an outbox and sends again under the same cmid, follows
//! every room by its numbers, repairs holes, and comes back with cursors.

mod acts;
mod hears;
mod log;
mod outbox;
mod view;

use std::collections::{BTreeMap, VecDeque};

use veza_history::{Anchor, Cursor, Event as Told, View as Shown};
use veza_proto::Lane;
use veza_proto::v1::{ClientFrame, Delivery, Hello, JoinRoom, Repair, RoomCursor, RoomJoined, client_frame::Command};

use crate::node::Links;
use crate::stage::{Alarm, ClientNo, Event, LinkNo, MS, Stage};
use log::{Held, Log};
use outbox::Outgoing;
pub(crate) use view::{Row, View};

#[derive(Debug)]
pub(crate) struct Client {
    no: ClientNo,
    /// Of the device.
    pub(crate) name: String,
    pub(crate) user: String,
    quic: bool,
    pub(crate) link: Option<LinkNo>,
    /// Welcomed on this link.
    pub(crate) welcome: bool,
    resume: String,
    ids: u32,
    cmids: u64,
    streams: u32,
    waiting: BTreeMap<u32, Waiting>,
    pub(crate) places: BTreeMap<String, Place>,
    outbox: VecDeque<Outgoing>,
    /// Acknowledged commands, to be said again by mistake.
    done: Vec<Outgoing>,
    /// Of itself, until the session ends.
    says: Option<veza_history::Volatile>,
}

/// A room that this client is in, or was.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// It wants to be subscribed.
    pub(crate) wanted: bool,
    fast: bool,
    log: Log,
    pub(crate) view: View,
    /// Verdicts on this link.
    joins: u32,
    /// Joins that were sent on it: after the first, deliveries of an earlier subscription may still be on their way.
    asks: u32,
    /// When the join was sent that waits for its verdict.
    asking: Option<u64>,
    repairing: bool,
    lagging: bool,
    invite: String,
}

/// What a reply is awaited for.
#[derive(Debug, Clone)]
enum Waiting {
    Hello { asked: u64, cursors: BTreeMap<String, Option<Cursor>> },
    Join { room: String, asked: u64, cursor: Option<Cursor> },
    Leave(String),
    Unsubscribe(String),
    Say { cmid: String, call: u64 },
    Read { call: u64, view: Shown, anchor: Anchor },
    Repair { call: u64, room: String, anchor: Anchor },
    Moderate { room: String, user: String, asked: u64, removes: bool },
    Other,
}

/// What a client reaches for.
pub(crate) struct Reach<'a> {
    pub(crate) links: &'a mut Links,
    pub(crate) stage: &'a mut Stage,
    /// Codes of invitations that go round.
    pub(crate) codes: &'a mut Vec<(String, String)>,
    pub(crate) token: String,
}

impl Client {
    pub(crate) fn new(no: ClientNo, user: &str, quic: bool) -> Self {
        Self {
            no,
            name: format!("{user}-{no}"),
            user: user.to_owned(),
            quic,
            link: None,
            welcome: false,
            resume: String::new(),
            ids: 0,
            cmids: 0,
            streams: 0,
            waiting: BTreeMap::new(),
            places: BTreeMap::new(),
            outbox: VecDeque::new(),
            done: Vec::new(),
            says: None,
        }
    }

    pub(crate) fn is_quic(&self) -> bool {
        self.quic
    }

    /// Says hello on a fresh link, with a cursor for every room.
    pub(crate) fn hello(&mut self, link: LinkNo, reach: &mut Reach<'_>) {
        self.link = Some(link);
        let mut cursors = BTreeMap::new();
        let mut rooms = Vec::new();
        for (room, place) in self.places.iter().filter(|(_, place)| place.wanted && place.log.epoch != 0) {
            cursors.insert(room.clone(), place.cursor());
            let delivery = place.delivery().into();
            rooms.push(RoomCursor { room: room.clone(), epoch: place.log.epoch, last_seq: place.log.last, delivery });
        }
        let (token, resume_token) = (reach.token.clone(), self.resume.clone());
        let hello = Hello { token, client: "simulated/1".into(), resume_token, rooms };
        let asked = reach.stage.now;
        self.send(Command::Hello(hello), Waiting::Hello { asked, cursors }, reach);
    }

    /// The link is gone, or the client gives it up.
    pub(crate) fn lost(&mut self, link: LinkNo, silently: bool, reach: &mut Reach<'_>) {
        if self.link != Some(link) {
            return;
        }
        if let Some(link) = reach.links.get_mut(&link) {
            link.close_up(silently, reach.stage);
        }
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            if let Waiting::Say { call, .. } = waiting {
                self.tell(Told::Unknown { call }, reach.stage);
            }
        }
        if std::mem::take(&mut self.welcome) {
            self.tell(Told::Lost, reach.stage);
        }
        (self.link, self.says) = (None, None);
        self.outbox.iter_mut().for_each(|outgoing| outgoing.sent = false);
        for place in self.places.values_mut() {
            place.log.lose();
            (place.joins, place.asks, place.asking) = (0, 0, None);
            (place.repairing, place.lagging) = (false, false);
        }
        reach.stage.soon(5 * MS, 500 * MS, Event::Alarm(self.no, Alarm::Connect));
    }

    pub(crate) fn alarm(&mut self, alarm: Alarm, reach: &mut Reach<'_>) {
        match alarm {
            Alarm::Lost(link) => self.lost(link, false, reach),
            Alarm::Repair(room) => self.repair(&room, reach),
            Alarm::Rejoin(room) => self.join(&room, reach),
            Alarm::Resend => self.flush(reach),
            Alarm::ReadsAgain(link) => {
                let unread = reach.links.get_mut(&link).map(crate::link::Link::read_again).unwrap_or_default();
                for (_, frame) in unread {
                    self.hear(link, &frame, reach);
                }
            }
            // Links are made where the nodes are at hand.
            Alarm::Connect => {}
        }
    }

    /// Joins, or asks anew where the room stands.
    pub(crate) fn join(&mut self, room: &str, reach: &mut Reach<'_>) {
        let place = self.places.entry(room.to_owned()).or_default();
        if !self.welcome || place.asking.is_some() || !place.wanted {
            return;
        }
        let asked = reach.stage.now;
        place.asking = Some(asked);
        place.asks += 1;
        place.log.unsettle();
        let (cursor, delivery) = (place.cursor(), place.delivery().into());
        let known = cursor.map(|cursor| RoomCursor {
            room: room.to_owned(),
            epoch: cursor.epoch,
            last_seq: cursor.last,
            delivery,
        });
        let join = JoinRoom { room: room.to_owned(), cursor: known, delivery, invite: place.invite.clone() };
        // The room is told with the join.
        if let Some(what) = self.says {
            self.tell(Told::SaidVolatile { room: room.to_owned(), what }, reach.stage);
        }
        self.send(Command::JoinRoom(join), Waiting::Join { room: room.to_owned(), asked, cursor }, reach);
    }

    /// A verdict places the room on this link.
    fn joined(&mut self, room: &str, joined: &RoomJoined, asked: u64, cursor: Option<Cursor>, reach: &mut Reach<'_>) {
        // Left again meanwhile, or asked anew.
        if !self.places.get(room).is_some_and(|place| place.wanted && place.asking == Some(asked)) {
            return;
        }
        let (epoch, head) = joined.room.as_ref().map_or((0, 0), |room| (room.epoch, room.head));
        let verdict = joined.verdict.as_ref().map_or(veza_history::Verdict::Live, veza_history::Verdict::from);
        self.tell(Told::Joined { room: room.to_owned(), epoch, head, asked, cursor, verdict }, reach.stage);
        let place = self.places.entry(room.to_owned()).or_default();
        (place.asking, place.lagging) = (None, false);
        place.joins += 1;
        if !matches!(verdict, veza_history::Verdict::Recovered { .. }) {
            place.view.forget();
        }
        let applied = place.log.settle(joined);
        self.apply(room, applied, reach.stage);
        self.watch(room, reach.stage);
        self.flush(reach);
    }

    /// Takes what comes next in a room, and writes down what was only held until now.
    fn apply(&mut self, room: &str, applied: Vec<Held>, stage: &mut Stage) {
        let Some(place) = self.places.get_mut(room) else { return };
        let loose = place.is_loose();
        for Held { message, told } in applied {
            place.view.apply(&message);
            if !told {
                let entry = (&message).into();
                let told = Told::Delivered { room: room.to_owned(), entry, loose };
                stage.journal.write(stage.now, &self.name, told);
            }
        }
    }

    /// Asks for what is missing.
    fn repair(&mut self, room: &str, reach: &mut Reach<'_>) {
        let Some(place) = self.places.get_mut(room) else { return };
        let Some((after_seq, up_to_seq)) = place.log.missing() else { return };
        if place.repairing || place.asking.is_some() || !self.welcome {
            return;
        }
        place.repairing = true;
        let (epoch, call) = (place.log.epoch, reach.stage.journal.call());
        self.tell(Told::Reading { call, room: room.to_owned() }, reach.stage);
        let anchor = Anchor::Between(after_seq, up_to_seq);
        let repair = Repair { room: room.to_owned(), epoch, after_seq, up_to_seq };
        self.send(Command::Repair(repair), Waiting::Repair { call, room: room.to_owned(), anchor }, reach);
    }

    /// Sets the alarm for what is missing in a room.
    fn watch(&mut self, room: &str, stage: &mut Stage) {
        let Some(place) = self.places.get(room) else { return };
        if place.log.missing().is_some() && !place.repairing && (place.fast || place.lagging) {
            stage.after(50 * MS, Event::Alarm(self.no, Alarm::Repair(room.to_owned())));
        }
    }

    fn send(&mut self, command: Command, waiting: Waiting, reach: &mut Reach<'_>) {
        let Some(link) = self.link.and_then(|link| reach.links.get_mut(&link)) else { return };
        self.ids += 1;
        let frame = ClientFrame { id: self.ids, command: Some(command) };
        let lane = match Lane::of(&frame) {
            Lane::Bulk(_) => {
                self.streams += 1;
                Lane::Bulk(self.streams)
            }
            lane @ (Lane::Control | Lane::Chat) => lane,
        };
        self.waiting.insert(self.ids, waiting);
        link.send_up(lane, frame, reach.stage);
    }

    fn tell(&self, event: Told, stage: &mut Stage) {
        let now = stage.now;
        stage.journal.write(now, &self.name, event);
    }

    /// What this client still owes or is owed when nothing has been wrong for a while.
    pub(crate) fn unfinished(&self) -> Option<String> {
        if !self.welcome {
            return Some(format!("{} has no session", self.name));
        }
        if let Some(outgoing) = self.outbox.front() {
            return Some(format!("{} has had no answer to {}", self.name, outgoing.cmid));
        }
        None
    }
}

impl Place {
    fn cursor(&self) -> Option<Cursor> {
        (self.log.epoch != 0).then_some(Cursor { epoch: self.log.epoch, last: self.log.last })
    }

    fn delivery(&self) -> Delivery {
        if self.fast { Delivery::Fast } else { Delivery::Unspecified }
    }

    /// Epoch and last number, where a verdict has placed it.
    pub(crate) fn stands_at(&self) -> Option<(u64, u64)> {
        self.log.settled.then_some((self.log.epoch, self.log.last))
    }

    /// Deliveries may be lost or come late: by datagram, or of a subscription before this one.
    fn is_loose(&self) -> bool {
        self.fast || self.asks > 1
    }

    fn leave(&mut self) {
        *self = Place { joins: self.joins, asks: self.asks, fast: self.fast, ..Place::default() };
    }

    /// Stops listening, and keeps what it has: another join goes on from there.
    fn pause(&mut self) {
        let (log, view) = (std::mem::take(&mut self.log), std::mem::take(&mut self.view));
        self.leave();
        (self.log, self.view) = (log, view);
        self.log.lose();
    }
}
