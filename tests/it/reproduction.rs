//! The committed reproduction of the paper's figures is what is computed.

use std::fs;
use std::path::{Path, PathBuf};

use moe_gps::cli::reproduce::{Reproduce, documents};
use moe_gps_lab::reproduce::Document;
use serde_json::json;

fn command() -> Reproduce {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Reproduce {
        out: root.join("docs"),
        traces: Some(root.join("examples/traces")),
        points: Some(root.join("examples/predictors.json")),
        layer: None,
        counts: Vec::new(),
    }
}

fn computed(command: &Reproduce) -> Vec<Document> {
    documents(&command.added().unwrap()).unwrap()
}

fn page(documents: &[Document]) -> &str {
    &documents.iter().find(|document| document.path == "reproduction.md").unwrap().text
}

/// A section of a page by its heading.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let after = page.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    after.split("\n## ").next().unwrap()
}

#[test]
fn the_committed_page_and_pictures_are_what_is_computed() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let computed = computed(&command());
    assert_eq!(computed.len(), 3 * 9 + 5);
    let is_table = |path: &str| Path::new(path).extension() == Some("csv".as_ref());
    let committed = computed.iter().filter(|document| !is_table(&document.path));
    let stale: Vec<&str> = committed
        .filter(|document| {
            let found = fs::read_to_string(docs.join(&document.path)).unwrap_or_default();
            found != document.text
        })
        .map(|document| document.path.as_str())
        .collect();
    assert!(
        stale.is_empty(),
        "not as computed: {stale:?}; run `just reproduction` and look at what changed"
    );
    // The headline of the paper, from its formulas.
    let page = page(&computed);
    assert!(page.contains("23.7 % faster than `none` and is 23.4 % ahead"), "{page}");
}

#[test]
fn own_predictors_layers_and_counts_are_set_beside_the_figures() {
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, content: &serde_json::Value| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, content.to_string()).unwrap();
        path
    };
    let point = |predictor: &str, metric: &str, accuracy: f64, overhead_s: f64| {
        json!({
            "data_set": "mine", "skewness": 1.39, "distribution_error": 0.018,
            "predictor": predictor, "metric": metric, "accuracy": accuracy, "overhead_s": overhead_s,
        })
    };
    // On e^(4·accuracy): 20 µs at 0.5, 20·e at 0.75, 20·e^2 at 1.
    let e = std::f64::consts::E;
    let points = json!([
        point("small", "per_choice", 0.5, 20e-6),
        point("exact", "exact_set", 0.5625, 20e-6 * e),
        point("all", "top1", 1.0, 20e-6 * e * e),
    ]);
    let shares = |hot: u32| vec![vec![hot, 10, 10, 10, 10, 10, 10, 10]; 32];
    let asked = Reproduce {
        traces: None,
        points: Some(written("points.json", &points)),
        layer: Some(written(
            "layer.json",
            &json!({
                "attention_s": 1e-3, "all_reduce_s": 1e-4, "expert_ffn_balanced_s": 2e-3,
            }),
        )),
        counts: vec![written(
            "counts.json",
            &json!({"counts": {"a": shares(20), "b": shares(30)}}),
        )],
        ..command()
    };
    let computed = computed(&asked);
    let page = page(&computed);
    let found = section(page, "Predictors that were fitted");
    // Of two experts a token an exact set of 0.5625 is 0.75 a choice.
    assert!(found.contains("| `exact` | 0.562 | exact_set | 0.750 | 54.4 |"), "{found}");
    // 20 µs · e^−2 at accuracy 0, and e^4 from 0 to 1.
    assert!(found.contains("| mine | 2.7067 | 4.00 |"), "{found}");
    assert!(computed.iter().any(|document| document.path.ends_with("mixtral-points.svg")));
    // By the formulas: none − distribution_only = (1.39 − 1.018) · 2 ms of
    // 1 + 0.1 + 2 · 0.0125638016 + 1.39 · 2 ms.
    let [none, duplicated] = [3905.1, 3161.1];
    let row =
        section(page, "Mixtral 8x7B").lines().find(|row| row.contains("MMLU, NVLink 3 | paper"));
    assert!(row.unwrap().contains(&format!("| {none} | – | {duplicated} |")), "{row:?}");
    // Eight experts of 10 but for one: 8 · 20/90 and 8 · 30/100, each forecast by the other:
    // 8 · mean |p̂ − p| = (0.3 − 2/9) + 7 · (1/9 − 0.1).
    let found = section(page, "Recorded counts");
    assert!(found.contains("| `counts.json: a` | 1.78 | 0.1556 |"), "{found}");
    assert!(found.contains("| `counts.json: b` | 2.40 | 0.1556 |"), "{found}");

    let refused = Reproduce {
        points: Some(written("bad.json", &json!([point("p", "per_choice", 1.5, 1e-5)]))),
        ..asked
    };
    let mut out = Vec::new();
    let error = moe_gps::cli::reproduce::run(&refused, &mut out).unwrap_err().to_string();
    assert!(error.contains("1.5 is out of range"), "{error}");
}

#[test]
fn recorded_counts_of_mixtral_are_as_skewed_as_the_paper_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let counts =
        root.join("../shared/data/routing/public/counts_mixtral-8x7b_vismoe_mmlu_57_subjects.json");
    if !counts.is_file() {
        println!("skipped: {} is not there", counts.display());
        return;
    }
    let asked = Reproduce { traces: None, points: None, counts: vec![counts], ..command() };
    let computed = computed(&asked);
    let rows =
        section(page(&computed), "Recorded counts").lines().filter(|row| row.contains("json: "));
    let skewness: Vec<f64> =
        rows.map(|row| row.split('|').nth(2).unwrap().trim().parse().unwrap()).collect();
    assert_eq!(skewness.len(), 57);
    // The paper says 1.39 of MMLU; of single subjects it is 1.41 in the mean, 1.18 to 1.63.
    let mean = skewness.iter().sum::<f64>() / 57.0;
    assert!((mean - 1.41).abs() < 0.01, "{mean}");
    assert!(skewness.iter().all(|one| (1.17..=1.64).contains(one)), "{skewness:?}");
}
