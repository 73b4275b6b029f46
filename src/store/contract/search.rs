use super::*;
use crate::store::{Scope, Search};

async fn hits(store: &Arc<dyn Store>, query: &str, before: u64, limit: u32) -> Vec<u64> {
    let scope = Scope::Room { room: room_id("lobby"), before, viewer: user("alice") };
    let found = store.search(&Search { query: query.into(), scope, author: None }, limit).await.unwrap();
    for hit in &found {
        assert_eq!(hit.row, entry(store, "lobby", hit.row.seq).await.row);
    }
    found.iter().map(|hit| hit.row.seq).collect()
}

async fn found(store: &Arc<dyn Store>, query: &str) -> Vec<u64> {
    hits(store, query, u64::MAX, 10).await
}

async fn lobby(store: &Arc<dyn Store>, bodies: &[&str]) {
    commit_all(store, &[create("lobby"), join("lobby", "bob"), create("other")]).await;
    let say = |room: &str, n: usize, body: &&str| say(room, "alice", &format!("c{n}"), body);
    let batch: Vec<_> = bodies.iter().enumerate().map(|(n, body)| say("lobby", n, body)).collect();
    commit_all(store, &batch).await;
    let batch: Vec<_> = bodies.iter().enumerate().map(|(n, body)| say("other", n, body)).collect();
    commit_all(store, &batch).await;
}

pub(super) async fn words_are_found_in_both_languages(store: Arc<dyn Store>) {
    let bodies = [
        "The guitarist was running late",
        "Les chansons d'été, c'est pour danser",
        "Mon CŒUR balance; les universités aussi",
        "late song, running out of time",
        "Tom & Jerry's \"quoted\" (words) AND OR NOT NEAR col:x -minus *star*",
        "שלום עולם 👩‍👩‍👧 привет мир",
    ];
    lobby(&store, &bodies).await;
    for (query, expected) in [
        ("run", &[4, 1][..]),
        ("RUNS late", &[4, 1]),
        ("guitarists running", &[1]),
        ("chanson ete", &[2]),
        ("l'été", &[]),
        ("d'ÉTÉ", &[2]),
        ("dansaient", &[2]),
        ("coeur", &[3]),
        ("université", &[3]),
        ("universites balancer", &[3]),
        ("song chanson", &[]),
        ("gui*", &[1]),
        ("late gui*", &[1]),
        ("gui* late", &[]),
        ("uit*", &[]),
        ("quoted", &[5]),
        ("\"quoted words\"", &[5]),
        ("AND OR NOT", &[5]),
        ("col:x", &[5]),
        ("-minus", &[5]),
        ("star*", &[5]),
        ("שלום", &[6]),
        ("ПРИВЕТ", &[6]),
        ("прив*", &[6]),
        ("", &[]),
        ("*", &[]),
        ("'; -- & | ! ( ) : <->", &[]),
        ("nowhere", &[]),
    ] {
        assert_eq!(found(&store, query).await, expected, "{query}");
    }
}

pub(super) async fn pages_of_one_room(store: Arc<dyn Store>) {
    let bodies: Vec<String> = (0..60).map(|n| if n % 3 == 0 { format!("needle {n}") } else { "hay".into() }).collect();
    lobby(&store, &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let all: Vec<u64> = (0..20).rev().map(|n| n * 3 + 1).collect();
    for before in [0, 1, 2, 4, 5, 30, 31, 58, 59, 60, 61, u64::MAX] {
        for limit in [0, 1, 2, 19, 20, 21] {
            let expected: Vec<_> = all.iter().copied().filter(|seq| *seq < before).take(limit as usize).collect();
            assert_eq!(hits(&store, "needles", before, limit).await, expected, "{limit} before {before}");
        }
    }
    let nowhere = Scope::Room { room: room_id("nowhere"), before: u64::MAX, viewer: user("alice") };
    let search = Search { query: "needle".into(), scope: nowhere, author: None };
    assert_eq!(store.search(&search, 10).await.unwrap(), []);
}

/// Messages of several rooms in the order of time; those of one moment in the order of rooms.
pub(super) async fn pages_of_all_my_rooms(store: Arc<dyn Store>) {
    let rooms = ["a", "a-1", "b", "c"];
    commit_all(&store, &rooms.map(create)).await;
    commit_all(&store, &["a", "a-1", "c"].map(|room| join(room, "bob"))).await;
    let mut all = Vec::new();
    for n in 0..40_u64 {
        let room = rooms[(n as usize * 7) % 4];
        let mut write = say(room, "alice", &format!("c{n}"), if n % 5 == 4 { "hay" } else { "needle" });
        // Three in one moment, and a clock that went back.
        let at = NOW + if n == 20 { 3 } else { n / 3 };
        if let Write::Append { at_ms, .. } = &mut write {
            *at_ms = at;
        }
        let written = commit_one(&store, write).await;
        let entry = appended(&written);
        if n % 5 != 4 && room != "b" {
            all.push((entry.at_ms, entry.room.clone(), entry.seq));
        }
    }
    all.sort();
    all.reverse();
    for limit in [1, 2, 3, 5, 50] {
        let mut seen = Vec::new();
        let mut before = None;
        loop {
            let scope = Scope::Mine { member: user("bob"), before };
            let page = store.search(&Search { query: "needle".into(), scope, author: None }, limit).await.unwrap();
            let page: Vec<_> = page.into_iter().map(|hit| (hit.row.at_ms, hit.row.room, hit.row.seq)).collect();
            let Some(last) = page.last() else { break };
            assert!(page.len() <= limit as usize && seen.len() < all.len(), "pages of {limit} come to an end");
            before = Some(last.clone());
            seen.extend(page);
        }
        assert_eq!(seen, all, "pages of {limit}");
    }
    let scope = Scope::Mine { member: user("nobody"), before: None };
    assert_eq!(store.search(&Search { query: "needle".into(), scope, author: None }, 9).await.unwrap(), []);
}

pub(super) async fn an_edit_is_found_as_it_is_now(store: Arc<dyn Store>) {
    lobby(&store, &["before"]).await;
    commit_one(&store, edit("lobby", "alice", "e1", 1, "after")).await;
    assert_eq!((found(&store, "before").await, found(&store, "after").await), (vec![], vec![1]));
    let batch = [
        say("lobby", "alice", "c9", "first"),
        edit("lobby", "alice", "e2", 3, "second"),
        edit("lobby", "alice", "e3", 3, "third"),
        edit("lobby", "alice", "e4", 1, "last"),
    ];
    commit_all(&store, &batch).await;
    for (query, expected) in [("first", &[][..]), ("second", &[]), ("third", &[3]), ("after", &[]), ("last", &[1])] {
        assert_eq!(found(&store, query).await, expected, "{query}");
    }
}

pub(super) async fn only_messages_of_an_author(store: Arc<dyn Store>) {
    lobby(&store, &["bob was here", "hello"]).await;
    commit_all(&store, &[say("lobby", "bob", "b1", "hello alice"), say("lobby", "bob", "b2", "bye")]).await;
    let by = async |query: &str, author: &str| -> Vec<u64> {
        let scope = Scope::Room { room: room_id("lobby"), before: u64::MAX, viewer: user("alice") };
        let search = Search { query: query.into(), scope, author: Some(user(author)) };
        store.search(&search, 10).await.unwrap().iter().map(|hit| hit.row.seq).collect()
    };
    assert_eq!(by("hello", "bob").await, [3]);
    assert_eq!(by("hello", "alice").await, [2]);
    assert_eq!(by("bob", "bob").await, [0; 0], "an author is no word");
    assert_eq!(by("hel*", "bob").await, [3]);
    assert_eq!(by("", "bob").await, [0; 0]);
}

pub(super) async fn a_deleted_message_is_not_found(store: Arc<dyn Store>) {
    lobby(&store, &["needle", "needle", "needle"]).await;
    commit_one(&store, delete("lobby", "alice", "d1", 2)).await;
    assert_eq!(found(&store, "needle").await, [3, 1]);
    let batch =
        [say("lobby", "alice", "c9", "needle"), delete("lobby", "alice", "d2", 5), delete("lobby", "alice", "d3", 1)];
    commit_all(&store, &batch).await;
    assert_eq!(found(&store, "needle").await, [3]);
}
