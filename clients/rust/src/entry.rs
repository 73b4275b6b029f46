use veza_proto::v1::client_frame::Command;
use veza_proto::v1::{DeleteMessage, EditMessage, Pin, Publish, React};

/// A command that makes an entry of a room's log. It has a cmid, so that it can be sent again and is stored once.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    Publish(Publish),
    Edit(EditMessage),
    Delete(DeleteMessage),
    React(React),
    Pin(Pin),
}

impl Entry {
    pub fn room(&self) -> &str {
        match self {
            Entry::Publish(publish) => &publish.room,
            Entry::Edit(edit) => &edit.room,
            Entry::Delete(delete) => &delete.room,
            Entry::React(react) => &react.room,
            Entry::Pin(pin) => &pin.room,
        }
    }

    pub fn cmid(&self) -> &str {
        match self {
            Entry::Publish(publish) => &publish.cmid,
            Entry::Edit(edit) => &edit.cmid,
            Entry::Delete(delete) => &delete.cmid,
            Entry::React(react) => &react.cmid,
            Entry::Pin(pin) => &pin.cmid,
        }
    }

    /// With a cmid that nobody else chooses, where it has none.
    pub(crate) fn named(mut self) -> Self {
        let cmid = match &mut self {
            Entry::Publish(publish) => &mut publish.cmid,
            Entry::Edit(edit) => &mut edit.cmid,
            Entry::Delete(delete) => &mut delete.cmid,
            Entry::React(react) => &mut react.cmid,
            Entry::Pin(pin) => &mut pin.cmid,
        };
        if cmid.is_empty() {
            *cmid = new_cmid();
        }
        self
    }
}

impl From<Entry> for Command {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Publish(publish) => Command::Publish(publish),
            Entry::Edit(edit) => Command::EditMessage(edit),
            Entry::Delete(delete) => Command::DeleteMessage(delete),
            Entry::React(react) => Command::React(react),
            Entry::Pin(pin) => Command::Pin(pin),
        }
    }
}

impl From<Publish> for Entry {
    fn from(publish: Publish) -> Self {
        Entry::Publish(publish)
    }
}

impl From<EditMessage> for Entry {
    fn from(edit: EditMessage) -> Self {
        Entry::Edit(edit)
    }
}

impl From<DeleteMessage> for Entry {
    fn from(delete: DeleteMessage) -> Self {
        Entry::Delete(delete)
    }
}

impl From<React> for Entry {
    fn from(react: React) -> Self {
        Entry::React(react)
    }
}

impl From<Pin> for Entry {
    fn from(pin: Pin) -> Self {
        Entry::Pin(pin)
    }
}

/// A message id that nobody else chooses: 128 random bits.
pub fn new_cmid() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_without_a_name_gets_one_of_its_own_and_keeps_what_it_has() {
        let nameless = Entry::from(Pin { room: "lobby".into(), seq: 3, ..Pin::default() });
        let (one, other) = (nameless.clone().named(), nameless.named());
        assert_eq!(one.cmid().len(), 32);
        assert_ne!(one.cmid(), other.cmid());
        assert_eq!(Entry::from(React { cmid: "mine".into(), ..React::default() }).named().cmid(), "mine");
    }
}
