//! What a client decides to do next, and what it remembers for that.

use std::collections::VecDeque;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use veza_client::proto::v1::client_frame::Command;
use veza_client::proto::v1::{DeleteMessage, EditMessage, Pin, Publish, React};
use veza_history::Said;

/// Own messages of a room that can be edited or deleted.
const MINE_MAX: usize = 64;
const EMOJI: [&str; 5] = ["🎧", "🔥", "👏", ":veza:", "❤️"];

/// Something that makes an entry, to be sent until its outcome is known.
#[derive(Debug, Clone)]
pub(super) struct Deed {
    pub(super) room: usize,
    pub(super) cmid: String,
    pub(super) said: Said,
    pub(super) command: Command,
    /// With what is acknowledged to be done: nothing, when the answer to an older cmid is a conflict.
    pub(super) conflict: bool,
}

/// What a client knows of one room.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) room: String,
    pub(super) owner: bool,
    /// Its own messages that it has not deleted, with their cmids.
    mine: VecDeque<(u64, String)>,
    /// The last that it deleted.
    gone: Option<u64>,
    /// The last message it saw.
    seen: u64,
    /// The last message it saw that may begin a thread.
    root: u64,
}

impl Memory {
    pub(super) fn new(room: String, owner: bool) -> Self {
        Self { room, owner, ..Self::default() }
    }

    pub(super) fn saw(&mut self, seq: u64, in_room: bool) {
        self.seen = self.seen.max(seq);
        if in_room {
            self.root = self.root.max(seq);
        }
    }

    /// One of its own messages was stored.
    pub(super) fn stored(&mut self, seq: u64, cmid: &str) {
        self.mine.push_back((seq, cmid.to_owned()));
        if self.mine.len() > MINE_MAX {
            self.mine.pop_front();
        }
    }
}

/// Names what one client does.
#[derive(Debug)]
pub(super) struct Author {
    pub(super) user: String,
    pub(super) chance: StdRng,
    made: u64,
}

impl Author {
    pub(super) fn new(user: String, chance: StdRng) -> Self {
        Self { user, chance, made: 0 }
    }

    /// The next thing to do in this room.
    pub(super) fn choose(&mut self, at: usize, memory: &mut Memory) -> Deed {
        match self.chance.random_range(0..100) {
            0..10 => self.edit(at, memory),
            10..15 => self.delete(at, memory),
            15..27 => self.react(at, memory),
            27..29 => self.pin(at, memory),
            29..30 => self.conflict(at, memory),
            _ => None,
        }
        .unwrap_or_else(|| self.publish(at, memory))
    }

    pub(super) fn publish(&mut self, at: usize, memory: &Memory) -> Deed {
        let thread = if self.chance.random_bool(0.1) { memory.root } else { 0 };
        let body = self.body();
        let said = Said::text(&body, thread);
        let (room, cmid) = (memory.room.clone(), self.cmid());
        let command = Command::Publish(Publish { room, cmid: cmid.clone(), body, thread, ..Publish::default() });
        Deed { room: at, cmid, said, command, conflict: false }
    }

    fn edit(&mut self, at: usize, memory: &Memory) -> Option<Deed> {
        let seq = self.one_of(&memory.mine)?.0;
        let body = self.body();
        let said = Said::edit(seq, &body);
        let (room, cmid) = (memory.room.clone(), self.cmid());
        let command =
            Command::EditMessage(EditMessage { room, cmid: cmid.clone(), seq, body, ..EditMessage::default() });
        Some(Deed { room: at, cmid, said, command, conflict: false })
    }

    /// Now and then what is deleted already: the answer names the entry that did it.
    fn delete(&mut self, at: usize, memory: &mut Memory) -> Option<Deed> {
        let again = memory.gone.filter(|_| self.chance.random_bool(0.2));
        let seq = match again {
            Some(seq) => seq,
            None => {
                let seq = self.one_of(&memory.mine)?.0;
                memory.mine.retain(|(mine, _)| *mine != seq);
                memory.gone = Some(seq);
                seq
            }
        };
        let (room, cmid) = (memory.room.clone(), self.cmid());
        let command =
            Command::DeleteMessage(DeleteMessage { room, cmid: cmid.clone(), seq, ..DeleteMessage::default() });
        Some(Deed { room: at, cmid, said: Said::deletion(seq), command, conflict: false })
    }

    fn react(&mut self, at: usize, memory: &Memory) -> Option<Deed> {
        let seq = Some(memory.seen).filter(|seq| *seq > 0)?;
        let emoji = (*EMOJI.choose(&mut self.chance)?).to_owned();
        let remove = self.chance.random_bool(0.3);
        let said = Said::reaction(seq, &emoji, remove);
        let (room, cmid) = (memory.room.clone(), self.cmid());
        let command = Command::React(React { room, cmid: cmid.clone(), seq, emoji, remove });
        Some(Deed { room: at, cmid, said, command, conflict: false })
    }

    fn pin(&mut self, at: usize, memory: &Memory) -> Option<Deed> {
        let seq = Some(memory.root).filter(|seq| *seq > 0 && memory.owner)?;
        let remove = self.chance.random_bool(0.5);
        let (room, cmid) = (memory.room.clone(), self.cmid());
        let command = Command::Pin(Pin { room, cmid: cmid.clone(), seq, remove });
        Some(Deed { room: at, cmid, said: Said::pin(seq, remove), command, conflict: false })
    }

    /// Other content under a cmid that is taken.
    fn conflict(&mut self, at: usize, memory: &Memory) -> Option<Deed> {
        let cmid = self.one_of(&memory.mine)?.1.clone();
        let body = self.body();
        let said = Said::text(&body, 0);
        let room = memory.room.clone();
        let command = Command::Publish(Publish { room, cmid: cmid.clone(), body, ..Publish::default() });
        Some(Deed { room: at, cmid, said, command, conflict: true })
    }

    fn one_of<'a>(&mut self, mine: &'a VecDeque<(u64, String)>) -> Option<&'a (u64, String)> {
        if mine.is_empty() { None } else { mine.get(self.chance.random_range(0..mine.len())) }
    }

    /// No two bodies of a run are the same: whoever shows one shows whose it is.
    fn body(&mut self) -> String {
        self.made += 1;
        let filling = "·".repeat(self.chance.random_range(0..40));
        format!("{} says {} {filling}", self.user, self.made)
    }

    fn cmid(&mut self) -> String {
        self.made += 1;
        format!("{}-{}", self.user, self.made)
    }
}
