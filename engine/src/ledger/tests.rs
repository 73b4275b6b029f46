//! What writes may and may not do, told on a ledger that has everything.

use veza_proto::limits as wire;
use veza_proto::v1::{Action, Permission, Role, RoomKind, RoomSettings, Sanction};
use veza_proto::{Cmid, RoomId, UserId};

use super::*;

const NOW: u64 = 1_760_000_000_000;

/// A ledger, a room `r` of alice's (owner), and a clock.
struct Scene {
    ledger: Ledger,
    now: u64,
    cmids: u64,
}

fn room() -> RoomId {
    RoomId::parse("r").unwrap()
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

impl Scene {
    fn new() -> Self {
        Self::of(RoomKind::Public, |_| {})
    }

    fn of(kind: RoomKind, set: impl FnOnce(&mut RoomSettings)) -> Self {
        let mut scene = Self { ledger: Ledger::default(), now: NOW, cmids: 0 };
        let settings = settings(kind, set);
        let (title, topic, creator) = ("R".into(), String::new(), Some(user("alice")));
        let write = Write::CreateRoom { room: room(), title, topic, kind, settings, creator, at_ms: NOW };
        assert!(matches!(scene.write(&write), Written::Room { .. }));
        scene
    }

    /// With members bob, carol and mod, who is a moderator.
    fn with_members() -> Self {
        let mut scene = Self::new();
        for who in ["bob", "carol", "mod"] {
            scene.join(who);
        }
        scene.role("alice", "mod", Role::Moderator);
        scene
    }

    fn write(&mut self, write: &Write) -> Written {
        self.ledger.apply(write)
    }

    fn append(&mut self, who: &str, content: Content) -> Written {
        self.cmids += 1;
        let cmid = format!("c{}", self.cmids);
        self.append_as(who, &cmid, content)
    }

    fn append_as(&mut self, who: &str, cmid: &str, content: Content) -> Written {
        let (author, cmid) = (user(who).into(), Cmid::parse(cmid).unwrap());
        self.write(&Write::Append { room: room(), author, cmid, content, at_ms: self.now })
    }

    /// The number of what was said.
    #[track_caller]
    fn say(&mut self, who: &str, body: &str) -> u64 {
        seq(&self.append(who, Content::text(body)))
    }

    fn join(&mut self, who: &str) -> Written {
        self.join_by(who, None, &[])
    }

    fn join_by(&mut self, who: &str, code: Option<&str>, entitlements: &[&str]) -> Written {
        let (user, invite) = (user(who), code.map(str::to_owned));
        let entitlements = entitlements.iter().map(|it| (*it).to_owned()).collect();
        self.write(&Write::Join { room: room(), user, invite, entitlements, admitted_by: None, at_ms: self.now })
    }

    fn leave(&mut self, who: &str) -> Written {
        self.write(&Write::Leave { room: room(), user: user(who), ended_by: None, at_ms: self.now })
    }

    fn role(&mut self, actor: &str, who: &str, role: Role) -> Written {
        let (actor, user) = (user(actor).into(), user(who));
        self.write(&Write::SetRole { room: room(), actor, user, role, at_ms: self.now })
    }

    fn moderate(&mut self, actor: &str, who: &str, sanction: Sanction, seconds: u64) -> Written {
        let (actor, user, reason) = (user(actor).into(), user(who), "spam".into());
        self.write(&Write::Moderate { room: room(), actor, user, sanction, reason, seconds, at_ms: self.now })
    }

    fn invite(&mut self, actor: &str, key: InviteKey, uses_max: u32, seconds: u64) -> Written {
        let expires_ms = self.now + seconds * 1_000;
        self.write(&Write::Invite {
            room: room(),
            actor: user(actor).into(),
            key,
            uses_max,
            expires_ms,
            at_ms: self.now,
        })
    }

    fn update(&mut self, actor: &str, update: RoomUpdate) -> Written {
        self.write(&Write::UpdateRoom { room: room(), actor: user(actor).into(), update, at_ms: self.now })
    }

    fn mark(&mut self, who: &str, read_seq: u64) -> MemberRow {
        let write = Write::Mark { room: room(), user: user(who), delivered_seq: 0, read_seq };
        let Written::Marked { member } = self.write(&write) else { panic!("not marked") };
        member
    }

    fn expire(&mut self, up_to: u64) -> Written {
        self.write(&Write::Expire { room: room(), up_to, at_ms: self.now })
    }

    fn row(&self) -> &RoomRow {
        self.ledger.rooms.get(&room()).unwrap()
    }

    fn member(&self, who: &str) -> &MemberRow {
        self.ledger.members.get(&(room(), user(who))).unwrap()
    }

    fn entry(&self, seq: u64) -> &EntryRow {
        self.ledger.entries.get(&(room(), seq)).unwrap()
    }

    fn unread(&self, who: &str) -> u32 {
        self.row().unread(self.member(who))
    }
}

fn settings(kind: RoomKind, set: impl FnOnce(&mut RoomSettings)) -> Settings {
    let mut wire = Settings::of(kind).to_wire();
    set(&mut wire);
    Settings::parse(&wire).unwrap()
}

#[track_caller]
fn seq(written: &Written) -> u64 {
    let Written::Appended(entry) = written else { panic!("not appended: {written:?}") };
    entry.seq
}

#[track_caller]
fn refused(written: Written) -> Refusal {
    let Written::Refused(refusal) = written else { panic!("not refused: {written:?}") };
    refusal
}

#[track_caller]
fn forbidden(written: Written) {
    let refusal = refused(written);
    assert!(matches!(refusal, Refusal::Forbidden(_)), "{refusal:?}");
}

#[track_caller]
fn not_found(written: Written) {
    let refusal = refused(written);
    assert!(matches!(refusal, Refusal::NotFound(_)), "{refusal:?}");
}

fn edit(target: u64, body: &str) -> Content {
    Content::Edit { target, body: body.into(), mentions: Vec::new() }
}

fn delete(target: u64) -> Content {
    Content::Delete { target, reason: String::new() }
}

fn react(target: u64, emoji: &str) -> Content {
    Content::React { target, emoji: emoji.into(), remove: false }
}

fn pin(target: u64) -> Content {
    Content::Pin { target, remove: false }
}

fn text(thread: u64, reply_to: u64, mentions: &[&str]) -> Content {
    let mentions = mentions.iter().map(|user| (*user).to_owned()).collect();
    Content::Text { body: "x".into(), thread, reply_to, mentions, attachments: Vec::new() }
}

#[test]
fn a_room_is_not_there_for_whoever_is_not_in_it() {
    let mut scene = Scene::new();
    for written in [
        scene.append("bob", Content::text("hi")),
        scene.leave("bob"),
        scene.role("bob", "alice", Role::Guest),
        scene.moderate("bob", "alice", Sanction::Ban, 0),
        scene.invite("bob", InviteKey::Code("x".into()), 0, 60),
        scene.update("bob", RoomUpdate::default()),
        scene.write(&Write::Mark { room: room(), user: user("bob"), delivered_seq: 1, read_seq: 1 }),
    ] {
        assert_eq!(refused(written), Refusal::NoSuchRoom);
    }
    assert_eq!((scene.row().head, scene.row().audit), (0, 0));
}

#[test]
fn a_cmid_is_one_message_whatever_kind() {
    let mut scene = Scene::with_members();
    let head = scene.row().head;
    assert_eq!(seq(&scene.append_as("bob", "x", Content::text("hi"))), head + 1);
    let again = Written::Duplicate { epoch: NOW, seq: head + 1, at_ms: NOW };
    scene.now += 5;
    assert_eq!(scene.append_as("bob", "x", Content::text("hi")), again);
    for other in [Content::text("ho"), edit(head + 1, "hi"), react(head + 1, "+"), delete(head + 1)] {
        assert_eq!(refused(scene.append_as("bob", "x", other)), Refusal::CmidConflict);
    }
    assert_eq!(seq(&scene.append_as("carol", "x", Content::text("hi"))), head + 2, "another author's is another");
    scene.append("bob", delete(head + 1));
    assert_eq!(scene.append_as("bob", "x", Content::text("hi")), again, "also when it is deleted");
    scene.moderate("mod", "bob", Sanction::Mute, 60);
    assert_eq!(scene.append_as("bob", "x", Content::text("hi")), again, "also for somebody who is muted now");
}

#[test]
fn only_ones_own_is_edited_as_often_as_one_may() {
    let mut scene = Scene::with_members();
    let said = scene.say("bob", "one");
    forbidden(scene.append("carol", edit(said, "mine")));
    forbidden(scene.append("alice", edit(said, "mine")));
    for revision in 1..=wire::EDITS_MAX {
        let written = scene.append("bob", edit(said, &format!("{revision}")));
        let Written::Appended(entry) = written else { panic!("{written:?}") };
        assert_eq!(entry.detail, Detail::Edit { target: said, mentions: vec![], revision });
    }
    assert!(matches!(refused(scene.append("bob", edit(said, "more"))), Refusal::Limit(_)));
    not_found(scene.append("bob", edit(said + 1, "an edit is no message")));
    not_found(scene.append("bob", edit(9_999, "nothing")));
}

#[test]
fn deleting_is_for_the_author_and_for_moderators_who_leave_a_trace() {
    let mut scene = Scene::with_members();
    let (first, second) = (scene.say("bob", "one"), scene.say("bob", "two"));
    forbidden(scene.append("carol", delete(first)));
    let audit = scene.row().audit;
    let by_author = seq(&scene.append("bob", delete(first)));
    assert_eq!(scene.row().audit, audit, "one's own is nobody's business");
    seq(&scene.append("mod", delete(second)));
    let told = scene.ledger.audit.get(&(room(), audit + 1)).unwrap();
    assert_eq!((told.action.as_ref(), told.user.clone(), told.seq), ("delete", Some(user("bob")), second));
    let again = Written::Duplicate { epoch: NOW, seq: by_author, at_ms: NOW };
    assert_eq!(scene.append("bob", delete(first)), again);
    for act in [edit(first, "x"), react(first, "+"), text(first, 0, &[]), text(0, first, &[])] {
        assert_eq!(refused(scene.append("bob", act)), Refusal::Gone);
    }
    assert_eq!(refused(scene.append("mod", pin(first))), Refusal::Gone);
}

#[test]
fn a_message_has_so_many_emoji_and_a_room_so_many_pins() {
    let mut scene = Scene::with_members();
    let said = scene.say("bob", "one");
    for emoji in 0..wire::EMOJI_PER_MESSAGE_MAX {
        seq(&scene.append("bob", react(said, &format!("e{emoji}"))));
    }
    assert!(matches!(refused(scene.append("bob", react(said, "one more"))), Refusal::Limit(_)));
    seq(&scene.append("carol", react(said, "e0")));
    assert_eq!(scene.entry(said).reacted as usize, wire::EMOJI_PER_MESSAGE_MAX + 1, "another of the same is no other");
    scene.append("bob", Content::React { target: said, emoji: "e1".into(), remove: true });
    seq(&scene.append("bob", react(said, "one more")));

    let pinned: Vec<u64> = (0..=wire::PINS_MAX).map(|_| scene.say("bob", "pin me")).collect();
    for target in &pinned[1..] {
        seq(&scene.append("mod", pin(*target)));
    }
    assert!(matches!(refused(scene.append("mod", pin(pinned[0]))), Refusal::Limit(_)));
    seq(&scene.append("mod", delete(pinned[1])));
    seq(&scene.append("mod", pin(pinned[0])));
}

#[test]
fn a_thread_begins_in_the_room() {
    let mut scene = Scene::with_members();
    let root = scene.say("bob", "root");
    let reply = seq(&scene.append("carol", text(root, root, &[])));
    assert!(matches!(refused(scene.append("carol", text(reply, 0, &[]))), Refusal::Invalid(_)));
    not_found(scene.append("carol", text(9_999, 0, &[])));
    not_found(scene.append("carol", text(0, 9_999, &[])));
    let root = scene.entry(root);
    assert_eq!((root.replies, root.last_reply_seq, root.last_reply_ms), (1, reply, NOW));
}

#[test]
fn what_a_role_may_is_the_rooms_to_say() {
    let guests = |wire: &mut RoomSettings| wire.default_role = Role::Guest.into();
    let mut scene = Scene::of(RoomKind::Public, guests);
    let said = scene.say("alice", "hello");
    scene.join("bob");
    forbidden(scene.append("bob", Content::text("may I?")));
    seq(&scene.append("bob", react(said, "+")));
    forbidden(scene.append("bob", pin(said)));
    let open = settings(RoomKind::Public, |wire| {
        wire.permissions = [Action::Publish, Action::Pin, Action::MentionAll]
            .map(|action| Permission { action: action.into(), at_least: Role::Guest.into() })
            .to_vec();
    });
    scene.update("alice", RoomUpdate { settings: Some(open), ..RoomUpdate::default() });
    seq(&scene.append("bob", text(0, 0, &["*"])));
    seq(&scene.append("bob", pin(said)));
    forbidden(scene.append("bob", text(said, 0, &[])));
}

#[test]
fn roles_are_given_below_ones_own() {
    let mut scene = Scene::with_members();
    scene.role("alice", "carol", Role::Admin);
    for (actor, who, role) in [
        ("mod", "bob", Role::Guest),
        ("carol", "alice", Role::Guest),
        ("carol", "bob", Role::Admin),
        ("carol", "carol", Role::Guest),
        ("carol", "bob", Role::Owner),
    ] {
        forbidden(scene.role(actor, who, role));
    }
    not_found(scene.role("carol", "nobody", Role::Guest));
    assert!(matches!(scene.role("carol", "bob", Role::Moderator), Written::Member { note: Some(_), .. }));

    forbidden(scene.leave("alice"));
    scene.role("alice", "bob", Role::Owner);
    assert_eq!((scene.member("bob").role(), scene.member("alice").role()), (Some(Role::Owner), Some(Role::Admin)));
    assert!(matches!(scene.leave("alice"), Written::Left { .. }), "who has handed the room over may go");
}

#[test]
fn slow_mode_counts_from_the_last_message_and_spares_moderators() {
    let mut scene = Scene::of(RoomKind::Public, |wire| wire.slow_mode_seconds = 10);
    scene.join("bob");
    let said = scene.say("bob", "one");
    scene.now += 9_999;
    assert_eq!(refused(scene.append("bob", Content::text("two"))), Refusal::SlowMode { wait_ms: 1 });
    seq(&scene.append("bob", edit(said, "an edit is nothing new")));
    scene.now += 1;
    scene.say("bob", "two");
    scene.now -= 5_000;
    assert_eq!(refused(scene.append("bob", Content::text("x"))), Refusal::SlowMode { wait_ms: 15_000 }, "a clock back");
    scene.say("alice", "one");
    scene.say("alice", "two");
}

#[test]
fn the_times_of_messages_never_fall() {
    let mut scene = Scene::new();
    scene.now += 10_000;
    scene.say("alice", "one");
    scene.now -= 5_000;
    let second = scene.say("alice", "two");
    assert_eq!((scene.entry(second).at_ms, scene.row().last_message_ms), (NOW + 10_000, NOW + 10_000));
}

#[test]
fn who_is_muted_reads_and_takes_back() {
    let mut scene = Scene::with_members();
    let said = scene.say("bob", "one");
    scene.moderate("mod", "bob", Sanction::Mute, 60);
    scene.now += 59_999;
    for act in [Content::text("x"), edit(said, "x"), react(said, "+")] {
        assert_eq!(refused(scene.append("bob", act)), Refusal::Muted { wait_ms: Some(1) });
    }
    seq(&scene.append("bob", delete(said)));
    scene.now += 1;
    scene.say("bob", "two");
    scene.moderate("mod", "bob", Sanction::Mute, 0);
    assert_eq!(refused(scene.append("bob", Content::text("x"))), Refusal::Muted { wait_ms: None });
    scene.moderate("mod", "bob", Sanction::Unmute, 0);
    scene.say("bob", "three");
    not_found(scene.moderate("mod", "bob", Sanction::Unmute, 0));
}

#[test]
fn a_ban_ends_the_membership_and_keeps_out_until_it_ends() {
    let mut scene = Scene::with_members();
    let members = scene.row().members;
    scene.moderate("mod", "bob", Sanction::Ban, 60);
    assert_eq!(scene.row().members, members - 1);
    scene.now += 59_999;
    assert_eq!(refused(scene.join("bob")), Refusal::Banned { wait_ms: Some(1) });
    scene.now += 1;
    assert!(matches!(scene.join("bob"), Written::Joined { .. }));
    scene.moderate("mod", "stranger", Sanction::Ban, 0);
    assert_eq!(scene.row().members, members, "who is no member is not counted");
    assert_eq!(refused(scene.join("stranger")), Refusal::Banned { wait_ms: None });
    forbidden(scene.invite("mod", InviteKey::User(room(), user("stranger")), 1, 60));
    scene.moderate("mod", "stranger", Sanction::Unban, 0);
    assert!(matches!(scene.join("stranger"), Written::Joined { .. }));
}

#[test]
fn a_kick_keeps_out_only_when_it_says_how_long() {
    let mut scene = Scene::with_members();
    scene.moderate("mod", "bob", Sanction::Kick, 0);
    assert!(matches!(scene.join("bob"), Written::Joined { .. }));
    scene.moderate("mod", "bob", Sanction::Kick, 5);
    assert_eq!(refused(scene.join("bob")), Refusal::Banned { wait_ms: Some(5_000) });
    not_found(scene.moderate("mod", "bob", Sanction::Kick, 0));
    for who in ["mod", "alice"] {
        forbidden(scene.moderate("mod", who, Sanction::Kick, 0));
    }
    forbidden(scene.moderate("carol", "mod", Sanction::Kick, 0));
}

#[test]
fn a_private_room_opens_to_the_invited_only() {
    let mut scene = Scene::of(RoomKind::Private, |_| {});
    assert_eq!(refused(scene.join("bob")), Refusal::NoSuchRoom);
    assert_eq!(refused(scene.join_by("bob", Some("guess"), &[])), Refusal::NoSuchRoom);
    scene.invite("alice", InviteKey::Code("code".into()), 1, 60);
    scene.now += 60_000;
    not_found(scene.join_by("bob", Some("code"), &[]));
    scene.now -= 1;
    assert!(matches!(scene.join_by("bob", Some("code"), &[]), Written::Joined { .. }));
    not_found(scene.join_by("carol", Some("code"), &[]));
    forbidden(scene.invite("bob", InviteKey::Code("mine".into()), 0, 60));

    scene.invite("alice", InviteKey::User(room(), user("carol")), 1, 60);
    assert!(matches!(scene.join("carol"), Written::Joined { .. }), "a name needs no code");
    scene.leave("carol");
    assert_eq!(refused(scene.join("carol")), Refusal::NoSuchRoom, "and holds once");
    scene.moderate("alice", "bob", Sanction::Ban, 0);
    assert_eq!(refused(scene.join("bob")), Refusal::NoSuchRoom, "nobody outside hears of a hidden room");
}

#[test]
fn a_premium_room_opens_to_its_entitlement_and_to_the_invited() {
    let mut scene = Scene::of(RoomKind::Premium, |wire| wire.entitlement = "gold".into());
    forbidden(scene.join("bob"));
    forbidden(scene.join_by("bob", None, &["silver"]));
    assert!(matches!(scene.join_by("bob", None, &["silver", "gold"]), Written::Joined { .. }));
    scene.invite("alice", InviteKey::Code("code".into()), 0, 60);
    assert!(matches!(scene.join_by("carol", Some("code"), &[]), Written::Joined { .. }));
    let bare = settings(RoomKind::Premium, |_| {});
    let update = RoomUpdate { settings: Some(bare), ..RoomUpdate::default() };
    assert!(matches!(refused(scene.update("alice", update)), Refusal::Invalid(_)));
}

#[test]
fn a_room_of_two_has_no_roles_no_doors_and_no_way_out() {
    let mut ledger = Ledger::default();
    let open = |opener: &str, other: &str| {
        let (opener, other) = (user(opener), user(other));
        Write::OpenDirect { room: room(), opener, other, at_ms: NOW }
    };
    assert!(matches!(refused(ledger.apply(&open("alice", "alice"))), Refusal::Invalid(_)));
    assert!(matches!(ledger.apply(&open("alice", "bob")), Written::Room { .. }));
    assert!(matches!(ledger.apply(&open("bob", "alice")), Written::RoomExists(_)));
    assert_eq!(refused(ledger.apply(&open("carol", "alice"))), Refusal::NoSuchRoom);
    let mut scene = Scene { ledger, now: NOW, cmids: 0 };
    forbidden(scene.leave("alice"));
    assert_eq!(refused(scene.join("carol")), Refusal::NoSuchRoom);
    for written in [
        scene.role("alice", "bob", Role::Guest),
        scene.moderate("alice", "bob", Sanction::Ban, 0),
        scene.invite("alice", InviteKey::Code("x".into()), 0, 60),
        scene.update("alice", RoomUpdate::default()),
    ] {
        forbidden(written);
    }
    let said = scene.say("alice", "hello");
    seq(&scene.append("bob", pin(said)));
    forbidden(scene.append("bob", delete(said)));
}

#[test]
fn an_archived_room_is_read_only_until_it_is_not() {
    let mut scene = Scene::with_members();
    scene.update("alice", RoomUpdate { archived: Some(true), ..RoomUpdate::default() });
    forbidden(scene.append("bob", Content::text("x")));
    forbidden(scene.append("alice", Content::text("x")));
    forbidden(scene.update("mod", RoomUpdate { archived: Some(false), ..RoomUpdate::default() }));
    scene.update("alice", RoomUpdate { archived: Some(false), ..RoomUpdate::default() });
    scene.say("bob", "x");
}

#[test]
fn an_update_that_changes_nothing_writes_nothing() {
    let mut scene = Scene::new();
    let before = scene.row().clone();
    let same = RoomUpdate { title: Some("R".into()), archived: Some(false), ..RoomUpdate::default() };
    assert!(matches!(scene.update("alice", same), Written::Room { notes, .. } if notes.is_empty()));
    assert_eq!(*scene.row(), before);
}

#[test]
fn watermarks_rise_up_to_the_head_and_never_fall() {
    let mut scene = Scene::with_members();
    let head = scene.row().head;
    for body in ["one", "two", "three"] {
        scene.say("carol", body);
    }
    assert_eq!(scene.unread("bob"), 3);
    assert_eq!((scene.mark("bob", head + 2).read_seq, scene.unread("bob")), (head + 2, 1));
    assert_eq!((scene.mark("bob", head + 1).read_seq, scene.unread("bob")), (head + 2, 1));
    let marked = scene.mark("bob", u64::MAX);
    assert_eq!((marked.read_seq, marked.delivered_seq, scene.unread("bob")), (head + 3, head + 3, 0));
    scene.say("carol", "four");
    scene.say("bob", "five");
    assert_eq!((scene.unread("bob"), scene.unread("carol")), (0, 1), "who speaks has read");
}

#[test]
fn what_expires_is_forgotten_with_everything_on_it() {
    let mut scene = Scene::with_members();
    let said = scene.say("bob", "one");
    scene.append("carol", react(said, "+"));
    scene.append("mod", pin(said));
    let last = scene.say("carol", "two");
    assert!(matches!(scene.expire(last - 1), Written::Expired { room } if room.first_available == last));
    assert_eq!(scene.ledger.expired(), [(room(), last - 1)]);
    assert_eq!(scene.ledger.entries.iter().count(), 1);
    assert_eq!((scene.ledger.reactions.iter().count(), scene.ledger.pins.iter().count()), (0, 0));
    assert_eq!(scene.unread("alice"), 1, "what is gone is not unread");
    not_found(scene.append("bob", edit(said, "x")));
    not_found(scene.expire(last + 1));
    assert!(matches!(scene.expire(said), Written::Expired { .. }), "it was so already");
}

/// What a store loads for a batch is enough to decide it: a ledger with everything says the same.
#[test]
fn a_batch_asks_for_the_rows_it_reads() {
    let at_ms = NOW;
    let (author, cmid) = (user("bob"), Cmid::parse("c").unwrap());
    let content = Content::React { target: 3, emoji: "+".into(), remove: false };
    let needs = Needs::of(&[
        Write::Append { room: room(), author: author.clone().into(), cmid: cmid.clone(), content, at_ms },
        Write::Leave { room: room(), user: user("carol"), ended_by: None, at_ms },
    ]);
    assert_eq!(needs.rooms, [room()].into());
    assert_eq!(needs.members, [(room(), author.clone()), (room(), user("carol"))].into());
    assert_eq!(needs.sent, [(room(), author.clone(), cmid)].into());
    assert_eq!((needs.entries, needs.totals), ([(room(), 3)].into(), [(room(), 3)].into()));
    assert_eq!(needs.reactions, [(room(), 3, "+".to_owned(), author)].into());
    assert_eq!(needs.invites, [InviteKey::User(room(), user("carol"))].into());
}

#[test]
fn what_was_done_about_a_room_is_in_its_audit_log_and_changes_nothing_else() {
    let mut scene = Scene::with_members();
    let before = scene.row().clone();
    let row = AuditRow {
        at_ms: NOW,
        actor: user("mod"),
        action: "decide_review".into(),
        user: Some(user("bob")),
        seq: 7,
        reason: "spam".into(),
        detail: "warn".into(),
    };
    let write = Write::Audit { room: room(), row: row.clone() };
    assert!(matches!(scene.write(&write), Written::Room { notes, .. } if notes.is_empty()));
    assert_eq!(*scene.row(), RoomRow { audit: before.audit + 1, ..before.clone() });
    assert_eq!(scene.ledger.audit.get(&(room(), before.audit + 1)), Some(&row));
    let key = OnceKey { service: "@reviews".into(), key: "r.2".into(), digest: 0 };
    let once = Write::Once { key, write: Box::new(write), at_ms: NOW };
    scene.write(&once);
    assert!(matches!(scene.write(&once), Written::Repeated(_)));
    assert_eq!(scene.row().audit, before.audit + 2, "once under a key");
    let nowhere = Write::Audit { room: RoomId::parse("nowhere").unwrap(), row };
    assert!(matches!(scene.write(&nowhere), Written::Refused(Refusal::NoSuchRoom)));
}
