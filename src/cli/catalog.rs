//! `catalog list`, `catalog show ID` and `catalog check`, as tables.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indexmap::IndexSet;
use serde_json::{Map, Value, json};

use crate::app::catalog::{
    device_body, link_body, list_devices, list_links, list_models, model_as_read, model_body,
};
use crate::app::question::as_read;
use crate::cli::answer_table::{WIDTH, indented, wrapped};
use crate::cli::paint::{BOLD, paint};
use crate::wire::catalog::{DeviceBody, LinkBody, ModelBody};
use crate::wire::loose::{self, Loose};
use moe_gps_core::catalog::check::check;
use moe_gps_core::catalog::{Catalog, UnknownId, names};
use moe_gps_core::engines::kernels;
use moe_gps_core::hardware::Device;
use moe_gps_core::system::{Dtype, Quantization};
use moe_gps_lab::calibrate::run::check_file;

/// Why an entry could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// Nothing has this id.
    #[error(transparent)]
    Unknown(#[from] UnknownId),
    /// The output could not be written.
    #[error("the output could not be written")]
    Output(#[from] io::Error),
}

/// Prints every entry as the service lists it, as one JSON document.
pub fn list_json(out: &mut dyn Write, catalog: &Catalog) -> io::Result<()> {
    let listed = json!({
        "models": list_models(catalog).items,
        "devices": list_devices(catalog).items,
        "links": list_links(catalog).items,
        "digest": catalog.digest().to_string(),
    });
    writeln!(out, "{listed:#}")
}

/// Prints every entry, kind by kind.
pub fn list(out: &mut dyn Write, catalog: &Catalog) -> io::Result<()> {
    let header = ["model", "parameters", "active", "MoE\nlayers", "experts", "top-k"];
    let mut models = table(&header);
    for ModelBody { id, parameters, moe_layers, experts, .. } in list_models(catalog).items {
        models.add_row([
            id,
            billions(parameters.computed),
            billions(parameters.active_per_token),
            moe_layers.to_string(),
            experts.routed.to_string(),
            experts.top_k.to_string(),
        ]);
    }
    align_right(&mut models, 1..6);
    writeln!(out, "{models}\n")?;
    let mut devices = table(&["device", "name", "memory\nGB", "GB/s", "bf16\nTFLOP/s"]);
    let mut stacks_of = Vec::new();
    for DeviceBody {
        id, name, memory_bytes, bandwidth_bytes_per_s, peak_flop_per_s, stacks, ..
    } in list_devices(catalog).items
    {
        let stacks = stacks.iter().filter_map(|stack| stack["name"].as_str()).collect::<Vec<_>>();
        stacks_of.push(format!("{id}: {}", stacks.join(", ")));
        devices.add_row([
            id,
            name,
            format!("{:.0}", memory_bytes / 1e9),
            format!("{:.0}", bandwidth_bytes_per_s / 1e9),
            format!("{:.0}", peak_flop_per_s.bf16 / 1e12),
        ]);
    }
    align_right(&mut devices, 2..5);
    writeln!(out, "{devices}\nStacks of kernels:")?;
    for stacks in stacks_of {
        writeln!(out, "{}", wrapped(&stacks))?;
    }
    writeln!(out)?;
    let mut links = table(&["link", "name", "GB/s per\ndirection", "latency\nµs"]);
    for LinkBody { id, name, bandwidth_bytes_per_s, latency_s, .. } in list_links(catalog).items {
        let bandwidth = format!("{:.0}", bandwidth_bytes_per_s / 1e9);
        links.add_row([id, name, bandwidth, format!("{:.2}", latency_s * 1e6)]);
    }
    align_right(&mut links, 2..4);
    writeln!(out, "{links}\n\ncatalog digest {}", catalog.digest())
}

/// An entry of whatever kind, as the service shows it.
fn body_of(catalog: &Catalog, id: &str) -> Result<Value, ShowError> {
    let body = if let Ok(model) = catalog.model(id) {
        serde_json::to_value(model_body(model))
    } else if let Ok(device) = catalog.device(id) {
        serde_json::to_value(device_body(catalog, device))
    } else if let Ok(link) = catalog.link(id) {
        serde_json::to_value(link_body(link))
    } else {
        return Err(unknown(catalog, id).into());
    };
    Ok(body.map_err(io::Error::from)?)
}

/// Prints one entry as JSON.
pub fn show_json(out: &mut dyn Write, catalog: &Catalog, id: &str) -> Result<(), ShowError> {
    Ok(writeln!(out, "{:#}", body_of(catalog, id)?)?)
}

/// Prints one entry of whatever kind: every number with its source.
pub fn show(out: &mut dyn Write, catalog: &Catalog, id: &str) -> Result<(), ShowError> {
    let body = body_of(catalog, id)?;
    write_fields(out, &body, &body["sources"])?;
    if let Ok(device) = catalog.device(id) {
        kernels_of(out, &device.value)?;
    }
    Ok(())
}

/// Prints what `engine.moe_kernel` of a question may be on a device.
fn kernels_of(out: &mut dyn Write, device: &Device) -> io::Result<()> {
    let list = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(", ");
    writeln!(out, "\nA question's `engine.moe_kernel` picks the stack:")?;
    for stack in device.stacks.iter() {
        let (kernels, words) = (kernels::kernels_of(stack), kernels::words_of(stack));
        writeln!(out, "{}", wrapped(&format!("{}: {}", stack.name, list(kernels.collect()))))?;
        let words = list(words.collect());
        if !words.is_empty() {
            writeln!(out, "{}", indented(&format!("engines' words for them: {words}")))?;
        }
    }
    Ok(())
}

/// Prints what is wrong with device files and with configurations of models, and what was read of
/// the latter; says whether all is well.
pub fn check_files(out: &mut dyn Write, files: &[PathBuf]) -> anyhow::Result<bool> {
    let mut sound = true;
    for file in files {
        if let Some(config) = configuration(file) {
            sound &= check_configuration(out, file, &config)?;
            continue;
        }
        let (entry, problems) = check_file(file)?;
        let stacks: Vec<&str> = entry.value.stacks.iter().map(|s| s.name.as_str()).collect();
        writeln!(out, "{}: device {}, stacks {}", file.display(), entry.id, stacks.join(", "))?;
        for problem in &problems {
            writeln!(out, "  {problem}")?;
        }
        sound &= problems.is_empty();
    }
    Ok(sound)
}

/// A model's configuration: JSON that is no device profile.
fn configuration(file: &Path) -> Option<Map<String, Value>> {
    let text = std::fs::read(file).ok()?;
    match loose::parse(&text, Loose::Everywhere).ok()? {
        Value::Object(fields) if !fields.contains_key("memory_bytes") => Some(fields),
        _ => None,
    }
}

/// Prints a model as it is read, with what is guessed and not priced, or what is wrong with it.
fn check_configuration(
    out: &mut dyn Write,
    file: &Path,
    config: &Map<String, Value>,
) -> anyhow::Result<bool> {
    let (model, facts, ignored) = match as_read(config) {
        Ok(read) => read,
        Err(problems) => {
            writeln!(out, "{}: no model that can be read", file.display())?;
            for problem in problems {
                writeln!(out, "  {problem}")?;
            }
            return Ok(false);
        }
    };
    let name = model.name.clone();
    writeln!(out, "{}: model {name}", file.display())?;
    let bf16 = Quantization { experts: Dtype::Bf16, rest: Dtype::Bf16 };
    let formats = facts.quantization.unwrap_or(bf16);
    let body = serde_json::to_value(model_as_read(&model, &facts, formats, None))?;
    write_fields(out, &body, &Value::Null)?;
    for said in facts.warnings() {
        writeln!(out, "  {said}")?;
    }
    if !ignored.is_empty() {
        writeln!(out, "  fields that nothing depends on: {}", ignored.join(", "))?;
    }
    Ok(true)
}

/// Prints what is wrong with the catalog, and says whether all is well.
pub fn check_all(out: &mut dyn Write, catalog: &Catalog) -> io::Result<bool> {
    let checks = check(catalog);
    let mut shown = table(&["entry", "computed", "published", "error %", "problems"]);
    for entry in &checks {
        let [computed, published, error] = match entry.parameters {
            Some(counts) => [
                counts.computed.to_string(),
                counts.published.to_string(),
                format!("{:+.4}", counts.error() * 100.0),
            ],
            None => [const { String::new() }; 3],
        };
        let problems =
            if entry.problems.is_empty() { "none".to_owned() } else { entry.problems.join("\n") };
        shown.add_row([entry.id.clone(), computed, published, error, problems]);
    }
    align_right(&mut shown, 1..4);
    let wrong = checks.iter().filter(|entry| !entry.problems.is_empty()).count();
    writeln!(out, "{shown}\n\n{} entries, {wrong} with problems", checks.len())?;
    Ok(wrong == 0)
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    // Long names go on in the line below.
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table
}

fn align_right(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn billions(parameters: u64) -> String {
    format!("{:.2} B", parameters as f64 / 1e9)
}

/// Writes every plain value of a body by its JSON pointer, a section for every field of the body;
/// sources stand below, by number.
fn write_fields(out: &mut dyn Write, body: &Value, sources: &Value) -> io::Result<()> {
    let mut fields = Vec::new();
    flatten(&mut fields, body, sources, "");
    let mut named: IndexSet<&str> = IndexSet::new();
    let mut section = "";
    for (at, value, source) in &fields {
        let (of, at) = at.split_once('/').unwrap_or(("", at));
        if of != section {
            writeln!(out)?;
            if !of.is_empty() {
                writeln!(out, "{}", paint(BOLD, of))?;
            }
            section = of;
        }
        let number = if source.is_empty() {
            String::new()
        } else {
            format!(" [{}]", named.insert_full(source).0 + 1)
        };
        let width = usize::from(WIDTH).saturating_sub(at.chars().count() + number.len() + 1);
        if value.chars().count() > width {
            writeln!(out, "{at}\n{}", indented(&format!("{value}{number}")))?;
        } else {
            writeln!(out, "{at} {value:>width$}{number}")?;
        }
    }
    for (number, source) in named.iter().enumerate() {
        if number == 0 {
            writeln!(out, "\n{}", paint(BOLD, "sources"))?;
        }
        writeln!(out, "{}", wrapped(&format!("[{}] {source}", number + 1)))?;
    }
    Ok(())
}

/// Pointer, value and source of every plain value.
fn flatten<'a>(
    fields: &mut Vec<(String, String, &'a str)>,
    value: &Value,
    sources: &'a Value,
    at: &str,
) {
    match value {
        Value::Object(inner) => {
            for (name, value) in inner.iter().filter(|(name, _)| *name != "sources") {
                flatten(fields, value, sources, &format!("{at}/{name}"));
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, value) in items.iter().enumerate() {
                flatten(fields, value, sources, &format!("{at}/{index}"));
            }
        }
        Value::Null => {}
        plain => {
            let text = plain.as_str().map_or_else(|| plain.to_string(), str::to_owned);
            let first = format!("{at}/0");
            let source = sources[at].as_str().or(sources[&*first].as_str()).unwrap_or("");
            fields.push((at.trim_start_matches('/').to_owned(), text, source));
        }
    }
}

/// The error for an id that nothing has, whatever the kind.
fn unknown(catalog: &Catalog, id: &str) -> UnknownId {
    let ids = catalog.ids().concat();
    let hint = names::hint(id, &ids, "`catalog list` shows all ids");
    UnknownId { kind: "catalog entry", id: id.chars().take(80).collect(), hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(print: impl FnOnce(&mut Vec<u8>, &Catalog)) -> String {
        let mut out = Vec::new();
        print(&mut out, Catalog::embedded());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_list_has_every_kind() {
        let text = printed(|out, catalog| list(out, catalog).unwrap());
        assert!(text.contains("mixtral-8x7b") && text.contains("46.70 B"));
        assert!(text.contains("h200-sxm") && text.contains("tensorrt-llm"));
        assert!(text.contains("nvlink3") && text.contains("8.92"));
    }

    #[test]
    fn an_entry_is_shown_with_sources() {
        let text = printed(|out, catalog| show(out, catalog, "gpt-oss-20b").unwrap());
        assert!(
            text.contains("\nparameters\n")
                && text.contains("\ncomputed ")
                && text.contains("20914757184")
        );
        assert!(text.contains("model card"));
        let text = printed(|out, catalog| show(out, catalog, "h200-sxm").unwrap());
        assert!(text.contains("\npeak_flop_per_s\nbf16 ") && text.contains("\nconstants\n"));
    }

    #[test]
    fn json_has_what_the_service_lists() {
        let list: Value = serde_json::from_str(&printed(|out, catalog| {
            list_json(out, catalog).unwrap();
        }))
        .unwrap();
        let ids = |kind: &str| {
            let items = list[kind].as_array().unwrap();
            items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert!(ids("models").contains(&"mixtral-8x7b".to_owned()));
        assert!(ids("devices").contains(&"h200-sxm".to_owned()));
        assert!(ids("links").contains(&"nvlink3".to_owned()) && list["digest"].is_string());
        let shown = printed(|out, catalog| show_json(out, catalog, "h200-sxm").unwrap());
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["id"], "h200-sxm");
        assert!(shown["sources"].is_object());
    }

    #[test]
    fn the_check_passes_and_says_so() {
        let mut all_well = false;
        let text = printed(|out, catalog| all_well = check_all(out, catalog).unwrap());
        assert!(all_well, "{text}");
        assert!(text.contains("671026419200") && text.contains("0 with problems"));
    }

    #[test]
    fn an_unknown_entry_is_named_with_its_neighbour() {
        let catalog = Catalog::embedded();
        let error = show(&mut Vec::new(), catalog, "nvlnik3").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no catalog entry has the id \"nvlnik3\"; did you mean \"nvlink3\"?"
        );
    }
}
