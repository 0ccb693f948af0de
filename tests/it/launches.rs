//! How engines are started so that they follow an answer: never the opposite of it.

use moe_gps::app::plan_file::{self, MOUNT};
use moe_gps::wire::answer::LaunchBody;
use serde_json::{Value, json};

use crate::asking::{advise, known};
use crate::questions::mixtral;
use crate::support::{Answer, TestApp};

const ENGINES: [&str; 4] = ["vllm", "sglang", "tensorrt-llm", "vllm-ascend"];

/// What switches a balancer on, or hands it a plan.
const SWITCHES: [&str; 5] =
    ["--enable-eplb", MOUNT, "DYNAMIC_EPLB=true", "\"dynamic_eplb\":true", "num_slots"];

/// Mixtral with these shares and attention data-parallel, so that every engine can balance.
fn asked(shares: [f64; 8]) -> Value {
    let mut asked = mixtral();
    asked["parallelism"] = json!({"attention_tensor": 1, "attention_data": 4});
    asked["routing"] = json!({"expert_shares": [shares]});
    asked
}

const EVEN: [f64; 8] = [0.125; 8];
const SKEWED: [f64; 8] = [0.3, 0.25, 0.15, 0.1, 0.05, 0.05, 0.05, 0.05];

/// The launches of an answer in every engine, with the strategy advised.
fn launches(question: &Value) -> (String, Vec<LaunchBody>) {
    let answered = advise(question, &known(&[])).unwrap();
    let plan = answered.placement.unwrap();
    let strategy = answered.result["recommendation"]["strategy"].as_str().unwrap().to_owned();
    assert_eq!(plan["verdict"], answered.result["recommendation"]["verdict"]);
    let of = |engine| plan_file::launch(&plan.to_string(), Some(engine), "/url", MOUNT).unwrap();
    (strategy, ENGINES.map(of).into())
}

fn words(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

fn text(launch: &LaunchBody) -> String {
    format!("{} {}", launch.shell, launch.yaml.clone().unwrap_or_default())
}

#[test]
fn an_answer_of_none_switches_every_balancer_off() {
    let mut with_engine = asked(EVEN);
    with_engine["allowed_strategies"] = json!(["none"]);
    for engine in ENGINES {
        with_engine["engine"] = json!({"name": engine});
        let (strategy, launches) = launches(&with_engine);
        assert_eq!(strategy, "none");
        for launch in launches {
            let text = text(&launch);
            assert!(!SWITCHES.iter().any(|switch| text.contains(switch)), "{text}");
            assert!(launch.placement.is_none() && !text.trim().is_empty(), "{launch:?}");
        }
    }
}

#[test]
fn a_plan_is_followed_and_a_map_in_force_is_kept() {
    let (strategy, plans) = launches(&asked(SKEWED));
    assert_ne!(strategy, "none");
    for launch in &plans {
        let text = text(launch);
        assert!(SWITCHES.iter().any(|switch| text.contains(switch)), "{text}");
        assert_eq!(shlex::split(&launch.shell).map(|words| words.len()), {
            Some(launch.argv.len() + launch.env.len())
        });
        assert_eq!(launch.placement.is_some(), text.contains(MOUNT), "{launch:?}");
    }
    let url = plans[1].placement.as_ref().map(|file| file.url.as_str());
    assert_eq!(url, Some("/url?format=sglang"));
    // The map in force: copies of the hot experts, which no other plan beats.
    let mut kept = asked(SKEWED);
    kept["current"] = json!({"physical_to_logical": [[0, 4, 1, 5, 2, 6, 3, 7, 0, 1, 2, 0]], "slots_per_device": 3});
    kept["allowed_strategies"] = json!(["none"]);
    let answered = advise(&kept, &known(&[])).unwrap();
    assert_eq!(answered.result["recommendation"]["verdict"], "keep");
    assert_eq!(answered.result["recommendation"]["strategy"], "none");
    assert_eq!(answered.result["recommendation"]["baseline"], "current");
    for launch in launches(&kept).1 {
        let text = text(&launch).replace(MOUNT, "");
        assert!(!SWITCHES.iter().any(|switch| text.contains(switch)), "{text}");
    }
}

#[tokio::test]
async fn a_launch_is_answered_as_json_as_a_line_and_as_yaml() {
    let app = TestApp::start_advising().await;
    let asked = app.ask_and_wait(&asked(SKEWED)).await;
    let id = asked.json()["id"].as_str().unwrap().to_owned();
    let at = |rest: &str| format!("/v1/recommendations/{id}/launch{rest}");
    let argv = app.get(&at("?engine=SGLang")).await;
    assert_eq!(argv.status, 200);
    let body = argv.json();
    assert_eq!(body["argv"][0], "--init-expert-location");
    assert_eq!(body["argv"][1], MOUNT);
    let url = body["placement"]["url"].as_str().unwrap().to_owned();
    assert_eq!(app.get(&url).await.status, 200, "{url}");
    let shell = app.get(&at("?engine=vllm&format=shell")).await;
    assert!(
        words(&shell).starts_with("--enable-expert-parallel --enable-eplb"),
        "{}",
        words(&shell)
    );
    let yaml = app.get(&at("?engine=tensorrt-llm&format=yaml&path=/here.yaml")).await;
    assert!(words(&yaml).contains("load_balancer: /here.yaml"), "{}", words(&yaml));
    assert_eq!(app.get(&at("?engine=vllm&format=yaml")).await.status, 409);
    // The question names no engine.
    let none = app.get(&at("")).await;
    assert_eq!(none.status, 422);
    assert!(words(&none).contains("vllm, sglang, tensorrt-llm, vllm-ascend"), "{}", words(&none));
    assert_eq!(app.get(&at("?engine=llama.cpp")).await.status, 422);
    assert_eq!(app.get("/v1/recommendations/nobody/launch?engine=vllm").await.status, 404);
}
