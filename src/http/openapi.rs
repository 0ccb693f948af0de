//! The API description: what the routes say, with the words that belong to all of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::OpenApi;

use crate::http::access;
use crate::telemetry::metrics::declare_operation;

/// What belongs to all operations.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "moe-gps",
        description = "Which expert-load forecast, if any, makes a mixture-of-experts deployment \
                       faster: a question goes in, a recommendation with its reasons comes out. \
                       Times are RFC 3339, numbers SI with the unit in the field name, errors \
                       `application/problem+json`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "recommendations", description = "Ask, follow, fetch, list and cancel"),
        (name = "sweeps", description = "Which strategy wins over a grid of one or two quantities"),
        (name = "traces", description = "Routing traces that questions refer to"),
        (name = "deployments", description = "Named asks with their map in force, judged on the \
                                              loads that are posted to them"),
        (name = "catalog", description = "Models, devices and links, every number with its source"),
        (name = "operations", description = "Probes and metrics"),
    )
)]
pub struct Description;

/// The example of a question.
const QUESTION: &str = include_str!("../../examples/questions/paper-mixtral-a100.json");
/// The example of a question that is watched.
const WATCHED: &str = include_str!("../../examples/questions/mixtral-h100.json");
/// A shipped profile, which under another id is the example of a registered one.
const DEVICE: &str = include_str!("../../catalog/devices/l40s.toml");

/// The whole description as it is served and committed.
#[must_use]
pub fn json() -> String {
    // A value of strings, numbers and lists always serialises.
    let mut text = serde_json::to_string_pretty(&description()).unwrap_or_default();
    text.push('\n');
    text
}

/// The description as the routes give it, with what holds for all of them.
fn description() -> Value {
    let (_, api) = crate::http::router::documented().split_for_parts();
    let mut api = serde_json::to_value(&api).unwrap_or_default();
    name_schemas(&mut api);
    for (path, methods) in api["paths"].as_object_mut().into_iter().flatten() {
        for (method, operation) in methods.as_object_mut().into_iter().flatten() {
            complete(path, method, operation);
        }
    }
    api["security"] = json!([{}, {"bearer": []}, {"basic": []}]);
    api["components"]["securitySchemes"] = json!({
        "bearer": {"type": "http", "scheme": "bearer",
                   "description": "A token as `moe-gps token create` prints it"},
        "basic": {"type": "http", "scheme": "basic",
                  "description": "Any user name, and a token as the password"},
    });
    api["servers"] = json!([{"url": "/", "description": "The service that answers this"}]);
    api
}

/// Gives schemas the names of what they describe: types that only write a body end in `Body`.
fn name_schemas(api: &mut Value) {
    let Some(schemas) = api["components"]["schemas"].as_object_mut() else { return };
    let mut renamed = BTreeMap::new();
    for name in schemas.keys() {
        if let Some(short) = name.strip_suffix("Body")
            && !schemas.contains_key(short)
        {
            renamed.insert(name.clone(), short.to_owned());
        }
    }
    *schemas = std::mem::take(schemas)
        .into_iter()
        .map(|(name, schema)| (renamed.get(&name).cloned().unwrap_or(name), schema))
        .collect();
    schemas.sort_keys();
    refer(api, &renamed);
}

fn refer(value: &mut Value, renamed: &BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get_mut("$ref")
                && let Some(name) = target.strip_prefix(SCHEMAS)
                && let Some(short) = renamed.get(name)
            {
                *target = format!("{SCHEMAS}{short}");
            }
            fields.values_mut().for_each(|field| refer(field, renamed));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| refer(item, renamed)),
        _ => {}
    }
}

/// Where schemas stand in the description.
const SCHEMAS: &str = "#/components/schemas/";

/// What is answered to a body that is no JSON.
const NO_JSON_BODY: [(&str, &str); 3] =
    [("400", "Not JSON"), ("413", "Too large"), ("415", "Not sent as application/json")];

/// An answer that is a problem.
fn refused(description: &str) -> Value {
    json!({"description": description, "content": problem()})
}

fn problem() -> Value {
    json!({"application/problem+json": {"schema": {"$ref": format!("{SCHEMAS}Problem")}}})
}

/// Adds to an operation what its handler does not say, because it holds for all.
fn complete(path: &str, method: &str, operation: &mut Value) {
    if access::is_open(path) {
        operation["security"] = json!([]);
    } else {
        let challenge = json!({"WWW-Authenticate": {
            "description": "`Bearer` and `Basic`", "schema": {"type": "string"}}});
        operation["responses"]["401"] = json!({
            "description": "Tokens are in force, and the request has none that counts",
            "headers": challenge, "content": problem()});
        operation["responses"]["403"] = refused(
            "The token may not do this, or the request comes from a web page of another origin",
        );
    }
    // Every body of JSON alone is read by one extractor.
    let content = operation.pointer("/requestBody/content").and_then(Value::as_object);
    if content.is_some_and(|content| content.keys().eq(["application/json"])) {
        for (status, description) in NO_JSON_BODY {
            operation["responses"][status] = refused(description);
        }
    }
    // A deletion has the filters of the list, and no pages.
    if (method, path) == ("delete", "/v1/recommendations")
        && let Some(parameters) = operation["parameters"].as_array_mut()
    {
        parameters.retain(|one| one["name"] != "limit" && one["name"] != "cursor");
    }
    if let Some(responses) = operation["responses"].as_object_mut() {
        responses.sort_keys();
        for (status, response) in responses {
            if ["429", "503"].contains(&status.as_str()) {
                response["headers"] = json!({"Retry-After": {
                    "description": "Seconds after which trying again makes sense",
                    "schema": {"type": "integer", "minimum": 0}}});
            }
        }
    }
    // One line is both to tools that ask for the longer text.
    if operation.get("description").is_none() {
        operation["description"] = operation["summary"].clone();
    }
    // Generators take the first type of a body.
    if let Some(Value::Object(content)) = operation.pointer_mut("/requestBody/content")
        && let Some(bytes) = content.shift_remove("application/octet-stream")
    {
        content.shift_insert(0, "application/octet-stream".to_owned(), bytes);
    }
    for (media_type, example) in examples(path, method) {
        operation["requestBody"]["content"][media_type]["example"] = example;
    }
}

/// Bodies that the service answers as they are.
fn examples(path: &str, method: &str) -> Vec<(&'static str, Value)> {
    let question = || serde_json::from_str::<Value>(QUESTION).unwrap_or_default();
    let device = DEVICE.replacen("id = \"l40s\"", "id = \"our-l40s\"", 1);
    match (method, path) {
        ("post", "/v1/recommendations") => vec![("application/json", question())],
        ("post", "/v1/sweeps") => {
            let axes = json!([{"parameter": "skewness", "values": [1.0, 1.5, 2.0]}]);
            vec![("application/json", json!({"question": question(), "axes": axes}))]
        }
        ("post", "/v1/traces") => vec![
            (
                "application/json",
                json!({"counts": [[[40, 30, 20, 10], [25, 25, 25, 25]],
                                                   [[30, 40, 10, 20], [20, 30, 25, 25]]]}),
            ),
            ("text/csv", json!("layer,expert,count\n0,0,40\n0,1,60\n1,0,55\n1,1,45\n")),
        ],
        ("post", "/v1/devices") => {
            let profile: Value = toml::from_str(&device).unwrap_or_default();
            vec![("application/json", profile), ("application/toml", json!(device))]
        }
        ("post", "/v1/recommendations/{id}/outcomes") => {
            let outcome = json!({"strategy": "replace_only", "step_s": 0.0302, "steps": 5000});
            vec![("application/json", outcome)]
        }
        ("put", "/v1/deployments/{name}") => {
            let mut question: Value = serde_json::from_str(WATCHED).unwrap_or_default();
            if let Some(fields) = question.as_object_mut() {
                fields.shift_remove("routing");
            }
            let policy = json!({"min_gain": 0.05, "for": "30m", "every": "1m", "keep_windows": 24});
            vec![("application/json", json!({"question": question, "policy": policy}))]
        }
        ("put", "/v1/deployments/{name}/current") => {
            vec![("application/json", json!({"strategy": "none"}))]
        }
        ("put", "/v1/recommendations/{id}/labels") => {
            vec![("application/json", json!({"team": "search"}))]
        }
        _ => Vec::new(),
    }
}

/// Every operation: method, path and what is said of it.
fn each_operation(api: &Value) -> impl Iterator<Item = (String, &str, &Value)> {
    let paths = api["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().into_iter().flatten();
        methods.map(move |(method, operation)| (method.to_uppercase(), path.as_str(), operation))
    })
}

/// Every operation on one line: `operation_id METHOD /path`.
#[must_use]
pub fn operations() -> String {
    let api = description();
    let mut lines: Vec<String> = each_operation(&api)
        .filter_map(|(method, path, operation)| {
            let id = operation["operationId"].as_str()?;
            Some(format!("{id:<28} {method:<6} {path}\n"))
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// Makes every operation with its statuses known to the metrics.
pub(super) fn declare_operations() {
    for (method, path, operation) in each_operation(&description()) {
        let statuses = operation["responses"].as_object().into_iter().flatten();
        let statuses: Vec<&str> = statuses.map(|(status, _)| status.as_str()).collect();
        declare_operation(&method, path, &statuses);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        let api: Value = serde_json::from_str(&json()).unwrap();
        let mut found = Vec::new();
        references(&api, &mut found);
        assert!(found.len() > 50, "{}", found.len());
        for reference in found {
            assert!(api.pointer(&reference[1..]).is_some(), "{reference}");
        }
    }
}
