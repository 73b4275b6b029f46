//! Who comes and goes, for whoever listens to events: gathered as it happens and told together, so that nobody waits for a
//! commit to come in or to be let go.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use veza_proto::DeviceId;
use veza_proto::gateway::v1::event::Kind;
use veza_proto::gateway::v1::{SessionConnected, SessionDisconnected};

use super::hex;
use super::registry::Seat;
use crate::clock::Clock;
use crate::events::Events;
use crate::store::outbox::Told;
use crate::telemetry::metrics;

/// Comings and goings that may wait to be told; what comes past it is lost, and counted.
const WAITING_MAX: usize = 16_384;
/// In one transaction, which messages wait behind.
const BATCH: usize = 256;
/// What comes closer than this is told together.
const GAP: Duration = Duration::from_millis(20);
/// When the database did not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Takes note of sessions. Clones share everything.
#[derive(Debug, Clone)]
pub struct Attendance {
    told: mpsc::Sender<Told>,
    node: u64,
    clock: Clock,
}

/// What was noted and waits to be told.
#[derive(Debug)]
pub struct Noted {
    told: mpsc::Receiver<Told>,
}

impl Attendance {
    pub fn new(node: u64, clock: Clock) -> (Self, Noted) {
        let (sender, told) = mpsc::channel(WAITING_MAX);
        (Self { told: sender, node, clock }, Noted { told })
    }

    /// `first`: the user had no other session on this node.
    pub(super) fn came(&self, seat: &Seat, first: bool) {
        let connected = SessionConnected {
            session: hex(&seat.id),
            device: device(seat),
            transport: seat.holder.transport.to_owned(),
            node: self.node(),
            first,
        };
        self.note(seat, Kind::SessionConnected(connected), "connected");
    }

    /// `code` is that of the close, 0 for a link that was lost. `last`: the user has no other session on this node.
    pub(super) fn went(&self, seat: &Seat, code: u16, last: bool) {
        let disconnected = SessionDisconnected {
            session: hex(&seat.id),
            device: device(seat),
            code: code.into(),
            node: self.node(),
            last,
        };
        self.note(seat, Kind::SessionDisconnected(disconnected), "disconnected");
    }

    fn note(&self, seat: &Seat, kind: Kind, label: &'static str) {
        let (at_ms, user) = (self.clock.now().as_millis(), Some(seat.holder.identity.user.clone()));
        if self.told.try_send(Told { at_ms, room: None, user, kind }).is_err() {
            metrics::sessions_untold_total(label).increment(1);
        }
    }

    fn node(&self) -> String {
        format!("{:016x}", self.node)
    }
}

fn device(seat: &Seat) -> String {
    seat.holder.identity.device.as_ref().map(DeviceId::to_string).unwrap_or_default()
}

impl Noted {
    /// Tells until `stop`, and once more what is left then. Spawn it as a task.
    pub async fn tell(mut self, events: Events, stop: CancellationToken) {
        let (mut batch, mut failing) = (Vec::with_capacity(BATCH), false);
        loop {
            if batch.is_empty() {
                let taken = stop.run_until_cancelled(self.told.recv_many(&mut batch, BATCH)).await;
                if taken.is_none_or(|taken| taken == 0) {
                    break;
                }
            }
            let told = events.append(&batch).await;
            if let (Err(error), false) = (&told, failing) {
                tracing::warn!(%error, "comings and goings of sessions could not be told yet");
            }
            failing = told.is_err();
            let wait = if failing { AGAIN_AFTER } else { GAP };
            if !failing {
                batch.clear();
            }
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                break;
            }
        }
        while let Ok(told) = self.told.try_recv() {
            batch.push(told);
        }
        for rest in batch.chunks(BATCH) {
            if let Err(error) = events.append(rest).await {
                tracing::warn!(%error, sessions = batch.len(), "comings and goings of sessions were not told any more");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use veza_engine::ledger::OnceKey;
    use veza_proto::gateway::v1::Event;
    use veza_proto::{CloseCode, UserId};

    use super::*;
    use crate::auth::Identity;
    use crate::events::Retention;
    use crate::session::registry::{Holder, Registry};
    use crate::store::outbox::{ConsumerRow, Outbox, Registration, Removed, Span, Start};
    use crate::store::{Answered, MemoryStore, StoreError};
    use crate::tasks::Tasks;

    fn holder(user: &str) -> Holder {
        let identity = Identity {
            user: UserId::parse(user).unwrap(),
            device: Some(DeviceId::parse("phone").unwrap()),
            expires_ms: 10_000,
            issued_ms: None,
            token_id: None,
            entitlements: Vec::new(),
        };
        Holder { identity, verified_ms: 1, since_ms: 1, transport: "quic", client: "".into() }
    }

    fn events(outbox: Arc<dyn Outbox>, tasks: &Tasks) -> Events {
        Events::start(outbox, Arc::default(), Retention { hours: 1, rows_max: 100_000 }, Clock::start(), tasks)
    }

    async fn listen(outbox: &dyn Outbox) {
        let shop = Registration { name: "shop".into(), filter: None, start: Start::Now, holder: 1, at_ms: 1 };
        outbox.register(&shop).await.unwrap().unwrap();
    }

    /// `alice +01 first`, in one line.
    fn line(event: &Event) -> String {
        let (session, device, node, rest) = match &event.kind {
            Some(Kind::SessionConnected(it)) => {
                let rest = format!("{}{}", it.transport, if it.first { " first" } else { "" });
                (format!("+{}", &it.session[..2]), &it.device, &it.node, rest)
            }
            Some(Kind::SessionDisconnected(it)) => {
                let rest = format!("{}{}", it.code, if it.last { " last" } else { "" });
                (format!("-{}", &it.session[..2]), &it.device, &it.node, rest)
            }
            Some(_) | None => panic!("{event:?}"),
        };
        assert_eq!((device.as_str(), node.as_str()), ("phone", "000000000000002a"));
        format!("{} {session} {rest}", event.user)
    }

    #[tokio::test]
    async fn comings_and_goings_are_told_in_their_order_with_the_first_and_the_last() {
        let (store, tasks) = (Arc::new(MemoryStore::new()), Tasks::new());
        listen(store.as_ref()).await;
        let (attendance, noted) = Attendance::new(42, Clock::start());
        let registry = Registry::new(2, attendance);
        let enter = |id: u8, user| registry.enter(registry.next_key(), [id; 16], holder(user), &Arc::default());
        let one = enter(1, "alice").unwrap();
        let two = enter(2, "alice").unwrap();
        enter(3, "alice").unwrap_err();
        let bob = enter(4, "bob").unwrap();
        // She goes on over another link; what is left of the old one says nothing more.
        let again = enter(1, "alice").unwrap();
        one.leave(CloseCode::Superseded.code());
        two.leave(0);
        again.leave(CloseCode::Normal.code());
        drop(bob);
        let stopped = CancellationToken::new();
        stopped.cancel();
        noted.tell(events(store.clone(), &tasks), stopped).await;
        let told: Vec<_> = store.events(0, 100).await.unwrap().iter().map(line).collect();
        let expected = [
            "alice +01 quic first",
            "alice +02 quic",
            "bob +04 quic first",
            "alice -01 4502",
            "alice +01 quic",
            "alice -02 0",
            "alice -01 4000 last",
            "bob -04 4011 last",
        ];
        assert_eq!(told, expected);
    }

    #[tokio::test]
    async fn what_waits_at_its_bound_and_one_past() {
        let (attendance, mut noted) = Attendance::new(42, Clock::start());
        let seat = |id: u8| Seat { id: [id; 16], holder: holder("alice") };
        for _ in 0..WAITING_MAX {
            attendance.came(&seat(1), false);
        }
        assert_eq!(noted.told.len(), WAITING_MAX);
        attendance.went(&seat(2), 0, true);
        assert_eq!(noted.told.len(), WAITING_MAX, "one past is lost");
        noted.told.recv().await.unwrap();
        attendance.went(&seat(3), 0, true);
        assert_eq!(noted.told.len(), WAITING_MAX, "and there is room again");
    }

    /// A database that does not answer the first times.
    struct Away(MemoryStore, AtomicUsize);

    impl Outbox for Away {
        fn append<'a>(&'a self, events: &'a [Told]) -> Answered<'a, ()> {
            let away = self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |times| times.checked_sub(1)).is_ok();
            if away {
                Box::pin(async { Err(StoreError::Unavailable("it is away".into())) })
            } else {
                self.0.append(events)
            }
        }

        fn arrange<'a>(&'a self) -> Answered<'a, bool> {
            self.0.arrange()
        }

        fn events<'a>(&'a self, after: u64, limit: u32) -> Answered<'a, Vec<Event>> {
            self.0.events(after, limit)
        }

        fn span<'a>(&'a self) -> Answered<'a, Span> {
            self.0.span()
        }

        fn forget<'a>(&'a self, before_ms: u64, rows_max: u64) -> Answered<'a, Span> {
            self.0.forget(before_ms, rows_max)
        }

        fn register<'a>(&'a self, consumer: &'a Registration) -> Answered<'a, Option<ConsumerRow>> {
            self.0.register(consumer)
        }

        fn consumer<'a>(&'a self, name: &'a str) -> Answered<'a, Option<ConsumerRow>> {
            self.0.consumer(name)
        }

        fn consumers<'a>(&'a self, after: &'a str, limit: u32) -> Answered<'a, Vec<ConsumerRow>> {
            self.0.consumers(after, limit)
        }

        fn acknowledge<'a>(&'a self, name: &'a str, position: u64, at_ms: u64) -> Answered<'a, Option<u64>> {
            self.0.acknowledge(name, position, at_ms)
        }

        fn remove<'a>(&'a self, name: &'a str, once: Option<&'a OnceKey>, at_ms: u64) -> Answered<'a, Removed> {
            self.0.remove(name, once, at_ms)
        }

        fn waiting_since<'a>(&'a self, position: u64) -> Answered<'a, Option<u64>> {
            self.0.waiting_since(position)
        }
    }

    #[tokio::test]
    async fn nothing_is_lost_while_the_database_does_not_answer() {
        let (away, tasks) = (Arc::new(Away(MemoryStore::new(), AtomicUsize::new(1))), Tasks::new());
        listen(away.as_ref()).await;
        let (attendance, noted) = Attendance::new(42, Clock::start());
        tasks.spawn("attendance", noted.tell(events(away.clone(), &tasks), tasks.token()));
        for id in 0..3 {
            attendance.came(&Seat { id: [id; 16], holder: holder("alice") }, id == 0);
        }
        let all = async {
            while away.0.span().await.unwrap().head < 3 {
                tokio::time::sleep(GAP).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all).await.expect("some are lost");
        let told: Vec<_> = away.0.events(0, 100).await.unwrap().iter().map(line).collect();
        assert_eq!(told, ["alice +00 quic first", "alice +01 quic", "alice +02 quic"]);
    }
}
