//! Does balancing pay? The expert law of the shipped devices against measured pairs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use moe_gps_core::cost::expert_law;
use moe_gps_core::cost::experts::{ExpertShape, Seen};
use moe_gps_core::formats::device_toml;
use moe_gps_core::hardware::Device;
use moe_gps_core::system::{Dtype, Operands};
use moe_gps_core::units::Seconds;
use moe_gps_lab::duplication_pays::{DrawnCase, Sides, Verdicts, predicted};

/// Draws behind every price; more change no verdict of the whole table.
const DRAWS: u32 = 64;

/// One measured pair: the device's key and case, and both times.
struct Pair {
    gpu: String,
    case: DrawnCase,
    measured: Sides,
}

fn pair(gpu: &str, devices: u32, exponent: f64, tokens: u32, slots: u32, us: [f64; 2]) -> Pair {
    let [in_order, balanced] = us.map(|us| Seconds::new(us * 1e-6));
    Pair {
        gpu: gpu.to_owned(),
        case: DrawnCase { experts: 256, top_k: 8, devices, slots, tokens, exponent },
        measured: Sides { in_order, balanced },
    }
}

fn sample() -> Vec<Pair> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/silicon/wide_ep_pairs.csv");
    let text = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |i: usize| fields[i].parse::<f64>().unwrap();
        let count = |i: usize| fields[i].parse::<u32>().unwrap();
        pair(fields[0], count(1), number(2), count(3), count(4), [number(5), number(6)])
    };
    text.lines().skip(1).map(row).collect()
}

fn shared() -> Option<Vec<Pair>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/data/silicon/nvidia_wide_ep_experts_fp8.csv");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no {} to compare with", path.display());
        return None;
    };
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next()?.split(',').collect();
    let mut in_order = BTreeMap::new();
    let mut balanced = Vec::new();
    for line in lines {
        let row: BTreeMap<&str, &str> = names.iter().copied().zip(line.split(',')).collect();
        let Some(exponent) = row["distribution"].strip_prefix("power_law_") else { continue };
        if row["framework"] != "TRTLLM" {
            continue;
        }
        let key = |exponent: &str| {
            [row["gpu"], row["phase"], row["moe_ep_size"], exponent, row["num_tokens"]]
                .map(str::to_owned)
        };
        let us = row["latency_ms"].parse::<f64>().unwrap() * 1e3;
        match exponent.strip_suffix("_eplb") {
            Some(exponent) => balanced.push((key(exponent), row["num_slots"].to_owned(), us)),
            None if row["num_slots"] == "256" => {
                in_order.insert(key(exponent), us);
            }
            None => {}
        }
    }
    let joined = balanced.into_iter().filter_map(|(key, slots, with)| {
        let without = *in_order.get(&key)?;
        let [gpu, _, devices, exponent, tokens] = &key;
        let count = |text: &str| text.parse::<u32>().unwrap();
        let exponent = exponent.parse().unwrap();
        Some(pair(gpu, count(devices), exponent, count(tokens), count(&slots), [without, with]))
    });
    Some(joined.collect())
}

fn verdicts(pairs: &[Pair], draws: u32) -> Verdicts {
    let devices: BTreeMap<&str, Device> = [
        ("h100_sxm", include_str!("../../catalog/devices/h100-sxm.toml")),
        ("h200_sxm", include_str!("../../catalog/devices/h200-sxm.toml")),
    ]
    .map(|(gpu, text)| (gpu, device_toml::parse(text).unwrap().value))
    .into();
    let shape = ExpertShape {
        hidden: 7168.0,
        intermediate: 2048.0,
        gated: true,
        operands: Operands::of(Dtype::Fp8Block, Dtype::Fp8),
        rows: Dtype::Bf16,
    };
    let mut verdicts = Verdicts::default();
    for Pair { gpu, case, measured } in pairs {
        let device = &devices[gpu.as_str()];
        let stack = device.stack("tensorrt-llm").unwrap();
        let law = expert_law(device, stack, &shape, Seen::Routed);
        verdicts.add(measured, &predicted(&law, case, 1, draws).unwrap());
    }
    verdicts
}

// A third of the losses and a twelfth of the wins: one pair more or less is 2 to 4 %, so the
// shares the whole table is held to below are not to be had here.
#[test]
fn a_sample_of_measured_pairs_is_called_right() {
    let found = verdicts(&sample(), DRAWS);
    let [wins, losses] = found.shares();
    assert!(found.wins > 40 && found.losses > 20, "{found:?}");
    assert!(wins >= 0.8 && losses >= 0.7, "{found:?}");
}

// Asked for: 92 % of the pairs that balancing wins, 70 % of those it loses.
#[test]
fn all_measured_pairs_are_called_right() {
    let Some(pairs) = shared() else { return };
    let found = verdicts(&pairs, DRAWS);
    let [wins, losses] = found.shares();
    println!(
        "of {} pairs that balancing wins {:.1} % are named, of {} it loses {:.1} %",
        found.wins,
        100.0 * wins,
        found.losses,
        100.0 * losses
    );
    assert_eq!(found.wins + found.losses, 618, "pairs that differ by more than 5 %");
    assert!(wins >= 0.92 && losses >= 0.7, "{found:?}");
}
