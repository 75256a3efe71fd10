//! What the tests share.

use fewstep_core::Plan;
use fewstep_core::denoiser::Denoiser;
use fewstep_core::observe::Silent;
use fewstep_core::parameterisation::Parameterisation;
use fewstep_io::dataset;
use fewstep_nn::adam::AdamConfig;
use fewstep_nn::augment::{AUGMENT_DIM, AugmentConfig};
use fewstep_nn::config::{ModelConfig, NetworkConfig, SongConfig};
use fewstep_nn::data::Images;
use fewstep_nn::ema::EmaConfig;
use fewstep_nn::random::{Purpose, Stream};
use fewstep_nn::tch::{Device, Tensor};
use fewstep_nn::tensor::Batch;
use fewstep_nn::train::{Loss, TrainConfig};
use fewstep_nn::{Labels, Model};
use fewstep_search::Seeded;

/// Random numbers for a test.
pub fn stream(seed: u64) -> Stream {
    Stream::new(seed, Purpose::Training, 1 << 40)
}

/// Networks this tiny compute on one thread: more would get in each other's way, and tests run side by side.
pub fn one_thread() {
    fewstep_nn::device::set_threads(1);
}

/// A network small enough for a test.
pub fn small(label_dim: i64) -> Model {
    let song = SongConfig {
        augment_dim: AUGMENT_DIM,
        model_channels: 8,
        channel_mult: vec![1, 2],
        num_blocks: 1,
        attn_resolutions: vec![4],
        ..SongConfig::default()
    };
    let config = ModelConfig {
        img_resolution: 8,
        img_channels: 1,
        label_dim,
        use_fp16: false,
        parameterisation: Parameterisation::EDM,
        network: NetworkConfig::SongUNet(song),
    };
    Model::fresh(config, 1, Device::Cpu).unwrap()
}

/// A fresh network ends in zeros; this one does not.
pub fn lively(label_dim: i64) -> Model {
    let model = small(label_dim);
    let mut stream = stream(1);
    for (_, param) in model.params().iter().filter(|(_, param)| param.tensor.is_floating_point()) {
        let noise = stream.normal(&param.tensor.size(), Device::Cpu) * 0.1;
        let _ = fewstep_nn::tch::no_grad(|| param.tensor.shallow_clone().g_add_(&noise));
    }
    model
}

/// Eight different ramps with two labels.
pub fn ramps(model: &Model) -> Images {
    let data: Vec<u8> = (0..64u32).flat_map(|n| (0..64u32).map(move |i| ((i * (n % 8 + 1)) % 256) as u8)).collect();
    let labels = (0..64).map(|n| n % 2).collect();
    Images::for_model(dataset::Images::new(data, 1, 8, 8, Some(labels)).unwrap(), model).unwrap()
}

/// Training that a test has time for.
pub fn recipe() -> TrainConfig {
    TrainConfig {
        batch: 16,
        microbatch: 8,
        learning_rate: 2e-3,
        rampup_images: 64,
        decay_images: None,
        adam: AdamConfig::default(),
        ema: EmaConfig { halflife_images: 200.0, rampup_ratio: Some(0.05) },
        loss: Loss::EDM,
        augment: Some(AugmentConfig::edm(0.2)),
        xflip: true,
        seed: 7,
    }
}

/// Latents and conditions of seeds on a network.
pub fn seeded<'a>(model: &'a Model, seeds: &[u64]) -> Seeded<'a, Model> {
    Seeded::new(model, seeds, &Silent).unwrap()
}

/// What `plan` makes of `latents` `[N, C, H, W]`; `class_labels`: `[N or 1, classes]`.
pub fn sample(model: &Model, plan: &Plan, latents: &Tensor, class_labels: Option<&Tensor>) -> Tensor {
    let labels = Labels(class_labels.map(Tensor::shallow_clone));
    let latents = Batch(latents.to_kind(fewstep_nn::tch::Kind::Float));
    Seeded::from_latents(model, latents, labels, &Silent).run(plan).unwrap().0
}

/// Images of seeds, so many at once; each of its own class, or all of one.
pub fn images(model: &Model, plan: &Plan, seeds: &[u64], class: Option<usize>, batch: usize) -> Tensor {
    let part = |seeds: &[u64]| match class {
        Some(class) => Seeded::with_class(model, seeds, class, &Silent).unwrap().run(plan).unwrap().0,
        None => seeded(model, seeds).run(plan).unwrap().0,
    };
    Tensor::cat(&seeds.chunks(batch).map(part).collect::<Vec<_>>(), 0)
}

/// Unit normal latents of a network for these seeds.
pub fn latents(model: &Model, seeds: &[u64]) -> Tensor {
    model.latents(seeds).unwrap().0
}
