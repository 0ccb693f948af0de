//! Whether the catalog's figures agree with each other and all have a source.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::catalog::Catalog;
use crate::catalog::sources::sources_of_numbers;
use crate::formats::catalog_entry::CatalogEntry;
use crate::formats::model_toml::ModelSheet;
use crate::hardware::{Device, Link};

/// Largest accepted difference between computed and published parameters, as a share.
pub const MAX_PARAMETER_ERROR: f64 = 0.01;

/// Bandwidths a link may have, in bytes per second (the range questions may use).
pub const LINK_BANDWIDTHS: std::ops::RangeInclusive<f64> = 1e6..=1e13;

/// Latencies a link may have, in seconds.
pub const LINK_LATENCIES: std::ops::RangeInclusive<f64> = 1e-8..=1e-2;

/// What was found about one entry of the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryCheck {
    /// `model`, `device` or `link`.
    pub kind: &'static str,
    /// The entry's id.
    pub id: String,
    /// Computed against published parameters, for models.
    pub parameters: Option<ParameterCheck>,
    /// Everything that is wrong, in words; empty when all is well.
    pub problems: Vec<String>,
}

/// Computed against published parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParameterCheck {
    /// Computed from the configuration.
    pub computed: u64,
    /// Published.
    pub published: u64,
}

impl ParameterCheck {
    /// Computed over published, less one.
    #[must_use]
    pub fn error(&self) -> f64 {
        self.computed as f64 / self.published as f64 - 1.0
    }
}

/// Checks every entry.
#[must_use]
pub fn check(catalog: &Catalog) -> Vec<EntryCheck> {
    let models = catalog.models().map(check_model);
    let devices = catalog.devices().map(|entry| {
        check_device(entry, catalog.device_document(&entry.id).unwrap_or(&Value::Null))
    });
    let links = catalog.links().map(check_link);
    let unreadable = catalog.unreadable().map(|(kind, error)| EntryCheck {
        kind,
        id: error.path().to_owned(),
        parameters: None,
        problems: vec![error.to_string()],
    });
    models.chain(devices).chain(links).chain(unreadable).collect()
}

/// Checks one model.
#[must_use]
pub fn check_model(entry: &CatalogEntry<ModelSheet>) -> EntryCheck {
    let sheet = &entry.value;
    let Some(published) = &sheet.published else {
        let problems = vec!["no published number of parameters".to_owned()];
        return EntryCheck { kind: "model", id: entry.id.clone(), parameters: None, problems };
    };
    let parameters = ParameterCheck {
        computed: sheet.model.parameters().total,
        published: published.parameters,
    };
    let mut problems = missing_sources(&entry.sources, &["/config", "/published/parameters"]);
    let error = parameters.error();
    if error.is_nan() || error.abs() > MAX_PARAMETER_ERROR {
        problems.push(format!(
            "{} parameters computed, {} published: {:+.2} %, more than {:.0} % apart",
            parameters.computed,
            parameters.published,
            error * 100.0,
            MAX_PARAMETER_ERROR * 100.0
        ));
    }
    if !sheet.ignored.is_empty() {
        problems.push(format!("fields that nothing reads: {}", sheet.ignored.join(", ")));
    }
    if published.excluded.trim().is_empty() {
        problems.push("published.excluded is empty; say \"nothing\" if so".to_owned());
    }
    EntryCheck { kind: "model", id: entry.id.clone(), parameters: Some(parameters), problems }
}

/// Checks one device; `document` is its whole file.
#[must_use]
pub fn check_device(entry: &CatalogEntry<Device>, document: &Value) -> EntryCheck {
    let mut problems = missing_sources(&entry.sources, &[]);
    let device = &entry.value;
    for (what, unit, value, range) in [
        ("memory", "B", device.memory.get(), 1e9..=1e13),
        ("memory bandwidth", "B/s", device.bandwidth.get(), 1e10..=1e14),
        ("bf16 peak", "FLOP/s", device.peak.bf16.get(), 1e12..=1e17),
        ("fp32 peak", "FLOP/s", device.peak.fp32.get(), 1e12..=1e17),
        ("L2 cache", "B", device.l2.get(), 1e6..=1e10),
        ("launch time", "s", device.eager_launch.get(), 1e-7..=1e-3),
    ] {
        if !range.contains(&value) {
            let (least, most) = range.into_inner();
            problems
                .push(format!("{what} is {value} {unit}; it must be from {least:e} to {most:e}"));
        }
    }
    let numbers = sources_of_numbers(document, &entry.sources);
    let bare = numbers.iter().filter(|(_, source)| source.trim().is_empty());
    problems.extend(bare.map(|(pointer, _)| format!("no source for {pointer}")));
    EntryCheck { kind: "device", id: entry.id.clone(), parameters: None, problems }
}

/// Checks one link.
#[must_use]
pub fn check_link(entry: &CatalogEntry<Link>) -> EntryCheck {
    let mut problems = missing_sources(&entry.sources, &["/bandwidth_bytes_per_s", "/latency_s"]);
    let bandwidth = entry.value.bandwidth.get();
    if !LINK_BANDWIDTHS.contains(&bandwidth) {
        problems.push(format!("bandwidth is {bandwidth} B/s, outside {LINK_BANDWIDTHS:?}"));
    }
    let latency = entry.value.latency.get();
    if !LINK_LATENCIES.contains(&latency) {
        problems.push(format!("latency is {latency} s, outside {LINK_LATENCIES:?}"));
    }
    EntryCheck { kind: "link", id: entry.id.clone(), parameters: None, problems }
}

/// Says which of the `needed` pointers have no source, and which sources are empty.
fn missing_sources(sources: &BTreeMap<String, String>, needed: &[&str]) -> Vec<String> {
    let missing = needed.iter().filter(|pointer| !sources.contains_key(**pointer));
    let empty = sources.iter().filter(|(_, source)| source.trim().is_empty());
    missing
        .map(|pointer| format!("no source for {pointer}"))
        .chain(empty.map(|(pointer, _)| format!("the source for {pointer} is empty")))
        .collect()
}
