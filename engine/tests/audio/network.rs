//! A small network: a bottleneck with a queue that has an end, loss behind it, and a way back that only takes time.

use std::collections::{BTreeMap, VecDeque};

/// What the network is like at present.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Bits per second.
    pub(crate) rate: u64,
    /// How long the bottleneck's queue may get, milliseconds.
    pub(crate) queue_ms: u64,
    /// One way, milliseconds.
    pub(crate) delay_ms: u64,
    /// Up to so much more, evenly, in order. Milliseconds.
    pub(crate) jitter_ms: u64,
    /// Per mille of the packets that are lost, each by itself.
    pub(crate) loss: u64,
    /// Per mille of the packets that are lost, so many in a row on average.
    pub(crate) bursts: Option<(u64, u64)>,
    /// Bytes that the sender may have in the network; what is more waits with it.
    pub(crate) window: u64,
}

impl Default for Weather {
    fn default() -> Self {
        let window = u64::MAX;
        Self { rate: 10_000_000, queue_ms: 200, delay_ms: 20, jitter_ms: 0, loss: 0, bursts: None, window }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) sequence: u64,
    pub(crate) bytes: u64,
    pub(crate) newest: u64,
    /// Frames that are no copies.
    pub(crate) fresh: u64,
    /// Frames it holds, fresh ones and copies.
    pub(crate) frames: u64,
    pub(crate) queued_us: u64,
    sent_us: u64,
}

/// Everything between the server's shape and the receiver, in microseconds.
pub(crate) struct Network {
    pub(crate) weather: Weather,
    chance: Chance,
    in_burst: bool,
    waiting: VecDeque<Packet>,
    in_flight: u64,
    busy_until: u64,
    last_arrival: u64,
    /// By arrival; `false` is lost where it would have arrived.
    travelling: BTreeMap<(u64, u64), (Packet, bool)>,
    /// Smoothed as QUIC does it (RFC 9002, section 5.3).
    pub(crate) rtt_us: u64,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) queue_us_max: u64,
}

impl Network {
    pub(crate) fn new(weather: Weather, seed: u64) -> Self {
        Self {
            weather,
            chance: Chance(seed),
            in_burst: false,
            waiting: VecDeque::new(),
            in_flight: 0,
            busy_until: 0,
            last_arrival: 0,
            travelling: BTreeMap::new(),
            rtt_us: 0,
            sent: 0,
            lost: 0,
            queue_us_max: 0,
        }
    }

    /// Hands a packet to the sender's queue.
    pub(crate) fn send(&mut self, sequence: u64, bytes: u64, newest: u64, fresh: u64, frames: u64, now: u64) {
        self.waiting.push_back(Packet { sequence, bytes, newest, fresh, frames, queued_us: now, sent_us: now });
        self.pump(now);
    }

    /// What has arrived until now.
    pub(crate) fn arrived(&mut self, now: u64) -> Vec<Packet> {
        let mut arrived = Vec::new();
        while let Some(entry) = self.travelling.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((at, _), (packet, arrives)) = entry.remove_entry();
            self.in_flight -= packet.bytes;
            if arrives {
                let rtt = at - packet.sent_us + self.weather.delay_ms * 1_000;
                self.rtt_us = if self.rtt_us == 0 { rtt } else { (7 * self.rtt_us + rtt) / 8 };
                arrived.push(packet);
            } else {
                self.lost += 1;
            }
        }
        self.pump(now);
        arrived
    }

    /// How long the oldest packet waits with the sender.
    pub(crate) fn queue_age_us(&self, now: u64) -> u64 {
        self.waiting.front().map_or(0, |packet| now - packet.queued_us)
    }

    /// How long what is sent now waits before it is on the wire.
    pub(crate) fn delay_us(&self, now: u64) -> u64 {
        self.queue_age_us(now) + self.busy_until.saturating_sub(now)
    }

    pub(crate) fn flush(&mut self) {
        self.waiting.clear();
    }

    fn pump(&mut self, now: u64) {
        while self
            .waiting
            .front()
            .is_some_and(|next| self.in_flight + next.bytes <= self.weather.window.max(next.bytes))
        {
            let Some(mut packet) = self.waiting.pop_front() else { return };
            packet.sent_us = now;
            self.sent += 1;
            let start = self.busy_until.max(now);
            let (queue, bytes) = (start - now, packet.bytes);
            self.queue_us_max = self.queue_us_max.max(queue);
            let fits = queue <= self.weather.queue_ms * 1_000;
            if fits {
                self.busy_until = start + bytes * 8_000_000 / self.weather.rate;
            }
            let jitter = self.chance.below(self.weather.jitter_ms * 1_000 + 1);
            let arrival = (self.busy_until.max(now) + self.weather.delay_ms * 1_000 + jitter).max(self.last_arrival);
            self.last_arrival = arrival;
            let arrives = fits && !self.loses();
            self.in_flight += bytes;
            self.travelling.insert((arrival, packet.sequence), (packet, arrives));
        }
    }

    fn loses(&mut self) -> bool {
        let alone = self.chance.below(1_000) < self.weather.loss;
        if let Some((loss, length)) = self.weather.bursts {
            // Gilbert's model: bad states last `length` packets on average and take up `loss` of the time.
            let leaves = 1_000_000 / length;
            let enters = leaves * loss / (1_000 - loss);
            let turns = if self.in_burst { leaves } else { enters };
            self.in_burst ^= self.chance.below(1_000_000) < turns;
        } else {
            self.in_burst = false;
        }
        alone || self.in_burst
    }
}

/// Splitmix64.
pub(crate) struct Chance(pub u64);

impl Chance {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
