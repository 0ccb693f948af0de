//! Options of engines beside the strategies: worked numbers, and what answers say of them.

use std::path::Path;

use moe_gps::app::advisor::KnownTraces;
use moe_gps::app::question;
use moe_gps::app::references::References;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::options::{Ground, lp, min_active, waterfill};
use moe_gps_core::placement::{Shape, eplb};
use moe_gps_core::pricing::layer::LayerCosts;
use moe_gps_core::pricing::slot_shares::SlotShares;
use moe_gps_core::routing::sample::{Chances, Draws};
use moe_gps_core::system::{Communication, ReplicaSplit};
use moe_gps_core::terms::Terms;
use serde_json::{Value, json};

use crate::asking::{advise, result};
use crate::questions::{mixtral, of_the_paper};

/// DeepSeek-V3 prefilling 19,200 tokens a step on two nodes of eight H20, with DeepEP.
fn deepseek_on_h20() -> Value {
    json!({
        "model": "deepseek-v3",
        "cluster": {
            "device": "h20", "devices": 16, "nodes": 2, "link": "nvlink4", "inter_node_link": "ib400",
        },
        "parallelism": {"attention_tensor": 1, "attention_data": 16},
        "engine": {"name": "sglang", "all2all_backend": "deepep"},
        "workload": {
            "phase": "prefill", "batch_size": 16, "sequence_length": 1200, "dtype": "fp8",
        },
        "duplication": {"slots_per_device": 18},
        "routing": {"skewness": 3.0, "distribution_error": 0.2},
        "flip_points": false,
    })
}

/// The same with copies.
fn with_copies() -> Value {
    let mut asked = deepseek_on_h20();
    asked["allowed_strategies"] = json!(["distribution_only"]);
    asked
}

/// The option of that id and mode.
#[track_caller]
fn option<'a>(result: &'a Value, id: &str, mode: Option<&str>) -> &'a Value {
    let options = result["options"].as_array().unwrap();
    options.iter().find(|one| one["id"] == id && one["mode"] == json!(mode)).unwrap()
}

#[track_caller]
fn number(value: &Value, field: &str) -> f64 {
    value[field].as_f64().unwrap_or_else(|| panic!("{field}: {value}"))
}

/// How an engine is started to follow the answer.
fn told(question: &Value, engine: &str) -> String {
    let placement = advise(question, &KnownTraces::new()).unwrap().placement.unwrap();
    let engines = placement["engines"].as_array().unwrap();
    engines.iter().find(|one| one["engine"] == engine).unwrap()["argv"].to_string()
}

/// Tokens of every expert in the 58 layers of DeepSeek-V3 with experts, from a recording beside the
/// checkout; `None`, said aloud, where it is absent.
fn recorded(what: &str) -> Option<Vec<Vec<f64>>> {
    let name = format!("counts_deepseek-v3_sglang_{what}.json");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/routing/public");
    let Ok(text) = std::fs::read_to_string(folder.join(&name)) else {
        println!("skipped: {name} is absent");
        return None;
    };
    let read: Value = serde_json::from_str(&text).unwrap();
    let layers: Vec<Vec<f64>> = serde_json::from_value(read["logical_count"].clone()).unwrap();
    Some(layers.into_iter().filter(|layer| layer.iter().sum::<f64>() > 0.0).collect())
}

#[test]
fn a_plan_for_short_prompts_serves_long_ones() {
    let (Some(planned), Some(served)) = (recorded("prefill_in1024"), recorded("prefill_in4096"))
    else {
        return;
    };
    assert_eq!((planned.len(), served.len()), (58, 58));
    let asked = question::read(deepseek_on_h20());
    let asked = asked.answerable(Catalog::embedded(), &References::default()).unwrap();
    let system = &asked.question.system;
    let tokens = system.workload.tokens_per_step as f64;
    let costs = LayerCosts::new(system, Communication::AllToAllNormal, None, tokens).unwrap();
    let at = Ground { system, costs: &costs };
    let shape = Shape::new(256, 16, 288).unwrap();
    let (mut split, mut filled) = ([0.0; 2], [0.0; 2]);
    let mut layer = [0.0; 2];
    for (planned, served) in planned.iter().zip(&served) {
        let all: f64 = served.iter().sum();
        let counts: Vec<f64> = served.iter().map(|n| n / all * tokens * 8.0).collect();
        let map = eplb::flat(planned, shape).unwrap();
        let placed = SlotShares::new(map, ReplicaSplit::Hashed, 8, planned);
        let by_programme = (lp::LP.balance)(&at, &placed, &counts);
        let by_level = (waterfill::ALL_RANKS.balance)(&at, &placed, &counts);
        let without = costs.terms(&costs.routed(&costs.loaded(&placed, &counts))).total();
        let with: Terms = costs.terms(&by_programme.routed);
        let with = with.total() + (lp::LP.overhead)(system);
        for at in 0..2 {
            split[at] += by_programme.busiest[at] / 58.0;
            filled[at] += by_level.busiest[at] / 58.0;
            layer[at] += [without, with][at].get() / 58.0;
        }
    }
    println!("{split:?} {filled:?} {layer:?}");
    assert!((split[0] - 1.132).abs() < 0.01 && (split[1] - 1.007).abs() < 0.005, "{split:?}");
    assert!((filled[0] - 1.257).abs() < 0.01 && (filled[1] - 1.157).abs() < 0.01, "{filled:?}");
    let change = layer[1] / layer[0] - 1.0;
    assert!((-0.073..-0.008).contains(&change), "a layer changes by {change}");
}

/// Mean over every sixth layer of DeepSeek-V3's decode and 12 draws of 32 tokens: experts read by the
/// busiest of eight GPUs, without copies, with 64 and a split, with 64 and one replica an active expert.
#[test]
fn copies_are_read_and_one_replica_an_expert_is_read_less() {
    let Some(layers) = recorded("decode_in1000out1000") else { return };
    let mut read = [0.0; 3];
    let mut n = 0.0;
    for (index, recorded) in (0_u64..).zip(&layers).step_by(6) {
        let all: f64 = recorded.iter().sum();
        let shares: Vec<f64> = recorded.iter().map(|n| n / all).collect();
        let map = |slots| eplb::flat(&shares, Shape::new(256, 8, slots).unwrap()).unwrap();
        let bare = SlotShares::new(map(256), ReplicaSplit::Hashed, 8, &shares);
        let copied = SlotShares::new(map(320), ReplicaSplit::NearestFirst, 8, &shares);
        let (chances, draws) = (Chances::new(&shares, 32.0, 8), Draws::new(0, index, 12, 256));
        let mut counts = vec![0.0; 256];
        for draw in 0..draws.len() {
            draws.counts(draw, &chances, &mut counts);
            let routed = copied.routed_to(&min_active::chosen_slots(&copied.map, &counts));
            for (sum, placed) in read.iter_mut().zip([&bare, &copied, &routed]) {
                *sum += min_active::active(placed, &counts).into_iter().fold(0.0, f64::max);
            }
            n += 1.0;
        }
    }
    let read = read.map(|sum| sum / n);
    println!("{read:?}");
    for (read, expected) in read.into_iter().zip([21.8, 25.8, 18.8]) {
        assert!((read - expected).abs() < 1.0, "{read} for {expected}");
    }
}

#[test]
fn off_is_the_plan_and_an_option_adds_its_own_time() {
    let result = result(&with_copies());
    assert_eq!(result["recommendation"]["strategy"], "distribution_only");
    for option in result["options"].as_array().unwrap() {
        let price = &option["price"];
        let off = number(price, "layer_latency_off_s");
        assert_eq!(off.to_bits(), number(&result["plan"], "layer_latency_s").to_bits(), "{option}");
        let gain = &price["gain"];
        let mid = off / number(price, "layer_latency_on_s");
        assert!((number(gain, "mid") / mid - 1.0).abs() < 1e-12);
        assert!(number(gain, "low") < mid && mid < number(gain, "high"));
        assert!(number(price, "busiest_on") <= number(price, "busiest_off") * (1.0 + 1e-9));
    }
    let split = &option(&result, "replica_split", None)["price"];
    // What DeepSeek-R1 lost by it without copies, on these devices.
    assert!((number(split, "overhead_s") - 147e-6).abs() < 3e-6, "{split}");
    let filled = &option(&result, "shared_expert", Some("conservative"))["price"];
    // One shared expert beside eight routed ones, as wide.
    let r = number(split, "busiest_off");
    assert!((number(filled, "busiest_off") - (r + 0.125)).abs() < 1e-9, "{filled}");
    let everywhere = &option(&result, "shared_expert", Some("all_ranks"))["price"];
    assert!(number(everywhere, "layer_latency_on_s") >= number(filled, "layer_latency_on_s"));
}

#[test]
fn without_copies_the_programme_is_paid_for_nothing() {
    let mut asked = deepseek_on_h20();
    asked["allowed_strategies"] = json!(["none"]);
    let result = result(&asked);
    let price = &option(&result, "replica_split", None)["price"];
    let (off, on) = (number(price, "layer_latency_off_s"), number(price, "layer_latency_on_s"));
    assert!(((on - off) / number(price, "overhead_s") - 1.0).abs() < 1e-9, "{price}");
    // Measured: a loss of 1 to 1.6 %.
    assert!((0.008..0.02).contains(&(on / off - 1.0)), "{price}");
    assert!((number(price, "busiest_on") - number(price, "busiest_off")).abs() < 1e-9);
}

#[test]
fn launch_lines_switch_on_what_surely_gains() {
    let asked = with_copies();
    let result = result(&asked);
    let argv = told(&asked, "sglang");
    for (id, mode, flag) in [
        ("replica_split", None, "\"--ep-dispatch-algorithm\",\"lp\""),
        ("shared_expert", Some("conservative"), "\"--enable-waterfill\""),
    ] {
        let low = number(&option(&result, id, mode)["price"]["gain"], "low");
        assert_eq!(argv.contains(flag), low > 1.0, "{id}: {low}, {argv}");
        assert!(!told(&asked, "vllm").contains(flag));
    }
    assert!(argv.contains("--enable-waterfill"), "{argv}");
    let mut old = asked.clone();
    old["engine"]["version"] = "0.5.9".into();
    assert!(!told(&old, "sglang").contains("--enable-waterfill"));
    let mut kept = asked;
    kept["allowed_strategies"] = json!(["none"]);
    kept["current"] = json!({"strategy": "none"});
    if let Ok(answered) = advise(&kept, &KnownTraces::new())
        && answered.result["recommendation"]["verdict"] == "keep"
    {
        assert!(!told(&kept, "sglang").contains("--enable-waterfill"), "what runs now stays");
    }
}

#[test]
fn what_does_nothing_says_why() {
    let reason = |asked: &Value, id, mode| {
        let result = result(asked);
        let option = option(&result, id, mode);
        assert_eq!(option["price"], Value::Null, "{option}");
        option["not_priced_reason"].as_str().unwrap().to_owned()
    };
    let mode = Some("conservative");
    let mut overlapped = deepseek_on_h20();
    overlapped["assumptions"] = json!({"overlap": "shared_expert"});
    assert!(reason(&overlapped, "shared_expert", mode).contains("excludes the other"));
    overlapped["assumptions"] = json!({"overlap": "two_batch"});
    assert!(reason(&overlapped, "shared_expert", mode).contains("two half batches"));
    let mut gathered = deepseek_on_h20();
    gathered["engine"] = json!({"name": "sglang"});
    assert!(reason(&gathered, "shared_expert", mode).contains("engine.all2all_backend"));
    assert!(reason(&mixtral(), "shared_expert", mode).contains("no shared expert"));
    let mut balance = deepseek_on_h20();
    balance["routing"] = json!({"balancedness": 0.8, "at_devices": 16});
    assert!(reason(&balance, "replica_split", None).contains("balance of devices"));
    assert_eq!(result(&of_the_paper())["options"], json!([]));
}

#[test]
fn a_server_is_priced_over_its_kinds_of_steps() {
    let mut asked = deepseek_on_h20();
    asked["workload"] = json!({
        "phase": "serving", "input_tokens": 1024, "output_tokens": 128, "concurrency": 256,
        "dtype": "fp8",
    });
    let result = result(&asked);
    for option in result["options"].as_array().unwrap() {
        let price = &option["price"];
        assert_eq!(
            number(price, "layer_latency_off_s").to_bits(),
            number(&result["plan"], "layer_latency_s").to_bits()
        );
        assert!(number(price, "layer_latency_on_s") > 0.0, "{option}");
    }
}
