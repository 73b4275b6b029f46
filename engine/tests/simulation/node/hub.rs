//! What sessions ask, and what is answered.

use veza_engine::ledger::{InviteKey, MemberRow, RoomRow, Write, Written, not_found};
use veza_engine::room::{Appended, Ended, unavailable};
use veza_engine::{Answer, Ask, SessionKey, Ticket};
use veza_proto::v1::{
    DirectOpened, Error, ErrorCode, InviteCreated, InviteRevoked, Marked, MemberUpdated, RoomCreated, RoomEvicted,
    RoomUpdated, Sanction, reply,
};
use veza_proto::{RoomId, UserId};

use super::bus::{Announcement, announce};
use super::{Around, Letter, Node};
use crate::stage::{Event, MS, Stage};
use crate::store::Reply;

impl Node {
    pub(super) fn answer(&mut self, key: SessionKey, ticket: Ticket, answer: Answer, stage: &mut Stage) {
        self.post(key, Letter::Answer(Box::new((ticket, answer))), stage);
    }

    pub(super) fn ask(&mut self, key: SessionKey, ticket: Ticket, ask: Ask, around: &mut Around<'_>) {
        let now = self.now(around.stage);
        let at_ms = now.as_millis();
        let Some(user) = self.seat(key).session.user().cloned() else { return };
        match ask {
            Ask::Write(write) => self.write_down(key, user, ticket, *write, around),
            Ask::OpenDirect { user: other } => {
                let (first, second) = if user <= other { (&user, &other) } else { (&other, &user) };
                let room = RoomId::parse(&format!("dm.{first}.{second}")).expect("short names");
                let write = Write::OpenDirect { room, opener: user.clone(), other, at_ms };
                self.write_down(key, user, ticket, write, around);
            }
            Ask::Invite { room, user: invited, uses_max, seconds } => {
                let invite = match invited {
                    Some(invited) => InviteKey::User(room.clone(), invited),
                    None => InviteKey::Code(format!("code-{}", around.stage.chance.below(1 << 40))),
                };
                let (actor, expires_ms) = (user.clone().into(), at_ms + seconds * 1_000);
                let write = Write::Invite { room, actor, key: invite, uses_max, expires_ms, at_ms };
                self.write_down(key, user, ticket, write, around);
            }
            Ask::Join { room, invite } => {
                let entitlements = if user.as_str() < "d" { vec!["gold".to_owned()] } else { Vec::new() };
                let write = Write::Join { room, user: user.clone(), invite, entitlements, admitted_by: None, at_ms };
                self.write_down(key, user, ticket, write, around);
            }
            Ask::Leave { room } => {
                let write = Write::Leave { room, user: user.clone(), ended_by: None, at_ms };
                self.write_down(key, user, ticket, write, around);
            }
            Ask::Mark { room, delivered_seq, read_seq } => {
                let write = Write::Mark { room, user: user.clone(), delivered_seq, read_seq };
                self.write_down(key, user, ticket, write, around);
            }
            Ask::Unsubscribe { room } => {
                self.unsubscribe(&room, key, around);
                self.answer(key, ticket, Answer::Unsubscribed, around.stage);
            }
            Ask::Append { room, cmid, content } => {
                self.publish(
                    key,
                    ticket,
                    &room,
                    |room, ticket| room.handle_publish(key, ticket, cmid, content),
                    around,
                );
            }
            Ask::Typing { room, active } => {
                self.tell(&room, around, |room| room.handle_typing(key, active));
                announce(self.life(), &Announcement::Typing { room, user, active }, around.stage);
            }
            Ask::Status { room, status } => self.tell(&room, around, |room| room.handle_status(key, status, now)),
            read @ (Ask::Subscribe { .. }
            | Ask::Read { .. }
            | Ask::ListRooms { .. }
            | Ask::ListMembers { .. }
            | Ask::ListInvites { .. }
            | Ask::ListAudit { .. }
            | Ask::ListRevisions { .. }
            | Ask::ListReactions { .. }
            | Ask::ListPins { .. }
            | Ask::ListUnread { .. }
            | Ask::Search { .. }) => {
                let (life, ticket, ask) = (self.life(), Box::new(ticket), Box::new(read));
                let most = around.store.read_takes(around.stage);
                around.stage.soon(MS / 10, most, Event::Read { life, session: key, ticket, ask });
            }
        }
    }

    /// The database has been asked: what it says goes on its way.
    pub(crate) fn read(&mut self, key: SessionKey, ticket: Ticket, ask: &Ask, around: &mut Around<'_>) {
        let Some(user) = self.sessions.get(&key).and_then(|seat| seat.session.user().cloned()) else { return };
        let life = self.life();
        if let Ask::Subscribe { room } = ask {
            if around.stage.now < around.store.down_until {
                self.answer(key, ticket, Answer::Refused(unavailable()), around.stage);
                return;
            }
            let place = around.store.place(room, &user).map(|(row, member)| (row.clone(), member.clone()));
            match place {
                Some(place) => {
                    let (ticket, place) = (Box::new(ticket), Box::new(place));
                    let most = around.store.read_takes(around.stage);
                    around.stage.soon(MS / 10, most, Event::LetIn { life, session: key, ticket, place });
                }
                None => self.answer(key, ticket, Answer::Refused(not_found()), around.stage),
            }
            return;
        }
        let answer = Box::new(around.store.read(&user, ask, around.stage));
        let most = around.store.read_takes(around.stage);
        around.stage.soon(MS / 10, most, Event::Answered { life, session: key, ticket: Box::new(ticket), answer });
    }

    pub(crate) fn let_in(
        &mut self,
        key: SessionKey,
        ticket: Ticket,
        (row, member): &(RoomRow, MemberRow),
        around: &mut Around<'_>,
    ) {
        let Some(user) = self.sessions.get(&key).and_then(|seat| seat.session.user().cloned()) else { return };
        self.subscribe(key, &user, ticket, (row, member), around);
    }

    pub(crate) fn answered(&mut self, key: SessionKey, ticket: Ticket, answer: Answer, stage: &mut Stage) {
        self.answer(key, ticket, answer, stage);
    }

    fn write_down(&mut self, key: SessionKey, user: UserId, ticket: Ticket, write: Write, around: &mut Around<'_>) {
        let reply = Reply::Ask { session: key, user, ticket: ticket.clone(), write: write.clone() };
        let life = self.life();
        if !around.store.submit(life, write, reply, around.stage) {
            self.answer(key, ticket, Answer::Refused(unavailable()), around.stage);
        }
    }

    /// What became of a write; nothing when the database has not said.
    pub(crate) fn written(&mut self, reply: Reply, written: Option<Written>, around: &mut Around<'_>) {
        match reply {
            Reply::Append { session, ticket, room, cmid } => {
                let appended = match written {
                    Some(Written::Appended(entry)) => Appended::Stored(around.store.live(&entry)),
                    Some(Written::Duplicate { epoch, seq, at_ms }) => Appended::Duplicate { epoch, seq, at_ms },
                    Some(Written::Refused(refusal)) => Appended::Refused(refusal),
                    Some(other) => unreachable!("{other:?} answers no append"),
                    None => Appended::Unavailable,
                };
                self.appended(session, ticket, &room, &cmid, appended, around);
            }
            Reply::Room { room } => {
                let now = self.now(around.stage);
                match written {
                    Some(Written::Appended(entry)) => {
                        let message = around.store.live(&entry);
                        self.tell(&room, around, |room| room.handle_committed(message));
                    }
                    Some(Written::Expired { room: row }) => {
                        self.tell(&room, around, |room| room.handle_row(&row, now));
                    }
                    Some(_) | None => {}
                }
            }
            Reply::Ask { session, user, ticket, write } => {
                let Some(written) = written else {
                    self.answer(session, ticket, Answer::Refused(unavailable()), around.stage);
                    self.doubt(write.room(), around.stage);
                    return;
                };
                self.spread(&write, &written, around);
                self.conclude(session, &user, ticket, &write, written, around);
            }
        }
    }

    /// Tells the room's subscribers, here and elsewhere, what a write changed.
    fn spread(&mut self, write: &Write, written: &Written, around: &mut Around<'_>) {
        match (write, written) {
            (_, Written::Room { room, notes }) if !notes.is_empty() => {
                let notes = notes.iter().map(|note| note.to_live()).collect();
                self.changed(room, notes, around);
            }
            (Write::Moderate { sanction, .. }, Written::Member { room, user, member, note }) => {
                if matches!(sanction, Sanction::Kick | Sanction::Ban) {
                    let (reason, until_ms) = (member.reason.clone(), member.banned_until_ms);
                    let evicted = RoomEvicted { room: String::new(), sanction: (*sanction).into(), reason, until_ms };
                    self.end(room, Ended { user: user.clone(), evicted, revision: room.revision }, around);
                }
                self.changed(room, note.iter().map(|note| note.to_live()).collect(), around);
            }
            (_, Written::Member { room, note, .. }) => {
                self.changed(room, note.iter().map(|note| note.to_live()).collect(), around);
            }
            (_, _) => {}
        }
    }

    fn changed(&mut self, row: &RoomRow, notes: Vec<veza_proto::v1::Message>, around: &mut Around<'_>) {
        announce(self.life(), &Announcement::Changed(Box::new(row.clone())), around.stage);
        let now = self.now(around.stage);
        self.tell(&row.id, around, |room| room.handle_changed(row, notes, now));
    }

    fn end(&mut self, row: &RoomRow, ended: Ended, around: &mut Around<'_>) {
        let (room, boxed) = (row.id.clone(), Box::new(ended.clone()));
        announce(self.life(), &Announcement::Ended { room, ended: boxed }, around.stage);
        let now = self.now(around.stage);
        self.tell(&row.id, around, |room| room.handle_ended(&ended, now));
    }

    /// The answer to the one who asked.
    fn conclude(
        &mut self,
        key: SessionKey,
        user: &UserId,
        ticket: Ticket,
        write: &Write,
        written: Written,
        around: &mut Around<'_>,
    ) {
        let result = match (write, written) {
            (_, Written::Refused(refusal)) => {
                self.answer(key, ticket, Answer::Refused(refusal.to_error()), around.stage);
                return;
            }
            (_, Written::Joined { room, member }) => {
                self.subscribe(key, user, ticket, (&room, &member), around);
                return;
            }
            (_, Written::Left { room }) => {
                self.unsubscribe(&room.id, key, around);
                self.answer(key, ticket, Answer::Left, around.stage);
                let (evicted, revision) = (RoomEvicted::default(), room.revision);
                self.end(&room, Ended { user: user.clone(), evicted, revision }, around);
                self.changed(&room, Vec::new(), around);
                return;
            }
            (Write::OpenDirect { .. }, Written::Room { room, .. } | Written::RoomExists(room)) => {
                reply::Result::DirectOpened(DirectOpened { room: Some(room.to_wire(None)) })
            }
            (Write::UpdateRoom { .. }, Written::Room { room, .. }) => {
                reply::Result::RoomUpdated(RoomUpdated { room: Some(room.to_wire(None)) })
            }
            (_, Written::Room { room, .. }) => {
                reply::Result::RoomCreated(RoomCreated { room: Some(room.to_wire(None)) })
            }
            (_, Written::RoomExists(_)) => {
                let error = Error::permanent(ErrorCode::AlreadyExists, "there is a room with this id");
                self.answer(key, ticket, Answer::Refused(error), around.stage);
                return;
            }
            (_, Written::Member { room, user, member, .. }) => reply::Result::MemberUpdated(MemberUpdated {
                room: String::from(&room.id),
                member: Some(member.to_wire(&user)),
            }),
            (_, Written::Invited(invite, row)) => {
                reply::Result::InviteCreated(InviteCreated { invite: Some(row.to_wire(&invite, "")) })
            }
            (write, Written::InviteRevoked) => {
                let room = String::from(write.room());
                reply::Result::InviteRevoked(InviteRevoked { room })
            }
            (write, Written::Marked { member }) => {
                let (room, now) = (write.room(), self.now(around.stage));
                let (delivered_seq, read_seq) = (member.delivered_seq, member.read_seq);
                self.tell(room, around, |room| room.handle_marked(user, delivered_seq, read_seq, now));
                let unread = around.store.row(room).map_or(0, |row| row.unread(&member));
                let room = String::from(room);
                reply::Result::Marked(Marked { room, delivered_seq, read_seq, unread, mentions: 0 })
            }
            (
                write,
                written @ (Written::Appended(_)
                | Written::Duplicate { .. }
                | Written::Expired { .. }
                | Written::Repeated(_)),
            ) => {
                unreachable!("{written:?} answers no {write:?}")
            }
        };
        self.answer(key, ticket, Answer::Reply(Box::new(result)), around.stage);
    }
}
