//! The residual block of all the U-Nets, with its optional self-attention.

use tch::{Kind, Tensor};

use super::layers::{Conv2d, ConvSpec, GroupNorm, Linear, Resample};
use crate::error::{Error, Result};
use crate::kernels::{self, Dropout, NormAct};
use crate::params::{Builder, Init};
use crate::random::MaskSeed;

/// What the blocks of one network have in common.
#[derive(Clone, Copy, Debug)]
pub struct BlockStyle<'a> {
    /// Size of the noise embedding.
    pub emb_channels: i64,
    /// Attention heads, or how many channels make one.
    pub heads: Heads,
    /// Dropout probability.
    pub dropout: f64,
    /// Factor on each sum.
    pub skip_scale: f64,
    /// Of the normalisations.
    pub eps: f64,
    /// Separable resampling filter.
    pub resample_filter: &'a [i64],
    /// Whether a resampled skip connection is also projected.
    pub resample_proj: bool,
    /// Whether the embedding scales as well as shifts.
    pub adaptive_scale: bool,
    /// Most layers' initialisation.
    pub init: Init,
    /// The last layers' initialisation.
    pub init_zero: Init,
    /// That of queries, keys and values.
    pub init_attn: Init,
}

/// How many attention heads a block has.
#[derive(Clone, Copy, Debug)]
pub enum Heads {
    /// This many.
    Count(i64),
    /// One for so many channels: none, and so no attention, where there are fewer (as in the EDM code).
    PerChannels(i64),
}

impl Heads {
    /// Heads of a block of so many channels.
    fn of(self, channels: i64) -> i64 {
        match self {
            Self::Count(count) => count,
            Self::PerChannels(per_head) => channels / per_head,
        }
    }
}

/// Residual block: norm, SiLU, conv, embedding, norm, SiLU, dropout, conv, sum; then attention.
#[derive(Debug)]
pub struct UNetBlock {
    /// Input channels, skip connection included.
    pub in_channels: i64,
    norm0: GroupNorm,
    conv0: Conv2d,
    affine: Linear,
    norm1: GroupNorm,
    conv1: Conv2d,
    skip: Option<Conv2d>,
    attention: Option<Attention>,
    dropout: f64,
    skip_scale: f64,
    adaptive_scale: bool,
}

impl UNetBlock {
    /// Builds the block under `name`.
    pub fn new(
        b: &mut Builder,
        name: &str,
        (c_in, c_out): (i64, i64),
        resample: Resample,
        attention: bool,
        style: &BlockStyle,
    ) -> Result<Self> {
        let filter = style.resample_filter;
        let norm0 = GroupNorm::new(b, &format!("{name}.norm0"), c_in, style.eps)?;
        let conv0_spec = ConvSpec::plain(c_in, c_out, 3).resampled(resample, filter);
        let conv0 = Conv2d::new(b, &format!("{name}.conv0"), conv0_spec, style.init)?;
        let affine_out = if style.adaptive_scale { 2 * c_out } else { c_out };
        let affine = Linear::new(b, &format!("{name}.affine"), style.emb_channels, affine_out, style.init)?;
        let norm1 = GroupNorm::new(b, &format!("{name}.norm1"), c_out, style.eps)?;
        let conv1 = Conv2d::new(b, &format!("{name}.conv1"), ConvSpec::plain(c_out, c_out, 3), style.init_zero)?;
        let mut skip = None;
        if c_out != c_in || resample != Resample::Keep {
            let kernel = i64::from(style.resample_proj || c_out != c_in);
            let spec = ConvSpec::plain(c_in, c_out, kernel).resampled(resample, filter);
            skip = Some(Conv2d::new(b, &format!("{name}.skip"), spec, style.init)?);
        }
        let heads = if attention { style.heads.of(c_out) } else { 0 };
        let attention = if heads > 0 { Some(Attention::new(b, name, c_out, heads, style)?) } else { None };
        Ok(Self {
            in_channels: c_in,
            norm0,
            conv0,
            affine,
            norm1,
            conv1,
            skip,
            attention,
            dropout: style.dropout,
            skip_scale: style.skip_scale,
            adaptive_scale: style.adaptive_scale,
        })
    }

    /// `x`: `[N, in, H, W]`, `emb`: `[N or 1, emb]`; returns `[N, out, H', W']`. Dropout where there is a seed for it.
    pub fn forward(&self, x: &Tensor, emb: &Tensor, seed: Option<MaskSeed>) -> Result<Tensor> {
        let h = self.conv0.forward(&self.norm0.silu(x)?)?;
        let dropout = seed.filter(|_| self.dropout > 0.0).map(|seed| Dropout { probability: self.dropout, seed });
        let h = self.conv1.forward(&self.modulated(&h, &self.affine.forward(emb)?, dropout)?)?;
        let resampled = self.skip.as_ref().map(|skip| skip.forward(x)).transpose()?;
        let h = kernels::scaled_sum(&h, resampled.as_ref().unwrap_or(x), self.skip_scale)?;
        match &self.attention {
            Some(attention) => kernels::scaled_sum(&attention.forward(&h)?, &h, self.skip_scale),
            None => Ok(h),
        }
    }

    /// Second normalisation, with what the embedding says: `params` is `[N or 1, out]`, a shift before it, or
    /// `[N or 1, 2 out]`, a scale and a shift after it.
    fn modulated(&self, h: &Tensor, params: &Tensor, dropout: Option<Dropout>) -> Result<Tensor> {
        let norm = NormAct { silu: true, dropout, ..self.norm1.op() };
        if !self.adaptive_scale {
            return NormAct { shift: Some(params), ..norm }.forward(h);
        }
        let parts = params.f_chunk(2, 1)?; // scale, shift: [N or 1, out]
        let scale = parts[0].f_add_scalar(1.0)?;
        let (weight, bias) = (norm.weight.f_mul(&scale)?, norm.bias.f_mul(&scale)?.f_add(&parts[1])?);
        NormAct { weight: &weight, bias: &bias, ..norm }.forward(h)
    }
}

/// Self-attention over all pixels.
#[derive(Debug)]
struct Attention {
    norm: GroupNorm,
    qkv: Conv2d,
    proj: Conv2d,
    heads: i64,
}

impl Attention {
    fn new(b: &mut Builder, name: &str, channels: i64, heads: i64, style: &BlockStyle) -> Result<Self> {
        if channels % heads != 0 {
            return Err(Error::Architecture(format!(
                "{name} has {channels} channels, which {heads} attention heads cannot share evenly; widths that are multiples \
                 of 64 always fit"
            )));
        }
        Ok(Self {
            norm: GroupNorm::new(b, &format!("{name}.norm2"), channels, style.eps)?,
            qkv: Conv2d::new(b, &format!("{name}.qkv"), ConvSpec::plain(channels, 3 * channels, 1), style.init_attn)?,
            proj: Conv2d::new(b, &format!("{name}.proj"), ConvSpec::plain(channels, channels, 1), style.init_zero)?,
            heads,
        })
    }

    /// `x`: `[N, C, H, W]`. The softmax is always taken in f32.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (n, c, h, w) = x.size4()?;
        let channels = c / self.heads;
        let qkv = self.qkv.forward(&self.norm.op().forward(x)?)?.f_reshape([n * self.heads, channels, 3, h * w])?;
        let parts = qkv.f_unbind(2)?; // q, k, v: [N * heads, C / heads, H * W]
        let q = parts[0].f_transpose(1, 2)?.f_to_kind(Kind::Float)?;
        let k = parts[1].f_div_scalar((channels as f64).sqrt())?.f_to_kind(Kind::Float)?;
        let weights = q.f_bmm(&k)?.f_softmax(2, None)?.f_to_kind(x.kind())?; // [N * heads, query, key]
        let a = parts[2].f_bmm(&weights.f_transpose(1, 2)?)?;
        self.proj.forward(&a.f_reshape([n, c, h, w])?)
    }
}
