//! Regressions on vectors that are known beforehand, by their normal equations.

use super::ridge::{Ridge, ridge_solve};
use fewstep_core::space::Samples;

/// Rounds of reweighting in a robust fit. The weights of samples converge within a few.
const ROUNDS: usize = 8;

/// Parts that the samples are in for [`Normal::cross_validated`].
const FOLDS: usize = 8;

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
            gram.push(known.into_iter().chain(regressors[i..].iter().map(|b| a.sample_dots(b))).collect());
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

    /// The index of the ridge whose fits to some of the samples explain the others best: [`FOLDS`] times, every sample is
    /// left out once. By the squared error, whatever the fit makes small. With fewer than two samples, the last.
    pub fn cross_validated(&self, target: &V, ridges: &[f64]) -> usize {
        let samples = target.samples();
        let folds = FOLDS.min(samples);
        if folds < 2 {
            return ridges.len() - 1;
        }
        let right = self.products(target);
        let left_out = |ridge: f64, fold: usize| -> f64 {
            let weights: Vec<f64> = (0..samples).map(|s| if s % folds == fold { 0.0 } else { 1.0 }).collect();
            let solution = self.solve(&right, &weights, ridge).solution;
            // less the targets' squares, which are the same for all
            let error: f64 = (fold..samples).step_by(folds).map(|s| -self.explained(&solution, &right, s)).sum();
            if error.is_nan() { f64::INFINITY } else { error }
        };
        let errors: Vec<f64> = ridges.iter().map(|ridge| (0..folds).map(|fold| left_out(*ridge, fold)).sum()).collect();
        let order = |(_, a): &(usize, &f64), (_, b): &(usize, &f64)| a.total_cmp(b);
        errors.iter().enumerate().min_by(order).map_or(0, |(index, _)| index)
    }

    /// `<a, target>` of each sample, for every regressor.
    fn products(&self, target: &V) -> Vec<Vec<f64>> {
        self.regressors.iter().map(|regressor| regressor.sample_dots(target)).collect()
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
    use fewstep_core::space::VectorSpace;

    /// Regressors of noise, of which one is in the target: the less is left of it beside what is not, the stronger the ridge.
    #[test]
    fn cross_validation_shrinks_what_is_noise() {
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
        };
        let mut batch = || (0..8).map(|_| (0..3).map(|_| noise()).collect()).collect::<Vec<Vec<f64>>>();
        let regressors: Vec<_> = (0..12).map(|_| batch()).collect();
        let unrelated = batch();
        let ridges = [1e-6, 1e-3, 1.0, 1e3];
        let normal = Normal::new(&regressors, None);
        let chosen = |signal: f64, noise: f64| {
            let target = Vec::combine(&[(signal, &regressors[3]), (noise, &unrelated)]);
            normal.cross_validated(&target, &ridges)
        };
        assert_eq!([chosen(1.0, 0.0), chosen(0.0, 1.0)], [0, 3]);
        assert!((1..=2).contains(&chosen(1.0, 1.0)), "{}", chosen(1.0, 1.0));
        let single = [vec![vec![1.0, 2.0]]];
        assert_eq!(Normal::new(&single, None).cross_validated(&vec![vec![1.0, 0.0]], &ridges), 3);
    }

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
