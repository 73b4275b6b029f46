//! The checker is right: histories without a fault pass, and one injected violation of each kind is caught by the
//! invariant that is meant.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "what does not come as it must fails the test that wanted it"
)]

mod mutations;
mod tamper;
mod world;

use rand::SeedableRng;
use rand::rngs::StdRng;
use veza_history::{Checker, Invariant, Record, Report};

fn judge(log: &[Record]) -> Report {
    let mut checker = Checker::default();
    for record in log {
        checker.take(record);
    }
    checker.finish()
}

#[test]
fn twenty_clean_histories_pass_and_every_invariant_was_looked_at() {
    for seed in 0..20 {
        let report = judge(&world::clean_history(seed, 600));
        assert!(report.holds(), "seed {seed}\n{report}");
        assert_eq!(report.unjudged(), [], "seed {seed}\n{report}");
    }
}

#[test]
fn one_violation_of_each_kind_is_caught_by_the_invariant_that_is_meant() {
    const SEEDS: u64 = 4;
    let clean: Vec<_> = (0..SEEDS).map(|seed| world::clean_history(seed, 600)).collect();
    let mut missed = Vec::new();
    for mutation in mutations::ALL {
        let mut places = 0;
        for (seed, clean) in (0..SEEDS).zip(&clean) {
            let mut records = clean.clone();
            let chance = StdRng::seed_from_u64(seed);
            if !(mutation.apply)(&mut tamper::Log { records: &mut records, chance }) {
                continue;
            }
            places += 1;
            let report = judge(&records);
            if !report.broken().contains(&mutation.breaks) {
                missed.push(format!("{}, seed {seed}: {} holds\n{report}", mutation.name, mutation.breaks));
            }
            // A broken log is another thing than a broken server.
            assert!(report.problems.is_empty(), "{}, seed {seed}: {:?}", mutation.name, report.problems);
        }
        assert!(places > 0, "{}: no history offered a place for it", mutation.name);
    }
    assert!(missed.is_empty(), "{} were missed\n{}", missed.len(), missed.join("\n"));
}

#[test]
fn every_invariant_is_broken_in_several_ways() {
    for invariant in Invariant::ALL {
        let ways = mutations::ALL.iter().filter(|mutation| mutation.breaks == invariant).count();
        assert!(ways >= 2, "{invariant} is broken in {ways} ways");
    }
}
