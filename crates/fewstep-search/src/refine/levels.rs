//! Noise levels as coordinates, where a solver's formula gives the coefficients.

use super::RefineError;
use super::coordinates::combinations;
use crate::rollout::PlanGradient;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_core::solver::{Solver, SolverOptions};

/// Half the distance over which the formula's derivative is measured.
const DIFFERENCE: f64 = 1e-5;

/// The levels below the first, which is where latents have their noise, each by the logarithm of its distance from the one before
/// it in log sigma: they fall wherever the coordinates lead. Distances shrink together where the last level would leave the range.
///
/// This is what LD3 learns (Tong et al. 2025, "Learning to Discretize Denoising Diffusion ODEs"), its second set of levels, that the
/// network is told, and its moved latents left out.
pub(super) struct SolverLevels<'a> {
    pub plan: &'a Plan,
    pub schedule: &'a Schedule,
    pub solver: Solver,
    pub lowest: f64,
}

impl SolverLevels<'_> {
    /// The schedule's place.
    pub fn encode(&self) -> Vec<f64> {
        self.schedule.levels().windows(2).map(|pair| (pair[0].ln() - pair[1].ln()).ln()).collect()
    }

    /// The plan at a place.
    ///
    /// # Errors
    /// If two levels meet there, or the solver leaves no plan.
    pub fn decode<E>(&self, place: &[f64]) -> Result<Plan, RefineError<E>> {
        let first = self.schedule.levels()[0];
        let gaps: Vec<f64> = place.iter().map(|log| log.exp()).collect();
        let share = ((first.ln() - self.lowest.ln()) / gaps.iter().sum::<f64>()).min(1.0);
        let mut below = 0.0;
        let rest = gaps.iter().map(|gap| {
            below += share * gap;
            (first * (-below).exp()).max(self.lowest)
        });
        let schedule = Schedule::new(std::iter::once(first).chain(rest).collect())?;
        let plan = self.solver.plan(&schedule, &SolverOptions::default())?;
        Ok(Plan { metadata: self.plan.metadata.clone(), ..plan })
    }

    /// The gradient in these coordinates, at the schedule itself, through the formula.
    ///
    /// # Errors
    /// As [`SolverLevels::decode`].
    pub fn pullback<E>(&self, gradient: &PlanGradient) -> Result<Vec<f64>, RefineError<E>> {
        let place = self.encode();
        let at = |i: usize, h: f64| {
            let mut moved = place.clone();
            moved[i] += h;
            self.decode(&moved).map(|plan| self.along(gradient, &plan))
        };
        (0..place.len()).map(|i| Ok((at(i, DIFFERENCE)? - at(i, -DIFFERENCE)?) / (2.0 * DIFFERENCE))).collect()
    }

    /// The numbers of `plan` times the gradient with respect to them.
    fn along(&self, gradient: &PlanGradient, plan: &Plan) -> f64 {
        let of_levels: f64 = plan.sigmas().iter().zip(&gradient.sigmas).map(|(sigma, slope)| sigma * slope).sum();
        let slopes = gradient.inputs.iter().chain([&gradient.output]);
        let each = combinations(plan).zip(combinations(self.plan).zip(slopes));
        let of_coefficients = each.flat_map(|((moved, _), ((own, _), slopes))| {
            // a formula may leave a term out where its coefficient is exactly 0
            let slope = |source| own.terms().zip(slopes).find(|((own, _), _)| *own == source).map_or(0.0, |(_, s)| *s);
            moved.terms().map(|(source, c)| c * slope(source)).collect::<Vec<_>>()
        });
        of_levels + of_coefficients.sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewstep_core::schedule::karras;

    #[test]
    fn levels_fall_from_the_first_to_the_lowest_wherever_coordinates_lead() {
        let schedule = karras(5, 0.01, 20.0, 7.0).unwrap();
        for solver in Solver::all() {
            let plan = solver.plan(&schedule, &SolverOptions::default()).unwrap();
            let levels = SolverLevels { plan: &plan, schedule: &schedule, solver, lowest: 0.002 };
            let place = levels.encode();
            let back = levels.decode::<()>(&place).unwrap().schedule.unwrap();
            assert!(back.levels().iter().zip(schedule.levels()).all(|(a, b)| (a / b - 1.0).abs() < 1e-12), "{solver}");
            for by in [-3.0, 3.0] {
                let moved: Vec<f64> = place.iter().map(|log| log + by).collect();
                let schedule = levels.decode::<()>(&moved).unwrap().schedule.unwrap();
                assert_eq!(schedule.levels()[0], 20.0, "{solver}");
                assert!(schedule.levels()[4] >= 0.002, "{solver}");
                assert!(by < 0.0 || schedule.levels()[4] < 0.002 * (1.0 + 1e-9), "{solver}");
            }
        }
    }
}
