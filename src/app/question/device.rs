//! A device given by its datasheet, or by a whole profile, instead of a catalog id.

use serde_json::{Map, Value};

use crate::wire::read::{Located, Violations};
use moe_gps_core::catalog::Catalog;
use moe_gps_core::catalog::check::check_device;
use moe_gps_core::formats::catalog_entry::{CatalogEntry, CatalogFileError};
use moe_gps_core::formats::device_toml;
use moe_gps_core::hardware::{Device, PeakRates};
use moe_gps_core::units::{Bytes, BytesPerSecond, FlopsPerSecond, Seconds};

/// The catalog device whose datasheet-only stack stands in for the unknown one.
const STAND_IN: &str = "l40s";

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

fn read(value: &Value, catalog: &Catalog, violations: &Violations) -> Option<Device> {
    let fields = Located::root(value, violations).object()?;
    let name = fields.get("name").and_then(|place| place.text()).unwrap_or("inline");
    let memory = fields.require("memory_bytes").and_then(|place| place.number(1e9..=1e13));
    let bandwidth =
        fields.require("bandwidth_bytes_per_s").and_then(|place| place.number(1e9..=1e15));
    let multiprocessors =
        fields.get("multiprocessors").and_then(|place| place.small_integer(1..=4096));
    let l2 = fields.get("l2_bytes").and_then(|place| place.number(1e5..=1e12));
    let launch = fields.get("eager_launch_s").and_then(|place| place.number(0.0..=1e-2));
    let peak = fields.require("peak_flop_per_s").and_then(|place| {
        let rates = place.object()?;
        let rate = |place: Located| place.number(1e10..=1e18).map(FlopsPerSecond::new);
        let bf16 = rates.require("bf16").and_then(rate);
        let fp8 = rates.get("fp8").and_then(rate);
        let fp32 = rates.get("fp32").and_then(rate);
        rates.finish();
        Some(PeakRates { bf16: bf16?, fp8, fp32: fp32.or(bf16.map(|rate| rate / 2.0))? })
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
        ..like.clone()
    })
}
