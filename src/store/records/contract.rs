//! What every database keeps of tokens and devices, told as stories.

use std::sync::Arc;
use std::time::Duration;

use veza_proto::gateway::v1::{Revoked, event};

use super::*;
use crate::store::contract::{cluster, postgres_at};
use crate::store::{MemoryStore, PostgresStore, SqliteStore};

macro_rules! suites {
    ($($implementation:ident, $open:path;)*) => {
        $(mod $implementation {
            suites!(@stories $open;
                revocations_are_found_behind_a_number
                a_revocation_is_renewed_and_never_shortened
                what_has_ended_is_forgotten_and_no_number_comes_twice
                devices_are_listed_in_pages
                a_device_is_remembered_as_it_was_last
                devices_of_one_user_at_their_bound_and_one_past
                odd_names_come_back_as_they_were
            );
        })*
    };
    (@stories $open:path; $($story:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $story() {
            let Some((records, _lives)) = $open().await else { return };
            super::$story(records).await;
        })*
    };
}

suites! {
    memory, super::open_memory;
    sqlite, super::open_sqlite;
    postgres, super::open_postgres;
}

type Opened<Lives> = Option<(Arc<dyn Records>, Lives)>;

async fn open_memory() -> Opened<()> {
    Some((Arc::new(MemoryStore::new()), ()))
}

async fn open_sqlite() -> Opened<tempfile::TempDir> {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("veza.db"), 2, Duration::from_secs(30)).await.unwrap();
    Some((Arc::new(store), dir))
}

async fn open_postgres() -> Opened<()> {
    let database = postgres_at(cluster()?.database());
    Some((Arc::new(PostgresStore::open(&database).await.unwrap()), ()))
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

fn of(subject: Subject, revoked_ms: u64, drop_at_ms: u64) -> Revocation {
    Revocation { subject, revoked_ms, drop_at_ms }
}

fn seen(who: &str, by: &str, client: &str, at_ms: u64) -> Sighting {
    Sighting { user: user(who), device: device(by), client: client.into(), at_ms }
}

async fn revoke(records: &Arc<dyn Records>, revocation: &Revocation) {
    let told = Told { at_ms: 1, room: None, user: None, kind: event::Kind::Revoked(Revoked::default()) };
    records.revoke(revocation, &told).await.unwrap();
}

async fn revocations_are_found_behind_a_number(records: Arc<dyn Records>) {
    assert_eq!(records.revocations(0, 10).await.unwrap(), []);
    let all = [
        of(Subject::Token("t1".into()), 1, 100),
        of(Subject::Device(user("alice"), device("phone")), 2, 100),
        of(Subject::User(user("alice")), 3, 100),
    ];
    for revocation in &all {
        revoke(&records, revocation).await;
    }
    let found = records.revocations(0, 10).await.unwrap();
    assert!(found.is_sorted_by(|a, b| a.0 < b.0), "{found:?}");
    assert_eq!(found.iter().map(|(_, revocation)| revocation.clone()).collect::<Vec<_>>(), all);
    assert_eq!(records.revocations(found[0].0, 1).await.unwrap(), found[1..2]);
    assert_eq!(records.revocations(found[2].0, 10).await.unwrap(), []);
}

async fn a_revocation_is_renewed_and_never_shortened(records: Arc<dyn Records>) {
    let alice = || Subject::User(user("alice"));
    revoke(&records, &of(alice(), 50, 500)).await;
    revoke(&records, &of(Subject::User(user("bob")), 1, 500)).await;
    let before = records.revocations(0, 10).await.unwrap().last().unwrap().0;
    revoke(&records, &of(alice(), 40, 600)).await;
    let renewed = records.revocations(before, 10).await.unwrap();
    assert_eq!(renewed.len(), 1, "who has read up to before finds it again");
    assert_eq!(renewed[0].1, of(alice(), 50, 600));
    assert_eq!(records.revocations(0, 10).await.unwrap().len(), 2);
}

async fn what_has_ended_is_forgotten_and_no_number_comes_twice(records: Arc<dyn Records>) {
    for (id, ends) in [("t1", 100), ("t2", 300), ("t3", 200)] {
        revoke(&records, &of(Subject::Token(id.into()), 1, ends)).await;
    }
    let last = records.revocations(0, 10).await.unwrap().last().unwrap().0;
    records.forget_revocations(99).await.unwrap();
    assert_eq!(records.revocations(0, 10).await.unwrap().len(), 3);
    records.forget_revocations(250).await.unwrap();
    let left = records.revocations(0, 10).await.unwrap();
    assert!(left.iter().any(|(_, left)| left.subject == Subject::Token("t2".into())), "{left:?}");
    assert!(left.iter().all(|(_, left)| left.subject != Subject::Token("t1".into())), "{left:?}");
    records.forget_revocations(1_000).await.unwrap();
    revoke(&records, &of(Subject::Token("t4".into()), 1, 2_000)).await;
    let fresh = records.revocations(last, 10).await.unwrap();
    assert_eq!(fresh.len(), 1, "what comes after everything has ended is found behind what was read before");
}

async fn devices_are_listed_in_pages(records: Arc<dyn Records>) {
    let all =
        [seen("alice", "b", "", 1), seen("alice", "a", "", 2), seen("bob", "x", "", 3), seen("alice", "c", "", 4)];
    records.see_devices(&all).await.unwrap();
    let alice = user("alice");
    let names = |rows: Vec<DeviceRow>| rows.iter().map(|row| row.device.to_string()).collect::<Vec<_>>();
    assert_eq!(names(records.devices(&alice, None, 2).await.unwrap()), ["a", "b"]);
    assert_eq!(names(records.devices(&alice, Some(&device("b")), 2).await.unwrap()), ["c"]);
    assert_eq!(names(records.devices(&user("carol"), None, 2).await.unwrap()), Vec::<String>::new());
}

async fn a_device_is_remembered_as_it_was_last(records: Arc<dyn Records>) {
    for sighting in
        [seen("alice", "phone", "app/1", 10), seen("alice", "phone", "app/2", 30), seen("alice", "phone", "", 20)]
    {
        records.see_devices(&[sighting]).await.unwrap();
    }
    let row = DeviceRow { device: device("phone"), client: "app/2".into(), first_seen_ms: 10, last_seen_ms: 30 };
    assert_eq!(records.devices(&user("alice"), None, 10).await.unwrap(), [row]);
    records.see_devices(&[]).await.unwrap();
}

async fn devices_of_one_user_at_their_bound_and_one_past(records: Arc<dyn Records>) {
    let many: Vec<_> =
        (0..DEVICES_PER_USER_MAX).map(|n| seen("alice", &format!("d{n:03}"), "", 1_000 + u64::from(n))).collect();
    records.see_devices(&many).await.unwrap();
    records.see_devices(&[seen("bob", "d000", "", 1)]).await.unwrap();
    let count = async |who| records.devices(&user(who), None, 1_000).await.unwrap();
    assert_eq!(count("alice").await.len(), DEVICES_PER_USER_MAX as usize);
    // The one that was not seen for longest is d001, for d000 comes by again.
    records.see_devices(&[seen("alice", "d000", "", 5_000)]).await.unwrap();
    records.see_devices(&[seen("alice", "z", "", 6_000)]).await.unwrap();
    let left = count("alice").await;
    assert_eq!(left.len(), DEVICES_PER_USER_MAX as usize);
    assert!(left.iter().any(|row| row.device == device("d000")) && left.iter().all(|row| row.device != device("d001")));
    assert_eq!(count("bob").await.len(), 1);
}

async fn odd_names_come_back_as_they_were(records: Arc<dyn Records>) {
    let odd = "ü'\";--%_\\ 数";
    revoke(&records, &of(Subject::Token(odd.into()), 1, 100)).await;
    revoke(&records, &of(Subject::User(user(odd)), 1, 100)).await;
    let found: Vec<_> = records.revocations(0, 10).await.unwrap().into_iter().map(|(_, it)| it.subject).collect();
    assert_eq!(found, [Subject::Token(odd.into()), Subject::User(user(odd))]);
    records.see_devices(&[seen(odd, "d", odd, 1)]).await.unwrap();
    assert_eq!(records.devices(&user(odd), None, 1).await.unwrap()[0].client, odd);
}
