//! How evenly a load lies on devices.
//!
//! Engines print the same thing in three conventions; all are here:
//! max/mean (the imbalance r, 1 is perfect), mean/max (vLLM's and SGLang's balancedness)
//! and (max − mean)/mean (TensorRT-LLM's load report).

use crate::placement::SlotMap;

/// The busiest and the mean device of one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Balance {
    /// Load of the busiest device.
    pub max: f64,
    /// Mean load of a device.
    pub mean: f64,
}

impl Balance {
    /// The balance of these device loads; zero loads and no devices are perfectly balanced.
    #[must_use]
    pub fn of(device_loads: &[f64]) -> Self {
        let n = device_loads.len().max(1) as f64;
        let max = device_loads.iter().copied().fold(0.0, f64::max);
        Self { max, mean: device_loads.iter().sum::<f64>() / n }
    }

    /// The balance of a map under an even split of every expert's load over its replicas.
    #[must_use]
    pub fn of_map(map: &SlotMap, load: &[f64]) -> Self {
        Self::of(&device_loads(map, load))
    }

    /// The imbalance r = max / mean, at least 1.
    #[must_use]
    pub fn imbalance(self) -> f64 {
        if self.mean > 0.0 { (self.max / self.mean).max(1.0) } else { 1.0 }
    }

    /// The balancedness mean / max, at most 1.
    #[must_use]
    pub fn balancedness(self) -> f64 {
        1.0 / self.imbalance()
    }

    /// The excess (max − mean) / mean, at least 0.
    #[must_use]
    pub fn excess(self) -> f64 {
        self.imbalance() - 1.0
    }
}

/// Imbalance over the layers of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OverLayers {
    /// Mean of r, weighted with the tokens of the layer: Σ mean·r / Σ mean = Σ max / Σ mean.
    pub weighted: f64,
    /// The largest r.
    pub worst: f64,
}

impl OverLayers {
    /// The imbalance over these layers; without any load it is 1.
    #[must_use]
    pub fn of(layers: &[Balance]) -> Self {
        let (max, mean) =
            layers.iter().fold((0.0, 0.0), |(max, mean), b| (max + b.max, mean + b.mean));
        Self {
            weighted: Balance { max, mean }.imbalance(),
            worst: layers.iter().map(|b| b.imbalance()).fold(1.0, f64::max),
        }
    }
}

/// Load of every device when each expert's load is split evenly over its replicas.
#[must_use]
pub fn device_loads(map: &SlotMap, load: &[f64]) -> Vec<f64> {
    let mut out = Vec::new();
    device_loads_into(map, &shares(map, load), &mut out);
    out
}

/// Load of one replica of every expert: load / replicas.
///
/// Experts beyond the end of `load` carry nothing.
#[must_use]
pub fn shares(map: &SlotMap, load: &[f64]) -> Vec<f64> {
    let load = load.iter().copied().chain(std::iter::repeat(0.0));
    map.replicas().iter().zip(load).map(|(&r, x)| x / f64::from(r)).collect()
}

/// Load of every device given one replica's load of every expert; reuses the buffer.
///
/// # Panics
/// Where `share` is shorter than the number of experts.
pub fn device_loads_into(map: &SlotMap, share: &[f64], out: &mut Vec<f64>) {
    out.clear();
    out.extend(map.devices().map(|held| held.iter().map(|&e| share[e as usize]).sum::<f64>()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Shape;
    use approx::assert_relative_eq;

    #[test]
    fn the_three_conventions_agree() {
        let balance = Balance::of(&[3.0, 1.0, 2.0, 2.0]);
        assert_relative_eq!(balance.imbalance(), 1.5);
        assert_relative_eq!(balance.balancedness(), 2.0 / 3.0);
        assert_relative_eq!(balance.excess(), 0.5);
        assert_relative_eq!(Balance::of(&[0.0; 4]).imbalance(), 1.0);
        assert_relative_eq!(Balance::of(&[]).imbalance(), 1.0);
    }

    #[test]
    fn layers_weigh_by_their_tokens() {
        // 300 tokens at r = 2 and 100 at r = 1: (300·2 + 100·1) / 400
        let layers = [Balance { max: 600.0, mean: 300.0 }, Balance { max: 100.0, mean: 100.0 }];
        let over = OverLayers::of(&layers);
        assert_relative_eq!(over.weighted, 1.75);
        assert_relative_eq!(over.worst, 2.0);
        assert_relative_eq!(OverLayers::of(&[]).weighted, 1.0);
    }

    #[test]
    fn replicas_share_a_load_evenly() {
        let shape = Shape::new(2, 3, 3).unwrap();
        let map = SlotMap::new(shape, vec![0, 1, 0]).unwrap();
        assert_eq!(device_loads(&map, &[300.0, 100.0]), [150.0, 100.0, 150.0]);
        assert_relative_eq!(Balance::of_map(&map, &[300.0, 100.0]).imbalance(), 1.125);
    }
}
