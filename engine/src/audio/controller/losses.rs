//! What of the sent arrives: over the last seconds, as the receiver reports it and as the transport knows it.

use std::time::Duration;

use veza_proto::v1::ReceiverReport;

use crate::Timestamp;

const BUCKETS: usize = 20;
const BUCKET_MS: u64 = 250;

/// Who has not told of any packet for this long hears nothing.
const SILENT: Duration = Duration::from_millis(1_500);
/// A report tells how much arrives for this long, if it is of that many milliseconds.
const RECENT: Duration = Duration::from_millis(600);
const REPORTS_MIN_MS: u32 = 200;
const REPORTS_MAX_MS: u32 = 2_000;
/// A share of fewer packets is none.
const PACKETS_MIN: u32 = 10;
/// A share of as many tells how much is lost.
const PACKETS_BROAD: u32 = 80;
/// Fewer lost packets than this are chance.
const LOST_MIN: u32 = 3;

/// Per mille of the packets.
pub(super) type PerMille = u32;

#[derive(Debug)]
pub(super) struct Losses {
    reported: Window,
    known: Window,
    /// The transport's totals at the last look.
    totals: Option<(u64, u64)>,
    /// When the last three reports came, the latest first, and how many packets each told of.
    reports: [(Timestamp, u32); 3],
    /// When the receiver told of packets.
    heard: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    came: u16,
    lost: u16,
    underruns: u16,
}

/// The last five seconds.
#[derive(Debug, Default)]
struct Window {
    buckets: [Bucket; BUCKETS],
    newest: u64,
}

/// A part of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Share {
    pub(super) came: u32,
    pub(super) lost: u32,
    pub(super) underruns: u32,
}

impl Share {
    /// More is lost than that, and not by chance.
    pub(super) fn loses(self, bound: PerMille) -> bool {
        self.lost >= LOST_MIN && self.came + self.lost >= PACKETS_MIN && self.loss() >= bound
    }

    /// Of so many packets that chance hardly matters.
    pub(super) fn is_broad(self) -> bool {
        self.came + self.lost >= PACKETS_BROAD
    }

    pub(super) fn loss(self) -> PerMille {
        self.lost * 1_000 / (self.came + self.lost).max(1)
    }
}

impl Losses {
    pub(super) fn new() -> Self {
        Self {
            reported: Window::default(),
            known: Window::default(),
            totals: None,
            reports: Default::default(),
            heard: None,
        }
    }

    /// `settles`: what it tells is of a time that is over.
    pub(super) fn handle_report(&mut self, report: &ReceiverReport, settles: bool, now: Timestamp) {
        let [last, before, _] = self.reports;
        // Nobody is sent more than a few packets between two reports.
        let packets = report.packets.min(u32::from(u16::MAX));
        self.reports = [(now, packets), last, before];
        if packets > 0 {
            self.heard = Some(now);
        }
        if !settles {
            self.reported.add(packets, report.packets_lost, report.underruns, now);
        }
    }

    /// Takes the transport's totals.
    pub(super) fn look(&mut self, sent: u64, lost: u64, settles: bool, now: Timestamp) {
        let (before, lost_before) = self.totals.replace((sent, lost)).unwrap_or((sent, lost));
        self.reported.turn(now);
        if settles {
            self.known.turn(now);
            return;
        }
        let count = |more: u64, less: u64| u32::try_from(more.saturating_sub(less)).unwrap_or(u32::MAX);
        let (sent, lost) = (count(sent, before), count(lost, lost_before));
        self.known.add(sent.saturating_sub(lost), lost, 0, now);
    }

    /// What has become of the packets of the last second: as the receiver tells, or else as the transport does.
    pub(super) fn second(&self) -> Share {
        self.last(1_000 / BUCKET_MS + 1)
    }

    /// The same of five seconds.
    pub(super) fn five_seconds(&self) -> Share {
        self.last(BUCKETS as u64)
    }

    /// The worse of what the receiver and the transport know of the last second.
    pub(super) fn worst(&self) -> Share {
        let (reported, known) = (self.second(), self.known.last(1_000 / BUCKET_MS + 1));
        if known.loss() > reported.loss() { Share { underruns: reported.underruns, ..known } } else { reported }
    }

    /// Packets that came per minute, by the last two reports, when they are recent and of the time since `since`.
    pub(super) fn came_per_minute(&self, since: Timestamp, now: Timestamp) -> Option<u32> {
        let [last, before, first] = self.reports;
        let (begin, packets) = if first.0 >= since { (first.0, last.1 + before.1) } else { (before.0, last.1) };
        let millis = u32::try_from(last.0.since(begin).as_millis()).ok()?;
        let tells = begin >= since && now.since(last.0) < RECENT && (REPORTS_MIN_MS..=REPORTS_MAX_MS).contains(&millis);
        tells.then(|| packets.saturating_mul(60_000) / millis)
    }

    /// The receiver gets what is sent, so that what is measured is measured on it. While nobody publishes it does not.
    pub(super) fn hears(&self, now: Timestamp) -> bool {
        self.heard.is_some_and(|heard| now.since(heard) < SILENT)
    }

    /// Forgets all of it but the totals: from here on another rate is sent.
    pub(super) fn forget(&mut self) {
        self.reported.buckets = Default::default();
        self.known.buckets = Default::default();
    }

    fn last(&self, buckets: u64) -> Share {
        let reported = self.reported.last(buckets);
        if reported.came + reported.lost > 0 { reported } else { self.known.last(buckets) }
    }
}

impl Window {
    fn turn(&mut self, now: Timestamp) {
        let newest = now.as_millis() / BUCKET_MS;
        let passed = newest.saturating_sub(self.newest).min(BUCKETS as u64);
        for ago in 0..passed {
            self.buckets[(newest - ago) as usize % BUCKETS] = Bucket::default();
        }
        self.newest = self.newest.max(newest);
    }

    fn add(&mut self, came: u32, lost: u32, underruns: u32, now: Timestamp) {
        self.turn(now);
        let bucket = &mut self.buckets[self.newest as usize % BUCKETS];
        let add = |to: &mut u16, count: u32| *to = to.saturating_add(u16::try_from(count).unwrap_or(u16::MAX));
        add(&mut bucket.came, came);
        add(&mut bucket.lost, lost);
        add(&mut bucket.underruns, underruns);
    }

    fn last(&self, buckets: u64) -> Share {
        let mut share = Share::default();
        for ago in 0..buckets.min(self.newest + 1) {
            let bucket = self.buckets[(self.newest - ago) as usize % BUCKETS];
            share.came += u32::from(bucket.came);
            share.lost += u32::from(bucket.lost);
            share.underruns += u32::from(bucket.underruns);
        }
        share
    }
}
