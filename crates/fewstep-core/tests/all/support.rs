//! What the tests share.

use std::convert::Infallible;

use fewstep_core::mixture::{Component, Covariance, Mixture};
use fewstep_core::{Plan, Schedule, execute};

/// One Gaussian with different variances along its axes: a flow in closed form.
pub fn gaussian() -> Mixture {
    let covariance = Covariance::Diagonal(vec![1.0, 0.3, 0.05]);
    Mixture::new(vec![Component { weight: 1.0, mean: vec![0.5, -1.0, 0.25], covariance }]).unwrap()
}

/// Three overlapping components in the plane.
pub fn mixture() -> Mixture {
    let component = |weight, mean: [f64; 2], variance| Component {
        weight,
        mean: mean.to_vec(),
        covariance: Covariance::Isotropic(variance),
    };
    Mixture::new(vec![
        component(1.0, [1.0, 0.0], 0.2),
        component(1.5, [-1.0, 0.8], 0.1),
        component(0.5, [0.0, -1.2], 0.3),
    ])
    .unwrap()
}

/// Runs a plan on a mixture's exact denoiser.
pub fn run(plan: &Plan, mixture: &Mixture, latent: &[f64]) -> Vec<f64> {
    let denoise = |x: &Vec<f64>, sigma: f64| Ok::<_, Infallible>(mixture.denoised(x, sigma));
    execute(plan, &latent.to_vec(), denoise).unwrap()
}

/// The exact solution at `sigma_to` from `x` at `sigma`: in closed form for one Gaussian, else by the classical
/// fourth-order Runge-Kutta method in log sigma with steps so small that its error is below 1e-11.
pub fn flow(mixture: &Mixture, x: &[f64], sigma: f64, sigma_to: f64) -> Vec<f64> {
    if let Some(exact) = mixture.flow(x, sigma, sigma_to) {
        return exact;
    }
    let steps = 4000;
    let h = (sigma_to / sigma).ln() / f64::from(steps);
    // dx/dlog sigma = x - D
    let slope = |x: &[f64], u: f64| -> Vec<f64> {
        let denoised = mixture.denoised(x, u.exp());
        x.iter().zip(denoised).map(|(x, d)| x - d).collect()
    };
    let along = |x: &[f64], k: &[f64], h: f64| -> Vec<f64> { x.iter().zip(k).map(|(x, k)| x + h * k).collect() };
    let mut x = x.to_vec();
    for step in 0..steps {
        let u = sigma.ln() + h * f64::from(step);
        let k1 = slope(&x, u);
        let k2 = slope(&along(&x, &k1, h / 2.0), u + h / 2.0);
        let k3 = slope(&along(&x, &k2, h / 2.0), u + h / 2.0);
        let k4 = slope(&along(&x, &k3, h), u + h);
        for i in 0..x.len() {
            x[i] += h / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]);
        }
    }
    x
}

/// Euclidean distance.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

/// A schedule of the given gaps, from the last level up: `last`, `last + gaps[n-1]`, and so on.
pub fn from_gaps(last: f64, gaps: &[f64]) -> Schedule {
    let mut levels = vec![last];
    for gap in gaps.iter().rev() {
        levels.push(levels[levels.len() - 1] + gap);
    }
    levels.reverse();
    Schedule::new(levels).unwrap()
}
