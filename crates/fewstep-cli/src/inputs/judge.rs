//! What images of a model are judged by: a feature network, and statistics of what the model should make.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use fewstep_eval::features::{FeatureId, FeatureNetwork};
use fewstep_eval::{Collector, Keep, Statistics};
use fewstep_io::hash;
use fewstep_nn::mixture;
use fewstep_nn::tch::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{FeatureArgs, OpenModel, check_features, is_built_in};
use crate::assets;

/// Seeds of a mixture's exact samples, apart from those that anyone samples with.
const EXACT_SEEDS: Range<u64> = (4 << 40)..(4 << 40) + 5000;

/// A feature network with a reference under it.
pub struct Judge {
    /// The feature network.
    pub features: Box<dyn FeatureNetwork>,
    /// Statistics of what the model should make.
    pub reference: Statistics,
    /// Where they come from.
    pub reference_name: String,
}

/// A judge by name and hash, as `run.json` keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeId {
    /// The feature network.
    pub features: FeatureId,
    /// Where the reference comes from.
    pub reference: String,
    /// SHA-256 of its file, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_sha256: Option<String>,
}

impl Judge {
    /// The files given; for a built-in model they may be left out.
    pub fn open(
        opened: &OpenModel,
        features: Option<PathBuf>,
        reference: Option<&PathBuf>,
        resize: &str,
        device: Device,
    ) -> Result<Self> {
        ensure!(
            features.is_some() == reference.is_some() && (features.is_some() || is_built_in(&opened.name)),
            "{} needs statistics of what it should make (--ref, made by `fewstep ref`) and their feature network (--features)",
            opened.name
        );
        let shape = opened.model.image_shape().map(|size| size as usize);
        let features = FeatureArgs::file(features, resize).open(shape, device)?;
        let (reference, reference_name) = match reference {
            Some(path) => (Statistics::read(path)?, path.display().to_string()),
            None => match mixture::samples(&opened.model, &EXACT_SEEDS.collect::<Vec<_>>()) {
                Some(images) => (statistics(&images, &*features)?, format!("{} exact samples", images.size()[0])),
                None => (assets::reference()?, format!("{} training images", assets::DATA_NAME)),
            },
        };
        check_features(&*features, shape, &reference, &reference_name)?;
        Ok(Self { features, reference, reference_name })
    }

    /// The judge by name; `reference` is the file given, if any.
    pub fn named(&self, reference: Option<&PathBuf>) -> Result<JudgeId> {
        Ok(JudgeId {
            features: self.id().clone(),
            reference: self.reference_name.clone(),
            reference_sha256: reference.map(hash::sha256_file).transpose()?,
        })
    }

    /// Name and hash of the feature network.
    pub fn id(&self) -> &FeatureId {
        self.features.id()
    }
}

/// Statistics of f32 images `[N, C, H, W]`.
fn statistics(images: &Tensor, features: &dyn FeatureNetwork) -> Result<Statistics> {
    let mut collector = Collector::new(features, Keep::default());
    for batch in images.split(250, 0) {
        collector.push_sampled(&batch)?;
    }
    Ok(collector.finish()?.statistics)
}
