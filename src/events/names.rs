use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Names that metrics tell apart in the life of a process; more share one.
const NAMES_MAX: usize = 64;

/// Names that somebody gives, as labels. Labels live as long as the process, so there are so many and no more.
#[derive(Debug)]
pub struct Names(Mutex<BTreeSet<&'static str>>);

pub(super) static CONSUMERS: Names = Names::new();

impl Names {
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeSet::new()))
    }

    pub fn label(&self, name: &str) -> &'static str {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match names.get(name) {
            Some(known) => known,
            None if names.len() >= NAMES_MAX => "other",
            None => {
                let kept: &'static str = Box::leak(name.into());
                names.insert(kept);
                kept
            }
        }
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_names_are_told_apart_and_one_more_is_not() {
        let names = Names::new();
        let labels: BTreeSet<_> = (0..NAMES_MAX).map(|nth| names.label(&format!("consumer-{nth}"))).collect();
        assert!(labels.len() == NAMES_MAX && !labels.contains("other"), "{labels:?}");
        assert_eq!([names.label("one-more"), names.label("consumer-0")], ["other", "consumer-0"]);
    }
}
