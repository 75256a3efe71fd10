//! Plans found by the least-squares search, against public solvers, on latents that the search did not see.
//!
//!     cargo run --release -p fewstep-search --example search
//!
//! The denoiser is that of a Gaussian mixture. Any other will do: searches need `D(x; sigma)` of a batch, and of the batch sums
//! and inner products ([`fewstep_core::VectorSpace`]). This is a search put together from its parts; `find_plans` does it for any
//! `Denoiser` in one call.

use std::convert::Infallible;
use std::error::Error;

use fewstep_core::mixture::{Component, Covariance, Mixture};
use fewstep_core::schedule::karras;
use fewstep_core::{Plan, Solver, SolverOptions, noise};
use fewstep_search::{Endpoints, Fit, StudentOptions, Teacher, least_squares, refined};

const STEPS: std::ops::RangeInclusive<usize> = 3..=6;

/// Eight narrow blobs in sixteen dimensions.
fn data() -> Result<Mixture, Box<dyn Error>> {
    let blob = |k: u64| {
        let mut mean = vec![0.0_f32; 16];
        noise::normal(1000 + k, noise::LATENT, &mut mean);
        let mean = mean.into_iter().map(|v| 0.5 * f64::from(v)).collect();
        Component { weight: 1.0, mean, covariance: Covariance::Isotropic(0.02) }
    };
    Ok(Mixture::new((0..8).map(blob).collect())?)
}

/// Unit normal noise, one sample a seed, one after the other.
fn latents(data: &Mixture, seeds: std::ops::Range<u64>) -> Vec<f64> {
    noise::latents(&seeds.collect::<Vec<_>>(), data.dim()).into_iter().map(f64::from).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let data = data()?;
    let denoise = |x: &Vec<f64>, sigma: f64| Ok::<_, Infallible>(data.denoised(x, sigma));

    // the teacher: Heun on a fine schedule; plans choose their levels from the grid
    let grid = karras(21, 0.002, 80.0, 7.0)?;
    let fine = refined(&grid, 3)?;
    let teacher = Teacher::solve(Solver::Heun, &fine, &grid, latents(&data, 0..128), 128, denoise)?;

    // one pass finds a plan for every number of steps
    let options = StudentOptions { most: *STEPS.end(), ..StudentOptions::default() };
    let found = least_squares(&teacher, &Fit::default(), &options, denoise)?;
    println!("the teacher took {} evaluations of the batch, the search {}", teacher.evaluations(), found.evaluations);

    let exact = Solver::Heun.plan(&fine, &SolverOptions::default())?;
    let held_out = Endpoints::solve(&exact, latents(&data, 100_000..100_512), 512, denoise)?;
    let error = |plan: &Plan| held_out.rollout_error(plan, denoise);
    let public = |solver: Solver, steps| -> Result<f64, Box<dyn Error>> {
        Ok(error(&solver.plan(&karras(steps, 0.002, 80.0, 7.0)?, &SolverOptions::default())?)?)
    };
    println!("squared distance from the teacher's images, held-out latents");
    println!("steps      Euler  DPM++ 2M  least squares");
    for steps in STEPS {
        let euler = public(Solver::Euler, steps)?;
        let dpmpp = public(Solver::DpmPp { order: 2, lower_order_final: false }, steps)?;
        let ours = error(&found.plans[steps - 1].plan)?;
        println!("{steps:5}{euler:11.4}{dpmpp:10.4}{ours:15.4}");
        if ours >= euler.min(dpmpp) {
            return Err("a fitted plan should be nearer to the teacher than a public solver".into());
        }
    }
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
