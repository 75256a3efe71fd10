//! How images get to 299 x 299 and to the range that Inception was trained on.

use fewstep_nn::tch::{Device, Kind, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Side of Inception's input.
const SIZE: i64 = 299;

/// How a tool prepares images for Inception. Numbers of different conventions are not comparable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Convention {
    /// TensorFlow 1's bilinear resize (source = j w / 299, no half-pixel offset), then (v - 128) / 128: the original FID,
    /// EDM's and torch-fidelity's.
    #[default]
    Tf1,
    /// v / 255, PyTorch's bilinear resize (align_corners = False, no antialiasing), then 2v - 1: pytorch-fid's.
    PytorchFid,
}

impl Convention {
    /// The name that users type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tf1 => "tf1",
            Self::PytorchFid => "pytorch-fid",
        }
    }

    /// The convention of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn parse(name: &str) -> Result<Self> {
        [Self::Tf1, Self::PytorchFid].into_iter().find(|convention| convention.name() == name).ok_or_else(|| {
            Error::Input(format!(
                "'{name}' is no input convention of Inception; use tf1 (EDM, torch-fidelity) or pytorch-fid"
            ))
        })
    }

    /// u8 `[N, 3, H, W]` to f32 `[N, 3, 299, 299]` in about -1 to 1.
    pub(super) fn prepare(self, images: &Tensor) -> Result<Tensor> {
        let x = images.f_to_kind(Kind::Float)?;
        Ok(match self {
            Self::Tf1 => resize_tf1(&x)?.f_sub_scalar(128.0)?.f_div_scalar(128.0)?,
            Self::PytorchFid => {
                let resized = x.f_div_scalar(255.0)?.f_upsample_bilinear2d([SIZE, SIZE], false, None, None)?;
                resized.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?
            }
        })
    }
}

/// TensorFlow 1's `resize_bilinear` with `align_corners=False`, in its own order of operations: f32 `[N, C, H, W]` to
/// `[N, C, 299, 299]`.
fn resize_tf1(x: &Tensor) -> Result<Tensor> {
    let (h, w) = (x.size()[2], x.size()[3]);
    let columns = interpolate(x, 3, &Taps::new(w, x.device())?, &[1, 1, 1, SIZE])?;
    interpolate(&columns, 2, &Taps::new(h, x.device())?, &[1, 1, SIZE, 1])
}

/// The two source pixels of each target pixel along one axis, and how far it is from the first to the second.
struct Taps {
    low: Tensor,
    high: Tensor,
    fraction: Tensor,
}

impl Taps {
    fn new(size: i64, device: Device) -> Result<Self> {
        let scale = size as f32 / SIZE as f32;
        let source: Vec<f32> = (0..SIZE).map(|j| j as f32 * scale).collect();
        let low: Vec<i64> = source.iter().map(|s| (s.floor() as i64).min(size - 1)).collect();
        let high: Vec<i64> = low.iter().map(|l| (l + 1).min(size - 1)).collect();
        let fraction: Vec<f32> = source.iter().zip(&low).map(|(s, l)| s - *l as f32).collect();
        Ok(Self {
            low: Tensor::f_from_slice(&low)?.f_to_device(device)?,
            high: Tensor::f_from_slice(&high)?.f_to_device(device)?,
            fraction: Tensor::f_from_slice(&fraction)?.f_to_device(device)?,
        })
    }
}

fn interpolate(x: &Tensor, dim: i64, taps: &Taps, shape: &[i64]) -> Result<Tensor> {
    let low = x.f_index_select(dim, &taps.low)?;
    let high = x.f_index_select(dim, &taps.high)?;
    Ok(low.f_add(&high.f_sub(&low)?.f_mul(&taps.fraction.f_view(shape)?)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tf1_samples_without_a_half_pixel_offset() {
        // A ramp of 4 pixels: target j sees position 4 j / 299, and the last pixel from there on.
        let x = Tensor::from_slice(&[0f32, 10.0, 20.0, 30.0]).view([1, 1, 1, 4]);
        let y = Vec::<f32>::try_from(resize_tf1(&x).unwrap().select(2, 7).reshape([-1])).unwrap();
        for (j, value) in y.iter().enumerate() {
            let expected = (j as f64 * 4.0 / 299.0).min(3.0) * 10.0;
            assert!((f64::from(*value) - expected).abs() < 1e-4, "{j}: {value} {expected}");
        }
    }

    #[test]
    fn images_of_299_pixels_pass_unchanged() {
        let x = Tensor::randint(256, [1, 3, SIZE, SIZE], (Kind::Uint8, Device::Cpu));
        let back = Convention::Tf1.prepare(&x).unwrap() * 128.0 + 128.0;
        assert_eq!(back.to_kind(Kind::Uint8), x);
        let back = (Convention::PytorchFid.prepare(&x).unwrap() + 1.0) * 127.5;
        assert_eq!(back.round().to_kind(Kind::Uint8), x);
    }

    #[test]
    fn names_are_parsed() {
        assert_eq!(Convention::parse("tf1").unwrap(), Convention::Tf1);
        assert_eq!(Convention::parse("pytorch-fid").unwrap(), Convention::PytorchFid);
        assert!(Convention::parse("clean").unwrap_err().to_string().contains("torch-fidelity"));
    }
}
