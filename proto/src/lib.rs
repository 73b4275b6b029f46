//! The words of Veza: what a client may ask, what a server may say, and the limits of the wire.
//!
//! No I/O, no async, no clock. The schema is `proto/veza/v1/session.proto`; [`v1`] holds its types with
//! their protobuf and canonical JSON encodings. `docs/PROTOCOL.md` describes the conversation. [`gateway`] holds what
//! the platform's backend says, `docs/GATEWAY.md`.

mod close;
mod encoded;
mod error;
pub mod frame;
mod id;
mod lane;
pub mod limits;
pub mod media;
mod transport;

pub use close::CloseCode;
pub use encoded::{Encoded, Format};
pub use id::{Cmid, DeviceId, InvalidId, RoomId, UserId};
pub use lane::{DatagramKind, Lane, LaneByte};
pub use transport::Transport;

/// The generated types of package `veza.v1`.
#[allow(clippy::all, clippy::restriction, unreachable_pub, reason = "generated code")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/veza.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/veza.v1.serde.rs"));
}

/// What the platform's backend asks of the server, by gRPC.
pub mod gateway {
    /// The generated messages of package `veza.gateway.v1`; those of [`Event`](v1::Event) have canonical JSON. The
    /// services are the server's: this crate has no I/O.
    #[allow(clippy::all, clippy::restriction, unreachable_pub, reason = "generated code")]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/veza.gateway.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/veza.gateway.v1.serde.rs"));
    }

    /// The `domain` of every `google.rpc.ErrorInfo`.
    pub const ERROR_DOMAIN: &str = "veza";
}

/// The schema as an encoded `FileDescriptorSet`, for reflection and for checks of compatibility.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The ALPN of native clients that speak the session over plain QUIC streams.
pub const ALPN_QUIC: &[u8] = b"veza/1";

/// The subprotocol of protobuf frames, on WebTransport and WebSocket.
pub const SUBPROTOCOL_PROTO: &str = "veza.v1.proto";

/// The subprotocol of JSON frames, on WebSocket only.
pub const SUBPROTOCOL_JSON: &str = "veza.v1.json";

/// The path of the session endpoint, for WebTransport's CONNECT and WebSocket's upgrade.
pub const WEBTRANSPORT_PATH: &str = "/wt";
pub const WEBSOCKET_PATH: &str = "/ws";
