//! The round that judges: begins what is due as ordinary recommendations, and takes in what has ended.
//!
//! Every step leads from one stored state to the next, so that nothing is lost with the process.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::ask::{Asked, submit};
use crate::app::clock::now_ms;
use crate::app::context::App;
use crate::app::deployments::{
    JUDGEMENTS, Spec, Watched, conditions, forget_trace, labels_of, new_id, text, turn,
};
use crate::app::error::AppError;
use crate::app::recommendations;
use crate::app::tokens::{Caller, Scope};
use crate::app::withdraw::withdraw;
use crate::store::deployments::{DeploymentRecord, JudgementRecord, WindowRecord};
use crate::store::jobs::JobRecord;
use crate::wire::answer::{GainBody, Recommendation, RoutingBody};
use crate::wire::deployment::{CurrentBody, JudgementBody, Policy, phase_name};
use crate::wire::job::Status;
use crate::wire::labels::Labels;
use crate::wire::problem::Problem;
use crate::wire::time::Moment;
use moe_gps_core::advice::uncertainty::Gain;
use moe_gps_core::strategies::{DISTRIBUTION_ONLY, NONE, REPLACE_ONLY, Strategy};
use moe_gps_core::system::Phase;
use moe_gps_core::units::Seconds;
use moe_gps_core::watch::{self, Advice, Opinion};

/// Traces that the windows of a question may name.
const MOST_TRACES: usize = 64;

/// The question that a deployment asks about these loads.
///
/// The map in force stays until somebody replaces it, so that plans are loaded once unless the question
/// says how they are renewed; values at which the advice changes are not searched unless it asks for
/// them. Where no map is known experts are in order.
pub(super) fn request(
    spec: &Spec,
    current: Option<&CurrentBody>,
    routing: Value,
    labels: Option<&Labels>,
) -> Value {
    let mut request = spec.question.clone();
    if let Some(fields) = request.as_object_mut() {
        fields.insert("routing".to_owned(), routing);
        let current =
            current.map_or_else(|| json!({"strategy": NONE.id()}), |current| json!(current));
        fields.insert("current".to_owned(), current);
        fields.entry("flip_points").or_insert(false.into());
        fields.entry("rebalance").or_insert(json!({"mode": "startup_map"}));
        if let Some(labels) = labels {
            fields.insert("labels".to_owned(), json!(labels.0));
        }
    }
    request
}

/// Takes every deployment one step on.
pub async fn round(app: &Arc<App>) -> Result<(), AppError> {
    for record in app.store.list_deployments(None).await? {
        let is_idle = record.judging.is_none() && !record.is_due;
        let watched = Watched::read(record)?;
        let mut fresh = watched.state.clone();
        let until_ms = watched.record.loads_until_ms;
        conditions::freshness(&mut fresh, &watched.spec.policy(), until_ms, now_ms());
        let has_news = watched.record.judged_window < watched.record.newest_window;
        if is_idle && !has_news && fresh == watched.state {
            continue;
        }
        let _turn = turn(app).await?;
        // Somebody may have changed it since.
        if let Some(record) = app.store.find_deployment(&watched.record.name).await? {
            step(app, record).await?;
        }
    }
    Ok(())
}

async fn step(app: &Arc<App>, record: DeploymentRecord) -> Result<(), AppError> {
    let mut watched = Watched::read(record.clone())?;
    let now = now_ms();
    let until_ms = record.loads_until_ms;
    conditions::freshness(&mut watched.state, &watched.spec.policy(), until_ms, now);
    if watched.record.judging.is_none() && watched.is_due(record.newest_window, now) {
        begin(app, &mut watched, now).await?;
    }
    if watched.record.judging.is_some() {
        conclude(app, &mut watched).await?;
    }
    let after = watched.written()?;
    if after != record {
        app.store.put_deployment(&after, app.deployments.most).await?;
        app.deployments.changed();
    }
    Ok(())
}

fn owner(watched: &Watched) -> Caller {
    Caller { principal: watched.record.principal.as_str().into(), scope: Scope::Ask }
}

/// Asks about the loads that are there.
async fn begin(app: &Arc<App>, watched: &mut Watched, now: i64) -> Result<(), AppError> {
    let windows = app.store.list_windows(&watched.record.name).await?;
    let newest = watched.record.newest_window;
    let Some(routing) = routing(&watched.spec, &windows) else {
        if !windows.is_empty() {
            let message = "the loads posted so far are of one phase, and the question is about a server: \
                           post those of the other phase, too, or leave `phase` out";
            let state = &mut watched.state;
            conditions::set(state, conditions::JUDGED, "Unknown", "WaitsForPhase", message, now);
        }
        (watched.record.judged_window, watched.record.is_due) = (newest, false);
        return Ok(());
    };
    match ask(app, watched, watched.current.as_ref(), routing).await {
        Ok(id) => watched.record.judging = Some(id),
        // Room may come; the loads wait for it.
        Err(
            AppError::QueueFull { .. } | AppError::TooManyQueued { .. } | AppError::Conflict(_),
        ) => {
            return Ok(());
        }
        Err(AppError::Refused(violations)) => {
            let told: Vec<String> = violations.iter().map(ToString::to_string).collect();
            let message = format!("the question is refused: {}", told.join("; "));
            let state = &mut watched.state;
            conditions::set(state, conditions::JUDGED, "False", "Refused", message, now);
        }
        Err(error) => return Err(error),
    }
    watched.record.judging_ms = Some(now);
    (watched.record.judged_window, watched.record.is_due) = (newest, false);
    Ok(())
}

/// The routing that windows tell; `None` without any, or where one phase of a server lacks them.
pub(super) fn routing(spec: &Spec, windows: &[WindowRecord]) -> Option<Value> {
    let phase = spec.question["workload"]["phase"].as_str().unwrap_or_default();
    let windows = joined(windows, &spec.policy(), phase)?;
    let named = |window: &WindowRecord| match &window.phase {
        Some(one) if !one.eq_ignore_ascii_case(phase) => {
            json!({"id": window.trace_id, "phase": one})
        }
        _ => json!(window.trace_id),
    };
    let named: Vec<Value> = windows.iter().map(named).collect();
    (!named.is_empty()).then(|| json!({"windows": named}))
}

/// Asks a question in the name of the deployment.
async fn ask(
    app: &Arc<App>,
    watched: &Watched,
    current: Option<&CurrentBody>,
    routing: Value,
) -> Result<String, AppError> {
    let labels = labels_of(&watched.spec, &watched.record.name);
    let request = request(&watched.spec, current, routing, Some(&labels));
    let asked = Asked { caller: owner(watched), request, body: None, key: None, wait: None };
    Ok(submit(app, asked).await?.job.id.clone())
}

/// The windows that are joined, the oldest first; `None` where one phase of a server lacks any.
fn joined(windows: &[WindowRecord], policy: &Policy, asked: &str) -> Option<Vec<WindowRecord>> {
    let keep = policy.keep_windows as usize;
    let newest = |keep: usize, fits: &dyn Fn(&WindowRecord) -> bool| {
        let fitting: Vec<WindowRecord> = windows.iter().filter(|one| fits(one)).cloned().collect();
        fitting[fitting.len().saturating_sub(keep)..].to_vec()
    };
    let of = |phase: Phase, keep: usize| {
        newest(keep, &|one| one.phase.as_deref() == Some(phase_name(phase)))
    };
    if !asked.eq_ignore_ascii_case("serving") {
        return Some(newest(keep.min(MOST_TRACES), &|_| true));
    }
    let each = keep.min(MOST_TRACES / 2);
    let (prefill, decode) = (of(Phase::Prefill, each), of(Phase::Decode, each));
    if !prefill.is_empty() && !decode.is_empty() {
        return Some([prefill, decode].concat());
    }
    let of_both = newest(keep.min(MOST_TRACES), &|one| one.phase.is_none());
    (windows.is_empty() || !of_both.is_empty()).then_some(of_both)
}

/// Forgets windows beyond those that are kept, with the traces that came with them.
pub(super) async fn trim(app: &App, watched: &Watched) -> Result<(), AppError> {
    let windows = app.store.list_windows(&watched.record.name).await?;
    let keep = watched.spec.policy().keep_windows as usize;
    let mut seen: Vec<(Option<&str>, usize)> = Vec::new();
    for window in windows.iter().rev() {
        let phase = window.phase.as_deref();
        let place = seen.iter().position(|(one, _)| *one == phase).unwrap_or_else(|| {
            seen.push((phase, 0));
            seen.len() - 1
        });
        seen[place].1 += 1;
        if seen[place].1 <= keep {
            continue;
        }
        // One that a judgement needs goes after the next one.
        if forget_trace(app, window, 1).await? {
            app.store.delete_window(window.id).await?;
        }
    }
    Ok(())
}

/// What is read of an answer.
#[derive(Deserialize)]
struct Answer {
    recommendation: Recommendation,
    routing: RoutingBody,
    plan: Option<Plan>,
}

#[derive(Deserialize)]
struct Plan {
    #[serde(default)]
    move_s: f64,
}

/// Takes in what has ended of what was asked.
async fn conclude(app: &Arc<App>, watched: &mut Watched) -> Result<(), AppError> {
    let Some(id) = watched.record.judging.clone() else { return Ok(()) };
    let Some(job) = ended(app, &id).await? else { return Ok(()) };
    let in_order = match watched.record.judging_in_order.clone() {
        Some(id) => match ended(app, &id).await? {
            Some(job) => Some((id, job)),
            None => return Ok(()),
        },
        None => None,
    };
    let policy = watched.spec.policy();
    let answer = job.as_ref().and_then(read);
    let advice = answer.as_ref().and_then(|answer| advice(watched, answer, &policy));
    let mut opinion =
        advice.as_ref().map(|advice| watch::judge(advice, &conditions::asked(&policy)));
    let changes = opinion.is_some_and(|opinion| opinion != Opinion::Keep);
    let balances = advice.is_some_and(|advice| advice.runs != NONE && advice.advised != Some(NONE));
    if changes && balances && in_order.is_none() {
        // Whether anything need be balanced at all: the same loads without the map in force.
        let routing =
            job.as_ref().map(|job| recommendations::read_back(&job.request)).transpose()?;
        let routing = routing.map_or(Value::Null, |request| request["routing"].clone());
        match ask(app, watched, None, routing).await {
            Ok(id) => {
                watched.record.judging_in_order = Some(id);
                return Ok(());
            }
            // It is asked again with the next round, or told without.
            Err(AppError::QueueFull { .. } | AppError::TooManyQueued { .. }) => return Ok(()),
            Err(AppError::Refused(_) | AppError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    if let (Some(advice), Some((_, Some(plain)))) = (&advice, &in_order)
        && read(plain).is_some_and(|plain| plain.recommendation.strategy.as_deref() == Some("none"))
    {
        let advice = Advice { in_order_does: true, ..*advice };
        opinion = Some(watch::judge(&advice, &conditions::asked(&policy)));
    }
    let job = job.as_ref();
    let now = now_ms();
    let mut judgement =
        judgement(watched, (id, job), in_order.map(|(id, _)| id), answer, opinion, now);
    conditions::judged(&mut watched.state, &policy, &judgement, opinion, now);
    judgement.advice_current = conditions::status(&watched.state, conditions::ADVICE_CURRENT);
    keep(app, watched, judgement).await
}

/// The job once it has ended; within, `None` where it has been deleted.
async fn ended(app: &App, id: &str) -> Result<Option<Option<JobRecord>>, AppError> {
    let found = app.store.find_job(id).await?;
    Ok(match found {
        Some(job) if !job.status.is_final() => None,
        other => Some(other),
    })
}

fn read(job: &JobRecord) -> Option<Answer> {
    job.result.as_deref().and_then(|result| serde_json::from_str(result).ok())
}

/// The strategy that runs: as it is stated, else as the map in force tells.
fn runs(current: Option<&CurrentBody>) -> Strategy {
    let Some(current) = current else { return NONE };
    let stated = current.strategy.as_deref();
    if let Some((strategy, _)) = Strategy::ALL.iter().find(|(_, id)| Some(*id) == stated) {
        return *strategy;
    }
    let Some(maps) = &current.physical_to_logical else { return NONE };
    let experts = |map: &Vec<u32>| map.iter().max().map_or(0, |most| *most as usize + 1);
    let in_order = |map: &Vec<u32>| map.iter().zip(0..).all(|(expert, slot)| *expert == slot);
    match maps {
        maps if maps.iter().any(|map| experts(map) < map.len()) => DISTRIBUTION_ONLY,
        maps if maps.iter().all(in_order) => NONE,
        _ => REPLACE_ONLY,
    }
}

/// What an answer says of the map in force; `None` where it says that it does not know.
fn advice(watched: &Watched, answer: &Answer, policy: &Policy) -> Option<Advice> {
    let recommendation = &answer.recommendation;
    let advised = match &*recommendation.verdict {
        "recommended" => {
            let name = recommendation.strategy.as_deref();
            let found = Strategy::ALL.iter().find(|(_, id)| Some(*id) == name);
            found.map(|(strategy, _)| *strategy)
        }
        "keep" | "tie" => None,
        _ => return None,
    };
    let GainBody { low, mid, high } = recommendation.gain.unwrap_or(UNCHANGED);
    Some(Advice {
        runs: runs(watched.current.as_ref()),
        advised,
        gain: Gain { low, mid, high },
        stall: Seconds::new(stall_s(answer, policy)),
        in_order_does: false,
    })
}

/// The gain of what is kept.
const UNCHANGED: GainBody = GainBody { low: 1.0, mid: 1.0, high: 1.0 };

/// How long serving stops while the plan takes the place of the map in force.
fn stall_s(answer: &Answer, policy: &Policy) -> f64 {
    let moved = || answer.plan.as_ref().map_or(0.0, |plan| plan.move_s);
    policy.stall_s.unwrap_or_else(moved)
}

fn judgement(
    watched: &Watched,
    (id, job): (String, Option<&JobRecord>),
    in_order_id: Option<String>,
    answer: Option<Answer>,
    opinion: Option<Opinion>,
    now: i64,
) -> JudgementBody {
    let policy = watched.spec.policy();
    let changes = |answer: &Answer| &*answer.recommendation.verdict == "recommended";
    let stall = answer.as_ref().filter(|one| changes(one)).map(|answer| stall_s(answer, &policy));
    let gain = answer.as_ref().and_then(|answer| answer.recommendation.gain);
    let horizon = conditions::asked(&policy).horizon();
    let net = |gain: f64| watch::net(gain, Seconds::new(stall.unwrap_or_default()), horizon);
    let windows = job.and_then(|job| recommendations::read_back(&job.request).ok());
    let windows =
        windows.and_then(|request| request["routing"]["windows"].as_array().map(Vec::len));
    let message = match (&answer, job) {
        (Some(answer), _) if !answer.recommendation.missing.is_empty() => {
            format!("what is missing: {}", answer.recommendation.missing.join("; "))
        }
        (Some(answer), _) => answer.recommendation.reason.clone(),
        (None, Some(job)) => {
            let problem = job.problem.as_deref().and_then(|text| serde_json::from_str(text).ok());
            problem.map_or_else(
                || format!("the recommendation was {}", job.status.as_str()),
                |problem: Problem| problem.detail,
            )
        }
        (None, None) => "the recommendation was deleted before it ended".to_owned(),
    };
    JudgementBody {
        id,
        in_order_id,
        version: watched.record.version,
        judged_at: Moment(now),
        loads_until: Moment(watched.record.loads_until_ms.unwrap_or(now)),
        windows: windows.unwrap_or_default(),
        status: job.map_or(Status::Canceled, |job| job.status),
        finding: opinion.map(|opinion| opinion.id().into()),
        verdict: answer.as_ref().map(|answer| answer.recommendation.verdict.clone()),
        strategy: answer.as_ref().and_then(|answer| answer.recommendation.strategy.clone()),
        gain,
        stall_s: stall,
        net_gain: gain.map(|gain| GainBody {
            low: net(gain.low),
            mid: net(gain.mid),
            high: net(gain.high),
        }),
        imbalance: answer
            .and_then(|answer| answer.routing.device_imbalance)
            .map(|imbalance| imbalance.before.mean),
        advice_current: None,
        message,
    }
}

/// Keeps a judgement in the history, of which the oldest go with their recommendations.
async fn keep(
    app: &Arc<App>,
    watched: &mut Watched,
    judgement: JudgementBody,
) -> Result<(), AppError> {
    let name = &watched.record.name;
    let record = JudgementRecord {
        id: new_id(),
        recommendation_id: judgement.id.clone(),
        body: text(&judgement)?,
    };
    app.store.insert_judgement(name, &record).await?;
    let owner = owner(watched);
    for id in app.store.forget_judgements(name, JUDGEMENTS).await? {
        // It may have been withdrawn, and others may have asked for it.
        let _ = withdraw(app, &owner, &id).await;
    }
    watched.state.last = Some(judgement);
    watched.record.judging = None;
    watched.record.judging_in_order = None;
    trim(app, watched).await
}
