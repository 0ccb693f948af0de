//! What an answer rests on: doubts, laws, what no law prices, and versions.

use maud::{Markup, html};

use crate::web::parts::{behind, table, warnings};
use crate::wire::answer::{ResultBody, StrategyBody};
use crate::wire::written::{name, scaled};

pub(super) fn section(result: &ResultBody, shown: &[&StrategyBody]) -> Markup {
    let provenance = &result.provenance;
    let doubts: Vec<Vec<Markup>> = result
        .recommendation
        .doubts
        .iter()
        .map(|doubt| {
            let of = |value| html! { (scaled(value, 1.0, 3)) " ×" };
            vec![html! { (doubt.id.replace('_', " ")) }, of(doubt.low), of(doubt.high)]
        })
        .collect();
    let support: Vec<Vec<Markup>> = shown
        .iter()
        .flat_map(|entry| {
            entry.engine_support.iter().map(|one| {
                let runs = if one.runnable { "yes" } else { "no" };
                let cells =
                    [name(entry), one.engine.to_string(), runs.to_owned(), one.because.clone()];
                cells.map(|cell| html! { (cell) }).to_vec()
            })
        })
        .collect();
    let model = &provenance.model;
    html! {
        h2 { "What it rests on" }
        @if !result.recommendation.missing.is_empty() {
            h3 { "Missing for a surer answer" }
            ul { @for one in &result.recommendation.missing { li { (one) } } }
        }
        @if !doubts.is_empty() {
            h3 { "What may make the gain another one" }
            (table("Doubts", &["Doubt", "At least", "At most"], &doubts))
        }
        @if !model.not_priced.is_empty() {
            h3 { "What the model has and no law prices" }
            (warnings(&model.not_priced))
        }
        h3 { "The model as it was read" }
        p {
            (model.family) ": " (model.moe_layers) " layers with " (model.experts) " experts, "
            (model.top_k) " of a token; " (scaled(model.parameters as f64, 1e-9, 1)) " B parameters, "
            (scaled(model.weight_bytes, 1e-9, 1)) " GB of weights."
        }
        @if !support.is_empty() {
            details {
                summary { "Which engines run what" }
                (table("Engines", &["Strategy", " Engine", " Runs it", " Because"], &support))
            }
        }
        p class="facts" {
            "moe-gps " (provenance.version) ", " (provenance.method) ", seed " (provenance.seed)
            ", catalog " (provenance.catalog_digest.get(..12).unwrap_or_default()) "."
        }
        (behind(provenance))
    }
}
