//! One listener in a loop: the controller's shape makes packets, the network does to them what it does, what arrives is
//! played and reported, and the controller sees it.

use std::collections::BTreeSet;
use std::time::Duration;

use veza_engine::Timestamp;
use veza_engine::audio::{Carrier, Controller, Decision, Link, Shape, Steps};
use veza_proto::v1::{AudioProfile, PublishedRung, QualityPin, ReceiverReport};

use crate::network::{Network, Weather};
use crate::player::Player;

const FRAME_MS: u64 = 20;
const TICK_MS: u64 = 100;
const REPORT_MS: u64 = 250;
/// What the receiver holds back before it plays.
const BUFFER_MS: u64 = 150;

pub(crate) struct Listening {
    pub(crate) controller: Controller,
    pub(crate) network: Network,
    bits: Vec<u64>,
    carrier: Carrier,
    pub(crate) now_ms: u64,
    shape: Shape,
    sequence: u64,
    unsent: u64,
    receiver: Receiver,
    /// On their way back, with the time of their arrival.
    reports: Vec<(u64, ReceiverReport)>,
    pub(crate) figures: Figures,
    /// Every decision: when, and what was decided.
    pub(crate) decisions: Vec<(u64, Decision)>,
    /// Whether the decisions are obeyed. Who does not gets the best rung, one frame a packet, whatever the network does.
    pub(crate) follows: bool,
    /// Hears the same packets, where somebody wants to know; the controller is not told.
    pub(crate) player: Option<Player>,
    pub(crate) bytes: u64,
    pub(crate) samples: Vec<Sample>,
}

/// How it is at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) ms: u64,
    pub(crate) link_kbps: u64,
    pub(crate) rung_kbps: u64,
    pub(crate) shape: Shape,
    pub(crate) queue_ms: u64,
}

/// Of a part of a story.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) since_ms: u64,
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) packets_lost: u64,
    pub(crate) frames: u64,
    /// Were not there when they were to be played.
    pub(crate) missing: u64,
    pub(crate) underruns: u64,
}

#[derive(Default)]
struct Receiver {
    next_sequence: u64,
    report: ReceiverReport,
    first_ms: Option<u64>,
    held: BTreeSet<u64>,
    plays: u64,
    is_dry: bool,
}

impl Listening {
    pub(crate) fn new(
        bits: &[u32],
        profile: AudioProfile,
        carrier: Carrier,
        pin: QualityPin,
        weather: Weather,
        seed: u64,
    ) -> Self {
        let rung = |(rung, bits): (u32, &u32)| PublishedRung { rung, bits_per_second: *bits, channels: 2 };
        let rungs: Vec<PublishedRung> = (0..).zip(bits).map(rung).collect();
        let steps = Steps::of_rungs(&rungs, profile).unwrap();
        let controller = Controller::new(steps, pin, carrier, Timestamp::from_millis(0));
        let shape = controller.shape();
        Self {
            controller,
            network: Network::new(weather, seed),
            bits: bits.iter().map(|bits| u64::from(*bits)).collect(),
            carrier,
            now_ms: 0,
            shape,
            sequence: 0,
            unsent: 0,
            receiver: Receiver::default(),
            reports: Vec::new(),
            figures: Figures::default(),
            decisions: Vec::new(),
            follows: true,
            player: None,
            bytes: 0,
            samples: Vec::new(),
        }
    }

    /// Lets time pass.
    pub(crate) fn run_until(&mut self, ms: u64) {
        while self.now_ms < ms {
            self.pass();
            self.now_ms += 1;
        }
    }

    fn pass(&mut self) {
        let (ms, us) = (self.now_ms, self.now_ms * 1_000);
        for packet in self.network.arrived(us) {
            self.receiver.take(packet.sequence, packet.newest, packet.frames, ms);
            if let Some(player) = &mut self.player {
                player.take(packet.newest, packet.fresh, packet.frames, ms);
            }
        }
        if let Some(player) = &mut self.player {
            player.pass(ms);
        }
        self.receiver.play(ms, &mut self.figures);
        if ms.is_multiple_of(FRAME_MS) {
            self.send(ms / FRAME_MS, us);
        }
        // Not at the frames' time, for the two are not in step in a server either.
        if ms % REPORT_MS == 7 {
            self.figures.packets += u64::from(self.receiver.report.packets + self.receiver.report.packets_lost);
            self.figures.packets_lost += u64::from(self.receiver.report.packets_lost);
            self.reports.push((ms + self.network.weather.delay_ms, std::mem::take(&mut self.receiver.report)));
        }
        if ms % TICK_MS == 13 {
            self.tick(ms, us);
            self.samples.push(Sample {
                ms,
                link_kbps: self.network.weather.rate / 1_000,
                rung_kbps: self.bits[usize::from(self.shape.rung)] / 1_000,
                shape: self.shape,
                queue_ms: self.network.delay_us(us) / 1_000,
            });
        }
    }

    fn send(&mut self, index: u64, us: u64) {
        self.unsent += 1;
        if self.unsent < u64::from(self.shape.packet_frames) {
            return;
        }
        let (fresh, copies) = (std::mem::take(&mut self.unsent), u64::from(self.shape.redundancy));
        let bits = self.bits[usize::from(self.shape.rung)];
        let copy = if bits > 48_000 { self.bits[self.bits.len() - 1] } else { bits };
        let bytes = 64 + fresh * ((bits + copies * copy) * FRAME_MS / 8_000 + 3 * (copies + 1));
        self.figures.bytes += bytes;
        self.bytes += bytes;
        self.network.send(self.sequence, bytes, index, fresh, fresh * (copies + 1), us);
        self.sequence += 1;
    }

    fn tick(&mut self, ms: u64, us: u64) {
        let now = Timestamp::from_millis(ms);
        let (come, coming) = std::mem::take(&mut self.reports).into_iter().partition(|(at, _)| *at <= ms);
        self.reports = coming;
        for (_, report) in Vec::from_iter::<Vec<_>>(come) {
            self.controller.handle_report(&report, now);
        }
        let (sent, lost) = match self.carrier {
            Carrier::Datagrams => (self.network.sent, self.network.lost),
            Carrier::Stream => (self.network.sent, 0),
        };
        let link = Link {
            rtt: Duration::from_micros(self.network.rtt_us),
            queue_age: Duration::from_micros(self.network.queue_age_us(us)),
            queued_bytes: 0,
            sent_packets: sent,
            lost_packets: lost,
        };
        let decision = self.controller.tick(&link, now);
        if self.follows {
            if decision.flush {
                self.network.flush();
            }
            self.shape = decision.shape;
        }
        self.decisions.push((ms, decision));
    }
}

impl Receiver {
    fn take(&mut self, sequence: u64, newest: u64, frames: u64, ms: u64) {
        self.report.packets_lost += u32::try_from(sequence.saturating_sub(self.next_sequence)).unwrap();
        self.report.packets += 1;
        self.next_sequence = self.next_sequence.max(sequence + 1);
        if self.first_ms.is_none() {
            (self.first_ms, self.plays) = (Some(ms), newest);
        }
        self.held.extend((newest + 1).saturating_sub(frames)..=newest);
    }

    /// Plays a frame every 20 ms, whether it is there or not. When nothing is there it waits, which makes the buffer longer
    /// from then on.
    fn play(&mut self, ms: u64, figures: &mut Figures) {
        let Some(first) = self.first_ms else { return };
        if ms < first + BUFFER_MS || !(ms - first - BUFFER_MS).is_multiple_of(FRAME_MS) {
            return;
        }
        self.held = self.held.split_off(&self.plays);
        let was_dry = std::mem::replace(&mut self.is_dry, self.held.is_empty());
        figures.frames += 1;
        if self.is_dry {
            figures.missing += 1;
            figures.underruns += u64::from(!was_dry);
            self.report.underruns += u32::from(!was_dry);
            return;
        }
        figures.missing += u64::from(!self.held.remove(&self.plays));
        self.plays += 1;
    }
}
