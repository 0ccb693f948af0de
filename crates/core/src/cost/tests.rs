//! What holds for every law, and worked numbers of each.

use approx::assert_relative_eq;
use proptest::prelude::*;

use crate::catalog::Catalog;
use crate::cost::attention::{Heads, Span};
use crate::cost::experts::{ExpertLaw, ExpertShape, ExpertWork, Seen};
use crate::cost::gemm::KeptTiles;
use crate::cost::sample::device;
use crate::cost::{Laws, expert_law, round_up};
use crate::hardware::Device;
use crate::price::Basis;
use crate::system::{Dtype, Dtypes, Operands};
use crate::units::{Bytes, BytesPerSecond, FlopsPerSecond};

const BF16: Dtypes = Dtypes::all(Dtype::Bf16);

fn laws(device: &Device) -> Laws {
    Laws::bind(device, &device.stacks[0], &BF16)
}

fn mixtral() -> ExpertShape {
    ExpertShape {
        hidden: 4096.0,
        intermediate: 14336.0,
        gated: true,
        operands: Operands::BF16,
        rows: Dtype::Bf16,
    }
}

fn experts(device: &Device) -> ExpertLaw {
    expert_law(device, &device.stacks[0], &mixtral(), Seen::Routed)
}

fn heads() -> Heads {
    Heads { query: 32.0, kv: 8.0, qk_width: 128.0, v_width: 128.0, cached: 256.0 }
}

fn span(sequences: f64, new: f64, context: f64) -> Span {
    Span { sequences, new, context, window: None }
}

/// The same device with its matrix units and its memory made faster.
fn faster(compute: f64, memory: f64) -> Device {
    let mut device = device();
    device.peak.bf16 = FlopsPerSecond::new(device.peak.bf16.get() * compute);
    device.bandwidth = BytesPerSecond::new(device.bandwidth.get() * memory);
    device
}

/// Every law at one size, in seconds.
fn all(device: &Device, tokens: f64, context: f64) -> [f64; 6] {
    let laws = laws(device);
    let experts = experts(device);
    [
        laws.gemm.own.time(tokens, 4096.0, 14336.0).get(),
        laws.attention.own.prefill(&heads(), &span(2.0, tokens, tokens)).get(),
        laws.attention.own.decode(&heads(), &span(tokens, 1.0, context)).get(),
        experts.time(experts.piece(tokens) + experts.piece(tokens / 3.0)).get(),
        laws.norm.norm(tokens, 4096.0).time.get(),
        laws.top_k.price(tokens, 64.0).time.get(),
    ]
}

proptest! {
    #[test]
    fn rounding_up_is_the_library_s(x in 0.0..1e12_f64) {
        prop_assert!((round_up(x) - x.ceil()).abs() < 0.5);
        prop_assert!((round_up(x.floor()) - x.floor()).abs() < 0.5);
    }

    #[test]
    fn no_law_rises_with_compute_rate_or_bandwidth(
        tokens in 1.0..20_000.0_f64, context in 1.0..30_000.0_f64,
        compute in 1.0..4.0_f64, memory in 1.0..4.0_f64,
    ) {
        let slow = all(&device(), tokens, context);
        for fast in [faster(compute, 1.0), faster(1.0, memory), faster(compute, memory)] {
            for (fast, slow) in all(&fast, tokens, context).into_iter().zip(slow) {
                prop_assert!(fast <= slow * (1.0 + 1e-12));
            }
        }
    }

    #[test]
    fn no_law_falls_with_tokens_or_context(
        tokens in 0.0..20_000.0_f64, more in 0.0..500.0_f64, context in 1.0..30_000.0_f64,
    ) {
        let device = device();
        let less = all(&device, tokens, context);
        for bigger in [all(&device, tokens + more, context), all(&device, tokens, context + more)] {
            for (bigger, less) in bigger.into_iter().zip(less) {
                prop_assert!(bigger >= less * (1.0 - 1e-12));
            }
        }
    }

    #[test]
    fn pieces_add_up_in_any_order(loads in prop::collection::vec(0.0..3_000.0_f64, 1..16)) {
        let law = experts(&device());
        let forward: ExpertWork = loads.iter().map(|n| law.piece(*n)).sum();
        let backward: ExpertWork = loads.iter().rev().map(|n| law.piece(*n)).sum();
        prop_assert!((law.time(forward) / law.time(backward) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn more_groups_of_the_same_tokens_never_take_less(
        loads in prop::collection::vec(1.0..3_000.0_f64, 1..12), split in 0.01..0.99_f64,
        which in 0_usize..12,
    ) {
        let which = which % loads.len();
        let mut halves = loads.clone();
        halves[which] *= split;
        halves.push(loads[which] - halves[which]);
        for entry in Catalog::embedded().devices() {
            for stack in entry.value.stacks.iter() {
                let law = expert_law(&entry.value, stack, &mixtral(), Seen::Routed);
                let time = |loads: &[f64]| law.time(loads.iter().map(|n| law.piece(*n)).sum()).get();
                prop_assert!(time(&loads) <= time(&halves) * (1.0 + 1e-9), "{}", stack.name);
            }
        }
    }

    #[test]
    fn more_sight_costs_more(tokens in 1.0..5_000.0_f64, seen in 0.0..50_000.0_f64) {
        let device = device();
        let group = Seen::Group { tokens: seen, pairs: 2.0 * seen };
        let wide = expert_law(&device, &device.stacks[0], &mixtral(), group);
        let own = experts(&device);
        prop_assert!(wide.time(wide.piece(tokens)) >= own.time(own.piece(tokens)));
    }
}

#[test]
fn nothing_to_do_costs_start_up_alone() {
    let device = device();
    let stack = &device.stacks[0];
    let zero = all(&device, 0.0, 0.0);
    let starts = [
        stack.gemm.constants.start,
        stack.prefill.constants.start,
        stack.decode.constants.start,
        stack.experts.constants.start,
        stack.norm.constants.start,
        stack.top_k.constants.start,
    ];
    for (time, start) in zero.into_iter().zip(starts) {
        assert_relative_eq!(time, start.get());
    }
    assert_eq!(experts(&device).piece(0.0), ExpertWork::default());
}

// 1.5 µs + ((1 wave of 8192·8192/(128·256)/125 = 16.384 → 0.1·17 + 0.9·16.384 = 16.4456
// waves of 2·128·256·8192/(0.8·8e12) = 83.886 + 1.4 µs)⁴ + (402.65 MB / 4.5 TB/s = 89.48
// + 6·134.2/184.2 = 4.37 µs)⁴)^¼
#[test]
fn a_large_product_is_waves_of_its_best_tile() {
    let time = laws(&device()).gemm.own.time(8192.0, 8192.0, 8192.0).get();
    let tiles: f64 = 16.4456 * (83.886_08 + 1.4);
    let memory: f64 = 89.478_5 + 6.0 * 134.217_7 / 184.217_7;
    let expected = 1.5 + (tiles.powi(4) + memory.powi(4)).powf(0.25);
    assert_relative_eq!(time * 1e6, expected, max_relative = 1e-5);
}

// 32 sequences × 8 heads × 4096 tokens × 512 bytes, 0.8 of them read, = 429.50 MB: 95.443 µs
// at 4.5 TB/s and, with y = 8.590, 20 µs · 73.787/74.787 · 256/261 of ramp; 256 streams on
// 125 multiprocessors are less than 3 on each, so the library splits them into 4 rounds of
// 125 parts, 500 · 0.859 MB: (14.317 + 2) · 4 = 65.266, 3 µs to merge; 1 µs to gather.
#[test]
fn decode_reads_the_cache_once() {
    let time = laws(&device()).attention.own.decode(&heads(), &span(32.0, 1.0, 4096.0)).get();
    let memory: f64 = 95.443_7 + 20.0 * 73.787 / 74.787 * 256.0 / 261.0;
    let expected = 8.0 + 3.0 + (memory.powi(8) + 65.266_2_f64.powi(8)).powf(0.125) + 1.0;
    assert_relative_eq!(time * 1e6, expected, max_relative = 1e-5);
}

// 150 tokens are never split: 256 streams of 150 · 512 · 0.8 bytes, 15.73 MB, are 3.495 µs and,
// with y = 0.3146, 20 µs · 0.09005 · 256/261 of ramp; (1.024 + 2) · 3 = 9.072 in three rounds.
// Ungrouped heads read all bytes and pay half of overhead and ramp: (1.28 + 1) · 3 = 6.84
// against 4.369 and, with y = 0.3932, 10 µs · 0.1339 · 256/261. 512 streams are more than 3
// on each multiprocessor: whole, five rounds of 29.962 = 149.81.
#[test]
fn short_contexts_and_many_streams_are_left_whole() {
    let decode = |heads: &Heads, sequences, context| {
        laws(&device()).attention.own.decode(heads, &span(sequences, 1.0, context)).get() * 1e6
    };
    let memory: f64 = 3.495_3 + 20.0 * 0.090_05 * 256.0 / 261.0;
    let whole = 8.0 + (memory.powi(8) + 9.072_f64.powi(8)).powf(0.125) + 1.0;
    assert_relative_eq!(decode(&heads(), 32.0, 150.0), whole, max_relative = 1e-4);
    let memory: f64 = 4.369_1 + 10.0 * 0.133_9 * 256.0 / 261.0;
    let whole = 8.0 + (memory.powi(8) + 6.84_f64.powi(8)).powf(0.125) + 1.0;
    let ungrouped = Heads { query: 8.0, ..heads() };
    assert_relative_eq!(decode(&ungrouped, 32.0, 150.0), whole, max_relative = 1e-3);
    let memory: f64 = 190.887_4 + 20.0 * 295.147 / 296.147 * 512.0 / 517.0;
    let whole = 8.0 + (memory.powi(8) + 149.810_1_f64.powi(8)).powf(0.125) + 1.0;
    assert_relative_eq!(decode(&heads(), 64.0, 4096.0), whole, max_relative = 1e-4);
}

// One row, 33.571 MB at 4.5 TB/s = 7.460 µs, 6 µs · 33.554/83.554 = 2.410 of ramp, and 0.1 + 1.5
// to start. 512 × 8192 over 4096 in 128 tiles of 128 × 256 on 125 multiprocessors, kept
// although tiles of 128 × 128 take 47.9: (0.1 · 2 + 0.9 · 1.024) · (41.943 + 1.4) = 48.614 µs
// of tiles and 17.709 + 3.438 = 21.148 of memory.
#[test]
fn one_row_has_a_kernel_of_its_own_and_large_tiles_are_kept() {
    let device = device();
    let time = |m, n, k| laws(&device).gemm.own.time(m, n, k).get() * 1e6;
    assert_relative_eq!(time(1.0, 4096.0, 4096.0), 11.4697, max_relative = 1e-5);
    let kept = (48.614_f64.powi(4) + 21.148_f64.powi(4)).powf(0.25);
    assert_relative_eq!(time(512.0, 8192.0, 4096.0), 1.5 + kept, max_relative = 1e-4);
    let mut free = device.clone();
    let mut stack = free.stacks[0].clone();
    stack.gemm.constants.keeps = KeptTiles::NEVER;
    free.stacks = vec![stack].into();
    let least = laws(&free).gemm.own.time(512.0, 8192.0, 4096.0).get() * 1e6;
    assert!(least < 1.5 + kept, "{least}");
    // Beyond the depth the fastest tile is taken, and nothing falls on the way.
    assert_relative_eq!(
        time(512.0, 8192.0, 8192.0),
        laws(&free).gemm.own.time(512.0, 8192.0, 8192.0).get() * 1e6
    );
    let times: Vec<f64> = (1..80).map(|i| time(512.0, 8192.0, f64::from(i) * 100.0)).collect();
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]), "{times:?}");
}

// One stream of 65536 tokens, 26.84 MB read: alone (447.4 + 2) µs on one multiprocessor; in
// √(8·65536/512) = 32 parts 13.981 + 2, and 3 µs to merge them.
#[test]
fn a_long_context_is_read_by_many_multiprocessors() {
    let one = Heads { query: 8.0, kv: 1.0, ..heads() };
    let time = laws(&device()).attention.own.decode(&one, &span(1.0, 1.0, 65_536.0)).get();
    let memory: f64 = 5.965_2 + 20.0 * 0.288_23 / 1.288_23 / 6.0;
    let expected = 8.0 + 3.0 + (memory.powi(8) + 15.981_0_f64.powi(8)).powf(0.125);
    assert_relative_eq!(time * 1e6, expected, max_relative = 1e-4);
}

// 64 heads × (528 pairs + 32) × 1.7476 µs / 125 = 501.1 µs, half of the longest row (57.67)
// on top; 167.77 MB: 41.94 µs, 15.41 of ramp; 8192 tokens at 1 ns.
#[test]
fn prefill_computes_a_triangle_and_passes_its_operands() {
    let time = laws(&device()).attention.own.prefill(&heads(), &span(2.0, 4096.0, 4096.0)).get();
    let expected = 8.0 + 501.110 + 57.671 / 2.0 + 41.943 + 15.408 + 8.192;
    assert_relative_eq!(time * 1e6, expected, max_relative = 1e-4);
}

#[test]
fn a_window_bounds_both_phases() {
    let laws = laws(&device());
    let windowed = |new, context| Span { window: Some(1024.0), ..span(4.0, new, context) };
    let decode = |context| laws.attention.own.decode(&heads(), &windowed(1.0, context));
    assert_relative_eq!(decode(1024.0).get(), decode(32_768.0).get());
    let prefill = |span: &Span| laws.attention.own.prefill(&heads(), span).get();
    assert!(prefill(&windowed(16_384.0, 16_384.0)) < 0.4 * prefill(&span(4.0, 16_384.0, 16_384.0)));
    assert_relative_eq!(prefill(&windowed(512.0, 512.0)), prefill(&span(4.0, 512.0, 512.0)));
}

#[test]
fn a_prompt_in_two_chunks_attends_to_as_many_blocks() {
    let laws = laws(&device());
    let prefill =
        |new, context| laws.attention.own.prefill(&heads(), &span(64.0, new, context)).get();
    let whole = prefill(8192.0, 8192.0);
    let chunked = prefill(4096.0, 4096.0) + prefill(4096.0, 8192.0);
    assert!((chunked / whole - 1.0).abs() < 0.05, "{chunked} against {whole}");
}

// Flat while weights dominate, then linear: tripling the tokens of one expert of two.
#[test]
fn uneven_load_is_free_below_the_knee_and_dear_above() {
    let law = experts(&device());
    let ratio = |n: f64| {
        let even = law.time(law.piece(n) + law.piece(n));
        let uneven = law.time(law.piece(1.5 * n) + law.piece(0.5 * n));
        let triple = law.time(law.piece(3.0 * n) + law.piece(3.0 * n));
        (uneven / even, triple / even)
    };
    let (uneven, triple) = ratio(16.0);
    assert!(uneven < 1.02 && triple < 1.05, "{uneven} {triple}");
    let (uneven, triple) = ratio(4096.0);
    assert!(uneven < 1.02 && triple > 2.8, "{uneven} {triple}");
}

#[test]
fn each_active_expert_reads_its_weights_once() {
    let law = experts(&device());
    let one = law.time(law.piece(4.0)).get();
    let two = law.time(law.piece(2.0) + law.piece(2.0)).get();
    let weights = 3.0 * 4096.0 * 14336.0 * 2.0 / 4.5e12;
    assert_relative_eq!(two - one, weights, max_relative = 0.1);
}

#[test]
fn narrower_numbers_are_faster_and_less_sure() {
    let device = device();
    let fp8 = Dtypes { stream: Dtype::Bf16, ..Dtypes::all(Dtype::Fp8) };
    let narrow = Laws::bind(&device, &device.stacks[0], &fp8);
    let (wide, narrow) =
        (laws(&device).gemm.price(16.0, 8192.0, 8192.0), narrow.gemm.price(16.0, 8192.0, 8192.0));
    assert!(narrow.time < wide.time);
    assert!(narrow.band > wide.band);
    assert_eq!(wide.basis, Basis::Fitted);
}

#[test]
fn a_recurrent_predictor_costs_its_sequence_length() {
    let laws = laws(&device());
    let time = |tokens| laws.predictor_lstm(1.0, tokens, 4096.0, 64.0, 2.0).time.get();
    assert!((time(512.0) * 1e3 - 18.3).abs() < 1.0);
    assert!((time(2048.0) / time(512.0) - 4.0).abs() < 0.1);
    // Replayed from a graph, as the catalog's H200 was measured: 2.5 to 3.1 ms, 11.1 ms, and 30 µs in decode.
    let measured = &Catalog::embedded().device("h200-sxm").unwrap().value;
    let own = Laws::bind(measured, &measured.stacks[0], &Dtypes::all(Dtype::Bf16));
    let own =
        |sequences, tokens| own.predictor_lstm(sequences, tokens, 4096.0, 64.0, 2.0).time.get();
    assert!((own(4.0, 512.0) / 2.927e-3 - 1.0).abs() < 0.04, "{}", own(4.0, 512.0));
    assert!((own(1.0, 2048.0) / 11.08e-3 - 1.0).abs() < 0.04, "{}", own(1.0, 2048.0));
    assert!((own(64.0, 1.0) / 31.5e-6 - 1.0).abs() < 0.1, "{}", own(64.0, 1.0));
    let lookup = laws.predictor_lookup(512.0, 2.0).time;
    let ffn = laws.predictor_ffn(512.0, &[4096.0, 128.0, 64.0, 8.0]).time;
    assert!(lookup < ffn && ffn.get() < 30e-6);
    assert!((lookup.get() - 4.8e-6).abs() < 0.1e-6, "{lookup:?}");
    let products = [(128.0, 4096.0), (64.0, 128.0), (8.0, 64.0)]
        .map(|(n, k)| laws.gemm.own.time(512.0, n, k).get());
    let passes = ffn.get() - products.iter().sum::<f64>();
    let two = laws.copy.pass(512.0, 128.0).time + laws.copy.pass(512.0, 64.0).time;
    assert!((passes - two.get()).abs() < 1e-15);
    assert!(laws.copy.copy(Bytes::new(1e9)).time.get() > 2e9 / 5e12);
}

#[test]
fn an_active_expert_of_deepseek_takes_what_was_measured_on_h20() {
    // Eight H20, decode of 32 sequences: 17.9 µs for each active expert, 44.04 MB at 2.46 TB/s.
    let device = &Catalog::embedded().device("h20").unwrap().value;
    let shape = ExpertShape {
        hidden: 7168.0,
        intermediate: 2048.0,
        gated: true,
        operands: Operands::of(Dtype::Fp8, Dtype::Fp8),
        rows: Dtype::Fp8,
    };
    let law = expert_law(device, &device.stacks[0], &shape, Seen::Routed);
    let active = |experts: u32| law.time((0..experts).map(|_| law.piece(2.0)).sum()).get();
    let each = (active(32) - active(16)) / 16.0;
    assert!((each / 17.9e-6 - 1.0).abs() < 0.05, "{each}");
}

#[test]
fn seven_groups_are_slower_than_four_as_measured_on_h200() {
    // The grouped product of 2,048 rows of Mixtral reached 642 TFLOP/s on 4 groups and 573 on 7.
    let device = &Catalog::embedded().device("h200-sxm").unwrap().value;
    for (name, least, most) in [("vllm", 1.06, 1.18), ("tensorrt-llm", 1.06, 1.25)] {
        let stack = device.stacks.iter().find(|stack| stack.name == name).unwrap();
        let law = expert_law(device, stack, &mixtral(), Seen::Routed);
        let time = |groups: u32| {
            let rows = 2048.0 / f64::from(groups);
            law.time((0..groups).map(|_| law.piece(rows)).sum()).get()
        };
        let slower = time(7) / time(4);
        assert!((least..most).contains(&slower), "{name}: {slower}, measured {}", 642.0 / 573.0);
    }
}
