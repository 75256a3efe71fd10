//! The exact mixture as a denoiser: the oracle of searches' tests, and what forecasts run on.

use std::convert::Infallible;

use super::{Appearance, Clipping, Denoiser, Differentiable, Levels, Spec};
use crate::mixture::Mixture;
use crate::noise;
use crate::plan::Constant;

/// A [`Mixture`] as a [`Denoiser`]: samples are vectors or small images in `f64`. With classes, each component is one.
#[derive(Clone, Debug)]
pub struct Oracle {
    mixture: Mixture,
    /// Every component alone, for conditional denoisers.
    components: Vec<Mixture>,
    spec: Spec,
}

/// The class of every sample; none where the denoiser is asked without a condition.
pub type Classes = Vec<Option<usize>>;

impl Oracle {
    /// The denoiser of `mixture`, whose samples have this `shape`, at these levels.
    ///
    /// # Panics
    /// If the shape has another number of elements than the mixture has dimensions.
    pub fn new(mixture: Mixture, shape: Vec<usize>, levels: Levels) -> Self {
        assert_eq!(
            shape.iter().product::<usize>(),
            mixture.dim(),
            "a sample's shape has as many numbers as the mixture"
        );
        let spec = Spec::new(shape, levels, "gaussian mixture");
        Self { mixture, components: Vec::new(), spec }
    }

    /// The same conditioned on the component: a class each.
    pub fn conditional(mut self) -> Self {
        let alone = |component: &crate::mixture::Component| Mixture::new(vec![component.clone()]).ok();
        self.components = self.mixture.components().iter().filter_map(alone).collect();
        self.spec.classes = self.components.len();
        self
    }

    /// The mixture.
    pub fn mixture(&self) -> &Mixture {
        &self.mixture
    }

    fn of(&self, class: Option<usize>) -> &Mixture {
        class.and_then(|class| self.components.get(class)).unwrap_or(&self.mixture)
    }
}

impl Denoiser for Oracle {
    type Batch = Vec<Vec<f64>>;
    type Conditions = Classes;
    type Error = Infallible;

    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn latents(&self, seeds: &[u64]) -> Result<Self::Batch, Infallible> {
        let latent = |seed: &u64| {
            let mut values = vec![0.0_f32; self.mixture.dim()];
            noise::normal(*seed, noise::LATENT, &mut values);
            values.into_iter().map(f64::from).collect()
        };
        Ok(seeds.iter().map(latent).collect())
    }

    fn conditions(&self, seeds: &[u64]) -> Result<Classes, Infallible> {
        let class = |seed: &u64| (self.spec.classes > 0).then(|| (*seed % self.spec.classes as u64) as usize);
        Ok(seeds.iter().map(class).collect())
    }

    fn same_condition(&self, class: Option<usize>, samples: usize) -> Result<Classes, Infallible> {
        Ok(vec![class; samples])
    }

    fn constant(&self, constant: &Constant, classes: &Classes, samples: usize) -> Result<Self::Batch, Infallible> {
        let count = constant.samples.len();
        let mean = |at: usize| constant.samples.iter().map(|image| f64::from(image[at])).sum::<f64>() / count as f64;
        let all: Vec<f64> = (0..self.mixture.dim()).map(mean).collect();
        let of = |class: &Option<usize>| match class.filter(|_| count > 1).and_then(|class| constant.samples.get(class))
        {
            Some(image) => image.iter().map(|value| f64::from(*value)).collect(),
            None => all.clone(),
        };
        Ok(if classes.is_empty() { vec![all; samples] } else { classes.iter().map(of).collect() })
    }

    fn denoise(&self, asked: &[(&Self::Batch, f64)], classes: &Classes) -> Result<Vec<Self::Batch>, Infallible> {
        let class = |sample: usize| classes.get(sample).copied().flatten();
        let answer = |(x, sigma): &(&Self::Batch, f64)| {
            x.iter().enumerate().map(|(sample, x)| self.of(class(sample)).denoised(x, *sigma)).collect()
        };
        Ok(asked.iter().map(answer).collect())
    }

    fn differentiable(
        &self,
    ) -> Option<&dyn Differentiable<Batch = Self::Batch, Conditions = Classes, Error = Infallible>> {
        Some(self)
    }

    fn appearance(&self) -> Option<&dyn Appearance<Self::Batch, Infallible>> {
        (self.spec.shape.len() == 3).then_some(self)
    }
}

impl Differentiable for Oracle {
    fn pullback(
        &self,
        x: &Self::Batch,
        sigma: f64,
        classes: &Classes,
        cotangent: &Self::Batch,
    ) -> Result<(Self::Batch, f64), Infallible> {
        // the Jacobian in x is symmetric (a posterior covariance over sigma^2): the derivative along a cotangent is its pullback
        let mut d_sigma = 0.0;
        let of_sample = |(sample, (x, cotangent)): (usize, (&Vec<f64>, &Vec<f64>))| {
            let mixture = self.of(classes.get(sample).copied().flatten());
            let slope = mixture.derivative(x, sigma, &vec![0.0; x.len()], 1.0);
            d_sigma += slope.iter().zip(cotangent).map(|(d, c)| d * c).sum::<f64>();
            mixture.derivative(x, sigma, cotangent, 0.0)
        };
        let d_x = x.iter().zip(cotangent).enumerate().map(of_sample).collect();
        Ok((d_x, d_sigma))
    }
}

/// Local means and differences of grey or colour images, in place of random filters: enough for searches on a mixture.
impl Appearance<Vec<Vec<f64>>, Infallible> for Oracle {
    fn features(&self, batch: &Vec<Vec<f64>>) -> Result<(Vec<f64>, usize), Infallible> {
        let width = self.spec.shape[2];
        let of_sample = |sample: &Vec<f64>| {
            let clamped: Vec<f64> = sample.iter().map(|value| value.clamp(-1.0, 1.0)).collect();
            let n = clamped.len() as f64;
            let mean = clamped.iter().sum::<f64>() / n;
            let square = clamped.iter().map(|value| value * value).sum::<f64>() / n;
            let across = clamped.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum::<f64>() / n;
            let down = clamped.iter().zip(clamped.iter().skip(width)).map(|(a, b)| (b - a).abs()).sum::<f64>() / n;
            [mean, square, across, down]
        };
        Ok((batch.iter().flat_map(of_sample).collect(), 4))
    }

    fn clipping(&self, batch: &Vec<Vec<f64>>, near: std::ops::Range<f64>) -> Result<Clipping, Infallible> {
        let mut clipping = Clipping::default();
        for value in batch.iter().flatten().map(|value| value.abs()) {
            clipping.values += 1;
            clipping.beyond += u64::from(value >= near.end);
            if near.contains(&value) {
                clipping.near.push(value as f32);
            }
        }
        Ok(clipping)
    }

    fn is_direct(&self) -> bool {
        true
    }
}
