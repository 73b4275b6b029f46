use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::store::Anchor;

const ROOMS: [&str; 5] = ["a", "b", "c", "d", "e"];
const USERS: [&str; 4] = ["alice", "bob", "carol", "42"];

/// A few thousand writes in batches of 1…40 over few rooms, users, cmids and bodies, so that duplicates, conflicts,
/// joins and leaves collide within and across batches; after every batch, some reads.
pub(super) async fn the_same_operations_give_the_same_answers_as_memory(store: Arc<dyn Store>) {
    for seed in [1, 2, 3] {
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let mut random = StdRng::seed_from_u64(seed);
        // Every seed has its own rooms in the same store.
        let rooms = ROOMS.map(|room| format!("{room}{seed}"));
        for step in 0..120 {
            let batch: Vec<_> = (0..random.random_range(1..=40)).map(|_| any_write(&mut random, &rooms)).collect();
            let (ours, theirs) = (store.commit(&batch).await.unwrap(), memory.commit(&batch).await.unwrap());
            for ((write, ours), theirs) in batch.iter().zip(&ours).zip(&theirs) {
                assert_eq!(ours, theirs, "seed {seed}, step {step}: {write:?}");
            }
            compare_reads(&mut random, &rooms, &store, &memory, &format!("seed {seed}, step {step}")).await;
        }
    }
}

fn any_write(random: &mut StdRng, rooms: &[String]) -> Write {
    let room = &rooms[random.random_range(0..rooms.len())];
    let who = USERS[random.random_range(0..USERS.len())];
    match random.random_range(0..100) {
        0..2 => create(room),
        2..10 => join(room, who),
        10..18 => leave(room, who),
        _ => {
            let cmid = format!("c{}", random.random_range(0..400));
            let body = if random.random_bool(0.9) { "the usual" } else { "another" };
            say(room, who, &cmid, body)
        }
    }
}

async fn compare_reads(
    random: &mut StdRng,
    rooms: &[String],
    store: &Arc<dyn Store>,
    memory: &Arc<dyn Store>,
    at: &str,
) {
    for name in rooms {
        let room = room_id(name);
        assert_eq!(store.room(&room).await.unwrap(), memory.room(&room).await.unwrap(), "{at}");
        let who = user(USERS[random.random_range(0..USERS.len())]);
        assert_eq!(store.is_member(&room, &who).await.unwrap(), memory.is_member(&room, &who).await.unwrap(), "{at}");
        let seq = random.random_range(0..200);
        let anchor = if random.random_bool(0.5) { Anchor::After(seq) } else { Anchor::Before(seq) };
        let limit = random.random_range(0..60);
        let ours = store.messages(&room, NOW, anchor, limit).await.unwrap();
        assert_eq!(ours, memory.messages(&room, NOW, anchor, limit).await.unwrap(), "{at}: {anchor:?} {limit}");
    }
    let who = user(USERS[random.random_range(0..USERS.len())]);
    let of = |record: &RoomRecord| rooms.contains(&String::from(&record.id));
    let mut ours = store.rooms(Some(&who), None, 100).await.unwrap();
    ours.retain(of);
    assert_eq!(ours, memory.rooms(Some(&who), None, 100).await.unwrap(), "{at}: rooms of {who}");
}
