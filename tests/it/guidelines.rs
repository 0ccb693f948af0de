//! The committed guidelines are what is computed.

use std::path::Path;

use moe_gps::cli::guidelines::{Guidelines, documents};

#[test]
fn the_committed_guidelines_are_what_is_computed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = root.join("../shared/data/routing");
    let is_whole = shared.is_dir();
    let command = Guidelines {
        out: root.join("docs"),
        traces: root.join("examples/traces"),
        recordings: Some(shared),
    };
    for document in documents(&command).unwrap() {
        let found = std::fs::read_to_string(command.out.join(&document.path)).unwrap_or_default();
        let as_computed = if is_whole || document.path != "beyond-the-paper.md" {
            found == document.text
        } else {
            // Rows stand for themselves; what is said over all recordings needs all.
            println!("skipped: what recordings in ../shared say in {}", document.path);
            let rows =
                document.text.lines().filter(|line| line.contains("_like") && line.contains('→'));
            let cells = document.text.split("## At the cells of the guidelines").nth(1);
            let cells = cells.and_then(|cells| cells.split("\n## Replicas by layer").next());
            rows.filter(|row| row.starts_with("| ")).all(|row| found.contains(row))
                && found.contains(cells.unwrap())
        };
        assert!(
            as_computed,
            "{} is not as computed; run `just guidelines` and look at what changed",
            document.path
        );
    }
}
