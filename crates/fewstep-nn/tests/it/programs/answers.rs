//! What programs answer, and their derivatives.

use std::path::{Path, PathBuf};

use fewstep_core::Parameterisation;
use fewstep_nn::program::Program;
use fewstep_nn::tch::{Device, Kind, Tensor};
use serde_json::{Value, json};

use super::{CPU, Place, assert_agrees, beside, config, denoised, load, mean, network};
use crate::golden::assert_close;

#[test]
fn raw_networks_of_any_rank_are_the_denoiser_of_their_formula() {
    for shape in [&[64][..], &[7, 5], &[4, 3, 5], &[2, 2, 3, 3]] {
        let (_place, path) = Place::with_network(shape);
        let program = load(&path, config(|json| json["shape"] = json!(shape)));
        let x = Tensor::randn([&[5], shape].concat(), CPU) * 2.0;
        for sigma in [vec![1.3f32], vec![0.01, 0.4, 1.0, 7.0, 60.0]] {
            assert_agrees(&program, &x, &Tensor::from_slice(&sigma), |x, sigma| denoised(x, sigma, &mean()));
        }
    }
}

/// F = 0.3 input + 0.01 c_noise, put together by hand.
#[test]
fn every_parameterisation_is_applied_as_its_coefficients_say() {
    let place = Place::new();
    let inputs = [Tensor::rand([3, 6], CPU), Tensor::rand([3], CPU)];
    let path = place.trace("model.pt", &inputs, |x| &x[0] * 0.3 + beside(&x[1], &x[0]) * 0.01);
    let x = Tensor::randn([3, 6], CPU);
    for parameterisation in [Parameterisation::EDM, Parameterisation::VP, Parameterisation::VE, Parameterisation::IDDPM]
    {
        let program = load(
            &path,
            config(|json| {
                json["shape"] = json!([6]);
                json["parameterisation"] = json!(parameterisation);
            }),
        );
        for sigma in [0.03, 1.0, 40.0] {
            let by_hand = parameterisation.coefficients(&sigma);
            let out = &x * (by_hand.c_in * 0.3) + by_hand.c_noise * 0.01;
            let found = program.denoise(&x, &Tensor::from_slice(&[sigma]), None).unwrap();
            assert_close("by hand", &found, &(&x * by_hand.c_skip + out * by_hand.c_out), 2e-5);
        }
    }
}

#[test]
fn parts_make_the_whole() {
    let (_place, path) = Place::with_network(&[4, 3, 5]);
    let x = Tensor::randn([5, 4, 3, 5], CPU);
    let sigma = Tensor::from_slice(&[0.01f32, 0.4, 1.0, 7.0, 60.0]);
    for batch in [1, 2, 4, 5, 9] {
        let program = load(&path, config(|_| ())).with_batch(batch);
        program.try_out().unwrap();
        assert_agrees(&program, &x, &sigma, |x, sigma| denoised(x, sigma, &mean()));
        assert_agrees(&program, &x, &sigma.narrow(0, 2, 1), |x, sigma| denoised(x, sigma, &mean()));
    }
}

#[test]
fn denoisers_are_given_the_state_and_sigma_themselves() {
    let place = Place::new();
    let inputs = [Tensor::rand([3], CPU), Tensor::rand([3, 4, 3, 5], CPU)];
    let at = mean();
    let path = place.trace("model.pt", &inputs, |x| denoised(&x[1], &x[0], &at));
    let described = config(|json| {
        json["parameterisation"] = json!({"type": "denoiser", "sigma_min": 0.01, "sigma_max": 50.0});
        json["inputs"] = json!(["noise", "x"]);
    });
    assert_eq!(described.parameterisation.sampling_range(), (0.01, 50.0));
    let program = load(&path, described);
    let sigma = Tensor::from_slice(&[0.02f32, 3.0]);
    assert_agrees(&program, &Tensor::randn([2, 4, 3, 5], CPU), &sigma, |x, sigma| denoised(x, sigma, &mean()));
}

#[test]
fn programs_of_one_noise_level_run_every_level_by_itself() {
    let place = Place::new();
    let inputs = [Tensor::rand([3, 4, 3, 5], CPU), Tensor::rand([0i64; 0], CPU)];
    let at = mean();
    let path = place.trace("model.pt", &inputs, |x| network(&x[0], &x[1], &at));
    let program = load(&path, config(|json| json["noise_shape"] = json!("scalar")));
    let x = Tensor::randn([3, 4, 3, 5], CPU);
    for sigma in [vec![0.4f32], vec![0.4, 0.4, 0.4], vec![0.4, 2.0, 30.0]] {
        assert_agrees(&program, &x, &Tensor::from_slice(&sigma), |x, sigma| denoised(x, sigma, &mean()));
    }
}

/// A program whose data has another mean for each of three classes, and one for none.
#[test]
fn labels_reach_the_program_in_its_form() {
    let place = Place::new();
    let means = Tensor::from_slice(&[0.5f32, -1.0, 2.0, 0.0]);
    let of_classes = means.narrow(0, 0, 3);
    let (x, noise) = (Tensor::rand([3, 4, 3, 5], CPU), Tensor::rand([3], CPU));
    let inputs = [x.shallow_clone(), noise.shallow_clone(), Tensor::eye(3, CPU)];
    let path = place.trace("one_hot.pt", &inputs, |x| network(&x[0], &x[1], &x[2].matmul(&of_classes)));
    let with_labels = |form: &'static str, unconditional: Option<Value>| {
        config(move |json| {
            json["classes"] = json!(3);
            json["inputs"] = json!(["x", "noise", "labels"]);
            json["labels"] = json!({"form": form, "unconditional": unconditional});
        })
    };
    let one_hot = load(&path, with_labels("one_hot", Some(json!("zeros"))));
    let inputs = [x, noise, Tensor::from_slice(&[0i64, 1, 2])];
    let path = place.trace("index.pt", &inputs, |x| network(&x[0], &x[1], &means.index_select(0, &x[2])));
    let index = load(&path, with_labels("index", Some(json!(3))));

    let x = Tensor::randn([3, 4, 3, 5], CPU);
    let sigma = Tensor::from_slice(&[0.7f32]);
    let rows = Tensor::from_slice(&[0f32, 0., 1., 0., 0., 0., 1., 0., 0.]).reshape([3, 3]);
    for program in [&one_hot, &index] {
        for (labels, means) in [
            (None, [0f32, 0.0, 0.0]),
            (Some(rows.shallow_clone()), [2.0, 0.0, 0.5]),
            (Some(rows.narrow(0, 0, 1)), [2.0, 2.0, 2.0]),
        ] {
            let found = program.denoise(&x, &sigma, labels.as_ref()).unwrap();
            assert_close("labels", &found, &denoised(&x, &sigma, &Tensor::from_slice(&means)), 1e-5);
        }
        let error = program.denoise(&x, &sigma, Some(&rows.narrow(1, 0, 2))).unwrap_err().to_string();
        assert!(error.contains("labels [3, 2] for 3 states"), "{error}");
    }
    let error = index.denoise(&x, &sigma, Some(&(rows * 0.5))).unwrap_err().to_string();
    assert!(error.contains("no single class"), "{error}");

    // a program that always needs a class
    let strict = load(&path, with_labels("index", None));
    let error = strict.denoise(&x, &sigma, None).unwrap_err().to_string();
    assert!(error.contains("needs a class"), "{error}");
    // a traced argument cannot be left out
    let error = Program::load(&path, with_labels("index", Some(json!("none"))), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("labels None") && error.lines().count() == 1, "{error}");
    // nor do labels go to a program without classes
    let (_place, path) = Place::with_network(&[4, 3, 5]);
    let program = load(&path, config(|_| ()));
    let error = program.denoise(&x, &sigma, Some(&Tensor::eye(3, CPU))).unwrap_err().to_string();
    assert!(error.contains("knows no classes"), "{error}");
}

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/torchscript").join(name)
}

/// `label_or_none.pt` (`testdata/torchscript/make.py`): x + class + 1, where 1 is a weight, or x where there is no label; it raises
/// for class 2.
#[test]
fn none_stands_for_no_class_and_what_a_program_raises_is_one_line() {
    let described = config(|json| {
        json["parameterisation"] = json!({"type": "denoiser", "sigma_min": 0.01, "sigma_max": 50.0});
        json["shape"] = json!([2]);
        json["classes"] = json!(3);
        json["inputs"] = json!(["x", "labels", "noise"]);
        json["labels"] = json!({"form": "index", "unconditional": "none"});
    });
    let program = load(&testdata("label_or_none.pt"), described);
    let (x, sigma) = (Tensor::randn([2, 2], CPU), Tensor::from_slice(&[1f32]));
    let labels = |classes: [i64; 2]| Tensor::from_slice(&classes).one_hot(3);
    assert_close("none", &program.denoise(&x, &sigma, None).unwrap(), &x, 1e-6);
    let found = program.denoise(&x, &sigma, Some(&labels([1, 0]))).unwrap();
    assert_close("labels", &found, &(&x + Tensor::from_slice(&[2f32, 1.0]).unsqueeze(1)), 1e-6);
    assert!(!found.requires_grad(), "weights are constants");
    let error = program.denoise(&x, &sigma, Some(&labels([2, 0]))).unwrap_err().to_string();
    assert!(error.contains("class 2 is not known here") && error.contains("labels int64 [2]"), "{error}");
    assert!(error.contains("label_or_none.pt") && error.lines().count() == 1, "{error}");
    let mixed = labels([1, 0]) * Tensor::from_slice(&[1i64, 0]).unsqueeze(1);
    let error = program.denoise(&x, &sigma, Some(&mixed)).unwrap_err().to_string();
    assert!(error.contains("one after the other"), "{error}");
}

#[test]
fn a_learned_variance_is_cut_off_where_it_is_expected() {
    let place = Place::new();
    let inputs = [Tensor::rand([3, 4, 3, 5], CPU), Tensor::rand([3], CPU)];
    let at = mean();
    let path = place.trace("model.pt", &inputs, |x| {
        let out = network(&x[0], &x[1], &at);
        Tensor::cat(&[&out, &(&out * 9.0)], 1)
    });
    let program = load(&path, config(|json| json["output_channels"] = json!(8)));
    let sigma = Tensor::from_slice(&[0.02f32, 3.0]);
    assert_agrees(&program, &Tensor::randn([2, 4, 3, 5], CPU), &sigma, |x, sigma| denoised(x, sigma, &mean()));
    let error = Program::load(&path, config(|_| ()), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("answers [2, 8, 3, 5]") && error.contains("\"output_channels\": 8"), "{error}");
}

#[test]
fn arguments_come_in_the_type_that_is_asked_for() {
    let place = Place::new();
    let inputs = [Tensor::rand([3, 6], (Kind::Double, Device::Cpu)), Tensor::rand([3], CPU)];
    let [at, eye] = [mean(), Tensor::eye(6, CPU)].map(|tensor| tensor.to_kind(Kind::Double));
    let path = place.trace("model.pt", &inputs, |x| network(&x[0].matmul(&eye), &x[1].to_kind(Kind::Double), &at));
    let shape = |json: &mut Value| json["shape"] = json!([6]);
    let error = Program::load(&path, config(shape), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("forward(x f32 [2, 6], noise f32 [2])") && error.contains("dtype"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    let program = load(
        &path,
        config(|json| {
            shape(json);
            json["input_dtype"] = json!("f64");
        }),
    );
    let sigma = Tensor::from_slice(&[0.02f32, 3.0]);
    assert_agrees(&program, &Tensor::randn([2, 6], CPU), &sigma, |x, sigma| denoised(x, sigma, &mean()));
}
