//! From a hello to a place: the token, the platform's say, the place. What needs nobody else is decided at once; while an
//! answer is waited for, nothing more is read from the link.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use veza_engine::session::{Admit, Admitted, Refusal, Refused};
use veza_engine::{Ticket, Timestamp};
use veza_proto::gateway::v1::ConnectRequest;
use veza_proto::{CloseCode, UserId};

use super::registry::{Holder, SessionId};
use super::{Driver, Node, hex};
use crate::auth::{Identity, Rejected};
use crate::authz::{Call, Decision, Question};
use crate::hub::Caller;

/// What a session waits for before it goes on.
pub(super) enum Waiting {
    Hello { admit: Admit, checked: BoxFuture<'static, Result<Checked, Refused>> },
    Refresh { ticket: Ticket, verified: BoxFuture<'static, Result<Identity, Rejected>> },
}

/// Somebody whom nothing speaks against.
pub struct Checked {
    pub(super) identity: Identity,
    pub(super) verified_ms: u64,
    /// What the platform adds to the token's entitlements.
    pub(super) granted: Vec<String>,
}

impl Checked {
    /// Who it is.
    pub fn user(&self) -> &UserId {
        &self.identity.user
    }
}

impl Driver {
    /// Checks who this is, at once where nobody has to be asked.
    pub(super) fn admit(&mut self, admit: Admit, now: Timestamp) {
        let peer = self.link.peer();
        let remote = peer.remote.ip();
        if self.node.admissions.logins_blocked(remote) {
            let message = "too many failed logins from this address: wait a minute".to_owned();
            let refused = Refused { why: Refusal::Unauthenticated, message };
            self.session.handle_admitted(Err(refused), now);
            return;
        }
        let bearer = peer.bearer.clone().unwrap_or_default();
        let token = if admit.token.is_empty() { bearer } else { admit.token.clone() };
        let verified = self.verify(&token, now);
        let asks = self.node.authz.is_asked(Call::Connect);
        match verified {
            Ok(identity) if !asks => {
                let checked = Checked { identity, verified_ms: now.as_millis(), granted: Vec::new() };
                self.take_place(&admit, Ok(checked), now);
            }
            Err(rejected) if rejected != Rejected::UnknownKey || !self.node.auth.may_learn_keys() => {
                self.node.admissions.note_failed_login(remote);
                self.take_place(&admit, Err(refused(rejected)), now);
            }
            verified => {
                let question = ConnectRequest {
                    address: remote.to_string(),
                    client: admit.client.clone(),
                    transport: self.transport.label().to_owned(),
                    ..ConnectRequest::default()
                };
                let checked = check(Arc::clone(&self.node), token, verified, question, remote).boxed();
                self.waiting = Some(Waiting::Hello { admit, checked });
            }
        }
    }

    /// Checks a fresh token for a session that goes on.
    pub(super) fn refresh(&mut self, ticket: Ticket, token: String, now: Timestamp) {
        match self.verify(&token, now) {
            Err(Rejected::UnknownKey) if self.node.auth.may_learn_keys() => {
                let node = Arc::clone(&self.node);
                let verified = async move {
                    node.auth.look_for_keys().await;
                    node.auth.verify(&token, node.clock.now().as_millis())
                };
                self.waiting = Some(Waiting::Refresh { ticket, verified: verified.boxed() });
            }
            verified => self.renew(ticket, verified, now),
        }
    }

    /// Goes on with what was waited for: whether it has come.
    pub(super) fn poll_waiting(&mut self, cx: &mut Context<'_>, now: Timestamp) -> bool {
        match &mut self.waiting {
            None => return false,
            Some(Waiting::Hello { checked, .. }) => {
                let Poll::Ready(checked) = checked.poll_unpin(cx) else { return false };
                if let Some(Waiting::Hello { admit, .. }) = self.waiting.take() {
                    self.take_place(&admit, checked, now);
                }
            }
            Some(Waiting::Refresh { verified, .. }) => {
                let Poll::Ready(verified) = verified.poll_unpin(cx) else { return false };
                if let Some(Waiting::Refresh { ticket, .. }) = self.waiting.take() {
                    self.renew(ticket, verified, now);
                }
            }
        }
        true
    }

    fn take_place(&mut self, admit: &Admit, checked: Result<Checked, Refused>, now: Timestamp) {
        let admitted = checked.and_then(|checked| self.enter(admit, checked, now));
        self.session.handle_admitted(admitted, now);
    }

    fn enter(&mut self, admit: &Admit, checked: Checked, now: Timestamp) -> Result<Admitted, Refused> {
        let Checked { identity, verified_ms, granted } = checked;
        let resumed = self.node.resume.open(&admit.resume_token, now.as_millis());
        let resumed = resumed.filter(|(_, user)| *user == identity.user).map(|(id, _)| id);
        let id: SessionId = resumed.unwrap_or_else(rand::random);
        let (transport, client) = (self.transport.label(), admit.client.as_str().into());
        let since_ms = now.as_millis();
        let holder = Holder { identity: identity.clone(), verified_ms, since_ms, transport, client };
        let place = self
            .node
            .registry
            .enter(self.key, id, holder, &self.mailbox)
            .map_err(|error| Refused { why: Refusal::TooManyConnections, message: error.to_string() })?;
        // A revocation closes the sessions it finds: what it did not find yet looks for it.
        if self.node.auth.is_revoked(&identity, verified_ms, now.as_millis()) {
            place.leave(CloseCode::Revoked.code());
            return Err(refused(Rejected::Revoked));
        }
        self.place = Some(place);
        if let Some(device) = &identity.device {
            self.node.devices.see(&identity.user, device, &admit.client, now.as_millis());
        }
        tracing::debug!(
            session = self.key.0,
            client = admit.client.escape_debug().to_string(),
            transport,
            resumed = resumed.is_some(),
            "a session is welcomed"
        );
        let user = identity.user;
        self.caller = Some(Caller {
            session: self.key,
            user: user.clone(),
            entitlements: with_granted(identity.entitlements, &granted),
            mailbox: Arc::clone(&self.mailbox),
        });
        self.granted = granted;
        Ok(Admitted {
            session_id: hex(&id),
            resume_token: self.node.resume.seal(id, &user, now.as_millis()),
            resumed: resumed.is_some(),
            token_expires: Timestamp::from_millis(identity.expires_ms),
            user,
        })
    }

    fn renew(&mut self, ticket: Ticket, verified: Result<Identity, Rejected>, now: Timestamp) {
        let verified = verified.map_err(|rejected| rejected.sentence().to_owned()).and_then(|identity| {
            if self.session.user() == Some(&identity.user) {
                Ok(identity)
            } else {
                Err("the token is another user's".to_owned())
            }
        });
        let refreshed = verified.map(|identity| {
            let expires = Timestamp::from_millis(identity.expires_ms);
            if let Some(place) = &self.place {
                place.renew(identity.clone(), now.as_millis());
            }
            if let Some(device) = &identity.device {
                self.node.devices.see(&identity.user, device, "", now.as_millis());
            }
            if let Some(caller) = &mut self.caller {
                caller.entitlements = with_granted(identity.entitlements, &self.granted);
            }
            expires
        });
        self.session.handle_refreshed(ticket, refreshed, now);
    }

    fn verify(&self, token: &str, now: Timestamp) -> Result<Identity, Rejected> {
        let _hello = tracing::debug_span!("verify-token").entered();
        self.node.auth.verify(token, now.as_millis())
    }
}

/// What takes longer: a key that may have been published meanwhile, and the platform's say.
pub(super) async fn check(
    node: Arc<Node>,
    token: String,
    verified: Result<Identity, Rejected>,
    question: ConnectRequest,
    remote: IpAddr,
) -> Result<Checked, Refused> {
    let identity = match verified {
        Ok(identity) => identity,
        Err(_unknown_key) => {
            node.auth.look_for_keys().await;
            let verified = node.auth.verify(&token, node.clock.now().as_millis());
            verified.map_err(|rejected| {
                // A key that comes too late is nobody's guess at a token.
                if rejected != Rejected::UnknownKey {
                    node.admissions.note_failed_login(remote);
                }
                refused(rejected)
            })?
        }
    };
    let verified_ms = node.clock.now().as_millis();
    let question = ConnectRequest {
        user: String::from(&identity.user),
        device: identity.device.as_ref().map(String::from).unwrap_or_default(),
        token_id: identity.token_id.clone().unwrap_or_default(),
        ..question
    };
    match node.authz.ask(Question::Connect(question)).await {
        Decision::Allowed { granted } => Ok(Checked { identity, verified_ms, granted }),
        Decision::Denied { message, retry_after_ms: 0 } => Err(Refused { why: Refusal::Denied, message }),
        Decision::Denied { message, retry_after_ms } => {
            Err(Refused { why: Refusal::Deferred { retry_after_ms }, message })
        }
        Decision::Unanswered { message, retry_after_ms } => {
            Err(Refused { why: Refusal::Undecided { retry_after_ms }, message })
        }
    }
}

pub(super) fn refused(rejected: Rejected) -> Refused {
    Refused { why: Refusal::Unauthenticated, message: rejected.sentence().to_owned() }
}

pub(super) fn with_granted(mut entitlements: Vec<String>, granted: &[String]) -> Arc<[String]> {
    entitlements.extend(granted.iter().cloned());
    entitlements.into()
}
