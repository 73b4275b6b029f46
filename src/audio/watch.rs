//! What the platform asks of streams on this node: who listens, and how it goes.

use tokio::sync::oneshot;
use veza_engine::Timestamp;
use veza_engine::audio::{Ladder, REDUNDANCY_MAX, RUNG_BITS_MAX, RUNG_BITS_MIN, Shape, number};
use veza_proto::UserId;
use veza_proto::gateway::v1::Quality;
use veza_proto::media::FRAME_MS;
use veza_proto::v1::{AudioQuality, Error};

use super::Audio;
use super::channel::Channel;
use super::shard::Command;
use super::window::Seconds;

/// Frames of a packet at most.
const PACKET_FRAMES_MAX: u32 = 3;

/// Somebody who listens, on one session.
#[derive(Debug, Clone, PartialEq)]
pub struct Hearer {
    pub user: UserId,
    /// Of several that a user has: a number that says which.
    pub session: u64,
    pub since_ms: u64,
    pub quality: AudioQuality,
    /// The platform chose it.
    pub is_fixed: bool,
}

/// A quality that the platform chooses for a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    bits_per_second: u32,
    packet_frames: u8,
    redundancy: u8,
}

/// How a stream goes, while somebody publishes it here.
#[derive(Debug, Clone, PartialEq)]
pub struct Going {
    pub seconds: Seconds,
    /// How many listeners have which quality, the best first.
    pub qualities: Vec<(AudioQuality, u32)>,
}

impl Fixed {
    /// # Errors
    /// The field that is wrong, and what it may be.
    pub fn parse(quality: &Quality) -> Result<Self, (&'static str, String)> {
        if !(RUNG_BITS_MIN..=RUNG_BITS_MAX).contains(&quality.bits_per_second) {
            let sentence = format!("a rung has {RUNG_BITS_MIN} to {RUNG_BITS_MAX} bits per second");
            return Err(("bits_per_second", sentence));
        }
        let frames = quality.packet_ms / FRAME_MS;
        if !quality.packet_ms.is_multiple_of(FRAME_MS) || !(1..=PACKET_FRAMES_MAX).contains(&frames) {
            return Err(("packet_ms", "packets are of 20, 40 or 60 ms".to_owned()));
        }
        if quality.redundancy > u32::from(REDUNDANCY_MAX) {
            return Err(("redundancy", format!("there are 0 to {REDUNDANCY_MAX} copies of a frame")));
        }
        let (packet_frames, redundancy) = (frames as u8, quality.redundancy as u8);
        Ok(Self { bits_per_second: quality.bits_per_second, packet_frames, redundancy })
    }

    /// On the best rung of at most its bit rate; the lowest one, if all have more.
    pub(super) fn shape(self, ladder: &Ladder) -> Shape {
        let within = ladder.rungs().iter().find(|rung| rung.bits_per_second <= self.bits_per_second);
        let rung = within.or(ladder.rungs().last()).map_or(0, number);
        Shape { rung, packet_frames: self.packet_frames, redundancy: self.redundancy }
    }
}

impl Audio {
    /// Who listens here, by user and session.
    ///
    /// # Errors
    /// While the server stops.
    pub async fn listeners(&self, stream: &str) -> Result<Vec<Hearer>, Error> {
        let hearers = self.visit(stream, |channel, _| channel.hearers()).await?;
        let mut hearers = hearers.unwrap_or_default();
        hearers.sort_by(|a, b| (a.user.as_str(), a.session).cmp(&(b.user.as_str(), b.session)));
        Ok(hearers)
    }

    /// How many listen here, and the most there were at once.
    ///
    /// # Errors
    /// While the server stops.
    pub async fn audience(&self, stream: &str) -> Result<(u32, u32), Error> {
        Ok(self.visit(stream, |channel, _| channel.audience()).await?.unwrap_or_default())
    }

    /// Fixes what a user is sent on every session that listens now, or leaves it to the network again: the first of them.
    ///
    /// # Errors
    /// While the server stops.
    pub async fn fix(&self, stream: &str, user: UserId, fixed: Option<Fixed>) -> Result<Option<Hearer>, Error> {
        Ok(self.visit(stream, move |channel, now| channel.fix(&user, fixed, now)).await?.flatten())
    }

    /// How the stream goes; `None` while nobody publishes it here.
    ///
    /// # Errors
    /// While the server stops.
    pub async fn going(&self, stream: &str) -> Result<Option<Going>, Error> {
        Ok(self.visit(stream, |channel, now| channel.going(now)).await?.flatten())
    }

    /// Asks the task that owns the stream; `None` where nobody is at it here.
    pub(super) async fn visit<T: Send + 'static>(
        &self,
        stream: &str,
        visit: impl FnOnce(&mut Channel, Timestamp) -> T + Send + 'static,
    ) -> Result<Option<T>, Error> {
        let Some(handle) = self.handles().get(stream).copied() else { return Ok(None) };
        let (reply, answer) = oneshot::channel();
        let visit = Box::new(move |channel: &mut Channel, now: Timestamp| {
            // Who does not wait any more does not want to know.
            let _gone = reply.send(visit(channel, now));
        });
        self.send(handle, Command::Visit { handle, visit }).await?;
        Ok(answer.await.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use veza_proto::v1::PublishedRung;

    #[test]
    fn a_fixed_quality_at_its_bounds_and_one_past() {
        let quality = |bits_per_second, packet_ms, redundancy| Quality { bits_per_second, packet_ms, redundancy };
        for good in [quality(RUNG_BITS_MIN, 20, 0), quality(RUNG_BITS_MAX, 60, 2), quality(32_000, 40, 1)] {
            assert!(Fixed::parse(&good).is_ok(), "{good:?}");
        }
        let wrong = |quality| Fixed::parse(&quality).unwrap_err().0;
        assert_eq!(wrong(quality(RUNG_BITS_MIN - 1, 20, 0)), "bits_per_second");
        assert_eq!(wrong(quality(RUNG_BITS_MAX + 1, 20, 0)), "bits_per_second");
        assert_eq!([0, 19, 30, 80].map(|millis| wrong(quality(32_000, millis, 0))), ["packet_ms"; 4]);
        assert_eq!(wrong(quality(32_000, 20, 3)), "redundancy");
    }

    #[test]
    fn the_best_rung_within_the_bit_rate_and_else_the_lowest() {
        let rung = |rung, bits_per_second| PublishedRung { rung, bits_per_second, channels: 2 };
        let ladder = Ladder::parse(vec![rung(3, 96_000), rung(1, 32_000)]).unwrap();
        let rung = |bits_per_second| {
            let quality = Quality { bits_per_second, packet_ms: 40, redundancy: 1 };
            Fixed::parse(&quality).unwrap().shape(&ladder)
        };
        assert_eq!(rung(96_000), Shape { rung: 3, packet_frames: 2, redundancy: 1 });
        assert_eq!([95_999, 32_000, 8_000].map(|bits| rung(bits).rung), [1, 1, 1]);
    }
}
