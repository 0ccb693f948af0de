//! The document of the question, from the schema of the API: every field, and the flags of engines.

use std::collections::BTreeMap;

use moe_gps::http::openapi;
use serde_json::{Value, json};

use super::{assert_part, root};
use crate::asking::result;

const FILE: &str = "docs/question.md";

/// What the description of a field says, by the word its lines begin with.
const PARTS: [&str; 6] = ["Default", "Example", "Changes", "vLLM", "SGLang", "TensorRT-LLM"];

/// Ends of names, and the unit that such a field has.
const UNITS: [(&str, &str); 15] = [
    ("_bytes_per_s", "bytes/s"),
    ("_s", "s"),
    ("_steps", "steps"),
    ("_length", "tokens"),
    ("_tokens", "tokens"),
    ("concurrency", "requests"),
    ("tokens_per_step", "tokens"),
    ("batch_size", "sequences"),
    ("slots_per_device", "slots"),
    ("max_copies", "copies"),
    ("devices", "devices"),
    ("_domain", "devices"),
    ("nodes", "nodes"),
    ("pipeline", "stages"),
    ("_tensor", "devices"),
];

/// A field of an object of the question.
struct Field<'a> {
    name: &'a str,
    schema: &'a Value,
    is_required: bool,
    /// What it is, and [`PARTS`].
    said: BTreeMap<&'static str, String>,
}

impl Field<'_> {
    fn part(&self, name: &str) -> &str {
        self.said.get(name).map_or("", String::as_str)
    }

    fn example(&self) -> Option<Value> {
        let text = self.part("Example").trim_matches('`');
        (!text.is_empty()).then(|| {
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{}: {error}", self.name))
        })
    }
}

fn said(description: &str) -> BTreeMap<&'static str, String> {
    let mut said = BTreeMap::from([("", String::new())]);
    let mut part = "";
    for line in description.lines() {
        let begun =
            |name: &&&str| line.strip_prefix(**name).is_some_and(|rest| rest.starts_with(": "));
        let line = match PARTS.iter().find(begun) {
            Some(name) => {
                part = name;
                &line[name.len() + 2..]
            }
            None => line,
        };
        let text = said.entry(part).or_default();
        format!("{text} {line}").trim().clone_into(text);
    }
    said
}

/// The object that a schema leads to, of an array the items'.
fn reference(schema: &Value) -> Option<&str> {
    let own = schema["$ref"].as_str();
    let inner = || schema["anyOf"].as_array()?.iter().find_map(reference);
    let item = || schema.get("items").and_then(reference);
    own.map(|name| name.rsplit('/').next().unwrap()).or_else(inner).or_else(item)
}

fn fields(object: &Value) -> Vec<Field<'_>> {
    let required: Vec<&str> = object["required"]
        .as_array()
        .map_or_else(Vec::new, |all| all.iter().filter_map(Value::as_str).collect());
    object["properties"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, schema)| Field {
            name,
            schema,
            is_required: required.contains(&name.as_str()),
            said: said(schema["description"].as_str().unwrap_or_default()),
        })
        .collect()
}

/// The question and every object it leads to, each once, in the order of the fields.
fn objects(schemas: &Value) -> Vec<(&str, &Value)> {
    let mut found = vec![("Question", &schemas["Question"])];
    let mut at = 0;
    while let Some((_, object)) = found.get(at) {
        for (_, schema) in object["properties"].as_object().unwrap() {
            if let Some(name) = reference(schema)
                && found.iter().all(|(known, _)| *known != name)
            {
                found.push((name, &schemas[name]));
            }
        }
        at += 1;
    }
    found
}

/// What a value may be, in words.
fn kind(schema: &Value) -> String {
    let link = |name: &str| format!("[{name}](#{})", name.to_lowercase());
    if schema["$ref"].is_string() {
        return link(reference(schema).unwrap());
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    let range = || match (&schema["minimum"], &schema["maximum"]) {
        (Value::Number(least), Value::Number(most)) => format!(", {least} to {most}"),
        _ => String::new(),
    };
    match schema["type"].as_str().unwrap() {
        "string" if schema["enum"].is_array() => {
            let choices = schema["enum"].as_array().unwrap().iter();
            choices.map(|one| format!("`{}`", one.as_str().unwrap())).collect::<Vec<_>>().join(", ")
        }
        "string" => "text".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        "integer" => format!("whole number{}", range()),
        "number" => format!("number{}", range()),
        "array" => {
            let least = schema["minItems"].as_u64().unwrap_or(0);
            let items = kind(&schema["items"]);
            format!("list of {least} to {} of: {items}", schema["maxItems"])
        }
        "object" => "object".to_owned(),
        other => panic!("{other} has no words"),
    }
}

fn unit(field: &Field) -> &'static str {
    let counts = ["integer", "number"].contains(&field.schema["type"].as_str().unwrap_or_default());
    let fits = |(end, _): &&(&str, &str)| field.name.ends_with(end);
    if !counts {
        return "";
    }
    let attention_or_experts = ["attention_data", "expert_parallel"].contains(&field.name);
    match UNITS.iter().find(fits) {
        Some((_, unit)) => unit,
        None if attention_or_experts => "devices",
        None => "",
    }
}

fn row(cells: &[&str]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

fn fields_shown(schemas: &Value) -> String {
    let mut shown = String::new();
    for (name, object) in objects(schemas) {
        let about = object["description"].as_str().unwrap().replace('\n', " ");
        shown += &["### ", name, "\n\n", &about, "\n\n"].concat();
        shown += &row(&[
            "field",
            "what it is",
            "what it changes",
            "values",
            "unit",
            "default",
            "example",
        ]);
        shown += &row(&["---"; 7]);
        for field in fields(object) {
            let default = if field.is_required { "must be given" } else { field.part("Default") };
            shown += &row(&[
                &format!("`{}`", field.name),
                field.part(""),
                field.part("Changes"),
                &kind(field.schema),
                unit(&field),
                default,
                field.part("Example"),
            ]);
        }
        shown += "\n";
    }
    shown
}

fn flags_shown(schemas: &Value) -> String {
    let engines = &PARTS[3..];
    let mut shown = row(&[&["field"], engines].concat()) + &row(&["---"; 4]);
    for (name, object) in objects(schemas) {
        for field in fields(object) {
            let flags: Vec<&str> = engines.iter().map(|engine| field.part(engine)).collect();
            if flags.iter().any(|flag| !flag.is_empty()) {
                let place = if name == "Question" { String::new() } else { format!("{name}: ") };
                shown += &row(&[&[&*format!("{place}`{}`", field.name)], &*flags].concat());
            }
        }
    }
    shown
}

fn schemas() -> Value {
    let mut api: Value = serde_json::from_str(&openapi::json()).unwrap();
    api["components"]["schemas"].take()
}

#[test]
fn the_question_is_described_field_by_field() {
    let schemas = schemas();
    let same = |shown: &str, computed: &str| shown == computed;
    assert_part(FILE, "fields", &fields_shown(&schemas), same);
    assert_part(FILE, "flags", &flags_shown(&schemas), same);
}

/// Whether a value is one that the schema allows, as far as types, bounds and choices go.
fn fits(schemas: &Value, schema: &Value, value: &Value) -> bool {
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().any(|choice| fits(schemas, choice, value));
    }
    if let Some(name) = schema["$ref"].as_str() {
        let object = &schemas[name.rsplit('/').next().unwrap()];
        let known =
            |(name, value): (&String, &Value)| fits(schemas, &object["properties"][name], value);
        return value.as_object().is_some_and(|fields| fields.iter().all(known));
    }
    let bounded = |number: f64| {
        schema["minimum"].as_f64().is_none_or(|least| least <= number)
            && schema["maximum"].as_f64().is_none_or(|most| number <= most)
    };
    match schema["type"].as_str() {
        Some("string") => {
            let listed = schema["enum"].as_array().is_none_or(|all| all.contains(value));
            value.is_string() && listed
        }
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() && bounded(value.as_f64().unwrap()),
        Some("number") => value.as_f64().is_some_and(bounded),
        Some("array") => {
            let items = value.as_array();
            items.is_some_and(|all| all.iter().all(|item| fits(schemas, &schema["items"], item)))
        }
        _ => value.is_object(),
    }
}

#[test]
fn every_field_says_what_it_is_its_default_an_example_and_what_it_changes() {
    let schemas = schemas();
    let mut lacking = Vec::new();
    for (object, schema) in objects(&schemas) {
        for field in fields(schema) {
            let mut lacks = |what: &str| lacking.push(format!("{object}.{}: {what}", field.name));
            if field.part("").is_empty() || field.part("Changes").is_empty() {
                lacks("what it is, or `Changes:`");
            }
            if !field.is_required && field.part("Default").is_empty() {
                lacks("`Default:`");
            }
            match field.example() {
                Some(example) if !fits(&schemas, field.schema, &example) => {
                    lacks("an example that is read");
                }
                None if reference(field.schema).is_none() => lacks("`Example:`"),
                _ => (),
            }
        }
    }
    assert!(lacking.is_empty(), "say these in the comments of src/wire/question: {lacking:#?}");
}

/// A default that is a value, not words.
fn written(default: &str) -> Option<Value> {
    let text = default.trim_matches('`');
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c);
    if text.is_empty()
        || !text.chars().all(is_word)
        || ["none", "searched", "all"].contains(&default)
    {
        return None;
    }
    // `dtype` stands for the value of another field.
    Some(match text {
        "dtype" => json!("bf16"),
        _ => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
    })
}

#[test]
fn a_written_default_changes_nothing() {
    let base = json!({
        "model": "mixtral-8x7b",
        "cluster": {"device": "h200-sxm", "devices": 4, "link": "nvlink4"},
        "workload": {"phase": "decode", "batch_size": 64, "kv_length": 1024},
        "routing": {"skewness": 1.6},
        "flip_points": false,
    });
    let answered = |question: &Value| {
        let mut answer = result(question);
        answer["warnings"].take();
        answer
    };
    let expected = answered(&base);
    let schemas = schemas();
    let question = &schemas["Question"];
    let mut asked = 0;
    let mut changed = Vec::new();
    let mut ask = |pointer: &str, question: &Value| {
        asked += 1;
        if answered(question) != expected {
            changed.push(pointer.to_owned());
        }
    };
    for field in fields(question) {
        if let Some(value) = written(field.part("Default")).filter(|_| field.name != "flip_points")
        {
            let mut question = base.clone();
            question[field.name] = value;
            ask(field.name, &question);
        }
        // Other objects change the answer by being there.
        let is_plain = field.schema["$ref"].is_string()
            && !["current", "engine", "measured_layer", "routing"].contains(&field.name);
        let Some(object) = reference(field.schema).filter(|_| is_plain) else { continue };
        for inner in fields(&schemas[object]) {
            if let Some(value) = written(inner.part("Default")) {
                let mut question = base.clone();
                question[field.name][inner.name] = value;
                ask(&format!("{}.{}", field.name, inner.name), &question);
            }
        }
    }
    assert!(asked > 12, "{asked}");
    assert!(changed.is_empty(), "these defaults are not what they are said to be: {changed:?}");
}

#[test]
fn the_examples_are_named() {
    let readme = super::text("examples/README.md");
    for file in std::fs::read_dir(root().join("examples/questions")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(
            readme.contains(&format!("`questions/{name}`")),
            "examples/README.md leaves out {name}"
        );
        assert!(super::text(FILE).contains(&name), "{FILE} leaves out {name}");
    }
}
