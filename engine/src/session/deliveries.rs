//! What rooms and the store say to a session: answers, live messages, replays.

use veza_proto::v1::{
    Error, ErrorCode, GapReason, Message, MessageDelivered, Repaired, RoomEvicted, RoomHead, RoomJoined, RoomLagging,
    RoomLeft, Unsubscribed, Verdict, push, reply, room_resumed, verdict::Outcome,
};
use veza_proto::{CloseCode, Encoded, Lane, RoomId};

use super::subscription::{Advance, Delivered, State};
use super::{Datagram, Note, Output, Session};
use crate::Timestamp;
use crate::ask::{Anchor, Answer, Ask, Joined, Page, Purpose, Status, Ticket, View};
use crate::fit;
use crate::ledger::not_found;
use crate::limits;
use crate::retract::retracted;
use crate::room::Delivered as LiveEntry;

impl Session {
    /// The answer to an [`Output::Ask`].
    pub fn handle_answer(&mut self, ticket: Ticket, answer: Answer, now: Timestamp) {
        self.asks_in_flight = self.asks_in_flight.saturating_sub(1);
        if self.user().is_none() {
            return;
        }
        match (ticket.purpose.clone(), answer) {
            (Purpose::Replay { room, generation }, answer) => self.replayed(&room, generation, answer, now),
            // Gone from there, or asked anew, while this join was under way.
            (Purpose::Join { room, number }, answer) if !self.is_newest_join(&room, number) => {
                let error = self.outdated_join(&room, &answer, now);
                self.refuse(&ticket, error, now);
            }
            (Purpose::Resume { room, number }, answer) if !self.is_newest_join(&room, number) => {
                let error = self.outdated_join(&room, &answer, now);
                self.say_resumed(room.as_str().to_owned(), room_resumed::Result::Error(error), now);
            }
            (Purpose::Join { room, .. }, Answer::Joined(joined)) => {
                let joined = self.joined(&room, *joined, now);
                self.reply(&ticket, reply::Result::RoomJoined(joined), now);
                self.advance_replays(now);
            }
            (Purpose::Resume { room, .. }, Answer::Joined(joined)) => {
                let joined = self.joined(&room, *joined, now);
                self.say_resumed(room.as_str().to_owned(), room_resumed::Result::Joined(joined), now);
                self.advance_replays(now);
            }
            (Purpose::Resume { room, .. }, Answer::Refused(error)) => {
                self.say_resumed(room.as_str().to_owned(), room_resumed::Result::Error(error), now);
                self.forget(&room, now);
            }
            (Purpose::Join { room, .. }, Answer::Refused(error)) => {
                self.refuse(&ticket, error, now);
                if self.subscriptions.get(&room).is_some_and(|subscription| subscription.admitted) {
                    self.unlisten(&room, now);
                }
                self.forget(&room, now);
            }
            (_, Answer::Refused(error)) => self.refuse(&ticket, error, now),
            // Who is in the room no more is shown nothing of it, though it was read before.
            (Purpose::History { room, .. } | Purpose::Repair { room, .. }, Answer::Page(_))
                if !self.subscriptions.contains_key(&room) =>
            {
                self.refuse(&ticket, not_found(), now);
            }
            (Purpose::History { anchor, .. }, Answer::Page(page)) => {
                self.reply(&ticket, reply::Result::HistoryPage(page.into_history(anchor, self.profile.format)), now);
            }
            (Purpose::Repair { epoch, after, up_to, .. }, Answer::Page(page)) => {
                self.repaired(&ticket, epoch, after, up_to, *page, now);
            }
            (Purpose::Forget, Answer::Unsubscribed) => {}
            (Purpose::Leave { room }, Answer::Left) => {
                self.forget_unless_joining(&room, now);
                self.reply(&ticket, reply::Result::RoomLeft(RoomLeft { room: room.as_str().to_owned() }), now);
            }
            (Purpose::Unsubscribe { room }, Answer::Unsubscribed) => {
                let unsubscribed = Unsubscribed { room: room.as_str().to_owned() };
                self.reply(&ticket, reply::Result::Unsubscribed(unsubscribed), now);
            }
            (Purpose::Search { everywhere }, Answer::Reply(mut result)) => {
                if let reply::Result::SearchResult(found) = &mut *result {
                    fit::cut_search(found, everywhere, self.profile.format);
                }
                self.reply(&ticket, *result, now);
            }
            (Purpose::Command, Answer::Reply(mut result)) => {
                fit::cut(&mut result, self.profile.format);
                self.reply(&ticket, *result, now);
            }
            (Purpose::Command, Answer::Published(published)) => {
                self.reply(&ticket, reply::Result::Published(published), now);
            }
            (purpose, answer) => unreachable!("{answer:?} answers no {purpose:?}"),
        }
    }

    fn is_newest_join(&self, room: &RoomId, number: u32) -> bool {
        self.subscriptions.get(room).is_some_and(|subscription| subscription.join == number)
    }

    /// What is said to a join whose answer counts no more. A room that let the session in although it is gone from there
    /// is told so.
    fn outdated_join(&mut self, room: &RoomId, answer: &Answer, now: Timestamp) -> Error {
        if self.subscriptions.contains_key(room) {
            return Error::permanent(ErrorCode::OutOfOrder, "this room was joined again: the newest answer counts");
        }
        if matches!(answer, Answer::Joined(_)) {
            self.unlisten(room, now);
        }
        not_found()
    }

    /// The room is this session's no more.
    pub fn handle_evicted(&mut self, room: &RoomId, evicted: RoomEvicted, now: Timestamp) {
        if self.subscriptions.contains_key(room) {
            self.forget(room, now);
            self.push(Lane::Control, push::Event::RoomEvicted(evicted), now);
        }
    }

    /// A live entry of a room.
    pub fn handle_delivery(&mut self, room: &RoomId, delivered: &LiveEntry, now: Timestamp) {
        let LiveEntry { epoch, seq, frame, retracts } = delivered;
        let (epoch, seq) = (*epoch, *seq);
        let Some(subscription) = self.subscriptions.get_mut(room) else { return };
        if let Some(target) = *retracts {
            subscription.change_held(|held| retracted(held, target, frame));
            self.lanes.change_room(room, |waiting| retracted(waiting, target, frame));
        }
        if subscription.epoch != epoch && !matches!(subscription.state, State::Joining { .. }) {
            return;
        }
        match subscription.deliver(seq, frame) {
            Delivered::Nothing => {}
            Delivered::Send => self.send_live(room, seq, frame.clone(), now),
            Delivered::ReadFrom(next) => {
                subscription.read_hole(next, seq, frame);
                self.advance_replays(now);
            }
        }
    }

    /// Deliveries of this room were dropped before they reached the session.
    pub fn handle_missed(&mut self, room: &RoomId, now: Timestamp) {
        if self.subscriptions.contains_key(room) {
            let first = self.lanes.drop_room(room);
            self.mark_lagging(room, first, now);
        }
    }

    /// A push that is worth nothing later: by datagram where the link has them.
    pub fn handle_volatile(&mut self, frame: &Encoded) {
        if self.user().is_some() {
            self.outputs.push_back(Output::Datagram(Datagram { frame: frame.clone(), message: None }));
        }
    }

    /// How the room is now (who is here, settings, receipts): by stream, since the client keeps it, but given up when the
    /// client reads slowly.
    pub fn handle_notice(&mut self, room: &RoomId, frame: &Encoded, now: Timestamp) {
        if self.subscriptions.contains_key(room) && self.lanes.bytes() < limits::QUEUE_BYTES_VOLATILE {
            self.lanes.push(Lane::Control, frame.clone(), now);
        }
    }

    /// A push about something that the client follows, as [`Session::handle_notice`] is about a room.
    pub fn handle_told(&mut self, frame: &Encoded, now: Timestamp) {
        if self.user().is_some() && self.lanes.bytes() < limits::QUEUE_BYTES_VOLATILE {
            self.lanes.push(Lane::Control, frame.clone(), now);
        }
    }

    /// A datagram could not be sent: a message goes by stream instead.
    pub fn handle_datagram_unsent(&mut self, datagram: Datagram, now: Timestamp) {
        if let Some((room, seq)) = datagram.message {
            self.lanes.push_delivery(&room, seq, datagram.frame, now);
            self.relieve(now);
        }
    }

    fn joined(&mut self, room: &RoomId, joined: Joined, now: Timestamp) -> RoomJoined {
        if self.status != Status::default() {
            self.tell(Ask::Status { room: room.clone(), status: self.status.clone() }, now);
        }
        let verdict = match self.subscriptions.get_mut(room) {
            Some(subscription) => {
                let waiting = std::mem::take(&mut subscription.waiting);
                let asks = waiting.into_iter().map(|(ticket, ask)| Output::Ask { ticket, ask });
                self.outputs.extend(asks);
                subscription.joined(&joined)
            }
            None => unreachable!("who is gone from a room is not told of it"),
        };
        self.note(Note::Verdict(label(&verdict)));
        RoomJoined {
            room: Some(joined.room),
            verdict: Some(verdict),
            present: joined.present,
            present_total: joined.present_total,
            statuses: joined.statuses,
            receipts: joined.receipts,
        }
    }

    fn send_live(&mut self, room: &RoomId, seq: u64, frame: Encoded, now: Timestamp) {
        let fast = self.subscriptions.get(room).is_some_and(|subscription| subscription.fast);
        if fast && frame.datagram().is_some() {
            if let Some(subscription) = self.subscriptions.get_mut(room) {
                subscription.head_due = true;
            }
            self.heads_due.get_or_insert(now + limits::FAST_HEAD_DELAY);
            let message = Some((room.clone(), seq));
            self.outputs.push_back(Output::Datagram(Datagram { frame, message }));
            return;
        }
        self.lanes.push_delivery(room, seq, frame, now);
        self.relieve(now);
    }

    /// Says on the stream how far each room's fast deliveries went, so that a lost last one is noticed.
    pub(super) fn say_heads(&mut self, now: Timestamp) {
        self.heads_due = None;
        let mut heads = Vec::new();
        for (room, subscription) in &mut self.subscriptions {
            if let (true, State::Live { next }) = (subscription.head_due, &subscription.state) {
                heads.push(RoomHead { room: room.as_str().to_owned(), epoch: subscription.epoch, head: next - 1 });
            }
            subscription.head_due = false;
        }
        for head in heads {
            self.push(Lane::Chat, push::Event::RoomHead(head), now);
        }
    }

    /// Drives every replay as far as the lanes have room.
    pub(super) fn advance_replays(&mut self, now: Timestamp) {
        let replaying = |state: &State| matches!(state, State::Replaying { reading: false, .. });
        while self.lanes.bytes() < limits::REPLAY_QUEUE_BYTES {
            let Some((room, subscription)) = self.subscriptions.iter_mut().find(|(_, s)| replaying(&s.state)) else {
                return;
            };
            let room = room.clone();
            let generation = subscription.generation;
            match subscription.advance() {
                Advance::Nothing => return,
                Advance::Read { after, limit } => {
                    let purpose = Purpose::Replay { room: room.clone(), generation };
                    let ticket = Ticket { lane: Lane::Chat, id: 0, purpose, since: now };
                    let anchor = Anchor::After(after);
                    self.ask(ticket, Ask::Read { room, view: View::Everything, anchor, limit });
                }
                Advance::Open(frames) => {
                    for (seq, frame) in frames {
                        self.lanes.push_delivery(&room, seq, frame, now);
                    }
                    self.relieve(now);
                }
            }
        }
    }

    /// A page of a replay came from the store.
    fn replayed(&mut self, room: &RoomId, generation: u32, answer: Answer, now: Timestamp) {
        let Some(subscription) = self.subscriptions.get_mut(room) else { return };
        let State::Replaying { next, up_to, reading, .. } = &mut subscription.state else { return };
        if subscription.generation != generation {
            return;
        }
        *reading = false;
        let mut sent = 0;
        if let Answer::Page(page) = answer
            && page.epoch == subscription.epoch
        {
            for message in page.messages {
                // Long messages may pass the bound before the page ends; the rest is read again when there is room.
                if message.seq != *next || message.seq > *up_to || self.lanes.bytes() >= limits::REPLAY_QUEUE_BYTES {
                    break;
                }
                *next += 1;
                sent += 1;
                self.lanes.push_delivery(room, message.seq, delivered(message), now);
            }
        }
        if sent == 0 && self.lanes.bytes() < limits::REPLAY_QUEUE_BYTES {
            // The store does not answer, or the history was cut away meanwhile: the client comes back by cursor.
            self.mark_lagging(room, None, now);
            return;
        }
        self.note(Note::Replayed(sent));
        self.relieve(now);
        self.advance_replays(now);
    }

    fn repaired(&mut self, ticket: &Ticket, epoch: u64, after: u64, up_to: u64, mut page: Page, now: Timestamp) {
        if epoch != page.epoch {
            let message = format!("the room is in epoch {}, not {epoch}: join it again", page.epoch);
            self.refuse(ticket, Error::permanent(ErrorCode::InvalidArgument, message), now);
            return;
        }
        page.messages.retain(|message| message.seq <= up_to);
        page.cut(Anchor::After(after), self.profile.format);
        let held = page.messages.last().map_or(after.min(page.head), |message| message.seq);
        let dropped = self.subscriptions.get_mut(&page.room).and_then(|subscription| subscription.repaired(held));
        // What was committed after the page was read and dropped meanwhile shows in the head, so the client asks again.
        let head = page.head.max(dropped.unwrap_or(0));
        let repaired = Repaired { room: page.room.as_str().to_owned(), epoch, messages: page.messages, head };
        self.reply(ticket, reply::Result::Repaired(repaired), now);
    }

    /// Brings the lanes back under their bounds: rooms lag one after another, at last the link closes.
    pub(super) fn relieve(&mut self, now: Timestamp) {
        while self.lanes.over(now) {
            let Some((room, first)) = self.lanes.drop_heaviest_room() else {
                self.close(CloseCode::SlowConsumer, "this client reads too slowly", now);
                return;
            };
            self.mark_lagging(&room, Some(first), now);
        }
    }

    fn mark_lagging(&mut self, room: &RoomId, first_dropped: Option<u64>, now: Timestamp) {
        let Some(subscription) = self.subscriptions.get_mut(room) else { return };
        let epoch = subscription.epoch;
        let already = matches!(subscription.state, State::Lagging { .. });
        let last_delivered = subscription.lag(first_dropped);
        if already {
            return;
        }
        self.note(Note::Lagging);
        let lagging = RoomLagging { room: room.as_str().to_owned(), epoch, last_delivered };
        self.push(Lane::Control, push::Event::RoomLagging(lagging), now);
    }
}

fn delivered(message: Message) -> Encoded {
    Encoded::push(push::Event::Message(MessageDelivered { message: Some(message) }))
}

fn label(verdict: &Verdict) -> &'static str {
    match &verdict.outcome {
        Some(Outcome::Recovered(_)) => "recovered",
        Some(Outcome::Live(_)) | None => "live",
        Some(Outcome::Gap(gap)) => match gap.reason() {
            GapReason::HistoryExpired => "gap_history_expired",
            GapReason::EpochChanged => "gap_epoch_changed",
            GapReason::CursorAhead => "gap_cursor_ahead",
            GapReason::TooFarBehind => "gap_too_far_behind",
            GapReason::Unspecified => "gap",
        },
    }
}
