//! Devices, links and the fitted constants of a device profile.

use super::units::{BytesPerSecond, Seconds};

/// A kind of accelerator.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Catalog id, or the user's own name.
    pub name: String,
}

/// A link between devices.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// Catalog id, or the user's own name.
    pub name: String,
    /// Bandwidth of one device's link, per direction.
    pub bandwidth: BytesPerSecond,
    /// Latency of one message.
    pub latency: Seconds,
}
