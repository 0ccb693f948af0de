//! Small parts that several pages have.

use std::io::{self, Write};

use maud::{Markup, PreEscaped, html};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};

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

/// A field a line, and an array of numbers on one.
struct Indented(PrettyFormatter<'static>);

impl Formatter for Indented {
    fn begin_array_value<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.begin_object(to)
    }

    fn end_object<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_object(to)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(to, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.begin_object_value(to)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_object_value(to)
    }
}

/// Numbers as JSON for people.
#[must_use]
pub fn indented(numbers: &impl Serialize) -> String {
    let mut text = Vec::new();
    let mut to =
        serde_json::Serializer::with_formatter(&mut text, Indented(PrettyFormatter::new()));
    // Values of the schema always serialise.
    let _ = numbers.serialize(&mut to);
    String::from_utf8(text).unwrap_or_default()
}

/// The numbers behind a chart, as JSON.
#[must_use]
pub fn behind(numbers: &impl Serialize) -> Markup {
    let text = indented(numbers);
    html! {
        details class="behind" {
            summary { "Numbers as JSON" }
            (copied(&text))
        }
    }
}

/// Text as the content of an element, where quotes are nothing special: JSON is full of them.
fn content(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Text to be copied, with a button that does so.
#[must_use]
pub fn copied(text: &str) -> Markup {
    html! {
        div class="copied" {
            pre tabindex="0" { code { (PreEscaped(content(text))) } }
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
