//! What communication costs: collectives, and the exchange of tokens with experts.
//!
//! [`profile`] holds the fitted constants of a device, [`link`] turns them (or, for a
//! link nobody measured, its latency and bandwidth) into a law for one group of
//! devices, [`collectives`] prices the four collectives over one or several nodes, and
//! [`exchange`] prices dispatch and combine of each communication pattern, all-to-alls by
//! the law of one [`direction`] and the [`load`] of the busiest device.

pub mod collectives;
pub mod direction;
pub mod exchange;
pub mod expected_destinations;
pub mod fixtures;
pub mod link;
pub mod llmcompass;
pub mod load;
pub mod paper;
pub mod profile;
