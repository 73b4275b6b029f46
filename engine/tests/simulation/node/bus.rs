//! What nodes tell each other. The bus loses, repeats and reorders; that something was lost it tells later.

use veza_engine::ledger::RoomRow;
use veza_engine::room::Ended;
use veza_proto::v1::Message;
use veza_proto::{RoomId, UserId};

use super::{Around, Node};
use crate::NODES;
use crate::stage::{Event, Life, MS, Sabotage, Stage};

#[derive(Debug, Clone)]
pub(crate) enum Announcement {
    Entry(Box<Message>),
    Changed(Box<RoomRow>),
    Ended {
        room: RoomId,
        ended: Box<Ended>,
    },
    Typing {
        room: RoomId,
        user: UserId,
        active: bool,
    },
    /// A write to this room had no answer: who has it loaded looks.
    Doubt(RoomId),
}

/// Sends to every other node as it is by then.
pub(crate) fn announce(from: Life, announcement: &Announcement, stage: &mut Stage) {
    for to in (0..NODES).filter(|to| *to != from.node) {
        let life = Life { node: to, count: 0 };
        let times = match stage.chance.below(1_000) {
            _ if stage.calm => 1,
            0..=29 => 0,
            30..=59 => 2,
            _ => 1,
        };
        for _ in 0..times {
            let announcement = Box::new(announcement.clone());
            stage.soon(MS / 5, 8 * MS, Event::Announced { life, announcement });
        }
        if times == 0 {
            lost(life, stage);
        }
    }
}

/// Something did not reach a node; it is told after a while.
pub(crate) fn lost(life: Life, stage: &mut Stage) {
    if !stage.sabotaged(Sabotage::SilentBus) {
        stage.soon(50 * MS, 800 * MS, Event::Resync(life));
    }
}

impl Node {
    pub(crate) fn announced(&mut self, announcement: Announcement, around: &mut Around<'_>) {
        if around.stage.now < self.cut_off_until {
            lost(self.life(), around.stage);
            return;
        }
        let now = self.now(around.stage);
        match announcement {
            Announcement::Entry(message) => {
                if let Ok(room) = RoomId::parse(&message.room) {
                    self.tell(&room, around, |room| room.handle_committed(*message));
                }
            }
            Announcement::Changed(row) => {
                self.tell(&row.id.clone(), around, |room| room.handle_changed(&row, Vec::new(), now));
            }
            Announcement::Ended { room, ended } => self.tell(&room, around, |room| room.handle_ended(&ended, now)),
            Announcement::Typing { room, user, active } => self.typing_elsewhere(&room, &user, active, around.stage),
            Announcement::Doubt(room) => self.look(&room, around.stage),
        }
    }

    /// Announcements were lost: every room looks.
    pub(crate) fn resync(&mut self, stage: &mut Stage) {
        if stage.now < self.cut_off_until {
            stage.at(self.cut_off_until, Event::Resync(self.life()));
            return;
        }
        for room in self.rooms.keys().cloned().collect::<Vec<_>>() {
            self.look(&room, stage);
        }
    }
}
