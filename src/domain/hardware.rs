//! Devices, links and the fitted constants of a device profile.

use std::sync::Arc;

use super::comm::profile::CommunicationProfile;
use super::units::{BytesPerSecond, Seconds};

/// A kind of accelerator.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Catalog id, or the user's own name.
    pub name: String,
    /// Fitted communication constants, where somebody measured them.
    pub collectives: Option<Arc<CommunicationProfile>>,
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
