//! Plans as files: the command `place`, and the formats of a recommendation's placement.

use std::path::{Path, PathBuf};

use clap::Parser;
use moe_gps::cli::place::{self, Place};
use moe_gps::wire::placed::PlacedBody;
use moe_gps_core::formats::placement::{self, FORMATS};
use serde_json::{Value, json};

use crate::asking::{advise, keep, known};
use crate::support::TestApp;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    place: Place,
}

/// What `place LOADS` prints with these flags.
fn printed(loads: &Path, flags: &str) -> Result<String, String> {
    let line = ["place", loads.to_str().unwrap()];
    let line = Line::try_parse_from(line.into_iter().chain(flags.split_whitespace()));
    let mut out = Vec::new();
    let ran = place::run(&line.map_err(|error| error.to_string())?.place, &mut out);
    ran.map_err(|error| format!("{error:#}"))?;
    Ok(String::from_utf8(out).unwrap())
}

fn planned(loads: &Path, flags: &str) -> PlacedBody {
    serde_json::from_str(&printed(loads, &format!("{flags} --json")).unwrap()).unwrap()
}

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/eplb").join(name)
}

#[test]
fn the_command_beats_eplb_on_the_reference_loads() {
    let loads = reference("input_b.npy.gz");
    let at = "--devices 32 --slots-per-device 9";
    for (flags, mean, worst) in [
        ("", 1.0014, 1.003),
        ("--groups 8 --nodes 4", 1.130, 1.52),
        ("--groups soft --nodes 4", 1.005, 1.01),
        ("--groups soft:8 --nodes 4", 1.005, 1.01),
    ] {
        let plan = planned(&loads, &format!("{at} {flags}"));
        assert!(plan.balance_mean <= mean, "{flags}: {}", plan.balance_mean);
        assert!(plan.balance_worst <= worst, "{flags}: {}", plan.balance_worst);
        assert_eq!(plan.same_device_duplicates, 0);
        assert_eq!(plan.physical_to_logical.len(), 58);
        assert!(plan.plan_s > 0.0);
        match flags {
            "" => assert!(plan.cross_node_replicas.is_none()),
            "--groups 8 --nodes 4" => assert_eq!(plan.cross_node_replicas, Some(0)),
            _ => assert!(plan.cross_node_replicas > Some(0)),
        }
    }
    let eplb = planned(&loads, &format!("{at} --algorithm eplb"));
    assert!((eplb.balance_mean - 1.0014).abs() < 1e-4);
    assert_eq!(eplb.same_device_duplicates, 42);
}

#[test]
fn the_small_case_reaches_its_optimum() {
    let folder = tempfile::tempdir().unwrap();
    let loads = folder.path().join("loads.json");
    let counts = json!({"counts": [[600, 560, 120, 120, 20, 10, 10, 10]]});
    std::fs::write(&loads, counts.to_string()).unwrap();
    let plan = planned(&loads, "--devices 8 --slots-per-device 2");
    assert!((plan.balance_mean - 590.0 / 3.0 / 181.25).abs() < 1e-9);
    let greedy = planned(&loads, "--devices 8 --slots-per-device 2 --algorithm paper_greedy");
    assert!(greedy.balance_mean >= plan.balance_mean);
}

#[test]
fn algorithm_1_says_who_takes_which_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let loads = folder.path().join("loads.json");
    std::fs::write(&loads, json!({"counts": [[6, 2, 1, 1]]}).to_string()).unwrap();
    let at = "--devices 2 --slots-per-device 3";
    let greedy = planned(&loads, &format!("{at} --algorithm paper_greedy"));
    // 8 and 2 tokens: half of the difference, of the heaviest expert, goes to the other device.
    let [layer] = &greedy.algorithm_1[..] else { panic!("{:?}", greedy.algorithm_1) };
    assert_eq!(layer.experts, [vec![0, 1], vec![2, 3, 0]]);
    assert_eq!(layer.tokens, [vec![3, 2], vec![1, 1, 3]]);
    assert_eq!(layer.free_slots, [1, 0]);
    assert!(planned(&loads, at).algorithm_1.is_empty());
}

#[test]
fn a_plan_in_force_needs_no_moves_whatever_file_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let loads = reference("input_a.npy.gz");
    let at = "--devices 4 --slots-per-device 3";
    let fresh = planned(&loads, at);
    assert!(fresh.moves > 0, "against the static placement");
    // EPLB's plan does not depend on what is in force, so none of its copies moves.
    let without_duplicates = "--devices 8 --slots-per-device 1 --algorithm eplb";
    for format in FORMATS {
        let text = printed(&loads, &format!("{without_duplicates} --format {}", format.id));
        let file = folder.path().join(format.id);
        std::fs::write(&file, text.unwrap()).unwrap();
        let again = format!("{without_duplicates} --current {}", file.display());
        assert_eq!(planned(&loads, &again).moves, 0, "{}", format.id);
    }
    // Ours starts from what is in force, and leaves it only for something better.
    let file = folder.path().join("printed.json");
    std::fs::write(&file, serde_json::to_string(&fresh).unwrap()).unwrap();
    let near = format!("{at} --current {}", file.display());
    let again = planned(&loads, &near);
    assert!(again.moves < fresh.moves / 4, "{}", again.moves);
    assert!(again.balance_mean <= fresh.balance_mean * 1.001);
}

#[test]
fn a_less_even_plan_is_taken_where_it_saves_moves() {
    let folder = tempfile::tempdir().unwrap();
    let recording = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/traces/deepseek_v3_like.sglang_stat.pt.gz");
    let at = "--devices 32 --slots-per-device 9";
    let current = folder.path().join("current.json");
    let before = printed(&recording, &format!("{at} --train-fraction 0.5 --format json"));
    std::fs::write(&current, before.unwrap()).unwrap();
    let near = format!("{at} --current {}", current.display());
    let mut moves = u64::MAX;
    for (flag, tolerance) in
        [("--move-tolerance 0", 0.0), ("", 0.001), ("--move-tolerance 0.02", 0.02)]
    {
        let plan = planned(&recording, &format!("{near} {flag}"));
        assert!(plan.moves < moves, "{flag}: {} {moves}", plan.moves);
        assert!(plan.balance_worst < (1.0 + tolerance) * 1.0006, "{flag}: {plan:?}");
        moves = plan.moves;
    }
}

#[test]
fn a_plan_for_the_first_half_of_a_recording_is_scored_on_the_rest() {
    let recording = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/traces/deepseek_v3_like.sglang_stat.pt.gz");
    let at = "--devices 32 --slots-per-device 9 --train-fraction 0.5";
    let plan = planned(&recording, at);
    assert_eq!((plan.layers[0], plan.layers.len()), (3, 58));
    let (before, after) = (plan.balance_without_per_layer.unwrap(), plan.balance_per_layer);
    assert!(before.len() == 58 && before.iter().zip(&after).all(|(before, after)| after < before));
    let mean = after.iter().sum::<f64>() / 58.0;
    assert!((mean - plan.balance_mean).abs() < 1e-9);
    let held = plan.holdout.unwrap();
    assert!(held.balance_mean > plan.balance_mean, "{held:?}");
    assert!(held.balance_mean < held.balance_without.unwrap() / 1.5, "{held:?}");
    assert!(held.balance_mean <= held.eplb_balance_mean * 1.005, "{held:?}");
    let file = printed(&recording, &format!("{at} --format sglang --model-layers 61")).unwrap();
    let file: Value = serde_json::from_str(&file).unwrap();
    assert_eq!(file.as_object().unwrap().keys().collect::<Vec<_>>(), ["physical_to_logical_map"]);
    assert_eq!(file["physical_to_logical_map"].as_array().unwrap().len(), 61);
    let whole = printed(
        &reference("input_a.npy.gz"),
        "--devices 4 --slots-per-device 3 --train-fraction 0.5",
    );
    assert!(whole.unwrap_err().contains("two steps or more"));
}

#[test]
fn what_cannot_be_planned_is_said_with_a_way_out() {
    let loads = reference("input_a.npy.gz");
    for (flags, said) in [
        ("--devices 4 --slots-per-device 1", "4 slots cannot hold 8 experts"),
        ("--devices 0 --slots-per-device 3", "devices is 0"),
        ("--devices 4 --slots-per-device 3 --groups 3 --nodes 3", "not a multiple"),
        ("--devices 4 --slots-per-device 3 --groups half --nodes 2", "soft:NUMBER"),
        ("--devices 4 --slots-per-device 3 --groups 2", "--nodes"),
        ("--devices 4 --slots-per-device 3 --algorithm magic", "best, eplb or paper_greedy"),
        ("--devices 4 --slots-per-device 3 --format vllm", "json, sglang, trtllm, vllm_ascend"),
        ("--devices 4 --slots-per-device 9", "allow duplicates"),
        ("--devices 4 --slots-per-device 3 --model-layers 8", "layer 8 is out of place"),
        (
            "--devices 4 --slots-per-device 3 --algorithm paper_greedy --groups 2 --nodes 2",
            "knows no groups",
        ),
    ] {
        let error = printed(&loads, flags).unwrap_err();
        assert!(error.contains(said), "{flags}: {error}");
    }
}

/// A plan of two mixture-of-experts layers behind a dense one, as recommendations store it.
fn stored(expert_ids_are_real: bool) -> Value {
    json!({
        "format": "json", "strategy": "distribution_only", "n_logical_experts": 3,
        "n_physical_experts": 4, "devices": 2, "slots_per_device": 2, "n_model_layers": 3,
        "layers_are_exact": true, "expert_ids_are_real": expert_ids_are_real,
        "layers": [
            {"layer": 0, "model_layer": 1, "physical_to_logical": [2, 1, 0, 2]},
            {"layer": 1, "model_layer": 2, "physical_to_logical": [0, 1, 2, 0]},
        ],
    })
}

#[tokio::test]
async fn a_recommendations_plan_comes_as_the_file_each_engine_loads() {
    let app = TestApp::start().await;
    let asked = app.ask_and_wait(&json!({"do": "answer", "plan": stored(true)})).await;
    let path = format!("{}/placement", asked.header("location"));
    for format in FORMATS {
        let answer = app.get(&format!("{path}?format={}", format.id)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (200, format.media_type)
        );
        let text = String::from_utf8(answer.body.clone()).unwrap();
        let layers =
            placement::read_any(text.as_bytes(), placement::Deployed::default()).unwrap().layers;
        let maps: Vec<_> = layers.iter().map(|layer| &layer.physical_to_logical).collect();
        assert_eq!(maps[maps.len() - 2..], [&[2, 1, 0, 2], &[0, 1, 2, 0]], "{}", format.id);
    }
    let sglang = app.get(&format!("{path}?format=sglang")).await.json();
    let rows = json!([[0, 1, 2, 0], [2, 1, 0, 2], [0, 1, 2, 0]]);
    assert_eq!(sglang, json!({"physical_to_logical_map": rows}), "one key, the dense row filled");
    let problem = app.get(&format!("{path}?format=vllm")).await.problem(422, "invalid-question");
    assert_eq!(problem["violations"][0]["pointer"], "/format");
}

#[tokio::test]
async fn made_up_experts_are_no_engines_business() {
    let app = TestApp::start().await;
    let asked = app.ask_and_wait(&json!({"do": "answer", "plan": stored(false)})).await;
    let path = format!("{}/placement", asked.header("location"));
    assert_eq!(app.get(&path).await.status, 200);
    let problem = app.get(&format!("{path}?format=trtllm")).await.problem(409, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains("expert_shares"), "{problem}");
}

#[test]
fn a_layer_that_says_nothing_at_first_leaves_the_others_in_their_place() {
    let directory = tempfile::tempdir().unwrap();
    let layer =
        |hot: usize| (0..16).map(|at| if at == hot { 900 } else { 100 }).collect::<Vec<_>>();
    // The middle layer has no tokens in the part that plans.
    let step = |at: usize| [layer(0), if at < 4 { vec![0; 16] } else { layer(5) }, layer(9)];
    let steps: Vec<[Vec<u32>; 3]> = (0..8).map(step).collect();
    let json = json!({ "counts": steps }).to_string();
    let trace = keep(directory.path(), "application/json", json.as_bytes());
    let asked = json!({
        "model": "phi-3.5-moe",
        "cluster": {"device": "h100-sxm", "devices": 4, "link": "nvlink4"},
        "workload": {"phase": "prefill", "tokens_per_step": 1200},
        "routing": {"trace_id": trace.id},
        "allowed_strategies": ["distribution_only"],
    });
    let answered = advise(&asked, &known(&[&trace])).unwrap();
    let placement = answered.placement.unwrap();
    let layers = placement["layers"].as_array().unwrap();
    let places: Vec<&Value> = layers.iter().map(|layer| &layer["model_layer"]).collect();
    assert_eq!(places, [&json!(0), &json!(2)]);
    // Each has the copies that its own hot expert needs.
    for (layer, hot) in layers.iter().zip([0, 9]) {
        let replicas: Vec<u64> = serde_json::from_value(layer["replicas"].clone()).unwrap();
        let most = replicas.iter().max().unwrap();
        assert_eq!((replicas[hot], *most > 1), (*most, true), "{layer}");
    }
    // A replay follows the same layers.
    let none = &answered.result["strategies"][0];
    assert_eq!(none["imbalance_before"].as_array().unwrap().len(), 2);
}
