//! The handles of the metrics that sessions touch for every frame, made once per transport.

use metrics::{Counter, Histogram};
use veza_proto::Lane;

use crate::telemetry::metrics as declared;
use crate::transport::Transport;

/// Handles for every transport.
pub struct Meters {
    webtransport: OfTransport,
    quic: OfTransport,
    websocket: OfTransport,
}

pub(super) struct OfTransport {
    received: ByLane,
    sent: ByLane,
    pub(super) bytes_received: Counter,
    pub(super) bytes_sent: Counter,
    pub(super) datagrams_received: Counter,
    pub(super) datagrams_sent: Counter,
    pub(super) delivered_by_datagram: Counter,
    pub(super) delivered_by_stream: Counter,
    pub(super) delivery: Histogram,
}

struct ByLane {
    control: Counter,
    chat: Counter,
    bulk: Counter,
}

impl Meters {
    pub fn new() -> Self {
        Self {
            webtransport: OfTransport::new(Transport::WebTransport),
            quic: OfTransport::new(Transport::Quic),
            websocket: OfTransport::new(Transport::WebSocket),
        }
    }

    pub(super) fn of(&self, transport: Transport) -> &OfTransport {
        match transport {
            Transport::WebTransport => &self.webtransport,
            Transport::Quic => &self.quic,
            Transport::WebSocket => &self.websocket,
        }
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}

impl OfTransport {
    fn new(transport: Transport) -> Self {
        let transport = transport.label();
        Self {
            received: ByLane::new(|lane| declared::frames_received_total(transport, lane)),
            sent: ByLane::new(|lane| declared::frames_sent_total(transport, lane)),
            bytes_received: declared::bytes_received_total(transport),
            bytes_sent: declared::bytes_sent_total(transport),
            datagrams_received: declared::datagrams_received_total(transport),
            datagrams_sent: declared::datagrams_sent_total(transport),
            delivered_by_datagram: declared::deliveries_total("datagram"),
            delivered_by_stream: declared::deliveries_total("stream"),
            delivery: declared::delivery_queue_seconds(),
        }
    }

    pub(super) fn received(&self, lane: Lane) -> &Counter {
        self.received.of(lane)
    }

    pub(super) fn sent(&self, lane: Lane) -> &Counter {
        self.sent.of(lane)
    }
}

impl ByLane {
    fn new(counter: impl Fn(&'static str) -> Counter) -> Self {
        Self { control: counter("control"), chat: counter("chat"), bulk: counter("bulk") }
    }

    fn of(&self, lane: Lane) -> &Counter {
        match lane {
            Lane::Control => &self.control,
            Lane::Chat => &self.chat,
            Lane::Bulk(_) => &self.bulk,
        }
    }
}
