//! DDPM++ and NCSN++ (Song et al. 2021), as re-implemented for Karras et al. 2022.

use tch::Tensor;

use super::block::{BlockStyle, Heads, UNetBlock};
use super::layers::{Conv2d, ConvSpec, GroupNorm, Linear, NoiseEmbedding, Resample, song_init};
use super::{Conditions, Masks, drop_labels};
use crate::config::{Embedding, ModelConfig, PathKind, SongConfig};
use crate::error::Result;
use crate::params::Builder;

/// A module of the encoder or decoder, in the order of execution.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // a network has a few dozen
enum Module {
    Conv(Conv2d),
    Block(UNetBlock),
    AuxDown(Conv2d),
    AuxSkip(Conv2d),
    AuxResidual(Conv2d),
    AuxUp(Conv2d),
    AuxNorm(GroupNorm),
    AuxConv(Conv2d),
}

/// DDPM++ (positional, standard) or NCSN++ (Fourier, residual) and every mixture of the two.
#[derive(Debug)]
pub struct SongUNet {
    label_dropout: f64,
    map_noise: NoiseEmbedding,
    map_label: Option<Linear>,
    map_augment: Option<Linear>,
    map_layer0: Linear,
    map_layer1: Linear,
    enc: Vec<Module>,
    dec: Vec<Module>,
}

impl SongUNet {
    /// Builds the network under `name`.
    pub fn new(b: &mut Builder, name: &str, model: &ModelConfig, c: &SongConfig) -> Result<Self> {
        let emb = c.model_channels * c.channel_mult_emb;
        let noise = c.model_channels * c.channel_mult_noise;
        let init = song_init::DEFAULT;
        let map_noise = match c.embedding_type {
            Embedding::Positional => NoiseEmbedding::positional(&format!("{name}.map_noise"), noise, true)?,
            Embedding::Fourier => NoiseEmbedding::fourier(b, &format!("{name}.map_noise"), noise)?,
        };
        let mut map_label = None;
        if model.label_dim > 0 {
            map_label = Some(Linear::new(b, &format!("{name}.map_label"), model.label_dim, noise, init)?);
        }
        let mut map_augment = None;
        if c.augment_dim > 0 {
            map_augment = Some(Linear::without_bias(b, &format!("{name}.map_augment"), c.augment_dim, noise, init)?);
        }
        let map_layer0 = Linear::new(b, &format!("{name}.map_layer0"), noise, emb, init)?;
        let map_layer1 = Linear::new(b, &format!("{name}.map_layer1"), emb, emb, init)?;
        let style = BlockStyle {
            emb_channels: emb,
            heads: Heads::Count(1),
            dropout: c.dropout,
            skip_scale: 0.5f64.sqrt(),
            eps: 1e-6,
            resample_filter: &c.resample_filter,
            resample_proj: true,
            adaptive_scale: false,
            init,
            init_zero: song_init::ZERO,
            init_attn: song_init::ATTENTION,
        };
        let (enc, skips) = encoder(b, name, model, c, &style)?;
        let dec = decoder(b, name, model, c, &style, skips)?;
        Ok(Self { label_dropout: c.label_dropout, map_noise, map_label, map_augment, map_layer0, map_layer1, enc, dec })
    }

    /// `x`: `[N, C, H, W]`, `c_noise`: `[N or 1]`; returns `[N, out, H, W]`.
    pub fn forward(&self, x: &Tensor, c_noise: &Tensor, conditions: &Conditions) -> Result<Tensor> {
        let mut masks = Masks::of(conditions);
        let emb = self.embedding(c_noise, conditions, &mut masks)?;
        let (x, skips) = self.encode(x, &emb, &mut masks)?;
        self.decode(x, skips, &emb, &mut masks)
    }

    /// What the encoder hands to the decoder, first to last.
    pub fn encoded(&self, x: &Tensor, c_noise: &Tensor, conditions: &Conditions) -> Result<Vec<Tensor>> {
        let mut masks = Masks::of(conditions);
        let emb = self.embedding(c_noise, conditions, &mut masks)?;
        Ok(self.encode(x, &emb, &mut masks)?.1)
    }

    fn embedding(&self, c_noise: &Tensor, conditions: &Conditions, masks: &mut Masks) -> Result<Tensor> {
        let emb = self.map_noise.forward(c_noise)?;
        let halves = emb.f_chunk(2, 1)?;
        let mut emb = Tensor::f_cat(&[&halves[1], &halves[0]], 1)?; // sines first
        if let (Some(map), Some(labels)) = (&self.map_label, conditions.class_labels) {
            let labels = drop_labels(labels, self.label_dropout, masks.next())?;
            emb = emb.f_add(&map.forward(&labels.f_mul_scalar((map.in_features() as f64).sqrt())?)?)?;
        } else if let Some(map) = &self.map_label {
            let labels = Tensor::f_zeros([1, map.in_features()], (emb.kind(), emb.device()))?;
            emb = emb.f_add(&map.forward(&labels)?)?;
        }
        if let (Some(map), Some(labels)) = (&self.map_augment, conditions.augment_labels) {
            emb = emb.f_add(&map.forward(labels)?)?;
        }
        Ok(self.map_layer1.forward(&self.map_layer0.forward(&emb)?.f_silu()?)?.f_silu()?)
    }

    fn encode(&self, x: &Tensor, emb: &Tensor, masks: &mut Masks) -> Result<(Tensor, Vec<Tensor>)> {
        let (mut x, mut aux) = (x.shallow_clone(), x.shallow_clone());
        let mut skips: Vec<Tensor> = Vec::with_capacity(self.enc.len());
        for module in &self.enc {
            match module {
                Module::Conv(conv) => x = conv.forward(&x)?,
                Module::Block(block) => x = block.forward(&x, emb, masks.next())?,
                Module::AuxDown(conv) => {
                    aux = conv.forward(&aux)?;
                    continue;
                }
                Module::AuxSkip(conv) => {
                    skips.pop();
                    x = x.f_add(&conv.forward(&aux)?)?;
                }
                Module::AuxResidual(conv) => {
                    skips.pop();
                    x = x.f_add(&conv.forward(&aux)?)?.f_div_scalar(2f64.sqrt())?;
                    aux = x.shallow_clone();
                }
                Module::AuxUp(_) | Module::AuxNorm(_) | Module::AuxConv(_) => continue,
            }
            skips.push(x.shallow_clone());
        }
        Ok((x, skips))
    }

    fn decode(&self, mut x: Tensor, mut skips: Vec<Tensor>, emb: &Tensor, masks: &mut Masks) -> Result<Tensor> {
        let mut aux: Option<Tensor> = None;
        let mut normed = None;
        for module in &self.dec {
            match module {
                Module::Block(block) => {
                    if x.size()[1] != block.in_channels
                        && let Some(skip) = skips.pop()
                    {
                        x = Tensor::f_cat(&[x, skip], 1)?;
                    }
                    x = block.forward(&x, emb, masks.next())?;
                }
                Module::AuxUp(conv) => aux = aux.map(|aux| conv.forward(&aux)).transpose()?,
                Module::AuxNorm(norm) => normed = Some(norm.silu(&x)?),
                Module::AuxConv(conv) => {
                    let out = conv.forward(&normed.take().unwrap_or_else(|| x.shallow_clone()))?;
                    aux = Some(match aux.take() {
                        Some(aux) => out.f_add(&aux)?,
                        None => out,
                    });
                }
                Module::Conv(_) | Module::AuxDown(_) | Module::AuxSkip(_) | Module::AuxResidual(_) => {}
            }
        }
        Ok(aux.unwrap_or(x))
    }
}

/// The encoder's modules and the channels of each skip connection.
fn encoder(
    b: &mut Builder,
    name: &str,
    model: &ModelConfig,
    c: &SongConfig,
    style: &BlockStyle,
) -> Result<(Vec<Module>, Vec<i64>)> {
    let init = song_init::DEFAULT;
    let mut enc = Vec::new();
    let mut skips = Vec::new();
    let (mut channels, mut aux_channels) = (model.img_channels, model.img_channels);
    for (level, mult) in c.channel_mult.iter().enumerate() {
        let res = model.img_resolution >> level;
        let at = |what: &str| format!("{name}.enc.{res}x{res}_{what}");
        if level == 0 {
            let spec = ConvSpec::plain(channels, c.model_channels, 3);
            enc.push(Module::Conv(Conv2d::new(b, &at("conv"), spec, init)?));
            channels = c.model_channels;
        } else {
            enc.push(Module::Block(UNetBlock::new(
                b,
                &at("down"),
                (channels, channels),
                Resample::Down,
                false,
                style,
            )?));
            let down = |kernel, c_out| {
                ConvSpec::plain(aux_channels, c_out, kernel).resampled(Resample::Down, &c.resample_filter)
            };
            match c.encoder_type {
                PathKind::Standard => {}
                PathKind::Skip => {
                    enc.push(Module::AuxDown(Conv2d::new(b, &at("aux_down"), down(0, aux_channels), init)?));
                    let spec = ConvSpec::plain(aux_channels, channels, 1);
                    enc.push(Module::AuxSkip(Conv2d::new(b, &at("aux_skip"), spec, init)?));
                }
                PathKind::Residual => {
                    let spec = ConvSpec { fused: true, ..down(3, channels) };
                    enc.push(Module::AuxResidual(Conv2d::new(b, &at("aux_residual"), spec, init)?));
                    aux_channels = channels;
                }
            }
        }
        skips.push(channels);
        for idx in 0..c.num_blocks {
            let c_out = c.model_channels * mult;
            let attention = c.attn_resolutions.contains(&res);
            let block =
                UNetBlock::new(b, &at(&format!("block{idx}")), (channels, c_out), Resample::Keep, attention, style)?;
            enc.push(Module::Block(block));
            channels = c_out;
            skips.push(channels);
        }
    }
    Ok((enc, skips))
}

fn decoder(
    b: &mut Builder,
    name: &str,
    model: &ModelConfig,
    c: &SongConfig,
    style: &BlockStyle,
    mut skips: Vec<i64>,
) -> Result<Vec<Module>> {
    let out_channels = model.out_channels();
    let last = c.channel_mult.len() - 1;
    let mut dec = Vec::new();
    let mut channels = c.model_channels * c.channel_mult[last];
    for (level, mult) in c.channel_mult.iter().enumerate().rev() {
        let res = model.img_resolution >> level;
        let at = |what: &str| format!("{name}.dec.{res}x{res}_{what}");
        let pair = (channels, channels);
        if level == last {
            dec.push(Module::Block(UNetBlock::new(b, &at("in0"), pair, Resample::Keep, true, style)?));
            dec.push(Module::Block(UNetBlock::new(b, &at("in1"), pair, Resample::Keep, false, style)?));
        } else {
            dec.push(Module::Block(UNetBlock::new(b, &at("up"), pair, Resample::Up, false, style)?));
        }
        for idx in 0..=c.num_blocks {
            let c_in = channels + skips.pop().unwrap_or(0);
            channels = c.model_channels * mult;
            let attention = idx == c.num_blocks && c.attn_resolutions.contains(&res);
            let block =
                UNetBlock::new(b, &at(&format!("block{idx}")), (c_in, channels), Resample::Keep, attention, style)?;
            dec.push(Module::Block(block));
        }
        if c.decoder_type == PathKind::Skip || level == 0 {
            if c.decoder_type == PathKind::Skip && level < last {
                let spec = ConvSpec::plain(out_channels, out_channels, 0).resampled(Resample::Up, &c.resample_filter);
                dec.push(Module::AuxUp(Conv2d::new(b, &at("aux_up"), spec, song_init::DEFAULT)?));
            }
            dec.push(Module::AuxNorm(GroupNorm::new(b, &at("aux_norm"), channels, 1e-6)?));
            let spec = ConvSpec::plain(channels, out_channels, 3);
            dec.push(Module::AuxConv(Conv2d::new(b, &at("aux_conv"), spec, song_init::ZERO)?));
        }
    }
    Ok(dec)
}
