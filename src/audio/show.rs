//! Records of streams as sessions see them.

use veza_proto::gateway::v1::{Stream, StreamProfile, StreamState};
use veza_proto::v1::{AudioProfile, AudioState, AudioStream};

/// What the record says; who is on air and listens is the shard's to say.
pub(super) fn shown(stream: &Stream) -> AudioStream {
    let profile = match stream.profile() {
        StreamProfile::Music | StreamProfile::Unspecified => AudioProfile::Music,
        StreamProfile::Voice => AudioProfile::Voice,
    };
    let state = match stream.state() {
        StreamState::Created | StreamState::Unspecified => AudioState::Created,
        StreamState::Live => AudioState::Live,
        StreamState::Ended => AudioState::Ended,
    };
    let playing = stream.now_playing.as_ref().map(|playing| match playing.artist.as_str() {
        "" => playing.title.clone(),
        artist => format!("{artist} – {}", playing.title),
    });
    AudioStream {
        id: stream.id.clone(),
        title: stream.title.clone(),
        description: stream.description.clone(),
        owner: stream.owner.clone(),
        room: stream.room.clone(),
        profile: profile.into(),
        state: state.into(),
        playing: playing.unwrap_or_default(),
        started_ms: stream.started_ms,
        ..AudioStream::default()
    }
}
