//! Commands that make an entry: each is sent again under its cmid until it has an answer.

use veza_history::{Event as Told, Said, is_definite};
use veza_proto::v1::{Error, ErrorCode, Published, client_frame::Command};

use super::{Client, Reach, Waiting};
use crate::stage::{Alarm, Event, MS};

#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) room: String,
    pub(super) cmid: String,
    pub(super) command: Command,
    pub(super) said: Said,
    /// It waits for an answer on this link.
    pub(super) sent: bool,
    pub(super) not_before: u64,
    pub(super) tries: u32,
}

impl Client {
    /// Puts something into the outbox, under a fresh cmid.
    pub(super) fn say(
        &mut self,
        room: &str,
        said: Said,
        command: impl FnOnce(String) -> Command,
        reach: &mut Reach<'_>,
    ) {
        self.cmids += 1;
        let cmid = format!("{}-{}", self.name, self.cmids);
        let command = command(cmid.clone());
        let outgoing = Outgoing { room: room.to_owned(), cmid, command, said, sent: false, not_before: 0, tries: 0 };
        self.outbox.push_back(outgoing);
        self.flush(reach);
    }

    /// Sends what waits, in its order.
    pub(super) fn flush(&mut self, reach: &mut Reach<'_>) {
        if !self.welcome {
            return;
        }
        let places = &self.places;
        // Who is out of a room says nothing there any more; what was sent before stays open.
        self.outbox.retain(|outgoing| outgoing.sent || places.get(&outgoing.room).is_some_and(|place| place.wanted));
        let now = reach.stage.now;
        for at in 0..self.outbox.len() {
            let outgoing = &mut self.outbox[at];
            let here = self.places.get(&outgoing.room).is_some_and(|place| place.joins > 0 || place.asking.is_some());
            if outgoing.sent || outgoing.not_before > now || !here {
                continue;
            }
            (outgoing.sent, outgoing.tries) = (true, outgoing.tries + 1);
            let outgoing = outgoing.clone();
            self.send_out(&outgoing, reach);
        }
    }

    /// Says again what was acknowledged, word for word or otherwise.
    pub(super) fn say_again(&mut self, otherwise: Option<(Said, Command)>, at: usize, reach: &mut Reach<'_>) {
        let Some(mut outgoing) = self.done.get(at).cloned() else { return };
        if !self.places.get(&outgoing.room).is_some_and(|place| place.wanted && place.log.settled) {
            return;
        }
        if let Some((said, command)) = otherwise {
            (outgoing.said, outgoing.command) = (said, command);
        }
        self.send_out(&outgoing, reach);
    }

    pub(super) fn published(&mut self, cmid: &str, call: u64, published: &Published, reach: &mut Reach<'_>) {
        let Published { epoch, seq, duplicate, .. } = *published;
        self.tell(Told::Acknowledged { call, epoch, seq, duplicate }, reach.stage);
        if let Some(at) = self.outbox.iter().position(|outgoing| outgoing.cmid == cmid && outgoing.sent) {
            self.done.extend(self.outbox.remove(at));
        }
    }

    pub(super) fn refused(&mut self, cmid: &str, call: u64, error: &Error, reach: &mut Reach<'_>) {
        let told = if is_definite(error.code()) {
            Told::Refused { call, code: error.code().as_str_name().to_owned() }
        } else {
            Told::Unknown { call }
        };
        self.tell(told, reach.stage);
        let Some(at) = self.outbox.iter().position(|outgoing| outgoing.cmid == cmid && outgoing.sent) else { return };
        let outgoing = &mut self.outbox[at];
        let patient = error.code() == ErrorCode::Unavailable || outgoing.tries < 4;
        if error.temporary && patient {
            let wait = u64::from(error.retry_after_ms).min(1_500) * MS;
            let wait = if error.code() == ErrorCode::Unavailable { 300 * MS } else { wait };
            outgoing.sent = false;
            outgoing.not_before = reach.stage.now + wait;
            reach.stage.after(wait, Event::Alarm(self.no, Alarm::Resend));
        } else {
            self.outbox.remove(at);
        }
    }

    fn send_out(&mut self, outgoing: &Outgoing, reach: &mut Reach<'_>) {
        let (call, room, cmid) = (reach.stage.journal.call(), outgoing.room.clone(), outgoing.cmid.clone());
        self.tell(Told::Sent { call, room, cmid: cmid.clone(), said: outgoing.said }, reach.stage);
        self.send(outgoing.command.clone(), Waiting::Say { cmid, call }, reach);
    }
}
