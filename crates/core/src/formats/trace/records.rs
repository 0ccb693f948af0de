//! Reads counts as JSON whose objects are rows of a [`table`]: `[{"layer": 3, "expert": 17, "count": 5}, …]`,
//! `{"layers": [{"layer": 3, "counts": [n, …]}, …]}`, `{"layers": {"3": [n, …]}}`, or one such object a line;
//! or a line a step, `{"counts": [[n, …], …]}`. What an outer object says (`step`, `layer`, `rank`) holds for
//! those inside it, if it comes before them.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::formats::trace::bounded_json::BoundedJson;
use crate::formats::trace::counts_json::layer_named;
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::table::{self, Column, Row, Take};
use crate::formats::trace::{COUNTS_NAMES, Input, shorten};
use crate::trace::{MAX_EXPERTS, MAX_LAYERS};

/// Bytes in which the first row is looked for.
const SNIFFED: u64 = 1 << 20;
/// Most fields of objects in each other that say something of a row.
const MOST_SAID: usize = MAX_EXPERTS as usize + 64;

/// Whether such rows are found near the beginning; `is_lines` where every line is a document.
pub(super) fn is_records(raw: &File, is_lines: bool) -> Result<bool, TraceError> {
    let mut file = raw;
    file.rewind().map_err(TraceError::storage)?;
    let read = read(file.take(SNIFFED), is_lines, &mut |_, _| Err(TraceError::Unrecognized));
    file.rewind().map_err(TraceError::storage)?;
    // The first row, or one with a flaw; what is no JSON is for another reader to say.
    Ok(matches!(read, Err(TraceError::Unrecognized | TraceError::Invalid { .. })))
}

/// Converts rows to a stored trace.
pub(super) fn convert(input: Input<'_>, is_lines: bool) -> Result<File, TraceError> {
    let raw = input.raw.try_clone().map_err(TraceError::storage)?;
    table::convert(input, "rows", &|take| {
        let mut file = &raw;
        file.rewind().map_err(TraceError::storage)?;
        read(file, is_lines, take)
    })
}

/// Hands every count on with the place of its row, from 0.
fn read(from: impl Read, is_lines: bool, take: Take<'_>) -> Result<(), TraceError> {
    let from = BufReader::with_capacity(64 * 1024, BoundedJson::new(from));
    let mut documents = serde_json::Deserializer::from_reader(from);
    let mut rows = Rows { take, said: Vec::new(), nth: 0, is_lines, line: 0, stopped: None };
    let read = loop {
        let node = Node { rows: &mut rows, of_layers: false };
        if let Err(error) = node.deserialize(&mut documents) {
            break Err(error);
        }
        rows.line += 1;
        // White space may follow the last document.
        match documents.end() {
            Ok(()) => break Ok(()),
            Err(_) if is_lines => {}
            Err(error) => break Err(error),
        }
    };
    match (rows.stopped, read) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(TraceError::unreadable(shorten(&error.to_string()))),
        (None, Ok(())) => Ok(()),
    }
}

/// Rows as they are found.
struct Rows<'a> {
    take: Take<'a>,
    /// What the objects around the place being read say, outermost first.
    said: Vec<(Column, String)>,
    nth: u64,
    /// Whether every line is a document, and which it is.
    is_lines: bool,
    line: u64,
    stopped: Option<TraceError>,
}

impl Rows<'_> {
    fn says(&self, column: Column) -> bool {
        self.said.iter().any(|(said, _)| *said == column)
    }

    fn fail(&self, what: &str) -> TraceError {
        let pointer = format!("/rows/{}", self.nth);
        Flaws::default().fail("type", pointer, format!("row {}: {what}", self.nth))
    }

    /// Hands on what an object holds whose own fields begin at `base`.
    fn give(&mut self, base: usize, counts: &Value) -> Result<(), TraceError> {
        let found = self.found(base, counts)?;
        found.iter().try_for_each(|row| (self.take)(self.nth, row))?;
        self.nth += u64::from(!found.is_empty());
        Ok(())
    }

    /// What is said here, as a row without a count of its own.
    fn row(&self) -> Result<Row, TraceError> {
        let mut row = Row::default();
        let mut set = |column, field: &str| row.set(column, field).map_err(|what| self.fail(&what));
        self.said.iter().try_for_each(|(column, field)| set(*column, field))?;
        Ok(row)
    }

    fn found(&self, base: usize, counts: &Value) -> Result<Vec<Row>, TraceError> {
        let own = |column| self.said[base..].iter().filter(|(said, _)| *said == column).count();
        let [experts, named] = [Column::Expert, Column::Count].map(own);
        let of = |row: Row, counts: &[f64]| -> Vec<Row> {
            let of = |(expert, count): (u64, &f64)| Row { expert, count: *count, ..row };
            (0..).zip(counts).map(of).collect()
        };
        Ok(match counts {
            Value::Row(counts) if self.says(Column::Layer) => of(self.row()?, counts),
            // The layers of a step in their order; of a document alone they are no rows.
            Value::Layers(layers) if self.is_lines || self.says(Column::Step) => {
                let row = self.row()?;
                let step = if self.says(Column::Step) { row.step } else { self.line };
                let layers = (0..).zip(layers);
                layers.flat_map(|(layer, counts)| of(Row { step, layer, ..row }, counts)).collect()
            }
            _ if experts + named > 0 && self.says(Column::Expert) => {
                if experts > 1 || named > 1 {
                    return Err(self.fail("it names its expert or its count twice"));
                }
                if !self.says(Column::Layer) || !self.says(Column::Count) {
                    return Err(self.fail("it must have a layer, an expert and a count"));
                }
                vec![self.row()?]
            }
            _ if self.says(Column::Layer) => {
                let fields = self.said[base..].iter();
                let of = |(column, field): &(Column, String)| {
                    let expert = column.expert()?;
                    let set = self.row().and_then(|mut row| {
                        row.set(Column::Count, field).map_err(|what| self.fail(&what))?;
                        Ok(Row { expert, ..row })
                    });
                    Some(set)
                };
                fields.filter_map(of).collect::<Result<_, _>>()?
            }
            _ => Vec::new(),
        })
    }
}

/// What a value is to the object around it.
enum Value {
    /// A text, or a number as one.
    Field(String),
    /// Counts of experts.
    Row(Vec<f64>),
    /// Those of several layers.
    Layers(Vec<Vec<f64>>),
    /// Rows that are handed on, or nothing of a table.
    Done,
}

/// A value at any depth; whether the names in it are those of layers.
struct Node<'a, 'b> {
    rows: &'a mut Rows<'b>,
    of_layers: bool,
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rows of counts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let Self { rows, of_layers } = self;
        let base = rows.said.len();
        let mut counts = Value::Done;
        let stop = |rows: &mut Rows, given: Result<(), TraceError>| {
            given.map_err(|error| {
                rows.stopped = Some(error);
                A::Error::custom("stopped")
            })
        };
        while let Some(key) = map.next_key::<String>()? {
            let layer = if of_layers { layer_named(&key) } else { None };
            let column = match layer {
                Some(_) => Column::Layer,
                None if COUNTS_NAMES.contains(&&*key) => Column::Count,
                None => Column::named(&key),
            };
            let own = rows.said.len();
            rows.said.extend(layer.map(|layer| (Column::Layer, layer.to_string())));
            let node = Node { rows, of_layers: key == "layers" };
            match map.next_value_seed(node)? {
                of_layer @ Value::Row(_) if layer.is_some() => {
                    let given = rows.give(own, &of_layer);
                    stop(rows, given)?;
                }
                Value::Field(field) if layer.is_none() && column.is_known() => {
                    rows.said.push((column, field));
                }
                value @ (Value::Row(_) | Value::Layers(_)) if column == Column::Count => {
                    counts = value;
                }
                _ => {}
            }
            if layer.is_some() {
                rows.said.truncate(own);
            }
            if rows.said.len() > MOST_SAID {
                return Err(A::Error::custom("an object has more fields than there are experts"));
            }
        }
        let given = rows.give(base, &counts);
        rows.said.truncate(base);
        stop(rows, given).map(|()| Value::Done)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let Self { rows, .. } = self;
        let (mut row, mut layers, mut done) = (Vec::new(), Vec::new(), false);
        while let Some(item) = items.next_element_seed(Node { rows, of_layers: false })? {
            match item {
                Value::Field(field) => row.push(field.parse().unwrap_or(f64::NAN)),
                Value::Row(row) => layers.push(row),
                Value::Layers(_) | Value::Done => done = true,
            }
            if row.len() > MAX_EXPERTS as usize || layers.len() > MAX_LAYERS {
                return Err(A::Error::custom("an array holds more counts than a step can have"));
            }
        }
        Ok(match (row.is_empty(), layers.is_empty()) {
            _ if done => Value::Done,
            (false, true) => Value::Row(row),
            (true, false) => Value::Layers(layers),
            _ => Value::Done,
        })
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Field(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Field(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Field(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Field(text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Done)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Done)
    }
}
