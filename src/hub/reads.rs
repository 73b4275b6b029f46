//! Reads from the store, each behind the same question: is the asker a member, and may they see this.

use veza_engine::ledger::{Actor, EntryRow, Kind, MemberRow, RoomRow, not_found};
use veza_engine::{Anchor as Place, Answer, Ask, Page, SearchCursor, View};
use veza_proto::limits as wire;
use veza_proto::v1::{
    Action, AuditList, Error, ErrorCode, InviteList, MemberFilter, MemberList, PinList, ReactionList, Revision,
    RevisionList, Role, RoomList, SearchResult, UnreadList, reply,
};
use veza_proto::{RoomId, UserId};

use super::asker::Asker;
use super::{Hub, convert};
use crate::store::{Anchor, Entry, Invites, Members, Rooms, Scope, Search, StoreError, Unread};

type Looked = Result<Result<reply::Result, Error>, StoreError>;

/// The label of a read in logs.
#[expect(clippy::wildcard_enum_match_arm, reason = "only reads come here")]
pub(super) fn kind(ask: &Ask) -> &'static str {
    match ask {
        Ask::Read { .. } => "messages",
        Ask::ListRooms { .. } => "rooms",
        Ask::ListMembers { .. } => "members",
        Ask::ListInvites { .. } => "invites",
        Ask::ListAudit { .. } => "audit",
        Ask::ListRevisions { .. } => "revisions",
        Ask::ListReactions { .. } => "reactions",
        Ask::ListPins { .. } => "pins",
        Ask::ListUnread { .. } => "unread",
        Ask::Search { .. } => "search",
        _ => "other",
    }
}

impl Hub {
    /// The answer to an ask that only reads.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the hub sends only reads here")]
    pub(super) async fn look_up(&self, asker: &Asker, ask: Ask) -> Result<Answer, StoreError> {
        let me = &asker.actor;
        let looked = match ask {
            Ask::Read { room, view, anchor, limit } => {
                if asker.is_call()
                    && let Err(error) = self.of_member(&room, me).await?
                {
                    return Ok(Answer::Refused(error));
                }
                return self.page(me.id(), room, view, anchor, limit).await;
            }
            Ask::ListRooms { mine, after, limit } => self.list_rooms(me, mine, after.as_deref(), limit).await?,
            Ask::ListMembers { room, filter, after, limit } => {
                self.list_members(me, &room, filter, after.as_ref(), limit).await?
            }
            Ask::ListInvites { room } => self.list_invites(me, room.as_ref()).await?,
            Ask::ListAudit { room, before, limit } => self.list_audit(me, &room, before, limit).await?,
            Ask::ListRevisions { room, seq } => self.list_revisions(me, &room, seq).await?,
            Ask::ListReactions { room, seq, emoji } => self.list_reactions(me, &room, seq, &emoji).await?,
            Ask::ListPins { room, skip } => self.list_pins(me, &room, skip).await?,
            Ask::ListUnread { after, limit } => self.list_unread(me, after.as_deref(), limit).await?,
            Ask::Search { room, query, author, before, cursor, limit } => {
                let scope = match room {
                    Some(room) => Scope::Room { room, before, viewer: me.id().clone() },
                    None => {
                        let before = cursor.map(|SearchCursor { at_ms, room, seq }| (at_ms, room, seq));
                        Scope::Mine { member: me.id().clone(), before }
                    }
                };
                self.search(me, Search { query, scope, author }, limit).await?
            }
            other => unreachable!("{other:?} is no read"),
        };
        Ok(match looked {
            Ok(result) => Answer::Reply(Box::new(result)),
            Err(error) => Answer::Refused(error),
        })
    }

    /// The room, for a member or a service; what is not there and what is not the asker's look the same.
    pub(super) async fn of_member(
        &self,
        room: &RoomId,
        actor: &Actor,
    ) -> Result<Result<(RoomRow, Role), Error>, StoreError> {
        Ok(match (self.shared.store.membership(room, actor.id()).await?, actor) {
            (Some((row, _)), Actor::Service(_)) => Ok((row, Role::Owner)),
            (Some((row, Some(member))), Actor::User(_)) => match member.role() {
                Some(role) => Ok((row, role)),
                None => Err(not_found()),
            },
            (Some((_, None)) | None, _) => Err(not_found()),
        })
    }

    async fn page(
        &self,
        me: &UserId,
        room: RoomId,
        view: View,
        anchor: Place,
        limit: u32,
    ) -> Result<Answer, StoreError> {
        let Some(row) = self.shared.store.room(&room).await? else { return Ok(Answer::Refused(not_found())) };
        let reader = Reader { hub: self, me, row: &row, view };
        let (entries, more_before, more_after) = match anchor {
            Place::After(seq) => reader.after(seq, limit).await?,
            Place::Before(seq) => reader.before(seq, limit).await?,
            Place::Around(seq) => reader.around(seq, limit).await?,
        };
        let newest = entries.last().map_or(0, |entry| entry.row.seq);
        Ok(Answer::Page(Box::new(Page {
            epoch: row.epoch,
            head: row.head.max(newest),
            first_available: row.first_available,
            messages: entries.into_iter().map(convert::message).collect(),
            more_before,
            more_after,
            room,
        })))
    }

    async fn list_rooms(&self, me: &Actor, mine: bool, after: Option<&str>, limit: u32) -> Looked {
        let which = match me {
            Actor::Service(_) => Rooms::All,
            Actor::User(_) if mine => Rooms::Mine,
            Actor::User(_) => Rooms::Visible,
        };
        let me = me.id();
        let mut rooms = self.shared.store.rooms(me, which, after, limit + 1).await?;
        let next = rest(&mut rooms, limit, |(row, _)| String::from(&row.id));
        let rooms = rooms.into_iter().map(|(row, member)| {
            let member = member.filter(|member| member.joined.is_some());
            row.to_wire(member.map(|member| member.to_wire(me)))
        });
        Ok(Ok(reply::Result::RoomList(RoomList { rooms: rooms.collect(), next })))
    }

    async fn list_members(
        &self,
        me: &Actor,
        room: &RoomId,
        filter: MemberFilter,
        after: Option<&UserId>,
        limit: u32,
    ) -> Looked {
        let (row, role) = match self.of_member(room, me).await? {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let moderates = role >= row.settings.at_least(Action::Moderate, row.kind);
        let now_ms = self.shared.clock.now().as_millis();
        let which = match filter {
            MemberFilter::Unspecified => Members::All,
            MemberFilter::Staff => Members::Staff,
            MemberFilter::Muted | MemberFilter::Banned if !moderates => return Ok(Err(for_moderators())),
            MemberFilter::Muted => Members::Muted { now_ms },
            MemberFilter::Banned => Members::Banned { now_ms },
        };
        let after = after.map(UserId::as_str);
        let mut members = self.shared.store.members(room, which, after, limit + 1).await?;
        let next = rest(&mut members, limit, |(user, _)| String::from(user));
        let shown = |(user, member): (UserId, MemberRow)| {
            if moderates || user == *me.id() { member.to_wire(&user) } else { member.to_strangers(&user) }
        };
        let members = members.into_iter().map(shown).collect();
        Ok(Ok(reply::Result::MemberList(MemberList { room: String::from(room), members, next })))
    }

    /// Of a room: all for its moderators, one's own for others.
    async fn list_invites(&self, me: &Actor, room: Option<&RoomId>) -> Looked {
        let all = match room {
            None => true,
            Some(room) => match self.of_member(room, me).await? {
                Ok((row, role)) => role >= row.settings.at_least(Action::Moderate, row.kind),
                Err(error) => return Ok(Err(error)),
            },
        };
        let which = room.map_or(Invites::For(me.id()), Invites::Of);
        let now_ms = self.shared.clock.now().as_millis();
        let invites = self.shared.store.invites(which, now_ms, wire::INVITES_LISTED_MAX).await?;
        let shown = invites.iter().filter(|(_, row, _)| all || row.creator == *me.id());
        let invites = shown.map(|(key, row, title)| row.to_wire(key, title)).collect();
        Ok(Ok(reply::Result::InviteList(InviteList { invites })))
    }

    async fn list_audit(&self, me: &Actor, room: &RoomId, before: u64, limit: u32) -> Looked {
        match self.of_member(room, me).await? {
            Ok((row, role)) if role < row.settings.at_least(Action::Moderate, row.kind) => {
                return Ok(Err(for_moderators()));
            }
            Ok(_) => {}
            Err(error) => return Ok(Err(error)),
        }
        let mut entries = self.shared.store.audit(room, before, limit + 1).await?;
        let more = entries.len() > limit as usize;
        entries.truncate(limit as usize);
        let next = entries.last().filter(|_| more).map_or(0, |(number, _)| *number);
        let entries = entries.iter().map(|(number, row)| row.to_wire(*number)).collect();
        Ok(Ok(reply::Result::AuditList(AuditList { room: String::from(room), entries, next })))
    }

    async fn list_revisions(&self, me: &Actor, room: &RoomId, seq: u64) -> Looked {
        let message = match self.message(me, room, seq).await? {
            Ok(message) => message,
            Err(error) => return Ok(Err(error)),
        };
        let earlier = self.shared.store.revisions(room, message.epoch, seq).await?;
        let current = (message.body, if message.edits == 0 { message.at_ms } else { message.edited_ms });
        let bodies = earlier.into_iter().map(|row| (row.body, row.at_ms)).chain([current]);
        let revisions = bodies.zip(0..).map(|((body, at_ms), revision)| Revision { revision, body, at_ms }).collect();
        Ok(Ok(reply::Result::RevisionList(RevisionList { room: String::from(room), seq, revisions })))
    }

    async fn list_reactions(&self, me: &Actor, room: &RoomId, seq: u64, emoji: &str) -> Looked {
        let epoch = match self.message(me, room, seq).await? {
            Ok(message) => message.epoch,
            Err(error) => return Ok(Err(error)),
        };
        let limit = wire::PRESENT_NAMES_MAX as u32;
        let (users, total) = self.shared.store.reactors(room, epoch, seq, emoji, limit).await?;
        let users = users.iter().map(String::from).collect();
        let emoji = emoji.to_owned();
        Ok(Ok(reply::Result::ReactionList(ReactionList { room: String::from(room), seq, emoji, users, total })))
    }

    async fn list_pins(&self, me: &Actor, room: &RoomId, skip: u32) -> Looked {
        if let Err(error) = self.of_member(room, me).await? {
            return Ok(Err(error));
        }
        let pins = self.shared.store.pins(room, me.id()).await?.into_iter().skip(skip as usize);
        let messages = pins.map(convert::message).collect();
        Ok(Ok(reply::Result::PinList(PinList { room: String::from(room), messages, more: false })))
    }

    async fn list_unread(&self, me: &Actor, after: Option<&str>, limit: u32) -> Looked {
        let mut rooms = self.shared.store.unread(me.id(), Unread::After(after), limit + 1).await?;
        let next = rest(&mut rooms, limit, |row| String::from(&row.room));
        let rooms = rooms.into_iter().map(convert::unread);
        Ok(Ok(reply::Result::UnreadList(UnreadList { rooms: rooms.collect(), next })))
    }

    async fn search(&self, me: &Actor, search: Search, limit: u32) -> Looked {
        if let Scope::Room { room, .. } = &search.scope
            && let Err(error) = self.of_member(room, me).await?
        {
            return Ok(Err(error));
        }
        let mut found = self.shared.store.search(&search, limit + 1).await?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let messages: Vec<_> = found.into_iter().map(convert::message).collect();
        let mut result = SearchResult { messages, ..SearchResult::default() };
        if let Some(last) = result.messages.last().filter(|_| more) {
            match &search.scope {
                Scope::Room { .. } => result.next_before_seq = last.seq,
                Scope::Mine { .. } => result.next = SearchCursor::write(last),
            }
        }
        Ok(Ok(reply::Result::SearchResult(result)))
    }

    /// A message that is still there, for a member of its room.
    async fn message(&self, me: &Actor, room: &RoomId, seq: u64) -> Result<Result<EntryRow, Error>, StoreError> {
        let row = match self.of_member(room, me).await? {
            Ok((row, _)) => row,
            Err(error) => return Ok(Err(error)),
        };
        let anchor = Anchor::After(seq.saturating_sub(1));
        let view = crate::store::View::Everything;
        let found = self.shared.store.entries(room, row.epoch, view, anchor, 1, None).await?;
        let found = found.into_iter().map(|entry| entry.row).next();
        Ok(match found.filter(|entry| entry.seq == seq && entry.detail.kind() == Kind::Text) {
            Some(entry) if entry.deleted.is_some() => {
                Err(Error::permanent(ErrorCode::Gone, "this message was deleted"))
            }
            Some(entry) => Ok(entry),
            None => Err(Error::permanent(ErrorCode::NotFound, "no such message")),
        })
    }
}

/// Pages of one room in one view, and whether there is more on either side.
struct Reader<'a> {
    hub: &'a Hub,
    me: &'a UserId,
    row: &'a RoomRow,
    view: View,
}

type Stretch = (Vec<Entry>, bool, bool);

impl Reader<'_> {
    async fn after(&self, seq: u64, limit: u32) -> Result<Stretch, StoreError> {
        let mut entries = self.entries(Anchor::After(seq), limit + 1).await?;
        let more_after = entries.len() > limit as usize;
        entries.truncate(limit as usize);
        let first = entries.first().map_or(seq.saturating_add(1), |entry| entry.row.seq);
        Ok((entries, self.any_before(first).await?, more_after))
    }

    async fn before(&self, seq: u64, limit: u32) -> Result<Stretch, StoreError> {
        let mut entries = self.entries(Anchor::Before(seq), limit + 1).await?;
        let more_before = entries.len() > limit as usize;
        if more_before {
            entries.remove(0);
        }
        let last = entries.last().map_or(seq.saturating_sub(1), |entry| entry.row.seq);
        Ok((entries, more_before, self.any_after(last).await?))
    }

    async fn around(&self, seq: u64, limit: u32) -> Result<Stretch, StoreError> {
        let half = limit / 2;
        let mut entries = self.entries(Anchor::Before(seq), half + 1).await?;
        let more_before = entries.len() > half as usize;
        if more_before {
            entries.remove(0);
        }
        let rest = limit - half;
        let mut behind = self.entries(Anchor::After(seq.saturating_sub(1)), rest + 1).await?;
        let more_after = behind.len() > rest as usize;
        behind.truncate(rest as usize);
        entries.append(&mut behind);
        Ok((entries, more_before, more_after))
    }

    /// Numbers are dense when everything is looked at; else it has to be looked.
    async fn any_before(&self, seq: u64) -> Result<bool, StoreError> {
        if seq <= self.row.first_available || self.row.head < self.row.first_available {
            return Ok(false);
        }
        match self.view {
            View::Everything => Ok(true),
            View::Timeline | View::Thread(_) => Ok(!self.entries(Anchor::Before(seq), 1).await?.is_empty()),
        }
    }

    async fn any_after(&self, seq: u64) -> Result<bool, StoreError> {
        if seq >= self.row.head {
            return Ok(false);
        }
        match self.view {
            View::Everything => Ok(true),
            View::Timeline | View::Thread(_) => Ok(!self.entries(Anchor::After(seq), 1).await?.is_empty()),
        }
    }

    async fn entries(&self, anchor: Anchor, limit: u32) -> Result<Vec<Entry>, StoreError> {
        let view = convert::view(self.view);
        self.hub.shared.store.entries(&self.row.id, self.row.epoch, view, anchor, limit, Some(self.me)).await
    }
}

/// Cuts a list that was read one too long: where it goes on, empty at its end.
fn rest<T>(list: &mut Vec<T>, limit: u32, place: impl Fn(&T) -> String) -> String {
    let more = list.len() > limit as usize;
    list.truncate(limit as usize);
    list.last().filter(|_| more).map(place).unwrap_or_default()
}

fn for_moderators() -> Error {
    Error::permanent(ErrorCode::PermissionDenied, "only moderators of this room may see this")
}
