//! A listener of a stream: what it is to be sent, and the way to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use veza_engine::audio::{Carrier, Controller, Ladder, Link, Listener, Offer, Served, Shape, Steps};
use veza_engine::{SessionKey, Timestamp};
use veza_proto::media::FRAME_MS;
use veza_proto::v1::{AudioQuality, AudioStream, QualityChanged, QualityPin, QualityReason, push};
use veza_proto::{Encoded, Transport, UserId};

use super::backlog::Backlog;
use super::made::Made;
use super::meters::Meters;
use super::seat::Seat;
use super::watch::{Fixed, Hearer};
use crate::hub::mailbox::{Letter, Mailbox};
use crate::telemetry::metrics as declared;
use crate::transport::{MediaSender, MediaSent};

/// A listener, with the way to it.
pub(super) struct Ear {
    pub(super) who: Who,
    pub(super) listener: Listener,
    /// While there is a publisher, or was.
    pub(super) controller: Option<Controller>,
    pub(super) pin: QualityPin,
    /// What the platform chose, above the network and the pin.
    pub(super) fixed: Option<Fixed>,
    since: Timestamp,
    /// Where it was when the network was last looked at.
    address: Option<SocketAddr>,
    backlog: Backlog,
    pub(super) told: Option<AudioQuality>,
}

/// Who listens.
pub(super) struct Who {
    pub(super) session: SessionKey,
    pub(super) user: UserId,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) seat: Arc<Seat>,
    pub(super) media: MediaSender,
    pub(super) transport: Transport,
}

impl Ear {
    pub(super) fn new(who: Who, pin: QualityPin, since: Timestamp) -> Self {
        let shape = Shape { rung: 0, packet_frames: 1, redundancy: 0 };
        let listener = Listener::new(shape);
        let address = who.media.path().address;
        let backlog = Backlog::default();
        Self { who, listener, controller: None, pin, fixed: None, since, address, backlog, told: None }
    }

    /// The stream has these rungs now.
    pub(super) fn climb(&mut self, ladder: &Ladder, stream: &AudioStream, now: Timestamp) {
        let Some(steps) = Steps::new(ladder, stream.profile()) else { return };
        match &mut self.controller {
            Some(controller) => controller.set_steps(steps, now),
            None => {
                let carrier = match self.who.transport {
                    Transport::WebTransport | Transport::Quic => Carrier::Datagrams,
                    Transport::WebSocket => Carrier::Stream,
                };
                let controller = Controller::new(steps, self.pin, carrier, now);
                self.listener = Listener::new(controller.shape());
                self.controller = Some(controller);
            }
        }
    }

    /// Sends a packet, behind those that wait. Whether the listener is still there.
    pub(super) fn give(&mut self, packet: &Bytes, at: Instant, meters: &Meters) -> bool {
        if self.backlog.is_empty() {
            match self.who.media.send(packet) {
                MediaSent::Sent => {
                    meters.sent.increment(1);
                    return true;
                }
                MediaSent::Gone => return false,
                MediaSent::Impossible => {
                    meters.impossible.increment(1);
                    return true;
                }
                MediaSent::Full => {}
            }
        }
        let dropped = self.backlog.push(packet.clone(), at);
        meters.late.increment(dropped);
        self.pump(meters)
    }

    /// Sends what waits, as far as the link takes it. Whether the listener is still there.
    pub(super) fn pump(&mut self, meters: &Meters) -> bool {
        while let Some(packet) = self.backlog.front() {
            match self.who.media.send(packet) {
                MediaSent::Sent => meters.sent.increment(1),
                MediaSent::Impossible => meters.impossible.increment(1),
                MediaSent::Full => return true,
                MediaSent::Gone => return false,
            }
            self.backlog.pop();
        }
        true
    }

    pub(super) fn tick(&mut self, handle: u32, made: &mut Made, meters: &Meters, now: Timestamp, at: Instant) {
        let Some(controller) = &mut self.controller else { return };
        let path = self.who.media.path();
        if path.address != self.address {
            self.address = path.address;
            controller.handle_new_path(now);
        }
        let link = Link {
            rtt: path.rtt.unwrap_or_default(),
            queue_age: self.backlog.age(at),
            queued_bytes: self.backlog.bytes(),
            sent_packets: path.packets_sent,
            lost_packets: path.packets_lost,
        };
        let decision = controller.tick(&link, now);
        if decision.flush {
            meters.flushed.increment(self.backlog.clear());
        }
        self.follow(made, now);
        let quality = self.quality(made.offer());
        // A probe's copies come and go with every tick; that it probes is said once.
        let settled = |quality: AudioQuality| {
            let probes = quality.reason() == QualityReason::Probe;
            if probes { AudioQuality { redundancy: 0, ..quality } } else { quality }
        };
        if self.told.map(settled) != Some(settled(quality)) {
            self.told = Some(quality);
            let changed = QualityChanged { handle, quality: Some(quality) };
            self.who.mailbox.whisper(Letter::Told(Encoded::push(push::Event::QualityChanged(changed))));
            declared::audio_quality_changes_total(quality.reason().as_str_name()).increment(1);
        }
    }

    /// Sends what was chosen from now on, by whom ever it was, or what there is instead.
    pub(super) fn follow(&mut self, made: &mut Made, now: Timestamp) {
        let Some(shape) = self.chosen(made.offer().ladder()) else { return };
        made.keep(self.listener.shape().rung, now);
        let rung = made.want(shape.rung, now).rung();
        self.listener.change(Shape { rung, ..shape });
    }

    /// `None` before anybody published.
    fn chosen(&self, ladder: &Ladder) -> Option<Shape> {
        let controller = self.controller.as_ref()?;
        Some(self.fixed.map_or_else(|| controller.shape(), |fixed| fixed.shape(ladder)))
    }

    pub(super) fn hearer(&self, offer: &Offer) -> Hearer {
        let (user, session, since_ms) = (self.who.user.clone(), self.who.session.0, self.since.as_millis());
        Hearer { user, session, since_ms, quality: self.quality(offer), is_fixed: self.fixed.is_some() }
    }

    /// What this listener is on its way to.
    pub(super) fn quality(&self, offer: &Offer) -> AudioQuality {
        let shape = self.chosen(offer.ladder()).unwrap_or(self.listener.shape());
        let served = offer.served(shape.rung);
        let reason = match &self.controller {
            _ if matches!(served, Served::Instead(_)) => QualityReason::Capacity,
            _ if self.fixed.is_some() => QualityReason::Choice,
            Some(controller) => controller.reason(),
            None => QualityReason::Start,
        };
        AudioQuality {
            rung: served.rung().into(),
            bits_per_second: offer.ladder().bits_of(served.rung()),
            packet_ms: u32::from(shape.packet_frames) * FRAME_MS,
            redundancy: shape.redundancy.into(),
            pin: self.pin.into(),
            reason: reason.into(),
        }
    }
}
