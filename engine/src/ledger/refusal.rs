use std::time::Duration;

use veza_proto::v1::{Error, ErrorCode};

/// Why a write was refused. It harmed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No such room, or none the asker may know of.
    NoSuchRoom,
    /// The sentence names what is not there.
    NotFound(&'static str),
    Forbidden(&'static str),
    Invalid(&'static str),
    /// A bound of the room.
    Limit(&'static str),
    /// The cmid was used before with other content.
    CmidConflict,
    /// The idempotency key was used before for another request.
    KeyReused,
    /// The message was deleted.
    Gone,
    SlowMode {
        wait_ms: u64,
    },
    /// `None`: until it is lifted.
    Muted {
        wait_ms: Option<u64>,
    },
    Banned {
        wait_ms: Option<u64>,
    },
}

impl Refusal {
    /// As the person outside is told.
    pub fn to_error(&self) -> Error {
        match self {
            Refusal::NoSuchRoom => not_found(),
            Refusal::NotFound(sentence) => Error::permanent(ErrorCode::NotFound, *sentence),
            Refusal::Forbidden(sentence) => Error::permanent(ErrorCode::PermissionDenied, *sentence),
            Refusal::Invalid(sentence) => Error::permanent(ErrorCode::InvalidArgument, *sentence),
            Refusal::Limit(sentence) => Error::permanent(ErrorCode::Limit, *sentence),
            Refusal::CmidConflict => {
                Error::permanent(ErrorCode::CmidConflict, "this cmid was used before with other content")
            }
            Refusal::KeyReused => {
                Error::permanent(ErrorCode::CmidConflict, "this idempotency key was used before for another request")
            }
            Refusal::Gone => Error::permanent(ErrorCode::Gone, "this message was deleted"),
            Refusal::SlowMode { wait_ms } => {
                let message = format!("slow mode: you may write again in {}", spoken(*wait_ms));
                Error::temporary(ErrorCode::SlowMode, message, millis(*wait_ms))
            }
            Refusal::Muted { wait_ms } => sanctioned(ErrorCode::Muted, "you are muted in this room", *wait_ms),
            Refusal::Banned { wait_ms } => sanctioned(ErrorCode::Banned, "you are banned from this room", *wait_ms),
        }
    }
}

/// The one answer for a room that is not there and a room that is not the asker's.
pub fn not_found() -> Error {
    Error::permanent(ErrorCode::NotFound, "no such room, or you are not in it")
}

fn sanctioned(code: ErrorCode, what: &str, wait_ms: Option<u64>) -> Error {
    match wait_ms {
        Some(wait_ms) => Error::temporary(code, format!("{what} for {}", spoken(wait_ms)), millis(wait_ms)),
        None => Error::permanent(code, format!("{what} until a moderator lifts it")),
    }
}

fn millis(wait_ms: u64) -> u32 {
    u32::try_from(wait_ms).unwrap_or(u32::MAX).max(1)
}

/// The two largest units, rounded up to a second.
fn spoken(wait_ms: u64) -> String {
    let seconds = Duration::from_millis(wait_ms.saturating_add(999)).as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = units.iter().position(|(size, _)| seconds >= *size).unwrap_or(3);
    let (size, name) = units[first];
    let rest = units.get(first + 1).map(|(next, name)| (seconds % size / next, name)).filter(|(rest, _)| *rest > 0);
    match rest {
        Some((rest, smaller)) => format!("{} {name} {rest} {smaller}", seconds / size),
        None => format!("{} {name}", seconds / size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_spoken() {
        for (wait_ms, words) in [
            (1, "1 s"),
            (1_001, "2 s"),
            (60_000, "1 min"),
            (61_000, "1 min 1 s"),
            (3_600_000, "1 h"),
            (90_061_000, "1 d 1 h"),
        ] {
            assert_eq!(spoken(wait_ms), words);
        }
    }

    #[test]
    fn a_sanction_without_end_asks_nobody_to_retry() {
        let error = Refusal::Banned { wait_ms: None }.to_error();
        assert!(!error.temporary && error.code() == ErrorCode::Banned);
        let error = Refusal::Muted { wait_ms: Some(5_000) }.to_error();
        assert!(error.temporary && error.retry_after_ms == 5_000);
    }
}
