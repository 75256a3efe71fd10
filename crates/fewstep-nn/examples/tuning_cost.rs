//! What tuning and sampling cost beside the network itself, for the shipped architecture:
//!
//! - an update of phase 2, by the bound, by rollout, by rollout with its gradient through all steps, and by that with a critic, beside a
//!   plain training step of as many network evaluations, all with graphs of 32 images, and its peak memory against the number of steps;
//! - sampling with a plan beside its network evaluations alone.
//!
//! `cargo run --release -p fewstep-nn --example tuning_cost -- [f32|bf16] [repeats]`. Every update is measured in a process
//! of its own, all in turn, `repeats` times; medians are printed.

mod shipped;

use std::process::Command;
use std::time::Instant;

use fewstep_core::denoiser::Denoiser;
use fewstep_core::objective::induced_weights;
use fewstep_core::observe::Silent;
use fewstep_core::schedule::{Schedule, karras};
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_io::dataset;
use fewstep_nn::Model;
use fewstep_nn::adam::AdamConfig;
use fewstep_nn::data::Images;
use fewstep_nn::device::parse_kind;
use fewstep_nn::distance::Distance;
use fewstep_nn::ema::EmaConfig;
use fewstep_nn::tensor::Batch;
use fewstep_nn::train::{GradientFlow, Loss, RolloutLoss, TrainConfig, Trainer, TrainingSource, Trajectories};
use fewstep_search::{Endpoints, Seeded, Teacher};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

/// Images, or trajectories, that a graph holds.
const GRAPH: usize = 32;
/// Updates that a process times, after one to warm up.
const UPDATES: usize = 3;
const STEPS: [usize; 5] = [2, 3, 4, 8, 16];
const LOSSES: [&str; 5] = ["plain", "bound", "rollout", "through", "critic"];

fn main() -> std::result::Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["update", kind, loss, steps] => update(kind, loss, steps.parse()?),
        [] => report("f32", 3),
        [kind] => report(kind, 3),
        [kind, repeats] => report(kind, repeats.parse()?),
        _ => Err("usage: tuning_cost [f32|bf16] [repeats]".into()),
    }
}

/// Everything in turn, and the table of medians.
fn report(kind: &str, repeats: usize) -> std::result::Result<(), Failure> {
    let own = std::env::current_exe()?;
    let cases: Vec<(usize, &str)> = STEPS.iter().flat_map(|&steps| LOSSES.map(|loss| (steps, loss))).collect();
    let mut seconds = vec![Vec::new(); cases.len()];
    let mut memory = vec![Vec::new(); cases.len()];
    for _ in 0..repeats {
        for (index, (steps, loss)) in cases.iter().enumerate() {
            let done = Command::new(&own).args(["update", kind, loss, &steps.to_string()]).output()?;
            if !done.status.success() {
                return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
            }
            let found: Value = serde_json::from_slice(&done.stdout)?;
            seconds[index].push(found["seconds"].as_f64().unwrap_or(f64::NAN));
            memory[index].push(found["peak_mib"].as_f64().unwrap_or(f64::NAN));
        }
    }
    println!("an update of steps x {GRAPH} network evaluations, {kind}, median of {repeats}");
    println!("{:>6}  {:10}{:>10}{:>10}{:>12}", "steps", "loss", "seconds", "ratio", "peak MiB");
    let mut plain = f64::NAN;
    for (index, (steps, loss)) in cases.iter().enumerate() {
        let (time, peak) = (median(&mut seconds[index]), median(&mut memory[index]));
        if *loss == "plain" {
            plain = time;
        }
        println!("{steps:>6}  {loss:10}{time:>10.3}{:>10.3}{peak:>12.0}", time / plain);
    }
    sampling(kind, 4 * repeats)
}

/// Seconds of updates and the peak memory of this process, as JSON.
fn update(kind: &str, loss: &str, steps: usize) -> std::result::Result<(), Failure> {
    let model = shipped::network(0.0, parse_kind(kind)?)?;
    let data: Vec<u8> =
        (0..steps * GRAPH * shipped::RESOLUTION * shipped::RESOLUTION).map(|i| (i * 37 % 251) as u8).collect();
    let images =
        Images::for_model(dataset::Images::new(data, 1, shipped::RESOLUTION, shipped::RESOLUTION, None)?, &model)?;
    let schedule = karras(steps, 0.002, 80.0, 7.0)?;
    let flow = if matches!(loss, "through" | "critic") { GradientFlow::Through } else { GradientFlow::Step };
    let critic = if loss == "critic" { 0.1 } else { 0.0 };
    let rollout = RolloutLoss { flow, critic, ..RolloutLoss::of(Distance::Squared) };
    let (loss, batch) = match loss {
        "plain" => (Loss::EDM, steps * GRAPH),
        "bound" => {
            let mut weights = induced_weights(&schedule);
            weights.push(1.0);
            (Loss::Levels { sigmas: schedule.levels().to_vec(), weights }, steps * GRAPH)
        }
        _ => (Loss::Rollout(rollout), GRAPH),
    };
    let trajectories = match &loss {
        Loss::Rollout(_) => Some(made_up(&model, &schedule, batch)?),
        _ => None,
    };
    let source = trajectories.as_ref().map_or(TrainingSource::from(&images), TrainingSource::from);
    let config = TrainConfig {
        batch,
        microbatch: GRAPH,
        learning_rate: 1e-4,
        rampup_images: 0,
        decay_images: None,
        adam: AdamConfig::default(),
        ema: EmaConfig { halflife_images: 2000.0, rampup_ratio: None },
        loss,
        augment: None,
        xflip: false,
        seed: 0,
    };
    let mut trainer = Trainer::new(model, source, config)?;
    trainer.step()?;
    let started = Instant::now();
    for _ in 0..UPDATES {
        trainer.step()?;
    }
    let seconds = started.elapsed().as_secs_f64() / UPDATES as f64;
    println!("{}", json!({ "seconds": seconds, "peak_mib": peak_mib() }));
    Ok(())
}

/// Trajectories of a teacher that was never run: costs do not depend on where they lead.
fn made_up(model: &Model, schedule: &Schedule, count: usize) -> std::result::Result<Trajectories, Failure> {
    let plan = Solver::Euler.plan(schedule, &SolverOptions::default())?;
    let seeds: Vec<u64> = (0..count as u64).collect();
    let latent = model.latents(&seeds)?;
    let states = schedule.levels().iter().map(|sigma| Batch(&latent.0 * *sigma)).collect();
    let ends = Endpoints { image: latent.clone(), latent, mean: None, samples: count };
    let teacher = Teacher::from_parts::<fewstep_nn::Error>(schedule.clone(), states, ends, 0)?;
    Ok(Trajectories::new(model, &plan, &teacher, &seeds)?)
}

/// Sampling with the plan of most terms there is, beside the same evaluations alone.
fn sampling(kind: &str, repeats: usize) -> std::result::Result<(), Failure> {
    let model = shipped::network(0.0, parse_kind(kind)?)?;
    let solver: Solver = "unipc3_bh2".parse()?;
    let plan = solver.plan(&karras(8, 0.002, 80.0, 7.0)?, &SolverOptions::default())?;
    let seeded = Seeded::new(&model, &(0..64).collect::<Vec<u64>>(), &Silent)?;
    let latents = &seeded.latents().0;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..=repeats {
        let started = Instant::now();
        let _ = seeded.run(&plan)?;
        let sampled = started.elapsed().as_secs_f64();
        let started = Instant::now();
        for sigma in plan.sigmas() {
            let _ = model.denoise_at(latents, sigma, None)?;
        }
        if round > 0 {
            with.push(sampled);
            without.push(started.elapsed().as_secs_f64());
        }
    }
    let (with, without) = (median(&mut with), median(&mut without));
    println!(
        "sampling 64 images, unipc3, 8 evaluations: {with:.3} s; the evaluations alone {without:.3} s; ratio {:.3}",
        with / without
    );
    Ok(())
}

/// The most memory that this process has held; NaN where the system does not tell.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).map_or(f64::NAN, |kib| kib / 1024.0)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
