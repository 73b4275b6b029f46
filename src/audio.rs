//! Live audio on this node: who publishes, who listens, and the way of every packet between them.
//!
//! A stream lives in one shard, a task that owns it whole: its publisher's packets in order, its last frames, its listeners.
//! Packets go from a publisher's link to the shard and from there straight to the listeners' connections.

mod asks;
mod backlog;
mod channel;
mod ear;
mod made;
mod meters;
mod pool;
mod seat;
mod shard;
mod show;
mod source;
mod watch;
mod window;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use veza_engine::audio::AudioAsk;
use veza_engine::{Answer, SessionKey, Ticket};
use veza_proto::gateway::v1::Stream;

use crate::clock::Clock;
use crate::events::Events;
use crate::hub::{Caller, Hub};
use crate::store::desk::Desk;
use crate::tasks::Tasks;
use crate::telemetry::metrics as declared;
use crate::transport::MediaSender;
pub use pool::Pool;
pub use seat::Seat;
use shard::{Command, Shard};
pub use source::Lost;
pub use watch::{Fixed, Going, Hearer};
pub use window::Seconds;

/// What waits for a shard at most; packets that find no room are dropped and counted.
const COMMANDS_MAX: usize = 8_192;

/// The way to the streams of this node. Cheap to clone.
#[derive(Clone)]
pub struct Audio {
    shared: Arc<Shared>,
}

struct Shared {
    hub: Hub,
    desk: Arc<dyn Desk>,
    events: Events,
    shards: Vec<mpsc::Sender<Command>>,
    pool: Pool,
    /// The handles of streams that somebody here publishes or listens to.
    handles: Mutex<BTreeMap<String, u32>>,
    next_handle: AtomicU32,
    tasks: Tasks,
}

impl Audio {
    /// Starts `shards` shards, with `pool` to make rungs.
    pub fn start(
        hub: Hub,
        desk: Arc<dyn Desk>,
        events: Events,
        shards: usize,
        pool: Pool,
        clock: Clock,
        tasks: &Tasks,
    ) -> Self {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..shards.max(1)).map(|_| mpsc::channel(COMMANDS_MAX)).unzip();
        // Handles of an earlier process are not mistaken for ours.
        let next_handle = AtomicU32::new(rand::random::<u32>() >> 1);
        let handles = Mutex::default();
        let tasks = tasks.clone();
        let shared = Arc::new(Shared { hub, desk, events, shards: senders, pool, handles, next_handle, tasks });
        let audio = Self { shared };
        for receiver in receivers {
            let shard = Shard::new(audio.clone(), clock);
            audio.shared.tasks.spawn("audio-shard", shard.run(receiver, audio.shared.tasks.token()));
        }
        audio
    }

    /// Asks in a session's name; the answer goes to its mailbox.
    pub fn ask(&self, caller: &Caller, seat: &Arc<Seat>, ticket: Ticket, ask: AudioAsk, media: MediaSender) {
        if let AudioAsk::Report(report) = ask {
            self.tell(report.handle, Command::Report { session: caller.session, report: Box::new(report) });
            return;
        }
        let (audio, caller, seat) = (self.clone(), caller.clone(), Arc::clone(seat));
        self.shared.tasks.spawn("audio-ask", async move {
            let answer = match audio.answer(&caller, &seat, ask, media).await {
                Ok(reply) => Answer::Reply(Box::new(reply)),
                Err(error) => Answer::Refused(error),
            };
            caller.mailbox.answer(ticket, answer);
        });
    }

    /// A media packet of a session, read from its link at `came`.
    pub fn packet(&self, session: SessionKey, packet: Bytes, came: Instant) {
        let Some(handle) = packet.get(1..5).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes) else {
            declared::audio_packets_refused_total("malformed").increment(1);
            return;
        };
        self.tell(handle, Command::Packet { session, packet, came });
    }

    /// The session has ended: it publishes and listens no more.
    pub fn leave(&self, session: SessionKey, seat: &Seat) {
        for handle in seat.close() {
            let shard = self.shard(handle).clone();
            if let Err(mpsc::error::TrySendError::Full(command)) = shard.try_send(Command::Leave { handle, session }) {
                self.shared.tasks.spawn("audio-leave", async move {
                    // An error says that the server stops.
                    let _stopped = shard.send(command).await;
                });
            }
        }
    }

    /// A stream's record has changed: those who hear it are told, and what is over ends.
    pub fn changed(&self, stream: &Stream) {
        let Some(handle) = self.handles().get(&stream.id).copied() else { return };
        let command = Command::Changed { handle, stream: Box::new(stream.clone()) };
        let shard = self.shard(handle).clone();
        self.shared.tasks.spawn("audio-changed", async move {
            let _stopped = shard.send(command).await;
        });
    }

    /// What may be lost: a report, a packet.
    fn tell(&self, handle: u32, command: Command) {
        if self.shard(handle).try_send(command).is_err() {
            declared::audio_packets_refused_total("busy").increment(1);
        }
    }

    fn shard(&self, handle: u32) -> &mpsc::Sender<Command> {
        &self.shared.shards[handle as usize % self.shared.shards.len()]
    }

    /// The handle of a stream on this node, which it gets now if it has none.
    fn handle(&self, stream: &str) -> u32 {
        let fresh = || self.shared.next_handle.fetch_add(1, Ordering::Relaxed);
        *self.handles().entry(stream.to_owned()).or_insert_with(fresh)
    }

    /// Nobody here publishes or listens to it any more.
    fn forget(&self, stream: &str) {
        self.handles().remove(stream);
    }

    fn handles(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.shared.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
