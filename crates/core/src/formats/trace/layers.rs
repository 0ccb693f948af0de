//! Arrays of one layer each, named for their layers (`layer_3`), as one array of all of them.

use std::fs::File;
use std::io::{BufWriter, Seek, Write};

use crate::formats::trace::counts_json::layer_named;
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::npy::{self, Dtype, NpyHeader};
use crate::formats::trace::stored::Scratch;
use crate::trace::{MAX_CELLS, MAX_LAYERS};

/// Names with their layers, ascending, if all are names of different layers, and not of a model's parts.
pub(super) fn named<'a>(names: impl Iterator<Item = &'a str>) -> Option<Vec<(usize, &'a str)>> {
    let names = names.map(|name| Some(name).filter(|name| !name.ends_with(".weight")));
    let with_layer =
        |name: &'a str| layer_named(name).filter(|layer| *layer < MAX_LAYERS).zip(Some(name));
    let mut layers: Vec<(usize, &str)> =
        names.map(|name| with_layer(name?)).collect::<Option<_>>()?;
    layers.sort_unstable();
    let is_distinct = layers.windows(2).all(|pair| pair[0].0 < pair[1].0);
    (!layers.is_empty() && is_distinct).then_some(layers)
}

/// Puts the bytes of the row of that number in place of others.
type ReadRow<'a> = dyn FnMut(u64, &mut Vec<u8>) -> Result<(), TraceError> + 'a;

/// The array of a layer.
pub(super) struct OfLayer<'a> {
    pub(super) layer: usize,
    pub(super) shape: Vec<u64>,
    pub(super) row: Box<ReadRow<'a>>,
}

/// A NumPy file of `[layers, width]` of arrays `[width]`, or `[n, layers, width]` of `[n, width]`.
pub(super) fn stacked(
    mut arrays: Vec<OfLayer<'_>>,
    dtype: Dtype,
    scratch: Scratch<'_>,
) -> Result<File, TraceError> {
    let fail = |layer: usize, detail: String| {
        Flaws::default().fail("shape", format!("/layer_{layer}"), detail)
    };
    let shape = arrays.first().map(|one| one.shape.clone()).unwrap_or_default();
    if let Some(other) = arrays.iter().find(|one| one.shape != shape) {
        let detail = format!("is {:?}; the first layer is {shape:?}", other.shape);
        return Err(fail(other.layer, detail));
    }
    let (n, width) = match *shape {
        [width] => (1, width),
        [n, width] => (n, width),
        _ => {
            let detail = format!("is {shape:?}; the array of a layer has one or two dimensions");
            return Err(fail(arrays.first().map_or(0, |one| one.layer), detail));
        }
    };
    let last = arrays.last().map_or(0, |one| one.layer);
    if (last as u64 + 1).saturating_mul(width) > MAX_CELLS as u64 {
        let detail =
            format!("rows of {width} for {} layers; at most {MAX_CELLS} numbers fit", last + 1);
        return Err(fail(last, detail));
    }
    // Zeros are counts of a dense layer, and no routes of one.
    if shape.len() > 1 && last + 1 != arrays.len() {
        let detail = format!(
            "{} layers are numbered up to {last}; number them from 0 without a gap, with zeros for the \
             counts of dense layers",
            arrays.len()
        );
        return Err(fail(last, detail));
    }
    let n_layers = last as u64 + 1;
    let whole = if shape.len() > 1 { vec![n, n_layers, width] } else { vec![n_layers, width] };
    let header = NpyHeader { dtype, fortran: false, shape: whole };
    let mut to = BufWriter::new(scratch().map_err(TraceError::storage)?);
    to.write_all(&npy::written(&header)).map_err(TraceError::storage)?;
    let n_bytes = usize::try_from(width).map_err(TraceError::unreadable)? * dtype.size;
    let mut bytes = Vec::new();
    for nth in 0..n {
        let mut next = arrays.iter_mut().peekable();
        for layer in 0..=last {
            if let Some(array) = next.next_if(|one| one.layer == layer) {
                (array.row)(nth, &mut bytes)?;
            } else {
                bytes.clear();
                bytes.resize(n_bytes, 0);
            }
            to.write_all(&bytes).map_err(TraceError::storage)?;
        }
    }
    let mut file = to.into_inner().map_err(|error| TraceError::storage(error.into_error()))?;
    file.rewind().map_err(TraceError::storage)?;
    Ok(file)
}
