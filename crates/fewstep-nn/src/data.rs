//! Training images in memory and the order in which they are drawn.

use crate::random;
use fewstep_core::noise;
use tch::{Device, Kind, Tensor};

use crate::denoiser::{TorchDenoiser, one_hot};
use crate::error::{Error, Result};

/// A data set in memory: u8 images and their classes.
#[derive(Debug)]
pub struct Images {
    /// `[M, C, H, W]`, u8, on the CPU.
    pixels: Tensor,
    /// Class of each image.
    labels: Option<Vec<i64>>,
}

/// Images as the network sees them, with their labels.
#[derive(Debug)]
pub struct Minibatch {
    /// `[N, C, H, W]`, f32 in [-1, 1].
    pub images: Tensor,
    /// `[N, label_dim]`, one-hot, for class-conditional models.
    pub class_labels: Option<Tensor>,
}

impl Images {
    /// Takes the images of a data set that fits a model: its channels, height and width, and classes.
    ///
    /// # Errors
    /// If they do not fit, or the model's samples are no images.
    pub fn for_model(images: fewstep_io::dataset::Images, model: &dyn TorchDenoiser) -> Result<Self> {
        let [c, h, w] = model.pixel_shape().ok_or_else(|| model.codec().no_pixels())?.map(|size| size as i64);
        let found = [images.channels as i64, images.height as i64, images.width as i64];
        if found != [c, h, w] {
            return Err(Error::Input(format!(
                "the data set has images of {}x{}x{} (channels, height, width), the model makes {c}x{h}x{w}",
                found[0], found[1], found[2]
            )));
        }
        let labels: Option<Vec<i64>> = images.labels.map(|labels| labels.into_iter().map(i64::from).collect());
        let dim = model.spec().classes as i64;
        if dim > 0 {
            let labels = labels.as_ref().ok_or_else(|| {
                Error::Input(format!("the model is class-conditional ({dim} classes), but the data set has no labels"))
            })?;
            if let Some(class) = labels.iter().find(|class| !(0..dim).contains(*class)) {
                return Err(Error::Input(format!(
                    "the data set has class {class}, the model knows classes 0 to {}",
                    dim - 1
                )));
            }
        }
        let count = images.data.len() as i64 / (c * h * w);
        if count == 0 {
            return Err(Error::Input("the data set has no images".to_owned()));
        }
        let pixels = Tensor::from_slice(&images.data).view([count, c, h, w]);
        Ok(Self { pixels, labels: labels.filter(|_| dim > 0) })
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.pixels.size()[0] as usize
    }

    /// Whether there are none; a constructed set never is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The images at `indices`, scaled as EDM does: u8 / 127.5 - 1.
    ///
    /// # Errors
    /// If there is no such image, or memory does not suffice.
    pub fn batch(&self, indices: &[i64], model: &dyn TorchDenoiser) -> Result<Minibatch> {
        let picked = self.pixels.f_index_select(0, &Tensor::f_from_slice(indices)?)?;
        let images = picked.f_to_device(model.device())?.f_to_kind(Kind::Float)?;
        let images = images.f_div_scalar(127.5)?.f_sub_scalar(1.0)?;
        let class_labels = match &self.labels {
            Some(labels) => {
                let of: Vec<i64> = indices.iter().map(|&i| labels[i as usize]).collect();
                Some(one_hot(&of, model.spec().classes, model.device())?)
            }
            None => None,
        };
        Ok(Minibatch { images, class_labels })
    }
}

/// A fresh permutation of the data set every epoch; position k depends on the seed and k alone.
#[derive(Debug)]
pub struct EpochOrder {
    seed: u64,
    len: usize,
    epoch: u64,
    order: Vec<i64>,
}

impl EpochOrder {
    /// An order over `len` images.
    pub fn new(seed: u64, len: usize) -> Self {
        Self { seed, len, epoch: 0, order: random::permutation(seed, 0, len) }
    }

    /// Indices of the images at positions `start .. start + count` of the endless sequence.
    pub fn indices(&mut self, start: u64, count: usize) -> Vec<i64> {
        (start..start + count as u64)
            .map(|position| {
                let epoch = position / self.len as u64;
                if epoch != self.epoch {
                    self.order = random::permutation(self.seed, epoch, self.len);
                    self.epoch = epoch;
                }
                self.order[(position % self.len as u64) as usize]
            })
            .collect()
    }
}

/// Unit normal latents `[N, ...shape]` for these seeds, on `device`; each depends on its own seed alone.
///
/// # Errors
/// If memory does not suffice.
pub fn latents(seeds: &[u64], shape: &[usize], device: Device) -> Result<Tensor> {
    let values = noise::latents(seeds, shape.iter().product());
    let shape: Vec<i64> = std::iter::once(seeds.len()).chain(shape.iter().copied()).map(|size| size as i64).collect();
    Ok(Tensor::f_from_slice(&values)?.f_view(shape.as_slice())?.f_to_device(device)?)
}
