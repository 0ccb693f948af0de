//! The committed reproduction of the paper's figures is what is computed.

use std::path::Path;

use moe_gps::cli::reproduce::{documents, recordings};
use moe_gps_lab::reproduce::Document;

fn computed() -> Vec<Document> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    documents(&recordings(&root.join("examples/traces")).unwrap()).unwrap()
}

#[test]
fn the_committed_page_and_pictures_are_what_is_computed() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let computed = computed();
    assert_eq!(computed.len(), 3 * 9 + 2);
    let is_table = |path: &str| Path::new(path).extension() == Some("csv".as_ref());
    let committed = computed.iter().filter(|document| !is_table(&document.path));
    let stale: Vec<&str> = committed
        .filter(|document| {
            let found = std::fs::read_to_string(docs.join(&document.path)).unwrap_or_default();
            found != document.text
        })
        .map(|document| document.path.as_str())
        .collect();
    assert!(
        stale.is_empty(),
        "not as computed: {stale:?}; run `cargo run --release -- reproduce --out docs --traces \
         examples/traces` and look at what changed"
    );
    // The headline of the paper, from its formulas.
    let page = computed.iter().find(|document| document.path == "reproduction.md").unwrap();
    assert!(page.text.contains("23.7 % faster than `none` and is 23.4 % ahead"), "{}", page.text);
}
