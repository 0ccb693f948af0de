//! Questions that name several traces: one plan for all, and what plans for one are worth on
//! the others.

use std::path::Path;

use moe_gps::app::advisor::TraceFacts;
use serde_json::{Value, json};

use crate::asking::{entry, keep, known, latency, result_of, rounded, violations};

/// Steps of counts of 16 experts in two layers; `of` says how many in a step and layer.
fn counts_of(n_steps: u32, of: impl Fn(u32, usize, usize) -> u32) -> Vec<u8> {
    let layer = |step, layer| (0..16).map(|expert| of(step, layer, expert)).collect::<Vec<_>>();
    let steps: Vec<[Vec<u32>; 2]> =
        (0..n_steps).map(|step| [layer(step, 0), layer(step, 1)]).collect();
    json!({"counts": steps}).to_string().into_bytes()
}

/// The experts from `first` on are hot, so many times as the others, and every step differs
/// a little.
fn counts(first: usize, times: u32, n_steps: u32) -> Vec<u8> {
    counts_of(n_steps, |step, layer, expert| {
        let hot = (expert + 16 - first - layer) % 16 < 4;
        let wobble = (step * 7 + u32::try_from(expert).unwrap() * 5) % 11;
        if hot { times * 1000 + wobble * 10 } else { 1000 + wobble * 10 }
    })
}

fn kept(directory: &Path, first: usize, times: u32) -> TraceFacts {
    keep(directory, "application/json", &counts(first, times, 8))
}

fn question(traces: &[&TraceFacts]) -> Value {
    let ids: Vec<&str> = traces.iter().map(|trace| trace.id.as_str()).collect();
    json!({
        "model": "phi-3.5-moe",
        "cluster": {"device": "h100-sxm", "devices": 4, "link": "nvlink4"},
        "workload": {"phase": "prefill", "tokens_per_step": 8192},
        "routing": {"trace_ids": ids},
    })
}

fn row(plan: &Value, field: &str) -> Vec<f64> {
    plan[field].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

#[test]
fn the_matrix_shows_what_a_plan_is_worth_on_the_other_loads() {
    let directory = tempfile::tempdir().unwrap();
    let traces = [kept(directory.path(), 0, 6), kept(directory.path(), 8, 6)];
    let traces: Vec<&TraceFacts> = traces.iter().collect();
    let result = result_of(&question(&traces), &known(&traces));
    let transfer = &result["transfer"];
    insta::assert_json_snapshot!("transfer", rounded(transfer));
    let ids: Vec<&str> = traces.iter().map(|trace| trace.id.as_str()).collect();
    assert_eq!(transfer["trace_ids"], json!(ids));
    let (one, other, both) =
        (&transfer["plans"][0], &transfer["plans"][1], &transfer["worst_case"]);
    let worst = |plan: &Value| row(plan, "imbalance").into_iter().fold(0.0, f64::max);
    // A plan suits its own load and not the other; the plan for both is good on the worst.
    for (plan, own, foreign) in [(one, 0, 1), (other, 1, 0)] {
        let imbalance = row(plan, "imbalance");
        assert!(imbalance[own] < 1.02 && imbalance[foreign] > 1.15, "{transfer}");
        let latency = row(plan, "layer_latency_s");
        assert!(latency[own] < latency[foreign], "{transfer}");
        assert!((plan["in_sample_imbalance"].as_f64().unwrap() - imbalance[own]).abs() < 0.01);
        assert!(worst(both) < worst(plan) - 0.05, "{transfer}");
    }
    // Steps scatter around the whole: their mean imbalance is no less.
    for plan in [one, other, both] {
        let pairs = row(plan, "step_imbalance").into_iter().zip(row(plan, "imbalance"));
        assert!(pairs.into_iter().all(|(step, whole)| step >= whole * 0.999), "{plan}");
        let none = row(&transfer["none"], "layer_latency_s");
        let pairs = none.iter().zip(row(plan, "layer_latency_s"));
        for ((none, own), said) in pairs.zip(row(plan, "speedup_over_none")) {
            assert!((said / (none / own) - 1.0).abs() < 1e-12, "{plan}");
        }
    }
    // The answer is the mean over the loads.
    let mean = |plan: &Value| row(plan, "layer_latency_s").iter().sum::<f64>() / 2.0;
    let none = latency(&result, "none");
    assert!((mean(&transfer["none"]) / none - 1.0).abs() < 1e-12, "{none} {transfer}");
    let chosen = result["recommendation"]["strategy"].as_str().unwrap();
    let terms = &entry(&result, chosen)["terms"];
    let static_plan = latency(&result, chosen) - terms["rebalance_s"].as_f64().unwrap();
    assert!((mean(both) / static_plan - 1.0).abs() < 1e-12, "{chosen} {static_plan} {transfer}");
    let routing = &result["routing"]["device_imbalance"]["after"]["per_layer"];
    assert_eq!(routing.as_array().unwrap().len(), 2);
}

#[test]
fn a_plan_that_harms_another_load_is_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    // The best plan for the first load keeps the hot expert with the three cold ones; the
    // second load is even as it is, and these four are its hot ones.
    let apart = |expert: usize| expert.is_multiple_of(4);
    let first = counts_of(8, |_, _, expert| match expert {
        0 => 12_000,
        _ if apart(expert) => 100,
        _ => 1000,
    });
    let second = counts_of(8, |_, _, expert| if apart(expert) { 3000 } else { 1000 });
    let traces = [first, second].map(|json| keep(directory.path(), "application/json", &json));
    let traces: Vec<&TraceFacts> = traces.iter().collect();
    let mut asked = question(&traces);
    asked["duplication"] = json!({"slots_per_device": 4});
    let result = result_of(&asked, &known(&traces));
    let own = &result["transfer"]["plans"][0];
    assert!(row(own, "speedup_over_none")[1] < 1.0, "{}", result["transfer"]);
    let warnings = result["warnings"].to_string();
    let said = format!(
        "a plan made on trace {} makes a layer slower than no plan on trace {}",
        traces[0].id, traces[1].id
    );
    assert!(warnings.contains(&said), "{warnings}");
}

#[test]
fn every_trace_is_scored_on_its_recorded_steps() {
    let directory = tempfile::tempdir().unwrap();
    // Every step of the first load has one hot device, each in turn: even over time, so that
    // steps drawn from its shares would be nearly even. The second load is steady.
    let wandering =
        counts_of(
            48,
            |step, layer, expert| {
                if expert / 4 == (step as usize + layer) % 4 { 3000 } else { 1000 }
            },
        );
    let steady = counts_of(8, |_, _, expert| if expert < 4 { 2000 } else { 1000 });
    let traces = [wandering, steady].map(|json| keep(directory.path(), "application/json", &json));
    let traces: Vec<&TraceFacts> = traces.iter().collect();
    let asked = question(&traces);
    let result = result_of(&asked, &known(&traces));
    assert_eq!(result["provenance"]["method"], "simulated");
    let transfer = &result["transfer"];
    assert_eq!(transfer["replayed_steps"], json!([24, 4]));
    // 4·3 of 4·(3 + 1 + 1 + 1) on the hot device, and 4·2 of 4·(2 + 1 + 1 + 1).
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}");
    let none = &transfer["none"];
    for (found, expected) in row(none, "step_imbalance").into_iter().zip([2.0, 1.6]) {
        near(found, expected);
    }
    near(row(none, "imbalance")[0], 1.0);
    near(row(none, "planned_imbalance")[1], 1.6);
    // Pooled, both loads count the same, although one has six times the steps.
    let pooled = entry(&result, "none");
    for layer in pooled["imbalance_before"].as_array().unwrap() {
        near(layer.as_f64().unwrap(), 1.8);
    }
    let latencies = row(none, "layer_latency_s");
    near(latency(&result, "none"), latencies.iter().sum::<f64>() / 2.0);
    // Phi-3.5-MoE has 32 layers, all of them mixtures.
    let mean = pooled["step_latency_s"]["mean"].as_f64().unwrap();
    near(mean / (32.0 * latency(&result, "none")), 1.0);
    assert!(latencies[0] > latencies[1]);
    near(pooled["step_latency_s"]["p50"].as_f64().unwrap() / (32.0 * latencies[1]), 1.0);
    near(pooled["step_latency_s"]["p95"].as_f64().unwrap() / (32.0 * latencies[0]), 1.0);
    // Formulas draw steps from the shares, and say so by silence.
    let mut drawn = asked.clone();
    drawn["method"] = json!("analytic");
    let drawn = &result_of(&drawn, &known(&traces))["transfer"];
    assert_eq!(drawn["replayed_steps"], Value::Null);
    assert!(row(&drawn["none"], "step_imbalance")[0] < 1.1, "{drawn}");
}

#[test]
fn one_plan_for_all_is_renewed_by_what_all_have_shown() {
    let directory = tempfile::tempdir().unwrap();
    // After an even planning part, each load makes four experts of one device hot.
    let moving = |first: usize| {
        counts_of(80, |step, _, expert| {
            let hot = 40 <= step && (first..first + 4).contains(&expert);
            if hot { 6000 } else { 1000 }
        })
    };
    let traces =
        [moving(0), moving(4)].map(|json| keep(directory.path(), "application/json", &json));
    let traces: Vec<&TraceFacts> = traces.iter().collect();
    let asked = question(&traces);
    let imbalance = |mode: &str| {
        let mut asked = asked.clone();
        asked["rebalance"] = json!({"mode": mode, "interval_steps": 20});
        let result = result_of(&asked, &known(&traces));
        let step = entry(&result, "replace_only").clone();
        let after = row(&step, "imbalance_after").iter().sum::<f64>() / 2.0;
        (after, step["terms"]["rebalance_s"].as_f64().unwrap())
    };
    let ((held, no_stall), (renewed, stall)) = (imbalance("startup_map"), imbalance("sync"));
    assert!(no_stall <= 0.0 && stall > 0.0, "{no_stall} {stall}");
    // 4·6 of 4·(6 + 1 + 1 + 1) on the hot device as long as nothing is moved: all of the
    // time, or the first 20 of 80 steps.
    let hot = 24.0 / 9.0;
    assert!((held - hot).abs() < 1e-9, "{held}");
    assert!((renewed - (20.0 * hot + 60.0) / 80.0).abs() < 1e-9, "{renewed}");
}

#[test]
fn a_trace_with_too_few_steps_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let long = kept(directory.path(), 0, 6);
    let short = keep(directory.path(), "application/json", &counts(8, 6, 2));
    let traces = [&long, &short];
    let refused = violations(&question(&traces), &known(&traces));
    assert_eq!((refused[0].pointer.as_str(), refused[0].rule.as_str()), ("/workload", "steps"));
    let said = format!("trace {} gives 1 steps", short.id);
    assert!(refused.len() == 1 && refused[0].detail.contains(&said), "{refused:?}");
}

#[test]
fn one_trace_reports_plan_and_score_and_no_matrix() {
    let directory = tempfile::tempdir().unwrap();
    let trace = kept(directory.path(), 0, 6);
    let mut asked = question(&[&trace]);
    asked["routing"] = json!({"trace_id": trace.id});
    asked["method"] = json!("analytic");
    let result = result_of(&asked, &known(&[&trace]));
    assert_eq!(result["transfer"], Value::Null);
    let plan = &result["plan"];
    let (planned, scored) = (&plan["in_sample_imbalance"], &plan["held_out_imbalance"]);
    assert_eq!(planned["per_layer"].as_array().unwrap().len(), 2);
    // What the forecast error adds stands between the two.
    let residual = &result["routing"]["device_imbalance"]["residual"]["forecast_error"];
    let between = scored["mean"].as_f64().unwrap() - planned["mean"].as_f64().unwrap();
    assert!((between - residual.as_f64().unwrap()).abs() < 1e-12, "{plan} {residual}");
    // A single matrix holds nothing out.
    let whole = keep(directory.path(), "application/json", &counts(0, 6, 1));
    asked["routing"] = json!({"trace_id": whole.id});
    let plan = result_of(&asked, &known(&[&whole]))["plan"].clone();
    assert!(plan["in_sample_imbalance"].is_object() && plan["held_out_imbalance"].is_null());
}

#[test]
fn traces_of_different_layers_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let two = kept(directory.path(), 0, 6);
    let layer: Vec<u32> = (0..16).map(|expert| 1000 + expert).collect();
    let one = json!({"counts": [[layer.clone()], [layer]]}).to_string();
    let one = keep(directory.path(), "application/json", one.as_bytes());
    let refused = violations(&question(&[&two, &one]), &known(&[&two, &one]));
    assert_eq!(refused[0].pointer, "/routing/trace_ids/1");
    assert_eq!(refused[0].rule, "layers");
}

#[test]
fn windows_are_one_load_whose_newest_scores_what_the_others_plan() {
    let directory = tempfile::tempdir().unwrap();
    let [one, other, newest] =
        [(0, 6), (0, 3), (8, 6)].map(|(first, times)| kept(directory.path(), first, times));
    let traces = known(&[&one, &other, &newest]);
    let asked = |routing: Value| {
        let mut asked = question(&[]);
        asked["routing"] = routing;
        asked["method"] = json!("analytic");
        asked["duplication"] = json!({"slots_per_device": 4});
        asked["flip_points"] = json!(false);
        asked
    };
    let strategies = |routing: Value| result_of(&asked(routing), &traces)["strategies"].clone();
    let windows =
        |ids: &[&TraceFacts]| json!({"windows": ids.iter().map(|one| &one.id).collect::<Vec<_>>()});
    // Two windows are a trace with a hold-out, one alone is a trace.
    let held = json!({"trace_id": one.id, "holdout_trace_id": newest.id});
    assert_eq!(strategies(windows(&[&one, &newest])), strategies(held));
    assert_eq!(strategies(windows(&[&one])), strategies(json!({"trace_id": one.id})));
    // Those before the newest count token by token, however they are cut.
    let latency =
        |routing: Value| latency(&json!({"strategies": strategies(routing)}), "replace_only");
    let twice = latency(windows(&[&one, &one, &newest]));
    let once = latency(windows(&[&one, &newest]));
    assert!((twice / once - 1.0).abs() < 1e-9, "{twice} {once}");
    let transfer =
        result_of(&asked(windows(&[&one, &other, &newest])), &traces)["transfer"].clone();
    assert_eq!(transfer, Value::Null, "they are one load");
    // A phase of their own have windows of a server alone, and then both.
    let phased = json!({"windows": [{"id": one.id, "phase": "prefill"}, {"id": other.id, "phase": "decode"}]});
    assert_eq!(violations(&asked(phased), &traces)[0].pointer, "/routing/windows");
    let held = json!({"windows": [one.id], "holdout_trace_id": newest.id});
    assert_eq!(violations(&asked(held), &traces)[0].rule, "exactly_one");
}
