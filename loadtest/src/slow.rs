//! One of many subscribers stops reading: what that costs the server and the others, and whether it has everything when it
//! reads again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use veza_client::Connection;
use veza_client::proto::v1::client_frame::Command;
use veza_client::proto::v1::{Delivery, Publish, reply};

use crate::chat::{self, Carriers};
use crate::idle::positive;
use crate::member::{Member, Seen, Tally, body};
use crate::report::Report;
use crate::schedule::Schedule;
use crate::site::{Site, SiteArgs};
use crate::{Failure, tokens};

/// All read; one does not; it catches up.
const PARTS: usize = 3;
const TURNS: [&str; PARTS] = ["without", "with", "catching_up"];
/// Of each member: so little that who does not read stops its link.
const QUEUE: usize = 32;
const FINISH_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    site: SiteArgs,
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(3..=10_000))]
    members: u32,
    /// Messages a second.
    #[arg(long, default_value_t = 200.0, value_parser = positive)]
    rate: f64,
    /// Seconds of each part; without, with, and catching up take turns.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    turns: u32,
    #[arg(long, value_enum, default_value_t = Carriers::Wt)]
    transport: Carriers,
    /// Large enough that what is not read exceeds every bound.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    body: u32,
}

pub(crate) async fn run(args: Args) -> Result<Report, Failure> {
    let site = Site::find(&args.site).await?;
    let parameters = json!({
        "members": args.members, "rate": args.rate, "seconds": args.seconds, "turns": args.turns,
        "transport": args.transport, "body_bytes": args.body,
    });
    let mut report = Report::new("slow", args.site.json.clone(), parameters, site.server.version());
    let count = args.members as usize;
    let tokens = tokens::fetch(&site.server, args.site.token_command.as_deref(), "slow", count).await?;
    let (sessions, names, logs) =
        chat::rooms_with_logs(&site, tokens, args.transport, 1, Delivery::Unspecified, QUEUE).await?;

    let schedule = Schedule::new(args.rate);
    let turn = schedule.total(Duration::from_secs(args.seconds.into()));
    let total = turn * PARTS as u64 * u64::from(args.turns);
    let tally = Arc::new(Tally::new(schedule, 0, PARTS, turn));
    let (stop, stopped) = watch::channel(false);
    let (pause, paused) = watch::channel(false);
    let publishers: Vec<Connection> = sessions.iter().skip(1).map(|(connection, _)| connection.clone()).collect();
    let mut watching = JoinSet::new();
    for (at, ((connection, pushes), log)) in sessions.into_iter().zip(logs).enumerate() {
        let paused = (at == 0).then(|| paused.clone());
        let member =
            Member { room: at, connection, pushes, log, tally: tally.clone(), lose: 0.0, paused, stops: at == 0 };
        watching.spawn(member.watch(stopped.clone()));
    }

    let (mut publishing, mut memory) = (JoinSet::new(), [0_u64; PARTS]);
    for number in 0..total {
        sleep_until(tally.started + schedule.intended(number)).await;
        let part = tally.part(number);
        pause.send_if_modified(|paused| std::mem::replace(paused, part == 1) != (part == 1));
        if number % turn == turn - 1
            && let Some(server) = site.process
        {
            memory[part] = memory[part].max(server.sample()?.rss);
        }
        let publisher = publishers[(number % publishers.len() as u64) as usize].clone();
        let publish = Publish {
            room: names[0].clone(),
            cmid: format!("{number}"),
            body: body(number, args.body as usize),
            ..Publish::default()
        };
        publishing.spawn(async move {
            matches!(publisher.command(Command::Publish(publish)).await, Ok(reply::Result::Published(_)))
        });
    }
    pause.send_replace(false);
    let acknowledged = publishing.join_all().await.into_iter().filter(|published| *published).count() as u64;
    let last = Instant::now();
    let everything = async {
        while tally.delivered.load(Ordering::Relaxed) < acknowledged * count as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // What did not come is told below.
    timeout(FINISH_WITHIN, everything).await.ok();
    report.decimal("everything_after_the_last_publish_s", last.elapsed().as_secs_f64());
    stop.send_replace(true);
    let mut seen = watching.join_all().await;
    seen.sort_by_key(|member| member.room);
    figures(&mut report, &tally, memory, site.process.is_some());
    reconcile(&mut report, total, acknowledged, &seen);
    Ok(report)
}

fn figures(report: &mut Report, tally: &Tally, memory: [u64; PARTS], measured: bool) {
    for (part, name) in TURNS.into_iter().enumerate() {
        report.latency(&format!("delivery_{name}"), &tally.times[part].lock().expect("no holder panics"));
        if measured {
            report.decimal(format!("server_rss_mib_{name}"), memory[part] as f64 / (1024.0 * 1024.0));
        }
    }
    if let (Some(without), Some(with)) = (report.get("delivery_without_ms_p99"), report.get("delivery_with_ms_p99")) {
        report.decimal("p99_with_to_without", with / without);
    }
}

fn reconcile(report: &mut Report, total: u64, acknowledged: u64, seen: &[Seen]) {
    report.figure("acknowledged", acknowledged);
    if let Some(slow) = seen.first() {
        report.figure("slow_received", slow.messages.len());
        report.figure("slow_lagging_marks", slow.lagging);
        report.figure("slow_repairs", slow.repairs);
    }
    report.figure("lagging_marks_of_others", seen.iter().skip(1).map(|member| member.lagging).sum::<u64>());
    if acknowledged < total {
        report.problem(format!("{} publishes were not acknowledged", total - acknowledged));
    }
    let all: BTreeSet<u64> = (0..total).collect();
    for member in seen.iter().filter(|member| member.messages != all || member.twice > 0) {
        let missing = all.difference(&member.messages).count();
        report.problem(format!("member {}: {missing} messages missing, {} shown twice", member.room, member.twice));
    }
    for member in seen {
        if let Some(problem) = &member.problem {
            report.problem(format!("member {}: {problem}", member.room));
        }
    }
}
