//! How long a caller waits, as HTTP/2 headers say it.

use std::time::Duration;

/// Of a call that says nothing.
pub(super) const DEFAULT: Duration = Duration::from_secs(30);
/// Nobody waits longer than this for one answer.
const MAX: Duration = Duration::from_secs(600);

/// The value of `grpc-timeout`: one to eight digits and a unit. What is none is taken as nothing.
pub(super) fn parse(header: Option<&str>) -> Duration {
    header.and_then(read).unwrap_or(DEFAULT).min(MAX)
}

fn read(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit_and_bounded() {
        for (text, wanted) in [
            ("1H", MAX),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("250m", Duration::from_millis(250)),
            ("99999999u", Duration::from_micros(99_999_999)),
            ("5n", Duration::from_nanos(5)),
            ("0S", Duration::ZERO),
        ] {
            assert_eq!(parse(Some(text)), wanted, "{text}");
        }
        for nothing in ["", "S", "5", "-1S", "1.5S", "100000000S", "5s", "é"] {
            assert_eq!(parse(Some(nothing)), DEFAULT, "{nothing}");
        }
        assert_eq!(parse(None), DEFAULT);
    }
}
