//! Commands about rooms and their members.

use veza_proto::v1::{
    CreateInvite, CreateRoom, Error, ErrorCode, JoinRoom, LeaveRoom, ListAudit, ListInvites, ListMembers, ListRooms,
    ListUnread, Mark, Moderate, OpenDirect, PresenceSet, RevokeInvite, Role, Sanction, SetPresence, SetRole, Typing,
    Unsubscribe, UpdateRoom, reply,
};
use veza_proto::{Lane, RoomId, UserId, limits as wire};

use super::commands::page_size;
use super::subscription::Cursor;
use super::{Output, Session, delivery_of};
use crate::Timestamp;
use crate::ask::{Ask, Purpose, Status, Ticket};
use crate::check::{at_most, bad, invalid, line, text};
use crate::ledger::{DIRECT_PREFIX, InviteKey, RoomUpdate, Settings, Write};

type Checked = Result<(), Error>;

impl Session {
    pub(super) fn create_room(&mut self, ticket: &Ticket, create: CreateRoom, now: Timestamp) -> Checked {
        let room = RoomId::parse(&create.room).map_err(invalid)?;
        if create.room.starts_with(DIRECT_PREFIX) {
            return Err(bad("ids that begin with dm. are for direct rooms: open one with its user"));
        }
        let kind = create.kind();
        let title = if create.title.is_empty() { create.room } else { create.title };
        line("title", &title, wire::ROOM_TITLE_BYTES_MAX)?;
        text("topic", &create.topic, wire::ROOM_TOPIC_BYTES_MAX)?;
        let settings = match &create.settings {
            Some(settings) => Settings::parse(settings).map_err(|message| bad(&message))?,
            None => Settings::of(kind),
        };
        let (creator, at_ms) = (Some(self.me()?), now.as_millis());
        self.write(ticket, Write::CreateRoom { room, title, topic: create.topic, kind, settings, creator, at_ms });
        Ok(())
    }

    pub(super) fn open_direct(&mut self, ticket: &Ticket, open: &OpenDirect) -> Checked {
        let user = UserId::parse(&open.user).map_err(invalid)?;
        if user == self.me()? {
            return Err(bad("a direct room has two people"));
        }
        self.ask(ticket.clone(), Ask::OpenDirect { user });
        Ok(())
    }

    pub(super) fn update_room(&mut self, ticket: &Ticket, update: UpdateRoom, now: Timestamp) -> Checked {
        let room = RoomId::parse(&update.room).map_err(invalid)?;
        let kind = update.kind.is_some().then(|| update.kind());
        if let Some(title) = &update.title {
            line("title", title, wire::ROOM_TITLE_BYTES_MAX)?;
            if title.is_empty() {
                return Err(bad("title must not be empty"));
            }
        }
        if let Some(topic) = &update.topic {
            text("topic", topic, wire::ROOM_TOPIC_BYTES_MAX)?;
        }
        let settings = update.settings.as_ref().map(Settings::parse).transpose().map_err(|message| bad(&message))?;
        let (title, topic, archived) = (update.title, update.topic, update.archived);
        let change = RoomUpdate { title, topic, kind, settings, only: None, archived };
        let (actor, at_ms) = (self.me()?.into(), now.as_millis());
        self.write(ticket, Write::UpdateRoom { room, actor, update: change, at_ms });
        Ok(())
    }

    pub(super) fn join_room(&mut self, ticket: &Ticket, join: JoinRoom) -> Checked {
        let room = RoomId::parse(&join.room).map_err(invalid)?;
        line("invite", &join.invite, wire::INVITE_CODE_BYTES_MAX)?;
        if !self.subscriptions.contains_key(&room) && self.subscriptions.len() >= self.settings.rooms_max {
            let message = format!("a connection may be in {} rooms", self.settings.rooms_max);
            return Err(Error::permanent(ErrorCode::Limit, message));
        }
        let (cursor, delivery) = (join.cursor.as_ref().and_then(Cursor::of), delivery_of(join.delivery));
        let number = self.begin_join(&room, cursor, delivery);
        let invite = (!join.invite.is_empty()).then_some(join.invite);
        let purpose = Purpose::Join { room: room.clone(), number };
        self.ask(Ticket { purpose, ..ticket.clone() }, Ask::Join { room, invite });
        Ok(())
    }

    /// Until the membership has ended it goes on as before: a leave may be refused.
    pub(super) fn leave_room(&mut self, ticket: &Ticket, leave: &LeaveRoom) -> Checked {
        let room = RoomId::parse(&leave.room).map_err(invalid)?;
        self.ask(Ticket { purpose: Purpose::Leave { room: room.clone() }, ..ticket.clone() }, Ask::Leave { room });
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, ticket: &Ticket, unsubscribe: &Unsubscribe, now: Timestamp) -> Checked {
        let room = RoomId::parse(&unsubscribe.room).map_err(invalid)?;
        self.forget(&room, now);
        let purpose = Purpose::Unsubscribe { room: room.clone() };
        self.ask(Ticket { purpose, ..ticket.clone() }, Ask::Unsubscribe { room });
        Ok(())
    }

    pub(super) fn set_role(&mut self, ticket: &Ticket, set: &SetRole, now: Timestamp) -> Checked {
        let room = RoomId::parse(&set.room).map_err(invalid)?;
        let user = UserId::parse(&set.user).map_err(invalid)?;
        let role = set.role();
        if role == Role::Unspecified {
            return Err(bad("role must be named"));
        }
        let (actor, at_ms) = (self.me()?.into(), now.as_millis());
        self.write(ticket, Write::SetRole { room, actor, user, role, at_ms });
        Ok(())
    }

    pub(super) fn moderate(&mut self, ticket: &Ticket, moderate: Moderate, now: Timestamp) -> Checked {
        let room = RoomId::parse(&moderate.room).map_err(invalid)?;
        let user = UserId::parse(&moderate.user).map_err(invalid)?;
        let (sanction, seconds) = (moderate.sanction(), moderate.seconds);
        if sanction == Sanction::Unspecified {
            return Err(bad("sanction must be named"));
        }
        if seconds > wire::SANCTION_SECONDS_MAX {
            return Err(bad(format!("seconds may be at most {}, 0 for no end", wire::SANCTION_SECONDS_MAX)));
        }
        text("reason", &moderate.reason, wire::REASON_BYTES_MAX)?;
        let (actor, at_ms, reason) = (self.me()?.into(), now.as_millis(), moderate.reason);
        self.write(ticket, Write::Moderate { room, actor, user, sanction, reason, seconds, at_ms });
        Ok(())
    }

    pub(super) fn create_invite(&mut self, ticket: &Ticket, create: &CreateInvite) -> Checked {
        let room = RoomId::parse(&create.room).map_err(invalid)?;
        let user = some_user(&create.user)?;
        let seconds = if create.seconds == 0 { wire::INVITE_SECONDS_DEFAULT } else { create.seconds };
        if seconds > wire::INVITE_SECONDS_MAX {
            return Err(bad(format!("seconds may be at most {}", wire::INVITE_SECONDS_MAX)));
        }
        self.ask(ticket.clone(), Ask::Invite { room, user, uses_max: create.uses_max, seconds });
        Ok(())
    }

    pub(super) fn revoke_invite(&mut self, ticket: &Ticket, revoke: &RevokeInvite, now: Timestamp) -> Checked {
        let room = RoomId::parse(&revoke.room).map_err(invalid)?;
        line("code", &revoke.code, wire::INVITE_CODE_BYTES_MAX)?;
        let key = match (some_user(&revoke.user)?, revoke.code.is_empty()) {
            (Some(user), true) => InviteKey::User(room.clone(), user),
            (None, false) => InviteKey::Code(revoke.code.clone()),
            (Some(_), false) | (None, true) => return Err(bad("either code or user names the invitation")),
        };
        let (actor, at_ms) = (self.me()?.into(), now.as_millis());
        self.write(ticket, Write::RevokeInvite { room, actor, key, at_ms });
        Ok(())
    }

    pub(super) fn mark(&mut self, ticket: &Ticket, mark: &Mark) -> Checked {
        let room = RoomId::parse(&mark.room).map_err(invalid)?;
        let (delivered_seq, read_seq) = (mark.delivered_seq, mark.read_seq);
        self.ask(ticket.clone(), Ask::Mark { room, delivered_seq, read_seq });
        Ok(())
    }

    /// Volatile: a room this session is not in, or one too many, is silently nothing.
    pub(super) fn typing(&mut self, typing: &Typing, now: Timestamp) {
        if let Ok(room) = self.entered(&typing.room)
            && self.subscriptions.get(&room).is_some_and(|subscription| subscription.admitted)
        {
            self.tell(Ask::Typing { room, active: typing.active }, now);
        }
    }

    pub(super) fn set_presence(&mut self, ticket: &Ticket, set: SetPresence, now: Timestamp) -> Checked {
        line("text", &set.text, wire::STATUS_BYTES_MAX)?;
        self.status = Status { state: set.state(), text: set.text };
        let admitted = self.subscriptions.iter().filter(|(_, subscription)| subscription.admitted);
        for room in admitted.map(|(room, _)| room.clone()).collect::<Vec<_>>() {
            self.tell(Ask::Status { room, status: self.status.clone() }, now);
        }
        self.reply(ticket, reply::Result::PresenceSet(PresenceSet {}), now);
        Ok(())
    }

    pub(super) fn list_rooms(&mut self, ticket: &Ticket, list: ListRooms) -> Checked {
        let limit = page_size(list.limit, wire::HISTORY_PAGE_DEFAULT, wire::ROOM_LIST_PAGE_MAX)?;
        let after = some_place(list.after)?;
        self.ask(ticket.clone(), Ask::ListRooms { mine: list.mine, after, limit });
        Ok(())
    }

    pub(super) fn list_members(&mut self, ticket: &Ticket, list: &ListMembers) -> Checked {
        let room = RoomId::parse(&list.room).map_err(invalid)?;
        let limit = page_size(list.limit, wire::HISTORY_PAGE_DEFAULT, wire::ROOM_LIST_PAGE_MAX)?;
        let (filter, after) = (list.filter(), some_user(&list.after)?);
        self.ask(ticket.clone(), Ask::ListMembers { room, filter, after, limit });
        Ok(())
    }

    pub(super) fn list_invites(&mut self, ticket: &Ticket, list: &ListInvites) -> Checked {
        let room = some_room(&list.room)?;
        self.ask(ticket.clone(), Ask::ListInvites { room });
        Ok(())
    }

    pub(super) fn list_audit(&mut self, ticket: &Ticket, list: &ListAudit) -> Checked {
        let room = RoomId::parse(&list.room).map_err(invalid)?;
        let limit = page_size(list.limit, wire::HISTORY_PAGE_DEFAULT, wire::HISTORY_PAGE_MAX)?;
        let before = if list.before == 0 { u64::MAX } else { list.before };
        self.ask(ticket.clone(), Ask::ListAudit { room, before, limit });
        Ok(())
    }

    pub(super) fn list_unread(&mut self, ticket: &Ticket, list: ListUnread) -> Checked {
        let limit = page_size(list.limit, wire::UNREAD_PAGE_MAX, wire::UNREAD_PAGE_MAX)?;
        let after = some_place(list.after)?;
        self.ask(ticket.clone(), Ask::ListUnread { after, limit });
        Ok(())
    }

    pub(super) fn me(&self) -> Result<UserId, Error> {
        self.user().cloned().ok_or_else(|| Error::permanent(ErrorCode::OutOfOrder, "say hello first"))
    }

    /// Says something to a room that gives no answer.
    pub(super) fn tell(&mut self, ask: Ask, now: Timestamp) {
        let ticket = Ticket { lane: Lane::Control, id: 0, purpose: Purpose::Command, since: now };
        self.outputs.push_back(Output::Ask { ticket, ask });
    }

    fn write(&mut self, ticket: &Ticket, write: Write) {
        self.ask(ticket.clone(), Ask::Write(Box::new(write)));
    }
}

pub(super) fn some_user(user: &str) -> Result<Option<UserId>, Error> {
    if user.is_empty() { Ok(None) } else { UserId::parse(user).map(Some).map_err(invalid) }
}

pub(super) fn some_room(room: &str) -> Result<Option<RoomId>, Error> {
    if room.is_empty() { Ok(None) } else { RoomId::parse(room).map(Some).map_err(invalid) }
}

/// Where a list of rooms goes on: any text that an id could be compared with.
fn some_place(after: String) -> Result<Option<String>, Error> {
    at_most("after", after.len(), wire::ROOM_ID_BYTES_MAX)?;
    text("after", &after, wire::ROOM_ID_BYTES_MAX)?;
    Ok((!after.is_empty()).then_some(after))
}
