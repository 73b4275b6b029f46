//! What services do: above every owner, and once under one key.

use super::*;
use veza_engine::ledger::{Actor, InviteKey, KEPT_MS, OnceKey, RoomUpdate, SettingsField};

fn once(key: &str, digest: u64, write: Write) -> Write {
    once_at(key, digest, write, NOW)
}

fn once_at(key: &str, digest: u64, write: Write, at_ms: u64) -> Write {
    let key = OnceKey { service: "gateway".into(), key: key.into(), digest };
    Write::Once { key, write: Box::new(write), at_ms }
}

async fn one(store: &Arc<dyn Store>, write: Write) -> Written {
    store.commit(&[write]).await.unwrap().remove(0)
}

fn rename(title: &str) -> Write {
    let update = RoomUpdate { title: Some(title.into()), ..RoomUpdate::default() };
    Write::UpdateRoom { room: room_id("lobby"), actor: Actor::service("gateway"), update, at_ms: NOW + 5 }
}

/// The second call does nothing and says how things are by now, in its own batch or a later one.
pub(super) async fn a_key_does_its_deed_once(store: Arc<dyn Store>) {
    one(&store, create("lobby")).await;
    let batch = [once("k1", 1, rename("First")), once("k1", 1, rename("First")), rename("Second")];
    let written = store.commit(&batch).await.unwrap();
    assert!(matches!(&written[0], Written::Room { room, notes } if room.title == "First" && notes.len() == 1));
    let Written::Repeated(again) = &written[1] else { panic!("{:?}", written[1]) };
    assert!(matches!(&**again, Written::Room { room, notes } if room.title == "First" && notes.is_empty()));
    let Written::Repeated(later) = one(&store, once("k1", 1, rename("First"))).await else { panic!("done twice") };
    assert!(matches!(&*later, Written::Room { room, .. } if room.title == "Second"), "{later:?}");
    assert_eq!(store.room(&room_id("lobby")).await.unwrap().unwrap().title, "Second");
}

pub(super) async fn a_key_is_for_one_request(store: Arc<dyn Store>) {
    one(&store, create("lobby")).await;
    one(&store, once("k1", 1, rename("First"))).await;
    let other = one(&store, once("k1", 2, rename("Other"))).await;
    assert_eq!(other, Written::Refused(Refusal::KeyReused));
    // Another service has keys of its own.
    let key = OnceKey { service: "shop".into(), key: "k1".into(), digest: 2 };
    let shops = one(&store, Write::Once { key, write: Box::new(rename("Shop")), at_ms: NOW }).await;
    assert!(matches!(shops, Written::Room { room, .. } if room.title == "Shop"));
}

pub(super) async fn a_refusal_uses_up_no_key(store: Arc<dyn Store>) {
    let refused = one(&store, once("k1", 1, rename("First"))).await;
    assert_eq!(refused, Written::Refused(Refusal::NoSuchRoom));
    one(&store, create("lobby")).await;
    assert!(matches!(one(&store, once("k1", 1, rename("First"))).await, Written::Room { .. }));
    // A room that is there is no deed either.
    assert!(matches!(one(&store, once("k2", 1, create("lobby"))).await, Written::RoomExists(_)));
    assert!(matches!(one(&store, once("k2", 1, create("den"))).await, Written::Room { .. }));
}

/// Whoever asks again is given the invitation that was made, not the one that would have been.
pub(super) async fn an_invitation_of_a_key_is_found_again(store: Arc<dyn Store>) {
    one(&store, create("lobby")).await;
    let invite = |code: &str| Write::Invite {
        room: room_id("lobby"),
        actor: Actor::service("gateway"),
        key: InviteKey::Code(code.into()),
        uses_max: 0,
        expires_ms: NOW + 60_000,
        at_ms: NOW,
    };
    assert!(matches!(one(&store, once("k1", 1, invite("first"))).await, Written::Invited(..)));
    let Written::Repeated(again) = one(&store, once("k1", 1, invite("second"))).await else { panic!("made twice") };
    assert!(matches!(&*again, Written::Invited(InviteKey::Code(code), _) if code == "first"), "{again:?}");
    let (room, actor, key) = (room_id("lobby"), Actor::service("gateway"), InviteKey::Code("first".into()));
    one(&store, Write::RevokeInvite { room, actor, key, at_ms: NOW }).await;
    let gone = one(&store, once("k1", 1, invite("third"))).await;
    assert!(matches!(gone, Written::Refused(Refusal::NotFound(_))), "{gone:?}");
}

/// A day, and no moment longer.
pub(super) async fn keys_are_forgotten_after_a_day(store: Arc<dyn Store>) {
    one(&store, create("lobby")).await;
    one(&store, once("k1", 1, rename("First"))).await;
    let kept = one(&store, once_at("k1", 1, rename("First"), NOW + KEPT_MS - 1)).await;
    assert!(matches!(kept, Written::Repeated(_)), "{kept:?}");
    let anew = one(&store, once_at("k1", 2, rename("Anew"), NOW + KEPT_MS)).await;
    assert!(matches!(anew, Written::Room { room, .. } if room.title == "Anew"));
    let kept = one(&store, once_at("k1", 2, rename("Anew"), NOW + KEPT_MS + 1)).await;
    assert!(matches!(kept, Written::Repeated(_)), "{kept:?}");
}

/// It needs no membership, owns nothing and may do everything but what nobody may.
pub(super) async fn a_service_stands_above_the_owner(store: Arc<dyn Store>) {
    let service = || Actor::service("gateway");
    store.commit(&[create_as("den", RoomKind::Private, Settings::of(RoomKind::Private))]).await.unwrap();
    let admit = |who: &str| Write::Join {
        room: room_id("den"),
        user: user(who),
        invite: None,
        entitlements: Vec::new(),
        admitted_by: Some(service().id().clone()),
        at_ms: NOW,
    };
    let written = store.commit(&[admit("bob"), admit("bob"), say("den", "bob", "c1", "hello")]).await.unwrap();
    assert!(matches!(&written[0], Written::Joined { member, .. } if member.role() == Some(Role::Member)));
    let role =
        |who: &str, role| Write::SetRole { room: room_id("den"), actor: service(), user: user(who), role, at_ms: NOW };
    one(&store, role("bob", Role::Owner)).await;
    let members = store.members_of(&room_id("den"), &[user("alice"), user("bob")]).await.unwrap();
    let roles: Vec<_> = members.iter().map(|(_, member)| member.role().unwrap()).collect();
    assert_eq!(roles, [Role::Admin, Role::Owner], "there is one owner");
    let (room, cmid) = (room_id("den"), Cmid::parse("c1").unwrap());
    let content = Content::text("from the platform");
    let said = one(&store, Write::Append { room, author: service(), cmid, content, at_ms: NOW }).await;
    assert!(matches!(said, Written::Appended(entry) if entry.author.as_str() == "service:gateway"));
    let (room, reason) = (room_id("den"), String::new());
    let ban = Write::Moderate {
        room,
        actor: service(),
        user: user("bob"),
        sanction: Sanction::Ban,
        reason,
        seconds: 0,
        at_ms: NOW,
    };
    assert!(matches!(one(&store, ban).await, Written::Member { member, .. } if member.joined.is_none()));
    assert!(matches!(one(&store, admit("bob")).await, Written::Refused(Refusal::Forbidden(_))), "not past a ban");
    let audit = store.audit(&room_id("den"), u64::MAX, 10).await.unwrap();
    let done: Vec<_> = audit.iter().rev().map(|(_, row)| (row.action.as_ref(), row.actor.as_str())).collect();
    assert_eq!(done, [("add_member", "service:gateway"), ("set_role", "service:gateway"), ("ban", "service:gateway")]);
}

pub(super) async fn only_the_named_settings_change(store: Arc<dyn Store>) {
    one(&store, create("lobby")).await;
    let mut wanted = Settings::of(RoomKind::Private);
    wanted.slow_mode_seconds = 30;
    assert!(!wanted.listed, "it differs in what is not named");
    let only = Some(vec![SettingsField::SlowModeSeconds]);
    let update = RoomUpdate { settings: Some(wanted), only, ..RoomUpdate::default() };
    let write = Write::UpdateRoom { room: room_id("lobby"), actor: Actor::service("gateway"), update, at_ms: NOW };
    one(&store, write).await;
    let settings = store.room(&room_id("lobby")).await.unwrap().unwrap().settings;
    assert_eq!((settings.slow_mode_seconds, settings.listed), (30, true));
}
