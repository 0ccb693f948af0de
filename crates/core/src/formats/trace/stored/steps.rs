//! Reads a trace step by step, with memory for one step.

use std::io;
use std::ops::Range;

use crate::formats::trace::stored::block::Block;
use crate::formats::trace::stored::corrupt;
use crate::formats::trace::stored::lanes::Lanes;
use crate::formats::trace::stored::read::StoredTrace;
use crate::trace::TraceKind;
use crate::trace::counts::ExpertCounts;
use crate::trace::steps::{StepOrder, StepPlan, StepRoutes};

/// One step of the trace.
#[derive(Debug)]
pub struct StoredStep {
    /// Tokens per expert and layer.
    pub counts: ExpertCounts,
    /// The experts of each token; empty unless the plan asked for them and the trace has them.
    pub routes: StepRoutes,
    /// The vocabulary id of each token; empty as `routes`, or where not recorded.
    pub token_ids: Vec<u32>,
}

/// The steps of a plan; a step is overwritten by the next one.
#[derive(Debug)]
pub struct StoredSteps<'a> {
    trace: &'a StoredTrace,
    plan: StepPlan,
    /// The next token or recorded step.
    next: u64,
    step: StoredStep,
    routes: StepRoutes,
    block: Block,
    buffer: Vec<u8>,
    lanes: Option<Lanes<'a>>,
}

impl<'a> StoredSteps<'a> {
    pub(super) fn new(trace: &'a StoredTrace, plan: &StepPlan) -> Self {
        let header = trace.header();
        let plan = StepPlan { range: trace.clip(plan.range.clone()), ..*plan };
        Self {
            trace,
            next: plan.range.start,
            plan,
            step: StoredStep {
                counts: ExpertCounts::zeros(header.n_layers(), header.n_experts()),
                routes: StepRoutes::default(),
                token_ids: Vec::new(),
            },
            routes: StepRoutes::default(),
            block: Block::default(),
            buffer: Vec::new(),
            lanes: None,
        }
    }

    /// The next step; `None` after the last.
    pub fn next_step(&mut self) -> io::Result<Option<&StoredStep>> {
        let more = match (self.trace.header().kind, self.plan.order) {
            (TraceKind::Counts, _) => self.recorded()?,
            (TraceKind::Routes, StepOrder::Prefill { tokens_per_step }) => {
                self.prefill(tokens_per_step.max(1))?
            }
            (TraceKind::Routes, StepOrder::Decode { sequences }) => self.decode(sequences)?,
            (TraceKind::Routes, StepOrder::Recorded) => false,
        };
        Ok(more.then_some(&self.step))
    }

    /// The place in the trace of each token of the step read last; empty for counts.
    #[must_use]
    pub fn places(&self) -> Vec<u64> {
        match (&self.lanes, self.trace.header().kind, self.plan.order) {
            (Some(lanes), ..) => lanes.places().collect(),
            (None, TraceKind::Routes, StepOrder::Prefill { tokens_per_step }) => {
                (self.next.saturating_sub(tokens_per_step)..self.next).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Passes over steps, such as those that plan.
    pub fn skip_steps(&mut self, n: u64) -> io::Result<()> {
        match (self.trace.header().kind, self.plan.order) {
            (TraceKind::Counts, _) => {
                self.next = self.next.saturating_add(n).min(self.plan.range.end);
            }
            (TraceKind::Routes, StepOrder::Prefill { tokens_per_step }) => {
                let tokens = tokens_per_step.max(1).saturating_mul(n);
                self.next = self.next.saturating_add(tokens).min(self.plan.range.end);
            }
            (TraceKind::Routes, _) => {
                for _ in 0..n {
                    if self.next_step()?.is_none() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn recorded(&mut self) -> io::Result<bool> {
        if self.next >= self.plan.range.end {
            return Ok(false);
        }
        self.trace.read_counts(self.next, &mut self.buffer, &mut self.step.counts)?;
        self.next += 1;
        Ok(true)
    }

    fn prefill(&mut self, tokens: u64) -> io::Result<bool> {
        let range = self.next..self.next.saturating_add(tokens);
        if range.end > self.plan.range.end {
            return Ok(false);
        }
        self.shape(tokens)?;
        let shape = self.trace.blocks();
        for block_idx in range.start / shape.tokens..range.end.div_ceil(shape.tokens) {
            if self.block.tokens != shape.range(block_idx) {
                self.trace.read_block(block_idx, &mut self.block)?;
            }
            let first = self.block.tokens.start.max(range.start) - range.start;
            let first = usize::try_from(first).map_err(corrupt)? * shape.top_k;
            let stride = self.routes.n_tokens * self.routes.top_k;
            for (layer_idx, layer) in self.trace.header().layers.iter().enumerate() {
                let ids = shape.layer(&self.block, usize::from(*layer), &range);
                let to = &mut self.routes.ids[layer_idx * stride + first..];
                widen(ids, shape.width, to);
            }
        }
        self.next = range.end;
        if self.plan.with_routes {
            self.step.token_ids = self.trace.read_token_ids(range)?;
        }
        self.tally()
    }

    fn decode(&mut self, sequences: u64) -> io::Result<bool> {
        if self.lanes.is_none() {
            self.lanes = Some(Lanes::new(self.trace, self.plan.range.clone(), sequences)?);
        }
        self.shape(sequences)?;
        let token_ids = self.plan.with_routes.then_some(&mut self.step.token_ids);
        let full = match &mut self.lanes {
            Some(lanes) => lanes.advance(&mut self.routes, token_ids)?,
            None => false,
        };
        if full { self.tally() } else { Ok(false) }
    }

    /// Makes room for a step of so many tokens.
    fn shape(&mut self, tokens: u64) -> io::Result<()> {
        let n_tokens = usize::try_from(tokens).map_err(corrupt)?;
        if self.routes.n_tokens == n_tokens {
            return Ok(());
        }
        // A step longer than the range has been turned down before, or gets no lanes.
        if tokens > self.plan.range.end - self.plan.range.start {
            return Ok(());
        }
        let (n_layers, top_k) = (self.trace.header().n_layers(), self.trace.blocks().top_k);
        self.routes =
            StepRoutes { n_layers, n_tokens, top_k, ids: vec![0; n_layers * n_tokens * top_k] };
        Ok(())
    }

    /// Counts the step and hands out its routes if they are wanted.
    fn tally(&mut self) -> io::Result<bool> {
        let n_experts = self.step.counts.n_experts();
        let mut counts = vec![0_u32; n_experts];
        for layer_idx in 0..self.routes.n_layers {
            counts.fill(0);
            for id in self.routes.layer(layer_idx) {
                *counts
                    .get_mut(usize::from(*id))
                    .ok_or_else(|| corrupt("an id is out of range"))? += 1;
            }
            for (to, count) in self.step.counts.layer_mut(layer_idx).iter_mut().zip(&counts) {
                *to = f64::from(*count);
            }
        }
        if self.plan.with_routes {
            self.step.routes.clone_from(&self.routes);
        }
        Ok(true)
    }
}

/// Ids of one or two bytes as `u16`.
pub(super) fn widen(ids: &[u8], width: usize, to: &mut [u16]) {
    if width == 1 {
        for (to, id) in to.iter_mut().zip(ids) {
            *to = u16::from(*id);
        }
    } else {
        for (to, id) in to.iter_mut().zip(ids.as_chunks::<2>().0) {
            *to = u16::from_le_bytes(*id);
        }
    }
}

/// The tokens of a range, as a size.
pub(super) fn size(range: &Range<u64>) -> usize {
    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX)
}
