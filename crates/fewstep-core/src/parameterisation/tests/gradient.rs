//! Every coefficient's derivative by sigma, carried through the [`Scalar`] trait, against differences.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::*;

/// A number and its derivative.
#[derive(Clone, Copy, Debug)]
struct Dual(f64, f64);

impl Add for Dual {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self(self.0 + o.0, self.1 + o.1)
    }
}
impl Sub for Dual {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        Self(self.0 - o.0, self.1 - o.1)
    }
}
impl Mul for Dual {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        Self(self.0 * o.0, self.1 * o.0 + self.0 * o.1)
    }
}
impl Div for Dual {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        Self(self.0 / o.0, (self.1 * o.0 - self.0 * o.1) / (o.0 * o.0))
    }
}
impl Neg for Dual {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0, -self.1)
    }
}

impl Scalar for Dual {
    fn add_f64(self, c: f64) -> Self {
        Self(self.0 + c, self.1)
    }
    fn mul_f64(self, c: f64) -> Self {
        Self(self.0 * c, self.1 * c)
    }
    fn sqrt(self) -> Self {
        Self(self.0.sqrt(), self.1 / (2.0 * self.0.sqrt()))
    }
    fn ln(self) -> Self {
        Self(self.0.ln(), self.1 / self.0)
    }
    fn recip(self) -> Self {
        Self(self.0.recip(), -self.1 / (self.0 * self.0))
    }
    fn map_detached(self, f: &dyn Fn(f64) -> f64) -> Self {
        Self(f(self.0), 0.0)
    }
}

fn array<S>(c: Coefficients<S>) -> [S; 4] {
    [c.c_skip, c.c_out, c.c_in, c.c_noise]
}

#[test]
fn gradients_match_differences() {
    let on_alphas = |prediction, alphas| Parameterisation::Alphas(AlphaNetwork::new(prediction, alphas, 0.5).unwrap());
    let mut all = vec![
        Parameterisation::EDM,
        Parameterisation::VP,
        Parameterisation::VE,
        on_alphas(Prediction::V, Alphas::DDPM),
        on_alphas(Prediction::X0, Alphas::COSINE),
        on_alphas(Prediction::Eps, Alphas::AlphasCumprod { values: vec![0.9, 0.4, 0.1, 0.01, 0.0] }),
    ];
    for timestep in [FlowTimestep::T, FlowTimestep::OneMinusT, FlowTimestep::ThousandT] {
        for velocity in [Velocity::NoiseMinusData, Velocity::DataMinusNoise] {
            all.push(Parameterisation::Flow(RectifiedFlow { timestep, velocity, ..RectifiedFlow::default() }));
        }
    }
    for p in all {
        let mut label_moves = false;
        for sigma in [0.41, 0.5, 1.3, 5.7] {
            let h = 1e-6 * sigma;
            let (above, below) = (array(p.coefficients(&(sigma + h))), array(p.coefficients(&(sigma - h))));
            let values = array(p.coefficients(&sigma));
            for (k, dual) in array(p.coefficients(&Dual(sigma, 1.0))).into_iter().enumerate() {
                let difference = (above[k] - below[k]) / (2.0 * h);
                assert_eq!(dual.0, values[k], "{p:?} {k} at {sigma}");
                assert!((dual.1 - difference).abs() < 1e-6 * (1.0 + difference.abs()), "{p:?} {k} at {sigma}");
                label_moves |= k == 3 && dual.1 != 0.0;
            }
        }
        assert!(label_moves, "{p:?}");
    }
}

/// Outside the table the label stands still, and so does its gradient.
#[test]
fn the_label_has_no_gradient_outside_the_table() {
    let p = Parameterisation::Alphas(AlphaNetwork::new(Prediction::Eps, Alphas::DDPM, 0.5).unwrap());
    for (sigma, label) in [(0.001, 0.0), (500.0, 999.0)] {
        let c_noise = p.coefficients(&Dual(sigma, 1.0)).c_noise;
        assert_eq!((c_noise.0, c_noise.1), (label, 0.0));
    }
}
