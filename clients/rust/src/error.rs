use std::time::Duration;

use veza_proto::CloseCode;
use veza_proto::v1::{self, ErrorCode};

use crate::Transport;

/// Why something asked of the server did not come.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The server understood and refused. [`v1::Error`] says whether waiting helps.
    #[error("{} ({})", .0.message, code_name(.0))]
    Refused(v1::Error),
    /// The link ended before the answer came. The command may or may not have had its effect.
    #[error("the link ended: {0}")]
    Ended(Ended),
    /// No answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The answer is of another kind than the question.
    #[error("the server answered something else than was asked")]
    Unexpected,
    /// No link could be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No token to say hello with.
    #[error("no token: {0}")]
    Token(String),
    /// This client was closed, by its owner or for good by the server.
    #[error("the client is closed")]
    Closed,
}

impl Error {
    /// The server's refusal, or the other error again.
    pub(crate) fn refusal(self) -> Result<v1::Error, Error> {
        match self {
            Error::Refused(refused) => Ok(refused),
            Error::Ended(_)
            | Error::Timeout(_)
            | Error::Unexpected
            | Error::Connect(_)
            | Error::Token(_)
            | Error::Closed => Err(self),
        }
    }

    /// Whether the server refused with this code.
    pub fn is(&self, code: ErrorCode) -> bool {
        match self {
            Error::Refused(error) => error.code() == code,
            Error::Ended(_)
            | Error::Timeout(_)
            | Error::Unexpected
            | Error::Connect(_)
            | Error::Token(_)
            | Error::Closed => false,
        }
    }
}

/// Whether the same command may be sent again by itself. What a room says of a person (too soon, muted, banned) may end
/// one day too, but whether to say it then is the person's to decide.
pub(crate) fn passes_by_itself(refused: &v1::Error) -> bool {
    let personal = matches!(refused.code(), ErrorCode::SlowMode | ErrorCode::Muted | ErrorCode::Banned);
    refused.temporary && !personal
}

fn code_name(error: &v1::Error) -> &'static str {
    error.code().as_str_name().trim_start_matches("ERROR_CODE_")
}

/// How a link ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The code the server closed with; `None` when the network lost the link or the client left.
    pub code: Option<CloseCode>,
    /// For people; a server's sentence or a transport's error.
    pub reason: String,
    /// The server asks to wait this long before coming back.
    pub retry_after: Duration,
}

impl Ended {
    pub(crate) fn lost(why: impl Into<String>) -> Self {
        Self { code: None, reason: why.into(), retry_after: Duration::ZERO }
    }

    pub(crate) fn closed(code: u64, reason: &[u8]) -> Self {
        let known = u16::try_from(code).ok().and_then(CloseCode::from_code);
        let said = String::from_utf8_lossy(reason);
        match known {
            Some(known) => Self { code: Some(known), reason: said.into_owned(), retry_after: Duration::ZERO },
            None => Self::lost(format!("closed with {code}: {said}")),
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.code {
            Some(code) => write!(f, "{} ({}): {}", code.code(), code.label(), self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// Why no link could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", transport.label())]
pub struct ConnectError {
    /// What was tried, the last of several.
    pub transport: Transport,
    pub why: String,
}

impl ConnectError {
    pub(crate) fn new(transport: Transport, why: impl ToString) -> Self {
        Self { transport, why: why.to_string() }
    }
}
