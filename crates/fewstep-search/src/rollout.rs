//! The gradient of a rollout loss with respect to a plan, one network graph at a time.

use fewstep_core::denoiser::BoundDenoiser;
use fewstep_core::execute::{ExecuteError, Start, execute_observed};
use fewstep_core::plan::{Combination, Plan, Source};
use fewstep_core::space::{Samples, VectorSpace};

/// The derivative of a loss with respect to everything in a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanGradient {
    /// `dL/dsigma` of every stage's noise level, its input held.
    pub sigmas: Vec<f64>,
    /// `dL/dc` of every term of every stage's input, in the order of the terms.
    pub inputs: Vec<Vec<f64>>,
    /// The same of the image's terms.
    pub output: Vec<f64>,
}

/// Squared distance of images to their targets, per sample, and its gradient with respect to the images.
pub fn squared_error<V: VectorSpace>(image: &V, target: &V, samples: usize) -> (f64, V) {
    let error = image.difference(target);
    let scale = 1.0 / samples as f64;
    (scale * error.norm_squared(), V::combine(&[(2.0 * scale, &error)]))
}

/// Song and Dhariwal's (2024) constant of [`pseudo_huber`] for samples of so many dimensions.
pub fn pseudo_huber_constant(dimensions: f64) -> f64 {
    0.00054 * dimensions.sqrt()
}

/// The pseudo-Huber distance `sqrt(||x - x*||^2 + c^2) - c`, mean over samples, and its gradient: like the squared
/// error near the target and like the distance far from it, so that no few bad samples rule. [`pseudo_huber_constant`] is
/// a usual `c`.
pub fn pseudo_huber<V: Samples>(image: &V, target: &V, c: f64) -> (f64, V) {
    let error = image.difference(target);
    let lengths: Vec<f64> = error.sample_dots(&error).into_iter().map(|square| (square + c * c).sqrt()).collect();
    let samples = lengths.len() as f64;
    let factors: Vec<f64> =
        lengths.iter().map(|length| if *length > 0.0 { 1.0 / (samples * length) } else { 0.0 }).collect();
    (lengths.iter().map(|length| length - c).sum::<f64>() / samples, error.scale_samples(&factors))
}

/// The loss of the plan's images and its gradient with respect to every coefficient and noise level: [`states_gradient`] of the
/// image alone.
///
/// `loss(image)` gives a number and its gradient with respect to the image; in a feature space, that is where the
/// feature network is differentiated.
///
/// # Errors
/// The first error of the denoiser or the loss, and as [`execute_observed`].
pub fn rollout_gradient<'a, V: VectorSpace + 'a, N: BoundDenoiser<V>>(
    plan: &Plan,
    start: impl Into<Start<'a, V>>,
    network: &mut N,
    loss: impl FnOnce(&V) -> Result<(f64, V), N::Error>,
) -> Result<(f64, PlanGradient), ExecuteError<N::Error>> {
    let mut loss = Some(loss); // that of the image comes first
    states_gradient(plan, start, network, |_, state| loss.take().map(|loss| loss(state)).transpose())
}

/// The sum of the losses of a plan's states and its gradient with respect to every coefficient and noise level, through
/// the whole run.
///
/// `loss(k, state)` gives the loss of stage `k`'s input, or of the image where `k` is the plan's NFE, and its gradient with
/// respect to that state; none where no loss is taken. It is called for the image, then for the inputs back to stage 1's: a
/// network that learns beside the plan gathers its own gradient in [`BoundDenoiser::pullback`].
///
/// Costs twice the plan's evaluations, half of them with a graph. Memory: every input and output of the run and, while going
/// back, the gradients of those not yet reached, at most `4 nfe + 2` batches; of the network's own graph, one evaluation's at a
/// time.
///
/// # Errors
/// The first error of the denoiser or the loss, and as [`execute_observed`].
pub fn states_gradient<'a, V: VectorSpace + 'a, N: BoundDenoiser<V>>(
    plan: &Plan,
    start: impl Into<Start<'a, V>>,
    network: &mut N,
    mut loss: impl FnMut(usize, &V) -> Result<Option<(f64, V)>, N::Error>,
) -> Result<(f64, PlanGradient), ExecuteError<N::Error>> {
    let start = start.into();
    let mut tape = Tape { start, inputs: Vec::new(), outputs: Vec::new() };
    let denoise = |x: &V, sigma: f64| network.denoised(x, sigma);
    let keep = |_: usize, x: &V, d: &V| {
        tape.inputs.push(x.clone());
        tape.outputs.push(d.clone());
    };
    let image = execute_observed(plan, start, denoise, keep)?;
    let n = plan.nfe();
    let of_image = loss(n, &image).map_err(ExecuteError::Denoiser)?;
    drop(image);

    let mut value = 0.0;
    let mut bars = Bars { inputs: vec![None; n], outputs: vec![None; n] };
    let mut gradient = PlanGradient { sigmas: vec![0.0; n], inputs: vec![Vec::new(); n], output: Vec::new() };
    gradient.output = match of_image {
        Some((loss, bar)) => {
            value += loss;
            tape.pullback(&plan.output, &bar, &mut bars)
        }
        None => vec![0.0; plan.output.len()],
    };
    for (k, stage) in plan.stages.iter().enumerate().rev() {
        if let Some(bar) = bars.outputs[k].take() {
            let slopes = network.pullback(&tape.inputs[k], stage.sigma, &bar);
            let (through_input, d_sigma) = slopes.map_err(ExecuteError::Denoiser)?;
            gradient.sigmas[k] = d_sigma;
            add(&mut bars.inputs[k], 1.0, &through_input);
        }
        if k > 0
            && let Some((loss, bar)) = loss(k, &tape.inputs[k]).map_err(ExecuteError::Denoiser)?
        {
            value += loss;
            add(&mut bars.inputs[k], 1.0, &bar);
        }
        // nothing before this stage refers to what it made
        tape.inputs.truncate(k);
        tape.outputs.truncate(k);
        gradient.inputs[k] = match bars.inputs[k].take() {
            Some(bar) => tape.pullback(&stage.input, &bar, &mut bars),
            None => vec![0.0; stage.input.len()],
        };
    }
    Ok((value, gradient))
}

/// The vectors of a run.
struct Tape<'a, V> {
    start: Start<'a, V>,
    inputs: Vec<V>,
    outputs: Vec<V>,
}

/// Gradients of the loss with respect to them, where there are any yet.
struct Bars<V> {
    inputs: Vec<Option<V>>,
    outputs: Vec<Option<V>>,
}

impl<V: VectorSpace> Tape<'_, V> {
    /// The gradients of a combination's coefficients; hands its sources their parts of `bar`.
    fn pullback(&self, combination: &Combination, bar: &V, bars: &mut Bars<V>) -> Vec<f64> {
        let term = |(source, c): (Source, f64)| match source {
            Source::Latent => bar.dot(self.start.latent),
            // a plan that uses it was run with it
            Source::Constant => self.start.constant.map_or(0.0, |constant| bar.dot(constant)),
            Source::Input(k) => {
                add(&mut bars.inputs[k], c, bar);
                bar.dot(&self.inputs[k])
            }
            Source::Output(k) => {
                add(&mut bars.outputs[k], c, bar);
                bar.dot(&self.outputs[k])
            }
        };
        combination.terms().map(term).collect()
    }
}

fn add<V: VectorSpace>(sum: &mut Option<V>, c: f64, v: &V) {
    *sum = Some(match sum.take() {
        None => V::combine(&[(c, v)]),
        Some(sum) => V::combine(&[(1.0, &sum), (c, v)]),
    });
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::counted::Counted;
    use fewstep_core::schedule::karras;
    use fewstep_core::solver::{Solver, SolverOptions};

    struct Network {
        alive: Rc<()>,
        most: usize,
        /// Pullbacks made: each is one graph of the network, gone when it returns.
        graphs: usize,
    }

    impl BoundDenoiser<Counted> for Network {
        type Error = ();

        fn denoised(&mut self, x: &Counted, sigma: f64) -> Result<Counted, ()> {
            self.most = self.most.max(Rc::strong_count(&self.alive));
            Ok(Counted(x.0 / (1.0 + sigma), self.alive.clone()))
        }

        fn pullback(&mut self, _: &Counted, sigma: f64, cotangent: &Counted) -> Result<(Counted, f64), ()> {
            self.most = self.most.max(Rc::strong_count(&self.alive));
            self.graphs += 1;
            Ok((Counted(cotangent.0 / (1.0 + sigma), self.alive.clone()), 0.0))
        }
    }

    /// What a run keeps is batches, at most four an evaluation; the network's graphs, which weigh hundreds of them, are made one
    /// after the other by `pullback`, which returns before the next.
    #[test]
    fn a_run_keeps_batches_and_no_graphs() {
        for n in [2, 5, 20] {
            let alive = Rc::new(());
            let mut network = Network { alive: alive.clone(), most: 0, graphs: 0 };
            let plan = Solver::Ipndm { order: 4 }
                .plan(&karras(n, 0.01, 10.0, 7.0).unwrap(), &SolverOptions::default())
                .unwrap();
            let latent = Counted(0.5, alive.clone());
            let loss = |_: usize, state: &Counted| Ok(Some((state.0, Counted(1.0, alive.clone()))));
            states_gradient(&plan, &latent, &mut network, loss).unwrap();
            assert_eq!(network.graphs, n);
            // the test's own three: the network's, the latent's and the closure's
            assert!(network.most <= 4 * n + 2 + 3, "{n}: {}", network.most);
        }
    }
}
