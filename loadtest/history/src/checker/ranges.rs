use std::collections::BTreeMap;

/// A set of sequence numbers that mostly follow each other.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    /// First number to last number; they neither touch nor overlap.
    runs: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Whether anything of it is new.
    pub(super) fn add(&mut self, from: u64, to: u64) -> bool {
        if from > to || self.holds(from, to) {
            return false;
        }
        let (mut first, mut last) = (from, to);
        // The run before it may reach into it or touch it; then every run that begins within.
        let before = self.runs.range(..=from).next_back().filter(|(_, end)| **end + 1 >= from).map(|run| *run.0);
        let within = self.runs.range(from..=to.saturating_add(1)).map(|run| *run.0);
        for start in before.into_iter().chain(within).collect::<Vec<_>>() {
            if let Some(end) = self.runs.remove(&start) {
                first = first.min(start);
                last = last.max(end);
            }
        }
        self.runs.insert(first, last);
        true
    }

    pub(super) fn holds(&self, from: u64, to: u64) -> bool {
        self.runs.range(..=from).next_back().is_some_and(|(_, end)| *end >= to)
    }

    /// The first number from `from` to `to` that is not here.
    pub(super) fn first_missing(&self, from: u64, to: u64) -> Option<u64> {
        let missing = match self.runs.range(..=from).next_back() {
            Some((_, end)) if *end >= from => *end + 1,
            Some(_) | None => from,
        };
        (missing <= to).then_some(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_grow_together() {
        let mut held = Ranges::default();
        assert!(held.add(1, 3) && held.add(7, 9) && held.add(5, 5));
        assert_eq!(held.first_missing(1, 9), Some(4));
        assert_eq!(held.first_missing(7, 9), None);
        assert!(held.add(4, 4));
        assert_eq!(held.first_missing(1, 9), Some(6));
        assert!(held.add(4, 8) && !held.add(2, 9));
        assert_eq!((held.runs.len(), held.first_missing(1, 9)), (1, None));
        assert_eq!(held.first_missing(1, 12), Some(10));
        assert!(held.add(0, 20));
        assert!(held.holds(0, 20) && !held.holds(0, 21));
    }
}
