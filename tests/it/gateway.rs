//! The API of the platform's backend, as a backend meets it: gRPC against the real binary.

mod access;
mod listening;
mod messages;
mod moderation;
mod reviews;
mod rooms;
mod server;
mod streams;
mod webhooks;

use tonic::metadata::Ascii;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use veza::rpc::auth_client::AuthClient;
use veza::rpc::devices_client::DevicesClient;
use veza::rpc::events_client::EventsClient;
use veza::rpc::messages_client::MessagesClient;
use veza::rpc::moderation_client::ModerationClient;
use veza::rpc::rooms_client::RoomsClient;
use veza::rpc::streams_client::StreamsClient;
use veza::rpc::webhooks_client::WebhooksClient;
use veza_client::proto::gateway::v1 as gateway;

use crate::carrier::{Carrier, Stage};
use crate::server::{Process, Start};

/// A backend of the platform.
#[derive(Clone)]
pub struct Backend {
    pub channel: Channel,
    bearer: Bearer,
}

/// Shows the service's token with every call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

pub type Shown = InterceptedService<Channel, Bearer>;

impl Backend {
    /// With the token that a development server makes.
    pub async fn of(process: &Process) -> Self {
        let path = process.data.join("data").join("auth").join("gateway-token");
        let token = std::fs::read_to_string(path).unwrap();
        Self::with(process, Some(token.trim_end())).await
    }

    pub async fn with(process: &Process, token: Option<&str>) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", process.gateway)).unwrap();
        let bearer = Bearer(token.map(|token| format!("Bearer {token}").parse().unwrap()));
        Self { channel: endpoint.connect().await.unwrap(), bearer }
    }

    pub fn auth(&self) -> AuthClient<Shown> {
        AuthClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn devices(&self) -> DevicesClient<Shown> {
        DevicesClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn rooms(&self) -> RoomsClient<Shown> {
        RoomsClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn messages(&self) -> MessagesClient<Shown> {
        MessagesClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn events(&self) -> EventsClient<Shown> {
        EventsClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn moderation(&self) -> ModerationClient<Shown> {
        ModerationClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn streams(&self) -> StreamsClient<Shown> {
        StreamsClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn webhooks(&self) -> WebhooksClient<Shown> {
        WebhooksClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// A room with an owner and members.
    pub async fn room(&self, room: &str, owner: &str, members: &[&str]) {
        let create = gateway::CreateRoomRequest {
            room: room.into(),
            title: format!("The {room}"),
            owner: owner.into(),
            ..Default::default()
        };
        self.rooms().create_room(create).await.unwrap();
        for member in members {
            self.join(room, member).await;
        }
    }

    pub async fn join(&self, room: &str, user: &str) {
        let join = gateway::JoinRoomRequest { room: room.into(), user: user.into(), ..Default::default() };
        self.rooms().join_room(join).await.unwrap();
    }

    /// The number of what this user says.
    pub async fn say(&self, room: &str, actor: &str, key: &str, body: &str) -> u64 {
        self.messages().send(send(room, actor, key, body)).await.unwrap().into_inner().stored.unwrap().seq
    }
}

pub fn send(room: &str, actor: &str, key: &str, body: &str) -> gateway::SendRequest {
    gateway::SendRequest {
        room: room.into(),
        actor: actor.into(),
        idempotency_key: key.into(),
        body: body.into(),
        ..Default::default()
    }
}

/// A development server, sessions by WebSocket, and a backend that may do everything.
pub async fn stage() -> (Stage, Backend) {
    stage_of(Start::new().talkative()).await
}

pub async fn stage_of(start: Start) -> (Stage, Backend) {
    let process = start.run();
    let backend = Backend::of(&process).await;
    (Stage::new(process, Carrier::WebSocketProto).await, backend)
}

/// Code and reason of a refusal.
pub fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("{status:?} says no reason"));
    assert_eq!(info.domain, "veza");
    (status.code(), info.reason)
}

/// The field that a refusal names.
pub fn bad_field<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_details_bad_request().unwrap().field_violations[0].field.clone()
}

pub fn not_found() -> (Code, String) {
    (Code::NotFound, "NOT_FOUND".into())
}

/// Out of the room until somebody lifts it.
pub fn gateway_ban(room: &str, actor: &str, user: &str) -> gateway::BanRequest {
    gateway::BanRequest { room: room.into(), actor: actor.into(), user: user.into(), ..Default::default() }
}
