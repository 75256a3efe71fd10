//! What searches cost, before they run.

use std::ops::Range;

use super::method::MomentsOf;
use super::moments::CONTROL_EVALUATIONS;
use super::{COEFFICIENTS, GaussNewtonSettings, Method, Refinement, Search, SearchSettings, TeacherSettings};

impl SearchSettings {
    /// Evaluations of single images that the teacher and the constant image take.
    pub fn teacher_evaluations(&self) -> u64 {
        let TeacherSettings { samples, grid, solver, parts } = &self.teacher;
        let held = usize::from(self.constant); // an evaluation at sigma_max, for the image
        // the step to 0 takes one, whatever the solver
        (samples * (solver.evaluations_per_step() * (grid - 1) * parts + 1 + held)) as u64
    }

    /// Evaluations of single images that `count` trajectories of the teacher take at most, which also passes the levels of a plan
    /// of so many evaluations.
    pub fn trajectory_evaluations(&self, count: usize, nfe: usize) -> u64 {
        let TeacherSettings { grid, solver, parts, .. } = &self.teacher;
        (count * (solver.evaluations_per_step() * ((grid - 1) * parts + nfe) + 1)) as u64
    }

    /// Evaluations of single images that `method` takes at most beyond the teacher's, for these numbers of evaluations.
    pub fn evaluations(&self, method: &Method, nfes: &[usize]) -> u64 {
        let samples = self.teacher.samples;
        let most = nfes.iter().copied().max().unwrap_or(0);
        let plain = match method.search {
            Search::Fixed(..) | Search::Bound => 0,
            Search::Local(coefficient) => {
                // Euler's step from every level, then a look at every different plan of every coefficient
                let looks = if coefficient.is_some() { 0 } else { COEFFICIENTS.len() * most * (most + 1) / 2 };
                samples * (self.teacher.grid + looks)
            }
            Search::Reachable => self.student_bound(false, most) * samples,
            Search::LeastSquares => self.fitting_evaluations(nfes),
        };
        let total: usize = nfes.iter().sum();
        let refined = match method.refinement {
            None => 0,
            Some(Refinement::Rollout) => {
                // a gradient counts as three evaluations
                let (judged, seen) = (samples / 4, samples - samples / 4);
                total * (4 * self.rollout.steps * seen + (super::refinement::LOOKS + 2) * judged)
            }
            // Of a stage its level and its terms move, at most one for everything before it; of one whose outputs' coefficients
            // stay, three and the states. What follows is repeated for each.
            Some(Refinement::GaussNewton) => {
                let GaussNewtonSettings { most, rounds, .. } = self.gauss_newton;
                let states = |k: usize| if method.search == Search::LeastSquares { 1 } else { k };
                let repeated = |n: usize| {
                    let whole = self.gauss_newton.whole(n);
                    let moving = |k: usize| if k + whole > n { k + 4 } else { states(k) + 3 };
                    (0..n).map(|k| (n - k) * moving(k)).sum::<usize>()
                };
                let at_most = |n: usize| {
                    let (seen, judging) = self.gauss_newton.latents(n, samples);
                    rounds * ((repeated(n) + 4 * n) * seen + 11 * n * judging) + n * judging
                };
                nfes.iter().filter(|n| **n <= most).map(|n| at_most(*n)).sum()
            }
        };
        let matched: u64 = nfes.iter().map(|nfe| self.matching_evaluations(method.moments, *nfe)).sum();
        (plain + refined) as u64 + matched + self.control_evaluations(method.moments)
    }

    /// Evaluations of single images that matching the moments of a plan of so many evaluations takes, once it is known with what.
    pub fn matching_evaluations(&self, of: Option<MomentsOf>, nfe: usize) -> u64 {
        if of.is_some() { (nfe * self.teacher.samples) as u64 } else { 0 }
    }

    /// Evaluations of single images that it takes to know it.
    fn control_evaluations(&self, of: Option<MomentsOf>) -> u64 {
        if of == Some(MomentsOf::Data) { (CONTROL_EVALUATIONS * self.moments.control) as u64 } else { 0 }
    }

    /// How often a search over the student's own states may evaluate all its latents: first the latent at sigma_max, and below it what a
    /// constant image leads to; then a beam at every level that can be reached with so many evaluations.
    pub(super) fn student_bound(&self, constant: bool, most: usize) -> usize {
        let grid = self.teacher.grid;
        let first = if constant { grid } else { 1 };
        let later: usize = (2..=most).map(|nfe| self.beam * (grid + 1).saturating_sub(nfe)).sum();
        first + later
    }

    /// Evaluations of single images that least-squares takes at most for plans of so many evaluations: for the program, and, where
    /// there are sweeps, to move levels and to fit along them (see `least_squares_along`).
    pub(super) fn fitting_evaluations(&self, nfes: &[usize]) -> usize {
        let most = nfes.iter().copied().max().unwrap_or(0);
        let found = self.student_bound(self.constant, most) * self.seen_by_fits();
        let moves = |n: usize| n + n * (n + 1) / 2 + self.sweeps * n * (n + 1);
        let moved = |n: usize| moves(n) * self.seen_by_sweeps() + n * self.seen_by_fits();
        found + if self.sweeps == 0 { 0 } else { self.swept(nfes).map(moved).sum() }
    }

    /// Numbers of evaluations whose plans are swept, if there are to be plans of these: from `sweeps_from` on and, as each plan is
    /// compared with the next longer one, all between the least and the most.
    pub(super) fn swept(&self, nfes: &[usize]) -> Range<usize> {
        let (least, most) = (nfes.iter().copied().min(), nfes.iter().copied().max());
        self.sweeps_from.max(least.unwrap_or(0))..most.map_or(0, |most| most.saturating_add(1))
    }

    /// Latents that sweeps look at.
    pub(super) fn seen_by_sweeps(&self) -> usize {
        self.sweep_samples.min(self.seen_by_fits())
    }

    /// Latents that least-squares fits.
    pub(super) fn seen_by_fits(&self) -> usize {
        self.fit_samples.min(self.teacher.samples)
    }
}
