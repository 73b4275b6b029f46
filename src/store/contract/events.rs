//! What is told to whoever listens from outside: in order, once, and only while somebody does.

use veza_engine::ledger::OnceKey;
use veza_proto::gateway::v1::event::Kind;
use veza_proto::gateway::v1::{
    Decision, Effects, Event, EventFilter, EventKind, Review, Revoked, SessionConnected, Stream, revoked,
};

use super::*;
use crate::store::desk::{ReviewRow, StreamRow};
use crate::store::outbox::{CONSUMERS_MAX, ConsumerRow, Registration, Removed, Span, Start, Told};
use crate::store::records::{Revocation, Subject};

fn consumer(name: &str, start: Start) -> Registration {
    Registration { name: name.into(), filter: None, start, holder: 7, at_ms: NOW }
}

async fn register(store: &Arc<dyn Database>, name: &str, start: Start) -> ConsumerRow {
    store.register(&consumer(name, start)).await.unwrap().expect("there is room for it")
}

async fn commit(store: &Arc<dyn Database>, batch: &[Write]) {
    let written = store.commit(batch).await.unwrap();
    assert!(!written.iter().any(|written| matches!(written, Written::Refused(_))), "{written:?}");
}

/// Everything behind a position, page by page of this size.
async fn events(store: &Arc<dyn Database>, mut after: u64, page: u32) -> Vec<Event> {
    while !store.arrange().await.unwrap() {}
    let mut all: Vec<Event> = Vec::new();
    loop {
        let found = store.events(after, page).await.unwrap();
        let Some(last) = found.last() else { return all };
        assert!(last.position > after && found.is_sorted_by(|a, b| a.position < b.position));
        after = last.position;
        all.extend(found);
    }
}

/// `room: what`, in one line.
fn told(events: &[Event]) -> Vec<String> {
    let what = |event: &Event| match event.kind.as_ref().unwrap() {
        Kind::Message(stored) => {
            let message = stored.message.as_ref().unwrap();
            let deleted = if message.deleted.is_some() { " deleted" } else { "" };
            format!("{} {} {:?}{deleted}", message.seq, message.author, message.body)
        }
        Kind::RoomCreated(made) => format!("made by {}", made.creator),
        Kind::MemberJoined(joined) => format!("{} joined", joined.member.as_ref().unwrap().user),
        Kind::MemberLeft(_) => format!("{} left", event.user),
        Kind::RoomUpdated(_)
        | Kind::MemberRoleChanged(_)
        | Kind::MemberSanctioned(_)
        | Kind::SessionConnected(_)
        | Kind::SessionDisconnected(_)
        | Kind::Revoked(_)
        | Kind::StreamChanged(_)
        | Kind::ReviewChanged(_) => format!("{:?}", event.kind),
    };
    events.iter().map(|event| format!("{}: {}", event.room, what(event))).collect()
}

pub(super) async fn nothing_is_kept_while_nobody_listens(store: Arc<dyn Database>) {
    commit(&store, &[create("lobby"), say("lobby", "alice", "c1", "unheard")]).await;
    let unheard =
        Told { at_ms: NOW, room: None, user: None, kind: Kind::SessionConnected(SessionConnected::default()) };
    store.append(std::slice::from_ref(&unheard)).await.unwrap();
    let made = register(&store, "shop", Start::Earliest).await;
    assert_eq!((made.position, store.span().await.unwrap()), (0, Span::default()));
    commit(&store, &[create("den")]).await;
    commit(&store, &[say("lobby", "alice", "c2", "heard")]).await;
    assert_eq!(store.remove("shop", None, NOW).await.unwrap(), Removed::Now);
    commit(&store, &[say("lobby", "alice", "c3", "unheard again")]).await;
    let heard = ["den: made by alice", "den: alice joined", "lobby: 2 alice \"heard\""];
    assert_eq!(told(&events(&store, 0, 100).await), heard);
}

pub(super) async fn events_come_in_the_order_of_the_commits(store: Arc<dyn Database>) {
    register(&store, "shop", Start::Now).await;
    let batch = [create("a"), create("b"), say("a", "alice", "c1", "one"), say("b", "alice", "c1", "two")];
    commit(&store, &batch).await;
    commit(&store, &[join("a", "bob"), say("a", "bob", "c1", "three"), leave("a", "bob")]).await;
    // A retry and a refusal are nothing new.
    store.commit(&[say("a", "alice", "c1", "one"), say("nowhere", "alice", "c1", "lost")]).await.unwrap();
    let wanted = [
        "a: made by alice",
        "a: alice joined",
        "b: made by alice",
        "b: alice joined",
        "a: 1 alice \"one\"",
        "b: 1 alice \"two\"",
        "a: bob joined",
        "a: 2 bob \"three\"",
        "a: bob left",
    ];
    for page in [1, 2, 4, 9, 10] {
        assert_eq!(told(&events(&store, 0, page).await), wanted, "pages of {page}");
    }
    let all = events(&store, 0, 100).await;
    assert_eq!(told(&events(&store, all[6].position, 100).await), wanted[7..]);
    assert_eq!(store.span().await.unwrap().head, all[8].position);
    assert_eq!(store.waiting_since(all[7].position).await.unwrap(), Some(all[8].at_ms));
    assert_eq!(store.waiting_since(all[8].position).await.unwrap(), None);
}

/// The content is read when it is delivered: what was deleted meanwhile is told without it.
pub(super) async fn a_message_is_told_as_it_is_by_then(store: Arc<dyn Database>) {
    register(&store, "shop", Start::Now).await;
    commit(&store, &[create("lobby"), say("lobby", "alice", "c1", "secret"), say("lobby", "alice", "c2", "old")]).await;
    commit(&store, &[edit("lobby", "alice", "c3", 2, "new"), delete("lobby", "alice", "c4", 1)]).await;
    let all = told(&events(&store, 0, 100).await);
    let wanted =
        ["lobby: 1 alice \"\" deleted", "lobby: 2 alice \"new\"", "lobby: 3 alice \"\"", "lobby: 4 alice \"\""];
    assert_eq!(all[2..], wanted);
    commit(&store, &[Write::Expire { room: room_id("lobby"), up_to: 2, at_ms: NOW }]).await;
    assert_eq!(told(&events(&store, 0, 100).await)[3], "lobby: 2  \"\" deleted", "its room keeps it no more");
}

pub(super) async fn a_cursor_moves_forward_only(store: Arc<dyn Database>) {
    assert_eq!(store.acknowledge("shop", 1, NOW).await.unwrap(), None);
    register(&store, "shop", Start::Now).await;
    register(&store, "search", Start::Now).await;
    commit(&store, &[create("lobby"), say("lobby", "alice", "c1", "hello")]).await;
    let head = events(&store, 0, 10).await.last().unwrap().position;
    for (to, stands) in [(1, 1), (2, 2), (1, 2), (0, 2), (head + 1, head)] {
        assert_eq!(store.acknowledge("shop", to, NOW + to).await.unwrap(), Some(stands));
    }
    let shop = store.consumer("shop").await.unwrap().unwrap();
    assert_eq!((shop.position, shop.created_ms, shop.acknowledged_ms), (head, NOW, NOW + head + 1));
    let names: Vec<_> =
        store.consumers("", 10).await.unwrap().into_iter().map(|row| (row.name, row.position)).collect();
    assert_eq!(names, [("search".to_owned(), 0), ("shop".to_owned(), head)]);
    assert_eq!(store.consumers("search", 10).await.unwrap().len(), 1);
}

pub(super) async fn who_registers_again_goes_on_where_it_stood(store: Arc<dyn Database>) {
    register(&store, "shop", Start::Now).await;
    commit(&store, &[create("lobby"), say("lobby", "alice", "c1", "hello")]).await;
    let all = events(&store, 0, 10).await;
    store.acknowledge("shop", all[0].position, NOW).await.unwrap();
    let filter = EventFilter { kinds: vec![EventKind::Message.into()], ..EventFilter::default() };
    let again = Registration { filter: Some(filter.clone()), holder: u64::MAX, ..consumer("shop", Start::Now) };
    let row = store.register(&again).await.unwrap().unwrap();
    assert_eq!((row.position, row.holder, &row.filter), (all[0].position, u64::MAX, &filter));
    assert_eq!(register(&store, "shop", Start::Earliest).await.filter, filter, "who names none keeps it");
    let head = all.last().unwrap().position;
    assert_eq!(register(&store, "now", Start::Now).await.position, head);
    assert_eq!(register(&store, "late", Start::After(all[1].position)).await.position, all[1].position);
    assert_eq!(register(&store, "early", Start::Earliest).await.position, 0);
    assert_eq!(register(&store, "beyond", Start::After(head + 9)).await.position, head);
}

pub(super) async fn there_are_so_many_consumers_and_no_more(store: Arc<dyn Database>) {
    for nth in 0..CONSUMERS_MAX {
        register(&store, &format!("c{nth}"), Start::Now).await;
    }
    assert_eq!(store.register(&consumer("more", Start::Now)).await.unwrap(), None);
    register(&store, "c0", Start::Now).await;
    store.remove("c0", None, NOW).await.unwrap();
    register(&store, "more", Start::Now).await;
}

pub(super) async fn old_events_are_removed_and_it_is_known_how_far(store: Arc<dyn Database>) {
    register(&store, "shop", Start::Now).await;
    commit(&store, &[create("lobby")]).await;
    let batch: Vec<_> = (1..=8).map(|n| say("lobby", "alice", &format!("c{n}"), "hello")).collect();
    commit(&store, &batch).await;
    let all = events(&store, 0, 100).await;
    let head = all.last().unwrap().position;
    assert_eq!(store.forget(NOW, 10).await.unwrap(), Span { expired: 0, head }, "ten are allowed, none is old");
    assert_eq!(store.forget(NOW, 9).await.unwrap().expired, head - 9);
    // The room was made a moment before they spoke.
    assert_eq!(store.forget(NOW + 2, 100).await.unwrap().expired, head - 8);
    assert_eq!(events(&store, 0, 100).await, all[2..]);
    // The last one stays, so that its position is not given again.
    assert_eq!(store.forget(NOW + 99, 0).await.unwrap(), Span { expired: head - 1, head });
    assert_eq!(events(&store, 0, 100).await.len(), 1);
    assert_eq!(register(&store, "early", Start::Earliest).await.position, head - 1);
    commit(&store, &[say("lobby", "alice", "c9", "after")]).await;
    let after = events(&store, head, 100).await;
    assert_eq!((after.len(), after[0].position > head), (1, true));
}

pub(super) async fn a_consumer_is_removed_once_under_a_key(store: Arc<dyn Database>) {
    let key = |key: &str, digest| OnceKey { service: "gateway".into(), key: key.into(), digest };
    assert_eq!(store.remove("shop", Some(&key("k1", 1)), NOW).await.unwrap(), Removed::NotThere, "and no key is used");
    register(&store, "shop", Start::Now).await;
    assert_eq!(store.remove("shop", Some(&key("k1", 1)), NOW).await.unwrap(), Removed::Now);
    register(&store, "shop", Start::Now).await;
    assert_eq!(store.remove("shop", Some(&key("k1", 1)), NOW).await.unwrap(), Removed::Before);
    assert_eq!(store.remove("shop", Some(&key("k1", 2)), NOW).await.unwrap(), Removed::KeyReused);
    assert!(store.consumer("shop").await.unwrap().is_some());
    let later = NOW + veza_engine::ledger::KEPT_MS;
    assert_eq!(store.remove("shop", Some(&key("k1", 2)), later).await.unwrap(), Removed::Now);
}

pub(super) async fn events_of_others_are_appended(store: Arc<dyn Database>) {
    register(&store, "shop", Start::Now).await;
    commit(&store, &[create("lobby")]).await;
    let connected = SessionConnected { session: "s1".into(), ..SessionConnected::default() };
    let kind = Kind::SessionConnected(connected);
    let one = Told { at_ms: NOW + 5, room: None, user: Some(user("bob")), kind: kind.clone() };
    let other = Told { at_ms: NOW + 6, room: Some(room_id("lobby")), user: None, kind: kind.clone() };
    store.append(&[one, other]).await.unwrap();
    let all = events(&store, 0, 100).await;
    assert_eq!(all.len(), 4);
    assert_eq!((all[2].at_ms, all[2].room.as_str(), all[2].user.as_str()), (NOW + 5, "", "bob"));
    assert_eq!((all[3].room.as_str(), all[3].user.as_str(), all[3].kind.as_ref()), ("lobby", "", Some(&kind)));
}

pub(super) async fn streams_and_reviews_are_told_as_they_are_kept(store: Arc<dyn Database>) {
    commit(&store, &[create("lobby")]).await;
    let stream = |revision, room: &str| {
        let (id, owner, room) = ("show".to_owned(), "alice".to_owned(), room.to_owned());
        StreamRow { stream: Stream { id, owner, room, revision, ..Stream::default() }, effects: Effects::default() }
    };
    let review = |revision, pending| {
        let (id, user, reporter) = ("r".to_owned(), "bob".to_owned(), "carol".to_owned());
        let review = Review { id, user, reporter, room: "lobby".into(), revision, ..Review::default() };
        ReviewRow { review, report: String::new(), pending }
    };
    assert!(store.keep_stream(&stream(1, ""), None, NOW).await.unwrap());
    register(&store, "shop", Start::Now).await;
    assert!(!store.keep_stream(&stream(1, ""), None, NOW + 1).await.unwrap(), "there is one of this id");
    for (revision, room) in [(2, "lobby"), (3, "")] {
        assert!(store.keep_stream(&stream(revision, room), None, NOW + revision).await.unwrap());
    }
    for (revision, pending) in [(1, None), (2, Some(Decision::default())), (3, None)] {
        assert!(store.keep_review(&review(revision, pending), None, NOW + 3 + revision).await.unwrap());
    }
    assert!(!store.keep_review(&review(3, None), None, NOW + 9).await.unwrap(), "somebody was first");
    let all = events(&store, 0, 100).await;
    let told: Vec<_> = all
        .iter()
        .map(|event| match &event.kind {
            Some(Kind::StreamChanged(changed)) => ("stream", changed.stream.as_ref().unwrap().revision),
            Some(Kind::ReviewChanged(changed)) => ("review", changed.review.as_ref().unwrap().revision),
            Some(_) | None => panic!("{event:?}"),
        })
        .collect();
    assert_eq!(told, [("stream", 2), ("stream", 3), ("review", 1), ("review", 3)]);
    let about: Vec<_> = all.iter().map(|event| (event.at_ms - NOW, event.room.as_str(), event.user.as_str())).collect();
    assert_eq!(about, [(2, "lobby", "alice"), (3, "", "alice"), (4, "lobby", "bob"), (6, "lobby", "bob")]);
}

pub(super) async fn a_revocation_is_told_with_itself(store: Arc<dyn Database>) {
    let revoked = |at_ms| Revoked { what: Some(revoked::What::IssuedBeforeMs(at_ms)), actor: "service:shop".into() };
    let revoke = async |at_ms| {
        let revocation = Revocation { subject: Subject::User(user("bob")), revoked_ms: at_ms - 1, drop_at_ms: at_ms };
        let told = Told { at_ms, room: None, user: Some(user("bob")), kind: Kind::Revoked(revoked(at_ms)) };
        store.revoke(&revocation, &told).await.unwrap();
    };
    revoke(NOW).await;
    register(&store, "shop", Start::Earliest).await;
    for at_ms in [NOW + 1, NOW + 2] {
        revoke(at_ms).await;
    }
    assert_eq!(store.revocations(0, 10).await.unwrap().len(), 1);
    let all = events(&store, 0, 100).await;
    assert_eq!(all.iter().map(|event| event.user.as_str()).collect::<Vec<_>>(), ["bob"; 2]);
    assert_eq!(all[0].kind, Some(Kind::Revoked(revoked(NOW + 1))));
    assert_eq!(all[1].kind, Some(Kind::Revoked(revoked(NOW + 2))), "whoever revokes again is heard again");
}
