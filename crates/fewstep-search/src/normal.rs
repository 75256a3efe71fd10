//! Regressions on vectors that are known beforehand, by their normal equations.

use super::ridge::{Ridge, ridge_solve};
use fewstep_core::space::Samples;

/// Rounds of reweighting in a robust fit. The weights of samples converge within a few.
const ROUNDS: usize = 8;

/// The regressors of a step, whose products serve for every target.
pub(super) struct Normal<'a, V> {
    regressors: &'a [V],
    /// `<a, b>` of each sample.
    gram: Vec<Vec<Vec<f64>>>,
    /// The constant of the pseudo-Huber distance that is made small; without, the squared error is.
    softness: Option<f64>,
}

impl<'a, V: Samples> Normal<'a, V> {
    pub fn new(regressors: &'a [V], softness: Option<f64>) -> Self {
        let mut gram: Vec<Vec<Vec<f64>>> = Vec::with_capacity(regressors.len());
        for (i, a) in regressors.iter().enumerate() {
            let known: Vec<Vec<f64>> = gram.iter().map(|row| row[i].clone()).collect();
            gram.push(known.into_iter().chain(a.sample_dots_with(&regressors[i..])).collect());
        }
        Self { regressors, gram, softness }
    }

    /// The coefficients of the regressors nearest to `target`, by the ridge. The pseudo-Huber distance is made small by
    /// reweighting: every sample counts `1 / sqrt(|r|^2 + c^2)`, `r` what the last round left of it.
    pub fn fit(&self, target: &V, ridge: f64) -> Ridge {
        let right = self.products(target);
        let samples = target.samples();
        let mut fitted = self.solve(&right, &vec![1.0; samples], ridge);
        let Some(c) = self.softness else { return fitted };
        let squares = target.sample_dots(target);
        for _ in 0..ROUNDS {
            let weight = |s: usize| {
                let left = squares[s] - self.explained(&fitted.solution, &right, s);
                (left.max(0.0) + c * c).sqrt().recip()
            };
            let weights: Vec<f64> = (0..samples).map(weight).collect();
            fitted = self.solve(&right, &weights, ridge);
        }
        fitted
    }

    /// `<a, target>` of each sample, for every regressor.
    fn products(&self, target: &V) -> Vec<Vec<f64>> {
        target.sample_dots_with(self.regressors)
    }

    /// `|y|^2 - |y - A x|^2` of sample `s`.
    fn explained(&self, solution: &[f64], right: &[Vec<f64>], s: usize) -> f64 {
        let of = |a: usize| {
            let quadratic: f64 = solution.iter().zip(&self.gram[a]).map(|(x, dots)| x * dots[s]).sum();
            solution[a] * (2.0 * right[a][s] - quadratic)
        };
        (0..right.len()).map(of).sum()
    }

    fn solve(&self, right: &[Vec<f64>], weights: &[f64], ridge: f64) -> Ridge {
        let weighted = |dots: &Vec<f64>| dots.iter().zip(weights).map(|(dot, weight)| dot * weight).sum::<f64>();
        let gram: Vec<Vec<f64>> = self.gram.iter().map(|row| row.iter().map(weighted).collect()).collect();
        ridge_solve(&gram, &right.iter().map(weighted).collect::<Vec<_>>(), ridge)
    }
}

/// What an error counts, the whole batch: its square, or its pseudo-Huber distance of this constant.
pub(super) fn distance<V: Samples>(error: &V, softness: Option<f64>) -> f64 {
    match softness {
        None => error.norm_squared(),
        Some(c) => error.sample_dots(error).into_iter().map(|square| (square + c * c).sqrt() - c).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four samples of one regressor, three of which want the coefficient 2 and one -30.
    #[test]
    fn a_robust_fit_is_not_ruled_by_one_sample() {
        let regressor = vec![vec![1.0, 0.5], vec![-1.0, 2.0], vec![0.3, 1.0], vec![1.0, 1.0]];
        let target = regressor.scale_samples(&[2.0, 2.0, 2.0, -30.0]);
        let regressors = [regressor];
        let fit = |softness| Normal::new(&regressors, softness).fit(&target, 0.0).solution[0];
        let weights = [1.25, 5.0, 1.09, 2.0];
        let mean = (2.0 * (weights[0] + weights[1] + weights[2]) - 30.0 * weights[3]) / weights.iter().sum::<f64>();
        assert!((fit(None) - mean).abs() < 1e-12, "{} {mean}", fit(None));
        assert!((fit(Some(1e-3)) - 2.0).abs() < 1e-2, "{}", fit(Some(1e-3)));
    }
}
