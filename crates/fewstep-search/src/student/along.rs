//! Plans along given paths, which move to where the end is nearer to the teacher.

use std::collections::HashSet;

use super::{Rule, Step, Student, StudentOptions, by_constant};
use crate::teacher::{Nodes, Teacher};
use crate::{FoundPlan, SearchError};
use fewstep_core::space::VectorSpace;

/// A sweep that takes less than this part of the error away is the last one of its path.
const LEAST_GAIN: f64 = 0.02;

/// The plans that a path leads to, each with the sum of its samples' distances from the teacher's, the nearest first.
pub(crate) type Swept = Vec<(FoundPlan, f64)>;

/// A student that went a whole path.
struct Walk<V> {
    path: Vec<usize>,
    /// The student as it was after each of its evaluations.
    trail: Vec<Student<V>>,
    last: Step,
}

/// What it takes to walk.
struct Walker<'a, V, R, F> {
    teacher: &'a Teacher<V>,
    nodes: Nodes<'a, V>,
    rule: &'a R,
    denoise: F,
    evaluations: usize,
}

/// Evaluations of the whole batch that sweeps over a path of `n` levels take at most: the path itself and two moves of every level a sweep;
/// after a `longer` path what that leaves, too, and as many moves of the best of it.
pub fn sweep_evaluations(n: usize, sweeps: usize, longer: bool) -> usize {
    let pairs = n.saturating_mul(n.saturating_add(1));
    let moves = sweeps.saturating_mul(pairs);
    let of_longer = if longer { (pairs / 2).saturating_add(moves) } else { 0 };
    n.saturating_add(moves).saturating_add(of_longer)
}

/// Steps along `paths`, which move first if `sweeps` is not 0: how, and at what price, is at
/// [`least_squares_along`](crate::least_squares_along). From the last to the first, as each leaves paths for the one before it. Of each
/// path the plans that it and the one after it lead to, the nearer to the teacher first, with their distances. Second, the evaluations.
pub(crate) fn along<V: VectorSpace, E>(
    search: &str,
    teacher: &Teacher<V>,
    options: &StudentOptions,
    rule: &impl Rule<V>,
    paths: &[Vec<usize>],
    sweeps: usize,
    denoise: impl FnMut(&V, f64) -> Result<V, E>,
) -> Result<(Vec<Swept>, usize), SearchError<E>> {
    let nodes = teacher.nodes(options.last_step);
    let leaps = rule.takes_constant() && teacher.ends().mean.is_some();
    let rising = |path: &Vec<usize>| path.is_sorted_by(|a, b| a < b) && path.last().is_some_and(|j| *j < nodes.end());
    if !paths.iter().all(|path| rising(path) && (leaps || path[0] == 0)) {
        return Err(SearchError::Grid(
            "has no such path: indices rise, stay above the end, and begin with 0 where there is no constant image",
        ));
    }
    let mut walker = Walker { teacher, nodes, rule, denoise, evaluations: 0 };
    let mut plans = Vec::new();
    let mut longer: Option<Walk<V>> = None;
    for path in paths.iter().rev() {
        let Some(mut own) = walker.walk(&[], path.clone())? else {
            // it has no plan, and leaves none
            plans.push(Vec::new());
            longer = None;
            continue;
        };
        let mut walks = Vec::new();
        if sweeps > 0 {
            let mut known = HashSet::from([path.clone()]);
            walker.sweeps(&mut own, sweeps, &mut known)?;
            // moved before it is compared: it may be worse here and lead to where no move from the own path does
            if let Some(longer) = longer.filter(|longer| longer.path.len() == path.len() + 1)
                && let Some(mut other) = walker.shortened(&longer, &mut known)?
            {
                walker.sweeps(&mut other, sweeps, &mut known)?;
                walks.push(other);
            }
        }
        walks.push(own);
        walks.sort_by(|a, b| a.last.distance.total_cmp(&b.last.distance));
        let finish = |walk: &Walk<V>| {
            let newest = &walk.trail[walk.trail.len() - 1];
            let mut found = newest.finish(search, walk.last.clone(), teacher, options, rule);
            found.plan.metadata.found_by.insert("sweeps".into(), sweeps.into());
            (found, walk.last.distance)
        };
        plans.push(walks.iter().map(finish).collect());
        longer = walks.into_iter().next();
    }
    plans.reverse();
    Ok((plans, walker.evaluations))
}

impl<V: VectorSpace, R: Rule<V>, F> Walker<'_, V, R, F> {
    /// The best of what the `longer` walk is without one of its nodes; none where all of that is known.
    fn shortened<E>(
        &mut self,
        longer: &Walk<V>,
        known: &mut HashSet<Vec<usize>>,
    ) -> Result<Option<Walk<V>>, SearchError<E>>
    where
        F: FnMut(&V, f64) -> Result<V, E>,
    {
        let mut best: Option<Walk<V>> = None;
        for k in 0..longer.path.len() {
            let mut path = longer.path.clone();
            path.remove(k);
            if !known.insert(path.clone()) {
                continue;
            }
            let other = self.walk(&longer.trail[..k], path)?;
            if let Some(other) =
                other.filter(|other| best.as_ref().is_none_or(|best| other.last.distance < best.last.distance))
            {
                best = Some(other);
            }
        }
        Ok(best)
    }

    /// Sweeps until one gains hardly anything, at most so many.
    fn sweeps<E>(
        &mut self,
        best: &mut Walk<V>,
        most: usize,
        known: &mut HashSet<Vec<usize>>,
    ) -> Result<(), SearchError<E>>
    where
        F: FnMut(&V, f64) -> Result<V, E>,
    {
        for _ in 0..most {
            let before = best.last.distance;
            self.sweep(best, known)?;
            if best.last.distance > (1.0 - LEAST_GAIN) * before {
                break;
            }
        }
        Ok(())
    }

    /// Moves every node in turn.
    fn sweep<E>(&mut self, best: &mut Walk<V>, known: &mut HashSet<Vec<usize>>) -> Result<(), SearchError<E>>
    where
        F: FnMut(&V, f64) -> Result<V, E>,
    {
        for k in 0..best.path.len() {
            let floor = k.checked_sub(1).map_or(0, |before| best.path[before] + 1);
            let ceiling = best.path.get(k + 1).map_or(self.nodes.end() - 1, |after| after - 1);
            for j in [best.path[k].saturating_sub(1).max(floor), (best.path[k] + 1).min(ceiling)] {
                let mut path = best.path.clone();
                path[k] = j;
                let trail = best.trail[..k].to_vec();
                self.better(best, &trail, path, known)?;
            }
        }
        Ok(())
    }

    /// Takes the `path` after a `trail` in place of `best` if its end is nearer to the teacher; paths `known` are passed over.
    fn better<E>(
        &mut self,
        best: &mut Walk<V>,
        trail: &[Student<V>],
        path: Vec<usize>,
        known: &mut HashSet<Vec<usize>>,
    ) -> Result<(), SearchError<E>>
    where
        F: FnMut(&V, f64) -> Result<V, E>,
    {
        if known.insert(path.clone()) {
            let other = self.walk(trail, path)?;
            if let Some(other) = other.filter(|other| other.last.distance < best.last.distance) {
                *best = other;
            }
        }
        Ok(())
    }

    /// Goes a path on from where a `trail` along its first nodes ends; none where it is left without a finite state.
    fn walk<E>(&mut self, trail: &[Student<V>], path: Vec<usize>) -> Result<Option<Walk<V>>, SearchError<E>>
    where
        F: FnMut(&V, f64) -> Result<V, E>,
    {
        let mut trail = trail.to_vec();
        for &j in &path[trail.len()..] {
            let student = match trail.last() {
                Some(student) => self.step(student, j).map(|step| student.moved(j, step)),
                None if j == 0 => Some(Student::start(&self.nodes, &self.teacher.ends().latent)),
                None => by_constant(self.teacher, &self.nodes, self.rule, j..=j).into_iter().next(),
            };
            let Some(mut student) = student else { return Ok(None) };
            student.evaluate(&self.nodes, self.rule.depth(), &mut self.denoise)?;
            self.evaluations += 1;
            trail.push(student);
        }
        let last = trail.last().and_then(|student| self.step(student, self.nodes.end()));
        Ok(last.map(|last| Walk { path, trail, last }))
    }

    fn step(&self, student: &Student<V>, j: usize) -> Option<Step> {
        let mut steps = self.rule.steps(&student.path, &student.past, &self.nodes, j..=j);
        steps.pop().filter(|step| step.error.is_finite())
    }
}
