//! A device's catalog file with fitted constants added to those of another file.

use std::collections::BTreeMap;

use serde_json::Value;
use toml::{Table, Value as Toml};

use crate::calibrate::evidence::Evidence;
use crate::calibrate::fit::four_digits;
use crate::calibrate::parameters::Family;
use crate::calibrate::profile::{Calibration, Set};
use crate::calibrate::recurrent::Recurrent;
use crate::calibrate::write_links::replace_links;
use crate::validate::measured::Software;
use moe_gps_core::engines;
use moe_gps_core::engines::unnamed;
use moe_gps_core::formats::catalog_entry::CatalogFileError;
use moe_gps_core::formats::device_toml::{self, refuse};
use moe_gps_core::hardware::Device;
use moe_gps_core::system::Operands;

/// What a new file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// Its id; questions name the device by it.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Where the measurements come from.
    pub source: String,
    /// The day, ISO 8601.
    pub date: String,
}

/// The text of `base` with everything that was fitted: sets of constants, stacks that use
/// them in front of the others, laws of communication in the place of those they
/// replace.
pub fn with_fitted(
    base: &Value,
    heading: &Heading,
    fitted: &Calibration,
) -> Result<String, CatalogFileError> {
    let mut file = Table::try_from(base).map_err(|error| refuse(error.to_string()))?;
    file.insert("id".to_owned(), heading.id.clone().into());
    file.insert("name".to_owned(), heading.name.clone().into());
    let sections: Vec<Table> = fitted.sets.iter().map(|set| section(set, heading)).collect();
    for (set, section) in fitted.sets.iter().zip(sections) {
        let sets = file
            .entry(section_of(set.family))
            .or_insert_with(|| Toml::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(|| refuse(format!("[{}] is not a table", section_of(set.family))))?;
        sets.insert(set_name(set), Toml::Table(section));
    }
    if let Some(Recurrent { constants, software, evidence }) = &fitted.recurrent {
        let mut section = provenance(software, evidence, heading);
        let (start, step) = (constants.start.get(), constants.step.get());
        let values = [("start_s", start), ("step_s", step)];
        let table = values.map(|(name, value)| (name.to_owned(), Toml::Float(four_digits(value))));
        section.insert("constants".to_owned(), Toml::Table(table.into_iter().collect()));
        file.insert("recurrent".to_owned(), Toml::Table(section));
    }
    let device = device_toml::from_document(base)?.value;
    add_stacks(&mut file, &device, &fitted.sets)?;
    replace_links(&mut file, fitted, heading)?;
    let text = toml::to_string(&file).map_err(|error| refuse(error.to_string()))?;
    Ok(format!(
        "# {}: fitted to measurements by `moe-gps calibrate` on {}.\n# Laws and symbols: crates/core/src/cost, crates/core/src/comm of moe-gps.\n{text}",
        heading.name, heading.date
    ))
}

/// The section of a catalog file that holds a law's sets.
const fn section_of(family: Family) -> &'static str {
    match family {
        Family::Norm | Family::Activation | Family::Copy => "rows",
        Family::LatentPrefill => "prefill",
        Family::LatentDecode => "decode",
        Family::LatentPrefillBlock | Family::LatentDecodeBlock => "block",
        other => other.name(),
    }
}

/// A name for a set: its software, the law where a section holds several, and the number format.
fn set_name(set: &Set) -> String {
    let mut name = slug(&set.software.label());
    if section_of(set.family) != set.family.name() {
        name = format!("{name}-{}", set.family.name());
    }
    if set.operands != Operands::BF16 {
        name = format!("{name}-{}", slug(&set.operands.name()));
    }
    name
}

/// Whether a stack names a set by its number format, not as its 16-bit one.
fn is_of_a_format(set: &Set) -> bool {
    let latent = section_of(set.family) != set.family.name() && section_of(set.family) != "rows";
    latent || set.operands != Operands::BF16
}

/// A name in small letters, digits and hyphens.
fn slug(name: &str) -> String {
    let parts = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

fn section(set: &Set, heading: &Heading) -> Table {
    let mut section = provenance(&set.software, &set.evidence, heading);
    section.insert("constants".to_owned(), Toml::Table(constants(set)));
    section
}

/// What a set of constants rests on.
fn provenance(software: &Software, evidence: &Evidence, heading: &Heading) -> Table {
    let or_none = |text: &str| if text.is_empty() { "none" } else { text }.to_owned();
    let mut section = Table::new();
    section.insert("framework".to_owned(), software.framework.clone().into());
    section.insert("version".to_owned(), or_none(&software.version).into());
    section.insert("kernel".to_owned(), or_none(&software.kernel).into());
    section.insert("source".to_owned(), heading.source.clone().into());
    section.insert("date".to_owned(), heading.date.clone().into());
    section.insert(
        "rows".to_owned(),
        Toml::Integer(evidence.rows.len().try_into().unwrap_or(i64::MAX)),
    );
    section.insert("mean_error".to_owned(), rounded(evidence.errors.mean));
    if let Some(held_out) = evidence.held_out {
        section.insert("held_out_error".to_owned(), rounded(held_out.mean));
    }
    section.insert("band".to_owned(), rounded(evidence.band()));
    section.insert("basis".to_owned(), "fitted".into());
    section
}

/// The constants of a set: what is not finite is absent, as what has no kernel of its own.
fn constants(set: &Set) -> Table {
    let parameters = set.family.parameters().iter();
    let values = parameters.map(|parameter| (parameter.name, (parameter.get)(&set.stack)));
    let mut constants: Table = values
        .filter(|(_, value)| value.is_finite())
        .map(|(name, value)| (name.to_owned(), Toml::Float(value)))
        .collect();
    if set.family == Family::Experts {
        let experts = &set.stack.experts.constants;
        let rows = experts.block_rows.map(Toml::Float).to_vec();
        constants.insert("block_rows".to_owned(), Toml::Array(rows));
        constants.insert("walks_all_pairs".to_owned(), experts.walks_all_pairs.into());
    }
    constants
}

/// One stack for every framework and version: its own sets, else those of the stack of
/// the base that the same engine uses.
fn add_stacks(file: &mut Table, device: &Device, sets: &[Set]) -> Result<(), CatalogFileError> {
    let Some(Toml::Array(stacks)) = file.get_mut("stack") else {
        return Err(refuse("there is no [[stack]] to start from".to_owned()));
    };
    let mut names: Vec<(&str, &str)> =
        sets.iter().map(|set| (&*set.software.framework, &*set.software.version)).collect();
    names.sort_unstable();
    names.dedup();
    let mut added = Vec::new();
    for (framework, version) in names {
        let engine = engines::by_framework(framework).unwrap_or(&unnamed::ENGINE);
        let used = device.default_stack(engine).map(|stack| stack.name.clone());
        let Some(like) = stacks.iter().find(|stack| name_of(stack) == used) else { continue };
        let mut stack = like
            .as_table()
            .cloned()
            .ok_or_else(|| refuse("a [[stack]] is not a table".to_owned()))?;
        let label = Software {
            framework: framework.to_owned(),
            version: version.to_owned(),
            kernel: String::new(),
        };
        stack.insert("name".to_owned(), slug(&label.label()).into());
        stack.remove("engines");
        // The engine finds the stack by the kernel it prefers, whatever was measured.
        let kernels = engine.moe_kernels.iter().take(1).map(|kernel| (*kernel).into());
        stack.insert("kernels".to_owned(), Toml::Array(kernels.collect()));
        let mut own: Vec<&Set> = sets
            .iter()
            .filter(|set| set.software.framework == framework && set.software.version == version)
            .collect();
        // Of several kernels for one operator the one with the most rows counts.
        own.sort_by_key(|set| set.evidence.rows.len());
        let main = own.clone();
        for set in &main {
            name_set(&mut stack, set);
        }
        // Every other kernel in a stack of its own, so that it can be asked for by its name.
        let mut others: BTreeMap<&str, Table> = BTreeMap::new();
        for set in own {
            let key = (set.family, set.operands);
            if main
                .iter()
                .rfind(|set| (set.family, set.operands) == key)
                .is_some_and(|last| last.software != set.software)
            {
                let of_kernel = others.entry(&set.software.kernel).or_insert_with(|| {
                    let mut of_kernel = stack.clone();
                    of_kernel.insert("name".to_owned(), slug(&set.software.label()).into());
                    of_kernel.insert("kernels".to_owned(), Toml::Array(Vec::new()));
                    of_kernel
                });
                name_set(of_kernel, set);
            }
        }
        added.push(Toml::Table(stack));
        added.extend(others.into_values().map(Toml::Table));
    }
    let fresh: Vec<Option<String>> = added.iter().map(name_of).collect();
    stacks.retain(|stack| !fresh.contains(&name_of(stack)));
    added.append(stacks);
    *stacks = added;
    Ok(())
}

/// Lets a stack take a set.
fn name_set(stack: &mut Table, set: &Set) {
    if !is_of_a_format(set) {
        stack.insert(set.family.name().to_owned(), set_name(set).into());
        return;
    }
    let formats = stack.entry("formats").or_insert_with(|| Toml::Table(Table::new()));
    let of_law = formats.as_table_mut().map(|formats| {
        formats.entry(set.family.name()).or_insert_with(|| Toml::Table(Table::new()))
    });
    if let Some(Toml::Table(of_law)) = of_law {
        of_law.insert(set.operands.name(), set_name(set).into());
    }
}

fn name_of(stack: &Toml) -> Option<String> {
    stack.get("name").and_then(Toml::as_str).map(str::to_owned)
}

/// A share with three decimals, never 0, which a band must not be.
fn rounded(share: f64) -> Toml {
    Toml::Float(((share * 1000.0).round() / 1000.0).max(0.001))
}
