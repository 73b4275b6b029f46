//! What waits to be sent, by lane, bounded by bytes and age.

use std::collections::VecDeque;
use std::time::Duration;

use veza_proto::{Encoded, Format, Lane, RoomId};

use crate::Timestamp;
use crate::limits::{QUEUE_AGE_MAX, QUEUE_BYTES_MAX};

/// The outbound queues of one session.
#[derive(Debug)]
pub(crate) struct Lanes {
    format: Format,
    control: VecDeque<Waiting>,
    chat: VecDeque<Waiting>,
    bulk: VecDeque<(u32, Waiting)>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    frame: Encoded,
    bytes: usize,
    since: Timestamp,
    delivery: Option<(RoomId, u64)>,
}

impl Lanes {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, control: VecDeque::new(), chat: VecDeque::new(), bulk: VecDeque::new(), bytes: 0 }
    }

    /// Queues a reply or a push that must not be dropped while the session lives.
    pub(crate) fn push(&mut self, lane: Lane, frame: Encoded, now: Timestamp) {
        let waiting = self.waiting(frame, now, None);
        match lane {
            Lane::Control => self.control.push_back(waiting),
            Lane::Chat => self.chat.push_back(waiting),
            Lane::Bulk(stream) => self.bulk.push_back((stream, waiting)),
        }
    }

    /// Queues a room's message on the chat lane; it may be dropped for a lagging mark.
    pub(crate) fn push_delivery(&mut self, room: &RoomId, seq: u64, frame: Encoded, now: Timestamp) {
        let waiting = self.waiting(frame, now, Some((room.clone(), seq)));
        self.chat.push_back(waiting);
    }

    fn waiting(&mut self, frame: Encoded, now: Timestamp, delivery: Option<(RoomId, u64)>) -> Waiting {
        let bytes = frame.len(self.format);
        self.bytes += bytes;
        Waiting { frame, bytes, since: now, delivery }
    }

    /// The lane of the next frame, among those for which `ready` says yes, in the order of their priority.
    pub(crate) fn next_lane(&self, mut ready: impl FnMut(Lane) -> bool) -> Option<Lane> {
        if !self.control.is_empty() && ready(Lane::Control) {
            return Some(Lane::Control);
        }
        if !self.chat.is_empty() && ready(Lane::Chat) {
            return Some(Lane::Chat);
        }
        self.bulk.iter().map(|(stream, _)| Lane::Bulk(*stream)).find(|lane| ready(*lane))
    }

    /// Takes the next frame of a lane.
    pub(crate) fn pop(&mut self, lane: Lane) -> Option<Encoded> {
        let waiting = match lane {
            Lane::Control => self.control.pop_front(),
            Lane::Chat => self.chat.pop_front(),
            Lane::Bulk(stream) => {
                let at = self.bulk.iter().position(|(of, _)| *of == stream)?;
                self.bulk.remove(at).map(|(_, waiting)| waiting)
            }
        }?;
        self.bytes -= waiting.bytes;
        self.shrink();
        Some(waiting.frame)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a bound is passed.
    pub(crate) fn over(&self, now: Timestamp) -> bool {
        self.bytes > QUEUE_BYTES_MAX || self.oldest().is_some_and(|since| now.since(since) > QUEUE_AGE_MAX)
    }

    /// When the age bound is passed if nothing is taken until then.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.oldest().map(|since| since + QUEUE_AGE_MAX + Duration::from_millis(1))
    }

    fn oldest(&self) -> Option<Timestamp> {
        let heads = [self.control.front(), self.chat.front(), self.bulk.front().map(|(_, waiting)| waiting)];
        heads.into_iter().flatten().map(|waiting| waiting.since).min()
    }

    /// Drops every waiting message of the room that has the most bytes waiting: the room and the first sequence
    /// number that was dropped.
    pub(crate) fn drop_heaviest_room(&mut self) -> Option<(RoomId, u64)> {
        let mut sizes: Vec<(&RoomId, usize)> = Vec::new();
        for waiting in &self.chat {
            let Some((room, _)) = &waiting.delivery else { continue };
            match sizes.iter_mut().find(|(known, _)| *known == room) {
                Some((_, bytes)) => *bytes += waiting.bytes,
                None => sizes.push((room, waiting.bytes)),
            }
        }
        let room = sizes.into_iter().max_by_key(|(_, bytes)| *bytes)?.0.clone();
        self.drop_room(&room).map(|first| (room, first))
    }

    /// Exchanges waiting messages of the room for what `change` makes of them.
    pub(crate) fn change_room(&mut self, room: &RoomId, change: impl Fn(&Encoded) -> Option<Encoded>) {
        for waiting in
            self.chat.iter_mut().filter(|waiting| waiting.delivery.as_ref().is_some_and(|(of, _)| of == room))
        {
            if let Some(frame) = change(&waiting.frame) {
                let bytes = frame.len(self.format);
                self.bytes = self.bytes - waiting.bytes + bytes;
                (waiting.frame, waiting.bytes) = (frame, bytes);
            }
        }
    }

    /// Drops every waiting message of the room: the first sequence number that was dropped.
    pub(crate) fn drop_room(&mut self, room: &RoomId) -> Option<u64> {
        let (mut first, mut bytes) = (None, 0);
        self.chat.retain(|waiting| match &waiting.delivery {
            Some((of, seq)) if of == room => {
                first = Some(first.map_or(*seq, |first: u64| first.min(*seq)));
                bytes += waiting.bytes;
                false
            }
            _ => true,
        });
        self.bytes -= bytes;
        first
    }

    /// An idle session holds no memory here.
    fn shrink(&mut self) {
        if self.bytes == 0 {
            self.control = VecDeque::new();
            self.chat = VecDeque::new();
            self.bulk = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use veza_proto::v1::{Pong, push, reply};

    fn frame(bytes: usize) -> Encoded {
        let reason = "x".repeat(bytes);
        Encoded::push(push::Event::Reconnect(veza_proto::v1::Reconnect { after_ms: 1, reason }))
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn lanes_go_by_priority() {
        let mut lanes = Lanes::new(Format::Proto);
        let pong = |id| Encoded::reply(id, reply::Result::Pong(Pong::default()));
        lanes.push(Lane::Bulk(4), pong(1), at(0));
        lanes.push(Lane::Chat, pong(2), at(0));
        lanes.push(Lane::Control, pong(3), at(0));
        assert_eq!(lanes.next_lane(|_| true), Some(Lane::Control));
        assert_eq!(lanes.next_lane(|lane| lane != Lane::Control), Some(Lane::Chat));
        for lane in [Lane::Control, Lane::Chat, Lane::Bulk(4)] {
            assert_eq!(lanes.next_lane(|_| true), Some(lane));
            lanes.pop(lane).unwrap();
        }
        assert_eq!(lanes.next_lane(|_| true), None);
        assert_eq!(lanes.bytes(), 0);
    }

    #[test]
    fn the_byte_bound_at_its_limit_and_one_past() {
        let mut lanes = Lanes::new(Format::Proto);
        let overhead = frame(100_000).len(Format::Proto) - 100_000;
        for _ in 0..9 {
            lanes.push(Lane::Chat, frame(100_000 - overhead), at(0));
        }
        let rest = QUEUE_BYTES_MAX - lanes.bytes();
        lanes.push(Lane::Chat, frame(rest - overhead), at(0));
        assert_eq!(lanes.bytes(), QUEUE_BYTES_MAX);
        assert!(!lanes.over(at(0)));
        lanes.push(Lane::Chat, frame(0), at(0));
        assert!(lanes.over(at(0)));
    }

    #[test]
    fn the_age_bound_at_its_limit_and_one_past() {
        let mut lanes = Lanes::new(Format::Proto);
        lanes.push(Lane::Chat, frame(1), at(1_000));
        assert!(!lanes.over(at(11_000)));
        assert!(lanes.over(at(11_001)));
        assert_eq!(lanes.deadline(), Some(at(11_001)));
    }

    #[test]
    fn the_heaviest_room_is_dropped_and_the_others_stay() {
        let (big, small) = (RoomId::parse("big").unwrap(), RoomId::parse("small").unwrap());
        let mut lanes = Lanes::new(Format::Proto);
        lanes.push_delivery(&small, 1, frame(10), at(0));
        lanes.push_delivery(&big, 7, frame(100), at(0));
        lanes.push_delivery(&big, 8, frame(100), at(0));
        assert_eq!(lanes.drop_heaviest_room(), Some((big, 7)));
        assert_eq!(lanes.drop_heaviest_room(), Some((small, 1)));
        assert_eq!(lanes.drop_heaviest_room(), None);
        assert_eq!(lanes.bytes(), 0);
    }
}
