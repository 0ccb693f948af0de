//! A question is asked: fields for what every question has, and JSON for the rest.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde_json::{Map, Number, Value, json};

use crate::web::Page;
use crate::web::parts::violations;
use crate::wire::sweep::SweptParameter;
use crate::wire::trace::TraceSummary;
use crate::wire::violation::Violation;
use moe_gps_core::catalog::Catalog;

macro_rules! example {
    ($name:literal, $about:literal) => {
        ($name, $about, include_str!(concat!("../../examples/questions/", $name, ".json")))
    };
}
/// Questions to start from, with what each is about.
pub const EXAMPLES: [(&str, &str, &str); 7] = [
    example!("serving-qwen3-h100", "a server under load, with prompt and output lengths"),
    example!("decode-qwen3-h200", "one step of decoding"),
    example!("mixtral-h100", "one step of prefill, with an uploaded recording"),
    example!("map-in-force", "against the placement that is in force"),
    example!("two-nodes-h200", "two nodes and an all-to-all backend"),
    example!("hugging-face-config", "a model by its config.json"),
    example!("paper-mixtral-a100", "by the formulas of the MoE-GPS paper"),
];

/// The fields of the form: their names, the places in a question, and what is written beside them.
pub const FIELDS: [(&str, &str, &str); 7] = [
    ("model", "/model", "Model"),
    ("device", "/cluster/device", "Device"),
    ("devices", "/cluster/devices", "Devices in all"),
    ("link", "/cluster/link", "Link"),
    ("engine", "/engine/name", "Engine"),
    ("phase", "/workload/phase", "Phase"),
    ("trace", "/routing/trace_id", "Recording"),
];

/// A question in which one quantity of a map has another value.
pub fn vary(question: &mut Value, parameter: SweptParameter, value: f64) -> Result<(), Violation> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let whole = || Value::from(value.max(0.0).round() as u64);
    let refused = |pointer: &str, detail: &str| Err(Violation::new(pointer, "absent", detail));
    match parameter.id() {
        "skewness" => {
            let error = question["routing"]["distribution_error"].take();
            question["routing"] = json!({"skewness": value});
            if error.is_number() {
                question["routing"]["distribution_error"] = error;
            }
        }
        id @ ("link_bandwidth_bytes_per_s" | "inter_node_bandwidth_bytes_per_s") => {
            let field = if id.starts_with("link") { "link" } else { "inter_node_link" };
            let link = &mut question["cluster"][field];
            let named = || {
                let entry =
                    Catalog::embedded().link(link.as_str().or(link["name"].as_str())?).ok()?;
                Some(entry.value.latency.get())
            };
            let Some(latency) = link["latency_s"].as_f64().or_else(named) else {
                return refused("/cluster", "there is no such link to vary");
            };
            *link = json!({"bandwidth_bytes_per_s": value, "latency_s": latency});
        }
        "tokens_per_step" => {
            if let Some(workload) = question["workload"].as_object_mut() {
                workload.remove("batch_size");
                workload.insert("tokens_per_step".to_owned(), whole());
            }
        }
        "output_tokens" => question["workload"]["output_tokens"] = whole(),
        "devices" => question["cluster"]["devices"] = whole(),
        id => {
            let field = if id == "predictor_accuracy" { "accuracy" } else { "overhead_s" };
            match question.pointer_mut(&format!("/predictors/0/{field}")) {
                Some(stated) => *stated = value.into(),
                None => return refused("/predictors", "the question states no predictor to vary"),
            }
        }
    }
    Ok(())
}

/// A form as it is filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filled {
    /// Fields by their names; an absent one says nothing.
    pub fields: BTreeMap<&'static str, String>,
    /// The rest of the question, JSON.
    pub rest: String,
}

impl Filled {
    /// A question taken apart: what fields hold goes into them.
    #[must_use]
    pub fn from_question(mut question: Value) -> Self {
        let mut fields = BTreeMap::new();
        for (name, pointer, _) in FIELDS {
            let text = match question.pointer(pointer) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => continue,
            };
            fields.insert(name, text);
            let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
            let object = question.pointer_mut(parent).and_then(Value::as_object_mut);
            let is_empty = object.is_some_and(|object| {
                object.shift_remove(key);
                object.is_empty()
            });
            // An object of which nothing is left says nothing.
            if is_empty
                && let (Some(name), Some(all)) =
                    (parent.strip_prefix('/'), question.as_object_mut())
            {
                all.shift_remove(name);
            }
        }
        // Values that were read always serialise.
        Self { fields, rest: serde_json::to_string_pretty(&question).unwrap_or_default() }
    }

    /// The fields of a submitted form; those that are empty say nothing.
    #[must_use]
    pub fn from_form<'a>(form: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut filled = Self::default();
        for (name, value) in form {
            if name == "rest" {
                value.clone_into(&mut filled.rest);
            } else if let Some((name, _, _)) = FIELDS.iter().find(|(known, _, _)| *known == name)
                && !value.trim().is_empty()
            {
                filled.fields.insert(name, value.trim().to_owned());
            }
        }
        filled
    }

    /// The question: the rest, read as JSON, with the fields in their places.
    #[must_use]
    pub fn question(&self, rest: Value) -> Value {
        let mut question = match rest {
            Value::Object(_) => rest,
            Value::Null => Value::Object(Map::new()),
            // Refused in the words of every other question.
            other => return other,
        };
        for (name, pointer, _) in FIELDS {
            let Some(text) = self.fields.get(name) else { continue };
            let value = match name {
                "devices" => {
                    text.parse::<Number>().map_or_else(|_| text.as_str().into(), Value::Number)
                }
                _ => Value::from(text.as_str()),
            };
            let mut keys = pointer.split('/').skip(1);
            let (first, second) = (keys.next().unwrap_or_default(), keys.next());
            let Some(second) = second else {
                question[first] = value;
                continue;
            };
            let parent = &mut question[first];
            let says_otherwise = name == "trace"
                && parent
                    .as_object()
                    .is_some_and(|all| !all.keys().any(|key| key.contains("trace")));
            if !parent.is_object() || says_otherwise {
                *parent = Value::Object(Map::new());
            }
            parent[second] = value;
        }
        question
    }
}

/// The page with the form.
#[derive(Debug)]
pub struct Ask<'a> {
    /// What stands in the form.
    pub filled: &'a Filled,
    /// Why a question was not taken.
    pub refused: &'a [Violation],
    /// What fields may hold, by their names.
    pub names: &'a BTreeMap<&'static str, Vec<String>>,
    /// Recordings that may be named.
    pub traces: &'a [TraceSummary],
}

impl Ask<'_> {
    /// The page.
    #[must_use]
    pub fn html(&self) -> String {
        let others = self.refused.iter().filter(|one| field_of(one).is_none());
        let others: Vec<&Violation> = others.collect();
        let body = html! {
            h1 { "Ask" }
            p {
                "Start from an example: "
                @for (place, (name, about, _)) in EXAMPLES.iter().enumerate() {
                    @if place > 0 { ", " }
                    a href=(format!("/ask?example={name}")) { (about) }
                }
                "."
            }
            @if !self.refused.is_empty() {
                p class="finding" role="alert" {
                    "The question cannot be answered as it stands: "
                    (self.refused.len()) @if self.refused.len() == 1 { " rule is" } @else { " rules are" } " broken."
                }
            }
            form method="post" action="/ask" {
                div class="fields" { @for (name, _, words) in FIELDS { (self.field(name, words)) } }
                label for="rest" {
                    "The rest of the question, as JSON: workload, routing, and whatever else is known. A whole \
                     question may stand here, too; a field above goes before what it says."
                }
                @if !others.is_empty() { (violations(others.iter().copied())) }
                textarea id="rest" name="rest" rows="16" spellcheck="false" autocomplete="off"
                    aria-invalid=[(!others.is_empty()).then_some("true")] { (self.filled.rest) }
                p { button class="main" { "Ask" } }
            }
        };
        Page { title: "Ask".to_owned(), place: "/ask", body, ..Page::default() }.html()
    }

    fn field(&self, name: &'static str, words: &str) -> Markup {
        let value = self.filled.fields.get(name).map(String::as_str);
        let wrong: Vec<&Violation> =
            self.refused.iter().filter(|one| field_of(one) == Some(name)).collect();
        let is_wrong = (!wrong.is_empty()).then_some("true");
        let told = format!("{name}-wrong");
        let described = is_wrong.map(|_| told.as_str());
        html! {
            div class="field" {
                label for=(name) { (words) }
                @match name {
                    "devices" => {
                        input id=(name) name=(name) value=[value] inputmode="numeric" autocomplete="off"
                            aria-invalid=[is_wrong] aria-describedby=[described];
                    }
                    "trace" => {
                        select id=(name) name=(name) aria-invalid=[is_wrong] aria-describedby=[described] {
                            option value="" { "none" }
                            @for trace in self.traces {
                                option value=(trace.id) selected[Some(&*trace.id) == value] {
                                    (trace.name.as_deref().unwrap_or_else(|| trace.id.get(..12).unwrap_or(&trace.id)))
                                }
                            }
                            @if let Some(value) = value.filter(|value| !self.traces.iter().any(|trace| trace.id == *value)) {
                                option value=(value) selected { (value.get(..12).unwrap_or(value)) }
                            }
                        }
                    }
                    "engine" | "phase" => {
                        select id=(name) name=(name) aria-invalid=[is_wrong] aria-describedby=[described] {
                            option value="" { "as the rest says" }
                            @for one in self.names.get(name).into_iter().flatten() {
                                option value=(one) selected[value.is_some_and(|value| value.eq_ignore_ascii_case(one))] { (one) }
                            }
                        }
                    }
                    _ => {
                        input id=(name) name=(name) value=[value] list=(format!("{name}-names")) autocomplete="off"
                            aria-invalid=[is_wrong] aria-describedby=[described];
                        datalist id=(format!("{name}-names")) {
                            @for one in self.names.get(name).into_iter().flatten() { option value=(one) {} }
                        }
                    }
                }
                @if !wrong.is_empty() {
                    span class="wrong" id=(told) { @for one in &wrong { (one.detail) " " } }
                }
            }
        }
    }
}

/// The field that a broken rule is about.
fn field_of(violation: &Violation) -> Option<&'static str> {
    FIELDS.iter().find(|(_, pointer, _)| violation.pointer == *pointer).map(|(name, _, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_a_map_is_a_question() {
        let (_, _, text) =
            EXAMPLES.iter().find(|(name, ..)| *name == "paper-mixtral-a100").unwrap();
        let question: Value = serde_json::from_str(text).unwrap();
        let varied = |id: &str, value: f64| {
            let mut question = question.clone();
            vary(&mut question, SweptParameter::by_id(id).unwrap(), value).map(|()| question)
        };
        let skewed = varied("skewness", 2.5).unwrap();
        assert_eq!(skewed["routing"]["skewness"], 2.5);
        assert_eq!(
            skewed["routing"]["distribution_error"],
            question["routing"]["distribution_error"]
        );
        let link = &varied("link_bandwidth_bytes_per_s", 1e11).unwrap()["cluster"]["link"];
        assert_eq!(link["bandwidth_bytes_per_s"], 1e11);
        assert!(link["latency_s"].as_f64().unwrap() > 0.0);
        assert_eq!(varied("devices", 8.0).unwrap()["cluster"]["devices"], 8);
        let tokens = varied("tokens_per_step", 1024.0).unwrap();
        assert_eq!(tokens["workload"]["tokens_per_step"], 1024);
        assert_eq!(tokens["workload"].get("batch_size"), None);
        assert_eq!(varied("predictor_accuracy", 0.5).unwrap()["predictors"][0]["accuracy"], 0.5);
        let refused = varied("inter_node_bandwidth_bytes_per_s", 1e11).unwrap_err();
        assert_eq!(refused.pointer, "/cluster");
    }

    #[test]
    fn a_question_comes_back_from_its_form() {
        for (name, _, text) in EXAMPLES {
            let question: Value = serde_json::from_str(text).unwrap();
            let filled = Filled::from_question(question.clone());
            let rest = serde_json::from_str(&filled.rest).unwrap();
            assert_eq!(filled.question(rest), question, "{name}");
        }
    }

    #[test]
    fn fields_go_before_the_rest_and_a_recording_in_the_place_of_other_routing() {
        let filled = Filled::from_form(
            [
                ("model", " x "),
                ("devices", "8"),
                ("engine", ""),
                ("trace", "t"),
                ("rest", "{}"),
                ("nix", "y"),
            ]
            .into_iter(),
        );
        let rest = json!({"model": "y", "routing": {"skewness": 2}, "engine": {"name": "vllm"}});
        assert_eq!(
            filled.question(rest),
            json!({"model": "x", "routing": {"trace_id": "t"}, "engine": {"name": "vllm"},
                   "cluster": {"devices": 8}})
        );
        let rest = json!({"routing": {"trace_id": "u", "train_fraction": 0.5}});
        let question = filled.question(rest);
        assert_eq!(question["routing"], json!({"trace_id": "t", "train_fraction": 0.5}));
    }
}
