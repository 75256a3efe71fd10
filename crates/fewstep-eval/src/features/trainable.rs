//! The small classifier while it is trained: convolutions, batch normalisations and ReLUs.

use fewstep_nn::random::Stream;
use fewstep_nn::tch::nn::{self, ModuleT};
use fewstep_nn::tch::{self, Device, Kind, Tensor};

use super::small::{Layer, SmallCnnConfig, Weights};
use crate::error::Result;

/// The network with its batch normalisations.
pub struct Trainable {
    config: SmallCnnConfig,
    /// Weights `[out, in, 3, 3]` without bias, which the normalisation that follows would cancel.
    convolutions: Vec<(Tensor, nn::BatchNorm)>,
    head: nn::Linear,
}

/// Added to a variance before its root is taken.
const BN_EPS: f64 = 1e-5;

impl Trainable {
    /// Fresh weights under `path`, drawn from `stream` as He et al. 2015 draw them.
    pub fn new(path: &nn::Path, config: SmallCnnConfig, stream: &mut Stream) -> Self {
        let norm = nn::BatchNormConfig { ws_init: nn::Init::Const(1.0), eps: BN_EPS, ..Default::default() };
        let convolutions = config
            .convolutions()
            .iter()
            .map(|(name, c_in, c_out)| {
                let path = path / name.replace('.', "_");
                let weight = path.zeros("weight", &[*c_out, *c_in, 3, 3]);
                fill(&weight, &(stream.normal(&weight.size(), Device::Cpu) * (2.0 / (9 * c_in) as f64).sqrt()));
                (weight, nn::batch_norm2d(path / "bn", *c_out, norm))
            })
            .collect();
        let zero = Some(nn::Init::Const(0.0));
        let zeros = nn::LinearConfig { ws_init: nn::Init::Const(0.0), bs_init: zero, bias: true };
        let head = nn::linear(path / "head", config.dim(), config.classes, zeros);
        let fan = config.dim() as f64;
        for (values, bound) in [(Some(&head.ws), (6.0 / fan).sqrt()), (head.bs.as_ref(), (1.0 / fan).sqrt())] {
            let Some(values) = values else { continue };
            fill(values, &((stream.uniform(&values.size(), Device::Cpu) * 2.0 - 1.0) * bound));
        }
        Self { config, convolutions, head }
    }

    /// Features `[N, d]`; while training, the normalisations use and update the batch's statistics.
    ///
    /// # Errors
    /// If memory does not suffice, say.
    pub fn features(&self, images: &Tensor, kind: Kind, training: bool) -> Result<Tensor> {
        self.config.trunk(images, |index, x| {
            let (weight, norm) = &self.convolutions[index];
            let x = x.f_to_kind(kind)?.f_conv2d(&weight.f_to_kind(kind)?, None::<&Tensor>, 1, 1, 1, 1)?;
            Ok(norm.forward_t(&x, training).f_relu()?)
        })
    }

    /// Class scores `[N, classes]` of features `[N, d]`.
    pub fn scores(&self, features: &Tensor) -> Tensor {
        features.apply(&self.head)
    }

    /// The same function at inference: w' = w g / sqrt(var + eps), b' = beta - mean g / sqrt(var + eps).
    pub fn fold(&self) -> Weights {
        let plain = |tensor: &Tensor| tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
        let double = |tensor: &Tensor| tensor.detach().to_device(Device::Cpu).to_kind(Kind::Double);
        let fold = |(weight, norm): &(Tensor, nn::BatchNorm)| {
            let inverse = (double(&norm.running_var) + BN_EPS).rsqrt();
            let gain = norm.ws.as_ref().map_or_else(|| inverse.copy(), |gain| double(gain) * &inverse);
            let shift = norm.bs.as_ref().map_or_else(|| gain.zeros_like(), double);
            let bias = shift - double(&norm.running_mean) * &gain;
            Layer { weight: plain(&(double(weight) * gain.reshape([-1, 1, 1, 1]))), bias: plain(&bias) }
        };
        let convolutions = self.convolutions.iter().map(fold).collect();
        let bias = self
            .head
            .bs
            .as_ref()
            .map_or_else(|| Tensor::zeros([self.config.classes], (Kind::Float, Device::Cpu)), plain);
        Weights { config: self.config.clone(), convolutions, head: Layer { weight: plain(&self.head.ws), bias } }
    }
}

/// Writes `values` into a weight.
fn fill(weight: &Tensor, values: &Tensor) {
    tch::no_grad(|| weight.shallow_clone().copy_(values));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{FeatureId, FeatureNetwork};
    use fewstep_nn::random::Purpose;

    #[test]
    fn folding_keeps_the_function() {
        let store = nn::VarStore::new(Device::Cpu);
        let mut stream = Stream::new(5, Purpose::ClassifierWeights, 0);
        let net = Trainable::new(&store.root(), SmallCnnConfig::new(3, 4), &mut stream);
        for (_, norm) in &net.convolutions {
            tch::no_grad(|| {
                let mut drawn =
                    |low: f64, high: f64| stream.uniform(&norm.running_mean.size(), Device::Cpu) * (high - low) + low;
                fill(&norm.running_mean, &drawn(-1.0, 1.0));
                fill(&norm.running_var, &drawn(0.5, 2.0));
            });
        }
        let images = (stream.uniform(&[2, 3, 16, 16], Device::Cpu) * 256.0).to_kind(Kind::Uint8);
        let reference = net.features(&images, Kind::Float, false).unwrap();
        let folded = net.fold().network(FeatureId { name: "x".into(), sha256: "y".into() }).unwrap();
        let features = folded.features(&images).unwrap();
        let scale = reference.abs().max().double_value(&[]);
        assert!((features - reference).abs().max().double_value(&[]) < 1e-5 * scale);
    }
}
