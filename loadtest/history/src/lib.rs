//! What clients did and saw, as a log of JSON lines, and a checker that judges whether the chat kept its invariants.
//!
//! No I/O, no async, no clock: [`Record`]s go into a [`Checker`] in the order of their time, and a [`Report`] comes out.
//! Whoever drives clients (a load test against real processes, a simulation) writes the records; `docs/HISTORY.md` tells
//! what each means.
//!
//! ```
//! use veza_history::{Checker, Entry, Event, Kind, Record, Said, digest};
//!
//! let said = Said { kind: Kind::Text, target: 0, content: Some(digest("hello")) };
//! let seen = Entry { epoch: 1, seq: 1, cmid: "m1".into(), author: "alice".into(), said, edits: 0, deleted: false };
//! let (room, source) = ("lobby".to_owned(), "database".to_owned());
//! let log = [
//!     Event::Connected { user: "alice".into(), transport: "quic".into() },
//!     Event::Sent { call: 1, room: room.clone(), cmid: "m1".into(), said },
//!     Event::Acknowledged { call: 1, epoch: 1, seq: 1, duplicate: false },
//!     Event::Stored { source: source.clone(), room: room.clone(), entry: seen },
//!     Event::Final { source, room, epoch: 1, first_available: 1, head: 1 },
//! ];
//! let mut checker = Checker::default();
//! for (at, event) in log.into_iter().enumerate() {
//!     checker.take(&Record { at: at as u64, client: "c1".into(), event });
//! }
//! assert!(checker.finish().holds());
//! ```

mod checker;
mod digest;
mod record;
mod report;

pub use checker::{Checker, Grace};
pub use digest::{Digest, digest};
pub use record::{Anchor, Cursor, Entry, Event, Kind, Page, Record, Said, Verdict, View, Volatile, is_definite};
pub use report::{Counts, Invariant, Judgement, Report};
