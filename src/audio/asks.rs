//! What sessions ask about streams: the record decides, then the shard is told.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use veza_engine::audio::{AudioAsk, Ladder};
use veza_engine::ledger::{Actor, Settings, Write, not_found};
use veza_engine::room::unavailable;
use veza_engine::session::place_after;
use veza_engine::streams::{self, ROOM_PREFIX, Sight, Viewer};
use veza_engine::{Answer, Ask};
use veza_proto::gateway::v1::{Effects, NowPlaying, Stream, StreamProfile, StreamState};
use veza_proto::v1::{
    Action, AudioProfile, AudioStream, Error, ErrorCode, Listening, PlayingSet, QualityPin, QualitySet, RoomKind,
    StreamCreated, StreamEnded, StreamList, StreamPublished, Unlistened, reply,
};
use veza_proto::{RoomId, UserId};

use super::Audio;
use super::channel::HOLD;
use super::ear::Who;
use super::seat::Seat;
use super::shard::{Command, Heard, Listen, Publish};
use super::show::shown;
use crate::hub::{Call, Caller};
use crate::store::StoreError;
use crate::store::desk::{Live, StreamRow};
use crate::transport::MediaSender;

/// A record that somebody else changes meanwhile is looked at again: at most so often.
const ATTEMPTS_MAX: u32 = 5;
/// How often a listener reports.
const REPORT_MS: u32 = 250;

type Answered = Result<reply::Result, Error>;

/// What somebody needs who is not its owner, nor administers its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    Steer,
    /// Is named as a publisher.
    Publish,
}

impl Audio {
    pub(super) async fn answer(
        &self,
        caller: &Caller,
        seat: &Arc<Seat>,
        ask: AudioAsk,
        media: MediaSender,
    ) -> Answered {
        match ask {
            AudioAsk::List { after, limit } => self.list(caller, after, limit).await,
            AudioAsk::Create { stream, title, description, profile } => {
                let stream =
                    Stream { id: stream, title, description, profile: profile_of(profile).into(), ..Stream::default() };
                self.create(caller, stream).await
            }
            AudioAsk::Publish { stream, ladder } => {
                self.publish(caller, seat, &stream, ladder).await.map(reply::Result::StreamPublished)
            }
            AudioAsk::End { stream } => self.end(caller, &stream).await,
            AudioAsk::SetPlaying { stream, playing } => {
                self.set_playing(caller, &stream, &playing).await.map(|()| reply::Result::PlayingSet(PlayingSet {}))
            }
            AudioAsk::Listen { stream, pin } => self.listen(caller, seat, &stream, pin, media).await,
            AudioAsk::Unlisten { stream } => {
                let handle = seat.give_up(&stream).ok_or_else(not_listening)?;
                self.send(handle, Command::Unlisten { handle, session: caller.session }).await?;
                Ok(reply::Result::Unlistened(Unlistened {}))
            }
            AudioAsk::SetQuality { stream, pin } => {
                seat.handle(&stream).ok_or_else(not_listening)?;
                let session = caller.session;
                let pinned = self.visit(&stream, move |channel, now| channel.pin(session, pin, now)).await?;
                let quality = pinned.flatten().ok_or_else(not_listening)?;
                Ok(reply::Result::QualitySet(QualitySet { quality: Some(quality) }))
            }
            AudioAsk::Report(_) => unreachable!("reports are told, not asked"),
        }
    }

    async fn list(&self, caller: &Caller, after: Option<(u64, String)>, limit: u32) -> Answered {
        let which = Live { viewer: Some(String::from(&caller.user)), after, ..Live::default() };
        let rows = self.shared.desk.live(&which, limit + 1).await.map_err(failed)?;
        let more = rows.len() > limit as usize;
        let mut streams = Vec::with_capacity(rows.len());
        for row in rows.into_iter().take(limit as usize) {
            streams.push(self.as_it_is(&row.stream).await?);
        }
        let next_page_token = streams.last().filter(|_| more).map(place_after).unwrap_or_default();
        Ok(reply::Result::StreamList(StreamList { streams, next_page_token }))
    }

    /// A stream of the caller's, with a room of its own.
    pub(super) async fn create(&self, caller: &Caller, stream: Stream) -> Answered {
        let created = |stream: &Stream| Ok(reply::Result::StreamCreated(StreamCreated { stream: Some(shown(stream)) }));
        let owner = String::from(&caller.user);
        match self.shared.desk.stream(&stream.id).await.map_err(failed)? {
            Some(row) if row.stream.owner == owner => return created(&row.stream),
            Some(_) => return Err(exists()),
            None => {}
        }
        self.shared.hub.within_rate(&caller.user)?;
        let created_ms = self.shared.hub.now_ms();
        let stream = Stream { owner, state: StreamState::Created.into(), created_ms, revision: 1, ..stream };
        let stream = streams::checked(stream).map_err(|(_, error)| error)?;
        let room = self.make_room(&caller.user, &stream).await?;
        let stream = Stream { room, ..stream };
        let row = StreamRow { stream, effects: Effects::default() };
        if !self.keep(&row).await.map_err(failed)? {
            return Err(exists());
        }
        created(&row.stream)
    }

    /// Whoever asks again after a break finds the room that was made.
    async fn make_room(&self, owner: &UserId, stream: &Stream) -> Result<String, Error> {
        let room = RoomId::parse(&format!("{ROOM_PREFIX}{}", stream.id)).map_err(|_| exists())?;
        let actor = Actor::User(owner.clone());
        let write = Write::CreateRoom {
            room: room.clone(),
            title: stream.title.clone(),
            topic: String::new(),
            kind: RoomKind::Public,
            settings: Settings::of(RoomKind::Public),
            creator: Some(owner.clone()),
            at_ms: stream.created_ms,
        };
        let call = Call { actor: actor.clone(), once: None };
        match self.shared.hub.call(call, Ask::Write(Box::new(write))).await {
            Answer::Refused(error) if error.code() == ErrorCode::AlreadyExists => {
                let mine = self.shared.hub.may(&actor, &room, Action::Manage).await.unwrap_or(false);
                if mine { Ok(String::from(&room)) } else { Err(exists()) }
            }
            Answer::Refused(error) => Err(error),
            Answer::Reply(_)
            | Answer::Joined(_)
            | Answer::Unsubscribed
            | Answer::Left
            | Answer::Published(_)
            | Answer::Page(_) => Ok(String::from(&room)),
        }
    }

    /// Goes on air with these rungs.
    ///
    /// # Errors
    /// When the stream is over or not the caller's to publish, or the caller is at as many streams as may be.
    pub async fn publish(
        &self,
        caller: &Caller,
        seat: &Arc<Seat>,
        stream: &str,
        ladder: Ladder,
    ) -> Result<StreamPublished, Error> {
        let start = |stream: &Stream, now_ms| streams::start(stream, now_ms).map_err(over);
        let row = self.change(caller, stream, Right::Publish, start).await?;
        let handle = self.handle(stream);
        seat.take(stream, handle)?;
        let (reply, published) = oneshot::channel();
        let (session, mailbox, seat) = (caller.session, Arc::clone(&caller.mailbox), Arc::clone(seat));
        let publish = Publish { handle, stream: shown(&row.stream), ladder, session, mailbox, seat, reply };
        self.send(handle, Command::Publish(Box::new(publish))).await?;
        let (first_index, stream) = published.await.map_err(|_| unavailable())?;
        let hold_ms = u32::try_from(HOLD.as_millis()).unwrap_or(u32::MAX);
        tracing::info!(stream = stream.id, handle, "on air");
        Ok(StreamPublished { stream: Some(stream), handle, first_index, hold_ms })
    }

    async fn end(&self, caller: &Caller, stream: &str) -> Answered {
        let (_, peak) = self.audience(stream).await?;
        let stopped = self.change(caller, stream, Right::Steer, |stream, now_ms| {
            let stopped = streams::stop(stream, now_ms).map_err(over)?;
            Ok(stopped.map(|stream| streams::heard_by(stream, peak)))
        });
        let row = stopped.await?;
        Ok(reply::Result::StreamEnded(StreamEnded { stream: Some(shown(&row.stream)) }))
    }

    /// Says what is played: a line that has been checked, or nothing.
    ///
    /// # Errors
    /// When the stream is not the caller's to publish.
    pub async fn set_playing(&self, caller: &Caller, stream: &str, playing: &str) -> Result<(), Error> {
        let changed = self.change(caller, stream, Right::Publish, |stream, now_ms| {
            let playing = NowPlaying { title: playing.to_owned(), since_ms: now_ms, ..NowPlaying::default() };
            let now_playing = Some(playing).filter(|playing| !playing.title.is_empty());
            Ok(Some(streams::changed(Stream { now_playing, ..stream.clone() })))
        });
        changed.await.map(drop)
    }

    async fn listen(
        &self,
        caller: &Caller,
        seat: &Arc<Seat>,
        stream: &str,
        pin: QualityPin,
        media: MediaSender,
    ) -> Answered {
        let row = self.seen(caller, stream).await?;
        if row.stream.state() == StreamState::Ended {
            return Err(over(streams::WrongState("this stream is over")));
        }
        let handle = self.handle(stream);
        seat.take(stream, handle)?;
        let transport = media.transport();
        let who = Who {
            session: caller.session,
            user: caller.user.clone(),
            mailbox: Arc::clone(&caller.mailbox),
            seat: Arc::clone(seat),
            media,
            transport,
        };
        let (reply, heard) = oneshot::channel();
        let listen = Listen { handle, stream: shown(&row.stream), who, pin, reply };
        self.send(handle, Command::Listen(Box::new(listen))).await?;
        let Heard { stream, rungs, quality } = heard.await.map_err(|_| unavailable())?;
        let listening = Listening { stream: Some(stream), handle, rungs, quality: Some(quality), report_ms: REPORT_MS };
        Ok(reply::Result::Listening(listening))
    }

    /// Changes a stream that the caller steers, and tells those who hear it. `None` leaves it as it is.
    pub(super) async fn change(
        &self,
        caller: &Caller,
        id: &str,
        right: Right,
        change: impl Fn(&Stream, u64) -> Result<Option<Stream>, Error> + Send + Sync,
    ) -> Result<StreamRow, Error> {
        for _ in 0..ATTEMPTS_MAX {
            let row = self.seen(caller, id).await?;
            let is_granted = right == Right::Publish && streams::is_publisher(&row.stream, &caller.user);
            let owns = row.stream.owner == caller.user.as_str();
            if !owns && !is_granted && self.in_room(caller, &row.stream).await? != Some(true) {
                let message =
                    "only its owner, administrators of its room and, to publish, who was named for it steer a stream";
                return Err(Error::permanent(ErrorCode::PermissionDenied, message));
            }
            let Some(stream) = change(&row.stream, self.shared.hub.now_ms())? else { return Ok(row) };
            self.shared.hub.within_rate(&caller.user)?;
            let next = StreamRow { stream, ..row };
            if self.keep(&next).await.map_err(failed)? {
                self.changed(&next.stream);
                return Ok(next);
            }
        }
        Err(unavailable())
    }

    /// Keeps a record, if nobody has changed it meanwhile, and has it told.
    async fn keep(&self, row: &StreamRow) -> Result<bool, StoreError> {
        let kept = self.shared.desk.keep_stream(row, None, self.shared.hub.now_ms()).await?;
        self.shared.events.wake();
        Ok(kept)
    }

    /// The stream, for somebody who may see it.
    async fn seen(&self, caller: &Caller, id: &str) -> Result<StreamRow, Error> {
        let row = self.shared.desk.stream(id).await.map_err(failed)?.ok_or_else(no_stream)?;
        let room = self.in_room(caller, &row.stream).await?;
        let owns = row.stream.owner == caller.user.as_str()
            || streams::is_publisher(&row.stream, &caller.user)
            || room == Some(true);
        let is_entitled = caller.entitlements.contains(&row.stream.entitlement);
        match streams::sight(&row.stream, Viewer { owns, is_member: room.is_some(), is_entitled }) {
            Sight::Open => Ok(row),
            Sight::Paid => {
                let message = "this stream is for those who hold its entitlement";
                Err(Error::permanent(ErrorCode::PermissionDenied, message))
            }
            Sight::Hidden => Err(no_stream()),
        }
    }

    /// Whether the caller administers the stream's room; `None` for no member.
    async fn in_room(&self, caller: &Caller, stream: &Stream) -> Result<Option<bool>, Error> {
        let Ok(room) = RoomId::parse(&stream.room) else { return Ok(None) };
        match self.shared.hub.may(&Actor::User(caller.user.clone()), &room, Action::Manage).await {
            Ok(manages) => Ok(Some(manages)),
            Err(error) if error.code() == not_found().code() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The record with who is on air and listens here.
    pub(super) async fn as_it_is(&self, stream: &Stream) -> Result<AudioStream, Error> {
        let found = self.visit(&stream.id, |channel, _| channel.shown()).await?;
        Ok(found.unwrap_or_else(|| shown(stream)))
    }

    pub(super) async fn send(&self, handle: u32, command: Command) -> Result<(), Error> {
        self.shard(handle).send(command).await.map_err(|mpsc::error::SendError(_)| unavailable())
    }

    /// Nobody publishes a stream that was on air any more: it is over.
    pub(super) fn abandoned(&self, id: &str, peak: u32) {
        let (audio, id) = (self.clone(), id.to_owned());
        self.shared.tasks.spawn("audio-end", async move {
            for _ in 0..ATTEMPTS_MAX {
                let row = match audio.shared.desk.stream(&id).await {
                    Ok(Some(row)) => row,
                    Ok(None) => return,
                    Err(error) => {
                        failed(error);
                        return;
                    }
                };
                let Ok(Some(stream)) = streams::stop(&row.stream, audio.shared.hub.now_ms()) else { return };
                let stream = streams::heard_by(stream, peak);
                match audio.keep(&StreamRow { stream, ..row }).await {
                    Ok(true) => return tracing::info!(stream = id, "nobody came back to publish it: it is over"),
                    Ok(false) => {}
                    Err(error) => {
                        failed(error);
                        return;
                    }
                }
            }
        });
    }
}

fn profile_of(profile: AudioProfile) -> StreamProfile {
    match profile {
        AudioProfile::Unspecified | AudioProfile::Music => StreamProfile::Music,
        AudioProfile::Voice => StreamProfile::Voice,
    }
}

fn failed(error: StoreError) -> Error {
    tracing::error!(%error, "the database did not answer about a stream");
    unavailable()
}

pub(super) fn over(streams::WrongState(sentence): streams::WrongState) -> Error {
    Error::permanent(ErrorCode::Gone, sentence)
}

fn no_stream() -> Error {
    Error::permanent(ErrorCode::NotFound, "no such stream")
}

fn not_listening() -> Error {
    Error::permanent(ErrorCode::NotFound, "this session does not listen to that stream")
}

fn exists() -> Error {
    Error::permanent(ErrorCode::AlreadyExists, "there is a stream with this id")
}
