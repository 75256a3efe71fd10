//! A critic: a small network that learns to tell a student's images from its teacher's while the student learns to be taken for it.
//!
//! A regression leaves out what it cannot predict, and its images are smooth. A critic sees that they are, without another
//! network and without data: it learns from the images that tuning makes anyway, each beside the teacher's from the same latent.

use tch::{Device, Kind, Tensor};

use crate::adam::{Adam, AdamConfig};
use crate::error::{Error, Result};
use crate::flat::FlatWeights;
use crate::params::{Builder, Init, InitMode, Origin};

/// Channels, kernel and stride of the hidden convolutions, each with a leaky ReLU; one without follows, with a score for every
/// patch.
const LAYERS: [(i64, i64, i64); 4] = [(32, 4, 2), (64, 4, 2), (96, 3, 1), (96, 3, 1)];

/// Steep critics are held back: weight of the squared slope of the sum of an image's scores, divided by the number of patches.
const SLOPE_WEIGHT: f64 = 1e-3;

/// Its own learning rate; it never falls, as the student never stops changing.
const LEARNING_RATE: f64 = 1e-3;

/// With less memory than usual, as what it learns to see moves.
const ADAM: AdamConfig = AdamConfig { beta1: 0.5, beta2: 0.99, eps: 1e-8 };

/// Convolutions over patches of images, with what trains them.
#[derive(Debug)]
pub struct Critic {
    /// Weight, bias, stride.
    layers: Vec<(Tensor, Tensor, i64)>,
    weights: FlatWeights,
    adam: Adam,
}

impl Critic {
    /// One that knows nothing, for images `[N, channels, resolution, resolution]`; its weights are drawn from libtorch's generator.
    ///
    /// # Errors
    /// If the images are too small.
    pub fn new(channels: i64, resolution: i64, device: Device) -> Result<Self> {
        let least: i64 = LAYERS.iter().map(|(.., stride)| stride).product();
        if resolution < least {
            return Err(Error::Input(format!(
                "images of {resolution} pixels a side are too small for a critic ({least} at least)"
            )));
        }
        let mut builder = Builder::new(Origin::Fresh, device);
        let mut layers = Vec::new();
        let mut c_in = channels;
        for (index, (c_out, kernel, stride)) in LAYERS.into_iter().chain([(1, 1, 1)]).enumerate() {
            // He et al. 2015 for what a ReLU follows; the scores begin near 0
            let init = Init::new(InitMode::KaimingNormal, if c_out == 1 { 0.1 } else { std::f64::consts::SQRT_2 });
            let fan = (c_in * kernel * kernel, c_out * kernel * kernel);
            let weight = builder.weight(&format!("{index}.weight"), &[c_out, c_in, kernel, kernel], fan, init)?;
            let bias = builder.weight(&format!("{index}.bias"), &[c_out], fan, init)?;
            layers.push((weight, bias, stride));
            c_in = c_out;
        }
        let weights = FlatWeights::new(&builder.finish()?);
        let adam = Adam::new(ADAM, &weights.values);
        Ok(Self { layers, weights, adam })
    }

    /// How much every patch of `images` `[N, C, H, W]` looks like the teacher's, `[N, 1, h, w]`: only differences mean anything.
    fn scores(&self, images: &Tensor) -> Result<Tensor> {
        let mut x = images.to_kind(Kind::Float);
        for (index, (weight, bias, stride)) in self.layers.iter().enumerate() {
            let pad = (weight.size()[3] - 1) / 2;
            x = x.f_conv2d(weight, Some(bias), [*stride; 2], [pad; 2], [1, 1], 1)?;
            if index < LAYERS.len() {
                x = x.f_leaky_relu()?;
            }
        }
        Ok(x)
    }

    /// How much less the patches of `images` look like the teacher's than the teacher's own from the same latents do, `wanted`:
    /// `log(1 + exp(s(wanted) - s(images)))`, the mean over patches and images (the relativistic loss of Jolicoeur-Martineau
    /// 2019). `log 2` where they cannot be told apart.
    pub fn distance(&self, images: &Tensor, wanted: &Tensor) -> Result<Tensor> {
        let wanted = tch::no_grad(|| self.scores(wanted))?;
        Ok((wanted - self.scores(images)?).f_softplus()?.mean(Kind::Float))
    }

    /// One update towards telling the first of each of the `pairs` from the second, its teacher's, with the slopes of both kept
    /// small (Mescheder et al. 2018; with the relativistic loss, Huang et al. 2024): all of equal shape, the graph of one pair alive
    /// at a time. Returns the mean loss, without the slopes': `log 2` for one that cannot tell.
    ///
    /// # Errors
    /// If the loss is not finite; nothing is changed then.
    pub fn learn(&mut self, pairs: &[[Tensor; 2]]) -> Result<f64> {
        let (mut sum, mut gradient) = (0.0, self.weights.values.zeros_like());
        for pair in pairs {
            let (loss, slope) = self.lesson(pair)?;
            sum += loss;
            gradient += slope;
        }
        gradient /= pairs.len().max(1) as f64;
        let loss = sum / pairs.len().max(1) as f64;
        if !loss.is_finite() || gradient.isfinite().all().int64_value(&[]) == 0 {
            return Err(Error::Input(format!(
                "the critic diverged after {} updates of its own: give it less weight, or do without",
                self.adam.step
            )));
        }
        self.adam.update(&mut self.weights.values, &gradient, LEARNING_RATE);
        Ok(loss)
    }

    /// The loss of a pair, and the gradient of it and of the slopes' penalty.
    fn lesson(&self, pair: &[Tensor; 2]) -> Result<(f64, Tensor)> {
        let both = pair.each_ref().map(|images| images.detach().to_kind(Kind::Float).set_requires_grad(true));
        let [found, wanted] = [self.scores(&both[0])?, self.scores(&both[1])?];
        let loss = (&found - &wanted).f_softplus()?.mean(Kind::Float);
        let sum = found.sum(Kind::Float) + wanted.sum(Kind::Float);
        let slopes = Tensor::f_run_backward(&[&sum], &both, true, true)?;
        let squares: Tensor = slopes.iter().map(|slope| slope.square().sum(Kind::Float)).sum();
        let penalty = squares * (SLOPE_WEIGHT / 2.0 / found.numel() as f64);
        Ok((loss.double_value(&[]), self.weights.gradient(&(loss + penalty))?))
    }

    /// Says that so many updates led here.
    pub(crate) fn set_updates(&mut self, updates: u64) {
        self.adam.step = updates;
    }

    /// Everything that the next update depends on beside their number.
    pub(crate) fn vectors(&mut self) -> [(&'static str, &mut Tensor); 3] {
        [
            ("critic.weights", &mut self.weights.values),
            ("critic.adam.mean", &mut self.adam.mean),
            ("critic.adam.square", &mut self.adam.square),
        ]
    }
}
