//! Several endpoints on one UDP port, and every packet at the endpoint that knows its connection.
//!
//! Connection ids name their shard in the first byte, modulo the number of shards, and a classic BPF program on the
//! SO_REUSEPORT group reads that byte. A client that moves to another address or port keeps its connection id, so its
//! packets still reach the same endpoint; the kernel's own choice by addresses would not do that.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};
use socket2::{Domain, Protocol, Socket, Type};

/// A connection id, bytes: one names the shard, the others are random.
const ID_BYTES: usize = 8;
/// Shards that one byte can name with every shard equally likely enough.
pub(super) const SHARDS_MAX: usize = 64;
/// What the kernel may queue for one socket, bytes, if it allows that much.
const SOCKET_BUFFER_BYTES: usize = 2 * 1024 * 1024;

/// Binds one socket per shard to the address. Where packets cannot be steered there is one socket, and a warning.
///
/// # Errors
/// When the port is taken, or sockets cannot be made.
pub(super) fn bind(address: SocketAddr, shards: usize) -> io::Result<Vec<UdpSocket>> {
    bind_steered(address, shards, attach)
}

fn bind_steered(
    address: SocketAddr,
    shards: usize,
    attach: fn(&UdpSocket, usize) -> io::Result<()>,
) -> io::Result<Vec<UdpSocket>> {
    let shards = shards.clamp(1, SHARDS_MAX);
    // Without SO_REUSEPORT this fails when another server has the port, which the group itself would join silently.
    let alone = socket(address, false)?;
    if shards == 1 {
        return Ok(vec![alone]);
    }
    let address = alone.local_addr()?;
    drop(alone);
    let group = (0..shards).map(|_| socket(address, true)).collect::<io::Result<Vec<_>>>()?;
    match attach(&group[0], shards) {
        Ok(()) => Ok(group),
        Err(error) => {
            tracing::warn!(%error, "packets cannot be steered to shards; one endpoint serves the port");
            drop(group);
            Ok(vec![socket(address, false)?])
        }
    }
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    if shared {
        #[cfg(unix)]
        socket.set_reuse_port(true)?;
    }
    // The kernel gives what its own limit allows; less only means that bursts are lost sooner.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Makes ids that name their shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShardIds {
    pub(super) shard: usize,
    pub(super) shards: usize,
}

impl ConnectionIdGenerator for ShardIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id: [u8; ID_BYTES] = rand::random();
        let lowest = usize::from(id[0]) / self.shards * self.shards;
        let named = if lowest + self.shards > 256 { lowest - self.shards } else { lowest } + self.shard;
        id[0] = u8::try_from(named).expect("below 256 by the line above");
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Has the kernel choose the group's socket by the first byte of the destination connection id.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "SO_ATTACH_REUSEPORT_CBPF is in no safe interface we have")]
fn attach(group: &UdpSocket, shards: usize) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let mut program = program(u32::try_from(shards).map_err(io::Error::other)?);
    let attached =
        libc::sock_fprog { len: u16::try_from(program.len()).map_err(io::Error::other)?, filter: program.as_mut_ptr() };
    let size = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).map_err(io::Error::other)?;
    // SAFETY: the option's value is one sock_fprog of that size, whose filter points to `len` instructions; the kernel
    // copies them before the call returns, and `program` lives until then.
    let result = unsafe {
        libc::setsockopt(
            group.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            std::ptr::from_ref(&attached).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn attach(_group: &UdpSocket, _shards: usize) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// The program sees the UDP payload. A packet too short for a load gives 0, as the kernel defines it.
#[cfg(target_os = "linux")]
fn program(shards: u32) -> [libc::sock_filter; 7] {
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const JUMP_IF_SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
    const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
    const MODULO: u16 = 0x94; // BPF_ALU | BPF_MOD | BPF_K
    const RETURN: u16 = 0x16; // BPF_RET | BPF_A
    let step = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    [
        step(LOAD_BYTE, 0),
        // The header form (RFC 8999, section 5): long headers have the id behind flags, version and its length.
        libc::sock_filter { code: JUMP_IF_SET, jt: 2, jf: 0, k: 0x80 },
        step(LOAD_BYTE, 1),
        step(JUMP, 1),
        step(LOAD_BYTE, 6),
        step(MODULO, shards),
        step(RETURN, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_their_shard_whatever_the_number_of_shards() {
        for shards in [1, 2, 3, 5, 7, 16, 63, SHARDS_MAX] {
            for shard in 0..shards {
                let mut ids = ShardIds { shard, shards };
                for _ in 0..300 {
                    let id = ids.generate_cid();
                    assert_eq!(id.len(), ID_BYTES);
                    assert_eq!(usize::from(id[0]) % shards, shard);
                }
            }
        }
    }

    #[test]
    fn a_taken_port_is_an_error_even_for_a_group() {
        let taken = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = taken[0].local_addr().unwrap();
        assert!(bind(address, 2).is_err());
        assert!(bind(address, 1).is_err());
    }

    #[test]
    fn without_steering_one_socket_has_the_port() {
        let refuse = |_: &UdpSocket, _| Err(io::Error::from(io::ErrorKind::PermissionDenied));
        let alone = bind_steered("127.0.0.1:0".parse().unwrap(), 4, refuse).unwrap();
        assert_eq!(alone.len(), 1);
        assert_ne!(alone[0].local_addr().unwrap().port(), 0);
        let one = bind_steered("127.0.0.1:0".parse().unwrap(), 1, |_, _| panic!("nothing to steer")).unwrap();
        assert_eq!(one.len(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_delivers_by_the_first_byte_of_the_id() {
        let shards = 3;
        let group = bind("127.0.0.1:0".parse().unwrap(), shards).unwrap();
        assert_eq!(group.len(), shards, "this kernel steers");
        let address = group[0].local_addr().unwrap();
        for socket in &group {
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        }
        for first in [0u8, 1, 2, 3, 100, 254, 255] {
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            let short = [0x40, first, 9, 9, 9];
            let long = [0xc0, 0, 0, 0, 1, 8, first, 9, 9, 9];
            for packet in [&short[..], &long[..]] {
                sender.send_to(packet, address).unwrap();
                let mut buffer = [0; 16];
                let received = group[usize::from(first) % shards].recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..received], packet);
            }
        }
    }
}
