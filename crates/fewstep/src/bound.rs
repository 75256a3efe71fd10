//! The bound's table e(sigma) of a denoiser (Eq. 12), from training images.

use fewstep_core::denoiser::{Levels, Spec};
use fewstep_core::objective::BoundTable;
use fewstep_core::observe::{Observer, Progress};
use fewstep_core::schedule::{Schedule, log_snr};
use fewstep_nn::TorchDenoiser;
use fewstep_nn::data::Images;
use fewstep_nn::fit::{TableConfig, tabulate};

use crate::error::{Error, Result, ensure};

/// Levels of the table where none are asked for.
pub const TABLE_GRID: usize = 65;

/// The table's levels: so many, uniform in log sigma over the denoiser's range, as far as it knows them.
///
/// # Errors
/// If there are too few.
pub fn table_levels(levels: &Levels, grid: usize) -> Result<Schedule> {
    let (low, high) = levels.sampling;
    Ok(log_snr(grid, low, high)?.round_grid(levels)?)
}

/// e(sigma) of `denoiser` at `grid` levels.
///
/// # Errors
/// If its samples are no images, an evaluation fails, or an answer is not finite.
pub fn bound_table(
    denoiser: &dyn TorchDenoiser,
    images: &Images,
    grid: usize,
    config: TableConfig,
    observer: &dyn Observer,
) -> Result<BoundTable> {
    let spec: &Spec = denoiser.spec();
    ensure!(
        denoiser.pixel_shape().is_some_and(|shape| *spec.shape == shape),
        "the method bound needs a model whose samples are images themselves: noise is added to training images"
    );
    let mut progress = Progress::new(observer, "table of e(sigma)", "img", config.images as u64, 0);
    let levels = table_levels(&spec.levels, grid)?;
    let table = tabulate(denoiser, images, levels, config, |done, _| progress.set(done as u64, ""))?;
    table.check().map_err(|error| Error::Input(error.to_string()))?;
    Ok(table)
}
