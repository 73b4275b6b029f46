//! Client of Veza: one session over WebTransport, QUIC or WebSocket.
//!
//! [`Client`] is what most programs want: it reconnects, resumes, re-sends what was not acknowledged under the same
//! message id, and gives every message of the joined rooms in order and once. [`Connection`] is one link without any
//! of that, cheap enough to hold thousands of. [`room::RoomLog`] is the ordering alone, [`room::Timeline`] what there is to
//! show of it, both without I/O.
//!
//! ```no_run
//! use veza_client::proto::v1::Delivery;
//! use veza_client::{Client, Config, Event, Server, TokenSource};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // What a server tells about itself: its addresses and, in development, its certificate's hash and a login.
//! let server = Server::discover("http://127.0.0.1:8080").await?;
//! let token = server.dev_login("alice").await?;
//!
//! let config = Config::new(server.endpoints()?, server.target(), TokenSource::fixed(token));
//! let (client, mut events) = Client::start(config);
//! client.join("lobby", Delivery::Fast).await?;
//! let published = client.publish("lobby", "Hello, **lobby**").await?;
//! println!("stored as {}", published.seq);
//!
//! while let Some(event) = events.recv().await {
//!     if let Event::Message(message) = event {
//!         println!("{}: {}", message.author, message.body);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod client;
mod connection;
mod endpoints;
mod entry;
mod error;
mod event;
mod link;
mod outbox;
mod publisher;
mod race;
pub mod reconnect;
pub mod room;
mod server;
mod target;
mod trust;

#[cfg(test)]
mod peer;

pub use client::{Client, Config, Events, TokenSource};
pub use connection::{Connection, Media, Options, Pushes};
pub use endpoints::{EndpointOptions, Endpoints};
pub use entry::{Entry, new_cmid};
pub use error::{ConnectError, Ended, Error};
pub use event::{Event, State};
pub use publisher::{PublishError, Publisher};
pub use server::{Server, ServerError};
pub use target::{Preference, Target, Transport};
pub use trust::{Trust, TrustError};
pub use veza_proto as proto;
