//! Sound, without a clock, sockets or threads: Opus frames of 20 ms, and the way to them from what sources send.

pub mod opus;
