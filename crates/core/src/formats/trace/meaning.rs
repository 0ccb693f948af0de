//! What an array without a name holds, by its numbers: counts, shares, routes, or what a router gave.

use crate::formats::trace::Declared;
use crate::trace::MAX_TOP_K;

/// Rows that must look like routes, where nothing is stated.
const LEAST_ROWS: u64 = 32;
/// Ids of experts are below this; counts of a step seldom are. The widest published model has 512 experts.
const MOST_EXPERTS: f64 = 1024.0;
/// How far shares may be from adding up to 1: half precision has three digits.
const SHARE_ERROR: f64 = 5e-3;

/// What is in the array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Tokens of every expert.
    Counts,
    /// Counts divided by their sum.
    Shares,
    /// Experts of every token; every id is below this.
    Routes(u32),
    /// Logits of every expert.
    Logits,
    /// The share that a token's router gives to every expert.
    Probabilities,
}

impl Meaning {
    /// What is remarked where it is not plain.
    pub(super) fn note(self, width: u64) -> Option<String> {
        match self {
            Self::Counts => None,
            Self::Shares => Some(
                "every row adds up to 1, so how many tokens there were is not known; if the rows are \
                 probabilities of a router, [tokens, layers, experts], state how many experts a token \
                 has (top_k)"
                    .to_owned(),
            ),
            Self::Routes(bound) => Some(format!(
                "read as routes: every row holds {width} different numbers below {bound}; if they are \
                 counts of {width} experts, state num_experts"
            )),
            Self::Logits => Some("router logits were read".to_owned()),
            Self::Probabilities => Some("probabilities of a router were read".to_owned()),
        }
    }
}

/// Rows of an array `[steps, layers, width]` as they come.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what was seen, each on its own")]
pub(super) struct Seen {
    declared: Declared,
    is_integer: bool,
    n_layers: u64,
    width: usize,
    rows: u64,
    negative: bool,
    shares: bool,
    /// Whether an entry is more than a load can have that tokens of `top_k` experts make.
    beyond_top_k: bool,
    ids: bool,
    largest: f64,
    step_sum: f64,
    unlike_sums: bool,
    sorted: Vec<f64>,
}

impl Seen {
    pub(super) fn new(declared: Declared, is_integer: bool, (n_layers, width): (u64, u64)) -> Self {
        Self {
            declared,
            is_integer,
            n_layers,
            width: usize::try_from(width).unwrap_or(usize::MAX),
            rows: 0,
            negative: false,
            shares: !is_integer,
            beyond_top_k: false,
            ids: is_integer
                && width <= MAX_TOP_K as u64
                && declared.experts.map(u64::from) != Some(width),
            largest: 0.0,
            step_sum: 0.0,
            unlike_sums: false,
            sorted: Vec::new(),
        }
    }

    /// Looks at the next row; whether the rest cannot change what is found.
    pub(super) fn row(&mut self, row: &[f64]) -> bool {
        let sum: f64 = row.iter().sum();
        let most = row.iter().copied().fold(0.0, f64::max);
        self.negative |= row.iter().any(|number| *number < 0.0);
        self.shares &= (sum - 1.0).abs() <= SHARE_ERROR;
        self.beyond_top_k |=
            self.declared.top_k.is_some_and(|k| most * f64::from(k) > 1.0 + SHARE_ERROR);
        if self.ids {
            self.sorted.clear();
            self.sorted.extend_from_slice(row);
            self.sorted.sort_unstable_by(f64::total_cmp);
            let distinct = self.sorted.windows(2).all(|pair| pair[0] < pair[1]);
            self.ids = distinct && !self.negative && most < MOST_EXPERTS;
        }
        self.largest = self.largest.max(most);
        if self.rows.is_multiple_of(self.n_layers.max(1)) {
            self.step_sum = sum;
        }
        self.unlike_sums |= sum.total_cmp(&self.step_sum).is_ne();
        self.rows += 1;
        if self.is_integer { !self.ids } else { self.negative }
    }

    /// What the array holds; `is_flat` where it has no steps, so that rows are of layers.
    pub(super) fn meaning(&self, is_flat: bool) -> Meaning {
        if self.negative && !self.is_integer {
            return Meaning::Logits;
        }
        if self.shares && self.rows > 0 {
            let of_tokens = self.beyond_top_k && !is_flat;
            return if of_tokens { Meaning::Probabilities } else { Meaning::Shares };
        }
        let stated = match (self.declared.top_k, self.declared.experts) {
            (Some(top_k), _) => top_k as usize == self.width,
            (None, Some(experts)) => self.largest < f64::from(experts),
            // A token in every layer makes rows of unlike sums, where counts of a step are alike.
            (None, None) => {
                self.rows >= LEAST_ROWS && self.largest >= self.width as f64 && self.unlike_sums
            }
        };
        if self.ids && stated {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a whole number below 1,024"
            )]
            return Meaning::Routes(self.largest as u32 + 1);
        }
        Meaning::Counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(declared: Declared, is_integer: bool, n_layers: u64, rows: &[Vec<f64>]) -> Meaning {
        let mut seen = Seen::new(declared, is_integer, (n_layers, rows[0].len() as u64));
        for row in rows {
            seen.row(row);
        }
        seen.meaning(n_layers == rows.len() as u64)
    }

    #[test]
    fn routes_are_told_from_counts() {
        let nothing = Declared::default();
        // 20 tokens, two layers, two of eight experts.
        let routes: Vec<Vec<f64>> = (0..40_u32)
            .map(|n| vec![f64::from(n % 7), f64::from((n % 7 + 1 + n % 3) % 8)])
            .collect();
        assert_eq!(meaning(nothing, true, 2, &routes), Meaning::Routes(8));
        assert_eq!(meaning(nothing, true, 40, &routes), Meaning::Routes(8), "one layer");
        let two = Declared { experts: Some(2), ..nothing };
        assert_eq!(meaning(two, true, 2, &routes), Meaning::Counts);
        let stated = Declared { top_k: Some(2), ..nothing };
        assert_eq!(meaning(stated, true, 2, &routes[..2]), Meaning::Routes(4));
        // Counts of a step are alike in all layers, and may be equal.
        let counts: Vec<Vec<f64>> =
            (0..40_u32).map(|n| vec![f64::from(100 + n), f64::from(200 - n), 30.0]).collect();
        assert_eq!(meaning(nothing, true, 2, &counts), Meaning::Counts);
        let equal: Vec<Vec<f64>> = (0..40_u32).map(|n| vec![f64::from(n), 5.0]).collect();
        assert_eq!(meaning(nothing, true, 2, &equal), Meaning::Counts);
    }

    #[test]
    fn shares_are_told_from_probabilities_of_tokens() {
        let rows = vec![vec![0.7, 0.2, 0.1], vec![0.2, 0.5, 0.3]];
        let two = Declared { top_k: Some(2), ..Declared::default() };
        assert_eq!(meaning(two, false, 1, &rows), Meaning::Probabilities);
        assert_eq!(meaning(Declared::default(), false, 1, &rows), Meaning::Shares);
        assert_eq!(meaning(two, false, 2, &rows), Meaning::Shares, "rows of layers");
        assert_eq!(meaning(two, false, 1, &[vec![-1.0, 2.0]]), Meaning::Logits);
        assert_eq!(meaning(two, false, 1, &[vec![3.0, 2.0]]), Meaning::Counts);
    }
}
