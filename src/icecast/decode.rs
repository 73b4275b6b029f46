//! From a source's bytes to frames, on a thread of its own: decoders read, and wait for what they read.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use veza_sound::feed::{Fed, Feed, Rung, Wanted};
use veza_sound::source::SourceError;

/// Pieces of the body that wait to be decoded.
const PIECES_MAX: usize = 8;
/// Frames that wait to be due: a second and more. Then nothing more is decoded, and then nothing more is read.
const FRAMES_MAX: usize = 64;

/// The ends of a decoder's thread.
pub(super) struct Decoding {
    pub(super) bytes: mpsc::Sender<Bytes>,
    /// What is sent, once that is known.
    pub(super) opened: oneshot::Receiver<Opened>,
    pub(super) fed: mpsc::Receiver<Result<Fed, SourceError>>,
}

/// What a source turned out to be.
pub(super) struct Opened {
    pub(super) rungs: Vec<Rung>,
    /// Whether frames go on as they came.
    pub(super) passes: bool,
}

/// The work for the thread, and what it is connected to.
pub(super) fn decoding(wanted: Wanted) -> (Decoding, impl FnOnce() + Send + 'static) {
    let (bytes, pieces) = mpsc::channel(PIECES_MAX);
    let (open, opened) = oneshot::channel();
    let (feed, fed) = mpsc::channel(FRAMES_MAX);
    let reader = Pieces { pieces, at_hand: Bytes::new() };
    (Decoding { bytes, opened, fed }, move || decode(reader, wanted, open, &feed))
}

/// Until the source ends, or nobody wants its frames any more.
fn decode(reader: Pieces, wanted: Wanted, open: oneshot::Sender<Opened>, fed: &mpsc::Sender<Result<Fed, SourceError>>) {
    let mut feed = match Feed::open(reader, wanted) {
        Ok(feed) => feed,
        Err(error) => {
            let _nobody_asks = fed.blocking_send(Err(error));
            return;
        }
    };
    if open.send(Opened { rungs: feed.rungs().to_vec(), passes: feed.passes() }).is_err() {
        return;
    }
    while let Some(next) = feed.next_fed().transpose() {
        let is_over = next.is_err();
        if fed.blocking_send(next).is_err() || is_over {
            return;
        }
    }
}

/// Pieces that arrive, read one after the other.
struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    at_hand: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at_hand.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.at_hand = piece,
                None => return Ok(0),
            }
        }
        let taken = self.at_hand.split_to(buffer.len().min(self.at_hand.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}
