//! What rooms and the node say to one session, until its task takes it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use veza_engine::room::Delivered;
use veza_engine::{Answer, Ticket, retracted};
use veza_proto::v1::RoomEvicted;
use veza_proto::{CloseCode, Encoded, RoomId};

/// Letters that may wait. Past it a message is replaced by [`Letter::Missed`] and volatile ones are dropped; answers
/// and orders always find room, for the asks of a session are bounded.
pub const LETTERS_MAX: usize = 1_024;

/// A session's inbox. Many write, one session reads.
#[derive(Debug, Default)]
pub struct Mailbox {
    state: Mutex<State>,
    /// Bytes the session has waiting to be sent: who is heaviest when memory runs out.
    weight: AtomicUsize,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    letters: VecDeque<Letter>,
    /// Rooms with a `Missed` among the letters.
    missed: Vec<RoomId>,
    reader: Option<Waker>,
}

#[derive(Debug)]
pub enum Letter {
    Answer(Box<(Ticket, Answer)>),
    Delivery(Box<Delivery>),
    /// At least one message of this room was dropped.
    Missed(RoomId),
    /// How a room is now.
    Notice(RoomId, Encoded),
    /// The session is in this room no more.
    Evicted(RoomId, Box<RoomEvicted>),
    Volatile(Encoded),
    /// A push that is of use later too, given up when the session reads slowly.
    Told(Encoded),
    Order(Box<Order>),
}

/// A committed entry on its way.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub room: RoomId,
    pub entry: Delivered,
    pub committed: Instant,
}

/// What the node wants of a session.
#[derive(Debug)]
pub enum Order {
    Close { code: CloseCode, reason: String },
    Drain { after: Duration },
}

impl State {
    /// What a deletion deletes and the session has not taken yet is let go without its content.
    fn take_back(&mut self, deletion: &Delivery, target: u64) {
        for letter in &mut self.letters {
            if let Letter::Delivery(waiting) = letter
                && waiting.room == deletion.room
                && let Some(frame) = retracted(&waiting.entry.frame, target, &deletion.entry.frame)
            {
                waiting.entry.frame = frame;
            }
        }
    }
}

impl Mailbox {
    pub fn answer(&self, ticket: Ticket, answer: Answer) {
        self.post(Letter::Answer(Box::new((ticket, answer))));
    }

    pub fn order(&self, order: Order) {
        self.post(Letter::Order(Box::new(order)));
    }

    /// The session is in the room no more: never dropped.
    pub fn evict(&self, room: &RoomId, evicted: RoomEvicted) {
        self.post(Letter::Evicted(room.clone(), Box::new(evicted)));
    }

    /// A room's message; when the box is full the room is marked missed, once.
    pub fn deliver(&self, delivery: &Delivery) {
        let mut state = self.lock();
        if let Some(target) = delivery.entry.retracts {
            state.take_back(delivery, target);
        }
        if state.letters.len() < LETTERS_MAX {
            state.letters.push_back(Letter::Delivery(Box::new(delivery.clone())));
        } else if !state.missed.contains(&delivery.room) {
            state.missed.push(delivery.room.clone());
            state.letters.push_back(Letter::Missed(delivery.room.clone()));
        }
        wake(state);
    }

    /// Something that is worth nothing later.
    pub fn whisper(&self, letter: Letter) {
        let mut state = self.lock();
        if state.letters.len() < LETTERS_MAX {
            state.letters.push_back(letter);
            wake(state);
        }
    }

    fn post(&self, letter: Letter) {
        let mut state = self.lock();
        state.letters.push_back(letter);
        wake(state);
    }

    /// The next letter; one reader at a time.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Letter> {
        let mut state = self.lock();
        let Some(letter) = state.letters.pop_front() else {
            if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
                state.reader = Some(cx.waker().clone());
            }
            state.letters = VecDeque::new();
            return Poll::Pending;
        };
        if let Letter::Missed(room) = &letter {
            state.missed.retain(|missed| missed != room);
        }
        Poll::Ready(letter)
    }

    /// The session has ended: nobody will read this any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.lock().letters = VecDeque::new();
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub fn set_weight(&self, bytes: usize) {
        self.weight.store(bytes, Ordering::Relaxed);
    }

    pub fn weight(&self) -> usize {
        self.weight.load(Ordering::Relaxed)
    }

    /// Every statement leaves the state whole, so a panic elsewhere harms nothing behind the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the reader after the lock is released.
fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use veza_proto::v1::{Deletion, Message, MessageDelivered, Pong, message::Change, push, reply};

    fn delivery(room: &str, seq: u64) -> Delivery {
        let frame = Encoded::reply(0, reply::Result::Pong(Pong::default()));
        let entry = Delivered { epoch: 1, seq, frame, retracts: None };
        Delivery { room: RoomId::parse(room).unwrap(), entry, committed: Instant::now() }
    }

    #[test]
    fn what_is_deleted_before_it_is_taken_is_taken_empty() {
        let said = |seq, change| {
            let message = Message { seq, body: "secret".into(), change, ..Message::default() };
            Encoded::push(push::Event::Message(MessageDelivered { message: Some(message) }))
        };
        let entry = |seq, frame, retracts| Delivery {
            room: RoomId::parse("lobby").unwrap(),
            entry: Delivered { epoch: 1, seq, frame, retracts },
            committed: Instant::now(),
        };
        let mailbox = Mailbox::default();
        mailbox.deliver(&entry(1, said(1, None), None));
        mailbox.deliver(&entry(2, said(2, None), None));
        let deletion = Some(Change::Deletion(Deletion { target: 1 }));
        mailbox.deliver(&entry(3, said(3, deletion), Some(1)));
        let mut cx = Context::from_waker(Waker::noop());
        let mut secrets = Vec::new();
        while let Poll::Ready(Letter::Delivery(taken)) = mailbox.poll_next(&mut cx) {
            secrets.push(format!("{:?}", taken.entry.frame).contains("body: \"secret\""));
        }
        assert_eq!(secrets, [false, true, true], "the deletion itself carries no body in truth");
    }

    #[test]
    fn the_bound_at_its_limit_and_one_past() {
        let mailbox = Mailbox::default();
        let mut cx = Context::from_waker(Waker::noop());
        for seq in 0..LETTERS_MAX as u64 {
            mailbox.deliver(&delivery("lobby", seq));
        }
        for seq in 0..3 {
            mailbox.deliver(&delivery("lobby", 5_000 + seq));
            mailbox.deliver(&delivery("other", seq));
        }
        mailbox.whisper(Letter::Volatile(delivery("lobby", 0).entry.frame));
        mailbox.order(Order::Drain { after: Duration::ZERO });
        let (mut delivered, mut missed, mut orders) = (0, Vec::new(), 0);
        while let Poll::Ready(letter) = mailbox.poll_next(&mut cx) {
            match letter {
                Letter::Delivery(_) => delivered += 1,
                Letter::Missed(room) => missed.push(room.as_str().to_owned()),
                Letter::Order(_) => orders += 1,
                Letter::Answer(_)
                | Letter::Notice(..)
                | Letter::Evicted(..)
                | Letter::Told(_)
                | Letter::Volatile(_) => {
                    panic!("{letter:?}")
                }
            }
        }
        assert_eq!((delivered, orders), (LETTERS_MAX, 1));
        assert_eq!(missed, ["lobby", "other"]);
        mailbox.deliver(&delivery("lobby", 9));
        assert!(matches!(mailbox.poll_next(&mut cx), Poll::Ready(Letter::Delivery(_))), "room again after reading");
    }
}
