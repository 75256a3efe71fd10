//! What images start from: seeds, or latents from a file.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use fewstep_core::plan::Plan;
use fewstep_io::hash;
use fewstep_nn::sample::{Seeded, sample_finite};
use fewstep_nn::tch::{Device, Tensor};
use fewstep_nn::{Error, Model};

use super::{Arrays, Numbers};
use crate::ui;

/// Which images to make.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Images")]
pub struct LatentArgs {
    /// Seeds, one an image: 0-63, or 5,8, or 0-3,10
    #[arg(long, value_name = "LIST", default_value = "0-63")]
    pub seeds: Numbers,
    /// Class of every image [default: each image's own, drawn from its seed]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub class: Option<i64>,
    /// Start from the array `latents` [N, C, H, W] (unit normal) of this npz file instead of seeds
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    pub latents: Option<PathBuf>,
    /// Images at once
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch: usize,
}

/// The starting points of images, in order.
#[derive(Debug)]
pub enum Latents {
    /// One seed an image, and one class for all or each its own.
    Seeds { seeds: Vec<u64>, class: Option<i64> },
    /// `latents` `[N, C, H, W]`, `labels` `[N, label_dim]`.
    Given { latents: Tensor, labels: Option<Tensor>, sha256: String },
}

impl LatentArgs {
    /// Reads and checks what images of `model` start from.
    pub fn resolve(&self, model: &Model) -> Result<Latents> {
        ensure!(self.batch > 0, "--batch must be at least 1");
        if let Some(class) = self.class {
            ensure!(
                model.one_hot(&[class])?.is_some(),
                "--class is for class-conditional models, and this one knows no classes"
            );
            if model.trained_classes().is_some_and(|trained| !trained.contains(&class)) {
                ui::note(format!("warning: the model was trained on no image of class {class}"));
            }
        }
        let Some(path) = &self.latents else {
            return Ok(Latents::Seeds { seeds: self.seeds.0.clone(), class: self.class });
        };
        let file = Arrays::read(path)?;
        let latents = file.images("latents", model)?;
        let count = latents.size()[0];
        let labels = match (self.class, file.class_labels(model, count as usize)?) {
            (Some(class), None) => model.one_hot(&vec![class; count as usize])?,
            (None, labels) => labels,
            (Some(_), Some(_)) => anyhow::bail!(
                "--class and the array `class_labels` of {} both name classes: leave one out",
                path.display()
            ),
        };
        ensure!(
            labels.is_some() || model.config().label_dim == 0,
            "the model is class-conditional: give a class with --class, or an array `class_labels` [{count}, {}] in {}",
            model.config().label_dim,
            path.display()
        );
        Ok(Latents::Given { latents, labels, sha256: hash::sha256_file(path)? })
    }
}

impl Latents {
    /// Number of images.
    pub fn len(&self) -> usize {
        match self {
            Self::Seeds { seeds, .. } => seeds.len(),
            Self::Given { latents, .. } => latents.size()[0] as usize,
        }
    }

    /// The number under which an image is known: its seed, or its place in the file.
    pub fn number(&self, index: usize) -> u64 {
        match self {
            Self::Seeds { seeds, .. } => seeds.get(index).copied().unwrap_or_default(),
            Self::Given { .. } => index as u64,
        }
    }

    /// The class of each image; empty where there are none.
    pub fn classes(&self, model: &Model) -> Vec<i64> {
        match self {
            Self::Seeds { seeds, class } => Seeded { seeds, class: *class, batch: 1 }.classes(model),
            Self::Given { labels: Some(labels), .. } => Vec::try_from(labels.argmax(1, false)).unwrap_or_default(),
            Self::Given { labels: None, .. } => Vec::new(),
        }
    }

    /// The images at `indices`, f32 `[N, C, H, W]` on the CPU, in one batch.
    ///
    /// # Errors
    /// If one of them is not finite, which a sampler that does not suit the model can bring about.
    pub fn images(&self, model: &Model, plan: &Plan, indices: &[usize]) -> Result<Tensor> {
        let images = match self {
            Self::Seeds { class, .. } => {
                let seeds: Vec<u64> = indices.iter().map(|&index| self.number(index)).collect();
                Seeded { seeds: &seeds, class: *class, batch: seeds.len() }.collect(model, plan)
            }
            Self::Given { latents, labels, .. } => {
                let rows = Tensor::from_slice(&indices.iter().map(|&index| index as i64).collect::<Vec<_>>());
                let labels = labels
                    .as_ref()
                    .map(|labels| labels.to_device(Device::Cpu).index_select(0, &rows).to_device(model.device()));
                let name = |row: usize| format!("the image of latent {}", indices[row]);
                sample_finite(model, plan, &latents.index_select(0, &rows), labels.as_ref(), name)
                    .map(|images| images.to_device(Device::Cpu))
            }
        };
        images.map_err(|error| match error {
            Error::NotFiniteImage { .. } => {
                anyhow::anyhow!("{error}; try another --solver, more --steps or --precision f32")
            }
            error => error.into(),
        })
    }
}
