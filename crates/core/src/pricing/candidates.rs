//! The placements that are priced: the one in use, and those that the strategies plan.
//!
//! They are made from forecast shares alone, so one set serves every price that differs in
//! tokens, link or predictor.

use rayon::prelude::*;

use crate::cancel::Cancel;
use crate::placement::moves::Moves;
use crate::placement::{PlacementError, SlotMap};
use crate::pricing::error::PricingError;
use crate::pricing::planner::Planner;
use crate::pricing::slot_shares::SlotShares;
use crate::question::Question;
use crate::routing::LayerRouting;
use crate::strategies::{LIST, NONE, Strategy};

/// One placement of every priced layer.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    /// The strategy it belongs to; `distribution_only` may have several.
    pub(crate) strategy: Strategy,
    /// Slots of every device and layer.
    pub(crate) slots_per_device: u32,
    /// The map of every layer, the same for each of several loads.
    pub(crate) layers: Vec<SlotShares>,
    /// Experts that leave or enter devices when the placement in use gives way to it.
    pub(crate) first_moves: u64,
    /// Experts the busiest device then receives, mean over layers.
    pub(crate) most_moves: f64,
}

/// How hard plans are searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Care {
    /// Plans to be used.
    Searched,
    /// The same, of those with copies only the ones whose devices have so many slots.
    Within([u32; 2]),
    /// Plans that only show where an answer changes.
    Quick,
}

/// The index of the placement in use.
pub(crate) const IN_USE: usize = 0;

/// All placements of a question: the one in use, then those of every strategy in their order,
/// fewest slots first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Placements {
    pub(crate) all: Vec<Placement>,
    /// Why strategies that plan have no placement.
    unplanned: Vec<(Strategy, String)>,
}

impl Placements {
    /// Placements that belong together for another reason than a question.
    pub(crate) fn of_all(all: Vec<Placement>) -> Self {
        Self { all, unplanned: Vec::new() }
    }

    /// The indices of a strategy's placements.
    pub(crate) fn of(&self, strategy: Strategy) -> impl Iterator<Item = usize> {
        let of = move |(_, placement): &(usize, &Placement)| placement.strategy == strategy;
        self.all.iter().enumerate().filter(of).map(|(index, _)| index)
    }

    /// Why a strategy has no placement.
    pub(crate) fn unplanned(&self, strategy: Strategy) -> String {
        let of = self.unplanned.iter().find(|(unplanned, _)| *unplanned == strategy);
        of.map(|(_, why)| why.clone()).unwrap_or_default()
    }
}

/// What is made of every one of so many layers, in order; several layers in parallel.
pub(crate) fn each_layer<T: Send>(
    n_layers: usize,
    make: impl Fn(usize) -> T + Send + Sync,
) -> Vec<T> {
    // One layer is done before another thread has heard of it.
    if n_layers < 2 {
        return (0..n_layers).map(make).collect();
    }
    (0..n_layers).into_par_iter().map(make).collect()
}

/// Makes all placements of a question, each for all of its `loads`, whose layers follow
/// each other in `layers`. Every one of `planners`, of which there is at least one, makes its plan
/// for every number of slots.
pub(crate) fn placements(
    question: &Question,
    planners: &[Planner],
    layers: &[LayerRouting],
    loads: usize,
    care: Care,
    stop: &Cancel,
) -> Result<Placements, PricingError> {
    let planner = &planners[0];
    let trivial = planner.trivial()?;
    let stated = question.current.as_ref().and_then(|current| current.physical_to_logical.as_ref());
    let in_use = |index: usize| {
        stated
            .and_then(|maps| maps.get(index).or_else(|| maps.first()))
            .and_then(|map| planner.current(map))
            .unwrap_or_else(|| trivial.clone())
    };
    let n_layers = layers.len() / loads;
    let current: Vec<SlotMap> = (0..n_layers).map(in_use).collect();
    let make = |strategy, maps: Vec<SlotMap>| {
        let (mut first_moves, mut most_moves) = (0, 0.0);
        for (old, new) in current.iter().zip(&maps) {
            let moves = Moves::between(old, new);
            first_moves += moves.total();
            most_moves += f64::from(moves.most());
        }
        let placed =
            |(map, layer): (&SlotMap, &LayerRouting)| planner.placed(map.clone(), &layer.forecast);
        Placement {
            strategy,
            slots_per_device: maps.first().map_or(0, |map| map.shape().slots_per_device()),
            layers: maps.iter().cycle().zip(layers).map(placed).collect(),
            first_moves,
            most_moves: most_moves / n_layers as f64,
        }
    };
    let planned = |planner: &Planner, slots: u32| -> Result<Vec<SlotMap>, PlacementError> {
        each_layer(n_layers, |index| {
            let of_load = |load: usize| layers[load * n_layers + index].forecast.as_slice();
            let shares: Vec<&[f64]> = (0..loads).map(of_load).collect();
            match care {
                Care::Searched | Care::Within(_) => {
                    planner.plan_for_worst(&current[index], &shares, slots)
                }
                Care::Quick => planner.quick_plan_for(&shares, slots),
            }
        })
        .into_iter()
        .collect()
    };
    let mut made = Placements::of_all(vec![make(NONE, current.clone())]);
    for strategy in LIST.iter().copied().filter(|strategy| strategy.renews()) {
        let mut obstacle = None;
        let before = made.all.len();
        let wanted = |slots: &u32| match care {
            Care::Within([least, most]) => {
                *slots == planner.base_slots || (least..=most).contains(slots)
            }
            Care::Searched | Care::Quick => true,
        };
        for slots in strategy.slots(planner, question).into_iter().filter(wanted) {
            stop.check()?;
            for planner in planners {
                // A number of slots no planner can fill is no choice.
                match planned(planner, slots) {
                    Ok(maps) => made.all.push(make(strategy, maps)),
                    Err(error) => obstacle = Some(error),
                }
            }
        }
        if made.all.len() == before {
            made.unplanned.push((strategy, strategy.unplanned(obstacle.as_ref())));
        }
    }
    Ok(made)
}
