//! What samples start from: seeds, or latents from a file.

use std::path::Path;

use fewstep_core::denoiser::Spec;
use fewstep_core::observe::Observer;
use fewstep_core::plan::Plan;
use fewstep_io::hash;
use fewstep_nn::denoiser::one_hot;
use fewstep_nn::tch::{Device, Tensor};
use fewstep_nn::tensor::Batch;
use fewstep_nn::{Labels, TorchDenoiser};
use fewstep_search::Seeded;

use crate::arrays::Arrays;
use crate::error::{Result, bail, ensure};

/// The starting points of samples, in order.
#[derive(Debug)]
pub enum Latents {
    /// One seed a sample.
    Seeds {
        /// The seeds.
        seeds: Vec<u64>,
        /// One class for all; without, each seed has its own.
        class: Option<i64>,
    },
    /// Latents of a file.
    Given {
        /// `[N, ...shape]`, unit normal, on the CPU.
        latents: Tensor,
        /// `[N, classes]`, on the CPU; none without classes.
        labels: Option<Tensor>,
        /// SHA-256 of the file.
        sha256: String,
    },
}

impl Latents {
    /// Seeds for a denoiser: all of one class, or each of its own.
    ///
    /// # Errors
    /// If the denoiser knows no such class.
    pub fn of_seeds(seeds: Vec<u64>, class: Option<i64>, spec: &Spec) -> Result<Self> {
        check_class(class, spec)?;
        Ok(Self::Seeds { seeds, class })
    }

    /// The array `latents` of an npz file, with its `class_labels` or one class for all.
    ///
    /// # Errors
    /// If the arrays do not fit the denoiser, or classes lack or are named twice.
    pub fn of_file(path: &Path, class: Option<i64>, spec: &Spec) -> Result<Self> {
        check_class(class, spec)?;
        let file = Arrays::read(path)?;
        let latents = file.samples("latents", spec)?;
        let count = latents.size()[0];
        let labels = match (class, file.class_labels(spec, count as usize)?) {
            (Some(class), None) => Some(one_hot(&vec![class; count as usize], spec.classes, Device::Cpu)?),
            (None, labels) => labels,
            (Some(_), Some(_)) => bail!(
                "a class for all and the array `class_labels` of {} both name classes: leave one out",
                path.display()
            ),
        };
        ensure!(
            labels.is_some() || spec.classes == 0,
            "the model is class-conditional: give a class with --class, or an array `class_labels` [{count}, {}] in {}",
            spec.classes,
            path.display()
        );
        Ok(Self::Given { latents, labels, sha256: hash::sha256_file(path)? })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        match self {
            Self::Seeds { seeds, .. } => seeds.len(),
            Self::Given { latents, .. } => latents.size()[0] as usize,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number under which a sample is known: its seed, or its place in the file.
    pub fn number(&self, index: usize) -> u64 {
        match self {
            Self::Seeds { seeds, .. } => seeds.get(index).copied().unwrap_or_default(),
            Self::Given { .. } => index as u64,
        }
    }

    /// The one class of all samples, if that was asked for.
    pub fn class(&self) -> Option<i64> {
        match self {
            Self::Seeds { class, .. } => *class,
            Self::Given { .. } => None,
        }
    }

    /// The class of each sample; empty where there are none.
    ///
    /// # Errors
    /// If the denoiser has no conditions for the seeds.
    pub fn classes(&self, denoiser: &dyn TorchDenoiser) -> Result<Vec<i64>> {
        let labels = match self {
            Self::Seeds { seeds, class: Some(class) } => return Ok(vec![*class; seeds.len()]),
            Self::Seeds { seeds, class: None } => denoiser.conditions(seeds)?.0,
            Self::Given { labels, .. } => labels.as_ref().map(Tensor::shallow_clone),
        };
        let Some(labels) = labels else { return Ok(Vec::new()) };
        Ok(Vec::try_from(labels.f_argmax(1, false)?.f_to_device(Device::Cpu)?)?)
    }

    /// What `plan` makes of the starting points at `indices`, in one batch.
    ///
    /// # Errors
    /// If the plan does not fit, the denoiser fails, the observer asks for the end, or a sample is not finite, which a sampler that
    /// does not suit the model can bring about.
    pub fn samples(
        &self,
        denoiser: &dyn TorchDenoiser,
        plan: &Plan,
        indices: &[usize],
        observer: &dyn Observer,
    ) -> Result<Batch> {
        let (latents, conditions) = self.start(denoiser, indices)?;
        let samples = Seeded::with(&denoiser, latents, conditions, observer).run(plan)?;
        let finite = samples.0.isfinite().flatten(1, -1).all_dim(1, false);
        let bad = indices.iter().enumerate().find(|(row, _)| finite.int64_value(&[*row as i64]) == 0);
        if let Some((_, &index)) = bad {
            bail!(
                "image {} has values that are not finite: this sampler is not stable on this model; try another --solver, more \
                 --steps or --precision f32",
                self.number(index)
            );
        }
        Ok(samples)
    }

    /// Unit normal noise, and the conditions.
    fn start(&self, denoiser: &dyn TorchDenoiser, indices: &[usize]) -> Result<(Batch, Labels)> {
        match self {
            Self::Seeds { class, .. } => {
                let seeds: Vec<u64> = indices.iter().map(|&index| self.number(index)).collect();
                let conditions = match class {
                    Some(class) => denoiser.same_condition(usize::try_from(*class).ok(), seeds.len())?,
                    None => denoiser.conditions(&seeds)?,
                };
                Ok((denoiser.latents(&seeds)?, conditions))
            }
            Self::Given { latents, labels, .. } => {
                let rows = Tensor::from_slice(&indices.iter().map(|&index| index as i64).collect::<Vec<_>>());
                let rows_of = |tensor: &Tensor| {
                    tensor.f_index_select(0, &rows).and_then(|rows| rows.f_to_device(denoiser.device()))
                };
                Ok((Batch(rows_of(latents)?), Labels(labels.as_ref().map(rows_of).transpose()?)))
            }
        }
    }
}

/// Refuses a class that a denoiser does not know.
fn check_class(class: Option<i64>, spec: &Spec) -> Result<()> {
    let Some(class) = class else { return Ok(()) };
    ensure!(spec.classes > 0, "--class is for class-conditional models, and this one knows no classes");
    let _ = one_hot(&[class], spec.classes, Device::Cpu)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use fewstep_core::observe::Silent;

    use super::*;
    use crate::models::{MIXTURES, ModelOptions, open_model};
    use crate::plans;

    #[test]
    fn a_sample_depends_on_its_seed_and_class_alone() {
        let opened = open_model(MIXTURES[1], &ModelOptions::default()).unwrap();
        let (denoiser, spec) = (opened.denoiser(), opened.spec());
        let plan = plans::teacher(&denoiser, 3).unwrap();
        let samples = |class: Option<i64>, indices: &[usize]| {
            let latents = Latents::of_seeds(vec![7, 3, 5], class, spec).unwrap();
            latents.samples(denoiser, &plan, indices, &Silent).unwrap().0
        };
        let (all, two) = (samples(None, &[0, 1, 2]), samples(None, &[2, 0]));
        assert!((all.get(2) - two.get(0)).abs().max().double_value(&[]) < 1e-5);
        assert!((all.get(0) - two.get(1)).abs().max().double_value(&[]) < 1e-5);
        let own = Latents::of_seeds(vec![5], None, spec).unwrap().classes(denoiser).unwrap()[0];
        let given = [own, (own + 1) % spec.classes as i64].map(|class| samples(Some(class), &[2]).get(0));
        assert!((all.get(2) - &given[0]).abs().max().double_value(&[]) < 1e-5);
        assert!((all.get(2) - &given[1]).abs().max().double_value(&[]) > 1e-2);
    }

    #[test]
    fn classes_that_are_not_there_are_refused() {
        let spec = |name: &str| open_model(name, &ModelOptions::default()).unwrap().spec().clone();
        let error = |name: &str, class| Latents::of_seeds(vec![0], Some(class), &spec(name)).unwrap_err().to_string();
        assert!(error(MIXTURES[0], 0).contains("knows no classes"));
        assert!(error(MIXTURES[1], -1).contains("out of range"));
    }
}
