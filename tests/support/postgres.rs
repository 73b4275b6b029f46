//! A PostgreSQL of one's own for the tests of this process: made anew, on a Unix socket, gone with the process.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};

/// Runs until its standard input ends, which happens however the process ends that started it.
const SCRIPT: &str = r#"
set -eu
dir=$(mktemp -d "${TMPDIR:-/tmp}/veza-postgres.XXXXXX")
server=
ended() {
  if [ -n "$server" ]; then
    kill -QUIT "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$dir"
}
trap ended EXIT
cd "$dir"
"$1/initdb" --pgdata="$dir/data" --username=veza --auth=trust --no-sync --no-locale --encoding=UTF8 >"$dir/initdb.log" 2>&1 || {
  cat "$dir/initdb.log" >&2
  exit 1
}
"$1/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= -c max_connections=300 -c shared_buffers=64MB >"$dir/server.log" 2>&1 &
server=$!
tries=0
until "$1/pg_isready" --quiet --host="$dir" --username=veza --dbname=postgres; do
  tries=$((tries + 1))
  if [ "$tries" -gt 600 ] || ! kill -0 "$server" 2>/dev/null; then
    cat "$dir/server.log" >&2
    exit 1
  fi
  sleep 0.1
done
echo "$dir"
while read -r _; do :; done
"#;

/// A server with any number of databases.
pub(crate) struct Cluster {
    programs: PathBuf,
    socket: String,
    databases: AtomicU32,
    /// Its standard input is what keeps it alive.
    _script: Mutex<Child>,
}

/// The cluster of this process; `None`, said aloud, where PostgreSQL is not installed.
pub(crate) fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: LazyLock<Option<Cluster>> = LazyLock::new(|| {
        let Some(programs) = programs() else {
            eprintln!("SKIPPED: PostgreSQL is not installed here (make setup)");
            return None;
        };
        Some(Cluster::start(programs))
    });
    CLUSTER.as_ref()
}

impl Cluster {
    fn start(programs: PathBuf) -> Self {
        // The server refuses to run as root; Debian's package makes a user for it.
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|said| said.stdout == b"0\n");
        let mut command = if is_root {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--", "sh", "-c", SCRIPT, "sh"]);
            command
        } else {
            let mut command = Command::new("sh");
            command.args(["-c", SCRIPT, "sh"]);
            command
        };
        let command = command.arg(&programs).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = command.spawn().expect("sh and runuser are everywhere");
        let mut socket = String::new();
        let mut said = BufReader::new(script.stdout.take().expect("it is piped"));
        said.read_line(&mut socket).expect("the script speaks UTF-8");
        let socket = socket.trim_end().to_owned();
        assert!(!socket.is_empty(), "PostgreSQL did not start; its log stands above");
        Self { programs, socket, databases: AtomicU32::new(0), _script: Mutex::new(script) }
    }

    /// The URL of a new, empty database.
    pub(crate) fn database(&self) -> String {
        let name = format!("veza{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let made = Command::new(self.programs.join("createdb"))
            .args(["--host", &self.socket, "--username", "veza", &name])
            .output()
            .expect("createdb belongs to PostgreSQL");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        format!("postgresql://veza@localhost/{name}?host={}", self.socket)
    }
}

/// Where the newest PostgreSQL lies.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists());
    let number = |bin: &PathBuf| bin.parent().and_then(|at| at.file_name()?.to_str()?.parse::<u32>().ok());
    found.max_by_key(number)
}
