//! The thread pool: every step's tasks are cut into one share a thread, the caller works too, and whoever
//! is done takes what others have not begun.
//!
//! Invariant: when `run` returns, all tasks are done, once each, and no thread touches the work any more.
//! A thread that is held up, or wakes late, costs at most what it has begun.

mod cores;
mod shares;

use cores::Processors;
use shares::{Cut, Shares};
use std::cell::UnsafeCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long an idle worker looks for work before it sleeps: longer than the gap between two steps
/// of a model, shorter than anyone would notice.
const SPIN: Duration = Duration::from_micros(50);

/// More threads than this are refused.
const MAX_THREADS: usize = 1024;

/// Why work could not be spread over threads.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ThreadError {
    /// The number of threads is out of range.
    #[error("{0} threads were asked for; between 1 and {MAX_THREADS} are possible")]
    Count(usize),
    /// The system did not give a thread.
    #[error("cannot start a thread: {0}")]
    Spawn(String),
    /// The work panicked on one of the threads; the others finished theirs.
    #[error("a thread panicked while it worked")]
    Panicked,
}

/// Tasks that one thread does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Number of the thread; 0 is the caller.
    pub thread: usize,
    /// The tasks.
    pub tasks: Range<i64>,
}

/// What workers are told; the pointer is good while any of them takes part.
type Work = dyn Fn(Share) + Sync;

#[derive(Clone, Copy)]
struct Job {
    work: *const Work,
    cut: Cut,
}

/// The low bits of a call: the threads that may take part.
const TAKING_PART: u64 = 0xffff;
/// Instead of a number of threads: the pool ends.
const END: u64 = 0xffff;
/// Of the low bits of the entry: that nobody may enter any more. The others count who has entered.
const CLOSED: u64 = 0x8000;

/// Keeps values that different threads write in cache lines (and their prefetched neighbours) of
/// their own.
#[repr(align(128))]
struct Apart<T>(T);

struct Shared {
    /// A counter in the high bits, and the number of threads that may take part in the low ones. A new
    /// value is the call to work.
    call: Apart<AtomicU64>,
    /// The counter of the call that may be entered, whether it is closed, and the workers that take part.
    entry: Apart<AtomicU64>,
    panicked: AtomicBool,
    /// Written by the caller while no worker takes part, read by those that take part.
    job: UnsafeCell<Option<Job>>,
    shares: Shares,
    asleep: Vec<Apart<AtomicBool>>,
    spin: Duration,
}

// SAFETY: `job` is the only field that is not `Sync`. It is written by the thread that holds the
// pool's turn, while the entry is closed and counts nobody; workers read it after they have entered
// (acquired) a call that was opened after the write, and leave (release) after their last use of it.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is only used as `Sync` says.
unsafe impl Send for Shared {}

/// Threads that wait for work, each on a processor of its own.
pub struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    sleepers: Vec<Thread>,
    turn: Mutex<()>,
}

impl ThreadPool {
    /// A pool of `threads` threads with the caller among them; 0 for as many as repay on this
    /// machine. Pools are shared: the same number gives the same pool for as long as it lives.
    pub fn shared(threads: usize) -> Result<Arc<ThreadPool>, ThreadError> {
        static POOLS: Mutex<BTreeMap<usize, Weak<ThreadPool>>> = Mutex::new(BTreeMap::new());
        let threads = if threads == 0 { default_threads() } else { threads };
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&threads).and_then(Weak::upgrade) {
            return Ok(pool);
        }
        let pool = Arc::new(ThreadPool::new(threads)?);
        pools.insert(threads, Arc::downgrade(&pool));
        Ok(pool)
    }

    /// A pool of its own. One thread is the caller alone: nothing is started.
    pub fn new(threads: usize) -> Result<ThreadPool, ThreadError> {
        if threads == 0 || threads > MAX_THREADS {
            return Err(ThreadError::Count(threads));
        }
        let processors = Arc::new(Processors::of_this_process());
        let own_processors = processors.suffice_for(threads);
        let shared = Arc::new(Shared {
            call: Apart(AtomicU64::new(0)),
            entry: Apart(AtomicU64::new(CLOSED)),
            panicked: AtomicBool::new(false),
            job: UnsafeCell::new(None),
            shares: Shares::new(threads),
            asleep: (0..threads).map(|_| Apart(AtomicBool::new(false))).collect(),
            // Spinning on a processor that another thread of the pool needs only delays both.
            spin: if own_processors { SPIN } else { Duration::ZERO },
        });
        let mut pool = ThreadPool {
            shared: Arc::clone(&shared),
            workers: Vec::new(),
            sleepers: Vec::new(),
            turn: Mutex::new(()),
        };
        for thread in 1..threads {
            let (shared, processors) = (Arc::clone(&shared), Arc::clone(&processors));
            let worker = std::thread::Builder::new()
                .name(format!("kiln-{thread}"))
                .spawn(move || {
                    processors.place_this_thread(thread, threads);
                    shared.serve(thread);
                })
                .map_err(|error| ThreadError::Spawn(error.to_string()))?;
            pool.sleepers.push(worker.thread().clone());
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Number of threads, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Threads that `run` spreads this work over: as many as get at least `grain` tasks each.
    pub fn threads_for(&self, tasks: i64, grain: i64) -> usize {
        let worth = usize::try_from(tasks / grain.max(1)).unwrap_or(0);
        worth.clamp(1, self.threads())
    }

    /// Does the tasks `0..tasks` and returns when all are done, on as many threads as get at least
    /// `grain` of them each. If another caller is using the pool, this one does all of them itself.
    pub fn run(
        &self,
        tasks: i64,
        grain: i64,
        work: &(dyn Fn(Share) + Sync),
    ) -> Result<(), ThreadError> {
        if tasks <= 0 {
            return Ok(());
        }
        let threads = self.threads_for(tasks, grain);
        let turn = if threads == 1 { None } else { self.take_turn() };
        let Some(_turn) = turn else {
            let alone = || work(Share { thread: 0, tasks: 0..tasks });
            return catch_unwind(AssertUnwindSafe(alone)).map_err(|_| ThreadError::Panicked);
        };
        let shared = &*self.shared;
        let cut = Cut::of(tasks, grain, threads);
        // SAFETY: only the lifetime is erased. The reference outlives its use: this function waits
        // until all workers that took part have left, also if a task of its own panics.
        let erased =
            unsafe { std::mem::transmute::<*const (dyn Fn(Share) + Sync + '_), *const Work>(work) };
        let job = Job { work: erased, cut };
        // SAFETY: we hold the turn and no worker takes part, so nobody else reads or writes it.
        unsafe { *shared.job.get() = Some(job) };
        shared.panicked.store(false, Ordering::Relaxed);
        shared.shares.deal(cut);
        self.call(threads as u64, threads);

        shared.take_part(0, job);
        // What is left was begun by those who are inside.
        shared.entry.0.fetch_or(CLOSED, Ordering::AcqRel);
        let mut idle = Idle::new(shared.spin);
        while shared.entry.0.load(Ordering::Acquire) & TAKING_PART != CLOSED {
            if idle.is_long() {
                std::thread::yield_now();
            }
        }
        if shared.panicked.load(Ordering::Relaxed) {
            return Err(ThreadError::Panicked);
        }
        Ok(())
    }

    fn take_turn(&self) -> Option<MutexGuard<'_, ()>> {
        match self.turn.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Makes a call and wakes the workers below `threads`.
    fn call(&self, low_bits: u64, threads: usize) {
        let before = self.shared.call.0.load(Ordering::Relaxed);
        let next = (before | TAKING_PART).wrapping_add(1) | low_bits;
        if low_bits != END {
            self.shared.entry.0.store(next & !TAKING_PART, Ordering::Release);
        }
        // Sequentially consistent, as are the worker's store to `asleep` and its last look at the
        // call: one of the two sees what the other wrote.
        self.shared.call.0.store(next, Ordering::SeqCst);
        for (thread, sleeper) in (1..threads).zip(&self.sleepers) {
            let asleep = self.shared.asleep.get(thread);
            if asleep.is_some_and(|asleep| asleep.0.swap(false, Ordering::SeqCst)) {
                sleeper.unpark();
            }
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.call(END, self.threads());
        for worker in self.workers.drain(..) {
            // Workers catch what panics, so there is nothing to report.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ThreadPool({} threads)", self.threads())
    }
}

impl Shared {
    /// The life of a worker.
    fn serve(&self, thread: usize) {
        let mut last = 0;
        let mut idle = Idle::new(self.spin);
        loop {
            let call = self.call.0.load(Ordering::SeqCst);
            if call == last {
                if idle.is_long() {
                    self.sleep(thread, last);
                    idle = Idle::new(self.spin);
                }
                continue;
            }
            last = call;
            match call & TAKING_PART {
                END => return,
                threads if (thread as u64) < threads => {
                    if let Some(job) = self.enter(call) {
                        self.take_part(thread, job);
                        self.entry.0.fetch_sub(1, Ordering::Release);
                    }
                    idle = Idle::new(self.spin);
                }
                _ => {}
            }
        }
    }

    /// Takes part in a call, unless it is over.
    fn enter(&self, call: u64) -> Option<Job> {
        let open = |entry: u64| {
            let same = entry & !TAKING_PART == call & !TAKING_PART;
            (same && entry & CLOSED == 0).then_some(entry + 1)
        };
        self.entry.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, open).ok()?;
        // SAFETY: the job was written before the call was opened, and is not written again until all who
        // have entered have left.
        unsafe { *self.job.get() }
    }

    /// Does tasks until all have been begun.
    fn take_part(&self, thread: usize, job: Job) {
        // SAFETY: the caller keeps the work alive until all who have entered have left, and is one of
        // those who run it itself.
        let work = unsafe { &*job.work };
        while let Some(tasks) = self.shares.take(job.cut, thread) {
            if catch_unwind(AssertUnwindSafe(|| work(Share { thread, tasks }))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Sleeps until a call other than `last` wakes this worker.
    fn sleep(&self, thread: usize, last: u64) {
        let Some(asleep) = self.asleep.get(thread) else { return };
        asleep.0.store(true, Ordering::SeqCst);
        while self.call.0.load(Ordering::SeqCst) == last && asleep.0.load(Ordering::SeqCst) {
            std::thread::park();
        }
        asleep.0.store(false, Ordering::SeqCst);
    }
}

/// Waiting that is short at first.
struct Idle {
    since: Option<Instant>,
    turns: u32,
    spin: Duration,
}

impl Idle {
    fn new(spin: Duration) -> Self {
        Idle { since: None, turns: 0, spin }
    }

    /// Whether waiting has taken so long that the processor should be given up; pauses if not.
    fn is_long(&mut self) -> bool {
        // The clock costs about as much as a few pauses.
        if self.turns.is_multiple_of(16) {
            let since = *self.since.get_or_insert_with(Instant::now);
            if self.spin.is_zero() || since.elapsed() > self.spin {
                return true;
            }
        }
        self.turns = self.turns.wrapping_add(1);
        std::hint::spin_loop();
        false
    }
}

/// Threads that repay on this machine for this process: one for each physical core that it may use.
pub fn default_threads() -> usize {
    Processors::of_this_process().default_threads().clamp(1, MAX_THREADS)
}

#[cfg(test)]
mod tests;
