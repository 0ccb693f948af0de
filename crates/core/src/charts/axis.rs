//! Axes: where a value stands, and which values are written beside it.

/// Ratio of the ends above which evenly spread logarithms make a logarithmic axis.
const LOG_FROM: f64 = 20.0;

/// An axis of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it shows, with the unit of the numbers beside it.
    pub name: String,
    /// One of that unit, in the unit of the values.
    unit: f64,
    low: f64,
    high: f64,
    log: bool,
}

impl Axis {
    /// An axis from `low` to `high`.
    #[must_use]
    pub fn linear(name: &str, unit: f64, (low, high): (f64, f64)) -> Self {
        let high = if low < high { high } else { low + unit };
        Self { name: name.to_owned(), unit, low, high, log: false }
    }

    /// An axis over values, logarithmic where they reach far and spread evenly so.
    #[must_use]
    pub fn over(name: &str, unit: f64, values: &[f64]) -> Self {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut axis = Self::linear(name, unit, (low, high));
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(low);
        // The median of values with even ratios is their geometric mean, not the arithmetic one.
        axis.log = low > 0.0
            && high / low >= LOG_FROM
            && (middle.ln() - f64::midpoint(low.ln(), high.ln())).abs() < (high / low).ln() / 4.0;
        axis
    }

    /// A logarithmic axis over values above zero.
    #[must_use]
    pub fn ratios(name: &str, unit: f64, values: &[f64]) -> Self {
        let mut axis = Self::over(name, unit, values);
        axis.log = axis.low > 0.0;
        axis
    }

    /// The share of the axis at which a value stands, from its low end.
    #[must_use]
    pub fn at(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.log { value.ln() } else { value };
        (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
    }

    /// Values to write beside the axis with their text, four to nine of them; none beside an
    /// axis without a name.
    #[must_use]
    pub fn ticks(&self) -> Vec<(f64, String)> {
        if self.name.is_empty() {
            return Vec::new();
        }
        if self.log { self.ratio_ticks() } else { self.even_ticks() }
    }

    fn even_ticks(&self) -> Vec<(f64, String)> {
        let (low, high) = (self.low / self.unit, self.high / self.unit);
        let step = tick_step(high - low);
        let first = (low / step - 1e-9).ceil();
        let mut ticks = Vec::new();
        let mut n = 0.0;
        while (first + n) * step <= high + step * 1e-6 {
            let value = (first + n) * step;
            ticks.push((value * self.unit, number(value, step)));
            n += 1.0;
        }
        ticks
    }

    fn ratio_ticks(&self) -> Vec<(f64, String)> {
        let (low, high) = (self.low / self.unit, self.high / self.unit);
        let decades = (high / low).log10();
        let steps: &[f64] = if decades < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut ticks = Vec::new();
        let mut power = 10.0_f64.powf(low.log10().floor());
        while power <= high * (1.0 + 1e-9) {
            let within =
                |value: &f64| low * (1.0 - 1e-9) <= *value && *value <= high * (1.0 + 1e-9);
            for value in steps.iter().map(|step| step * power).filter(within) {
                ticks.push((value * self.unit, number(value, value)));
            }
            power *= 10.0;
        }
        ticks
    }
}

/// A distance of grid lines that gives four to eight of them: 1, 2 or 5 times a power of ten.
#[must_use]
pub fn tick_step(span: f64) -> f64 {
    let rough = (span / 5.0).max(1e-4);
    let power = 10.0_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| rough <= *step * (1.0 + 1e-9)).unwrap_or(rough)
}

/// A number with as many digits as its step needs, thousands apart.
#[must_use]
pub fn number(value: f64, step: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 4")]
    let digits = (-step.log10().floor()).clamp(0.0, 4.0) as usize;
    let text = format!("{value:.digits$}");
    let whole = text.find('.').unwrap_or(text.len());
    let mut out = String::with_capacity(text.len() + 2);
    for (place, c) in text.char_indices() {
        if 0 < place && place < whole && (whole - place).is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        for (span, step) in [(0.31, 0.1), (2.4, 0.5), (7.0, 2.0), (0.0, 1e-4)] {
            assert!((tick_step(span) / step - 1.0).abs() < 1e-9, "{span} {}", tick_step(span));
        }
        assert_eq!(number(1.25, 0.05), "1.25");
        assert_eq!(number(1_234_567.0, 1e6), "1,234,567");
        assert_eq!(number(-123.0, 1.0), "-123");
    }

    #[test]
    fn values_with_even_ratios_make_a_logarithmic_axis() {
        let values = [1e9, 1e10, 1e11, 1e12];
        let axis = Axis::over("link, GB/s", 1e9, &values);
        for (place, value) in values.into_iter().enumerate() {
            assert!((axis.at(value) - place as f64 / 3.0).abs() < 1e-12);
        }
        let ticks: Vec<String> = axis.ticks().into_iter().map(|(_, text)| text).collect();
        assert_eq!(ticks, ["1", "10", "100", "1,000"]);
        let even: Vec<f64> = (0..=100).map(|i| 1e9 + 1e10 * f64::from(i)).collect();
        assert!((Axis::over("link", 1e9, &even).at(501e9) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_single_value_has_an_axis_too() {
        let axis = Axis::over("skewness", 1.0, &[1.4]);
        assert!(axis.at(1.4).abs() < 1e-12);
        assert!(!axis.ticks().is_empty());
    }
}
