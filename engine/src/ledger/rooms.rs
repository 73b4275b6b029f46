//! Rooms: made, changed, cut.

use std::fmt::Write as _;

use veza_proto::v1::{Action, Role, RoomKind, SystemKind, SystemNote};
use veza_proto::{RoomId, UserId};

use super::actor::Actor;
use super::authority::Settings;
use super::rows::{AuditRow, EntryRow, Joined, MemberRow, RoomRow};
use super::{Ledger, Refusal, RoomUpdate, Written};

type Decided = Result<Written, Refusal>;

impl Ledger {
    #[expect(clippy::too_many_arguments, reason = "a room has that many parts")]
    pub(super) fn create_room(
        &mut self,
        room: &RoomId,
        title: &str,
        topic: &str,
        kind: RoomKind,
        settings: &Settings,
        creator: Option<&UserId>,
        at_ms: u64,
    ) -> Written {
        if let Some(found) = self.rooms.get(room) {
            return Written::RoomExists(found.clone());
        }
        if let Err(refusal) = sound(kind, settings) {
            return Written::Refused(refusal);
        }
        let kind = if kind == RoomKind::Unspecified { RoomKind::Public } else { kind };
        self.rooms.put(room.clone(), fresh(room, title, topic, kind, settings.clone(), at_ms));
        self.tell_created(room, creator, at_ms);
        if let Some(creator) = creator {
            self.enter(room, creator, Role::Owner, at_ms);
        }
        Written::Room { room: self.rooms.get(room).cloned().expect("it was put there"), notes: Vec::new() }
    }

    pub(super) fn open_direct(&mut self, room: &RoomId, opener: &UserId, other: &UserId, at_ms: u64) -> Decided {
        if opener == other {
            return Err(Refusal::Invalid("a direct room has two people"));
        }
        let there = self.rooms.get(room).is_some();
        let ours = |row: &RoomRow| match &row.direct {
            Some((one, two)) => (one == opener && two == other) || (one == other && two == opener),
            None => false,
        };
        if self.rooms.get(room).is_some_and(|row| !ours(row)) {
            return Err(Refusal::NoSuchRoom);
        }
        if !there {
            let title = format!("{opener}, {other}");
            let title = if title.len() > veza_proto::limits::ROOM_TITLE_BYTES_MAX { "direct" } else { &title };
            let row = fresh(room, title, "", RoomKind::Direct, Settings::of(RoomKind::Direct), at_ms);
            self.rooms.put(room.clone(), RoomRow { direct: Some((opener.clone(), other.clone())), ..row });
            self.tell_created(room, Some(opener), at_ms);
            self.enter(room, opener, Role::Member, at_ms);
            self.enter(room, other, Role::Member, at_ms);
        }
        let row = self.rooms.get(room).cloned().expect("it is there or was put there");
        Ok(if there { Written::RoomExists(row) } else { Written::Room { room: row, notes: Vec::new() } })
    }

    pub(super) fn update_room(&mut self, room: &RoomId, actor: &Actor, update: &RoomUpdate, at_ms: u64) -> Decided {
        let (row, _) = self.standing(room, actor)?;
        if row.kind == RoomKind::Direct {
            return Err(Refusal::Forbidden("a direct room has no settings"));
        }
        let kind = update.kind.filter(|kind| *kind != RoomKind::Unspecified).unwrap_or(row.kind);
        let mut settings = row.settings.clone();
        match (&update.settings, &update.only) {
            (Some(wanted), None) => settings.clone_from(wanted),
            (Some(wanted), Some(fields)) => settings.take(wanted, fields),
            (None, _) => {}
        }
        self.may(room, actor, Action::Manage)?;
        sound(kind, &settings)?;
        let row = self.room_mut(room);
        let (mut notes, mut told) = (Vec::new(), String::new());
        let note = |kind: SystemKind, text: &str| SystemNote {
            kind: kind.into(),
            text: text.to_owned(),
            ..SystemNote::default()
        };
        if let Some(title) = update.title.as_ref().filter(|title| **title != row.title) {
            row.title.clone_from(title);
            notes.push(note(SystemKind::TitleChanged, title));
            let _infallible = write!(told, "title {title:?}; ");
        }
        if let Some(topic) = update.topic.as_ref().filter(|topic| **topic != row.topic) {
            row.topic.clone_from(topic);
            notes.push(note(SystemKind::TopicChanged, topic));
            let _infallible = write!(told, "topic {topic:?}; ");
        }
        if kind != row.kind || settings != row.settings {
            if settings.slow_mode_seconds != row.settings.slow_mode_seconds {
                let _infallible = write!(told, "slow mode {} s; ", settings.slow_mode_seconds);
            }
            (row.kind, row.settings) = (kind, settings);
            notes.push(note(SystemKind::SettingsChanged, ""));
            told.push_str("settings; ");
        }
        if let Some(archived) = update.archived.filter(|archived| *archived != row.archived) {
            row.archived = archived;
            let kind = if archived { SystemKind::Archived } else { SystemKind::Unarchived };
            notes.push(note(kind, ""));
            told.push_str(if archived { "archived; " } else { "no longer archived; " });
        }
        if notes.is_empty() {
            return Ok(Written::Room { room: row.clone(), notes: Vec::new() });
        }
        row.revision += 1;
        let notes: Vec<EntryRow> =
            notes.into_iter().map(|note| self.push_note(room, actor.id(), note, at_ms)).collect();
        self.note_audit(
            room,
            AuditRow {
                at_ms,
                actor: actor.id().clone(),
                action: "update_room".into(),
                user: None,
                seq: 0,
                reason: String::new(),
                detail: told.trim_end_matches("; ").to_owned(),
            },
        );
        self.tell_altered(room, actor.id(), at_ms);
        Ok(Written::Room { room: self.room_mut(room).clone(), notes })
    }

    pub(super) fn expire(&mut self, room: &RoomId, up_to: u64, _at_ms: u64) -> Decided {
        let row = self.rooms.get(room).ok_or(Refusal::NoSuchRoom)?;
        if up_to < row.first_available {
            return Ok(Written::Expired { room: row.clone() });
        }
        let last = self.entries.get(&(room.clone(), up_to)).ok_or(Refusal::NotFound("no such entry"))?;
        let messages = last.messages;
        let row = self.room_mut(room);
        (row.first_available, row.messages_expired) = (up_to + 1, messages);
        let row = row.clone();
        self.entries.forget(|(of, seq), _| of == room && *seq <= up_to);
        self.sent.forget(|(of, _, _), seq| of == room && *seq <= up_to);
        self.revisions.forget(|(of, seq, _), _| of == room && *seq <= up_to);
        self.reactions.forget(|(of, seq, _, _), _| of == room && *seq <= up_to);
        self.totals.forget(|(of, seq, _), _| of == room && *seq <= up_to);
        self.mentions.forget(|(of, seq, _), ()| of == room && *seq <= up_to);
        self.pins.forget(|(of, seq), _| of == room && *seq <= up_to);
        self.expired.push((room.clone(), up_to));
        Ok(Written::Expired { room: row })
    }

    /// Makes a user a member: what was said before counts as read.
    pub(super) fn enter(&mut self, room: &RoomId, user: &UserId, role: Role, at_ms: u64) -> MemberRow {
        let row = self.room_mut(room);
        row.members += 1;
        row.revision += 1;
        let (head, messages) = (row.head, row.messages);
        let key = (room.clone(), user.clone());
        let before = self.members.get(&key).cloned().unwrap_or_else(MemberRow::stranger);
        let member = MemberRow {
            joined: Some(Joined { role, at_ms }),
            delivered_seq: head,
            read_seq: head,
            read_messages: messages,
            ..before
        };
        self.members.put(key, member.clone());
        self.tell_joined(room, user, &member, at_ms);
        member
    }
}

fn fresh(room: &RoomId, title: &str, topic: &str, kind: RoomKind, settings: Settings, at_ms: u64) -> RoomRow {
    RoomRow {
        id: room.clone(),
        title: title.to_owned(),
        topic: topic.to_owned(),
        kind,
        settings,
        archived: false,
        epoch: at_ms.max(1),
        head: 0,
        first_available: 1,
        messages: 0,
        messages_expired: 0,
        members: 0,
        created_ms: at_ms,
        last_message_ms: 0,
        revision: 0,
        audit: 0,
        direct: None,
    }
}

/// Whether kind and settings go together.
fn sound(kind: RoomKind, settings: &Settings) -> Result<(), Refusal> {
    match kind {
        RoomKind::Direct => Err(Refusal::Invalid("a direct room is opened with a user, not created or changed into")),
        RoomKind::Premium if settings.entitlement.is_empty() => {
            Err(Refusal::Invalid("a premium room's settings name its entitlement"))
        }
        RoomKind::Unspecified | RoomKind::Public | RoomKind::Private | RoomKind::Premium => Ok(()),
    }
}
