//! Operations of the U-Nets that libtorch has no fast kernel for on a CPU, and the memory format they work in.
//!
//! A network on a CPU computes in channels_last memory (`[N, C, H, W]` tensors whose channels lie together), where
//! oneDNN's convolutions are fastest. libtorch's group normalisation is not: `src/shim` has one that takes what stands
//! around it in the same passes. Elsewhere (a GPU, f16, f64, other memory formats) the same mathematics is done by libtorch.

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::ffi;
use crate::random::MaskSeed;

/// Group normalisation and what follows it: `dropout(act(group_norm(x + shift) * weight + bias))`.
#[derive(Clone, Copy, Debug)]
pub struct NormAct<'a> {
    /// How many groups the channels are in.
    pub groups: i64,
    /// Added to the variance.
    pub eps: f64,
    /// Factor on each channel, `[C]` or `[N or 1, C]`.
    pub weight: &'a Tensor,
    /// Added to each channel, like `weight`.
    pub bias: &'a Tensor,
    /// Added to each channel of the input, `[N or 1, C]`.
    pub shift: Option<&'a Tensor>,
    /// Whether SiLU follows.
    pub silu: bool,
    /// The dropout at the end, if any.
    pub dropout: Option<Dropout>,
}

/// Which numbers are set to zero, while the others are scaled up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of each.
    pub probability: f64,
    /// The same seed drops the same numbers of a row of a batch, on the same device and in the same memory format.
    pub seed: MaskSeed,
}

impl NormAct<'_> {
    /// `x`: `[N, C, H, W]`; returns the same shape, kind and memory format. Differentiable in everything, once.
    ///
    /// Statistics and arithmetic are f32 also for bf16. The fused dropout is the same for every number of threads.
    ///
    /// # Errors
    /// Where shapes do not fit, or memory does not suffice.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if ffi::is_supported(x)? { self.fused(x) } else { self.composed(x) }
    }

    fn fused(&self, x: &Tensor) -> Result<Tensor> {
        let row = |values: &Tensor| values.f_to_kind(Kind::Float)?.f_reshape([-1, x.size()[1]]);
        let (weight, bias, shift) = (row(self.weight)?, row(self.bias)?, self.shift.map(row).transpose()?);
        ffi::norm_act(x, &NormAct { weight: &weight, bias: &bias, shift: shift.as_ref(), ..*self })
    }

    fn composed(&self, x: &Tensor) -> Result<Tensor> {
        let wide = |values: &Tensor| values.f_to_kind(x.kind())?.f_reshape([-1, x.size()[1], 1, 1]);
        let shifted = self.shift.map(|shift| x.f_add(&wide(shift)?)).transpose()?;
        let x = shifted.as_ref().unwrap_or(x);
        let same_for_all = self.weight.dim() == 1 && self.bias.dim() == 1;
        let mut y = if same_for_all {
            let (weight, bias) = (self.weight.f_to_kind(x.kind())?, self.bias.f_to_kind(x.kind())?);
            x.f_group_norm(self.groups, Some(&weight), Some(&bias), self.eps, true)?
        } else {
            let normed = x.f_group_norm(self.groups, None::<&Tensor>, None::<&Tensor>, self.eps, true)?;
            normed.f_mul(&wide(self.weight)?)?.f_add(&wide(self.bias)?)?
        };
        if self.silu {
            y = y.f_silu()?;
        }
        match self.dropout {
            Some(dropout) => ffi::dropout(&y, dropout),
            None => Ok(y),
        }
    }
}

/// `(a + b) * factor`, both `[N, C, H, W]`.
///
/// # Errors
/// Where shapes do not fit, or memory does not suffice.
pub fn scaled_sum(a: &Tensor, b: &Tensor, factor: f64) -> Result<Tensor> {
    if ffi::is_supported(a)? && ffi::is_supported(b)? && a.kind() == b.kind() {
        return ffi::scaled_sum(a, b, factor);
    }
    let sum = a.f_add(b)?;
    Ok(if factor == 1.0 { sum } else { sum.f_mul_scalar(factor)? })
}

/// A convolution of `x` `[N, C, H, W]`, its borders padded by so many zeros, with `weight` `[out, C, height, width]`.
///
/// In f32 on a CPU by oneDNN whatever the sizes: libtorch takes another library for a few images and one thread, and with it the rounding would
/// hang on the number of threads.
///
/// # Errors
/// Where shapes do not fit, or memory does not suffice.
pub fn convolution(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: [i64; 2],
    padding: [i64; 2],
) -> Result<Tensor> {
    if by_onednn(x) {
        return Ok(x.f_mkldnn_convolution(weight, bias, padding, stride, [1, 1], 1)?);
    }
    Ok(x.f_conv2d(weight, bias, stride, padding, [1, 1], 1)?)
}

/// `x` `[N, in]` times `weight` `[out, in]`, plus `bias`. In f32 on a CPU as a [`convolution`] of one pixel, for the same reason.
///
/// # Errors
/// Where shapes do not fit, or memory does not suffice.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if !by_onednn(x) || x.dim() != 2 {
        return Ok(x.f_linear(weight, bias)?);
    }
    let [x, weight] = [x, weight].map(|matrix| matrix.f_unsqueeze(2).and_then(|matrix| matrix.f_unsqueeze(3)));
    let product = convolution(&x?, &weight?, bias, [1, 1], [0, 0])?;
    Ok(product.f_flatten(1, -1)?)
}

fn by_onednn(x: &Tensor) -> bool {
    x.device() == Device::Cpu && x.kind() == Kind::Float && x.numel() > 0
}

/// From now on f32 is f32 on a GPU, too, where libtorch would round the factors of convolutions to TF32.
///
/// For a program to call at its start, if it wants to: it concerns the whole process, whoever else uses libtorch in it included. The
/// program `fewstep` calls it where it computes on a GPU; whoever embeds the library asks for it.
///
/// # Errors
/// If libtorch refuses.
pub fn full_precision() -> Result<()> {
    ffi::full_precision()
}

/// The instruction sets that this processor has and the kernels were compiled for, best first.
pub fn instruction_sets() -> Vec<&'static str> {
    (0..).map_while(ffi::available).collect()
}

/// The instruction set in use: the best, or the one that the environment variable FEWSTEP_CPU_KERNELS asks for.
pub fn instruction_set() -> &'static str {
    ffi::in_use()
}

/// Lets the process keep the memory that it frees; whether the C library can be told to (glibc can).
///
/// For a program to call at its start, if it wants to: it concerns the whole process. Every activation is freed soon after it was
/// made, and the next is as large. Unless told otherwise, glibc gives large blocks back to the kernel, which clears their pages
/// each time: a tenth of a network's time on a CPU.
pub fn keep_freed_memory() -> bool {
    ffi::keep_freed_memory()
}

/// The same numbers in the memory format that networks compute in on the device of `x`: `[N, C, H, W]`, channels_last on
/// a CPU. Costs nothing where they are in it already.
///
/// # Errors
/// If memory does not suffice.
pub fn network_format(x: &Tensor) -> Result<Tensor> {
    if x.device() != Device::Cpu || x.dim() != 4 || has_channels_last_strides(x) {
        return Ok(x.shallow_clone());
    }
    let size = x.size();
    if size[1] == 1 {
        // The numbers lie the same way in both formats, and libtorch tells them apart by the strides alone.
        let [h, w] = [size[2], size[3]];
        return Ok(x.f_contiguous()?.f_as_strided(&size, [h * w, 1, w, 1], None)?);
    }
    Ok(x.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?)
}

fn has_channels_last_strides(x: &Tensor) -> bool {
    let (size, stride) = (x.size(), x.stride());
    stride[1] == 1 && stride[3] == size[1] && stride[2] == size[1] * size[3] && stride[0] == stride[2] * size[2]
}
