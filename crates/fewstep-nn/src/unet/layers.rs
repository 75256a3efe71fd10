//! The layers that the U-Nets of Karras et al. 2022 are made of, and what resamples in all U-Nets. Every layer computes in the type of its input; weights
//! are kept in f32 and cast at the point of use, as the EDM code does.

use tch::{Device, Kind, TchError, Tensor};

use crate::error::{Error, Result};
use crate::kernels::{self, NormAct};
use crate::params::{Builder, Init, InitMode};

/// A fully connected layer: `[N, in] -> [N, out]`.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// A layer with a bias.
    pub fn new(b: &mut Builder, name: &str, c_in: i64, c_out: i64, init: Init) -> Result<Self> {
        let mut layer = Self::without_bias(b, name, c_in, c_out, init)?;
        layer.bias = Some(b.weight(&format!("{name}.bias"), &[c_out], (c_in, c_out), init)?);
        Ok(layer)
    }

    /// A layer without one.
    pub fn without_bias(b: &mut Builder, name: &str, c_in: i64, c_out: i64, init: Init) -> Result<Self> {
        let weight = b.weight(&format!("{name}.weight"), &[c_out, c_in], (c_in, c_out), init)?;
        Ok(Self { weight, bias: None })
    }

    /// `x`: `[N, in]`; returns `[N, out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.weight.f_to_kind(x.kind())?, cast(self.bias.as_ref(), x.kind())?);
        kernels::linear(x, &weight, bias.as_ref())
    }

    /// Size of the input.
    pub fn in_features(&self) -> i64 {
        self.weight.size()[1]
    }
}

/// A bias, if there is one, in the type of its layer's input.
fn cast(bias: Option<&Tensor>, kind: Kind) -> Result<Option<Tensor>> {
    Ok(bias.map(|bias| bias.f_to_kind(kind)).transpose()?)
}

/// Whether a convolution changes the resolution before it convolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resample {
    /// Same resolution.
    Keep,
    /// Twice the resolution.
    Up,
    /// Half the resolution.
    Down,
}

/// A convolution with optional resampling by a separable filter; kernel 0 resamples only.
#[derive(Debug)]
pub struct Conv2d {
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    resample: Resample,
    /// `None` where the resolution stays.
    resampler: Option<Resampler>,
    /// Convolve first, then filter: NCSN++'s residual path.
    fused: bool,
}

/// What a [`Conv2d`] is made from.
#[derive(Clone, Copy, Debug)]
pub struct ConvSpec<'a> {
    /// Input channels.
    pub c_in: i64,
    /// Output channels.
    pub c_out: i64,
    /// Kernel size, 0 for none.
    pub kernel: i64,
    /// Change of resolution.
    pub resample: Resample,
    /// Separable resampling filter.
    pub filter: &'a [i64],
    /// `fused_resample` of the EDM code (downsampling only).
    pub fused: bool,
}

impl<'a> ConvSpec<'a> {
    /// A plain convolution.
    pub fn plain(c_in: i64, c_out: i64, kernel: i64) -> Self {
        Self { c_in, c_out, kernel, resample: Resample::Keep, filter: &[1, 1], fused: false }
    }

    /// The same with a change of resolution.
    pub fn resampled(self, resample: Resample, filter: &'a [i64]) -> Self {
        Self { resample, filter, ..self }
    }
}

impl Conv2d {
    /// Builds the layer under `name`.
    pub fn new(b: &mut Builder, name: &str, spec: ConvSpec, init: Init) -> Result<Self> {
        let ConvSpec { c_in, c_out, kernel, resample, filter, fused } = spec;
        let fan = (c_in * kernel * kernel, c_out * kernel * kernel);
        let (mut weight, mut bias) = (None, None);
        if kernel > 0 {
            weight = Some(b.weight(&format!("{name}.weight"), &[c_out, c_in, kernel, kernel], fan, init)?);
            bias = Some(b.weight(&format!("{name}.bias"), &[c_out], fan, init)?);
        }
        let resampler = match resample {
            Resample::Keep => None,
            _ => Some(Resampler { filter: b.buffer(&format!("{name}.resample_filter"), &filter_2d(filter))? }),
        };
        Ok(Self { weight, bias, resample, resampler, fused })
    }

    /// `x`: `[N, in, H, W]`; returns `[N, out, H', W']`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let kind = x.kind();
        let x = &kernels::network_format(x)?;
        let pad = self.weight.as_ref().map_or(0, |weight| weight.size()[2] / 2);
        if self.fused && self.resample == Resample::Down {
            return self.forward_fused(x, pad);
        }
        let resampled = match (&self.resampler, self.resample) {
            (Some(resampler), Resample::Up) => Some(resampler.up(x)?),
            (Some(resampler), Resample::Down) => Some(resampler.down(x, true)?),
            _ => None,
        };
        let x = resampled.as_ref().unwrap_or(x);
        match &self.weight {
            Some(weight) => {
                let bias = cast(self.bias.as_ref(), kind)?;
                kernels::convolution(x, &weight.f_to_kind(kind)?, bias.as_ref(), [1, 1], [pad, pad])
            }
            None => Ok(x.shallow_clone()),
        }
    }

    /// Convolution, then filter and stride; the padding of both is spent on the convolution.
    fn forward_fused(&self, x: &Tensor, pad: i64) -> Result<Tensor> {
        let kind = x.kind();
        let mut x = x.shallow_clone();
        let filter_pad = self.resampler.as_ref().map_or(0, Resampler::pad);
        if let Some(weight) = &self.weight {
            let pad = pad + filter_pad;
            x = kernels::convolution(&x, &weight.f_to_kind(kind)?, None, [1, 1], [pad, pad])?;
        }
        if let Some(resampler) = &self.resampler {
            x = resampler.down(&x, false)?;
        }
        match &self.bias {
            Some(bias) => Ok(x.f_add(&bias.f_to_kind(kind)?.f_reshape([1, -1, 1, 1])?)?),
            None => Ok(x),
        }
    }
}

/// Twice or half the resolution by a separable filter.
#[derive(Debug)]
pub struct Resampler {
    /// `[1, 1, f, f]`, sums to 1.
    filter: Tensor,
}

impl Resampler {
    /// Of a filter that is no tensor of the network's.
    pub fn new(filter: &[i64], device: Device) -> Self {
        Self { filter: filter_2d(filter).to_device(device) }
    }

    fn pad(&self) -> i64 {
        (self.filter.size()[3] - 1) / 2
    }

    /// The filter repeated for every channel: `[C, 1, f, f]`.
    fn depthwise(&self, x: &Tensor, gain: f64) -> Result<Tensor> {
        Ok(self.filter.f_to_kind(x.kind())?.f_mul_scalar(gain)?.f_tile([x.size()[1], 1, 1, 1])?)
    }

    /// `x`: `[N, C, H, W]`; returns `[N, C, 2 H, 2 W]`.
    pub fn up(&self, x: &Tensor) -> Result<Tensor> {
        // A box filter of two taps repeats pixels; libtorch has a faster kernel for that.
        if self.filter.size()[3] == 2 {
            let size = x.size();
            return Ok(x.f_upsample_nearest2d([2 * size[2], 2 * size[3]], None, None)?);
        }
        filtered(x, &self.depthwise(x, 4.0)?, |x, filter| {
            x.f_conv_transpose2d(filter, None::<&Tensor>, 2, self.pad(), 0, x.size()[1], 1)
        })
    }

    /// `x`: `[N, C, H, W]`; returns `[N, C, H / 2, W / 2]`, with borders of zeros where it is `padded`.
    pub fn down(&self, x: &Tensor, padded: bool) -> Result<Tensor> {
        if self.filter.size()[3] == 2 {
            return Ok(x.f_avg_pool2d(2, 2, 0, false, true, None)?);
        }
        let pad = if padded { self.pad() } else { 0 };
        filtered(x, &self.depthwise(x, 1.0)?, |x, filter| x.f_conv2d(filter, None::<&Tensor>, 2, pad, 1, x.size()[1]))
    }
}

/// `filter` applied by `convolution`, in f32 where `x` is bf16 on a CPU: oneDNN has no fast transposed depthwise convolution
/// of bf16, neither as such nor as the gradient of a plain one (nearly fifty times the time of f32).
fn filtered(
    x: &Tensor,
    filter: &Tensor,
    convolution: impl Fn(&Tensor, &Tensor) -> std::result::Result<Tensor, TchError>,
) -> Result<Tensor> {
    if x.device() != Device::Cpu || x.kind() != Kind::BFloat16 {
        return Ok(convolution(x, filter)?);
    }
    Ok(convolution(&x.f_to_kind(Kind::Float)?, &filter.f_to_kind(Kind::Float)?)?.f_to_kind(x.kind())?)
}

/// `f f^T / (sum f)^2` as `[1, 1, n, n]`.
fn filter_2d(filter: &[i64]) -> Tensor {
    let f = Tensor::from_slice(filter).to_kind(Kind::Float);
    let sum: i64 = filter.iter().sum();
    (f.outer(&f) / (sum * sum) as f64).unsqueeze(0).unsqueeze(0)
}

/// Group normalisation with at least 4 channels a group and at most 32 groups.
#[derive(Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    /// Builds the layer under `name`.
    pub fn new(b: &mut Builder, name: &str, channels: i64, eps: f64) -> Result<Self> {
        let groups = (channels / 4).min(32);
        if groups == 0 || channels % groups != 0 {
            return Err(Error::Architecture(format!(
                "{name}, a group normalisation, has {channels} channels, which do not make {} equal groups; widths that are \
                 multiples of 32 always do",
                groups.max(1)
            )));
        }
        Ok(Self {
            weight: b.constant(&format!("{name}.weight"), &[channels], 1.0)?,
            bias: b.constant(&format!("{name}.bias"), &[channels], 0.0)?,
            groups,
            eps,
        })
    }

    /// The operation on its own, to which a caller adds what stands around it.
    pub fn op(&self) -> NormAct<'_> {
        NormAct {
            groups: self.groups,
            eps: self.eps,
            weight: &self.weight,
            bias: &self.bias,
            shift: None,
            silu: false,
            dropout: None,
        }
    }

    /// SiLU of the normalised `x`: `[N, C, H, W]`.
    pub fn silu(&self, x: &Tensor) -> Result<Tensor> {
        NormAct { silu: true, ..self.op() }.forward(x)
    }
}

/// How a noise level becomes a vector.
#[derive(Debug)]
pub enum NoiseEmbedding {
    /// Geometric frequencies; with `endpoint` the last is 1/10000 exactly.
    Positional {
        /// Size of the embedding.
        channels: i64,
        /// Whether the last frequency is 1/10000.
        endpoint: bool,
    },
    /// Random frequencies, stored with the network: `[channels / 2]`.
    Fourier {
        /// The frequencies, in cycles.
        freqs: Tensor,
    },
}

impl NoiseEmbedding {
    /// Sinusoids of geometric frequencies; with `endpoint` the last is 1/10000 exactly.
    pub fn positional(name: &str, channels: i64, endpoint: bool) -> Result<Self> {
        even(name, channels)?;
        Ok(Self::Positional { channels, endpoint })
    }

    /// Fourier features with frequencies N(0, 16^2).
    pub fn fourier(b: &mut Builder, name: &str, channels: i64) -> Result<Self> {
        even(name, channels)?;
        Ok(Self::Fourier { freqs: b.drawn_buffer(&format!("{name}.freqs"), &[channels / 2], 16.0)? })
    }

    /// `noise`: `[N]`; returns `[N, channels]`: cosines, then sines.
    pub fn forward(&self, noise: &Tensor) -> Result<Tensor> {
        let phase = match self {
            Self::Positional { channels, endpoint } => {
                let half = channels / 2;
                let last = half - i64::from(*endpoint);
                let steps = Tensor::f_arange(half, (Kind::Float, noise.device()))?.f_div_scalar(last as f64)?;
                noise.f_outer(&Tensor::f_pow_scalar(1.0 / 10_000.0, &steps)?)?
            }
            Self::Fourier { freqs } => noise.f_outer(&freqs.f_mul_scalar(std::f64::consts::TAU)?)?,
        };
        Ok(Tensor::f_cat(&[phase.f_cos()?, phase.f_sin()?], 1)?)
    }
}

/// A cosine and a sine of each frequency make an even number.
fn even(name: &str, channels: i64) -> Result<()> {
    if channels % 2 == 0 {
        return Ok(());
    }
    Err(Error::Architecture(format!(
        "{name}, the embedding of the noise level, has {channels} channels and needs an even number"
    )))
}

/// Initialisations of the DDPM++ and NCSN++ networks.
pub mod song_init {
    use super::{Init, InitMode};

    /// Most layers.
    pub const DEFAULT: Init = Init::new(InitMode::XavierUniform, 1.0);
    /// The last convolution of a block, which starts near zero.
    pub const ZERO: Init = Init::new(InitMode::XavierUniform, 1e-5);
    /// Queries, keys and values: sqrt(0.2).
    pub const ATTENTION: Init = Init::new(InitMode::XavierUniform, 0.447_213_595_499_957_9);
}

/// Initialisations of the ADM network.
pub mod adm_init {
    use super::{Init, InitMode};

    const SQRT_THIRD: f64 = 0.577_350_269_189_625_8;
    /// Most layers: what PyTorch draws by default, weights and biases.
    pub const DEFAULT: Init = Init { mode: InitMode::KaimingUniform, weight: SQRT_THIRD, bias: SQRT_THIRD };
    /// The last convolution of a block, which starts at zero.
    pub const ZERO: Init = Init::new(InitMode::KaimingUniform, 0.0);
}

/// The label embedding of ADM: N(0, 1) for one-hot labels.
pub fn adm_label_init(label_dim: i64) -> Init {
    Init::new(InitMode::KaimingNormal, (label_dim as f64).sqrt())
}
