//! Many sessions opened at a pace.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use veza_client::proto::v1::Hello;
use veza_client::{Connection, Endpoints, Error, Options, Pushes, Target};

use crate::report::{self, say};
use crate::schedule::Schedule;

/// What is to be opened.
pub(crate) struct Opening {
    pub(crate) endpoints: Endpoints,
    pub(crate) target: Target,
    /// One hello per session, with its token and how it connects.
    pub(crate) sessions: Vec<(String, Options)>,
    /// Handshakes begun a second; without it as fast as `at_once` allows.
    pub(crate) rate: Option<f64>,
    /// Handshakes under way at once.
    pub(crate) at_once: usize,
}

/// What was opened.
pub(crate) struct Crowd {
    /// In the order of the opening; `None` where it failed.
    pub(crate) sessions: Vec<Option<(Connection, Pushes)>>,
    /// From the first packet to the welcome, microseconds.
    pub(crate) handshakes: Histogram<u64>,
    /// Sentences and how often each was heard.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) took: Duration,
}

impl Opening {
    /// Opens all sessions and tells how it goes, once a second.
    pub(crate) async fn open(self, what: &str) -> Crowd {
        let count = self.sessions.len();
        let mut crowd = Crowd {
            sessions: std::iter::repeat_with(|| None).take(count).collect(),
            handshakes: report::histogram(),
            errors: BTreeMap::new(),
            took: Duration::ZERO,
        };
        let schedule = self.rate.map(Schedule::new);
        let started = Instant::now();
        let mut opening = JoinSet::new();
        let mut waiting = self.sessions.into_iter().enumerate();
        let mut begun = 0;
        let mut progress = tokio::time::interval(Duration::from_secs(1));
        while begun < count || !opening.is_empty() {
            let due = schedule.map_or(count as u64, |schedule| schedule.due(started.elapsed()));
            while (begun as u64) < due && opening.len() < self.at_once {
                let Some((at, (token, options))) = waiting.next() else { break };
                let (endpoints, target) = (self.endpoints.clone(), self.target.clone());
                opening.spawn(async move {
                    let begun = Instant::now();
                    let client = concat!("veza-loadtest/", env!("CARGO_PKG_VERSION")).to_owned();
                    let hello = Hello { token, client, ..Hello::default() };
                    (at, Connection::open(&endpoints, &target, hello, &options).await, begun.elapsed())
                });
                begun += 1;
            }
            let next_due = schedule
                .filter(|_| begun < count && opening.len() < self.at_once)
                .map(|schedule| schedule.intended(begun as u64).saturating_sub(started.elapsed()));
            tokio::select! {
                Some(opened) = opening.join_next() => crowd.take(opened),
                () = sleep(next_due) => {}
                _ = progress.tick() => {
                    let (open, failed) = (crowd.handshakes.len(), crowd.failed());
                    say(&format!("{what}: {open} of {count} open, {failed} failed"));
                }
            }
        }
        crowd.took = started.elapsed();
        crowd
    }
}

type Opened = (usize, Result<(Connection, Pushes), Error>, Duration);

impl Crowd {
    fn take(&mut self, opened: Result<Opened, tokio::task::JoinError>) {
        match opened {
            Ok((at, Ok(session), took)) => {
                report::record(&mut self.handshakes, took);
                self.sessions[at] = Some(session);
            }
            Ok((_, Err(error), _)) => *self.errors.entry(error.to_string()).or_default() += 1,
            Err(error) => *self.errors.entry(error.to_string()).or_default() += 1,
        }
    }

    pub(crate) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The errors in one line, the most frequent five.
    pub(crate) fn complaint(&self) -> Option<String> {
        let mut errors: Vec<_> = self.errors.iter().collect();
        errors.sort_by(|a, b| b.1.cmp(a.1));
        let told: Vec<_> = errors.iter().take(5).map(|(error, count)| format!("{count} × {error}")).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
