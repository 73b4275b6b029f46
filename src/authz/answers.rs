//! Answers that are still good, by their questions.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use prost::Message as _;
use tokio::time::Instant;
use veza_proto::gateway::v1::PublishRequest;

use super::{Decision, Question};

/// A question's digest: what is asked may be long, and there are many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// For a publish it counts whether there are attachments and mentions, and not how many, nor how long the body is:
    /// else no two questions would be the same.
    pub(super) fn of(question: &Question) -> Self {
        let (kind, bytes) = match question {
            Question::Connect(asked) => (b'c', asked.encode_to_vec()),
            Question::Join(asked) => (b'j', asked.encode_to_vec()),
            Question::Publish(asked) => {
                let alike = PublishRequest {
                    kind: 0,
                    body_bytes: 0,
                    attachments: asked.attachments.min(1),
                    mentions: asked.mentions.min(1),
                    ..asked.clone()
                };
                (b'p', alike.encode_to_vec())
            }
        };
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&[kind]);
        context.update(&bytes);
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        Self(key)
    }
}

/// A bounded number of answers; the oldest give way.
pub(super) struct Answers {
    entries_max: usize,
    keep_max: Duration,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    answers: HashMap<Key, (Decision, Instant)>,
    /// In the order they came, which is the order they leave in.
    order: VecDeque<Key>,
}

impl Answers {
    pub(super) fn new(entries_max: usize, keep_max: Duration) -> Self {
        Self { entries_max, keep_max, kept: Mutex::default() }
    }

    pub(super) fn find(&self, key: &Key, now: Instant) -> Option<Decision> {
        let kept = self.lock();
        let (decision, until) = kept.answers.get(key)?;
        (now < *until).then(|| decision.clone())
    }

    /// Keeps an answer as long as it says, and not longer than the configuration.
    pub(super) fn keep(&self, key: Key, decision: &Decision, keep: Duration, now: Instant) {
        let keep = keep.min(self.keep_max);
        if keep.is_zero() {
            return;
        }
        let mut kept = self.lock();
        if kept.answers.insert(key, (decision.clone(), now + keep)).is_none() {
            kept.order.push_back(key);
        }
        while kept.answers.len() > self.entries_max {
            let Some(oldest) = kept.order.pop_front() else { return };
            kept.answers.remove(&oldest);
        }
    }

    /// Every statement leaves the answers whole, so a panic elsewhere harms nothing behind the lock.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use veza_proto::gateway::v1::JoinRequest;

    use super::*;

    fn join(user: &str) -> Key {
        Key::of(&Question::Join(JoinRequest { user: user.into(), ..JoinRequest::default() }))
    }

    #[test]
    fn an_answer_is_good_as_long_as_it_says_and_as_long_as_is_allowed() {
        let answers = Answers::new(10, Duration::from_secs(60));
        let (now, yes) = (Instant::now(), Decision::allowed());
        let seconds = Duration::from_secs;
        for (who, says, good, over) in [("a", 10, 9, 10), ("b", 300, 59, 60)] {
            answers.keep(join(who), &yes, seconds(says), now);
            assert_eq!(answers.find(&join(who), now + seconds(good)), Some(yes.clone()));
            assert_eq!(answers.find(&join(who), now + seconds(over)), None);
        }
        answers.keep(join("c"), &yes, Duration::ZERO, now);
        assert_eq!(answers.find(&join("c"), now), None, "ask every time");
    }

    #[test]
    fn the_bound_at_its_limit_and_one_past() {
        let answers = Answers::new(3, Duration::from_secs(60));
        let now = Instant::now();
        let keep = |who: &str| answers.keep(join(who), &Decision::allowed(), Duration::from_secs(60), now);
        let has = |who: &str| answers.find(&join(who), now).is_some();
        for who in ["a", "b", "c"] {
            keep(who);
        }
        assert!(has("a") && has("b") && has("c"));
        keep("d");
        assert!(!has("a") && has("b") && has("c") && has("d"), "the oldest gave way");
        for n in 0..100 {
            keep(&n.to_string());
        }
        let kept = answers.lock();
        assert_eq!((kept.answers.len(), kept.order.len()), (3, 3));
    }

    #[test]
    fn questions_are_the_same_when_nothing_that_counts_differs() {
        let publish = |body_bytes, attachments, room: &str| {
            let (user, room) = ("alice".into(), room.into());
            Key::of(&Question::Publish(PublishRequest { user, room, body_bytes, attachments, ..Default::default() }))
        };
        assert_eq!(publish(3, 1, "lobby"), publish(4_000, 9, "lobby"));
        assert_ne!(publish(3, 0, "lobby"), publish(3, 1, "lobby"));
        assert_ne!(publish(3, 0, "lobby"), publish(3, 0, "porch"));
        let member = |member| Question::Join(JoinRequest { user: "alice".into(), member, ..JoinRequest::default() });
        assert_ne!(Key::of(&member(true)), Key::of(&member(false)));
    }
}
