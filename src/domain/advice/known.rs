//! What is known of the routing, made ready for pricing.

use rand::seq::SliceRandom;

use super::paper::PaperRouting;
use crate::domain::question::Question;
use crate::domain::routing::{self, LayerRouting, forecast, power_law};
use crate::domain::seed::{Purpose, stream};

/// Orders of the experts that are tried where only a scalar is known.
const ORDERS: u64 = 256;

/// What is known of the routing.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// One shape of shares for every layer, hottest first; which expert is hot is not
    /// known.
    Scalar {
        /// The true shares.
        shares: Vec<f64>,
        /// Distribution error of the forecast; the sampling error if left out.
        distribution_error: Option<f64>,
    },
    /// Shares of every layer.
    Layers(Vec<LayerRouting>),
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

impl Known {
    /// The routing of every priced layer, and the range of orders where only a scalar is
    /// known. The order of median device imbalance answers.
    #[must_use]
    pub fn layers(&self, question: &Question) -> (Vec<LayerRouting>, Option<OrderRange>) {
        match self {
            Self::Layers(layers) => (layers.clone(), None),
            Self::Scalar { shares, distribution_error } => {
                let (layer, range) = ordered(question, shares, *distribution_error);
                (vec![layer], Some(range))
            }
            Self::Balancedness { balancedness, at_devices } => {
                let experts = question.system.model.experts.routed;
                let shares = unbalanced(experts, *at_devices, 1.0 / balancedness);
                (vec![LayerRouting { forecast: shares.clone(), truth: shares }], None)
            }
        }
    }

    /// The routing in the paper's two numbers, layer by layer.
    #[must_use]
    pub fn paper(&self) -> Vec<PaperRouting> {
        match self {
            Self::Scalar { shares, distribution_error } => vec![PaperRouting {
                skewness: routing::skewness(shares),
                distribution_error: distribution_error
                    .unwrap_or_else(|| forecast::sampling_error(shares)),
            }],
            Self::Layers(layers) => layers
                .iter()
                .map(|layer| PaperRouting {
                    skewness: layer.skewness(),
                    distribution_error: layer.distribution_error(),
                })
                .collect(),
            Self::Balancedness { .. } => Vec::new(),
        }
    }

    /// Skewness per layer; `None` where experts are not known.
    #[must_use]
    pub fn skewness(&self) -> Option<Vec<f64>> {
        match self {
            Self::Scalar { shares, .. } => Some(vec![routing::skewness(shares)]),
            Self::Layers(layers) => Some(layers.iter().map(LayerRouting::skewness).collect()),
            Self::Balancedness { .. } => None,
        }
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
                distribution_error: *distribution_error,
            },
            Self::Layers(layers) => {
                let cap = 1.0 / f64::from(top_k);
                let power = power_for(layers, skewness, cap);
                let raise = |shares: &[f64]| {
                    let raised: Vec<f64> = shares.iter().map(|p| p.powf(power)).collect();
                    routing::capped(routing::normalised(&raised), cap)
                };
                Self::Layers(
                    layers
                        .iter()
                        .map(|layer| LayerRouting {
                            truth: raise(&layer.truth),
                            forecast: raise(&layer.forecast),
                        })
                        .collect(),
                )
            }
            Self::Balancedness { .. } => self.clone(),
        }
    }
}

/// The power at which the mean skewness of the layers is `skewness`, by bisection.
fn power_for(layers: &[LayerRouting], skewness: f64, cap: f64) -> f64 {
    let mean = |power: f64| {
        let of = |layer: &LayerRouting| {
            let raised: Vec<f64> = layer.truth.iter().map(|p| p.powf(power)).collect();
            let sum: f64 = raised.iter().sum();
            let most = raised.iter().copied().fold(0.0, f64::max) / sum;
            most.min(cap) * raised.len() as f64
        };
        layers.iter().map(of).sum::<f64>() / layers.len() as f64
    };
    let (mut low, mut high) = (0.0, 16.0);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if mean(middle) < skewness {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// The layer of the order with median device imbalance, and those at 5 % and 95 %.
fn ordered(
    question: &Question,
    shares: &[f64],
    distribution_error: Option<f64>,
) -> (LayerRouting, OrderRange) {
    let error = distribution_error.unwrap_or_else(|| forecast::sampling_error(shares));
    let mut rng = stream(question.seed, Purpose::ForecastError, 0);
    let believed = forecast::drawn_around(shares, error, &mut rng);
    let n_devices = question.system.parallelism.expert_parallel as usize;
    let per_device = shares.len().div_ceil(n_devices);
    let mut order: Vec<usize> = (0..shares.len()).collect();
    let mut tried: Vec<(f64, Vec<usize>)> = (0..ORDERS)
        .map(|index| {
            order.sort_unstable();
            order.shuffle(&mut stream(question.seed, Purpose::ExpertOrder, index));
            let load = |device: &[usize]| device.iter().map(|e| shares[*e]).sum::<f64>();
            let most = order.chunks(per_device).map(load).fold(0.0, f64::max);
            (most * n_devices as f64, order.clone())
        })
        .collect();
    tried.sort_by(|a, b| a.0.total_cmp(&b.0));
    let layer = |index: usize| LayerRouting {
        truth: tried[index].1.iter().map(|e| shares[*e]).collect(),
        forecast: tried[index].1.iter().map(|e| believed[*e]).collect(),
    };
    let (low, high) = (tried.len() / 20, tried.len() - 1 - tried.len() / 20);
    let range =
        OrderRange { imbalance: [tried[low].0, tried[high].0], layers: [layer(low), layer(high)] };
    (layer(tried.len() / 2), range)
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
