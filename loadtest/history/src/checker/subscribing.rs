//! What a subscription is given: density (I2), resume (I10), authority (I11), and no content after its deletion (I9).

use super::State;
use super::client::Subscription;
use super::log::{How, Moment, Sighting, tell_time};
use super::names::Name;
use crate::record::{Cursor, Entry, Kind, Verdict};
use crate::report::Invariant::{I2, I7, I9, I10, I11};

/// A subscription as the log tells of its beginning.
pub(super) struct Beginning {
    pub(super) epoch: u64,
    pub(super) head: u64,
    pub(super) asked: u64,
    pub(super) cursor: Option<Cursor>,
    pub(super) verdict: Verdict,
}

impl State {
    pub(super) fn joined(&mut self, now: Moment, room: Name, begins: &Beginning) {
        let Beginning { epoch, head, asked, cursor, verdict } = *begins;
        let Self { names, clients, findings, report, .. } = self;
        let client = &mut clients[now.client as usize];
        report.counts.joins += 1;
        let who = format!("{} in {} at {}", names.text(client.name), names.text(room), tell_time(now.at));
        if let Some(cursor) = cursor {
            report.counts.resumes += 1;
            let complaint = complaint(cursor, epoch, head, verdict);
            findings.judge(I10, complaint.is_none(), || format!("{who}: {}", complaint.unwrap_or_default()));
        }
        let place = client.places.entry(room).or_default();
        if place.epoch == epoch && place.known_at < asked {
            findings.judge(I7, head >= place.known, || {
                format!("{who} joins and is told the head {head}, having seen #{} before it asked", place.known)
            });
        }
        place.know(epoch, head, now.at);
        let recovered = matches!(verdict, Verdict::Recovered { .. });
        let last = match cursor {
            Some(cursor) if recovered => cursor.last,
            Some(_) | None => head,
        };
        if !recovered && cursor.is_some() {
            report.counts.gaps += 1;
        }
        match (place.base, cursor) {
            (None, _) => place.base = Some(last),
            // What lies between belongs to nobody: the verdict said that it will not follow, or nothing was asked for.
            (Some(_), Some(cursor)) => drop(place.excused.add(cursor.last + 1, last)),
            (Some(base), None) => drop(place.excused.add(base + 1, last)),
        }
        place.ended = None;
        place.subscription = Some(Subscription {
            epoch,
            next: Some(last + 1),
            recovering: recovered,
            replay_to: if recovered { head } else { 0 },
            asked,
            since: now,
        });
    }

    pub(super) fn delivered(&mut self, now: Moment, room: Name, entry: &Entry, loose: bool) {
        self.report.counts.deliveries += 1;
        let client = &self.clients[now.client as usize];
        let by = Sighting { who: client.name, how: How::Delivery, at: now.at };
        self.see(room, entry, by);
        self.judge_authority(now, room, entry.seq);

        let Self { names, clients, rooms, findings, .. } = self;
        let client = &mut clients[now.client as usize];
        let place = client.places.entry(room).or_default();
        let tell = |what: &str| {
            let (who, room) = (names.text(client.name), names.text(room));
            format!("{who} in {room} at {}: #{} is delivered {what}", tell_time(now.at), entry.seq)
        };
        if let Some(subscription) = &mut place.subscription
            && !loose
        {
            let invariant = if subscription.recovering { I10 } else { I2 };
            let expected = subscription.next.is_none_or(|next| next == entry.seq);
            findings.judge(invariant, expected && subscription.epoch == entry.epoch, || {
                let next = subscription.next.unwrap_or_default();
                tell(&format!("(epoch {}) where #{next} of epoch {} comes next", entry.epoch, subscription.epoch))
            });
            subscription.next = Some(entry.seq + 1);
            subscription.recovering = false;
        }
        if !loose {
            let blank = entry.said.content.is_none();
            let target = deletable(entry);
            if let Some(deletion) = place.told.get(&target).filter(|_| entry.epoch == place.epoch) {
                findings.judge(I9, blank, || {
                    tell(&format!("with content, and its deletion was delivered at {}", tell_time(deletion.at)))
                });
            }
            // A replay reads what stands in the store after the join was asked for.
            let replayed = place.subscription.filter(|subscription| entry.seq <= subscription.replay_to);
            let deletion = rooms.get(&(room, entry.epoch)).and_then(|log| log.deletions.get(&target));
            if let (Some(replay), Some(deletion)) = (replayed, deletion)
                && deletion.at < replay.asked
            {
                findings.judge(I9, blank, || {
                    let since = tell_time(replay.asked);
                    tell(&format!(
                        "with content in a replay asked for at {since}; its deletion was acknowledged at {}",
                        tell_time(deletion.at)
                    ))
                });
            }
        }
        place.hold(entry.epoch, entry.seq, entry.seq, now.at);
        if entry.epoch == place.epoch {
            place.learn(entry, now);
            if entry.said.kind == Kind::Deletion {
                place.told.entry(entry.said.target).or_insert(now);
            }
        }
    }

    /// Whether this client may be told of the room now.
    fn judge_authority(&mut self, now: Moment, room: Name, seq: u64) {
        let Self { names, clients, findings, removed, revoked, grace, .. } = self;
        let client = &mut clients[now.client as usize];
        let (who, link) = (client.name, client.connected);
        let place = client.places.entry(room).or_default();
        let tell = |why: &str, at: u64| {
            let (who, room, when) = (names.text(who), names.text(room), tell_time(now.at));
            format!("{who} is given #{seq} of {room} at {when}; {why} at {}", tell_time(at))
        };
        match (&place.subscription, place.ended) {
            (Some(subscription), _) => {
                let removal = client.user.and_then(|user| removed.get(&(room, user)));
                if let Some(removal) = removal.filter(|removal| subscription.since.at < removal.asked) {
                    findings.judge(I11, now.at <= removal.at + grace.removal_us, || {
                        tell("the removal of its user was acknowledged", removal.at)
                    });
                }
            }
            (None, Some(ended)) => {
                findings.judge(I11, now.at <= ended + grace.removal_us, || tell("its subscription was ended", ended));
            }
            (None, None) => findings.judge(I2, false, || tell("it has no subscription there", now.at)),
        }
        let revocation = client.user.and_then(|user| revoked.get(&user));
        if let Some(revocation) = revocation.filter(|revocation| link < revocation.asked) {
            findings.judge(I11, now.at <= revocation.at + grace.removal_us, || {
                tell("its user's tokens were revoked", revocation.at)
            });
        }
    }
}

/// The entry whose deletion takes this one's content: itself, or what it edits.
pub(super) fn deletable(entry: &Entry) -> u64 {
    match entry.said.kind {
        Kind::Edit => entry.said.target,
        Kind::Text => entry.seq,
        // Their content is no text and stays.
        Kind::Deletion | Kind::Reaction | Kind::Pin | Kind::Note => 0,
    }
}

/// What is wrong with an answer to a cursor.
fn complaint(cursor: Cursor, epoch: u64, head: u64, verdict: Verdict) -> Option<String> {
    let Cursor { epoch: of, last } = cursor;
    let told = format!("a cursor at #{last} of epoch {of} in a log of epoch {epoch} up to #{head} is answered with");
    let right = match verdict {
        Verdict::Live => false,
        Verdict::Recovered { entries } => of == epoch && last <= head && entries == head - last,
        Verdict::HistoryExpired { first_available } => of == epoch && last < head && first_available > last + 1,
        Verdict::EpochChanged { .. } => of != epoch,
        Verdict::CursorAhead { .. } => of == epoch && last > head,
        Verdict::TooFarBehind { .. } => of == epoch && last < head,
    };
    (!right).then(|| format!("{told} {verdict:?}"))
}
