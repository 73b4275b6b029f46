//! One client of the chaos: it talks, and comes back with its cursors whenever its link is lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::Rng;
use tokio::sync::watch;
use veza_client::proto::v1::{Hello, RoomCursor};
use veza_client::room::RoomLog;
use veza_client::{Connection, Endpoints, Options, Target};
use veza_history::Event;

use super::conversation::Conversation;
use super::deed::{Author, Deed, Memory};
use crate::recorder::Recorder;

/// Between two attempts to connect.
const AGAIN_MS: std::ops::Range<u64> = 20..250;

/// What the run wants of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Talk,
    /// Say nothing new; finish what is open, and get everything.
    Settle,
    End,
}

pub(super) struct Actor {
    pub(super) name: String,
    pub(super) token: String,
    pub(super) endpoints: Endpoints,
    pub(super) target: Target,
    pub(super) options: Options,
    pub(super) recorder: Recorder,
    pub(super) author: Author,
    pub(super) rooms: Vec<Memory>,
    pub(super) logs: Vec<RoomLog>,
    /// Sent, and nobody knows with what outcome.
    pub(super) open: VecDeque<Deed>,
    pub(super) calls: u64,
    pub(super) resume_token: String,
    pub(super) pace: Duration,
    pub(super) progress: Arc<Progress>,
    /// Whom the owner of a room may kick, by room.
    pub(super) others: Arc<Vec<Vec<String>>>,
}

/// What the conductor sees of one actor.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) acknowledged: AtomicU64,
    pub(super) links: AtomicU64,
    /// Nothing is open, and every room is joined.
    pub(super) idle: AtomicBool,
    /// Up to where each room is held without a hole.
    pub(super) held: Vec<AtomicU64>,
}

impl Actor {
    /// Lives until the end is told.
    pub(super) async fn live(mut self, mut phase: watch::Receiver<Phase>) {
        while *phase.borrow() != Phase::End {
            let rooms: Vec<RoomCursor> = self.logs.iter().filter(|log| log.is_known()).map(RoomLog::cursor).collect();
            let client = concat!("veza-loadtest/", env!("CARGO_PKG_VERSION")).to_owned();
            let (token, resume_token) = (self.token.clone(), self.resume_token.clone());
            let hello = Hello { token, client, resume_token, rooms: rooms.clone() };
            let asked = self.recorder.now();
            let opened = tokio::select! {
                opened = Connection::open(&self.endpoints, &self.target, hello, &self.options) => opened,
                _ = phase.wait_for(|phase| *phase == Phase::End) => return,
            };
            match opened {
                Ok((connection, pushes)) => {
                    self.resume_token.clone_from(&connection.welcome().resume_token);
                    self.progress.links.fetch_add(1, Ordering::Relaxed);
                    let user = connection.welcome().user.clone();
                    let transport = connection.welcome().transport.clone();
                    self.recorder.record(&self.name, Event::Connected { user, transport });
                    Conversation::new(&mut self, connection, asked, rooms).hold(pushes, &mut phase).await;
                    self.progress.idle.store(false, Ordering::Relaxed);
                    self.recorder.record(&self.name, Event::Lost);
                    for log in &mut self.logs {
                        log.unsettle();
                    }
                }
                // The server is down, or refuses a session that it takes for alive: both pass.
                Err(_) => self.resume_token.clear(),
            }
            let wait = Duration::from_millis(self.author.chance.random_range(AGAIN_MS));
            tokio::time::sleep(wait).await;
        }
    }
}
