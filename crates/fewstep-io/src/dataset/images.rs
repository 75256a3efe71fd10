//! Images in memory.

use crate::{Error, Result};

/// A batch of images of one size, u8 `[count, channels, height, width]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// The pixels, row-major.
    pub data: Vec<u8>,
    /// Channels, 1 or 3.
    pub channels: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Class of each image.
    pub labels: Option<Vec<u32>>,
    /// Number of classes; 0 without labels.
    pub num_classes: usize,
}

impl Images {
    /// Images from their pixels; the number of classes is one more than the largest label.
    ///
    /// # Errors
    /// If `data` is not a whole number of images or there is not one label for each.
    pub fn new(data: Vec<u8>, channels: usize, height: usize, width: usize, labels: Option<Vec<u32>>) -> Result<Self> {
        let wrong = |reason: String| Error::format("batch of images", "memory", reason);
        let size = channels.checked_mul(height).and_then(|n| n.checked_mul(width)).filter(|&size| size > 0);
        let count = match size {
            Some(size) if data.len().is_multiple_of(size) => data.len() / size,
            _ => {
                let len = data.len();
                return Err(wrong(format!("{len} bytes are no whole number of {channels}x{height}x{width} images")));
            }
        };
        if let Some(labels) = labels.as_ref().filter(|labels| labels.len() != count) {
            return Err(wrong(format!("there are {count} images but {} labels", labels.len())));
        }
        let num_classes = labels.as_deref().map_or(0, count_classes);
        Ok(Images { data, channels, height, width, labels, num_classes })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.data.len().checked_div(self.image_size()).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Bytes of one image.
    pub fn image_size(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// One image, `[channels, height, width]`; `None` past the end.
    pub fn image(&self, index: usize) -> Option<&[u8]> {
        let size = self.image_size();
        let start = index.checked_mul(size)?;
        self.data.get(start..start.checked_add(size)?)
    }

    /// Class of an image.
    pub fn label(&self, index: usize) -> Option<u32> {
        self.labels.as_ref()?.get(index).copied()
    }
}

/// One more than the largest label.
pub(super) fn count_classes(labels: &[u32]) -> usize {
    labels.iter().max().map_or(0, |&max| max as usize + 1)
}
