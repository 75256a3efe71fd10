//! Denoisers from TorchScript programs: programs of known formulas, traced here, against the formulas.

mod answers;
mod decoders;
mod descriptions;
mod refusals;

use std::path::{Path, PathBuf};

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
