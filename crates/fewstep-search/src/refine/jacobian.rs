//! The derivatives of a plan's images along its coordinates, by differences of runs.

use super::RefineError;
use super::coordinates::Coordinates;
use super::gauss_newton::GaussNewtonOptions;
use crate::teacher::Endpoints;
use fewstep_core::execute::{ExecuteError, Run, execute_observed, execute_together};
use fewstep_core::plan::Plan;
use fewstep_core::space::Samples;

/// Columns of a Jacobian that are measured at once.
const TOGETHER: usize = 8;

/// A level that an end of the range stops before this part of [`GaussNewtonOptions::difference`] is held there. Logarithms round, so that a
/// level at an end may be a last digit away from it, and a difference over that is rounding alone.
const LEAST_OF_DIFFERENCE: f64 = 0.1;

/// A coordinate with the plans that its derivative is measured between.
struct Moved {
    coordinate: usize,
    /// The first stage that the coordinate has a say in.
    first: usize,
    /// With the coordinate moved up.
    up: Plan,
    /// With it moved down; without one, the derivative is measured from the plan itself.
    down: Option<Plan>,
    /// How far the plans are from one another.
    distance: f64,
}

impl Moved {
    fn plans(&self) -> impl Iterator<Item = &Plan> {
        [&self.up].into_iter().chain(&self.down)
    }
}

/// The images of a plan and their derivatives.
pub(super) struct Jacobian<V> {
    pub image: V,
    /// Along every coordinate that moves, of unit norm.
    pub columns: Vec<V>,
    /// The coordinate of each column, and how far along it a step of one column goes; 0 where it does nothing.
    units: Vec<(usize, f64)>,
    pub evaluations: usize,
}

impl<V> Jacobian<V> {
    /// A place moved by `solution`, a number for each column.
    pub fn moved(&self, place: &[f64], solution: &[f64]) -> Vec<f64> {
        let mut to = place.to_vec();
        for (step, (index, unit)) in solution.iter().zip(&self.units) {
            to[*index] += step * unit;
        }
        to
    }
}

impl<V: Samples> Jacobian<V> {
    pub fn measure<E>(
        coordinates: &Coordinates,
        batch: &Endpoints<V>,
        options: &GaussNewtonOptions,
        space: &impl Fn(&V) -> V,
        mut denoise: impl FnMut(&[(&V, f64)]) -> Result<Vec<V>, E>,
    ) -> Result<Self, RefineError<E>> {
        let plan = coordinates.plan;
        let mut outputs = Vec::with_capacity(plan.nfe());
        let keep = |_: usize, _: &V, d: &V| outputs.push(d.clone());
        let alone = |x: &V, sigma: f64| denoise(&[(x, sigma)]).map_err(Some)?.pop().ok_or(None);
        let image = match execute_observed(plan, batch.start(), alone, keep).map_err(ExecuteError::into_denoiser) {
            Ok(image) => image,
            Err(Ok(Some(error))) => return Err(RefineError::Denoiser(error)),
            Err(Ok(None)) => return Err(RefineError::of_run(ExecuteError::Answers { asked: 1, answered: 0 })),
            Err(Err(error)) => return Err(RefineError::of_run(error)),
        };
        let (place, mut evaluations) = (coordinates.encode(), plan.nfe());
        let here = coordinates.decode(&place, options.sigma_range);
        let mut moving = Vec::with_capacity(place.len());
        for ((coordinate, first), moves) in
            coordinates.stages().into_iter().enumerate().zip(coordinates.moves(options.whole, options.first_state))
        {
            // the plan with the coordinate moved, and how far
            let at = |difference: f64| {
                let mut to = place.clone();
                to[coordinate] += difference;
                let moved = coordinates.decode(&to, options.sigma_range);
                let changed = moved.stages != here.stages || moved.output != here.output;
                let reach = coordinates.reach(coordinate, difference, [&here, &moved], options.sigma_range);
                // a level at an end of the range stays there
                (changed && reach >= LEAST_OF_DIFFERENCE * difference.abs()).then_some((moved, reach))
            };
            // the image is linear in its own coefficients: a difference of any length is its derivative, and rounds the less
            let linear = first == plan.nfe();
            let difference = if linear { 1.0 } else { options.difference };
            if let Some((up, above)) = at(difference).filter(|_| moves) {
                up.validate()?;
                let down = if options.central && !linear { at(-difference) } else { None };
                let down = down.filter(|(down, _)| down.validate().is_ok());
                let distance = above + down.as_ref().map_or(0.0, |(_, below)| *below);
                moving.push(Moved { coordinate, first, up, down: down.map(|(down, _)| down), distance });
            }
        }
        // in order of the stages, so that those measured at once repeat about the same ones
        moving.sort_by_key(|moved| moved.first);
        let (mut columns, mut units) = (Vec::with_capacity(moving.len()), Vec::with_capacity(moving.len()));
        for moving in moving.chunks(if options.central { TOGETHER / 2 } else { TOGETHER }) {
            // what comes before a coordinate has a say is as it was
            let runs: Vec<Run<V>> = moving
                .iter()
                .flat_map(|moved| moved.plans().map(|plan| (plan, &outputs[..moved.first])))
                .map(|(plan, known)| Run { plan, start: batch.start(), known })
                .collect();
            evaluations += runs.iter().map(|run| plan.nfe() - run.known.len()).sum::<usize>();
            let mut made = execute_together(&runs, &mut denoise)?.into_iter();
            for moved in moving {
                let (up, down) = (made.next(), moved.down.as_ref().and_then(|_| made.next()));
                let Some(up) = up else { break };
                let change = space(&up.difference(down.as_ref().unwrap_or(&image)));
                let length = change.norm_squared().sqrt();
                let (unit, change) = if length.is_finite() && length > 0.0 {
                    (1.0 / length, change)
                } else {
                    (0.0, space(&batch.image)) // 0 times what is not finite would not be 0
                };
                columns.push(V::combine(&[(unit, &change)]));
                units.push((moved.coordinate, unit * moved.distance));
            }
        }
        Ok(Self { image, columns, units, evaluations })
    }
}

/// Evaluations of the whole batch that [`Jacobian::measure`] takes at most: fewer where an end of the range holds a level.
pub(super) fn jacobian_evaluations(plan: &Plan, options: &GaussNewtonOptions) -> usize {
    let coordinates = Coordinates { plan, moving: options.moving };
    let moves = coordinates.moves(options.whole, options.first_state);
    let repeated = coordinates.stages().into_iter().zip(moves).filter(|(_, moves)| *moves);
    let sides = if options.central { 2 } else { 1 };
    plan.nfe() + repeated.map(|(first, _)| sides * (plan.nfe() - first)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use fewstep_core::execute::one_by_one;
    use fewstep_core::schedule::karras;
    use fewstep_core::solver::{Solver, SolverOptions};

    use super::*;
    use crate::refine::Moving;

    /// How far along each level a step of one column goes, for levels from 0.1 to 10 in this range; none of a level that is held.
    fn units(central: bool, sigma_range: (f64, f64)) -> [Option<f64>; 3] {
        let plan = Solver::Euler.plan(&karras(3, 0.1, 10.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
        let coordinates = Coordinates { plan: &plan, moving: Moving { levels: true, coefficients: false } };
        let batch = Endpoints { latent: vec![1.0, -0.5], mean: None, image: vec![0.0; 2], samples: 1 };
        let options = GaussNewtonOptions { central, sigma_range, ..GaussNewtonOptions::default() };
        let denoise = |x: &Vec<f64>, sigma: f64| {
            Ok::<_, std::convert::Infallible>(x.iter().map(|x| (x / (1.0 + sigma)).sin()).collect())
        };
        let measured = Jacobian::measure(&coordinates, &batch, &options, &Vec::clone, one_by_one(denoise)).unwrap();
        let of =
            |level: usize| measured.units.iter().find(|(coordinate, _)| *coordinate == level).map(|(_, unit)| *unit);
        [0, 1, 2].map(of)
    }

    /// A move that an end of the range cuts short has the derivative of a whole one, and a level at an end stays there, whatever the last
    /// digits of both are.
    #[test]
    fn moves_that_are_cut_short_are_measured_as_far_as_they_go() {
        let whole = |central: bool| units(central, (1e-3, 1e3)).map(Option::unwrap);
        let close = |a: Option<f64>, b: f64| a.is_some_and(|a| (a / b - 1.0).abs() < 0.05);
        let half = 0.5 * GaussNewtonOptions::default().difference;
        for central in [false, true] {
            let [first, middle, last] = whole(central);
            let cut = units(central, (0.1 * (-half).exp(), 10.0 * half.exp()));
            assert!(close(cut[0], first) && cut[1] == Some(middle) && close(cut[2], last), "{central}: {cut:?}");
            for away in -4_i64..=4 {
                let ulps = |end: f64| f64::from_bits(end.to_bits().wrapping_add_signed(away));
                let at_ends = units(central, (ulps(0.1), ulps(10.0)));
                assert!(at_ends[0].is_none() && close(at_ends[2], last), "{central} {away}: {at_ends:?}");
            }
        }
    }
}
