//! libtorch tensors as the scalars and vectors of fewstep-core.

use std::ops::{Add, Div, Mul, Neg, Sub};

use fewstep_core::parameterisation::{Coefficients, Parameterisation};
use fewstep_core::scalar::Scalar;
use fewstep_core::space::{self, Samples, VectorSpace};
use tch::{Kind, TchError, Tensor};

use crate::error::{Error, Result};

/// A batch of samples, `[N, ...]`, as a vector: the state of a sampler.
#[derive(Debug)]
pub struct Batch(pub Tensor);

impl Clone for Batch {
    fn clone(&self) -> Self {
        Self(self.0.shallow_clone())
    }
}

impl VectorSpace for Batch {
    fn combine(terms: &[(f64, &Self)]) -> Self {
        tch::no_grad(|| {
            let mut sum: Option<Tensor> = None;
            for (coefficient, Batch(tensor)) in terms {
                match &mut sum {
                    None => sum = Some(tensor * *coefficient),
                    Some(sum) => {
                        let _ = sum.g_add_(&(tensor * *coefficient));
                    }
                }
            }
            // The trait promises at least one term; an empty sum has no shape to be zero in.
            Self(sum.unwrap_or_else(|| Tensor::zeros([0], (Kind::Float, tch::Device::Cpu))))
        })
    }

    /// Sample by sample: libtorch shares one sum over all numbers among its threads, and its rounding would hang on how many there are.
    fn dot(&self, other: &Self) -> f64 {
        self.sample_dots(other).iter().sum()
    }
}

impl space::Batch for Batch {
    fn part(&self, start: usize, count: usize) -> Self {
        Self(self.0.narrow(0, start as i64, count as i64))
    }

    fn sum_of_samples(&self) -> Vec<f64> {
        let sum = self.0.sum_dim_intlist(0, false, Kind::Double).to_device(tch::Device::Cpu);
        Vec::try_from(sum.flatten(0, -1)).unwrap_or_default()
    }

    /// Of grids of two axes `[N, C, H, W]`: `[N, 3 C, H, W]`.
    fn with_gradients(&self, weight: f64) -> Option<Self> {
        let size = self.0.size();
        let &[_, _, h, w] = size.as_slice() else { return None };
        tch::no_grad(|| {
            let x = &self.0;
            // the last row and column have no neighbour: their difference is 0
            let across = (x.narrow(3, 1, w - 1) - x.narrow(3, 0, w - 1)).constant_pad_nd([0, 1]);
            let down = (x.narrow(2, 1, h - 1) - x.narrow(2, 0, h - 1)).constant_pad_nd([0, 0, 0, 1]);
            Some(Self(Tensor::cat(&[x * weight, across, down], 1)))
        })
    }
}

/// Samples along the first dimension.
impl Samples for Batch {
    fn samples(&self) -> usize {
        self.0.size().first().map_or(0, |count| *count as usize)
    }

    fn sample_dots(&self, other: &Self) -> Vec<f64> {
        tch::no_grad(|| per_sample(&(&self.0 * &other.0)))
    }

    fn sample_l1(&self) -> Vec<f64> {
        tch::no_grad(|| per_sample(&self.0.abs()))
    }

    fn scale_samples(&self, factors: &[f64]) -> Self {
        let factors = Tensor::from_slice(factors).to_kind(self.0.kind()).to_device(self.0.device());
        let shape: Vec<i64> =
            std::iter::once(-1).chain(std::iter::repeat_n(1, self.0.dim().saturating_sub(1))).collect();
        tch::no_grad(|| Self(&self.0 * factors.reshape(shape.as_slice())))
    }
}

/// Sums over everything but the first dimension.
fn per_sample(values: &Tensor) -> Vec<f64> {
    let sums = values.flatten(1, -1).sum_dim_intlist(1, false, Kind::Double).to_device(tch::Device::Cpu);
    Vec::try_from(sums).unwrap_or_default()
}

/// The coefficients of a parameterisation at the noise levels `sigma`, in its shape and differentiable in it.
///
/// # Errors
/// If memory does not suffice, say.
pub fn coefficients(parameterisation: &Parameterisation, sigma: &Tensor) -> Result<Coefficients<Tensor>> {
    let Coefficients { c_skip, c_out, c_in, c_noise } =
        parameterisation.coefficients(&Sigma(Ok(sigma.shallow_clone())));
    let number = |Sigma(number): Sigma| number.map_err(|text| Error::Torch(TchError::Torch(text)));
    Ok(Coefficients { c_skip: number(c_skip)?, c_out: number(c_out)?, c_in: number(c_in)?, c_noise: number(c_noise)? })
}

/// What the formulas of a parameterisation are evaluated on: a tensor, or what libtorch said when it refused an operation, which the
/// formulas pass on.
#[derive(Debug)]
struct Sigma(std::result::Result<Tensor, String>);

impl Sigma {
    fn map(self, operation: impl FnOnce(Tensor) -> std::result::Result<Tensor, TchError>) -> Self {
        Self(self.0.and_then(|x| {
            operation(x).map_err(|error| match error {
                TchError::Torch(text) => text,
                other => other.to_string(),
            })
        }))
    }
}

impl Clone for Sigma {
    fn clone(&self) -> Self {
        Self(self.0.as_ref().map(Tensor::shallow_clone).map_err(String::clone))
    }
}

macro_rules! binary {
    ($trait:ident, $method:ident, $operation:ident) => {
        impl $trait for Sigma {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                match other.0 {
                    Ok(other) => self.map(|x| x.$operation(&other)),
                    refused => Self(self.0.and(refused)),
                }
            }
        }
    };
}

binary!(Add, add, f_add);
binary!(Sub, sub, f_sub);
binary!(Mul, mul, f_mul);
binary!(Div, div, f_div);

impl Neg for Sigma {
    type Output = Self;
    fn neg(self) -> Self {
        self.map(|x| x.f_neg())
    }
}

impl Scalar for Sigma {
    fn add_f64(self, value: f64) -> Self {
        self.map(|x| x.f_add_scalar(value))
    }

    fn mul_f64(self, value: f64) -> Self {
        self.map(|x| x.f_mul_scalar(value))
    }

    fn sqrt(self) -> Self {
        self.map(|x| x.f_sqrt())
    }

    fn ln(self) -> Self {
        self.map(|x| x.f_log())
    }

    fn recip(self) -> Self {
        self.map(|x| x.f_reciprocal())
    }

    fn map_detached(self, f: &dyn Fn(f64) -> f64) -> Self {
        self.map(|x| {
            let flat = x.f_detach()?.f_to_kind(Kind::Double)?.f_to_device(tch::Device::Cpu)?.f_reshape([-1])?;
            let mapped = (0..flat.numel() as i64).map(|i| Ok(f(flat.f_double_value(&[i])?)));
            let mapped = mapped.collect::<std::result::Result<Vec<f64>, TchError>>()?;
            Tensor::f_from_slice(&mapped)?.f_reshape(x.size())?.f_to_kind(x.kind())?.f_to_device(x.device())
        })
    }
}

/// The same numbers, without their graph, of which a derivative can be taken.
pub(crate) fn leaf(x: &Tensor) -> Result<Tensor> {
    let mut leaf = x.f_detach()?.f_zeros_like()?;
    leaf.f_copy_(&x.f_detach()?)?;
    Ok(leaf.f_set_requires_grad(true)?)
}
