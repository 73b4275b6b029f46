use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Names that metrics tell apart in the life of a process; more share one.
const NAMES_MAX: usize = 64;

static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// A consumer's name as a label. Labels live as long as the process, so there are so many and no more.
pub(super) fn label(name: &str) -> &'static str {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_names_are_told_apart_and_one_more_is_not() {
        let labels: BTreeSet<_> = (0..NAMES_MAX + 2).map(|nth| label(&format!("consumer-{nth}"))).collect();
        assert!(labels.contains("other") && labels.len() <= NAMES_MAX + 1, "{labels:?}");
        assert_eq!(label("consumer-0"), "consumer-0");
    }
}
