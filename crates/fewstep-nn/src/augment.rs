//! The non-leaky augmentation of Karras et al. 2022 (Appendix F.2): random geometric transformations,
//! each with probability `p`, whose parameters the network is told through a 9-vector, so that at label
//! zero it denoises the data as it was.

use std::cell::RefCell;
use std::f64::consts::{PI, TAU};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::random::Stream;

/// Size of the augmentation label: x-flip, y-flip, scale, rotation (2), anisotropy (2), translation (2).
pub const AUGMENT_DIM: i64 = 9;

/// How often and how strongly images are transformed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AugmentConfig {
    /// Probability of each transformation (0.12 for CIFAR-10, 0.15 for FFHQ in the EDM paper).
    pub p: f64,
    /// Factor on `p` for the mirror image; the EDM recipe mirrors half of the images always.
    pub xflip: f64,
    /// Standard deviation of log2 of the scale.
    pub scale_std: f64,
    /// Standard deviation of log2 of the aspect ratio.
    pub aniso_std: f64,
    /// Probability that a change of aspect ratio is not along the axes.
    pub aniso_rotate_prob: f64,
    /// Standard deviation of the translation, in image sizes.
    pub translate_frac_std: f64,
}

impl AugmentConfig {
    /// The EDM recipe at probability `p`.
    pub fn edm(p: f64) -> Self {
        Self { p, xflip: 1e8, scale_std: 0.2, aniso_std: 0.2, aniso_rotate_prob: 0.5, translate_frac_std: 0.125 }
    }

    /// Transforms `images` `[N, C, H, W]`; returns them and their labels `[N, 9]`. Draws from `stream`.
    pub fn apply(&self, images: &Tensor, stream: &mut Stream) -> (Tensor, Tensor) {
        let n = images.size()[0];
        let device = images.device();
        let (images, x_flipped) = self.flip(images, 3, self.xflip * self.p, stream);
        let (images, y_flipped) = self.flip(&images, 2, self.p, stream);
        let (inverse, geometric) = self.inverse_transform(n, images.size()[3], images.size()[2], stream);
        let images = transform(&images, &inverse);
        let labels = Tensor::cat(&[x_flipped, y_flipped, geometric.to_device(device)], 1);
        (images, labels)
    }

    fn flip(&self, images: &Tensor, dim: i64, p: f64, stream: &mut Stream) -> (Tensor, Tensor) {
        let n = images.size()[0];
        let mut below = |p: f64| stream.uniform(&[n, 1, 1, 1], images.device()).less(p).to_kind(Kind::Float);
        let chosen = below(p) * below(0.5);
        let flipped = images.flip([dim]).where_self(&chosen.eq(1.0), images);
        (flipped, chosen.reshape([n, 1]))
    }

    /// Inverse transformations `[N, 3, 3]` in pixels about the image's centre, and labels `[N, 7]`, in f64 on the CPU.
    fn inverse_transform(&self, n: i64, width: i64, height: i64, stream: &mut Stream) -> (Tensor, Tensor) {
        let stream = RefCell::new(stream);
        let normal = || stream.borrow_mut().normal(&[n], Device::Cpu).to_kind(Kind::Double);
        let uniform = || stream.borrow_mut().uniform(&[n], Device::Cpu).to_kind(Kind::Double);
        let angle = || (uniform() * 2.0 - 1.0) * PI;
        let chosen = |p: f64| uniform().less(p).to_kind(Kind::Double);

        let scale = normal() * chosen(self.p);
        let s = (&scale * -self.scale_std).exp2();
        let mut inverse = scaling(&s, &s);

        let rotation = angle() * chosen(self.p);
        inverse = inverse.bmm(&rotating(&rotation));

        let aniso = normal() * chosen(self.p);
        let axis = angle() * chosen(self.aniso_rotate_prob);
        let s = (&aniso * -self.aniso_std).exp2();
        inverse = inverse.bmm(&rotating(&-&axis)).bmm(&scaling(&s, &s.reciprocal())).bmm(&rotating(&axis));

        let both = chosen(self.p);
        let (tx, ty) = (normal() * &both, normal() * &both);
        let shift = |t: &Tensor, size: i64| t * -(size as f64 * self.translate_frac_std);
        inverse = inverse.bmm(&translating(&shift(&tx, width), &shift(&ty, height)));

        let labels = [
            &scale,
            &(rotation.cos() - 1.0),
            &rotation.sin(),
            &(&aniso * axis.cos()),
            &(&aniso * axis.sin()),
            &tx,
            &ty,
        ];
        (inverse, Tensor::stack(&labels, 1).to_kind(Kind::Float))
    }
}

/// The sym6 wavelet's low-pass filter: resampling at twice the resolution keeps the transformation free of aliasing.
const SYM6: [f64; 12] = [
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
];
const FILTER_PAD: i64 = SYM6.len() as i64 / 4;

/// Resamples `images` under the inverse transformations `[N, 3, 3]`.
fn transform(images: &Tensor, inverse: &Tensor) -> Tensor {
    let size = images.size();
    let (n, c, h, w) = (size[0], size[1], size[2], size[3]);
    let [x0, y0, x1, y1] = margins(inverse, w, h);
    let padded = images.reflection_pad2d([x0, x1, y0, y1]);
    let offset = fixed(translation((x0 - x1) as f64 / 2.0, (y0 - y1) as f64 / 2.0));
    let mut matrix = offset.matmul(inverse);

    let taps = Tensor::from_slice(&SYM6).to_kind(Kind::Float).to_device(images.device());
    let double = upsample(&padded, &taps.flip([0]), c);
    matrix = fixed(scale_xy(2.0, 2.0)).matmul(&matrix).matmul(&fixed(scale_xy(0.5, 0.5)));
    matrix = fixed(translation(-0.5, -0.5)).matmul(&matrix).matmul(&fixed(translation(0.5, 0.5)));

    let out = [n, c, (h + 2 * FILTER_PAD) * 2, (w + 2 * FILTER_PAD) * 2];
    let from = double.size();
    matrix = fixed(scale_xy(2.0 / from[3] as f64, 2.0 / from[2] as f64))
        .matmul(&matrix)
        .matmul(&fixed(scale_xy(out[3] as f64 / 2.0, out[2] as f64 / 2.0)));
    let theta = matrix.narrow(1, 0, 2).to_kind(Kind::Float).to_device(images.device());
    let grid = Tensor::affine_grid_generator(&theta, out, false);
    downsample(&double.grid_sampler(&grid, 0, 0, false), &taps, c)
}

/// How far the transformed frame reaches outside the image, in pixels: left, top, right, bottom.
fn margins(inverse: &Tensor, w: i64, h: i64) -> [i64; 4] {
    let (cx, cy) = ((w - 1) as f64 / 2.0, (h - 1) as f64 / 2.0);
    let corners = Tensor::from_slice(&[-cx, cx, cx, -cx, -cy, -cy, cy, cy, 1.0, 1.0, 1.0, 1.0]).reshape([3, 4]);
    let reached = inverse.matmul(&corners); // [N, xyz, corner]
    let extreme = |axis: i64, sign: f64, centre: f64, size: i64| {
        let furthest = (reached.select(1, axis) * sign).max().double_value(&[]);
        // Reflection cannot reach further than the image is wide.
        (furthest + (FILTER_PAD * 2) as f64 - centre).clamp(0.0, (size - 1) as f64).ceil() as i64
    };
    [extreme(0, -1.0, cx, w), extreme(1, -1.0, cy, h), extreme(0, 1.0, cx, w), extreme(1, 1.0, cy, h)]
}

/// Zeros between the pixels, then the low-pass filter, along both axes.
fn upsample(images: &Tensor, taps: &Tensor, channels: i64) -> Tensor {
    let size = images.size();
    let (n, h, w) = (size[0], size[2], size[3]);
    let pad = (SYM6.len() as i64 + 1) / 2;
    let spread = |x: &Tensor, dim: i64| Tensor::stack(&[x, &x.zeros_like()], dim);
    let filter = taps.reshape([1, 1, 1, -1]).tile([channels, 1, 1, 1]);
    let x = spread(images, 4).reshape([n, channels, h, 2 * w]).narrow(3, 0, 2 * w - 1);
    let x = x.conv2d(&filter, None::<&Tensor>, [1, 1], [0, pad], [1, 1], channels);
    let w = x.size()[3];
    let x = spread(&x, 3).reshape([n, channels, 2 * h, w]).narrow(2, 0, 2 * h - 1);
    x.conv2d(&filter.transpose(2, 3), None::<&Tensor>, [1, 1], [pad, 0], [1, 1], channels)
}

/// The low-pass filter and every second pixel along both axes, then the border that the filter needed is cut off.
fn downsample(images: &Tensor, taps: &Tensor, channels: i64) -> Tensor {
    let pad = (SYM6.len() as i64 - 1) / 2;
    let filter = taps.reshape([1, 1, 1, -1]).tile([channels, 1, 1, 1]);
    let crop = |x: Tensor, dim: i64| {
        let size = x.size()[dim as usize];
        x.narrow(dim, FILTER_PAD, size - 2 * FILTER_PAD)
    };
    let x = crop(images.conv2d(&filter, None::<&Tensor>, [1, 2], [0, pad], [1, 1], channels), 3);
    crop(x.conv2d(&filter.transpose(2, 3), None::<&Tensor>, [2, 1], [pad, 0], [1, 1], channels), 2)
}

/// Rows of a 3x3 matrix in homogeneous pixel coordinates.
type Matrix = [f64; 9];

fn translation(x: f64, y: f64) -> Matrix {
    [1.0, 0.0, x, 0.0, 1.0, y, 0.0, 0.0, 1.0]
}

fn scale_xy(x: f64, y: f64) -> Matrix {
    [x, 0.0, 0.0, 0.0, y, 0.0, 0.0, 0.0, 1.0]
}

fn fixed(matrix: Matrix) -> Tensor {
    Tensor::from_slice(&matrix).reshape([1, 3, 3])
}

/// One matrix a sample from the six upper entries, each `[N]`: `[N, 3, 3]`.
fn affine(rows: [&Tensor; 6]) -> Tensor {
    let (zero, one) = (rows[0].zeros_like(), rows[0].ones_like());
    let [a, b, c, d, e, f] = rows;
    Tensor::stack(&[a, b, c, d, e, f, &zero, &zero, &one], 1).reshape([-1, 3, 3])
}

fn scaling(x: &Tensor, y: &Tensor) -> Tensor {
    let zero = x.zeros_like();
    affine([x, &zero, &zero, &zero, y, &zero])
}

fn rotating(theta: &Tensor) -> Tensor {
    let theta = theta.remainder(TAU);
    let (cos, sin, zero) = (theta.cos(), theta.sin(), theta.zeros_like());
    affine([&cos, &-&sin, &zero, &sin, &cos, &zero])
}

fn translating(x: &Tensor, y: &Tensor) -> Tensor {
    let (zero, one) = (x.zeros_like(), x.ones_like());
    affine([&one, &zero, x, &zero, &one, y])
}
