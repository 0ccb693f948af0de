//! Fitted predictors against the accuracies published with our recordings.

use std::fs::File;
use std::path::{Path, PathBuf};

use moe_gps::app::ingest::{TraceDirectory, Upload};
use moe_gps_core::formats::trace::embedding::read_rows;
use moe_gps_core::formats::trace::{Declared, Limits};
use moe_gps_core::predict::score::Accuracy;
use moe_gps_core::predict::{Embedding, Tokens, Unwatched, fit};
use moe_gps_core::question::PredictorKind::{self, ByPosition, ByToken, Ffn, Lstm, MostFrequent};

/// Recordings that are not part of the project.
const BESIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/routing/tiny-moe");

fn tokens(file: &Path) -> Tokens {
    let dir = tempfile::tempdir().unwrap();
    let traces = TraceDirectory::open(dir.path()).unwrap();
    let upload = Upload {
        content_type: "application/x-npz".to_owned(),
        content_encoding: None,
        name: None,
        model: None,
        declared: Declared::default(),
    };
    let kept = traces.ingest(File::open(file).unwrap(), &upload, &Limits::default()).unwrap();
    let trace = traces.open_trace(&kept.summary.id).unwrap();
    trace.read_tokens(&trace.sample_runs(0..u64::MAX, u64::MAX).unwrap()).unwrap()
}

/// Training and test part of a recording, if it is there.
fn parts(folder: &Path, name: &str) -> Option<[Tokens; 2]> {
    let files = ["train", "test"].map(|part| folder.join(format!("{name}.{part}.npz")));
    if files.iter().all(|file| file.exists()) {
        Some(files.map(|file| tokens(&file)))
    } else {
        println!("skipped: no recording {name} in {}", folder.display());
        None
    }
}

fn accuracy(
    kind: PredictorKind,
    [planning, held_out]: &[Tokens; 2],
    table: Option<&Embedding>,
) -> f64 {
    let fitted = fit(kind, planning, table, 0, &Unwatched).unwrap();
    let predicted = fitted.predict(held_out, &Unwatched).unwrap();
    let accuracy = Accuracy::of(&predicted, held_out);
    assert_eq!(accuracy.per_layer.len(), held_out.n_layers());
    accuracy.mean
}

fn counted(parts: &[Tokens; 2], name: &str, references: [f64; 3]) {
    for (kind, reference) in [MostFrequent, ByToken, ByPosition].into_iter().zip(references) {
        let found = accuracy(kind, parts, None);
        println!("{name} {kind:?}: {found:.4}, reference {reference}");
        assert!((found - reference).abs() <= 0.002, "{name} {kind:?}: {found} for {reference}");
    }
}

#[test]
fn counting_predictors_on_the_bundled_recording() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/traces");
    let parts = parts(&folder, "mixtral_like_e8k2.python").unwrap();
    counted(&parts, "mixtral-like, python", [0.431, 0.707, 0.429]);
}

#[test]
fn counting_predictors_on_our_other_recordings() {
    for (model, domain, references) in [
        ("mixtral_like_e8k2", "man_en", [0.418, 0.707, 0.411]),
        ("mixtral_like_e8k2", "prose_en", [0.437, 0.710, 0.432]),
        ("mixtral_like_e8k2", "man_de", [0.521, 0.757, 0.515]),
        ("switch_like_e16k1", "python", [0.143, 0.498, 0.140]),
        ("deepseek_like_e64k6", "python", [0.251, 0.531, 0.238]),
    ] {
        let Some(parts) = parts(&Path::new(BESIDE).join(model), domain) else { return };
        counted(&parts, &format!("{model}, {domain}"), references);
    }
}

/// The rows of a table that two parts need.
fn table(folder: &Path, parts: &[Tokens; 2]) -> Option<Embedding> {
    let path: PathBuf = folder.join("embedding.npy");
    let Ok(file) = File::open(&path) else {
        println!("skipped: no {}", path.display());
        return None;
    };
    let mut ids: Vec<u32> = parts.iter().flat_map(|part| part.token_ids.iter().copied()).collect();
    ids.sort_unstable();
    ids.dedup();
    Some(read_rows(&file, ids).unwrap())
}

fn learned(kind: PredictorKind, model: &str, domain: &str, reference: f64) {
    let folder = Path::new(BESIDE).join(model);
    let Some(parts) = parts(&folder, domain) else { return };
    let Some(table) = table(&folder, &parts) else { return };
    let found = accuracy(kind, &parts, Some(&table));
    println!("{model}, {domain} {kind:?}: {found:.4}, reference {reference}");
    assert!(found >= reference - 0.015, "{model}, {domain} {kind:?}: {found} for {reference}");
}

#[test]
fn a_feed_forward_predictor_reaches_its_reference() {
    learned(Ffn, "mixtral_like_e8k2", "python", 0.723);
}

/// Takes minutes without optimisation; `cargo test --release --test it -- --ignored learned`.
#[test]
#[ignore = "minutes of training"]
fn learned_predictors_reach_their_references() {
    for (model, domain, ffn, lstm) in [
        ("mixtral_like_e8k2", "python", 0.723, 0.768),
        ("mixtral_like_e8k2", "man_en", 0.718, 0.776),
        ("mixtral_like_e8k2", "prose_en", 0.724, 0.765),
        ("mixtral_like_e8k2", "man_de", 0.761, 0.783),
        ("switch_like_e16k1", "python", 0.520, 0.586),
    ] {
        learned(Ffn, model, domain, ffn);
        learned(Lstm, model, domain, lstm);
    }
}
