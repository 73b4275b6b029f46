//! One link's conversation, written down as it goes.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rand::Rng;
use tokio::sync::watch;
use tokio::time::Instant;
use veza_client::proto::v1::client_frame::Command;
use veza_client::proto::v1::{
    History, HistoryPage, JoinRoom, Message, Moderate, PresenceState, Repair, Repaired, RoomCursor, RoomJoined,
    Sanction, SetPresence, Typing, View, history, push, reply, room_resumed,
};
use veza_client::room::{RoomLog, Step};
use veza_client::{Connection, Error, Pushes, Transport};
use veza_history::{Anchor, Cursor, Entry, Event, Kind, Page, Verdict, Volatile, digest, is_definite};

use super::actor::{Actor, Phase};
use super::deed::Deed;

/// Commands under way at once.
const IN_FLIGHT: usize = 24;
/// A hole is asked for when it is this old.
const REPAIR_AFTER: Duration = Duration::from_millis(50);
/// Who was put out comes back after this long: what was on its way before is over then.
const REJOIN_AFTER: Duration = Duration::from_secs(2);
const PAGE: u32 = 50;

pub(super) struct Conversation<'a> {
    actor: &'a mut Actor,
    connection: Connection,
    rooms: Vec<Room>,
    in_flight: FuturesUnordered<Asking>,
    /// When the hello was sent, and with which cursors.
    asked: u64,
    cursors: Vec<RoomCursor>,
}

/// One room on this link.
#[derive(Default)]
struct Room {
    standing: Standing,
    /// Deliveries that came before the verdict: lanes overtake each other.
    early: Vec<Message>,
    /// A hole was seen then.
    hole_since: Option<Instant>,
    repairing: bool,
}

#[derive(Default, PartialEq)]
enum Standing {
    /// A verdict is awaited.
    #[default]
    Asked,
    Joined,
    /// To be joined again, from then on.
    Out(Option<Instant>),
}

type Answer = (Question, Result<reply::Result, Error>);
type Asking = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What an answer belongs to.
enum Question {
    Deed { call: u64, deed: Box<Deed> },
    Join { room: usize, asked: u64, cursor: RoomCursor },
    Repair { call: u64, room: usize, asked: Box<Repair> },
    Page { call: u64, view: View, anchor: history::Anchor },
    Kick { room: usize, user: String, asked: u64 },
    Nothing,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(actor: &'a mut Actor, connection: Connection, asked: u64, cursors: Vec<RoomCursor>) -> Self {
        let standing = |log: &RoomLog| if log.is_known() { Standing::Asked } else { Standing::Out(None) };
        let rooms = actor.logs.iter().map(|log| Room { standing: standing(log), ..Room::default() }).collect();
        Self { actor, connection, rooms, in_flight: FuturesUnordered::new(), asked, cursors }
    }

    /// Until the link ends, or the run does.
    pub(super) async fn hold(mut self, mut pushes: Pushes, phase: &mut watch::Receiver<Phase>) {
        let mut pace = tokio::time::interval(self.actor.pace);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                Some((question, answer)) = self.in_flight.next() => self.answered(question, answer),
                push = pushes.next() => match push {
                    Ok(event) => self.pushed(event),
                    Err(_) => break,
                },
                _ = pace.tick() => {
                    let wanted = *phase.borrow_and_update();
                    if wanted == Phase::End {
                        break;
                    }
                    self.act(wanted).await;
                }
            }
        }
        // The link is gone, or is let go: what is still open is told by its end.
        let Self { in_flight, .. } = &mut self;
        let mut open = std::mem::take(in_flight);
        let rest = async {
            while let Some((question, answer)) = open.next().await {
                self.answered(question, answer);
            }
        };
        rest.await;
    }

    // -------------------------------------------------------------------------------------------------------------
    // Doing

    async fn act(&mut self, phase: Phase) {
        for room in 0..self.rooms.len() {
            self.rejoin(room).await;
            self.repair(room).await;
        }
        let ready = |room: &usize| self.rooms[*room].standing == Standing::Joined;
        let joined: Vec<usize> = (0..self.rooms.len()).filter(ready).collect();
        while self.in_flight.len() < IN_FLIGHT
            && let Some(at) = self.actor.open.iter().position(|deed| joined.contains(&deed.room))
            && let Some(deed) = self.actor.open.remove(at)
        {
            self.send(deed).await;
        }
        let complete = |log: &RoomLog| log.is_settled() && log.missing().is_none();
        let idle = self.in_flight.is_empty() && self.actor.open.is_empty() && self.actor.logs.iter().all(complete);
        self.actor.progress.idle.store(idle, Ordering::Relaxed);
        if phase != Phase::Talk || joined.is_empty() {
            return;
        }
        let room = joined[self.actor.author.chance.random_range(0..joined.len())];
        match self.actor.author.chance.random_range(0..1_000) {
            0..40 => self.page(room).await,
            40..55 => self.type_something(room).await,
            55..60 => self.set_presence().await,
            60..63 => self.kick(room).await,
            // Several at once, whose order must be kept.
            63..160 => {
                for _ in 0..8 {
                    self.talk(room).await;
                }
            }
            _ => self.talk(room).await,
        }
    }

    async fn talk(&mut self, room: usize) {
        if self.in_flight.len() < IN_FLIGHT {
            let deed = self.actor.author.choose(room, &mut self.actor.rooms[room]);
            self.send(deed).await;
        }
    }

    async fn send(&mut self, deed: Deed) {
        let call = self.call();
        let (room, cmid) = (self.actor.rooms[deed.room].room.clone(), deed.cmid.clone());
        self.record(Event::Sent { call, room, cmid, said: deed.said });
        let command = deed.command.clone();
        self.ask(Question::Deed { call, deed: Box::new(deed) }, command).await;
    }

    async fn rejoin(&mut self, room: usize) {
        let Standing::Out(from) = self.rooms[room].standing else { return };
        if from.is_some_and(|from| Instant::now() < from) {
            return;
        }
        self.rooms[room].standing = Standing::Asked;
        let (asked, cursor) = (self.actor.recorder.now(), self.actor.logs[room].cursor());
        let join = JoinRoom {
            room: cursor.room.clone(),
            delivery: cursor.delivery,
            cursor: self.actor.logs[room].is_known().then(|| cursor.clone()),
            ..JoinRoom::default()
        };
        self.ask(Question::Join { room, asked, cursor }, Command::JoinRoom(join)).await;
    }

    async fn repair(&mut self, room: usize) {
        let Some(asked) = self.actor.logs[room].missing().filter(|_| !self.rooms[room].repairing) else {
            self.rooms[room].hole_since = None;
            return;
        };
        let since = *self.rooms[room].hole_since.get_or_insert_with(Instant::now);
        if since.elapsed() < REPAIR_AFTER {
            return;
        }
        self.rooms[room].repairing = true;
        self.rooms[room].hole_since = None;
        let call = self.reading(room);
        let command = Command::Repair(asked.clone());
        self.ask(Question::Repair { call, room, asked: Box::new(asked) }, command).await;
    }

    async fn page(&mut self, room: usize) {
        let head = self.actor.logs[room].cursor().last_seq;
        let chance = &mut self.actor.author.chance;
        let anchor = match chance.random_range(0..4) {
            0 => history::Anchor::AfterSeq(chance.random_range(0..=head)),
            1 => history::Anchor::AroundSeq(chance.random_range(1..=head.max(1))),
            2 => history::Anchor::BeforeSeq(chance.random_range(1..=head + 1)),
            _ => history::Anchor::BeforeSeq(0),
        };
        let view = if chance.random_bool(0.6) { View::Everything } else { View::Unspecified };
        let call = self.reading(room);
        let name = self.actor.rooms[room].room.clone();
        let history = History { room: name, limit: PAGE, view: view.into(), anchor: Some(anchor), thread: 0 };
        self.ask(Question::Page { call, view, anchor }, Command::History(history)).await;
    }

    async fn kick(&mut self, room: usize) {
        let others = &self.actor.others[room];
        if !self.actor.rooms[room].owner || others.is_empty() {
            return;
        }
        let user = others[self.actor.author.chance.random_range(0..others.len())].clone();
        let asked = self.actor.recorder.now();
        let moderate = Moderate {
            room: self.actor.rooms[room].room.clone(),
            user: user.clone(),
            sanction: Sanction::Kick.into(),
            reason: "chaos".into(),
            seconds: 0,
        };
        self.ask(Question::Kick { room, user, asked }, Command::Moderate(moderate)).await;
    }

    async fn type_something(&mut self, room: usize) {
        let name = self.actor.rooms[room].room.clone();
        self.record(Event::SaidVolatile { room: name.clone(), what: Volatile::Typing });
        // A link that ends tells so by its pushes.
        self.connection.tell(Command::Typing(Typing { room: name, active: true })).await.ok();
    }

    async fn set_presence(&mut self) {
        let call = self.call();
        let text = format!("{} at {call}", self.actor.name);
        let what = Volatile::Presence(digest(&text));
        for room in &self.actor.rooms {
            self.record(Event::SaidVolatile { room: room.room.clone(), what });
        }
        let presence = SetPresence { state: PresenceState::Away.into(), text };
        self.ask(Question::Nothing, Command::SetPresence(presence)).await;
    }

    /// Puts the command into the link's queue before anything else is: what was recorded first is sent first.
    async fn ask(&mut self, question: Question, command: Command) {
        let connection = self.connection.clone();
        let mut asking: Asking = Box::pin(async move { (question, connection.command(command).await) });
        let at_once = poll_fn(|context| match asking.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => Poll::Ready(None),
        });
        match at_once.await {
            Some((question, answer)) => self.answered(question, answer),
            None => self.in_flight.push(asking),
        }
    }

    // -------------------------------------------------------------------------------------------------------------
    // Being told

    fn answered(&mut self, question: Question, answer: Result<reply::Result, Error>) {
        match question {
            Question::Deed { call, deed } => self.deed_answered(call, *deed, answer),
            Question::Join { room, asked, cursor } => match answer {
                Ok(reply::Result::RoomJoined(joined)) => self.joined(room, asked, &cursor, &joined),
                Ok(_) | Err(_) => {
                    self.rooms[room].standing = Standing::Out(Some(Instant::now() + REJOIN_AFTER));
                }
            },
            Question::Repair { call, room, asked } => {
                self.rooms[room].repairing = false;
                match answer {
                    Ok(reply::Result::Repaired(page)) => self.repaired(call, room, &asked, page),
                    Ok(_) | Err(_) => self.record(Event::Unknown { call }),
                }
            }
            Question::Page { call, view, anchor } => match answer {
                Ok(reply::Result::HistoryPage(page)) => {
                    self.record(Event::Page { call, page: page_of(view, anchor, &page) });
                }
                Ok(_) | Err(_) => self.record(Event::Unknown { call }),
            },
            Question::Kick { room, user, asked } => {
                if let Ok(reply::Result::MemberUpdated(_)) = answer {
                    self.record(Event::Removed { room: self.actor.rooms[room].room.clone(), user, asked });
                }
            }
            Question::Nothing => {}
        }
    }

    fn deed_answered(&mut self, call: u64, deed: Deed, answer: Result<reply::Result, Error>) {
        match answer {
            Ok(reply::Result::Published(published)) => {
                let (epoch, seq, duplicate) = (published.epoch, published.seq, published.duplicate);
                self.record(Event::Acknowledged { call, epoch, seq, duplicate });
                self.actor.progress.acknowledged.fetch_add(1, Ordering::Relaxed);
                if deed.said.kind == Kind::Text && !deed.conflict {
                    self.actor.rooms[deed.room].stored(seq, &deed.cmid);
                }
            }
            Err(Error::Refused(refused)) if is_definite(refused.code()) => {
                let code = refused.code().as_str_name().trim_start_matches("ERROR_CODE_").to_owned();
                self.record(Event::Refused { call, code });
            }
            Ok(_) | Err(_) => {
                self.record(Event::Unknown { call });
                self.actor.open.push_back(deed);
            }
        }
    }

    fn pushed(&mut self, event: push::Event) {
        match event {
            push::Event::Message(delivered) => {
                let Some(message) = delivered.message else { return };
                let Some(room) = self.room(&message.room) else { return };
                match self.rooms[room].standing {
                    Standing::Asked => self.rooms[room].early.push(message),
                    Standing::Joined | Standing::Out(_) => self.delivered(room, message),
                }
            }
            push::Event::RoomResumed(resumed) => {
                let Some(room) = self.room(&resumed.room) else { return };
                let cursor = self.cursors.iter().find(|cursor| cursor.room == resumed.room).cloned();
                match (resumed.result, cursor) {
                    (Some(room_resumed::Result::Joined(joined)), Some(cursor)) => {
                        self.joined(room, self.asked, &cursor, &joined);
                    }
                    _ => self.rooms[room].standing = Standing::Out(Some(Instant::now() + REJOIN_AFTER)),
                }
            }
            push::Event::RoomHead(head) => {
                if let Some(room) = self.room(&head.room) {
                    self.actor.logs[room].head(head.epoch, head.head);
                }
            }
            push::Event::RoomLagging(lagging) => {
                let Some(room) = self.room(&lagging.room) else { return };
                let (epoch, last_delivered) = (lagging.epoch, lagging.last_delivered);
                self.record(Event::Lagging { room: lagging.room, epoch, last_delivered });
                self.actor.logs[room].lagging(epoch, last_delivered);
            }
            push::Event::RoomEvicted(evicted) => {
                let Some(room) = self.room(&evicted.room) else { return };
                self.record(Event::Evicted { room: evicted.room });
                self.actor.logs[room].unsettle();
                self.rooms[room].standing = Standing::Out(Some(Instant::now() + REJOIN_AFTER));
            }
            push::Event::TypingChanged(typing) if typing.active => {
                let (room, user) = (typing.room, typing.user);
                self.record(Event::HeardVolatile { room, user, what: Volatile::Typing });
            }
            push::Event::PresenceChanged(changed) => {
                for status in changed.statuses.into_iter().filter(|status| !status.text.is_empty()) {
                    let (room, what) = (changed.room.clone(), Volatile::Presence(digest(&status.text)));
                    self.record(Event::HeardVolatile { room, user: status.user, what });
                }
            }
            push::Event::TypingChanged(_)
            | push::Event::TokenExpiring(_)
            | push::Event::Reconnect(_)
            | push::Event::Closing(_)
            | push::Event::RoomChanged(_)
            | push::Event::ReceiptsChanged(_)
            | push::Event::StreamChanged(_)
            | push::Event::QualityChanged(_)
            | push::Event::IngestReport(_) => {}
        }
    }

    fn joined(&mut self, room: usize, asked: u64, cursor: &RoomCursor, joined: &RoomJoined) {
        let told = joined.room.clone().unwrap_or_default();
        let verdict = joined.verdict.as_ref().map_or(Verdict::Live, Verdict::from);
        let cursor = (cursor.epoch != 0).then_some(Cursor { epoch: cursor.epoch, last: cursor.last_seq });
        let (epoch, head) = (told.epoch, told.head);
        self.record(Event::Joined { room: told.id, epoch, head, asked, cursor, verdict });
        self.rooms[room].standing = Standing::Joined;
        let steps = self.actor.logs[room].settle(joined);
        self.shown(room, steps);
        for message in std::mem::take(&mut self.rooms[room].early) {
            self.delivered(room, message);
        }
    }

    fn delivered(&mut self, room: usize, message: Message) {
        let entry = Entry::from(&message);
        let loose = self.actor.logs[room].cursor().delivery != 0 && self.connection.transport() != Transport::WebSocket;
        self.record(Event::Delivered { room: message.room.clone(), entry, loose });
        if self.rooms[room].standing == Standing::Joined {
            let steps = self.actor.logs[room].deliver(message);
            self.shown(room, steps);
        }
    }

    fn repaired(&mut self, call: u64, room: usize, asked: &Repair, page: Repaired) {
        let told = Page {
            view: veza_history::View::Everything,
            anchor: Anchor::Between(asked.after_seq, asked.up_to_seq),
            epoch: page.epoch,
            head: page.head,
            first_available: 0,
            more_after: false,
            entries: page.messages.iter().map(Entry::from).collect(),
        };
        self.record(Event::Page { call, page: told });
        if self.rooms[room].standing == Standing::Joined {
            let steps = self.actor.logs[room].repaired(asked, page);
            self.shown(room, steps);
        }
    }

    fn shown(&mut self, room: usize, steps: Vec<Step>) {
        for step in steps {
            if let Step::Message(message) = step
                && message.change.is_none()
                && message.deleted.is_none()
            {
                self.actor.rooms[room].saw(message.seq, message.thread == 0);
            }
        }
        let held = self.actor.logs[room].cursor().last_seq;
        self.actor.progress.held[room].store(held, Ordering::Relaxed);
    }

    fn reading(&mut self, room: usize) -> u64 {
        let call = self.call();
        self.record(Event::Reading { call, room: self.actor.rooms[room].room.clone() });
        call
    }

    fn call(&mut self) -> u64 {
        self.actor.calls += 1;
        self.actor.calls
    }

    fn record(&self, event: Event) {
        self.actor.recorder.record(&self.actor.name, event);
    }

    fn room(&self, name: &str) -> Option<usize> {
        self.actor.rooms.iter().position(|room| room.room == name)
    }
}

/// A history page as the log tells of it.
pub(super) fn page_of(view: View, anchor: history::Anchor, page: &HistoryPage) -> Page {
    let view = match view {
        View::Unspecified => veza_history::View::Room,
        View::Everything => veza_history::View::Everything,
        View::Thread => veza_history::View::Thread,
    };
    let anchor = match anchor {
        history::Anchor::BeforeSeq(seq) => Anchor::Before(seq),
        history::Anchor::AfterSeq(seq) => Anchor::After(seq),
        history::Anchor::AroundSeq(seq) => Anchor::Around(seq),
    };
    Page {
        view,
        anchor,
        epoch: page.epoch,
        head: page.head,
        first_available: page.first_available,
        more_after: page.more_after,
        entries: page.messages.iter().map(Entry::from).collect(),
    }
}
