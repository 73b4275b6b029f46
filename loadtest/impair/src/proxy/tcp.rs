//! TCP: what is read is cut into pieces of a segment, which take as long as packets would.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::Shared;
use super::seat::{Seat, Wires};
use crate::{Carriage, Wire};

/// A segment on an ordinary path.
const PIECE_BYTES: usize = 1_460;
/// What the kernel may take from a sender before we read it, and doubles: as little as it allows, or a sender would see
/// its bytes acknowledged long before they pass the bottleneck.
const UNREAD_BYTES: u32 = 4_096;
const BACKLOG: u32 = 1_024;

pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_recv_buffer_size(UNREAD_BYTES)?;
    Ok(socket)
}

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that has gone before it was taken, or one too many for the system: the next may do.
                let Ok((stream, _)) = accepted else { continue };
                if let Some(seat) = Seat::take(&shared, Carriage::Stream) {
                    carried.spawn(carry(seat, stream, shared.clone()));
                }
            }
            Some(_) = carried.join_next() => {}
        }
    }
}

/// Carries one connection until both directions have ended, or one has failed.
async fn carry(seat: Seat, client: TcpStream, shared: Arc<Shared>) {
    let connected = async { socket(shared.to)?.connect(shared.to).await };
    let Ok(server) = connected.await else { return };
    // What is delayed here is delayed on purpose.
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let up = pump(&seat, |wires| &mut wires.up, from_client, to_server, &shared);
    let down = pump(&seat, |wires| &mut wires.down, from_server, to_client, &shared);
    // When one side has failed the other one is of no use: both sockets close.
    let _either: io::Result<((), ())> = tokio::try_join!(up, down);
}

async fn pump(
    seat: &Seat,
    wire: impl Fn(&mut Wires) -> &mut Wire<Vec<u8>>,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
) -> io::Result<()> {
    let mut orders = shared.orders.subscribe();
    let mut buffer = vec![0; PIECE_BYTES];
    let mut ended = false;
    loop {
        let now = shared.now();
        let due = wire(&mut seat.wires()).poll(now);
        if let Some(piece) = due {
            to.write_all(&piece).await?;
            continue;
        }
        let (has_room, is_empty, timeout) = {
            let mut wires = seat.wires();
            let wire = wire(&mut wires);
            (wire.has_room(now), wire.is_empty(), wire.timeout())
        };
        if ended && is_empty {
            return to.shutdown().await;
        }
        tokio::select! {
            read = from.read(&mut buffer), if has_room && !ended => match read? {
                0 => ended = true,
                len => {
                    wire(&mut seat.wires()).handle(buffer[..len].to_vec(), len, shared.now()).ok();
                }
            },
            () = shared.sleep_until(timeout) => {}
            Ok(()) = orders.changed() => {
                let orders = orders.borrow_and_update();
                seat.wires().follow(&orders, shared.now());
            }
        }
    }
}
