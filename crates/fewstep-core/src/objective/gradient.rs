//! The objectives and their gradient (Eq. 14), level by level: memory does not grow with the number of levels.

use super::{ForwardNoised, Loss, Objective, induced_weights, induced_weights_pullback};
use crate::schedule::Schedule;
use crate::space::VectorSpace;

/// The objective on one batch. One evaluation for every level but the last, which carries no weight.
///
/// # Errors
/// The first error of the network.
pub fn loss<V: VectorSpace, F: ForwardNoised<V>>(
    objective: Objective,
    schedule: &Schedule,
    batch: &mut F,
) -> Result<Loss, F::Error> {
    Ok(residual(objective, schedule, batch)?.1)
}

/// The objective on one batch and `dL/dsigma` at every level, sampling order (Eq. 14).
///
/// The residual `R = sum_j a_j (D_j - y)` is made first, without a graph. Then, with one level at a time,
/// `dL/da_j = 2 <R, D_j - y> + gamma ||D_j - y||^2` and one pullback of `2 a_j R + 2 gamma a_j (D_j - y)`. Two
/// evaluations and one pullback a level; at any moment a handful of batches are alive.
///
/// # Errors
/// The first error of the network.
pub fn loss_and_gradient<V: VectorSpace, F: ForwardNoised<V>>(
    objective: Objective,
    schedule: &Schedule,
    batch: &mut F,
) -> Result<(Loss, Vec<f64>), F::Error> {
    let (of_discretization, of_bound) = objective.mix();
    let (residual, loss) = residual(objective, schedule, batch)?;
    let Some(residual) = residual else {
        return Ok((loss, vec![0.0; schedule.len()]));
    };
    let mut d_a = Vec::with_capacity(schedule.len() - 1);
    let mut through_output = vec![0.0; schedule.len()];
    for (j, a) in induced_weights(schedule).into_iter().enumerate() {
        let sigma = schedule.levels()[j];
        let error = batch.denoised(j, sigma)?.difference(batch.clean());
        d_a.push(2.0 * of_discretization * residual.dot(&error) + of_bound * error.norm_squared());
        let cotangent = V::combine(&[(2.0 * of_discretization * a, &residual), (2.0 * of_bound * a, &error)]);
        through_output[j] = batch.pullback(j, sigma, &cotangent)?;
    }
    let mut gradient = induced_weights_pullback(schedule, &d_a);
    gradient.iter_mut().zip(through_output).for_each(|(g, d)| *g += d);
    Ok((loss, gradient))
}

/// `R` (none for a single level) and the loss.
fn residual<V: VectorSpace, F: ForwardNoised<V>>(
    objective: Objective,
    schedule: &Schedule,
    batch: &mut F,
) -> Result<(Option<V>, Loss), F::Error> {
    let mut sum: Option<V> = None;
    let mut bound = 0.0;
    for (j, a) in induced_weights(schedule).into_iter().enumerate() {
        let error = batch.denoised(j, schedule.levels()[j])?.difference(batch.clean());
        bound += a * error.norm_squared();
        sum = Some(match sum {
            None => V::combine(&[(a, &error)]),
            Some(sum) => V::combine(&[(1.0, &sum), (a, &error)]),
        });
    }
    let discretization = sum.as_ref().map_or(0.0, V::norm_squared);
    let (of_discretization, of_bound) = objective.mix();
    let total = of_discretization * discretization + of_bound * bound;
    Ok((sum, Loss { total, discretization, bound }))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::schedule::karras;
    use crate::space::Counted;

    struct Batch {
        clean: Counted,
        most: usize,
    }

    impl ForwardNoised<Counted> for Batch {
        type Error = ();

        fn clean(&self) -> &Counted {
            &self.clean
        }

        fn denoised(&mut self, _: usize, sigma: f64) -> Result<Counted, ()> {
            self.most = self.most.max(Rc::strong_count(&self.clean.1));
            Ok(Counted(1.0 / (1.0 + sigma), self.clean.1.clone()))
        }

        fn pullback(&mut self, _: usize, sigma: f64, cotangent: &Counted) -> Result<f64, ()> {
            self.most = self.most.max(Rc::strong_count(&self.clean.1));
            Ok(-cotangent.0 / (1.0 + sigma).powi(2))
        }
    }

    #[test]
    fn memory_does_not_grow_with_the_number_of_levels() {
        let most = |n| {
            let mut batch = Batch { clean: Counted(0.5, Rc::new(())), most: 0 };
            let schedule = karras(n, 0.01, 10.0, 7.0).unwrap();
            loss_and_gradient(Objective::Joint { gamma: 0.5 }, &schedule, &mut batch).unwrap();
            batch.most
        };
        assert_eq!(most(3), most(50));
    }

    #[test]
    fn a_single_level_has_nothing_to_weigh() {
        let mut batch = Batch { clean: Counted(0.5, Rc::new(())), most: 0 };
        let one = Schedule::new(vec![2.0]).unwrap();
        let (loss, gradient) = loss_and_gradient(Objective::Bound, &one, &mut batch).unwrap();
        assert_eq!((loss.total, gradient), (0.0, vec![0.0]));
    }
}
