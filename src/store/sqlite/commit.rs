use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use sqlx::{FromRow, Row, SqliteConnection};
use veza_proto::{Cmid, RoomId, UserId};

use super::super::{MessageRecord, RoomRecord, StoreError, Write, Written};
use super::read::{integer, natural};

/// Applies the batch as one transaction. Every statement costs a hop to the connection's thread, so the facts are read
/// in three statements, the writes decided here, and the changes flushed in a few. After an error the caller drops
/// the connection, which rolls back.
pub(super) async fn commit(connection: &mut SqliteConnection, batch: &[Write]) -> Result<Vec<Written>, StoreError> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let mut plan = Plan::load(connection, batch).await?;
    let written = batch.iter().map(|write| plan.apply(write)).collect();
    plan.flush(connection).await?;
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(written)
}

/// What the database knew of the batch's rooms, members and messages, and what the batch makes of it.
#[derive(Default)]
struct Plan<'a> {
    rooms: HashMap<&'a str, Room>,
    room_key_max: i64,
    members: HashMap<(i64, &'a str), Membership>,
    sent: HashMap<(i64, &'a str, &'a str), Sent<'a>>,
    appended: Vec<Appended<'a>>,
}

struct Room {
    key: i64,
    record: RoomRecord,
    state: RoomState,
}

#[derive(PartialEq, Eq)]
enum RoomState {
    Stored,
    Changed,
    New,
}

/// When a user joined a room, in the database and after the batch.
#[derive(Clone, Copy, Default)]
struct Membership {
    before: Option<i64>,
    after: Option<i64>,
}

/// The message under a (room, author, cmid).
enum Sent<'a> {
    Before(MessageRecord),
    Here { seq: u64, body: &'a str, at_ms: u64 },
}

struct Appended<'a> {
    room: i64,
    epoch: u64,
    seq: u64,
    author: &'a UserId,
    cmid: &'a Cmid,
    at_ms: u64,
    body: &'a str,
}

impl<'a> Plan<'a> {
    async fn load(connection: &mut SqliteConnection, batch: &'a [Write]) -> Result<Self, StoreError> {
        let mut plan = Self::default();
        plan.load_rooms(connection, batch).await?;
        plan.load_members(connection, batch).await?;
        plan.load_sent(connection, batch).await?;
        Ok(plan)
    }

    async fn load_rooms(&mut self, connection: &mut SqliteConnection, batch: &'a [Write]) -> Result<(), StoreError> {
        let mut ids: Vec<&'a str> = batch.iter().map(|write| room_of(write).as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let sql = "SELECT j.key AS at, r.key, r.id, r.title, r.epoch, r.head, r.first_available, r.members, r.created_ms \
                   FROM json_each(?) AS j CROSS JOIN rooms AS r ON r.id = j.value";
        for row in sqlx::query(sql).bind(json(&ids)).fetch_all(&mut *connection).await? {
            let room = Room { key: row.try_get("key")?, record: RoomRecord::from_row(&row)?, state: RoomState::Stored };
            self.rooms.insert(ids[position(&row)?], room);
        }
        if batch.iter().any(|write| matches!(write, Write::CreateRoom { .. })) {
            let sql = "SELECT coalesce(max(key), 0) FROM rooms";
            self.room_key_max = sqlx::query_scalar(sql).fetch_one(&mut *connection).await?;
        }
        Ok(())
    }

    async fn load_members(&mut self, connection: &mut SqliteConnection, batch: &'a [Write]) -> Result<(), StoreError> {
        let mut asked: Vec<(i64, &'a str)> = Vec::new();
        for write in batch {
            match write {
                Write::AddMember { room, user, .. } | Write::RemoveMember { room, user } => {
                    asked.extend(self.rooms.get(room.as_str()).map(|found| (found.key, user.as_str())));
                }
                Write::CreateRoom { .. } | Write::Append { .. } => {}
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let sql = "SELECT j.key AS at, m.joined_ms FROM json_each(?) AS j \
                   CROSS JOIN members AS m ON m.room = j.value ->> 0 AND m.user = j.value ->> 1";
        for row in sqlx::query(sql).bind(json(&asked)).fetch_all(connection).await? {
            let joined: Option<i64> = Some(row.try_get("joined_ms")?);
            self.members.insert(asked[position(&row)?], Membership { before: joined, after: joined });
        }
        Ok(())
    }

    async fn load_sent(&mut self, connection: &mut SqliteConnection, batch: &'a [Write]) -> Result<(), StoreError> {
        let mut asked: Vec<(i64, &'a str, &'a str)> = Vec::new();
        for write in batch {
            if let Write::Append { room, author, cmid, .. } = write
                && let Some(found) = self.rooms.get(room.as_str())
            {
                asked.push((found.key, author.as_str(), cmid.as_str()));
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let sql = "SELECT j.key AS at, r.id, m.epoch, m.seq, m.author, m.cmid, m.body, m.at_ms FROM json_each(?) AS j \
                   CROSS JOIN messages AS m \
                   ON m.room = j.value ->> 0 AND m.author = j.value ->> 1 AND m.cmid = j.value ->> 2 \
                   CROSS JOIN rooms AS r ON r.key = m.room";
        for row in sqlx::query(sql).bind(json(&asked)).fetch_all(connection).await? {
            self.sent.insert(asked[position(&row)?], Sent::Before(MessageRecord::from_row(&row)?));
        }
        Ok(())
    }

    fn apply(&mut self, write: &'a Write) -> Written {
        match write {
            Write::CreateRoom { room, title, creator, at_ms } => self.create_room(room, title, creator, *at_ms),
            Write::AddMember { room, user, at_ms } => {
                let Some(found) = self.rooms.get_mut(room.as_str()) else { return Written::NoSuchRoom };
                let membership = self.members.entry((found.key, user.as_str())).or_default();
                let new = membership.after.is_none();
                if new {
                    membership.after = Some(integer(*at_ms));
                    found.record.members += 1;
                    found.touch();
                }
                Written::MemberAdded { room: found.record.clone(), new }
            }
            Write::RemoveMember { room, user } => {
                let Some(found) = self.rooms.get_mut(room.as_str()) else { return Written::NoSuchRoom };
                let membership = self.members.entry((found.key, user.as_str())).or_default();
                let was_member = membership.after.take().is_some();
                if was_member {
                    found.record.members -= 1;
                    found.touch();
                }
                Written::MemberRemoved { was_member }
            }
            Write::Append { room, author, cmid, body, at_ms } => self.append(room, author, cmid, body, *at_ms),
        }
    }

    fn create_room(&mut self, room: &'a RoomId, title: &str, creator: &'a UserId, at_ms: u64) -> Written {
        if let Some(found) = self.rooms.get(room.as_str()) {
            return Written::RoomExists(found.record.clone());
        }
        self.room_key_max += 1;
        let key = self.room_key_max;
        let record = RoomRecord {
            id: room.clone(),
            title: title.to_owned(),
            epoch: at_ms.max(1),
            head: 0,
            first_available: 1,
            members: 1,
            created_ms: at_ms,
        };
        self.members.insert((key, creator.as_str()), Membership { before: None, after: Some(integer(at_ms)) });
        self.rooms.insert(room.as_str(), Room { key, record: record.clone(), state: RoomState::New });
        Written::RoomCreated(record)
    }

    fn append(&mut self, room: &'a RoomId, author: &'a UserId, cmid: &'a Cmid, body: &'a str, at_ms: u64) -> Written {
        let Some(found) = self.rooms.get_mut(room.as_str()) else { return Written::NoSuchRoom };
        let message = |seq, at_ms| MessageRecord {
            room: room.clone(),
            epoch: found.record.epoch,
            seq,
            author: author.clone(),
            cmid: cmid.clone(),
            body: body.to_owned(),
            at_ms,
        };
        let name = (found.key, author.as_str(), cmid.as_str());
        match self.sent.get(&name) {
            Some(Sent::Before(old)) if old.body == body => return Written::Duplicate(old.clone()),
            Some(Sent::Here { seq, body: old, at_ms }) if *old == body => {
                return Written::Duplicate(message(*seq, *at_ms));
            }
            Some(Sent::Before(_) | Sent::Here { .. }) => return Written::CmidConflict,
            None => {}
        }
        let seq = found.record.head + 1;
        let epoch = found.record.epoch;
        let appended = message(seq, at_ms);
        self.sent.insert(name, Sent::Here { seq, body, at_ms });
        self.appended.push(Appended { room: found.key, epoch, seq, author, cmid, at_ms, body });
        found.record.head = seq;
        found.touch();
        Written::Appended(appended)
    }

    async fn flush(self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        self.flush_new_rooms(connection).await?;
        self.flush_members(connection).await?;
        insert_messages(connection, &self.appended).await?;
        self.flush_changed_rooms(connection).await
    }

    async fn flush_new_rooms(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let sql = "INSERT INTO rooms (key, id, title, epoch, head, first_available, members, created_ms) \
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        for room in self.rooms.values().filter(|room| room.state == RoomState::New) {
            let record = &room.record;
            sqlx::query(sql)
                .bind(room.key)
                .bind(record.id.as_str())
                .bind(record.title.as_str())
                .bind(integer(record.epoch))
                .bind(integer(record.head))
                .bind(integer(record.first_available))
                .bind(record.members)
                .bind(integer(record.created_ms))
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }

    async fn flush_changed_rooms(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let changed = self.rooms.values().filter(|room| room.state == RoomState::Changed);
        let changed: Vec<_> = changed.map(|room| (room.key, room.record.head, room.record.members)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let sql = "UPDATE rooms SET head = j.value ->> 1, members = j.value ->> 2 \
                   FROM json_each(?) AS j WHERE rooms.key = j.value ->> 0";
        sqlx::query(sql).bind(json(&changed)).execute(connection).await?;
        Ok(())
    }

    async fn flush_members(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let mut joined = Vec::new();
        let mut left = Vec::new();
        for (&(room, user), membership) in &self.members {
            match membership.after {
                Some(at_ms) if membership.before != Some(at_ms) => joined.push((room, user, at_ms)),
                None if membership.before.is_some() => left.push((room, user)),
                Some(_) | None => {}
            }
        }
        if !joined.is_empty() {
            // `WHERE true` tells the parser that ON CONFLICT does not belong to a join.
            let sql = "INSERT INTO members (room, user, joined_ms) \
                       SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2 FROM json_each(?) AS j WHERE true \
                       ON CONFLICT (room, user) DO UPDATE SET joined_ms = excluded.joined_ms";
            sqlx::query(sql).bind(json(&joined)).execute(&mut *connection).await?;
        }
        if !left.is_empty() {
            let sql = "DELETE FROM members WHERE (room, user) IN (SELECT j.value ->> 0, j.value ->> 1 FROM json_each(?) AS j)";
            sqlx::query(sql).bind(json(&left)).execute(&mut *connection).await?;
        }
        Ok(())
    }
}

impl Room {
    fn touch(&mut self) {
        if self.state == RoomState::Stored {
            self.state = RoomState::Changed;
        }
    }
}

/// Rows of one INSERT, largest first. A few fixed sizes keep their prepared statements; any number of messages is made of them.
const INSERT_ROWS: [usize; 5] = [256, 64, 16, 4, 1];

static INSERTS: LazyLock<[String; 5]> = LazyLock::new(|| INSERT_ROWS.map(insert_sql));

fn insert_sql(rows: usize) -> String {
    let mut sql = "INSERT INTO messages (room, epoch, seq, author, cmid, at_ms, body) VALUES".to_owned();
    for row in 0..rows {
        let comma = if row == 0 { "" } else { "," };
        write!(sql, "{comma} (?, ?, ?, ?, ?, ?, ?)").expect("writing to a String does not fail");
    }
    sql
}

async fn insert_messages(connection: &mut SqliteConnection, mut messages: &[Appended<'_>]) -> Result<(), StoreError> {
    for (rows, sql) in INSERT_ROWS.into_iter().zip(LazyLock::force(&INSERTS)) {
        while let Some((now, rest)) = messages.split_at_checked(rows) {
            let mut query = sqlx::query(sql.as_str());
            for message in now {
                query = query
                    .bind(message.room)
                    .bind(integer(message.epoch))
                    .bind(integer(message.seq))
                    .bind(message.author.as_str())
                    .bind(message.cmid.as_str())
                    .bind(integer(message.at_ms))
                    .bind(message.body);
            }
            query.execute(&mut *connection).await?;
            messages = rest;
        }
    }
    Ok(())
}

fn room_of(write: &Write) -> &RoomId {
    match write {
        Write::CreateRoom { room, .. }
        | Write::AddMember { room, .. }
        | Write::RemoveMember { room, .. }
        | Write::Append { room, .. } => room,
    }
}

/// Ids hold no control characters, so they pass through SQLite's JSON unharmed; bodies and titles are bound instead.
fn json(rows: &impl serde::Serialize) -> String {
    serde_json::to_string(rows).expect("numbers and strings are JSON")
}

/// Which element of the `json_each` a row answers.
fn position(row: &sqlx::sqlite::SqliteRow) -> Result<usize, StoreError> {
    Ok(natural(row, "at").map(|at| usize::try_from(at).expect("a batch fits in memory"))?)
}
