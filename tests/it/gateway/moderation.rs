//! Sanctions through the API, and what sessions notice of them.

use tonic::Code;
use veza_client::proto::gateway::v1::*;
use veza_client::proto::v1::{ErrorCode, Role, Sanction};

use super::{bad_field, not_found, refusal, stage};

const ROOM: &str = "lounge";

/// A request about one user of the room.
macro_rules! about {
    ($request:ident, $user:expr, $actor:expr $(, $field:ident: $value:expr)*) => {
        $request { room: ROOM.into(), user: $user.into(), actor: $actor.into(), $($field: $value,)* ..Default::default() }
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kick_and_a_ban_throw_sessions_out() {
    let (stage, backend) = stage().await;
    backend.room(ROOM, "alice", &["bob"]).await;
    let mut moderation = backend.moderation();
    let mut bob = stage.player("bob").await;
    bob.join(ROOM).await.unwrap();
    let kick = || about!(KickRequest, "bob", "", reason: "spam".into(), idempotency_key: "k1".into());
    let member = moderation.kick(kick()).await.unwrap().into_inner().member.unwrap();
    assert_eq!(member.role(), Role::Unspecified);
    let evicted = bob.evicted().await;
    assert_eq!((evicted.room.as_str(), evicted.sanction(), evicted.reason.as_str()), (ROOM, Sanction::Kick, "spam"));
    assert_eq!(bob.publish(ROOM, "b1", "still here?").await.unwrap_err().code(), ErrorCode::NotFound);
    // He may come back, and the same key does not throw him out again.
    bob.join(ROOM).await.unwrap();
    let again = moderation.kick(kick()).await.unwrap().into_inner().member.unwrap();
    assert_eq!(again.role(), Role::Member, "as he is now");
    bob.publish(ROOM, "b2", "here I am").await.unwrap();
    let other = about!(KickRequest, "bob", "", reason: "other".into(), idempotency_key: "k1".into());
    assert_eq!(refusal(moderation.kick(other).await), (Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED".into()));
    assert_eq!(refusal(moderation.kick(about!(KickRequest, "carol", "")).await), not_found());

    let banned = moderation.ban(about!(BanRequest, "bob", "alice", seconds: 3_600)).await.unwrap().into_inner();
    assert!(banned.member.unwrap().banned_until_ms > 0);
    assert_eq!(bob.evicted().await.sanction(), Sanction::Ban);
    assert_eq!(bob.join(ROOM).await.unwrap_err().code(), ErrorCode::Banned);
    assert_eq!(bad_field(moderation.ban(about!(BanRequest, "bob", "", seconds: 315_360_001)).await), "seconds");
    assert_eq!(refusal(moderation.ban(about!(BanRequest, "alice", "bob")).await), not_found(), "bob is outside");
    moderation.unban(about!(UnbanRequest, "bob", "")).await.unwrap();
    assert_eq!(refusal(moderation.unban(about!(UnbanRequest, "bob", "")).await), not_found());
    bob.join(ROOM).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mute_and_slow_mode_hold_for_every_door() {
    let (stage, backend) = stage().await;
    backend.room(ROOM, "alice", &["bob"]).await;
    let mut moderation = backend.moderation();
    let bob = stage.player("bob").await;
    bob.join(ROOM).await.unwrap();
    moderation.mute(about!(MuteRequest, "bob", "alice", seconds: 3_600)).await.unwrap();
    assert_eq!(bob.publish(ROOM, "b1", "hm").await.unwrap_err().code(), ErrorCode::Muted);
    let sent = backend.messages().send(super::send(ROOM, "bob", "b2", "hm")).await;
    let retry = tonic_types::StatusExt::get_details_retry_info(sent.as_ref().unwrap_err()).unwrap();
    assert!(retry.retry_delay.unwrap().as_secs() <= 3_600);
    assert_eq!(refusal(sent), (Code::PermissionDenied, "MUTED".into()));
    assert_eq!(bad_field(moderation.mute(about!(MuteRequest, "bob", "", reason: "r".repeat(513))).await), "reason");
    moderation.unmute(about!(UnmuteRequest, "bob", "")).await.unwrap();
    assert_eq!(refusal(moderation.unmute(about!(UnmuteRequest, "bob", "")).await), not_found());
    let above = moderation.mute(about!(MuteRequest, "alice", "bob")).await;
    assert_eq!(refusal(above).0, Code::PermissionDenied, "bob is no moderator");

    let slow = |seconds, actor: &str| SetSlowModeRequest {
        room: ROOM.into(),
        seconds,
        actor: actor.into(),
        ..Default::default()
    };
    let room = moderation.set_slow_mode(slow(21_600, "")).await.unwrap().into_inner().room.unwrap();
    assert_eq!(room.settings.unwrap().slow_mode_seconds, 21_600);
    assert_eq!(bad_field(moderation.set_slow_mode(slow(21_601, "")).await), "seconds");
    assert_eq!(refusal(moderation.set_slow_mode(slow(0, "bob")).await).0, Code::PermissionDenied);
    bob.publish(ROOM, "b3", "once").await.unwrap();
    let again = backend.messages().send(super::send(ROOM, "bob", "b4", "twice")).await;
    assert_eq!(refusal(again), (Code::ResourceExhausted, "SLOW_MODE".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_is_read_in_pages() {
    let (_stage, backend) = stage().await;
    backend.room(ROOM, "alice", &["bob"]).await;
    let mut moderation = backend.moderation();
    moderation.mute(about!(MuteRequest, "bob", "alice", reason: "shouting".into())).await.unwrap();
    moderation.unmute(about!(UnmuteRequest, "bob", "")).await.unwrap();
    let list = |token: &str, actor: &str| ListAuditRequest {
        room: ROOM.into(),
        page_size: 2,
        page_token: token.into(),
        actor: actor.into(),
    };
    let first = moderation.list_audit(list("", "")).await.unwrap().into_inner();
    let rest = moderation.list_audit(list(&first.next_page_token, "alice")).await.unwrap().into_inner();
    let entries = first.entries.iter().chain(&rest.entries);
    let done: Vec<_> = entries.map(|entry| (entry.action.as_str(), entry.actor.as_str())).collect();
    assert_eq!(done, [("unmute", "service:gateway"), ("mute", "alice"), ("add_member", "service:gateway")]);
    assert_eq!(rest.next_page_token, "");
    assert_eq!(refusal(moderation.list_audit(list("", "bob")).await).0, Code::PermissionDenied);
    assert_eq!(refusal(moderation.list_audit(list("x", "")).await), (Code::InvalidArgument, "PAGE_TOKEN".into()));
}
