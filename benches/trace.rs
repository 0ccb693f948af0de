//! How fast traces are taken in, counted and read step by step.
//!
//! The data is made by seeded streams; the numbers that matter are throughputs: bytes a
//! second for uploads, routed tokens (token × layer × k) a second for the stored form.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]

use std::fmt::Write as _;
use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use moe_gps::app::ingest::{TraceDirectory, Upload};
use moe_gps_core::formats::trace::stored::{RouteWriter, StoredTrace};
use moe_gps_core::formats::trace::{Declared, Limits};
use moe_gps_core::seed::{Purpose, stream};
use moe_gps_core::trace::steps::{StepOrder, StepPlan};
use moe_gps_core::trace::{TraceHeader, TraceKind};
use rand::RngExt as _;

/// A model's routing: layers, experts, experts per token.
const MODELS: [(&str, usize, u16, usize); 3] =
    [("mixtral", 32, 8, 2), ("deepseek_v3", 58, 256, 8), ("kimi_k2", 60, 384, 8)];

/// Distinct experts of one token in every layer, skewed towards the low ids.
fn row(
    rng: &mut impl rand::Rng,
    (n_layers, experts, top_k): (usize, u16, usize),
    to: &mut Vec<u16>,
) {
    to.clear();
    for _ in 0..n_layers {
        let start = to.len();
        while to.len() < start + top_k {
            let u: f32 = rng.random();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of a small number"
            )]
            let id = (u * u * f32::from(experts)) as u16;
            if id < experts && !to[start..].contains(&id) {
                to.push(id);
            }
        }
    }
}

fn stored(model: (usize, u16, usize), n_tokens: u32) -> StoredTrace {
    let (n_layers, experts, top_k) = model;
    let scratch = || tempfile::tempfile();
    let file = tempfile::tempfile().expect("a file");
    let mut writer =
        RouteWriter::new(file, &scratch, n_layers, top_k, u32::from(experts)).expect("a writer");
    let mut rng = stream(1, Purpose::LoadSample, 0);
    let mut ids = Vec::new();
    for token in 0..n_tokens {
        row(&mut rng, model, &mut ids);
        writer.push(token % 512, &ids).expect("room");
        if token % 512 == 511 {
            writer.end_sequence().expect("room");
        }
    }
    let layers = (0..u16::try_from(n_layers).expect("few layers")).collect();
    let header = TraceHeader {
        kind: TraceKind::Routes,
        digest: [0; 32],
        tokens: 0,
        sequences: 0,
        steps: 0,
        layers,
        experts: u32::from(experts),
        top_k: None,
        has_token_ids: false,
        has_positions: false,
        experts_inferred: false,
        repeated_rows: 0,
        longest_repeat: 0,
        notes: Vec::new(),
    };
    StoredTrace::from_file(writer.finish(header).expect("room")).expect("a trace")
}

fn counting(c: &mut Criterion) {
    let mut group = c.benchmark_group("from_stored_form");
    for (name, n_layers, experts, top_k) in MODELS {
        let n_tokens = u32::try_from((64 << 20) / (n_layers * top_k)).expect("few") & !511;
        let trace = stored((n_layers, experts, top_k), n_tokens);
        let routed = u64::from(n_tokens) * (n_layers * top_k) as u64;
        group.throughput(Throughput::Elements(routed));
        group.sample_size(20);
        group.bench_function(BenchmarkId::new("statistics", name), |b| {
            b.iter(|| black_box(trace.statistics().expect("sound")));
        });
        group.sample_size(10);
        for (order_name, order) in [
            ("prefill_512", StepOrder::Prefill { tokens_per_step: 512 }),
            ("decode_64", StepOrder::Decode { sequences: 64 }),
        ] {
            let plan = StepPlan { order, range: 0..u64::MAX, with_routes: true };
            group.bench_function(BenchmarkId::new(order_name, name), |b| {
                b.iter(|| {
                    let mut steps = trace.steps(&plan);
                    while let Some(step) = steps.next_step().expect("sound") {
                        black_box(step);
                    }
                });
            });
        }
    }
    group.finish();
}

fn npz(descr: &str, shape: [usize; 4], data: &[u8], deflated: bool) -> Vec<u8> {
    let [s, t, l, k] = shape;
    let text = format!(
        "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({s}, {t}, {l}, {k}), }}\n"
    );
    let method =
        if deflated { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(method)
        .compression_level(deflated.then_some(6));
    writer.start_file("routes.npy", options).expect("memory");
    let length = u16::try_from(text.len()).expect("short").to_le_bytes();
    for part in [&b"\x93NUMPY\x01\x00"[..], &length, text.as_bytes(), data] {
        writer.write_all(part).expect("memory");
    }
    writer.finish().expect("memory").into_inner()
}

fn uploads(c: &mut Criterion) {
    let model = (32, 8, 2);
    let (sequences, tokens) = (512, 512);
    let mut rng = stream(2, Purpose::LoadSample, 0);
    let (mut ids, mut bytes, mut lines) = (Vec::new(), Vec::new(), String::new());
    for token in 0..sequences * tokens {
        row(&mut rng, model, &mut ids);
        bytes.extend(ids.iter().map(|id| id.to_le_bytes()[0]));
        if token < 64 * tokens {
            let layers: Vec<&[u16]> = ids.chunks(2).collect();
            writeln!(
                lines,
                "{{\"sequence\": {}, \"position\": {}, \"token_id\": 17, \"experts\": {layers:?}}}",
                token / tokens,
                token % tokens
            )
            .expect("memory");
        }
    }
    let shape = [sequences, tokens, 32, 2];
    let wide: Vec<u8> = bytes.iter().flat_map(|id| u32::from(*id).to_le_bytes()).collect();
    let counts = format!(
        "{{\"counts\": {:?}}}",
        bytes.chunks(32 * 256).map(|step| step.chunks(256).collect()).collect::<Vec<Vec<_>>>()
    );
    let mut group = c.benchmark_group("upload");
    group.sample_size(10);
    for (name, kind, body, size) in [
        ("npz_stored_u8", "x-npz", npz("|u1", shape, &bytes, false), bytes.len()),
        ("npz_deflated_u8", "x-npz", npz("|u1", shape, &bytes, true), bytes.len()),
        ("npz_stored_i32", "x-npz", npz("<i4", shape, &wide, false), wide.len()),
        ("json_lines", "x-ndjson", lines.into_bytes(), 0),
        ("json_counts", "json", counts.into_bytes(), 0),
    ] {
        // Throughput is over what the parser sees: inflated arrays, or text.
        group.throughput(Throughput::Bytes(size.max(body.len()) as u64));
        let declared =
            Declared { experts: (kind != "json").then_some(8), top_k: None, ..Declared::default() };
        let upload =
            Upload { content_type: format!("application/{kind}"), declared, ..Upload::default() };
        group.bench_function(name, |b| {
            b.iter_batched(
                || tempfile::tempdir().expect("a directory"),
                |data| {
                    let traces = TraceDirectory::open(data.path()).expect("a directory");
                    let got = traces.ingest(&body[..], &upload, &Limits::default());
                    black_box(got.expect("a sound trace"));
                    data
                },
                criterion::BatchSize::PerIteration,
            );
        });
    }
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/examples/traces/mixtral_like_e8k2.python.test.npz");
    let size = std::fs::metadata(path).expect("the example").len();
    group.throughput(Throughput::Bytes(size));
    let upload = Upload { content_type: "application/x-npz".to_owned(), ..Upload::default() };
    let data = tempfile::tempdir().expect("a directory");
    let traces = TraceDirectory::open(data.path()).expect("a directory");
    group.bench_function("bundled_example_again", |b| {
        b.iter(|| {
            let file = File::open(path).expect("the example");
            black_box(traces.ingest(file, &upload, &Limits::default()).expect("a sound trace"));
        });
    });
    group.finish();
}

criterion_group!(benches, counting, uploads);
criterion_main!(benches);
