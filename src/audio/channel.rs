//! One stream on this node: its publisher, its last frames, its listeners.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use veza_engine::audio::{Ingest, Ladder, Packet, Ready, Ring, Totals};
use veza_engine::{SessionKey, Timestamp};
use veza_proto::media::{FRAME_MS, MediaPacket};
use veza_proto::v1::{
    AudioQuality, AudioState, AudioStream, IngestReport, QualityPin, ReceiverReport, StreamChanged, push,
};
use veza_proto::{Encoded, UserId};

use super::ear::{Ear, Who};
use super::made::Made;
use super::meters::Meters;
use super::pool::MadeFrames;
use super::watch::{Fixed, Going, Hearer};
use super::window::Window;
use crate::hub::mailbox::{Letter, Mailbox};

/// How long a stream waits for a publisher who has gone.
pub(super) const HOLD: Duration = Duration::from_secs(30);

/// What a publisher is told whose place somebody else has taken.
const REPLACED: &str = "somebody else publishes this stream now";

/// A stream, with everybody who is at it here.
pub(super) struct Channel {
    handle: u32,
    stream: AudioStream,
    made: Made,
    ring: Ring,
    publisher: Option<Publisher>,
    /// When the last frame came, and the index after it.
    last: Option<(Timestamp, u32)>,
    /// Since when there is no publisher any more.
    silent_since: Option<Timestamp>,
    ears: Vec<Ear>,
    /// The most there were at once.
    peak: usize,
    /// While somebody publishes.
    window: Option<Window>,
    /// Packets that were made for the frame at hand.
    packets: Vec<(Packet, Option<Bytes>)>,
    /// What listeners were last told.
    told: Option<AudioStream>,
    meters: Arc<Meters>,
}

/// Who is sent a frame when: with the publisher's, or when its rung has been made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Published,
    Made,
}

struct Publisher {
    session: SessionKey,
    mailbox: Arc<Mailbox>,
    ingest: Ingest,
    reported: Totals,
    reported_at: Timestamp,
    /// Frames that are counted as lost in the window.
    lost: u64,
    /// Packets from others, in its name or before it took over.
    foreign: bool,
}

impl Channel {
    pub(super) fn new(handle: u32, stream: AudioStream, made: Made, meters: Arc<Meters>) -> Self {
        Self {
            handle,
            stream,
            made,
            ring: Ring::new(handle),
            publisher: None,
            last: None,
            silent_since: None,
            ears: Vec::new(),
            peak: 0,
            window: None,
            packets: Vec::new(),
            told: None,
            meters,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.stream.id
    }

    /// Everything that is offered.
    pub(super) fn ladder(&self) -> &Ladder {
        self.made.offer().ladder()
    }

    /// The stream as it is now.
    pub(super) fn shown(&self) -> AudioStream {
        AudioStream {
            on_air: self.publisher.is_some(),
            listeners: u32::try_from(self.ears.len()).unwrap_or(u32::MAX),
            ..self.stream.clone()
        }
    }

    /// Somebody goes on air, in the place of whoever was: the index of the next frame. It is where the clock would be if
    /// nobody had been away.
    pub(super) fn publish(
        &mut self,
        ladder: Ladder,
        session: SessionKey,
        mailbox: Arc<Mailbox>,
        now: Timestamp,
    ) -> u32 {
        if let Some(before) = self.publisher.take().filter(|before| before.session != session) {
            before.dismiss(self.handle);
        }
        let first = match self.last {
            None => 0,
            Some((at, next)) => {
                let away = now.since(at).as_millis() / u128::from(FRAME_MS);
                next.saturating_add(u32::try_from(away).unwrap_or(u32::MAX))
            }
        };
        let ingest = Ingest::new(ladder.clone(), first);
        let (reported, reported_at) = (Totals::default(), now);
        self.publisher = Some(Publisher { session, mailbox, ingest, reported, reported_at, lost: 0, foreign: false });
        self.silent_since = None;
        self.window.get_or_insert_with(|| Window::new(now));
        self.last.get_or_insert((now, first));
        if self.made.publish(ladder, self.stream.profile()) {
            let ladder = self.made.offer().ladder();
            self.ring.set_ladder(ladder);
            for ear in &mut self.ears {
                ear.climb(ladder, &self.stream, now);
            }
            let rungs = ladder.rungs().to_vec();
            self.tell(&push::Event::StreamChanged(StreamChanged { stream: Some(self.shown()), rungs }));
            self.told = Some(self.shown());
        }
        first
    }

    /// A packet of the publisher. What is ready goes out.
    pub(super) fn packet(&mut self, session: SessionKey, packet: Bytes, came: Instant, now: Timestamp) {
        let bytes = packet.len();
        let packet = match MediaPacket::read(packet) {
            Ok(packet) => packet,
            Err(_) => return self.meters.malformed.increment(1),
        };
        let Some(publisher) = self.publisher.as_mut().filter(|publisher| publisher.session == session) else {
            return self.meters.foreign.increment(1);
        };
        publisher.ingest.handle_packet(&packet, now);
        self.meters.received.increment(1);
        self.forward(now);
        let took = came.elapsed();
        self.meters.forward.record(took);
        if let Some(window) = &mut self.window {
            window.count_packet(bytes, took);
        }
    }

    /// Sends what is ready.
    pub(super) fn forward(&mut self, now: Timestamp) {
        while let Some(ready) = self.publisher.as_mut().and_then(|publisher| publisher.ingest.poll_ready(now)) {
            self.send(ready, now);
        }
    }

    /// When [`Channel::forward`] has something without a packet coming in.
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        self.publisher.as_ref()?.ingest.poll_timeout()
    }

    fn send(&mut self, ready: Ready, now: Timestamp) {
        let (index, level) = (ready.index, ready.level);
        self.last = Some((now, index + 1));
        self.made.feed(&ready, now);
        self.ring.push(ready);
        let bytes_out = self.give(index, Part::Published);
        if let Some(window) = &mut self.window {
            window.count_frame(level, bytes_out);
        }
    }

    /// Rungs of a frame that has been sent on the others.
    pub(super) fn made(&mut self, made: MadeFrames) {
        let index = made.index;
        if !self.made.take(made, &mut self.ring) {
            return;
        }
        let bytes_out = self.give(index, Part::Made);
        if let Some(window) = &mut self.window {
            window.count_made(bytes_out);
        }
    }

    /// Sends a frame to those whose part has come: how many bytes.
    fn give(&mut self, index: u32, part: Part) -> u64 {
        let at = Instant::now();
        let mut bytes_out = 0;
        let Self { ring, ears, packets, meters, made, .. } = self;
        let offer = made.offer();
        let is_any_running = offer.is_any_running();
        packets.clear();
        ears.retain_mut(|ear| {
            let awaits_made = is_any_running && ear.listener.awaits_made(index, |rung| offer.is_running(rung));
            if awaits_made != (part == Part::Made) {
                return true;
            }
            let Some(packet) = ear.listener.packet(index, ring) else { return ear.pump(meters) };
            let bytes = match packets.iter().find(|(of, _)| *of == packet) {
                Some((_, bytes)) => bytes.clone(),
                None => {
                    let bytes = ring.packet(packet);
                    packets.push((packet, bytes.clone()));
                    bytes
                }
            };
            match bytes {
                Some(bytes) => {
                    bytes_out += bytes.len() as u64;
                    ear.give(&bytes, at, meters)
                }
                None => ear.pump(meters),
            }
        });
        bytes_out
    }

    /// Somebody listens from now on. Who listens already goes on.
    pub(super) fn listen(&mut self, who: Who, pin: QualityPin, now: Timestamp) -> AudioQuality {
        self.ears.retain(|ear| ear.who.session != who.session);
        let mut ear = Ear::new(who, pin, now);
        ear.climb(self.made.offer().ladder(), &self.stream, now);
        ear.follow(&mut self.made, now);
        let quality = ear.quality(self.made.offer());
        ear.told = Some(quality);
        self.ears.push(ear);
        self.peak = self.peak.max(self.ears.len());
        quality
    }

    /// The session listens no more, and publishes no more.
    pub(super) fn leave(&mut self, session: SessionKey, now: Timestamp) {
        self.ears.retain(|ear| ear.who.session != session);
        if self.publisher.as_ref().is_some_and(|publisher| publisher.session == session) {
            self.publisher = None;
            self.silent_since = Some(now);
        }
    }

    pub(super) fn unlisten(&mut self, session: SessionKey) {
        self.ears.retain(|ear| ear.who.session != session);
    }

    pub(super) fn pin(&mut self, session: SessionKey, pin: QualityPin, now: Timestamp) -> Option<AudioQuality> {
        let ear = self.ears.iter_mut().find(|ear| ear.who.session == session)?;
        ear.pin = pin;
        if let Some(controller) = &mut ear.controller {
            controller.set_pin(pin, now);
        }
        ear.follow(&mut self.made, now);
        let quality = ear.quality(self.made.offer());
        ear.told = Some(quality);
        Some(quality)
    }

    pub(super) fn report(&mut self, session: SessionKey, report: &ReceiverReport, now: Timestamp) {
        let Some(ear) = self.ears.iter_mut().find(|ear| ear.who.session == session) else { return };
        self.meters.underruns.increment(u64::from(report.underruns));
        if let Some(controller) = &mut ear.controller {
            controller.handle_report(report, now);
        }
    }

    /// Everybody who listens, in no order.
    pub(super) fn hearers(&self) -> Vec<Hearer> {
        self.ears.iter().map(|ear| ear.hearer(self.made.offer())).collect()
    }

    /// How many listen, and the most there were at once.
    pub(super) fn audience(&self) -> (u32, u32) {
        let count = |ears| u32::try_from(ears).unwrap_or(u32::MAX);
        (count(self.ears.len()), count(self.peak))
    }

    /// The platform chooses what a user is sent, or leaves it to the network. One of the user's sessions, if there are any.
    pub(super) fn fix(&mut self, user: &UserId, fixed: Option<Fixed>, now: Timestamp) -> Option<Hearer> {
        let at = Instant::now();
        let mut found = None;
        for ear in self.ears.iter_mut().filter(|ear| ear.who.user == *user) {
            ear.fixed = fixed;
            ear.tick(self.handle, &mut self.made, &self.meters, now, at);
            found.get_or_insert_with(|| ear.hearer(self.made.offer()));
        }
        found
    }

    /// How it goes, while somebody publishes.
    pub(super) fn going(&mut self, now: Timestamp) -> Option<Going> {
        let window = self.window.as_mut().filter(|_| self.publisher.is_some())?;
        let mut qualities: Vec<(AudioQuality, u32)> = Vec::new();
        for ear in &self.ears {
            let AudioQuality { bits_per_second, packet_ms, redundancy, .. } = ear.quality(self.made.offer());
            let quality = AudioQuality { bits_per_second, packet_ms, redundancy, ..AudioQuality::default() };
            match qualities.iter_mut().find(|(known, _)| *known == quality) {
                Some((_, count)) => *count += 1,
                None => qualities.push((quality, 1)),
            }
        }
        let order =
            |quality: &AudioQuality| (quality.bits_per_second, u32::MAX - quality.packet_ms, quality.redundancy);
        qualities.sort_by_key(|(quality, _)| std::cmp::Reverse(order(quality)));
        Some(Going { seconds: window.read(now), qualities })
    }

    /// The record has changed.
    pub(super) fn changed(&mut self, stream: AudioStream) {
        self.stream = stream;
    }

    /// Looks at every listener's network, and tells what there is to tell.
    pub(super) fn tick(&mut self, now: Timestamp) {
        let at = Instant::now();
        for ear in &mut self.ears {
            ear.tick(self.handle, &mut self.made, &self.meters, now, at);
        }
        self.made.tick(now);
        if let Some(publisher) = &mut self.publisher {
            publisher.report(self.handle, now);
        }
        if let Some(window) = &mut self.window {
            window.turn(now);
            if let Some(publisher) = &mut self.publisher {
                let lost = publisher.ingest.totals().lost;
                window.count_lost(lost - publisher.lost);
                publisher.lost = lost;
            }
        }
    }

    /// Tells listeners and publisher how the stream is, if that is news.
    pub(super) fn announce(&mut self) {
        let shown = self.shown();
        if self.told.as_ref() == Some(&shown) {
            return;
        }
        self.tell(&push::Event::StreamChanged(StreamChanged { stream: Some(shown.clone()), rungs: Vec::new() }));
        self.told = Some(shown);
    }

    fn tell(&self, event: &push::Event) {
        let frame = Encoded::push(event.clone());
        for mailbox in self.ears.iter().map(|ear| &ear.who.mailbox) {
            mailbox.whisper(Letter::Told(frame.clone()));
        }
        if let Some(publisher) = &self.publisher {
            publisher.mailbox.whisper(Letter::Told(frame));
        }
    }

    /// The stream is over: everybody is told, and gives it up.
    pub(super) fn end(mut self) {
        self.stream.state = AudioState::Ended.into();
        self.announce();
        for ear in &self.ears {
            ear.who.seat.give_up(&self.stream.id);
        }
    }

    /// Nobody came back within the hold.
    pub(super) fn is_abandoned(&self, now: Timestamp) -> bool {
        self.silent_since.is_some_and(|since| now.since(since) >= HOLD)
    }

    pub(super) fn is_over(&self) -> bool {
        self.stream.state() == AudioState::Ended
    }

    /// Nobody is here, and nobody is waited for.
    pub(super) fn is_idle(&self) -> bool {
        self.ears.is_empty() && self.publisher.is_none() && self.silent_since.is_none()
    }

    pub(super) fn listeners(&self) -> usize {
        self.ears.len()
    }
}

impl Publisher {
    /// Says once a second what has become of its packets, while something happens to them.
    fn report(&mut self, handle: u32, now: Timestamp) {
        let totals = self.ingest.totals();
        if now.since(self.reported_at) < Duration::from_secs(1) || (totals == self.reported && !self.foreign) {
            return;
        }
        (self.reported, self.reported_at, self.foreign) = (totals, now, false);
        let refusal = totals.refusal.map(|refusal| refusal.sentence().to_owned()).unwrap_or_default();
        self.tell(IngestReport { refusal, ..report(handle, totals) });
    }

    /// Somebody else has its place.
    fn dismiss(self, handle: u32) {
        let report = report(handle, self.ingest.totals());
        self.tell(IngestReport { refusal: REPLACED.to_owned(), displaced: true, ..report });
    }

    fn tell(&self, report: IngestReport) {
        self.mailbox.whisper(Letter::Told(Encoded::push(push::Event::IngestReport(report))));
    }
}

fn report(handle: u32, totals: Totals) -> IngestReport {
    let Totals { frames, lost, recovered, late, refused, refusal: _ } = totals;
    IngestReport { handle, frames, lost, recovered, late, refused, ..IngestReport::default() }
}
