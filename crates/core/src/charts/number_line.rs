//! A number line: what is advised along a quantity, with the value that was stated.

use std::fmt::Write as _;

use crate::charts::axis::Axis;
use crate::charts::escaped;
use crate::charts::inline::{WIDTH, open};

/// Where the line begins, and how long it is.
const LINE: (f64, f64) = (40.0, WIDTH - 80.0);
/// Top of the coloured band, its height, and the height of the picture.
const BAND: (f64, f64, f64) = (30.0, 16.0, 72.0);

/// A stretch of the line.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch<'a> {
    /// From this value.
    pub from: f64,
    /// To this one.
    pub to: f64,
    /// The strategy that is advised there: its class.
    pub class: &'a str,
}

/// A number line.
#[derive(Debug, Clone)]
pub struct NumberLine<'a> {
    /// The quantity.
    pub axis: Axis,
    /// What is advised where, from left to right.
    pub stretches: Vec<Stretch<'a>>,
    /// Between which values a change lies.
    pub changes: Vec<[f64; 2]>,
    /// The value that was stated, with its words.
    pub stated: Option<(f64, String)>,
}

/// The line as inline SVG.
#[must_use]
pub fn chart(label: &str, line: &NumberLine<'_>) -> String {
    let at = |value: f64| LINE.0 + LINE.1 * line.axis.at(value).clamp(0.0, 1.0);
    let (top, bottom) = (BAND.0, BAND.0 + BAND.1);
    let mut svg = open(BAND.2, label);
    for Stretch { from, to, class } in &line.stretches {
        let (from, to) = (at(*from), at(*to));
        let _ = write!(
            svg,
            "<rect class=\"stretch {}\" x=\"{from:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{}\">\
             <title>{0}</title></rect>",
            escaped(class),
            (to - from).max(0.0),
            BAND.1
        );
    }
    for [low, high] in &line.changes {
        let (low, high) = (at(*low), at(*high));
        let middle = f64::midpoint(low, high);
        let _ = write!(
            svg,
            "<rect class=\"unsure\" x=\"{low:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{}\"/>\
             <path class=\"change\" d=\"M{middle:.1} {}V{}\"/>",
            high - low,
            BAND.1,
            top - 5.0,
            bottom + 5.0
        );
    }
    for (value, text) in line.axis.ticks() {
        let x = at(value);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{x:.1} {bottom}v5\"/><text class=\"mid\" x=\"{x:.1}\" \
             y=\"{}\">{text}</text>",
            bottom + 19.0
        );
    }
    if let Some((value, words)) = &line.stated {
        let x = at(*value);
        let class = match line.axis.at(*value) {
            share if share < 0.2 => "",
            share if share > 0.8 => "end",
            _ => "mid",
        };
        let _ = write!(
            svg,
            "<path class=\"stated\" d=\"M{x:.1} {}l-6 -9h12z\"/><text class=\"{class} strong\" \
             x=\"{x:.1}\" y=\"12\">{}</text>",
            top - 1.0,
            escaped(words)
        );
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_meet_at_the_change_and_the_stated_value_is_marked() {
        let stretch = |from, to, class| Stretch { from, to, class };
        let line = NumberLine {
            axis: Axis::linear("skewness", 1.0, (1.0, 5.0)),
            stretches: vec![stretch(1.0, 2.0, "none"), stretch(2.0, 5.0, "replace_only")],
            changes: vec![[1.9, 2.1]],
            stated: Some((3.0, "asked: 3".to_owned())),
        };
        let drawn = chart("skewness", &line);
        assert!(drawn.contains("stretch none\" x=\"40.0\" y=\"30\" width=\"220.0\""), "{drawn}");
        assert!(drawn.contains("replace_only\" x=\"260.0\" y=\"30\" width=\"660.0\""), "{drawn}");
        assert!(drawn.contains("change\" d=\"M260.0"), "{drawn}");
        assert!(drawn.contains("stated\" d=\"M480.0"), "{drawn}");
    }
}
