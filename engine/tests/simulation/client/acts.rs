//! What people do, by chance.

use veza_history::{Anchor, Event as Told, Said, View as Shown, digest};
use veza_proto::v1::{
    Action, CreateInvite, CreateRoom, DeleteMessage, EditMessage, History, LeaveRoom, ListMembers, ListPins,
    ListUnread, Mark, Moderate, OpenDirect, Permission, Pin, Publish, React, Role, RoomKind, RoomSettings, Sanction,
    SetPresence, SetRole, Typing, Unsubscribe, UpdateRoom, View, client_frame::Command, history,
};

use super::{Client, Place, Reach, Waiting};
use crate::USERS;

const ROOMS: [(&str, RoomKind); 4] = [
    ("attic", RoomKind::Public),
    ("club", RoomKind::Private),
    ("gold", RoomKind::Premium),
    ("lobby", RoomKind::Public),
];
const EMOJI: [&str; 4] = ["👍", "🎧", ":veza:", "🔥"];

impl Client {
    /// One thing, of many.
    pub(crate) fn act(&mut self, reach: &mut Reach<'_>) {
        if !self.welcome {
            return;
        }
        if reach.stage.chance.per_mille(15) {
            self.think_better_of_it(reach);
        }
        let settled = |place: &&Place| place.wanted && place.stands_at().is_some();
        let here: Vec<String> =
            self.places.iter().filter(|(_, place)| settled(place)).map(|(room, _)| room.clone()).collect();
        let Some(room) = reach.stage.chance.pick(&here).cloned() else {
            self.enter(reach);
            return;
        };
        match reach.stage.chance.below(100) {
            0..=34 => self.publish(&room, reach),
            35..=38 => (0..4).for_each(|_| self.publish(&room, reach)),
            39..=46 => self.edit(&room, reach),
            47..=51 => self.delete(&room, reach),
            52..=62 => self.react(&room, reach),
            63..=66 => self.pin(&room, reach),
            67..=74 => self.look_back(&room, reach),
            75..=77 => self.mark(&room, reach),
            78..=80 => self.wave(&room, reach),
            81..=82 => self.list(&room, reach),
            83..=85 => self.repeat(reach),
            86..=89 => self.enter(reach),
            90..=91 => self.exit(&room, reach),
            92..=95 => self.moderate(&room, reach),
            96..=97 => self.manage(&room, reach),
            98 => self.invite(&room, reach),
            _ => {
                let user = self.somebody(reach);
                if user != self.user {
                    self.send(Command::OpenDirect(OpenDirect { user }), Waiting::Other, reach);
                }
            }
        }
    }

    /// Wants to be in a room from now on.
    pub(super) fn want(&mut self, room: &str, reach: &mut Reach<'_>) {
        let fast = self.quic && reach.stage.chance.per_mille(400);
        let place = self.places.entry(room.to_owned()).or_default();
        if !place.wanted {
            (place.wanted, place.fast) = (true, fast);
            self.join(room, reach);
        }
    }

    fn publish(&mut self, room: &str, reach: &mut Reach<'_>) {
        let long = if reach.stage.chance.per_mille(60) { 2_000 } else { 12 };
        let body = format!("{} {}", self.cmids, "word ".repeat(1 + reach.stage.chance.below(long) as usize));
        let mut mentions = Vec::new();
        if reach.stage.chance.per_mille(150) {
            mentions.push(if reach.stage.chance.per_mille(200) { "*".to_owned() } else { self.somebody(reach) });
        }
        let root = reach.stage.chance.per_mille(200).then(|| self.some_message(room, false, reach)).flatten();
        let reply_to = reach.stage.chance.per_mille(150).then(|| self.some_message(room, false, reach)).flatten();
        let (thread, reply_to) = (root.unwrap_or(0), reply_to.unwrap_or(0));
        let (said, to) = (Said::text(&body, thread), room.to_owned());
        let publish = |cmid| {
            Command::Publish(Publish { room: to, cmid, body, thread, reply_to, mentions, attachments: Vec::new() })
        };
        self.say(room, said, publish, reach);
    }

    fn edit(&mut self, room: &str, reach: &mut Reach<'_>) {
        let own = !reach.stage.chance.per_mille(100);
        let Some(seq) = self.some_message(room, own, reach) else { return };
        let body = format!("rather {}", self.cmids);
        let (said, room_name) = (Said::edit(seq, &body), room.to_owned());
        let mentions = if reach.stage.chance.per_mille(200) { vec![self.somebody(reach)] } else { Vec::new() };
        let edit = |cmid| Command::EditMessage(EditMessage { room: room_name, cmid, seq, body, mentions });
        self.say(room, said, edit, reach);
    }

    fn delete(&mut self, room: &str, reach: &mut Reach<'_>) {
        let own = !reach.stage.chance.per_mille(250);
        let Some(seq) = self.some_message(room, own, reach) else { return };
        let (said, room_name) = (Said::deletion(seq), room.to_owned());
        let delete = |cmid| Command::DeleteMessage(DeleteMessage { room: room_name, cmid, seq, reason: String::new() });
        self.say(room, said, delete, reach);
    }

    fn react(&mut self, room: &str, reach: &mut Reach<'_>) {
        let Some(seq) = self.some_message(room, false, reach) else { return };
        let emoji = (*reach.stage.chance.pick(&EMOJI).unwrap_or(&"👍")).to_owned();
        let remove = reach.stage.chance.per_mille(350);
        let (said, room_name) = (Said::reaction(seq, &emoji, remove), room.to_owned());
        let react = |cmid| Command::React(React { room: room_name, cmid, seq, emoji, remove });
        self.say(room, said, react, reach);
    }

    fn pin(&mut self, room: &str, reach: &mut Reach<'_>) {
        let Some(seq) = self.some_message(room, false, reach) else { return };
        let remove = reach.stage.chance.per_mille(350);
        let (said, room_name) = (Said::pin(seq, remove), room.to_owned());
        self.say(room, said, |cmid| Command::Pin(Pin { room: room_name, cmid, seq, remove }), reach);
    }

    fn look_back(&mut self, room: &str, reach: &mut Reach<'_>) {
        let last = self.places[room].stands_at().map_or(0, |(_, last)| last);
        let seq = reach.stage.chance.below(last + 2);
        let limit = u32::try_from(reach.stage.chance.between(1, 30)).unwrap_or(1);
        let (asked, anchor) = match reach.stage.chance.below(4) {
            0 => (history::Anchor::BeforeSeq(0), Anchor::Before(0)),
            1 => (history::Anchor::BeforeSeq(seq), Anchor::Before(seq)),
            2 => (history::Anchor::AfterSeq(seq), Anchor::After(seq)),
            _ => (history::Anchor::AroundSeq(seq), Anchor::Around(seq)),
        };
        let (view, shown, thread) = match reach.stage.chance.below(3) {
            0 => (View::Everything, Shown::Everything, 0),
            1 => (View::Unspecified, Shown::Room, 0),
            _ => match self.some_message(room, false, reach) {
                Some(root) => (View::Thread, Shown::Thread, root),
                None => return,
            },
        };
        let call = reach.stage.journal.call();
        self.tell(Told::Reading { call, room: room.to_owned() }, reach.stage);
        let history = History { room: room.to_owned(), limit, view: view.into(), thread, anchor: Some(asked) };
        self.send(Command::History(history), Waiting::Read { call, view: shown, anchor }, reach);
    }

    fn mark(&mut self, room: &str, reach: &mut Reach<'_>) {
        let last = self.places[room].stands_at().map_or(0, |(_, last)| last);
        let read_seq = reach.stage.chance.below(last + 3);
        let mark = Mark { room: room.to_owned(), delivered_seq: last, read_seq };
        self.send(Command::Mark(mark), Waiting::Other, reach);
    }

    /// Something that is not stored.
    fn wave(&mut self, room: &str, reach: &mut Reach<'_>) {
        if reach.stage.chance.per_mille(500) {
            let what = veza_history::Volatile::Typing;
            self.tell(Told::SaidVolatile { room: room.to_owned(), what }, reach.stage);
            let command = Command::Typing(Typing { room: room.to_owned(), active: true });
            let Some(link) = self.link.and_then(|link| reach.links.get_mut(&link)).filter(|link| link.quic) else {
                self.send(command, Waiting::Other, reach);
                return;
            };
            link.send_up_datagram(veza_proto::v1::ClientFrame { id: 0, command: Some(command) }, reach.stage);
        } else {
            let text = format!("listening to {}", self.cmids);
            let what = veza_history::Volatile::Presence(digest(&text));
            self.says = Some(what);
            for room in self.places.keys() {
                self.tell(Told::SaidVolatile { room: room.clone(), what }, reach.stage);
            }
            self.send(Command::SetPresence(SetPresence { state: 2, text }), Waiting::Other, reach);
        }
    }

    fn list(&mut self, room: &str, reach: &mut Reach<'_>) {
        let room = room.to_owned();
        let command = match reach.stage.chance.below(3) {
            0 => Command::ListMembers(ListMembers { room, ..ListMembers::default() }),
            1 => Command::ListPins(ListPins { room, skip: 0 }),
            _ => Command::ListUnread(ListUnread::default()),
        };
        self.send(command, Waiting::Other, reach);
    }

    /// Says something again by mistake, or other words under the same name.
    fn repeat(&mut self, reach: &mut Reach<'_>) {
        if self.done.is_empty() {
            return;
        }
        let at = self.done.len() - 1 - reach.stage.chance.below(self.done.len().min(4) as u64) as usize;
        let mut other = None;
        if let Command::Publish(publish) = &self.done[at].command
            && reach.stage.chance.per_mille(300)
        {
            let body = format!("{} or not", publish.body);
            let said = Said::text(&body, publish.thread);
            other = Some((said, Command::Publish(Publish { body, ..publish.clone() })));
        }
        self.say_again(other, at, reach);
    }

    fn enter(&mut self, reach: &mut Reach<'_>) {
        let Some((room, kind)) = reach.stage.chance.pick(&ROOMS).copied() else { return };
        if self.places.get(room).is_some_and(|place| place.wanted) {
            return;
        }
        if reach.stage.chance.per_mille(300) {
            let settings = (kind == RoomKind::Premium)
                .then(|| RoomSettings { entitlement: "gold".into(), ..RoomSettings::default() });
            let create = CreateRoom {
                room: room.to_owned(),
                title: String::new(),
                kind: kind.into(),
                topic: String::new(),
                settings,
            };
            self.send(Command::CreateRoom(create), Waiting::Other, reach);
        }
        let code = reach.codes.iter().rev().find(|(of, _)| of == room).map(|(_, code)| code.clone());
        self.places.entry(room.to_owned()).or_default().invite = code.unwrap_or_default();
        self.want(room, reach);
    }

    fn exit(&mut self, room: &str, reach: &mut Reach<'_>) {
        let room = room.to_owned();
        if reach.stage.chance.per_mille(500) {
            // It may be refused: until the answer this client is in the room.
            self.send(Command::LeaveRoom(LeaveRoom { room: room.clone() }), Waiting::Leave(room), reach);
        } else {
            self.places.entry(room.clone()).or_default().pause();
            let unsubscribe = Command::Unsubscribe(Unsubscribe { room: room.clone() });
            self.send(unsubscribe, Waiting::Unsubscribe(room), reach);
        }
    }

    /// Leaves a room that it has just asked to join, before the answer, and at times wants in again at once.
    fn think_better_of_it(&mut self, reach: &mut Reach<'_>) {
        let asked =
            self.places.iter().find(|(_, place)| place.wanted && place.asking.is_some()).map(|(room, _)| room.clone());
        let Some(room) = asked else { return };
        self.places.entry(room.clone()).or_default().pause();
        let unsubscribe = Command::Unsubscribe(Unsubscribe { room: room.clone() });
        self.send(unsubscribe, Waiting::Unsubscribe(room.clone()), reach);
        if reach.stage.chance.per_mille(400) {
            self.want(&room, reach);
        }
    }

    fn moderate(&mut self, room: &str, reach: &mut Reach<'_>) {
        let (room, user, asked) = (room.to_owned(), self.somebody(reach), reach.stage.now);
        let sanction = match reach.stage.chance.below(10) {
            0..=2 => Sanction::Mute,
            3 => Sanction::Unmute,
            4..=6 => Sanction::Kick,
            7 => Sanction::Ban,
            _ => Sanction::Unban,
        };
        let seconds = reach.stage.chance.below(4);
        let moderate = Moderate {
            room: room.clone(),
            user: user.clone(),
            sanction: sanction.into(),
            reason: "so".into(),
            seconds,
        };
        let removes = matches!(sanction, Sanction::Kick | Sanction::Ban);
        self.send(Command::Moderate(moderate), Waiting::Moderate { room, user, asked, removes }, reach);
    }

    fn manage(&mut self, room: &str, reach: &mut Reach<'_>) {
        let room = room.to_owned();
        if reach.stage.chance.per_mille(500) {
            let role = *reach
                .stage
                .chance
                .pick(&[Role::Guest, Role::Member, Role::Moderator, Role::Admin, Role::Owner])
                .unwrap_or(&Role::Member);
            let user = self.somebody(reach);
            self.send(Command::SetRole(SetRole { room, user, role: role.into() }), Waiting::Other, reach);
            return;
        }
        let mut update = UpdateRoom { room, ..UpdateRoom::default() };
        match reach.stage.chance.below(5) {
            0 => update.title = Some(format!("title {}", self.cmids)),
            1 => update.topic = Some(format!("topic {}", self.cmids)),
            2 => update.archived = Some(reach.stage.chance.per_mille(300)),
            3 => update.kind = Some(RoomKind::Private.into()),
            _ => {
                let at_least = Role::Moderator.into();
                let permissions = vec![Permission { action: Action::Thread.into(), at_least }];
                update.settings = Some(RoomSettings {
                    slow_mode_seconds: u32::try_from(reach.stage.chance.below(2)).unwrap_or(0),
                    permissions: if reach.stage.chance.per_mille(300) { permissions } else { Vec::new() },
                    entitlement: "gold".into(),
                    listed: true,
                    // Enough that what is said again is still known.
                    retention_entries: if reach.stage.chance.per_mille(300) { 120 } else { 0 },
                    ..RoomSettings::default()
                });
            }
        }
        self.send(Command::UpdateRoom(update), Waiting::Other, reach);
    }

    fn invite(&mut self, room: &str, reach: &mut Reach<'_>) {
        let user = if reach.stage.chance.per_mille(500) { self.somebody(reach) } else { String::new() };
        let uses_max = u32::try_from(reach.stage.chance.below(3)).unwrap_or(0);
        let invite = CreateInvite { room: room.to_owned(), user, uses_max, seconds: 60 };
        self.send(Command::CreateInvite(invite), Waiting::Other, reach);
    }

    fn somebody(&self, reach: &mut Reach<'_>) -> String {
        (*reach.stage.chance.pick(&USERS).unwrap_or(&"ann")).to_owned()
    }

    /// A message that this client knows, of late rather than of old.
    fn some_message(&self, room: &str, own: bool, reach: &mut Reach<'_>) -> Option<u64> {
        let rows = self.places.get(room)?.view.rows().rev().take(25);
        let mine = rows.filter(|(_, row)| !own || (row.author == self.user && !row.deleted));
        let known: Vec<u64> = mine.map(|(seq, _)| seq).collect();
        reach.stage.chance.pick(&known).copied()
    }
}
