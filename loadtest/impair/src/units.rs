//! Numbers with units, as people write them.

use std::fmt;
use std::time::Duration;

/// A share of packets, in millionths: `2%`, `0.05%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct PerMillion(pub u32);

/// Why a text is no profile or trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` {why}")]
pub struct Malformed {
    pub word: String,
    pub why: String,
}

impl Malformed {
    pub(crate) fn new(word: &str, why: impl Into<String>) -> Self {
        Self { word: word.to_owned(), why: why.into() }
    }
}

/// A number with up to six digits after the point, in millionths of what it says.
fn millionths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part)
}

/// `text` without the unit that it ends with, in units of the smallest: the first unit that fits counts.
fn measure(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
    let scaled = u128::from(millionths(number)?) * u128::from(unit);
    u64::try_from(scaled / 1_000_000).ok()
}

/// `20ms`, `1.5s`, `250us`; up to an hour.
pub(crate) fn time(word: &str, text: &str) -> Result<Duration, Malformed> {
    let micros = measure(text, &[("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000)]);
    micros
        .filter(|micros| *micros <= 3_600_000_000)
        .map(Duration::from_micros)
        .ok_or_else(|| Malformed::new(word, "needs a time like 20ms, 1.5s or 2m, an hour at most"))
}

/// `300k`, `1.5M`, `64000`, bits per second; up to 100 Gb/s.
pub(crate) fn rate(word: &str, text: &str) -> Result<u64, Malformed> {
    measure(text, &[("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("", 1)])
        .filter(|rate| *rate <= 100_000_000_000)
        .ok_or_else(|| Malformed::new(word, "needs bits per second like 300k, 1.5M or 64000, 100G at most"))
}

/// `1500B`, `24kB`, `1MB`.
pub(crate) fn bytes(word: &str, text: &str) -> Result<u64, Malformed> {
    measure(text, &[("kB", 1_000), ("MB", 1_000_000), ("B", 1)])
        .filter(|bytes| *bytes <= 1_000_000_000)
        .ok_or_else(|| Malformed::new(word, "needs bytes like 1500B or 24kB, 1000MB at most"))
}

/// `2%`, `0.05%`, up to 100.
pub(crate) fn share(word: &str, text: &str) -> Result<PerMillion, Malformed> {
    measure(text, &[("%", 10_000)])
        .and_then(|share| u32::try_from(share).ok())
        .filter(|share| *share <= 1_000_000)
        .map(PerMillion)
        .ok_or_else(|| Malformed::new(word, "needs a share like 2% or 0.05%, 100% at most"))
}

/// A count of the smallest unit in the largest unit that leaves no more than six digits after the point.
pub(crate) struct Shown(pub(crate) u64, pub(crate) &'static [(&'static str, u64)]);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Three digits after the point, or a smaller unit.
        let fits = |unit: u64| self.0 >= unit && (self.0 % unit * 1_000).is_multiple_of(unit);
        let (name, unit) = self.1.iter().rfind(|(_, unit)| fits(*unit)).unwrap_or(&self.1[0]);
        let (whole, part) = (self.0 / unit, self.0 % unit * 1_000 / unit);
        f.write_str(&decimal(whole, format!("{part:03}")))?;
        f.write_str(name)
    }
}

fn decimal(whole: u64, part: String) -> String {
    let part = part.trim_end_matches('0');
    if part.is_empty() { whole.to_string() } else { format!("{whole}.{part}") }
}

pub(crate) const TIMES: &[(&str, u64)] = &[("us", 1), ("ms", 1_000), ("s", 1_000_000)];
pub(crate) const RATES: &[(&str, u64)] = &[("", 1), ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];
pub(crate) const SIZES: &[(&str, u64)] = &[("B", 1), ("kB", 1_000), ("MB", 1_000_000)];

pub(crate) fn shown_time(time: Duration) -> Shown {
    Shown(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), TIMES)
}

impl fmt::Display for PerMillion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", decimal(u64::from(self.0) / 10_000, format!("{:04}", self.0 % 10_000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_with_their_units() {
        assert_eq!(time("", "20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(time("", "1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!((rate("", "300k"), rate("", "1.5M"), rate("", "64000")), (Ok(300_000), Ok(1_500_000), Ok(64_000)));
        assert_eq!((bytes("", "1500B"), bytes("", "24kB")), (Ok(1_500), Ok(24_000)));
        assert_eq!((share("", "2%"), share("", "0.0001%")), (Ok(PerMillion(20_000)), Ok(PerMillion(1))));
    }

    #[test]
    fn bounds_at_their_limit_and_one_past() {
        assert!(time("", "60m").is_ok() && time("", "3600.000001s").is_err());
        assert!(rate("", "100G").is_ok() && rate("", "100000000001").is_err());
        assert!(bytes("", "1000MB").is_ok() && bytes("", "1000000001B").is_err());
        assert!(share("", "100%").is_ok() && share("", "100.0001%").is_err());
    }

    #[test]
    fn what_is_no_number_is_told() {
        for text in ["", "ms", "-1ms", "1e3ms", "1.ms", ".5ms", "1.1234567ms", "20 ms", "99999999999999999999s", "20"] {
            let error = time("delay", text).unwrap_err();
            assert_eq!(error.to_string(), "`delay` needs a time like 20ms, 1.5s or 2m, an hour at most", "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for micros in [0, 1, 999, 1_000, 1_500, 200_000, 1_500_000, 1_234_567, 60_000_000] {
            let shown = shown_time(Duration::from_micros(micros)).to_string();
            assert_eq!(time("", &shown), Ok(Duration::from_micros(micros)), "{shown}");
        }
        for share_of in [0, 1, 20_000, 12_345, 1_000_000] {
            assert_eq!(share("", &PerMillion(share_of).to_string()), Ok(PerMillion(share_of)));
        }
        assert_eq!(Shown(300_000, RATES).to_string(), "300k");
    }
}
