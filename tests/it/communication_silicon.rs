//! Communication laws of the shipped devices against measured rows, where those lie
//! beside the checkout; skipped with a printed line elsewhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use moe_gps::domain::comm::exchange::Exchange;
use moe_gps::domain::comm::link::GroupLaw;
use moe_gps::domain::comm::profile::{Collective, CollectiveKernel};
use moe_gps::domain::hardware::{Device, Link};
use moe_gps::domain::model::{Attention, Experts, Model, SmallParameters};
use moe_gps::domain::system::{
    Assumptions, Cluster, Communication, Dtype, Dtypes, Engine, EngineName, ErrorModel, Overlap,
    Parallelism, Phase, PredictorOverlap, Preset, System, Workload,
};
use moe_gps::domain::units::{Bytes, BytesPerSecond, Seconds};
use moe_gps::formats::device_toml;

type Row = BTreeMap<String, String>;

fn rows(table: &str) -> Option<Vec<Row>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/silicon").join(table);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no {} to compare with", path.display());
        return None;
    };
    let mut lines = text.lines();
    let names: Vec<_> = lines.next()?.split(',').map(str::to_owned).collect();
    let row = |line: &str| names.iter().cloned().zip(line.split(',').map(str::to_owned)).collect();
    Some(lines.map(row).collect())
}

fn number(row: &Row, column: &str) -> f64 {
    row[column].parse().unwrap()
}

static DEVICES: LazyLock<BTreeMap<&str, Device>> = LazyLock::new(|| {
    [
        ("a100_sxm", include_str!("../../catalog/devices/a100-sxm4-80gb.toml")),
        ("h100_sxm", include_str!("../../catalog/devices/h100-sxm.toml")),
        ("h200_sxm", include_str!("../../catalog/devices/h200-sxm.toml")),
    ]
    .into_iter()
    .map(|(gpu, text)| (gpu, device_toml::parse(text).unwrap().value))
    .collect()
});

fn link(name: &str, bandwidth: f64) -> Link {
    Link {
        name: name.to_owned(),
        bandwidth: BytesPerSecond::new(bandwidth),
        latency: Seconds::new(8.92e-6),
    }
}

fn inner_link(gpu: &str) -> Link {
    if gpu == "a100_sxm" { link("nvlink3", 300e9) } else { link("nvlink4", 450e9) }
}

/// Mean relative errors by group, printed and compared with a bound each.
fn judge(errors: &BTreeMap<String, Vec<f64>>, bound: impl Fn(&str) -> f64) {
    for (group, errors) in errors {
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        println!("{group}: {} rows, mean error {:.1} %", errors.len(), 100.0 * mean);
        assert!(mean <= bound(group), "{group}: {mean}");
    }
}

#[test]
fn collectives_are_within_eight_percent_from_one_mebibyte_on() {
    let mut errors: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for table in ["nvidia_nccl_collectives.csv", "nvidia_custom_all_reduce_bf16.csv"] {
        let Some(rows) = rows(table) else { return };
        for row in rows {
            let kernel = match row.get("kernel").map(String::as_str) {
                None if row["nccl_version"] == "2.23" => continue,
                None => CollectiveKernel::Nccl,
                Some("TRTLLM") => CollectiveKernel::TensorRtLlm,
                Some("vLLM_custom_graph") => CollectiveKernel::Vllm,
                // Eager rows contain the host's launches, which are priced apart.
                Some(_) => continue,
            };
            let name = row.get("op").map_or("all_reduce", String::as_str);
            let operation = Collective::ALL.iter().find(|(_, wire)| *wire == name).unwrap().0;
            let devices = row["num_gpus"].parse().unwrap();
            let gpu = &row["gpu"];
            let profile = &DEVICES[gpu.as_str()].collectives;
            let law =
                GroupLaw::new(profile.as_deref(), kernel, operation, devices, &inner_link(gpu));
            let bytes = number(&row, "bytes");
            let time = law.time(Bytes::new(bytes)).get() * 1e6;
            let size = if bytes < 1_048_576.0 { "<1MiB" } else { ">=1MiB" };
            let error = (time / number(&row, "latency_us") - 1.0).abs();
            errors.entry(format!("{gpu} {kernel:?} {name} {size}")).or_default().push(error);
        }
    }
    judge(&errors, |group| {
        // vLLM's all-reduce jumps on A100 where it hands over to NCCL.
        let jump = group.starts_with("a100_sxm Vllm");
        if group.ends_with(">=1MiB") && !jump { 0.08 } else { 0.2 }
    });
}

#[test]
fn deep_ep_is_within_fifteen_percent() {
    let Some(rows) = rows("nvidia_deepep_all_to_all.csv") else { return };
    let mut errors: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for row in rows {
        let mode = row["mode"].as_str();
        let pattern = match mode {
            "normal" | "deepep_ht" | "trtllm_deepep_ht" => Communication::AllToAllNormal,
            "low_latency" | "deepep_ll" | "trtllm_deepep_ll" => Communication::AllToAllLowLatency,
            _ => continue,
        };
        // The older SGLang's single-node rows and half-float ones have no profile.
        let old = row["framework_version"] == "0.5.0" && row["nodes"] == "1";
        if old || row["comm_dtype"] == "nvfp4" || row["sms"] == "24" && row["nodes"] == "4" {
            continue;
        }
        let system = deep_ep_system(&row);
        let exchange = Exchange::new(&system, pattern);
        let (dispatch, combine) = exchange.time(&exchange.balanced());
        let time = if row["phase"] == "dispatch" { dispatch } else { combine };
        let error = (time.get() * 1e6 / number(&row, "transmit_us") - 1.0).abs();
        let group = format!(
            "{} {} {mode} {} on {} nodes",
            row["gpu"], row["framework"], row["phase"], row["nodes"]
        );
        errors.entry(group).or_default().push(error);
    }
    judge(&errors, |_| 0.15);
}

fn deep_ep_system(row: &Row) -> System {
    let whole = |column: &str| row[column].parse::<u32>().unwrap();
    let devices = 8 * whole("nodes");
    let (name, unstated) = match row["framework"].as_str() {
        "vLLM" => (EngineName::Vllm, Dtype::Bf16),
        "TRTLLM" => (EngineName::TensorRtLlm, Dtype::Bf16),
        _ => (EngineName::Sglang, Dtype::Fp8),
    };
    let dispatch = if row["comm_dtype"] == "fp8" { Dtype::Fp8 } else { unstated };
    let gpu = if row["device"].contains("H200") { "h200_sxm" } else { "h100_sxm" };
    System {
        model: model(whole("hidden_size"), whole("num_experts"), whole("topk")),
        cluster: Cluster {
            device: DEVICES[gpu].clone(),
            n_devices: devices,
            devices_per_node: 8,
            link: inner_link(gpu),
            inter_node_link: (devices > 8).then(|| link("ib400", 50e9)),
        },
        parallelism: Parallelism {
            attention_tensor: 1,
            attention_data: devices,
            expert_parallel: devices,
            expert_tensor: 1,
            pipeline: 1,
        },
        workload: Workload {
            phase: Phase::Prefill,
            sequences: 1,
            tokens_per_step: u64::from(whole("tokens_per_rank")) * u64::from(devices),
            context: 1,
            dtypes: Dtypes {
                weights: Dtype::Bf16,
                activations: Dtype::Bf16,
                kv: Dtype::Bf16,
                dispatch,
                combine: Dtype::Bf16,
            },
        },
        engine: Some(Engine {
            name,
            version: None,
            all2all_backend: None,
            moe_kernel: None,
            cuda_graph: None,
        }),
        assumptions: assumptions(),
    }
}

fn assumptions() -> Assumptions {
    Assumptions {
        preset: Preset::Calibrated,
        error_model: ErrorModel::Typical,
        cap_at_baseline: false,
        communication: None,
        t2e_skips_scatter: false,
        predictor_overlap: PredictorOverlap::Serial,
        overlap: Overlap::None,
        k_comm: 1.0,
        launch: None,
        attention_imbalance: 1.0,
        replica_split: None,
    }
}

fn model(hidden_size: u32, routed: u32, top_k: u32) -> Model {
    Model {
        name: "measured".to_owned(),
        hidden_size,
        vocabulary: 1,
        tied_embeddings: true,
        attention: Attention::Grouped {
            heads: 8,
            kv_heads: 8,
            head_dim: 128,
            sliding_window: None,
            windowed_layers: 0,
        },
        moe_layers: 1,
        dense_layers: 0,
        dense_intermediate: 0,
        cross_attention_layers: 0,
        experts: Experts {
            routed,
            top_k,
            intermediate: 1,
            gated: true,
            shared_intermediate: 0,
            groups: None,
        },
        small: SmallParameters::default(),
    }
}
