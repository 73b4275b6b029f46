//! Named points at which a development server can be made to die, so that tests can kill it where it hurts most.
//!
//! `VEZA_CRASH_AT=after_commit:3` ends the process, without any farewell, the third time it passes that point. Production
//! refuses the variable, and without it a point costs one load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The points, in the order in which a publish passes them; `in_delete` is inside the transaction of a deletion.
pub const POINTS: [&str; 5] = ["before_commit", "in_delete", "after_commit", "before_fan_out", "after_acknowledgement"];

static ARMED: OnceLock<Armed> = OnceLock::new();

struct Armed {
    at: &'static str,
    passes_left: AtomicU64,
}

/// A point and at which passing of it to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashAt {
    point: &'static str,
    passing: u64,
}

impl CrashAt {
    /// Reads `point` or `point:n`, n from 1.
    ///
    /// # Errors
    /// A sentence about what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, passing) = text.split_once(':').unwrap_or((text, "1"));
        let point = POINTS.into_iter().find(|point| *point == name);
        match (point, passing.parse()) {
            (Some(point), Ok(passing)) if passing > 0 => Ok(Self { point, passing }),
            (Some(_) | None, _) => Err(format!("allowed: one of {}, with :n for the nth passing", POINTS.join(", "))),
        }
    }
}

/// Dies there later. Once in a process.
pub fn arm(at: CrashAt) {
    tracing::warn!(point = at.point, passing = at.passing, "this server will die on purpose (VEZA_CRASH_AT)");
    let _armed_before = ARMED.set(Armed { at: at.point, passes_left: AtomicU64::new(at.passing) });
}

/// Passes a point.
pub fn point(name: &'static str) {
    let Some(armed) = ARMED.get() else { return };
    if armed.at == name && armed.passes_left.fetch_sub(1, Ordering::Relaxed) == 1 {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_named_with_its_passing() {
        assert_eq!(CrashAt::parse("after_commit"), Ok(CrashAt { point: "after_commit", passing: 1 }));
        assert_eq!(CrashAt::parse("in_delete:7"), Ok(CrashAt { point: "in_delete", passing: 7 }));
        for bad in ["", "nowhere", "after_commit:0", "after_commit:x", "after_commit:"] {
            assert!(CrashAt::parse(bad).is_err(), "{bad}");
        }
    }
}
