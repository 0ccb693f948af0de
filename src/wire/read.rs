//! Reads a JSON value piece by piece and notes every violation on the way.
//!
//! A derive would stop at the first problem; a user with five mistakes wants to see
//! five. Each read returns what could be read and leaves a [`Violation`] with its JSON
//! pointer for what could not, so that reading always goes on.

use std::cell::RefCell;
use std::fmt::{Display, Write};
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use moe_gps_core::catalog::names::misspelt;

use crate::wire::question::BANDWIDTH;
use crate::wire::violation::Violation;

/// The violations found so far, in the order of reading.
#[derive(Debug, Default)]
pub struct Violations(RefCell<Vec<Violation>>);

impl Violations {
    /// Notes one violation.
    pub fn note(&self, pointer: impl Into<String>, rule: &str, detail: impl Into<String>) {
        self.0.borrow_mut().push(Violation::new(pointer, rule, detail));
    }

    /// Notes what was found in a part of the request that stands at `pointer`.
    pub fn note_under(&self, pointer: &str, found: impl IntoIterator<Item = Violation>) {
        self.0.borrow_mut().extend(found.into_iter().map(|one| one.under(pointer)));
    }

    /// Whether something is wrong at this place.
    pub fn has_at(&self, pointer: &str) -> bool {
        self.0.borrow().iter().any(|found| found.pointer == pointer)
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// All violations.
    pub fn into_vec(self) -> Vec<Violation> {
        self.0.into_inner()
    }
}

impl From<Vec<Violation>> for Violations {
    fn from(found: Vec<Violation>) -> Self {
        Self(RefCell::new(found))
    }
}

/// A value of the request, and where it stands.
#[derive(Debug, Clone)]
pub struct Located<'a> {
    value: &'a Value,
    pointer: String,
    violations: &'a Violations,
}

/// An object of the request whose fields are being read.
#[derive(Debug)]
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    pointer: String,
    known: RefCell<Vec<&'static str>>,
    violations: &'a Violations,
}

/// A number shown the way a person would write it.
fn shown(number: f64) -> String {
    if number != 0.0 && (number.abs() >= 1e6 || number.abs() < 1e-3) {
        format!("{number:e}")
    } else {
        format!("{number}")
    }
}

/// A number as a whole number, if it is one that floating point holds exactly.
fn whole(number: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked first")]
    let whole = || number as u64;
    (number.fract() == 0.0 && (0.0..=9e15).contains(&number)).then(whole)
}

/// Other words for names of number formats and engines.
const SYNONYMS: [(&str, &str); 9] = [
    ("bfloat16", "bf16"),
    ("float16", "fp16"),
    ("half", "fp16"),
    ("float32", "fp32"),
    ("float8", "fp8"),
    ("float8e4m3", "fp8"),
    ("fp8e4m3", "fp8"),
    ("e4m3", "fp8"),
    ("trtllm", "tensorrtllm"),
];

/// A name in lower-case letters and digits, a synonym replaced.
fn plain(name: &str) -> String {
    let name: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let synonym = SYNONYMS.iter().find(|(synonym, _)| *synonym == name);
    synonym.map_or(name, |(_, meant)| (*meant).to_owned())
}

/// The kind of a JSON value, as a person would name it.
const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

impl<'a> Located<'a> {
    /// Characters a string may have.
    pub const LONGEST_TEXT: usize = 256;

    /// The whole request.
    pub const fn root(value: &'a Value, violations: &'a Violations) -> Self {
        Self { value, pointer: String::new(), violations }
    }

    /// The JSON pointer of this place.
    #[must_use]
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// The value as it stands.
    #[must_use]
    pub const fn value(&self) -> &'a Value {
        self.value
    }

    /// Notes a violation of `rule` here.
    pub fn note(&self, rule: &str, detail: impl Into<String>) {
        self.violations.note(self.pointer.clone(), rule, detail);
    }

    /// Notes a violation of `rule` at a field of this object.
    pub fn note_at(&self, name: &str, rule: &str, detail: impl Into<String>) {
        self.violations.note(format!("{}/{name}", self.pointer), rule, detail);
    }

    fn wrong_type<T>(&self, wanted: &str) -> Option<T> {
        self.note("type", format!("this is {}; it must be {wanted}", kind(self.value)));
        None
    }

    fn out_of_range<T>(&self, found: impl Display, low: &str, high: &str) -> Option<T> {
        self.note("range", format!("{found} is out of range; it must be from {low} to {high}"));
        None
    }

    /// A finite number in `range`.
    #[must_use]
    pub fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let Some(number) = self.value.as_f64() else { return self.wrong_type("a number") };
        if range.contains(&number) {
            return Some(number);
        }
        let mut high = shown(*range.end());
        // Bandwidths are written on datasheets in GB/s.
        let is_bandwidth = range == BANDWIDTH || self.pointer.ends_with("_bytes_per_s");
        if is_bandwidth && (1.0..1e5).contains(&number) {
            let number = shown(number);
            let _ = write!(high, " bytes per second; {number} GB/s is {number}e9");
        } else if self.pointer.ends_with("_s") && !is_bandwidth && number > *range.end() {
            let number = shown(number);
            let _ =
                write!(high, " seconds; {number} ms is {number}e-3, {number} µs is {number}e-6");
        } else if *range.end() <= 1.0 && (2.0..=100.0).contains(&number) {
            let _ = write!(high, "; {} % is {}", shown(number), shown(number / 100.0));
        }
        self.out_of_range(shown(number), &shown(*range.start()), &high)
    }

    /// A whole number in `range`.
    #[must_use]
    pub fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let Value::Number(number) = self.value else { return self.wrong_type("a whole number") };
        let low = range.start().to_string();
        let high = range.end().to_string();
        // JSON has one kind of number: 16.0 is a whole one.
        match number.as_u64().or_else(|| whole(number.as_f64()?)) {
            Some(integer) if range.contains(&integer) => Some(integer),
            None if number.as_f64().is_some_and(|n| n.fract() != 0.0) => {
                self.wrong_type("a whole number")
            }
            _ => self.out_of_range(number, &low, &high),
        }
    }

    /// A whole number in `range` that fits 32 bits.
    #[must_use]
    pub fn small_integer(&self, range: RangeInclusive<u32>) -> Option<u32> {
        self.integer(u64::from(*range.start())..=u64::from(*range.end()))
            .and_then(|integer| u32::try_from(integer).ok())
    }

    /// A string of 1 to 256 characters.
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        let Value::String(text) = self.value else { return self.wrong_type("a string") };
        if text.is_empty() || text.chars().count() > Self::LONGEST_TEXT {
            let most = Self::LONGEST_TEXT;
            self.note("length", format!("the string must have from 1 to {most} characters"));
            return None;
        }
        Some(text)
    }

    /// True or false.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.wrong_type("true or false"))
    }

    /// One of a list of names, in any case and with any marks between letters.
    pub fn one_of<T: Copy>(&self, names: &[(T, &'static str)]) -> Option<T> {
        let text = self.text()?;
        let wanted = plain(text);
        let exact = names.iter().find(|(_, name)| *name == text);
        let found = exact.or_else(|| names.iter().find(|(_, name)| plain(name) == wanted));
        let found = found.map(|(value, _)| *value);
        if found.is_none() {
            let list: Vec<&str> = names.iter().map(|(_, name)| *name).collect();
            let meant = misspelt(text, &list);
            let meant = meant.map_or(String::new(), |name| format!("; did you mean {name}?"));
            self.note("choice", format!("{text:?} is not one of: {}{meant}", list.join(", ")));
        }
        found
    }

    /// The fields of an object.
    #[must_use]
    pub fn object(&self) -> Option<Fields<'a>> {
        let Value::Object(map) = self.value else { return self.wrong_type("an object") };
        Some(Fields {
            map,
            pointer: self.pointer.clone(),
            known: RefCell::default(),
            violations: self.violations,
        })
    }

    /// An object of any names, each with its value.
    #[must_use]
    pub fn entries(&self) -> Option<Vec<(&'a str, Self)>> {
        let Value::Object(map) = self.value else { return self.wrong_type("an object") };
        let entry = |(name, value): (&'a String, &'a Value)| {
            let pointer =
                format!("{}/{}", self.pointer, name.replace('~', "~0").replace('/', "~1"));
            (name.as_str(), Self { value, pointer, violations: self.violations })
        };
        Some(map.iter().map(entry).collect())
    }

    /// The items of an array whose length is in `length`.
    #[must_use]
    pub fn items(&self, length: RangeInclusive<usize>) -> Option<Vec<Self>> {
        let Value::Array(items) = self.value else { return self.wrong_type("an array") };
        if !length.contains(&items.len()) {
            self.note(
                "length",
                format!(
                    "the array has {} items; it must have from {} to {}",
                    items.len(),
                    length.start(),
                    length.end()
                ),
            );
            return None;
        }
        let place = |(index, value)| Self {
            value,
            pointer: format!("{}/{index}", self.pointer),
            violations: self.violations,
        };
        Some(items.iter().enumerate().map(place).collect())
    }
}

impl<'a> Fields<'a> {
    /// A field that may be left out; `null` counts as left out.
    pub fn get(&self, name: &'static str) -> Option<Located<'a>> {
        self.known.borrow_mut().push(name);
        let value = self.map.get(name).filter(|value| !value.is_null())?;
        Some(Located {
            value,
            pointer: format!("{}/{name}", self.pointer),
            violations: self.violations,
        })
    }

    /// A field that must be there.
    pub fn require(&self, name: &'static str) -> Option<Located<'a>> {
        let place = self.get(name);
        if place.is_none() {
            self.note("required", format!("`{name}` is missing"));
        }
        place
    }

    /// Notes a violation of `rule` at this object.
    pub fn note(&self, rule: &str, detail: impl Into<String>) {
        self.violations.note(self.pointer.clone(), rule, detail);
    }

    /// The JSON pointer of this object.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// Notes every field that nothing has asked for.
    pub fn finish(self) {
        let known = self.known.into_inner();
        for name in self.map.keys().filter(|name| !known.contains(&name.as_str())) {
            let escaped = name.replace('~', "~0").replace('/', "~1");
            let mut names = known.clone();
            names.sort_unstable();
            names.dedup();
            let meant = misspelt(name, &names);
            let meant = meant.map_or(String::new(), |name| format!("; did you mean `{name}`"));
            self.violations.note(
                format!("{}/{escaped}", self.pointer),
                "unknown_field",
                format!("this field is unknown here{meant}; known are: {}", names.join(", ")),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::field::{FieldKind as _, List};

    #[test]
    fn names_are_read_as_people_write_them() {
        let names =
            ["bf16", "fp16", "fp8", "fp32", "vllm", "tensorrt-llm"].map(|name| (name, name));
        for (written, meant) in [
            ("bfloat16", "bf16"),
            ("BF16", "bf16"),
            ("float16", "fp16"),
            ("FP8", "fp8"),
            ("fp8_e4m3", "fp8"),
            ("vLLM", "vllm"),
            ("TensorRT LLM", "tensorrt-llm"),
            ("TRT-LLM", "tensorrt-llm"),
        ] {
            let (value, violations) = (json!(written), Violations::default());
            assert_eq!(Located::root(&value, &violations).one_of(&names), Some(meant), "{written}");
        }
    }

    #[test]
    fn what_is_meant_is_told_in_the_words_of_the_one_who_asks() {
        let value = json!({
            "overhead_s": 153, "accuracy": 90, "bandwidth_bytes_per_s": 900, "phase": "prefil",
            "skewnes": 2,
        });
        let violations = Violations::default();
        let fields = Located::root(&value, &violations).object().unwrap();
        assert_eq!(fields.require("overhead_s").and_then(|place| place.number(0.0..=60.0)), None);
        assert_eq!(fields.require("accuracy").and_then(|place| place.number(0.0..=1.0)), None);
        let bandwidth = fields.require("bandwidth_bytes_per_s");
        assert_eq!(bandwidth.and_then(|place| place.number(BANDWIDTH)), None);
        let phases = ["prefill", "decode"].map(|name| (name, name));
        assert_eq!(fields.require("phase").and_then(|place| place.one_of(&phases)), None);
        let _ = fields.get("skewness");
        fields.finish();
        let said: Vec<String> = violations.into_vec().into_iter().map(|v| v.detail).collect();
        assert_eq!(
            said,
            [
                "153 is out of range; it must be from 0 to 60 seconds; 153 ms is 153e-3, 153 µs is \
                 153e-6",
                "90 is out of range; it must be from 0 to 1; 90 % is 0.9",
                "900 is out of range; it must be from 1e6 to 1e13 bytes per second; 900 GB/s is 900e9",
                "\"prefil\" is not one of: prefill, decode; did you mean prefill?",
                "this field is unknown here; did you mean `skewness`; known are: accuracy, \
                 bandwidth_bytes_per_s, overhead_s, phase, skewness",
            ]
        );
    }

    #[test]
    fn every_violation_is_noted_with_its_place() {
        let value = json!({"a": "x", "b": 7.5, "c": -1, "d": [1, "y", 3], "zz": 0});
        let violations = Violations::default();
        let fields = Located::root(&value, &violations).object().unwrap();
        assert_eq!(fields.require("a").and_then(|place| place.number(0.0..=1.0)), None);
        assert_eq!(fields.require("b").and_then(|place| place.integer(1..=9)), None);
        assert_eq!(fields.require("c").and_then(|place| place.integer(1..=9)), None);
        assert_eq!(fields.get("d").and_then(|place| List(1..=9, 0.0..=9.0).read(&place)), None);
        assert!(fields.require("e").is_none());
        fields.finish();
        let found: Vec<(String, String)> =
            violations.into_vec().into_iter().map(|v| (v.pointer, v.rule)).collect();
        let expected = [
            ("/a", "type"),
            ("/b", "type"),
            ("/c", "range"),
            ("/d/1", "type"),
            ("", "required"),
            ("/zz", "unknown_field"),
        ];
        let expected: Vec<(String, String)> =
            expected.iter().map(|(p, r)| ((*p).to_owned(), (*r).to_owned())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn huge_whole_numbers_are_out_of_range_not_wrapped() {
        let value = json!(9_223_372_036_854_775_808_u64);
        let violations = Violations::default();
        assert_eq!(Located::root(&value, &violations).integer(1..=16_777_216), None);
        assert_eq!(violations.into_vec()[0].rule, "range");
    }
}
