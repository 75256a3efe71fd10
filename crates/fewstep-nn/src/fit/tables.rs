//! The bound's table e(sigma) of a network: one pass of forward evaluations, then phase 1 for every number of steps.

use fewstep_core::objective::BoundTable;
use fewstep_core::schedule::Schedule;
use serde::{Deserialize, Serialize};

use super::noised::{NoiseSharing, Noised, check_images_are_samples};
use crate::data::{EpochOrder, Images};
use crate::denoiser::TorchDenoiser;
use crate::error::Result;
use crate::random::{Purpose, Stream};

/// Size of the table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableConfig {
    /// Images, each evaluated once at every grid level.
    pub images: usize,
    /// Images at once.
    pub batch: usize,
    /// Seed of the choice of images and of the noise.
    pub seed: u64,
}

/// e(sigma) on `grid`. `progress(done, all)` counts images.
///
/// # Errors
/// If the images are not what the denoiser makes, or it fails.
pub fn tabulate(
    denoiser: &dyn TorchDenoiser,
    images: &Images,
    grid: Schedule,
    config: TableConfig,
    mut progress: impl FnMut(usize, usize),
) -> Result<BoundTable> {
    check_images_are_samples(denoiser.pixel_shape(), denoiser.spec())?;
    let total = config.images.clamp(1, images.len());
    let batch = config.batch.clamp(1, total);
    let mut order = EpochOrder::new(config.seed, images.len());
    let mut table = BoundTable::new(grid);
    let mut done = 0;
    while done < total {
        let count = batch.min(total - done);
        let mut stream = Stream::new(config.seed, Purpose::Table, done as u64);
        let minibatch = images.batch(&order.indices(done as u64, count), denoiser)?;
        let levels = table.grid().len();
        let mut noised = Noised::new(denoiser, minibatch, levels, NoiseSharing::Independent, &mut stream)?;
        table.add(count as u64, &mut noised)?;
        noised.check()?;
        done += count;
        progress(done, total);
    }
    Ok(table)
}
