//! What a source client is told.

use veza_engine::session::{self, Refusal};
use veza_proto::v1::{Error, ErrorCode};

use super::request::Refused;
use crate::transport::admission;

/// A status with its sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) sentence: String,
    pub(super) retry_after_s: u32,
    /// The sentence is an object, for nobody's cache.
    is_json: bool,
}

impl Answer {
    pub(super) fn new(status: u16, sentence: impl Into<String>) -> Self {
        Self { status, sentence: sentence.into(), retry_after_s: 0, is_json: false }
    }

    pub(super) fn json(value: &serde_json::Value) -> Self {
        Self { is_json: true, ..Self::new(200, value.to_string()) }
    }

    pub(super) fn later(status: u16, sentence: impl Into<String>, retry_after_s: u32) -> Self {
        Self { retry_after_s, ..Self::new(status, sentence) }
    }

    /// As metrics say it.
    pub(super) fn label(&self) -> &'static str {
        match self.status {
            200 => "200",
            204 => "204",
            400 => "400",
            401 => "401",
            403 => "403",
            404 => "404",
            405 => "405",
            408 => "408",
            410 => "410",
            415 => "415",
            429 => "429",
            431 => "431",
            _ => "503",
        }
    }

    /// As bytes; the connection ends behind them, except behind the 200 that lets a source go on.
    pub(super) fn bytes(&self, is_modern: bool) -> Vec<u8> {
        let version = if is_modern { "HTTP/1.1" } else { "HTTP/1.0" };
        let Self { status, sentence, retry_after_s, is_json } = self;
        let mut head = format!("{version} {status} {}\r\nServer: veza\r\nConnection: close\r\n", self.reason());
        if *status == 401 {
            head.push_str("WWW-Authenticate: Basic realm=\"veza\", charset=\"UTF-8\"\r\n");
        }
        if matches!(status, 204 | 405) {
            head.push_str("Allow: OPTIONS, GET, PUT, SOURCE\r\n");
        }
        if *retry_after_s > 0 {
            head.push_str(&format!("Retry-After: {retry_after_s}\r\n"));
        }
        if *status == 204 {
            return format!("{head}\r\n").into_bytes();
        }
        let length = sentence.len() + 1;
        let kind = if *is_json { "application/json\r\nCache-Control: no-store" } else { "text/plain; charset=utf-8" };
        format!("{head}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{sentence}\n").into_bytes()
    }

    fn reason(&self) -> &'static str {
        match self.status {
            200 => "OK",
            204 => "No Content",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            410 => "Gone",
            415 => "Unsupported Media Type",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            _ => "Service Unavailable",
        }
    }
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Malformed(why) => Self::new(400, why),
            Refused::Method => Self::new(405, "this door takes PUT, SOURCE, GET and OPTIONS"),
            Refused::Path => Self::new(404, "there is nothing at this path"),
        }
    }
}

impl From<session::Refused> for Answer {
    fn from(refused: session::Refused) -> Self {
        let (status, retry_after_ms) = match refused.why {
            Refusal::Unauthenticated => (401, 0),
            Refusal::Denied => (403, 0),
            Refusal::TooManyConnections => (429, 5_000),
            Refusal::Deferred { retry_after_ms } => (429, retry_after_ms),
            Refusal::Overloaded => (503, 5_000),
            Refusal::Undecided { retry_after_ms } => (503, retry_after_ms),
        };
        Self::later(status, refused.message, retry_after_ms.div_ceil(1_000))
    }
}

impl From<admission::Refusal> for Answer {
    fn from(refusal: admission::Refusal) -> Self {
        let sentence = match refusal {
            admission::Refusal::Full => "the server has as many connections as it takes",
            admission::Refusal::Address => "this address has as many connections as it may",
            admission::Refusal::FailedLogins => "too many failed logins from this address: wait a minute",
            admission::Refusal::Draining => "the server goes away: come back",
            admission::Refusal::Shedding => "the server is short of memory",
        };
        Self::later(refusal.status().as_u16(), sentence, refusal.retry_after_s())
    }
}

impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        const STATUSES: [(ErrorCode, u16); 8] = [
            (ErrorCode::Unauthenticated, 401),
            (ErrorCode::PermissionDenied, 403),
            (ErrorCode::AlreadyExists, 403),
            (ErrorCode::Limit, 403),
            (ErrorCode::NotFound, 404),
            (ErrorCode::Gone, 410),
            (ErrorCode::InvalidArgument, 400),
            (ErrorCode::RateLimited, 429),
        ];
        let status = STATUSES.iter().find(|(code, _)| *code == error.code()).map_or(503, |(_, status)| *status);
        Self::later(status, error.message, error.retry_after_ms.div_ceil(1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_as_bytes() {
        let said = |answer: Answer| String::from_utf8(answer.bytes(false)).unwrap();
        let wrong = said(Answer::new(401, "no"));
        assert!(wrong.starts_with("HTTP/1.0 401 Unauthorized\r\n") && wrong.contains("WWW-Authenticate: Basic"));
        assert!(wrong.ends_with("Content-Length: 3\r\n\r\nno\n"), "{wrong}");
        assert!(said(Answer::later(503, "full", 5)).contains("Retry-After: 5\r\n"));
        assert!(said(Answer::new(405, "x")).contains("Allow: OPTIONS, GET, PUT, SOURCE\r\n"));
        assert_eq!(Answer::from(Error::permanent(ErrorCode::Gone, "over")), Answer::new(410, "over"));
        assert_eq!(Answer::from(Error::permanent(ErrorCode::Internal, "x")).status, 503);
        let deferred = session::Refused { why: Refusal::Deferred { retry_after_ms: 1_500 }, message: "wait".into() };
        assert_eq!(Answer::from(deferred), Answer::later(429, "wait", 2));
    }
}
