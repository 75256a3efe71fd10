//! Data sets as they are named on the command line.

use std::path::PathBuf;

use anyhow::Result;
use fewstep::data::open_data;
use fewstep_io::dataset::Dataset;

/// A data set and how it is read.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Data")]
pub struct DataArgs {
    /// Data set: EDM zip, image folder, IDX file or folder, CIFAR-10 archive, npz of images
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// Pad images with zeros to squares of this size (Fashion-MNIST: 32)
    #[arg(long, value_name = "PIXELS")]
    pub pad_to: Option<usize>,
}

impl DataArgs {
    /// Opens the data set, or so many of its images.
    pub fn open(&self, max_images: Option<usize>) -> Result<Dataset> {
        Ok(open_data(&self.data, self.pad_to, max_images)?)
    }
}
