//! Who is carried at present.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Both, Orders, Shared, Side, Stats};
use crate::{Carriage, Counts, Profile, Wire};

pub(super) type Wires = Both<Wire<Vec<u8>>>;

/// All clients, and what became of the packets of those who have gone.
pub(super) struct Seats {
    taken: BTreeMap<u64, Arc<Mutex<Wires>>>,
    max: usize,
    next: u64,
    gone: Both<Counts>,
    refused: u64,
    rebound: u64,
}

impl Seats {
    pub(super) fn new(max: usize) -> Self {
        Self { taken: BTreeMap::new(), max, next: 0, gone: Both::default(), refused: 0, rebound: 0 }
    }

    pub(super) fn stats(&self, now: Duration, orders: &Orders) -> Stats {
        let since = now.saturating_sub(orders.began);
        let profile = |trace: &crate::Trace| trace.at(since).profile.to_string();
        let mut sides = Both {
            up: Side { counts: self.gone.up, queue_ms: 0, profile: profile(&orders.traces.up) },
            down: Side { counts: self.gone.down, queue_ms: 0, profile: profile(&orders.traces.down) },
        };
        for wires in self.taken.values() {
            let wires = lock(wires);
            sides.up.take(&wires.up, now);
            sides.down.take(&wires.down, now);
        }
        let at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        Stats { at_ms, clients: self.taken.len(), refused: self.refused, rebound: self.rebound, sides }
    }
}

impl Side {
    fn take(&mut self, wire: &Wire<Vec<u8>>, now: Duration) {
        self.counts.add(&wire.counts());
        let queue = wire.queue_time(now).map_or(u64::MAX, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self.queue_ms = self.queue_ms.max(queue);
    }
}

/// A client's place, and its network. Leaving keeps what was counted.
pub(super) struct Seat {
    shared: Arc<Shared>,
    number: u64,
    wires: Arc<Mutex<Wires>>,
}

impl Seat {
    /// `None` when all are taken.
    pub(super) fn take(shared: &Arc<Shared>, carriage: Carriage) -> Option<Self> {
        let now = shared.now();
        let mut seats = shared.seats();
        if seats.taken.len() >= seats.max {
            seats.refused += 1;
            return None;
        }
        let number = seats.next;
        seats.next += 1;
        // Far apart, so that clients of neighbouring seeds have nothing in common.
        let seed = shared.seed.wrapping_add(number.wrapping_mul(0x9e6c_63d0_876a_3f35));
        let wire = |seed| Wire::new(Profile::CLEAR.into(), carriage, seed, now);
        let mut wires = Both { up: wire(seed), down: wire(!seed) };
        wires.follow(&shared.orders.borrow(), now);
        // What began before it came is over.
        wires.take_rebinds();
        let wires = Arc::new(Mutex::new(wires));
        seats.taken.insert(number, wires.clone());
        drop(seats);
        Some(Self { shared: shared.clone(), number, wires })
    }

    /// The client has another source port.
    pub(super) fn rebound(&self) {
        self.shared.seats().rebound += 1;
    }

    pub(super) fn wires(&self) -> MutexGuard<'_, Wires> {
        lock(&self.wires)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.shared.seats();
        seats.taken.remove(&self.number);
        let wires = lock(&self.wires);
        seats.gone.up.add(&wires.up.counts());
        seats.gone.down.add(&wires.down.counts());
    }
}

impl Wires {
    pub(super) fn follow(&mut self, orders: &Orders, now: Duration) {
        self.up.follow(orders.traces.up.clone(), orders.began, now);
        self.down.follow(orders.traces.down.clone(), orders.began, now);
    }

    /// Whether a part of either trace that says so has begun.
    pub(super) fn take_rebinds(&mut self) -> bool {
        self.up.take_rebinds() + self.down.take_rebinds() > 0
    }
}

fn lock(wires: &Mutex<Wires>) -> MutexGuard<'_, Wires> {
    wires.lock().unwrap_or_else(PoisonError::into_inner)
}
