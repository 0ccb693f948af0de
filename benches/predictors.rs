//! How long predictors take to fit on 49,152 tokens × 8 layers, and to predict.
//!
//! The tokens are the bundled recording's; the embedding table, which is not bundled, is
//! drawn: what a network learns from it differs, what it computes does not.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]

use std::fs::File;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use moe_gps::app::ingest::{TraceDirectory, Upload};
use moe_gps_core::formats::trace::{Declared, Limits};
use moe_gps_core::predict::{Embedding, Tokens, Unwatched, fit};
use moe_gps_core::question::PredictorKind;
use moe_gps_core::seed::{Purpose, stream};
use rand_distr::{Distribution as _, StandardNormal};

fn tokens(part: &str) -> Tokens {
    let dir = tempfile::tempdir().expect("a folder");
    let traces = TraceDirectory::open(dir.path()).expect("a folder");
    let upload = Upload {
        content_type: "application/x-npz".to_owned(),
        content_encoding: None,
        name: None,
        model: None,
        declared: Declared::default(),
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("examples/traces/mixtral_like_e8k2.python.{part}.npz"));
    let file = File::open(path).expect("the bundled recording");
    let kept = traces.ingest(file, &upload, &Limits::default()).expect("a trace");
    let trace = traces.open_trace(&kept.summary.id).expect("a trace");
    let runs = trace.sample_runs(0..u64::MAX, u64::MAX).expect("sequences");
    trace.read_tokens(&runs).expect("tokens")
}

fn table() -> Embedding {
    let mut rng = stream(1, Purpose::PredictorFit, 1);
    let values = (0..8192 * 512).map(|_| StandardNormal.sample(&mut rng)).collect();
    Embedding::new((0..8192).collect(), 512, values).expect("a table")
}

fn predictors(c: &mut Criterion) {
    let (planning, held_out, table) = (tokens("train"), tokens("test"), table());
    for (kind, name) in PredictorKind::ALL {
        let mut group = c.benchmark_group(name);
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        let fitting = || fit(kind, &planning, Some(&table), 0, &Unwatched).expect("a fit");
        group.throughput(Throughput::Elements(planning.len() as u64));
        group.bench_function("fit", |b| b.iter(|| black_box(fitting())));
        let fitted = fitting();
        group.throughput(Throughput::Elements(held_out.len() as u64));
        group.bench_function("predict", |b| {
            b.iter(|| black_box(fitted.predict(&held_out, &Unwatched)));
        });
        group.finish();
    }
}

criterion_group!(benches, predictors);
criterion_main!(benches);
