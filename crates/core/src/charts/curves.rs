//! Curves over a numeric axis.

use std::fmt::Write as _;

use crate::charts::axis::Axis;
use crate::charts::figure::{PLOT_HEIGHT, PLOT_WIDTH};

/// A curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve<'a> {
    /// Its class in the style, such as `l-none`.
    pub class: &'a str,
    /// Its points from left to right; a gap where there is no value.
    pub points: Vec<(f64, Option<f64>)>,
    /// The value of `x` at which a dot stands on it.
    pub dot: Option<f64>,
}

/// Curves as the body of a panel.
#[must_use]
pub fn body(x: &Axis, y: &Axis, curves: &[Curve<'_>]) -> String {
    let mut svg = String::new();
    for curve in curves {
        let at = |(a, b): (f64, f64)| (x.at(a) * PLOT_WIDTH, (1.0 - y.at(b)) * PLOT_HEIGHT);
        let mut path = String::new();
        let mut drawn = false;
        for (a, b) in &curve.points {
            let Some(b) = b else {
                drawn = false;
                continue;
            };
            let (a, b) = at((*a, *b));
            let _ = write!(path, "{}{a:.1} {b:.1}", if drawn { "L" } else { "M" });
            drawn = true;
        }
        let _ = writeln!(svg, "<path class=\"line {}\" d=\"{path}\"/>", curve.class);
        let dot = curve.dot.and_then(|dot| curve.points.iter().find(|(a, _)| *a >= dot));
        if let Some((a, Some(b))) = dot {
            let (a, b) = at((*a, *b));
            let _ = writeln!(
                svg,
                "<circle class=\"dot\" cx=\"{a:.1}\" cy=\"{b:.1}\" r=\"5\" fill=\"#111\"/>"
            );
        }
    }
    svg
}

/// Measured points, in the colour of the curve of that class.
#[must_use]
pub fn points(x: &Axis, y: &Axis, class: &str, points: &[(f64, f64)]) -> String {
    let mut svg = String::new();
    for (a, b) in points {
        let (a, b) = (x.at(*a) * PLOT_WIDTH, (1.0 - y.at(*b)) * PLOT_HEIGHT);
        let _ = writeln!(
            svg,
            "<circle class=\"line {class}\" style=\"stroke-dasharray:none\" cx=\"{a:.1}\" \
             cy=\"{b:.1}\" r=\"2.6\"/>"
        );
    }
    svg
}

/// A piece of a curve for the key.
#[must_use]
pub fn symbol(class: &str) -> String {
    format!("<path class=\"line {class}\" d=\"M0 6h28\"/>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_value_is_a_gap() {
        let axis = Axis::linear("x", 1.0, (0.0, 3.0));
        let points = vec![(0.0, Some(0.0)), (1.0, None), (2.0, Some(3.0)), (3.0, Some(3.0))];
        let drawn = body(&axis, &axis, &[Curve { class: "l-none", points, dot: None }]);
        assert!(drawn.contains("d=\"M0.0 280.0M253.3 0.0L380.0 0.0\""), "{drawn}");
    }
}
