//! Logs: readable in development, one JSON object a line in production.

use tracing_subscriber::EnvFilter;

/// Whether `RUST_LOG` can be understood.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check_filter(text: &str) -> Result<(), String> {
    EnvFilter::try_new(text)
        .map(|_| ())
        .map_err(|error| format!("{error}; allowed: a filter like info or veza=debug,quinn=warn"))
}
