//! How sure a difference between two strategies is.

use crate::pricing::entry::Bands;
use crate::system::Preset;
use crate::terms::Terms;

/// Margins up to this are ties even where formulas are taken at their word.
const EQUAL: f64 = 1e-9;

/// Margins up to this are ties in calibrated mode, however small the differing terms.
///
/// Sums over a layer are known to 2 to 12 % (`docs/accuracy.md`); most of that is common to
/// all strategies, and what does not cancel is taken as 1 %.
const UNRESOLVED: f64 = 0.01;

/// The margin up to which two priced layers are equals: their error band, or the least
/// margin that counts where that is more.
#[must_use]
pub fn resolution(one: &Terms, two: &Terms, bands: &Bands, preset: Preset) -> f64 {
    let least = match preset {
        Preset::Paper => EQUAL,
        Preset::Calibrated => UNRESOLVED,
    };
    if bands.are_exact() { least } else { margin_band(one, two, bands).max(least) }
}

/// Relative error band of the margin between two priced strategies.
///
/// ```text
/// band = sqrt( Σ_t (b_t · (x_t − y_t))² ) / min(Σ x, Σ y)
/// ```
///
/// `x_t`, `y_t` the terms, `b_t` their relative bands. A term's law errs in the same direction
/// for both strategies, so only the difference of the two carries the error: linearised
/// propagation with errors shared within a term and independent between terms.
/// Worked number: expert terms 1.0 and 1.2 ms of layers of 2.0 and 2.2 ms, band 10 %:
/// 0.1 · 0.2 / 2.0 = 1 %.
#[must_use]
pub fn margin_band(one: &Terms, two: &Terms, bands: &Bands) -> f64 {
    let differences = one.with(two, |x, y| (x - y).get());
    let squares = bands.with(&differences, |band, difference| (band.relative * difference).powi(2));
    let squares: f64 = squares.named().map(|(_, square)| square).sum();
    let least = one.total().min(two.total()).get();
    if least > 0.0 { squares.sqrt() / least } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::Basis;
    use crate::pricing::entry::Band;
    use crate::units::Seconds;

    #[test]
    fn only_the_difference_carries_the_error() {
        let terms = |ffn| Terms {
            attention: Seconds::new(1e-3),
            expert_ffn: Seconds::new(ffn),
            ..Terms::default()
        };
        let bands = Bands::all(Band { relative: 0.1, basis: Basis::Fitted });
        assert!((margin_band(&terms(1.0e-3), &terms(1.2e-3), &bands) - 0.01).abs() < 1e-12);
    }
}
