//! The API of the platform's backend: gRPC over HTTP/2 on a port of its own. What a call does is decided where a
//! session's commands are, by the hub and the ledger; here are the port, the door, and a file per service.

mod access;
mod answers;
mod auth;
mod caller;
mod deadline;
mod desk;
mod devices;
mod door;
mod events;
mod fields;
mod health;
mod listener;
mod messages;
mod moderation;
mod pages;
mod reviews;
mod rooms;
pub mod scope;
mod status;
mod streams;
mod trust;
mod webhooks;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;

use crate::audio::Audio;
use crate::config::{self, Environment};
use crate::events::Events;
use crate::hub::Hub;
use crate::rpc::auth_server::AuthServer;
use crate::rpc::devices_server::DevicesServer;
use crate::rpc::events_server::EventsServer;
use crate::rpc::messages_server::MessagesServer;
use crate::rpc::moderation_server::ModerationServer;
use crate::rpc::rooms_server::RoomsServer;
use crate::rpc::streams_server::StreamsServer;
use crate::rpc::webhooks_server::WebhooksServer;
use crate::store::Store;
use crate::store::desk::Desk;
use crate::tasks::Tasks;
use crate::transport::tls::TlsError;
use crate::transport::tls::mutual::Mutual;
use crate::webhooks::Webhooks;
use access::{Access, AccessError};
use auth::AuthCalls;
use desk::Records;
use devices::DeviceCalls;
use door::{Door, REQUEST_BYTES_MAX};
use events::EventCalls;
use listener::{Bounds, Listener};
use messages::MessageCalls;
use moderation::ModerationCalls;
use reviews::ReviewCalls;
use rooms::RoomCalls;
use streams::StreamCalls;
pub use trust::Trust;
use webhooks::WebhookCalls;

/// What the services work on.
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub hub: Hub,
    pub audio: Audio,
    pub desk: Arc<dyn Desk>,
    pub events: Events,
    pub webhooks: Webhooks,
    pub trust: Trust,
}

/// The API on its port.
pub struct Gateway {
    listener: Listener,
    address: SocketAddr,
    tls: bool,
    /// Cancelled when the node begins to drain.
    draining: CancellationToken,
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("the gateway's certificate: {0}")]
    Tls(#[from] TlsError),
    #[error("GRPC_PORT {address} cannot be bound: {source}")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("the schema cannot be told: {0}")]
    Reflection(String),
}

impl Gateway {
    /// Binds the port. `None` when nobody may call: production without services.
    ///
    /// # Errors
    /// [`GatewayError`], whose display is for the operator.
    pub async fn open(
        config: &config::Gateway,
        environment: Environment,
        data_dir: &Path,
        parts: Parts,
        tasks: &Tasks,
    ) -> Result<Option<Self>, GatewayError> {
        let Some(access) = Access::load(&config.services, environment, data_dir)? else {
            tracing::warn!("no gateway: neither GRPC_SERVICES_FILE nor GRPC_TOKEN says who may call it");
            return Ok(None);
        };
        let tls = match &config.tls {
            Some(files) => Some(Mutual::load(files, config.client_ca.as_ref(), b"h2", SystemTime::now())?),
            None => None,
        };
        let address = SocketAddr::new(config.host, config.port);
        let bound = TcpListener::bind(address).await.and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (address, socket) = bound.map_err(|source| GatewayError::Bind { address, source })?;
        let draining = CancellationToken::new();
        let (reporter, health) = tonic_health::server::health_reporter();
        let Parts { hub, audio, desk, events, .. } = &parts;
        let records =
            Records { hub: hub.clone(), audio: audio.clone(), desk: Arc::clone(desk), events: events.clone() };
        let Served { mut routes, names } = serve(
            Routes::new(health),
            records,
            parts.trust,
            EventCalls { events: parts.events, draining: draining.clone() },
            parts.webhooks,
        );
        let store = Arc::clone(&parts.store);
        let asked = async move || store.check().await.is_ok();
        // Whoever finds the port open is told the truth from the first moment.
        health::tell(&reporter, &names, asked().await).await;
        tasks.spawn("gateway-health", health::keep(reporter, names, asked, draining.clone(), tasks.token()));
        tasks.spawn("gateway-services", access.clone().maintain(tasks.token()));
        if let Some(tls) = &tls {
            tasks.spawn("gateway-certificate", Arc::clone(tls).maintain(tasks.token()));
        }
        if config.reflection {
            routes = reflect(routes)?;
        }
        let encrypted = tls.is_some();
        let (door, bounds) = (Door::new(routes, access), Bounds::default());
        let listener = Listener { socket, tls, door, bounds, tasks: tasks.clone() };
        Ok(Some(Self { listener, address, tls: encrypted, draining }))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn has_tls(&self) -> bool {
        self.tls
    }

    /// To be cancelled when the node begins to drain: calls are still answered, and health says that nothing serves.
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Serves until the token is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        self.listener.run(stop).await;
    }
}

/// Every service of the API.
fn serve(routes: Routes, records: Records, trust: Trust, events: EventCalls, webhooks: Webhooks) -> Served {
    let hub = records.hub.clone();
    let rooms = RoomsServer::new(RoomCalls { hub: hub.clone() });
    let messages = MessagesServer::new(MessageCalls { hub: hub.clone() });
    let moderation = ModerationServer::new(ModerationCalls { hub, reviews: ReviewCalls { records: records.clone() } });
    let webhooks = WebhooksServer::new(WebhookCalls { webhooks, records: records.clone() });
    let streams = StreamsServer::new(StreamCalls { records });
    let auth = AuthServer::new(AuthCalls { trust: trust.clone() });
    let devices = DevicesServer::new(DeviceCalls { trust });
    let events = EventsServer::new(events);
    Served { routes, names: Vec::new() }
        .and(rooms.max_decoding_message_size(REQUEST_BYTES_MAX))
        .and(messages.max_decoding_message_size(REQUEST_BYTES_MAX))
        .and(moderation.max_decoding_message_size(REQUEST_BYTES_MAX))
        .and(streams.max_decoding_message_size(REQUEST_BYTES_MAX))
        .and(auth.max_decoding_message_size(REQUEST_BYTES_MAX))
        .and(devices.max_decoding_message_size(REQUEST_BYTES_MAX))
        .and(events.max_decoding_message_size(REQUEST_BYTES_MAX))
        .and(webhooks.max_decoding_message_size(REQUEST_BYTES_MAX))
}

/// Services, and the names by which health speaks of them.
struct Served {
    routes: Routes,
    names: Vec<&'static str>,
}

impl Served {
    fn and<S>(mut self, service: S) -> Self
    where
        S: tower::Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        self.names.push(S::NAME);
        Self { routes: self.routes.add_service(service), names: self.names }
    }
}

/// The schema, for tools that ask for it, in both versions of that protocol.
fn reflect(routes: Routes) -> Result<Routes, GatewayError> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(veza_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let failed = |error: tonic_reflection::server::Error| GatewayError::Reflection(error.to_string());
    Ok(routes
        .add_service(builder().build_v1().map_err(failed)?)
        .add_service(builder().build_v1alpha().map_err(failed)?))
}
