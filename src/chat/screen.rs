//! What lines look like. Everything that comes from others passes [`plain`].

use veza_client::proto::v1::{Message, PresenceChanged, Room};

const DIM: &str = "2";
const WARN: &str = "33";
/// Colours that read on dark and light: green, blue, magenta, cyan and their bold forms.
const AUTHORS: [&str; 8] = ["32", "34", "35", "36", "1;32", "1;34", "1;35", "1;36"];

#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    pub(super) colour: bool,
}

impl Screen {
    /// `12:03 alice: text`, with the time in UTC.
    pub(super) fn message(self, message: &Message) -> String {
        let author = plain(&message.author);
        let author = self.paint(AUTHORS[colour_of(&author)], &author);
        format!("{} {author}: {}", self.paint(DIM, &clock(message.at_ms)), plain(&message.body))
    }

    /// A message of the history, apart from those that come now.
    pub(super) fn past(self, message: &Message) -> String {
        let line = format!("{} {}: {}", clock(message.at_ms), plain(&message.author), plain(&message.body));
        self.paint(DIM, &line)
    }

    pub(super) fn room(self, room: &Room) -> String {
        format!("{}  {}  {} messages, {} members", plain(&room.id), plain(&room.title), room.head, room.members)
    }

    pub(super) fn presence(self, presence: &PresenceChanged) -> Option<String> {
        let names = |names: &[String]| plain(&names.join(", "));
        let what = match (presence.joined.as_slice(), presence.left.as_slice()) {
            ([], []) => return None,
            (joined, []) => format!("{} came", names(joined)),
            ([], left) => format!("{} left", names(left)),
            (joined, left) => format!("{} came, {} left", names(joined), names(left)),
        };
        Some(self.note(&format!("{}: {what}, {} here", plain(&presence.room), presence.present_total)))
    }

    pub(super) fn note(self, text: &str) -> String {
        self.paint(DIM, &format!("-- {}", plain(text)))
    }

    pub(super) fn warning(self, text: &str) -> String {
        self.paint(WARN, &format!("!! {}", plain(text)))
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Hours and minutes of a time in milliseconds since 1970-01-01 UTC.
fn clock(at_ms: u64) -> String {
    let minutes = at_ms / 60_000;
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}

/// Always the same colour for the same name.
fn colour_of(author: &str) -> usize {
    author.bytes().fold(0, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % AUTHORS.len()
}

/// Text of others without what moves a cursor, changes a colour or turns the reading direction. A new line is indented,
/// so that it cannot pretend to be another's message.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' => plain.push_str("\n      "),
            '\t' => plain.push(' '),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {
                plain.extend(char.escape_unicode());
            }
            char if char.is_control() => plain.extend(char.escape_default()),
            char => plain.push(char),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(author: &str, body: &str) -> Message {
        Message { author: author.into(), body: body.into(), at_ms: 43_385_000, ..Message::default() }
    }

    #[test]
    fn a_message_is_one_readable_line() {
        let screen = Screen { colour: false };
        assert_eq!(screen.message(&said("alice", "text")), "12:03 alice: text");
        assert!(Screen { colour: true }.message(&said("alice", "text")).contains("\x1b["));
    }

    #[test]
    fn others_cannot_steer_the_terminal() {
        let screen = Screen { colour: false };
        let line = screen.message(&said("a\x1b[2J", "x\x07\r\u{202e}y\u{9b}0m\nbob: hi"));
        assert!(!line.contains(['\x1b', '\x07', '\r', '\u{202e}', '\u{9b}']), "{line:?}");
        assert!(line.ends_with("\n      bob: hi"), "{line:?}");
        assert_eq!(plain("größe 🎵"), "größe 🎵");
    }

    #[test]
    fn presence_that_says_nothing_is_not_shown() {
        let screen = Screen { colour: false };
        assert_eq!(screen.presence(&PresenceChanged::default()), None);
        let came = PresenceChanged {
            room: "lobby".into(),
            joined: vec!["bob".into()],
            left: vec!["carol".into()],
            present_total: 2,
        };
        assert_eq!(screen.presence(&came).unwrap(), "-- lobby: bob came, carol left, 2 here");
    }
}
