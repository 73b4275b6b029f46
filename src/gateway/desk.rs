//! Records of the desk as calls use them: kept once under a key, and what is said when they are not.

use std::sync::Arc;

use tonic::{Code, Status};
use veza_engine::ledger::KEPT_MS;
use veza_engine::room::unavailable;
use veza_proto::gateway::v1::Reason;

use super::status::{because, refused};
use crate::audio::Audio;
use crate::events::Events;
use crate::hub::{Call, Hub};
use crate::store::StoreError;
use crate::store::desk::{Desk, ReviewRow, StreamRow, Used};

/// A record that somebody else changes meanwhile is looked at again: at most so often.
pub(super) const ATTEMPTS_MAX: u32 = 5;

/// What calls about records work on.
#[derive(Clone)]
pub(super) struct Records {
    pub(super) hub: Hub,
    pub(super) desk: Arc<dyn Desk>,
    pub(super) events: Events,
    pub(super) audio: Audio,
}

impl Records {
    /// As [`Desk::keep_stream`], now.
    pub(super) async fn keep_stream(&self, row: &StreamRow, used: Option<&Used>) -> Result<bool, Status> {
        let kept = self.desk.keep_stream(row, used, self.hub.now_ms()).await.map_err(failed)?;
        self.events.wake();
        if kept {
            self.audio.changed(&row.stream);
        }
        Ok(kept)
    }

    /// As [`Desk::keep_review`], now.
    pub(super) async fn keep_review(&self, row: &ReviewRow, used: Option<&Used>) -> Result<bool, Status> {
        let kept = self.desk.keep_review(row, used, self.hub.now_ms()).await.map_err(failed)?;
        self.events.wake();
        Ok(kept)
    }

    /// The id of what was made under this call's key before.
    ///
    /// # Errors
    /// When that was another request.
    pub(super) async fn made(&self, call: &Call) -> Result<Option<String>, Status> {
        let Some(once) = &call.once else { return Ok(None) };
        let used = self.desk.used(&once.service, &once.key).await.map_err(failed)?;
        match used.filter(|used| used.at_ms.saturating_add(KEPT_MS) > self.hub.now_ms()) {
            Some(used) if used.digest == once.digest => Ok(Some(used.made)),
            Some(_) => {
                let sentence = "this idempotency key was used before for another request";
                Err(because(Code::AlreadyExists, Reason::IdempotencyKeyReused, sentence))
            }
            None => Ok(None),
        }
    }

    /// The call's key, used for the record with this id.
    pub(super) fn used(&self, call: &Call, made: &str) -> Option<Used> {
        let once = call.once.clone()?;
        let at_ms = self.hub.now_ms();
        Some(Used { service: once.service, key: once.key, digest: once.digest, made: made.to_owned(), at_ms })
    }

    /// Counts a write in a user's name; a service by itself has no rate.
    pub(super) fn within_rate(&self, call: &Call) -> Result<(), Status> {
        match call.actor.user() {
            Some(user) => self.hub.within_rate(user).map_err(|error| refused(&error)),
            None => Ok(()),
        }
    }
}

pub(super) fn failed(error: StoreError) -> Status {
    tracing::error!(%error, "the database did not answer a call about a record");
    refused(&unavailable())
}

/// Others were faster every time.
pub(super) fn busy() -> Status {
    refused(&unavailable())
}
