//! The review queue: a report, a decision that is carried out, an appeal.

use tonic::Code;
use veza_client::proto::gateway::v1::*;
use veza_client::proto::v1::ErrorCode;

use super::{Backend, bad_field, not_found, refusal, stage};
use crate::server::Start;

const ROOM: &str = "lounge";

fn report(seq: u64, actor: &str) -> FileReviewRequest {
    FileReviewRequest {
        room: ROOM.into(),
        seq,
        category: ReviewCategory::Spam.into(),
        note: "look at this".into(),
        actor: actor.into(),
        ..Default::default()
    }
}

fn get(id: &str, actor: &str) -> GetReviewRequest {
    GetReviewRequest { id: id.into(), actor: actor.into() }
}

fn decide(id: &str, outcome: Outcome, actor: &str) -> DecideRequest {
    let decision = Decision { outcome: outcome.into(), statement: "advertising".into(), ..Default::default() };
    DecideRequest { id: id.into(), decision: Some(decision), actor: actor.into(), ..Default::default() }
}

fn appeal(id: &str, actor: &str) -> AppealRequest {
    AppealRequest { id: id.into(), text: "it was a joke".into(), actor: actor.into(), ..Default::default() }
}

fn forbidden() -> (Code, String) {
    (Code::PermissionDenied, "PERMISSION_DENIED".into())
}

fn wrong_state() -> (Code, String) {
    (Code::FailedPrecondition, "WRONG_STATE".into())
}

/// Alice owns the room and moderates it, bob has said something, carol has read it.
async fn said(backend: &Backend) -> u64 {
    backend.room(ROOM, "alice", &["bob", "carol"]).await;
    backend.say(ROOM, "bob", "b1", "buy this").await
}

async fn filed(backend: &Backend, seq: u64, actor: &str) -> String {
    backend.moderation().file_review(report(seq, actor)).await.unwrap().into_inner().review.unwrap().id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_is_filed_once_and_keeps_what_was_said() {
    let (_stage, backend) = stage().await;
    let seq = said(&backend).await;
    let mut moderation = backend.moderation();
    let id = filed(&backend, seq, "carol").await;
    assert_eq!(id.len(), 22);
    assert_eq!(filed(&backend, seq, "carol").await, id, "carol has reported it already");
    let twice = FileReviewRequest { note: "again".into(), idempotency_key: "k1".into(), ..report(seq, "") };
    let first = moderation.file_review(twice.clone()).await.unwrap().into_inner().review.unwrap();
    assert_eq!(moderation.file_review(twice.clone()).await.unwrap().into_inner().review.unwrap(), first);
    let other = FileReviewRequest { note: "other".into(), ..twice };
    assert_eq!(refusal(moderation.file_review(other).await), (Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED".into()));

    let delete = DeleteRequest {
        room: ROOM.into(),
        seq,
        actor: "bob".into(),
        idempotency_key: "b2".into(),
        ..Default::default()
    };
    backend.messages().delete(delete).await.unwrap();
    let review = moderation.get_review(get(&id, "alice")).await.unwrap().into_inner().review.unwrap();
    assert_eq!(
        (review.user.as_str(), review.reporter.as_str(), review.source()),
        ("bob", "carol", ReviewSource::Report)
    );
    assert_eq!(review.message.unwrap().body, "buy this", "a deletion does not take it from the moderators");
    // Neither of them is shown the other's name.
    let bobs = moderation.get_review(get(&id, "bob")).await.unwrap().into_inner().review.unwrap();
    assert_eq!((bobs.reporter.as_str(), bobs.note.as_str()), ("", ""));
    let carols = moderation.get_review(get(&id, "carol")).await.unwrap().into_inner().review.unwrap();
    assert_eq!((carols.user.as_str(), carols.message), ("", None));
    assert_eq!(refusal(moderation.get_review(get(&id, "dave")).await), not_found());
    assert_eq!(refusal(moderation.get_review(get("nothing", "")).await), not_found());

    assert_eq!(refusal(moderation.file_review(report(seq, "alice")).await), not_found(), "it is gone");
    let seq = backend.say(ROOM, "bob", "b3", "buy that").await;
    assert_eq!(refusal(moderation.file_review(report(seq, "dave")).await), not_found(), "dave is no member");
    for (wrong, field) in [
        (FileReviewRequest { category: 0, ..report(seq, "carol") }, "category"),
        (FileReviewRequest { note: "n".repeat(2_049), ..report(seq, "carol") }, "note"),
        (FileReviewRequest { room: String::new(), ..report(seq, "carol") }, "room"),
        (FileReviewRequest { user: "alice".into(), ..report(seq, "carol") }, "user"),
        (FileReviewRequest { seq: 0, ..report(seq, "carol") }, "user"),
        (FileReviewRequest { source: ReviewSource::Classifier.into(), ..report(seq, "carol") }, "source"),
        (FileReviewRequest { source: ReviewSource::Report.into(), ..report(seq, "") }, "source"),
        (report(seq, "bob"), "user"),
    ] {
        assert_eq!(bad_field(moderation.file_review(wrong).await), field);
    }
    moderation.file_review(FileReviewRequest { note: "n".repeat(2_048), ..report(seq, "carol") }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_is_read_in_pages_by_moderators() {
    let (_stage, backend) = stage().await;
    let seq = said(&backend).await;
    let mut moderation = backend.moderation();
    let first = filed(&backend, seq, "carol").await;
    let second = filed(&backend, seq, "alice").await;
    let list = |actor: &str, token: &str| ListReviewsRequest {
        room: ROOM.into(),
        state: ReviewState::Open.into(),
        page_size: 1,
        page_token: token.into(),
        actor: actor.into(),
        ..Default::default()
    };
    let page = moderation.list_reviews(list("alice", "")).await.unwrap().into_inner();
    let rest = moderation.list_reviews(list("", &page.next_page_token)).await.unwrap().into_inner();
    let mut seen: Vec<_> = page.reviews.iter().chain(&rest.reviews).map(|review| review.id.clone()).collect();
    let mut wanted = vec![first.clone(), second];
    seen.sort();
    wanted.sort();
    assert_eq!((seen, rest.next_page_token.as_str()), (wanted, ""));
    moderation.decide(decide(&first, Outcome::Dismiss, "alice")).await.unwrap();
    let page = moderation.list_reviews(ListReviewsRequest { page_size: 0, ..list("", "") }).await.unwrap().into_inner();
    assert_eq!(page.reviews.len(), 1, "the other one is decided");
    assert_eq!(refusal(moderation.list_reviews(list("bob", "")).await), forbidden());
    assert_eq!(refusal(moderation.list_reviews(list("dave", "")).await), not_found());
    let everywhere = ListReviewsRequest { room: String::new(), ..list("alice", "") };
    assert_eq!(bad_field(moderation.list_reviews(everywhere).await), "room");
    assert_eq!(refusal(moderation.list_reviews(list("", "x")).await), (Code::InvalidArgument, "PAGE_TOKEN".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_is_carried_out_and_lifted_by_its_appeal() {
    let (stage, backend) = stage().await;
    let seq = said(&backend).await;
    let mut moderation = backend.moderation();
    let bob = stage.player("bob").await;
    bob.join(ROOM).await.unwrap();
    let id = filed(&backend, seq, "carol").await;

    assert_eq!(refusal(moderation.decide(decide(&id, Outcome::Mute, "carol")).await), forbidden());
    assert_eq!(refusal(moderation.decide(decide(&id, Outcome::Mute, "dave")).await), not_found());
    assert_eq!(bad_field(moderation.decide(decide(&id, Outcome::Unspecified, "")).await), "decision.outcome");
    assert_eq!(refusal(moderation.decide(decide(&id, Outcome::Uphold, "")).await), wrong_state());
    let stale = DecideRequest { revision: 9, ..decide(&id, Outcome::Mute, "alice") };
    assert_eq!(refusal(moderation.decide(stale).await), (Code::Aborted, "REVISION_CONFLICT".into()));
    assert_eq!(refusal(moderation.appeal(appeal(&id, "bob")).await), wrong_state(), "nothing is decided");

    let mute = DecideRequest { idempotency_key: "k1".into(), ..decide(&id, Outcome::Mute, "alice") };
    let decided = moderation.decide(mute.clone()).await.unwrap().into_inner().review.unwrap();
    assert_eq!(decided.state(), ReviewState::Decided);
    let decision = &decided.decisions[0];
    assert_eq!((decision.decided_by.as_str(), decision.statement.as_str()), ("alice", "advertising"));
    assert!(decision.at_ms >= decided.created_ms);
    assert_eq!(bob.publish(ROOM, "b2", "hm").await.unwrap_err().code(), ErrorCode::Muted);
    assert_eq!(moderation.decide(mute).await.unwrap().into_inner().review.unwrap(), decided, "the same key");
    assert_eq!(refusal(moderation.decide(decide(&id, Outcome::Ban, "alice")).await), wrong_state(), "decided already");

    assert_eq!(refusal(moderation.appeal(appeal(&id, "carol")).await), forbidden());
    assert_eq!(refusal(moderation.appeal(appeal(&id, "dave")).await), not_found());
    assert_eq!(bad_field(moderation.appeal(appeal(&id, "")).await), "actor");
    let wordless = AppealRequest { text: " ".into(), ..appeal(&id, "bob") };
    assert_eq!(bad_field(moderation.appeal(wordless).await), "text");
    let appealed = moderation.appeal(appeal(&id, "bob")).await.unwrap().into_inner().review.unwrap();
    assert_eq!((appealed.state(), appealed.appeal.unwrap().text.as_str()), (ReviewState::Appealed, "it was a joke"));
    assert_eq!(refusal(moderation.appeal(appeal(&id, "bob")).await), wrong_state(), "once");
    let same = moderation.decide(decide(&id, Outcome::Uphold, "alice")).await;
    assert_eq!(refusal(same), forbidden(), "alice has decided it first");
    let closed = moderation.decide(decide(&id, Outcome::Dismiss, "")).await.unwrap().into_inner().review.unwrap();
    assert_eq!((closed.state(), closed.decisions.len()), (ReviewState::Closed, 2));
    bob.publish(ROOM, "b3", "thank you").await.unwrap();
    assert_eq!(refusal(moderation.decide(decide(&id, Outcome::Uphold, "")).await), wrong_state());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_has_what_was_done_and_does_not_name_who_reported_it() {
    let (_stage, backend) = stage().await;
    let seq = said(&backend).await;
    let mut moderation = backend.moderation();
    let report = FileReviewRequest { idempotency_key: "k1".into(), ..report(seq, "carol") };
    let mut id = String::new();
    for again in [report.clone(), report.clone(), FileReviewRequest { idempotency_key: String::new(), ..report }] {
        id = moderation.file_review(again).await.unwrap().into_inner().review.unwrap().id;
    }
    moderation.decide(decide(&id, Outcome::Mute, "alice")).await.unwrap();
    let appeal = AppealRequest { idempotency_key: "k2".into(), ..appeal(&id, "bob") };
    for _twice in 0..2 {
        moderation.appeal(appeal.clone()).await.unwrap();
    }
    moderation.decide(decide(&id, Outcome::Dismiss, "")).await.unwrap();
    let classified =
        FileReviewRequest { source: ReviewSource::Classifier.into(), actor: String::new(), ..self::report(seq, "") };
    let other = moderation.file_review(classified).await.unwrap().into_inner().review.unwrap().id;
    moderation.decide(decide(&other, Outcome::Warn, "alice")).await.unwrap();

    let audit = ListAuditRequest { room: ROOM.into(), actor: "alice".into(), ..Default::default() };
    let audit = moderation.list_audit(audit).await.unwrap().into_inner().entries;
    let line = |entry: &veza_client::proto::v1::AuditEntry| {
        assert_eq!(entry.user, "bob");
        [&entry.action, &entry.actor, &entry.reason, &entry.detail].map(String::as_str).join("|")
    };
    let expected = [
        format!("file_review|service:@reviews||review {id}"),
        "mute|alice|advertising|until lifted".to_owned(),
        format!("decide_review|alice|advertising|mute review {id}"),
        format!("appeal_review|bob||review {id}"),
        "unmute|service:gateway|advertising|".to_owned(),
        format!("decide_review|service:gateway|advertising|dismiss review {id}"),
        format!("file_review|service:gateway||review {other}"),
        format!("decide_review|alice|advertising|warn review {other}"),
    ];
    let mut told: Vec<_> = audit.iter().filter(|entry| entry.action != "add_member").map(line).collect();
    told.reverse();
    assert_eq!(told, expected);
    let whole = format!("{audit:?}");
    assert!(!whole.contains("carol\", action: \"file") && !whole.contains("look at this"), "{whole}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moderator_who_is_reported_does_not_see_by_whom() {
    let (_stage, backend) = stage().await;
    said(&backend).await;
    let mut moderation = backend.moderation();
    let role = veza_client::proto::v1::Role::Moderator.into();
    let (room, user) = (ROOM.to_owned(), "carol".to_owned());
    backend.rooms().set_role(SetRoleRequest { room, user, role, ..Default::default() }).await.unwrap();
    let seq = backend.say(ROOM, "carol", "c1", "I moderate here").await;
    let id = filed(&backend, seq, "bob").await;
    let list = |actor: &str| ListReviewsRequest { room: ROOM.into(), actor: actor.into(), ..Default::default() };
    for (actor, reporter, note) in [("carol", "", ""), ("alice", "bob", "look at this")] {
        let one = moderation.get_review(get(&id, actor)).await.unwrap().into_inner().review.unwrap();
        let all = moderation.list_reviews(list(actor)).await.unwrap().into_inner().reviews;
        assert_eq!(all, std::slice::from_ref(&one));
        assert_eq!((one.user.as_str(), one.reporter.as_str(), one.note.as_str()), ("carol", reporter, note));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_ledger_refuses_is_not_decided() {
    let (_stage, backend) = stage().await;
    said(&backend).await;
    let mut moderation = backend.moderation();
    let admin = SetRoleRequest {
        room: ROOM.into(),
        user: "carol".into(),
        role: veza_client::proto::v1::Role::Moderator.into(),
        ..Default::default()
    };
    backend.rooms().set_role(admin).await.unwrap();
    // Carol moderates, and alice stands above her.
    let seq = backend.say(ROOM, "alice", "a1", "I am the owner").await;
    let id = filed(&backend, seq, "bob").await;
    assert_eq!(refusal(moderation.decide(decide(&id, Outcome::Kick, "carol")).await), forbidden());
    assert_eq!(refusal(moderation.decide(decide(&id, Outcome::Kick, "alice")).await), forbidden(), "about herself");
    let review = moderation.get_review(get(&id, "")).await.unwrap().into_inner().review.unwrap();
    assert_eq!((review.state(), review.decisions.len()), (ReviewState::Open, 0));
    let done = moderation.decide(decide(&id, Outcome::DeleteMessage, "")).await.unwrap().into_inner().review.unwrap();
    assert_eq!(done.state(), ReviewState::Decided);
    let found = GetMessageRequest { room: ROOM.into(), seq, ..Default::default() };
    assert!(backend.messages().get_message(found).await.unwrap().into_inner().message.unwrap().deleted.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_reported_without_a_message_and_again_after_a_decision() {
    let (_stage, backend) = stage().await;
    let mut moderation = backend.moderation();
    let about = FileReviewRequest {
        user: "bob".into(),
        category: ReviewCategory::Impersonation.into(),
        actor: "carol".into(),
        ..Default::default()
    };
    let id = moderation.file_review(about.clone()).await.unwrap().into_inner().review.unwrap().id;
    assert_eq!(moderation.file_review(about.clone()).await.unwrap().into_inner().review.unwrap().id, id);
    assert_eq!(refusal(moderation.decide(decide(&id, Outcome::Ban, "")).await), wrong_state(), "in which room?");
    assert_eq!(refusal(moderation.decide(decide(&id, Outcome::Warn, "carol")).await), forbidden());
    moderation.decide(decide(&id, Outcome::Warn, "")).await.unwrap();
    let next = moderation.file_review(about).await.unwrap().into_inner().review.unwrap();
    assert_ne!(next.id, id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reviews_are_there_after_a_crash() {
    let mut process = Start::new().settled().talkative().run();
    let backend = Backend::of(&process).await;
    let seq = said(&backend).await;
    let id = filed(&backend, seq, "carol").await;
    let decided = backend.moderation().decide(decide(&id, Outcome::Mute, "alice")).await.unwrap().into_inner().review;
    process.kill();
    let process = process.again().run();
    let mut moderation = Backend::of(&process).await.moderation();
    assert_eq!(moderation.get_review(get(&id, "")).await.unwrap().into_inner().review, decided);
    assert_eq!(refusal(moderation.decide(decide(&id, Outcome::Mute, "alice")).await), wrong_state());
}
