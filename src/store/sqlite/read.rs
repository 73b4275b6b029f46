use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{FromRow, Row};
use veza_proto::{Cmid, RoomId, UserId};

use super::super::{Anchor, MessageRecord, RoomRecord, StoreError};

const ROOM: &str = "SELECT id, title, epoch, head, first_available, members, created_ms FROM rooms WHERE id = ?";
const ROOMS: &str = "SELECT id, title, epoch, head, first_available, members, created_ms \
    FROM rooms WHERE id > ? ORDER BY id LIMIT ?";
const ROOMS_OF_MEMBER: &str = "SELECT r.id, r.title, r.epoch, r.head, r.first_available, r.members, r.created_ms \
    FROM members AS m CROSS JOIN rooms AS r ON r.key = m.room WHERE m.user = ? AND r.id > ? ORDER BY r.id LIMIT ?";
const IS_MEMBER: &str =
    "SELECT EXISTS (SELECT 1 FROM members WHERE room = (SELECT key FROM rooms WHERE id = ?) AND user = ?)";
const MESSAGES_AFTER: &str = "SELECT ?1 AS id, epoch, seq, author, cmid, body, at_ms FROM messages \
    WHERE room = (SELECT key FROM rooms WHERE id = ?1) AND epoch = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4";
const MESSAGES_BEFORE: &str = "SELECT ?1 AS id, epoch, seq, author, cmid, body, at_ms FROM messages \
    WHERE room = (SELECT key FROM rooms WHERE id = ?1) AND epoch = ?2 AND seq < ?3 ORDER BY seq DESC LIMIT ?4";
pub(super) const ROOM_KEY_MAX: &str = "SELECT coalesce(max(key), 0) FROM rooms";

#[cfg(test)]
pub(super) const ALL: [&str; 7] =
    [ROOM, ROOMS, ROOMS_OF_MEMBER, IS_MEMBER, MESSAGES_AFTER, MESSAGES_BEFORE, ROOM_KEY_MAX];

pub(super) async fn room(readers: &SqlitePool, room: &RoomId) -> Result<Option<RoomRecord>, StoreError> {
    Ok(sqlx::query_as(ROOM).bind(room.as_str()).fetch_optional(readers).await?)
}

pub(super) async fn rooms(
    readers: &SqlitePool,
    member: Option<&UserId>,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<RoomRecord>, StoreError> {
    // No id is empty, so every room comes after the empty string.
    let after = after.unwrap_or_default();
    let query = match member {
        None => sqlx::query_as(ROOMS),
        Some(member) => sqlx::query_as(ROOMS_OF_MEMBER).bind(member.as_str()),
    };
    Ok(query.bind(after).bind(limit).fetch_all(readers).await?)
}

pub(super) async fn is_member(readers: &SqlitePool, room: &RoomId, user: &UserId) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar(IS_MEMBER).bind(room.as_str()).bind(user.as_str()).fetch_one(readers).await?)
}

pub(super) async fn messages(
    readers: &SqlitePool,
    room: &RoomId,
    epoch: u64,
    anchor: Anchor,
    limit: u32,
) -> Result<Vec<MessageRecord>, StoreError> {
    let (sql, seq) = match anchor {
        Anchor::After(seq) => (MESSAGES_AFTER, seq),
        Anchor::Before(seq) => (MESSAGES_BEFORE, seq),
    };
    let query = sqlx::query_as(sql).bind(room.as_str()).bind(integer(epoch)).bind(integer(seq)).bind(limit);
    let mut page: Vec<MessageRecord> = query.fetch_all(readers).await?;
    if matches!(anchor, Anchor::Before(_)) {
        page.reverse();
    }
    Ok(page)
}

pub(super) async fn check(readers: &SqlitePool) -> Result<String, StoreError> {
    let rooms: i64 = sqlx::query_scalar(ROOM_KEY_MAX).fetch_one(readers).await?;
    Ok(format!("SQLite, WAL, synchronous=FULL, {rooms} rooms"))
}

impl FromRow<'_, SqliteRow> for RoomRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: RoomId::parse(row.try_get("id")?).map_err(damaged)?,
            title: row.try_get("title")?,
            epoch: natural(row, "epoch")?,
            head: natural(row, "head")?,
            first_available: natural(row, "first_available")?,
            members: row.try_get("members")?,
            created_ms: natural(row, "created_ms")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for MessageRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            room: RoomId::parse(row.try_get("id")?).map_err(damaged)?,
            epoch: natural(row, "epoch")?,
            seq: natural(row, "seq")?,
            author: UserId::parse(row.try_get("author")?).map_err(damaged)?,
            cmid: Cmid::parse(row.try_get("cmid")?).map_err(damaged)?,
            body: row.try_get("body")?,
            at_ms: natural(row, "at_ms")?,
        })
    }
}

/// SQLite counts to 2⁶³ − 1; what lies beyond is as far away.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn natural(row: &SqliteRow, column: &'static str) -> sqlx::Result<u64> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(damaged)
}

pub(super) fn damaged(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}
