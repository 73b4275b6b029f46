//! Live audio: streams that are published as by microphones, and listeners who report as players do.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use veza_client::proto::media::{FRAME_MS, MediaFrame, MediaPacket};
use veza_client::proto::v1::client_frame::Command;
use veza_client::proto::v1::{
    CreateStream, EndStream, Listen, PublishStream, PublishedRung, ReceiverReport, SetQuality, StreamPublished, reply,
};
use veza_client::{Connection, Media, Pushes};

use crate::chat::Carriers;
use crate::crowd::Opening;
use crate::idle::check_descriptors;
use crate::process::Process;
use crate::report::{self, Report, say};
use crate::scrape::{self, Buckets};
use crate::site::{Site, SiteArgs};
use crate::{Failure, tokens};

/// Asks under way at once.
const ASKS: usize = 64;
/// What is heard before this is not measured: listeners are still coming to their shape.
const WARMUP: Duration = Duration::from_secs(2);
/// From a publisher's packet read to the last listener's connection given it.
const FORWARD: &str = "veza_audio_forward_seconds";
/// Frames of an Opus packet at full band, 20 ms.
const TOC: u8 = 0xfc;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    site: SiteArgs,
    /// Streams, each with a publisher of its own.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    streams: u32,
    /// Listeners of each stream, each on a connection of its own.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    listeners: u32,
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Of the best rung, bits per second; the second one has a third of it.
    #[arg(long, default_value_t = 96_000, value_parser = clap::value_parser!(u32).range(18_000..=256_000))]
    bits: u32,
    #[arg(long, value_enum, default_value_t = Carriers::Quic)]
    transport: Carriers,
    /// What listeners ask for: 0 leaves it to the server, 1 is low, 2 medium, 3 high.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=3))]
    pin: i32,
    /// The server's Prometheus page, to tell how long packets take inside it.
    #[arg(long, value_name = "URL")]
    metrics: Option<String>,
    /// Handshakes under way at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    at_once: u16,
}

impl Args {
    /// Listeners of all streams.
    pub(crate) fn audience(&self) -> u32 {
        self.streams * self.listeners
    }

    pub(crate) fn measured(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    /// What the server says of its packets, if it is asked.
    async fn inside(&self) -> Result<Option<Inside>, Failure> {
        let Some(url) = &self.metrics else { return Ok(None) };
        let page = scrape::page(url, self.site.allow_remote).await?;
        let forward = Buckets::of(&page, FORWARD).ok_or_else(|| Failure::setup(format!("{url} has no {FORWARD}")))?;
        let total = |name| scrape::total(&page, name);
        let (sent, dropped) = (total("veza_audio_packets_sent_total"), total("veza_audio_packets_dropped_total"));
        Ok(Some(Inside { forward, sent, dropped }))
    }
}

/// What is measured: everything has a time since `begun`, and is counted for as long as `measured` from `start` on, which is
/// set when everybody listens.
struct Window {
    begun: Instant,
    measured: Duration,
    start: OnceLock<Instant>,
}

impl Window {
    fn has(&self, came: Instant) -> bool {
        self.start.get().is_some_and(|start| (*start..=*start + self.measured).contains(&came))
    }
}

/// What the server has counted until a moment.
struct Inside {
    /// How long packets have taken.
    forward: Buckets,
    sent: u64,
    /// What was not sent because it was too old by then, or had no way.
    dropped: u64,
}

/// What one listener has heard since the warm-up.
struct Heard {
    packets: u64,
    frames: u64,
    expected: u64,
    late: u64,
    times: Histogram<u64>,
}

pub(crate) async fn run(args: Args) -> Result<Report, Failure> {
    let site = Site::find(&args.site).await?;
    let (streams, listeners) = (args.streams as usize, args.listeners as usize);
    let count = streams * (1 + listeners);
    let carriers = args.transport.carriers(site.websocket());
    for carrier in &carriers {
        site.expect(*carrier)?;
        check_descriptors(*carrier, site.process, (count / carriers.len()) as u64)?;
    }
    let parameters = json!({
        "streams": args.streams, "listeners": args.listeners, "seconds": args.seconds, "bits": args.bits,
        "transport": args.transport, "pin": args.pin, "sockets": args.site.sockets,
    });
    let mut report = Report::new("audio", args.site.json.clone(), parameters, site.server.version());
    let tokens = tokens::fetch(&site.server, args.site.token_command.as_deref(), "audio", count).await?;
    let sessions = tokens.into_iter().zip(carriers.iter().cycle());
    let opening = Opening {
        endpoints: site.endpoints.clone(),
        target: site.target.clone(),
        sessions: sessions.map(|(token, carrier)| (token, carrier.options())).collect(),
        rate: None,
        at_once: args.at_once.into(),
    };
    let crowd = opening.open("opening").await;
    if let Some(complaint) = crowd.complaint() {
        return Err(Failure::setup(complaint));
    }
    let mut sessions = crowd.sessions.into_iter().flatten();

    let run = format!("load-{:08x}", rand::random::<u32>());
    let names: Vec<String> = (0..streams).map(|at| format!("{run}-{at}")).collect();
    let mut publishers = Vec::with_capacity(streams);
    for (name, session) in names.iter().zip(sessions.by_ref().take(streams)) {
        let published = publish(&session.0, name, args.bits).await?;
        publishers.push((session, published));
    }
    let begun = Instant::now();
    let (stop, stopped) = watch::channel(false);
    let window = Arc::new(Window { begun, measured: args.measured(), start: OnceLock::new() });
    let listening = listen_all(sessions, &names, args.pin, &window, &stopped).await?;
    say(&format!("{} listeners of {streams} streams", listening.len()));
    // Nobody speaks before everybody listens, for more than the machine can do would keep the last ones out.
    let mut talking = JoinSet::new();
    for ((connection, pushes), published) in &publishers {
        let _quiet = pushes;
        talking.spawn(talk(connection.clone(), published.clone(), args.bits, begun, stopped.clone()));
    }
    window.start.get_or_init(|| Instant::now() + WARMUP);

    tokio::time::sleep(WARMUP).await;
    let before = site.process.map(Process::sample).transpose()?;
    let own_before = Process::this().sample()?;
    let inside_before = args.inside().await?;
    let since = Instant::now();
    tokio::time::sleep(args.measured()).await;
    let after = site.process.map(Process::sample).transpose()?;
    let own_after = Process::this().sample()?;
    let took = since.elapsed();
    let inside_after = args.inside().await?;
    stop.send_replace(true);
    let heard = listening.join_all().await;
    talking.join_all().await;
    for (name, ((connection, _), _)) in names.iter().zip(&publishers) {
        // A stream that cannot be ended ends by itself.
        let _ended = connection.command(Command::EndStream(EndStream { stream: name.clone() })).await;
    }

    let mut times = report::histogram();
    let (mut packets, mut frames, mut expected, mut late) = (0, 0, 0, 0);
    for one in &heard {
        times.add(&one.times).map_err(|error| Failure::setup(error.to_string()))?;
        packets += one.packets;
        frames += one.frames;
        expected += one.expected;
        late += one.late;
    }
    report.figure("listeners", heard.len());
    report.latency("ingress_to_client", &times);
    report.figure("packets", packets);
    report.figure("frames", frames);
    report.figure("frames_expected", expected);
    report.figure("frames_later_than_100_ms", late);
    report.decimal("loss_percent", 100.0 * expected.saturating_sub(frames) as f64 / expected.max(1) as f64);
    report.decimal("packets_per_second", packets as f64 / took.as_secs_f64());
    if let (Some(before), Some(after)) = (inside_before, inside_after) {
        report.figure("server_sent", after.sent - before.sent);
        report.figure("server_dropped", after.dropped - before.dropped);
        let forwarded = after.forward.since(&before.forward);
        report.figure("forwarded", forwarded.count());
        for (name, bound) in [("1", 0.001), ("2", 0.002), ("5", 0.005), ("10", 0.01)] {
            if let Some(percent) = forwarded.percent_within(bound) {
                report.decimal(format!("forwarded_within_{name}_ms_percent"), percent);
            }
        }
    }
    let own = own_after.cpu.saturating_sub(own_before.cpu);
    report.decimal("load_tool_cores", own.as_secs_f64() / took.as_secs_f64());
    if let (Some(before), Some(after)) = (before, after) {
        let cpu = after.cpu.saturating_sub(before.cpu);
        report.decimal("server_cores", cpu.as_secs_f64() / took.as_secs_f64());
        report.decimal("server_us_per_packet", cpu.as_secs_f64() * 1e6 / packets.max(1) as f64);
        report.figure("server_rss_bytes", after.rss);
    }
    if packets == 0 {
        report.problem("nothing was heard");
    }
    site.endpoints.wait_closed().await;
    Ok(report)
}

/// Every listener listens, a few at a time.
async fn listen_all(
    sessions: impl Iterator<Item = (Connection, Pushes)>,
    names: &[String],
    pin: i32,
    window: &Arc<Window>,
    stopped: &watch::Receiver<bool>,
) -> Result<JoinSet<Heard>, Failure> {
    let permits = Arc::new(tokio::sync::Semaphore::new(ASKS));
    let mut asking = JoinSet::new();
    for (at, (connection, pushes)) in sessions.enumerate() {
        let (stream, permits) = (names[at % names.len()].clone(), permits.clone());
        asking.spawn(async move {
            let _permit = permits.acquire().await;
            let answer = connection.command(Command::Listen(Listen { stream: stream.clone(), pin })).await;
            let answer = match answer {
                Ok(_) if pin != 0 => connection.command(Command::SetQuality(SetQuality { stream, pin })).await,
                answer => answer,
            };
            answer.map(|_| (connection, pushes))
        });
    }
    let mut listening = JoinSet::new();
    while let Some(asked) = asking.join_next().await {
        let asked = asked.map_err(|error| Failure::setup(error.to_string()))?;
        let (connection, pushes) = asked.map_err(|error| Failure::setup(format!("listen: {error}")))?;
        let Some(media) = connection.media() else { continue };
        listening.spawn(listen(connection, pushes, media, Arc::clone(window), stopped.clone()));
    }
    Ok(listening)
}

async fn publish(connection: &Connection, stream: &str, bits: u32) -> Result<StreamPublished, Failure> {
    let failed = |error: veza_client::Error| Failure::setup(format!("publish: {error}"));
    let create = CreateStream { stream: stream.to_owned(), title: "Load".to_owned(), ..CreateStream::default() };
    connection.command(Command::CreateStream(create)).await.map_err(failed)?;
    let rung = |rung, bits_per_second, channels| PublishedRung { rung, bits_per_second, channels };
    let rungs = vec![rung(0, bits, 2), rung(1, bits / 3, 1)];
    let publish = PublishStream { stream: stream.to_owned(), rungs };
    let answer = connection.command(Command::PublishStream(publish)).await.map_err(failed)?;
    let reply::Result::StreamPublished(published) = answer else {
        return Err(Failure::setup("an answer of another kind"));
    };
    Ok(published)
}

/// Sends a frame of both rungs every 20 ms. Each says when it left, in nanoseconds since `begun`.
async fn talk(
    connection: Connection,
    published: StreamPublished,
    bits: u32,
    begun: Instant,
    stop: watch::Receiver<bool>,
) {
    // Publishers do not all speak at the same moment.
    tokio::time::sleep(Duration::from_micros(rand::random_range(0..20_000))).await;
    let mut clock = tokio::time::interval(Duration::from_millis(FRAME_MS.into()));
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let bytes = |bits: u32| (bits * FRAME_MS / 8_000) as usize;
    let mut index = published.first_index;
    while !*stop.borrow() {
        clock.tick().await;
        let left = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let frame = |rung: u8, bytes: usize| {
            let mut payload = vec![0; bytes];
            payload[0] = TOC;
            payload[1..9].copy_from_slice(&left.to_be_bytes());
            MediaFrame { age: 0, rung, switch_point: index.is_multiple_of(10), payload: payload.into() }
        };
        let frames = vec![frame(0, bytes(bits)), frame(1, bytes(bits / 3))];
        let packet = MediaPacket { handle: published.handle, newest: index, level: 20, fresh: 1, frames };
        let Ok(packet) = packet.write() else { return };
        if connection.send_media(packet.slice(1..)).await.is_err() {
            return;
        }
        index += 1;
    }
}

/// Hears a stream to the end, and reports four times a second.
async fn listen(
    connection: Connection,
    mut pushes: Pushes,
    mut media: Media,
    window: Arc<Window>,
    mut stop: watch::Receiver<bool>,
) -> Heard {
    let mut heard = Heard { packets: 0, frames: 0, expected: 0, late: 0, times: report::histogram() };
    let mut reports = tokio::time::interval(Duration::from_millis(250));
    let (mut first, mut highest, mut since): (Option<u32>, u32, ReceiverReport) = (None, 0, ReceiverReport::default());
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            arrived = media.next() => {
                let Some((bytes, came)) = arrived else { break };
                let Ok(packet) = MediaPacket::read(bytes) else { continue };
                since.handle = packet.handle;
                since.highest = since.highest.max(packet.newest);
                since.packets += 1;
                since.received += u32::from(packet.fresh);
                if !window.has(came) {
                    continue;
                }
                first.get_or_insert(packet.newest + 1 - u32::from(packet.fresh));
                highest = highest.max(packet.newest);
                heard.packets += 1;
                for frame in packet.frames.iter().filter(|frame| frame.age < packet.fresh) {
                    heard.frames += 1;
                    let left = frame.payload.get(1..9).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
                    // Of the newest one: the others have waited for it.
                    if let Some(left) = left.filter(|_| frame.age == 0) {
                        let took = came.duration_since(window.begun).saturating_sub(Duration::from_nanos(left));
                        heard.late += u64::from(took > Duration::from_millis(100));
                        report::record(&mut heard.times, took);
                    }
                }
            }
            _ = reports.tick() => {
                if since.handle != 0 {
                    let report = ReceiverReport { buffer_ms: 60, ..since };
                    since = ReceiverReport { handle: since.handle, highest: since.highest, ..ReceiverReport::default() };
                    if connection.tell(Command::ReceiverReport(report)).await.is_err() {
                        break;
                    }
                }
            }
            pushed = pushes.next() => if pushed.is_err() { break },
        }
    }
    heard.expected = first.map_or(0, |first| u64::from(highest + 1 - first));
    heard
}
