//! Which services may call, how they show who they are, and what each may do.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::scope::Scope;
use crate::auth::key_file;
use crate::config::{Environment, Services};

/// How often the file is looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(5);
/// The largest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// A service's name, bytes.
pub(super) const NAME_BYTES_MAX: usize = 32;

/// A program of the platform.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) name: String,
    scopes: BTreeSet<Scope>,
}

impl Service {
    #[cfg(test)]
    pub(super) fn for_tests(name: &str, scopes: &[Scope]) -> Self {
        Self { name: name.into(), scopes: scopes.iter().copied().collect() }
    }

    pub(super) fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// The services that may call. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Access {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: Option<PathBuf>,
    /// What was last looked at, good or not: a broken file is reported once.
    seen: Mutex<Vec<u8>>,
    known: ArcSwap<Known>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    by_token: HashMap<[u8; 32], Arc<Service>>,
    by_certificate: HashMap<String, Arc<Service>>,
}

/// Why nobody can be let in.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("GRPC_SERVICES_FILE {path}: {why}", path = path.display())]
    File { path: PathBuf, why: String },
    #[error(transparent)]
    Token(#[from] crate::auth::AuthError),
}

impl Access {
    /// `None` when nobody may call: production without a file and without a token.
    ///
    /// # Errors
    /// A file that cannot be used, or a token that cannot be made.
    pub(super) fn load(
        services: &Services,
        environment: Environment,
        data_dir: &Path,
    ) -> Result<Option<Self>, AccessError> {
        let (file, seen, known) = match services {
            Services::File(path) => {
                let failed = |why| AccessError::File { path: path.clone(), why };
                let bytes = read(path).map_err(failed)?;
                let known = Known::parse(&bytes).map_err(failed)?;
                (Some(path.clone()), bytes, known)
            }
            Services::Token(token) => (None, Vec::new(), Known::of_one(token.expose())),
            Services::Nobody if environment == Environment::Production => return Ok(None),
            Services::Nobody => {
                let path = data_dir.join("auth").join("gateway-token");
                let token = key_file::load_or_create(&path, fresh_token)?;
                let token = String::from_utf8_lossy(crate::config::trim_line_end(&token)).into_owned();
                tracing::info!(path = %path.display(), "the gateway's token of this development server");
                (None, Vec::new(), Known::of_one(&token))
            }
        };
        let inner = Inner { file, seen: Mutex::new(seen), known: ArcSwap::from_pointee(known) };
        Ok(Some(Self { inner: Arc::new(inner) }))
    }

    pub(super) fn by_token(&self, token: &str) -> Option<Arc<Service>> {
        self.inner.known.load().by_token.get(&sha256(token.as_bytes())).cloned()
    }

    /// By the names of a certificate that was verified.
    pub(super) fn by_certificate(&self, names: &[String]) -> Option<Arc<Service>> {
        let known = self.inner.known.load();
        names.iter().find_map(|name| known.by_certificate.get(name)).cloned()
    }

    /// Looks at the file until the token is cancelled.
    pub(super) async fn maintain(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(RELOAD_EVERY);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let this = self.clone();
            if let Err(panic) = tokio::task::spawn_blocking(move || this.reload()).await {
                tracing::error!(error = %panic, "looking after the services' file failed");
            }
        }
    }

    /// One round of [`Access::maintain`]: whether other services are in force now.
    pub(super) fn reload(&self) -> bool {
        let Some(path) = &self.inner.file else { return false };
        let read = read(path).and_then(|bytes| {
            let mut seen = self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == bytes {
                return Ok(None);
            }
            *seen = bytes;
            Known::parse(&seen).map(Some)
        });
        match read {
            Ok(None) => false,
            Ok(Some(known)) => {
                self.inner.known.store(Arc::new(known));
                tracing::info!("other services may call the gateway now");
                true
            }
            Err(why) => {
                tracing::error!(path = %path.display(), why, "the services' file was not taken; the old ones stay");
                false
            }
        }
    }
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    services: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    /// SHA-256 of the token, hexadecimal.
    #[serde(default)]
    token_sha256: Option<String>,
    /// A name of the client certificate.
    #[serde(default)]
    certificate: Option<String>,
    /// `*` is all of them.
    scopes: Vec<String>,
}

impl Known {
    fn of_one(token: &str) -> Self {
        let service = Service { name: "gateway".into(), scopes: Scope::ALL.into() };
        Self { by_token: [(sha256(token.as_bytes()), Arc::new(service))].into(), by_certificate: HashMap::new() }
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let (mut known, mut names) = (Self::default(), BTreeSet::new());
        for Entry { name, token_sha256, certificate, scopes } in file.services {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
            if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.chars().all(fits) {
                return Err(format!("a service's name is 1 to {NAME_BYTES_MAX} of a-z 0-9 . _ -, not {name:?}"));
            }
            if !names.insert(name.clone()) {
                return Err(format!("two services are called {name}"));
            }
            let mut allowed = BTreeSet::new();
            for scope in &scopes {
                match Scope::parse(scope) {
                    Some(scope) => allowed.extend([scope]),
                    None if scope == "*" => allowed.extend(Scope::ALL),
                    None => return Err(format!("{name} has the scope {scope:?}, which there is not")),
                }
            }
            if token_sha256.is_none() && certificate.is_none() {
                return Err(format!("{name} has neither token_sha256 nor certificate"));
            }
            let service = Arc::new(Service { name, scopes: allowed });
            if let Some(hex) = token_sha256 {
                let hash = from_hex(&hex).ok_or("token_sha256 is 64 hexadecimal digits")?;
                if known.by_token.insert(hash, Arc::clone(&service)).is_some() {
                    return Err("two services have the same token".into());
                }
            }
            if let Some(certificate) = certificate
                && known.by_certificate.insert(certificate, service).is_some()
            {
                return Err("two services have the same certificate".into());
            }
        }
        Ok(known)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let taken = std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_BYTES_MAX + 1), &mut bytes);
    match taken {
        Ok(len) if len as u64 > FILE_BYTES_MAX => Err(format!("larger than {FILE_BYTES_MAX} bytes")),
        Ok(_) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

fn fresh_token() -> Vec<u8> {
    format!("{}\n", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())).into_bytes()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

fn from_hex(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(token: &str) -> String {
        sha256(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn file(services: &str) -> Result<Known, String> {
        Known::parse(format!("{{\"services\": [{services}]}}").as_bytes())
    }

    #[test]
    fn a_service_is_known_by_token_or_certificate_and_may_what_it_is_given() {
        let text = format!(
            r#"{{"name":"bot","token_sha256":"{}","scopes":["rooms.read","service"]}},
               {{"name":"shop","certificate":"shop.internal","scopes":["*"]}}"#,
            hex("secret")
        );
        let known = file(&text).unwrap();
        let bot = known.by_token.get(&sha256(b"secret")).unwrap();
        assert!(bot.may(Scope::RoomsRead) && bot.may(Scope::Service) && !bot.may(Scope::RoomsWrite));
        let shop = known.by_certificate.get("shop.internal").unwrap();
        assert!(Scope::ALL.into_iter().all(|scope| shop.may(scope)));
    }

    #[test]
    fn a_file_with_a_mistake_is_not_taken() {
        let one = |name: &str, rest: &str| format!(r#"{{"name":"{name}",{rest}}}"#);
        let cert = r#""certificate":"a","scopes":["events"]"#;
        assert!(file(&one(&"n".repeat(NAME_BYTES_MAX), cert)).is_ok());
        for bad in [
            one(&"n".repeat(NAME_BYTES_MAX + 1), cert),
            one("", cert),
            one("A", cert),
            one("a", r#""scopes":["events"]"#),
            one("a", r#""certificate":"a","scopes":["everything"]"#),
            one("a", r#""certificate":"a","scopes":[],"token":"plain""#),
            one("a", r#""token_sha256":"12","scopes":[]"#),
            format!("{},{}", one("a", cert), one("b", cert)),
            format!("{},{}", one("a", cert), one("a", r#""certificate":"b","scopes":[]"#)),
        ] {
            assert!(file(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_changed_file_is_in_force_and_a_broken_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("services.json");
        let with = |token: &str| {
            format!(r#"{{"services":[{{"name":"bot","token_sha256":"{}","scopes":["events"]}}]}}"#, hex(token))
        };
        std::fs::write(&path, with("first")).unwrap();
        let services = Services::File(path.clone());
        let access = Access::load(&services, Environment::Production, dir.path()).unwrap().unwrap();
        assert!(!access.reload() && access.by_token("first").is_some());
        std::fs::write(&path, with("second")).unwrap();
        assert!(access.reload() && access.by_token("first").is_none() && access.by_token("second").is_some());
        std::fs::write(&path, "{").unwrap();
        assert!(!access.reload() && access.by_token("second").is_some());
    }

    #[test]
    fn development_makes_a_token_and_production_lets_nobody_in() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Access::load(&Services::Nobody, Environment::Production, dir.path()).unwrap().is_none());
        let access = Access::load(&Services::Nobody, Environment::Development, dir.path()).unwrap().unwrap();
        let token = std::fs::read_to_string(dir.path().join("auth").join("gateway-token")).unwrap();
        let service = access.by_token(token.trim_end()).unwrap();
        assert_eq!(service.name, "gateway");
        assert!(access.by_token(&token).is_none() && access.by_token("").is_none());
    }
}
