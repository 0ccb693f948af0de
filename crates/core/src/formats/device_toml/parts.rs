//! A document that is no device profile, part by part: all that is wrong with it.
//!
//! Reading ends at the first error. So every part (a field, a set of constants, a stack) is
//! read alone, among parts that are fine, and tells its own first error.

use serde_json::{Map, Value, json};
use serde_path_to_error::Segment;

use crate::formats::device_toml::File;
use crate::violation::Violation;

/// The smallest document with every field a profile must have.
fn least() -> Map<String, Value> {
    let Value::Object(fields) = json!({
        "id": "", "name": "", "memory_bytes": 1.0, "bandwidth_bytes_per_s": 1.0,
        "multiprocessors": 1, "l2_bytes": 1.0, "eager_launch_s": 0.0,
        "peak_flop_per_s": {"bf16": 1.0, "fp32": 1.0},
        "stack": [], "gemm": {}, "prefill": {}, "decode": {}, "experts": {}, "rows": {},
        "top_k": {}, "sources": {}
    }) else {
        return Map::new();
    };
    fields
}

/// The first error of every part that is wrong.
pub(super) fn problems(document: &Value) -> Vec<Violation> {
    let Value::Object(fields) = document else {
        return vec![problem(String::new(), "a profile is an object")];
    };
    let least = least();
    let missing = least.keys().filter(|field| !fields.contains_key(*field));
    let mut problems: Vec<Violation> =
        missing.map(|field| problem(format!("/{field}"), format!("{field} is missing"))).collect();
    for (field, value) in fields {
        match value {
            Value::Object(sets) if least.get(field) == Some(&json!({})) => {
                for (name, set) in sets {
                    problems.extend(alone(&least, field, json!({name: set}), 0));
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    problems.extend(alone(&least, field, json!([item]), index));
                }
            }
            _ => problems.extend(alone(&least, field, value.clone(), 0)),
        }
    }
    problems
}

/// The first error of a field with one value; items of a list are counted from `first`.
fn alone(least: &Map<String, Value>, field: &str, value: Value, first: usize) -> Option<Violation> {
    let mut document = least.clone();
    document.insert(field.to_owned(), value);
    let error = serde_path_to_error::deserialize::<_, File>(&Value::Object(document)).err()?;
    let mut pointer = String::new();
    for segment in error.path() {
        let step = match segment {
            Segment::Seq { index } => (index + first).to_string(),
            Segment::Map { key } => escaped(key),
            Segment::Enum { variant } => variant.clone(),
            Segment::Unknown => continue,
        };
        pointer.push('/');
        pointer.push_str(&step);
    }
    Some(problem(pointer, error.inner().to_string()))
}

/// A name as a step of a JSON pointer.
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

pub(super) fn problem(pointer: String, detail: impl Into<String>) -> Violation {
    Violation::new(pointer, "profile", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_document_is_read() {
        assert_eq!(problems(&Value::Object(least())), []);
    }

    #[test]
    fn every_part_tells_its_own_error() {
        let mut document = Value::Object(least());
        document["memory_bytes"] = json!("80 GB");
        document["colour"] = json!("green");
        document["stack"] = json!([{"name": 1}, {"nam": "x"}]);
        document["gemm"] = json!({"one": {"framework": 3}, "a/b": 7});
        document.as_object_mut().unwrap().remove("l2_bytes");
        let said = problems(&document);
        let expected = [
            ("/l2_bytes", "l2_bytes is missing"),
            ("/memory_bytes", "invalid type: string \"80 GB\", expected f64"),
            ("/colour", "unknown field `colour`, expected one of `id`, `name`, "),
            ("/stack/0/name", "invalid type: integer `1`, expected a string"),
            ("/stack/1/nam", "unknown field `nam`, expected one of `name`, `engines`, "),
            ("/gemm/one/framework", "invalid type: integer `3`, expected a string"),
            ("/gemm/a~1b", "invalid type: "),
        ];
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for (problem, (pointer, detail)) in said.iter().zip(expected) {
            assert_eq!(problem.pointer, pointer);
            assert!(problem.detail.starts_with(detail), "{problem:?}");
        }
    }
}
