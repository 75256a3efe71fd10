//! What any network, grid or batch may do to a search.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;

use fewstep_core::schedule::karras;
use fewstep_core::{LastStep, Solver};
use fewstep_search::{
    CostMetric, Endpoints, Fit, Outcome, SearchError, StepCosts, StudentOptions, Teacher, least_squares, oss, refined,
};

use crate::support::{Counted, denoiser, latents, mixture};

use super::*;

#[test]
fn failures_of_the_network_are_reported() {
    let data = mixture();
    let teacher = teacher(&data, &grid(), 0, 2);
    let student = StudentOptions::default();
    let nan = |x: &Vec<f64>, _: f64| Ok::<_, Infallible>(vec![f64::NAN; x.len()]);
    let not_finite = |result: Result<Outcome, SearchError<Infallible>>| {
        assert!(matches!(result, Err(SearchError::NotFinite { .. })), "{result:?}");
    };
    not_finite(oss(&teacher, Solver::Euler, &student, nan));
    not_finite(least_squares(&teacher, &Fit::default(), &student, nan));
    let single = Teacher::from_parts::<Infallible>(
        grid(),
        teacher.states().to_vec(),
        Endpoints { samples: 1, ..teacher.ends().clone() },
        0,
    );
    let single = single.unwrap();
    let costs = StepCosts::measure(&single, CostMetric::L2, LastStep::Stop, nan);
    assert!(matches!(costs, Err(SearchError::NotFinite { .. })), "{costs:?}");
    let broken = |_: &Vec<f64>, _: f64| Err::<Vec<f64>, _>("out of memory");
    assert_eq!(least_squares(&teacher, &Fit::default(), &student, broken), Err(SearchError::Denoiser("out of memory")));
    let named = |result: Result<Outcome, SearchError<Infallible>>, name: &str| {
        assert!(result.unwrap_err().to_string().contains(name));
    };
    let costs = StepCosts::measure(&single, CostMetric::L2, LastStep::Stop, denoiser(&data)).unwrap();
    named(costs.search(3, f64::NAN, Solver::Euler), "coefficient");
    named(
        least_squares(&teacher, &Fit { history: 1, ridge: -1.0, ..Fit::default() }, &student, denoiser(&data)),
        "ridge",
    );
    named(oss(&teacher, Solver::Euler, &StudentOptions { beam: 0, ..student }, denoiser(&data)), "beam");
    named(oss(&teacher, Solver::Euler, &StudentOptions { gain: 1.0, ..student }, denoiser(&data)), "gain");
}

#[test]
fn more_steps_than_levels_give_as_many_plans_as_there_are() {
    let data = mixture();
    let teacher = teacher(&data, &grid(), 0, 2);
    for (last_step, most) in [(LastStep::ToZero, LEVELS), (LastStep::Stop, LEVELS - 1)] {
        let options = StudentOptions { most: 50, beam: 2, last_step, ..StudentOptions::default() };
        let outcome = least_squares(&teacher, &Fit::default(), &options, denoiser(&data)).unwrap();
        assert_eq!(outcome.plans.len(), most);
        check(&outcome, last_step, outcome.evaluations);
    }
}

/// A list of batches is a batch: latents that do not fit one call of the network are searched over in parts.
#[test]
fn a_batch_in_parts_finds_the_same_plans() {
    let data = mixture();
    let whole = teacher(&data, &grid(), 3, 8);
    let latent: Vec<Vec<f64>> = latents(&data, 3, 8).chunks(6).map(<[f64]>::to_vec).collect();
    let denoise =
        |x: &Vec<Vec<f64>>, sigma: f64| Ok::<_, Infallible>(x.iter().map(|x| data.denoised(x, sigma)).collect());
    let parts = Teacher::solve(Solver::Heun, &refined(&grid(), 3).unwrap(), &grid(), latent, 8, denoise).unwrap();
    let options = StudentOptions { most: 5, beam: 2, ..StudentOptions::default() };
    let a = least_squares(&whole, &Fit::default(), &options, denoiser(&data)).unwrap();
    let b = least_squares(&parts, &Fit::default(), &options, denoise).unwrap();
    for (a, b) in a.plans.iter().zip(&b.plans) {
        assert_eq!(a.path, b.path);
        assert!((a.error - b.error).abs() < 1e-9 * (1.0 + a.error));
    }
}

#[test]
fn memory_is_as_documented() {
    let token = Rc::new(());
    let levels = 15;
    let grid = karras(levels, 0.05, 20.0, 5.0).unwrap();
    let most = Cell::new(0);
    let denoise = |x: &Counted, sigma: f64| {
        most.set(most.get().max(Rc::strong_count(&token)));
        Ok::<_, Infallible>(Counted((x.0 / (1.0 + sigma * sigma)).sin(), token.clone()))
    };
    let latent = Counted(0.4, token.clone());
    let teacher = Teacher::solve(Solver::Heun, &refined(&grid, 2).unwrap(), &grid, latent, 1, denoise).unwrap();
    // the grid's states, the ends, the token itself
    let held = Rc::strong_count(&token);
    assert_eq!(held, levels + 3);
    for (history, beam) in [(1, 1), (3, 1), (2, 3)] {
        most.set(0);
        let options = StudentOptions { most: 8, beam, ..StudentOptions::default() };
        least_squares(&teacher, &Fit { history, ridge: 1e-6, ..Fit::default() }, &options, denoise).unwrap();
        assert!(most.get() - held <= (history + 3) * beam * levels, "{} at {history} {beam}", most.get() - held);
    }
    most.set(0);
    oss(&teacher, Solver::Ipndm { order: 3 }, &StudentOptions { most: 8, ..StudentOptions::default() }, denoise)
        .unwrap();
    assert!(most.get() - held <= (2 * 3 + 1) * 2 * levels, "{}", most.get() - held);
}
