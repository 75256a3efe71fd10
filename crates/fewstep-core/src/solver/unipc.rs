//! UniPC (Zhao et al. 2023): a unified predictor-corrector, data prediction, in `lambda = -log sigma`.
//!
//! Orders 2 and 3, one evaluation a step: the output at the predicted state corrects that state and then serves the
//! next step as it is. The first steps run at the order that their history allows, the last at lower orders. The last
//! state is never corrected, since that would cost an evaluation. On thresholding see [`super::dpmpp`].

use super::march::{Point, Step, march};
use super::phi::phi;
use super::{SolverError, SolverOptions};
use crate::linear::solve;
use crate::plan::Plan;
use crate::trace::Expr;

/// The function `B(h)`, any that is `O(h)`; the paper offers two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// `B(h) = h`.
    Bh1,
    /// `B(h) = e^h - 1`.
    Bh2,
}

pub(super) fn plan(
    order: usize,
    variant: Variant,
    levels: &[f64],
    options: &SolverOptions,
) -> Result<Plan, SolverError> {
    let mut last: Option<Update> = None;
    march(levels, options, |_, step| {
        let point = step.current();
        let corrected = match &last {
            Some(update) => &point.x + update.correction(&step.history[..step.history.len() - 1], point),
            None => point.x.clone(),
        };
        let possible = order.min(step.history.len());
        let order = if possible == order { order.min(step.remaining + 1) } else { possible };
        let update = Update::new(step, order, variant);
        let predicted = update.predicted(step, &corrected);
        last = Some(update);
        predicted
    })
}

/// The coefficients of one step (UniPC, Theorem 3.1 and Algorithms 5 to 8): `D_0` is the output where the step starts,
/// `D_k` the `k`-th before it, `r_k = (lambda_k - lambda_0) / h < 0`.
struct Update {
    /// `B(-h)`, negative in data prediction.
    b_h: f64,
    /// `r_k` for `k = 1 .. order - 1`.
    r: Vec<f64>,
    /// Weights of `(D_k - D_0) / r_k` in the predictor.
    predictor: Vec<f64>,
    /// The same in the corrector, and last the weight of `D(x_predicted) - D_0`.
    corrector: Vec<f64>,
}

impl Update {
    fn new(step: &Step, order: usize, variant: Variant) -> Self {
        let lambda = step.current().lambda();
        let h = -step.next.ln() - lambda;
        let b_h = match variant {
            Variant::Bh1 => -h,
            Variant::Bh2 => (-h).exp_m1(),
        };
        let r: Vec<f64> = (1..order).map(|k| (step.back(k).lambda() - lambda) / h).collect();
        // row n demands that D = (lambda - lambda_0)^n is integrated exactly: sum_k rho_k r_k^(n-1) = n! (-h) phi_{n+1} / B
        let mut factorial = 1.0;
        let right: Vec<f64> = (1..=order)
            .map(|n| {
                factorial *= n as f64;
                factorial * -h * phi(n + 1, -h) / b_h
            })
            .collect();
        let rows = |nodes: &[f64]| (0..nodes.len()).map(|n| nodes.iter().map(|r| r.powi(n as i32)).collect()).collect();
        let mut nodes = r.clone();
        nodes.push(1.0);
        // The paper fixes the weight 1/2 wherever one unknown is left: right to the order, whatever B(h).
        let predictor = if order == 2 { vec![0.5] } else { solve(rows(&r), right[..order - 1].to_vec()) };
        let corrector = if order == 1 { vec![0.5] } else { solve(rows(&nodes), right) };
        Self { b_h, r, predictor, corrector }
    }

    /// `(sigma'/sigma) x - (e^-h - 1) D_0 - B sum_k rho_k (D_k - D_0) / r_k`.
    fn predicted(&self, step: &Step, corrected: &Expr) -> Expr {
        let point = step.current();
        let ratio = step.next / point.sigma;
        let first_order = ratio * corrected + (1.0 - ratio) * &point.denoised;
        first_order - self.b_h * self.differences(step.history, &self.predictor)
    }

    /// What the corrector adds to the predicted state, now that `evaluated` is known there; `history` ends where the
    /// step started. Predictor and corrector share all but the difference terms.
    fn correction(&self, history: &[Point], evaluated: &Point) -> Expr {
        let start = &history[history.len() - 1];
        let (newest, past) = self.corrector.split_last().expect("a corrector has the weight of the new output");
        let change = self.differences(history, &self.predictor) - self.differences(history, past);
        self.b_h * (change - *newest * (&evaluated.denoised - &start.denoised))
    }

    /// `sum_k weights_k (D_k - D_0) / r_k`.
    fn differences(&self, history: &[Point], weights: &[f64]) -> Expr {
        let mut newest_first = history.iter().rev();
        let start = newest_first.next().expect("a step starts somewhere");
        let terms = newest_first.zip(&self.r).zip(weights);
        terms.fold(Expr::default(), |sum, ((point, r), w)| sum + (w / r) * (&point.denoised - &start.denoised))
    }
}
