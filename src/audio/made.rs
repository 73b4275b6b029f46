//! The rungs of one stream that are made here: who gets them, and the way of its frames to the threads and back.

use tokio::sync::mpsc;
use veza_engine::Timestamp;
use veza_engine::audio::{GRID, Ladder, Offer, Ready, Ring, Served, number};
use veza_proto::v1::{AudioProfile, PublishedRung};
use veza_sound::feed::SWITCH_EVERY;
use veza_sound::opus::Coding;

use super::pool::{Line, MadeFrames, Pool};
use super::shard::Command;

// Switch points are where listeners look for them.
const _: () = assert!(GRID == SWITCH_EVERY);
/// What an encoder spends on a frame, 0 to 10: what sounds better takes longer.
const COMPLEXITY: u8 = 5;
/// When nothing has come back for so many frames, nothing does: the threads have too much to do.
const BEHIND_MAX: u32 = 15;

/// The rungs of a stream.
pub(super) struct Made {
    handle: u32,
    pool: Pool,
    reply: mpsc::Sender<Command>,
    offer: Offer,
    profile: AudioProfile,
    /// How many ladders there have been.
    generation: u32,
    line: Option<Line>,
    /// The frames that went to the threads last, and came back last.
    fed: Option<u32>,
    came: Option<u32>,
}

impl Made {
    /// What is made comes to `reply`.
    pub(super) fn new(handle: u32, pool: Pool, reply: mpsc::Sender<Command>) -> Self {
        Self {
            handle,
            pool,
            reply,
            offer: Offer::default(),
            profile: AudioProfile::Unspecified,
            generation: 0,
            line: None,
            fed: None,
            came: None,
        }
    }

    pub(super) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// What is published from now on. Whether it is news.
    pub(super) fn publish(&mut self, ladder: Ladder, profile: AudioProfile) -> bool {
        if ladder == *self.offer.published() {
            return false;
        }
        self.stop();
        self.generation = self.generation.wrapping_add(1);
        self.profile = profile;
        self.offer = if self.pool.is_there() { Offer::new(ladder, profile) } else { Offer::published_only(ladder) };
        true
    }

    /// Somebody is to have this rung: what it gets.
    pub(super) fn want(&mut self, rung: u8, now: Timestamp) -> Served {
        let Self { handle, pool, reply, offer, profile, generation, line, fed, came } = self;
        let channels = offer.source().map_or(1, |source| source.channels as usize);
        offer.want(rung, now, |rung: PublishedRung| {
            if line.is_none() {
                (*fed, *came) = (None, None);
                *line = pool.line(*handle, *generation, channels, reply.clone());
            }
            let coding = Coding {
                bits_per_second: rung.bits_per_second,
                channels: rung.channels as usize,
                voice: *profile == AudioProfile::Voice,
                complexity: COMPLEXITY,
            };
            line.as_mut().is_some_and(|line| line.admit(number(&rung), coding))
        })
    }

    /// Somebody is still sent this rung.
    pub(super) fn keep(&mut self, rung: u8, now: Timestamp) {
        self.offer.keep(rung, now);
    }

    /// Makes no more what nobody wants.
    pub(super) fn tick(&mut self, now: Timestamp) {
        while let Some(rung) = self.offer.drop_unused(now) {
            if let Some(line) = &mut self.line {
                line.remove(rung);
            }
        }
        if self.line.as_ref().is_some_and(Line::is_empty) {
            self.line = None;
        }
    }

    /// A frame of the publisher, which others are made of. When those of before do not come back, listeners get what is
    /// published from this one on.
    pub(super) fn feed(&mut self, ready: &Ready, now: Timestamp) {
        let Some(line) = &self.line else { return };
        let Some(source) = self.offer.source() else { return };
        let payload = ready.frames[usize::from(number(source))].as_ref().map(|(payload, _)| payload.clone());
        line.feed(ready.index, payload);
        // Where the publisher left a gap nothing was to come back.
        let gap = self.fed.map_or(0, |fed| ready.index.saturating_sub(fed + 1));
        self.fed = Some(ready.index);
        let came = self.came.get_or_insert(ready.index);
        *came += gap;
        if ready.index.saturating_sub(*came) > BEHIND_MAX {
            self.stop();
            self.offer.give_up(now);
        }
    }

    /// What the threads have made. Whether there is something to send.
    pub(super) fn take(&mut self, made: MadeFrames, ring: &mut Ring) -> bool {
        if made.generation != self.generation || self.line.is_none() {
            return false;
        }
        self.came = self.came.max(Some(made.index));
        if made.is_hopeless {
            tracing::info!(handle = self.handle, "what is published cannot be decoded: no rungs are made of it");
            self.stop();
            self.offer.is_impossible();
            return false;
        }
        for frame in made.frames {
            ring.fill(made.index, frame.rung, frame.payload.into(), frame.switch_point);
        }
        true
    }

    fn stop(&mut self) {
        self.line = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CodecBudget;
    use crate::tasks::Tasks;
    use bytes::Bytes;
    use veza_sound::transcoder::MadeFrame;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn ladder(rung: u32) -> Ladder {
        Ladder::parse(vec![PublishedRung { rung, bits_per_second: 96_000, channels: 2 }]).unwrap()
    }

    fn ready(index: u32) -> Ready {
        let mut ready = Ready { index, level: 9, frames: Default::default() };
        ready.frames[0] = Some((Bytes::from_static(&[0xfc, 0]), false));
        ready
    }

    fn frames(made: &Made, index: u32) -> MadeFrames {
        let frame = MadeFrame { rung: 1, payload: vec![0xfc], switch_point: true };
        let generation = made.generation;
        MadeFrames { handle: 1, generation, index, is_hopeless: false, frames: vec![frame] }
    }

    /// Somebody wants rung 1 of a stream with nothing but 96 kb/s. Nothing comes back of itself: the threads are told, and
    /// the test answers.
    fn story() -> (Made, Ring, mpsc::Receiver<Command>, Tasks) {
        let tasks = Tasks::new();
        let pool = Pool::start(CodecBudget { threads: 1, percent: 100 }, &tasks).unwrap();
        let (reply, replies) = mpsc::channel(1);
        let mut made = Made::new(1, pool, reply);
        assert!(made.publish(ladder(0), AudioProfile::Music) && !made.publish(ladder(0), AudioProfile::Music));
        assert_eq!(made.want(1, NOW), Served::As(1));
        let mut ring = Ring::new(1);
        ring.set_ladder(made.offer().ladder());
        (made, ring, replies, tasks)
    }

    fn send(made: &mut Made, ring: &mut Ring, index: u32) {
        made.feed(&ready(index), NOW);
        ring.push(ready(index));
    }

    #[tokio::test]
    async fn what_was_made_of_another_ladder_is_not_sent() {
        let (mut made, mut ring, _replies, _tasks) = story();
        send(&mut made, &mut ring, 0);
        let before = frames(&made, 0);
        assert!(made.take(frames(&made, 0), &mut ring) && ring.is_switch_point(0, 1));
        made.publish(ladder(3), AudioProfile::Music);
        ring.set_ladder(made.offer().ladder());
        ring.push(ready(0));
        assert!(!made.take(before, &mut ring) && !ring.has(0, 1), "nor is anything made of the new one");
        assert_eq!((made.want(1, NOW), made.offer().is_running(1)), (Served::As(1), true));
    }

    #[tokio::test]
    async fn threads_that_are_behind_are_left_alone_and_a_gap_is_no_delay() {
        let (mut made, mut ring, _replies, _tasks) = story();
        send(&mut made, &mut ring, 0);
        made.take(frames(&made, 0), &mut ring);
        // Nobody published 1 to 999.
        for index in 1_000..1_000 + BEHIND_MAX {
            send(&mut made, &mut ring, index);
            assert!(made.offer().is_running(1), "{index}");
        }
        send(&mut made, &mut ring, 1_000 + BEHIND_MAX);
        assert_eq!((made.offer().is_running(1), made.want(1, NOW)), (false, Served::Instead(0)));
        assert!(!made.take(frames(&made, 1_000), &mut ring), "it has been given up");
    }

    #[tokio::test]
    async fn what_cannot_be_decoded_is_given_up_for_good() {
        let (mut made, mut ring, _replies, _tasks) = story();
        send(&mut made, &mut ring, 0);
        let hopeless = MadeFrames { is_hopeless: true, ..frames(&made, 0) };
        assert!(!made.take(hopeless, &mut ring));
        let later = Timestamp::from_millis(9_000_000);
        assert_eq!((made.want(1, later), made.line.is_some()), (Served::Instead(0), false));
    }

    #[tokio::test]
    async fn who_has_no_threads_offers_what_is_published() {
        let pool = Pool::start(CodecBudget { threads: 0, percent: 80 }, &Tasks::new()).unwrap();
        let mut made = Made::new(1, pool, mpsc::channel(1).0);
        made.publish(ladder(0), AudioProfile::Music);
        assert_eq!(made.offer().ladder(), &ladder(0));
    }
}
