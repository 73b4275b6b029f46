//! Writes that are not an author's log entries: rooms, members, invitations, watermarks.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use veza_engine::ledger::{InviteKey, RoomRow, Write, Written, not_found};
use veza_engine::room::{Ended, unavailable};
use veza_engine::{Answer, Ticket};
use veza_proto::v1::{
    DirectOpened, Error, ErrorCode, InviteCreated, InviteRevoked, Marked, MemberUpdated, RoomCreated, RoomEvicted,
    RoomJoined, RoomUpdated, Sanction, reply,
};
use veza_proto::{RoomId, UserId};

use super::asker::Asker;
use super::worker::Command;
use super::{Caller, Hub, convert, direct};
use crate::bus::{Announced, Announcement};
use crate::store::{Busy, StoreError, Unread, WriteError};

impl Hub {
    /// A write as it was asked for.
    pub(super) fn write_as_asked(&self, asker: Asker, write: Write) {
        let sanction = if let Write::Moderate { sanction, .. } = &write { *sanction } else { Sanction::Unspecified };
        let (asked, hub, answering) = (Asked::of(&write), self.clone(), asker.clone());
        self.write(asker, write, move |written| {
            let written = if let Written::Repeated(written) = written {
                *written
            } else {
                hub.spread(&written, &asked, sanction);
                written
            };
            match (asked, written) {
                (Asked::Create, Written::RoomExists(_)) => {
                    let message = "there is a room with this id";
                    Some(Answer::Refused(Error::permanent(ErrorCode::AlreadyExists, message)))
                }
                (Asked::Member(room, user), written) => Some(answer(&room, &user, written)),
                (Asked::Invite(room), written) => Some(answer(&room, answering.id(), written)),
                (asked, Written::Room { room, .. } | Written::RoomExists(room)) => {
                    hub.answer_with_room(answering, asked, room.id);
                    None
                }
                (_, written) => unreachable!("{written:?} answers another write"),
            }
        });
    }

    /// The room as it is now, with what the asker is to it.
    fn answer_with_room(&self, asker: Asker, asked: Asked, room: RoomId) {
        self.read(asker, "room", move |hub, asker| async move {
            let Some((row, member)) = hub.shared.store.membership(&room, asker.id()).await? else {
                return Ok(Some(Answer::Refused(not_found())));
            };
            let member = member.filter(|member| member.joined.is_some());
            let room = Some(row.to_wire(member.map(|member| member.to_wire(asker.id()))));
            Ok(Some(Answer::Reply(Box::new(match asked {
                Asked::Create => reply::Result::RoomCreated(RoomCreated { room }),
                Asked::Direct => reply::Result::DirectOpened(DirectOpened { room }),
                Asked::Update | Asked::Member(..) | Asked::Invite(_) => {
                    reply::Result::RoomUpdated(RoomUpdated { room })
                }
            }))))
        });
    }

    pub(super) fn open_direct(&self, asker: Asker, other: UserId) {
        let (opener, at_ms) = (asker.id().clone(), self.shared.clock.now().as_millis());
        let room = direct::room_of(&opener, &other);
        self.write_as_asked(asker, Write::OpenDirect { room, opener, other, at_ms });
    }

    pub(super) fn invite(&self, asker: Asker, room: RoomId, user: Option<UserId>, uses_max: u32, seconds: u64) {
        let key = match user {
            Some(user) => InviteKey::User(room.clone(), user),
            None => InviteKey::Code(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>())),
        };
        let (actor, at_ms) = (asker.actor.clone(), self.shared.clock.now().as_millis());
        let expires_ms = at_ms.saturating_add(seconds.saturating_mul(1_000));
        self.write_as_asked(asker, Write::Invite { room, actor, key, uses_max, expires_ms, at_ms });
    }

    /// Membership first, durably; then the subscription.
    pub(super) fn join(&self, caller: &Caller, ticket: Ticket, room: RoomId, invite: Option<String>) {
        let (user, entitlements) = (caller.user.clone(), caller.entitlements.to_vec());
        let at_ms = self.shared.clock.now().as_millis();
        let write = Write::Join { room, user, invite, entitlements, admitted_by: None, at_ms };
        let (hub, subscriber) = (self.clone(), caller.clone());
        self.write(caller.asker(&ticket), write, move |written| {
            let Written::Joined { room, member } = written else { unreachable!("{written:?} answers no join") };
            hub.subscribe(subscriber, ticket, room, member);
            None
        });
    }

    /// The user's other sessions are out of the room as well.
    pub(super) fn leave(&self, caller: &Caller, ticket: Ticket, room: RoomId) {
        let (user, at_ms) = (caller.user.clone(), self.shared.clock.now().as_millis());
        let write = Write::Leave { room, user: user.clone(), ended_by: None, at_ms };
        let (hub, leaver) = (self.clone(), caller.clone());
        self.write(caller.asker(&ticket), write, move |written| {
            let Written::Left { room: row } = written else { unreachable!("{written:?} answers no leave") };
            let (room, session) = (row.id.clone(), leaver.session);
            let answer = Some((Arc::clone(&leaver.mailbox), ticket, Answer::Left));
            hub.worker(&room).send_surely(Command::Unsubscribe { room: room.clone(), session, answer });
            hub.left(&row, user);
            None
        });
    }

    /// A membership has ended without a sanction.
    fn left(&self, row: &RoomRow, user: UserId) {
        self.end(row, Ended { user, evicted: RoomEvicted::default(), revision: row.revision });
        self.changed(row.clone(), Vec::new());
    }

    pub(super) fn mark(&self, asker: Asker, room: RoomId, delivered_seq: u64, read_seq: u64) {
        let user = asker.id().clone();
        let write = Write::Mark { room: room.clone(), user: user.clone(), delivered_seq, read_seq };
        let (hub, marker) = (self.clone(), asker.clone());
        self.write(asker, write, move |written| {
            let Written::Marked { member } = written else { unreachable!("{written:?} answers no mark") };
            let (delivered_seq, read_seq) = (member.delivered_seq, member.read_seq);
            let marked = Command::Marked { room: room.clone(), user, delivered_seq, read_seq };
            hub.worker(&room).send_surely(marked);
            hub.read(marker, "unread", move |hub, marker| async move {
                let left = hub.shared.store.unread(marker.id(), Unread::In(&room), 1).await?;
                let left = left.first();
                Ok(Some(Answer::Reply(Box::new(reply::Result::Marked(Marked {
                    room: String::from(&room),
                    delivered_seq,
                    read_seq,
                    unread: left.map_or(0, |left| left.unread),
                    mentions: left.map_or(0, |left| left.mentions),
                })))))
            });
            None
        });
    }

    /// Tells the room's subscribers, here and elsewhere, what a write changed.
    fn spread(&self, written: &Written, asked: &Asked, sanction: Sanction) {
        match written {
            Written::Joined { room, .. } => self.changed(room.clone(), Vec::new()),
            Written::Left { room } => {
                if let Asked::Member(_, user) = asked {
                    self.left(room, user.clone());
                }
            }
            Written::Room { room, notes } if !notes.is_empty() => {
                self.changed(room.clone(), notes.iter().map(|note| note.to_live()).collect());
            }
            Written::Member { room, user, member, note } => {
                if member.joined.is_none() && matches!(sanction, Sanction::Kick | Sanction::Ban) {
                    let (reason, until_ms) = (member.reason.clone(), member.banned_until_ms);
                    let evicted = RoomEvicted { room: String::new(), sanction: sanction.into(), reason, until_ms };
                    self.end(room, Ended { user: user.clone(), evicted, revision: room.revision });
                }
                self.changed(room.clone(), note.iter().map(|note| note.to_live()).collect());
            }
            Written::Room { .. }
            | Written::RoomExists(_)
            | Written::Invited(..)
            | Written::InviteRevoked
            | Written::Appended(_)
            | Written::Duplicate { .. }
            | Written::Marked { .. }
            | Written::Expired { .. }
            | Written::Repeated(_)
            | Written::Refused(_) => {}
        }
    }

    fn changed(&self, row: RoomRow, notes: Vec<veza_proto::v1::Message>) {
        let row = Box::new(row);
        let event = Announced::Changed(row.clone());
        self.shared.bus.publish(Announcement { node: self.shared.node, event });
        let room = row.id.clone();
        self.worker(&room).send_surely(Command::Changed { row, notes });
    }

    fn end(&self, row: &RoomRow, ended: Ended) {
        let (row, ended) = (Box::new(row.clone()), Box::new(ended));
        let event = Announced::Ended { row: row.clone(), ended: ended.clone() };
        self.shared.bus.publish(Announcement { node: self.shared.node, event });
        let room = row.id.clone();
        self.worker(&room).send_surely(Command::Ended { row, ended });
    }

    /// Nobody knows whether a write of this room happened: every node that has it looks.
    pub(super) fn doubt(&self, room: RoomId) {
        let event = Announced::Doubt { room: room.clone() };
        self.shared.bus.publish(Announcement { node: self.shared.node, event });
        self.worker(&room).send_surely(Command::Doubt { room: room.clone() });
    }

    /// Hands a write to the writer; `answer` turns what was written into the answer, or takes care of it itself.
    fn write(&self, asker: Asker, write: Write, answer: impl FnOnce(Written) -> Option<Answer> + Send + 'static) {
        let (hub, room, answering) = (self.clone(), write.room().clone(), asker.clone());
        let write = asker.keyed(write, self.shared.clock.now().as_millis());
        let reply = move |written: Result<Written, WriteError>| {
            let answered = match written {
                Ok(Written::Refused(refusal)) => Some(Answer::Refused(refusal.to_error())),
                Ok(written) => answer(written),
                Err(error) => {
                    if matches!(error, WriteError::Store(StoreError::Unavailable(_))) {
                        hub.doubt(room);
                    }
                    Some(Answer::Refused(convert::write_error(&error)))
                }
            };
            if let Some(answered) = answered {
                answering.answer(answered);
            }
        };
        if let Err(Busy) = self.shared.writer.try_submit(write, Box::new(reply)) {
            asker.answer(Answer::Refused(unavailable()));
        }
    }
}

/// What an answer has to say depends on what was asked.
enum Asked {
    Create,
    Direct,
    Update,
    /// Something about this member of a room.
    Member(RoomId, UserId),
    Invite(RoomId),
}

impl Asked {
    fn of(write: &Write) -> Self {
        match write {
            Write::CreateRoom { .. } => Asked::Create,
            Write::OpenDirect { .. } => Asked::Direct,
            Write::UpdateRoom { .. } | Write::Audit { .. } => Asked::Update,
            Write::Join { room, user, .. }
            | Write::Leave { room, user, .. }
            | Write::SetRole { room, user, .. }
            | Write::Moderate { room, user, .. } => Asked::Member(room.clone(), user.clone()),
            Write::Invite { room, .. } | Write::RevokeInvite { room, .. } => Asked::Invite(room.clone()),
            Write::Append { .. } | Write::Mark { .. } | Write::Expire { .. } | Write::Once { .. } => {
                unreachable!("{write:?} is taken another way")
            }
        }
    }
}

/// The answer to what was done to members and invitations.
#[expect(clippy::wildcard_enum_match_arm, reason = "other writes have answers of their own")]
fn answer(room: &RoomId, user: &UserId, written: Written) -> Answer {
    let room = String::from(room);
    let result = match written {
        Written::Joined { room, member } => {
            let room = Some(room.to_wire(Some(member.to_wire(user))));
            reply::Result::RoomJoined(RoomJoined { room, ..RoomJoined::default() })
        }
        Written::Left { .. } => return Answer::Left,
        Written::Member { user, member, .. } => {
            reply::Result::MemberUpdated(MemberUpdated { room, member: Some(member.to_wire(&user)) })
        }
        Written::Invited(key, row) => {
            reply::Result::InviteCreated(InviteCreated { invite: Some(row.to_wire(&key, "")) })
        }
        Written::InviteRevoked => reply::Result::InviteRevoked(InviteRevoked { room }),
        other => unreachable!("{other:?} answers another write"),
    };
    Answer::Reply(Box::new(result))
}
