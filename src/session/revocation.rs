//! Revocations: kept durably first, then believed by this node's door, then carried out on its live sessions. What other
//! nodes have kept is found in the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use veza_engine::Timestamp;
use veza_engine::ledger::Actor;
use veza_proto::UserId;
use veza_proto::gateway::v1::{Revoked, event, revoked};

use super::registry::Registry;
use crate::auth::{Auth, RevocationsFull, TOKEN_LIFE_MAX};
use crate::clock::Clock;
use crate::events::Events;
use crate::store::StoreError;
use crate::store::outbox::Told;
use crate::store::records::{Records, Revocation, Subject};
use crate::telemetry::metrics;

/// How often other nodes' revocations are looked for. With the closing of sessions it stays well under five seconds.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often those whose tokens have ended are removed.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// Read at a time.
const PAGE: u32 = 1_000;
/// A token is taken this long after its end, for the sake of clocks, and so must its revocation be.
const SKEW: Duration = Duration::from_secs(60);

/// The way to revoke. Clones share everything.
#[derive(Clone)]
pub struct Revocations {
    inner: Arc<Inner>,
}

struct Inner {
    auth: Auth,
    records: Arc<dyn Records>,
    registry: Arc<Registry>,
    events: Events,
    clock: Clock,
    /// Everything up to this number is believed here.
    seen: AtomicU64,
}

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    #[error(transparent)]
    Full(#[from] RevocationsFull),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Revocations {
    pub fn new(auth: Auth, records: Arc<dyn Records>, registry: Arc<Registry>, events: Events, clock: Clock) -> Self {
        let seen = AtomicU64::new(0);
        Self { inner: Arc::new(Inner { auth, records, registry, events, clock, seen }) }
    }

    /// Refuses the token with this `jti` from now on; it ends at `expires`. `user` is whose it is, where that is known, `by`
    /// who wants it so.
    ///
    /// # Errors
    /// [`RevokeError`], here as below: trying again is safe.
    pub async fn revoke_token(
        &self,
        token_id: String,
        user: Option<UserId>,
        expires: Timestamp,
        by: &Actor,
    ) -> Result<usize, RevokeError> {
        let now = self.inner.clock.now();
        self.revoke(Subject::Token(token_id), user, now, expires + SKEW, by).await
    }

    /// Refuses tokens that were issued up to `issued`: a user's, or those for one device. How many sessions of this node it
    /// closed.
    pub async fn revoke_issued(&self, subject: Subject, issued: Timestamp, by: &Actor) -> Result<usize, RevokeError> {
        let user = match &subject {
            Subject::Device(user, _) | Subject::User(user) => Some(user.clone()),
            Subject::Token(_) => None,
        };
        self.revoke(subject, user, issued, issued + TOKEN_LIFE_MAX + SKEW, by).await
    }

    async fn revoke(
        &self,
        subject: Subject,
        user: Option<UserId>,
        revoked: Timestamp,
        drop_at: Timestamp,
        by: &Actor,
    ) -> Result<usize, RevokeError> {
        let now_ms = self.inner.clock.now().as_millis();
        self.inner.auth.has_room_for(&subject, now_ms)?;
        let revocation = Revocation { subject, revoked_ms: revoked.as_millis(), drop_at_ms: drop_at.as_millis() };
        let kind = event::Kind::Revoked(Revoked { what: Some(what(&revocation)), actor: by.as_str().to_owned() });
        self.inner.records.revoke(&revocation, &Told { at_ms: now_ms, room: None, user, kind }).await?;
        self.inner.events.wake();
        Ok(self.carry_out(&revocation))
    }

    /// From here on nobody comes in by it, and who is in is out.
    fn carry_out(&self, revocation: &Revocation) -> usize {
        let Inner { auth, registry, clock, .. } = &*self.inner;
        let now_ms = clock.now().as_millis();
        auth.revoke(revocation, now_ms);
        let closed = registry
            .close_revoked(&revocation.subject, |holder| auth.is_revoked(&holder.identity, holder.verified_ms, now_ms));
        let kind = kind(&revocation.subject);
        metrics::revoked_sessions_total(kind).increment(closed as u64);
        closed
    }

    /// Takes over what was revoked before this node started, or by others since it looked last.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        loop {
            let seen = self.inner.seen.load(Ordering::Relaxed);
            let page = self.inner.records.revocations(seen, PAGE).await?;
            for (number, revocation) in &page {
                metrics::revocations_total(kind(&revocation.subject)).increment(1);
                self.carry_out(revocation);
                self.inner.seen.fetch_max(*number, Ordering::Relaxed);
            }
            if page.len() < PAGE as usize {
                return Ok(());
            }
        }
    }

    /// Looks for other nodes' revocations until `stop`. Spawn it as a task.
    pub async fn watch(self, stop: CancellationToken) {
        let (mut failing, mut since_forgotten) = (false, Duration::ZERO);
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let looked = self.catch_up().await;
            if let (Err(error), false) = (&looked, failing) {
                tracing::error!(%error, "revocations cannot be read: what other nodes revoke is not known here");
            }
            failing = looked.is_err();
            since_forgotten += LOOK_EVERY;
            if since_forgotten >= FORGET_EVERY {
                since_forgotten = Duration::ZERO;
                let now_ms = self.inner.clock.now().as_millis();
                if let Err(error) = self.inner.records.forget_revocations(now_ms).await {
                    tracing::warn!(%error, "revocations that have ended could not be removed");
                }
            }
        }
    }
}

/// What is told of it.
fn what(revocation: &Revocation) -> revoked::What {
    match &revocation.subject {
        Subject::Token(id) => revoked::What::TokenId(id.clone()),
        Subject::Device(_, device) => revoked::What::Device(String::from(device)),
        Subject::User(_) => revoked::What::IssuedBeforeMs(revocation.revoked_ms.saturating_add(1)),
    }
}

fn kind(subject: &Subject) -> &'static str {
    match subject {
        Subject::Token(_) => "token",
        Subject::Device(..) => "device",
        Subject::User(_) => "user",
    }
}

#[cfg(test)]
mod tests {
    use veza_proto::{CloseCode, UserId};

    use super::*;
    use crate::auth::{Grant, Rejected};
    use crate::config::{self, Environment, TokenAlgorithm};
    use crate::events::Retention;
    use crate::hub::mailbox::{Letter, Mailbox, Order};
    use crate::session::attendance::Attendance;
    use crate::session::registry::{Holder, Place};
    use crate::store::MemoryStore;
    use crate::tasks::Tasks;

    /// A node of its own on a store that others share.
    struct Node {
        auth: Auth,
        registry: Arc<Registry>,
        revocations: Revocations,
        clock: Clock,
    }

    fn node(records: &Arc<MemoryStore>) -> Node {
        let config = config::Auth {
            algorithm: TokenAlgorithm::Hs256,
            key_file: None,
            hs256_secret: Some(config::Secret::new("a secret of the tests, longer than 32 bytes")),
            jwks: None,
            issuer: "veza".into(),
            audience: "veza".into(),
        };
        let auth = Auth::load(&config, Environment::Production, std::path::Path::new("/nonexistent")).unwrap();
        let clock = Clock::start();
        let registry = Registry::new(10, Attendance::new(1, clock).0);
        let retention = Retention { hours: 1, rows_max: 1_000 };
        let events = Events::start(records.clone(), Arc::default(), retention, clock, &Tasks::new());
        let records = Arc::clone(records) as Arc<dyn Records>;
        let revocations = Revocations::new(auth.clone(), records, Arc::clone(&registry), events, clock);
        Node { auth, registry, revocations, clock }
    }

    impl Node {
        fn token(&self, user: &UserId) -> String {
            // Tokens say when they were issued to the second, so a fresh one would be as old as the revocation.
            let earlier = self.clock.now().as_millis() - 5_000;
            self.auth.issue(&Grant::to(user.clone()), Duration::from_secs(60), earlier).unwrap().token
        }

        fn session(&self, token: &str) -> (Place, Arc<Mailbox>) {
            let now = self.clock.now().as_millis();
            let identity = self.auth.verify(token, now).unwrap();
            let holder = Holder { identity, verified_ms: now, since_ms: now, transport: "quic", client: "".into() };
            let (key, mailbox) = (self.registry.next_key(), Arc::default());
            let place = self.registry.enter(key, rand::random(), holder, &mailbox).unwrap();
            (place, mailbox)
        }
    }

    fn by() -> Actor {
        Actor::service("backend")
    }

    fn is_closed(mailbox: &Mailbox) -> bool {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(Letter::Order(order)) = mailbox.poll_next(&mut cx) else { return false };
        matches!(*order, Order::Close { code: CloseCode::Revoked, .. })
    }

    #[tokio::test]
    async fn what_one_node_revokes_holds_on_the_others_and_after_a_restart() {
        let store = Arc::new(MemoryStore::new());
        let (one, two) = (node(&store), node(&store));
        let alice = UserId::parse("alice").unwrap();
        let token = one.token(&alice);
        let (here, there) = (one.session(&token), two.session(&token));
        let closed = one.revocations.revoke_issued(Subject::User(alice.clone()), one.clock.now(), &by()).await.unwrap();
        assert_eq!((closed, is_closed(&here.1), is_closed(&there.1)), (1, true, false));
        two.revocations.catch_up().await.unwrap();
        assert!(is_closed(&there.1));
        let late = node(&store);
        late.revocations.catch_up().await.unwrap();
        for node in [&one, &two, &late] {
            assert_eq!(node.auth.verify(&token, node.clock.now().as_millis()), Err(Rejected::Revoked));
        }
    }

    #[tokio::test]
    async fn a_token_is_revoked_alone() {
        let node = node(&Arc::new(MemoryStore::new()));
        let alice = UserId::parse("alice").unwrap();
        let (first, second) = (node.token(&alice), node.token(&alice));
        let sessions = [node.session(&first), node.session(&second)];
        let identity = node.auth.verify(&first, node.clock.now().as_millis()).unwrap();
        let expires = Timestamp::from_millis(identity.expires_ms);
        assert_eq!(node.revocations.revoke_token(identity.token_id.unwrap(), None, expires, &by()).await.unwrap(), 1);
        assert_eq!(sessions.each_ref().map(|(_, mailbox)| is_closed(mailbox)), [true, false]);
        assert!(node.auth.verify(&second, node.clock.now().as_millis()).is_ok());
    }
}
