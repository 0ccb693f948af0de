//! Deployments: the list, and one with its conditions and its history.

use maud::{Markup, PreEscaped, html};

use crate::web::Page;
use crate::web::parts::{behind, moment, picture, prose, table};
use crate::wire::deployment::{
    ConditionBody, DeploymentBody, DeploymentItem, DeploymentList, JudgementBody, JudgementPage,
};
use crate::wire::listing::MOST_ITEMS;
use crate::wire::written::{gain, percent, scaled};
use moe_gps_core::charts::axis::tick_step;
use moe_gps_core::charts::inline::{Band, Line, legend, line_chart, line_chart_over};

/// Judgements that are listed; a chart has more of them.
const LISTED: usize = 50;

/// How soon the page of a deployment looks for news, seconds.
const RENEWED_S: u32 = 10;

/// The list of deployments.
#[must_use]
pub fn list(list: &DeploymentList) -> String {
    let head = [
        "Deployment",
        " Map in force",
        " Loads",
        " Judged",
        "Gain",
        "Imbalance",
        " Last judgement",
    ];
    let rows: Vec<Vec<Markup>> = list.items.iter().map(row).collect();
    let body = html! {
        h1 { "Deployments" }
        @if list.items.is_empty() {
            p {
                "Nothing is watched yet. " code { "moe-gps deployment put NAME FILE" }
                " tells what runs, and a recorder posts its loads."
            }
        } @else { (table("Deployments", &head, &rows)) }
    };
    Page { title: "Deployments".to_owned(), place: "/deployments", body, ..Page::default() }.html()
}

fn row(item: &DeploymentItem) -> Vec<Markup> {
    let condition = |kind: &str| {
        let found = item.conditions.iter().find(|one| one.kind == kind);
        html! { @if let Some(one) = found { span title=(one.message) { (in_words(one)) } } }
    };
    let last = item.last_judgement.as_ref();
    vec![
        html! { a href=(format!("/v1/deployments/{}", item.name)) { (item.name) } },
        condition("AdviceCurrent"),
        condition("LoadsFresh"),
        condition("Judged"),
        html! { @if let Some(one) = last.and_then(|last| last.gain) { (gained(one.mid)) } },
        html! { @if let Some(one) = last.and_then(|last| last.imbalance) { (scaled(one, 1.0, 3)) } },
        html! { @if let Some(last) = last { (moment(last.judged_at)) } },
    ]
}

fn gained(ratio: f64) -> Markup {
    html! { (scaled(ratio, 1.0, 3)) " ×" }
}

/// A condition in a few words, the reason where it does not hold.
fn in_words(condition: &ConditionBody) -> String {
    let holds = match &*condition.kind {
        "LoadsFresh" => "fresh",
        "Judged" => "yes",
        _ => "right",
    };
    match &*condition.status {
        "True" => holds.to_owned(),
        "False" => spaced(&condition.reason),
        _ => "not known".to_owned(),
    }
}

/// A reason such as `ReplanPays` as words.
fn spaced(reason: &str) -> String {
    let mut words = String::with_capacity(reason.len() + 4);
    for (place, c) in reason.char_indices() {
        if 0 < place && c.is_ascii_uppercase() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

/// One deployment.
#[must_use]
pub fn one(deployment: &DeploymentBody, history: &JudgementPage) -> String {
    let path = format!("/v1/deployments/{}", deployment.name);
    let body = html! {
        div hx-get=(path) hx-trigger=(format!("every {RENEWED_S}s")) hx-headers=r#"{"Accept":"text/html"}"#
            hx-target="#main" hx-select="#main" hx-swap="outerHTML" {
            p class="facts" {
                "Version " (deployment.version) " · told " (moment(deployment.updated_at))
                @for (name, text) in &deployment.spec.labels { " · " (name) ": " (text) }
            }
            h1 { (deployment.name) }
            @if let Some(advice) = deployment.condition("AdviceCurrent") {
                p class="finding" { (verdict(advice)) }
            }
            (figures(deployment))
            h2 { "Conditions" }
            (conditions(&deployment.conditions))
            @if let Some(id) = &deployment.judging {
                p role="status" {
                    a href=(format!("/v1/recommendations/{id}")) { "A judgement" } " is being computed."
                }
            }
            h2 { "Judgements" }
            @if history.items.is_empty() { p { "None yet: post loads to " code { (path) "/loads" } "." } }
            @else {
                (drawn(deployment, &history.items))
                (judgements(&history.items[..history.items.len().min(LISTED)]))
            }
            p class="no-print" {
                a href=(format!("/?deployment={}", deployment.name)) { "Its answers" }
                " · "
                a href=(format!("/ask?deployment={}", deployment.name)) { "Ask about it" }
            }
            h2 { "Loads" }
            (windows(deployment))
            h2 { "What was told" }
            (told(deployment))
        }
    };
    let renewed_every_s = Some(RENEWED_S);
    let title = deployment.name.clone();
    Page { title, place: "/deployments", renewed_every_s, body }.html()
}

/// What was told, with the map in force in a line.
fn told(deployment: &DeploymentBody) -> Markup {
    let mut spec = deployment.spec.clone();
    let maps = spec.current.as_mut().and_then(|current| current.physical_to_logical.take());
    html! {
        @match &maps {
            Some(maps) => p {
                "The map in force has " (maps.len()) " layers of " (maps.first().map_or(0, Vec::len))
                " slots; it is in the JSON of this deployment."
            },
            None => p { "No map in force is known; experts are taken to be in order." },
        }
        (behind(&spec))
    }
}

/// What the advice comes to, in a sentence.
fn verdict(advice: &ConditionBody) -> Markup {
    let said = match (&*advice.status, &*advice.reason) {
        ("True", _) => "Leave the map as it is.",
        ("False", "ReplanPays") => "Load a new plan.",
        ("False", "StrategyChanged") => "Change the strategy.",
        ("False", _) => "Nothing need be balanced any more.",
        _ => "Not judged yet.",
    };
    html! { strong { (said) } " " (prose(&advice.message)) }
}

fn figures(deployment: &DeploymentBody) -> Markup {
    let Some(last) = &deployment.last_judgement else { return html! {} };
    html! {
        dl class="figures" {
            @if let Some(ratio) = last.gain {
                div {
                    dt { "Gain over the map in force" }
                    dd {
                        (gained(ratio.mid))
                        @if let Some(interval) = gain(last.gain) { small { (interval) } }
                    }
                }
            }
            @if let (Some(net), Some(stall)) = (last.net_gain, last.stall_s) {
                div {
                    dt { "After its stall" }
                    dd { (gained(net.mid)) small { "serving stops for " (scaled(stall, 1.0, 1)) " s" } }
                }
            }
            @if let Some(imbalance) = last.imbalance {
                div {
                    dt { "Busiest GPU over the mean" }
                    dd { (scaled(imbalance, 1.0, 3)) small { "with the map in force, mean over layers" } }
                }
            }
            @if let Some(strategy) = &last.strategy {
                div {
                    dt { "Last judgement" }
                    dd {
                        a href=(format!("/v1/recommendations/{}", last.id)) { (strategy) }
                        small { (moment(last.judged_at)) }
                    }
                }
            }
        }
    }
}

fn conditions(conditions: &[ConditionBody]) -> Markup {
    let head = ["Condition", " Status", " Reason", " Since", " What it says"];
    let row = |one: &ConditionBody| {
        vec![
            html! { (one.kind) },
            html! { (one.status) },
            html! { (one.reason) },
            moment(one.last_transition_time),
            prose(&one.message),
        ]
    };
    let rows: Vec<Vec<Markup>> = conditions.iter().map(row).collect();
    table("Conditions", &head, &rows)
}

/// The imbalance of the map in force and the gain over it from judgement to judgement, and when it was
/// said to be right no longer.
fn drawn(deployment: &DeploymentBody, newest_first: &[JudgementBody]) -> Markup {
    let is_judged = |one: &&JudgementBody| one.imbalance.is_some() && one.net_gain.is_some();
    let items: Vec<&JudgementBody> = newest_first.iter().rev().filter(is_judged).collect();
    let [first, .., last] = &items[..] else { return html! {} };
    let texts: Vec<String> = items.iter().map(|one| one.loads_until.to_string()).collect();
    // Within a day the time is enough.
    let is_one_day = texts[0].get(..10) == texts[texts.len() - 1].get(..10);
    let shown = if is_one_day { 11..16 } else { 5..16 };
    let label = |text: &String| text.get(shown.clone()).unwrap_or(text).replace('T', " ");
    let labels: Vec<String> = texts.iter().map(label).collect();
    let imbalance: Vec<f64> = items.iter().filter_map(|one| one.imbalance).collect();
    let gains: Vec<f64> = items.iter().filter_map(|one| one.net_gain).map(|net| net.mid).collect();
    let asked = vec![1.0 + deployment.spec.policy.min_gain; items.len()];
    let bands: Vec<Band> = turned(&items);
    let line = |name: &str, values| Line { name: name.to_owned(), values };
    let of_gain = [line("gain after the stall", &gains), line("gain that is asked for", &asked)];
    let least = gains.iter().copied().fold(1.0, f64::min);
    let most = gains.iter().chain(&asked).copied().fold(1.0, f64::max);
    let step = tick_step(most - least);
    let floor = (least / step + 1e-9).floor() * step;
    let time = "end of the newest loads, UTC";
    html! {
        p {
            "From " (moment(first.loads_until)) " to " (moment(last.loads_until))
            @if !bands.is_empty() { "; behind the lines, when the map in force was said to be right no longer." }
            @else if items.iter().any(|one| one.advice_current.as_deref() == Some("True")) {
                ": whenever it could be judged, the map in force was right."
            } @else { ": whether the map in force is right is not known yet." }
        }
        (picture(line_chart_over(&bands, &[line("map in force", &imbalance)], &labels, [time, "busiest GPU over the mean"], 1.0)))
        (PreEscaped(legend(&of_gain)))
        (picture(line_chart(&of_gain, &labels, [time, "gain over the map in force"], floor)))
        p class="behind no-print" {
            a href=(format!("/v1/deployments/{}/judgements?limit={MOST_ITEMS}", deployment.name)) { "Numbers as JSON" }
        }
    }
}

/// Runs of judgements after which the map in force was right no longer.
fn turned(items: &[&JudgementBody]) -> Vec<Band> {
    let is_turned = |one: &JudgementBody| one.advice_current.as_deref() == Some("False");
    let (mut bands, mut from) = (Vec::new(), 0);
    for run in items.chunk_by(|a, b| is_turned(a) == is_turned(b)) {
        let until = from + run.len();
        if is_turned(run[0]) {
            let about = format!("{} to {}", run[0].loads_until, run[run.len() - 1].loads_until);
            bands.push(Band { places: [from, until - 1], class: "turned", about });
        }
        from = until;
    }
    bands
}

fn judgements(items: &[JudgementBody]) -> Markup {
    let head =
        ["Loads until", " Finding", " Advice", "Gain", "After the stall", "Imbalance", "Version"];
    let row = |one: &JudgementBody| {
        let finding = one.finding.as_deref().map_or_else(
            || one.verdict.as_deref().unwrap_or(one.status.as_str()).replace('_', " "),
            spaced,
        );
        vec![
            html! { a href=(format!("/v1/recommendations/{}", one.id)) { (moment(one.loads_until)) } },
            html! { span title=(one.message) { (finding) } },
            html! { (one.strategy.as_deref().unwrap_or_default()) },
            html! {
                @if let Some(ratio) = one.gain {
                    span title=[gain(one.gain)] { (gained(ratio.mid)) }
                }
            },
            html! { @if let (Some(net), Some(_)) = (one.net_gain, one.stall_s) { (percent(net.mid)) } },
            html! { @if let Some(imbalance) = one.imbalance { (scaled(imbalance, 1.0, 3)) } },
            html! { (one.version) },
        ]
    };
    let rows: Vec<Vec<Markup>> = items.iter().map(row).collect();
    table("Judgements, the newest first", &head, &rows)
}

fn windows(deployment: &DeploymentBody) -> Markup {
    let head = ["Until", " From", " Phase", " Recording"];
    let rows: Vec<Vec<Markup>> = deployment
        .windows
        .iter()
        .rev()
        .map(|window| {
            vec![
                moment(window.to),
                html! { @if let Some(from) = window.from { (moment(from)) } },
                html! { (window.phase.as_deref().unwrap_or_default()) },
                html! {
                    a href=(format!("/traces/{}", window.trace_id)) {
                        (window.trace_id.get(..12).unwrap_or(&window.trace_id))
                    }
                },
            ]
        })
        .collect();
    html! {
        @if rows.is_empty() { p { "None are kept." } }
        @else { (table("Windows of loads, the newest first", &head, &rows)) }
    }
}
