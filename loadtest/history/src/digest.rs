use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Stands for a content in the log: 64 bits, so that a log of millions of entries stays small. It tells contents that a
/// test wrote apart; it is no protection against somebody who looks for two contents with the same digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub u64);

/// FNV-1a of the text's bytes.
pub fn digest(text: &str) -> Digest {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    Digest(text.bytes().fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME)))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Digest {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// As text: numbers of JSON lose their last digits in some readers.
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_sixteen_digits_and_back() {
        // The algorithm's published values.
        assert_eq!(digest("").to_string(), "cbf29ce484222325");
        assert_eq!(digest("foobar").to_string(), "85944171f73967e8");
        let written = serde_json::to_string(&digest("hello")).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&written).unwrap(), digest("hello"));
        assert!(serde_json::from_str::<Digest>("\"no number\"").is_err());
    }
}
