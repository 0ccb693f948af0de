//! What the documents say must be what the code has: folders, settings, metrics, problems, and
//! the parts that are computed.

mod answers;
mod links;
mod picture;
mod question;
mod support_matrix;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// What stands between `before` and the next `after`, every time.
fn between<'a>(text: &'a str, before: &'a str, after: char) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(move |rest| rest.split(after).next())
}

/// Compares the part of a document between `<!-- NAME: begin -->` and `<!-- NAME: end -->` with
/// what is computed; with `MOE_GPS_REFRESH=1` it is written anew instead.
#[track_caller]
fn assert_part(path: &str, name: &str, computed: &str, same: fn(&str, &str) -> bool) {
    // One document has parts of several tests.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _writing = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let document = text(path);
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let (before, rest) = document.split_once(&begin).unwrap();
    let (shown, after) = rest.split_once(&end).unwrap();
    if std::env::var_os("MOE_GPS_REFRESH").is_some() {
        let document = [before, &begin, computed, &end, after].concat();
        std::fs::write(root().join(path), document).unwrap();
    } else {
        assert!(
            same(shown, computed),
            "{name} of {path} is not as computed; {REFRESH}\n{computed}"
        );
    }
}

/// How the computed parts are written anew.
const REFRESH: &str =
    "run `MOE_GPS_REFRESH=1 cargo test --test it documents` and look at the difference";

/// Fails with all of `names` that `document` does not show in a code span.
fn assert_shown<'a>(document: &str, names: impl IntoIterator<Item = &'a str>) {
    let shown = text(document);
    let names: BTreeSet<&str> = names.into_iter().collect();
    assert!(!names.is_empty(), "nothing to look for in {document}");
    let absent: Vec<&&str> =
        names.iter().filter(|name| !shown.contains(&format!("`{name}`"))).collect();
    assert!(absent.is_empty(), "{document} does not mention {absent:?}");
}

#[test]
fn every_setting_is_in_the_manual() {
    let config = text("src/config.rs");
    assert_shown("docs/operating.md", between(&config, "env = \"", '"'));
}

#[test]
fn every_metric_is_in_the_manual() {
    let metrics = text("src/telemetry/metrics.rs");
    let declared: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("pub const")).collect();
    let names = declared.iter().filter_map(|line| between(line, "\"", '"').next());
    assert_shown("docs/operating.md", names);
}

#[test]
fn every_problem_is_in_the_table() {
    let code = text("src/http/problem.rs") + &text("src/jobs/outcome.rs");
    let made = between(&code, "::new(", ',')
        .filter_map(|first| first.trim().strip_prefix('"')?.strip_suffix('"'))
        .filter(|slug| !slug.is_empty());
    let named = between(&code, "urn:moe-gps:problem:", '"');
    assert_shown("docs/api.md", made.chain(named));
}

/// The Rust files under `path`, or `path` itself.
fn files(path: PathBuf) -> Vec<PathBuf> {
    if path.is_dir() {
        let entries = std::fs::read_dir(&path).unwrap();
        entries.flat_map(|entry| files(entry.unwrap().path())).collect()
    } else {
        vec![path]
    }
}

/// Which room may name which, as the architecture says: `room -> other, other`.
fn allowed(architecture: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let section = architecture.split("## Crates and rooms").nth(1).unwrap();
    let list = section.split("```").nth(1).unwrap();
    list.lines()
        .filter_map(|line| line.split_once("->"))
        .map(|(room, others)| {
            let others = others.split(',').map(str::trim).filter(|other| *other != "nothing");
            (room.trim(), others.chain([room.trim()]).collect())
        })
        .collect()
}

#[test]
fn rooms_name_only_what_the_architecture_allows() {
    let architecture = text("ARCHITECTURE.md");
    let allowed = allowed(&architecture);
    let lib = text("src/lib.rs");
    let rooms: BTreeSet<&str> = between(&lib, "pub mod ", ';').collect();
    assert_eq!(rooms, allowed.keys().copied().collect(), "the rooms of src/lib.rs");
    let mut broken = Vec::new();
    for room in rooms {
        let folder = root().join("src").join(room);
        let start = if folder.is_dir() { folder } else { folder.with_extension("rs") };
        for file in files(start) {
            let code = std::fs::read_to_string(&file).unwrap();
            let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
            let rooms = code.split("crate::").skip(1);
            let crates = code.split("moe_gps_").skip(1);
            let crates =
                crates.filter(|rest| ["core", "lab"].iter().any(|name| rest.starts_with(name)));
            for named in rooms.chain(crates) {
                let named = named.split(|c| !is_word(c)).next().unwrap();
                if !named.is_empty() && !allowed[room].contains(named) {
                    broken.push(format!("{} names {named}", file.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
