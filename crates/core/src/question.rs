//! The checked question: what is to be advised on.

use crate::engines;
use crate::model::Model;
use crate::options::{self, ServingOption};
use crate::serving::Serving;
use crate::strategies::{self, Strategy};
use crate::system::{Assumptions, Cluster, Preset, System, Workload};
use crate::trend::Trend;
use crate::units::Seconds;

/// Everything an answer depends on, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Model, cluster, workload, engine and assumptions; of a running server the workload of the
    /// steps that its sequences decode in, if there are any.
    pub system: System,
    /// The server whose steps are priced; one kind of step alone where there is none.
    pub serving: Option<Serving>,
    /// Token-to-expert predictors to price.
    pub predictors: Vec<Predictor>,
    /// Profiled times of one layer that replace the laws.
    pub measured_layer: Option<MeasuredLayer>,
    /// How far experts may be copied.
    pub duplication: Duplication,
    /// How plans are renewed.
    pub rebalance: Rebalance,
    /// The placement in use now.
    pub current: Option<Current>,
    /// Strategies the recommendation is taken from; not empty.
    pub allowed: Vec<Strategy>,
    /// Whether the question itself names them: the asker runs what no engine does.
    pub names_allowed: bool,
    /// Whether values are searched at which the answer changes.
    pub flip_points: bool,
    /// Options priced beside the strategies: those of engines, in studies others too.
    pub options: Vec<&'static ServingOption>,
    /// Throughput at the same time per output token, instead of step latency.
    pub throughput_at_tpot: bool,
    /// Measured time of a whole step without any strategy.
    pub measured_step: Option<Seconds>,
    /// Time of a step outside the layers, part of its latency only: LM head, sampling, scheduling.
    pub step_overhead: Seconds,
    /// Seed of every random draw.
    pub seed: u64,
}

impl Question {
    /// Which strategy suits a model on a cluster, all else by default: calibrated laws, no engine
    /// named, parallelism as engines choose it, every strategy without predictors.
    #[must_use]
    pub fn new(model: Model, cluster: Cluster, workload: Workload) -> Self {
        let system = System {
            parallelism: engines::defaults::parallelism(&model, &cluster),
            model,
            cluster,
            workload,
            engine: None,
            assumptions: Assumptions::preset(Preset::Calibrated),
        };
        Self {
            system,
            serving: None,
            predictors: Vec::new(),
            measured_layer: None,
            duplication: Duplication::default(),
            rebalance: engines::unnamed::ENGINE.rebalance,
            current: None,
            allowed: strategies::LIST.to_vec(),
            names_allowed: false,
            flip_points: true,
            options: options::LIST.to_vec(),
            throughput_at_tpot: false,
            measured_step: None,
            step_overhead: Seconds::ZERO,
            seed: 0,
        }
    }

    /// A step of the whole model: its mixture-of-experts layers, the dense ones, and what is stated
    /// besides.
    #[must_use]
    pub fn whole_step(&self, layer: Seconds, dense_layer: Seconds) -> Seconds {
        let model = &self.system.model;
        layer * f64::from(model.moe_layers)
            + dense_layer * f64::from(model.dense_layers)
            + self.step_overhead
    }

    /// Takes predictors whose accuracy depends on skewness as they are at this one.
    pub fn predict_at(&mut self, skewness: f64) {
        for predictor in &mut self.predictors {
            if let (Some(trend), PredictorCost::Point(point)) =
                (&predictor.accuracy_over_skewness, &mut predictor.cost)
            {
                point.accuracy = trend.at(skewness);
            }
        }
    }

    /// Asks about a running server.
    pub fn serve(&mut self, serving: Serving) {
        let steps = serving.steps(self.system.workload.dtypes);
        if let Some(last) = steps.last() {
            self.system.workload = last.workload;
        }
        self.serving = Some(serving);
    }
}

/// A token-to-expert predictor as it is priced.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictor {
    /// Its name in the answer.
    pub name: String,
    /// What sort of predictor it is, where known.
    pub kind: Option<PredictorKind>,
    /// Where accuracy and overhead come from.
    pub source: PredictorSource,
    /// Accuracy and overhead, or the curve they lie on.
    pub cost: PredictorCost,
    /// Its accuracy over skewness, where that is stated; that of `cost` belongs to one skewness.
    pub accuracy_over_skewness: Option<Trend>,
}

/// Accuracy and overhead of a predictor.
#[derive(Debug, Clone, PartialEq)]
pub enum PredictorCost {
    /// One point.
    Point(PredictorPoint),
    /// t = a·exp(c·accuracy) through stated points.
    Curve(OverheadCurve),
}

/// One predictor: its accuracy and its time per layer and step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PredictorPoint {
    /// Mean share of a token's experts it names.
    pub accuracy: f64,
    /// Its time per layer and step.
    pub overhead: Seconds,
}

/// Predictor time that grows exponentially with accuracy: t = a·exp(c·accuracy).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OverheadCurve {
    /// The time at accuracy 0, a.
    pub at_zero: Seconds,
    /// The growth, c.
    pub growth: f64,
    /// Smallest stated accuracy.
    pub lowest: f64,
    /// Largest stated accuracy.
    pub highest: f64,
}

impl OverheadCurve {
    /// The time at `accuracy`.
    #[must_use]
    pub fn overhead(&self, accuracy: f64) -> Seconds {
        self.at_zero * (self.growth * accuracy).exp()
    }

    /// Least squares on ln t over stated points (two or more, times above zero).
    ///
    /// With x = accuracy and y = ln t: c = Σ(x−x̄)(y−ȳ) / Σ(x−x̄)², a = exp(ȳ − c·x̄);
    /// points of equal accuracy give c = 0.
    #[must_use]
    pub fn fit(points: &[PredictorPoint]) -> Self {
        let n = points.len() as f64;
        let mean_x = points.iter().map(|p| p.accuracy).sum::<f64>() / n;
        let mean_y = points.iter().map(|p| p.overhead.get().ln()).sum::<f64>() / n;
        let mut covariance = 0.0;
        let mut variance = 0.0;
        for point in points {
            let x = point.accuracy - mean_x;
            covariance += x * (point.overhead.get().ln() - mean_y);
            variance += x * x;
        }
        let growth = if variance > 0.0 { covariance / variance } else { 0.0 };
        Self {
            at_zero: Seconds::new((mean_y - growth * mean_x).exp()),
            growth,
            lowest: points.iter().map(|p| p.accuracy).fold(f64::INFINITY, f64::min),
            highest: points.iter().map(|p| p.accuracy).fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

/// Kinds of predictors the service knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PredictorKind {
    /// Per layer, the experts chosen most often.
    MostFrequent,
    /// Counts given the token id.
    ByToken,
    /// Counts given the position.
    ByPosition,
    /// A small feed-forward network on the token's embedding.
    Ffn,
    /// A small recurrent network on the sequence's embeddings.
    Lstm,
}

impl PredictorKind {
    /// Every kind with its name on the wire.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::MostFrequent, "most_frequent"),
        (Self::ByToken, "by_token"),
        (Self::ByPosition, "by_position"),
        (Self::Ffn, "ffn"),
        (Self::Lstm, "lstm"),
    ];
}

/// Where a predictor's figures come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PredictorSource {
    /// The question.
    Stated,
    /// A fit on the question's trace, scored on held-out tokens.
    Fitted,
    /// Typical figures, because the question gave none.
    Assumed,
}

impl PredictorSource {
    /// Every source with its name on the wire.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Stated, "stated"), (Self::Fitted, "fitted"), (Self::Assumed, "assumed")];
}

/// Profiled times of one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeasuredLayer {
    /// Attention.
    pub attention: Seconds,
    /// All-reduce after attention.
    pub all_reduce: Seconds,
    /// Expert FFN of one device under balanced load.
    pub expert_ffn_balanced: Seconds,
}

/// How far experts may be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Duplication {
    /// Expert slots of every device and layer; searched if left out.
    pub slots_per_device: Option<u32>,
    /// Copies an expert may have, the original included.
    pub max_copies: Option<u32>,
    /// Which planner.
    pub algorithm: Algorithm,
    /// Whether one device may hold an expert twice.
    pub allow_duplicates: bool,
    /// Whether groups of experts stay on nodes; as engines do if left out.
    pub groups: Option<Grouping>,
}

/// Where the copies of a group of experts may be, in models whose routing is limited to
/// groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouping {
    /// All on the group's node, as engines plan prefill over several nodes.
    Hard,
    /// One of every expert on the group's node, further ones anywhere.
    Soft,
    /// Anywhere.
    None,
}

impl Grouping {
    /// Every rule with its name on the wire.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Hard, "hard"), (Self::Soft, "soft"), (Self::None, "none")];
}

/// Planners of placement and duplication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// Ours: never worse than the other two.
    #[default]
    Best,
    /// DeepSeek's replicate-then-pack.
    Eplb,
    /// Algorithm 1 of the MoE-GPS paper.
    PaperGreedy,
}

impl Algorithm {
    /// Every planner with its name on the wire.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Best, "best"), (Self::Eplb, "eplb"), (Self::PaperGreedy, "paper_greedy")];
}

/// How plans are renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebalance {
    /// With or without a stall.
    pub mode: RebalanceMode,
    /// Steps between two renewals.
    pub interval_steps: u64,
    /// Steps a renewed plan looks back on; all if left out.
    pub window_steps: Option<u64>,
}

/// Ways to bring a new plan into effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebalanceMode {
    /// A static plan, loaded at start: no stall.
    StartupMap,
    /// Serving stops while experts move.
    Sync,
    /// Experts move beside serving, which slows down; the plan is late.
    Async,
}

impl RebalanceMode {
    /// Every mode with its name on the wire.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::StartupMap, "startup_map"), (Self::Sync, "sync"), (Self::Async, "async")];
}

/// The placement in use now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// The strategy in use, where stated.
    pub strategy: Option<Strategy>,
    /// Per layer, the expert in every slot; one layer stands for all.
    pub physical_to_logical: Option<Vec<Vec<u32>>>,
    /// Expert slots of every device and layer.
    pub slots_per_device: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_goes_through_two_points() {
        // ln(2e-4 / 1e-4) = 0.693147 over 0.1 of accuracy: c = 6.93147,
        // a = 1e-4 / exp(6.93147 * 0.7) = 7.8125e-7.
        let point =
            |accuracy, overhead| PredictorPoint { accuracy, overhead: Seconds::new(overhead) };
        let curve = OverheadCurve::fit(&[point(0.7, 1e-4), point(0.8, 2e-4)]);
        assert!((curve.growth - 6.931_471_805_6).abs() < 1e-9);
        assert!((curve.at_zero.get() - 7.812_5e-7).abs() < 1e-12);
        assert!((curve.overhead(0.75).get() - 1.414_213_562e-4).abs() < 1e-12);
    }
}
