//! The last combination of a plan, fitted to a distance of images.

use std::cell::Cell;
use std::convert::Infallible;

use fewstep_core::schedule::karras;
use fewstep_core::space::VectorSpace;
use fewstep_core::{Plan, Solver, SolverOptions, execute};
use fewstep_search::{Endpoints, RefineError, RefitOptions, Refitted, refit_output, squared_error};

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
fn energy(image: &[f64], wanted: f64) -> (f64, Vec<f64>) {
    let gap = image.iter().map(|x| x * x).sum::<f64>() / wanted - 1.0;
    (gap * gap, image.iter().map(|x| 4.0 * gap * x / wanted).collect())
}

/// A distance of images, wherever it is asked for.
fn exactly<'a>(
    distance: impl Fn(&Vec<f64>) -> (f64, Vec<f64>) + Copy + 'a,
) -> impl FnMut(&Vec<f64>, &[Vec<f64>]) -> Result<Model<'a, Infallible>, Infallible> {
    move |images, directions| {
        let (images, directions) = (images.clone(), directions.to_vec());
        Ok(Box::new(move |q: &[f64]| {
            let terms: Vec<(f64, &Vec<f64>)> = q.iter().copied().zip(&directions).collect();
            let (value, slope) = distance(&Vec::combine(&[vec![(1.0, &images)], terms].concat()));
            Ok((value, directions.iter().map(|u| slope.dot(u)).collect()))
        }))
    }
}

type Model<'a, E> = Box<dyn FnMut(&[f64]) -> Result<(f64, Vec<f64>), E> + 'a>;

fn refitted<'a, E: std::fmt::Debug>(
    plan: &Plan,
    batch: &Endpoints<Vec<f64>>,
    options: &RefitOptions,
    near: impl FnMut(&Vec<f64>, &[Vec<f64>]) -> Result<Model<'a, E>, E>,
) -> Result<Refitted<Vec<f64>>, RefineError<E>> {
    let data = mixture();
    let calls = Cell::new(0);
    let denoise = |x: &Vec<f64>, sigma: f64| {
        calls.set(calls.get() + 1);
        Ok(denoiser(&data)(x, sigma).unwrap())
    };
    let found = refit_output(plan, batch, options, near, denoise)?;
    assert_eq!((found.evaluations, calls.get()), (plan.nfe(), plan.nfe()));
    Ok(found)
}

#[test]
fn what_the_last_combination_can_reach_is_reached() {
    let data = mixture();
    let wanted = plan("dpmpp3m", 5);
    let latent = latents(&data, 0, 64);
    let image = execute(&wanted, &latent, denoiser(&data)).unwrap();
    let batch = Endpoints { latent, mean: None, image, samples: 64 };
    let mut start = wanted.clone();
    start.output.terms_mut().enumerate().for_each(|(i, (_, c))| *c *= if i % 2 == 0 { 0.9 } else { 1.2 });
    let options = RefitOptions { steps: 400, ..RefitOptions::default() };
    let image = &batch.image;
    let found = refitted(&start, &batch, &options, exactly(|found| squared_error(found, image, 64))).unwrap();
    assert!(found.errors[1] < 1e-3 * found.errors[0], "{:?}", found.errors);
    let error = batch.rollout_error(&found.plan, denoiser(&data)).unwrap();
    assert!((error - found.errors[1]).abs() < 1e-9 * (1.0 + error), "{error} {:?}", found.errors);
    let images = execute(&found.plan, &batch.latent, denoiser(&data)).unwrap();
    assert!(images.difference(&found.image).norm_squared() < 1e-18 * images.norm_squared());
    assert_eq!(found.plan.stages, start.stages);
}

/// The gap closes for little error, for less of it the more the error counts.
#[test]
fn the_weight_trades_the_distance_for_the_error() {
    let batch = ends(&mixture());
    let start = plan("dpmpp3m", 5);
    let wanted = batch.image.norm_squared();
    let fitted = |error_weight: f64| {
        let options = RefitOptions { error_weight, ..RefitOptions::default() };
        refitted(&start, &batch, &options, exactly(move |x| energy(x, wanted))).unwrap()
    };
    let weights = [0.1, 1.0, 10.0];
    let found = weights.map(fitted);
    for pair in found.windows(2) {
        assert!(pair[0].distances[1] <= pair[1].distances[1] + 1e-12, "{pair:?}");
        assert!(pair[0].errors[1] >= pair[1].errors[1] - 1e-9, "{pair:?}");
    }
    let [before, after] = found[0].distances;
    assert!(after < 0.1 * before, "{before} to {after}");
    // the sum of both never rises
    for (found, w) in found.iter().zip(weights) {
        let sum = found.distances[1] / found.distances[0] + w * found.errors[1] / found.errors[0];
        assert!(sum <= 1.0 + w, "{sum}");
    }
}

/// An error that hardly matters is the unit of lesser ones, and nothing to greater ones.
#[test]
fn little_error_counts_little() {
    let batch = ends(&mixture());
    let start = plan("dpmpp3m", 5);
    let wanted = batch.image.norm_squared();
    let fitted = |error_weight: f64, hardly_matters: f64| {
        let options = RefitOptions { error_weight, hardly_matters, ..RefitOptions::default() };
        refitted(&start, &batch, &options, exactly(move |x| energy(x, wanted))).unwrap()
    };
    let plain = fitted(4.0, 0.0);
    let before = plain.errors[0];
    let same = fitted(4.0, 0.9 * before);
    assert_eq!((&same.plan.output, same.errors), (&plain.plan.output, plain.errors));
    let (gone, quarter) = (fitted(4.0, 4.0 * before), fitted(1.0, 0.0));
    assert_eq!(gone.plan.output, quarter.plan.output);
    assert_eq!(gone.plan.metadata.found_by["refitted"]["error_counts"], 1.0);
    assert!(gone.errors[1] > plain.errors[1] && gone.distances[1] < plain.distances[1]);
}

/// A distance that is told to first order: the steps go where it leads all the same.
#[test]
fn distances_may_be_of_first_order() {
    let data = mixture();
    let (batch, start) = (ends(&data), plan("dpmpp3m", 5));
    let wanted = 1.2 * batch.image.norm_squared();
    let options = RefitOptions { error_weight: 0.01, ..RefitOptions::default() };
    let near = |images: &Vec<f64>, directions: &[Vec<f64>]| {
        let gap = images.norm_squared() / wanted - 1.0;
        let slopes: Vec<f64> = directions.iter().map(|u| 2.0 * images.dot(u) / wanted).collect();
        let model: Model<Infallible> = Box::new(move |q: &[f64]| {
            let gap = gap + q.iter().zip(&slopes).map(|(q, slope)| q * slope).sum::<f64>();
            Ok((gap * gap, slopes.iter().map(|slope| 2.0 * gap * slope).collect()))
        });
        Ok(model)
    };
    let found = refitted(&start, &batch, &options, near).unwrap();
    let images = execute(&found.plan, batch.start(), denoiser(&data)).unwrap();
    let distance = energy(&images, wanted).0;
    assert!((distance - found.distances[1]).abs() < 1e-9, "{distance} {:?}", found.distances);
    assert!(distance < 0.1 * found.distances[0], "{:?}", found.distances);
}

/// A model that promises more than there is: steps are halved until they gain, and it is asked no more often than agreed.
#[test]
fn steps_that_lead_too_far_are_halved() {
    let batch = ends(&mixture());
    let start = plan("dpmpp3m", 5);
    let wanted = batch.image.norm_squared();
    let options = RefitOptions { error_weight: 0.01, ..RefitOptions::default() };
    let asked = Cell::new(0);
    let near = |images: &Vec<f64>, directions: &[Vec<f64>]| {
        asked.set(asked.get() + 1);
        let (value, slope) = energy(images, wanted);
        let slopes: Vec<f64> = directions.iter().map(|u| slope.dot(u)).collect();
        let model: Model<Infallible> = Box::new(move |q: &[f64]| {
            Ok((value + q.iter().zip(&slopes).map(|(q, slope)| q * slope).sum::<f64>(), slopes.clone()))
        });
        Ok(model)
    };
    let found = refitted(&start, &batch, &options, near).unwrap();
    let sum = found.distances[1] / found.distances[0] + 0.01 * found.errors[1] / found.errors[0];
    assert!(sum < 0.9, "{sum}");
    assert!(asked.get() <= options.rounds + 1, "{}", asked.get());
}

#[test]
fn where_there_is_nothing_to_gain_or_to_go_by_plans_stay() {
    let batch = ends(&mixture());
    let start = plan("ipndm2", 4);
    for nothing in [0.0, f64::NAN, f64::INFINITY] {
        let distance = exactly(move |x: &Vec<f64>| (nothing, vec![0.0; x.len()]));
        let found = refitted(&start, &batch, &RefitOptions::default(), distance).unwrap();
        assert_eq!(found.plan, start, "{nothing}");
    }
    let fail = |_: &Vec<f64>, _: &[Vec<f64>]| Err::<Model<_>, _>("no features");
    let error = refitted(&start, &batch, &RefitOptions::default(), fail).unwrap_err();
    assert_eq!(error, RefineError::Denoiser("no features"));
}
