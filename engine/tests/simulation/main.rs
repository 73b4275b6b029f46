//! A simulation of everything that decides: several clients, real sessions and rooms on two nodes, a modelled database,
//! network and bus, moved by one seed. Links die and are abandoned, datagrams get lost, nodes crash at any point and start
//! again, commits fail before and after, clocks jump. The history checker judges what the clients saw, and a naive room
//! what the ledger made of every write.
//!
//! `SIM_SEED=7 cargo test -p veza-engine --test simulation -- every` runs one seed again, with everything that was done and
//! seen; `make sim` runs many. `docs/design/simulation.md` tells what is modelled and what is not.

#![expect(clippy::print_stderr, reason = "a failing run tells how to run it again")]

mod chance;
mod client;
mod faults;
mod journal;
mod judge;
mod link;
mod node;
mod reference;
mod stage;
mod store;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use judge::judge;
use stage::Sabotage;
use veza_history::{Invariant, Report};
use world::{Plan, World};

pub(crate) const NODES: usize = 2;
pub(crate) const USERS: [&str; 5] = ["ann", "bob", "cem", "dea", "eve"];

const SEEDS: u64 = 200;
const STEPS: u64 = 6_000;

/// Seeds (and steps) that failed once, with what was wrong. The model has changed since, and what a seed leads to with it;
/// they stay because they cost nothing.
const FAILED_ONCE: [(u64, u64); 6] = [
    // A refused leave ended the subscription without a word.
    (1, 3_000),
    (10, 3_000),
    // Entries that were held behind a hole came out with content that had been deleted meanwhile.
    (136, 3_000),
    (150, 3_000),
    // A room let a session in that had left it meanwhile, and delivered to nobody for ever.
    (4, 3_000),
    (28, 3_000),
];

fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}"))
}

/// One run: what is wrong, and what was judged.
fn run(plan: Plan) -> (Vec<String>, Option<Report>) {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(plan);
        world.run(plan.steps);
        let (wrong, report) = judge(&mut world);
        if std::env::var_os("SIM_SEED").is_some() {
            for record in &world.stage.journal.records {
                eprintln!("{}", serde_json::to_string(record).unwrap_or_default());
            }
            eprintln!("{report}");
        }
        (wrong, Some(report))
    }));
    ran.unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        (vec![format!("panic: {}", what.unwrap_or_default())], None)
    })
}

#[test]
fn every_seed_keeps_every_invariant() {
    let steps = number("SIM_STEPS", STEPS);
    let plans: Vec<(u64, u64)> = match std::env::var_os("SIM_SEED") {
        Some(_) => vec![(number("SIM_SEED", 0), steps)],
        None => {
            let first = number("SIM_FIRST", 0);
            let seeds = first..first + number("SIM_SEEDS", SEEDS);
            FAILED_ONCE.into_iter().chain(seeds.map(|seed| (seed, steps))).collect()
        }
    };
    let mut failed = Vec::new();
    for (seed, steps) in &plans {
        let (wrong, _) = run(Plan { seed: *seed, steps: *steps, sabotage: None });
        if !wrong.is_empty() {
            eprintln!("seed {seed}, {steps} steps: {}", wrong.join("\n    "));
            failed.push((*seed, *steps));
        }
    }
    if let Some((seed, steps)) = failed.first() {
        panic!(
            "{} of {} runs (seed, steps): {failed:?}\n  SIM_SEED={seed} SIM_STEPS={steps} cargo test -p veza-engine --test \
             simulation -- every",
            failed.len(),
            plans.len()
        );
    }
}

/// Each kind of wrong is noticed within a few seeds, and by the invariant that it breaks.
#[test]
fn what_is_done_wrong_on_purpose_is_noticed() {
    const WITHIN: u64 = 200;
    let table = [
        (Sabotage::AckBeforeCommit, &[Invariant::I1, Invariant::I4][..]),
        (Sabotage::FanOutBeforeCommit, &[Invariant::I1, Invariant::I4, Invariant::I5]),
        (Sabotage::NoDedup, &[Invariant::I3]),
        (Sabotage::NoTombstone, &[Invariant::I9]),
        (Sabotage::Reordered, &[Invariant::I6]),
        (Sabotage::NoEviction, &[Invariant::I11]),
        (Sabotage::SilentBus, &[Invariant::I8, Invariant::I11]),
    ];
    for (sabotage, breaks) in table {
        let noticed = (0..WITHIN).find_map(|seed| {
            let (_, report) = run(Plan { seed, steps: STEPS, sabotage: Some(sabotage) });
            let broken = report.map(|report| report.broken()).unwrap_or_default();
            breaks.iter().find(|invariant| broken.contains(invariant)).map(|invariant| (seed, *invariant))
        });
        match noticed {
            Some((seed, invariant)) => eprintln!("{sabotage:?}: {invariant} is broken in run {seed}"),
            None => panic!("{sabotage:?} was not noticed by any of {breaks:?} within {WITHIN} runs"),
        }
    }
}
