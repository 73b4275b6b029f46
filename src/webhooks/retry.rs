//! When what failed is tried again. Time and chance are parameters.

/// The longest wait after the first failure; it doubles with each.
const FIRST_WAIT_MS: u64 = 1_000;
/// The longest wait there is, also of those that a receiver asks for.
pub(super) const WAIT_MS_MAX: u64 = 300_000;

/// An event that was tried in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tried {
    /// How often, at least once.
    pub(super) times: u32,
    /// Since when it is being delivered, and when it failed last.
    pub(super) since_ms: u64,
    pub(super) now_ms: u64,
    /// How long the receiver wants to be left alone.
    pub(super) asked_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    AgainAt(u64),
    /// It becomes a dead letter: the next attempt would be later than it is tried at all.
    Aside,
}

/// Exponential back-off with full jitter: `chance`, from 0 to 1, of the longest wait; not less than what was asked for.
pub(super) fn next(tried: Tried, give_up_after_ms: u64, chance: f64) -> Next {
    let doubled = FIRST_WAIT_MS.saturating_mul(1 << tried.times.saturating_sub(1).min(32));
    let jittered = (doubled.min(WAIT_MS_MAX) as f64 * chance) as u64;
    let wait_ms = jittered.max(tried.asked_ms.unwrap_or(0)).min(WAIT_MS_MAX);
    let at_ms = tried.now_ms.saturating_add(wait_ms);
    if at_ms >= tried.since_ms.saturating_add(give_up_after_ms) { Next::Aside } else { Next::AgainAt(at_ms) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_760_000_000_000;
    const GIVE_UP: u64 = 1_800_000;

    fn wait(times: u32, asked_ms: Option<u64>, chance: f64) -> u64 {
        let tried = Tried { times, since_ms: NOW, now_ms: NOW, asked_ms };
        match next(tried, GIVE_UP, chance) {
            Next::AgainAt(at_ms) => at_ms - NOW,
            Next::Aside => panic!("it is not given up yet"),
        }
    }

    #[test]
    fn waits_double_until_they_are_the_longest() {
        let longest: Vec<u64> = (1..=12).map(|times| wait(times, None, 1.0)).collect();
        let wanted = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300].map(|seconds| seconds * 1_000);
        assert_eq!(longest, wanted);
        assert_eq!(wait(u32::MAX, None, 1.0), WAIT_MS_MAX);
    }

    #[test]
    fn chance_takes_any_part_of_the_wait() {
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|chance| wait(4, None, chance)), [0, 2_000, 4_000, 8_000]);
    }

    #[test]
    fn a_receiver_is_left_alone_for_as_long_as_it_asks_within_bounds() {
        assert_eq!(wait(1, Some(7_000), 0.5), 7_000);
        assert_eq!(wait(4, Some(1_000), 0.5), 4_000, "it may ask for more and not for less");
        assert_eq!(wait(1, Some(WAIT_MS_MAX), 0.5), WAIT_MS_MAX);
        assert_eq!(wait(1, Some(WAIT_MS_MAX + 1), 0.5), WAIT_MS_MAX);
        assert_eq!(wait(1, Some(u64::MAX), 0.5), WAIT_MS_MAX);
    }

    #[test]
    fn an_event_is_put_aside_when_its_time_is_over() {
        let at = |since_ms: u64, give_up_ms| {
            next(Tried { times: 1, since_ms, now_ms: NOW, asked_ms: Some(5_000) }, give_up_ms, 0.0)
        };
        assert_eq!(at(NOW - 4_999, 10_000), Next::AgainAt(NOW + 5_000));
        assert_eq!(at(NOW - 5_000, 10_000), Next::Aside);
        assert_eq!(at(NOW, 0), Next::Aside, "tried once");
        let never = Tried { times: 1, since_ms: NOW, now_ms: NOW, asked_ms: None };
        assert_eq!(next(never, 0, 0.0), Next::Aside);
        assert_eq!(next(Tried { now_ms: u64::MAX, ..never }, u64::MAX, 1.0), Next::Aside, "numbers end somewhere");
    }
}
