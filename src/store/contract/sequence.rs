use super::*;

pub(super) async fn a_room_counts_from_one_without_holes(store: Arc<dyn Store>) {
    commit_one(&store, create("lobby")).await;
    for expected in 1..=5 {
        let written = commit_one(&store, say("lobby", "alice", &format!("c{expected}"), "hello")).await;
        let message = appended(&written);
        assert_eq!(message.seq, expected);
        assert_eq!(message.epoch, row(&store, "lobby").await.epoch);
        assert_eq!(row(&store, "lobby").await.head, expected);
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
    assert_eq!((row(&store, "a").await.head, row(&store, "b").await.head), (20, 20));
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
    assert_eq!(written[1], duplicate(&first), "the first attempt, with its time");
    assert_eq!(appended(&written[2]).seq, 2, "a duplicate takes no number");
}

pub(super) async fn a_retry_in_a_later_batch_is_a_duplicate(store: Arc<dyn Store>) {
    commit_one(&store, create("lobby")).await;
    let first = commit_one(&store, say("lobby", "alice", "c1", "hello")).await;
    commit_one(&store, say("lobby", "alice", "c2", "between")).await;
    let retry = commit_one(&store, say("lobby", "alice", "c1", "hello")).await;
    assert_eq!(retry, duplicate(appended(&first)));
    assert_eq!(row(&store, "lobby").await.head, 2);
}

pub(super) async fn another_body_under_the_same_cmid_is_a_conflict(store: Arc<dyn Store>) {
    commit_one(&store, create("lobby")).await;
    let batch = [say("lobby", "alice", "c1", "hello"), say("lobby", "alice", "c1", "hello!")];
    let written = store.commit(&batch).await.unwrap();
    assert_eq!(written[1], Written::Refused(Refusal::CmidConflict), "in the same batch");
    assert_eq!(
        commit_one(&store, say("lobby", "alice", "c1", "")).await,
        Written::Refused(Refusal::CmidConflict),
        "in a later one"
    );
    assert_eq!(row(&store, "lobby").await.head, 1);
    let log = log(&store, "lobby").await;
    assert_eq!((log.len(), &log[0].row), (1, appended(&written[0])), "the first one stands");
}

pub(super) async fn a_cmid_belongs_to_its_room_and_author(store: Arc<dyn Store>) {
    commit_all(&store, &[create("a"), create("b"), join("a", "bob")]).await;
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
    assert_eq!(written[1..3], [Written::Refused(Refusal::NoSuchRoom), Written::Refused(Refusal::NoSuchRoom)]);
    assert_eq!(appended(&written[3]).seq, 2);
    assert_eq!(store.room(&room_id("nowhere")).await.unwrap(), None);
}

pub(super) async fn a_room_takes_messages_in_the_batch_that_makes_it(store: Arc<dyn Store>) {
    let batch =
        [say("new", "alice", "c0", "too early"), create("new"), join("new", "bob"), say("new", "bob", "c1", "first")];
    let written = store.commit(&batch).await.unwrap();
    assert_eq!(written[0], Written::Refused(Refusal::NoSuchRoom));
    assert_eq!(appended(&written[3]).seq, 1);
    let found = row(&store, "new").await;
    assert_eq!((found.head, found.members), (1, 2));
    assert_eq!(log(&store, "new").await[0].row, *appended(&written[3]));
}

/// Sizes around every edge of how an implementation may split its statements, up to a full batch.
pub(super) async fn a_batch_of_every_size_keeps_the_order(store: Arc<dyn Store>) {
    commit_one(&store, create("lobby")).await;
    let mut head = 0;
    for size in [1, 2, 3, 4, 5, 15, 16, 17, 21, 63, 64, 65, 255, 256, 257, 511, 512] {
        let batch: Vec<_> =
            (1..=size).map(|n| say("lobby", "alice", &format!("{size}-{n}"), &format!("{n}"))).collect();
        let written = store.commit(&batch).await.unwrap();
        let anchor = Anchor::After(head);
        let page = store.entries(&room_id("lobby"), NOW, View::Everything, anchor, 1_000, None).await.unwrap();
        assert_eq!(page.len() as u64, size);
        for (at, (written, read)) in written.iter().zip(&page).enumerate() {
            assert_eq!(*appended(written), read.row);
            assert_eq!(read.row.seq, head + at as u64 + 1);
            assert_eq!(read.row.body, (at + 1).to_string());
        }
        head += size;
    }
}

pub(super) async fn bodies_come_back_as_they_were(store: Arc<dyn Store>) {
    commit_all(&store, &[create("lobby"), join("lobby", "bøb 'ü\"")]).await;
    let large = "ä".repeat(veza_proto::limits::BODY_BYTES_MAX / 2);
    let bodies = [
        "",
        "שלום עולם \u{202e}",
        "👩‍👩‍👧‍👦 e\u{301}",
        "'; DROP TABLE rooms; --",
        "\"\\\r\n\t\u{1}\u{7f}",
        "{a,b} NULL \\N $1 ?",
        &large,
    ];
    let batch: Vec<_> =
        bodies.iter().enumerate().map(|(n, body)| say("lobby", "bøb 'ü\"", &format!("ç'\"{n}"), body)).collect();
    commit_all(&store, &batch).await;
    let page = log(&store, "lobby").await;
    for (n, (body, Entry { row, .. })) in bodies.iter().zip(&page).enumerate() {
        assert_eq!(row.body, *body);
        assert_eq!(row.author.as_str(), "bøb 'ü\"");
        assert_eq!(row.cmid.as_ref().unwrap().as_str(), format!("ç'\"{n}").as_str());
        assert_eq!(row.at_ms, NOW + 2);
    }
    assert_eq!(page.len(), bodies.len());
    let again = store.commit(&batch).await.unwrap();
    assert!(again.iter().all(|written| matches!(written, Written::Duplicate { .. })), "they compare as they were");
}

/// The engine lets none in. Should one come all the same, it spoils nothing: not every database can keep it.
pub(super) async fn a_nul_byte_harms_nobody(store: Arc<dyn Store>) {
    commit_one(&store, create("lobby")).await;
    let batch = [say("lobby", "alice", "c1", "before\0after"), say("lobby", "alice", "c2", "plain")];
    commit_all(&store, &batch).await;
    let page = log(&store, "lobby").await;
    assert!(["before\0after", "before\u{fffd}after"].contains(&page[0].row.body.as_str()));
    assert_eq!(page[1].row.body, "plain");
    assert_eq!(commit_one(&store, batch[0].clone()).await, duplicate(&page[0].row));
}

pub(super) async fn an_empty_batch_is_no_error(store: Arc<dyn Store>) {
    assert_eq!(store.commit(&[]).await.unwrap(), []);
}
