//! Routing traces as values: what a recording holds, what it says about the load of
//! the experts, and what makes it doubtful. Where traces come from is `formats`' business.

pub mod checks;
pub mod counts;
pub mod impossible;
pub mod stats;
pub mod steps;

/// Most layers a trace may have.
pub const MAX_LAYERS: usize = 1024;
/// Most experts of one layer.
pub const MAX_EXPERTS: u32 = 65_535;
/// Most experts of one token.
pub const MAX_TOP_K: usize = 64;
/// Most cells of one matrix of counts, layers times experts.
pub const MAX_CELLS: usize = 1 << 22;
/// Largest single count: above it, neighbouring integers are no longer distinct as `f64`.
pub const MAX_COUNT: f64 = 9_007_199_254_740_992.0;

/// What was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceKind {
    /// The experts of every token.
    Routes,
    /// The number of tokens each expert took, step by step.
    Counts,
}

/// Shape and identity of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceHeader {
    /// What was recorded.
    pub kind: TraceKind,
    /// SHA-256 of the uploaded bytes, after decoding of the transfer.
    pub digest: [u8; 32],
    /// Tokens; 0 for counts.
    pub tokens: u64,
    /// Sequences; 0 for counts.
    pub sequences: u64,
    /// Recorded steps; 0 for routes.
    pub steps: u64,
    /// Layers of the recording that carry routing, by their place in the recording;
    /// dense ones are left out. Everything else counts layers by their place in here.
    pub layers: Vec<u16>,
    /// Experts of a layer.
    pub experts: u32,
    /// Experts of a token, where known.
    pub top_k: Option<u32>,
    /// Whether every token's vocabulary id was recorded.
    pub has_token_ids: bool,
    /// Whether positions differ from 0, 1, 2, … within a sequence.
    pub has_positions: bool,
    /// Whether `experts` is no more than 1 + the largest id seen.
    pub experts_inferred: bool,
    /// Tokens whose experts equal those of the token before, in all layers.
    pub repeated_rows: u64,
    /// Longest run of such tokens.
    pub longest_repeat: u64,
    /// What was noticed while reading, in plain words.
    pub notes: Vec<String>,
}

impl TraceHeader {
    /// Layers that carry routing.
    #[must_use]
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// Experts of a layer, as a size.
    #[must_use]
    pub fn n_experts(&self) -> usize {
        self.experts as usize
    }

    /// What a split of the trace divides: tokens of routes, steps of counts.
    #[must_use]
    pub fn extent(&self) -> u64 {
        match self.kind {
            TraceKind::Routes => self.tokens,
            TraceKind::Counts => self.steps,
        }
    }
}
