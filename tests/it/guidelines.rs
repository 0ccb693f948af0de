//! The committed guidelines are what is computed.

use std::path::Path;

use moe_gps::cli::guidelines::documents;

#[test]
fn the_committed_guidelines_are_what_is_computed() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for document in documents().unwrap() {
        let found = std::fs::read_to_string(docs.join(&document.path)).unwrap_or_default();
        assert!(
            found == document.text,
            "{} is not as computed; run `cargo run --release -- guidelines --out docs` and look at \
             what changed",
            document.path
        );
    }
}
