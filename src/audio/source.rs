//! Streams for publishers whose links speak no protocol of ours: the same asks, answered to who waits.

use veza_engine::streams::{WrongState, check_new_id};
use veza_proto::gateway::v1::{Stream, StreamProfile, StreamState};
use veza_proto::v1::{AudioState, AudioStream, Error, ErrorCode, Push, push, server_frame};

use super::Audio;
use super::asks::{Right, over};
use crate::hub::Caller;
use crate::hub::mailbox::Letter;

/// Why a publisher is one no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The stream is over.
    Ended,
    /// Somebody else publishes it.
    Replaced,
}

impl Audio {
    /// A stream that the caller may publish, made if there is none of this id.
    ///
    /// # Errors
    /// Those of `publish_stream` and `create_stream`; [`ErrorCode::AlreadyExists`] while somebody else is on air.
    pub async fn prepare(&self, caller: &Caller, id: &str, title: &str, about: &str) -> Result<AudioStream, Error> {
        check_new_id(id)?;
        let mine = |stream: &Stream, _: u64| {
            let ended = stream.state() == StreamState::Ended;
            if ended { Err(over(WrongState("this stream is over: another show is another stream"))) } else { Ok(None) }
        };
        let row = match self.change(caller, id, Right::Publish, mine).await {
            Err(error) if error.code() == ErrorCode::NotFound => {
                let stream = Stream {
                    id: id.to_owned(),
                    title: title.to_owned(),
                    description: about.to_owned(),
                    profile: StreamProfile::Music.into(),
                    ..Stream::default()
                };
                self.create(caller, stream).await?;
                self.change(caller, id, Right::Publish, mine).await?
            }
            found => found?,
        };
        let stream = self.as_it_is(&row.stream).await?;
        if stream.on_air {
            return Err(Error::permanent(
                ErrorCode::AlreadyExists,
                "the mount is in use: somebody publishes this stream",
            ));
        }
        Ok(stream)
    }
}

impl Lost {
    /// What a letter says of its reader, who publishes no more.
    pub fn told_by(letter: &Letter) -> Option<Self> {
        let Letter::Told(frame) = letter else { return None };
        let frame = frame.frame();
        let Some(server_frame::Frame::Push(Push { event: Some(event) })) = &frame.frame else { return None };
        if let push::Event::IngestReport(report) = event {
            return report.displaced.then_some(Self::Replaced);
        }
        let push::Event::StreamChanged(changed) = event else { return None };
        let is_over = changed.stream.as_ref().is_some_and(|stream| stream.state() == AudioState::Ended);
        is_over.then_some(Self::Ended)
    }
}
