use veza_proto::v1::{Deletion, Edit, GapReason, PinChange, ReactionChange, SystemKind, SystemNote};

use super::*;

const EPOCH: u64 = 9;

fn entry(author: &str, seq: u64) -> Message {
    Message { epoch: EPOCH, seq, author: author.into(), at_ms: seq * 1_000, ..Message::default() }
}

fn said(author: &str, seq: u64, body: &str) -> Message {
    Message { body: body.into(), ..entry(author, seq) }
}

fn reply(author: &str, seq: u64, thread: u64, body: &str) -> Message {
    Message { thread, ..said(author, seq, body) }
}

fn changed(author: &str, seq: u64, change: Change) -> Message {
    Message { change: Some(change), ..entry(author, seq) }
}

fn edited(seq: u64, target: u64, revision: u32, body: &str) -> Message {
    changed("alice", seq, Change::Edit(Edit { target, body: body.into(), revision, mentions: Vec::new() }))
}

fn deleted(author: &str, seq: u64, target: u64) -> Message {
    changed(author, seq, Change::Deletion(Deletion { target }))
}

fn reacted(author: &str, seq: u64, target: u64, emoji: &str, count: u32, removed: bool) -> Message {
    changed(author, seq, Change::Reaction(ReactionChange { target, emoji: emoji.into(), removed, count }))
}

fn pinned(seq: u64, target: u64, removed: bool) -> Message {
    changed("mod", seq, Change::Pin(PinChange { target, removed }))
}

fn page(head: u64, messages: Vec<Message>) -> HistoryPage {
    HistoryPage { epoch: EPOCH, head, messages, ..HistoryPage::default() }
}

/// What a reader sees, one line a message: `seq author: body`, and what became of it.
fn shown<'a>(messages: impl Iterator<Item = &'a Message>) -> Vec<String> {
    messages.map(line).collect()
}

fn line(message: &Message) -> String {
    let mut line = format!("{} {}: {}", message.seq, message.author, message.body);
    if let Some(deleted) = &message.deleted {
        line += &format!("(deleted by {})", deleted.by);
    }
    if message.edits > 0 {
        line += &format!(" (edited {})", message.edits);
    }
    if message.pinned {
        line += " (pinned)";
    }
    for reaction in &message.reactions {
        line += &format!(" {}{}{}", reaction.emoji, reaction.count, if reaction.mine { "!" } else { "" });
    }
    if let Some(replies) = &message.replies {
        line += &format!(" ({} replies, last {})", replies.count, replies.last_seq);
    }
    line
}

fn timeline(entries: impl IntoIterator<Item = Message>) -> Timeline {
    let mut timeline = Timeline::new("alice");
    for entry in entries {
        timeline.apply(entry);
    }
    timeline
}

#[test]
fn an_edit_replaces_the_body_and_is_no_message_itself() {
    let mut timeline = timeline([said("alice", 1, "helo"), said("bob", 2, "hi")]);
    assert_eq!(timeline.apply(edited(3, 1, 1, "hello")), Effect::Changed(1));
    assert_eq!(timeline.apply(said("bob", 4, "better")), Effect::New(4));
    assert_eq!(shown(timeline.messages()), ["1 alice: hello (edited 1)", "2 bob: hi", "4 bob: better"]);
    assert_eq!(timeline.get(1).unwrap().edited_ms, 3_000);
}

#[test]
fn a_deletion_leaves_a_tombstone_that_nothing_changes_any_more() {
    let mut timeline = timeline([
        said("alice", 1, "a secret"),
        edited(2, 1, 1, "the secret"),
        reacted("bob", 3, 1, "👍", 1, false),
        pinned(4, 1, false),
    ]);
    assert_eq!(timeline.apply(deleted("mod", 5, 1)), Effect::Changed(1));
    assert_eq!(timeline.apply(reacted("bob", 6, 1, "👍", 2, false)), Effect::None);
    assert_eq!(shown(timeline.messages()), ["1 alice: (deleted by mod) (edited 1)"]);
    assert!(!format!("{timeline:?}").contains("secret"), "nothing of it is kept");
}

#[test]
fn reactions_are_counted_and_mine_are_marked() {
    let mut timeline = timeline([
        said("bob", 1, "cake?"),
        reacted("bob", 2, 1, "🎂", 1, false),
        reacted("alice", 3, 1, "🎂", 2, false),
        reacted("carol", 4, 1, "👀", 1, false),
    ]);
    assert_eq!(shown(timeline.messages()), ["1 bob: cake? 🎂2! 👀1"]);
    timeline.apply(reacted("alice", 5, 1, "🎂", 1, true));
    timeline.apply(reacted("carol", 6, 1, "👀", 0, true));
    assert_eq!(shown(timeline.messages()), ["1 bob: cake? 🎂1"]);
}

#[test]
fn pins_go_on_and_off() {
    let mut timeline = timeline([said("bob", 1, "the rules"), pinned(2, 1, false)]);
    assert_eq!(shown(timeline.messages()), ["1 bob: the rules (pinned)"]);
    timeline.apply(pinned(3, 1, true));
    assert_eq!(shown(timeline.messages()), ["1 bob: the rules"]);
}

#[test]
fn a_thread_is_counted_at_its_root_and_read_by_itself() {
    let timeline = timeline([
        said("alice", 1, "lunch?"),
        said("bob", 2, "something else"),
        reply("bob", 3, 1, "yes"),
        reply("carol", 4, 1, "where?"),
    ]);
    assert_eq!(shown(timeline.messages()), ["1 alice: lunch? (2 replies, last 4)", "2 bob: something else"]);
    assert_eq!(shown(timeline.thread(1)), ["1 alice: lunch? (2 replies, last 4)", "3 bob: yes", "4 carol: where?"]);
}

#[test]
fn a_note_is_shown() {
    let note = SystemNote { kind: SystemKind::TopicChanged.into(), text: "news".into(), ..SystemNote::default() };
    let mut timeline = Timeline::new("alice");
    assert_eq!(timeline.apply(changed("bob", 1, Change::System(note))), Effect::New(1));
    assert_eq!(timeline.messages().count(), 1);
}

/// A resume gives a message as it is now, and then once more what made it so.
#[test]
fn a_replay_of_what_the_messages_show_already_changes_nothing() {
    let now = Message {
        edits: 2,
        reactions: vec![Reaction { emoji: "👍".into(), count: 2, mine: false }],
        replies: Some(ThreadSummary { count: 1, last_seq: 6, last_at_ms: 6_000 }),
        ..said("alice", 1, "third")
    };
    let timeline = timeline([
        now,
        edited(2, 1, 1, "second"),
        reacted("bob", 3, 1, "👍", 1, false),
        edited(4, 1, 2, "third"),
        reacted("alice", 5, 1, "👍", 2, false),
        reply("bob", 6, 1, "answer"),
    ]);
    assert_eq!(shown(timeline.messages()), ["1 alice: third (edited 2) 👍2! (1 replies, last 6)"]);
}

#[test]
fn a_page_brings_older_messages_as_they_are() {
    let mut timeline = timeline([said("bob", 10, "new")]);
    let old = Message { edits: 1, ..said("alice", 3, "old") };
    assert!(timeline.fill(page(10, vec![old, edited(4, 3, 1, "old")])));
    assert_eq!(shown(timeline.messages()), ["3 alice: old (edited 1)", "10 bob: new"]);
}

/// The page was read before the deletion and arrives after it.
#[test]
fn a_page_that_was_overtaken_by_changes_is_brought_up_to_date() {
    let mut timeline = timeline([
        said("bob", 10, "new"),
        deleted("alice", 11, 3),
        edited(12, 4, 1, "after"),
        reply("carol", 13, 5, "me too"),
        reacted("bob", 14, 10, "👍", 1, false),
    ]);
    let before = vec![
        said("alice", 3, "to be deleted"),
        said("alice", 4, "before"),
        Message {
            replies: Some(ThreadSummary { count: 1, last_seq: 9, last_at_ms: 9_000 }),
            ..said("alice", 5, "who?")
        },
        said("bob", 10, "new"),
    ];
    assert!(timeline.fill(page(10, before)));
    assert_eq!(
        shown(timeline.messages()),
        [
            "3 alice: (deleted by alice)",
            "4 alice: after (edited 1)",
            "5 alice: who? (2 replies, last 13)",
            "10 bob: new 👍1",
        ]
    );
}

#[test]
fn what_was_expired_is_dropped_with_the_page_that_says_so() {
    let mut timeline = timeline([said("bob", 1, "old"), said("bob", 2, "new")]);
    assert!(timeline.fill(HistoryPage { first_available: 2, ..page(2, Vec::new()) }));
    assert_eq!(shown(timeline.messages()), ["2 bob: new"]);
}

#[test]
fn after_a_hole_nothing_old_is_trusted() {
    let mut timeline = timeline([said("alice", 1, "perhaps deleted by now")]);
    let hole = |epoch| Hole { room: "lobby".into(), epoch, from: 2, to: 50, reason: GapReason::TooFarBehind };
    timeline.step(Step::Hole(hole(EPOCH)));
    assert_eq!(timeline.messages().count(), 0);
    assert!(!timeline.fill(page(40, vec![said("alice", 1, "read before the hole's end")])));
    assert!(timeline.fill(page(50, vec![said("alice", 1, "read after it")])));
    assert_eq!(timeline.step(Step::Message(said("bob", 51, "on we go"))), Effect::New(51));
    assert_eq!(shown(timeline.messages()), ["1 alice: read after it", "51 bob: on we go"]);
    timeline.step(Step::Hole(hole(EPOCH + 1)));
    assert_eq!(timeline.messages().count(), 0);
    assert!(!timeline.fill(page(60, vec![said("alice", 1, "of the old log")])));
}

#[test]
fn changes_that_are_remembered_at_their_bound_and_one_past() {
    let first = 2;
    let last = first + RECENT_MAX as u64 - 1;
    let mut timeline = timeline((first..=last).map(|seq| pinned(seq, 1, seq % 2 == 0)));
    assert!(timeline.fill(page(1, vec![said("alice", 1, "long ago")])));
    assert_eq!(shown(timeline.messages()), ["1 alice: long ago (pinned)"]);
    timeline.apply(pinned(last + 1, 1, false));
    assert!(!timeline.fill(page(1, Vec::new())), "the first change is remembered no more");
    assert!(timeline.fill(page(first, Vec::new())));
}
