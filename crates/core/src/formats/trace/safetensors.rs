//! The head of a safetensors file: where each tensor lies.
//!
//! Written here rather than taken from the library because that wants the whole file in
//! memory. Format: <https://github.com/huggingface/safetensors>, "Format".

use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{Deserializer as _, Error, IgnoredAny, MapAccess, Visitor};

use crate::formats::trace::archive::{Folder, Member};
use crate::formats::trace::error::TraceError;
use crate::formats::trace::pickle::Element;
use crate::formats::trace::shorten;

/// Longest head; it takes about 80 bytes a tensor.
const MAX_HEAD: u64 = 64 << 20;
/// Most tensors of a file.
const MAX_TENSORS: usize = 1 << 20;

/// A tensor, and where its bytes are in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) element: Element,
    pub(super) shape: Vec<u64>,
    pub(super) at: u64,
}

/// A tensor of one dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) element: Element,
    pub(super) length: u64,
    pub(super) at: u64,
}

impl Tensor {
    /// Its only row.
    pub(super) fn row(&self) -> Result<Row, String> {
        match *self.shape.as_slice() {
            [length] => Ok(Row { element: self.element, length, at: self.at }),
            _ => Err(format!("{} dimension(s); counts of a layer have one", self.shape.len())),
        }
    }
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Hands every tensor of a file on by its name.
pub(super) fn tensors(
    folder: &Folder,
    member: Member,
    name: &str,
    take: &mut dyn FnMut(&str, Tensor) -> Result<(), String>,
) -> Result<(), TraceError> {
    let bad = |what: &dyn fmt::Display| {
        TraceError::unreadable(format_args!("`{}`: {what}", shorten(name)))
    };
    let mut length = [0; 8];
    folder.read_at(member, 0, &mut length)?;
    let length = u64::from_le_bytes(length);
    let behind = member.len - 8;
    if length > MAX_HEAD.min(behind) {
        let text = format!("its head claims {length} bytes of the {behind} there are");
        return Err(bad(&text));
    }
    let mut reader = folder.reader(member);
    reader.read_exact(&mut [0; 8]).map_err(|error| bad(&error))?;
    let from = std::io::BufReader::new(reader.take(length));
    let mut head = serde_json::Deserializer::from_reader(from);
    let data = Data { at: 8 + length, bytes: behind - length };
    head.deserialize_map(Head { data, take, n: 0 }).map_err(|error| bad(&error))
}

/// What stands behind the head.
struct Data {
    at: u64,
    bytes: u64,
}

struct Head<'a> {
    data: Data,
    take: &'a mut dyn FnMut(&str, Tensor) -> Result<(), String>,
    n: usize,
}

impl<'de> Visitor<'de> for Head<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            self.n += 1;
            if self.n > MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }
            let tensor = self.tensor(map.next_value()?);
            tensor
                .and_then(|tensor| (self.take)(&name, tensor))
                .map_err(|what| A::Error::custom(format!("tensor `{}`: {what}", shorten(&name))))?;
        }
        Ok(())
    }
}

impl Head<'_> {
    fn tensor(&self, entry: Entry) -> Result<Tensor, String> {
        let element = match entry.dtype.as_str() {
            "U8" | "BOOL" => Element::U8,
            "I8" => Element::I8,
            "I16" => Element::I16,
            "I32" => Element::I32,
            "I64" => Element::I64,
            "F16" => Element::F16,
            "BF16" => Element::BF16,
            "F32" => Element::F32,
            "F64" => Element::F64,
            other => return Err(format!("elements of type {} are not read", shorten(other))),
        };
        let (from, to) = entry.data_offsets;
        let length = entry.shape.iter().try_fold(1_u64, |n, size| n.checked_mul(*size));
        let wanted = length.and_then(|length| length.checked_mul(element.size() as u64));
        if from > to || to > self.data.bytes || wanted != Some(to - from) {
            let shape: Vec<String> = entry.shape.iter().map(u64::to_string).collect();
            return Err(format!(
                "bytes {from} to {to} of {} do not hold {} elements of {} bytes",
                self.data.bytes,
                shape.join(" x "),
                element.size()
            ));
        }
        Ok(Tensor { element, shape: entry.shape, at: self.data.at + from })
    }
}
