//! The tensors of a PyTorch file: views on members of its archive.

use std::fs::File;

use crate::formats::trace::archive::{Folder, Member};
use crate::formats::trace::error::TraceError;
use crate::formats::trace::pickle::{self, Element, Heap, Tensor, Value};
use crate::formats::trace::stored::Scratch;
use crate::formats::trace::{Limits, shorten};

/// Longest pickle; a recording of a million tokens with their ids takes about 10 MB.
const MAX_PICKLE: u64 = 256 << 20;

/// An open PyTorch file.
pub(super) struct Torch {
    folder: Folder,
    /// What stands before the names of its members.
    prefix: String,
    /// Most bytes of one view.
    limit: u64,
}

impl Torch {
    /// Opens a file that `torch.save` wrote, and reads its pickle.
    pub(super) fn open(
        raw: File,
        scratch: Scratch<'_>,
        limits: &Limits,
    ) -> Result<(Self, Value, Heap), TraceError> {
        let folder = Folder::of_zip(raw, scratch, limits)?;
        let name = folder.names().find(|name| *name == "data.pkl" || name.ends_with("/data.pkl"));
        let Some(name) = name.map(str::to_owned) else {
            return Err(TraceError::unreadable(
                "the archive holds no `data.pkl`, so is no file of \
                                               torch.save",
            ));
        };
        let prefix = name.trim_end_matches("data.pkl").to_owned();
        if let Some(order) = folder.read_all(&format!("{prefix}byteorder"), 64)?
            && order.trim_ascii() != b"little"
        {
            let order = String::from_utf8_lossy(&order).into_owned();
            return Err(TraceError::unreadable(format_args!(
                "byte order `{}`; only little-endian files are read",
                shorten(&order)
            )));
        }
        let Some(member) = folder.member(&name).filter(|member| member.len <= MAX_PICKLE) else {
            return Err(TraceError::TooLarge { what: "`data.pkl`", limit_bytes: MAX_PICKLE });
        };
        let (top, heap) = pickle::load(folder.reader(member))?;
        Ok((Self { folder, prefix, limit: limits.inflated_bytes }, top, heap))
    }

    /// A tensor with its bytes, checked against the archive.
    pub(super) fn view<'a>(&'a self, tensor: &'a Tensor) -> Result<View<'a>, TraceError> {
        let bad = |what: &dyn std::fmt::Display| {
            TraceError::unreadable(format_args!("tensor `{}`: {what}", tensor.key))
        };
        let name = format!("{}data/{}", self.prefix, tensor.key);
        let Some(member) = self.folder.member(&name) else {
            return Err(bad(&"its bytes are not in the archive"));
        };
        let width = tensor.element.size() as u64;
        if tensor.n_stored.checked_mul(width).is_none_or(|bytes| bytes > member.len) {
            let text = format!(
                "it claims {} elements of {width} bytes; the archive holds {} bytes",
                tensor.n_stored, member.len
            );
            return Err(bad(&text));
        }
        let elements = tensor.size.iter().try_fold(1_u64, |n, size| n.checked_mul(*size));
        let Some(elements) = elements.filter(|n| *n <= tensor.n_stored) else {
            let text =
                format!("{:?} elements are more than the {} stored", tensor.size, tensor.n_stored);
            return Err(bad(&text));
        };
        // The last element must lie inside, too.
        let last =
            tensor.size.iter().zip(&tensor.stride).try_fold(tensor.offset, |at, (size, stride)| {
                at.checked_add(size.saturating_sub(1).checked_mul(*stride)?)
            });
        if elements > 0 && last.is_none_or(|last| last >= tensor.n_stored) {
            return Err(bad(&"its shape reaches beyond its bytes"));
        }
        if elements * width > self.limit {
            return Err(TraceError::TooLarge { what: "a tensor", limit_bytes: self.limit });
        }
        Ok(View { torch: self, tensor, member, bytes: Vec::new() })
    }
}

/// A tensor whose every element is known to lie in the archive.
pub(super) struct View<'a> {
    torch: &'a Torch,
    tensor: &'a Tensor,
    member: Member,
    bytes: Vec<u8>,
}

impl View<'_> {
    pub(super) fn size(&self) -> &[u64] {
        &self.tensor.size
    }

    pub(super) fn element(&self) -> Element {
        self.tensor.element
    }

    /// The elements along the last dimension at the `nth` place of the others, in C order.
    pub(super) fn row(&mut self, nth: u64, to: &mut Vec<f64>) -> Result<(), TraceError> {
        let element = self.read(nth)?;
        to.clear();
        to.extend(self.bytes.chunks_exact(element.size()).map(|bytes| element.number(bytes)));
        Ok(())
    }

    /// The same as integers.
    pub(super) fn integers(&mut self, nth: u64, to: &mut Vec<i64>) -> Result<(), TraceError> {
        let element = self.read(nth)?;
        to.clear();
        to.extend(self.bytes.chunks_exact(element.size()).map(|bytes| element.integer(bytes)));
        Ok(())
    }

    /// Reads a row's bytes.
    fn read(&mut self, nth: u64) -> Result<Element, TraceError> {
        let Tensor { element, offset, size, stride, .. } = self.tensor;
        let (Some((&length, outer)), Some((&step, strides))) =
            (size.split_last(), stride.split_last())
        else {
            return Err(TraceError::unreadable("a tensor without dimensions"));
        };
        let (mut left, mut at) = (nth, *offset);
        for (size, stride) in outer.iter().zip(strides).rev() {
            at += left % (*size).max(1) * stride;
            left /= (*size).max(1);
        }
        let width = element.size();
        let n = usize::try_from(length).map_err(TraceError::unreadable)?;
        self.bytes.resize(n * width, 0);
        let folder = &self.torch.folder;
        if step == 1 || n == 1 {
            folder.read_at(self.member, at * width as u64, &mut self.bytes)?;
        } else {
            for (place, to) in self.bytes.chunks_exact_mut(width).enumerate() {
                folder.read_at(self.member, (at + place as u64 * step) * width as u64, to)?;
            }
        }
        Ok(*element)
    }
}
