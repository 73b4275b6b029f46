//! Reads, each in a statement or two that both databases understand. A room's key is found by a subquery, so that a planner
//! knows it is one and takes rows in the order of an index.

use std::collections::{BTreeMap, HashMap};

use veza_engine::ledger::{AuditRow, EntryRow, InviteKey, InviteRow, MemberRow, RevisionRow, RoomRow};
use veza_proto::v1::Reaction;
use veza_proto::{RoomId, UserId};

use super::row::{self, Row, entry_columns, invite_columns, member_columns, room_columns};
use super::table::Rows as Keys;
use super::{Database, Part, find};
use crate::store::analysis::Query;
use crate::store::{
    Anchor, Entry, Invites, Members, Rooms, Scope, Search, StoreError, Unread, UnreadRow, View, overdue_up_to,
};

/// The key of the room `$1`.
macro_rules! the_room {
    () => {
        "(SELECT k.key FROM rooms AS k WHERE k.id = $1)"
    };
}

/// The key of the room `$1`, if its epoch is `$2`.
macro_rules! the_log {
    () => {
        "(SELECT k.key FROM rooms AS k WHERE k.id = $1 AND k.epoch = $2)"
    };
}

macro_rules! entries {
    ($where:literal) => {
        concat!(
            "SELECT e.room AS room_key, ",
            entry_columns!(),
            " FROM entries AS e WHERE e.room = ",
            the_log!(),
            $where
        )
    };
}

macro_rules! members {
    ($where:literal) => {
        concat!(
            "SELECT ",
            member_columns!(),
            " FROM members AS m WHERE m.room = ",
            the_room!(),
            " AND m.member > $2",
            $where,
            " ORDER BY m.member LIMIT $3"
        )
    };
}

macro_rules! invites {
    ($where:literal) => {
        concat!(
            "SELECT ",
            invite_columns!(),
            ", r.title AS title FROM invites AS i CROSS JOIN rooms AS r WHERE ",
            $where,
            " AND r.id = i.room AND i.expires_ms > $2 AND (i.uses_max = 0 OR i.uses < i.uses_max) \
              ORDER BY i.created_ms DESC, i.name LIMIT $3"
        )
    };
}

macro_rules! unread {
    ($where:literal) => {
        concat!(
            "SELECT ", room_columns!(), ", ", member_columns!(), ", (SELECT count(*) FROM (SELECT DISTINCT x.seq \
                FROM mentions AS x WHERE x.member IN ($1, '*') AND x.room = r.key AND x.seq > m.read_seq LIMIT 1000) AS c) \
                AS mentions \
              FROM members AS m CROSS JOIN rooms AS r WHERE m.member = $1 AND m.role > 0 AND r.key = m.room AND ", $where,
            " ORDER BY r.id LIMIT $3"
        )
    };
}

const _: () = assert!(veza_proto::limits::MENTIONS_COUNTED_MAX == 1000, "as it stands in the statement");

const ROOM: &str = concat!("SELECT ", room_columns!(), " FROM rooms AS r WHERE r.id = $1");
const ROOM_KEY: &str = concat!("SELECT ", the_room!(), " AS room_key");
const MEMBERSHIP: &str = concat!(
    "SELECT ",
    room_columns!(),
    ", ",
    member_columns!(),
    " FROM rooms AS r \
     LEFT JOIN members AS m ON m.room = r.key AND m.member = $2 WHERE r.id = $1"
);
const ROOMS_MINE: &str = concat!(
    "SELECT ",
    room_columns!(),
    ", ",
    member_columns!(),
    " FROM members AS m CROSS JOIN rooms AS r \
     WHERE m.member = $1 AND m.role > 0 AND r.key = m.room AND r.id > $2 ORDER BY r.id LIMIT $3"
);
const ROOMS_LISTED: &str = concat!(
    "SELECT ",
    room_columns!(),
    ", ",
    member_columns!(),
    " FROM rooms AS r \
     LEFT JOIN members AS m ON m.room = r.key AND m.member = $1 WHERE r.listed = 1 AND r.id > $2 ORDER BY r.id LIMIT $3"
);
const ROOMS_ALL: &str = concat!(
    "SELECT ",
    room_columns!(),
    ", ",
    member_columns!(),
    " FROM rooms AS r \
     LEFT JOIN members AS m ON m.room = r.key AND m.member = $1 WHERE r.id > $2 ORDER BY r.id LIMIT $3"
);
const ENTRIES_AFTER: &str = entries!(" AND e.seq > $3 ORDER BY e.seq LIMIT $4");
const ENTRIES_BEFORE: &str = entries!(" AND e.seq < $3 ORDER BY e.seq DESC LIMIT $4");
const TIMELINE_AFTER: &str = entries!(" AND e.place = 0 AND e.seq > $3 ORDER BY e.seq LIMIT $4");
const TIMELINE_BEFORE: &str = entries!(" AND e.place = 0 AND e.seq < $3 ORDER BY e.seq DESC LIMIT $4");
const REPLIES_AFTER: &str = entries!(" AND e.place = $5 AND e.seq > $3 ORDER BY e.seq LIMIT $4");
const REPLIES_BEFORE: &str = entries!(" AND e.place = $5 AND e.seq < $3 ORDER BY e.seq DESC LIMIT $4");
const THREAD_ROOT: &str = entries!(" AND e.seq = $3 AND e.kind = 0");
const MEMBERS: &str = members!(" AND m.role > 0");
const STAFF: &str = members!(" AND m.role >= 3");
const MUTED: &str = members!(" AND m.role > 0 AND m.muted_until_ms > $4");
const BANNED: &str = members!(" AND m.banned_until_ms > $4");
const INVITES_OF: &str = invites!("i.room = $1");
const INVITES_FOR: &str = invites!("i.invited = $1");
const REVISIONS: &str = concat!(
    "SELECT t.body, t.at_ms FROM revisions AS t WHERE t.room = ",
    the_log!(),
    " AND t.seq = $3 ORDER BY t.revision"
);
const REACTORS: &str = concat!(
    "SELECT t.member FROM reactions AS t WHERE t.room = ",
    the_log!(),
    " AND t.seq = $3 AND t.emoji = $4 ORDER BY t.member LIMIT $5"
);
const REACTORS_TOTAL: &str =
    concat!("SELECT t.count FROM totals AS t WHERE t.room = ", the_log!(), " AND t.seq = $3 AND t.emoji = $4");
const PINS: &str = concat!(
    "SELECT e.room AS room_key, ",
    entry_columns!(),
    ", (SELECT k.epoch FROM rooms AS k WHERE k.id = $1) AS epoch \
     FROM pins AS p CROSS JOIN entries AS e WHERE p.room = ",
    the_room!(),
    " AND e.room = p.room AND e.seq = p.seq \
     ORDER BY p.entry DESC"
);
const AUDIT: &str = concat!(
    "SELECT a.number, a.at_ms, a.actor, a.action, a.whom, a.seq, a.reason, a.detail FROM audit AS a WHERE a.room = ",
    the_room!(),
    " AND a.number < $2 ORDER BY a.number DESC LIMIT $3"
);
const UNREAD_AFTER: &str = unread!("r.id > $2");
const UNREAD_IN: &str = unread!("r.id = $2");
/// The rooms that a search of all goes through, the ones with the latest messages first.
const ROOMS_SEARCHED: &str = "SELECT r.key AS room_key, r.id AS room, r.epoch, r.last_message_ms \
    FROM members AS m CROSS JOIN rooms AS r WHERE m.member = $1 AND m.role > 0 AND r.key = m.room \
    ORDER BY r.last_message_ms DESC";
const OVERDUE: &str = concat!(
    "SELECT ",
    room_columns!(),
    ", (SELECT e.seq FROM entries AS e WHERE e.room = r.key AND e.seq >= r.first_available \
        AND e.seq < r.first_available + $2 AND e.at_ms >= $1 - r.retention_seconds * 1000 ORDER BY e.seq LIMIT 1) AS fresh \
     FROM rooms AS r WHERE r.limited = 1 AND (\
        (r.retention_entries > 0 AND r.head - r.first_available + 1 > r.retention_entries) OR \
        (r.retention_seconds > 0 AND (SELECT f.at_ms FROM entries AS f WHERE f.room = r.key AND f.seq = r.first_available) \
            < $1 - r.retention_seconds * 1000)) \
     ORDER BY r.id LIMIT $3"
);

#[cfg(test)]
pub(in crate::store) const ALL: [&str; 28] = [
    ROOM,
    ROOM_KEY,
    MEMBERSHIP,
    ROOMS_MINE,
    ROOMS_LISTED,
    ROOMS_ALL,
    ENTRIES_AFTER,
    ENTRIES_BEFORE,
    TIMELINE_AFTER,
    TIMELINE_BEFORE,
    REPLIES_AFTER,
    REPLIES_BEFORE,
    THREAD_ROOT,
    MEMBERS,
    STAFF,
    MUTED,
    BANNED,
    INVITES_OF,
    INVITES_FOR,
    REVISIONS,
    REACTORS,
    REACTORS_TOTAL,
    PINS,
    AUDIT,
    UNREAD_AFTER,
    UNREAD_IN,
    ROOMS_SEARCHED,
    OVERDUE,
];

type Result<T> = std::result::Result<T, StoreError>;

pub(super) async fn room(database: &impl Database, room: &RoomId) -> Result<Option<RoomRow>> {
    database.fetch(ROOM, &[room.as_str().into()]).await?.first().map(row::room).transpose()
}

pub(super) async fn membership(
    database: &impl Database,
    room: &RoomId,
    user: &UserId,
) -> Result<Option<(RoomRow, Option<MemberRow>)>> {
    let found = database.fetch(MEMBERSHIP, &[room.as_str().into(), user.as_str().into()]).await?;
    found.first().map(room_and_member).transpose()
}

pub(super) async fn rooms(
    database: &impl Database,
    viewer: &UserId,
    which: Rooms,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<(RoomRow, Option<MemberRow>)>> {
    // No id is empty, so every room comes after the empty string.
    let values = [viewer.as_str().into(), after.unwrap_or_default().into(), limit.into()];
    let mut rooms = BTreeMap::new();
    let statements: &[&'static str] = match which {
        Rooms::Mine => &[ROOMS_MINE],
        Rooms::Visible => &[ROOMS_MINE, ROOMS_LISTED],
        Rooms::All => &[ROOMS_ALL],
    };
    for sql in statements {
        for row in database.fetch(sql, &values).await? {
            let (room, member) = room_and_member(&row)?;
            rooms.insert(room.id.clone(), (room, member));
        }
    }
    Ok(rooms.into_values().take(limit as usize).collect())
}

fn room_and_member(row: &impl Row) -> Result<(RoomRow, Option<MemberRow>)> {
    Ok((row::room(row)?, row::member_or_null(row)?))
}

pub(super) async fn entries(
    database: &impl Database,
    room: &RoomId,
    epoch: u64,
    view: View,
    anchor: Anchor,
    limit: u32,
    viewer: Option<&UserId>,
) -> Result<Vec<Entry>> {
    let (after, before, seq) = match (view, anchor) {
        (_, Anchor::After(seq)) => (true, false, seq),
        (_, Anchor::Before(seq)) => (false, true, seq),
    };
    let mut values = vec![room.as_str().into(), epoch.into(), seq.into(), limit.into()];
    let sql = match view {
        View::Everything => {
            if after {
                ENTRIES_AFTER
            } else {
                ENTRIES_BEFORE
            }
        }
        View::Timeline => {
            if after {
                TIMELINE_AFTER
            } else {
                TIMELINE_BEFORE
            }
        }
        View::Thread(root) => {
            values.push(root.into());
            if after { REPLIES_AFTER } else { REPLIES_BEFORE }
        }
    };
    let mut found = database.fetch(sql, &values).await?;
    if before {
        found.reverse();
    }
    if let View::Thread(root) = view {
        // The first message stands before its replies.
        let room_for_it = if after { root > seq } else { root < seq && found.len() < limit as usize };
        if room_for_it {
            let mut with_root = database.fetch(THREAD_ROOT, &[room.as_str().into(), epoch.into(), root.into()]).await?;
            with_root.append(&mut found);
            with_root.truncate(limit as usize);
            found = with_root;
        }
    }
    let found = found.iter().map(|row| Ok((row.integer("room_key")?, row::entry(row, room, epoch)?)));
    with_reactions(database, found.collect::<Result<_>>()?, viewer).await
}

/// Adds the reactions that stand on the entries.
async fn with_reactions(
    database: &impl Database,
    found: Vec<(i64, EntryRow)>,
    viewer: Option<&UserId>,
) -> Result<Vec<Entry>> {
    let mut reactions: HashMap<(i64, u64), Vec<Reaction>> = HashMap::new();
    let mut keys = Keys::new(2);
    found.iter().filter(|(_, entry)| entry.reacted > 0).for_each(|(room, entry)| {
        keys.push([(*room).into(), entry.seq.into()]);
    });
    if !keys.is_empty() {
        let mut own = Keys::new(4);
        for row in database.find(&find::TOTALS, keys).await? {
            let (room, seq, emoji) = (row.integer("room_key")?, row.natural("seq")?, row.text("emoji")?);
            if let Some(viewer) = viewer {
                own.push([room.into(), seq.into(), emoji.clone().into(), viewer.as_str().into()]);
            }
            let reaction = Reaction { emoji, count: row.small("count")?, mine: false };
            reactions.entry((room, seq)).or_default().push(reaction);
        }
        if !own.is_empty() {
            for row in database.find(&find::REACTIONS, own).await? {
                let (at, emoji) = ((row.integer("room_key")?, row.natural("seq")?), row.text("emoji")?);
                let on = reactions.get_mut(&at).into_iter().flatten();
                on.filter(|reaction| reaction.emoji == emoji).for_each(|reaction| reaction.mine = true);
            }
        }
    }
    let entry = |(room, row): (i64, EntryRow)| {
        let mut reactions = reactions.remove(&(room, row.seq)).unwrap_or_default();
        reactions.sort_by(|one, other| one.emoji.cmp(&other.emoji));
        Entry { row, reactions }
    };
    Ok(found.into_iter().map(entry).collect())
}

pub(super) async fn members(
    database: &impl Database,
    room: &RoomId,
    which: Members,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<(UserId, MemberRow)>> {
    let mut values = vec![room.as_str().into(), after.unwrap_or_default().into(), limit.into()];
    let sql = match which {
        Members::All => MEMBERS,
        Members::Staff => STAFF,
        Members::Muted { now_ms } => {
            values.push(now_ms.into());
            MUTED
        }
        Members::Banned { now_ms } => {
            values.push(now_ms.into());
            BANNED
        }
    };
    database.fetch(sql, &values).await?.iter().map(named_member).collect()
}

pub(super) async fn members_of(
    database: &impl Database,
    room: &RoomId,
    users: &[UserId],
) -> Result<Vec<(UserId, MemberRow)>> {
    let key = database.fetch(ROOM_KEY, &[room.as_str().into()]).await?;
    let key = key.first().map(|row| row.integer("room_key")).transpose()?.unwrap_or_default();
    let mut keys = Keys::new(2);
    users.iter().for_each(|user| keys.push([key.into(), user.as_str().into()]));
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let found = database.find(&find::MEMBERS, keys).await?;
    // Who was asked for twice is told once.
    let members: BTreeMap<UserId, MemberRow> = found.iter().map(named_member).collect::<Result<_>>()?;
    Ok(members.into_iter().collect())
}

fn named_member(row: &impl Row) -> Result<(UserId, MemberRow)> {
    Ok((row.user("member")?, row::member(row)?))
}

pub(super) async fn invites(
    database: &impl Database,
    which: Invites<'_>,
    now_ms: u64,
    limit: u32,
) -> Result<Vec<(InviteKey, InviteRow, String)>> {
    let (sql, of) = match which {
        Invites::Of(room) => (INVITES_OF, room.as_str()),
        Invites::For(user) => (INVITES_FOR, user.as_str()),
    };
    let found = database.fetch(sql, &[of.into(), now_ms.into(), limit.into()]).await?;
    let mut invites = Vec::with_capacity(found.len());
    for row in &found {
        let (key, invite) = row::invite(row)?;
        invites.push((key, invite, row.text("title")?));
    }
    Ok(invites)
}

pub(super) async fn revisions(
    database: &impl Database,
    room: &RoomId,
    epoch: u64,
    seq: u64,
) -> Result<Vec<RevisionRow>> {
    let found = database.fetch(REVISIONS, &[room.as_str().into(), epoch.into(), seq.into()]).await?;
    found.iter().map(row::revision).collect()
}

pub(super) async fn reactors(
    database: &impl Database,
    room: &RoomId,
    epoch: u64,
    seq: u64,
    emoji: &str,
    limit: u32,
) -> Result<(Vec<UserId>, u32)> {
    let values = [room.as_str().into(), epoch.into(), seq.into(), emoji.into(), limit.into()];
    let users = database.fetch(REACTORS, &values).await?.iter().map(|row| row.user("member")).collect::<Result<_>>()?;
    let total = database.fetch(REACTORS_TOTAL, &values[..4]).await?;
    Ok((users, total.first().map(|row| row.small("count")).transpose()?.unwrap_or(0)))
}

pub(super) async fn pins(database: &impl Database, room: &RoomId, viewer: &UserId) -> Result<Vec<Entry>> {
    let found = database.fetch(PINS, &[room.as_str().into()]).await?;
    let found = found.iter().map(|row| Ok((row.integer("room_key")?, row::entry(row, room, row.natural("epoch")?)?)));
    with_reactions(database, found.collect::<Result<_>>()?, Some(viewer)).await
}

pub(super) async fn audit(
    database: &impl Database,
    room: &RoomId,
    before: u64,
    limit: u32,
) -> Result<Vec<(u64, AuditRow)>> {
    let found = database.fetch(AUDIT, &[room.as_str().into(), before.into(), limit.into()]).await?;
    found.iter().map(row::audit).collect()
}

pub(super) async fn unread(
    database: &impl Database,
    user: &UserId,
    which: Unread<'_>,
    limit: u32,
) -> Result<Vec<UnreadRow>> {
    let (sql, room) = match which {
        Unread::After(after) => (UNREAD_AFTER, after.unwrap_or_default()),
        Unread::In(room) => (UNREAD_IN, room.as_str()),
    };
    let found = database.fetch(sql, &[user.as_str().into(), room.into(), limit.into()]).await?;
    let mut unread = Vec::with_capacity(found.len());
    for row in &found {
        unread.push(UnreadRow::of(&row::room(row)?, &row::member(row)?, row.small("mentions")?));
    }
    Ok(unread)
}

pub(super) async fn search(database: &impl Database, search: &Search, limit: u32) -> Result<Vec<Entry>> {
    let author = search.author.as_ref().map(UserId::as_str);
    let Some(query) = Query::parse(&search.query, author) else { return Ok(Vec::new()) };
    match &search.scope {
        Scope::Room { room, before, viewer } => {
            let found = database.fetch(ROOM, &[room.as_str().into()]).await?;
            let Some(row) = found.first() else { return Ok(Vec::new()) };
            let key = row.integer("room_key")?;
            let epoch = row.natural("epoch")?;
            let part = Part { room: key, before: *before, at_ms_max: u64::MAX };
            let hits = database.matching(&query, part, limit).await?;
            let hits = hits.iter().map(|row| Ok((key, row::entry(row, room, epoch)?)));
            with_reactions(database, hits.collect::<Result<_>>()?, Some(viewer)).await
        }
        Scope::Mine { member, before } => search_mine(database, &query, member, before.as_ref(), limit).await,
    }
}

/// Room after room, the latest first, until no room can have anything newer than what was found.
async fn search_mine(
    database: &impl Database,
    query: &Query,
    member: &UserId,
    before: Option<&(u64, RoomId, u64)>,
    limit: u32,
) -> Result<Vec<Entry>> {
    let mut hits: Vec<(i64, EntryRow)> = Vec::new();
    for row in database.fetch(ROOMS_SEARCHED, &[member.as_str().into()]).await? {
        let (room, key, epoch) = (row.room_id("room")?, row.integer("room_key")?, row.natural("epoch")?);
        let full = hits.len() >= limit as usize;
        if full && hits.last().is_none_or(|(_, oldest)| oldest.at_ms > row.natural("last_message_ms").unwrap_or(0)) {
            break;
        }
        let Some(part) = part_before(key, &room, before) else { continue };
        for hit in database.matching(query, part, limit).await? {
            hits.push((key, row::entry(&hit, &room, epoch)?));
        }
        hits.sort_by(|(_, one), (_, other)| {
            (other.at_ms, &other.room, other.seq).cmp(&(one.at_ms, &one.room, one.seq))
        });
        hits.truncate(limit as usize);
    }
    with_reactions(database, hits, Some(member)).await
}

/// What of a room comes before a place in the order (time, room, sequence number). In one room times never fall.
fn part_before(key: i64, room: &RoomId, before: Option<&(u64, RoomId, u64)>) -> Option<Part> {
    let everything = Part { room: key, before: u64::MAX, at_ms_max: u64::MAX };
    let Some((at_ms, at_room, seq)) = before else { return Some(everything) };
    Some(match room.cmp(at_room) {
        std::cmp::Ordering::Less => Part { at_ms_max: *at_ms, ..everything },
        std::cmp::Ordering::Equal => Part { before: *seq, ..everything },
        std::cmp::Ordering::Greater => Part { at_ms_max: at_ms.checked_sub(1)?, ..everything },
    })
}

pub(super) async fn overdue(
    database: &impl Database,
    now_ms: u64,
    entries_max: u32,
    limit: u32,
) -> Result<Vec<(RoomId, u64)>> {
    let mut overdue = Vec::new();
    for row in database.fetch(OVERDUE, &[now_ms.into(), entries_max.into(), limit.into()]).await? {
        let room = row::room(&row)?;
        let fresh = Some(row.natural("fresh")?).filter(|seq| *seq != 0);
        overdue.extend(overdue_up_to(&room, fresh, entries_max).map(|up_to| (room.id.clone(), up_to)));
    }
    Ok(overdue)
}
