//! What a pickle builds: values, and the heap that longer ones live on.

use crate::formats::trace::embedding::half;

/// A value; longer ones stand on the heap, so sharing costs nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Index of an [`Object`].
    Object(usize),
}

/// A value with an inside.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Object {
    Text(Box<str>),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Class(Class),
    Storage(Storage),
    Tensor(Tensor),
}

/// The classes and functions a pickle may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    OrderedDict,
    RebuildTensor,
    Storage(Element),
}

/// What the elements of a tensor are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    U8,
    I8,
    I16,
    I32,
    I64,
    F16,
    BF16,
    F32,
    F64,
}

impl Class {
    /// The class that a pickle means by module and name.
    pub(super) fn named(module: &str, name: &str) -> Option<Self> {
        let element = match (module, name) {
            ("collections", "OrderedDict") => return Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => return Some(Self::RebuildTensor),
            ("torch", "ByteStorage" | "BoolStorage") => Element::U8,
            ("torch", "CharStorage") => Element::I8,
            ("torch", "ShortStorage") => Element::I16,
            ("torch", "IntStorage") => Element::I32,
            ("torch", "LongStorage") => Element::I64,
            ("torch", "HalfStorage") => Element::F16,
            ("torch", "BFloat16Storage") => Element::BF16,
            ("torch", "FloatStorage") => Element::F32,
            ("torch", "DoubleStorage") => Element::F64,
            _ => return None,
        };
        Some(Self::Storage(element))
    }
}

impl Element {
    /// Bytes of an element.
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    /// What `NumPy` calls them, little-endian; it has no numbers in bfloat16.
    pub(crate) const fn numpy(self) -> Option<&'static str> {
        Some(match self {
            Self::U8 => "|u1",
            Self::I8 => "|i1",
            Self::I16 => "<i2",
            Self::I32 => "<i4",
            Self::I64 => "<i8",
            Self::F16 => "<f2",
            Self::BF16 => return None,
            Self::F32 => "<f4",
            Self::F64 => "<f8",
        })
    }

    /// Whether elements are integers.
    pub(crate) const fn is_integer(self) -> bool {
        !matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }

    /// The number in little-endian bytes of one element.
    pub(crate) fn number(self, bytes: &[u8]) -> f64 {
        match self {
            Self::F16 => f64::from(half(u16::from_le_bytes(array(bytes)))),
            // The upper half of a number of 32 bits.
            Self::BF16 => {
                let bits = u32::from(u16::from_le_bytes(array(bytes)));
                f64::from(f32::from_bits(bits << 16))
            }
            Self::F32 => f64::from(f32::from_le_bytes(array(bytes))),
            Self::F64 => f64::from_le_bytes(array(bytes)),
            _ => self.integer(bytes) as f64,
        }
    }

    /// The integer in little-endian bytes of one element; 0 for other elements.
    pub(crate) fn integer(self, bytes: &[u8]) -> i64 {
        match self {
            Self::U8 => i64::from(u8::from_le_bytes(array(bytes))),
            Self::I8 => i64::from(i8::from_le_bytes(array(bytes))),
            Self::I16 => i64::from(i16::from_le_bytes(array(bytes))),
            Self::I32 => i64::from(i32::from_le_bytes(array(bytes))),
            Self::I64 => i64::from_le_bytes(array(bytes)),
            Self::F16 | Self::BF16 | Self::F32 | Self::F64 => 0,
        }
    }
}

/// The first bytes as an array; what is missing is 0.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    std::array::from_fn(|n| bytes.get(n).copied().unwrap_or(0))
}

/// Bytes beside the pickle that tensors look into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) element: Element,
    pub(super) key: Box<str>,
    pub(super) n_elements: u64,
}

/// A view on a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tensor {
    pub(crate) element: Element,
    /// The storage's name in the archive.
    pub(crate) key: Box<str>,
    /// Elements of the storage, as the pickle says.
    pub(crate) n_stored: u64,
    /// Place of the first element.
    pub(crate) offset: u64,
    pub(crate) size: Vec<u64>,
    pub(crate) stride: Vec<u64>,
}

/// Everything a pickle has built.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    pub(super) objects: Vec<Object>,
}

impl Heap {
    pub(super) fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(index) => self.objects.get(index),
            _ => None,
        }
    }

    /// The text of a value, if it is one.
    pub(crate) fn text(&self, value: Value) -> Option<&str> {
        match self.object(value)? {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a list or tuple.
    pub(crate) fn items(&self, value: Value) -> Option<&[Value]> {
        match self.object(value)? {
            Object::List(items) | Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The last value under a key of a dictionary.
    pub(crate) fn get(&self, value: Value, key: &str) -> Option<Value> {
        let Object::Dict(entries) = self.object(value)? else { return None };
        let found = entries.iter().rev().find(|(name, _)| self.text(*name) == Some(key));
        found.map(|(_, value)| *value)
    }

    /// The keys of a dictionary that are text.
    pub(crate) fn keys(&self, value: Value) -> Option<Vec<&str>> {
        let Object::Dict(entries) = self.object(value)? else { return None };
        Some(entries.iter().filter_map(|(name, _)| self.text(*name)).collect())
    }

    /// What a dictionary holds by its keys, as texts, or a list by its places.
    pub(crate) fn entries(&self, value: Value) -> Vec<(String, Value)> {
        let named = |(key, value): &(Value, Value)| {
            let key = match *key {
                Value::Int(number) => number.to_string(),
                key => self.text(key)?.to_owned(),
            };
            Some((key, *value))
        };
        match self.object(value) {
            Some(Object::Dict(entries)) => entries.iter().filter_map(named).collect(),
            Some(Object::List(items)) => {
                items.iter().enumerate().map(|(nth, item)| (nth.to_string(), *item)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A value that is a tensor.
    pub(crate) fn tensor(&self, value: Value) -> Option<&Tensor> {
        match self.object(value)? {
            Object::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }
}
