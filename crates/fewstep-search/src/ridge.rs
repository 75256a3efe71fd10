//! Ridge regression on a Gram matrix.

/// A solution, and whether the system took more regularisation than was asked for.
pub(super) struct Ridge {
    pub solution: Vec<f64>,
    pub raised: bool,
}

/// Below this part of the mean diagonal, a pivot is rounding noise.
const NOISE: f64 = 1e-13;

/// The minimum of `||A x - y||^2 + ridge s ||x||^2` from `gram = A^T A` (square) and `right = A^T y`; `s` is the mean
/// diagonal of the Gram matrix, so that `ridge` has no unit. A system that is singular to rounding gets ten times the
/// ridge, as often as it takes; one without any finite positive diagonal has the solution 0.
pub(super) fn ridge_solve(gram: &[Vec<f64>], right: &[f64], ridge: f64) -> Ridge {
    let n = right.len();
    let scale = scale(gram);
    if scale.is_finite() && scale > 0.0 {
        let mut lambda = ridge;
        while lambda < 1e3 {
            let solution = cholesky(gram, lambda * scale, NOISE * scale).map(|lower| substitute(&lower, right));
            if let Some(solution) = solution.filter(|x| x.iter().all(|x| x.is_finite())) {
                return Ridge { solution, raised: lambda > ridge };
            }
            lambda = (10.0 * lambda).max(1e-12);
        }
    }
    Ridge { solution: vec![0.0; n], raised: true }
}

/// The lower triangle `L` with `L L^T = gram + ridge s I`, `s` the mean diagonal; none if there is none.
pub(super) fn factor(gram: &[Vec<f64>], ridge: f64) -> Option<Vec<Vec<f64>>> {
    let scale = scale(gram);
    (scale.is_finite() && scale > 0.0).then(|| cholesky(gram, ridge * scale, NOISE * scale)).flatten()
}

/// The mean diagonal.
fn scale(gram: &[Vec<f64>]) -> f64 {
    (0..gram.len()).map(|i| gram[i][i]).sum::<f64>() / gram.len() as f64
}

/// `L` with `L L^T = gram + shift I`; none if a pivot is not above `least`.
fn cholesky(gram: &[Vec<f64>], shift: f64, least: f64) -> Option<Vec<Vec<f64>>> {
    let mut lower: Vec<Vec<f64>> = Vec::with_capacity(gram.len());
    for (i, values) in gram.iter().enumerate() {
        let mut row: Vec<f64> = Vec::with_capacity(i + 1);
        for (j, above) in lower.iter().enumerate() {
            let sum: f64 = row.iter().zip(above).map(|(a, b)| a * b).sum();
            row.push((values[j] - sum) / above[j]);
        }
        let pivot = values[i] + shift - row.iter().map(|v| v * v).sum::<f64>();
        if pivot.is_nan() || pivot <= least {
            return None;
        }
        row.push(pivot.sqrt());
        lower.push(row);
    }
    Some(lower)
}

fn substitute(lower: &[Vec<f64>], right: &[f64]) -> Vec<f64> {
    backward(lower, &forward(lower, right))
}

/// `L^-1 y`.
pub(super) fn forward(lower: &[Vec<f64>], y: &[f64]) -> Vec<f64> {
    let mut x = y.to_vec();
    for i in 0..x.len() {
        let known: f64 = (0..i).map(|k| lower[i][k] * x[k]).sum();
        x[i] = (x[i] - known) / lower[i][i];
    }
    x
}

/// `L^-T y`.
pub(super) fn backward(lower: &[Vec<f64>], y: &[f64]) -> Vec<f64> {
    let mut x = y.to_vec();
    for i in (0..x.len()).rev() {
        let known: f64 = (i + 1..x.len()).map(|k| lower[k][i] * x[k]).sum();
        x[i] = (x[i] - known) / lower[i][i];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_regular_systems_without_help() {
        let gram = vec![vec![4.0, 1.0, 0.5], vec![1.0, 3.0, -0.2], vec![0.5, -0.2, 2.0]];
        let x = [1.5, -2.0, 0.25];
        let right: Vec<f64> = gram.iter().map(|row| row.iter().zip(x).map(|(g, x)| g * x).sum()).collect();
        let found = ridge_solve(&gram, &right, 0.0);
        assert!(!found.raised && found.solution.iter().zip(x).all(|(a, b)| (a - b).abs() < 1e-13));
        let shrunk = ridge_solve(&gram, &right, 1e6);
        assert!(shrunk.solution.iter().all(|x| x.abs() < 1e-4));
    }

    #[test]
    fn singular_systems_are_regularised_and_said_so() {
        let same = vec![vec![2.0, 2.0], vec![2.0, 2.0]];
        let found = ridge_solve(&same, &[1.0, 1.0], 0.0);
        assert!(found.raised && found.solution.iter().all(|x| (x - 0.25).abs() < 1e-3), "{:?}", found.solution);
        assert!(!ridge_solve(&same, &[1.0, 1.0], 1e-6).raised);
        for hopeless in [0.0, f64::NAN, f64::INFINITY] {
            let found = ridge_solve(&[vec![hopeless]], &[1.0], 1e-6);
            assert!(found.raised && found.solution == [0.0]);
        }
        assert_eq!(ridge_solve(&[vec![1.0]], &[f64::NAN], 0.0).solution, [0.0]);
    }
}
