//! Numbers that half precision does not hold: whatever meets one ends with the noise level, and leaves nothing.

use fewstep::fitting::{self, FitInputs, FitSettings, FitTask, Phases};
use fewstep::models::OpenModel;
use fewstep::plans::euler;
use fewstep::runs::RunOptions;
use fewstep::sampling::{self, Destination, Sampling, Source};
use fewstep_core::observe::Silent;
use fewstep_core::parameterisation::Parameterisation;
use fewstep_core::schedule::karras;
use fewstep_nn::checkpoint::{self, Storage};
use fewstep_nn::config::{ModelConfig, NetworkConfig, SongConfig};
use fewstep_nn::tch::{Device, Kind, no_grad};
use fewstep_nn::{Error, Model, Network, Ranks};

/// A network for images of 1x8x8 whose first layer multiplies by `factor`; the layer after it normalises.
fn network(factor: f64) -> Model {
    let song = SongConfig {
        model_channels: 8,
        channel_mult: vec![1],
        num_blocks: 1,
        attn_resolutions: Vec::new(),
        ..SongConfig::default()
    };
    let config = ModelConfig {
        img_resolution: 8,
        img_channels: 1,
        label_dim: 0,
        use_fp16: false,
        parameterisation: Parameterisation::EDM,
        network: NetworkConfig::SongUNet(song),
    };
    let model = Model::fresh(config, 1, Device::Cpu).unwrap().with_identity("fresh");
    let (_, first) = model.params().trainable().find(|(name, _)| name.ends_with("8x8_conv.weight")).unwrap();
    let _ = no_grad(|| first.shallow_clone().f_mul_scalar_(factor).unwrap());
    model
}

fn opened(kind: Kind) -> OpenModel {
    // weights within half precision, and what they make of an image beyond it
    OpenModel::of(Box::new(Network::new(network(1.5e5).with_kind(kind))), "fresh").unwrap()
}

#[test]
fn samples_are_finite_or_there_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let sample = |kind: Kind, out: &str| {
        let opened = opened(kind);
        let plan = euler(&karras(4, 0.01, 50.0, 7.0).unwrap()).unwrap();
        let source = Source::seeds((7..12).collect(), None, opened.spec()).unwrap();
        let sampling =
            Sampling { denoiser: opened.denoiser(), model: opened.id("f32"), plan: &plan, source: &source, batch: 2 };
        let destination = Destination::Arrays { path: folder.path().join(out), overwrite: true, raw: true };
        sampling::sample(&sampling, &destination, &Silent).map(|_| ())
    };
    sample(Kind::Float, "float.npz").unwrap();
    sample(Kind::BFloat16, "bfloat.npz").unwrap();
    let error = sample(Kind::Half, "half.npz").unwrap_err().to_string();
    assert!(
        error.starts_with("the sample of seed 7 has values that are not finite, from the noise level 50.0"),
        "{error}"
    );
    assert!(error.contains("--precision f32"), "{error}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn searches_and_tunings_name_the_level() {
    let folder = tempfile::tempdir().unwrap();
    let opened = opened(Kind::Half);
    let mut settings = FitSettings::default();
    settings.search.teacher.samples = 4;
    settings.held_out.samples = 4;
    let task = FitTask {
        phases: Phases::Plan,
        model: opened.id("f16"),
        data: None,
        features: None,
        references: Vec::new(),
        method: "least-squares".parse().unwrap(),
        plans: Vec::new(),
        steps: vec![3],
        rounds: 1,
        settings,
    };
    let inputs = FitInputs { model: &opened, images: None, features: None, references: &[], plans: &[] };
    let run = RunOptions { out: folder.path().join("run"), resume: false, command: Vec::new(), ranks: Ranks::alone() };
    let error = fitting::fit(task, &inputs, &run, &Silent).unwrap_err().to_string();
    assert!(error.contains("at sigma 80") && error.contains("not finite"), "{error}");
}

#[test]
fn weights_that_half_precision_does_not_hold_are_not_stored_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let model = network(1e6);
    let error = checkpoint::save(&path, &model, Storage::F16, &Default::default()).unwrap_err();
    let Error::TooLargeForHalf { name, value } = &error else { panic!("{error}") };
    assert!(name.ends_with("8x8_conv.weight") && *value > 65504.0, "{error}");
    assert!(!path.exists());
    checkpoint::save(&path, &model, Storage::F32, &Default::default()).unwrap();
    checkpoint::load(&path, Device::Cpu).unwrap();
    checkpoint::save(&path, &network(1.0), Storage::F16, &Default::default()).unwrap();
    checkpoint::load(&path, Device::Cpu).unwrap();
}
