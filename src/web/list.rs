//! The list of recommendations: the first page.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde::Deserialize;

use crate::web::Page;
use crate::web::parts::{moment, table};
use crate::wire::job::Status;
use crate::wire::listing::{ListQuery, RecommendationItem, RecommendationPage};
use crate::wire::outcome::MeasuredOutcome;
use crate::wire::written;

/// The list with its filter.
#[derive(Debug)]
pub struct List<'a> {
    /// What is listed.
    pub page: &'a RecommendationPage,
    /// The filter as it was asked for.
    pub query: &'a ListQuery,
    /// Names that a filter may give, by the parameter of the filter.
    pub names: &'a BTreeMap<&'static str, Vec<String>>,
    /// The address of the next page.
    pub next: Option<String>,
}

impl List<'_> {
    /// The page.
    #[must_use]
    pub fn html(&self) -> String {
        let is_filtered = self.filters().iter().any(|(_, _, value)| value.is_some());
        let body = html! {
            h1 { "Answers" }
            (self.filter(is_filtered))
            @if self.page.items.is_empty() {
                @if self.next.is_some() {
                    p { "None among those looked at so far; there are older ones." }
                } @else if is_filtered {
                    p { "No answer passes this filter. " a href="/" { "Show all" } }
                } @else {
                    p { "Nothing has been asked yet. " a href="/ask" { "Ask a question" } "." }
                }
            } @else { (answers(&self.page.items)) }
            @if let Some(next) = &self.next { p { a href=(next) rel="next" { "Older answers" } } }
        };
        Page { title: "Answers".to_owned(), place: "/", body, ..Page::default() }.html()
    }

    fn filters(&self) -> [(&'static str, &'static str, Option<&str>); 10] {
        let ListQuery { model, device, engine, phase, verdict, strategy, status, label, .. } =
            self.query;
        let ListQuery { deployment, q, .. } = self.query;
        [
            ("q", "Search", q.as_deref()),
            ("model", "Model", model.as_deref()),
            ("device", "Device", device.as_deref()),
            ("engine", "Engine", engine.as_deref()),
            ("phase", "Phase", phase.as_deref()),
            ("verdict", "Verdict", verdict.as_deref()),
            ("strategy", "Strategy", strategy.as_deref()),
            ("status", "Status", status.as_deref()),
            ("label", "Label", label.as_deref()),
            ("deployment", "Deployment", deployment.as_deref()),
        ]
    }

    fn filter(&self, is_filtered: bool) -> Markup {
        html! {
            form class="fields no-print" method="get" action="/" role="search" {
                @for (id, name, value) in self.filters() {
                    div {
                        label for=(id) { (name) }
                        @match (id, self.names.get(id)) {
                            ("model" | "device", names) => {
                                input id=(id) name=(id) value=[value] list=(format!("{id}-names")) autocomplete="off";
                                datalist id=(format!("{id}-names")) {
                                    @for one in names.into_iter().flatten() { option value=(one) {} }
                                }
                            }
                            (_, Some(names)) => {
                                select id=(id) name=(id) {
                                    option value="" { "any" }
                                    @for one in names {
                                        option value=(one) selected[Some(&**one) == value] { (one) }
                                    }
                                }
                            }
                            ("label", None) => {
                                input id=(id) name=(id) value=[value] placeholder="name:text" autocomplete="off";
                            }
                            _ => { input id=(id) name=(id) value=[value] type="search"; }
                        }
                    }
                }
                button { "Filter" }
                @if is_filtered { a href="/" { "Show all" } }
            }
        }
    }
}

/// Answers as a table, of which two may be ticked and compared.
#[must_use]
pub fn answers(items: &[RecommendationItem]) -> Markup {
    let mut head = vec![
        "Advice", "Gain", " Model", " Devices", " Engine", " Phase", " Asked", "Compare", " Labels",
    ];
    let mut rows: Vec<Vec<Markup>> = items.iter().map(row).collect();
    if items.iter().any(|item| !item.outcomes.is_empty()) {
        head.push("Forecast off");
        for (row, item) in rows.iter_mut().zip(items) {
            row.push(measured(&item.outcomes));
        }
    }
    html! {
        form class="compared" method="get" action="/compare" {
            (table("Answers, the newest first", &head, &rows))
            button class="no-print" { "Compare the two ticked" }
        }
    }
}

/// How far the forecasts were off what was measured, in the mean.
fn measured(outcomes: &[MeasuredOutcome]) -> Markup {
    let errors: Vec<f64> = outcomes.iter().filter_map(|one| one.forecast_error).collect();
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    let whole = outcomes.iter().map(|one| written::outcome(one)[..5].join(" ")).collect::<Vec<_>>();
    html! {
        @if !outcomes.is_empty() {
            span title=(whole.join("; ")) { (written::off(Some(mean).filter(|mean| mean.is_finite()))) }
        }
    }
}

fn row(item: &RecommendationItem) -> Vec<Markup> {
    #[derive(Default, Deserialize)]
    struct Told {
        strategy: Option<String>,
        phase: Option<String>,
    }
    let told = |raw: &Option<Box<serde_json::value::RawValue>>| -> Told {
        raw.as_ref().and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    };
    let labels: BTreeMap<String, String> =
        serde_json::from_str(item.labels.get()).unwrap_or_default();
    let strategy = told(&item.recommendation).strategy;
    let advice = match (item.status, item.verdict.as_deref()) {
        (Status::Succeeded, Some("keep")) => "keep what runs now".to_owned(),
        (Status::Succeeded, verdict) => {
            let verdict = verdict.filter(|verdict| *verdict != "recommended");
            let words = [strategy, verdict.map(|verdict| verdict.replace('_', " "))];
            words.into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
        (status, _) => status.as_str().to_owned(),
    };
    let mid = item.gain.filter(|gain| (gain.mid - 1.0).abs() > 1e-9).map(|gain| gain.mid);
    vec![
        html! { a href=(format!("/v1/recommendations/{}", item.id)) { (advice) } },
        html! {
            @if let Some(mid) = mid {
                span title=[written::gain(item.gain)] { (written::scaled(mid, 1.0, 3)) " ×" }
            }
        },
        html! { (item.model) },
        html! { @if let Some(devices) = item.devices { (devices) " × " } (item.device) },
        html! { (item.engine.as_deref().unwrap_or_default()) },
        html! { (told(&item.workload).phase.unwrap_or_default().to_lowercase()) },
        moment(item.created_at),
        html! {
            @if item.status == Status::Succeeded {
                input type="checkbox" name="id" value=(item.id)
                    aria-label=(format!("Compare {advice} for {}", item.model));
            }
        },
        html! {
            span class="labels" {
                @for (name, text) in &labels {
                    span { (name) @if !text.is_empty() { ": " (text) } }
                }
            }
        },
    ]
}
