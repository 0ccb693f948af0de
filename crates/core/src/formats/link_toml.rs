//! A catalog file of a link between devices.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::formats::catalog_entry::{CatalogEntry, CatalogFileError};
use crate::hardware::Link;
use crate::units::{BytesPerSecond, Seconds};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    name: String,
    bandwidth_bytes_per_s: f64,
    latency_s: f64,
    domain_devices: Option<u32>,
    sources: BTreeMap<String, String>,
}

/// Reads a link's catalog file; the link is named by its id.
pub fn parse(text: &str) -> Result<CatalogEntry<Link>, CatalogFileError> {
    let file: File = toml::from_str(text)?;
    let value = Link {
        name: file.id.clone(),
        bandwidth: BytesPerSecond::new(file.bandwidth_bytes_per_s),
        latency: Seconds::new(file.latency_s),
        domain: file.domain_devices,
    };
    Ok(CatalogEntry { id: file.id, name: file.name, value, sources: file.sources })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        id = "wire"
        name = "A wire"
        bandwidth_bytes_per_s = 1e9
        latency_s = 1e-6
        [sources]
        "/latency_s" = "a ruler"
    "#;

    #[test]
    fn a_link_is_read_in_si_units() {
        let link = parse(FILE).unwrap();
        assert_eq!(link.value.name, "wire");
        assert!((link.value.bandwidth.get() - 1e9).abs() < 1.0);
        assert_eq!(link.sources["/latency_s"], "a ruler");
    }

    #[test]
    fn unknown_fields_are_refused() {
        let error = parse(&FILE.replace("latency_s = 1e-6", "latency_us = 1")).unwrap_err();
        assert!(matches!(error, CatalogFileError::Toml(_)));
    }
}
