//! The network that nobody trained, whose features tell smooth images from detailed ones.
//!
//! Convolutions 3x3 with random weights and a ReLU each, 2x2 mean pooling between them (a side of odd length loses its last row);
//! the features are the mean over the pixels of every layer's channels. They say how much of which texture, at which scale, is
//! where bright or dark, and know nothing of any data set. The same network on every machine and through every door.

use fewstep_core::noise;

/// Channels of the first layer; every further one has as many more.
const WIDTH: usize = 16;

/// Pooling stops before it would leave fewer pixels a side than this.
const LEAST_PIXELS: usize = 8;

/// Layers at most.
const MOST_LAYERS: usize = 4;

/// Spread of the biases: some channels answer to flat areas, others not.
const BIAS: f64 = 0.3;

/// Seed of the weights, apart from any image's.
const SEED: u64 = u64::from_le_bytes(*b"features");

/// One convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Channels before it.
    pub c_in: usize,
    /// Channels after it.
    pub c_out: usize,
    /// `[c_out, c_in, 3, 3]`, row by row.
    pub weight: Vec<f32>,
    /// `[c_out]`.
    pub bias: Vec<f32>,
}

/// The layers for images `[channels, height, width]`, from the highest resolution down.
pub fn layers([channels, height, width]: [usize; 3]) -> Vec<Layer> {
    let mut layers = Vec::new();
    let (mut c_in, mut pixels) = (channels, height.min(width));
    for index in 0..MOST_LAYERS {
        if index > 0 && pixels < LEAST_PIXELS {
            break;
        }
        let c_out = WIDTH * (index + 1);
        let draw = |stream: u64, count: usize, scale: f64| {
            let mut values = vec![0f32; count];
            noise::normal(SEED, stream, &mut values);
            values.into_iter().map(|value| value * scale as f32).collect()
        };
        // He et al. 2015: activations keep their size from layer to layer
        let weight = draw(2 * index as u64, c_out * c_in * 9, (2.0 / (9 * c_in) as f64).sqrt());
        layers.push(Layer { c_in, c_out, weight, bias: draw(2 * index as u64 + 1, c_out, BIAS) });
        (c_in, pixels) = (c_out, pixels / 2);
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_features() {
        for (channels, resolution, dim) in
            [(1, 4, 16), (3, 8, 16), (1, 16, 48), (3, 32, 96), (3, 64, 160), (3, 512, 160)]
        {
            let layers = layers([channels, resolution, resolution]);
            assert_eq!(layers.iter().map(|layer| layer.c_out).sum::<usize>(), dim, "{resolution}");
        }
    }

    /// If this fails, plans that match moments have changed.
    #[test]
    fn weights_are_pinned() {
        let first = &layers([1, 32, 32])[0];
        let spread = (first.weight.iter().map(|w| w * w).sum::<f32>() / first.weight.len() as f32).sqrt();
        assert!((spread - (2.0_f32 / 9.0).sqrt()).abs() < 0.05, "{spread}");
        assert_eq!(first.weight[..2], layers([1, 8, 8])[0].weight[..2]);
    }
}
