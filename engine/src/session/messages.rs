//! Commands about messages: what is said, changed and read.

use std::collections::BTreeSet;

use veza_proto::v1::{
    Attachment, DeleteMessage, EditMessage, Error, ErrorCode, History, ListPins, ListReactions, ListRevisions, Pin,
    Publish, React, Repair, Search, View as WireView, history,
};
use veza_proto::{Cmid, RoomId, UserId, limits as wire};

use super::Session;
use super::commands::{bad, invalid, line, page_size, text};
use super::rooms::{some_room, some_user};
use crate::ask::{Anchor, Ask, Purpose, SearchCursor, Ticket, View};
use crate::ledger::Content;

type Checked = Result<(), Error>;

impl Session {
    pub(super) fn publish(&mut self, ticket: &Ticket, publish: Publish) -> Checked {
        let attachments = publish.attachments;
        body(&publish.body, !attachments.is_empty())?;
        if attachments.len() > wire::ATTACHMENTS_MAX {
            return Err(bad(&format!("a message may have {} attachments", wire::ATTACHMENTS_MAX)));
        }
        attachments.iter().try_for_each(attachment)?;
        let mentions = mentions(publish.mentions)?;
        let (thread, reply_to) = (publish.thread, publish.reply_to);
        let content = Content::Text { body: publish.body, thread, reply_to, mentions, attachments };
        self.append(ticket, &publish.room, &publish.cmid, content)
    }

    pub(super) fn edit_message(&mut self, ticket: &Ticket, edit: EditMessage) -> Checked {
        body(&edit.body, false)?;
        let content = Content::Edit { target: edit.seq, body: edit.body, mentions: mentions(edit.mentions)? };
        self.append(ticket, &edit.room, &edit.cmid, content)
    }

    pub(super) fn delete_message(&mut self, ticket: &Ticket, delete: DeleteMessage) -> Checked {
        text("reason", &delete.reason, wire::REASON_BYTES_MAX)?;
        let content = Content::Delete { target: delete.seq, reason: delete.reason };
        self.append(ticket, &delete.room, &delete.cmid, content)
    }

    pub(super) fn react(&mut self, ticket: &Ticket, react: React) -> Checked {
        emoji(&react.emoji)?;
        let content = Content::React { target: react.seq, emoji: react.emoji, remove: react.remove };
        self.append(ticket, &react.room, &react.cmid, content)
    }

    pub(super) fn pin(&mut self, ticket: &Ticket, pin: &Pin) -> Checked {
        self.append(ticket, &pin.room, &pin.cmid, Content::Pin { target: pin.seq, remove: pin.remove })
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
        if content.len() > wire::CONTENT_BYTES_MAX {
            let (max, len) = (wire::CONTENT_BYTES_MAX, content.len());
            let message = format!("a message with mentions and attachments may have {max} bytes, this has {len}");
            return Err(Error::permanent(ErrorCode::TooLarge, message));
        }
        if content.target() == Some(0) {
            return Err(bad("seq names the message"));
        }
        self.ask_in(&room.clone(), ticket.clone(), Ask::Append { room, cmid, content });
        Ok(())
    }
}

fn body(body: &str, may_be_empty: bool) -> Checked {
    if body.is_empty() && !may_be_empty {
        return Err(bad("body must not be empty"));
    }
    if body.len() > wire::BODY_BYTES_MAX {
        let message = format!("body may have {} bytes, this has {}", wire::BODY_BYTES_MAX, body.len());
        return Err(Error::permanent(ErrorCode::TooLarge, message));
    }
    text("body", body, wire::BODY_BYTES_MAX)
}

/// Each once, in the order given.
fn mentions(users: Vec<String>) -> Result<Vec<String>, Error> {
    if users.len() > wire::MENTIONS_MAX {
        return Err(bad(&format!("a message may mention {} users", wire::MENTIONS_MAX)));
    }
    let mut known = BTreeSet::new();
    let mut once = Vec::with_capacity(users.len());
    for user in users {
        if user != "*" {
            UserId::parse(&user).map_err(invalid)?;
        }
        if known.insert(user.clone()) {
            once.push(user);
        }
    }
    Ok(once)
}

fn attachment(attachment: &Attachment) -> Checked {
    line("an attachment's url", &attachment.url, wire::ATTACHMENT_URL_BYTES_MAX)?;
    line("an attachment's name", &attachment.name, wire::ATTACHMENT_NAME_BYTES_MAX)?;
    line("an attachment's media_type", &attachment.media_type, wire::ATTACHMENT_TYPE_BYTES_MAX)?;
    let host = attachment.url.strip_prefix("https://").unwrap_or_default();
    if host.is_empty() || attachment.url.contains(char::is_whitespace) {
        return Err(bad("an attachment's url begins with https:// and has no spaces"));
    }
    if attachment.media_type.split_once('/').is_none_or(|(kind, sub)| kind.is_empty() || sub.is_empty()) {
        return Err(bad("an attachment's media_type is like image/png"));
    }
    if attachment.sha256.len() != 32 {
        return Err(bad("an attachment's sha256 has 32 bytes"));
    }
    Ok(())
}

fn emoji(emoji: &str) -> Checked {
    line("emoji", emoji, wire::EMOJI_BYTES_MAX)?;
    if emoji.is_empty() || emoji.contains(char::is_whitespace) {
        return Err(bad("emoji must not be empty or hold spaces"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached(url: usize) -> Attachment {
        Attachment {
            url: format!("https://{}", "u".repeat(url - 8)),
            name: "n".repeat(wire::ATTACHMENT_NAME_BYTES_MAX),
            media_type: format!("image/{}", "p".repeat(wire::ATTACHMENT_TYPE_BYTES_MAX - 6)),
            size_bytes: 1,
            sha256: vec![7; 32].into(),
        }
    }

    #[test]
    fn every_bound_at_its_limit_and_one_past() {
        assert!(body(&"x".repeat(wire::BODY_BYTES_MAX), false).is_ok());
        assert!(body(&"x".repeat(wire::BODY_BYTES_MAX + 1), false).is_err());
        assert!(body("", true).is_ok() && body("", false).is_err());
        let users = |count: usize| mentions((0..count).map(|n| format!("u{n}")).collect());
        assert!(users(wire::MENTIONS_MAX).is_ok() && users(wire::MENTIONS_MAX + 1).is_err());
        assert!(emoji(&"x".repeat(wire::EMOJI_BYTES_MAX)).is_ok());
        assert!(emoji(&"x".repeat(wire::EMOJI_BYTES_MAX + 1)).is_err());
        let max = attached(wire::ATTACHMENT_URL_BYTES_MAX);
        assert!(attachment(&max).is_ok());
        assert!(attachment(&attached(wire::ATTACHMENT_URL_BYTES_MAX + 1)).is_err());
        for past in [
            Attachment { name: format!("{}n", max.name), ..max.clone() },
            Attachment { media_type: format!("{}p", max.media_type), ..max.clone() },
            Attachment { sha256: vec![7; 33].into(), ..max.clone() },
            Attachment { url: "https://".into(), ..max.clone() },
        ] {
            assert!(attachment(&past).is_err(), "{past:?}");
        }
    }

    #[test]
    fn right_to_left_text_and_emoji_are_text() {
        assert!(
            body(
                "مرحبا 👩‍👩‍👧 שלום
	שורה",
                false
            )
            .is_ok()
        );
        assert!(body("a\0b", false).is_err());
        assert_eq!(mentions(vec!["bob".into(), "*".into(), "bob".into()]).unwrap(), ["bob", "*"]);
    }
}
