//! What can only be judged when the log has ended: outcomes against the final histories.

use std::collections::HashMap;

use super::State;
use super::findings::Findings;
use super::log::{Log, Seen, Slot, tell_log, tell_time};
use super::names::{Name, Names};
use super::operation::{Ack, Operation, Operations, Variant};
use crate::digest::Digest;
use crate::record::{Kind, Said, Volatile};
use crate::report::Invariant::{I1, I3, I4, I5, I6, I8, I9, I12};
use crate::report::Report;

impl State {
    pub(super) fn finish(mut self) -> Report {
        self.report.counts.clients = self.clients.iter().filter(|client| client.user.is_some()).count() as u64;
        let mut rooms: Vec<Name> = self.rooms.keys().map(|(room, _)| *room).collect();
        rooms.dedup();
        self.report.counts.rooms = rooms.len() as u64;
        self.judge_operations();
        self.judge_pipelines();
        self.judge_entries();
        self.judge_holding();
        self.report.judgements = self.findings.judgements();
        self.report
    }

    fn judge_operations(&mut self) {
        let Self { operations, names, rooms, findings, .. } = self;
        for operation in &operations.all {
            judge_once(operation, names, findings);
            for ack in &operation.acks {
                if let Some(log) = rooms.get(&(operation.room, ack.epoch)) {
                    judge_ack(operation, ack, log, names, findings);
                }
            }
        }
    }

    /// What one client sent on one link without trying again keeps its order (I6).
    fn judge_pipelines(&mut self) {
        let Self { operations, names, clients, findings, .. } = self;
        for client in clients.iter() {
            let mut last: HashMap<Name, (u32, u64, u64, Name)> = HashMap::new();
            for (link, operation) in &client.said {
                let operation = &operations.all[*operation as usize];
                let [ack] = operation.acks[..] else { continue };
                if operation.attempts() != 1 || ack.duplicate {
                    continue;
                }
                if let Some((_, _, seq, before)) =
                    last.get(&operation.room).filter(|(on, epoch, ..)| (*on, *epoch) == (*link, ack.epoch))
                {
                    findings.judge(I6, ack.seq > *seq, || {
                        format!(
                            "{} sent {:?} before {:?} on one link in {}, and they are #{seq} and #{}",
                            names.text(client.name),
                            names.text(*before),
                            names.text(operation.cmid),
                            names.text(operation.room),
                            ack.seq
                        )
                    });
                }
                last.insert(operation.room, (*link, ack.epoch, ack.seq, operation.cmid));
            }
        }
    }

    fn judge_entries(&mut self) {
        let Self { operations, names, rooms, findings, volatile, .. } = self;
        for log in rooms.values() {
            let edits = Edits::of(log, operations);
            for (seq, slot) in log.entries() {
                let operation = operations.find(log.room, slot.author, slot.cmid);
                // Notes are the server's own words.
                if slot.kind != Kind::Note {
                    judge_origin(seq, slot, operation, log, names, findings);
                    judge_volatile(seq, slot, operation, log, volatile, names, findings);
                }
                judge_contents(seq, slot, operation, log, &edits, names, findings);
            }
        }
    }

    /// In the end every subscriber holds everything since its first join (I8).
    fn judge_holding(&mut self) {
        let Self { names, clients, rooms, findings, faults_until, said_until, grace, .. } = self;
        for client in clients.iter() {
            let mut places: Vec<_> = client.places.iter().collect();
            places.sort_by_key(|(room, _)| **room);
            for (room, place) in places {
                let (Some(_), Some(base)) = (place.subscription, place.base) else { continue };
                let Some(log) = rooms.get(&(*room, place.epoch)) else { continue };
                let Some(head) = log.finals.iter().filter_map(|last| last.told).map(|(_, head)| head).max() else {
                    continue;
                };
                let who = names.text(client.name);
                let mut from = (base + 1).max(log.first_available());
                let missing = loop {
                    match place.held.first_missing(from, head) {
                        Some(missing) if place.excused.holds(missing, missing) => from = missing + 1,
                        other => break other,
                    }
                };
                findings.judge(I8, missing.is_none(), || {
                    let missing = missing.unwrap_or_default();
                    format!("{who} never got #{missing} of {}, which ends at #{head}", log.name(names))
                });
                let said = said_until.get(room).copied().unwrap_or_default();
                let calm =
                    said.max(*faults_until).max(place.subscription.map_or(0, |subscription| subscription.since.at));
                findings.judge(I8, place.grown <= calm + grace.settle_us, || {
                    let (grown, calm) = (tell_time(place.grown), tell_time(calm));
                    format!("{who} had all of {} only at {grown}; nothing was wrong since {calm}", log.name(names))
                });
            }
        }
    }
}

/// One number for one operation, whatever its retries (I3).
fn judge_once(operation: &Operation, names: &Names, findings: &mut Findings) {
    let tell = |what: &str| {
        let (author, cmid, room) =
            (names.text(operation.author), names.text(operation.cmid), names.text(operation.room));
        format!("{author}'s {cmid:?} in {room} {what}")
    };
    if let Some(first) = operation.acks.first() {
        let other = operation.acks.iter().find(|ack| (ack.epoch, ack.seq) != (first.epoch, first.seq));
        findings.judge(I3, other.is_none(), || {
            let other = other.map(|ack| ack.seq).unwrap_or_default();
            tell(&format!("was acknowledged as #{} and as #{other}", first.seq))
        });
        let fresh = operation.acks.iter().filter(|ack| !ack.duplicate).count();
        findings.judge(I3, fresh <= 1, || tell(&format!("was acknowledged {fresh} times as new")));
        let mixed = operation.acks.iter().find(|ack| ack.variant != first.variant);
        findings.judge(I3, mixed.is_none(), || tell("was acknowledged with two contents"));
    }
    if operation.conflicts > 0 {
        findings.judge(I3, operation.variants.len() > 1, || tell("was called a conflict, and has one content"));
    }
}

/// An acknowledgement against what stands at its number.
fn judge_ack(operation: &Operation, ack: &Ack, log: &Log, names: &Names, findings: &mut Findings) {
    let said = operation.variants[ack.variant as usize].said;
    let tell = |what: &str| {
        format!(
            "{}'s {:?} was acknowledged at {} as #{} of {}, {what}",
            names.text(operation.author),
            names.text(operation.cmid),
            tell_time(ack.at),
            ack.seq,
            log.name(names)
        )
    };
    let slot = log.slot(ack.seq);
    if let Some(slot) = slot {
        findings.judge(I1, agrees(operation, said, ack, slot), || tell(&format!("where {} stands", slot.tell(names))));
        if !ack.duplicate
            && let Some((epoch, floor)) = operation.floor
            && epoch == ack.epoch
        {
            findings.judge(I6, ack.seq > floor, || {
                tell(&format!("and was sent at {} when #{floor} had been acknowledged", tell_time(operation.sent)))
            });
        }
    }
    for (bit, last) in log.finals.iter().enumerate() {
        let Some((first, _)) = last.told else { continue };
        if ack.seq < first {
            continue;
        }
        let stored = slot.is_some_and(|slot| slot.stored & (1 << bit.min(7)) != 0);
        findings.judge(I4, stored, || {
            tell(&format!("and the final history ({}) does not hold it", names.text(last.source)))
        });
    }
}

/// Whether an entry is what this acknowledgement speaks of: the operation's own, or what had done the same before.
fn agrees(operation: &Operation, said: Said, ack: &Ack, slot: &Slot) -> bool {
    let same = (slot.kind, slot.target) == (said.kind, said.target);
    if (slot.author, slot.cmid) == (operation.author, operation.cmid) {
        return same;
    }
    let content = slot.first().and_then(|seen| seen.content);
    let repeatable = match said.kind {
        Kind::Deletion | Kind::Pin => true,
        Kind::Reaction => slot.author == operation.author,
        Kind::Text | Kind::Edit | Kind::Note => false,
    };
    ack.duplicate && repeatable && same && content == said.content
}

/// Whatever is seen was said, before it was seen, and not refused (I5).
fn judge_origin(
    seq: u64,
    slot: &Slot,
    operation: Option<&Operation>,
    log: &Log,
    names: &Names,
    findings: &mut Findings,
) {
    let first = slot.first();
    let tell = |what: &str| {
        let by = first.map(|seen| seen.by.tell(names)).unwrap_or_default();
        format!("{} #{seq} in {by} is {}, {what}", log.name(names), slot.tell(names))
    };
    let Some(operation) = operation else {
        findings.judge(I5, false, || tell("which nobody sent"));
        return;
    };
    let like = |variant: &&Variant| (variant.said.kind, variant.said.target) == (slot.kind, slot.target);
    let sent = operation.variants.iter().any(|variant| like(&variant));
    findings.judge(I5, sent, || tell("and something else was sent under that cmid"));
    if sent {
        let possible = operation.variants.iter().filter(like).any(Variant::may_be_stored);
        findings.judge(I5, possible, || tell("and it was refused for certain"));
    }
    let seen = first.map_or(u64::MAX, |seen| seen.by.at);
    findings.judge(I5, operation.sent <= seen, || tell(&format!("and was sent at {}", tell_time(operation.sent))));
}

/// Nothing that was said in passing stands in a log (I12).
fn judge_volatile(
    seq: u64,
    slot: &Slot,
    operation: Option<&Operation>,
    log: &Log,
    volatile: &HashMap<(Name, Name, Volatile), u64>,
    names: &Names,
    findings: &mut Findings,
) {
    let of_this_author = |what| volatile.contains_key(&(log.room, slot.author, what));
    let passing = |seen: &Seen| match seen.content {
        Some(content) => of_this_author(Volatile::Presence(content)),
        None => slot.kind == Kind::Text && !seen.deleted && of_this_author(Volatile::Typing),
    };
    if volatile.is_empty() {
        return;
    }
    let stored = operation.is_none() && slot.seen.iter().any(passing);
    findings.judge(I12, !stored, || {
        format!(
            "{} #{seq} by {} was only said in passing",
            tell_log(names, log.room, log.epoch),
            names.text(slot.author)
        )
    });
}

/// The edits of a log by what they edit, in their order, and what was deleted.
struct Edits {
    made: HashMap<u64, Vec<(u64, Option<Digest>)>>,
    deleted: HashMap<u64, u64>,
}

impl Edits {
    fn of(log: &Log, operations: &Operations) -> Self {
        let (mut made, mut deleted): (HashMap<u64, Vec<_>>, HashMap<_, _>) = Default::default();
        for (seq, slot) in log.entries() {
            match slot.kind {
                Kind::Edit => {
                    let sent = operations.find(log.room, slot.author, slot.cmid).and_then(said);
                    made.entry(slot.target).or_default().push((seq, sent.and_then(|said| said.content)));
                }
                Kind::Deletion => drop(deleted.insert(slot.target, seq)),
                Kind::Text | Kind::Reaction | Kind::Pin | Kind::Note => {}
            }
        }
        Self { made, deleted }
    }
}

/// The edits of this entry: their numbers and contents.
fn made(edits: &Edits, seq: u64) -> &[(u64, Option<Digest>)] {
    edits.made.get(&seq).map_or(&[], Vec::as_slice)
}

/// What the operation says: what was acknowledged, else the one thing that may be stored.
fn said(operation: &Operation) -> Option<Said> {
    let acked = operation.acks.first().map(|ack| &operation.variants[ack.variant as usize]);
    let mut possible = operation.variants.iter().filter(|variant| variant.may_be_stored());
    let only = possible.next().filter(|_| possible.next().is_none());
    acked.or(only).map(|variant| variant.said)
}

/// Every way in which an entry was seen is one of its states (I1), and none shows what is deleted (I9).
fn judge_contents(
    seq: u64,
    slot: &Slot,
    operation: Option<&Operation>,
    log: &Log,
    edits: &Edits,
    names: &Names,
    findings: &mut Findings,
) {
    let deleted = |target: &u64| edits.deleted.contains_key(target);
    let gone = match slot.kind {
        Kind::Text => deleted(&seq),
        Kind::Edit => deleted(&slot.target),
        Kind::Deletion | Kind::Reaction | Kind::Pin | Kind::Note => false,
    };
    let last = |what: &str| format!("{} #{seq}, {}, {what}", log.name(names), slot.tell(names));
    if gone && slot.stored != 0 {
        findings.judge(I9, !slot.stored_content, || last("is deleted, and the final history shows its content"));
    }
    if let (Kind::Text, false, Some(stored)) = (slot.kind, gone, slot.stored_edits) {
        findings.judge(I4, stored as usize == made(edits, seq).len(), || {
            last(&format!("was edited {} times, and {stored} times in the final history", made(edits, seq).len()))
        });
    }
    let own = operation.and_then(said);
    let made = made(edits, seq);
    let mut original = own.map(|said| said.content);
    for seen in &slot.seen {
        let tell = |what: &str| format!("{} #{seq} in {} {what}", log.name(names), seen.by.tell(names));
        if seen.deleted {
            findings.judge(I9, seen.content.is_none(), || tell("is a tombstone with content"));
        }
        if seen.content.is_none() {
            let blank = match slot.kind {
                Kind::Text => seen.deleted && gone,
                Kind::Edit => gone,
                Kind::Deletion => true,
                Kind::Reaction | Kind::Pin | Kind::Note => false,
            };
            findings.judge(I1, blank, || tell("is blank, and was not deleted"));
            continue;
        }
        let rank = seen.edits as usize;
        // Nothing is known of an edit whose entry nobody saw: then the content is not judged.
        let due = match rank.checked_sub(1) {
            None => Some(*original.get_or_insert(seen.content)),
            Some(edit) => made.get(edit).map(|(_, content)| *content).filter(Option::is_some),
        };
        if let Some(due) = due {
            findings.judge(I1, seen.content == due, || {
                tell(&format!("has after {rank} edits the content {:?}, and {due:?} was said", seen.content))
            });
        } else if !log.finals.is_empty() {
            findings.judge(I1, rank <= made.len(), || tell(&format!("has {rank} edits, and {} were made", made.len())));
        }
    }
}
