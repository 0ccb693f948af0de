//! What is free in every law of one device, and between which bounds.

use crate::validate::measured::{Case, Loads, Measured};
use crate::validate::{compute, experts};
use moe_gps_core::cost::Laws;
use moe_gps_core::cost::gemm::KeptTiles;
use moe_gps_core::hardware::{Device, Stack};
use moe_gps_core::system::Dtype;
use moe_gps_core::units::{Bytes, BytesPerSecond, Seconds};

/// A law with constants of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Dense products.
    Gemm,
    /// Attention over whole prompts.
    Prefill,
    /// Attention of one new token per sequence.
    Decode,
    /// Routed experts with 16-bit weights.
    Experts,
    /// Routed experts with 8-bit weights.
    ExpertsFp8,
    /// Norms.
    Norm,
    /// Gated activations.
    Activation,
    /// Softmax and top-k.
    TopK,
    /// Copies within the device.
    Copy,
}

/// Measurements for every constant of a law before its finer ones are free.
const ROWS_PER_CONSTANT: usize = 8;

/// One free constant of a law.
pub struct Parameter {
    /// Its name in catalog files, with its unit.
    pub name: &'static str,
    /// The least it may be.
    pub low: f64,
    /// The most it may be.
    pub high: f64,
    /// Reads it.
    pub get: fn(&Stack) -> f64,
    /// Writes it.
    pub set: fn(&mut Stack, f64),
}

/// A constant of whatever type as a number in SI units.
trait Number: Copy {
    fn number(self) -> f64;
    fn from_number(value: f64) -> Self;
}

macro_rules! numbers {
    ($($unit:ident),*) => {
        $(impl Number for $unit {
            fn number(self) -> f64 {
                self.get()
            }
            fn from_number(value: f64) -> Self {
                Self::new(value)
            }
        })*
    };
}

numbers!(Seconds, Bytes, BytesPerSecond);

impl Number for f64 {
    fn number(self) -> f64 {
        self
    }
    fn from_number(value: f64) -> Self {
        value
    }
}

macro_rules! parameters {
    ($constant:ident, $set:ident: $($($field:ident).+ $name:literal $low:literal $high:literal;)*) => {
        static $constant: &[Parameter] = &[$(Parameter {
            name: $name,
            low: $low,
            high: $high,
            get: |stack| stack.$set.constants.$($field).+.number(),
            set: |stack, value| stack.$set.constants.$($field).+ = Number::from_number(value),
        }),*];
    };
}

// Bounds are physical where there are such (a share is at most 1), else far from every
// constant of the shipped devices.
parameters!(GEMM, gemm:
    start "start_s" 1e-8 1e-3;
    compute "compute" 0.01 1.0;
    memory "memory" 0.01 1.0;
    tile_load "tile_load_bytes_per_s" 1e8 1e13;
    tile_overhead "tile_overhead_s" 1e-9 1e-4;
    split "split_s" 1e-9 1e-4;
    quantisation "quantisation" 1e-4 1.0;
    ramp "ramp_s" 1e-9 1e-3;
    vector_start "vector_start_s" 1e-8 1e-3;
    keeps.from "keep_from" 0.05 4.0;
    keeps.depth "keep_depth" 1.0 1e5;
    keeps.full "keep_full" 0.05 4.0;
);
parameters!(PREFILL, prefill:
    start "start_s" 1e-8 1e-3;
    compute "compute" 0.01 1.0;
    memory "memory" 0.01 5.0;
    block_overhead "block_overhead" 1e-4 100.0;
    kv_passes "kv_passes" 1e-3 50.0;
    ramp "ramp_s" 1e-9 1e-3;
    tail "tail" 1e-4 1.0;
    sustained "sustained" 1e-4 10.0;
    per_token "per_token_s" 1e-13 1e-6;
);
parameters!(DECODE, decode:
    start "start_s" 1e-8 1e-3;
    memory "memory" 0.01 2.0;
    compute "compute" 0.001 1.0;
    part_load "part_load_bytes_per_s" 1e8 1e13;
    part_overhead "part_overhead_s" 1e-9 1e-3;
    chunk "chunk_tokens" 16.0 16384.0;
    ramp "ramp_s" 1e-9 1e-3;
    ramp_bytes "ramp_bytes" 1e3 1e10;
    grouped_bytes "grouped_bytes" 0.1 1.0;
    ungrouped "ungrouped" 1e-3 2.0;
    most_parts "most_parts" 1.0 1e4;
    part_rounds "part_rounds" 0.5 32.0;
    merge "merge_s" 1e-9 1e-3;
    ramp_power "ramp_power" 0.3 6.0;
    ramp_streams "ramp_streams" 1e-3 1e3;
    gather "gather_s" 1e-9 1e-4;
    split_context "split_context_tokens" 16.0 1e5;
    split_streams "split_streams" 0.1 64.0;
);
parameters!(EXPERTS, experts:
    start "start_s" 1e-8 1e-2;
    compute "compute" 0.01 1.0;
    memory "memory" 0.01 1.0;
    tile_load "tile_load_bytes_per_s" 1e8 1e13;
    row_memory "row_memory" 0.01 1.0;
    seen_passes "seen_passes" 1e-3 100.0;
    quantisation "quantisation" 1e-4 1.0;
    row_passes "row_passes" 1e-3 10.0;
);
parameters!(NORM, norm:
    start "start_s" 1e-8 1e-3;
    per_element "per_element_s" 1e-13 1e-7;
    memory "memory" 0.01 1.0;
    split_rows "split_rows" 1e-3 16.0;
    per_row "per_row_s" 1e-13 1e-7;
);
parameters!(ACTIVATION, activation:
    start "start_s" 1e-8 1e-3;
    per_element "per_element_s" 1e-13 1e-7;
    memory "memory" 0.01 1.0;
);
parameters!(TOP_K, top_k:
    start "start_s" 1e-8 1e-3;
    memory "memory" 1e-4 1.0;
);
parameters!(COPY, copy:
    start "start_s" 1e-8 1e-3;
    memory "memory" 0.01 1.0;
);

impl Family {
    /// Every law.
    pub const ALL: [Self; 9] = [
        Self::Gemm,
        Self::Prefill,
        Self::Decode,
        Self::Experts,
        Self::ExpertsFp8,
        Self::Norm,
        Self::Activation,
        Self::TopK,
        Self::Copy,
    ];

    /// The law whose constants a measurement says something of.
    #[must_use]
    pub fn of(row: &Measured) -> Option<Self> {
        Some(match &row.case {
            Case::Gemm { .. } => Self::Gemm,
            Case::Prefill(..) => Self::Prefill,
            Case::Decode(..) => Self::Decode,
            Case::Experts(case) if case.looped => return None,
            Case::Experts(case) if case.weights == Dtype::Fp8 => Self::ExpertsFp8,
            Case::Experts(_) => Self::Experts,
            Case::Norm { .. } => Self::Norm,
            Case::GatedActivation { .. } => Self::Activation,
            Case::TopK { .. } => Self::TopK,
            Case::Copy(_) => Self::Copy,
            _ => return None,
        })
    }

    /// Its place in a stack of a catalog file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gemm => "gemm",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
            Self::Experts => "experts",
            Self::ExpertsFp8 => "experts_fp8",
            Self::Norm => "norm",
            Self::Activation => "activation",
            Self::TopK => "top_k",
            Self::Copy => "copy",
        }
    }

    /// Every constant that can be free in it, those first that any measurement needs.
    ///
    /// 8-bit experts have the constants of the 16-bit ones, at their own rate.
    #[must_use]
    pub fn parameters(self) -> &'static [Parameter] {
        match self {
            Self::Gemm => GEMM,
            Self::Prefill => PREFILL,
            Self::Decode => DECODE,
            Self::Experts | Self::ExpertsFp8 => EXPERTS,
            Self::Norm => NORM,
            Self::Activation => ACTIVATION,
            Self::TopK => TOP_K,
            Self::Copy => COPY,
        }
    }

    /// What so many measurements decide: with few of them the finer constants are kept.
    #[must_use]
    pub fn free(self, rows: usize) -> &'static [Parameter] {
        let all = self.parameters();
        let first = match self {
            Self::Gemm | Self::Decode => 8,
            Self::Prefill => 6,
            Self::Experts | Self::ExpertsFp8 => 7,
            Self::Norm => 3,
            Self::Activation | Self::TopK | Self::Copy => all.len(),
        };
        let each = if self == Self::Norm { 3 } else { ROWS_PER_CONSTANT };
        if rows < each * all.len() { &all[..first] } else { all }
    }

    /// Starting points that differ in what a search cannot change or would not find: block
    /// heights, and whether a library keeps large tiles.
    #[must_use]
    pub fn variants(self, stack: &Stack) -> Vec<Stack> {
        let mut variants = vec![stack.clone()];
        if self == Self::Gemm && stack.gemm.constants.keeps == KeptTiles::NEVER {
            let mut variant = stack.clone();
            variant.gemm.constants.keeps = KeptTiles { from: 0.5, depth: 8000.0, full: 0.7 };
            variant.gemm.constants.vector_start = Seconds::new(3e-6);
            variants.push(variant);
        }
        if matches!(self, Self::Experts | Self::ExpertsFp8) {
            for heights in [[64.0, 128.0, 128.0], [16.0, 64.0, 128.0], [128.0, 256.0, 256.0]] {
                if heights
                    .iter()
                    .zip(stack.experts.constants.block_rows)
                    .any(|(a, b)| (a - b).abs() > 0.5)
                {
                    let mut variant = stack.clone();
                    variant.experts.constants.block_rows = heights;
                    variants.push(variant);
                }
            }
        }
        variants
    }

    /// What of a measurement is held out as a whole, as numbers that name it.
    #[must_use]
    pub fn shape(self, row: &Measured) -> Vec<u64> {
        let numbers: Vec<f64> = match &row.case {
            Case::Gemm { n, k, .. } => vec![*n, *k],
            Case::Prefill(heads, _) | Case::Decode(heads, _) => {
                vec![heads.query, heads.kv, heads.qk_width]
            }
            Case::Experts(case) => {
                let local = match &case.loads {
                    Loads::Counts { tokens, .. } => tokens.len() as f64,
                    Loads::Drawn(drawn) => f64::from(drawn.devices),
                };
                vec![case.hidden, case.intermediate, local]
            }
            Case::Norm { rows, width } | Case::GatedActivation { rows, width } => {
                vec![*rows, *width]
            }
            Case::TopK { tokens, experts } => vec![*tokens, *experts],
            Case::Copy(bytes) => vec![bytes.get()],
            _ => Vec::new(),
        };
        numbers.into_iter().map(f64::to_bits).collect()
    }

    /// The times of some measurements under a stack, by the laws that answer questions.
    #[must_use]
    pub fn times(self, samples: &[Sample], device: &Device, stack: &Stack) -> Vec<f64> {
        let laws = Laws::bind(device, stack, &compute::BF16);
        samples
            .iter()
            .map(|sample| match &sample.row.case {
                Case::Experts(case) => {
                    let law = experts::law_of(case, device, stack);
                    experts::mean_time(&law, &sample.draws).get()
                }
                case => compute::time(case, &laws).map_or(f64::NAN, Seconds::get),
            })
            .collect()
    }
}

/// A measurement with the loads its experts had, draw by draw.
#[derive(Debug, Clone)]
pub struct Sample<'a> {
    /// The measurement.
    pub row: &'a Measured,
    /// Tokens of each local expert; empty where there are no experts.
    pub draws: Vec<Vec<f64>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use moe_gps_core::cost::sample;

    #[test]
    fn what_is_written_is_read_back_and_shipped_like_constants_are_in_bounds() {
        for family in Family::ALL {
            let mut stack = sample::device().stacks[0].clone();
            for parameter in family.parameters() {
                let value = (parameter.get)(&stack);
                assert!(
                    (parameter.low..=parameter.high).contains(&value),
                    "{} {}: {value}",
                    family.name(),
                    parameter.name
                );
                (parameter.set)(&mut stack, parameter.low);
                assert!(((parameter.get)(&stack) - parameter.low).abs() < 1e-30);
            }
        }
    }
}
