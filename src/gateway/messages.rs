//! What is said in rooms: written as sessions write it, read as they read it.

use tonic::{Request, Response, Status};
use veza_engine::check;
use veza_engine::ledger::{Actor, Content};
use veza_engine::{Anchor, Answer, Ask, Page, SearchCursor, View};
use veza_proto::gateway::v1::*;
use veza_proto::v1::{Error, Published};
use veza_proto::{RoomId, limits as wire};

use super::answers::{self, replied};
use super::caller::Caller;
use super::fields::{self, At};
use super::pages;
use super::status::{at_field, bad_field, refused};
use crate::hub::{Call, Hub};
use crate::rpc::messages_server::Messages;

/// The messages of one answer, bytes of their encoding.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Serves `veza.gateway.v1.Messages`.
pub(super) struct MessageCalls {
    pub(super) hub: Hub,
}

type Answered<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Messages for MessageCalls {
    async fn send(&self, request: Request<SendRequest>) -> Answered<SendResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        let actor = caller.actor(&asked.actor)?;
        let SendRequest { body, thread, reply_to, mentions, attachments, idempotency_key, .. } = asked;
        let content = said(check::said(body, thread, reply_to, mentions, attachments))?;
        let stored = self.append(actor, room, &idempotency_key, content).await?;
        Ok(Response::new(SendResponse { stored: Some(stored) }))
    }

    async fn send_direct(&self, request: Request<SendDirectRequest>) -> Answered<SendDirectResponse> {
        let (_caller, asked) = Caller::take(request)?;
        let (author, user) = (fields::user("actor", &asked.actor)?, fields::user("user", &asked.user)?);
        if author == user {
            return Err(bad_field("user", "a direct room has two people"));
        }
        let SendDirectRequest { body, reply_to, attachments, idempotency_key, .. } = asked;
        // Checked before the room is opened: what cannot be said opens none.
        let (content, _) =
            (said(check::said(body, 0, reply_to, Vec::new(), attachments))?, fields::cmid(&idempotency_key)?);
        let author = Actor::User(author);
        let opened = answers::reply(&self.hub, Caller::call(author.clone()), Ask::OpenDirect { user }).await?;
        let opened = replied!(opened, DirectOpened).room.ok_or_else(answers::mistaken)?;
        let room = RoomId::parse(&opened.id).map_err(|_| answers::mistaken())?;
        let stored = self.append(author, room, &idempotency_key, content).await?;
        Ok(Response::new(SendDirectResponse { stored: Some(stored), room: Some(opened) }))
    }

    async fn edit(&self, request: Request<EditRequest>) -> Answered<EditResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        let actor = caller.actor(&asked.actor)?;
        let content = said(check::edited(asked.seq, asked.body, asked.mentions))?;
        let stored = self.append(actor, room, &asked.idempotency_key, content).await?;
        Ok(Response::new(EditResponse { stored: Some(stored) }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Answered<DeleteResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        let actor = caller.actor(&asked.actor)?;
        let content = said(check::deleted(asked.seq, asked.reason))?;
        let stored = self.append(actor, room, &asked.idempotency_key, content).await?;
        Ok(Response::new(DeleteResponse { stored: Some(stored) }))
    }

    async fn react(&self, request: Request<ReactRequest>) -> Answered<ReactResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        let actor = caller.actor(&asked.actor)?;
        let content = said(check::reacted(asked.seq, asked.emoji, asked.remove))?;
        let stored = self.append(actor, room, &asked.idempotency_key, content).await?;
        Ok(Response::new(ReactResponse { stored: Some(stored) }))
    }

    async fn pin(&self, request: Request<PinRequest>) -> Answered<PinResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        let actor = caller.actor(&asked.actor)?;
        let content = said(check::pinned(asked.seq, asked.remove))?;
        let stored = self.append(actor, room, &asked.idempotency_key, content).await?;
        Ok(Response::new(PinResponse { stored: Some(stored) }))
    }

    async fn get_message(&self, request: Request<GetMessageRequest>) -> Answered<GetMessageResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        let actor = caller.actor(&asked.actor)?;
        let found = self.hub.entry_of(&actor, &room, asked.seq).await.map_err(|error| refused(&error))?;
        Ok(Response::new(GetMessageResponse { message: Some(found) }))
    }

    async fn get_history(&self, request: Request<GetHistoryRequest>) -> Answered<GetHistoryResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        let limit = pages::size(asked.page_size, wire::HISTORY_PAGE_DEFAULT, wire::HISTORY_PAGE_MAX);
        let anchor = match asked.anchor {
            Some(get_history_request::Anchor::AfterSeq(after)) => Anchor::After(after),
            Some(get_history_request::Anchor::AroundSeq(seq)) => Anchor::Around(seq),
            Some(get_history_request::Anchor::BeforeSeq(0)) | None => Anchor::Before(u64::MAX),
            Some(get_history_request::Anchor::BeforeSeq(before)) => Anchor::Before(before),
        };
        let view = if asked.everything { View::Everything } else { View::Timeline };
        let page = self.page(caller.actor(&asked.actor)?, Ask::Read { room, view, anchor, limit }, anchor).await?;
        Ok(Response::new(GetHistoryResponse {
            epoch: page.epoch,
            more_before: page.more_before,
            more_after: page.more_after,
            first_available: page.first_available,
            head: page.head,
            messages: page.messages,
        }))
    }

    async fn get_thread(&self, request: Request<GetThreadRequest>) -> Answered<GetThreadResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        if asked.thread == 0 {
            return Err(bad_field("thread", "thread names the thread's first message"));
        }
        let limit = pages::size(asked.page_size, wire::HISTORY_PAGE_DEFAULT, wire::HISTORY_PAGE_MAX);
        let (view, anchor) = (View::Thread(asked.thread), Anchor::After(asked.after_seq));
        let page = self.page(caller.actor(&asked.actor)?, Ask::Read { room, view, anchor, limit }, anchor).await?;
        let (epoch, more_after) = (page.epoch, page.more_after);
        Ok(Response::new(GetThreadResponse { epoch, messages: page.messages, more_after }))
    }

    async fn search(&self, request: Request<SearchRequest>) -> Answered<SearchResponse> {
        let (caller, asked) = Caller::take(request)?;
        let actor = caller.actor(&asked.actor)?;
        let room = fields::some_room("room", &asked.room)?;
        if room.is_none() && actor.user().is_none() {
            return Err(bad_field("room", "name a room, or an actor whose rooms are meant"));
        }
        check::text("query", &asked.query, wire::QUERY_BYTES_MAX).at("query")?;
        if asked.query.trim().is_empty() {
            return Err(bad_field("query", "query must not be empty"));
        }
        let author =
            if asked.author.is_empty() { None } else { Some(veza_proto::UserId::parse(&asked.author).at("author")?) };
        let limit = pages::size(asked.page_size, wire::SEARCH_PAGE_DEFAULT, wire::SEARCH_PAGE_MAX);
        let (before, cursor) = match &room {
            Some(_) => (pages::number("search-one", &asked.page_token)?.unwrap_or(u64::MAX), None),
            None => {
                let place = pages::place("search-all", &asked.page_token)?;
                (u64::MAX, place.map(|place| SearchCursor::read(&place).ok_or_else(pages::unknown)).transpose()?)
            }
        };
        let ask = Ask::Search { room, query: asked.query, author, before, cursor, limit };
        let found = replied!(answers::reply(&self.hub, Caller::call(actor), ask).await?, SearchResult);
        let next_page_token = match found.next_before_seq {
            0 => pages::token("search-all", &found.next),
            before => pages::number_token("search-one", before),
        };
        Ok(Response::new(SearchResponse { messages: found.messages, next_page_token }))
    }

    async fn list_revisions(&self, request: Request<ListRevisionsRequest>) -> Answered<ListRevisionsResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        let call = Caller::call(caller.actor(&asked.actor)?);
        let list = answers::reply(&self.hub, call, Ask::ListRevisions { room, seq: asked.seq }).await?;
        Ok(Response::new(ListRevisionsResponse { revisions: replied!(list, RevisionList).revisions }))
    }

    async fn list_reactions(&self, request: Request<ListReactionsRequest>) -> Answered<ListReactionsResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        check::emoji(&asked.emoji).at("emoji")?;
        let call = Caller::call(caller.actor(&asked.actor)?);
        let ask = Ask::ListReactions { room, seq: asked.seq, emoji: asked.emoji };
        let list = replied!(answers::reply(&self.hub, call, ask).await?, ReactionList);
        Ok(Response::new(ListReactionsResponse { users: list.users, total: list.total }))
    }

    async fn list_pins(&self, request: Request<ListPinsRequest>) -> Answered<ListPinsResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        let call = Caller::call(caller.actor(&asked.actor)?);
        let list = answers::reply(&self.hub, call, Ask::ListPins { room, skip: 0 }).await?;
        Ok(Response::new(ListPinsResponse { messages: replied!(list, PinList).messages }))
    }

    async fn get_read_state(&self, request: Request<GetReadStateRequest>) -> Answered<GetReadStateResponse> {
        let (caller, asked) = Caller::take(request)?;
        let user = fields::user("user", &asked.user)?;
        let room = fields::some_room("room", &asked.room)?;
        caller.actor_for(&asked.actor, &user)?;
        if let Some(room) = room {
            let found = self.hub.unread_in(&user, &room).await.map_err(|error| refused(&error))?;
            return Ok(Response::new(GetReadStateResponse { rooms: vec![found], next_page_token: String::new() }));
        }
        let limit = pages::size(asked.page_size, wire::HISTORY_PAGE_DEFAULT, wire::UNREAD_PAGE_MAX);
        let after = pages::place("unread", &asked.page_token)?;
        let call = Caller::call(Actor::User(user));
        let list = answers::reply(&self.hub, call, Ask::ListUnread { after, limit }).await?;
        let list = replied!(list, UnreadList);
        let next_page_token = pages::token("unread", &list.next);
        Ok(Response::new(GetReadStateResponse { rooms: list.rooms, next_page_token }))
    }

    async fn mark(&self, request: Request<MarkRequest>) -> Answered<MarkResponse> {
        let (caller, asked) = Caller::take(request)?;
        let (room, user) = (fields::room("room", &asked.room)?, fields::user("user", &asked.user)?);
        caller.actor_for(&asked.actor, &user)?;
        let ask = Ask::Mark { room, delivered_seq: asked.delivered_seq, read_seq: asked.read_seq };
        let marked = replied!(answers::reply(&self.hub, Caller::call(Actor::User(user)), ask).await?, Marked);
        Ok(Response::new(MarkResponse {
            delivered_seq: marked.delivered_seq,
            read_seq: marked.read_seq,
            unread: marked.unread,
            mentions: marked.mentions,
        }))
    }
}

impl MessageCalls {
    /// The key of a message is its cmid: the room's log itself remembers it.
    async fn append(&self, actor: Actor, room: RoomId, key: &str, content: Content) -> Result<Stored, Status> {
        let cmid = fields::cmid(key)?;
        let call = Call { actor, once: None };
        match answers::ask(&self.hub, call, Ask::Append { room, cmid, content }).await? {
            Answer::Published(Published { room, epoch, seq, at_ms, duplicate, .. }) => {
                Ok(Stored { room, epoch, seq, at_ms, duplicate })
            }
            Answer::Reply(_)
            | Answer::Joined(_)
            | Answer::Unsubscribed
            | Answer::Left
            | Answer::Page(_)
            | Answer::Refused(_) => Err(answers::mistaken()),
        }
    }

    async fn page(&self, actor: Actor, ask: Ask, anchor: Anchor) -> Result<Page, Status> {
        match answers::ask(&self.hub, Caller::call(actor), ask).await? {
            Answer::Page(mut page) => {
                page.cut_to(anchor, PAGE_BYTES_MAX);
                Ok(*page)
            }
            Answer::Reply(_)
            | Answer::Joined(_)
            | Answer::Unsubscribed
            | Answer::Left
            | Answer::Published(_)
            | Answer::Refused(_) => Err(answers::mistaken()),
        }
    }
}

/// Names the field that a check of a message's parts speaks of.
fn said(checked: Result<Content, Error>) -> Result<Content, Status> {
    const FIELDS: [(&str, &str); 6] = [
        ("body", "body"),
        ("a message may mention", "mentions"),
        ("a user's id", "mentions"),
        ("reason", "reason"),
        ("emoji", "emoji"),
        ("seq", "seq"),
    ];
    checked.map_err(|error| {
        let named = FIELDS.iter().find(|(begin, _)| error.message.starts_with(begin)).map(|(_, field)| *field);
        let named = named.or_else(|| error.message.contains("attachment").then_some("attachments"));
        at_field(named.unwrap_or("body"), &error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::StatusExt;

    fn field(checked: Result<Content, Error>) -> String {
        let status = said(checked).unwrap_err();
        status.get_details_bad_request().unwrap().field_violations[0].field.clone()
    }

    #[test]
    fn the_field_that_is_wrong_is_named() {
        let none = Vec::new;
        assert_eq!(field(check::said(String::new(), 0, 0, none(), Vec::new())), "body");
        let many = (0..=wire::MENTIONS_MAX).map(|n| n.to_string()).collect();
        assert_eq!(field(check::said("a".into(), 0, 0, many, Vec::new())), "mentions");
        assert_eq!(field(check::said("a".into(), 0, 0, vec!["\n".into()], Vec::new())), "mentions");
        assert_eq!(field(check::said("a".into(), 0, 0, none(), vec![Default::default()])), "attachments");
        assert_eq!(field(check::said("a".into(), 0, 0, none(), vec![Default::default(); 11])), "attachments");
        assert_eq!(field(check::edited(0, "a".into(), none())), "seq");
        assert_eq!(field(check::deleted(1, "r".repeat(wire::REASON_BYTES_MAX + 1))), "reason");
        assert_eq!(field(check::reacted(1, " ".into(), false)), "emoji");
    }
}
