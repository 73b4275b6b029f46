//! What goes wrong, when, and how it is mended.

use crate::node::Around;
use crate::stage::{Alarm, ClientNo, Event, MS, NodeNo, SECOND, Stage};
use crate::world::World;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A link dies; both ends find out by themselves.
    Cut(ClientNo),
    /// A client gives its link up and comes back while the server thinks it is there.
    Abandon(ClientNo),
    /// A client stops reading.
    Stall(ClientNo),
    /// A session's task has no turn.
    Starve(ClientNo),
    Crash(NodeNo),
    /// The database does not answer.
    Outage,
    /// It takes long.
    Slow,
    /// The bus does not reach a node.
    Partition(NodeNo),
    /// A clock jumps ahead.
    Leap(NodeNo),
}

/// What may go wrong in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Short faults only: what is delivered late was sent late.
    Fair,
    /// Clients may stop reading for so long that what was sent to them is old when they read it.
    Rough,
}

impl Fault {
    fn by_chance(weather: Weather, nodes: usize, clients: usize, stage: &mut Stage) -> Self {
        let client = stage.chance.below(clients as u64) as usize;
        let node = stage.chance.below(nodes as u64) as usize;
        match stage.chance.below(100) {
            0..=29 => Fault::Cut(client),
            30..=41 => Fault::Abandon(client),
            42..=53 if weather == Weather::Rough => Fault::Stall(client),
            42..=59 => Fault::Starve(client),
            60..=71 => Fault::Crash(node),
            72..=79 => Fault::Outage,
            80..=86 => Fault::Slow,
            87..=93 => Fault::Partition(node),
            _ => Fault::Leap(node),
        }
    }

    fn name(self) -> String {
        format!("{self:?}")
    }
}

impl World {
    /// The next fault, and when.
    pub(crate) fn plan_fault(&mut self) {
        let fault = Fault::by_chance(self.weather, self.nodes_used, self.clients.len(), &mut self.stage);
        self.stage.soon(100 * MS, 2_500 * MS, Event::Fault(fault));
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        if self.stage.calm {
            return;
        }
        self.told(veza_history::Event::Fault { what: fault.name() });
        let lasts = match fault {
            Fault::Cut(client) => {
                let lasts = self.stage.chance.between(100 * MS, 1_500 * MS);
                if let Some(link) = self.clients[client].link {
                    if let Some(link) = self.links.get_mut(&link) {
                        link.cut = true;
                    }
                    self.stage.after(lasts, Event::Alarm(client, Alarm::Lost(link)));
                    self.stage.soon(500 * MS, 15 * SECOND, Event::Gone { link });
                }
                lasts
            }
            Fault::Abandon(client) => {
                if let Some(link) = self.clients[client].link {
                    self.give_up(client, link);
                }
                0
            }
            Fault::Stall(client) => {
                let lasts = self.stage.chance.between(SECOND, 16 * SECOND);
                if let Some(link) = self.clients[client].link
                    && let Some(open) = self.links.get_mut(&link)
                {
                    open.stop_reading();
                    self.stage.after(lasts, Event::Alarm(client, Alarm::ReadsAgain(link)));
                }
                lasts
            }
            Fault::Starve(client) => {
                let lasts = self.stage.chance.between(50 * MS, 600 * MS);
                let link = self.clients[client].link.and_then(|link| self.links.get(&link));
                if let Some((life, session)) = link.map(|link| (link.life, link.session))
                    && self.nodes[life.node].lives(life)
                {
                    self.nodes[life.node].stall(session, self.stage.now + lasts);
                }
                lasts
            }
            Fault::Crash(node) => {
                self.crash(node);
                self.stage.chance.between(100 * MS, 2_500 * MS)
            }
            Fault::Outage => {
                let lasts = self.stage.chance.between(50 * MS, 1_500 * MS);
                self.store.down_until = self.stage.now + lasts;
                lasts
            }
            Fault::Slow => {
                let lasts = self.stage.chance.between(200 * MS, 3_000 * MS);
                self.store.slow_until = self.stage.now + lasts;
                lasts
            }
            Fault::Partition(node) => {
                let lasts = self.stage.chance.between(200 * MS, 2_500 * MS);
                self.nodes[node].cut_off_until = self.stage.now + lasts;
                lasts
            }
            Fault::Leap(node) => {
                let ms = if self.stage.chance.per_mille(150) { 600_000 } else { 20_000 };
                let ms = i64::try_from(self.stage.chance.between(1, ms)).unwrap_or(1);
                self.nodes[node].clock_ms += ms;
                let World { nodes, links, store, stage, .. } = self;
                nodes[node].clock_jumped(&mut Around { links, store, stage });
                0
            }
        };
        self.stage.after(lasts, Event::Heal(fault));
        self.plan_fault();
    }

    pub(crate) fn heal(&mut self, fault: Fault) {
        if let Fault::Crash(node) = fault
            && !self.nodes[node].up
        {
            // The clock of a machine that was started again may be behind what it was.
            let back = i64::try_from(self.stage.chance.below(60_000)).unwrap_or(0);
            if self.stage.chance.per_mille(500) {
                self.nodes[node].clock_ms -= back;
            }
            self.nodes[node].start(&mut self.stage);
        }
        self.told(veza_history::Event::Healed { what: fault.name() });
    }
}
