//! Answers with entries: density (I2), what the reader knew before (I7), and no content after its deletion (I9).

use super::State;
use super::client::{Call, Place, Reading};
use super::log::{How, Moment, Sighting, tell_time};
use super::names::Name;
use super::subscribing::deletable;
use crate::record::{Anchor, Entry, Kind, Page, View};
use crate::report::Invariant::{I2, I7, I9};

impl State {
    pub(super) fn reading(&mut self, now: Moment, call: u64, room: Name) {
        let client = &mut self.clients[now.client as usize];
        let place = client.places.entry(room).or_default();
        let reading = Reading { room, begun: now, epoch: place.epoch, known: place.known, acked: place.acked.len() };
        client.calls.insert(call, Call::Reading(reading));
    }

    pub(super) fn page(&mut self, now: Moment, call: u64, page: &Page) {
        let reading = match self.clients[now.client as usize].calls.remove(&call) {
            Some(Call::Reading(reading)) => reading,
            Some(Call::Said { .. }) | None => {
                self.problem(now, &format!("a page answers call {call}, which asked for none"));
                return;
            }
        };
        self.report.counts.pages += 1;
        self.report.counts.page_entries += page.entries.len() as u64;
        let by = Sighting { who: self.clients[now.client as usize].name, how: How::Page, at: now.at };
        for entry in &page.entries {
            self.see(reading.room, entry, by);
        }
        self.judge_density(now, reading.room, page);
        self.judge_knowledge(now, &reading, page);
        for entry in &page.entries {
            self.judge_row(now, &reading, entry);
        }
        let place = self.clients[now.client as usize].places.entry(reading.room).or_default();
        for entry in &page.entries {
            if page.view == View::Everything {
                place.hold(entry.epoch, entry.seq, entry.seq, now.at);
            }
            place.know(entry.epoch, entry.seq, now.at);
            if entry.epoch == place.epoch {
                place.learn(entry, now);
            }
        }
    }

    fn judge_density(&mut self, now: Moment, room: Name, page: &Page) {
        let Self { names, clients, findings, .. } = self;
        let numbers = || page.entries.iter().map(|entry| entry.seq);
        let tell = |what: &str| {
            let (who, room) = (names.text(clients[now.client as usize].name), names.text(room));
            format!("{who}'s page of {room} at {} ({:?}) {what}", tell_time(now.at), page.anchor)
        };
        let step = |(one, next): (u64, u64)| match page.view {
            View::Everything => next == one + 1,
            View::Room | View::Thread => next > one,
            View::Found => true,
        };
        let wrong = numbers().zip(numbers().skip(1)).find(|pair| !step(*pair));
        findings.judge(I2, wrong.is_none(), || {
            let (one, next) = wrong.unwrap_or_default();
            tell(&format!("goes from #{one} to #{next}"))
        });
        if page.view == View::Everything
            && let (Anchor::After(after) | Anchor::Between(after, _), Some(first)) = (page.anchor, numbers().next())
        {
            let due = (after + 1).max(page.first_available);
            findings.judge(I2, first == due, || tell(&format!("begins with #{first} instead of #{due}")));
        }
        let strange = page.entries.iter().find(|entry| entry.epoch != page.epoch);
        findings.judge(I2, strange.is_none(), || tell("mixes epochs"));
    }

    /// What the reader had seen or been acknowledged when it asked must be there.
    fn judge_knowledge(&mut self, now: Moment, reading: &Reading, page: &Page) {
        let Self { names, clients, findings, .. } = self;
        let client = &clients[now.client as usize];
        let Some(place) = client.places.get(&reading.room) else { return };
        if page.epoch != reading.epoch || place.epoch != reading.epoch {
            return;
        }
        let tell = |what: &str| {
            let (who, room, asked) = (names.text(client.name), names.text(reading.room), tell_time(reading.begun.at));
            format!("{who}'s page of {room} asked for at {asked} ({:?}) {what}", page.anchor)
        };
        if page.head > 0 {
            findings.judge(I7, page.head >= reading.known, || {
                tell(&format!("tells the head {}, and #{} had been seen", page.head, reading.known))
            });
        }
        if let (View::Everything, Some((from, to))) = (page.view, range(page)) {
            let known = reading.known.min(to);
            let last = page.entries.last().map_or(0, |entry| entry.seq);
            if known >= from.max(page.first_available) {
                findings.judge(I7, last >= known, || tell(&format!("ends at #{last}, and #{known} had been seen")));
            }
        }
        let (View::Everything | View::Room, Some((from, to))) = (page.view, range(page)) else { return };
        let mine = place.acked.iter().take(reading.acked);
        for (seq, in_room) in mine.filter(|(seq, _)| (from.max(page.first_available)..=to).contains(seq)) {
            if *in_room || page.view == View::Everything {
                let there = page.entries.binary_search_by_key(seq, |entry| entry.seq).is_ok();
                findings.judge(I7, there, || tell(&format!("leaves out #{seq}, which was acknowledged to the reader")));
            }
        }
    }

    /// One entry of a page against what had happened to it before it was asked for.
    fn judge_row(&mut self, now: Moment, reading: &Reading, entry: &Entry) {
        let Self { names, clients, rooms, findings, .. } = self;
        let client = &clients[now.client as usize];
        let Some(place) = client.places.get(&reading.room) else { return };
        let tell = |what: &str| {
            let (who, room, asked) = (names.text(client.name), names.text(reading.room), tell_time(reading.begun.at));
            format!("{who}'s page of {room} asked for at {asked} shows #{} {what}", entry.seq)
        };
        let (target, blank) = (deletable(entry), entry.said.content.is_none());
        let acknowledged = rooms.get(&(reading.room, entry.epoch)).and_then(|log| log.deletions.get(&target));
        if let Some(deletion) = acknowledged.filter(|deletion| deletion.precedes(reading.begun)) {
            findings.judge(I9, blank, || {
                tell(&format!("with content; its deletion was acknowledged at {}", tell_time(deletion.at)))
            });
        }
        let seen = place.deleted.get(&target).filter(|_| entry.epoch == place.epoch);
        if let Some(deletion) = seen.filter(|deletion| deletion.line < reading.begun.line) {
            findings.judge(I9, blank, || {
                tell(&format!("with content; the reader had seen its deletion at {}", tell_time(deletion.at)))
            });
        }
        if entry.said.kind == Kind::Text && entry.epoch == place.epoch && !entry.deleted {
            judge_edits(place, reading, entry, |holds, sentence| findings.judge(I7, holds, || tell(&sentence())));
        }
    }
}

/// Edits that the reader had made or seen are in what it reads.
fn judge_edits(place: &Place, reading: &Reading, entry: &Entry, mut judge: impl FnMut(bool, &dyn Fn() -> String)) {
    if let Some(made) = place.edited.get(&entry.seq) {
        let made = made.iter().filter(|moment| moment.line < reading.begun.line).count();
        judge(entry.edits as usize >= made, &|| {
            format!("after {} edits; {made} of the reader's own had been acknowledged", entry.edits)
        });
    }
    if let Some((edits, since)) = place.edits.get(&entry.seq)
        && since.line < reading.begun.line
    {
        judge(entry.edits >= *edits, &|| format!("after {} edits; {edits} had been seen", entry.edits));
    }
}

/// The numbers that this page answers for.
fn range(page: &Page) -> Option<(u64, u64)> {
    let (first, last) = (page.entries.first().map(|entry| entry.seq), page.entries.last().map(|entry| entry.seq));
    let open = if page.more_after { last? } else { u64::MAX };
    match page.anchor {
        Anchor::After(after) => Some((after + 1, open)),
        Anchor::Before(0) => Some((first.unwrap_or(1), u64::MAX)),
        Anchor::Before(before) => Some((first?, before - 1)),
        Anchor::Around(_) => Some((first?, open)),
        // A repair ends where the page is full: it answers for what it holds, and for its beginning.
        Anchor::Between(after, to) => Some((after + 1, last.unwrap_or(if to == 0 { u64::MAX } else { to }))),
        Anchor::Nothing => None,
    }
}

impl Place {
    /// What this client knows from now on of what the entry speaks of.
    pub(super) fn learn(&mut self, entry: &Entry, now: Moment) {
        match entry.said.kind {
            Kind::Deletion => drop(self.deleted.entry(entry.said.target).or_insert(now)),
            Kind::Text => {
                if entry.deleted {
                    self.deleted.entry(entry.seq).or_insert(now);
                }
                let known = self.edits.get(&entry.seq).map_or(0, |(edits, _)| *edits);
                if entry.edits > known {
                    self.edits.insert(entry.seq, (entry.edits, now));
                }
            }
            Kind::Edit | Kind::Reaction | Kind::Pin | Kind::Note => {}
        }
    }
}
