//! What the tests share.

use std::convert::Infallible;
use std::rc::Rc;

use fewstep_core::VectorSpace;
use fewstep_core::denoiser::{Classes, Denoiser, Oracle, Spec};
use fewstep_core::mixture::{Component, Covariance, Mixture};
use fewstep_core::plan::Constant;
use fewstep_core::space::Samples;

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

/// A 64-dimensional stand-in for images: ten classes, each a cloud that is wide along a few directions of its own and
/// thin along the others, on the scale of images in [-1, 1].
pub fn images() -> Mixture {
    const DIM: usize = 64;
    let normal = |class: u64, stream: u64| {
        let mut out = vec![0.0_f32; DIM];
        fewstep_core::noise::normal(1000 + class, stream, &mut out);
        out.into_iter().map(f64::from).collect::<Vec<f64>>()
    };
    let class = |class: u64| {
        let mut basis: Vec<Vec<f64>> = Vec::new();
        for stream in 1..=6 {
            let mut u = normal(class, stream);
            for other in &basis {
                let along: f64 = u.iter().zip(other).map(|(a, b)| a * b).sum();
                u.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
            let length = u.iter().map(|v| v * v).sum::<f64>().sqrt();
            basis.push(u.into_iter().map(|v| v / length).collect());
        }
        let variances = [4.0, 2.0, 1.0, 0.5, 0.25, 0.1].to_vec();
        let mean = normal(class, 0).into_iter().map(|v| 0.35 * v).collect();
        Component {
            weight: 1.0 + class as f64 % 3.0,
            mean,
            covariance: Covariance::LowRank { basis, variances, rest: 0.004 },
        }
    };
    Mixture::new((0..10).map(class).collect()).unwrap()
}

/// `count` unit normal latents of a mixture's dimension, from the seeds `first..first + count`.
pub fn latents(mixture: &Mixture, first: u64, count: u64) -> Vec<f64> {
    let one = |seed| {
        let mut out = vec![0.0_f32; mixture.dim()];
        fewstep_core::noise::normal(seed, fewstep_core::noise::LATENT, &mut out);
        out.into_iter().map(f64::from)
    };
    (first..first + count).flat_map(one).collect()
}

/// The same latents, sample by sample.
pub fn samples(mixture: &Mixture, first: u64, count: u64) -> Vec<Vec<f64>> {
    latents(mixture, first, count).chunks(mixture.dim()).map(<[f64]>::to_vec).collect()
}

/// A mixture's exact denoiser, as searches take it.
pub fn denoiser(mixture: &Mixture) -> impl Fn(&Vec<f64>, f64) -> Result<Vec<f64>, Infallible> + Copy + '_ {
    |x, sigma| Ok(mixture.denoised(x, sigma))
}

/// A number that counts how many of its kind are alive.
#[derive(Clone)]
pub struct Counted(pub f64, pub Rc<()>);

impl VectorSpace for Counted {
    fn combine(terms: &[(f64, &Self)]) -> Self {
        Self(terms.iter().map(|(c, v)| c * v.0).sum(), terms[0].1.1.clone())
    }

    fn dot(&self, other: &Self) -> f64 {
        self.0 * other.0
    }
}

/// One sample.
impl Samples for Counted {
    fn samples(&self) -> usize {
        1
    }

    fn sample_dots(&self, other: &Self) -> Vec<f64> {
        vec![self.dot(other)]
    }

    fn sample_l1(&self) -> Vec<f64> {
        vec![self.0.abs()]
    }

    fn scale_samples(&self, factors: &[f64]) -> Self {
        Self(factors[0] * self.0, self.1.clone())
    }
}

/// A batch of an exact mixture.
pub type Batch = Vec<Vec<f64>>;

/// What a mixture answers to one batch.
pub fn denoised(exact: &Oracle, x: &Batch, sigma: f64, classes: &Classes) -> Batch {
    exact.denoise(&[(x, sigma)], classes).unwrap().remove(0)
}

/// A mixture whose answers are given by a function of it, a batch, a level and classes.
pub struct Answering<F> {
    pub exact: Oracle,
    pub spec: Spec,
    pub answer: F,
}

impl<F: Fn(&Oracle, &Batch, f64, &Classes) -> Batch> Answering<F> {
    pub fn new(exact: Oracle, answer: F) -> Self {
        Self { spec: exact.spec().clone(), exact, answer }
    }
}

impl<F: Fn(&Oracle, &Batch, f64, &Classes) -> Batch> Denoiser for Answering<F> {
    type Batch = Batch;
    type Conditions = Classes;
    type Error = Infallible;

    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn latents(&self, seeds: &[u64]) -> Result<Batch, Infallible> {
        self.exact.latents(seeds)
    }

    fn conditions(&self, seeds: &[u64]) -> Result<Classes, Infallible> {
        self.exact.conditions(seeds)
    }

    fn same_condition(&self, class: Option<usize>, samples: usize) -> Result<Classes, Infallible> {
        self.exact.same_condition(class, samples)
    }

    fn constant(&self, constant: &Constant, classes: &Classes, samples: usize) -> Result<Batch, Infallible> {
        self.exact.constant(constant, classes, samples)
    }

    fn denoise(&self, asked: &[(&Batch, f64)], classes: &Classes) -> Result<Vec<Batch>, Infallible> {
        Ok(asked.iter().map(|(x, sigma)| (self.answer)(&self.exact, x, *sigma, classes)).collect())
    }
}
