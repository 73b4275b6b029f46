//! A publisher whose link speaks no protocol of ours. It has a place among the sessions all the same, so that limits,
//! revocations, drains and the platform's eyes reach it as they reach everybody.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use veza_engine::Timestamp;
use veza_engine::session::{Refusal, Refused};
use veza_proto::CloseCode;
use veza_proto::gateway::v1::ConnectRequest;

use super::Node;
use super::entry::{self, Checked};
use super::registry::{Holder, Place};
use crate::audio::Seat;
use crate::auth::{Identity, Rejected};
use crate::hub::Caller;
use crate::hub::mailbox::{Letter, Mailbox};

/// Somebody who was checked and let in. Dropping it leaves everything.
pub struct Guest {
    node: Arc<Node>,
    caller: Caller,
    seat: Arc<Seat>,
    expires: Timestamp,
    place: Option<Place>,
}

/// What somebody shows.
pub enum Proof {
    /// A token, to be checked here.
    Token(String),
    /// Who it is, by something else that was checked.
    Known(Identity),
}

/// Who somebody is, where nothing speaks against them.
///
/// # Errors
/// As a hello is refused.
pub async fn identify(
    node: &Arc<Node>,
    proof: Proof,
    remote: SocketAddr,
    transport: &'static str,
    client: &str,
) -> Result<Checked, Refused> {
    let address = remote.ip();
    if node.admissions.logins_blocked(address) {
        let message = "too many failed logins from this address: wait a minute".to_owned();
        return Err(Refused { why: Refusal::Deferred { retry_after_ms: 60_000 }, message });
    }
    let now_ms = node.clock.now().as_millis();
    let (token, verified) = match proof {
        Proof::Token(token) => {
            let verified = node.auth.verify(&token, now_ms);
            (token, verified)
        }
        Proof::Known(identity) if node.auth.is_revoked(&identity, now_ms, now_ms) => {
            (String::new(), Err(Rejected::Revoked))
        }
        Proof::Known(identity) => (String::new(), Ok(identity)),
    };
    if let Err(rejected) = &verified
        && (*rejected != Rejected::UnknownKey || !node.auth.may_learn_keys())
    {
        node.admissions.note_failed_login(address);
        return Err(entry::refused(*rejected));
    }
    let question = ConnectRequest {
        address: address.to_string(),
        client: client.to_owned(),
        transport: transport.to_owned(),
        ..ConnectRequest::default()
    };
    entry::check(Arc::clone(node), token, verified, question, address).await
}

impl Guest {
    /// Somebody who asks something and goes.
    pub fn passing(node: &Arc<Node>, checked: Checked) -> Self {
        let Checked { identity, granted, .. } = checked;
        let caller = Caller {
            session: node.registry.next_key(),
            user: identity.user,
            entitlements: entry::with_granted(identity.entitlements, &granted),
            mailbox: Arc::new(Mailbox::default()),
        };
        let expires = Timestamp::from_millis(identity.expires_ms);
        Self { node: Arc::clone(node), caller, seat: Arc::new(Seat::new()), expires, place: None }
    }

    /// Takes a place among the sessions of its user.
    ///
    /// # Errors
    /// When the user has as many as may be, or was revoked meanwhile.
    pub fn enter(node: &Arc<Node>, checked: Checked, transport: &'static str, client: &str) -> Result<Self, Refused> {
        let (identity, verified_ms) = (checked.identity.clone(), checked.verified_ms);
        let mut guest = Self::passing(node, checked);
        let since_ms = node.clock.now().as_millis();
        let holder = Holder { identity: identity.clone(), verified_ms, since_ms, transport, client: client.into() };
        let entered = node.registry.enter(guest.caller.session, rand::random(), holder, &guest.caller.mailbox);
        let place =
            entered.map_err(|error| Refused { why: Refusal::TooManyConnections, message: error.to_string() })?;
        // As with a session: a revocation closes those it finds, and who came meanwhile looks for it.
        if node.auth.is_revoked(&identity, verified_ms, node.clock.now().as_millis()) {
            place.leave(CloseCode::Revoked.code());
            return Err(entry::refused(Rejected::Revoked));
        }
        guest.place = Some(place);
        Ok(guest)
    }

    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    pub fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// When what it showed ends.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// What is said to it next.
    pub async fn letter(&self) -> Letter {
        poll_fn(|cx| self.caller.mailbox.poll_next(cx)).await
    }

    /// Leaves with the code of a close.
    pub fn leave(mut self, code: CloseCode) {
        if let Some(place) = self.place.take() {
            place.leave(code.code());
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.node.audio.leave(self.caller.session, &self.seat);
        self.caller.mailbox.close();
    }
}
