//! What the server tells of itself: metrics, logs, traces.

pub mod logs;
pub mod metrics;
