//! Questions about people.

use veza_client::proto::v1::{Delivery, MemberFilter, Moderate, PresenceState, Role, Sanction};
use veza_client::{Client, Error};

use super::message::some;
use super::screen::Screen;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ask {
    Who,
    List(MemberFilter),
    Role {
        user: String,
        role: Role,
    },
    /// `seconds` 0 is for good.
    Moderate {
        user: String,
        sanction: Sanction,
        seconds: u64,
        reason: String,
    },
    Audit,
    Status {
        state: PresenceState,
        text: String,
    },
}

impl Ask {
    pub(super) async fn put(self, client: &Client, screen: Screen, room: &str) -> Result<Vec<String>, Error> {
        match self {
            Ask::Who => {
                // Joining again changes nothing and tells who is here.
                let joined = client.join(room, Delivery::Fast).await?;
                let status = |user: &String| joined.statuses.iter().find(|status| status.user == *user);
                let mut lines: Vec<_> = joined.present.iter().map(|user| screen.person(user, status(user))).collect();
                let named = u32::try_from(joined.present.len()).unwrap_or(u32::MAX);
                if joined.present_total > named {
                    lines.push(screen.note(&format!("and {} more", joined.present_total - named)));
                }
                Ok(lines)
            }
            Ask::List(filter) => {
                let (mut lines, mut after) = (Vec::new(), String::new());
                loop {
                    let list = client.members(room, filter, &after).await?;
                    lines.extend(list.members.iter().map(|member| screen.member(member)));
                    if list.next.is_empty() {
                        return Ok(some(screen, lines, "nobody"));
                    }
                    after = list.next;
                }
            }
            Ask::Role { user, role } => {
                let member = client.set_role(room, &user, role).await?;
                Ok(vec![screen.member(&member)])
            }
            Ask::Moderate { user, sanction, seconds, reason } => {
                let moderate = Moderate { room: room.to_owned(), user, sanction: sanction.into(), reason, seconds };
                client.moderate(moderate).await.map(|_member| Vec::new())
            }
            Ask::Audit => {
                let page = client.audit(room, 0).await?;
                let lines = page.entries.iter().rev().map(|entry| screen.audit(entry)).collect();
                Ok(some(screen, lines, "nothing was done here"))
            }
            Ask::Status { state, text } => {
                client.set_presence(state, &text).await?;
                Ok(vec![screen.note("the others see it")])
            }
        }
    }
}
