//! Groups of experts that plans keep on nodes, and what that costs.

use moe_gps::app::advisor::KnownTraces;
use serde_json::{Value, json};

use crate::asking::{advise, result, violations};

/// DeepSeek-V3 over two nodes of eight devices; the experts of the first of its eight groups
/// draw twice `times` as many tokens as the others.
fn question(phase: &str, times: f64) -> Value {
    let shares: Vec<f64> =
        (0..256).map(|expert| if expert / 32 == 0 { times * 2.0 } else { 1.0 }).collect();
    json!({
        "model": "deepseek-v3",
        "cluster": {"device": "h200-sxm", "devices": 16, "link": "nvlink4", "nodes": 2,
                    "inter_node_link": "ib400"},
        "workload": match phase {
            "prefill" => json!({"phase": phase, "tokens_per_step": 16384, "dtype": "fp8"}),
            _ => json!({"phase": phase, "batch_size": 2048, "kv_length": 2048, "dtype": "fp8"}),
        },
        "engine": {"name": "sglang"},
        "routing": {"expert_shares": [shares]},
        "duplication": {"slots_per_device": 18},
        "predictors": [{"name": "none", "accuracy": 0.0, "overhead_s": 0.1}],
    })
}

fn grouped(question: &Value, groups: &str) -> Value {
    let mut grouped = question.clone();
    grouped["duplication"]["groups"] = json!(groups);
    grouped
}

/// The warning on groups, where there is one.
fn warning(result: &Value) -> Option<String> {
    let warnings = result["warnings"].as_array().unwrap().iter();
    let on_groups = |text: &&str| text.contains("duplication.groups");
    warnings.filter_map(Value::as_str).find(on_groups).map(ToOwned::to_owned)
}

/// Busiest device over mean under the plan, mean of drawn steps.
fn after(result: &Value) -> f64 {
    result["routing"]["device_imbalance"]["after"]["mean"].as_f64().unwrap()
}

/// Groups of 32 experts with replicas on both nodes, in the plan that is recommended.
fn on_both_nodes(question: &Value) -> usize {
    let placement = advise(question, &KnownTraces::new()).unwrap().placement.unwrap();
    let map: Vec<u64> =
        serde_json::from_value(placement["layers"][0]["physical_to_logical"].clone()).unwrap();
    let (one, other) = map.split_at(map.len() / 2);
    let on = |node: &[u64], group: u64| node.iter().any(|expert| expert / 32 == group);
    (0..8).filter(|group| on(one, *group) && on(other, *group)).count()
}

#[test]
fn prefill_keeps_groups_on_nodes_and_says_what_that_costs() {
    let asked = question("prefill", 4.0);
    let by_default = result(&asked);
    let said = warning(&by_default).unwrap_or_else(|| panic!("{}", by_default["warnings"]));
    // One group of 8 x 32 against seven of 32: 256 of 480 on a node, with three more groups
    // 352 of 480, so its devices carry at least 352 / 240 of the mean.
    let bound = 352.0 / 240.0;
    let found = after(&by_default);
    assert!((bound..bound * 1.05).contains(&found), "{found}");
    assert!(said.contains(&format!("carries {found:.2} times the mean")), "{said} {found}");
    assert_eq!(on_both_nodes(&asked), 0);
    let hard = result(&grouped(&asked, "hard"));
    assert_eq!(hard["recommendation"], by_default["recommendation"]);
    // Copies that leave their node even out half of it, free ones all.
    let softly = result(&grouped(&asked, "soft"));
    assert!((1.15..1.3).contains(&after(&softly)), "{}", after(&softly));
    let said_softly = warning(&softly).unwrap();
    assert!(said_softly.contains("a copy of every expert stays on its group's node"));
    let freely = result(&grouped(&asked, "none"));
    assert!(after(&freely) < 1.1, "{}", after(&freely));
    assert_eq!(warning(&freely), None);
    for (rule, said) in [("soft", said_softly), ("none", said)] {
        assert!(on_both_nodes(&grouped(&asked, rule)) > 0, "{rule}");
        let without = format!("without that rule {:.2}", after(&freely));
        assert!(said.contains(&without), "{said} {without}");
    }
}

#[test]
fn a_rule_that_costs_nothing_is_not_spoken_of() {
    assert_eq!(warning(&result(&question("prefill", 0.5))), None);
    // Engines plan decode globally, unless asked to keep groups.
    let decode = question("decode", 4.0);
    assert_eq!(warning(&result(&decode)), None);
    assert_eq!(on_both_nodes(&grouped(&decode, "hard")), 0);
}

#[test]
fn the_planner_without_groups_is_refused_with_them() {
    let mut asked = grouped(&question("prefill", 4.0), "soft");
    asked["duplication"]["algorithm"] = json!("paper_greedy");
    let found = violations(&asked, &KnownTraces::new());
    assert_eq!(found[0].pointer, "/duplication/groups");
    asked["duplication"]["groups"] = json!("none");
    assert!(advise(&asked, &KnownTraces::new()).is_ok());
    asked["duplication"]["groups"] = json!("loose");
    assert_eq!(violations(&asked, &KnownTraces::new())[0].pointer, "/duplication/groups");
}
