//! Bounds the server keeps for itself, each with what happens when it is reached. Those of the wire stand in
//! `veza_proto::limits`; those an operator may set come in [`crate::session::Settings`].

use std::time::Duration;

/// Without a hello in this time the link is closed with 4401.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(5);

/// Outbound frames waiting in a session's lanes, bytes. Past it the room with the most waiting is marked lagging; when
/// no room is left to mark the link is closed with 4408.
pub const QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// The age of the oldest waiting frame. Past it as with [`QUEUE_BYTES_MAX`].
pub const QUEUE_AGE_MAX: Duration = Duration::from_secs(10);
/// Volatile pushes that go by stream are dropped when this much waits before them, bytes.
pub const QUEUE_BYTES_VOLATILE: usize = 256 * 1024;

/// A resume replays at most this many messages per room; further behind the verdict is a gap.
pub const REPLAY_MESSAGES_MAX: u64 = 5_000;
/// Messages read from the store at a time while replaying.
pub const REPLAY_PAGE: u32 = 100;
/// A replay reads on only while less than this waits in the lanes, bytes.
pub const REPLAY_QUEUE_BYTES: usize = 256 * 1024;
/// Live messages held back while a room replays. Past it they are let go and the replay reads them from the store.
pub const GATE_MESSAGES_MAX: usize = 256;

/// The room head is said on the stream this long after the first fast delivery it covers.
pub const FAST_HEAD_DELAY: Duration = Duration::from_millis(100);

/// Commands of one session that wait for an answer. Past it a command is refused with `rate_limited`.
pub const ASKS_IN_FLIGHT_MAX: u32 = 256;

/// This many malformed frames within [`STRIKE_WINDOW`] close the link with 4400.
pub const MALFORMED_STRIKES: usize = 3;
/// This many oversize frames within [`STRIKE_WINDOW`] close the link with 4409.
pub const OVERSIZE_STRIKES: usize = 3;
pub const STRIKE_WINDOW: Duration = Duration::from_secs(60);
/// This many refusals for rate within [`ABUSE_WINDOW`] close the link with 4429.
pub const ABUSE_REFUSALS: u32 = 1_000;
pub const ABUSE_WINDOW: Duration = Duration::from_secs(10);

/// Datagrams a client may send per second; more are dropped.
pub const DATAGRAMS_PER_SECOND: u32 = 200;
/// This many dropped datagrams within [`ABUSE_WINDOW`] (ten times the rate) close the link with 4429.
pub const DATAGRAMS_ABUSE: u32 = DATAGRAMS_PER_SECOND * 10 * 10;

/// Media packets a client may send per second, and at once after a pause of the network; more are dropped.
pub const MEDIA_PER_SECOND: u32 = 150;
pub const MEDIA_BURST: u32 = 300;

/// WebSocket: silence after which the server pings.
pub const PING_AFTER: Duration = Duration::from_secs(25);
/// WebSocket: silence after a ping that closes the link with 4410.
pub const PONG_WITHIN: Duration = Duration::from_secs(10);
/// QUIC's keep-alive, told in the welcome.
pub const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A token's end is announced this long before it.
pub const TOKEN_WARNING: Duration = Duration::from_secs(60);
/// A session ends this long after its token did.
pub const TOKEN_GRACE: Duration = Duration::from_secs(30);

/// Changes of who is here are gathered this long and told once.
pub const PRESENCE_GATHER: Duration = Duration::from_millis(500);
/// Messages of other nodes held by a room while it fetches the ones before them. Past it they are fetched as well.
pub const HELD_MESSAGES_MAX: usize = 1_024;
/// A fetch that failed is tried again after this.
pub const FETCH_RETRY: Duration = Duration::from_millis(500);
/// Messages of one fetch.
pub const FETCH_PAGE: u32 = 500;

const _: () = assert!(QUEUE_BYTES_VOLATILE < QUEUE_BYTES_MAX, "volatile pushes go first");
const _: () = assert!(REPLAY_QUEUE_BYTES < QUEUE_BYTES_MAX, "a replay alone never makes a slow consumer");
const _: () = assert!(
    REPLAY_QUEUE_BYTES + veza_proto::limits::SERVER_JSON_BYTES_MAX < QUEUE_BYTES_MAX,
    "the last message of a replay that had room fits beside what waits"
);
const _: () = assert!(REPLAY_PAGE <= veza_proto::limits::HISTORY_PAGE_MAX, "the store reads what history may read");
