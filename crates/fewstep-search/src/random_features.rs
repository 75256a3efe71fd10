//! The network that nobody trained, whose features tell smooth images from detailed ones.
//!
//! Its first layer sees every plane of an image by itself (grey and two differences of colours; the channels of anything else), most
//! of its local mean taken off. Then convolutions 3x3 with random weights and a ReLU each, of one plane each, 2x2 mean pooling between
//! them (a side of odd length loses its last row); the features are the mean over the pixels of every layer's channels. They say
//! how much of which texture, at which scale, is where bright or dark, and know nothing of any data set. The same network on every
//! machine and through every door.
//!
//! Planes apart, because a sampler's images can have too much noise in their colours and too little detail in grey: a network that
//! mixes channels sees the sum, and asks for more of both.

use fewstep_core::noise;

/// Channels of the first layer, shared out among the planes; every further one has as many more.
const WIDTH: usize = 16;

/// Channels of the first layer that see one plane, at least.
const LEAST_WIDTH: usize = 2;

/// Pooling stops before it would leave fewer pixels a side than this.
const LEAST_PIXELS: usize = 8;

/// Layers at most.
const MOST_LAYERS: usize = 4;

/// Spread of the biases: some channels answer to flat areas, others not.
const BIAS: f64 = 0.3;

/// Pixels a side of the local mean.
const LOCAL: usize = 5;

/// How much of the local mean is taken off: all of it, and bright would be as dark.
const TAKEN_OFF: f64 = 0.8;

/// What is left is enlarged by as much, so that detail is as large as the biases.
const ENLARGED: f64 = 2.0;

/// Grey, red less blue, and both less green: photographs have about as much detail in each.
const PLANES_OF_RGB: [[f64; 3]; 3] = [[1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0], [3.0, 0.0, -3.0], [3.0, -6.0, 3.0]];

/// Seed of the weights, apart from any image's.
const SEED: u64 = u64::from_le_bytes(*b"features");

/// One convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Channels after it.
    pub c_out: usize,
    /// Groups of channels; each sees as large a share of those before.
    pub groups: usize,
    /// Pixels a side of the filters, odd. Borders are padded by `side / 2`: the first layer's with their own values, others with 0.
    pub side: usize,
    /// `[c_out, c_in / groups, side, side]`, row by row.
    pub weight: Vec<f32>,
    /// `[c_out]`.
    pub bias: Vec<f32>,
}

/// The layers for images `[channels, height, width]`, from the highest resolution down.
pub fn layers([channels, height, width]: [usize; 3]) -> Vec<Layer> {
    let planes: Vec<Vec<f64>> = match channels {
        3 => PLANES_OF_RGB.iter().map(|plane| plane.to_vec()).collect(),
        _ => (0..channels).map(|own| (0..channels).map(|c| f64::from(u8::from(c == own))).collect()).collect(),
    };
    let width_of_plane = (WIDTH / planes.len().max(1)).max(LEAST_WIDTH);
    let mut layers = Vec::new();
    let (mut before, mut pixels) = (1, height.min(width));
    for index in 0..MOST_LAYERS {
        if index > 0 && pixels < LEAST_PIXELS {
            break;
        }
        let after = width_of_plane * (index + 1);
        let draw = |stream: u64, count: usize, scale: f64| -> Vec<f32> {
            let mut values = vec![0f32; count];
            noise::normal(SEED, stream, &mut values);
            values.into_iter().map(|value| value * scale as f32).collect()
        };
        // He et al. 2015: activations keep their size from layer to layer. Every plane has the same filters
        let filters = draw(2 * index as u64, after * before * 9, (2.0 / (9 * before) as f64).sqrt());
        let bias = draw(2 * index as u64 + 1, after, BIAS).repeat(planes.len());
        let c_out = after * planes.len();
        layers.push(match index {
            0 => Layer { c_out, groups: 1, side: LOCAL + 2, weight: of_planes(&planes, &filters), bias },
            _ => Layer { c_out, groups: planes.len(), side: 3, weight: filters.repeat(planes.len()), bias },
        });
        (before, pixels) = (after, pixels / 2);
    }
    layers
}

/// `[planes * filters, channels, LOCAL + 2, LOCAL + 2]`: 3x3 `filters` of every plane, its local mean taken off.
fn of_planes(planes: &[Vec<f64>], filters: &[f32]) -> Vec<f32> {
    let side = LOCAL + 2;
    let mut weight = Vec::with_capacity(planes.len() * planes.len() * filters.len() / 9 * side * side);
    for plane in planes {
        for filter in filters.chunks_exact(9) {
            let mut kernel = vec![0f64; side * side];
            for (at, value) in filter.iter().enumerate() {
                let (row, column) = (at / 3, at % 3);
                let value = ENLARGED * f64::from(*value);
                kernel[(row + LOCAL / 2) * side + column + LOCAL / 2] += value;
                for near in 0..LOCAL * LOCAL {
                    let place = (row + near / LOCAL) * side + column + near % LOCAL;
                    kernel[place] -= TAKEN_OFF * value / (LOCAL * LOCAL) as f64;
                }
            }
            for channel in plane {
                weight.extend(kernel.iter().map(|value| (channel * value) as f32));
            }
        }
    }
    weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_features() {
        for (channels, resolution, dim) in
            [(1, 4, 16), (3, 8, 15), (1, 16, 48), (3, 32, 90), (3, 64, 150), (4, 64, 160), (16, 64, 320), (3, 512, 150)]
        {
            let layers = layers([channels, resolution, resolution]);
            assert_eq!(layers.iter().map(|layer| layer.c_out).sum::<usize>(), dim, "{channels} {resolution}");
            let mut c_in = channels;
            for layer in layers {
                let values = layer.c_out * c_in / layer.groups * layer.side * layer.side;
                assert_eq!((layer.weight.len(), layer.bias.len()), (values, layer.c_out));
                c_in = layer.c_out;
            }
        }
    }

    /// If this fails, plans that match moments have changed.
    #[test]
    fn weights_are_pinned() {
        let first = &layers([1, 32, 32])[0];
        assert_eq!(first.weight, layers([1, 8, 8])[0].weight);
        let size: f32 = first.weight.iter().map(|w| w * w).sum();
        assert!((size - 126.62).abs() < 1e-2, "{size}");
    }

    /// A flat image has a fifth of its brightness left, and a grey one no colour.
    #[test]
    fn planes_and_local_means_are_apart() {
        let sums = |channels: usize| -> Vec<f32> {
            let first = &layers([channels, 32, 32])[0];
            first.weight.chunks_exact(first.weight.len() / first.c_out).map(|filter| filter.iter().sum()).collect()
        };
        let (one, colour) = (sums(1), sums(3));
        let filters = colour.len() / 3;
        for (grey, same) in colour.iter().zip(&one).take(filters) {
            assert!((grey - same).abs() < 1e-5, "{grey} {same}");
        }
        assert!(colour[filters..].iter().all(|sum| sum.abs() < 1e-5), "{colour:?}");
        let mut three_by_three = vec![0f32; WIDTH * 9];
        noise::normal(SEED, 0, &mut three_by_three);
        for (sum, filter) in one.iter().zip(three_by_three.chunks_exact(9)) {
            let whole = filter.iter().sum::<f32>() * (2.0f32 / 9.0).sqrt();
            assert!((sum - 0.2 * ENLARGED as f32 * whole).abs() < 1e-5, "{sum} {whole}");
        }
    }
}
