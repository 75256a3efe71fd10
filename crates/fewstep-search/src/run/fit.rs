//! Least squares, and sweeps over the levels that it chose.

use fewstep_core::denoiser::Denoiser;
use fewstep_core::observe::{Event, Progress};
use fewstep_core::plan::Plan;

use super::{Candidates, Search, error_space};
use crate::error::{Error, Result};
use crate::settings::{LeastSquaresSettings, SweepSettings};
use crate::student::Swept;
use crate::{Fit, FoundPlan, StudentOptions, least_squares_in, least_squares_swept, sweep_evaluations};

impl LeastSquaresSettings {
    fn fit(&self) -> Fit {
        Fit {
            history: self.history,
            ridge: self.ridge,
            match_variance: self.match_variance,
            fit_state_coefficient: self.fit_state_coefficient,
            robust: self.robust,
        }
    }

    fn options(&self, most: usize) -> StudentOptions {
        StudentOptions { most, beam: self.beam, gain: self.least_gain, ..StudentOptions::default() }
    }

    /// Latents that are fitted, of all there are.
    fn fitted(&self, all: usize) -> usize {
        self.samples.min(all)
    }
}

impl<D: Denoiser> Search<'_, D> {
    /// A plan of `nfe` evaluations with all the terms that a fit with these settings can give one.
    pub(super) fn fullest(&self, settings: &LeastSquaresSettings, nfe: usize) -> Plan {
        let holds = self.teacher.ends().mean.is_some();
        // a constant in place of an evaluation leads to the second level of the grid or below
        let leaps = holds && nfe < self.teacher.grid().len();
        settings.fit().fullest(nfe, leaps)
    }

    /// Plans of every number of evaluations up to the `most`, on the first of the latents.
    pub(super) fn least_squares(
        &self,
        settings: &LeastSquaresSettings,
        candidates: &mut Candidates,
        steps: &[usize],
        most: usize,
    ) -> Result<()> {
        let options = settings.options(most);
        let samples = settings.fitted(self.settings.teacher.samples);
        let holds = self.teacher.ends().mean.is_some();
        let total = options.most_evaluations(self.teacher.grid().len(), holds).saturating_mul(samples);
        let mut progress = Progress::new(self.observer, "least squares", "evaluations (at most)", total as u64, 0);
        let (student, teacher) = self.first(samples)?;
        let denoise = |x: &D::Batch, sigma: f64| {
            let outputs = student.denoised(x, sigma)?;
            progress.set(student.evaluations(), "");
            Ok::<_, Error>(outputs)
        };
        let space = error_space(settings.error_space);
        let found = least_squares_in(&teacher, &settings.fit(), &options, space, denoise)?.plans;
        let raised = |found: &&FoundPlan| found.plan.metadata.found_by.get("regularised").is_some_and(|by| by == true);
        let raised: Vec<String> = found
            .iter()
            .filter(raised)
            .map(|found| found.plan.nfe())
            .filter(|nfe| steps.contains(nfe))
            .map(|nfe| nfe.to_string())
            .collect();
        if !raised.is_empty() {
            self.observer.event(Event::Note(&format!(
                "the fits at {} evaluations were singular and took a stronger ridge than least_squares.ridge asks for",
                raised.join(", ")
            )));
        }
        candidates.evaluations += student.evaluations();
        candidates.found = found;
        candidates.fit = Some(settings.clone());
        Ok(())
    }

    /// Moves the paths of the wanted plans and of all longer ones, and takes those that lead nearer to the teacher on all latents that were
    /// fitted.
    pub(super) fn sweep(&self, settings: &SweepSettings, candidates: &mut Candidates, steps: &[usize]) -> Result<()> {
        let Some(fit) = candidates.fit.clone() else {
            let value = "a sweep that does not follow a fit".to_owned();
            return Err(Error::Setting { name: "stages", rule: "least_squares before sweep", value });
        };
        let all = fit.fitted(self.settings.teacher.samples);
        let few = settings.samples.min(all);
        let Some(least) = steps.iter().copied().filter(|nfe| *nfe >= settings.from).min() else { return Ok(()) };
        let wanted = |found: &&mut FoundPlan| found.plan.nfe() >= least;
        let mut swept: Vec<&mut FoundPlan> = candidates.found.iter_mut().filter(wanted).collect();
        if swept.is_empty() {
            return Ok(());
        }
        let longest = swept.iter().map(|found| found.plan.nfe()).max().unwrap_or_default();
        let of_plan = |nfe: usize| {
            let longer = nfe < longest;
            let compared = if longer { 3 } else { 2 }; // the path itself, and what it and the longer one lead to
            let decided = if steps.contains(&nfe) { (compared * nfe).saturating_mul(all) } else { 0 };
            sweep_evaluations(nfe, settings.sweeps, longer).saturating_mul(few).saturating_add(decided)
        };
        let total = swept.iter().map(|found| of_plan(found.plan.nfe())).fold(0, usize::saturating_add);
        let mut evaluations = 0;
        let mut progress = Progress::new(self.observer, "sweeps", "evaluations (at most)", total as u64, 0);
        let along = |paths: &[Vec<usize>], sweeps: usize, samples: usize| {
            let (student, teacher) = self.first(samples)?;
            let denoise = |x: &D::Batch, sigma: f64| {
                let outputs = student.denoised(x, sigma)?;
                progress.set(evaluations + student.evaluations(), "");
                Ok::<_, Error>(outputs)
            };
            let (options, space) = (fit.options(0), error_space(fit.error_space));
            let outcome = least_squares_swept(&teacher, &fit.fit(), &options, paths, sweeps, space, denoise);
            evaluations += student.evaluations();
            outcome.map(|(plans, _)| plans).map_err(Error::from)
        };
        move_paths(&mut swept, steps, settings.sweeps, [few, all], along)?;
        if self.tries_all {
            let (student, _) = self.first(few)?;
            while evaluations < total as u64 {
                student.denoised(student.latents(), self.teacher.grid().sigma_max())?;
                evaluations += few as u64;
            }
        }
        candidates.evaluations += evaluations;
        // of as many latents as are fitted, like those of the program
        let of_all = candidates.evaluations.div_ceil(all.max(1) as u64);
        for found in swept {
            found.plan.metadata.found_by.insert("evaluations".into(), of_all.into());
        }
        Ok(())
    }
}

/// Moves the paths of plans, and takes those that lead nearest to the teacher; plans of other numbers of evaluations than `steps` are there
/// for what they leave. `along(paths, sweeps, latents)` are the plans that each path leads to, with their distances, or none where a state
/// is not finite: then a plan stays as it is. `latents`: those that say where a path might go, and all.
fn move_paths(
    swept: &mut [&mut FoundPlan],
    steps: &[usize],
    sweeps: usize,
    [few, all]: [usize; 2],
    mut along: impl FnMut(&[Vec<usize>], usize, usize) -> Result<Vec<Swept>>,
) -> Result<()> {
    let paths: Vec<Vec<usize>> = swept.iter().map(|found| found.path.clone()).collect();
    let moved = along(&paths, sweeps, few)?;
    for (found, moved) in swept.iter_mut().zip(moved).filter(|(found, _)| steps.contains(&found.plan.nfe())) {
        let start = found.path.clone();
        let others: Vec<Vec<usize>> =
            moved.into_iter().map(|(moved, _)| moved.path).filter(|path| *path != start).collect();
        if others.is_empty() {
            continue;
        }
        // few latents say where a path might go, and all whether it is to
        let mut least =
            along(&[start], 0, all)?.into_iter().flatten().next().map_or(f64::INFINITY, |(_, distance)| distance);
        for path in others {
            let moved = along(&[path], 0, all)?.into_iter().flatten().next();
            if let Some((mut moved, distance)) = moved.filter(|(_, distance)| *distance < least) {
                least = distance;
                moved.plan.metadata.found_by.insert("sweeps".into(), sweeps.into());
                moved.plan.metadata.found_by.insert("sweep_samples".into(), few.into());
                **found = moved;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &[usize], error: f64) -> FoundPlan {
        FoundPlan { plan: Plan::default(), path: path.to_vec(), error }
    }

    /// A path that moved is fitted again on all latents, and taken if it is nearer there; all else stays, states that are not
    /// finite included.
    #[test]
    fn moved_paths_are_decided_by_all_latents() {
        let start = [found(&[1, 2], 1.0), found(&[1, 3], 1.0), found(&[1, 4], 1.0), found(&[1, 5], 1.0)];
        let mut plans = start.clone();
        let mut swept: Vec<&mut FoundPlan> = plans.iter_mut().collect();
        let mut asked = Vec::new();
        let along = |paths: &[Vec<usize>], sweeps: usize, latents: usize| {
            asked.push((paths.to_vec(), sweeps, latents));
            Ok(match paths {
                [path] if path[1] < 6 => vec![vec![(found(path, 1.0), 1.0)]],
                [path] if path[1] == 8 => vec![vec![(found(path, 0.1), 1.5)]], // a smaller error, but farther
                [path] if path[1] == 9 => vec![vec![]],
                [path] if path[1] == 6 => vec![vec![(found(path, 0.3), 0.7)]],
                [path] => vec![vec![(found(path, 0.5), 0.5)]],
                // the nearer on few latents first
                _ => vec![
                    vec![(found(&[1, 2], 0.1), 0.1)],
                    vec![(found(&[1, 6], 0.1), 0.1), (found(&[1, 7], 0.2), 0.2)],
                    vec![(found(&[1, 8], 0.1), 0.1)],
                    vec![(found(&[1, 9], 0.1), 0.1)],
                ],
            })
        };
        move_paths(&mut swept, &[0], 2, [16, 64], along).unwrap();
        assert_eq!((swept[1].path.as_slice(), swept[1].error), (&[1, 7][..], 0.5));
        assert_eq!(swept[1].plan.metadata.found_by["sweep_samples"], 16);
        assert!([0, 2, 3].iter().all(|&k: &usize| *swept[k] == start[k]), "{swept:?}");
        let [all, one] = [&asked[0], &asked[1]];
        assert_eq!((all.0.len(), all.1, all.2, one.0.len(), one.1, one.2, asked.len()), (4, 2, 16, 1, 0, 64, 8));
        move_paths(&mut swept, &[0], 1, [16, 64], |_, _, _| Ok(vec![vec![]; 4])).unwrap();
        let better = |_: &[Vec<usize>], _, _| Ok(vec![vec![(found(&[1, 6], 0.0), 0.0)]; 4]);
        move_paths(&mut swept, &[1], 1, [16, 64], better).unwrap();
        assert_eq!(swept[1].path, [1, 7], "of another number of evaluations than is asked for");
    }
}
