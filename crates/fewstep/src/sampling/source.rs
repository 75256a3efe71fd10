//! What samples start from: seeds, or latents of a file.

use std::ops::Range;
use std::path::Path;

use fewstep_core::denoiser::Spec;
use fewstep_core::execute::{Start, execute};
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
use crate::pixels;

/// What samples start from, in order.
#[derive(Debug)]
pub enum Source {
    /// One seed a sample, and one class for all or each its own.
    Seeds {
        /// The seeds.
        seeds: Vec<u64>,
        /// The class of all.
        class: Option<usize>,
    },
    /// Latents.
    Latents {
        /// `[N, ...]`, unit normal.
        latents: Tensor,
        /// The class of each.
        labels: Labels,
        /// The class of all, where one was asked for.
        class: Option<usize>,
        /// SHA-256 of their file.
        sha256: String,
    },
}

impl Source {
    /// Seeds, one a sample; their classes are drawn from them where none is asked for.
    ///
    /// # Errors
    /// If the model has no such class.
    pub fn seeds(seeds: Vec<u64>, class: Option<i64>, spec: &Spec) -> Result<Self> {
        Ok(Self::Seeds { seeds, class: checked(class, spec)? })
    }

    /// The array `latents` `[N, ...]` of an npz file, with its `class_labels` `[N, classes]` if no class is asked for.
    ///
    /// # Errors
    /// If the file does not fit the model, or says nothing of classes to one that needs them.
    pub fn latents(path: &Path, class: Option<i64>, spec: &Spec) -> Result<Self> {
        let class = checked(class, spec)?;
        let file = Arrays::read(path)?;
        let latents = file.samples("latents", spec)?;
        let count = latents.size()[0] as usize;
        let labels = match (class, file.class_labels(spec, count)?) {
            (Some(class), None) => Some(one_hot(&vec![class as i64; count], spec.classes, Device::Cpu)?),
            (None, labels) => labels,
            (Some(_), Some(_)) => {
                bail!("--class and the array `class_labels` of {} both name classes: leave one out", path.display())
            }
        };
        ensure!(
            labels.is_some() || spec.classes == 0,
            "the model is class-conditional: give a class with --class, or an array `class_labels` [{count}, {}] in {}",
            spec.classes,
            path.display()
        );
        Ok(Self::Latents { latents, labels: Labels(labels), class, sha256: hash::sha256_file(path)? })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        match self {
            Self::Seeds { seeds, .. } => seeds.len(),
            Self::Latents { latents, .. } => latents.size().first().map_or(0, |count| *count as usize),
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
            Self::Latents { .. } => index as u64,
        }
    }

    /// A sample in words.
    pub(super) fn name(&self, index: usize) -> String {
        match self {
            Self::Seeds { .. } => format!("the sample of seed {}", self.number(index)),
            Self::Latents { .. } => format!("the sample of latent {index}"),
        }
    }

    /// The lowest and the highest number of a range of the samples: seeds may come in any order.
    pub fn ends(&self, range: Range<usize>) -> [u64; 2] {
        let ends = range.map(|index| self.number(index)).fold(None, |ends: Option<[u64; 2]>, number| {
            let [low, high] = ends.unwrap_or([number; 2]);
            Some([low.min(number), high.max(number)])
        });
        ends.unwrap_or_default()
    }

    /// The class of all samples, where one was asked for.
    pub fn class(&self) -> Option<usize> {
        match self {
            Self::Seeds { class, .. } | Self::Latents { class, .. } => *class,
        }
    }

    /// SHA-256 of the file that latents come from.
    pub fn sha256(&self) -> Option<&str> {
        match self {
            Self::Seeds { .. } => None,
            Self::Latents { sha256, .. } => Some(sha256),
        }
    }

    /// The samples at `indices` in one batch, and the class of each, empty where there are none.
    pub(crate) fn samples(
        &self,
        denoiser: &dyn TorchDenoiser,
        plan: &Plan,
        indices: &[usize],
        observer: &dyn Observer,
    ) -> Result<(Batch, Vec<i64>)> {
        let seeded = match self {
            Self::Seeds { class, .. } => {
                let seeds: Vec<u64> = indices.iter().map(|&index| self.number(index)).collect();
                match class {
                    Some(class) => Seeded::with_class(&denoiser, &seeds, *class, observer)?,
                    None => Seeded::new(&denoiser, &seeds, observer)?,
                }
            }
            Self::Latents { latents, labels, .. } => {
                let rows = Tensor::from_slice(&indices.iter().map(|&index| index as i64).collect::<Vec<_>>());
                let picked = |tensor: &Tensor| -> Result<Tensor> {
                    Ok(tensor.f_index_select(0, &rows)?.f_to_device(denoiser.device())?)
                };
                let labels = Labels(labels.0.as_ref().map(picked).transpose()?);
                Seeded::from_latents(&denoiser, Batch(picked(latents)?), labels, observer)
            }
        };
        let samples = seeded.run(plan)?;
        if let Some(row) = pixels::first_not_finite(&samples.0)? {
            let level = lost_at(&seeded, plan)?;
            bail!(
                "{} has values that are not finite{}: this sampler is not stable on this model; try another --solver, more \
                 --steps or --precision f32",
                self.name(indices[row]),
                level.map_or_else(String::new, |sigma| format!(", from the noise level {sigma:.4} on"))
            );
        }
        let classes = match &seeded.conditions().0 {
            Some(labels) => Vec::try_from(labels.f_argmax(1, false)?.f_to_device(Device::Cpu)?)?,
            None => Vec::new(),
        };
        Ok((samples, classes))
    }
}

/// The first noise level at which a state or the network's output is not finite, of a run that is made once more to see it.
fn lost_at(seeded: &Seeded<'_, &dyn TorchDenoiser>, plan: &Plan) -> Result<Option<f64>> {
    let finite = |batch: &Batch| batch.0.isfinite().all().int64_value(&[]) == 1;
    let constant = plan.constant.as_ref().map(|constant| seeded.constant(constant)).transpose()?;
    let start = Start { latent: seeded.latents(), constant: constant.as_ref() };
    let mut level = None;
    execute(plan, start, |x: &Batch, sigma| {
        let output = seeded.denoised(x, sigma)?;
        if level.is_none() && !(finite(x) && finite(&output)) {
            level = Some(sigma);
        }
        Ok::<_, fewstep_search::Error>(output)
    })
    .map_err(fewstep_search::Error::from)?;
    Ok(level)
}

/// A class that the model has.
fn checked(class: Option<i64>, spec: &Spec) -> Result<Option<usize>> {
    if let Some(class) = class {
        let _ = one_hot(&[class], spec.classes, Device::Cpu)?;
    }
    Ok(class.map(|class| class as usize))
}
