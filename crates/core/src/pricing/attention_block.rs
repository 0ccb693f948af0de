//! Attention of a layer with its projections and norms, and the dense blocks, on one device.

use crate::cost::Laws;
use crate::cost::attention::{Heads, Span};
use crate::model::Attention;
use crate::price::{Basis, Price};
use crate::system::{Phase, System};
use crate::units::Seconds;

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

/// Norms, projections and attention of one layer for `tokens` new tokens on a device, of so many
/// `sequences` and, one each, of those that decode `beside` prompts; averaged over windowed and full
/// layers.
pub(crate) fn attention_block(
    system: &System,
    laws: &Laws,
    tokens: f64,
    (sequences, beside): (f64, f64),
) -> Price {
    let model = &system.model;
    let tensor = f64::from(system.parallelism.attention_tensor);
    let d = f64::from(model.hidden_size);
    let heads = (f64::from(model.attention.heads()) / tensor).max(1.0);
    let kv_heads = (f64::from(model.attention.kv_heads()) / tensor).max(1.0).ceil();
    let qk = f64::from(model.attention.qk_head_dim());
    let v = f64::from(model.attention.v_head_dim());

    let mut prices = vec![laws.norm.norm(tokens, d), laws.norm.norm(tokens, d)];
    match &model.attention {
        Attention::Grouped { .. } => {
            prices.push(laws.gemm.price(tokens, heads * qk + kv_heads * (qk + v), d));
        }
        Attention::Latent {
            q_lora_rank, kv_lora_rank, qk_rope_head_dim, qk_nope_head_dim, ..
        } => {
            let rank = f64::from(*kv_lora_rank);
            let rope = f64::from(*qk_rope_head_dim);
            let nope = f64::from(*qk_nope_head_dim);
            match q_lora_rank {
                Some(q_rank) => {
                    let q_rank = f64::from(*q_rank);
                    prices.push(laws.gemm.price(tokens, q_rank + rank + rope, d));
                    prices.push(laws.gemm.price(tokens, heads * qk, q_rank));
                }
                None => prices.push(laws.gemm.price(tokens, heads * qk + rank + rope, d)),
            }
            // Keys and values are expanded in prefill; in decode the expansion is absorbed
            // into queries and outputs, the same product over the new tokens.
            prices.push(laws.gemm.price(tokens, heads * (nope + v), rank));
        }
    }
    prices.push(laws.gemm.price(tokens, d, heads * v));

    let kernel_heads = |phase| match &model.attention {
        Attention::Grouped { .. } => {
            Heads { query: heads, kv: kv_heads, qk_width: qk, v_width: v, cached: qk + v }
        }
        Attention::Latent { kv_lora_rank, qk_rope_head_dim, .. } => {
            let (rank, rope) = (f64::from(*kv_lora_rank), f64::from(*qk_rope_head_dim));
            let cached = rank + rope;
            match phase {
                // One shared latent stream serves every head.
                Phase::Decode => {
                    Heads { query: heads, kv: 1.0, qk_width: cached, v_width: rank, cached }
                }
                Phase::Prefill => {
                    Heads { query: heads, kv: heads, qk_width: qk, v_width: v, cached }
                }
            }
        }
    };
    let span = |sequences: f64, tokens: f64, context: u64, window: Option<f64>| Span {
        sequences,
        new: tokens / sequences,
        context: (context as f64).max(tokens / sequences),
        window,
    };
    let of_phase = |phase, span: &Span| match phase {
        Phase::Prefill => laws.attention.price_prefill(&kernel_heads(phase), span),
        Phase::Decode => laws.attention.price_decode(&kernel_heads(phase), span),
    };
    let workload = &system.workload;
    let kernel = |window| {
        let alone =
            of_phase(workload.phase, &span(sequences, tokens - beside, workload.context, window));
        let length = workload.held().1;
        if beside > 0.0 {
            sum(&[alone, of_phase(Phase::Decode, &span(beside, beside, length, window))])
        } else {
            alone
        }
    };
    let layers = f64::from(model.layers().max(1));
    match model.attention.window() {
        Some((window, windowed)) if windowed > 0 => {
            let share = f64::from(windowed) / layers;
            let (near, full) = (kernel(Some(f64::from(window))), kernel(None));
            prices.push(Price { time: near.time * share, ..near });
            prices.push(Price { time: full.time * (1.0 - share), ..full });
        }
        _ => prices.push(kernel(None)),
    }
    sum(&prices)
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
