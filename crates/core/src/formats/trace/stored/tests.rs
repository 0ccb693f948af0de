use std::fs::File;
use std::io::{self, Read, Seek, Write};

use proptest::prelude::*;

use crate::cancel::Cancel;
use crate::formats::trace::stored::*;
use crate::trace::steps::{StepOrder, StepPlan};
use crate::trace::{TraceHeader, TraceKind};

fn scratch() -> io::Result<File> {
    tempfile::tempfile()
}

pub(super) fn header(experts: u32, layers: &[u16]) -> TraceHeader {
    TraceHeader {
        kind: TraceKind::Routes,
        digest: [7; 32],
        tokens: 0,
        sequences: 0,
        steps: 0,
        layers: layers.to_vec(),
        experts,
        top_k: None,
        has_token_ids: false,
        has_positions: false,
        experts_inferred: false,
        repeated_rows: 0,
        longest_repeat: 0,
        notes: vec!["a remark — with a dash".to_owned()],
    }
}

/// Routes as plain vectors: sequence, token, `[layer][k]`.
#[derive(Debug, Clone)]
struct Plain {
    experts: u16,
    n_layers: usize,
    top_k: usize,
    sequences: Vec<Vec<Vec<u16>>>,
}

impl Plain {
    fn tokens(&self) -> Vec<&Vec<u16>> {
        self.sequences.iter().flatten().collect()
    }

    fn store(&self) -> StoredTrace {
        StoredTrace::from_file(self.store_file()).unwrap()
    }

    fn store_file(&self) -> File {
        let file = scratch().unwrap();
        let bound = u32::from(self.experts);
        let mut writer =
            RouteWriter::new(file, &scratch, self.n_layers, self.top_k, bound).unwrap();
        let mut token_id = 100;
        for sequence in &self.sequences {
            for (position, row) in sequence.iter().enumerate() {
                writer.push(u32::try_from(position).unwrap(), row).unwrap();
                writer.push_token_id(token_id).unwrap();
                token_id += 1;
            }
            writer.end_sequence().unwrap();
        }
        let layers: Vec<u16> = (0..u16::try_from(self.n_layers).unwrap()).collect();
        writer.finish(header(bound, &layers)).unwrap()
    }
}

fn plain() -> impl Strategy<Value = Plain> {
    (
        prop_oneof![2_u16..12, 250_u16..260],
        1_usize..4,
        1_usize..3,
        prop::collection::vec(1_usize..30, 1..8),
        any::<u64>(),
    )
        .prop_map(|(experts, n_layers, top_k, lengths, seed)| {
            let mut state = seed;
            let mut draw = move || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                u16::try_from((state >> 33) % u64::from(experts)).unwrap()
            };
            let sequences = lengths
                .into_iter()
                .map(|n| (0..n).map(|_| (0..n_layers * top_k).map(|_| draw()).collect()).collect())
                .collect();
            Plain { experts, n_layers, top_k, sequences }
        })
}

fn steps_of(trace: &StoredTrace, order: StepOrder) -> Vec<(Vec<f64>, Vec<u16>, Vec<u32>)> {
    let plan = StepPlan { order, range: 0..u64::MAX, with_routes: true };
    let n = trace.n_steps(&plan).unwrap();
    let mut steps = trace.steps(&plan);
    let mut out = Vec::new();
    while let Some(step) = steps.next_step().unwrap() {
        let counts = step.counts.values().to_vec();
        out.push((counts, step.routes.ids.clone(), step.token_ids.clone()));
    }
    assert_eq!(out.len() as u64, n);
    out
}

/// Layer-major ids of some tokens.
fn layer_major(plain: &Plain, tokens: &[&Vec<u16>]) -> Vec<u16> {
    (0..plain.n_layers)
        .flat_map(|l| {
            tokens.iter().flat_map(move |row| row[l * plain.top_k..][..plain.top_k].to_vec())
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn routes_come_back_step_by_step(plain in plain(), tokens_per_step in 1_usize..40) {
        let trace = plain.store();
        let tokens = plain.tokens();
        prop_assert_eq!(trace.header().tokens, tokens.len() as u64);
        prop_assert_eq!(trace.header().sequences, plain.sequences.len() as u64);
        let order = StepOrder::Prefill { tokens_per_step: tokens_per_step as u64 };
        let steps = steps_of(&trace, order);
        prop_assert_eq!(steps.len(), tokens.len() / tokens_per_step);
        for (n, (_, ids, token_ids)) in steps.iter().enumerate() {
            let first = n * tokens_per_step;
            let wanted = layer_major(&plain, &tokens[first..first + tokens_per_step]);
            prop_assert_eq!(ids, &wanted);
            prop_assert_eq!(token_ids[0] as usize, 100 + first);
        }
        let positions: Vec<u32> = plain
            .sequences
            .iter()
            .flat_map(|sequence| 0..u32::try_from(sequence.len()).unwrap())
            .collect();
        prop_assert_eq!(trace.read_positions(0..u64::MAX).unwrap(), positions);
        trace.verify().unwrap();
    }

    #[test]
    fn counts_conserve_tokens_and_follow_relabelled_experts(plain in plain(), cut in 0_u64..200) {
        let n_tokens = plain.tokens().len() as u64;
        let counts = plain.store().count(0..u64::MAX).unwrap();
        for layer in counts.layers() {
            let sum: f64 = layer.iter().sum();
            prop_assert!((sum - (n_tokens * plain.top_k as u64) as f64).abs() < 1e-9);
        }
        let trace = plain.store();
        let mut parts = trace.count(0..cut).unwrap();
        parts.add(&trace.count(cut..u64::MAX).unwrap());
        prop_assert_eq!(&parts, &counts);
        let mut turned = plain.clone();
        for id in turned.sequences.iter_mut().flatten().flatten() {
            *id = plain.experts - 1 - *id;
        }
        let turned = turned.store().count(0..u64::MAX).unwrap();
        for (a, b) in counts.layers().zip(turned.layers()) {
            prop_assert!(a.iter().eq(b.iter().rev()));
        }
    }

    #[test]
    fn decode_takes_one_token_of_each_sequence(plain in plain(), lanes in 1_usize..5) {
        let trace = plain.store();
        let order = StepOrder::Decode { sequences: lanes as u64 };
        let steps = steps_of(&trace, order);
        // The rule in words: a lane whose sequence is over takes the next one not begun.
        let mut waiting = plain.sequences.iter();
        let mut running: Vec<_> = waiting.by_ref().take(lanes).map(|s| s.iter()).collect();
        let mut wanted = Vec::new();
        'steps: while running.len() == lanes {
            let mut rows = Vec::new();
            for lane in &mut running {
                let row = lane.next().or_else(|| {
                    *lane = waiting.next()?.iter();
                    lane.next()
                });
                match row {
                    Some(row) => rows.push(row),
                    None => break 'steps,
                }
            }
            wanted.push(layer_major(&plain, &rows));
        }
        let got: Vec<_> = steps.into_iter().map(|(_, ids, _)| ids).collect();
        prop_assert_eq!(got, wanted);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_never_a_panic(
        plain in plain(),
        place in any::<prop::sample::Index>(),
        bit in 0_u8..8,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        let mut file = plain.store_file();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        let open = |bytes: &[u8]| -> io::Result<()> {
            let mut file = scratch()?;
            file.write_all(bytes)?;
            StoredTrace::from_file(file)?.verify()
        };
        open(&bytes).unwrap();
        prop_assert!(open(&bytes[..cut.index(bytes.len())]).is_err());
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        prop_assert!(open(&bytes).is_err(), "byte {}", place);
    }

    #[test]
    fn random_bytes_are_no_trace(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut file = scratch().unwrap();
        file.write_all(&MAGIC).unwrap();
        file.write_all(&bytes).unwrap();
        file.write_all(&MAGIC).unwrap();
        prop_assert!(StoredTrace::from_file(file).is_err());
    }

    #[test]
    fn counts_come_back_step_by_step(
        values in prop::collection::vec(
            prop_oneof![(0_u32..5000).prop_map(f64::from), Just(0.5), Just(9e15)], 12..60),
    ) {
        let mut writer = CountsWriter::new(scratch().unwrap(), &scratch).unwrap();
        let n_steps = values.len() / 6;
        for row in values[..n_steps * 6].chunks_exact(3) {
            writer.push_row(row).unwrap();
        }
        // Layer 0 is dense.
        let file = writer.finish(header(3, &[1]), 2).unwrap();
        let trace = StoredTrace::from_file(file).unwrap();
        let steps = steps_of(&trace, StepOrder::Recorded);
        prop_assert_eq!(steps.len(), n_steps);
        for (step, wanted) in steps.iter().zip(values.chunks_exact(6)) {
            prop_assert_eq!(&step.0[..], &wanted[3..]);
        }
        trace.verify().unwrap();
    }
}

#[test]
fn long_traces_cross_blocks_and_columns() {
    let (n_layers, top_k) = (3, 2);
    let row = |t: usize| (0..6).map(|j| u16::try_from((t * 7 + j * 3) % 11).unwrap()).collect();
    let sequences =
        (0..5).map(|s| (0..9000).map(|t| row(s * 9000 + t)).collect::<Vec<Vec<u16>>>()).collect();
    let plain = Plain { experts: 11, n_layers, top_k, sequences };
    let trace = plain.store();
    trace.verify().unwrap();
    let tokens = plain.tokens();
    for (order, lanes) in [
        (StepOrder::Prefill { tokens_per_step: 7001 }, None),
        (StepOrder::Decode { sequences: 4 }, Some(4)),
    ] {
        let steps = steps_of(&trace, order);
        let n = match lanes {
            None => {
                let wanted = layer_major(&plain, &tokens[7001..14_002]);
                assert!(steps[1].1 == wanted);
                45_000 / 7001
            }
            Some(lanes) => {
                let rows: Vec<_> = (0..lanes).map(|s| tokens[s * 9000 + 8999]).collect();
                assert!(steps[8999].1 == layer_major(&plain, &rows));
                assert_eq!(steps[8999].2, [100 + 8999, 100 + 17_999, 100 + 26_999, 100 + 35_999]);
                9000
            }
        };
        assert_eq!(steps.len(), n);
    }
    assert_eq!(trace.split_between_sequences(0.5).unwrap(), 18_000);
    let plan = StepPlan {
        order: StepOrder::Decode { sequences: 2 },
        range: 18_000..45_000,
        with_routes: false,
    };
    assert_eq!(trace.n_steps(&plan).unwrap(), 9000);
    let mut steps = trace.steps(&plan);
    steps.skip_steps(8999).unwrap();
    assert!(steps.next_step().unwrap().is_some());
    assert!(steps.next_step().unwrap().is_none());
}

#[test]
fn positions_that_skip_are_kept() {
    let mut writer = RouteWriter::new(scratch().unwrap(), &scratch, 1, 1, 4).unwrap();
    for position in [3, 4, 9] {
        writer.push(position, &[1]).unwrap();
    }
    let trace = StoredTrace::from_file(writer.finish(header(4, &[0])).unwrap()).unwrap();
    assert_eq!(trace.read_positions(1..3).unwrap(), [4, 9]);
    assert!(!trace.header().has_token_ids);
    assert_eq!(trace.header().notes, header(4, &[0]).notes);
}

#[test]
fn impossible_steps_end_at_once() {
    let plain = Plain { experts: 2, n_layers: 1, top_k: 1, sequences: vec![vec![vec![1]; 5]; 2] };
    let trace = plain.store();
    for order in [
        StepOrder::Prefill { tokens_per_step: 1 << 63 },
        StepOrder::Decode { sequences: 1 << 63 },
        StepOrder::Decode { sequences: 0 },
        StepOrder::Recorded,
    ] {
        assert_eq!(steps_of(&trace, order), []);
    }
}

#[test]
fn counting_ends_when_it_is_canceled() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    // Blocks of 4,096 tokens, sixteen to a group: the flag is looked at before each group.
    let mut writer = RouteWriter::new(scratch().unwrap(), &scratch, 1, 1, 4).unwrap();
    let n_tokens = 5 * 16 * 4096_u32;
    for position in 0..n_tokens {
        writer.push(position, &[u16::try_from(position % 4).unwrap()]).unwrap();
    }
    writer.end_sequence().unwrap();
    let trace = StoredTrace::from_file(writer.finish(header(4, &[0])).unwrap()).unwrap();
    let counted = |allowed: u64| {
        let asks = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&asks);
        let cancel = Cancel::when(move || allowed <= counted.fetch_add(1, Ordering::Relaxed));
        let counts = trace.count_unless(0..u64::from(n_tokens), &cancel).unwrap();
        (counts.map(|counts| counts.layer(0).to_vec()), asks.load(Ordering::Relaxed))
    };
    let quarter = f64::from(n_tokens / 4);
    assert_eq!(counted(u64::MAX), (Some(vec![quarter; 4]), 5));
    for allowed in 0..5 {
        let (counts, asks) = counted(allowed);
        assert_eq!(counts, None);
        assert!((allowed + 1..=5).contains(&asks), "{asks} asks, {allowed} allowed");
    }
}
