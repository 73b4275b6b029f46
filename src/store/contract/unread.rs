use super::*;
use crate::store::{Unread, UnreadRow};

fn mark(room: &str, who: &str, read_seq: u64) -> Write {
    Write::Mark { room: room_id(room), user: user(who), delivered_seq: read_seq, read_seq }
}

async fn of(store: &Arc<dyn Store>, who: &str, room: &str) -> UnreadRow {
    store.unread(&user(who), Unread::In(&room_id(room)), 1).await.unwrap().remove(0)
}

pub(super) async fn messages_of_others_are_counted(store: Arc<dyn Store>) {
    commit_all(&store, &[create("lobby"), say("lobby", "alice", "c0", "before"), join("lobby", "bob")]).await;
    assert_eq!(of(&store, "bob", "lobby").await.unread, 0, "what was said before counts as read");
    let batch = [
        say("lobby", "alice", "c1", "one"),
        react("lobby", "alice", "c2", 2, "+"),
        reply("lobby", "alice", "c3", 2, "a reply counts"),
        edit("lobby", "alice", "c4", 2, "an edit does not"),
        say("lobby", "alice", "c5", "three"),
    ];
    commit_all(&store, &batch).await;
    let unread = of(&store, "bob", "lobby").await;
    assert_eq!((unread.unread, unread.head, unread.read_seq, unread.epoch), (3, 6, 1, NOW));
    assert_eq!((unread.title.as_str(), unread.last_message_ms), ("The lobby", NOW + 2));
    assert_eq!(of(&store, "alice", "lobby").await.unread, 0);

    for (read, left) in [(2, 2), (3, 2), (4, 1), (2, 1), (5, 1), (6, 0), (99, 0)] {
        let Written::Marked { member } = commit_one(&store, mark("lobby", "bob", read)).await else {
            panic!("not marked")
        };
        assert_eq!(Some(member), self::member(&store, "lobby", "bob").await);
        assert_eq!(of(&store, "bob", "lobby").await.unread, left, "read up to {read}");
    }
    commit_all(&store, &[say("lobby", "alice", "c6", "four"), say("lobby", "bob", "c7", "mine")]).await;
    assert_eq!(of(&store, "bob", "lobby").await.unread, 0, "who answers has read");
    assert_eq!(of(&store, "alice", "lobby").await.unread, 1);
    assert!(store.unread(&user("carol"), Unread::In(&room_id("lobby")), 1).await.unwrap().is_empty());
}

pub(super) async fn mentions_are_counted_by_message(store: Arc<dyn Store>) {
    commit_all(&store, &[create("lobby"), join("lobby", "bob"), create("other"), join("other", "bob")]).await;
    let batch = [
        mention("lobby", "alice", "c1", &["bob"], "you"),
        mention("lobby", "alice", "c2", &["*"], "everybody"),
        mention("lobby", "alice", "c3", &["bob", "*", "carol"], "both, once"),
        mention("lobby", "alice", "c4", &["carol"], "somebody else"),
        mention("other", "alice", "c1", &["bob"], "elsewhere"),
    ];
    commit_all(&store, &batch).await;
    assert_eq!((of(&store, "bob", "lobby").await.mentions, of(&store, "bob", "other").await.mentions), (3, 1));
    commit_one(&store, mark("lobby", "bob", 2)).await;
    assert_eq!((of(&store, "bob", "lobby").await.mentions, of(&store, "bob", "lobby").await.unread), (1, 2));

    let most = u64::from(veza_proto::limits::MENTIONS_COUNTED_MAX);
    let many = |range: std::ops::Range<u64>| -> Vec<Write> {
        range.map(|n| mention("other", "alice", &format!("m{n}"), &["*"], "again")).collect()
    };
    commit_all(&store, &many(1..most)).await;
    assert_eq!(u64::from(of(&store, "bob", "other").await.mentions), most);
    commit_all(&store, &many(most..most + 5)).await;
    let counted = of(&store, "bob", "other").await;
    assert_eq!((u64::from(counted.mentions), u64::from(counted.unread)), (most, most + 5), "mentions up to a bound");
}

pub(super) async fn an_edit_takes_a_mention_back(store: Arc<dyn Store>) {
    commit_all(&store, &[create("lobby"), join("lobby", "bob"), join("lobby", "carol")]).await;
    let revise = |cmid: &str, mentions: &[&str]| {
        let mentions = mentions.iter().map(|user| (*user).to_owned()).collect();
        add("lobby", "alice", cmid, Content::Edit { target: 1, body: cmid.into(), mentions })
    };
    commit_one(&store, mention("lobby", "alice", "c1", &["bob"], "hello")).await;
    commit_one(&store, revise("c2", &["carol"])).await;
    assert_eq!((of(&store, "bob", "lobby").await.mentions, of(&store, "carol", "lobby").await.mentions), (0, 1));
    commit_all(&store, &[revise("c3", &[]), revise("c4", &["bob"]), revise("c5", &[]), revise("c6", &["bob"])]).await;
    assert_eq!((of(&store, "bob", "lobby").await.mentions, of(&store, "carol", "lobby").await.mentions), (1, 0));

    let batch = [
        mention("lobby", "alice", "d1", &["bob"], "hi"),
        add("lobby", "alice", "d2", Content::Edit { target: 7, body: "hi".into(), mentions: vec![] }),
        add("lobby", "alice", "d3", Content::Edit { target: 7, body: "hi".into(), mentions: vec!["bob".into()] }),
    ];
    commit_all(&store, &batch).await;
    assert_eq!(of(&store, "bob", "lobby").await.mentions, 2, "taken back and given again in the batch that said it");
}

pub(super) async fn unread_rooms_in_pages(store: Arc<dyn Store>) {
    let rooms = ["a", "a-1", "b", "c"];
    commit_all(&store, &rooms.map(create)).await;
    commit_all(&store, &["a", "a-1", "c"].map(|room| join(room, "bob"))).await;
    commit_all(&store, &rooms.map(|room| say(room, "alice", "c1", "hello"))).await;
    let page = async |after, limit| -> Vec<(String, u32)> {
        let page = store.unread(&user("bob"), Unread::After(after), limit).await.unwrap();
        page.iter().map(|unread| (String::from(&unread.room), unread.unread)).collect()
    };
    let all = ["a", "a-1", "c"].map(|room| (room.to_owned(), 1));
    assert_eq!(page(None, 10).await, all);
    assert_eq!(page(None, 2).await, all[..2]);
    assert_eq!(page(Some("a"), 2).await, all[1..]);
    assert_eq!(page(Some("c"), 2).await, []);
    commit_all(&store, &[leave("a-1", "bob"), mark("a", "bob", 1)]).await;
    assert_eq!(page(None, 10).await, [("a".to_owned(), 0), ("c".to_owned(), 1)]);
}
