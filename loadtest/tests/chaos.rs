//! Chaos in short: the real server is killed at every named point and at random, on both databases, and the clients'
//! histories are judged. `veza-loadtest chaos` runs it for longer.

#![expect(clippy::unwrap_used, reason = "what does not come as it must fails the test that wanted it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const LOADTEST: &str = env!("CARGO_BIN_EXE_veza-loadtest");
/// Enough to come by every point; how long that takes depends on the machine and is no criterion.
const ACKNOWLEDGED: &str = "2500";

/// The server that cargo builds with the workspace's tests.
fn server() -> PathBuf {
    let server = Path::new(LOADTEST).with_file_name("veza");
    assert!(server.exists(), "no server at {}: `cargo build -p veza` first (make test does)", server.display());
    server
}

fn chaos(store: &str) -> serde_json::Value {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("figures.json");
    let run = Command::new(LOADTEST)
        .args(["chaos", "--store", store, "--acknowledged", ACKNOWLEDGED, "--rate", "400", "--clients", "20"])
        .args(["--rooms", "3", "--settle-ms", "60000", "--removal-ms", "10000", "--server"])
        .arg(server())
        .arg("--json")
        .arg(&json)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = || format!("{}\n{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{}", said());
    let figures: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert!(figures["results"]["acknowledged"].as_u64().unwrap() >= ACKNOWLEDGED.parse().unwrap(), "{}", said());
    figures["results"].clone()
}

#[test]
fn kills_of_the_server_lose_nothing_on_sqlite() {
    let figures = chaos("sqlite");
    for point in ["before_commit", "after_commit", "after_acknowledgement", "before_fan_out", "in_delete"] {
        assert!(figures[format!("kills_{point}")].as_u64().unwrap() > 0, "nobody died in {point}: {figures}");
    }
}

#[test]
fn kills_of_the_server_and_of_its_database_lose_nothing_on_postgresql() {
    let figures = chaos("postgres");
    assert!(figures["kills_database"].as_u64().unwrap() > 0, "the database was not killed: {figures}");
}
