//! The server under chaos: the real binary, started, killed and started again on the same ports and data.

use std::fs::{File, OpenOptions};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use veza_client::Server;

use crate::Failure;
use crate::process::Process;

/// From its start until it answers; a database that is just recovering is waited for too.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

pub(super) struct Program {
    binary: PathBuf,
    data: PathBuf,
    output: PathBuf,
    database: Option<String>,
    ports: [u16; 3],
}

/// A running server. Dropping it kills the process.
pub(super) struct Running {
    child: Child,
}

impl Program {
    pub(super) fn new(binary: &Path, directory: &Path, database: Option<String>) -> Result<Self, Failure> {
        let data = directory.join("data");
        std::fs::create_dir_all(&data).map_err(Failure::io("the server's data directory"))?;
        let ports = [free_port()?, free_port()?, free_port()?];
        Ok(Self { binary: binary.to_owned(), data, output: directory.join("server.log"), database, ports })
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// Where SQLite keeps the rooms.
    pub(super) fn sqlite_file(&self) -> PathBuf {
        self.data.join("veza.db")
    }

    /// Starts it and waits until it answers, or has died of its crash point already.
    pub(super) async fn start(&self, crash_at: Option<&str>) -> Result<Running, Failure> {
        let mut command = Command::new(&self.binary);
        command.current_dir(&self.data).env_clear();
        for name in ["PATH", "HOME", "LD_LIBRARY_PATH"] {
            command.envs(std::env::var(name).ok().map(|value| (name, value)));
        }
        let [http, websocket, metrics] = self.ports.map(|port| port.to_string());
        command
            .env("HOST", "127.0.0.1")
            .env("PORT", http)
            .env("WS_PORT", websocket)
            .env("PROMETHEUS_PORT", metrics)
            .env("GRPC_PORT", "0")
            .env("VEZA_DATA_DIR", &self.data)
            .env("RUST_LOG", "warn")
            .env("VEZA_PUBLISH_PER_SECOND", "10000")
            .env("VEZA_PUBLISH_BURST", "10000")
            .env("VEZA_USER_PUBLISH_PER_SECOND", "10000")
            .env("VEZA_USER_PUBLISH_BURST", "10000")
            .env("VEZA_REQUESTS_PER_SECOND", "10000")
            .env("VEZA_CONNECTIONS_PER_ADDRESS", "10000")
            .envs(self.database.as_ref().map(|url| ("DATABASE_URL", url)))
            .envs(crash_at.map(|point| ("VEZA_CRASH_AT", point)));
        let output = || OpenOptions::new().create(true).append(true).open(&self.output);
        let log: Result<[File; 2], _> = output().and_then(|one| Ok([one, output()?]));
        let [out, err] = log.map_err(Failure::io("the server's log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(Failure::io(self.binary.display().to_string()))?;
        let mut running = Running { child };
        let begun = Instant::now();
        while Server::discover(&self.url()).await.is_err() {
            if running.has_ended()? {
                // An armed server may die of the first thing it is asked; another death is a failure.
                return if crash_at.is_some() { Ok(running) } else { Err(self.failed("ended while it started")) };
            }
            if begun.elapsed() > STARTS_WITHIN {
                return Err(self.failed("does not answer"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(running)
    }

    fn failed(&self, what: &str) -> Failure {
        let said = std::fs::read_to_string(&self.output).unwrap_or_default();
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        Failure::setup(format!("the server {what}; its last words: {last:?}"))
    }
}

impl Running {
    pub(super) fn has_ended(&mut self) -> Result<bool, Failure> {
        Ok(self.child.try_wait().map_err(Failure::io("the server's process"))?.is_some())
    }

    /// Waits for the end, so long at most: whether it came.
    pub(super) async fn ended_within(&mut self, at_most: Duration) -> Result<bool, Failure> {
        let begun = Instant::now();
        while !self.has_ended()? {
            if begun.elapsed() > at_most {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(true)
    }

    pub(super) fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).map_err(Failure::io("the server's process"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A port below those that the kernel gives away, so that nobody takes it while the server is down.
pub(super) fn free_port() -> Result<u16, Failure> {
    let free =
        |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok() && UdpSocket::bind(("127.0.0.1", *port)).is_ok();
    let mut candidates = std::iter::repeat_with(|| rand::random_range(12_000..32_000)).take(1_000);
    candidates.find(free).ok_or_else(|| Failure::setup("no free port was found"))
}
