//! A log that is tampered with: places are found by chance, and changed.

use std::collections::BTreeSet;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use veza_history::{Anchor, Entry, Event, Kind, Record, Said, Verdict, View, Volatile};

pub struct Log<'a> {
    pub records: &'a mut Vec<Record>,
    pub chance: StdRng,
}

pub fn is_delivery(event: &Event) -> bool {
    matches!(event, Event::Delivered { .. })
}

pub fn is_page(event: &Event) -> bool {
    matches!(event, Event::Page { .. })
}

pub fn is_stored(event: &Event) -> bool {
    matches!(event, Event::Stored { .. })
}

pub fn is_repair(event: &Event) -> bool {
    matches!(event, Event::Page { page, .. } if matches!(page.anchor, Anchor::Between(..)))
}

pub fn recovered(event: &Event) -> bool {
    matches!(event, Event::Joined { verdict: Verdict::Recovered { .. }, .. })
}

pub fn has_content(entry: &Entry) -> bool {
    entry.said.content.is_some()
}

pub fn entries(event: &mut Event) -> &mut [Entry] {
    match event {
        Event::Delivered { entry, .. } | Event::Stored { entry, .. } => std::slice::from_mut(entry),
        Event::Page { page, .. } => &mut page.entries,
        _ => &mut [],
    }
}

/// The room and number of a delivery.
pub fn delivery(event: &Event) -> Option<(&str, u64)> {
    match event {
        Event::Delivered { room, entry, .. } => Some((room, entry.seq)),
        _ => None,
    }
}

/// Whether the next thing this client is told of the room is a delivery too.
pub fn followed(log: &[Record], at: usize) -> bool {
    let Some((room, _)) = delivery(&log[at].event) else { return false };
    let of_this = |record: &&Record| {
        record.client == log[at].client
            && match &record.event {
                Event::Delivered { room: of, .. }
                | Event::Joined { room: of, .. }
                | Event::Lagging { room: of, .. } => of == room,
                _ => false,
            }
    };
    log[at + 1..].iter().find(of_this).is_some_and(|record| is_delivery(&record.event))
}

/// Whether this client is told nothing of the room after this delivery.
pub fn is_last(log: &[Record], at: usize) -> bool {
    let told = |event: &Event| match event {
        Event::Delivered { room, .. } | Event::Joined { room, .. } => Some(room.clone()),
        _ => None,
    };
    let room = told(&log[at].event);
    !log[at + 1..].iter().any(|record| record.client == log[at].client && told(&record.event) == room)
}

pub fn followed_at_once(log: &[Record], at: usize) -> bool {
    let Some(_) = log.get(at + 1) else { return false };
    let next = (delivery(&log[at].event), delivery(&log[at + 1].event));
    matches!(next, (Some((room, seq)), Some((of, then))) if room == of && then == seq + 1)
        && log[at].client == log[at + 1].client
}

impl Log<'_> {
    pub fn any(&mut self, wanted: impl Fn(&[Record], usize) -> bool) -> Option<usize> {
        let places: Vec<usize> = (0..self.records.len()).filter(|at| wanted(self.records, *at)).collect();
        places.choose(&mut self.chance).copied()
    }

    pub fn end(&self) -> u64 {
        self.records.last().unwrap().at
    }

    /// Changes one event of those that let themselves be changed.
    pub fn change(&mut self, change: fn(&mut Event) -> bool) -> bool {
        let Some(at) = self.any(|log, at| change(&mut log[at].event.clone())) else { return false };
        change(&mut self.records[at].event)
    }

    pub fn change_entry(
        &mut self,
        place: fn(&Event) -> bool,
        wanted: fn(&Entry) -> bool,
        change: impl Fn(&mut Entry),
    ) -> bool {
        let fits = |event: &Event| place(event) && entries(&mut event.clone()).iter().any(wanted);
        let Some(at) = self.any(|log, at| fits(&log[at].event)) else { return false };
        entries(&mut self.records[at].event).iter_mut().find(|entry| wanted(entry)).map(change).is_some()
    }

    /// An acknowledgement of something new, and the call.
    pub fn acknowledged(&mut self, wanted: impl Fn(&Said) -> bool) -> Option<(usize, u64)> {
        let sent: BTreeSet<(String, u64)> = self
            .records
            .iter()
            .filter_map(|record| match &record.event {
                Event::Sent { call, said, .. } if wanted(said) => Some((record.client.clone(), *call)),
                _ => None,
            })
            .collect();
        let at = self.any(|log, at| match log[at].event {
            Event::Acknowledged { call, duplicate: false, .. } => sent.contains(&(log[at].client.clone(), call)),
            _ => false,
        })?;
        let Event::Acknowledged { call, .. } = self.records[at].event else { return None };
        Some((at, call))
    }

    /// The same command once more at the end of the log, and the same answer.
    pub fn again(&self, at: usize, call: u64) -> (Record, Record) {
        let of = |record: &&Record| {
            record.client == self.records[at].client
                && matches!(record.event, Event::Sent { call: of, .. } if of == call)
        };
        let (mut again, mut answer) = (self.records.iter().find(of).unwrap().clone(), self.records[at].clone());
        (again.at, answer.at) = (self.end(), self.end());
        for record in [&mut again, &mut answer] {
            if let Event::Sent { call, .. } | Event::Acknowledged { call, .. } = &mut record.event {
                *call += 1_000_000;
            }
        }
        (again, answer)
    }

    /// Copies an entry of a log to its end, in every final history.
    pub fn append_to_logs(&mut self, wanted: fn(&Entry) -> bool) -> bool {
        let fits = |event: &Event| matches!(event, Event::Stored { entry, .. } if wanted(entry));
        let Some(at) = self.any(|log, at| fits(&log[at].event)) else { return false };
        let Event::Stored { room, entry, .. } = self.records[at].event.clone() else { return false };
        let mut at = 0;
        while at < self.records.len() {
            let end = match &mut self.records[at].event {
                Event::Final { room: of, head, source, .. } if *of == room => {
                    *head += 1;
                    Some((*head, source.clone()))
                }
                _ => None,
            };
            if let Some((seq, source)) = end {
                let entry = Entry { seq, ..entry.clone() };
                let record =
                    Record { event: Event::Stored { source, room: room.clone(), entry }, ..self.records[at].clone() };
                self.records.insert(at, record);
                at += 1;
            }
            at += 1;
        }
        true
    }

    /// Of an appended entry: nobody knows this cmid.
    pub fn rename_last(&mut self, cmid: &str) -> bool {
        let cmid = cmid.to_owned();
        self.change_last(|entry| entry.cmid.clone_from(&cmid))
    }

    /// Changes the entries that were appended: the last before the end of each final history that has one too many.
    pub fn change_last(&mut self, change: impl Fn(&mut Entry)) -> bool {
        let delivered = |log: &[Record], room: &str| {
            let numbers = log.iter().filter_map(|record| delivery(&record.event));
            numbers.filter(|(of, _)| *of == room).map(|(_, seq)| seq).max().unwrap_or_default()
        };
        let mut changed = false;
        for at in 1..self.records.len() {
            let Event::Final { room, head, .. } = &self.records[at].event else { continue };
            if *head > delivered(self.records, room) {
                entries(&mut self.records[at - 1].event).iter_mut().for_each(&change);
                changed = true;
            }
        }
        changed
    }

    /// The end of one room's log is missing in the final histories.
    pub fn truncate_logs(&mut self, of: fn(&str) -> bool) -> bool {
        let mut shortened = false;
        let mut at = 1;
        while at < self.records.len() {
            if let Event::Final { room, head, source, .. } = &mut self.records[at].event
                && room == "hall"
                && of(source)
            {
                *head -= 1;
                shortened = true;
                self.records.remove(at - 1);
            }
            at += 1;
        }
        // A note that is lost was acknowledged to nobody.
        shortened
            && self.records.iter().any(|record| matches!(&record.event, Event::Final { .. }))
            && self.last_is_said()
    }

    pub fn last_is_said(&self) -> bool {
        let heads = self.records.iter().filter_map(|record| match &record.event {
            Event::Final { room, head, source, .. } if room == "hall" && source == "database" => Some(*head),
            _ => None,
        });
        let lost = heads.max().unwrap_or_default() + 1;
        let mut seen = self.records.iter().filter_map(|record| match &record.event {
            Event::Delivered { room, entry, .. } if room == "hall" && entry.seq == lost => Some(entry.said.kind),
            _ => None,
        });
        seen.next().is_some_and(|kind| kind != Kind::Note)
    }

    /// Two neighbours of one room change places wherever anybody saw them.
    pub fn exchange(&mut self, pipelined: bool) -> bool {
        let mut plain: Vec<(String, Entry)> = Vec::new();
        for record in self.records.iter() {
            if let Event::Stored { source, room, entry } = &record.event
                && source == "database"
                && entry.said.kind == Kind::Text
                && entry.edits == 0
                && !entry.deleted
            {
                plain.push((room.clone(), entry.clone()));
            }
        }
        let about: BTreeSet<(String, u64)> = self
            .records
            .iter()
            .filter_map(|record| match &record.event {
                Event::Stored { room, entry, .. } => Some((room.clone(), entry.said.target)),
                _ => None,
            })
            .collect();
        plain.retain(|(room, entry)| !about.contains(&(room.clone(), entry.seq)));
        let pairs: Vec<_> = plain
            .windows(2)
            .filter(|pair| pair[0].0 == pair[1].0 && pair[0].1.seq + 1 == pair[1].1.seq)
            .filter(|pair| self.together(&pair[0].1, &pair[1].1) == Some(pipelined))
            .map(|pair| (pair[0].clone(), pair[1].1.clone()))
            .collect();
        let Some(((room, one), other)) = pairs.choose(&mut self.chance).cloned() else { return false };
        self.relabel(&room, &one, &other);
        true
    }

    /// Whether the second was sent before the first was acknowledged, by the same client; `None` when they were retried.
    pub fn together(&self, one: &Entry, other: &Entry) -> Option<bool> {
        let sent = |entry: &Entry| {
            let mut of = self
                .records
                .iter()
                .enumerate()
                .filter(|(_, record)| matches!(&record.event, Event::Sent { cmid, .. } if *cmid == entry.cmid));
            of.next().filter(|_| of.next().is_none())
        };
        let ((first, one), (second, other)) = (sent(one)?, sent(other)?);
        let Event::Sent { call: of, .. } = one.event else { return None };
        let answered = self.records.iter().position(|record| {
            record.client == one.client && matches!(record.event, Event::Acknowledged { call, .. } if call == of)
        })?;
        (first < second).then_some(answered > second && one.client == other.client)
    }

    pub fn relabel(&mut self, room: &str, one: &Entry, other: &Entry) {
        let mut calls = BTreeSet::new();
        let mut rooms = std::collections::BTreeMap::new();
        for record in self.records.iter_mut() {
            match &mut record.event {
                Event::Sent { call, room: of, .. } if of == room => drop(calls.insert((record.client.clone(), *call))),
                Event::Reading { call, room } => drop(rooms.insert((record.client.clone(), *call), room.clone())),
                Event::Acknowledged { call, seq, .. } if calls.contains(&(record.client.clone(), *call)) => {
                    *seq = match *seq {
                        seq if seq == one.seq => other.seq,
                        seq if seq == other.seq => one.seq,
                        seq => seq,
                    };
                }
                Event::Delivered { room: of, .. } | Event::Stored { room: of, .. } if of != room => continue,
                Event::Page { call, .. } if rooms[&(record.client.clone(), *call)] != room => continue,
                _ => {}
            }
            for entry in entries(&mut record.event) {
                match entry.seq {
                    seq if seq == one.seq => *entry = Entry { seq, ..other.clone() },
                    seq if seq == other.seq => *entry = Entry { seq, ..one.clone() },
                    _ => {}
                }
            }
        }
    }

    /// A page to the log's end loses its last entries, and says that nothing follows.
    pub fn stale_page(&mut self, wanted: fn(&str, &Entry) -> bool) -> bool {
        let mut known: std::collections::BTreeMap<(String, u64), usize> = std::collections::BTreeMap::new();
        for (at, record) in self.records.iter().enumerate() {
            if let Event::Reading { call, .. } = record.event {
                known.insert((record.client.clone(), call), at);
            }
        }
        let acknowledged = |log: &[Record], before: usize, client: &str, entry: &Entry| {
            log[..before].iter().any(|record| {
                record.client == client
                    && match &record.event {
                        Event::Acknowledged { seq, .. } => {
                            *seq == entry.seq && entry.author == client.replace('c', "user-")
                        }
                        Event::Delivered { entry: seen, .. } => seen.cmid == entry.cmid,
                        _ => false,
                    }
            })
        };
        let place = self.any(|log, at| match &log[at].event {
            Event::Page { call, page }
                if !page.more_after && page.view == View::Everything && page.entries.len() > 4 =>
            {
                let reader = log[at].client.replace('c', "user-");
                let begun = known[&(log[at].client.clone(), *call)];
                let cut = &page.entries[2..];
                matches!(page.anchor, Anchor::After(_) | Anchor::Before(0))
                    && cut
                        .iter()
                        .any(|entry| wanted(&reader, entry) && acknowledged(log, begun, &log[at].client, entry))
            }
            _ => false,
        });
        let Some(at) = place else { return false };
        if let Event::Page { page, .. } = &mut self.records[at].event {
            page.entries.truncate(2);
        }
        true
    }

    /// Somebody who saw an edited entry is shown it as it was before.
    pub fn forget_edit(&mut self) -> bool {
        let first = |log: &[Record], cmid: &str| {
            log.iter().find_map(|record| match &record.event {
                Event::Sent { cmid: of, said, .. } if of == cmid => Some(*said),
                _ => None,
            })
        };
        let mut pages: Vec<(usize, usize)> = Vec::new();
        for (at, record) in self.records.iter().enumerate() {
            let Event::Page { page, .. } = &record.event else { continue };
            for (row, entry) in page.entries.iter().enumerate().filter(|(_, entry)| entry.edits > 0 && !entry.deleted) {
                let before = self.records[..at].iter().rev().skip(40).any(|earlier| {
                    earlier.client == record.client
                        && entries(&mut earlier.event.clone()).iter().any(|e| e.cmid == entry.cmid && e.edits > 0)
                });
                if before {
                    pages.push((at, row));
                }
            }
        }
        let Some((at, row)) = pages.choose(&mut self.chance).copied() else { return false };
        let Event::Page { page, .. } = &self.records[at].event else { return false };
        let said = first(self.records, &page.entries[row].cmid).unwrap();
        if let Event::Page { page, .. } = &mut self.records[at].event {
            page.entries[row].edits = 0;
            page.entries[row].said = said;
        }
        true
    }

    /// Two seconds after this eviction the client is given another entry.
    pub fn deliver_after(&mut self, at: usize) -> bool {
        let (Event::Evicted { room }, client) = (self.records[at].event.clone(), self.records[at].client.clone())
        else {
            return false;
        };
        let due = self.records[at].at + 2_000_000;
        let place = self.records.partition_point(|record| record.at < due);
        let back = self.records[at..place].iter().any(|record| {
            record.client == client
                && matches!(&record.event, Event::Joined { .. } | Event::Lost | Event::Connected { .. })
        });
        let other = self.records[place..].iter().find_map(|record| match &record.event {
            Event::Delivered { room: of, entry, .. } if *of == room => Some(entry.clone()),
            _ => None,
        });
        let Some(entry) = other.filter(|_| !back) else { return false };
        let event = Event::Delivered { room, entry, loose: true };
        self.records.insert(place, Record { at: due, client, event });
        self.chance.random::<u8>();
        true
    }

    /// Somebody who said something in passing in the hall.
    pub fn volatile(&mut self, wanted: fn(Volatile) -> bool) -> Option<(String, Volatile)> {
        let at = self.any(|log, at| matches!(&log[at].event, Event::SaidVolatile { what, .. } if wanted(*what)))?;
        let Event::SaidVolatile { what, room } = self.records[at].event.clone() else { return None };
        // Appended entries go to a log chosen by chance: say it in both.
        let mut other = self.records[at].clone();
        other.event = Event::SaidVolatile { what, room: if room == "hall" { "yard".into() } else { "hall".into() } };
        let user = self.records[at].client.replace('c', "user-");
        self.records.insert(at, other);
        Some((user, what))
    }
}
