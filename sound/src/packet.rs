//! Opus packets from outside (RFC 6716, section 3): how long they are, and what frames they hold.

use crate::opus::FRAME_SAMPLES;

/// The longest packet there is: 120 ms at 48 kHz.
pub const PACKET_SAMPLES_MAX: usize = 5_760;

/// What is to be done with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packing {
    /// It is 20 ms: a frame of ours as it is.
    Frame,
    /// Several frames of 20 ms each, taken apart without decoding any.
    Frames(Vec<Vec<u8>>),
    /// Of frames with other lengths: to be decoded.
    Other,
}

/// Samples of a packet, per channel; `None` for what is no packet.
pub fn samples(packet: &[u8]) -> Option<usize> {
    let frames = match packet.first()? & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => usize::from(packet.get(1)? & 0x3f),
    };
    let samples = frames * frame_samples(packet[0]);
    (1..=PACKET_SAMPLES_MAX).contains(&samples).then_some(samples)
}

/// How a packet is made; `None` for what is none.
pub(crate) fn packing(packet: &[u8]) -> Option<Packing> {
    let samples = samples(packet)?;
    if samples == FRAME_SAMPLES {
        return Some(Packing::Frame);
    }
    if frame_samples(packet[0]) != FRAME_SAMPLES {
        return Some(Packing::Other);
    }
    // A frame alone has the same table of contents, with a count of one.
    let single = |frame: &&[u8]| [&[packet[0] & !3][..], frame].concat();
    Some(Packing::Frames(frames(packet)?.iter().map(single).collect()))
}

/// Samples of one frame, by the table of contents (table 2).
fn frame_samples(toc: u8) -> usize {
    let config = toc >> 3;
    match config {
        0..12 => [480, 960, 1_920, 2_880][usize::from(config & 3)],
        12..16 => [480, 960][usize::from(config & 1)],
        _ => [120, 240, 480, 960][usize::from(config & 3)],
    }
}

/// The frames of a packet, without their lengths (sections 3.2.2 to 3.2.5).
fn frames(packet: &[u8]) -> Option<Vec<&[u8]>> {
    let (toc, rest) = packet.split_first()?;
    match toc & 3 {
        0 => Some(vec![rest]),
        1 => equal(rest, 2),
        2 => {
            let (first, rest) = length(rest)?;
            Some(vec![rest.get(..first)?, rest.get(first..)?])
        }
        _ => {
            let (how, mut rest) = rest.split_first()?;
            let count = usize::from(how & 0x3f);
            if how & 0x40 != 0 {
                let mut padding = 0;
                loop {
                    let (more, after) = rest.split_first()?;
                    rest = after;
                    padding += usize::from(*more) - usize::from(*more == 255);
                    if *more != 255 {
                        break;
                    }
                }
                rest = rest.get(..rest.len().checked_sub(padding)?)?;
            }
            if how & 0x80 == 0 {
                return equal(rest, count);
            }
            let mut lengths = Vec::with_capacity(count);
            for _ in 1..count {
                let (bytes, after) = length(rest)?;
                lengths.push(bytes);
                rest = after;
            }
            let mut frames = Vec::with_capacity(count);
            for bytes in lengths {
                let (frame, after) = rest.split_at_checked(bytes)?;
                frames.push(frame);
                rest = after;
            }
            frames.push(rest);
            Some(frames)
        }
    }
}

fn equal(bytes: &[u8], count: usize) -> Option<Vec<&[u8]>> {
    if count == 0 || !bytes.len().is_multiple_of(count) {
        return None;
    }
    if bytes.is_empty() {
        return Some(vec![bytes; count]);
    }
    Some(bytes.chunks(bytes.len() / count).collect())
}

/// A frame's length, and what follows it (section 3.2.1).
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first < 252 {
        return Some((usize::from(*first), rest));
    }
    let (second, rest) = rest.split_first()?;
    Some((usize::from(*first) + 4 * usize::from(*second), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CELT, full band, stereo, 20 ms.
    const TOC: u8 = 0xfc;

    #[test]
    fn lengths_of_packets() {
        assert_eq!(samples(&[]), None);
        assert_eq!(samples(&[TOC]), Some(960));
        assert_eq!(samples(&[TOC | 1]), Some(1_920));
        assert_eq!(samples(&[TOC | 3, 3]), Some(2_880));
        assert_eq!((samples(&[TOC | 3, 6]), samples(&[TOC | 3, 7])), (Some(5_760), None), "120 ms at most");
        assert_eq!((samples(&[TOC | 3, 0]), samples(&[TOC | 3])), (None, None));
        // SILK of 60 ms, hybrid of 10 ms, CELT of 2.5 ms.
        assert_eq!((samples(&[0x18]), samples(&[0x60]), samples(&[0x80])), (Some(2_880), Some(480), Some(120)));
    }

    #[test]
    fn packets_of_several_frames_are_taken_apart() {
        let one = |payload: &[u8]| [&[TOC][..], payload].concat();
        let apart = |packet: &[u8]| match packing(packet) {
            Some(Packing::Frames(frames)) => Some(frames),
            Some(Packing::Frame | Packing::Other) | None => None,
        };
        assert_eq!(apart(&[TOC | 1, 1, 2, 3, 4]), Some(vec![one(&[1, 2]), one(&[3, 4])]));
        assert_eq!(apart(&[TOC | 1, 1, 2, 3]), None, "two equal halves");
        assert_eq!(apart(&[TOC | 2, 1, 9, 8, 7]), Some(vec![one(&[9]), one(&[8, 7])]));
        assert_eq!(apart(&[TOC | 2, 5, 9]), None);
        assert_eq!(apart(&[TOC | 3, 3, 1, 2, 3]), Some(vec![one(&[1]), one(&[2]), one(&[3])]));
        assert_eq!(apart(&[TOC | 3, 0x83, 1, 2, 7, 8, 8, 9]), Some(vec![one(&[7]), one(&[8, 8]), one(&[9])]));
        assert_eq!(apart(&[TOC | 3, 0x43, 2, 1, 2, 3, 0, 0]), Some(vec![one(&[1]), one(&[2]), one(&[3])]), "padded");
        assert_eq!(apart(&[TOC | 3, 0x43, 200, 1, 2, 3]), None, "more padding than packet");
        let long = [&[TOC | 2, 252, 1][..], &[5; 256], &[6; 3]].concat();
        assert_eq!(apart(&long), Some(vec![one(&[5; 256]), one(&[6; 3])]));
    }

    #[test]
    fn what_is_twenty_milliseconds_stays_and_the_rest_is_decoded() {
        assert_eq!(packing(&[TOC, 1, 2]), Some(Packing::Frame));
        // Two frames of 10 ms are 20 ms.
        assert_eq!(packing(&[0xf5, 1, 2]), Some(Packing::Frame));
        assert_eq!(packing(&[0x18, 1]), Some(Packing::Other), "SILK of 60 ms is one frame");
        assert_eq!(packing(&[]), None);
    }
}
