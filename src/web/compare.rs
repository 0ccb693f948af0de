//! Two answers side by side.

use maud::{Markup, html};
use serde_json::Value;

use crate::web::Page;
use crate::web::parts::{behind, prose, table};
use crate::wire::compare::{ComparedNumber, Comparison, Difference};
use crate::wire::written::{TERMS, gain, scaled};

/// The page of a comparison.
#[must_use]
pub fn page(comparison: &Comparison) -> String {
    let Comparison { a, b, choice, .. } = comparison;
    let both = |name: &str, one: String, other: String| {
        vec![html! { (name) }, html! { (one) }, html! { (other) }]
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let rows = vec![
        both("Verdict", choice.a.verdict.replace('_', " "), choice.b.verdict.replace('_', " ")),
        both("Strategy", text(&choice.a.strategy), text(&choice.b.strategy)),
        both("Predictor", text(&choice.a.predictor), text(&choice.b.predictor)),
        both(
            "Gain",
            scaled(choice.a.gain.map(|gain| gain.mid), 1.0, 3),
            scaled(choice.b.gain.map(|gain| gain.mid), 1.0, 3),
        ),
        both(
            "Interval",
            gain(choice.a.gain).unwrap_or_default(),
            gain(choice.b.gain).unwrap_or_default(),
        ),
        vec![
            html! { "Why" },
            html! { (prose(&choice.a.reason)) },
            html! { (prose(&choice.b.reason)) },
        ],
    ];
    let head = ["What", " The one", " The other"];
    let body = html! {
        h1 { @if comparison.choice_differs { "The advice differs" } @else { "The advice is the same" } }
        p {
            a href=(format!("/v1/recommendations/{a}")) { "The one" } " and "
            a href=(format!("/v1/recommendations/{b}")) { "the other" } "."
        }
        (table("What is advised", &head, &rows))
        h2 { "Where the questions differ" }
        (differences("Differences of the questions", &comparison.question))
        h2 { "Where the time goes" }
        (strategies(comparison))
        h2 { "Where what they rest on differs" }
        (differences("Differences of what they rest on", &comparison.provenance))
        (behind(comparison))
    };
    Page { title: "Two answers".to_owned(), place: "/", body, ..Page::default() }.html()
}

fn differences(name: &str, differences: &[Difference]) -> Markup {
    let text = |value: &Option<Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let rows: Vec<Vec<Markup>> = differences
        .iter()
        .map(|one| {
            vec![
                html! { code { (one.pointer) } },
                html! { (text(&one.a)) },
                html! { (text(&one.b)) },
            ]
        })
        .collect();
    html! {
        @if rows.is_empty() { p { "Nowhere." } }
        @else { (table(name, &["Place", " The one", " The other"], &rows)) }
    }
}

fn strategies(comparison: &Comparison) -> Markup {
    let microseconds = |number: &ComparedNumber| {
        [
            html! { (scaled(number.a, 1e6, 2)) },
            html! { (scaled(number.b, 1e6, 2)) },
            html! { (scaled(number.ratio, 1.0, 3)) },
        ]
    };
    let head = ["µs per layer", "The one", "The other", "Ratio"];
    html! {
        @for strategy in &comparison.strategies {
            @let name = match &strategy.predictor {
                Some(predictor) => format!("{} ({predictor})", strategy.strategy),
                None => strategy.strategy.clone(),
            };
            @let rows = std::iter::once(("layer", &strategy.layer_latency_s))
                .chain(TERMS.iter().filter_map(|(field, short, _)| Some((*short, strategy.terms.get(*field)?))))
                .filter(|(_, number)| [number.a, number.b].iter().flatten().any(|value| *value != 0.0))
                .map(|(short, number)| {
                    let mut row = vec![html! { (short) }];
                    row.extend(microseconds(number));
                    row
                })
                .collect::<Vec<_>>();
            h3 { (name) }
            (table(&name, &head, &rows))
        }
    }
}
