//! The server's database as somebody reads it who does not use the server.

use std::path::PathBuf;

use prost::Message as _;
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use veza_client::proto::v1::{Edit, Message, Tombstone, message};

use crate::Failure;

/// Where a server keeps its rooms.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    Sqlite(PathBuf),
    Postgres(String),
}

/// A room's row.
pub(crate) struct Room {
    pub(crate) epoch: u64,
    pub(crate) head: u64,
    pub(crate) first_available: u64,
}

/// `seq, author, cmid, body, detail, edits, deleted_by`
type Row = (i64, String, Option<String>, String, Vec<u8>, i64, Option<String>);

const ROOM: &str = "SELECT CAST(epoch AS BIGINT), CAST(head AS BIGINT), CAST(first_available AS BIGINT) \
                    FROM rooms WHERE id = $1";
const ENTRIES: &str = "SELECT e.seq, e.author, e.cmid, e.body, e.detail, CAST(e.edits AS BIGINT), e.deleted_by \
                       FROM entries AS e JOIN rooms AS r ON r.key = e.room WHERE r.id = $1 ORDER BY e.seq";

impl Database {
    /// A room and all its entries, in order.
    pub(crate) async fn room(&self, room: &str) -> Result<(Room, Vec<Message>), Failure> {
        let (found, rows) = self
            .read(room)
            .await
            .map_err(|error| Failure::setup(format!("the database cannot be read for {room}: {error}")))?;
        let natural = |number: i64| u64::try_from(number).unwrap_or_default();
        let (epoch, head, first_available) = found;
        let found = Room { epoch: natural(epoch), head: natural(head), first_available: natural(first_available) };
        let entries = rows.into_iter().map(|row| entry(room, found.epoch, row)).collect::<Result<_, _>>()?;
        Ok((found, entries))
    }

    async fn read(&self, room: &str) -> Result<((i64, i64, i64), Vec<Row>), sqlx::Error> {
        match self {
            Database::Sqlite(path) => {
                let mut connection = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await?;
                let found = sqlx::query_as(ROOM).bind(room).fetch_one(&mut connection).await?;
                Ok((found, sqlx::query_as(ENTRIES).bind(room).fetch_all(&mut connection).await?))
            }
            Database::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await?;
                let found = sqlx::query_as(ROOM).bind(room).fetch_one(&mut connection).await?;
                Ok((found, sqlx::query_as(ENTRIES).bind(room).fetch_all(&mut connection).await?))
            }
        }
    }
}

/// What the server would say of this row.
fn entry(room: &str, epoch: u64, row: Row) -> Result<Message, Failure> {
    let (seq, author, cmid, body, detail, edits, deleted_by) = row;
    let damaged = |what: &str| Failure::setup(format!("#{seq} of {room} has {what} in the database"));
    let mut entry = Message::decode(detail.as_slice()).map_err(|_| damaged("an unreadable detail"))?;
    entry.epoch = epoch;
    entry.seq = u64::try_from(seq).map_err(|_| damaged("no number"))?;
    entry.author = author;
    entry.cmid = cmid.unwrap_or_default();
    entry.edits = u32::try_from(edits).map_err(|_| damaged("no count of edits"))?;
    entry.deleted = deleted_by.map(|by| Tombstone { by, at_ms: 0 });
    match &mut entry.change {
        None => entry.body = body,
        Some(message::Change::Edit(edit)) => *edit = Edit { body, ..std::mem::take(edit) },
        Some(_) => {}
    }
    Ok(entry)
}
