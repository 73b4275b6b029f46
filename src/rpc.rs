//! The gRPC services of `veza.gateway.v1` as generated from the schema: servers for what Veza answers, clients for what it
//! asks and for tests. Their messages are `veza_proto::gateway::v1`.

#[allow(
    clippy::all,
    clippy::restriction,
    clippy::pedantic,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/veza.gateway.v1.rs"));
}

pub use generated::*;
