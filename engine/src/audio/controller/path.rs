//! How full the network's queues are, seen from round trips.

use std::time::Duration;

use crate::Timestamp;

/// Seconds after which a shorter round trip is forgotten: the route may be another.
const MINIMUM_SECONDS: usize = 10;
/// A queue that grows is one that has been there this long, and longer than a look before.
const STANDS: Duration = Duration::from_millis(200);
const QUEUE: u32 = 50_000;
/// A queue that has grown by this much within [`STANDS`] needs no more looking at.
const LEAP: u32 = 40_000;
/// Growth below this is none, whatever the noise.
const GROWTH_MIN: u32 = 5_000;
/// Growth from one second to the next that a look does not see.
const CREEP: u32 = 10_000;
/// More noise than this is taken for a queue.
const NOISE_MAX: u32 = 20_000;
/// Three times the noise are exceeded by chance about once in a hundred looks.
const NOISES: u32 = 3;

/// The round trips of one link, looked at every 100 ms. Microseconds inside.
#[derive(Debug)]
pub(super) struct Path {
    minima: [u32; MINIMUM_SECONDS],
    second: Option<u64>,
    /// By how much each of the last three looks was above the minimum, the latest first.
    above: [u32; 3],
    /// Sixteen times the mean of how far a look is off the line through the two before it.
    noise: u32,
    full_since: Option<Timestamp>,
    sum: u32,
    looks: u32,
    /// The mean of the last whole second.
    mean: Option<u32>,
    creeps: bool,
}

impl Path {
    pub(super) fn new() -> Self {
        Self {
            minima: [u32::MAX; MINIMUM_SECONDS],
            second: None,
            above: [0; 3],
            noise: 0,
            full_since: None,
            sum: 0,
            looks: 0,
            mean: None,
            creeps: false,
        }
    }

    /// Takes a round trip; none is known while it is zero. `slack` is what long packets may take longer than short ones: on
    /// a slow link a packet is on the wire for almost as long as it plays.
    pub(super) fn look(&mut self, rtt: Duration, slack: Duration, now: Timestamp) {
        let rtt = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX / 2).min(u32::MAX / 2);
        if rtt == 0 {
            return;
        }
        self.turn(now.as_millis() / 1_000);
        let at = (now.as_millis() / 1_000 % MINIMUM_SECONDS as u64) as usize;
        self.minima[at] = self.minima[at].min(rtt);
        let minimum = self.minima.iter().copied().min().unwrap_or(rtt);
        let slack = u32::try_from(slack.as_micros()).unwrap_or_default();
        let above = (rtt - minimum).saturating_sub(slack);
        let [last, before, _] = self.above;
        let off = (above + before).abs_diff(2 * last);
        self.noise = self.noise - self.noise / 16 + off.min(16 * NOISE_MAX);
        self.noise = self.noise.min(16 * NOISE_MAX);
        self.above = [above, last, before];
        self.sum = self.sum.saturating_add(above);
        self.looks += 1;
        self.full_since = if self.queue() > QUEUE { self.full_since.or(Some(now)) } else { None };
    }

    /// How long what is sent now waits in queues, beyond what noise explains.
    pub(super) fn queue(&self) -> u32 {
        self.above[0].saturating_sub(NOISES * self.noise())
    }

    /// A queue grows that is long already.
    pub(super) fn fills(&self, now: Timestamp) -> bool {
        let stands = self.full_since.is_some_and(|since| now.since(since) >= STANDS);
        let leaps = self.queue() > QUEUE && self.growth() > LEAP;
        leaps || (stands && (self.grows() || (self.creeps && !self.drains())))
    }

    /// The queue is longer than 200 ms ago, by more than it was likely to be.
    pub(super) fn grows(&self) -> bool {
        self.growth() > GROWTH_MIN.max(NOISES * self.noise()).max(self.above[2] / 8)
    }

    pub(super) fn drains(&self) -> bool {
        self.above[0] < self.above[2]
    }

    /// Less is sent from here on: whether a queue grows is seen anew.
    pub(super) fn forget(&mut self) {
        self.full_since = None;
        self.mean = None;
        self.creeps = false;
        (self.sum, self.looks) = (0, 0);
    }

    fn growth(&self) -> u32 {
        self.above[0].saturating_sub(self.above[2])
    }

    fn noise(&self) -> u32 {
        self.noise / 16
    }

    /// Forgets what is too old when a second begins.
    fn turn(&mut self, second: u64) {
        let Some(known) = self.second.replace(second).filter(|known| *known != second) else {
            self.creeps = false;
            return;
        };
        let passed = usize::try_from(second.saturating_sub(known)).unwrap_or(usize::MAX).min(MINIMUM_SECONDS);
        for ago in 0..passed {
            self.minima[(second - ago as u64) as usize % MINIMUM_SECONDS] = u32::MAX;
        }
        let mean = self.sum / self.looks.max(1);
        self.creeps = self.mean.is_some_and(|before| mean > before + CREEP.max(before / 8));
        self.mean = Some(mean);
        (self.sum, self.looks) = (0, 0);
    }
}
