//! Which source each number of a catalog document has.

use std::collections::BTreeMap;

use serde_json::Value;

/// The source of every number in `document`, by the number's JSON pointer.
///
/// A number's source is the one `stated` for it or for the nearest place above it,
/// or the `source` text of the nearest table around it, whichever is nearer; empty
/// where there is none.
#[must_use]
pub fn sources_of_numbers(
    document: &Value,
    stated: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    walk(document, String::new(), "", stated, &mut found);
    found
}

fn walk<'a>(
    value: &'a Value,
    at: String,
    above: &'a str,
    stated: &'a BTreeMap<String, String>,
    found: &mut BTreeMap<String, String>,
) {
    let inside = value.get("source").and_then(Value::as_str);
    let source = stated.get(&at).map(String::as_str).or(inside).unwrap_or(above);
    match value {
        Value::Number(_) => {
            found.insert(at, source.to_owned());
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                walk(value, format!("{at}/{name}"), source, stated, found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                walk(value, format!("{at}/{index}"), source, stated, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_nearest_source_counts() {
        let document = json!({
            "a": 1, "b": {"c": 2, "d": [3]}, "set": {"source": "a table", "constants": {"x": 4}},
            "odd/name": {"source": "x", "y": 5}, "none": 6
        });
        let stated = BTreeMap::from(
            [("/a", "for a"), ("/b", "for b"), ("/b/c", "for c")]
                .map(|(pointer, source)| (pointer.to_owned(), source.to_owned())),
        );
        let found = sources_of_numbers(&document, &stated);
        let of = |pointer: &str| found[pointer].as_str();
        assert_eq!([of("/a"), of("/b/c"), of("/b/d/0")], ["for a", "for c", "for b"]);
        assert_eq!([of("/set/constants/x"), of("/odd~1name/y"), of("/none")], ["a table", "x", ""]);
        assert_eq!(found.len(), 6);
    }
}
