//! A stream's last frames, ready to be sent in any shape.

use bytes::Bytes;
use veza_proto::limits::DATAGRAM_BYTES_MAX;
use veza_proto::media::{AGE_MAX, HEADER_BYTES, MediaFrame, MediaPacket, SILENCE};

use super::{Ladder, Packet, Ready, number};

/// Frames that are remembered: more than any packet reaches back.
const SLOTS: usize = 32;

/// The last frames of a stream on all its rungs.
#[derive(Debug)]
pub struct Ring {
    handle: u32,
    slots: Vec<Option<Ready>>,
    ladder: Ladder,
}

impl Ring {
    pub fn new(handle: u32) -> Self {
        Self { handle, slots: vec![None; SLOTS], ladder: Ladder::default() }
    }

    /// The stream has other rungs from now on. What was sent under their numbers is not sent again.
    pub fn set_ladder(&mut self, ladder: &Ladder) {
        self.ladder = ladder.clone();
        self.slots.fill(None);
    }

    pub fn push(&mut self, ready: Ready) {
        let at = ready.index as usize % SLOTS;
        self.slots[at] = Some(ready);
    }

    /// A frame that was made of one that is here. Whether it comes in time.
    pub fn fill(&mut self, index: u32, rung: u8, payload: Bytes, switch_point: bool) -> bool {
        let at = index as usize % SLOTS;
        let Some(slot) = self.slots[at].as_mut().filter(|slot| slot.index == index) else { return false };
        slot.frames[usize::from(rung)] = Some((payload, switch_point));
        true
    }

    pub fn has(&self, index: u32, rung: u8) -> bool {
        self.frame(index, rung).is_some()
    }

    /// Whether a decoder may come to this rung at this frame.
    pub fn is_switch_point(&self, index: u32, rung: u8) -> bool {
        self.frame(index, rung).is_some_and(|(_, switch_point)| *switch_point)
    }

    /// The packet as a datagram (as [`MediaPacket::write`] makes it). `None` when nothing of it is there.
    pub fn packet(&self, packet: Packet) -> Option<Bytes> {
        let Packet { newest, rung, fresh, redundancy } = packet;
        let mut frames = Vec::with_capacity(usize::from(fresh) * usize::from(redundancy + 1));
        let mut room = DATAGRAM_BYTES_MAX - HEADER_BYTES;
        let ages = 0..u32::from(fresh) * (u32::from(redundancy) + 1);
        for age in ages.take_while(|age| *age <= AGE_MAX.min(newest)) {
            let is_copy = age >= u32::from(fresh);
            let from = if is_copy { self.ladder.copy_of(rung) } else { rung };
            let Some((rung, (payload, switch_point))) = self.nearest(newest - age, from) else { continue };
            // Copies that find no room are left out, oldest first.
            let Some(left) = room.checked_sub(payload.len() + 3) else { break };
            room = left;
            let age = u8::try_from(age).unwrap_or(u8::MAX);
            frames.push(MediaFrame { age, rung, switch_point: *switch_point, payload: payload.clone() });
        }
        let level = self.slot(newest).map_or(SILENCE, |slot| slot.level);
        MediaPacket { handle: self.handle, newest, level, fresh, frames }.write().ok()
    }

    fn slot(&self, index: u32) -> Option<&Ready> {
        self.slots[index as usize % SLOTS].as_ref().filter(|slot| slot.index == index)
    }

    fn frame(&self, index: u32, rung: u8) -> Option<&(Bytes, bool)> {
        self.slot(index)?.frames[usize::from(rung)].as_ref()
    }

    /// The frame on this rung, or on the next lower one that came, or else on the next higher one.
    fn nearest(&self, index: u32, rung: u8) -> Option<(u8, &(Bytes, bool))> {
        if let Some(frame) = self.frame(index, rung) {
            return Some((rung, frame));
        }
        let rungs = self.ladder.rungs();
        let at = rungs.iter().position(|of| number(of) == rung).unwrap_or(rungs.len());
        let (higher, lower) = rungs.split_at(at);
        lower.iter().chain(higher.iter().rev()).find_map(|of| Some((number(of), self.frame(index, number(of))?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use veza_proto::media::RUNGS_MAX;
    use veza_proto::v1::PublishedRung;

    fn ready(index: u32, bytes: usize) -> Ready {
        let mut frames: [Option<(Bytes, bool)>; RUNGS_MAX] = Default::default();
        frames[0] = Some((Bytes::from(vec![0xfc; bytes]), index.is_multiple_of(10)));
        frames[1] = Some((Bytes::from(vec![0xfc; bytes / 3]), index.is_multiple_of(10)));
        Ready { index, level: 20, frames }
    }

    fn ring(frames: std::ops::Range<u32>, bytes: usize) -> Ring {
        let mut ring = Ring::new(5);
        let rung = |rung, bits_per_second| PublishedRung { rung, bits_per_second, channels: 2 };
        ring.set_ladder(&Ladder::parse(vec![rung(0, 96_000), rung(1, 32_000)]).unwrap());
        frames.for_each(|index| ring.push(ready(index, bytes)));
        ring
    }

    fn read(bytes: &Bytes) -> MediaPacket {
        MediaPacket::read(bytes.slice(1..)).unwrap()
    }

    fn of(packet: &MediaPacket) -> Vec<(u8, u8)> {
        packet.frames.iter().map(|frame| (frame.age, frame.rung)).collect()
    }

    #[test]
    fn packets_have_fresh_frames_and_copies_of_the_lowest_rung() {
        let ring = ring(0..40, 240);
        let packet = read(&ring.packet(Packet { newest: 39, rung: 0, fresh: 2, redundancy: 1 }).unwrap());
        assert_eq!((packet.handle, packet.newest, packet.fresh, packet.level), (5, 39, 2, 20));
        assert_eq!(of(&packet), [(0, 0), (1, 0), (2, 1), (3, 1)]);
        let low = read(&ring.packet(Packet { newest: 39, rung: 1, fresh: 1, redundancy: 2 }).unwrap());
        assert_eq!(of(&low), [(0, 1), (1, 1), (2, 1)]);
    }

    #[test]
    fn a_gap_and_the_beginning_are_left_out() {
        let mut ring = ring(0..3, 30);
        ring.push(ready(5, 30));
        let packet = read(&ring.packet(Packet { newest: 5, rung: 0, fresh: 3, redundancy: 1 }).unwrap());
        assert_eq!(packet.frames.iter().map(|frame| frame.age).collect::<Vec<_>>(), [0, 3, 4, 5]);
        assert_eq!(ring.packet(Packet { newest: 9, rung: 0, fresh: 1, redundancy: 0 }), None);
    }

    #[test]
    fn what_is_forgotten_is_not_sent_for_something_else() {
        let ring = ring(0..40, 30);
        assert_eq!(ring.packet(Packet { newest: 7, rung: 0, fresh: 1, redundancy: 0 }), None);
        assert!(ring.packet(Packet { newest: 8, rung: 0, fresh: 1, redundancy: 0 }).is_some());
        assert!(ring.is_switch_point(30, 1) && !ring.is_switch_point(31, 1));
    }

    #[test]
    fn a_frame_that_is_not_there_is_sent_on_the_next_lower_rung_and_else_the_next_higher() {
        let mut ring = Ring::new(5);
        let rung = |rung, bits_per_second| PublishedRung { rung, bits_per_second, channels: 2 };
        ring.set_ladder(&Ladder::parse(vec![rung(2, 96_000), rung(0, 64_000), rung(1, 32_000)]).unwrap());
        let payload = Bytes::from_static(&[0xfc]);
        let mut frames: [Option<(Bytes, bool)>; RUNGS_MAX] = Default::default();
        frames[2] = Some((payload.clone(), true));
        ring.push(Ready { index: 7, level: 0, frames });
        let sent = |ring: &Ring, rung| read(&ring.packet(Packet { newest: 7, rung, fresh: 1, redundancy: 0 }).unwrap());
        assert_eq!([of(&sent(&ring, 0)), of(&sent(&ring, 1))], [[(0, 2)], [(0, 2)]]);
        assert!(ring.fill(7, 1, payload.clone(), false), "it comes while the frame is remembered");
        assert_eq!([of(&sent(&ring, 0)), of(&sent(&ring, 1)), of(&sent(&ring, 2))], [[(0, 1)], [(0, 1)], [(0, 2)]]);
        assert!(!ring.fill(7 + SLOTS as u32, 1, payload, false), "and not for another");
    }

    #[test]
    fn a_datagram_at_its_bound_drops_the_oldest_copies() {
        let ring = ring(0..40, 320);
        let packet = ring.packet(Packet { newest: 39, rung: 0, fresh: 3, redundancy: 1 }).unwrap();
        assert!(packet.len() - 1 <= DATAGRAM_BYTES_MAX);
        assert_eq!(of(&read(&packet)), [(0, 0), (1, 0), (2, 0), (3, 1)]);
    }
}
