//! Recordings: the list, an upload, and one with the answers that used it.

use maud::{Markup, html};

use crate::web::Page;
use crate::web::list::answers;
use crate::web::parts::{table, warnings};
use crate::wire::listing::RecommendationPage;
use crate::wire::trace::TraceSummary;
use crate::wire::written::scaled;

/// The list of recordings.
#[must_use]
pub fn list(traces: &[TraceSummary], next: Option<&str>) -> String {
    let head = ["Name", " Model", "Tokens", "Steps", "Layers", "Experts", "Skewness", "Doubts"];
    let count = |value: Option<u64>| html! { @if let Some(value) = value { (value) } };
    let rows: Vec<Vec<Markup>> = traces
        .iter()
        .map(|trace| {
            vec![
                html! { a href=(format!("/traces/{}", trace.id)) { (name(trace)) } },
                html! { (trace.model.as_deref().unwrap_or_default()) },
                count(trace.tokens),
                count(trace.steps),
                html! { (trace.layers) },
                html! { (trace.experts) },
                html! { (scaled(trace.skewness.mean, 1.0, 2)) },
                html! { @if !trace.warnings.is_empty() { (trace.warnings.len()) } },
            ]
        })
        .collect();
    let body = html! {
        h1 { "Recordings" }
        form class="fields no-print" method="post" action="/traces" enctype="multipart/form-data" {
            div class="field" {
                label for="file" { "A recording of routing; its name tells the format" }
                input id="file" name="file" type="file" required;
            }
            button { "Upload" }
        }
        @if traces.is_empty() { p { "Nothing has been uploaded yet." } }
        @else { (table("Recordings", &head, &rows)) }
        @if let Some(next) = next { p { a href=(next) rel="next" { "More" } } }
    };
    Page { title: "Recordings".to_owned(), place: "/traces", body, ..Page::default() }.html()
}

/// One recording, with the answers that used it.
#[must_use]
pub fn one(trace: &TraceSummary, used: &RecommendationPage) -> String {
    let mut facts = vec![format!("{} layers", trace.layers), format!("{} experts", trace.experts)];
    facts.extend(trace.top_k.map(|k| format!("{k} per token")));
    facts.extend(trace.tokens.map(|n| format!("{n} tokens")));
    facts.extend(trace.steps.map(|n| format!("{n} steps")));
    facts.extend(trace.model.clone());
    let body = html! {
        p class="facts" { (facts.join(" · ")) }
        h1 { (name(trace)) }
        (warnings(&trace.warnings))
        dl class="figures" {
            div {
                dt { "Skewness" }
                dd {
                    (scaled(trace.skewness.mean, 1.0, 2))
                    small { "busiest expert over the mean; " (scaled(trace.skewness.max, 1.0, 2)) " in the most uneven layer" }
                }
            }
            @if let Some(error) = trace.distribution_error {
                div {
                    dt { "Distribution error" }
                    dd { (scaled(error, 1.0, 3)) small { "of a forecast from the first half" } }
                }
            }
        }
        form class="fields no-print" method="get" action=(format!("/v1/traces/{}/report", trace.id)) {
            input type="hidden" name="format" value="html";
            div class="field" {
                label for="devices" { "Report for so many devices" }
                input id="devices" name="devices" value="8" inputmode="numeric" required;
            }
            button { "Show the report" }
        }
        p { a href=(format!("/ask?example=mixtral-h100&trace={}", trace.id)) { "Ask about it" } }
        h2 { "Answers that used it" }
        @if used.items.is_empty() { p { "None yet." } } @else { (answers(&used.items)) }
        p class="facts" { "Recording " (trace.id) }
    };
    Page { title: name(trace).to_owned(), place: "/traces", body, ..Page::default() }.html()
}

fn name(trace: &TraceSummary) -> &str {
    trace.name.as_deref().unwrap_or_else(|| trace.id.get(..12).unwrap_or(&trace.id))
}
