//! The weights that a schedule induces (Eqs. 8 and 12), in sampling order.

use crate::schedule::Schedule;

/// `w_j = 1/sigma_{j+1} - 1/sigma_j > 0` for every level but the last: the coefficients of the outputs in
/// `x / sigma` of an Euler sampler (Eq. 8).
pub fn euler_weights(schedule: &Schedule) -> Vec<f64> {
    schedule.levels().windows(2).map(|pair| (pair[0] - pair[1]) / (pair[0] * pair[1])).collect()
}

/// `a_j = sigma_last w_j` for every level but the last (Eq. 12): the coefficients of the outputs in the Euler
/// sampler's state at the last level. They are positive and sum to `1 - sigma_last / sigma_first`.
pub fn induced_weights(schedule: &Schedule) -> Vec<f64> {
    let last = schedule.sigma_min();
    euler_weights(schedule).into_iter().map(|w| last * w).collect()
}

/// `dL/dsigma` at every level from `dL/da` at every level but the last.
pub fn induced_weights_pullback(schedule: &Schedule, d_a: &[f64]) -> Vec<f64> {
    let sigma = schedule.levels();
    let last = schedule.sigma_min();
    let mut d_sigma = vec![0.0; sigma.len()];
    for (j, (d, w)) in d_a.iter().zip(euler_weights(schedule)).enumerate() {
        d_sigma[j] += d * last / sigma[j].powi(2);
        d_sigma[j + 1] -= d * last / sigma[j + 1].powi(2);
        d_sigma[sigma.len() - 1] += d * w;
    }
    d_sigma
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::karras;

    #[test]
    fn weights_are_positive_and_sum_to_what_is_left() {
        let schedule = karras(9, 0.01, 50.0, 7.0).unwrap();
        let a = induced_weights(&schedule);
        assert_eq!(a.len(), 8);
        assert!(a.iter().all(|a| *a > 0.0));
        assert!((a.iter().sum::<f64>() - (1.0 - 0.01 / 50.0)).abs() < 1e-14);
    }

    #[test]
    fn pullback_matches_differences() {
        let start = karras(5, 0.3, 5.0, 3.0).unwrap();
        let d_a = [0.2, -1.0, 3.0, 0.4];
        let gradient = induced_weights_pullback(&start, &d_a);
        for j in 0..5 {
            let at = |h: f64| {
                let mut levels = start.levels().to_vec();
                levels[j] += h;
                let a = induced_weights(&Schedule::new(levels).unwrap());
                a.iter().zip(d_a).map(|(a, d)| a * d).sum::<f64>()
            };
            assert!((gradient[j] - (at(1e-6) - at(-1e-6)) / 2e-6).abs() < 1e-8, "{j}");
        }
    }
}
