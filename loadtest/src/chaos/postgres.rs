//! A PostgreSQL cluster of its own: a temporary directory, a port of its own, synced commits, and nobody else's data.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::server::free_port;
use crate::Failure;

const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// Where Debian keeps the programs.
const INSTALLED: &str = "/usr/lib/postgresql";

pub(crate) struct Cluster {
    programs: PathBuf,
    directory: PathBuf,
    port: u16,
    /// PostgreSQL refuses to run as root: then it runs as the user of that name.
    user: Option<(u32, u32)>,
    postmaster: Option<Child>,
}

impl Cluster {
    /// Makes a cluster beneath this directory and starts it.
    pub(crate) async fn create(beneath: &Path) -> Result<Self, Failure> {
        let directory = beneath.join("postgres");
        std::fs::create_dir_all(&directory).map_err(Failure::io("the cluster's directory"))?;
        let user = if id(&["-u"])? == 0 { Some((id(&["-u", "postgres"])?, id(&["-g", "postgres"])?)) } else { None };
        if let Some((uid, gid)) = user {
            let owned = std::os::unix::fs::chown(&directory, Some(uid), Some(gid));
            // The way there must be open for that user, its content stays closed.
            let open = std::fs::set_permissions(beneath, std::fs::Permissions::from_mode(0o711));
            owned.and(open).map_err(Failure::io("the cluster's directory"))?;
        }
        let mut cluster = Self { programs: programs()?, directory, port: free_port()?, user, postmaster: None };
        let data = cluster.data();
        let mut initdb = cluster.program("initdb");
        initdb.args(["--auth=trust", "--username=veza", "--encoding=UTF8", "--locale=C.UTF-8", "--pgdata"]).arg(data);
        finish(initdb, "initdb")?;
        cluster.start().await?;
        let mut createdb = cluster.client("createdb");
        createdb.arg("veza");
        finish(createdb, "createdb")?;
        Ok(cluster)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgresql://veza@127.0.0.1:{}/veza", self.port)
    }

    /// Starts the postmaster and waits until it answers: after a kill it replays its log first.
    pub(crate) async fn start(&mut self) -> Result<(), Failure> {
        self.spawn()?;
        let begun = Instant::now();
        loop {
            let mut ready = self.client("pg_isready");
            let answer = ready.stdout(Stdio::null()).stderr(Stdio::null()).status();
            if answer.is_ok_and(|status| status.success()) {
                return Ok(());
            }
            if begun.elapsed() > STARTS_WITHIN {
                return Err(Failure::setup(format!("PostgreSQL does not answer: see {}", self.directory.display())));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            // It refuses to start while the last process of the killed one still lives.
            if self.postmaster.as_mut().is_none_or(|postmaster| !matches!(postmaster.try_wait(), Ok(None))) {
                self.spawn()?;
            }
        }
    }

    fn spawn(&mut self) -> Result<(), Failure> {
        let output = std::fs::OpenOptions::new().create(true).append(true).open(self.directory.join("log"));
        let output = output.map_err(Failure::io("PostgreSQL's log"))?;
        let mut postgres = self.program("postgres");
        postgres.arg("-D").arg(self.data()).arg("-k").arg(&self.directory).args(["-p", &self.port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "fsync=on", "synchronous_commit=on", "max_connections=200"] {
            postgres.args(["-c", setting]);
        }
        let child = postgres.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn();
        self.postmaster = Some(child.map_err(Failure::io("postgres"))?);
        Ok(())
    }

    /// SIGKILL for the postmaster and every process it has started: nothing is written or said any more.
    pub(crate) fn kill(&mut self) -> Result<(), Failure> {
        let Some(mut postmaster) = self.postmaster.take() else { return Ok(()) };
        let children = children(postmaster.id());
        postmaster.kill().map_err(Failure::io("the postmaster"))?;
        let killed =
            Command::new("kill").arg("-9").args(children.iter().map(u32::to_string)).stderr(Stdio::null()).status();
        // Those that noticed the postmaster's death first are gone already.
        drop(killed);
        postmaster.wait().map_err(Failure::io("the postmaster"))?;
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(&self.directory);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn client(&self, name: &str) -> Command {
        let mut command = self.program(name);
        command.args(["-h", "127.0.0.1", "-U", "veza", "-p", &self.port.to_string()]);
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill().ok();
    }
}

fn finish(mut command: Command, what: &str) -> Result<(), Failure> {
    let output = command.stdin(Stdio::null()).output().map_err(Failure::io(what))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::setup(format!("{what}: {}", String::from_utf8_lossy(&output.stderr))))
}

/// The newest installed version's programs.
fn programs() -> Result<PathBuf, Failure> {
    let versions = std::fs::read_dir(INSTALLED).map_err(Failure::io(INSTALLED))?;
    let version = |entry: &std::fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
    let newest = versions.filter_map(Result::ok).filter_map(|entry| Some((version(&entry)?, entry.path()))).max();
    newest
        .map(|(_, path)| path.join("bin"))
        .ok_or_else(|| Failure::setup(format!("no PostgreSQL in {INSTALLED}: install the package postgresql")))
}

fn id(arguments: &[&str]) -> Result<u32, Failure> {
    let output = Command::new("id").args(arguments).output().map_err(Failure::io("id"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| Failure::setup(format!("id {arguments:?} gave no number")))
}

/// The processes whose parent this is.
fn children(parent: u32) -> Vec<u32> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let parent_of = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        rest.split(' ').nth(1)?.parse::<u32>().ok()
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}
