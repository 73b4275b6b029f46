//! One room in one session: where its deliveries stand, and how a resume catches up.
//!
//! A subscription is made before the log's end is read. What is delivered meanwhile waits in a bounded gate; when the
//! gate runs over it is let go and the replay reads those messages from the store instead, so order never depends on
//! the gate's size.

use std::collections::VecDeque;

use veza_proto::Encoded;
use veza_proto::v1::{Delivery, Gap, GapReason, Live, Recovered, RoomCursor, Verdict, verdict::Outcome};

use crate::ask::{Ask, Joined, Ticket};
use crate::limits::{GATE_MESSAGES_MAX, REPLAY_MESSAGES_MAX, REPLAY_PAGE};

#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) fast: bool,
    pub(crate) epoch: u64,
    pub(crate) state: State,
    /// Fast deliveries went out since the head was last said.
    pub(crate) head_due: bool,
    /// The room let this session in. Until then nothing may be read or said there.
    pub(crate) admitted: bool,
    /// Asked of the room before it let this session in: asked again as soon as it does.
    pub(crate) waiting: Vec<(Ticket, Ask)>,
    /// The newest join or resume that was asked for.
    pub(crate) join: u32,
    /// Counts replays, so that a page of an abandoned one is known.
    pub(crate) generation: u32,
}

#[derive(Debug)]
pub(crate) enum State {
    /// Asked for; nothing is known of the room yet.
    Joining { cursor: Option<Cursor>, gate: Gate },
    /// Reading what was missed: `next` comes next, `up_to` is the last to be read.
    Replaying { next: u64, up_to: u64, gate: Gate, reading: bool },
    /// `next` comes next from the room.
    Live { next: u64 },
    /// Pushes are dropped until the client catches up; `latest` is the highest number dropped.
    Lagging { latest: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) epoch: u64,
    pub(crate) last_seq: u64,
}

/// Live messages held back, in order.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    held: VecDeque<(u64, Encoded)>,
    /// The highest number that was let go for want of room.
    spilled: u64,
}

/// What a delivery from the room means for this session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// Send it now.
    Send,
    /// Held, known already, or dropped while lagging.
    Nothing,
    /// Something before it is missing: read it from the store.
    ReadFrom(u64),
}

impl Cursor {
    pub(crate) fn of(cursor: &RoomCursor) -> Option<Cursor> {
        (cursor.epoch != 0).then_some(Cursor { epoch: cursor.epoch, last_seq: cursor.last_seq })
    }
}

impl Subscription {
    pub(crate) fn joining(join: u32, cursor: Option<Cursor>, delivery: Delivery, datagrams: bool) -> Self {
        Self {
            fast: datagrams && delivery == Delivery::Fast,
            epoch: 0,
            state: State::Joining { cursor, gate: Gate::default() },
            head_due: false,
            admitted: false,
            waiting: Vec::new(),
            join,
            generation: 0,
        }
    }

    /// Asks anew where it stands, from another cursor: it stays admitted meanwhile.
    pub(crate) fn rejoin(&mut self, join: u32, cursor: Option<Cursor>, delivery: Delivery, datagrams: bool) {
        let (admitted, generation, waiting) = (self.admitted, self.generation, std::mem::take(&mut self.waiting));
        *self = Self { admitted, generation, waiting, ..Self::joining(join, cursor, delivery, datagrams) };
    }

    /// The room answered: the verdict on the cursor.
    pub(crate) fn joined(&mut self, joined: &Joined) -> Verdict {
        let (epoch, head) = (joined.room.epoch, joined.room.head);
        let State::Joining { cursor, gate } = &mut self.state else {
            return Verdict { outcome: Some(Outcome::Live(Live {})) };
        };
        let (cursor, gate) = (*cursor, std::mem::take(gate));
        let outcome = judge(cursor, epoch, head, joined.first_available);
        let next = match &outcome {
            Outcome::Recovered(recovered) => head - recovered.messages + 1,
            Outcome::Live(_) | Outcome::Gap(_) => head + 1,
        };
        self.epoch = epoch;
        self.admitted = true;
        self.generation = self.generation.wrapping_add(1);
        self.state = State::Replaying { next, up_to: head, gate, reading: false };
        Verdict { outcome: Some(outcome) }
    }

    /// A live message of the current epoch.
    pub(crate) fn deliver(&mut self, seq: u64, frame: &Encoded) -> Delivered {
        match &mut self.state {
            State::Joining { gate, .. } => gate.hold(seq, frame),
            State::Replaying { up_to, gate, .. } => {
                if seq > *up_to {
                    gate.hold(seq, frame);
                }
            }
            State::Live { next } => {
                if seq < *next {
                    return Delivered::Nothing;
                }
                if seq > *next {
                    return Delivered::ReadFrom(*next);
                }
                *next += 1;
                return Delivered::Send;
            }
            State::Lagging { latest } => *latest = (*latest).max(seq),
        }
        Delivered::Nothing
    }

    /// Exchanges messages that wait in the gate for what `change` makes of them.
    pub(crate) fn change_held(&mut self, change: impl Fn(&Encoded) -> Option<Encoded>) {
        match &mut self.state {
            State::Joining { gate, .. } | State::Replaying { gate, .. } => {
                for (_, frame) in &mut gate.held {
                    if let Some(changed) = change(frame) {
                        *frame = changed;
                    }
                }
            }
            State::Live { .. } | State::Lagging { .. } => {}
        }
    }

    /// What to read next, when a replay is under way and no read is: (after, limit). Once all is read the gate opens
    /// and its messages are returned in order.
    pub(crate) fn advance(&mut self) -> Advance {
        let State::Replaying { next, up_to, gate, reading } = &mut self.state else { return Advance::Nothing };
        if *reading {
            return Advance::Nothing;
        }
        if *next <= *up_to {
            *reading = true;
            let limit = (*up_to - *next + 1).min(u64::from(REPLAY_PAGE));
            return Advance::Read { after: *next - 1, limit: u32::try_from(limit).unwrap_or(REPLAY_PAGE) };
        }
        if gate.spilled >= *next {
            *up_to = gate.spilled;
            gate.spilled = 0;
            return self.advance();
        }
        let mut open = Vec::new();
        for (seq, frame) in std::mem::take(gate).held {
            if seq == *next {
                open.push((seq, frame));
                *next += 1;
            }
        }
        let next = *next;
        self.state = State::Live { next };
        Advance::Open(open)
    }

    /// Starts reading from the store although the room is live: a hole was seen before `seq`.
    pub(crate) fn read_hole(&mut self, next: u64, seq: u64, frame: &Encoded) {
        let mut gate = Gate::default();
        gate.hold(seq, frame);
        self.generation = self.generation.wrapping_add(1);
        self.state = State::Replaying { next, up_to: seq - 1, gate, reading: false };
    }

    /// Marks it lagging from `first_dropped` on: the last number the client was sent.
    pub(crate) fn lag(&mut self, first_dropped: Option<u64>) -> u64 {
        let (next, latest) = match &self.state {
            State::Joining { .. } => (0, 0),
            State::Replaying { next, up_to, gate, .. } => (*next, (*up_to).max(gate.latest())),
            State::Live { next } => (*next, next.saturating_sub(1)),
            State::Lagging { latest } => (*latest + 1, *latest),
        };
        self.state = State::Lagging { latest };
        first_dropped.unwrap_or(next).saturating_sub(1)
    }

    /// The client holds everything up to `last` after a repair: a lagging room that has caught up is live again. Otherwise
    /// the highest number that was dropped, which the client has to ask for too.
    pub(crate) fn repaired(&mut self, last: u64) -> Option<u64> {
        let State::Lagging { latest } = self.state else { return None };
        if last < latest {
            return Some(latest);
        }
        self.state = State::Live { next: last + 1 };
        None
    }
}

/// What a replay does next.
#[derive(Debug)]
pub(crate) enum Advance {
    Nothing,
    Read { after: u64, limit: u32 },
    Open(Vec<(u64, Encoded)>),
}

impl Gate {
    fn hold(&mut self, seq: u64, frame: &Encoded) {
        if self.held.len() >= GATE_MESSAGES_MAX {
            self.spilled = self.held.back().map_or(0, |(seq, _)| *seq);
            self.held.clear();
        }
        self.held.push_back((seq, frame.clone()));
    }

    fn latest(&self) -> u64 {
        self.held.back().map_or(self.spilled, |(seq, _)| *seq)
    }
}

fn judge(cursor: Option<Cursor>, epoch: u64, head: u64, first_available: u64) -> Outcome {
    let gap = |reason: GapReason| Outcome::Gap(Gap { reason: reason.into(), first_available });
    match cursor {
        None => Outcome::Live(Live {}),
        Some(cursor) if cursor.epoch != epoch => gap(GapReason::EpochChanged),
        Some(cursor) if cursor.last_seq > head => gap(GapReason::CursorAhead),
        Some(cursor) if cursor.last_seq + 1 < first_available => gap(GapReason::HistoryExpired),
        Some(cursor) if head - cursor.last_seq > REPLAY_MESSAGES_MAX => gap(GapReason::TooFarBehind),
        Some(cursor) => Outcome::Recovered(Recovered { messages: head - cursor.last_seq }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use veza_proto::v1::{Message, MessageDelivered, Room, push};

    fn frame(seq: u64) -> Encoded {
        let message = Message { seq, ..Message::default() };
        Encoded::push(push::Event::Message(MessageDelivered { message: Some(message) }))
    }

    fn joined(head: u64, first_available: u64) -> Joined {
        let room = Room { epoch: 1, head, ..Room::default() };
        Joined {
            room,
            first_available,
            present: Vec::new(),
            present_total: 0,
            statuses: Vec::new(),
            receipts: Vec::new(),
        }
    }

    fn verdict_of(last_seq: u64, head: u64, first_available: u64) -> Outcome {
        judge(Some(Cursor { epoch: 1, last_seq }), 1, head, first_available)
    }

    fn reason(outcome: Outcome) -> Option<GapReason> {
        match outcome {
            Outcome::Gap(gap) => Some(gap.reason()),
            Outcome::Live(_) | Outcome::Recovered(_) => None,
        }
    }

    #[test]
    fn a_cursor_is_judged_at_every_border() {
        assert_eq!(verdict_of(0, 0, 1), Outcome::Recovered(Recovered { messages: 0 }));
        assert_eq!(verdict_of(10, 10, 1), Outcome::Recovered(Recovered { messages: 0 }));
        assert_eq!(reason(verdict_of(11, 10, 1)), Some(GapReason::CursorAhead));
        assert_eq!(verdict_of(4, 10, 5), Outcome::Recovered(Recovered { messages: 6 }));
        assert_eq!(reason(verdict_of(3, 10, 5)), Some(GapReason::HistoryExpired));
        assert_eq!(
            verdict_of(1, 1 + REPLAY_MESSAGES_MAX, 1),
            Outcome::Recovered(Recovered { messages: REPLAY_MESSAGES_MAX })
        );
        assert_eq!(reason(verdict_of(0, 1 + REPLAY_MESSAGES_MAX, 1)), Some(GapReason::TooFarBehind));
        assert_eq!(reason(judge(Some(Cursor { epoch: 2, last_seq: 1 }), 1, 10, 1)), Some(GapReason::EpochChanged));
    }

    /// Runs a replay to its end against a store that has every message up to `stored`.
    fn replay(subscription: &mut Subscription, sent: &mut Vec<u64>) {
        loop {
            match subscription.advance() {
                Advance::Nothing => return,
                Advance::Open(open) => sent.extend(open.into_iter().map(|(seq, _)| seq)),
                Advance::Read { after, limit } => {
                    let State::Replaying { next, reading, .. } = &mut subscription.state else { panic!() };
                    *reading = false;
                    for seq in after + 1..=after + u64::from(limit) {
                        sent.push(seq);
                        *next = seq + 1;
                    }
                }
            }
        }
    }

    #[test]
    fn a_gate_that_runs_over_is_read_from_the_store() {
        let cursor = Some(Cursor { epoch: 1, last_seq: 90 });
        let mut subscription = Subscription::joining(1, cursor, Delivery::Unspecified, false);
        let verdict = subscription.joined(&joined(100, 1));
        assert_eq!(verdict.outcome, Some(Outcome::Recovered(Recovered { messages: 10 })));
        let last = 100 + 3 * GATE_MESSAGES_MAX as u64 + 5;
        for seq in 101..=last {
            assert_eq!(subscription.deliver(seq, &frame(seq)), Delivered::Nothing);
        }
        let mut sent = Vec::new();
        replay(&mut subscription, &mut sent);
        assert_eq!(sent, (91..=last).collect::<Vec<_>>());
        assert_eq!(subscription.deliver(last + 1, &frame(last + 1)), Delivered::Send);
    }

    #[test]
    fn a_lagging_room_is_live_again_after_the_repair_that_reaches_what_was_dropped() {
        let mut subscription = Subscription::joining(1, None, Delivery::Unspecified, false);
        subscription.joined(&joined(5, 1));
        replay(&mut subscription, &mut Vec::new());
        assert_eq!(subscription.deliver(6, &frame(6)), Delivered::Send);
        assert_eq!(subscription.lag(Some(6)), 5);
        assert_eq!(subscription.deliver(7, &frame(7)), Delivered::Nothing);
        assert_eq!(subscription.repaired(6), Some(7));
        assert_eq!(subscription.deliver(8, &frame(8)), Delivered::Nothing, "7 is still missing");
        assert_eq!(subscription.repaired(8), None);
        assert_eq!(subscription.deliver(8, &frame(8)), Delivered::Nothing);
        assert_eq!(subscription.deliver(9, &frame(9)), Delivered::Send);
    }

    #[test]
    fn a_hole_in_live_delivery_is_read_from_the_store() {
        let mut subscription = Subscription::joining(1, None, Delivery::Unspecified, false);
        subscription.joined(&joined(5, 1));
        replay(&mut subscription, &mut Vec::new());
        assert_eq!(subscription.deliver(9, &frame(9)), Delivered::ReadFrom(6));
        subscription.read_hole(6, 9, &frame(9));
        let mut sent = Vec::new();
        replay(&mut subscription, &mut sent);
        assert_eq!(sent, [6, 7, 8, 9]);
    }
}
