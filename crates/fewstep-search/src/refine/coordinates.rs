//! The coordinates in which a plan is refined.

use crate::rollout::PlanGradient;
use fewstep_core::plan::{Combination, Plan, Source};

/// What of a plan may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Moving {
    /// The noise levels.
    pub levels: bool,
    /// The coefficients.
    pub coefficients: bool,
}

/// A plan as a vector of numbers that Adam can move one by one, all of order 1 and little entangled:
///
/// - the logarithm of every stage's level `sigma_k`;
/// - of the terms in the latent and in earlier inputs, `rho = c sigma_i / sigma_k` (`sigma` = 1 for the latent and for
///   the image): with `rho` held, a level that moves takes the noise in its state along, as the network expects it;
/// - of the terms in outputs, the sum as the coordinate of the newest, and the others as they are: outputs differ
///   little, so moving weight from one to another is a fine adjustment and moving the sum a coarse one.
pub(super) struct Coordinates<'a> {
    pub plan: &'a Plan,
    pub moving: Moving,
}

impl Coordinates<'_> {
    /// The plan's place.
    pub fn encode(&self) -> Vec<f64> {
        let mut place = Vec::new();
        if self.moving.levels {
            place.extend(self.plan.stages.iter().map(|stage| stage.sigma.ln()));
        }
        if self.moving.coefficients {
            for (combination, to) in combinations(self.plan) {
                let newest = newest_output(combination);
                let sum: f64 = outputs(combination).map(|(_, c)| c).sum();
                place.extend(combination.terms().map(|(source, c)| match source {
                    Source::Output(k) if Some(k) == newest => sum,
                    Source::Output(_) => c,
                    _ => c * self.level(source) / to,
                }));
            }
        }
        place
    }

    /// The first stage that each coordinate has a say in; the number of stages for those of the image alone.
    pub fn stages(&self) -> Vec<usize> {
        let levels = 0..if self.moving.levels { self.plan.nfe() } else { 0 };
        let terms = combinations(self.plan).enumerate().flat_map(|(k, (terms, _))| vec![k; terms.len()]);
        levels.chain(terms.filter(|_| self.moving.coefficients)).collect()
    }

    /// Whether each coordinate moves where of outputs' coefficients only those of the last `whole` combinations do, and of the
    /// first state neither level nor coefficients unless `first_state`.
    pub fn moves(&self, whole: usize, first_state: bool) -> Vec<bool> {
        let levels = (0..if self.moving.levels { self.plan.nfe() } else { 0 }).map(|k| first_state || k > 0);
        let fine_before = (self.plan.nfe() + 1).saturating_sub(whole);
        let terms = combinations(self.plan).enumerate().flat_map(|(k, (combination, _))| {
            let may = first_state || k > 0;
            combination
                .terms()
                .map(move |(source, _)| may && (k >= fine_before || !matches!(source, Source::Output(_))))
        });
        levels.chain(terms.filter(|_| self.moving.coefficients)).collect()
    }

    /// The plan at a place, with levels between `range`'s ends.
    pub fn decode(&self, place: &[f64], range: (f64, f64)) -> Plan {
        let mut plan = self.plan.clone();
        let (levels, mut rest) = place.split_at(if self.moving.levels { plan.nfe() } else { 0 });
        for (stage, log) in plan.stages.iter_mut().zip(levels) {
            stage.sigma = log.exp().clamp(range.0, range.1);
        }
        let sigmas = plan.sigmas();
        let level = |source: Source| match source {
            Source::Input(k) => sigmas[k],
            _ => 1.0,
        };
        let olds = combinations(self.plan).map(|(old, to)| (old.clone(), to)).collect::<Vec<_>>();
        let news = plan.stages.iter_mut().map(|s| (s.sigma, &mut s.input)).chain([(1.0, &mut plan.output)]);
        for ((to, new), (old, old_to)) in news.zip(olds) {
            let newest = newest_output(&old);
            let (own, others) = rest.split_at(if self.moving.coefficients { old.len() } else { 0 });
            rest = others;
            let mut older = 0.0;
            for (index, ((source, c), (_, was))) in new.terms_mut().zip(old.terms()).enumerate() {
                let coordinate = own.get(index).copied();
                match source {
                    Source::Output(k) if Some(k) == newest => *c = coordinate.map_or(was, |sum| sum - older),
                    Source::Output(_) => {
                        *c = coordinate.unwrap_or(was);
                        older += *c;
                    }
                    _ => *c = coordinate.unwrap_or(was * self.level(source) / old_to) * to / level(source),
                }
            }
        }
        plan
    }

    /// How far along a coordinate it is between two plans that were decoded `difference` apart: as far, but for a level that
    /// an end of the `range` has stopped.
    pub fn reach(&self, coordinate: usize, difference: f64, [here, moved]: [&Plan; 2], range: (f64, f64)) -> f64 {
        let level = |plan: &Plan| plan.stages.get(coordinate).map(|stage| stage.sigma);
        match (level(here), level(moved)) {
            (Some(from), Some(to)) if self.moving.levels && (to == range.0 || to == range.1) => (to / from).ln().abs(),
            _ => difference.abs(),
        }
    }

    /// The gradient in these coordinates, at the plan itself.
    pub fn pullback(&self, gradient: &PlanGradient) -> Vec<f64> {
        let sigmas = self.plan.sigmas();
        let mut levels: Vec<f64> = gradient.sigmas.iter().zip(&sigmas).map(|(d, sigma)| d * sigma).collect();
        let mut coefficients = Vec::new();
        let slopes = gradient.inputs.iter().chain([&gradient.output]);
        for (k, ((combination, to), slopes)) in combinations(self.plan).zip(slopes).enumerate() {
            let newest = newest_output(combination);
            let of_newest = combination.terms().zip(slopes).find_map(|((source, _), slope)| match source {
                Source::Output(k) if Some(k) == newest => Some(*slope),
                _ => None,
            });
            for ((source, c), slope) in combination.terms().zip(slopes) {
                coefficients.push(match source {
                    Source::Output(k) if Some(k) == newest => *slope,
                    Source::Output(_) => slope - of_newest.unwrap_or(0.0),
                    _ => {
                        // c = rho sigma_k / sigma_i
                        if let Some(level) = levels.get_mut(k) {
                            *level += c * slope;
                        }
                        if let Source::Input(i) = source {
                            levels[i] -= c * slope;
                        }
                        slope * to / self.level(source)
                    }
                });
            }
        }
        let parts = [(self.moving.levels, levels), (self.moving.coefficients, coefficients)];
        parts.into_iter().filter(|(moves, _)| *moves).flat_map(|(_, part)| part).collect()
    }

    fn level(&self, source: Source) -> f64 {
        match source {
            Source::Input(k) => self.plan.stages[k].sigma,
            _ => 1.0,
        }
    }
}

/// Every combination of a plan with the level it is for, 1 for the image.
pub(super) fn combinations(plan: &Plan) -> impl Iterator<Item = (&Combination, f64)> {
    plan.stages.iter().map(|stage| (&stage.input, stage.sigma)).chain([(&plan.output, 1.0)])
}

fn outputs(combination: &Combination) -> impl Iterator<Item = (usize, f64)> {
    combination.terms().filter_map(|(source, c)| match source {
        Source::Output(k) => Some((k, c)),
        _ => None,
    })
}

fn newest_output(combination: &Combination) -> Option<usize> {
    outputs(combination).map(|(k, _)| k).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewstep_core::schedule::karras;
    use fewstep_core::solver::{Solver, SolverOptions};

    const ALL: Moving = Moving { levels: true, coefficients: true };
    const RANGE: (f64, f64) = (1e-6, 1e6);

    fn close(a: &Plan, b: &Plan) -> bool {
        let numbers = |plan: &Plan| -> Vec<f64> {
            let terms = combinations(plan).flat_map(|(c, _)| c.terms().map(|(_, c)| c).collect::<Vec<_>>());
            plan.sigmas().into_iter().chain(terms).collect()
        };
        numbers(a).iter().zip(numbers(b)).all(|(a, b)| (a - b).abs() < 1e-12 * (1.0 + b.abs()))
    }

    #[test]
    fn coordinates_lead_back_to_the_plan() {
        for solver in Solver::all() {
            let plan = solver.plan(&karras(5, 0.01, 20.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
            for (levels, coefficients) in [(true, true), (true, false), (false, true), (false, false)] {
                let coordinates = Coordinates { plan: &plan, moving: Moving { levels, coefficients } };
                assert!(close(&coordinates.decode(&coordinates.encode(), RANGE), &plan), "{solver}");
            }
        }
    }

    #[test]
    fn a_moved_level_takes_its_noise_along() {
        let plan = Solver::Euler.plan(&karras(4, 0.1, 20.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
        let coordinates = Coordinates { plan: &plan, moving: Moving { levels: true, coefficients: false } };
        let mut place = coordinates.encode();
        place[2] += 0.3;
        let moved = coordinates.decode(&place, RANGE);
        assert!(!close(&moved, &plan));
        for consistency in moved.consistency(0.0) {
            assert!((consistency.latent[0] - consistency.latent[1]).abs() < 1e-12, "{consistency:?}");
        }
        assert_eq!(coordinates.decode(&place, (0.1, 5.0)).stages[0].sigma, 5.0);
    }

    #[test]
    fn levels_states_and_the_last_combinations_move() {
        let schedule = karras(3, 0.1, 20.0, 7.0).unwrap();
        let plan = "ipndm2".parse::<Solver>().unwrap().plan(&schedule, &SolverOptions::default()).unwrap();
        let coordinates = Coordinates { plan: &plan, moving: ALL };
        let (moves, stages) = (coordinates.moves(2, true), coordinates.stages());
        assert_eq!((moves.len(), stages.len()), (coordinates.encode().len(), coordinates.encode().len()));
        assert!(moves[..3].iter().all(|moves| *moves));
        // the second stage: the state stays, its output does not; the third and the image stay whole
        let of = |k: usize| -> Vec<bool> { (3..moves.len()).filter(|i| stages[*i] == k).map(|i| moves[i]).collect() };
        assert_eq!(of(1), [true, false]);
        assert!([of(2), of(3)].concat().iter().all(|moves| *moves));
        assert!(coordinates.moves(usize::MAX, true).iter().all(|moves| *moves));
        let held = coordinates.moves(usize::MAX, false);
        assert!((0..held.len()).all(|i| held[i] == (i != 0 && (i < 3 || stages[i] > 0))), "{held:?}");
    }

    /// The chain rule, on a loss that is linear in the plan's own numbers.
    #[test]
    fn pullback_matches_differences() {
        let solver = "unipc2_bh2".parse::<Solver>().unwrap();
        let plan = solver.plan(&karras(5, 0.05, 6.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
        let weight = |i: usize| ((i * 37 % 11) as f64 - 5.0) / 3.0;
        let value = |plan: &Plan| {
            let terms = combinations(plan).flat_map(|(c, _)| c.terms().map(|(_, c)| c).collect::<Vec<_>>());
            plan.sigmas().into_iter().chain(terms).enumerate().map(|(i, v)| weight(i) * v).sum::<f64>()
        };
        let mut next = 0..;
        let mut take = |n: usize| next.by_ref().take(n).map(weight).collect::<Vec<f64>>();
        let gradient = PlanGradient {
            sigmas: take(plan.nfe()),
            inputs: plan.stages.iter().map(|stage| take(stage.input.len())).collect(),
            output: take(plan.output.len()),
        };
        let coordinates = Coordinates { plan: &plan, moving: ALL };
        let place = coordinates.encode();
        for (i, slope) in coordinates.pullback(&gradient).into_iter().enumerate() {
            let at = |h: f64| {
                let mut moved = place.clone();
                moved[i] += h;
                value(&coordinates.decode(&moved, RANGE))
            };
            let difference = (at(1e-6) - at(-1e-6)) / 2e-6;
            assert!((slope - difference).abs() < 1e-7 * (1.0 + difference.abs()), "{i}: {slope} {difference}");
        }
    }
}
