//! From where on the advice changes: root finding over one parameter at a time.

/// A quantity of the question that is varied while all else is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// Expert skewness s.
    Skewness,
    /// Link bandwidth per direction, bytes per second.
    LinkBandwidth,
    /// Bandwidth of the link between nodes per direction, bytes per second.
    InterNodeBandwidth,
    /// New tokens per step, T.
    TokensPerStep,
    /// Tokens of output of a server's requests.
    OutputTokens,
    /// Accuracy of the token-to-expert predictor.
    PredictorAccuracy,
    /// Time of the token-to-expert predictor per layer, seconds.
    PredictorOverhead,
}

impl Parameter {
    /// Every parameter with its name on the wire, the range searched and whether the
    /// range is searched in ratios (`api` contract: flip points).
    pub const ALL: [Self; 7] = [
        Self::Skewness,
        Self::LinkBandwidth,
        Self::InterNodeBandwidth,
        Self::TokensPerStep,
        Self::OutputTokens,
        Self::PredictorAccuracy,
        Self::PredictorOverhead,
    ];

    /// The parameter's name on the wire.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Skewness => "skewness",
            Self::LinkBandwidth => "link_bandwidth_bytes_per_s",
            Self::InterNodeBandwidth => "inter_node_bandwidth_bytes_per_s",
            Self::TokensPerStep => "tokens_per_step",
            Self::OutputTokens => "output_tokens",
            Self::PredictorAccuracy => "predictor_accuracy",
            Self::PredictorOverhead => "predictor_overhead_s",
        }
    }

    /// The range searched, for a model whose skewness can reach `most_skewed` (E/k).
    #[must_use]
    pub const fn range(self, most_skewed: f64) -> (f64, f64) {
        match self {
            Self::Skewness => (1.0, most_skewed),
            Self::LinkBandwidth | Self::InterNodeBandwidth => (1e9, 2e12),
            Self::TokensPerStep => (1.0, 1e6),
            Self::OutputTokens => (1.0, 16_384.0),
            Self::PredictorAccuracy => (0.0, 1.0),
            Self::PredictorOverhead => (0.0, 0.01),
        }
    }

    /// Whether equal ratios rather than equal differences are equally far apart.
    const fn in_ratios(self) -> bool {
        matches!(
            self,
            Self::LinkBandwidth
                | Self::InterNodeBandwidth
                | Self::TokensPerStep
                | Self::OutputTokens
        )
    }
}

/// A quantity along which the answer was searched for changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Flip<T> {
    /// The parameter.
    pub parameter: Parameter,
    /// Where the answer changes; `None` if it does not.
    pub at: Option<Change<T>>,
    /// The range searched.
    pub range: (f64, f64),
}

/// A value at which the answer changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change<T> {
    /// The value, in two or three digits.
    pub value: f64,
    /// The answer changes between these: asked beyond either, it is what is said.
    pub interval: [f64; 2],
    /// What it changes to.
    pub becomes: T,
}

/// How finely a parameter is searched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Values tried over the range.
    pub grid: usize,
    /// Halvings after which the bracket of a change is narrow enough.
    pub halvings: u32,
    /// How far from a change that was found both sides are asked, nearest first, relatively.
    pub aside: &'static [f64],
    /// Digits of what is asked and shown.
    pub digits: Option<i32>,
}

/// The answer at one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer<T> {
    /// What is chosen.
    pub chosen: T,
    /// By how much the answer that is held is chosen: negative where it is not, and continuous
    /// where prices are. It only says where to look next.
    pub lead: f64,
}

/// The nearest changes below and above `now`, where the answer is `held`, the nearer first; one
/// flip without a change if there is none.
///
/// `answer` is cheap and only shows where to look, and `worth` whether what it found beyond a value
/// is worth telling. `ask` takes a value to one near it that can be
/// asked, and answers that question as it would be; a change that it does not confirm is none. A change between two
/// neighbouring grid values that changes back in between is missed.
pub fn flips<T: PartialEq + Copy>(
    parameter: Parameter,
    range: (f64, f64),
    (now, held): (f64, T),
    effort: Effort,
    mut answer: impl FnMut(f64) -> Answer<T>,
    mut worth: impl FnMut(f64, T) -> bool,
    mut ask: impl FnMut(f64) -> Option<(f64, T)>,
) -> Vec<Flip<T>> {
    let ratios = parameter.in_ratios();
    let to = |x: f64| if ratios { x.ln() } else { x };
    let from = |x: f64| if ratios { x.exp() } else { x };
    let (low, high) = (to(range.0), to(range.1));
    let start = to(now.clamp(range.0, range.1));
    let step = (high - low) / effort.grid as f64;
    let mut search = |direction: f64, end: f64| -> Option<Change<T>> {
        // What is held at the start leads there; by how much is not asked.
        let mut near = (start, f64::NAN);
        let n_steps = ((end - start).abs() / step).ceil();
        let (mut index, mut seen) = (1.0, held);
        while index <= n_steps {
            let far = if index < n_steps { start + direction * step * index } else { end };
            let found = answer(from(far));
            if found.chosen != held && found.chosen != seen {
                let mut between = |share: f64| answer(from(near.0 + (far - near.0) * share));
                let leads = (near.1, found.lead);
                let (share, becomes) =
                    narrowed(leads, (held, found.chosen), effort.halvings, &mut between);
                let at = from(near.0 + (far - near.0) * share);
                if worth(at, becomes)
                    && let Some(change) = confirmed(range, (now, held), at, effort, &mut ask)
                {
                    return Some(change);
                }
            }
            seen = found.chosen;
            near = (far, found.lead);
            index += 1.0;
        }
        None
    };
    let mut changes: Vec<Change<T>> =
        [search(-1.0, low), search(1.0, high)].into_iter().flatten().collect();
    let distance = |change: &Change<T>| (to(change.value) - start).abs();
    changes.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    if changes.is_empty() {
        return vec![Flip { parameter, at: None, range }];
    }
    changes.into_iter().map(|at| Flip { parameter, at: Some(at), range }).collect()
}

/// The ratio of both sides of a change below which they are near enough.
const NEAR_ENOUGH: f64 = 1.06;

/// The change near `at`, between a value that answers `held` and one that does not.
fn confirmed<T: PartialEq + Copy>(
    range: (f64, f64),
    (now, held): (f64, T),
    at: f64,
    effort: Effort,
    ask: &mut impl FnMut(f64) -> Option<(f64, T)>,
) -> Option<Change<T>> {
    let up = at > now;
    let digits = |value, up| effort.digits.map_or(value, |n| digits(value, n, up));
    let aside = |by: f64, on: bool| if up == on { at * (1.0 + by) } else { at / (1.0 + by) };
    let (mut far, mut becomes) = effort.aside.iter().find_map(|by| {
        let (value, becomes) = ask(digits(aside(*by, true), up).clamp(range.0, range.1))?;
        (becomes != held).then_some((value, becomes))
    })?;
    let mut near = now;
    for by in effort.aside {
        let value = digits(aside(*by, false), !up);
        if if up { value <= now } else { value >= now } {
            break;
        }
        let (value, answer) = ask(value)?;
        if answer == held {
            near = value;
            break;
        }
    }
    for _ in 0..effort.halvings {
        let middle = if near > 0.0 { (near * far).sqrt() } else { f64::midpoint(near, far) };
        if near.max(far) <= NEAR_ENOUGH * near.min(far) {
            break;
        }
        let (value, answer) = ask(digits(middle, up))?;
        if value <= near.min(far) || near.max(far) <= value {
            break;
        }
        if answer == held {
            near = value;
        } else {
            (far, becomes) = (value, answer);
        }
    }
    if let Some(n) = effort.digits {
        (near, far, becomes) = settled(range, n, (now, held), (near, far, becomes), ask)?;
    }
    let middle = f64::midpoint(near, far);
    let rounded = digits(middle, up);
    let inside = near.min(far)..=near.max(far);
    let value = if inside.contains(&rounded) { rounded } else { middle };
    Some(Change { value, interval: [near.min(far), near.max(far)], becomes })
}

/// How far beyond its interval a change is asked about (contract of flip points: it is as it is said from
/// 5 % on).
const BEYOND: [f64; 2] = [1.05, 1.12];
/// How often an interval is widened until that is so.
const WIDENED: usize = 2;

/// Both sides of a change, moved apart until each answers beyond it what is said: near a change, prices of
/// drawn loads waver. None where they waver further, which is no change at a value.
fn settled<T: PartialEq + Copy>(
    range: (f64, f64),
    n_digits: i32,
    (now, held): (f64, T),
    (mut near, mut far, mut becomes): (f64, f64, T),
    ask: &mut impl FnMut(f64) -> Option<(f64, T)>,
) -> Option<(f64, f64, T)> {
    // The farthest of the places beyond `end`, as far as `limit`, that answers otherwise.
    let mut otherwise = |end: f64, limit: f64, wanted: T| {
        let up = limit > end;
        let is_beyond = |value: f64| {
            if up { end < value && value <= limit } else { limit <= value && value < end }
        };
        let mut found = None;
        for by in BEYOND {
            let value = digits(if up { end * by } else { end / by }, n_digits, up);
            if is_beyond(value) {
                let (value, answer) = ask(value)?;
                found = Some((value, answer))
                    .filter(|_| answer != wanted && is_beyond(value))
                    .or(found);
            }
        }
        Some(found)
    };
    let end = if far > now { range.1 } else { range.0 };
    for attempt in 0.. {
        let Some((value, answer)) = otherwise(far, end, becomes)? else { break };
        if attempt == WIDENED {
            return None;
        }
        far = value;
        if answer != held {
            becomes = answer;
        }
    }
    for attempt in 0.. {
        let Some((value, _)) = otherwise(near, now, held)? else { break };
        if attempt == WIDENED {
            return None;
        }
        near = value;
    }
    Some((near, far, becomes))
}

/// A value in so many digits, rounded up or down.
fn digits(value: f64, n: i32, up: bool) -> f64 {
    if value <= 0.0 {
        return value;
    }
    // A whole power of ten is exact on either side of the point.
    let power = 10_f64.powf(f64::from(n - 1) - value.log10().floor());
    let scaled = value * power;
    let rounded = if up { (scaled - 1e-9).ceil() } else { (scaled + 1e-9).floor() };
    rounded / power
}

/// How far a guess is moved towards the middle, over the square of the bracket.
const TOWARDS_MIDDLE: f64 = 0.2;

/// The changed end of a bracket of 2^−halvings of the whole, which begins with what is `held`
/// and ends with what it `becomes`: where it lies, as a share of the whole, and its answer.
///
/// The ends of the bracket lie where `halvings` halvings would put them, and are found with
/// half as many answers by the method of interpolation, truncation and projection
/// (Oliveira and Takahashi 2020): the zero of the line through both leads, moved towards the
/// middle so that the change is enclosed from both sides, and kept within what halving would
/// still reach.
fn narrowed<T: PartialEq + Copy>(
    leads: (f64, f64),
    (held, mut becomes): (T, T),
    halvings: u32,
    answer: &mut impl FnMut(f64) -> Answer<T>,
) -> (f64, T) {
    let whole = f64::from(halvings).exp2();
    let (mut near, mut far) = ((0.0, leads.0), (whole, leads.1));
    // Twice the widest bracket that is allowed after the next answer.
    let mut allowed = 2.0 * whole;
    while far.0 - near.0 > 1.0 {
        let width = far.0 - near.0;
        let middle = f64::midpoint(near.0, far.0);
        let zero = near.0 + width * (near.1 / (near.1 - far.1));
        let reach = f64::midpoint(allowed, -width).max(0.0);
        let moved = TOWARDS_MIDDLE * width * width / whole;
        let guess = if (near.0..=far.0).contains(&zero) {
            // Whole positions, rounded towards the middle.
            if zero < middle {
                (zero + moved).min(middle).max(middle - reach).ceil()
            } else {
                (zero - moved).max(middle).min(middle + reach).floor()
            }
        } else {
            middle.floor()
        };
        let at = guess.clamp(near.0 + 1.0, far.0 - 1.0);
        let found = answer(at / whole);
        if found.chosen == held {
            near = (at, found.lead);
        } else {
            far = (at, found.lead);
            becomes = found.chosen;
        }
        allowed /= 2.0;
    }
    (far.0 / whole, becomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EFFORT: Effort =
        Effort { grid: 32, halvings: 40, aside: &[0.015, 0.04, 0.1], digits: Some(3) };

    #[test]
    fn changes_on_both_sides_are_found_nearest_first() {
        let answer = |x: f64| {
            let chosen = if x < 1.2 {
                0
            } else if x < 2.5 {
                1
            } else {
                2
            };
            Answer { chosen, lead: (x - 1.2).min(2.5 - x) }
        };
        // Asked in earnest, the first change lies at 1.22, and the second is none.
        let ask = |x: f64| Some((x, i32::from(x >= 1.22)));
        let found =
            flips(Parameter::Skewness, (1.0, 4.0), (1.4, 1), EFFORT, answer, |_, _| true, ask);
        let changes: Vec<Change<i32>> = found.iter().filter_map(|flip| flip.at).collect();
        let [Change { value, interval: [low, high], becomes: 0 }] = changes[..] else {
            panic!("{changes:?}")
        };
        assert!(low < 1.22 && 1.22 <= high && high < 1.05 * low, "{low} to {high}");
        assert!((low..=high).contains(&value));
    }

    #[test]
    fn where_answers_waver_the_interval_is_widened_or_nothing_is_said() {
        let search = |ask: &dyn Fn(f64) -> i32| {
            let answer = |x: f64| Answer { chosen: i32::from(x >= 2.0), lead: 2.0 - x };
            let ask = |x: f64| Some((x, ask(x)));
            let range = (1.0, 16.0);
            let found =
                flips(Parameter::Skewness, range, (1.5, 0), EFFORT, answer, |_, _| true, ask);
            found[0].at
        };
        let plain = search(&|x| i32::from(x >= 2.0)).unwrap();
        assert!(plain.interval[0] < 2.0 && 2.0 <= plain.interval[1]);
        // Back to what is held from 2.1 to 2.2.
        let wavers = search(&|x| i32::from(x >= 2.0 && !(2.1..2.2).contains(&x))).unwrap();
        assert!(wavers.interval[1] * 1.05 >= 2.2, "{wavers:?}");
        // A third answer soon takes the place of the second.
        let third = search(&|x| i32::from(x >= 2.0) + i32::from(x >= 2.1)).unwrap();
        assert_eq!(third.becomes, 2, "{third:?}");
        assert_eq!(search(&|x| i32::from((2.0..2.1).contains(&x))), None);
    }

    #[test]
    fn values_are_shown_in_three_digits() {
        let both = |value| [false, true].map(|up| digits(value, 3, up).to_string());
        assert_eq!(both(1.2345), ["1.23", "1.24"]);
        assert_eq!(both(4.537e10), ["45300000000", "45400000000"]);
        assert_eq!(both(1.23e-5), ["0.0000123"; 2]);
        assert_eq!(both(0.0), ["0"; 2]);
    }

    #[test]
    fn no_change_is_said_with_its_range() {
        let same = |_| Answer { chosen: 7, lead: 1.0 };
        let start = (3e11, 7);
        let found = flips(
            Parameter::LinkBandwidth,
            (1e9, 2e12),
            start,
            EFFORT,
            same,
            |_, _| true,
            |_| None,
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].at, None);
    }

    /// Where a change at `change` of the whole is found, and after how many answers, when
    /// leads are as told.
    fn found(change: f64, lead: impl Fn(f64) -> f64) -> (f64, u32) {
        let mut answers = 0;
        let mut answer = |share: f64| {
            answers += 1;
            Answer { chosen: share >= change, lead: lead(share) }
        };
        let leads = (lead(0.0), lead(1.0));
        let (share, becomes) = narrowed(leads, (false, true), 8, &mut answer);
        assert!(becomes);
        (share, answers)
    }

    #[test]
    fn the_bracket_is_that_of_halving_with_half_the_answers() {
        for change in [0.003, 0.157, 0.5, 0.731, 0.999] {
            let halved = (change * 256.0_f64).ceil() / 256.0;
            let (linear, few) = found(change, |x| change - x);
            let (curved, more) = found(change, |x| (change - x) * (1.0 + x));
            assert!((linear - halved).abs() + (curved - halved).abs() < 1e-12, "{change}");
            assert!(few <= 6 && more <= 6, "{change}: {few}, {more}");
            // Leads that say nothing cost what halving costs, and one answer more.
            for says_nothing in [f64::NAN, f64::NEG_INFINITY, 0.0] {
                let (share, answers) = found(change, |_| says_nothing);
                assert!((share - halved).abs() < 1e-12 && answers <= 9, "{change}: {answers}");
            }
            // Nor do leads that jump.
            let (share, answers) = found(change, |x| if x < change { 1.0 } else { -100.0 });
            assert!((share - halved).abs() < 1e-12 && answers <= 10, "{change}: {answers}");
        }
    }
}
