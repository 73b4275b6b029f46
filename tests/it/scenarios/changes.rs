//! What becomes of messages: edits, deletions, reactions, pins.

use veza_client::proto::v1::{
    Attachment, ErrorCode, Hello, Message, Publish, RoomCursor, Tombstone, client_frame::Command, message::Change,
    reply,
};

use crate::carrier::{Player, Stage, ask};

pub async fn an_edit_replaces_the_body_and_keeps_the_old_one(stage: &Stage) {
    let [mut alice, mut bob] = stage.in_room("garden", ["alice", "bob"]).await;
    let first = alice.publish("garden", "a1", "helo bob").await.unwrap();
    let edited = alice.edit("garden", "a2", first.seq, "hello bob").await.unwrap();
    assert_eq!((first.seq, edited.seq, edited.duplicate), (1, 2, false));
    // The others hear it as the next entry of the log.
    for player in [&mut alice, &mut bob] {
        let heard = player.messages(2).await;
        assert_eq!((heard[0].body.as_str(), heard[0].edits), ("helo bob", 0), "a delivery is as it was said");
        let Some(Change::Edit(edit)) = &heard[1].change else { panic!("{heard:?}") };
        assert_eq!((edit.target, edit.body.as_str(), edit.revision), (1, "hello bob", 1));
        assert_eq!((heard[1].seq, heard[1].author.as_str(), heard[1].body.as_str()), (2, "alice", ""));
    }
    // A page shows the message as it is now, and the change is none of the room's messages.
    let page = bob.history("garden").await;
    assert_eq!(page.messages.len(), 1);
    let message = &page.messages[0];
    assert_eq!((message.body.as_str(), message.edits, message.edited_ms), ("hello bob", 1, edited.at_ms));
    assert_eq!(page.head, 2);
    alice.edit("garden", "a3", 1, "hello, **bob**").await.unwrap();
    let revisions = ask!(bob, ListRevisions { room: "garden", seq: 1u64 } => RevisionList).unwrap().revisions;
    let bodies: Vec<_> = revisions.iter().map(|revision| (revision.revision, revision.body.as_str())).collect();
    assert_eq!(bodies, [(0, "helo bob"), (1, "hello bob"), (2, "hello, **bob**")]);
    assert_eq!((revisions[0].at_ms, revisions[1].at_ms), (first.at_ms, edited.at_ms));

    // A retry is one edit; other content under its id is none.
    let again = alice.edit("garden", "a2", 1, "hello bob").await.unwrap();
    assert_eq!((again.seq, again.duplicate, again.at_ms), (2, true, edited.at_ms));
    for refused in [
        alice.edit("garden", "a2", 1, "something else").await,
        alice.edit("garden", "a1", 1, "the id of a message").await,
        alice.publish("garden", "a2", "the id of an edit").await,
    ] {
        assert_eq!(refused.unwrap_err().code(), ErrorCode::CmidConflict);
    }
    assert_eq!(alice.log("garden").await.len(), 3, "nothing of it was stored");
}

pub async fn only_ones_own_messages_are_edited(stage: &Stage) {
    let [alice, bob] = stage.in_room("garden", ["alice", "bob"]).await;
    bob.publish("garden", "b1", "mine").await.unwrap();
    bob.edit("garden", "b2", 1, "still mine").await.unwrap();
    // Not even the owner puts words into another's mouth.
    let foreign = alice.edit("garden", "a1", 1, "yours").await.unwrap_err();
    assert_eq!(foreign.code(), ErrorCode::PermissionDenied);
    for seq in [2, 99] {
        let absent = bob.edit("garden", &format!("c{seq}"), seq, "what?").await.unwrap_err();
        assert_eq!(absent.code(), ErrorCode::NotFound, "{seq} is no message");
    }
    let nameless = bob.edit("garden", "b3", 0, "what?").await.unwrap_err();
    assert_eq!(nameless.code(), ErrorCode::InvalidArgument);
    assert_eq!(bob.edit("garden", "b4", 1, "").await.unwrap_err().code(), ErrorCode::InvalidArgument);
    let log = bob.log("garden").await;
    assert_eq!((log.len(), log[0].body.as_str()), (2, "still mine"));
}

/// Everything that can be read of a room's past, over every door.
async fn everything(stage: &Stage, player: &Player) -> String {
    let mut read = Vec::new();
    for command in [
        ask!(player, History { room: "garden" } => HistoryPage).map(|page| format!("{page:?}")),
        ask!(player, Search { room: "garden", query: "secret" } => SearchResult).map(|found| format!("{found:?}")),
        ask!(player, Search { query: "secret" } => SearchResult).map(|found| format!("{found:?}")),
        ask!(player, ListPins { room: "garden" } => PinList).map(|pins| format!("{pins:?}")),
        ask!(player, ListRevisions { room: "garden", seq: 1u64 } => RevisionList).map(|list| format!("{list:?}")),
    ] {
        read.push(command.unwrap_or_default());
    }
    read.push(format!("{:?}", player.log("garden").await));
    let epoch = player.history("garden").await.epoch;
    read.push(format!("{:?}", ask!(player, Repair { room: "garden", epoch: epoch } => Repaired).unwrap()));
    // Somebody who comes back and was away for all of it.
    let cursor = RoomCursor { room: "garden".into(), epoch, last_seq: 0, delivery: 0 };
    let hello = Hello { token: stage.token("bob").await, rooms: vec![cursor], ..Hello::default() };
    let mut back = stage.try_hello(hello).await.unwrap();
    let head = player.log("garden").await.len();
    let replayed = back.messages(head).await;
    assert_eq!(replayed.iter().map(|m| m.seq).collect::<Vec<_>>(), (1..=head as u64).collect::<Vec<_>>());
    read.push(format!("{replayed:?}"));
    read.join("\n")
}

pub async fn a_deletion_takes_the_content_out_everywhere(stage: &Stage) {
    let [alice, mut bob] = stage.in_room("garden", ["alice", "bob"]).await;
    let attachment = Attachment {
        url: "https://files.example/secret.png".into(),
        name: "secret.png".into(),
        media_type: "image/png".into(),
        size_bytes: 9,
        sha256: vec![7; 32].into(),
    };
    let publish =
        Publish { room: "garden".into(), cmid: "a1".into(), body: "a secret plan".into(), ..Publish::default() };
    alice
        .say(Publish { mentions: vec!["bob".into()], attachments: vec![attachment], ..publish.clone() })
        .await
        .unwrap();
    alice.edit("garden", "a2", 1, "the secret plan").await.unwrap();
    alice.pin("garden", "a3", 1).await.unwrap();
    bob.react("garden", "b1", 1, "👀").await.unwrap();
    let before = everything(stage, &bob).await;
    assert!(before.matches("secret").count() > 8, "the doors show it as long as it is there: {before}");

    let deleted = ask!(alice, DeleteMessage { room: "garden", cmid: "a4", seq: 1u64 } => Published).unwrap();
    let heard = bob.messages(5).await;
    assert!(matches!(&heard[4].change, Some(Change::Deletion(deletion)) if deletion.target == 1), "{heard:?}");
    let after = everything(stage, &bob).await;
    assert!(!after.contains("secret"), "{after}");
    // Its number stays, with who took it away.
    let page = bob.history("garden").await;
    let tombstone = Message {
        deleted: Some(Tombstone { by: "alice".into(), at_ms: deleted.at_ms }),
        edits: 1,
        ..page.messages[0].clone()
    };
    assert_eq!(page.messages, [tombstone]);
    let message = &page.messages[0];
    assert_eq!((message.seq, message.body.as_str(), message.pinned), (1, "", false));
    assert!(message.mentions.is_empty() && message.attachments.is_empty() && message.reactions.is_empty());

    // A second time it is as it was: the same entry did it, whoever asks under which id.
    for cmid in ["a4", "a5"] {
        let again = alice.delete("garden", cmid, 1).await.unwrap();
        assert_eq!((again.seq, again.duplicate), (deleted.seq, true), "{cmid}");
    }
    // A late retry of the message itself brings nothing back.
    let retry = Publish { mentions: vec!["bob".into()], attachments: heard[0].attachments.clone(), ..publish };
    let retry = alice.say(retry).await.unwrap();
    assert_eq!((retry.seq, retry.duplicate), (1, true));
    for refused in [
        alice.edit("garden", "a6", 1, "secretly back").await,
        alice.pin("garden", "a7", 1).await,
        bob.react("garden", "b2", 1, "👀").await,
        bob.unreact("garden", "b3", 1, "👀").await,
        bob.say(Publish {
            room: "garden".into(),
            cmid: "b4".into(),
            body: "to it".into(),
            reply_to: 1,
            ..Publish::default()
        })
        .await,
    ] {
        assert_eq!(refused.unwrap_err().code(), ErrorCode::Gone);
    }
    assert_eq!(bob.log("garden").await.len(), 5);
}

pub async fn only_moderators_delete_what_others_said(stage: &Stage) {
    let [alice, bob, carol] = stage.in_room("garden", ["alice", "bob", "carol"]).await;
    for (player, cmid) in [(&alice, "a"), (&bob, "b"), (&bob, "b'")] {
        player.publish("garden", cmid, "words").await.unwrap();
    }
    let denied = carol.delete("garden", "c1", 2).await.unwrap_err();
    assert_eq!(denied.code(), ErrorCode::PermissionDenied);
    bob.delete("garden", "b1", 2).await.unwrap();
    alice.delete("garden", "a1", 3).await.unwrap();
    let by: Vec<_> =
        carol.history("garden").await.messages.into_iter().map(|m| m.deleted.map(|gone| gone.by)).collect();
    assert_eq!(by, [None, Some("bob".to_owned()), Some("alice".to_owned())]);
    for seq in [4, 99] {
        let absent = alice.delete("garden", &format!("d{seq}"), seq).await.unwrap_err();
        assert_eq!(absent.code(), ErrorCode::NotFound, "{seq} is no message");
    }
}

pub async fn reactions_are_counted_and_taken_back(stage: &Stage) {
    let [alice, bob, mut carol] = stage.in_room("garden", ["alice", "bob", "carol"]).await;
    alice.publish("garden", "a1", "cake?").await.unwrap();
    let first = bob.react("garden", "b1", 1, "🎂").await.unwrap();
    let again = bob.react("garden", "b2", 1, "🎂").await.unwrap();
    assert_eq!((again.seq, again.duplicate), (first.seq, true), "one person, one reaction");
    carol.react("garden", "c1", 1, "🎂").await.unwrap();
    carol.react("garden", "c2", 1, ":veza:").await.unwrap();
    let heard = carol.messages(4).await;
    let counts: Vec<_> = heard[1..]
        .iter()
        .map(|entry| match &entry.change {
            Some(Change::Reaction(change)) => (change.target, change.emoji.as_str(), change.count, change.removed),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [(1, "🎂", 1, false), (1, "🎂", 2, false), (1, ":veza:", 1, false)]);
    let seen = async |player: &Player| {
        let message = player.history("garden").await.messages.remove(0);
        let mut seen: Vec<_> =
            message.reactions.into_iter().map(|reaction| (reaction.emoji, reaction.count, reaction.mine)).collect();
        seen.sort();
        seen
    };
    let cake = |count, mine| ("🎂".to_owned(), count, mine);
    let veza = |mine| (":veza:".to_owned(), 1, mine);
    assert_eq!(seen(&alice).await, [veza(false), cake(2, false)]);
    assert_eq!(seen(&bob).await, [veza(false), cake(2, true)]);
    let who = ask!(alice, ListReactions { room: "garden", seq: 1u64, emoji: "🎂" } => ReactionList).unwrap();
    assert_eq!((who.users, who.total), (vec!["bob".to_owned(), "carol".into()], 2));

    bob.unreact("garden", "b3", 1, "🎂").await.unwrap();
    assert!(
        matches!(&carol.message().await.change, Some(Change::Reaction(change)) if change.removed && change.count == 1)
    );
    assert_eq!(bob.unreact("garden", "b4", 1, "🎂").await.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(seen(&bob).await, [veza(false), cake(1, false)]);
    let again = bob.react("garden", "b5", 1, "🎂").await.unwrap();
    assert!(!again.duplicate, "taken back and given anew is a new one");
    carol.unreact("garden", "c3", 1, ":veza:").await.unwrap();
    assert_eq!(seen(&carol).await, [cake(2, true)], "none is left of it");
}

pub async fn pins_are_few_and_for_everybody(stage: &Stage) {
    let [alice, mut bob] = stage.in_room("garden", ["alice", "bob"]).await;
    for n in 1..=3 {
        alice.publish("garden", &format!("a{n}"), &format!("rule {n}")).await.unwrap();
    }
    assert_eq!(bob.pin("garden", "b1", 1).await.unwrap_err().code(), ErrorCode::PermissionDenied);
    let first = alice.pin("garden", "p1", 3).await.unwrap();
    alice.pin("garden", "p2", 1).await.unwrap();
    let again = alice.pin("garden", "p3", 3).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (first.seq, true));
    let pinned = async |player: &Player| {
        let pins = ask!(player, ListPins { room: "garden" } => PinList).unwrap().messages;
        pins.into_iter().map(|message| message.seq).collect::<Vec<_>>()
    };
    assert_eq!(pinned(&bob).await, [1, 3], "the latest pin first");
    let flags: Vec<_> = bob.history("garden").await.messages.iter().map(|message| message.pinned).collect();
    assert_eq!(flags, [true, false, true]);
    let heard = bob.messages(5).await;
    assert!(matches!(&heard[4].change, Some(Change::Pin(pin)) if pin.target == 1 && !pin.removed));
    alice.unpin("garden", "p4", 3).await.unwrap();
    assert!(matches!(&bob.message().await.change, Some(Change::Pin(pin)) if pin.target == 3 && pin.removed));
    assert_eq!(alice.unpin("garden", "p5", 3).await.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(pinned(&bob).await, [1]);
}

/// Changes of one author keep the order they were sent in, among each other and with what is said.
pub async fn pipelined_changes_keep_their_order(stage: &Stage) {
    let mut alice = stage.player_in("alice", "garden").await;
    let (said, edited, reacted, deleted) = tokio::join!(
        alice.publish("garden", "c1", "first"),
        alice.edit("garden", "c2", 1, "second"),
        alice.react("garden", "c3", 1, "👍"),
        alice.delete("garden", "c4", 1),
    );
    let seqs = [said, edited, reacted, deleted].map(|published| published.unwrap().seq);
    assert_eq!(seqs, [1, 2, 3, 4]);
    let heard = alice.messages(4).await;
    assert_eq!(heard.iter().map(|m| m.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let ping = alice.ask(Command::Ping(veza_client::proto::v1::Ping::default())).await;
    assert!(matches!(ping, Ok(reply::Result::Pong(_))));
}
