//! The memory of computations: each takes its estimate out of one budget before it begins.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What the budget is counted in, bytes.
const UNIT: u64 = 1 << 20;

/// Memory that computations share.
#[derive(Debug)]
pub struct Memory {
    free: Arc<Semaphore>,
    units: u32,
}

impl Memory {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let units = u32::try_from((bytes / UNIT).max(1)).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// All of it, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.units) * UNIT
    }

    /// Waits until so much is free, in the order of asking; all of it where nothing else may run.
    /// Held until the value is dropped.
    pub async fn take(&self, bytes: u64, alone: bool) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT).max(1)).unwrap_or(u32::MAX);
        let units = if alone { self.units } else { units.min(self.units) };
        // The semaphore is never closed.
        Arc::clone(&self.free).acquire_many_owned(units).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_runs_alone_waits_for_the_others_and_they_for_it() {
        let memory = Arc::new(Memory::new(4 * UNIT));
        let (first, second) = (memory.take(1, false).await, memory.take(UNIT + 1, false).await);
        assert_eq!(memory.free.available_permits(), 1);
        let waiting = Arc::clone(&memory);
        let alone = tokio::spawn(async move { waiting.take(0, true).await });
        tokio::task::yield_now().await;
        let waiting = Arc::clone(&memory);
        let third = tokio::spawn(async move { waiting.take(0, false).await });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!alone.is_finished() && !third.is_finished());
        drop(second);
        let held = alone.await.unwrap();
        assert!(!third.is_finished());
        drop(held);
        assert!(third.await.unwrap().is_some());
    }
}
