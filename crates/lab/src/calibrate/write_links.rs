//! Fitted laws of communication as the `[collectives]` section of a catalog file.

use toml::{Table, Value as Toml};

use crate::calibrate::evidence::Evidence;
use crate::calibrate::profile::Calibration;
use crate::calibrate::write::Heading;
use moe_gps_core::comm::profile::{
    Collective, CollectiveFit, CollectiveKernel, CollectiveKey, Congestion, DeepEpFit, DeepEpKey,
    DeepEpMode, Ramp, Way,
};
use moe_gps_core::formats::catalog_entry::CatalogFileError;
use moe_gps_core::formats::device_toml::refuse;
use moe_gps_core::named::name_of;
use moe_gps_core::units::Seconds;

/// Puts what was fitted in the place of what it replaces.
pub(super) fn replace_links(
    file: &mut Table,
    fitted: &Calibration,
    heading: &Heading,
) -> Result<(), CatalogFileError> {
    let laws = fitted.collectives.len() + fitted.exchanges.len();
    if laws == 0 {
        return Ok(());
    }
    let missing = || {
        refuse(
            "communication was measured, but the base has no [collectives] that names a link: \
             add one, or take the rows out"
                .to_owned(),
        )
    };
    let section = file.get_mut("collectives").and_then(Toml::as_table_mut).ok_or_else(missing)?;
    section.insert("date".to_owned(), heading.date.clone().into());
    let old = section.get("source").and_then(Toml::as_str).unwrap_or_default();
    let source = format!("{} ({laws} laws); the others: {old}", heading.source);
    section.insert("source".to_owned(), source.into());
    let collectives = fitted.collectives.iter().map(|(key, of)| collective(*key, of)).collect();
    replace(section, "fits", &["kernel", "op", "devices"], collectives);
    let exchanges = fitted.exchanges.iter().map(|(key, of)| exchange(*key, of)).collect();
    replace(section, "deep_ep", &["stack", "mode", "way", "nodes", "devices_per_node"], exchanges);
    Ok(())
}

/// Puts laws into a list, each in the place of the one with the same key.
fn replace(section: &mut Table, list: &str, key: &[&str], laws: Vec<Table>) {
    let list = section.entry(list).or_insert_with(|| Toml::Array(Vec::new()));
    let Some(list) = list.as_array_mut() else { return };
    for law in laws {
        let same = |old: &Toml| key.iter().all(|field| old.get(*field) == law.get(*field));
        let place = list.iter().position(same);
        let law = Toml::Table(law.clone());
        match place {
            Some(place) => list[place] = law,
            None => list.push(law),
        }
    }
}

fn collective(key: CollectiveKey, (fit, evidence): &(CollectiveFit, Evidence)) -> Table {
    let (kernel, operation, devices) = key;
    let curve = fit.fitted.curve;
    let mut table = Table::new();
    table.insert("kernel".to_owned(), name_of(&CollectiveKernel::ALL, &kernel).into());
    table.insert("op".to_owned(), name_of(&Collective::ALL, &operation).into());
    table.insert("devices".to_owned(), i64::from(devices).into());
    table.insert("floor_s".to_owned(), curve.floor.get().into());
    if curve.overlap > 1.0 {
        table.insert("overlap".to_owned(), curve.overlap.into());
    }
    table.insert("bandwidth_bytes_per_s".to_owned(), curve.bandwidth.get().into());
    table.insert("ramps".to_owned(), Toml::Array(curve.ramps.iter().map(ramp).collect()));
    if let Some(from) = fit.handover {
        table.insert("handover_bytes".to_owned(), from.get().into());
    }
    table.insert("rows".to_owned(), rows(evidence));
    table.insert("error_below_1mib".to_owned(), fit.fitted.error_small.into());
    table.insert("error_from_1mib".to_owned(), fit.fitted.error_large.into());
    table
}

fn exchange(key: DeepEpKey, (fit, evidence): &(DeepEpFit, Evidence)) -> Table {
    let curve = fit.fitted.curve;
    let mut table = Table::new();
    table.insert("stack".to_owned(), key.stack.id.into());
    table.insert("mode".to_owned(), name_of(&DeepEpMode::ALL, &key.mode).into());
    table.insert("way".to_owned(), name_of(&Way::ALL, &key.way).into());
    table.insert("nodes".to_owned(), i64::from(key.nodes).into());
    if key.per_node != 8 {
        table.insert("devices_per_node".to_owned(), i64::from(key.per_node).into());
    }
    table.insert("floor_s".to_owned(), curve.floor.get().into());
    table.insert("floor_per_hidden_s".to_owned(), fit.floor_per_hidden.get().into());
    table.insert("overlap".to_owned(), curve.overlap.into());
    table.insert("bandwidth_bytes_per_s".to_owned(), curve.bandwidth.get().into());
    table.insert("ramp".to_owned(), ramp(&curve.ramps[0]));
    if curve.congestion != Congestion::NONE {
        let mut congestion = Table::new();
        congestion.insert("from_bytes".to_owned(), curve.congestion.from.get().into());
        let bandwidth = curve.congestion.bandwidth.get();
        congestion.insert("bandwidth_bytes_per_s".to_owned(), bandwidth.into());
        table.insert("congestion".to_owned(), Toml::Table(congestion));
    }
    table.insert("own_copies".to_owned(), fit.own_copies.into());
    table.insert("header_bytes".to_owned(), fit.header.get().into());
    for (name, of) in [("floor_per_expert_s", fit.floor_per_expert), ("token_s", fit.token)] {
        if of > Seconds::ZERO {
            table.insert(name.to_owned(), of.get().into());
        }
    }
    table.insert("rows".to_owned(), rows(evidence));
    table.insert("error".to_owned(), fit.fitted.error_large.into());
    table
}

fn ramp(ramp: &Ramp) -> Toml {
    let mut table = Table::new();
    table.insert("time_s".to_owned(), ramp.time.get().into());
    table.insert("half_bytes".to_owned(), ramp.half.get().into());
    if ramp.sharpness > 1.0 {
        table.insert("sharpness".to_owned(), ramp.sharpness.into());
    }
    Toml::Table(table)
}

fn rows(evidence: &Evidence) -> Toml {
    Toml::Integer(evidence.rows.len().try_into().unwrap_or(i64::MAX))
}
