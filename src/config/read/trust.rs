use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::super::reader::Reader;
use super::super::{Authz, Environment, Guard, Jwks, JwksSource, Secret, TokenAlgorithm, check};

const BEARER_BYTES_MAX: usize = 4096;

impl Reader<'_> {
    /// Keys of others; `None` inside when there are none.
    pub(super) fn jwks(&mut self, algorithm: Option<TokenAlgorithm>) -> Option<Option<Jwks>> {
        const FILE: &str = "AUTH_JWKS_FILE";
        const URL: &str = "AUTH_JWKS_URL";
        let file = self.path(FILE);
        let readable = self.file_is_readable(FILE);
        let url = self.called(URL);
        let ca_file = self.readable_path("AUTH_JWKS_CA_FILE");
        let refresh_every = self.number("AUTH_JWKS_REFRESH_SECONDS").map(Duration::from_secs);
        let source = match (file, url?) {
            (Some(_), Some(_)) => {
                self.problem(URL, None, "AUTH_JWKS_FILE is set too; one of them is enough");
                return None;
            }
            (Some(file), None) => Some(JwksSource::File(file)),
            (None, Some(url)) => Some(JwksSource::Url(url)),
            (None, None) => None,
        };
        let (ca_file, refresh_every) = (ca_file?, refresh_every?);
        readable.then_some(())?;
        if let (Some(source), Some(TokenAlgorithm::Hs256)) = (&source, algorithm) {
            let name = if let JwksSource::File(_) = source { FILE } else { URL };
            self.problem(name, None, "a shared secret has no public keys; set AUTH_ALGORITHM to EdDSA or ES256");
            return None;
        }
        Some(source.map(|source| Jwks { source, ca_file, refresh_every }))
    }

    pub(super) fn authz(&mut self, environment: Option<Environment>) -> Option<Option<Authz>> {
        let url = self.called("AUTHZ_GRPC_URL");
        let token = self.bearer("AUTHZ_TOKEN");
        let ca_file = self.readable_path("AUTHZ_CA_FILE");
        let cert = self.readable_path("AUTHZ_CERT_FILE");
        let key = self.path("AUTHZ_KEY_FILE");
        let key_is_good = self.key_is_safe("AUTHZ_KEY_FILE", environment);
        let timeout = self.number("AUTHZ_TIMEOUT_MS").map(Duration::from_millis);
        let cache_max = self.number("AUTHZ_CACHE_SECONDS").map(Duration::from_secs);
        let cache_entries = self.number("AUTHZ_CACHE_ENTRIES");
        let concurrency = self.number("AUTHZ_CONCURRENCY");
        let on_connect = self.guard("AUTHZ_ON_CONNECT");
        let on_join = self.guard("AUTHZ_ON_JOIN");
        let on_publish = self.guard("AUTHZ_ON_PUBLISH");
        let identity = match (cert?, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                self.problem("AUTHZ_KEY_FILE", None, "the certificate of AUTHZ_CERT_FILE needs its private key");
                return None;
            }
            (None, Some(_)) => {
                self.problem("AUTHZ_CERT_FILE", None, "the key of AUTHZ_KEY_FILE needs its certificate");
                return None;
            }
        };
        key_is_good.then_some(())?;
        let (token, ca_file, timeout, cache_max) = (token?, ca_file?, timeout?, cache_max?);
        let (cache_entries, concurrency) = (cache_entries?, concurrency?);
        let (on_connect, on_join, on_publish) = (on_connect?, on_join?, on_publish?);
        Some(url?.map(|url| Authz {
            url,
            token,
            ca_file,
            identity,
            timeout,
            cache_max,
            cache_entries,
            concurrency,
            on_connect,
            on_join,
            on_publish,
        }))
    }

    /// Somebody whom this server calls by itself.
    fn called(&mut self, name: &'static str) -> Option<Option<Uri>> {
        let Some(written) = self.source.get(name).map(str::to_owned) else {
            self.show(name, "(none)".into());
            return Some(None);
        };
        match check::called(&written) {
            Ok(url) => {
                self.show(name, written);
                Some(Some(url))
            }
            Err(why) => {
                self.problem(name, Some(&written), why);
                None
            }
        }
    }

    fn readable_path(&mut self, name: &'static str) -> Option<Option<PathBuf>> {
        let path = self.path(name);
        self.file_is_readable(name).then_some(path)
    }

    fn bearer(&mut self, name: &'static str) -> Option<Option<Secret>> {
        let Some(written) = self.source.get(name).map(str::to_owned) else {
            self.show(name, "(none)".into());
            return Some(None);
        };
        if written.len() > BEARER_BYTES_MAX || !written.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.problem(name, Some(&written), format!("allowed: 1 to {BEARER_BYTES_MAX} visible ASCII characters"));
            return None;
        }
        self.show(name, "***".into());
        Some(Some(Secret::new(written)))
    }

    fn guard(&mut self, name: &'static str) -> Option<Guard> {
        Some(match self.choice(name)? {
            "open" => Guard::Open,
            "closed" => Guard::Closed,
            _ => Guard::Off,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Config, Loaded, Problem, Problems};
    use super::*;

    fn read_pairs(pairs: &[(&str, &str)]) -> Result<Loaded, Problems> {
        Config::read(&pairs.iter().copied().collect())
    }

    fn problem(pairs: &[(&str, &str)]) -> Problem {
        let problems = read_pairs(pairs).expect_err("this configuration must be refused").0;
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.into_iter().next().unwrap()
    }

    #[test]
    fn keys_of_others_come_from_one_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.json");
        std::fs::write(&file, "{}").unwrap();
        let file = file.to_str().unwrap();
        let url = ("AUTH_JWKS_URL", "https://id.example/.well-known/jwks.json");
        let jwks = read_pairs(&[("AUTH_JWKS_FILE", file)]).unwrap().config.auth.jwks.unwrap();
        assert!(matches!(jwks.source, JwksSource::File(_)));
        let jwks = read_pairs(&[url, ("AUTH_ALGORITHM", "ES256")]).unwrap().config.auth.jwks.unwrap();
        assert!(matches!(jwks.source, JwksSource::Url(_)), "no key of our own is needed beside it");
        assert_eq!(jwks.refresh_every, Duration::from_secs(300));
        assert_eq!(problem(&[url, ("AUTH_JWKS_FILE", file)]).variable, "AUTH_JWKS_URL");
        assert_eq!(problem(&[("AUTH_JWKS_FILE", "/nonexistent")]).variable, "AUTH_JWKS_FILE");
        let shared = [url, ("AUTH_ALGORITHM", "HS256"), ("AUTH_HS256_SECRET", &"k".repeat(32))];
        assert!(problem(&shared).why.contains("has no public keys"));
        for bad in
            ["http://id.example/keys", "ftp://id.example", "https://user:word@id.example/", "id.example", "https:///"]
        {
            assert_eq!(problem(&[("AUTH_JWKS_URL", bad)]).variable, "AUTH_JWKS_URL", "{bad}");
        }
        assert!(read_pairs(&[("AUTH_JWKS_URL", "http://127.0.0.1:9/keys")]).is_ok());
    }

    #[test]
    fn whoever_is_asked_is_asked_as_it_is_set() {
        assert!(read_pairs(&[]).unwrap().config.authz.is_none());
        let url = ("AUTHZ_GRPC_URL", "https://platform.example:8443");
        let authz = read_pairs(&[url]).unwrap().config.authz.unwrap();
        assert_eq!((authz.on_connect, authz.on_join, authz.on_publish), (Guard::Closed, Guard::Closed, Guard::Open));
        assert_eq!((authz.timeout, authz.cache_max), (Duration::from_millis(500), Duration::from_secs(60)));
        let authz = read_pairs(&[url, ("AUTHZ_ON_PUBLISH", "off"), ("AUTHZ_TOKEN", "hunter2")]).unwrap();
        assert_eq!(authz.config.authz.as_ref().unwrap().on_publish, Guard::Off);
        assert!(!format!("{authz:?}").contains("hunter2"));
        assert!(problem(&[url, ("AUTHZ_ON_JOIN", "maybe")]).why.contains("off, open, closed"));
        assert_eq!(problem(&[("AUTHZ_GRPC_URL", "http://platform.example")]).variable, "AUTHZ_GRPC_URL");
        assert!(problem(&[url, ("AUTHZ_TOKEN", "two words")]).given.unwrap().contains("hidden"));
    }

    #[test]
    fn a_bearer_token_at_its_limit_and_one_past() {
        let with = |bytes: usize| read_pairs(&[("AUTHZ_TOKEN", &"t".repeat(bytes))]);
        assert!(with(BEARER_BYTES_MAX).is_ok() && with(BEARER_BYTES_MAX + 1).is_err());
    }

    #[test]
    fn a_certificate_comes_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("some.pem");
        std::fs::write(&file, "-----BEGIN PUBLIC KEY-----\n").unwrap();
        let file = file.to_str().unwrap();
        assert_eq!(problem(&[("AUTHZ_CERT_FILE", file)]).variable, "AUTHZ_KEY_FILE");
        assert_eq!(problem(&[("AUTHZ_KEY_FILE", file)]).variable, "AUTHZ_CERT_FILE");
        assert!(read_pairs(&[("AUTHZ_CERT_FILE", file), ("AUTHZ_KEY_FILE", file)]).is_ok());
    }
}
