//! What every use case works with.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};

use crate::app::advisor::Advisor;
use crate::app::deployments::Deployments;
use crate::app::ingest::TraceDirectory;
use crate::app::live_jobs::Board;
use crate::app::memory::Memory;
use crate::app::tokens::Gate;
use crate::store::{Reserve, Store};
use moe_gps_core::formats::trace::Limits;

/// What every use case works with.
pub struct App {
    /// The database.
    pub store: Store,
    /// What goes on right now.
    pub board: Board,
    /// Who answers questions.
    pub advisor: Arc<dyn Advisor>,
    /// Where stored traces lie.
    pub traces: TraceDirectory,
    /// The bounds of uploads.
    pub uploads: Uploads,
    /// This process, as leases name it.
    pub instance: String,
    /// Turns of checks, each of which may walk traces.
    pub checks: Arc<Semaphore>,
    /// Turns of sweeps, each of which uses every core.
    pub sweeps: Semaphore,
    /// Whether any outcome was ever reported.
    pub has_outcomes: AtomicBool,
    /// Turns of clients that wait for the end of what they asked, fewer than connections.
    pub waits: Semaphore,
    /// The rules of the queue.
    pub queue: Queue,
    /// The memory of computations.
    pub memory: Memory,
    /// Room on the disk that is kept for deletions.
    pub reserve: Reserve,
    /// What is deleted by itself.
    pub retention: Retention,
    /// Who is let in.
    pub gate: Gate,
    /// What is watched.
    pub deployments: Deployments,
}

/// The bounds of uploads.
#[derive(Debug)]
pub struct Uploads {
    /// How much of one is read.
    pub limits: Limits,
    /// How many are taken in at once; each has a thread and room on the disk.
    pub at_once: Semaphore,
    /// Held while a trace's row and file change together.
    pub keeping: Mutex<()>,
    /// Age at which an object that nothing names any more is deleted.
    pub grace: Duration,
}

/// How long, and how many of, what is kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retention {
    /// Ended recommendations.
    pub recommendations: Keep,
    /// Traces.
    pub traces: Keep,
    /// Idempotency keys.
    pub keys: Keep,
}

/// Bounds on what is kept of a kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keep {
    /// Longest age, milliseconds.
    pub age_ms: Option<i64>,
    /// Largest number.
    pub most: Option<i64>,
}

/// The rules of the queue.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    /// Questions that may wait.
    pub limit: u32,
    /// Questions of one holder of a token that may wait, where tokens are needed.
    pub principal_limit: u32,
    /// How long a worker keeps a job without a sign of life, milliseconds.
    pub lease_ms: i64,
    /// The revision of the numbers that this program computes.
    pub revision: u32,
    /// How often a job is started before it is given up.
    pub max_attempts: u32,
}
