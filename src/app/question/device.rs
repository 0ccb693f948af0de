//! A device given by its datasheet, or by a whole profile, instead of a catalog id.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::wire::read::{Located, Violations};
use moe_gps_core::catalog::Catalog;
use moe_gps_core::catalog::check::check_device;
use moe_gps_core::formats::catalog_entry::{CatalogEntry, CatalogFileError};
use moe_gps_core::formats::device_toml;
use moe_gps_core::hardware::{Device, PeakRates};
use moe_gps_core::units::{Bytes, BytesPerSecond, FlopsPerSecond, Seconds};

/// The catalog device whose datasheet-only stack stands in for the unknown one.
const STAND_IN: &str = "rtx-pro-6000";

/// Reads the datasheet figures of an inline device; its operators are priced as
/// rooflines with the efficiencies of measured devices and their wider error band.
pub(super) fn inline(
    fields: &Map<String, Value>,
    pointer: &str,
    catalog: &Catalog,
    violations: &Violations,
) -> Option<Device> {
    let value = Value::Object(fields.clone());
    if fields.contains_key("stack") {
        return profile(&value, pointer, violations).map(|entry| entry.value);
    }
    let local = Violations::default();
    let device = read(&value, catalog, &local);
    violations.note_under(pointer, local.into_vec());
    device
}

/// Reads a whole profile: the fields of a catalog file, constants of every stack included.
pub(crate) fn profile(
    document: &Value,
    pointer: &str,
    violations: &Violations,
) -> Option<CatalogEntry<Device>> {
    let refuse = |detail: String| violations.note(pointer, "profile", detail);
    let before = Violations::default();
    check_bounds(document, &before);
    if !before.is_empty() {
        violations.note_under(pointer, before.into_vec());
        return None;
    }
    match device_toml::from_document(document) {
        Err(CatalogFileError::Toml(error)) => {
            refuse(error.message().to_owned());
            None
        }
        Err(CatalogFileError::Device(problems)) => {
            violations.note_under(pointer, problems);
            None
        }
        Err(error) => {
            refuse(error.to_string());
            None
        }
        Ok(entry) => {
            let problems = check_device(&entry, document).problems;
            let sound = problems.is_empty();
            problems.into_iter().for_each(refuse);
            sound.then_some(entry)
        }
    }
}

/// Memory of a device, bytes.
const MEMORY: RangeInclusive<f64> = 1e9..=1e13;
/// Memory bandwidth of a device, bytes per second.
const MEMORY_BANDWIDTH: RangeInclusive<f64> = 1e9..=1e15;
/// Last-level cache, bytes.
const L2: RangeInclusive<f64> = 1e5..=1e12;
/// Host time per kernel launch, seconds.
const LAUNCH: RangeInclusive<f64> = 0.0..=1e-2;
/// Peak rates, FLOP per second.
const RATE: RangeInclusive<f64> = 1e10..=1e18;
/// Multiprocessors of a device.
const MULTIPROCESSORS: RangeInclusive<u32> = 1..=4096;
/// Longest text of a profile, characters, and most items of one of its lists or tables.
const LONGEST: usize = 4096;

/// Checks that nothing in a profile is without a bound, beside what every entry of the catalog is
/// checked for.
fn check_bounds(document: &Value, violations: &Violations) {
    let root = Located::root(document, violations);
    check_lengths(&root);
    let Some(fields) = document.as_object().and_then(|_| root.entries()) else { return };
    for (name, place) in fields {
        // What has another type is told by the reader.
        match (name, place.value()) {
            ("eager_launch_s", Value::Number(_)) => {
                let _ = place.number(LAUNCH);
            }
            ("multiprocessors", Value::Number(_)) => {
                let _ = place.small_integer(MULTIPROCESSORS);
            }
            ("peak_flop_per_s", Value::Object(_)) => {
                for (_, rate) in place.entries().unwrap_or_default() {
                    if rate.value().is_number() {
                        let _ = rate.number(RATE);
                    }
                }
            }
            _ => {}
        }
    }
}

fn check_lengths(place: &Located) {
    let too_long = |what: &str, n: usize| {
        place.note("length", format!("this has {n} {what}; at most {LONGEST} may be"));
    };
    match place.value() {
        Value::String(text) if LONGEST < text.chars().count() => {
            too_long("characters", text.chars().count());
        }
        Value::Array(items) if LONGEST < items.len() => too_long("items", items.len()),
        Value::Object(fields) if LONGEST < fields.len() => too_long("fields", fields.len()),
        Value::Object(_) => {
            place.entries().unwrap_or_default().iter().for_each(|(_, place)| check_lengths(place));
        }
        Value::Array(items) => {
            let items = place.items(0..=items.len()).unwrap_or_default();
            items.iter().for_each(check_lengths);
        }
        _ => {}
    }
}

fn read(value: &Value, catalog: &Catalog, violations: &Violations) -> Option<Device> {
    let fields = Located::root(value, violations).object()?;
    let name = fields.get("name").and_then(|place| place.text()).unwrap_or("inline");
    let memory = fields.require("memory_bytes").and_then(|place| place.number(MEMORY));
    let bandwidth =
        fields.require("bandwidth_bytes_per_s").and_then(|place| place.number(MEMORY_BANDWIDTH));
    let multiprocessors =
        fields.get("multiprocessors").and_then(|place| place.small_integer(MULTIPROCESSORS));
    let l2 = fields.get("l2_bytes").and_then(|place| place.number(L2));
    let launch = fields.get("eager_launch_s").and_then(|place| place.number(LAUNCH));
    let peak = fields.require("peak_flop_per_s").and_then(|place| {
        let rates = place.object()?;
        let rate = |place: Located| place.number(RATE).map(FlopsPerSecond::new);
        let bf16 = rates.require("bf16").and_then(rate);
        let fp8 = rates.get("fp8").and_then(rate);
        let fp4 = rates.get("fp4").and_then(rate);
        let fp32 = rates.get("fp32").and_then(rate);
        rates.finish();
        Some(PeakRates { bf16: bf16?, fp8, fp4, fp32: fp32.or(bf16.map(|rate| rate / 2.0))? })
    });
    fields.finish();
    let like = &catalog.device(STAND_IN).ok()?.value;
    Some(Device {
        name: name.to_owned(),
        memory: Bytes::new(memory?),
        bandwidth: BytesPerSecond::new(bandwidth?),
        peak: peak?,
        multiprocessors: multiprocessors.unwrap_or(like.multiprocessors),
        l2: l2.map_or(like.l2, Bytes::new),
        eager_launch: launch.map_or(like.eager_launch, Seconds::new),
        recurrent: None,
        ..like.clone()
    })
}
