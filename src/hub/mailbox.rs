//! What rooms and the node say to one session, until its task takes it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use veza_engine::{Answer, Ticket};
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
    Presence(RoomId, Encoded),
    Volatile(Encoded),
    Order(Box<Order>),
}

/// A committed message on its way.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub room: RoomId,
    pub epoch: u64,
    pub seq: u64,
    pub frame: Encoded,
    pub committed: Instant,
}

/// What the node wants of a session.
#[derive(Debug)]
pub enum Order {
    Close { code: CloseCode, reason: String },
    Drain { after: Duration },
}

impl Mailbox {
    pub fn answer(&self, ticket: Ticket, answer: Answer) {
        self.post(Letter::Answer(Box::new((ticket, answer))));
    }

    pub fn order(&self, order: Order) {
        self.post(Letter::Order(Box::new(order)));
    }

    /// A room's message; when the box is full the room is marked missed, once.
    pub fn deliver(&self, delivery: &Delivery) {
        let mut state = self.lock();
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
    use veza_proto::v1::{Pong, reply};

    fn delivery(room: &str, seq: u64) -> Delivery {
        let frame = Encoded::reply(0, reply::Result::Pong(Pong::default()));
        Delivery { room: RoomId::parse(room).unwrap(), epoch: 1, seq, frame, committed: Instant::now() }
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
        mailbox.whisper(Letter::Volatile(delivery("lobby", 0).frame));
        mailbox.order(Order::Drain { after: Duration::ZERO });
        let (mut delivered, mut missed, mut orders) = (0, Vec::new(), 0);
        while let Poll::Ready(letter) = mailbox.poll_next(&mut cx) {
            match letter {
                Letter::Delivery(_) => delivered += 1,
                Letter::Missed(room) => missed.push(room.as_str().to_owned()),
                Letter::Order(_) => orders += 1,
                Letter::Answer(_) | Letter::Presence(..) | Letter::Volatile(_) => panic!("{letter:?}"),
            }
        }
        assert_eq!((delivered, orders), (LETTERS_MAX, 1));
        assert_eq!(missed, ["lobby", "other"]);
        mailbox.deliver(&delivery("lobby", 9));
        assert!(matches!(mailbox.poll_next(&mut cx), Poll::Ready(Letter::Delivery(_))), "room again after reading");
    }
}
