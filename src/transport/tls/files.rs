use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::SystemTime;

use super::{Identity, TlsError, read};
use crate::config::TlsFiles;

/// A certificate from files, read again when their content changes.
#[derive(Debug)]
pub(super) struct Files {
    paths: TlsFiles,
    /// What was last looked at, good or not: a broken file is reported once.
    seen: Mutex<Content>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    pub(super) fn open(paths: TlsFiles, now: SystemTime) -> Result<(Self, Identity), TlsError> {
        let content = Content::read(&paths)?;
        let identity = content.identity(&paths, now)?;
        Ok((Self { paths, seen: Mutex::new(content) }, identity))
    }

    /// The new identity if the files changed. Content is compared and not the time of a change: some tools that
    /// place files set the times back.
    pub(super) fn reload(&self, now: SystemTime) -> Result<Option<Identity>, TlsError> {
        let content = Content::read(&self.paths)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == content {
            return Ok(None);
        }
        *seen = content;
        seen.identity(&self.paths, now).map(Some)
    }
}

impl Content {
    fn read(paths: &TlsFiles) -> Result<Self, TlsError> {
        refuse_exposed(&paths.key)?;
        Ok(Self { cert: read(&paths.cert)?, key: read(&paths.key)? })
    }

    fn identity(&self, paths: &TlsFiles, now: SystemTime) -> Result<Identity, TlsError> {
        let broken = |why: String| TlsError::File { path: paths.cert.clone(), why };
        let identity = Identity::from_pem(&self.cert, &self.key).map_err(broken)?;
        if identity.not_after <= now {
            return Err(broken("the certificate has ended".to_owned()));
        }
        Ok(identity)
    }
}

#[cfg(unix)]
pub(super) fn refuse_exposed(path: &Path) -> Result<(), TlsError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path).map_err(|source| TlsError::Io { path: path.to_owned(), source })?;
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err(TlsError::Exposed { path: path.to_owned() });
    }
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn refuse_exposed(_path: &Path) -> Result<(), TlsError> {
    Ok(())
}
