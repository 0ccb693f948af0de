//! Every engine of the list stands in what is written about engines.

use std::path::Path;

use moe_gps_core::engines::{Engine, LIST};
use moe_gps_core::formats::placement::FORMATS;
use moe_gps_core::question::RebalanceMode;
use serde_json::{Value, json};

fn text(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The row of an engine in `docs/engines.md`.
fn row(engine: &Engine) -> String {
    let renews = match engine.rebalance.mode {
        RebalanceMode::StartupMap => "at start only".to_owned(),
        RebalanceMode::Sync => format!("every {} steps, blocking", engine.rebalance.interval_steps),
        RebalanceMode::Async => format!("every {} steps, beside", engine.rebalance.interval_steps),
    };
    let loads = engine.plan_format.map_or("no file".to_owned(), |format| format!("`{format}`"));
    let backends: Vec<_> = engine.backends.iter().map(|(name, _)| format!("`{name}`")).collect();
    let cells = [
        format!("{} (`{}`)", engine.name, engine.id),
        loads,
        engine.replaces.to_owned(),
        engine.duplicates.to_owned(),
        renews,
        format!("`{}`", engine.moe_kernels[0]),
        backends.join(", "),
    ];
    format!("| {} |", cells.join(" | "))
}

#[test]
fn the_table_of_engines_is_the_list() {
    let document = text("docs/engines.md");
    let table = document.lines().skip_while(|line| !line.starts_with("| engine |"));
    let shown: Vec<&str> = table.skip(2).take_while(|line| line.starts_with('|')).collect();
    let rows: Vec<String> = LIST.iter().map(|engine| row(engine)).collect();
    assert!(shown == rows, "put these rows into docs/engines.md:\n{}", rows.join("\n"));
}

#[test]
fn the_readme_names_every_engine() {
    let readme = text("README.md");
    let absent = |engine: &&&Engine| !readme.contains(engine.id) && !readme.contains(engine.name);
    let absent: Vec<_> = LIST.iter().filter(absent).collect();
    assert!(absent.is_empty(), "README.md does not name {absent:?}");
}

#[test]
fn the_description_of_the_api_lists_engines_and_the_formats_they_load() {
    let description: Value = serde_json::from_str(&text("openapi/moe-gps.v1.json")).unwrap();
    let ids: Vec<&str> = LIST.iter().map(|engine| engine.id).collect();
    let listed = &description["components"]["schemas"]["Engine"]["properties"]["name"]["enum"];
    assert_eq!(*listed, json!(ids));

    let parameters = "/paths/~1v1~1recommendations~1{id}~1placement/get/parameters";
    let parameters = description.pointer(parameters).unwrap().as_array().unwrap();
    let format = parameters.iter().find(|parameter| parameter["name"] == "format").unwrap();
    assert_eq!(format["schema"]["enum"], json!(FORMATS.map(|format| format.id)));
    let table = text("docs/api.md");
    for format in FORMATS {
        assert!(table.contains(&format!("| `{}` |", format.id)), "docs/api.md: {}", format.id);
    }
}
