//! The sets of constants in a device file, one struct per operator, units in the names.

use serde::Deserialize;

use crate::cost::attention::{DecodeConstants, PrefillConstants};
use crate::cost::elementwise::{RowConstants, TopKConstants};
use crate::cost::experts::ExpertConstants;
use crate::cost::gemm::{FewRows, GemmConstants, KeptTiles};
use crate::cost::latent::LatentBlockConstants;
use crate::cost::predictor::RecurrentConstants;
use crate::hardware::{Fit, Provenance};
use crate::price::Basis;
use crate::units::{Bytes, BytesPerSecond, Seconds};

/// One named set: constants and where they come from.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section<C> {
    framework: String,
    version: String,
    kernel: String,
    source: String,
    date: String,
    #[serde(default)]
    rows: u32,
    mean_error: Option<f64>,
    held_out_error: Option<f64>,
    band: f64,
    basis: BasisName,
    constants: C,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum BasisName {
    Fitted,
    Roofline,
}

/// Constants as they stand in a file.
pub(super) trait Constants {
    /// The same in the domain.
    type Domain;
    /// Converts, or names the rule that is broken.
    fn to_domain(&self) -> Result<Self::Domain, String>;
}

impl<C: Constants> Section<C> {
    pub(super) fn to_fit(&self) -> Result<Fit<C::Domain>, String> {
        positive("band", self.band)?;
        Ok(Fit {
            constants: self.constants.to_domain()?,
            band: self.band,
            basis: match self.basis {
                BasisName::Fitted => Basis::Fitted,
                BasisName::Roofline => Basis::Roofline,
            },
            provenance: Provenance {
                framework: self.framework.clone(),
                version: self.version.clone(),
                kernel: self.kernel.clone(),
                source: self.source.clone(),
                date: self.date.clone(),
                rows: self.rows,
                mean_error: self.mean_error,
                held_out_error: self.held_out_error,
            },
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gemm {
    start_s: f64,
    compute: f64,
    memory: f64,
    tile_load_bytes_per_s: f64,
    tile_overhead_s: f64,
    split_s: f64,
    quantisation: f64,
    ramp_s: f64,
    /// Absent where one row has no kernel of its own.
    vector_start_s: Option<f64>,
    /// Absent where the fastest tile is taken.
    keep_from: Option<f64>,
    keep_depth: Option<f64>,
    keep_full: Option<f64>,
    /// Absent where A is not quantised first.
    #[serde(default)]
    input_row_s: f64,
    #[serde(default)]
    input_passes: f64,
    /// Absent where few rows have no kernel of their own.
    #[serde(default)]
    few_rows: f64,
    #[serde(default)]
    few_least_s: f64,
    /// Absent where kernels were timed, not launches.
    #[serde(default)]
    host_s: f64,
}

impl Constants for Gemm {
    type Domain = GemmConstants;
    fn to_domain(&self) -> Result<GemmConstants, String> {
        Ok(GemmConstants {
            start: time("start_s", self.start_s)?,
            compute: share("compute", self.compute)?,
            memory: share("memory", self.memory)?,
            tile_load: rate("tile_load_bytes_per_s", self.tile_load_bytes_per_s)?,
            tile_overhead: time("tile_overhead_s", self.tile_overhead_s)?,
            split: time("split_s", self.split_s)?,
            quantisation: fraction("quantisation", self.quantisation)?,
            ramp: time("ramp_s", self.ramp_s)?,
            vector_start: self
                .vector_start_s
                .map_or(Ok(Seconds::new(f64::INFINITY)), |s| time("vector_start_s", s))?,
            keeps: match (self.keep_from, self.keep_depth, self.keep_full) {
                (None, None, None) => KeptTiles::NEVER,
                (Some(from), Some(depth), Some(full)) => KeptTiles {
                    from: positive("keep_from", from)?,
                    depth: not_negative("keep_depth", depth)?,
                    full: positive("keep_full", full)?,
                },
                _ => return Err("has one of keep_from, keep_depth, keep_full: give all".to_owned()),
            },
            input_row: time("input_row_s", self.input_row_s)?,
            input_passes: not_negative("input_passes", self.input_passes)?,
            few: FewRows {
                rows: not_negative("few_rows", self.few_rows)?,
                least: time("few_least_s", self.few_least_s)?,
            },
            host: time("host_s", self.host_s)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prefill {
    start_s: f64,
    compute: f64,
    memory: f64,
    /// Absent where blocks are whole.
    row_tile: Option<f64>,
    /// Absent where a window reads one block besides its own.
    window_blocks: Option<f64>,
    /// Absent where heads are as wide as those that were measured.
    #[serde(default)]
    softmax_width: f64,
    block_overhead: f64,
    tail: f64,
    sustained: f64,
    kv_passes: f64,
    ramp_s: f64,
    per_token_s: f64,
}

impl Constants for Prefill {
    type Domain = PrefillConstants;
    fn to_domain(&self) -> Result<PrefillConstants, String> {
        Ok(PrefillConstants {
            start: time("start_s", self.start_s)?,
            compute: share("compute", self.compute)?,
            memory: positive("memory", self.memory)?,
            row_tile: positive("row_tile", self.row_tile.unwrap_or(128.0))?,
            window_blocks: not_negative("window_blocks", self.window_blocks.unwrap_or(1.0))?,
            softmax_width: not_negative("softmax_width", self.softmax_width)?,
            block_overhead: not_negative("block_overhead", self.block_overhead)?,
            tail: fraction("tail", self.tail)?,
            sustained: not_negative("sustained", self.sustained)?,
            kv_passes: not_negative("kv_passes", self.kv_passes)?,
            ramp: time("ramp_s", self.ramp_s)?,
            per_token: time("per_token_s", self.per_token_s)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Decode {
    start_s: f64,
    memory: f64,
    grouped_bytes: f64,
    compute: f64,
    part_load_bytes_per_s: f64,
    part_overhead_s: f64,
    ungrouped: f64,
    chunk_tokens: f64,
    most_parts: f64,
    part_rounds: f64,
    merge_s: f64,
    ramp_s: f64,
    ramp_bytes: f64,
    ramp_power: f64,
    ramp_streams: f64,
    gather_s: f64,
    split_context_tokens: f64,
    split_streams: f64,
    /// Absent where one part serves every head.
    head_tile: Option<f64>,
    /// Absent where parts serve any group.
    most_group: Option<f64>,
    #[serde(default)]
    query_passes: f64,
}

impl Constants for Decode {
    type Domain = DecodeConstants;
    fn to_domain(&self) -> Result<DecodeConstants, String> {
        Ok(DecodeConstants {
            start: time("start_s", self.start_s)?,
            memory: positive("memory", self.memory)?,
            grouped_bytes: positive("grouped_bytes", self.grouped_bytes)?,
            compute: share("compute", self.compute)?,
            part_load: rate("part_load_bytes_per_s", self.part_load_bytes_per_s)?,
            part_overhead: time("part_overhead_s", self.part_overhead_s)?,
            ungrouped: not_negative("ungrouped", self.ungrouped)?,
            chunk: positive("chunk_tokens", self.chunk_tokens)?,
            most_parts: positive("most_parts", self.most_parts)?,
            part_rounds: positive("part_rounds", self.part_rounds)?,
            merge: time("merge_s", self.merge_s)?,
            ramp: time("ramp_s", self.ramp_s)?,
            ramp_bytes: positive("ramp_bytes", self.ramp_bytes).map(Bytes::new)?,
            ramp_power: positive("ramp_power", self.ramp_power)?,
            ramp_streams: not_negative("ramp_streams", self.ramp_streams)?,
            gather: time("gather_s", self.gather_s)?,
            split_context: not_negative("split_context_tokens", self.split_context_tokens)?,
            split_streams: not_negative("split_streams", self.split_streams)?,
            head_tile: self.head_tile.map_or(Ok(f64::INFINITY), |t| positive("head_tile", t))?,
            most_group: self.most_group.map_or(Ok(f64::INFINITY), |g| positive("most_group", g))?,
            query_passes: not_negative("query_passes", self.query_passes)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    start_s: f64,
    passes: f64,
    quantise_start_s: f64,
    quantise_passes: f64,
}

impl Constants for Block {
    type Domain = LatentBlockConstants;
    fn to_domain(&self) -> Result<LatentBlockConstants, String> {
        Ok(LatentBlockConstants {
            start: time("start_s", self.start_s)?,
            passes: not_negative("passes", self.passes)?,
            quantise_start: time("quantise_start_s", self.quantise_start_s)?,
            quantise_passes: not_negative("quantise_passes", self.quantise_passes)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recurrent {
    start_s: f64,
    step_s: f64,
}

impl Constants for Recurrent {
    type Domain = RecurrentConstants;
    fn to_domain(&self) -> Result<RecurrentConstants, String> {
        Ok(RecurrentConstants {
            start: time("start_s", self.start_s)?,
            step: time("step_s", self.step_s)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Experts {
    start_s: f64,
    compute: f64,
    memory: f64,
    tile_load_bytes_per_s: f64,
    row_memory: f64,
    row_passes: f64,
    seen_passes: f64,
    quantisation: f64,
    block_rows: [f64; 3],
    walks_all_pairs: bool,
}

impl Constants for Experts {
    type Domain = ExpertConstants;
    fn to_domain(&self) -> Result<ExpertConstants, String> {
        for rows in self.block_rows {
            positive("block_rows", rows)?;
        }
        Ok(ExpertConstants {
            start: time("start_s", self.start_s)?,
            compute: share("compute", self.compute)?,
            memory: share("memory", self.memory)?,
            tile_load: rate("tile_load_bytes_per_s", self.tile_load_bytes_per_s)?,
            row_memory: share("row_memory", self.row_memory)?,
            row_passes: not_negative("row_passes", self.row_passes)?,
            seen_passes: not_negative("seen_passes", self.seen_passes)?,
            quantisation: fraction("quantisation", self.quantisation)?,
            block_rows: self.block_rows,
            walks_all_pairs: self.walks_all_pairs,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowKernel {
    start_s: f64,
    /// Absent where memory alone counts.
    per_element_s: Option<f64>,
    /// Absent where a row is never split.
    split_rows: Option<f64>,
    /// Absent where a row costs its elements only.
    per_row_s: Option<f64>,
    memory: f64,
}

impl Constants for RowKernel {
    type Domain = RowConstants;
    fn to_domain(&self) -> Result<RowConstants, String> {
        Ok(RowConstants {
            start: time("start_s", self.start_s)?,
            per_element: time("per_element_s", self.per_element_s.unwrap_or(0.0))?,
            split_rows: not_negative("split_rows", self.split_rows.unwrap_or(0.0))?,
            per_row: time("per_row_s", self.per_row_s.unwrap_or(0.0))?,
            memory: share("memory", self.memory)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TopK {
    start_s: f64,
    memory: f64,
}

impl Constants for TopK {
    type Domain = TopKConstants;
    fn to_domain(&self) -> Result<TopKConstants, String> {
        Ok(TopKConstants {
            start: time("start_s", self.start_s)?,
            memory: share("memory", self.memory)?,
        })
    }
}

fn positive(field: &str, value: f64) -> Result<f64, String> {
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(format!("{field} is {value}: it must be a finite number above 0"))
    }
}

fn not_negative(field: &str, value: f64) -> Result<f64, String> {
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        Err(format!("{field} is {value}: it must be a finite number of 0 or more"))
    }
}

fn fraction(field: &str, value: f64) -> Result<f64, String> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(format!("{field} is {value}: it must lie between 0 and 1"))
    }
}

fn share(field: &str, value: f64) -> Result<f64, String> {
    positive(field, value)?;
    fraction(field, value)
}

fn time(field: &str, value: f64) -> Result<Seconds, String> {
    not_negative(field, value).map(Seconds::new)
}

fn rate(field: &str, value: f64) -> Result<BytesPerSecond, String> {
    positive(field, value).map(BytesPerSecond::new)
}
