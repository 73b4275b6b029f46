use std::collections::HashMap;

use super::findings::Findings;
use super::names::{Name, Names};
use crate::digest::Digest;
use crate::record::{Entry, Kind};
use crate::report::Invariant::{I1, I2, I3};

/// Sequence numbers beyond this are not believed: they would only fill the memory.
const SEQ_MAX: u64 = 1 << 32;

/// What is known of one room's log in one epoch.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) room: Name,
    pub(super) epoch: u64,
    /// By sequence number, the first at 0.
    pub(super) slots: Vec<Option<Slot>>,
    by_cmid: HashMap<(Name, Name), u64>,
    /// Acknowledged deletions, by what they deleted.
    pub(super) deletions: HashMap<u64, Moment>,
    pub(super) floor: Floor,
    pub(super) finals: Vec<Final>,
}

/// One entry, by all who saw it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) author: Name,
    pub(super) cmid: Name,
    pub(super) kind: Kind,
    pub(super) target: u64,
    /// The contents it was seen with, the first of each.
    pub(super) seen: Vec<Seen>,
    /// Which final histories hold it: a bit each, by their order.
    pub(super) stored: u8,
    /// A final history shows its content.
    pub(super) stored_content: bool,
    /// After how many edits; the fewest.
    pub(super) stored_edits: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) content: Option<Digest>,
    pub(super) edits: u32,
    pub(super) deleted: bool,
    pub(super) by: Sighting,
}

/// Who saw something, how, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting {
    pub(super) who: Name,
    pub(super) how: How,
    pub(super) at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Delivery,
    Page,
    Stored,
}

/// A moment by the clock and by the log's order; the order counts within one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) at: u64,
    pub(super) line: u64,
    pub(super) client: u32,
}

/// A final history of this log.
#[derive(Debug)]
pub(super) struct Final {
    pub(super) source: Name,
    pub(super) entries: u64,
    pub(super) last: u64,
    /// Its end was told: from here to there.
    pub(super) told: Option<(u64, u64)>,
}

/// The highest acknowledged number, as of before now: what happens in the same microsecond has no order.
#[derive(Debug, Default)]
pub(super) struct Floor {
    before: u64,
    now: u64,
    at: u64,
}

impl Moment {
    /// Whether this happened before that for certain.
    pub(super) fn precedes(self, other: Moment) -> bool {
        self.line < other.line && (self.at < other.at || self.client == other.client)
    }
}

impl Floor {
    pub(super) fn raise(&mut self, seq: u64, at: u64) {
        self.pass(at);
        self.now = self.now.max(seq);
    }

    pub(super) fn before(&mut self, at: u64) -> u64 {
        self.pass(at);
        self.before
    }

    fn pass(&mut self, at: u64) {
        if at > self.at {
            self.before = self.before.max(self.now);
            self.at = at;
        }
    }
}

impl Log {
    pub(super) fn new(room: Name, epoch: u64) -> Self {
        Self {
            room,
            epoch,
            slots: Vec::new(),
            by_cmid: HashMap::new(),
            deletions: HashMap::new(),
            floor: Floor::default(),
            finals: Vec::new(),
        }
    }

    pub(super) fn slot(&self, seq: u64) -> Option<&Slot> {
        let at = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.slots.get(at)?.as_ref()
    }

    /// Every entry with its number.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, &Slot)> {
        (1..).zip(&self.slots).filter_map(|(seq, slot)| Some((seq, slot.as_ref()?)))
    }

    /// Somebody saw an entry: it must be the one that others saw (I1), and no cmid may stand twice (I3).
    pub(super) fn see(&mut self, entry: &Entry, by: Sighting, names: &mut Names, findings: &mut Findings) {
        let seq = entry.seq;
        if seq == 0 || seq > SEQ_MAX {
            findings.judge(I2, false, || {
                format!("{} shows number {seq}, which no entry can have: {}", self.name(names), by.tell(names))
            });
            return;
        }
        let at = usize::try_from(seq - 1).expect("it is below the bound");
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, || None);
        }
        match &mut self.slots[at] {
            Some(slot) => {
                let same = names.text(slot.cmid) == entry.cmid
                    && names.text(slot.author) == entry.author
                    && (slot.kind, slot.target) == (entry.said.kind, entry.said.target);
                findings.judge(I1, same, || {
                    let first = slot.seen.first().map(|seen| seen.by.tell(names)).unwrap_or_default();
                    format!(
                        "{} #{seq} is {} in {first}, and {:?} {:?} of {} in {}",
                        tell_log(names, self.room, self.epoch),
                        slot.tell(names),
                        entry.said.kind,
                        entry.cmid,
                        entry.author,
                        by.tell(names)
                    )
                });
                if same {
                    slot.add(entry, by);
                }
            }
            empty @ None => {
                let (author, cmid) = (names.of(&entry.author), names.of(&entry.cmid));
                let mut slot = Slot {
                    author,
                    cmid,
                    kind: entry.said.kind,
                    target: entry.said.target,
                    seen: Vec::with_capacity(1),
                    stored: 0,
                    stored_content: false,
                    stored_edits: None,
                };
                slot.add(entry, by);
                *empty = Some(slot);
                if entry.said.kind != Kind::Note {
                    let first = *self.by_cmid.entry((author, cmid)).or_insert(seq);
                    findings.judge(I3, first == seq, || {
                        format!(
                            "{} holds {}'s {:?} twice: as #{first} and as #{seq} in {}",
                            tell_log(names, self.room, self.epoch),
                            entry.author,
                            entry.cmid,
                            by.tell(names)
                        )
                    });
                }
            }
        }
    }

    /// The final history from that source, by its bit.
    pub(super) fn last(&mut self, source: Name) -> (usize, &mut Final) {
        let known = self.finals.iter().position(|known| known.source == source);
        let at = known.unwrap_or_else(|| {
            self.finals.push(Final { source, entries: 0, last: 0, told: None });
            self.finals.len() - 1
        });
        (at, &mut self.finals[at])
    }

    /// The oldest number that the final histories hold; 1 where none is told.
    pub(super) fn first_available(&self) -> u64 {
        self.finals.iter().filter_map(|last| last.told).map(|(first, _)| first).max().unwrap_or(1).max(1)
    }

    pub(super) fn name(&self, names: &Names) -> String {
        tell_log(names, self.room, self.epoch)
    }
}

impl Slot {
    fn add(&mut self, entry: &Entry, by: Sighting) {
        let (content, edits, deleted) = (entry.said.content, entry.edits, entry.deleted);
        let known = |seen: &Seen| (seen.content, seen.edits, seen.deleted) == (content, edits, deleted);
        if !self.seen.iter().any(known) {
            self.seen.push(Seen { content, edits, deleted, by });
        }
    }

    pub(super) fn tell(&self, names: &Names) -> String {
        format!("{:?} {:?} of {}", self.kind, names.text(self.cmid), names.text(self.author))
    }

    pub(super) fn first(&self) -> Option<&Seen> {
        self.seen.first()
    }
}

impl Sighting {
    pub(super) fn tell(&self, names: &Names) -> String {
        let who = names.text(self.who);
        match self.how {
            How::Delivery => format!("{who}'s delivery at {}", tell_time(self.at)),
            How::Page => format!("{who}'s page at {}", tell_time(self.at)),
            How::Stored => format!("the final history ({who})"),
        }
    }
}

pub(super) fn tell_log(names: &Names, room: Name, epoch: u64) -> String {
    format!("{} (epoch {epoch})", names.text(room))
}

pub(super) fn tell_time(at: u64) -> String {
    format!("{}.{:06} s", at / 1_000_000, at % 1_000_000)
}
