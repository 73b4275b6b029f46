//! The proxy of `veza-impair` as a command: what it does is told as JSON lines, and it takes orders on its input.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use veza_impair::{Both, Malformed, Options, Proxy, Trace};

use crate::Failure;
use crate::report::{print, say};

const HELP: &str = "\
A trace is parts, separated by commas; each is what a network does to packets, and for how long:

  300k queue=200ms delay=20ms for 20s, 60k queue=200ms delay=20ms rebind for 30s, clear

  300k, rate=300k   bits per second that a bottleneck lets through; 0 lets nothing through
  queue=200ms       what may wait before it, also as bytes, queue=24kB; the rest is dropped [default: 100ms]
  bucket=3kB        what it lets through at once after it was idle
  delay=20ms        how long everything takes
  jitter=30ms       up to so much longer, evenly; 30ms/normal mostly the half, 30ms/pareto mostly little
  order=free        jitter lets packets overtake each other
  loss=2%           each packet for itself, behind the bottleneck
  bursts=10%x4      a tenth of the packets, four in a row on average
  reorder=1%+30ms   so many come so much later, and others overtake them
  duplicate=1%      so many come twice
  rebind            when this part begins, every UDP client gets another source port, as from a NAT
  for 20s           and then the next part; the last one stays, unless `repeat` follows it
  clear             none of all that

Every client has a network of its own. It prints where it listens and what it has done, as JSON lines. A line of its input
is a trace for both directions, `up` or `down` and a trace for one, `rebind`, or `stats`.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Where clients connect. Another address of this machine, like 127.0.0.2, can have the server's own port.
    #[arg(long, default_value = "127.0.0.1:9443")]
    listen: SocketAddr,
    /// The server.
    #[arg(long)]
    to: SocketAddr,
    /// What is done in both directions.
    #[arg(long, default_value = "clear", value_name = "TRACE")]
    profile: Trace,
    /// The same from a file, where line ends separate as well and # begins a comment.
    #[arg(long, value_name = "FILE", conflicts_with = "profile")]
    trace: Option<PathBuf>,
    /// From clients to the server, where that is different.
    #[arg(long, value_name = "TRACE")]
    up: Option<Trace>,
    /// From the server to clients, where that is different.
    #[arg(long, value_name = "TRACE")]
    down: Option<Trace>,
    /// UDP only.
    #[arg(long, conflicts_with = "tcp")]
    udp: bool,
    /// TCP only. A lost piece of a stream holds up all that is behind it for a round trip.
    #[arg(long)]
    tcp: bool,
    /// Chance is the same under the same seed, for the same packets at the same times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Clients at a time.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Tells every second what has been done so far, and not only at the end.
    #[arg(long)]
    stats: bool,
    /// Ends after so many seconds, instead of at an interrupt.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: Option<u32>,
}

/// Lines of the input that are read before the ones before are obeyed.
const LINES_AHEAD: usize = 16;

/// What a line of the input asks for.
#[derive(Debug, PartialEq)]
enum Order {
    Both(Trace),
    Up(Trace),
    Down(Trace),
    Rebind,
    Stats,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let mut traces = traces(&args)?;
    let options = Options {
        listen: args.listen,
        to: args.to,
        traces: traces.clone(),
        seed: args.seed,
        udp: !args.tcp,
        tcp: !args.udp,
        clients_max: args.clients as usize,
    };
    let proxy = Proxy::start(options).await.map_err(Failure::io(args.listen.to_string()))?;
    print(&format!("{{\"listening\":\"{}\"}}\n", proxy.address()));
    let mut terminated = signal(SignalKind::terminate()).map_err(Failure::io("the signals"))?;
    let ends = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    second.tick().await;
    let mut input = input();
    loop {
        tokio::select! {
            _ = second.tick(), if args.stats => tell(&proxy),
            Some(line) = input.recv() => obey(line.trim(), &mut traces, &proxy),
            () = sleep_until(ends.unwrap_or_else(Instant::now)), if ends.is_some() => break,
            _ = tokio::signal::ctrl_c() => break,
            _ = terminated.recv() => break,
        }
    }
    tell(&proxy);
    Ok(())
}

fn traces(args: &Args) -> Result<Both<Trace>, Failure> {
    let both = match &args.trace {
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(Failure::io(name.clone()))?;
            text.parse().map_err(|error: Malformed| Failure::setup(format!("{name}: {error}")))?
        }
        None => args.profile.clone(),
    };
    let or_both = |trace: &Option<Trace>| trace.clone().unwrap_or_else(|| both.clone());
    Ok(Both { up: or_both(&args.up), down: or_both(&args.down) })
}

/// The lines of the input. A thread of its own reads them, which nothing waits for in the end.
fn input() -> mpsc::Receiver<String> {
    let (lines, input) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    input
}

fn obey(line: &str, traces: &mut Both<Trace>, proxy: &Proxy) {
    if line.is_empty() {
        return;
    }
    match order(line) {
        Ok(Order::Rebind) => return proxy.rebind(),
        Ok(Order::Stats) => return tell(proxy),
        Ok(Order::Both(trace)) => *traces = Both { up: trace.clone(), down: trace },
        Ok(Order::Up(trace)) => traces.up = trace,
        Ok(Order::Down(trace)) => traces.down = trace,
        Err(error) => return say(&format!("veza-loadtest: {error}")),
    }
    proxy.follow(traces.clone());
}

fn order(line: &str) -> Result<Order, Malformed> {
    match line.split_once(' ') {
        Some(("up", trace)) => trace.parse().map(Order::Up),
        Some(("down", trace)) => trace.parse().map(Order::Down),
        _ if line == "rebind" => Ok(Order::Rebind),
        _ if line == "stats" => Ok(Order::Stats),
        _ => line.parse().map(Order::Both),
    }
}

fn tell(proxy: &Proxy) {
    let stats = serde_json::to_string(&proxy.stats()).expect("numbers and strings are JSON");
    print(&format!("{stats}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read() {
        let trace = |text: &str| text.parse::<Trace>().unwrap();
        assert_eq!(order("rebind"), Ok(Order::Rebind));
        assert_eq!(order("stats"), Ok(Order::Stats));
        assert_eq!(order("up 60k for 1s, clear"), Ok(Order::Up(trace("60k for 1s, clear"))));
        assert_eq!(order("down loss=2%"), Ok(Order::Down(trace("loss=2%"))));
        assert_eq!(order("60k queue=200ms"), Ok(Order::Both(trace("60k queue=200ms"))));
        assert!(order("rebind now").is_err());
    }
}
