//! The functions of exponential integrators.

/// `phi_k(z) = integral over u in [0, 1] of e^((1-u) z) u^(k-1) / (k-1)!`, `k >= 1`; equivalently `phi_0 = e^z`,
/// `phi_{k+1}(z) = (phi_k(z) - 1/k!) / z`, `phi_k(0) = 1/k!`.
pub(super) fn phi(k: usize, z: f64) -> f64 {
    if z.abs() > 1.0 {
        let mut value = z.exp_m1() / z;
        let mut factorial = 1.0;
        for j in 1..k {
            factorial *= j as f64;
            value = (value - 1.0 / factorial) / z;
        }
        value
    } else {
        // The recurrence cancels for small z; the series sum_j z^j / (j + k)! does not.
        let mut term = 1.0 / (1..=k).map(|j| j as f64).product::<f64>();
        let mut sum = 0.0;
        for j in 1..=20 {
            sum += term;
            term *= z / (j + k) as f64;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_and_recurrence_agree_and_satisfy_it() {
        for z in [-9.0, -1.0001, -0.9999, -0.3, -1e-4, 1e-9, 0.7, 3.0_f64] {
            assert!((phi(1, z) / (z.exp_m1() / z) - 1.0).abs() < 1e-12);
            for (k, inverse_factorial) in [(1, 1.0), (2, 0.5), (3, 1.0 / 6.0)] {
                assert!((z * phi(k + 1, z) - (phi(k, z) - inverse_factorial)).abs() < 1e-13, "phi_{k}({z})");
            }
        }
        assert!((phi(4, 0.0) - 1.0 / 24.0).abs() < 1e-17);
        assert!((phi(4, -1.0 - 1e-12) / phi(4, -1.0) - 1.0).abs() < 1e-10);
    }
}
