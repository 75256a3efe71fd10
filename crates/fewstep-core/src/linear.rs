//! Small dense linear systems.

/// The solution of `a x = b` by Gaussian elimination with partial pivoting, for the few unknowns of a solver's order
/// conditions. `a` is square, row by row; a singular system gives infinities or NaN, which plans refuse.
pub(crate) fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for column in 0..n {
        let pivot = (column..n).max_by(|&i, &j| a[i][column].abs().total_cmp(&a[j][column].abs())).unwrap_or(column);
        a.swap(column, pivot);
        b.swap(column, pivot);
        let (upper, lower) = a.split_at_mut(column + 1);
        let pivot_row = &upper[column];
        for (offset, row) in lower.iter_mut().enumerate() {
            let factor = row[column] / pivot_row[column];
            row.iter_mut().zip(pivot_row).for_each(|(value, pivot)| *value -= factor * pivot);
            b[column + 1 + offset] -= factor * b[column];
        }
    }
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|k| a[row][k] * b[k]).sum();
        b[row] = (b[row] - known) / a[row][row];
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_with_pivoting() {
        let a = vec![vec![0.0, 2.0, 1.0], vec![1.0, -1.0, 0.5], vec![4.0, 0.0, -3.0]];
        let x = [1.5, -2.0, 0.25];
        let b = a.iter().map(|row| row.iter().zip(x).map(|(a, x)| a * x).sum()).collect();
        for (found, expected) in solve(a, b).iter().zip(x) {
            assert!((found - expected).abs() < 1e-14);
        }
        assert!(solve(vec![], vec![]).is_empty());
        assert!(!solve(vec![vec![0.0]], vec![1.0])[0].is_finite());
    }
}
