//! Refusals as gRPC says them: a code, a sentence, and details that programs read.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use veza_proto::gateway::ERROR_DOMAIN;
use veza_proto::gateway::v1::Reason;
use veza_proto::v1::{Error, ErrorCode};

/// A refusal of the rooms, as sessions are told it.
pub(super) fn refused(error: &Error) -> Status {
    let code = match error.code() {
        ErrorCode::Malformed | ErrorCode::InvalidArgument | ErrorCode::OutOfOrder | ErrorCode::WrongLane => {
            Code::InvalidArgument
        }
        ErrorCode::Unauthenticated => Code::Unauthenticated,
        ErrorCode::PermissionDenied | ErrorCode::Muted | ErrorCode::Banned => Code::PermissionDenied,
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::AlreadyExists | ErrorCode::CmidConflict => Code::AlreadyExists,
        ErrorCode::TooLarge | ErrorCode::Limit | ErrorCode::RateLimited | ErrorCode::SlowMode => {
            Code::ResourceExhausted
        }
        ErrorCode::Unavailable | ErrorCode::StorageFull => Code::Unavailable,
        ErrorCode::Gone => Code::FailedPrecondition,
        ErrorCode::Internal | ErrorCode::Unspecified => Code::Internal,
    };
    let mut details = info(error.code().as_str_name().trim_start_matches("ERROR_CODE_"), HashMap::new());
    if error.temporary {
        details.set_retry_info(Some(Duration::from_millis(u64::from(error.retry_after_ms))));
    }
    Status::with_error_details(code, error.message.clone(), details)
}

/// As [`refused`], of a call whose idempotency key is none of a message.
pub(super) fn refused_once(error: &Error) -> Status {
    if error.code() == ErrorCode::CmidConflict {
        return because(Code::AlreadyExists, Reason::IdempotencyKeyReused, error.message.clone());
    }
    refused(error)
}

/// A refusal of this API itself.
pub(super) fn because(code: Code, reason: Reason, message: impl Into<String>) -> Status {
    Status::with_error_details(code, message, info(name(reason), HashMap::new()))
}

/// As [`because`], with what a program needs to know beside the reason.
pub(super) fn because_of(
    code: Code,
    reason: Reason,
    message: impl Into<String>,
    metadata: HashMap<String, String>,
) -> Status {
    Status::with_error_details(code, message, info(name(reason), metadata))
}

/// As [`because`], worth another try after a while.
pub(super) fn later(code: Code, reason: Reason, message: impl Into<String>, wait: Duration) -> Status {
    let mut details = info(name(reason), HashMap::new());
    details.set_retry_info(Some(wait));
    Status::with_error_details(code, message, details)
}

/// The service may not do this.
pub(super) fn scope_missing(scopes: &[&str]) -> Status {
    let metadata = HashMap::from([("scope".to_owned(), scopes.join(" "))]);
    let message = format!("this service needs the scope {}", scopes.join(" or "));
    Status::with_error_details(Code::PermissionDenied, message, info(name(Reason::ScopeMissing), metadata))
}

/// A field holds what it may not; the sentence says what it may.
pub(super) fn bad_field(field: &str, why: impl Into<String>) -> Status {
    let why = why.into();
    let mut details = info("INVALID_ARGUMENT", HashMap::new());
    details.add_bad_request_violation(field, why.clone());
    Status::with_error_details(Code::InvalidArgument, why, details)
}

/// The parts of a bad field's status, for one that a check of the engine found.
pub(super) fn at_field(field: &str, error: &Error) -> Status {
    let code = if error.code() == ErrorCode::TooLarge { Code::ResourceExhausted } else { Code::InvalidArgument };
    let mut details = info(error.code().as_str_name().trim_start_matches("ERROR_CODE_"), HashMap::new());
    details.add_bad_request_violation(field, error.message.clone());
    Status::with_error_details(code, error.message.clone(), details)
}

fn info(reason: &str, metadata: HashMap<String, String>) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, ERROR_DOMAIN, metadata)
}

fn name(reason: Reason) -> &'static str {
    reason.as_str_name().trim_start_matches("REASON_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_a_session_has_one_of_grpc_and_its_own_name_as_reason() {
        let codes = (1..).map_while(|number| ErrorCode::try_from(number).ok());
        for code in codes {
            let status = refused(&Error::permanent(code, "no"));
            let info = status.get_details_error_info().unwrap();
            assert_eq!(format!("ERROR_CODE_{}", info.reason), code.as_str_name());
            assert_eq!(info.domain, "veza");
            assert!(![Code::Ok, Code::Unknown].contains(&status.code()), "{code:?}");
            assert!(status.get_details_retry_info().is_none());
        }
    }

    #[test]
    fn what_may_succeed_later_says_when() {
        let slow = Error::temporary(ErrorCode::SlowMode, "wait", 1_500);
        let status = refused(&slow);
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_millis(1_500)));
    }

    #[test]
    fn a_bad_field_is_named() {
        let status = bad_field("settings.slow_mode_seconds", "at most 21600");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "settings.slow_mode_seconds");
        assert_eq!(status.get_details_error_info().unwrap().reason, "INVALID_ARGUMENT");
    }
}
