//! The server as its users meet it: the real binary, real transports, a real database.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "what does not come as it must fails the test that wanted it"
)]

mod answers;
mod browser;
mod carrier;
mod crash;
mod drain;
mod durability;
mod events;
mod gateway;
mod http;
mod icecast;
mod metrics;
#[path = "../support/postgres.rs"]
mod postgres;
mod processes;
mod raw;
mod rungs;
mod scenarios;
mod server;
mod terminal;
mod trust;
