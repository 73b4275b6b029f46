//! Which rung, packet time and redundancy one listener gets: follows its network, looked at every 100 ms.
//!
//! The network queues: a step down, at once, and as far as what still arrives says. It loses without queueing: copies, not
//! fewer bits. It has been well for a while: a probe, whose copies take as much as the next step would, then the step.

mod losses;
mod path;
mod steps;
#[cfg(test)]
mod tests;

use std::time::Duration;

use veza_proto::media::FRAME_MS;
use veza_proto::v1::{QualityPin, QualityReason, ReceiverReport};

pub use steps::Steps;

use self::losses::{Losses, PerMille};
use self::path::Path;
use self::steps::{Choice, Step, best};
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
/// Our own queue, and the network's, below which there is none. The network's in microseconds.
const CALM_AGE: Duration = Duration::from_millis(20);
const CALM: u32 = 20_000;

/// Loss together with a queue that means congestion, beyond twice what is lost without one.
const LOSS_CONGESTED: PerMille = 100;
/// Loss of five seconds that means congestion without any queue: a policer, or a buffer too small to be seen.
const LOSS_POLICED: PerMille = 300;
const POLICED_FOR: Duration = Duration::from_secs(5);
/// Beyond twice what it was, this much loss is of the step that is tried. (Copies are tried when it begins to lose, and
/// nobody knows yet how much.)
const LOSS_OF_STEP: PerMille = 100;
/// Within a second.
const UNDERRUNS: u32 = 2;

/// Loss from which there are that many copies, and half of which gives up the last of them.
const COPY_FROM: [PerMille; REDUNDANCY_MAX as usize] = [15, 50];
/// For how long there is less than half before a copy is given up.
const COPY_HELD: Duration = Duration::from_secs(5);

/// Up after this long without a queue, doubled with every failure.
const UP_AFTER: Duration = Duration::from_secs(3);
/// The longest of it: a step that fails is heard, a probe that fails is not.
const UP_AFTER_MAX: Duration = Duration::from_secs(60);
const PROBE_AFTER_MAX: Duration = Duration::from_secs(12);
const PROBE: Duration = Duration::from_secs(1);
/// What happens this soon after more was sent is of that.
const TRIAL: Duration = Duration::from_secs(3);
/// Congestion this soon after another one is the same.
const CONSEQUENCE: Duration = Duration::from_secs(10);
/// After this long twice as much may pass as when it was too much; doubled with every failure.
const CEILING_DOUBLES: Duration = Duration::from_secs(20);
/// After less is sent, what is measured is of the time before: for a round trip, and until the next report.
const SETTLE: Duration = Duration::from_millis(300);
const SETTLE_MAX: Duration = Duration::from_secs(1);
/// Of what arrives in a congestion this much is used, per cent: the queue has to go down.
const HEADROOM: u32 = 90;
/// Less than this of what is sent, per cent, arrives when less arrives than is sent.
const ALL: u32 = 95;

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
    /// Since when nothing queues, and the listener says that it gets something.
    calm_since: Timestamp,
    /// What is lost without queueing, and since when that is less than half of what the last copy is for.
    loss: PerMille,
    quiet_since: Timestamp,
    /// Our own queue at the last look.
    queue_age: Duration,
    attempt: Option<Attempt>,
    ceiling: Option<Ceiling>,
}

/// More is sent than before, and it is not known yet whether it is too much.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    what: More,
    since: Timestamp,
    /// Loss before.
    loss: PerMille,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum More {
    /// Copies, in as many ticks as the rate of the step `to` takes. What is owed was to be sent and not yet is.
    Probe { to: usize, owed: u32, copies: u8 },
    /// The next step.
    Step,
    /// Redundancy, instead of this.
    Copies(Choice),
}

/// What passes, by what arrived when it was too much, and a rate that was too much.
#[derive(Debug, Clone, Copy)]
struct Ceiling {
    rate: u32,
    tried: u32,
    failures: u32,
    since: Timestamp,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Congestion {
    /// The attempt is too much.
    Overreached,
    Full,
    /// What is too much is thrown away instead of queued: all that loss is of our own making.
    Policed,
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
            loss: 0,
            quiet_since: now,
            queue_age: Duration::ZERO,
            attempt: None,
            ceiling: None,
        };
        controller.at = controller.top();
        controller
    }

    /// What the listener is sent at present.
    pub fn shape(&self) -> Shape {
        let extra = match self.attempt {
            Some(Attempt { what: More::Probe { copies, .. }, .. }) => copies,
            _ => 0,
        };
        self.step().shape(self.redundancy + extra)
    }

    /// Why it is sent that.
    pub fn reason(&self) -> QualityReason {
        if self.probes() { QualityReason::Probe } else { self.reason }
    }

    /// The publisher has other rungs. The listener stays about where it is.
    pub fn set_steps(&mut self, steps: Steps, now: Timestamp) {
        let (rate, redundancy) = (self.rate(), self.redundancy);
        self.steps = steps;
        self.attempt = None;
        let last = self.list().len() - 1;
        let near = self.list().iter().position(|step| step.wire(redundancy) <= rate).unwrap_or(last);
        let at = if self.pin == QualityPin::High { self.top() } else { near.max(self.top()) };
        self.go((at, redundancy), QualityReason::Choice, now);
    }

    /// The listener has another address: nothing that was measured tells of this network.
    pub fn handle_new_path(&mut self, now: Timestamp) {
        self.path = Path::new();
        self.losses.forget();
        (self.attempt, self.ceiling) = (None, None);
        // The first round trips are guessed.
        self.settled_at = now + SETTLE_MAX;
        self.calm_since = self.settled_at;
        self.quiet_since = self.settled_at;
    }

    /// Auto follows the network over all rungs, medium over the middle one and below, low over the lowest one. High stays
    /// on the best rung unless that cannot be played: our own queue is stale, or much of it is lost, or the listener
    /// starves in a queue.
    pub fn set_pin(&mut self, pin: QualityPin, now: Timestamp) {
        self.pin = pin;
        self.attempt = None;
        let top = self.top();
        let fits = self.list()[top].wire(self.redundancy) < self.budget(now);
        let at = match pin {
            QualityPin::High => top,
            // Whoever asks for more gets it at once, unless it was too much lately.
            QualityPin::Medium | QualityPin::Low if fits => top,
            QualityPin::Auto | QualityPin::Medium | QualityPin::Low => self.at.max(top),
        };
        if at < self.at && pin != QualityPin::High {
            self.attempt = Some(Attempt { what: More::Step, since: now, loss: self.losses.five_seconds().loss() });
        }
        self.go((at, self.redundancy), QualityReason::Choice, now);
    }

    pub fn handle_report(&mut self, report: &ReceiverReport, now: Timestamp) {
        self.losses.handle_report(report, now < self.settled_at, now);
    }

    /// Looks at the link and decides. Every [`TICK`].
    pub fn tick(&mut self, link: &Link, now: Timestamp) -> Decision {
        let settles = now < self.settled_at;
        let slack = FRAME_MS * (u32::from(self.step().packet_frames) - 1);
        self.path.look(link.rtt, Duration::from_millis(slack.into()), now);
        self.losses.look(link.sent_packets, link.lost_packets, settles, now);
        let queue_age = self.age_of_queue(link);
        let drains = queue_age < std::mem::replace(&mut self.queue_age, queue_age);
        let congestion = self.congestion(drains, now);
        match congestion {
            Some(congestion) => self.descend(congestion, link.rtt, now),
            None if settles => {}
            None => {
                self.follow_loss(now);
                self.ascend(now);
            }
        }
        let flush = congestion == Some(Congestion::Stale);
        Decision { shape: self.shape(), reason: self.reason(), flush }
    }

    /// What is too much, if anything is.
    fn congestion(&self, drains: bool, now: Timestamp) -> Option<Congestion> {
        let queue_age = self.queue_age;
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
        let loses = |bound: PerMille| self.carrier == Carrier::Datagrams && share.loses(bound);
        if let Some(attempt) = self.attempt {
            let loses = match attempt.what {
                More::Probe { .. } | More::Step => loses(2 * attempt.loss + LOSS_OF_STEP),
                More::Copies(_) => false,
            };
            if queue_age > full / 2 || queue > 2 * CALM || loses {
                return Some(Congestion::Overreached);
            }
        }
        let starves = share.underruns >= UNDERRUNS && (self.path.grows() || queue_age > CALM_AGE && !drains);
        let is_policed = loses(LOSS_POLICED)
            && self.losses.five_seconds().loses(LOSS_POLICED)
            && now.since(self.settled_at) >= POLICED_FOR;
        if is_policed {
            return Some(Congestion::Policed);
        }
        let spills = queue > CALM && !self.path.drains() && loses(LOSS_CONGESTED + 2 * self.loss);
        let is_full = (queue_age > full && !drains) || self.path.fills(now) || spills;
        (starves || (is_full && self.pin != QualityPin::High)).then_some(Congestion::Full)
    }

    /// Sends less.
    fn descend(&mut self, congestion: Congestion, rtt: Duration, now: Timestamp) {
        let attempt = self.attempt.take();
        if congestion == Congestion::Policed {
            self.loss = 0;
        }
        let probe = attempt.and_then(|attempt| match attempt.what {
            More::Probe { to, .. } => Some(self.list()[to].wire(self.redundancy)),
            More::Step | More::Copies(_) => None,
        });
        let arrives = self.arrives(now).filter(|_| probe.is_none());
        self.learn(probe.unwrap_or(self.rate()), arrives, attempt.is_some(), now);
        let choice = match (congestion, attempt.map(|attempt| attempt.what)) {
            (Congestion::Overreached, Some(More::Probe { .. })) => None,
            (Congestion::Overreached, Some(More::Copies(before))) => Some(before),
            (Congestion::Overreached, _) => Some(((self.at + 1).min(self.last()), self.redundancy)),
            (Congestion::Full | Congestion::Policed, _) => Some(self.less(1, arrives)),
            (Congestion::Stale, _) => Some(self.less(2, arrives)),
        };
        if let Some(choice) = choice {
            self.go(choice, QualityReason::Congestion, now);
        }
        self.settled_at = now + (rtt + SETTLE).min(SETTLE_MAX);
        self.calm_since = self.settled_at;
        self.quiet_since = self.settled_at;
        self.losses.forget();
        self.path.forget();
    }

    /// What takes no more than what arrives, or else than that many steps further down.
    fn less(&self, down: usize, arrives: Option<u32>) -> Choice {
        let lower = match self.list().get(self.at + down) {
            Some(step) => step.wire(self.redundancy) + 1,
            None => self.rate(),
        };
        let budget = arrives.map_or(lower, |arrives| lower.min(arrives / 100 * HEADROOM));
        best(self.list(), self.at, self.redundancy, budget, self.loss).unwrap_or((self.last(), 0))
    }

    /// Remembers a rate that was too much.
    fn learn(&mut self, tried: u32, arrives: Option<u32>, failed: bool, now: Timestamp) {
        let failures = match self.ceiling {
            Some(ceiling) if failed => ceiling.failures + 1,
            // What follows a failure is of it.
            Some(ceiling) if now.since(ceiling.since) < CONSEQUENCE => ceiling.failures,
            Some(_) | None => u32::from(failed),
        };
        self.ceiling = Some(Ceiling { rate: arrives.unwrap_or(tried / 100 * ALL), tried, failures, since: now });
    }

    /// This rate is not too much: more may pass than it seemed.
    fn unlearn(&mut self) {
        let rate = self.rate();
        self.ceiling = self.ceiling.filter(|ceiling| ceiling.tried > rate);
        if let Some(ceiling) = self.ceiling.as_mut().filter(|ceiling| ceiling.rate <= rate) {
            ceiling.rate = rate.midpoint(ceiling.tried);
            ceiling.failures = 0;
        }
    }

    /// Copies for what is lost, where nothing queues.
    fn follow_loss(&mut self, now: Timestamp) {
        if self.carrier == Carrier::Stream || self.probes() || self.path.queue() > CALM {
            return;
        }
        let (second, five) = (self.losses.second(), self.losses.five_seconds());
        let needs = |from: &&PerMille| five.loses(**from) || second.loses(**from);
        let wanted = COPY_FROM.iter().filter(needs).count().try_into().unwrap_or(REDUNDANCY_MAX);
        if five.is_broad() || self.loss == 0 {
            self.loss = five.loss();
        }
        if wanted > self.redundancy {
            self.copy(wanted, second.loss().max(five.loss()), now);
        }
        let Some(last_copy) = self.redundancy.checked_sub(1) else { return };
        if five.loss() * 2 >= COPY_FROM[usize::from(last_copy)] {
            self.quiet_since = now;
        } else if now.since(self.quiet_since) >= COPY_HELD {
            self.go((self.at, last_copy), QualityReason::Recovery, now);
            self.quiet_since = now;
        }
    }

    /// Adds copies, on the same step or, when that was too much lately, on what sounds best then.
    fn copy(&mut self, wanted: u8, loss: PerMille, now: Timestamp) {
        let before = (self.at, self.redundancy);
        let Some(choice) = best(self.list(), self.at, wanted, self.budget(now), self.loss) else { return };
        if choice.1 <= self.redundancy {
            return;
        }
        let rate = self.rate();
        self.go(choice, QualityReason::Loss, now);
        self.quiet_since = now;
        if self.rate() > rate {
            self.attempt = Some(Attempt { what: More::Copies(before), since: now, loss });
        }
    }

    /// Probes, and goes up.
    fn ascend(&mut self, now: Timestamp) {
        if let Some(attempt) = self.attempt {
            let lasts = now.since(attempt.since);
            match attempt.what {
                More::Probe { to, owed, .. } if lasts < PROBE => self.probe(to, owed, attempt),
                More::Probe { to, .. } => self.rise(to, now),
                More::Step | More::Copies(_) if lasts < TRIAL => {}
                More::Step | More::Copies(_) => {
                    self.attempt = None;
                    self.unlearn();
                }
            }
        }
        if self.queue_age > CALM_AGE || self.path.queue() > CALM || !self.losses.hears(now) {
            self.calm_since = now;
        }
        let Some(to) = self.next().filter(|_| self.attempt.is_none()) else { return };
        if now.since(self.calm_since) < self.up_after(&self.list()[to]) {
            return;
        }
        if self.redundancy < self.copies_max() {
            let loss = self.losses.five_seconds().loss();
            self.probe(to, 0, Attempt { what: More::Step, since: now, loss });
        } else {
            self.rise(to, now);
        }
    }

    /// Sends as many copies in this tick as the rate of that step has left over.
    fn probe(&mut self, to: usize, owed: u32, attempt: Attempt) {
        let (step, now) = (self.step(), self.redundancy);
        let per_copy = step.wire(now + 1) - step.wire(now);
        let owed = owed + self.list()[to].wire(now).saturating_sub(step.wire(now));
        let most = self.copies_max() - now;
        let copies = most.min(u8::try_from((owed + per_copy / 2) / per_copy).unwrap_or(most));
        let owed = owed.saturating_sub(u32::from(copies) * per_copy).min(per_copy);
        self.attempt = Some(Attempt { what: More::Probe { to, owed, copies }, ..attempt });
    }

    fn rise(&mut self, to: usize, now: Timestamp) {
        let loss = self.losses.five_seconds().loss();
        self.attempt = Some(Attempt { what: More::Step, since: now, loss });
        self.go((to, self.redundancy), QualityReason::Recovery, now);
        self.calm_since = now;
    }

    /// The step to try next: the next better one, or a better one yet that is not more than twice what is sent, can be
    /// probed, and was not too much lately.
    fn next(&self) -> Option<usize> {
        let (top, redundancy) = (self.top(), self.redundancy);
        let above = self.at.checked_sub(1).filter(|above| *above >= top && self.list()[*above].holds(redundancy))?;
        let probed = self.step().wire(self.copies_max());
        let seems = self.ceiling.map_or(u32::MAX, |ceiling| ceiling.rate);
        let bound = probed.min(2 * self.rate()).min(seems);
        let further = (top..above).find(|at| self.list()[*at].wire(redundancy) < bound);
        Some(further.filter(|at| self.list()[*at].holds(redundancy)).unwrap_or(above))
    }

    /// How long it has to be calm before the next step up.
    fn up_after(&self, above: &Step) -> Duration {
        let max = if self.redundancy < self.copies_max() { PROBE_AFTER_MAX } else { UP_AFTER_MAX };
        match self.ceiling {
            Some(ceiling) if above.wire(self.redundancy) >= ceiling.rate => {
                UP_AFTER.saturating_mul(1 << ceiling.failures.min(16)).min(max)
            }
            _ => UP_AFTER,
        }
    }

    fn go(&mut self, choice: Choice, reason: QualityReason, now: Timestamp) {
        if choice != (self.at, self.redundancy) {
            self.since = now;
        }
        (self.at, self.redundancy) = choice;
        self.reason = reason;
    }

    /// What passes, bits per second, where that is less than what is sent: what arrives, and what is lost behind it.
    fn arrives(&self, now: Timestamp) -> Option<u32> {
        let came = self.losses.came_per_minute(self.since, now)?;
        let arrives = u64::from(self.rate()) * u64::from(came) / u64::from(self.step().packets_per_minute());
        let arrives = arrives * 1_000 / u64::from(1_000 - self.loss.min(500));
        u32::try_from(arrives).ok().filter(|arrives| *arrives < self.rate() / 100 * ALL)
    }

    /// What may pass by what is known: the longer ago it was too much, the more.
    fn budget(&self, now: Timestamp) -> u32 {
        let Some(ceiling) = self.ceiling else { return u32::MAX };
        let since = u32::try_from(now.since(ceiling.since).as_secs()).unwrap_or(u32::MAX);
        let doubles = (CEILING_DOUBLES.as_secs() as u32) << ceiling.failures.min(4);
        ceiling.rate.saturating_add((ceiling.rate / doubles).saturating_mul(since))
    }

    /// How old what waits is: as it is told, or as long as it takes at this rate. One packet is on its way and no queue.
    fn age_of_queue(&self, link: &Link) -> Duration {
        let rate = u64::from(self.rate().max(1));
        let packet = rate * 60 / u64::from(self.step().packets_per_minute()) / 8;
        let waits = Duration::from_millis(link.queued_bytes.saturating_sub(packet).saturating_mul(8_000) / rate);
        link.queue_age.max(waits)
    }

    fn probes(&self) -> bool {
        matches!(self.attempt, Some(Attempt { what: More::Probe { .. }, .. }))
    }

    /// How many copies can be sent on this step.
    fn copies_max(&self) -> u8 {
        let most = match self.carrier {
            Carrier::Datagrams => REDUNDANCY_MAX,
            Carrier::Stream => 0,
        };
        (0..=most).rev().find(|copies| self.step().holds(*copies)).unwrap_or(0).max(self.redundancy)
    }

    fn list(&self) -> &[Step] {
        self.steps.of(self.carrier)
    }

    fn last(&self) -> usize {
        self.list().len() - 1
    }

    fn step(&self) -> &Step {
        &self.list()[self.at]
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
