//! Live audio's control calls. Streams, their effects and what is played are records; who listens and how it goes is what
//! this node sees of them. What has no sound yet says so.

mod listening;
mod update;

use tonic::{Code, Request, Response, Status};
use veza_engine::ledger::{Actor, OnceKey, Settings, Write};
use veza_engine::streams::{self, Sight, Viewer, WrongState};
use veza_engine::{Ask, streams::ROOM_PREFIX};
use veza_proto::gateway::v1::*;
use veza_proto::limits as wire;
use veza_proto::v1::{Action, Error, ErrorCode, RoomKind};
use veza_proto::{RoomId, UserId};

use super::answers::{self, replied};
use super::caller::Caller;
use super::desk::{ATTEMPTS_MAX, Records, busy, failed};
use super::status::{at_field, bad_field, because, refused};
use super::{fields, pages};
use crate::hub::Call;
use crate::rpc::streams_server::Streams;
use crate::store::desk::{Live, StreamRow};

/// In whose name rooms are made once with their streams; no service is called so.
const MAKER: &str = "@streams";
const LIVE: &str = "live";

/// Serves `veza.gateway.v1.Streams`.
pub(super) struct StreamCalls {
    pub(super) records: Records,
}

type Answered<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Streams for StreamCalls {
    async fn create_stream(&self, request: Request<CreateStreamRequest>) -> Answered<CreateStreamResponse> {
        let (caller, asked) = Caller::take(request)?;
        let id = stream_id("stream", &asked.stream)?;
        let actor = caller.actor(&asked.actor)?;
        let owner = match (&actor, fields::some_user("owner", &asked.owner)?) {
            (Actor::User(_), Some(_)) => return Err(bad_field("owner", "the actor is the owner")),
            (Actor::User(user), None) => user.clone(),
            (Actor::Service(_), Some(owner)) => owner,
            (Actor::Service(_), None) => return Err(bad_field("owner", "name an owner or an actor")),
        };
        let room = fields::some_room("room", &asked.room)?;
        let call = caller.once(actor, "CreateStream", &asked.idempotency_key, &asked)?;
        if let Some(made) = self.records.made(&call).await? {
            let stream = Some(self.found(&made).await?.stream);
            return Ok(Response::new(CreateStreamResponse { stream }));
        }
        self.records.within_rate(&call)?;
        let stream = Stream {
            id: id.clone(),
            owner: String::from(&owner),
            title: asked.title,
            description: asked.description,
            category: asked.category,
            visibility: asked.visibility,
            entitlement: asked.entitlement,
            tags: asked.tags,
            publishers: asked.publishers,
            profile: asked.profile,
            state: StreamState::Created.into(),
            created_ms: self.records.hub.now_ms(),
            revision: 1,
            ..Stream::default()
        };
        let stream = streams::checked(stream).map_err(|(field, error)| at_field(field, &error))?;
        if self.records.desk.stream(&id).await.map_err(failed)?.is_some() {
            return Err(exists());
        }
        let room = match room {
            Some(room) => {
                self.may_tie("room", &call.actor, &room).await?;
                room
            }
            None => self.make_room(&caller, &stream, owner).await?,
        };
        let stream = Stream { room: String::from(&room), ..stream };
        let row = StreamRow { stream, effects: Effects::default() };
        let used = self.records.used(&call, &id);
        if !self.records.keep_stream(&row, used.as_ref()).await? {
            let made = self.records.made(&call).await?.ok_or_else(exists)?;
            let stream = Some(self.found(&made).await?.stream);
            return Ok(Response::new(CreateStreamResponse { stream }));
        }
        Ok(Response::new(CreateStreamResponse { stream: Some(row.stream) }))
    }

    async fn get_stream(&self, request: Request<GetStreamRequest>) -> Answered<GetStreamResponse> {
        let (caller, asked) = Caller::take(request)?;
        let id = stream_id("stream", &asked.stream)?;
        let entitlements = fields::entitlements(asked.entitlements)?;
        let row = self.seen(&id, &caller.actor(&asked.actor)?, &entitlements).await?;
        Ok(Response::new(GetStreamResponse { stream: Some(self.heard(row.stream).await?) }))
    }

    async fn update_stream(&self, request: Request<UpdateStreamRequest>) -> Answered<UpdateStreamResponse> {
        let (caller, asked) = Caller::take(request)?;
        let wanted = asked.stream.clone().unwrap_or_default();
        let id = stream_id("stream.id", &wanted.id)?;
        let paths = asked.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
        let fields = update::masked(paths)?;
        let call = caller.once(caller.actor(&asked.actor)?, "UpdateStream", &asked.idempotency_key, &asked)?;
        if fields.contains(&update::Field::Room)
            && let Some(room) = fields::some_room("stream.room", &wanted.room)?
        {
            self.may_tie("stream.room", &call.actor, &room).await?;
        }
        let row = self.change(call, &id, |row, now_ms| {
            let stream = update::updated(row.stream, &wanted, &fields, now_ms)?;
            Ok(Some(StreamRow { stream: streams::changed(stream), ..row }))
        });
        Ok(Response::new(UpdateStreamResponse { stream: Some(row.await?.stream) }))
    }

    async fn start_stream(&self, request: Request<StartStreamRequest>) -> Answered<StartStreamResponse> {
        let (caller, asked) = Caller::take(request)?;
        let id = stream_id("stream", &asked.stream)?;
        let call = caller.once(caller.actor(&asked.actor)?, "StartStream", &asked.idempotency_key, &asked)?;
        let row = self.change(call, &id, |row, now_ms| {
            let started = streams::start(&row.stream, now_ms).map_err(wrong_state)?;
            Ok(started.map(|stream| StreamRow { stream, ..row }))
        });
        Ok(Response::new(StartStreamResponse { stream: Some(row.await?.stream) }))
    }

    async fn stop_stream(&self, request: Request<StopStreamRequest>) -> Answered<StopStreamResponse> {
        let (caller, asked) = Caller::take(request)?;
        let id = stream_id("stream", &asked.stream)?;
        let call = caller.once(caller.actor(&asked.actor)?, "StopStream", &asked.idempotency_key, &asked)?;
        let (_, peak) = self.audience(&id).await?;
        let row = self.change(call, &id, |row, now_ms| {
            let stopped = streams::stop(&row.stream, now_ms).map_err(wrong_state)?;
            Ok(stopped.map(|stream| StreamRow { stream: streams::heard_by(stream, peak), ..row }))
        });
        Ok(Response::new(StopStreamResponse { stream: Some(row.await?.stream) }))
    }

    async fn list_live(&self, request: Request<ListLiveRequest>) -> Answered<ListLiveResponse> {
        let (caller, asked) = Caller::take(request)?;
        let actor = caller.actor(&asked.actor)?;
        let category = Some(asked.category()).filter(|category| *category != StreamCategory::Unspecified);
        let owner = fields::some_user("owner", &asked.owner)?.as_ref().map(String::from);
        let size = pages::size(asked.page_size, wire::HISTORY_PAGE_DEFAULT, wire::HISTORY_PAGE_MAX);
        let viewer = actor.user().map(String::from);
        if asked.sort() == StreamSort::Listeners {
            let which = Live { category, owner, viewer, after: None };
            return self.most_heard(&which, &asked.page_token, size).await;
        }
        let after = pages::place(LIVE, &asked.page_token)?.map(|place| pages::time_and_id(&place)).transpose()?;
        let which = Live { category, owner, viewer, after };
        let rows = self.records.desk.live(&which, size + 1).await.map_err(failed)?;
        let more = rows.len() > size as usize;
        let mut streams = Vec::with_capacity(rows.len());
        for row in rows.into_iter().take(size as usize) {
            streams.push(self.heard(row.stream).await?);
        }
        let last = streams.last().filter(|_| more);
        let place = last.map(|last| format!("{} {}", last.started_ms, last.id)).unwrap_or_default();
        Ok(Response::new(ListLiveResponse { next_page_token: pages::token(LIVE, &place), streams }))
    }

    async fn list_listeners(&self, request: Request<ListListenersRequest>) -> Answered<ListListenersResponse> {
        let (caller, asked) = Caller::take(request)?;
        self.listeners(&caller, asked).await
    }

    async fn set_listener_quality(
        &self,
        request: Request<SetListenerQualityRequest>,
    ) -> Answered<SetListenerQualityResponse> {
        let (caller, asked) = Caller::take(request)?;
        self.fix_quality(&caller, asked).await
    }

    async fn get_effects(&self, request: Request<GetEffectsRequest>) -> Answered<GetEffectsResponse> {
        let (caller, asked) = Caller::take(request)?;
        let id = stream_id("stream", &asked.stream)?;
        let row = self.seen(&id, &caller.actor(&asked.actor)?, &[]).await?;
        Ok(Response::new(GetEffectsResponse { effects: Some(row.effects), audible: false }))
    }

    async fn set_effects(&self, request: Request<SetEffectsRequest>) -> Answered<SetEffectsResponse> {
        let (caller, asked) = Caller::take(request)?;
        let id = stream_id("stream", &asked.stream)?;
        let effects = asked.effects.clone().unwrap_or_default();
        streams::check_effects(&effects).map_err(|(field, why)| bad_field(&format!("effects.{field}"), why))?;
        let paths = asked.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
        let which = update::effects(paths)?;
        let call = caller.once(caller.actor(&asked.actor)?, "SetEffects", &asked.idempotency_key, &asked)?;
        let row = self.change(call, &id, |mut row, _| {
            match &which {
                Some(which) => streams::merge_effects(&mut row.effects, &effects, which),
                None => row.effects.clone_from(&effects),
            }
            Ok(Some(StreamRow { stream: streams::changed(row.stream), ..row }))
        });
        Ok(Response::new(SetEffectsResponse { effects: Some(row.await?.effects), audible: false }))
    }

    async fn get_audio_metrics(&self, request: Request<GetAudioMetricsRequest>) -> Answered<GetAudioMetricsResponse> {
        let (caller, asked) = Caller::take(request)?;
        self.metrics(&caller, asked).await
    }

    async fn start_recording(&self, request: Request<StartRecordingRequest>) -> Answered<StartRecordingResponse> {
        let (caller, asked) = Caller::take(request)?;
        Err(self.without_audio(&caller, &asked.stream, &asked.actor).await?)
    }

    async fn stop_recording(&self, request: Request<StopRecordingRequest>) -> Answered<StopRecordingResponse> {
        let (caller, asked) = Caller::take(request)?;
        Err(self.without_audio(&caller, &asked.stream, &asked.actor).await?)
    }

    async fn list_recordings(&self, request: Request<ListRecordingsRequest>) -> Answered<ListRecordingsResponse> {
        let (caller, asked) = Caller::take(request)?;
        let actor = caller.actor(&asked.actor)?;
        if !asked.stream.is_empty() {
            self.seen(&stream_id("stream", &asked.stream)?, &actor, &[]).await?;
        }
        only_page(&asked.page_token)?;
        // None was ever made: recording is not built.
        Ok(Response::new(ListRecordingsResponse::default()))
    }

    async fn get_analytics(&self, request: Request<GetAnalyticsRequest>) -> Answered<GetAnalyticsResponse> {
        let (caller, asked) = Caller::take(request)?;
        let id = stream_id("stream", &asked.stream)?;
        if asked.until_ms != 0 && asked.until_ms < asked.from_ms {
            return Err(bad_field("until_ms", "until_ms is not before from_ms"));
        }
        let stream = self.steered(&id, &caller.actor(&asked.actor)?).await?.stream;
        let stream = self.heard(stream).await?;
        Ok(Response::new(GetAnalyticsResponse {
            listeners_now: stream.listeners,
            listeners_peak: stream.listeners_peak,
            ..GetAnalyticsResponse::default()
        }))
    }

    async fn get_listening_history(
        &self,
        request: Request<GetListeningHistoryRequest>,
    ) -> Answered<GetListeningHistoryResponse> {
        let (caller, asked) = Caller::take(request)?;
        let user = fields::user("user", &asked.user)?;
        caller.actor_for(&asked.actor, &user)?;
        only_page(&asked.page_token)?;
        // Who listened when is not kept.
        Ok(Response::new(GetListeningHistoryResponse::default()))
    }
}

impl StreamCalls {
    async fn found(&self, id: &str) -> Result<StreamRow, Status> {
        self.records.desk.stream(id).await.map_err(failed)?.ok_or_else(no_stream)
    }

    /// The stream, for somebody who may see it.
    async fn seen(&self, id: &str, actor: &Actor, entitlements: &[String]) -> Result<StreamRow, Status> {
        let row = self.found(id).await?;
        match self.sight(&row.stream, actor, entitlements).await? {
            Sight::Open => Ok(row),
            Sight::Paid => Err(forbidden("this stream is for those who hold its entitlement")),
            Sight::Hidden => Err(no_stream()),
        }
    }

    async fn sight(&self, stream: &Stream, actor: &Actor, entitlements: &[String]) -> Result<Sight, Status> {
        let room = self.in_room(stream, actor).await?;
        let owns = owns(stream, actor) || publishes(stream, actor) || room == Some(true);
        let is_entitled = entitlements.contains(&stream.entitlement);
        Ok(streams::sight(stream, Viewer { owns, is_member: room.is_some(), is_entitled }))
    }

    /// The stream, for somebody who may change it: its owner, an administrator of its room, a service.
    async fn steered(&self, id: &str, actor: &Actor) -> Result<StreamRow, Status> {
        let row = self.found(id).await?;
        if owns(&row.stream, actor) || self.in_room(&row.stream, actor).await? == Some(true) {
            return Ok(row);
        }
        Err(match self.sight(&row.stream, actor, &[]).await? {
            Sight::Open | Sight::Paid => forbidden("only its owner and administrators of its room steer a stream"),
            Sight::Hidden => no_stream(),
        })
    }

    /// Whether the actor administers the stream's room; `None` for no member.
    async fn in_room(&self, stream: &Stream, actor: &Actor) -> Result<Option<bool>, Status> {
        let Ok(room) = RoomId::parse(&stream.room) else { return Ok(None) };
        match self.records.hub.may(actor, &room, Action::Manage).await {
            Ok(manages) => Ok(Some(manages)),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(refused(&error)),
        }
    }

    /// Only who administers a room ties a stream to it.
    async fn may_tie(&self, field: &str, actor: &Actor, room: &RoomId) -> Result<(), Status> {
        match self.records.hub.may(actor, room, Action::Manage).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(forbidden("only administrators of a room tie a stream to it")),
            Err(error) if error.code() == ErrorCode::NotFound => {
                Err(refused(&Error::permanent(ErrorCode::NotFound, format!("{field}: {}", error.message))))
            }
            Err(error) => Err(refused(&error)),
        }
    }

    /// A chat room of the stream's own. Whoever asks again after a break finds the one that was made.
    async fn make_room(&self, caller: &Caller, stream: &Stream, owner: UserId) -> Result<RoomId, Status> {
        let room = RoomId::parse(&format!("{ROOM_PREFIX}{}", stream.id)).map_err(|_| {
            let max = wire::ROOM_ID_BYTES_MAX - ROOM_PREFIX.len();
            bad_field("stream", format!("a stream whose room is made with it has an id of at most {max} bytes"))
        })?;
        let (kind, listed) = match stream.visibility() {
            StreamVisibility::Public | StreamVisibility::Unspecified => (RoomKind::Public, true),
            StreamVisibility::Unlisted => (RoomKind::Public, false),
            StreamVisibility::Private => (RoomKind::Private, false),
            StreamVisibility::Premium => (RoomKind::Premium, true),
        };
        let mut settings = Settings::of(kind);
        (settings.listed, settings.entitlement) = (listed, stream.entitlement.clone());
        let same = CreateStreamRequest { owner: String::from(&owner), ..CreateStreamRequest::default() };
        let call = caller.once(Actor::User(owner.clone()), "CreateStream", room.as_str(), &same)?;
        let once = call.once.map(|once| OnceKey { service: MAKER.into(), ..once });
        let write = Write::CreateRoom {
            room: room.clone(),
            title: stream.title.clone(),
            topic: String::new(),
            kind,
            settings,
            creator: Some(owner),
            at_ms: stream.created_ms,
        };
        let call = Call { actor: call.actor, once };
        let _made = replied!(answers::reply(&self.records.hub, call, Ask::Write(Box::new(write))).await?, RoomCreated);
        Ok(room)
    }

    /// Changes a stream in the name of the call's actor, once. `None` leaves it as it is.
    async fn change(
        &self,
        call: Call,
        id: &str,
        change: impl Fn(StreamRow, u64) -> Result<Option<StreamRow>, Status> + Send + Sync,
    ) -> Result<StreamRow, Status> {
        for attempt in 0..ATTEMPTS_MAX {
            if let Some(made) = self.records.made(&call).await? {
                return self.found(&made).await;
            }
            if attempt == 0 {
                self.records.within_rate(&call)?;
            }
            let row = self.steered(id, &call.actor).await?;
            let Some(next) = change(row.clone(), self.records.hub.now_ms())? else { return Ok(row) };
            let used = self.records.used(&call, id);
            if self.records.keep_stream(&next, used.as_ref()).await? {
                return Ok(next);
            }
        }
        Err(busy())
    }

    /// What is said to somebody who may ask it, of what is not built.
    async fn without_audio(&self, caller: &Caller, stream: &str, actor: &str) -> Result<Status, Status> {
        self.seen(&stream_id("stream", stream)?, &caller.actor(actor)?, &[]).await?;
        let sentence = "this server does not record";
        Ok(because(Code::Unimplemented, Reason::AudioEngineMissing, sentence))
    }
}

fn owns(stream: &Stream, actor: &Actor) -> bool {
    match actor {
        Actor::User(user) => user.as_str() == stream.owner,
        Actor::Service(_) => true,
    }
}

/// Whether the actor was named to publish it, and so is shown it, whoever else may be.
fn publishes(stream: &Stream, actor: &Actor) -> bool {
    match actor {
        Actor::User(user) => streams::is_publisher(stream, user),
        Actor::Service(_) => false,
    }
}

fn stream_id(field: &str, text: &str) -> Result<String, Status> {
    match RoomId::parse(text) {
        Ok(id) => Ok(String::from(&id)),
        Err(_) => Err(bad_field(field, "a stream's id has 1 to 64 bytes of a-z 0-9 . _ -")),
    }
}

/// Of a list that never had more than one page.
fn only_page(token: &str) -> Result<(), Status> {
    if token.is_empty() { Ok(()) } else { Err(pages::unknown()) }
}

fn wrong_state(WrongState(sentence): WrongState) -> Status {
    because(Code::FailedPrecondition, Reason::WrongState, sentence)
}

fn forbidden(sentence: &str) -> Status {
    refused(&Error::permanent(ErrorCode::PermissionDenied, sentence))
}

fn no_stream() -> Status {
    refused(&Error::permanent(ErrorCode::NotFound, "no such stream"))
}

fn exists() -> Status {
    refused(&Error::permanent(ErrorCode::AlreadyExists, "there is a stream with this id"))
}
