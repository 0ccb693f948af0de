//! JSON as Python writes it: a model's configuration may hold `Infinity` and `NaN`.

use serde_json::Value;

use crate::wire::json;

/// What stands in for a number that JSON does not have, until it is known where it stood.
const MARK: &str = "\u{1}not a number";
const NAMES: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// Where numbers that JSON does not have are taken for absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loose {
    /// Everywhere: the whole text is a model's configuration.
    Everywhere,
    /// Inside the model of a question.
    InModel,
}

/// What editors on Windows put before a text in UTF-8, to be ignored (RFC 8259 section 8.1).
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads JSON; `Infinity` and `NaN` inside a model's configuration are as good as null.
pub fn parse(text: &[u8], loose: Loose) -> Result<Value, serde_json::Error> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let strict = json::parse(text);
    let Err(error) = strict else { return strict };
    let Some(marked) = marked(text) else { return Err(error) };
    let Ok(mut value) = json::parse(marked.as_bytes()) else { return Err(error) };
    match loose {
        Loose::Everywhere => forget(&mut value),
        Loose::InModel => {
            let question = match value.get("question") {
                Some(Value::Object(_)) => value.get_mut("question"),
                _ => Some(&mut value),
            };
            if let Some(model) = question.and_then(|question| question.get_mut("model")) {
                forget(model);
            }
        }
    }
    if has_mark(&value) { Err(error) } else { Ok(value) }
}

/// The text with marks for such numbers, outside of its strings; none where there are none.
fn marked(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let mark = serde_json::to_string(MARK).ok()?;
    let mut marked = String::with_capacity(text.len());
    let (mut inside, mut escaped, mut found, mut rest) = (false, false, false, text);
    while let Some(first) = rest.chars().next() {
        let name = NAMES.iter().find(|name| !inside && rest.starts_with(**name));
        if let Some(name) = name {
            marked.push_str(&mark);
            rest = rest.get(name.len()..)?;
            found = true;
            continue;
        }
        inside ^= first == '"' && !escaped;
        escaped = inside && first == '\\' && !escaped;
        marked.push(first);
        rest = rest.get(first.len_utf8()..)?;
    }
    found.then_some(marked)
}

fn forget(value: &mut Value) {
    match value {
        Value::String(text) if text == MARK => *value = Value::Null,
        Value::Array(items) => items.iter_mut().for_each(forget),
        Value::Object(fields) => fields.values_mut().for_each(forget),
        _ => {}
    }
}

fn has_mark(value: &Value) -> bool {
    match value {
        Value::String(text) => text == MARK,
        Value::Array(items) => items.iter().any(has_mark),
        Value::Object(fields) => fields.values().any(has_mark),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_byte_order_mark_is_ignored() {
        let marked = [BYTE_ORDER_MARK, b"{}"].concat();
        assert_eq!(parse(&marked, Loose::Everywhere).unwrap(), json!({}));
    }

    #[test]
    fn numbers_that_json_lacks_are_read_inside_a_model_only() {
        let read = |text: &str| parse(text.as_bytes(), Loose::InModel);
        let model = r#"{"model": {"limit": [0.0, Infinity], "a\"NaN": -Infinity}, "seed": 1}"#;
        let value = read(model).unwrap();
        assert_eq!(value, json!({"model": {"limit": [0.0, null], "a\"NaN": null}, "seed": 1}));
        let sweep = read(r#"{"question": {"model": {"x": NaN}}}"#).unwrap();
        assert_eq!(sweep, json!({"question": {"model": {"x": null}}}));
        assert!(read(r#"{"model": {}, "seed": NaN}"#).is_err());
        assert!(read(r#"{"do": NaN}"#).unwrap_err().to_string().contains("column 8"));
        assert_eq!(parse(b"[NaN]", Loose::Everywhere).unwrap(), json!([null]));
    }
}
