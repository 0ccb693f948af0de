//! What every use case works with.

use std::path::PathBuf;
use std::sync::Arc;

use super::advisor::Advisor;
use super::board::Board;
use crate::store::Store;

/// What every use case works with.
pub struct App {
    /// The database.
    pub store: Store,
    /// What goes on right now.
    pub board: Board,
    /// Who answers questions.
    pub advisor: Arc<dyn Advisor>,
    /// Where stored traces lie.
    pub traces_dir: PathBuf,
    /// This process, as leases name it.
    pub instance: String,
    /// The rules of the queue.
    pub queue: Queue,
}

/// The rules of the queue.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    /// Questions that may wait.
    pub limit: u32,
    /// How long a worker keeps a job without a sign of life, milliseconds.
    pub lease_ms: i64,
    /// How often a job is started before it is given up.
    pub max_attempts: u32,
}
