//! The last combination of a plan, fitted to a distance of images.

use std::cell::Cell;
use std::convert::Infallible;

use fewstep_core::schedule::karras;
use fewstep_core::search::{Endpoints, RefineError, RefitOptions, refit_output, squared_error};
use fewstep_core::space::VectorSpace;
use fewstep_core::{Plan, Solver, SolverOptions, execute};

use crate::support::{denoiser, latents, mixture};

fn plan(solver: &str, n: usize) -> Plan {
    solver.parse::<Solver>().unwrap().plan(&karras(n, 0.05, 10.0, 7.0).unwrap(), &SolverOptions::default()).unwrap()
}

/// Latents with the images of a fine solve.
fn ends(data: &fewstep_core::mixture::Mixture) -> Endpoints<Vec<f64>> {
    let latent = latents(data, 0, 64);
    Endpoints::solve(&plan("heun", 40), latent, 64, denoiser(data)).unwrap()
}

/// How far apart the sums of squares are: what a fit that leaves too little variance gets wrong.
fn energy(image: &Vec<f64>, wanted: f64) -> (f64, Vec<f64>) {
    let gap = image.norm_squared() / wanted - 1.0;
    (gap * gap, image.iter().map(|x| 4.0 * gap * x / wanted).collect())
}

#[test]
fn what_the_last_combination_can_reach_is_reached() {
    let data = mixture();
    let wanted = plan("dpmpp3m", 5);
    let latent = latents(&data, 0, 64);
    let image = execute(&wanted, &latent, denoiser(&data)).unwrap();
    let batch = Endpoints { latent, held: None, image: image.clone(), samples: 64 };
    let mut start = wanted.clone();
    start.output.terms_mut().enumerate().for_each(|(i, (_, c))| *c *= if i % 2 == 0 { 0.9 } else { 1.2 });
    let options = RefitOptions { steps: 400, ..RefitOptions::default() };
    let distance = |found: &Vec<f64>| Ok::<_, Infallible>(squared_error(found, &image, 64));
    let calls = Cell::new(0);
    let counted = |x: &Vec<f64>, sigma: f64| {
        calls.set(calls.get() + 1);
        denoiser(&data)(x, sigma)
    };
    let found = refit_output(&start, &batch, &options, distance, counted).unwrap();
    assert!(found.errors[1] < 1e-3 * found.errors[0], "{:?}", found.errors);
    assert_eq!((found.evaluations, calls.get()), (5, 5));
    let error = batch.rollout_error(&found.plan, denoiser(&data)).unwrap();
    assert!((error - found.errors[1]).abs() < 1e-9 * (1.0 + error), "{error} {:?}", found.errors);
    assert_eq!(found.plan.stages, start.stages);
}

/// The gap closes for little error, for less of it the more the error counts.
#[test]
fn the_weight_trades_the_distance_for_the_error() {
    let data = mixture();
    let batch = ends(&data);
    let start = plan("dpmpp3m", 5);
    let wanted = batch.image.norm_squared();
    let fitted = |error_weight: f64| {
        let options = RefitOptions { error_weight, ..RefitOptions::default() };
        refit_output(&start, &batch, &options, |x| Ok(energy(x, wanted)), denoiser(&data)).unwrap()
    };
    let found = [0.1, 1.0, 10.0].map(fitted);
    for pair in found.windows(2) {
        assert!(pair[0].distances[1] <= pair[1].distances[1] + 1e-12, "{pair:?}");
        assert!(pair[0].errors[1] >= pair[1].errors[1] - 1e-9, "{pair:?}");
    }
    let [before, after] = found[0].distances;
    assert!(after < 0.1 * before, "{before} to {after}");
    // the sum of both never rises
    for (found, w) in found.iter().zip([0.1, 1.0, 10.0]) {
        let sum = found.distances[1] / found.distances[0] + w * found.errors[1] / found.errors[0];
        assert!(sum <= 1.0 + w, "{sum}");
    }
}

#[test]
fn where_there_is_nothing_to_gain_or_to_go_by_plans_stay() {
    let data = mixture();
    let batch = ends(&data);
    let start = plan("ipndm2", 4);
    for nothing in [0.0, f64::NAN, f64::INFINITY] {
        let distance = |x: &Vec<f64>| Ok((nothing, vec![0.0; x.len()]));
        let found = refit_output(&start, &batch, &RefitOptions::default(), distance, denoiser(&data)).unwrap();
        assert_eq!(found.plan, start, "{nothing}");
    }
    let fail = |_: &Vec<f64>| Err("no features");
    let denoise = |x: &Vec<f64>, sigma: f64| Ok(denoiser(&data)(x, sigma).unwrap());
    let error = refit_output(&start, &batch, &RefitOptions::default(), fail, denoise).unwrap_err();
    assert_eq!(error, RefineError::Denoiser("no features"));
}
