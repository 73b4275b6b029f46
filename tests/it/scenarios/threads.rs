//! Threads, answers, attachments, and pages of a log that has more in it than the room shows.

use std::net::TcpListener;

use veza_client::proto::v1::{
    Attachment, Error, ErrorCode, HistoryPage, Message, Publish, Published, View, history::Anchor,
};

use crate::carrier::{Player, Stage, ask};

fn text(cmid: &str, body: &str) -> Publish {
    Publish { room: "garden".into(), cmid: cmid.into(), body: body.into(), ..Publish::default() }
}

async fn reply(player: &Player, cmid: &str, thread: u64) -> Result<Published, Error> {
    player.say(Publish { thread, ..text(cmid, "an answer") }).await
}

fn seqs(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.seq).collect()
}

async fn page(player: &Player, view: View, anchor: Anchor, limit: u32) -> HistoryPage {
    ask!(player, History { room: "garden", view: view, anchor: anchor, limit: limit, thread: 1u64 } => HistoryPage)
        .unwrap()
}

pub async fn a_thread_hangs_on_its_first_message(stage: &Stage) {
    let [alice, mut bob] = stage.in_room("garden", ["alice", "bob"]).await;
    alice.publish("garden", "a1", "lunch?").await.unwrap();
    alice.publish("garden", "a2", "something else").await.unwrap();
    reply(&bob, "b1", 1).await.unwrap();
    let last = reply(&alice, "a3", 1).await.unwrap();
    let heard = bob.messages(4).await;
    assert_eq!(heard.iter().map(|message| message.thread).collect::<Vec<_>>(), [0, 0, 1, 1]);
    // The room shows where it hangs, the thread what is in it, the log everything.
    let room = bob.history("garden").await.messages;
    assert_eq!(seqs(&room), [1, 2]);
    let replies = room[0].replies.unwrap();
    assert_eq!((replies.count, replies.last_seq, replies.last_at_ms), (2, 4, last.at_ms));
    assert_eq!(seqs(&page(&bob, View::Thread, Anchor::AfterSeq(0), 10).await.messages), [1, 3, 4]);
    assert_eq!(seqs(&bob.log("garden").await), [1, 2, 3, 4]);
    let end = page(&bob, View::Thread, Anchor::BeforeSeq(0), 2).await;
    assert_eq!((seqs(&end.messages), end.more_before, end.more_after), (vec![3, 4], true, false));

    assert_eq!(reply(&bob, "b2", 3).await.unwrap_err().code(), ErrorCode::InvalidArgument, "threads have no threads");
    assert_eq!(reply(&bob, "b3", 99).await.unwrap_err().code(), ErrorCode::NotFound);
    let nameless = ask!(bob, History { room: "garden", view: View::Thread } => HistoryPage).unwrap_err();
    assert_eq!(nameless.code(), ErrorCode::InvalidArgument);
    // A retry in another thread is another message under the same id.
    assert_eq!(reply(&bob, "b1", 2).await.unwrap_err().code(), ErrorCode::CmidConflict);
}

pub async fn an_answer_names_what_it_answers(stage: &Stage) {
    let [alice, mut bob] = stage.in_room("garden", ["alice", "bob"]).await;
    alice.publish("garden", "a1", "a question").await.unwrap();
    bob.say(Publish { reply_to: 1, ..text("b1", "an answer") }).await.unwrap();
    assert_eq!(bob.messages(2).await[1].reply_to, 1);
    assert_eq!(seqs(&bob.history("garden").await.messages), [1, 2], "an answer stands in the room");
    let absent = bob.say(Publish { reply_to: 9, ..text("b2", "to nothing") }).await.unwrap_err();
    assert_eq!(absent.code(), ErrorCode::NotFound);
    // What is answered may go; the answer stays.
    alice.delete("garden", "a2", 1).await.unwrap();
    let messages = bob.history("garden").await.messages;
    assert_eq!((messages[0].deleted.is_some(), messages[1].reply_to), (true, 1));
}

/// The room's own messages have holes where changes and answers in threads stand; pages meet all the same.
pub async fn pages_skip_what_the_room_does_not_show(stage: &Stage) {
    let alice = stage.player_in("alice", "garden").await;
    for n in 1..=4 {
        alice.publish("garden", &format!("m{n}"), "words").await.unwrap();
        alice.edit("garden", &format!("e{n}"), n * 4 - 3, "other words").await.unwrap();
        alice.react("garden", &format!("r{n}"), n * 4 - 3, "👍").await.unwrap();
        reply(&alice, &format!("t{n}"), 1).await.unwrap();
    }
    let shown = |page: &HistoryPage| (seqs(&page.messages), page.more_before, page.more_after);
    let room = View::Unspecified;
    assert_eq!(shown(&page(&alice, room, Anchor::BeforeSeq(0), 2).await), (vec![9, 13], true, false));
    assert_eq!(shown(&page(&alice, room, Anchor::BeforeSeq(9), 2).await), (vec![1, 5], false, true));
    assert_eq!(shown(&page(&alice, room, Anchor::AfterSeq(0), 2).await), (vec![1, 5], false, true));
    assert_eq!(shown(&page(&alice, room, Anchor::AfterSeq(5), 2).await), (vec![9, 13], true, false));
    assert_eq!(shown(&page(&alice, room, Anchor::AfterSeq(13), 2).await), (vec![], true, false));
    // A deep link, also one to something that is no message of the room.
    assert_eq!(shown(&page(&alice, room, Anchor::AroundSeq(5), 2).await), (vec![1, 5], false, true));
    assert_eq!(shown(&page(&alice, room, Anchor::AroundSeq(7), 3).await), (vec![5, 9, 13], true, false));
    let all = page(&alice, View::Everything, Anchor::AroundSeq(8), 4).await;
    assert_eq!(shown(&all), (vec![6, 7, 8, 9], true, true));
    let thread = page(&alice, View::Thread, Anchor::AfterSeq(4), 2).await;
    assert_eq!(shown(&thread), (vec![8, 12], true, true));
}

fn attachment(url: &str) -> Attachment {
    Attachment {
        url: url.into(),
        name: "größe 🎵.png".into(),
        media_type: "image/png".into(),
        size_bytes: 5_000_000_000,
        sha256: vec![0xab; 32].into(),
    }
}

pub async fn attachments_are_kept_as_references_and_never_fetched(stage: &Stage) {
    let mut alice = stage.player_in("alice", "garden").await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("https://{}/file.png?x=1#y", listener.local_addr().unwrap());
    // With a file there need be no words.
    let attachments = vec![attachment(&url), attachment("https://files.example/b")];
    alice.say(Publish { attachments: attachments.clone(), ..text("a1", "") }).await.unwrap();
    assert_eq!(alice.message().await.attachments, attachments);
    assert_eq!(alice.history("garden").await.messages[0].attachments, attachments);
    let wrong: Vec<(&str, Attachment)> = vec![
        ("scheme", attachment("http://files.example/b")),
        ("scheme", attachment("javascript:alert(1)")),
        ("host", attachment("https://")),
        ("space", attachment("https://files.example/a b")),
        ("control", attachment("https://files.example/a\nb")),
        ("hash", Attachment { sha256: vec![0; 31].into(), ..attachment(&url) }),
        ("hash", Attachment { sha256: vec![0; 33].into(), ..attachment(&url) }),
        ("type", Attachment { media_type: "image".into(), ..attachment(&url) }),
        ("type", Attachment { media_type: String::new(), ..attachment(&url) }),
        ("name", Attachment { name: "a\u{7}".into(), ..attachment(&url) }),
    ];
    for (at, (what, wrong)) in wrong.into_iter().enumerate() {
        let refused = alice.say(Publish { attachments: vec![wrong], ..text(&format!("w{at}"), "look") }).await;
        assert_eq!(refused.unwrap_err().code(), ErrorCode::InvalidArgument, "{what} {at}");
    }
    assert_eq!(alice.log("garden").await.len(), 1);
    let fetched = listener.accept();
    assert_eq!(fetched.map(|_| ()).unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "the server has come for it");
}
