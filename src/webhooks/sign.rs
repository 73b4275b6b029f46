use aws_lc_rs::hmac;

use crate::config::Secret;

/// The header that says a delivery is ours: `v1=` and the HMAC-SHA256, in hexadecimal, of name, time and body joined by dots;
/// by each of the secrets, joined by commas. clients/go/webhooks reads it.
pub(super) fn signatures<'a>(
    secrets: impl IntoIterator<Item = &'a Secret>,
    delivery: &str,
    at_seconds: u64,
    body: &[u8],
) -> String {
    let one = |secret: &Secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        let mut signed = hmac::Context::with_key(&key);
        signed.update(format!("{delivery}.{at_seconds}.").as_bytes());
        signed.update(body);
        let hex: String = signed.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("v1={hex}")
    };
    secrets.into_iter().map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf 'evt-1.1764000000.{}' | openssl dgst -sha256 -hmac sesame`; the receiver's tests have the same.
    #[test]
    fn the_signature_is_the_agreed_one() {
        let sesame = "v1=7729d2c22171fc277b5f764f0f8247a08b5373e50eb26f0d6dfcb7c43eaac92c";
        let old = Secret::new("sesame");
        assert_eq!(signatures([&old], "evt-1", 1_764_000_000, b"{}"), sesame);
        let both = signatures([&Secret::new("poppy"), &old], "evt-1", 1_764_000_000, b"{}");
        let (new, former) = both.split_once(',').unwrap();
        assert_eq!((former, new.len()), (sesame, sesame.len()));
        assert_ne!(new, sesame);
    }
}
