//! What a client meets before the advice: waits, filters, slashes, compression, uploads in every
//! shape, headers, and a description that says the truth.

use std::io::{Read, Write};
use std::path::Path;

use axum::body::Body;
use axum::http::Request;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use moe_gps::http::openapi;
use moe_gps_core::formats::trace::readers::by_extension;
use serde_json::{Value, json};

use crate::questions;
use crate::support::{Answer, TestApp};
use crate::traces::upload;

fn fixture(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

async fn get_with(app: &TestApp, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_fetch_waits_for_the_end_if_asked_to() {
    let app = TestApp::start().await;
    let id = app.submit(&json!({"do": "wait", "until": app.gate("go")})).await;
    let path = format!("/v1/recommendations/{id}");
    let early = get_with(&app, &path, &[("prefer", "wait=0")]).await;
    assert_eq!((early.status.as_u16(), early.header("preference-applied")), (200, "wait=0"));
    assert_ne!(early.json()["status"], "succeeded");
    let opening = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        std::fs::write(app.gate("go"), "").unwrap();
    };
    let waiting = get_with(&app, &path, &[("prefer", "wait=60")]);
    let (ended, ()) = tokio::join!(waiting, opening);
    assert_eq!(ended.json()["status"], "succeeded");
    assert_eq!(ended.header("preference-applied"), "wait=60");
    assert!(ended.header("etag").starts_with('"'));
}

#[tokio::test]
async fn a_finished_equal_question_is_200() {
    let app = TestApp::start().await;
    let first = app.ask_and_wait(&json!({"do": "answer"})).await;
    let again = app.ask(&json!({"do": "answer"}), &[]).await;
    assert_eq!((again.status.as_u16(), again.json()), (200, first.json()));
    assert!(again.headers.get("preference-applied").is_none());
}

#[tokio::test]
async fn cursors_and_filters_that_no_page_names_are_422() {
    let app = TestApp::start().await;
    for (path, pointer) in [
        ("/v1/recommendations?cursor=abc", "/cursor"),
        ("/v1/recommendations?cursor=", "/cursor"),
        ("/v1/recommendations?strategy=fastest", "/strategy"),
        ("/v1/recommendations?status=", "/status"),
        ("/v1/recommendations?created_after=2026-13-01", "/created_after"),
        ("/v1/traces?cursor=abc", "/cursor"),
        ("/v1/traces?limit=1e3", "/limit"),
    ] {
        let problem = app.get(path).await.problem(422, "invalid-question");
        assert_eq!(problem["violations"][0]["pointer"], pointer, "{path}");
    }
}

#[tokio::test]
async fn dates_without_a_time_are_the_beginning_of_the_day() {
    let app = TestApp::start().await;
    app.ask_and_wait(&json!({"do": "answer"})).await;
    for (filter, n) in [
        ("created_after=2020-01-01", 1),
        ("created_before=2020-01-01", 0),
        ("created_before=2999-12-31", 1),
        ("created_after=2020-01-01T10:00", 1),
    ] {
        let page = app.get(&format!("/v1/recommendations?{filter}")).await.json();
        assert_eq!(page["items"].as_array().unwrap().len(), n, "{filter}");
    }
}

#[tokio::test]
async fn a_slash_at_the_end_changes_nothing() {
    let app = TestApp::start().await;
    for path in ["/v1/models", "/v1/links/nvlink3", "/v1/recommendations", "/livez"] {
        let plain = app.get(path).await;
        let slash = app.get(&format!("{path}/")).await;
        assert_eq!((plain.status.as_u16(), &plain.body), (200, &slash.body), "{path}");
    }
    let page = app.get("/v1/recommendations/?limit=0").await.problem(422, "invalid-question");
    assert_eq!(page["violations"][0]["pointer"], "/limit");
    let asked = app.post_json("/v1/recommendations/", &json!({"do": "answer"}), &[]).await;
    assert_eq!(asked.status, 202);
    app.get("/v1/nothing/").await.problem(404, "not-found");
    assert_eq!(app.get("/docs/").await.status, 200);
}

#[tokio::test]
async fn json_is_compressed_when_asked() {
    let app = TestApp::start_advising().await;
    let path = app.ask_and_wait(&questions::mixtral()).await.header("location").to_owned();
    let plain = app.get(&path).await;
    assert!(plain.headers.get("content-encoding").is_none());
    let packed = get_with(&app, &path, &[("accept-encoding", "gzip, deflate, br")]).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.headers.get_all("vary").iter().any(|value| value == "accept-encoding"));
    assert!(packed.body.len() * 2 < plain.body.len());
    let mut body = Vec::new();
    GzDecoder::new(&packed.body[..]).read_to_end(&mut body).unwrap();
    assert_eq!(body, plain.body);
    let tag = packed.header("etag");
    assert_ne!(tag, plain.header("etag"), "another form has another tag");
    for tag in [tag, plain.header("etag")] {
        let headers = [("accept-encoding", "gzip"), ("if-none-match", tag)];
        assert_eq!(get_with(&app, &path, &headers).await.status, 304);
    }
    let small = get_with(&app, "/livez", &[("accept-encoding", "gzip")]).await;
    assert!(small.headers.get("content-encoding").is_none());
}

#[tokio::test]
async fn recordings_of_any_bytes_are_told_by_what_they_hold() {
    let app = TestApp::start().await;
    for path in [
        "examples/traces/mixtral_like_e8k2.python.test.npz",
        "tests/fixtures/engines/sglang_routes.jsonl",
        "tests/fixtures/engines/sglang_stat.json",
        "tests/fixtures/engines/vllm_routes.json",
        "tests/fixtures/engines/counts.npy",
        "tests/fixtures/engines/sglang_per_token.pt",
        "tests/fixtures/engines/trtllm.tar",
        "tests/fixtures/engines/trtllm.zip",
        "tests/fixtures/engines/trtllm_rank0.safetensors",
        "tests/fixtures/engines/counts.csv",
    ] {
        let bytes = fixture(path);
        let extension = path.rsplit('.').next().unwrap();
        let media_type = by_extension(extension).unwrap().media_type;
        let said = upload(&app, "", media_type, None, bytes.clone()).await;
        assert_eq!(said.status, 201, "{path}: {}", String::from_utf8_lossy(&said.body));
        let said = said.json();
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&bytes).unwrap();
        let packed = packed.finish().unwrap();
        let octets = "application/octet-stream";
        let form = form(&[(Some(path), "application/octet-stream", &bytes)]);
        let unnamed = form_of(&[("file", None, None, &bytes)]);
        for answer in [
            upload(&app, "", octets, None, bytes.clone()).await,
            upload(&app, &format!("?format={extension}"), octets, None, bytes.clone()).await,
            upload(&app, &format!("?format={extension}"), "text/plain", None, bytes.clone()).await,
            upload(&app, "", octets, None, packed.clone()).await,
            upload(&app, "", media_type, None, packed).await,
            upload(&app, "", FORM, None, form).await,
            upload(&app, "", FORM, None, unnamed).await,
        ] {
            let told = String::from_utf8_lossy(&answer.body).into_owned();
            assert_eq!(answer.status, 200, "{path}: {told}");
            assert_eq!(answer.json(), said, "{path}");
        }
    }
}

const FORM: &str = "multipart/form-data; boundary=edge";

/// A form of files, each with its name and type.
fn form(files: &[(Option<&str>, &str, &[u8])]) -> Vec<u8> {
    let parts = files.iter().map(|(name, kind, bytes)| ("upload", *name, Some(*kind), *bytes));
    form_of(&parts.collect::<Vec<_>>())
}

/// A part of a form: its name, the name of its file, its type and its bytes.
type Part<'a> = (&'a str, Option<&'a str>, Option<&'a str>, &'a [u8]);

fn form_of(parts: &[Part]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, kind, bytes) in parts {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        let kind = kind.map(|kind| format!("Content-Type: {kind}\r\n")).unwrap_or_default();
        let head = format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n");
        body.extend_from_slice(format!("{head}{kind}\r\n").as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--edge--\r\n");
    body
}

#[tokio::test]
async fn forms_and_bytes_that_are_no_recording_are_refused() {
    let app = TestApp::start().await;
    let octets = "application/octet-stream";
    let unknown = upload(&app, "", octets, None, "hello").await.problem(415, "unsupported-format");
    assert!(unknown["detail"].as_str().unwrap().contains("?format="), "{unknown}");
    let named = upload(&app, "?format=pdf", octets, None, "hello").await;
    let named = named.problem(422, "invalid-question");
    assert_eq!(named["violations"][0]["pointer"], "/format");
    let field = form_of(&[("model", None, None, b"mixtral-8x7b")]);
    let field = upload(&app, "", FORM, None, field).await.problem(422, "invalid-question");
    assert!(field["detail"].as_str().unwrap().contains("\"model\""), "{field}");
    upload(&app, "", FORM, None, "--edge--\r\n").await.problem(400, "malformed");
    upload(&app, "", FORM, None, "no form at all").await.problem(400, "malformed");
    let whole = form(&[(Some("a.json"), octets, b"{\"counts\": [[1, 1]]}")]);
    let cut = whole[..whole.len() - 20].to_vec();
    upload(&app, "", FORM, None, cut).await.problem(400, "malformed");
    upload(&app, "", "text/plain", None, "{}").await.problem(415, "unsupported-format");
}

#[tokio::test]
async fn browsers_guess_no_types_and_pages_load_nothing_from_elsewhere() {
    let app = TestApp::start().await;
    for path in ["/livez", "/v1/models", "/v1/nothing", "/docs/"] {
        assert_eq!(app.get(path).await.header("x-content-type-options"), "nosniff", "{path}");
    }
    let policy = app.get("/docs/").await;
    assert!(policy.header("content-security-policy").contains("default-src 'self'"));
    assert!(app.get("/livez").await.headers.get("content-security-policy").is_none());
}

#[tokio::test]
async fn every_operation_is_counted_from_zero() {
    let app = TestApp::start().await;
    let text = String::from_utf8(app.get("/metrics").await.body).unwrap();
    for series in [
        "moe_gps_http_requests_total{method=\"POST\",route=\"/v1/sweeps\",status=\"503\"} 0",
        "moe_gps_http_request_duration_seconds_count{method=\"PUT\",route=\"/v1/traces/{id}/embedding\"}",
        "moe_gps_jobs{status=\"failed\"}",
    ] {
        assert!(text.contains(series), "{series} is not in\n{text}");
    }
}

fn description() -> Value {
    serde_json::from_str(&openapi::json()).unwrap()
}

#[tokio::test]
async fn the_examples_of_the_description_are_answered() {
    let app = TestApp::start_advising().await;
    let api = description();
    let id = app.ask_and_wait(&questions::of_the_paper()).await.json()["id"].clone();
    let mut asked = Vec::new();
    for (path, methods) in api["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let content = operation["requestBody"]["content"].as_object();
            for (media_type, body) in content.into_iter().flatten() {
                let Some(example) = body.get("example") else { continue };
                let text = example.as_str().map_or_else(|| example.to_string(), ToOwned::to_owned);
                let uri = path.replace("{id}", id.as_str().unwrap()).replace("{name}", "fleet-a");
                let request = Request::builder().method(method.to_uppercase().as_str()).uri(uri);
                let request = request.header("content-type", media_type);
                let answer = app.send(request.body(Body::from(text)).unwrap()).await;
                let told = String::from_utf8_lossy(&answer.body).into_owned();
                assert!(answer.status.is_success(), "{method} {path}: {told}");
                asked.push(path.as_str());
            }
        }
    }
    asked.dedup();
    asked.sort_unstable();
    assert_eq!(
        asked,
        [
            "/v1/deployments/{name}",
            "/v1/deployments/{name}/current",
            "/v1/devices",
            "/v1/recommendations",
            "/v1/recommendations/{id}/labels",
            "/v1/recommendations/{id}/outcomes",
            "/v1/sweeps",
            "/v1/traces"
        ]
    );
}

#[test]
fn the_description_is_one_that_clients_can_be_made_from() {
    let api = description();
    for name in api["components"]["schemas"].as_object().unwrap().keys() {
        assert!(!name.ends_with("Body") && name != "BTreeMap", "{name}");
    }
    let text = api.to_string();
    assert!(!text.contains("\"pattern\""), "a closed choice is an enum");
    for (path, methods) in api["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let place = format!("{method} {path}");
            let body = operation.get("requestBody");
            assert!(body.is_none_or(|body| body["content"].is_object()), "{place}");
            for (media_type, body) in
                operation["requestBody"]["content"].as_object().into_iter().flatten()
            {
                let schema = &body["schema"];
                assert_ne!(schema["items"]["type"], "integer", "{place} {media_type}");
                assert!(schema.as_object().is_some_and(|schema| !schema.is_empty()), "{place}");
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                let retry = response["headers"]["Retry-After"].is_object();
                assert_eq!(retry, ["429", "503"].contains(&status.as_str()), "{place} {status}");
                let found = response["headers"]["Location"].is_object();
                assert!(found || status != "201", "{place} {status}");
                for (kind, body) in response["content"].as_object().into_iter().flatten() {
                    assert_ne!(body["schema"], json!({}), "{place} {status} {kind}");
                }
            }
        }
    }
    let first = api["paths"]["/v1/traces"]["post"]["requestBody"]["content"].as_object().unwrap();
    let (media_type, body) = first.iter().next().unwrap();
    assert_eq!(media_type, "application/octet-stream");
    assert_eq!(body["schema"]["$ref"], "#/components/schemas/Bytes");
    let schemas = &api["components"]["schemas"];
    assert_eq!(schemas["Bytes"]["format"], "binary");
    assert_eq!(schemas["Question"]["additionalProperties"], false);
    assert_eq!(schemas["SweepAxis"]["additionalProperties"], false);
}

/// What in a value is not as its schema says, with the place.
fn unlike(api: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        return unlike(api, api.pointer(&name[1..]).unwrap(), value, at);
    }
    for (word, least) in [("oneOf", 1), ("anyOf", 1), ("allOf", usize::MAX)] {
        if let Some(choices) = schema[word].as_array() {
            let found: Vec<_> =
                choices.iter().filter_map(|one| unlike(api, one, value, at)).collect();
            if choices.len() - found.len() < least.min(choices.len()) {
                return Some(format!("{at}: {}", found.join("; ")));
            }
        }
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        return Some(format!("{at}: {value} is none of {allowed:?}"));
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = |allowed: &Value| allowed == kind || (allowed == "number" && kind == "integer");
    let of_kind = match &schema["type"] {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().any(fits),
        one => fits(one),
    };
    if !of_kind {
        return Some(format!("{at}: {kind}, not {}", schema["type"]));
    }
    match value {
        Value::Array(items) if schema["items"].is_object() => items
            .iter()
            .enumerate()
            .find_map(|(n, item)| unlike(api, &schema["items"], item, &format!("{at}/{n}"))),
        Value::Object(fields) => {
            let needed = schema["required"].as_array().into_iter().flatten();
            let missing = needed.filter_map(Value::as_str).find(|name| !fields.contains_key(*name));
            if let Some(missing) = missing {
                return Some(format!("{at}: {missing} is missing"));
            }
            fields.iter().find_map(|(name, field)| {
                let place = format!("{at}/{name}");
                let other = &schema["additionalProperties"];
                let described = schema["properties"].get(name).or(Some(other));
                match described.filter(|schema| schema.is_object()) {
                    Some(schema) => unlike(api, schema, field, &place),
                    None if schema["properties"].is_object() || *other == json!(false) => {
                        Some(format!("{place} is not described"))
                    }
                    None => None,
                }
            })
        }
        _ => None,
    }
}

#[tokio::test]
async fn answers_are_as_the_description_says() {
    let app = TestApp::start_advising().await;
    let api = description();
    let job = app.ask_and_wait(&questions::mixtral()).await;
    let path = job.header("location").to_owned();
    let paper = app.ask_and_wait(&questions::of_the_paper()).await;
    let counts = "{\"counts\": [[[40, 30, 20, 10]], [[10, 20, 30, 40]]]}";
    let trace = upload(&app, "", "application/octet-stream", None, counts).await;
    let trace = trace.header("location").to_owned();
    let id = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    let mut asked = vec![
        ("/v1/recommendations/{id}", path.clone()),
        ("/v1/recommendations/{id}", paper.header("location").to_owned()),
        ("/v1/recommendations", "/v1/recommendations".to_owned()),
        ("/v1/recommendations/{id}/placement", format!("{path}/placement")),
        ("/v1/recommendations/{id}/launch", format!("{path}/launch?engine=sglang")),
        ("/v1/traces", "/v1/traces".to_owned()),
        ("/v1/traces/{id}", trace.clone()),
        ("/v1/traces/{id}/report", format!("{trace}/report?devices=2")),
    ];
    let compare = format!("{}?a={}&b={}", "/v1/recommendations/compare", id(&path), id(&path));
    asked.push(("/v1/recommendations/compare", compare));
    for list in ["/v1/models", "/v1/devices", "/v1/links"] {
        asked.push((list, list.to_owned()));
    }
    for (template, path) in asked {
        let answer = app.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        let content = &api["paths"][template]["get"]["responses"]["200"]["content"];
        let schema = &content["application/json"]["schema"];
        assert_eq!(unlike(&api, schema, &answer.json(), ""), None, "{path}");
    }
    let sweep = json!({"question": questions::of_the_paper(),
                       "axes": [{"parameter": "skewness", "values": [1.0, 2.0]}]});
    let answer = app.post_json("/v1/sweeps", &sweep, &[]).await.json();
    let schema = &api["components"]["schemas"]["SweepAnswer"];
    assert_eq!(unlike(&api, schema, &answer, ""), None);
}
