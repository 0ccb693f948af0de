//! An error as a page.

use maud::html;

use crate::web::Page;
use crate::web::parts::violations;
use crate::wire::problem::Problem;

/// What went wrong, and the way out.
#[must_use]
pub fn page(problem: &Problem) -> String {
    let Problem { title, status, detail, request_id, violations: broken, .. } = problem;
    let body = html! {
        p class="facts" { "Status " (status) }
        h1 { (title) }
        p class="finding" { (detail) }
        @if !broken.is_empty() { (violations(broken)) }
        @if let Some(id) = request_id { p class="facts" { "Request " (id) } }
        p { a href="/" { "All answers" } }
    };
    Page { title: title.clone(), body, ..Page::default() }.html()
}
