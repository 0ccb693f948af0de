//! From where on the advice changes: root finding over one parameter at a time.

/// A quantity of the question that is varied while all else is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// Expert skewness s.
    Skewness,
    /// Link bandwidth per direction, bytes per second.
    LinkBandwidth,
    /// New tokens per step, T.
    TokensPerStep,
    /// Accuracy of the token-to-expert predictor.
    PredictorAccuracy,
    /// Time of the token-to-expert predictor per layer, seconds.
    PredictorOverhead,
}

impl Parameter {
    /// Every parameter with its name on the wire, the range searched and whether the
    /// range is searched in ratios (`api` contract: flip points).
    pub const ALL: [Self; 5] = [
        Self::Skewness,
        Self::LinkBandwidth,
        Self::TokensPerStep,
        Self::PredictorAccuracy,
        Self::PredictorOverhead,
    ];

    /// The parameter's name on the wire.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Skewness => "skewness",
            Self::LinkBandwidth => "link_bandwidth_bytes_per_s",
            Self::TokensPerStep => "tokens_per_step",
            Self::PredictorAccuracy => "predictor_accuracy",
            Self::PredictorOverhead => "predictor_overhead_s",
        }
    }

    /// The range searched, for a model whose skewness can reach `most_skewed` (E/k).
    #[must_use]
    pub const fn range(self, most_skewed: f64) -> (f64, f64) {
        match self {
            Self::Skewness => (1.0, most_skewed),
            Self::LinkBandwidth => (1e9, 2e12),
            Self::TokensPerStep => (1.0, 1e6),
            Self::PredictorAccuracy => (0.0, 1.0),
            Self::PredictorOverhead => (0.0, 0.01),
        }
    }

    /// Whether equal ratios rather than equal differences are equally far apart.
    const fn in_ratios(self) -> bool {
        matches!(self, Self::LinkBandwidth | Self::TokensPerStep)
    }
}

/// A value at which the answer changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Flip<T> {
    /// The parameter.
    pub parameter: Parameter,
    /// Where the answer changes and what it changes to; `None` if it does not.
    pub at: Option<(f64, T)>,
    /// The range searched.
    pub range: (f64, f64),
}

/// How finely a parameter is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Values tried over the range.
    pub grid: usize,
    /// Halvings of the bracket of a change.
    pub halvings: usize,
}

/// The nearest values below and above `now` at which `answer` is not `held`, the nearer first; one flip
/// without a value if there is none.
///
/// A change between two neighbouring grid values that changes back in between is missed.
pub fn flips<T: PartialEq + Copy>(
    parameter: Parameter,
    range: (f64, f64),
    (now, held): (f64, T),
    effort: Effort,
    mut answer: impl FnMut(f64) -> T,
) -> Vec<Flip<T>> {
    let ratios = parameter.in_ratios();
    let to = |x: f64| if ratios { x.ln() } else { x };
    let from = |x: f64| if ratios { x.exp() } else { x };
    let (low, high) = (to(range.0), to(range.1));
    let start = to(now.clamp(range.0, range.1));
    let step = (high - low) / effort.grid as f64;
    let mut search = |direction: f64, end: f64| -> Option<(f64, f64, T)> {
        let mut near = start;
        let n_steps = ((end - start).abs() / step).ceil();
        let mut index = 1.0;
        while index <= n_steps {
            let far = if index < n_steps { start + direction * step * index } else { end };
            let found = answer(from(far));
            if found != held {
                return Some(bracket(near, far, held, found, effort.halvings, &from, &mut answer));
            }
            near = far;
            index += 1.0;
        }
        None
    };
    let mut found: Vec<(f64, f64, T)> =
        [search(-1.0, low), search(1.0, high)].into_iter().flatten().collect();
    found.sort_by(|a, b| (a.0 - start).abs().total_cmp(&(b.0 - start).abs()));
    if found.is_empty() {
        return vec![Flip { parameter, at: None, range }];
    }
    // Tokens are whole; the bracket's changed end lies less than a token beyond the change.
    let shown = |value: f64| {
        if parameter == Parameter::TokensPerStep { value.round() } else { value }
    };
    let flip = |(_, value, becomes)| Flip { parameter, at: Some((shown(value), becomes)), range };
    found.into_iter().map(flip).collect()
}

/// Halves the bracket between `near` (still held) and `far` (changed).
fn bracket<T: PartialEq + Copy>(
    mut near: f64,
    mut far: f64,
    held: T,
    mut becomes: T,
    halvings: usize,
    from: &impl Fn(f64) -> f64,
    answer: &mut impl FnMut(f64) -> T,
) -> (f64, f64, T) {
    for _ in 0..halvings {
        let middle = f64::midpoint(near, far);
        let found = answer(from(middle));
        if found == held {
            near = middle;
        } else {
            far = middle;
            becomes = found;
        }
    }
    (far, from(far), becomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EFFORT: Effort = Effort { grid: 32, halvings: 50 };

    #[test]
    fn changes_on_both_sides_are_found_nearest_first() {
        let answer = |x: f64| {
            if x < 1.2 {
                0
            } else if x < 2.5 {
                1
            } else {
                2
            }
        };
        let found = flips(Parameter::Skewness, (1.0, 4.0), (1.4, 1), EFFORT, answer);
        let values: Vec<(f64, i32)> = found.iter().filter_map(|flip| flip.at).collect();
        assert!((values[0].0 - 1.2).abs() < 1e-9 && values[0].1 == 0);
        assert!((values[1].0 - 2.5).abs() < 1e-9 && values[1].1 == 2);
    }

    #[test]
    fn no_change_is_said_with_its_range() {
        let found = flips(Parameter::LinkBandwidth, (1e9, 2e12), (3e11, 7), EFFORT, |_| 7);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].at, None);
    }
}
