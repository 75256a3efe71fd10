//! Samples of shapes that no network of ours has.

use std::path::Path;

use fewstep_core::denoiser::{Denoiser, Levels, Spec};
use fewstep_core::observe::Silent;
use fewstep_core::plan::Constant;
use fewstep_core::schedule::karras;
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_io::dataset::Images;
use fewstep_io::npz;
use fewstep_io::tensors::TensorData;
use fewstep_nn::Ranks;
use fewstep_nn::program::{Decoder, DecoderConfig};
use fewstep_nn::tch::{CModule, Device};
use fewstep_nn::{Codec, Error, Labels, Result, data};

use super::*;

/// D(x; sigma) of unit normal data of any shape; images where that is `[1 or 3, height, width]`.
#[derive(Debug)]
struct Normal(Spec, Codec);

impl Normal {
    fn of(shape: &[usize]) -> Self {
        let spec = Spec {
            shape: shape.to_vec(),
            levels: Levels::between(0.01, 10.0),
            parameterisation: None,
            classes: 0,
            calls: 1,
            guidance: None,
            rounding: 6e-8,
            identity: "normal".to_owned(),
        };
        Self(spec, Codec::direct(shape, Device::Cpu))
    }
}

impl Denoiser for Normal {
    type Batch = Batch;
    type Conditions = Labels;
    type Error = Error;

    fn spec(&self) -> &Spec {
        &self.0
    }

    fn latents(&self, seeds: &[u64]) -> Result<Batch> {
        Ok(Batch(data::latents(seeds, &self.0.shape, Device::Cpu)?))
    }

    fn conditions(&self, _: &[u64]) -> Result<Labels> {
        Ok(Labels(None))
    }

    fn same_condition(&self, _: Option<usize>, _: usize) -> Result<Labels> {
        Ok(Labels(None))
    }

    fn constant(&self, _: &Constant, _: &Labels, _: usize) -> Result<Batch> {
        Err(Error::Input("no constant".to_owned()))
    }

    fn denoise(&self, asked: &[(&Batch, f64)], _: &Labels) -> Result<Vec<Batch>> {
        Ok(asked.iter().map(|(x, sigma)| Batch(&x.0 / (1.0 + sigma * sigma))).collect())
    }
}

impl TorchDenoiser for Normal {
    fn device(&self) -> Device {
        Device::Cpu
    }

    fn codec(&self) -> &Codec {
        &self.1
    }
}

fn plan() -> Plan {
    Solver::Heun.plan(&karras(4, 0.01, 10.0, 7.0).unwrap(), &SolverOptions::default()).unwrap()
}

fn model() -> ModelId {
    ModelId { name: "normal".into(), sha256: "0".into(), precision: "f32".into(), guidance: None }
}

fn leave(denoiser: &Normal, source: &Source, destination: &Destination) -> crate::error::Result<Sampled> {
    sample(&Sampling { denoiser, model: model(), plan: &plan(), source, batch: 2 }, destination, &Silent)
}

fn run(out: &Path, resume: bool) -> RunOptions {
    RunOptions { out: out.to_owned(), resume, command: vec!["fewstep".to_owned()], ranks: Ranks::alone() }
}

fn arrays(path: &Path, raw: bool) -> Destination {
    Destination::Arrays { path: path.to_owned(), overwrite: true, raw }
}

fn seeds(seeds: std::ops::Range<u64>) -> Source {
    Source::Seeds { seeds: seeds.collect(), class: None }
}

#[test]
fn samples_of_any_rank_become_arrays_from_seeds_or_latents() {
    let folder = tempfile::tempdir().unwrap();
    let [given, path, again] = ["given.npz", "a.npz", "b.npz"].map(|name| folder.path().join(name));
    for shape in [&[5][..], &[4, 8, 8], &[2, 3, 4, 5], &[1, 17, 33]] {
        let denoiser = Normal::of(shape);
        leave(&denoiser, &seeds(3..6), &arrays(&path, true)).unwrap();
        let found = npz::read(&path).unwrap();
        let name = if shape == [1, 17, 33] { "images" } else { "samples" };
        assert_eq!(found[name].shape, [&[3], shape].concat());
        assert_eq!(found["seeds"].to_i64().unwrap(), [3, 4, 5]);
        // the same latents from a file are the same samples
        let Batch(latents) = denoiser.latents(&[3, 4, 5]).unwrap();
        let values = Vec::<f32>::try_from(latents.flatten(0, -1)).unwrap();
        let latents = TensorData::from_f32(&[&[3], shape].concat(), &values).unwrap();
        npz::write(&given, &[("latents".to_owned(), latents)].into_iter().collect()).unwrap();
        let source = Source::latents(&given, None, denoiser.spec()).unwrap();
        leave(&denoiser, &source, &arrays(&again, true)).unwrap();
        assert_eq!(npz::read(&again).unwrap()[name], found[name]);
        let other = Normal::of(&[7]);
        assert!(Source::latents(&given, None, other.spec()).unwrap_err().to_string().contains("[N, 7]"));
    }
}

#[test]
fn images_need_not_be_square() {
    let folder = tempfile::tempdir().unwrap();
    let denoiser = Normal::of(&[1, 17, 33]);
    let out = folder.path().join("s");
    let to = |resume: bool| Destination::Folder { run: run(&out, resume), subdirs: false, overwrite: false };
    assert_eq!(leave(&denoiser, &seeds(0..3), &to(false)).unwrap().kept, 0);
    assert!(leave(&denoiser, &seeds(0..5), &to(false)).is_err());
    assert_eq!(leave(&denoiser, &seeds(0..5), &to(true)).unwrap().kept, 3);
    let images = crate::data::open_data(&out, None, None).unwrap();
    assert_eq!((images.len(), images.channels(), images.resolution()), (5, 1, (17, 33)));
    let path = folder.path().join("a.npz");
    leave(&denoiser, &seeds(0..5), &arrays(&path, false)).unwrap();
    let found = npz::read(&path).unwrap();
    let pngs: Vec<u8> = (0..5).flat_map(|index| images.image(index).unwrap()).collect();
    assert_eq!(found["images"].bytes, pngs);

    let grid = Destination::Grid { path: folder.path().join("x.png"), overwrite: false, columns: None };
    let error = leave(&Normal::of(&[5]), &seeds(0..2), &grid).unwrap_err().to_string();
    assert!(error.contains("no images of 1 or 3 channels") && error.contains(".npz"), "{error}");
}

/// A new folder whose first batch fails goes with its subfolders; one that was gone on with stays, whatever was asked of it.
#[test]
fn a_failure_removes_nothing_that_it_did_not_make() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("s");
    let task = || SampleTask { model: model(), class: None, latents_sha256: None, subdirs: true, plan: plan() };
    // a PNG has 1 or 3 channels
    let wrong = Images { data: vec![0; 8], channels: 2, height: 2, width: 2, labels: None, num_classes: 0 };
    let fail = |resume: bool| {
        let mut samples = SampleFolder::open(task(), &run(&out, resume), false).unwrap();
        let error = samples.take(&[1001], &wrong).unwrap_err();
        assert!(out.join("001000").is_dir() && out.join("run.json").exists());
        samples.abandon(error, 0)
    };
    fail(false);
    assert!(!out.exists());

    let mut samples = SampleFolder::open(task(), &run(&out, false), false).unwrap();
    samples.take(&[7], &Images::new(vec![0; 4], 1, 2, 2, None).unwrap()).unwrap();
    samples.finish().unwrap();
    let error = fail(true).sentence();
    assert!(!error.contains("were made before"), "{error}");
    assert!(out.join("000000/000007.png").exists() && out.join("run.json").exists());
}

/// As a decoder in half precision makes them of samples that are finite.
#[test]
fn pixels_that_are_not_finite_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decoder.pt");
    let decode = &mut |x: &[Tensor]| {
        // finite of zeros, on which decoders are tried
        vec![x[0].narrow(1, 0, 3) * 1e30 * 1e30]
    };
    let state = Tensor::zeros([2, 4, 2, 2], (Kind::Float, Device::Cpu));
    CModule::create_by_tracing("net", "forward", &[state], decode).unwrap().save(&path).unwrap();
    let config: DecoderConfig = serde_json::from_value(serde_json::json!({"path": "decoder.pt"})).unwrap();
    let decoder = Decoder::load(&path, &config, &[4, 2, 2], Device::Cpu).unwrap();
    let denoiser = Normal(Normal::of(&[4, 2, 2]).0, Codec::decoding(decoder).unwrap());
    let out = |name: &str| folder.path().join(name);
    for destination in [
        Destination::Folder { run: run(&out("s"), false), subdirs: false, overwrite: false },
        Destination::Grid { path: out("grid.png"), overwrite: false, columns: None },
        Destination::Arrays { path: out("a.npz"), overwrite: false, raw: false },
    ] {
        let error = leave(&denoiser, &seeds(7..9), &destination).unwrap_err().to_string();
        assert!(error.contains("pixels that are not finite of the sample of seed 7"), "{error}");
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 1, "the decoder alone is there");
    leave(&denoiser, &seeds(7..9), &arrays(&out("raw.npz"), true)).unwrap(); // nothing is decoded
}

#[test]
fn the_ends_of_a_range_are_its_lowest_and_its_highest_seed() {
    let source = Source::Seeds { seeds: vec![5, 0, 7, 3], class: None };
    assert_eq!([0..2, 2..4, 1..2, 0..4].map(|range| source.ends(range)), [[0, 5], [3, 7], [0, 0], [0, 7]]);
}
