//! Questions about messages.

use veza_client::proto::v1::{Publish, Search, history};
use veza_client::{Client, Error};

use super::screen::{Screen, plain};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ask {
    History(u32),
    Thread(u64),
    /// An answer, in the message's thread or in the room.
    Say {
        seq: u64,
        in_thread: bool,
        body: String,
    },
    Edit {
        seq: u64,
        body: String,
    },
    Revisions(u64),
    Delete {
        seq: u64,
        reason: String,
    },
    React {
        seq: u64,
        emoji: String,
        remove: bool,
    },
    Pin {
        seq: u64,
        remove: bool,
    },
    Pins,
    Search(String),
    Unread,
}

impl Ask {
    /// What the server answers, as lines. What is stored is shown when it is delivered, and not here.
    pub(super) async fn put(self, client: &Client, screen: Screen, room: &str) -> Result<Vec<String>, Error> {
        let past = |messages: &[_]| messages.iter().map(|message| screen.past(message)).collect::<Vec<_>>();
        match self {
            Ask::History(count) => {
                let page = client.history(room, history::Anchor::BeforeSeq(0), count).await?;
                Ok(past(&page.messages))
            }
            Ask::Thread(root) => {
                let page = client.thread(room, root).await?;
                let mut lines = past(&page.messages);
                if page.more_after {
                    lines.push(screen.note("there is more of it"));
                }
                Ok(lines)
            }
            Ask::Say { seq, in_thread, body } => {
                let (thread, reply_to) = if in_thread { (seq, 0) } else { (0, seq) };
                let publish = Publish { room: room.to_owned(), body, thread, reply_to, ..Publish::default() };
                client.send(publish).await.map(|_stored| Vec::new())
            }
            Ask::Edit { seq, body } => client.edit(room, seq, body).await.map(|_stored| Vec::new()),
            Ask::Delete { seq, reason } => client.delete(room, seq, &reason).await.map(|_stored| Vec::new()),
            Ask::React { seq, emoji, remove: false } => client.react(room, seq, &emoji).await.map(|_stored| Vec::new()),
            Ask::React { seq, emoji, remove: true } => {
                client.unreact(room, seq, &emoji).await.map(|_stored| Vec::new())
            }
            Ask::Pin { seq, remove: false } => client.pin(room, seq).await.map(|_stored| Vec::new()),
            Ask::Pin { seq, remove: true } => client.unpin(room, seq).await.map(|_stored| Vec::new()),
            Ask::Revisions(seq) => {
                let revisions = client.revisions(room, seq).await?;
                Ok(revisions.iter().map(|revision| screen.revision(revision)).collect())
            }
            Ask::Pins => Ok(some(screen, past(&client.pins(room).await?), "nothing is pinned")),
            Ask::Search(query) => {
                let found = client.search(Search { room: room.to_owned(), query, ..Search::default() }).await?;
                let mut lines = past(&found.messages);
                // The newest comes first, and belongs at the end of a terminal.
                lines.reverse();
                Ok(some(screen, lines, "nothing was found"))
            }
            Ask::Unread => unread(client, screen).await,
        }
    }
}

async fn unread(client: &Client, screen: Screen) -> Result<Vec<String>, Error> {
    let (mut lines, mut after) = (Vec::new(), String::new());
    loop {
        let list = client.unread(&after).await?;
        for room in list.rooms.iter().filter(|room| room.unread > 0) {
            let mentions = if room.mentions == 0 { String::new() } else { format!(", {} name you", room.mentions) };
            lines.push(format!("{}  {}  {} unread{mentions}", plain(&room.room), plain(&room.title), room.unread));
        }
        if list.next.is_empty() {
            return Ok(some(screen, lines, "everything is read"));
        }
        after = list.next;
    }
}

/// The lines, or a note instead of none.
pub(super) fn some(screen: Screen, lines: Vec<String>, none: &str) -> Vec<String> {
    if lines.is_empty() { vec![screen.note(none)] } else { lines }
}
