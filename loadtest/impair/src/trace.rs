//! What a network does, as it changes over time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::Profile;
use crate::units::{self, Malformed, shown_time};

/// Profiles one after the other: `300k for 20s, 60k rebind for 30s, 300k`.
///
/// Parts are separated by commas or line ends; what follows a `#` on a line is not read. Each part is a [`Profile`] and how
/// long it lasts; the last one stays, unless the trace ends with the word `repeat`. `rebind` in a part gives every client
/// another source port when it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// At least one.
    parts: Vec<Part>,
    repeats: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    profile: Profile,
    rebinds: bool,
    /// Only of the last one it may be missing.
    lasts: Option<Duration>,
}

/// What holds at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) profile: Profile,
    /// Clients get another source port when it begins.
    pub(crate) rebinds: bool,
    /// When something else holds. `None` is never.
    pub(crate) until: Option<Duration>,
}

/// Parts of a trace at most.
const PARTS_MAX: usize = 10_000;
/// A part lasts at least as long.
const LASTS_MIN: Duration = Duration::from_millis(1);

impl Trace {
    /// What holds `since` its beginning.
    pub(crate) fn at(&self, since: Duration) -> Present {
        let total: Duration = self.parts.iter().filter_map(|part| part.lasts).sum();
        let rounds = if self.repeats { since.as_micros() / total.as_micros().max(1) } else { 0 };
        let mut until = total * u32::try_from(rounds).unwrap_or(u32::MAX);
        let last = self.parts.len() - 1;
        for (at, part) in self.parts.iter().enumerate() {
            let ends = part.lasts.filter(|_| at < last || self.repeats);
            until += ends.unwrap_or_default();
            if ends.is_none() || since < until {
                return Present { profile: part.profile, rebinds: part.rebinds, until: ends.map(|_| until) };
            }
        }
        let part = self.parts[last];
        Present { profile: part.profile, rebinds: part.rebinds, until: None }
    }
}

impl From<Profile> for Trace {
    fn from(profile: Profile) -> Self {
        Self { parts: vec![Part { profile, rebinds: false, lasts: None }], repeats: false }
    }
}

impl FromStr for Trace {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let lines = text.lines().map(|line| line.split_once('#').map_or(line, |(read, _)| read));
        let written: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
        let mut written: Vec<&str> = written.into_iter().filter(|part| !part.is_empty()).collect();
        let repeats = written.pop_if(|last| *last == "repeat").is_some();
        let mut parts = written.iter().map(|part| part.parse()).collect::<Result<Vec<Part>, _>>()?;
        if parts.is_empty() && !repeats {
            parts.push(Part { profile: Profile::CLEAR, rebinds: false, lasts: None });
        }
        let endless = if repeats { parts.len() } else { parts.len().saturating_sub(1) };
        if let Some(at) = parts.iter().take(endless).position(|part| part.lasts.is_none()) {
            return Err(Malformed::new(
                written[at],
                "has to say for how long, like `for 20s`, as something follows it",
            ));
        }
        match parts.len() {
            0 => Err(Malformed::new("repeat", "has nothing before it")),
            1..=PARTS_MAX => Ok(Self { parts, repeats }),
            many => Err(Malformed::new("trace", format!("has {PARTS_MAX} parts at most, this has {many}"))),
        }
    }
}

impl FromStr for Part {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut part = Part { profile: Profile::CLEAR, rebinds: false, lasts: None };
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            match word {
                "rebind" => part.rebinds = true,
                "for" => {
                    let time = words.next().unwrap_or_default();
                    let lasts = units::time("for", time)?;
                    if lasts < LASTS_MIN {
                        return Err(Malformed::new("for", "is a millisecond at least"));
                    }
                    part.lasts = Some(lasts);
                }
                word => part.profile.take(word)?,
            }
        }
        Ok(part)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.parts.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}", part.profile)?;
            if part.rebinds {
                f.write_str(" rebind")?;
            }
            if let Some(lasts) = part.lasts {
                write!(f, " for {}", shown_time(lasts))?;
            }
        }
        f.write_str(if self.repeats { ", repeat" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(text: &str) -> Trace {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn rates(trace: &Trace, seconds: &[u64]) -> Vec<u64> {
        seconds.iter().map(|second| trace.at(Duration::from_secs(*second)).profile.rate.unwrap_or(1)).collect()
    }

    #[test]
    fn parts_follow_each_other_and_the_last_one_stays() {
        let trace = trace("300k for 20s, 60k for 30s, 300k for 30s");
        assert_eq!(
            rates(&trace, &[0, 19, 20, 49, 50, 79, 80, 10_000]),
            [300, 300, 60, 60, 300, 300, 300, 300].map(|k| k * 1_000)
        );
        assert_eq!(trace.at(Duration::from_secs(3)).until, Some(Duration::from_secs(20)));
        assert_eq!(trace.at(Duration::from_secs(90)).until, None);
    }

    #[test]
    fn a_trace_can_repeat() {
        let trace = trace("1k for 1s\n2k for 2s # slower than it looks\nrepeat");
        assert_eq!(rates(&trace, &[0, 1, 2, 3, 4, 5, 6]), [1, 2, 2, 1, 2, 2, 1].map(|k| k * 1_000));
        assert_eq!(trace.at(Duration::from_secs(4)).until, Some(Duration::from_secs(6)));
    }

    #[test]
    fn traces_read_as_they_are_written() {
        for text in ["clear", "300k for 20s, 60k queue=200ms rebind for 30s, clear", "0 for 1s, 1M for 500ms, repeat"] {
            assert_eq!(trace(text).to_string(), text);
        }
        assert_eq!(trace(" \n# nothing\n"), trace("clear"));
    }

    #[test]
    fn what_is_no_trace_is_told() {
        let why = |text: &str| text.parse::<Trace>().unwrap_err().to_string();
        assert!(why("300k, 60k").starts_with("`300k` has to say for how long"));
        assert!(why("300k, repeat").starts_with("`300k` has to say for how long"));
        assert_eq!(why("repeat"), "`repeat` has nothing before it");
        assert!(why("60k for").contains("`for` needs a time"));
        assert!("60k for 1ms".parse::<Trace>().is_ok());
        assert_eq!(why("60k for 999us"), "`for` is a millisecond at least");
        assert!(vec!["1k for 1s"; PARTS_MAX].join(",").parse::<Trace>().is_ok());
        assert!(why(&vec!["1k for 1s"; PARTS_MAX + 1].join(",")).contains("10000 parts at most"));
    }
}
