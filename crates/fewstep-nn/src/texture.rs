//! Features of a network that nobody trained: enough to tell smooth images from detailed ones.

use fewstep_core::noise;
use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Convolutions 3x3 with random weights and a ReLU each, 2x2 mean pooling between them; the features are the mean over
/// the pixels of every layer's channels.
///
/// They say how much of which texture, at which scale, is where bright or dark, and know nothing of any data set: what is
/// fitted to them can still be scored by a trained network's features. The same network on every machine.
#[derive(Debug)]
pub struct RandomFeatures {
    /// Weights `[C_out, C_in, 3, 3]` and biases `[C_out]`, from the highest resolution down.
    layers: Vec<(Tensor, Tensor)>,
    /// Whether what lies beyond [-1, 1] counts as clipped, as files of pixels clip it.
    clips: bool,
}

/// Channels of the first layer; every further one has as many more.
const WIDTH: i64 = 16;

/// Pooling stops before it would leave fewer pixels a side than this.
const LEAST_PIXELS: i64 = 8;

/// Layers at most.
const MOST_LAYERS: i64 = 4;

/// Spread of the biases: some channels answer to flat areas, others not.
const BIAS: f64 = 0.3;

/// Seed of the weights, apart from any image's.
const SEED: u64 = u64::from_le_bytes(*b"features");

impl RandomFeatures {
    /// For images `[N, channels, height, width]`; `clips`: of pixels, of which what lies beyond [-1, 1] is clipped in files.
    pub fn new([channels, height, width]: [i64; 3], clips: bool, device: Device) -> Self {
        let mut layers = Vec::new();
        let (mut c_in, mut pixels) = (channels, height.min(width));
        for layer in 0..MOST_LAYERS {
            if layer > 0 && pixels < LEAST_PIXELS {
                break;
            }
            let c_out = WIDTH * (layer + 1);
            let draw = |stream: u64, shape: &[i64]| {
                let mut values = vec![0f32; shape.iter().product::<i64>() as usize];
                noise::normal(SEED, stream, &mut values);
                Tensor::from_slice(&values).view(shape).to_device(device)
            };
            // He et al. 2015: activations keep their size from layer to layer
            let weight = draw(2 * layer as u64, &[c_out, c_in, 3, 3]) * (2.0 / (9 * c_in) as f64).sqrt();
            layers.push((weight, draw(2 * layer as u64 + 1, &[c_out]) * BIAS));
            (c_in, pixels) = (c_out, pixels / 2);
        }
        Self { layers, clips }
    }

    /// Dimension of the features.
    pub fn dim(&self) -> usize {
        self.layers.iter().map(|(_, bias)| bias.size()[0] as usize).sum()
    }
}

impl RandomFeatures {
    /// Features `[N, d]` of f32 `images` `[N, C, H, W]`, with the graph that these have.
    ///
    /// # Errors
    /// If the images have other channels.
    pub fn features(&self, images: &Tensor) -> Result<Tensor> {
        let images = images.to_kind(Kind::Float);
        let mut x = if self.clips { images.clamp(-1.0, 1.0) } else { images };
        let mut means = Vec::with_capacity(self.layers.len());
        for (index, (weight, bias)) in self.layers.iter().enumerate() {
            if index > 0 {
                x = x.f_avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>)?;
            }
            x = x.f_conv2d(weight, Some(bias), [1, 1], [1, 1], [1, 1], 1)?.relu();
            means.push(x.mean_dim(&[2i64, 3][..], false, Kind::Float));
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
            [(1, 4, 16), (3, 8, 16), (1, 16, 48), (3, 32, 96), (3, 64, 160), (3, 512, 160)]
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
