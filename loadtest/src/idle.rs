//! Sessions that do nothing: what each costs the server.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;
use tokio::time::sleep;
use veza_client::proto::v1::client_frame::Command;
use veza_client::proto::v1::{CreateRoom, ErrorCode, JoinRoom};
use veza_client::{Connection, Error};

use crate::crowd::{Crowd, Opening};
use crate::process::{Process, Sample};
use crate::report::{Report, say};
use crate::site::{Carrier, Site, SiteArgs, enough_descriptors};
use crate::{Failure, floor, tokens};

/// Sessions that share a room with `--rooms`.
const PER_ROOM: usize = 20;
/// Joins under way at once.
const JOINS: usize = 64;
/// Sessions closed every ten milliseconds.
const CLOSES: usize = 50;
/// Memory counts as settled when it changes by less than this within a second, or after so many.
const SETTLED: f64 = 0.002;
const SETTLE_SECONDS_MAX: u32 = 15;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    site: SiteArgs,
    #[arg(long, value_enum)]
    transport: Carrier,
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    sessions: u32,
    #[command(flatten)]
    pace: PaceArgs,
    /// Rooms that each session joins, shared by twenty sessions.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=16))]
    rooms: u32,
    /// Sessions of one user.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    per_user: u32,
    /// Afterwards the same with a bare server, and the difference: what is the server's own beyond the transport.
    #[arg(long)]
    floor: bool,
}

/// How sessions are opened and held.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PaceArgs {
    /// Handshakes begun a second; as fast as they go when left out.
    #[arg(long, value_parser = positive)]
    pub(crate) rate: Option<f64>,
    /// Handshakes under way at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub(crate) at_once: u16,
    /// Seconds to do nothing.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub(crate) hold: u32,
}

pub(crate) fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if number > 0.0 && number <= 1_000_000.0 { Ok(number) } else { Err("more than 0, at most a million".into()) }
}

pub(crate) async fn run(args: Args) -> Result<Report, Failure> {
    let site = Site::find(&args.site).await?;
    site.expect(args.transport)?;
    let count = args.sessions as usize;
    check_descriptors(args.transport, site.process, args.sessions.into())?;
    let parameters = json!({
        "transport": args.transport, "sessions": args.sessions, "rate": args.pace.rate, "at_once": args.pace.at_once,
        "hold_s": args.pace.hold, "rooms": args.rooms, "per_user": args.per_user, "sockets": args.site.sockets,
    });
    let users = count.div_ceil(args.per_user as usize);
    let tokens = tokens::fetch(&site.server, args.site.token_command.as_deref(), "idle", users).await?;
    let sessions = (0..count).map(|at| (tokens[at % users].clone(), args.transport.options())).collect();
    let opening = Opening {
        endpoints: site.endpoints.clone(),
        target: site.target.clone(),
        sessions,
        rate: args.pace.rate,
        at_once: args.pace.at_once.into(),
    };
    let mut report = Report::new("idle", args.site.json.clone(), parameters, site.server.version());
    measure(&mut report, opening, site.process, &args.pace, args.rooms as usize).await?;
    if args.floor {
        let bare = floor::measure(args.transport, args.sessions, &args.pace, args.site.sockets).await?;
        report.absorb("floor_", bare);
        let cost = |name| report.get(name);
        if let (Some(ours), Some(bare)) = (cost("server_bytes_per_session"), cost("floor_server_bytes_per_session")) {
            report.decimal("own_bytes_per_session", ours - bare);
        }
    }
    Ok(report)
}

/// WebSocket sessions take a descriptor each, here and at the server.
pub(crate) fn check_descriptors(carrier: Carrier, server: Option<Process>, sessions: u64) -> Result<(), Failure> {
    let sockets = match carrier {
        Carrier::Ws | Carrier::Wss => sessions,
        Carrier::Wt | Carrier::Quic => 0,
    };
    enough_descriptors(Process::this(), "this load test", sockets)?;
    server.map_or(Ok(()), |server| enough_descriptors(server, "the server", sockets))
}

/// Opens, waits until memory has settled, holds, closes; and reports what that took.
pub(crate) async fn measure(
    report: &mut Report,
    opening: Opening,
    server: Option<Process>,
    pace: &PaceArgs,
    rooms: usize,
) -> Result<(), Failure> {
    let sample = || server.map(Process::sample).transpose();
    let count = opening.sessions.len();
    let before = sample()?;
    let own_before = Process::this().sample()?;

    let mut crowd = opening.open("opening").await;
    let opened = sample()?;
    let own_opened = Process::this().sample()?;
    let sessions = hold_of(&mut crowd);
    if rooms > 0 {
        join_rooms(report, &sessions, rooms).await;
    }
    settle(server).await?;
    let settled = sample()?;
    say(&format!("holding {} sessions for {} s", sessions.len(), pace.hold));
    sleep(Duration::from_secs(pace.hold.into())).await;
    let held = sample()?;
    let own_held = Process::this().sample()?;
    let lost: Vec<_> = sessions.iter().filter_map(|session| session.ended().map(ToString::to_string)).collect();

    report.figure("sessions", count);
    report.figure("opened", crowd.handshakes.len());
    report.figure("failed", crowd.failed());
    report.figure("lost_while_idle", lost.len());
    report.decimal("opening_s", crowd.took.as_secs_f64());
    report.decimal("handshakes_per_second", crowd.handshakes.len() as f64 / crowd.took.as_secs_f64());
    report.latency("handshake", &crowd.handshakes);
    if let (Some(before), Some(opened), Some(settled), Some(held)) = (before, opened, settled, held) {
        figures_of_server(report, [before, opened, settled, held], sessions.len(), pace.hold);
    }
    cpu(report, "tool_cpu_s_opening", own_before, own_opened);
    cpu(report, "tool_cpu_s_holding", own_opened, own_held);

    close(sessions).await;
    settle(server).await?;
    if let Some(closed) = sample()? {
        report.decimal("server_rss_mib_closed", mib(closed.rss));
    }
    if let Some(complaint) = crowd.complaint() {
        report.problem(format!("not all sessions could be opened: {complaint}"));
        if complaint.contains("429") || complaint.contains("LIMIT") || complaint.contains("too_many") {
            say("the server limits connections per address and per user: see loadtest/README.md");
        }
    }
    if let Some(first) = lost.first() {
        report.problem(format!("{} sessions ended while idle, the first: {first}", lost.len()));
    }
    Ok(())
}

/// The connections alone: nobody reads their pushes, so they are discarded as they come.
fn hold_of(crowd: &mut Crowd) -> Vec<Connection> {
    crowd.sessions.drain(..).flatten().map(|(connection, _pushes)| connection).collect()
}

/// Closes at a pace: a burst of farewells by UDP would lose some, and their sessions would stay until they time out.
async fn close(mut sessions: Vec<Connection>) {
    while !sessions.is_empty() {
        sessions.truncate(sessions.len().saturating_sub(CLOSES));
        sleep(Duration::from_millis(10)).await;
    }
}

fn figures_of_server(report: &mut Report, samples: [Sample; 4], sessions: usize, hold: u32) {
    let [before, opened, settled, held] = samples;
    let sessions = sessions.max(1) as f64;
    report.decimal("server_rss_mib_before", mib(before.rss));
    report.decimal("server_rss_mib_settled", mib(settled.rss));
    report.decimal("server_rss_mib_held", mib(held.rss));
    report.decimal("server_bytes_per_session", settled.rss.saturating_sub(before.rss) as f64 / sessions);
    cpu(report, "server_cpu_s_opening", before, opened);
    let opening = opened.cpu.saturating_sub(before.cpu).as_secs_f64();
    report.decimal("server_cpu_ms_per_handshake", opening * 1_000.0 / sessions);
    cpu(report, "server_cpu_s_holding", settled, held);
    if hold > 0 {
        let share = held.cpu.saturating_sub(settled.cpu).as_secs_f64() / f64::from(hold);
        report.decimal("server_cpu_percent_holding", share * 100.0);
    }
}

fn cpu(report: &mut Report, name: &str, from: Sample, to: Sample) {
    report.decimal(name, to.cpu.saturating_sub(from.cpu).as_secs_f64());
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

/// Waits until the server's memory stands still.
async fn settle(server: Option<Process>) -> Result<(), Failure> {
    let Some(server) = server else { return Ok(()) };
    let mut last = server.sample()?.rss;
    for _ in 0..SETTLE_SECONDS_MAX {
        sleep(Duration::from_secs(1)).await;
        let now = server.sample()?.rss;
        if now.abs_diff(last) as f64 <= last as f64 * SETTLED {
            break;
        }
        last = now;
    }
    Ok(())
}

/// Session `n` joins the rooms of its group of twenty.
async fn join_rooms(report: &mut Report, sessions: &[Connection], rooms: usize) {
    let joins = sessions.iter().enumerate().flat_map(|(at, session)| {
        (0..rooms).map(move |room| (session.clone(), format!("idle-{}-{room}", at / PER_ROOM)))
    });
    let joined = futures_util::stream::iter(joins)
        .map(|(session, room)| async move { join(&session, room).await })
        .buffer_unordered(JOINS)
        .filter_map(|outcome| std::future::ready(outcome.err()))
        .collect::<Vec<_>>();
    let failed = joined.await;
    report.figure("joined", sessions.len() * rooms - failed.len());
    if let Some(error) = failed.first() {
        report.problem(format!("{} joins failed, the first: {error}", failed.len()));
    }
}

/// Joins a room that the first of its group makes.
async fn join(session: &Connection, room: String) -> Result<(), Error> {
    let create = CreateRoom { room: room.clone(), title: room.clone(), ..CreateRoom::default() };
    match session.command(Command::CreateRoom(create)).await {
        Err(error) if !error.is(ErrorCode::AlreadyExists) => return Err(error),
        Ok(_) | Err(_) => {}
    }
    session.command(Command::JoinRoom(JoinRoom { room, ..JoinRoom::default() })).await.map(|_joined| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_more_than_nothing() {
        assert_eq!(positive("0.5"), Ok(0.5));
        assert!(positive("0").is_err());
        assert!(positive("1000001").is_err());
        assert!(positive("fast").is_err());
    }
}
