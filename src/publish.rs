//! `veza publish`: a file becomes a live stream, in real time, as a microphone would send it.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use veza_client::proto::v1::client_frame::Command;
use veza_client::proto::v1::{AudioState, RefreshToken, SetPlaying, push};
use veza_client::{Error, PublishError};
use veza_sound::feed::Fed;
use veza_sound::source::SourceError;

mod air;
mod decoding;
mod screen;

use crate::reach::{Reach, ReachError};
use air::{Air, Show};
use decoding::Decoding;
use screen::Screen;

const SHOW_EVERY: Duration = Duration::from_secs(1);

/// Publish a file as a live stream: WAV, FLAC, MP3, Ogg-Vorbis, Ogg-Opus. The token comes from VEZA_TOKEN or a file; without
/// one the development login gives it.
#[derive(Debug, Clone, Args)]
pub struct PublishArgs {
    /// What to play; `-` is the standard input.
    pub file: PathBuf,
    /// The stream's id; it is made if there is none.
    #[arg(long)]
    pub stream: String,
    /// The title of a stream that is made; the file's name when left out.
    #[arg(long)]
    pub title: Option<String>,
    /// It is speech: 24 and 12 kb/s rather than 96 and 32. Ogg-Opus in frames of 20 ms is sent as it is.
    #[arg(long)]
    pub voice: bool,
    /// Begin again at the end, until Ctrl-C.
    #[arg(long)]
    pub again: bool,
    #[command(flatten)]
    pub reach: Reach,
}

/// Why it ended badly.
#[derive(Debug, thiserror::Error)]
pub enum PublishFailed {
    #[error(transparent)]
    Reach(#[from] ReachError),
    #[error("{path}: {why}")]
    Source { path: String, why: SourceError },
    #[error("the standard input cannot be played again")]
    Again,
    #[error(transparent)]
    Client(#[from] Error),
    #[error("{0}")]
    Displaced(String),
    #[error("somebody else ended the stream")]
    Over,
    #[error("the terminal is gone: {0}")]
    Terminal(#[from] std::io::Error),
}

/// Plays the file to its end, or until Ctrl-C, and ends the stream.
///
/// # Errors
/// See [`PublishFailed`].
pub async fn run(args: PublishArgs) -> Result<(), PublishFailed> {
    let (decoding, rungs) = Decoding::start(&args).await?;
    let reached = args.reach.open().await?;
    let mut show = Show::new(reached, &args, &rungs);
    let air = show.open().await?;
    let screen = Screen::new(std::io::stderr().is_terminal());
    screen.say(&format!("{} is on air: {}", args.stream, air::spoken(&rungs)))?;
    let publishing = Publishing { show, air, decoding, screen, asked: FuturesUnordered::new() };
    publishing.run().await
}

type Asked = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

struct Publishing {
    show: Show,
    air: Air,
    decoding: Decoding,
    screen: Screen,
    /// What the server was asked meanwhile; frames do not wait for its answers.
    asked: FuturesUnordered<Asked>,
}

impl Publishing {
    async fn run(mut self) -> Result<(), PublishFailed> {
        let mut tick = tokio::time::interval(SHOW_EVERY);
        // One for the whole time: one that is made anew does not know what came before it.
        let mut stopped = pin!(tokio::signal::ctrl_c());
        loop {
            let done = tokio::select! {
                fed = self.decoding.next() => match fed? {
                    Some(fed) => self.send(fed).await,
                    None => break,
                },
                pushed = self.air.pushes.next() => match pushed {
                    Ok(event) => {
                        self.hear(&event)?;
                        Ok(())
                    }
                    Err(ended) => Err(Error::Ended(ended)),
                },
                Some(answer) = self.asked.next() => {
                    answered(answer);
                    Ok(())
                }
                _ = tick.tick() => {
                    self.screen.show()?;
                    Ok(())
                }
                stopped = &mut stopped => {
                    stopped?;
                    break;
                }
            };
            let Err(lost) = done else { continue };
            tokio::select! {
                back = self.come_back(lost) => back?,
                stopped = &mut stopped => {
                    // The stream ends when the time is over for which it waits.
                    stopped?;
                    return Ok(());
                }
            }
        }
        self.air.publisher.end().await?;
        self.air.connection.bye().await;
        self.screen.say(&format!("{} is over", self.show.stream()))?;
        Ok(())
    }

    /// Sends what comes next when it is time for it.
    async fn send(&mut self, fed: Fed) -> Result<(), Error> {
        let frame = match fed {
            Fed::Frame(frame) => frame,
            Fed::Playing(playing) => {
                let set = SetPlaying { stream: self.show.stream().to_owned(), playing };
                self.ask(Command::SetPlaying(set));
                return Ok(());
            }
        };
        self.screen.count(frame.skipped + 1);
        self.air.send(frame).await
    }

    fn ask(&mut self, command: Command) {
        let connection = self.air.connection.clone();
        self.asked.push(Box::pin(async move { connection.command(command).await.map(drop) }));
    }

    fn hear(&mut self, event: &push::Event) -> Result<(), PublishFailed> {
        match event {
            push::Event::StreamChanged(changed) => {
                let Some(stream) = &changed.stream else { return Ok(()) };
                if stream.state() == AudioState::Ended {
                    return Err(PublishFailed::Over);
                }
                self.screen.listeners(stream.listeners);
            }
            push::Event::IngestReport(report) => {
                if let Err(PublishError::Displaced(why)) = self.air.publisher.follow(report) {
                    return Err(PublishFailed::Displaced(why));
                }
                self.screen.refused(&report.refusal)?;
            }
            push::Event::TokenExpiring(_) => {
                let (token, connection) = (self.show.token(), self.air.connection.clone());
                self.asked.push(Box::pin(async move {
                    let token = token.get().await?;
                    connection.command(Command::RefreshToken(RefreshToken { token })).await.map(drop)
                }));
            }
            push::Event::Closing(_)
            | push::Event::Reconnect(_)
            | push::Event::QualityChanged(_)
            | push::Event::Message(_)
            | push::Event::RoomResumed(_)
            | push::Event::RoomHead(_)
            | push::Event::RoomLagging(_)
            | push::Event::RoomEvicted(_)
            | push::Event::RoomChanged(_)
            | push::Event::ReceiptsChanged(_)
            | push::Event::PresenceChanged(_)
            | push::Event::TypingChanged(_) => {}
        }
        Ok(())
    }

    /// Comes back while the stream waits.
    async fn come_back(&mut self, lost: Error) -> Result<(), PublishFailed> {
        self.screen.say(&format!("{lost}; coming back"))?;
        self.asked.clear();
        let hold = Duration::from_millis(self.air.publisher.published().hold_ms.into());
        self.air = self.show.reopen(hold, lost).await?;
        self.screen.say("on air again")?;
        Ok(())
    }
}

/// What is played is not what the stream lives by, and a token that is not renewed ends the link in its time.
fn answered(answer: Result<(), Error>) {
    if let Err(error) = answer {
        tracing::debug!(%error, "the server did not do what it was asked meanwhile");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_well_formed() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            publish: PublishArgs,
        }
        <Cli as clap::CommandFactory>::command().debug_assert();
        let cli = <Cli as clap::Parser>::try_parse_from(["publish", "--stream", "show", "--voice", "-"]).unwrap();
        assert_eq!((cli.publish.voice, cli.publish.file), (true, PathBuf::from("-")));
        assert!(
            <Cli as clap::Parser>::try_parse_from(["publish", "a.wav"]).is_err(),
            "which stream it is must be said"
        );
    }
}
