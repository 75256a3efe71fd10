//! The arithmetic that parameterisations need, so that one implementation serves `f64` and autograd tensors.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// A number, or a tensor of numbers that behaves like one elementwise.
pub trait Scalar:
    Clone + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// `self + c`.
    fn add_f64(self, c: f64) -> Self;
    /// `self * c`.
    fn mul_f64(self, c: f64) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// `1 / self`.
    fn recip(self) -> Self;
    /// `f` of every element, detached from any gradient.
    fn map_detached(self, f: &dyn Fn(f64) -> f64) -> Self;

    /// `self / c` for a finite `self`, rounded as one division (not as a product with `1 / c`, which differs by a unit
    /// in the last place: enough to show in a positional embedding of an `f32` noise label near 1000).
    fn div_f64(self, c: f64) -> Self {
        let divisor = self.clone().mul_f64(0.0).add_f64(c);
        self / divisor
    }

    /// The constant `c` in the shape of `self`, which must be finite; no gradient flows through it.
    fn constant_like(&self, c: f64) -> Self {
        self.clone().map_detached(&|_| c)
    }
}

impl Scalar for f64 {
    fn add_f64(self, c: f64) -> Self {
        self + c
    }
    fn mul_f64(self, c: f64) -> Self {
        self * c
    }
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    fn ln(self) -> Self {
        f64::ln(self)
    }
    fn recip(self) -> Self {
        f64::recip(self)
    }
    fn map_detached(self, f: &dyn Fn(f64) -> f64) -> Self {
        f(self)
    }
}
