//! Streams as records: their life, who steers and sees them, and what waits for the audio engine.

use prost_types::FieldMask;
use tonic::Code;
use veza_client::proto::gateway::v1::*;

use super::{Backend, bad_field, not_found, refusal, stage};
use crate::server::Start;

pub(super) fn create(stream: &str, owner: &str) -> CreateStreamRequest {
    let (stream, title) = (stream.into(), format!("The {stream}"));
    CreateStreamRequest { stream, title, owner: owner.into(), ..Default::default() }
}

pub(super) fn get(stream: &str, actor: &str) -> GetStreamRequest {
    GetStreamRequest { stream: stream.into(), actor: actor.into(), ..Default::default() }
}

pub(super) fn start(stream: &str, actor: &str) -> StartStreamRequest {
    StartStreamRequest { stream: stream.into(), actor: actor.into(), ..Default::default() }
}

pub(super) fn stop(stream: &str, actor: &str) -> StopStreamRequest {
    StopStreamRequest { stream: stream.into(), actor: actor.into(), ..Default::default() }
}

pub(super) fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

fn update(stream: Stream, paths: &[&str], actor: &str) -> UpdateStreamRequest {
    let actor = actor.to_owned();
    UpdateStreamRequest { stream: Some(stream), update_mask: mask(paths), actor, ..Default::default() }
}

pub(super) fn forbidden() -> (Code, String) {
    (Code::PermissionDenied, "PERMISSION_DENIED".into())
}

pub(super) fn wrong_state() -> (Code, String) {
    (Code::FailedPrecondition, "WRONG_STATE".into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_made_with_its_room_goes_live_and_is_over() {
    let (stage, backend) = stage().await;
    let mut streams = backend.streams();
    let asked = CreateStreamRequest { idempotency_key: "k1".into(), ..create("show", "alice") };
    let made = streams.create_stream(asked.clone()).await.unwrap().into_inner().stream.unwrap();
    assert_eq!((made.owner.as_str(), made.state(), made.revision), ("alice", StreamState::Created, 1));
    assert_eq!((made.category(), made.visibility()), (StreamCategory::Other, StreamVisibility::Public));
    // Its room is there, and who listens talks in it.
    assert_eq!(made.room, "stream.show");
    let bob = stage.player("bob").await;
    bob.join(&made.room).await.unwrap();
    bob.publish(&made.room, "b1", "when does it begin?").await.unwrap();

    let again = streams.create_stream(asked.clone()).await.unwrap().into_inner().stream.unwrap();
    assert_eq!(again, made, "the same key makes nothing twice");
    let other = CreateStreamRequest { title: "Another".into(), ..asked };
    assert_eq!(refusal(streams.create_stream(other).await), (Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED".into()));
    let taken = (Code::AlreadyExists, "ALREADY_EXISTS".into());
    assert_eq!(refusal(streams.create_stream(create("show", "alice")).await), taken);

    assert_eq!(refusal(streams.stop_stream(stop("show", "alice")).await), wrong_state(), "it is not live");
    assert_eq!(refusal(streams.start_stream(start("show", "bob")).await), forbidden());
    assert_eq!(refusal(streams.start_stream(start("nothing", "")).await), not_found());
    let live = streams.start_stream(start("show", "alice")).await.unwrap().into_inner().stream.unwrap();
    assert!(live.state() == StreamState::Live && live.started_ms >= made.created_ms);
    let same = streams.start_stream(start("show", "")).await.unwrap().into_inner().stream.unwrap();
    assert_eq!(same, live, "to be live already is no error");
    let over = streams.stop_stream(stop("show", "alice")).await.unwrap().into_inner().stream.unwrap();
    assert!(over.state() == StreamState::Ended && over.ended_ms >= over.started_ms);
    assert_eq!(streams.stop_stream(stop("show", "")).await.unwrap().into_inner().stream.unwrap(), over);
    assert_eq!(refusal(streams.start_stream(start("show", "alice")).await), wrong_state(), "it is over for good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_made_only_as_it_may_be() {
    let (_stage, backend) = stage().await;
    let mut streams = backend.streams();
    for (asked, field) in [
        (create("No spaces", "alice"), "stream"),
        (create(&"s".repeat(58), "alice"), "stream"),
        (create("show", ""), "owner"),
        (CreateStreamRequest { actor: "bob".into(), ..create("show", "alice") }, "owner"),
        (CreateStreamRequest { title: String::new(), ..create("show", "alice") }, "title"),
        (CreateStreamRequest { tags: vec!["t".into(); 11], ..create("show", "alice") }, "tags"),
        (
            CreateStreamRequest { visibility: StreamVisibility::Premium.into(), ..create("show", "alice") },
            "entitlement",
        ),
        (CreateStreamRequest { room: "No".into(), ..create("show", "alice") }, "room"),
    ] {
        assert_eq!(bad_field(streams.create_stream(asked).await), field);
    }
    streams.create_stream(create(&"s".repeat(57), "alice")).await.unwrap();
    // A room that is there is tied to a stream by who administers it.
    backend.room("lounge", "alice", &["bob"]).await;
    let tied = |actor: &str, room: &str| CreateStreamRequest {
        actor: actor.into(),
        room: room.into(),
        ..create(&format!("of-{actor}"), "")
    };
    assert_eq!(refusal(streams.create_stream(tied("bob", "lounge")).await), forbidden());
    assert_eq!(refusal(streams.create_stream(tied("carol", "lounge")).await), not_found());
    let made = streams.create_stream(tied("alice", "lounge")).await.unwrap().into_inner().stream.unwrap();
    assert_eq!((made.owner.as_str(), made.room.as_str()), ("alice", "lounge"));
    // A room of the name that its own would have belongs to somebody else.
    backend.room("stream.mine", "carol", &[]).await;
    assert_eq!(refusal(streams.create_stream(create("mine", "alice")).await).0, Code::AlreadyExists);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_named_fields_change() {
    let (_stage, backend) = stage().await;
    let mut streams = backend.streams();
    streams.create_stream(create("show", "alice")).await.unwrap();
    let playing = NowPlaying { title: "So What".into(), artist: "A quintet".into(), ..Default::default() };
    let wanted = Stream {
        id: "show".into(),
        title: "Ignored".into(),
        category: StreamCategory::Music.into(),
        now_playing: Some(playing),
        profile: StreamProfile::Voice.into(),
        ..Default::default()
    };
    let paths = ["category", "now_playing", "profile"];
    let updated = streams.update_stream(update(wanted.clone(), &paths, "alice")).await.unwrap().into_inner();
    let updated = updated.stream.unwrap();
    assert_eq!((updated.title.as_str(), updated.revision), ("The show", 2));
    assert_eq!((updated.category(), updated.profile()), (StreamCategory::Music, StreamProfile::Voice));
    assert!(updated.now_playing.unwrap().since_ms > 0);

    assert_eq!(bad_field(streams.update_stream(update(wanted.clone(), &[], "alice")).await), "update_mask");
    assert_eq!(bad_field(streams.update_stream(update(wanted.clone(), &["state"], "alice")).await), "update_mask");
    assert_eq!(bad_field(streams.update_stream(update(Stream::default(), &["title"], "")).await), "stream.id");
    let untitled = Stream { title: String::new(), ..wanted.clone() };
    assert_eq!(bad_field(streams.update_stream(update(untitled, &["title"], "")).await), "stream.title");
    let hidden = Stream { visibility: StreamVisibility::Private.into(), ..wanted.clone() };
    let refused = streams.update_stream(update(hidden, &["visibility", "room"], "")).await;
    assert_eq!(bad_field(refused), "stream.room", "a private stream has a room");
    assert_eq!(refusal(streams.update_stream(update(wanted.clone(), &["title"], "bob")).await), forbidden());
    streams.start_stream(start("show", "")).await.unwrap();
    assert_eq!(refusal(streams.update_stream(update(wanted, &["profile"], "")).await), wrong_state());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_sees_a_stream_and_an_administrator_of_its_room_steers_it() {
    let (_stage, backend) = stage().await;
    let mut streams = backend.streams();
    let private = CreateStreamRequest { visibility: StreamVisibility::Private.into(), ..create("den", "alice") };
    streams.create_stream(private).await.unwrap();
    assert_eq!(refusal(streams.get_stream(get("den", "bob")).await), not_found());
    assert_eq!(refusal(streams.start_stream(start("den", "bob")).await), not_found());
    backend.join("stream.den", "bob").await;
    streams.get_stream(get("den", "bob")).await.unwrap();
    assert_eq!(refusal(streams.start_stream(start("den", "bob")).await), forbidden(), "bob is a member");
    let admin = SetRoleRequest {
        room: "stream.den".into(),
        user: "bob".into(),
        role: veza_client::proto::v1::Role::Admin.into(),
        ..Default::default()
    };
    backend.rooms().set_role(admin).await.unwrap();
    streams.start_stream(start("den", "bob")).await.unwrap();

    // Who was named to publish it sees it, as sessions do, and steers nothing; who is not named any more does not.
    let named = |publishers: &[&str]| {
        let publishers = publishers.iter().map(|user| (*user).to_owned()).collect();
        update(Stream { id: "den".into(), publishers, ..Default::default() }, &["publishers"], "alice")
    };
    streams.update_stream(named(&["dave"])).await.unwrap();
    let seen = streams.get_stream(get("den", "dave")).await.unwrap().into_inner().stream.unwrap();
    assert_eq!((seen.visibility(), seen.publishers), (StreamVisibility::Private, vec!["dave".to_owned()]));
    assert_eq!(refusal(streams.stop_stream(stop("den", "dave")).await), forbidden());
    assert_eq!(refusal(streams.get_stream(get("den", "erin")).await), not_found());
    streams.update_stream(named(&[])).await.unwrap();
    assert_eq!(refusal(streams.get_stream(get("den", "dave")).await), not_found());

    let premium = CreateStreamRequest {
        visibility: StreamVisibility::Premium.into(),
        entitlement: "gold".into(),
        ..create("gala", "alice")
    };
    streams.create_stream(premium).await.unwrap();
    assert_eq!(refusal(streams.get_stream(get("gala", "carol")).await), forbidden());
    let gold = GetStreamRequest { entitlements: vec!["gold".into()], ..get("gala", "carol") };
    streams.get_stream(gold).await.unwrap();
    streams.get_stream(get("gala", "alice")).await.unwrap();
    assert_eq!(bad_field(streams.get_stream(get("", "")).await), "stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_streams_are_listed_in_pages() {
    let (_stage, backend) = stage().await;
    let mut streams = backend.streams();
    for (id, owner, visibility) in [
        ("one", "alice", StreamVisibility::Public),
        ("two", "bob", StreamVisibility::Public),
        ("hidden", "bob", StreamVisibility::Unlisted),
        ("waiting", "bob", StreamVisibility::Public),
    ] {
        let asked = CreateStreamRequest {
            visibility: visibility.into(),
            category: StreamCategory::Talk.into(),
            ..create(id, owner)
        };
        streams.create_stream(asked).await.unwrap();
        if id != "waiting" {
            streams.start_stream(start(id, "")).await.unwrap();
        }
    }
    let list = |actor: &str, size, token: &str| ListLiveRequest {
        category: StreamCategory::Talk.into(),
        page_size: size,
        page_token: token.into(),
        actor: actor.into(),
        ..Default::default()
    };
    let ids = |list: &ListLiveResponse| list.streams.iter().map(|stream| stream.id.clone()).collect::<Vec<_>>();
    let first = streams.list_live(list("alice", 1, "")).await.unwrap().into_inner();
    let rest = streams.list_live(list("alice", 1, &first.next_page_token)).await.unwrap().into_inner();
    let mut seen = [ids(&first), ids(&rest)].concat();
    seen.sort();
    assert_eq!((seen, rest.next_page_token.as_str()), (vec!["one".to_owned(), "two".into()], ""));
    assert_eq!(streams.list_live(list("bob", 0, "")).await.unwrap().into_inner().streams.len(), 3, "bob sees his own");
    assert_eq!(streams.list_live(list("", 0, "")).await.unwrap().into_inner().streams.len(), 3);
    let others = ListLiveRequest { category: StreamCategory::News.into(), ..list("", 0, "") };
    assert!(streams.list_live(others).await.unwrap().into_inner().streams.is_empty());
    let wrong = streams.list_live(list("", 0, "x")).await;
    assert_eq!(refusal(wrong), (Code::InvalidArgument, "PAGE_TOKEN".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_are_kept_and_what_needs_sound_says_so() {
    let (_stage, backend) = stage().await;
    let mut streams = backend.streams();
    streams.create_stream(create("show", "alice")).await.unwrap();
    let set = |db: f64, paths: &[&str], actor: &str| SetEffectsRequest {
        stream: "show".into(),
        effects: Some(Effects { gain: Some(Gain { db, pan: 0.0 }), ..Default::default() }),
        update_mask: mask(paths),
        actor: actor.into(),
        ..Default::default()
    };
    streams.set_effects(set(3.0, &[], "alice")).await.unwrap();
    let kept = streams.set_effects(set(6.0, &["pitch"], "alice")).await.unwrap().into_inner();
    assert_eq!((kept.effects.unwrap().gain.unwrap().db, kept.audible), (3.0, false));
    assert_eq!(bad_field(streams.set_effects(set(25.0, &[], "")).await), "effects.gain.db");
    assert_eq!(bad_field(streams.set_effects(set(1.0, &["chorus"], "")).await), "update_mask");
    assert_eq!(refusal(streams.set_effects(set(1.0, &[], "bob")).await), forbidden());
    let read = GetEffectsRequest { stream: "show".into(), actor: "bob".into() };
    assert_eq!(streams.get_effects(read).await.unwrap().into_inner().effects.unwrap().gain.unwrap().db, 3.0);

    /// These calls about a stream that is there say that nothing is recorded, and about another they find none.
    macro_rules! silent {
        ($($call:ident $request:ident { $($field:ident: $value:expr),* };)*) => {$(
            let asked = |stream: &str| $request { stream: stream.into(), $($field: $value,)* ..Default::default() };
            let missing = (Code::Unimplemented, "AUDIO_ENGINE_MISSING".into());
            assert_eq!(refusal(streams.$call(asked("show")).await), missing, stringify!($call));
            assert_eq!(refusal(streams.$call(asked("nothing")).await), not_found(), stringify!($call));
            assert_eq!(bad_field(streams.$call(asked("")).await), "stream", stringify!($call));
        )*};
    }
    silent! {
        start_recording StartRecordingRequest {};
        stop_recording StopRecordingRequest {};
    }

    let recordings = |stream: &str| ListRecordingsRequest { stream: stream.into(), ..Default::default() };
    assert!(streams.list_recordings(recordings("show")).await.unwrap().into_inner().recordings.is_empty());
    assert_eq!(refusal(streams.list_recordings(recordings("nothing")).await), not_found());
    let analytics = |from_ms, until_ms, actor: &str| GetAnalyticsRequest {
        stream: "show".into(),
        from_ms,
        until_ms,
        actor: actor.into(),
    };
    let counted = streams.get_analytics(analytics(0, 0, "alice")).await.unwrap().into_inner();
    assert_eq!(counted, GetAnalyticsResponse::default());
    assert_eq!(bad_field(streams.get_analytics(analytics(2, 1, "")).await), "until_ms");
    assert_eq!(refusal(streams.get_analytics(analytics(0, 0, "bob")).await), forbidden());
    let history = |user: &str, actor: &str| GetListeningHistoryRequest {
        user: user.into(),
        actor: actor.into(),
        ..Default::default()
    };
    assert!(streams.get_listening_history(history("bob", "bob")).await.unwrap().into_inner().listened.is_empty());
    assert_eq!(bad_field(streams.get_listening_history(history("bob", "carol")).await), "actor");
    assert_eq!(bad_field(streams.get_listening_history(history("", "")).await), "user");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_there_after_a_crash() {
    let mut process = Start::new().settled().talkative().run();
    let backend = Backend::of(&process).await;
    backend.streams().create_stream(create("show", "alice")).await.unwrap();
    let live = StartStreamRequest { idempotency_key: "k1".into(), ..start("show", "alice") };
    let before = backend.streams().start_stream(live.clone()).await.unwrap().into_inner().stream;
    process.kill();
    let process = process.again().run();
    let mut streams = Backend::of(&process).await.streams();
    assert_eq!(streams.get_stream(get("show", "")).await.unwrap().into_inner().stream, before);
    assert_eq!(streams.start_stream(live).await.unwrap().into_inner().stream, before, "its key is remembered too");
}
