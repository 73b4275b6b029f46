//! Rooms that talk, in an open loop: messages are published at fixed moments whatever the server does, and their times
//! count from those moments, so that a server that stalls is not spared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::ValueEnum;
use futures_util::{StreamExt, TryStreamExt};
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use veza_client::proto::v1::client_frame::Command;
use veza_client::proto::v1::{CreateRoom, Delivery, JoinRoom, Publish, Published, reply};
use veza_client::room::RoomLog;
use veza_client::{Connection, Error, Pushes, Transport};

use crate::crowd::Opening;
use crate::idle::{check_descriptors, positive};
use crate::member::{Member, Seen, Tally, body};
use crate::process::{Process, Sample};
use crate::report::{self, Report, say};
use crate::schedule::Schedule;
use crate::site::{Carrier, Site, SiteArgs};
use crate::{Failure, tokens};

/// Publishes that wait for their acknowledgement; beyond it the server is far behind and the run has failed.
const IN_FLIGHT_MAX: usize = 20_000;
/// Joins under way at once.
const JOINS: usize = 32;
/// After the last publish: for acknowledgements, then for deliveries.
const FINISH_WITHIN: Duration = Duration::from_secs(20);
/// After the last expected delivery: what comes still comes too often.
const LINGER: Duration = Duration::from_millis(500);
/// The part of a connection's quota that the schedule may use: moments are even, arrivals are not.
const QUOTA_SHARE: f64 = 0.9;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rooms: u32,
    /// Members of each room, each on a connection of its own. All of them publish.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) members: u32,
    /// Messages published a second, over all rooms.
    #[arg(long, value_parser = positive)]
    pub(crate) rate: f64,
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub(crate) seconds: u32,
    /// Seconds before the timed part, at the same rate: counted, not timed.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=60))]
    pub(crate) warmup: u32,
    #[arg(long, value_enum, default_value_t = Carriers::Mix)]
    pub(crate) transport: Carriers,
    /// Ask for deliveries by datagram where the link has them, repaired by stream.
    #[arg(long)]
    pub(crate) fast: bool,
    /// Throw away this share of the deliveries that may come by datagram, so that repairs have something to do.
    #[arg(long, default_value_t = 0.0, requires = "fast", value_parser = share)]
    pub(crate) lose: f64,
    /// A message's body, bytes.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    pub(crate) body: u32,
}

fn share(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.0..=0.5).contains(&number) { Ok(number) } else { Err("from 0 to 0.5".into()) }
}

/// Which transports the members take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Carriers {
    /// WebTransport, QUIC and WebSocket in turn, in every room.
    Mix,
    Wt,
    Quic,
    Ws,
    Wss,
}

impl Carriers {
    pub(crate) fn carriers(self, websocket: Carrier) -> Vec<Carrier> {
        match self {
            Carriers::Mix => vec![Carrier::Wt, Carrier::Quic, websocket],
            Carriers::Wt => vec![Carrier::Wt],
            Carriers::Quic => vec![Carrier::Quic],
            Carriers::Ws => vec![Carrier::Ws],
            Carriers::Wss => vec![Carrier::Wss],
        }
    }
}

pub(crate) async fn run(args: Args) -> Result<Report, Failure> {
    let site = Site::find(&args.site).await?;
    let carriers = args.transport.carriers(site.websocket());
    let (rooms, members) = (args.rooms as usize, args.members as usize);
    let count = rooms * members;
    for carrier in &carriers {
        site.expect(*carrier)?;
        check_descriptors(*carrier, site.process, count.div_ceil(carriers.len()) as u64)?;
    }
    let tokens = tokens::fetch(&site.server, args.site.token_command.as_deref(), "load", count).await?;
    let delivery = if args.fast { Delivery::Fast } else { Delivery::Unspecified };
    // Connection `n` is member `n / rooms` of room `n % rooms`, so that messages that follow each other go to other rooms.
    let (sessions, names, logs) = rooms_with_logs(&site, tokens, args.transport, rooms, delivery, QUEUE).await?;
    check_quota(&sessions, args.rate)?;
    let parameters = json!({
        "rooms": args.rooms, "members": args.members, "rate": args.rate, "seconds": args.seconds,
        "warmup_s": args.warmup, "transport": args.transport, "fast": args.fast, "lose": args.lose, "body_bytes": args.body,
        "sockets": args.site.sockets,
    });
    let report = Report::new("chat", args.site.json.clone(), parameters, site.server.version());
    let load = Load { names, schedule: Schedule::new(args.rate), body: args.body as usize, server: site.process };
    let report = load.run(report, sessions, logs, &args).await?;
    site.endpoints.wait_closed().await;
    Ok(report)
}

/// Deliveries that a member's link may leave unread before it is no longer read.
pub(crate) const QUEUE: usize = 4_096;

/// Sessions and the rooms they have joined, in the order of the tokens: session `n` in room `n % rooms`.
pub(crate) async fn rooms_of(
    site: &Site,
    tokens: Vec<String>,
    transport: Carriers,
    rooms: usize,
) -> Result<(Vec<(Connection, Pushes)>, Vec<String>), Failure> {
    let (sessions, names, _) = rooms_with_logs(site, tokens, transport, rooms, Delivery::Unspecified, QUEUE).await?;
    Ok((sessions, names))
}

/// The same, with what each session knows of its room.
pub(crate) async fn rooms_with_logs(
    site: &Site,
    tokens: Vec<String>,
    transport: Carriers,
    rooms: usize,
    delivery: Delivery,
    queue: usize,
) -> Result<(Vec<(Connection, Pushes)>, Vec<String>, Vec<RoomLog>), Failure> {
    let carriers = transport.carriers(site.websocket());
    let sessions = tokens.into_iter().enumerate().map(|(at, token)| {
        let options = veza_client::Options { pushes: queue, ..carriers[at / rooms % carriers.len()].options() };
        (token, options)
    });
    let opening = Opening {
        endpoints: site.endpoints.clone(),
        target: site.target.clone(),
        sessions: sessions.collect(),
        rate: None,
        at_once: 64,
    };
    let crowd = opening.open("opening").await;
    if let Some(complaint) = crowd.complaint() {
        return Err(Failure::setup(format!("not all members could connect: {complaint}")));
    }
    let sessions: Vec<_> = crowd.sessions.into_iter().flatten().collect();
    let names = room_names(rooms);
    let logs = join_all(&sessions, &names, delivery).await?;
    Ok((sessions, names, logs))
}

/// Names that no earlier run has used: the log of each room must hold this run's messages alone.
fn room_names(rooms: usize) -> Vec<String> {
    let run: u32 = rand::random();
    (0..rooms).map(|room| format!("load-{run:08x}-{room}")).collect()
}

fn check_quota(sessions: &[(Connection, Pushes)], rate: f64) -> Result<(), Failure> {
    let quotas = sessions.iter().filter_map(|(connection, _)| connection.welcome().limits.as_ref());
    let Some(quota) = quotas.map(|limits| limits.publish_per_second).min() else { return Ok(()) };
    let share = rate / sessions.len() as f64;
    if share > f64::from(quota) * QUOTA_SHARE {
        return Err(Failure::setup(format!(
            "{share:.1} messages a second and connection are too many for a quota of {quota}: take more members or rooms"
        )));
    }
    Ok(())
}

/// Makes the rooms, then every session joins its own; the logs are in the order of the sessions.
async fn join_all(
    sessions: &[(Connection, Pushes)],
    names: &[String],
    delivery: Delivery,
) -> Result<Vec<RoomLog>, Failure> {
    let failed = |error: Error| Failure::setup(format!("a room could not be entered: {error}"));
    let creating = sessions.iter().zip(names).map(|((connection, _), room)| {
        let create = CreateRoom { room: room.clone(), title: room.clone(), ..CreateRoom::default() };
        connection.command(Command::CreateRoom(create))
    });
    futures_util::stream::iter(creating).buffered(JOINS).try_collect::<Vec<_>>().await.map_err(failed)?;
    let joining = sessions.iter().zip(names.iter().cycle()).map(|((connection, _), room)| async move {
        let join = JoinRoom { room: room.clone(), delivery: delivery.into(), ..JoinRoom::default() };
        let reply::Result::RoomJoined(joined) = connection.command(Command::JoinRoom(join)).await? else {
            return Err(Error::Unexpected);
        };
        let mut log = RoomLog::new(room.clone(), delivery);
        log.settle(&joined);
        Ok(log)
    });
    futures_util::stream::iter(joining).buffered(JOINS).try_collect().await.map_err(failed)
}

struct Load {
    names: Vec<String>,
    schedule: Schedule,
    body: usize,
    server: Option<Process>,
}

/// What the publishers got.
#[derive(Default)]
struct Acknowledged {
    /// Numbers and where they were stored.
    stored: BTreeMap<u64, Published>,
    errors: BTreeMap<String, u64>,
}

impl Load {
    async fn run(
        self,
        mut report: Report,
        sessions: Vec<(Connection, Pushes)>,
        logs: Vec<RoomLog>,
        args: &Args,
    ) -> Result<Report, Failure> {
        let warmup = Duration::from_secs(args.warmup.into());
        let total = self.schedule.total(warmup + Duration::from_secs(args.seconds.into()));
        let tally = Arc::new(Tally::new(self.schedule, self.schedule.total(warmup), 1, 1));
        let publishers: Vec<_> = sessions.iter().map(|(connection, _)| connection.clone()).collect();
        let (stop, stopped) = watch::channel(false);
        let mut watching = JoinSet::new();
        for (at, ((connection, pushes), log)) in sessions.into_iter().zip(logs).enumerate() {
            let room = at % self.names.len();
            // Only where a head is told after the deliveries is the loss of the last one noticed.
            let lose = if connection.transport() == Transport::WebSocket { 0.0 } else { args.lose };
            let member =
                Member { room, connection, pushes, log, tally: tally.clone(), lose, paused: None, stops: false };
            watching.spawn(member.watch(stopped.clone()));
        }

        let sample = || -> Result<(Option<Sample>, Sample), Failure> {
            Ok((self.server.map(Process::sample).transpose()?, Process::this().sample()?))
        };
        let before = sample()?;
        let acks = Arc::new(Mutex::new(report::histogram()));
        let acknowledged = self.publish(&publishers, total, &tally, &acks).await;
        let members = publishers.len() / self.names.len();
        wait_for_deliveries(&tally, acknowledged.stored.len() as u64 * members as u64).await;
        let took = tally.started.elapsed();
        let after = sample()?;
        sleep(LINGER).await;
        stop.send_replace(true);
        let seen: Vec<Seen> = watching.join_all().await;

        report.latency("publish_ack", &acks.lock().expect("no holder panics"));
        report.latency("publish_delivery", &tally.times[0].lock().expect("no holder panics"));
        self.reconcile(&mut report, total, &acknowledged, &seen);
        cpu(&mut report, before, after, took);
        Ok(report)
    }

    /// The open loop. Returns when every publish was answered, or given up.
    async fn publish(
        &self,
        publishers: &[Connection],
        total: u64,
        tally: &Arc<Tally>,
        acks: &Arc<Mutex<Histogram<u64>>>,
    ) -> Acknowledged {
        let mut acknowledged = Acknowledged::default();
        let mut in_flight = JoinSet::new();
        let mut progress = tokio::time::interval(Duration::from_secs(1));
        let mut sent = 0;
        while sent < total && in_flight.len() < IN_FLIGHT_MAX {
            let due = self.schedule.due(tally.started.elapsed()).min(total);
            while sent < due && in_flight.len() < IN_FLIGHT_MAX {
                in_flight.spawn(self.publish_one(publishers, sent, tally, acks));
                sent += 1;
            }
            let next = tally.started + self.schedule.intended(sent);
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                Some(answered) = in_flight.join_next() => acknowledged.take(answered),
                _ = progress.tick() => self.tell(sent, total, &acknowledged, tally, acks),
            }
        }
        if sent < total {
            let error = format!("given up with {IN_FLIGHT_MAX} unanswered publishes; {} never sent", total - sent);
            acknowledged.errors.insert(error, 1);
        }
        let rest = async {
            while let Some(answered) = in_flight.join_next().await {
                acknowledged.take(answered);
            }
        };
        if tokio::time::timeout(FINISH_WITHIN, rest).await.is_err() {
            acknowledged.errors.insert("publishes never answered".into(), in_flight.len() as u64);
        }
        acknowledged
    }

    fn publish_one(
        &self,
        publishers: &[Connection],
        number: u64,
        tally: &Arc<Tally>,
        acks: &Arc<Mutex<Histogram<u64>>>,
    ) -> impl Future<Output = (u64, Result<reply::Result, Error>)> + Send + 'static {
        let at = (number % publishers.len() as u64) as usize;
        let (connection, tally, acks) = (publishers[at].clone(), tally.clone(), acks.clone());
        let publish = Publish {
            room: self.names[at % self.names.len()].clone(),
            cmid: format!("{number}"),
            body: body(number, self.body),
            ..Publish::default()
        };
        async move {
            let answer = connection.command(Command::Publish(publish)).await;
            if answer.is_ok() && number >= tally.timed_from {
                let time = tally.started.elapsed().saturating_sub(tally.schedule.intended(number));
                report::record(&mut acks.lock().expect("no holder panics"), time);
            }
            (number, answer)
        }
    }

    fn tell(&self, sent: u64, total: u64, acknowledged: &Acknowledged, tally: &Tally, acks: &Mutex<Histogram<u64>>) {
        let p99 = |times: &Mutex<Histogram<u64>>| {
            let micros = times.lock().expect("no holder panics").value_at_quantile(0.99);
            Duration::from_micros(micros).as_secs_f64() * 1_000.0
        };
        say(&format!(
            "{:3.0} s: published {sent} of {total}, acknowledged {}, delivered {}, p99 {:.1} ms to the acknowledgement, \
             {:.1} ms to delivery, {} errors",
            tally.started.elapsed().as_secs_f64(),
            acknowledged.stored.len(),
            tally.delivered.load(Ordering::Relaxed),
            p99(acks),
            p99(&tally.times[0]),
            acknowledged.errors.values().sum::<u64>(),
        ));
    }

    /// Every acknowledged message is seen once by every member of its room, and nothing else is.
    fn reconcile(&self, report: &mut Report, total: u64, acknowledged: &Acknowledged, seen: &[Seen]) {
        let rooms = self.names.len();
        let members = seen.len() / rooms;
        let stored = acknowledged.stored.len() as u64;
        let delivered: u64 = seen.iter().map(|member| member.messages.len() as u64).sum();
        let sum = |what: fn(&Seen) -> u64| seen.iter().map(what).sum::<u64>();
        report.figure("published", total);
        report.figure("acknowledged", stored);
        report.figure("expected_deliveries", stored * members as u64);
        report.figure("delivered", delivered);
        report.figure("received_pushes", sum(|member| member.raw));
        report.figure("thrown_away", sum(|member| member.lost));
        report.figure("repairs", sum(|member| member.repairs));
        report.figure("lagging_marks", sum(|member| member.lagging));

        let mut by_room = vec![BTreeSet::new(); rooms];
        let mut sequences = vec![BTreeSet::new(); rooms];
        for (number, published) in &acknowledged.stored {
            let room = (number % seen.len() as u64) as usize % rooms;
            by_room[room].insert(*number);
            sequences[room].insert(published.seq);
        }
        let missing: u64 = seen.iter().map(|m| by_room[m.room].difference(&m.messages).count() as u64).sum();
        let unknown: u64 = seen.iter().map(|m| m.messages.difference(&by_room[m.room]).count() as u64).sum();
        let twice = sum(|member| member.twice);
        let not_dense =
            sequences.iter().filter(|room| room.last().is_some_and(|last| *last != room.len() as u64)).count();
        let duplicates = acknowledged.stored.values().filter(|published| published.duplicate).count();
        for (count, what) in [
            (total - stored, "publishes were not acknowledged"),
            (missing, "deliveries of acknowledged messages are missing"),
            (unknown, "deliveries are of messages that were not acknowledged"),
            (twice, "messages were shown twice"),
            (not_dense as u64, "rooms have holes in their sequence numbers"),
            (duplicates as u64, "first publishes were called duplicates"),
        ] {
            if count > 0 {
                report.problem(format!("{count} {what}"));
            }
        }
        for (error, count) in &acknowledged.errors {
            report.problem(format!("{count} × {error}"));
        }
        let problems: Vec<_> = seen.iter().filter_map(|member| member.problem.as_ref()).collect();
        if let Some(first) = problems.first() {
            report.problem(format!("{} members had a problem, the first: {first}", problems.len()));
        }
    }
}

impl Acknowledged {
    fn take(&mut self, answered: Result<(u64, Result<reply::Result, Error>), tokio::task::JoinError>) {
        let error = match answered {
            Ok((number, Ok(reply::Result::Published(published)))) => {
                self.stored.insert(number, published);
                return;
            }
            Ok((_, Ok(_))) => Error::Unexpected.to_string(),
            Ok((_, Err(error))) => error.to_string(),
            Err(error) => error.to_string(),
        };
        *self.errors.entry(error).or_default() += 1;
    }
}

async fn wait_for_deliveries(tally: &Tally, expected: u64) {
    let arrived = async {
        while tally.delivered.load(Ordering::Relaxed) < expected {
            sleep(Duration::from_millis(10)).await;
        }
    };
    // What has not come by then is told by the reconciliation.
    tokio::time::timeout(FINISH_WITHIN, arrived).await.ok();
}

fn cpu(report: &mut Report, before: (Option<Sample>, Sample), after: (Option<Sample>, Sample), took: Duration) {
    report.decimal("took_s", took.as_secs_f64());
    if let (Some(before), Some(after)) = (before.0, after.0) {
        report.decimal("server_cpu_s", after.cpu.saturating_sub(before.cpu).as_secs_f64());
        report.decimal("server_rss_mib", after.rss as f64 / (1024.0 * 1024.0));
    }
    report.decimal("tool_cpu_s", after.1.cpu.saturating_sub(before.1.cpu).as_secs_f64());
}
