//! A computation that may be told to end.

use std::fmt;

use crate::pricing::error::PricingError;

/// Asked often; after `true` pricing ends with [`PricingError::Stopped`].
#[derive(Clone, Copy)]
pub struct Stop<'a>(&'a (dyn Fn() -> bool + Sync));

impl<'a> Stop<'a> {
    /// Nobody ends it.
    pub const NEVER: Stop<'static> = Stop(&|| false);

    /// Ends once `stopped` says so.
    #[must_use]
    pub const fn when(stopped: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self(stopped)
    }

    /// An error once it is to end.
    pub(crate) fn check(self) -> Result<(), PricingError> {
        if (self.0)() { Err(PricingError::Stopped) } else { Ok(()) }
    }
}

impl fmt::Debug for Stop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stop")
    }
}
