//! TorchScript programs of known formulas, traced here, and opened as users open them.

use std::path::PathBuf;

use fewstep::models::{GuidanceOptions, ModelOptions, OpenModel, open_model};
use fewstep_core::mixture::{Component, Covariance, Mixture};
use fewstep_nn::tch::{CModule, Device, Kind, Tensor};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

/// A folder of programs.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes the program that computes `f` of arguments like these.
    pub fn trace(&self, name: &str, inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Tensor) {
        let module = CModule::create_by_tracing("net", "forward", inputs, &mut |x: &[Tensor]| vec![f(x)]).unwrap();
        module.save(self.path(name)).unwrap();
    }

    pub fn describe(&self, name: &str, json: &Value) {
        std::fs::write(self.path(name), json.to_string()).unwrap();
    }

    /// Writes `model.pt`, the denoiser of `data` at levels 0.002 to 80, with its description; `change` adds to that.
    pub fn denoiser(&self, data: &Data, change: impl Fn(&mut Value)) {
        let shape = &data.shape;
        let mut inputs = vec![Tensor::rand([&[3], &shape[..]].concat(), CPU), Tensor::rand([3], CPU)];
        let mut described = json!({
            "shape": shape,
            "parameterisation": {"type": "denoiser", "sigma_min": 0.002, "sigma_max": 80.0},
            "inputs": ["x", "noise"],
        });
        if data.conditional {
            let classes = data.means.size()[0];
            inputs.push(Tensor::eye(classes, CPU).narrow(0, 0, 1).repeat([3, 1]));
            described["inputs"] = json!(["x", "noise", "labels"]);
            described["classes"] = json!(classes);
            described["labels"] = json!({"form": "one_hot", "unconditional": "zeros"});
        }
        change(&mut described);
        self.trace("model.pt", &inputs, |x| data.denoised(&x[0], &x[1], x.get(2)));
        self.describe("model.json", &described);
    }

    /// The model, run as a program that is trusted; guided by so much.
    pub fn open(&self, guidance: Option<f64>) -> OpenModel {
        self.try_open(&ModelOptions {
            trust: true,
            batch: 16,
            guidance: guidance.map(|weight| GuidanceOptions { weight, by: None }),
            ..ModelOptions::default()
        })
        .unwrap()
    }

    pub fn try_open(&self, options: &ModelOptions) -> fewstep::Result<OpenModel> {
        open_model(self.path("model.pt").to_str().unwrap(), options)
    }
}

/// A mixture of Gaussians, one of them a class if it is conditional. In f64: `[K, d]`, `[K]`, `[K]`.
pub struct Data {
    pub shape: Vec<i64>,
    pub conditional: bool,
    pub means: Tensor,
    pub stds: Tensor,
    pub weights: Tensor,
}

impl Data {
    /// Three smooth patterns of this shape.
    pub fn patterns(shape: &[i64], conditional: bool) -> Self {
        let size: i64 = shape.iter().product();
        let mean = |k: i64| {
            let at = move |i: i64| 0.7 * (0.11 * (k + 2) as f64 * i as f64 + k as f64).sin();
            (0..size).map(at).collect::<Vec<f64>>()
        };
        let means = Tensor::from_slice(&(0..3).flat_map(mean).collect::<Vec<f64>>()).reshape([3, size]);
        Self {
            shape: shape.to_vec(),
            conditional,
            means,
            stds: Tensor::from_slice(&[0.1f64, 0.3, 0.2]),
            weights: Tensor::from_slice(&[1.0f64, 2.0, 1.0]),
        }
    }

    /// D(x; sigma). `x`: `[N, ...]`, `sigma`: `[N]`, `labels`: `[N, K]`, one-hot or zeros. Returns `[N, ...]` f32.
    pub fn denoised(&self, x: &Tensor, sigma: &Tensor, labels: Option<&Tensor>) -> Tensor {
        let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        let y = double(x).flatten(1, -1);
        let variances = self.stds.square().unsqueeze(0); // [1, K]
        let total = &variances + double(sigma).square().reshape([-1, 1]); // [N, K]
        let squares = y.square().sum_dim_intlist(1, true, Kind::Double) - y.matmul(&self.means.tr()) * 2.0
            + self.means.square().sum_dim_intlist(1, false, Kind::Double);
        let d = self.means.size()[1] as f64;
        let mut log = self.weights.log() - squares / (&total * 2.0) - total.log() * (0.5 * d);
        if let Some(labels) = labels {
            let labels = double(labels);
            let others = labels.sum_dim_intlist(1, true, Kind::Double) - labels; // 1 for classes that are not asked for
            log = log - others * 1e9;
        }
        let shares = log.softmax(1, Kind::Double);
        let pull = &shares * (&variances / &total);
        let answer = (&shares - &pull).matmul(&self.means) + pull.sum_dim_intlist(1, true, Kind::Double) * y;
        answer.to_kind(Kind::Float).reshape_as(x)
    }

    /// The same in the core's arithmetic: of all components, or of one.
    pub fn mixture(&self, class: Option<usize>) -> Mixture {
        let values = |tensor: &Tensor| Vec::<f64>::try_from(tensor.flatten(0, -1)).unwrap();
        let (means, stds, weights) = (values(&self.means), values(&self.stds), values(&self.weights));
        let dim = means.len() / stds.len();
        let component = |k: usize| Component {
            weight: weights[k],
            mean: means[k * dim..][..dim].to_vec(),
            covariance: Covariance::Isotropic(stds[k].powi(2)),
        };
        let of = |k: &usize| class.is_none_or(|class| class == *k);
        Mixture::new((0..stds.len()).filter(of).map(component).collect()).unwrap()
    }
}

/// Sample `n` as numbers.
pub fn row(x: &Tensor, n: i64) -> Vec<f64> {
    Vec::try_from(x.get(n).to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

/// The largest difference of two tensors.
pub fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}
