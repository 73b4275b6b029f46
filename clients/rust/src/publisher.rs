//! Publishing a stream: frames of 20 ms, each at its time, with copies while the network loses.

use tokio::time::Instant;
use veza_proto::media::{MediaError, MediaFrame, MediaPacket};
use veza_proto::v1::client_frame::Command;
use veza_proto::v1::{EndStream, IngestReport, PublishStream, PublishedRung, StreamPublished, reply};

use crate::{Connection, Error};

mod copies;
mod pace;

use copies::Copies;
use pace::Pace;

/// A stream that is on air through one connection; its frames are Opus (RFC 6716), 20 ms each (docs/MEDIA.md). Who loses the
/// connection publishes again on the next one, within the hold that [`StreamPublished`] tells.
pub struct Publisher {
    connection: Connection,
    stream: String,
    published: StreamPublished,
    pace: Pace,
    copies: Copies,
}

/// Why a frame was not sent, or none will be taken any more.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Client(#[from] Error),
    #[error("this frame cannot be sent: {0}")]
    Frame(#[from] MediaError),
    /// Another session publishes the stream in our place; the server's sentence.
    #[error("{0}")]
    Displaced(String),
}

impl Publisher {
    /// Goes on air with these rungs, best first.
    ///
    /// # Errors
    /// Those of [`Connection::command`]: the stream must be there, not over, and the user's to publish.
    pub async fn start(connection: &Connection, stream: &str, rungs: Vec<PublishedRung>) -> Result<Self, Error> {
        let publish = PublishStream { stream: stream.to_owned(), rungs };
        let reply::Result::StreamPublished(published) = connection.command(Command::PublishStream(publish)).await?
        else {
            return Err(Error::Unexpected);
        };
        let (connection, stream) = (connection.clone(), stream.to_owned());
        // The server's clock of this stream begins with the first frame that it gets, so that nothing is early.
        let pace = Pace::new(Instant::now());
        Ok(Self { connection, stream, published, pace, copies: Copies::default() })
    }

    /// What the server said of it.
    pub fn published(&self) -> &StreamPublished {
        &self.published
    }

    /// Waits until it is time for the next 20 ms, and sends them: a frame of every rung, best first. `skipped` frames before
    /// are left out, as a source leaves them out; so is what is too late to be made up for. `level` is −dB below full scale,
    /// 127 for silence (RFC 6464).
    ///
    /// # Errors
    /// [`PublishError::Frame`]: too long for a datagram, and left out; [`PublishError::Client`]: the link has ended.
    pub async fn send(&mut self, skipped: u32, level: u8, frames: Vec<MediaFrame>) -> Result<(), PublishError> {
        let (at, due) = self.pace.next(skipped, Instant::now());
        tokio::time::sleep_until(due).await;
        let newest = self.published.first_index.saturating_add(at);
        let packet = |frames| MediaPacket { handle: self.published.handle, newest, level, fresh: 1, frames };
        for packet in self.copies.packets(packet(frames)) {
            self.connection.send_media(packet.write()?.slice(1..)).await?;
        }
        Ok(())
    }

    /// Follows what the server says became of the packets: what is lost on the way is sent twice.
    ///
    /// # Errors
    /// [`PublishError::Displaced`]: nothing that is sent here is taken any more.
    pub fn follow(&mut self, report: &IngestReport) -> Result<(), PublishError> {
        if report.displaced {
            return Err(PublishError::Displaced(report.refusal.clone()));
        }
        self.copies.follow(report);
        Ok(())
    }

    /// Goes off air when the last frame has had its time. The stream is over.
    ///
    /// # Errors
    /// Those of [`Connection::command`].
    pub async fn end(self) -> Result<(), Error> {
        tokio::time::sleep_until(self.pace.due()).await;
        self.connection.command(Command::EndStream(EndStream { stream: self.stream })).await?;
        Ok(())
    }
}
