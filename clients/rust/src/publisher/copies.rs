//! Copies of the frames before, while the network loses packets on their way to the server.

use veza_proto::limits::DATAGRAM_BYTES_MAX;
use veza_proto::media::{AGE_MAX, MediaFrame, MediaPacket};
use veza_proto::v1::IngestReport;

/// Losses from which copies go along, in ten thousandths; they go again at half of it.
const LOW_FROM: u64 = 150;
const ALL_FROM: u64 = 500;
/// So many calm reports in a row take copies away.
const CALM_REPORTS: u32 = 5;

/// Which of the frames before go along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Which {
    #[default]
    None,
    /// That of the lowest rung.
    Low,
    All,
}

/// Keeps what was sent last, and adds it to what is sent next.
#[derive(Debug, Default)]
pub(super) struct Copies {
    which: Which,
    before: Option<(u32, Vec<MediaFrame>)>,
    /// Frames and missing ones, as the last report counts them.
    reported: (u64, u64),
    calm: u32,
}

impl Copies {
    /// Looks at what became of the packets.
    pub(super) fn follow(&mut self, report: &IngestReport) {
        let missing = report.lost + report.recovered;
        let all = report.frames + report.lost;
        let (all_before, missing_before) = std::mem::replace(&mut self.reported, (all, missing));
        let (all, missing) = (all.saturating_sub(all_before), missing.saturating_sub(missing_before));
        let loss = (missing * 10_000).checked_div(all).unwrap_or(0);
        match self.which {
            _ if loss >= ALL_FROM => self.which = Which::All,
            Which::None if loss >= LOW_FROM => self.which = Which::Low,
            Which::None | Which::Low | Which::All => {}
        }
        let (from, less) = match self.which {
            Which::None => return,
            Which::Low => (LOW_FROM, Which::None),
            Which::All => (ALL_FROM, Which::Low),
        };
        self.calm = if loss < from / 2 { self.calm + 1 } else { 0 };
        if self.calm == CALM_REPORTS {
            (self.calm, self.which) = (0, less);
        }
    }

    /// The packet with the copies that it holds; one for every frame when it does not even hold its own.
    pub(super) fn packets(&mut self, own: MediaPacket) -> Vec<MediaPacket> {
        let copies = self.copies(own.newest);
        self.before = Some((own.newest, own.frames.clone()));
        if own.encoded_len() > DATAGRAM_BYTES_MAX {
            let alone = |frame: &MediaFrame| MediaPacket { frames: vec![frame.clone()], ..own.clone() };
            return own.frames.iter().map(alone).collect();
        }
        let mut packet = own;
        // The lowest rung's copy is the last to give way.
        for copy in copies.into_iter().rev() {
            packet.frames.push(copy);
            if packet.encoded_len() > DATAGRAM_BYTES_MAX {
                packet.frames.pop();
                break;
            }
        }
        vec![packet]
    }

    fn copies(&self, newest: u32) -> Vec<MediaFrame> {
        let Some((index, frames)) = &self.before else { return Vec::new() };
        let wanted = match self.which {
            Which::None => &[],
            Which::Low => &frames[frames.len().saturating_sub(1)..],
            Which::All => &frames[..],
        };
        let age = newest.saturating_sub(*index);
        let Some(age) = u8::try_from(age).ok().filter(|_| (1..=AGE_MAX).contains(&age)) else { return Vec::new() };
        wanted.iter().map(|frame| MediaFrame { age, ..frame.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// Reports of a second each, in which so many of fifty frames never came.
    fn after(losses: &[u64]) -> Copies {
        let mut copies = Copies::default();
        let mut report = IngestReport::default();
        for lost in losses {
            report.lost += lost;
            report.frames += 50 - lost;
            copies.follow(&report);
        }
        copies
    }

    /// A packet with a frame of these bytes on every rung.
    fn packet(newest: u32, bytes: &[usize]) -> MediaPacket {
        let frame = |(rung, bytes): (usize, &usize)| MediaFrame {
            age: 0,
            rung: rung as u8,
            switch_point: false,
            payload: Bytes::from(vec![newest as u8; *bytes]),
        };
        MediaPacket { handle: 1, newest, level: 9, fresh: 1, frames: bytes.iter().enumerate().map(frame).collect() }
    }

    /// Rungs and ages of what is sent, packet by packet.
    fn sent(copies: &mut Copies, packet: MediaPacket) -> Vec<Vec<(u8, u8)>> {
        let packets = copies.packets(packet);
        assert!(packets.iter().all(|packet| packet.write().is_ok()));
        let tags = |packet: &MediaPacket| packet.frames.iter().map(|frame| (frame.rung, frame.age)).collect();
        packets.iter().map(tags).collect()
    }

    #[test]
    fn copies_follow_the_losses_at_their_bounds_and_one_past() {
        assert_eq!(after(&[0]).which, Which::None);
        assert_eq!(after(&[1]).which, Which::Low, "2 %");
        assert_eq!(after(&[2]).which, Which::Low, "4 %");
        assert_eq!(after(&[3]).which, Which::All, "6 %");
        assert_eq!(after(&[3, 1, 0, 0, 0]).which, Which::All, "2 % is calm there, but four are not five");
        assert_eq!(after(&[3, 1, 0, 0, 0, 0]).which, Which::Low);
        assert_eq!(after(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).which, Which::None);
        assert_eq!(after(&[1, 0, 0, 0, 0, 1, 0]).which, Which::Low, "a loss begins the count anew");
    }

    #[test]
    fn a_repaired_loss_is_a_loss_of_the_network() {
        let mut copies = Copies::default();
        copies.follow(&IngestReport { frames: 50, recovered: 3, ..IngestReport::default() });
        assert_eq!(copies.which, Which::All);
    }

    #[test]
    fn the_frames_before_go_along() {
        let (mut none, mut low, mut all) = (after(&[]), after(&[1]), after(&[5]));
        for copies in [&mut none, &mut low, &mut all] {
            assert_eq!(sent(copies, packet(7, &[240, 80])), [[(0, 0), (1, 0)]], "there is nothing before");
        }
        assert_eq!(sent(&mut none, packet(8, &[240, 80])), [[(0, 0), (1, 0)]]);
        assert_eq!(sent(&mut low, packet(8, &[240, 80])), [[(0, 0), (1, 0), (1, 1)]]);
        assert_eq!(sent(&mut all, packet(8, &[240, 80])), [[(0, 0), (1, 0), (1, 1), (0, 1)]]);
        assert_eq!(all.packets(packet(10, &[9])).last().unwrap().frames[1].payload[0], 8, "what was sent then");
    }

    #[test]
    fn ages_at_their_bound_and_one_past() {
        for (newest, goes) in [(7 + AGE_MAX, true), (8 + AGE_MAX, false)] {
            let mut copies = after(&[5]);
            sent(&mut copies, packet(7, &[9]));
            assert_eq!(sent(&mut copies, packet(newest, &[9]))[0].len(), if goes { 2 } else { 1 });
        }
    }

    #[test]
    fn copies_give_way_to_what_a_datagram_holds() {
        // Beside header, tags and lengths a packet has 1,079 bytes for four frames.
        let mut copies = after(&[5]);
        sent(&mut copies, packet(7, &[441, 100]));
        assert_eq!(sent(&mut copies, packet(8, &[438, 100]))[0].len(), 4);
        let mut copies = after(&[5]);
        sent(&mut copies, packet(7, &[442, 100]));
        assert_eq!(sent(&mut copies, packet(8, &[438, 100])), [[(0, 0), (1, 0), (1, 1)]]);
    }

    #[test]
    fn rungs_that_one_datagram_does_not_hold_go_each_alone() {
        let mut copies = Copies::default();
        assert_eq!(sent(&mut copies, packet(7, &[545, 540])), [[(0, 0), (1, 0)]]);
        assert_eq!(sent(&mut copies, packet(8, &[545, 541])), [[(0, 0)], [(1, 0)]]);
    }
}
