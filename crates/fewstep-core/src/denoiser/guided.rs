//! Guidance: a denoiser pushed away from what it would say without its condition, or from what a weaker one says.

use super::{Denoiser, Differentiable, Guidance, Spec};
use crate::space::{Samples, VectorSpace};

/// What guidance pushes away from.
#[derive(Clone, Debug)]
pub enum Reference<R> {
    /// The same network without its condition: classifier-free guidance (Ho and Salimans 2022).
    Unconditional,
    /// A second network: one without conditions, or a weaker one (Karras et al. 2024, "Guiding a Diffusion Model with a Bad Version of
    /// Itself").
    Network(R),
}

/// `D_ref + w (D - D_ref)`: `w = 1` is the denoiser itself, more follows the condition more closely than the data do.
///
/// One evaluation takes the calls of both.
///
/// ```
/// use fewstep_core::denoiser::{Counting, Denoiser, Guided, Levels, Oracle, Reference};
/// use fewstep_core::mixture::{Component, Covariance, Mixture};
///
/// let class = |mean| Component { weight: 1.0, mean: vec![mean, 0.5], covariance: Covariance::Isotropic(0.1) };
/// let data = Mixture::new(vec![class(-1.0), class(1.0)])?;
/// let classes = Oracle::new(data, vec![2], Levels::between(0.002, 80.0)).conditional();
/// let guided = Counting::new(Guided::<_, Oracle>::new(classes, Reference::Unconditional, 2.0)?);
///
/// let (x, conditions) = (guided.latents(&[0, 1, 2])?, guided.conditions(&[0, 1, 2])?);
/// guided.denoise(&[(&x, 1.0)], &conditions)?;
/// assert_eq!((guided.cost().evaluations, guided.cost().calls), (3, 6)); // two networks a sample
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Guided<D, R = D> {
    denoiser: D,
    reference: Reference<R>,
    weight: f64,
    spec: Spec,
}

/// Networks that cannot guide one another.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GuidanceError {
    /// Nothing to drop.
    #[error(
        "guidance by a dropped condition needs a conditional network, and this one knows no classes; give a second network"
    )]
    NoCondition,
    /// Samples of another shape.
    #[error("the network and the one that guides it make samples of different shapes: {network:?} and {reference:?}")]
    Shape {
        /// Shape of the network's samples.
        network: Vec<usize>,
        /// Shape of the reference's.
        reference: Vec<usize>,
    },
    /// Classes of another number.
    #[error(
        "the network knows {network} classes and the one that guides it {reference}; it must know as many, or none"
    )]
    Classes {
        /// Of the network.
        network: usize,
        /// Of the reference.
        reference: usize,
    },
    /// A weight that is no number.
    #[error("guidance cannot have the weight {0}")]
    Weight(f64),
    /// No level in common.
    #[error("the network and the one that guides it have no noise levels in common")]
    Levels,
}

impl<D, R> Guided<D, R>
where
    D: Denoiser,
    R: Denoiser<Batch = D::Batch, Conditions = D::Conditions, Error = D::Error>,
{
    /// Guidance of `denoiser` away from `reference` by `weight`.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn new(denoiser: D, reference: Reference<R>, weight: f64) -> Result<Self, GuidanceError> {
        if !weight.is_finite() {
            return Err(GuidanceError::Weight(weight));
        }
        let mut spec = denoiser.spec().clone();
        let (name, calls) = match &reference {
            Reference::Unconditional if spec.classes == 0 => return Err(GuidanceError::NoCondition),
            Reference::Unconditional => ("without its condition".to_owned(), spec.calls),
            Reference::Network(other) => {
                let other = other.spec();
                if other.shape != spec.shape {
                    return Err(GuidanceError::Shape { network: spec.shape, reference: other.shape.clone() });
                }
                if other.classes != 0 && other.classes != spec.classes {
                    return Err(GuidanceError::Classes { network: spec.classes, reference: other.classes });
                }
                spec.levels.supported = both(spec.levels.supported, other.levels.supported)?;
                spec.levels.sampling = both(spec.levels.sampling, other.levels.sampling)?;
                spec.rounding = spec.rounding.max(other.rounding);
                (other.identity.clone(), other.calls)
            }
        };
        spec.calls += calls;
        spec.identity = format!("{} guided by {weight} from {name}", spec.identity);
        spec.guidance = Some(Guidance { weight, reference: name });
        Ok(Self { denoiser, reference, weight, spec })
    }

    /// The denoiser that is guided.
    pub fn denoiser(&self) -> &D {
        &self.denoiser
    }

    /// What it is guided away from.
    pub fn reference(&self) -> &Reference<R> {
        &self.reference
    }

    /// w.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// The conditions that the reference is asked under.
    ///
    /// # Errors
    /// If a network that guides itself cannot do without its condition.
    pub fn reference_conditions(&self, conditions: &D::Conditions, samples: usize) -> Result<D::Conditions, D::Error> {
        match &self.reference {
            Reference::Unconditional => self.denoiser.same_condition(None, samples),
            Reference::Network(other) if other.spec().classes == 0 => other.same_condition(None, samples),
            Reference::Network(_) => Ok(conditions.clone()),
        }
    }
}

fn both(a: (f64, f64), b: (f64, f64)) -> Result<(f64, f64), GuidanceError> {
    let range = (a.0.max(b.0), a.1.min(b.1));
    if range.0 < range.1 { Ok(range) } else { Err(GuidanceError::Levels) }
}

impl<D, R> Denoiser for Guided<D, R>
where
    D: Denoiser,
    R: Denoiser<Batch = D::Batch, Conditions = D::Conditions, Error = D::Error>,
{
    as_inside!(self, self.denoiser);

    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn denoise(
        &self,
        asked: &[(&Self::Batch, f64)],
        conditions: &Self::Conditions,
    ) -> Result<Vec<Self::Batch>, Self::Error> {
        let Some((first, _)) = asked.first() else { return Ok(Vec::new()) };
        let under = self.reference_conditions(conditions, first.samples())?;
        let main = self.denoiser.denoise(asked, conditions)?;
        let reference = match &self.reference {
            Reference::Unconditional => self.denoiser.denoise(asked, &under)?,
            Reference::Network(other) => other.denoise(asked, &under)?,
        };
        let pair = |(d, reference): (&Self::Batch, &Self::Batch)| {
            D::Batch::combine(&[(self.weight, d), (1.0 - self.weight, reference)])
        };
        Ok(main.iter().zip(&reference).map(pair).collect())
    }

    fn differentiable(
        &self,
    ) -> Option<&dyn Differentiable<Batch = Self::Batch, Conditions = Self::Conditions, Error = Self::Error>> {
        let reference = match &self.reference {
            Reference::Unconditional => true,
            Reference::Network(other) => other.differentiable().is_some(),
        };
        (reference && self.denoiser.differentiable().is_some()).then_some(self)
    }
}

impl<D, R> Differentiable for Guided<D, R>
where
    D: Denoiser,
    R: Denoiser<Batch = D::Batch, Conditions = D::Conditions, Error = D::Error>,
{
    fn pullback(
        &self,
        x: &Self::Batch,
        sigma: f64,
        conditions: &Self::Conditions,
        cotangent: &Self::Batch,
    ) -> Result<(Self::Batch, f64), Self::Error> {
        let part = |weight: f64| D::Batch::combine(&[(weight, cotangent)]);
        let under = self.reference_conditions(conditions, x.samples())?;
        let zero = || (D::Batch::combine(&[(0.0, x)]), 0.0);
        let main = match self.denoiser.differentiable() {
            Some(denoiser) => denoiser.pullback(x, sigma, conditions, &part(self.weight))?,
            None => zero(),
        };
        let reference = match &self.reference {
            Reference::Unconditional => self.denoiser.differentiable(),
            Reference::Network(other) => other.differentiable(),
        };
        let reference = match reference {
            Some(reference) => reference.pullback(x, sigma, &under, &part(1.0 - self.weight))?,
            None => zero(),
        };
        Ok((D::Batch::combine(&[(1.0, &main.0), (1.0, &reference.0)]), main.1 + reference.1))
    }
}
