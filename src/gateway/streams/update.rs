use tonic::{Code, Status};
use veza_engine::streams::{self, Effect};
use veza_proto::gateway::v1::{NowPlaying, Reason, Stream, StreamState, StreamVisibility};

use crate::gateway::status::{at_field, bad_field, because};

const MASK: &str = "update_mask";

/// What of a stream can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Title,
    Description,
    Category,
    Visibility,
    Entitlement,
    Room,
    Tags,
    NowPlaying,
    Publishers,
    Profile,
}

/// What a mask names.
pub(super) fn masked(paths: &[String]) -> Result<Vec<Field>, Status> {
    if paths.is_empty() {
        return Err(bad_field(MASK, "name at least one field"));
    }
    let field = |path: &String| match path.as_str() {
        "title" => Ok(Field::Title),
        "description" => Ok(Field::Description),
        "category" => Ok(Field::Category),
        "visibility" => Ok(Field::Visibility),
        "entitlement" => Ok(Field::Entitlement),
        "room" => Ok(Field::Room),
        "tags" => Ok(Field::Tags),
        "now_playing" => Ok(Field::NowPlaying),
        "publishers" => Ok(Field::Publishers),
        "profile" => Ok(Field::Profile),
        other => Err(bad_field(MASK, format!("{other:?} is no field that can be changed"))),
    };
    paths.iter().map(field).collect()
}

/// Takes the named fields over, and checks what comes out.
pub(super) fn updated(mut stream: Stream, wanted: &Stream, fields: &[Field], now_ms: u64) -> Result<Stream, Status> {
    for field in fields {
        match field {
            Field::Title => stream.title.clone_from(&wanted.title),
            Field::Description => stream.description.clone_from(&wanted.description),
            Field::Category => stream.category = wanted.category,
            Field::Visibility => stream.visibility = wanted.visibility,
            Field::Entitlement => stream.entitlement.clone_from(&wanted.entitlement),
            Field::Room => stream.room.clone_from(&wanted.room),
            Field::Tags => stream.tags.clone_from(&wanted.tags),
            Field::NowPlaying => stream.now_playing = wanted.now_playing.clone().map(|playing| since(playing, now_ms)),
            Field::Publishers => stream.publishers.clone_from(&wanted.publishers),
            Field::Profile if stream.state() == StreamState::Created => stream.profile = wanted.profile,
            Field::Profile => {
                let sentence = "a stream's profile is chosen before it is started";
                return Err(because(Code::FailedPrecondition, Reason::WrongState, sentence));
            }
        }
    }
    if stream.visibility() == StreamVisibility::Private && stream.room.is_empty() {
        return Err(bad_field("stream.room", "a private stream is for members of its room"));
    }
    streams::checked(stream).map_err(|(field, error)| at_field(&format!("stream.{field}"), &error))
}

fn since(playing: NowPlaying, now_ms: u64) -> NowPlaying {
    let since_ms = if playing.since_ms == 0 { now_ms } else { playing.since_ms };
    NowPlaying { since_ms, ..playing }
}

/// Which effects a mask names; `None` for all of them.
pub(super) fn effects(paths: &[String]) -> Result<Option<Vec<Effect>>, Status> {
    if paths.is_empty() {
        return Ok(None);
    }
    let effect = |path: &String| Effect::parse(path).ok_or_else(|| bad_field(MASK, format!("{path:?} is no effect")));
    paths.iter().map(effect).collect::<Result<_, _>>().map(Some)
}
