//! A task that owns its share of the streams whole, so that nothing of them is ever locked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use veza_engine::audio::Ladder;
use veza_engine::{SessionKey, Timestamp};
use veza_proto::gateway::v1::Stream;
use veza_proto::v1::{AudioQuality, AudioStream, PublishedRung, QualityPin, ReceiverReport};

use super::Audio;
use super::channel::Channel;
use super::ear::Who;
use super::made::Made;
use super::meters::Meters;
use super::pool::MadeFrames;
use super::seat::Seat;
use super::show::shown;
use crate::clock::Clock;
use crate::hub::mailbox::Mailbox;
use crate::telemetry::metrics as declared;

/// How often networks are looked at.
const TICK: Duration = veza_engine::audio::TICK;
/// How often listeners are told who else is there.
const ANNOUNCE: Duration = Duration::from_secs(1);
/// Commands taken before it is looked at the clock again.
const TURN: usize = 256;

/// What a shard is told.
pub(super) enum Command {
    Packet { session: SessionKey, packet: Bytes, came: Instant },
    Report { session: SessionKey, report: Box<ReceiverReport> },
    Made(Box<MadeFrames>),
    Publish(Box<Publish>),
    Listen(Box<Listen>),
    Unlisten { handle: u32, session: SessionKey },
    Leave { handle: u32, session: SessionKey },
    Changed { handle: u32, stream: Box<Stream> },
    Visit { handle: u32, visit: Visit },
}

/// What is asked of a stream that is here.
pub(super) type Visit = Box<dyn FnOnce(&mut Channel, Timestamp) + Send>;

pub(super) struct Publish {
    pub(super) handle: u32,
    pub(super) stream: AudioStream,
    pub(super) ladder: Ladder,
    pub(super) session: SessionKey,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) seat: Arc<Seat>,
    /// The index of the next frame, and the stream.
    pub(super) reply: oneshot::Sender<(u32, AudioStream)>,
}

pub(super) struct Listen {
    pub(super) handle: u32,
    pub(super) stream: AudioStream,
    pub(super) who: Who,
    pub(super) pin: QualityPin,
    pub(super) reply: oneshot::Sender<Heard>,
}

/// What a listener is told first.
pub(super) struct Heard {
    pub(super) stream: AudioStream,
    pub(super) rungs: Vec<PublishedRung>,
    pub(super) quality: AudioQuality,
}

pub(super) struct Shard {
    audio: Audio,
    channels: BTreeMap<u32, Channel>,
    clock: Clock,
    meters: Arc<Meters>,
    ticked: Timestamp,
    announced: Timestamp,
    /// Streams and listeners as they were last counted.
    counted: (usize, usize),
}

impl Shard {
    pub(super) fn new(audio: Audio, clock: Clock) -> Self {
        let now = clock.now();
        Self {
            audio,
            channels: BTreeMap::new(),
            clock,
            meters: Arc::new(Meters::new()),
            ticked: now,
            announced: now,
            counted: (0, 0),
        }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(TURN);
        loop {
            // Nothing to do and nothing to wait for costs nothing.
            let due = self.due().map(|due| self.clock.instant(due).into());
            tokio::select! {
                () = stop.cancelled() => return,
                taken = commands.recv_many(&mut batch, TURN) => if taken == 0 { return },
                () = sleep_until(due) => {}
            }
            let now = self.clock.now();
            for command in batch.drain(..) {
                self.take(command, now);
            }
            self.look(now);
        }
    }

    /// When something happens by itself.
    fn due(&self) -> Option<Timestamp> {
        if self.channels.is_empty() {
            return None;
        }
        let held = self.channels.values().filter_map(Channel::poll_timeout).min();
        let tick = self.ticked + TICK;
        Some(held.map_or(tick, |held| held.min(tick)))
    }

    fn take(&mut self, command: Command, now: Timestamp) {
        match command {
            Command::Packet { session, packet, came } => {
                let handle = packet.get(1..5).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
                match handle.and_then(|handle| self.channels.get_mut(&handle)) {
                    Some(channel) => channel.packet(session, packet, came, now),
                    None => self.meters.foreign.increment(1),
                }
            }
            Command::Report { session, report } => {
                if let Some(channel) = self.channels.get_mut(&report.handle) {
                    channel.report(session, &report, now);
                }
            }
            Command::Made(made) => {
                if let Some(channel) = self.channels.get_mut(&made.handle) {
                    channel.made(*made);
                }
            }
            Command::Publish(publish) => {
                let Publish { handle, stream, ladder, session, mailbox, seat, reply } = *publish;
                // Who has left meanwhile has left before this came.
                if seat.is_closed() {
                    return;
                }
                let channel = self.channel(handle, stream.clone());
                channel.changed(stream);
                let first = channel.publish(ladder, session, mailbox, now);
                // Who does not wait any more has left, which comes next.
                let _gone = reply.send((first, channel.shown()));
            }
            Command::Listen(listen) => {
                let Listen { handle, stream, who, pin, reply } = *listen;
                if who.seat.is_closed() {
                    return;
                }
                let channel = self.channel(handle, stream);
                let quality = channel.listen(who, pin, now);
                let heard = Heard { stream: channel.shown(), rungs: channel.ladder().rungs().to_vec(), quality };
                let _gone = reply.send(heard);
            }
            Command::Unlisten { handle, session } => {
                if let Some(channel) = self.channels.get_mut(&handle) {
                    channel.unlisten(session);
                }
            }
            Command::Leave { handle, session } => {
                if let Some(channel) = self.channels.get_mut(&handle) {
                    channel.leave(session, now);
                }
            }
            Command::Changed { handle, stream } => {
                if let Some(channel) = self.channels.get_mut(&handle) {
                    channel.changed(shown(&stream));
                    channel.announce();
                }
            }
            Command::Visit { handle, visit } => {
                if let Some(channel) = self.channels.get_mut(&handle) {
                    visit(channel, now);
                }
            }
        }
    }

    /// What time brings: frames that were waited for, ticks, ends.
    fn look(&mut self, now: Timestamp) {
        for channel in self.channels.values_mut() {
            if channel.poll_timeout().is_some_and(|at| at <= now) {
                channel.forward(now);
            }
        }
        if now.since(self.ticked) < TICK {
            return;
        }
        self.ticked = now;
        let announce = now.since(self.announced) >= ANNOUNCE;
        let mut ended = Vec::new();
        for (handle, channel) in &mut self.channels {
            channel.tick(now);
            if announce {
                channel.announce();
            }
            if channel.is_abandoned(now) {
                self.audio.abandoned(channel.id(), channel.audience().1);
            }
            if channel.is_over() || channel.is_idle() || channel.is_abandoned(now) {
                ended.push(*handle);
            }
        }
        for handle in ended {
            let Some(channel) = self.channels.remove(&handle) else { continue };
            if channel.is_over() || channel.is_abandoned(now) {
                self.audio.forget(channel.id());
                channel.end();
            }
        }
        if announce {
            self.announced = now;
            self.count();
        }
    }

    /// Other shards count theirs into the same gauges.
    fn count(&mut self) {
        let (streams, listeners) = self.counted;
        self.counted = (self.channels.len(), self.channels.values().map(Channel::listeners).sum());
        declared::audio_streams().increment(self.counted.0 as f64 - streams as f64);
        declared::audio_listeners().increment(self.counted.1 as f64 - listeners as f64);
    }

    fn channel(&mut self, handle: u32, stream: AudioStream) -> &mut Channel {
        let Self { channels, meters, audio, .. } = self;
        channels.entry(handle).or_insert_with(|| {
            let made = Made::new(handle, audio.shared.pool.clone(), audio.shard(handle).clone());
            Channel::new(handle, stream, made, Arc::clone(meters))
        })
    }
}

async fn sleep_until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
