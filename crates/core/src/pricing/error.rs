//! Why a question cannot be priced.

use crate::cancel::Canceled;
use crate::placement::PlacementError;

/// Why a question cannot be priced.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PricingError {
    /// The device has no laws.
    #[error("the device has no profile to price operators with")]
    NoProfile,
    /// It was told to end.
    #[error(transparent)]
    Canceled(#[from] Canceled),
    /// The shape of the placement is impossible.
    #[error(transparent)]
    Placement(#[from] PlacementError),
}
