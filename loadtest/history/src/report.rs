use std::fmt;

use serde::Serialize;

/// What must hold, by the numbers of the design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Invariant {
    I1,
    I2,
    I3,
    I4,
    I5,
    I6,
    I7,
    I8,
    I9,
    I10,
    I11,
    I12,
}

impl Invariant {
    pub const ALL: [Self; 12] = [
        Self::I1,
        Self::I2,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I6,
        Self::I7,
        Self::I8,
        Self::I9,
        Self::I10,
        Self::I11,
        Self::I12,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::I1 => "agreement",
            Self::I2 => "density",
            Self::I3 => "exactly once",
            Self::I4 => "durability",
            Self::I5 => "no phantom",
            Self::I6 => "order",
            Self::I7 => "session",
            Self::I8 => "liveness",
            Self::I9 => "no resurrection",
            Self::I10 => "resume",
            Self::I11 => "authority",
            Self::I12 => "volatile",
        }
    }
}

/// What was judged. An invariant of which nothing was judged is not shown to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub counts: Counts,
    /// One for each invariant, in their order.
    pub judgements: Vec<Judgement>,
    /// What is wrong with the log itself, so that its verdicts cannot be relied on: times that go back, answers to nothing.
    pub problems: Vec<String>,
}

/// What the log held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub records: u64,
    pub clients: u64,
    pub rooms: u64,
    /// Commands as they were sent, retries too.
    pub sent: u64,
    pub acknowledged: u64,
    pub refused: u64,
    pub unknown: u64,
    pub deliveries: u64,
    pub pages: u64,
    pub page_entries: u64,
    pub joins: u64,
    pub resumes: u64,
    pub gaps: u64,
    pub faults: u64,
    pub removals: u64,
    pub volatile: u64,
    /// Entries of final histories, over all sources.
    pub stored: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judgement {
    pub invariant: Invariant,
    /// How often it was looked at.
    pub judged: u64,
    /// How often it was broken.
    pub broken: u64,
    /// The first of them, a sentence each.
    pub violations: Vec<String>,
}

impl Report {
    /// Nothing that was judged is broken, and the log is one.
    pub fn holds(&self) -> bool {
        self.problems.is_empty() && self.judgements.iter().all(|judgement| judgement.broken == 0)
    }

    /// Invariants of which the log shows nothing.
    pub fn unjudged(&self) -> Vec<Invariant> {
        self.judgements.iter().filter(|judgement| judgement.judged == 0).map(|judgement| judgement.invariant).collect()
    }

    pub fn broken(&self) -> Vec<Invariant> {
        self.judgements.iter().filter(|judgement| judgement.broken > 0).map(|judgement| judgement.invariant).collect()
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{} {}", *self as u8 + 1, self.name())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(
            f,
            "{} records of {} clients in {} rooms: {} sent, {} acknowledged, {} refused, {} left open; {} deliveries, \
             {} pages with {} entries; {} joins, {} resumes, {} gaps; {} faults, {} removals, {} volatile; {} stored",
            counts.records,
            counts.clients,
            counts.rooms,
            counts.sent,
            counts.acknowledged,
            counts.refused,
            counts.unknown,
            counts.deliveries,
            counts.pages,
            counts.page_entries,
            counts.joins,
            counts.resumes,
            counts.gaps,
            counts.faults,
            counts.removals,
            counts.volatile,
            counts.stored,
        )?;
        for judgement in &self.judgements {
            let verdict = match (judgement.broken, judgement.judged) {
                (0, 0) => "not judged: the log shows nothing of it".to_owned(),
                (0, judged) => format!("holds, {judged} times"),
                (broken, judged) => format!("BROKEN {broken} times, of {judged}"),
            };
            let name = judgement.invariant.to_string();
            writeln!(f, "  {name:20} {verdict}")?;
            for violation in &judgement.violations {
                writeln!(f, "       {violation}")?;
            }
        }
        for problem in &self.problems {
            writeln!(f, "  the log: {problem}")?;
        }
        Ok(())
    }
}
