//! A stream as a record: its life, who sees it, and what its fields may be. Sound is not here.

mod effects;

use veza_proto::gateway::v1::{NowPlaying, Stream, StreamCategory, StreamProfile, StreamState, StreamVisibility};
use veza_proto::limits as wire;
use veza_proto::v1::Error;
use veza_proto::{RoomId, UserId};

pub use effects::{Effect, check_effects, merge_effects};

use crate::check::{self, bad};

pub const DESCRIPTION_BYTES_MAX: usize = 2_048;
/// Users who may publish a stream beside its owner.
const PUBLISHERS_MAX: usize = 8;
pub const TAGS_MAX: usize = 10;
pub const TAG_BYTES_MAX: usize = 32;
pub const PLAYING_BYTES_MAX: usize = 256;
pub const COVER_URL_BYTES_MAX: usize = 2_048;

/// How the id of a room begins that is made with a stream; the stream's id follows.
pub const ROOM_PREFIX: &str = "stream.";

/// Why a stream does not become what it is asked to be: it is in another state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongState(pub &'static str);

/// Whoever looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Viewer {
    /// The owner, who was named to publish it, an administrator of its room, or a service by itself.
    pub owns: bool,
    /// A member of the stream's room.
    pub is_member: bool,
    /// Holds the stream's entitlement.
    pub is_entitled: bool,
}

/// What a viewer is told of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    Open,
    /// It is known, and for those who hold its entitlement.
    Paid,
    /// It does not exist.
    Hidden,
}

/// It is live from now on; `None` when it is already.
///
/// # Errors
/// When it is over.
pub fn start(stream: &Stream, now_ms: u64) -> Result<Option<Stream>, WrongState> {
    match stream.state() {
        StreamState::Created | StreamState::Unspecified => {
            Ok(Some(changed(Stream { state: StreamState::Live.into(), started_ms: now_ms, ..stream.clone() })))
        }
        StreamState::Live => Ok(None),
        StreamState::Ended => Err(WrongState("this stream is over: another show is another stream")),
    }
}

/// It is over; `None` when it is already. Nothing is played and nobody listens any more.
///
/// # Errors
/// When it was never live.
pub fn stop(stream: &Stream, now_ms: u64) -> Result<Option<Stream>, WrongState> {
    match stream.state() {
        StreamState::Live => Ok(Some(changed(Stream {
            state: StreamState::Ended.into(),
            ended_ms: now_ms.max(stream.started_ms),
            now_playing: None,
            listeners: 0,
            recording: false,
            ..stream.clone()
        }))),
        StreamState::Ended => Ok(None),
        StreamState::Created | StreamState::Unspecified => Err(WrongState("this stream is not live")),
    }
}

/// It had as many listeners at once as this, or as it had before.
pub fn heard_by(stream: Stream, listeners: u32) -> Stream {
    Stream { listeners_peak: stream.listeners_peak.max(listeners), ..stream }
}

/// The same stream, one change later.
pub fn changed(stream: Stream) -> Stream {
    Stream { revision: stream.revision + 1, ..stream }
}

/// What somebody is told of it.
pub fn sight(stream: &Stream, viewer: Viewer) -> Sight {
    match stream.visibility() {
        _ if viewer.owns => Sight::Open,
        StreamVisibility::Public | StreamVisibility::Unlisted | StreamVisibility::Unspecified => Sight::Open,
        StreamVisibility::Private if viewer.is_member => Sight::Open,
        StreamVisibility::Private => Sight::Hidden,
        StreamVisibility::Premium if viewer.is_entitled => Sight::Open,
        StreamVisibility::Premium => Sight::Paid,
    }
}

/// Whether this user was named to publish it, beside its owner.
pub fn is_publisher(stream: &Stream, user: &UserId) -> bool {
    stream.publishers.iter().any(|publisher| publisher == user.as_str())
}

/// Whether it stands in the list of live streams for everybody.
pub fn is_listed(visibility: StreamVisibility) -> bool {
    match visibility {
        StreamVisibility::Public | StreamVisibility::Premium | StreamVisibility::Unspecified => true,
        StreamVisibility::Unlisted | StreamVisibility::Private => false,
    }
}

/// Whether a new stream may have this id: its room's is made of it.
///
/// # Errors
/// What it may be.
pub fn check_new_id(id: &str) -> Result<(), Error> {
    RoomId::parse(id).map_err(|_| bad("a stream's id has 1 to 64 bytes of a-z 0-9 . _ -"))?;
    let max = wire::ROOM_ID_BYTES_MAX - ROOM_PREFIX.len();
    if id.len() > max {
        return Err(bad(format!("a stream's id may have {max} bytes, this has {}", id.len())));
    }
    Ok(())
}

/// Names what was left open, and checks everything that a caller writes.
///
/// # Errors
/// The field, and what it may be.
pub fn checked(stream: Stream) -> Result<Stream, (&'static str, Error)> {
    let stream = Stream {
        category: or::<StreamCategory>(stream.category, StreamCategory::Other.into()),
        visibility: or::<StreamVisibility>(stream.visibility, StreamVisibility::Public.into()),
        profile: or::<StreamProfile>(stream.profile, StreamProfile::Music.into()),
        ..stream
    };
    let at = |field: &'static str| move |error: Error| (field, error);
    check::line("title", &stream.title, wire::ROOM_TITLE_BYTES_MAX).map_err(at("title"))?;
    if stream.title.is_empty() {
        return Err(("title", bad("title must not be empty")));
    }
    check::text("description", &stream.description, DESCRIPTION_BYTES_MAX).map_err(at("description"))?;
    check::line("entitlement", &stream.entitlement, wire::ENTITLEMENT_BYTES_MAX).map_err(at("entitlement"))?;
    if stream.visibility() == StreamVisibility::Premium && stream.entitlement.is_empty() {
        return Err(("entitlement", bad("a premium stream names the entitlement that opens it")));
    }
    if stream.tags.len() > TAGS_MAX {
        return Err(("tags", bad(format!("a stream has at most {TAGS_MAX} tags"))));
    }
    for tag in &stream.tags {
        check::line("a tag", tag, TAG_BYTES_MAX).map_err(at("tags"))?;
        if tag.is_empty() {
            return Err(("tags", bad("a tag must not be empty")));
        }
    }
    if stream.publishers.len() > PUBLISHERS_MAX {
        return Err(("publishers", bad(format!("a stream has at most {PUBLISHERS_MAX} publishers beside its owner"))));
    }
    for publisher in &stream.publishers {
        UserId::parse(publisher).map_err(|_| ("publishers", bad("a publisher is a user id")))?;
    }
    if let Some(playing) = &stream.now_playing {
        check_playing(playing).map_err(at("now_playing"))?;
    }
    Ok(stream)
}

/// What was named, or what stands for nothing; of a number that no name has, too.
fn or<E: TryFrom<i32>>(named: i32, open: i32) -> i32 {
    if named != 0 && E::try_from(named).is_ok() { named } else { open }
}

fn check_playing(playing: &NowPlaying) -> Result<(), Error> {
    for (what, text) in [("title", &playing.title), ("artist", &playing.artist), ("album", &playing.album)] {
        check::line(what, text, PLAYING_BYTES_MAX)?;
    }
    check::line("cover_url", &playing.cover_url, COVER_URL_BYTES_MAX)?;
    if !playing.cover_url.is_empty() && !playing.cover_url.starts_with("https://") {
        return Err(bad("cover_url begins with https://"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> Stream {
        let state = StreamState::Created.into();
        Stream { id: "show".into(), title: "The show".into(), state, revision: 1, ..Stream::default() }
    }

    #[test]
    fn a_stream_is_made_goes_live_and_is_over_for_good() {
        assert!(stop(&made(), 10).is_err(), "it was never live");
        let live = start(&made(), 10).unwrap().unwrap();
        assert_eq!((live.state(), live.started_ms, live.revision), (StreamState::Live, 10, 2));
        assert_eq!(start(&live, 11), Ok(None), "to be live already is no error");
        let over = stop(&live, 20).unwrap().unwrap();
        assert_eq!((over.state(), over.started_ms, over.ended_ms, over.revision), (StreamState::Ended, 10, 20, 3));
        assert_eq!(stop(&over, 21), Ok(None));
        assert!(start(&over, 22).is_err());
        // A clock that went back ends no stream before its begin.
        assert_eq!(stop(&live, 5).unwrap().unwrap().ended_ms, 10);
    }

    #[test]
    fn who_sees_what() {
        let stranger = Viewer { owns: false, is_member: false, is_entitled: false };
        let member = Viewer { is_member: true, ..stranger };
        let entitled = Viewer { is_entitled: true, ..stranger };
        let owner = Viewer { owns: true, ..stranger };
        for (visibility, seen) in [
            (StreamVisibility::Public, [Sight::Open, Sight::Open, Sight::Open, Sight::Open]),
            (StreamVisibility::Unlisted, [Sight::Open, Sight::Open, Sight::Open, Sight::Open]),
            (StreamVisibility::Private, [Sight::Hidden, Sight::Open, Sight::Hidden, Sight::Open]),
            (StreamVisibility::Premium, [Sight::Paid, Sight::Paid, Sight::Open, Sight::Open]),
        ] {
            let stream = Stream { visibility: visibility.into(), ..made() };
            assert_eq!(
                [stranger, member, entitled, owner].map(|viewer| sight(&stream, viewer)),
                seen,
                "{visibility:?}"
            );
        }
    }

    #[test]
    fn every_text_at_its_limit_and_one_past() {
        fn playing(title: String, cover_url: String) -> Option<NowPlaying> {
            Some(NowPlaying { title, cover_url, ..NowPlaying::default() })
        }
        fn cover(bytes: usize) -> String {
            format!("https://{}", "c".repeat(bytes - 8))
        }
        type Field = (&'static str, usize, fn(usize) -> Stream);
        let fields: [Field; 6] = [
            ("title", 128, |n| Stream { title: "t".repeat(n), ..made() }),
            ("description", 2_048, |n| Stream { description: "d".repeat(n), ..made() }),
            ("entitlement", 64, |n| Stream { entitlement: "e".repeat(n), ..made() }),
            ("tags", 32, |n| Stream { tags: vec!["g".repeat(n)], ..made() }),
            ("now_playing", 256, |n| Stream { now_playing: playing("t".repeat(n), String::new()), ..made() }),
            ("now_playing", 2_048, |n| Stream { now_playing: playing(String::new(), cover(n)), ..made() }),
        ];
        for (field, max, make) in fields {
            assert!(checked(make(max)).is_ok(), "{field}");
            assert_eq!(checked(make(max + 1)).unwrap_err().0, field);
        }
        let tags = |n: usize| Stream { tags: vec!["tag".into(); n], ..made() };
        assert!(checked(tags(TAGS_MAX)).is_ok() && checked(tags(TAGS_MAX + 1)).is_err());
    }

    #[test]
    fn what_was_left_open_is_named_and_what_makes_no_sense_is_refused() {
        let named = checked(made()).unwrap();
        assert_eq!(named.category(), StreamCategory::Other);
        assert_eq!((named.visibility(), named.profile()), (StreamVisibility::Public, StreamProfile::Music));
        let premium = Stream { visibility: StreamVisibility::Premium.into(), ..made() };
        assert_eq!(checked(premium).unwrap_err().0, "entitlement");
        assert_eq!(checked(Stream { title: String::new(), ..made() }).unwrap_err().0, "title");
        let plain = NowPlaying { cover_url: "http://a/b".into(), ..NowPlaying::default() };
        assert_eq!(checked(Stream { now_playing: Some(plain), ..made() }).unwrap_err().0, "now_playing");
        assert_eq!(checked(Stream { tags: vec![String::new()], ..made() }).unwrap_err().0, "tags");
    }
}
