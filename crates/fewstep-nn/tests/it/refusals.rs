//! Evaluations that libtorch refuses: errors in a sentence, of every network and on every way to it, and never a panic.

use fewstep_core::denoiser::{Denoiser, Differentiable};
use fewstep_core::parameterisation::Parameterisation;
use fewstep_core::plan::Constant;
use fewstep_nn::config::{
    DhariwalConfig, Edm2Config, Embedding, MixtureConfig, ModelConfig, NetworkConfig, PathKind, SongConfig,
};
use fewstep_nn::data::Images;
use fewstep_nn::tch::{Device, Kind, Tensor};
use fewstep_nn::tensor::Batch;
use fewstep_nn::unet::Conditions;
use fewstep_nn::{Error, Labels, Model, Result, Tunable};

use crate::support::{one_thread, ramps};

const CLASSES: i64 = 2;

/// Networks for images of 1x8x8 of two classes, one of each kind and path.
fn networks() -> [Model; 5] {
    let song = SongConfig {
        model_channels: 8,
        channel_mult: vec![1, 2],
        num_blocks: 1,
        attn_resolutions: vec![4],
        label_dropout: 0.1,
        ..SongConfig::default()
    };
    let ncsn = SongConfig {
        embedding_type: Embedding::Fourier,
        encoder_type: PathKind::Residual,
        decoder_type: PathKind::Skip,
        resample_filter: vec![1, 3, 3, 1],
        ..song.clone()
    };
    let adm = DhariwalConfig {
        model_channels: 32,
        channel_mult: vec![1, 2],
        num_blocks: 1,
        attn_resolutions: vec![4],
        ..DhariwalConfig::default()
    };
    let edm2 = Edm2Config {
        model_channels: 8,
        channel_mult: vec![1, 2],
        num_blocks: 1,
        attn_resolutions: vec![4],
        channels_per_head: 8,
        dropout: 0.1,
        ..Edm2Config::default()
    };
    let networks = [
        NetworkConfig::Edm2UNet(edm2),
        NetworkConfig::SongUNet(song),
        NetworkConfig::SongUNet(ncsn),
        NetworkConfig::DhariwalUNet(adm),
        NetworkConfig::GaussianMixture(MixtureConfig { components: CLASSES }),
    ];
    networks.map(|network| {
        let config = ModelConfig {
            img_resolution: 8,
            img_channels: 1,
            label_dim: CLASSES,
            use_fp16: false,
            parameterisation: Parameterisation::EDM,
            network,
        };
        Model::fresh(config, 1, Device::Cpu).unwrap()
    })
}

fn zeros(size: &[i64]) -> Tensor {
    Tensor::zeros(size, (Kind::Float, Device::Cpu))
}

/// That an error is libtorch's, in one line.
fn refused<T>(what: &str, answer: Result<T>) -> String {
    let Err(error) = answer else { panic!("{what} was not refused") };
    let text = error.to_string();
    assert!(matches!(error, Error::Torch(_)) && text.starts_with("libtorch: "), "{what}: {text}");
    assert!(!text.contains('\n') && !text.contains("Exception raised"), "{what}: {text}");
    text
}

#[test]
fn what_does_not_fit_a_network_is_an_error_and_no_panic() {
    one_thread();
    for model in networks() {
        let good = Batch(zeros(&[2, 1, 8, 8]));
        let denoise = |x: &[i64], labels: &[i64]| {
            let (x, labels) = (Batch(zeros(x)), Labels(Some(zeros(labels))));
            let one = Denoiser::denoise(&model, &[(&x, 0.5)], &labels);
            let two = Denoiser::denoise(&model, &[(&x, 0.5), (&x, 2.0)], &labels);
            let back = model.pullback(&x, 0.5, &labels, &x);
            (one, two, back)
        };
        let (one, two, back) = denoise(&[2, 1, 8, 8], &[2, CLASSES]);
        assert!(one.is_ok() && two.is_ok() && back.is_ok(), "{:?}", model.config().network);
        // channels, size of the labels, number of the labels
        for (x, labels) in
            [([2, 3, 8, 8], [2, CLASSES]), ([2, 1, 8, 8], [2, CLASSES + 1]), ([3, 1, 8, 8], [2, CLASSES])]
        {
            let what = format!("{x:?} with labels {labels:?} for {:?}", model.config().network);
            let (one, two, back) = denoise(&x, &labels);
            refused(&what, one);
            refused(&what, two);
            refused(&what, back);
        }
        refused("another cotangent", model.pullback(&good, 0.5, &Labels(None), &Batch(zeros(&[2, 1, 8, 7]))));
        let constant = Constant { sigma: 80.0, shape: vec![1, 8, 8], samples: vec![vec![0.0; 64]; 2] };
        let labels = Labels(Some(zeros(&[1, CLASSES + 1])));
        refused("a constant's labels", model.constant(&constant, &labels, 2));
    }
}

/// Training's way in, and what it makes of it.
#[test]
fn what_does_not_fit_in_training_is_an_error_and_no_panic() {
    one_thread();
    for model in networks() {
        let labels = zeros(&[2, CLASSES + 1]);
        let conditions = Conditions { class_labels: Some(&labels), train: Some(1.into()), ..Conditions::default() };
        let sigma = Tensor::from_slice(&[0.5f32, 2.0]);
        refused("labels", Tunable::forward(&model, &zeros(&[2, 1, 8, 8]), &sigma, &conditions));
        let sigma = Tensor::from_slice(&[0.5f32, 2.0, 3.0]);
        refused("levels", Tunable::forward(&model, &zeros(&[2, 1, 8, 8]), &sigma, &Conditions::default()));
        let images: Images = ramps(&model);
        refused("an image that is not there", images.batch(&[0, 64], &model));
    }
}

#[test]
fn what_does_not_fit_an_encoder_is_an_error_and_no_panic() {
    one_thread();
    let [edm2, song, ncsn, adm, _] = networks();
    for model in [edm2, song, ncsn, adm] {
        let encoder = model.encoder().unwrap();
        let sigma = Tensor::from_slice(&[0.5f32]);
        let encoded = |x: &[i64], labels: &[i64]| {
            let labels = zeros(labels);
            encoder.encoded(&zeros(x), &sigma, &Conditions { class_labels: Some(&labels), ..Conditions::default() })
        };
        assert!(encoded(&[2, 1, 8, 8], &[2, CLASSES]).is_ok());
        refused("channels", encoded(&[2, 3, 8, 8], &[2, CLASSES]));
        refused("labels", encoded(&[2, 1, 8, 8], &[2, CLASSES + 1]));
    }
}

/// A batch that no machine has the memory for, of one image repeated.
#[test]
fn for_want_of_memory_an_evaluation_ends_with_advice() {
    one_thread();
    let most = 1 << 42;
    let x = Batch(zeros(&[1, 1, 8, 8]).expand([most, 1, 8, 8], false));
    for model in networks() {
        let model = model.with_batch(most as usize);
        let error = refused("2^42 images", Denoiser::denoise(&model, &[(&x, 0.5)], &Labels(None)));
        assert!(error.contains("memory") && error.contains("a smaller batch"), "{error}");
    }
}
