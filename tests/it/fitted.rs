//! Questions that have predictors fitted on their trace.

use std::fmt::Write as _;
use std::path::Path;

use axum::body::Body;
use axum::http::Request;
use moe_gps::app::advisor::TraceFacts;
use moe_gps_core::seed::{Purpose, stream};
use rand::RngExt as _;
use serde_json::{Value, json};

use crate::asking::{entries, keep, known, result_of, violations};
use crate::support::TestApp;

/// Sequences of 256 tokens of a vocabulary of 72, in 24 classes; the class decides the eight
/// experts of a token, and for sixteen sequences one class is liked, so that no static plan
/// is even in every step.
pub(crate) fn classes(n_sequences: u32, with_ids: bool) -> String {
    let mut rng = stream(11, Purpose::LoadSample, 0);
    let mut lines = String::new();
    let mut liked: u32 = 0;
    for sequence in 0..n_sequences {
        if sequence % 16 == 0 {
            liked = rng.random_range(0..24);
        }
        for position in 0..256 {
            let class = if rng.random_range(0..10) < 7 { liked } else { rng.random_range(0..24) };
            let token = class + 24 * rng.random_range(0..3_u32);
            let experts = |layer: u32| -> Vec<u32> {
                // Steps of odd length: eight different ones of 64.
                (0..8).map(|n| (5 * class + (2 * (class + layer) + 1) * n) % 64).collect()
            };
            let mut line = json!({
                "sequence": sequence, "position": position,
                "experts": [experts(0), experts(1)],
            });
            if with_ids {
                line["token_id"] = token.into();
            }
            writeln!(lines, "{line}").unwrap();
        }
    }
    lines
}

fn kept(directory: &Path, n_sequences: u32, with_ids: bool) -> TraceFacts {
    keep(directory, "application/x-ndjson", classes(n_sequences, with_ids).as_bytes())
}

pub(crate) fn question(trace: &str, predictors: &Value) -> Value {
    json!({
        "model": "olmoe-1b-7b",
        "cluster": {"device": "h200-sxm", "devices": 8, "link": "nvlink4"},
        "parallelism": {"attention_tensor": 1, "attention_data": 8},
        "workload": {"phase": "prefill", "tokens_per_step": 4096},
        "routing": {"trace_id": trace},
        "assumptions": {"communication": "all_to_all_normal"},
        "predictors": predictors,
    })
}

/// The token-to-expert entry of a predictor.
fn of<'a>(result: &'a Value, name: &str) -> &'a Value {
    let all = entries(result, "token_to_expert");
    all.into_iter().find(|entry| entry["predictor"]["name"] == name).unwrap()
}

#[test]
fn fits_on_the_bundled_recording_reach_the_published_accuracies() {
    let directory = tempfile::tempdir().unwrap();
    let part = |name: &str| {
        let file = format!("examples/traces/mixtral_like_e8k2.python.{name}.npz");
        let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        keep(directory.path(), "application/x-npz", &bytes)
    };
    let (train, test) = (part("train"), part("test"));
    let asked = json!({
        "model": "mixtral-8x7b",
        "cluster": {"device": "h100-sxm", "devices": 4, "link": "nvlink4"},
        "workload": {"phase": "prefill", "tokens_per_step": 512},
        "routing": {"trace_id": train.id, "holdout_trace_id": test.id},
        "predictors": [{"fit": "by_token"}, {"name": "mine", "accuracy": 0.5, "overhead_s": 1e-5},
                       {"fit": "most_frequent"}, {"fit": "by_position"}],
    });
    let result = result_of(&asked, &known(&[&train, &test]));
    let names: Vec<&Value> = entries(&result, "token_to_expert")
        .iter()
        .map(|entry| &entry["predictor"]["name"])
        .collect();
    assert_eq!(names, ["by_token", "mine", "most_frequent", "by_position"]);
    for (name, reference) in [("by_token", 0.707), ("most_frequent", 0.431), ("by_position", 0.429)]
    {
        let predictor = &of(&result, name)["predictor"];
        let accuracy = predictor["accuracy"].as_f64().unwrap();
        assert!((accuracy - reference).abs() <= 0.002, "{predictor}");
        let layers = predictor["accuracy_per_layer"].as_array().unwrap();
        let sum: f64 = layers.iter().map(|layer| layer.as_f64().unwrap()).sum();
        assert!(layers.len() == 8 && (sum / 8.0 - accuracy).abs() < 1e-12, "{predictor}");
        assert_eq!((&predictor["source"], &predictor["kind"]), (&json!("fitted"), &json!(name)));
    }
    assert_eq!(of(&result, "mine")["predictor"]["accuracy_per_layer"], Value::Null);
    assert_eq!(of(&result, "most_frequent")["predictor"]["overhead_s"], 0.0);
}

#[test]
fn a_replay_takes_what_the_predictor_names_and_not_drawn_errors() {
    let directory = tempfile::tempdir().unwrap();
    let trace = kept(directory.path(), 16 * 12, true);
    let traces = known(&[&trace]);
    // A link on which copying every step pays.
    let ask = |predictors: Value| {
        let mut asked = question(&trace.id, &predictors);
        asked["cluster"]["link"] = json!({"bandwidth_bytes_per_s": 9e12, "latency_s": 1e-6});
        asked["duplication"] = json!({"slots_per_device": 9});
        // Else the host's launches take longer than a device with so few tokens.
        asked["assumptions"] = json!({"launch_s": 0.0});
        result_of(&asked, &traces)
    };
    let fitted = ask(json!([{"fit": "by_token"}, {"fit": "most_frequent"}]));
    let stated = |name: &str| {
        let predictor = &of(&fitted, name)["predictor"];
        json!({"name": name, "accuracy": predictor["accuracy"],
               "overhead_s": predictor["overhead_s"]})
    };
    let drawn = ask(json!([stated("by_token"), stated("most_frequent")]));
    // The id decides the class, so nothing is mispredicted: as good as the truth itself.
    let perfect = of(&fitted, "by_token");
    assert_eq!(perfect["predictor"]["accuracy"], 1.0);
    assert_eq!(perfect["step_latency_s"], of(&drawn, "by_token")["step_latency_s"]);
    assert!(perfect["moved_bytes"].as_f64().unwrap() > 0.0, "{perfect}");
    // Whoever always names the same eight experts is wrong in a way that drawn errors,
    // spread over all others, are not.
    let constant = of(&fitted, "most_frequent");
    assert_ne!(constant["step_latency_s"], of(&drawn, "most_frequent")["step_latency_s"]);
    assert!(
        perfect["layer_latency_s"].as_f64().unwrap()
            < constant["layer_latency_s"].as_f64().unwrap()
    );
    assert_eq!(ask(json!([{"fit": "by_token"}, {"fit": "most_frequent"}])), fitted);
    // A measured time takes the place of the laws.
    let measured = ask(json!([{"fit": "by_token", "overhead_s": 3e-6}]));
    assert_eq!(of(&measured, "by_token")["predictor"]["overhead_s"], 3e-6);
    assert_eq!(of(&measured, "by_token")["predictor"]["accuracy"], 1.0);
}

#[test]
fn what_a_fit_needs_is_said_at_the_door() {
    let directory = tempfile::tempdir().unwrap();
    let (whole, silent) = (kept(directory.path(), 80, true), kept(directory.path(), 80, false));
    let counts = format!("{{\"counts\": {:?}}}", [[[9; 64]; 2]; 4]);
    let counts = keep(directory.path(), "application/json", counts.as_bytes());
    let traces = known(&[&whole, &silent, &counts]);
    let refused = |trace: &TraceFacts, fit: &str| -> Vec<(String, String, String)> {
        let asked = question(&trace.id, &json!([{"fit": fit}]));
        let found = violations(&asked, &traces).into_iter();
        found.map(|one| (one.pointer, one.rule, one.detail)).collect()
    };
    for (trace, fit, rule, says) in [
        (&whole, "ffn", "embedding", format!("PUT /v1/traces/{}/embedding", whole.id)),
        (&whole, "lstm", "embedding", "fit `by_token`".to_owned()),
        (&silent, "by_token", "fit", "has no token ids".to_owned()),
        (&counts, "most_frequent", "fit", "holds counts only".to_owned()),
    ] {
        let found = refused(trace, fit);
        let [(pointer, broken, detail)] = &found[..] else { panic!("{found:?}") };
        assert_eq!((pointer.as_str(), broken.as_str()), ("/predictors/0/fit", rule));
        assert!(detail.contains(&says), "{detail}");
    }
    let mut scalar = question("", &json!([{"fit": "by_token"}]));
    scalar["routing"] = json!({"skewness": 1.5});
    assert!(violations(&scalar, &traces)[0].detail.contains("give `routing.trace_id`"));
    let mut several = question("", &json!([{"fit": "by_position"}]));
    several["routing"] = json!({"trace_ids": [whole.id, silent.id]});
    assert!(violations(&several, &traces)[0].detail.contains("fitted on one trace"));
    let twice = question(&whole.id, &json!([{"fit": "by_token"}, {"fit": "by_token"}]));
    assert_eq!(violations(&twice, &traces)[0].rule, "unique");
    // Positions are known of every trace of routes.
    let asked = question(&silent.id, &json!([{"fit": "by_position"}]));
    assert_eq!(of(&result_of(&asked, &traces), "by_position")["predictor"]["source"], "fitted");
}

/// A table whose rows tell nothing but the id, `[vocabulary, dim]` of float32.
pub(crate) fn one_hot(vocabulary: usize, dim: usize) -> Vec<u8> {
    let header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({vocabulary}, {dim}), }}");
    let mut npy = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    npy.extend_from_slice(format!("{header:<117}\n").as_bytes());
    for id in 0..vocabulary {
        for place in 0..dim {
            npy.extend(f32::from(u8::from(id % dim == place)).to_le_bytes());
        }
    }
    npy
}

#[tokio::test]
async fn learned_predictors_take_the_embedding_that_was_put_beside_the_trace() {
    let app = TestApp::start_advising().await;
    let upload = Request::post("/v1/traces").header("content-type", "application/x-ndjson");
    let trace = app.send(upload.body(Body::from(classes(80, true))).unwrap()).await.json();
    let id = trace["id"].as_str().unwrap();
    let put = async |vocabulary| {
        let request = Request::put(format!("/v1/traces/{id}/embedding"));
        let request = request.header("content-type", "application/x-npy");
        app.send(request.body(Body::from(one_hot(vocabulary, 24))).unwrap()).await
    };
    let asked = question(id, &json!([{"fit": "ffn"}]));
    let refused = app.ask_and_wait(&asked).await.problem(422, "invalid-question");
    assert_eq!(refused["violations"][0]["rule"], "embedding");
    // Too small a table is found when its rows are looked up.
    assert_eq!(put(20).await.status, 204);
    let job = app.ask_and_wait(&asked).await.json();
    assert_eq!(job["status"], "failed", "{job}");
    let detail = job["error"]["violations"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("is not below the 20 rows"), "{detail}");
    // Another table is another question.
    assert_eq!(put(72).await.status, 204);
    let job = app.ask_and_wait(&asked).await.json();
    assert_eq!(job["status"], "succeeded", "{job}");
    let predictor = &of(&job["result"], "ffn")["predictor"];
    assert!(predictor["accuracy"].as_f64().unwrap() > 0.95, "{predictor}");
    assert!(predictor["overhead_s"].as_f64().unwrap() > 0.0, "{predictor}");
}
