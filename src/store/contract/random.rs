use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use veza_engine::ledger::{Actor, InviteKey, KEPT_MS, OnceKey, RoomUpdate, SettingsField};
use veza_proto::v1::{Action, Permission, RoomSettings};

use super::*;
use crate::store::{Invites, Members, Rooms, Scope, Search, Unread};

const ROOMS: [&str; 5] = ["a", "a-b", "b", "c", "d"];
const USERS: [&str; 5] = ["alice", "bob", "carol", "42", "Zoé"];
const WORDS: [&str; 8] = ["song", "songs", "chanson", "chansons", "été", "ete", "run", "running"];
const EMOJI: [&str; 3] = ["👍", "+", ":veza:"];

/// A few thousand writes of every kind in batches of 1…40 over few rooms, users, cmids and words, so that they collide
/// within and across batches; after every batch, reads of every kind.
pub(super) async fn the_same_operations_give_the_same_answers_as_memory(store: Arc<dyn Store>) {
    for seed in [1, 2, 3] {
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
        // Every seed has its own rooms and users in the same store.
        let mut dice = Dice { random: StdRng::seed_from_u64(seed), seed, now: NOW };
        for step in 0..100 {
            let batch: Vec<_> = (0..dice.random.random_range(1..=40)).map(|_| dice.any_write()).collect();
            let (ours, theirs) = (store.commit(&batch).await.unwrap(), memory.commit(&batch).await.unwrap());
            let at = format!("seed {seed}, step {step}");
            for (n, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                assert_eq!(ours, theirs, "{at}: {:?}\nin {batch:#?}", batch[n]);
            }
            for name in ROOMS {
                dice.compare_room(&dice.name(name), &store, &memory, &at).await;
            }
            dice.compare_users(&store, &memory, &at).await;
        }
    }
}

struct Dice {
    random: StdRng,
    seed: u64,
    now: u64,
}

impl Dice {
    fn name(&self, room: &str) -> RoomId {
        room_id(&format!("{room}{}", self.seed))
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.random_range(0..of.len())]
    }

    fn room(&mut self) -> RoomId {
        let room = self.one_of(&ROOMS);
        self.name(room)
    }

    fn user(&mut self) -> UserId {
        user(&format!("{}{}", self.one_of(&USERS), self.seed))
    }

    fn seq(&mut self) -> u64 {
        // Often the same few, so that changes meet.
        if self.random.random_bool(0.5) { self.random.random_range(0..8) } else { self.random.random_range(0..300) }
    }

    fn body(&mut self) -> String {
        let words: Vec<_> = (0..self.random.random_range(1..4)).map(|_| self.one_of(&WORDS)).collect();
        words.join(" ")
    }

    fn mentions(&mut self) -> Vec<String> {
        let mut mentions: Vec<_> = (0..self.random.random_range(0..3)).map(|_| String::from(&self.user())).collect();
        if self.random.random_bool(0.1) {
            mentions.push("*".into());
        }
        mentions
    }

    fn settings(&mut self) -> Settings {
        let chance = self.random.random_bool(0.3);
        let permission = Permission { action: Action::Pin.into(), at_least: Role::Guest.into() };
        let wire = RoomSettings {
            listed: self.random.random_bool(0.7),
            slow_mode_seconds: if chance { 1 } else { 0 },
            retention_seconds: self.one_of(&[0, 0, 60]),
            retention_entries: self.one_of(&[0, 0, 20]),
            default_role: self.one_of(&[Role::Guest, Role::Member, Role::Member]).into(),
            permissions: if chance { vec![] } else { vec![permission] },
            entitlement: if chance { "gold".into() } else { String::new() },
        };
        Settings::parse(&wire).unwrap()
    }

    fn key(&mut self, room: &RoomId) -> InviteKey {
        if self.random.random_bool(0.5) {
            InviteKey::User(room.clone(), self.user())
        } else {
            // The codes of one room are never those of another.
            InviteKey::Code(format!("{room}.{}", self.random.random_range(0..3)))
        }
    }

    /// Mostly of a user, now and then of a service, with and without a key.
    fn any_write(&mut self) -> Write {
        let write = self.one_write();
        let keyless = matches!(write, Write::Append { .. } | Write::Mark { .. } | Write::Expire { .. });
        if keyless || self.random.random_bool(0.7) {
            return write;
        }
        let (key, digest) =
            (format!("k{}.{}", self.seed, self.random.random_range(0..20)), self.random.random_range(0..3));
        let at_ms = if self.random.random_bool(0.05) { self.now + KEPT_MS } else { self.now };
        Write::Once { key: OnceKey { service: "gateway".into(), key, digest }, write: Box::new(write), at_ms }
    }

    fn actor(&mut self) -> Actor {
        if self.random.random_bool(0.15) { Actor::service("gateway") } else { self.user().into() }
    }

    fn one_write(&mut self) -> Write {
        // A clock that mostly rises.
        self.now += self.random.random_range(0..400);
        let at_ms = if self.random.random_bool(0.05) { self.now - 5_000 } else { self.now };
        let (room, actor, user) = (self.room(), self.actor(), self.user());
        match self.random.random_range(0..100) {
            0..4 => {
                let kind = self.one_of(&[RoomKind::Public, RoomKind::Public, RoomKind::Private, RoomKind::Premium]);
                let (title, topic) = (self.body(), String::new());
                Write::CreateRoom {
                    room,
                    title,
                    topic,
                    kind,
                    settings: self.settings(),
                    creator: actor.user().cloned(),
                    at_ms,
                }
            }
            4 => {
                let room = room_id(&format!("dm{}.{}", self.seed, self.random.random_range(0..3)));
                Write::OpenDirect { room, opener: self.user(), other: user, at_ms }
            }
            5..8 => {
                let update = RoomUpdate {
                    title: self.random.random_bool(0.3).then(|| self.body()),
                    topic: self.random.random_bool(0.3).then(|| self.body()),
                    kind: self.random.random_bool(0.2).then(|| self.one_of(&[RoomKind::Public, RoomKind::Private])),
                    settings: self.random.random_bool(0.5).then(|| self.settings()),
                    only: self.random.random_bool(0.5).then(|| vec![SettingsField::SlowModeSeconds]),
                    archived: self.random.random_bool(0.2).then(|| self.random.random_bool(0.3)),
                };
                Write::UpdateRoom { room, actor, update, at_ms }
            }
            8..20 => {
                let code = format!("{room}.{}", self.random.random_range(0..3));
                let invite = self.random.random_bool(0.5).then_some(code);
                let entitlements = if self.random.random_bool(0.5) { vec!["gold".into()] } else { vec![] };
                let admitted_by = self.random.random_bool(0.1).then(|| Actor::service("gateway").id().clone());
                Write::Join { room, user, invite, entitlements, admitted_by, at_ms }
            }
            20..22 => Write::Leave { room, user, ended_by: None, at_ms },
            22..26 => {
                let role = self.one_of(&[Role::Guest, Role::Member, Role::Moderator, Role::Admin, Role::Owner]);
                Write::SetRole { room, actor, user, role, at_ms }
            }
            26..31 => {
                let all = [Sanction::Mute, Sanction::Unmute, Sanction::Kick, Sanction::Ban, Sanction::Unban];
                let (sanction, seconds) = (self.one_of(&all), self.one_of(&[0, 1, 5]));
                Write::Moderate { room, actor, user, sanction, reason: self.body(), seconds, at_ms }
            }
            31..35 => {
                let (uses_max, expires_ms) = (self.one_of(&[0, 1, 2]), at_ms + self.one_of(&[1_000, 1_000_000]));
                Write::Invite { key: self.key(&room), room, actor, uses_max, expires_ms, at_ms }
            }
            35..37 => Write::RevokeInvite { key: self.key(&room), room, actor, at_ms },
            37..42 => Write::Mark { room, user, delivered_seq: self.seq(), read_seq: self.seq() },
            42..43 => Write::Expire { room, up_to: self.random.random_range(0..30), at_ms },
            _ => {
                let cmid = Cmid::parse(&format!("c{}", self.random.random_range(0..500))).unwrap();
                Write::Append { room, author: actor, cmid, content: self.content(), at_ms }
            }
        }
    }

    fn content(&mut self) -> Content {
        let target = self.seq();
        match self.random.random_range(0..10) {
            0..5 => {
                let thread = if self.random.random_bool(0.2) { self.seq() } else { 0 };
                let reply_to = if self.random.random_bool(0.1) { self.seq() } else { 0 };
                let (body, mentions) = (self.body(), self.mentions());
                Content::Text { body, thread, reply_to, mentions, attachments: Vec::new() }
            }
            5..7 => Content::Edit { target, body: self.body(), mentions: self.mentions() },
            7 => Content::Delete { target, reason: self.body() },
            8 => {
                let emoji = self.one_of(&EMOJI).into();
                Content::React { target, emoji, remove: self.random.random_bool(0.3) }
            }
            _ => Content::Pin { target, remove: self.random.random_bool(0.3) },
        }
    }

    async fn compare_room(&mut self, room: &RoomId, store: &Arc<dyn Store>, memory: &Arc<dyn Store>, at: &str) {
        let (viewer, user, now) = (self.user(), self.user(), self.now);
        let limit = self.random.random_range(0..60);
        macro_rules! same {
            ($method:ident ( $($argument:expr),* )) => {
                let (ours, theirs) = (store.$method($($argument),*).await, memory.$method($($argument),*).await);
                assert_eq!(ours.unwrap(), theirs.unwrap(), "{at}: {}{:?}", stringify!($method), ($(&$argument),*));
            };
        }
        same!(room(room));
        same!(membership(room, &user));
        let epoch = memory.room(room).await.unwrap().map_or(1, |row| row.epoch);
        let view = self.one_of(&[View::Everything, View::Timeline, View::Thread(1), View::Thread(3), View::Thread(60)]);
        let seq = self.seq();
        let anchor = if self.random.random_bool(0.5) { Anchor::After(seq) } else { Anchor::Before(seq) };
        same!(entries(room, epoch, view, anchor, limit, Some(&viewer)));
        let filters =
            [Members::All, Members::Staff, Members::Muted { now_ms: self.now }, Members::Banned { now_ms: self.now }];
        let which = self.one_of(&filters);
        same!(members(room, which, None::<&str>, limit));
        let users = [self.user(), self.user()];
        same!(members_of(room, &users));
        same!(invites(Invites::Of(room), now, limit));
        let target = self.random.random_range(0..12);
        same!(revisions(room, epoch, target));
        let emoji = self.one_of(&EMOJI);
        same!(reactors(room, epoch, target, emoji, 2));
        same!(pins(room, &viewer));
        let before = self.random.random_range(0..100);
        same!(audit(room, before, 7));
        same!(unread(&user, Unread::In(room), 1));
        let scope = Scope::Room { room: room.clone(), before: self.random.random_range(0..400), viewer: user.clone() };
        let search = self.search(scope);
        same!(search(&search, 9));
    }

    async fn compare_users(&mut self, store: &Arc<dyn Store>, memory: &Arc<dyn Store>, at: &str) {
        let (user, now) = (self.user(), self.now);
        macro_rules! same {
            ($method:ident ( $($argument:expr),* )) => {
                let (ours, theirs) = (store.$method($($argument),*).await, memory.$method($($argument),*).await);
                assert_eq!(ours.unwrap(), theirs.unwrap(), "{at}: {}{:?}", stringify!($method), ($(&$argument),*));
            };
        }
        same!(rooms(&user, Rooms::Mine, Some("a"), 3));
        same!(unread(&user, Unread::After(Some("a")), 3));
        same!(invites(Invites::For(&user), now, 5));
        let mut search = self.search(Scope::Mine { member: user.clone(), before: None });
        for _page in 0..3 {
            same!(search(&search, 5));
            let page = memory.search(&search, 5).await.unwrap();
            let before = page.last().map(|hit| (hit.row.at_ms, hit.row.room.clone(), hit.row.seq));
            search.scope = Scope::Mine { member: user.clone(), before };
        }
        // Rooms of other seeds are in one store and not in the other.
        let own = |rooms: Vec<(RoomRow, Option<MemberRow>)>| -> Vec<_> {
            let own =
                |room: &RoomId| room.as_str().ends_with(&self.seed.to_string()) && !room.as_str().starts_with("dm");
            rooms.into_iter().filter(|(room, _)| own(&room.id)).collect()
        };
        let ours = store.rooms(&user, Rooms::Visible, None, 100).await.unwrap();
        assert_eq!(own(ours), own(memory.rooms(&user, Rooms::Visible, None, 100).await.unwrap()), "{at}: visible");
        let own = |overdue: Vec<(RoomId, u64)>| -> Vec<_> {
            overdue.into_iter().filter(|(room, _)| room.as_str().ends_with(&self.seed.to_string())).collect()
        };
        let ours = store.overdue(self.now, 10, 100).await.unwrap();
        assert_eq!(own(ours), own(memory.overdue(self.now, 10, 100).await.unwrap()), "{at}: overdue");
    }

    fn search(&mut self, scope: Scope) -> Search {
        let star = if self.random.random_bool(0.3) { "*" } else { "" };
        let query = format!("{}{star}", self.body());
        Search { query, scope, author: self.random.random_bool(0.3).then(|| self.user()) }
    }
}
