//! What several processes on this machine gain: `scaling [ROUNDS [CASE]]` prints the table of docs/scale.md, or a row of it.
//!
//! Weak scaling: so many processes of one thread each, every one with as much to do as the one it is compared with. The same work is also
//! timed as so many processes that know nothing of each other, which says what the machine's cores are worth side by side: what is lost
//! beyond that is communication. Cases take turns, and medians are printed: of the updates (or samplings) of a process, of the processes,
//! and of the rounds.

mod shipped;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fewstep_core::Plan;
use fewstep_core::observe::Silent;
use fewstep_core::parameterisation::Parameterisation;
use fewstep_core::schedule::karras;
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_nn::adam::AdamConfig;
use fewstep_nn::config::{ModelConfig, NetworkConfig, SongConfig};
use fewstep_nn::data::Images;
use fewstep_nn::device::set_threads;
use fewstep_nn::distance::Distance;
use fewstep_nn::ema::EmaConfig;
use fewstep_nn::kernels::keep_freed_memory;
use fewstep_nn::ranks::{Membership, Place};
use fewstep_nn::tch::{Device, Kind, Tensor};
use fewstep_nn::train::{GradientFlow, Loss, RolloutLoss, TrainConfig, Trainer, Trajectories};
use fewstep_nn::{Model, Ranks};
use fewstep_search::{Seeded, Teacher};

type Failure = Box<dyn std::error::Error>;

const CASES: [&str; 3] = ["tune", "sample", "large"];

/// Trajectories, or images, of a process in an update; of the large network.
const BATCH: [usize; 2] = [32, 4];
/// Evaluations of the plan that is tuned for.
const STEPS: usize = 4;
/// Images of a process, and of one call, in sampling.
const IMAGES: [usize; 2] = [1024, 32];
/// Updates, or samplings, that a process times, after one to warm up.
const TIMES: usize = 3;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["process", case, rank, size, meeting] => process(case, rank.parse()?, size.parse()?, Path::new(meeting)),
        [] => report(5, &CASES),
        [rounds] => report(rounds.parse()?, &CASES),
        [rounds, case] => report(rounds.parse()?, &[case]),
        _ => Err("usage: scaling [rounds [case]]".into()),
    }
}

/// Every case by one process, by two that share the work, and by two that do not know each other.
fn report(rounds: usize, cases: &[&str]) -> Result<(), Failure> {
    let mut times = vec![[Vec::new(), Vec::new(), Vec::new(), Vec::new()]; cases.len()];
    for _ in 0..rounds {
        for (case, times) in cases.iter().copied().zip(&mut times) {
            times[0].push(timed(case, 1, 1)?[0]);
            let shared = timed(case, 2, 1)?;
            times[1].push(shared[0]);
            times[3].push(shared[1]);
            times[2].push(timed(case, 1, 2)?[0]);
        }
    }
    println!(
        "| | one process | two that share | two apart | sum of all gradients | efficiency | of what the cores give |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (case, [one, shared, apart, sum]) in cases.iter().zip(times.into_iter().map(|all| all.map(median))) {
        println!(
            "| {case} | {one:.3} s | {shared:.3} s | {apart:.3} s | {sum:.4} s | {:.3} | {:.3} |",
            one / shared,
            apart / shared
        );
    }
    Ok(())
}

/// Seconds of an update or a sampling, and of a sum of all gradients, by `groups` groups of `size` processes each at once.
fn timed(case: &str, size: usize, groups: usize) -> Result<[f64; 2], Failure> {
    let own = std::env::current_exe()?;
    let folder = tempfile::tempdir()?;
    let mut children: Vec<Child> = Vec::new();
    for group in 0..groups {
        let meeting = folder.path().join(group.to_string());
        for rank in 0..size {
            let mut command = Command::new(&own);
            command.args(["process", case, &rank.to_string(), &size.to_string()]).arg(&meeting);
            children.push(command.env("OMP_NUM_THREADS", "1").stdout(Stdio::piped()).spawn()?);
        }
    }
    let mut sums = [0.0; 2];
    let count = children.len() as f64;
    for child in children {
        let done = child.wait_with_output()?;
        let found: [f64; 2] = serde_json::from_slice(&done.stdout)?;
        sums.iter_mut().zip(found).for_each(|(sum, seconds)| *sum += seconds / count);
    }
    Ok(sums)
}

/// One process of a case: its seconds as JSON.
fn process(case: &str, rank: usize, size: usize, meeting: &Path) -> Result<(), Failure> {
    set_threads(1);
    keep_freed_memory();
    let ranks = Ranks::join(&Membership {
        rank,
        size,
        place: Place::File(meeting.to_owned()),
        name: "scaling".to_owned(),
        interface: None,
        timeout: Duration::from_secs(600),
    })?;
    let model = if case == "large" { large()? } else { shipped::network(0.0, Kind::Float)? };
    let model = model.with_ranks(ranks.clone());
    let mut flat = Tensor::zeros([model.params().trainable_count() as i64], (Kind::Float, Device::Cpu));
    let seconds = match case {
        "sample" => sample(&model, &ranks)?,
        "tune" => tune(model, &ranks)?,
        _ => train(model, &ranks)?,
    };
    ranks.sum(&mut flat)?; // connections are made
    let started = Instant::now();
    ranks.sum(&mut flat)?;
    println!("{}", serde_json::to_string(&[seconds, started.elapsed().as_secs_f64()])?);
    ranks.wait()?;
    Ok(())
}

/// The network of EDM's CIFAR-10 checkpoints: DDPM++, 55.7M weights.
fn large() -> Result<Model, Failure> {
    let song = SongConfig {
        model_channels: 128,
        channel_mult: vec![2, 2, 2],
        num_blocks: 4,
        attn_resolutions: vec![16],
        dropout: 0.0,
        ..SongConfig::default()
    };
    let config = ModelConfig {
        img_resolution: 32,
        img_channels: 3,
        label_dim: 0,
        use_fp16: false,
        parameterisation: Parameterisation::EDM,
        network: NetworkConfig::SongUNet(song),
    };
    Ok(Model::fresh(config, 0, Device::Cpu)?)
}

fn recipe(loss: Loss, batch: usize, size: usize) -> TrainConfig {
    TrainConfig {
        batch: batch * size,
        microbatch: batch,
        learning_rate: 1e-4,
        rampup_images: 0,
        decay_images: None,
        adam: AdamConfig::default(),
        ema: EmaConfig { halflife_images: 2000.0, rampup_ratio: None },
        loss,
        augment: None,
        xflip: false,
        seed: 0,
    }
}

/// Seconds of an update, once all have made the first.
fn updates<'a>(mut trainer: Trainer<'a>, ranks: &Ranks) -> Result<f64, Failure> {
    trainer.step()?;
    ranks.wait()?;
    timed_often(|| Ok(trainer.step().map(drop)?))
}

/// The median of the seconds that something takes.
fn timed_often(mut work: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let started = Instant::now();
        work()?;
        times.push(started.elapsed().as_secs_f64());
    }
    Ok(median(times))
}

/// A tuning by rollouts, gradients through all evaluations.
fn tune(model: Model, ranks: &Ranks) -> Result<f64, Failure> {
    let plan = plan(STEPS)?;
    let fine = karras(2 * STEPS, 0.002, 80.0, 7.0)?;
    let seeds: Vec<u64> = (0..(BATCH[0] * ranks.size()) as u64).collect();
    let (grid, fine) = (Trajectories::levels(&plan, &fine)?, Trajectories::fine(&plan, &fine)?);
    let seeded = Seeded::new(&model, &seeds, &Silent)?;
    let denoise = |x: &fewstep_nn::tensor::Batch, _: f64| Ok::<_, fewstep_search::Error>(x.clone()); // where they lead is all the same
    let teacher = Teacher::solve(Solver::Euler, &fine, &grid, seeded.latents().clone(), seeds.len(), denoise);
    let trajectories = Trajectories::new(&model, &plan, &teacher.map_err(fewstep_search::Error::from)?, &seeds)?;
    let loss = RolloutLoss { flow: GradientFlow::Through, ..RolloutLoss::of(Distance::Squared) };
    let config = recipe(Loss::Rollout(loss), BATCH[0], ranks.size());
    updates(Trainer::new(model.duplicate()?, &trajectories, config)?, ranks)
}

/// The EDM recipe.
fn train(model: Model, ranks: &Ranks) -> Result<f64, Failure> {
    let count = BATCH[1] * ranks.size();
    let pixels: Vec<u8> = (0..count * 3 * 32 * 32).map(|i| (i * 37 % 251) as u8).collect();
    let images = Images::for_model(fewstep_io::dataset::Images::new(pixels, 3, 32, 32, None)?, &model)?;
    updates(Trainer::new(model, &images, recipe(Loss::EDM, BATCH[1], ranks.size()))?, ranks)
}

/// Images of a plan, shared out in batches.
fn sample(model: &Model, ranks: &Ranks) -> Result<f64, Failure> {
    let plan = plan(STEPS)?;
    let seeds: Vec<u64> = (0..(IMAGES[0] * ranks.size()) as u64).collect();
    let make = |part: &[u64]| {
        let samples = Seeded::new(model, part, &Silent)?.run(&plan)?;
        Ok::<_, fewstep_nn::Error>(vec![samples.0])
    };
    ranks.in_order(seeds.chunks(IMAGES[1]).take(ranks.size()), make, |_| Ok(()))?;
    timed_often(|| Ok(ranks.in_order(seeds.chunks(IMAGES[1]), make, |_| Ok(()))?))
}

fn plan(steps: usize) -> Result<Plan, Failure> {
    Ok(Solver::Euler.plan(&karras(steps, 0.002, 80.0, 7.0)?, &SolverOptions::default())?)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
