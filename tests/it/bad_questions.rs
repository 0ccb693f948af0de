//! Questions that are well-formed and mean nothing: each its exact violations.

use serde_json::{Value, json};

use crate::support::TestApp;

/// Where something is put, what, and the one violation: where, which rule, what is said.
type BadQuestion = (&'static str, Value, &'static str, &'static str, &'static str);

/// A model as its `config.json` describes it.
fn config() -> Value {
    json!({
        "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 32000,
        "torch_dtype": "bfloat16",
    })
}

fn of_the_system() -> [BadQuestion; 6] {
    [
        (
            "/model/num_local_experts",
            json!(0),
            "/model/num_local_experts",
            "range",
            "num_local_experts is 0; it must be a whole number from 1 to 16384",
        ),
        (
            "/model/num_experts_per_tok",
            json!(9),
            "/model/num_experts_per_tok",
            "consistency",
            "num_experts_per_tok is 9; it must not exceed num_local_experts, 8",
        ),
        (
            "/model/hidden_size",
            json!(-1),
            "/model/hidden_size",
            "range",
            "hidden_size is -1; it must be a whole number from 1 to 131072",
        ),
        (
            "/cluster/devices",
            json!(3),
            "/parallelism/expert_parallel",
            "divides",
            "3 devices do not divide 8 experts; choose a divisor, or give \
             `duplication.slots_per_device` of 3 or more",
        ),
        (
            "/cluster/devices",
            json!(1_u64 << 63),
            "/cluster/devices",
            "range",
            "9223372036854775808 is out of range; it must be from 1 to 4096",
        ),
        ("/cluster", json!(7), "/cluster", "type", "this is a number; it must be an object"),
    ]
}

fn of_the_load() -> [BadQuestion; 10] {
    let range = "range";
    [
        (
            "/workload",
            json!({"phase": "prefill", "tokens_per_step": 1_u64 << 63}),
            "/workload/tokens_per_step",
            range,
            "9223372036854775808 is out of range; it must be from 1 to 16777216",
        ),
        (
            "/workload/batch_size",
            json!(-1),
            "/workload/batch_size",
            range,
            "-1 is out of range; it must be from 1 to 16777216",
        ),
        (
            "/workload/batch_size",
            json!("many"),
            "/workload/batch_size",
            "type",
            "this is a string; it must be a whole number",
        ),
        (
            "/workload/colour",
            json!(1),
            "/workload/colour",
            "unknown_field",
            "this field is unknown here; known are: batch_size, concurrency, dtype, dtypes, \
             input_tokens, kv_length, max_batched_tokens, output_tokens, phase, quantization, \
             sequence_length, speculative, tokens_per_step",
        ),
        (
            "/routing",
            json!({"skewness": -1}),
            "/routing/skewness",
            range,
            "-1 is out of range; it must be from 1 to 65536",
        ),
        (
            "/routing",
            json!({"expert_shares": [[0.5, -0.5, 1, 0, 0, 0, 0, 0]]}),
            "/routing/expert_shares/0/1",
            range,
            "-0.5 is out of range; it must be from 0 to 1e18",
        ),
        (
            "/routing",
            json!({"trace_id": "nix"}),
            "/routing/trace_id",
            "not_found",
            "no trace \"nix\" is stored; upload it to /v1/traces first",
        ),
        (
            "/predictors",
            json!([{"name": "p", "accuracy": 1.5, "overhead_s": 1e-5}]),
            "/predictors/0/accuracy",
            range,
            "1.5 is out of range; it must be from 0 to 1",
        ),
        (
            "/predictors",
            json!([{"name": "p", "overhead_s": 1e-5, "accuracy_points": [
                {"skewness": 1.5, "accuracy": 0.5}, {"skewness": 1.5, "accuracy": 0.6},
            ]}]),
            "/predictors/0/accuracy_points",
            "unique",
            "two points have skewness 1.5; give each skewness once",
        ),
        (
            "/routing",
            json!({"skewness": 1.5, "distribution_error": 0.1, "distribution_error_points": [
                {"skewness": 1.5, "distribution_error": 0.1},
                {"skewness": 2.0, "distribution_error": 0.2},
            ]}),
            "/routing",
            "exactly_one",
            "give `distribution_error` or `distribution_error_points`, not both",
        ),
    ]
}

#[tokio::test]
async fn what_means_nothing_is_422_and_says_where_and_what_would_do() {
    let app = TestApp::start_advising().await;
    for (place, value, pointer, rule, detail) in of_the_system().into_iter().chain(of_the_load()) {
        let mut question = crate::questions::mixtral();
        question["model"] = config();
        let (parent, field) = place.rsplit_once('/').unwrap();
        question.pointer_mut(parent).unwrap()[field] = value;
        let problem = app.ask(&question, &[]).await.problem(422, "invalid-question");
        let expected = json!([{"pointer": pointer, "rule": rule, "detail": detail}]);
        assert_eq!(problem["violations"], expected, "{place}");
    }
    assert_eq!(app.get("/v1/recommendations").await.json()["items"], json!([]), "none is kept");
}
