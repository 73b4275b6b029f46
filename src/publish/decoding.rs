//! The file, decoded and encoded on a thread of its own: what it takes must not hold up what is sent.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, oneshot};
use veza_sound::feed::{Fed, Feed, Rung, Wanted};
use veza_sound::source::SourceError;

use super::{PublishArgs, PublishFailed};

/// Frames that are made ahead: half a second.
const AHEAD: usize = 25;
const STDIN: &str = "-";

/// What comes of the file.
pub(super) struct Decoding {
    path: PathBuf,
    fed: mpsc::Receiver<Result<Option<Fed>, SourceError>>,
}

impl Decoding {
    /// Begins to decode, and waits until it is known which rungs there are.
    pub(super) async fn start(args: &PublishArgs) -> Result<(Self, Vec<Rung>), PublishFailed> {
        if args.again && args.file == Path::new(STDIN) {
            return Err(PublishFailed::Again);
        }
        let (sender, fed) = mpsc::channel(AHEAD);
        let (opened, rungs) = oneshot::channel();
        let file = Playing { path: args.file.clone(), wanted: Wanted::usual(args.voice), again: args.again };
        std::thread::spawn(move || file.play(opened, &sender));
        let decoding = Self { path: args.file.clone(), fed };
        match rungs.await.unwrap_or(Err(BROKEN)) {
            Ok(rungs) => Ok((decoding, rungs)),
            Err(why) => Err(decoding.failed(why)),
        }
    }

    /// What comes next; `None` at the end. Nothing is lost when it is not waited for.
    pub(super) async fn next(&mut self) -> Result<Option<Fed>, PublishFailed> {
        let fed = self.fed.recv().await.unwrap_or(Err(BROKEN));
        fed.map_err(|why| self.failed(why))
    }

    fn failed(&self, why: SourceError) -> PublishFailed {
        PublishFailed::Source { path: self.path.display().to_string(), why }
    }
}

/// The thread is gone without having said why.
const BROKEN: SourceError = SourceError::Unsupported("decoding it failed");

struct Playing {
    path: PathBuf,
    wanted: Wanted,
    again: bool,
}

impl Playing {
    /// Gives out everything, until the end or until nobody waits for it any more.
    fn play(
        self,
        opened: oneshot::Sender<Result<Vec<Rung>, SourceError>>,
        fed: &mpsc::Sender<Result<Option<Fed>, SourceError>>,
    ) {
        let mut feed = match self.open() {
            Ok(feed) => feed,
            Err(why) => return drop(opened.send(Err(why))),
        };
        if opened.send(Ok(feed.rungs().to_vec())).is_err() {
            return;
        }
        loop {
            let next = match feed.next_fed() {
                Ok(None) if self.again => match self.open() {
                    Ok(from_its_beginning) => {
                        feed = from_its_beginning;
                        continue;
                    }
                    Err(why) => Err(why),
                },
                next => next,
            };
            let is_last = !matches!(next, Ok(Some(_)));
            if fed.blocking_send(next).is_err() || is_last {
                return;
            }
        }
    }

    fn open(&self) -> Result<Feed, SourceError> {
        let reader: Box<dyn Read + Send + Sync> =
            if self.path == Path::new(STDIN) { Box::new(std::io::stdin()) } else { Box::new(File::open(&self.path)?) };
        Feed::open(reader, self.wanted.clone())
    }
}
