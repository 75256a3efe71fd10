//! The objectives on exact denoisers: equations against each other, gradients against differences, Theorem 1.

use fewstep_core::mixture::{NoiseSharing, NoisedBatch};
use fewstep_core::objective::{ForwardNoised, Objective, induced_weights, loss, loss_and_gradient};
use fewstep_core::optimise::Adam;
use fewstep_core::schedule::{Scale, SoftmaxIncrements, karras};
use fewstep_core::{LastStep, Schedule, Solver, SolverOptions, VectorSpace};

use crate::support::mixture;

const SHARINGS: [NoiseSharing; 2] = [NoiseSharing::Independent, NoiseSharing::Shared];

#[test]
fn gradients_match_differences_at_every_level() {
    let data = mixture();
    let schedule = karras(6, 0.05, 8.0, 5.0).unwrap();
    for sharing in SHARINGS {
        let mut batch = NoisedBatch::new(&data, 8, 5, sharing);
        for objective in [Objective::Discretization, Objective::Bound, Objective::Joint { gamma: 0.3 }] {
            let (at_schedule, gradient) = loss_and_gradient(objective, &schedule, &mut batch).unwrap();
            assert_eq!(at_schedule, loss(objective, &schedule, &mut batch).unwrap());
            for j in 0..schedule.len() {
                let h = 1e-5 * schedule.levels()[j];
                let mut at = |h: f64| {
                    let mut levels = schedule.levels().to_vec();
                    levels[j] += h;
                    loss(objective, &Schedule::new(levels).unwrap(), &mut batch).unwrap().total
                };
                let difference = (at(h) - at(-h)) / (2.0 * h);
                let tolerance = 1e-6 * (difference.abs() + at_schedule.total / schedule.levels()[j]);
                assert!(
                    (gradient[j] - difference).abs() < tolerance,
                    "{objective:?} {sharing:?} {j}: {} {difference}",
                    gradient[j]
                );
            }
        }
    }
}

/// Eq. 11 is Eq. 10 with `y` pulled out of the sum, the noise terms written out.
#[test]
fn equation_11_is_equation_10() {
    let data = mixture();
    let schedule = karras(5, 0.1, 20.0, 7.0).unwrap();
    let (first, last) = (schedule.sigma_max(), schedule.sigma_min());
    for sharing in SHARINGS {
        let mut batch = NoisedBatch::new(&data, 6, 2, sharing);
        let (y, n_first, n) = (batch.clean().clone(), batch.noise(0), batch.noise(99));
        let a = induced_weights(&schedule);
        let outputs: Vec<Vec<f64>> =
            a.iter().enumerate().map(|(j, _)| batch.denoised(j, schedule.levels()[j]).unwrap()).collect();
        // sigma_1 s_N x_N + sum_i a_i D_i - (y + sigma_1 n)
        let x_first = batch.noisy(0, first);
        let mut terms = vec![(last / first, &x_first), (-1.0, &y), (-last, &n)];
        terms.extend(a.iter().copied().zip(&outputs));
        let equation_10 = Vec::combine(&terms);
        // sum_i a_i (D_i - y) + sigma_1 (n_N - n)
        let errors: Vec<Vec<f64>> = outputs.iter().map(|d| d.difference(&y)).collect();
        let residual = Vec::combine(&a.iter().copied().zip(&errors).collect::<Vec<_>>());
        let equation_11 = Vec::combine(&[(1.0, &residual), (last, &n_first), (-last, &n)]);
        assert!(equation_10.difference(&equation_11).norm_squared() < 1e-24);
        let discretization = loss(Objective::Discretization, &schedule, &mut batch).unwrap().discretization;
        assert!((discretization / residual.norm_squared() - 1.0).abs() < 1e-12);
    }
}

/// Eq. 10's left side is the Euler sampler with its outputs replaced by those on forward-noised data.
#[test]
fn equation_10_is_the_sampler_fed_forward_noised_data() {
    let data = mixture();
    let schedule = karras(6, 0.1, 20.0, 7.0).unwrap();
    let mut batch = NoisedBatch::new(&data, 3, 8, NoiseSharing::Shared);
    let options = SolverOptions { last_step: LastStep::Stop, analytical_first_step: false };
    let plan = Solver::Euler.plan(&schedule, &options).unwrap();
    let x_first = batch.noisy(0, schedule.sigma_max());
    let latent: Vec<f64> = x_first.iter().map(|x| x / schedule.sigma_max()).collect();
    let mut level = 0;
    let state = fewstep_core::execute(&plan, &latent, |_, sigma| {
        level += 1;
        batch.denoised(level - 1, sigma)
    })
    .unwrap();
    let mut expected: Vec<f64> = latent.iter().map(|v| v * schedule.sigma_min()).collect();
    for (j, a) in induced_weights(&schedule).into_iter().enumerate() {
        let output = batch.denoised(j, schedule.levels()[j]).unwrap();
        expected.iter_mut().zip(output).for_each(|(e, d)| *e += a * d);
    }
    assert!(state.difference(&expected).norm_squared() < 1e-24);
}

#[test]
fn the_bound_is_above_the_discretization_loss() {
    let data = mixture();
    for (seed, rho) in [(1, 1.0), (2, 3.0), (3, 7.0), (4, 20.0)] {
        for n in [2, 3, 7, 20] {
            let schedule = karras(n, 0.01, 50.0, rho).unwrap();
            for sharing in SHARINGS {
                let mut batch = NoisedBatch::new(&data, 16, seed, sharing);
                let joint = loss(Objective::Joint { gamma: 0.5 }, &schedule, &mut batch).unwrap();
                assert!(joint.discretization <= joint.bound, "{rho} {n} {sharing:?}");
                assert!((joint.total - joint.discretization - 0.5 * joint.bound).abs() < 1e-12 * joint.total);
            }
        }
    }
}

/// Outputs that do not depend on the level.
struct Agreeing(Vec<f64>);

impl ForwardNoised<Vec<f64>> for Agreeing {
    type Error = ();

    fn clean(&self) -> &Vec<f64> {
        &self.0
    }

    fn denoised(&mut self, _: usize, _: f64) -> Result<Vec<f64>, ()> {
        Ok(self.0.iter().enumerate().map(|(pixel, value)| value * 0.5 + pixel as f64).collect())
    }

    fn pullback(&mut self, _: usize, _: f64, _: &Vec<f64>) -> Result<f64, ()> {
        Ok(0.0)
    }
}

/// Jensen's inequality is an equality of convex combinations where all outputs agree. The weights sum to `A = 1 - sigma_1 / sigma_N`,
/// not to 1, which leaves a factor `A` between the two.
#[test]
fn the_bound_is_tight_where_outputs_agree() {
    let mut batch = Agreeing(vec![0.3, -1.2, 0.7]);
    for n in [2, 5, 20] {
        let schedule = karras(n, 0.01, 50.0, 7.0).unwrap();
        let sum = 1.0 - schedule.sigma_min() / schedule.sigma_max();
        let found = loss(Objective::Discretization, &schedule, &mut batch).unwrap();
        assert!((found.discretization - sum * found.bound).abs() < 1e-12 * found.bound, "{n}: {found:?}");
        assert!(found.bound > 1.0);
    }
    // and nowhere near it where they do not
    let data = mixture();
    let mut batch = NoisedBatch::new(&data, 16, 1, NoiseSharing::Independent);
    let found = loss(Objective::Discretization, &karras(5, 0.01, 50.0, 7.0).unwrap(), &mut batch).unwrap();
    assert!(found.discretization < 0.9 * found.bound, "{found:?}");
}

/// Adam on theta with the gradient of Eq. 14, as phase 1 runs it.
fn optimise(objective: Objective, start: &Schedule, batch: &mut NoisedBatch, steps: usize) -> Schedule {
    let (increments, mut theta) = SoftmaxIncrements::from_schedule(start, Scale::Log);
    let mut adam = Adam::new(0.05);
    for step in 0..steps {
        adam.learning_rate = 0.05 * (1.0 - step as f64 / steps as f64);
        let schedule = increments.sigmas(&theta).unwrap();
        let (_, d_sigma) = loss_and_gradient(objective, &schedule, batch).unwrap();
        let gradient = increments.pullback(&theta, &d_sigma).unwrap();
        adam.step(&mut theta, &gradient).unwrap();
    }
    increments.sigmas(&theta).unwrap()
}

/// The two sides of Theorem 1 at an inner level `j`: `<R, D_j - D_{j-1}>` and `(s_{j+1} - s_j) <R, dD_j/ds>`, with the
/// derivative taken as a difference, independently of the gradient code.
fn theorem_1(schedule: &Schedule, batch: &mut NoisedBatch, j: usize) -> (f64, f64) {
    let sigma = schedule.levels();
    let y = batch.clean().clone();
    let a = induced_weights(schedule);
    let errors: Vec<Vec<f64>> = (0..a.len()).map(|j| batch.denoised(j, sigma[j]).unwrap().difference(&y)).collect();
    let residual = Vec::combine(&a.iter().copied().zip(&errors).collect::<Vec<_>>());
    let h = 1e-5 * sigma[j];
    let (above, below) = (batch.denoised(j, sigma[j] + h).unwrap(), batch.denoised(j, sigma[j] - h).unwrap());
    let d_sigma = residual.dot(&above.difference(&below)) / (2.0 * h);
    // ds = -dsigma / sigma^2
    let right = (1.0 / sigma[j + 1] - 1.0 / sigma[j]) * d_sigma * -sigma[j].powi(2);
    (residual.dot(&errors[j].difference(&errors[j - 1])), right)
}

#[test]
fn theorem_1_holds_at_a_numerical_optimum_and_not_before() {
    let data = mixture();
    let start = karras(4, 0.2, 8.0, 3.0).unwrap();
    let mut batch = NoisedBatch::new(&data, 200, 1, NoiseSharing::Independent);
    let optimum = optimise(Objective::Discretization, &start, &mut batch, 1500);
    let before = loss(Objective::Discretization, &start, &mut batch).unwrap().total;
    let after = loss(Objective::Discretization, &optimum, &mut batch).unwrap().total;
    assert!(after < 0.99 * before, "{before} {after}");
    for j in 1..3 {
        let mismatch = |(left, right): (f64, f64)| (left - right).abs() / (left.abs() + right.abs());
        let (at_start, at_optimum) =
            (mismatch(theorem_1(&start, &mut batch, j)), mismatch(theorem_1(&optimum, &mut batch, j)));
        assert!(at_optimum < 1e-4, "level {j} of {optimum:?}: {at_optimum}");
        assert!(at_start > 1e-2, "level {j}: {at_start}");
    }
}
