//! What is known of the routing, made ready for pricing.

use std::borrow::Cow;

use rand::seq::SliceRandom;

use crate::pricing::paper::PaperRouting;
use crate::question::Question;
use crate::routing::{self, LayerRouting, forecast, power_law};
use crate::seed::{Purpose, stream};
use crate::system::Workload;
use crate::trend::Trend;

/// Orders of the experts that are tried where only a scalar is known.
const ORDERS: usize = 256;

/// What is known of the routing.
#[derive(Debug, Clone, PartialEq)]
pub enum RoutingEvidence {
    /// One shape of shares for every layer, hottest first; which expert is hot is not
    /// known.
    Scalar {
        /// The true shares.
        shares: Vec<f64>,
        /// Distribution error of the forecast over skewness; the sampling error if left out.
        distribution_error: Option<Trend>,
    },
    /// Shares of every layer.
    Layers(Vec<LayerRouting>),
    /// Shares of every layer under several loads that one plan must serve; every load counts
    /// the same.
    Several(Vec<Vec<LayerRouting>>),
    /// Shares of every layer in each phase of a running server, which one plan must serve.
    ByPhase {
        /// Of the tokens of prompts.
        prefill: Vec<LayerRouting>,
        /// Of the tokens that are decoded.
        decode: Vec<LayerRouting>,
    },
    /// Only how uneven the devices are.
    Balancedness {
        /// Mean over maximum of device loads.
        balancedness: f64,
        /// At how many devices.
        at_devices: u32,
    },
}

/// Device imbalance that a scalar leaves open.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderRange {
    /// Device imbalance at 5 % and 95 % of the orders.
    pub imbalance: [f64; 2],
    /// The routing at those orders.
    pub layers: [LayerRouting; 2],
}

/// The orders of the experts that are tried where only a scalar is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Orders {
    /// One order after the other.
    experts: Vec<u32>,
}

impl Orders {
    /// The orders of a question's experts; none where experts are known.
    #[must_use]
    pub fn new(question: &Question, known: &RoutingEvidence) -> Self {
        if !matches!(known, RoutingEvidence::Scalar { .. }) {
            return Self::default();
        }
        let n_experts = question.system.model.experts.routed;
        let mut rng = stream(question.seed, Purpose::ExpertOrder, 0);
        let mut order: Vec<u32> = (0..n_experts).collect();
        let mut experts = Vec::with_capacity(ORDERS * order.len());
        for _ in 0..ORDERS {
            order.shuffle(&mut rng);
            experts.extend_from_slice(&order);
        }
        Self { experts }
    }
}

impl RoutingEvidence {
    /// How many loads one plan must serve.
    #[must_use]
    pub fn loads(&self) -> usize {
        if let Self::Several(loads) = self { loads.len().max(1) } else { 1 }
    }

    /// How many layers are priced, over all loads.
    #[must_use]
    pub fn n_layers(&self) -> usize {
        match self {
            Self::Layers(layers) => layers.len(),
            Self::Several(loads) => loads.iter().map(Vec::len).sum(),
            Self::ByPhase { prefill, .. } => prefill.len(),
            Self::Scalar { .. } | Self::Balancedness { .. } => 1,
        }
    }

    /// The routing of every priced layer, load after load, and the range of orders where
    /// only a scalar is known. The order of median device imbalance answers.
    #[must_use]
    pub fn layers(
        &self,
        question: &Question,
        orders: &Orders,
    ) -> (Vec<LayerRouting>, Option<OrderRange>) {
        match self {
            Self::Layers(layers) => (layers.clone(), None),
            Self::Several(loads) => (loads.concat(), None),
            Self::ByPhase { prefill, decode } => {
                let prompts = question.serving.map_or(0.5, |serving| serving.prompt_share());
                (mixed(prefill, decode, prompts), None)
            }
            Self::Scalar { shares, distribution_error } => {
                let mut tried = Tried::new(question, orders, shares, distribution_error.as_ref());
                let [low, middle, high] =
                    [ORDERS / 20, ORDERS / 2, ORDERS - 1 - ORDERS / 20].map(|at| tried.at(at));
                let range = OrderRange { imbalance: [low.0, high.0], layers: [low.1, high.1] };
                (vec![middle.1], Some(range))
            }
            Self::Balancedness { balancedness, at_devices } => {
                let experts = question.system.model.experts.routed;
                let shares = unbalanced(experts, *at_devices, 1.0 / balancedness);
                (vec![LayerRouting { forecast: shares.clone(), truth: shares }], None)
            }
        }
    }

    /// The routing of every priced layer in one kind of step, where `all` is that of all steps.
    #[must_use]
    pub fn in_step<'a>(
        &self,
        workload: &Workload,
        all: &'a [LayerRouting],
    ) -> Cow<'a, [LayerRouting]> {
        let Self::ByPhase { prefill, decode } = self else { return Cow::Borrowed(all) };
        let share = 1.0 - workload.decoded() as f64 / workload.tokens_per_step.max(1) as f64;
        Cow::Owned(mixed(prefill, decode, share))
    }

    /// The routing of every priced layer alone.
    #[must_use]
    pub fn median_layers(&self, question: &Question, orders: &Orders) -> Vec<LayerRouting> {
        match self {
            Self::Scalar { shares, distribution_error } => {
                let mut tried = Tried::new(question, orders, shares, distribution_error.as_ref());
                vec![tried.at(ORDERS / 2).1]
            }
            known => known.layers(question, orders).0,
        }
    }

    /// The routing in the paper's two numbers, layer by layer.
    #[must_use]
    pub fn paper(&self) -> Vec<PaperRouting> {
        let of_layer = |layer: &LayerRouting| PaperRouting {
            skewness: layer.skewness(),
            distribution_error: layer.distribution_error(),
        };
        match self {
            Self::Scalar { shares, distribution_error } => vec![PaperRouting {
                skewness: routing::skewness(shares),
                distribution_error: error_at(shares, distribution_error.as_ref()),
            }],
            Self::Layers(layers) => layers.iter().map(of_layer).collect(),
            Self::Several(loads) => loads.iter().flatten().map(of_layer).collect(),
            Self::ByPhase { prefill, decode } => {
                prefill.iter().chain(decode).map(of_layer).collect()
            }
            Self::Balancedness { .. } => Vec::new(),
        }
    }

    /// Skewness per layer, load after load; `None` where experts are not known.
    #[must_use]
    pub fn skewness(&self) -> Option<Vec<f64>> {
        match self {
            Self::Scalar { shares, .. } => Some(vec![routing::skewness(shares)]),
            Self::Layers(layers) => Some(layers.iter().map(LayerRouting::skewness).collect()),
            Self::Several(loads) => {
                Some(loads.iter().flatten().map(LayerRouting::skewness).collect())
            }
            Self::ByPhase { prefill, decode } => {
                Some(prefill.iter().chain(decode).map(LayerRouting::skewness).collect())
            }
            Self::Balancedness { .. } => None,
        }
    }

    /// Mean skewness over layers; `None` where experts are not known.
    #[must_use]
    pub fn mean_skewness(&self) -> Option<f64> {
        let skewness = self.skewness()?;
        Some(skewness.iter().sum::<f64>() / skewness.len() as f64)
    }

    /// The same routing made more or less uneven, so that its mean skewness is
    /// `skewness`: shares are raised to a common power and renormalised, which keeps a
    /// power law a power law.
    #[must_use]
    pub fn tempered(&self, skewness: f64, top_k: u32) -> Self {
        match self {
            Self::Scalar { shares, distribution_error } => Self::Scalar {
                shares: power_law::with_skewness(
                    u32::try_from(shares.len()).unwrap_or(u32::MAX),
                    top_k,
                    skewness,
                ),
                distribution_error: distribution_error.clone(),
            },
            Self::Layers(layers) => Self::Layers(tempered(layers, skewness, top_k)),
            Self::Several(loads) => {
                let n_layers = loads.first().map_or(1, |load| load.len().max(1));
                let raised = tempered(&loads.concat(), skewness, top_k);
                Self::Several(raised.chunks(n_layers).map(<[LayerRouting]>::to_vec).collect())
            }
            Self::ByPhase { prefill, decode } => {
                let both = [prefill.as_slice(), decode].concat();
                let mut raised = tempered(&both, skewness, top_k);
                let decode = raised.split_off(prefill.len());
                Self::ByPhase { prefill: raised, decode }
            }
            Self::Balancedness { .. } => self.clone(),
        }
    }
}

/// The forecast's error at the skewness of these shares; that of sampling where none is stated.
fn error_at(shares: &[f64], stated: Option<&Trend>) -> f64 {
    stated.map_or_else(
        || forecast::sampling_error(shares),
        |trend| trend.at(routing::skewness(shares)),
    )
}

/// Layers of which one routing has so large a share of the tokens, another the rest.
fn mixed(one: &[LayerRouting], other: &[LayerRouting], share: f64) -> Vec<LayerRouting> {
    let shares = |one: &[f64], other: &[f64]| -> Vec<f64> {
        one.iter().zip(other).map(|(p, q)| share * p + (1.0 - share) * q).collect()
    };
    let of = |(one, other): (&LayerRouting, &LayerRouting)| LayerRouting {
        truth: shares(&one.truth, &other.truth),
        forecast: shares(&one.forecast, &other.forecast),
    };
    one.iter().zip(other).map(of).collect()
}

/// Layers made more or less uneven by a common power, so that their mean skewness is
/// `skewness`.
fn tempered(layers: &[LayerRouting], skewness: f64, top_k: u32) -> Vec<LayerRouting> {
    let cap = 1.0 / f64::from(top_k);
    let power = power_for(layers, skewness, cap);
    let raise = |shares: &[f64]| {
        let raised: Vec<f64> = shares.iter().map(|p| p.powf(power)).collect();
        routing::capped(routing::normalised(&raised), cap)
    };
    layers
        .iter()
        .map(|layer| LayerRouting { truth: raise(&layer.truth), forecast: raise(&layer.forecast) })
        .collect()
}

/// The power x from 0 to 16 at which the mean skewness of the layers is `skewness`.
///
/// ```text
/// skewness(x) = mean over layers of E · min(cap, 1/S(x)),   S(x) = Σ_e (p_e / p_max)^x
/// ```
///
/// grows with x and is solved by Newton's method, kept within a bracket that shrinks with every
/// value tried.
fn power_for(layers: &[LayerRouting], skewness: f64, cap: f64) -> f64 {
    let logarithms = |layer: &LayerRouting| -> Vec<f64> {
        let most = layer.truth.iter().copied().fold(0.0, f64::max);
        layer.truth.iter().map(|p| (p / most).ln()).collect()
    };
    let layers: Vec<Vec<f64>> = layers.iter().map(logarithms).collect();
    // Mean skewness at a power, and its slope.
    let mean = |power: f64| {
        let (mut value, mut slope) = (0.0, 0.0);
        for logarithms in &layers {
            let (mut sum, mut change) = (0.0, 0.0);
            for logarithm in logarithms.iter().filter(|logarithm| logarithm.is_finite()) {
                let raised = (power * logarithm).exp();
                sum += raised;
                change += raised * logarithm;
            }
            let weight = logarithms.len() as f64 / layers.len() as f64;
            value += weight * cap.min(1.0 / sum);
            slope -= if sum * cap > 1.0 { weight * change / (sum * sum) } else { 0.0 };
        }
        (value, slope)
    };
    let (mut low, mut high) = (0.0, 16.0);
    let mut power: f64 = 1.0;
    for _ in 0..40 {
        let (value, slope) = mean(power);
        if value < skewness {
            low = power;
        } else {
            high = power;
        }
        let next = power + (skewness - value) / slope;
        let next = if low < next && next < high { next } else { f64::midpoint(low, high) };
        if (next - power).abs() < 1e-12 {
            return next;
        }
        power = next;
    }
    power
}

/// A scalar's shares in every order of the experts that is tried.
struct Tried<'a> {
    shares: &'a [f64],
    believed: Vec<f64>,
    /// Device imbalance of every order.
    orders: Vec<(f64, &'a [u32])>,
}

impl<'a> Tried<'a> {
    fn new(
        question: &Question,
        orders: &'a Orders,
        shares: &'a [f64],
        distribution_error: Option<&Trend>,
    ) -> Self {
        let error = error_at(shares, distribution_error);
        let mut rng = stream(question.seed, Purpose::ForecastError, 0);
        let believed = forecast::drawn_around(shares, error, &mut rng);
        let n_devices = question.system.parallelism.expert_parallel as usize;
        let per_device = shares.len().div_ceil(n_devices);
        let devices: Vec<usize> = (0..shares.len()).map(|place| place / per_device).collect();
        let mut loads = vec![0.0; n_devices];
        let mut imbalance = |order: &[u32]| {
            loads.fill(0.0);
            for (expert, device) in order.iter().zip(&devices) {
                loads[*device] += shares[*expert as usize];
            }
            loads.iter().copied().fold(0.0, f64::max) * n_devices as f64
        };
        let orders =
            orders.experts.chunks(shares.len()).map(|order| (imbalance(order), order)).collect();
        Self { shares, believed, orders }
    }

    /// Device imbalance and routing of the order at a rank of imbalance.
    fn at(&mut self, rank: usize) -> (f64, LayerRouting) {
        let by_imbalance =
            |a: &(f64, &[u32]), b: &(f64, &[u32])| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1));
        let (imbalance, order) = *self.orders.select_nth_unstable_by(rank, by_imbalance).1;
        let of = |values: &[f64]| order.iter().map(|e| values[*e as usize]).collect();
        (imbalance, LayerRouting { truth: of(self.shares), forecast: of(&self.believed) })
    }
}

/// Shares under which one of `devices` contiguous groups of experts carries `imbalance`
/// times the mean, all else being equal.
fn unbalanced(experts: u32, devices: u32, imbalance: f64) -> Vec<f64> {
    let n = f64::from(devices);
    let per_device = experts.div_ceil(devices);
    let hot = imbalance / n;
    let rest = if devices > 1 { (1.0 - hot) / (n - 1.0) } else { 1.0 };
    let weights: Vec<f64> =
        (0..experts).map(|expert| if expert < per_device { hot } else { rest }).collect();
    routing::normalised(&weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(weights: &[f64]) -> LayerRouting {
        let shares = routing::normalised(weights);
        LayerRouting { forecast: shares.clone(), truth: shares }
    }

    #[test]
    fn shares_are_raised_to_the_power_that_gives_the_skewness() {
        // Shares 4 : 2 : 1 : 1 have skewness 4/8 · 4 = 2; their squares 16/22 · 4.
        let one = [layer(&[4.0, 2.0, 1.0, 1.0])];
        assert!((power_for(&one, 2.0, 1.0) - 1.0).abs() < 1e-9);
        assert!((power_for(&one, 64.0 / 22.0, 1.0) - 2.0).abs() < 1e-9);
        let several = [layer(&[5.0, 1.0, 0.0, 2.0]), layer(&[1.0, 1.5, 1.0, 1.0])];
        for skewness in [1.2, 1.5, 1.9] {
            let mean: f64 =
                tempered(&several, skewness, 2).iter().map(LayerRouting::skewness).sum::<f64>();
            assert!((mean / 2.0 - skewness).abs() < 1e-9, "{skewness} {mean}");
        }
    }
}
