//! One listener of a stream: which packets go out at which frame.

use super::Ring;

/// A rung that is waited for without a switch point is changed to after so many frames: a publisher that marks none has
/// none.
const SWITCH_WITHIN: u32 = 10;
/// The common grid: rungs that are made here have their switch points at multiples of this.
pub const GRID: u32 = 10;
/// For so many frames from a switch point on a listener waits for the rung that is made for it, and is sent them together
/// when they do not come: no more fit into one packet.
const MADE_WITHIN: u32 = 2;

/// How a listener is sent a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    pub rung: u8,
    /// Frames of 20 ms in each packet, 1 to 3.
    pub packet_frames: u8,
    /// Copies of every frame in later packets, 0 to 2.
    pub redundancy: u8,
}

/// A packet, as all listeners get it that need the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    pub newest: u32,
    pub rung: u8,
    pub fresh: u8,
    pub redundancy: u8,
}

/// What a listener was sent and is to be sent.
#[derive(Debug)]
pub struct Listener {
    shape: Shape,
    /// The shape it is on its way to, and for how many frames.
    wanted: Option<(Shape, u32)>,
    /// Everything before was sent.
    next: Option<u32>,
}

impl Listener {
    pub fn new(shape: Shape) -> Self {
        Self { shape, wanted: None, next: None }
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Changes the shape: packet time and redundancy with the next packet, the rung at its next switch point.
    pub fn change(&mut self, shape: Shape) {
        self.shape = Shape { rung: self.shape.rung, ..shape };
        self.wanted = match self.wanted {
            Some((wanted, frames)) if wanted.rung == shape.rung => Some((shape, frames)),
            _ if shape.rung == self.shape.rung => None,
            _ => Some((shape, 0)),
        };
    }

    /// Whether it waits for a frame of a rung that is made here, which comes after the publisher's of the same index.
    pub fn awaits_made(&self, index: u32, is_running: impl Fn(u8) -> bool) -> bool {
        let changes = index % GRID < MADE_WITHIN;
        is_running(self.shape.rung) || self.wanted.is_some_and(|(wanted, _)| changes && is_running(wanted.rung))
    }

    /// A frame has come: the packet that goes out with it, if one does.
    pub fn packet(&mut self, index: u32, ring: &Ring) -> Option<Packet> {
        if self.next.is_some_and(|next| index < next) {
            return None;
        }
        if let Some((wanted, frames)) = &mut self.wanted {
            *frames += 1;
            let is_there = ring.has(index, wanted.rung);
            if ring.is_switch_point(index, wanted.rung) || (*frames > SWITCH_WITHIN && is_there) {
                // What waits on the old rung goes out with this packet, on the new one.
                self.shape.rung = wanted.rung;
                self.wanted = None;
            }
        }
        let per_packet = u32::from(self.shape.packet_frames);
        let last = index.wrapping_add(1).is_multiple_of(per_packet);
        let first = *self.next.get_or_insert(index);
        let unsent = (index + 1).saturating_sub(first);
        // After a gap the frames of three packets ago are no use to anybody.
        let fresh = u8::try_from(unsent.min(3)).unwrap_or(3);
        if fresh == 0 || (!last && unsent < per_packet) {
            return None;
        }
        self.next = Some(index + 1);
        Some(Packet { newest: index, rung: self.shape.rung, fresh, redundancy: self.shape.redundancy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Ready;
    use bytes::Bytes;

    fn shape(rung: u8, packet_frames: u8, redundancy: u8) -> Shape {
        Shape { rung, packet_frames, redundancy }
    }

    fn ring(switch_points: &[u32]) -> Ring {
        let mut ring = Ring::new(1);
        for index in 0..32 {
            let frame = Some((Bytes::from_static(&[0xfc]), switch_points.contains(&index)));
            let frames = [frame.clone(), frame, None, None, None, None, None, None];
            ring.push(Ready { index, level: 0, frames });
        }
        ring
    }

    fn sent(listener: &mut Listener, frames: std::ops::Range<u32>, ring: &Ring) -> Vec<(u32, u8, u8)> {
        frames.filter_map(|index| listener.packet(index, ring)).map(|p| (p.newest, p.rung, p.fresh)).collect()
    }

    #[test]
    fn packets_end_on_a_grid_that_all_listeners_share() {
        let ring = ring(&[]);
        let mut listener = Listener::new(shape(0, 3, 0));
        assert_eq!(sent(&mut listener, 1..9, &ring), [(2, 0, 2), (5, 0, 3), (8, 0, 3)]);
        listener.change(shape(0, 2, 1));
        assert_eq!(sent(&mut listener, 9..12, &ring), [(9, 0, 1), (11, 0, 2)]);
        listener.change(shape(0, 1, 1));
        assert_eq!(sent(&mut listener, 12..14, &ring), [(12, 0, 1), (13, 0, 1)]);
    }

    #[test]
    fn a_shorter_packet_time_takes_along_what_waits() {
        let ring = ring(&[]);
        let mut listener = Listener::new(shape(0, 3, 0));
        assert_eq!(sent(&mut listener, 0..5, &ring), [(2, 0, 3)]);
        listener.change(shape(0, 1, 0));
        assert_eq!(sent(&mut listener, 5..7, &ring), [(5, 0, 3), (6, 0, 1)]);
    }

    #[test]
    fn rungs_change_at_switch_points_or_when_none_comes() {
        let marked = ring(&[7]);
        let mut listener = Listener::new(shape(0, 1, 0));
        listener.change(shape(1, 1, 0));
        let rungs: Vec<u8> = sent(&mut listener, 5..9, &marked).iter().map(|packet| packet.1).collect();
        assert_eq!(rungs, [0, 0, 1, 1]);
        let unmarked = ring(&[]);
        let mut listener = Listener::new(shape(0, 1, 0));
        listener.change(shape(1, 1, 0));
        listener.change(shape(1, 1, 2));
        let rungs: Vec<u8> = sent(&mut listener, 0..12, &unmarked).iter().map(|packet| packet.1).collect();
        assert_eq!(rungs, [[0; 10].as_slice(), &[1; 2]].concat());
    }

    #[test]
    fn a_rung_that_is_made_is_changed_to_when_its_frames_are_there() {
        let is_made = |rung| rung == 1;
        let mut ring = Ring::new(1);
        let mut listener = Listener::new(shape(0, 1, 0));
        listener.change(shape(1, 1, 0));
        let mut heard = Vec::new();
        for index in 5..42 {
            let payload = Bytes::from_static(&[0xfc]);
            let mut frames: [Option<(Bytes, bool)>; 8] = Default::default();
            frames[0] = Some((payload.clone(), index % GRID == 0));
            ring.push(Ready { index, level: 0, frames });
            if !listener.awaits_made(index, is_made) {
                heard.extend(listener.packet(index, &ring));
            }
            // Made from 14 on: the first switch point comes too late, the second one in time.
            if index == 24 {
                ring.fill(20, 1, payload.clone(), true);
                assert_eq!(listener.packet(20, &ring), None, "it has had that");
            } else if index >= 25 {
                ring.fill(index, 1, payload, index % GRID == 0);
                if listener.awaits_made(index, is_made) {
                    heard.extend(listener.packet(index, &ring));
                }
            }
        }
        let changed = heard.iter().find(|packet| packet.rung == 1).map(|packet| packet.newest);
        let fresh: u32 = heard.iter().map(|packet| u32::from(packet.fresh)).sum();
        assert_eq!((changed, fresh, listener.shape().rung), (Some(30), 42 - 5, 1), "{heard:?}");
        let waited: Vec<u32> = heard.iter().filter(|packet| packet.fresh == 3).map(|packet| packet.newest).collect();
        assert_eq!(waited, [12, 22], "what was waited for in vain goes out together");
    }

    #[test]
    fn after_a_gap_at_most_three_frames_go_out_together() {
        let ring = ring(&[]);
        let mut listener = Listener::new(shape(0, 1, 0));
        assert_eq!(sent(&mut listener, 0..1, &ring), [(0, 0, 1)]);
        assert_eq!(sent(&mut listener, 20..21, &ring), [(20, 0, 3)]);
    }
}
