//! Roles, sanctions, and what is kept of them.

use std::time::Duration;

use veza_client::proto::v1::{
    CreateRoom, Error, ErrorCode, MemberFilter, MemberUpdated, Message, PresenceChanged, Publish, Role, RoomSettings,
    Sanction, SystemKind, message::Change, push,
};

use crate::carrier::{Player, SOON, Stage, ask};

async fn moderate(
    player: &Player,
    user: &str,
    sanction: Sanction,
    seconds: u64,
    reason: &str,
) -> Result<MemberUpdated, Error> {
    ask!(player, Moderate { room: "garden", user: user, sanction: sanction, seconds: seconds, reason: reason } => MemberUpdated)
}

async fn set_role(player: &Player, user: &str, role: Role) -> Result<Role, Error> {
    let updated = ask!(player, SetRole { room: "garden", user: user, role: role } => MemberUpdated)?;
    Ok(updated.member.unwrap().role())
}

fn code<T: std::fmt::Debug>(answer: Result<T, Error>) -> ErrorCode {
    answer.unwrap_err().code()
}

/// The note that tells of what was done to a member.
fn note(message: &Message) -> Option<(SystemKind, &str)> {
    match &message.change {
        Some(Change::System(note)) => Some((note.kind(), note.user.as_str())),
        _ => None,
    }
}

/// Asks until the server no longer says to wait, and says how it refused before.
async fn after_the_wait<T>(asked: impl AsyncFn() -> Result<T, Error>, code: ErrorCode) -> T {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        match asked().await {
            Ok(answer) => return answer,
            Err(error) => {
                assert_eq!((error.code(), error.temporary), (code, true), "{error:?}");
                assert!(tokio::time::Instant::now() < deadline, "it does not end: {error:?}");
                tokio::time::sleep(Duration::from_millis(error.retry_after_ms.into())).await;
            }
        }
    }
}

pub async fn roles_decide_what_one_may_do(stage: &Stage) {
    let alice = stage.player("alice").await;
    let settings = Some(RoomSettings { listed: true, default_role: Role::Guest.into(), ..RoomSettings::default() });
    alice.create(CreateRoom { room: "garden".into(), settings, ..CreateRoom::default() }).await.unwrap();
    alice.join("garden").await.unwrap();
    let first = alice.publish("garden", "a1", "welcome").await.unwrap().seq;
    let [bob, carol] = [stage.player_in("bob", "garden").await, stage.player_in("carol", "garden").await];

    // A guest reads and reacts.
    assert_eq!(code(bob.publish("garden", "b1", "hello").await), ErrorCode::PermissionDenied);
    bob.react("garden", "b2", first, "👋").await.unwrap();
    // A member writes, and stands over nobody.
    assert_eq!(set_role(&alice, "bob", Role::Member).await.unwrap(), Role::Member);
    let said = bob.publish("garden", "b1", "hello").await.unwrap().seq;
    assert_eq!(code(set_role(&bob, "carol", Role::Member).await), ErrorCode::PermissionDenied);
    assert_eq!(code(bob.pin("garden", "b3", first).await), ErrorCode::PermissionDenied);
    assert_eq!(code(bob.delete("garden", "b4", first).await), ErrorCode::PermissionDenied);
    let everybody = Publish { room: "garden".into(), cmid: "b5".into(), body: "all!".into(), ..Publish::default() };
    let everybody = Publish { mentions: vec!["*".into()], ..everybody };
    assert_eq!(code(bob.say(everybody.clone()).await), ErrorCode::PermissionDenied);
    // A moderator pins, deletes, mentions everybody; and gives no roles.
    set_role(&alice, "bob", Role::Moderator).await.unwrap();
    bob.pin("garden", "b3", first).await.unwrap();
    bob.say(everybody).await.unwrap();
    assert_eq!(code(set_role(&bob, "carol", Role::Member).await), ErrorCode::PermissionDenied);
    // An administrator gives roles below their own, to members below it.
    set_role(&alice, "bob", Role::Admin).await.unwrap();
    set_role(&bob, "carol", Role::Moderator).await.unwrap();
    assert_eq!(code(set_role(&bob, "carol", Role::Admin).await), ErrorCode::PermissionDenied);
    assert_eq!(code(set_role(&bob, "alice", Role::Member).await), ErrorCode::PermissionDenied);
    assert_eq!(code(set_role(&alice, "dave", Role::Member).await), ErrorCode::NotFound);
    // Carol may delete what bob said: deleting asks for a role, not for a higher one.
    carol.delete("garden", "c1", said).await.unwrap();

    // The owner hands the room over, and cannot just go before.
    assert_eq!(code(ask!(alice, LeaveRoom { room: "garden" } => RoomLeft)), ErrorCode::PermissionDenied);
    alice.join("garden").await.unwrap();
    assert_eq!(set_role(&alice, "bob", Role::Owner).await.unwrap(), Role::Owner);
    let staff = ask!(alice, ListMembers { room: "garden", filter: MemberFilter::Staff } => MemberList).unwrap();
    let staff: Vec<_> = staff.members.iter().map(|member| (member.user.as_str(), member.role())).collect();
    assert_eq!(staff, [("alice", Role::Admin), ("bob", Role::Owner), ("carol", Role::Moderator)]);
    ask!(alice, LeaveRoom { room: "garden" } => RoomLeft).unwrap();
}

pub async fn members_are_listed_in_pages(stage: &Stage) {
    let [alice, bob, carol] = stage.in_room("garden", ["alice", "bob", "carol"]).await;
    let page = ask!(bob, ListMembers { room: "garden", limit: 2u32 } => MemberList).unwrap();
    let names = |page: &veza_client::proto::v1::MemberList| {
        page.members.iter().map(|member| member.user.clone()).collect::<Vec<_>>()
    };
    assert_eq!((names(&page), page.next.as_str()), (vec!["alice".to_owned(), "bob".into()], "bob"));
    let page = ask!(bob, ListMembers { room: "garden", after: page.next, limit: 2u32 } => MemberList).unwrap();
    assert_eq!((names(&page), page.next.as_str()), (vec!["carol".to_owned()], ""));

    moderate(&alice, "carol", Sanction::Mute, 3_600, "shouting").await.unwrap();
    moderate(&alice, "mallory", Sanction::Ban, 0, "a bot").await.unwrap();
    for filter in [MemberFilter::Muted, MemberFilter::Banned] {
        let refused = ask!(bob, ListMembers { room: "garden", filter: filter } => MemberList);
        assert_eq!(code(refused), ErrorCode::PermissionDenied);
    }
    let muted = ask!(alice, ListMembers { room: "garden", filter: MemberFilter::Muted } => MemberList).unwrap();
    assert_eq!((names(&muted), muted.members[0].reason.as_str()), (vec!["carol".to_owned()], "shouting"));
    let banned = ask!(alice, ListMembers { room: "garden", filter: MemberFilter::Banned } => MemberList).unwrap();
    assert_eq!((names(&banned), banned.members[0].reason.as_str()), (vec!["mallory".to_owned()], "a bot"));
    assert_eq!(banned.members[0].banned_until_ms, (1 << 53) - 1);
    // Sanctions are between the moderators and whom they are about.
    let seen = async |player: &Player| {
        let list = ask!(player, ListMembers { room: "garden" } => MemberList).unwrap();
        let carol = list.members.into_iter().find(|member| member.user == "carol").unwrap();
        (carol.muted_until_ms > 0, carol.reason)
    };
    assert_eq!(seen(&bob).await, (false, String::new()));
    assert_eq!(seen(&carol).await, (true, "shouting".to_owned()));
}

pub async fn a_mute_holds_until_it_ends_or_is_lifted(stage: &Stage) {
    let [mut alice, bob] = stage.in_room("garden", ["alice", "bob"]).await;
    let said = bob.publish("garden", "b0", "before").await.unwrap().seq;
    let member = moderate(&alice, "bob", Sanction::Mute, 3_600, "shouting").await.unwrap().member.unwrap();
    assert_eq!((member.user.as_str(), member.reason.as_str()), ("bob", "shouting"));
    let muted = bob.publish("garden", "b1", "may I?").await.unwrap_err();
    assert_eq!((muted.code(), muted.temporary), (ErrorCode::Muted, true));
    assert!((1..=3_600_000).contains(&muted.retry_after_ms), "{muted:?}");
    assert_eq!(code(bob.react("garden", "b2", said, "👍").await), ErrorCode::Muted);
    assert_eq!(code(bob.edit("garden", "b3", said, "after").await), ErrorCode::Muted);
    // What is one's own may be taken back, and a retry of what was stored is answered.
    assert!(bob.publish("garden", "b0", "before").await.unwrap().duplicate);
    let me = bob.join("garden").await.unwrap().room.unwrap().me.unwrap();
    assert_eq!((me.muted_until_ms, me.reason.as_str()), (member.muted_until_ms, "shouting"));
    bob.delete("garden", "b4", said).await.unwrap();
    // The same message goes once it is lifted.
    moderate(&alice, "bob", Sanction::Unmute, 0, "").await.unwrap();
    bob.publish("garden", "b1", "may I?").await.unwrap();
    assert_eq!(code(moderate(&alice, "bob", Sanction::Unmute, 0, "").await), ErrorCode::NotFound);
    // One that ends by itself, and one that does not.
    moderate(&alice, "bob", Sanction::Mute, 1, "").await.unwrap();
    after_the_wait(async || bob.publish("garden", "b5", "and now?").await, ErrorCode::Muted).await;
    moderate(&alice, "bob", Sanction::Mute, 0, "").await.unwrap();
    let muted = bob.publish("garden", "b6", "again?").await.unwrap_err();
    assert_eq!((muted.code(), muted.temporary, muted.retry_after_ms), (ErrorCode::Muted, false, 0));
    // Nobody mutes their equals, their betters or themselves.
    for user in ["alice", "nobody"] {
        let refused = code(moderate(&alice, user, Sanction::Mute, 0, "").await);
        assert!(matches!(refused, ErrorCode::PermissionDenied | ErrorCode::NotFound), "{user}: {refused:?}");
    }
    assert_eq!(code(moderate(&bob, "alice", Sanction::Mute, 0, "").await), ErrorCode::PermissionDenied);
    let notes: Vec<_> = alice.messages(8).await;
    let notes: Vec<_> = notes.iter().filter_map(note).collect();
    let (muted, unmuted) = ((SystemKind::Muted, "bob"), (SystemKind::Unmuted, "bob"));
    assert_eq!(notes, [muted, unmuted, muted, muted]);
}

/// Everything of the room that a player was told by now: the ping's answer comes behind it on the same lane.
async fn told_of_garden(player: &mut Player) -> Vec<Message> {
    ask!(player, Ping {} => Pong).unwrap();
    let mut messages = Vec::new();
    let message = |event: &push::Event| match event {
        push::Event::Message(delivered) => delivered.message.clone(),
        _ => None,
    };
    while let Ok(message) = tokio::time::timeout(Duration::from_millis(300), player.hear(message)).await {
        messages.push(message);
    }
    messages
}

pub async fn a_kick_ends_the_membership_on_every_session(stage: &Stage) {
    let [alice, mut bob] = stage.in_room("garden", ["alice", "bob"]).await;
    let mut elsewhere = stage.player_in("bob", "garden").await;
    alice.publish("garden", "a1", "all of you").await.unwrap();
    let kicked = moderate(&alice, "bob", Sanction::Kick, 0, "spam").await.unwrap().member.unwrap();
    assert_eq!(kicked.role(), Role::Unspecified, "no member any more");
    for session in [&mut bob, &mut elsewhere] {
        let evicted = session.evicted().await;
        let told = (evicted.room.as_str(), evicted.sanction(), evicted.reason.as_str(), evicted.until_ms);
        assert_eq!(told, ("garden", Sanction::Kick, "spam", 0));
    }
    alice.publish("garden", "a2", "without bob").await.unwrap();
    let heard = told_of_garden(&mut bob).await;
    assert!(heard.iter().all(|message| message.body != "without bob"), "{heard:?}");
    assert_eq!(code(bob.publish("garden", "b1", "still here").await), ErrorCode::NotFound);
    assert_eq!(code(ask!(bob, History { room: "garden" } => HistoryPage)), ErrorCode::NotFound);
    assert_eq!(code(ask!(bob, ListMembers { room: "garden" } => MemberList)), ErrorCode::NotFound);
    assert_eq!(code(moderate(&alice, "bob", Sanction::Kick, 0, "").await), ErrorCode::NotFound);
    // A public room takes back whoever was only put out of it; for a while it does not.
    bob.join("garden").await.unwrap();
    bob.publish("garden", "b1", "back again").await.unwrap();
    moderate(&alice, "bob", Sanction::Kick, 2, "once more").await.unwrap();
    let evicted = bob.evicted().await;
    assert!(evicted.until_ms > 0, "{evicted:?}");
    after_the_wait(async || bob.join("garden").await, ErrorCode::Banned).await;
    bob.publish("garden", "b2", "a quieter bob").await.unwrap();
}

pub async fn a_ban_keeps_out_until_it_ends_or_is_lifted(stage: &Stage) {
    let [alice, mut bob, mut carol] = stage.in_room("garden", ["alice", "bob", "carol"]).await;
    let banned = moderate(&alice, "bob", Sanction::Ban, 0, "spam").await.unwrap().member.unwrap();
    assert_eq!((banned.banned_until_ms, banned.role()), ((1 << 53) - 1, Role::Unspecified));
    assert_eq!(bob.evicted().await.sanction(), Sanction::Ban);
    let out = bob.join("garden").await.unwrap_err();
    assert_eq!((out.code(), out.temporary, out.retry_after_ms), (ErrorCode::Banned, false, 0));
    // Who is banned is here no more for the others, however short the stay was.
    let gone = |event: &push::Event| match event {
        push::Event::PresenceChanged(PresenceChanged { left, .. }) if left.contains(&"bob".to_owned()) => Some(()),
        _ => None,
    };
    carol.hear(gone).await;
    moderate(&alice, "bob", Sanction::Unban, 0, "").await.unwrap();
    bob.join("garden").await.unwrap();
    assert_eq!(code(moderate(&alice, "bob", Sanction::Unban, 0, "").await), ErrorCode::NotFound);
    // One that ends by itself, of somebody who never was a member.
    moderate(&alice, "dave", Sanction::Ban, 1, "").await.unwrap();
    let dave = stage.player("dave").await;
    after_the_wait(async || dave.join("garden").await, ErrorCode::Banned).await;
    // No moderator bans another.
    set_role(&alice, "bob", Role::Moderator).await.unwrap();
    set_role(&alice, "carol", Role::Moderator).await.unwrap();
    assert_eq!(code(moderate(&bob, "carol", Sanction::Ban, 0, "").await), ErrorCode::PermissionDenied);
    assert_eq!(code(moderate(&bob, "alice", Sanction::Kick, 0, "").await), ErrorCode::PermissionDenied);
    moderate(&bob, "dave", Sanction::Ban, 0, "").await.unwrap();
}

pub async fn what_moderators_do_stands_in_the_audit_log(stage: &Stage) {
    let [alice, bob, carol] = stage.in_room("garden", ["alice", "bob", "carol"]).await;
    let said = carol.publish("garden", "c1", "buy my stuff").await.unwrap().seq;
    let kept = alice.publish("garden", "a1", "the rules").await.unwrap().seq;
    set_role(&alice, "bob", Role::Moderator).await.unwrap();
    let delete = ask!(bob, DeleteMessage { room: "garden", cmid: "b1", seq: said, reason: "advertising" } => Published);
    delete.unwrap();
    bob.pin("garden", "b2", kept).await.unwrap();
    moderate(&bob, "carol", Sanction::Mute, 60, "calm down").await.unwrap();
    moderate(&bob, "carol", Sanction::Ban, 0, "enough").await.unwrap();
    ask!(alice, UpdateRoom { room: "garden", topic: "no advertising".to_owned() } => RoomUpdated).unwrap();
    ask!(alice, CreateInvite { room: "garden", user: "dave" } => InviteCreated).unwrap();
    // One's own messages are one's own business.
    alice.delete("garden", "a2", kept).await.unwrap();

    let audit = ask!(bob, ListAudit { room: "garden" } => AuditList).unwrap();
    let told: Vec<_> = audit
        .entries
        .iter()
        .map(|entry| {
            (entry.actor.as_str(), entry.action.as_str(), entry.user.as_str(), entry.seq, entry.reason.as_str())
        })
        .collect();
    let expected = [
        ("alice", "invite", "dave", 0, ""),
        ("alice", "update_room", "", 0, ""),
        ("bob", "ban", "carol", 0, "enough"),
        ("bob", "mute", "carol", 0, "calm down"),
        ("bob", "pin", "", kept, ""),
        ("bob", "delete", "carol", said, "advertising"),
        ("alice", "set_role", "bob", 0, ""),
    ];
    assert_eq!(told, expected);
    assert!(audit.entries.iter().all(|entry| entry.at_ms > 0));
    // In pages, newest first, without an overlap.
    let (mut before, mut numbers) = (0, Vec::new());
    loop {
        let page = ask!(bob, ListAudit { room: "garden", before: before, limit: 3u32 } => AuditList).unwrap();
        numbers.extend(page.entries.iter().map(|entry| entry.number));
        before = page.next;
        if before == 0 {
            break;
        }
    }
    assert_eq!(numbers, audit.entries.iter().map(|entry| entry.number).collect::<Vec<_>>());
    // It is for moderators.
    let dave = stage.player("dave").await;
    assert_eq!(code(ask!(dave, ListAudit { room: "garden" } => AuditList)), ErrorCode::NotFound);
    dave.join("garden").await.unwrap();
    assert_eq!(code(ask!(dave, ListAudit { room: "garden" } => AuditList)), ErrorCode::PermissionDenied);
}
