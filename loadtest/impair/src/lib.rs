//! A network that is worse than the one there is: a proxy for UDP and TCP that delays, loses, reorders and duplicates
//! packets, lets them through a bottleneck with a finite queue, and forgets NAT mappings; as written in a [`Trace`], the same
//! under the same seed.
//!
//! What becomes of a packet is decided by a [`Wire`], which does no I/O: time and chance are handed in. [`Proxy`] is the
//! sockets around it.
//!
//! ```
//! use std::time::Duration;
//! use veza_impair::{Carriage, Trace, Wire};
//!
//! // 100 kb/s with 20 ms of delay: 125 bytes take 10 ms.
//! let trace: Trace = "100k delay=20ms queue=5ms".parse().unwrap();
//! let mut wire = Wire::new(trace, Carriage::Datagrams, 1, Duration::ZERO);
//! assert!(wire.handle("first", 125, Duration::ZERO).is_ok());
//! assert!(wire.handle("second", 125, Duration::from_millis(5)).is_ok(), "it waits 5 ms for the first one");
//! assert!(wire.handle("third", 125, Duration::from_millis(5)).is_err(), "it would wait 15 ms");
//! assert_eq!(wire.timeout(), Some(Duration::from_millis(10)));
//! assert_eq!(wire.poll(Duration::from_millis(29)), None);
//! assert_eq!(wire.poll(Duration::from_millis(30)), Some("first"));
//! assert_eq!(wire.poll(Duration::from_millis(40)), Some("second"));
//! ```

mod chance;
mod counts;
mod profile;
mod proxy;
mod trace;
mod units;
mod wire;

pub use chance::Chance;
pub use counts::{Counts, Drop};
pub use profile::{Bursts, Profile, Queue, Reorder, Spread};
pub use proxy::{Both, Options, Proxy, Stats};
pub use trace::Trace;
pub use units::{Malformed, PerMillion};
pub use wire::{Carriage, Wire};
