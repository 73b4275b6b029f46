//! The stream and the connection that it is published through.

use std::time::Duration;

use veza_client::proto::v1::client_frame::Command;
use veza_client::proto::v1::{AudioProfile, CreateStream, ErrorCode, Hello, PublishedRung};
use veza_client::reconnect::{Next, after, backoff};
use veza_client::{Connection, Error, Options, PublishError, Publisher, Pushes, TokenSource};
use veza_sound::feed::{Frame, Rung};

use super::PublishArgs;
use crate::reach::Reached;
use crate::wire;

/// What goes on air, and where.
pub(super) struct Show {
    reached: Reached,
    create: CreateStream,
    rungs: Vec<PublishedRung>,
    /// What the last session was opened with.
    token: String,
}

/// A stream that is on air.
pub(super) struct Air {
    pub(super) connection: Connection,
    pub(super) pushes: Pushes,
    pub(super) publisher: Publisher,
}

impl Show {
    pub(super) fn new(reached: Reached, args: &PublishArgs, rungs: &[Rung]) -> Self {
        let profile = if args.voice { AudioProfile::Voice } else { AudioProfile::Music };
        let name = || args.file.file_stem().map(|name| name.to_string_lossy().into_owned());
        let title = args.title.clone().or_else(name).unwrap_or_else(|| args.stream.clone());
        let (stream, profile) = (args.stream.clone(), profile.into());
        let create = CreateStream { stream, title, profile, ..CreateStream::default() };
        Self { reached, create, rungs: wire::published(rungs), token: String::new() }
    }

    pub(super) fn stream(&self) -> &str {
        &self.create.stream
    }

    pub(super) fn token(&self) -> TokenSource {
        self.reached.token.clone()
    }

    /// Goes on air, in a session of its own.
    pub(super) async fn open(&mut self) -> Result<Air, Error> {
        let Reached { endpoints, target, token, preference } = &self.reached;
        self.token = token.get().await?;
        let client = concat!("veza-publish/", env!("CARGO_PKG_VERSION")).to_owned();
        let hello = Hello { token: self.token.clone(), client, ..Hello::default() };
        let options = Options { preference: *preference, ..Options::default() };
        let (connection, pushes) = Connection::open(endpoints, target, hello, &options).await?;
        match connection.command(Command::CreateStream(self.create.clone())).await {
            // Somebody else's, who may have named us for it.
            Err(error) if error.is(ErrorCode::AlreadyExists) => {}
            made => drop(made?),
        }
        let publisher = Publisher::start(&connection, self.stream(), self.rungs.clone()).await?;
        Ok(Air { connection, pushes, publisher })
    }

    /// Comes back after what was lost, as long as the stream waits.
    pub(super) async fn reopen(&mut self, hold: Duration, lost: Error) -> Result<Air, Error> {
        let deadline = tokio::time::Instant::now() + hold;
        let (mut error, mut attempt) = (lost, 0);
        loop {
            let not_before = match after(&error) {
                Next::Retry { not_before } => not_before,
                Next::NewToken if self.reached.token.get().await? != self.token => Duration::ZERO,
                Next::NewToken | Next::Stop { .. } => return Err(error),
            };
            let at = tokio::time::Instant::now() + not_before.max(backoff(attempt, rand::random()));
            if at > deadline {
                return Err(error);
            }
            tokio::time::sleep_until(at).await;
            error = match self.open().await {
                Ok(air) => return Ok(air),
                Err(error) => error,
            };
            attempt += 1;
        }
    }
}

impl Air {
    /// Sends a frame on every rung when it is time for it.
    pub(super) async fn send(&mut self, Frame { skipped, level, rungs }: Frame) -> Result<(), Error> {
        match self.publisher.send(skipped, level, wire::frames(rungs)).await {
            // It is left out, as if it were lost.
            Ok(()) | Err(PublishError::Frame(_) | PublishError::Displaced(_)) => Ok(()),
            Err(PublishError::Client(error)) => Err(error),
        }
    }
}

/// The rungs, for people.
pub(super) fn spoken(rungs: &[Rung]) -> String {
    let bits: Vec<_> = rungs.iter().map(|rung| (rung.bits_per_second / 1_000).to_string()).collect();
    format!("{} kb/s", bits.join(" and "))
}
