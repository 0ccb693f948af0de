//! Colour on a terminal: what `--color`, `NO_COLOR` and the terminal say decides, once.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;

/// When to colour what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum When {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

static COLOURED: AtomicBool = AtomicBool::new(false);

/// What stands out.
pub(super) const BOLD: Style = Style::new().bold();

/// What one should look at.
pub(super) const CAUTION: Style = AnsiColor::Yellow.on_default();

/// Decides for the rest of the program.
pub(super) fn decide(when: When) {
    let coloured = match when {
        When::Always => true,
        When::Never => false,
        When::Auto => AutoStream::choice(&std::io::stdout()) != ColorChoice::Never,
    };
    COLOURED.store(coloured, Ordering::Relaxed);
}

/// The style of a verdict: green to follow, red not to, else yellow.
#[must_use]
pub(super) fn of_verdict(verdict: &str) -> Style {
    let colour = match verdict {
        "recommended" => AnsiColor::Green,
        "insufficient_evidence" | "cannot_run" => AnsiColor::Red,
        _ => AnsiColor::Yellow,
    };
    colour.on_default().bold()
}

/// A text in a style, where there is colour.
#[must_use]
pub(super) fn paint(style: Style, text: impl Display) -> String {
    if COLOURED.load(Ordering::Relaxed) {
        format!("{style}{text}{style:#}")
    } else {
        text.to_string()
    }
}
