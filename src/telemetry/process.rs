//! What the process takes of the machine, and how close its memory is to its limit.

use std::io;
use std::time::Duration;

use tokio::sync::watch;

use super::metrics;
use crate::tasks::Tasks;

/// How often the process is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The ticks of `/proc/<pid>/stat` in a second: fixed for user space on Linux (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// Shares of the limit in percent at which a level begins and, lower, at which it ends, so that it does not flutter.
const REFUSE_FROM: u64 = 85;
const REFUSE_UNTIL: u64 = 80;
const SHED_FROM: u64 = 95;
const SHED_UNTIL: u64 = 90;

/// The memory guard's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub resident_bytes: u64,
    pub level: MemoryLevel,
}

/// What resident memory asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryLevel {
    Normal,
    /// New sessions are refused: 85 % of the limit and more, until it is under 80 %.
    Refuse,
    /// The heaviest sessions are closed resumably: 95 % and more, until it is under 90 %.
    Shed,
}

impl MemoryLevel {
    /// The level after `self` when `resident` of `limit` bytes are in use.
    pub fn next(self, resident: u64, limit: u64) -> Self {
        let percent = |share: u64| u128::from(resident) * 100 >= u128::from(limit) * u128::from(share);
        let shed = percent(if self == MemoryLevel::Shed { SHED_UNTIL } else { SHED_FROM });
        let refuse = percent(if self == MemoryLevel::Normal { REFUSE_FROM } else { REFUSE_UNTIL });
        match (shed, refuse) {
            (true, _) => MemoryLevel::Shed,
            (false, true) => MemoryLevel::Refuse,
            (false, false) => MemoryLevel::Normal,
        }
    }
}

/// Keeps the process's gauges and the returned view fresh until the tasks are shut down. `limit_bytes` is
/// `MEMORY_LIMIT_MB`.
pub fn watch(tasks: &Tasks, limit_bytes: u64) -> watch::Receiver<Memory> {
    metrics::memory_limit_bytes().set(limit_bytes as f64);
    let (sender, receiver) = watch::channel(Memory { resident_bytes: 0, level: MemoryLevel::Normal });
    let stop = tasks.token();
    tasks.spawn("process_watch", async move {
        loop {
            // Reading /proc can take milliseconds with many descriptors, which no session should wait for.
            match tokio::task::spawn_blocking(Usage::read).await {
                Ok(Ok(usage)) => tell(&sender, usage, limit_bytes),
                Ok(Err(error)) => tracing::debug!(%error, "/proc/self cannot be read"),
                Err(error) => tracing::debug!(%error, "/proc/self was not read"),
            }
            if stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
                return;
            }
        }
    });
    receiver
}

fn tell(sender: &watch::Sender<Memory>, usage: Usage, limit_bytes: u64) {
    metrics::process_resident_bytes().set(usage.resident_bytes as f64);
    metrics::process_cpu_seconds().set(usage.cpu_seconds);
    metrics::process_open_descriptors().set(usage.open_descriptors as f64);
    let before = sender.borrow().level;
    let level = before.next(usage.resident_bytes, limit_bytes);
    if level != before {
        let resident_mib = usage.resident_bytes >> 20;
        let limit_mib = limit_bytes >> 20;
        match level {
            MemoryLevel::Normal => tracing::info!(resident_mib, limit_mib, "memory is enough again"),
            MemoryLevel::Refuse => tracing::warn!(resident_mib, limit_mib, "memory is short, new sessions are refused"),
            MemoryLevel::Shed => tracing::warn!(resident_mib, limit_mib, "memory ends, the heaviest sessions are shed"),
        }
    }
    sender.send_replace(Memory { resident_bytes: usage.resident_bytes, level });
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Usage {
    resident_bytes: u64,
    cpu_seconds: f64,
    open_descriptors: u64,
}

impl Usage {
    fn read() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let missing = || io::Error::other("a field is missing");
        Ok(Self {
            resident_bytes: resident_bytes(&status).ok_or_else(missing)?,
            cpu_seconds: cpu_seconds(&stat).ok_or_else(missing)?,
            open_descriptors: open_descriptors()?,
        })
    }
}

/// `VmRSS:     1234 kB` of `/proc/<pid>/status`.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Fields 14 and 15 (user and system time) of `/proc/<pid>/stat`. The second field is the command's name in brackets and may
/// hold spaces and brackets itself.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

/// Newer kernels (6.2) tell the number as the directory's size; older ones want it counted.
fn open_descriptors() -> io::Result<u64> {
    match std::fs::metadata("/proc/self/fd")?.len() {
        0 => Ok(std::fs::read_dir("/proc/self/fd")?.count() as u64),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MemoryLevel::{Normal, Refuse, Shed};

    #[test]
    fn levels_begin_at_their_share_and_end_below_it() {
        for (before, percent, after) in [
            (Normal, 84, Normal),
            (Normal, 85, Refuse),
            (Normal, 94, Refuse),
            (Normal, 95, Shed),
            (Refuse, 84, Refuse),
            (Refuse, 80, Refuse),
            (Refuse, 79, Normal),
            (Refuse, 94, Refuse),
            (Refuse, 95, Shed),
            (Shed, 94, Shed),
            (Shed, 90, Shed),
            (Shed, 89, Refuse),
            (Shed, 80, Refuse),
            (Shed, 79, Normal),
        ] {
            assert_eq!(before.next(percent, 100), after, "{before:?} at {percent} %");
        }
        assert_eq!(Normal.next(849, 1000), Normal, "one byte below");
        assert_eq!(Normal.next(850, 1000), Refuse);
        assert_eq!(Normal.next(u64::MAX, u64::MAX), Shed, "no overflow");
    }

    #[test]
    fn the_kernels_texts_are_read() {
        assert_eq!(resident_bytes("Name:\tveza\nVmRSS:\t    1234 kB\nThreads: 3\n"), Some(1234 * 1024));
        assert_eq!(resident_bytes("Name:\tveza\n"), None);
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("42 (veza) S 1"), None);
    }

    #[tokio::test]
    async fn this_process_is_seen() {
        let tasks = Tasks::new();
        let mut memory = watch(&tasks, u64::MAX);
        memory.changed().await.unwrap();
        assert!(memory.borrow().resident_bytes > 1024 * 1024);
        assert_eq!(memory.borrow().level, Normal);
        let usage = Usage::read().unwrap();
        assert!(usage.open_descriptors >= 3 && usage.cpu_seconds >= 0.0, "{usage:?}");

        let mut small = watch(&tasks, 1024);
        small.changed().await.unwrap();
        assert_eq!(small.borrow().level, Shed);
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}
