//! What to run: the lines that start an engine, and the placement it loads.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{Markup, html};
use serde::Deserialize;

use crate::web::answer::Answer;
use crate::web::parts::{copied, prose};
use crate::wire::answer::LaunchBody;
use moe_gps_core::formats::placement::FORMATS;

/// How to start engines so that they follow the answer.
pub(super) fn launches(answer: &Answer<'_>) -> Markup {
    let Some((first, others)) = answer.launches.split_first() else { return html! {} };
    html! {
        h2 { "How to run it" }
        p { "Arguments that concern the balance of experts, to be added to those the engine has." }
        (launch(first))
        @if !others.is_empty() {
            details {
                summary { "Other engines" }
                @for one in others { (launch(one)) }
            }
        }
    }
}

fn launch(launch: &LaunchBody) -> Markup {
    html! {
        h3 { (launch.engine) }
        @if launch.shell.is_empty() && launch.yaml.is_none() { p { "Nothing is to be changed." } }
        @if !launch.shell.is_empty() { (copied(&launch.shell)) }
        @if let Some(yaml) = &launch.yaml { (copied(yaml)) }
        @if let Some(placement) = &launch.placement {
            p {
                "It loads the placement from " code { (placement.path) }
                @if placement.url.starts_with('/') {
                    ": " a href=(placement.url) download { "the file" }
                }
                "."
            }
        }
        @for note in launch.notes.iter().filter(|note| !note.is_empty()) { p class="facts" { (prose(note)) } }
    }
}

/// The plan, to download.
pub(super) fn placement(answer: &Answer<'_>) -> Markup {
    /// What is read of a plan.
    #[derive(Default, Deserialize)]
    struct Plan {
        #[serde(default)]
        expert_ids_are_real: bool,
    }
    let summary = &answer.result.plan;
    let Some(text) = answer.plan else { return html! {} };
    let plan: Plan = serde_json::from_str(text).unwrap_or_default();
    let written = |id: &str| id == "json" || plan.expert_ids_are_real;
    html! {
        h2 { "The placement" }
        @if let Some(plan) = summary {
            p {
                (plan.slots_per_device) " slots on every GPU, " (plan.redundant_experts)
                " redundant experts in a layer, " (plan.moved_experts) " moves when it first takes effect."
            }
        }
        ul class="downloads" {
            @match answer.id {
                Some(id) => {
                    @for format in FORMATS.iter().filter(|format| written(format.id)) {
                        li {
                            a href=(format!("/v1/recommendations/{id}/placement?format={}", format.id))
                                download { (format.id) }
                        }
                    }
                }
                None => {
                    li {
                        a href=(format!("data:application/json;base64,{}", BASE64_STANDARD.encode(text)))
                            download="placement.json" { "json" }
                    }
                }
            }
        }
        @if !plan.expert_ids_are_real {
            p {
                "There are no files for engines: the routing was stated as a number, so which expert \
                 is hot was made up for the estimate. Ask with a recording to get them."
            }
        }
    }
}
