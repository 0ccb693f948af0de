//! How many slots: what was tried, what it costs, and the smallest plan not surely slower than the best.

use rstest::rstest;
use serde_json::{Value, json};

use crate::asking::{entry, latency, result};
use crate::questions::{decode, deepseek, mixtral, prefill, qwen3_on_h20};

fn slots(search: &Value) -> &[Value] {
    search["slots"].as_array().unwrap()
}

fn number(row: &Value, field: &str) -> f64 {
    row[field].as_f64().unwrap_or_else(|| panic!("{field}: {row}"))
}

fn sglang() -> Value {
    json!({"name": "sglang", "all2all_backend": "deepep"})
}

#[rstest]
#[case::mixtral(mixtral())]
#[case::deepseek_prefill(deepseek(4, &prefill(64), &sglang()))]
#[case::deepseek_decode(deepseek(4, &decode(4096), &sglang()))]
#[case::qwen3(qwen3_on_h20())]
fn the_plan_is_the_smallest_within_the_band_of_the_fastest(#[case] question: Value) {
    let result = result(&question);
    let search = &result["duplication_search"];
    let rows = slots(search);
    assert!(rows.len() >= 2, "{search}");
    let fits = |row: &&Value| row["fits"] == true;
    let fastest = rows.iter().filter(fits).map(|row| number(row, "layer_latency_s"));
    let fastest = fastest.fold(f64::INFINITY, f64::min);
    let equal = |row: &&Value| {
        let behind = number(row, "layer_latency_s") / fastest - 1.0;
        assert!((behind - number(row, "behind_best")).abs() < 1e-12, "{row}");
        behind <= number(row, "error_band")
    };
    let smallest = rows.iter().filter(fits).find(equal).unwrap();
    assert_eq!(search["chosen_slots_per_device"], smallest["slots_per_device"], "{search}");
    let best = rows.iter().find(|row| row["slots_per_device"] == search["best_slots_per_device"]);
    assert!(number(best.unwrap(), "behind_best").abs() < 1e-15, "{search}");

    // Nothing is free: every further slot takes memory.
    for pair in rows.windows(2) {
        for field in ["slots_per_device", "replica_bytes"] {
            assert!(number(&pair[0], field) < number(&pair[1], field), "{field} {search}");
        }
        let lost = |row| number(row, "kv_tokens_lost_per_device");
        assert!(lost(&pair[0]) <= lost(&pair[1]), "{search}");
    }
    // The strategies are priced by the fastest of their plans.
    for strategy in ["replace_only", "distribution_only"] {
        let of = rows.iter().filter(fits).filter(|row| row["strategy"] == strategy);
        let least = of.map(|row| number(row, "layer_latency_s")).fold(f64::INFINITY, f64::min);
        assert!((latency(&result, strategy) / least - 1.0).abs() < 1e-12, "{strategy}: {search}");
    }
    let strategy = result["recommendation"]["strategy"].as_str().unwrap();
    if strategy == "distribution_only" {
        let plan = &result["plan"];
        assert_eq!(plan["slots_per_device"], search["chosen_slots_per_device"], "{plan}");
        let priced = number(smallest, "layer_latency_s");
        assert!((number(plan, "layer_latency_s") / priced - 1.0).abs() < 1e-12, "{plan}");
        assert_eq!(plan["memory"]["replica_bytes"], smallest["replica_bytes"]);
        assert_eq!(plan["redundant_experts"], smallest["redundant_experts"]);
    }
}

#[test]
fn some_answer_takes_fewer_slots_than_the_fastest_plan() {
    // 256 experts on 32 devices: a second replica of the hottest does nearly all there is.
    let result = result(&deepseek(4, &prefill(64), &sglang()));
    let search = &result["duplication_search"];
    assert!(
        number(search, "chosen_slots_per_device") < number(search, "best_slots_per_device"),
        "{search}"
    );
    assert!(search["because"].as_str().unwrap().contains("not surely slower"), "{search}");
}

#[test]
fn stalls_and_moves_are_in_the_price() {
    let mut question = deepseek(4, &prefill(64), &sglang());
    question["rebalance"] = json!({"mode": "sync", "interval_steps": 100});
    let often = result(&question);
    question["rebalance"]["interval_steps"] = json!(10_000);
    let seldom = result(&question);
    let both = slots(&often["duplication_search"]).iter().zip(slots(&seldom["duplication_search"]));
    for (often, seldom) in both {
        assert!(number(often, "stall_s") > 0.0, "{often}");
        assert_eq!(often["stall_s"], seldom["stall_s"]);
        // A hundred times the interval is a hundredth of the stall per step.
        let ratio = number(often, "rebalance_s") / number(seldom, "rebalance_s");
        assert!((ratio / 100.0 - 1.0).abs() < 1e-9, "{often} {seldom}");
        assert!(number(often, "moved_bytes") > 0.0);
    }
}

#[test]
fn no_number_of_slots_that_was_tried_beats_the_search() {
    let mut question = deepseek(4, &prefill(64), &sglang());
    let searched = result(&question);
    let found = latency(&searched, "distribution_only");
    for row in slots(&searched["duplication_search"]).iter().skip(1) {
        question["duplication"] = json!({"slots_per_device": row["slots_per_device"]});
        let stated = latency(&result(&question), "distribution_only");
        assert!((stated / number(row, "layer_latency_s") - 1.0).abs() < 1e-12, "{row}");
        assert!(found <= stated, "{row}");
    }
}

#[test]
fn stated_slots_are_not_searched() {
    let mut question = mixtral();
    question["duplication"] = json!({"slots_per_device": 4});
    let stated = result(&question);
    assert_eq!(stated["duplication_search"], Value::Null);
    let expert = 3.0 * 4096.0 * 14336.0 * 2.0 * 32.0;
    let bytes = number(entry(&stated, "distribution_only"), "replica_bytes");
    assert!((bytes / (2.0 * expert) - 1.0).abs() < 1e-9, "{bytes}");
}
