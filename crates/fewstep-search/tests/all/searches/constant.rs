//! Plans that leave the first level by a constant image: what it buys, and that every part knows it.

use std::cell::Cell;

use fewstep_core::mixture::Mixture;
use fewstep_core::plan::Constant;
use fewstep_core::{LastStep, Plan, Solver, Source, VectorSpace, execute};
use fewstep_search::{
    Fit, MeanPrediction, StudentOptions, Teacher, least_squares, least_squares_in, oss, rollout_gradient, squared_error,
};

use crate::support::{denoiser, mixture};

use super::*;

const SAMPLES: usize = 12;

/// A teacher that holds the mean of the outputs at the first level.
fn holding(data: &Mixture) -> Teacher<Vec<f64>> {
    let teacher = teacher(data, &grid(), 3, SAMPLES as u64);
    let sigma = grid().sigma_max();
    let outputs = data.denoised(&teacher.states()[0], sigma);
    let mean: Vec<f64> = (0..2).map(|d| outputs.iter().skip(d).step_by(2).sum::<f64>() / SAMPLES as f64).collect();
    let constant =
        Constant { sigma, shape: vec![1, 1, 2], samples: vec![mean.iter().map(|value| *value as f32).collect()] };
    let evaluations = teacher.evaluations();
    let held = teacher.with_mean(MeanPrediction { batch: mean.repeat(SAMPLES), constant }, 1);
    assert_eq!(held.evaluations(), evaluations + 1);
    held
}

const OPTIONS: StudentOptions = StudentOptions { most: 4, beam: 3, gain: 0.1, last_step: LastStep::ToZero };

#[test]
fn a_constant_image_saves_an_evaluation() {
    let data = mixture();
    let calls = Cell::new(0);
    let denoise = |x: &Vec<f64>, sigma: f64| {
        calls.set(calls.get() + 1);
        denoiser(&data)(x, sigma)
    };
    let held = holding(&data);
    let fit = Fit { history: 2, ridge: 1e-9, ..Fit::default() };
    let with = least_squares(&held, &fit, &OPTIONS, denoise).unwrap();
    assert_eq!(with.evaluations, calls.get());
    let without = least_squares(&teacher(&data, &grid(), 3, SAMPLES as u64), &fit, &OPTIONS, denoiser(&data)).unwrap();
    for (n, found) in with.plans.iter().enumerate() {
        assert_eq!((found.plan.nfe(), found.path.len()), (n + 1, n + 1));
        let own = held.ends().rollout_error(&found.plan, denoiser(&data)).unwrap();
        assert!((own - found.error).abs() < 1e-8 * (1.0 + own), "{own} {}", found.error);
        assert_eq!(Plan::from_json(&found.plan.to_json().unwrap()).unwrap(), found.plan);
        assert_eq!(found.plan.uses(Source::Constant), found.plan.constant.is_some());
        if n < 2 {
            // the outputs at the first level differ from their mean, so it is not worth a whole evaluation
            let (plain, one_more) = (without.plans[n].error, without.plans[n + 1].error);
            assert!(found.plan.constant.is_some());
            assert!(one_more < found.error && found.error < 0.7 * plain, "{n}: {} {plain} {one_more}", found.error);
        }
    }
}

/// A strong ridge leaves Euler's steps, the first of them with the constant in place of the output.
#[test]
fn its_first_step_is_eulers() {
    let data = mixture();
    let outcome =
        least_squares(&holding(&data), &Fit { history: 1, ridge: 1e12, ..Fit::default() }, &OPTIONS, denoiser(&data))
            .unwrap();
    let plan = &outcome.plans[2].plan;
    assert!(plan.constant.is_some());
    for consistency in plan.consistency(0.0) {
        let [[latent, should_latent], [outputs, should_outputs]] = [consistency.latent, consistency.outputs];
        assert!((latent - should_latent).abs() < 1e-9 && (outputs - should_outputs).abs() < 1e-6, "{consistency:?}");
    }
}

#[test]
fn searches_with_solvers_leave_it_alone() {
    let data = mixture();
    let outcome = oss(&holding(&data), Solver::Euler, &OPTIONS, denoiser(&data)).unwrap();
    assert!(outcome.plans.iter().all(|found| found.plan.constant.is_none()));
}

#[test]
fn the_gradient_of_its_coefficient_matches_differences() {
    let data = mixture();
    let held = holding(&data);
    let outcome =
        least_squares(&held, &Fit { history: 1, ridge: 1e-6, ..Fit::default() }, &OPTIONS, denoiser(&data)).unwrap();
    let plan = &outcome.plans[2].plan;
    let target = data.sample(1, SAMPLES);
    let loss = |image: &Vec<f64>| squared_error(image, &target, SAMPLES);
    let (_, gradient) = rollout_gradient(plan, held.ends().start(), &mut &data, |image| Ok(loss(image))).unwrap();
    for (t, (source, _)) in plan.stages[0].input.terms().enumerate() {
        let value = |h: f64| {
            let mut plan = plan.clone();
            *plan.stages[0].input.terms_mut().nth(t).unwrap().1 += h;
            loss(&execute(&plan, held.ends().start(), denoiser(&data)).unwrap()).0
        };
        let difference = (value(1e-5) - value(-1e-5)) / 2e-5;
        let slope = gradient.inputs[0][t];
        assert!((slope - difference).abs() < 1e-4 * (1.0 + difference.abs()), "{source}: {slope} {difference}");
    }
}

type ErrorSpace<'a> = &'a dyn Fn(&Vec<f64>) -> Vec<f64>;

/// A match_variance plan's images vary about the constant as much as the teacher's do, in whatever space errors are compared.
#[test]
fn matching_restores_the_teacher_s_variance() {
    let data = mixture();
    let held = holding(&data);
    let centre = held.ends().mean.as_ref().unwrap().batch.clone();
    // the first coordinate alone
    let first =
        |x: &Vec<f64>| x.iter().enumerate().map(|(i, v)| if i % 2 == 0 { *v } else { 0.0 }).collect::<Vec<f64>>();
    let whole = |x: &Vec<f64>| x.clone();
    let spaces: [ErrorSpace; 2] = [&whole, &first];
    for space in spaces {
        for match_variance in [false, true] {
            let fit = Fit { history: 1, match_variance, ..Fit::default() };
            let outcome = least_squares_in(&held, &fit, &OPTIONS, space, denoiser(&data)).unwrap();
            for found in &outcome.plans {
                let image = execute(&found.plan, held.ends().start(), denoiser(&data)).unwrap();
                let seen = |x: &Vec<f64>| space(&x.difference(&centre)).norm_squared();
                let ratio = seen(&image) / seen(&held.ends().image);
                assert_eq!((ratio - 1.0).abs() < 1e-9, match_variance, "{ratio}");
                let error = space(&image.difference(&held.ends().image)).norm_squared() / SAMPLES as f64;
                assert!((error - found.error).abs() < 1e-8 * (1.0 + error), "{error} {}", found.error);
                assert_eq!(found.plan.metadata.found_by["match_variance"], match_variance);
            }
        }
    }
}

/// Twice the error everywhere is the same search.
#[test]
fn an_error_space_that_scales_changes_nothing() {
    let data = mixture();
    let held = holding(&data);
    let fit = Fit { ridge: 0.0, ..Fit::default() };
    let plain = least_squares(&held, &fit, &OPTIONS, denoiser(&data)).unwrap();
    let twice = |x: &Vec<f64>| x.iter().map(|v| 2.0 * v).collect::<Vec<f64>>();
    let scaled = least_squares_in(&held, &fit, &OPTIONS, twice, denoiser(&data)).unwrap();
    for (a, b) in plain.plans.iter().zip(&scaled.plans) {
        assert_eq!((&a.path, a.plan.sigmas()), (&b.path, b.plan.sigmas()));
        assert!((b.error / a.error - 4.0).abs() < 1e-6);
    }
}
