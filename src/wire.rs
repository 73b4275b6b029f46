//! What `veza-sound` makes of a source, as the wire says it.

use veza_proto::media::MediaFrame;
use veza_proto::v1::PublishedRung;
use veza_sound::feed::{Coded, Rung};

/// The rungs that are announced.
pub(crate) fn published(rungs: &[Rung]) -> Vec<PublishedRung> {
    let rung = |rung: &Rung| PublishedRung {
        rung: rung.number.into(),
        bits_per_second: rung.bits_per_second,
        channels: rung.channels.into(),
    };
    rungs.iter().map(rung).collect()
}

/// 20 ms on every rung, as frames of a packet's own age.
pub(crate) fn frames(rungs: Vec<Coded>) -> Vec<MediaFrame> {
    let frame = |coded: Coded| MediaFrame {
        age: 0,
        rung: coded.rung,
        switch_point: coded.fresh,
        payload: coded.payload.into(),
    };
    rungs.into_iter().map(frame).collect()
}
