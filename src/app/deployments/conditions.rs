//! The conditions of a deployment, in words.

use std::borrow::Cow;
use std::time::Duration;

use crate::app::deployments::State;
use crate::wire::deployment::{ConditionBody, JudgementBody, Policy, shown};
use crate::wire::time::Moment;
use crate::wire::written::percent;
use moe_gps_core::units::Seconds;
use moe_gps_core::watch::{self, Opinion, Standing};

/// Whether loads still come.
pub const LOADS_FRESH: &str = "LoadsFresh";
/// Whether there is an answer about the map in force.
pub const JUDGED: &str = "Judged";
/// Whether the map in force is still the right one.
pub const ADVICE_CURRENT: &str = "AdviceCurrent";

/// In the order in which they are shown.
const ALL: [&str; 3] = [LOADS_FRESH, JUDGED, ADVICE_CURRENT];

/// Loads that are older than so many times the pause between judgements are no longer fresh, where
/// that is longer than what a policy asks to hold.
const MISSED: u32 = 3;
/// Loads are fresh for at least as long as Prometheus takes a series for alive that is scraped no more,
/// its lookback of five minutes.
const ALIVE: Duration = Duration::from_mins(5);

/// What the core asks of a policy.
pub(super) fn asked(policy: &Policy) -> watch::Policy {
    watch::Policy { min_gain: policy.min_gain, hold: Seconds::new(policy.hold.as_secs_f64()) }
}

/// What has been said of the map in force so far.
pub(super) fn standing(state: &State) -> Standing {
    let said = state.said.as_deref().and_then(Opinion::by_id).unwrap_or(Opinion::Keep);
    Standing { said, otherwise_since_ms: state.otherwise_since_ms }
}

/// The status of a condition.
pub(super) fn status(state: &State, kind: &str) -> Option<Cow<'static, str>> {
    let found = state.conditions.iter().find(|one| one.kind == kind);
    found.map(|one| one.status.clone())
}

/// Whether a condition holds.
pub(super) fn is_true(state: &State, kind: &str) -> bool {
    status(state, kind).is_some_and(|status| status == "True")
}

/// Sets a condition; the time of its last change is that of its status.
pub(super) fn set(
    state: &mut State,
    kind: &'static str,
    status: &'static str,
    reason: impl Into<Cow<'static, str>>,
    message: impl Into<String>,
    now_ms: i64,
) {
    let before = state.conditions.iter().find(|one| one.kind == kind);
    let since = before.filter(|one| one.status == status).map(|one| one.last_transition_time);
    let condition = ConditionBody {
        kind: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: since.unwrap_or(Moment(now_ms)),
    };
    state.conditions.retain(|one| one.kind != kind);
    state.conditions.push(condition);
    state.conditions.sort_by_key(|one| ALL.iter().position(|kind| *kind == one.kind));
}

/// Forgets what was said of another map or another question.
pub(super) fn begin_anew(state: &mut State, now_ms: i64, why: &str) {
    (state.said, state.otherwise_since_ms) = (None, None);
    if !state.conditions.iter().any(|one| one.kind == LOADS_FRESH) {
        set(state, LOADS_FRESH, "Unknown", "NoLoads", "no loads have been posted yet", now_ms);
    }
    let was_judged = state.last.is_some();
    let (status, reason) = if was_judged { ("False", "Changed") } else { ("Unknown", "NoLoads") };
    let message = if was_judged {
        format!("{why} since the last judgement")
    } else {
        "no loads have been judged yet".to_owned()
    };
    set(state, JUDGED, status, reason, message, now_ms);
    let message = "the map in force has not been judged yet";
    set(state, ADVICE_CURRENT, "Unknown", "NotJudged", message, now_ms);
}

/// Says whether loads still come.
pub(super) fn freshness(state: &mut State, policy: &Policy, until_ms: Option<i64>, now_ms: i64) {
    let Some(until_ms) = until_ms else { return };
    let most = policy.hold.max(policy.every * MISSED).max(ALIVE);
    let age = Duration::from_millis(now_ms.saturating_sub(until_ms).max(0).unsigned_abs());
    let until = Moment(until_ms);
    if age <= most {
        let message = format!("the newest loads end at {until}");
        set(state, LOADS_FRESH, "True", "LoadsCome", message, now_ms);
    } else {
        let message = format!(
            "the newest loads end at {until}, more than {} ago: does the recorder run?",
            shown(most)
        );
        set(state, LOADS_FRESH, "False", "LoadsStale", message, now_ms);
    }
}

/// Takes in a judgement: what is said now, and why.
pub(super) fn judged(
    state: &mut State,
    policy: &Policy,
    judgement: &JudgementBody,
    opinion: Option<Opinion>,
    now_ms: i64,
) {
    let JudgementBody { message, windows, loads_until, .. } = judgement;
    let before = standing(state);
    let Some(opinion) = opinion else {
        state.otherwise_since_ms = before.without_opinion().otherwise_since_ms;
        let reason = match judgement.verdict.as_deref() {
            Some("insufficient_evidence") => "InsufficientEvidence",
            Some("cannot_run") => "CannotRun",
            _ => "JudgementFailed",
        };
        return set(state, JUDGED, "False", reason, message.clone(), now_ms);
    };
    let told = format!("on {windows} windows of loads up to {loads_until}");
    set(state, JUDGED, "True", "Judged", told, now_ms);
    let after = before.after(opinion, loads_until.0, &asked(policy));
    state.said = Some(after.said.id().to_owned());
    state.otherwise_since_ms = after.otherwise_since_ms;
    let hold = shown(policy.hold);
    let since = after.otherwise_since_ms.map(Moment);
    match (after.said, since) {
        (Opinion::Keep, None) => {
            let message = format!("keep the map in force: {}", kept(judgement, policy));
            set(state, ADVICE_CURRENT, "True", "MapIsRight", message, now_ms);
        }
        (Opinion::Keep, Some(since)) => {
            let message = format!(
                "{}; it is said once every judgement has found so for {hold}, since {since}",
                gains(judgement, opinion)
            );
            set(state, ADVICE_CURRENT, "True", "GainMustHold", message, now_ms);
        }
        (said, since) => {
            let mut message = format!("{}, in every judgement for {hold}", gains(judgement, said));
            if let Some(since) = since {
                message = format!(
                    "{}; judgements have kept the map since {since}, which is said after {hold}",
                    said.id()
                );
            }
            set(state, ADVICE_CURRENT, "False", said.id(), message, now_ms);
        }
    }
}

/// Why the map in force is kept.
fn kept(judgement: &JudgementBody, policy: &Policy) -> String {
    match (judgement.verdict.as_deref(), &judgement.strategy, judgement.net_gain) {
        (Some("recommended"), Some(strategy), Some(net)) => format!(
            "{strategy} would gain {} after its stall ({} to {}), and {} is asked for",
            percent(net.mid),
            percent(net.low),
            percent(net.high),
            percent(1.0 + policy.min_gain)
        ),
        _ => "nothing is known to be faster".to_owned(),
    }
}

/// What a change gains, and by which one.
fn gains(judgement: &JudgementBody, opinion: Opinion) -> String {
    let strategy = judgement.strategy.as_deref().unwrap_or("the advice");
    let what = match opinion {
        Opinion::BalancingNoLongerPays => {
            "experts in order, with nothing balanced, do as well as any plan and gain".to_owned()
        }
        Opinion::StrategyChanged => format!("{strategy} in place of what runs gains"),
        Opinion::ReplanPays | Opinion::Keep => format!("a new plan of {strategy} gains"),
    };
    let percent = |gain: Option<crate::wire::answer::GainBody>| {
        gain.map_or_else(String::new, |gain| percent(gain.mid))
    };
    format!(
        "{what} {} over the map in force, {} after a stall of {:.1} s",
        percent(judgement.gain),
        percent(judgement.net_gain),
        judgement.stall_s.unwrap_or_default()
    )
}
