//! `fewstep denoise` against the code that users' checkpoints come from.

use fewstep_io::npz;
use fewstep_io::tensors::TensorData;

use crate::support::{Place, SIZE, goldens, relative_error};

const NETWORKS: [&str; 9] = [
    "ddpmpp_edm",
    "ncsnpp_edm_cond",
    "ddpmpp_vp",
    "ncsnpp_ve",
    "adm_edm_cond_fp16",
    "adm_iddpm_cond",
    "edm2_uncond",
    "edm2_cond",
    "edm2_latent_cond",
];

#[test]
fn golden_outputs_of_all_networks() {
    let Some(goldens) = goldens() else { return };
    let place = Place::new();
    for name in NETWORKS {
        let (model, arrays) = (goldens.join(format!("{name}.pkl")), goldens.join(format!("{name}.npz")));
        // Batches of 3 of 4 images: the last one is short.
        let args = [
            "denoise",
            model.to_str().unwrap(),
            arrays.to_str().unwrap(),
            "--batch",
            "3",
            "--out",
            "out.npz",
            "--overwrite",
        ];
        place.succeeds(&args);
        let found = npz::read(place.path("out.npz")).unwrap();
        let error = relative_error(&found["denoised"], &npz::read(&arrays).unwrap()["denoised"]);
        assert!(error <= 1e-5, "{name}: {error:.2e}");
    }
}

#[test]
fn an_import_denoises_as_the_snapshot_does() {
    let Some(goldens) = goldens() else { return };
    let place = Place::new();
    let (model, arrays) = (goldens.join("ncsnpp_edm_cond.pkl"), goldens.join("ncsnpp_edm_cond.npz"));
    let (model, arrays) = (model.to_str().unwrap(), arrays.to_str().unwrap());
    place.succeeds(&["import", model, "--out", "full.safetensors"]);
    place.succeeds(&["import", model, "--half", "--out", "half.safetensors"]);
    let size = |name: &str| place.path(name).metadata().unwrap().len();
    assert!(size("half.safetensors") < size("full.safetensors") * 6 / 10);
    let expected = npz::read(arrays).unwrap();
    for (name, tolerance) in [("full", 1e-5), ("half", 1e-2)] {
        place.succeeds(&["denoise", &format!("{name}.safetensors"), arrays, "--out", &format!("{name}.npz")]);
        let found = npz::read(place.path(&format!("{name}.npz"))).unwrap();
        let error = relative_error(&found["denoised"], &expected["denoised"]);
        assert!(error <= tolerance, "{name}: {error:.2e}");
    }
}

/// What an EDM2 user does first: the network says whose latents it makes; guided by a second network it has plans; latents are no PNG.
#[test]
fn networks_of_edm2_are_models_like_any_other() {
    let Some(goldens) = goldens() else { return };
    let place = Place::new();
    let golden = |name: &str| goldens.join(name).to_str().unwrap().to_owned();
    let (latent, cond, uncond) = (golden("edm2_latent_cond.pkl"), golden("edm2_cond.pkl"), golden("edm2_uncond.pkl"));
    let told = place.succeeds(&["import", &latent, "--half", "--out", "latent.safetensors"]);
    let scales = "scale [8.34, 9.24, 7.42, 6.56], shift [5.81, 3.25, 0.12, -2.15]";
    assert!(
        told.contains("EDM2, 32 channels") && told.contains("stabilityai/sd-vae-ft-mse") && told.contains(scales),
        "{told}"
    );
    let few = ["--set", "search.teacher.samples=4", "--set", "held_out.samples=2", "--steps", "3"];
    let guided = ["plan", &cond, "--guidance", "1.7", "--guide", &uncond, "--out", "guided"];
    place.succeeds(&[&guided[..], &few[..]].concat());
    place.succeeds(&[&["plan", "latent.safetensors", "--out", "latents"][..], &few[..]].concat());
    let sample = ["sample", "latent.safetensors", "--plan", "latents/steps-003/plan.json", "--seeds", "0-1", "--out"];
    place.succeeds(&[&sample[..], &["latents.npz"][..]].concat());
    assert_eq!(npz::read(place.path("latents.npz")).unwrap()["samples"].shape, [2, 4, 16, 16]);
    let error = place.fails(&[&sample[..], &["latents.png"][..]].concat());
    assert!(error.contains("name its decoder in a JSON beside it"), "{error}");
    let tune =
        ["tune", &cond, "--plan", "guided", "--updates", "2", "--set", "tune.trajectories=8", "--set", "tune.batch=4"];
    let guide = ["--guidance", "1.7", "--guide", &uncond, "--set", "early_stop=false", "--out", "tuned"];
    place.succeeds(&[&tune[..], &guide[..], &["--set", "held_out.samples=2"][..]].concat());
    assert!(place.path("tuned/steps-003/model.safetensors").exists());
}

#[test]
fn arrays_that_do_not_fit_are_named() {
    let place = Place::with_model();
    place.save_model("cond.safetensors", 1, 4);
    let x = |shape: &[usize]| TensorData::from_f32(shape, &vec![0.5; shape.iter().product()]).unwrap();
    let good = || x(&[2, 1, SIZE, SIZE]);
    let sigma = |values: &[f32]| TensorData::from_f32(&[values.len()], values).unwrap();
    let fails = |model: &str, arrays: Vec<(&str, TensorData)>| {
        place.save_npz("in.npz", arrays);
        place.fails(&["denoise", model, "in.npz", "--out", "out.npz"])
    };
    let model = "model.safetensors";
    let message = fails(model, vec![("sigma", sigma(&[1.0]))]);
    insta::assert_snapshot!(message, @"in.npz has no array `x`, but sigma");
    let message = fails(model, vec![("x", x(&[2, 3, SIZE, SIZE])), ("sigma", sigma(&[1.0, 2.0]))]);
    insta::assert_snapshot!(message, @"the array `x` of in.npz has the shape [2, 3, 8, 8], but the model needs [N, 1, 8, 8]");
    let message = fails(model, vec![("x", good()), ("sigma", sigma(&[1.0, 2.0, 3.0]))]);
    insta::assert_snapshot!(message, @"the array `sigma` of in.npz has the shape [3], but one noise level for each of the 2 images is needed");
    let message = fails(model, vec![("x", good()), ("sigma", sigma(&[1.0, 0.0]))]);
    insta::assert_snapshot!(message, @"the array `sigma` of in.npz holds the noise level 0.0 at flat index 1: as f32, in which models compute, noise levels must be above 0");
    let message = fails(model, vec![("x", good()), ("sigma", sigma(&[1.0, f32::NAN]))]);
    insta::assert_snapshot!(message, @"the array `sigma` of in.npz is not finite at flat index 1");
    let message = fails(model, vec![("x", good()), ("sigma", sigma(&[1.0])), ("class_labels", x(&[2, 4]))]);
    insta::assert_snapshot!(message, @"in.npz has an array `class_labels`, but the model knows no classes: remove the array or use a class-conditional model");
    let message =
        fails("cond.safetensors", vec![("x", good()), ("sigma", sigma(&[1.0])), ("class_labels", x(&[2, 5]))]);
    insta::assert_snapshot!(message, @"the array `class_labels` of in.npz has the shape [2, 5], but [2, 4] is needed (one row an image, one column a class)");
    // what f64 holds and f32 does not
    let wide = |shape: &[usize], at: usize, value: f64| {
        let mut values = vec![0.5; shape.iter().product()];
        values[at] = value;
        TensorData::from_f64(shape, &values).unwrap()
    };
    let message = fails(model, vec![("x", good()), ("sigma", wide(&[2], 1, 1e-50))]);
    insta::assert_snapshot!(message, @"the array `sigma` of in.npz holds the noise level 1e-50 at flat index 1: as f32, in which models compute, noise levels must be above 0");
    let message = fails(model, vec![("x", wide(&[2, 1, SIZE, SIZE], 70, -1e300)), ("sigma", sigma(&[1.0]))]);
    insta::assert_snapshot!(message, @"the array `x` of in.npz holds -1e300 at flat index 70: models compute in f32, whose largest number is 3.4028235e38");
    let labels = wide(&[2, 4], 5, 1e300);
    let message = fails("cond.safetensors", vec![("x", good()), ("sigma", sigma(&[1.0])), ("class_labels", labels)]);
    assert!(message.contains("`class_labels` of in.npz holds 1e300 at flat index 5"), "{message}");
    place.save_npz("in.npz", vec![("x", good()), ("sigma", sigma(&[1.0])), ("class_labels", x(&[2, 4]))]);
    let words = place.succeeds(&["denoise", "cond.safetensors", "in.npz", "--out", "out.npz"]);
    assert_eq!(words, "out.npz: 2 samples denoised by cond.safetensors\n");
}

/// A model that answers no numbers is no import that works.
#[test]
fn outputs_that_are_not_finite_are_refused() {
    let place = Place::with_model();
    let mut x = vec![0.5; 3 * SIZE * SIZE];
    x[SIZE * SIZE] = 3e38; // finite, but not as the network's scaled input at a low level
    let sigma = |second: f32| TensorData::from_f32(&[3], &[80.0, second, 80.0]).unwrap();
    let x = TensorData::from_f32(&[3, 1, SIZE, SIZE], &x).unwrap();
    place.save_npz("in.npz", vec![("x", x), ("sigma", sigma(0.25))]);
    let message = place.fails(&["denoise", "model.safetensors", "in.npz", "--out", "out.npz"]);
    insta::assert_snapshot!(message, @"1 of 3 denoised samples have values that are not finite, at sigma 0.25: check the model, or try --precision f32");
}

/// Samples at several levels go through the network level by level, and come back in their order.
#[test]
fn the_order_of_samples_stays() {
    let place = Place::new();
    place.save_model("cond.safetensors", 1, 4);
    let size = SIZE * SIZE;
    let x: Vec<f32> = (0..5 * size).map(|i| (i as f32 * 0.7).sin()).collect();
    let sigmas = [3.0, 0.5, 3.0, 80.0, 0.5];
    let labels: Vec<f32> = (0..5 * 4).map(|i| f32::from(u8::from(i / 4 % 4 == i % 4))).collect();
    let denoise = |rows: std::ops::Range<usize>, out: &str| {
        let part = |values: &[f32], width: usize| values[rows.start * width..rows.end * width].to_vec();
        let array = |shape: &[usize], values: Vec<f32>| TensorData::from_f32(shape, &values).unwrap();
        let count = rows.len();
        place.save_npz(
            "in.npz",
            vec![
                ("x", array(&[count, 1, SIZE, SIZE], part(&x, size))),
                ("sigma", array(&[count], part(&sigmas, 1))),
                ("class_labels", array(&[count, 4], part(&labels, 4))),
            ],
        );
        place.succeeds(&["denoise", "cond.safetensors", "in.npz", "--out", out]);
        npz::read(place.path(out)).unwrap()["denoised"].clone()
    };
    let all = denoise(0..5, "all.npz").to_f32();
    for row in 0..5 {
        let one = denoise(row..row + 1, &format!("{row}.npz"));
        let expected = TensorData::from_f32(&[1, 1, SIZE, SIZE], &all[row * size..(row + 1) * size]).unwrap();
        assert!(relative_error(&one, &expected) < 1e-5, "{row}");
    }
}
