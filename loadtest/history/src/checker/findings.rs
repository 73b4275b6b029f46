use crate::report::{Invariant, Judgement};

/// Sentences kept of each invariant; beyond them violations are only counted.
const TOLD_MAX: usize = 10;

/// The verdicts as they are found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    found: [Found; Invariant::ALL.len()],
}

#[derive(Debug, Default)]
struct Found {
    judged: u64,
    broken: u64,
    told: Vec<String>,
}

impl Findings {
    /// Something was looked at; the sentence is made when it does not hold.
    pub(super) fn judge(&mut self, invariant: Invariant, holds: bool, sentence: impl FnOnce() -> String) {
        let found = &mut self.found[invariant as usize];
        found.judged += 1;
        if !holds {
            found.broken += 1;
            if found.told.len() < TOLD_MAX {
                found.told.push(sentence());
            }
        }
    }

    pub(super) fn judgements(self) -> Vec<Judgement> {
        let judgement = |(invariant, found): (Invariant, Found)| {
            let Found { judged, broken, told } = found;
            Judgement { invariant, judged, broken, violations: told }
        };
        Invariant::ALL.into_iter().zip(self.found).map(judgement).collect()
    }
}
