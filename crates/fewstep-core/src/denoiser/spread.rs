//! A denoiser whose samples are shared out among processes.
//!
//! A search on a [`Spread`] runs in every process of a group at once, each on its share of the samples. What it sees of a batch as a
//! whole ([`Shared`]: inner products, means, features) is gathered sample by sample and summed in the order of the samples, so that every
//! process comes to the same numbers, and to those of one process.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Appearance, Clipping, Denoiser, Differentiable, Spec};
use crate::group::{Group, GroupError};
use crate::plan::Constant;
use crate::space::{Batch, Samples, VectorSpace};

/// Processes, and what has gone wrong between them where nothing could be returned.
#[derive(Debug)]
struct Processes {
    group: Rc<dyn Group>,
    failure: RefCell<Option<GroupError>>,
}

impl Processes {
    /// What each process gives.
    fn gather(&self, own: &[f64]) -> Vec<Vec<f64>> {
        self.kept(|| self.group.gather(own))
    }

    /// A failure is kept for [`Processes::check`], and every process has given nothing.
    fn kept(&self, gather: impl FnOnce() -> Result<Vec<Vec<f64>>, GroupError>) -> Vec<Vec<f64>> {
        if self.failure.borrow().is_some() {
            return vec![Vec::new(); self.group.size()]; // nobody comes any more
        }
        gather().unwrap_or_else(|error| {
            self.failure.borrow_mut().get_or_insert(error);
            vec![Vec::new(); self.group.size()]
        })
    }

    fn check(&self) -> Result<(), GroupError> {
        self.failure.borrow().clone().map_or(Ok(()), Err)
    }
}

/// Which process has which sample of a batch.
#[derive(Clone, Debug)]
struct Owners {
    processes: Rc<Processes>,
    ranks: Rc<[usize]>,
}

impl Owners {
    /// The process of a seed: the same in every batch, so that parts of a batch and batches of its seeds fit together.
    fn of_seeds(processes: &Rc<Processes>, seeds: &[u64]) -> Self {
        let ranks = seeds.iter().map(|seed| (seed % processes.group.size() as u64) as usize).collect();
        Self { processes: Rc::clone(processes), ranks }
    }

    fn own(&self) -> usize {
        let rank = self.processes.group.rank();
        self.ranks.iter().filter(|owner| **owner == rank).count()
    }

    /// What is this process's of a list of one thing a sample.
    fn own_of<T: Copy>(&self, all: &[T]) -> Vec<T> {
        let rank = self.processes.group.rank();
        self.ranks.iter().zip(all).filter(|(owner, _)| **owner == rank).map(|(_, value)| *value).collect()
    }

    /// `width` numbers of every sample, in order, from each process's own. Where another process has failed, they are NaN.
    fn gathered(&self, own: Vec<f64>, width: usize) -> Vec<f64> {
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
    own: B,
    owners: Owners,
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

    /// The sum of a number of every process, in the order of their ranks; NaN where another process has gone ([`Denoiser::check`]).
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

/// The condition of every sample of a batch that is shared out.
#[derive(Clone, Debug)]
pub enum SharedConditions<C> {
    /// This process's samples'.
    Own(OwnConditions<C>),
    /// The same for all: a class, or none.
    Same(Option<usize>),
}

/// The conditions of this process's samples.
#[derive(Clone, Debug)]
pub struct OwnConditions<C> {
    conditions: C,
    owners: Owners,
}

/// Why an evaluation failed.
#[derive(Debug, thiserror::Error)]
pub enum SpreadError<E: std::error::Error + Send + Sync + 'static> {
    /// The denoiser did.
    #[error(transparent)]
    Denoiser(E),
    /// Another process has gone, or does not come.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// One condition for all says nothing of which process has which sample.
    #[error("a plan's constant is repeated for samples with conditions of their own")]
    NoSamples,
}

/// A denoiser whose samples are shared out among the processes of a group: sample by seed.
#[derive(Debug)]
pub struct Spread<D> {
    denoiser: D,
    processes: Rc<Processes>,
}

impl<D: Denoiser> Spread<D> {
    /// `denoiser`, the same in every process, with its samples shared out among `group`.
    pub fn new(denoiser: D, group: Rc<dyn Group>) -> Self {
        Self { denoiser, processes: Rc::new(Processes { group, failure: RefCell::default() }) }
    }

    /// The denoiser inside.
    pub fn inner(&self) -> &D {
        &self.denoiser
    }

    /// Another denoiser, shared out among the same processes.
    pub fn beside<E>(&self, denoiser: E) -> Spread<E> {
        Spread { denoiser, processes: Rc::clone(&self.processes) }
    }

    /// The samples of `seeds`, of which `own` are this process's.
    pub fn shared<B: Samples>(&self, own: B, seeds: &[u64]) -> Shared<B> {
        Shared { own, owners: Owners::of_seeds(&self.processes, seeds) }
    }

    /// The conditions of the samples of `seeds`, of which `own` are this process's.
    pub fn shared_conditions<C>(&self, own: C, seeds: &[u64]) -> SharedConditions<C> {
        SharedConditions::Own(OwnConditions { conditions: own, owners: Owners::of_seeds(&self.processes, seeds) })
    }

    /// Those of `seeds` that are this process's.
    pub fn own_seeds(&self, seeds: &[u64]) -> Vec<u64> {
        Owners::of_seeds(&self.processes, seeds).own_of(seeds)
    }

    /// Which of `seeds` are this process's.
    pub fn own_places(&self, seeds: &[u64]) -> Vec<bool> {
        let (owners, rank) = (Owners::of_seeds(&self.processes, seeds), self.processes.group.rank());
        owners.ranks.iter().map(|owner| *owner == rank).collect()
    }

    fn own_conditions(
        &self,
        conditions: &SharedConditions<D::Conditions>,
        samples: usize,
    ) -> Result<D::Conditions, SpreadError<D::Error>> {
        match conditions {
            SharedConditions::Own(own) => Ok(own.conditions.clone()),
            SharedConditions::Same(class) => {
                self.denoiser.same_condition(*class, samples).map_err(SpreadError::Denoiser)
            }
        }
    }
}

impl<D: Denoiser> Denoiser for Spread<D> {
    type Batch = Shared<D::Batch>;
    type Conditions = SharedConditions<D::Conditions>;
    type Error = SpreadError<D::Error>;

    fn spec(&self) -> &Spec {
        self.denoiser.spec()
    }

    fn latents(&self, seeds: &[u64]) -> Result<Self::Batch, Self::Error> {
        let own = self.denoiser.latents(&self.own_seeds(seeds)).map_err(SpreadError::Denoiser)?;
        Ok(self.shared(own, seeds))
    }

    fn conditions(&self, seeds: &[u64]) -> Result<Self::Conditions, Self::Error> {
        let owners = Owners::of_seeds(&self.processes, seeds);
        let conditions = self.denoiser.conditions(&owners.own_of(seeds)).map_err(SpreadError::Denoiser)?;
        Ok(SharedConditions::Own(OwnConditions { conditions, owners }))
    }

    fn same_condition(&self, class: Option<usize>, _: usize) -> Result<Self::Conditions, Self::Error> {
        self.denoiser.same_condition(class, 1).map_err(SpreadError::Denoiser)?;
        Ok(SharedConditions::Same(class))
    }

    fn constant(
        &self,
        constant: &Constant,
        conditions: &Self::Conditions,
        _: usize,
    ) -> Result<Self::Batch, Self::Error> {
        let SharedConditions::Own(OwnConditions { conditions, owners }) = conditions else {
            return Err(SpreadError::NoSamples);
        };
        let own = self.denoiser.constant(constant, conditions, owners.own()).map_err(SpreadError::Denoiser)?;
        Ok(Shared { own, owners: owners.clone() })
    }

    fn check(&self) -> Result<(), Self::Error> {
        self.denoiser.check().map_err(SpreadError::Denoiser)?;
        Ok(self.processes.check()?)
    }

    fn denoise(
        &self,
        asked: &[(&Self::Batch, f64)],
        conditions: &Self::Conditions,
    ) -> Result<Vec<Self::Batch>, Self::Error> {
        self.processes.check()?;
        let own: Vec<(&D::Batch, f64)> = asked.iter().map(|(x, sigma)| (&x.own, *sigma)).collect();
        let samples = own.first().map_or(0, |(x, _)| x.samples());
        let outputs = match samples {
            0 => own.iter().map(|(x, _)| (*x).clone()).collect(), // none of these is this process's
            _ => {
                let conditions = self.own_conditions(conditions, samples)?;
                self.denoiser.denoise(&own, &conditions).map_err(SpreadError::Denoiser)?
            }
        };
        Ok(asked.iter().zip(outputs).map(|((x, _), own)| x.with(own)).collect())
    }

    fn differentiable(
        &self,
    ) -> Option<&dyn Differentiable<Batch = Self::Batch, Conditions = Self::Conditions, Error = Self::Error>> {
        self.denoiser.differentiable().is_some().then_some(self)
    }

    fn appearance(&self) -> Option<&dyn Appearance<Self::Batch, Self::Error>> {
        self.denoiser.appearance().is_some().then_some(self)
    }
}

impl<D: Denoiser> Differentiable for Spread<D> {
    fn pullback(
        &self,
        x: &Self::Batch,
        sigma: f64,
        conditions: &Self::Conditions,
        cotangent: &Self::Batch,
    ) -> Result<(Self::Batch, f64), Self::Error> {
        self.processes.check()?;
        let samples = x.own.samples();
        let (own, slope) = match self.denoiser.differentiable() {
            Some(denoiser) if samples > 0 => denoiser
                .pullback(&x.own, sigma, &self.own_conditions(conditions, samples)?, &cotangent.own)
                .map_err(SpreadError::Denoiser)?,
            _ => (x.own.clone(), 0.0),
        };
        let slopes = self.processes.gather(&[slope]);
        self.processes.check()?;
        Ok((x.with(own), slopes.iter().flatten().sum()))
    }
}

impl<D: Denoiser> Appearance<Shared<D::Batch>, SpreadError<D::Error>> for Spread<D> {
    fn features(&self, batch: &Shared<D::Batch>) -> Result<(Vec<f64>, usize), SpreadError<D::Error>> {
        let (own, dim) = match self.denoiser.appearance() {
            Some(appearance) if batch.own.samples() > 0 => {
                appearance.features(&batch.own).map_err(SpreadError::Denoiser)?
            }
            _ => (Vec::new(), 0),
        };
        // a process without samples does not know how many features there are
        let dims = self.processes.gather(&[dim as f64]);
        let dim = dims.iter().flatten().fold(0.0, |most: f64, dim| most.max(*dim)) as usize;
        let rows = batch.owners.gathered(own, dim);
        self.processes.check()?;
        Ok((rows, dim))
    }

    fn clipping(
        &self,
        batch: &Shared<D::Batch>,
        near: std::ops::Range<f64>,
    ) -> Result<Clipping, SpreadError<D::Error>> {
        let own = match self.denoiser.appearance() {
            Some(appearance) if batch.own.samples() > 0 => {
                appearance.clipping(&batch.own, near).map_err(SpreadError::Denoiser)?
            }
            _ => Clipping::default(),
        };
        let counts = [own.values as f64, own.beyond as f64]; // far below 2^53
        let given: Vec<f64> = counts.into_iter().chain(own.near.iter().map(|value| f64::from(*value))).collect();
        let mut all = Clipping::default();
        for given in self.processes.gather(&given) {
            if let [values, beyond, near @ ..] = given.as_slice() {
                all.values += *values as u64;
                all.beyond += *beyond as u64;
                all.near.extend(near.iter().map(|value| *value as f32));
            }
        }
        self.processes.check()?;
        Ok(all)
    }

    fn is_direct(&self) -> bool {
        self.denoiser.appearance().is_some_and(Appearance::is_direct)
    }
}
