//! The pages: what they are asked for, and the use cases behind them.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Extension, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app;
use crate::app::ask::Asked;
use crate::app::error::AppError;
use crate::app::plan_file::MOUNT;
use crate::app::recommendations::{self as answers, Seen};
use crate::app::tokens::Caller;
use crate::http::api::traces::{UploadQuery, receive};
use crate::http::etag::{etag, is_known};
use crate::http::export;
use crate::http::extract::{FormBody, QueryOf, pairs};
use crate::http::problem::{Failure, PageOfRefusal};
use crate::http::state::Service;
use crate::web;
use crate::web::answer::Answer;
use crate::web::answer::charts::stated;
use crate::web::ask::{Ask, EXAMPLES, Filled, vary};
use crate::web::list::List;
use crate::web::map::{AskedAxis, Map, usual_range};
use crate::web::{assets, progress};
use crate::wire::answer::ResultBody;
use crate::wire::deployment::DeploymentBody;
use crate::wire::job::{JobView, Status};
use crate::wire::listing::{ListQuery, PageQuery};
use crate::wire::loose::{self, Loose};
use crate::wire::question::ASKED_PHASES;
use crate::wire::sweep::{SweepAnswer, SweptParameter, spread};
use crate::wire::time::Moment;
use crate::wire::trace::TraceSummary;
use crate::wire::violation::Violation;
use moe_gps_core::advice::choose::Verdict;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::engines;
use moe_gps_core::strategies::Strategy;

/// Every page that has a path of its own.
pub(super) fn routes() -> Router<Service> {
    Router::new()
        .route("/", get(list))
        .route("/ask", get(ask).post(submit))
        .route("/compare", get(compare))
        .route("/deployments", get(deployments))
        .route("/predictors", get(predictors).post(price_predictors))
        .route("/map", get(map).post(ask_place))
        .route("/traces/{id}", get(trace))
        .route("/models", get(models))
        .route("/devices", get(devices))
        .route("/assets/{name}", get(asset))
}

/// The pages that take a file, or read all that are kept.
pub(super) fn uploads() -> Router<Service> {
    Router::new().route("/traces", get(traces).post(upload))
}

/// A page; a browser asks whether it is still the same.
pub(super) fn page(body: String, headers: &HeaderMap) -> Response {
    const ALWAYS: [(header::HeaderName, HeaderValue); 2] = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::VARY, HeaderValue::from_static("accept")),
    ];
    let tag = etag(body.as_bytes());
    if let Some(tag) = tag.as_ref().filter(|tag| is_known(headers, tag)) {
        return (StatusCode::NOT_MODIFIED, ALWAYS, [(header::ETAG, tag)]).into_response();
    }
    let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    let mut response = (ALWAYS, kind, body).into_response();
    if let Some(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Style and scripts; another content has another name.
async fn asset(Path(name): Path<String>) -> Result<Response, Failure> {
    let asset = assets::find(&name)
        .ok_or_else(|| Failure::not_found(format!("no file of the pages is called {name}")))?;
    let headers = [
        (header::CONTENT_TYPE, asset.media_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, asset.text.as_str()).into_response())
}

/// The list of answers.
async fn list(
    State(service): State<Service>,
    caller: Caller,
    QueryOf(query): QueryOf<ListQuery>,
    RawQuery(text): RawQuery,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    // A form sends its empty fields, too; the address that is kept has none of them.
    if let Some(text) =
        text.as_deref().filter(|text| pairs(text).any(|(_, value)| value.is_empty()))
    {
        let filled: Vec<&str> = text
            .split('&')
            .filter(|pair| pairs(pair).any(|(_, value)| !value.is_empty()))
            .collect();
        let query =
            if filled.is_empty() { String::new() } else { format!("?{}", filled.join("&")) };
        return Ok(Redirect::to(&format!("/{query}")).into_response());
    }
    let checked = query.clone().check().map_err(Failure::invalid)?;
    let found = answers::list(&service.app, &caller, checked).await?;
    let next = found.next_cursor.as_deref().map(|cursor| export::next(&uri, cursor));
    let mut names = names();
    let watched = app::deployments::list(&service.app, &caller).await?.items;
    names.insert("deployment", watched.into_iter().map(|one| one.name).collect());
    let list = List { page: &found, query: &query, names: &names, next };
    Ok(page(list.html(), &headers))
}

/// What fields of forms may be filled with.
fn names() -> BTreeMap<&'static str, Vec<String>> {
    let [models, devices, links] = Catalog::embedded().ids();
    let owned = |names: Vec<&str>| names.into_iter().map(ToOwned::to_owned).collect();
    let statuses =
        [Status::Queued, Status::Running, Status::Succeeded, Status::Failed, Status::Canceled];
    [
        ("model", owned(models)),
        ("device", owned(devices)),
        ("link", owned(links)),
        ("engine", engines::LIST.iter().map(|engine| engine.id.to_owned()).collect()),
        ("phase", owned(ASKED_PHASES.0.iter().map(|(_, name)| *name).collect())),
        ("verdict", owned(Verdict::ALL.map(|(_, name)| name).to_vec())),
        ("strategy", owned(Strategy::ALL.map(|(_, name)| name).to_vec())),
        ("status", owned(statuses.map(Status::as_str).to_vec())),
    ]
    .into()
}

/// The page of a recommendation: its answer, how far it is, or why there is none.
pub(super) async fn recommendation(
    service: &Service,
    seen: &Seen,
    view: &JobView<'_>,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let Some(result) = view.result.filter(|_| view.status == Status::Succeeded) else {
        return Ok(page(progress::page(view), headers));
    };
    let stored = |error: serde_json::Error| {
        Failure::internal(format!("stored JSON of {}: {error}", view.id))
    };
    // An answer of another version is shown as it was stored.
    let Ok(result) = serde_json::from_str::<ResultBody>(result.get()) else {
        return Ok(page(progress::page(view), headers));
    };
    let request = serde_json::from_str(view.request.get()).map_err(stored)?;
    let plan = answers::plan(&service.app, &view.id).await?;
    let launches = match plan.as_deref() {
        Some(plan) => answers::launches(plan, &view.id, MOUNT)?,
        None => Vec::new(),
    };
    let labels = view.labels.map(|labels| serde_json::from_str(labels.get()));
    let answer = Answer {
        id: Some(&view.id),
        labels: labels.transpose().map_err(stored)?.unwrap_or_default(),
        asked: Some(Moment(seen.job.created_ms)),
        request: &request,
        result: &result,
        plan: plan.as_deref(),
        outcomes: &seen.outcomes,
        launches: &launches,
    };
    Ok(page(answer.html(), headers))
}

/// The deployments.
async fn deployments(
    State(service): State<Service>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let list = app::deployments::list(&service.app, &caller).await?;
    Ok(page(web::deployments::list(&list), &headers))
}

/// Judgements that the page of a deployment draws: four hours of one a minute.
const DRAWN_JUDGEMENTS: u32 = 240;

/// The page of a deployment: its conditions, its history and its loads.
pub(super) async fn deployment(
    service: &Service,
    body: &DeploymentBody,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let judgements = app::deployments::judgements;
    let history = judgements(&service.app, &body.name, None, DRAWN_JUDGEMENTS).await?;
    Ok(page(web::deployments::one(body, &history), headers))
}

/// A form to ask with, filled from an example, an answer, a deployment, or a recording.
async fn ask(
    State(service): State<Service>,
    QueryOf(query): QueryOf<AskQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let mut question = match (&query.from, &query.deployment, &query.example) {
        (Some(id), ..) => answers::question(&service.app, id).await?,
        (None, Some(name), _) => app::deployments::question(&service.app, name).await?,
        (None, None, name) => example(name.as_deref())?,
    };
    let place = [("x", &*query.x, &*query.x_at), ("y", &query.y, &query.y_at)];
    let refused = at_place(&mut question, place)?;
    let mut filled = Filled::from_question(question);
    if let Some(trace) = query.trace {
        filled.fields.insert("trace", trace);
    }
    form(&service, &filled, &refused).await.map(|body| page(body, &headers))
}

/// What a form is filled from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskQuery {
    /// A recommendation.
    from: Option<String>,
    /// A deployment, with its map in force and its loads.
    deployment: Option<String>,
    /// A question to start from.
    example: Option<String>,
    /// A recording to ask about.
    trace: Option<String>,
    /// A quantity that has another value, and which.
    #[serde(default)]
    x: String,
    #[serde(default)]
    x_at: String,
    /// Another one.
    #[serde(default)]
    y: String,
    #[serde(default)]
    y_at: String,
}

/// Gives quantities of a map, each with the field that names it, other values; says what a question
/// cannot be given. Without a name or a value nothing changes.
fn at_place(
    question: &mut Value,
    place: [(&str, &str, &str); 2],
) -> Result<Vec<Violation>, Failure> {
    let mut refused = Vec::new();
    for (field, parameter, at) in place {
        if parameter.is_empty() || at.is_empty() {
            continue;
        }
        let read = swept(field, parameter)
            .and_then(|parameter| Ok((parameter, amount(&format!("{field}_at"), at)?)));
        let (parameter, value) = read.map_err(|refused| Failure::invalid(vec![refused]))?;
        refused.extend(vary(question, parameter, value).err());
    }
    Ok(refused)
}

fn example(name: Option<&str>) -> Result<Value, Failure> {
    let [(first, ..), ..] = EXAMPLES;
    let name = name.unwrap_or(first);
    let known = EXAMPLES.iter().find(|(known, ..)| *known == name);
    let (_, _, text) =
        known.ok_or_else(|| Failure::not_found(format!("there is no example {name:?}")))?;
    serde_json::from_str(text).map_err(|error| Failure::internal(error.to_string()))
}

/// The page with the form; recordings are those of the first page.
async fn form(
    service: &Service,
    filled: &Filled,
    refused: &[Violation],
) -> Result<String, Failure> {
    let (names, traces) = (names(), recordings(service, None).await?.0);
    Ok(Ask { filled, refused, names: &names, traces: &traces }.html())
}

/// Asks what a form says; a refused question comes back with what is to be mended beside its fields.
async fn submit(
    State(service): State<Service>,
    caller: Caller,
    form_body: FormBody,
) -> Result<Response, Failure> {
    let pairs: Vec<_> = form_body.pairs().collect();
    let filled = Filled::from_form(pairs.iter().map(|(name, value)| (&**name, &**value)));
    let rest = if filled.rest.trim().is_empty() {
        Ok(Value::Null)
    } else {
        loose::parse(filled.rest.as_bytes(), Loose::InModel)
    };
    let request = rest
        .map(|rest| filled.question(rest))
        .map_err(|error| vec![Violation::new("", "json", format!("this is not JSON: {error}"))]);
    asked_or_mended(&service, caller, request, || filled).await
}

/// Asks the question of a place of a map.
async fn ask_place(
    State(service): State<Service>,
    caller: Caller,
    form_body: FormBody,
) -> Result<Response, Failure> {
    let mut question = answers::question(&service.app, &form_body.field("from")).await?;
    let [x, x_at, y, y_at] = ["x", "x_at", "y", "y_at"].map(|name| form_body.field(name));
    let refused = at_place(&mut question, [("x", &x, &x_at), ("y", &y, &y_at)])?;
    let request = if refused.is_empty() { Ok(question.clone()) } else { Err(refused) };
    asked_or_mended(&service, caller, request, || Filled::from_question(question)).await
}

/// Asks a question that a page has made, and leads to the answer; what is refused stands in a form.
async fn asked_or_mended(
    service: &Service,
    caller: Caller,
    request: Result<Value, Vec<Violation>>,
    filled: impl FnOnce() -> Filled,
) -> Result<Response, Failure> {
    match answered(service, caller, request).await? {
        Ok(leading) => Ok(leading.into_response()),
        Err(violations) => Ok(refused(form(service, &filled(), &violations).await?)),
    }
}

/// Asks a question that a page has made, and leads to the answer; else what is to be mended in it.
async fn answered(
    service: &Service,
    caller: Caller,
    request: Result<Value, Vec<Violation>>,
) -> Result<Result<Redirect, Vec<Violation>>, Failure> {
    let request = match request {
        Ok(request) => request,
        Err(violations) => return Ok(Err(violations)),
    };
    let asked = Asked { caller, request, body: None, key: None, wait: None };
    match app::ask::submit(&service.app, asked).await {
        Ok(seen) => Ok(Ok(Redirect::to(&format!("/v1/recommendations/{}", seen.job.id)))),
        Err(AppError::Refused(violations)) => Ok(Err(violations)),
        Err(other) => Err(other.into()),
    }
}

/// A page that says itself what is wrong, which is told to the layer that writes problems.
fn refused(body: String) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, Extension(PageOfRefusal), Html(body)).into_response()
}

/// The form for one's own predictors.
async fn predictors(
    State(service): State<Service>,
    QueryOf(query): QueryOf<PredictorsQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    answers::fetch(&service.app, &query.from).await?;
    Ok(page(web::predictors::page(&query.from, "", &[]), &headers))
}

/// Whose question is asked with other predictors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PredictorsQuery {
    from: String,
}

/// Asks the question of an answer with pasted predictors.
async fn price_predictors(
    State(service): State<Service>,
    caller: Caller,
    form: FormBody,
) -> Result<Response, Failure> {
    let (id, points) = (form.field("from"), form.field("points"));
    let asked = web::predictors::question(answers::question(&service.app, &id).await?, &points);
    match answered(&service, caller, asked).await? {
        Ok(leading) => Ok(leading.into_response()),
        Err(violations) => Ok(refused(web::predictors::page(&id, &points, &violations))),
    }
}

/// Two answers side by side.
async fn compare(
    State(service): State<Service>,
    RawQuery(text): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let text = text.unwrap_or_default();
    let ids = pairs(&text).filter(|(name, _)| name == "id").map(|(_, id)| id.into_owned());
    let ids: Vec<String> = ids.collect();
    let [a, b] = &ids[..] else {
        let detail = format!("{} answers are ticked; tick two of them", ids.len());
        return Err(Failure::invalid(vec![Violation::new("/id", "items", detail)]));
    };
    let comparison = app::compare::compare(&service.app, a, b).await?;
    Ok(page(web::compare::page(&comparison), &headers))
}

/// The recordings.
async fn traces(
    State(service): State<Service>,
    QueryOf(query): QueryOf<PageQuery>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (traces, cursor) = recordings(&service, Some(query)).await?;
    let next = cursor.map(|cursor| export::next(&uri, &cursor));
    Ok(page(web::traces::list(&traces, next.as_deref()), &headers))
}

async fn recordings(
    service: &Service,
    query: Option<PageQuery>,
) -> Result<(Vec<TraceSummary>, Option<String>), Failure> {
    let asked = query.unwrap_or_default().check().map_err(Failure::invalid)?;
    let found = app::traces::list(&service.app, asked.cursor.as_deref(), asked.limit).await?;
    let summaries = found.items.iter().map(|raw| serde_json::from_str(raw.get()));
    let traces = summaries.collect::<Result<_, _>>();
    let traces = traces.map_err(|error| Failure::internal(format!("stored summary: {error}")))?;
    Ok((traces, found.next_cursor))
}

/// One recording.
async fn trace(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let found = app::traces::fetch(&service.app, &id).await?;
    let summary = serde_json::from_str(&found.summary)
        .map_err(|error| Failure::internal(format!("stored summary of {id}: {error}")))?;
    let query = ListQuery { trace_id: Some(id), ..ListQuery::default() };
    let query = query.check().map_err(Failure::invalid)?;
    let used = answers::list(&service.app, &caller, query).await?;
    Ok(page(web::traces::one(&summary, &used), &headers))
}

/// Takes a recording in, as the API does, and leads to its page.
async fn upload(
    State(service): State<Service>,
    QueryOf(query): QueryOf<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Redirect, Failure> {
    let kept = receive(&service, query, &headers, body, true).await?;
    Ok(Redirect::to(&format!("/traces/{}", kept.summary.id)))
}

/// The models.
async fn models(State(service): State<Service>, headers: HeaderMap) -> Result<Response, Failure> {
    let list = app::models::list(&service.app).await?;
    Ok(page(web::catalog::models(&list), &headers))
}

/// The devices.
async fn devices(State(service): State<Service>, headers: HeaderMap) -> Result<Response, Failure> {
    let list = app::devices::list(&service.app).await?;
    Ok(page(web::catalog::devices(&list), &headers))
}

/// What a map is asked for; the newest answer's question and its skewness if left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MapQuery {
    from: String,
    x: String,
    x_from: String,
    x_to: String,
    y: String,
    y_from: String,
    y_to: String,
}

/// Values along an axis: with both, about as many cells as a sweep always takes.
const ACROSS: u32 = 24;
const UPWARDS: u32 = 16;

/// Which strategy wins where.
async fn map(
    State(service): State<Service>,
    caller: Caller,
    QueryOf(query): QueryOf<MapQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let id = if query.from.is_empty() {
        let newest = ListQuery { status: Some("succeeded".to_owned()), ..ListQuery::default() };
        let newest = newest.check().map_err(Failure::invalid)?;
        let found = answers::list(&service.app, &caller, newest).await?;
        match found.items.into_iter().next() {
            Some(item) => item.id,
            None => return Ok(page(web::map::without_question(), &headers)),
        }
    } else {
        query.from.clone()
    };
    let job = answers::fetch(&service.app, &id).await?;
    let stored = |error: serde_json::Error| Failure::internal(format!("stored JSON: {error}"));
    let request: Value = serde_json::from_str(&job.request).map_err(stored)?;
    let answer: Value = job
        .result
        .as_deref()
        .map(serde_json::from_str)
        .transpose()
        .map_err(stored)?
        .unwrap_or_default();
    let mut violations = Vec::new();
    let x = if query.x.is_empty() { "skewness" } else { &query.x };
    let mut axes = Vec::new();
    for (name, parameter, from, to) in
        [("x", x, &query.x_from, &query.x_to), ("y", &query.y, &query.y_from, &query.y_to)]
    {
        if parameter.is_empty() {
            continue;
        }
        match read_axis(name, parameter, [from, to], &answer) {
            Ok(axis) => axes.push(axis),
            Err(violation) => violations.push(violation),
        }
    }
    if !violations.is_empty() {
        return Err(Failure::invalid(violations));
    }
    let along = |(axis, count): (&AskedAxis, u32)| json!({"parameter": axis.parameter.id(), "values": values(axis, count)});
    // The first axis of a map goes upwards.
    let swept: Vec<Value> = axes.iter().zip([ACROSS, UPWARDS]).map(along).rev().collect();
    let sweep = json!({"question": request, "axes": swept});
    let computed = app::sweep::computed(&service.app, sweep).await?;
    let drawn = computed.map.clone();
    let sweep = SweepAnswer::from(computed);
    let result: Option<ResultBody> = serde_json::from_value(answer).ok();
    let stated = |axis: &AskedAxis| stated(&request, result.as_ref()?, axis.parameter.id());
    let about = format!("{} on {}", job.model, job.device);
    let map = Map {
        id: &id,
        about,
        axes: &axes,
        stated: axes.iter().rev().map(stated).collect(),
        drawn: Some((&drawn, &sweep)),
    };
    Ok(page(map.html(), &headers))
}

/// The quantity that a field of a form names.
fn swept(field: &str, parameter: &str) -> Result<SweptParameter, Violation> {
    SweptParameter::by_id(parameter).ok_or_else(|| {
        let names = SweptParameter::ALL.map(|(_, name)| name).join(", ");
        let detail = format!("{field} is {parameter}; it must be one of {names}");
        Violation::new(format!("/{field}"), "one_of", detail)
    })
}

/// The amount that a field of a form states.
fn amount(field: &str, text: &str) -> Result<f64, Violation> {
    let read = text.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0);
    read.ok_or_else(|| {
        let detail = format!("{field} is {text}; it must be a number from 0");
        Violation::new(format!("/{field}"), "range", detail)
    })
}

fn read_axis(
    name: &str,
    parameter: &str,
    ends: [&String; 2],
    answer: &Value,
) -> Result<AskedAxis, Violation> {
    let parameter = swept(name, parameter)?;
    let [least, most] = usual_range(parameter, answer);
    let end = |end: &str, text: &String, usual: f64| {
        if text.is_empty() { Ok(usual) } else { amount(&format!("{name}_{end}"), text) }
    };
    let [from, to] = ends;
    let (from, to) = (end("from", from, least)?, end("to", to, most)?);
    if to < from {
        let detail = format!("{name} goes from {from} to {to}; it must go upwards");
        return Err(Violation::new(format!("/{name}_to"), "range", detail));
    }
    Ok(AskedAxis { parameter, from, to })
}

/// The values of an axis: at even ratios where it reaches far, and whole where they must be; numbers of
/// devices double.
fn values(axis: &AskedAxis, count: u32) -> Vec<Value> {
    let AskedAxis { parameter, from, to } = *axis;
    let mut values = match parameter {
        SweptParameter::Devices => {
            let doubled = std::iter::successors(Some(from.max(1.0)), |devices| Some(devices * 2.0));
            doubled.take_while(|devices| *devices <= to).collect()
        }
        // Twenty times, from where an axis of a chart is logarithmic, too.
        SweptParameter::Varied(_) => spread(from, to, count, from > 0.0 && to / from >= 20.0),
    };
    if !parameter.is_whole() {
        return values.into_iter().map(Value::from).collect();
    }
    for value in &mut values {
        *value = value.round();
    }
    values.dedup();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded, from 0")]
    values.into_iter().map(|value| Value::from(value as u64)).collect()
}
