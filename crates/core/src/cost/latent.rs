//! Latent attention (MLA): heads of its kernel, and its whole module on one device.
//!
//! # Law
//!
//! Queries go through a rank `r_q` (or straight), keys and values through one latent stream of rank r
//! with a rotated part of width ρ; a head has widths ν + ρ (scores) and v (values). H heads, T new
//! tokens, d the width of the model:
//!
//! ```text
//! products = (T, r_q + r + ρ, d) + (T, H·(ν + ρ), r_q) + (T, H·(ν + v), r) + (T, d, H·v)
//! rows     = T·(d + r_q + r + ρ + H·(2·(ν + ρ) + v))·b
//! module   = norm(T, r_q) + norm(T, r) + products + kernel + t0 + p·rows/BW
//!          + [projections quantised]·(t_q + p_q·rows/BW)
//! ```
//!
//! In prefill keys and values are expanded for every head; in decode the expansion is absorbed into
//! queries and outputs: the same product over the new tokens, and a kernel that reads the latent
//! stream once for all heads. t0 and p are kernels that rotate, join, split and cache; `t_q` and `p_q`
//! those that quantise the operands of products. Symbols: b bytes of an element between operators,
//! BW peak memory bandwidth. Source: fitted, see `docs/calibration.md`.
//!
//! Worked number: DeepSeek-V3 with 16 heads and 100 tokens has rows of
//! 100·(7168 + 1536 + 576 + 16·(384 + 128))·2 bytes = 3,494,400; with t0 10 µs, p 2 on 4 TB/s and
//! nothing quantised, 11.75 µs beside norms, products and kernel.

use crate::cost::Laws;
use crate::cost::attention::{Heads, Span};
use crate::hardware::{Device, Fit};
use crate::price::{Basis, Price};
use crate::system::{Dtype, Phase};
use crate::units::Seconds;

/// Widths of latent attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatentWidths {
    /// The model's width, d.
    pub hidden: f64,
    /// Rank of the queries, `r_q`; without one they are projected straight.
    pub query_rank: Option<f64>,
    /// Rank of the stream, r.
    pub rank: f64,
    /// Rotated part of a key, ρ.
    pub rope: f64,
    /// Part of a key that is not rotated, ν.
    pub nope: f64,
    /// Width of a value, v.
    pub value: f64,
}

/// DeepSeek-V3 (arXiv 2412.19437, section 4.2).
pub const DEEPSEEK_V3: LatentWidths = LatentWidths {
    hidden: 7168.0,
    query_rank: Some(1536.0),
    rank: 512.0,
    rope: 64.0,
    nope: 128.0,
    value: 128.0,
};

/// Fitted constants of the kernels around products and attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatentBlockConstants {
    /// Start-up of what rotates, joins and caches, t0.
    pub start: Seconds,
    /// Passes over rows of those, p.
    pub passes: f64,
    /// Start-up of what quantises, `t_q`.
    pub quantise_start: Seconds,
    /// Passes over rows of that, `p_q`.
    pub quantise_passes: f64,
}

impl LatentBlockConstants {
    /// Nothing but products, norms and the kernel.
    pub const NONE: Self = Self {
        start: Seconds::ZERO,
        passes: 0.0,
        quantise_start: Seconds::ZERO,
        quantise_passes: 0.0,
    };
}

/// What a module takes besides norms, products and the kernel, bound to a device and formats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatentBlockLaw {
    start: f64,
    per_byte: f64,
    /// Start-up and seconds per byte of what quantises; zero where nothing does.
    quantise: (f64, f64),
    element: f64,
    /// Band and basis of the whole module; none where no module was measured.
    trust: Option<(f64, Basis)>,
}

impl LatentBlockLaw {
    /// Binds constants to a device, the format between operators and whether products are quantised.
    #[must_use]
    pub fn bind(
        fit: Option<&Fit<LatentBlockConstants>>,
        device: &Device,
        stream: Dtype,
        quantised: bool,
    ) -> Self {
        let c = fit.map_or(LatentBlockConstants::NONE, |fit| fit.constants);
        let more = if quantised { 1.0 } else { 0.0 };
        Self {
            start: c.start.get(),
            per_byte: c.passes / device.bandwidth.get(),
            quantise: (
                more * c.quantise_start.get(),
                more * c.quantise_passes / device.bandwidth.get(),
            ),
            element: stream.bytes(),
            trust: fit.map(|fit| (fit.band, fit.basis)),
        }
    }

    /// The time besides norms, products and the kernel, of so many elements of rows.
    #[must_use]
    pub fn time(&self, elements: f64) -> Seconds {
        let (start, per_byte) = self.quantise;
        self.time_in_16_bits(elements) + Seconds::new(start + elements * self.element * per_byte)
    }

    /// The same without what quantises.
    #[must_use]
    pub fn time_in_16_bits(&self, elements: f64) -> Seconds {
        Seconds::new(self.start + elements * self.element * self.per_byte)
    }
}

impl LatentWidths {
    /// The heads that the kernel of a phase sees, `heads` of them on the device.
    #[must_use]
    pub fn heads(&self, heads: f64, phase: Phase) -> Heads {
        let cached = self.rank + self.rope;
        match phase {
            // One shared latent stream serves every head.
            Phase::Decode => {
                Heads { query: heads, kv: 1.0, qk_width: cached, v_width: self.rank, cached }
            }
            Phase::Prefill => {
                let qk_width = self.nope + self.rope;
                Heads { query: heads, kv: heads, qk_width, v_width: self.value, cached }
            }
        }
    }

    /// Elements of the rows of one token that the kernels around products pass over.
    #[must_use]
    pub fn row(&self, heads: f64) -> f64 {
        let of_head = 2.0 * (self.nope + self.rope) + self.value;
        self.hidden + self.query_rank.unwrap_or(0.0) + self.rank + self.rope + heads * of_head
    }

    /// The products of the module, columns and depth.
    #[must_use]
    pub fn products(&self, heads: f64) -> Vec<(f64, f64)> {
        let queries = heads * (self.nope + self.rope);
        let compressed = self.rank + self.rope;
        let mut products = match self.query_rank {
            Some(rank) => vec![(rank + compressed, self.hidden), (queries, rank)],
            None => vec![(queries + compressed, self.hidden)],
        };
        products.push((heads * (self.nope + self.value), self.rank));
        products.push((self.hidden, heads * self.value));
        products
    }

    /// Everything of the module but the kernel, for `tokens` new tokens; trusted as far as whole
    /// modules of the kind were met, where such were measured. Narrow products with what quantises
    /// for them take no longer than 16-bit ones without: see [`super::narrowed`].
    #[must_use]
    pub fn around(&self, laws: &Laws, phase: Phase, tokens: f64, heads: f64) -> Vec<Price> {
        let law = laws.latent_block(phase);
        let elements = tokens * self.row(heads);
        let module = |price: &dyn Fn(f64, f64) -> Price, besides: Seconds| -> Vec<Price> {
            let products = self.products(heads).into_iter();
            let besides = Price { time: besides, band: 0.0, basis: Basis::Fitted };
            products.map(|(columns, depth)| price(columns, depth)).chain([besides]).collect()
        };
        let total = |prices: &[Price]| prices.iter().map(|price| price.time).sum::<Seconds>();
        let mut prices = module(&|n, k| laws.gemm.price(tokens, n, k), law.time(elements));
        let mut slower = 1.0;
        if let Some(gemm) = laws.gemm.in_16_bits() {
            let wide = module(&|n, k| gemm.price(tokens, n, k), law.time_in_16_bits(elements));
            slower = total(&prices) / total(&wide);
            prices = if slower > 1.0 { wide } else { prices };
        }
        let ranks = self.query_rank.into_iter().chain([self.rank]);
        prices.extend(ranks.map(|rank| laws.norm.norm(tokens, rank)));
        match law.trust {
            Some((band, basis)) => {
                let band = slower.max(1.0) * (1.0 + band) - 1.0;
                prices.into_iter().map(|price| Price { band, basis, ..price }).collect()
            }
            None => prices,
        }
    }

    /// The time of the whole module by the laws of its very formats.
    #[must_use]
    pub fn module_time(&self, laws: &Laws, phase: Phase, heads: f64, span: &Span) -> Seconds {
        let of_kernel = self.heads(heads, phase);
        let tokens = span.sequences * span.new;
        let products = self.products(heads).into_iter();
        let products: Seconds = products.map(|(n, k)| laws.gemm.own.time(tokens, n, k)).sum();
        let ranks = self.query_rank.into_iter().chain([self.rank]);
        let norms: Seconds = ranks.map(|rank| laws.norm.norm(tokens, rank).time).sum();
        let kernel = match phase {
            Phase::Prefill => laws.latent.own.prefill(&of_kernel, span),
            Phase::Decode => laws.latent.own.decode(&of_kernel, span),
        };
        products + norms + kernel + laws.latent_block(phase).time(tokens * self.row(heads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::sample;
    use crate::hardware::Provenance;
    use crate::units::BytesPerSecond;

    #[test]
    fn the_worked_number_comes_out() {
        let device = Device { bandwidth: BytesPerSecond::new(4e12), ..sample::device() };
        let constants = LatentBlockConstants {
            start: Seconds::new(10e-6),
            passes: 2.0,
            quantise_start: Seconds::new(5e-6),
            quantise_passes: 1.0,
        };
        let provenance = Provenance::default();
        let fit = Fit { constants, band: 0.1, basis: Basis::Fitted, provenance };
        let elements = 100.0 * DEEPSEEK_V3.row(16.0);
        assert!((elements * 2.0 - 3_494_400.0).abs() < 1e-6);
        let law = LatentBlockLaw::bind(Some(&fit), &device, Dtype::Bf16, false);
        assert!((law.time(elements).get() - 11.7472e-6).abs() < 1e-12);
        let law = LatentBlockLaw::bind(Some(&fit), &device, Dtype::Bf16, true);
        assert!((law.time(elements).get() - 17.6208e-6).abs() < 1e-12);
    }
}
