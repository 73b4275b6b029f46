//! A chat that keeps every promise, played in one thread from a seed, and what its clients write down.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use veza_history::{Anchor, Cursor, Digest, Entry, Event, Kind, Page, Record, Said, Verdict, View, Volatile, digest};

const EPOCH: u64 = 7;
const ROOMS: [&str; 2] = ["hall", "yard"];
const CLIENTS: usize = 5;
const MODERATOR: usize = 0;

/// A whole run's log, in the order of time.
pub fn clean_history(seed: u64, steps: usize) -> Vec<Record> {
    let mut world = World::new(seed);
    for client in 0..CLIENTS {
        world.connect(client);
    }
    for _ in 0..steps {
        world.step();
    }
    world.end();
    world.log
}

struct World {
    chance: StdRng,
    now: u64,
    log: Vec<Record>,
    rooms: Vec<Vec<Stored>>,
    clients: Vec<Client>,
    calls: u64,
}

#[derive(Clone)]
struct Stored {
    author: String,
    cmid: String,
    said: Said,
}

struct Client {
    online: bool,
    rooms: Vec<Place>,
    /// Sent, and nothing is known of it: room, cmid and what.
    open: Vec<(usize, String, Said)>,
    presence: Option<Digest>,
}

#[derive(Default)]
struct Place {
    /// The last entry that was delivered, while subscribed.
    last: Option<u64>,
    /// Where it stood when the link was lost.
    cursor: Option<u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let client = || Client {
            online: false,
            rooms: ROOMS.iter().map(|_| Place::default()).collect(),
            open: Vec::new(),
            presence: None,
        };
        Self {
            chance: StdRng::seed_from_u64(seed),
            now: 1_000,
            log: Vec::new(),
            rooms: vec![Vec::new(); ROOMS.len()],
            clients: std::iter::repeat_with(client).take(CLIENTS).collect(),
            calls: 0,
        }
    }

    fn step(&mut self) {
        let (client, room) = (self.chance.random_range(0..CLIENTS), self.chance.random_range(0..ROOMS.len()));
        if !self.clients[client].online {
            self.connect(client);
        }
        if self.clients[client].rooms[room].last.is_none() {
            self.join(client, room);
        }
        match self.chance.random_range(0..100) {
            0..20 => self.publish(client, room),
            20..26 => self.pipeline(client, room),
            26..34 => self.edit(client, room),
            34..39 => self.delete(client, room),
            39..45 => self.react(client, room),
            45..48 => self.refuse(client, room),
            48..51 => self.lose_answer(client, room),
            51..54 => self.retry(client),
            54..57 => self.conflict(client, room),
            57..63 => self.page(client, room),
            63..66 => self.lag(client, room),
            66..71 => self.reconnect(client),
            71..73 => self.kick(room),
            73..76 => self.volatile(client, room),
            _ => self.deliver(client, room, 5),
        }
    }

    fn end(&mut self) {
        self.tell("", Event::Fault { what: "server".into() });
        self.tell("", Event::Healed { what: "server".into() });
        for client in 0..CLIENTS {
            if !self.clients[client].online {
                self.connect(client);
            }
            while !self.clients[client].open.is_empty() {
                self.retry(client);
            }
        }
        for (client, room) in (0..CLIENTS).flat_map(|client| (0..ROOMS.len()).map(move |room| (client, room))) {
            if self.clients[client].rooms[room].last.is_none() {
                self.join(client, room);
            }
            self.deliver(client, room, usize::MAX);
        }
        for (source, (room, name)) in ["database", "protocol"]
            .into_iter()
            .flat_map(|source| ROOMS.iter().enumerate().map(move |room| (source, room)))
        {
            let head = self.head(room);
            for entry in self.rows(room, 1, head) {
                self.tell("", Event::Stored { source: source.into(), room: (*name).into(), entry });
            }
            let (source, room) = (source.into(), (*name).into());
            self.tell("", Event::Final { source, room, epoch: EPOCH, first_available: 1, head });
        }
    }

    // -------------------------------------------------------------------------------------------------------------
    // What clients do

    fn connect(&mut self, client: usize) {
        self.clients[client].online = true;
        self.tell_of(client, Event::Connected { user: user(client), transport: "quic".into() });
        for room in 0..ROOMS.len() {
            self.join(client, room);
        }
    }

    fn join(&mut self, client: usize, room: usize) {
        let (asked, head) = (self.now, self.head(room));
        let place = &mut self.clients[client].rooms[room];
        let cursor = place.cursor.take();
        let (last, verdict) = match cursor {
            None => (head, Verdict::Live),
            Some(last) if head - last > 40 => (head, Verdict::TooFarBehind { first_available: 1 }),
            Some(last) => (last, Verdict::Recovered { entries: head - last }),
        };
        place.last = Some(last);
        let cursor = cursor.map(|last| Cursor { epoch: EPOCH, last });
        self.tell_of(client, Event::Joined { room: ROOMS[room].into(), epoch: EPOCH, head, asked, cursor, verdict });
        if let Verdict::Recovered { entries } = verdict {
            for entry in self.rows(room, last + 1, last + entries) {
                self.clients[client].rooms[room].last = Some(entry.seq);
                self.tell_of(client, Event::Delivered { room: ROOMS[room].into(), entry, loose: false });
            }
        }
    }

    fn reconnect(&mut self, client: usize) {
        self.clients[client].online = false;
        for place in &mut self.clients[client].rooms {
            place.cursor = place.last.take().or(place.cursor);
        }
        self.tell_of(client, Event::Lost);
        if self.chance.random_bool(0.7) {
            self.connect(client);
        }
    }

    fn publish(&mut self, client: usize, room: usize) {
        let said = self.text(room);
        self.say(client, room, said);
    }

    fn pipeline(&mut self, client: usize, room: usize) {
        let sent: Vec<_> = (0..3)
            .map(|_| {
                let (said, cmid) = (self.text(room), self.cmid());
                let call = self.send(client, room, &cmid, said);
                (call, cmid, said)
            })
            .collect();
        for (call, cmid, said) in sent {
            let seq = self.store(client, room, &cmid, said);
            self.acknowledge(client, call, seq, false);
        }
    }

    fn edit(&mut self, client: usize, room: usize) {
        let author = user(client);
        if let Some(target) = self.alive(room, |stored| stored.author == author) {
            let said = Said::edit(target, &format!("edited {}", self.calls));
            self.say(client, room, said);
        }
    }

    fn delete(&mut self, client: usize, room: usize) {
        let Some(target) = self.alive(room, |_| true) else { return };
        let seq = self.say(client, room, Said::deletion(target));
        if self.chance.random_bool(0.4) {
            // Once more by somebody else: the entry that did it is named.
            let (call, cmid) = (MODERATOR, self.cmid());
            let call = self.send(call, room, &cmid, Said::deletion(target));
            self.acknowledge(MODERATOR, call, seq, true);
        }
    }

    fn react(&mut self, client: usize, room: usize) {
        if let Some(target) = self.alive(room, |_| true) {
            let said = match self.chance.random_range(0..3) {
                0 => Said::pin(target, self.chance.random()),
                _ => Said::reaction(target, "🎧", self.chance.random()),
            };
            self.say(client, room, said);
        }
    }

    fn refuse(&mut self, client: usize, room: usize) {
        let (said, cmid) = (self.text(room), self.cmid());
        let call = self.send(client, room, &cmid, said);
        self.tell_of(client, Event::Refused { call, code: "RATE_LIMITED".into() });
    }

    fn lose_answer(&mut self, client: usize, room: usize) {
        let (said, cmid) = (self.text(room), self.cmid());
        let call = self.send(client, room, &cmid, said);
        if self.chance.random() {
            self.store(client, room, &cmid, said);
        }
        self.tell_of(client, Event::Unknown { call });
        self.clients[client].open.push((room, cmid, said));
    }

    fn retry(&mut self, client: usize) {
        let Some((room, cmid, said)) = self.clients[client].open.pop() else { return };
        let call = self.send(client, room, &cmid, said);
        let author = user(client);
        let known = self.rooms[room].iter().position(|stored| stored.cmid == cmid && stored.author == author);
        let seq = known.map_or_else(|| self.store(client, room, &cmid, said), |at| at as u64 + 1);
        self.acknowledge(client, call, seq, known.is_some());
    }

    fn conflict(&mut self, client: usize, room: usize) {
        let author = user(client);
        let mine = self.rooms[room].iter().filter(|stored| stored.author == author && stored.said.kind == Kind::Text);
        let Some(cmid) = mine.map(|stored| stored.cmid.clone()).next_back() else { return };
        let said = self.text(room);
        let call = self.send(client, room, &cmid, said);
        self.tell_of(client, Event::Refused { call, code: "CMID_CONFLICT".into() });
    }

    fn page(&mut self, client: usize, room: usize) {
        let call = self.call();
        self.tell_of(client, Event::Reading { call, room: ROOMS[room].into() });
        if self.chance.random() {
            // Something happens while it is read.
            self.publish(MODERATOR, room);
        }
        let head = self.head(room);
        let anchor = match self.chance.random_range(0..3) {
            0 => Anchor::Before(0),
            1 => Anchor::Before(self.chance.random_range(1..=head + 1)),
            _ => Anchor::After(self.chance.random_range(0..=head)),
        };
        let (from, to) = match anchor {
            Anchor::Before(before) => {
                let to = if before == 0 { head } else { before - 1 };
                (to.saturating_sub(19).max(1), to)
            }
            Anchor::After(after) => (after + 1, (after + 20).min(head)),
            Anchor::Around(_) | Anchor::Between(..) | Anchor::Nothing => (1, 0),
        };
        let view = if self.chance.random_bool(0.7) { View::Everything } else { View::Room };
        let mut entries = self.rows(room, from, to);
        if view == View::Room {
            entries.retain(|entry| {
                entry.said.kind == Kind::Note || (entry.said.kind == Kind::Text && entry.said.target == 0)
            });
        }
        let page = Page { view, anchor, epoch: EPOCH, head, first_available: 1, more_after: to < head, entries };
        self.tell_of(client, Event::Page { call, page });
    }

    /// The server drops deliveries; the client repairs.
    fn lag(&mut self, client: usize, room: usize) {
        let Some(last) = self.clients[client].rooms[room].last else { return };
        if last == self.head(room) {
            return;
        }
        self.tell_of(client, Event::Lagging { room: ROOMS[room].into(), epoch: EPOCH, last_delivered: last });
        let call = self.call();
        self.tell_of(client, Event::Reading { call, room: ROOMS[room].into() });
        let head = self.head(room);
        let entries = self.rows(room, last + 1, head);
        let (view, anchor) = (View::Everything, Anchor::Between(last, 0));
        let page = Page { view, anchor, epoch: EPOCH, head, first_available: 0, more_after: false, entries };
        self.tell_of(client, Event::Page { call, page });
        self.clients[client].rooms[room].last = Some(head);
    }

    fn kick(&mut self, room: usize) {
        let whom = self.chance.random_range(1..CLIENTS);
        let (asked, cmid) = (self.now, self.cmid());
        self.rooms[room].push(Stored {
            author: user(MODERATOR),
            cmid,
            said: Said { kind: Kind::Note, target: 0, content: Some(digest("kicked")) },
        });
        let place = &mut self.clients[whom].rooms[room];
        let subscribed = place.last.take();
        place.cursor = subscribed.or(place.cursor);
        self.tell_of(MODERATOR, Event::Removed { room: ROOMS[room].into(), user: user(whom), asked });
        if subscribed.is_some() {
            self.tell_of(whom, Event::Evicted { room: ROOMS[room].into() });
        }
        self.now += 3_000_000;
    }

    fn volatile(&mut self, client: usize, room: usize) {
        let what = match self.clients[client].presence {
            Some(_) => Volatile::Typing,
            None => Volatile::Presence(digest(&format!("away {client}"))),
        };
        self.clients[client].presence = Some(digest(""));
        self.tell_of(client, Event::SaidVolatile { room: ROOMS[room].into(), what });
        let hearer = (client + 1) % CLIENTS;
        self.tell_of(hearer, Event::HeardVolatile { room: ROOMS[room].into(), user: user(client), what });
    }

    fn deliver(&mut self, client: usize, room: usize, at_most: usize) {
        let Some(last) = self.clients[client].rooms[room].last else { return };
        let live = self.rooms[room].clone();
        for (seq, stored) in (1..).zip(live).skip(usize::try_from(last).unwrap()).take(at_most) {
            self.clients[client].rooms[room].last = Some(seq);
            let entry = Entry { edits: 0, deleted: false, ..entry(seq, &stored) };
            self.tell_of(client, Event::Delivered { room: ROOMS[room].into(), entry, loose: false });
        }
    }

    // -------------------------------------------------------------------------------------------------------------
    // The server

    fn store(&mut self, client: usize, room: usize, cmid: &str, said: Said) -> u64 {
        self.rooms[room].push(Stored { author: user(client), cmid: cmid.to_owned(), said });
        self.head(room)
    }

    fn head(&self, room: usize) -> u64 {
        self.rooms[room].len() as u64
    }

    /// A text that is not deleted.
    fn alive(&mut self, room: usize, wanted: impl Fn(&Stored) -> bool) -> Option<u64> {
        let (_, deleted) = changes(&self.rooms[room]);
        let alive: Vec<u64> = (1..)
            .zip(&self.rooms[room])
            .filter(|(seq, stored)| stored.said.kind == Kind::Text && !deleted.contains_key(seq) && wanted(stored))
            .map(|(seq, _)| seq)
            .collect();
        alive.choose(&mut self.chance).copied()
    }

    /// Entries as they stand now.
    fn rows(&self, room: usize, from: u64, to: u64) -> Vec<Entry> {
        let (edits, deleted) = changes(&self.rooms[room]);
        let row = |(seq, stored): (u64, &Stored)| {
            let mut row = entry(seq, stored);
            if let Some(made) = edits.get(&seq) {
                row.edits = u32::try_from(made.len()).unwrap();
                row.said.content = made.last().copied();
            }
            row.deleted = deleted.contains_key(&seq);
            if row.deleted || (row.said.kind == Kind::Edit && deleted.contains_key(&row.said.target)) {
                row.said.content = None;
            }
            row
        };
        let numbered = (1..).zip(&self.rooms[room]);
        numbered.filter(|(seq, _)| (from..=to).contains(seq)).map(row).collect()
    }

    // -------------------------------------------------------------------------------------------------------------
    // Writing it down

    fn say(&mut self, client: usize, room: usize, said: Said) -> u64 {
        let cmid = self.cmid();
        let call = self.send(client, room, &cmid, said);
        let seq = self.store(client, room, &cmid, said);
        self.acknowledge(client, call, seq, false);
        seq
    }

    fn send(&mut self, client: usize, room: usize, cmid: &str, said: Said) -> u64 {
        let call = self.call();
        self.tell_of(client, Event::Sent { call, room: ROOMS[room].into(), cmid: cmid.into(), said });
        call
    }

    fn acknowledge(&mut self, client: usize, call: u64, seq: u64, duplicate: bool) {
        self.tell_of(client, Event::Acknowledged { call, epoch: EPOCH, seq, duplicate });
    }

    fn tell_of(&mut self, client: usize, event: Event) {
        self.tell(&format!("c{client}"), event);
    }

    fn tell(&mut self, client: &str, event: Event) {
        self.now += self.chance.random_range(1..2_000);
        self.log.push(Record { at: self.now, client: client.into(), event });
    }

    fn text(&mut self, room: usize) -> Said {
        let thread = if self.chance.random_bool(0.1) { self.head(room).min(1) } else { 0 };
        let thread = if thread == 1 && self.rooms[room][0].said.kind == Kind::Text { thread } else { 0 };
        self.calls += 1;
        Said::text(&format!("text {}", self.calls), thread)
    }

    fn call(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    fn cmid(&mut self) -> String {
        format!("m{}", self.call())
    }
}

fn user(client: usize) -> String {
    format!("user-{client}")
}

fn entry(seq: u64, stored: &Stored) -> Entry {
    let Stored { author, cmid, said } = stored.clone();
    Entry { epoch: EPOCH, seq, cmid, author, said, edits: 0, deleted: false }
}

/// The edits of every entry in their order, and the deleted ones.
fn changes(log: &[Stored]) -> (BTreeMap<u64, Vec<Digest>>, BTreeMap<u64, ()>) {
    let (mut edits, mut deleted) = (BTreeMap::<u64, Vec<Digest>>::new(), BTreeMap::new());
    for Stored { said, .. } in log {
        match said.kind {
            Kind::Edit => edits.entry(said.target).or_default().extend(said.content),
            Kind::Deletion => drop(deleted.insert(said.target, ())),
            Kind::Text | Kind::Reaction | Kind::Pin | Kind::Note => {}
        }
    }
    (edits, deleted)
}
