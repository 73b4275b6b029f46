//! Bounds of the wire, which both sides keep. What the server alone keeps stands in the engine's `limits`.

/// A frame on a stream or in a WebSocket message, bytes of its encoding. A larger one is refused unread.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// A message's body, bytes of UTF-8. Leaves room in a frame for the envelope and for JSON's escapes of ordinary text;
/// a body that escapes to more than a frame is refused as too large on the JSON subprotocol.
pub const BODY_BYTES_MAX: usize = 32 * 1024;

/// A datagram's payload, bytes: what passes every usual path without fragmentation under QUIC's own header.
pub const DATAGRAM_BYTES_MAX: usize = 1_100;

/// A room's id, bytes.
pub const ROOM_ID_BYTES_MAX: usize = 64;
/// A room's title, bytes.
pub const ROOM_TITLE_BYTES_MAX: usize = 128;
/// A client message id, bytes.
pub const CMID_BYTES_MAX: usize = 64;
/// A user's id, bytes.
pub const USER_ID_BYTES_MAX: usize = 128;
/// A token, bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// The client's description of itself, bytes.
pub const CLIENT_BYTES_MAX: usize = 128;
/// Messages in one page of history or one repair.
pub const HISTORY_PAGE_MAX: u32 = 100;
/// The messages of one page, bytes of their encoding; a page with more is cut, and `more_before` or `more_after` says so.
pub const PAGE_BYTES_MAX: usize = 48 * 1024;
/// A frame of the server in JSON, where an escape may take six bytes for one; protobuf frames keep [`FRAME_BYTES_MAX`].
pub const SERVER_JSON_BYTES_MAX: usize = 256 * 1024;
/// Messages in a page when the client does not say.
pub const HISTORY_PAGE_DEFAULT: u32 = 50;
/// Rooms in one page of a list.
pub const ROOM_LIST_PAGE_MAX: u32 = 100;
/// Names in the `present` list of one room; beyond it only the count is told.
pub const PRESENT_NAMES_MAX: usize = 100;

const _: () = assert!(BODY_BYTES_MAX + 1024 < FRAME_BYTES_MAX, "a body fits in a frame with its envelope");
const _: () = assert!(PAGE_BYTES_MAX + 1024 < FRAME_BYTES_MAX, "a page fits in a frame with its envelope");
const _: () = assert!(BODY_BYTES_MAX + 1024 < PAGE_BYTES_MAX, "any message fits in a page");
const _: () = assert!(BODY_BYTES_MAX * 6 + 4096 < SERVER_JSON_BYTES_MAX, "any body fits in JSON");
const _: () = assert!(DATAGRAM_BYTES_MAX < 1_200, "QUIC's smallest path carries a datagram");
const _: () = assert!(TOKEN_BYTES_MAX < FRAME_BYTES_MAX / 2, "hello leaves room for cursors");
