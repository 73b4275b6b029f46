//! Threads that make rungs: as many as an operator gives, and each with no more to do than it can do in time.
//!
//! A stream's rungs are made on one thread, in order. Every frame says what is to be made of it, so that nothing that was lost
//! on the way leaves an encoder running or missing.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use metrics::{Counter, Histogram};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use veza_proto::media::FRAME_MS;
use veza_sound::opus::{Coding, OpusError};
use veza_sound::transcoder::{MadeFrame, Transcoder};

use super::shard::Command;
use crate::config::CodecBudget;
use crate::tasks::Tasks;
use crate::telemetry::metrics as declared;

/// Frames that wait for a thread at most; one more is dropped and counted.
const JOBS_MAX: usize = 1_024;
/// A frame that has waited for so long is of no use any more.
const LATE: Duration = Duration::from_millis(60);
/// So many frames one after the other that cannot be decoded are no Opus of ours: half a second.
const FAILURES_MAX: u32 = 25;
/// What decoding and encoding a frame take, until it is measured.
const DECODE_AT_FIRST: Duration = Duration::from_micros(100);
const ENCODE_AT_FIRST: Duration = Duration::from_micros(300);
/// A measurement counts for one part in so many.
const SMOOTHED: u64 = 64;
/// How often streams that are gone are forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// The threads. Cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    workers: Vec<Worker>,
    cost: Arc<Cost>,
    /// Of every frame's time, on each thread.
    budget: Duration,
}

struct Worker {
    jobs: mpsc::Sender<Job>,
    /// Streams and rungs that it has.
    lines: AtomicUsize,
    rungs: AtomicUsize,
}

/// What a frame takes, nanoseconds, as it was lately.
struct Cost {
    decode: AtomicU64,
    encode: AtomicU64,
}

/// What is to be made of a stream's frames.
#[derive(Clone)]
struct Recipe {
    handle: u32,
    /// Of the publisher's ladder: what was made of another one is not sent.
    generation: u32,
    channels: usize,
    rungs: Vec<(u8, Coding)>,
    /// Of its line.
    life: Weak<()>,
    reply: mpsc::Sender<Command>,
}

struct Job {
    recipe: Arc<Recipe>,
    index: u32,
    payload: Option<Bytes>,
    came: Instant,
}

/// Frames that were made of one.
pub(super) struct MadeFrames {
    pub(super) handle: u32,
    pub(super) generation: u32,
    pub(super) index: u32,
    /// What the publisher sends cannot be decoded, and has not been for long: there is nothing more to come.
    pub(super) is_hopeless: bool,
    pub(super) frames: Vec<MadeFrame>,
}

impl Pool {
    /// # Errors
    /// When the system gives no thread.
    pub fn start(codec: CodecBudget, tasks: &Tasks) -> io::Result<Self> {
        let cost = Arc::new(Cost::new());
        let mut workers = Vec::with_capacity(codec.threads);
        for _ in 0..codec.threads {
            let (sender, receiver) = mpsc::channel(JOBS_MAX);
            tasks.spawn_apart("audio-codec", Bench::new(Arc::clone(&cost)).run(receiver, tasks.token()))?;
            workers.push(Worker { jobs: sender, lines: AtomicUsize::new(0), rungs: AtomicUsize::new(0) });
        }
        let budget = Duration::from_millis(FRAME_MS.into()) * codec.percent / 100;
        Ok(Self(Arc::new(Shared { workers, cost, budget })))
    }

    /// Whether anything can be made at all.
    pub(super) fn is_there(&self) -> bool {
        !self.0.workers.is_empty()
    }

    /// A way for a stream's frames, on the thread with the least to do.
    pub(super) fn line(
        &self,
        handle: u32,
        generation: u32,
        channels: usize,
        reply: mpsc::Sender<Command>,
    ) -> Option<Line> {
        let workers = 0..self.0.workers.len();
        let at = workers.min_by_key(|at| self.planned(&self.0.workers[*at], 0, 0))?;
        let life = Arc::new(());
        let recipe = Recipe { handle, generation, channels, rungs: Vec::new(), life: Arc::downgrade(&life), reply };
        self.0.workers[at].lines.fetch_add(1, Ordering::Relaxed);
        Some(Line { pool: self.clone(), at, recipe: Arc::new(recipe), _life: life })
    }

    /// What a thread has to do for every frame's time, with so much more.
    fn planned(&self, worker: &Worker, lines: usize, rungs: usize) -> Duration {
        let count = |had: &AtomicUsize, more| u64::try_from(had.load(Ordering::Relaxed) + more).unwrap_or(u64::MAX);
        let Cost { decode, encode } = &*self.0.cost;
        let (lines, rungs) = (count(&worker.lines, lines), count(&worker.rungs, rungs));
        let decoding = decode.load(Ordering::Relaxed).saturating_mul(lines);
        Duration::from_nanos(decoding.saturating_add(encode.load(Ordering::Relaxed).saturating_mul(rungs)))
    }
}

/// The way of one stream's frames to the thread that makes rungs of them. Dropped, it gives back what it had of the budget.
pub(super) struct Line {
    pool: Pool,
    at: usize,
    recipe: Arc<Recipe>,
    _life: Arc<()>,
}

impl Line {
    /// Makes one more rung from the next frame on, if there is room.
    pub(super) fn admit(&mut self, rung: u8, coding: Coding) -> bool {
        let worker = self.worker();
        if self.pool.planned(worker, 0, 1) > self.pool.0.budget {
            declared::audio_made_refused_total().increment(1);
            return false;
        }
        worker.rungs.fetch_add(1, Ordering::Relaxed);
        declared::audio_made_rungs().increment(1.0);
        Arc::make_mut(&mut self.recipe).rungs.push((rung, coding));
        true
    }

    pub(super) fn remove(&mut self, rung: u8) {
        let recipe = Arc::make_mut(&mut self.recipe);
        let before = recipe.rungs.len();
        recipe.rungs.retain(|(number, _)| *number != rung);
        let removed = before - recipe.rungs.len();
        self.give_back(removed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.recipe.rungs.is_empty()
    }

    /// The source's frame of this index, `None` where it is missing.
    pub(super) fn feed(&self, index: u32, payload: Option<Bytes>) {
        let job = Job { recipe: Arc::clone(&self.recipe), index, payload, came: Instant::now() };
        if self.worker().jobs.try_send(job).is_err() {
            declared::audio_made_frames_dropped_total("full").increment(1);
        }
    }

    fn give_back(&self, rungs: usize) {
        self.worker().rungs.fetch_sub(rungs, Ordering::Relaxed);
        declared::audio_made_rungs().decrement(rungs as f64);
    }

    fn worker(&self) -> &Worker {
        &self.pool.0.workers[self.at]
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.give_back(self.recipe.rungs.len());
        self.worker().lines.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Cost {
    fn new() -> Self {
        let nanos = |of: Duration| AtomicU64::new(u64::try_from(of.as_nanos()).unwrap_or(u64::MAX));
        Self { decode: nanos(DECODE_AT_FIRST), encode: nanos(ENCODE_AT_FIRST) }
    }
}

/// Threads may overwrite what another one has measured: it is of the same kind.
fn smooth(known: &AtomicU64, measured: Duration) {
    let before = known.load(Ordering::Relaxed);
    let measured = u64::try_from(measured.as_nanos()).unwrap_or(u64::MAX);
    known.store(before - before / SMOOTHED + measured / SMOOTHED, Ordering::Relaxed);
}

/// What one thread has before it.
struct Bench {
    streams: Vec<OnBench>,
    cost: Arc<Cost>,
    meters: Meters,
}

/// A stream that it makes rungs of.
struct OnBench {
    recipe: Arc<Recipe>,
    transcoder: Transcoder,
    failures: u32,
}

struct Meters {
    made: Counter,
    late: Counter,
    missed: Counter,
    decode: Histogram,
    encode: Histogram,
}

impl Bench {
    fn new(cost: Arc<Cost>) -> Self {
        let meters = Meters {
            made: declared::audio_made_frames_total(),
            late: declared::audio_made_frames_dropped_total("late"),
            missed: declared::audio_made_frames_dropped_total("missed"),
            decode: declared::audio_codec_seconds("decode"),
            encode: declared::audio_codec_seconds("encode"),
        };
        Self { streams: Vec::new(), cost, meters }
    }

    async fn run(mut self, mut jobs: mpsc::Receiver<Job>, stop: CancellationToken) {
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = sweep.tick() => self.streams.retain(OnBench::is_wanted),
                job = jobs.recv() => match job {
                    Some(job) => self.take(job),
                    None => return,
                },
            }
        }
    }

    fn take(&mut self, job: Job) {
        if job.came.elapsed() > LATE {
            return self.meters.late.increment(1);
        }
        let reply = job.recipe.reply.clone();
        let Some(made) = self.make(job) else { return };
        self.meters.made.increment(made.frames.len() as u64);
        if reply.try_send(Command::Made(Box::new(made))).is_err() {
            self.meters.missed.increment(1);
        }
    }

    fn make(&mut self, job: Job) -> Option<MadeFrames> {
        let Job { recipe, index, payload, .. } = job;
        let (handle, generation) = (recipe.handle, recipe.generation);
        let at = match self.on_bench(recipe) {
            Ok(at) => at,
            Err(error) => {
                tracing::error!(%error, handle, "libopus makes none of the rungs that are wanted");
                return Some(MadeFrames { handle, generation, index, is_hopeless: true, frames: Vec::new() });
            }
        };
        let Self { streams, cost, meters } = self;
        let OnBench { transcoder, failures, .. } = &mut streams[at];
        let began = Instant::now();
        *failures = if transcoder.take(index, payload.as_deref()).is_ok() { 0 } else { *failures + 1 };
        let decoded = Instant::now();
        let mut frames = Vec::new();
        if let Err(error) = transcoder.make(&mut frames) {
            tracing::error!(%error, handle, "a frame cannot be encoded");
        }
        let (decoding, encoding) = (decoded - began, decoded.elapsed());
        smooth(&cost.decode, decoding);
        meters.decode.record(decoding);
        if let Some(per_rung) = u32::try_from(frames.len()).ok().filter(|rungs| *rungs > 0) {
            smooth(&cost.encode, encoding / per_rung);
            meters.encode.record(encoding / per_rung);
        }
        Some(MadeFrames { handle, generation, index, is_hopeless: *failures >= FAILURES_MAX, frames })
    }

    /// The stream as this recipe wants it.
    fn on_bench(&mut self, recipe: Arc<Recipe>) -> Result<usize, OpusError> {
        let is_it = |on: &OnBench| on.recipe.handle == recipe.handle && on.recipe.generation == recipe.generation;
        let at = match self.streams.iter().position(is_it) {
            Some(at) => at,
            None => {
                let transcoder = Transcoder::new(recipe.channels)?;
                let recipe = Arc::new(Recipe { rungs: Vec::new(), ..(*recipe).clone() });
                self.streams.push(OnBench { recipe, transcoder, failures: 0 });
                self.streams.len() - 1
            }
        };
        let on = &mut self.streams[at];
        if !Arc::ptr_eq(&on.recipe, &recipe) {
            for (gone, _) in on.recipe.rungs.iter().filter(|(number, _)| !recipe.has(*number)) {
                on.transcoder.remove(*gone);
            }
            for (new, coding) in recipe.rungs.iter().filter(|(number, _)| !on.recipe.has(*number)) {
                on.transcoder.add(*new, *coding)?;
            }
            on.recipe = recipe;
        }
        Ok(at)
    }
}

impl OnBench {
    /// Whether its line is still there.
    fn is_wanted(&self) -> bool {
        self.recipe.life.strong_count() > 0
    }
}

impl Recipe {
    fn has(&self, rung: u8) -> bool {
        self.rungs.iter().any(|(number, _)| *number == rung)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use veza_sound::opus::{Encoder, FRAME_SAMPLES};

    const CODING: Coding = Coding { bits_per_second: 24_000, channels: 1, voice: false, complexity: 5 };

    fn pool(percent: u32) -> (Pool, Tasks) {
        pool_of(1, percent)
    }

    fn pool_of(threads: usize, percent: u32) -> (Pool, Tasks) {
        let tasks = Tasks::new();
        (Pool::start(CodecBudget { threads, percent }, &tasks).unwrap(), tasks)
    }

    fn sound(frames: u32) -> Vec<Bytes> {
        let mut encoder = Encoder::new(Coding { bits_per_second: 96_000, ..CODING }).unwrap();
        let encode = |index: u32| {
            let mut frame = Vec::new();
            encoder.encode(&[0.25; FRAME_SAMPLES], index.is_multiple_of(10), &mut frame).unwrap();
            Bytes::from(frame)
        };
        (0..frames).map(encode).collect()
    }

    async fn next(replies: &mut mpsc::Receiver<Command>) -> MadeFrames {
        match replies.recv().await {
            Some(Command::Made(made)) => *made,
            _ => panic!("something else came"),
        }
    }

    fn rungs(made: &MadeFrames) -> Vec<u8> {
        made.frames.iter().map(|frame| frame.rung).collect()
    }

    #[tokio::test]
    async fn rungs_are_admitted_up_to_the_budget_and_one_past() {
        // Five per cent of 20 ms is 1 ms: one stream to decode, and three rungs of 0.3 ms.
        let (pool, tasks) = pool(5);
        let (reply, _replies) = mpsc::channel(1);
        let mut first = pool.line(1, 0, 2, reply.clone()).unwrap();
        assert!((0..3).all(|rung| first.admit(rung, CODING)) && !first.admit(3, CODING));
        first.remove(0);
        let mut second = pool.line(2, 0, 2, reply).unwrap();
        assert!(!second.admit(0, CODING), "another stream has to be decoded, too");
        first.remove(1);
        assert!(second.admit(0, CODING) && !second.admit(1, CODING));
        drop(first);
        assert!((1..3).all(|rung| second.admit(rung, CODING)) && !second.admit(3, CODING), "what it had is free");
        drop(second);
        let worker = &pool.0.workers[0];
        assert_eq!((worker.lines.load(Ordering::Relaxed), worker.rungs.load(Ordering::Relaxed)), (0, 0));
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test]
    async fn a_streams_first_rung_is_made_where_most_room_is_and_refused_only_where_none_is() {
        // On each of two threads: one stream to decode, and three rungs of 0.3 ms.
        let (pool, tasks) = pool_of(2, 5);
        let (reply, _replies) = mpsc::channel(1);
        let line = |handle| pool.line(handle, 0, 2, reply.clone()).unwrap();
        let mut full = line(1);
        assert!((0..3).all(|rung| full.admit(rung, CODING)) && !full.admit(3, CODING));
        let (mut second, mut third) = (line(2), line(3));
        assert!(second.admit(0, CODING) && second.at != full.at, "there is room on the other thread");
        assert!(third.admit(0, CODING) && third.at == second.at, "and for another stream");
        drop(full);
        let mut fourth = line(4);
        assert!((0..3).all(|rung| fourth.admit(rung, CODING)) && fourth.at != second.at, "what became free is found");
        assert!(!line(5).admit(0, CODING), "now no thread has room");
        drop((second, third, fourth));
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test]
    async fn every_frame_says_what_is_made_of_it() {
        let (pool, tasks) = pool(100);
        let (reply, mut replies) = mpsc::channel(64);
        let mut line = pool.line(7, 3, 1, reply).unwrap();
        let sound = sound(6);
        line.admit(1, CODING);
        line.feed(40, Some(sound[0].clone()));
        line.admit(2, CODING);
        line.feed(41, Some(sound[1].clone()));
        line.feed(42, None);
        line.remove(1);
        line.feed(43, Some(sound[3].clone()));
        for (index, expected) in [(40, vec![1]), (41, vec![1, 2]), (42, vec![1, 2]), (43, vec![2])] {
            let made = next(&mut replies).await;
            assert_eq!((made.handle, made.generation, made.index, rungs(&made)), (7, 3, index, expected));
        }
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_sound_for_half_a_second_never_will_be() {
        let (pool, tasks) = pool(100);
        let (reply, mut replies) = mpsc::channel(64);
        let mut line = pool.line(7, 0, 1, reply).unwrap();
        line.admit(1, CODING);
        let sound = sound(1);
        for index in 0..2 * FAILURES_MAX {
            // One frame that can be decoded begins the count again.
            let is_sound = index == FAILURES_MAX - 1;
            line.feed(index, Some(if is_sound { sound[0].clone() } else { Bytes::from_static(&[0xfd, 0]) }));
        }
        for index in 0..2 * FAILURES_MAX {
            assert_eq!(next(&mut replies).await.is_hopeless, index == 2 * FAILURES_MAX - 1, "{index}");
        }
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }

    #[test]
    fn what_is_late_is_left_out() {
        let mut bench = Bench::new(Arc::new(Cost::new()));
        let (reply, mut replies) = mpsc::channel(4);
        let life = Arc::new(());
        let rungs = vec![(1, CODING)];
        let recipe =
            Arc::new(Recipe { handle: 1, generation: 0, channels: 1, rungs, life: Arc::downgrade(&life), reply });
        let now = Instant::now();
        let job = |index, came| Job { recipe: Arc::clone(&recipe), index, payload: None, came };
        bench.take(job(0, now - LATE - Duration::from_millis(1)));
        assert!(replies.try_recv().is_err());
        bench.take(job(1, Instant::now()));
        assert!(replies.try_recv().is_ok());
        drop(life);
        bench.streams.retain(OnBench::is_wanted);
        assert!(bench.streams.is_empty(), "a stream whose line has gone is forgotten");
    }

    #[test]
    fn what_a_frame_takes_follows_what_is_measured() {
        let cost = Cost::new();
        for _ in 0..1_000 {
            smooth(&cost.encode, Duration::from_micros(50));
        }
        let nanos = cost.encode.load(Ordering::Relaxed);
        assert!((50_000..50_100).contains(&nanos), "{nanos}");
    }
}
