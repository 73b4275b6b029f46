//! Rooms, their members and invitations.

use tonic::{Request, Response, Status};
use veza_engine::check;
use veza_engine::ledger::{Actor, DIRECT_PREFIX, InviteKey, RoomUpdate, Settings, SettingsField, Write};
use veza_engine::{Answer, Ask};
use veza_proto::gateway::v1::*;
use veza_proto::v1::{Role, Room, RoomKind, RoomSettings};
use veza_proto::{UserId, limits as wire};

use super::answers::{self, replied};
use super::caller::Caller;
use super::fields::{self, At};
use super::pages;
use super::status::{bad_field, refused};
use crate::hub::Hub;
use crate::rpc::rooms_server::Rooms;

/// Serves `veza.gateway.v1.Rooms`.
pub(super) struct RoomCalls {
    pub(super) hub: Hub,
}

type Answered<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Rooms for RoomCalls {
    async fn create_room(&self, request: Request<CreateRoomRequest>) -> Answered<CreateRoomResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        if asked.room.starts_with(DIRECT_PREFIX) {
            return Err(bad_field("room", "ids that begin with dm. are for direct rooms: open one with OpenDirect"));
        }
        let kind = asked.kind();
        if kind == RoomKind::Direct {
            return Err(bad_field("kind", "a direct room is opened with OpenDirect"));
        }
        title("title", &asked.title)?;
        check::text("topic", &asked.topic, wire::ROOM_TOPIC_BYTES_MAX).at("topic")?;
        let settings = match &asked.settings {
            Some(settings) => parse_settings("settings", settings)?,
            None => Settings::of(kind),
        };
        let actor = caller.actor(&asked.actor)?;
        let owner = fields::some_user("owner", &asked.owner)?;
        let creator = match (&actor, owner) {
            (Actor::User(_), Some(_)) => return Err(bad_field("owner", "the actor is the owner")),
            (Actor::User(user), None) => Some(user.clone()),
            (Actor::Service(_), owner) => owner,
        };
        let call = caller.once(actor, "CreateRoom", &asked.idempotency_key, &asked)?;
        let (title, topic, at_ms) = (asked.title, asked.topic, self.hub.now_ms());
        let write = Write::CreateRoom { room, title, topic, kind, settings, creator, at_ms };
        let made = replied!(self.write(call, write).await?, RoomCreated);
        Ok(Response::new(CreateRoomResponse { room: made.room }))
    }

    async fn get_room(&self, request: Request<GetRoomRequest>) -> Answered<GetRoomResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        let found = self.hub.room_of(&caller.actor(&asked.actor)?, &room).await.map_err(|error| refused(&error))?;
        Ok(Response::new(GetRoomResponse { room: Some(found) }))
    }

    async fn update_room(&self, request: Request<UpdateRoomRequest>) -> Answered<UpdateRoomResponse> {
        let (caller, asked) = Caller::take(request)?;
        let wanted = asked.room.clone().unwrap_or_default();
        let room = fields::room("room.id", &wanted.id)?;
        let paths = asked.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
        let update = masked(&wanted, paths)?;
        let actor = caller.actor(&asked.actor)?;
        let call = caller.once(actor.clone(), "UpdateRoom", &asked.idempotency_key, &asked)?;
        let write = Write::UpdateRoom { room, actor, update, at_ms: self.hub.now_ms() };
        let updated = replied!(self.write(call, write).await?, RoomUpdated);
        Ok(Response::new(UpdateRoomResponse { room: updated.room }))
    }

    async fn archive_room(&self, request: Request<ArchiveRoomRequest>) -> Answered<ArchiveRoomResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        let actor = caller.actor(&asked.actor)?;
        let call = caller.once(actor.clone(), "ArchiveRoom", &asked.idempotency_key, &asked)?;
        let update = RoomUpdate { archived: Some(true), ..RoomUpdate::default() };
        let write = Write::UpdateRoom { room, actor, update, at_ms: self.hub.now_ms() };
        let updated = replied!(self.write(call, write).await?, RoomUpdated);
        Ok(Response::new(ArchiveRoomResponse { room: updated.room }))
    }

    async fn list_rooms(&self, request: Request<ListRoomsRequest>) -> Answered<ListRoomsResponse> {
        let (caller, asked) = Caller::take(request)?;
        let actor = caller.actor(&asked.actor)?;
        if asked.mine && actor.user().is_none() {
            return Err(bad_field("mine", "a service has no rooms of its own: name an actor"));
        }
        let limit = pages::size(asked.page_size, wire::HISTORY_PAGE_DEFAULT, wire::ROOM_LIST_PAGE_MAX);
        let after = pages::place("rooms", &asked.page_token)?;
        let ask = Ask::ListRooms { mine: asked.mine, after, limit };
        let list = replied!(answers::reply(&self.hub, Caller::call(actor), ask).await?, RoomList);
        let next_page_token = pages::token("rooms", &list.next);
        Ok(Response::new(ListRoomsResponse { rooms: list.rooms, next_page_token }))
    }

    async fn join_room(&self, request: Request<JoinRoomRequest>) -> Answered<JoinRoomResponse> {
        let (caller, asked) = Caller::take(request)?;
        let (room, user) = (fields::room("room", &asked.room)?, fields::user("user", &asked.user)?);
        check::line("invite", &asked.invite, wire::INVITE_CODE_BYTES_MAX).at("invite")?;
        let entitlements = fields::entitlements(asked.entitlements.clone())?;
        let actor = caller.actor_for(&asked.actor, &user)?;
        let admitted_by = actor.user().is_none().then(|| actor.id().clone());
        let call = caller.once(actor, "JoinRoom", &asked.idempotency_key, &asked)?;
        let invite = (!asked.invite.is_empty()).then_some(asked.invite);
        let write = Write::Join { room, user, invite, entitlements, admitted_by, at_ms: self.hub.now_ms() };
        let mut joined = replied!(self.write(call, write).await?, RoomJoined);
        let member = joined.room.as_mut().and_then(|room| room.me.take());
        Ok(Response::new(JoinRoomResponse { room: joined.room, member }))
    }

    async fn leave_room(&self, request: Request<LeaveRoomRequest>) -> Answered<LeaveRoomResponse> {
        let (caller, asked) = Caller::take(request)?;
        let (room, user) = (fields::room("room", &asked.room)?, fields::user("user", &asked.user)?);
        let actor = caller.actor_for(&asked.actor, &user)?;
        let ended_by = actor.user().is_none().then(|| actor.id().clone());
        let call = caller.once(actor, "LeaveRoom", &asked.idempotency_key, &asked)?;
        let write = Write::Leave { room: room.clone(), user, ended_by, at_ms: self.hub.now_ms() };
        let Answer::Left = answers::ask(&self.hub, call, Ask::Write(Box::new(write))).await? else {
            return Err(answers::mistaken());
        };
        // Whoever has left may not know of the room any more; the service that asked for it may.
        let room = self.hub.room_of(&caller.itself(), &room).await.map_err(|error| refused(&error))?;
        Ok(Response::new(LeaveRoomResponse { room: Some(room) }))
    }

    async fn open_direct(&self, request: Request<OpenDirectRequest>) -> Answered<OpenDirectResponse> {
        let (caller, asked) = Caller::take(request)?;
        let (user, other) = (fields::user("user", &asked.user)?, fields::user("other", &asked.other)?);
        caller.actor_for(&asked.actor, &user)?;
        if user == other {
            return Err(bad_field("other", "a direct room has two people"));
        }
        let call = caller.once(Actor::User(user), "OpenDirect", &asked.idempotency_key, &asked)?;
        let opened = answers::reply(&self.hub, call, Ask::OpenDirect { user: other }).await?;
        Ok(Response::new(OpenDirectResponse { room: replied!(opened, DirectOpened).room }))
    }

    async fn create_invite(&self, request: Request<CreateInviteRequest>) -> Answered<CreateInviteResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        let user = fields::some_user("user", &asked.user)?;
        let seconds = if asked.seconds == 0 { wire::INVITE_SECONDS_DEFAULT } else { asked.seconds };
        if seconds > wire::INVITE_SECONDS_MAX {
            return Err(bad_field("seconds", format!("at most {}", wire::INVITE_SECONDS_MAX)));
        }
        let call = caller.once(caller.actor(&asked.actor)?, "CreateInvite", &asked.idempotency_key, &asked)?;
        let ask = Ask::Invite { room, user, uses_max: asked.uses_max, seconds };
        let made = replied!(answers::reply(&self.hub, call, ask).await?, InviteCreated);
        Ok(Response::new(CreateInviteResponse { invite: made.invite }))
    }

    async fn list_invites(&self, request: Request<ListInvitesRequest>) -> Answered<ListInvitesResponse> {
        let (caller, asked) = Caller::take(request)?;
        let actor = caller.actor(&asked.actor)?;
        let room = fields::some_room("room", &asked.room)?;
        if room.is_none() && actor.user().is_none() {
            return Err(bad_field("room", "name a room, or an actor whose invitations are meant"));
        }
        let list = answers::reply(&self.hub, Caller::call(actor), Ask::ListInvites { room }).await?;
        Ok(Response::new(ListInvitesResponse { invites: replied!(list, InviteList).invites }))
    }

    async fn revoke_invite(&self, request: Request<RevokeInviteRequest>) -> Answered<RevokeInviteResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        let key = match &asked.invite {
            Some(revoke_invite_request::Invite::User(user)) => {
                InviteKey::User(room.clone(), fields::user("user", user)?)
            }
            Some(revoke_invite_request::Invite::Code(code)) if !code.is_empty() => {
                check::line("code", code, wire::INVITE_CODE_BYTES_MAX).at("code")?;
                InviteKey::Code(code.clone())
            }
            Some(revoke_invite_request::Invite::Code(_)) | None => {
                return Err(bad_field("code", "either code or user names the invitation"));
            }
        };
        let actor = caller.actor(&asked.actor)?;
        let call = caller.once(actor.clone(), "RevokeInvite", &asked.idempotency_key, &asked)?;
        let write = Write::RevokeInvite { room, actor, key, at_ms: self.hub.now_ms() };
        let _revoked = replied!(self.write(call, write).await?, InviteRevoked);
        Ok(Response::new(RevokeInviteResponse {}))
    }

    async fn list_members(&self, request: Request<ListMembersRequest>) -> Answered<ListMembersResponse> {
        let (caller, asked) = Caller::take(request)?;
        let (room, filter) = (fields::room("room", &asked.room)?, asked.filter());
        let limit = pages::size(asked.page_size, wire::HISTORY_PAGE_DEFAULT, wire::ROOM_LIST_PAGE_MAX);
        let after = pages::place("members", &asked.page_token)?;
        let after = after.map(|after| UserId::parse(&after).at("page_token")).transpose()?;
        let call = Caller::call(caller.actor(&asked.actor)?);
        let ask = Ask::ListMembers { room, filter, after, limit };
        let list = replied!(answers::reply(&self.hub, call, ask).await?, MemberList);
        let next_page_token = pages::token("members", &list.next);
        Ok(Response::new(ListMembersResponse { members: list.members, next_page_token }))
    }

    async fn get_member(&self, request: Request<GetMemberRequest>) -> Answered<GetMemberResponse> {
        let (caller, asked) = Caller::take(request)?;
        let (room, user) = (fields::room("room", &asked.room)?, fields::user("user", &asked.user)?);
        let actor = caller.actor(&asked.actor)?;
        let found = self.hub.member_of(&actor, &room, &user).await.map_err(|error| refused(&error))?;
        let (joined, present) = (found.joined, found.present);
        Ok(Response::new(GetMemberResponse { member: Some(found.membership), joined, present }))
    }

    async fn set_role(&self, request: Request<SetRoleRequest>) -> Answered<SetRoleResponse> {
        let (caller, asked) = Caller::take(request)?;
        let (room, user) = (fields::room("room", &asked.room)?, fields::user("user", &asked.user)?);
        let role = asked.role();
        if role == Role::Unspecified {
            return Err(bad_field("role", "role must be named"));
        }
        let actor = caller.actor(&asked.actor)?;
        let call = caller.once(actor.clone(), "SetRole", &asked.idempotency_key, &asked)?;
        let write = Write::SetRole { room, actor, user, role, at_ms: self.hub.now_ms() };
        let updated = replied!(self.write(call, write).await?, MemberUpdated);
        Ok(Response::new(SetRoleResponse { member: updated.member }))
    }

    async fn get_room_stats(&self, request: Request<GetRoomStatsRequest>) -> Answered<GetRoomStatsResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        let actor = caller.actor(&asked.actor)?;
        let (row, present) = self.hub.room_with_presence(&actor, &room).await.map_err(|error| refused(&error))?;
        Ok(Response::new(GetRoomStatsResponse {
            members: row.members,
            present,
            epoch: row.epoch,
            head: row.head,
            first_available: row.first_available,
            messages: row.messages,
            last_message_ms: row.last_message_ms,
            created_ms: row.created_ms,
            revision: row.revision,
        }))
    }
}

impl RoomCalls {
    async fn write(&self, call: crate::hub::Call, write: Write) -> Result<veza_proto::v1::reply::Result, Status> {
        answers::reply(&self.hub, call, Ask::Write(Box::new(write))).await
    }
}

fn title(field: &str, title: &str) -> Result<(), Status> {
    check::line("title", title, wire::ROOM_TITLE_BYTES_MAX).at(field)?;
    if title.is_empty() { Err(bad_field(field, "title must not be empty")) } else { Ok(()) }
}

fn parse_settings(field: &str, settings: &RoomSettings) -> Result<Settings, Status> {
    Settings::parse(settings).map_err(|why| bad_field(field, why))
}

/// What the paths of a mask take from a room.
fn masked(wanted: &Room, paths: &[String]) -> Result<RoomUpdate, Status> {
    const MASK: &str = "update_mask";
    if paths.is_empty() {
        return Err(bad_field(MASK, "name at least one field"));
    }
    let (mut update, mut fields, mut whole) = (RoomUpdate::default(), Vec::new(), false);
    for path in paths {
        match path.as_str() {
            "title" => {
                title("room.title", &wanted.title)?;
                update.title = Some(wanted.title.clone());
            }
            "topic" => {
                check::text("topic", &wanted.topic, wire::ROOM_TOPIC_BYTES_MAX).at("room.topic")?;
                update.topic = Some(wanted.topic.clone());
            }
            "kind" => update.kind = Some(wanted.kind()),
            "archived" => update.archived = Some(wanted.archived),
            "settings" => whole = true,
            "settings.listed" => fields.push(SettingsField::Listed),
            "settings.slow_mode_seconds" => fields.push(SettingsField::SlowModeSeconds),
            "settings.retention_seconds" => fields.push(SettingsField::RetentionSeconds),
            "settings.retention_entries" => fields.push(SettingsField::RetentionEntries),
            "settings.default_role" => fields.push(SettingsField::DefaultRole),
            "settings.permissions" => fields.push(SettingsField::Permissions),
            "settings.entitlement" => fields.push(SettingsField::Entitlement),
            other => return Err(bad_field(MASK, format!("{other:?} is no field that can be changed"))),
        }
    }
    if whole || !fields.is_empty() {
        update.settings = Some(parse_settings("room.settings", &wanted.settings.clone().unwrap_or_default())?);
        update.only = (!whole).then_some(fields);
    }
    Ok(update)
}

/// Slow mode alone.
pub(super) fn slow_mode(seconds: u32) -> Result<RoomUpdate, Status> {
    let settings = RoomSettings { slow_mode_seconds: seconds, ..RoomSettings::default() };
    let settings = Some(parse_settings("seconds", &settings)?);
    Ok(RoomUpdate { settings, only: Some(vec![SettingsField::SlowModeSeconds]), ..RoomUpdate::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(room: &Room, paths: &[&str]) -> Result<RoomUpdate, Status> {
        masked(room, &paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>())
    }

    fn room() -> Room {
        let settings = RoomSettings { slow_mode_seconds: 30, ..RoomSettings::default() };
        Room { title: "New".into(), topic: "Ignored".into(), settings: Some(settings), ..Room::default() }
    }

    #[test]
    fn only_what_the_mask_names_is_taken() {
        let update = mask(&room(), &["title", "settings.slow_mode_seconds"]).unwrap();
        assert_eq!((update.title.as_deref(), update.topic.as_ref()), (Some("New"), None));
        assert_eq!(update.only, Some(vec![SettingsField::SlowModeSeconds]));
        assert_eq!(update.settings.unwrap().slow_mode_seconds, 30);
        let whole = mask(&room(), &["settings", "settings.listed"]).unwrap();
        assert!(whole.only.is_none() && whole.settings.is_some() && whole.title.is_none());
        assert!(mask(&room(), &["archived"]).unwrap().settings.is_none());
    }

    #[test]
    fn a_mask_that_names_nothing_or_something_else_is_refused() {
        for paths in [&[][..], &["members"], &["settings.slow"], &["title", "id"], &["*"]] {
            assert_eq!(mask(&room(), paths).unwrap_err().code(), tonic::Code::InvalidArgument, "{paths:?}");
        }
        let untitled = Room { title: String::new(), ..room() };
        assert!(mask(&untitled, &["title"]).is_err() && mask(&untitled, &["topic"]).is_ok());
    }

    #[test]
    fn slow_mode_at_its_limit_and_one_past() {
        assert!(slow_mode(wire::SLOW_MODE_SECONDS_MAX).is_ok() && slow_mode(0).is_ok());
        assert!(slow_mode(wire::SLOW_MODE_SECONDS_MAX + 1).is_err());
    }
}
