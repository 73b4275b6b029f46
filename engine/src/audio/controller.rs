//! Which rung, packet time and redundancy one listener gets: follows its network, looked at every 100 ms.
//!
//! The network queues: a step down, at once, and as far as what still arrives says. It loses without queueing: copies, not
//! fewer bits. It has been well for a while: a probe, whose copies take as much as the next step would, then the step.

mod losses;
mod path;
mod steps;

use std::time::Duration;

use veza_proto::v1::{QualityPin, QualityReason, ReceiverReport};

pub use steps::Steps;

use self::losses::{Losses, PerMille};
use self::path::Path;
use self::steps::Step;
use super::Shape;
use crate::Timestamp;

/// How often [`Controller::tick`] is called.
pub const TICK: Duration = Duration::from_millis(100);
/// Copies of every frame at most.
pub const REDUNDANCY_MAX: u8 = 2;

/// Our own queue that means congestion: by datagram, and by stream, where a lost segment alone makes one.
const QUEUE_AGE_DATAGRAMS: Duration = Duration::from_millis(40);
const QUEUE_AGE_STREAM: Duration = Duration::from_millis(100);
/// Our own queue that is too old to be of use: it is dropped, and it is two steps down.
const STALE_DATAGRAMS: Duration = Duration::from_millis(150);
const STALE_STREAM: Duration = Duration::from_millis(200);
/// A network queue shorter than this is none, microseconds.
const CALM: u32 = 20_000;
/// Our own queue below which nothing waits.
const CALM_AGE: Duration = Duration::from_millis(20);

/// Loss together with a queue that means congestion.
const LOSS_CONGESTED: PerMille = 100;
/// Loss that means congestion without any queue: a policer, or a buffer too small to be seen.
const LOSS_POLICED: PerMille = 400;
/// Loss that has grown by this much since more was sent, because more was sent.
const LOSS_CAUSED: PerMille = 200;
/// Fewer lost packets than this are chance.
const LOST_MIN: u32 = 3;
/// Two underruns within a second.
const UNDERRUNS: u32 = 2;

/// Loss from which there are that many copies, and the loss below which the last of them is given up.
const COPY_FROM: [PerMille; REDUNDANCY_MAX as usize] = [15, 50];
/// For how long loss stays below half before a copy is given up.
const COPY_HELD: Duration = Duration::from_secs(5);

/// Up after this long without a queue, doubled with every failure.
const UP_AFTER: Duration = Duration::from_secs(3);
const UP_AFTER_MAX: Duration = Duration::from_secs(60);
const PROBE: Duration = Duration::from_secs(1);
/// Congestion this soon after a step up is the step's.
const TRIAL: Duration = Duration::from_secs(3);
/// More was sent: its consequences show within this.
const CAUSED_WITHIN: Duration = Duration::from_secs(3);
/// How long the rate of a congestion bounds copies.
const CEILING_HELD: Duration = Duration::from_secs(60);
/// After a step down what is measured is of the time before: for a round trip, and until the next report.
const SETTLE: Duration = Duration::from_millis(300);
const SETTLE_MAX: Duration = Duration::from_secs(1);
/// Of what arrives in a congestion this much is used, per cent: the queue has to go down.
const HEADROOM: u64 = 90;

/// What the packets go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// WebTransport, QUIC.
    Datagrams,
    /// WebSocket: packets of 60 ms and no copies, for nothing is lost there.
    Stream,
}

/// What the server sees of a listener's link. Totals are since the link began.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    /// Smoothed; zero while unknown.
    pub rtt: Duration,
    /// How long the oldest packet waits that was not handed to the network.
    pub queue_age: Duration,
    /// What waits in all, where ages are not known: of QUIC's datagrams, of WebSocket's unsent bytes.
    pub queued_bytes: u64,
    pub sent_packets: u64,
    pub lost_packets: u64,
}

/// What the listener is sent from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub shape: Shape,
    /// While it probes the redundancy changes from tick to tick; there is nothing in that to tell the listener.
    pub reason: QualityReason,
    /// What waits to be sent is too old to be of use: drop it.
    pub flush: bool,
}

/// Follows one listener's network.
#[derive(Debug)]
pub struct Controller {
    steps: Steps,
    carrier: Carrier,
    pin: QualityPin,
    path: Path,
    losses: Losses,
    /// Among the steps.
    at: usize,
    redundancy: u8,
    reason: QualityReason,
    /// Since when the shape is what it is.
    since: Timestamp,
    /// Until then measurements are of the time before the last change.
    settled_at: Timestamp,
    /// Since when nothing queues.
    calm_since: Timestamp,
    /// Since when there is less loss than the copies are for.
    quiet_since: Timestamp,
    probe: Option<Probe>,
    /// More was sent than before, and the loss before that.
    more: Option<(Timestamp, PerMille)>,
    /// The last step up, while it may yet turn out to be one too many.
    risen_at: Option<Timestamp>,
    ceiling: Option<Ceiling>,
}

/// Sends copies, in as many ticks as the next step's rate takes.
#[derive(Debug, Clone, Copy)]
struct Probe {
    since: Timestamp,
    /// Bits per second that were to be sent and not yet were.
    owed: u32,
    copies: u8,
}

/// A rate that was too much.
#[derive(Debug, Clone, Copy)]
struct Ceiling {
    rate: u32,
    failures: u32,
    since: Timestamp,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Congestion {
    /// The probe, or the last step, was too much.
    Overreached,
    Full,
    /// Our own queue is stale.
    Stale,
}

impl Controller {
    pub fn new(steps: Steps, pin: QualityPin, carrier: Carrier, now: Timestamp) -> Self {
        let mut controller = Self {
            steps,
            carrier,
            pin,
            path: Path::new(),
            losses: Losses::new(),
            at: 0,
            redundancy: 0,
            reason: QualityReason::Start,
            since: now,
            settled_at: now,
            calm_since: now,
            quiet_since: now,
            probe: None,
            more: None,
            risen_at: None,
            ceiling: None,
        };
        controller.at = controller.top();
        controller
    }

    /// What the listener is sent at present.
    pub fn shape(&self) -> Shape {
        let copies = self.probe.map_or(0, |probe| probe.copies);
        self.step().shape(self.redundancy + copies)
    }

    /// Why it is sent that.
    pub fn reason(&self) -> QualityReason {
        if self.probe.is_some() { QualityReason::Probe } else { self.reason }
    }

    /// The publisher has other rungs. The listener stays about where it is.
    pub fn set_steps(&mut self, steps: Steps, now: Timestamp) {
        let (rate, redundancy) = (self.rate(), self.redundancy);
        self.steps = steps;
        self.probe = None;
        let last = self.list().len() - 1;
        let at = self.list().iter().position(|step| step.wire(redundancy) <= rate).unwrap_or(last);
        self.go(at.max(self.top()), redundancy, QualityReason::Choice, now);
    }

    /// Auto follows the network over all rungs, medium over the middle one and below, low over the lowest one. High stays
    /// on the best rung unless that cannot be played: our own queue is stale, or most of it is lost, or the listener
    /// starves in a queue.
    pub fn set_pin(&mut self, pin: QualityPin, now: Timestamp) {
        self.pin = pin;
        self.probe = None;
        let top = self.top();
        let fits = self.list()[top].wire(self.redundancy) < self.budget(now);
        let at = match pin {
            QualityPin::High => top,
            // Whoever asks for more gets it at once, unless it was too much lately.
            QualityPin::Medium | QualityPin::Low if fits => top,
            QualityPin::Auto | QualityPin::Medium | QualityPin::Low => self.at.max(top),
        };
        self.risen_at = (at < self.at && pin != QualityPin::High).then_some(now);
        self.go(at, self.redundancy, QualityReason::Choice, now);
    }

    pub fn handle_report(&mut self, report: &ReceiverReport, now: Timestamp) {
        self.losses.handle_report(report, now < self.settled_at, now);
    }

    /// Looks at the link and decides. Every [`TICK`].
    pub fn tick(&mut self, link: &Link, now: Timestamp) -> Decision {
        let settles = now < self.settled_at;
        self.path.look(link.rtt, now);
        self.losses.look(link.sent_packets, link.lost_packets, settles, now);
        let queue_age = self.queue_age(link);
        let congestion = self.congestion(queue_age, now);
        if let Some(congestion) = congestion {
            self.descend(congestion, link.rtt, now);
        } else {
            if !settles {
                self.follow_loss(now);
            }
            self.ascend(queue_age, now);
        }
        let flush = congestion == Some(Congestion::Stale);
        Decision { shape: self.shape(), reason: self.reason(), flush }
    }

    /// What is too much, if anything is.
    fn congestion(&self, queue_age: Duration, now: Timestamp) -> Option<Congestion> {
        let (full, stale) = match self.carrier {
            Carrier::Datagrams => (QUEUE_AGE_DATAGRAMS, STALE_DATAGRAMS),
            Carrier::Stream => (QUEUE_AGE_STREAM, STALE_STREAM),
        };
        if queue_age > stale {
            return Some(Congestion::Stale);
        }
        if now < self.settled_at {
            return None;
        }
        let (share, queue) = (self.losses.worst(), self.path.queue());
        // By stream nothing is lost but what we drop ourselves.
        let can_lose = self.carrier == Carrier::Datagrams;
        let loses = |bound: PerMille| can_lose && share.lost >= LOST_MIN && share.loss() > bound;
        let starves = share.underruns >= UNDERRUNS && (queue > CALM || queue_age > CALM_AGE);
        let caused = self.more.is_some_and(|(_, before)| loses(before + LOSS_CAUSED));
        let overreaches = queue_age > full / 2 || queue > 2 * CALM || caused;
        if overreaches && (self.probe.is_some() || self.risen_at.is_some()) {
            return Some(Congestion::Overreached);
        }
        let cannot_be_played = starves || loses(LOSS_POLICED);
        let is_full = queue_age > full || self.path.fills(now) || (queue > CALM && loses(LOSS_CONGESTED)) || caused;
        (cannot_be_played || (is_full && self.pin != QualityPin::High)).then_some(Congestion::Full)
    }

    /// Sends less.
    fn descend(&mut self, congestion: Congestion, rtt: Duration, now: Timestamp) {
        let arrives = self.arrives(now);
        let tried = match (self.probe, self.above()) {
            (Some(_), Some(above)) => above.wire(self.redundancy),
            _ => self.rate(),
        };
        let failed = self.probe.is_some() || self.risen_at.is_some();
        self.learn(arrives.unwrap_or(tried), failed, now);
        self.risen_at = None;
        if self.probe.take().is_none() || congestion != Congestion::Overreached {
            let least = self.at + if congestion == Congestion::Stale { 2 } else { 1 };
            let (at, redundancy) = self.below(least, arrives);
            self.go(at, redundancy, QualityReason::Congestion, now);
        }
        self.more = None;
        self.settled_at = now + (rtt + SETTLE).min(SETTLE_MAX);
        self.calm_since = self.settled_at;
        self.quiet_since = self.settled_at;
        self.losses.forget();
    }

    /// The step that takes what arrives, or else the one at `least`; when there are none left, fewer copies.
    fn below(&self, least: usize, arrives: Option<u32>) -> (usize, u8) {
        let last = self.list().len() - 1;
        let Some(arrives) = arrives else {
            let spare = u8::from(self.at == last);
            return (least.min(last), self.redundancy.saturating_sub(spare));
        };
        let rate = u32::try_from(u64::from(arrives) * HEADROOM / 100).unwrap_or(u32::MAX);
        let fitting = |redundancy: u8| {
            let from = if redundancy < self.redundancy { least.min(last) } else { least };
            let fits = self.list().iter().skip(from).position(|step| step.wire(redundancy) <= rate)?;
            Some((from + fits, redundancy))
        };
        (0..=self.redundancy).rev().find_map(fitting).unwrap_or((last, 0))
    }

    /// Remembers a rate that was too much.
    fn learn(&mut self, rate: u32, failed: bool, now: Timestamp) {
        let failures = match self.ceiling {
            Some(ceiling) if failed => ceiling.failures + 1,
            None if failed => 1,
            _ => 0,
        };
        self.ceiling = Some(Ceiling { rate, failures, since: now });
    }

    /// Copies for what is lost, where nothing queues.
    fn follow_loss(&mut self, now: Timestamp) {
        self.more = self.more.filter(|(since, _)| now.since(*since) < CAUSED_WITHIN);
        let (second, five) = (self.losses.second(), self.losses.five_seconds());
        if self.carrier == Carrier::Stream || self.probe.is_some() || self.path.queue() > CALM {
            return;
        }
        let needs = |from: &&PerMille| {
            (five.lost > 1 && five.loss() >= **from) || (second.lost >= LOST_MIN && second.loss() >= **from)
        };
        let wanted = COPY_FROM.iter().filter(needs).count().try_into().unwrap_or(REDUNDANCY_MAX);
        if wanted > self.redundancy {
            let afforded = (self.redundancy + 1..=wanted).rev().find_map(|copies| self.afford(copies, now));
            if let Some((at, redundancy)) = afforded {
                self.go(at, redundancy, QualityReason::Loss, now);
            }
        }
        let Some(last_copy) = self.redundancy.checked_sub(1) else { return };
        if five.loss() * 2 >= COPY_FROM[usize::from(last_copy)] {
            self.quiet_since = now;
        } else if now.since(self.quiet_since) >= COPY_HELD {
            self.go(self.at, last_copy, QualityReason::Recovery, now);
            self.quiet_since = now;
        }
    }

    /// The best step, from here down, on which that many copies are no more than was too much lately.
    fn afford(&self, copies: u8, now: Timestamp) -> Option<(usize, u8)> {
        let budget = self.budget(now);
        let fits = |step: &Step| step.holds(copies) && step.wire(copies) < budget;
        Some((self.at + self.list().iter().skip(self.at).position(fits)?, copies))
    }

    /// Probes, and goes up.
    fn ascend(&mut self, queue_age: Duration, now: Timestamp) {
        if let Some(probe) = self.probe {
            if now.since(probe.since) < PROBE {
                self.pay(probe)
            } else {
                self.rise(now)
            }
            return;
        }
        if self.risen_at.is_some_and(|risen| now.since(risen) >= TRIAL) {
            self.risen_at = None;
            let rate = self.rate();
            self.ceiling = self.ceiling.filter(|ceiling| ceiling.rate > rate);
        }
        if queue_age > CALM_AGE || self.path.queue() > CALM {
            self.calm_since = self.calm_since.max(now);
        }
        let Some(above) = self.above() else { return };
        if now.since(self.calm_since) < self.up_after(above) {
            return;
        }
        if self.redundancy < REDUNDANCY_MAX
            && self.carrier == Carrier::Datagrams
            && self.step().holds(self.redundancy + 1)
        {
            self.more = Some((now, self.losses.five_seconds().loss()));
            self.pay(Probe { since: now, owed: 0, copies: 0 });
        } else {
            self.rise(now);
        }
    }

    /// Sends as many copies in this tick as the rate of the next step has left over.
    fn pay(&mut self, mut probe: Probe) {
        let (step, copies) = (self.step(), self.redundancy);
        let per_copy = step.wire(copies + 1) - step.wire(copies);
        let more = self.above().map_or(0, |above| above.wire(copies).saturating_sub(step.wire(copies)));
        let most = (copies..=REDUNDANCY_MAX).filter(|copies| step.holds(*copies)).max().unwrap_or(copies) - copies;
        let owed = probe.owed + more;
        probe.copies = most.min(u8::try_from((owed + per_copy / 2) / per_copy).unwrap_or(most));
        probe.owed = owed.saturating_sub(u32::from(probe.copies) * per_copy).min(per_copy);
        self.probe = Some(probe);
    }

    fn rise(&mut self, now: Timestamp) {
        self.probe = None;
        self.go(self.at.saturating_sub(1), self.redundancy, QualityReason::Recovery, now);
        self.risen_at = Some(now);
        self.calm_since = now;
    }

    /// How long it has to be calm before the next step up.
    fn up_after(&self, above: &Step) -> Duration {
        match self.ceiling {
            Some(ceiling) if above.wire(self.redundancy) >= ceiling.rate => {
                UP_AFTER.saturating_mul(1 << ceiling.failures.min(16)).min(UP_AFTER_MAX)
            }
            _ => UP_AFTER,
        }
    }

    fn go(&mut self, at: usize, redundancy: u8, reason: QualityReason, now: Timestamp) {
        let before = self.rate();
        if (at, redundancy) != (self.at, self.redundancy) {
            self.since = now;
        }
        (self.at, self.redundancy, self.reason) = (at, redundancy, reason);
        if self.rate() > before {
            self.more = Some((now, self.losses.five_seconds().loss()));
        }
    }

    /// What arrives, bits per second, where that is less than what is sent.
    fn arrives(&self, now: Timestamp) -> Option<u32> {
        if self.probe.is_some() {
            return None;
        }
        let packets = self.losses.came_per_minute(self.since, now)?;
        let (sent, rate) = (self.step().packets_per_minute(), self.rate());
        let arrives = u64::from(rate) * u64::from(packets) / u64::from(sent);
        u32::try_from(arrives).ok().filter(|arrives| *arrives < rate / 100 * 95)
    }

    /// Rates below this were not too much lately.
    fn budget(&self, now: Timestamp) -> u32 {
        self.ceiling.filter(|ceiling| now.since(ceiling.since) < CEILING_HELD).map_or(u32::MAX, |ceiling| ceiling.rate)
    }

    /// How old what waits is: as it is told, or as long as it takes at this rate. One packet is on its way and no queue.
    fn queue_age(&self, link: &Link) -> Duration {
        let rate = u64::from(self.rate().max(1));
        let packet = rate * 60 / u64::from(self.step().packets_per_minute()) / 8;
        let waits = Duration::from_millis(link.queued_bytes.saturating_sub(packet).saturating_mul(8_000) / rate);
        link.queue_age.max(waits)
    }

    fn list(&self) -> &[Step] {
        self.steps.of(self.carrier)
    }

    fn step(&self) -> &Step {
        &self.list()[self.at]
    }

    /// The next better step that the pin allows and that holds the copies.
    fn above(&self) -> Option<&Step> {
        let above = self.at.checked_sub(1).filter(|above| *above >= self.top())?;
        self.list().get(above).filter(|step| step.holds(self.redundancy))
    }

    fn rate(&self) -> u32 {
        self.step().wire(self.redundancy)
    }

    /// The best step that the pin allows.
    fn top(&self) -> usize {
        let last = self.list().last().map_or(0, |step| step.place);
        let place = match self.pin {
            QualityPin::Auto | QualityPin::High => 0,
            QualityPin::Medium => last / 2,
            QualityPin::Low => last,
        };
        self.list().iter().position(|step| step.place >= place).unwrap_or_default()
    }
}
