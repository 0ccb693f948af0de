//! Dispatch and combine of DeepEP-like libraries under uniform routing.
//!
//! A row becomes the system that was measured, whole nodes of so many devices, and is
//! priced as the balanced exchange of that system.

use crate::validate::compute::BF16;
use crate::validate::measured::ExchangeCase;
use crate::validate::price::{Estimate, Unpriced};
use crate::validate::profiles::Profiles;
use moe_gps_core::comm::direction::token_bytes;
use moe_gps_core::comm::exchange::{Exchange, ExchangePrice};
use moe_gps_core::comm::load::ExchangeLoad;
use moe_gps_core::comm::profile::{DeepEpKey, DeepEpMode, Way};
use moe_gps_core::hardware::Device;
use moe_gps_core::model::{Attention, Experts, Model, SmallParameters};
use moe_gps_core::system::{
    Assumptions, Cluster, Communication, Dtypes, Parallelism, Phase, Preset, ServingEngine, System,
    Workload,
};
use moe_gps_core::units::Bytes;

/// Prices one way of an exchange.
pub fn price(
    case: &ExchangeCase,
    device: &Device,
    profiles: &Profiles,
) -> Result<Estimate, Unpriced> {
    let profile = device
        .collectives
        .as_deref()
        .ok_or(Unpriced::NoLaw("the device has no collectives in its profile"))?;
    let link = |id: &str| profiles.link(id).cloned().ok_or_else(|| Unpriced::Link(id.to_owned()));
    let outer = profile.inter_node_link.as_deref().map(link).transpose()?;
    let devices = case.per_node * case.nodes;
    let cluster = Cluster {
        device: device.clone(),
        n_devices: devices,
        devices_per_node: case.per_node,
        link: link(&profile.link)?,
        inter_node_link: outer.filter(|_| case.nodes > 1),
    };
    let system = system(case, cluster);
    let key = key(case);
    if case.way == Way::Prepare {
        // No question asks for it by itself: the law is its own.
        let fit =
            profile.deep_ep.get(&key).ok_or(Unpriced::NoLaw("nobody fitted what is counted"))?;
        let own = f64::from(case.tokens_per_device);
        let token = token_bytes(f64::from(case.hidden), case.dispatch);
        let received = received(case);
        let time =
            fit.curve(f64::from(case.hidden), case.experts).time(fit.bytes(received, own, token));
        let band = Some(fit.fitted.band(Bytes::ZERO));
        return Ok(Estimate { band, ..Estimate::of(time) });
    }
    let exchange = Exchange::new(
        &system,
        match case.mode.first_version() {
            DeepEpMode::Normal => Communication::AllToAllNormal,
            _ => Communication::AllToAllLowLatency,
        },
    );
    let ExchangePrice { dispatch, combine } = exchange.price(&exchange.balanced());
    let note = case.stands_in.map(str::to_owned).or_else(|| {
        (!profile.deep_ep.contains_key(&key)).then(|| "constants of the nearest build".to_owned())
    });
    let price = if case.way == Way::Dispatch { dispatch } else { combine };
    Ok(Estimate { band: Some(price.band), note, ..Estimate::of(price.time) })
}

/// The law that a row speaks of.
#[must_use]
pub const fn key(case: &ExchangeCase) -> DeepEpKey {
    let ExchangeCase { engine, mode, way, nodes, per_node, .. } = *case;
    DeepEpKey { stack: engine, mode, way, nodes, per_node }
}

/// What the busiest device gets from others, in the unit of the mode.
#[must_use]
pub fn received(case: &ExchangeCase) -> f64 {
    let devices = case.per_node * case.nodes;
    let tokens = f64::from(case.tokens_per_device) * f64::from(devices);
    let load = ExchangeLoad::balanced(&experts(case), devices, case.nodes, tokens);
    match (case.mode.first_version(), case.nodes) {
        (DeepEpMode::Normal, 1) => load.tokens,
        (DeepEpMode::Normal, _) => load.node_tokens / f64::from(case.per_node),
        _ => load.pairs,
    }
}

fn system(case: &ExchangeCase, cluster: Cluster) -> System {
    let devices = cluster.n_devices;
    System {
        model: model(case),
        cluster,
        parallelism: Parallelism {
            attention_tensor: 1,
            attention_data: devices,
            expert_parallel: devices,
            expert_tensor: 1,
            pipeline: 1,
        },
        workload: Workload {
            phase: Phase::Prefill,
            // As many on every replica of attention.
            sequences: u64::from(devices),
            tokens_per_step: u64::from(case.tokens_per_device) * u64::from(devices),
            context: 1,
            running: None,
            speculation: None,
            dtypes: Dtypes { dispatch: case.dispatch, combine: case.combine, ..BF16 },
        },
        engine: Some(ServingEngine {
            kind: case.engine,
            version: None,
            all2all_backend: match case.mode {
                DeepEpMode::Normal | DeepEpMode::LowLatency => None,
                DeepEpMode::V2Normal | DeepEpMode::V2LowLatency => Some("deepep_v2".to_owned()),
                DeepEpMode::NvlinkTwoSided => Some("nvlinktwosided".to_owned()),
                DeepEpMode::NvlinkOneSided => Some("nvlinkonesided".to_owned()),
            },
            moe_kernel: None,
            cuda_graph: None,
        }),
        assumptions: Assumptions::preset(Preset::Calibrated),
    }
}

/// The routed experts of a row; their width does not matter.
#[must_use]
pub const fn experts(case: &ExchangeCase) -> Experts {
    Experts {
        routed: case.experts,
        top_k: case.top_k,
        zero_cost: 0,
        chosen: case.top_k,
        latent: None,
        intermediate: 1,
        gated: true,
        shared_intermediate: 0,
        groups: None,
    }
}

/// A model of which only the routed experts and the hidden size matter.
fn model(case: &ExchangeCase) -> Model {
    Model {
        name: "measured".to_owned(),
        class: String::new(),
        hidden_size: case.hidden,
        vocabulary: 1,
        tied_embeddings: true,
        attention: Attention::Grouped {
            heads: 8,
            kv_heads: 8,
            head_dim: 128,
            v_head_dim: 128,
            sliding_window: None,
            windowed_layers: 0,
        },
        depth: 1,
        attention_layers: 1,
        mixers: Vec::new(),
        moe_layers: 1,
        moe_at: Vec::new(),
        dense_layers: 0,
        dense_beside_experts: 0,
        hash_layers: 0,
        mtp_layers: 0,
        dense_intermediate: 0,
        cross_attention_layers: 0,
        experts: experts(case),
        small: SmallParameters::default(),
    }
}
