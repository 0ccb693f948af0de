//! What goes on right now, in memory: busy workers, live jobs, and who waits for which.
//!
//! The database is the truth; the board makes it quick. A submitter that finds a worker
//! idle stores its job as already running and hands it over, one statement fewer and no
//! polling. A client that waits is told the moment the job ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::app::advisor::{Progress, Work};
use crate::store::jobs::JobRecord;
use moe_gps_core::cancel::Cancel;

/// A worker that is ours until dropped.
pub type Slot = OwnedSemaphorePermit;

/// A job that goes to a worker without a stay in the queue.
pub struct Handover {
    /// The worker.
    pub slot: Slot,
    /// The job, stored as running.
    pub job: JobRecord,
    /// Its question as it was read at the API boundary.
    pub work: Work,
}

/// What goes on right now.
#[derive(Debug)]
pub struct Board {
    slots: Arc<Semaphore>,
    handovers: mpsc::UnboundedSender<Handover>,
    bell: Notify,
    backlog: AtomicBool,
    live: Mutex<BTreeMap<String, Arc<LiveJob>>>,
    waiters: Mutex<BTreeMap<String, Vec<oneshot::Sender<Arc<JobRecord>>>>>,
    /// Digests that were asked lately.
    pub recent: Recent,
    /// Set when the service is told to stop: not ready any more, still answering.
    pub draining: CancellationToken,
    /// Set when waiting clients are sent away and workers take nothing new.
    pub stopping: CancellationToken,
    beat_ms: AtomicI64,
    /// Turns of storing questions, so that the ends of jobs do not stand behind a long line.
    pub inserts: Semaphore,
    room: Notify,
    full: AtomicBool,
    /// Bodies of questions that led to a recommendation lately.
    pub bodies: Recent,
}

/// A place in the queue that has become free: for the next who waits, unless it is filled up.
#[derive(Debug)]
pub struct Place<'a>(&'a Board);

impl Place<'_> {
    /// The queue is as good as full again.
    pub fn filled(self) {
        std::mem::forget(self);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.make_room();
    }
}

/// Questions that may be on their way into the database at once.
const INSERTS: usize = 4;

/// Most digests that are remembered, 32 bytes each.
const MAX_RECENT: usize = 4096;

/// Digests of what was asked lately.
///
/// It guesses whether a question is worth looking for before it is stored, or before it is refused
/// because the queue is full; a wrong guess costs a statement, or a second try, and changes no answer.
#[derive(Debug, Default)]
pub struct Recent {
    digests: Mutex<Digests>,
}

#[derive(Debug, Default)]
struct Digests {
    all: BTreeSet<[u8; 32]>,
    oldest_first: VecDeque<[u8; 32]>,
}

impl Recent {
    /// Whether this digest was asked lately.
    pub fn has(&self, digest: &[u8; 32]) -> bool {
        lock(&self.digests).all.contains(digest)
    }

    /// Whether this digest was asked lately; from now on it was.
    pub fn seen(&self, digest: [u8; 32]) -> bool {
        let mut digests = lock(&self.digests);
        if !digests.all.insert(digest) {
            return true;
        }
        digests.oldest_first.push_back(digest);
        if MAX_RECENT < digests.oldest_first.len()
            && let Some(oldest) = digests.oldest_first.pop_front()
        {
            digests.all.remove(&oldest);
        }
        false
    }
}

/// A job that a worker of this process computes.
#[derive(Debug, Default)]
pub struct LiveJob {
    progress: AtomicU64,
    phase: Mutex<&'static str>,
    cancel: Cancel,
}

impl Board {
    /// A board for so many workers, and where the runner receives what is handed over.
    #[must_use]
    pub fn new(n_workers: usize) -> (Self, mpsc::UnboundedReceiver<Handover>) {
        let (handovers, receiver) = mpsc::unbounded_channel();
        let board = Self {
            slots: Arc::new(Semaphore::new(n_workers)),
            handovers,
            bell: Notify::new(),
            backlog: AtomicBool::new(true),
            live: Mutex::default(),
            waiters: Mutex::default(),
            recent: Recent::default(),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            beat_ms: AtomicI64::new(0),
            inserts: Semaphore::new(INSERTS),
            room: Notify::new(),
            full: AtomicBool::new(false),
            bodies: Recent::default(),
        };
        (board, receiver)
    }

    /// An idle worker, if there is one and nobody waits in the queue for it.
    #[must_use]
    pub fn try_slot(&self) -> Option<Slot> {
        if self.stopping.is_cancelled() || self.backlog.load(Ordering::Acquire) {
            return None;
        }
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// The next worker that becomes idle.
    pub async fn slot(&self) -> Option<Slot> {
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }

    /// How many workers are idle.
    #[must_use]
    pub fn n_idle(&self) -> usize {
        self.slots.available_permits()
    }

    /// Gives a job to the worker that was reserved for it.
    pub fn hand_over(&self, slot: Slot, job: JobRecord, work: Work) {
        // Fails only when the runner has ended; the job's lease then brings it back.
        let _ = self.handovers.send(Handover { slot, job, work });
    }

    /// Says that the queue holds a job; called after it was stored.
    pub fn ring(&self) {
        self.backlog.store(true, Ordering::Release);
        self.bell.notify_one();
    }

    /// Waits until the queue may hold a job.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Whether the queue may hold a job, asked once; a worker that finds one rings again.
    pub fn take_backlog(&self) -> bool {
        self.backlog.swap(false, Ordering::AcqRel)
    }

    /// Says that a job has left the queue.
    pub fn make_room(&self) {
        self.room.notify_one();
    }

    /// Waits until a job has left the queue.
    pub async fn room(&self) -> Place<'_> {
        self.room.notified().await;
        Place(self)
    }

    /// Whether the queue has been full, and not been half empty since.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Notes how many questions wait; whether there is room for more than those that are on their way
    /// into the places that jobs leave, so that one who got a place sends the next.
    pub fn note_waiting(&self, waiting: i64, limit: u32) -> bool {
        let limit = i64::from(limit);
        if limit <= waiting {
            self.full.store(true, Ordering::Release);
        } else if waiting <= limit / 2 {
            self.full.store(false, Ordering::Release);
        }
        // A hundredth is left to those on their way: woken for nothing, they cost as much as when served.
        waiting < limit - limit / 100
    }

    /// Notes that a worker computes this job.
    pub fn begin(&self, id: &str) -> Arc<LiveJob> {
        let job = Arc::new(LiveJob::default());
        lock(&self.live).insert(id.to_owned(), Arc::clone(&job));
        job
    }

    /// Notes that no worker computes this job any more.
    pub fn end(&self, id: &str) {
        lock(&self.live).remove(id);
    }

    /// The job if a worker of this process computes it.
    #[must_use]
    pub fn live(&self, id: &str) -> Option<Arc<LiveJob>> {
        lock(&self.live).get(id).cloned()
    }

    /// Asks every computation to end.
    pub fn cancel_all(&self) {
        for job in lock(&self.live).values() {
            job.cancel();
        }
    }

    /// Where the end of a job will be told; ask before looking whether it has ended.
    pub fn wait_for(&self, id: &str) -> oneshot::Receiver<Arc<JobRecord>> {
        let (sender, receiver) = oneshot::channel();
        let mut waiters = lock(&self.waiters);
        let those = waiters.entry(id.to_owned()).or_default();
        // Clients that went away leave their senders behind.
        those.retain(|sender| !sender.is_closed());
        those.push(sender);
        receiver
    }

    /// Tells all who wait that the job has ended.
    pub fn announce(&self, job: &Arc<JobRecord>) {
        for sender in lock(&self.waiters).remove(&job.id).unwrap_or_default() {
            // A client that went away needs no answer.
            let _ = sender.send(Arc::clone(job));
        }
    }

    /// The jobs whose end somebody waits for.
    #[must_use]
    pub fn waited_for(&self) -> Vec<String> {
        let mut waiters = lock(&self.waiters);
        // Clients that went away leave their senders behind.
        waiters.retain(|_, those| those.iter().any(|sender| !sender.is_closed()));
        waiters.keys().cloned().collect()
    }

    /// Whether somebody waits for the end of this job.
    #[must_use]
    pub fn is_waited_for(&self, id: &str) -> bool {
        lock(&self.waiters).contains_key(id)
    }

    /// Sends away all who wait for a job that is gone.
    pub fn drop_waiters(&self, id: &str) {
        lock(&self.waiters).remove(id);
    }

    /// Forgets a job nobody waits for any more.
    pub fn forget_waiters(&self, id: &str) {
        let mut waiters = lock(&self.waiters);
        if let Some(those) = waiters.get_mut(id) {
            those.retain(|sender| !sender.is_closed());
            if those.is_empty() {
                waiters.remove(id);
            }
        }
    }

    /// Notes that the runner is alive.
    pub fn beat(&self, now_ms: i64) {
        self.beat_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When the runner was last known to be alive.
    #[must_use]
    pub fn last_beat_ms(&self) -> i64 {
        self.beat_ms.load(Ordering::Relaxed)
    }
}

impl LiveJob {
    /// The share that is done and what is being done.
    #[must_use]
    pub fn progress(&self) -> (f64, &'static str) {
        (f64::from_bits(self.progress.load(Ordering::Relaxed)), *lock(&self.phase))
    }

    /// Asks the computation to end.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl Progress for LiveJob {
    fn report(&self, done: f64, phase: &'static str) {
        self.progress.store(done.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
        *lock(&self.phase) = phase;
    }

    fn cancel(&self) -> &Cancel {
        &self.cancel
    }
}

/// The maps stay whole whatever a holder does, so a poisoned lock is a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_lately_is_remembered_up_to_a_bound() {
        let recent = Recent::default();
        let digest = |n: u64| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&n.to_le_bytes());
            digest
        };
        assert!(!recent.seen(digest(0)) && recent.seen(digest(0)));
        for n in 1..=MAX_RECENT as u64 {
            assert!(!recent.seen(digest(n)));
        }
        assert!(!recent.seen(digest(0)), "the oldest has gone");
        assert!(recent.seen(digest(MAX_RECENT as u64)));
    }
}
