//! Who is let in, and why somebody is not.

use veza_proto::v1::{Error, ErrorCode};
use veza_proto::{CloseCode, UserId};

use crate::Timestamp;

/// What a hello brings for its check.
#[derive(Debug, Clone)]
pub struct Admit {
    pub token: String,
    pub resume_token: String,
    pub client: String,
}

/// Who was admitted.
#[derive(Debug, Clone)]
pub struct Admitted {
    pub user: UserId,
    pub session_id: String,
    pub resume_token: String,
    pub resumed: bool,
    pub token_expires: Timestamp,
}

/// Why nobody was admitted.
#[derive(Debug, Clone)]
pub struct Refused {
    pub why: Refusal,
    /// A sentence for the person outside.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Unauthenticated,
    TooManyConnections,
    Overloaded,
    /// Known, and not let in.
    Denied,
    /// Known, and let in after this long, perhaps.
    Deferred {
        retry_after_ms: u32,
    },
    /// Who has to say it does not answer.
    Undecided {
        retry_after_ms: u32,
    },
}

impl Refused {
    pub(super) fn error(&self) -> Error {
        let message = self.message.clone();
        match self.why {
            Refusal::Unauthenticated => Error::permanent(ErrorCode::Unauthenticated, message),
            Refusal::TooManyConnections => Error::permanent(ErrorCode::Limit, message),
            Refusal::Overloaded => Error::permanent(ErrorCode::Unavailable, message),
            Refusal::Denied => Error::permanent(ErrorCode::PermissionDenied, message),
            Refusal::Deferred { retry_after_ms } => {
                Error::temporary(ErrorCode::PermissionDenied, message, retry_after_ms)
            }
            Refusal::Undecided { retry_after_ms } => Error::temporary(ErrorCode::Unavailable, message, retry_after_ms),
        }
    }
}

impl Refusal {
    pub(super) fn close_code(self) -> CloseCode {
        match self {
            Refusal::Unauthenticated => CloseCode::Unauthenticated,
            Refusal::TooManyConnections => CloseCode::TooManyConnections,
            Refusal::Overloaded | Refusal::Deferred { .. } | Refusal::Undecided { .. } => CloseCode::Overloaded,
            Refusal::Denied => CloseCode::Revoked,
        }
    }
}
