//! Labels: what the one who asks calls an ask, to find it again.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::wire::field::{Named, Readable};
use crate::wire::read::{Located, Violations};
use crate::wire::violation::Violation;

/// Labels an ask may have.
const MOST: usize = 32;
/// Characters of a label's name.
const NAME: RangeInclusive<usize> = 1..=64;
/// Longest text of a label, characters.
const LONGEST: usize = 256;

/// Names with texts, such as `team` with `search`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(pub BTreeMap<String, String>);

impl Labels {
    /// Reads labels that are a whole body, alone or under `labels`.
    pub fn read_body(body: &Value) -> Result<Self, Vec<Violation>> {
        let nested = body.as_object().filter(|fields| fields.len() == 1);
        let nested = nested.and_then(|fields| fields.get("labels")).filter(|one| one.is_object());
        let violations = Violations::default();
        let read = Self::read(&Located::root(nested.unwrap_or(body), &violations));
        if violations.is_empty() {
            Ok(read.unwrap_or_default())
        } else {
            Err(violations.into_vec())
        }
    }

    /// As they are stored and shown: compact JSON, names in order.
    #[must_use]
    pub fn to_json(&self) -> String {
        // A map of texts always serialises.
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// Whether this can be the name of a label.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        NAME.contains(&name.len()) && name.chars().all(fits)
    }
}

impl Readable for Labels {
    fn read(place: &Located) -> Option<Self> {
        let entries = place.entries()?;
        if MOST < entries.len() {
            place.note(
                "items",
                format!("there are {} labels; at most {MOST} may be", entries.len()),
            );
            return None;
        }
        let read = entries.into_iter().map(|(name, place)| {
            if !Self::is_name(name) {
                let most = NAME.end();
                place.note(
                    "name",
                    format!("a label's name has 1 to {most} letters, digits and `._-/`"),
                );
                return None;
            }
            match place.value() {
                Value::String(text) if text.chars().count() <= LONGEST => {
                    Some((name.to_owned(), text.clone()))
                }
                _ => {
                    place.note(
                        "type",
                        format!("this must be a string of up to {LONGEST} characters"),
                    );
                    None
                }
            }
        });
        // All are looked at, so that all violations are told.
        let read: Vec<Option<(String, String)>> = read.collect();
        read.into_iter().collect::<Option<_>>().map(Self)
    }

    fn shown() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).max_length(Some(LONGEST));
        let labels = ObjectBuilder::new().schema_type(Type::Object);
        labels.additional_properties(Some(AdditionalProperties::RefOr(text.into()))).into()
    }

    fn gather(_found: &mut Named) {}
}

impl ToSchema for Labels {}

impl PartialSchema for Labels {
    fn schema() -> RefOr<Schema> {
        Self::shown()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_are_read_alone_or_under_their_name() {
        let read = |body: Value| Labels::read_body(&body).map(|labels| labels.to_json());
        let said = |body: Value| {
            let violations = Labels::read_body(&body).unwrap_err();
            violations.into_iter().map(|one| one.pointer).collect::<Vec<_>>()
        };
        assert_eq!(read(json!({"b": "1", "a": ""})), Ok(r#"{"a":"","b":"1"}"#.to_owned()));
        assert_eq!(read(json!({"labels": {"a": "x"}})), Ok(r#"{"a":"x"}"#.to_owned()));
        assert_eq!(read(json!({"labels": "x"})), Ok(r#"{"labels":"x"}"#.to_owned()));
        assert_eq!(
            said(json!({"a": 1, "b c": "", "": "", "d/e~": "x"})),
            ["/a", "/b c", "/", "/d~1e~0"]
        );
        assert_eq!(said(json!([1])), [""]);
        assert_eq!(said(json!({"a": "x".repeat(257)})), ["/a"]);
    }
}
