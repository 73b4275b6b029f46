//! Passwords of source clients, which have room for no token: sealed so that nothing has to be kept.

use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use veza_proto::UserId;

use super::{AuthError, Identity, TOKEN_LIFE_MAX, key_file};

/// How long a password is good for: a month of shows. A revocation of its user is remembered longer.
const VALID_MS: u64 = 30 * 24 * 3_600 * 1_000;
const _: () = assert!(VALID_MS as u128 <= TOKEN_LIFE_MAX.as_millis());

/// The front of an HMAC-SHA256 (RFC 2104, section 5): nobody guesses 128 bits.
const TAG_BYTES: usize = 16;
/// The time of issue in seconds, big-endian.
const TIME_BYTES: usize = 5;
const TEXT_BYTES: usize = ((TIME_BYTES + TAG_BYTES) * 4).div_ceil(3);

/// Makes passwords and believes them: base64url of the time of issue and a MAC over it and the user. Good for 30
/// days; whoever revokes its user revokes it.
#[derive(Debug, Clone)]
pub struct SourceKeys {
    key: hmac::Key,
}

/// A password that was made. Its `Debug` does not show it.
pub struct SourcePassword {
    pub text: String,
    pub expires_ms: u64,
}

impl std::fmt::Debug for SourcePassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourcePassword").field("expires_ms", &self.expires_ms).finish_non_exhaustive()
    }
}

impl SourceKeys {
    /// The key in `<data_dir>/auth/source.key`, made when there is none.
    ///
    /// # Errors
    /// When the file cannot be read or made, or is no such key.
    pub fn load(data_dir: &Path) -> Result<Self, AuthError> {
        let wrong = "a key of source passwords has 32 bytes; remove the file to have a new one made";
        Ok(Self { key: key_file::hmac(data_dir.join("auth").join("source.key"), wrong)? })
    }

    /// A password of 28 characters for this user.
    pub fn make(&self, user: &UserId, now_ms: u64) -> SourcePassword {
        let issued_s = now_ms / 1_000;
        let time = issued_s.to_be_bytes();
        let time = &time[time.len() - TIME_BYTES..];
        let text = URL_SAFE_NO_PAD.encode([time, &self.tag(user, time)].concat());
        SourcePassword { text, expires_ms: expires_ms(issued_s) }
    }

    /// Whom a password speaks for, if we made it for this user and it is still good. The tag is compared in constant
    /// time, before anything else is looked at.
    pub fn open(&self, user: &str, password: &str, now_ms: u64) -> Option<Identity> {
        if password.len() != TEXT_BYTES {
            return None;
        }
        let user = UserId::parse(user).ok()?;
        let sealed = URL_SAFE_NO_PAD.decode(password).ok()?;
        let (time, tag) = sealed.split_at_checked(TIME_BYTES)?;
        aws_lc_rs::constant_time::verify_slices_are_equal(tag, &self.tag(&user, time)).ok()?;
        let mut issued_s = [0; size_of::<u64>()];
        issued_s[size_of::<u64>() - TIME_BYTES..].copy_from_slice(time);
        let issued_s = u64::from_be_bytes(issued_s);
        let expires_ms = expires_ms(issued_s);
        (now_ms < expires_ms).then(|| Identity {
            user,
            device: None,
            expires_ms,
            issued_ms: Some(issued_s * 1_000),
            token_id: None,
            entitlements: Vec::new(),
        })
    }

    fn tag(&self, user: &UserId, time: &[u8]) -> [u8; TAG_BYTES] {
        let tag = hmac::sign(&self.key, &[time, user.as_str().as_bytes()].concat());
        let mut front = [0; TAG_BYTES];
        front.copy_from_slice(&tag.as_ref()[..TAG_BYTES]);
        front
    }
}

fn expires_ms(issued_s: u64) -> u64 {
    issued_s.saturating_mul(1_000).saturating_add(VALID_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl SourceKeys {
        fn new(key: &[u8]) -> Self {
            Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
        }
    }

    const NOW: u64 = 1_700_000_000_999;

    fn alice() -> UserId {
        UserId::parse("alice").unwrap()
    }

    #[test]
    fn a_password_is_its_user_s_until_it_ends() {
        let keys = SourceKeys::new(&[7; 32]);
        let made = keys.make(&alice(), NOW);
        assert_eq!(made.text.len(), TEXT_BYTES);
        let opened = keys.open("alice", &made.text, made.expires_ms - 1).unwrap();
        assert_eq!((opened.user, opened.issued_ms, opened.expires_ms), (alice(), Some(NOW - 999), made.expires_ms));
        assert_eq!(keys.open("alice", &made.text, made.expires_ms), None);
        assert_eq!(keys.open("bob", &made.text, NOW), None);
        assert_eq!(SourceKeys::new(&[8; 32]).open("alice", &made.text, NOW), None, "another server's key");
        assert!(!format!("{made:?}").contains(&made.text));
    }

    #[test]
    fn any_flipped_bit_and_any_other_length_is_refused() {
        let keys = SourceKeys::new(&[7; 32]);
        let made = keys.make(&alice(), NOW).text;
        let sealed = URL_SAFE_NO_PAD.decode(&made).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut tampered = sealed.clone();
            tampered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(keys.open("alice", &URL_SAFE_NO_PAD.encode(tampered), NOW), None, "bit {bit}");
        }
        for other in [&made[..TEXT_BYTES - 1], &format!("{made}A"), "", &"!".repeat(TEXT_BYTES)] {
            assert_eq!(keys.open("alice", other, NOW), None);
        }
    }
}
