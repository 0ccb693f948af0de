//! A device with round constants near those of an H200, for tests of the laws.

use crate::cost::attention::{DecodeConstants, PrefillConstants};
use crate::cost::elementwise::{RowConstants, TopKConstants};
use crate::cost::experts::ExpertConstants;
use crate::cost::gemm::{FewRows, GemmConstants, KeptTiles};
use crate::hardware::{Device, Fit, Formats, PeakRates, Provenance, Stack};
use crate::price::Basis;
use crate::units::{Bytes, BytesPerSecond, FlopsPerSecond, Seconds};

fn fit<C>(constants: C) -> Fit<C> {
    Fit { constants, band: 0.1, basis: Basis::Fitted, provenance: Provenance::default() }
}

fn us(value: f64) -> Seconds {
    Seconds::new(value * 1e-6)
}

/// 1000 TFLOP/s in 16 bit, 5 TB/s, 125 multiprocessors.
#[must_use]
pub fn device() -> Device {
    Device {
        name: "sample".to_owned(),
        memory: Bytes::new(100e9),
        bandwidth: BytesPerSecond::new(5e12),
        peak: PeakRates {
            bf16: FlopsPerSecond::new(1e15),
            fp8: Some(FlopsPerSecond::new(2e15)),
            fp4: None,
            fp32: FlopsPerSecond::new(0.5e15),
        },
        multiprocessors: 125,
        l2: Bytes::new(50e6),
        eager_launch: us(5.0),
        stacks: vec![stack()].into(),
        collectives: None,
        recurrent: None,
    }
}

fn stack() -> Stack {
    let rows = || {
        fit(RowConstants {
            start: us(2.0),
            per_element: us(0.0005),
            split_rows: 2.0,
            per_row: us(0.0005),
            memory: 0.5,
        })
    };
    Stack {
        name: "sample".to_owned(),
        kernels: vec!["vllm_triton".to_owned()],
        gemm: fit(GemmConstants {
            start: us(1.5),
            compute: 0.8,
            memory: 0.9,
            tile_load: BytesPerSecond::new(150e9),
            tile_overhead: us(1.4),
            split: us(1.8),
            quantisation: 0.1,
            ramp: us(6.0),
            vector_start: us(0.1),
            keeps: KeptTiles { from: 0.5, depth: 6000.0, full: 0.8 },
            input_row: Seconds::ZERO,
            input_passes: 0.0,
            few: FewRows::NONE,
            host: Seconds::ZERO,
        }),
        prefill: fit(PrefillConstants {
            start: us(8.0),
            compute: 0.6,
            memory: 0.8,
            row_tile: 128.0,
            window_blocks: 1.0,
            softmax_width: 0.0,
            block_overhead: 1.0,
            tail: 0.5,
            sustained: 0.1,
            kv_passes: 1.0,
            ramp: us(20.0),
            per_token: us(0.001),
        }),
        decode: fit(DecodeConstants {
            start: us(8.0),
            memory: 0.9,
            grouped_bytes: 0.8,
            compute: 0.5,
            part_load: BytesPerSecond::new(60e9),
            part_overhead: us(2.0),
            ungrouped: 0.5,
            chunk: 512.0,
            most_parts: 8.0,
            part_rounds: 4.0,
            merge: us(3.0),
            ramp: us(20.0),
            ramp_bytes: Bytes::new(50e6),
            ramp_power: 2.0,
            ramp_streams: 5.0,
            gather: us(1.0),
            split_context: 200.0,
            split_streams: 3.0,
            head_tile: 1e9,
            most_group: 1e9,
            query_passes: 0.0,
        }),
        experts: fit(ExpertConstants {
            start: us(25.0),
            compute: 0.8,
            memory: 0.9,
            tile_load: BytesPerSecond::new(200e9),
            row_memory: 0.5,
            row_passes: 1.0,
            seen_passes: 1.5,
            quantisation: 0.4,
            block_rows: [64.0, 128.0, 128.0],
            walks_all_pairs: false,
        }),
        formats: Formats::default(),
        norm: rows(),
        activation: rows(),
        top_k: fit(TopKConstants { start: us(16.0), memory: 0.0125 }),
        copy: rows(),
    }
}
