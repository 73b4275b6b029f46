//! What is read from the modelled database.

use veza_engine::ledger::{EntryRow, Kind, MemberRow, RoomRow, not_found};
use veza_engine::room::unavailable;
use veza_engine::{Anchor, Answer, Ask, Page, View};
use veza_proto::v1::{MemberList, Message, PinList, Reaction, UnreadList, UnreadRoom, reply};
use veza_proto::{RoomId, UserId};

use super::{Store, plain_cmid};
use crate::stage::{MS, Stage};

impl Store {
    /// What a session asks to read, as things stand now.
    pub(crate) fn read(&self, user: &UserId, ask: &Ask, stage: &Stage) -> Answer {
        if stage.now < self.down_until {
            return Answer::Refused(unavailable());
        }
        let result = match ask {
            Ask::Read { room, view, anchor, limit } => {
                let Some(row) = self.entered(room, user) else { return Answer::Refused(not_found()) };
                return Answer::Page(Box::new(self.page(row, user, *view, *anchor, *limit as usize)));
            }
            Ask::ListMembers { room, .. } => {
                if self.entered(room, user).is_none() {
                    return Answer::Refused(not_found());
                }
                let members = self.members(room).map(|(user, member)| member.to_strangers(user)).collect();
                reply::Result::MemberList(MemberList { room: String::from(room), members, next: String::new() })
            }
            Ask::ListPins { room, skip: _ } => {
                let Some(row) = self.entered(room, user) else { return Answer::Refused(not_found()) };
                let pins = self.ledger.pins.range((room.clone(), 0), (room.clone(), u64::MAX));
                let mut pins: Vec<(u64, u64)> = pins.map(|((_, seq), marker)| (marker.seq, *seq)).collect();
                pins.sort_unstable_by(|one, other| other.cmp(one));
                let rows = pins.iter().filter_map(|(_, seq)| self.ledger.entries.get(&(row.id.clone(), *seq)));
                let messages = rows.map(|entry| self.shown(entry, user)).collect();
                reply::Result::PinList(PinList { room: String::from(room), messages, more: false })
            }
            Ask::ListUnread { .. } => {
                let mine = self.ledger.members.iter().filter(|((_, of), member)| of == user && member.joined.is_some());
                let rooms = mine.filter_map(|((room, _), member)| {
                    let row = self.ledger.rooms.get(room)?;
                    Some(UnreadRoom {
                        room: String::from(room),
                        epoch: row.epoch,
                        head: row.head,
                        read_seq: member.read_seq,
                        unread: row.unread(member),
                        ..UnreadRoom::default()
                    })
                });
                reply::Result::UnreadList(UnreadList { rooms: rooms.collect(), next: String::new() })
            }
            Ask::Write(_)
            | Ask::OpenDirect { .. }
            | Ask::Invite { .. }
            | Ask::Join { .. }
            | Ask::Subscribe { .. }
            | Ask::Unsubscribe { .. }
            | Ask::Leave { .. }
            | Ask::Append { .. }
            | Ask::Mark { .. }
            | Ask::Typing { .. }
            | Ask::Status { .. }
            | Ask::ListRooms { .. }
            | Ask::ListInvites { .. }
            | Ask::ListAudit { .. }
            | Ask::ListRevisions { .. }
            | Ask::ListReactions { .. }
            | Ask::Search { .. } => return Answer::Refused(unavailable()),
        };
        Answer::Reply(Box::new(result))
    }

    /// Room and membership at one moment, of somebody who is a member.
    pub(crate) fn place(&self, room: &RoomId, user: &UserId) -> Option<(&RoomRow, &MemberRow)> {
        let member = self.ledger.members.get(&(room.clone(), user.clone()))?;
        member.joined?;
        Some((self.ledger.rooms.get(room)?, member))
    }

    pub(crate) fn is_member(&self, room: &RoomId, user: &UserId) -> bool {
        self.place(room, user).is_some()
    }

    /// What a room on a node has missed; `None` when the database does not answer.
    pub(crate) fn missed(&self, room: &RoomId, after: u64, limit: u32, stage: &Stage) -> Option<Vec<Message>> {
        if stage.now < self.down_until {
            return None;
        }
        let rows = self.ledger.entries.range((room.clone(), after + 1), (room.clone(), u64::MAX));
        Some(rows.take(limit as usize).map(|(_, entry)| self.materialised(entry, None)).collect())
    }

    pub(crate) fn row(&self, room: &RoomId) -> Option<&RoomRow> {
        self.ledger.rooms.get(room)
    }

    /// How long half a read takes at most: asking, or being answered.
    pub(crate) fn read_takes(&self, stage: &Stage) -> u64 {
        if stage.now < self.slow_until { 300 * MS } else { 8 * MS }
    }

    /// Rooms with more entries than they keep, and up to which these go.
    pub(crate) fn overdue(&self) -> Vec<(RoomId, u64)> {
        let kept = |row: &RoomRow| row.settings.retention_entries;
        let rooms = self.ledger.rooms.iter().filter(|(_, row)| kept(row) > 0);
        let cut = rooms.map(|(id, row)| (id, row.head.saturating_sub(kept(row)), row.first_available));
        cut.filter(|(_, up_to, first)| up_to >= first).map(|(id, up_to, _)| (id.clone(), up_to)).collect()
    }

    /// A message as this reader sees it now.
    pub(crate) fn shown(&self, entry: &EntryRow, reader: &UserId) -> Message {
        self.materialised(entry, Some(reader))
    }

    fn materialised(&self, entry: &EntryRow, reader: Option<&UserId>) -> Message {
        let (room, seq) = (entry.room.clone(), entry.seq);
        let totals =
            self.ledger.totals.range((room.clone(), seq, String::new()), (room.clone(), seq + 1, String::new()));
        let reactions = totals.filter(|((_, of, _), _)| *of == seq).map(|((_, _, emoji), count)| {
            let key = |user: &UserId| (room.clone(), seq, emoji.clone(), user.clone());
            let mine = reader.is_some_and(|reader| self.ledger.reactions.get(&key(reader)).is_some());
            Reaction { emoji: emoji.clone(), count: *count, mine }
        });
        let mut message = plain_cmid(entry.to_page(reactions.collect()));
        if let Some(said) = self.said.get(&(room, seq)).filter(|_| message.deleted.is_some()) {
            (message.body, message.deleted) = (said.clone(), None);
        }
        message
    }

    fn entered(&self, room: &RoomId, user: &UserId) -> Option<&RoomRow> {
        self.place(room, user).map(|(row, _)| row)
    }

    fn members(&self, room: &RoomId) -> impl Iterator<Item = (&UserId, &MemberRow)> {
        let of = self.ledger.members.iter().filter(move |((of, _), member)| of == room && member.joined.is_some());
        of.map(|((_, user), member)| (user, member))
    }

    fn page(&self, row: &RoomRow, reader: &UserId, view: View, anchor: Anchor, limit: usize) -> Page {
        let all = self.ledger.entries.range((row.id.clone(), 0), (row.id.clone(), u64::MAX)).map(|(_, entry)| entry);
        let rows: Vec<&EntryRow> = all.filter(|entry| stands_in(entry, view)).collect();
        let (from, to) = match anchor {
            Anchor::After(after) => {
                let from = rows.partition_point(|entry| entry.seq <= after);
                (from, (from + limit).min(rows.len()))
            }
            Anchor::Before(before) => {
                let to = rows.partition_point(|entry| entry.seq < before);
                (to.saturating_sub(limit), to)
            }
            Anchor::Around(seq) => {
                let middle = rows.partition_point(|entry| entry.seq < seq);
                let from = middle.saturating_sub(limit / 2);
                (from, (from + limit).min(rows.len()))
            }
        };
        Page {
            room: row.id.clone(),
            epoch: row.epoch,
            messages: rows[from..to].iter().map(|entry| self.shown(entry, reader)).collect(),
            more_before: from > 0,
            more_after: to < rows.len(),
            head: row.head,
            first_available: row.first_available,
        }
    }
}

fn stands_in(entry: &EntryRow, view: View) -> bool {
    match view {
        View::Everything => true,
        View::Timeline => match entry.detail.kind() {
            Kind::Text => entry.detail.thread() == 0,
            Kind::Note => true,
            Kind::Edit | Kind::Deletion | Kind::Reaction | Kind::Pin => false,
        },
        View::Thread(root) => entry.detail.kind() == Kind::Text && (entry.seq == root || entry.detail.thread() == root),
    }
}
