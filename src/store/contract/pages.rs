use super::*;
use crate::store::Anchor;

const COUNT: u64 = 10;

async fn page(store: &Arc<dyn Store>, room: &str, anchor: Anchor, limit: u32) -> Vec<u64> {
    let epoch = store.room(&room_id(room)).await.unwrap().map_or(NOW, |found| found.epoch);
    let page = store.messages(&room_id(room), epoch, anchor, limit).await.unwrap();
    for message in &page {
        assert_eq!((&message.room, message.epoch), (&room_id(room), epoch));
        assert_eq!(message.body, format!("body {}", message.seq));
    }
    page.iter().map(|message| message.seq).collect()
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
            assert_eq!(store.messages(&room_id("lobby"), epoch, anchor, 10).await.unwrap(), [], "{epoch} {anchor:?}");
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
                let head = record(&store, "lobby").await.head;
                let log = store.messages(&room_id("lobby"), NOW, Anchor::After(0), u32::MAX).await.unwrap();
                assert!(log.iter().map(|message| message.seq).eq(1..=log.len() as u64), "dense");
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
