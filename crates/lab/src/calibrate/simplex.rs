//! Minimising without derivatives: the simplex method of Nelder and Mead.
//!
//! A simplex of n + 1 points is reflected, expanded, contracted or shrunk towards its best
//! point, with coefficients that depend on n (Gao and Han 2012, "Implementing the
//! Nelder-Mead simplex algorithm with adaptive parameters"). Deterministic; valid for a
//! handful of parameters of like scale, which logarithms of constants are.

/// Where the search begins: a step of this size along every axis.
const FIRST_STEP: f64 = 0.25;

/// The search ends when no point of the simplex is worse than the best by more.
const TOLERANCE: f64 = 1e-9;

/// The point with the least `loss` that at most `evaluations` have found, and that loss.
///
/// Every round starts anew from the best point so far with a fresh simplex; a loss that
/// is not a number counts as infinite.
pub fn minimise(
    loss: &dyn Fn(&[f64]) -> f64,
    start: &[f64],
    evaluations: usize,
    rounds: usize,
) -> (Vec<f64>, f64) {
    let mut best = (start.to_vec(), finite(loss(start)));
    for _ in 0..rounds {
        let found = descend(loss, &best.0, evaluations / rounds.max(1));
        if found.1 < best.1 {
            best = found;
        }
    }
    best
}

fn finite(loss: f64) -> f64 {
    if loss.is_nan() { f64::INFINITY } else { loss }
}

fn descend(loss: &dyn Fn(&[f64]) -> f64, start: &[f64], evaluations: usize) -> (Vec<f64>, f64) {
    let n = start.len();
    let size = n.max(2) as f64;
    let (expansion, contraction, shrinkage) =
        (1.0 + 2.0 / size, 0.75 - 0.5 / size, 1.0 - 1.0 / size);
    let mut used = 0;
    let mut at = |point: Vec<f64>| {
        used += 1;
        let value = finite(loss(&point));
        (point, value)
    };
    let mut simplex = vec![at(start.to_vec())];
    for axis in 0..n {
        let mut point = start.to_vec();
        point[axis] += FIRST_STEP;
        simplex.push(at(point));
    }
    let mut spent = simplex.len();
    while spent < evaluations && n > 0 {
        simplex.sort_by(|a, b| a.1.total_cmp(&b.1));
        if simplex[n].1 - simplex[0].1 <= TOLERANCE {
            break;
        }
        let centre: Vec<f64> = (0..n)
            .map(|axis| simplex[..n].iter().map(|point| point.0[axis]).sum::<f64>() / n as f64)
            .collect();
        let away = |factor: f64| -> Vec<f64> {
            centre.iter().zip(&simplex[n].0).map(|(c, worst)| c + factor * (c - worst)).collect()
        };
        let reflected = at(away(1.0));
        spent += 1;
        if reflected.1 < simplex[0].1 {
            let expanded = at(away(expansion));
            spent += 1;
            simplex[n] = if expanded.1 < reflected.1 { expanded } else { reflected };
        } else if reflected.1 < simplex[n - 1].1 {
            simplex[n] = reflected;
        } else {
            let outside = reflected.1 < simplex[n].1;
            let contracted = at(away(if outside { contraction } else { -contraction }));
            spent += 1;
            if contracted.1 < simplex[n].1.min(reflected.1) {
                simplex[n] = contracted;
            } else {
                let best = simplex[0].0.clone();
                for point in &mut simplex[1..] {
                    let nearer = best
                        .iter()
                        .zip(&point.0)
                        .map(|(to, from)| to + shrinkage * (from - to))
                        .collect();
                    *point = at(nearer);
                    spent += 1;
                }
            }
        }
    }
    simplex.sort_by(|a, b| a.1.total_cmp(&b.1));
    simplex.swap_remove(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_valley_of_rosenbrock_is_walked_to_its_end() {
        let loss = |x: &[f64]| (1.0 - x[0]).powi(2) + 100.0 * (x[1] - x[0] * x[0]).powi(2);
        let (found, least) = minimise(&loss, &[-1.2, 1.0], 3000, 3);
        assert!(least < 1e-8, "{least} at {found:?}");
        assert!((found[0] - 1.0).abs() < 1e-3 && (found[1] - 1.0).abs() < 1e-3);
    }

    #[test]
    fn a_kink_in_six_dimensions_is_found_and_nothing_is_random() {
        let loss = |x: &[f64]| x.iter().zip(1..).map(|(x, i)| (x - f64::from(i)).abs()).sum();
        let found = minimise(&loss, &[0.0; 6], 6000, 3);
        assert!(found.1 < 1e-3, "{found:?}");
        assert_eq!(found, minimise(&loss, &[0.0; 6], 6000, 3));
    }

    #[test]
    fn what_is_not_a_number_is_avoided_and_nothing_is_made_worse() {
        let loss = |x: &[f64]| if x[0] > 1.0 { f64::NAN } else { -x[0] };
        let (found, _) = minimise(&loss, &[0.5], 200, 1);
        assert!(found[0] > 0.99 && found[0] <= 1.0, "{found:?}");
        assert_eq!(minimise(&|_| f64::NAN, &[3.0], 50, 2).0, [3.0]);
    }
}
