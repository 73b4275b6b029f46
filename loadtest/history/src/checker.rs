use std::collections::{BTreeMap, HashMap};

use crate::record::{Entry, Event, Kind, Record, Said, Volatile};
use crate::report::Invariant::{I2, I11, I12};
use crate::report::Report;

mod client;
mod ending;
mod findings;
mod log;
mod names;
mod operation;
mod ranges;
mod reading;
mod subscribing;

use client::{Call, Client};
use findings::Findings;
use log::{How, Log, Moment, Sighting};
use names::{Name, Names};
use operation::{Ack, Operation, Operations};
use subscribing::Beginning;

/// How long after its cause something may take. A verdict that hangs on these is one about time; everything else is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grace {
    /// From the last fault, or the last thing said in a room, until everybody holds everything (I8). Microseconds.
    pub settle_us: u64,
    /// From the acknowledgement of a removal until nothing more is delivered (I11). Microseconds.
    pub removal_us: u64,
}

impl Default for Grace {
    fn default() -> Self {
        Self { settle_us: 5_000_000, removal_us: 1_000_000 }
    }
}

/// Judges a log as it comes.
///
/// Its memory grows with what was said (some 400 bytes for each entry of a room's log), not with how often it was
/// delivered: of each entry only the different ways in which it was seen are kept.
#[derive(Debug, Default)]
pub struct Checker {
    state: State,
}

/// Complaints about the log itself that are told; one is enough to spoil it.
const PROBLEMS_MAX: usize = 10;

#[derive(Debug, Default)]
struct State {
    grace: Grace,
    report: Report,
    findings: Findings,
    names: Names,
    clients: Vec<Client>,
    client_ids: HashMap<Name, u32>,
    rooms: BTreeMap<(Name, u64), Log>,
    operations: Operations,
    /// Acknowledged kicks and bans, the last of each.
    removed: HashMap<(Name, Name), Removal>,
    revoked: HashMap<Name, Removal>,
    /// What was said in passing: room and user, and for presences the text.
    volatile: HashMap<(Name, Name, Volatile), u64>,
    /// When something last went wrong or was mended, and when something was last said in a room.
    faults_until: u64,
    said_until: HashMap<Name, u64>,
    now: u64,
    line: u64,
}

#[derive(Debug, Clone, Copy)]
struct Removal {
    asked: u64,
    at: u64,
}

impl Checker {
    pub fn new(grace: Grace) -> Self {
        Self { state: State { grace, ..State::default() } }
    }

    /// The next record; its time is never before the last one's.
    pub fn take(&mut self, record: &Record) {
        self.state.take(record);
    }

    /// The verdicts, when the log has ended.
    pub fn finish(self) -> Report {
        self.state.finish()
    }
}

impl State {
    fn take(&mut self, record: &Record) {
        self.report.counts.records += 1;
        self.line += 1;
        let now = Moment { at: record.at, line: self.line, client: self.client(&record.client) };
        if record.at < self.now {
            self.problem(now, "time goes back");
        }
        self.now = self.now.max(record.at);
        match &record.event {
            Event::Connected { user, transport: _ } => self.connected(now, user),
            Event::Lost => self.clients[now.client as usize].lose(),
            Event::Sent { call, room, cmid, said } => self.sent(now, *call, room, cmid, *said),
            Event::Acknowledged { call, epoch, seq, duplicate } => {
                self.acknowledged(now, *call, *epoch, *seq, *duplicate);
            }
            Event::Refused { call, code } => self.refused(now, *call, code),
            Event::Unknown { call } => {
                let call = self.clients[now.client as usize].calls.remove(call);
                self.report.counts.unknown += u64::from(matches!(call, Some(Call::Said { .. })));
            }
            Event::Joined { room, epoch, head, asked, cursor, verdict } => {
                let room = self.names.of(room);
                let begins =
                    Beginning { epoch: *epoch, head: *head, asked: *asked, cursor: *cursor, verdict: *verdict };
                self.joined(now, room, &begins);
            }
            Event::Left { room } | Event::Evicted { room } => {
                let room = self.names.of(room);
                let place = self.clients[now.client as usize].places.entry(room).or_default();
                place.subscription = None;
                place.ended = Some(now.at);
            }
            Event::Lagging { room, epoch, last_delivered: _ } => self.lagging(now, room, *epoch),
            Event::Delivered { room, entry, loose } => {
                let room = self.names.of(room);
                self.delivered(now, room, entry, *loose);
            }
            Event::Reading { call, room } => {
                let room = self.names.of(room);
                self.reading(now, *call, room);
            }
            Event::Page { call, page } => self.page(now, *call, page),
            Event::Removed { room, user, asked } => {
                self.report.counts.removals += 1;
                let (room, user) = (self.names.of(room), self.names.of(user));
                self.removed.insert((room, user), Removal { asked: *asked, at: now.at });
                self.findings.judge(I11, true, String::new);
            }
            Event::Revoked { user, asked } => {
                self.report.counts.removals += 1;
                let user = self.names.of(user);
                self.revoked.insert(user, Removal { asked: *asked, at: now.at });
                self.findings.judge(I11, true, String::new);
            }
            Event::SaidVolatile { room, what } => {
                self.report.counts.volatile += 1;
                let room = self.names.of(room);
                if let Some(user) = self.clients[now.client as usize].user {
                    self.volatile.entry((room, user, *what)).or_insert(now.at);
                }
            }
            Event::HeardVolatile { room, user, what } => self.heard(now, room, user, *what),
            Event::Fault { .. } => {
                self.report.counts.faults += 1;
                self.faults_until = now.at;
            }
            Event::Healed { .. } => self.faults_until = now.at,
            Event::Sample { .. } => {}
            Event::Stored { source, room, entry } => self.stored(source, room, entry),
            Event::Final { source, room, epoch, first_available, head } => {
                self.final_told(source, room, *epoch, *first_available, *head);
            }
        }
    }

    fn client(&mut self, name: &str) -> u32 {
        let name = self.names.of(name);
        let next = u32::try_from(self.clients.len()).expect("a log has fewer than four thousand million clients");
        let id = *self.client_ids.entry(name).or_insert(next);
        if id == next {
            self.clients.push(Client::new(name));
        }
        id
    }

    fn connected(&mut self, now: Moment, user: &str) {
        let user = self.names.of(user);
        let client = &mut self.clients[now.client as usize];
        client.lose();
        client.user = Some(user);
        client.link += 1;
        client.connected = now.at;
    }

    fn sent(&mut self, now: Moment, call: u64, room: &str, cmid: &str, said: Said) {
        self.report.counts.sent += 1;
        let (room, cmid) = (self.names.of(room), self.names.of(cmid));
        let Some(author) = self.clients[now.client as usize].user else {
            self.problem(now, "something is sent by a client that never connected");
            return;
        };
        self.said_until.insert(room, now.at);
        let newest = self.rooms.range_mut((room, 0)..=(room, u64::MAX)).next_back();
        let floor = newest.map(|((_, epoch), log)| (*epoch, log.floor.before(now.at)));
        let first = Operation {
            room,
            author,
            cmid,
            sent: now.at,
            floor,
            variants: Vec::with_capacity(1),
            acks: Vec::with_capacity(1),
            conflicts: 0,
        };
        let (operation, variant, is_first) = self.operations.attempt(first, said);
        let client = &mut self.clients[now.client as usize];
        client.calls.insert(call, Call::Said { operation, variant });
        if is_first {
            client.said.push((client.link, operation));
        }
    }

    fn acknowledged(&mut self, now: Moment, call: u64, epoch: u64, seq: u64, duplicate: bool) {
        let Some((operation, variant)) = self.said(now, call) else { return };
        self.report.counts.acknowledged += 1;
        let client = &mut self.clients[now.client as usize];
        let operation = &mut self.operations.all[operation as usize];
        let room = operation.room;
        operation.acks.push(Ack { epoch, seq, at: now.at, variant, duplicate });
        let said = operation.variants[variant as usize].said;
        self.said_until.insert(room, now.at);

        let log = self.rooms.entry((room, epoch)).or_insert_with(|| Log::new(room, epoch));
        log.floor.raise(seq, now.at);
        let place = client.places.entry(room).or_default();
        place.know(epoch, seq, now.at);
        if place.epoch == epoch {
            place.acked.push((seq, said.kind == Kind::Text && said.target == 0));
            if said.kind == Kind::Edit && operation.acks.len() == 1 {
                place.edited.entry(said.target).or_default().push(now);
            }
        }
        if said.kind == Kind::Deletion {
            log.deletions.entry(said.target).or_insert(now);
        }
    }

    fn refused(&mut self, now: Moment, call: u64, code: &str) {
        // Reads are refused too, and that says nothing of entries.
        if let Some(Call::Reading(_)) = self.clients[now.client as usize].calls.get(&call) {
            self.clients[now.client as usize].calls.remove(&call);
            return;
        }
        let Some((operation, variant)) = self.said(now, call) else { return };
        self.report.counts.refused += 1;
        let operation = &mut self.operations.all[operation as usize];
        operation.variants[variant as usize].refused += 1;
        operation.conflicts += u32::from(code == "CMID_CONFLICT");
    }

    /// The command that this call was.
    fn said(&mut self, now: Moment, call: u64) -> Option<(u32, u32)> {
        match self.clients[now.client as usize].calls.remove(&call) {
            Some(Call::Said { operation, variant }) => Some((operation, variant)),
            Some(Call::Reading(_)) | None => {
                self.problem(now, &format!("an outcome of call {call}, which said nothing"));
                None
            }
        }
    }

    fn lagging(&mut self, now: Moment, room: &str, epoch: u64) {
        let room = self.names.of(room);
        let place = self.clients[now.client as usize].places.entry(room).or_default();
        if let Some(subscription) = place.subscription.as_mut().filter(|subscription| subscription.epoch == epoch) {
            subscription.next = None;
            subscription.recovering = false;
        }
    }

    fn heard(&mut self, now: Moment, room: &str, user: &str, what: Volatile) {
        self.report.counts.volatile += 1;
        let (room_name, user_name) = (self.names.of(room), self.names.of(user));
        let said = self.volatile.get(&(room_name, user_name, what)).is_some_and(|said| *said <= now.at);
        self.findings.judge(I12, said, || format!("{what:?} of {user} is heard in {room}, and was never said"));
    }

    fn see(&mut self, room: Name, entry: &Entry, by: Sighting) {
        let log = self.rooms.entry((room, entry.epoch)).or_insert_with(|| Log::new(room, entry.epoch));
        log.see(entry, by, &mut self.names, &mut self.findings);
    }

    fn stored(&mut self, source: &str, room: &str, entry: &Entry) {
        self.report.counts.stored += 1;
        let (source, room) = (self.names.of(source), self.names.of(room));
        self.see(room, entry, Sighting { who: source, how: How::Stored, at: self.now });
        let Self { names, findings, rooms, .. } = self;
        let Some(log) = rooms.get_mut(&(room, entry.epoch)) else { return };
        let (bit, last) = log.last(source);
        let (before, first) = (last.last, last.entries == 0);
        last.last = entry.seq;
        last.entries += 1;
        findings.judge(I2, first || entry.seq == before + 1, || {
            format!("the final history ({}) goes from #{before} to #{}", names.text(source), entry.seq)
        });
        let at = usize::try_from(entry.seq.saturating_sub(1)).unwrap_or(usize::MAX);
        if let Some(Some(slot)) = log.slots.get_mut(at)
            && names.text(slot.cmid) == entry.cmid
            && names.text(slot.author) == entry.author
        {
            slot.stored |= 1 << bit.min(7);
            slot.stored_content |= entry.said.content.is_some();
            slot.stored_edits = Some(slot.stored_edits.map_or(entry.edits, |edits| edits.min(entry.edits)));
        }
    }

    fn final_told(&mut self, source: &str, room: &str, epoch: u64, first_available: u64, head: u64) {
        let (source, room) = (self.names.of(source), self.names.of(room));
        let log = self.rooms.entry((room, epoch)).or_insert_with(|| Log::new(room, epoch));
        let name = log.name(&self.names);
        let (_, last) = log.last(source);
        last.told = Some((first_available, head));
        let due = (head + 1).saturating_sub(first_available.max(1));
        self.findings.judge(I2, last.entries == due && (due == 0 || last.last == head), || {
            format!(
                "the final history of {name} from #{first_available} to #{head} holds {} entries up to #{}",
                last.entries, last.last
            )
        });
    }

    fn problem(&mut self, now: Moment, what: &str) {
        if self.report.problems.len() < PROBLEMS_MAX {
            let who = self.names.text(self.clients[now.client as usize].name);
            self.report.problems.push(format!("line {}, client {who:?}: {what}", now.line));
        }
    }
}
