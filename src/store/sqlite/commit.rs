use std::fmt::Write as _;
use std::sync::LazyLock;

use sqlx::{FromRow, Row, SqliteConnection};
use veza_proto::RoomId;

use super::super::{MessageRecord, RoomRecord, StoreError, Write, Written};
use super::plan::{Appended, Membership, Plan, Room, RoomState, Sent};
use super::read::{ROOM_KEY_MAX, integer, natural};

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

// One statement each for a whole batch: `json_each` turns the batch's ids into rows, and CROSS JOIN keeps them the outer
// loop, so that every step is a look-up in an index.
const ROOMS_OF: &str = "SELECT j.key AS at, r.key, r.id, r.title, r.epoch, r.head, r.first_available, r.members, r.created_ms \
    FROM json_each(?) AS j CROSS JOIN rooms AS r ON r.id = j.value";
const MEMBERS_OF: &str = "SELECT j.key AS at, m.joined_ms FROM json_each(?) AS j \
    CROSS JOIN members AS m ON m.room = j.value ->> 0 AND m.user = j.value ->> 1";
const SENT_BEFORE: &str = "SELECT j.key AS at, r.id, m.epoch, m.seq, m.author, m.cmid, m.body, m.at_ms FROM json_each(?) AS j \
    CROSS JOIN messages AS m \
    ON m.room = j.value ->> 0 AND m.author = j.value ->> 1 AND m.cmid = j.value ->> 2 \
    CROSS JOIN rooms AS r ON r.key = m.room";
// `WHERE true` tells the parser that ON CONFLICT does not belong to a join.
const INSERT_MEMBERS: &str = "INSERT INTO members (room, user, joined_ms) \
    SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2 FROM json_each(?) AS j WHERE true \
    ON CONFLICT (room, user) DO UPDATE SET joined_ms = excluded.joined_ms";
const DELETE_MEMBERS: &str = "DELETE FROM members \
    WHERE (room, user) IN (SELECT j.value ->> 0, j.value ->> 1 FROM json_each(?) AS j)";
const UPDATE_ROOMS: &str = "UPDATE rooms SET head = j.value ->> 1, members = j.value ->> 2 \
    FROM json_each(?) AS j WHERE rooms.key = j.value ->> 0";

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
        for row in sqlx::query(ROOMS_OF).bind(json(&ids)).fetch_all(&mut *connection).await? {
            let room = Room { key: row.try_get("key")?, record: RoomRecord::from_row(&row)?, state: RoomState::Stored };
            self.rooms.insert(ids[position(&row)?], room);
        }
        if batch.iter().any(|write| matches!(write, Write::CreateRoom { .. })) {
            self.room_key_max = sqlx::query_scalar(ROOM_KEY_MAX).fetch_one(&mut *connection).await?;
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
        for row in sqlx::query(MEMBERS_OF).bind(json(&asked)).fetch_all(connection).await? {
            let joined = Some(natural(&row, "joined_ms")?);
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
        for row in sqlx::query(SENT_BEFORE).bind(json(&asked)).fetch_all(connection).await? {
            self.sent.insert(asked[position(&row)?], Sent::Before(MessageRecord::from_row(&row)?));
        }
        Ok(())
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
        sqlx::query(UPDATE_ROOMS).bind(json(&changed)).execute(connection).await?;
        Ok(())
    }

    async fn flush_members(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let mut joined = Vec::new();
        let mut left = Vec::new();
        for (&(room, user), membership) in &self.members {
            match membership.after {
                Some(at_ms) if membership.before != Some(at_ms) => joined.push((room, user, integer(at_ms))),
                None if membership.before.is_some() => left.push((room, user)),
                Some(_) | None => {}
            }
        }
        if !joined.is_empty() {
            sqlx::query(INSERT_MEMBERS).bind(json(&joined)).execute(&mut *connection).await?;
        }
        if !left.is_empty() {
            sqlx::query(DELETE_MEMBERS).bind(json(&left)).execute(&mut *connection).await?;
        }
        Ok(())
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

#[cfg(test)]
pub(super) const OF_A_BATCH: [&str; 6] =
    [ROOMS_OF, MEMBERS_OF, SENT_BEFORE, INSERT_MEMBERS, DELETE_MEMBERS, UPDATE_ROOMS];
