//! A network, a plan found for it without data, and a grid of images.
//!
//!     cargo run --release -p fewstep-nn --example few_steps -- crates/fewstep/assets/model.safetensors grid.png
//!
//! The network is a `.safetensors` file of fewstep or a `.pkl` snapshot of the EDM code. Takes a minute on two cores with
//! the built-in model. The command `fewstep fit --phases 1` does the same and more.

use std::error::Error;
use std::path::Path;

use fewstep_core::schedule::karras;
use fewstep_core::search::{Fit, Held, StudentOptions, Teacher, least_squares};
use fewstep_core::{Plan, Solver, SolverOptions};
use fewstep_io::dataset::Images;
use fewstep_io::png;
use fewstep_nn::fit::HeldOut;
use fewstep_nn::sample::{Seeded, to_u8};
use fewstep_nn::search::Network;
use fewstep_nn::{Model, checkpoint, held, tch};

const STEPS: usize = 5;

/// How much work goes into the search.
struct Effort {
    /// Noise levels to choose from.
    grid: usize,
    /// Latents to look at, and as many to judge by.
    latents: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, out] = &args[..] else { return Err("usage: few_steps <model.safetensors or .pkl> <out.png>".into()) };
    run(Path::new(model), Path::new(out), &Effort { grid: 16, latents: 32 })
}

fn run(path: &Path, out: &Path, effort: &Effort) -> Result<(), Box<dyn Error>> {
    let model = checkpoint::load(path, tch::Device::Cpu)?.model;
    let plan = found(&model, effort)?;

    let seeds: Vec<u64> = (50_000..50_000 + effort.latents).collect();
    let (low, high) = model.config().precond.sampling_range();
    let solve = |solver: Solver, levels| -> Result<Plan, Box<dyn Error>> {
        Ok(solver.plan(&karras(levels, low, high, 7.0)?, &SolverOptions::default())?)
    };
    let judge = HeldOut::new(&model, &solve(Solver::Heun, 18)?, &seeds, 64)?;
    println!("distance from the teacher's images (mean square a pixel, held-out seeds), {STEPS} evaluations");
    println!("  Euler, rho = 7  {:.5}", judge.rollout_error(&model, &solve(Solver::Euler, STEPS)?)?);
    println!("  the plan found  {:.5}", judge.rollout_error(&model, &plan)?);

    let images = Seeded { seeds: &seeds, class: None, batch: 64 }.collect(&model, &plan)?;
    let pixels: Vec<u8> = Vec::try_from(to_u8(&images).flatten(0, -1))?;
    let [channels, height, width] = model.image_shape().map(|size| size as usize);
    png::write_grid(out, &Images::new(pixels, channels, height, width, None)?, 8, 2)?;
    println!("{} has {} images", out.display(), seeds.len());
    Ok(())
}

/// The least-squares plan of [`STEPS`] evaluations; the first may be a constant image instead, kept in the plan.
fn found(model: &Model, effort: &Effort) -> Result<Plan, Box<dyn Error>> {
    let precond = &model.config().precond;
    let (low, high) = precond.sampling_range();
    let grid = karras(effort.grid, low, high, 7.0)?.round(precond)?;
    let seeds: Vec<u64> = (0..effort.latents).collect();
    let network = Network::new(model, &seeds, 64)?;
    let (latents, labels) = (network.latents(), network.class_labels());
    let denoise = |x: &_, sigma: f64| network.denoised(x, sigma);

    let teacher = Teacher::solve(Solver::Heun, &grid, &grid, latents.clone(), seeds.len(), denoise)?;
    let (constant, evaluations) = held::mean_output(model, grid.sigma_max(), &latents.0, labels, 64)?;
    let batch = held::repeated(&constant, &latents.0, labels);
    let teacher = teacher.holding(Held { constant, batch }, evaluations.div_ceil(seeds.len()));

    let options = StudentOptions { most: STEPS, ..StudentOptions::default() };
    let outcome = least_squares(&teacher, &Fit::default(), &options, denoise)?;
    let plan = outcome.plans.into_iter().nth(STEPS - 1).ok_or("the grid has too few levels")?.plan;
    Ok(plan)
}

#[test]
fn runs() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fewstep/assets/model.safetensors");
    if !model.exists() {
        eprintln!("skipped: no built-in model at {}", model.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("grid.png");
    run(&model, &out, &Effort { grid: 8, latents: 4 }).unwrap();
    assert!(std::fs::read(out).unwrap().starts_with(b"\x89PNG"));
}
