//! The API description: what the routes say, with the words that belong to all of them.

use utoipa::OpenApi;

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
        (name = "catalog", description = "Models, devices and links, every number with its source"),
        (name = "operations", description = "Probes and metrics"),
    )
)]
pub struct Description;

/// The whole description as it is served and committed.
#[must_use]
pub fn json() -> String {
    let (_, api) = crate::http::router::documented().split_for_parts();
    let mut text = api.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// Every operation on one line: `operation_id METHOD /path`.
#[must_use]
pub fn operations() -> String {
    let (_, api) = crate::http::router::documented().split_for_parts();
    let api = serde_json::to_value(&api).unwrap_or_default();
    let mut lines = Vec::new();
    for (path, methods) in api["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            if let Some(id) = operation["operationId"].as_str() {
                lines.push(format!("{id:<28} {:<6} {path}\n", method.to_uppercase()));
            }
        }
    }
    lines.sort();
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

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
