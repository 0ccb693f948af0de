//! The routes of an answer as rows of ids.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::npy::{Dtype, read_header};
use crate::formats::trace::responses::body::{Lengths, Lists, Response, Routes};
use crate::formats::trace::routes::NO_ID;
use crate::trace::{MAX_LAYERS, MAX_TOP_K};

/// The routes of one sequence.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) n_layers: usize,
    pub(super) top_k: usize,
    /// `[token][layer][k]`; a layer without experts holds zeros.
    pub(super) ids: Vec<u16>,
    /// Whether `top_k` was found in the ids, because nothing says it.
    pub(super) guessed: bool,
}

/// The routes of every sequence of an answer. `shape` is that of rows before, `top_k` the
/// model's.
pub(super) fn rows_of(
    response: Response,
    shape: Option<(usize, usize)>,
    top_k: Option<u32>,
) -> Result<Vec<Rows>, TraceError> {
    let known = RoutingEvidence { shape, top_k };
    let mut all = Vec::new();
    let usage = response.usage;
    if let Some(meta) = response.meta_info
        && let Some(routes) = meta.routed_experts
    {
        let (prompt_tokens, completion_tokens) = (meta.prompt_tokens, meta.completion_tokens);
        all.push(known.read(routes, Lengths { prompt_tokens, completion_tokens }.routed())?);
    }
    let several = response.choices.len() > 1;
    let of_usage = usage.filter(|_| !several).and_then(Lengths::routed);
    if let Some(routes) = response.sglext.and_then(|ext| ext.routed_experts) {
        all.push(known.read(routes, of_usage)?);
    }
    if let Some(routes) = response.routed_experts {
        all.push(known.read(routes, of_usage)?);
    }
    let prompt =
        response.prompt_routed_experts.map(|routes| known.read(routes, None)).transpose()?;
    for choice in response.choices {
        let routes = choice.sglext.and_then(|ext| ext.routed_experts).or(choice.routed_experts);
        let Some(routes) = routes else { continue };
        let length = choice.meta_info.and_then(Lengths::routed).or(of_usage);
        let rows = known.read(routes, length)?;
        all.push(match &prompt {
            Some(prompt) => prompt.followed_by(&rows)?,
            None => rows,
        });
    }
    if all.is_empty() {
        all.extend(prompt);
    }
    Ok(all.into_iter().filter(|rows| !rows.ids.is_empty()).collect())
}

impl Rows {
    fn followed_by(&self, rest: &Self) -> Result<Self, TraceError> {
        if rest.ids.is_empty() {
            return Ok(Self { ids: self.ids.clone(), ..*self });
        }
        if (self.n_layers, self.top_k) != (rest.n_layers, rest.top_k) {
            let detail = "routes of the prompt and of the answer have unlike shapes";
            return Err(Flaws::default().fail("shape", "/prompt_routed_experts", detail));
        }
        let ids = self.ids.iter().chain(&rest.ids).copied().collect();
        Ok(Self { ids, ..*self })
    }
}

/// What is known before an answer is read.
#[derive(Clone, Copy)]
struct RoutingEvidence {
    shape: Option<(usize, usize)>,
    top_k: Option<u32>,
}

impl RoutingEvidence {
    fn read(self, routes: Routes, tokens: Option<u64>) -> Result<Rows, TraceError> {
        match routes {
            Routes::Lists(Lists { n_layers, top_k, mut ids }) => {
                without_gaps(&mut ids, top_k.max(1));
                Ok(Rows { n_layers, top_k, ids, guessed: false })
            }
            Routes::Text(text) => {
                let bytes = STANDARD.decode(text.trim()).map_err(|error| {
                    TraceError::unreadable(format_args!("routed_experts is no base64: {error}"))
                })?;
                if bytes.starts_with(b"\x93NUMPY") {
                    of_npy(&bytes)
                } else {
                    self.of_raw(&bytes, tokens)
                }
            }
        }
    }

    /// Raw 32-bit ids, whose shape the answer says only in part.
    fn of_raw(self, bytes: &[u8], tokens: Option<u64>) -> Result<Rows, TraceError> {
        let refuse =
            |rule, detail: String| Err(Flaws::default().fail(rule, "/routed_experts", detail));
        let (numbers, []) = bytes.as_chunks::<4>() else {
            return refuse("shape", format!("{} bytes are no whole 32-bit ids", bytes.len()));
        };
        let id = |bytes: &[u8; 4]| match i32::from_le_bytes(*bytes) {
            -1 => Some(NO_ID),
            id => u16::try_from(id).ok().filter(|id| *id != NO_ID),
        };
        let Some(mut ids) = numbers.iter().map(id).collect::<Option<Vec<u16>>>() else {
            return refuse("range", "ids must be from -1 (none) to 65534".to_owned());
        };
        if ids.is_empty() {
            return Ok(Rows { n_layers: 0, top_k: 0, ids, guessed: false });
        }
        let row = match (self.shape, tokens) {
            (Some((n_layers, top_k)), _) => n_layers * top_k,
            (None, Some(tokens)) if tokens > 0 && (ids.len() as u64).is_multiple_of(tokens) => {
                usize::try_from(ids.len() as u64 / tokens).unwrap_or(0)
            }
            (None, Some(tokens)) => {
                return refuse(
                    "shape",
                    format!("{} ids do not divide over {tokens} tokens", ids.len()),
                );
            }
            (None, None) => {
                return refuse(
                    "required",
                    "raw ids need prompt_tokens and completion_tokens beside them".to_owned(),
                );
            }
        };
        if row == 0 || !ids.len().is_multiple_of(row) {
            return refuse("shape", format!("{} ids are no rows of {row}", ids.len()));
        }
        let (top_k, guessed) = match (self.shape, self.top_k) {
            (Some((_, top_k)), _) => (top_k, false),
            (None, Some(top_k)) => (top_k as usize, false),
            (None, None) => (largest_distinct(&ids, row), true),
        };
        if top_k == 0 || !row.is_multiple_of(top_k) {
            return refuse("top_k", format!("rows of {row} ids are no layers of {top_k}"));
        }
        without_gaps(&mut ids, top_k);
        Ok(Rows { n_layers: row / top_k, top_k, ids, guessed })
    }
}

/// The largest k into which rows divide so that no token has an expert twice in a layer.
///
/// Several layers taken for one soon repeat an id, so with more than a few tokens it is the
/// true one.
fn largest_distinct(ids: &[u16], row: usize) -> usize {
    let fits = |k: &usize| {
        ids.chunks_exact(*k).all(|layer| {
            layer.iter().all(|id| *id == layer[0])
                || layer.iter().enumerate().all(|(n, id)| !layer[..n].contains(id))
        })
    };
    (1..=MAX_TOP_K.min(row))
        .rev()
        .filter(|k| row.is_multiple_of(*k) && row / k <= MAX_LAYERS)
        .find(fits)
        .unwrap_or(1)
}

/// Layers without any expert hold zeros.
fn without_gaps(ids: &mut [u16], top_k: usize) {
    for layer in ids.chunks_exact_mut(top_k) {
        if layer.iter().all(|id| *id == NO_ID) {
            layer.fill(0);
        }
    }
}

fn of_npy(bytes: &[u8]) -> Result<Rows, TraceError> {
    let mut rest = bytes;
    let header = read_header(&mut rest, "routed_experts")?;
    let dtype: Dtype = header.dtype;
    let refuse = |rule, detail: String| Err(Flaws::default().fail(rule, "/routed_experts", detail));
    let &[_, layers, top_k] = header.shape.as_slice() else {
        return refuse(
            "shape",
            format!("is {:?}; it must be [tokens, layers, top_k]", header.shape),
        );
    };
    if header.fortran || !dtype.is_integer() {
        return refuse("type", format!("is {}; ids in C order are read", dtype.name()));
    }
    if header.n_bytes() != Some(rest.len() as u64) {
        return Err(TraceError::unreadable("routed_experts: the array ends too early or too late"));
    }
    if layers > MAX_LAYERS as u64 || top_k > MAX_TOP_K as u64 {
        return refuse("range", format!("{layers} layers of {top_k} experts"));
    }
    let mut ids = Vec::new();
    dtype.ids(rest, NO_ID, &mut ids);
    let size = |n: u64| usize::try_from(n).unwrap_or(0);
    without_gaps(&mut ids, size(top_k).max(1));
    Ok(Rows { n_layers: size(layers), top_k: size(top_k), ids, guessed: false })
}
