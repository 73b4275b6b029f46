use veza_engine::ledger::{Content, Joined, MemberRow, Refusal, RoomRow, Settings};
use veza_engine::room::{Appended, Ended, Output, Room};
use veza_engine::{Answer, SessionKey, Status, Ticket, Timestamp};
use veza_proto::v1::{
    Deletion, Message, PresenceState, Role, RoomEvicted, RoomKind, Sanction, message::Change, push, server_frame,
};
use veza_proto::{Cmid, Encoded, RoomId, UserId};

use crate::{Stage, check, number, value};

#[test]
fn rooms() {
    check("room", || Stall { room: Room::new(row(10)) });
}

struct Stall {
    room: Room,
}

fn row(head: u64) -> RoomRow {
    RoomRow {
        id: RoomId::parse("lobby").unwrap(),
        title: "Lobby".into(),
        topic: String::new(),
        kind: RoomKind::Public,
        settings: Settings::of(RoomKind::Public),
        archived: false,
        epoch: 1,
        head,
        first_available: 1,
        messages: head,
        messages_expired: 0,
        members: 2,
        created_ms: 0,
        last_message_ms: 0,
        revision: 1,
        audit: 0,
        direct: None,
    }
}

fn member() -> MemberRow {
    MemberRow { joined: Some(Joined { role: Role::Member, at_ms: 0 }), ..MemberRow::stranger() }
}

fn message(seq: u64, author: &str) -> Message {
    Message {
        room: "lobby".into(),
        epoch: 1,
        seq,
        cmid: format!("c{seq}"),
        author: author.into(),
        body: "…".into(),
        ..Message::default()
    }
}

/// Sessions are named s1, s2 …
fn session(name: &str) -> SessionKey {
    SessionKey(name.strip_prefix('s').and_then(|number| number.parse().ok()).expect("a session is s<number>"))
}

impl Stage for Stall {
    fn act(&mut self, ms: u64, words: &[&str]) {
        let now = Timestamp::from_millis(ms);
        let who = || session(words[0]);
        match words[1..] {
            ["subscribes", "as", user, ..] => {
                let user = UserId::parse(user).unwrap();
                let row = RoomRow { revision: number(words, "revision").unwrap_or(1), ..row(10) };
                self.room.handle_subscribe(who(), &user, &row, &member(), Ticket::for_tests(1), now);
            }
            ["says", state, ..] => {
                let state = if state == "away" { PresenceState::Away } else { PresenceState::Online };
                self.room.handle_status(who(), Status { state, text: String::new() }, now);
            }
            ["is", "banned", ..] => {
                let evicted = RoomEvicted { sanction: Sanction::Ban.into(), ..RoomEvicted::default() };
                let (user, revision) = (UserId::parse(words[0]).unwrap(), number(words, "revision").unwrap());
                self.room.handle_ended(&Ended { user, evicted, revision }, now);
            }
            ["reads", "up-to", seq] => {
                let (user, seq) = (UserId::parse(words[0]).unwrap(), seq.parse().unwrap());
                self.room.handle_marked(&user, seq, seq, now);
            }
            ["changes", ..] => {
                let row = RoomRow { revision: number(words, "revision").unwrap(), ..row(10) };
                self.room.handle_changed(&row, Vec::new(), now);
            }
            ["unsubscribes"] => self.room.handle_unsubscribe(who(), now),
            ["publishes", cmid] => {
                let cmid = Cmid::parse(cmid).unwrap();
                self.room.handle_publish(who(), Ticket::for_tests(2), cmid, Content::text("hello"));
            }
            ["types"] => self.room.handle_typing(who(), true),
            ["stores", what, ..] => {
                let appended = match what {
                    "message" => Appended::Stored(message(number(words, "seq").unwrap(), "alice")),
                    "deletion" => {
                        let deletion = Deletion { target: number(words, "of").unwrap() };
                        let change = Some(Change::Deletion(deletion));
                        Appended::Stored(Message { change, ..message(number(words, "seq").unwrap(), "alice") })
                    }
                    "duplicate" => Appended::Duplicate { epoch: 1, seq: number(words, "seq").unwrap(), at_ms: 0 },
                    "conflict" => Appended::Refused(Refusal::CmidConflict),
                    "nothing" => Appended::Unavailable,
                    "full" => Appended::StorageFull,
                    other => panic!("{other}"),
                };
                let to = session(value(words, "for").unwrap());
                let cmid = Cmid::parse(&number(words, "seq").map_or("c".into(), |seq| format!("c{seq}"))).unwrap();
                self.room.handle_appended(to, Ticket::for_tests(2), &cmid, appended);
            }
            ["commits", ..] => self.room.handle_committed(message(number(words, "seq").unwrap(), "zoe")),
            ["reads", "nothing"] => self.room.handle_fetched(None, now),
            ["reads", ..] => {
                let (from, to) = (number(words, "from").unwrap(), number(words, "to").unwrap());
                let messages = (from..=to).map(|seq| message(seq, "zoe")).collect();
                self.room.handle_fetched(Some(messages), now);
            }
            ["tells", ..] => self.room.handle_row(&row(number(words, "head").unwrap()), now),
            ["passes"] => self.room.handle_timeout(now),
            _ => panic!("{words:?}"),
        }
    }

    fn outcome(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(output) = self.room.poll_output() {
            lines.push(match output {
                Output::Append { session, author, cmid, content: Content::Text { body, .. }, .. } => {
                    format!("append {cmid} {body:?} of {author} for s{}", session.0)
                }
                Output::Append { cmid, content, .. } => format!("append {cmid} {content:?}"),
                Output::Answer { session, answer, .. } => format!("s{} <- {}", session.0, said(&answer)),
                Output::Deliver(delivered) => match delivered.retracts {
                    None => format!("everyone <- message {}", delivered.seq),
                    Some(target) => format!("everyone <- deletion {} of {target}", delivered.seq),
                },
                Output::Evict { session, evicted } => format!("s{} <- evicted {:?}", session.0, evicted.sanction()),
                Output::Volatile { frame, except } => format!("everyone but s{} <- {}", except.0, pushed(&frame)),
                Output::Notice { frame } => format!("everyone <- {}", pushed(&frame)),
                Output::Announce(message) => format!("other nodes <- message {}", message.seq),
                Output::Fetch { after, limit } => format!("read after={after} limit={limit}"),
            });
        }
        lines
    }
}

fn said(answer: &Answer) -> String {
    match answer {
        Answer::Joined(joined) => {
            format!("joined head={} present={:?} total={}", joined.room.head, joined.present, joined.present_total)
        }
        Answer::Published(published) => {
            format!("published {} seq={} duplicate={}", published.cmid, published.seq, published.duplicate)
        }
        Answer::Refused(error) => format!("{:?}: {}", error.code(), error.message),
        other => format!("{other:?}"),
    }
}

fn pushed(frame: &Encoded) -> String {
    let Some(server_frame::Frame::Push(push)) = &frame.frame().frame else { return format!("{frame:?}") };
    match &push.event {
        Some(push::Event::TypingChanged(typing)) => format!("{} types", typing.user),
        Some(push::Event::ReceiptsChanged(changed)) => {
            let receipts = changed.receipts.iter().map(|receipt| format!("{}={}", receipt.user, receipt.read_seq));
            format!("receipts {}", receipts.collect::<Vec<_>>().join(" "))
        }
        Some(push::Event::RoomChanged(changed)) => {
            format!("room revision={}", changed.room.as_ref().unwrap().revision)
        }
        Some(push::Event::PresenceChanged(changed)) if !changed.statuses.is_empty() => {
            let statuses = changed.statuses.iter().map(|status| format!("{} is {:?}", status.user, status.state()));
            statuses.collect::<Vec<_>>().join(", ")
        }
        Some(push::Event::PresenceChanged(changed)) => {
            format!("here joined={:?} left={:?} total={}", changed.joined, changed.left, changed.present_total)
        }
        other => format!("{other:?}"),
    }
}
