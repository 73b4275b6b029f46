//! Sound for tests: tones, files that hold them, and how high a tone is.

use ogg::writing::{PacketWriteEndInfo, PacketWriter};

use crate::opus::{Coding, Encoder, FRAME_SAMPLES};

/// A tone at half of full scale, interleaved.
pub fn tone(hertz: f64, rate: u32, channels: usize, seconds: f64) -> Vec<f32> {
    let samples = (f64::from(rate) * seconds) as usize;
    let sample = |at: usize| (at as f64 * hertz * std::f64::consts::TAU / f64::from(rate)).sin() as f32 * 0.5;
    (0..samples).flat_map(|at| std::iter::repeat_n(sample(at), channels)).collect()
}

/// How high a tone of 48 kHz is: zero crossings upwards of its first channel, a second.
pub fn frequency(samples: &[f32], channels: usize) -> f64 {
    let first: Vec<f32> = samples.iter().step_by(channels).copied().collect();
    let crossings: Vec<f64> = (1..first.len())
        .filter(|at| first[at - 1] < 0.0 && first[*at] >= 0.0)
        .map(|at| at as f64 - f64::from(first[at] / (first[at] - first[at - 1])))
        .collect();
    match crossings.as_slice() {
        [begin, .., end] => (crossings.len() - 1) as f64 * 48_000.0 / (end - begin),
        _ => 0.0,
    }
}

/// A WAV file of 16 bits.
pub fn wav(samples: &[f32], channels: u16, rate: u32) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|sample| ((sample * 32_767.0) as i16).to_le_bytes()).collect();
    let mut file = Vec::with_capacity(44 + data.len());
    file.extend(b"RIFF");
    file.extend((36 + data.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    file.extend(1_u16.to_le_bytes());
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend((rate * u32::from(channels) * 2).to_le_bytes());
    file.extend((channels * 2).to_le_bytes());
    file.extend(16_u16.to_le_bytes());
    file.extend(b"data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

/// Opus packets of 20 ms.
///
/// # Panics
/// When libopus does not work.
pub fn opus(samples: &[f32], channels: usize) -> Vec<Vec<u8>> {
    let coding = Coding { bits_per_second: 64_000, channels, voice: false, complexity: 5 };
    let mut encoder = Encoder::new(coding).expect("libopus works");
    let encode = |samples: &[f32]| {
        let mut packet = Vec::new();
        encoder.encode(samples, false, &mut packet).expect("a whole frame");
        packet
    };
    samples.chunks_exact(FRAME_SAMPLES * channels).map(encode).collect()
}

/// A link of an Ogg-Opus stream, with a page for every so many packets.
///
/// # Panics
/// Never: it writes to memory.
pub fn ogg_opus(serial: u32, channels: u8, comments: &[&str], packets: &[Vec<u8>], per_page: usize) -> Vec<u8> {
    let mut writer = PacketWriter::new(Vec::new());
    let head = [&b"OpusHead\x01"[..], &[channels, 0x38, 0x01, 0x80, 0xbb, 0, 0, 0, 0, 0]].concat();
    let text = |text: &str| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let comments: Vec<Vec<u8>> = comments.iter().map(|comment| text(comment)).collect();
    let tags = [b"OpusTags".to_vec(), text("tests"), (comments.len() as u32).to_le_bytes().to_vec(), comments.concat()];
    let mut write = |packet: Vec<u8>, end, granule| {
        writer.write_packet(packet, serial, end, granule).expect("memory takes it");
    };
    write(head, PacketWriteEndInfo::EndPage, 0);
    write(tags.concat(), PacketWriteEndInfo::EndPage, 0);
    let mut granule = 0;
    for (at, packet) in packets.iter().enumerate() {
        granule += crate::packet::samples(packet).unwrap_or_default() as u64;
        let end = if at + 1 == packets.len() {
            PacketWriteEndInfo::EndStream
        } else if (at + 1) % per_page == 0 {
            PacketWriteEndInfo::EndPage
        } else {
            PacketWriteEndInfo::NormalPacket
        };
        write(packet.clone(), end, granule);
    }
    writer.into_inner()
}
