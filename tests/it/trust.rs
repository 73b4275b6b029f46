//! Whom the server believes: keys of others, revocations, and the platform's own say.

mod callbacks;
mod calls;
mod keys;
mod kick;
mod platform;
mod revocation;
