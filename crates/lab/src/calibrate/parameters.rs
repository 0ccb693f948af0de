//! What is free in every law of one device, and between which bounds.
//!
//! Constants of a number format, and of latent attention, are fitted in the place of the 16-bit ones
//! of a stack that has no others: the laws then take them for whatever format is asked.

use crate::validate::measured::{Case, Loads, Measured, Op};
use crate::validate::{compute, experts};
use moe_gps_core::cost::Laws;
use moe_gps_core::cost::gemm::KeptTiles;
use moe_gps_core::hardware::{Device, Stack};
use moe_gps_core::system::{Operands, Phase};
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
    /// The kernel of latent attention over whole prompts.
    LatentPrefill,
    /// The kernel of latent attention of one new token per sequence.
    LatentDecode,
    /// The module around the former.
    LatentPrefillBlock,
    /// The module around the latter.
    LatentDecodeBlock,
    /// Routed experts.
    Experts,
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

/// Constants of a module around latent attention, the only ones of such a list that a fit has.
macro_rules! of_modules {
    ($constant:ident, $list:ident: $($field:ident $name:literal $low:literal $high:literal;)*) => {
        static $constant: &[Parameter] = &[$(Parameter {
            name: $name,
            low: $low,
            high: $high,
            get: |stack| {
                stack.formats.$list.first().map_or(0.0, |(_, fit)| fit.constants.$field.number())
            },
            set: |stack, value| {
                for (_, fit) in &mut stack.formats.$list {
                    fit.constants.$field = Number::from_number(value);
                }
            },
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
    split "split_s" 1e-9 1e-2;
    quantisation "quantisation" 1e-4 1.0;
    ramp "ramp_s" 1e-9 1e-3;
    vector_start "vector_start_s" 1e-8 1e-3;
    keeps.from "keep_from" 0.05 4.0;
    keeps.depth "keep_depth" 1.0 1e5;
    keeps.full "keep_full" 0.05 4.0;
    input_row "input_row_s" 1e-13 1e-6;
    input_passes "input_passes" 1e-4 100.0;
    few.rows "few_rows" 0.5 64.0;
    few.least "few_least_s" 1e-8 1e-2;
    host "host_s" 1e-9 1e-2;
);
parameters!(PREFILL, prefill:
    start "start_s" 1e-8 1e-3;
    compute "compute" 0.01 1.0;
    memory "memory" 0.01 5.0;
    block_overhead "block_overhead" 1e-4 100.0;
    softmax_width "softmax_width" 1e-2 1e3;
    window_blocks "window_blocks" 1e-2 10.0;
    kv_passes "kv_passes" 1e-3 50.0;
    ramp "ramp_s" 1e-9 1e-3;
    tail "tail" 1e-4 1.0;
    sustained "sustained" 1e-4 10.0;
    per_token "per_token_s" 1e-13 1e-6;
    row_tile "row_tile" 1.0 128.0;
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
    query_passes "query_passes" 1e-3 100.0;
    head_tile "head_tile" 1.0 1e9;
    most_group "most_group" 1.0 1e9;
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

of_modules!(PREFILL_BLOCK, latent_prefill_block:
    start "start_s" 1e-8 1e-3;
    passes "passes" 1e-3 100.0;
    quantise_start "quantise_start_s" 1e-8 1e-3;
    quantise_passes "quantise_passes" 1e-3 100.0;
);
of_modules!(DECODE_BLOCK, latent_decode_block:
    start "start_s" 1e-8 1e-3;
    passes "passes" 1e-3 100.0;
    quantise_start "quantise_start_s" 1e-8 1e-3;
    quantise_passes "quantise_passes" 1e-3 100.0;
);

impl Family {
    /// Every law.
    pub const ALL: [Self; 12] = [
        Self::Gemm,
        Self::Prefill,
        Self::Decode,
        Self::LatentPrefill,
        Self::LatentDecode,
        Self::LatentPrefillBlock,
        Self::LatentDecodeBlock,
        Self::Experts,
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
            Case::Prefill(..) if row.op == Op::LatentAttentionPrefill => Self::LatentPrefill,
            Case::Decode(..) if row.op == Op::LatentAttentionDecode => Self::LatentDecode,
            Case::Prefill(..) => Self::Prefill,
            Case::Decode(..) => Self::Decode,
            Case::LatentBlock(case) => match case.phase {
                Phase::Prefill => Self::LatentPrefillBlock,
                Phase::Decode => Self::LatentDecodeBlock,
            },
            Case::Experts(case) if case.looped => return None,
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
            Self::LatentPrefill => "latent_prefill",
            Self::LatentDecode => "latent_decode",
            Self::LatentPrefillBlock => "latent_prefill_block",
            Self::LatentDecodeBlock => "latent_decode_block",
            Self::Experts => "experts",
            Self::Norm => "norm",
            Self::Activation => "activation",
            Self::TopK => "top_k",
            Self::Copy => "copy",
        }
    }

    /// The kernel inside a module of latent attention.
    #[must_use]
    pub const fn kernel(self) -> Option<Self> {
        match self {
            Self::LatentPrefillBlock => Some(Self::LatentPrefill),
            Self::LatentDecodeBlock => Some(Self::LatentDecode),
            _ => None,
        }
    }

    /// Every constant that can be free in it, those first that any measurement needs.
    #[must_use]
    pub fn parameters(self) -> &'static [Parameter] {
        match self {
            Self::Gemm => GEMM,
            Self::Prefill | Self::LatentPrefill => PREFILL,
            Self::Decode | Self::LatentDecode => DECODE,
            Self::LatentPrefillBlock => PREFILL_BLOCK,
            Self::LatentDecodeBlock => DECODE_BLOCK,
            Self::Experts => EXPERTS,
            Self::Norm => NORM,
            Self::Activation => ACTIVATION,
            Self::TopK => TOP_K,
            Self::Copy => COPY,
        }
    }

    /// What the measurements decide: with few of them the finer constants are kept, and those that
    /// none of them speaks of.
    #[must_use]
    pub fn free(self, samples: &[Sample]) -> Vec<&'static Parameter> {
        let all = self.parameters();
        let first = match self {
            Self::Gemm | Self::Decode | Self::LatentDecode => 8,
            Self::Prefill | Self::LatentPrefill => 6,
            Self::Experts => 7,
            Self::Norm => 3,
            Self::LatentPrefillBlock
            | Self::LatentDecodeBlock
            | Self::Activation
            | Self::TopK
            | Self::Copy => all.len(),
        };
        let each = if self == Self::Norm { 3 } else { ROWS_PER_CONSTANT };
        let decided = if samples.len() < each * all.len() { &all[..first] } else { all };
        let quantised = samples.iter().any(|sample| !sample.row.operands.computed.is_wide());
        let speaks = |parameter: &&'static Parameter| match parameter.name {
            "input_row_s" | "input_passes" => quantised,
            "softmax_width" => has_several_widths(samples),
            // Found among the measurements, not searched for.
            "window_blocks" => samples.iter().any(has_window),
            "few_rows" | "few_least_s" | "host_s" | "head_tile" | "most_group" | "row_tile" => {
                false
            }
            _ => true,
        };
        let finer = all[first..].iter().filter(|_| samples.len() >= each * first);
        let finer =
            finer.filter(|parameter| matches!(parameter.name, "input_row_s" | "input_passes"));
        let more: Vec<_> = if decided.len() == first { finer.collect() } else { Vec::new() };
        decided.iter().chain(more).filter(speaks).collect()
    }

    /// Starting points that differ in what a search cannot change or would not find: block heights,
    /// tiles of heads, whether a library keeps large tiles, splits products or quantises first.
    #[must_use]
    pub fn variants(self, samples: &[Sample], stack: &Stack, free: &[&Parameter]) -> Vec<Stack> {
        let mut variants = vec![stack.clone()];
        let mut also = |change: &dyn Fn(&mut Stack)| {
            let mut changed = variants.clone();
            changed.iter_mut().for_each(change);
            variants.extend(changed);
        };
        match self {
            Self::Gemm => {
                if stack.gemm.constants.keeps == KeptTiles::NEVER {
                    also(&|stack| {
                        stack.gemm.constants.keeps =
                            KeptTiles { from: 0.5, depth: 8000.0, full: 0.7 };
                        stack.gemm.constants.vector_start = Seconds::new(3e-6);
                    });
                }
                if samples.iter().any(|sample| !sample.row.operands.computed.is_wide()) {
                    also(&|stack| stack.gemm.constants.split = Seconds::new(1e-3));
                    let timed = variants.iter_mut();
                    for stack in timed.filter(|of| of.gemm.constants.host <= Seconds::ZERO) {
                        let constants = &mut stack.gemm.constants;
                        constants.input_row = constants.input_row.max(Seconds::new(1e-9));
                        constants.input_passes = constants.input_passes.max(0.5);
                    }
                }
            }
            Self::Prefill | Self::LatentPrefill => {
                if has_several_widths(samples) {
                    for stack in &mut variants {
                        let constants = &mut stack.prefill.constants;
                        constants.softmax_width = constants.softmax_width.max(60.0);
                    }
                }
                let whole = variants.clone();
                for tokens in [64.0, 16.0] {
                    variants.extend(whole.iter().cloned().map(|mut stack| {
                        stack.prefill.constants.row_tile = tokens;
                        stack
                    }));
                }
            }
            Self::Decode | Self::LatentDecode => {
                for stack in &mut variants {
                    let constants = &mut stack.decode.constants;
                    constants.query_passes = constants.query_passes.max(1.0);
                    constants.head_tile = WHOLE_GROUP;
                    constants.most_group = WHOLE_GROUP;
                }
                for (heads, group) in [(16.0, WHOLE_GROUP), (64.0, WHOLE_GROUP), (16.0, 32.0)] {
                    let mut tiled = stack.clone();
                    tiled.decode.constants.query_passes = 1.0;
                    tiled.decode.constants.head_tile = heads;
                    tiled.decode.constants.most_group = group;
                    variants.push(tiled);
                }
            }
            // A kernel that is fitted inside its module: streams that wait for parts, or for memory alone.
            // One that was fitted by itself stays as it is, or the module would be fitted to another.
            Self::LatentDecodeBlock if free.len() > self.parameters().len() => also(&|stack| {
                let constants = &mut stack.decode.constants;
                constants.part_overhead = Seconds::new(1e-8);
                constants.part_load = BytesPerSecond::new(1e13);
                constants.merge = Seconds::new(1e-8);
            }),
            Self::Experts => {
                for heights in [[64.0, 128.0, 128.0], [16.0, 64.0, 128.0], [128.0, 256.0, 256.0]] {
                    let mut variant = stack.clone();
                    variant.experts.constants.block_rows = heights;
                    if variant.experts.constants != stack.experts.constants {
                        variants.push(variant);
                    }
                }
            }
            _ => {}
        }
        variants
    }

    /// What of a measurement is held out as a whole, as numbers that name it.
    #[must_use]
    pub fn shape(self, row: &Measured) -> Vec<u64> {
        let numbers: Vec<f64> = match &row.case {
            Case::Gemm { n, k, .. } => vec![*n, *k],
            Case::Prefill(heads, span) | Case::Decode(heads, span) => {
                vec![heads.query, heads.kv, heads.qk_width, span.window.unwrap_or(0.0)]
            }
            Case::LatentBlock(case) => vec![case.heads],
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
        let mut bound: Vec<([Operands; 2], Laws)> = Vec::new();
        let mut time = |row: &Measured| {
            let formats = [row.operands, compute::projections(row)];
            let at = bound.iter().position(|(of, _)| *of == formats).unwrap_or_else(|| {
                bound.push((formats, Laws::bind(device, stack, &compute::dtypes(row))));
                bound.len() - 1
            });
            compute::time(row, &bound[at].1).map_or(f64::NAN, Seconds::get)
        };
        samples
            .iter()
            .map(|sample| match &sample.row.case {
                Case::Experts(case) => {
                    let law = experts::law_of(case, sample.row.operands, device, stack);
                    experts::mean_time(&law, &sample.draws).get()
                }
                _ => time(sample.row),
            })
            .collect()
    }
}

/// Whether attention was measured over heads of several widths.
fn has_several_widths(samples: &[Sample]) -> bool {
    let mut widths = samples.iter().filter_map(|sample| match &sample.row.case {
        Case::Prefill(heads, _) => Some(heads.qk_width.to_bits()),
        _ => None,
    });
    let first = widths.next();
    widths.any(|width| Some(width) != first)
}

fn has_window(sample: &Sample) -> bool {
    matches!(&sample.row.case, Case::Prefill(_, span) if span.window.is_some())
}

/// A tile of heads that no group exceeds.
const WHOLE_GROUP: f64 = 1e9;

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
    use moe_gps_core::cost::{latent::LatentBlockConstants, sample};
    use moe_gps_core::hardware::Fit;

    #[test]
    fn what_is_written_is_read_back_and_shipped_like_constants_are_in_bounds() {
        for family in Family::ALL {
            let mut stack = sample::device().stacks[0].clone();
            let gemm = &stack.gemm;
            let block = Fit {
                constants: LatentBlockConstants::NONE,
                band: gemm.band,
                basis: gemm.basis,
                provenance: gemm.provenance.clone(),
            };
            stack.formats.latent_prefill_block = vec![(Operands::BF16, block.clone())];
            stack.formats.latent_decode_block = vec![(Operands::BF16, block)];
            for parameter in family.parameters() {
                let value = (parameter.get)(&stack);
                assert!(
                    // Zero and what is not finite stand for what a kernel does not do.
                    value == 0.0
                        || !value.is_finite()
                        || (parameter.low..=parameter.high).contains(&value),
                    "{} {}: {value}",
                    family.name(),
                    parameter.name
                );
                (parameter.set)(&mut stack, parameter.low);
                assert!(((parameter.get)(&stack) - parameter.low).abs() < 1e-30);
            }
        }
    }

    #[test]
    fn a_module_is_fitted_beside_its_kernel_as_that_is() {
        let stack = sample::device().stacks[0].clone();
        let module = Family::LatentDecodeBlock;
        let own: Vec<&Parameter> = module.parameters().iter().collect();
        assert_eq!(module.variants(&[], &stack, &own), std::slice::from_ref(&stack));
        // Where the kernel is fitted inside its module, another start of it is tried.
        let both: Vec<&Parameter> = own.into_iter().chain(DECODE).collect();
        let starts = module.variants(&[], &stack, &both);
        assert_eq!(starts.len(), 2);
        assert_ne!(starts[1].decode, stack.decode);
    }
}
