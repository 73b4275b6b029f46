//! From a room to its listeners' mailboxes, a slice at a time, so that a large room does not hold up a small one.
//!
//! Whoever listens when something is said gets it: a parcel keeps the list of that moment. In a room parcels are handed out
//! one after another, so every mailbox has them in order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use veza_engine::{SessionKey, retracted};
use veza_proto::{Encoded, RoomId};

use super::mailbox::{Delivery, Letter, Mailbox};

/// Mailboxes that are served before others get their turn. Each wakes a session, which then seals and sends.
pub(super) const SLICE: usize = 64;
/// Parcels that may wait in one room; past it they are handed out at once, and the rooms beside it wait.
const PARCELS_MAX: usize = 256;

/// Those who listened at one moment.
type List = Arc<[(SessionKey, Arc<Mailbox>)]>;

/// Who listens to a room here.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    mailboxes: HashMap<SessionKey, Arc<Mailbox>>,
    /// The same as a list, until they change.
    list: Option<List>,
    waiting: VecDeque<Parcel>,
}

/// What is handed to every listener.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Delivery(Delivery),
    Notice(RoomId, Encoded),
    Volatile { frame: Encoded, except: Option<SessionKey> },
}

#[derive(Debug)]
struct Parcel {
    content: Content,
    to: List,
    next: usize,
}

impl Listeners {
    /// Whether it listens from now on and did not before.
    pub(super) fn insert(&mut self, session: SessionKey, mailbox: Arc<Mailbox>) -> bool {
        self.list = None;
        self.mailboxes.insert(session, mailbox).is_none()
    }

    pub(super) fn remove(&mut self, session: SessionKey) -> Option<Arc<Mailbox>> {
        self.list = None;
        self.mailboxes.remove(&session)
    }

    pub(super) fn get(&self, session: SessionKey) -> Option<&Arc<Mailbox>> {
        self.mailboxes.get(&session)
    }

    pub(super) fn len(&self) -> usize {
        self.mailboxes.len()
    }

    /// Whether something waits to be handed out.
    pub(super) fn is_busy(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Hands something to every listener: at once in a small room, by [`Listeners::serve`] in a large one.
    pub(super) fn hand_out(&mut self, content: Content) {
        if let Content::Delivery(deletion) = &content {
            self.take_back(deletion);
        }
        let mailboxes = &self.mailboxes;
        let list = self.list.get_or_insert_with(|| {
            mailboxes.iter().map(|(session, mailbox)| (*session, Arc::clone(mailbox))).collect()
        });
        let to = Arc::clone(list);
        self.waiting.push_back(Parcel { content, to, next: 0 });
        while self.waiting.len() > PARCELS_MAX {
            self.serve(usize::MAX);
        }
        if self.waiting.len() == 1 && self.mailboxes.len() <= SLICE {
            self.serve(SLICE);
        }
    }

    /// What a deletion deletes and nobody was handed yet goes out without its content.
    fn take_back(&mut self, deletion: &Delivery) {
        let Some(target) = deletion.entry.retracts else { return };
        for parcel in &mut self.waiting {
            if let Content::Delivery(waiting) = &mut parcel.content
                && let Some(frame) = retracted(&waiting.entry.frame, target, &deletion.entry.frame)
            {
                waiting.entry.frame = frame;
            }
        }
    }

    /// Serves at most so many mailboxes of the parcel whose turn it is.
    pub(super) fn serve(&mut self, mailboxes: usize) {
        let Some(parcel) = self.waiting.front_mut() else { return };
        let end = parcel.next.saturating_add(mailboxes).min(parcel.to.len());
        for (session, mailbox) in &parcel.to[parcel.next..end] {
            match &parcel.content {
                Content::Delivery(delivery) => mailbox.deliver(delivery),
                Content::Notice(room, frame) => mailbox.whisper(Letter::Notice(room.clone(), frame.clone())),
                Content::Volatile { except, .. } if *except == Some(*session) => {}
                Content::Volatile { frame, .. } => mailbox.whisper(Letter::Volatile(frame.clone())),
            }
        }
        parcel.next = end;
        if end == parcel.to.len() {
            self.waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};
    use std::time::Instant;
    use veza_engine::room::Delivered;
    use veza_proto::v1::{Pong, reply};

    fn delivery(seq: u64) -> Content {
        let frame = Encoded::reply(0, reply::Result::Pong(Pong::default()));
        let entry = Delivered { epoch: 1, seq, frame, retracts: None };
        Content::Delivery(Delivery { room: RoomId::parse("lobby").unwrap(), entry, committed: Instant::now() })
    }

    fn heard(mailbox: &Mailbox) -> Vec<u64> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut seqs = Vec::new();
        while let Poll::Ready(Letter::Delivery(delivery)) = mailbox.poll_next(&mut cx) {
            seqs.push(delivery.entry.seq);
        }
        seqs
    }

    fn room(count: usize) -> (Listeners, Vec<Arc<Mailbox>>) {
        let mailboxes: Vec<Arc<Mailbox>> = (0..count).map(|_| Arc::default()).collect();
        let mut listeners = Listeners::default();
        for (at, mailbox) in mailboxes.iter().enumerate() {
            assert!(listeners.insert(SessionKey(at as u64), Arc::clone(mailbox)));
        }
        (listeners, mailboxes)
    }

    #[test]
    fn a_room_of_one_slice_is_served_at_once_and_one_more_waits_its_turn() {
        let (mut listeners, mailboxes) = room(SLICE);
        listeners.hand_out(delivery(1));
        assert!(!listeners.is_busy());
        assert!(mailboxes.iter().all(|mailbox| heard(mailbox) == [1]));

        let (mut listeners, mailboxes) = room(SLICE + 1);
        listeners.hand_out(delivery(1));
        assert!(mailboxes.iter().all(|mailbox| heard(mailbox).is_empty()));
        listeners.serve(SLICE);
        assert!(listeners.is_busy());
        listeners.serve(SLICE);
        assert!(!listeners.is_busy());
        assert!(mailboxes.iter().all(|mailbox| heard(mailbox) == [1]));
    }

    #[test]
    fn who_comes_and_goes_meanwhile_gets_what_was_said_while_there() {
        let (mut listeners, mailboxes) = room(SLICE + 1);
        listeners.hand_out(delivery(1));
        listeners.remove(SessionKey(0));
        let late: Arc<Mailbox> = Arc::default();
        listeners.insert(SessionKey(1_000), Arc::clone(&late));
        listeners.hand_out(delivery(2));
        while listeners.is_busy() {
            listeners.serve(7);
        }
        assert_eq!(heard(&late), [2]);
        assert_eq!(heard(&mailboxes[1]), [1, 2]);
        assert_eq!(heard(&mailboxes[0]), [1], "it was there; its session drops what it asked no more for");
    }

    #[test]
    fn the_bound_of_waiting_parcels_at_its_limit_and_one_past() {
        let (mut listeners, mailboxes) = room(SLICE + 1);
        for seq in 1..=PARCELS_MAX as u64 {
            listeners.hand_out(delivery(seq));
        }
        assert!(heard(&mailboxes[0]).is_empty());
        listeners.hand_out(delivery(PARCELS_MAX as u64 + 1));
        assert_eq!(heard(&mailboxes[0]), [1]);
        assert_eq!(listeners.waiting.len(), PARCELS_MAX);
    }
}
