//! What a line of input means.

use veza_client::proto::v1::{MemberFilter, PresenceState, Role, Sanction};

use super::{member, message, room};

/// Messages shown when a room is entered, and by `/history` without a number.
pub(super) const HISTORY: u32 = 20;

/// Every command with its arguments, as `/help` tells them.
pub(super) const HELP: &[(&str, &str)] = &[
    ("/join ROOM [CODE]", "enter a room, with the code of an invitation where one is needed"),
    ("/dm USER", "enter the room of you two"),
    ("/leave", "end the membership in this room"),
    ("/rooms [mine]", "the rooms that are listed, or mine"),
    ("/history [N]", "the last messages"),
    ("/reply N TEXT", "answer a message"),
    ("/thread N [TEXT]", "read a thread, or say something in it"),
    ("/edit N TEXT", "replace what I said"),
    ("/edits N", "what a message said before"),
    ("/delete N [REASON]", "remove a message for everybody"),
    ("/react N EMOJI", "react to a message"),
    ("/unreact N EMOJI", "take it back"),
    ("/pin N", "pin a message"),
    ("/unpin N", "take the pin off"),
    ("/pins", "the pinned messages"),
    ("/search WORDS", "messages of this room with all of these words; word* is a beginning"),
    ("/unread", "what I have not read, over all my rooms"),
    ("/who", "who is here now"),
    ("/members [staff|muted|banned]", "who belongs to the room"),
    ("/role USER ROLE", "make somebody guest, member, moderator, admin or owner"),
    ("/mute USER [TIME] [REASON]", "let somebody read only; TIME is 30s, 10m, 2h or 7d"),
    ("/unmute USER", "take it back"),
    ("/kick USER [TIME] [REASON]", "end somebody's membership, and keep them out for TIME"),
    ("/ban USER [TIME] [REASON]", "keep somebody out"),
    ("/unban USER", "take it back"),
    ("/invite [USER]", "a code to join by, or an invitation of one user"),
    ("/invites", "the invitations that name me"),
    ("/topic TEXT", "what the room is about"),
    ("/slow SECONDS", "one message of everybody in so many seconds; 0 is off"),
    ("/audit", "what moderators did here"),
    ("/status online|away|dnd [TEXT]", "how I am, for the others"),
    ("/ping", "how long the way to the server is"),
    ("/quit", "leave; every other line is said in the room"),
];

/// A line of input.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line {
    Nothing,
    Say(String),
    Join {
        room: String,
        invite: String,
    },
    Direct(String),
    Message(message::Ask),
    Room(room::Ask),
    Member(member::Ask),
    Help,
    Quit,
    /// A command whose arguments are not these.
    Usage(&'static str),
    Unknown(String),
}

impl Line {
    /// A line that begins with two slashes says one.
    pub(super) fn read(line: &str) -> Self {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/').filter(|rest| !rest.starts_with('/')) else {
            let body = line.strip_prefix('/').unwrap_or(line);
            return if body.is_empty() { Line::Nothing } else { Line::Say(body.to_owned()) };
        };
        let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        match (word, rest.trim()) {
            ("help", _) => Line::Help,
            ("quit" | "q", _) => Line::Quit,
            (word, rest) => match usage(word) {
                Some(usage) => Arguments(rest).command(word).unwrap_or(Line::Usage(usage)),
                None => Line::Unknown(word.to_owned()),
            },
        }
    }
}

fn usage(word: &str) -> Option<&'static str> {
    let is = |usage: &&str| usage[1..].split(' ').next() == Some(word);
    HELP.iter().map(|(usage, _)| *usage).find(is)
}

/// What follows a command. Each of its readers takes one argument from the front.
struct Arguments<'a>(&'a str);

impl Arguments<'_> {
    /// `None` when the arguments are wrong.
    fn command(mut self, word: &str) -> Option<Line> {
        use member::Ask as Member;
        use message::Ask as Message;
        use room::Ask as Room;
        let line = match word {
            "join" => Line::Join { room: self.word()?, invite: self.word().unwrap_or_default() },
            "dm" => Line::Direct(self.word()?),
            "leave" => Line::Room(Room::Leave),
            "rooms" => Line::Room(Room::List { mine: self.word().as_deref() == Some("mine") }),
            "history" if self.0.is_empty() => Line::Message(Message::History(HISTORY)),
            "history" => Line::Message(Message::History(self.number()?)),
            "reply" => Line::Message(Message::Say { seq: self.number()?, in_thread: false, body: self.text()? }),
            "thread" => {
                let seq = self.number()?;
                Line::Message(match self.text() {
                    Some(body) => Message::Say { seq, in_thread: true, body },
                    None => Message::Thread(seq),
                })
            }
            "edit" => Line::Message(Message::Edit { seq: self.number()?, body: self.text()? }),
            "edits" => Line::Message(Message::Revisions(self.number()?)),
            "delete" => Line::Message(Message::Delete { seq: self.number()?, reason: self.text().unwrap_or_default() }),
            "react" => Line::Message(Message::React { seq: self.number()?, emoji: self.word()?, remove: false }),
            "unreact" => Line::Message(Message::React { seq: self.number()?, emoji: self.word()?, remove: true }),
            "pin" => Line::Message(Message::Pin { seq: self.number()?, remove: false }),
            "unpin" => Line::Message(Message::Pin { seq: self.number()?, remove: true }),
            "pins" => Line::Message(Message::Pins),
            "search" => Line::Message(Message::Search(self.text()?)),
            "unread" => Line::Message(Message::Unread),
            "who" => Line::Member(Member::Who),
            "members" => Line::Member(Member::List(match self.word().as_deref() {
                None => MemberFilter::Unspecified,
                Some("staff") => MemberFilter::Staff,
                Some("muted") => MemberFilter::Muted,
                Some("banned") => MemberFilter::Banned,
                Some(_) => return None,
            })),
            "role" => Line::Member(Member::Role { user: self.word()?, role: self.role()? }),
            "mute" => self.sanction(Sanction::Mute)?,
            "unmute" => self.sanction(Sanction::Unmute)?,
            "kick" => self.sanction(Sanction::Kick)?,
            "ban" => self.sanction(Sanction::Ban)?,
            "unban" => self.sanction(Sanction::Unban)?,
            "invite" => Line::Room(Room::Invite { user: self.word().unwrap_or_default() }),
            "invites" => Line::Room(Room::Invites),
            "topic" => Line::Room(Room::Topic(self.text().unwrap_or_default())),
            "slow" => Line::Room(Room::Slow(self.number()?)),
            "audit" => Line::Member(Member::Audit),
            "status" => Line::Member(Member::Status { state: self.state()?, text: self.text().unwrap_or_default() }),
            "ping" => Line::Room(Room::Ping),
            _ => return None,
        };
        Some(line)
    }

    fn word(&mut self) -> Option<String> {
        let (word, rest) = self.0.split_once(char::is_whitespace).unwrap_or((self.0, ""));
        self.0 = rest.trim_start();
        (!word.is_empty()).then(|| word.to_owned())
    }

    /// Everything that is left.
    fn text(&mut self) -> Option<String> {
        let text = std::mem::take(&mut self.0);
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// A message is named `12` or `#12`.
    fn number<N: std::str::FromStr>(&mut self) -> Option<N> {
        self.word()?.trim_start_matches('#').parse().ok()
    }

    fn role(&mut self) -> Option<Role> {
        Role::from_str_name(&format!("ROLE_{}", self.word()?.to_uppercase()))
    }

    fn state(&mut self) -> Option<PresenceState> {
        match self.word()?.as_str() {
            "online" => Some(PresenceState::Online),
            "away" => Some(PresenceState::Away),
            "dnd" => Some(PresenceState::DoNotDisturb),
            _ => None,
        }
    }

    fn sanction(&mut self, sanction: Sanction) -> Option<Line> {
        let user = self.word()?;
        let (word, rest) = self.0.split_once(char::is_whitespace).unwrap_or((self.0, ""));
        let seconds = seconds_of(word);
        if seconds.is_some() {
            self.0 = rest.trim_start();
        }
        let (seconds, reason) = (seconds.unwrap_or(0), self.text().unwrap_or_default());
        Some(Line::Member(member::Ask::Moderate { user, sanction, seconds, reason }))
    }
}

/// `30s`, `10m`, `2h` or `7d`.
fn seconds_of(word: &str) -> Option<u64> {
    let (unit, seconds) =
        [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)].into_iter().find(|(unit, _)| word.ends_with(*unit))?;
    word.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_or_words() {
        assert_eq!(Line::read("  hello there "), Line::Say("hello there".into()));
        assert_eq!(Line::read(""), Line::Nothing);
        assert_eq!(Line::read("//shrug"), Line::Say("/shrug".into()));
        assert_eq!(Line::read("/join two"), Line::Join { room: "two".into(), invite: String::new() });
        assert_eq!(Line::read("/join two c0de"), Line::Join { room: "two".into(), invite: "c0de".into() });
        assert_eq!(Line::read("/join"), Line::Usage("/join ROOM [CODE]"));
        assert_eq!(Line::read("/history"), Line::Message(message::Ask::History(HISTORY)));
        assert_eq!(Line::read("/history 5"), Line::Message(message::Ask::History(5)));
        assert_eq!(Line::read("/history many"), Line::Usage("/history [N]"));
        assert_eq!(Line::read("/quit"), Line::Quit);
        assert_eq!(Line::read("/fly"), Line::Unknown("fly".into()));
    }

    #[test]
    fn a_message_is_named_by_its_number() {
        let edit = Line::Message(message::Ask::Edit { seq: 12, body: "better  words".into() });
        assert_eq!(Line::read("/edit #12 better  words"), edit);
        assert_eq!(Line::read("/edit 12 better  words"), edit);
        assert_eq!(Line::read("/edit better words"), Line::Usage("/edit N TEXT"));
        assert_eq!(Line::read("/thread 3"), Line::Message(message::Ask::Thread(3)));
        let said = message::Ask::Say { seq: 3, in_thread: true, body: "yes".into() };
        assert_eq!(Line::read("/thread 3 yes"), Line::Message(said));
    }

    #[test]
    fn a_sanction_has_a_time_and_a_reason_or_not() {
        let muted = |seconds, reason: &str| {
            let (user, reason) = ("bob".to_owned(), reason.to_owned());
            Line::Member(member::Ask::Moderate { user, sanction: Sanction::Mute, seconds, reason })
        };
        assert_eq!(Line::read("/mute bob"), muted(0, ""));
        assert_eq!(Line::read("/mute bob 10m"), muted(600, ""));
        assert_eq!(Line::read("/mute bob 2h too loud"), muted(7_200, "too loud"));
        assert_eq!(Line::read("/mute bob shouts"), muted(0, "shouts"));
        assert_eq!(Line::read("/mute"), Line::Usage("/mute USER [TIME] [REASON]"));
        assert_eq!(seconds_of("99999999999999999999d"), None);
    }

    #[test]
    fn roles_and_states_are_named() {
        let role = member::Ask::Role { user: "bob".into(), role: Role::Moderator };
        assert_eq!(Line::read("/role bob moderator"), Line::Member(role));
        assert_eq!(Line::read("/role bob king"), Line::Usage("/role USER ROLE"));
        let status = member::Ask::Status { state: PresenceState::Away, text: "at lunch".into() };
        assert_eq!(Line::read("/status away at lunch"), Line::Member(status));
    }

    #[test]
    fn every_command_of_the_help_is_understood() {
        for (usage, _) in HELP {
            let words = usage.replace(['[', ']'], "").replace(" N", " 1").replace("SECONDS", "5").replace("TIME", "5m");
            let words =
                words.replace("ROLE", "admin").replace("online|away|dnd", "dnd").replace("staff|muted|banned", "muted");
            let line = Line::read(&words);
            assert!(!matches!(line, Line::Usage(_) | Line::Unknown(_) | Line::Say(_)), "{words}: {line:?}");
        }
    }
}
