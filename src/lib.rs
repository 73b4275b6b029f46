//! The effects of Veza: transports, stores, threads and telemetry around the decisions of `veza-engine`.

pub mod app;
pub mod audio;
pub mod auth;
pub mod authz;
pub mod bus;
pub mod chat;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crash;
pub mod dial;
pub mod events;
pub mod gateway;
pub mod hub;
pub mod icecast;
pub mod ops;
mod page;
pub mod publish;
pub mod reach;
pub mod rpc;
pub mod session;
pub mod store;
pub mod tasks;
pub mod telemetry;
pub mod transport;
pub mod webhooks;
mod wire;
