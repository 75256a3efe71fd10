//! What images are scored against: feature networks, and what they make of the data.

use std::cell::OnceCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

use fewstep_core::observe::Observer;
use fewstep_eval::features::{FeatureId, FeatureNetwork};
use fewstep_eval::{Collector, Keep, Reference};
use fewstep_io::{hash, npz};
use fewstep_nn::tch::{Device, Tensor};
use fewstep_nn::{Ranks, mixture};
use serde::{Deserialize, Serialize};

use crate::data::{has_extension, open_data};
use crate::error::{Context, Result, ensure};
use crate::features::{FeatureOptions, check_features};
use crate::models::{MIXTURES, OpenModel, is_built_in};
use crate::{assets, measure, pixels};

/// Seeds of a mixture's exact samples, apart from those that anyone samples with.
const EXACT_SEEDS: Range<u64> = (4 << 40)..(4 << 40) + 2000;

/// A feature network that scores images, with what it makes of the data.
pub struct ImageReference {
    /// The feature network.
    pub features: Box<dyn FeatureNetwork>,
    /// What tables call it.
    label: String,
    data: Data,
    /// Where that comes from.
    name: String,
    /// Fixes it: the hash of statistics, the fingerprint of a data set.
    hash: Option<String>,
}

/// What a feature network makes of the data.
enum Data {
    /// Nothing: images are compared with the teacher's alone.
    None,
    /// This.
    Known(Box<Reference>),
    /// What it makes of a mixture's exact samples, once somebody asks: they take a second.
    Exact { conditional: bool, device: Device, made: OnceCell<Box<Reference>> },
}

/// A reference by name and hash, as `run.json` keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceId {
    /// The feature network.
    pub features: FeatureId,
    /// Where what it is compared with comes from.
    pub reference: String,
    /// SHA-256 of its file, or the fingerprint of its images, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_sha256: Option<String>,
}

impl ReferenceId {
    /// Whether both are the same, whatever their files are called.
    pub fn same(&self, other: &Self) -> bool {
        let data = match (&self.reference_sha256, &other.reference_sha256) {
            (Some(a), Some(b)) => a == b,
            (None, None) => self.reference == other.reference,
            _ => false,
        };
        data && self.features == other.features
    }

    /// Whether both lists are the same.
    pub fn all_same(these: &[Self], others: &[Self]) -> bool {
        these.len() == others.len() && these.iter().zip(others).all(|(this, other)| this.same(other))
    }
}

/// How data sets that are references are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferenceOptions {
    /// Squares that their images are padded to.
    pub pad_to: Option<usize>,
    /// Images at once.
    pub batch: usize,
}

/// What images of a teacher alone are compared with.
const NO_DATA: &str = "no data";

impl ImageReference {
    /// These feature networks with what each makes of the data: a data set for all of them, or a file of statistics (or a data set)
    /// for each, in order; none compares images with the teacher's alone. For a built-in model both may be left out.
    ///
    /// # Errors
    /// If a file lacks, does not fit the model's images, or belongs to another network.
    pub fn open_all(
        opened: &OpenModel,
        features: &[FeatureOptions],
        references: &[PathBuf],
        options: ReferenceOptions,
        observer: &dyn Observer,
    ) -> Result<Vec<Self>> {
        if features.is_empty() {
            ensure!(
                references.is_empty() && is_built_in(&opened.name),
                "{} needs a feature network that scores its images (--features), and what they should be: statistics under it (made by \
                 `fewstep ref`) or a data set (--ref)",
                opened.name
            );
            return Ok(vec![Self::built_in(opened)?]);
        }
        let references = references_of(references, features.len())?;
        let open = |(features, reference): (&FeatureOptions, &Option<PathBuf>)| {
            Self::open(opened, features, reference.as_ref(), options, observer)
        };
        let mut all = features.iter().zip(&references).map(open).collect::<Result<Vec<Self>>>()?;
        let stem = |path: &PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let stems = features.iter().map(|features| features.file.as_ref().and_then(stem).unwrap_or_default());
        let networks: Vec<_> = all.iter().map(|reference| reference.features.id().clone()).zip(stems).collect();
        all.iter_mut().zip(labels(&networks)).for_each(|(reference, label)| reference.label = label);
        Ok(all)
    }

    fn open(
        opened: &OpenModel,
        features: &FeatureOptions,
        reference: Option<&PathBuf>,
        options: ReferenceOptions,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let shape = opened.pixel_shape()?;
        let features = features.open(shape, opened.denoiser().device())?;
        let label = features.id().name.clone();
        let Some(path) = reference else {
            return Ok(Self { features, label, data: Data::None, name: NO_DATA.to_owned(), hash: None });
        };
        let keep = Keep { features: true, ..Keep::default() };
        let ranks = opened.denoiser().ranks();
        let data = read_or_collect(path, &*features, shape, keep, options, (observer, &ranks))?;
        let name = path.display().to_string();
        check_features(&*features, shape, &data.statistics, &name)?;
        Ok(Self { features, label, hash: Some(data.name.clone()), data: Data::Known(Box::new(data)), name })
    }

    /// What comes with the library for a built-in model.
    pub(crate) fn built_in(opened: &OpenModel) -> Result<Self> {
        let shape = opened.pixel_shape()?;
        let device = opened.denoiser().device();
        let features = FeatureOptions::file(None).open(shape, device)?;
        let label = features.id().name.clone();
        if MIXTURES.contains(&opened.name.as_str()) {
            // a guided one should make what the mixture holds, too
            let conditional = opened.name == MIXTURES[1];
            let name = format!("{} exact samples", EXACT_SEEDS.count());
            let data = Data::Exact { conditional, device, made: OnceCell::new() };
            return Ok(Self { features, label, data, name, hash: None });
        }
        let name = format!("{} training images", assets::DATA_NAME);
        let data = Reference::new(&name, assets::reference()?);
        check_features(&*features, shape, &data.statistics, &name)?;
        Ok(Self { features, label, data: Data::Known(Box::new(data)), name, hash: None })
    }

    /// What the feature network makes of the data, with every image's features where they are at hand; none where images are compared
    /// with the teacher's alone.
    ///
    /// # Errors
    /// If it has to be made, and the network fails.
    pub fn data(&self) -> Result<Option<&Reference>> {
        let (conditional, device, made) = match &self.data {
            Data::None => return Ok(None),
            Data::Known(data) => return Ok(Some(data)),
            Data::Exact { conditional, device, made } => (*conditional, *device, made),
        };
        if made.get().is_none() {
            let model = mixture::patterns(conditional, device)?;
            let images =
                mixture::samples(&model, &EXACT_SEEDS.collect::<Vec<_>>())?.context("a mixture has samples")?;
            let _ = made.set(Box::new(of_images(&images, &*self.features, &self.name)?));
        }
        Ok(made.get().map(|data| &**data))
    }

    /// What tables call the feature network: its name, and more of it where others beside it have the same.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// By name and hash.
    pub fn id(&self) -> ReferenceId {
        ReferenceId {
            features: self.features.id().clone(),
            reference: self.name.clone(),
            reference_sha256: self.hash.clone(),
        }
    }
}

/// What tables call these feature networks, which have the stems of their files beside them: by their names; those that share one with the
/// stem, else with the beginning of the hash, else with the place in the list.
fn labels(networks: &[(FeatureId, String)]) -> Vec<String> {
    let forms = |(place, (FeatureId { name, sha256 }, stem)): (usize, &(FeatureId, String))| {
        [name.clone(), format!("{name}/{stem}"), format!("{name}/{sha256:.12}"), format!("{name}/{}", place + 1)]
    };
    let all: Vec<[String; 4]> = networks.iter().enumerate().map(forms).collect();
    let label = |own: &[String; 4]| {
        let alone = |form: &&String| all.iter().flatten().filter(|other| other == form).count() == 1;
        own.iter().find(alone).unwrap_or(&own[own.len() - 1]).clone()
    };
    all.iter().map(label).collect()
}

/// The reference of each of so many feature networks: one of its own, in order, or the same for all; none where there is none.
///
/// # Errors
/// If there are several, and not one for each.
pub fn references_of(references: &[PathBuf], networks: usize) -> Result<Vec<Option<PathBuf>>> {
    ensure!(
        references.len() <= 1 || references.len() == networks,
        "there are {networks} feature networks (--features) and {} references (--ref): name one data set for all, or one for each, in \
         the same order",
        references.len()
    );
    let of = |index: usize| references.get(index).or(references.first()).cloned();
    Ok((0..networks).map(of).collect())
}

/// Whether the images of a reference can be padded: those of a data set, where statistics hold none and arrays are used as they are.
pub fn can_be_padded(reference: &Path) -> bool {
    !has_extension(reference, "npz")
}

/// A reference from its file: statistics (.npz with mu and sigma), or a data set whose images go through the network.
///
/// # Errors
/// If it cannot be read, or its images have another shape (channels, height, width) than this one.
pub fn read_or_collect(
    path: &Path,
    network: &dyn FeatureNetwork,
    shape: [usize; 3],
    keep: Keep,
    options: ReferenceOptions,
    (observer, ranks): (&dyn Observer, &Ranks),
) -> Result<Reference> {
    ensure!(path.exists(), "the reference {} does not exist: check the path", path.display());
    let is_images = has_extension(path, "npz") && {
        let names = npz::names(path)?;
        names.iter().any(|name| name == "images" || name == "arr_0")
    };
    if has_extension(path, "npz") && !is_images {
        return Ok(Reference::read(path, &format!("sha256:{}", hash::sha256_file(path)?))?);
    }
    let pad_to = options.pad_to.filter(|_| can_be_padded(path));
    let dataset = open_data(path, pad_to, None)?;
    let found = measure::shape_of(&dataset);
    ensure!(
        found == shape,
        "the images are {} but those of the reference {} are {}: both sides must have one size and one number of channels (`fewstep \
         data --size` makes the one, padding of small images the other)",
        pixels::words(shape),
        path.display(),
        pixels::words(found)
    );
    let padded = pad_to.map_or(String::new(), |size| format!(" padded to {size}"));
    let name = format!("{}{padded}", dataset.fingerprint()?);
    let watched = ("reference", observer);
    let collected = measure::collect(&dataset, 0..dataset.len(), network, keep, options.batch, watched, ranks)?;
    Ok(Reference::from_collected(&name, collected))
}

/// What the network makes of f32 images `[N, C, H, W]`.
fn of_images(images: &Tensor, features: &dyn FeatureNetwork, name: &str) -> Result<Reference> {
    let mut collector = Collector::new(features, Keep { features: true, ..Keep::default() });
    for batch in images.split(250, 0) {
        collector.push_sampled(&batch)?;
    }
    Ok(Reference::from_collected(name, collector.finish()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feature_networks_of_one_architecture_are_told_apart() {
        let labels = |networks: &[(&str, &str, &str)]| {
            let network = |(name, hash, stem): &(&str, &str, &str)| {
                (FeatureId { name: (*name).to_owned(), sha256: hash.repeat(64) }, (*stem).to_owned())
            };
            super::labels(&networks.iter().map(network).collect::<Vec<_>>())
        };
        assert_eq!(labels(&[("small", "a", "x")]), ["small"]);
        assert_eq!(labels(&[("small", "a", "x"), ("other", "b", "x")]), ["small", "other"]);
        let three = [("small", "a", "x"), ("small", "b", "y"), ("other", "c", "x")];
        assert_eq!(labels(&three), ["small/x", "small/y", "other"]);
        let of_one_stem = [("small", "a", "x"), ("small", "b", "x"), ("small", "c", "z")];
        assert_eq!(labels(&of_one_stem), ["small/aaaaaaaaaaaa", "small/bbbbbbbbbbbb", "small/z"]);
        assert_eq!(labels(&[("small", "a", "x"); 2]), ["small/1", "small/2"], "one file beside two references");
    }
}
