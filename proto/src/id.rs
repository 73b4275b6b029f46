use std::fmt;
use std::sync::Arc;

use crate::limits::{CMID_BYTES_MAX, DEVICE_ID_BYTES_MAX, ROOM_ID_BYTES_MAX, USER_ID_BYTES_MAX};

/// A room's id: 1 to 64 bytes of `a-z 0-9 . _ -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomId(Arc<str>);

/// A user's id as the token's `sub` says it: 1 to 128 bytes without control characters. The Go side's int64 is its decimal form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

/// A client's message id: 1 to 64 bytes without control characters, the same in every retry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cmid(Arc<str>);

/// A user's device as the token's `device` says it: 1 to 64 bytes of `a-z 0-9 . _ -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(Arc<str>);

/// Why a string is not an id; its display is a sentence for the person outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    #[error("{what} must not be empty")]
    Empty { what: &'static str },
    #[error("{what} must be at most {max} bytes long, this has {len}")]
    TooLong { what: &'static str, max: usize, len: usize },
    #[error("{what} may hold only {allowed}")]
    Character { what: &'static str, allowed: &'static str },
}

impl RoomId {
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        check("a room's id", text, ROOM_ID_BYTES_MAX)?;
        plain("a room's id", text)?;
        Ok(Self(text.into()))
    }
}

impl DeviceId {
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        check("a device's id", text, DEVICE_ID_BYTES_MAX)?;
        plain("a device's id", text)?;
        Ok(Self(text.into()))
    }
}

impl UserId {
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        check("a user's id", text, USER_ID_BYTES_MAX)?;
        no_control("a user's id", text)?;
        Ok(Self(text.into()))
    }
}

impl Cmid {
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        check("cmid", text, CMID_BYTES_MAX)?;
        no_control("cmid", text)?;
        Ok(Self(text.into()))
    }
}

fn check(what: &'static str, text: &str, max: usize) -> Result<(), InvalidId> {
    match text.len() {
        0 => Err(InvalidId::Empty { what }),
        len if len > max => Err(InvalidId::TooLong { what, max, len }),
        _ => Ok(()),
    }
}

fn plain(what: &'static str, text: &str) -> Result<(), InvalidId> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    if !text.bytes().all(allowed) {
        return Err(InvalidId::Character { what, allowed: "a-z, 0-9, '.', '_' and '-'" });
    }
    Ok(())
}

fn no_control(what: &'static str, text: &str) -> Result<(), InvalidId> {
    if text.chars().any(char::is_control) {
        return Err(InvalidId::Character { what, allowed: "characters that are not control characters" });
    }
    Ok(())
}

macro_rules! text_id {
    ($($name:ident),*) => {$(
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl From<&$name> for String {
            fn from(id: &$name) -> String {
                id.0.as_ref().to_owned()
            }
        }
    )*};
}
text_id!(RoomId, UserId, Cmid, DeviceId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_id_at_its_limit_and_one_past() {
        assert!(RoomId::parse(&"a".repeat(64)).is_ok());
        assert!(matches!(RoomId::parse(&"a".repeat(65)), Err(InvalidId::TooLong { len: 65, .. })));
        assert!(matches!(RoomId::parse(""), Err(InvalidId::Empty { .. })));
        assert!(matches!(RoomId::parse("Lobby"), Err(InvalidId::Character { .. })));
        assert!(RoomId::parse("lobby-2.a_b").is_ok());
    }

    #[test]
    fn a_cmid_at_its_limit_and_one_past() {
        assert!(Cmid::parse(&"x".repeat(64)).is_ok());
        assert!(Cmid::parse(&"x".repeat(65)).is_err());
        assert!(Cmid::parse("a\0b").is_err());
    }

    #[test]
    fn a_device_id_at_its_limit_and_one_past() {
        assert!(DeviceId::parse(&"d".repeat(64)).is_ok());
        assert!(DeviceId::parse(&"d".repeat(65)).is_err());
        assert!(DeviceId::parse("").is_err() && DeviceId::parse("My Phone").is_err());
        assert!(DeviceId::parse("6fa459ea-ee8a-3ca4-894e-db77e160355e").is_ok());
    }

    #[test]
    fn a_user_id_at_its_limit_and_one_past() {
        assert!(UserId::parse(&"u".repeat(128)).is_ok());
        assert!(UserId::parse(&"u".repeat(129)).is_err());
        assert!(UserId::parse("line\nbreak").is_err());
    }
}
