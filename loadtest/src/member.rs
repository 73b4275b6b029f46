//! One member of a room under load: it puts its room's messages in order, repairs holes, and remembers what it saw.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::watch;
use tokio::time::Instant;
use veza_client::proto::v1::client_frame::Command;
use veza_client::proto::v1::{Message, Repair, Repaired, push, reply};
use veza_client::room::{RoomLog, Step};
use veza_client::{Connection, Error, Pushes};

use crate::report;
use crate::schedule::Schedule;

/// A hole is repaired after this long, as the client library does.
const REPAIR_GRACE: Duration = Duration::from_millis(50);

/// What all members count together while the run goes on.
pub(crate) struct Tally {
    pub(crate) schedule: Schedule,
    pub(crate) started: Instant,
    /// Messages before this one are counted but not timed.
    pub(crate) timed_from: u64,
    pub(crate) delivered: AtomicU64,
    /// From the intended moment of publishing to a member that may show it, microseconds; by the part of the run. Of
    /// those who always read.
    pub(crate) times: Vec<Mutex<Histogram<u64>>>,
    /// Parts take turns, so many messages each.
    pub(crate) turn: u64,
}

impl Tally {
    /// What is counted from now on, in so many parts that take turns.
    pub(crate) fn new(schedule: Schedule, timed_from: u64, parts: usize, turn: u64) -> Self {
        let times = std::iter::repeat_with(|| Mutex::new(report::histogram())).take(parts).collect();
        Self { schedule, started: Instant::now(), timed_from, delivered: AtomicU64::new(0), times, turn: turn.max(1) }
    }

    /// The part of the run that a message belongs to.
    pub(crate) fn part(&self, number: u64) -> usize {
        usize::try_from(number / self.turn % self.times.len() as u64).unwrap_or_default()
    }

    fn record(&self, number: u64, timed: bool) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        if timed && number >= self.timed_from {
            let time = self.started.elapsed().saturating_sub(self.schedule.intended(number));
            report::record(&mut self.times[self.part(number)].lock().expect("no holder panics"), time);
        }
    }
}

pub(crate) struct Member {
    pub(crate) room: usize,
    pub(crate) connection: Connection,
    pub(crate) pushes: Pushes,
    pub(crate) log: RoomLog,
    pub(crate) tally: Arc<Tally>,
    /// The share of deliveries that is thrown away unread, as a bad network would.
    pub(crate) lose: f64,
    /// While this is true it reads nothing.
    pub(crate) paused: Option<watch::Receiver<bool>>,
    /// Whether it is one that stops: its own times are not among the others'.
    pub(crate) stops: bool,
}

/// What one member saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) room: usize,
    /// Numbers of messages, in any order.
    pub(crate) messages: BTreeSet<u64>,
    /// Messages shown a second time under another sequence number.
    pub(crate) twice: u64,
    /// Deliveries as they came, before duplicates were dropped.
    pub(crate) raw: u64,
    /// Of those, the ones thrown away on purpose.
    pub(crate) lost: u64,
    pub(crate) repairs: u64,
    pub(crate) lagging: u64,
    /// What went wrong, in a sentence.
    pub(crate) problem: Option<String>,
}

type Repairing = Pin<Box<dyn Future<Output = (Repair, Result<reply::Result, Error>)> + Send>>;

impl Member {
    /// Watches until told to stop, or until the link ends.
    pub(crate) async fn watch(mut self, mut stop: watch::Receiver<bool>) -> Seen {
        let mut seen = Seen { room: self.room, ..Seen::default() };
        let mut due: Option<Instant> = None;
        let mut repairing: Option<Repairing> = None;
        loop {
            tokio::select! {
                () = changed(&mut self.paused) => {}
                push = self.pushes.next(), if !is_paused(self.paused.as_ref()) => match push {
                    Ok(event) => {
                        let progress = self.take(event, &mut seen);
                        due = self.look(due, progress);
                    }
                    Err(ended) => {
                        seen.problem.get_or_insert(format!("a link ended: {ended}"));
                        return seen;
                    }
                },
                () = until(due), if repairing.is_none() => {
                    due = None;
                    repairing = self.repair(&mut seen);
                }
                (asked, answer) = answered(&mut repairing) => {
                    repairing = None;
                    self.repaired(&asked, answer, &mut seen);
                    due = self.log.missing().map(|_| Instant::now());
                }
                _ = stop.wait_for(|stop| *stop) => return seen,
            }
        }
    }

    /// Whether something came in order.
    fn take(&mut self, event: push::Event, seen: &mut Seen) -> bool {
        match event {
            push::Event::Message(delivered) => {
                seen.raw += 1;
                if self.lose > 0.0 && rand::random::<f64>() < self.lose {
                    seen.lost += 1;
                    return false;
                }
                let steps = delivered.message.map(|message| self.log.deliver(message)).unwrap_or_default();
                self.show(steps, seen)
            }
            push::Event::RoomHead(head) => {
                self.log.head(head.epoch, head.head);
                false
            }
            push::Event::RoomLagging(lagging) => {
                seen.lagging += 1;
                self.log.lagging(lagging.epoch, lagging.last_delivered);
                false
            }
            push::Event::Reconnect(drain) => {
                seen.problem.get_or_insert(format!("the server goes away: {}", drain.reason));
                false
            }
            push::Event::RoomResumed(_)
            | push::Event::PresenceChanged(_)
            | push::Event::TypingChanged(_)
            | push::Event::TokenExpiring(_)
            | push::Event::Closing(_)
            | push::Event::RoomEvicted(_)
            | push::Event::RoomChanged(_)
            | push::Event::ReceiptsChanged(_)
            | push::Event::StreamChanged(_)
            | push::Event::QualityChanged(_)
            | push::Event::IngestReport(_) => false,
        }
    }

    fn show(&mut self, steps: Vec<Step>, seen: &mut Seen) -> bool {
        let progress = !steps.is_empty();
        for step in steps {
            match step {
                Step::Message(message) => self.shown(&message, seen),
                Step::Hole(hole) => {
                    seen.problem.get_or_insert(format!("messages {} to {} never came", hole.from, hole.to));
                }
            }
        }
        progress
    }

    fn shown(&self, message: &Message, seen: &mut Seen) {
        let Some(number) = number_of(&message.body) else {
            seen.problem.get_or_insert("a message of somebody else".into());
            return;
        };
        if !seen.messages.insert(number) {
            seen.twice += 1;
        }
        self.tally.record(number, !self.stops);
    }

    fn look(&self, due: Option<Instant>, progress: bool) -> Option<Instant> {
        self.log.missing()?;
        match due {
            Some(due) if !progress => Some(due),
            Some(_) | None => Some(Instant::now() + REPAIR_GRACE),
        }
    }

    fn repair(&self, seen: &mut Seen) -> Option<Repairing> {
        let asked = self.log.missing()?;
        seen.repairs += 1;
        let connection = self.connection.clone();
        Some(Box::pin(async move {
            let answer = connection.command(Command::Repair(asked.clone())).await;
            (asked, answer)
        }))
    }

    fn repaired(&mut self, asked: &Repair, answer: Result<reply::Result, Error>, seen: &mut Seen) {
        let page: Repaired = match answer {
            Ok(reply::Result::Repaired(page)) => page,
            Ok(_) => return,
            Err(error) => {
                seen.problem.get_or_insert(format!("a repair failed: {error}"));
                return;
            }
        };
        let steps = self.log.repaired(asked, page);
        self.show(steps, seen);
    }
}

fn is_paused(paused: Option<&watch::Receiver<bool>>) -> bool {
    paused.is_some_and(|paused| *paused.borrow())
}

/// Waits until it is paused, or goes on.
async fn changed(paused: &mut Option<watch::Receiver<bool>>) {
    match paused {
        // Who can no longer be told to go on has been told already.
        Some(told) => {
            if told.changed().await.is_err() {
                *paused = None;
            }
        }
        None => std::future::pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn answered(repairing: &mut Option<Repairing>) -> (Repair, Result<reply::Result, Error>) {
    match repairing {
        Some(repairing) => repairing.await,
        None => std::future::pending().await,
    }
}

/// A message's body: its number, then filling up to a size.
pub(crate) fn body(number: u64, bytes: usize) -> String {
    let mut body = format!("{number} ");
    let filling = bytes.saturating_sub(body.len());
    body.extend(std::iter::repeat_n('.', filling));
    body
}

pub(crate) fn number_of(body: &str) -> Option<u64> {
    body.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_carries_its_number_at_any_size() {
        assert_eq!(body(17, 10), "17 .......");
        assert_eq!(body(17, 1), "17 ");
        assert_eq!(number_of(&body(u64::MAX, 100)), Some(u64::MAX));
        assert_eq!(number_of("hello"), None);
    }
}
