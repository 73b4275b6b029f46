//! Judges event logs that were written elsewhere.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};

use serde_json::json;
use veza_history::{Checker, Grace, Invariant, Record};

use crate::Failure;
use crate::report::{Report, say};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Event logs of one run, each in the order of its times.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    grace: GraceArgs,
    /// Invariants of which the log may show nothing, such as I12 where nobody typed.
    #[arg(long, value_name = "INVARIANT", value_delimiter = ',', value_parser = invariant)]
    without: Vec<Invariant>,
    /// Write the figures here as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct GraceArgs {
    /// I8: how long after the last fault, or the last word in a room, everybody must hold everything. Milliseconds.
    #[arg(long, default_value_t = 5_000)]
    settle_ms: u64,
    /// I11: how long after a removal's acknowledgement something may still be delivered. Milliseconds.
    #[arg(long, default_value_t = 1_000)]
    removal_ms: u64,
}

impl GraceArgs {
    pub(crate) fn grace(&self) -> Grace {
        Grace { settle_us: self.settle_ms * 1_000, removal_us: self.removal_ms * 1_000 }
    }
}

fn invariant(text: &str) -> Result<Invariant, String> {
    let wanted = |invariant: &Invariant| format!("{invariant:?}").eq_ignore_ascii_case(text);
    Invariant::ALL.into_iter().find(wanted).ok_or_else(|| format!("{text:?} is none of I1 to I12"))
}

pub(crate) fn run(args: Args) -> Result<Report, Failure> {
    let verdicts = judge(&args.files, args.grace.grace())?;
    let parameters =
        json!({ "files": args.files, "settle_ms": args.grace.settle_ms, "removal_ms": args.grace.removal_ms });
    let mut report = Report::new("check", args.json, parameters, "");
    tell(&mut report, &verdicts, &args.without);
    Ok(report)
}

/// Reads the files as one log, by time.
pub(crate) fn judge(files: &[PathBuf], grace: Grace) -> Result<veza_history::Report, Failure> {
    let mut checker = Checker::new(grace);
    let mut open = files.iter().map(|path| Reader::open(path)).collect::<Result<Vec<_>, _>>()?;
    let mut next = BinaryHeap::new();
    for (at, reader) in open.iter_mut().enumerate() {
        if let Some(record) = reader.record()? {
            next.push(Reverse((record.at, at, Pending(record))));
        }
    }
    while let Some(Reverse((_, at, Pending(record)))) = next.pop() {
        checker.take(&record);
        if let Some(record) = open[at].record()? {
            next.push(Reverse((record.at, at, Pending(record))));
        }
    }
    Ok(checker.finish())
}

/// Verdicts as figures; what is broken, and what the log shows nothing of, as problems.
pub(crate) fn tell(report: &mut Report, verdicts: &veza_history::Report, without: &[Invariant]) {
    let counts = serde_json::to_value(&verdicts.counts).expect("numbers are JSON");
    for (name, count) in counts.as_object().into_iter().flatten() {
        report.figure(name, count.clone());
    }
    for judgement in &verdicts.judgements {
        report.figure(format!("{:?}_judged", judgement.invariant), judgement.judged);
        report.figure(format!("{:?}_broken", judgement.invariant), judgement.broken);
        for violation in &judgement.violations {
            report.problem(format!("{}: {violation}", judgement.invariant));
        }
    }
    for problem in &verdicts.problems {
        report.problem(format!("the log: {problem}"));
    }
    for invariant in verdicts.unjudged().into_iter().filter(|invariant| !without.contains(invariant)) {
        report.problem(format!("{invariant}: the log shows nothing of it"));
    }
    say(&verdicts.to_string());
}

/// Equal times are taken in the order of the files: what a record says plays no part.
struct Pending(Record);

impl PartialEq for Pending {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Pending {}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pending {
    fn cmp(&self, _other: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

struct Reader {
    path: PathBuf,
    lines: Lines<BufReader<File>>,
    line: u64,
}

impl Reader {
    fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(Failure::io(path.display().to_string()))?;
        Ok(Self { path: path.to_owned(), lines: BufReader::with_capacity(1 << 20, file).lines(), line: 0 })
    }

    fn record(&mut self) -> Result<Option<Record>, Failure> {
        let Some(line) = self.lines.next() else { return Ok(None) };
        self.line += 1;
        let line = line.map_err(Failure::io(self.path.display().to_string()))?;
        serde_json::from_str(&line)
            .map(Some)
            .map_err(|error| Failure::setup(format!("{}, line {}: {error}", self.path.display(), self.line)))
    }
}

#[cfg(test)]
mod tests {
    use veza_history::{Event, Said};

    use super::*;

    fn write(path: &Path, records: &[Record]) {
        let lines: Vec<_> = records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
        std::fs::write(path, lines.join("\n")).unwrap();
    }

    #[test]
    fn files_of_one_run_are_read_as_one_log() {
        let directory = tempfile::tempdir().unwrap();
        let record = |at, client: &str, event| Record { at, client: client.into(), event };
        let connected = |user: &str| Event::Connected { user: user.into(), transport: "quic".into() };
        let sent = |call| Event::Sent { call, room: "r".into(), cmid: "m".into(), said: Said::text("x", 0) };
        let acknowledged = |call, seq| Event::Acknowledged { call, epoch: 1, seq, duplicate: false };
        let (one, other) = (directory.path().join("one"), directory.path().join("other"));
        write(&one, &[record(1, "a", connected("a")), record(3, "a", sent(1)), record(6, "a", acknowledged(1, 1))]);
        write(&other, &[record(2, "b", connected("b")), record(7, "b", sent(1)), record(9, "b", acknowledged(1, 1))]);
        let verdicts = judge(&[one.clone(), other], Grace::default()).unwrap();
        assert_eq!((verdicts.counts.records, verdicts.counts.acknowledged), (6, 2));
        assert_eq!(verdicts.problems, Vec::<String>::new());

        std::fs::write(&one, "{}").unwrap();
        let error = judge(&[one], Grace::default()).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }

    #[test]
    fn an_empty_log_shows_nothing_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        write(&path, &[]);
        let args = Args {
            files: vec![path],
            grace: GraceArgs { settle_ms: 1, removal_ms: 1 },
            without: vec![Invariant::I12],
            json: None,
        };
        let failed = format!("{:?}", run(args).unwrap().publish().unwrap());
        assert_eq!(failed, format!("{:?}", std::process::ExitCode::FAILURE));
    }
}
