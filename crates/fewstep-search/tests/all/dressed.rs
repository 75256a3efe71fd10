//! A search on the same denoiser in every parameterisation.

use std::convert::Infallible;

use fewstep_core::Solver;
use fewstep_core::mixture::Mixture;
use fewstep_core::schedule::karras;
use fewstep_search::{Fit, Outcome, StudentOptions, Teacher, least_squares, refined};

use crate::parameterisations::{Dressed, continuous};
use crate::support::{denoiser, images, latents};

fn searched(data: &Mixture, denoise: impl Fn(&Vec<f64>, f64) -> Result<Vec<f64>, Infallible> + Copy) -> Outcome {
    let grid = karras(9, 0.06, 12.0, 5.0).unwrap();
    let latent = latents(data, 0, 24);
    let teacher = Teacher::solve(Solver::Heun, &refined(&grid, 2).unwrap(), &grid, latent, 24, denoise).unwrap();
    let options = StudentOptions { most: 4, ..StudentOptions::default() };
    least_squares(&teacher, &Fit::default(), &options, denoise).unwrap()
}

#[test]
fn a_search_finds_the_same_plan_in_every_parameterisation() {
    let data = images();
    let plain = searched(&data, denoiser(&data));
    for network in continuous() {
        let dressed = Dressed { network, data: &data };
        let found = searched(&data, |x: &Vec<f64>, sigma: f64| Ok(dressed.denoised(x, sigma)));
        for (found, plain) in found.plans.iter().zip(&plain.plans) {
            assert_eq!(found.path, plain.path, "{:?}", dressed.network);
            assert_eq!(found.plan.sigmas(), plain.plan.sigmas());
            let combinations = |plan: &fewstep_core::Plan| {
                let inputs = plan.stages.iter().map(|stage| stage.input.clone());
                inputs.chain([plan.output.clone()]).collect::<Vec<_>>()
            };
            for (a, b) in combinations(&found.plan).iter().zip(combinations(&plain.plan)) {
                assert_eq!(a.terms().count(), b.terms().count());
                for ((source, a), (other, b)) in a.terms().zip(b.terms()) {
                    assert_eq!(source, other);
                    assert!((a - b).abs() <= 1e-8 * (1.0 + b.abs()), "{:?}: {source} {a} {b}", dressed.network);
                }
            }
        }
    }
}
