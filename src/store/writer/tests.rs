use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::TaskTracker;
use veza_proto::{RoomId, UserId};

use super::*;
use crate::store::contract::{appended, create, say};
use veza_engine::ledger::{AuditRow, InviteKey, InviteRow, MemberRow, Refusal, RevisionRow, RoomRow};

use crate::store::{Anchor, Entry, Invites, Members, MemoryStore, Rooms, Search, Unread, UnreadRow, View};

const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough that a busy machine does not spend it between two lines of a story.
const SHORT: Duration = Duration::from_millis(800);

/// A store whose commits wait for a permit and may be told to fail; it remembers the size of every batch.
struct Gate {
    inner: MemoryStore,
    permits: Semaphore,
    begun: AtomicU64,
    batches: Mutex<Vec<usize>>,
    fail: Mutex<Vec<StoreError>>,
}

impl Store for Gate {
    fn commit<'a>(&'a self, batch: &'a [Write]) -> BoxFuture<'a, Result<Vec<Written>, StoreError>> {
        async {
            self.begun.fetch_add(1, Ordering::SeqCst);
            self.permits.acquire().await.unwrap().forget();
            self.batches.lock().unwrap().push(batch.len());
            let fail = self.fail.lock().unwrap().pop();
            match fail {
                Some(error) => Err(error),
                None => self.inner.commit(batch).await,
            }
        }
        .boxed()
    }

    fn room<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, Result<Option<RoomRow>, StoreError>> {
        self.inner.room(room)
    }

    fn membership<'a>(
        &'a self,
        room: &'a RoomId,
        user: &'a UserId,
    ) -> BoxFuture<'a, Result<Option<(RoomRow, Option<MemberRow>)>, StoreError>> {
        self.inner.membership(room, user)
    }

    fn rooms<'a>(
        &'a self,
        viewer: &'a UserId,
        which: Rooms,
        after: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(RoomRow, Option<MemberRow>)>, StoreError>> {
        self.inner.rooms(viewer, which, after, limit)
    }

    fn entries<'a>(
        &'a self,
        room: &'a RoomId,
        epoch: u64,
        view: View,
        anchor: Anchor,
        limit: u32,
        viewer: Option<&'a UserId>,
    ) -> BoxFuture<'a, Result<Vec<Entry>, StoreError>> {
        self.inner.entries(room, epoch, view, anchor, limit, viewer)
    }

    fn members<'a>(
        &'a self,
        room: &'a RoomId,
        which: Members,
        after: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(UserId, MemberRow)>, StoreError>> {
        self.inner.members(room, which, after, limit)
    }

    fn members_of<'a>(
        &'a self,
        room: &'a RoomId,
        users: &'a [UserId],
    ) -> BoxFuture<'a, Result<Vec<(UserId, MemberRow)>, StoreError>> {
        self.inner.members_of(room, users)
    }

    fn invites<'a>(
        &'a self,
        which: Invites<'a>,
        now_ms: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(InviteKey, InviteRow, String)>, StoreError>> {
        self.inner.invites(which, now_ms, limit)
    }

    fn revisions<'a>(
        &'a self,
        room: &'a RoomId,
        epoch: u64,
        seq: u64,
    ) -> BoxFuture<'a, Result<Vec<RevisionRow>, StoreError>> {
        self.inner.revisions(room, epoch, seq)
    }

    fn reactors<'a>(
        &'a self,
        room: &'a RoomId,
        epoch: u64,
        seq: u64,
        emoji: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<(Vec<UserId>, u32), StoreError>> {
        self.inner.reactors(room, epoch, seq, emoji, limit)
    }

    fn pins<'a>(&'a self, room: &'a RoomId, viewer: &'a UserId) -> BoxFuture<'a, Result<Vec<Entry>, StoreError>> {
        self.inner.pins(room, viewer)
    }

    fn audit<'a>(
        &'a self,
        room: &'a RoomId,
        before: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(u64, AuditRow)>, StoreError>> {
        self.inner.audit(room, before, limit)
    }

    fn unread<'a>(
        &'a self,
        user: &'a UserId,
        which: Unread<'a>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<UnreadRow>, StoreError>> {
        self.inner.unread(user, which, limit)
    }

    fn search<'a>(&'a self, search: &'a Search, limit: u32) -> BoxFuture<'a, Result<Vec<Entry>, StoreError>> {
        self.inner.search(search, limit)
    }

    fn overdue<'a>(
        &'a self,
        now_ms: u64,
        entries_max: u32,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(RoomId, u64)>, StoreError>> {
        self.inner.overdue(now_ms, entries_max, limit)
    }

    fn check<'a>(&'a self) -> BoxFuture<'a, Result<String, StoreError>> {
        self.inner.check()
    }

    fn close<'a>(&'a self) -> BoxFuture<'a, ()> {
        self.inner.close()
    }
}

/// A room `lobby`, a writer in front of it, and a gate that is closed.
struct Scene {
    gate: Arc<Gate>,
    handle: WriterHandle,
    writer: Option<Writer>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

type Answer = oneshot::Receiver<Result<Written, WriteError>>;

impl Scene {
    async fn new(timeout: Duration) -> Self {
        let gate = Arc::new(Gate {
            inner: MemoryStore::new(),
            permits: Semaphore::new(0),
            begun: AtomicU64::new(0),
            batches: Mutex::default(),
            fail: Mutex::default(),
        });
        gate.inner.commit(&[create("lobby")]).await.unwrap();
        let (writer, handle) = Writer::new(gate.clone(), timeout);
        Self { gate, handle, writer: Some(writer), stop: CancellationToken::new(), tasks: TaskTracker::new() }
    }

    fn run(&mut self) {
        self.tasks.spawn(self.writer.take().unwrap().run(self.stop.clone()));
        self.tasks.close();
    }

    /// Lets the writer take the first write and wait at the gate with it.
    async fn first_commit_begins(&self) {
        while self.gate.begun.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    }

    fn open_gate(&self) {
        self.gate.permits.add_permits(1_000_000);
    }

    fn submit(&self, write: Write) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.handle.try_submit(write, move |result| drop(reply.send(result))).unwrap();
        answer
    }

    fn say(&self, cmid: u64) -> Answer {
        self.submit(say("lobby", "alice", &format!("c{cmid}"), "hello"))
    }

    fn batches(&self) -> Vec<usize> {
        self.gate.batches.lock().unwrap().clone()
    }
}

async fn seq(answer: Answer) -> u64 {
    appended(&answer.await.unwrap().unwrap()).seq
}

/// `say` with a body so long that the write counts as `bytes`.
fn say_bytes(cmid: u64, bytes: usize) -> Write {
    let empty = bytes_of(&say("lobby", "alice", "c", ""));
    say("lobby", "alice", &format!("c{cmid}"), &"x".repeat(bytes - empty))
}

#[tokio::test]
async fn a_lone_write_is_committed_at_once() {
    let mut scene = Scene::new(PATIENCE).await;
    scene.open_gate();
    scene.run();
    assert_eq!(seq(scene.say(1)).await, 1);
    assert_eq!(seq(scene.say(2)).await, 2);
    assert_eq!(scene.batches(), [1, 1]);
}

#[tokio::test]
async fn what_arrives_during_a_commit_is_the_next() {
    let mut scene = Scene::new(PATIENCE).await;
    scene.run();
    let first = scene.say(1);
    scene.first_commit_begins().await;
    let later: Vec<_> = (2..=1 + BATCH_WRITES_MAX as u64 + 1).map(|cmid| scene.say(cmid)).collect();
    scene.open_gate();
    assert_eq!(seq(first).await, 1);
    for (at, answer) in later.into_iter().enumerate() {
        assert_eq!(seq(answer).await, at as u64 + 2);
    }
    assert_eq!(scene.batches(), [1, BATCH_WRITES_MAX, 1], "at the limit and one past");
}

#[tokio::test]
async fn a_batch_ends_at_its_bytes() {
    let part = BATCH_BYTES_MAX / 128;
    for (last, expected) in [(part, vec![1, 128, 1]), (part + 1, vec![1, 127, 2])] {
        let mut scene = Scene::new(PATIENCE).await;
        scene.run();
        let first = scene.say(1);
        scene.first_commit_begins().await;
        let mut answers: Vec<_> = (2..=128).map(|cmid| scene.submit(say_bytes(cmid, part))).collect();
        answers.push(scene.submit(say_bytes(129, last)));
        answers.push(scene.say(130));
        scene.open_gate();
        assert_eq!(seq(first).await, 1);
        for (at, answer) in answers.into_iter().enumerate() {
            assert_eq!(seq(answer).await, at as u64 + 2, "one held back keeps its place");
        }
        assert_eq!(scene.batches(), expected);
    }
}

#[tokio::test]
async fn the_queue_is_full_at_its_writes() {
    let mut scene = Scene::new(PATIENCE).await;
    let answers: Vec<_> = (1..=QUEUED_WRITES_MAX as u64).map(|cmid| scene.say(cmid)).collect();
    let one_more = say("lobby", "alice", "late", "hello");
    let refused = scene.handle.try_submit(one_more.clone(), |_| panic!("a refused write has no answer"));
    assert_eq!(refused, Err(Busy));
    scene.open_gate();
    scene.run();
    for (at, answer) in answers.into_iter().enumerate() {
        assert_eq!(seq(answer).await, at as u64 + 1);
    }
    assert_eq!(seq(scene.submit(one_more)).await, QUEUED_WRITES_MAX as u64 + 1, "there is room again");
    assert_eq!(scene.batches().len(), QUEUED_WRITES_MAX / BATCH_WRITES_MAX + 1);
}

#[tokio::test]
async fn the_queue_is_full_at_its_bytes() {
    let mut scene = Scene::new(PATIENCE).await;
    let part = QUEUED_BYTES_MAX / 1_024;
    let answers: Vec<_> = (1..=1_024).map(|cmid| scene.submit(say_bytes(cmid, part))).collect();
    let one_more = say("lobby", "alice", "late", "");
    assert_eq!(scene.handle.try_submit(one_more.clone(), |_| ()), Err(Busy));
    scene.open_gate();
    scene.run();
    for answer in answers {
        seq(answer).await;
    }
    assert_eq!(seq(scene.submit(one_more)).await, 1_025);
    assert_eq!(scene.handle.queued_bytes.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn replies_come_in_order_and_not_before_the_commit() {
    let mut scene = Scene::new(PATIENCE).await;
    scene.run();
    let (heard, mut order) = mpsc::channel(100);
    for n in 0..50 {
        let heard = heard.clone();
        let write = say("lobby", "alice", &format!("c{n}"), "hello");
        scene.handle.try_submit(write, move |_| heard.try_send(n).unwrap()).unwrap();
    }
    scene.first_commit_begins().await;
    assert!(order.try_recv().is_err(), "the gate is closed");
    scene.open_gate();
    for n in 0..50 {
        assert_eq!(order.recv().await, Some(n));
    }
}

#[tokio::test]
async fn a_failed_batch_is_answered_whole_and_the_next_goes_on() {
    let mut scene = Scene::new(PATIENCE).await;
    let (gone, full) = (StoreError::Unavailable("gone".into()), StoreError::Full("full".into()));
    *scene.gate.fail.lock().unwrap() = vec![full.clone(), gone.clone()];
    scene.run();
    let first = scene.say(1);
    scene.first_commit_begins().await;
    let second = [scene.say(2), scene.say(3)];
    scene.gate.permits.add_permits(2);
    assert_eq!(first.await.unwrap(), Err(gone.into()));
    for answer in second {
        assert_eq!(answer.await.unwrap(), Err(full.clone().into()));
    }
    scene.open_gate();
    assert_eq!(seq(scene.say(4)).await, 1, "it is not tried again by itself");
    assert_eq!(scene.batches(), [1, 2, 1]);
}

#[tokio::test]
async fn a_reply_that_panics_harms_nobody_else() {
    let mut scene = Scene::new(PATIENCE).await;
    scene.open_gate();
    scene.handle.try_submit(say("lobby", "alice", "c1", "x"), |_| panic!("on purpose")).unwrap();
    let same_batch = scene.say(2);
    scene.run();
    assert_eq!(seq(same_batch).await, 2);
    assert_eq!(seq(scene.say(3)).await, 3);
}

#[tokio::test]
async fn a_refused_write_does_not_fail_its_batch() {
    let mut scene = Scene::new(PATIENCE).await;
    scene.open_gate();
    let answers = [scene.say(1), scene.submit(say("nowhere", "alice", "c", "x")), scene.say(2)];
    scene.run();
    let [first, nowhere, second] = answers;
    assert_eq!(seq(first).await, 1);
    assert_eq!(nowhere.await.unwrap(), Ok(Written::Refused(Refusal::NoSuchRoom)));
    assert_eq!(seq(second).await, 2);
}

#[tokio::test]
async fn a_write_that_waited_too_long_is_not_written() {
    let mut scene = Scene::new(SHORT).await;
    scene.run();
    let first = scene.say(1);
    scene.first_commit_begins().await;
    let late = [scene.say(2), scene.say(3)];
    tokio::time::sleep(SHORT * 5 / 4).await;
    let in_time = scene.say(4);
    scene.open_gate();
    assert_eq!(seq(first).await, 1);
    for answer in late {
        assert_eq!(answer.await.unwrap(), Err(WriteError::Expired));
    }
    assert_eq!(seq(in_time).await, 2);
    assert_eq!(scene.batches(), [1, 1]);
}

#[tokio::test]
async fn a_stop_finishes_what_is_queued() {
    let mut scene = Scene::new(PATIENCE).await;
    scene.run();
    let first = scene.say(1);
    scene.first_commit_begins().await;
    let queued: Vec<_> = (2..=600).map(|cmid| scene.say(cmid)).collect();
    scene.stop.cancel();
    scene.open_gate();
    scene.tasks.wait().await;
    assert_eq!(seq(first).await, 1);
    for (at, answer) in queued.into_iter().enumerate() {
        assert_eq!(seq(answer).await, at as u64 + 2);
    }
    assert_eq!(scene.handle.try_submit(create("late"), |_| ()), Err(Busy));
}

#[tokio::test]
async fn a_stop_is_bounded_and_answers_the_rest() {
    let mut scene = Scene::new(SHORT).await;
    scene.run();
    let first = scene.say(1);
    scene.first_commit_begins().await;
    scene.stop.cancel();
    let mut queued: Vec<_> = (2..=1_025).map(|cmid| scene.say(cmid)).collect();
    // The first commit ends, the second never does within the bound.
    scene.gate.permits.add_permits(1);
    assert_eq!(seq(first).await, 1);
    tokio::time::sleep(SHORT * 5 / 4).await;
    scene.open_gate();
    scene.tasks.wait().await;
    let after: Vec<_> = queued.split_off(512);
    for answer in queued {
        seq(answer).await;
    }
    for answer in after {
        assert_eq!(answer.await.unwrap(), Err(WriteError::Stopped));
    }
    assert_eq!(scene.batches(), [1, 512]);
}

#[tokio::test]
async fn it_ends_when_nobody_can_ask_any_more() {
    let mut scene = Scene::new(PATIENCE).await;
    scene.open_gate();
    scene.run();
    let last = scene.say(1);
    let Scene { handle, tasks, .. } = scene;
    drop(handle);
    tasks.wait().await;
    assert_eq!(seq(last).await, 1);
}

#[tokio::test]
async fn commits_and_writes_are_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _local = metrics::set_default_local_recorder(&recorder);
    let mut scene = Scene::new(PATIENCE).await;
    *scene.gate.fail.lock().unwrap() = vec![StoreError::Full("full".into())];
    scene.open_gate();
    let waiting = [scene.say(1), scene.say(2)];
    let shown = recorder.handle();
    assert!(shown.render().contains("veza_commit_queue 2"), "{}", shown.render());
    scene.run();
    for answer in waiting {
        answer.await.unwrap().unwrap_err();
    }
    for cmid in 3..=5 {
        seq(scene.say(cmid)).await;
    }
    let shown = shown.render();
    for line in [
        "veza_commits_total{outcome=\"full\"} 1",
        "veza_commits_total{outcome=\"ok\"} 3",
        "veza_committed_writes_total{kind=\"append\"} 3",
        "veza_commit_queue 0",
        "veza_commit_seconds_count 4",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
}
