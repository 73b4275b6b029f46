use veza_engine::ledger::Detail;
use veza_proto::v1::{Attachment, Reaction};

use super::*;
use crate::store::{Scope, Search, Unread};

async fn lobby(store: &Arc<dyn Store>) {
    commit_all(store, &[create("lobby"), join("lobby", "bob"), join("lobby", "carol")]).await;
}

async fn bodies_before(store: &Arc<dyn Store>, seq: u64) -> Vec<(String, u64)> {
    let revisions = store.revisions(&room_id("lobby"), NOW, seq).await.unwrap();
    revisions.into_iter().map(|revision| (revision.body, revision.at_ms)).collect()
}

async fn reactors(store: &Arc<dyn Store>, seq: u64, emoji: &str, limit: u32) -> (Vec<String>, u32) {
    let (users, total) = store.reactors(&room_id("lobby"), NOW, seq, emoji, limit).await.unwrap();
    (users.iter().map(String::from).collect(), total)
}

async fn pinned(store: &Arc<dyn Store>) -> Vec<u64> {
    let pins = store.pins(&room_id("lobby"), &user("alice")).await.unwrap();
    for pin in &pins {
        assert_eq!(*pin, entry(store, "lobby", pin.row.seq).await);
        assert!(pin.row.pinned);
    }
    pins.iter().map(|pin| pin.row.seq).collect()
}

fn unpin(author: &str, cmid: &str, target: u64) -> Write {
    add("lobby", author, cmid, Content::Pin { target, remove: true })
}

fn take_back(author: &str, cmid: &str, target: u64, emoji: &str) -> Write {
    add("lobby", author, cmid, Content::React { target, emoji: emoji.into(), remove: true })
}

pub(super) async fn an_edit_is_an_entry_and_changes_its_message(store: Arc<dyn Store>) {
    lobby(&store).await;
    commit_one(&store, say("lobby", "alice", "c1", "hello")).await;
    let written = commit_one(&store, edit("lobby", "alice", "c2", 1, "hello!")).await;
    let log = log(&store, "lobby").await;
    assert_eq!(log[1].row, *appended(&written));
    assert_eq!(log[1].row.detail, Detail::Edit { target: 1, mentions: Vec::new(), revision: 1 });
    assert_eq!((log[1].row.body.as_str(), log[0].row.body.as_str()), ("hello!", "hello!"));
    assert_eq!((log[0].row.edits, log[0].row.edited_ms, log[0].row.messages), (1, NOW + 2, 1));
    let foreign = commit_one(&store, edit("lobby", "bob", "c3", 1, "mine")).await;
    assert!(matches!(foreign, Written::Refused(Refusal::Forbidden(_))));
    assert_eq!(
        commit_one(&store, say("lobby", "alice", "c1", "hello")).await,
        duplicate(&log[0].row),
        "as it was said"
    );
}

pub(super) async fn bodies_before_an_edit_are_kept(store: Arc<dyn Store>) {
    lobby(&store).await;
    let mut batch = vec![say("lobby", "alice", "c1", "one")];
    batch.extend(["two", "three"].map(|body| edit("lobby", "alice", body, 1, body)));
    commit_all(&store, &batch).await;
    commit_one(&store, edit("lobby", "alice", "four", 1, "four")).await;
    let before = ["one", "two", "three"].map(|body| (body.to_owned(), NOW + 2));
    assert_eq!(bodies_before(&store, 1).await, before);
    assert_eq!(bodies_before(&store, 2).await, []);
    assert_eq!(store.revisions(&room_id("lobby"), NOW + 1, 1).await.unwrap(), [], "of another epoch");
    assert_eq!(entry(&store, "lobby", 1).await.row.edits, 3);
}

pub(super) async fn reactions_are_counted_by_emoji(store: Arc<dyn Store>) {
    lobby(&store).await;
    let batch = [
        say("lobby", "alice", "c1", "hello"),
        react("lobby", "bob", "r1", 1, "👍"),
        react("lobby", "alice", "r2", 1, "👍"),
        react("lobby", "carol", "r3", 1, ":veza:"),
        say("lobby", "alice", "c2", "next"),
        react("lobby", "bob", "r4", 5, "👍"),
    ];
    commit_all(&store, &batch).await;
    let reaction = |emoji: &str, count, mine| Reaction { emoji: emoji.into(), count, mine };
    assert_eq!(entry(&store, "lobby", 1).await.reactions, [reaction(":veza:", 1, false), reaction("👍", 2, true)]);
    assert_eq!(entry(&store, "lobby", 5).await.reactions, [reaction("👍", 1, false)]);
    assert_eq!(reactors(&store, 1, "👍", 10).await, (vec!["alice".into(), "bob".into()], 2));
    assert_eq!(reactors(&store, 1, "👍", 1).await, (vec!["alice".into()], 2));
    assert_eq!(reactors(&store, 1, "👎", 1).await, (vec![], 0));
    assert_eq!(store.reactors(&room_id("lobby"), NOW + 1, 1, "👍", 9).await.unwrap(), (vec![], 0), "of another epoch");

    commit_all(&store, &[take_back("alice", "r5", 1, "👍"), take_back("carol", "r6", 1, ":veza:")]).await;
    assert_eq!(entry(&store, "lobby", 1).await.reactions, [reaction("👍", 1, false)]);
    assert_eq!(reactors(&store, 1, ":veza:", 10).await, (vec![], 0));
    assert!(matches!(
        commit_one(&store, take_back("alice", "r7", 1, "👍")).await,
        Written::Refused(Refusal::NotFound(_))
    ));
    commit_all(&store, &[react("lobby", "alice", "r8", 1, "👍"), take_back("bob", "r9", 1, "👍")]).await;
    assert_eq!(reactors(&store, 1, "👍", 10).await, (vec!["alice".into()], 1));
    assert_eq!(entry(&store, "lobby", 1).await.row.reacted, 1);
}

pub(super) async fn pins_are_listed_latest_first(store: Arc<dyn Store>) {
    lobby(&store).await;
    fill(&store, "lobby", 3).await;
    commit_all(&store, &[2, 1, 3].map(|seq| pin("lobby", "alice", &format!("p{seq}"), seq))).await;
    assert_eq!(pinned(&store).await, [3, 1, 2]);
    commit_all(&store, &[unpin("alice", "u1", 3), unpin("alice", "u2", 2), pin("lobby", "alice", "p4", 2)]).await;
    assert_eq!(pinned(&store).await, [2, 1], "pinned again, it is the latest");
    assert!(!entry(&store, "lobby", 3).await.row.pinned);
    assert!(matches!(commit_one(&store, unpin("alice", "u3", 3)).await, Written::Refused(Refusal::NotFound(_))));
    assert!(store.pins(&room_id("nowhere"), &user("alice")).await.unwrap().is_empty());
}

/// A message with everything that can hang on it, by bob: 1 message, 2 edit, 3 reaction, 4 pin, 5 reply, 6 edit.
fn a_full_message() -> [Write; 6] {
    let attachments = vec![Attachment { url: "https://secret.example/".into(), ..Attachment::default() }];
    let mentions = vec!["alice".into(), "carol".into()];
    let message = Content::Text { body: "secret".into(), thread: 0, reply_to: 0, mentions, attachments };
    let revised = Content::Edit { target: 1, body: "secret secrets".into(), mentions: vec!["carol".into()] };
    [
        add("lobby", "bob", "c1", message),
        edit("lobby", "bob", "c2", 1, "secretly"),
        react("lobby", "carol", "c3", 1, "🤫"),
        pin("lobby", "alice", "c4", 1),
        reply("lobby", "carol", "c5", 1, "what?"),
        add("lobby", "bob", "c6", revised),
    ]
}

async fn nothing_is_left(store: &Arc<dyn Store>, deleted_at: u64) {
    for entry in log(store, "lobby").await {
        let shown = format!("{entry:?}");
        assert!(!shown.contains("secret") && !shown.contains("🤫") || entry.row.seq == 3, "{shown}");
    }
    let gone = entry(store, "lobby", 1).await;
    let tombstone = gone.row.deleted.clone().unwrap();
    let deletion = entry(store, "lobby", deleted_at).await.row;
    assert_eq!((tombstone.seq, tombstone.by, tombstone.at_ms), (deleted_at, user("bob"), deletion.at_ms));
    assert_eq!((gone.row.body.as_str(), gone.row.pinned, gone.row.reacted, gone.reactions.len()), ("", false, 0, 0));
    let bare = Detail::Text { thread: 0, reply_to: 0, mentions: Vec::new(), attachments: Vec::new() };
    assert_eq!((&gone.row.detail, gone.row.replies), (&bare, 1), "the thread stays");
    for (seq, revision) in [(2, 1), (6, 2)] {
        let edit = entry(store, "lobby", seq).await.row;
        assert_eq!((edit.body.as_str(), edit.detail), ("", Detail::Edit { target: 1, mentions: Vec::new(), revision }));
    }
    assert_eq!(bodies_before(store, 1).await, []);
    assert_eq!(reactors(store, 1, "🤫", 10).await, (vec![], 0));
    assert_eq!(pinned(store).await, [0; 0]);
    for who in ["alice", "carol"] {
        let unread = store.unread(&user(who), Unread::In(&room_id("lobby")), 1).await.unwrap();
        assert_eq!(unread[0].mentions, 0, "{who}");
    }
    let search = Search {
        query: "secret*".into(),
        scope: Scope::Room { room: room_id("lobby"), before: u64::MAX, viewer: user("alice") },
        author: None,
    };
    assert_eq!(store.search(&search, 10).await.unwrap(), []);
}

pub(super) async fn a_deletion_leaves_no_trace(store: Arc<dyn Store>) {
    lobby(&store).await;
    commit_all(&store, &a_full_message()).await;
    let kept = Write::Append {
        room: room_id("lobby"),
        author: user("bob").into(),
        cmid: Cmid::parse("c7").unwrap(),
        content: Content::text("beside it"),
        at_ms: NOW + 3,
    };
    commit_all(&store, &[kept, edit("lobby", "bob", "c8", 7, "still beside it"), pin("lobby", "alice", "c9", 7)]).await;
    commit_one(&store, unpin("alice", "c10", 7)).await;
    commit_one(&store, delete("lobby", "bob", "c11", 1)).await;
    nothing_is_left(&store, 11).await;
    let neighbour = entry(&store, "lobby", 7).await.row;
    assert_eq!((neighbour.body.as_str(), neighbour.edits), ("still beside it", 1), "its neighbours are untouched");
    assert_eq!(entry(&store, "lobby", 8).await.row.body, "still beside it");
    assert_eq!(bodies_before(&store, 7).await, [("beside it".into(), NOW + 3)]);
    let gone = commit_one(&store, edit("lobby", "bob", "c12", 1, "back")).await;
    assert_eq!(gone, Written::Refused(Refusal::Gone));
}

pub(super) async fn what_is_said_changed_and_deleted_in_one_batch_is_gone(store: Arc<dyn Store>) {
    lobby(&store).await;
    let mut batch = a_full_message().to_vec();
    batch.push(delete("lobby", "bob", "c7", 1));
    commit_all(&store, &batch).await;
    nothing_is_left(&store, 7).await;
}

pub(super) async fn a_retry_after_the_deletion_is_a_duplicate(store: Arc<dyn Store>) {
    lobby(&store).await;
    let said = commit_all(&store, &a_full_message()).await;
    commit_one(&store, delete("lobby", "bob", "c7", 1)).await;
    let again = store.commit(&a_full_message()).await.unwrap();
    assert_eq!(again, said.iter().map(|written| duplicate(appended(written))).collect::<Vec<_>>());
    let other =
        store.commit(&[say("lobby", "bob", "c1", "other"), edit("lobby", "bob", "c2", 1, "other")]).await.unwrap();
    assert_eq!(other, [Written::Refused(Refusal::CmidConflict), Written::Refused(Refusal::CmidConflict)]);
    nothing_is_left(&store, 7).await;
}

pub(super) async fn what_was_done_is_a_duplicate_with_another_cmid(store: Arc<dyn Store>) {
    lobby(&store).await;
    let done = [
        say("lobby", "alice", "c1", "hello"),
        say("lobby", "alice", "c2", "bye"),
        react("lobby", "bob", "c3", 1, "+"),
        pin("lobby", "alice", "c4", 1),
        delete("lobby", "alice", "c5", 2),
    ];
    let written = commit_all(&store, &done).await;
    let again =
        [react("lobby", "bob", "d3", 1, "+"), pin("lobby", "alice", "d4", 1), delete("lobby", "alice", "d5", 2)];
    let answers: Vec<_> = written[2..].iter().map(|written| duplicate(appended(written))).collect();
    assert_eq!(store.commit(&again).await.unwrap(), answers);
    assert_eq!(row(&store, "lobby").await.head, 5, "nothing was written");
}
