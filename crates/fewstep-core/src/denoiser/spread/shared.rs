//! A batch whose samples are shared out among processes.

use std::cell::RefCell;
use std::rc::Rc;

use crate::group::{Group, GroupError};
use crate::space::{Batch, Samples, VectorSpace};

/// Processes, and what has gone wrong between them where nothing could be returned.
#[derive(Debug)]
pub(super) struct Processes {
    pub(super) group: Rc<dyn Group>,
    pub(super) failure: RefCell<Option<GroupError>>,
}

impl Processes {
    /// What each process gives.
    pub(super) fn gather(&self, own: &[f64]) -> Vec<Vec<f64>> {
        self.kept(|| self.group.gather(own))
    }

    /// A failure is kept for [`Processes::check`], and every process has given nothing.
    pub(super) fn kept(&self, gather: impl FnOnce() -> Result<Vec<Vec<f64>>, GroupError>) -> Vec<Vec<f64>> {
        if self.failure.borrow().is_some() {
            return vec![Vec::new(); self.group.size()]; // nobody comes any more
        }
        gather().unwrap_or_else(|error| {
            self.failure.borrow_mut().get_or_insert(error);
            vec![Vec::new(); self.group.size()]
        })
    }

    pub(super) fn check(&self) -> Result<(), GroupError> {
        self.failure.borrow().clone().map_or(Ok(()), Err)
    }
}

/// Which process has which sample of a batch.
#[derive(Clone, Debug)]
pub(super) struct Owners {
    pub(super) processes: Rc<Processes>,
    pub(super) ranks: Rc<[usize]>,
}

impl Owners {
    /// The process of a seed: the same in every batch, so that parts of a batch and batches of its seeds fit together.
    pub(super) fn of_seeds(processes: &Rc<Processes>, seeds: &[u64]) -> Self {
        let ranks = seeds.iter().map(|seed| (seed % processes.group.size() as u64) as usize).collect();
        Self { processes: Rc::clone(processes), ranks }
    }

    pub(super) fn own(&self) -> usize {
        let rank = self.processes.group.rank();
        self.ranks.iter().filter(|owner| **owner == rank).count()
    }

    /// What is this process's of a list of one thing a sample.
    pub(super) fn own_of<T: Copy>(&self, all: &[T]) -> Vec<T> {
        let rank = self.processes.group.rank();
        self.ranks.iter().zip(all).filter(|(owner, _)| **owner == rank).map(|(_, value)| *value).collect()
    }

    /// `width` numbers of every sample, in order, from each process's own. Where another process has failed, they are NaN.
    pub(super) fn gathered(&self, own: Vec<f64>, width: usize) -> Vec<f64> {
        if self.processes.group.size() == 1 || width == 0 {
            return own;
        }
        let mut lengths = vec![0; self.processes.group.size()];
        self.ranks.iter().for_each(|owner| lengths[*owner] += width);
        let all = self.processes.kept(|| self.processes.group.gather_known(&own, &lengths));
        let mut rows: Vec<_> = all.iter().map(|values| values.chunks_exact(width.max(1))).collect();
        let row = |owner: &usize| match rows[*owner].next() {
            Some(row) => row.to_vec(),
            None => vec![f64::NAN; width],
        };
        self.ranks.iter().flat_map(row).collect()
    }
}

/// A batch of which every process holds its own samples.
#[derive(Clone, Debug)]
pub struct Shared<B> {
    pub(super) own: B,
    pub(super) owners: Owners,
}

impl<B> Shared<B> {
    /// This process's samples, in order.
    pub fn own(&self) -> &B {
        &self.own
    }

    /// The process of each sample.
    pub fn owners(&self) -> &[usize] {
        &self.owners.ranks
    }

    /// The same samples with other values: `own` are this process's.
    pub fn with(&self, own: B) -> Self {
        Self { own, owners: self.owners.clone() }
    }

    /// The sum of a number of every process, in the order of their ranks; NaN where another process has gone ([`Denoiser::check`](crate::denoiser::Denoiser::check)).
    pub fn sum_over_processes(&self, own: f64) -> f64 {
        let all = self.owners.processes.gather(&[own]);
        all.iter().map(|given| given.first().copied().unwrap_or(f64::NAN)).sum()
    }
}

impl<B: Samples> VectorSpace for Shared<B> {
    fn combine(terms: &[(f64, &Self)]) -> Self {
        let own: Vec<(f64, &B)> = terms.iter().map(|(c, shared)| (*c, &shared.own)).collect();
        terms[0].1.with(B::combine(&own)) // never empty, as the trait says
    }

    fn dot(&self, other: &Self) -> f64 {
        self.sample_dots(other).iter().sum()
    }
}

impl<B: Samples> Samples for Shared<B> {
    fn samples(&self) -> usize {
        self.owners.ranks.len()
    }

    fn sample_dots(&self, other: &Self) -> Vec<f64> {
        self.owners.gathered(self.own.sample_dots(&other.own), 1)
    }

    /// Processes wait for one another once.
    fn sample_dots_with<'a>(&self, others: impl IntoIterator<Item = &'a Self>) -> Vec<Vec<f64>>
    where
        Self: 'a,
    {
        let own = self.own.sample_dots_with(others.into_iter().map(|other| &other.own));
        let width = own.len();
        let by_sample = (0..self.owners.own()).flat_map(|sample| own.iter().map(move |dots| dots[sample])).collect();
        let all = self.owners.gathered(by_sample, width);
        (0..width).map(|at| all.iter().skip(at).step_by(width).copied().collect()).collect()
    }

    fn sample_l1(&self) -> Vec<f64> {
        self.owners.gathered(self.own.sample_l1(), 1)
    }

    fn scale_samples(&self, factors: &[f64]) -> Self {
        self.with(self.own.scale_samples(&self.owners.own_of(factors)))
    }
}

impl<B: Batch> Batch for Shared<B> {
    fn part(&self, start: usize, count: usize) -> Self {
        let part = |range: std::ops::Range<usize>| Owners {
            processes: Rc::clone(&self.owners.processes),
            ranks: self.owners.ranks[range].into(),
        };
        let (before, owners) = (part(0..start), part(start..start + count));
        Self { own: self.own.part(before.own(), owners.own()), owners }
    }

    fn sum_of_samples(&self) -> Vec<f64> {
        let own = if self.owners.own() > 0 { self.own.sum_of_samples() } else { Vec::new() };
        let sums = self.owners.processes.gather(&own);
        let values = sums.iter().map(Vec::len).max().unwrap_or(0);
        (0..values).map(|at| sums.iter().filter_map(|sum| sum.get(at)).sum()).collect()
    }

    fn other_size(&self, numel: usize) -> Option<usize> {
        self.own.other_size(numel)
    }

    fn with_gradients(&self, weight: f64) -> Option<Self> {
        self.own.with_gradients(weight).map(|own| self.with(own))
    }
}
