//! Small parts that several pages have.

use maud::{Markup, PreEscaped, html};
use serde::Serialize;

use crate::wire::time::Moment;
use crate::wire::violation::Violation;

/// A chart with the numbers behind it; wider than a small window, it scrolls.
#[must_use]
pub fn chart(svg: String, numbers: &impl Serialize) -> Markup {
    html! {
        (picture(svg))
        (behind(numbers))
    }
}

/// A chart alone.
#[must_use]
pub fn picture(svg: String) -> Markup {
    html! {
        div class="scroll chart-frame" tabindex="0" role="group" aria-label="Chart" {
            (PreEscaped(svg))
        }
    }
}

/// A text with what stands between backticks as code.
#[must_use]
pub fn prose(text: &str) -> Markup {
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 0 { (part) } @else { code { (part) } }
        }
    }
}

/// The numbers behind a chart, as JSON.
#[must_use]
pub fn behind(numbers: &impl Serialize) -> Markup {
    // Values of the schema always serialise.
    let text = serde_json::to_string_pretty(numbers).unwrap_or_default();
    html! {
        details class="behind" {
            summary { "Numbers as JSON" }
            (copied(&text))
        }
    }
}

/// Text to be copied, with a button that does so.
#[must_use]
pub fn copied(text: &str) -> Markup {
    html! {
        div class="copied" {
            pre tabindex="0" { code { (text) } }
            button type="button" class="copy" hidden { "Copy" }
        }
    }
}

/// A table; wider than the window, it scrolls. A column whose head begins with a space holds words,
/// which begin at its left.
#[must_use]
pub fn table(name: &str, head: &[&str], rows: &[Vec<Markup>]) -> Markup {
    let words =
        |place: usize| head.get(place).filter(|cell| cell.starts_with(' ')).map(|_| "words");
    html! {
        div class="scroll" tabindex="0" role="group" aria-label=(name) {
            table {
                caption class="unseen" { (name) }
                thead {
                    tr {
                        @for (place, cell) in head.iter().enumerate() {
                            th scope="col" class=[words(place)] { (cell.trim_start()) }
                        }
                    }
                }
                tbody {
                    @for row in rows {
                        tr {
                            @for (place, cell) in row.iter().enumerate() {
                                @if place == 0 { th scope="row" { (cell) } }
                                @else { td class=[words(place)] { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What is doubtful, or wrong.
#[must_use]
pub fn warnings(warnings: &[String]) -> Markup {
    html! {
        @if !warnings.is_empty() {
            ul class="warnings" aria-label="Warnings" { @for one in warnings { li { (prose(one)) } } }
        }
    }
}

/// Every broken rule with its place.
#[must_use]
pub fn violations<'a>(violations: impl IntoIterator<Item = &'a Violation>) -> Markup {
    html! {
        ul class="warnings" aria-label="What is to be mended" {
            @for Violation { pointer, detail, .. } in violations {
                li { @if !pointer.is_empty() { code { (pointer) } ": " } (prose(detail)) }
            }
        }
    }
}

/// A time to the minute; the whole of it where one points.
#[must_use]
pub fn moment(moment: Moment) -> Markup {
    let text = moment.to_string();
    let shown = text.get(..16).unwrap_or(&text).replace('T', " ");
    html! { time datetime=(text) title=(text) { (shown) } }
}
