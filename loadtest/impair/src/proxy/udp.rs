//! UDP: every client address has a socket of its own towards the server, as behind a NAT.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Shared;
use super::seat::Seat;
use crate::Carriage;

/// A client that has sent nothing for so long is forgotten.
const IDLE: Duration = Duration::from_secs(60);
/// Packets that are read from a socket before anything else has its turn.
const AT_ONCE: usize = 64;
const PACKET_BYTES: usize = 65_536;
/// What the sockets may hold unread, where the system allows it.
const SOCKET_BYTES: usize = 4 * 1024 * 1024;

pub(super) async fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address).await?;
    // Best effort: a burst is more than the kernel's default holds.
    socket2::SockRef::from(&socket).set_recv_buffer_size(SOCKET_BYTES).ok();
    Ok(socket)
}

struct Client {
    seat: Seat,
    address: SocketAddr,
    /// Something came from it.
    came: Notify,
}

pub(super) async fn serve(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut clients: BTreeMap<SocketAddr, Arc<Client>> = BTreeMap::new();
    let mut carried = JoinSet::new();
    let mut buffer = vec![0; PACKET_BYTES];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                // What the kernel says of packets sent before (a port that is closed) is of no concern here.
                let Ok((len, address)) = received else { continue };
                let client = match clients.get(&address) {
                    Some(client) => client,
                    None => {
                        let Some(seat) = Seat::take(&shared, Carriage::Datagrams) else { continue };
                        let client = Arc::new(Client { seat, address, came: Notify::new() });
                        carried.spawn(carry(client.clone(), socket.clone(), shared.clone()));
                        clients.entry(address).or_insert(client)
                    }
                };
                // A packet that is dropped is counted where it is dropped.
                client.seat.wires().up.handle(buffer[..len].to_vec(), len, shared.now()).ok();
                client.came.notify_one();
            }
            Some(ended) = carried.join_next() => {
                if let Ok(address) = ended {
                    clients.remove(&address);
                }
            }
        }
    }
}

/// Carries one client's packets until it has been silent for long.
async fn carry(client: Arc<Client>, socket: Arc<UdpSocket>, shared: Arc<Shared>) -> SocketAddr {
    let mut orders = shared.orders.subscribe();
    let mut rebinds = orders.borrow_and_update().rebinds;
    let mut buffer = vec![0; PACKET_BYTES];
    let mut last = shared.now();
    let Ok(mut upstream) = connect(shared.to).await else { return client.address };
    loop {
        let (mut rebind, timeout) = deliver(&client, &socket, &upstream, &shared).await;
        tokio::select! {
            () = client.came.notified() => last = shared.now(),
            received = upstream.recv(&mut buffer) => {
                let mut received = received;
                for _ in 0..AT_ONCE {
                    // Nobody listens there, or nothing is left: the client will notice, or the next turn.
                    let Ok(len) = received else { break };
                    client.seat.wires().down.handle(buffer[..len].to_vec(), len, shared.now()).ok();
                    received = upstream.try_recv(&mut buffer);
                }
            }
            () = shared.sleep_until(timeout) => {}
            () = shared.sleep_until(Some(last + IDLE)) => return client.address,
            Ok(()) = orders.changed() => {
                let orders = orders.borrow_and_update();
                rebind |= std::mem::replace(&mut rebinds, orders.rebinds) != orders.rebinds;
                client.seat.wires().follow(&orders, shared.now());
            }
        }
        if rebind {
            // The old port is closed, and what still comes to it is lost, as with a NAT.
            let Ok(another) = connect(shared.to).await else { return client.address };
            upstream = another;
            client.seat.rebound();
        }
    }
}

/// Sends what is due; whether the client is to get another port, and when there is something again.
async fn deliver(
    client: &Client,
    socket: &UdpSocket,
    upstream: &UdpSocket,
    shared: &Shared,
) -> (bool, Option<Duration>) {
    loop {
        let now = shared.now();
        let (up, down, rebind, timeout) = {
            let mut wires = client.seat.wires();
            let (up, down) = (wires.up.poll(now), wires.down.poll(now));
            let timeout = [wires.up.timeout(), wires.down.timeout()].into_iter().flatten().min();
            (up, down, wires.take_rebinds(), timeout)
        };
        if up.is_none() && down.is_none() {
            return (rebind, timeout);
        }
        // A datagram that the kernel does not take is lost, as it may be.
        if let Some(packet) = up {
            upstream.send(&packet).await.ok();
        }
        if let Some(packet) = down {
            socket.send_to(&packet, client.address).await.ok();
        }
        if rebind {
            return (true, timeout);
        }
    }
}

/// A socket of its own for one client, until it is rebound.
async fn connect(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = bind(SocketAddr::new(any, 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
}
