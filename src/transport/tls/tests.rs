use super::*;
use crate::config::TlsFiles;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn self_made() -> Tls {
    Tls { files: None }
}

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

#[test]
fn a_new_directory_gets_a_certificate_that_browsers_take_by_hash() {
    let dir = tempfile::tempdir().unwrap();
    let store = Certificates::load(&self_made(), dir.path(), start()).unwrap();
    assert_eq!(store.hashes().len(), 2);
    assert_eq!(store.expires(), start() + 13 * DAY);

    let pem = std::fs::read(dir.path().join("certs/current.crt")).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let certificate = pem.parse_x509().unwrap();
    let life = certificate.validity().not_after.timestamp() - certificate.validity().not_before.timestamp();
    assert!(life <= 14 * 24 * 60 * 60, "{life} s");
    assert_eq!(certificate.validity().not_before.timestamp(), 1_800_000_000 - 600);
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 3);
    let curve = certificate.public_key().algorithm.parameters.as_ref().unwrap().as_oid().unwrap();
    assert_eq!(curve.to_id_string(), "1.2.840.10045.3.1.7");
    assert_eq!(store.hashes()[0], sha256(&pem.contents));

    #[cfg(unix)]
    for name in ["current.key", "next.key"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(dir.path().join("certs").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_restart_keeps_both_hashes() {
    let dir = tempfile::tempdir().unwrap();
    let first = Certificates::load(&self_made(), dir.path(), start()).unwrap().hashes();
    let second = Certificates::load(&self_made(), dir.path(), start() + DAY).unwrap().hashes();
    assert_eq!(first, second);
}

#[test]
fn the_next_certificate_takes_over_two_days_before_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = Certificates::load(&self_made(), dir.path(), start()).unwrap();
    let before = store.hashes();
    let switch = start() + 11 * DAY;
    assert!(!store.refresh(switch - Duration::from_secs(1)));
    assert_eq!(store.hashes(), before);
    assert!(store.refresh(switch));
    let after = store.hashes();
    assert_eq!(after[0], before[1], "the hash that was announced is in force");
    assert!(!before.contains(&after[1]));
    assert_eq!(store.expires(), switch + 13 * DAY);
    assert!(!store.refresh(switch + Duration::from_secs(1)));

    let restarted = Certificates::load(&self_made(), dir.path(), switch + DAY).unwrap();
    assert_eq!(restarted.hashes(), after);
}

#[test]
fn after_a_long_sleep_there_is_a_valid_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let store = Certificates::load(&self_made(), dir.path(), start()).unwrap();
    let late = start() + 100 * DAY;
    assert!(store.refresh(late));
    assert_eq!(store.expires(), late + 13 * DAY);
    let later = late + 100 * DAY;
    let restarted = Certificates::load(&self_made(), dir.path(), later).unwrap();
    assert_eq!(restarted.expires(), later + 13 * DAY);
}

#[test]
fn a_start_after_the_end_takes_the_next_one_if_it_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    let announced = Certificates::load(&self_made(), dir.path(), start()).unwrap().hashes()[1];
    let restarted = Certificates::load(&self_made(), dir.path(), start() + 14 * DAY).unwrap();
    assert_eq!(restarted.hashes()[0], announced);
}

/// Writes a certificate and its key as an operator's tool would.
fn place(files: &TlsFiles, days: u64) -> [u8; 32] {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = start().into();
    params.not_after = (start() + u32::try_from(days).unwrap() * DAY).into();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(&files.cert, certificate.pem()).unwrap();
    super::super::keys::write_private(&files.key, key.serialize_pem().as_bytes()).unwrap();
    sha256(certificate.der())
}

fn in_dir(dir: &Path) -> TlsFiles {
    TlsFiles { cert: dir.join("server.crt"), key: dir.join("server.key") }
}

fn in_force(store: &Certificates) -> [u8; 32] {
    sha256(&store.current.0.load().cert[0])
}

#[test]
fn files_are_reloaded_and_a_broken_file_keeps_the_old_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let files = in_dir(dir.path());
    let first = place(&files, 90);
    let config = Tls { files: Some(files.clone()) };
    let store = Certificates::load(&config, dir.path(), start()).unwrap();
    assert_eq!(store.hashes(), Vec::<[u8; 32]>::new());
    assert_eq!(in_force(&store), first);
    assert!(!store.refresh(start()));

    let second = place(&files, 60);
    assert!(store.refresh(start()));
    assert_eq!(in_force(&store), second);
    assert_eq!(store.expires(), start() + 60 * DAY);

    std::fs::write(&files.cert, "half a certificate").unwrap();
    assert!(!store.refresh(start()));
    assert_eq!(in_force(&store), second);

    let third = place(&files, 30);
    assert!(store.refresh(start()));
    assert_eq!(in_force(&store), third);
}

#[tokio::test]
async fn maintenance_notices_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let files = in_dir(dir.path());
    place(&files, 900);
    let store = Certificates::load(&Tls { files: Some(files.clone()) }, dir.path(), SystemTime::now()).unwrap();
    let second = place(&files, 901);
    let stop = CancellationToken::new();
    let watched = async {
        while in_force(&store) != second {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
    };
    let both = async { tokio::join!(store.clone().maintain(stop.clone()), watched) };
    tokio::time::timeout(2 * MAINTENANCE_INTERVAL, both).await.unwrap();
}

#[test]
fn files_that_do_not_match_or_have_ended_or_are_exposed_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let files = in_dir(dir.path());
    let config = Tls { files: Some(files.clone()) };
    let load = |now| Certificates::load(&config, dir.path(), now).map(|_| ());

    assert!(matches!(load(start()), Err(TlsError::Io { .. })));
    place(&files, 10);
    load(start()).unwrap();
    assert!(matches!(load(start() + 10 * DAY), Err(TlsError::File { .. })));

    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    super::super::keys::write_private(&files.key, other.as_bytes()).unwrap();
    assert!(matches!(load(start()), Err(TlsError::File { .. })));

    place(&files, 10);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load(start()), Err(TlsError::Exposed { .. })));
    }
}
