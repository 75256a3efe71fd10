//! What images of a model are scored against: a feature network, and statistics of what the model should make.

use std::ops::Range;
use std::path::PathBuf;

use fewstep_eval::features::{FeatureId, FeatureNetwork};
use fewstep_eval::{Collector, Keep, Statistics};
use fewstep_io::hash;
use fewstep_nn::mixture;
use fewstep_nn::tch::Tensor;
use serde::{Deserialize, Serialize};

use crate::assets;
use crate::error::{Result, ensure};
use crate::features::{FeatureOptions, check_features};
use crate::models::{MIXTURES, OpenModel, is_built_in};

/// Seeds of a mixture's exact samples, apart from those that anyone samples with.
const EXACT_SEEDS: Range<u64> = (4 << 40)..(4 << 40) + 5000;

/// A feature network with statistics under it.
pub struct ImageReference {
    /// The feature network.
    pub features: Box<dyn FeatureNetwork>,
    /// Statistics of what the model should make.
    pub statistics: Statistics,
    /// Where they come from.
    pub name: String,
    /// SHA-256 of their file, if they have one.
    sha256: Option<String>,
}

/// A reference by name and hash, as `run.json` keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceId {
    /// The feature network.
    pub features: FeatureId,
    /// Where the statistics come from.
    pub reference: String,
    /// SHA-256 of their file, if they have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_sha256: Option<String>,
}

impl ReferenceId {
    /// Whether both are the same, whatever their files are called.
    pub fn same(&self, other: &Self) -> bool {
        let statistics = match (&self.reference_sha256, &other.reference_sha256) {
            (Some(a), Some(b)) => a == b,
            (None, None) => self.reference == other.reference,
            _ => false,
        };
        statistics && self.features == other.features
    }
}

impl ImageReference {
    /// The files given; for a built-in model they may be left out.
    ///
    /// # Errors
    /// If a file lacks, does not fit the model's images, or belongs to another network.
    pub fn open(opened: &OpenModel, features: FeatureOptions, reference: Option<&PathBuf>) -> Result<Self> {
        ensure!(
            features.file.is_some() == reference.is_some() && (features.file.is_some() || is_built_in(&opened.name)),
            "{} needs statistics of what it should make (--ref, made by `fewstep ref`) and their feature network (--features)",
            opened.name
        );
        let shape = opened.pixel_shape()?;
        let features = features.open(shape, opened.denoiser().device())?;
        // a guided one should make what the mixture holds, too
        let exact = || -> Result<Option<Tensor>> {
            if !MIXTURES.contains(&opened.name.as_str()) {
                return Ok(None);
            }
            let model = mixture::patterns(opened.name == MIXTURES[1], opened.denoiser().device())?;
            Ok(mixture::samples(&model, &EXACT_SEEDS.collect::<Vec<_>>()))
        };
        let (statistics, name) = match reference {
            Some(path) => (Statistics::read(path)?, path.display().to_string()),
            None => match exact()? {
                Some(images) => (of_images(&images, &*features)?, format!("{} exact samples", images.size()[0])),
                None => (assets::reference()?, format!("{} training images", assets::DATA_NAME)),
            },
        };
        check_features(&*features, shape, &statistics, &name)?;
        let sha256 = reference.map(hash::sha256_file).transpose()?;
        Ok(Self { features, statistics, name, sha256 })
    }

    /// By name and hash.
    pub fn id(&self) -> ReferenceId {
        ReferenceId {
            features: self.features.id().clone(),
            reference: self.name.clone(),
            reference_sha256: self.sha256.clone(),
        }
    }
}

/// Statistics of f32 images `[N, C, H, W]`.
fn of_images(images: &Tensor, features: &dyn FeatureNetwork) -> Result<Statistics> {
    let mut collector = Collector::new(features, Keep::default());
    for batch in images.split(250, 0) {
        collector.push_sampled(&batch)?;
    }
    Ok(collector.finish()?.statistics)
}
