//! How many durable publishes a server takes: the highest rate at which the delivery's p99 stays below a bound, what it
//! takes when nobody waits, and how that compares with bare inserts into the same database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use tokio::task::JoinSet;
use veza_client::Connection;
use veza_client::proto::v1::client_frame::Command;
use veza_client::proto::v1::{Publish, reply};

use crate::chat::{self, Carriers};
use crate::idle::positive;
use crate::insert_floor;
use crate::member::body;
use crate::report::{self, Report, say};
use crate::site::{Site, SiteArgs};
use crate::{Failure, tokens};

/// The steps towards the ceiling, and between the last good and the first bad one.
const STEP: f64 = 1.5;
const BISECTIONS: u32 = 3;
const STEPS_MAX: u32 = 12;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    site: SiteArgs,
    /// Rooms of two.
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    rooms: u32,
    /// The first rate that is tried, messages a second.
    #[arg(long, default_value_t = 1_000.0, value_parser = positive)]
    from: f64,
    /// Up to which the p99 of publish to delivery counts as good, milliseconds.
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    p99_ms: f64,
    /// Seconds of each step, besides a warm-up of two.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    #[arg(long, value_enum, default_value_t = Carriers::Ws)]
    transport: Carriers,
    /// Publishes that each member keeps under way at saturation.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    in_flight: u32,
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    body: u32,
    /// Bare inserts into a scratch table here, for comparison: `sqlite://FILE` (a new file on the same disk) or
    /// `postgresql://…` (the server's own).
    #[arg(long, value_name = "URL")]
    floor: Option<String>,
    /// Entries of one commit of the bare inserts.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    batch: u32,
}

pub(crate) async fn run(args: Args) -> Result<Report, Failure> {
    let parameters = json!({
        "rooms": args.rooms, "members": 2, "p99_ms": args.p99_ms, "seconds": args.seconds, "transport": args.transport,
        "in_flight": args.in_flight, "body_bytes": args.body, "floor": args.floor.as_deref().map(insert_floor::kind),
        "batch": args.batch,
    });
    let version = Site::find(&args.site).await?.server.version().to_owned();
    let mut report = Report::new("ceiling", args.site.json.clone(), parameters, &version);
    let (mut good, mut bad, mut rate) = (None, None, args.from);
    for _ in 0..STEPS_MAX {
        let step = args.step(rate).await?;
        let (p99, holds) = (step.get("publish_delivery_ms_p99"), args.holds(&step));
        say(&format!(
            "{rate:.0} a second: p99 {} ms, {}",
            p99.unwrap_or_default(),
            if holds { "good" } else { "too much" }
        ));
        if holds {
            good = Some((rate, step));
        } else {
            bad = Some(rate);
        }
        rate = match (&good, bad) {
            (Some((good, _)), Some(bad)) if bad / good < 1.0 + (STEP - 1.0) / f64::from(2_u32.pow(BISECTIONS)) => break,
            (Some((good, _)), Some(bad)) => f64::midpoint(*good, bad),
            (Some((good, _)), None) => good * STEP,
            (None, _) => rate / STEP,
        };
    }
    match good {
        Some((rate, step)) => {
            report.decimal("good_rate", rate);
            for name in
                ["publish_ack_ms_p50", "publish_ack_ms_p99", "publish_delivery_ms_p50", "publish_delivery_ms_p99"]
            {
                report.decimal(format!("good_{name}"), step.get(name).unwrap_or_default());
            }
        }
        None => report.problem(format!("no rate had a p99 below {} ms", args.p99_ms)),
    }
    let saturated = args.saturate(&mut report).await?;
    if let Some(url) = &args.floor {
        let floor = insert_floor::measure(url, args.batch, args.seconds, args.body as usize).await?;
        report.decimal("floor_inserts_per_second", floor.per_second());
        report.decimal("saturation_of_floor", saturated / floor.per_second());
        if let Some(rate) = report.get("good_rate") {
            report.decimal("good_of_floor", rate / floor.per_second());
        }
    }
    Ok(report)
}

impl Args {
    /// One open-loop run at this rate.
    async fn step(&self, rate: f64) -> Result<Report, Failure> {
        let args = chat::Args {
            site: SiteArgs { json: None, ..self.site.clone() },
            rooms: self.rooms,
            members: 2,
            rate,
            seconds: self.seconds,
            warmup: 2,
            transport: self.transport,
            fast: false,
            lose: 0.0,
            body: self.body,
        };
        chat::run(args).await
    }

    fn holds(&self, step: &Report) -> bool {
        step.is_good() && step.get("publish_delivery_ms_p99").is_some_and(|p99| p99 <= self.p99_ms)
    }

    /// A closed loop: every member keeps so many publishes under way. Gives the acknowledged a second.
    async fn saturate(&self, report: &mut Report) -> Result<f64, Failure> {
        let site = Site::find(&self.site).await?;
        let count = self.rooms as usize * 2;
        let tokens = tokens::fetch(&site.server, self.site.token_command.as_deref(), "load", count).await?;
        let (sessions, names) = chat::rooms_of(&site, tokens, self.transport, self.rooms as usize).await?;
        // Deliveries are discarded as they come: whoever reads them competes with the server for the machine.
        let sessions: Vec<Connection> = sessions.into_iter().map(|(connection, _pushes)| connection).collect();
        let before = site.process.map(|process| process.sample()).transpose()?;
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let times = Arc::new(std::sync::Mutex::new(report::histogram()));
        let mut members = JoinSet::new();
        let begun = Instant::now();
        for (at, connection) in sessions.iter().enumerate() {
            let talk = Saturating {
                connection: connection.clone(),
                room: names[at % names.len()].clone(),
                in_flight: self.in_flight as usize,
                body: self.body as usize,
                stop: stop.clone(),
                acknowledged: acknowledged.clone(),
                times: times.clone(),
            };
            members.spawn(talk.run());
        }
        tokio::time::sleep(Duration::from_secs(self.seconds.into())).await;
        let (took, stored) = (begun.elapsed(), acknowledged.load(Ordering::Relaxed));
        let after = site.process.map(|process| process.sample()).transpose()?;
        stop.store(true, Ordering::Relaxed);
        let errors: Vec<String> = members.join_all().await.into_iter().flatten().collect();
        let per_second = stored as f64 / took.as_secs_f64();
        report.decimal("saturation_per_second", per_second);
        report.latency("saturation_ack", &times.lock().expect("no holder panics"));
        if let (Some(before), Some(after)) = (before, after) {
            let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
            report.decimal("saturation_server_cores", cpu / took.as_secs_f64());
        }
        if let Some(first) = errors.first() {
            report.problem(format!("{} members failed at saturation, the first: {first}", errors.len()));
        }
        Ok(per_second)
    }
}

/// One member that never waits.
struct Saturating {
    connection: Connection,
    room: String,
    in_flight: usize,
    body: usize,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    times: Arc<std::sync::Mutex<hdrhistogram::Histogram<u64>>>,
}

impl Saturating {
    /// Until told to stop, or until something fails: what.
    async fn run(self) -> Option<String> {
        let mut open = FuturesUnordered::new();
        let mut number = 0;
        loop {
            while open.len() < self.in_flight && !self.stop.load(Ordering::Relaxed) {
                let publish = Publish {
                    room: self.room.clone(),
                    cmid: format!("{number}"),
                    body: body(number, self.body),
                    ..Publish::default()
                };
                number += 1;
                let (connection, begun) = (self.connection.clone(), Instant::now());
                open.push(async move { (connection.command(Command::Publish(publish)).await, begun.elapsed()) });
            }
            match open.next().await {
                Some((Ok(reply::Result::Published(_)), took)) => {
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    report::record(&mut self.times.lock().expect("no holder panics"), took);
                }
                Some((Ok(other), _)) => return Some(format!("{other:?}")),
                Some((Err(error), _)) => return Some(error.to_string()),
                None => return None,
            }
        }
    }
}
