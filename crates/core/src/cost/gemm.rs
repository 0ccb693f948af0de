//! Dense matrix products `C[m,n] = A[m,k]·B[k,n]` of one device.
//!
//! # Law
//!
//! A kernel cuts C into tiles of `bm` × `bn` and k into `s` parts. With `S`
//! multiprocessors and c = ceil(m/bm)·ceil(n/bn)·s tiles:
//!
//! ```text
//! waves  = q·ceil(c/S) + (1−q)·max(1, c/S)
//! tile   = max(2·bm·bn·(k/s) / (η·P/S), (bm+bn)·(k/s)·b / w) + o
//! memory = bytes / (β·BW) + r·(n·k·b) / (n·k·b + L2)
//! input  = m·i + v·m·k·b_out/BW
//! t      = t0 + input + ((waves·tile)⁴ + memory⁴)^¼ + [s > 1]·t_split
//! ```
//!
//! minimised over the tile shapes and splits that libraries ship. Bytes are those of A,
//! B and C once, each in its own format, plus the partial sums (fp32, written and read) of a
//! split.
//!
//! Some libraries do not take the fastest tile where k is short: from 200 rows on they
//! keep, unsplit, the largest tile of which there are at least f·S, up to a depth of
//! k0·min(1, (c/c0)⁴), but never take longer than the fastest tile does at that depth. One
//! row is a product with a vector, without tiles: tv + memory where that is less.
//!
//! Where A is quantised first, i is what a row of it costs and v how often its elements are passed.
//! A product of at most `few` rows may have a kernel of its own that takes no less than `t_few`.
//! Benchmarks that launch from the host take no less than the host does: [`GemmLaw::timed_by_host`]
//! says what they measure, and no question is priced with it.
//!
//! # Symbols
//!
//! P peak rate (FLOP/s), BW peak memory bandwidth (bytes/s), η and β the shares of them
//! that are reached, w what one multiprocessor can load from the cache (bytes/s), o the
//! prologue and epilogue of a tile (s), q how strictly waves are quantised, r what
//! reading a matrix costs beyond its bytes once it outgrows the cache (s: pipeline fill,
//! address translation), b bytes per element; f, c0 (tiles per multiprocessor) and k0 how
//! long a library keeps large tiles, tv the start-up of a product with a vector (s).
//!
//! # Validity
//!
//! m, n, k ≥ 1; fitted for 512 ≤ n, k ≤ 16384, 1 ≤ m ≤ 32768, format by format. A format that
//! was not measured has its own peak rate and bytes, the constants of another one and a wider band.

use crate::cost::{larger, round_up, smaller};
use crate::hardware::{Chosen, Device};
use crate::price::{Basis, Price};
use crate::system::{Dtype, Operands};
use crate::units::{BytesPerSecond, Seconds};

/// Fitted constants of the GEMM law.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GemmConstants {
    /// Start-up of the kernel, t0.
    pub start: Seconds,
    /// Share of the peak rate reached within a tile, η.
    pub compute: f64,
    /// Share of the memory bandwidth reached, β.
    pub memory: f64,
    /// Load rate of one multiprocessor, w.
    pub tile_load: BytesPerSecond,
    /// Prologue and epilogue of a tile, o.
    pub tile_overhead: Seconds,
    /// Extra time of a kernel that splits k, `t_split`.
    pub split: Seconds,
    /// How strictly waves are quantised, q in [0, 1].
    pub quantisation: f64,
    /// Extra time of a matrix far larger than the cache, r.
    pub ramp: Seconds,
    /// Start-up of a product with a vector, tv; infinite where it has no kernel of its own.
    pub vector_start: Seconds,
    /// How long the library keeps large tiles.
    pub keeps: KeptTiles,
    /// What quantising a row of A costs, i.
    pub input_row: Seconds,
    /// Passes over A that quantise it, v.
    pub input_passes: f64,
    /// The kernel of few rows.
    pub few: FewRows,
    /// The least that a benchmark launching from its host takes; 0 where kernels were timed.
    pub host: Seconds,
}

/// The kernel that a library takes for few rows of A.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FewRows {
    /// Most rows it is taken for; 0 where there is none.
    pub rows: f64,
    /// The least it takes, `t_few`, or its host where the host was timed.
    pub least: Seconds,
}

impl FewRows {
    /// No such kernel.
    pub const NONE: Self = Self { rows: 0.0, least: Seconds::ZERO };
}

/// Until when a library keeps its largest tile although a smaller one would be faster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeptTiles {
    /// Fewest tiles per multiprocessor, f.
    pub from: f64,
    /// Depth up to which it does, k0; 0 where it takes the fastest tile.
    pub depth: f64,
    /// Tiles per multiprocessor from which that depth holds, c0.
    pub full: f64,
}

impl KeptTiles {
    /// The fastest tile is taken, always.
    pub const NEVER: Self = Self { from: 1.0, depth: 0.0, full: 1.0 };
}

/// Tile shapes (rows, columns) that the libraries choose from.
const TILES: [(f64, f64); 7] = [
    (16.0, 64.0),
    (64.0, 64.0),
    (64.0, 128.0),
    (128.0, 64.0),
    (128.0, 128.0),
    (128.0, 256.0),
    (256.0, 128.0),
];

/// Tiles that are kept, the largest first, as places in [`TILES`].
const KEPT: [usize; 4] = [5, 4, 2, 1];

/// Fewest rows of a product whose tiles are kept.
const KEPT_ROWS: f64 = 200.0;

/// Parts that k is cut into: whole, or split.
const SPLITS: [f64; 4] = [1.0, 2.0, 4.0, 8.0];

/// One over them, exactly.
const PER_SPLIT: [f64; 4] = [1.0, 0.5, 0.25, 0.125];

/// Partial sums are written and read once each, in 32 bits.
const PARTIAL_BYTES: f64 = 8.0;

/// The GEMM law with its constants bound to a device and number formats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GemmLaw {
    start: f64,
    /// Time of a tile per element of k, by tile shape.
    per_depth: [f64; TILES.len()],
    tile_overhead: f64,
    split: f64,
    quantisation: f64,
    ramp: f64,
    vector_start: f64,
    keeps: KeptTiles,
    per_byte: f64,
    per_multiprocessor: f64,
    l2: f64,
    input_row: f64,
    input_byte: f64,
    few: FewRows,
    host: f64,
    weight_bytes: f64,
    input_bytes: f64,
    output_bytes: f64,
    band: f64,
    basis: Basis,
}

/// How a product is cut into tiles.
struct Tiling {
    /// Tiles over multiprocessors, by tile shape, k whole.
    counts: [f64; TILES.len()],
    /// Rounds they take, by tile shape and split of k.
    waves: [[f64; SPLITS.len()]; TILES.len()],
}

impl GemmLaw {
    /// Binds constants to a device and to the formats of B (stored), A (computed) and C.
    #[must_use]
    pub fn bind(
        chosen: &Chosen<GemmConstants>,
        device: &Device,
        operands: Operands,
        output: Dtype,
    ) -> Self {
        let c = &chosen.fit.constants;
        let multiprocessors = f64::from(device.multiprocessors);
        let Operands { stored, computed } = operands;
        let per_pair = 2.0 * multiprocessors / (c.compute * device.peak.of(computed).get());
        let per_loaded = stored.bytes() / c.tile_load.get();
        Self {
            start: c.start.get(),
            per_depth: TILES.map(|(rows, columns)| {
                larger(rows * columns * per_pair, (rows + columns) * per_loaded)
            }),
            tile_overhead: c.tile_overhead.get(),
            split: c.split.get(),
            quantisation: c.quantisation,
            ramp: c.ramp.get(),
            vector_start: c.vector_start.get(),
            keeps: c.keeps,
            per_byte: 1.0 / (c.memory * device.bandwidth.get()),
            per_multiprocessor: 1.0 / multiprocessors,
            l2: device.l2.get(),
            input_row: c.input_row.get(),
            input_byte: c.input_passes * output.bytes() / device.bandwidth.get(),
            few: c.few,
            host: c.host.get(),
            weight_bytes: stored.bytes(),
            input_bytes: computed.bytes(),
            output_bytes: output.bytes(),
            band: chosen.band(),
            basis: chosen.basis(),
        }
    }

    /// The time of `C[m,n] = A[m,k]·B[k,n]`; m may be an expected, fractional count.
    ///
    /// Nothing to multiply costs the start-up alone.
    #[must_use]
    pub fn time(&self, m: f64, n: f64, k: f64) -> Seconds {
        if m <= 0.0 || n <= 0.0 || k <= 0.0 {
            return Seconds::new(self.start);
        }
        let tiling = self.tiling(m, n);
        let base = self.memory(m, n, k);
        let mut best = self.fastest(&tiling, m * n, k, base);
        if m <= 1.0 {
            best = smaller(best, self.vector_start + base);
        } else if m >= KEPT_ROWS && k < self.keeps.depth {
            best = larger(best, self.kept(&tiling, m, n, k, base));
        }
        let input = m * (self.input_row + k * self.input_byte);
        let time = self.start + input + best;
        let few = m <= self.few.rows && self.host <= 0.0;
        Seconds::new(if few { larger(time, self.few.least.get()) } else { time })
    }

    /// What a benchmark measures that launches from its host: no less than the launch.
    #[must_use]
    pub fn timed_by_host(&self, m: f64, n: f64, k: f64) -> Seconds {
        let least = if m <= self.few.rows { self.few.least } else { Seconds::new(self.host) };
        let least = if self.host > 0.0 { least } else { Seconds::ZERO };
        self.time(m, n, k).max(least)
    }

    /// How C of that size is cut, by tile shape.
    fn tiling(&self, m: f64, n: f64) -> Tiling {
        let counts = TILES.map(|(rows, columns)| {
            round_up(m / rows) * round_up(n / columns) * self.per_multiprocessor
        });
        let mut waves = [[0.0; SPLITS.len()]; TILES.len()];
        for (waves, count) in waves.iter_mut().zip(counts) {
            for (waves, split) in waves.iter_mut().zip(SPLITS) {
                *waves = self.waves(count * split);
            }
        }
        Tiling { counts, waves }
    }

    /// The time of moving A, B and C once.
    fn memory(&self, m: f64, n: f64, k: f64) -> f64 {
        let matrix = n * k * self.weight_bytes;
        (matrix + m * k * self.input_bytes + m * n * self.output_bytes) * self.per_byte
            + self.ramp * matrix / (matrix + self.l2)
    }

    /// The time of the fastest tile and split, where moving operands takes `base`.
    ///
    /// Plain loops over the splits, so that one instruction serves two of them.
    fn fastest(&self, tiling: &Tiling, elements: f64, k: f64, base: f64) -> f64 {
        let mut tiles = [f64::INFINITY; SPLITS.len()];
        for (waves, per_depth) in tiling.waves.iter().zip(self.per_depth) {
            let span = per_depth * k;
            for ((least, waves), part) in tiles.iter_mut().zip(waves).zip(PER_SPLIT) {
                *least = smaller(*least, waves * (span * part + self.tile_overhead));
            }
        }
        let partial_sums = elements * PARTIAL_BYTES * self.per_byte;
        let split = |tiles, parts| powers4(tiles, base + parts * partial_sums);
        let [whole, two, four, eight] = tiles;
        // The least of roots is the root of the least: one root for all splits.
        let parts = smaller(split(two, 2.0), smaller(split(four, 4.0), split(eight, 8.0)));
        smaller(root4(powers4(whole, base)), root4(parts) + self.split)
    }

    /// The time of the tiles that the library keeps; nothing if it keeps none.
    fn kept(&self, tiling: &Tiling, m: f64, n: f64, k: f64, base: f64) -> f64 {
        let counts = &tiling.counts;
        let Some(at) = KEPT.into_iter().find(|&at| counts[at] >= self.keeps.from) else {
            return 0.0;
        };
        let fill = smaller(1.0, counts[at] / self.keeps.full);
        let depth = self.keeps.depth * fill * fill * fill * fill;
        if k >= depth {
            return 0.0;
        }
        let tiles = tiling.waves[at][0] * (self.per_depth[at] * k + self.tile_overhead);
        smaller(norm4(tiles, base), self.fastest(tiling, m * n, depth, self.memory(m, n, depth)))
    }

    /// Rounds of tiles over multiprocessors.
    fn waves(&self, count: f64) -> f64 {
        self.quantisation * round_up(count) + (1.0 - self.quantisation) * larger(count, 1.0)
    }

    /// The same with its error band.
    #[must_use]
    pub fn price(&self, m: f64, n: f64, k: f64) -> Price {
        Price { time: self.time(m, n, k), band: self.band, basis: self.basis }
    }
}

/// The larger of two times that overlap except near equality: (a⁴ + b⁴)^¼.
pub(super) fn norm4(a: f64, b: f64) -> f64 {
    root4(powers4(a, b))
}

/// a⁴ + b⁴.
fn powers4(a: f64, b: f64) -> f64 {
    let (a, b) = (a * a, b * b);
    a * a + b * b
}

/// x^¼.
fn root4(x: f64) -> f64 {
    x.sqrt().sqrt()
}
