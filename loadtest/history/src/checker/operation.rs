use std::collections::HashMap;

use super::names::Name;
use crate::record::Said;

/// What one author said under one cmid, over all its retries.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) room: Name,
    pub(super) author: Name,
    pub(super) cmid: Name,
    /// When it was sent first.
    pub(super) sent: u64,
    /// By epoch: the highest number acknowledged in the room before it was sent.
    pub(super) floor: Option<(u64, u64)>,
    /// What was said; more than one when the cmid was used for other content.
    pub(super) variants: Vec<Variant>,
    pub(super) acks: Vec<Ack>,
    /// It was called a conflict.
    pub(super) conflicts: u32,
}

#[derive(Debug)]
pub(super) struct Variant {
    pub(super) said: Said,
    pub(super) attempts: u32,
    pub(super) refused: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Ack {
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) at: u64,
    pub(super) variant: u32,
    pub(super) duplicate: bool,
}

/// All operations, in the order in which they were first sent.
#[derive(Debug, Default)]
pub(super) struct Operations {
    pub(super) all: Vec<Operation>,
    by_cmid: HashMap<(Name, Name, Name), u32>,
}

impl Operation {
    pub(super) fn attempts(&self) -> u32 {
        self.variants.iter().map(|variant| variant.attempts).sum()
    }
}

impl Variant {
    pub(super) fn may_be_stored(&self) -> bool {
        self.refused < self.attempts
    }
}

impl Operations {
    pub(super) fn find(&self, room: Name, author: Name, cmid: Name) -> Option<&Operation> {
        self.by_cmid.get(&(room, author, cmid)).map(|at| &self.all[*at as usize])
    }

    /// One more attempt: the operation's number, its variant's, and whether this is the first.
    pub(super) fn attempt(&mut self, first: Operation, said: Said) -> (u32, u32, bool) {
        let next = u32::try_from(self.all.len()).expect("a log has fewer than four thousand million operations");
        let at = *self.by_cmid.entry((first.room, first.author, first.cmid)).or_insert(next);
        if at == next {
            self.all.push(first);
        }
        let variants = &mut self.all[at as usize].variants;
        let known = variants.iter().position(|variant| variant.said == said);
        let variant = known.unwrap_or_else(|| {
            variants.push(Variant { said, attempts: 0, refused: 0 });
            variants.len() - 1
        });
        variants[variant].attempts += 1;
        (at, u32::try_from(variant).unwrap_or(u32::MAX), at == next)
    }
}
