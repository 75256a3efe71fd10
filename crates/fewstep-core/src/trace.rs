//! The symbolic tape. A solver is ordinary code run once over [`Expr`]s; what it evaluates becomes a [`Plan`].

use std::collections::BTreeMap;
use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::plan::{Combination, Plan, Source, Stage};

/// A linear combination of what the sampler knows so far.
///
/// Expressions of one [`Trace`] add, subtract and scale like vectors, by value or by reference.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expr(BTreeMap<Source, f64>);

/// Records the evaluations of a solver.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    stages: Vec<Stage>,
}

impl Trace {
    /// An empty tape.
    pub fn new() -> Self {
        Self::default()
    }

    /// The unit normal noise that sampling starts from. The state at `sigma_max` is `latent() * sigma_max`.
    pub fn latent(&self) -> Expr {
        Expr::from(Source::Latent)
    }

    /// Records `D(x; sigma)`. Returns the input as a source of its own, so that later states refer to it instead of
    /// repeating its combination, and the output.
    pub fn eval(&mut self, x: Expr, sigma: f64) -> (Expr, Expr) {
        let k = self.stages.len();
        self.stages.push(Stage { sigma, input: x.into() });
        (Expr::from(Source::Input(k)), Expr::from(Source::Output(k)))
    }

    /// Number of evaluations so far.
    pub fn evaluations(&self) -> usize {
        self.stages.len()
    }

    /// Ends the tape with the image. Expressions must come from this tape; [`Plan::validate`] finds those that cannot.
    pub fn finish(self, image: Expr) -> Plan {
        Plan { stages: self.stages, output: image.into(), ..Plan::default() }
    }
}

impl From<Source> for Expr {
    fn from(source: Source) -> Self {
        Self(BTreeMap::from([(source, 1.0)]))
    }
}

impl From<Expr> for Combination {
    /// Terms that cancelled exactly are dropped.
    fn from(expr: Expr) -> Self {
        expr.0.into_iter().filter(|(_, c)| *c != 0.0).collect()
    }
}

impl Expr {
    /// `self += scale * other`.
    fn accumulate(mut self, scale: f64, other: &Self) -> Self {
        for (&source, c) in &other.0 {
            *self.0.entry(source).or_insert(0.0) += scale * c;
        }
        self
    }
}

impl Mul<f64> for Expr {
    type Output = Self;

    fn mul(mut self, scale: f64) -> Self {
        self.0.values_mut().for_each(|c| *c *= scale);
        self
    }
}

macro_rules! by_value_or_reference {
    ($($left:ty, $right:ty);*) => {$(
        impl Add<$right> for $left {
            type Output = Expr;
            fn add(self, other: $right) -> Expr {
                self.to_owned().accumulate(1.0, &other)
            }
        }

        impl Sub<$right> for $left {
            type Output = Expr;
            fn sub(self, other: $right) -> Expr {
                self.to_owned().accumulate(-1.0, &other)
            }
        }
    )*};
}

by_value_or_reference!(Expr, Expr; Expr, &Expr; &Expr, Expr; &Expr, &Expr);

impl Mul<f64> for &Expr {
    type Output = Expr;

    fn mul(self, scale: f64) -> Expr {
        self.clone() * scale
    }
}

impl Mul<Expr> for f64 {
    type Output = Expr;

    fn mul(self, expr: Expr) -> Expr {
        expr * self
    }
}

impl Mul<&Expr> for f64 {
    type Output = Expr;

    fn mul(self, expr: &Expr) -> Expr {
        expr * self
    }
}

impl Div<f64> for Expr {
    type Output = Self;

    fn div(mut self, divisor: f64) -> Self {
        self.0.values_mut().for_each(|c| *c /= divisor);
        self
    }
}

impl Div<f64> for &Expr {
    type Output = Expr;

    fn div(self, divisor: f64) -> Expr {
        self.clone() / divisor
    }
}

impl Neg for Expr {
    type Output = Self;

    fn neg(self) -> Self {
        self * -1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_step_becomes_the_plan_of_its_formula() {
        let mut trace = Trace::new();
        let start = trace.latent() * 4.0;
        let (x, d) = trace.eval(start, 4.0);
        let slope = (&x - &d) / 4.0;
        let next = &x - 3.0 * slope;
        let (_, d) = trace.eval(next, 1.0);
        let plan = trace.finish(d);
        plan.validate().unwrap();
        assert_eq!(plan.sigmas(), [4.0, 1.0]);
        assert_eq!(plan.stages[1].input, Combination::new(vec![(Source::Input(0), 0.25), (Source::Output(0), 0.75)]));
        let unrolled = plan.unrolled();
        assert_eq!(unrolled.stages[1].input, Combination::new(vec![(Source::Latent, 1.0), (Source::Output(0), 0.75)]));
        for c in plan.consistency(0.0) {
            assert_eq!(c.latent[0], c.latent[1]);
            assert_eq!(c.outputs[0], c.outputs[1]);
        }
    }

    #[test]
    fn cancelled_terms_leave_no_trace() {
        let trace = Trace::new();
        let zero = trace.latent() - trace.latent();
        assert!(Combination::from(zero).is_empty());
        assert_eq!(Combination::from(-(2.0 * &trace.latent())).coefficient(Source::Latent), -2.0);
    }
}
