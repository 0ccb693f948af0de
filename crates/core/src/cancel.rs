//! A computation that may be told to end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells a computation to end; its clones are the same.
///
/// Long work checks it often and ends with [`Canceled`] after the first yes.
#[derive(Clone)]
pub struct Cancel(Source);

#[derive(Clone)]
enum Source {
    Never,
    Flag(Arc<AtomicBool>),
    Asked(Arc<dyn Fn() -> bool + Send + Sync>),
}

/// The computation was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the computation was canceled")]
pub struct Canceled;

impl Cancel {
    /// Nobody ends the computation.
    pub const NEVER: &'static Self = &Self(Source::Never);

    /// Ends the computation once `canceled` says so.
    pub fn when(canceled: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Source::Asked(Arc::new(canceled)))
    }

    /// Tells the computation to end, where this is a flag ([`Cancel::default`]).
    pub fn cancel(&self) {
        if let Source::Flag(flag) = &self.0 {
            flag.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the computation is to end.
    #[must_use]
    pub fn is_canceled(&self) -> bool {
        match &self.0 {
            Source::Never => false,
            Source::Flag(flag) => flag.load(Ordering::Relaxed),
            Source::Asked(canceled) => canceled(),
        }
    }

    /// An error once the computation is to end.
    pub fn check(&self) -> Result<(), Canceled> {
        if self.is_canceled() { Err(Canceled) } else { Ok(()) }
    }

    /// Cancels when it is dropped, such as with the request that waits for the computation.
    #[must_use]
    pub fn on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }
}

impl Default for Cancel {
    /// A flag that is not set.
    fn default() -> Self {
        Self(Source::Flag(Arc::default()))
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cancel")
    }
}

/// Cancels when it is dropped.
#[derive(Debug)]
pub struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_shared_by_its_clones_and_set_when_its_guard_goes() {
        let cancel = Cancel::default();
        let (other, guard) = (cancel.clone(), cancel.on_drop());
        assert_eq!(other.check(), Ok(()));
        drop(guard);
        assert_eq!((other.check(), cancel.is_canceled()), (Err(Canceled), true));
        Cancel::NEVER.cancel();
        assert!(!Cancel::NEVER.is_canceled() && Cancel::when(|| true).is_canceled());
    }
}
