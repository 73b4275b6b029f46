//! Sound, without a clock, sockets or threads: Opus frames of 20 ms, and the way to them from what sources send.
//!
//! [`feed::Feed`] is the whole way, from bytes to frames on every rung: [`source::Source`] tells what the bytes are and takes
//! them apart, [`framer::Framer`] brings sound to 48 kHz, [`opus`] encodes it. All of it reads when it is asked and waits for
//! its reader: who has a socket has it on a thread.

mod decoded;
pub mod feed;
pub mod framer;
pub mod level;
mod link;
mod ogg;
pub mod opus;
pub mod packet;
pub mod source;
pub mod tags;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transcoder;
