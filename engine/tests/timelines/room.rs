use veza_engine::room::{Appended, Facts, Output, Room};
use veza_engine::{Answer, SessionKey, Ticket, Timestamp};
use veza_proto::v1::{Message, push, server_frame};
use veza_proto::{Cmid, Encoded, RoomId, UserId};

use crate::{Stage, check, number, value};

#[test]
fn rooms() {
    check("room", || Stall { room: Room::new(facts(10)) });
}

struct Stall {
    room: Room,
}

fn facts(head: u64) -> Facts {
    Facts {
        id: RoomId::parse("lobby").unwrap(),
        title: "Lobby".into(),
        epoch: 1,
        head,
        first_available: 1,
        members: 2,
        created_ms: 0,
    }
}

fn message(seq: u64, author: &str) -> Message {
    Message {
        room: "lobby".into(),
        epoch: 1,
        seq,
        cmid: format!("c{seq}"),
        author: author.into(),
        body: "…".into(),
        at_ms: 0,
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
            ["subscribes", "as", user] => {
                self.room.handle_subscribe(who(), &UserId::parse(user).unwrap(), Ticket::for_tests(1), now);
            }
            ["unsubscribes"] => self.room.handle_unsubscribe(who(), now),
            ["publishes", cmid] => {
                let cmid = Cmid::parse(cmid).unwrap();
                self.room.handle_publish(who(), Ticket::for_tests(2), cmid, "hello".into());
            }
            ["types"] => self.room.handle_typing(who(), true),
            ["stores", what, ..] => {
                let appended = match what {
                    "message" => Appended::Stored(message(number(words, "seq").unwrap(), "alice")),
                    "duplicate" => Appended::Duplicate(message(number(words, "seq").unwrap(), "alice")),
                    "conflict" => Appended::Conflict,
                    "nothing" => Appended::Unavailable,
                    "full" => Appended::StorageFull,
                    other => panic!("{other}"),
                };
                let to = session(value(words, "for").unwrap());
                self.room.handle_appended(to, Ticket::for_tests(2), appended);
            }
            ["commits", ..] => self.room.handle_committed(message(number(words, "seq").unwrap(), "zoe")),
            ["reads", "nothing"] => self.room.handle_fetched(None, now),
            ["reads", ..] => {
                let (from, to) = (number(words, "from").unwrap(), number(words, "to").unwrap());
                let messages = (from..=to).map(|seq| message(seq, "zoe")).collect();
                self.room.handle_fetched(Some(messages), now);
            }
            ["tells", ..] => self.room.handle_facts(&facts(number(words, "head").unwrap()), now),
            ["passes"] => self.room.handle_timeout(now),
            _ => panic!("{words:?}"),
        }
    }

    fn outcome(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(output) = self.room.poll_output() {
            lines.push(match output {
                Output::Append { session, author, cmid, body, .. } => {
                    format!("append {cmid} {body:?} of {author} for s{}", session.0)
                }
                Output::Answer { session, answer, .. } => format!("s{} <- {}", session.0, said(&answer)),
                Output::Deliver { seq, .. } => format!("everyone <- message {seq}"),
                Output::Volatile { frame, except } => format!("everyone but s{} <- {}", except.0, pushed(&frame)),
                Output::Presence { frame } => format!("everyone <- {}", pushed(&frame)),
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
        Some(push::Event::PresenceChanged(changed)) => {
            format!("here joined={:?} left={:?} total={}", changed.joined, changed.left, changed.present_total)
        }
        other => format!("{other:?}"),
    }
}
