//! A whole run: clients, network, nodes, database and bus, moved by one queue of events.

use std::collections::BTreeMap;

use crate::client::{Client, Reach};
use crate::faults::Weather;
use crate::link::Link;
use crate::node::{Around, Links, Node, bus};
use crate::stage::{Alarm, ClientNo, Event, Life, LinkNo, MS, NodeNo, SECOND, Sabotage, Stage};
use crate::store::Store;
use crate::{NODES, USERS};

pub(crate) struct World {
    pub(crate) stage: Stage,
    pub(crate) store: Store,
    pub(crate) nodes: [Node; NODES],
    pub(crate) links: Links,
    pub(crate) clients: Vec<Client>,
    codes: Vec<(String, String)>,
    next_link: LinkNo,
    pub(crate) weather: Weather,
    /// Nodes that clients are sent to.
    pub(crate) nodes_used: usize,
    /// What the store found wrong.
    pub(crate) broken: Option<String>,
}

/// What a run is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Events before the faults end.
    pub(crate) steps: u64,
    pub(crate) sabotage: Option<Sabotage>,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut stage = Stage::new(plan.seed, plan.sabotage);
        let nodes = std::array::from_fn(|no| Node::new(no, &mut stage));
        // Every fourth run has one node only, and what the bus does is not in question there.
        let nodes_used = if plan.seed.is_multiple_of(4) { 1 } else { NODES };
        let weather = if plan.seed % 4 < 2 { Weather::Fair } else { Weather::Rough };
        let mut world = Self {
            stage,
            store: Store::new(),
            nodes,
            links: BTreeMap::new(),
            clients: Vec::new(),
            codes: Vec::new(),
            next_link: 0,
            weather,
            nodes_used,
            broken: None,
        };
        // The first user has two devices.
        for (no, user) in std::iter::once(&USERS[0]).chain(&USERS).enumerate() {
            let quic = world.stage.chance.per_mille(600);
            world.clients.push(Client::new(no, user, quic));
            world.stage.soon(0, 300 * MS, Event::Alarm(no, Alarm::Connect));
            world.stage.soon(300 * MS, 900 * MS, Event::Act(no));
        }
        world.plan_fault();
        world
    }

    /// Runs until everything has been quiet for a while.
    pub(crate) fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            if !self.step() {
                return;
            }
        }
        self.calm_down();
        let end = self.stage.now + 6 * SECOND;
        while self.stage.next_at().is_some_and(|at| at <= end) && self.step() {}
        self.stage.now = end;
    }

    /// Nothing goes wrong any more, what is wrong is mended, and nobody begins anything.
    fn calm_down(&mut self) {
        self.stage.calm = true;
        let now = self.stage.now;
        (self.store.down_until, self.store.slow_until) = (now, now);
        for node in 0..NODES {
            self.nodes[node].cut_off_until = now;
            if !self.nodes[node].up {
                self.nodes[node].start(&mut self.stage);
            }
        }
        for no in 0..self.clients.len() {
            let Some(link) = self.clients[no].link else { continue };
            if self.links.get(&link).is_some_and(|link| link.cut) {
                self.stage.soon(50 * MS, 500 * MS, Event::Alarm(no, Alarm::Lost(link)));
            }
            self.stage.after(0, Event::Alarm(no, Alarm::ReadsAgain(link)));
        }
        self.told(veza_history::Event::Healed { what: "everything".into() });
    }

    fn step(&mut self) -> bool {
        if self.broken.is_some() {
            return false;
        }
        let Some(event) = self.stage.next() else { return false };
        match event {
            Event::Act(client) => self.act(client),
            Event::Alarm(client, Alarm::Connect) => self.connect(client),
            Event::Alarm(client, alarm) => {
                let link = self.clients[client].link;
                self.with_client(client, |client, reach| client.alarm(alarm, reach));
                self.writable(link);
            }
            Event::Up { link, lane, frame } => {
                self.with_session(link, |node, key, around| node.frame(key, lane, *frame, around));
            }
            Event::UpDatagram { link, frame } => {
                self.with_session(link, |node, key, around| node.datagram(key, *frame, around));
            }
            Event::Pong { link } => self.with_session(link, |node, key, around| node.alive(key, around)),
            Event::Down { link, lane, frame } => {
                let Some(open) = self.links.get_mut(&link) else { return true };
                let client = open.client;
                if let Some(frame) = open.arrived(lane, frame) {
                    self.with_client(client, |client, reach| client.hear(link, &frame, reach));
                    self.writable(Some(link));
                }
            }
            Event::DownDatagram { link, frame } => {
                let Some(open) = self.links.get_mut(&link) else { return true };
                if !open.cut && open.client_open {
                    let client = open.client;
                    self.with_client(client, |client, reach| client.hear(link, &frame, reach));
                }
            }
            Event::Closed { link } => {
                let Some(open) = self.links.get(&link).filter(|open| !open.cut) else { return true };
                let client = open.client;
                self.with_client(client, |client, reach| client.lost(link, false, reach));
            }
            Event::Gone { link } => self.gone(link),
            Event::Task { life, session } => self.with_node(life, |node, around| node.task(session, around)),
            Event::Deadline { life, session } => {
                self.with_node(life, |node, around| node.deadline(session, around));
            }
            Event::Admitted { life, session, token, resume } => {
                self.with_node(life, |node, around| node.admitted(session, &token, &resume, around));
            }
            Event::Tick(life) => self.with_node(life, |node, around| node.tick(around)),
            Event::Commit(life) => {
                if self.nodes[life.node].lives(life) {
                    self.broken = self.store.commit(life, &mut self.stage).err();
                }
            }
            Event::Written { life, reply, written } => {
                self.with_node(life, |node, around| node.written(*reply, written.map(|written| *written), around));
            }
            Event::Read { life, session, ticket, ask } => {
                self.with_node(life, |node, around| node.read(session, *ticket, &ask, around));
            }
            Event::Answered { life, session, ticket, answer } => {
                self.with_node(life, |node, around| node.answered(session, *ticket, *answer, around.stage));
            }
            Event::LookAtRow { life, room } => {
                self.with_node(life, |node, around| node.look_at_row(room, around));
            }
            Event::LookAtMembers { life, row, users } => {
                self.with_node(life, |node, around| node.look_at_members(row, users, around));
            }
            Event::Looked { life, row, gone } => {
                self.with_node(life, |node, around| node.looked(&row, gone, around));
            }
            Event::LetIn { life, session, ticket, place } => {
                self.with_node(life, |node, around| node.let_in(session, *ticket, &place, around));
            }
            Event::Fetch { life, room, after, limit } => {
                let messages = self.store.missed(&room, after, limit, &self.stage);
                self.stage.soon(MS / 10, 8 * MS, Event::Fetched { life, room, messages });
            }
            Event::Fetched { life, room, messages } => {
                self.with_node(life, |node, around| node.fetched(&room, messages, around));
            }
            Event::Announced { life, announcement } => {
                self.with_node(life, |node, around| node.announced(*announcement, around));
            }
            Event::Resync(life) => self.with_node(life, |node, around| node.resync(around.stage)),
            Event::Fault(fault) => self.fault(fault),
            Event::Heal(fault) => self.heal(fault),
        }
        true
    }

    fn act(&mut self, client: ClientNo) {
        if self.stage.calm {
            return;
        }
        self.with_client(client, |client, reach| client.act(reach));
        self.stage.soon(10 * MS, 250 * MS, Event::Act(client));
    }

    fn connect(&mut self, client: ClientNo) {
        if self.clients[client].link.is_some() {
            return;
        }
        let node = self.stage.chance.below(self.nodes_used as u64) as usize;
        if !self.nodes[node].up {
            self.stage.soon(50 * MS, 400 * MS, Event::Alarm(client, Alarm::Connect));
            return;
        }
        self.next_link += 1;
        let (no, quic) = (self.next_link, self.clients[client].is_quic());
        let delay = self.stage.chance.between(200, 20 * MS);
        let session = self.nodes[node].accept(no, quic, &mut self.stage);
        let life = self.nodes[node].life();
        self.links.insert(no, Link::open(no, client, life, session, quic, delay));
        self.with_client(client, |client, reach| client.hello(no, reach));
    }

    fn gone(&mut self, link: LinkNo) {
        let Some(open) = self.links.get_mut(&link) else { return };
        open.cut = true;
        let (life, session) = (open.life, open.session);
        self.with_node(life, |node, around| node.gone(session, around));
        self.links.remove(&link);
    }

    pub(crate) fn give_up(&mut self, client: ClientNo, link: LinkNo) {
        self.with_client(client, |client, reach| client.lost(link, true, reach));
    }

    pub(crate) fn crash(&mut self, node: NodeNo) {
        if !self.nodes[node].up {
            return;
        }
        self.nodes[node].crash(&mut self.links);
        if let Err(found) = self.store.crash(node, &mut self.stage) {
            self.broken = Some(found);
        }
        let lost: Vec<(ClientNo, LinkNo)> =
            self.links.values().filter(|link| link.life.node == node).map(|link| (link.client, link.no)).collect();
        for (client, link) in lost {
            self.stage.soon(20 * MS, 1_500 * MS, Event::Alarm(client, Alarm::Lost(link)));
        }
        // What it had committed and not told, the others are told of by its silence.
        for other in (0..NODES).filter(|other| *other != node) {
            bus::lost(Life { node: other, count: 0 }, &mut self.stage);
        }
    }

    /// The link has room again.
    fn writable(&mut self, link: Option<LinkNo>) {
        if let Some(link) = link {
            self.with_session(link, |node, key, around| node.flows(key, around));
        }
    }

    fn with_node(&mut self, life: Life, what: impl FnOnce(&mut Node, &mut Around<'_>)) {
        let Self { nodes, links, store, stage, .. } = self;
        let node = &mut nodes[life.node];
        // Life 0 is whatever life the node has.
        if node.up && (life.count == 0 || node.lives(life)) {
            what(node, &mut Around { links, store, stage });
        }
    }

    fn with_session(&mut self, link: LinkNo, what: impl FnOnce(&mut Node, veza_engine::SessionKey, &mut Around<'_>)) {
        let Some(open) = self.links.get(&link).filter(|open| !open.cut) else { return };
        let (life, session) = (open.life, open.session);
        self.with_node(life, |node, around| what(node, session, around));
    }

    fn with_client(&mut self, client: ClientNo, what: impl FnOnce(&mut Client, &mut Reach<'_>)) {
        let Self { clients, links, stage, codes, nodes, .. } = self;
        let node = clients[client].link.and_then(|link| links.get(&link)).map_or(0, |link| link.life.node);
        let token = nodes[node].token(&clients[client].user, stage);
        what(&mut clients[client], &mut Reach { links, stage, codes, token });
    }

    pub(crate) fn told(&mut self, event: veza_history::Event) {
        let now = self.stage.now;
        self.stage.journal.write(now, "", event);
    }
}
