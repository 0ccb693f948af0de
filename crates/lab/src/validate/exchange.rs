//! Dispatch and combine of DeepEP-like libraries under uniform routing.
//!
//! A row becomes the system that was measured, whole nodes of eight devices, and is
//! priced as the balanced exchange of that system.

use crate::validate::compute::BF16;
use crate::validate::measured::ExchangeCase;
use crate::validate::price::{Estimate, Unpriced};
use crate::validate::profiles::Profiles;
use moe_gps_core::comm::exchange::Exchange;
use moe_gps_core::comm::profile::{DeepEpKey, DeepEpMode, Way};
use moe_gps_core::hardware::Device;
use moe_gps_core::model::{Attention, Experts, Model, SmallParameters};
use moe_gps_core::system::{
    Assumptions, Cluster, Communication, Dtypes, Parallelism, Phase, Preset, ServingEngine, System,
    Workload,
};

/// Devices of a node in every table.
pub const PER_NODE: u32 = 8;

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
    let devices = PER_NODE * case.nodes;
    let cluster = Cluster {
        device: device.clone(),
        n_devices: devices,
        devices_per_node: PER_NODE,
        link: link(&profile.link)?,
        inter_node_link: outer.filter(|_| case.nodes > 1),
    };
    let system = system(case, cluster);
    let exchange = Exchange::new(
        &system,
        match case.mode {
            DeepEpMode::Normal | DeepEpMode::V2Normal => Communication::AllToAllNormal,
            DeepEpMode::LowLatency | DeepEpMode::V2LowLatency => Communication::AllToAllLowLatency,
        },
    );
    let (dispatch, combine) = exchange.time(&exchange.balanced());
    let key = DeepEpKey { stack: case.engine, mode: case.mode, way: case.way, nodes: case.nodes };
    let note = case.stands_in.map(str::to_owned).or_else(|| {
        (!profile.deep_ep.contains_key(&key)).then(|| "constants of the nearest build".to_owned())
    });
    let time = if case.way == Way::Dispatch { dispatch } else { combine };
    Ok(Estimate { time, note })
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
            dtypes: Dtypes { dispatch: case.dispatch, ..BF16 },
        },
        engine: Some(ServingEngine {
            kind: case.engine,
            version: None,
            all2all_backend: (case.mode != case.mode.first_version())
                .then(|| "deepep_v2".to_owned()),
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
        dense_intermediate: 0,
        cross_attention_layers: 0,
        experts: experts(case),
        small: SmallParameters::default(),
    }
}
