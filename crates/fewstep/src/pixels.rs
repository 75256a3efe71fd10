//! Tensors of images as pixels.

use fewstep_io::dataset::Images;
use fewstep_nn::pixels::to_u8;
use fewstep_nn::tch::{Kind, Tensor};

use crate::error::Result;

/// u8 images of f32 `[N, C, H, W]` in [-1, 1], rounded as EDM does.
pub fn to_images(images: &Tensor) -> Result<Images> {
    self::images(&to_u8(images))
}

/// u8 images of u8 `[N, C, H, W]`.
pub fn images(pixels: &Tensor) -> Result<Images> {
    let (_, c, h, w) = pixels.size4()?;
    Ok(Images::new(bytes(pixels)?, c as usize, h as usize, w as usize, None)?)
}

/// The place of the first sample `[...]` of `[N, ...]` that holds NaN or infinity, which u8 pixels would hide.
pub fn first_not_finite(samples: &Tensor) -> Result<Option<usize>> {
    let finite = samples.f_isfinite()?.f_flatten(1, -1)?.f_all_dim(1, false)?;
    Ok(Vec::<bool>::try_from(finite)?.iter().position(|finite| !finite))
}

/// The elements of a tensor, little-endian.
pub fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let tensor = tensor.to_device(fewstep_nn::tch::Device::Cpu).contiguous();
    let width = if tensor.kind() == Kind::Uint8 { 1 } else { tensor.kind().elt_size_in_bytes() };
    let mut bytes = vec![0; tensor.numel() * width];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}

/// Channels, height and width in words: `32x32 with 1 channel`.
pub fn words([channels, height, width]: [usize; 3]) -> String {
    format!("{width}x{height} with {channels} channel{}", if channels == 1 { "" } else { "s" })
}
