//! What a write tells whoever listens from outside: one event for everything that has happened, in its order.

use veza_proto::gateway::v1::event::Kind;
use veza_proto::gateway::v1::{
    EventKind, MemberJoined, MemberLeft, MemberRoleChanged, MemberSanctioned, RoomAltered, RoomMade,
};
use veza_proto::v1::{Role, Sanction};
use veza_proto::{RoomId, UserId};

use super::Ledger;
use super::rows::MemberRow;

/// Something happened in a room.
#[derive(Debug, Clone, PartialEq)]
pub struct Happened {
    pub at_ms: u64,
    pub room: RoomId,
    /// Whom it is about: the author, the member.
    pub user: Option<UserId>,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// The entry of this number was written. It is read when it is told, so that what was deleted meanwhile is not.
    Entry(u64),
    /// As it is told.
    Told(Box<Kind>),
}

impl What {
    /// What a filter calls it.
    pub fn kind(&self) -> EventKind {
        match self {
            What::Entry(_) => EventKind::Message,
            What::Told(kind) => kind_of(kind),
        }
    }
}

/// What a filter calls this kind of event.
pub fn kind_of(kind: &Kind) -> EventKind {
    match kind {
        Kind::Message(_) => EventKind::Message,
        Kind::RoomCreated(_) => EventKind::RoomCreated,
        Kind::RoomUpdated(_) => EventKind::RoomUpdated,
        Kind::MemberJoined(_) => EventKind::MemberJoined,
        Kind::MemberLeft(_) => EventKind::MemberLeft,
        Kind::MemberRoleChanged(_) => EventKind::MemberRoleChanged,
        Kind::MemberSanctioned(_) => EventKind::MemberSanctioned,
        Kind::SessionConnected(_) => EventKind::SessionConnected,
        Kind::SessionDisconnected(_) => EventKind::SessionDisconnected,
        Kind::Revoked(_) => EventKind::Revoked,
        Kind::StreamChanged(_) => EventKind::StreamChanged,
        Kind::ReviewChanged(_) => EventKind::ReviewChanged,
    }
}

impl Ledger {
    /// What has happened by the writes so far, in its order. It is to be kept with the changes or not at all.
    pub fn happened(&self) -> &[Happened] {
        &self.happened
    }

    pub(super) fn tell_entry(&mut self, room: &RoomId, author: &UserId, seq: u64, at_ms: u64) {
        let user = Some(author.clone());
        self.happened.push(Happened { at_ms, room: room.clone(), user, what: What::Entry(seq) });
    }

    pub(super) fn tell_created(&mut self, room: &RoomId, creator: Option<&UserId>, at_ms: u64) {
        let made = RoomMade { room: Some(self.room_mut(room).to_wire(None)), creator: name(creator) };
        self.tell(room, creator, Kind::RoomCreated(made), at_ms);
    }

    pub(super) fn tell_altered(&mut self, room: &RoomId, actor: &UserId, at_ms: u64) {
        let altered = RoomAltered { room: Some(self.room_mut(room).to_wire(None)), actor: String::from(actor) };
        self.tell(room, None, Kind::RoomUpdated(altered), at_ms);
    }

    pub(super) fn tell_joined(&mut self, room: &RoomId, user: &UserId, member: &MemberRow, at_ms: u64) {
        let joined = MemberJoined { member: Some(member.to_wire(user)) };
        self.tell(room, Some(user), Kind::MemberJoined(joined), at_ms);
    }

    /// `actor` is who ended it where it was not the user, `sanction` why.
    pub(super) fn tell_left(
        &mut self,
        room: &RoomId,
        user: &UserId,
        actor: Option<&UserId>,
        sanction: Sanction,
        at_ms: u64,
    ) {
        let left = MemberLeft { sanction: sanction.into(), actor: name(actor) };
        self.tell(room, Some(user), Kind::MemberLeft(left), at_ms);
    }

    pub(super) fn tell_role(&mut self, room: &RoomId, user: &UserId, actor: &UserId, role: Role, at_ms: u64) {
        let changed = MemberRoleChanged { role: role.into(), actor: String::from(actor) };
        self.tell(room, Some(user), Kind::MemberRoleChanged(changed), at_ms);
    }

    pub(super) fn tell_sanction(&mut self, room: &RoomId, user: &UserId, sanctioned: MemberSanctioned, at_ms: u64) {
        self.tell(room, Some(user), Kind::MemberSanctioned(sanctioned), at_ms);
    }

    fn tell(&mut self, room: &RoomId, user: Option<&UserId>, kind: Kind, at_ms: u64) {
        let what = What::Told(Box::new(kind));
        self.happened.push(Happened { at_ms, room: room.clone(), user: user.cloned(), what });
    }
}

fn name(user: Option<&UserId>) -> String {
    user.map(String::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use veza_proto::Cmid;
    use veza_proto::v1::RoomKind;

    use super::*;
    use crate::ledger::{Actor, Content, RoomUpdate, Settings, Write};

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    fn room() -> RoomId {
        RoomId::parse("lobby").unwrap()
    }

    /// A ledger that forgets what it told with every line, as a store does with every commit.
    struct Story(Ledger);

    impl Story {
        fn told(&mut self, write: Write) -> String {
            self.0.apply(&write);
            let told = self.0.happened().iter().map(|happened| {
                let whom = happened.user.as_ref().map_or("nobody", UserId::as_str);
                let what = match &happened.what {
                    What::Entry(seq) => format!("entry {seq}"),
                    What::Told(kind) => kind_of(kind).as_str_name().trim_start_matches("EVENT_KIND_").to_lowercase(),
                };
                format!("{what} of {whom}")
            });
            let told = told.collect::<Vec<_>>().join(", ");
            self.0.settle();
            told
        }
    }

    fn append(author: &str, cmid: &str) -> Write {
        let (author, cmid) = (Actor::User(user(author)), Cmid::parse(cmid).unwrap());
        Write::Append { room: room(), author, cmid, content: Content::text("hello"), at_ms: 5 }
    }

    fn join(who: &str) -> Write {
        let (user, entitlements) = (user(who), Vec::new());
        Write::Join { room: room(), user, invite: None, entitlements, admitted_by: None, at_ms: 2 }
    }

    fn moderate(sanction: Sanction, who: &str) -> Write {
        let (actor, user, reason) = (Actor::User(user("alice")), user(who), "spam".into());
        Write::Moderate { room: room(), actor, user, sanction, reason, seconds: 0, at_ms: 6 }
    }

    #[test]
    fn everything_is_told_once_in_its_order() {
        let mut story = Story(Ledger::default());
        let create = Write::CreateRoom {
            room: room(),
            title: "Lobby".into(),
            topic: String::new(),
            kind: RoomKind::Public,
            settings: Settings::of(RoomKind::Public),
            creator: Some(user("alice")),
            at_ms: 1,
        };
        assert_eq!(story.told(create.clone()), "room_created of alice, member_joined of alice");
        assert_eq!(story.told(create), "", "the room was there");
        assert_eq!(story.told(join("bob")), "member_joined of bob");
        assert_eq!(story.told(join("bob")), "");
        assert_eq!(story.told(append("bob", "c1")), "entry 1 of bob");
        assert_eq!(story.told(append("bob", "c1")), "", "a retry says nothing again");
        assert_eq!(story.told(append("mallory", "c1")), "", "a refusal is nothing");
        let update = RoomUpdate { title: Some("Bar".into()), ..RoomUpdate::default() };
        let rename = Write::UpdateRoom { room: room(), actor: Actor::User(user("alice")), update, at_ms: 4 };
        assert_eq!(story.told(rename), "entry 2 of alice, room_updated of nobody");
        let (actor, whom) = (Actor::User(user("alice")), user("bob"));
        let role = Write::SetRole { room: room(), actor, user: whom, role: Role::Owner, at_ms: 5 };
        let told = "member_role_changed of alice, member_role_changed of bob, entry 3 of alice";
        assert_eq!(story.told(role), told, "the ownership went over");
    }

    #[test]
    fn sanctions_tell_of_themselves_and_of_the_membership_they_end() {
        let mut story = Story(Ledger::default());
        let (title, topic, settings) = ("Lobby".into(), String::new(), Settings::of(RoomKind::Public));
        let (creator, kind) = (Some(user("alice")), RoomKind::Public);
        story.told(Write::CreateRoom { room: room(), title, topic, kind, settings, creator, at_ms: 1 });
        story.told(join("bob"));
        assert_eq!(story.told(moderate(Sanction::Mute, "bob")), "entry 1 of alice, member_sanctioned of bob");
        assert_eq!(
            story.told(moderate(Sanction::Kick, "bob")),
            "entry 2 of alice, member_sanctioned of bob, member_left of bob"
        );
        assert_eq!(
            story.told(moderate(Sanction::Ban, "bob")),
            "entry 3 of alice, member_sanctioned of bob",
            "he was gone"
        );
        assert_eq!(story.told(moderate(Sanction::Unban, "bob")), "entry 4 of alice, member_sanctioned of bob");
        story.told(join("bob"));
        let leave = Write::Leave { room: room(), user: user("bob"), ended_by: None, at_ms: 9 };
        assert_eq!(story.told(leave), "member_left of bob");
    }
}
