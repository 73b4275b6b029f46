//! Resume tokens: who a session belonged to, sealed so that any later process with the same key believes it.

use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use veza_proto::UserId;
use veza_proto::limits::USER_ID_BYTES_MAX;

use super::{AuthError, key_file};

/// How long a resume token is good for.
pub const RESUME_VALID_MS: u64 = 24 * 3600 * 1000;

/// A clock that was set back between two processes is tolerated this far.
const SKEW_MS: u64 = 60_000;
const VERSION: u8 = 1;
const TAG_BYTES: usize = 32;
/// Version, session id, time of issue; the user and the tag follow.
const HEAD_BYTES: usize = 1 + 16 + 8;
const SEALED_BYTES_MAX: usize = HEAD_BYTES + USER_ID_BYTES_MAX + TAG_BYTES;
const TEXT_BYTES_MAX: usize = (SEALED_BYTES_MAX * 4).div_ceil(3);

/// Seals and opens resume tokens: base64url of version, session id, time, user, HMAC-SHA256 over all of it.
#[derive(Debug, Clone)]
pub struct ResumeKeys {
    key: hmac::Key,
}

impl ResumeKeys {
    /// The key in `<data_dir>/auth/resume.key`, made when there is none, so that sessions outlive a restart.
    ///
    /// # Errors
    /// When the file cannot be read or made, or is no such key.
    pub fn load(data_dir: &Path) -> Result<Self, AuthError> {
        let wrong = "a resume key has 32 bytes; remove the file to have a new one made";
        Ok(Self { key: key_file::hmac(data_dir.join("auth").join("resume.key"), wrong)? })
    }

    /// The token that lets `user` take up the session again.
    pub fn seal(&self, session_id: [u8; 16], user: &UserId, now_ms: u64) -> String {
        let mut sealed = Vec::with_capacity(SEALED_BYTES_MAX);
        sealed.push(VERSION);
        sealed.extend_from_slice(&session_id);
        sealed.extend_from_slice(&now_ms.to_be_bytes());
        sealed.extend_from_slice(user.as_str().as_bytes());
        let tag = hmac::sign(&self.key, &sealed);
        sealed.extend_from_slice(tag.as_ref());
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// The session and its user, if the token is ours and younger than [`RESUME_VALID_MS`]. The tag is compared in
    /// constant time, before anything else is looked at.
    pub fn open(&self, text: &str, now_ms: u64) -> Option<([u8; 16], UserId)> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (content, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_BYTES)?)?;
        hmac::verify(&self.key, content, tag).ok()?;
        let (version, content) = content.split_first()?;
        let (session_id, content) = content.split_first_chunk::<16>()?;
        let (issued_ms, user) = content.split_first_chunk::<8>()?;
        let issued_ms = u64::from_be_bytes(*issued_ms);
        let in_time =
            issued_ms <= now_ms.saturating_add(SKEW_MS) && now_ms.saturating_sub(issued_ms) <= RESUME_VALID_MS;
        if *version != VERSION || !in_time {
            return None;
        }
        let user = UserId::parse(std::str::from_utf8(user).ok()?).ok()?;
        Some((*session_id, user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl ResumeKeys {
        fn new(key: &[u8]) -> Self {
            Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
        }
    }

    const NOW: u64 = 1_700_000_000_000;

    fn alice() -> UserId {
        UserId::parse("alice").unwrap()
    }

    #[test]
    fn a_sealed_session_opens_for_a_day() {
        let keys = ResumeKeys::new(&[7; 32]);
        let token = keys.seal([9; 16], &alice(), NOW);
        assert_eq!(keys.open(&token, NOW), Some(([9; 16], alice())));
        assert_eq!(keys.open(&token, NOW + RESUME_VALID_MS), Some(([9; 16], alice())));
        assert_eq!(keys.open(&token, NOW + RESUME_VALID_MS + 1), None);
        assert!(keys.open(&token, NOW - SKEW_MS).is_some());
        assert_eq!(keys.open(&token, NOW - SKEW_MS - 1), None, "issued in the future");
    }

    #[test]
    fn any_flipped_bit_and_any_missing_byte_closes_it() {
        let keys = ResumeKeys::new(&[7; 32]);
        let token = keys.seal([9; 16], &alice(), NOW);
        let sealed = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut tampered = sealed.clone();
            tampered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(keys.open(&URL_SAFE_NO_PAD.encode(tampered), NOW), None, "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(keys.open(&URL_SAFE_NO_PAD.encode(&sealed[..length]), NOW), None, "{length} bytes");
        }
        assert_eq!(keys.open(&format!("{token}A"), NOW), None);
        assert_eq!(keys.open("not base64!", NOW), None);
    }

    #[test]
    fn another_key_does_not_open_it() {
        let token = ResumeKeys::new(&[7; 32]).seal([9; 16], &alice(), NOW);
        assert_eq!(ResumeKeys::new(&[8; 32]).open(&token, NOW), None);
    }

    #[test]
    fn the_longest_user_fits_and_a_longer_text_is_not_even_decoded() {
        let keys = ResumeKeys::new(&[7; 32]);
        let longest = UserId::parse(&"u".repeat(USER_ID_BYTES_MAX)).unwrap();
        let token = keys.seal([9; 16], &longest, NOW);
        assert_eq!(token.len(), TEXT_BYTES_MAX);
        assert_eq!(keys.open(&token, NOW), Some(([9; 16], longest)));
        assert_eq!(keys.open(&"A".repeat(TEXT_BYTES_MAX + 1), NOW), None);
    }

    #[test]
    fn another_version_and_content_that_is_too_short_are_refused_even_when_signed() {
        let keys = ResumeKeys::new(&[7; 32]);
        let signed = |content: &[u8]| {
            let tag = hmac::sign(&keys.key, content);
            URL_SAFE_NO_PAD.encode([content, tag.as_ref()].concat())
        };
        let mut content = vec![VERSION; HEAD_BYTES];
        content[17..25].copy_from_slice(&NOW.to_be_bytes());
        assert_eq!(keys.open(&signed(&content), NOW), None, "no user");
        content.extend_from_slice(b"alice");
        assert!(keys.open(&signed(&content), NOW).is_some());
        content[0] = 2;
        assert_eq!(keys.open(&signed(&content), NOW), None);
        for length in 0..HEAD_BYTES {
            assert_eq!(keys.open(&signed(&vec![VERSION; length]), NOW), None);
        }
    }

    #[test]
    fn the_key_survives_a_restart_and_a_damaged_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let token = ResumeKeys::load(dir.path()).unwrap().seal([1; 16], &alice(), NOW);
        assert_eq!(ResumeKeys::load(dir.path()).unwrap().open(&token, NOW), Some(([1; 16], alice())));
        std::fs::write(dir.path().join("auth/resume.key"), "short").unwrap();
        assert!(ResumeKeys::load(dir.path()).unwrap_err().to_string().contains("32 bytes"));
    }
}
