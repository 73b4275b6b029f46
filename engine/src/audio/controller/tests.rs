//! One look after the other, by hand: every bound at its limit and one past it.

use super::*;
use veza_proto::v1::{AudioProfile, PublishedRung};

/// Looks at a link that the test sets, every 100 ms.
struct Desk {
    controller: Controller,
    link: Link,
    now_ms: u64,
    /// Every 500 ms, of 25 packets.
    reports: bool,
}

const MUSIC: [u32; 6] = [128_000, 96_000, 64_000, 48_000, 32_000, 24_000];

fn desk(pin: QualityPin, carrier: Carrier) -> Desk {
    let rung = |(rung, bits_per_second)| PublishedRung { rung, bits_per_second, channels: 2 };
    let rungs: Vec<PublishedRung> = (0..).zip(MUSIC).map(rung).collect();
    let steps = Steps::of_rungs(&rungs, AudioProfile::Music).unwrap();
    let controller = Controller::new(steps, pin, carrier, Timestamp::from_millis(1_000_000));
    let link = Link { rtt: Duration::from_millis(40), ..Link::default() };
    let mut desk = Desk { controller, link, now_ms: 1_000_000, reports: false };
    desk.looks(60);
    desk
}

fn datagrams() -> Desk {
    desk(QualityPin::Auto, Carrier::Datagrams)
}

impl Desk {
    fn look(&mut self) -> Decision {
        self.now_ms += 100;
        if self.reports && self.now_ms.is_multiple_of(500) {
            self.report(25, 0, 0);
        }
        self.controller.tick(&self.link, Timestamp::from_millis(self.now_ms))
    }

    /// Several looks at the same; the last decision.
    fn looks(&mut self, times: u32) -> Decision {
        (0..times).map(|_| self.look()).last().unwrap()
    }

    fn report(&mut self, packets: u32, packets_lost: u32, underruns: u32) -> &mut Self {
        let report = ReceiverReport { packets, packets_lost, underruns, ..ReceiverReport::default() };
        self.controller.handle_report(&report, Timestamp::from_millis(self.now_ms));
        self
    }

    fn queue_age(&mut self, ms: u64) -> &mut Self {
        self.link.queue_age = Duration::from_millis(ms);
        self
    }

    fn rtt(&mut self, ms: u64) -> &mut Self {
        self.link.rtt = Duration::from_millis(ms);
        self
    }

    fn rung(&self) -> u8 {
        self.controller.shape().rung
    }

    /// Looks until the rung changes, or for that long; how many milliseconds it took.
    fn until_up(&mut self, ms: u64) -> Option<u64> {
        let (rung, began) = (self.rung(), self.now_ms);
        while self.now_ms - began < ms {
            if self.look().shape.rung < rung {
                return Some(self.now_ms - began);
            }
        }
        None
    }
}

#[test]
fn it_starts_with_the_best_and_stays_there() {
    let decision = datagrams().looks(600);
    assert_eq!(decision.shape, Shape { rung: 0, packet_frames: 1, redundancy: 0 });
    assert_eq!((decision.reason, decision.flush), (QualityReason::Start, false));
}

#[test]
fn our_own_queue_at_its_bounds_and_one_past() {
    for (carrier, full, stale) in [(Carrier::Datagrams, 40, 150), (Carrier::Stream, 100, 200)] {
        let after = |ms| desk(QualityPin::Auto, carrier).queue_age(ms).look();
        assert_eq!((after(full).shape.rung, after(full).reason), (0, QualityReason::Start));
        assert_eq!((after(full + 1).shape.rung, after(full + 1).flush), (1, false));
        assert_eq!((after(stale).shape.rung, after(stale).flush), (1, false));
        assert_eq!((after(stale + 1).shape.rung, after(stale + 1).flush), (2, true));
        assert_eq!(after(stale + 1).reason, QualityReason::Congestion);
    }
}

#[test]
fn bytes_that_wait_are_as_old_as_they_take() {
    let queued = |bytes| {
        let mut desk = datagrams();
        desk.link.queued_bytes = bytes;
        desk.look().shape.rung
    };
    // A packet of 384 bytes is on its way; 40 ms of 154.8 kb/s are 774 more, and 793 are 41 ms.
    assert_eq!((queued(387 + 774), queued(387 + 794)), (0, 1));
}

#[test]
fn a_queue_in_the_network_is_left_within_three_looks_of_growing() {
    // By so many milliseconds between looks: a collapse, and little more than what passes.
    for (growth, looks) in [(100, 2), (60, 2), (30, 4), (15, 6)] {
        let mut desk = datagrams();
        let down = (1..).find(|look| desk.rtt(40 + growth * look).look().shape.rung > 0).unwrap();
        assert!(down <= looks, "{growth}: {down}");
        let above = growth * down;
        assert!(above > 50, "{growth}: {above}");
    }
}

#[test]
fn a_queue_at_its_bound_that_stands_is_no_congestion() {
    let mut desk = datagrams();
    for step in 1..=10 {
        desk.rtt(40 + 5 * step).look();
    }
    assert_eq!(desk.rtt(90).looks(50).shape.rung, 0, "50 ms");
    assert_eq!(desk.rtt(150).looks(50).shape.rung, 1, "it leapt, once");
}

#[test]
fn noise_is_no_queue() {
    let mut desk = datagrams();
    for look in 0..600 {
        desk.rtt([45, 80, 60, 40, 85, 70][look % 6]).look();
    }
    assert_eq!(desk.rung(), 0);
}

#[test]
fn loss_alone_adds_copies_at_its_bounds() {
    let copies = |packets_lost| {
        let mut desk = datagrams();
        desk.report(200 - packets_lost, packets_lost, 0).look();
        (desk.rung(), desk.controller.shape().redundancy, desk.controller.reason())
    };
    assert_eq!(copies(2), (0, 0, QualityReason::Start));
    assert_eq!(copies(3), (0, 1, QualityReason::Loss));
    assert_eq!(copies(9), (0, 1, QualityReason::Loss));
    assert_eq!(copies(10), (0, 2, QualityReason::Loss));
    assert_eq!(copies(59), (0, 2, QualityReason::Loss));
    // Three in ten of five seconds: a policer.
    assert_eq!(copies(60).2, QualityReason::Congestion);
}

#[test]
fn copies_are_given_up_at_half_and_after_five_seconds() {
    let mut desk = datagrams();
    desk.report(90, 10, 0).look();
    assert_eq!(desk.controller.shape().redundancy, 2);
    // 25 of 1,000 hold two copies.
    for _ in 0..60 {
        desk.report(195, 5, 0).looks(2);
    }
    assert_eq!(desk.controller.shape().redundancy, 2);
    for _ in 0..60 {
        desk.report(196, 4, 0).looks(2);
    }
    assert_eq!(desk.controller.shape().redundancy, 1);
    for _ in 0..70 {
        desk.report(200, 0, 0).looks(2);
    }
    assert_eq!((desk.controller.shape().redundancy, desk.controller.reason()), (0, QualityReason::Recovery));
}

#[test]
fn loss_with_a_queue_is_congestion() {
    let after = |packets_lost, rtt| {
        let mut desk = datagrams();
        desk.rtt(rtt).look();
        desk.report(100 - packets_lost, packets_lost, 0).look().reason
    };
    assert_eq!(after(10, 80), QualityReason::Congestion);
    assert_eq!(after(9, 80), QualityReason::Start, "and no copies: they would make it worse");
    assert_eq!(after(10, 60), QualityReason::Loss, "20 ms are no queue");
}

#[test]
fn two_underruns_in_a_queue_are_congestion_and_without_one_they_are_not_ours() {
    let after = |underruns, queue_age| {
        desk(QualityPin::Auto, Carrier::Datagrams).report(50, 0, underruns).queue_age(queue_age).look().reason
    };
    assert_eq!(after(2, 21), QualityReason::Congestion);
    assert_eq!(after(1, 21), QualityReason::Start);
    assert_eq!(after(2, 20), QualityReason::Start);
}

#[test]
fn up_after_three_seconds_and_a_probe_and_twice_as_long_after_each_failure() {
    let mut desk = datagrams();
    desk.reports = true;
    desk.looks(10);
    desk.queue_age(41).look();
    desk.queue_age(0);
    let mut waits = Vec::new();
    for _ in 0..5 {
        // It settles, is calm, probes for a second, and the step turns out to be one too many.
        waits.push(desk.until_up(100_000).unwrap());
        assert_eq!(desk.rung(), 0);
        desk.queue_age(41).look();
        desk.queue_age(0);
        assert_eq!(desk.rung(), 1);
    }
    assert_eq!(waits, [4_400, 7_400, 13_400, 13_400, 13_400]);
}

#[test]
fn by_stream_it_waits_up_to_a_minute() {
    let mut desk = desk(QualityPin::Auto, Carrier::Stream);
    desk.reports = true;
    desk.looks(10);
    desk.queue_age(101).look();
    desk.queue_age(0);
    let mut waits = Vec::new();
    for _ in 0..6 {
        waits.push(desk.until_up(100_000).unwrap());
        desk.queue_age(101).look();
        desk.queue_age(0);
    }
    assert_eq!(waits, [3_400, 6_400, 12_400, 24_400, 48_400, 60_400]);
}

#[test]
fn a_probe_sends_copies_and_is_over_when_a_queue_grows() {
    let mut desk = datagrams();
    desk.reports = true;
    desk.queue_age(41).look();
    let probe = desk.queue_age(0).looks(34);
    assert_eq!((probe.reason, probe.shape.rung), (QualityReason::Probe, 1));
    let copies: Vec<u8> = (0..5).map(|_| desk.look().shape.redundancy).collect();
    // 32.7 kb/s more take a copy of 25.2 kb/s, and a second one now and then.
    assert!(copies.iter().all(|copies| (1..=2).contains(copies)), "{copies:?}");
    let failed = desk.queue_age(21).look();
    assert_eq!(failed.shape, Shape { rung: 1, packet_frames: 1, redundancy: 0 });
    assert_eq!(failed.reason, QualityReason::Congestion);
}

#[test]
fn pins_bound_the_choice() {
    let first = |pin| desk(pin, Carrier::Datagrams).rung();
    assert_eq!([QualityPin::Auto, QualityPin::High, QualityPin::Medium, QualityPin::Low].map(first), [0, 0, 2, 5]);
    let mut low = desk(QualityPin::Low, Carrier::Datagrams);
    low.reports = true;
    assert_eq!(low.looks(600).shape.rung, 5);
    low.controller.set_pin(QualityPin::Medium, Timestamp::from_millis(low.now_ms));
    let chosen = low.look();
    assert_eq!((chosen.shape.rung, chosen.reason), (2, QualityReason::Choice));
    low.controller.set_pin(QualityPin::Auto, Timestamp::from_millis(low.now_ms));
    assert_eq!(low.looks(600).shape.rung, 0);
}

#[test]
fn high_gives_way_only_when_it_cannot_be_played() {
    let mut high = desk(QualityPin::High, Carrier::Datagrams);
    for step in 1..=20 {
        assert_eq!(high.rtt(40 + 20 * step).queue_age(150).look().shape.rung, 0);
    }
    assert_eq!(high.queue_age(151).look().shape.rung, 2);
    let mut lossy = desk(QualityPin::High, Carrier::Datagrams);
    assert_eq!(lossy.rtt(100).report(80, 20, 0).look().shape.rung, 0);
    assert!(lossy.report(10, 90, 0).look().shape.rung > 0);
}

#[test]
fn who_hears_nothing_is_sent_no_more() {
    let mut desk = datagrams();
    desk.queue_age(41).look();
    assert_eq!(desk.queue_age(0).until_up(60_000), None, "no report came");
    desk.reports = true;
    assert!(desk.until_up(60_000).is_some());
}

#[test]
fn another_network_is_measured_anew() {
    let jump = |tell: bool| {
        let mut desk = datagrams();
        if tell {
            desk.controller.handle_new_path(Timestamp::from_millis(desk.now_ms));
        }
        // The guess, then a network that is slower than the one before.
        desk.rtt(333).looks(3);
        desk.rtt(140).looks(50).shape.rung
    };
    assert_eq!((jump(true), jump(false) > 0), (0, true));
}

#[test]
fn other_rungs_keep_the_listener_about_where_it_was() {
    let mut desk = datagrams();
    desk.queue_age(151).look();
    assert_eq!(desk.rung(), 2);
    let rung = |rung, bits_per_second| PublishedRung { rung, bits_per_second, channels: 2 };
    let steps = Steps::of_rungs(&[rung(3, 96_000), rung(4, 32_000)], AudioProfile::Music).unwrap();
    desk.controller.set_steps(steps, Timestamp::from_millis(desk.now_ms));
    assert_eq!(desk.controller.shape(), Shape { rung: 4, packet_frames: 1, redundancy: 0 });
    assert_eq!(desk.controller.reason(), QualityReason::Choice);
}

#[test]
fn whatever_comes_in_a_listener_is_sent_what_there_is() {
    let extremes = [0, 1, 40, 151, 100_000, u64::MAX / 2];
    let mut desk = datagrams();
    for step in 0..20_000_usize {
        let of = |by: usize| extremes[step / by % extremes.len()];
        desk.link = Link {
            rtt: Duration::from_millis(of(1)),
            queue_age: Duration::from_millis(of(3)),
            queued_bytes: of(7),
            sent_packets: of(5),
            lost_packets: of(11),
        };
        let number = |by| u32::try_from(of(by)).unwrap_or(u32::MAX);
        desk.report(number(2), number(13), number(17));
        desk.now_ms += of(19) % 5_000;
        let shape = desk.look().shape;
        assert!(shape.rung <= 5 && (1..=3).contains(&shape.packet_frames) && shape.redundancy <= REDUNDANCY_MAX);
    }
}
