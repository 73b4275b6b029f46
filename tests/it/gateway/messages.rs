//! What is said through the API, and what is read of it.

use tonic::Code;
use veza_client::proto::gateway::v1::*;
use veza_client::proto::v1::{Attachment, Message};

use super::{bad_field, not_found, refusal, send, stage, stage_of};
use crate::server::Start;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_stored_once_and_reaches_sessions() {
    let (stage, backend) = stage().await;
    backend.room("lounge", "alice", &["bob"]).await;
    let mut bob = stage.player("bob").await;
    bob.join("lounge").await.unwrap();
    let mut messages = backend.messages();
    let stored = messages.send(send("lounge", "alice", "k1", "hello")).await.unwrap().into_inner().stored.unwrap();
    assert!(!stored.duplicate);
    let heard = bob.message().await;
    assert_eq!((heard.seq, heard.author.as_str(), heard.body.as_str()), (stored.seq, "alice", "hello"));
    let again = messages.send(send("lounge", "alice", "k1", "hello")).await.unwrap().into_inner().stored.unwrap();
    assert_eq!((again.seq, again.duplicate), (stored.seq, true));
    let other = messages.send(send("lounge", "alice", "k1", "good-bye")).await;
    assert_eq!(refusal(other), (Code::AlreadyExists, "CMID_CONFLICT".into()));
    // The platform itself speaks, though it is no member.
    let said = messages.send(send("lounge", "", "k2", "welcome")).await.unwrap().into_inner().stored.unwrap();
    let heard = bob.message().await;
    assert_eq!((heard.seq, heard.author.as_str()), (said.seq, "service:gateway"), "and the retry was not delivered");

    assert_eq!(refusal(messages.send(send("lounge", "carol", "k3", "hi")).await), not_found(), "carol is no member");
    assert_eq!(bad_field(messages.send(send("lounge", "alice", "", "hi")).await), "idempotency_key");
    assert_eq!(bad_field(messages.send(send("lounge", "alice", "k4", "")).await), "body");
    let attached = SendRequest { attachments: vec![Attachment::default()], ..send("lounge", "alice", "k4", "") };
    assert_eq!(bad_field(messages.send(attached).await), "attachments");
    assert_eq!(bad_field(messages.send(send("lounge", "service:gateway", "k4", "hi")).await), "actor");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_changed_by_whoever_may() {
    let (stage, backend) = stage().await;
    backend.room("lounge", "alice", &["bob"]).await;
    let mut bob = stage.player("bob").await;
    bob.join("lounge").await.unwrap();
    let seq = backend.say("lounge", "alice", "k1", "helo").await;
    bob.message().await;
    let mut messages = backend.messages();
    let (room, key) = (|| "lounge".to_owned(), |key: &str| key.to_owned());

    let edit = |actor: &str, key: &str| EditRequest {
        room: "lounge".into(),
        seq,
        body: "hello".into(),
        actor: actor.into(),
        idempotency_key: key.into(),
        ..Default::default()
    };
    messages.edit(edit("alice", "k2")).await.unwrap();
    assert_eq!(refusal(messages.edit(edit("", "k3")).await).0, Code::PermissionDenied, "nobody edits for others");
    assert_eq!(bad_field(messages.edit(EditRequest { seq: 0, ..edit("alice", "k3") }).await), "seq");
    bob.message().await;

    let react = |emoji: &str, seq| ReactRequest {
        room: "lounge".into(),
        seq,
        emoji: emoji.into(),
        actor: "bob".into(),
        idempotency_key: format!("r{emoji}{seq}"),
        ..Default::default()
    };
    messages.react(react("👍", seq)).await.unwrap();
    assert_eq!(bad_field(messages.react(react("", seq)).await), "emoji");
    assert_eq!(refusal(messages.react(react("👍", 99)).await), not_found());
    let pin = |actor: &str, key: &str| PinRequest {
        room: "lounge".into(),
        seq,
        actor: actor.into(),
        idempotency_key: key.into(),
        ..Default::default()
    };
    messages.pin(pin("alice", "p1")).await.unwrap();
    assert_eq!(refusal(messages.pin(pin("bob", "p2")).await).0, Code::PermissionDenied);

    let get = |seq, actor: &str| GetMessageRequest { room: "lounge".into(), seq, actor: actor.into() };
    let message = messages.get_message(get(seq, "bob")).await.unwrap().into_inner().message.unwrap();
    assert_eq!((message.body.as_str(), message.edits, message.pinned), ("hello", 1, true));
    assert!(message.reactions[0].mine);
    assert_eq!(refusal(messages.get_message(get(99, "")).await), not_found());
    assert_eq!(refusal(messages.get_message(get(seq, "carol")).await), not_found());
    let revisions = ListRevisionsRequest { room: room(), seq, ..Default::default() };
    let revisions = messages.list_revisions(revisions).await.unwrap().into_inner().revisions;
    assert_eq!(revisions.iter().map(|revision| revision.body.as_str()).collect::<Vec<_>>(), ["helo", "hello"]);
    let nothing = ListRevisionsRequest { room: room(), seq: 99, ..Default::default() };
    assert_eq!(refusal(messages.list_revisions(nothing).await), not_found());
    let reactions =
        |emoji: &str| ListReactionsRequest { room: "lounge".into(), seq, emoji: emoji.into(), ..Default::default() };
    let reacted = messages.list_reactions(reactions("👍")).await.unwrap().into_inner();
    assert_eq!((reacted.users, reacted.total), (vec!["bob".to_owned()], 1));
    assert_eq!(bad_field(messages.list_reactions(reactions("")).await), "emoji");
    let pins = |actor: &str| ListPinsRequest { room: "lounge".into(), actor: actor.into() };
    assert_eq!(messages.list_pins(pins("")).await.unwrap().into_inner().messages.len(), 1);
    assert_eq!(refusal(messages.list_pins(pins("carol")).await), not_found());

    let delete = |actor: &str, id: &str| DeleteRequest {
        room: room(),
        seq,
        reason: "off topic".into(),
        actor: actor.into(),
        idempotency_key: key(id),
    };
    assert_eq!(refusal(messages.delete(delete("bob", "d1")).await).0, Code::PermissionDenied);
    messages.delete(delete("", "d2")).await.unwrap();
    let gone = messages.get_message(get(seq, "")).await.unwrap().into_inner().message.unwrap();
    assert_eq!((gone.body.as_str(), gone.deleted.unwrap().by.as_str()), ("", "service:gateway"));
    let late = messages.edit(edit("alice", "k9")).await;
    assert_eq!(refusal(late), (Code::FailedPrecondition, "GONE".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_read_in_pages_threads_and_searches() {
    let (_stage, backend) = stage().await;
    backend.room("lounge", "alice", &["bob"]).await;
    let mut messages = backend.messages();
    let root = backend.say("lounge", "alice", "k0", "une chanson").await;
    for n in 1..=5 {
        backend.say("lounge", "alice", &format!("k{n}"), &format!("song {n}")).await;
    }
    for n in 1..=3 {
        let reply = SendRequest { thread: root, ..send("lounge", "bob", &format!("t{n}"), &format!("reply {n}")) };
        messages.send(reply).await.unwrap();
    }
    let history =
        |anchor, page_size| GetHistoryRequest { room: "lounge".into(), anchor, page_size, ..Default::default() };
    let seqs = |list: &[Message]| list.iter().map(|message| message.seq).collect::<Vec<_>>();
    let page = messages.get_history(history(None, 2)).await.unwrap().into_inner();
    assert_eq!((seqs(&page.messages), page.more_before, page.more_after), (vec![5, 6], true, false));
    let before = Some(get_history_request::Anchor::BeforeSeq(5));
    let page = messages.get_history(history(before, 100)).await.unwrap().into_inner();
    assert_eq!((seqs(&page.messages), page.more_before, page.head), (vec![1, 2, 3, 4], false, 9));
    let after = Some(get_history_request::Anchor::AfterSeq(6));
    let everything = GetHistoryRequest { everything: true, ..history(after, 0) };
    assert_eq!(seqs(&messages.get_history(everything).await.unwrap().into_inner().messages), [7, 8, 9]);
    let carol = GetHistoryRequest { actor: "carol".into(), ..history(None, 0) };
    assert_eq!(refusal(messages.get_history(carol).await), not_found(), "only members read");

    let thread = |thread, after_seq| GetThreadRequest {
        room: "lounge".into(),
        thread,
        after_seq,
        page_size: 2,
        ..Default::default()
    };
    let first = messages.get_thread(thread(root, 0)).await.unwrap().into_inner();
    assert_eq!((seqs(&first.messages), first.more_after), (vec![1, 7], true));
    let rest = messages.get_thread(thread(root, 7)).await.unwrap().into_inner();
    assert_eq!((seqs(&rest.messages), rest.more_after), (vec![8, 9], false));
    assert_eq!(bad_field(messages.get_thread(thread(0, 0)).await), "thread");

    let search = |room: &str, query: &str, token: &str, actor: &str| SearchRequest {
        room: room.into(),
        query: query.into(),
        page_size: 2,
        page_token: token.into(),
        actor: actor.into(),
        ..Default::default()
    };
    for (room, actor) in [("lounge", ""), ("", "alice")] {
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let page = messages.search(search(room, "songs", &token, actor)).await.unwrap().into_inner();
            found.extend(seqs(&page.messages));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(found, [6, 5, 4, 3, 2], "in {room:?}");
    }
    assert_eq!(bad_field(messages.search(search("", "songs", "", "")).await), "room");
    assert_eq!(bad_field(messages.search(search("lounge", " ", "", "")).await), "query");
    let foreign = messages.search(search("lounge", "songs", "nonsense", "")).await;
    assert_eq!(refusal(foreign), (Code::InvalidArgument, "PAGE_TOKEN".into()));
    assert_eq!(refusal(messages.search(search("lounge", "songs", "", "carol")).await), not_found());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watermarks_are_read_and_raised() {
    let (_stage, backend) = stage().await;
    backend.room("lounge", "alice", &["bob"]).await;
    backend.room("den", "bob", &[]).await;
    for n in 1..=3 {
        backend.say("lounge", "alice", &format!("k{n}"), "hello").await;
    }
    let mut messages = backend.messages();
    let state = |user: &str, room: &str, page_size, token: &str| GetReadStateRequest {
        user: user.into(),
        room: room.into(),
        page_size,
        page_token: token.into(),
        ..Default::default()
    };
    let one = messages.get_read_state(state("bob", "lounge", 0, "")).await.unwrap().into_inner();
    assert_eq!((one.rooms[0].unread, one.rooms[0].read_seq), (3, 0));
    let first = messages.get_read_state(state("bob", "", 1, "")).await.unwrap().into_inner();
    assert_eq!(first.rooms[0].room, "den");
    let second = messages.get_read_state(state("bob", "", 1, &first.next_page_token)).await.unwrap().into_inner();
    assert_eq!((second.rooms[0].room.as_str(), second.next_page_token.as_str()), ("lounge", ""));
    assert_eq!(refusal(messages.get_read_state(state("carol", "lounge", 0, "")).await), not_found());
    let foreign = GetReadStateRequest { actor: "alice".into(), ..state("bob", "", 0, "") };
    assert_eq!(bad_field(messages.get_read_state(foreign).await), "actor");

    let mark =
        |user: &str, read_seq| MarkRequest { room: "lounge".into(), user: user.into(), read_seq, ..Default::default() };
    let marked = messages.mark(mark("bob", 2)).await.unwrap().into_inner();
    assert_eq!((marked.read_seq, marked.unread), (2, 1));
    let lower = messages.mark(mark("bob", 1)).await.unwrap().into_inner();
    assert_eq!(lower.read_seq, 2, "watermarks only rise");
    assert_eq!(refusal(messages.mark(mark("carol", 1)).await), not_found());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_message_opens_its_room() {
    let (stage, backend) = stage().await;
    let mut messages = backend.messages();
    let direct = |actor: &str, user: &str, key: &str| SendDirectRequest {
        user: user.into(),
        body: "psst".into(),
        actor: actor.into(),
        idempotency_key: key.into(),
        ..Default::default()
    };
    let sent = messages.send_direct(direct("alice", "bob", "k1")).await.unwrap().into_inner();
    let room = sent.room.unwrap().id;
    let again = messages.send_direct(direct("alice", "bob", "k1")).await.unwrap().into_inner();
    assert!(again.stored.unwrap().duplicate);
    let bob = stage.player("bob").await;
    bob.join(&room).await.unwrap();
    let page = bob.history(&room).await.messages;
    assert_eq!(page.iter().map(|message| message.body.as_str()).collect::<Vec<_>>(), ["psst"]);
    assert_eq!(bad_field(messages.send_direct(direct("", "bob", "k2")).await), "actor");
    assert_eq!(bad_field(messages.send_direct(direct("alice", "alice", "k2")).await), "user");
    assert_eq!(bad_field(messages.send_direct(direct("alice", "bob", "")).await), "idempotency_key");
}

/// A user's quota is the same, whatever door the messages come through; the platform's own has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_have_their_rates_here_too() {
    let start = Start::new().variable("VEZA_USER_PUBLISH_PER_SECOND", 1).variable("VEZA_USER_PUBLISH_BURST", 2);
    let (_stage, backend) = stage_of(start).await;
    backend.room("lounge", "alice", &[]).await;
    let mut messages = backend.messages();
    let mut refused = None;
    for n in 0..20 {
        if let Err(status) = messages.send(send("lounge", "alice", &format!("k{n}"), "spam")).await {
            refused = Some(status);
            break;
        }
    }
    let status = refused.expect("twenty at once are more than two");
    let retry = tonic_types::StatusExt::get_details_retry_info(&status).unwrap().retry_delay.unwrap();
    assert!(retry.as_millis() > 0);
    assert_eq!(refusal::<()>(Err(status)), (Code::ResourceExhausted, "RATE_LIMITED".into()));
    for n in 0..20 {
        messages.send(send("lounge", "", &format!("s{n}"), "news")).await.unwrap();
    }
}
