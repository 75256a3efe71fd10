//! EDM2's network (Karras et al. 2024, arXiv 2312.02696, configuration G): every layer keeps the magnitude of its input. Weights are
//! normalised where they are used, nothing has a bias, and a constant channel of ones enters with the image.
//!
//! Embeddings are computed in f32 whatever the network computes in, as in the EDM2 code.

use tch::{Kind, Tensor};

use super::layers::{Resample, Resampler};
use super::{Conditions, Masks};
use crate::config::{Edm2Config, ModelConfig};
use crate::error::{Error, Result};
use crate::ffi;
use crate::kernels::{self, Dropout};
use crate::params::{Builder, Init, InitMode};
use crate::random::MaskSeed;

/// Added to every norm.
const EPS: f64 = 1e-4;
/// The magnitude of SiLU of unit normal numbers (Eq. 81).
const SILU_MAGNITUDE: f64 = 0.596;

/// The network, with its prediction of the expected loss.
#[derive(Debug)]
pub struct Edm2UNet {
    emb_fourier: MpFourier,
    emb_noise: MpConv,
    emb_label: Option<MpConv>,
    input: MpConv,
    enc: Vec<Block>,
    dec: Vec<Block>,
    out_conv: MpConv,
    out_gain: Tensor,
    logvar_fourier: MpFourier,
    logvar_linear: MpConv,
    label_balance: f64,
    concat_balance: f64,
}

impl Edm2UNet {
    /// Builds the network under the names of EDM2's `Precond`.
    pub fn new(b: &mut Builder, model: &ModelConfig, c: &Edm2Config) -> Result<Self> {
        let first = c.model_channels * c.channel_mult[0];
        let largest = c.channel_mult.iter().copied().max().unwrap_or(1);
        let noise = c.channel_mult_noise.map_or(first, |mult| c.model_channels * mult);
        let emb = c.model_channels * c.channel_mult_emb.unwrap_or(largest);
        let out_gain = b.constant("unet.out_gain", &[], 0.0)?;
        let emb_fourier = MpFourier::new(b, "unet.emb_fourier", noise)?;
        let emb_noise = MpConv::new(b, "unet.emb_noise", noise, emb, &[])?;
        let mut emb_label = None;
        if model.label_dim > 0 {
            emb_label = Some(MpConv::new(b, "unet.emb_label", model.label_dim, emb, &[])?);
        }
        let (input, enc, skips) = encoder(b, model, c, emb)?;
        let (dec, channels) = decoder(b, model, c, emb, skips)?;
        Ok(Self {
            emb_fourier,
            emb_noise,
            emb_label,
            input,
            enc,
            dec,
            out_conv: MpConv::new(b, "unet.out_conv", channels, model.img_channels, &[3, 3])?,
            out_gain,
            logvar_fourier: MpFourier::new(b, "logvar_fourier", c.logvar_channels)?,
            logvar_linear: MpConv::new(b, "logvar_linear", c.logvar_channels, 1, &[])?,
            label_balance: c.label_balance,
            concat_balance: c.concat_balance,
        })
    }

    /// `x`: `[N, C, H, W]`, `c_noise`: `[N or 1]`; returns `[N, C, H, W]`.
    pub fn forward(&self, x: &Tensor, c_noise: &Tensor, conditions: &Conditions) -> Result<Tensor> {
        let (mut masks, emb) = (Masks::of(conditions), self.embedding(c_noise, conditions)?);
        let (mut x, mut skips) = self.encode(x, &emb, &mut masks)?;
        for block in &self.dec {
            if block.takes_skip
                && let Some(skip) = skips.pop()
            {
                x = mp_cat(&x, &skip, self.concat_balance)?;
            }
            x = block.forward(&x, &emb, masks.next())?;
        }
        self.out_conv.forward(&x, Some(&self.out_gain))
    }

    /// What the encoder hands to the decoder, first to last.
    pub fn encoded(&self, x: &Tensor, c_noise: &Tensor, conditions: &Conditions) -> Result<Vec<Tensor>> {
        let (mut masks, emb) = (Masks::of(conditions), self.embedding(c_noise, conditions)?);
        Ok(self.encode(x, &emb, &mut masks)?.1)
    }

    /// `c_noise`: `[N]`; returns `[N]`.
    pub fn logvar(&self, c_noise: &Tensor) -> Result<Tensor> {
        Ok(self.logvar_linear.forward(&self.logvar_fourier.forward(c_noise)?, None)?.f_flatten(0, -1)?)
    }

    fn encode(&self, x: &Tensor, emb: &Tensor, masks: &mut Masks) -> Result<(Tensor, Vec<Tensor>)> {
        let ones = x.f_narrow(1, 0, 1)?.f_ones_like()?;
        let mut x = self.input.forward(&Tensor::f_cat(&[x, &ones], 1)?, None)?;
        let mut skips = vec![x.shallow_clone()];
        for block in &self.enc {
            x = block.forward(&x, emb, masks.next())?;
            skips.push(x.shallow_clone());
        }
        Ok((x, skips))
    }

    fn embedding(&self, c_noise: &Tensor, conditions: &Conditions) -> Result<Tensor> {
        let mut emb = self.emb_noise.forward(&self.emb_fourier.forward(c_noise)?, None)?; // [N or 1, emb]
        if let Some(map) = &self.emb_label {
            let of_label = match conditions.class_labels {
                Some(labels) => {
                    let one_hot = labels.f_to_kind(Kind::Float)?.f_mul_scalar((labels.size()[1] as f64).sqrt())?;
                    map.forward(&one_hot, None)?
                }
                None => emb.f_zeros_like()?,
            };
            emb = mp_sum(&emb, &of_label, self.label_balance)?;
        }
        mp_silu(&emb)
    }
}

/// The first convolution, the encoder's blocks, and the channels of each skip connection.
fn encoder(b: &mut Builder, model: &ModelConfig, c: &Edm2Config, emb: i64) -> Result<(MpConv, Vec<Block>, Vec<i64>)> {
    let mut channels = c.model_channels * c.channel_mult[0];
    let name = format!("unet.enc.{0}x{0}_conv", model.img_resolution);
    let input = MpConv::new(b, &name, model.img_channels + 1, channels, &[3, 3])?;
    let (mut enc, mut skips) = (Vec::new(), vec![channels]);
    for (level, mult) in c.channel_mult.iter().enumerate() {
        let res = model.img_resolution >> level;
        let at = |what: String| format!("unet.enc.{res}x{res}_{what}");
        let flavor =
            Flavor { is_encoder: true, resample: Resample::Keep, attention: c.attn_resolutions.contains(&res) };
        if level > 0 {
            let down = Flavor { resample: Resample::Down, attention: false, ..flavor };
            enc.push(Block::new(b, &at("down".to_owned()), [channels, channels, emb], down, c)?);
            skips.push(channels);
        }
        for idx in 0..c.num_blocks {
            let c_out = c.model_channels * mult;
            enc.push(Block::new(b, &at(format!("block{idx}")), [channels, c_out, emb], flavor, c)?);
            channels = c_out;
            skips.push(channels);
        }
    }
    Ok((input, enc, skips))
}

/// The decoder's blocks and the channels that leave it.
fn decoder(
    b: &mut Builder,
    model: &ModelConfig,
    c: &Edm2Config,
    emb: i64,
    mut skips: Vec<i64>,
) -> Result<(Vec<Block>, i64)> {
    let last = c.channel_mult.len() - 1;
    let mut channels = c.model_channels * c.channel_mult[last];
    let mut dec = Vec::new();
    for (level, mult) in c.channel_mult.iter().enumerate().rev() {
        let res = model.img_resolution >> level;
        let at = |what: String| format!("unet.dec.{res}x{res}_{what}");
        let plain = Flavor { is_encoder: false, resample: Resample::Keep, attention: false };
        let before = if level == last {
            vec![("in0", Flavor { attention: true, ..plain }), ("in1", plain)]
        } else {
            vec![("up", Flavor { resample: Resample::Up, ..plain })]
        };
        for (name, flavor) in before {
            dec.push(Block::new(b, &at(name.to_owned()), [channels, channels, emb], flavor, c)?);
        }
        for idx in 0..=c.num_blocks {
            let c_in = channels + skips.pop().unwrap_or(0);
            channels = c.model_channels * mult;
            let flavor = Flavor { attention: c.attn_resolutions.contains(&res), ..plain };
            let block = Block::new(b, &at(format!("block{idx}")), [c_in, channels, emb], flavor, c)?;
            dec.push(Block { takes_skip: true, ..block });
        }
    }
    Ok((dec, channels))
}

/// What kind of block it is.
#[derive(Clone, Copy)]
struct Flavor {
    /// Of the encoder: its skip connection is projected first, and its pixels are normalised.
    is_encoder: bool,
    resample: Resample,
    attention: bool,
}

/// Residual block with optional self-attention (Figure 21).
#[derive(Debug)]
struct Block {
    takes_skip: bool,
    is_encoder: bool,
    resample: Resample,
    resampler: Resampler,
    emb_gain: Tensor,
    conv_res0: MpConv,
    emb_linear: MpConv,
    conv_res1: MpConv,
    conv_skip: Option<MpConv>,
    attention: Option<Attention>,
    dropout: f64,
    res_balance: f64,
    clip: Option<f64>,
}

impl Block {
    fn new(b: &mut Builder, name: &str, [c_in, c_out, emb]: [i64; 3], flavor: Flavor, c: &Edm2Config) -> Result<Self> {
        let at = |what: &str| format!("{name}.{what}");
        let emb_gain = b.constant(&at("emb_gain"), &[], 0.0)?;
        let c_res = if flavor.is_encoder { c_out } else { c_in };
        let conv_res0 = MpConv::new(b, &at("conv_res0"), c_res, c_out, &[3, 3])?;
        let emb_linear = MpConv::new(b, &at("emb_linear"), emb, c_out, &[])?;
        let conv_res1 = MpConv::new(b, &at("conv_res1"), c_out, c_out, &[3, 3])?;
        let mut conv_skip = None;
        if c_in != c_out {
            conv_skip = Some(MpConv::new(b, &at("conv_skip"), c_in, c_out, &[1, 1])?);
        }
        let heads = if flavor.attention { c_out / c.channels_per_head } else { 0 };
        Ok(Self {
            takes_skip: false,
            is_encoder: flavor.is_encoder,
            resample: flavor.resample,
            resampler: Resampler::new(&c.resample_filter, b.device()),
            emb_gain,
            conv_res0,
            emb_linear,
            conv_res1,
            conv_skip,
            attention: if heads > 0 { Some(Attention::new(b, name, c_out, heads, c)?) } else { None },
            dropout: c.dropout,
            res_balance: c.res_balance,
            clip: c.clip_act,
        })
    }

    /// `x`: `[N, in, H, W]`, `emb`: `[N or 1, emb]` f32; units are dropped where there is a `mask`.
    fn forward(&self, x: &Tensor, emb: &Tensor, mask: Option<MaskSeed>) -> Result<Tensor> {
        let mut x = match self.resample {
            Resample::Keep => x.shallow_clone(),
            Resample::Up => self.resampler.up(x)?,
            Resample::Down => self.resampler.down(x, true)?,
        };
        if self.is_encoder {
            x = normalized(&self.skipped(x)?, 1)?;
        }
        let mut y = self.conv_res0.forward(&mp_silu(&x)?, None)?;
        let scale = self.emb_linear.forward(emb, Some(&self.emb_gain))?.f_add_scalar(1.0)?; // [N or 1, out]
        y = mp_silu(&y.f_mul(&scale.f_to_kind(y.kind())?.f_reshape([-1, y.size()[1], 1, 1])?)?)?;
        if let Some(seed) = mask
            && self.dropout > 0.0
        {
            y = ffi::dropout(&y, Dropout { probability: self.dropout, seed })?;
        }
        y = self.conv_res1.forward(&y, None)?;
        if !self.is_encoder {
            x = self.skipped(x)?;
        }
        x = mp_sum(&x, &y, self.res_balance)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(&x)?;
        }
        match self.clip {
            Some(clip) => Ok(x.f_clamp(-clip, clip)?),
            None => Ok(x),
        }
    }

    fn skipped(&self, x: Tensor) -> Result<Tensor> {
        match &self.conv_skip {
            Some(conv) => conv.forward(&x, None),
            None => Ok(x),
        }
    }
}

/// Self-attention over all pixels, of normalised queries, keys and values.
#[derive(Debug)]
struct Attention {
    qkv: MpConv,
    proj: MpConv,
    heads: i64,
    balance: f64,
}

impl Attention {
    fn new(b: &mut Builder, name: &str, channels: i64, heads: i64, c: &Edm2Config) -> Result<Self> {
        if channels % heads != 0 {
            return Err(Error::Architecture(format!(
                "{name} has {channels} channels, which {heads} attention heads cannot share evenly; widths that are multiples \
                 of {} always fit",
                c.channels_per_head
            )));
        }
        Ok(Self {
            qkv: MpConv::new(b, &format!("{name}.attn_qkv"), channels, 3 * channels, &[1, 1])?,
            proj: MpConv::new(b, &format!("{name}.attn_proj"), channels, channels, &[1, 1])?,
            heads,
            balance: c.attn_balance,
        })
    }

    /// `x`: `[N, C, H, W]`. The softmax is always taken in f32.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (n, c, h, w) = x.size4()?;
        let channels = c / self.heads;
        let qkv = self.qkv.forward(x, None)?.f_reshape([n * self.heads, channels, 3, h * w])?;
        let parts = normalized(&qkv, 1)?.f_unbind(2)?; // q, k, v: [N * heads, C / heads, H * W]
        let q = parts[0].f_transpose(1, 2)?.f_to_kind(Kind::Float)?;
        let k = parts[1].f_div_scalar((channels as f64).sqrt())?.f_to_kind(Kind::Float)?;
        let weights = q.f_bmm(&k)?.f_softmax(2, None)?.f_to_kind(x.kind())?; // [N * heads, query, key]
        let y = parts[2].f_bmm(&weights.f_transpose(1, 2)?)?.f_reshape([n, c, h, w])?;
        mp_sum(x, &self.proj.forward(&y, None)?, self.balance)
    }
}

/// A convolution, or a fully connected layer, whose weights are normalised where they are used (Eq. 47).
#[derive(Debug)]
struct MpConv {
    /// `[out, in]`, or `[out, in, k, k]`.
    weight: Tensor,
}

impl MpConv {
    fn new(b: &mut Builder, name: &str, c_in: i64, c_out: i64, kernel: &[i64]) -> Result<Self> {
        let shape = [&[c_out, c_in], kernel].concat();
        let init = Init::new(InitMode::UnitNormal, 1.0);
        Ok(Self { weight: b.weight(&format!("{name}.weight"), &shape, (c_in, c_out), init)? })
    }

    /// `x`: `[N, in]` or `[N, in, H, W]`; `gain`: `[]`, 1 without.
    fn forward(&self, x: &Tensor, gain: Option<&Tensor>) -> Result<Tensor> {
        let inputs = (self.weight.numel() as i64 / self.weight.size()[0].max(1)) as f64;
        let others: Vec<i64> = (1..self.weight.dim() as i64).collect();
        let norm = self.weight.f_norm_scalaropt_dim(2, others, true)?;
        // w / (eps + |w| / sqrt(inputs)) / sqrt(inputs)
        let mut weight = self.weight.f_div(&norm.f_add_scalar(EPS * inputs.sqrt())?)?;
        if let Some(gain) = gain {
            weight = weight.f_mul(gain)?;
        }
        let weight = weight.f_to_kind(x.kind())?;
        if weight.dim() == 2 {
            return kernels::linear(x, &weight, None);
        }
        let pad = weight.size()[3] / 2;
        kernels::convolution(&kernels::network_format(x)?, &weight, None, [1, 1], [pad, pad])
    }
}

/// Cosines of a number in random frequencies and phases (Eq. 75).
#[derive(Debug)]
struct MpFourier {
    freqs: Tensor,
    phases: Tensor,
}

impl MpFourier {
    fn new(b: &mut Builder, name: &str, channels: i64) -> Result<Self> {
        // Phases that are drawn so wide are as good as uniform on the circle.
        let mut drawn = |what: &str| b.drawn_buffer(&format!("{name}.{what}"), &[channels], std::f64::consts::TAU);
        Ok(Self { freqs: drawn("freqs")?, phases: drawn("phases")? })
    }

    /// `x`: `[N]`; returns `[N, channels]` f32.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let angle = x.f_to_kind(Kind::Float)?.f_outer(&self.freqs)?.f_add(&self.phases)?;
        Ok(angle.f_cos()?.f_mul_scalar(std::f64::consts::SQRT_2)?)
    }
}

/// `x` over the root mean square of its numbers along `dim`.
fn normalized(x: &Tensor, dim: i64) -> Result<Tensor> {
    let count = x.size()[dim as usize] as f64;
    let norm = x.f_to_kind(Kind::Float)?.f_norm_scalaropt_dim(2, dim, true)?;
    let norm = norm.f_div_scalar(count.sqrt())?.f_add_scalar(EPS)?;
    Ok(x.f_div(&norm.f_to_kind(x.kind())?)?)
}

/// SiLU over its magnitude (Eq. 81).
fn mp_silu(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_silu()?.f_div_scalar(SILU_MAGNITUDE)?)
}

/// `(1 - t) a + t b` over its magnitude, were both independent (Eq. 88).
fn mp_sum(a: &Tensor, b: &Tensor, t: f64) -> Result<Tensor> {
    let size = ((1.0 - t).powi(2) + t.powi(2)).sqrt();
    Ok(a.f_mul_scalar((1.0 - t) / size)?.f_add(&b.f_mul_scalar(t / size)?)?)
}

/// Both along the channels, so that each counts as `t` says whatever their numbers of channels (Eq. 103).
fn mp_cat(a: &Tensor, b: &Tensor, t: f64) -> Result<Tensor> {
    let [of_a, of_b] = [a, b].map(|x| x.size()[1] as f64);
    let size = ((of_a + of_b) / ((1.0 - t).powi(2) + t.powi(2))).sqrt();
    let (a, b) = (a.f_mul_scalar(size / of_a.sqrt() * (1.0 - t))?, b.f_mul_scalar(size / of_b.sqrt() * t)?);
    Ok(Tensor::f_cat(&[a, b], 1)?)
}
