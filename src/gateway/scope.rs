//! Which calls there are, and what a service must be allowed to make them. docs/GATEWAY.md has the same table.

/// What a service may be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    RoomsRead,
    RoomsWrite,
    MessagesRead,
    MessagesWrite,
    Moderation,
    ModerationRead,
    ModerationReport,
    AuthRead,
    AuthRevoke,
    AuthMint,
    DevicesRead,
    DevicesWrite,
    Events,
    Webhooks,
    StreamsRead,
    StreamsWrite,
    /// Act without a user: above every owner.
    Service,
}

impl Scope {
    pub const ALL: [Scope; 17] = [
        Scope::RoomsRead,
        Scope::RoomsWrite,
        Scope::MessagesRead,
        Scope::MessagesWrite,
        Scope::Moderation,
        Scope::ModerationRead,
        Scope::ModerationReport,
        Scope::AuthRead,
        Scope::AuthRevoke,
        Scope::AuthMint,
        Scope::DevicesRead,
        Scope::DevicesWrite,
        Scope::Events,
        Scope::Webhooks,
        Scope::StreamsRead,
        Scope::StreamsWrite,
        Scope::Service,
    ];

    /// As the services' file writes it.
    pub fn name(self) -> &'static str {
        match self {
            Scope::RoomsRead => "rooms.read",
            Scope::RoomsWrite => "rooms.write",
            Scope::MessagesRead => "messages.read",
            Scope::MessagesWrite => "messages.write",
            Scope::Moderation => "moderation",
            Scope::ModerationRead => "moderation.read",
            Scope::ModerationReport => "moderation.report",
            Scope::AuthRead => "auth.read",
            Scope::AuthRevoke => "auth.revoke",
            Scope::AuthMint => "auth.mint",
            Scope::DevicesRead => "devices.read",
            Scope::DevicesWrite => "devices.write",
            Scope::Events => "events",
            Scope::Webhooks => "webhooks",
            Scope::StreamsRead => "streams.read",
            Scope::StreamsWrite => "streams.write",
            Scope::Service => "service",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// One call of the API.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Without its package.
    pub service: &'static str,
    pub method: &'static str,
    /// One of these is enough; none: whoever reaches the port.
    pub scopes: &'static [Scope],
}

const fn call(service: &'static str, method: &'static str, scopes: &'static [Scope]) -> Call {
    Call { service, method, scopes }
}

/// What everybody may ask who reaches the port: whether it serves, and its schema.
pub const OPEN: &[(&str, Call)] = &[
    ("/grpc.health.v1.Health/Check", call("Health", "Check", &[])),
    ("/grpc.health.v1.Health/Watch", call("Health", "Watch", &[])),
    ("/grpc.health.v1.Health/List", call("Health", "List", &[])),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        call("ServerReflection", "ServerReflectionInfo", &[]),
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        call("ServerReflection", "ServerReflectionInfo", &[]),
    ),
];

const ROOMS_READ: &[Scope] = &[Scope::RoomsRead, Scope::RoomsWrite];
const ROOMS_WRITE: &[Scope] = &[Scope::RoomsWrite];
const MESSAGES_READ: &[Scope] = &[Scope::MessagesRead, Scope::MessagesWrite];
const MESSAGES_WRITE: &[Scope] = &[Scope::MessagesWrite];
const MODERATION: &[Scope] = &[Scope::Moderation];
const MODERATION_READ: &[Scope] = &[Scope::ModerationRead, Scope::Moderation];
const MODERATION_REPORT: &[Scope] = &[Scope::ModerationReport, Scope::Moderation];
const AUTH_READ: &[Scope] = &[Scope::AuthRead];
const AUTH_REVOKE: &[Scope] = &[Scope::AuthRevoke];
const AUTH_MINT: &[Scope] = &[Scope::AuthMint];
const DEVICES_READ: &[Scope] = &[Scope::DevicesRead, Scope::DevicesWrite];
const DEVICES_WRITE: &[Scope] = &[Scope::DevicesWrite];
const EVENTS: &[Scope] = &[Scope::Events];
const WEBHOOKS: &[Scope] = &[Scope::Webhooks];
const STREAMS_READ: &[Scope] = &[Scope::StreamsRead, Scope::StreamsWrite];
const STREAMS_WRITE: &[Scope] = &[Scope::StreamsWrite];

/// Every call of `veza.gateway.v1` that Veza answers.
pub const CALLS: &[Call] = &[
    call("Rooms", "CreateRoom", ROOMS_WRITE),
    call("Rooms", "GetRoom", ROOMS_READ),
    call("Rooms", "UpdateRoom", ROOMS_WRITE),
    call("Rooms", "ArchiveRoom", ROOMS_WRITE),
    call("Rooms", "ListRooms", ROOMS_READ),
    call("Rooms", "JoinRoom", ROOMS_WRITE),
    call("Rooms", "LeaveRoom", ROOMS_WRITE),
    call("Rooms", "OpenDirect", ROOMS_WRITE),
    call("Rooms", "CreateInvite", ROOMS_WRITE),
    call("Rooms", "ListInvites", ROOMS_READ),
    call("Rooms", "RevokeInvite", ROOMS_WRITE),
    call("Rooms", "ListMembers", ROOMS_READ),
    call("Rooms", "GetMember", ROOMS_READ),
    call("Rooms", "SetRole", ROOMS_WRITE),
    call("Rooms", "GetRoomStats", ROOMS_READ),
    call("Messages", "Send", MESSAGES_WRITE),
    call("Messages", "SendDirect", MESSAGES_WRITE),
    call("Messages", "Edit", MESSAGES_WRITE),
    call("Messages", "Delete", MESSAGES_WRITE),
    call("Messages", "React", MESSAGES_WRITE),
    call("Messages", "Pin", MESSAGES_WRITE),
    call("Messages", "GetMessage", MESSAGES_READ),
    call("Messages", "GetHistory", MESSAGES_READ),
    call("Messages", "GetThread", MESSAGES_READ),
    call("Messages", "Search", MESSAGES_READ),
    call("Messages", "ListRevisions", MESSAGES_READ),
    call("Messages", "ListReactions", MESSAGES_READ),
    call("Messages", "ListPins", MESSAGES_READ),
    call("Messages", "GetReadState", MESSAGES_READ),
    call("Messages", "Mark", MESSAGES_WRITE),
    call("Moderation", "Mute", MODERATION),
    call("Moderation", "Unmute", MODERATION),
    call("Moderation", "Ban", MODERATION),
    call("Moderation", "Unban", MODERATION),
    call("Moderation", "Kick", MODERATION),
    call("Moderation", "SetSlowMode", MODERATION),
    call("Moderation", "ListAudit", MODERATION_READ),
    call("Moderation", "FileReview", MODERATION_REPORT),
    call("Moderation", "ListReviews", MODERATION_READ),
    call("Moderation", "GetReview", MODERATION_READ),
    call("Moderation", "Decide", MODERATION),
    call("Moderation", "Appeal", MODERATION_REPORT),
    call("Moderation", "VerifyReport", MODERATION_REPORT),
    call("Auth", "ValidateToken", AUTH_READ),
    call("Auth", "GetUserInfo", AUTH_READ),
    call("Auth", "CheckPermission", AUTH_READ),
    call("Auth", "RevokeToken", AUTH_REVOKE),
    call("Auth", "RevokeDevice", AUTH_REVOKE),
    call("Auth", "RevokeUser", AUTH_REVOKE),
    call("Auth", "MintConnectToken", AUTH_MINT),
    call("Auth", "GetKeys", AUTH_READ),
    call("Devices", "ListDevices", DEVICES_READ),
    call("Devices", "RevokeUserDevice", DEVICES_WRITE),
    call("Devices", "GetKeyPackageCounts", DEVICES_READ),
    call("Events", "Subscribe", EVENTS),
    call("Events", "Acknowledge", EVENTS),
    call("Events", "GetConsumer", EVENTS),
    call("Events", "ListConsumers", EVENTS),
    call("Events", "DeleteConsumer", EVENTS),
    call("Webhooks", "CreateWebhook", WEBHOOKS),
    call("Webhooks", "UpdateWebhook", WEBHOOKS),
    call("Webhooks", "GetWebhook", WEBHOOKS),
    call("Webhooks", "ListWebhooks", WEBHOOKS),
    call("Webhooks", "DeleteWebhook", WEBHOOKS),
    call("Webhooks", "ListDeadLetters", WEBHOOKS),
    call("Webhooks", "Replay", WEBHOOKS),
    call("Streams", "CreateStream", STREAMS_WRITE),
    call("Streams", "GetStream", STREAMS_READ),
    call("Streams", "UpdateStream", STREAMS_WRITE),
    call("Streams", "StartStream", STREAMS_WRITE),
    call("Streams", "StopStream", STREAMS_WRITE),
    call("Streams", "ListLive", STREAMS_READ),
    call("Streams", "ListListeners", STREAMS_READ),
    call("Streams", "SetListenerQuality", STREAMS_WRITE),
    call("Streams", "GetEffects", STREAMS_READ),
    call("Streams", "SetEffects", STREAMS_WRITE),
    call("Streams", "GetAudioMetrics", STREAMS_READ),
    call("Streams", "StartRecording", STREAMS_WRITE),
    call("Streams", "StopRecording", STREAMS_WRITE),
    call("Streams", "ListRecordings", STREAMS_READ),
    call("Streams", "GetAnalytics", STREAMS_READ),
    call("Streams", "GetListeningHistory", STREAMS_READ),
];

/// The call of a request's path; `None` for one that there is not.
pub fn find(path: &str) -> Option<&'static Call> {
    if let Some(rest) = path.strip_prefix("/veza.gateway.v1.") {
        let (service, method) = rest.split_once('/')?;
        return CALLS.iter().find(|call| call.service == service && call.method == method);
    }
    OPEN.iter().find(|(open, _)| *open == path).map(|(_, call)| call)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_call_of_the_schema_has_its_scopes() {
        let schema = FileDescriptorSet::decode(veza_proto::DESCRIPTORS).unwrap();
        let ours = schema.file.iter().filter(|file| file.package() == "veza.gateway.v1");
        let services = ours.flat_map(|file| &file.service).filter(|service| service.name() != "Authz");
        let named = |service: &str, method: &str| format!("{service}/{method}");
        let wanted: BTreeSet<String> = services
            .flat_map(|service| service.method.iter().map(|method| named(service.name(), method.name())))
            .collect();
        let given: BTreeSet<String> = CALLS.iter().map(|call| named(call.service, call.method)).collect();
        assert_eq!(given, wanted);
        assert_eq!(given.len(), CALLS.len(), "a call stands twice");
        assert!(CALLS.iter().all(|call| !call.scopes.is_empty()), "a call of ours is open to everybody");
    }

    #[test]
    fn calls_are_found_by_their_path_and_scopes_by_their_name() {
        assert_eq!(find("/veza.gateway.v1.Rooms/GetRoom").unwrap().scopes, ROOMS_READ);
        assert!(find("/grpc.health.v1.Health/Watch").unwrap().scopes.is_empty());
        for nothing in ["/veza.gateway.v1.Rooms", "/veza.gateway.v1.Rooms/Get", "/veza.v1.Rooms/GetRoom", "/", ""] {
            assert!(find(nothing).is_none(), "{nothing}");
        }
        assert!(Scope::ALL.into_iter().all(|scope| Scope::parse(scope.name()) == Some(scope)));
        assert_eq!(Scope::parse("root"), None);
    }
}
