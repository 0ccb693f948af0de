//! Laws that hold of every priced answer, whatever is asked.

use moe_gps::app::question;
use moe_gps::app::references::References;
use moe_gps_core::advice::{self, Entry, Priced};
use moe_gps_core::cancel::Cancel;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::pricing::routing_evidence::RoutingEvidence;
use moe_gps_core::question::{PredictorCost, PredictorPoint, Question};
use moe_gps_core::routing::{LayerRouting, normalised, power_law};
use moe_gps_core::strategies::{self, Strategy as Ways};
use moe_gps_core::units::{BytesPerSecond, FlopsPerSecond, Seconds};
use proptest::prelude::*;
use serde_json::{Value, json};

fn config(cases: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").map_or(cases, |more| more.parse().unwrap());
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A question about one of three models on two to eight devices, without its routing.
fn questions() -> impl Strategy<Value = Value> {
    let models = prop::sample::select(vec!["mixtral-8x7b", "olmoe-1b-7b", "switch-base-8"]);
    let devices = prop::sample::select(vec![2_u32, 4, 8]);
    let device = prop::sample::select(vec!["h100-sxm", "h200-sxm", "b200-sxm"]);
    let patterns = prop::sample::select(vec![
        "replicated",
        "allgather_reducescatter",
        "all_to_all_normal",
        "all_to_all_low_latency",
    ]);
    let overlaps = prop::sample::select(vec!["none", "shared_expert", "two_batch"]);
    let splits = prop::sample::select(vec!["hashed", "nearest_first", "optimal"]);
    let workload = (any::<bool>(), 0_u32..14);
    (models, devices, device, patterns, overlaps, splits, workload, any::<bool>(), 0_u64..1000)
        .prop_map(|(model, n, device, pattern, overlap, split, (decode, size), data, seed)| {
            let tokens = 1_u64 << size;
            let workload = if decode {
                json!({"phase": "decode", "batch_size": tokens, "kv_length": 512})
            } else {
                json!({"phase": "prefill", "batch_size": 1, "sequence_length": tokens})
            };
            let (tensor, data) = if data { (1, n) } else { (n, 1) };
            json!({
                "model": model,
                "cluster": {"device": device, "devices": n, "link": "nvlink4"},
                "parallelism": {"attention_tensor": tensor, "attention_data": data},
                "workload": workload,
                "routing": {"skewness": 1.0},
                "predictors": [{"name": "stated", "accuracy": 1.0, "overhead_s": 0.0}],
                "rebalance": {"mode": "startup_map"},
                "assumptions": {
                    "communication": pattern, "overlap": overlap, "replica_split": split,
                },
                "seed": seed,
            })
        })
}

fn checked(asked: &Value) -> Question {
    let catalog = Catalog::embedded();
    question::read(asked.clone()).answerable(catalog, &References::default()).unwrap().question
}

/// A power law of skewness between even and as uneven as can be, its ranks spread over the
/// experts by `order`; the forecast is blurred towards even by `blur`.
fn routing(question: &Question, uneven: f64, blur: f64, order: &[f64]) -> Vec<LayerRouting> {
    let experts = &question.system.model.experts;
    let most = f64::from(experts.routed) / f64::from(experts.top_k);
    let sorted =
        power_law::with_skewness(experts.routed, experts.top_k, 1.0 + uneven * (most - 1.0) * 0.8);
    let mut ranks: Vec<usize> = (0..sorted.len()).collect();
    ranks.sort_by(|a, b| order[*a].total_cmp(&order[*b]));
    let truth: Vec<f64> = ranks.iter().map(|rank| sorted[*rank]).collect();
    let even = 1.0 / truth.len() as f64;
    let forecast: Vec<f64> = truth.iter().map(|p| p + (even - p) * blur).collect();
    vec![LayerRouting { truth, forecast: normalised(&forecast) }]
}

fn orders() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(0.0..1.0_f64, 64)
}

fn priced(question: &Question, layers: &[LayerRouting]) -> Priced {
    advice::price(question, &RoutingEvidence::Layers(layers.to_vec()), Cancel::NEVER).unwrap()
}

fn latency(analysis: &Priced, strategy: Ways) -> f64 {
    let entry = analysis.entries.iter().find(|entry| entry.strategy == strategy);
    entry.and_then(Entry::latency).unwrap().get()
}

/// Every entry of `after` is at most as slow as in `before`.
fn no_slower(before: &Priced, after: &Priced) -> Result<(), TestCaseError> {
    for (before, after) in before.entries.iter().zip(&after.entries) {
        let (Some(old), Some(new)) = (before.latency(), after.latency()) else { continue };
        prop_assert!(
            new.get() <= old.get() * (1.0 + 1e-12),
            "{:?} rises from {:e} to {:e}: {:?} {:?}",
            after.strategy,
            old.get(),
            new.get(),
            before.terms,
            after.terms
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn no_latency_rises_with_the_bandwidth_of_the_link(
        asked in questions(), uneven in 0.0..1.0_f64, order in orders(), factor in 1.01..16.0_f64,
    ) {
        let mut question = checked(&asked);
        let layers = routing(&question, uneven, 0.1, &order);
        let before = priced(&question, &layers);
        let link = &mut question.system.cluster.link;
        link.bandwidth = BytesPerSecond::new(link.bandwidth.get() * factor);
        no_slower(&before, &priced(&question, &layers))?;
    }

    #[test]
    fn no_latency_rises_with_the_rates_of_the_device(
        asked in questions(), uneven in 0.0..1.0_f64, order in orders(), factor in 1.01..16.0_f64,
        compute in any::<bool>(),
    ) {
        let mut question = checked(&asked);
        let layers = routing(&question, uneven, 0.1, &order);
        let before = priced(&question, &layers);
        let device = &mut question.system.cluster.device;
        if compute {
            let faster = |rate: FlopsPerSecond| FlopsPerSecond::new(rate.get() * factor);
            device.peak.bf16 = faster(device.peak.bf16);
            device.peak.fp8 = device.peak.fp8.map(faster);
            device.peak.fp32 = faster(device.peak.fp32);
        } else {
            device.bandwidth = BytesPerSecond::new(device.bandwidth.get() * factor);
        }
        no_slower(&before, &priced(&question, &layers))?;
    }

    #[test]
    fn no_latency_rises_with_the_accuracy_of_the_predictor(
        asked in questions(), uneven in 0.0..1.0_f64, order in orders(),
        low in 0.0..1.0_f64, more in 0.0..1.0_f64,
    ) {
        let mut question = checked(&asked);
        let layers = routing(&question, uneven, 0.1, &order);
        let at = |question: &mut Question, accuracy| {
            let overhead = Seconds::new(1e-5);
            question.predictors[0].cost = PredictorCost::Point(PredictorPoint { accuracy, overhead });
            priced(question, &layers)
        };
        let before = at(&mut question, low);
        let after = at(&mut question, low + (1.0 - low) * more);
        no_slower(&before, &after)?;
    }

    #[test]
    fn even_routing_gives_nothing_to_win_but_sampling(asked in questions()) {
        let question = checked(&asked);
        let n = question.system.model.experts.routed as usize;
        let even = vec![1.0 / n as f64; n];
        let layers = vec![LayerRouting { truth: even.clone(), forecast: even }];
        let analysis = priced(&question, &layers);
        let none = analysis.entries[0].terms.unwrap();
        let drawn = analysis.plans[0].imbalance[0];
        prop_assert!((drawn.expected - 1.0).abs() < 1e-9);
        // What the busiest device of a drawn step has above the mean.
        let sampling = 1.0 - 1.0 / drawn.drawn;
        let most = (none.expert_ffn + none.dispatch + none.combine) * sampling;
        for entry in &analysis.entries {
            let Some(latency) = entry.latency() else { continue };
            let won = none.total() - latency;
            prop_assert!(won <= most + none.total() * 1e-9, "{entry:?} wins {won:?} of {most:?}");
        }
    }

    #[test]
    fn a_perfect_predictor_at_no_cost_is_no_slower_than_the_distribution(
        asked in questions(), uneven in 0.0..1.0_f64, order in orders(), skips in any::<bool>(),
        blur in 0.0..0.5_f64,
    ) {
        let mut asked = asked;
        asked["assumptions"]["t2e_skips_scatter"] = json!(skips);
        let question = checked(&asked);
        let analysis = priced(&question, &routing(&question, uneven, blur, &order));
        if analysis.entries.iter().any(|entry| {
            entry.strategy == strategies::TOKEN_TO_EXPERT && entry.terms.is_some()
        }) {
            let perfect = latency(&analysis, strategies::TOKEN_TO_EXPERT);
            let distribution = latency(&analysis, strategies::DISTRIBUTION_ONLY);
            prop_assert!(perfect <= distribution * (1.0 + 1e-12), "{perfect:e} {distribution:e}");
        }
    }

    #[test]
    fn terms_add_up_and_nothing_beats_the_ceiling(
        asked in questions(), uneven in 0.0..1.0_f64, order in orders(), skips in any::<bool>(),
    ) {
        let mut asked = asked;
        asked["assumptions"]["t2e_skips_scatter"] = json!(skips);
        let question = checked(&asked);
        let analysis = priced(&question, &routing(&question, uneven, 0.1, &order));
        for entry in &analysis.entries {
            let Some(terms) = entry.terms else { continue };
            let sum: f64 = terms.named().map(|(_, term)| term.get()).sum();
            prop_assert!((sum - terms.total().get()).abs() <= 1e-12 * sum);
            if entry.infeasible.is_none() {
                prop_assert!(terms.total().get() >= analysis.ceiling.unwrap().get() * (1.0 - 1e-12));
            }
        }
    }

    #[test]
    fn the_search_over_slots_is_no_worse_than_any_number_of_them(
        asked in questions(), uneven in 0.0..1.0_f64, order in orders(), extra in 0_u32..3,
    ) {
        let mut question = checked(&asked);
        let layers = routing(&question, uneven, 0.1, &order);
        let searched = priced(&question, &layers);
        let n = question.system.parallelism.expert_parallel;
        let base = question.system.model.experts.routed / n;
        // One, two or four slots more than needed, up to twice as many and one per expert.
        let slots = base + (1 << extra);
        let is_searched = slots <= 2 * base && slots <= question.system.model.experts.routed;
        question.duplication.slots_per_device = Some(slots);
        let given = priced(&question, &layers);
        let fits = given.plans.last().is_some_and(|plan| plan.memory.fits());
        if is_searched && fits {
            let (found, given) = (
                latency(&searched, strategies::DISTRIBUTION_ONLY),
                latency(&given, strategies::DISTRIBUTION_ONLY),
            );
            prop_assert!(found <= given * (1.0 + 1e-12), "{found:e} {given:e} {slots}");
        }
    }

    #[test]
    fn copies_that_may_not_be_are_no_failure(
        asked in questions(), uneven in 0.0..1.0_f64, order in orders(), most in 1_u32..4,
    ) {
        let mut question = checked(&asked);
        question.duplication.max_copies = Some(most);
        let analysis = priced(&question, &routing(&question, uneven, 0.1, &order));
        let duplicated = analysis.plans.iter().find(|p| p.strategy == strategies::DISTRIBUTION_ONLY);
        if let Some(plan) = duplicated {
            prop_assert!(plan.layers[0].replicas().iter().all(|copies| *copies <= most));
        }
        prop_assert_eq!(most == 1, duplicated.is_none());
        let entry = |strategy| analysis.entries.iter().find(|e| e.strategy == strategy).unwrap();
        let distribution = entry(strategies::DISTRIBUTION_ONLY);
        prop_assert_eq!(distribution.terms.is_none(), duplicated.is_none());
        prop_assert!(distribution.infeasible.is_some() || duplicated.is_some());
        prop_assert!(entry(strategies::NONE).terms.is_some());
    }

    #[test]
    fn names_of_experts_mean_nothing(
        asked in questions(), uneven in 0.1..1.0_f64, order in orders(), shift in 1_usize..63,
    ) {
        let mut asked = asked;
        if asked["assumptions"]["replica_split"] == "optimal" {
            // Its parts are sums in the order of ids, and whole tiles follow their last digit.
            asked["assumptions"]["replica_split"] = json!("hashed");
        }
        let mut question = checked(&asked);
        let n = question.system.model.experts.routed;
        let mut layers = routing(&question, uneven, 0.1, &order);
        let map: Vec<u32> = (0..n).collect();
        let current = |question: &mut Question, map: Vec<u32>| {
            question.current = Some(moe_gps_core::question::Current {
                strategy: None, physical_to_logical: Some(vec![map]), slots_per_device: None,
            });
        };
        current(&mut question, map);
        let before = priced(&question, &layers);
        // Expert e gets the name e + shift, and the placement with it.
        let named = |e: usize| (e + shift) % n as usize;
        current(&mut question, (0..n as usize).map(|e| u32::try_from(named(e)).unwrap()).collect());
        for layer in &mut layers {
            let old = layer.clone();
            for e in 0..n as usize {
                layer.truth[named(e)] = old.truth[e];
                layer.forecast[named(e)] = old.forecast[e];
            }
        }
        let after = priced(&question, &layers);
        for (before, after) in before.entries.iter().zip(&after.entries) {
            let (Some(old), Some(new)) = (before.latency(), after.latency()) else { continue };
            prop_assert!(
                (new / old - 1.0).abs() < 1e-9, "{:?}: {old:?} {new:?}", after.strategy
            );
        }
    }
}

proptest! {
    #![proptest_config(config(6))]

    #[test]
    fn the_same_question_has_the_same_answer(asked in questions(), skewness in 1.0..3.5_f64) {
        let mut asked = asked;
        asked["routing"] = json!({"skewness": skewness});
        let text = || crate::asking::result(&asked).to_string();
        prop_assert_eq!(text(), text());
    }
}

#[test]
fn accuracy_pays_at_every_step() {
    let asked = json!({
        "model": "olmoe-1b-7b",
        "cluster": {"device": "h200-sxm", "devices": 8, "link": "nvlink4"},
        "parallelism": {"attention_tensor": 1, "attention_data": 8},
        "workload": {"phase": "prefill", "batch_size": 256, "sequence_length": 4096},
        "routing": {"skewness": 1.0},
        "predictors": [{"name": "stated", "accuracy": 1.0, "overhead_s": 0.0}],
        "rebalance": {"mode": "startup_map"},
        "duplication": {"slots_per_device": 9},
    });
    let mut question = checked(&asked);
    let order: Vec<f64> = (0..64).map(|e| f64::from(e * 37 % 64)).collect();
    // The distribution forecast is of another domain, so that predicting tokens pays.
    let mut layers = routing(&question, 0.4, 0.0, &order);
    layers[0].forecast.rotate_right(19);
    let all: Vec<f64> = (0..=50)
        .map(|step| {
            let accuracy = f64::from(step) / 50.0;
            let overhead = Seconds::new(1e-5);
            question.predictors[0].cost =
                PredictorCost::Point(PredictorPoint { accuracy, overhead });
            latency(&priced(&question, &layers), strategies::TOKEN_TO_EXPERT)
        })
        .collect();
    assert!(all[50] < 0.98 * all[0], "accuracy must pay for this to test anything: {all:?}");
    for (step, pair) in all.windows(2).enumerate() {
        assert!(pair[1] <= pair[0] * (1.0 + 1e-12), "rises at {step}: {all:?}");
    }
}
