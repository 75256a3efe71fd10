//! All reference networks, of EDM and EDM2: outputs, gradients, ranges and rounding.

use std::path::PathBuf;

use fewstep_core::parameterisation::{AlphaNetwork, Alphas, Parameterisation, Prediction, RectifiedFlow};
use fewstep_nn::config::{DhariwalConfig, Embedding, ModelConfig, NetworkConfig, PathKind, SongConfig};
use fewstep_nn::tch::{Device, Kind, Tensor};
use fewstep_nn::tensor::coefficients;
use fewstep_nn::unet::Conditions;
use fewstep_nn::{Model, Tunable, checkpoint};

use crate::golden::{arrays, assert_close, folder};
use crate::support::{one_thread, small, stream};

/// Networks made by the EDM code.
fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/edm_networks").join(name)
}

const EDM: [&str; 6] =
    ["ddpmpp_edm", "ncsnpp_edm_cond", "ddpmpp_vp", "ncsnpp_ve", "adm_edm_cond_fp16", "adm_iddpm_cond"];
const EDM2: [&str; 3] = ["edm2_uncond", "edm2_cond", "edm2_latent_cond"];

fn all() -> impl Iterator<Item = &'static str> {
    EDM.into_iter().chain(EDM2)
}

fn network(name: &str) -> Option<Model> {
    let path = folder()?.join(format!("{name}.pkl"));
    Some(checkpoint::load(&path, Device::Cpu).unwrap().model)
}

/// Outputs and gradients within 1e-5 of the EDM code's, which are in f32: where our network computes in f64, so that nothing but the
/// reference rounds (5.5e-6 at most was found), and in f32. There the gradient in sigma has twice as much: sums of hundreds of values that
/// cancel, with an error of our own of 3e-7 to 1.1e-5 by the processor's instructions (f32 coefficients themselves put it 1e-4 from exact).
#[test]
fn golden_outputs_and_gradients() {
    for (name, kind) in all().flat_map(|name| [Kind::Double, Kind::Float].map(|kind| (name, kind))) {
        let (Some(folder), Some(model)) = (folder(), network(name)) else { return };
        let golden = arrays(folder.join(format!("{name}.npz")));
        let model = model.with_kind(kind);
        let given = |array: &str| golden[array].to_kind(kind).copy();
        let (x, sigma) = (given("x").set_requires_grad(true), given("sigma").set_requires_grad(true));
        let class_labels = golden.contains_key("class_labels").then(|| given("class_labels"));
        let conditions = Conditions { class_labels: class_labels.as_ref(), ..Conditions::default() };
        let denoised = model.denoise(&x, &sigma, &conditions).unwrap();
        assert_close(&format!("{name} {kind:?} denoised"), &denoised.detach(), &golden["denoised"], 1e-5);
        let product = (&denoised * &golden["cotangent"]).sum(kind);
        let grads = Tensor::run_backward(&[product], &[&x, &sigma], false, false);
        assert_close(&format!("{name} {kind:?} grad_x"), &grads[0], &golden["grad_x"], 1e-5);
        let rounding = if kind == Kind::Double { 1e-5 } else { 2e-5 };
        assert_close(&format!("{name} {kind:?} grad_sigma"), &grads[1], &golden["grad_sigma"], rounding);
    }
}

#[test]
fn golden_maps_variances_and_outputs_without_labels() {
    for name in all() {
        let (Some(folder), Some(model)) = (folder(), network(name)) else { return };
        let golden = arrays(folder.join(format!("{name}.npz")));
        let conditions = Conditions { class_labels: golden.get("class_labels"), ..Conditions::default() };
        // the encoder's maps: one a resolution, each half as large as the one before
        let maps = model.encoded(&golden["x"], &golden["sigma"], &conditions).unwrap();
        let size = |map: &Tensor| map.size()[2];
        assert!(maps.len() > 1 && size(&maps[0]) == golden["x"].size()[2], "{name}");
        assert!(maps.windows(2).all(|pair| size(&pair[1]) * 2 == size(&pair[0])), "{name}");
        let logvar = model.logvar(&golden["sigma"]).unwrap();
        assert_eq!(logvar.is_some(), golden.contains_key("logvar"), "{name}");
        if let Some(logvar) = logvar {
            assert_close(&format!("{name} logvar"), &logvar.reshape([-1, 1, 1, 1]).detach(), &golden["logvar"], 1e-5);
        }
        if let Some(expected) = golden.get("denoised_nolabel") {
            let unlabelled = model.denoise(&golden["x"], &golden["sigma"], &Conditions::default()).unwrap();
            assert_close(&format!("{name} denoised_nolabel"), &unlabelled, expected, 1e-5);
        }
    }
}

/// Rounded to bf16 every network says the same in fewer digits: kernels of its own, and resampling in f32 on a CPU.
#[test]
fn golden_outputs_and_gradients_are_near_in_bf16() {
    for name in all() {
        let (Some(folder), Some(model)) = (folder(), network(name)) else { return };
        let (golden, model) = (arrays(folder.join(format!("{name}.npz"))), model.with_kind(Kind::BFloat16));
        let x = golden["x"].copy().set_requires_grad(true);
        let conditions = Conditions { class_labels: golden.get("class_labels"), ..Conditions::default() };
        let denoised = model.denoise(&x, &golden["sigma"], &conditions).unwrap();
        assert_close(&format!("{name} denoised"), &denoised.detach(), &golden["denoised"], 2e-2);
        let product = (&denoised * &golden["cotangent"]).sum(Kind::Float);
        let grads = Tensor::run_backward(&[product], &[&x], false, false);
        assert_close(&format!("{name} grad_x"), &grads[0], &golden["grad_x"], 4e-2);
    }
}

#[test]
fn golden_ranges_and_rounding() {
    for name in EDM {
        let (Some(folder), Some(model)) = (folder(), network(name)) else { return };
        let golden = arrays(folder.join(format!("{name}.npz")));
        let parameterisation = &model.config().parameterisation;
        for (what, found) in [("sigma_min", parameterisation.sigma_min()), ("sigma_max", parameterisation.sigma_max())]
        {
            let expected = golden[what].double_value(&[]);
            assert!(
                found == expected || (found / expected - 1.0).abs() < 1e-5,
                "{name} {what}: {found}, not {expected}"
            );
        }
        for (index, sigma) in [0.03, 0.5, 7.0, 60.0].into_iter().enumerate() {
            let expected = golden["round_sigma"].double_value(&[index as i64]);
            let found = parameterisation.round_sigma(sigma);
            assert!((found / expected - 1.0).abs() < 1e-5, "{name} round_sigma({sigma}): {found}, not {expected}");
        }
    }
}

#[test]
fn golden_networks_survive_our_own_file_format() {
    for name in all() {
        let Some(model) = network(name) else { return };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let notes = [("source".to_owned(), name.to_owned())].into();
        checkpoint::save(&path, &model, checkpoint::Storage::F32, &notes).unwrap();
        let read = checkpoint::load(&path, Device::Cpu).unwrap();
        assert_eq!(read.model.config(), model.config());
        assert_eq!(read.notes, notes);
        let x = stream(0).normal(&[2, model.config().img_channels, 16, 16], Device::Cpu);
        let of = |model: &Model| model.denoise_at(&x, 1.5, None).unwrap();
        assert_eq!(of(&read.model), of(&model), "{name}");
    }
}

/// On the way from one network to another the ends are theirs, and weights go straight.
#[test]
fn weights_between_two_networks() {
    one_thread();
    let a = small(0);
    let b = Model::fresh(a.config().clone(), 2, Device::Cpu).unwrap();
    let interpolated = |start: &Model, end: &Model, alpha: f64| start.interpolated(end, alpha).unwrap();
    let difference = |one: &Model, other: &Model, alpha: f64, of: &Model| {
        let far = one.params().trainable().map(|(name, weight)| {
            let expected = weight * (1.0 - alpha) + other.params().get(name).unwrap() * alpha;
            (of.params().get(name).unwrap() - expected).abs().max().double_value(&[])
        });
        far.fold(0.0, f64::max)
    };
    let quarter = interpolated(&a, &b, 0.25);
    for (alpha, found) in [(0.0, &interpolated(&a, &b, 0.0)), (1.0, &interpolated(&a, &b, 1.0))] {
        assert_eq!(difference(&a, &b, alpha, found), 0.0);
    }
    assert!(difference(&a, &b, 0.25, &quarter) < 1e-6);
    assert!(difference(&a, &b, 0.0, &quarter) > 1e-3);
    // the layers see them
    let x = crate::support::latents(&a, &[1, 2]);
    let of = |model: &Model| model.denoise_at(&x, 0.7, None).unwrap();
    assert_eq!(of(&interpolated(&a, &b, 1.0)), of(&b));
    assert_ne!(of(&quarter), of(&a));
    let error = small(10).interpolated(&a, 0.5).unwrap_err();
    assert!(matches!(error, fewstep_nn::Error::MissingTensor { .. }), "{error}");
}

/// Tensors carry what `f64` carries, in single precision: the values, and the gradient of the label by sigma.
#[test]
fn coefficients_of_tensors_are_those_of_numbers() {
    let alphas =
        |prediction| Parameterisation::Alphas(AlphaNetwork::new(prediction, Alphas::STABLE_DIFFUSION, 0.5).unwrap());
    let flow = Parameterisation::Flow(RectifiedFlow { shift: 3.0, ..RectifiedFlow::default() });
    for parameterisation in [alphas(Prediction::Eps), alphas(Prediction::V), alphas(Prediction::X0), flow] {
        let sigmas = [0.05_f32, 0.7, 3.3, 14.0];
        let tensor = Tensor::from_slice(&sigmas).set_requires_grad(true);
        let of = coefficients(&parameterisation, &tensor).unwrap();
        of.c_noise.sum(Kind::Float).backward();
        let gradient = tensor.grad();
        for (i, sigma) in sigmas.into_iter().map(f64::from).enumerate() {
            let number = parameterisation.coefficients(&sigma);
            let close =
                |a: f64, b: f64| assert!((a - b).abs() <= 1e-5 * b.abs(), "{parameterisation:?} at {sigma}: {a} {b}");
            for (tensor, number) in [
                (&of.c_skip, number.c_skip),
                (&of.c_out, number.c_out),
                (&of.c_in, number.c_in),
                (&of.c_noise, number.c_noise),
            ] {
                close(tensor.double_value(&[i as i64]), number);
            }
            let h = 1e-6 * sigma;
            let label = |sigma: f64| parameterisation.coefficients(&sigma).c_noise;
            close(gradient.double_value(&[i as i64]), (label(sigma + h) - label(sigma - h)) / (2.0 * h));
        }
    }
}

/// An ADM network of fewer than 64 channels has no attention, wherever it is asked for: read from a file, and made by us.
#[test]
fn attention_needs_64_channels_a_head_as_in_the_edm_code() {
    let theirs = checkpoint::load(&testdata("small_adm.pkl"), Device::Cpu).unwrap().model;
    let golden = arrays(testdata("small_adm.npz"));
    let conditions = Conditions { class_labels: golden.get("class_labels"), ..Conditions::default() };
    let denoised = theirs.denoise(&golden["x"], &golden["sigma"], &conditions).unwrap();
    assert_close("small_adm denoised", &denoised.detach(), &golden["denoised"], 1e-5);
    let ours = Model::fresh(theirs.config().clone(), 0, Device::Cpu).unwrap();
    let tensors = |model: &Model| {
        model.params().iter().map(|(name, param)| (name.to_owned(), param.tensor.size())).collect::<Vec<_>>()
    };
    assert_eq!(tensors(&ours), tensors(&theirs));
    // one head at 64 channels, two at 128
    let of = |model_channels: i64| {
        let network = DhariwalConfig {
            model_channels,
            channel_mult: vec![1],
            num_blocks: 1,
            attn_resolutions: vec![],
            ..DhariwalConfig::default()
        };
        Model::fresh(image_4x4(NetworkConfig::DhariwalUNet(network)), 0, Device::Cpu).unwrap()
    };
    for (channels, attends) in [(60, false), (64, true), (128, true)] {
        assert_eq!(of(channels).params().get("model.dec.4x4_in0.qkv.weight").is_some(), attends, "{channels}");
    }
}

fn image_4x4(network: NetworkConfig) -> ModelConfig {
    let parameterisation = Parameterisation::EDM;
    ModelConfig { img_resolution: 4, img_channels: 1, label_dim: 0, use_fp16: false, parameterisation, network }
}

/// Whether the EDM code can make and run a network of this width (read off `training/networks.py`): its normalisations have
/// min(32, C / 4) equal groups, cosines and sines of the noise level make an even number, and heads alpha the channels evenly.
fn works_in_the_edm_code(arch: &str, width: i64, mult: &[i64], blocks: usize) -> bool {
    let adm = arch == "adm";
    let levels: Vec<i64> = mult.iter().map(|mult| width * mult).collect();
    let first = if adm { levels[0] } else { width };
    let (mut normed, mut skips, mut channels) = (Vec::new(), vec![first], first);
    for (level, out) in levels.iter().enumerate() {
        if level > 0 {
            normed.push(channels);
            skips.push(channels);
        }
        for _ in 0..blocks {
            normed.extend([channels, *out]);
            channels = *out;
            skips.push(channels);
        }
    }
    for out in levels.iter().rev() {
        normed.push(channels); // the two blocks at the deepest level, or the one that doubles the resolution
        for _ in 0..=blocks {
            normed.extend([channels + skips.pop().unwrap(), *out]);
            channels = *out;
        }
    }
    let groups = |c: i64| (c / 4).min(32);
    let normalised = normed.iter().all(|&c| groups(c) > 0 && c % groups(c) == 0);
    let embedded = arch == "ncsnpp" || width % 2 == 0;
    // attention at every level here
    let shared = !adm || levels.iter().all(|c| c / 64 == 0 || c % (c / 64) == 0);
    normalised && embedded && shared
}

/// A width is valid exactly if the EDM code can make and run a network of it; so can we then.
#[test]
fn widths_are_valid_exactly_where_the_edm_code_works() {
    one_thread();
    let x = stream(0).normal(&[2, 1, 4, 4], Device::Cpu);
    for arch in ["ddpmpp", "ncsnpp", "adm"] {
        for channel_mult in [vec![1], vec![3], vec![1, 2], vec![2, 1], vec![1, 2, 2], vec![2, 2, 2], vec![1, 2, 3]] {
            for model_channels in 1..260 {
                let (num_blocks, attn_resolutions) = (1, vec![4, 2, 1]);
                let song = SongConfig {
                    model_channels,
                    channel_mult: channel_mult.clone(),
                    num_blocks,
                    attn_resolutions: attn_resolutions.clone(),
                    ..SongConfig::default()
                };
                let network = match arch {
                    "ddpmpp" => NetworkConfig::SongUNet(song),
                    "ncsnpp" => NetworkConfig::SongUNet(SongConfig {
                        embedding_type: Embedding::Fourier,
                        encoder_type: PathKind::Residual,
                        channel_mult_noise: 2,
                        resample_filter: vec![1, 3, 3, 1],
                        ..song
                    }),
                    _ => NetworkConfig::DhariwalUNet(DhariwalConfig {
                        model_channels,
                        channel_mult: channel_mult.clone(),
                        num_blocks,
                        attn_resolutions,
                        ..DhariwalConfig::default()
                    }),
                };
                let what = format!("{arch} {model_channels} {channel_mult:?}");
                let config = image_4x4(network);
                let valid = config.validate();
                let expected = works_in_the_edm_code(arch, model_channels, &channel_mult, 1);
                assert_eq!(valid.is_ok(), expected, "{what}: {valid:?}");
                // the small ones run as well: the others' networks are large
                if valid.is_ok() && model_channels < 40 {
                    let model = Model::fresh(config, 0, Device::Cpu).unwrap();
                    let images = model.denoise_at(&x, 1.0, None).unwrap();
                    assert!(images.size() == x.size() && images.isfinite().all().int64_value(&[]) == 1, "{what}");
                }
            }
        }
    }
    // the sizes of the report that led here
    for width in [44, 48, 52, 56, 72, 80, 100] {
        assert!(!works_in_the_edm_code("ddpmpp", width, &[1, 2, 2], 1), "{width}");
    }
}

/// What a file says of the parameterisation is checked before anything is built on it.
#[test]
fn a_parameterisation_that_makes_no_sense_is_refused() {
    for (parameterisation, says) in [
        (Parameterisation::Iddpm { c_1: 0.001, c_2: 0.008, m: 1 << 40 }, "M = "),
        (Parameterisation::Edm { sigma_data: 0.0, sigma_min: 0.0, sigma_max: 80.0 }, "sigma_data = 0"),
        (Parameterisation::Flow(RectifiedFlow { t_max: 1.0, ..RectifiedFlow::default() }), "t_max = 1"),
    ] {
        let config = ModelConfig { parameterisation, ..crate::support::small(0).config().clone() };
        let error = Model::fresh(config, 1, Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// What no network can be made of is refused in words, before anything is allocated.
#[test]
fn what_cannot_be_built_is_refused_with_its_reason() {
    let song = |song: SongConfig| image_4x4(NetworkConfig::SongUNet(SongConfig { channel_mult: vec![1], ..song }));
    let refused = |config: ModelConfig| config.validate().unwrap_err().to_string();
    let of_width = |model_channels: i64| refused(song(SongConfig { model_channels, ..SongConfig::default() }));
    assert!(of_width(144).contains("has 144 channels, which do not make 32 equal groups"), "{}", of_width(144));
    assert!(of_width(0).contains("model_channels is 0"), "{}", of_width(0));
    for (dropout, label_dropout) in [(1.5, 0.0), (f64::NAN, 0.0), (0.0, -0.1)] {
        let error = refused(song(SongConfig { dropout, label_dropout, ..SongConfig::default() }));
        assert!(error.contains("dropout is "), "{error}");
    }
    // a few petabytes
    let huge = SongConfig { model_channels: 8192, channel_mult: vec![64], ..SongConfig::default() };
    let error = refused(image_4x4(NetworkConfig::SongUNet(huge)));
    assert!(error.contains("billion weights"), "{error}");
    let parameterisation = Parameterisation::Iddpm { c_1: 0.001, c_2: 0.008, m: usize::MAX };
    let error = refused(ModelConfig { parameterisation, ..song(SongConfig::default()) });
    assert!(error.contains("M"), "{error}");
    // frequencies are drawn: a file without them is not whole
    let fourier = SongConfig { embedding_type: Embedding::Fourier, ..SongConfig::default() };
    let model = Model::fresh(song(SongConfig { model_channels: 8, ..fourier }), 0, Device::Cpu).unwrap();
    let tensors = model.params().iter().map(|(name, param)| (name.to_owned(), param.tensor.copy()));
    let tensors = tensors.filter(|(name, _)| name != "model.map_noise.freqs").collect();
    let error = Model::from_tensors(model.config().clone(), tensors, Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("no tensor 'model.map_noise.freqs'"), "{error}");
}
