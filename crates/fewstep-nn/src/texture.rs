//! Features of a network that nobody trained: enough to tell smooth images from detailed ones.

use fewstep_search::random_features::{Layer, layers};
use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// [`fewstep_search::random_features`] on libtorch.
#[derive(Debug)]
pub struct RandomFeatures {
    /// From the highest resolution down.
    layers: Vec<Convolution>,
    /// Whether what lies beyond [-1, 1] counts as clipped, as files of pixels clip it.
    clips: bool,
}

/// A [`Layer`] on a device.
#[derive(Debug)]
struct Convolution {
    /// `[C_out, C_in / groups, side, side]`.
    weight: Tensor,
    /// `[C_out]`.
    bias: Tensor,
    groups: i64,
}

impl Convolution {
    fn new(layer: &Layer, device: Device) -> Self {
        let Layer { c_out, groups, side, weight, bias } = layer;
        let shape = [*c_out as i64, -1, *side as i64, *side as i64];
        let weight = Tensor::from_slice(weight).view(shape).to_device(device);
        Self { weight, bias: Tensor::from_slice(bias).to_device(device), groups: *groups as i64 }
    }

    /// Of `x` with its borders padded by `padding`.
    fn of(&self, x: &Tensor, padding: i64) -> Result<Tensor> {
        Ok(x.f_conv2d(&self.weight, Some(&self.bias), [1, 1], [padding, padding], [1, 1], self.groups)?.f_relu()?)
    }
}

impl RandomFeatures {
    /// For images `[N, channels, height, width]`; `clips`: of pixels, of which what lies beyond [-1, 1] is clipped in files.
    pub fn new([channels, height, width]: [i64; 3], clips: bool, device: Device) -> Self {
        let layers = layers([channels, height, width].map(|size| size as usize));
        Self { layers: layers.iter().map(|layer| Convolution::new(layer, device)).collect(), clips }
    }

    /// Dimension of the features.
    pub fn dim(&self) -> usize {
        self.layers.iter().map(|layer| layer.bias.size()[0] as usize).sum()
    }

    /// Features `[N, d]` of f32 `images` `[N, C, H, W]`, with the graph that these have.
    ///
    /// # Errors
    /// If the images have other channels.
    pub fn features(&self, images: &Tensor) -> Result<Tensor> {
        let images = images.f_to_kind(Kind::Float)?;
        let mut x = if self.clips { images.f_clamp(-1.0, 1.0)? } else { images };
        let mut means = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            let half = layer.weight.size()[3] / 2;
            x = match index {
                0 => layer.of(&x.f_replication_pad2d([half, half, half, half])?, 0)?,
                _ => layer.of(&x.f_avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>)?, half)?,
            };
            means.push(x.f_mean_dim(&[2i64, 3][..], false, Kind::Float)?);
        }
        Ok(Tensor::f_cat(&means, 1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_features_and_they_are_always_the_same() {
        for (channels, resolution, dim) in
            [(1, 4, 16), (3, 8, 15), (1, 16, 48), (3, 32, 90), (3, 64, 150), (4, 64, 160)]
        {
            let network = RandomFeatures::new([channels, resolution, resolution], true, Device::Cpu);
            assert_eq!(network.dim(), dim, "{resolution}");
            let images = Tensor::zeros([2, channels, resolution, resolution], (Kind::Float, Device::Cpu));
            let features = network.features(&images).unwrap();
            assert_eq!(features.size(), [2, dim as i64]);
            let again =
                RandomFeatures::new([channels, resolution, resolution], true, Device::Cpu).features(&images).unwrap();
            assert_eq!(features, again);
        }
    }

    #[test]
    fn detail_shows_and_what_files_clip_does_not() {
        let network = RandomFeatures::new([1, 16, 16], true, Device::Cpu);
        let of = |images: &Tensor| network.features(images).unwrap();
        let bright = Tensor::ones([1, 1, 16, 16], (Kind::Float, Device::Cpu));
        assert_eq!(of(&bright), of(&(&bright * 1.5)));
        let stripes =
            (Tensor::arange(16, (Kind::Float, Device::Cpu)) * std::f64::consts::PI).cos().expand([1, 1, 16, 16], false);
        let flat = stripes.zeros_like();
        let gap = (of(&stripes) - of(&flat)).norm().double_value(&[]);
        assert!(gap > 0.5, "{gap}");
    }
}
