//! The pages: what they say, what they load, and who may ask them.

use axum::body::Body;
use axum::http::Request;
use moe_gps::app::tokens::Scope;
use moe_gps_lab::synthetic::Pattern;
use serde_json::{Value, json};

use crate::deployments;
use crate::questions::of_the_paper;
use crate::support::{Answer, TestApp};
use crate::tokens::{token, until_closed};

const ACCEPT: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// Asks as a browser does, and looks at what holds of every page.
async fn page(app: &TestApp, path: &str) -> (Answer, String) {
    let request = Request::get(path).header("accept", ACCEPT).body(Body::empty()).unwrap();
    let answer = app.send(request).await;
    let text = String::from_utf8(answer.body.clone()).unwrap();
    assert_is_page(&answer, &text, path);
    (answer, text)
}

fn assert_is_page(answer: &Answer, text: &str, path: &str) {
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8", "{path}");
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
    assert!(!policy.contains("unsafe"), "{path}: {policy}");
    for outside in ["http:", "https:", "=\"//", "@import", "style=\"", "<style", "onclick"] {
        assert!(!text.contains(outside), "{path} has {outside}");
    }
    assert!(text.contains("<html lang=\"en\">") && text.contains("<main id=\"main\">"), "{path}");
    assert_eq!(text.matches("<h1").count(), 1, "{path}");
    // Nobody waits for a page longer than for 100 KB.
    assert!(text.len() < 100_000, "{path}: {} bytes", text.len());
}

/// The paths of what a page loads.
fn loaded(text: &str) -> Vec<&str> {
    let parts = text.split("\"/assets/").skip(1);
    parts.map(|rest| rest.split('"').next().unwrap()).collect()
}

async fn answered(app: &TestApp, question: &Value) -> String {
    let job = app.ask_and_wait(question).await.json();
    assert_eq!(job["status"], "succeeded", "{job}");
    job["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_answer_is_a_page_for_a_browser_and_json_for_a_program() {
    let app = TestApp::start_advising().await;
    let mut question = of_the_paper();
    question["labels"] = json!({"team": "<script>alert(1)</script>"});
    let id = answered(&app, &question).await;
    let path = format!("/v1/recommendations/{id}");
    let (answer, text) = page(&app, &path).await;
    assert_eq!((answer.status.as_u16(), answer.header("vary")), (200, "accept"));
    assert!(text.contains("&lt;script&gt;alert(1)") && !text.contains("<script>alert"));
    let job = app.get(&path).await;
    assert_eq!(job.header("vary"), "accept");
    let job = job.json();
    let advice = &job["result"]["recommendation"];
    let strategy = advice["strategy"].as_str().unwrap();
    assert!(text.contains(&format!("<h1>Run <code>{strategy}</code></h1>")), "{text}");
    assert!(text.contains(advice["reason"].as_str().unwrap()));
    // The digits of the printed table, and a bar of every strategy.
    let strategies = job["result"]["strategies"].as_array().unwrap().iter();
    let latencies = strategies.filter_map(|entry| entry["layer_latency_s"].as_f64());
    for latency in latencies.map(|latency| latency * 1e6) {
        assert!(text.contains(&format!("<td>{latency:.1}</td>")), "{latency}");
        assert!(text.contains(&format!(">{latency:.1} µs</text>")), "{latency}");
    }
    for flip in job["result"]["flip_points"].as_array().unwrap() {
        let becomes = flip["becomes"].as_str().map(|name| format!(": to {name} at "));
        assert!(text.contains(becomes.as_deref().unwrap_or("does not change from")), "{flip}");
    }
    // A browser that has it gets nothing anew.
    let request = Request::get(&path).header("accept", ACCEPT);
    let request = request.header("if-none-match", answer.header("etag"));
    assert_eq!(app.send(request.body(Body::empty()).unwrap()).await.status, 304);
    let files = loaded(&text);
    assert!(!files.is_empty());
    for file in files {
        let asset = app.get(&format!("/assets/{file}")).await;
        assert_eq!(asset.status, 200, "{file}");
        assert!(asset.header("cache-control").contains("immutable"), "{file}");
    }
    app.get("/assets/style.css").await.problem(404, "not-found");
}

#[tokio::test]
async fn what_an_engine_runs_stands_on_the_page() {
    let app = TestApp::start_advising().await;
    let mut question: Value =
        serde_json::from_str(include_str!("../../examples/questions/map-in-force.json")).unwrap();
    question["cluster"]["devices"] = json!(4);
    let id = answered(&app, &question).await;
    let path = format!("/v1/recommendations/{id}");
    let (_, text) = page(&app, &path).await;
    let shell = app.get(&format!("{path}/launch?format=shell")).await;
    let shell = String::from_utf8(shell.body).unwrap();
    assert!(text.contains(&format!("<code>{}</code>", shell.trim().replace('"', "&quot;"))));
    for format in ["json", "sglang", "trtllm", "vllm_ascend"] {
        let file = format!("{path}/placement?format={format}");
        assert!(text.contains(&format!("href=\"{file}\" download")), "{format}");
        assert_eq!(app.get(&file).await.status, 200, "{format}");
    }
}

#[tokio::test]
async fn a_page_with_hundreds_of_experts_and_copies_is_light() {
    let app = TestApp::start_advising().await;
    let question: Value =
        serde_json::from_str(include_str!("../../examples/questions/two-nodes-h200.json")).unwrap();
    let id = answered(&app, &question).await;
    let (_, text) = page(&app, &format!("/v1/recommendations/{id}")).await;
    let job = app.get(&format!("/v1/recommendations/{id}")).await.json();
    let busiest = &job["result"]["routing"]["busiest_layer"];
    let count = |slots: &str| busiest[slots].as_array().unwrap().len();
    let (_, maps) = text.split_once("Where the load lies").unwrap();
    let cells = maps.split_once("<h2>").unwrap().0.matches("<title>").count();
    assert_eq!(cells, count("slots_before") + count("slots_after"), "every slot tells its load");
}

#[tokio::test]
async fn the_list_is_filtered_by_its_address() {
    let app = TestApp::start_advising().await;
    let (answer, empty) = page(&app, "/").await;
    assert!(answer.status == 200 && empty.contains("Nothing has been asked yet"));
    let mut question = of_the_paper();
    question["labels"] = json!({"fleet": "<i>"});
    let one = answered(&app, &question).await;
    question["routing"]["skewness"] = json!(2);
    question["labels"] = json!({"fleet": "west", "place": "Überlingen"});
    let two = answered(&app, &question).await;
    let (_, all) = page(&app, "/").await;
    assert!(all.contains(&one) && all.contains(&two) && all.contains("fleet: &lt;i&gt;"));
    let (_, some) = page(&app, "/?label=fleet:west&verdict=recommended").await;
    assert!(!some.contains(&one) && some.contains(&two));
    assert!(some.contains("<option value=\"recommended\" selected>"), "the filter is shown");
    for words in ["WEST", "%C3%9Cber"] {
        let (_, found) = page(&app, &format!("/?q={words}")).await;
        assert!(!found.contains(&one) && found.contains(&two), "{words}: {found}");
    }
    let (_, first) = page(&app, "/?limit=1&label=fleet").await;
    let next = first.split("href=\"/?limit=1").nth(1).unwrap().split('"').next().unwrap();
    let (_, second) = page(&app, &format!("/?limit=1{}", next.replace("&amp;", "&"))).await;
    assert!(first.contains(&two) && !first.contains(&one) && second.contains(&one));
    // Empty fields of a form do not stay in the address.
    let answer = app.get("/?model=&q=mixtral&engine=").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/?q=mixtral"));
    let (answer, text) = page(&app, "/?verdict=perhaps").await;
    assert!(answer.status == 422 && text.contains("<code>/verdict</code>"), "{text}");
}

#[tokio::test]
async fn a_question_that_is_being_answered_shows_how_far_it_is() {
    let app = TestApp::start().await;
    let id = app.submit(&json!({"do": "wait", "until": app.gate("open")})).await;
    app.until(&id, "running").await;
    let path = format!("/v1/recommendations/{id}");
    let (answer, text) = page(&app, &path).await;
    assert_eq!(answer.status, 200);
    assert!(text.contains("hx-get") && text.contains(&format!("hx-get=\"{path}\"")), "{text}");
    assert!(text.contains("<noscript><meta http-equiv=\"refresh\""), "{text}");
    assert!(loaded(&text).iter().any(|name| name.starts_with("htmx")));
    app.call("DELETE", &path).await;
    app.until(&id, "canceled").await;
    let (_, text) = page(&app, &path).await;
    assert!(text.contains("was canceled") && !text.contains("hx-get"));
    let refused = app.submit(&json!({"do": "refuse"})).await;
    app.until(&refused, "failed").await;
    let (_, text) = page(&app, &format!("/v1/recommendations/{refused}")).await;
    assert!(text.contains("There is no answer") && text.contains("refused late"), "{text}");
    // What is stored is shown also where it is no answer of this version.
    let other = app.submit(&json!({"do": "answer"})).await;
    app.until(&other, "succeeded").await;
    let (answer, text) = page(&app, &format!("/v1/recommendations/{other}")).await;
    assert!(answer.status == 200 && text.contains("cannot draw"), "{text}");
    assert!(text.contains("\"echo\""), "{text}");
}

#[tokio::test]
async fn an_error_is_a_page_for_a_browser() {
    let app = TestApp::start().await;
    for (path, status) in [
        ("/v1/recommendations/%3Cb%3Enix", 404),
        ("/nowhere", 404),
        ("/v1/recommendations?limit=0", 422),
        ("/assets/x", 404),
    ] {
        let (answer, text) = page(&app, path).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(text.contains(&format!("Status {status}")) && !text.contains("<b>nix"), "{path}");
        let problem = app.get(path).await;
        assert_eq!(problem.header("content-type"), "application/problem+json");
    }
}

#[tokio::test]
async fn a_browser_signs_in_with_a_token_as_its_password() {
    use base64::Engine;
    let app = TestApp::start().await;
    let (_, secret) = token(&app, "a", Scope::Ask).await;
    until_closed(&app).await;
    for path in ["/", "/v1/recommendations", "/assets/x"] {
        let (answer, text) = page(&app, path).await;
        assert_eq!(answer.status, 401, "{path}");
        let challenges = answer.headers.get_all("www-authenticate").iter();
        assert!(challenges.into_iter().any(|one| one.to_str().unwrap().starts_with("Basic ")));
        assert!(text.contains("token"), "{text}");
    }
    let pair = base64::prelude::BASE64_STANDARD.encode(format!("anyone:{secret}"));
    let request = Request::get("/").header("authorization", format!("Basic {pair}"));
    let answer = app.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn changes_are_refused_to_pages_of_other_origins() {
    let app = TestApp::start_with(&["--allowed-hosts", "advice.example"]).await;
    let send = async |method: &str, host: &str, origin: &str, site: Option<&str>| {
        let mut request = Request::builder().method(method).uri("/v1/recommendations");
        request = request.header("host", host).header("origin", origin);
        request = request.header("content-type", "application/json");
        if let Some(site) = site {
            request = request.header("sec-fetch-site", site);
        }
        app.send(request.body(Body::from(r#"{"do": "answer"}"#)).unwrap()).await.status.as_u16()
    };
    let ours = "localhost:8080";
    for (method, origin, site, allowed) in [
        ("POST", "http://localhost:8080", None, true),
        ("POST", "http://LOCALHOST:8080", Some("same-origin"), true),
        // Another service of this machine.
        ("POST", "http://localhost:3000", None, false),
        ("POST", "http://localhost:3000", Some("same-site"), false),
        ("POST", "https://evil.example", None, false),
        ("POST", "null", None, false),
        ("POST", "https://advice.example", Some("cross-site"), true),
        ("GET", "http://localhost:3000", None, true),
    ] {
        let status = send(method, ours, origin, site).await;
        assert_eq!(status != 403, allowed, "{method} {origin} {site:?}: {status}");
    }
}

/// Sends a form as a browser does.
async fn form(app: &TestApp, path: &str, fields: &[(&str, &str)]) -> Answer {
    let mut form = form_urlencoded::Serializer::new(String::new());
    let body = form.extend_pairs(fields).finish();
    let request = Request::post(path).header("accept", ACCEPT);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    app.send(request.body(Body::from(body)).unwrap()).await
}

async fn submit(app: &TestApp, fields: &[(&str, &str)]) -> Answer {
    form(app, "/ask", fields).await
}

/// What stands in the text area of a form.
fn rest(text: &str) -> String {
    let area = text.split("<textarea").nth(1).unwrap();
    let inner = area.split_once('>').unwrap().1.split("</textarea>").next().unwrap();
    inner.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[tokio::test]
async fn a_form_asks_what_json_asks() {
    let app = TestApp::start_advising().await;
    let (_, text) = page(&app, "/ask?example=paper-mixtral-a100").await;
    assert!(text.contains("value=\"mixtral-8x7b\"") && text.contains("value=\"a100-sxm4-80gb\""));
    let fields = [
        ("model", "mixtral-8x7b"),
        ("device", "a100-sxm4-80gb"),
        ("devices", "4"),
        ("link", "nvlink3"),
        ("engine", ""),
        ("phase", "prefill"),
        ("trace", ""),
        ("rest", &rest(&text)),
    ];
    let answer = submit(&app, &fields).await;
    assert_eq!(answer.status, 303);
    let location = answer.header("location").to_owned();
    let question: Value =
        serde_json::from_str(include_str!("../../examples/questions/paper-mixtral-a100.json"))
            .unwrap();
    let id = answered(&app, &question).await;
    assert_eq!(location, format!("/v1/recommendations/{id}"), "the same question");
    // The answer leads back to a form that holds its question.
    let (_, again) = page(&app, &format!("/ask?from={id}")).await;
    assert_eq!(
        serde_json::from_str::<Value>(&rest(&again)).unwrap(),
        serde_json::from_str::<Value>(&rest(&text)).unwrap()
    );
    let (answer, _) = page(&app, "/ask?from=none").await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn what_is_to_be_mended_stands_beside_its_field() {
    let app = TestApp::start_advising().await;
    let rest = r#"{"workload": {"batch_size": 0, "sequence_length": 8}, "<b>": 1}"#;
    let fields = [("model", "mixtral"), ("devices", "0"), ("phase", "prefill"), ("rest", rest)];
    let answer = submit(&app, &fields).await;
    let text = String::from_utf8(answer.body.clone()).unwrap();
    assert_eq!(answer.status, 422);
    assert_is_page(&answer, &text, "/ask");
    let beside = |field: &str| {
        let told = text.split(&format!("id=\"{field}-wrong\">")).nth(1)?;
        told.split("</span>").next().map(ToOwned::to_owned)
    };
    assert!(beside("model").unwrap().contains("did you mean"), "{text}");
    assert!(beside("devices").unwrap().contains("from 1 to"), "{text}");
    assert!(text.contains("aria-describedby=\"devices-wrong\""), "{text}");
    assert_eq!(beside("phase"), None);
    assert!(text.contains("<code>/workload/batch_size</code>"), "{text}");
    assert!(text.contains("value=\"mixtral\"") && self::rest(&text) == rest, "it stays");
    let answer = submit(&app, &[("rest", "{\"a\":")]).await;
    let text = String::from_utf8(answer.body).unwrap();
    assert!(answer.status == 422 && text.contains("not JSON"), "{text}");
    let request = Request::post("/ask").header("content-type", "application/json");
    let answer = app.send(request.body(Body::from("{}")).unwrap()).await;
    answer.problem(415, "unsupported-format");
}

#[tokio::test]
async fn a_recording_is_uploaded_asked_about_and_found_again() {
    let app = TestApp::start_advising().await;
    let (_, text) = page(&app, "/traces").await;
    assert!(text.contains("multipart/form-data") && text.contains("Nothing has been uploaded"));
    let counts =
        json!({"counts": [[[60, 20, 10, 10, 12, 8, 5, 3]], [[50, 25, 12, 9, 11, 9, 6, 4]]]});
    let body = format!(
        "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"<i>hot.json\"\r\n\r\n{counts}\r\n--b--\r\n"
    );
    let request =
        Request::post("/traces").header("content-type", "multipart/form-data; boundary=b");
    let answer = app.send(request.body(Body::from(body)).unwrap()).await;
    assert_eq!(answer.status, 303, "{}", String::from_utf8_lossy(&answer.body));
    let path = answer.header("location").to_owned();
    let trace = path.strip_prefix("/traces/").unwrap();
    let (_, text) = page(&app, "/traces").await;
    assert!(text.contains("&lt;i&gt;hot.json") && text.contains(&path), "{text}");
    let mut question = of_the_paper();
    question["routing"] = json!({"trace_id": trace});
    question["method"] = json!("analytic");
    question["assumptions"] = json!({});
    question.as_object_mut().unwrap().remove("measured_layer");
    question.as_object_mut().unwrap().remove("predictors");
    let id = answered(&app, &question).await;
    let (_, text) = page(&app, &path).await;
    assert!(text.contains(&id) && text.contains("&lt;i&gt;hot.json"), "{text}");
    assert!(text.contains(&format!("action=\"/v1/traces/{trace}/report\"")), "{text}");
    let (answer, _) = page(&app, "/traces/none").await;
    assert_eq!(answer.status, 404);
    let report = format!("/v1/traces/{trace}/report?devices=4&format=html");
    let policy = app.get(&report).await.header("content-security-policy").to_owned();
    assert!(policy.contains("style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
}

#[tokio::test]
async fn two_answers_are_compared_on_a_page() {
    let app = TestApp::start_advising().await;
    let one = answered(&app, &of_the_paper()).await;
    let mut question = of_the_paper();
    question["routing"]["skewness"] = json!(1.0);
    let two = answered(&app, &question).await;
    let (answer, text) = page(&app, &format!("/compare?id={one}&id={two}")).await;
    assert_eq!(answer.status, 200);
    assert!(text.contains("The advice differs"), "{text}");
    assert!(text.contains("<code>/routing/skewness</code>"), "{text}");
    let compared = app.get(&format!("/v1/recommendations/compare?a={one}&b={two}")).await.json();
    for strategy in compared["strategies"].as_array().unwrap() {
        if let Some(latency) = strategy["layer_latency_s"]["a"].as_f64() {
            assert!(text.contains(&format!("<td>{:.2}</td>", latency * 1e6)), "{latency}");
        }
    }
    let (answer, text) = page(&app, &format!("/compare?id={one}")).await;
    assert!(answer.status == 422 && text.contains("tick two"), "{text}");
}

#[tokio::test]
async fn models_and_devices_are_listed() {
    let app = TestApp::start().await;
    let (_, text) = page(&app, "/models").await;
    assert!(text.contains("href=\"/v1/models/deepseek-v3\"") && text.contains("<td>671.0</td>"));
    let (_, text) = page(&app, "/devices").await;
    assert!(text.contains("href=\"/v1/devices/h200-sxm\"") && text.contains("<td>4.80</td>"));
}

#[tokio::test]
async fn a_map_shows_what_a_sweep_answers() {
    let app = TestApp::start_advising().await;
    let (_, text) = page(&app, "/map").await;
    assert!(text.contains("there is none yet"), "{text}");
    let id = answered(&app, &of_the_paper()).await;
    let path = format!("/map?from={id}&x=skewness&x_from=1&x_to=3&y=tokens_per_step");
    let request = Request::get(&path).header("accept", ACCEPT).body(Body::empty()).unwrap();
    let answer = app.send(request).await;
    let text = String::from_utf8(answer.body.clone()).unwrap();
    assert_eq!(answer.status, 200, "{text}");
    let cell = |strategy: &str| text.contains(&format!("<path class=\"{strategy}\""));
    assert!(cell("none") && cell("distribution_only"), "both win somewhere");
    assert!(text.contains("class=\"cross\" d=\"M0 "), "the question lies on it");
    assert!(text.contains("pale-0"), "margins are shown");
    // A click finds the place's values here, and asks by the form, which also works without script.
    assert!(text.contains("data-axes=\"[[0.0,0.0435,"), "{text}");
    assert!(text.contains("<form class=\"fields place no-print\" method=\"post\" action=\"/map\""));
    let offered = text.split("<select id=\"x_at\"").nth(1).unwrap().split("</select>").next();
    assert_eq!(offered.unwrap().matches("<option").count(), 24, "{text}");
    // 1.39 is asked, and the nearest of 1, 1.087, … 3 is chosen already.
    assert!(offered.unwrap().contains("selected>1.348</option>"), "{text}");
    let asked = form(&app, "/map", &[("from", &id), ("x", "skewness"), ("x_at", "1.5")]).await;
    assert_eq!(asked.status, 303);
    let varied = asked.header("location").to_owned();
    let mut question = of_the_paper();
    question["routing"]["skewness"] = json!(1.5);
    let same = answered(&app, &question).await;
    assert_eq!(varied, format!("/v1/recommendations/{same}"), "the same question by hand");
    let (place, nowhere) = (("x", "skewness"), ("x", "inter_node_bandwidth_bytes_per_s"));
    for (place, at, told) in [
        (place, "9", "id=\"rest\""),
        (nowhere, "1e11", "there is no such link"),
        (place, "far", "x_at is far"),
        (("x", "nix"), "1", "x is nix"),
    ] {
        let answer = form(&app, "/map", &[("from", &id), place, ("x_at", at)]).await;
        let text = String::from_utf8(answer.body).unwrap();
        assert!(answer.status == 422 && text.contains(told), "{place:?} {at}: {text}");
    }
    assert_eq!(form(&app, "/map", &[("from", "none")]).await.status, 404);
    let place = format!("/ask?from={id}&x=skewness&x_at=1.5&y=tokens_per_step&y_at=700");
    let (_, form) = page(&app, &place).await;
    assert!(form.contains("&quot;skewness&quot;: 1.5"), "{form}");
    assert!(form.contains("&quot;tokens_per_step&quot;: 700"), "{form}");
    let (answer, form) = page(&app, &format!("/ask?from={id}&x=nix&x_at=1")).await;
    assert!(answer.status == 422 && form.contains("<code>/x</code>"), "{form}");
    let (_, lines) = page(&app, &format!("/map?from={id}&x=skewness&x_from=1&x_to=3")).await;
    assert!(lines.contains("class=\"line l-distribution_only\""), "one axis has lines");
    for (query, pointer) in [("x=nix", "/x"), ("x_from=a", "/x_from"), ("x_from=3&x_to=2", "/x_to")]
    {
        let (answer, text) = page(&app, &format!("/map?from={id}&{query}")).await;
        assert!(
            answer.status == 422 && text.contains(&format!("<code>{pointer}</code>")),
            "{query}"
        );
    }
}

#[tokio::test]
async fn pasted_predictors_are_priced_along_their_curve() {
    let app = TestApp::start_advising().await;
    let id = answered(&app, &of_the_paper()).await;
    let (_, text) = page(&app, &format!("/predictors?from={id}")).await;
    assert!(text.contains("<textarea id=\"points\""), "{text}");
    let post =
        async |points: &str| form(&app, "/predictors", &[("from", &*id), ("points", points)]).await;
    let answer = post("0.5 0.00001\n0.95 0.0002").await;
    assert_eq!(answer.status, 303);
    let path = answer.header("location").to_owned();
    app.until(path.rsplit('/').next().unwrap(), "succeeded").await;
    let (_, text) = page(&app, &path).await;
    assert!(text.contains("What a predictor of tokens is worth"), "{text}");
    assert_eq!(text.matches("<circle class=\"point\"").count(), 2, "those that were pasted");
    let answer = post("0.5 x").await;
    let text = String::from_utf8(answer.body.clone()).unwrap();
    assert!(answer.status == 422 && text.contains("line 1 is"), "{text}");
    assert_is_page(&answer, &text, "/predictors");
}

#[test]
fn an_answer_is_written_as_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("answer.html");
    let question = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/questions/map-in-force.json");
    let program = std::process::Command::new(env!("CARGO_BIN_EXE_moe-gps"))
        .args(["advise", "--html"])
        .args([&out, &question])
        .output()
        .unwrap();
    assert!(program.status.success(), "{}", String::from_utf8_lossy(&program.stderr));
    let told = String::from_utf8(program.stderr).unwrap();
    assert_eq!(told, format!("wrote {}\n", out.display()));
    let text = std::fs::read_to_string(out).unwrap();
    assert!(text.contains("<h1>Run <code>distribution_only</code></h1>"), "{text}");
    for outside in ["http:", "https:", "src=\"", "href=\"/", "@import"] {
        assert!(!text.contains(outside), "the file has {outside}");
    }
    let plan = text.split("href=\"data:application/json;base64,").nth(1).unwrap();
    let plan = plan.split('"').next().unwrap();
    let plan = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, plan).unwrap();
    let plan: Value = serde_json::from_slice(&plan).unwrap();
    assert_eq!(plan["strategy"], "distribution_only");
}

#[tokio::test]
async fn a_deployment_has_a_page_with_its_conditions_and_history() {
    let app = TestApp::start_advising().await;
    let (_, empty) = page(&app, "/deployments").await;
    assert!(empty.contains("Nothing is watched yet"), "{empty}");
    let spec = json!({"question": deployments::question(), "labels": {"fleet": "<b>"},
                      "policy": {"every": "0s"}});
    assert_eq!(deployments::put(&app, "/v1/deployments/prod", &spec).await.status, 201);
    for nth in 0..2 {
        let hot = deployments::counts(&deployments::FLEET, Pattern::HotSet, 0.0, nth);
        assert_eq!(deployments::post(&app, "prod", 0, &hot).await.status, 202);
        deployments::settled(&app, "prod").await;
    }
    let (answer, text) = page(&app, "/v1/deployments/prod").await;
    assert_eq!((answer.status.as_u16(), answer.header("vary")), (200, "accept"));
    let shown = app.get("/v1/deployments/prod").await.json();
    for condition in shown["conditions"].as_array().unwrap() {
        let message = condition["message"].as_str().unwrap();
        assert!(text.contains(message), "{message} in {text}");
    }
    for judgement in
        app.get("/v1/deployments/prod/judgements").await.json()["items"].as_array().unwrap()
    {
        let path = format!("/v1/recommendations/{}", judgement["id"].as_str().unwrap());
        assert!(text.contains(&path), "{path}");
    }
    assert!(text.contains("&lt;b&gt;") && !text.contains("<b>"), "labels are escaped");
    // Two judgements, the second by the same loads' pattern: a line of two points each.
    let charts = text.matches("<polyline class=\"line c0\"").count();
    assert_eq!(charts, 2, "imbalance and gain: {text}");
    let (_, list) = page(&app, "/deployments").await;
    assert!(list.contains("href=\"/v1/deployments/prod\""), "{list}");
    let (_, found) = page(&app, "/?deployment=prod").await;
    assert!(found.contains("<option value=\"prod\" selected>"), "{found}");
    assert_eq!(found.matches("deployment: prod").count(), 2, "{found}");
    // The form starts from what is judged: the loads are in it, and the map.
    let (_, form) = page(&app, "/ask?deployment=prod").await;
    let trace = shown["windows"][1]["trace_id"].as_str().unwrap();
    assert!(form.contains("deepseek-v2-lite") && form.contains(trace), "{form}");
}
