//! One direction of a network: what becomes of each packet, and when it comes out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::chance::Chance;
use crate::trace::Present;
use crate::{Bursts, Counts, Drop, PerMillion, Profile, Queue, Spread, Trace};

/// Packets on the way at most. One more is dropped.
pub(crate) const PACKETS_MAX: usize = 65_536;
/// A piece of a stream that is lost, so to say, comes a round trip later and holds up what is behind it: this at least.
const RETRANSMIT_MIN: Duration = Duration::from_millis(50);

/// What the packets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carriage {
    /// Each for itself.
    Datagrams,
    /// Pieces of a stream, which TCP carries: all of them come out, in order. One that would be lost holds up everything for
    /// a round trip (twice the delay, 50 ms at least), as its repetition would; none is duplicated or overtaken; and none is
    /// dropped for a full queue: ask [`Wire::has_room`] before taking it in.
    Stream,
}

/// A bottleneck with a queue, what is lost behind it, and the way after that. Times are since whenever the caller likes, and
/// never go back.
#[derive(Debug)]
pub struct Wire<P> {
    carriage: Carriage,
    trace: Trace,
    /// When the trace began.
    began: Duration,
    present: Present,
    rebinds: u32,
    chance: Chance,
    in_burst: bool,
    /// Before the bottleneck.
    queue: VecDeque<Piece<P>>,
    queued_bytes: u64,
    /// In the bottleneck, and until when.
    passing: Option<(Piece<P>, Duration)>,
    /// When the bottleneck is free. In the past by as much as it may let through at once.
    free_at: Duration,
    /// Behind the bottleneck, by the time they come out.
    travelling: BTreeMap<(Duration, u64), P>,
    sent: u64,
    /// Nothing that keeps the order comes out before.
    last_out: Duration,
    counts: Counts,
}

#[derive(Debug)]
struct Piece<P> {
    packet: P,
    bytes: u64,
}

impl<P: Clone> Wire<P> {
    /// Begins the trace now.
    pub fn new(trace: Trace, carriage: Carriage, seed: u64, now: Duration) -> Self {
        let present = trace.at(Duration::ZERO);
        Self {
            carriage,
            trace,
            began: now,
            present,
            rebinds: 0,
            chance: Chance::new(seed),
            in_burst: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            passing: None,
            free_at: Duration::ZERO,
            travelling: BTreeMap::new(),
            sent: 0,
            last_out: Duration::ZERO,
            counts: Counts::default(),
        }
    }

    /// Follows another trace, which began at `began`. What is on the way stays there.
    pub fn follow(&mut self, trace: Trace, began: Duration, now: Duration) {
        self.advance(now);
        (self.trace, self.began) = (trace, began);
        self.become_present(now);
    }

    /// Takes a packet in.
    ///
    /// # Errors
    /// Why it never comes out, where that is clear at once; what is lost behind the bottleneck is counted there.
    pub fn handle(&mut self, packet: P, bytes: usize, now: Duration) -> Result<(), Drop> {
        self.advance(now);
        let bytes = bytes as u64;
        self.counts.packets += 1;
        self.counts.bytes += bytes;
        if self.queue.len() + self.travelling.len() >= PACKETS_MAX {
            self.counts.dropped(Drop::Crowded);
            return Err(Drop::Crowded);
        }
        if self.carriage == Carriage::Datagrams && !self.takes(bytes, now) {
            self.counts.dropped(Drop::QueueFull);
            return Err(Drop::QueueFull);
        }
        let waits = u64::try_from(self.queue_time(now).unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
        self.counts.queue_ms_max = self.counts.queue_ms_max.max(waits);
        let piece = Piece { packet, bytes };
        if self.passing.is_some() || self.profile().rate == Some(0) {
            self.queued_bytes += bytes;
            self.queue.push_back(piece);
        } else {
            self.pass(piece, now);
            self.advance(now);
        }
        Ok(())
    }

    /// The next packet that is due.
    pub fn poll(&mut self, now: Duration) -> Option<P> {
        self.advance(now);
        let first = self.travelling.first_entry().filter(|first| first.key().0 <= now)?;
        self.counts.delivered += 1;
        Some(first.remove())
    }

    /// When there is something to [`Wire::poll`], or something else holds.
    pub fn timeout(&self) -> Option<Duration> {
        let out = self.travelling.first_key_value().map(|((at, _), _)| *at);
        let passed = self.passing.as_ref().map(|(_, until)| *until);
        [out, passed, self.switches_at()].into_iter().flatten().min()
    }

    /// Whether a piece of a stream can be taken in without the queue growing past its bound.
    pub fn has_room(&mut self, now: Duration) -> bool {
        self.advance(now);
        self.queue.len() + self.travelling.len() < PACKETS_MAX && self.takes(0, now)
    }

    /// Nothing is on the way.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.passing.is_none() && self.travelling.is_empty()
    }

    /// How many parts of the trace that say so began since this was asked last.
    pub fn take_rebinds(&mut self) -> u32 {
        std::mem::take(&mut self.rebinds)
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn profile(&self) -> Profile {
        self.present.profile
    }

    /// How long a packet that comes now waits before the bottleneck. `None` is for ever.
    pub fn queue_time(&self, now: Duration) -> Option<Duration> {
        let passes = self.passing.as_ref().map_or(Duration::ZERO, |(_, until)| until.saturating_sub(now));
        match self.profile().rate {
            None => Some(Duration::ZERO),
            Some(0) => None,
            Some(rate) => Some(passes + time_of(self.queued_bytes, rate)),
        }
    }

    /// Whether the queue has room for so much more.
    fn takes(&self, bytes: u64, now: Duration) -> bool {
        let is_free = self.passing.is_none() && self.profile().rate != Some(0);
        match self.profile().queue {
            _ if is_free => true,
            Queue::Time(max) => self.queue_time(now).is_some_and(|time| time <= max),
            Queue::Bytes(max) => self.queued_bytes + bytes <= max,
        }
    }

    /// Does what was due until now, in its order.
    fn advance(&mut self, now: Duration) {
        loop {
            let passed = self.passing.as_ref().map(|(_, until)| *until).filter(|until| *until <= now);
            let switches = self.switches_at().filter(|at| *at <= now);
            match (passed, switches) {
                (Some(passed), switches) if switches.is_none_or(|switches| passed < switches) => self.passed(passed),
                (_, Some(switches)) => self.become_present(switches),
                (Some(_), None) | (None, None) => return,
            }
        }
    }

    fn switches_at(&self) -> Option<Duration> {
        self.present.until.map(|until| self.began + until)
    }

    /// What the trace says holds from now on.
    fn become_present(&mut self, now: Duration) {
        self.present = self.trace.at(now.saturating_sub(self.began));
        self.rebinds += u32::from(self.present.rebinds);
        if self.passing.is_none() {
            self.pass_next(now);
        }
    }

    /// The bottleneck takes a packet.
    fn pass(&mut self, piece: Piece<P>, now: Duration) {
        let until = match self.profile().rate {
            None | Some(0) => now,
            Some(rate) => {
                let idle = now.saturating_sub(time_of(self.profile().bucket, rate));
                self.free_at = self.free_at.max(idle) + time_of(piece.bytes, rate);
                self.free_at.max(now)
            }
        };
        self.passing = Some((piece, until));
    }

    fn pass_next(&mut self, now: Duration) {
        if self.profile().rate == Some(0) {
            return;
        }
        if let Some(piece) = self.queue.pop_front() {
            self.queued_bytes -= piece.bytes;
            self.pass(piece, now);
        }
    }

    /// A packet is through the bottleneck.
    fn passed(&mut self, now: Duration) {
        let Some((piece, _)) = self.passing.take() else { return };
        self.pass_next(now);
        let lost = self.loses();
        let profile = self.profile();
        let mut out = now + profile.delay + self.jitter();
        match (self.carriage, lost) {
            (Carriage::Datagrams, Some(why)) => {
                self.counts.dropped(why);
                return;
            }
            (Carriage::Stream, Some(_)) => {
                self.counts.stalls += 1;
                out = out.max(self.last_out) + (profile.delay * 2).max(RETRANSMIT_MIN);
            }
            (Carriage::Datagrams | Carriage::Stream, None) => {}
        }
        let later = profile.reorder.filter(|reorder| self.is_datagram() && self.chance.hits(reorder.share));
        if let Some(reorder) = later {
            self.counts.held_back += 1;
            out += reorder.by;
        } else if profile.keeps_order || !self.is_datagram() {
            out = out.max(self.last_out);
            self.last_out = out;
        }
        if self.is_datagram() && self.chance.hits(profile.duplicate) {
            self.counts.duplicated += 1;
            self.travel(piece.packet.clone(), out);
        }
        self.travel(piece.packet, out);
    }

    fn travel(&mut self, packet: P, out: Duration) {
        self.travelling.insert((out, self.sent), packet);
        self.sent += 1;
    }

    fn is_datagram(&self) -> bool {
        self.carriage == Carriage::Datagrams
    }

    fn loses(&mut self) -> Option<Drop> {
        let profile = self.profile();
        match profile.bursts {
            Some(Bursts { loss, length }) => {
                // Bad states last `length` packets on average and are as much of the time as the loss.
                let leaves = 1_000_000 / length.max(1);
                let enters = u64::from(leaves) * u64::from(loss.0) / u64::from(1_000_000 - loss.0.min(999_999));
                let enters = PerMillion(u32::try_from(enters).unwrap_or(u32::MAX));
                let turns = if self.in_burst { PerMillion(leaves) } else { enters };
                self.in_burst ^= self.chance.hits(turns);
            }
            None => self.in_burst = false,
        }
        let lost = self.chance.hits(profile.loss).then_some(Drop::Lost);
        if self.in_burst { Some(Drop::LostInBurst) } else { lost }
    }

    fn jitter(&mut self) -> Duration {
        let profile = self.profile();
        let micros = u64::try_from(profile.jitter.as_micros()).unwrap_or(u64::MAX);
        if micros == 0 {
            return Duration::ZERO;
        }
        Duration::from_micros(match profile.spread {
            Spread::Uniform => self.chance.up_to(micros),
            // The mean of four is nearly a bell, and never leaves its range.
            Spread::Normal => (0..4).map(|_| self.chance.up_to(micros)).sum::<u64>() / 4,
            // Shape 2: one in twenty is above 0.87 of the range.
            Spread::Pareto => {
                let drawn = micros as f64 / 4.0 * (1.0 / self.chance.part().sqrt() - 1.0);
                (drawn as u64).min(4 * micros)
            }
        })
    }
}

/// How long that takes, rounded up to a nanosecond.
fn time_of(bytes: u64, rate: u64) -> Duration {
    let nanos = (u128::from(bytes) * 8 * 1_000_000_000).div_ceil(u128::from(rate.max(1)));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
