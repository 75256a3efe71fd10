//! Denoisers from TorchScript programs: programs of known formulas, traced here, against the formulas.

use std::path::{Path, PathBuf};

use fewstep_core::parameterisation::Parameterisation;
use fewstep_nn::program::config::EXAMPLE;
use fewstep_nn::program::{Program, ProgramConfig};
use fewstep_nn::tch::{self, CModule, Device, Kind, Tensor};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::golden::assert_close;

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

/// A folder with a program `model.pt` in it, traced from `f` on states of this shape and what else it takes.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn trace(&self, name: &str, inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Tensor) -> PathBuf {
        let module = CModule::create_by_tracing("net", "forward", inputs, &mut |x: &[Tensor]| vec![f(x)]).unwrap();
        let path = self.path(name);
        module.save(&path).unwrap();
        path
    }

    /// With the program of [`network`].
    fn with_network(shape: &[i64]) -> (Self, PathBuf) {
        let place = Self::new();
        let states = Tensor::rand([&[3], shape].concat(), CPU);
        let mean = mean();
        let path = place.trace("model.pt", &[states, Tensor::rand([3], CPU)], |x| network(&x[0], &x[1], &mean));
        (place, path)
    }
}

/// Standard deviation of the data in every number.
const STD: f64 = 0.7;

/// D(x; sigma) of Gaussian data. `sigma`: `[N or 1]`, `mean`: `[N or 1]`, made outside of what is traced (the tracer records the
/// making of a tensor, and not what is written into it).
fn denoised(x: &Tensor, sigma: &Tensor, mean: &Tensor) -> Tensor {
    let (sigma, mean) = (beside(sigma, x), beside(mean, x));
    let share = (sigma.square() + STD * STD).reciprocal() * (STD * STD);
    &mean + share * (x - &mean)
}

fn mean() -> Tensor {
    Tensor::from_slice(&[0.3f32])
}

/// `[N or 1]` as a factor of states.
fn beside(numbers: &Tensor, x: &Tensor) -> Tensor {
    let mut shape = vec![1; x.dim()];
    shape[0] = -1;
    numbers.reshape(shape)
}

/// The raw network F(c_in x; c_noise) that is [`denoised`] under EDM's parameterisation with sigma_data 0.5.
fn network(input: &Tensor, c_noise: &Tensor, mean: &Tensor) -> Tensor {
    let sigma = (c_noise * 4.0).exp();
    let total = beside(&(sigma.square() + 0.25), input);
    let x = input * total.sqrt();
    (denoised(&x, &sigma, mean) - &x * 0.25 / &total) / (beside(&sigma, input) * 0.5 / total.sqrt())
}

fn config(change: impl Fn(&mut Value)) -> ProgramConfig {
    let mut value = json!({
        "shape": [4, 3, 5],
        "parameterisation": {"type": "edm", "sigma_data": 0.5, "sigma_min": 0.002, "sigma_max": 80.0},
        "inputs": ["x", "noise"],
    });
    change(&mut value);
    ProgramConfig::from_json(&value.to_string()).unwrap()
}

fn load(path: &Path, config: ProgramConfig) -> Program {
    Program::load(path, config, Device::Cpu).unwrap()
}

/// Values and gradients of both arguments, against the formula.
#[track_caller]
fn assert_agrees(program: &Program, x: &Tensor, sigma: &Tensor, expected: impl Fn(&Tensor, &Tensor) -> Tensor) {
    let [x, sigma] = [x, sigma].map(|tensor| tensor.copy().set_requires_grad(true));
    let weight = Tensor::arange(x.numel() as i64, CPU).reshape(x.size()).sin();
    let gradients = |y: &Tensor| Tensor::run_backward(&[(y * &weight).sum(Kind::Float)], &[&x, &sigma], false, false);
    let (found, expected) = (program.denoise(&x, &sigma, None).unwrap(), expected(&x, &sigma));
    assert_close("values", &found, &expected, 1e-5);
    for (what, (found, expected)) in ["x", "sigma"].iter().zip(gradients(&found).iter().zip(gradients(&expected))) {
        assert_close(what, found, &expected, 1e-4);
    }
    // without a graph the interpreter may take another way
    assert_close("no graph", &tch::no_grad(|| program.denoise(&x, &sigma, None).unwrap()), &found, 1e-6);
}

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

#[test]
fn programs_that_do_something_else_than_described_are_one_sentence() {
    let place = Place::new();
    let refused = |f: &dyn Fn(&[Tensor]) -> Tensor, batch: i64| {
        let inputs = [Tensor::rand([batch, 4, 3, 5], CPU), Tensor::rand([batch], CPU)];
        let path = place.trace("model.pt", &inputs, f);
        let error = Program::load(&path, config(|_| ()), Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("model.pt") && error.lines().count() == 1, "{error}");
        error
    };
    let error = refused(&|x| x[0].narrow(2, 0, 1) + beside(&x[1], &x[0]), 3);
    assert!(error.contains("answers [2, 4, 1, 5]") && error.contains("[2, 4, 3, 5] is needed"), "{error}");
    let error = refused(&|x| (&x[0] + beside(&x[1], &x[0])).to_kind(Kind::Int64), 3);
    assert!(error.contains("answers int64 [2, 4, 3, 5], where floats"), "{error}");
    // a trace that knows one batch alone
    let error = refused(&|x| x[0].reshape([3, 4, 15]).reshape([3, 4, 3, 5]) + beside(&x[1], &x[0]), 3);
    assert!(error.contains("forward(x f32 [2, 4, 3, 5], noise f32 [2])"), "{error}");

    let (_place, path) = Place::with_network(&[4, 3, 5]);
    let swapped = config(|json| json["inputs"] = json!(["noise", "x"]));
    let error = Program::load(&path, swapped, Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("forward(noise f32 [2], x f32 [2, 4, 3, 5])"), "{error}");
    let program = load(&path, config(|_| ()));
    let x = Tensor::randn([3, 4, 3, 5], CPU);
    for (x, sigma, says) in [
        (x.narrow(1, 0, 3), vec![1f32], "states [3, 3, 3, 5], where [N, ...] with [4, 3, 5] are needed"),
        (x.narrow(0, 0, 0), vec![1f32], "states [0, 4, 3, 5]"),
        (x, vec![1f32, 2.0], "2 noise levels for 3 states"),
    ] {
        let error = program.denoise(&x, &Tensor::from_slice(&sigma), None).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn files_that_are_no_programs_are_refused() {
    let place = Place::new();
    let path = place.path("model.pt");
    let error = ProgramConfig::beside(&path).unwrap_err().to_string();
    assert!(error.contains("model.pt: there is no such file"), "{error}");
    let error = Program::load(&path, config(|_| ()), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("model.pt does not exist"), "{error}");
    std::fs::write(&path, b"no zip").unwrap();
    let error = ProgramConfig::beside(&path).unwrap_err().to_string();
    assert!(error.contains("model.json beside it, such as") && error.contains(EXAMPLE), "{error}");
    let error = Program::load(&path, config(|_| ()), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("model.pt is no TorchScript") && error.lines().count() == 1, "{error}");
    for (json, says) in [("{", "EOF"), ("\u{feff}{\"shapes\": [3]}", "unknown field `shapes`")] {
        std::fs::write(place.path("model.json"), json).unwrap();
        let error = ProgramConfig::beside(&path).unwrap_err().to_string();
        assert!(error.contains("model.json: ") && error.contains(says), "{error}");
    }
    std::fs::write(place.path("model.json"), format!("\u{feff}{EXAMPLE}\n")).unwrap();
    assert_eq!(ProgramConfig::beside(&path).unwrap().shape, [3, 32, 32]);
}

#[test]
fn descriptions_are_read_back() {
    let full = config(|json| {
        *json = json!({
            "shape": [4, 32, 32],
            "parameterisation": {"type": "iddpm", "c_1": 0.001, "c_2": 0.008, "m": 1000},
            "classes": 1000,
            "inputs": ["labels", "noise", "x"],
            "labels": {"form": "index", "unconditional": 1000},
            "noise_shape": "scalar",
            "input_dtype": "bf16",
            "output_channels": 8,
            "decoder": {"path": "decoder.pt", "scale": 5.5, "shift": [0.0, 0.1, 0.2, 0.3], "input_dtype": "f16"},
        });
    });
    assert_eq!(full.parameterisation, Parameterisation::IDDPM);
    assert_eq!(full.parameterisation.sigma_max(), Parameterisation::IDDPM.sigma_max());
    assert_eq!(full.parameterisation.round_sigma(3.0), Parameterisation::IDDPM.round_sigma(3.0));
    assert_eq!(full.parameterisation.discrete_levels(), Parameterisation::IDDPM.discrete_levels());
    let denoiser = config(|json| {
        json["parameterisation"] = json!({"type": "denoiser", "sigma_min": 0.01, "sigma_max": 50.0});
    });
    let open = config(|json| json["parameterisation"]["sigma_max"] = json!("inf"));
    assert_eq!(open.parameterisation.sampling_range().1, 80.0);
    for config in [full, denoiser, open, ProgramConfig::from_json(EXAMPLE).unwrap()] {
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(ProgramConfig::from_json(&text).unwrap(), config, "{text}");
    }
}

#[test]
fn every_field_is_checked() {
    let labels = json!({"form": "index"});
    for (pointer, value, says) in [
        ("/shape", json!([]), "`shape` is []"),
        ("/shape", json!([4, 0, 5]), "`shape` is [4, 0, 5]"),
        ("/shape", json!([65536, 65536]), "at most"),
        ("/shape", json!([i64::MAX, i64::MAX]), "at most"),
        ("/parameterisation", json!("edm"), "`parameterisation`"),
        ("/parameterisation/type", json!("edn"), "`denoiser`"),
        ("/parameterisation/sigma_dat", json!(0.5), "unknown field `sigma_dat`"),
        ("/parameterisation/sigma_data", json!(-1.0), "sigma_data = -1"),
        ("/parameterisation", json!({"type": "denoiser"}), "missing field `sigma_min`"),
        (
            "/parameterisation",
            json!({"type": "denoiser", "sigma_min": 1, "sigma_max": 1}),
            "sigma_max = 1, which must be above sigma_min",
        ),
        ("/parameterisation", json!({"type": "denoiser", "sigma_min": 0, "sigma_max": 1}), "sigma_min = 0"),
        (
            "/parameterisation",
            json!({"type": "denoiser", "sigma_min": 1, "sigma_max": 2, "sigma_data": 1}),
            "unknown field `sigma_data`",
        ),
        ("/classes", json!(-1), "`classes` is -1"),
        ("/classes", json!(10), "must name \"x\", \"noise\" and \"labels\""),
        ("/inputs", json!(["x"]), "must name \"x\" and \"noise\", each once"),
        ("/inputs", json!(["x", "noise", "noise"]), "`inputs` is [\"x\", \"noise\", \"noise\"]"),
        ("/inputs", json!(["x", "noise", "labels"]), "with 0 classes"),
        ("/inputs", json!(["x", "sigma"]), "unknown variant `sigma`, expected one of `x`, `noise`, `labels`"),
        ("/labels", labels, "`classes` is 0"),
        ("/noise_shape", json!("vector"), "`batch`"),
        ("/input_dtype", json!("float32"), "`f32`"),
        ("/output_channels", json!(3), "`output_channels` is 3: it must be from 4"),
        ("/output_channel", json!(8), "unknown field `output_channel`"),
        ("/decoder", json!({}), "missing field `path`"),
        ("/decoder", json!({"path": ""}), "`decoder.path` is empty"),
        ("/decoder", json!({"path": "d.pt", "scal": 1}), "unknown field `scal`"),
        ("/decoder", json!({"path": "d.pt", "scale": 0}), "`decoder.scale` is 0: it must be finite and not 0"),
        ("/decoder", json!({"path": "d.pt", "shift": [1, 2]}), "`decoder.shift` has 2 numbers"),
    ] {
        let mut json = serde_json::to_value(config(|_| ())).unwrap();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap()[name] = value;
        let error = ProgramConfig::from_json(&json.to_string()).unwrap_err().to_string();
        assert!(error.contains(says), "{json}: {error}");
    }
    let with_labels = |labels: Value| {
        let mut json = serde_json::to_value(config(|_| ())).unwrap();
        json["classes"] = json!(10);
        json["inputs"] = json!(["x", "noise", "labels"]);
        json["labels"] = labels;
        ProgramConfig::from_json(&json.to_string()).unwrap_err().to_string()
    };
    for (labels, says) in [
        (Value::Null, "`labels` is missing"),
        (json!({"form": "index", "null": 3}), "unknown field `null`"),
        (json!({"form": "soft"}), "`one_hot`"),
        (json!({"form": "one_hot", "unconditional": 10}), "`labels.unconditional` is 10"),
        (json!({"form": "index", "unconditional": "zeros"}), "is \"zeros\", but its form is index"),
        (json!({"form": "index", "unconditional": "empty"}), "Unconditional"),
    ] {
        let error = with_labels(labels);
        assert!(error.contains(says), "{error}");
    }
}

/// A decoder that doubles the height and width and makes three channels of the first.
fn upscaled(x: &Tensor) -> Tensor {
    x.narrow(1, 0, 1).repeat([1, 3, 1, 1]).repeat_interleave_self_int(2, 2, None).repeat_interleave_self_int(2, 3, None)
}

#[test]
fn a_decoder_makes_pixels_of_scaled_states() {
    let (place, path) = Place::with_network(&[4, 3, 5]);
    place.trace("decoder.pt", &[Tensor::rand([3, 4, 3, 5], CPU)], |x| upscaled(&x[0]));
    let program = load(
        &path,
        config(|json| {
            json["decoder"] = json!({"path": "decoder.pt", "scale": [2.0, 1.0, 1.0, 1.0], "shift": -0.25});
        }),
    )
    .with_batch(2);
    let x = Tensor::randn([5, 4, 3, 5], CPU).set_requires_grad(true);
    let decoder = program.decoder().unwrap();
    let pixels = decoder.decode(&x).unwrap();
    assert_close("pixels", &pixels, &upscaled(&(&x * 2.0 - 0.25)), 1e-6);
    let gradient = &Tensor::run_backward(&[pixels.sum(Kind::Float)], &[&x], false, false)[0];
    let once = x.zeros_like();
    let _ = once.narrow(1, 0, 1).fill_(24.0); // 3 channels of 4 pixels, times 2
    assert_close("gradient", gradient, &once, 1e-6);
    let error = decoder.decode(&x.narrow(1, 0, 3)).unwrap_err().to_string();
    assert!(error.contains("decoder.pt") && error.contains("states [5, 3, 3, 5]"), "{error}");
}

#[test]
fn decoders_that_make_no_pixels_are_refused() {
    let (place, path) = Place::with_network(&[4, 3, 5]);
    let with_decoder = || {
        let described = config(|json| json["decoder"] = json!({"path": "decoder.pt"}));
        let error = Program::load(&path, described, Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("decoder.pt") && error.lines().count() == 1, "{error}");
        error
    };
    assert!(with_decoder().contains("does not exist"));
    type Decode = fn(&Tensor) -> Tensor;
    let wrong: [(Decode, &str); 4] = [
        (|x| x * 1.0, "answers [2, 4, 3, 5]"),
        (|x| x.flatten(1, -1), "pixels [2, 1 or 3, height, width] are needed"),
        (|x| upscaled(x) + 127.5, "up to 128"),
        (|x| upscaled(x).to_kind(Kind::Int64), "answers int64 [2, 3, 6, 10], where floats are needed"),
    ];
    for (f, says) in wrong {
        place.trace("decoder.pt", &[Tensor::rand([3, 4, 3, 5], CPU)], |x| f(&x[0]));
        let error = with_decoder();
        assert!(error.contains(says), "{error}");
    }
}
