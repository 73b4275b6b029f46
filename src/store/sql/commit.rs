//! One batch: what it needs is read, the ledger decides, what has changed is written. The number of statements does not
//! depend on the batch's size.

use std::collections::BTreeMap;

use veza_engine::ledger::{
    Change, Detail, EntryRow, InviteRow, Kind, Ledger, MemberRow, Needs, RoomRow, Table as Kept, Write, Written,
};
use veza_proto::RoomId;

use super::find::{self, Find};
use super::outbox;
use super::row::{self, Row as _};
use super::table::{self, Cell, Rows, Table};
use super::{Connection, Indexed, StoreError};
use crate::crash;

/// Applies the batch inside the transaction that the connection is in. After an error the caller drops the connection,
/// which rolls back.
pub(in crate::store) async fn apply<C: Connection>(
    connection: &mut C,
    batch: &[Write],
) -> Result<Vec<Written>, StoreError> {
    let mut at_hand = AtHand::default();
    at_hand.load(connection, &Needs::of(batch)).await?;
    let written = batch.iter().map(|write| at_hand.ledger.apply(write)).collect();
    at_hand.make_keys(connection).await?;
    at_hand.flush(connection).await?;
    at_hand.tell(connection).await?;
    at_hand.erase(connection).await?;
    at_hand.expire(connection).await?;
    if let Some(up_to) = at_hand.ledger.calls_expired() {
        connection.run(find::FORGET_CALLS, &[up_to.into()]).await?;
    }
    Ok(written)
}

/// The rows of a batch.
#[derive(Default)]
struct AtHand {
    ledger: Ledger,
    /// Rooms are known outside by their ids and inside by their keys.
    keys: BTreeMap<RoomId, i64>,
    /// As they were loaded.
    rooms: BTreeMap<i64, RoomRow>,
    /// Whether anybody listens to what happens, as far as it is known.
    heard: Option<bool>,
}

impl AtHand {
    async fn load<C: Connection>(&mut self, connection: &mut C, needs: &Needs) -> Result<(), StoreError> {
        let rooms = needs.rooms.iter().map(|room| [Cell::from(room.as_str())]);
        for row in found(connection, &find::ROOMS, rooms).await? {
            let (key, room) = (row.integer("room_key")?, row::room(&row)?);
            self.heard = Some(row.flag("listeners")?);
            self.keys.insert(room.id.clone(), key);
            self.ledger.rooms.load(room.id.clone(), room.clone());
            self.rooms.insert(key, room);
        }
        let calls = needs.calls.iter().map(|(service, key)| [Cell::from(service.as_str()), key.as_str().into()]);
        let mut made = Vec::new();
        for row in found(connection, &find::CALLS, calls).await? {
            let (key, call) = row::call(&row)?;
            made.extend(call.made.clone());
            self.ledger.calls.load(key, call);
        }
        let invites = needs.invites.iter().chain(&made).map(|key| [Cell::from(row::invite_name(key))]);
        for row in found(connection, &find::INVITES, invites).await? {
            let (key, invite) = row::invite(&row)?;
            self.ledger.invites.load(key, invite);
        }
        if self.rooms.is_empty() {
            return Ok(());
        }
        self.load_members(connection, needs).await?;
        self.load_entries(connection, needs).await?;
        self.load_marks(connection, needs).await
    }

    async fn load_members<C: Connection>(&mut self, connection: &mut C, needs: &Needs) -> Result<(), StoreError> {
        let members = needs.members.iter().filter_map(|(room, user)| Some([self.key(room)?, user.as_str().into()]));
        for row in found(connection, &find::MEMBERS, members).await? {
            let key = (self.room(&row)?.id.clone(), row.user("member")?);
            self.ledger.members.load(key, row::member(&row)?);
        }
        let owners = needs.owners.iter().filter_map(|room| Some([self.key(room)?]));
        for row in found(connection, &find::OWNERS, owners).await? {
            let key = (self.room(&row)?.id.clone(), row.user("member")?);
            self.ledger.members.load(key, row::member(&row)?);
        }
        Ok(())
    }

    async fn load_entries<C: Connection>(&mut self, connection: &mut C, needs: &Needs) -> Result<(), StoreError> {
        let sent = needs
            .sent
            .iter()
            .filter_map(|(room, author, cmid)| Some([self.key(room)?, author.as_str().into(), cmid.as_str().into()]));
        for row in found(connection, &find::SENT, sent).await? {
            let room = self.room(&row)?;
            let entry = row::entry(&row, &room.id, room.epoch)?;
            let cmid = entry.cmid.clone().ok_or_else(|| row::damaged("an entry was found by a cmid it has not"))?;
            self.ledger.sent.load((entry.room.clone(), entry.author.clone(), cmid), entry.seq);
            self.ledger.entries.load((entry.room.clone(), entry.seq), entry);
        }
        let entries = needs.entries.iter().filter_map(|(room, seq)| Some([self.key(room)?, (*seq).into()]));
        for row in found(connection, &find::ENTRIES, entries).await? {
            let room = self.room(&row)?;
            let entry = row::entry(&row, &room.id, room.epoch)?;
            self.ledger.entries.load((entry.room.clone(), entry.seq), entry);
        }
        Ok(())
    }

    async fn load_marks<C: Connection>(&mut self, connection: &mut C, needs: &Needs) -> Result<(), StoreError> {
        let reactions = needs.reactions.iter().filter_map(|(room, seq, emoji, user)| {
            Some([self.key(room)?, (*seq).into(), emoji.as_str().into(), user.as_str().into()])
        });
        for row in found(connection, &find::REACTIONS, reactions).await? {
            let room = self.room(&row)?.id.clone();
            let key = (room, row.natural("seq")?, row.text("emoji")?, row.user("member")?);
            self.ledger.reactions.load(key, row::marker(&row)?);
        }
        let totals = needs.totals.iter().filter_map(|(room, seq)| Some([self.key(room)?, (*seq).into()]));
        for row in found(connection, &find::TOTALS, totals).await? {
            let key = (self.room(&row)?.id.clone(), row.natural("seq")?, row.text("emoji")?);
            self.ledger.totals.load(key, row.small("count")?);
        }
        let pins = needs.pins.iter().filter_map(|room| Some([self.key(room)?]));
        for row in found(connection, &find::PINS, pins).await? {
            let key = (self.room(&row)?.id.clone(), row.natural("seq")?);
            self.ledger.pins.load(key, row::marker(&row)?);
        }
        Ok(())
    }

    fn key(&self, room: &RoomId) -> Option<Cell<'static>> {
        self.keys.get(room).map(|key| Cell::from(*key))
    }

    /// The key of a room that is there: rows hang only on rooms.
    fn at(&self, room: &RoomId) -> Cell<'static> {
        self.key(room).expect("what has changed is in a room that was found or made")
    }

    fn room(&self, row: &impl row::Row) -> Result<&RoomRow, StoreError> {
        self.rooms.get(&row.integer("room_key")?).ok_or_else(|| row::damaged("a row of a room that was not asked for"))
    }

    async fn make_keys<C: Connection>(&mut self, connection: &mut C) -> Result<(), StoreError> {
        let made = self.ledger.rooms.changes().filter_map(|change| match change {
            Change::Insert(room, _) => Some(room.clone()),
            Change::Update(..) | Change::Delete(_) => None,
        });
        let made: Vec<RoomId> = made.collect();
        if !made.is_empty() {
            let keys = connection.room_keys(made.len()).await?;
            self.keys.extend(made.into_iter().zip(keys));
        }
        Ok(())
    }

    async fn flush<C: Connection>(&self, connection: &mut C) -> Result<(), StoreError> {
        let Ledger { members, reactions, totals, pins, revisions, mentions, invites, audit, calls, .. } = &self.ledger;
        self.flush_rooms(connection).await?;
        write(connection, &table::MEMBERS, members, |(room, user)| [self.at(room), user.as_str().into()], member_cells)
            .await?;
        self.flush_entries(connection).await?;
        write(
            connection,
            &table::REACTIONS,
            reactions,
            |(room, seq, emoji, user)| [self.at(room), (*seq).into(), emoji.as_str().into(), user.as_str().into()],
            |marker| [marker.seq.into(), marker.at_ms.into()],
        )
        .await?;
        write(
            connection,
            &table::TOTALS,
            totals,
            |(room, seq, emoji)| [self.at(room), (*seq).into(), emoji.as_str().into()],
            |count| [(*count).into()],
        )
        .await?;
        write(
            connection,
            &table::PINS,
            pins,
            |(room, seq)| [self.at(room), (*seq).into()],
            |marker| [marker.seq.into(), marker.at_ms.into()],
        )
        .await?;
        write(
            connection,
            &table::REVISIONS,
            revisions,
            |(room, seq, revision)| [self.at(room), (*seq).into(), (*revision).into()],
            |revision| [revision.body.as_str().into(), revision.at_ms.into()],
        )
        .await?;
        write(
            connection,
            &table::MENTIONS,
            mentions,
            |(room, seq, user)| [user.as_str().into(), self.at(room), (*seq).into()],
            |()| [],
        )
        .await?;
        write(connection, &table::INVITES, invites, |key| [row::invite_name(key).into()], invite_cells).await?;
        write(
            connection,
            &table::CALLS,
            calls,
            |(service, key)| [service.as_str().into(), key.as_str().into()],
            |call| {
                [call.digest.cast_signed().into(), call.made.as_ref().map(row::invite_name).into(), call.at_ms.into()]
            },
        )
        .await?;
        write(
            connection,
            &table::AUDIT,
            audit,
            |(room, number)| [self.at(room), (*number).into()],
            |row| {
                [
                    row.at_ms.into(),
                    row.actor.as_str().into(),
                    row.action.as_ref().into(),
                    row.user.as_ref().map(|user| user.as_str()).into(),
                    row.seq.into(),
                    row.reason.as_str().into(),
                    row.detail.as_str().into(),
                ]
            },
        )
        .await
    }

    /// Most commits change of most rooms only how long they are.
    async fn flush_rooms<C: Connection>(&self, connection: &mut C) -> Result<(), StoreError> {
        let mut changes = Changes::new(&table::ROOMS);
        let mut counts = Rows::new(table::ROOM_COUNTS.width());
        for change in self.ledger.rooms.changes() {
            match change {
                Change::Insert(id, room) => changes.inserted.push([self.at(id)].into_iter().chain(room_cells(room))),
                Change::Update(id, room) => {
                    let key = self.at(id);
                    if self.keys.get(id).and_then(|key| self.rooms.get(key)).is_some_and(|old| only_grown(old, room)) {
                        counts.push([key, room.head.into(), room.messages.into(), room.last_message_ms.into()]);
                    } else {
                        changes.updated.push([key].into_iter().chain(room_cells(room)));
                    }
                }
                Change::Delete(id) => changes.deleted.push([self.at(id)]),
            }
        }
        changes.write(connection, &table::ROOMS).await?;
        if !counts.is_empty() {
            connection.update(&table::ROOM_COUNTS, counts).await?;
        }
        Ok(())
    }

    async fn flush_entries<C: Connection>(&self, connection: &mut C) -> Result<(), StoreError> {
        let mut said = Rows::new(table::ENTRIES.width());
        let mut states = Rows::new(table::ENTRY_STATE.width());
        let mut indexed = BTreeMap::new();
        for change in self.ledger.entries.changes() {
            let (entry, inserted) = match change {
                Change::Insert(_, entry) => (entry, true),
                Change::Update(_, entry) => (entry, false),
                Change::Delete(_) => continue,
            };
            let key = [self.at(&entry.room), entry.seq.into()];
            if !inserted {
                states.push(key.into_iter().chain(state_cells(entry)));
                continue;
            }
            said.push(key.into_iter().chain(entry_cells(entry)));
            // An edit stands after its message, so what it replaces in the index is known by now.
            let (message, replaces) = match entry.detail {
                Detail::Text { .. } => (Some(entry), false),
                Detail::Edit { target, .. } => (self.ledger.entries.get(&(entry.room.clone(), target)), true),
                Detail::Note(_) | Detail::Deletion { .. } | Detail::Reaction { .. } | Detail::Pin { .. } => continue,
            };
            if let Some(message) = message.filter(|message| message.deleted.is_none()) {
                indexed.entry((self.keys[&message.room], message.seq)).or_insert((replaces, message));
            }
        }
        if !said.is_empty() {
            connection.insert(&table::ENTRIES, said).await?;
        }
        if !states.is_empty() {
            connection.update(&table::ENTRY_STATE, states).await?;
        }
        let documents = indexed.into_iter().map(|((room, seq), (replaces, message))| Indexed {
            room,
            seq,
            replaces,
            author: message.author.as_str(),
            body: &message.body,
        });
        let documents: Vec<Indexed<'_>> = documents.collect();
        if documents.is_empty() { Ok(()) } else { connection.index(documents).await }
    }

    /// Keeps what has happened for whoever listens; costs nothing when nobody does. Whoever begins to listen waits until
    /// every batch has ended that found nobody (`Database::outlive_commits`).
    async fn tell<C: Connection>(&self, connection: &mut C) -> Result<(), StoreError> {
        let happened = self.ledger.happened();
        if happened.is_empty() {
            return Ok(());
        }
        let heard = match self.heard {
            Some(heard) => heard,
            None => {
                let only = found(connection, &find::LISTENERS, [[Cell::Number(1)]].into_iter()).await?;
                only.first().map(|row| row.flag("listeners")).transpose()?.unwrap_or(false)
            }
        };
        if !heard {
            return Ok(());
        }
        let cells = happened.iter().map(|it| outbox::cells(self.at(&it.room), it));
        connection.insert(&table::OUTBOX, rows(table::OUTBOX.width(), cells)).await
    }

    /// Takes out what the ledger's rows do not show of deleted messages.
    async fn erase<C: Connection>(&self, connection: &mut C) -> Result<(), StoreError> {
        if self.ledger.erased().is_empty() {
            return Ok(());
        }
        crash::point("in_delete");
        let keys = || self.ledger.erased().iter().map(|(room, seq)| [self.at(room), (*seq).into()]);
        let mut blank = Rows::new(table::ENTRY_CONTENT.width());
        for row in found(connection, &find::EDITS, keys()).await? {
            let mut detail = Detail::from_bytes(&row.bytes("detail")?).map_err(row::damaged)?;
            detail.erase();
            blank.push([
                row.integer("room_key")?.into(),
                row.natural("seq")?.into(),
                "".into(),
                detail.to_bytes().into(),
            ]);
        }
        if !blank.is_empty() {
            connection.update(&table::ENTRY_CONTENT, blank).await?;
        }
        for of_message in &table::OF_MESSAGE {
            connection.delete(of_message, rows(of_message.keys.len(), keys())).await?;
        }
        let keys = self.ledger.erased().iter().map(|(room, seq)| (self.keys[room], *seq));
        connection.unindex(keys.collect()).await
    }

    async fn expire<C: Connection>(&self, connection: &mut C) -> Result<(), StoreError> {
        for (room, up_to) in self.ledger.expired() {
            // The index is found by the entries.
            connection.unindex_up_to(self.keys[room], *up_to).await?;
            let range = [self.at(room), (*up_to).into()];
            for sql in find::EXPIRE {
                connection.run(sql, &range).await?;
            }
        }
        Ok(())
    }
}

/// Rows under these keys, or none when nothing is asked.
async fn found<'a, C: Connection, const N: usize>(
    connection: &mut C,
    find: &'static Find,
    keys: impl Iterator<Item = [Cell<'a>; N]>,
) -> Result<Vec<C::Row>, StoreError> {
    let keys = rows(N, keys);
    if keys.is_empty() { Ok(Vec::new()) } else { connection.find(find, keys).await }
}

fn rows<'a, const N: usize>(width: usize, cells: impl Iterator<Item = [Cell<'a>; N]>) -> Rows<'a> {
    let mut rows = Rows::new(width);
    cells.for_each(|row| rows.push(row));
    rows
}

/// What becomes of one table.
struct Changes<'a> {
    inserted: Rows<'a>,
    updated: Rows<'a>,
    deleted: Rows<'a>,
}

impl Changes<'_> {
    fn new(table: &Table) -> Self {
        let width = table.width();
        Self { inserted: Rows::new(width), updated: Rows::new(width), deleted: Rows::new(table.keys.len()) }
    }

    async fn write<C: Connection>(self, connection: &mut C, table: &'static Table) -> Result<(), StoreError> {
        if !self.inserted.is_empty() {
            connection.insert(table, self.inserted).await?;
        }
        if !self.updated.is_empty() {
            connection.update(table, self.updated).await?;
        }
        if !self.deleted.is_empty() {
            connection.delete(table, self.deleted).await?;
        }
        Ok(())
    }
}

async fn write<'a, C, K, V, const KEYS: usize, const VALUES: usize>(
    connection: &mut C,
    table: &'static Table,
    kept: &'a Kept<K, V>,
    key: impl Fn(&'a K) -> [Cell<'a>; KEYS],
    values: impl Fn(&'a V) -> [Cell<'a>; VALUES],
) -> Result<(), StoreError>
where
    C: Connection,
    K: Ord,
{
    let mut changes = Changes::new(table);
    for change in kept.changes() {
        match change {
            Change::Insert(of, row) => changes.inserted.push(key(of).into_iter().chain(values(row))),
            Change::Update(of, row) => changes.updated.push(key(of).into_iter().chain(values(row))),
            Change::Delete(of) => changes.deleted.push(key(of)),
        }
    }
    changes.write(connection, table).await
}

/// Whether nothing but messages and notes happened to the room.
fn only_grown(old: &RoomRow, new: &RoomRow) -> bool {
    let RoomRow { head, messages, last_message_ms, .. } = *new;
    *new == RoomRow { head, messages, last_message_ms, ..old.clone() }
}

fn room_cells(room: &RoomRow) -> [Cell<'_>; 22] {
    let (one, other) = room.direct.as_ref().map(|(one, other)| (one.as_str(), other.as_str())).unzip();
    [
        room.id.as_str().into(),
        room.title.as_str().into(),
        room.topic.as_str().into(),
        i64::from(i32::from(room.kind)).into(),
        room.settings.to_bytes().into(),
        room.is_listed().into(),
        (room.settings.retention_seconds > 0 || room.settings.retention_entries > 0).into(),
        room.settings.retention_seconds.into(),
        room.settings.retention_entries.into(),
        room.archived.into(),
        room.epoch.into(),
        room.head.into(),
        room.first_available.into(),
        room.messages.into(),
        room.messages_expired.into(),
        room.members.into(),
        room.created_ms.into(),
        room.last_message_ms.into(),
        room.revision.into(),
        room.audit.into(),
        one.into(),
        other.into(),
    ]
}

fn member_cells(member: &MemberRow) -> [Cell<'_>; 9] {
    [
        member.role().map_or(0, |role| i64::from(i32::from(role))).into(),
        member.joined.map_or(0, |joined| joined.at_ms).into(),
        member.muted_until_ms.into(),
        member.banned_until_ms.into(),
        member.reason.as_str().into(),
        member.delivered_seq.into(),
        member.read_seq.into(),
        member.read_messages.into(),
        member.last_message_ms.into(),
    ]
}

fn entry_cells(entry: &EntryRow) -> impl Iterator<Item = Cell<'_>> {
    let said = [
        i64::from(entry.detail.kind() as u8).into(),
        place_of(entry).into(),
        entry.detail.target().into(),
        entry.author.as_str().into(),
        entry.cmid.as_ref().map(|cmid| cmid.as_str()).into(),
        entry.at_ms.into(),
        entry.digest.cast_signed().into(),
        entry.messages.into(),
    ];
    said.into_iter().chain(state_cells(entry))
}

/// Where it is shown: in the room itself (0), in a thread, or nowhere.
fn place_of(entry: &EntryRow) -> Option<u64> {
    match entry.detail.kind() {
        Kind::Text => Some(entry.detail.thread()),
        Kind::Note => Some(0),
        Kind::Edit | Kind::Deletion | Kind::Reaction | Kind::Pin => None,
    }
}

fn state_cells(entry: &EntryRow) -> [Cell<'_>; 12] {
    let deleted = entry.deleted.as_ref();
    [
        entry.body.as_str().into(),
        entry.detail.to_bytes().into(),
        entry.edits.into(),
        entry.edited_ms.into(),
        deleted.map_or(0, |deleted| deleted.seq).into(),
        deleted.map(|deleted| deleted.by.as_str()).into(),
        deleted.map_or(0, |deleted| deleted.at_ms).into(),
        entry.pinned.into(),
        entry.reacted.into(),
        entry.replies.into(),
        entry.last_reply_seq.into(),
        entry.last_reply_ms.into(),
    ]
}

fn invite_cells(invite: &InviteRow) -> [Cell<'_>; 7] {
    [
        invite.room.as_str().into(),
        invite.user.as_ref().map(|user| user.as_str()).into(),
        invite.creator.as_str().into(),
        invite.created_ms.into(),
        invite.expires_ms.into(),
        invite.uses_max.into(),
        invite.uses.into(),
    ]
}
