//! A mixture as the objectives and searches take a network.

use std::convert::Infallible;

use super::Mixture;
use crate::denoiser::BoundDenoiser;
use crate::noise;
use crate::objective::ForwardNoised;

/// Whether every noise level draws its own noise, or one draw serves all (the paper leaves it open).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseSharing {
    /// `n_i` independent for each level.
    Independent,
    /// One `n` for all levels.
    Shared,
}

/// A fixed batch `y` of data with its noise, so that an objective over it is a deterministic function of the schedule.
#[derive(Clone, Debug)]
pub struct NoisedBatch<'a> {
    mixture: &'a Mixture,
    clean: Vec<f64>,
    seed: u64,
    sharing: NoiseSharing,
}

impl<'a> NoisedBatch<'a> {
    /// `count` samples of the mixture and noise for them, all from `seed`.
    pub fn new(mixture: &'a Mixture, count: usize, seed: u64, sharing: NoiseSharing) -> Self {
        Self { mixture, clean: mixture.sample(seed, count), seed, sharing }
    }

    /// The noise `n_level`, unit normal, the shape of the batch.
    pub fn noise(&self, level: usize) -> Vec<f64> {
        let stream = match self.sharing {
            NoiseSharing::Independent => level as u64,
            NoiseSharing::Shared => 0,
        };
        let mut out = vec![0.0_f32; self.clean.len()];
        // streams from the top, clear of those that drew the data
        noise::normal(self.seed, u64::MAX - stream, &mut out);
        out.into_iter().map(f64::from).collect()
    }

    /// `y + sigma n_level`.
    pub fn noisy(&self, level: usize, sigma: f64) -> Vec<f64> {
        self.clean.iter().zip(self.noise(level)).map(|(y, n)| y + sigma * n).collect()
    }
}

impl ForwardNoised<Vec<f64>> for NoisedBatch<'_> {
    type Error = Infallible;

    fn clean(&self) -> &Vec<f64> {
        &self.clean
    }

    fn denoised(&mut self, level: usize, sigma: f64) -> Result<Vec<f64>, Infallible> {
        Ok(self.mixture.denoised(&self.noisy(level, sigma), sigma))
    }

    fn pullback(&mut self, level: usize, sigma: f64, cotangent: &Vec<f64>) -> Result<f64, Infallible> {
        let (x, n) = (self.noisy(level, sigma), self.noise(level));
        let derivative = self.mixture.derivative(&x, sigma, &n, 1.0);
        Ok(derivative.iter().zip(cotangent).map(|(d, c)| d * c).sum())
    }
}

/// The Jacobian of `D` in `x` is symmetric (a posterior covariance over `sigma^2`), so the derivative along a cotangent
/// is its pullback.
impl BoundDenoiser<Vec<f64>> for &Mixture {
    type Error = Infallible;

    fn denoised(&mut self, x: &Vec<f64>, sigma: f64) -> Result<Vec<f64>, Infallible> {
        Ok(Mixture::denoised(self, x, sigma))
    }

    fn pullback(&mut self, x: &Vec<f64>, sigma: f64, cotangent: &Vec<f64>) -> Result<(Vec<f64>, f64), Infallible> {
        let d_sigma = self.derivative(x, sigma, &vec![0.0; x.len()], 1.0);
        Ok((self.derivative(x, sigma, cotangent, 0.0), d_sigma.iter().zip(cotangent).map(|(d, c)| d * c).sum()))
    }
}
