//! What the kernel saw: no message leaves the server, as acknowledgement or delivery, before the disk has it.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use veza_client::Connection;
use veza_client::proto::v1::{Ping, Publish, client_frame::Command};

use crate::carrier::{Carrier, Stage};
use crate::server::Start;

const CLIENTS: usize = 50;
const EACH: usize = 40;
const ALL: usize = CLIENTS * EACH;
/// Clients in one room: each message is acknowledged once and delivered five times.
const TOGETHER: usize = 5;
/// Publishes of one client under way.
const IN_FLIGHT: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_before_its_sync_and_syncs_are_shared() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let process = traced(&trace).run();
    let ready = process.get("/health/ready");
    assert!(ready.status == 200 && ready.body.contains("synchronous=FULL"), "{ready:?}");
    let mut stage = Stage::new(process, Carrier::WebSocketJson).await;
    let connections = join_all((0..CLIENTS).map(|client| join(&stage, client))).await;
    join_all(connections.iter().enumerate().map(|(client, connection)| publish(connection, client))).await;
    join_all(connections.iter().map(|connection| connection.command(Command::Ping(Ping::default())))).await;
    drop(connections);
    assert_eq!(stage.process.stop(), Some(0));

    let seen = Seen::read(&complete(&trace));
    assert_eq!(seen.early, BTreeSet::new(), "left the server before a sync of the log that holds them");
    assert_eq!(seen.acknowledged.len(), ALL, "the trace does not show every acknowledgement");
    assert!(seen.deliveries > ALL * (TOGETHER - 1), "the trace shows {} deliveries", seen.deliveries);
    assert!(seen.syncs > 0 && seen.syncs < ALL / 2, "{} syncs for {ALL} messages", seen.syncs);
    eprintln!("{} syncs for {ALL} messages of {CLIENTS} clients", seen.syncs);
}

/// A server whose writes, sends and syncs are written down.
fn traced(trace: &Path) -> Start {
    let found = std::process::Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    assert!(
        found.is_ok_and(|status| status.success()),
        "the durability test needs strace: install the package of that name (`make test` does)"
    );
    let calls = "trace=write,writev,pwrite64,pwritev,sendto,sendmsg,sendmmsg,fsync,fdatasync";
    Start::new().talkative().under(&[
        "strace",
        "-D",
        "-f",
        "--seccomp-bpf",
        "-y",
        "-s",
        "262144",
        "-e",
        calls,
        "-o",
        trace.to_str().unwrap(),
    ])
}

async fn join(stage: &Stage, client: usize) -> Connection {
    // Nobody reads the pushes here; the kernel sees them all the same.
    stage.player_in(&format!("user-{client}"), &room_of(client)).await.connection
}

fn room_of(client: usize) -> String {
    format!("room-{}", client / TOGETHER)
}

/// Everything one client has to say.
async fn publish(connection: &Connection, client: usize) {
    let publishes = (0..EACH).map(|at| {
        let mark = format!("mark-{:06}", client * EACH + at);
        connection.command(Command::Publish(Publish {
            room: room_of(client),
            cmid: mark.clone(),
            body: mark,
            ..Publish::default()
        }))
    });
    stream::iter(publishes).buffered(IN_FLIGHT).for_each(async |published| drop(published.unwrap())).await;
}

/// The whole trace, once the tracer has seen the server's end.
fn complete(trace: &Path) -> String {
    let begun = Instant::now();
    loop {
        let text = String::from_utf8_lossy(&std::fs::read(trace).unwrap()).into_owned();
        if text.trim_end().ends_with("+++ exited with 0 +++") {
            return text;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "the tracer did not see the end of the server");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What the trace tells, in the order of its lines: a call is traced before the kernel does it, and its result before its
/// thread goes on, so what one line caused stands below it.
#[derive(Default)]
struct Seen {
    /// Marks in completed writes to the write-ahead log that no sync covers yet.
    written: BTreeSet<String>,
    /// What each thread's unfinished sync will cover.
    syncing: HashMap<String, BTreeSet<String>>,
    /// What each thread's unfinished write to the log holds.
    writing: HashMap<String, BTreeSet<String>>,
    durable: BTreeSet<String>,
    syncs: usize,
    acknowledged: BTreeSet<String>,
    deliveries: usize,
    early: BTreeSet<String>,
}

impl Seen {
    fn read(trace: &str) -> Self {
        let mut seen = Self::default();
        for line in trace.lines() {
            let (thread, rest) = line.split_once(' ').unwrap_or_default();
            seen.line(thread, rest.trim_start());
        }
        seen
    }

    fn line(&mut self, thread: &str, call: &str) {
        if let Some(resumed) = call.strip_prefix("<... ") {
            self.done(thread, resumed.ends_with("= 0"));
            return;
        }
        let Some((name, arguments)) = call.split_once('(') else { return };
        let (target, data) = arguments.split_once('>').unwrap_or((arguments, ""));
        let unfinished = call.ends_with("<unfinished ...>");
        if target.ends_with("veza.db-wal") {
            match name {
                "fsync" | "fdatasync" => self.syncing.insert(thread.to_owned(), std::mem::take(&mut self.written)),
                _ => self.writing.insert(thread.to_owned(), marks(data).collect()),
            };
            if !unfinished {
                self.done(thread, call.ends_with("= 0"));
            }
        } else if target.contains("<socket:") || target.contains("<TCP:") {
            self.sent(data);
        }
    }

    /// The thread's call on the log has returned.
    fn done(&mut self, thread: &str, success: bool) {
        self.written.extend(self.writing.remove(thread).unwrap_or_default());
        if let Some(covered) = self.syncing.remove(thread) {
            assert!(success, "a sync of the log failed");
            self.syncs += 1;
            self.durable.extend(covered);
        }
    }

    /// Bytes on their way to a client: replies and deliveries, several in one call.
    fn sent(&mut self, data: &str) {
        for mark in marks(data) {
            if !self.durable.contains(&mark) {
                self.early.insert(mark);
            }
        }
        for reply in data.split("\\\"published\\\":").skip(1) {
            self.acknowledged.extend(marks(reply).next());
        }
        self.deliveries += data.matches("\\\"body\\\":").count();
    }
}

fn marks(text: &str) -> impl Iterator<Item = String> {
    text.match_indices("mark-").filter_map(|(at, _)| text.get(at..at + 11).map(str::to_owned))
}
