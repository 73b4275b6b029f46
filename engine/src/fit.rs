//! Replies with lists, cut to what fits in a frame. What is left out is behind `next`.

use std::ops::Range;

use veza_proto::Format;
use veza_proto::frame::{Coded, encoded_len};
use veza_proto::limits::PAGE_BYTES_MAX;
use veza_proto::v1::{SearchResult, reply};

use crate::ask::SearchCursor;
use crate::session::place_after;

/// The items around `middle` that fit in a frame together.
pub(crate) fn window<T: Coded>(items: &[T], middle: usize, format: Format) -> Range<usize> {
    window_of(items, middle, PAGE_BYTES_MAX, |item| encoded_len(item, format))
}

/// The items around `middle` that fit together, at least one; those behind it and before it in turn.
pub(crate) fn window_of<T>(items: &[T], middle: usize, max: usize, len: impl Fn(&T) -> usize) -> Range<usize> {
    let (mut start, mut end) = (middle.min(items.len()), middle.min(items.len()));
    let mut room = max;
    let mut takes = |item: &T, first: bool| {
        let bytes = len(item);
        let fits = first || bytes <= room;
        room = room.saturating_sub(bytes);
        fits
    };
    let (mut before, mut after) = (true, true);
    while before || after {
        after = after && end < items.len() && takes(&items[end], start == end);
        end += usize::from(after);
        before = before && start > 0 && takes(&items[start - 1], start == end);
        start -= usize::from(before);
    }
    start..end
}

/// Cuts the lists that may be longer than a frame, and says where they go on.
pub(crate) fn cut(result: &mut reply::Result, format: Format) {
    match result {
        reply::Result::RoomList(list) => {
            if first(&mut list.rooms, format) {
                list.next = list.rooms.last().map(|room| room.id.clone()).unwrap_or_default();
            }
        }
        reply::Result::MemberList(list) => {
            if first(&mut list.members, format) {
                list.next = list.members.last().map(|member| member.user.clone()).unwrap_or_default();
            }
        }
        reply::Result::AuditList(list) => {
            if first(&mut list.entries, format) {
                list.next = list.entries.last().map_or(0, |entry| entry.number);
            }
        }
        reply::Result::UnreadList(list) => {
            if first(&mut list.rooms, format) {
                list.next = list.rooms.last().map(|room| room.room.clone()).unwrap_or_default();
            }
        }
        reply::Result::StreamList(list) => {
            if first(&mut list.streams, format) {
                list.next_page_token = list.streams.last().map(place_after).unwrap_or_default();
            }
        }
        reply::Result::PinList(list) => {
            list.more |= first(&mut list.messages, format);
        }
        reply::Result::RevisionList(list) => {
            let kept = window(&list.revisions, list.revisions.len(), format);
            list.revisions.drain(..kept.start);
        }
        reply::Result::Error(_)
        | reply::Result::Welcome(_)
        | reply::Result::Pong(_)
        | reply::Result::TokenAccepted(_)
        | reply::Result::RoomCreated(_)
        | reply::Result::RoomJoined(_)
        | reply::Result::RoomLeft(_)
        | reply::Result::Published(_)
        | reply::Result::HistoryPage(_)
        | reply::Result::SearchResult(_)
        | reply::Result::Repaired(_)
        | reply::Result::Unsubscribed(_)
        // At most a hundred names of 128 bytes, at most eighty invitations of 600.
        | reply::Result::ReactionList(_)
        | reply::Result::InviteList(_)
        | reply::Result::Marked(_)
        | reply::Result::PresenceSet(_)
        | reply::Result::RoomUpdated(_)
        | reply::Result::MemberUpdated(_)
        | reply::Result::InviteCreated(_)
        | reply::Result::InviteRevoked(_)
        | reply::Result::DirectOpened(_)
        | reply::Result::StreamCreated(_)
        | reply::Result::StreamPublished(_)
        | reply::Result::StreamEnded(_)
        | reply::Result::PlayingSet(_)
        | reply::Result::Listening(_)
        | reply::Result::Unlistened(_)
        | reply::Result::QualitySet(_) => {}
    }
}

/// Cuts hits. Over all rooms they go on by time, in one room by their numbers.
pub(crate) fn cut_search(found: &mut SearchResult, everywhere: bool, format: Format) {
    if !first(&mut found.messages, format) {
        return;
    }
    let Some(last) = found.messages.last() else { return };
    if everywhere {
        found.next = SearchCursor::write(last);
    } else {
        found.next_before_seq = last.seq;
    }
}

/// Keeps the first ones that fit, at least one: whether any were left out.
fn first<T: Coded>(items: &mut Vec<T>, format: Format) -> bool {
    let kept = window(items, 0, format).end;
    let cut = kept < items.len();
    items.truncate(kept);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use veza_proto::v1::{AuditEntry, AuditList, Message, Revision, RevisionList};

    #[test]
    fn a_list_that_is_too_long_goes_on_where_it_was_cut() {
        let entry = |number| AuditEntry { number, detail: "x".repeat(20_000), ..AuditEntry::default() };
        let mut result =
            reply::Result::AuditList(AuditList { entries: (1..=3).rev().map(entry).collect(), ..AuditList::default() });
        cut(&mut result, Format::Proto);
        let reply::Result::AuditList(list) = result else { panic!() };
        assert_eq!((list.entries.len(), list.next), (2, 2));
    }

    #[test]
    fn the_newest_revisions_stay() {
        let revision = |revision| Revision { revision, body: "x".repeat(30_000), at_ms: 0 };
        let mut result = reply::Result::RevisionList(RevisionList {
            revisions: (0..3).map(revision).collect(),
            ..RevisionList::default()
        });
        cut(&mut result, Format::Proto);
        let reply::Result::RevisionList(list) = result else { panic!() };
        assert_eq!(list.revisions.iter().map(|r| r.revision).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_cut_search_goes_on_by_time_or_by_number() {
        let hit = |seq| Message { seq, room: "a.b".into(), at_ms: 7, body: "x".repeat(30_000), ..Message::default() };
        let found = || SearchResult { messages: vec![hit(9), hit(8)], ..SearchResult::default() };
        let (mut here, mut everywhere) = (found(), found());
        cut_search(&mut here, false, Format::Proto);
        cut_search(&mut everywhere, true, Format::Proto);
        assert_eq!((here.messages.len(), here.next_before_seq, here.next.as_str()), (1, 9, ""));
        assert_eq!((everywhere.next_before_seq, everywhere.next.as_str()), (0, "7.9.a.b"));
        assert_eq!(SearchCursor::read("7.9.a.b").unwrap().room.as_str(), "a.b");
    }
}
