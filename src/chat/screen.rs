//! What lines look like. Everything that comes from others passes [`plain`].

use veza_client::proto::v1::{
    AuditEntry, Membership, Message, PresenceChanged, PresenceState, Revision, Role, Room, RoomEvicted, Sanction,
    SystemKind, SystemNote, UserStatus, message::Change,
};

/// Until somebody lifts it: JSON's largest whole number, which no time reaches.
const FOR_GOOD_MS: u64 = (1 << 53) - 1;

const DIM: &str = "2";
const WARN: &str = "33";
/// Colours that read on dark and light: green, blue, magenta, cyan and their bold forms.
const AUTHORS: [&str; 8] = ["32", "34", "35", "36", "1;32", "1;34", "1;35", "1;36"];

#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    pub(super) colour: bool,
}

impl Screen {
    /// `12:03 #7 alice: text`, with the time in UTC; for a change `12:03 alice edited #7: text`.
    pub(super) fn message(self, message: &Message) -> String {
        let author = plain(&message.author);
        let author = self.paint(AUTHORS[colour_of(&author)], &author);
        let what = match &message.change {
            None => format!("{author}: {}", content(message)),
            Some(change) => format!("{author} {}", happened(change)),
        };
        let seq = if message.change.is_none() { format!(" #{}", message.seq) } else { String::new() };
        format!("{} {what}", self.paint(DIM, &format!("{}{seq}", clock(message.at_ms))))
    }

    /// A message of the history as it is now, apart from those that come now.
    pub(super) fn past(self, message: &Message) -> String {
        let author = plain(&message.author);
        let line = match &message.change {
            Some(change) => format!("{} {author} {}", clock(message.at_ms), happened(change)),
            None => {
                format!("{} #{} {author}: {}{}", clock(message.at_ms), message.seq, content(message), became(message))
            }
        };
        self.paint(DIM, &line)
    }

    pub(super) fn revision(self, revision: &Revision) -> String {
        let line = format!("{} {}. {}", clock(revision.at_ms), revision.revision + 1, plain(&revision.body));
        self.paint(DIM, &line)
    }

    pub(super) fn person(self, user: &str, status: Option<&UserStatus>) -> String {
        match status {
            None => plain(user),
            Some(status) => format!("{}  {}", plain(user), state(status)),
        }
    }

    pub(super) fn member(self, member: &Membership) -> String {
        let mut line = format!("{}  {}", plain(&member.user), role(member.role()));
        for (what, until_ms) in [("muted", member.muted_until_ms), ("banned", member.banned_until_ms)] {
            if until_ms > 0 {
                line += &format!(", {what} {}", until(until_ms));
            }
        }
        if !member.reason.is_empty() {
            line += &format!(" ({})", plain(&member.reason));
        }
        line
    }

    pub(super) fn audit(self, entry: &AuditEntry) -> String {
        let mut line = format!("{} {} {}", clock(entry.at_ms), plain(&entry.actor), plain(&entry.action));
        if !entry.user.is_empty() {
            line += &format!(" {}", plain(&entry.user));
        }
        if entry.seq > 0 {
            line += &format!(" #{}", entry.seq);
        }
        for more in [&entry.detail, &entry.reason] {
            if !more.is_empty() {
                line += &format!(" ({})", plain(more));
            }
        }
        line
    }

    pub(super) fn evicted(self, evicted: &RoomEvicted) -> String {
        let what = match evicted.sanction() {
            Sanction::Ban => format!("you are banned from {} {}", evicted.room, until(evicted.until_ms)),
            Sanction::Kick => format!("you were removed from {}", evicted.room),
            Sanction::Unspecified | Sanction::Mute | Sanction::Unmute | Sanction::Unban => {
                format!("you left {} from somewhere else", evicted.room)
            }
        };
        let why = if evicted.reason.is_empty() { String::new() } else { format!(": {}", evicted.reason) };
        self.warning(&format!("{what}{why}"))
    }

    pub(super) fn room(self, room: &Room) -> String {
        format!("{}  {}  {} messages, {} members", plain(&room.id), plain(&room.title), room.head, room.members)
    }

    pub(super) fn presence(self, presence: &PresenceChanged) -> Option<String> {
        let names = |names: &[String]| plain(&names.join(", "));
        let mut what = Vec::new();
        if !presence.joined.is_empty() {
            what.push(format!("{} came", names(&presence.joined)));
        }
        if !presence.left.is_empty() {
            what.push(format!("{} left", names(&presence.left)));
        }
        what.extend(presence.statuses.iter().map(|status| format!("{} is {}", plain(&status.user), state(status))));
        if what.is_empty() {
            return None;
        }
        let what = what.join(", ");
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

/// What a message says: its text, what it belongs to, and the files it names.
fn content(message: &Message) -> String {
    if let Some(deleted) = &message.deleted {
        return format!("(deleted by {})", plain(&deleted.by));
    }
    let mut text = String::new();
    if message.thread > 0 {
        text += &format!("[thread #{}] ", message.thread);
    }
    if message.reply_to > 0 {
        text += &format!("[to #{}] ", message.reply_to);
    }
    text += &plain(&message.body);
    for file in &message.attachments {
        text += &format!(" [{} {}]", plain(&file.name), plain(&file.url));
    }
    text
}

/// What has become of a message.
fn became(message: &Message) -> String {
    let mut text = String::new();
    if message.edits > 0 && message.deleted.is_none() {
        text += " (edited)";
    }
    if message.pinned {
        text += " (pinned)";
    }
    for reaction in &message.reactions {
        text += &format!(" [{} {}]", plain(&reaction.emoji), reaction.count);
    }
    if let Some(replies) = message.replies.as_ref().filter(|replies| replies.count > 0) {
        text += &format!(" [{} in /thread {}]", replies.count, message.seq);
    }
    text
}

fn happened(change: &Change) -> String {
    match change {
        Change::Edit(edit) if edit.body.is_empty() => format!("edited #{}", edit.target),
        Change::Edit(edit) => format!("edited #{}: {}", edit.target, plain(&edit.body)),
        Change::Deletion(deletion) => format!("deleted #{}", deletion.target),
        Change::Reaction(reaction) => {
            let (emoji, target) = (plain(&reaction.emoji), reaction.target);
            if reaction.removed { format!("took {emoji} back from #{target}") } else { format!("{emoji} #{target}") }
        }
        Change::Pin(pin) if pin.removed => format!("unpinned #{}", pin.target),
        Change::Pin(pin) => format!("pinned #{}", pin.target),
        Change::System(note) => noted(note),
    }
}

fn noted(note: &SystemNote) -> String {
    let (user, text) = (plain(&note.user), plain(&note.text));
    match note.kind() {
        SystemKind::TitleChanged => format!("called the room {text}"),
        SystemKind::TopicChanged => format!("changed the topic: {text}"),
        SystemKind::RoleChanged => format!("made {user} {}", role(note.role())),
        SystemKind::Kicked => format!("removed {user}"),
        SystemKind::Banned => format!("banned {user} {}", until(note.until_ms)),
        SystemKind::Unbanned => format!("let {user} in again"),
        SystemKind::Muted => format!("muted {user} {}", until(note.until_ms)),
        SystemKind::Unmuted => format!("let {user} speak again"),
        SystemKind::Archived => "archived the room".into(),
        SystemKind::Unarchived => "opened the room again".into(),
        SystemKind::SettingsChanged | SystemKind::Unspecified => "changed the room's settings".into(),
    }
}

fn state(status: &UserStatus) -> String {
    let state = match status.state() {
        PresenceState::Away => "away",
        PresenceState::DoNotDisturb => "not to be disturbed",
        PresenceState::Online | PresenceState::Unspecified => "online",
    };
    if status.text.is_empty() { state.to_owned() } else { format!("{state}: {}", plain(&status.text)) }
}

fn role(role: Role) -> String {
    role.as_str_name().trim_start_matches("ROLE_").to_lowercase()
}

/// The end of a mute or a ban.
fn until(until_ms: u64) -> String {
    let end = i128::from(until_ms) * 1_000_000;
    match time::OffsetDateTime::from_unix_timestamp_nanos(end) {
        Ok(end) if until_ms > 0 && until_ms < FOR_GOOD_MS => {
            format!("until {} {:02}:{:02} UTC", end.date(), end.hour(), end.minute())
        }
        Ok(_) | Err(_) => "until somebody lifts it".into(),
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
    use veza_client::proto::v1::{Deletion, Edit, PinChange, Reaction, ReactionChange, ThreadSummary, Tombstone};

    use super::*;

    fn said(author: &str, body: &str) -> Message {
        Message { seq: 7, author: author.into(), body: body.into(), at_ms: 43_385_000, ..Message::default() }
    }

    #[test]
    fn a_message_is_one_readable_line() {
        let screen = Screen { colour: false };
        assert_eq!(screen.message(&said("alice", "text")), "12:03 #7 alice: text");
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
            statuses: vec![UserStatus { user: "dave".into(), state: PresenceState::Away.into(), text: "lunch".into() }],
        };
        let line = "-- lobby: bob came, carol left, dave is away: lunch, 2 here";
        assert_eq!(screen.presence(&came).unwrap(), line);
    }

    #[test]
    fn changes_say_whose_message_they_are_about() {
        let screen = Screen { colour: false };
        let line = |change| screen.message(&Message { change: Some(change), ..said("alice", "") });
        let edit = Edit { target: 3, body: "better".into(), ..Edit::default() };
        assert_eq!(line(Change::Edit(edit)), "12:03 alice edited #3: better");
        assert_eq!(line(Change::Deletion(Deletion { target: 3 })), "12:03 alice deleted #3");
        let reaction = ReactionChange { target: 3, emoji: "👍".into(), count: 1, removed: false };
        assert_eq!(line(Change::Reaction(reaction)), "12:03 alice 👍 #3");
        assert_eq!(line(Change::Pin(PinChange { target: 3, removed: true })), "12:03 alice unpinned #3");
        let muted = |until_ms| {
            let kind = SystemKind::Muted.into();
            Change::System(SystemNote { kind, user: "bob".into(), until_ms, ..SystemNote::default() })
        };
        assert_eq!(line(muted(1_764_000_000_000)), "12:03 alice muted bob until 2025-11-24 16:00 UTC");
        assert_eq!(line(muted(FOR_GOOD_MS)), "12:03 alice muted bob until somebody lifts it");
    }

    #[test]
    fn the_history_shows_messages_as_they_are_now() {
        let screen = Screen { colour: false };
        let now = Message {
            edits: 1,
            pinned: true,
            reactions: vec![Reaction { emoji: "👍".into(), count: 2, mine: true }],
            replies: Some(ThreadSummary { count: 3, ..ThreadSummary::default() }),
            ..said("alice", "text")
        };
        assert_eq!(screen.past(&now), "12:03 #7 alice: text (edited) (pinned) [👍 2] [3 in /thread 7]");
        let gone = Message { deleted: Some(Tombstone { by: "mod".into(), at_ms: 1 }), edits: 1, ..said("alice", "") };
        assert_eq!(screen.past(&gone), "12:03 #7 alice: (deleted by mod)");
    }
}
