//! Bytes and documents to domain values and back; takes slices and parsed values, opens
//! no file, and names every problem it finds.

pub mod catalog_entry;
pub mod collectives_toml;
pub mod device_toml;
pub mod hf_config;
pub mod link_toml;
pub mod model_toml;
pub mod placement;
pub mod trace;
