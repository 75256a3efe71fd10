//! Images a second of the shipped architecture, as one JSON object: what `bench/compare_pytorch.py` sets beside PyTorch.
//!
//! `throughput <train|forward> <f32|bf16> <batch> <dropout> <threads> <rounds>` times so many rounds after a warm-up. Each
//! round is a whole update (noise, loss, gradient, Adam, moving average) or one evaluation of the denoiser.

mod shipped;

use std::time::Instant;

use fewstep_io::dataset;
use fewstep_nn::adam::AdamConfig;
use fewstep_nn::data::Images;
use fewstep_nn::device::{parse_kind, set_threads};
use fewstep_nn::ema::EmaConfig;
use fewstep_nn::kernels::keep_freed_memory;
use fewstep_nn::tch::{Device, Kind, Tensor};
use fewstep_nn::train::{Loss, TrainConfig, Trainer};
use fewstep_nn::{Model, Result};

/// What was typed.
struct Options {
    train: bool,
    kind: Kind,
    batch: usize,
    dropout: f64,
    rounds: usize,
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mode, kind, batch, dropout, threads, rounds] = &args[..] else {
        return Err("usage: throughput <train|forward> <f32|bf16> <batch> <dropout> <threads> <rounds>".into());
    };
    set_threads(threads.parse()?);
    keep_freed_memory();
    let options = Options {
        train: mode == "train",
        kind: parse_kind(kind)?,
        batch: batch.parse()?,
        dropout: dropout.parse()?,
        rounds: rounds.parse()?,
    };
    let model = shipped::network(options.dropout, options.kind)?;
    let parameters = model.params().trainable_count();
    let times = if options.train { train(model, &options)? } else { forward(&model, &options)? };
    let wall: Vec<f64> = times.iter().map(|(wall, _)| options.batch as f64 / wall).collect();
    let cpu: Vec<f64> = times.iter().map(|(_, cpu)| options.batch as f64 / cpu).collect();
    let report = serde_json::json!({
        "mode": mode, "kind": kind, "batch": options.batch, "dropout": options.dropout, "parameters": parameters,
        "images_per_second": wall, "images_per_cpu_second": cpu,
    });
    println!("{report}");
    Ok(())
}

/// Wall and processor seconds of each update.
fn train(model: Model, options: &Options) -> Result<Vec<(f64, f64)>> {
    let batch = options.batch;
    let data: Vec<u8> = (0..batch * shipped::RESOLUTION * shipped::RESOLUTION).map(|i| (i * 37 % 251) as u8).collect();
    let images =
        Images::for_model(dataset::Images::new(data, 1, shipped::RESOLUTION, shipped::RESOLUTION, None)?, &model)?;
    let config = TrainConfig {
        batch,
        microbatch: batch,
        learning_rate: 1e-3,
        rampup_images: 1,
        decay_images: None,
        adam: AdamConfig::default(),
        ema: EmaConfig { halflife_images: 50_000.0, rampup_ratio: None },
        loss: Loss::EDM,
        augment: None,
        xflip: false,
        seed: 0,
    };
    let mut trainer = Trainer::new(model, &images, config)?;
    trainer.step()?;
    (0..options.rounds).map(|_| timed(|| trainer.step().map(drop))).collect()
}

fn forward(model: &Model, options: &Options) -> Result<Vec<(f64, f64)>> {
    let side = shipped::RESOLUTION as i64;
    let x = Tensor::randn([options.batch as i64, 1, side, side], (Kind::Float, Device::Cpu));
    let _ = model.denoise_at(&x, 1.0, None)?;
    (0..options.rounds).map(|_| timed(|| model.denoise_at(&x, 1.0, None).map(drop))).collect()
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<(f64, f64)> {
    let (wall, cpu) = (Instant::now(), processor_seconds());
    work()?;
    Ok((wall.elapsed().as_secs_f64(), processor_seconds() - cpu))
}

/// Seconds of processor time that this process has used, on all threads; NaN where the system does not tell.
fn processor_seconds() -> f64 {
    // Linux: user and system time in the 14th and 15th field, in ticks of 1/100 s.
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return f64::NAN };
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(f64::NAN))
        .collect();
    match fields[..] {
        [_, _, _, _, _, _, _, _, _, _, _, user, system, ..] => (user + system) / 100.0,
        _ => f64::NAN,
    }
}
