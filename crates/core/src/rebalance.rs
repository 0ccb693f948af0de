//! What it costs to bring a new plan into effect.
//!
//! ```text
//! sync   stall = layers · slots · planning + bytes/W + bytes/R
//! async  slowdown = bytes/W, the plan late by one step per layer
//! per step = (stall + slowdown) / interval_steps
//! ```
//!
//! `bytes` of experts that the busiest device receives over all layers, `W` bandwidth
//! of the link they come over, `slots` P in all. Serving stops while experts move one by
//! one through host-driven copies, far below the link's rate: R is what is left of a measured
//! stall beside planning and link. The first renewal touches memory that was never mapped and
//! allocates its buffers, [`FIRST_RATE`]; later ones move at the engine's own rate, and over a
//! long run only they count, so that the price per step is theirs. Where the next plan is not
//! known, a later renewal is taken to move as many bytes as the first, which is the most.
//! Source: vLLM #43219, the measurements of sjqsjq/EPLB; planning times of the engines' own
//! planners on a server processor. Valid within a factor of two. Worked numbers: the measured
//! stalls come out again, 0.91 s, and 4.4 and 0.5 s (tested).

use crate::comm::link::EFFICIENCY;
use crate::memory::expert_bytes;
use crate::price::{Basis, Price};
use crate::question::{Rebalance, RebalanceMode};
use crate::system::System;
use crate::units::{Bytes, BytesPerSecond, Seconds};

/// Rate at which experts move in the first renewal.
///
/// 4.4 s on eight H20 under SGLang (Qwen3-235B in bf16, 16 slots a device, 94 layers of 37.7 MB,
/// NVLink 4): 56.7 GB in what planning and link leave. Of the other engines no first renewal is
/// known.
pub const FIRST_RATE: BytesPerSecond = BytesPerSecond::new(13.4e9);

/// SGLang's rate in later renewals: 0.5 s for the same, were every slot to change.
pub const SGLANG_RATE: BytesPerSecond = BytesPerSecond::new(167e9);

/// vLLM's rate: a mean stall of 0.91 s on 32 GB200 (DeepSeek-V3, 9 slots a device, 58 layers of
/// 44 MB, NVLink 5), 23 GB in what planning and link leave.
pub const VLLM_RATE: BytesPerSecond = BytesPerSecond::new(27e9);

/// The geometric mean of the two, where nobody measured.
pub const UNMEASURED_RATE: BytesPerSecond = BytesPerSecond::new(67e9);

/// Error band of stalls: the measured ones spread by a factor of two.
pub const STALL_BAND: f64 = 0.6;

/// Slots of all layers for which [`Engine::planning`](crate::engines::Engine::planning) is
/// stated.
const PLANNED_SLOTS: f64 = 58.0 * 288.0;

/// The cost of one renewal of the plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RebalanceCost {
    /// Bytes the busiest device receives, over all layers.
    pub moved: Bytes,
    /// How long serving stops where these experts move once, as in the first renewal of an engine
    /// that stops, whatever the mode.
    pub once: Seconds,
    /// How long serving stops in the first renewal.
    pub first_stall: Seconds,
    /// How long serving stops in every later one, if it moves as much.
    pub stall: Seconds,
    /// How much longer the steps during the move take, together.
    pub slowdown: Seconds,
    /// Steps by which the plan is late.
    pub late_steps: u64,
    /// Stall and slowdown spread over the interval, per step.
    pub per_step: Price,
}

impl RebalanceCost {
    /// The cost of a renewal that brings `moved_slots` experts to the busiest device
    /// (over all layers), with `total_slots` slots per layer over all devices.
    #[must_use]
    pub fn new(system: &System, rebalance: Rebalance, moved_slots: f64, total_slots: u32) -> Self {
        let moved = expert_bytes(system) * moved_slots;
        let layers = f64::from(system.model.moe_layers);
        let engine = system.engine_kind();
        let planning = engine.planning / PLANNED_SLOTS * (layers * f64::from(total_slots));
        let at = |rate| planning + transfer(system, moved) + moved / rate;
        let (mut first_stall, mut stall, mut slowdown) =
            (Seconds::ZERO, Seconds::ZERO, Seconds::ZERO);
        let mut late_steps = 0;
        match rebalance.mode {
            RebalanceMode::StartupMap => {}
            RebalanceMode::Sync => {
                (first_stall, stall) = (at(FIRST_RATE), at(engine.moving));
            }
            RebalanceMode::Async => {
                slowdown = transfer(system, moved);
                late_steps = u64::from(system.model.moe_layers);
            }
        }
        let steps = rebalance.interval_steps.max(1) as f64;
        let time = (stall + slowdown) / steps;
        let band = if time > Seconds::ZERO { STALL_BAND } else { 0.0 };
        let per_step = Price { time, band, basis: Basis::Fitted };
        Self { moved, once: at(FIRST_RATE), first_stall, stall, slowdown, late_steps, per_step }
    }

    /// The share of one mixture-of-experts layer.
    #[must_use]
    pub fn per_layer_and_step(&self, system: &System) -> Price {
        let layers = f64::from(system.model.moe_layers.max(1));
        Price { time: self.per_step.time / layers, ..self.per_step }
    }

    /// Steps after which a saving per step has paid for one renewal; `None` if never.
    #[must_use]
    pub fn break_even_steps(&self, saving_per_step: Seconds) -> Option<f64> {
        let once = self.stall + self.slowdown;
        if once <= Seconds::ZERO {
            return Some(0.0);
        }
        (saving_per_step > Seconds::ZERO).then(|| (once / saving_per_step).ceil())
    }
}

/// Copies of experts brought to the busiest device before one layer of one step.
///
/// `copies · expert bytes` over the link at its usual efficiency, plus one latency; no
/// copies, no cost. Worked number: one Mixtral expert (352 MB in bf16) over PCIe 4 takes
/// 14.7 ms.
#[must_use]
pub fn copies_per_layer(system: &System, copies: f64) -> Price {
    if copies <= 0.0 {
        return Price { time: Seconds::ZERO, band: 0.0, basis: Basis::Roofline };
    }
    let bytes = expert_bytes(system) * copies;
    let time = transfer(system, bytes) / EFFICIENCY + system.cluster.link.latency;
    Price { time, band: 0.35, basis: Basis::Roofline }
}

/// Bytes over nominal bandwidth when the sources are spread evenly over the group.
fn transfer(system: &System, bytes: Bytes) -> Seconds {
    let cluster = &system.cluster;
    let group = system.parallelism.expert_parallel.max(1);
    let inside = group.min(cluster.devices_per_node);
    match &cluster.inter_node_link {
        Some(outer) if group > inside => {
            let near = f64::from(inside - 1) / f64::from(group - 1);
            bytes * near / cluster.link.bandwidth + bytes * (1.0 - near) / outer.bandwidth
        }
        _ => bytes / cluster.link.bandwidth,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::fixtures::system;
    use crate::engines::{Engine, sglang, vllm};
    use crate::system::ServingEngine;

    const EVERY_THOUSAND: u64 = 1000;

    fn renewal(system: &System, mode: RebalanceMode, moved: f64) -> RebalanceCost {
        let rebalance = Rebalance { mode, interval_steps: EVERY_THOUSAND, window_steps: None };
        RebalanceCost::new(system, rebalance, moved, 288)
    }

    /// DeepSeek-V3's experts on 32 devices of one NVLink 5 domain, fp8.
    fn deepseek_on_gb200() -> System {
        let mut system = system(32, 32, 4096);
        system.model.hidden_size = 7168;
        system.model.moe_layers = 58;
        system.model.experts.routed = 256;
        system.model.experts.intermediate = 2048;
        system.workload.dtypes.experts.stored = crate::system::Dtype::Fp8;
        system.cluster.link.bandwidth = BytesPerSecond::new(900e9);
        system
    }

    fn under(mut system: System, kind: &'static Engine) -> System {
        system.engine = Some(ServingEngine {
            kind,
            version: None,
            all2all_backend: None,
            moe_kernel: None,
            cuda_graph: None,
        });
        system
    }

    #[test]
    fn the_measured_stalls_come_out() {
        let gb200 = under(deepseek_on_gb200(), &vllm::ENGINE);
        let cost = renewal(&gb200, RebalanceMode::Sync, 9.0 * 58.0);
        assert!((cost.stall.get() - 0.91).abs() < 0.01, "{:?}", cost.stall);
        assert!((cost.per_step.time.get() - cost.stall.get() / 1000.0).abs() < 1e-12);
        let mut h20 = under(system(8, 8, 512), &sglang::ENGINE);
        h20.model.hidden_size = 4096;
        h20.model.moe_layers = 94;
        h20.model.experts.routed = 128;
        h20.model.experts.intermediate = 1536;
        h20.cluster.link.bandwidth = BytesPerSecond::new(450e9);
        let rebalance = Rebalance {
            mode: RebalanceMode::Sync,
            interval_steps: EVERY_THOUSAND,
            window_steps: None,
        };
        let cost = RebalanceCost::new(&h20, rebalance, 16.0 * 94.0, 128);
        assert!((cost.first_stall.get() - 4.4).abs() < 0.05, "{:?}", cost.first_stall);
        assert!((cost.stall.get() - 0.5).abs() < 0.01, "{:?}", cost.stall);
        let planned_only = RebalanceCost::new(&h20, rebalance, 0.0, 128);
        assert_eq!(planned_only.first_stall, planned_only.stall, "only moved bytes count");
        assert!(planned_only.stall.get() < 0.05, "{:?}", planned_only.stall);
    }

    #[test]
    fn modes_differ_in_stall_slowdown_and_lateness() {
        let system = deepseek_on_gb200();
        let start = renewal(&system, RebalanceMode::StartupMap, 100.0);
        assert_eq!((start.per_step.time, start.late_steps), (Seconds::ZERO, 0));
        let stopping = renewal(&system, RebalanceMode::Sync, 100.0);
        assert_eq!(start.once, stopping.first_stall);
        let beside = renewal(&system, RebalanceMode::Async, 100.0);
        assert_eq!((beside.stall, beside.late_steps), (Seconds::ZERO, 58));
        assert!(beside.slowdown > Seconds::ZERO);
        assert!(renewal(&system, RebalanceMode::Sync, 100.0).stall > beside.slowdown);
    }

    #[test]
    fn break_even_is_the_stall_over_the_saving() {
        let cost = renewal(&deepseek_on_gb200(), RebalanceMode::Sync, 9.0 * 58.0);
        let steps = cost.break_even_steps(Seconds::new(1e-3));
        assert_eq!(steps, Some((cost.stall.get() / 1e-3).ceil()));
        assert_eq!(cost.break_even_steps(Seconds::ZERO), None);
    }

    #[test]
    fn copies_cost_their_bytes_every_step_and_none_cost_nothing() {
        let system = system(4, 4, 512);
        let time = copies_per_layer(&system, 1.0).time.get();
        let expected = 352_321_536.0 / 24e9 + 8.92e-6;
        assert!((time - expected).abs() < 1e-9, "{time}");
        assert_eq!(copies_per_layer(&system, 0.0).time, Seconds::ZERO);
    }
}
