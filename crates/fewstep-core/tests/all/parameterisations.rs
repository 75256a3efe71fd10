//! The same denoiser dressed as a network of every parameterisation: the raw network works its noise level out of its own
//! label and the noisy image out of its own state, and answers in its own convention.

use fewstep_core::denoiser::Levels;
use fewstep_core::mixture::Mixture;
use fewstep_core::noise;
use fewstep_core::parameterisation::{AlphaNetwork, Alphas, FlowTimestep, Prediction, RectifiedFlow, Velocity};
use fewstep_core::schedule::karras;
use fewstep_core::{Coefficients, Parameterisation};

use crate::support::mixture;

/// A mixture as a network of a parameterisation.
pub struct Dressed<'a> {
    pub network: Parameterisation,
    pub data: &'a Mixture,
}

impl Dressed<'_> {
    /// `D(x; sigma)` of a batch, by way of the coefficients and the raw network.
    pub fn denoised(&self, x: &[f64], sigma: f64) -> Vec<f64> {
        let Coefficients { c_skip, c_out, c_in, c_noise } = self.network.coefficients(&sigma);
        let input: Vec<f64> = x.iter().map(|x| c_in * x).collect();
        let answer = self.raw(&input, c_noise);
        x.iter().zip(answer).map(|(x, f)| c_skip * x + c_out * f).collect()
    }

    /// `F(input; label)`.
    fn raw(&self, input: &[f64], label: f64) -> Vec<f64> {
        let sigma = self.sigma(label);
        let signal = self.signal(sigma);
        let x: Vec<f64> = input.iter().map(|v| v / signal).collect();
        let y = self.data.denoised(&x, sigma);
        let noise = x.iter().zip(&y).map(|(x, y)| (x - y) / sigma);
        let (of_noise, of_data) = self.answer(sigma);
        noise.zip(&y).map(|(n, y)| of_noise * n + of_data * y).collect()
    }

    /// The noise level that the label stands for.
    fn sigma(&self, label: f64) -> f64 {
        match &self.network {
            Parameterisation::Edm { .. } => (4.0 * label).exp(),
            Parameterisation::Vp { beta_d, beta_min, m, .. } => {
                let t = label / (*m as f64 - 1.0);
                (0.5 * beta_d * t * t + beta_min * t).exp_m1().sqrt()
            }
            Parameterisation::Ve { .. } => 2.0 * label.exp(),
            Parameterisation::Denoiser { .. } => label,
            Parameterisation::Iddpm { m, .. } => self.network.discrete_levels()[m - 1 - label as usize],
            Parameterisation::Alphas(network) => {
                let (below, above) = (label.floor(), label.ceil());
                let log = |t: f64| network.levels()[t as usize].ln();
                (log(below) + (label - below) * (log(above) - log(below))).exp()
            }
            Parameterisation::Flow(flow) => match flow.timestep {
                FlowTimestep::T => label / (1.0 - label),
                FlowTimestep::OneMinusT => (1.0 - label) / label,
                FlowTimestep::ThousandT => label / (1000.0 - label),
            },
        }
    }

    /// What the image is multiplied by in the network's own state.
    fn signal(&self, sigma: f64) -> f64 {
        match &self.network {
            Parameterisation::Edm { sigma_data, .. } => 1.0 / sigma.hypot(*sigma_data),
            Parameterisation::Ve { .. } | Parameterisation::Denoiser { .. } => 1.0,
            Parameterisation::Vp { .. } | Parameterisation::Iddpm { .. } | Parameterisation::Alphas(_) => {
                1.0 / sigma.hypot(1.0)
            }
            Parameterisation::Flow(_) => 1.0 - sigma / (1.0 + sigma),
        }
    }

    /// What the network answers with, of the noise and of the image.
    fn answer(&self, sigma: f64) -> (f64, f64) {
        match &self.network {
            // the combination of unit variance (Karras et al. 2022, Appendix B.6)
            Parameterisation::Edm { sigma_data, .. } => {
                let total = sigma.hypot(*sigma_data);
                (-sigma_data / total, sigma / (sigma_data * total))
            }
            Parameterisation::Ve { .. } => (-1.0, 0.0),
            Parameterisation::Denoiser { .. } => (0.0, 1.0),
            Parameterisation::Vp { .. } | Parameterisation::Iddpm { .. } => (1.0, 0.0),
            Parameterisation::Alphas(network) => match network.prediction() {
                Prediction::Eps => (1.0, 0.0),
                Prediction::V => (1.0 / sigma.hypot(1.0), -sigma / sigma.hypot(1.0)),
                Prediction::X0 => (0.0, 1.0),
            },
            Parameterisation::Flow(flow) => match flow.velocity {
                Velocity::NoiseMinusData => (1.0, -1.0),
                Velocity::DataMinusNoise => (-1.0, 1.0),
            },
        }
    }
}

/// Networks that know every noise level of their range.
pub fn continuous() -> Vec<Parameterisation> {
    let rescaled = Alphas::ScaledLinear { start: 0.000_85, end: 0.012, steps: 1000, rescale_zero_snr: true };
    // alpha_bar of sigma from 0.05 to 50 in 12 uneven steps, and noise alone
    let level = |k: i32| 0.05 * 1000.0_f64.powf((f64::from(k) / 11.0).powf(1.2));
    let values = (0..12).map(|k| 1.0 / (1.0 + level(k).powi(2))).chain([0.0]).collect();
    let mut all = vec![
        Parameterisation::EDM,
        Parameterisation::VP,
        Parameterisation::VE,
        Parameterisation::Denoiser { sigma_min: 0.01, sigma_max: 60.0 },
    ];
    for alphas in [Alphas::DDPM, Alphas::STABLE_DIFFUSION, Alphas::COSINE, rescaled, Alphas::AlphasCumprod { values }] {
        for prediction in [Prediction::Eps, Prediction::V, Prediction::X0] {
            all.push(Parameterisation::Alphas(AlphaNetwork::new(prediction, alphas.clone(), 0.5).unwrap()));
        }
    }
    for velocity in [Velocity::NoiseMinusData, Velocity::DataMinusNoise] {
        for timestep in [FlowTimestep::T, FlowTimestep::OneMinusT, FlowTimestep::ThousandT] {
            let flow = RectifiedFlow { velocity, timestep, shift: 3.0, ..RectifiedFlow::default() };
            all.push(Parameterisation::Flow(flow));
        }
    }
    all
}

#[test]
fn the_denoiser_is_the_same_in_every_parameterisation() {
    let data = mixture();
    let clean = data.sample(5, 8);
    let mut noise = vec![0.0_f32; clean.len()];
    noise::normal(0, noise::LATENT, &mut noise);
    for network in continuous().into_iter().chain([Parameterisation::IDDPM]) {
        network.validate().unwrap();
        let (low, high) = network.sampling_range();
        let levels = karras(60, low, high, 7.0).unwrap().round_grid(&Levels::from(&network)).unwrap();
        let dressed = Dressed { network, data: &data };
        for &sigma in levels.levels() {
            let x: Vec<f64> = clean.iter().zip(&noise).map(|(y, n)| y + sigma * f64::from(*n)).collect();
            let expected = data.denoised(&x, sigma);
            let largest = expected.iter().fold(0.0_f64, |most, d| most.max(d.abs()));
            for (d, exact) in dressed.denoised(&x, sigma).iter().zip(&expected) {
                assert!((d - exact).abs() <= 1e-10 * largest, "{:?} at {sigma}: {d} is not {exact}", dressed.network);
            }
        }
    }
}
