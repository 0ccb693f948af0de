//! What an operator costs, and how far that figure can be trusted.

use crate::units::Seconds;

/// Where a price comes from, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// A measurement of this very operator and size, or between two of them.
    Measured,
    /// A law whose constants were fitted to measurements of this device.
    Fitted,
    /// A law with datasheet figures and the efficiencies of other devices.
    Roofline,
}

/// The time of an operator with its relative error band.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// The time.
    pub time: Seconds,
    /// Relative error to expect: 0.1 means ten percent either way.
    pub band: f64,
    /// Where the figure comes from.
    pub basis: Basis,
}
