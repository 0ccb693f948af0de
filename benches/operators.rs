//! One price of every operator, bound as a question binds it, and every shipped table.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use moe_gps_core::comm::link::GroupLaw;
use moe_gps_core::comm::profile::{Collective, CollectiveKernel};
use moe_gps_core::cost::attention::{Heads, Span};
use moe_gps_core::cost::experts::{ExpertShape, Seen};
use moe_gps_core::cost::{Laws, expert_law};
use moe_gps_core::system::{Dtype, Dtypes, Operands};
use moe_gps_core::units::Bytes;
use moe_gps_lab::validate::report::{shipped_profiles, validate};

const BF16: Dtypes = Dtypes::all(Dtype::Bf16);

fn one_price(criterion: &mut Criterion) {
    let profiles = shipped_profiles().expect("the shipped catalog");
    let device = profiles.device("h200-sxm").expect("a shipped device");
    let stack = device.stack("tensorrt-llm").expect("a shipped stack");
    let laws = Laws::bind(device, stack, &BF16);
    let heads = Heads { query: 32.0, kv: 8.0, qk_width: 128.0, v_width: 128.0, cached: 256.0 };
    let prompt = Span { sequences: 4.0, new: 2048.0, context: 2048.0, window: None };
    let step = Span { sequences: 64.0, new: 1.0, context: 4096.0, window: None };
    let shape = ExpertShape {
        hidden: 4096.0,
        intermediate: 14336.0,
        gated: true,
        operands: Operands::BF16,
        rows: Dtype::Bf16,
    };
    let experts = expert_law(device, stack, &shape, Seen::Routed);
    let link = profiles.link("nvlink4").expect("a shipped link");
    let profile = device.collectives.as_deref();
    let all_reduce = GroupLaw::new(profile, CollectiveKernel::Nccl, Collective::AllReduce, 8, link);
    let mut group = criterion.benchmark_group("price");
    // One row, a batch of decode, a prompt, and a product whose tiles a library keeps: the
    // dearest of all to price.
    let a100 = profiles.device("a100-sxm4-80gb").expect("a shipped device");
    let kept = Laws::bind(a100, a100.stack("vllm").expect("a shipped stack"), &BF16);
    for (name, laws, (m, n, k)) in [
        ("gemm_1", &laws, (1.0, 4096.0, 4096.0)),
        ("gemm_64", &laws, (64.0, 6144.0, 4096.0)),
        ("gemm_512", &laws, (512.0, 4096.0, 14336.0)),
        ("gemm_kept", &kept, (512.0, 4096.0, 4096.0)),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| laws.gemm.price(black_box(m), black_box(n), black_box(k)));
        });
    }
    group.bench_function("attention_prefill", |b| {
        b.iter(|| laws.attention.price_prefill(black_box(&heads), black_box(&prompt)));
    });
    group.bench_function("attention_decode", |b| {
        b.iter(|| laws.attention.price_decode(black_box(&heads), black_box(&step)));
    });
    group.bench_function("expert_ffn_of_4", |b| {
        let tokens = black_box([512.0, 256.0, 128.0, 64.0]);
        b.iter(|| experts.price(black_box(tokens).iter().map(|&n| experts.piece(n)).sum()));
    });
    group.bench_function("rms_norm", |b| {
        b.iter(|| laws.norm.norm(black_box(512.0), black_box(4096.0)));
    });
    group.bench_function("softmax_topk", |b| {
        b.iter(|| laws.top_k.price(black_box(512.0), black_box(256.0)));
    });
    group.bench_function("all_reduce", |b| {
        b.iter(|| all_reduce.price(black_box(Bytes::new(4_194_304.0))));
    });
    group.finish();
}

fn whole_validation(criterion: &mut Criterion) {
    let tables = Path::new(env!("CARGO_MANIFEST_DIR")).join("measurements");
    let mut group = criterion.benchmark_group("validate");
    group.sample_size(10);
    group.bench_function("measurements", |b| {
        b.iter(|| validate(black_box(&tables)).expect("the shipped tables"));
    });
    group.finish();
}

criterion_group!(benches, one_price, whole_validation);
criterion_main!(benches);
