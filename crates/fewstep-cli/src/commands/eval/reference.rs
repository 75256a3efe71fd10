//! What the images are compared with: statistics, a data set, or what comes with the program.

use anyhow::{Result, ensure};
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::{Keep, Reference};
use fewstep_io::{hash, npz};

use super::Args;
use super::source::shape_of;
use crate::inputs::{check_features, has_extension, open_data};
use crate::{assets, measure, pixels, ui};

/// The reference, and what it is called in the output.
pub fn open(args: &Args, network: &dyn FeatureNetwork, shape: [usize; 3], need: Keep) -> Result<(Reference, String)> {
    let (reference, place) = find(args, network, shape, need)?;
    check_features(network, shape, &reference.statistics, &place)?;
    reference.check_holds(need)?;
    Ok((reference, place))
}

/// Tells the user what is to be known of the reference beside the result.
pub fn remark(reference: &Reference, place: &str, network: &dyn FeatureNetwork) {
    if reference.statistics.features.is_none() {
        ui::note(format!(
            "note: {place} does not say which features it is of; that they are those of {} could be checked by their number only",
            network.id().name
        ));
    }
    measure::warn_if_few(&reference.statistics);
}

fn find(args: &Args, network: &dyn FeatureNetwork, shape: [usize; 3], need: Keep) -> Result<(Reference, String)> {
    let Some(path) = &args.reference else {
        ensure!(args.features.features.is_none(), "with --features there is no default reference: give one with --ref");
        let name = format!("sha256:{}", hash::sha256_bytes(assets::REFERENCE));
        return Ok((Reference::new(&name, assets::reference()?), format!("{} training images", assets::DATA_NAME)));
    };
    ensure!(path.exists(), "the reference {} does not exist: check the path", path.display());
    let place = path.display().to_string();
    let is_images = has_extension(path, "npz") && {
        let names = npz::names(path)?;
        names.iter().any(|name| name == "images" || name == "arr_0")
    };
    if has_extension(path, "npz") && !is_images {
        let name = format!("sha256:{}", hash::sha256_file(path)?);
        return Ok((Reference::read(path, &name)?, place));
    }
    let pad_to = args.pad_to.filter(|_| !is_images);
    let dataset = open_data(path, pad_to, None)?;
    let found = shape_of(&dataset);
    ensure!(
        found == shape,
        "the images are {} but those of the reference {place} are {}: both sides must have one size and one number of channels \
         (--pad-to pads data sets)",
        pixels::words(shape),
        pixels::words(found)
    );
    let padded = pad_to.map_or(String::new(), |size| format!(" padded to {size}"));
    let name = format!("{}{padded}", dataset.fingerprint()?);
    let collected = measure::collect(&dataset, 0..dataset.len(), network, need, args.latents.batch, "reference")?;
    Ok((Reference::from_collected(&name, collected), place))
}
