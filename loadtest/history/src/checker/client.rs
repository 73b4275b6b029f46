use std::collections::HashMap;

use super::log::Moment;
use super::names::Name;
use super::ranges::Ranges;

/// A device over all its links.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) name: Name,
    pub(super) user: Option<Name>,
    /// Counts links, so that what was pipelined on one is known.
    pub(super) link: u32,
    pub(super) connected: u64,
    pub(super) calls: HashMap<u64, Call>,
    pub(super) places: HashMap<Name, Place>,
    /// Operations in the order of their first attempt, with the link.
    pub(super) said: Vec<(u32, u32)>,
}

/// A command that waits for its outcome.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
    Said { operation: u32, variant: u32 },
    Reading(Reading),
}

/// What the client knew of the room when it asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) room: Name,
    pub(super) begun: Moment,
    pub(super) epoch: u64,
    pub(super) known: u64,
    /// How many acknowledgements it had there.
    pub(super) acked: usize,
}

/// One client's place in one room.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) subscription: Option<Subscription>,
    /// When a subscription ended otherwise than by the link's loss.
    pub(super) ended: Option<u64>,
    pub(super) epoch: u64,
    /// Everything after this is to be held; from the first join of the epoch.
    pub(super) base: Option<u64>,
    pub(super) held: Ranges,
    /// What verdicts said will not follow.
    pub(super) excused: Ranges,
    /// When the last entry came that was not held.
    pub(super) grown: u64,
    /// The highest number known to this client, and since when.
    pub(super) known: u64,
    pub(super) known_at: u64,
    /// Its own acknowledged entries in their order: the number, and whether it stands in the room itself.
    pub(super) acked: Vec<(u64, bool)>,
    /// Acknowledged edits of its own, by what they edit: when.
    pub(super) edited: HashMap<u64, Vec<Moment>>,
    /// What this client knows to be deleted, since when.
    pub(super) deleted: HashMap<u64, Moment>,
    /// Of those, what its deliveries told of. A page may run ahead of them: what was said before the deletion may still
    /// be on its way, as it was said.
    pub(super) told: HashMap<u64, Moment>,
    /// The most edits this client has seen of an entry, and since when.
    pub(super) edits: HashMap<u64, (u32, Moment)>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Subscription {
    pub(super) epoch: u64,
    /// What comes next in order; `None` after a lagging mark.
    pub(super) next: Option<u64>,
    /// Nothing was delivered yet, and a cursor had been recovered.
    pub(super) recovering: bool,
    /// Up to here deliveries are a replay.
    pub(super) replay_to: u64,
    /// When it was asked for.
    pub(super) asked: u64,
    /// When it began.
    pub(super) since: Moment,
}

impl Client {
    pub(super) fn new(name: Name) -> Self {
        Self {
            name,
            user: None,
            link: 0,
            connected: 0,
            calls: HashMap::new(),
            places: HashMap::new(),
            said: Vec::new(),
        }
    }

    pub(super) fn lose(&mut self) {
        for place in self.places.values_mut() {
            place.subscription = None;
            place.ended = None;
        }
    }
}

impl Place {
    /// The client now holds these numbers of this epoch.
    pub(super) fn hold(&mut self, epoch: u64, from: u64, to: u64, at: u64) {
        self.turn_to(epoch);
        if epoch == self.epoch && self.held.add(from, to) {
            self.grown = at;
        }
        self.know(epoch, to, at);
    }

    pub(super) fn know(&mut self, epoch: u64, seq: u64, at: u64) {
        self.turn_to(epoch);
        if epoch == self.epoch && seq > self.known {
            self.known = seq;
            self.known_at = at;
        }
    }

    /// Another log stands in the room now: what was held of the old one is of no use.
    fn turn_to(&mut self, epoch: u64) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.base = None;
            self.held = Ranges::default();
            self.excused = Ranges::default();
            self.known = 0;
            self.acked.clear();
            self.edited.clear();
            self.deleted.clear();
            self.told.clear();
            self.edits.clear();
        }
    }
}
