//! What an author adds to a room's log, and what the log keeps of it beside the body.

use prost::Message as _;
use veza_proto::v1::{self, message::Change};

/// What an author asks for. Its bounds were checked at the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Text {
        body: String,
        /// The thread's first message, 0 for the room itself.
        thread: u64,
        /// 0 for none.
        reply_to: u64,
        /// Users; "*" is everybody.
        mentions: Vec<String>,
        attachments: Vec<v1::Attachment>,
    },
    Edit {
        target: u64,
        body: String,
        mentions: Vec<String>,
    },
    Delete {
        target: u64,
        reason: String,
    },
    React {
        target: u64,
        emoji: String,
        remove: bool,
    },
    Pin {
        target: u64,
        remove: bool,
    },
}

/// What kind of entry it is and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    Text { thread: u64, reply_to: u64, mentions: Vec<String>, attachments: Vec<v1::Attachment> },
    Edit { target: u64, mentions: Vec<String>, revision: u32 },
    Deletion { target: u64 },
    Reaction { target: u64, emoji: String, removed: bool, count: u32 },
    Pin { target: u64, removed: bool },
    Note(v1::SystemNote),
}

/// How the store tells kinds apart. The numbers are in databases and stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    Text = 0,
    Note = 1,
    Edit = 2,
    Deletion = 3,
    Reaction = 4,
    Pin = 5,
}

impl Content {
    /// A message without anything else.
    pub fn text(body: impl Into<String>) -> Self {
        Content::Text { body: body.into(), thread: 0, reply_to: 0, mentions: Vec::new(), attachments: Vec::new() }
    }

    /// The entry this acts on.
    pub fn target(&self) -> Option<u64> {
        match self {
            Content::Text { .. } => None,
            Content::Edit { target, .. }
            | Content::Delete { target, .. }
            | Content::React { target, .. }
            | Content::Pin { target, .. } => Some(*target),
        }
    }

    /// Bytes of its strings.
    pub fn len(&self) -> usize {
        let strings = |strings: &[String]| strings.iter().map(|string| string.len() + 24).sum::<usize>();
        match self {
            Content::Text { body, mentions, attachments, .. } => {
                let attached: usize = attachments.iter().map(prost::Message::encoded_len).sum();
                body.len() + strings(mentions) + attached
            }
            Content::Edit { body, mentions, .. } => body.len() + strings(mentions),
            Content::Delete { reason, .. } => reason.len(),
            Content::React { emoji, .. } => emoji.len(),
            Content::Pin { .. } => 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells a retry from another message under the same cmid, also when the body is gone: FNV-1a over every field. Whoever
    /// makes two contents collide deceives only themselves.
    pub fn digest(&self) -> u64 {
        let mut hash = Fnv::new();
        match self {
            Content::Text { body, thread, reply_to, mentions, attachments } => {
                hash.number(0).string(body).number(*thread).number(*reply_to).number(mentions.len() as u64);
                mentions.iter().for_each(|user| {
                    hash.string(user);
                });
                attachments.iter().for_each(|attachment| {
                    hash.bytes(&attachment.encode_to_vec());
                });
            }
            Content::Edit { target, body, mentions } => {
                hash.number(2).number(*target).string(body);
                mentions.iter().for_each(|user| {
                    hash.string(user);
                });
            }
            Content::Delete { target, .. } => {
                hash.number(3).number(*target);
            }
            Content::React { target, emoji, remove } => {
                hash.number(4).number(*target).string(emoji).number(u64::from(*remove));
            }
            Content::Pin { target, remove } => {
                hash.number(5).number(*target).number(u64::from(*remove));
            }
        }
        hash.0
    }
}

impl Detail {
    pub fn kind(&self) -> Kind {
        match self {
            Detail::Text { .. } => Kind::Text,
            Detail::Note(_) => Kind::Note,
            Detail::Edit { .. } => Kind::Edit,
            Detail::Deletion { .. } => Kind::Deletion,
            Detail::Reaction { .. } => Kind::Reaction,
            Detail::Pin { .. } => Kind::Pin,
        }
    }

    /// The thread a message belongs to, 0 for none.
    pub fn thread(&self) -> u64 {
        match self {
            Detail::Text { thread, .. } => *thread,
            Detail::Note(_)
            | Detail::Edit { .. }
            | Detail::Deletion { .. }
            | Detail::Reaction { .. }
            | Detail::Pin { .. } => 0,
        }
    }

    /// The message this changes, 0 for none.
    pub fn target(&self) -> u64 {
        match self {
            Detail::Text { .. } | Detail::Note(_) => 0,
            Detail::Edit { target, .. }
            | Detail::Deletion { target }
            | Detail::Reaction { target, .. }
            | Detail::Pin { target, .. } => *target,
        }
    }

    /// Users it mentions.
    pub fn mentions(&self) -> &[String] {
        match self {
            Detail::Text { mentions, .. } | Detail::Edit { mentions, .. } => mentions,
            Detail::Note(_) | Detail::Deletion { .. } | Detail::Reaction { .. } | Detail::Pin { .. } => &[],
        }
    }

    /// Takes out what was said: the rest tells only that something was.
    pub fn erase(&mut self) {
        match self {
            Detail::Text { mentions, attachments, .. } => {
                mentions.clear();
                attachments.clear();
            }
            Detail::Edit { mentions, .. } => mentions.clear(),
            Detail::Note(_) | Detail::Deletion { .. } | Detail::Reaction { .. } | Detail::Pin { .. } => {}
        }
    }

    /// As the store keeps it: the fields of `veza.v1.Message` that it has, encoded. Nothing for a plain message.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.clone().into_wire(v1::Message::default(), String::new()).encode_to_vec()
    }

    /// What [`Detail::to_bytes`] wrote.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        let message = v1::Message::decode(bytes)?;
        Ok(match message.change {
            None => Detail::Text {
                thread: message.thread,
                reply_to: message.reply_to,
                mentions: message.mentions,
                attachments: message.attachments,
            },
            Some(Change::Edit(edit)) => {
                Detail::Edit { target: edit.target, mentions: edit.mentions, revision: edit.revision }
            }
            Some(Change::Deletion(deletion)) => Detail::Deletion { target: deletion.target },
            Some(Change::Reaction(reaction)) => Detail::Reaction {
                target: reaction.target,
                emoji: reaction.emoji,
                removed: reaction.removed,
                count: reaction.count,
            },
            Some(Change::Pin(pin)) => Detail::Pin { target: pin.target, removed: pin.removed },
            Some(Change::System(note)) => Detail::Note(note),
        })
    }

    /// Fills in a message; the body goes where the kind has it.
    pub(super) fn into_wire(self, mut message: v1::Message, body: String) -> v1::Message {
        message.change = match self {
            Detail::Text { thread, reply_to, mentions, attachments } => {
                message.body = body;
                (message.thread, message.reply_to) = (thread, reply_to);
                (message.mentions, message.attachments) = (mentions, attachments);
                None
            }
            Detail::Edit { target, mentions, revision } => {
                Some(Change::Edit(v1::Edit { target, body, mentions, revision }))
            }
            Detail::Deletion { target } => Some(Change::Deletion(v1::Deletion { target })),
            Detail::Reaction { target, emoji, removed, count } => {
                Some(Change::Reaction(v1::ReactionChange { target, emoji, removed, count }))
            }
            Detail::Pin { target, removed } => Some(Change::Pin(v1::PinChange { target, removed })),
            Detail::Note(note) => Some(Change::System(note)),
        };
        message
    }
}

struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        for byte in bytes {
            self.byte(*byte);
        }
        self
    }

    fn string(&mut self, string: &str) -> &mut Self {
        self.bytes(string.as_bytes())
    }

    fn number(&mut self, number: u64) -> &mut Self {
        for byte in number.to_le_bytes() {
            self.byte(byte);
        }
        self
    }

    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_read_back_as_they_were() {
        let attachment = v1::Attachment { url: "https://a.example/x".into(), size_bytes: 3, ..Default::default() };
        let note = v1::SystemNote { user: "bob".into(), ..Default::default() };
        for detail in [
            Detail::Text { thread: 0, reply_to: 0, mentions: vec![], attachments: vec![] },
            Detail::Text { thread: 4, reply_to: 9, mentions: vec!["bob".into()], attachments: vec![attachment] },
            Detail::Edit { target: 3, mentions: vec!["*".into()], revision: 2 },
            Detail::Deletion { target: 3 },
            Detail::Reaction { target: 3, emoji: "👍".into(), removed: true, count: 7 },
            Detail::Pin { target: 3, removed: false },
            Detail::Note(note),
        ] {
            assert_eq!(Detail::from_bytes(&detail.to_bytes()).unwrap(), detail);
        }
        assert!(Detail::from_bytes(&[]).unwrap().mentions().is_empty(), "a plain message needs no bytes");
        assert!(Detail::from_bytes(&[0xff]).is_err());
    }

    #[test]
    fn every_field_counts_in_the_digest() {
        let say = |body: &str, thread, reply_to, mentions: &[&str]| Content::Text {
            body: body.into(),
            thread,
            reply_to,
            mentions: mentions.iter().map(|user| (*user).to_owned()).collect(),
            attachments: Vec::new(),
        };
        let digests: std::collections::BTreeSet<u64> = [
            say("a", 0, 0, &[]),
            say("b", 0, 0, &[]),
            say("a", 1, 0, &[]),
            say("a", 0, 1, &[]),
            say("a", 0, 0, &["bob"]),
            Content::Edit { target: 1, body: "a".into(), mentions: vec![] },
            Content::Delete { target: 1, reason: String::new() },
            Content::React { target: 1, emoji: "a".into(), remove: false },
            Content::React { target: 1, emoji: "a".into(), remove: true },
            Content::Pin { target: 1, remove: false },
        ]
        .iter()
        .map(Content::digest)
        .collect();
        assert_eq!(digests.len(), 10);
        assert_eq!(say("a", 1, 2, &["x"]).digest(), say("a", 1, 2, &["x"]).digest());
    }
}
