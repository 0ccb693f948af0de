//! Reads counts from JSON: `{"counts": A}`, or under another of their names, where A is
//! `[layers][experts]`, `[steps][layers][experts]`, or, for `counts`, an object of
//! name → `[layers][experts]`. Other keys are ignored. The array alone is read as well, and an
//! object by layer, `{layer: [n, …]}` or `{layer: {expert: n}}`, alone or under such a name.
//!
//! The document is never held in memory: rows go to disk as they are read.

mod by_layer;
mod sink;

pub(super) use self::by_layer::layer_named;

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use self::by_layer::{Layers, Row};
use self::sink::Sink;
use crate::formats::trace::bounded_json::BoundedJson;
use crate::formats::trace::error::TraceError;
use crate::formats::trace::stored::Scratch;
use crate::formats::trace::{COUNTS_NAMES, Declared, shorten};

/// Converts a document to a stored trace written to `to`.
pub fn convert(
    from: impl Read,
    to: File,
    scratch: Scratch<'_>,
    declared: Declared,
    digest: [u8; 32],
) -> Result<File, TraceError> {
    let mut sink = Sink::new(to, scratch, declared)?;
    let from = BufReader::with_capacity(64 * 1024, BoundedJson::new(from));
    let mut deserializer = serde_json::Deserializer::from_reader(from);
    let read = deserializer
        .deserialize_any(Document { sink: &mut sink, declared })
        .and_then(|()| deserializer.end());
    match read {
        Ok(()) => sink.finish(digest),
        Err(error) => Err(sink.stopped.take().unwrap_or_else(|| classify(sink, error))),
    }
}

/// Tells broken JSON from JSON that holds something else.
fn classify(sink: Sink, error: serde_json::Error) -> TraceError {
    let text = shorten(&error.to_string());
    if error.is_io() {
        return match io::Error::from(error) {
            error if error.kind() == io::ErrorKind::InvalidData => TraceError::unreadable(error),
            error => TraceError::storage(error),
        };
    }
    if error.is_data() || text.starts_with("number out of range") {
        return sink.flaws.fail("type", "", text);
    }
    if text.starts_with("trailing characters") {
        return TraceError::unreadable(format_args!(
            "{text}: it holds several values; send JSON Lines as application/x-ndjson (.ndjson)"
        ));
    }
    TraceError::unreadable(text)
}

/// The outermost object or array.
struct Document<'a> {
    sink: &'a mut Sink,
    declared: Declared,
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `counts` or `logical_count`, counts by layer, or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut layers = Layers::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "counts" if self.sink.begin(&key) => {
                    map.next_value_seed(Node { sink: self.sink, depth: 1, names: true })?;
                }
                "counts" => {
                    map.next_value::<IgnoredAny>()?;
                }
                name if COUNTS_NAMES.contains(&name) => {
                    map.next_value_seed(Named { sink: self.sink, declared: self.declared, name })?;
                }
                key => match layer_named(key) {
                    Some(layer) => {
                        layers.add(layer, map.next_value::<Row>()?).map_err(A::Error::custom)?;
                    }
                    None => {
                        map.next_value::<IgnoredAny>()?;
                    }
                },
            }
        }
        layers.give("", self.declared.experts, self.sink).map_err(A::Error::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        self.sink.begin("");
        Node { sink: self.sink, depth: 1, names: false }.visit_seq(items)
    }
}

/// What stands under a name of counts: an array, or an object by layer.
struct Named<'a> {
    sink: &'a mut Sink,
    declared: Declared,
    name: &'a str,
}

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Named<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counts, as an array or by layer")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if !self.sink.begin(self.name) {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        Node { sink: self.sink, depth: 1, names: false }.visit_seq(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut layers = Layers::default();
        while let Some(key) = map.next_key::<String>()? {
            let Some(layer) = layer_named(&key) else {
                let detail = format!("`{}` is no layer", shorten(&key));
                self.sink.flaws.note("type", || (format!("/{}", self.name), detail));
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            layers.add(layer, map.next_value::<Row>()?).map_err(A::Error::custom)?;
        }
        if layers.is_empty() {
            self.sink.begin(self.name);
            return Ok(());
        }
        layers.give(self.name, self.declared.experts, self.sink).map_err(A::Error::custom)
    }
}

/// A number, or an array of them at some depth.
struct Node<'a> {
    sink: &'a mut Sink,
    /// Arrays around a number at this place, plus one.
    depth: usize,
    /// Whether an object of named steps may stand here.
    names: bool,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let depth = self.depth;
        if depth > 3 {
            self.sink.strange("shape", "an array inside the row of a layer");
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        self.sink.enter();
        while items
            .next_element_seed(Node { sink: self.sink, depth: depth + 1, names: false })?
            .is_some()
        {
            self.sink.step_over();
        }
        self.sink.leave(depth).map_err(A::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if !self.names {
            self.sink.strange("type", "an object where a count or an array must be");
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        self.sink.expect_names();
        while let Some(name) = map.next_key::<String>()? {
            self.sink.name(&name).map_err(A::Error::custom)?;
            map.next_value_seed(Node { sink: self.sink, depth: 2, names: false })?;
        }
        self.sink.names_end();
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<(), E> {
        self.sink.count(self.depth - 1, count as f64).map_err(E::custom)
    }

    fn visit_i64<E: serde::de::Error>(self, count: i64) -> Result<(), E> {
        self.sink.count(self.depth - 1, count as f64).map_err(E::custom)
    }

    fn visit_f64<E: serde::de::Error>(self, count: f64) -> Result<(), E> {
        self.sink.count(self.depth - 1, count).map_err(E::custom)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.sink.not_a_number("null");
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.sink.not_a_number("true or false");
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.sink.not_a_number("a string");
        Ok(())
    }
}
