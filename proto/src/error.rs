use crate::v1::{Error, ErrorCode};

impl Error {
    /// An error that repeating the same command will not mend.
    pub fn permanent(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), temporary: false, retry_after_ms: 0 }
    }

    /// An error that may pass; the client waits `retry_after_ms` first.
    pub fn temporary(code: ErrorCode, message: impl Into<String>, retry_after_ms: u32) -> Self {
        Self { code: code.into(), message: message.into(), temporary: true, retry_after_ms }
    }
}
