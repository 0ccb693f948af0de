//! Reads JSON Lines of hooks in vLLM: a line `{"type": "meta", "top_k": …, "num_experts": …}`, then one
//! line a token and layer, `{"type": "route", "req_id", "token_idx", "layer", "topk_ids"}`. A line
//! without `type` is a route; the fields go by several names.
//!
//! A hook writes layer after layer of a whole batch, so lines are sorted on disk by request, token
//! and layer before they become tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::formats::trace::counts_json::layer_named;
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::ndjson_sort::{Record, Sorter};
use crate::formats::trace::routes::{
    NO_ID, RoutePosition, RouteRecorder, can_be_stored, check_shape,
};
use crate::formats::trace::{Input, shorten};
use crate::trace::{MAX_EXPERTS, MAX_LAYERS, MAX_TOP_K};

/// Longest line; weights of 64 experts fit many times.
const MAX_LINE: u64 = 64 * 1024;
/// Most requests, whose names are remembered.
const MAX_REQUESTS: usize = 1_000_000;
/// Most tokens of a request: a token and its layer are one number of 32 bits while lines are sorted.
const MAX_TOKENS: u64 = 1 << (32 - LAYER_BITS);
/// Bits of it that are the layer.
const LAYER_BITS: u32 = MAX_LAYERS.ilog2();

/// A line; which fields it has depends on its type.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type", default = "route")]
    kind: String,
    top_k: Option<u32>,
    num_experts: Option<u32>,
    #[serde(alias = "request_id", alias = "rid")]
    req_id: Option<Name>,
    #[serde(alias = "token_index")]
    token_idx: Option<u64>,
    #[serde(alias = "layer_id", alias = "layer_idx")]
    layer: Option<Name>,
    #[serde(alias = "topk_indices", alias = "expert_ids")]
    topk_ids: Option<Vec<i64>>,
}

/// What a line without a type is.
fn route() -> String {
    "route".to_owned()
}

/// What a request or a layer is called.
#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Number(i64),
    Text(String),
}

impl Name {
    /// The layer of this name.
    fn layer(&self) -> Option<usize> {
        match self {
            Self::Number(number) => usize::try_from(*number).ok(),
            Self::Text(text) => layer_named(text),
        }
    }
}

/// Whether the first line is one of these.
pub(super) fn is_route_lines(raw: &File) -> Result<bool, TraceError> {
    let mut file = raw;
    file.rewind().map_err(TraceError::storage)?;
    let mut text = Vec::new();
    BufReader::new(file.take(MAX_LINE))
        .read_until(b'\n', &mut text)
        .map_err(TraceError::storage)?;
    file.rewind().map_err(TraceError::storage)?;
    let line: Option<Line> = serde_json::from_slice(&text).ok();
    Ok(line.is_some_and(|line| match line.kind.as_str() {
        "meta" => true,
        "route" => line.layer.is_some() && line.topk_ids.is_some(),
        _ => false,
    }))
}

/// Converts lines to a stored trace.
pub(super) fn convert(mut input: Input<'_>) -> Result<File, TraceError> {
    let raw = input.raw.try_clone().map_err(TraceError::storage)?;
    let mut read = Lines::default();
    let mut sorter = None;
    read.all(BufReader::with_capacity(256 * 1024, raw), |read, width, record| {
        if sorter.is_none() {
            check_shape(&mut read.flaws, "", 1, width as u64, input.declared);
            std::mem::take(&mut read.flaws).into_result()?;
            sorter = Some(Sorter::new(input.scratch, width).map_err(TraceError::storage)?);
        }
        let Some(sorter) = &mut sorter else { return Ok(()) };
        sorter.push(record).map_err(TraceError::storage)
    })?;
    let Lines { mut flaws, top_k, stated_top_k, experts, max_id, layers, others, .. } = read;
    let (Some(sorter), Some(&last)) = (sorter, layers.last()) else {
        return Err(flaws.fail("empty", "", "no line is a route"));
    };
    if let Some(stated) = stated_top_k.filter(|stated| *stated as usize != top_k) {
        flaws.note("top_k", || {
            ("/top_k".to_owned(), format!("top_k is {stated}; routes have {top_k} experts"))
        });
    }
    let declared = input.declared.experts;
    if let (Some(stated), Some(declared)) = (experts, declared.filter(|n| Some(*n) != experts)) {
        flaws.note("experts", || {
            ("/num_experts".to_owned(), format!("num_experts is {stated}; there are {declared}"))
        });
    }
    flaws.into_result()?;
    input.declared.experts = experts.or(declared);
    // A layer of one zero cannot be told from a choice of expert 0, so layers close up there.
    let dense = top_k > 1;
    let places: Vec<usize> =
        (0..=last).map(|layer| if dense { layer } else { layers.range(..layer).count() }).collect();
    let n_layers = if dense { last + 1 } else { layers.len() };
    let bound = (u32::from(max_id) + 1).min(MAX_EXPERTS);
    let mut recorder =
        RouteRecorder::new(input.to, input.scratch, (n_layers, top_k), input.declared, bound)?;
    if others > 0 {
        recorder.note(format!("{others} line(s) of other types were not read"));
    }
    if !dense && layers.len() <= last {
        recorder.note(format!("layers are counted among the {} that have routes", layers.len()));
    }
    let mut token = Token { ids: vec![0; n_layers * top_k], ..Token::default() };
    let mut before: Option<(u64, u32, u64)> = None;
    sorter.drain(|record| {
        let (sequence, at) = (record.sequence, record.position as usize);
        let position = record.position >> LAYER_BITS;
        let same = before.is_some_and(|(s, p, _)| (s, p) == (sequence, position));
        if !same {
            token.end(before, &layers, &mut recorder)?;
        }
        if before.is_some_and(|(last, ..)| last != sequence) {
            recorder.end_sequence()?;
        }
        before = Some((sequence, position, record.line));
        let layer = at % MAX_LAYERS;
        if !token.seen.insert(layer) {
            recorder.flaws.note("duplicate", || {
                let detail = format!("layer {layer} of token {position} has come already");
                (format!("/lines/{}", record.line), detail)
            });
        }
        let place = places.get(layer).copied().unwrap_or(0) * top_k;
        token.ids[place..place + top_k].copy_from_slice(&record.ids);
        Ok::<(), TraceError>(())
    })?;
    token.end(before, &layers, &mut recorder)?;
    recorder.finish(input.digest)
}

/// A token whose layers are coming.
#[derive(Default)]
struct Token {
    ids: Vec<u16>,
    seen: BTreeSet<usize>,
}

impl Token {
    fn end(
        &mut self,
        at: Option<(u64, u32, u64)>,
        layers: &BTreeSet<usize>,
        recorder: &mut RouteRecorder,
    ) -> Result<(), TraceError> {
        let Some((_, position, line)) = at else { return Ok(()) };
        if let Some(missing) = layers.difference(&self.seen).next() {
            recorder.flaws.note("shape", || {
                let detail = format!("token {position} of the request has no layer {missing}");
                (format!("/lines/{line}"), detail)
            });
        }
        recorder
            .push(RoutePosition::Line(line), position, &self.ids, |n| self.ids[n].to_string())?;
        self.seen.clear();
        Ok(())
    }
}

/// What the lines say together.
#[derive(Default)]
struct Lines {
    flaws: Flaws,
    top_k: usize,
    stated_top_k: Option<u32>,
    experts: Option<u32>,
    max_id: u16,
    layers: BTreeSet<usize>,
    requests: BTreeMap<[u8; 16], u64>,
    others: u64,
}

impl Lines {
    /// Hands the routes of all lines on.
    fn all(
        &mut self,
        mut from: impl BufRead,
        mut take: impl FnMut(&mut Self, usize, &Record) -> Result<(), TraceError>,
    ) -> Result<(), TraceError> {
        let (mut text, mut number, mut record) = (Vec::new(), 0_u64, Record::default());
        loop {
            text.clear();
            (&mut from).take(MAX_LINE + 1).read_until(b'\n', &mut text)?;
            number += 1;
            if text.is_empty() {
                return Ok(());
            }
            if text.len() as u64 > MAX_LINE {
                return Err(TraceError::unreadable(format_args!(
                    "line {number} is longer than {MAX_LINE} bytes"
                )));
            }
            if text.trim_ascii().is_empty() {
                continue;
            }
            let line: Line = serde_json::from_slice(&text).map_err(|error| {
                let text = error.to_string().replace("line 1", &format!("line {number}"));
                TraceError::unreadable(shorten(&text))
            })?;
            if self.route(line, number, &mut record)? {
                take(self, self.top_k, &record)?;
            }
        }
    }

    /// Takes a line; whether it is a route that can be stored.
    fn route(&mut self, line: Line, number: u64, to: &mut Record) -> Result<bool, TraceError> {
        if line.kind == "meta" {
            let at = format!("/lines/{number}/num_experts");
            let experts = line.num_experts.filter(|n| can_be_stored(&mut self.flaws, &at, *n));
            self.stated_top_k = self.stated_top_k.or(line.top_k);
            self.experts = self.experts.or(experts);
            return Ok(false);
        }
        if line.kind != "route" {
            self.others += 1;
            return Ok(false);
        }
        let at = |field: &str| format!("/lines/{number}/{field}");
        let missing = [
            ("req_id", line.req_id.is_none()),
            ("token_idx", line.token_idx.is_none()),
            ("layer", line.layer.is_none()),
            ("topk_ids", line.topk_ids.is_none()),
        ];
        let (Some(request), Some(token), Some(layer), Some(ids)) =
            (line.req_id, line.token_idx, line.layer, line.topk_ids)
        else {
            let missing = missing.iter().filter(|(_, is_missing)| *is_missing);
            let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
            let detail = format!("line {number} lacks {}", missing.join(", "));
            self.flaws.note("required", || (format!("/lines/{number}"), detail));
            return Ok(false);
        };
        let layer = layer.layer().filter(|layer| *layer < MAX_LAYERS);
        let (Some(layer), true) = (layer, token < MAX_TOKENS) else {
            let detail = format!(
                "line {number}: a layer is a number below {MAX_LAYERS} or a name with it \
                 (`model.layers.3.mlp`), and there may be {MAX_TOKENS} tokens"
            );
            self.flaws.note("range", || (at("layer"), detail));
            return Ok(false);
        };
        if self.top_k == 0 {
            self.top_k = ids.len();
        }
        if ids.is_empty() || ids.len() > MAX_TOP_K || ids.len() != self.top_k {
            let detail =
                format!("line {number} has {} experts, the first route {}", ids.len(), self.top_k);
            self.flaws.note("shape", || (at("topk_ids"), detail));
            return Ok(false);
        }
        let bound = self.experts.unwrap_or(MAX_EXPERTS);
        let id = |id: &i64| u32::try_from(*id).ok().filter(|id| *id < bound).map_or(NO_ID, low16);
        to.ids.clear();
        to.ids.extend(ids.iter().map(id));
        if let Some(slot) = to.ids.iter().position(|id| *id == NO_ID) {
            let detail = format!(
                "expert id {} on line {number}; ids must be from 0 to {}",
                ids[slot],
                bound - 1
            );
            self.flaws.note("range", || (format!("{}/{slot}", at("topk_ids")), detail));
            return Ok(false);
        }
        self.max_id = self.max_id.max(to.ids.iter().copied().max().unwrap_or(0));
        self.layers.insert(layer);
        (to.sequence, to.line) = (self.request(&request)?, number);
        to.position = u32::try_from(token * MAX_LAYERS as u64 + layer as u64).unwrap_or(u32::MAX);
        Ok(!self.flaws.is_full())
    }

    /// The number of a request, in the order of their first lines.
    fn request(&mut self, name: &Name) -> Result<u64, TraceError> {
        let name = match name {
            Name::Number(number) => number.to_string(),
            Name::Text(text) => text.clone(),
        };
        let mut key = [0; 16];
        key.copy_from_slice(&Sha256::digest(name)[..16]);
        let next = self.requests.len() as u64;
        let number = *self.requests.entry(key).or_insert(next);
        if self.requests.len() > MAX_REQUESTS {
            let detail = format!("more than {MAX_REQUESTS} requests");
            return Err(Flaws::default().fail("range", "", detail));
        }
        Ok(number)
    }
}

/// An id that is known to be small.
fn low16(id: u32) -> u16 {
    u16::try_from(id).unwrap_or(NO_ID)
}
