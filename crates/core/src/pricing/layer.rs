//! The time of one mixture-of-experts layer of one step, put together from the laws.
//!
//! ```text
//! layer = attention + all_reduce + router + dispatch + expert_ffn + combine + other
//! ```
//!
//! What does not depend on routing is priced once ([`LayerCosts::new`]); the slowest
//! device's experts and the busiest device's exchange are priced for every step's loads
//! ([`LayerCosts::loaded`], then [`LayerCosts::routed`]). With `two_batch` overlap the laws are bound to half the tokens
//! and both halves are counted. Composition: `cost-model` §4.

use std::ops::AddAssign;

use crate::comm::collectives::CollectiveLaw;
use crate::comm::profile::Collective;
use crate::comm::{exchange::Exchange, load::ExchangeLoad};
use crate::cost::experts::{ExpertLaw, ExpertShape, ExpertWork, Seen};
use crate::cost::{Laws, launches, narrowed_expert_law};
use crate::engines::{self, kernels};
use crate::hardware::{Device, Stack};
use crate::price::{Basis, Price};
use crate::pricing::attention_block::{attention_block, dense_block, sum};
use crate::pricing::device_load::DeviceLoad;
use crate::pricing::entry::{Band, Bands};
use crate::pricing::error::PricingError;
use crate::question::{MeasuredLayer, Question};
use crate::rebalance::STALL_BAND;
use crate::system::{Communication, Overlap, Phase, System};
use crate::terms::{PerTerm, Terms};
use crate::units::{Bytes, Seconds};

/// The layer of one question, ready to be priced for any loads.
#[derive(Debug, Clone)]
pub struct LayerCosts {
    /// Terms that no strategy changes.
    fixed: Terms,
    /// Time of the host for the launches of a half; nothing under graphs.
    host: Seconds,
    /// Shared experts, part of the expert term.
    shared: Seconds,
    /// Drafting of a step, spread over the mixture-of-experts layers.
    drafting: Seconds,
    /// How far each term can be trusted.
    pub bands: Bands,
    pub(crate) experts: ExpertLaw,
    /// The work of one slot with 0, 1, 2, … tokens, where it was tabulated.
    pub(crate) works: Vec<ExpertWork>,
    /// Measured over modelled time of the balanced experts.
    expert_scale: f64,
    /// Tokens of a slot and slots of a device for which the experts were measured.
    measured_balanced: Option<(f64, u32)>,
    pub(crate) exchange: Exchange,
    /// One dense layer of the model, 0 where there is none.
    pub dense_layer: Seconds,
    /// The predictors' laws.
    pub laws: Laws,
    /// Tokens of the step, T.
    pub tokens: f64,
    /// Halves the step is cut into: 1, or 2 under `two_batch`.
    pub(crate) halves: f64,
    overlap: Overlap,
    /// What two half batches hide of the shorter.
    hidden_share: f64,
}

/// The part of a layer's time that depends on loads.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Routed {
    /// Experts of the slowest device, without shared experts.
    pub ffn: Seconds,
    /// Tokens to the experts.
    pub dispatch: Seconds,
    /// Outputs back.
    pub combine: Seconds,
}

impl AddAssign for Routed {
    fn add_assign(&mut self, other: Self) {
        self.ffn += other.ffn;
        self.dispatch += other.dispatch;
        self.combine += other.combine;
    }
}

impl Routed {
    /// Every part times `factor`.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            ffn: self.ffn * factor,
            dispatch: self.dispatch * factor,
            combine: self.combine * factor,
        }
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> Seconds {
        self.ffn + self.dispatch + self.combine
    }
}

impl LayerCosts {
    /// The laws of a question's layer.
    pub(crate) fn of(question: &Question, pattern: Communication) -> Result<Self, PricingError> {
        let tokens = question.system.workload.tokens_per_step as f64;
        let measured = question.measured_layer.as_ref();
        Self::new(&question.system, pattern, measured, tokens).ok_or(PricingError::NoProfile)
    }

    /// Binds every law to the question's system.
    #[must_use]
    pub fn new(
        system: &System,
        pattern: Communication,
        measured: Option<&MeasuredLayer>,
        tokens: f64,
    ) -> Option<Self> {
        let stack = Device::stack_of(system)?;
        Some(Self::on_stack(stack, system, pattern, measured, tokens))
    }

    /// The same layer with every other kernel of the routed experts that the engine ships for the
    /// device; none where the question names its kernel, or its backend leads to one.
    pub(crate) fn with_other_kernels(question: &Question, pattern: Communication) -> Vec<Self> {
        let system = &question.system;
        if system.engine.as_ref().is_some_and(|engine| engine.moe_kernel.is_some()) {
            return Vec::new();
        }
        let (device, engine) = (&system.cluster.device, system.engine_kind());
        let taken = Device::stack_of(system).map(|stack| &stack.name);
        if taken != device.default_stack(engine).map(|stack| &stack.name) {
            return Vec::new();
        }
        let shipped = |stack: &&Stack| {
            if kernels::is_of_a_backend(stack) {
                return false;
            }
            let ships = |kernel: &String| {
                engine.moe_kernels.is_empty() || engine.moe_kernels.contains(&kernel.as_str())
            };
            stack.kernels.iter().any(ships)
        };
        let others = device.stacks.iter().filter(|stack| Some(&stack.name) != taken);
        let tokens = system.workload.tokens_per_step as f64;
        let measured = question.measured_layer.as_ref();
        let bound = |stack: &Stack| Self::on_stack(stack, system, pattern, measured, tokens);
        others.filter(shipped).map(bound).collect()
    }

    /// The same layer where the experts' memory and arithmetic take so many times as long; what
    /// was measured at balanced load stays.
    pub(crate) fn with_experts_slower(&self, memory: f64, compute: f64) -> Self {
        let experts = self.experts.slower(memory, compute);
        let expert_scale = self.measured_balanced.map_or(self.expert_scale, |(tokens, slots)| {
            let time = |law: &ExpertLaw| law.time((0..slots).map(|_| law.piece(tokens)).sum());
            self.expert_scale * (time(&self.experts) / time(&experts))
        });
        Self { experts, expert_scale, works: Vec::new(), ..self.clone() }
    }

    /// Binds every law of one stack.
    #[expect(clippy::too_many_lines, reason = "one operator after another, in the order of a step")]
    fn on_stack(
        stack: &Stack,
        system: &System,
        pattern: Communication,
        measured: Option<&MeasuredLayer>,
        tokens: f64,
    ) -> Self {
        let device = &system.cluster.device;
        let engine = system.engine_kind();
        let laws = Laws::bind(device, stack, &system.workload.dtypes);
        let halves = f64::from(halves(system));
        let part = tokens / halves;
        let local = part * system.busiest_share();
        // A half batch holds half the sequences; one sequence alone is cut.
        let sequences = (system.busiest_sequences() as f64 / halves).max(1.0);
        let model = &system.model;
        let experts = &model.experts;
        let d = f64::from(model.hidden_size);
        let dtypes = system.workload.dtypes;

        let seen = match pattern {
            Communication::Replicated | Communication::AllgatherReducescatter => {
                Seen::Group { tokens: part, pairs: part * f64::from(experts.top_k) }
            }
            _ => Seen::Routed,
        };
        let shape = ExpertShape {
            hidden: f64::from(model.expert_width()),
            intermediate: f64::from(experts.intermediate)
                / f64::from(system.parallelism.expert_tensor),
            gated: experts.gated,
            operands: dtypes.experts,
            rows: dtypes.stream,
        };
        let mean = part * f64::from(experts.top_k) / f64::from(experts.routed);
        let per_device = experts.routed.div_ceil(system.parallelism.expert_parallel);
        let expert = narrowed_expert_law(device, stack, &shape, seen, (mean, per_device));
        let exchange = Exchange::for_tokens(system, pattern, part);

        let beside = system.busiest_decoding() as f64 / halves;
        let mut attention = attention_block(system, &laws, local, (sequences, beside));
        attention.time = attention.time * system.assumptions.attention_imbalance;
        let tensor = system.parallelism.attention_tensor;
        let mut all_reduce =
            CollectiveLaw::new(&system.cluster, engine, Collective::AllReduce, tensor)
                .price(Bytes::new(local * d * dtypes.stream.bytes()));
        // Every block that mixes tokens ends in one.
        let mixing = f64::from(model.mixing_blocks()) / f64::from(model.layers().max(1));
        all_reduce.time = all_reduce.time * mixing;
        let scored = f64::from(experts.routed + experts.zero_cost);
        let router = laws.router_gemm.price(local, scored, d);
        let chosen = sum(&[router, laws.top_k.price(local, scored)]);
        let sharding = f64::from(tensor);
        let beside = experts.shared_intermediate + model.dense_beside_experts;
        let shared_width = f64::from(beside) / sharding;
        let mut shared = dense_block(&laws, local, d, shared_width, experts.gated);
        if let Some(latent) = experts.latent.map(f64::from) {
            let (down, up) = (laws.gemm.price(local, latent, d), laws.gemm.price(local, d, latent));
            shared = sum(&[shared, down, up]);
        }
        let dense_width = f64::from(model.dense_intermediate) / sharding;
        let dense = dense_block(&laws, local, d, dense_width, experts.gated);

        let collectives = if tensor > 1 { 3.0 } else { 2.0 };
        let mut n_launches = launches::attention(&model.attention) * mixing
            + launches::ROUTER
            + launches::EXPERTS
            + collectives;
        if beside > 0 {
            n_launches += launches::DENSE;
        }
        let launch = system.assumptions.launch.unwrap_or_else(|| {
            if engines::defaults::cuda_graph(system) { Seconds::ZERO } else { device.eager_launch }
        });

        let mut expert_scale = 1.0;
        let mut measured_balanced = None;
        if let Some(measured) = measured {
            let stated = |time| Price { time, band: 0.0, basis: Basis::Measured };
            attention = stated(measured.attention);
            all_reduce = stated(measured.all_reduce);
            let work: ExpertWork = (0..per_device).map(|_| expert.piece(mean)).sum();
            expert_scale = measured.expert_ffn_balanced / expert.time(work);
            measured_balanced = Some((mean, per_device));
        }

        let exchanged = exchange.price(&exchange.balanced());
        let expert_price = expert.price(ExpertWork::default());
        let band = |relative, basis| Band { relative, basis };
        let of = |price: Price| band(price.band, price.basis);
        let bands = Bands {
            attention: of(attention),
            all_reduce: of(all_reduce),
            router: of(chosen),
            dispatch: of(exchanged.dispatch),
            // Measured at balanced load, scaled by the law to the load of the slowest device.
            expert_ffn: if measured.is_some() {
                band(expert_price.band / 2.0, Basis::Measured)
            } else {
                of(expert_price)
            },
            combine: of(exchanged.combine),
            predictor: of(router),
            rebalance: band(STALL_BAND, Basis::Fitted),
            overlap_hidden: of(exchanged.combine),
            other: band(LAUNCH_BAND, Basis::Fitted),
        };
        Self {
            fixed: Terms {
                attention: attention.time,
                all_reduce: all_reduce.time,
                router: chosen.time,
                ..Terms::default()
            },
            host: launch * n_launches,
            shared: shared.time,
            drafting: Self::drafting(stack, system, pattern),
            bands,
            experts: expert,
            works: Vec::new(),
            expert_scale,
            measured_balanced,
            exchange,
            dense_layer: if model.dense_layers == 0 {
                Seconds::ZERO
            } else {
                let computed = attention.time + all_reduce.time * 2.0 + dense.time;
                let host = launch * (launches::attention(&model.attention) + launches::DENSE);
                (computed + launches::exposed(host, computed)) * halves
            },
            laws,
            tokens,
            halves,
            hidden_share: hidden_share(pattern),
            overlap: if halves > 1.0 || system.assumptions.overlap != Overlap::TwoBatch {
                system.assumptions.overlap
            } else {
                Overlap::None
            },
        }
    }

    /// Time to draft the tokens that the step verifies, spread over the mixture-of-experts layers.
    ///
    /// ```text
    /// t = n · (layer + product(T, d, 2·d) + product(T, vocabulary / tp, d)) / layers
    /// ```
    ///
    /// for T = one token of every sequence: a layer that drafts joins embedding and stream, is a layer
    /// of the model whose experts are chosen equally often, and ends in the output head (DeepSeek-V3,
    /// arXiv 2412.19437, section 2.2). Of a draft model of its own only a stated time is known.
    fn drafting(stack: &Stack, system: &System, pattern: Communication) -> Seconds {
        let (model, drafts) = (&system.model, system.workload.drafting());
        let Some(speculation) = system.workload.speculation.filter(|_| drafts.sequences > 0) else {
            return Seconds::ZERO;
        };
        let layers = f64::from(model.moe_layers);
        if model.mtp_layers == 0 || speculation.draft.is_some() {
            return speculation.draft.unwrap_or(Seconds::ZERO) / layers;
        }
        let alone = System { workload: drafts, ..system.clone() };
        let tokens = drafts.tokens_per_step as f64;
        let costs = Self::on_stack(stack, &alone, pattern, None, tokens);
        let experts = &model.experts;
        let even = vec![1.0 / f64::from(experts.routed); experts.routed as usize];
        let groups = system.parallelism.expert_parallel;
        let layer = costs.at_expected_loads(&even, experts.top_k, groups).total();
        let (local, d) = (tokens * alone.busiest_share(), f64::from(model.hidden_size));
        let vocabulary =
            f64::from(model.vocabulary) / f64::from(system.parallelism.attention_tensor);
        let around = sum(&[
            costs.laws.gemm.price(local, d, 2.0 * d),
            costs.laws.gemm.price(local, vocabulary, d),
        ]);
        (layer + around.time) * (f64::from(speculation.drafted) / layers)
    }

    /// The terms of a layer by expected loads: experts chosen with `shares`, `top_k` of them by a token,
    /// and assigned round-robin to so many groups of devices. The slowest group computes one expert at least.
    #[must_use]
    pub fn at_expected_loads(&self, shares: &[f64], top_k: u32, groups: u32) -> Terms {
        let tokens = self.tokens / self.halves;
        let groups = groups.max(1) as usize;
        let of_group = |first: usize| {
            let own = shares.iter().skip(first).step_by(groups);
            let (mut met, mut work) = (0.0, ExpertWork::default());
            for share in own {
                let (reached, each) = reached(f64::from(top_k) * share, tokens);
                met += reached;
                work += self.experts.piece(each) * reached;
            }
            self.device_ffn(work * (1.0 / met.clamp(f64::MIN_POSITIVE, 1.0)))
        };
        let ffn = (0..groups).map(of_group).fold(Seconds::ZERO, Seconds::max);
        self.terms(&self.with_exchange(ffn, &self.exchange.balanced()))
    }

    /// Attention of the layer.
    #[must_use]
    pub fn attention(&self) -> Seconds {
        self.fixed.attention * self.halves
    }

    /// Whether placement changes dispatch and combine.
    #[must_use]
    pub const fn exchange_depends_on_routing(&self) -> bool {
        self.exchange.depends_on_routing()
    }

    /// The routed time of a step: the slowest device's experts, the busiest device's
    /// exchange.
    #[must_use]
    pub fn routed(&self, loaded: &DeviceLoad) -> Routed {
        self.with_exchange(loaded.slowest, &loaded.exchange)
    }

    /// The same with every device taking the mean over devices of the experts' time, and
    /// balanced communication: what no balancing can beat.
    #[must_use]
    pub fn balanced(&self, loaded: &DeviceLoad) -> Routed {
        self.with_exchange(loaded.mean, &self.exchange.balanced())
    }

    /// The routed time where one group of devices holds every expert.
    #[must_use]
    pub fn one_device_step(&self, counts: &[f64]) -> Routed {
        let work = counts.iter().map(|tokens| self.work(*tokens)).sum();
        self.with_exchange(self.device_ffn(work), &self.exchange.balanced())
    }

    /// The experts' time of a device with that work in each half.
    pub(crate) fn device_ffn(&self, work: ExpertWork) -> Seconds {
        self.experts.time(work) * (self.expert_scale * self.halves)
    }

    fn with_exchange(&self, ffn: Seconds, load: &ExchangeLoad) -> Routed {
        let (dispatch, combine) = self.exchange.time(load);
        Routed { ffn, dispatch: dispatch * self.halves, combine: combine * self.halves }
    }

    /// All terms of a layer from its routed part, before predictor and rebalancing.
    #[must_use]
    pub fn terms(&self, routed: &Routed) -> Terms {
        let mut terms = self.fixed.scaled(self.halves);
        terms.dispatch = routed.dispatch;
        terms.combine = routed.combine;
        terms.expert_ffn = routed.ffn + self.shared * self.halves;
        terms.overlap_hidden = Seconds::ZERO - self.hidden(&terms);
        terms.other = self.exposed(&terms, 1.0);
        terms
    }

    /// What launches add to a layer of these terms where the host takes so many times as long, and
    /// drafting.
    fn exposed(&self, terms: &Terms, slower: f64) -> Seconds {
        let Terms { attention, all_reduce, router, dispatch, expert_ffn, combine, .. } = *terms;
        let device = attention
            + all_reduce
            + router
            + dispatch
            + expert_ffn
            + combine
            + terms.overlap_hidden;
        launches::exposed(self.host * (self.halves * slower), device) + self.drafting
    }

    /// A layer whose terms take so many times as long, and hide of each other what they then can.
    pub(crate) fn rescaled(&self, terms: &Terms, factors: &PerTerm<f64>) -> Terms {
        let mut terms = terms.with(factors, |term, factor| term * factor);
        terms.overlap_hidden = Seconds::ZERO - self.hidden(&terms);
        terms.other = self.exposed(&terms, factors.other);
        terms
    }

    /// What runs beside something else.
    fn hidden(&self, terms: &Terms) -> Seconds {
        let exchange = terms.dispatch + terms.combine;
        match self.overlap {
            Overlap::None => Seconds::ZERO,
            Overlap::SharedExpert => self.shared.min(exchange),
            // One half computes while the other communicates.
            Overlap::TwoBatch => {
                let compute = terms.attention + terms.router + terms.expert_ffn;
                compute.min(exchange + terms.all_reduce) * self.hidden_share
            }
        }
    }
}

/// Halves a step is cut into: two under `two_batch`, unless no replica has two sequences to decode.
pub(crate) fn halves(system: &System) -> u32 {
    let alone = system.workload.phase == Phase::Decode && system.busiest_sequences() < 2;
    if system.assumptions.overlap == Overlap::TwoBatch && !alone { 2 } else { 1 }
}

/// Share of the shorter of computation and communication that two half batches hide: kernels of both
/// share multiprocessors and memory bandwidth.
///
/// Source: DeepSeek-V3 on H100 under SGLang (LMSYS, large-scale EP, May 2025). Prefill of 8,192 and
/// 16,384 tokens a GPU gained 27 to 35 %, where hiding all of it would gain 78 to 82 %: 55 %. Decode
/// gained 25.5 % at 256 sequences a GPU and lost 27 % at 32, where all of it would be +43 and -22 %:
/// 75 %, since DeepEP's low-latency kernels leave the multiprocessors while messages travel.
const fn hidden_share(pattern: Communication) -> f64 {
    if matches!(pattern, Communication::AllToAllLowLatency) { 0.75 } else { 0.55 }
}

/// Error band of host launch times: 13 to 35 µs were measured.
const LAUNCH_BAND: f64 = 0.5;

/// With what probability any of `tokens` tokens chooses an expert, each with probability `chosen`, and how
/// many do then.
///
/// ```text
/// r = 1 − (1 − c)ᵀ,   n = c·T / r
/// ```
///
/// Worked number: four tokens that choose one of two experts reach it with 1 − 0.5⁴ = 0.9375; it then has 2.13.
fn reached(chosen: f64, tokens: f64) -> (f64, f64) {
    let chosen = chosen.min(1.0);
    let reached = 1.0 - (1.0 - chosen).powf(tokens);
    (reached, tokens * chosen / reached.max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worked_number_of_reached_experts_comes_out() {
        let (of_four, each) = reached(0.5, 4.0);
        assert!((of_four - 0.9375).abs() < 1e-12 && (each - 2.0 / 0.9375).abs() < 1e-12);
        assert_eq!(reached(1.7, 3.0), (1.0, 3.0));
        assert_eq!(reached(0.0, 3.0), (0.0, 0.0));
    }
}
