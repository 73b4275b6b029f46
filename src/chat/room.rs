//! Questions about rooms.

use veza_client::proto::v1::{CreateInvite, Delivery, ErrorCode, JoinRoom, Room, RoomSettings, UpdateRoom, history};
use veza_client::{Client, Error};

use super::line::HISTORY;
use super::message::some;
use super::screen::{Screen, plain};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ask {
    List {
        mine: bool,
    },
    Leave,
    Topic(String),
    Slow(u32),
    /// For this user, or an empty name for whoever has the code.
    Invite {
        user: String,
    },
    Invites,
    Ping,
}

impl Ask {
    pub(super) async fn put(self, client: &Client, screen: Screen, room: &str) -> Result<Vec<String>, Error> {
        match self {
            Ask::List { mine } => {
                let list = client.rooms(mine, "").await?;
                Ok(some(screen, list.rooms.iter().map(|found| screen.room(found)).collect(), "no rooms"))
            }
            Ask::Leave => {
                client.leave(room).await?;
                Ok(vec![screen.note(&format!("left {room}; /join takes you somewhere else"))])
            }
            Ask::Topic(topic) => {
                let update = UpdateRoom { room: room.to_owned(), topic: Some(topic), ..UpdateRoom::default() };
                client.update_room(update).await.map(|_changed| Vec::new())
            }
            Ask::Slow(seconds) => {
                // Settings are changed as a whole: read them, so that only this one is another.
                let now = client.join(room, Delivery::Fast).await?.room.unwrap_or_default();
                let settings = RoomSettings { slow_mode_seconds: seconds, ..now.settings.unwrap_or_default() };
                let update = UpdateRoom { room: room.to_owned(), settings: Some(settings), ..UpdateRoom::default() };
                client.update_room(update).await.map(|_changed| Vec::new())
            }
            Ask::Invite { user } => {
                let named = !user.is_empty();
                let create = CreateInvite { room: room.to_owned(), user, ..CreateInvite::default() };
                let invite = client.invite(create).await?;
                let how = if named {
                    format!("{} may /join {room}", invite.user)
                } else {
                    format!("/join {room} {}", invite.code)
                };
                Ok(vec![screen.note(&how)])
            }
            Ask::Invites => {
                let invites = client.invites("").await?;
                let line = |of: &veza_client::proto::v1::Invite| {
                    format!("{}  {}  from {}", plain(&of.room), plain(&of.title), plain(&of.creator))
                };
                Ok(some(screen, invites.iter().map(line).collect(), "nobody has invited you"))
            }
            Ask::Ping => {
                let trip = client.ping().await?;
                Ok(vec![screen.note(&format!("{:.1} ms there and back", trip.as_secs_f64() * 1_000.0))])
            }
        }
    }
}

/// Joins a room, made if there is none, and gives its last messages.
pub(super) async fn enter(client: &Client, screen: Screen, join: &JoinRoom) -> Result<Vec<String>, Error> {
    let id = &join.room;
    let joined = match client.join_invited(id, Delivery::Fast, &join.invite).await {
        Err(error) if error.is(ErrorCode::NotFound) && join.invite.is_empty() => {
            client.create_room(id, id).await?;
            client.join(id, Delivery::Fast).await?
        }
        answer => answer?,
    };
    let room = joined.room.clone().unwrap_or_default();
    let mut lines = Vec::new();
    if room.head > 0 {
        // What comes after the head is delivered; this page ends before it.
        let page = client.history(id, history::Anchor::BeforeSeq(room.head + 1), HISTORY).await?;
        lines.extend(page.messages.iter().map(|message| screen.past(message)));
        // Whoever sees it on the screen has read it.
        client.mark(id, room.head, room.head).await?;
    }
    lines.push(screen.note(&describe(&room)));
    lines.push(screen.note(&format!("with {} here ({})", joined.present_total, joined.present.join(", "))));
    Ok(lines)
}

fn describe(room: &Room) -> String {
    let with = room.direct.join(" and ");
    let name = if with.is_empty() { room.id.clone() } else { format!("{} ({with})", room.id) };
    let topic = if room.topic.is_empty() { String::new() } else { format!(": {}", room.topic) };
    let closed = if room.archived { " (archived)" } else { "" };
    format!("in {name}{topic}{closed}")
}
