//! Commands about messages: what is said, changed and read.

use veza_proto::v1::{
    DeleteMessage, EditMessage, Error, History, ListPins, ListReactions, ListRevisions, Pin, Publish, React, Repair,
    Search, View as WireView, history,
};
use veza_proto::{Cmid, RoomId, limits as wire};

use super::Session;
use super::commands::page_size;
use super::rooms::{some_room, some_user};
use crate::ask::{Anchor, Ask, Purpose, SearchCursor, Ticket, View};
use crate::check::{self, bad, emoji, invalid, text};
use crate::ledger::Content;

type Checked = Result<(), Error>;

impl Session {
    pub(super) fn publish(&mut self, ticket: &Ticket, publish: Publish) -> Checked {
        let Publish { room, cmid, body, thread, reply_to, mentions, attachments } = publish;
        self.append(ticket, &room, &cmid, check::said(body, thread, reply_to, mentions, attachments)?)
    }

    pub(super) fn edit_message(&mut self, ticket: &Ticket, edit: EditMessage) -> Checked {
        self.append(ticket, &edit.room, &edit.cmid, check::edited(edit.seq, edit.body, edit.mentions)?)
    }

    pub(super) fn delete_message(&mut self, ticket: &Ticket, delete: DeleteMessage) -> Checked {
        self.append(ticket, &delete.room, &delete.cmid, check::deleted(delete.seq, delete.reason)?)
    }

    pub(super) fn react(&mut self, ticket: &Ticket, react: React) -> Checked {
        self.append(ticket, &react.room, &react.cmid, check::reacted(react.seq, react.emoji, react.remove)?)
    }

    pub(super) fn pin(&mut self, ticket: &Ticket, pin: &Pin) -> Checked {
        self.append(ticket, &pin.room, &pin.cmid, check::pinned(pin.seq, pin.remove)?)
    }

    pub(super) fn history(&mut self, ticket: &Ticket, history: &History) -> Checked {
        let room = self.entered(&history.room)?;
        let limit = page_size(history.limit, wire::HISTORY_PAGE_DEFAULT, wire::HISTORY_PAGE_MAX)?;
        let anchor = match history.anchor {
            Some(history::Anchor::AfterSeq(after)) => Anchor::After(after),
            Some(history::Anchor::AroundSeq(seq)) => Anchor::Around(seq),
            Some(history::Anchor::BeforeSeq(0)) | None => Anchor::Before(u64::MAX),
            Some(history::Anchor::BeforeSeq(before)) => Anchor::Before(before),
        };
        let view = match history.view() {
            WireView::Unspecified => View::Timeline,
            WireView::Everything => View::Everything,
            WireView::Thread if history.thread == 0 => return Err(bad("thread names the thread's first message")),
            WireView::Thread => View::Thread(history.thread),
        };
        let purpose = Purpose::History { room: room.clone(), anchor };
        self.ask_in(&room.clone(), Ticket { purpose, ..ticket.clone() }, Ask::Read { room, view, anchor, limit });
        Ok(())
    }

    pub(super) fn repair(&mut self, ticket: &Ticket, repair: &Repair) -> Checked {
        let room = self.entered(&repair.room)?;
        let up_to = if repair.up_to_seq == 0 { u64::MAX } else { repair.up_to_seq };
        if up_to <= repair.after_seq {
            return Err(bad("up_to_seq must be greater than after_seq"));
        }
        let limit = (up_to - repair.after_seq).min(u64::from(wire::HISTORY_PAGE_MAX));
        let limit = u32::try_from(limit).unwrap_or(wire::HISTORY_PAGE_MAX);
        let after = repair.after_seq;
        let purpose = Purpose::Repair { room: room.clone(), epoch: repair.epoch, after, up_to };
        let ask = Ask::Read { room: room.clone(), view: View::Everything, anchor: Anchor::After(after), limit };
        self.ask_in(&room, Ticket { purpose, ..ticket.clone() }, ask);
        Ok(())
    }

    pub(super) fn search(&mut self, ticket: &Ticket, search: Search) -> Checked {
        let room = some_room(&search.room)?;
        text("query", &search.query, wire::QUERY_BYTES_MAX)?;
        if search.query.trim().is_empty() {
            return Err(bad("query must not be empty"));
        }
        let author = some_user(&search.author)?;
        let limit = page_size(search.limit, wire::SEARCH_PAGE_DEFAULT, wire::SEARCH_PAGE_MAX)?;
        let before = if search.before_seq == 0 { u64::MAX } else { search.before_seq };
        let cursor = match search.cursor.as_str() {
            "" => None,
            cursor => Some(SearchCursor::read(cursor).ok_or_else(|| bad("cursor is none of an earlier answer"))?),
        };
        let purpose = Purpose::Search { everywhere: room.is_none() };
        let ask = Ask::Search { room, query: search.query, author, before, cursor, limit };
        self.ask(Ticket { purpose, ..ticket.clone() }, ask);
        Ok(())
    }

    pub(super) fn list_revisions(&mut self, ticket: &Ticket, list: &ListRevisions) -> Checked {
        let room = RoomId::parse(&list.room).map_err(invalid)?;
        self.ask(ticket.clone(), Ask::ListRevisions { room, seq: list.seq });
        Ok(())
    }

    pub(super) fn list_reactions(&mut self, ticket: &Ticket, list: ListReactions) -> Checked {
        let room = RoomId::parse(&list.room).map_err(invalid)?;
        emoji(&list.emoji)?;
        self.ask(ticket.clone(), Ask::ListReactions { room, seq: list.seq, emoji: list.emoji });
        Ok(())
    }

    pub(super) fn list_pins(&mut self, ticket: &Ticket, list: &ListPins) -> Checked {
        let room = RoomId::parse(&list.room).map_err(invalid)?;
        self.ask(ticket.clone(), Ask::ListPins { room, skip: list.skip });
        Ok(())
    }

    fn append(&mut self, ticket: &Ticket, room: &str, cmid: &str, content: Content) -> Checked {
        let room = self.entered(room)?;
        let cmid = Cmid::parse(cmid).map_err(invalid)?;
        self.ask_in(&room.clone(), ticket.clone(), Ask::Append { room, cmid, content });
        Ok(())
    }
}
