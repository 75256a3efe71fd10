//! A sampler as data: a plan from a solver and a schedule, what stands in it, and its run on an exact denoiser.
//!
//!     cargo run --release -p fewstep-core --example plan

use std::convert::Infallible;
use std::error::Error;

use fewstep_core::mixture::{Component, Covariance, Mixture};
use fewstep_core::schedule::karras;
use fewstep_core::{Plan, Solver, SolverOptions, execute, noise};

/// Two blobs in the plane.
fn data() -> Result<Mixture, Box<dyn Error>> {
    let blob = |x: f64, y: f64| Component { weight: 1.0, mean: vec![x, y], covariance: Covariance::Isotropic(0.01) };
    Ok(Mixture::new(vec![blob(-1.0, 0.5), blob(1.0, -0.5)])?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let levels = karras(8, 0.002, 80.0, 7.0)?;
    let plan = Solver::DpmPp { order: 2, lower_order_final: false }.plan(&levels, &SolverOptions::default())?;
    println!("{} evaluations at {:.3?}", plan.nfe(), plan.sigmas());
    println!("the input of the third is {:?}", plan.stages[2].input);

    // a plan is a file: `fewstep sample --plan`, plan_sampler.py and this library all run it
    let plan = Plan::from_json(&plan.to_json()?)?;

    let (data, count) = (data()?, 6);
    let mut latents = vec![0.0_f32; data.dim() * count];
    noise::normal(7, noise::LATENT, &mut latents);
    let latents: Vec<f64> = latents.into_iter().map(f64::from).collect();
    let images = execute(&plan, &latents, |x, sigma| Ok::<_, Infallible>(data.denoised(x, sigma)))?;

    for image in images.chunks(data.dim()) {
        let distance = |c: &Component| c.mean.iter().zip(image).map(|(m, x)| (m - x).powi(2)).sum::<f64>().sqrt();
        let nearest = data.components().iter().map(distance).fold(f64::INFINITY, f64::min);
        println!("{image:6.2?} is {nearest:.2} from the middle of a blob");
        if nearest > 0.5 {
            return Err("eight steps should reach the data".into());
        }
    }
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
