//! What is said in rooms, what becomes of it, and how it is read.

use veza_proto::v1::client_frame::Command;
use veza_proto::v1::{
    DeleteMessage, EditMessage, History, HistoryPage, ListPins, ListReactions, ListRevisions, ListUnread, Mark, Marked,
    Message, Pin, Publish, Published, React, ReactionList, Revision, Search, SearchResult, UnreadList, history, reply,
};

use super::Client;
use crate::error::Error;

impl Client {
    /// Publishes Markdown and waits until it is stored. [`Client::send`] takes a whole `Publish`: with a thread, an
    /// answer, mentions, attachments.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn publish(&self, room: &str, body: impl Into<String>) -> Result<Published, Error> {
        self.publish_as(room, "", body).await
    }

    /// [`Client::publish`] with a message id of one's own, for what was begun by an earlier process.
    ///
    /// # Errors
    /// As [`Client::send`]; `CMID_CONFLICT` when the id was used with another body.
    pub async fn publish_as(
        &self,
        room: &str,
        cmid: impl Into<String>,
        body: impl Into<String>,
    ) -> Result<Published, Error> {
        self.send(Publish { room: room.to_owned(), cmid: cmid.into(), body: body.into(), ..Publish::default() }).await
    }

    /// Replaces the body of one's own message.
    ///
    /// # Errors
    /// As [`Client::send`]; `PERMISSION_DENIED` for another's, `GONE` for a deleted one.
    pub async fn edit(&self, room: &str, seq: u64, body: impl Into<String>) -> Result<Published, Error> {
        self.send(EditMessage { room: room.to_owned(), seq, body: body.into(), ..EditMessage::default() }).await
    }

    /// Removes a message's content for everybody. `reason` is for the audit log and may be empty.
    ///
    /// # Errors
    /// As [`Client::send`]; `PERMISSION_DENIED` for another's without the right to.
    pub async fn delete(&self, room: &str, seq: u64, reason: &str) -> Result<Published, Error> {
        self.send(DeleteMessage { room: room.to_owned(), seq, reason: reason.to_owned(), ..DeleteMessage::default() })
            .await
    }

    /// Reacts to a message with an emoji.
    ///
    /// # Errors
    /// As [`Client::send`]; `GONE` for a deleted message.
    pub async fn react(&self, room: &str, seq: u64, emoji: &str) -> Result<Published, Error> {
        self.send(React { room: room.to_owned(), seq, emoji: emoji.to_owned(), ..React::default() }).await
    }

    /// Takes a reaction back.
    ///
    /// # Errors
    /// As [`Client::react`]; `NOT_FOUND` when there is none.
    pub async fn unreact(&self, room: &str, seq: u64, emoji: &str) -> Result<Published, Error> {
        self.send(React { room: room.to_owned(), seq, emoji: emoji.to_owned(), remove: true, ..React::default() }).await
    }

    /// Pins a message for everybody.
    ///
    /// # Errors
    /// As [`Client::send`]; `PERMISSION_DENIED` without the right to.
    pub async fn pin(&self, room: &str, seq: u64) -> Result<Published, Error> {
        self.send(Pin { room: room.to_owned(), seq, ..Pin::default() }).await
    }

    /// Takes a pin off.
    ///
    /// # Errors
    /// As [`Client::pin`]; `NOT_FOUND` when there is none.
    pub async fn unpin(&self, room: &str, seq: u64) -> Result<Published, Error> {
        self.send(Pin { room: room.to_owned(), seq, remove: true, ..Pin::default() }).await
    }

    /// One page of what stands in the room, in ascending order: messages outside of threads, and notes. `limit` 0 is the
    /// server's default.
    ///
    /// # Errors
    /// As [`Client::join`].
    pub async fn history(&self, room: &str, anchor: history::Anchor, limit: u32) -> Result<HistoryPage, Error> {
        self.read(History { room: room.to_owned(), anchor: Some(anchor), limit, ..History::default() }).await
    }

    /// The first page of a thread: its first message and what was answered.
    ///
    /// # Errors
    /// As [`Client::join`].
    pub async fn thread(&self, room: &str, root: u64) -> Result<HistoryPage, Error> {
        let anchor = Some(history::Anchor::AfterSeq(0));
        let view = veza_proto::v1::View::Thread.into();
        self.read(History { room: room.to_owned(), anchor, view, thread: root, ..History::default() }).await
    }

    /// One page of any view of the log.
    ///
    /// # Errors
    /// As [`Client::join`].
    pub async fn read(&self, history: History) -> Result<HistoryPage, Error> {
        Ok(answer!(self.ask(Command::History(history)).await?, HistoryPage))
    }

    /// Messages with all of these words, newest first, in one room or (an empty `room`) in all of mine.
    ///
    /// # Errors
    /// As [`Client::join`]; `INVALID_ARGUMENT` when the query has no word.
    pub async fn search(&self, search: Search) -> Result<SearchResult, Error> {
        Ok(answer!(self.ask(Command::Search(search)).await?, SearchResult))
    }

    /// A message's bodies, the first one first and the current one last.
    ///
    /// # Errors
    /// As [`Client::join`]; `GONE` when it was deleted.
    pub async fn revisions(&self, room: &str, seq: u64) -> Result<Vec<Revision>, Error> {
        let list = ListRevisions { room: room.to_owned(), seq };
        Ok(answer!(self.ask(Command::ListRevisions(list)).await?, RevisionList).revisions)
    }

    /// Who reacted to a message with this emoji.
    ///
    /// # Errors
    /// As [`Client::join`].
    pub async fn reactions(&self, room: &str, seq: u64, emoji: &str) -> Result<ReactionList, Error> {
        let list = ListReactions { room: room.to_owned(), seq, emoji: emoji.to_owned() };
        Ok(answer!(self.ask(Command::ListReactions(list)).await?, ReactionList))
    }

    /// The pinned messages, latest pin first.
    ///
    /// # Errors
    /// As [`Client::join`].
    pub async fn pins(&self, room: &str) -> Result<Vec<Message>, Error> {
        let mut pins = Vec::new();
        loop {
            let skip = u32::try_from(pins.len()).unwrap_or(u32::MAX);
            let list = ListPins { room: room.to_owned(), skip };
            let mut page = answer!(self.ask(Command::ListPins(list)).await?, PinList);
            let ends = !page.more || page.messages.is_empty();
            pins.append(&mut page.messages);
            if ends {
                return Ok(pins);
            }
        }
    }

    /// Says how far I have got. Marks only rise, and the answer tells what is left.
    ///
    /// # Errors
    /// As [`Client::join`].
    pub async fn mark(&self, room: &str, delivered_seq: u64, read_seq: u64) -> Result<Marked, Error> {
        let mark = Mark { room: room.to_owned(), delivered_seq, read_seq };
        Ok(answer!(self.ask(Command::Mark(mark)).await?, Marked))
    }

    /// What I have not read, over all my rooms; pass `next` of the last page as `after`.
    ///
    /// # Errors
    /// As [`Client::join`].
    pub async fn unread(&self, after: &str) -> Result<UnreadList, Error> {
        let list = ListUnread { after: after.to_owned(), limit: 0 };
        Ok(answer!(self.ask(Command::ListUnread(list)).await?, UnreadList))
    }
}
