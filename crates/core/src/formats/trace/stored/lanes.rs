//! Decode order: many sequences side by side, one token of each per step.

use std::io;
use std::ops::Range;

use crate::formats::trace::stored::block::Block;
use crate::formats::trace::stored::column::ColumnReader;
use crate::formats::trace::stored::read::StoredTrace;
use crate::formats::trace::stored::steps::{size, widen};
use crate::trace::steps::StepRoutes;

/// Bytes that all lanes together may hold ahead.
const BUDGET: usize = 64 << 20;

/// One place of the batch: what is left of its sequence, and the tokens at hand.
#[derive(Debug, Default)]
struct Lane {
    /// Tokens not yet at hand.
    left: Range<u64>,
    /// Tokens at hand, `[token][layer][k]`, and how many of them are used up.
    ahead: Vec<u16>,
    used: usize,
    n_ahead: usize,
    token_ids: Vec<u32>,
}

/// Sequences in step.
#[derive(Debug)]
pub(super) struct Lanes<'a> {
    trace: &'a StoredTrace,
    range: Range<u64>,
    places: Vec<Lane>,
    /// Sequences that have begun, and where the next one begins.
    begun: u64,
    next_start: u64,
    lengths: ColumnReader<'a>,
    /// Tokens a lane reads ahead.
    depth: u64,
    block: Block,
    token_ids: Option<ColumnReader<'a>>,
    over: bool,
}

impl<'a> Lanes<'a> {
    /// The first `n` sequences of a range of tokens, ready for their first step.
    pub(super) fn new(trace: &'a StoredTrace, range: Range<u64>, n: u64) -> io::Result<Self> {
        let row = trace.header().n_layers() * trace.blocks().top_k;
        let mut lanes = Self {
            trace,
            places: Vec::new(),
            begun: 0,
            next_start: 0,
            lengths: trace.lengths(),
            depth: trace.blocks().tokens,
            block: Block::default(),
            token_ids: trace.token_ids(),
            over: n == 0 || n > size(&range) as u64,
            range,
        };
        while !lanes.over && (lanes.places.len() as u64) < n {
            match lanes.next_sequence()? {
                Some(left) => lanes.places.push(Lane { left, ..Lane::default() }),
                None => lanes.over = true,
            }
        }
        let fits = BUDGET / (lanes.places.len().max(1) * (row * 2 + 4));
        lanes.depth = lanes.depth.min(fits as u64).max(1);
        Ok(lanes)
    }

    /// The part of the next sequence that lies in the range.
    fn next_sequence(&mut self) -> io::Result<Option<Range<u64>>> {
        while self.begun < self.trace.header().sequences {
            let start = self.next_start;
            self.next_start += u64::from(self.lengths.get(self.begun)?);
            self.begun += 1;
            let part = start.max(self.range.start)..self.next_start.min(self.range.end);
            if part.start < part.end {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }

    /// Fills the routes (and token ids) of the next step; false if a lane has nothing left.
    pub(super) fn advance(
        &mut self,
        routes: &mut StepRoutes,
        mut token_ids: Option<&mut Vec<u32>>,
    ) -> io::Result<bool> {
        if let Some(ids) = &mut token_ids {
            ids.clear();
        }
        for lane_idx in 0..self.places.len() {
            if self.places[lane_idx].used == self.places[lane_idx].n_ahead {
                self.over = self.over || !self.refill(lane_idx)?;
            }
            if self.over {
                return Ok(false);
            }
            let lane = &mut self.places[lane_idx];
            let (k, row) = (routes.top_k, routes.n_layers * routes.top_k);
            let ids = &lane.ahead[lane.used * row..][..row];
            for (layer_idx, ids) in ids.chunks_exact(k).enumerate() {
                let at = (layer_idx * routes.n_tokens + lane_idx) * k;
                routes.ids[at..at + k].copy_from_slice(ids);
            }
            if let (Some(to), Some(id)) = (&mut token_ids, lane.token_ids.get(lane.used)) {
                to.push(*id);
            }
            lane.used += 1;
        }
        Ok(!self.over)
    }

    /// The place in the trace of the token each lane handed out last.
    pub(super) fn places(&self) -> impl Iterator<Item = u64> {
        self.places.iter().map(|lane| lane.left.start - (lane.n_ahead - lane.used) as u64 - 1)
    }

    /// Reads on in the lane's sequence, or begins the next one; false if there is none.
    fn refill(&mut self, lane_idx: usize) -> io::Result<bool> {
        if self.places[lane_idx].left.is_empty() {
            match self.next_sequence()? {
                Some(left) => self.places[lane_idx].left = left,
                None => return Ok(false),
            }
        }
        let shape = self.trace.blocks();
        let lane = &mut self.places[lane_idx];
        let block_idx = lane.left.start / shape.tokens;
        if self.block.tokens != shape.range(block_idx) {
            self.trace.read_block(block_idx, &mut self.block)?;
        }
        let end = lane.left.end.min(self.block.tokens.end).min(lane.left.start + self.depth);
        let part = lane.left.start..end;
        let (k, n_tokens) = (shape.top_k, size(&part));
        let row = self.trace.header().n_layers() * k;
        lane.ahead.resize(n_tokens * row, 0);
        for (layer_idx, layer) in self.trace.header().layers.iter().enumerate() {
            let ids = shape.layer(&self.block, usize::from(*layer), &part);
            for (token, ids) in ids.chunks_exact(k * shape.width).enumerate() {
                widen(ids, shape.width, &mut lane.ahead[token * row + layer_idx * k..][..k]);
            }
        }
        lane.token_ids.clear();
        if let Some(column) = &mut self.token_ids {
            for token in part.clone() {
                lane.token_ids.push(column.get(token)?);
            }
        }
        lane.left.start = end;
        lane.used = 0;
        lane.n_ahead = n_tokens;
        Ok(true)
    }
}
