//! The decisions of Veza as deterministic state machines: no sockets, no clock, no randomness, no async.
//!
//! Every machine has the same four verbs: `handle_*(input, now)` takes what happened, `poll_output()` yields what is to
//! be done, `poll_timeout()` gives the next deadline and `handle_timeout(now)` fires it. Drain the outputs after every
//! `handle_*`. A peer's mistake becomes an error frame or a close code; our own mistake is an assertion.

mod ask;
pub mod audio;
pub mod check;
mod fit;
pub mod ledger;
pub mod limits;
mod quota;
mod retract;
pub mod reviews;
pub mod room;
pub mod session;
pub mod streams;
mod time;

pub use ask::{Anchor, Answer, Ask, Joined, Page, Purpose, SearchCursor, SessionKey, Status, Ticket, View};
pub use quota::TokenBucket;
pub use retract::retracted;
pub use time::Timestamp;
