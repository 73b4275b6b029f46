//! What a network does to packets, at one time and in one direction.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::units::{self, Malformed, PerMillion, RATES, SIZES, Shown, shown_time};

/// Reads like `60k queue=200ms delay=20ms jitter=10ms loss=2%`; `clear` does nothing to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// `300k`: bits per second that the bottleneck lets through; without it there is none. `0` lets nothing through.
    pub rate: Option<u64>,
    /// `queue=200ms` or `queue=24kB`: what may wait before the bottleneck. 100 ms without it.
    pub queue: Queue,
    /// `bucket=3kB`: what an idle bottleneck lets through at once.
    pub bucket: u64,
    /// `delay=20ms`: how long everything takes.
    pub delay: Duration,
    /// `jitter=30ms`: up to this much longer, by `jitter=30ms/normal` or `/pareto` not evenly.
    pub jitter: Duration,
    pub spread: Spread,
    /// `order=free`: jitter lets packets overtake each other.
    pub keeps_order: bool,
    /// `loss=2%`: each packet for itself, behind the bottleneck.
    pub loss: PerMillion,
    /// `bursts=10%x4`: a tenth of the packets, four in a row on average.
    pub bursts: Option<Bursts>,
    /// `reorder=1%+30ms`: a hundredth of the packets come this much later, and those behind overtake them.
    pub reorder: Option<Reorder>,
    /// `duplicate=1%`.
    pub duplicate: PerMillion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// A packet that would wait longer is dropped.
    Time(Duration),
    /// A packet with which more would wait is dropped.
    Bytes(u64),
}

/// How jitter is spread over its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spread {
    #[default]
    Uniform,
    /// Mostly about the half of it.
    Normal,
    /// Mostly little; one packet in twenty nearly all of it, a few up to four times as much.
    Pareto,
}

/// Losses in a row: Gilbert's model, in which bad states lose everything and good ones nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bursts {
    /// Of all packets.
    pub loss: PerMillion,
    /// Packets of a burst on average, at least 1.
    pub length: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reorder {
    pub share: PerMillion,
    pub by: Duration,
}

const QUEUE: Queue = Queue::Time(Duration::from_millis(100));
/// Packets of a burst at most.
const LENGTH_MAX: u32 = 10_000;

impl Profile {
    pub const CLEAR: Profile = Profile {
        rate: None,
        queue: QUEUE,
        bucket: 0,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        spread: Spread::Uniform,
        keeps_order: true,
        loss: PerMillion(0),
        bursts: None,
        reorder: None,
        duplicate: PerMillion(0),
    };

    /// Takes one word into it.
    pub(crate) fn take(&mut self, word: &str) -> Result<(), Malformed> {
        let Some((name, value)) = word.split_once('=') else {
            if word != "clear" {
                self.rate = Some(units::rate(word, word)?);
            }
            return Ok(());
        };
        match name {
            "rate" => self.rate = Some(units::rate(word, value)?),
            "queue" if value.ends_with('B') => self.queue = Queue::Bytes(units::bytes(word, value)?),
            "queue" => self.queue = Queue::Time(units::time(word, value)?),
            "bucket" => self.bucket = units::bytes(word, value)?,
            "delay" => self.delay = units::time(word, value)?,
            "jitter" => (self.jitter, self.spread) = jitter(word, value)?,
            "order" => self.keeps_order = order(word, value)?,
            "loss" => self.loss = units::share(word, value)?,
            "bursts" => self.bursts = Some(bursts(word, value)?),
            "reorder" => self.reorder = Some(reorder(word, value)?),
            "duplicate" => self.duplicate = units::share(word, value)?,
            _ => {
                let known = "rate, queue, bucket, delay, jitter, order, loss, bursts, reorder, duplicate";
                return Err(Malformed::new(word, format!("is none of {known}")));
            }
        }
        Ok(())
    }
}

fn jitter(word: &str, value: &str) -> Result<(Duration, Spread), Malformed> {
    let (time, spread) = value.split_once('/').unwrap_or((value, "uniform"));
    let spread = match spread {
        "uniform" => Spread::Uniform,
        "normal" => Spread::Normal,
        "pareto" => Spread::Pareto,
        _ => return Err(Malformed::new(word, "is spread uniform, normal or pareto")),
    };
    Ok((units::time(word, time)?, spread))
}

fn order(word: &str, value: &str) -> Result<bool, Malformed> {
    match value {
        "keep" => Ok(true),
        "free" => Ok(false),
        _ => Err(Malformed::new(word, "is keep or free")),
    }
}

fn bursts(word: &str, value: &str) -> Result<Bursts, Malformed> {
    let why = || Malformed::new(word, format!("needs a share below 100% and a length up to {LENGTH_MAX}, like 10%x4"));
    let (share, length) = value.split_once('x').ok_or_else(why)?;
    let loss = units::share(word, share)?;
    let length = length.parse().ok().filter(|length| (1..=LENGTH_MAX).contains(length)).ok_or_else(why)?;
    if loss.0 >= 1_000_000 { Err(why()) } else { Ok(Bursts { loss, length }) }
}

fn reorder(word: &str, value: &str) -> Result<Reorder, Malformed> {
    let (share, by) =
        value.split_once('+').ok_or_else(|| Malformed::new(word, "needs a share and a time, like 1%+30ms"))?;
    Ok(Reorder { share: units::share(word, share)?, by: units::time(word, by)? })
}

impl FromStr for Profile {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut profile = Self::CLEAR;
        text.split_whitespace().try_for_each(|word| profile.take(word))?;
        Ok(profile)
    }
}

/// As it is written, what is as in [`Profile::CLEAR`] left out.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clear = Self::CLEAR;
        let mut words = Vec::new();
        if let Some(rate) = self.rate {
            words.push(Shown(rate, RATES).to_string());
        }
        match self.queue {
            queue if queue == clear.queue => {}
            Queue::Time(time) => words.push(format!("queue={}", shown_time(time))),
            Queue::Bytes(bytes) => words.push(format!("queue={}", Shown(bytes, SIZES))),
        }
        if self.bucket > 0 {
            words.push(format!("bucket={}", Shown(self.bucket, SIZES)));
        }
        if !self.delay.is_zero() {
            words.push(format!("delay={}", shown_time(self.delay)));
        }
        if !self.jitter.is_zero() {
            let spread = match self.spread {
                Spread::Uniform => "",
                Spread::Normal => "/normal",
                Spread::Pareto => "/pareto",
            };
            words.push(format!("jitter={}{spread}", shown_time(self.jitter)));
        }
        if !self.keeps_order {
            words.push("order=free".to_owned());
        }
        if self.loss.0 > 0 {
            words.push(format!("loss={}", self.loss));
        }
        if let Some(Bursts { loss, length }) = self.bursts {
            words.push(format!("bursts={loss}x{length}"));
        }
        if let Some(Reorder { share, by }) = self.reorder {
            words.push(format!("reorder={share}+{}", shown_time(by)));
        }
        if self.duplicate.0 > 0 {
            words.push(format!("duplicate={}", self.duplicate));
        }
        if words.is_empty() {
            words.push("clear".to_owned());
        }
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_reads_as_it_is_written() {
        let text = "1.5M queue=24kB bucket=3kB delay=20ms jitter=30ms/normal order=free loss=2% bursts=10%x4 \
                    reorder=1%+30ms duplicate=0.5%";
        let profile: Profile = text.parse().unwrap();
        assert_eq!(profile.rate, Some(1_500_000));
        assert_eq!(profile.queue, Queue::Bytes(24_000));
        assert_eq!(profile.bursts, Some(Bursts { loss: PerMillion(100_000), length: 4 }));
        assert_eq!(profile.to_string(), text);
        assert_eq!("".parse(), Ok(Profile::CLEAR));
        assert_eq!("clear".parse(), Ok(Profile::CLEAR));
        assert_eq!(Profile::CLEAR.to_string(), "clear");
        assert_eq!("rate=0".parse::<Profile>().unwrap().to_string(), "0");
    }

    #[test]
    fn what_is_no_profile_is_told_by_its_word() {
        let why = |text: &str| text.parse::<Profile>().unwrap_err().to_string();
        assert_eq!(
            why("300k los=2%"),
            "`los=2%` is none of rate, queue, bucket, delay, jitter, order, loss, bursts, reorder, duplicate"
        );
        assert_eq!(why("slow"), "`slow` needs bits per second like 300k, 1.5M or 64000, 100G at most");
        assert_eq!(why("jitter=5ms/flat"), "`jitter=5ms/flat` is spread uniform, normal or pareto");
        assert_eq!(why("order=no"), "`order=no` is keep or free");
        assert!(why("bursts=100%x4").contains("below 100%") && why("bursts=10%").contains("10%x4"));
        assert!("bursts=10%x10000".parse::<Profile>().is_ok() && "bursts=10%x10001".parse::<Profile>().is_err());
        assert!("bursts=10%x0".parse::<Profile>().is_err());
        assert!(why("reorder=1%").contains("1%+30ms"));
    }
}
