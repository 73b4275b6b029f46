//! Who listens to a stream, and how it goes, as this node sees it.

use tonic::{Code, Response, Status};
use veza_engine::ledger::Actor;
use veza_engine::streams;
use veza_proto::gateway::v1::*;
use veza_proto::limits as wire;
use veza_proto::v1::{AudioQuality, Error, ErrorCode};

use super::{Answered, StreamCalls, stream_id};
use crate::audio::{Fixed, Going, Hearer};
use crate::gateway::caller::Caller;
use crate::gateway::desk::failed;
use crate::gateway::status::{bad_field, because, refused};
use crate::gateway::{fields, pages};
use crate::store::desk::Live;

const LISTENERS: &str = "listeners";
const MOST_HEARD: &str = "heard";
/// Streams that are put in the order of their listeners: those that were started last.
const RANKED_MAX: u32 = 1_000;

impl StreamCalls {
    pub(super) async fn listeners(
        &self,
        caller: &Caller,
        asked: ListListenersRequest,
    ) -> Answered<ListListenersResponse> {
        let id = stream_id("stream", &asked.stream)?;
        self.steered(&id, &caller.actor(&asked.actor)?).await?;
        let after = pages::place(LISTENERS, &asked.page_token)?.map(|place| pages::time_and_id(&place)).transpose()?;
        let size = pages::size(asked.page_size, wire::HISTORY_PAGE_DEFAULT, wire::HISTORY_PAGE_MAX) as usize;
        let mut hearers = self.records.audio.listeners(&id).await.map_err(|error| refused(&error))?;
        if let Some((session, user)) = after {
            hearers.retain(|hearer| (hearer.user.as_str(), hearer.session) > (user.as_str(), session));
        }
        let more = hearers.len() > size;
        hearers.truncate(size);
        let last = hearers.last().filter(|_| more);
        let place = last.map(|last| format!("{} {}", last.session, last.user.as_str())).unwrap_or_default();
        let next_page_token = pages::token(LISTENERS, &place);
        Ok(Response::new(ListListenersResponse { listeners: hearers.iter().map(shown).collect(), next_page_token }))
    }

    pub(super) async fn fix_quality(
        &self,
        caller: &Caller,
        asked: SetListenerQualityRequest,
    ) -> Answered<SetListenerQualityResponse> {
        let id = stream_id("stream", &asked.stream)?;
        let user = fields::user("user", &asked.user)?;
        let actor = caller.actor(&asked.actor)?;
        // To set it twice is to set it once: the key is looked at, and nothing is kept of it.
        caller.once(actor.clone(), "SetListenerQuality", &asked.idempotency_key, &asked)?;
        let fixed = asked.quality.as_ref().map(Fixed::parse).transpose();
        let fixed = fixed.map_err(|(field, sentence)| bad_field(&format!("quality.{field}"), sentence))?;
        match &actor {
            // Whoever listens may be told how.
            Actor::User(actor) if *actor == user => {}
            Actor::User(_) | Actor::Service(_) => {
                self.steered(&id, &actor).await?;
            }
        }
        let found = self.records.audio.fix(&id, user, fixed).await.map_err(|error| refused(&error))?;
        let nobody = || refused(&Error::permanent(ErrorCode::NotFound, "this user does not listen to the stream here"));
        Ok(Response::new(SetListenerQualityResponse { listener: Some(shown(&found.ok_or_else(nobody)?)) }))
    }

    pub(super) async fn metrics(
        &self,
        caller: &Caller,
        asked: GetAudioMetricsRequest,
    ) -> Answered<GetAudioMetricsResponse> {
        let id = stream_id("stream", &asked.stream)?;
        let stream = self.steered(&id, &caller.actor(&asked.actor)?).await?.stream;
        if stream.state() != StreamState::Live {
            return Err(because(Code::FailedPrecondition, Reason::WrongState, "this stream is not live"));
        }
        let going = self.records.audio.going(&id).await.map_err(|error| refused(&error))?;
        let silent = || because(Code::FailedPrecondition, Reason::WrongState, "nobody publishes this stream here");
        let Going { seconds, qualities } = going.ok_or_else(silent)?;
        let share = |(quality, listeners)| QualityShare { quality: Some(quality_of(&quality)), listeners };
        Ok(Response::new(GetAudioMetricsResponse {
            peak_db: seconds.peak_db,
            rms_db: seconds.rms_db,
            loudness_lufs: 0.0,
            ingest_loss: seconds.ingest_loss,
            added_ms_p50: seconds.added_ms_p50,
            added_ms_p99: seconds.added_ms_p99,
            ingest_bits_per_second: seconds.ingest_bits_per_second,
            egress_bits_per_second: seconds.egress_bits_per_second,
            qualities: qualities.into_iter().map(share).collect(),
        }))
    }

    /// Live streams, those with most listeners here first.
    pub(super) async fn most_heard(&self, which: &Live, page_token: &str, size: u32) -> Answered<ListLiveResponse> {
        let after = pages::place(MOST_HEARD, page_token)?.map(|place| pages::time_and_id(&place)).transpose()?;
        let rows = self.records.desk.live(which, RANKED_MAX).await.map_err(failed)?;
        let mut streams = Vec::with_capacity(rows.len());
        for row in rows {
            streams.push(self.heard(row.stream).await?);
        }
        let rank = |listeners: u32, id: &str| (std::cmp::Reverse(listeners), id.to_owned());
        streams.sort_by_cached_key(|stream| rank(stream.listeners, &stream.id));
        if let Some((listeners, id)) = after {
            let after = rank(u32::try_from(listeners).unwrap_or(u32::MAX), &id);
            streams.retain(|stream| rank(stream.listeners, &stream.id) > after);
        }
        let more = streams.len() > size as usize;
        streams.truncate(size as usize);
        let last = streams.last().filter(|_| more);
        let place = last.map(|last| format!("{} {}", last.listeners, last.id)).unwrap_or_default();
        Ok(Response::new(ListLiveResponse { next_page_token: pages::token(MOST_HEARD, &place), streams }))
    }

    /// The record, with who listens here.
    pub(super) async fn heard(&self, stream: Stream) -> Result<Stream, Status> {
        let (listeners, peak) = self.audience(&stream.id).await?;
        Ok(streams::heard_by(Stream { listeners, ..stream }, peak))
    }

    /// How many listen here, and the most there were at once.
    pub(super) async fn audience(&self, id: &str) -> Result<(u32, u32), Status> {
        self.records.audio.audience(id).await.map_err(|error| refused(&error))
    }
}

fn shown(hearer: &Hearer) -> Listener {
    Listener {
        user: String::from(&hearer.user),
        since_ms: hearer.since_ms,
        quality: Some(quality_of(&hearer.quality)),
        fixed: hearer.is_fixed,
    }
}

fn quality_of(quality: &AudioQuality) -> Quality {
    let AudioQuality { bits_per_second, packet_ms, redundancy, .. } = *quality;
    Quality { bits_per_second, packet_ms, redundancy }
}
