//! The k largest of a few scores.

/// Writes the places of the largest scores into `named`, the largest first, equals by place.
///
/// There must be at least as many scores as places asked for.
pub(super) fn top(scores: &[f32], named: &mut [u16]) {
    let mut n = 0;
    for (place, score) in (0_u16..).zip(scores) {
        let above = |at: u16| scores[usize::from(at)] >= *score;
        if n == named.len() && n > 0 && above(named[n - 1]) {
            continue;
        }
        let at = named[..n].iter().position(|at| !above(*at)).unwrap_or(n);
        if n < named.len() {
            n += 1;
        }
        named[at..n].rotate_right(1);
        named[at] = place;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_a_stable_sort_would(scores in prop::collection::vec(0_u8..6, 1..30), k in 1_usize..9) {
            prop_assume!(k <= scores.len());
            let scores: Vec<f32> = scores.into_iter().map(f32::from).collect();
            let mut order: Vec<u16> = (0..u16::try_from(scores.len()).unwrap()).collect();
            order.sort_by(|a, b| scores[usize::from(*b)].total_cmp(&scores[usize::from(*a)]));
            let mut named = vec![0; k];
            top(&scores, &mut named);
            prop_assert_eq!(named, order[..k].to_vec());
        }
    }
}
