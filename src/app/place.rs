//! Plans for given loads, layer by layer, without a question around them.

use std::collections::BTreeMap;
use std::time::Instant;

use moe_gps_core::formats::placement::{Maps, PlanFile, PlanFileError, PlannedLayer};
use moe_gps_core::placement::balance::Balance;
use moe_gps_core::placement::best::{self, GroupRule, Options};
use moe_gps_core::placement::moves::Moves;
use moe_gps_core::placement::paper_greedy::GreedyPlan;
use moe_gps_core::placement::{
    Groups, PlacementError, Shape, SlotMap, cross_node, eplb, paper_greedy,
};
use moe_gps_core::question::Algorithm;
use moe_gps_core::trace::checks::ranges;
use moe_gps_core::trace::counts::ExpertCounts;
use moe_gps_core::trace::stats::mean;

/// Loads below this sum are shares, which `paper_greedy` sees as this many tokens.
const SHARES_AS_TOKENS: f64 = 65_536.0;

/// What is to be planned.
#[derive(Debug, Clone)]
pub struct PlaceRequest {
    /// Tokens per layer and expert.
    pub loads: ExpertCounts,
    /// Loads the plans are scored on, where they are not those planned for.
    pub holdout: Option<ExpertCounts>,
    /// Index of every layer of the loads among the layers of the model.
    pub layers: Vec<u16>,
    /// Devices, N.
    pub devices: u32,
    /// Slots of a device, P/N.
    pub slots_per_device: u32,
    /// Groups of experts on nodes.
    pub groups: Option<GroupsAsked>,
    /// The planner.
    pub algorithm: Algorithm,
    /// Whether `best` may put two copies of an expert on one device.
    pub allow_duplicates: bool,
    /// Nodes the devices stand in, where known.
    pub nodes: Option<u32>,
    /// The maps in force.
    pub current: Option<Maps>,
    /// How much less even a plan may be for fewer moves, relatively.
    pub move_tolerance: f64,
}

/// Groups of experts on nodes, as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupsAsked {
    /// Groups; `None` is one per node.
    pub n_groups: Option<u32>,
    /// Nodes.
    pub n_nodes: u32,
    /// Whether copies may leave the node of their group.
    pub soft: bool,
}

/// Plans of all layers, and what they are worth on the loads they were made for.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The plan as it can be written to a file.
    pub plan: PlanFile,
    /// Balance without a plan; `None` where experts do not fill the devices evenly.
    pub without: Option<Balances>,
    /// With the map in force, where there is one.
    pub in_force: Option<Balances>,
    /// With the plan: what a layer gains shows beside what it was.
    pub with: Balances,
    /// Share of the dispatched tokens that crosses nodes, where there are some: with the map in force
    /// and with the plan.
    pub cross_node: (Option<f64>, Option<f64>),
    /// What is odd about the map in force.
    pub warnings: Vec<String>,
    /// The same on the hold-out loads.
    pub holdout: Option<HeldOut>,
    /// Slots that repeat an expert their device holds already.
    pub same_device_duplicates: usize,
    /// Copies that enter devices, against the maps in force or the static placement.
    pub moves: u64,
    /// Copies outside the node of their group, where there are groups.
    pub cross_node_replicas: Option<usize>,
    /// What Algorithm 1 leaves behind in every layer, where it is the planner.
    pub greedy: Vec<GreedyPlan>,
    /// Time to plan all layers one after the other, seconds.
    pub plan_s: f64,
}

/// What plans are worth on loads they were not made for.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOut {
    /// Without a plan; `None` where experts do not fill the devices evenly.
    pub without: Option<Balances>,
    /// With the map in force, where there is one.
    pub in_force: Option<Balances>,
    /// With our plan.
    pub with: Balances,
    /// With the plan EPLB makes of the same loads.
    pub eplb: Balances,
}

/// Load of the busiest device over the mean of devices, layer by layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Balances {
    /// In the order of the plan's layers.
    pub per_layer: Vec<f64>,
}

impl Balances {
    fn of<'a>(maps: impl Iterator<Item = &'a SlotMap>, loads: &ExpertCounts) -> Self {
        let of = |(map, load): (&SlotMap, &[f64])| Balance::of_map(map, load).imbalance();
        Self { per_layer: maps.zip(loads.layers()).map(of).collect() }
    }

    /// Over the layers.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.per_layer.iter().sum::<f64>() / self.per_layer.len().max(1) as f64
    }

    /// Of the worst layer.
    #[must_use]
    pub fn worst(&self) -> f64 {
        self.per_layer.iter().copied().fold(1.0, f64::max)
    }
}

/// Why nothing was planned.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The counts do not fit each other.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The current maps do not fit the loads.
    #[error(
        "the placement given has {got} layer(s), none of them layer {layer} of the loads: \
         give one map per layer of the loads"
    )]
    CurrentLayers {
        /// Layers given.
        got: usize,
        /// A layer without a map.
        layer: u16,
    },
    /// The file is for other devices.
    #[error("the placement is for {file} devices; --devices says {asked}")]
    Devices {
        /// Devices of the file.
        file: u32,
        /// Devices asked for.
        asked: u32,
    },
    /// A current map is none for these devices and experts.
    #[error("the placement given, layer {layer}: {source}")]
    Current {
        /// The layer.
        layer: u16,
        /// What is wrong with it.
        source: PlacementError,
    },
    /// Algorithm 1 of the paper knows no nodes.
    #[error("paper_greedy knows no groups; use best or eplb with --groups")]
    GreedyGroups,
    /// The plan cannot be written.
    #[error(transparent)]
    File(#[from] PlanFileError),
}

/// The planner with this name on the wire.
#[must_use]
pub fn algorithm(name: &str) -> Option<Algorithm> {
    Algorithm::ALL.iter().find(|(_, known)| *known == name).map(|(algorithm, _)| *algorithm)
}

/// Plans every layer.
pub fn place(request: &PlaceRequest) -> Result<Placed, PlaceError> {
    let n_experts = u32::try_from(request.loads.n_experts()).unwrap_or(u32::MAX);
    let slots = request.devices.saturating_mul(request.slots_per_device);
    let shape = Shape::new(n_experts, request.devices, slots)?;
    let groups = request.groups.map(|asked| rule(asked, shape)).transpose()?;
    let current = match &request.current {
        Some(maps) => maps_of(maps, request, n_experts)?,
        None => Vec::new(),
    };
    let begun = Instant::now();
    let maps = request
        .loads
        .layers()
        .enumerate()
        .map(|(nth, load)| plan_layer(request, load, shape, groups, current.get(nth)))
        .collect::<Result<Vec<SlotMap>, _>>()?;
    let plan_s = begun.elapsed().as_secs_f64();
    let fixed = SlotMap::contiguous(n_experts, request.devices).ok();
    let without = |loads: &ExpertCounts| {
        fixed.as_ref().map(|fixed| Balances::of(std::iter::repeat(fixed), loads))
    };
    let in_force =
        |loads: &ExpertCounts| (!current.is_empty()).then(|| Balances::of(current.iter(), loads));
    let holdout = match &request.holdout {
        None => None,
        Some(loads) => {
            let eplb = PlaceRequest { algorithm: Algorithm::Eplb, ..request.clone() };
            let rivals = request
                .loads
                .layers()
                .map(|load| plan_layer(&eplb, load, shape, groups, None))
                .collect::<Result<Vec<SlotMap>, _>>()?;
            Some(HeldOut {
                without: without(loads),
                in_force: in_force(loads),
                with: Balances::of(maps.iter(), loads),
                eplb: Balances::of(rivals.iter(), loads),
            })
        }
    };
    let by_greedy = request.loads.layers().filter(|_| request.algorithm == Algorithm::PaperGreedy);
    let greedy = by_greedy.map(|load| greedy(load, shape)).collect::<Result<_, _>>()?;
    let start = spread(shape)?;
    let moves = |(nth, map): (usize, &SlotMap)| {
        Moves::between(current.get(nth).unwrap_or(&start), map).total()
    };
    Ok(Placed {
        without: without(&request.loads),
        in_force: in_force(&request.loads),
        cross_node: (crossing(&current, request), crossing(&maps, request)),
        warnings: unlike_slots(&current, request).into_iter().collect(),
        with: Balances::of(maps.iter(), &request.loads),
        holdout,
        same_device_duplicates: maps.iter().map(SlotMap::same_device_duplicates).sum(),
        moves: maps.iter().enumerate().map(moves).sum(),
        cross_node_replicas: groups
            .map(|rule| maps.iter().map(|map| map.cross_node_replicas(rule.groups())).sum()),
        greedy,
        plan_s,
        plan: plan_of(shape, &request.layers, maps)?,
    })
}

fn rule(asked: GroupsAsked, shape: Shape) -> Result<GroupRule, PlacementError> {
    let groups = Groups::new(shape, asked.n_groups.unwrap_or(asked.n_nodes), asked.n_nodes)?;
    Ok(if asked.soft { GroupRule::Soft(groups) } else { GroupRule::Hard(groups) })
}

fn plan_layer(
    request: &PlaceRequest,
    load: &[f64],
    shape: Shape,
    groups: Option<GroupRule>,
    current: Option<&SlotMap>,
) -> Result<SlotMap, PlaceError> {
    match (request.algorithm, groups) {
        (Algorithm::Best, groups) => {
            let allow_duplicates = request.allow_duplicates;
            let move_tolerance = request.move_tolerance;
            let options =
                Options { groups, allow_duplicates, current, move_tolerance, ..Options::default() };
            Ok(best::plan(load, shape, &options)?)
        }
        (Algorithm::Eplb, Some(rule)) => Ok(eplb::hierarchical(load, shape, rule.groups())?),
        (Algorithm::Eplb, None) => Ok(eplb::flat(load, shape)?),
        (Algorithm::PaperGreedy, Some(_)) => Err(PlaceError::GreedyGroups),
        (Algorithm::PaperGreedy, None) => Ok(greedy(load, shape)?.to_slot_map(load)?),
    }
}

/// Algorithm 1 on the load of a layer.
fn greedy(load: &[f64], shape: Shape) -> Result<GreedyPlan, PlacementError> {
    let total: f64 = load.iter().sum();
    let is_tokens = total >= load.len() as f64 && load.iter().all(|x| x.fract() == 0.0);
    let scale = if is_tokens || total <= 0.0 { 1.0 } else { SHARES_AS_TOKENS / total };
    paper_greedy::plan(&paper_greedy::quotas(load, scale), shape, u32::MAX)
}

/// What given maps are worth.
#[derive(Debug, Clone)]
pub struct Scored {
    /// Slots of a device in every layer.
    pub slots_per_device: Vec<u32>,
    /// Balance without a plan; `None` where experts do not fill the devices evenly.
    pub without: Option<Balances>,
    /// With the maps.
    pub with: Balances,
    /// The same on the hold-out loads: without a plan, with the maps.
    pub holdout: Option<(Option<Balances>, Balances)>,
    /// Share of the dispatched tokens that crosses nodes, where there are some.
    pub cross_node: Option<f64>,
    /// Slots that repeat an expert their device holds already.
    pub same_device_duplicates: usize,
    /// What is odd about the maps.
    pub warnings: Vec<String>,
}

/// Scores the maps in force, and plans nothing.
pub fn score(maps: &Maps, request: &PlaceRequest) -> Result<Scored, PlaceError> {
    let n_experts = u32::try_from(request.loads.n_experts()).unwrap_or(u32::MAX);
    let maps = maps_of(maps, request, n_experts)?;
    let fixed = SlotMap::contiguous(n_experts, request.devices).ok();
    let balances = |loads: &ExpertCounts| {
        let fixed = fixed.as_ref().map(|fixed| Balances::of(std::iter::repeat(fixed), loads));
        (fixed, Balances::of(maps.iter(), loads))
    };
    let (without, with) = balances(&request.loads);
    Ok(Scored {
        slots_per_device: maps.iter().map(|map| map.shape().slots_per_device()).collect(),
        without,
        with,
        holdout: request.holdout.as_ref().map(balances),
        cross_node: crossing(&maps, request),
        same_device_duplicates: maps.iter().map(SlotMap::same_device_duplicates).sum(),
        warnings: unlike_slots(&maps, request).into_iter().collect(),
    })
}

/// Mean over layers of the share of dispatched tokens that crosses nodes.
fn crossing(maps: &[SlotMap], request: &PlaceRequest) -> Option<f64> {
    let nodes = request.nodes?;
    let layers = maps.iter().zip(request.loads.layers());
    mean(layers.filter_map(|(map, load)| cross_node::share(map, load, nodes)))
}

/// Says that layers hold unlike numbers of slots.
fn unlike_slots(maps: &[SlotMap], request: &PlaceRequest) -> Option<String> {
    let slots = maps.iter().map(|map| map.shape().slots_per_device() as usize);
    unlike(request.layers.iter().map(|layer| usize::from(*layer)).zip(slots))
}

/// Says that layers, given with the slots of a device, hold unlike numbers of them, which no engine does.
pub(super) fn unlike(slots: impl Iterator<Item = (usize, usize)>) -> Option<String> {
    let mut layers_of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (layer, slots) in slots {
        layers_of.entry(slots).or_default().push(layer);
    }
    let said = |(slots, layers): (&usize, &Vec<usize>)| {
        format!("{slots} in layer(s) {}", ranges(layers.iter().copied()))
    };
    let said: Vec<String> = layers_of.iter().map(said).collect();
    (said.len() > 1).then(|| {
        format!(
            "the placement given has unlike slots per device: {}; engines hold equally many in \
             every layer",
            said.join(", ")
        )
    })
}

/// One map per layer of the loads: by place where there are as many, else by index.
fn maps_of(
    given: &Maps,
    request: &PlaceRequest,
    n_experts: u32,
) -> Result<Vec<SlotMap>, PlaceError> {
    if let Some(file) = given.devices.filter(|devices| *devices != request.devices) {
        return Err(PlaceError::Devices { file, asked: request.devices });
    }
    let same = given.layers.len() == request.layers.len();
    let mut maps = Vec::with_capacity(request.layers.len());
    for (nth, &layer) in request.layers.iter().enumerate() {
        let by_index = || given.layers.iter().find(|given| given.index == u32::from(layer));
        let map = if same { given.layers.get(nth) } else { by_index() };
        let map = map.map(|found| &found.physical_to_logical).or(given.others.as_ref());
        let Some(map) = map else {
            return Err(PlaceError::CurrentLayers { got: given.layers.len(), layer });
        };
        let slots = u32::try_from(map.len()).unwrap_or(u32::MAX);
        let map = Shape::new(n_experts, request.devices, slots)
            .and_then(|shape| SlotMap::new(shape, map.clone()))
            .map_err(|source| PlaceError::Current { layer, source })?;
        maps.push(map);
    }
    Ok(maps)
}

/// The map engines start with: slot p holds expert p mod E.
fn spread(shape: Shape) -> Result<SlotMap, PlacementError> {
    SlotMap::new(shape, (0..shape.n_slots()).map(|slot| slot % shape.n_experts()).collect())
}

fn plan_of(shape: Shape, layers: &[u16], maps: Vec<SlotMap>) -> Result<PlanFile, PlanFileError> {
    let n_model_layers = layers.iter().max().map_or(0, |last| u32::from(*last) + 1);
    let layer = |(&index, map): (&u16, SlotMap)| PlannedLayer {
        index: u32::from(index),
        physical_to_logical: map.into_physical_to_logical(),
    };
    PlanFile::new(shape, n_model_layers, layers.iter().zip(maps).map(layer).collect())
}
