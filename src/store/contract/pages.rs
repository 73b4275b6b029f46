use super::*;

const COUNT: u64 = 10;

async fn page(store: &Arc<dyn Store>, room: &str, anchor: Anchor, limit: u32) -> Vec<u64> {
    let epoch = store.room(&room_id(room)).await.unwrap().map_or(NOW, |found| found.epoch);
    let page = store.entries(&room_id(room), epoch, View::Everything, anchor, limit, None).await.unwrap();
    for Entry { row, .. } in &page {
        assert_eq!((&row.room, row.epoch), (&room_id(room), epoch));
        assert_eq!(row.body, format!("body {}", row.seq));
    }
    page.iter().map(|entry| entry.row.seq).collect()
}

async fn seen(store: &Arc<dyn Store>, view: View, anchor: Anchor, limit: u32) -> Vec<u64> {
    let page = store.entries(&room_id("lobby"), NOW, view, anchor, limit, None).await.unwrap();
    page.iter().map(|entry| entry.row.seq).collect()
}

/// A room of ten messages between two others, so that a page which runs over its end would show.
async fn three_rooms(store: &Arc<dyn Store>) {
    store.commit(&[create("before"), create("lobby"), create("later"), create("silent")]).await.unwrap();
    for room in ["before", "lobby", "later"] {
        fill(store, room, COUNT).await;
    }
}

pub(super) async fn every_boundary_after(store: Arc<dyn Store>) {
    three_rooms(&store).await;
    for after in 0..=COUNT + 2 {
        for limit in 0..=COUNT + 2 {
            let expected: Vec<_> = (after + 1..=COUNT).take(usize::try_from(limit).unwrap()).collect();
            let limit = u32::try_from(limit).unwrap();
            assert_eq!(page(&store, "lobby", Anchor::After(after), limit).await, expected, "{limit} after {after}");
        }
    }
    assert!(page(&store, "silent", Anchor::After(0), 10).await.is_empty());
    assert!(page(&store, "nowhere", Anchor::After(0), 10).await.is_empty());
}

pub(super) async fn every_boundary_before(store: Arc<dyn Store>) {
    three_rooms(&store).await;
    for before in 0..=COUNT + 3 {
        for limit in 0..=COUNT + 2 {
            let all: Vec<_> = (1..before.min(COUNT + 1)).collect();
            let expected = &all[all.len().saturating_sub(usize::try_from(limit).unwrap())..];
            let limit = u32::try_from(limit).unwrap();
            assert_eq!(page(&store, "lobby", Anchor::Before(before), limit).await, expected, "{limit} before {before}");
        }
    }
    assert!(page(&store, "silent", Anchor::Before(u64::MAX), 10).await.is_empty());
    assert!(page(&store, "nowhere", Anchor::Before(u64::MAX), 10).await.is_empty());
}

pub(super) async fn another_epoch_has_nothing(store: Arc<dyn Store>) {
    three_rooms(&store).await;
    for epoch in [0, 1, NOW - 1, NOW + 1, u64::MAX] {
        for anchor in [Anchor::After(0), Anchor::Before(u64::MAX)] {
            let page = store.entries(&room_id("lobby"), epoch, View::Everything, anchor, 10, None).await.unwrap();
            assert_eq!(page, [], "{epoch} {anchor:?}");
        }
    }
}

pub(super) async fn numbers_beyond_any_log_are_answered(store: Arc<dyn Store>) {
    three_rooms(&store).await;
    for far in [u64::MAX, i64::MAX as u64, i64::MAX as u64 + 1] {
        assert!(page(&store, "lobby", Anchor::After(far), 10).await.is_empty());
        assert_eq!(page(&store, "lobby", Anchor::Before(far), 2).await, [9, 10]);
    }
    assert_eq!(page(&store, "lobby", Anchor::After(0), u32::MAX).await.len(), 10);
}

/// 1 message, 2 reply, 3 message, 4 reaction, 5 note, 6 reply, 7 edit, 8 message, 9 pin, 10 reply of another thread, 11 message.
async fn a_lively_room(store: &Arc<dyn Store>) {
    let batch = [
        create("lobby"),
        join("lobby", "bob"),
        say("lobby", "alice", "1", "root"),
        reply("lobby", "bob", "2", 1, "re"),
        say("lobby", "alice", "3", "other"),
        react("lobby", "bob", "4", 3, "+"),
        set_role("lobby", "bob", Role::Moderator),
        reply("lobby", "alice", "6", 1, "re"),
        edit("lobby", "alice", "7", 3, "changed"),
        say("lobby", "bob", "8", "third"),
        pin("lobby", "bob", "9", 8),
        reply("lobby", "bob", "10", 3, "re"),
        say("lobby", "alice", "11", "last"),
    ];
    commit_all(store, &batch).await;
}

/// Every page of a view, whatever its anchor and its size.
async fn pages_are_cut_from(store: &Arc<dyn Store>, view: View, all: &[u64]) {
    for anchor in 0..=13 {
        for limit in 0..=6 {
            let after: Vec<_> = all.iter().copied().filter(|seq| *seq > anchor).take(limit).collect();
            let before: Vec<_> = all.iter().copied().filter(|seq| *seq < anchor).collect();
            let before = &before[before.len().saturating_sub(limit)..];
            let limit = u32::try_from(limit).unwrap();
            assert_eq!(
                seen(store, view, Anchor::After(anchor), limit).await,
                after,
                "{view:?}: {limit} after {anchor}"
            );
            let page = seen(store, view, Anchor::Before(anchor), limit).await;
            assert_eq!(page, before, "{view:?}: {limit} before {anchor}");
        }
    }
}

pub(super) async fn the_timeline_has_no_changes_and_no_replies(store: Arc<dyn Store>) {
    a_lively_room(&store).await;
    pages_are_cut_from(&store, View::Timeline, &[1, 3, 5, 8, 11]).await;
    pages_are_cut_from(&store, View::Everything, &(1..=11).collect::<Vec<_>>()).await;
}

pub(super) async fn a_thread_begins_with_its_first_message(store: Arc<dyn Store>) {
    a_lively_room(&store).await;
    pages_are_cut_from(&store, View::Thread(1), &[1, 2, 6]).await;
    pages_are_cut_from(&store, View::Thread(3), &[3, 10]).await;
    pages_are_cut_from(&store, View::Thread(8), &[8]).await;
    pages_are_cut_from(&store, View::Thread(4), &[]).await;
    pages_are_cut_from(&store, View::Thread(99), &[]).await;
    let root = entry(&store, "lobby", 1).await.row;
    assert_eq!((root.replies, root.last_reply_seq, root.last_reply_ms), (2, 6, NOW + 2));
}

/// While batches of seven are committed, readers see a multiple of seven, dense from 1, never less than before, and
/// the head of the room agrees with the log.
pub(super) async fn readers_see_only_whole_commits(store: Arc<dyn Store>) {
    const BATCH: u64 = 7;
    const BATCHES: u64 = 60;
    commit_one(&store, create("lobby")).await;

    let writing = async {
        for batch in 0..BATCHES {
            let writes: Vec<_> =
                (1..=BATCH).map(|n| say("lobby", "alice", &format!("c{}", batch * BATCH + n), "x")).collect();
            store.commit(&writes).await.unwrap();
        }
    };
    let reading = |_| {
        let store = Arc::clone(&store);
        async move {
            let mut seen = 0;
            while seen < BATCH * BATCHES {
                let head = row(&store, "lobby").await.head;
                let log = log(&store, "lobby").await;
                assert!(log.iter().map(|entry| entry.row.seq).eq(1..=log.len() as u64), "dense");
                assert_eq!(log.len() as u64 % BATCH, 0, "whole commits");
                assert!(head >= seen && log.len() as u64 >= head, "what was seen stays");
                seen = log.len() as u64;
                tokio::task::yield_now().await;
            }
        }
    };
    let readers = futures_util::future::join_all((0..3).map(reading));
    tokio::time::timeout(std::time::Duration::from_secs(60), futures_util::future::join(writing, readers))
        .await
        .unwrap();
}
