//! A room of ten thousand beside a room of two: what its talk costs the pair.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use veza_client::proto::v1::client_frame::Command;
use veza_client::proto::v1::{Delivery, Publish, push, reply};
use veza_client::{Connection, Pushes};

use crate::chat::{self, Carriers};
use crate::idle::{check_descriptors, positive};
use crate::member::{Member, Tally, body};
use crate::report::{Report, say};
use crate::schedule::Schedule;
use crate::site::{Site, SiteArgs};
use crate::{Failure, tokens};

/// The pair alone, and beside the talk.
const PARTS: usize = 2;
const FINISH_WITHIN: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    site: SiteArgs,
    /// Members of the large room, each a user on a connection of its own.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=50_000))]
    members: u32,
    /// Messages a second in the large room, while it talks.
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    rate: f64,
    /// Messages a second of the pair.
    #[arg(long, default_value_t = 50.0, value_parser = positive)]
    pair_rate: f64,
    /// Seconds of each part; alone and beside take turns.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    turns: u32,
    #[arg(long, value_enum, default_value_t = Carriers::Quic)]
    transport: Carriers,
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    body: u32,
}

pub(crate) async fn run(args: Args) -> Result<Report, Failure> {
    let site = Site::find(&args.site).await?;
    let count = args.members as usize;
    for carrier in args.transport.carriers(site.websocket()) {
        check_descriptors(carrier, site.process, args.members.into())?;
    }
    let parameters = json!({
        "members": args.members, "rate": args.rate, "pair_rate": args.pair_rate, "seconds": args.seconds,
        "turns": args.turns, "transport": args.transport, "body_bytes": args.body,
    });
    let mut report = Report::new("fairness", args.site.json.clone(), parameters, site.server.version());
    let command = args.site.token_command.as_deref();
    let crowd = tokens::fetch(&site.server, command, "fair", count).await?;
    let pair = tokens::fetch(&site.server, command, "pair", 2).await?;
    let (crowd, large) = chat::rooms_of(&site, crowd, args.transport, 1).await?;
    let (pair, small, logs) =
        chat::rooms_with_logs(&site, pair, Carriers::Ws, 1, Delivery::Unspecified, chat::QUEUE).await?;
    say(&format!("{count} members in one room, two in another"));

    let schedule = Schedule::new(args.pair_rate);
    let turn = schedule.total(Duration::from_secs(args.seconds.into()));
    let total = turn * PARTS as u64 * u64::from(args.turns);
    let tally = Arc::new(Tally::new(schedule, 0, PARTS, turn));
    let (stop, stopped) = watch::channel(false);
    let (talk, talking) = watch::channel(false);
    let talkers: Vec<Connection> = crowd.iter().take(20).map(|(connection, _)| connection.clone()).collect();
    let received = Arc::new(AtomicU64::new(0));
    let mut listening = JoinSet::new();
    for (connection, pushes) in crowd {
        listening.spawn(listen(connection, pushes, received.clone(), stopped.clone()));
    }
    let talk_of_many = tokio::task::JoinSet::from_iter([say_in(talkers, large[0].clone(), &args, talking)]);
    let publishers: Vec<Connection> = pair.iter().map(|(connection, _)| connection.clone()).collect();
    let mut watching = JoinSet::new();
    for (at, ((connection, pushes), log)) in pair.into_iter().zip(logs).enumerate() {
        let member =
            Member { room: at, connection, pushes, log, tally: tally.clone(), lose: 0.0, paused: None, stops: false };
        watching.spawn(member.watch(stopped.clone()));
    }

    let mut publishing = JoinSet::new();
    for number in 0..total {
        sleep_until(tally.started + schedule.intended(number)).await;
        let beside = tally.part(number) == 1;
        talk.send_if_modified(|talking| std::mem::replace(talking, beside) != beside);
        let publisher = publishers[(number % 2) as usize].clone();
        let publish = Publish {
            room: small[0].clone(),
            cmid: format!("{number}"),
            body: body(number, 100),
            ..Publish::default()
        };
        publishing.spawn(async move {
            matches!(publisher.command(Command::Publish(publish)).await, Ok(reply::Result::Published(_)))
        });
    }
    let acknowledged = publishing.join_all().await.into_iter().filter(|published| *published).count() as u64;
    // The last value holds on after its sender.
    talk.send_replace(false);
    drop(talk);
    let said: u64 = talk_of_many.join_all().await.into_iter().sum();
    let everything = async {
        while tally.delivered.load(Ordering::Relaxed) < acknowledged * 2
            || received.load(Ordering::Relaxed) < said * count as u64
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // What did not come is told below.
    tokio::time::timeout(FINISH_WITHIN, everything).await.ok();
    stop.send_replace(true);
    listening.join_all().await;
    let seen = watching.join_all().await;

    for (part, name) in ["alone", "beside"].into_iter().enumerate() {
        report.latency(&format!("pair_delivery_{name}"), &tally.times[part].lock().expect("no holder panics"));
    }
    if let (Some(alone), Some(beside)) =
        (report.get("pair_delivery_alone_ms_p99"), report.get("pair_delivery_beside_ms_p99"))
    {
        report.decimal("p99_beside_to_alone", beside / alone);
    }
    report.figure("said_in_the_large_room", said);
    report.figure("deliveries_in_the_large_room", received.load(Ordering::Relaxed));
    report.figure("expected_there", said * count as u64);
    report.figure("said_by_the_pair", acknowledged);
    if acknowledged < total {
        report.problem(format!("{} publishes of the pair were not acknowledged", total - acknowledged));
    }
    for member in seen.iter().filter(|member| member.messages.len() as u64 != total) {
        report.problem(format!("one of the pair saw {} of {total} messages", member.messages.len()));
    }
    if received.load(Ordering::Relaxed) != said * count as u64 {
        report.problem("the large room's members did not each get each message once");
    }
    Ok(report)
}

/// Counts what one of the many is given.
async fn listen(connection: Connection, mut pushes: Pushes, received: Arc<AtomicU64>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            push = pushes.next() => match push {
                Ok(push::Event::Message(_)) => drop(received.fetch_add(1, Ordering::Relaxed)),
                Ok(_) => {}
                Err(_) => return,
            },
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    drop(connection);
}

/// Talks in the large room whenever it is its turn; gives how often something was acknowledged there.
fn say_in(
    talkers: Vec<Connection>,
    room: String,
    args: &Args,
    mut talking: watch::Receiver<bool>,
) -> impl Future<Output = u64> + Send + 'static {
    let (pace, bytes) = (Duration::from_secs_f64(1.0 / args.rate), args.body as usize);
    async move {
        let (mut said, mut number) = (0, 0_u64);
        let mut due = tokio::time::interval(pace);
        // Until the run drops the other end.
        while talking.wait_for(|talking| *talking).await.is_ok() {
            due.tick().await;
            let talker = &talkers[(number % talkers.len() as u64) as usize];
            let publish = Publish {
                room: room.clone(),
                cmid: format!("{number}"),
                body: body(number, bytes),
                ..Publish::default()
            };
            number += 1;
            if let Ok(reply::Result::Published(_)) = talker.command(Command::Publish(publish)).await {
                said += 1;
            }
        }
        said
    }
}
