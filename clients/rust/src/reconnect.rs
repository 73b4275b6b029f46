//! When to come back, and whether.

use std::time::Duration;

use veza_proto::CloseCode;
use veza_proto::v1::ErrorCode;

use crate::error::Error;

const BASE: Duration = Duration::from_millis(250);
const CAP: Duration = Duration::from_secs(20);

/// Full jitter: anything between nothing and a ceiling that doubles with every attempt, from 250 ms to 20 s.
///
/// `attempt` counts from 0; `chance` is uniform in 0 … 1.
pub fn backoff(attempt: u32, chance: f64) -> Duration {
    let ceiling = BASE.saturating_mul(1u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(CAP);
    ceiling.mul_f64(chance.clamp(0.0, 1.0))
}

/// What to do after a link that ended or could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Come back after the back-off, not before this.
    Retry { not_before: Duration },
    /// Come back only with another token than the last.
    NewToken,
    /// Do not come back.
    Stop { code: Option<CloseCode> },
}

/// Reads the table of close codes (docs/PROTOCOL.md) for an error of opening or of a running link.
pub fn after(error: &Error) -> Next {
    let at_once = Next::Retry { not_before: Duration::ZERO };
    match error {
        Error::Refused(refused) if refused.code() == ErrorCode::Unauthenticated => Next::NewToken,
        Error::Refused(refused) if refused.temporary => {
            Next::Retry { not_before: Duration::from_millis(refused.retry_after_ms.into()) }
        }
        Error::Refused(_) | Error::Closed => Next::Stop { code: None },
        Error::Ended(ended) => match ended.code {
            None => Next::Retry { not_before: ended.retry_after },
            Some(CloseCode::Unauthenticated) => Next::NewToken,
            Some(code) if code.may_retry() => Next::Retry { not_before: ended.retry_after },
            Some(code) => Next::Stop { code: Some(code) },
        },
        Error::Timeout(_) | Error::Unexpected | Error::Connect(_) | Error::Token(_) => at_once,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Ended;
    use veza_proto::v1;

    #[test]
    fn the_ceiling_doubles_up_to_its_cap() {
        let ceilings: Vec<_> = (0..9).map(|attempt| backoff(attempt, 1.0).as_millis()).collect();
        assert_eq!(ceilings, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000]);
        assert_eq!(backoff(u32::MAX, 1.0), CAP);
        assert_eq!(backoff(5, 0.0), Duration::ZERO);
        assert_eq!(backoff(0, 0.5), BASE / 2);
    }

    #[test]
    fn every_close_code_has_its_answer() {
        for code in CloseCode::ALL {
            let ended = Ended { code: Some(code), reason: String::new(), retry_after: Duration::from_secs(1) };
            let expected = match code.code() {
                4401 => Next::NewToken,
                4000 | 4500.. => Next::Stop { code: Some(code) },
                _ => Next::Retry { not_before: Duration::from_secs(1) },
            };
            assert_eq!(after(&Error::Ended(ended)), expected, "{code:?}");
        }
    }

    #[test]
    fn refusals_of_the_hello() {
        let refused = |error| after(&Error::Refused(error));
        assert_eq!(refused(v1::Error::permanent(ErrorCode::Unauthenticated, "")), Next::NewToken);
        assert_eq!(refused(v1::Error::permanent(ErrorCode::InvalidArgument, "")), Next::Stop { code: None });
        let busy = v1::Error::temporary(ErrorCode::Unavailable, "", 700);
        assert_eq!(refused(busy), Next::Retry { not_before: Duration::from_millis(700) });
    }

    #[test]
    fn a_lost_network_is_tried_again() {
        assert_eq!(after(&Error::Ended(Ended::lost("timed out"))), Next::Retry { not_before: Duration::ZERO });
    }
}
