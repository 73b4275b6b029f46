//! Leaves somebody alone who does not answer: after some failures in a row nobody asks for a while, then one does.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use crate::telemetry::metrics;

/// Failures in a row after which nobody asks.
const FAILURES_MAX: u32 = 5;
/// For how long, the first time; twice as long after every attempt that failed too.
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Nobody asks before this, and then one.
    resting: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    span: Duration,
    probing: bool,
}

/// A question that is out. Dropping it says nothing about who was asked.
pub(super) struct Attempt<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    /// Whether nobody may ask now.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.lock().resting.as_ref().is_some_and(|rest| now < rest.until || rest.probing)
    }

    /// Takes the right to ask, if there is one.
    pub(super) fn attempt(&self, now: Instant) -> Option<Attempt<'_>> {
        let mut state = self.lock();
        let probe = match &mut state.resting {
            None => false,
            Some(rest) if now < rest.until || rest.probing => return None,
            Some(rest) => {
                rest.probing = true;
                true
            }
        };
        Some(Attempt { breaker: self, probe })
    }

    /// Every statement leaves the state whole, so a panic elsewhere harms nothing behind the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt<'_> {
    pub(super) fn succeeded(self) {
        let mut state = self.breaker.lock();
        state.failures = 0;
        if self.probe && state.resting.take().is_some() {
            metrics::authz_down().set(0.0);
            tracing::info!("the platform answers again and is asked as before");
        }
    }

    pub(super) fn failed(self, now: Instant, code: Code) {
        let mut state = self.breaker.lock();
        state.failures = state.failures.saturating_add(1);
        let span = match &state.resting {
            Some(rest) if self.probe => (rest.span * 2).min(REST_MAX),
            // It was left alone while this question was out.
            Some(_) => return,
            None if state.failures < FAILURES_MAX => return,
            None => {
                metrics::authz_down().set(1.0);
                tracing::error!(
                    ?code,
                    "the platform does not answer whether things are allowed and is left alone for a while"
                );
                REST_MIN
            }
        };
        state.resting = Some(Rest { until: now + span, span, probing: false });
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.probe
            && let Some(rest) = &mut self.breaker.lock().resting
        {
            rest.probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker, now: Instant) {
        breaker.attempt(now).expect("somebody may ask").failed(now, Code::Unavailable);
    }

    #[test]
    fn failures_in_a_row_at_their_limit_and_one_below() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 1..FAILURES_MAX {
            fail(&breaker, now);
        }
        assert!(!breaker.is_open(now));
        breaker.attempt(now).unwrap().succeeded();
        for _ in 1..FAILURES_MAX {
            fail(&breaker, now);
        }
        assert!(!breaker.is_open(now), "an answer in between begins the count anew");
        fail(&breaker, now);
        assert!(breaker.is_open(now) && breaker.attempt(now).is_none());
    }

    #[test]
    fn one_asks_after_a_rest_and_the_rest_grows() {
        let (breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES_MAX {
            fail(&breaker, now);
        }
        for rest in [1, 2, 4, 8, 16, 30, 30] {
            let rest = Duration::from_secs(rest);
            assert!(breaker.is_open(now + rest - Duration::from_millis(1)));
            now += rest;
            let probe = breaker.attempt(now).expect("one may ask");
            assert!(breaker.is_open(now) && breaker.attempt(now).is_none(), "and only one");
            probe.failed(now, Code::Unavailable);
        }
        now += REST_MAX;
        drop(breaker.attempt(now).expect("one may ask"));
        breaker.attempt(now).expect("who gave up is no answer").succeeded();
        assert!(!breaker.is_open(now) && breaker.attempt(now).is_some());
    }
}
