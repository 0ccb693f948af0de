//! Router logits as routes: the k experts with the largest numbers of every token and layer.

use std::fs::File;

use crate::formats::trace::Input;
use crate::formats::trace::counts::check_counts_shape;
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::routes::{RoutePosition, RouteRecorder, check_shape};

/// Takes the logits of `[tokens, layers, experts]` row by row.
pub(super) struct Logits {
    recorder: RouteRecorder,
    n_layers: usize,
    top_k: usize,
    tokens: u64,
    ids: Vec<u16>,
    order: Vec<u16>,
    digest: [u8; 32],
}

impl Logits {
    /// Starts to take them; how many experts a token has must be known.
    pub(super) fn new(
        mut input: Input<'_>,
        (n_layers, n_experts): (u64, u64),
        note: Option<String>,
    ) -> Result<Self, TraceError> {
        let Some(top_k) = input.declared.top_k else {
            let detail = "numbers below zero are no counts; if they are router logits [tokens, \
                          layers, experts], state how many experts a token has (top_k)";
            return Err(Flaws::default().fail("top_k", "", detail));
        };
        let mut flaws = Flaws::default();
        check_counts_shape(&mut flaws, "", n_layers, n_experts, input.declared);
        input.declared.experts = u32::try_from(n_experts).ok();
        check_shape(&mut flaws, "", n_layers, u64::from(top_k), input.declared);
        flaws.into_result()?;
        let size = |n: u64| usize::try_from(n).map_err(TraceError::unreadable);
        let (n_layers, top_k) = (size(n_layers)?, top_k as usize);
        let bound = input.declared.experts.unwrap_or(0);
        let mut recorder =
            RouteRecorder::new(input.to, input.scratch, (n_layers, top_k), input.declared, bound)?;
        if let Some(note) = note {
            recorder.note(format!("{note}; the largest {top_k} are the routes"));
        }
        let (ids, order, digest) = (Vec::new(), Vec::new(), input.digest);
        Ok(Self { recorder, n_layers, top_k, tokens: 0, ids, order, digest })
    }

    /// Takes the logits of the next layer; among equals the lower expert wins.
    pub(super) fn push_row(&mut self, logits: &[f64]) -> Result<(), TraceError> {
        let (token, layer) = (self.tokens, self.ids.len() / self.top_k);
        if let Some(expert) = logits.iter().position(|logit| logit.is_nan()) {
            self.recorder.flaws.note("range", || {
                let detail = format!("token {token}, layer {layer}, expert {expert} is no number");
                (format!("/{token}/{layer}/{expert}"), detail)
            });
        }
        self.order.clear();
        self.order.extend((0..).take(logits.len()));
        let better = |a: &u16, b: &u16| {
            logits[usize::from(*b)].total_cmp(&logits[usize::from(*a)]).then(a.cmp(b))
        };
        if self.top_k < self.order.len() {
            self.order.select_nth_unstable_by(self.top_k - 1, better);
        }
        self.order.truncate(self.top_k);
        self.order.sort_unstable_by(better);
        self.ids.extend_from_slice(&self.order);
        if layer + 1 < self.n_layers {
            return Ok(());
        }
        let position = u32::try_from(token).map_err(TraceError::unreadable)?;
        let place = RoutePosition::Array { sequence: 0, position: token };
        self.recorder.push(place, position, &self.ids, |n| self.ids[n].to_string())?;
        self.ids.clear();
        self.tokens += 1;
        Ok(())
    }

    /// Ends the trace.
    pub(super) fn finish(self) -> Result<File, TraceError> {
        self.recorder.finish(self.digest)
    }
}
