//! Every bound at its limit and one past it, and what no text may hold.

use veza_client::proto::limits::*;
use veza_client::proto::v1::{
    Attachment, CreateRoom, Error, ErrorCode, Publish, Role, RoomSettings, Sanction, client_frame::Command,
};

use crate::carrier::{Player, Stage, ask};

fn text(cmid: &str, body: &str) -> Publish {
    Publish { room: "garden".into(), cmid: cmid.into(), body: body.into(), ..Publish::default() }
}

/// What was asked at the bound, and one past it.
fn at_and_past<A: std::fmt::Debug, B: std::fmt::Debug>(what: &str, at: Result<A, Error>, past: Result<B, Error>) {
    assert!(at.is_ok(), "{what} at its bound: {at:?}");
    let code = past.map_err(|error| error.code());
    assert!(matches!(code, Err(ErrorCode::InvalidArgument)), "{what} one past its bound: {code:?}");
}

pub async fn slow_mode_holds_members_back_and_not_moderators(stage: &Stage) {
    let [alice, bob] = stage.in_room("garden", ["alice", "bob"]).await;
    let slow = async |seconds: u32| {
        let settings = RoomSettings { listed: true, slow_mode_seconds: seconds, ..RoomSettings::default() };
        ask!(alice, UpdateRoom { room: "garden", settings: settings } => RoomUpdated).unwrap();
    };
    slow(3_600).await;
    let first = bob.publish("garden", "b1", "one an hour").await.unwrap();
    let soon = bob.publish("garden", "b2", "two").await.unwrap_err();
    assert_eq!((soon.code(), soon.temporary), (ErrorCode::SlowMode, true));
    assert!((1..=3_600_000).contains(&soon.retry_after_ms), "{soon:?}");
    // It is about saying something new: a retry, an edit and a reaction are not.
    assert!(bob.publish("garden", "b1", "one an hour").await.unwrap().duplicate);
    bob.edit("garden", "b3", first.seq, "one an hour!").await.unwrap();
    bob.react("garden", "b4", first.seq, "⏳").await.unwrap();
    alice.publish("garden", "a1", "moderators").await.unwrap();
    alice.publish("garden", "a2", "are not held back").await.unwrap();
    // What was refused goes under the same id once the time has come.
    slow(1).await;
    loop {
        match bob.publish("garden", "b2", "two").await {
            Ok(published) => break assert!(!published.duplicate),
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::SlowMode);
                assert!(error.retry_after_ms <= 1_000, "{error:?}");
                tokio::time::sleep(std::time::Duration::from_millis(error.retry_after_ms.into())).await;
            }
        }
    }
    slow(0).await;
    for n in 0..3 {
        bob.publish("garden", &format!("c{n}"), "as fast as I like").await.unwrap();
    }
}

fn attachment() -> Attachment {
    Attachment {
        url: "https://files.example/a".into(),
        name: "a".into(),
        media_type: "a/b".into(),
        size_bytes: 1,
        sha256: vec![0; 32].into(),
    }
}

pub async fn what_a_message_holds_is_bounded(stage: &Stage) {
    let alice = stage.player_in("alice", "garden").await;
    let cmid = |len: usize| "c".repeat(len);
    at_and_past(
        "cmid",
        alice.publish("garden", &cmid(CMID_BYTES_MAX), "hello").await,
        alice.publish("garden", &cmid(CMID_BYTES_MAX + 1), "hello").await,
    );
    let mention = async |id: &str, count: usize| {
        let mentions = (0..count).map(|n| format!("user{n}")).collect();
        alice.say(Publish { mentions, ..text(id, "hear!") }).await
    };
    at_and_past("mentions", mention("m1", MENTIONS_MAX).await, mention("m2", MENTIONS_MAX + 1).await);
    let attach = async |id: &str, count: usize| {
        alice.say(Publish { attachments: vec![attachment(); count], ..text(id, "look") }).await
    };
    at_and_past("attachments", attach("f1", ATTACHMENTS_MAX).await, attach("f2", ATTACHMENTS_MAX + 1).await);
    let with = async |id: &str, attachment: Attachment| {
        alice.say(Publish { attachments: vec![attachment], ..text(id, "look") }).await
    };
    let url = |len: usize| {
        let host = "https://files.example/";
        Attachment { url: format!("{host}{}", "u".repeat(len - host.len())), ..attachment() }
    };
    at_and_past(
        "url",
        with("u1", url(ATTACHMENT_URL_BYTES_MAX)).await,
        with("u2", url(ATTACHMENT_URL_BYTES_MAX + 1)).await,
    );
    let name = |len| Attachment { name: "n".repeat(len), ..attachment() };
    at_and_past(
        "name",
        with("n1", name(ATTACHMENT_NAME_BYTES_MAX)).await,
        with("n2", name(ATTACHMENT_NAME_BYTES_MAX + 1)).await,
    );
    let kind = |len: usize| Attachment { media_type: format!("a/{}", "b".repeat(len - 2)), ..attachment() };
    at_and_past(
        "type",
        with("t1", kind(ATTACHMENT_TYPE_BYTES_MAX)).await,
        with("t2", kind(ATTACHMENT_TYPE_BYTES_MAX + 1)).await,
    );
    at_and_past(
        "emoji",
        alice.react("garden", "e1", 1, &"e".repeat(EMOJI_BYTES_MAX)).await,
        alice.react("garden", "e2", 1, &"e".repeat(EMOJI_BYTES_MAX + 1)).await,
    );
    // Bodies have a code of their own.
    let long = "x".repeat(BODY_BYTES_MAX);
    alice.publish("garden", "b1", &long).await.unwrap();
    alice.edit("garden", "b2", 1, &long).await.unwrap();
    for over in [
        alice.publish("garden", "b3", &format!("{long}x")).await,
        alice.edit("garden", "b4", 1, &format!("{long}x")).await,
    ] {
        assert_eq!(over.unwrap_err().code(), ErrorCode::TooLarge);
    }
    let reason = async |id: &str, len: usize| ask!(alice, DeleteMessage { room: "garden", cmid: id, seq: 1u64, reason: "r".repeat(len) } => Published);
    at_and_past("reason", reason("r1", REASON_BYTES_MAX).await, reason("r2", REASON_BYTES_MAX + 1).await);
    // Nothing of what was refused is in the log, and what was taken is dense.
    let log = alice.log("garden").await;
    assert_eq!(log.last().unwrap().seq, alice.join("garden").await.unwrap().room.unwrap().head);
    assert!(log.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1));
}

pub async fn what_hangs_on_a_message_is_bounded(stage: &Stage) {
    let alice = stage.player_in("alice", "garden").await;
    alice.publish("garden", "m", "popular").await.unwrap();
    let emoji = |n: usize| format!(":e{n}:");
    for n in 0..EMOJI_PER_MESSAGE_MAX {
        alice.react("garden", &format!("e{n}"), 1, &emoji(n)).await.unwrap();
    }
    let over = alice.react("garden", "over", 1, &emoji(EMOJI_PER_MESSAGE_MAX)).await.unwrap_err();
    assert_eq!(over.code(), ErrorCode::Limit);
    assert!(alice.react("garden", "known", 1, &emoji(0)).await.unwrap().duplicate);
    // One taken back makes room for another kind.
    alice.unreact("garden", "less", 1, &emoji(0)).await.unwrap();
    alice.react("garden", "over", 1, &emoji(EMOJI_PER_MESSAGE_MAX)).await.unwrap();
    assert_eq!(alice.history("garden").await.messages[0].reactions.len(), EMOJI_PER_MESSAGE_MAX);

    for n in 0..EDITS_MAX {
        alice.edit("garden", &format!("b{n}"), 1, &format!("version {n}")).await.unwrap();
    }
    assert_eq!(alice.edit("garden", "b", 1, "one more").await.unwrap_err().code(), ErrorCode::Limit);
    let revisions = ask!(alice, ListRevisions { room: "garden", seq: 1u64 } => RevisionList).unwrap().revisions;
    assert_eq!(revisions.last().map(|last| (last.revision, last.body.as_str())), Some((EDITS_MAX, "version 99")));
    // Longer bodies than fit in a frame together: the newest are told.
    alice.publish("garden", "long", &"a".repeat(BODY_BYTES_MAX)).await.unwrap();
    let long = alice.join("garden").await.unwrap().room.unwrap().head;
    for (cmid, letter) in [("l1", "b"), ("l2", "c")] {
        alice.edit("garden", cmid, long, &letter.repeat(BODY_BYTES_MAX)).await.unwrap();
    }
    let revisions = ask!(alice, ListRevisions { room: "garden", seq: long } => RevisionList).unwrap().revisions;
    assert_eq!(revisions.last().map(|last| (last.revision, last.body.as_bytes()[0])), Some((2, b'c')));
}

pub async fn pins_of_a_room_are_bounded(stage: &Stage) {
    let alice = stage.player_in("alice", "garden").await;
    for n in 1..=PINS_MAX as u64 + 1 {
        alice.publish("garden", &format!("m{n}"), "pin me").await.unwrap();
    }
    for n in 1..=PINS_MAX as u64 {
        alice.pin("garden", &format!("p{n}"), n).await.unwrap();
    }
    let over = PINS_MAX as u64 + 1;
    assert_eq!(alice.pin("garden", "over", over).await.unwrap_err().code(), ErrorCode::Limit);
    assert_eq!(ask!(alice, ListPins { room: "garden" } => PinList).unwrap().messages.len(), PINS_MAX);
    // What is deleted is pinned no more.
    alice.delete("garden", "gone", 1).await.unwrap();
    alice.pin("garden", "over", over).await.unwrap();
    // More than fits in a frame is read in pieces, each message once.
    for n in 1..=3 {
        let long = alice.publish("garden", &format!("l{n}"), &"x".repeat(BODY_BYTES_MAX)).await.unwrap();
        alice.unpin("garden", &format!("u{n}"), n + 1).await.unwrap();
        alice.pin("garden", &format!("q{n}"), long.seq).await.unwrap();
    }
    let mut pinned = Vec::new();
    loop {
        let skip = u32::try_from(pinned.len()).unwrap();
        let list = ask!(alice, ListPins { room: "garden", skip: skip } => PinList).unwrap();
        assert!(!list.messages.is_empty());
        pinned.extend(list.messages.into_iter().map(|message| message.seq));
        if !list.more {
            break;
        }
    }
    pinned.sort_unstable();
    pinned.dedup();
    assert_eq!(pinned.len(), PINS_MAX);
}

pub async fn what_a_room_holds_is_bounded(stage: &Stage) {
    let alice = stage.player_in("alice", "garden").await;
    let made = async |id: &str| alice.create(CreateRoom { room: id.into(), ..CreateRoom::default() }).await;
    at_and_past("id", made(&"i".repeat(ROOM_ID_BYTES_MAX)).await, made(&"i".repeat(ROOM_ID_BYTES_MAX + 1)).await);
    for id in ["", "Upper", "sp ace", "ü", "a/b", "a\0b"] {
        assert_eq!(made(id).await.unwrap_err().code(), ErrorCode::InvalidArgument, "{id:?}");
    }
    let title = async |len: usize| ask!(alice, UpdateRoom { room: "garden", title: "t".repeat(len) } => RoomUpdated);
    at_and_past("title", title(ROOM_TITLE_BYTES_MAX).await, title(ROOM_TITLE_BYTES_MAX + 1).await);
    let topic = async |len: usize| ask!(alice, UpdateRoom { room: "garden", topic: "t".repeat(len) } => RoomUpdated);
    at_and_past("topic", topic(ROOM_TOPIC_BYTES_MAX).await, topic(ROOM_TOPIC_BYTES_MAX + 1).await);
    let with =
        async |settings: RoomSettings| ask!(alice, UpdateRoom { room: "garden", settings: settings } => RoomUpdated);
    let settings = || RoomSettings { listed: true, ..RoomSettings::default() };
    let slow = |slow_mode_seconds| RoomSettings { slow_mode_seconds, ..settings() };
    at_and_past("slow mode", with(slow(SLOW_MODE_SECONDS_MAX)).await, with(slow(SLOW_MODE_SECONDS_MAX + 1)).await);
    let keep = |retention_seconds| RoomSettings { retention_seconds, ..settings() };
    at_and_past("retention", with(keep(RETENTION_SECONDS_MAX)).await, with(keep(RETENTION_SECONDS_MAX + 1)).await);
    at_and_past("retention", with(keep(RETENTION_SECONDS_MIN)).await, with(keep(RETENTION_SECONDS_MIN - 1)).await);
    let count = |retention_entries| RoomSettings { retention_entries, ..settings() };
    at_and_past("entries", with(count(RETENTION_ENTRIES_MIN)).await, with(count(RETENTION_ENTRIES_MIN - 1)).await);
    let named = |len| RoomSettings { entitlement: "g".repeat(len), ..settings() };
    at_and_past("entitlement", with(named(ENTITLEMENT_BYTES_MAX)).await, with(named(ENTITLEMENT_BYTES_MAX + 1)).await);
    for role in [Role::Moderator, Role::Admin, Role::Owner] {
        let wrong = with(RoomSettings { default_role: role.into(), ..settings() }).await.unwrap_err();
        assert_eq!(wrong.code(), ErrorCode::InvalidArgument);
    }
}

pub async fn what_is_asked_for_is_bounded(stage: &Stage) {
    let alice = stage.player_in("alice", "garden").await;
    alice.publish("garden", "a", "words").await.unwrap();
    macro_rules! pages {
        ($($max:expr, $command:ident { $($fields:tt)* } => $answer:ident;)*) => {$(
            at_and_past(
                stringify!($command),
                ask!(alice, $command { limit: $max, $($fields)* } => $answer),
                ask!(alice, $command { limit: $max + 1, $($fields)* } => $answer),
            );
        )*};
    }
    pages! {
        HISTORY_PAGE_MAX, History { room: "garden" } => HistoryPage;
        ROOM_LIST_PAGE_MAX, ListRooms {} => RoomList;
        100u32, ListMembers { room: "garden" } => MemberList;
        100u32, ListAudit { room: "garden" } => AuditList;
        SEARCH_PAGE_MAX, Search { room: "garden", query: "words" } => SearchResult;
        UNREAD_PAGE_MAX, ListUnread {} => UnreadList;
    }
    let query = async |len: usize| ask!(alice, Search { room: "garden", query: "q".repeat(len) } => SearchResult);
    at_and_past("query", query(QUERY_BYTES_MAX).await, query(QUERY_BYTES_MAX + 1).await);
    let status = async |len: usize| ask!(alice, SetPresence { text: "s".repeat(len) } => PresenceSet);
    at_and_past("status", status(STATUS_BYTES_MAX).await, status(STATUS_BYTES_MAX + 1).await);
    let invite = async |seconds: u64| ask!(alice, CreateInvite { room: "garden", seconds: seconds } => InviteCreated);
    at_and_past("invitation", invite(INVITE_SECONDS_MAX).await, invite(INVITE_SECONDS_MAX + 1).await);
    let banned = async |seconds: u64, reason: usize| {
        let reason = "r".repeat(reason);
        ask!(alice, Moderate {
            room: "garden", user: "mallory", sanction: Sanction::Ban, seconds: seconds, reason: reason
        } => MemberUpdated)
    };
    at_and_past("sanction", banned(SANCTION_SECONDS_MAX, 0).await, banned(SANCTION_SECONDS_MAX + 1, 0).await);
    at_and_past("reason", banned(0, REASON_BYTES_MAX).await, banned(0, REASON_BYTES_MAX + 1).await);
    let user = async |len: usize| ask!(alice, OpenDirect { user: "u".repeat(len) } => DirectOpened);
    at_and_past("user", user(USER_ID_BYTES_MAX).await, user(USER_ID_BYTES_MAX + 1).await);
}

/// PostgreSQL's text cannot hold a NUL, so no store does.
pub async fn nul_is_refused_in_every_text(stage: &Stage) {
    let mut alice = stage.player_in("alice", "garden").await;
    alice.publish("garden", "a1", "whole").await.unwrap();
    let nul = "a\0b";
    let file = |name: &str, url: &str| vec![Attachment { name: name.into(), url: url.into(), ..attachment() }];
    let refused: Vec<Error> = vec![
        alice.publish("garden", "n1", nul).await.unwrap_err(),
        alice.publish("garden", nul, "body").await.unwrap_err(),
        alice.edit("garden", "n2", 1, nul).await.unwrap_err(),
        alice.react("garden", "n3", 1, nul).await.unwrap_err(),
        alice.say(Publish { mentions: vec![nul.into()], ..text("n4", "body") }).await.unwrap_err(),
        alice.say(Publish { attachments: file(nul, "https://a.example"), ..text("n5", "body") }).await.unwrap_err(),
        alice.say(Publish { attachments: file("n", "https://a.example/\0"), ..text("n6", "body") }).await.unwrap_err(),
        ask!(alice, DeleteMessage { room: "garden", cmid: "n7", seq: 1u64, reason: nul } => Published).unwrap_err(),
        ask!(alice, UpdateRoom { room: "garden", title: nul.to_owned() } => RoomUpdated).unwrap_err(),
        ask!(alice, UpdateRoom { room: "garden", topic: nul.to_owned() } => RoomUpdated).unwrap_err(),
        ask!(alice, CreateRoom { room: "other", title: nul } => RoomCreated).unwrap_err(),
        ask!(alice, CreateRoom { room: "other", topic: nul } => RoomCreated).unwrap_err(),
        ask!(alice, CreateRoom { room: "other", settings: RoomSettings { entitlement: nul.into(), ..RoomSettings::default() } } => RoomCreated).unwrap_err(),
        ask!(alice, JoinRoom { room: "garden", invite: nul } => RoomJoined).unwrap_err(),
        ask!(alice, Moderate { room: "garden", user: "bob", sanction: Sanction::Ban, reason: nul } => MemberUpdated).unwrap_err(),
        ask!(alice, Moderate { room: "garden", user: nul, sanction: Sanction::Ban } => MemberUpdated).unwrap_err(),
        ask!(alice, SetRole { room: "garden", user: nul, role: Role::Guest } => MemberUpdated).unwrap_err(),
        ask!(alice, CreateInvite { room: "garden", user: nul } => InviteCreated).unwrap_err(),
        ask!(alice, RevokeInvite { room: "garden", code: nul } => InviteRevoked).unwrap_err(),
        ask!(alice, OpenDirect { user: nul } => DirectOpened).unwrap_err(),
        ask!(alice, SetPresence { text: nul } => PresenceSet).unwrap_err(),
        ask!(alice, Search { room: "garden", query: nul } => SearchResult).unwrap_err(),
        ask!(alice, Search { query: "a", author: nul } => SearchResult).unwrap_err(),
        ask!(alice, Search { query: "a", cursor: nul } => SearchResult).unwrap_err(),
        ask!(alice, ListRooms { after: nul } => RoomList).unwrap_err(),
        ask!(alice, ListUnread { after: nul } => UnreadList).unwrap_err(),
        ask!(alice, ListMembers { room: "garden", after: nul } => MemberList).unwrap_err(),
        ask!(alice, ListReactions { room: "garden", seq: 1u64, emoji: nul } => ReactionList).unwrap_err(),
    ];
    for (at, error) in refused.iter().enumerate() {
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{at}: {error:?}");
    }
    // Nothing was lost by it, and the log goes on.
    alice.publish("garden", "a2", "on we go").await.unwrap();
    let heard: Vec<_> = alice.messages(2).await.into_iter().map(|message| (message.seq, message.body)).collect();
    assert_eq!(heard, [(1, "whole".to_owned()), (2, "on we go".into())]);
}

/// Names of every script are names, and so are those that read from right to left.
pub async fn text_of_every_script_is_kept_as_it_is(stage: &Stage) {
    let alice = stage.player_in("alice", "garden").await;
    let titles = ["שלום — مرحبا", "👩‍👩‍👧‍👦🇫🇷", "\u{202e}reversed", "größe ｆｕｌｌ 𝔐", "'; DROP TABLE rooms; --"];
    for title in titles {
        let room = ask!(alice, UpdateRoom { room: "garden", title: title.to_owned(), topic: format!("{title}\nline two") } => RoomUpdated);
        let room = room.unwrap().room.unwrap();
        assert_eq!((room.title.as_str(), room.topic), (title, format!("{title}\nline two")));
        let read = alice.join("garden").await.unwrap().room.unwrap();
        assert_eq!(read.title, title);
    }
    let head = alice.join("garden").await.unwrap().room.unwrap().head;
    alice.publish("garden", "m", "react!").await.unwrap();
    for (at, emoji) in ["👩‍👩‍👧‍👦", "🇫🇷", "❤️", ":veza:", "ש"].iter().enumerate() {
        alice.react("garden", &format!("e{at}"), head + 1, emoji).await.unwrap();
        let who = ask!(alice, ListReactions { room: "garden", seq: head + 1, emoji: *emoji } => ReactionList).unwrap();
        assert_eq!((who.emoji.as_str(), who.total), (*emoji, 1));
    }
    for user in ["bob smith", "بوب", "b'ob\"", "𝔟𝔬𝔟"] {
        let player: Player = stage.player_in(user, "garden").await;
        assert_eq!(player.connection.welcome().user, user);
        player.publish("garden", "hello", user).await.unwrap();
    }
    let spaces = alice.ask(Command::React(veza_client::proto::v1::React {
        room: "garden".into(),
        cmid: "s".into(),
        seq: head + 1,
        emoji: "a b".into(),
        remove: false,
    }));
    assert_eq!(spaces.await.unwrap_err().code(), ErrorCode::InvalidArgument);
}
