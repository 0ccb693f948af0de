//! The bundled example, and real recordings where a folder beside the project has them.

use crate::app::ingest::tests::*;

const BUNDLED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/examples/traces/mixtral_like_e8k2.python.test.npz");

const BUNDLED_SKEWNESS: f64 = 2.036_132_812_5;
const BUNDLED_ERROR: f64 = 0.133_590_698_242;

/// Recordings that may not be part of the project.
fn beside(name: &str) -> Option<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/routing").join(name);
    let found = fs::read(path).ok();
    if found.is_none() {
        println!("skipped: no recording {name} beside the project");
    }
    found
}

#[test]
fn the_bundled_example_is_healthy() {
    let got = Shelf::new().take("x-npz", &fs::read(BUNDLED).unwrap()).unwrap().summary;
    assert_eq!((got.tokens, got.sequences), (Some(16_384), Some(32)));
    assert_eq!((got.layers, got.experts, got.top_k), (8, 8, Some(2)));
    assert!(got.has_token_ids && !got.has_embedding);
    // Counted with NumPy from the same file.
    assert!((got.skewness.mean - BUNDLED_SKEWNESS).abs() < 1e-9, "{}", got.skewness.mean);
    assert!((got.distribution_error.unwrap() - BUNDLED_ERROR).abs() < 1e-9);
    assert_eq!(got.warnings.len(), 1, "{:?}", got.warnings);
    assert!(got.warnings[0].contains("1 + the largest id"));
}

#[test]
fn published_skewness_and_error_of_our_small_models() {
    for (model, skewness, error) in [
        ("mixtral_like_e8k2", 2.04, 0.069),
        ("switch_like_e16k1", 2.45, 0.140),
        ("deepseek_like_e64k6", 3.72, 0.151),
    ] {
        let shelf = Shelf::new();
        let counts = |part: &str| {
            let bytes = beside(&format!("tiny-moe/{model}/python.{part}.npz"))?;
            let id = shelf.take("x-npz", &bytes).unwrap().summary.id;
            Some(shelf.traces.open_trace(&id).unwrap().statistics().unwrap())
        };
        let (Some(train), Some(test)) = (counts("train"), counts("test")) else {
            return;
        };
        let found = mean(test.skewness_per_layer().into_iter()).unwrap();
        let eps = moe_gps_core::trace::stats::mean_distribution_error(&train.total, &test.total);
        println!("{model}: skewness {found:.3}, error {:.4}", eps.unwrap());
        assert!((found - skewness).abs() < 0.02 * skewness, "{model} {found}");
        assert!((eps.unwrap() - error).abs() < 0.0006, "{model} {eps:?}");
    }
}

#[test]
fn real_recordings_are_taken_and_the_broken_one_is_named() {
    for (name, steps, layers, skewness) in [
        ("counts_deepseek-v3_sglang_prefill_in1024", 1, 58, None),
        ("counts_mixtral-8x7b_vismoe_mmlu_57_subjects", 57, 32, Some(1.243)),
        ("counts_olmoe_moelens_domains", 6, 16, None),
        ("counts_gpt-oss-20b_fingerprinting_from_routes", 6, 24, None),
        ("counts_qwen3-30b-a3b-base_hebrew-english", 12, 48, None),
        ("counts_mixtral-8x7b-base_fiddler_mmlu", 7, 32, None),
    ] {
        let Some(bytes) = beside(&format!("public/{name}.json")) else { return };
        let got = Shelf::new().take("json", &bytes).unwrap().summary;
        assert_eq!((got.steps, got.layers), (Some(steps), layers), "{name}");
        if let Some(wanted) = skewness {
            assert!((got.skewness.mean - wanted).abs() < 0.001, "{}", got.skewness.mean);
        }
        assert!(!got.warnings.iter().any(|text| text.contains("recording:")), "{:?}", got.warnings);
    }
    let name = "public/counts_qwen3-30b-a3b_rajworking_NaN_corrupted_all_layers.json";
    let Some(bytes) = beside(name) else { return };
    let got = Shelf::new().take("json", &bytes).unwrap().summary;
    println!("{:?}", got.warnings);
    assert!(got.warnings.iter().any(|text| text.starts_with(
        "broken recording: the same 8 expert(s) (0-7) take everything in 42 of 48 layers (5-46)"
    )));
}
