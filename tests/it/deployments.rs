//! Deployments: what they are told, the loads that are posted, and what judgements come to.

use axum::body::Body;
use axum::http::Request;
use moe_gps::app::references::References;
use moe_gps::app::tokens::Scope;
use moe_gps_core::advice;
use moe_gps_core::cancel::Cancel;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::pricing::routing_evidence::RoutingEvidence;
use moe_gps_core::routing::{LayerRouting, normalised};
use moe_gps_lab::synthetic::{Fleet, Pattern};
use serde_json::{Value, json};

use crate::support::{Answer, TestApp};
use crate::tokens::{token, until_closed, with};

/// A small model on eight devices, whose experts are hot in every pattern.
pub(crate) const FLEET: Fleet =
    Fleet { seed: 1, layers: 26, experts: 64, top_k: 6, devices: 8, hot: 6, heat: 6.0 };
/// Tokens of a window.
pub(crate) const TOKENS: u32 = 200_000;

/// Large steps of prefill, in which the busiest device sets the time.
pub(crate) fn question() -> Value {
    json!({
        "model": "deepseek-v2-lite",
        "cluster": {"device": "h100-sxm", "devices": 8, "link": "nvlink4"},
        "workload": {"phase": "prefill", "batch_size": 32, "sequence_length": 2048},
        "engine": {"name": "sglang"},
    })
}

/// Counts as they are posted.
pub(crate) fn counts(fleet: &Fleet, pattern: Pattern, at: f64, nth: u64) -> Value {
    json!({"counts": [fleet.window(pattern, at, TOKENS, nth)]})
}

pub(crate) async fn put(app: &TestApp, path: &str, body: &Value) -> Answer {
    let request = Request::put(path).header("content-type", "application/json");
    app.send(request.body(Body::from(body.to_string())).unwrap()).await
}

/// Posts loads that ended at this minute of a day.
pub(crate) async fn post(app: &TestApp, name: &str, minute: u32, body: &Value) -> Answer {
    let to = format!("2026-01-31T{:02}:{:02}:00Z", minute / 60, minute % 60);
    let path = format!("/v1/deployments/{name}/loads?to={to}");
    app.post_json(&path, body, &[]).await
}

/// The deployment once nothing of it is judged.
pub(crate) async fn settled(app: &TestApp, name: &str) -> Value {
    let request = Request::get(format!("/v1/deployments/{name}")).header("prefer", "wait=60");
    let answer = app.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 200, "{:?}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.header("preference-applied"), "wait=60");
    answer.json()
}

/// Status and reason of a condition.
#[track_caller]
pub(crate) fn condition<'a>(deployment: &'a Value, kind: &str) -> (&'a str, &'a str) {
    let all = deployment["conditions"].as_array().unwrap();
    let one = all.iter().find(|one| one["type"] == kind).unwrap();
    (one["status"].as_str().unwrap(), one["reason"].as_str().unwrap())
}

#[tokio::test]
async fn a_deployment_is_told_judged_and_deleted() {
    let app = TestApp::start_advising().await;
    let spec = json!({
        "question": question(), "labels": {"fleet": "eu-1"},
        "policy": {"min_gain": 0.02, "for": "10m", "every": "0s"},
    });
    let told = put(&app, "/v1/deployments/prod", &spec).await;
    assert_eq!(told.status, 201, "{}", String::from_utf8_lossy(&told.body));
    assert_eq!(told.header("location"), "/v1/deployments/prod");
    let deployment = told.json();
    assert_eq!((&deployment["version"], &deployment["name"]), (&json!(1), &json!("prod")));
    assert_eq!(deployment["spec"]["question"], question());
    assert_eq!(
        deployment["spec"]["policy"],
        json!({"min_gain": 0.02, "for": "10m", "every": "0s", "keep_windows": 24})
    );
    for kind in ["LoadsFresh", "Judged", "AdviceCurrent"] {
        assert_eq!(condition(&deployment, kind).0, "Unknown", "{deployment}");
    }

    // One matrix alone is no evidence; with a second one there is an opinion.
    let hot = |nth| counts(&FLEET, Pattern::HotSet, 0.0, nth);
    let posted = post(&app, "prod", 0, &hot(0)).await;
    assert_eq!(posted.status, 202, "{}", String::from_utf8_lossy(&posted.body));
    assert_eq!(posted.json()["to"], "2026-01-31T00:00:00.000Z");
    let first = settled(&app, "prod").await;
    assert_eq!(condition(&first, "Judged"), ("False", "InsufficientEvidence"));
    assert_eq!(condition(&first, "AdviceCurrent").0, "Unknown");
    assert_eq!(condition(&first, "LoadsFresh"), ("False", "LoadsStale"), "they are of long ago");
    assert_eq!(post(&app, "prod", 1, &hot(1)).await.status, 202);
    let second = settled(&app, "prod").await;
    let last = &second["last_judgement"];
    assert_eq!(condition(&second, "Judged"), ("True", "Judged"), "{last}");
    assert_eq!(condition(&second, "AdviceCurrent"), ("True", "GainMustHold"), "{last}");
    assert_eq!((&last["windows"], &last["version"]), (&json!(2), &json!(1)));
    assert!(last["imbalance"].as_f64().unwrap() > 1.2, "{last}");
    assert_eq!(second["windows"].as_array().unwrap().len(), 2);

    // It is an ordinary recommendation about the joined windows, found by its label.
    let id = last["id"].as_str().unwrap();
    let job = app.get(&format!("/v1/recommendations/{id}")).await.json();
    let traces: Vec<&Value> =
        second["windows"].as_array().unwrap().iter().map(|one| &one["trace_id"]).collect();
    assert_eq!(job["request"]["routing"], json!({"windows": traces}));
    assert_eq!(job["request"]["current"], json!({"strategy": "none"}));
    assert_eq!(job["labels"], json!({"deployment": "prod", "fleet": "eu-1"}));
    let mid = &job["result"]["recommendation"]["gain"]["mid"];
    assert_eq!(&last["gain"]["mid"], mid);
    let found = app.get("/v1/recommendations?deployment=prod&limit=1").await.json();
    assert_eq!(found["items"][0]["id"], last["id"]);
    assert_eq!(app.get("/v1/recommendations?deployment=test").await.json()["items"], json!([]));

    // The gain must hold; then it is said.
    assert_eq!(post(&app, "prod", 12, &hot(2)).await.status, 202);
    let third = settled(&app, "prod").await;
    let advice = condition(&third, "AdviceCurrent");
    assert_eq!(advice, ("False", "StrategyChanged"), "{}", third["last_judgement"]);

    // The plan is loaded as the file of the recommendation, and is right.
    let id = third["last_judgement"]["id"].as_str().unwrap();
    let plan = app.get(&format!("/v1/recommendations/{id}/placement")).await.json();
    let loaded = put(&app, "/v1/deployments/prod/current", &plan).await;
    assert_eq!(loaded.status, 200, "{}", String::from_utf8_lossy(&loaded.body));
    let current = &loaded.json()["spec"]["current"];
    assert_eq!(current["strategy"], plan["strategy"]);
    assert_eq!(current["physical_to_logical"][0], plan["layers"][0]["physical_to_logical"]);
    let fourth = settled(&app, "prod").await;
    assert_eq!(fourth["version"], 1, "a map is no new version");
    assert_eq!(fourth["last_judgement"]["verdict"], "keep", "{}", fourth["last_judgement"]);
    assert_eq!(condition(&fourth, "AdviceCurrent"), ("True", "MapIsRight"));
    let imbalance = fourth["last_judgement"]["imbalance"].as_f64().unwrap();
    assert!(imbalance < 1.1, "{imbalance}");

    let judgements = app.get("/v1/deployments/prod/judgements?limit=2").await.json();
    assert_eq!(judgements["items"][0], fourth["last_judgement"]);
    assert_eq!(judgements["items"][1], third["last_judgement"]);
    let next = judgements["next_cursor"].as_str().unwrap();
    let rest = app.get(&format!("/v1/deployments/prod/judgements?cursor={next}")).await.json();
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next_cursor"]), (2, &Value::Null));
    assert_eq!(rest["items"][0], second["last_judgement"]);

    // Metrics name it on this machine.
    let metrics = String::from_utf8(app.get("/metrics").await.body).unwrap();
    for line in [
        "moe_gps_deployment_condition{deployment=\"prod\",type=\"AdviceCurrent\",status=\"True\"} 1",
        "moe_gps_deployment_condition{deployment=\"prod\",type=\"AdviceCurrent\",status=\"False\"} 0",
        "moe_gps_deployment_gain_over_current{deployment=\"prod\"} 1",
        &format!("moe_gps_deployment_imbalance{{deployment=\"prod\"}} {imbalance}"),
        "moe_gps_deployment_last_loads_timestamp_seconds{deployment=\"prod\"} 1769818320",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line} in\n{metrics}");
    }

    // Told again it is another version, with the map that is in force.
    let again = put(&app, "/v1/deployments/prod", &spec).await;
    assert_eq!((again.status.as_u16(), &again.json()["version"]), (200, &json!(2)));
    assert_eq!(again.json()["spec"]["current"], *current);
    let list = app.get("/v1/deployments").await.json();
    assert_eq!(list["items"][0]["name"], "prod");
    assert_eq!(list["items"][0]["labels"], json!({"fleet": "eu-1"}));
    settled(&app, "prod").await;

    assert_eq!(app.call("DELETE", "/v1/deployments/prod").await.status, 204);
    app.get("/v1/deployments/prod").await.problem(404, "not-found");
    app.call("DELETE", "/v1/deployments/prod").await.problem(404, "not-found");
    assert_eq!(app.get("/v1/traces").await.json()["items"], json!([]), "they came with it");
    assert_eq!(app.get(&format!("/v1/recommendations/{id}")).await.status, 200, "answers stay");
    let metrics = String::from_utf8(app.get("/metrics").await.body).unwrap();
    assert!(!metrics.contains("deployment=\"prod\""), "{metrics}");
}

#[tokio::test]
async fn what_is_wrong_with_a_deployment_or_its_loads_is_told() {
    let app = TestApp::start_with_advice(&["--max-deployments", "1"]).await;
    let pointers = |answer: Answer| -> Vec<String> {
        let violations = answer.problem(422, "invalid-question")["violations"].clone();
        let all = violations.as_array().unwrap().iter();
        all.map(|one| one["pointer"].as_str().unwrap().to_owned()).collect()
    };
    let told = async |path: &str, body: Value| pointers(put(&app, path, &body).await);
    let with = |change: fn(&mut Value)| {
        let mut spec = json!({"question": question()});
        change(&mut spec);
        spec
    };
    assert_eq!(told("/v1/deployments/a%20b", with(|_| {})).await, ["/name"]);
    let path = "/v1/deployments/a";
    assert_eq!(told(path, json!({})).await, [""]);
    let routed = with(|spec| spec["question"]["routing"] = json!({"skewness": 2.0}));
    assert_eq!(told(path, routed).await, ["/question/routing"]);
    let unknown = with(|spec| spec["question"]["model"] = json!("nix"));
    assert_eq!(told(path, unknown).await, ["/question/model"]);
    let short = with(|spec| spec["current"] = json!({"physical_to_logical": [[0, 1, 2]]}));
    assert!(told(path, short).await[0].starts_with("/current/physical_to_logical/0"));
    let long = with(|spec| spec["policy"] = json!({"for": "31d", "keep_windows": 65}));
    assert_eq!(told(path, long).await, ["/policy/for", "/policy/keep_windows"]);
    let label = with(|spec| spec["labels"] = json!({"deployment": "b"}));
    assert_eq!(told(path, label).await, ["/labels"]);
    let raw = Request::put(path).header("content-type", "application/json");
    let raw = app.send(raw.body(Body::from("{")).unwrap()).await;
    raw.problem(400, "malformed");

    post(&app, "a", 0, &json!({"counts": [[[1]]]})).await.problem(404, "not-found");
    assert_eq!(put(&app, path, &with(|_| {})).await.status, 201);
    put(&app, "/v1/deployments/b", &with(|_| {})).await.problem(409, "conflict");
    // Loads of another model, of another phase, of no time, and none.
    let few = json!({"counts": [[[40, 30, 20, 10], [40, 30, 20, 10], [40, 30, 20, 10]]]});
    assert_eq!(post(&app, "a", 0, &few).await.status, 422);
    let hot = counts(&FLEET, Pattern::HotSet, 0.0, 0);
    for (query, pointer) in
        [("phase=decode", "/phase"), ("to=soon", "/to"), ("phase=all", "/phase")]
    {
        let answer = app.post_json(&format!("{path}/loads?{query}"), &hot, &[]).await;
        assert_eq!(pointers(answer), [pointer], "{query}");
    }
    let answer = app.post_json(&format!("{path}/loads?form=x"), &hot, &[]).await;
    answer.problem(422, "invalid-question");
    assert_eq!(app.get("/v1/traces").await.json()["items"], json!([]), "nothing is left of these");
    // A map of other experts, and something that is none.
    let other = json!({"physical_to_logical": [[0, 1, 2, 3, 4, 5, 6, 7]]});
    assert!(told(&format!("{path}/current"), other).await[0].starts_with("/current"));
    assert_eq!(told(&format!("{path}/current"), json!({"map": 1})).await, [""]);
    assert_eq!(pointers(app.get(&format!("{path}/judgements?limit=0")).await), ["/limit"]);
    app.get("/v1/deployments/nix/judgements").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_wait_ends_with_news_for_whom_knows_a_state() {
    let app = TestApp::start_advising().await;
    let path = "/v1/deployments/a";
    assert_eq!(put(&app, path, &json!({"question": question()})).await.status, 201);
    let seen = app.get(path).await;
    let tag = seen.header("etag").to_owned();
    let known = || Request::get(path).header("if-none-match", &tag);
    let now = app.send(known().body(Body::empty()).unwrap()).await;
    assert_eq!((now.status.as_u16(), now.header("etag")), (304, tag.as_str()));
    let waiting = app.send(known().header("prefer", "wait=60").body(Body::empty()).unwrap());
    let hot = counts(&FLEET, Pattern::HotSet, 0.0, 0);
    let posting = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        post(&app, "a", 0, &hot).await
    };
    let (news, posted) = tokio::join!(waiting, posting);
    assert_eq!((news.status.as_u16(), posted.status.as_u16()), (200, 202));
    assert_ne!(news.header("etag"), tag);
    settled(&app, "a").await;
}

#[tokio::test]
async fn a_deployment_belongs_to_who_told_it() {
    let app = TestApp::start_advising().await;
    let (_, reader) = token(&app, "r", Scope::Read).await;
    let (_, one) = token(&app, "one", Scope::Ask).await;
    let (_, other) = token(&app, "other", Scope::Ask).await;
    let (_, admin) = token(&app, "admin", Scope::Admin).await;
    until_closed(&app).await;
    let (path, spec) = ("/v1/deployments/a", json!({"question": question()}));
    with(&app, &reader, "PUT", path, Some(&spec)).await.problem(403, "forbidden");
    let told = with(&app, &one, "PUT", path, Some(&spec)).await;
    assert_eq!((told.status.as_u16(), &told.json()["principal"]), (201, &json!("one")));
    let hot = counts(&FLEET, Pattern::HotSet, 0.0, 0);
    for (method, path, body) in [
        ("PUT", path.to_owned(), Some(&spec)),
        ("PUT", format!("{path}/current"), Some(&json!({"strategy": "none"}))),
        ("POST", format!("{path}/loads"), Some(&hot)),
        ("DELETE", path.to_owned(), None),
    ] {
        with(&app, &other, method, &path, body).await.problem(403, "forbidden");
    }
    assert_eq!(with(&app, &reader, "GET", path, None).await.status, 200);
    let listed = async |token: &str| {
        let list = with(&app, token, "GET", "/v1/deployments", None).await.json();
        list["items"].as_array().unwrap().len()
    };
    assert_eq!((listed(&one).await, listed(&other).await, listed(&admin).await), (1, 0, 1));
    assert_eq!(with(&app, &admin, "DELETE", path, None).await.status, 204);
}

/// The map in force of a fleet in a simulation, and the time its steps take in all.
#[derive(Debug, Clone, Default)]
struct Course {
    maps: Option<Vec<Vec<u32>>>,
    /// Time of a step in every minute.
    steps_s: Vec<f64>,
    /// The plan of the loads before.
    next: Vec<Vec<u32>>,
    moves: u32,
}

impl Course {
    /// Seconds for the steps that a course without any plan makes in its minutes, stalls paid.
    fn seconds(&self, never: &Self) -> f64 {
        let steps = self.steps_s.iter().zip(&never.steps_s);
        let serving: f64 = steps.map(|(step, usual)| WINDOW_S * step / usual).sum();
        serving + STALL_S * f64::from(self.moves)
    }
}

/// A minute of serving and a stall as measured in an engine of the field: 4.4 s on eight H20 under SGLang
/// (`crates/core/src/rebalance.rs`).
const WINDOW_S: f64 = 60.0;
const STALL_S: f64 = 4.4;

/// What the loads of a minute do to a map: the time of a step, and the plan that would be made of the
/// loads before.
fn priced(
    maps: Option<&Vec<Vec<u32>>>,
    before: &[Vec<f64>],
    now: &[Vec<f64>],
) -> (f64, Vec<Vec<u32>>) {
    let mut asked = question();
    asked["routing"] = json!({"skewness": 1.0});
    asked["current"] = json!({"strategy": "replace_only", "physical_to_logical": maps});
    asked["rebalance"] = json!({"mode": "startup_map"});
    asked["duplication"] = json!({"slots_per_device": 8});
    asked["flip_points"] = json!(false);
    let catalog = Catalog::embedded();
    let read = moe_gps::app::question::read(asked);
    let checked = read.answerable(catalog, &References::default()).unwrap().question;
    let layer = |(before, now): (&Vec<f64>, &Vec<f64>)| LayerRouting {
        forecast: normalised(before),
        truth: normalised(now),
    };
    let known = RoutingEvidence::Layers(before.iter().zip(now).map(layer).collect());
    let priced = advice::price(&checked, &known, Cancel::NEVER).unwrap();
    let of = |id: &str| priced.entries.iter().find(|one| one.strategy.id() == id).unwrap();
    let step = of("none").model_latency(&checked, priced.dense_layer).unwrap().get();
    let plan = priced.plans.iter().find(|plan| plan.strategy.id() == "replace_only").unwrap();
    (step, plan.layers.iter().map(|map| map.physical_to_logical().to_vec()).collect())
}

/// A synthetic fleet of a minute's windows: calm, drift, calm, a burst of three minutes, calm, another
/// workload. Conditions change when they should and not otherwise, and replanning when they say so takes
/// less time in all than never and than after every minute, stalls paid.
#[tokio::test]
async fn a_fleet_is_replanned_when_it_pays_and_left_alone_else() {
    let app = TestApp::start_advising().await;
    let mut asked = question();
    asked["allowed_strategies"] = json!(["none", "replace_only"]);
    asked["duplication"] = json!({"slots_per_device": 8});
    let spec = json!({
        "question": asked,
        "policy": {"for": "5m", "every": "0s", "keep_windows": 6, "stall_s": STALL_S},
    });
    assert_eq!(put(&app, "/v1/deployments/fleet", &spec).await.status, 201);
    let (burst, other) = (Fleet { seed: 2, ..FLEET }, Fleet { seed: 3, ..FLEET });
    let loads = |minute: u32| match minute {
        0..20 => FLEET.window(Pattern::Drift, 0.0, TOKENS, minute.into()),
        20..50 => {
            FLEET.window(Pattern::Drift, f64::from(minute - 20) / 30.0, TOKENS, minute.into())
        }
        65..68 => burst.window(Pattern::HotSet, 0.0, TOKENS, minute.into()),
        50..80 => FLEET.window(Pattern::Drift, 1.0, TOKENS, minute.into()),
        _ => other.window(Pattern::HotSet, 0.0, TOKENS, minute.into()),
    };
    let [mut never, mut always, mut advised] = [(); 3].map(|()| Course::default());
    let mut said = Vec::new();
    let mut recent: Vec<Vec<Vec<f64>>> = Vec::new();
    for minute in 0..110 {
        let now = loads(minute);
        // Plans are made of the windows before, as the service keeps them.
        let sum = |layer: usize| -> Vec<f64> {
            let expert = |expert: usize| recent.iter().map(|one| one[layer][expert]).sum();
            (0..now[layer].len()).map(expert).collect()
        };
        let before: Vec<Vec<f64>> =
            if recent.is_empty() { now.clone() } else { (0..now.len()).map(sum).collect() };
        for course in [&mut never, &mut always, &mut advised] {
            let in_order = || vec![(0..64).collect(); now.len()];
            let maps = course.maps.get_or_insert_with(in_order);
            let (step, plan) = priced(Some(maps), &before, &now);
            course.steps_s.push(step);
            course.next = plan;
        }
        always.maps = Some(std::mem::take(&mut always.next));
        always.moves += 1;
        recent.push(now.clone());
        if recent.len() > 5 {
            recent.remove(0);
        }
        let posted = post(&app, "fleet", minute, &json!({"counts": [now]})).await;
        assert_eq!(posted.status, 202, "{}", String::from_utf8_lossy(&posted.body));
        let deployment = settled(&app, "fleet").await;
        let (status, reason) = condition(&deployment, "AdviceCurrent");
        if status == "False" {
            said.push((minute, reason.to_owned()));
            let id = deployment["last_judgement"]["id"].as_str().unwrap();
            let plan = app.get(&format!("/v1/recommendations/{id}/placement")).await.json();
            assert_eq!(put(&app, "/v1/deployments/fleet/current", &plan).await.status, 200);
            let layers = plan["layers"].as_array().unwrap().iter();
            let map = |layer: &Value| serde_json::from_value(layer["physical_to_logical"].clone());
            advised.maps = Some(layers.map(|layer| map(layer).unwrap()).collect());
            advised.moves += 1;
            settled(&app, "fleet").await;
        }
    }
    let totals = [&never, &always, &advised].map(|course| course.seconds(&never));
    println!(
        "said {said:?}; never, always, advised: {totals:?}; moves {} {}",
        always.moves, advised.moves
    );
    // The map in order is left after five minutes, the drift is followed, the burst is not, and the
    // other workload is.
    let minutes: Vec<u32> = said.iter().map(|(minute, _)| *minute).collect();
    assert_eq!(said[0], (6, "StrategyChanged".to_owned()));
    assert!(said[1..].iter().all(|(_, reason)| reason == "ReplanPays"), "{said:?}");
    let within =
        |range: std::ops::Range<u32>| minutes.iter().filter(|one| range.contains(one)).count();
    assert_eq!((within(0..20), within(60..84), within(84..110)), (1, 0, 1), "{said:?}");
    assert!((1..=3).contains(&within(20..60)), "{said:?}");
    let [never, always, advised] = totals;
    assert!(advised < always && advised < never, "{totals:?}");
}
