//! What can be said of a recording before any strategy: how uneven devices are, what
//! perfect balance would save at most, what slots would buy.

pub mod steps;

use rayon::prelude::*;

use crate::placement::balance::{Balance, OverLayers};
use crate::placement::{PlacementError, Shape, SlotMap, best};
use crate::trace::counts::ExpertCounts;

/// A static plan: how even it makes the load it was made for, and the load that came.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanBalance {
    /// Slots of every device and layer.
    pub slots_per_device: u32,
    /// On the planning part.
    pub in_sample: OverLayers,
    /// On the part held out.
    pub held_out: OverLayers,
    /// The same, layer by layer.
    pub per_layer: Vec<Balance>,
    /// Its maps.
    pub maps: Vec<SlotMap>,
}

impl PlanBalance {
    fn of(
        maps: Vec<SlotMap>,
        planned: &ExpertCounts,
        scored: &ExpertCounts,
        slots_per_device: u32,
    ) -> Self {
        let balances = |load: &ExpertCounts| -> Vec<Balance> {
            maps.iter().zip(load.layers()).map(|(map, load)| Balance::of_map(map, load)).collect()
        };
        let per_layer = balances(scored);
        Self {
            slots_per_device,
            in_sample: OverLayers::of(&balances(planned)),
            held_out: OverLayers::of(&per_layer),
            per_layer,
            maps,
        }
    }

    /// Share of the time behind the busiest device that this plan saves of `static_plan`'s,
    /// where time grows with tokens: 1 − r / r₀.
    #[must_use]
    pub fn saves(&self, static_plan: &Self) -> f64 {
        1.0 - self.held_out.weighted / static_plan.held_out.weighted
    }
}

/// Slots a device needs for one copy of everything.
#[must_use]
pub fn base_slots(n_experts: u32, n_devices: u32) -> u32 {
    n_experts.div_ceil(n_devices.max(1))
}

/// Expert after expert, spare slots filled from the first expert on, as engines start.
pub fn contiguous(
    planned: &ExpertCounts,
    scored: &ExpertCounts,
    n_devices: u32,
) -> Result<PlanBalance, PlacementError> {
    let shape = shape(planned, n_devices, 0)?;
    let slots = (0..shape.n_slots()).map(|slot| slot % shape.n_experts()).collect();
    let maps = vec![SlotMap::new(shape, slots)?; planned.n_layers()];
    Ok(PlanBalance::of(maps, planned, scored, shape.slots_per_device()))
}

/// The best plan of the planning part with so many slots more than needed on each device.
pub fn planned(
    planned: &ExpertCounts,
    scored: &ExpertCounts,
    n_devices: u32,
    extra_per_device: u32,
) -> Result<PlanBalance, PlacementError> {
    let shape = shape(planned, n_devices, extra_per_device)?;
    let options = best::Options::default();
    let loads: Vec<&[f64]> = planned.layers().collect();
    let maps = loads
        .par_iter()
        .map(|load| best::plan(load, shape, &options))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(PlanBalance::of(maps, planned, scored, shape.slots_per_device()))
}

fn shape(load: &ExpertCounts, n_devices: u32, extra: u32) -> Result<Shape, PlacementError> {
    let n_experts = u32::try_from(load.n_experts()).unwrap_or(u32::MAX);
    let slots = base_slots(n_experts, n_devices).saturating_add(extra);
    Shape::new(n_experts, n_devices, slots.saturating_mul(n_devices))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(values: &[f64]) -> ExpertCounts {
        ExpertCounts::from_values(1, values.len(), values.to_vec()).unwrap()
    }

    #[test]
    fn copies_buy_what_moving_cannot() {
        // Two devices: contiguous 70 + 10 against 10 + 10; moved 70 against 30; with a
        // third slot each, the hot expert's halves lie on both.
        let even = load(&[70.0, 10.0, 10.0, 10.0]);
        let none = contiguous(&even, &even, 2).unwrap();
        let moved = planned(&even, &even, 2, 0).unwrap();
        let copied = planned(&even, &even, 2, 1).unwrap();
        let held_out = [&none, &moved, &copied].map(|plan| plan.held_out.weighted);
        assert!((held_out[0] - 1.6).abs() < 1e-12, "{held_out:?}");
        assert!((held_out[1] - 1.6).abs() < 1e-12, "{held_out:?}");
        assert!((held_out[2] - 1.0).abs() < 0.11, "{held_out:?}");
        assert!((copied.saves(&none) - (1.0 - held_out[2] / 1.6)).abs() < 1e-12);
        assert_eq!((none.slots_per_device, copied.slots_per_device), (2, 3));
    }

    #[test]
    fn a_plan_for_one_load_is_scored_on_the_other() {
        // The plan puts experts 0 and 1 apart; then 0 comes with all the load: 7 against 3.
        let (before, after) = (load(&[4.0, 4.0, 1.0, 1.0]), load(&[6.0, 2.0, 1.0, 1.0]));
        let plan = planned(&before, &after, 2, 0).unwrap();
        assert!((plan.in_sample.weighted - 1.0).abs() < 1e-12);
        assert!((plan.held_out.weighted - 1.4).abs() < 1e-12);
        assert!((plan.per_layer[0].imbalance() - 1.4).abs() < 1e-12);
    }

    #[test]
    fn experts_that_do_not_divide_over_devices_leave_spare_slots() {
        let three = load(&[1.0, 1.0, 1.0]);
        let none = contiguous(&three, &three, 2).unwrap();
        assert_eq!(none.maps[0].physical_to_logical(), [0, 1, 2, 0]);
        assert_eq!(base_slots(3, 8), 1);
    }
}
