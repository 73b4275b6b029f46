//! What somebody may do in a room now, told without doing it: the questions a write is asked, on the same rows.

use veza_proto::UserId;
use veza_proto::v1::{Action, Role, RoomKind};

use super::append::wait;
use super::rows::{Joined, MemberRow, RoomRow};
use super::{Ledger, Refusal};

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// `None` for somebody who is no member.
    pub role: Option<Role>,
    /// What the action takes in this room.
    pub at_least: Role,
    /// Why not, as a write would be refused.
    pub refused: Option<Refusal>,
}

impl Permission {
    /// Whether `user` may do this. Somebody who is no member, but may come in as they are, is taken as what they would
    /// become.
    pub fn of(
        row: &RoomRow,
        user: &UserId,
        member: Option<&MemberRow>,
        entitlements: &[String],
        action: Action,
        now_ms: u64,
    ) -> Self {
        let role = member.and_then(MemberRow::role);
        let at_least = row.settings.at_least(action, row.kind);
        let refused = decide(row, user, member, entitlements, action, now_ms).err();
        Self { role, at_least, refused }
    }
}

fn decide(
    row: &RoomRow,
    user: &UserId,
    member: Option<&MemberRow>,
    entitlements: &[String],
    action: Action,
    now_ms: u64,
) -> Result<(), Refusal> {
    let mut known = member.cloned().unwrap_or_else(MemberRow::stranger);
    if known.joined.is_none() {
        let open = match row.kind {
            RoomKind::Public | RoomKind::Unspecified => true,
            RoomKind::Premium => entitlements.contains(&row.settings.entitlement),
            RoomKind::Private | RoomKind::Direct => false,
        };
        if !open || known.is_banned(now_ms) {
            return Err(known.outside(row, now_ms));
        }
        known.joined = Some(Joined { role: row.settings.default_role, at_ms: now_ms });
    }
    let changes_the_log = match action {
        Action::Publish | Action::React | Action::Pin | Action::Attach | Action::Thread | Action::MentionAll => true,
        Action::DeleteAny | Action::Invite | Action::Moderate | Action::Manage | Action::Unspecified => false,
    };
    if row.archived && (changes_the_log || action == Action::DeleteAny) {
        return Err(Refusal::Forbidden("this room is archived"));
    }
    if known.muted_until_ms > now_ms && changes_the_log {
        return Err(Refusal::Muted { wait_ms: wait(known.muted_until_ms, now_ms) });
    }
    let mut ledger = Ledger::default();
    ledger.members.load((row.id.clone(), user.clone()), known);
    ledger.rooms.load(row.id.clone(), row.clone());
    ledger.may(&row.id, &user.into(), action).map(drop)
}

#[cfg(test)]
mod tests {
    use veza_proto::RoomId;
    use veza_proto::v1::{RoomSettings, Sanction};

    use super::super::{Content, Settings, Write, Written};
    use super::*;

    const NOW: u64 = 1_000_000;

    fn user(name: &str) -> UserId {
        UserId::parse(name).expect("a story's name")
    }

    /// A room of alice's, and what somebody is to it.
    struct Scene {
        ledger: Ledger,
        room: RoomId,
    }

    impl Scene {
        fn of(kind: RoomKind) -> Self {
            let room = RoomId::parse("garden").expect("an id");
            let settings =
                Settings::parse(&RoomSettings { entitlement: "gold".into(), ..Settings::of(kind).to_wire() });
            let mut scene = Self { ledger: Ledger::default(), room: room.clone() };
            scene.apply(Write::CreateRoom {
                room,
                title: "Garden".into(),
                topic: String::new(),
                kind,
                settings: settings.expect("they are good"),
                creator: Some(user("alice")),
                at_ms: NOW,
            });
            scene
        }

        fn apply(&mut self, write: Write) -> Written {
            self.ledger.apply(&write)
        }

        fn moderate(&mut self, who: &str, sanction: Sanction, seconds: u64) {
            let (room, actor, reason) = (self.room.clone(), user("alice").into(), String::new());
            self.apply(Write::Moderate { room, actor, user: user(who), sanction, reason, seconds, at_ms: NOW });
        }

        fn join(&mut self, who: &str) {
            let (room, user) = (self.room.clone(), user(who));
            self.apply(Write::Join {
                room,
                user,
                invite: None,
                entitlements: vec!["gold".into()],
                admitted_by: None,
                at_ms: NOW,
            });
        }

        fn may(&self, who: &str, action: Action, entitlements: &[&str]) -> Permission {
            let entitlements: Vec<String> = entitlements.iter().map(|name| (*name).to_owned()).collect();
            let row = self.ledger.rooms.get(&self.room).expect("it was made");
            let member = self.ledger.members.get(&(self.room.clone(), user(who)));
            Permission::of(row, &user(who), member, &entitlements, action, NOW)
        }
    }

    #[test]
    fn a_role_may_what_the_room_asks_for_it() {
        let mut scene = Scene::of(RoomKind::Public);
        scene.join("bob");
        assert_eq!(scene.may("alice", Action::Manage, &[]).refused, None);
        let bob = scene.may("bob", Action::Manage, &[]);
        assert_eq!((bob.role, bob.at_least), (Some(Role::Member), Role::Admin));
        assert!(matches!(bob.refused, Some(Refusal::Forbidden(_))));
        assert_eq!(scene.may("bob", Action::Publish, &[]).refused, None);
    }

    #[test]
    fn who_may_come_in_is_taken_as_what_they_would_become() {
        let public = Scene::of(RoomKind::Public).may("carol", Action::Publish, &[]);
        assert_eq!((public.role, public.refused), (None, None));
        let premium = Scene::of(RoomKind::Premium);
        assert_eq!(premium.may("carol", Action::Publish, &["gold"]).refused, None);
        assert_eq!(premium.may("carol", Action::Publish, &["silver"]).refused, Some(Refusal::NoSuchRoom));
        let private = Scene::of(RoomKind::Private);
        assert_eq!(private.may("carol", Action::Publish, &["gold"]).refused, Some(Refusal::NoSuchRoom));
    }

    #[test]
    fn a_mute_and_a_ban_hold_as_they_do_for_a_write() {
        let mut scene = Scene::of(RoomKind::Public);
        scene.join("bob");
        scene.moderate("bob", Sanction::Mute, 60);
        let muted = Some(Refusal::Muted { wait_ms: Some(60_000) });
        assert_eq!(scene.may("bob", Action::Publish, &[]).refused, muted);
        let cmid = veza_proto::Cmid::parse("c1").expect("an id");
        let (room, author, content) = (scene.room.clone(), user("bob").into(), Content::text("hello"));
        let written = scene.apply(Write::Append { room, author, cmid, content, at_ms: NOW });
        assert_eq!(Some(written), muted.map(Written::Refused), "the write itself says the same");
        scene.moderate("bob", Sanction::Ban, 60);
        let banned = Some(Refusal::Banned { wait_ms: Some(60_000) });
        assert_eq!(scene.may("bob", Action::Publish, &[]).refused, banned);
    }
}
