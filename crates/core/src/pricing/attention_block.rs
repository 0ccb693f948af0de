//! Attention of a layer with its projections and norms, and the dense blocks, on one device.

use crate::cost::Laws;
use crate::cost::attention::{AttentionLaw, Heads, Span};
use crate::cost::latent::LatentWidths;
use crate::cost::narrowed::Narrowed;
use crate::cost::selection::choice;
use crate::model::{Attention, Index, Mixer, Mixing, Reach};
use crate::price::{Basis, Price};
use crate::system::{Dtype, Phase, System};
use crate::units::{Bytes, Seconds};

/// The sum of prices; bands weighted by time, basis the worst.
pub(crate) fn sum(prices: &[Price]) -> Price {
    let time = prices.iter().map(|price| price.time).sum();
    let basis = prices.iter().map(|price| price.basis).max();
    let weighted: f64 = prices.iter().map(|price| price.band * price.time.get()).sum();
    Price {
        time,
        band: if time > Seconds::ZERO { weighted / time.get() } else { 0.0 },
        basis: basis.unwrap_or(Basis::Fitted),
    }
}

/// What one block that mixes tokens is priced for.
struct Part<'a> {
    system: &'a System,
    laws: &'a Laws,
    /// New tokens on the device, T.
    tokens: f64,
    /// Of so many sequences.
    sequences: f64,
    /// And of those that decode beside prompts.
    beside: f64,
}

/// Norms, projections and mixing of one layer for `tokens` new tokens on a device, of so many
/// `sequences` and of those that decode `beside` prompts: the mean over layers of all blocks that mix
/// tokens. Tokens that are verified together are further queries over the same keys and values.
pub(crate) fn attention_block(
    system: &System,
    laws: &Laws,
    tokens: f64,
    (sequences, beside): (f64, f64),
) -> Price {
    let model = &system.model;
    let part = Part { system, laws, tokens, sequences, beside };
    let layers = f64::from(model.layers().max(1));
    let usual = || part.attention(&model.attention, model.attention.window(), Reach::All);
    if model.mixers.is_empty() && model.attention_layers == model.layers() {
        return usual();
    }
    let mut prices = Vec::new();
    let mut add = |price: Price, blocks: u32| {
        prices.push(Price { time: price.time * (f64::from(blocks) / layers), ..price });
    };
    if model.attention_layers > 0 {
        add(usual(), model.attention_layers);
    }
    for mixer in &model.mixers {
        add(part.mixer(mixer), mixer.layers);
    }
    sum(&prices)
}

impl Part<'_> {
    fn tensor(&self) -> f64 {
        f64::from(self.system.parallelism.attention_tensor)
    }

    /// A block of another kind.
    fn mixer(&self, mixer: &Mixer) -> Price {
        let d = f64::from(self.system.model.hidden_size);
        match &mixer.mixing {
            Mixing::Attention { shape, reach, index } => {
                let mut prices = vec![self.attention(shape, None, *reach)];
                let index = index.filter(|index| index.own);
                let hidden = self.system.model.hidden_size;
                let rank = query_rank(shape, hidden);
                let of_index = index.map_or(0, |index| index.weights(rank, hidden));
                let extra = mixer.extra as f64 - of_index as f64;
                if extra > 0.0 {
                    // Gates and compressors read the same tokens: one further product.
                    let columns = extra / d / self.tensor();
                    prices.push(self.laws.gemm.price(self.tokens, columns, d));
                }
                if let Some(index) = index {
                    prices.push(self.index(&index, f64::from(rank), *reach));
                }
                sum(&prices)
            }
            Mixing::Recurrent { state, matrices, inner, .. } => {
                self.recurrent(*state as f64, *matrices as f64, f64::from(*inner))
            }
        }
    }

    /// A block with a state of fixed size.
    ///
    /// ```text
    /// t = 2 norms + product(T, (matrices - inner·d)/d, d) + product(T, 2·inner, state/inner)
    ///   + product(T, d, inner) + state in and out once, in 32 bits
    /// ```
    ///
    /// Every token updates and reads the state, two products of its size. No kernel of that kind was
    /// fitted, so that all of it is a roofline.
    fn recurrent(&self, state: f64, matrices: f64, inner: f64) -> Price {
        let d = f64::from(self.system.model.hidden_size);
        let (inner, state) = (inner / self.tensor(), state / self.tensor());
        let matrices = matrices / self.tensor();
        let laws = self.laws;
        let mut prices = vec![laws.norm.norm(self.tokens, d), laws.norm.norm(self.tokens, d)];
        prices.push(laws.gemm.price(self.tokens, (matrices / d - inner).max(1.0), d));
        if state > 0.0 {
            prices.push(laws.router_gemm.price(self.tokens, 2.0 * inner, state / inner));
            let bytes = state * Dtype::Fp32.bytes() * (self.sequences + self.beside);
            prices.push(laws.copy.copy(Bytes::new(bytes)));
        }
        prices.push(laws.gemm.price(self.tokens, d, inner));
        Price { basis: Basis::Roofline, ..sum(&prices) }
    }

    /// What chooses the tokens that sparse attention reads, whole on every device, as engines run it.
    ///
    /// ```text
    /// t = product(T, heads·width, rank) + product(T, width + heads, d) + norm(T, width)
    ///   + queries rotated and made narrow + scores + choice
    /// ```
    ///
    /// Only the choice was measured, so that all of it is a roofline.
    fn index(&self, index: &Index, rank: f64, reach: Reach) -> Price {
        let Self { laws, tokens, .. } = *self;
        let d = f64::from(self.system.model.hidden_size);
        let [heads, width] = [index.heads, index.width].map(f64::from);
        let prices = [
            laws.gemm.price(tokens, heads * width, rank),
            laws.gemm.price(tokens, width + heads, d),
            laws.norm.norm(tokens, width),
            laws.copy.copy(Bytes::new(tokens * heads * width * Dtype::Bf16.bytes())),
            self.scores(index),
            self.choice(index, reach),
        ];
        Price { basis: Basis::Roofline, ..sum(&prices) }
    }

    /// The choice among the scores of every new token that has more than are read.
    fn choice(&self, index: &Index, reach: Reach) -> Price {
        let chosen = match reach {
            Reach::Sparse(read) | Reach::Compressed { read: Some(read), .. } => f64::from(read),
            Reach::All | Reach::Window(_) | Reach::Compressed { read: None, .. } => f64::INFINITY,
        };
        let ratio = f64::from(index.ratio);
        self.in_phases(|_, sequences, tokens, context| {
            let (kept, new) = (context as f64 / ratio, tokens / sequences / ratio);
            // Of the new tokens, those from the first that has a choice.
            let first = (kept - new).max(chosen).min(kept);
            let rows = tokens * (kept - first) / new;
            choice(&self.system.cluster.device, rows, first.midpoint(kept))
        })
    }

    /// Scores of every token kept: heads over one stream of keys, of which no value is read.
    fn scores(&self, index: &Index) -> Price {
        let width = f64::from(index.width);
        let heads = Heads {
            query: f64::from(index.heads),
            kv: 1.0,
            qk_width: width,
            v_width: 0.0,
            // A byte a value, whatever the cache's format.
            cached: width / self.system.workload.dtypes.kv.bytes(),
        };
        let share = 1.0 / f64::from(index.ratio);
        Price {
            basis: Basis::Roofline,
            ..self.kernel(&self.laws.attention, |_| heads, None, share)
        }
    }

    /// The kernel of such heads in a phase, of a context of which a share is kept.
    fn kernel(
        &self,
        law: &Narrowed<AttentionLaw>,
        heads: impl Fn(Phase) -> Heads,
        window: Option<f64>,
        share: f64,
    ) -> Price {
        let verified = self.system.workload.verified() as f64;
        self.in_phases(|phase, sequences, tokens, context| {
            let new = tokens / sequences;
            let context = (context as f64 * share).max(new);
            let span = Span { sequences, new, context, window };
            match phase {
                Phase::Prefill => law.price_prefill(&heads(phase), &span),
                Phase::Decode => {
                    let heads = heads(phase);
                    law.price_decode(&Heads { query: heads.query * verified, ..heads }, &span)
                }
            }
        })
    }

    /// What is priced of a phase, so many sequences, all their new tokens and the context of each; of those
    /// that decode beside prompts, besides.
    fn in_phases(&self, price: impl Fn(Phase, f64, f64, u64) -> Price) -> Price {
        let workload = &self.system.workload;
        let verified = workload.verified() as f64;
        let Self { tokens, sequences, beside, .. } = *self;
        let decoded = beside * verified;
        let alone = price(workload.phase, sequences, tokens - decoded, workload.context);
        if beside > 0.0 {
            sum(&[alone, price(Phase::Decode, beside, decoded, workload.held().1)])
        } else {
            alone
        }
    }

    /// Attention of such heads, averaged over windowed and full layers where some have a window.
    fn attention(&self, shape: &Attention, windows: Option<(u32, u32)>, reach: Reach) -> Price {
        let (laws, tokens) = (self.laws, self.tokens);
        let model = &self.system.model;
        let tensor = self.tensor();
        let d = f64::from(model.hidden_size);
        let heads = (f64::from(shape.heads()) / tensor).max(1.0);
        let kv_heads = (f64::from(shape.kv_heads()) / tensor).max(1.0).ceil();
        let qk = f64::from(shape.qk_head_dim());
        let v = f64::from(shape.v_head_dim());
        let latent = latent_widths(shape, d);

        let mut prices = vec![laws.norm.norm(tokens, d), laws.norm.norm(tokens, d)];
        match shape {
            Attention::Grouped { .. } => {
                prices.push(laws.gemm.price(tokens, heads * qk + kv_heads * (qk + v), d));
            }
            Attention::Latent { .. } => {
                let phase = self.system.workload.phase;
                prices.extend(latent.iter().flat_map(|of| of.around(laws, phase, tokens, heads)));
            }
            Attention::Shared { q_lora_rank, o_groups, o_lora_rank, .. } => {
                let rank = f64::from(*q_lora_rank);
                let out = (f64::from(*o_groups) / tensor).max(1.0) * f64::from(*o_lora_rank);
                prices.push(laws.gemm.price(tokens, rank + v, d));
                prices.push(laws.gemm.price(tokens, heads * qk, rank));
                prices.push(laws.gemm.price(tokens, f64::from(*o_lora_rank), heads * v));
                prices.push(laws.gemm.price(tokens, d, out));
            }
        }
        if matches!(shape, Attention::Grouped { .. }) {
            prices.push(laws.gemm.price(tokens, d, heads * v));
        }

        let of_phase = |phase| match shape {
            Attention::Grouped { .. } | Attention::Latent { .. } => latent.map_or(
                Heads { query: heads, kv: kv_heads, qk_width: qk, v_width: v, cached: qk + v },
                |widths| widths.heads(heads, phase),
            ),
            Attention::Shared { .. } => {
                Heads { query: heads, kv: 1.0, qk_width: qk, v_width: v, cached: qk }
            }
        };
        let law = if latent.is_some() { &laws.latent } else { &laws.attention };
        let kernel = |window| self.kernel(law, of_phase, window, 1.0);
        let layers = f64::from(model.attention_layers.max(1));
        let reach = match reach {
            Reach::All => None,
            Reach::Window(tokens) | Reach::Sparse(tokens) => Some(f64::from(tokens)),
            // What is read beside the window: entries, at most as many as an index chooses.
            Reach::Compressed { ratio, window, read } => {
                let entries = self.system.workload.context as f64 / f64::from(ratio);
                let most = read.map_or(f64::INFINITY, f64::from);
                Some(f64::from(window) + entries.min(most))
            }
        };
        match windows {
            Some((window, windowed)) if windowed > 0 => {
                let share = f64::from(windowed) / layers;
                let (near, full) = (kernel(Some(f64::from(window))), kernel(None));
                prices.push(Price { time: near.time * share, ..near });
                prices.push(Price { time: full.time * (1.0 - share), ..full });
            }
            _ => prices.push(kernel(reach)),
        }
        sum(&prices)
    }
}

/// The width that queries are made of, in a model of width `hidden`.
const fn query_rank(shape: &Attention, hidden: u32) -> u32 {
    match shape {
        Attention::Grouped { .. } | Attention::Latent { q_lora_rank: None, .. } => hidden,
        Attention::Latent { q_lora_rank: Some(rank), .. }
        | Attention::Shared { q_lora_rank: rank, .. } => *rank,
    }
}

/// The widths of latent attention in a model of width `d`.
fn latent_widths(shape: &Attention, d: f64) -> Option<LatentWidths> {
    let Attention::Latent { q_lora_rank, kv_lora_rank, qk_rope_head_dim, qk_nope_head_dim, .. } =
        *shape
    else {
        return None;
    };
    Some(LatentWidths {
        hidden: d,
        query_rank: q_lora_rank.map(f64::from),
        rank: f64::from(kv_lora_rank),
        rope: f64::from(qk_rope_head_dim),
        nope: f64::from(qk_nope_head_dim),
        value: f64::from(shape.v_head_dim()),
    })
}

/// A dense feed-forward block of that width on one device; nothing at width 0.
pub(crate) fn dense_block(laws: &Laws, tokens: f64, d: f64, width: f64, gated: bool) -> Price {
    if width <= 0.0 {
        return sum(&[]);
    }
    let up = if gated { 2.0 * width } else { width };
    sum(&[
        laws.gemm.price(tokens, up, d),
        laws.activation.gated_activation(tokens, width),
        laws.gemm.price(tokens, d, width),
    ])
}
