//! Reading fields of a configuration: every field asked for is remembered, every
//! problem is kept, so that one reading names them all.
//!
//! A count that is missing or wrong is noted and read as 0; what is derived from it is
//! thrown away together with it, since any problem refuses the whole configuration.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::violation::Violation;

/// Objects inside a configuration whose fields belong to it (DBRX).
const PARTS: [&str; 2] = ["attn_config", "ffn_config"];

/// The fields of one configuration object, and of the parts inside it.
pub(super) struct Fields<'a> {
    /// Every object with its JSON pointer.
    objects: Vec<(String, &'a Map<String, Value>)>,
    used: BTreeSet<&'a str>,
    problems: Vec<Violation>,
    not_priced: Vec<String>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(object: &'a Map<String, Value>, at: &str) -> Self {
        let inside = |name: &&str| Some((format!("{at}/{name}"), object.get(*name)?.as_object()?));
        let parts = PARTS.iter().filter_map(inside);
        Self {
            objects: std::iter::once((at.to_owned(), object)).chain(parts).collect(),
            used: BTreeSet::new(),
            problems: Vec::new(),
            not_priced: Vec::new(),
        }
    }

    /// Notes a problem at `name`.
    pub(super) fn problem(&mut self, name: &str, rule: &'static str, detail: String) {
        let holder = self.objects.iter().find(|(_, object)| object.contains_key(name));
        let at = holder.or(self.objects.first()).map_or("", |(at, _)| at);
        self.problems.push(Violation::new(format!("{at}/{name}"), rule, detail));
    }

    /// Notes what the model has and no law prices.
    pub(super) fn unpriced(&mut self, what: String) {
        self.not_priced.push(what);
    }

    /// Looks a field up and counts it as used; null is as good as absent.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a Value> {
        let found = self.objects.iter().find_map(|(_, object)| object.get_key_value(name));
        let (name, value) = found?;
        self.used.insert(name);
        (!value.is_null()).then_some(value)
    }

    /// A required whole number from 1 to `max`.
    pub(super) fn count(&mut self, name: &str, max: u32) -> u32 {
        self.any_count(&[name], max)
    }

    /// A required whole number from 1 to `max`, by any of its names.
    pub(super) fn any_count(&mut self, names: &[&str], max: u32) -> u32 {
        if let Some(count) = self.maybe(names, 1, max) {
            return count;
        }
        let name = names.first().copied().unwrap_or_default();
        let others = names.get(1..).filter(|others| !others.is_empty());
        let or = others.map_or_else(String::new, |others| format!(" (or {})", others.join(", ")));
        let detail = format!("{name} is missing{or}; state a whole number from 1 to {max}");
        self.problem(name, "required", detail);
        0
    }

    /// A whole number from `min` to `max`, `default` where absent or null.
    pub(super) fn count_or(&mut self, name: &str, default: u32, min: u32, max: u32) -> u32 {
        self.maybe(&[name], min, max).unwrap_or(default)
    }

    /// A whole number from `min` to `max` by any of its names, which must agree; a list of equal
    /// numbers, one a layer, is that number.
    pub(super) fn maybe(&mut self, names: &[&str], min: u32, max: u32) -> Option<u32> {
        let mut found: Option<(&str, u32)> = None;
        for name in names {
            let Some(value) = self.take(name) else { continue };
            let count = match value {
                Value::Array(items) if !items.is_empty() => self.alike(name, items, min, max),
                value => self.whole(name, value, min, max),
            };
            match found {
                Some((first, other)) if other != count => {
                    let detail = format!(
                        "{name} is {count} and {first} is {other}; they name one thing: leave one out"
                    );
                    self.problem(name, "consistency", detail);
                }
                _ => found = Some((name, count)),
            }
        }
        found.map(|(_, count)| count)
    }

    /// The number of which all items of a list are.
    fn alike(&mut self, name: &str, items: &[Value], min: u32, max: u32) -> u32 {
        let counts: Vec<u32> = items.iter().map(|item| self.whole(name, item, min, max)).collect();
        let most = counts.iter().copied().max().unwrap_or(0);
        if counts.iter().any(|count| *count != most) {
            self.unpriced(format!(
                "{name} differs between layers; every layer is priced with the largest, {most}"
            ));
        }
        most
    }

    fn whole(&mut self, name: &str, value: &Value, min: u32, max: u32) -> u32 {
        let Some(number) = value.as_number() else {
            let detail = format!("{name} is {}; it must be a whole number", kind(value));
            self.problem(name, "type", detail);
            return 0;
        };
        let fits = number.as_u64().and_then(|number| u32::try_from(number).ok());
        match fits {
            Some(count) if (min..=max).contains(&count) => count,
            _ => {
                let fraction = number.is_f64() && number.as_f64().is_some_and(|n| n.fract() != 0.0);
                let rule = if fraction { "type" } else { "range" };
                let detail =
                    format!("{name} is {number}; it must be a whole number from {min} to {max}");
                self.problem(name, rule, detail);
                0
            }
        }
    }

    /// A truth value by any of its names, which must agree; none where absent or null.
    pub(super) fn maybe_flag(&mut self, names: &[&str]) -> Option<bool> {
        let mut found: Option<(&str, bool)> = None;
        for name in names {
            match (self.take(name), found) {
                (None, _) => {}
                (Some(Value::Bool(flag)), Some((first, other))) if *flag != other => {
                    let detail = format!(
                        "{name} is {flag} and {first} is {other}; they name one thing: leave one out"
                    );
                    self.problem(name, "consistency", detail);
                }
                (Some(Value::Bool(flag)), _) => found = Some((name, *flag)),
                (Some(other), _) => {
                    let detail = format!("{name} is {}; it must be true or false", kind(other));
                    self.problem(name, "type", detail);
                }
            }
        }
        found.map(|(_, flag)| flag)
    }

    /// A truth value, `default` where absent or null.
    pub(super) fn flag(&mut self, name: &str, default: bool) -> bool {
        self.maybe_flag(&[name]).unwrap_or(default)
    }

    /// A text; `Err` where the field holds something else (noted).
    pub(super) fn text(&mut self, name: &str) -> Result<Option<&'a str>, ()> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => {
                let detail = format!("{name} is {}; it must be a text", kind(other));
                self.problem(name, "type", detail);
                Err(())
            }
        }
    }

    /// A list of layer numbers or flags, empty where absent or null.
    pub(super) fn numbers(&mut self, name: &str) -> Vec<u64> {
        let Some(value) = self.take(name) else { return Vec::new() };
        let list = value.as_array();
        let numbers: Option<Vec<u64>> =
            list.and_then(|items| items.iter().map(Value::as_u64).collect());
        numbers.unwrap_or_else(|| {
            let detail = format!("{name} must be a list of whole numbers from 0 up");
            self.problem(name, "type", detail);
            Vec::new()
        })
    }

    /// A list of texts, empty where absent or null.
    pub(super) fn texts(&mut self, name: &str) -> Vec<&'a str> {
        let Some(value) = self.take(name) else { return Vec::new() };
        let texts: Option<Vec<&str>> =
            value.as_array().and_then(|items| items.iter().map(Value::as_str).collect());
        texts.unwrap_or_else(|| {
            let detail = format!("{name} must be a list of texts");
            self.problem(name, "type", detail);
            Vec::new()
        })
    }

    /// An object, none where absent or null.
    pub(super) fn object(&mut self, name: &str) -> Option<&'a Map<String, Value>> {
        let value = self.take(name)?;
        if value.as_object().is_none() {
            let detail = format!("{name} is {}; it must be an object", kind(value));
            self.problem(name, "type", detail);
        }
        value.as_object()
    }

    /// Whether a field is given and not null.
    pub(super) fn has(&self, name: &str) -> bool {
        let given = |object: &Map<String, Value>| object.get(name).is_some_and(|v| !v.is_null());
        self.objects.iter().any(|(_, object)| given(object))
    }

    /// The first of `names` that is given, else the first.
    pub(super) fn given<'n>(&self, names: &[&'n str]) -> &'n str {
        let named = names.iter().find(|name| self.has(name)).or(names.first());
        named.copied().unwrap_or("")
    }

    /// The configuration's own name, if it has one.
    pub(super) fn name(&mut self) -> Option<String> {
        ["name", "_name_or_path"].iter().find_map(|field| {
            let text = self.take(field)?.as_str()?.trim();
            (!text.is_empty()).then(|| text.chars().take(120).collect())
        })
    }

    /// Fields nobody asked for.
    pub(super) fn unused(&self) -> impl Iterator<Item = (&'a str, &'a Value)> + '_ {
        let fields = self.objects.iter().flat_map(|(_, object)| object.iter());
        let fields = fields.map(|(name, value)| (name.as_str(), value));
        fields.filter(|(name, _)| !self.used.contains(name) && !PARTS.contains(name))
    }

    /// Takes over what was noted about a nested object.
    pub(super) fn absorb(&mut self, nested: Fields<'_>) {
        self.problems.extend(nested.problems);
        self.not_priced.extend(nested.not_priced);
    }

    /// All problems, and all that is not priced.
    pub(super) fn noted(self) -> (Vec<Violation>, Vec<String>) {
        (self.problems, self.not_priced)
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
