//! What a server could get wrong, written into a clean history.

use veza_history::Invariant::{self, I1, I2, I3, I4, I5, I6, I7, I8, I9, I10, I11, I12};
use veza_history::{Cursor, Entry, Event, Kind, Record, Said, Verdict, View, Volatile, digest};

use crate::tamper::{
    Log, entries, followed, followed_at_once, has_content, is_delivery, is_last, is_page, is_repair, is_stored,
    recovered,
};

pub struct Mutation {
    pub name: &'static str,
    /// Which invariant it breaks.
    pub breaks: Invariant,
    /// Changes the log; false when it offers no place for it.
    pub apply: fn(&mut Log) -> bool,
}

const fn mutation(breaks: Invariant, name: &'static str, apply: fn(&mut Log) -> bool) -> Mutation {
    Mutation { name, breaks, apply }
}

pub const ALL: &[Mutation] = &[
    mutation(I1, "a delivery has another body", |log| {
        log.change_entry(is_delivery, has_content, |entry| entry.said.content = Some(digest("other")))
    }),
    mutation(I1, "a page has another author", |log| {
        log.change_entry(is_page, |entry| entry.said.kind == Kind::Text, |entry| entry.author = "user-9".into())
    }),
    mutation(I1, "a delivery has another cmid", |log| {
        log.change_entry(is_delivery, has_content, |entry| entry.cmid.push('x'))
    }),
    mutation(I1, "an acknowledgement names the next number", |log| {
        log.change(|event| match event {
            Event::Acknowledged { seq, duplicate: false, .. } => {
                *seq += 1;
                true
            }
            _ => false,
        })
    }),
    mutation(I1, "the database has another body", |log| {
        log.change_entry(
            is_stored,
            |entry| has_content(entry) && entry.edits == 0,
            |entry| {
                entry.said.content = Some(digest("other"));
            },
        )
    }),
    mutation(I1, "a page shows the first body and calls it edited", |log| {
        let first = |entry: &Entry| entry.edits == 0 && entry.said.kind == Kind::Text && has_content(entry);
        log.change_entry(is_page, first, |entry| entry.edits = 1)
    }),
    mutation(I1, "a page is blank where nothing was deleted", |log| {
        log.change_entry(
            is_page,
            |entry| entry.said.kind == Kind::Text && has_content(entry),
            |entry| {
                entry.said.content = None;
            },
        )
    }),
    mutation(I2, "a delivery is left out", |log| {
        let Some(at) = log.any(|log, at| is_delivery(&log[at].event) && followed(log, at)) else { return false };
        log.records.remove(at);
        true
    }),
    mutation(I2, "a delivery comes twice", |log| {
        let Some(at) = log.any(|log, at| is_delivery(&log[at].event)) else { return false };
        let again = log.records[at].clone();
        log.records.insert(at + 1, again);
        true
    }),
    mutation(I2, "two deliveries change places", |log| {
        let Some(at) = log.any(followed_at_once) else {
            return false;
        };
        let (one, other) = (log.records[at].at, log.records[at + 1].at);
        log.records.swap(at, at + 1);
        (log.records[at].at, log.records[at + 1].at) = (one, other);
        true
    }),
    mutation(I2, "a page leaves an entry out", |log| {
        log.change(|event| match event {
            Event::Page { page, .. } if page.view == View::Everything && page.entries.len() > 2 => {
                page.entries.remove(1);
                true
            }
            _ => false,
        })
    }),
    mutation(I2, "the database has a hole", |log| {
        let Some(at) = log.any(|log, at| is_stored(&log[at].event)) else { return false };
        log.records.remove(at);
        true
    }),
    mutation(I3, "a message is stored again under the next number", |log| {
        log.append_to_logs(|entry| entry.said.kind == Kind::Text && has_content(entry))
    }),
    mutation(I3, "a retry is acknowledged under another number", |log| {
        let Some((at, call)) = log.acknowledged(|_| true) else { return false };
        let (again, mut answer) = log.again(at, call);
        if let Event::Acknowledged { seq, duplicate, .. } = &mut answer.event {
            *seq += 1;
            *duplicate = true;
        }
        log.records.extend([again, answer]);
        true
    }),
    mutation(I3, "a retry is acknowledged as new", |log| {
        let Some((first, call)) = log.acknowledged(|_| true) else { return false };
        let (again, answer) = log.again(first, call);
        log.records.extend([again, answer]);
        true
    }),
    mutation(I3, "other content under the same cmid is acknowledged", |log| {
        let Some((at, call)) = log.acknowledged(|said| said.kind == Kind::Text) else { return false };
        let (mut again, mut answer) = log.again(at, call);
        if let Event::Sent { said, .. } = &mut again.event {
            said.content = Some(digest("other"));
        }
        if let Event::Acknowledged { duplicate, .. } = &mut answer.event {
            *duplicate = true;
        }
        log.records.extend([again, answer]);
        true
    }),
    mutation(I3, "a retry with the same content is called a conflict", |log| {
        let Some((at, call)) = log.acknowledged(|_| true) else { return false };
        let (again, mut answer) = log.again(at, call);
        if let Event::Acknowledged { call, .. } = answer.event {
            answer.event = Event::Refused { call, code: "CMID_CONFLICT".into() };
        }
        log.records.extend([again, answer]);
        true
    }),
    mutation(I4, "the last commit is lost", |log| log.truncate_logs(|_| true)),
    mutation(I4, "the database alone lost the last commit", |log| log.truncate_logs(|source| source == "database")),
    mutation(I4, "an edit is lost", |log| {
        log.change_entry(is_stored, |entry| entry.edits > 0 && !entry.deleted, |entry| entry.edits -= 1)
    }),
    mutation(I5, "an entry stands at the end that nobody sent", |log| {
        log.append_to_logs(|entry| entry.said.kind == Kind::Text) && log.rename_last("nobody-sent-this")
    }),
    mutation(I5, "what was refused is stored", |log| {
        let Some((at, _)) = log.acknowledged(|_| true) else { return false };
        let Event::Acknowledged { call, .. } = log.records[at].event else { return false };
        log.records[at].event = Event::Refused { call, code: "RATE_LIMITED".into() };
        true
    }),
    mutation(I5, "an entry has a cmid that nobody sent", |log| {
        let Some(at) = log.any(|log, at| matches!(log[at].event, Event::Acknowledged { .. })) else { return false };
        let Event::Acknowledged { seq: number, .. } = log.records[at].event else { return false };
        let seen = log.records.iter_mut().flat_map(|record| entries(&mut record.event));
        seen.filter(|entry| entry.seq == number).for_each(|entry| entry.cmid.push_str("-changed"));
        true
    }),
    mutation(I6, "two pipelined messages change places", |log| log.exchange(true)),
    mutation(I6, "a message stands before one that was acknowledged before it was sent", |log| log.exchange(false)),
    mutation(I7, "a page does not hold what was acknowledged to its reader", |log| {
        log.stale_page(|page_reader, entry| entry.author == page_reader)
    }),
    mutation(I7, "a page ends before what its reader had seen", |log| log.stale_page(|_, _| true)),
    mutation(I7, "a head goes back", |log| {
        log.change(|event| match event {
            Event::Page { page, .. } if page.head > 30 => {
                page.head -= 30;
                true
            }
            _ => false,
        })
    }),
    mutation(I7, "an edit is seen and then not", |log| log.forget_edit()),
    mutation(I8, "the last deliveries never come", |log| {
        let Some(at) = log.any(|log, at| is_delivery(&log[at].event) && is_last(log, at)) else { return false };
        log.records.remove(at);
        true
    }),
    mutation(I8, "the last delivery comes after ten seconds", |log| {
        let Some(at) = log.any(|log, at| is_delivery(&log[at].event) && is_last(log, at)) else { return false };
        let mut late = log.records.remove(at);
        late.at = log.end() + 10_000_000;
        log.records.push(late);
        true
    }),
    mutation(I8, "a lagging client is not given the rest", |log| {
        let last = |log: &[Record], at: usize| {
            let later = |record: &Record| is_page(&record.event) || matches!(record.event, Event::Joined { .. });
            !log[at + 1..].iter().any(|record| record.client == log[at].client && later(record))
        };
        let Some(at) = log.any(|log, at| is_repair(&log[at].event) && last(log, at)) else { return false };
        if let Event::Page { page, .. } = &mut log.records[at].event {
            page.entries.clear();
        }
        true
    }),
    mutation(I9, "a page shows what was deleted", |log| {
        log.change_entry(
            is_page,
            |entry| entry.deleted,
            |entry| {
                entry.deleted = false;
                entry.said.content = Some(digest("back"));
            },
        )
    }),
    mutation(I9, "a tombstone has its content", |log| {
        log.change_entry(is_page, |entry| entry.deleted, |entry| entry.said.content = Some(digest("back")))
    }),
    mutation(I9, "the database keeps what was deleted", |log| {
        log.change_entry(is_stored, |entry| entry.deleted, |entry| entry.said.content = Some(digest("back")))
    }),
    mutation(I9, "an edit of what was deleted keeps its body", |log| {
        let blank = |entry: &Entry| entry.said.kind == Kind::Edit && entry.said.content.is_none();
        log.change_entry(is_stored, blank, |entry| entry.said.content = Some(digest("back")))
    }),
    mutation(I9, "a replay shows what was deleted", |log| {
        log.change_entry(
            is_delivery,
            |entry| entry.deleted,
            |entry| {
                entry.deleted = false;
                entry.said.content = Some(digest("back"));
            },
        )
    }),
    mutation(I10, "a resume leaves out the first entry", |log| {
        let first = |log: &[Record], at: usize| at > 0 && recovered(&log[at - 1].event) && followed_at_once(log, at);
        let Some(at) = log.any(first) else { return false };
        log.records.remove(at);
        true
    }),
    mutation(I10, "a verdict counts wrong", |log| {
        log.change(|event| match event {
            Event::Joined { verdict: Verdict::Recovered { entries }, .. } => {
                *entries += 1;
                true
            }
            _ => false,
        })
    }),
    mutation(I10, "a cursor is passed over in silence", |log| {
        log.change(|event| match event {
            Event::Joined { cursor: Some(_), verdict, .. } => {
                *verdict = Verdict::Live;
                true
            }
            _ => false,
        })
    }),
    mutation(I10, "a cursor of another log is recovered", |log| {
        log.change(|event| match event {
            Event::Joined { cursor: Some(Cursor { epoch, .. }), verdict: Verdict::Recovered { .. }, .. } => {
                *epoch -= 1;
                true
            }
            _ => false,
        })
    }),
    mutation(I10, "a gap is announced where nothing is missing", |log| {
        log.change(|event| match event {
            Event::Joined { cursor: Some(Cursor { last, .. }), head, verdict, .. } if last == head => {
                *verdict = Verdict::HistoryExpired { first_available: 1 };
                true
            }
            _ => false,
        })
    }),
    mutation(I11, "an evicted client is given more", |log| {
        let Some(at) = log.any(|log, at| matches!(log[at].event, Event::Evicted { .. })) else { return false };
        log.deliver_after(at)
    }),
    mutation(I11, "a kick does nothing", |log| {
        let Some(at) = log.any(|log, at| matches!(log[at].event, Event::Evicted { .. })) else { return false };
        log.deliver_after(at) && {
            log.records.remove(at);
            true
        }
    }),
    mutation(I11, "a revoked user hears on", |log| {
        let last = log.records.iter().rposition(|record| is_delivery(&record.event));
        let Some(at) = last.filter(|at| *at > 100) else { return false };
        let (client, asked) = (log.records[at].client.clone(), log.records[at].at - 2_000_000);
        let connected = |record: &Record| record.client == client && matches!(record.event, Event::Connected { .. });
        let Some(begun) = log.records[..at].iter().rfind(|record| connected(record)) else { return false };
        let Event::Connected { user, .. } = begun.event.clone() else { return false };
        let place = log.records.partition_point(|record| record.at < asked);
        let earlier = begun.at < asked;
        let event = Event::Revoked { user, asked };
        log.records.insert(place, Record { at: asked, client: String::new(), event });
        earlier
    }),
    mutation(I12, "a presence stands in the log", |log| {
        let said = log.volatile(|what| matches!(what, Volatile::Presence(_)));
        let Some((user, Volatile::Presence(text))) = said else { return false };
        log.append_to_logs(|entry| entry.said.kind == Kind::Text && has_content(entry))
            && log.rename_last("presence")
            && log.change_last(|entry| {
                entry.author.clone_from(&user);
                entry.said = Said { kind: Kind::Text, target: 0, content: Some(text) };
            })
    }),
    mutation(I12, "typing stands in the log", |log| {
        let Some((user, _)) = log.volatile(|what| what == Volatile::Typing) else { return false };
        log.append_to_logs(|entry| entry.said.kind == Kind::Text)
            && log.rename_last("typing")
            && log.change_last(|entry| {
                entry.author.clone_from(&user);
                entry.deleted = false;
                entry.said = Said { kind: Kind::Text, target: 0, content: None };
            })
    }),
    mutation(I12, "a presence is heard that nobody said", |log| {
        log.change(|event| match event {
            Event::HeardVolatile { what, .. } => {
                *what = Volatile::Presence(digest("made up"));
                true
            }
            _ => false,
        })
    }),
];
