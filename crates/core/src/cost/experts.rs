//! The routed experts of one device: grouped matrix products over uneven loads.
//!
//! # Law
//!
//! Weights of an expert are read once if it has any token; its tokens are computed in
//! blocks of m rows. For an active expert with n tokens and for each block height m the
//! kernel may use:
//!
//! ```text
//! compute(n) = ceil(n/m) · Σ_matrices ceil(N/128) · tile / S
//! tile       = max(2·m·128·K / (η·P/S), (m+128)·K·b / w)
//! memory(n)  = (weights + n·row bytes) / (β·BW)
//! work       = Σ_experts sqrt(compute² + memory²)
//! t          = t0 + min over m of max(work, waves) + rows seen · bytes / (β_rows·BW)
//! waves      = Σ_matrices (q·ceil(c) + (1−q)·max(1, c)) · tile,  c = blocks·ceil(N/128)/S
//! ```
//!
//! The sum over experts is what makes the law separable: [`ExpertLaw::piece`] prices one
//! expert, pieces add, and [`ExpertLaw::time`] closes the sum, so thousands of placements
//! are priced without walking shapes again. Summing sqrt(compute² + memory²) per expert,
//! not over all of them, says that a memory-bound small expert hides little behind a
//! compute-bound large one: on H200 grouped products that explains uneven loads better.
//!
//! # Symbols
//!
//! S multiprocessors, P peak rate, BW memory bandwidth, η, β, `β_rows` shares reached, w
//! load rate of one multiprocessor, q quantisation of waves, (N, K) = (2i, h) and (h, i)
//! for gated experts of width i in a model of width h ((i, h) and (h, i) otherwise). The
//! last term of t is gathering, activating and summing token rows in kernels of their own.
//!
//! # Validity
//!
//! Tokens ≥ 0, fractional where expected counts are priced. Benchmarks with all weights
//! in the cache (two small experts per device) run faster than this; serving does not.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul};

use crate::cost::round_up;
use crate::hardware::{Chosen, Device};
use crate::price::{Basis, Price};
use crate::system::{Dtype, Operands};
use crate::units::{BytesPerSecond, Seconds};

/// Block heights a kernel may choose from, at most; unused ones repeat the last.
const HEIGHTS: usize = 3;

/// Columns of a tile.
const COLUMNS: f64 = 128.0;

/// Fitted constants of the expert law.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpertConstants {
    /// Start-up of all kernels of the block, t0.
    pub start: Seconds,
    /// Share of the peak rate reached, η.
    pub compute: f64,
    /// Share of the memory bandwidth reached by weights, β.
    pub memory: f64,
    /// Load rate of one multiprocessor, w.
    pub tile_load: BytesPerSecond,
    /// Share of the memory bandwidth reached by token rows, `β_rows`.
    pub row_memory: f64,
    /// Passes over the rows of routed pairs by kernels of their own: 1 where gather,
    /// activation and sum are separate, 0 where only the products were measured.
    pub row_passes: f64,
    /// Passes over every token the kernel sees, whether it has work here or not.
    pub seen_passes: f64,
    /// How strictly waves are quantised, q in [0, 1].
    pub quantisation: f64,
    /// Block heights the kernel chooses from; the last one repeats.
    pub block_rows: [f64; HEIGHTS],
    /// Whether rows of pairs computed elsewhere are walked as well (Triton kernels).
    pub walks_all_pairs: bool,
}

/// Shape and formats of the experts of one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpertShape {
    /// Width of the residual stream, h.
    pub hidden: f64,
    /// Width of one expert on this device, i: its width over `expert_tensor`.
    pub intermediate: f64,
    /// Three matrices instead of two.
    pub gated: bool,
    /// Formats of the weights and of what they are multiplied with.
    pub operands: Operands,
    /// Format of the token rows between products.
    pub rows: Dtype,
}

/// The tokens a device's expert kernels walk over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Seen {
    /// Only the (token, expert) pairs routed here, as after an all-to-all.
    Routed,
    /// All tokens of the group, as where every device holds every token.
    Group {
        /// Tokens held here.
        tokens: f64,
        /// (token, expert) pairs of those tokens, over all experts.
        pairs: f64,
    },
}

/// The expert law bound to a device, a shape and the tokens in sight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpertLaw {
    start: f64,
    weight_time: f64,
    row_time: f64,
    /// Compute time of one block of rows, per block height.
    block_time: [f64; HEIGHTS],
    /// Reciprocal block heights.
    per_row: [f64; HEIGHTS],
    /// Tiles of one block over multiprocessors, up and down.
    tiles: [f64; 2],
    /// Time of one tile, per block height, up and down.
    tile_time: [[f64; 2]; HEIGHTS],
    quantisation: f64,
    seen_time: f64,
    moved_time: f64,
    band: f64,
    basis: Basis,
}

/// The work of some experts of one device; adds up.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ExpertWork {
    sums: [f64; HEIGHTS],
    blocks: [f64; HEIGHTS],
    tokens: f64,
}

impl Add for ExpertWork {
    type Output = Self;
    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl AddAssign for ExpertWork {
    fn add_assign(&mut self, other: Self) {
        for j in 0..HEIGHTS {
            self.sums[j] += other.sums[j];
            self.blocks[j] += other.blocks[j];
        }
        self.tokens += other.tokens;
    }
}

/// So many times the work, as where experts are met with that probability.
impl Mul<f64> for ExpertWork {
    type Output = Self;
    fn mul(self, times: f64) -> Self {
        Self {
            sums: self.sums.map(|sum| sum * times),
            blocks: self.blocks.map(|blocks| blocks * times),
            tokens: self.tokens * times,
        }
    }
}

impl Sum for ExpertWork {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}

impl ExpertLaw {
    /// Binds constants to a device, a shape and the tokens in sight.
    #[must_use]
    pub fn bind(
        chosen: &Chosen<ExpertConstants>,
        device: &Device,
        shape: &ExpertShape,
        seen: Seen,
    ) -> Self {
        let c = &chosen.fit.constants;
        let (h, i) = (shape.hidden, shape.intermediate);
        let (up, matrices) = if shape.gated { (2.0 * i, 3.0) } else { (i, 2.0) };
        let products = [(up, h), (h, i)];
        let multiprocessors = f64::from(device.multiprocessors);
        let Operands { stored, computed } = shape.operands;
        let per_pair = 2.0 * multiprocessors / (c.compute * device.peak.of(computed).get());
        let bandwidth = device.bandwidth.get();
        let row = shape.rows.bytes();
        let tile_time = c.block_rows.map(|m| {
            products.map(|(_, k)| {
                let load = (m + COLUMNS) * k * stored.bytes() / c.tile_load.get();
                (m * COLUMNS * k * per_pair).max(load)
            })
        });
        let tiles = products.map(|(n, _)| (n / COLUMNS).ceil() / multiprocessors);
        let moved = c.row_passes * (3.0 * h + up + i) * row / (c.row_memory * bandwidth);
        let (seen_tokens, foreign_pairs) = match seen {
            Seen::Routed => (0.0, 0.0),
            Seen::Group { tokens, pairs } => (tokens, if c.walks_all_pairs { pairs } else { 0.0 }),
        };
        let walks_group = foreign_pairs > 0.0;
        Self {
            start: c.start.get(),
            weight_time: matrices * h * i * stored.bytes() / (c.memory * bandwidth),
            row_time: (2.0 * h + up + i) * row / (c.memory * bandwidth),
            block_time: tile_time.map(|t| t[0] * tiles[0] + t[1] * tiles[1]),
            per_row: c.block_rows.map(f64::recip),
            tiles,
            tile_time,
            quantisation: c.quantisation,
            seen_time: foreign_pairs * moved
                + c.seen_passes * seen_tokens * h * row / (c.row_memory * bandwidth),
            moved_time: if walks_group { 0.0 } else { moved },
            band: chosen.band(),
            basis: chosen.basis(),
        }
    }

    /// The same law with a band that reaches to that of `own`, which takes so many times as long.
    pub(super) fn covering(self, own: &Self, slower: f64) -> Self {
        Self { band: self.band.max(slower * (1.0 + own.band) - 1.0), ..self }
    }

    /// The same law where memory takes `memory` times as long, and arithmetic `compute` times:
    /// the number of tokens at which the one gives way to the other moves.
    #[must_use]
    pub fn slower(&self, memory: f64, compute: f64) -> Self {
        Self {
            weight_time: self.weight_time * memory,
            row_time: self.row_time * memory,
            seen_time: self.seen_time * memory,
            moved_time: self.moved_time * memory,
            block_time: self.block_time.map(|time| time * compute),
            tile_time: self.tile_time.map(|times| times.map(|time| time * compute)),
            ..*self
        }
    }

    /// The work of one expert with that many tokens; zero tokens, no work.
    #[must_use]
    pub fn piece(&self, tokens: f64) -> ExpertWork {
        let mut work = ExpertWork::default();
        if tokens <= 0.0 {
            return work;
        }
        work.tokens = tokens;
        let memory = self.weight_time + tokens * self.row_time;
        for j in 0..HEIGHTS {
            let blocks = round_up(tokens * self.per_row[j]);
            let compute = blocks * self.block_time[j];
            work.blocks[j] = blocks;
            work.sums[j] = (compute * compute + memory * memory).sqrt();
        }
        work
    }

    /// The time of all experts whose work was summed; no work costs start-up and the
    /// walk over tokens in sight.
    #[must_use]
    pub fn time(&self, work: ExpertWork) -> Seconds {
        let mut best = f64::INFINITY;
        for j in 0..HEIGHTS {
            // Waves only add to it; nor is a repeated height looked at.
            if work.sums[j] >= best {
                continue;
            }
            let mut waves = 0.0;
            if work.blocks[j] > 0.0 {
                for g in 0..2 {
                    let count = work.blocks[j] * self.tiles[g];
                    waves += self.tile_time[j][g]
                        * (self.quantisation * round_up(count)
                            + (1.0 - self.quantisation) * count.max(1.0));
                }
            }
            best = best.min(work.sums[j].max(waves));
        }
        Seconds::new(self.start + best + work.tokens * self.moved_time + self.seen_time)
    }

    /// The same with its error band.
    #[must_use]
    pub fn price(&self, work: ExpertWork) -> Price {
        Price { time: self.time(work), band: self.band, basis: self.basis }
    }
}
