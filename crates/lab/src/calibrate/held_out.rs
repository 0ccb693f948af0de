//! Errors on shapes that a fit has not seen.

/// The part of every row: shapes in order take turns. `None` with too few shapes.
pub(super) fn folds(shapes: &[Vec<u64>], parts: usize) -> Option<Vec<usize>> {
    let mut distinct: Vec<&Vec<u64>> = shapes.iter().collect();
    distinct.sort();
    distinct.dedup();
    if distinct.len() < parts {
        return None;
    }
    let fold = |shape: &Vec<u64>| distinct.binary_search(&shape).map_or(0, |at| at % parts);
    Some(shapes.iter().map(fold).collect())
}

/// Errors of every row, in order, by a `fit` to the rows of all other folds.
pub(super) fn held_out<Row: Clone, Fitted>(
    rows: &[Row],
    folds: &[usize],
    fit: impl Fn(&[Row]) -> Option<Fitted>,
    errors: impl Fn(&[Row], &Fitted) -> Vec<f64>,
) -> Option<Vec<f64>> {
    let mut all = vec![0.0; rows.len()];
    for fold in 0..=folds.iter().copied().max()? {
        let part = |inside: bool| -> Vec<Row> {
            let chosen = rows.iter().zip(folds).filter(|(_, of)| (**of == fold) == inside);
            chosen.map(|(row, _)| row.clone()).collect()
        };
        let found = errors(&part(true), &fit(&part(false))?);
        let at = (0..rows.len()).filter(|i| folds[*i] == fold);
        for (i, error) in at.zip(found) {
            all[i] = error;
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_keep_shapes_whole() {
        let shapes = [3, 1, 2, 1, 3, 4].map(|n| vec![n]);
        assert_eq!(folds(&shapes, 3).unwrap(), [2, 0, 1, 0, 2, 0]);
        assert_eq!(folds(&shapes[..2], 3), None);
    }

    #[test]
    fn no_row_is_judged_by_a_fit_that_has_seen_its_fold() {
        let rows = [1.0, 2.0, 3.0, 4.0];
        let sum = |rows: &[f64]| Some(rows.iter().sum::<f64>());
        let apart = |rows: &[f64], seen: &f64| rows.iter().map(|row| seen - row).collect();
        assert_eq!(held_out(&rows, &[0, 1, 0, 1], sum, apart).unwrap(), [5.0, 2.0, 3.0, 0.0]);
        assert_eq!(held_out(&rows, &[0, 1, 0, 1], |_| None::<f64>, apart), None);
    }
}
