//! The search over a solver's own states: against its definition, and against all paths.

use std::cell::Cell;

use fewstep_core::mixture::Mixture;
use fewstep_core::{LastStep, Schedule, Solver};
use fewstep_search::{SearchError, StudentOptions, Teacher, oss};

use crate::support::{denoiser, distance, mixture};

use super::*;

/// The dynamic program by its definition: the path kept at `(k, j)` is the best of those kept at `(k - 1, i)`, prolonged.
fn by_definition(
    data: &Mixture,
    teacher: &Teacher<Vec<f64>>,
    solver: Solver,
    most: usize,
    last: LastStep,
) -> Vec<Vec<usize>> {
    let ends = |path: &[usize], j: usize| {
        let levels = path.iter().copied().chain([j]).map(|j| grid().levels()[j]).collect();
        // steps to come, for solvers that lower their order at the end
        let mut all: Vec<f64> = levels;
        let here = all.len() - 1;
        all.extend([all[here] / 3.0, all[here] / 9.0]);
        let plan = solver.plan(&Schedule::new(all).unwrap(), &options(LastStep::Stop)).unwrap();
        let mut state = Vec::new();
        fewstep_core::execute_observed(&plan, &teacher.ends().latent, denoiser(data), |k, x, _| {
            if k == here {
                state.clone_from(x);
            }
        })
        .unwrap();
        distance(&state, &teacher.states()[j])
    };
    let free = LEVELS - usize::from(last == LastStep::Stop);
    let mut kept: Vec<Option<Vec<usize>>> = vec![None; free];
    kept[0] = Some(vec![0]);
    let mut found = Vec::new();
    for _ in 0..most {
        let error = |path: &Vec<usize>| {
            path_error(data, teacher, &solver.plan(&schedule(path, last), &options(last)).unwrap(), last)
        };
        let best = kept.iter().flatten().min_by(|a, b| error(a).total_cmp(&error(b)));
        found.push(best.unwrap().clone());
        let next = |j: usize| {
            let before = kept[..j].iter().flatten().min_by(|a, b| ends(a, j).total_cmp(&ends(b, j)))?;
            Some(before.iter().copied().chain([j]).collect())
        };
        kept = (0..free).map(next).collect();
    }
    found
}

#[test]
fn oss_is_its_definition_and_with_every_state_kept_the_least_of_all_paths() {
    let data = mixture();
    let teacher = teacher(&data, &grid(), 3, 6);
    let cases = [
        ("euler", LastStep::ToZero),
        ("euler", LastStep::Stop),
        ("ipndm3", LastStep::ToZero),
        ("ipndm_v2", LastStep::Stop),
        ("dpmpp2m", LastStep::Stop),
        ("dpmpp3m_nolof", LastStep::ToZero),
        ("unipc2_bh2", LastStep::Stop),
        ("deis_rhoab2", LastStep::ToZero),
    ];
    for (name, last_step) in cases {
        let solver: Solver = name.parse().unwrap();
        for beam in [1, 1000] {
            let calls = Cell::new(0);
            let denoise = |x: &Vec<f64>, sigma: f64| {
                calls.set(calls.get() + 1);
                denoiser(&data)(x, sigma)
            };
            let outcome =
                oss(&teacher, solver, &StudentOptions { most: 5, beam, gain: f64::NEG_INFINITY, last_step }, denoise)
                    .unwrap();
            assert_eq!(outcome.plans.len(), 5);
            check(&outcome, last_step, calls.get());
            if beam == 1 {
                assert!(outcome.evaluations <= 1 + 4 * (LEVELS - 1));
                let expected = by_definition(&data, &teacher, solver, 5, last_step);
                assert_eq!(
                    outcome.plans.iter().map(|found| found.path.clone()).collect::<Vec<_>>(),
                    expected,
                    "{name}"
                );
            }
            for found in &outcome.plans {
                let of = |path: &[usize]| solver.plan(&schedule(path, last_step), &options(last_step)).unwrap();
                let own = of(&found.path);
                assert_eq!((&own.stages, &own.output), (&found.plan.stages, &found.plan.output), "{name}");
                let error = |path: &[usize]| path_error(&data, &teacher, &of(path), last_step);
                assert!((error(&found.path) - found.error).abs() < 1e-9 * (1.0 + found.error), "{name}");
                if beam > 1 {
                    let all = paths(found.path.len(), last_step);
                    let least = all.iter().map(|path| error(path)).fold(f64::INFINITY, f64::min);
                    assert!(found.error <= least + 1e-9 * (1.0 + least), "{name}: {} {least}", found.error);
                }
            }
        }
    }
}

#[test]
fn solvers_that_cannot_be_stepped_with_are_refused_by_name() {
    let data = mixture();
    let teacher = teacher(&data, &grid(), 0, 2);
    for (name, last_step) in [
        ("heun", LastStep::Stop),
        ("dpmpp3m", LastStep::Stop),
        ("dpmpp2m", LastStep::ToZero),
        ("unipc3_bh1", LastStep::Stop),
    ] {
        let options = StudentOptions { last_step, ..StudentOptions::default() };
        let error = oss(&teacher, name.parse().unwrap(), &options, denoiser(&data)).unwrap_err();
        assert!(matches!(error, SearchError::Solver { .. }) && error.to_string().contains(name), "{error}");
    }
}
