//! Reads the routes engines return with their answers (`--enable-return-routed-experts`):
//! one JSON document, an array of them, or one a line.
//!
//! SGLang: base64 of raw 32-bit ids under `meta_info` or `sglext`; vLLM: base64 of a NumPy
//! file, or (0.21) nested lists, per choice. Every choice is one sequence. The last token of
//! an answer was not routed, so T tokens have T − 1 rows.

mod body;
mod rows;

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use self::body::Response;
use self::rows::{Rows, rows_of};
use crate::formats::trace::bounded_json::BoundedJson;
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::routes::{NO_ID, RoutePosition, RouteRecorder, check_shape};
use crate::formats::trace::{Input, shorten};
use crate::trace::MAX_EXPERTS;

/// Most bytes of one answer.
const MAX_RESPONSE: u64 = 96 << 20;
/// The keys that only an engine's answer has.
const KEYS: [&str; 5] =
    ["choices", "meta_info", "sglext", "routed_experts", "prompt_routed_experts"];

/// Whether the document (or its first line, or first item) is an engine's answer.
pub(super) fn is_response(raw: &File) -> Result<bool, TraceError> {
    let mut file = raw;
    file.rewind().map_err(TraceError::storage)?;
    let found = Cell::new(None);
    let from = BoundedJson::new(BufReader::new(file));
    let from = Bounded { inner: from, left: &Cell::new(MAX_RESPONSE) };
    let mut document = serde_json::Deserializer::from_reader(from);
    // What is wrong with the document is for its reader to say.
    let _ = document.deserialize_any(Sniff(&found));
    file.rewind().map_err(TraceError::storage)?;
    Ok(found.get() == Some(true))
}

/// Looks at keys until one decides.
struct Sniff<'a>(&'a Cell<Option<bool>>);

impl<'de> Visitor<'de> for Sniff<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let response = KEYS.contains(&key.as_str());
            if response || matches!(key.as_str(), "counts" | "logical_count" | "experts") {
                self.0.set(Some(response));
                return Err(serde::de::Error::custom("seen enough"));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        items.next_element_seed(self)?;
        Err(serde::de::Error::custom("seen enough"))
    }
}

impl<'de> DeserializeSeed<'de> for Sniff<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Converts answers to a stored trace.
pub(super) fn convert(input: Input<'_>) -> Result<File, TraceError> {
    let raw = input.raw.try_clone().map_err(TraceError::storage)?;
    let mut taker = Taker { input: Some(input), recorder: None, sequences: 0, stopped: None };
    let left = Cell::new(MAX_RESPONSE);
    let from = BoundedJson::new(BufReader::with_capacity(256 * 1024, raw));
    let from = Bounded { inner: from, left: &left };
    let mut documents = serde_json::Deserializer::from_reader(from).into_iter();
    while let Some(read) = {
        left.set(MAX_RESPONSE);
        documents.next()
    } {
        let result: Result<Document, serde_json::Error> = read;
        let document = match result {
            Ok(document) => document,
            Err(error) => return Err(taker.stopped.take().unwrap_or_else(|| classify(&error))),
        };
        for response in document.0 {
            taker.take(response)?;
        }
    }
    taker.finish()
}

fn classify(error: &serde_json::Error) -> TraceError {
    let text = shorten(&error.to_string());
    if error.is_data() {
        Flaws::default().fail("type", "", text)
    } else {
        TraceError::unreadable(text)
    }
}

/// One answer, or an array of them.
struct Document(Vec<Response>);

impl<'de> serde::Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an answer of an engine, or an array of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Document, A::Error> {
                let from = serde::de::value::MapAccessDeserializer::new(map);
                serde::Deserialize::deserialize(from).map(|one| Document(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Document, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = items.next_element()? {
                    all.push(item);
                }
                Ok(Document(all))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// Takes answers and records their routes.
struct Taker<'a> {
    /// Until the first row says what shape rows have.
    input: Option<Input<'a>>,
    recorder: Option<(RouteRecorder, [u8; 32], (usize, usize))>,
    sequences: u64,
    stopped: Option<TraceError>,
}

impl Taker<'_> {
    fn take(&mut self, response: Response) -> Result<(), TraceError> {
        let shape = self.recorder.as_ref().map(|(_, _, shape)| *shape);
        let declared = self.input.as_ref().and_then(|input| input.declared.top_k);
        for rows in rows_of(response, shape, declared)? {
            self.record(&rows)?;
        }
        Ok(())
    }

    fn record(&mut self, rows: &Rows) -> Result<(), TraceError> {
        if let Some(input) = self.input.take_if(|_| self.recorder.is_none()) {
            let (layers, top_k) = (rows.n_layers as u64, rows.top_k as u64);
            let mut flaws = Flaws::default();
            check_shape(&mut flaws, "", layers, top_k, input.declared);
            flaws.into_result()?;
            let shape = (rows.n_layers, rows.top_k);
            let recorder =
                RouteRecorder::new(input.to, input.scratch, shape, input.declared, MAX_EXPERTS)?;
            self.recorder = Some((recorder, input.digest, shape));
        }
        let Some((recorder, _, shape)) = &mut self.recorder else { return Ok(()) };
        if *shape != (rows.n_layers, rows.top_k) {
            let detail = format!(
                "answer {} has {} layers of {} experts; the first has {} of {}",
                self.sequences, rows.n_layers, rows.top_k, shape.0, shape.1
            );
            return Err(Flaws::default().fail("shape", format!("/{}", self.sequences), detail));
        }
        if rows.guessed && self.sequences == 0 {
            recorder.note(format!(
                "the answers do not say how many experts a token has: {} fit the ids",
                rows.top_k
            ));
        }
        for (position, row) in rows.ids.chunks_exact(rows.n_layers * rows.top_k).enumerate() {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            let place =
                RoutePosition::Array { sequence: self.sequences, position: position.into() };
            recorder.push(place, position, row, |n| {
                if row[n] == NO_ID { "out of range".to_owned() } else { row[n].to_string() }
            })?;
        }
        self.sequences += 1;
        recorder.end_sequence()
    }

    fn finish(self) -> Result<File, TraceError> {
        match self.recorder {
            Some((recorder, digest, _)) => recorder.finish(digest),
            None => Err(Flaws::default().fail(
                "required",
                "",
                "no answer holds `routed_experts`; start the engine with \
                 --enable-return-routed-experts",
            )),
        }
    }
}

/// Fails where one answer is longer than what is held in memory.
struct Bounded<'a, R> {
    inner: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        match self.left.get().checked_sub(n as u64) {
            Some(left) => {
                self.left.set(left);
                Ok(n)
            }
            None => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("an answer is longer than {MAX_RESPONSE} bytes"),
            )),
        }
    }
}
