//! The modelled database: the ledger with everything at hand, group commit, and what can go wrong with it.

mod read;

use std::collections::{BTreeMap, VecDeque};

use veza_engine::ledger::{EntryRow, Ledger, Needs, Write, Written};
use veza_engine::{SessionKey, Ticket};
use veza_proto::v1::Message;
use veza_proto::{Cmid, RoomId, UserId};

use crate::NODES;
use crate::reference::Reference;
use crate::stage::{Event, Life, MS, NodeNo, Sabotage, Stage};

/// Writes of one transaction.
const BATCH_MAX: usize = 16;
/// Writes of one node that may wait.
const QUEUED_MAX: usize = 64;

/// Who waits for a write.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// A session's ask.
    Ask { session: SessionKey, user: UserId, ticket: Ticket, write: Write },
    /// A room's append.
    Append { session: SessionKey, ticket: Ticket, room: RoomId, cmid: Cmid },
    /// No session: the room hears of it alone.
    Room { room: RoomId },
}

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) ledger: Ledger,
    pub(crate) reference: Reference,
    queues: [Queue; NODES],
    /// Nothing is answered before this.
    pub(crate) down_until: u64,
    /// Commits take long before this.
    pub(crate) slow_until: u64,
    pub(crate) commits: u64,
    /// Counts attempts, for the sabotage that keeps them apart.
    attempts: u64,
    /// What was said, for the sabotage that keeps it.
    said: BTreeMap<(RoomId, u64), String>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Write, Reply)>,
    under_way: Vec<(Write, Reply)>,
}

/// What becomes of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Committed,
    NothingWritten,
    /// Committed, and the answer is lost.
    AnswerLost,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            ledger: Ledger::default(),
            reference: Reference::default(),
            queues: std::array::from_fn(|_| Queue::default()),
            down_until: 0,
            slow_until: 0,
            commits: 0,
            attempts: 0,
            said: BTreeMap::new(),
        }
    }

    /// Takes a write; `false` when too many wait.
    pub(crate) fn submit(&mut self, life: Life, mut write: Write, reply: Reply, stage: &mut Stage) -> bool {
        if self.queues[life.node].waiting.len() >= QUEUED_MAX {
            return false;
        }
        let reply = self.sabotage(life, &mut write, reply, stage);
        let queue = &mut self.queues[life.node];
        queue.waiting.push_back((write, reply));
        if queue.under_way.is_empty() {
            self.begin(life, stage);
        }
        true
    }

    fn begin(&mut self, life: Life, stage: &mut Stage) {
        let queue = &mut self.queues[life.node];
        let count = queue.waiting.len().min(BATCH_MAX);
        queue.under_way = queue.waiting.drain(..count).collect();
        if count > 0 {
            let most = if stage.now < self.slow_until { 400 * MS } else { 4 * MS };
            stage.soon(MS / 2, most, Event::Commit(life));
        }
    }

    /// A transaction ends, in one way or another.
    pub(crate) fn commit(&mut self, life: Life, stage: &mut Stage) -> Result<(), String> {
        let fate = self.fate(stage);
        let batch = std::mem::take(&mut self.queues[life.node].under_way);
        let answers = self.carry_out(batch, fate, stage)?;
        let delay = stage.chance.between(50, 2 * MS);
        for (reply, written) in answers {
            stage.after(delay, Event::Written { life, reply: Box::new(reply), written: written.map(Box::new) });
        }
        self.begin(life, stage);
        Ok(())
    }

    /// The node is gone: its transaction was committed or was not, and nobody hears of it.
    pub(crate) fn crash(&mut self, node: NodeNo, stage: &mut Stage) -> Result<(), String> {
        let queue = std::mem::take(&mut self.queues[node]);
        let fate = if stage.chance.per_mille(500) { Fate::Committed } else { Fate::NothingWritten };
        self.carry_out(queue.under_way, fate, stage).map(drop)
    }

    fn fate(&self, stage: &mut Stage) -> Fate {
        if stage.now < self.down_until {
            return if stage.chance.per_mille(150) { Fate::AnswerLost } else { Fate::NothingWritten };
        }
        match stage.chance.below(1_000) {
            _ if stage.calm => Fate::Committed,
            0..=4 => Fate::NothingWritten,
            5..=9 => Fate::AnswerLost,
            _ => Fate::Committed,
        }
    }

    fn carry_out(
        &mut self,
        mut batch: Vec<(Write, Reply)>,
        fate: Fate,
        stage: &mut Stage,
    ) -> Result<Vec<(Reply, Option<Written>)>, String> {
        if fate == Fate::NothingWritten {
            return Ok(batch.into_iter().map(|(_, reply)| (reply, None)).collect());
        }
        if stage.sabotaged(Sabotage::Reordered) {
            batch.reverse();
        }
        let writes: Vec<Write> = batch.iter().map(|(write, _)| write.clone()).collect();
        let by_needs = self.by_needs(&writes);
        let mut answers = Vec::with_capacity(batch.len());
        for ((write, reply), needed) in batch.into_iter().zip(by_needs) {
            let written = self.ledger.apply(&write);
            self.commits += 1;
            if let Written::Appended(entry) = &written
                && stage.sabotaged(Sabotage::NoTombstone)
            {
                self.said.insert((entry.room.clone(), entry.seq), entry.body.clone());
            }
            if written != needed {
                return Err(format!("{write:?}: with the rows of its needs {needed:?}, with all rows {written:?}"));
            }
            if stage.sabotage.is_none() {
                let expected = self.reference.apply(&write);
                if !expected.agrees(&written) {
                    return Err(format!("{write:?}: the naive room says {expected:?}, the ledger {written:?}"));
                }
            }
            answers.push((reply, Some(written)));
        }
        self.ledger.settle();
        if stage.sabotage.is_none() {
            for write in &writes {
                self.reference.compare(write.room(), &self.ledger)?;
            }
        }
        if fate == Fate::AnswerLost {
            answers.iter_mut().for_each(|(_, written)| *written = None);
        }
        Ok(answers)
    }

    /// What the batch comes to when only the rows are at hand that a database would load for it.
    fn by_needs(&self, batch: &[Write]) -> Vec<Written> {
        let mut ledger = self.loaded(&Needs::of(batch));
        batch.iter().map(|write| ledger.apply(write)).collect()
    }

    /// A ledger with the rows that `needs` names, as a database loads them.
    fn loaded(&self, needs: &Needs) -> Ledger {
        let (all, mut ledger) = (&self.ledger, Ledger::default());
        for room in &needs.rooms {
            all.rooms.get(room).into_iter().for_each(|row| ledger.rooms.load(room.clone(), row.clone()));
        }
        for key in &needs.members {
            all.members.get(key).into_iter().for_each(|row| ledger.members.load(key.clone(), row.clone()));
        }
        let mut entries = needs.entries.clone();
        for key in &needs.sent {
            if let Some(seq) = all.sent.get(key) {
                ledger.sent.load(key.clone(), *seq);
                entries.insert((key.0.clone(), *seq));
            }
        }
        for key in &entries {
            all.entries.get(key).into_iter().for_each(|row| ledger.entries.load(key.clone(), row.clone()));
        }
        for key in &needs.reactions {
            all.reactions.get(key).into_iter().for_each(|row| ledger.reactions.load(key.clone(), *row));
        }
        for (room, seq) in &needs.totals {
            let (first, last) = ((room.clone(), *seq, String::new()), (room.clone(), *seq + 1, String::new()));
            all.totals.range(first, last).for_each(|(key, count)| ledger.totals.load(key.clone(), *count));
        }
        for room in &needs.pins {
            let (first, last) = ((room.clone(), 0), (room.clone(), u64::MAX));
            all.pins.range(first, last).for_each(|(key, row)| ledger.pins.load(key.clone(), *row));
        }
        for key in &needs.invites {
            all.invites.get(key).into_iter().for_each(|row| ledger.invites.load(key.clone(), row.clone()));
        }
        ledger
    }

    /// What is done wrong when a write is handed over, and who is still to hear of it.
    fn sabotage(&mut self, life: Life, write: &mut Write, reply: Reply, stage: &mut Stage) -> Reply {
        let Write::Append { room, cmid, .. } = write else { return reply };
        let room = room.clone();
        match stage.sabotage {
            Some(Sabotage::NoDedup) => {
                self.attempts += 1;
                *cmid = Cmid::parse(&format!("{cmid}~{}", self.attempts)).expect("short enough");
            }
            Some(by @ (Sabotage::AckBeforeCommit | Sabotage::FanOutBeforeCommit)) => {
                let mut guess = self.ledger.clone();
                let waiting = self.queues[life.node].under_way.iter().chain(&self.queues[life.node].waiting);
                waiting.for_each(|(write, _)| drop(guess.apply(write)));
                let written = guess.apply(write);
                if matches!(written, Written::Appended(_)) {
                    let nobody = Reply::Room { room };
                    let (early, late) = if by == Sabotage::AckBeforeCommit { (reply, nobody) } else { (nobody, reply) };
                    let (reply, written) = (Box::new(early), Some(Box::new(written)));
                    stage.after(MS / 10, Event::Written { life, reply, written });
                    return late;
                }
            }
            Some(Sabotage::NoTombstone | Sabotage::Reordered | Sabotage::NoEviction | Sabotage::SilentBus) | None => {}
        }
        reply
    }

    /// An entry as it was said.
    pub(crate) fn live(&self, entry: &EntryRow) -> Message {
        plain_cmid(entry.to_live())
    }
}

/// Without the mark that keeps attempts apart.
fn plain_cmid(mut message: Message) -> Message {
    if let Some((cmid, _)) = message.cmid.split_once('~') {
        message.cmid = cmid.to_owned();
    }
    message
}
