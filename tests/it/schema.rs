//! Every range and choice of the API description is the reader's: asked at, just inside and
//! just outside every bound. What is answered is read back as its type.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Request;
use moe_gps::http::openapi;
use moe_gps::wire::answer::ResultBody;
use moe_gps::wire::catalog::{DeviceList, LinkList, ModelList};
use moe_gps::wire::deployment::{DeploymentBody, DeploymentList, JudgementPage};
use moe_gps::wire::job::JobView;
use moe_gps::wire::listing::{RecommendationPage, TracePage};
use moe_gps::wire::problem::Problem;
use moe_gps::wire::read::Violations;
use moe_gps::wire::report::TraceReport;
use moe_gps::wire::trace::TraceSummary;
use moe_gps::wire::violation::Violation;
use moe_gps::wire::{question, sweep};
use serde_json::{Value, json};

use crate::asking::read_back;
use crate::questions;
use crate::support::TestApp;

/// What a schema may say; anything else has to be added to the proof first.
const KNOWN: [&str; 16] = [
    "$ref",
    "additionalProperties",
    "anyOf",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "properties",
    "required",
    "title",
];

/// Values that a schema allows, and values just outside it.
#[derive(Default)]
struct Probes {
    allowed: Vec<Value>,
    refused: Vec<Value>,
}

/// The beginning of a value.
fn short(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

/// The API description, asked for its schemas.
struct Api(Value);

/// A reader of a whole request.
type Read<'a> = &'a dyn Fn(&Value) -> Vec<Violation>;

impl Api {
    fn new() -> Self {
        Self(serde_json::from_str(&openapi::json()).unwrap())
    }

    /// The schema itself, where there is a reference to it.
    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let named = schema["$ref"].as_str().map(|name| self.0.pointer(&name[1..]).unwrap());
        let schema = named.unwrap_or(schema);
        for word in schema.as_object().unwrap().keys() {
            assert!(KNOWN.contains(&word.as_str()) || word == "type", "{word} is not proven");
        }
        schema
    }

    /// A value that the schema allows: the shortest list or text, and a number above zero.
    fn sample(&self, schema: &Value) -> Value {
        let schema = self.resolved(schema);
        let allowed = self.probes(schema).allowed;
        let smallest = if schema["type"] == "number" { allowed.last() } else { allowed.first() };
        smallest.cloned().unwrap_or_else(|| match schema["type"].as_str() {
            Some("object") => json!({}),
            Some("array") => json!([self.sample(&schema["items"])]),
            Some("number") => json!(1.0),
            Some("boolean") => json!(true),
            _ => self.sample(&schema["anyOf"][0]),
        })
    }

    /// What is at, inside and outside the bounds of a schema.
    fn probes(&self, schema: &Value) -> Probes {
        let bounds = |least: &str, most: &str| (schema[least].as_u64(), schema[most].as_u64());
        let mut probes = Probes::default();
        match schema["type"].as_str() {
            Some("string") if schema["enum"].is_array() => {
                probes.allowed.clone_from(schema["enum"].as_array().unwrap());
                let near = probes.allowed[0].as_str().unwrap();
                probes.refused = vec![json!(format!("{near}x")), json!("?")];
            }
            Some("string") => {
                let text = |length| json!("é".repeat(length));
                probes.take_counts(bounds("minLength", "maxLength"), text);
            }
            Some("array") => {
                let item = self.sample(&schema["items"]);
                let items = |length| json!(vec![item.clone(); length]);
                probes.take_counts(bounds("minItems", "maxItems"), items);
            }
            Some("integer") => {
                let (least, most) = bounds("minimum", "maximum");
                let (least, most) = (i128::from(least.unwrap()), i128::from(most.unwrap()));
                let number = |n: i128| serde_json::from_str(&n.to_string()).unwrap();
                probes.allowed = [least, least + 1, most - 1, most].map(number).to_vec();
                probes.refused = [least - 1, most + 1].map(number).to_vec();
            }
            Some("number") if schema["minimum"].is_number() => {
                let [least, most] = ["minimum", "maximum"].map(|end| schema[end].as_f64().unwrap());
                probes.allowed =
                    [least, least.next_up(), most.next_down(), most].map(|n| json!(n)).to_vec();
                probes.refused = [least.next_down(), most.next_up()].map(|n| json!(n)).to_vec();
            }
            _ => {}
        }
        probes
    }

    /// Asks about a schema that stands at the place which `request` puts a value into; says how
    /// many values were asked about.
    fn ask(&self, schema: &Value, at: &str, request: &dyn Fn(Value) -> Value, read: Read) -> usize {
        let schema = self.resolved(schema);
        let Probes { allowed, refused } = self.probes(schema);
        let wrong = |value: &Value| {
            let violations = read(&request(value.clone())).into_iter();
            violations.map(|violation| (violation.pointer, violation.rule)).collect::<BTreeSet<_>>()
        };
        for value in &allowed {
            assert!(
                wrong(value).iter().all(|(pointer, _)| pointer != at),
                "{at}: {}",
                short(value)
            );
        }
        let before = wrong(&self.sample(schema));
        for value in &refused {
            let found = wrong(value);
            let new: Vec<_> = found.difference(&before).map(|(pointer, _)| pointer).collect();
            assert_eq!(new, [at], "{at}: {}", short(value));
        }
        let mut asked = allowed.len() + refused.len();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let request = |value| request(json!({name: value}));
            asked += self.ask(field, &format!("{at}/{name}"), &request, read);
        }
        if let Some(item) = schema.get("items") {
            let least = usize::try_from(schema["minItems"].as_u64().unwrap_or(1)).unwrap();
            let request = |value| {
                let mut items = vec![self.sample(item); least];
                items[0] = value;
                request(items.into())
            };
            asked += self.ask(item, &format!("{at}/0"), &request, read);
        }
        for one in schema["anyOf"].as_array().into_iter().flatten() {
            asked += self.ask(one, at, request, read);
        }
        if schema["properties"].is_object() {
            ask_for_absent(schema, at, request, read);
        }
        asked
    }
}

/// An object without any field lacks what the schema requires, and nothing else.
fn ask_for_absent(schema: &Value, at: &str, request: &dyn Fn(Value) -> Value, read: Read) {
    let missing = read(&request(json!({}))).into_iter().filter_map(|violation| {
        let here = violation.pointer == at && violation.rule == "required";
        here.then_some(violation.detail)
    });
    let required = schema["required"].as_array().into_iter().flatten();
    let required = required.map(|name| format!("`{}` is missing", name.as_str().unwrap()));
    assert_eq!(missing.collect::<Vec<_>>(), required.collect::<Vec<_>>(), "{at}");
}

impl Probes {
    /// Lengths at, inside and outside these bounds.
    fn take_counts(
        &mut self,
        (least, most): (Option<u64>, Option<u64>),
        make: impl Fn(usize) -> Value,
    ) {
        let count = |n: u64| usize::try_from(n).unwrap();
        let Some(most) = most.map(count) else { return };
        let low = least.map_or(0, count);
        let lengths: BTreeSet<usize> = [low, low + 1, most - 1, most].into();
        self.allowed = lengths.into_iter().filter(|n| *n <= most).map(&make).collect();
        self.refused = least.map(|least| make(count(least) - 1)).into_iter().collect();
        self.refused.push(make(most + 1));
    }
}

#[test]
fn the_fields_of_a_question_and_of_a_sweep_are_those_described() {
    let api = Api::new();
    let question = |request: &Value| {
        let violations = Violations::default();
        question::read(request, &violations);
        violations.into_vec()
    };
    let schemas = &api.0["components"]["schemas"];
    let asked = api.ask(&schemas["Question"], "", &|value| value, &question);
    assert!(asked > 300, "{asked}");
    let sweep = |request: &Value| {
        let violations = Violations::default();
        sweep::read(request, &violations);
        violations.into_vec()
    };
    let mut described = schemas["SweepRequest"].clone();
    // Asked about above; a sweep reads it later.
    described["properties"]["question"] = json!({"type": "object"});
    let asked = api.ask(&described, "", &|value| value, &sweep);
    assert!(asked > 15, "{asked}");
}

/// A recording of one token at one expert.
const RECORDING: &str = r#"{"sequence": 0, "position": 0, "experts": [[0]]}"#;

/// Where the answer to this request sees something wrong.
async fn wrong(app: &TestApp, method: &str, path: &str) -> Vec<String> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("content-type", "application/x-ndjson");
    let answer = app.send(request.body(Body::from(RECORDING)).unwrap()).await;
    if answer.status != 422 {
        return Vec::new();
    }
    let problem: Problem = serde_json::from_slice(&answer.body).unwrap();
    // What only this recording contradicts: it has one expert a token, and one token to skip.
    let of_it = |one: &Violation| one.pointer.starts_with("/lines") || one.rule == "empty";
    let violations = problem.violations.into_iter().filter(|one| !of_it(one));
    violations.map(|violation| violation.pointer).collect()
}

/// The parameters of every query: method, path with whatever else it needs, name and schema.
fn parameters(api: &Api) -> Vec<(String, String, &str, &Value)> {
    let mut found = Vec::new();
    let operations = api.0["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        methods
            .as_object()
            .unwrap()
            .iter()
            .map(move |(method, operation)| (path, method, operation))
    });
    for (path, method, operation) in operations {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameters: Vec<&Value> = parameters.filter(|one| one["in"] == "query").collect();
        for asked in &parameters {
            let others = parameters.iter().filter(|one| one["required"] == true && one != &asked);
            let others = others.map(|one| [one["name"].as_str().unwrap(), "=1&"].concat());
            let others: Vec<String> = others.collect();
            let path = format!("{}?{}", path.replace("{id}", "nix"), others.concat());
            let name = asked["name"].as_str().unwrap();
            found.push((method.to_uppercase(), path, name, &asked["schema"]));
        }
    }
    found
}

#[tokio::test]
async fn the_parameters_of_queries_are_those_described() {
    let api = Api::new();
    let app = TestApp::start_advising().await;
    let mut asked = 0;
    for (method, path, name, schema) in parameters(&api) {
        let Probes { allowed, refused } = api.probes(api.resolved(schema));
        asked += allowed.len() + refused.len();
        let allowed = allowed.iter().map(|value| (value, vec![]));
        let refused = refused.iter().map(|value| (value, vec![format!("/{name}")]));
        for (value, expected) in allowed.chain(refused) {
            let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            let path = format!("{path}{name}={text}");
            assert_eq!(wrong(&app, &method, &path).await, expected, "{method} {path}");
        }
    }
    assert!(asked > 40, "{asked}");
}

/// Reads a body as its type and writes it again.
type ReadBack = fn(&str) -> Value;

#[tokio::test]
async fn what_the_service_answers_is_read_back_as_its_type() {
    let app = TestApp::start_advising().await;
    let job = app.ask_and_wait(&questions::mixtral()).await;
    let text = std::str::from_utf8(&job.body).unwrap();
    let typed: JobView = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&typed).unwrap(), text);
    read_back::<ResultBody>(typed.result.unwrap().get());
    let upload = Request::post("/v1/traces").header("content-type", "application/x-ndjson");
    let uploaded = app.send(upload.body(Body::from(RECORDING)).unwrap()).await;
    let uploaded = read_back::<TraceSummary>(std::str::from_utf8(&uploaded.body).unwrap());
    let report = format!("/v1/traces/{}/report?devices=1", uploaded["id"].as_str().unwrap());
    let watched = json!({"question": crate::deployments::question()});
    let told = crate::deployments::put(&app, "/v1/deployments/a", &watched).await;
    read_back::<DeploymentBody>(std::str::from_utf8(&told.body).unwrap());
    let reads: [(&str, ReadBack); 9] = [
        ("/v1/deployments", read_back::<DeploymentList>),
        ("/v1/deployments/a/judgements", read_back::<JudgementPage>),
        ("/v1/models", read_back::<ModelList>),
        ("/v1/devices", read_back::<DeviceList>),
        ("/v1/links", read_back::<LinkList>),
        ("/v1/recommendations", read_back::<RecommendationPage>),
        ("/v1/traces", read_back::<TracePage>),
        ("/v1/recommendations?limit=0", read_back::<Problem>),
        (&report, read_back::<TraceReport>),
    ];
    for (path, read) in reads {
        read(std::str::from_utf8(&app.get(path).await.body).unwrap());
    }
}
