//! What a run says: progress on stderr, a table on stdout, JSON in a file.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::Failure;

/// Figures in the order they are shown. A figure has one name in the table and in the JSON.
pub(crate) struct Report {
    scenario: &'static str,
    json: Option<PathBuf>,
    parameters: Value,
    server_version: String,
    figures: Vec<(String, Value)>,
    problems: Vec<String>,
}

impl Report {
    pub(crate) fn new(scenario: &'static str, json: Option<PathBuf>, parameters: Value, server_version: &str) -> Self {
        Self {
            scenario,
            json,
            parameters,
            server_version: server_version.to_owned(),
            figures: Vec::new(),
            problems: Vec::new(),
        }
    }

    pub(crate) fn write_to(&mut self, json: Option<PathBuf>) {
        self.json = json;
    }

    pub(crate) fn figure(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.figures.push((name.into(), value.into()));
    }

    /// A figure with three digits after the point.
    pub(crate) fn decimal(&mut self, name: impl Into<String>, value: f64) {
        self.figure(name, (value * 1_000.0).round() / 1_000.0);
    }

    pub(crate) fn latency(&mut self, name: &str, histogram: &Histogram<u64>) {
        self.figure(format!("{name}_count"), histogram.len());
        if histogram.is_empty() {
            return;
        }
        for (quantile, label) in [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")] {
            self.decimal(format!("{name}_ms_{label}"), milliseconds(histogram.value_at_quantile(quantile)));
        }
        self.decimal(format!("{name}_ms_max"), milliseconds(histogram.max()));
    }

    /// Something that makes the run a failure.
    pub(crate) fn problem(&mut self, what: impl Into<String>) {
        self.problems.push(what.into());
    }

    /// Adds the figures of another run under a prefix.
    pub(crate) fn absorb(&mut self, prefix: &str, other: Report) {
        self.figures.extend(other.figures.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value)));
        self.problems.extend(other.problems);
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.as_f64())
    }

    /// Nothing was wrong.
    pub(crate) fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    /// Shows the table and writes the file; the exit code is 1 when something was wrong.
    pub(crate) fn publish(self) -> Result<ExitCode, Failure> {
        let failed = !self.problems.is_empty();
        print(&self.table());
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&self.document()).expect("strings and numbers are JSON");
            fs::write(path, text + "\n").map_err(Failure::io(path.display().to_string()))?;
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn table(&self) -> String {
        let width = self.figures.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let mut table = format!("{}\n", self.scenario);
        for (name, value) in &self.figures {
            table.push_str(&format!("  {name:width$}  {}\n", shown(value)));
        }
        for problem in &self.problems {
            table.push_str(&format!("  FAILED: {problem}\n"));
        }
        table
    }

    fn document(&self) -> Value {
        json!({
            "scenario": self.scenario,
            "ok": self.problems.is_empty(),
            "problems": self.problems,
            "parameters": self.parameters,
            "results": self.figures.iter().cloned().collect::<Map<_, _>>(),
            "server_version": self.server_version,
            "environment": environment(),
        })
    }
}

/// Microseconds as a histogram holds them, in milliseconds.
fn milliseconds(microseconds: u64) -> f64 {
    Duration::from_micros(microseconds).as_secs_f64() * 1_000.0
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What the figures depend on besides the server.
fn environment() -> Value {
    let line = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        found.map(|rest| rest.trim_start_matches([':', '\t', ' ']).to_owned()).unwrap_or_default()
    };
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    json!({
        "command": std::env::args().collect::<Vec<_>>(),
        "tool_version": env!("CARGO_PKG_VERSION"),
        "tool_build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": line("/proc/cpuinfo", "model name"),
        "memory": line("/proc/meminfo", "MemTotal"),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "ended_ms": u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
    })
}

/// One line of progress.
pub(crate) fn say(line: &str) {
    // Who closed stderr wants no progress.
    writeln!(std::io::stderr().lock(), "{line}").ok();
}

/// Text for stdout.
pub(crate) fn print(text: &str) {
    write!(std::io::stdout().lock(), "{text}").ok();
}

/// A histogram of microseconds up to ten minutes, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("these bounds are allowed")
}

/// Records a time; beyond the bound it counts as the bound.
pub(crate) fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_its_figures_once_in_table_and_json() {
        let mut report = Report::new("chat", None, json!({"rooms": 2}), "0.1.0");
        report.figure("published", 7);
        let mut times = histogram();
        record(&mut times, Duration::from_micros(1_500));
        report.latency("ack", &times);
        assert_eq!(report.get("ack_ms_p50"), Some(1.5));
        assert!(report.table().contains("published"), "{}", report.table());
        let document = report.document();
        assert_eq!(document["results"]["published"], 7);
        assert_eq!(document["ok"], true);
        assert!(document["environment"]["cores"].as_u64().unwrap() > 0);
    }

    #[test]
    fn a_problem_makes_the_run_fail() {
        let mut report = Report::new("idle", None, json!({}), "0.1.0");
        report.problem("one was lost");
        assert_eq!(report.document()["ok"], false);
        assert!(report.table().contains("FAILED: one was lost"));
        assert_eq!(format!("{:?}", report.publish().unwrap()), format!("{:?}", ExitCode::FAILURE));
    }

    #[test]
    fn what_is_longer_than_the_bound_counts_as_the_bound() {
        let mut times = histogram();
        record(&mut times, Duration::from_secs(601));
        assert_eq!(times.len(), 1);
        assert!(times.max() >= 599_000_000);
    }
}
