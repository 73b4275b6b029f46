//! What a listener hears: the playout of the web SDK (`clients/web/src/sdk/audio/{jitter,arrivals}.ts`), which waits as
//! long as the network's jitter asks for. It only watches: the controller hears nothing of it.

use std::collections::{BTreeMap, VecDeque};

/// One frame. All times here are microseconds.
const FRAME: i64 = 20_000;
const TARGET_START: i64 = 60_000;
/// Per second, at least.
const TARGET_FALL: i64 = 5_000;
const MERGE: i64 = 60_000;
const MERGE_EVERY: i64 = 500_000;
const SKIP: i64 = 200_000;
const REST: i64 = 500_000;
const OUTAGE: i64 = 400_000;
const MOVED_FRAMES: usize = 10;
const MOVED: i64 = 200_000;
const REMEMBERED: usize = 500;
/// Longer than this, what bridges a hole has faded to silence.
const BRIDGED_FRAMES: u32 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Sound,
    /// Bridged by what was heard before.
    Concealed,
    Silence,
}

pub(crate) struct Player {
    arrivals: Arrivals,
    /// Frames by index; `true` came as itself and not only as a copy.
    waiting: BTreeMap<i64, bool>,
    next: Option<i64>,
    highest: i64,
    target: i64,
    /// How many frames back the packets reach, in fiftieths of a frame.
    reach: i64,
    holding: bool,
    idle: Option<i64>,
    off: i64,
    merged: i64,
    asks: i64,
    bridged: u32,
    pub(crate) underruns: u64,
    /// Every 20 ms from the first frame on: when, and what was heard.
    pub(crate) heard: Vec<(u64, Heard)>,
}

impl Player {
    pub(crate) fn new() -> Self {
        Self {
            arrivals: Arrivals::default(),
            waiting: BTreeMap::new(),
            next: None,
            highest: 0,
            target: TARGET_START,
            reach: 0,
            holding: true,
            idle: Some(REST),
            off: 0,
            merged: -MERGE_EVERY,
            asks: 0,
            bridged: 0,
            underruns: 0,
            heard: Vec::new(),
        }
    }

    /// A packet has come: of `frames` frames the newest `fresh` ones are no copies.
    pub(crate) fn take(&mut self, newest: u64, fresh: u64, frames: u64, ms: u64) {
        let (newest, fresh, now) = (newest.cast_signed(), fresh.cast_signed(), ms.cast_signed() * 1_000);
        let oldest = (frames.cast_signed() - 1).min(newest);
        let next = *self.next.get_or_insert((newest - fresh + 1).max(0));
        self.highest = self.highest.max(newest);
        for age in 0..=oldest {
            let (index, is_fresh) = (newest - age, age < fresh);
            let known = self.waiting.get(&index).copied();
            if is_fresh || (index >= next && known.is_none()) {
                self.arrivals.add(now - index * FRAME, now);
            }
            if index >= next {
                self.waiting.insert(index, known.unwrap_or(false) || is_fresh);
            }
        }
        self.reach = (oldest * 50).max(self.reach - 1);
    }

    /// Lets a millisecond pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        let now = ms.cast_signed() * 1_000;
        if now < self.asks || self.next.is_none() {
            return;
        }
        let heard = match self.decide(now) {
            true => Heard::Sound,
            false if self.bridged < BRIDGED_FRAMES && self.idle.is_none_or(|idle| idle < REST) => Heard::Concealed,
            false => Heard::Silence,
        };
        self.bridged = if heard == Heard::Sound { 0 } else { self.bridged + 1 };
        self.heard.push((ms, heard));
        // At most half a percent faster or slower, which nobody hears.
        let faster = (self.off / 200).clamp(-FRAME / 200, FRAME / 200);
        self.asks = self.asks.max(now - 1_000) + FRAME - faster;
    }

    /// Whether there is something to play.
    fn decide(&mut self, now: i64) -> bool {
        let wanted = self.arrivals.spread().max((self.reach + 49) / 50 * FRAME).min(OUTAGE) + FRAME;
        let fall = TARGET_FALL.max((self.target - wanted) / 5) / 50;
        self.target = wanted.max(self.target - fall);
        let Some(mut next) = self.next.filter(|next| *next <= self.highest) else {
            let idle = *self.idle.get_or_insert(0);
            // One frame that does not come is bridged like one that is lost.
            self.underruns += u64::from(idle == FRAME);
            self.holding = true;
            return self.bridge();
        };
        let rests = self.idle.is_some_and(|idle| idle >= REST);
        if rests && !self.arrivals.behind.is_empty() {
            return false;
        }
        let mut behind = now - self.arrivals.fastest().unwrap_or(now) - next * FRAME - self.target;
        if self.holding && behind < -FRAME / 2 {
            return self.bridge();
        }
        if behind > if rests { FRAME } else { SKIP } {
            let skipped = ((behind + FRAME - 1) / FRAME).min(self.highest - next);
            (next, behind) = (next + skipped, behind - skipped * FRAME);
        }
        while !self.waiting.contains_key(&next) && behind >= FRAME && next < self.highest {
            (next, behind) = (next + 1, behind - FRAME);
        }
        if self.idle.take().is_some() {
            self.off = 0;
        }
        self.holding = false;
        self.off += (behind - self.off) / 50;
        let is_there = self.waiting.contains_key(&next);
        next += 1;
        if is_there && behind >= MERGE && now - self.merged >= MERGE_EVERY && self.waiting.contains_key(&next) {
            (self.merged, next) = (now, next + 1);
        }
        self.waiting = self.waiting.split_off(&next);
        self.next = Some(next);
        is_there
    }

    fn bridge(&mut self) -> bool {
        self.idle = self.idle.map(|idle| idle + FRAME);
        false
    }
}

/// How frames arrive, against a clock that counts 20 ms for each.
#[derive(Default)]
struct Arrivals {
    lags: VecDeque<i64>,
    /// In a row after an outage: the lag, and when.
    behind: Vec<(i64, i64)>,
}

impl Arrivals {
    fn add(&mut self, lag: i64, now: i64) {
        if self.fastest().is_none_or(|fastest| lag <= fastest + OUTAGE) {
            self.behind.clear();
            self.lags.push_back(lag);
            if self.lags.len() > REMEMBERED {
                self.lags.pop_front();
            }
            return;
        }
        self.behind.push((lag, now));
        if self.behind.len() >= MOVED_FRAMES && now - self.behind[0].1 >= MOVED {
            self.lags = std::mem::take(&mut self.behind).into_iter().map(|(lag, _)| lag).collect();
        }
    }

    fn fastest(&self) -> Option<i64> {
        self.lags.iter().min().copied()
    }

    /// How much later than the fastest one the slowest 5 % come.
    fn spread(&self) -> i64 {
        let mut sorted = Vec::from_iter(self.lags.iter().copied());
        sorted.sort_unstable();
        let slow = (sorted.len() * 95).div_ceil(100).checked_sub(1).map_or(0, |at| sorted[at] - sorted[0]);
        slow.min(OUTAGE)
    }
}
