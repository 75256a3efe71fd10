//! Fitted steps: against all paths, and at the edges of what can be fitted.

use std::cell::Cell;

use fewstep_core::mixture::Mixture;
use fewstep_core::{LastStep, Solver, Source, VectorSpace};
use fewstep_search::{Fit, StudentOptions, Teacher, least_squares, oss};

use crate::support::{denoiser, mixture};

use super::*;

/// The best plan of a path with every step fitted in turn, by a method of its own: coordinate descent on the residual.
fn fitted_error(data: &Mixture, teacher: &Teacher<Vec<f64>>, path: &[usize], history: usize) -> f64 {
    let (mut x, mut outputs): (Vec<f64>, Vec<Vec<f64>>) = (Vec::combine(&[(20.0, &teacher.ends().latent)]), vec![]);
    for (step, &i) in path.iter().enumerate() {
        let sigma = grid().levels()[i];
        outputs.insert(0, data.denoised(&x, sigma));
        outputs.truncate(history + 1);
        let (sigma_to, target) = match path.get(step + 1) {
            Some(&j) => (grid().levels()[j], &teacher.states()[j]),
            None => (0.0, &teacher.ends().image),
        };
        let mut rest = Vec::combine(&[(1.0, target), (-sigma_to / sigma, &x)]);
        // an orthogonal basis of the outputs, in which a projection is a loop
        let mut basis: Vec<Vec<f64>> = Vec::new();
        for output in &outputs {
            let mut u = output.clone();
            for _ in 0..2 {
                for b in &basis {
                    u = Vec::combine(&[(1.0, &u), (-u.dot(b), b)]);
                }
            }
            let length = u.norm_squared().sqrt();
            basis.push(u.iter().map(|v| v / length).collect());
        }
        for b in &basis {
            rest = Vec::combine(&[(1.0, &rest), (-rest.dot(b), b)]);
        }
        x = target.difference(&rest);
    }
    x.difference(&teacher.ends().image).norm_squared() / teacher.ends().samples as f64
}

#[test]
fn least_squares_with_every_state_kept_is_the_least_of_all_fitted_paths() {
    let data = mixture();
    let teacher = teacher(&data, &grid(), 3, 12);
    for history in 0..=2 {
        let calls = Cell::new(0);
        let denoise = |x: &Vec<f64>, sigma: f64| {
            calls.set(calls.get() + 1);
            denoiser(&data)(x, sigma)
        };
        let options = StudentOptions { most: 4, beam: 1000, gain: f64::NEG_INFINITY, ..StudentOptions::default() };
        let outcome =
            least_squares(&teacher, &Fit { history, ridge: 0.0, ..Fit::default() }, &options, denoise).unwrap();
        check(&outcome, LastStep::ToZero, calls.get());
        for found in &outcome.plans {
            let all = paths(found.path.len(), LastStep::ToZero);
            let least = all.iter().map(|p| fitted_error(&data, &teacher, p, history)).fold(f64::INFINITY, f64::min);
            assert!((found.error / least - 1.0).abs() < 1e-6, "history {history}: {} {least}", found.error);
            let own = path_error(&data, &teacher, &found.plan, LastStep::ToZero);
            assert!((own - found.error).abs() < 1e-8 * (1.0 + own), "{own} {}", found.error);
            assert_eq!(found.plan.metadata.found_by["regularised"], false);
        }
    }
}

/// The state's coefficient is given and the outputs' are at their optimum: any change of one makes the end worse.
#[test]
fn the_last_step_is_fitted() {
    let data = mixture();
    let teacher = teacher(&data, &grid(), 3, 12);
    for last_step in LAST_STEPS {
        let options = StudentOptions { most: 4, beam: 1, last_step, ..StudentOptions::default() };
        let outcome =
            least_squares(&teacher, &Fit { history: 2, ridge: 0.0, ..Fit::default() }, &options, denoiser(&data))
                .unwrap();
        let found = &outcome.plans[3];
        let terms: Vec<(Source, f64)> = found.plan.output.terms().collect();
        assert_eq!(terms.iter().filter(|(source, _)| matches!(source, Source::Output(_))).count(), 3);
        for (index, (source, _)) in terms.iter().enumerate() {
            for change in [1e-2, -1e-2] {
                let mut plan = found.plan.clone();
                *plan.output.terms_mut().nth(index).unwrap().1 += change;
                let error = path_error(&data, &teacher, &plan, last_step);
                assert!(error > found.error || matches!(source, Source::Input(_)), "{source}");
            }
        }
    }
}

#[test]
fn a_strong_ridge_is_euler() {
    let data = mixture();
    let teacher = teacher(&data, &grid(), 3, 8);
    for last_step in LAST_STEPS {
        let options = StudentOptions { most: 4, beam: 2, last_step, ..StudentOptions::default() };
        let ridge =
            least_squares(&teacher, &Fit { history: 2, ridge: 1e12, ..Fit::default() }, &options, denoiser(&data))
                .unwrap();
        let euler = oss(&teacher, Solver::Euler, &options, denoiser(&data)).unwrap();
        for (a, b) in ridge.plans.iter().zip(&euler.plans) {
            assert_eq!(a.path, b.path);
            assert!((a.error / b.error - 1.0).abs() < 1e-6);
        }
    }
}

/// Data that is one point has one output at every level: the normal equations are singular, and any solution is right.
#[test]
fn singular_fits_are_regularised_and_said_so() {
    let point = Mixture::gaussian(vec![0.7, -0.2], 0.0).unwrap();
    let teacher = teacher(&point, &grid(), 0, 3);
    let options = StudentOptions { most: 4, beam: 2, ..StudentOptions::default() };
    let outcome =
        least_squares(&teacher, &Fit { history: 2, ridge: 0.0, ..Fit::default() }, &options, denoiser(&point)).unwrap();
    for found in &outcome.plans {
        found.plan.validate().unwrap();
        assert_eq!(found.plan.metadata.found_by["regularised"], found.plan.nfe() > 1);
        assert!(found.error < 1e-18, "{}", found.error);
    }
    let asked = least_squares(&teacher, &Fit { history: 2, ridge: 1e-6, ..Fit::default() }, &options, denoiser(&point))
        .unwrap();
    assert!(asked.plans.iter().all(|found| found.plan.metadata.found_by["regularised"] == false));
}

/// Data, levels and plans in another unit are the same ones: what the ridge does has none.
#[test]
fn the_unit_of_the_data_does_not_matter() {
    let data = mixture();
    let fit = Fit { fit_state_coefficient: true, ..Fit::default() };
    let options = StudentOptions { most: 5, beam: 2, ..StudentOptions::default() };
    let errors = |unit: f64| -> Vec<f64> {
        let levels = Schedule::new(grid().levels().iter().map(|level| unit * level).collect()).unwrap();
        let denoise = |x: &Vec<f64>, sigma: f64| {
            let one = denoiser(&data)(&Vec::combine(&[(1.0 / unit, x)]), sigma / unit)?;
            Ok::<_, std::convert::Infallible>(Vec::combine(&[(unit, &one)]))
        };
        let latent = latents(&data, 3, 12);
        let teacher =
            Teacher::solve(Solver::Heun, &refined(&levels, 3).unwrap(), &levels, latent, 12, denoise).unwrap();
        let found = least_squares(&teacher, &fit, &options, denoise).unwrap();
        found.plans.iter().map(|found| found.error / unit.powi(2)).collect()
    };
    let one = errors(1.0);
    for unit in [1e-3, 1e3] {
        for (other, error) in errors(unit).iter().zip(&one) {
            assert!((other / error - 1.0).abs() < 1e-6, "{unit}: {other} for {error}");
        }
    }
}
