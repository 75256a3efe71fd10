//! A denoiser whose samples are shared out among processes.
//!
//! A search on a [`Spread`] runs in every process of a group at once, each on its share of the samples. What it sees of a batch as a
//! whole ([`Shared`]: inner products, means, features) is gathered sample by sample and summed in the order of the samples, so that every
//! process comes to the same numbers, and to those of one process.

mod shared;

use std::cell::RefCell;
use std::rc::Rc;

pub use self::shared::Shared;
use self::shared::{Owners, Processes};
use super::{Appearance, Clipping, Denoiser, Differentiable, Spec};
use crate::group::{Group, GroupError};
use crate::plan::Constant;
use crate::space::Samples;

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
