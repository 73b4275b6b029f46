use metrics::Counter;
use veza_proto::Lane;

use super::Transport;
use crate::telemetry::metrics as declared;

/// The counters of one kind of link, looked up once.
#[derive(Debug, Clone)]
pub(super) struct Meters {
    pub(super) accepted: Counter,
    frames_in: [Counter; 3],
    frames_out: [Counter; 3],
    bytes_in: Counter,
    bytes_out: Counter,
    pub(super) datagrams_in: Counter,
    pub(super) datagrams_out: Counter,
    pub(super) datagrams_full: Counter,
    pub(super) datagrams_too_large: Counter,
    pub(super) datagrams_malformed: Counter,
}

impl Meters {
    pub(super) fn new(transport: Transport) -> Self {
        let name = transport.label();
        let lanes = ["control", "chat", "bulk"];
        Self {
            accepted: declared::links_accepted_total(name),
            frames_in: lanes.map(|lane| declared::frames_received_total(name, lane)),
            frames_out: lanes.map(|lane| declared::frames_sent_total(name, lane)),
            bytes_in: declared::bytes_received_total(name),
            bytes_out: declared::bytes_sent_total(name),
            datagrams_in: declared::datagrams_received_total(name),
            datagrams_out: declared::datagrams_sent_total(name),
            datagrams_full: declared::datagrams_dropped_total(name, "full"),
            datagrams_too_large: declared::datagrams_dropped_total(name, "too_large"),
            datagrams_malformed: declared::datagrams_dropped_total(name, "malformed"),
        }
    }

    pub(super) fn received(&self, lane: Lane, bytes: usize) {
        self.frames_in[index(lane)].increment(1);
        self.bytes_in.increment(bytes as u64);
    }

    pub(super) fn sent(&self, lane: Lane, bytes: usize) {
        self.frames_out[index(lane)].increment(1);
        self.bytes_out.increment(bytes as u64);
    }
}

fn index(lane: Lane) -> usize {
    match lane {
        Lane::Control => 0,
        Lane::Chat => 1,
        Lane::Bulk(_) => 2,
    }
}
