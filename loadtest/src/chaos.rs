//! Chaos: the real server and its database are killed, at random and at named points, while clients of every transport
//! talk; what the clients saw is written down and judged.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use veza_client::proto::Format;
use veza_client::proto::v1::client_frame::Command;
use veza_client::proto::v1::{CreateRoom, Delivery, Hello};
use veza_client::room::RoomLog;
use veza_client::{Connection, Options, Server};
use veza_history::{Entry, Event, Invariant};

mod actor;
mod conversation;
mod deed;
mod ending;
pub(crate) mod postgres;
mod server;

use actor::{Actor, Phase, Progress};
use deed::{Author, Memory};
use postgres::Cluster;
use server::{Program, Running};

use crate::database::Database;
use crate::recorder::Recorder;
use crate::report::{Report, say};
use crate::site::{Carrier, endpoints};
use crate::{Failure, check, tokens};

/// Where the server can be made to die, and about how often a run passes there before it does.
const POINTS: [(&str, u64); 5] = [
    ("before_commit", 400),
    ("after_commit", 400),
    ("after_acknowledgement", 2_000),
    ("before_fan_out", 2_000),
    ("in_delete", 60),
];
/// A server lives this long before it is killed from outside.
const LIVES_MS: std::ops::Range<u64> = 1_500..4_000;
/// A crash point that is not reached by then is given up for a kill.
const POINT_WITHIN: Duration = Duration::from_secs(15);
const DOWN_MS: std::ops::Range<u64> = 0..400;
/// After so many rounds each death has come, or never will.
const ROUNDS_MAX: u32 = 5;
/// In the end, until every client holds everything.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);
const ROOMS_OF_ACTOR: usize = 2;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server's binary; beside this one when left out.
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Store::Sqlite)]
    store: Store,
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    clients: u32,
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rooms: u32,
    /// The run ends when so many commands were acknowledged, and each named point was reached once.
    #[arg(long, default_value_t = 200_000)]
    acknowledged: u64,
    /// Commands a second that all clients aim for together.
    #[arg(long, default_value_t = 1_500)]
    rate: u32,
    /// Kills nobody: what the others do without them.
    #[arg(long)]
    calm: bool,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keeps the clients' event log and the server's words here; else they go with the run.
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    grace: check::GraceArgs,
    /// Write the figures here as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Store {
    Sqlite,
    Postgres,
}

/// How the next server's life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    Kill,
    Point(&'static str, u64),
    Database,
}

struct Chaos {
    program: Program,
    running: Option<Running>,
    cluster: Option<Cluster>,
    recorder: Recorder,
    chance: StdRng,
    deaths: Vec<Death>,
    /// How often all deaths were taken in turn.
    rounds: u32,
    /// How often each death came.
    died: BTreeMap<String, u64>,
    progress: Vec<Arc<Progress>>,
}

pub(crate) async fn run(args: Args) -> Result<Report, Failure> {
    let kept = args.keep.clone();
    let temporary = tempfile::tempdir().map_err(Failure::io("a temporary directory"))?;
    let directory = kept.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(directory).map_err(Failure::io(directory.display().to_string()))?;
    let log = directory.join("history.jsonl");
    let recorder = Recorder::create(&log)?;
    let binary = args.server.clone().map_or_else(beside, Ok)?;
    let cluster = match args.store {
        Store::Sqlite => None,
        Store::Postgres => Some(Cluster::create(temporary.path()).await?),
    };
    let program = Program::new(&binary, directory, cluster.as_ref().map(Cluster::url))?;
    let database = match &cluster {
        Some(cluster) => Database::Postgres(cluster.url()),
        None => Database::Sqlite(program.sqlite_file()),
    };
    let mut chaos = Chaos {
        running: Some(program.start(None).await?),
        program,
        cluster,
        recorder: recorder.clone(),
        chance: StdRng::seed_from_u64(args.seed),
        deaths: Vec::new(),
        rounds: 0,
        died: BTreeMap::new(),
        progress: Vec::new(),
    };
    let begun = Instant::now();
    let rooms: Vec<String> = (0..args.rooms).map(|room| format!("chaos-{room}")).collect();
    let (phase, told) = watch::channel(Phase::Talk);
    let mut actors = chaos.populate(&args, &rooms, &told).await?;

    let mut told_at = Instant::now();
    while chaos.acknowledged() < args.acknowledged || !(args.calm || chaos.has_been_everywhere()) {
        if chaos.rounds > ROUNDS_MAX && !chaos.has_been_everywhere() {
            return Err(Failure::setup(format!("a crash point is never reached: {:?}", chaos.died)));
        }
        if args.calm {
            tokio::time::sleep(Duration::from_millis(100)).await;
        } else {
            chaos.live_and_die().await?;
        }
        if told_at.elapsed() > Duration::from_secs(5) {
            told_at = Instant::now();
            say(&format!("{:4} s: {} acknowledged; {:?}", begun.elapsed().as_secs(), chaos.acknowledged(), chaos.died));
        }
    }
    let talked = begun.elapsed();
    phase.send_replace(Phase::Settle);
    let unsettled = chaos.settle(&rooms, &database).await?;
    recorder.close()?;
    phase.send_replace(Phase::End);
    while actors.join_next().await.is_some() {}
    drop(chaos.running.take());

    let verdicts = check::judge(std::slice::from_ref(&log), args.grace.grace())?;
    let parameters = json!({
        "store": args.store, "clients": args.clients, "rooms": args.rooms, "acknowledged": args.acknowledged,
        "rate": args.rate, "seed": args.seed,
    });
    let mut report = Report::new("chaos", args.json, parameters, env!("CARGO_PKG_VERSION"));
    report.decimal("talked_s", talked.as_secs_f64());
    report.figure("kills", chaos.died.values().sum::<u64>());
    for (death, times) in &chaos.died {
        report.figure(format!("kills_{death}"), *times);
    }
    report.figure("links", chaos.progress.iter().map(|one| one.links.load(Ordering::Relaxed)).sum::<u64>());
    report.decimal("log_mib", std::fs::metadata(&log).map_or(0, |file| file.len()) as f64 / (1024.0 * 1024.0));
    if let Some(unsettled) = unsettled {
        report.problem(unsettled);
    }
    // Without kicks in a short run there is nothing to say of authority.
    let without: &[Invariant] = if args.acknowledged < 10_000 { &[Invariant::I11, Invariant::I12] } else { &[] };
    check::tell(&mut report, &verdicts, without);
    Ok(report)
}

/// The server that was built with this program.
fn beside() -> Result<PathBuf, Failure> {
    let this = std::env::current_exe().map_err(Failure::io("this program's path"))?;
    let server = this.with_file_name("veza");
    if server.exists() {
        return Ok(server);
    }
    Err(Failure::setup(format!("no server at {}: build it, or give it with --server", server.display())))
}

impl Chaos {
    /// Makes the rooms, and lets every client live.
    async fn populate(
        &mut self,
        args: &Args,
        rooms: &[String],
        told: &watch::Receiver<Phase>,
    ) -> Result<JoinSet<()>, Failure> {
        let site = Server::discover(&self.program.url()).await?;
        let endpoints = endpoints(site.trust()?, 8)?;
        let count = args.clients as usize;
        let names = tokens::fetch(&site, None, "chaos", count).await?;
        let at_home = |actor: usize| -> Vec<usize> {
            (0..ROOMS_OF_ACTOR.min(rooms.len()))
                .map(|nth| (actor + nth * (actor / rooms.len() + 1)) % rooms.len())
                .collect()
        };
        let mut members = vec![Vec::new(); rooms.len()];
        for actor in 0..count {
            let mut home = at_home(actor);
            home.dedup();
            home.iter().for_each(|room| members[*room].push(actor));
        }
        let mut actors = JoinSet::new();
        let pace = Duration::from_secs_f64(f64::from(args.clients) / f64::from(args.rate) * 1.6);
        for (actor, token) in names.into_iter().enumerate() {
            let (carrier, format) = [
                (Carrier::Wt, Format::Proto),
                (Carrier::Quic, Format::Proto),
                (Carrier::Ws, Format::Proto),
                (Carrier::Ws, Format::Json),
            ][actor % 4];
            let options = Options {
                format,
                pushes: 4_096,
                open_within: Duration::from_secs(3),
                reply_within: Duration::from_secs(10),
                ..carrier.options()
            };
            let home: Vec<usize> = (0..rooms.len()).filter(|room| members[*room].contains(&actor)).collect();
            let owner = |room: &usize| members[*room].first() == Some(&actor);
            if home.iter().any(owner) {
                let hello = Hello { token: token.clone(), ..Hello::default() };
                let (connection, _) = Connection::open(&endpoints, &site.target(), hello, &options)
                    .await
                    .map_err(|error| Failure::setup(format!("the rooms cannot be made: {error}")))?;
                for room in home.iter().filter(|room| owner(room)) {
                    let (room, title) = (rooms[*room].clone(), "Chaos".to_owned());
                    let create = CreateRoom { room, title, ..CreateRoom::default() };
                    let made = connection.command(Command::CreateRoom(create)).await;
                    made.map_err(|error| Failure::setup(format!("a room cannot be made: {error}")))?;
                }
                connection.bye().await;
            }
            // One of two clients with datagrams takes them.
            let delivery = if actor % 8 < 2 { Delivery::Fast } else { Delivery::Unspecified };
            let progress = Arc::new(Progress {
                held: std::iter::repeat_with(|| AtomicU64::new(0)).take(home.len()).collect(),
                ..Progress::default()
            });
            self.progress.push(progress.clone());
            let others =
                home.iter().map(|room| members[*room][1..].iter().map(|other| format!("chaos-{other}")).collect());
            let name = format!("c{actor}");
            let living = Actor {
                name,
                token,
                endpoints: endpoints.clone(),
                target: site.target(),
                options,
                recorder: self.recorder.clone(),
                author: Author::new(format!("chaos-{actor}"), StdRng::seed_from_u64(self.chance.random())),
                rooms: home.iter().map(|room| Memory::new(rooms[*room].clone(), owner(room))).collect(),
                logs: home.iter().map(|room| RoomLog::new(rooms[*room].clone(), delivery)).collect(),
                open: std::collections::VecDeque::new(),
                calls: 0,
                resume_token: String::new(),
                pace,
                progress,
                others: Arc::new(others.collect()),
            };
            actors.spawn(living.live(told.clone()));
        }
        Ok(actors)
    }

    fn acknowledged(&self) -> u64 {
        self.progress.iter().map(|progress| progress.acknowledged.load(Ordering::Relaxed)).sum()
    }

    fn has_been_everywhere(&self) -> bool {
        POINTS.iter().all(|(point, _)| self.died.contains_key(*point))
            && (self.cluster.is_none() || self.died.contains_key("database"))
    }

    /// One life of the server, to its death and its return.
    async fn live_and_die(&mut self) -> Result<(), Failure> {
        if self.deaths.is_empty() {
            self.rounds += 1;
            self.deaths = vec![Death::Kill, Death::Kill];
            let points = POINTS.map(|(point, often)| Death::Point(point, self.chance.random_range(1..=often)));
            self.deaths.extend(points);
            if self.cluster.is_some() {
                self.deaths.extend([Death::Database; 3]);
            }
            self.deaths.shuffle(&mut self.chance);
        }
        let Some(death) = self.deaths.pop() else { return Ok(()) };
        let life = Duration::from_millis(self.chance.random_range(LIVES_MS));
        let down = Duration::from_millis(self.chance.random_range(DOWN_MS));
        match death {
            Death::Kill => {
                tokio::time::sleep(life).await;
                self.kill()?;
                self.fault("kill");
                tokio::time::sleep(down).await;
                self.running = Some(self.program.start(None).await?);
            }
            Death::Point(point, passing) => {
                // The server that is to die there is another one: it takes over from one that is killed.
                self.kill()?;
                self.fault("kill");
                let mut armed = self.program.start(Some(&format!("{point}:{passing}"))).await?;
                self.healed("server");
                if !armed.ended_within(POINT_WITHIN).await? {
                    self.running = Some(armed);
                    return Ok(());
                }
                self.fault(point);
                tokio::time::sleep(down).await;
                self.running = Some(self.program.start(None).await?);
            }
            Death::Database => {
                tokio::time::sleep(life).await;
                let Some(cluster) = &mut self.cluster else { return Ok(()) };
                cluster.kill()?;
                self.recorder.record("", Event::Fault { what: "database".into() });
                *self.died.entry("database".into()).or_default() += 1;
                tokio::time::sleep(down).await;
                cluster.start().await?;
                self.recorder.record("", Event::Healed { what: "database".into() });
                return Ok(());
            }
        }
        self.healed("server");
        Ok(())
    }

    fn kill(&mut self) -> Result<(), Failure> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        if let (Ok(sample), Ok(descriptors)) = (running.process().sample(), running.process().descriptors()) {
            self.recorder.record("", Event::Sample { memory: sample.rss, descriptors });
        }
        if running.has_ended()? {
            return Err(Failure::setup("the server ended by itself: see its log with --keep"));
        }
        running.kill()
    }

    fn fault(&mut self, what: &str) {
        *self.died.entry(what.to_owned()).or_default() += 1;
        self.recorder.record("", Event::Fault { what: what.to_owned() });
    }

    fn healed(&self, what: &str) {
        self.recorder.record("", Event::Healed { what: what.to_owned() });
    }

    /// Waits until nothing is open and everybody holds everything, and writes the final histories down. What does not come
    /// to rest is told.
    async fn settle(&mut self, rooms: &[String], database: &Database) -> Result<Option<String>, Failure> {
        let begun = Instant::now();
        while !self.progress.iter().all(|progress| progress.idle.load(Ordering::Relaxed)) {
            if begun.elapsed() > SETTLES_WITHIN {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let busy = self.progress.iter().filter(|progress| !progress.idle.load(Ordering::Relaxed)).count();
        // What was pushed last may still be on its way.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let site = Server::discover(&self.program.url()).await?;
        let endpoints = endpoints(site.trust()?, 1)?;
        let token = tokens::fetch(&site, None, "chaos-reader", 1).await?.remove(0);
        let hello = Hello { token, ..Hello::default() };
        let (reader, mut pushes) = Connection::open(&endpoints, &site.target(), hello, &Carrier::Quic.options())
            .await
            .map_err(|error| Failure::setup(format!("the final history cannot be read: {error}")))?;
        // Of no interest here; left alone they would stop the link, and dropped they would end it.
        let mut unread = JoinSet::new();
        unread.spawn(async move { while pushes.next().await.is_ok() {} });
        for room in rooms {
            ending::by_protocol(&reader, room, &self.recorder).await?;
            let (found, entries) = database.room(room).await?;
            let source = || "database".to_owned();
            for message in &entries {
                let entry = Entry::from(message);
                self.recorder.record("", Event::Stored { source: source(), room: room.clone(), entry });
            }
            let (epoch, first_available, head) = (found.epoch, found.first_available, found.head);
            self.recorder
                .record("", Event::Final { source: source(), room: room.clone(), epoch, first_available, head });
        }
        reader.bye().await;
        drop(unread);
        Ok((busy > 0).then(|| format!("{busy} clients did not come to rest within {} s", SETTLES_WITHIN.as_secs())))
    }
}
