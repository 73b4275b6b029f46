//! What one session publishes and listens to.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use veza_proto::v1::{Error, ErrorCode};

/// Streams that one session may publish or listen to at once.
pub(super) const STREAMS_MAX: usize = 4;

/// The streams of one session, by their ids, with their handles.
#[derive(Debug, Default)]
pub struct Seat {
    taken: Mutex<Option<BTreeMap<String, u32>>>,
}

impl Seat {
    pub fn new() -> Self {
        Self { taken: Mutex::new(Some(BTreeMap::new())) }
    }

    /// Takes up a stream.
    ///
    /// # Errors
    /// When the session has as many as it may, or has ended.
    pub(super) fn take(&self, stream: &str, handle: u32) -> Result<(), Error> {
        let mut taken = self.lock();
        let Some(streams) = taken.as_mut() else { return Err(ended()) };
        if streams.len() >= STREAMS_MAX && !streams.contains_key(stream) {
            let message = format!("a session may publish and listen to {STREAMS_MAX} streams at once");
            return Err(Error::permanent(ErrorCode::Limit, message));
        }
        streams.insert(stream.to_owned(), handle);
        Ok(())
    }

    pub(super) fn handle(&self, stream: &str) -> Option<u32> {
        self.lock().as_ref()?.get(stream).copied()
    }

    pub(super) fn give_up(&self, stream: &str) -> Option<u32> {
        self.lock().as_mut()?.remove(stream)
    }

    /// The session has ended: nothing is taken up any more. What it had.
    pub(super) fn close(&self) -> Vec<u32> {
        self.lock().take().map(|streams| streams.into_values().collect()).unwrap_or_default()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_none()
    }

    fn lock(&self) -> MutexGuard<'_, Option<BTreeMap<String, u32>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ended() -> Error {
    Error::permanent(ErrorCode::Internal, "the session has ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_at_its_limit_and_one_past() {
        let seat = Seat::new();
        for handle in 0..STREAMS_MAX as u32 {
            seat.take(&format!("stream-{handle}"), handle).unwrap();
        }
        assert!(seat.take("stream-0", 0).is_ok(), "the same one again");
        assert_eq!(seat.take("one-more", 9).unwrap_err().code(), ErrorCode::Limit);
        assert_eq!(
            (seat.handle("stream-1"), seat.give_up("stream-1"), seat.handle("stream-1")),
            (Some(1), Some(1), None)
        );
        assert!(seat.take("one-more", 9).is_ok());
        assert_eq!(seat.close().len(), STREAMS_MAX);
        assert!(seat.is_closed() && seat.take("late", 1).is_err());
    }
}
