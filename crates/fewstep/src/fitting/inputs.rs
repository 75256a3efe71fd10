//! What a fit works with, as it is named: plans, a feature network, a reference.

use std::path::{Path, PathBuf};

use fewstep_core::observe::Observer;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_eval::features::FeatureNetwork;
use fewstep_io::hash;

use super::{FitTask, PlanFile};
use crate::error::{Context, Result, bail, ensure};
use crate::features::FeatureOptions;
use crate::models::{OpenModel, is_built_in};
use crate::plans::read_plan_for;
use crate::reference::{ImageReference, ReferenceOptions};

/// Reads plans that are tuned for: files, or run folders of `plan` with all that they hold.
///
/// # Errors
/// If one cannot be used on this model, or two have as many evaluations.
pub fn open_plans(paths: &[PathBuf], opened: &OpenModel) -> Result<Vec<(PlanFile, Plan)>> {
    let mut found: Vec<(PlanFile, Plan)> = Vec::new();
    for path in paths {
        let files = if path.is_dir() { plans_in(path)? } else { vec![path.clone()] };
        for name in files {
            let plan = read_plan_for(&name, opened.spec())?;
            Schedule::new(plan.sigmas()).with_context(|| {
                format!("{} cannot be tuned for: phase 2 needs a plan whose noise levels fall", name.display())
            })?;
            let same = found.iter().find(|(_, other)| other.nfe() == plan.nfe());
            if let Some((other, _)) = same {
                bail!(
                    "{} and {} are both of {} evaluations: tune for one of them at a time",
                    other.name.display(),
                    name.display(),
                    plan.nfe()
                );
            }
            found.push((PlanFile { sha256: hash::sha256_file(&name)?, name }, plan));
        }
    }
    Ok(found)
}

fn plans_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut plans: Vec<PathBuf> = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path().join("plan.json")))
        .collect::<std::io::Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| path.is_file())
        .collect();
    plans.sort();
    ensure!(
        !plans.is_empty(),
        "{} holds no plans: name a plan.json, or the folder of `fewstep plan`",
        folder.display()
    );
    Ok(plans)
}

/// The feature network of distances of features, and what scores the images of interpolations, as far as the task uses them;
/// data sets among the references are padded to squares of `pad_to`.
///
/// # Errors
/// If one is named that changes nothing, or cannot be used.
#[allow(clippy::type_complexity)]
pub fn open_inputs(
    task: &FitTask,
    opened: &OpenModel,
    features: &[FeatureOptions],
    (references, pad_to): (&[PathBuf], Option<usize>),
    observer: &dyn Observer,
) -> Result<(Option<Box<dyn FeatureNetwork>>, Vec<ImageReference>)> {
    let scores = task.interpolates_networks() || task.interpolates_levels() || task.chooses_plans();
    let compares = task.compares_features();
    ensure!(
        compares || features.is_empty() || !references.is_empty(),
        "--features is for --ref or for a distance of features (tune.distance, search.rollout.loss), and changes nothing here"
    );
    ensure!(
        scores || references.is_empty(),
        "--ref chooses among networks between the untuned and the tuned one, among levels between rho = 7 and those of the method \
         paper, or among plans (+nearest): the first two take interpolate.images above 0, no distance of features, and early_stop"
    );
    let network = match compares {
        true => {
            let shape = opened.pixel_shape()?;
            ensure!(
                opened.spec().shape == shape,
                "a distance of features needs a model whose samples are images, without a decoder"
            );
            ensure!(features.len() <= 1, "a distance of features is of one network: name one with --features");
            let features = features.first().cloned().unwrap_or_else(|| FeatureOptions::file(None));
            Some(features.open(shape, opened.denoiser().device())?)
        }
        false => None,
    };
    let known = !references.is_empty() || is_built_in(&opened.name);
    let references = match scores && known && opened.pixel_shape().is_ok() {
        true => {
            let options = ReferenceOptions { pad_to, batch: task.settings.batch };
            ImageReference::open_all(opened, features, references, options, observer)?
        }
        false => Vec::new(),
    };
    Ok((network, references))
}
