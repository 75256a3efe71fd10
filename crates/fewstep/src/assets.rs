//! What comes with the library: a small model of Fashion-MNIST and what is needed to score it.
//!
//! How each file was made is written in `assets/README.md`.

use std::path::Path;

use fewstep_eval::Statistics;
use fewstep_eval::features::{FeatureNetwork, SmallCnn};
use fewstep_io::dataset::{Dataset, DatasetOptions};
use fewstep_nn::tch::Device;

use crate::error::Result;

/// The denoiser, EMA weights in f16.
pub const MODEL: &[u8] = include_bytes!("../assets/model.safetensors");
/// A classifier of the training images whose last hidden layer gives features.
pub const FEATURES: &[u8] = include_bytes!("../assets/features.safetensors");
/// Mean and covariance of the features of the training images.
pub const REFERENCE: &[u8] = include_bytes!("../assets/reference.npz");
/// The test images and their labels, as they are published.
pub const TEST_IMAGES: [&[u8]; 2] =
    [include_bytes!("../assets/t10k-images-idx3-ubyte.gz"), include_bytes!("../assets/t10k-labels-idx1-ubyte.gz")];

/// Channels, height and width of the images that model, features and reference are for.
pub const IMAGE_SHAPE: [usize; 3] = [1, 32, 32];
/// What the data set is called in reports.
pub const DATA_NAME: &str = "fashion-mnist";

/// The feature network.
pub fn features(device: Device) -> Result<Box<dyn FeatureNetwork>> {
    Ok(Box::new(SmallCnn::from_bytes(FEATURES, Path::new("features.safetensors"), device)?))
}

/// Statistics of the 60,000 training images under [`features`].
pub fn reference() -> Result<Statistics> {
    Ok(Statistics::from_bytes(REFERENCE, "reference.npz")?)
}

/// The 10,000 test images with their labels, padded to 32x32, in memory.
pub fn test_images() -> Result<Dataset> {
    let [images, labels] = TEST_IMAGES;
    let options = DatasetOptions { pad_to: Some(IMAGE_SHAPE[1]), ..DatasetOptions::default() };
    let images = Dataset::from_idx(DATA_NAME, images, labels, &options)?.load_all()?;
    Ok(Dataset::from_images(DATA_NAME, images)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewstep_nn::tch::Tensor;

    #[test]
    fn features_and_reference_belong_together() {
        let (network, reference) = (features(Device::Cpu).unwrap(), reference().unwrap());
        assert_eq!(reference.features.as_ref(), Some(network.id()));
        assert_eq!(reference.num_images, Some(60_000));
        let images = test_images().unwrap();
        let batch: Vec<u8> = (0..4).flat_map(|index| images.image(index).unwrap()).collect();
        let batch = Tensor::from_slice(&batch).view([4, 1, 32, 32]);
        assert_eq!(network.features(&batch).unwrap().size(), [4, reference.dim() as i64]);
    }

    #[test]
    fn the_test_images_are_all_there() {
        let images = test_images().unwrap();
        assert_eq!(
            (images.len(), images.channels(), images.resolution(), images.num_classes()),
            (10_000, 1, (32, 32), 10)
        );
        assert_eq!(images.labels().unwrap().iter().filter(|label| **label == 9).count(), 1000);
        // The first test image is an ankle boot, and its frame is padding.
        let first = images.image(0).unwrap();
        assert_eq!(images.label(0), Some(9));
        assert!(first[..64].iter().all(|&v| v == 0) && first.iter().any(|&v| v > 200));
    }
}
