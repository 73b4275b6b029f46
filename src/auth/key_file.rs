//! Keys on disk: made once, for the owner's eyes only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;

use super::AuthError;

/// As long as the hash (RFC 2104, section 3).
const HMAC_KEY_BYTES: usize = 32;
/// The largest key file that is read, bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// The content of `path`, made by `make` and kept when there is no such file yet. Two processes that start at once
/// end up with the same content.
pub fn load_or_create(path: &Path, make: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>, AuthError> {
    let attempt = || -> io::Result<Vec<u8>> {
        match read_bounded(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => return read,
        }
        let dir = path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        write_once(path, &make())?;
        read_bounded(path)
    };
    attempt().map_err(|source| AuthError::File { path: path.into(), source })
}

/// The key of HMAC-SHA256 in `path`, made and kept when there is none. `wrong` says what a file is that holds none.
pub(super) fn hmac(path: PathBuf, wrong: &'static str) -> Result<hmac::Key, AuthError> {
    let bytes = load_or_create(&path, || rand::random::<[u8; HMAC_KEY_BYTES]>().into())?;
    if bytes.len() != HMAC_KEY_BYTES {
        return Err(AuthError::Key { path, why: wrong });
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// Reads a key and, when `strict`, refuses one that everybody may read unless it is public.
pub(super) fn read(path: &Path, strict: bool) -> Result<Vec<u8>, AuthError> {
    let failed = |source| AuthError::File { path: path.into(), source };
    let bytes = read_bounded(path).map_err(failed)?;
    let public = bytes.trim_ascii_start().starts_with(b"-----BEGIN PUBLIC KEY-----");
    if strict && !public && crate::config::is_world_readable(path).map_err(failed)? {
        return Err(AuthError::Key { path: path.into(), why: "everybody may read this key; run `chmod o-r` on it" });
    }
    Ok(bytes)
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.len() > KEY_FILE_BYTES_MAX {
        return Err(io::Error::other("too large for a key"));
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, KEY_FILE_BYTES_MAX), &mut bytes)?;
    Ok(bytes)
}

/// Puts the whole content under its name at once; who comes second leaves the first one's in place.
fn write_once(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&unfinished);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    let linked =
        file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| match fs::hard_link(&unfinished, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    fs::remove_file(&unfinished)?;
    linked
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth").join("some.key");
        assert_eq!(load_or_create(&path, || b"first".to_vec()).unwrap(), b"first");
        assert_eq!(load_or_create(&path, || b"second".to_vec()).unwrap(), b"first");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn who_comes_second_takes_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.key");
        let made = load_or_create(&path, || {
            fs::write(&path, b"the other process").unwrap();
            b"mine".to_vec()
        });
        assert_eq!(made.unwrap(), b"the other process");
    }

    #[test]
    fn a_key_at_the_size_limit_and_one_past() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.key");
        fs::write(&path, vec![b'x'; 64 * 1024]).unwrap();
        assert!(read(&path, false).is_ok());
        fs::write(&path, vec![b'x'; 64 * 1024 + 1]).unwrap();
        assert!(read(&path, false).is_err());
    }
}
