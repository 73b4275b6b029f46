//! Words that are found again.

use veza_client::proto::v1::{CreateRoom, ErrorCode, Publish, RoomKind, SearchResult};

use crate::carrier::{Player, Stage, ask};

/// What is found in the room, newest first.
async fn found(player: &Player, query: &str) -> Vec<u64> {
    let result = ask!(player, Search { room: "garden", query: query } => SearchResult);
    result
        .unwrap_or_else(|error| panic!("{query:?}: {error:?}"))
        .messages
        .into_iter()
        .map(|message| message.seq)
        .collect()
}

pub async fn words_are_found_in_any_inflection(stage: &Stage) {
    let [alice, bob] = stage.in_room("garden", ["alice", "bob"]).await;
    let said = [
        "The rehearsals were running late again",
        "Les élèves chantaient à l'opéra",
        "Ça y est : les répétitions commencent",
        "CAFÉ CRÈME, naïve Straße",
        "nothing of all this",
    ];
    for (at, body) in said.iter().enumerate() {
        alice.publish("garden", &format!("a{at}"), body).await.unwrap();
    }
    for (query, seqs) in [
        // English.
        ("rehearsal", vec![1]),
        ("Rehearsals run", vec![1]),
        ("running", vec![1]),
        // French, with and without its accents.
        ("chanter", vec![2]),
        ("chantait élève", vec![2]),
        ("eleves opera", vec![2]),
        ("répétition", vec![3]),
        ("REPETITIONS", vec![3]),
        ("commencer", vec![3]),
        // Case and accents count for nothing.
        ("cafe creme", vec![4]),
        ("NAIVE", vec![4]),
        // All of the words, not some.
        ("rehearsal opera", vec![]),
        ("zebra", vec![]),
        // The last word as a beginning.
        ("reh*", vec![1]),
        ("nothing th*", vec![5]),
        ("répét*", vec![3]),
        // What could mean something to a database means nothing here.
        ("\"rehearsals\" AND (late)", vec![]),
        ("late'; --", vec![1]),
        ("rehearsal:late", vec![1]),
        ("-late", vec![1]),
    ] {
        assert_eq!(found(&bob, query).await, seqs, "{query:?}");
    }
    // A query without a word finds nothing, or is refused; it never finds everything.
    for query in ["***", "!?", "\"", "🎵🎵"] {
        let nothing = ask!(bob, Search { room: "garden", query: query } => SearchResult);
        assert!(nothing.as_ref().map_or(true, |result| result.messages.is_empty()), "{query:?}: {nothing:?}");
    }
    assert_eq!(
        ask!(bob, Search { room: "garden", query: " " } => SearchResult).unwrap_err().code(),
        ErrorCode::InvalidArgument
    );
}

pub async fn a_search_knows_what_messages_say_now(stage: &Stage) {
    let [alice, bob] = stage.in_room("garden", ["alice", "bob"]).await;
    alice.publish("garden", "a1", "the violin is tuned").await.unwrap();
    let answer = Publish {
        room: "garden".into(),
        cmid: "b1".into(),
        body: "which violin?".into(),
        thread: 1,
        ..Publish::default()
    };
    bob.say(answer).await.unwrap();
    assert_eq!(found(&bob, "violin").await, [2, 1], "answers in threads as well, the newest first");
    let of_alice = ask!(bob, Search { room: "garden", query: "violin", author: "alice" } => SearchResult).unwrap();
    assert_eq!(of_alice.messages.iter().map(|message| message.seq).collect::<Vec<_>>(), [1]);
    alice.edit("garden", "a2", 1, "the cello is tuned").await.unwrap();
    assert_eq!(found(&bob, "cello").await, [1]);
    assert_eq!(found(&bob, "violin").await, [2]);
    let shown = ask!(bob, Search { room: "garden", query: "cello" } => SearchResult).unwrap().messages.remove(0);
    assert_eq!((shown.body.as_str(), shown.edits), ("the cello is tuned", 1));
    bob.delete("garden", "b2", 2).await.unwrap();
    assert_eq!(found(&bob, "violin").await, [0; 0]);
}

pub async fn a_search_over_all_rooms_stays_in_ones_own(stage: &Stage) {
    let alice = stage.player("alice").await;
    for (room, kind) in [("attic", RoomKind::Public), ("garden", RoomKind::Public), ("vault", RoomKind::Private)] {
        let create = CreateRoom { room: room.into(), kind: kind.into(), ..CreateRoom::default() };
        alice.create(create).await.unwrap();
        alice.join(room).await.unwrap();
    }
    let bob = stage.player("bob").await;
    bob.join("attic").await.unwrap();
    bob.join("garden").await.unwrap();
    for n in 1..=4 {
        for room in ["attic", "garden", "vault"] {
            alice.publish(room, &format!("{room}{n}"), &format!("needle {n}")).await.unwrap();
        }
    }
    let places = |result: &SearchResult| {
        result.messages.iter().map(|message| (message.room.clone(), message.seq)).collect::<Vec<_>>()
    };
    // Page by page, newest first, each once.
    let (mut cursor, mut all) = (String::new(), Vec::new());
    loop {
        let page = ask!(bob, Search { query: "needle", cursor: cursor, limit: 3u32 } => SearchResult).unwrap();
        assert!(page.messages.len() <= 3);
        all.extend(places(&page));
        cursor = page.next;
        if cursor.is_empty() {
            break;
        }
    }
    let newest: Vec<u64> = all.iter().map(|(_, seq)| *seq).collect();
    assert_eq!(newest, [4, 4, 3, 3, 2, 2, 1, 1]);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 8, "{all:?}");
    assert!(all.iter().all(|(room, _)| room != "vault"), "{all:?}");
    assert_eq!(ask!(alice, Search { query: "needle" } => SearchResult).unwrap().messages.len(), 12);
    // In one room by sequence numbers.
    let first = ask!(bob, Search { room: "attic", query: "needle", limit: 3u32 } => SearchResult).unwrap();
    assert_eq!((places(&first).len(), first.next_before_seq), (3, 2));
    let last =
        ask!(bob, Search { room: "attic", query: "needle", limit: 3u32, before_seq: 2u64 } => SearchResult).unwrap();
    assert_eq!((places(&last), last.next_before_seq), (vec![("attic".to_owned(), 1)], 0));
    // A cursor of nobody's making.
    let forged = ask!(bob, Search { query: "needle", cursor: "?" } => SearchResult).unwrap_err();
    assert_eq!(forged.code(), ErrorCode::InvalidArgument);
    // Whoever has left finds nothing there any more.
    ask!(bob, LeaveRoom { room: "attic" } => RoomLeft).unwrap();
    let left = ask!(bob, Search { query: "needle" } => SearchResult).unwrap();
    assert!(places(&left).iter().all(|(room, _)| room == "garden"), "{left:?}");
}
