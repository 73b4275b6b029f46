//! Where events are delivered by HTTP: what is kept of webhooks, who may move them, and what becomes of what was not taken.

use veza_engine::ledger::KEPT_MS;
use veza_proto::gateway::v1::{Event, EventFilter, EventKind, event};

use super::*;
use crate::config::Secret;
use crate::store::desk::Used;
use crate::store::hooks::{
    Change, Course, DeadLetter, Former, Fresh, Lease, Letter, Settlement, WEBHOOKS_MAX, WebhookRow,
};
use crate::store::outbox::{CONSUMERS_MAX, Registration, Start};

const NODE: u64 = u64::MAX - 6;
const LETTERS_MAX: u32 = 3;

fn fresh(id: &str) -> Fresh {
    let kinds = vec![EventKind::Message.into()];
    Fresh {
        id: id.into(),
        url: "https://hooks.example/ü?'\";--%_\\".into(),
        filter: EventFilter { kinds, ..EventFilter::default() },
        paused: false,
        secret: Secret::new("sesame"),
        created_ms: NOW,
    }
}

fn used(key: &str, made: &str) -> Used {
    Used { service: "gateway".into(), key: key.into(), digest: u64::MAX - 1, made: made.into(), at_ms: NOW }
}

async fn add(store: &Arc<dyn Database>, id: &str) -> WebhookRow {
    assert!(store.add_webhook(&fresh(id), None).await.unwrap());
    found(store, id).await
}

async fn found(store: &Arc<dyn Database>, id: &str) -> WebhookRow {
    store.webhook(id).await.unwrap().expect("the story has made this webhook")
}

/// A webhook that `NODE` holds.
async fn held(store: &Arc<dyn Database>, id: &str) -> WebhookRow {
    let row = add(store, id).await;
    assert!(store.take_webhook(id, row.lease, NODE).await.unwrap());
    found(store, id).await
}

fn settlement(row: &WebhookRow, position: u64, letter: Letter) -> Settlement {
    Settlement {
        webhook: row.id.clone(),
        holder: NODE,
        revision: row.revision,
        position,
        course: row.course.clone(),
        pauses: false,
        letter,
        at_ms: NOW + 7,
    }
}

async fn commit(store: &Arc<dyn Database>, batch: &[Write]) {
    let written = store.commit(batch).await.unwrap();
    assert!(!written.iter().any(|written| matches!(written, Written::Refused(_))), "{written:?}");
}

async fn events(store: &Arc<dyn Database>, after: u64) -> Vec<Event> {
    while !store.arrange().await.unwrap() {}
    store.events(after, 1_000).await.unwrap()
}

fn letter(event: &Event) -> DeadLetter {
    DeadLetter {
        number: 0,
        delivery: format!("one-{}", event.position),
        event: event.clone(),
        attempts: 3,
        first_attempt_ms: NOW + 1,
        last_attempt_ms: NOW + 2,
        outcome: "status 500".into(),
        requeued_ms: 0,
        tries: 0,
        due_ms: 0,
    }
}

fn aside(event: &Event) -> Letter {
    Letter::Aside { letter: letter(event), letters_max: LETTERS_MAX }
}

/// Puts events aside, one after another.
async fn put_aside(store: &Arc<dyn Database>, row: &WebhookRow, events: &[Event]) {
    for event in events {
        assert!(store.settle(&settlement(row, event.position, aside(event))).await.unwrap());
    }
}

async fn numbers(store: &Arc<dyn Database>, id: &str) -> Vec<u64> {
    store.dead_letters(id, 0, 100).await.unwrap().iter().map(|letter| letter.number).collect()
}

pub(super) async fn a_webhook_is_kept_as_it_was_made_and_changed(store: Arc<dyn Database>) {
    assert_eq!(store.webhook("one").await.unwrap(), None);
    let made = add(&store, "one").await;
    let wanted = WebhookRow {
        id: "one".into(),
        url: fresh("one").url,
        filter: fresh("one").filter,
        paused: false,
        created_ms: NOW,
        secret: Secret::new("sesame"),
        former: None,
        revision: 1,
        rewound: 0,
        position: 0,
        course: Course::default(),
        lease: Lease::default(),
    };
    assert_eq!(made, wanted);
    assert!(store.change_webhook("one", 1, &Change::default(), None).await.unwrap());
    assert_eq!(found(&store, "one").await, WebhookRow { revision: 2, ..wanted.clone() }, "what is not named stays");
    let former = Former { secret: Secret::new("sesame"), until_ms: NOW + 9 };
    let change = Change {
        url: Some("https://other.example/".into()),
        filter: Some(EventFilter::default()),
        paused: Some(true),
        secret: Some((Secret::new("poppy"), former.clone())),
        rewind_to: None,
    };
    assert!(!store.change_webhook("one", 1, &change, Some(&used("k", "one"))).await.unwrap(), "somebody was first");
    assert_eq!(store.used("gateway", "k").await.unwrap(), None);
    assert!(!store.change_webhook("two", 1, &change, None).await.unwrap());
    assert!(store.change_webhook("one", 2, &change, Some(&used("k", "one"))).await.unwrap());
    assert_eq!(store.used("gateway", "k").await.unwrap(), Some(used("k", "one")));
    let changed = WebhookRow {
        url: "https://other.example/".into(),
        filter: EventFilter::default(),
        paused: true,
        secret: Secret::new("poppy"),
        former: Some(former),
        revision: 3,
        ..wanted
    };
    assert_eq!(found(&store, "one").await, changed);
    assert!(store.change_webhook("one", 3, &Change { paused: Some(false), ..Change::default() }, None).await.unwrap());
    assert!(!found(&store, "one").await.paused);
    add(&store, "three").await;
    let ids = async |after, limit| {
        let rows = store.webhooks(after, limit).await.unwrap();
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!((ids("", 1).await, ids("one", 9).await), (vec!["one".to_owned()], vec!["three".to_owned()]));
    let shown = format!("{:?}", found(&store, "one").await);
    assert!(!shown.contains("sesame") && !shown.contains("poppy"), "{shown}");
}

/// What happens is kept for it as for others, and it stands in nobody's list.
pub(super) async fn a_webhook_is_a_consumer_that_nobody_sees(store: Arc<dyn Database>) {
    commit(&store, &[create("lobby"), say("lobby", "alice", "c1", "unheard")]).await;
    add(&store, "one").await;
    commit(&store, &[say("lobby", "alice", "c2", "heard")]).await;
    let all = events(&store, 0).await;
    assert_eq!(all.len(), 1);
    let row = add(&store, "two").await;
    assert_eq!(row.position, all[0].position, "it begins with what happens from now on");
    for name in ["webhook", "webhooks", "webhop"] {
        let registration = Registration { name: name.into(), filter: None, start: Start::Now, holder: 1, at_ms: NOW };
        assert!(store.register(&registration).await.unwrap().is_some());
    }
    let named: Vec<_> = store.consumers("", 100).await.unwrap().into_iter().map(|row| row.name).collect();
    assert_eq!(named, ["webhook", "webhooks", "webhop"]);
    assert_eq!(store.consumers("webhook", 1).await.unwrap()[0].name, "webhooks");
}

pub(super) async fn there_are_so_many_webhooks_and_no_more(store: Arc<dyn Database>) {
    for nth in 0..WEBHOOKS_MAX {
        add(&store, &format!("w{nth:02}")).await;
    }
    assert!(!store.add_webhook(&fresh("more"), Some(&used("k", "more"))).await.unwrap());
    assert_eq!((store.webhook("more").await.unwrap(), store.used("gateway", "k").await.unwrap()), (None, None));
    for nth in 0..CONSUMERS_MAX {
        let registration =
            Registration { name: format!("c{nth}"), filter: None, start: Start::Now, holder: 1, at_ms: NOW };
        assert!(store.register(&registration).await.unwrap().is_some(), "they take no consumer's place");
    }
    assert!(store.remove_webhook("w00", None).await.unwrap());
    add(&store, "more").await;
}

pub(super) async fn a_webhook_is_made_once_under_a_key(store: Arc<dyn Database>) {
    assert!(store.add_webhook(&fresh("one"), Some(&used("k1", "one"))).await.unwrap());
    assert!(!store.add_webhook(&fresh("two"), Some(&used("k1", "two"))).await.unwrap());
    assert_eq!(store.webhook("two").await.unwrap(), None);
    assert_eq!(store.used("gateway", "k1").await.unwrap().unwrap().made, "one");
    let other = Used { service: "other".into(), ..used("k1", "three") };
    assert!(store.add_webhook(&fresh("three"), Some(&other)).await.unwrap());
    let later = Fresh { created_ms: NOW + KEPT_MS, ..fresh("four") };
    let used_later = Used { at_ms: NOW + KEPT_MS, ..used("k1", "four") };
    assert!(store.add_webhook(&later, Some(&used_later)).await.unwrap(), "the key is forgotten by then");
    let both = [fresh("five"), fresh("six")];
    let keys = [used("k2", "five"), used("k2", "six")];
    let at_once = futures_util::future::join(
        store.add_webhook(&both[0], Some(&keys[0])),
        store.add_webhook(&both[1], Some(&keys[1])),
    );
    let (one, other) = at_once.await;
    assert_ne!(one.unwrap(), other.unwrap(), "of two at once one is made");
}

pub(super) async fn one_node_holds_a_webhook_until_it_falls_silent(store: Arc<dyn Database>) {
    let made = add(&store, "one").await;
    assert!(store.take_webhook("one", made.lease, 1).await.unwrap());
    let taken = found(&store, "one").await.lease;
    assert_eq!(taken.holder, 1);
    assert!(!store.take_webhook("one", made.lease, 2).await.unwrap(), "another one was faster");
    store.renew_leases(1).await.unwrap();
    let now = found(&store, "one").await.lease;
    // Where nobody else can look, no beat is written.
    assert_eq!(store.take_webhook("one", taken, 2).await.unwrap(), now == taken, "who lives is left alone");
    let last = found(&store, "one").await;
    store.leave_webhooks(99).await.unwrap();
    assert_eq!(found(&store, "one").await, last);
    store.leave_webhooks(last.lease.holder).await.unwrap();
    let free = found(&store, "one").await.lease;
    assert_eq!(free.holder, 0);
    assert!(store.take_webhook("one", free, 3).await.unwrap() && !store.take_webhook("two", free, 3).await.unwrap());
    assert_eq!(found(&store, "one").await.revision, 1, "who delivers is no change of what was said");
}

pub(super) async fn only_who_holds_a_webhook_settles(store: Arc<dyn Database>) {
    let row = held(&store, "one").await;
    commit(&store, &[create("lobby"), say("lobby", "alice", "c1", "hello")]).await;
    let all = events(&store, 0).await;
    let course = Course {
        last_outcome: "status 500".into(),
        last_attempt_ms: NOW + 3,
        failures: 9,
        tries: 2,
        first_try_ms: NOW + 1,
        due_ms: NOW + 8,
    };
    let step = Settlement { course: course.clone(), ..settlement(&row, all[0].position, Letter::None) };
    assert!(!store.settle(&Settlement { holder: NODE - 1, ..step.clone() }).await.unwrap());
    assert!(!store.settle(&Settlement { revision: 2, ..step.clone() }).await.unwrap());
    assert_eq!(found(&store, "one").await, row);
    assert!(store.settle(&step).await.unwrap());
    let after = found(&store, "one").await;
    assert_eq!((after.position, &after.course, after.revision), (all[0].position, &course, 1));
    assert!(store.settle(&Settlement { position: 0, ..step.clone() }).await.unwrap());
    assert_eq!(found(&store, "one").await.position, all[0].position, "a position never goes back by itself");
    // What was said anew is tried anew.
    assert!(store.change_webhook("one", 1, &Change::default(), None).await.unwrap());
    let anew = Course { tries: 0, first_try_ms: 0, due_ms: 0, ..course };
    assert_eq!(found(&store, "one").await.course, anew);
    assert!(!store.settle(&step).await.unwrap(), "it was changed since it was looked at");
    assert!(store.settle(&Settlement { revision: 2, pauses: true, ..step }).await.unwrap());
    let paused = found(&store, "one").await;
    assert_eq!((paused.paused, paused.revision), (true, 3));
}

pub(super) async fn a_webhook_that_is_set_back_repeats(store: Arc<dyn Database>) {
    let row = held(&store, "one").await;
    commit(&store, &[create("lobby"), say("lobby", "alice", "c1", "hello")]).await;
    let head = events(&store, 0).await.last().unwrap().position;
    assert!(store.settle(&settlement(&row, head, Letter::None)).await.unwrap());
    let back = |to| Change { rewind_to: Some(to), ..Change::default() };
    assert!(store.change_webhook("one", 1, &back(1), None).await.unwrap());
    let rewound = found(&store, "one").await;
    assert_eq!((rewound.position, rewound.rewound), (1, 1));
    assert!(!store.settle(&settlement(&row, head, Letter::None)).await.unwrap(), "what was under way does not undo it");
    assert!(store.change_webhook("one", 2, &back(head), None).await.unwrap());
    assert_eq!(found(&store, "one").await.position, 1, "nothing is left out");
}

pub(super) async fn what_is_put_aside_is_listed_and_told_as_it_is_by_then(store: Arc<dyn Database>) {
    let row = held(&store, "one").await;
    commit(&store, &[create("lobby"), say("lobby", "alice", "c1", "secret")]).await;
    let all = events(&store, 0).await;
    put_aside(&store, &row, &all).await;
    let wanted = |nth: usize| DeadLetter { number: nth as u64 + 1, ..letter(&all[nth]) };
    let letters: Vec<_> = (0..3).map(wanted).collect();
    assert_eq!(store.dead_letters("one", 0, 100).await.unwrap(), letters);
    assert_eq!(store.dead_letters("one", 1, 1).await.unwrap(), letters[1..2]);
    assert_eq!(store.dead_letter_count("one").await.unwrap(), 3);
    assert_eq!((store.dead_letter_count("two").await.unwrap(), numbers(&store, "two").await), (0, vec![]));
    assert_eq!(found(&store, "one").await.position, all[2].position);
    commit(&store, &[delete("lobby", "alice", "c2", 1)]).await;
    let told = store.dead_letters("one", 2, 1).await.unwrap().remove(0).event.kind;
    let Some(event::Kind::Message(told)) = told else { panic!("{told:?}") };
    let message = told.message.unwrap();
    assert!(message.deleted.is_some() && message.body.is_empty() && message.seq == 1, "{message:?}");
}

pub(super) async fn dead_letters_are_delivered_again_oldest_first(store: Arc<dyn Database>) {
    let row = held(&store, "one").await;
    commit(&store, &[create("lobby"), say("lobby", "alice", "c1", "hello")]).await;
    let all = events(&store, 0).await;
    put_aside(&store, &row, &all).await;
    assert_eq!(store.next_requeued("one").await.unwrap(), None);
    assert!(!store.requeue("one", 2, Some(2), NOW + 20, None).await.unwrap());
    assert!(store.requeue("one", 1, Some(2), NOW + 20, Some(&used("k", "1"))).await.unwrap());
    assert!(store.used("gateway", "k").await.unwrap().is_some());
    let next = store.next_requeued("one").await.unwrap().unwrap();
    assert_eq!((next.number, next.requeued_ms), (2, NOW + 20));
    let row = found(&store, "one").await;
    assert_eq!(row.revision, 2, "who delivers notices");
    let again = DeadLetter {
        attempts: 4,
        last_attempt_ms: NOW + 21,
        outcome: "no answer within 5 s".into(),
        tries: 1,
        due_ms: NOW + 30,
        ..next
    };
    assert!(store.settle(&settlement(&row, 0, Letter::Failed(again.clone()))).await.unwrap());
    assert_eq!(store.next_requeued("one").await.unwrap(), Some(again.clone()));
    let rests = DeadLetter { requeued_ms: 0, tries: 0, due_ms: 0, ..again };
    assert!(store.settle(&settlement(&row, 0, Letter::Failed(rests.clone()))).await.unwrap());
    assert_eq!(store.next_requeued("one").await.unwrap(), None);
    assert_eq!(store.dead_letters("one", 1, 1).await.unwrap(), [rests]);
    assert!(store.requeue("one", 2, None, NOW + 40, None).await.unwrap());
    let row = found(&store, "one").await;
    for number in 1..=3 {
        assert_eq!(store.next_requeued("one").await.unwrap().unwrap().number, number);
        assert!(store.settle(&settlement(&row, 0, Letter::Delivered(number))).await.unwrap());
    }
    assert_eq!((store.next_requeued("one").await.unwrap(), store.dead_letter_count("one").await.unwrap()), (None, 0));
    put_aside(&store, &row, &all[..1]).await;
    assert_eq!(numbers(&store, "one").await, [4], "numbers are not given again");
}

pub(super) async fn dead_letters_at_their_bound_and_one_past(store: Arc<dyn Database>) {
    let (row, other) = (held(&store, "one").await, held(&store, "two").await);
    commit(&store, &[create("lobby"), say("lobby", "alice", "c1", "hello")]).await;
    commit(&store, &[say("lobby", "alice", "c2", "again")]).await;
    let all = events(&store, 0).await;
    put_aside(&store, &other, &all[..1]).await;
    put_aside(&store, &row, &all[..LETTERS_MAX as usize]).await;
    assert_eq!(numbers(&store, "one").await, [1, 2, 3]);
    put_aside(&store, &row, &all[3..]).await;
    assert_eq!(numbers(&store, "one").await, [2, 3, 4], "the oldest goes");
    assert_eq!(numbers(&store, "two").await, [1]);
}

pub(super) async fn what_is_removed_is_gone(store: Arc<dyn Database>) {
    let row = held(&store, "one").await;
    commit(&store, &[create("lobby")]).await;
    put_aside(&store, &row, &events(&store, 0).await).await;
    assert!(store.remove_webhook("one", Some(&used("k", "one"))).await.unwrap());
    assert!(!store.remove_webhook("one", Some(&used("k2", "one"))).await.unwrap());
    assert!(
        store.used("gateway", "k").await.unwrap().is_some() && store.used("gateway", "k2").await.unwrap().is_none()
    );
    assert_eq!(store.dead_letter_count("one").await.unwrap(), 0);
    assert!(!store.settle(&settlement(&row, 0, Letter::None)).await.unwrap());
    let before = store.span().await.unwrap();
    commit(&store, &[say("lobby", "alice", "c1", "unheard")]).await;
    events(&store, 0).await;
    assert_eq!(store.span().await.unwrap(), before, "nobody listens any more");
}
