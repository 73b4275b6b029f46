use super::*;
use crate::store::Anchor;

pub(super) async fn a_room_counts_from_one_without_holes(store: Arc<dyn Store>) {
    commit_one(&store, create("lobby")).await;
    for expected in 1..=5 {
        let written = commit_one(&store, say("lobby", "alice", &format!("c{expected}"), "hello")).await;
        let message = appended(&written);
        assert_eq!(message.seq, expected);
        assert_eq!(message.epoch, record(&store, "lobby").await.epoch);
        assert_eq!(record(&store, "lobby").await.head, expected);
    }
}

pub(super) async fn interleaved_rooms_count_for_themselves(store: Arc<dyn Store>) {
    store.commit(&[create("a"), create("b")]).await.unwrap();
    let batch: Vec<_> = (0..40).map(|n| say(["a", "b"][n % 2], "alice", &format!("c{n}"), "x")).collect();
    let written = store.commit(&batch).await.unwrap();
    for (n, written) in written.iter().enumerate() {
        assert_eq!(appended(written).room, room_id(["a", "b"][n % 2]));
        assert_eq!(appended(written).seq, n as u64 / 2 + 1);
    }
    assert_eq!((record(&store, "a").await.head, record(&store, "b").await.head), (20, 20));
}

pub(super) async fn a_retry_in_the_same_batch_is_a_duplicate(store: Arc<dyn Store>) {
    commit_one(&store, create("lobby")).await;
    let mut retry = say("lobby", "alice", "c1", "hello");
    if let Write::Append { at_ms, .. } = &mut retry {
        *at_ms += 500;
    }
    let batch = [say("lobby", "alice", "c1", "hello"), retry, say("lobby", "alice", "c2", "again")];
    let written = store.commit(&batch).await.unwrap();
    let first = appended(&written[0]).clone();
    assert_eq!(written[1], Written::Duplicate(first), "the first attempt, with its time");
    assert_eq!(appended(&written[2]).seq, 2, "a duplicate takes no number");
}

pub(super) async fn a_retry_in_a_later_batch_is_a_duplicate(store: Arc<dyn Store>) {
    commit_one(&store, create("lobby")).await;
    let first = commit_one(&store, say("lobby", "alice", "c1", "hello")).await;
    commit_one(&store, say("lobby", "alice", "c2", "between")).await;
    let retry = commit_one(&store, say("lobby", "alice", "c1", "hello")).await;
    assert_eq!(retry, Written::Duplicate(appended(&first).clone()));
    assert_eq!(record(&store, "lobby").await.head, 2);
}

pub(super) async fn another_body_under_the_same_cmid_is_a_conflict(store: Arc<dyn Store>) {
    commit_one(&store, create("lobby")).await;
    let batch = [say("lobby", "alice", "c1", "hello"), say("lobby", "alice", "c1", "hello!")];
    let written = store.commit(&batch).await.unwrap();
    assert_eq!(written[1], Written::CmidConflict, "in the same batch");
    assert_eq!(commit_one(&store, say("lobby", "alice", "c1", "")).await, Written::CmidConflict, "in a later one");
    assert_eq!(record(&store, "lobby").await.head, 1);
    let log = store.messages(&room_id("lobby"), NOW, Anchor::After(0), 10).await.unwrap();
    assert_eq!(log, [appended(&written[0]).clone()], "the first one stands");
}

pub(super) async fn a_cmid_belongs_to_its_room_and_author(store: Arc<dyn Store>) {
    store.commit(&[create("a"), create("b")]).await.unwrap();
    let batch = [say("a", "alice", "c1", "x"), say("a", "bob", "c1", "y"), say("b", "alice", "c1", "z")];
    let written = store.commit(&batch).await.unwrap();
    let numbers: Vec<_> = written.iter().map(|written| appended(written).seq).collect();
    assert_eq!(numbers, [1, 2, 1]);
}

pub(super) async fn an_unknown_room_does_not_harm_its_neighbours(store: Arc<dyn Store>) {
    commit_one(&store, create("lobby")).await;
    let batch = [
        say("lobby", "alice", "c1", "one"),
        say("nowhere", "alice", "c2", "lost"),
        join("nowhere", "bob"),
        say("lobby", "alice", "c3", "two"),
    ];
    let written = store.commit(&batch).await.unwrap();
    assert_eq!(appended(&written[0]).seq, 1);
    assert_eq!(written[1..3], [Written::NoSuchRoom, Written::NoSuchRoom]);
    assert_eq!(appended(&written[3]).seq, 2);
    assert_eq!(store.room(&room_id("nowhere")).await.unwrap(), None);
}

pub(super) async fn a_room_takes_messages_in_the_batch_that_makes_it(store: Arc<dyn Store>) {
    let batch =
        [say("new", "alice", "c0", "too early"), create("new"), join("new", "bob"), say("new", "bob", "c1", "first")];
    let written = store.commit(&batch).await.unwrap();
    assert_eq!(written[0], Written::NoSuchRoom);
    assert_eq!(appended(&written[3]).seq, 1);
    let found = record(&store, "new").await;
    assert_eq!((found.head, found.members), (1, 2));
    assert_eq!(
        store.messages(&room_id("new"), NOW, Anchor::After(0), 10).await.unwrap(),
        [appended(&written[3]).clone()]
    );
}

/// Sizes around every edge of how an implementation may split its statements, up to a full batch.
pub(super) async fn a_batch_of_every_size_keeps_the_order(store: Arc<dyn Store>) {
    commit_one(&store, create("lobby")).await;
    let mut head = 0;
    for size in [1, 2, 3, 4, 5, 15, 16, 17, 21, 63, 64, 65, 255, 256, 257, 511, 512] {
        let batch: Vec<_> =
            (1..=size).map(|n| say("lobby", "alice", &format!("{size}-{n}"), &format!("{n}"))).collect();
        let written = store.commit(&batch).await.unwrap();
        let page = store.messages(&room_id("lobby"), NOW, Anchor::After(head), 1_000).await.unwrap();
        assert_eq!(page.len() as u64, size);
        for (at, (written, read)) in written.iter().zip(&page).enumerate() {
            assert_eq!(appended(written), read);
            assert_eq!(read.seq, head + at as u64 + 1);
            assert_eq!(read.body, (at + 1).to_string());
        }
        head += size;
    }
}

pub(super) async fn bodies_come_back_as_they_were(store: Arc<dyn Store>) {
    commit_one(&store, create("lobby")).await;
    let large = "ä".repeat(veza_proto::limits::BODY_BYTES_MAX / 2);
    let bodies = [
        "",
        "\0",
        "before\0after\0",
        "שלום עולם \u{202e}",
        "👩‍👩‍👧‍👦 e\u{301}",
        "'; DROP TABLE rooms; --",
        "\"\\\r\n\t",
        &large,
    ];
    let batch: Vec<_> =
        bodies.iter().enumerate().map(|(n, body)| say("lobby", "bøb 'ü\"", &format!("ç'\"{n}"), body)).collect();
    store.commit(&batch).await.unwrap();
    let page = store.messages(&room_id("lobby"), NOW, Anchor::After(0), 100).await.unwrap();
    for (n, (body, read)) in bodies.iter().zip(&page).enumerate() {
        assert_eq!(read.body, *body);
        assert_eq!((read.author.as_str(), read.cmid.as_str()), ("bøb 'ü\"", format!("ç'\"{n}").as_str()));
        assert_eq!(read.at_ms, NOW + 2);
    }
    assert_eq!(page.len(), bodies.len());
    let again = store.commit(&batch).await.unwrap();
    assert!(again.iter().all(|written| matches!(written, Written::Duplicate(_))), "they compare as they were");
}

pub(super) async fn an_empty_batch_is_no_error(store: Arc<dyn Store>) {
    assert_eq!(store.commit(&[]).await.unwrap(), []);
}
