//! Which web pages may connect.

/// The exact allow-list of origins: scheme, host and port as browsers write them.
#[derive(Debug, Clone, Default)]
pub(super) struct Origins(Vec<String>);

impl Origins {
    pub(super) fn new(allowed: impl IntoIterator<Item = String>) -> Self {
        Self(allowed.into_iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()).collect())
    }

    /// Whether a request with this `Origin` may go on. Without the header it is no browser, and it needs a token like
    /// everybody; `null` (sandboxes, files) is refused because anybody can have it.
    pub(super) fn allow(&self, origin: Option<&str>) -> bool {
        origin.is_none_or(|origin| self.0.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)))
    }
}

/// The token of an `Authorization: Bearer` header.
pub(super) fn bearer(value: &str) -> Option<String> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    let fits = !token.is_empty() && token.len() <= veza_proto::limits::TOKEN_BYTES_MAX;
    (scheme.eq_ignore_ascii_case("bearer") && fits).then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_origin_and_clients_without_one() {
        let origins = Origins::new(["https://veza.example:8443".to_owned(), "http://localhost:8080/".to_owned()]);
        assert!(origins.allow(None));
        assert!(origins.allow(Some("https://veza.example:8443")));
        assert!(origins.allow(Some("http://localhost:8080")));
        for stranger in [
            "null",
            "",
            "https://veza.example",
            "http://veza.example:8443",
            "https://veza.example:8443.evil.example",
            "https://evil.veza.example:8443",
            "https://veza.example:84430",
        ] {
            assert!(!origins.allow(Some(stranger)), "{stranger}");
        }
    }

    #[test]
    fn a_bearer_token_up_to_its_limit() {
        assert_eq!(bearer("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(bearer("bearer  abc ").as_deref(), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("Bearer "), None);
        let max = veza_proto::limits::TOKEN_BYTES_MAX;
        assert!(bearer(&format!("Bearer {}", "x".repeat(max))).is_some());
        assert!(bearer(&format!("Bearer {}", "x".repeat(max + 1))).is_none());
    }
}
