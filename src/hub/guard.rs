//! Asks that the platform has a say in, and what comes after them. While its answer is out, whatever the same session asks
//! of the same room waits behind, so that what it says stays in its order; everybody else goes on.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use veza_engine::ledger::{Content, InviteKey, MemberRow, RoomRow, Write, not_found};
use veza_engine::room::unavailable;
use veza_engine::{Answer, Ask, SessionKey, Ticket};
use veza_proto::gateway::v1::{JoinRequest, PublishRequest};
use veza_proto::limits::INVITES_LISTED_MAX;
use veza_proto::v1::{Error, ErrorCode, RoomKind};
use veza_proto::{RoomId, UserId};

use super::{Caller, Hub};
use crate::authz::{Authz, Call, Decision, Question};
use crate::store::{Busy, Invites, StoreError};

/// Who is asked, and what waits for an answer. The asks of a session are bounded, and so is this.
#[derive(Default)]
pub(super) struct Guarded {
    authz: Authz,
    queues: Mutex<HashMap<Key, VecDeque<(Ticket, Ask)>>>,
}

type Key = (SessionKey, RoomId);

impl Guarded {
    pub(super) fn by(authz: Authz) -> Self {
        Self { authz, queues: Mutex::default() }
    }

    /// Whether anything has to be looked at before it is carried out.
    pub(super) fn is_asked(&self) -> bool {
        self.authz.is_asked(Call::Join) || self.authz.is_asked(Call::Publish)
    }

    /// Every statement leaves the queues whole, so a panic elsewhere harms nothing behind the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, VecDeque<(Ticket, Ask)>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next ask behind one that was decided; the last one takes the queue with it.
    fn next(&self, key: &Key) -> Option<(Ticket, Ask)> {
        let mut queues = self.lock();
        let next = queues.get_mut(key)?.pop_front();
        if next.is_none() {
            queues.remove(key);
        }
        next
    }
}

impl Hub {
    /// As [`Hub::carry_out`], after the platform was asked where it has to be.
    pub(super) fn guard(&self, caller: &Caller, ticket: Ticket, ask: Ask) {
        let Some(room) = in_order(&ask) else { return self.carry_out(caller, ticket, ask) };
        let guarded = &self.shared.guarded;
        let key = (caller.session, room.clone());
        let mut queues = guarded.lock();
        if let Some(queue) = queues.get_mut(&key) {
            queue.push_back((ticket, ask));
            return;
        }
        let call = call_of(&ask);
        if !call.is_some_and(|call| guarded.authz.is_asked(call)) {
            drop(queues);
            return self.carry_out(caller, ticket, ask);
        }
        let known = publish_question(caller, &ask, None).and_then(|question| guarded.authz.at_once(&question));
        if let Some(Decision::Allowed { .. }) = known {
            drop(queues);
            return self.carry_out(caller, ticket, ask);
        }
        queues.insert(key.clone(), VecDeque::new());
        drop(queues);
        let (hub, caller) = (self.clone(), caller.clone());
        self.shared.tasks.spawn("authz", async move { hub.see_through(key, caller, ticket, ask).await });
    }

    /// Decides one ask and carries it out, then those that have gathered behind it.
    async fn see_through(self, key: Key, caller: Caller, ticket: Ticket, ask: Ask) {
        let mut next = Some((ticket, ask));
        while let Some((ticket, ask)) = next {
            match self.decide(&caller, &ask).await {
                // Who is gone meanwhile neither comes in nor says anything any more.
                Ok(()) if caller.mailbox.is_closed() && call_of(&ask).is_some() => {}
                Ok(()) => self.carry_out(&caller, ticket, ask),
                Err(error) => caller.mailbox.answer(ticket, Answer::Refused(error)),
            }
            next = self.shared.guarded.next(&key);
        }
    }

    /// # Errors
    /// What the asker is told instead.
    async fn decide(&self, caller: &Caller, ask: &Ask) -> Result<(), Error> {
        let Some(call) = call_of(ask).filter(|call| self.shared.guarded.authz.is_asked(*call)) else { return Ok(()) };
        let Some(room) = in_order(ask) else { return Ok(()) };
        let failed = |error: StoreError| {
            tracing::error!(%error, room = room.as_str(), "a room that the platform is to be asked about was not read");
            unavailable()
        };
        let look = || self.shared.store.membership(room, &caller.user);
        let mut found = look().await.map_err(failed)?;
        if found.as_ref().is_none_or(|(_, member)| !is_member(member.as_ref())) {
            // The room, or the membership, may be what was asked for just before, and on its way to the database.
            self.outlive_writes(room, &caller.user).await?;
            found = look().await.map_err(failed)?;
        }
        // What is not there is nobody's business. Nobody is told so later either, for it may be there by then.
        let Some((row, member)) = found else { return Err(not_found()) };
        let is_member = is_member(member.as_ref());
        let question = match call {
            Call::Join if is_member || matches!(ask, Ask::Join { .. }) => join_question(caller, ask, &row, is_member),
            Call::Publish if is_member => publish_question(caller, ask, Some(row.kind)),
            Call::Join | Call::Publish | Call::Connect => None,
        };
        let Some(question) = question else {
            let now_ms = self.shared.clock.now().as_millis();
            return Err(member.map_or_else(not_found, |outsider| outsider.outside(&row, now_ms).to_error()));
        };
        let error = match self.shared.guarded.authz.ask(question).await {
            Decision::Allowed { .. } => return Ok(()),
            Decision::Denied { message, retry_after_ms: 0 } => Error::permanent(ErrorCode::PermissionDenied, message),
            Decision::Denied { message, retry_after_ms } => {
                Error::temporary(ErrorCode::PermissionDenied, message, retry_after_ms)
            }
            Decision::Unanswered { message, retry_after_ms } => {
                Error::temporary(ErrorCode::Unavailable, message, retry_after_ms)
            }
        };
        let known = self.may_know(caller, ask, &row, member.as_ref()).await.map_err(failed)?;
        Err(if known { error } else { not_found() })
    }

    /// Returns when everything has been written that was asked for before: the writer takes one thing after another, and this
    /// changes nothing.
    async fn outlive_writes(&self, room: &RoomId, user: &UserId) -> Result<(), Error> {
        let (room, user) = (room.clone(), user.clone());
        let nothing = Write::Mark { room, user, delivered_seq: 0, read_seq: 0 };
        let (written, waiting) = oneshot::channel();
        let reply = move |_| {
            // Whoever asked may be gone.
            let _told = written.send(());
        };
        self.shared.writer.try_submit(nothing, reply).map_err(|Busy| unavailable())?;
        waiting.await.map_err(|_dropped| unavailable())
    }

    /// Whether it is no secret to the asker that there is this room.
    async fn may_know(
        &self,
        caller: &Caller,
        ask: &Ask,
        row: &RoomRow,
        member: Option<&MemberRow>,
    ) -> Result<bool, StoreError> {
        let hidden = matches!(row.kind, RoomKind::Private | RoomKind::Direct);
        if !hidden || member.is_some() {
            return Ok(true);
        }
        let code = if let Ask::Join { invite, .. } = ask { invite.as_deref() } else { None };
        let now_ms = self.shared.clock.now().as_millis();
        let invites = self.shared.store.invites(Invites::Of(&row.id), now_ms, INVITES_LISTED_MAX).await?;
        Ok(invites.iter().any(|(key, _, _)| match key {
            InviteKey::User(_, user) => *user == caller.user,
            InviteKey::Code(known) => code == Some(known.as_str()),
        }))
    }
}

fn is_member(member: Option<&MemberRow>) -> bool {
    member.is_some_and(|member| member.joined.is_some())
}

/// The room of an ask whose place among the others of its session counts.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others are reads, or have no room yet")]
fn in_order(ask: &Ask) -> Option<&RoomId> {
    match ask {
        Ask::Join { room, .. }
        | Ask::Subscribe { room }
        | Ask::Unsubscribe { room }
        | Ask::Leave { room }
        | Ask::Append { room, .. }
        | Ask::Mark { room, .. }
        | Ask::Typing { room, .. }
        | Ask::Status { room, .. } => Some(room),
        _ => None,
    }
}

/// What the platform is asked about. Of what authors add to a log it is what they say, first or anew; what they take back or
/// put on it is the room's affair.
#[expect(clippy::wildcard_enum_match_arm, reason = "nobody is asked about the others")]
fn call_of(ask: &Ask) -> Option<Call> {
    match ask {
        Ask::Join { .. } | Ask::Subscribe { .. } => Some(Call::Join),
        Ask::Append { content: Content::Text { .. } | Content::Edit { .. }, .. } => Some(Call::Publish),
        _ => None,
    }
}

fn join_question(caller: &Caller, ask: &Ask, row: &RoomRow, member: bool) -> Option<Question> {
    let invited = matches!(ask, Ask::Join { invite: Some(_), .. });
    Some(Question::Join(JoinRequest {
        user: String::from(&caller.user),
        room: String::from(&row.id),
        kind: row.kind.into(),
        member,
        invited,
        entitlements: caller.entitlements.to_vec(),
    }))
}

/// The words are not shown.
#[expect(clippy::wildcard_enum_match_arm, reason = "nobody is asked about the others")]
fn publish_question(caller: &Caller, ask: &Ask, kind: Option<RoomKind>) -> Option<Question> {
    let Ask::Append { room, content, .. } = ask else { return None };
    let (body, mentions, attachments, thread) = match content {
        Content::Text { body, thread, mentions, attachments, .. } => (body, mentions, attachments.len(), *thread),
        Content::Edit { body, mentions, .. } => (body, mentions, 0, 0),
        _ => return None,
    };
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    Some(Question::Publish(PublishRequest {
        user: String::from(&caller.user),
        room: String::from(room),
        kind: kind.unwrap_or_default().into(),
        body_bytes: count(body.len()),
        attachments: count(attachments),
        mentions: count(mentions.len()),
        in_thread: thread != 0,
    }))
}
