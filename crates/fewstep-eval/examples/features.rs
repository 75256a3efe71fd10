//! Seconds for Inception's features of a folder of images, or for a Frechet distance between moments, as one JSON object: what
//! `bench/compare_torch_fidelity.py` sets beside torch-fidelity.
//!
//! `features <folder> <weights> <batch> <threads>` decodes, extracts features and accumulates their moments, after a warm-up on
//! one batch; `features frechet <moments.npz> <moments.npz> <threads>` reads nothing within the time it reports.

use std::path::Path;
use std::time::Instant;

use fewstep_eval::features::{Convention, FeatureNetwork, Inception};
use fewstep_eval::watch::unwatched;
use fewstep_eval::{Collector, Keep, Statistics, frechet_distance};
use fewstep_io::Dataset;
use fewstep_nn::device::set_threads;
use fewstep_nn::tch::{Device, Kind, Tensor};
use serde_json::{Value, json};

type Outcome = Result<Value, Box<dyn std::error::Error>>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let report = match args[..] {
        ["frechet", a, b, threads] => frechet(Path::new(a), Path::new(b), threads.parse()?)?,
        [folder, weights, batch, threads] => {
            features(Path::new(folder), Path::new(weights), batch.parse()?, threads.parse()?)?
        }
        _ => return Err("usage: features <folder> <weights> <batch> <threads> | frechet <a> <b> <threads>".into()),
    };
    println!("{report}");
    Ok(())
}

fn features(folder: &Path, weights: &Path, batch: usize, threads: usize) -> Outcome {
    set_threads(threads);
    let network = Inception::load(weights, Convention::Tf1, Device::Cpu)?;
    let dataset = Dataset::open(folder)?;
    let (height, width) = dataset.resolution();
    let shape = [batch, dataset.channels(), height, width].map(|size| size as i64);
    let _warm_up = network.features(&Tensor::zeros(shape, (Kind::Uint8, Device::Cpu)))?;
    let started = Instant::now();
    let mut collector = Collector::new(&network, Keep { features: true, ..Keep::default() });
    collector.push_dataset(&dataset, 0..dataset.len(), batch, &mut unwatched)?;
    let collected = collector.finish()?;
    let seconds = started.elapsed().as_secs_f64();
    let sum = collected.features.map(|features| features.sum(Kind::Double).double_value(&[]));
    Ok(json!({ "images": dataset.len(), "seconds": seconds, "sum": sum }))
}

fn frechet(a: &Path, b: &Path, threads: usize) -> Outcome {
    set_threads(threads);
    let (a, b) = (Statistics::read(a)?, Statistics::read(b)?);
    let started = Instant::now();
    let distance = frechet_distance(&a, &b)?;
    Ok(json!({ "dimensions": a.dim(), "seconds": started.elapsed().as_secs_f64(), "distance": distance }))
}
