//! A model that is compared, with what its samples are scored by.

use std::path::PathBuf;

use fewstep_core::observe::Observer;
use fewstep_io::dataset::Dataset;
use fewstep_nn::data::Images;
use serde::{Deserialize, Serialize};

use crate::data::DataId;
use crate::error::Result;
use crate::features::FeatureOptions;
use crate::models::{ModelId, OpenModel};
use crate::reference::{ImageReference, ReferenceId, ReferenceOptions};
use crate::runs::ResumeError;

/// A model that is compared, with what its samples are scored by.
pub struct Subject {
    /// The model.
    pub model: OpenModel,
    /// What it computes in, as [`ModelId`] keeps it.
    pub precision: String,
    /// Samples that are made and measured at once.
    pub batch: usize,
    /// What scores its images; none where its samples are no images, which leaves rollout errors.
    pub references: Vec<ImageReference>,
    /// Training images, if a method needs any, and where they are from.
    pub data: Option<(Images, DataId)>,
}

/// The same by name and hash, as `run.json` keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubjectId {
    /// The model.
    pub model: ModelId,
    /// What scores its images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<ReferenceId>,
    /// Training images that methods needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataId>,
}

impl Subject {
    /// A model that computes in `precision`, so many samples at once, scored by these feature networks and references if its samples
    /// are images: for a built-in model no files are needed.
    ///
    /// # Errors
    /// As [`ImageReference::open_all`].
    pub fn open(
        model: OpenModel,
        (precision, batch): (&str, usize),
        features: &[FeatureOptions],
        (references, pad_to): (&[PathBuf], Option<usize>),
        observer: &dyn Observer,
    ) -> Result<Self> {
        let references = match model.denoiser().pixel_shape() {
            Some(_) => {
                let options = ReferenceOptions { pad_to, batch };
                ImageReference::open_all(&model, features, references, options, observer)?
            }
            None => Vec::new(),
        };
        Ok(Self { model, precision: precision.to_owned(), batch, references, data: None })
    }

    /// With training images.
    ///
    /// # Errors
    /// If they do not fit the model.
    pub fn with_data(self, data: &Dataset) -> Result<Self> {
        let images = Images::for_model(data.load_all()?, self.model.denoiser())?;
        Ok(Self { data: Some((images, DataId::of(data)?)), ..self })
    }

    /// What must be said of how it is scored.
    pub fn note(&self) -> Option<String> {
        self.references.is_empty().then(|| {
            format!(
                "{} makes samples of shape {:?}, which are no images, and has no decoder: it is compared by rollout errors alone",
                self.model.name,
                self.model.spec().shape
            )
        })
    }

    /// By name and hash.
    pub fn id(&self) -> SubjectId {
        SubjectId {
            model: self.model.id(&self.precision),
            references: self.references.iter().map(ImageReference::id).collect(),
            data: self.data.as_ref().map(|(_, id)| id.clone()),
        }
    }
}

impl SubjectId {
    /// Goes on from `earlier`, of which cells are there already: methods that need data may join those that do not.
    pub(super) fn continuing(&mut self, earlier: Self) -> std::result::Result<(), ResumeError> {
        let name = &self.model.name;
        let no = |why: String| Err(ResumeError(why));
        if !self.model.same(&earlier.model) {
            return no(match *name == earlier.model.name {
                true => format!("the model {name} has another file, precision or guidance than it had"),
                false => format!("the model {name} stands where {} stood", earlier.model.name),
            });
        }
        if !ReferenceId::all_same(&self.references, &earlier.references) {
            return no(format!("{name} is scored against another reference or by other features"));
        }
        match (&self.data, earlier.data) {
            (Some(now), Some(then)) if now.sha256 != then.sha256 => {
                no(format!("the training data of {name} are others than they were"))
            }
            (None, then) => {
                self.data = then; // cells that an earlier run made from them are still there
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
