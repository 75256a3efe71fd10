//! Fits along given paths, and paths that move.

use std::cell::Cell;

use fewstep_core::LastStep;
use fewstep_core::mixture::Mixture;
use fewstep_search::{
    Fit, Outcome, SearchError, StudentOptions, Teacher, least_squares, least_squares_along, sweep_evaluations,
};

use crate::support::{denoiser, mixture};

use super::claim::mean_prediction;
use super::*;

const FIT: Fit = Fit { history: 2, ridge: 0.0, match_variance: false, fit_state_coefficient: true, robust: false };

fn along(
    data: &Mixture,
    teacher: &Teacher<Vec<f64>>,
    last_step: LastStep,
    paths: &[Vec<usize>],
    sweeps: usize,
) -> Outcome {
    let calls = Cell::new(0);
    let denoise = |x: &Vec<f64>, sigma: f64| {
        calls.set(calls.get() + 1);
        denoiser(data)(x, sigma)
    };
    let options = StudentOptions { last_step, ..StudentOptions::default() };
    let outcome = least_squares_along(teacher, &FIT, &options, paths, sweeps, Vec::clone, denoise).unwrap();
    assert_eq!(outcome.evaluations, calls.get());
    outcome
}

/// The plans of a search are those along its own paths, with a constant image and without.
#[test]
fn a_search_goes_along_its_paths() {
    let data = mixture();
    let plain = teacher(&data, &grid(), 3, 12);
    let outputs = data.denoised(&plain.states()[0], grid().sigma_max());
    for teacher in [plain.clone(), plain.with_mean(mean_prediction(&outputs, 2, 12), 1)] {
        for last_step in LAST_STEPS {
            let options = StudentOptions { most: 4, last_step, ..StudentOptions::default() };
            let found = least_squares(&teacher, &FIT, &options, denoiser(&data)).unwrap();
            let paths: Vec<Vec<usize>> = found.plans.iter().map(|found| found.path.clone()).collect();
            let again = along(&data, &teacher, last_step, &paths, 0);
            assert_eq!(again.evaluations, 1 + 2 + 3 + 4);
            for (found, again) in found.plans.iter().zip(&again.plans) {
                assert_eq!((&found.path, &found.plan.stages), (&again.path, &again.plan.stages));
                assert_eq!((found.error, &found.plan.output), (again.error, &again.plan.output));
            }
        }
    }
}

/// From the worst path there is, single moves end where none of them helps any more, and nowhere worse than the start.
#[test]
fn sweeps_end_where_no_single_move_helps() {
    let data = mixture();
    let teacher = teacher(&data, &grid(), 3, 12);
    for last_step in LAST_STEPS {
        let end = LEVELS - usize::from(last_step == LastStep::Stop);
        let all = |steps: usize| -> Vec<Vec<usize>> {
            let masks = (0_u32..1 << end).filter(|mask| mask.count_ones() as usize == steps);
            // without a constant image, plans start at the first level
            masks
                .map(|mask| (0..end).filter(|j| mask >> j & 1 == 1).collect())
                .filter(|p: &Vec<usize>| p[0] == 0)
                .collect()
        };
        let error = |path: &[usize]| along(&data, &teacher, last_step, &[path.to_vec()], 0).plans[0].error;
        for steps in 2..=4 {
            let worst = all(steps).into_iter().max_by(|a, b| error(a).total_cmp(&error(b))).unwrap();
            let outcome = along(&data, &teacher, last_step, std::slice::from_ref(&worst), 1000);
            let found = &outcome.plans[0];
            assert!(found.error < error(&worst), "{worst:?} {:?}", found.path);
            assert_eq!(found.plan.metadata.found_by["sweeps"], 1000);
            let own = path_error(&data, &teacher, &found.plan, last_step);
            assert!((own - found.error).abs() < 1e-8 * (1.0 + own), "{own} {}", found.error);
            let near = |path: &Vec<usize>| {
                let apart: Vec<usize> = path.iter().zip(&found.path).map(|(a, b)| a.abs_diff(*b)).collect();
                apart.iter().sum::<usize>() == 1
            };
            for other in all(steps).into_iter().filter(near) {
                // a sweep that gains less than a fiftieth is the last
                assert!(found.error <= 1.05 * error(&other), "{:?} {other:?}", found.path);
            }
        }
    }
}

/// A plan is at least as near as the next longer one without any of its levels, and costs what is promised at most.
#[test]
fn longer_paths_help_shorter_ones() {
    let data = mixture();
    let teacher = teacher(&data, &grid(), 3, 12);
    let paths = [vec![0], vec![0, 1], vec![0, 1, 2], vec![0, 2, 4, 5]];
    let outcome = along(&data, &teacher, LastStep::ToZero, &paths, 1);
    let bound: usize = (1..=4).map(|n| sweep_evaluations(n, 1, n < 4)).sum();
    assert!(outcome.evaluations <= bound, "{} {bound}", outcome.evaluations);
    for pair in outcome.plans.windows(2) {
        for k in 1..pair[1].path.len() {
            let mut less = pair[1].path.clone();
            less.remove(k);
            let error = along(&data, &teacher, LastStep::ToZero, &[less], 0).plans[0].error;
            assert!(pair[0].error <= error, "{} {error}", pair[0].error);
        }
    }
}

#[test]
fn paths_that_do_not_rise_or_leave_the_grid_are_refused() {
    let data = mixture();
    let teacher = teacher(&data, &grid(), 3, 4);
    let options = StudentOptions { last_step: LastStep::Stop, ..StudentOptions::default() };
    for path in [vec![], vec![0, 0], vec![2, 1], vec![0, LEVELS - 1], vec![0, 99], vec![1, 2]] {
        let refused = least_squares_along(&teacher, &FIT, &options, &[path], 1, Vec::clone, denoiser(&data));
        assert!(matches!(refused, Err(SearchError::Grid(_))));
    }
    let fit = Fit { ridge: f64::NAN, ..FIT };
    let refused = least_squares_along(&teacher, &fit, &options, &[vec![0]], 1, Vec::clone, denoiser(&data));
    assert!(matches!(refused, Err(SearchError::Option { name: "ridge", .. })));
}
