use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, KeyPair, SanType};

use super::{Identity, Shown, TlsError, read, write_private};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Browsers take a certificate by its hash only if it is valid for at most 14 days.
const LIFE: Duration = Duration::from_secs(13 * 24 * 60 * 60);
/// For clients whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(10 * 60);
/// The next certificate takes over this long before the current one ends.
const OVERLAP: Duration = Duration::from_secs(2 * 24 * 60 * 60);

const _: () = assert!(LIFE.as_secs() + BACKDATED.as_secs() <= 14 * DAY.as_secs());
const _: () = assert!(OVERLAP.as_secs() > BACKDATED.as_secs() && OVERLAP.as_secs() < LIFE.as_secs());

/// Two self-signed certificates in a directory: the current one and the one after it, which is made ahead so that a
/// page that was loaded before the change still knows the hash.
#[derive(Debug)]
pub(super) struct SelfMade {
    dir: PathBuf,
    pair: Mutex<Pair>,
}

#[derive(Debug)]
struct Pair {
    current: Identity,
    next: Identity,
}

impl SelfMade {
    pub(super) fn open(dir: PathBuf, now: SystemTime) -> Result<Self, TlsError> {
        let kept = |name: &str| {
            load(&dir, name).inspect_err(|error| {
                let missing = |source: &std::io::Error| source.kind() == std::io::ErrorKind::NotFound;
                if !matches!(error, TlsError::Io { source, .. } if missing(source)) {
                    tracing::warn!(%error, "a kept certificate cannot be read; another is made");
                }
            })
        };
        let current = kept("current").ok().filter(|identity| identity.not_before <= now && now < identity.not_after);
        let next = kept("next").ok().filter(|identity| now < identity.not_after);
        let pair = match (current, next) {
            (Some(current), Some(next)) => Pair { current, next },
            (Some(current), None) => Pair { next: make_after(&dir, &current)?, current },
            (None, Some(next)) if next.not_before <= now => promote(&dir, next)?,
            (None, _) => {
                let current = make(&dir, "current", now)?;
                Pair { next: make_after(&dir, &current)?, current }
            }
        };
        let this = Self { dir, pair: Mutex::new(pair) };
        this.renew(now)?;
        Ok(this)
    }

    pub(super) fn current(&self) -> Shown {
        self.pair.lock().unwrap_or_else(PoisonError::into_inner).shown()
    }

    /// Lets the next certificate take over when it is time. Gives what is in force then, if it changed.
    pub(super) fn renew(&self, now: SystemTime) -> Result<Option<Shown>, TlsError> {
        let mut pair = self.pair.lock().unwrap_or_else(PoisonError::into_inner);
        if now + OVERLAP < pair.current.not_after {
            return Ok(None);
        }
        *pair = if pair.next.not_before <= now && now + OVERLAP < pair.next.not_after {
            promote(&self.dir, pair.next.clone())?
        } else {
            // The machine slept over both, or its clock jumped.
            let current = make(&self.dir, "current", now)?;
            Pair { next: make_after(&self.dir, &current)?, current }
        };
        Ok(Some(pair.shown()))
    }
}

impl Pair {
    fn shown(&self) -> Shown {
        Shown { identity: self.current.clone(), hashes: vec![self.current.hash(), self.next.hash()] }
    }
}

/// The next certificate becomes the current one. Its file is written first: a crash between the two steps leaves both
/// names on the same certificate, and the next start makes another.
fn promote(dir: &Path, current: Identity) -> Result<Pair, TlsError> {
    for extension in ["crt", "key"] {
        write_private(&path(dir, "current", extension), &read(&path(dir, "next", extension))?)?;
    }
    Ok(Pair { next: make_after(dir, &current)?, current })
}

fn make_after(dir: &Path, current: &Identity) -> Result<Identity, TlsError> {
    make(dir, "next", current.not_after - OVERLAP)
}

/// ECDSA P-256, as `serverCertificateHashes` demands (W3C WebTransport, custom certificate requirements).
fn make(dir: &Path, name: &str, from: SystemTime) -> Result<Identity, TlsError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "veza development");
    params.subject_alt_names = vec![
        SanType::DnsName("localhost".try_into()?),
        SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ];
    params.not_before = (from - BACKDATED).into();
    params.not_after = (from + LIFE).into();
    let certificate = params.self_signed(&key)?.pem();
    let key = key.serialize_pem();
    let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes())
        .map_err(|why| TlsError::File { path: path(dir, name, "crt"), why })?;
    write_private(&path(dir, name, "key"), key.as_bytes())?;
    write_private(&path(dir, name, "crt"), certificate.as_bytes())?;
    Ok(identity)
}

fn load(dir: &Path, name: &str) -> Result<Identity, TlsError> {
    let (cert, key) = (path(dir, name, "crt"), path(dir, name, "key"));
    Identity::from_pem(&read(&cert)?, &read(&key)?).map_err(|why| TlsError::File { path: cert, why })
}

fn path(dir: &Path, name: &str, extension: &str) -> PathBuf {
    dir.join(format!("{name}.{extension}"))
}
