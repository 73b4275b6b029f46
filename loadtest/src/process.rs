//! What Linux says about a process: memory, CPU time, descriptors, and whose a listening port is.

use std::fs;
use std::time::Duration;

use crate::Failure;

/// Clock ticks a second in `/proc/PID/stat`: fixed by Linux's user-space interface, whatever the kernel's own rate.
const TICKS_PER_SECOND: u64 = 100;

/// A process by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(pub(crate) u32);

/// A moment of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Resident memory, bytes.
    pub(crate) rss: u64,
    /// User and system time since its start.
    pub(crate) cpu: Duration,
}

impl Process {
    pub(crate) fn this() -> Self {
        Self(std::process::id())
    }

    pub(crate) fn sample(self) -> Result<Sample, Failure> {
        let status = self.read("status")?;
        let rss = kilobytes(&status, "VmRSS:").ok_or_else(|| self.strange("status"))?;
        let stat = self.read("stat")?;
        Ok(Sample { rss, cpu: cpu(&stat).ok_or_else(|| self.strange("stat"))? })
    }

    /// How many descriptors are open.
    pub(crate) fn descriptors(self) -> Result<u64, Failure> {
        let path = format!("/proc/{}/fd", self.0);
        fs::read_dir(&path).map(|open| open.count() as u64).map_err(Failure::io(path))
    }

    /// The soft limit of open descriptors.
    pub(crate) fn descriptors_max(self) -> Result<u64, Failure> {
        let limits = self.read("limits")?;
        descriptors(&limits).ok_or_else(|| self.strange("limits"))
    }

    /// The process that listens on this TCP port of this machine.
    pub(crate) fn listening_on(port: u16) -> Result<Self, Failure> {
        let unknown =
            || Failure::setup(format!("no process that listens on TCP port {port} can be seen; give it with --pid"));
        let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .find_map(|table| listener(&table, port))
            .ok_or_else(unknown)?;
        let socket = format!("socket:[{inode}]");
        let processes = fs::read_dir("/proc").map_err(Failure::io("/proc"))?;
        processes
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .find(|pid: &u32| holds(*pid, &socket))
            .map(Self)
            .ok_or_else(unknown)
    }

    fn read(self, file: &str) -> Result<String, Failure> {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(&path).map_err(Failure::io(path))
    }

    fn strange(self, file: &str) -> Failure {
        Failure::setup(format!("/proc/{}/{file} is not as expected", self.0))
    }
}

/// User and system time of the calling thread since its start.
pub(crate) fn thread_cpu() -> Result<Duration, Failure> {
    let path = "/proc/thread-self/stat";
    let stat = fs::read_to_string(path).map_err(Failure::io(path))?;
    cpu(&stat).ok_or_else(|| Failure::setup(format!("{path} is not as expected")))
}

/// Whether a process has this descriptor open; processes of others cannot be looked into and have not.
fn holds(pid: u32, socket: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors
        .filter_map(Result::ok)
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == socket))
}

fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// Fields 14 and 15; the name before them is in brackets and may hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1_000 / TICKS_PER_SECOND))
}

fn descriptors(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// The inode of the socket that listens on a port (state 0A), from a table of `/proc/net`.
fn listener(table: &str, port: u16) -> Option<u64> {
    let wanted = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let listens = fields.get(1)?.ends_with(&wanted) && *fields.get(3)? == "0A";
        if listens { fields.get(9)?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read() {
        assert_eq!(kilobytes("Name:\tx\nVmRSS:\t   12 kB\n", "VmRSS:"), Some(12 * 1024));
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
        assert_eq!(
            descriptors("Limit  Soft\nMax open files            1024                 4096   files\n"),
            Some(1024)
        );
        let table = "  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 4711 1\n";
        assert_eq!(listener(table, 8080), Some(4711));
        assert_eq!(listener(table, 8081), None);
    }

    #[test]
    fn this_process_is_found_by_its_port() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = Process::listening_on(socket.local_addr().unwrap().port()).unwrap();
        assert_eq!(found, Process::this());
        assert!(found.sample().unwrap().rss > 0);
        assert!(found.descriptors_max().unwrap() >= found.descriptors().unwrap());
        assert!(found.descriptors().unwrap() > 2);
    }
}
