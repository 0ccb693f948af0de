//! A question that has no answer yet, or none that can be drawn.

use maud::{Markup, html};

use crate::web::Page;
use crate::web::parts::{behind, violations};
use crate::wire::job::{JobView, Status};
use crate::wire::problem::Problem;

/// How soon a page without script comes anew, seconds.
const RENEWED_S: u32 = 3;

/// The page of a recommendation without a result, or with one of another version.
#[must_use]
pub fn page(job: &JobView) -> String {
    let goes_on = !job.status.is_final();
    let body = html! {
        div id="progress" {
            p class="facts" { "Asked " (super::parts::moment(job.created_at)) }
            h1 { (title(job.status)) }
            @if goes_on { (state(job)) } @else { (end(job)) }
            h2 { "The question" }
            (behind(&job.request))
        }
    };
    let renewed_every_s = goes_on.then_some(RENEWED_S);
    Page { title: title(job.status).to_owned(), place: "", renewed_every_s, body }.html()
}

fn title(status: Status) -> &'static str {
    match status {
        Status::Queued => "The question waits for a worker",
        Status::Running => "The question is being answered",
        Status::Canceled => "The question was canceled",
        Status::Failed => "There is no answer",
        Status::Succeeded => "The answer is one that this version cannot draw",
    }
}

/// Where it stands; asked for anew at once, it comes back when there is more to say.
fn state(job: &JobView) -> Markup {
    let done = job.progress.unwrap_or_default();
    let phase = job.phase.as_deref().unwrap_or("waiting");
    html! {
        div hx-get=(format!("/v1/recommendations/{}", job.id)) hx-trigger="load"
            hx-headers=r#"{"Accept":"text/html","Prefer":"wait=2"}"#
            hx-target="#main" hx-select="#main" hx-swap="outerHTML" {
            p role="status" { (phase) ", " (format!("{:.0} %", done * 100.0)) }
            progress max="1" value=(done) aria-label="Done" {}
            p class="facts" { "This page shows the answer when it is there." }
        }
    }
}

fn end(job: &JobView) -> Markup {
    let problem = job.error.and_then(|error| serde_json::from_str::<Problem>(error.get()).ok());
    html! {
        @if let Some(result) = job.result {
            p { "It is shown as it was stored. Delete it and ask again for a page." }
            (behind(&result))
        }
        @if let Some(problem) = problem {
            p class="finding" { (problem.detail) }
            @if !problem.violations.is_empty() { (violations(&problem.violations)) }
        }
    }
}
