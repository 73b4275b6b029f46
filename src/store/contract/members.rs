use veza_engine::ledger::{InviteKey, InviteRow};

use super::*;
use crate::store::{Invites, Members};

pub(super) async fn joining_and_leaving_twice_counts_once(store: Arc<dyn Store>) {
    commit_one(&store, create("lobby")).await;
    for (who, members) in [("bob", 2), ("bob", 2), ("alice", 2)] {
        let Written::Joined { room, member } = commit_one(&store, join("lobby", who)).await else {
            panic!("not joined")
        };
        assert_eq!(room.members, members);
        assert_eq!(room, row(&store, "lobby").await);
        assert_eq!(Some(member), self::member(&store, "lobby", who).await);
    }
    let Written::Left { room } = commit_one(&store, leave("lobby", "bob")).await else { panic!("not left") };
    assert_eq!((room.members, is_member(&store, "lobby", "bob").await), (1, false));
    assert_eq!(commit_one(&store, leave("lobby", "bob")).await, Written::Refused(Refusal::NoSuchRoom));
    assert_eq!(row(&store, "lobby").await, room);
}

pub(super) async fn who_joins_and_leaves_in_one_batch_is_counted_right(store: Arc<dyn Store>) {
    commit_one(&store, create("lobby")).await;
    let batch = [
        join("lobby", "bob"),
        leave("lobby", "bob"),
        join("lobby", "carol"),
        leave("lobby", "carol"),
        join("lobby", "carol"),
        join("lobby", "carol"),
        join("lobby", "dave"),
        leave("lobby", "dave"),
        join("lobby", "dave"),
    ];
    let written = commit_all(&store, &batch).await;
    let Written::Joined { room, .. } = &written[8] else { panic!("{:?}", written[8]) };
    assert_eq!(room.members, 3);
    assert_eq!(row(&store, "lobby").await, *room);
    for (who, expected) in [("alice", true), ("bob", false), ("carol", true), ("dave", true)] {
        assert_eq!(is_member(&store, "lobby", who).await, expected, "{who}");
    }
    commit_all(&store, &[leave("lobby", "carol"), join("lobby", "bob")]).await;
    assert_eq!(row(&store, "lobby").await.members, 3);
}

pub(super) async fn an_unknown_room_has_no_members(store: Arc<dyn Store>) {
    let written = store.commit(&[join("nowhere", "bob"), leave("nowhere", "bob")]).await.unwrap();
    assert_eq!(written, [Written::Refused(Refusal::NoSuchRoom), Written::Refused(Refusal::NoSuchRoom)]);
    assert!(store.members(&room_id("nowhere"), Members::All, None, 10).await.unwrap().is_empty());
    assert!(store.members_of(&room_id("nowhere"), &[user("bob")]).await.unwrap().is_empty());
}

async fn names(store: &Arc<dyn Store>, which: Members, after: Option<&str>, limit: u32) -> Vec<String> {
    let page = store.members(&room_id("lobby"), which, after, limit).await.unwrap();
    for (who, member) in &page {
        assert_eq!(Some(member), self::member(store, "lobby", who.as_str()).await.as_ref());
    }
    page.iter().map(|(who, _)| String::from(who)).collect()
}

pub(super) async fn lists_by_what_members_are(store: Arc<dyn Store>) {
    let everybody = ["42", "Zoe", "alice", "bob", "carol", "dave", "élodie"];
    commit_all(&store, &[create("lobby"), create("other"), join("other", "eve")]).await;
    commit_all(&store, &everybody.map(|who| join("lobby", who))).await;
    commit_all(
        &store,
        &[
            set_role("lobby", "carol", Role::Moderator),
            set_role("lobby", "42", Role::Admin),
            moderate("lobby", "carol", "bob", Sanction::Mute, 60),
            moderate("lobby", "carol", "dave", Sanction::Ban, 0),
            moderate("lobby", "carol", "mallory", Sanction::Ban, 60),
            moderate("lobby", "carol", "Zoe", Sanction::Mute, 0),
        ],
    )
    .await;
    let members = ["42", "Zoe", "alice", "bob", "carol", "élodie"];
    assert_eq!(names(&store, Members::All, None, 10).await, members);
    assert_eq!(names(&store, Members::All, None, 2).await, members[..2]);
    assert_eq!(names(&store, Members::All, Some("alice"), 2).await, members[3..5]);
    assert_eq!(names(&store, Members::All, Some("élodie"), 10).await, [""; 0]);
    assert_eq!(names(&store, Members::Staff, None, 10).await, ["42", "alice", "carol"]);
    assert_eq!(names(&store, Members::Staff, Some("42"), 1).await, ["alice"]);
    let end = NOW + 2 + 60_000;
    assert_eq!(names(&store, Members::Muted { now_ms: end - 1 }, None, 10).await, ["Zoe", "bob"]);
    assert_eq!(names(&store, Members::Muted { now_ms: end }, None, 10).await, ["Zoe"]);
    assert_eq!(names(&store, Members::Banned { now_ms: end - 1 }, None, 10).await, ["dave", "mallory"]);
    assert_eq!(names(&store, Members::Banned { now_ms: end }, Some("a"), 1).await, ["dave"]);
}

pub(super) async fn members_of_a_room_by_name(store: Arc<dyn Store>) {
    commit_all(&store, &[create("lobby"), join("lobby", "bob"), create("other"), join("other", "carol")]).await;
    let users = ["carol", "bob", "alice", "bob"].map(user);
    let found = store.members_of(&room_id("lobby"), &users).await.unwrap();
    assert_eq!(found.iter().map(|(who, _)| who.as_str()).collect::<Vec<_>>(), ["alice", "bob"]);
    assert_eq!(Some(&found[1].1), member(&store, "lobby", "bob").await.as_ref());
    assert!(store.members_of(&room_id("lobby"), &[]).await.unwrap().is_empty());
}

pub(super) async fn a_ban_outlives_the_membership(store: Arc<dyn Store>) {
    commit_all(&store, &[create("lobby"), join("lobby", "bob"), moderate("lobby", "alice", "bob", Sanction::Ban, 60)])
        .await;
    let banned = member(&store, "lobby", "bob").await.unwrap();
    assert_eq!((banned.joined, banned.banned_until_ms, banned.reason.as_str()), (None, NOW + 2 + 60_000, "spam"));
    assert!(matches!(commit_one(&store, join("lobby", "bob")).await, Written::Refused(Refusal::Banned { .. })));
    commit_all(&store, &[moderate("lobby", "alice", "bob", Sanction::Unban, 0), join("lobby", "bob")]).await;
    let back = member(&store, "lobby", "bob").await.unwrap();
    assert_eq!((back.role(), back.banned_until_ms, back.reason.as_str()), (Some(Role::Member), 0, ""));
}

fn invite(room: &str, key: &InviteKey, uses_max: u32, at_ms: u64) -> Write {
    let (room, actor, key) = (room_id(room), user("alice").into(), key.clone());
    Write::Invite { room, actor, key, uses_max, expires_ms: NOW + 1_000, at_ms }
}

fn join_by(room: &str, who: &str, code: &str) -> Write {
    let (room, user) = (room_id(room), user(who));
    Write::Join { room, user, invite: Some(code.into()), entitlements: Vec::new(), admitted_by: None, at_ms: NOW + 3 }
}

async fn listed(store: &Arc<dyn Store>, which: Invites<'_>, now_ms: u64) -> Vec<(InviteKey, InviteRow, String)> {
    store.invites(which, now_ms, 10).await.unwrap()
}

pub(super) async fn invitations_are_spent(store: Arc<dyn Store>) {
    let (code, bob) = (InviteKey::Code("abc".into()), InviteKey::User(room_id("den"), user("bob")));
    let den = room_id("den");
    commit_one(&store, create_as("den", RoomKind::Private, Settings::of(RoomKind::Private))).await;
    commit_all(&store, &[invite("den", &code, 2, NOW), invite("den", &bob, 1, NOW + 1)]).await;
    assert_eq!(listed(&store, Invites::Of(&den), NOW).await.len(), 2);

    commit_all(&store, &[join("den", "bob"), join_by("den", "carol", "abc")]).await;
    let left = listed(&store, Invites::Of(&den), NOW).await;
    assert_eq!((left.len(), &left[0].0, left[0].1.uses), (1, &code, 1), "bob's is gone, the code was used once");
    let written = store.commit(&[join_by("den", "dave", "abc"), join_by("den", "erin", "abc")]).await.unwrap();
    assert!(matches!(&written[0], Written::Joined { .. }), "the second and last use");
    assert!(matches!(&written[1], Written::Refused(Refusal::NotFound(_))));
    assert!(listed(&store, Invites::Of(&den), NOW).await.is_empty(), "what is used up is not listed");
    assert_eq!(commit_one(&store, join_by("den", "frank", "abd")).await, Written::Refused(Refusal::NoSuchRoom));
}

pub(super) async fn invitations_are_listed(store: Arc<dyn Store>) {
    commit_all(
        &store,
        &["den", "den-2"].map(|room| create_as(room, RoomKind::Private, Settings::of(RoomKind::Private))),
    )
    .await;
    let keys = [
        InviteKey::Code("b".into()),
        InviteKey::Code("a".into()),
        InviteKey::User(room_id("den-2"), user("bob")),
        InviteKey::User(room_id("den"), user("bob")),
    ];
    let [b, a, second, first] = &keys;
    let batch = [
        invite("den", b, 0, NOW),
        invite("den", a, 0, NOW),
        invite("den-2", second, 1, NOW),
        invite("den", first, 1, NOW),
    ];
    commit_all(&store, &batch).await;
    commit_one(&store, invite("den", &InviteKey::Code("newest".into()), 0, NOW + 5)).await;
    let of = async |which, now_ms| -> Vec<InviteKey> {
        listed(&store, which, now_ms).await.into_iter().map(|(key, _, _)| key).collect()
    };
    let (den, bob) = (room_id("den"), user("bob"));
    let newest = InviteKey::Code("newest".into());
    assert_eq!(of(Invites::Of(&den), NOW).await, [newest.clone(), a.clone(), b.clone(), first.clone()]);
    assert_eq!(of(Invites::For(&bob), NOW + 999).await, [first.clone(), second.clone()]);
    assert!(of(Invites::For(&bob), NOW + 1_000).await.is_empty(), "they end");
    assert_eq!(listed(&store, Invites::For(&bob), NOW).await[1].2, "The den-2");
    assert_eq!(store.invites(Invites::Of(&den), NOW, 1).await.unwrap()[0].0, newest);

    let revoke = Write::RevokeInvite { room: den.clone(), actor: user("alice").into(), key: newest, at_ms: NOW + 6 };
    commit_all(&store, &[revoke, invite("den", a, 7, NOW + 7)]).await;
    assert_eq!(of(Invites::Of(&den), NOW).await, [a.clone(), b.clone(), first.clone()], "made anew, it is the newest");
    assert_eq!(listed(&store, Invites::Of(&den), NOW).await[0].1.uses_max, 7);
}

pub(super) async fn the_audit_log_in_pages(store: Arc<dyn Store>) {
    commit_all(&store, &[create("lobby"), join("lobby", "bob")]).await;
    let roles = [Role::Moderator, Role::Admin, Role::Member, Role::Guest];
    commit_all(&store, &roles.map(|role| set_role("lobby", "bob", role))).await;
    commit_one(&store, moderate("lobby", "alice", "bob", Sanction::Mute, 5)).await;
    let page = async |before, limit| -> Vec<u64> {
        let page = store.audit(&room_id("lobby"), before, limit).await.unwrap();
        page.iter().map(|(number, _)| *number).collect()
    };
    assert_eq!(page(u64::MAX, 10).await, [5, 4, 3, 2, 1]);
    assert_eq!(page(u64::MAX, 2).await, [5, 4]);
    assert_eq!(page(4, 2).await, [3, 2]);
    assert_eq!(page(1, 10).await, [0; 0]);
    assert_eq!(page(u64::MAX, 0).await, [0; 0]);
    let (_, last) = store.audit(&room_id("lobby"), u64::MAX, 1).await.unwrap().remove(0);
    assert_eq!((last.action.as_ref(), last.actor.as_str(), last.user), ("mute", "alice", Some(user("bob"))));
    assert_eq!((last.reason.as_str(), last.detail.as_str(), last.at_ms, last.seq), ("spam", "for 5 s", NOW + 2, 0));
    assert!(store.audit(&room_id("nowhere"), u64::MAX, 10).await.unwrap().is_empty());
}
