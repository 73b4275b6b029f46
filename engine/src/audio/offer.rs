//! The ladder that listeners are offered: what the publisher sends, and the rungs below it that are made here while
//! somebody wants them.

use std::time::Duration;

use veza_proto::media::RUNGS_MAX;
use veza_proto::v1::{AudioProfile, PublishedRung};

use super::{Ladder, number};
use crate::Timestamp;

/// A made rung that nobody has wanted for this long is made no more.
pub const UNUSED_MAX: Duration = Duration::from_secs(10);
/// Who was refused asks again after this long.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// A rung is there if one is published whose bit rate differs by less than this, per cent.
const ALIKE: u32 = 20;

/// What a stream's rungs are, best first: bits per second and channels.
const MUSIC: [(u32, u32); 6] = [(128_000, 2), (96_000, 2), (64_000, 2), (48_000, 2), (32_000, 1), (24_000, 1)];
const VOICE: [(u32, u32); 4] = [(32_000, 1), (24_000, 1), (16_000, 1), (12_000, 1)];

/// A stream's rungs, and which of the made ones are being made.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    published: Ladder,
    ladder: Ladder,
    made: Vec<Made>,
}

#[derive(Debug, Clone)]
struct Made {
    rung: PublishedRung,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Running {
        wanted: Timestamp,
    },
    /// Not before that: there was no room for it.
    Refused {
        until: Timestamp,
    },
    /// Not of these frames.
    Impossible,
}

/// What somebody is sent who is to have a certain rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// That rung.
    As(u8),
    /// The nearest one that is published: there is no room to make the other.
    Instead(u8),
}

impl Served {
    pub fn rung(self) -> u8 {
        match self {
            Served::As(rung) | Served::Instead(rung) => rung,
        }
    }
}

impl Offer {
    /// What the publisher sends, and nothing else.
    pub fn published_only(published: Ladder) -> Self {
        Self { ladder: published.clone(), published, made: Vec::new() }
    }

    /// What the publisher sends, and what can be made of it: the rungs of its family that are missing below the best one.
    /// Where numbers are short, the lowest ones have them.
    pub fn new(published: Ladder, profile: AudioProfile) -> Self {
        let Some(best) = published.rungs().first() else { return Self::default() };
        let family = match profile {
            AudioProfile::Music | AudioProfile::Unspecified => &MUSIC[..],
            AudioProfile::Voice => &VOICE[..],
        };
        let is_alike = |rung: &PublishedRung, bits: u32| rung.bits_per_second.abs_diff(bits) * 100 < bits * ALIKE;
        let is_missing =
            |bits: u32| bits < best.bits_per_second && !published.rungs().iter().any(|rung| is_alike(rung, bits));
        let missing = family.iter().rev().filter(|(bits, _)| is_missing(*bits));
        let free = (0..RUNGS_MAX as u8).filter(|number| !published.has(*number));
        let rung = |(&(bits_per_second, channels), number): (&(u32, u32), u8)| PublishedRung {
            rung: number.into(),
            bits_per_second,
            channels: channels.min(best.channels),
        };
        let made: Vec<PublishedRung> = missing.zip(free).map(rung).collect();
        let ladder = published.with_made(&made);
        let made = made.into_iter().map(|rung| Made { rung, state: State::Idle }).collect();
        Self { published, ladder, made }
    }

    /// Everything that is offered, best first.
    pub fn ladder(&self) -> &Ladder {
        &self.ladder
    }

    pub fn published(&self) -> &Ladder {
        &self.published
    }

    /// The rung that others are made of.
    pub fn source(&self) -> Option<&PublishedRung> {
        self.published.rungs().first()
    }

    /// Whether frames of this rung come from here, and not from the publisher.
    pub fn is_running(&self, rung: u8) -> bool {
        self.made.iter().any(|made| number(&made.rung) == rung && matches!(made.state, State::Running { .. }))
    }

    pub fn is_any_running(&self) -> bool {
        self.made.iter().any(|made| matches!(made.state, State::Running { .. }))
    }

    /// Somebody is to have this rung. One that is not being made is, from now on, if `admit` says so; who is told no asks
    /// again in ten seconds.
    pub fn want(&mut self, rung: u8, now: Timestamp, admit: impl FnOnce(PublishedRung) -> bool) -> Served {
        let Some(made) = self.made.iter_mut().find(|made| number(&made.rung) == rung) else { return Served::As(rung) };
        let asks = match made.state {
            State::Running { .. } => {
                made.state = State::Running { wanted: now };
                false
            }
            State::Idle => true,
            State::Refused { until } => until <= now,
            State::Impossible => false,
        };
        if asks {
            let is_admitted = admit(made.rung);
            made.state =
                if is_admitted { State::Running { wanted: now } } else { State::Refused { until: now + ASK_AGAIN } };
        }
        self.served(rung)
    }

    /// Somebody is still sent this rung.
    pub fn keep(&mut self, rung: u8, now: Timestamp) {
        let made = self.made.iter_mut().find(|made| number(&made.rung) == rung);
        if let Some(State::Running { wanted }) = made.map(|made| &mut made.state) {
            *wanted = now;
        }
    }

    /// What somebody is sent who is to have this rung, as things are.
    pub fn served(&self, rung: u8) -> Served {
        let made = self.made.iter().find(|made| number(&made.rung) == rung);
        match made.map(|made| made.state) {
            None | Some(State::Idle | State::Running { .. }) => Served::As(rung),
            Some(State::Refused { .. } | State::Impossible) => Served::Instead(self.nearest_published(rung)),
        }
    }

    /// A rung that is made no more, because nobody has wanted it for long; again until there is none.
    pub fn drop_unused(&mut self, now: Timestamp) -> Option<u8> {
        let is_unused = |made: &&mut Made| match made.state {
            State::Running { wanted } => now.since(wanted) >= UNUSED_MAX,
            State::Idle | State::Refused { .. } | State::Impossible => false,
        };
        let made = self.made.iter_mut().find(is_unused)?;
        made.state = State::Idle;
        Some(number(&made.rung))
    }

    /// What was being made is not, for want of room: who wants it asks again in ten seconds.
    pub fn give_up(&mut self, now: Timestamp) {
        for made in &mut self.made {
            if matches!(made.state, State::Running { .. }) {
                made.state = State::Refused { until: now + ASK_AGAIN };
            }
        }
    }

    /// Nothing can be made of what this publisher sends.
    pub fn is_impossible(&mut self) {
        for made in &mut self.made {
            made.state = State::Impossible;
        }
    }

    /// The next lower one, or the lowest.
    fn nearest_published(&self, rung: u8) -> u8 {
        let bits = self.ladder.bits_of(rung);
        let rungs = self.published.rungs();
        rungs.iter().find(|rung| rung.bits_per_second <= bits).or(rungs.last()).map_or(0, number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + ms)
    }

    fn offer(published: &[(u32, u32, u32)], profile: AudioProfile) -> Offer {
        let rung =
            |&(rung, bits_per_second, channels): &(u32, u32, u32)| PublishedRung { rung, bits_per_second, channels };
        Offer::new(Ladder::parse(published.iter().map(rung).collect()).unwrap(), profile)
    }

    /// Number, kilobits, channels.
    fn told(offer: &Offer) -> Vec<(u32, u32, u32)> {
        let told = |rung: &PublishedRung| (rung.rung, rung.bits_per_second / 1_000, rung.channels);
        offer.ladder().rungs().iter().map(told).collect()
    }

    fn yes(_: PublishedRung) -> bool {
        true
    }

    fn no(_: PublishedRung) -> bool {
        false
    }

    #[test]
    fn missing_rungs_are_offered_below_the_best_one_with_free_numbers() {
        let music = offer(&[(0, 96_000, 2)], AudioProfile::Music);
        assert_eq!(told(&music), [(0, 96, 2), (4, 64, 2), (3, 48, 2), (2, 32, 1), (1, 24, 1)]);
        let simulcast = offer(&[(0, 96_000, 2), (1, 32_000, 1)], AudioProfile::Music);
        assert_eq!(told(&simulcast), [(0, 96, 2), (4, 64, 2), (3, 48, 2), (1, 32, 1), (2, 24, 1)]);
        let voice = offer(&[(5, 24_000, 1)], AudioProfile::Voice);
        assert_eq!(told(&voice), [(5, 24, 1), (1, 16, 1), (0, 12, 1)]);
        let mono = offer(&[(0, 56_000, 1)], AudioProfile::Music);
        assert_eq!(told(&mono), [(0, 56, 1), (2, 32, 1), (1, 24, 1)], "48 would be nearly the same");
        assert_eq!(told(&offer(&[(0, 12_000, 1)], AudioProfile::Voice)), [(0, 12, 1)]);
    }

    #[test]
    fn where_numbers_are_short_the_lowest_rungs_have_them() {
        let four = [(0, 256_000, 2), (1, 240_000, 2), (2, 220_000, 2), (3, 200_000, 2)];
        let music = offer(&four, AudioProfile::Music);
        assert_eq!(told(&music)[4..], [(7, 64, 2), (6, 48, 2), (5, 32, 1), (4, 24, 1)]);
    }

    #[test]
    fn a_rung_is_made_from_the_first_who_wants_it_until_ten_seconds_after_the_last() {
        let mut offer = offer(&[(0, 96_000, 2)], AudioProfile::Music);
        assert_eq!((offer.want(0, at(0), no), offer.is_any_running()), (Served::As(0), false));
        assert_eq!((offer.want(1, at(0), yes), offer.is_running(1)), (Served::As(1), true));
        assert_eq!(offer.want(1, at(5_000), |_| panic!("it is being made")), Served::As(1));
        offer.keep(1, at(6_000));
        assert_eq!(offer.drop_unused(at(15_999)), None);
        assert_eq!((offer.drop_unused(at(16_000)), offer.drop_unused(at(16_000))), (Some(1), None));
        assert!(!offer.is_any_running());
        assert_eq!((offer.want(1, at(16_100), yes), offer.is_running(1)), (Served::As(1), true), "and again");
    }

    #[test]
    fn over_budget_it_is_the_nearest_published_one_and_asked_again_in_ten_seconds() {
        let mut offer = offer(&[(0, 96_000, 2), (1, 32_000, 1)], AudioProfile::Music);
        assert_eq!(offer.want(4, at(0), no), Served::Instead(1), "64: the next lower one");
        assert_eq!(offer.want(2, at(0), no), Served::Instead(1), "24: the lowest one");
        assert_eq!(offer.want(4, at(9_999), |_| panic!("asked too early")), Served::Instead(1));
        assert_eq!(offer.served(4), Served::Instead(1));
        assert_eq!(offer.want(4, at(10_000), yes), Served::As(4));
        offer.give_up(at(11_000));
        assert_eq!((offer.served(4), offer.is_any_running()), (Served::Instead(1), false));
        offer.is_impossible();
        assert_eq!(offer.want(4, at(99_000), |_| panic!("nothing can be made")), Served::Instead(1));
    }

    #[test]
    fn copies_are_made_of_what_is_always_there() {
        let offer = offer(&[(0, 96_000, 2), (1, 56_000, 2)], AudioProfile::Music);
        // 96 and 64 of the lowest published one, what is below is its own.
        let of = |rung| offer.ladder().copy_of(rung);
        assert_eq!(told(&offer), [(0, 96, 2), (1, 56, 2), (3, 32, 1), (2, 24, 1)]);
        assert_eq!([of(0), of(1), of(3), of(2)], [1, 1, 3, 2]);
        let one = super::tests::offer(&[(0, 96_000, 2)], AudioProfile::Music);
        assert_eq!((one.ladder().copy_of(0), one.ladder().copy_of(4)), (0, 4), "never more than the frame itself");
    }
}
