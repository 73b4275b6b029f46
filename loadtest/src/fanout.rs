//! What a datagram to each of many costs: by a bare `sendto`, by quinn with nothing above it, and by the server's live audio,
//! one after another in one run.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use veza_client::Trust;

use crate::crowd::Opening;
use crate::floor::{Bare, Datagrams};
use crate::process::thread_cpu;
use crate::report::{Report, say};
use crate::site::{self, Carrier};
use crate::{Failure, audio, idle};

/// Sockets that a bare sender sends to in turn.
const SINKS: usize = 8;
const WARMUP: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
// The group of the arguments inside has this name already.
#[group(skip)]
pub(crate) struct Args {
    #[command(flatten)]
    audio: audio::Args,
    /// Of the bare datagrams, bytes: about what a packet of one frame and its header has at 96 kb/s.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(16..=1_100))]
    datagram: u16,
}

pub(crate) async fn run(args: Args) -> Result<Report, Failure> {
    let (sessions, seconds) = (args.audio.audience(), args.audio.measured());
    let mut report = audio::run(args.audio).await?;
    say("the floors");
    let bytes = args.datagram;
    let plain = tokio::task::spawn_blocking(move || send_plainly(bytes, seconds)).await;
    let plain = plain.map_err(|error| Failure::setup(error.to_string()))??;
    let quinn = send_by_quinn(bytes, sessions, seconds).await?;
    report.figure("floor_datagram_bytes", bytes);
    report.decimal("floor_sendto_us_per_datagram", plain);
    report.decimal("floor_quinn_us_per_datagram", quinn);
    if let Some(ours) = report.get("server_us_per_packet") {
        report.decimal("server_over_quinn", ours / quinn);
        report.decimal("server_over_sendto", ours / plain);
        for packet_ms in [20.0, 40.0, 60.0] {
            report.figure(format!("listeners_per_core_at_{packet_ms}_ms"), (1e3 * packet_ms / ours) as u64);
        }
    }
    Ok(report)
}

/// CPU of one `sendto` on loopback, microseconds: as fast as they go, to sockets that are read.
fn send_plainly(bytes: u16, during: Duration) -> Result<f64, Failure> {
    let io = || Failure::io("a UDP socket");
    let over = Arc::new(AtomicBool::new(false));
    let mut addresses = Vec::new();
    let mut readers = Vec::new();
    for _ in 0..SINKS {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io())?;
        socket.set_read_timeout(Some(Duration::from_millis(100))).map_err(io())?;
        addresses.push(socket.local_addr().map_err(io())?);
        let over = Arc::clone(&over);
        readers.push(thread::spawn(move || {
            let mut buffer = [0; 2_048];
            while !over.load(Ordering::Relaxed) {
                // What is lost here was paid for by the sender all the same.
                let _timeout = socket.recv(&mut buffer);
            }
        }));
    }
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io())?;
    let packet = vec![0; bytes.into()];
    let (before, begun, mut sent) = (thread_cpu()?, Instant::now(), 0_u64);
    while begun.elapsed() < during {
        for address in addresses.iter().cycle().take(64) {
            socket.send_to(&packet, address).map_err(io())?;
            sent += 1;
        }
    }
    let cpu = thread_cpu()?.saturating_sub(before);
    over.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().map_err(|_| Failure::setup("a reader ended early"))?;
    }
    Ok(cpu.as_secs_f64() * 1e6 / sent as f64)
}

/// CPU of the bare server a datagram that arrived, microseconds.
async fn send_by_quinn(bytes: u16, sessions: u32, during: Duration) -> Result<f64, Failure> {
    idle::check_descriptors(Carrier::Quic, None, sessions.into())?;
    let bare = Bare::start(Carrier::Quic, Some(Datagrams { bytes, every_ms: 20 })).await?;
    let opening = Opening {
        // The child made its certificate a moment ago, on this machine.
        endpoints: site::endpoints(Trust::Insecure, 8)?,
        target: bare.target(Carrier::Quic),
        sessions: (0..sessions).map(|_| (String::new(), Carrier::Quic.options())).collect(),
        rate: None,
        at_once: 64,
    };
    let crowd = opening.open("opening").await;
    if let Some(complaint) = crowd.complaint() {
        return Err(Failure::setup(complaint));
    }
    let mut listening = JoinSet::new();
    let start = Instant::now() + WARMUP;
    for (connection, pushes) in crowd.sessions.into_iter().flatten() {
        listening.spawn(async move {
            let _held = (&connection, &pushes);
            let Some(mut media) = connection.media() else { return 0 };
            let mut arrived = 0_u64;
            loop {
                match tokio::time::timeout_at((start + during).into(), media.next()).await {
                    Ok(Some((_, came))) => arrived += u64::from(came >= start),
                    Ok(None) | Err(_) => return arrived,
                }
            }
        });
    }
    tokio::time::sleep_until(start.into()).await;
    let before = bare.process.sample()?;
    let arrived: u64 = listening.join_all().await.into_iter().sum();
    let after = bare.process.sample()?;
    bare.end().await?;
    if arrived == 0 {
        return Err(Failure::setup("no datagram of the bare server arrived"));
    }
    Ok(after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / arrived as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_datagram_costs_something() {
        let cost = send_plainly(256, Duration::from_millis(200)).unwrap();
        assert!(cost > 0.0, "{cost}");
    }
}
