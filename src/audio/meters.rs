use metrics::{Counter, Histogram};

use crate::telemetry::metrics as declared;

/// What is counted per packet, looked up once.
#[derive(Debug)]
pub(super) struct Meters {
    pub(super) received: Counter,
    pub(super) malformed: Counter,
    pub(super) foreign: Counter,
    pub(super) sent: Counter,
    pub(super) late: Counter,
    pub(super) flushed: Counter,
    pub(super) impossible: Counter,
    pub(super) underruns: Counter,
    pub(super) forward: Histogram,
}

impl Meters {
    pub(super) fn new() -> Self {
        Self {
            received: declared::audio_packets_received_total(),
            malformed: declared::audio_packets_refused_total("malformed"),
            foreign: declared::audio_packets_refused_total("foreign"),
            sent: declared::audio_packets_sent_total(),
            late: declared::audio_packets_dropped_total("late"),
            flushed: declared::audio_packets_dropped_total("flushed"),
            impossible: declared::audio_packets_dropped_total("impossible"),
            underruns: declared::audio_underruns_total(),
            forward: declared::audio_forward_seconds(),
        }
    }
}
