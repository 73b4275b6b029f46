//! The sockets around the wires: every client has a network of its own, all of the same kind and time.

mod seat;
mod tcp;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::seat::Seats;
use crate::{Counts, Trace};

/// From a client to the server, and back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Both<T> {
    pub up: T,
    pub down: T,
}

#[derive(Debug, Clone)]
pub struct Options {
    /// Port 0 takes one that is free for UDP and TCP.
    pub listen: SocketAddr,
    pub to: SocketAddr,
    pub traces: Both<Trace>,
    pub seed: u64,
    pub udp: bool,
    pub tcp: bool,
    /// Clients at a time: UDP addresses, TCP connections. One more is not carried.
    pub clients_max: usize,
}

impl Options {
    /// UDP and TCP from a free port of this machine, for a thousand clients, both ways alike.
    pub fn new(to: SocketAddr, trace: Trace) -> Self {
        let listen = SocketAddr::new(to.ip(), 0);
        let traces = Both { up: trace.clone(), down: trace };
        Self { listen, to, traces, seed: 1, udp: true, tcp: true, clients_max: 1_000 }
    }
}

/// What has become of all packets so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Since the proxy began.
    pub at_ms: u64,
    pub clients: usize,
    /// That were not carried: there were too many.
    pub refused: u64,
    /// How often a client got another source port.
    pub rebound: u64,
    #[serde(flatten)]
    pub sides: Both<Side>,
}

/// Of one direction, over all clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Side {
    #[serde(flatten)]
    pub counts: Counts,
    /// The longest wait a packet would have now.
    pub queue_ms: u64,
    /// What holds now.
    pub profile: String,
}

/// A running proxy. It ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

/// What all clients share.
struct Shared {
    began: Instant,
    to: SocketAddr,
    seed: u64,
    orders: watch::Sender<Orders>,
    seats: Mutex<Seats>,
}

/// What clients follow.
#[derive(Debug, Clone)]
struct Orders {
    traces: Both<Trace>,
    /// When the traces began.
    began: Duration,
    /// How often all clients were told to rebind.
    rebinds: u64,
}

/// Ports that are tried until one is free for both.
const PORTS_TRIED: u32 = 20;

impl Proxy {
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(options: Options) -> io::Result<Self> {
        let Options { listen, to, traces, seed, udp, tcp, clients_max } = options;
        let (udp, tcp, address) = bind(listen, udp, tcp).await?;
        let orders = Orders { traces, began: Duration::ZERO, rebinds: 0 };
        let (orders, _) = watch::channel(orders);
        let seats = Mutex::new(Seats::new(clients_max));
        let shared = Arc::new(Shared { began: Instant::now(), to, seed, orders, seats });
        let mut serving = JoinSet::new();
        if let Some(socket) = udp {
            serving.spawn(udp::serve(Arc::new(socket), shared.clone()));
        }
        if let Some(listener) = tcp {
            serving.spawn(tcp::serve(listener, shared.clone()));
        }
        Ok(Self { address, shared, _serving: serving })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Other traces, which begin now, for all clients.
    pub fn follow(&self, traces: Both<Trace>) {
        let began = self.shared.now();
        self.shared.orders.send_modify(|orders| (orders.traces, orders.began) = (traces, began));
    }

    /// Every UDP client gets another source port, as from a NAT that has forgotten it.
    pub fn rebind(&self) {
        self.shared.orders.send_modify(|orders| orders.rebinds += 1);
    }

    pub fn stats(&self) -> Stats {
        let now = self.shared.now();
        self.shared.seats().stats(now, &self.shared.orders.borrow())
    }
}

impl Shared {
    /// Since the proxy began.
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until then; for ever without a time.
    async fn sleep_until(&self, at: Option<Duration>) {
        match at {
            Some(at) => tokio::time::sleep_until(self.began + at).await,
            None => std::future::pending().await,
        }
    }
}

type Bound = (Option<tokio::net::UdpSocket>, Option<tokio::net::TcpListener>, SocketAddr);

/// Binds one port for both; when any will do, one that is free for both.
async fn bind(listen: SocketAddr, udp: bool, tcp: bool) -> io::Result<Bound> {
    let mut tried = 0;
    loop {
        let listener = if tcp { Some(tcp::listen(listen)?) } else { None };
        let address = listener.as_ref().map_or(Ok(listen), tokio::net::TcpListener::local_addr)?;
        if !udp {
            return Ok((None, listener, address));
        }
        match udp::bind(address).await {
            Ok(socket) => {
                let address = socket.local_addr()?;
                return Ok((Some(socket), listener, address));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && listen.port() == 0 && tried < PORTS_TRIED => {
                tried += 1;
            }
            Err(error) => return Err(error),
        }
    }
}
