use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use veza_proto::{Cmid, RoomId, UserId};

use super::{Anchor, MessageRecord, RoomRecord, Store, StoreError, Write, Written};

/// The store as a sentence: for tests and simulation, and the reference the others are compared with. Nothing is kept.
#[derive(Debug, Default)]
pub struct MemoryStore {
    rooms: Mutex<Rooms>,
}

type Rooms = BTreeMap<RoomId, Room>;

#[derive(Debug)]
struct Room {
    title: String,
    created_ms: u64,
    members: Vec<UserId>,
    log: Vec<MessageRecord>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn commit<'a>(&'a self, batch: &'a [Write]) -> BoxFuture<'a, Result<Vec<Written>, StoreError>> {
        let mut rooms = self.rooms();
        ready(Ok(batch.iter().map(|write| apply(&mut rooms, write)).collect())).boxed()
    }

    fn room<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, Result<Option<RoomRecord>, StoreError>> {
        ready(Ok(self.rooms().get(room).map(|found| found.record(room)))).boxed()
    }

    fn rooms<'a>(
        &'a self,
        member: Option<&'a UserId>,
        after: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<RoomRecord>, StoreError>> {
        let page = self
            .rooms()
            .iter()
            .filter(|(id, _)| after.is_none_or(|after| id.as_str() > after))
            .filter(|(_, room)| member.is_none_or(|member| room.members.contains(member)))
            .take(limit as usize)
            .map(|(id, room)| room.record(id))
            .collect();
        ready(Ok(page)).boxed()
    }

    fn is_member<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> BoxFuture<'a, Result<bool, StoreError>> {
        ready(Ok(self.rooms().get(room).is_some_and(|found| found.members.contains(user)))).boxed()
    }

    fn messages<'a>(
        &'a self,
        room: &'a RoomId,
        epoch: u64,
        anchor: Anchor,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<MessageRecord>, StoreError>> {
        let rooms = self.rooms();
        let log: Vec<_> = rooms.get(room).into_iter().flat_map(|room| &room.log).filter(|m| m.epoch == epoch).collect();
        let limit = limit as usize;
        let page: Vec<_> = match anchor {
            Anchor::After(seq) => log.into_iter().filter(|m| m.seq > seq).take(limit).cloned().collect(),
            Anchor::Before(seq) => {
                let before: Vec<_> = log.into_iter().filter(|m| m.seq < seq).collect();
                before[before.len().saturating_sub(limit)..].iter().copied().cloned().collect()
            }
        };
        ready(Ok(page)).boxed()
    }

    fn check<'a>(&'a self) -> BoxFuture<'a, Result<String, StoreError>> {
        ready(Ok("in memory, not durable".into())).boxed()
    }

    fn close<'a>(&'a self) -> BoxFuture<'a, ()> {
        ready(()).boxed()
    }
}

impl Room {
    fn record(&self, id: &RoomId) -> RoomRecord {
        RoomRecord {
            id: id.clone(),
            title: self.title.clone(),
            epoch: self.epoch(),
            head: self.log.len() as u64,
            first_available: 1,
            members: u32::try_from(self.members.len()).unwrap_or(u32::MAX),
            created_ms: self.created_ms,
        }
    }

    fn epoch(&self) -> u64 {
        self.created_ms.max(1)
    }

    fn append(&mut self, room: &RoomId, author: &UserId, cmid: &Cmid, body: &str, at_ms: u64) -> Written {
        if let Some(old) = self.log.iter().find(|m| m.author == *author && m.cmid == *cmid) {
            return if old.body == body { Written::Duplicate(old.clone()) } else { Written::CmidConflict };
        }
        let message = MessageRecord {
            room: room.clone(),
            epoch: self.epoch(),
            seq: self.log.len() as u64 + 1,
            author: author.clone(),
            cmid: cmid.clone(),
            body: body.to_owned(),
            at_ms,
        };
        self.log.push(message.clone());
        Written::Appended(message)
    }
}

fn apply(rooms: &mut Rooms, write: &Write) -> Written {
    match write {
        Write::CreateRoom { room, title, creator, at_ms } => {
            if let Some(found) = rooms.get(room) {
                return Written::RoomExists(found.record(room));
            }
            let made =
                Room { title: title.clone(), created_ms: *at_ms, members: vec![creator.clone()], log: Vec::new() };
            let record = made.record(room);
            rooms.insert(room.clone(), made);
            Written::RoomCreated(record)
        }
        Write::AddMember { room, user, at_ms: _ } => {
            let Some(found) = rooms.get_mut(room) else { return Written::NoSuchRoom };
            let new = !found.members.contains(user);
            if new {
                found.members.push(user.clone());
            }
            Written::MemberAdded { room: found.record(room), new }
        }
        Write::RemoveMember { room, user } => {
            let Some(found) = rooms.get_mut(room) else { return Written::NoSuchRoom };
            let before = found.members.len();
            found.members.retain(|member| member != user);
            Written::MemberRemoved { was_member: found.members.len() < before }
        }
        Write::Append { room, author, cmid, body, at_ms } => match rooms.get_mut(room) {
            Some(found) => found.append(room, author, cmid, body, *at_ms),
            None => Written::NoSuchRoom,
        },
    }
}
