//! Calls of the platform's backend: what sessions ask, awaited, and what only calls ask. Nothing is subscribed to.

use tokio::sync::oneshot;
use veza_engine::ledger::{Actor, Content, OnceKey, RoomRow, Write, not_found};
use veza_engine::room::{Appended, storage_full, unavailable};
use veza_engine::{Answer, Ask};
use veza_proto::v1::{Action, Error, ErrorCode, Membership, Message, Published, Room, UnreadRoom};
use veza_proto::{Cmid, RoomId, UserId};

use super::asker::Asker;
use super::worker::{Command, Here};
use super::{Hub, convert};
use crate::store::{Anchor, Busy, StoreError, Unread, View};
use crate::telemetry::metrics as declared;

/// In whose name a call is made, and under which key its write happens once.
#[derive(Debug, Clone)]
pub struct Call {
    pub actor: Actor,
    pub once: Option<OnceKey>,
}

/// What a user is to a room.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub membership: Membership,
    pub joined: bool,
    /// A session of this node is subscribed.
    pub present: bool,
}

type Looked<T> = Result<Result<T, Error>, StoreError>;

impl Hub {
    /// Milliseconds since 1970-01-01 UTC.
    pub fn now_ms(&self) -> u64 {
        self.shared.clock.now().as_millis()
    }

    /// As a session's ask; every change reaches sessions as if one of them had made it.
    pub async fn call(&self, call: Call, ask: Ask) -> Answer {
        let (asker, answer) = Asker::call(call.actor, call.once);
        match ask {
            Ask::Append { room, cmid, content } => self.append(asker, room, cmid, content),
            Ask::Join { .. }
            | Ask::Leave { .. }
            | Ask::Subscribe { .. }
            | Ask::Unsubscribe { .. }
            | Ask::Typing { .. }
            | Ask::Status { .. } => {
                let error = Error::permanent(ErrorCode::Internal, "only sessions subscribe");
                asker.answer(Answer::Refused(error));
            }
            Ask::Write(_)
            | Ask::OpenDirect { .. }
            | Ask::Invite { .. }
            | Ask::Mark { .. }
            | Ask::Read { .. }
            | Ask::ListRooms { .. }
            | Ask::ListMembers { .. }
            | Ask::ListInvites { .. }
            | Ask::ListAudit { .. }
            | Ask::ListRevisions { .. }
            | Ask::ListReactions { .. }
            | Ask::ListPins { .. }
            | Ask::ListUnread { .. }
            | Ask::Search { .. } => self.settle(asker, ask),
        }
        answer.await.unwrap_or_else(|_dropped| Answer::Refused(unavailable()))
    }

    /// Straight to the writer: whether the author may is decided with the commit.
    fn append(&self, asker: Asker, room: RoomId, cmid: Cmid, content: Content) {
        if let Some(user) = asker.actor.user()
            && let Err(error) = self.within_rate(user)
        {
            asker.answer(Answer::Refused(error));
            return;
        }
        let (author, at_ms) = (asker.actor.clone(), self.now_ms());
        let write = Write::Append { room: room.clone(), author, cmid: cmid.clone(), content, at_ms };
        let (hub, answering) = (self.clone(), asker.clone());
        let reply = move |written| {
            let appended = convert::appended(&room, written);
            declared::published_total(convert::outcome(&appended)).increment(1);
            let published = |epoch, seq, at_ms, duplicate| {
                let (room, cmid) = (String::from(&room), String::from(&cmid));
                Answer::Published(Published { room, cmid, epoch, seq, at_ms, duplicate })
            };
            let answer = match appended {
                Appended::Stored(message) => {
                    let answer = published(message.epoch, message.seq, message.at_ms, false);
                    hub.worker(&room).stored(room.clone(), message);
                    answer
                }
                Appended::Duplicate { epoch, seq, at_ms } => published(epoch, seq, at_ms, true),
                Appended::Refused(refusal) => Answer::Refused(refusal.to_error()),
                Appended::Unavailable => {
                    hub.doubt(room);
                    Answer::Refused(unavailable())
                }
                Appended::StorageFull => Answer::Refused(storage_full()),
            };
            answering.answer(answer);
        };
        if let Err(Busy) = self.shared.writer.try_submit(write, Box::new(reply)) {
            declared::published_total("unavailable").increment(1);
            asker.answer(Answer::Refused(unavailable()));
        }
    }

    /// A room, with what the actor is to it.
    ///
    /// # Errors
    /// As the actor is told, here as below.
    pub async fn room_of(&self, actor: &Actor, room: &RoomId) -> Result<Room, Error> {
        self.looked("room", async {
            let Some((row, member)) = self.shared.store.membership(room, actor.id()).await? else {
                return Ok(Err(not_found()));
            };
            let member = member.filter(|member| member.joined.is_some());
            if member.is_none() && row.is_hidden() && actor.user().is_some() {
                return Ok(Err(not_found()));
            }
            Ok(Ok(row.to_wire(member.map(|member| member.to_wire(actor.id())))))
        })
        .await
    }

    /// Whether a member, or a service, may do this in a room.
    pub async fn may(&self, actor: &Actor, room: &RoomId, action: Action) -> Result<bool, Error> {
        self.looked("room", async {
            let found = self.of_member(room, actor).await?;
            Ok(found.map(|(row, role)| role >= row.settings.at_least(action, row.kind)))
        })
        .await
    }

    /// What a user is to a room; sanctions are shown to moderators and the user.
    pub async fn member_of(&self, actor: &Actor, room: &RoomId, user: &UserId) -> Result<Member, Error> {
        let (joined, membership) = self
            .looked("member", async {
                let (row, role) = match self.of_member(room, actor).await? {
                    Ok(found) => found,
                    Err(error) => return Ok(Err(error)),
                };
                let found = self.shared.store.membership(room, user).await?.and_then(|(_, member)| member);
                let now_ms = self.now_ms();
                let known = found.filter(|member| member.joined.is_some() || member.is_banned(now_ms));
                let Some(member) = known else { return Ok(Err(no_such_member())) };
                let moderates = role >= row.settings.at_least(Action::Moderate, row.kind);
                let joined = member.joined.is_some();
                Ok(if moderates || user == actor.id() {
                    Ok((joined, member.to_wire(user)))
                } else if joined {
                    Ok((joined, member.to_strangers(user)))
                } else {
                    Err(no_such_member())
                })
            })
            .await?;
        let here = self.here(room, Some(user.clone())).await?;
        Ok(Member { membership, joined, present: here.user })
    }

    /// A room's row, and how many users are here.
    pub async fn room_with_presence(&self, actor: &Actor, room: &RoomId) -> Result<(RoomRow, u32), Error> {
        let row = self.looked("room", async { Ok(self.of_member(room, actor).await?.map(|(row, _)| row)) }).await?;
        let here = self.here(room, None).await?;
        Ok((row, here.present))
    }

    /// How far a user has read in one of their rooms.
    pub async fn unread_in(&self, user: &UserId, room: &RoomId) -> Result<UnreadRoom, Error> {
        self.looked("unread", async {
            let found = self.shared.store.unread(user, Unread::In(room), 1).await?;
            Ok(found.into_iter().next().map(convert::unread).ok_or_else(not_found))
        })
        .await
    }

    /// One entry of a room's log, as it is by now.
    pub async fn entry_of(&self, actor: &Actor, room: &RoomId, seq: u64) -> Result<Message, Error> {
        self.looked("message", async {
            let row = match self.of_member(room, actor).await? {
                Ok((row, _)) => row,
                Err(error) => return Ok(Err(error)),
            };
            let anchor = Anchor::After(seq.saturating_sub(1));
            let viewer = Some(actor.id());
            let found = self.shared.store.entries(room, row.epoch, View::Everything, anchor, 1, viewer).await?;
            let found = found.into_iter().find(|entry| entry.row.seq == seq).map(convert::message);
            Ok(found.ok_or_else(|| Error::permanent(ErrorCode::NotFound, "no such message")))
        })
        .await
    }

    /// A read in its turn.
    async fn looked<T>(&self, kind: &'static str, read: impl Future<Output = Looked<T>>) -> Result<T, Error> {
        let Ok(_turn) = self.shared.reads.acquire().await else { return Err(unavailable()) };
        read.await.unwrap_or_else(|error| {
            tracing::error!(kind, %error, "a read from the store failed");
            Err(unavailable())
        })
    }

    async fn here(&self, room: &RoomId, user: Option<UserId>) -> Result<Here, Error> {
        let (reply, here) = oneshot::channel();
        let command = Command::Here { room: room.clone(), user, reply };
        self.worker(room).send(command).map_err(|Busy| unavailable())?;
        here.await.map_err(|_stopped| unavailable())
    }
}

fn no_such_member() -> Error {
    Error::permanent(ErrorCode::NotFound, "no such member")
}
