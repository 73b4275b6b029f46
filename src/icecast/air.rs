//! A source on air: its bytes go to the decoder as fast as frames are due, its frames to the shard.

use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use veza_engine::audio::Ladder;
use veza_proto::CloseCode;
use veza_proto::media::MediaPacket;
use veza_proto::v1::StreamPublished;
use veza_sound::feed::{Fed, Frame};
use veza_sound::source::SourceError;

use super::answer::Answer;
use super::body::Body;
use super::decode::{Decoding, Opened};
use super::pace::Pace;
use crate::audio::{Audio, Lost};
use crate::hub::mailbox::{Letter, Order};
use crate::session::guest::Guest;
use crate::wire;

/// A source that sends nothing for so long has gone.
pub(super) const SILENT_MAX: Duration = Duration::from_secs(10);
/// From the first byte to sound.
pub(super) const OPEN_WITHIN: Duration = Duration::from_secs(15);
/// What is read at a time.
const READ_BYTES: usize = 8 * 1024;

/// How a source came to its end.
#[derive(Debug)]
pub(super) enum End {
    /// It said so, or its body was complete.
    Over,
    /// The connection ended in the middle.
    Gone,
    /// It sent nothing, or nothing that sounds, for too long.
    Slow,
    Damaged(SourceError),
    Unplayable(SourceError),
    /// From our side.
    Stopped(Stop),
    /// It may not go on air after all.
    Refused(veza_proto::v1::Error),
}

/// Why a source may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The stream is over.
    Ended,
    /// Somebody else publishes it.
    Replaced,
    /// What it showed has expired.
    Expired,
    /// With the close that a session would have had.
    Closed(CloseCode),
}

impl End {
    /// As metrics say it.
    pub(super) fn label(&self) -> &'static str {
        match self {
            End::Over => "over",
            End::Gone => "gone",
            End::Slow => "slow",
            End::Damaged(_) => "damaged",
            End::Unplayable(_) => "unplayable",
            End::Stopped(_) | End::Refused(_) => "stopped",
        }
    }

    /// What the place among the sessions is left with.
    pub(super) fn code(&self) -> CloseCode {
        match self {
            End::Stopped(Stop::Closed(code)) => *code,
            End::Stopped(Stop::Expired) => CloseCode::Unauthenticated,
            End::Over | End::Gone | End::Slow | End::Damaged(_) | End::Unplayable(_) => CloseCode::Normal,
            End::Stopped(Stop::Ended | Stop::Replaced) | End::Refused(_) => CloseCode::Normal,
        }
    }
}

impl From<End> for Answer {
    fn from(end: End) -> Self {
        match end {
            End::Over => Self::new(200, "the source has ended"),
            End::Gone => Self::new(400, "the source's connection ended in the middle"),
            End::Slow => Self::new(408, "the source sent no sound for too long"),
            End::Damaged(error) => Self::new(400, format!("what the source sends: {error}")),
            End::Unplayable(error) => Self::new(415, format!("what the source sends: {error}")),
            End::Stopped(Stop::Ended) => Self::new(410, "the stream is over"),
            End::Stopped(Stop::Replaced) => Self::new(403, "somebody else publishes this stream now"),
            End::Stopped(Stop::Expired) => Self::new(401, "what the source showed has expired"),
            End::Stopped(Stop::Closed(CloseCode::Draining)) => Self::later(503, "the server goes away: come back", 2),
            End::Stopped(Stop::Closed(CloseCode::Revoked)) => Self::new(401, "what the source showed was revoked"),
            End::Stopped(Stop::Closed(_)) => Self::new(403, "access has ended"),
            End::Refused(error) => Self::from(error),
        }
    }
}

/// A source that was let in.
pub(super) struct Air<'a> {
    pub(super) audio: &'a Audio,
    pub(super) guest: &'a Guest,
    pub(super) stream: &'a str,
    /// Until what it showed ends.
    pub(super) left: Duration,
}

impl Air<'_> {
    /// Sends a source's sound until it ends.
    ///
    /// `early` is what came of the body with its head.
    pub(super) async fn run(
        &self,
        reader: impl AsyncRead + Unpin,
        early: BytesMut,
        body: Body,
        decoding: Decoding,
    ) -> End {
        let Decoding { bytes, opened, mut fed } = decoding;
        let ends_anywhere = body.ends_anywhere();
        let pump = pump(reader, early, body, bytes);
        let sound = self.sound(opened, &mut fed);
        let (mut pump, mut sound) = (pin!(pump), pin!(sound));
        let mut stopped = pin!(self.stopped());
        let mut pumped = None;
        let ended = loop {
            tokio::select! {
                biased;
                stopped = stopped.as_mut() => return stopped,
                ended = sound.as_mut() => break ended,
                end = pump.as_mut(), if pumped.is_none() => {
                    if matches!(end, End::Slow) {
                        return end;
                    }
                    // What was sent is played to its end.
                    pumped = Some(end);
                }
            }
        };
        match (ended, pumped) {
            // Sound that breaks off says less than a connection that does.
            (End::Damaged(SourceError::Truncated), Some(End::Over)) if ends_anywhere => End::Gone,
            (End::Over | End::Damaged(SourceError::Truncated), Some(end)) if !matches!(end, End::Over) => end,
            (ended, _) => ended,
        }
    }

    /// Frames as they are due.
    async fn sound(
        &self,
        opened: tokio::sync::oneshot::Receiver<Opened>,
        fed: &mut mpsc::Receiver<Result<Fed, SourceError>>,
    ) -> End {
        let opened = match tokio::time::timeout(OPEN_WITHIN, opened).await {
            Err(_elapsed) => return End::Slow,
            Ok(Ok(opened)) => opened,
            // The thread says why it ended, or was ended with a panic.
            Ok(Err(_)) => return fed.recv().await.and_then(Result::err).map_or(End::Gone, failed),
        };
        let published = match self.publish(&opened).await {
            Ok(published) => published,
            Err(error) => return End::Refused(error),
        };
        let mut pace = Pace::new(published.first_index, Instant::now());
        while let Some(next) = fed.recv().await {
            match next {
                Ok(Fed::Frame(frame)) => {
                    let (index, due) = pace.place(frame.skipped, Instant::now());
                    tokio::time::sleep_until(due.into()).await;
                    self.send(published.handle, index, frame);
                }
                Ok(Fed::Playing(playing)) => self.playing(&playing).await,
                Err(error) => return failed(error),
            }
        }
        End::Over
    }

    async fn publish(&self, opened: &Opened) -> Result<StreamPublished, veza_proto::v1::Error> {
        let ladder = Ladder::parse(wire::published(&opened.rungs))?;
        let published = self.audio.publish(self.guest.caller(), self.guest.seat(), self.stream, ladder).await?;
        tracing::info!(stream = self.stream, passes = opened.passes, "a source is on air");
        Ok(published)
    }

    fn send(&self, handle: u32, index: u32, frame: Frame) {
        let Frame { level, rungs, .. } = frame;
        let packet = MediaPacket { handle, newest: index, level, fresh: 1, frames: wire::frames(rungs) };
        match packet.write() {
            Ok(packet) => self.audio.packet(self.guest.caller().session, packet.slice(1..), Instant::now()),
            Err(error) => tracing::debug!(%error, "a source's frame is not sent"),
        }
    }

    async fn playing(&self, playing: &str) {
        if let Err(error) = self.audio.set_playing(self.guest.caller(), self.stream, playing).await {
            tracing::debug!(stream = self.stream, code = ?error.code(), "what is played could not be said");
        }
    }

    /// Until it may not go on.
    async fn stopped(&self) -> End {
        let (mut until, mut then) = (tokio::time::Instant::now() + self.left, Stop::Expired);
        let stop = loop {
            let Ok(letter) = tokio::time::timeout_at(until, self.guest.letter()).await else { break then };
            match Lost::told_by(&letter) {
                Some(Lost::Ended) => break Stop::Ended,
                Some(Lost::Replaced) => break Stop::Replaced,
                None => {}
            }
            let Letter::Order(order) = letter else { continue };
            match *order {
                Order::Close { code, .. } => break Stop::Closed(code),
                Order::Drain { after } => {
                    let leave = tokio::time::Instant::now() + after;
                    if leave < until {
                        (until, then) = (leave, Stop::Closed(CloseCode::Draining));
                    }
                }
            }
        };
        End::Stopped(stop)
    }
}

fn failed(error: SourceError) -> End {
    match error {
        SourceError::Read(_) => End::Gone,
        SourceError::Truncated | SourceError::Malformed(_) => End::Damaged(error),
        SourceError::Unsupported(_) | SourceError::Opus(_) => End::Unplayable(error),
    }
}

/// Gives the decoder what arrives, when it has room.
async fn pump(
    mut reader: impl AsyncRead + Unpin,
    mut buffer: BytesMut,
    mut body: Body,
    bytes: mpsc::Sender<Bytes>,
) -> End {
    loop {
        loop {
            match body.take(&mut buffer) {
                Ok(Some(piece)) => {
                    if bytes.send(piece).await.is_err() {
                        // The decoder says why.
                        return std::future::pending().await;
                    }
                }
                Ok(None) => break,
                Err(_) => return End::Damaged(SourceError::Malformed("the body's chunks do not follow one another")),
            }
        }
        if body.is_over() {
            return End::Over;
        }
        buffer.reserve(READ_BYTES);
        match tokio::time::timeout(SILENT_MAX, reader.read_buf(&mut buffer)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) if body.ends_anywhere() => return End::Over,
            Ok(Ok(0) | Err(_)) => return End::Gone,
            Err(_elapsed) => return End::Slow,
        }
    }
}
