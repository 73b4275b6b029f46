//! Bounds of the wire, which both sides keep. What the server alone keeps stands in the engine's `limits`.

/// A frame on a stream or in a WebSocket message, bytes of its encoding. A larger one is refused unread.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// A message's body, bytes of UTF-8. Leaves room in a frame for the envelope and for JSON's escapes of ordinary text;
/// a body that escapes to more than a frame is refused as too large on the JSON subprotocol.
pub const BODY_BYTES_MAX: usize = 32 * 1024;

/// A message with its mentions and attachments, bytes; more is refused as too large. What becomes of it (reactions, a
/// tombstone) still fits beside it in a frame.
pub const CONTENT_BYTES_MAX: usize = 42 * 1024;

/// A datagram's payload, bytes: what passes every usual path without fragmentation under QUIC's own header.
pub const DATAGRAM_BYTES_MAX: usize = 1_100;

/// A room's id, bytes.
pub const ROOM_ID_BYTES_MAX: usize = 64;
/// A room's title, bytes.
pub const ROOM_TITLE_BYTES_MAX: usize = 128;
/// A room's topic, bytes.
pub const ROOM_TOPIC_BYTES_MAX: usize = 512;
/// What a premium room asks for, bytes.
pub const ENTITLEMENT_BYTES_MAX: usize = 64;
/// Six hours.
pub const SLOW_MODE_SECONDS_MAX: u32 = 21_600;
/// A minute and ten years.
pub const RETENTION_SECONDS_MIN: u64 = 60;
pub const RETENTION_SECONDS_MAX: u64 = 315_360_000;
pub const RETENTION_ENTRIES_MIN: u64 = 10;
/// Ten years: a mute or a ban is longer only when it holds until it is lifted.
pub const SANCTION_SECONDS_MAX: u64 = 315_360_000;
/// The reason of a sanction or a deletion, bytes.
pub const REASON_BYTES_MAX: usize = 512;
/// A code of an invitation, bytes.
pub const INVITE_CODE_BYTES_MAX: usize = 64;
/// How long an invitation holds: seven days when nobody says, a year at most.
pub const INVITE_SECONDS_DEFAULT: u64 = 7 * 86_400;
pub const INVITE_SECONDS_MAX: u64 = 365 * 86_400;
/// Invitations in one list, which always fits in a frame.
pub const INVITES_LISTED_MAX: u32 = 80;
/// Users that one message may mention.
pub const MENTIONS_MAX: usize = 50;
/// Mentions are counted up to this.
pub const MENTIONS_COUNTED_MAX: u32 = 1_000;
/// Attachments of one message.
pub const ATTACHMENTS_MAX: usize = 10;
pub const ATTACHMENT_URL_BYTES_MAX: usize = 2_048;
pub const ATTACHMENT_NAME_BYTES_MAX: usize = 255;
pub const ATTACHMENT_TYPE_BYTES_MAX: usize = 127;
/// A reaction, bytes.
pub const EMOJI_BYTES_MAX: usize = 64;
/// Different reactions on one message.
pub const EMOJI_PER_MESSAGE_MAX: usize = 50;
/// Times a message may be edited.
pub const EDITS_MAX: u32 = 100;
/// Pinned messages of a room.
pub const PINS_MAX: usize = 50;
/// A search, bytes.
pub const QUERY_BYTES_MAX: usize = 256;
/// Hits in one page of a search: when the client does not say, and at most.
pub const SEARCH_PAGE_DEFAULT: u32 = 20;
pub const SEARCH_PAGE_MAX: u32 = 50;
/// Rooms in one answer to `list_unread`.
pub const UNREAD_PAGE_MAX: u32 = 500;
/// What somebody says of themselves beside their presence, bytes.
pub const STATUS_BYTES_MAX: usize = 128;
/// A client message id, bytes.
pub const CMID_BYTES_MAX: usize = 64;
/// A user's id, bytes.
pub const USER_ID_BYTES_MAX: usize = 128;
/// A device's id, bytes.
pub const DEVICE_ID_BYTES_MAX: usize = 64;
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
const _: () = assert!(
    CONTENT_BYTES_MAX + EMOJI_PER_MESSAGE_MAX * (EMOJI_BYTES_MAX + 8) + 1024 < PAGE_BYTES_MAX,
    "any message fits in a page with what became of it"
);
const _: () = assert!(BODY_BYTES_MAX + 1024 < CONTENT_BYTES_MAX, "a full body leaves room for attachments");
const _: () = assert!(
    BODY_BYTES_MAX * 6 + (CONTENT_BYTES_MAX - BODY_BYTES_MAX) * 2 + 4096 < SERVER_JSON_BYTES_MAX,
    "any message fits in JSON"
);
const _: () = assert!(DATAGRAM_BYTES_MAX < 1_200, "QUIC's smallest path carries a datagram");
const _: () = assert!(TOKEN_BYTES_MAX < FRAME_BYTES_MAX / 2, "hello leaves room for cursors");
