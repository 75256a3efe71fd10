//! ADM (Dhariwal and Nichol 2021), as re-implemented for Karras et al. 2022.

use tch::Tensor;

use super::block::{BlockStyle, Heads, UNetBlock};
use super::layers::{Conv2d, ConvSpec, GroupNorm, Linear, NoiseEmbedding, Resample, adm_init, adm_label_init};
use super::{Conditions, Masks, drop_labels};
use crate::config::{DhariwalConfig, ModelConfig};
use crate::error::Result;
use crate::params::Builder;

/// The ADM network.
#[derive(Debug)]
pub struct DhariwalUNet {
    label_dropout: f64,
    map_noise: NoiseEmbedding,
    map_augment: Option<Linear>,
    map_layer0: Linear,
    map_layer1: Linear,
    map_label: Option<Linear>,
    input: Conv2d,
    enc: Vec<UNetBlock>,
    dec: Vec<UNetBlock>,
    out_norm: GroupNorm,
    out_conv: Conv2d,
}

impl DhariwalUNet {
    /// Builds the network under `name`.
    pub fn new(b: &mut Builder, name: &str, model: &ModelConfig, c: &DhariwalConfig) -> Result<Self> {
        let emb = c.model_channels * c.channel_mult_emb;
        let init = adm_init::DEFAULT;
        let map_noise = NoiseEmbedding::positional(&format!("{name}.map_noise"), c.model_channels, false)?;
        let mut map_augment = None;
        if c.augment_dim > 0 {
            let map = Linear::without_bias(
                b,
                &format!("{name}.map_augment"),
                c.augment_dim,
                c.model_channels,
                adm_init::ZERO,
            )?;
            map_augment = Some(map);
        }
        let map_layer0 = Linear::new(b, &format!("{name}.map_layer0"), c.model_channels, emb, init)?;
        let map_layer1 = Linear::new(b, &format!("{name}.map_layer1"), emb, emb, init)?;
        let mut map_label = None;
        if model.label_dim > 0 {
            let init = adm_label_init(model.label_dim);
            map_label = Some(Linear::without_bias(b, &format!("{name}.map_label"), model.label_dim, emb, init)?);
        }
        let style = BlockStyle {
            emb_channels: emb,
            heads: Heads::PerChannels(64),
            dropout: c.dropout,
            skip_scale: 1.0,
            eps: 1e-5,
            resample_filter: &[1, 1],
            resample_proj: false,
            adaptive_scale: true,
            init,
            init_zero: adm_init::ZERO,
            init_attn: init,
        };
        let (input, enc, skips) = encoder(b, name, model, c, &style)?;
        let (dec, channels) = decoder(b, name, model, c, &style, skips)?;
        let out_norm = GroupNorm::new(b, &format!("{name}.out_norm"), channels, 1e-5)?;
        let spec = ConvSpec::plain(channels, model.out_channels(), 3);
        let out_conv = Conv2d::new(b, &format!("{name}.out_conv"), spec, adm_init::ZERO)?;
        let label_dropout = c.label_dropout;
        Ok(Self {
            label_dropout,
            map_noise,
            map_augment,
            map_layer0,
            map_layer1,
            map_label,
            input,
            enc,
            dec,
            out_norm,
            out_conv,
        })
    }

    /// `x`: `[N, C, H, W]`, `c_noise`: `[N or 1]`; returns `[N, out, H, W]`.
    pub fn forward(&self, x: &Tensor, c_noise: &Tensor, conditions: &Conditions) -> Result<Tensor> {
        let mut masks = Masks::of(conditions);
        let emb = self.embedding(c_noise, conditions, &mut masks)?;
        let (mut x, mut skips) = self.encode(x, &emb, &mut masks)?;
        for block in &self.dec {
            if x.size()[1] != block.in_channels
                && let Some(skip) = skips.pop()
            {
                x = Tensor::f_cat(&[x, skip], 1)?;
            }
            x = block.forward(&x, &emb, masks.next())?;
        }
        self.out_conv.forward(&self.out_norm.silu(&x)?)
    }

    /// What the encoder hands to the decoder, first to last.
    pub fn encoded(&self, x: &Tensor, c_noise: &Tensor, conditions: &Conditions) -> Result<Vec<Tensor>> {
        let mut masks = Masks::of(conditions);
        let emb = self.embedding(c_noise, conditions, &mut masks)?;
        Ok(self.encode(x, &emb, &mut masks)?.1)
    }

    fn encode(&self, x: &Tensor, emb: &Tensor, masks: &mut Masks) -> Result<(Tensor, Vec<Tensor>)> {
        let mut x = self.input.forward(x)?;
        let mut skips = vec![x.shallow_clone()];
        for block in &self.enc {
            x = block.forward(&x, emb, masks.next())?;
            skips.push(x.shallow_clone());
        }
        Ok((x, skips))
    }

    fn embedding(&self, c_noise: &Tensor, conditions: &Conditions, masks: &mut Masks) -> Result<Tensor> {
        let mut emb = self.map_noise.forward(c_noise)?;
        if let (Some(map), Some(labels)) = (&self.map_augment, conditions.augment_labels) {
            emb = emb.f_add(&map.forward(labels)?)?;
        }
        emb = self.map_layer1.forward(&self.map_layer0.forward(&emb)?.f_silu()?)?;
        if let (Some(map), Some(labels)) = (&self.map_label, conditions.class_labels) {
            emb = emb.f_add(&map.forward(&drop_labels(labels, self.label_dropout, masks.next())?)?)?;
        }
        Ok(emb.f_silu()?)
    }
}

/// The first convolution, the encoder's blocks, and the channels of each skip connection.
fn encoder(
    b: &mut Builder,
    name: &str,
    model: &ModelConfig,
    c: &DhariwalConfig,
    style: &BlockStyle,
) -> Result<(Conv2d, Vec<UNetBlock>, Vec<i64>)> {
    let first = c.model_channels * c.channel_mult[0];
    let res = model.img_resolution;
    let spec = ConvSpec::plain(model.img_channels, first, 3);
    let input = Conv2d::new(b, &format!("{name}.enc.{res}x{res}_conv"), spec, style.init)?;
    let mut enc = Vec::new();
    let mut channels = first;
    let mut skips = vec![first];
    for (level, mult) in c.channel_mult.iter().enumerate() {
        let res = model.img_resolution >> level;
        let at = |what: &str| format!("{name}.enc.{res}x{res}_{what}");
        if level > 0 {
            enc.push(UNetBlock::new(b, &at("down"), (channels, channels), Resample::Down, false, style)?);
            skips.push(channels);
        }
        for idx in 0..c.num_blocks {
            let c_out = c.model_channels * mult;
            let attention = c.attn_resolutions.contains(&res);
            enc.push(UNetBlock::new(
                b,
                &at(&format!("block{idx}")),
                (channels, c_out),
                Resample::Keep,
                attention,
                style,
            )?);
            channels = c_out;
            skips.push(channels);
        }
    }
    Ok((input, enc, skips))
}

fn decoder(
    b: &mut Builder,
    name: &str,
    model: &ModelConfig,
    c: &DhariwalConfig,
    style: &BlockStyle,
    mut skips: Vec<i64>,
) -> Result<(Vec<UNetBlock>, i64)> {
    let last = c.channel_mult.len() - 1;
    let mut dec = Vec::new();
    let mut channels = c.model_channels * c.channel_mult[last];
    for (level, mult) in c.channel_mult.iter().enumerate().rev() {
        let res = model.img_resolution >> level;
        let at = |what: &str| format!("{name}.dec.{res}x{res}_{what}");
        let pair = (channels, channels);
        if level == last {
            dec.push(UNetBlock::new(b, &at("in0"), pair, Resample::Keep, true, style)?);
            dec.push(UNetBlock::new(b, &at("in1"), pair, Resample::Keep, false, style)?);
        } else {
            dec.push(UNetBlock::new(b, &at("up"), pair, Resample::Up, false, style)?);
        }
        for idx in 0..=c.num_blocks {
            let c_in = channels + skips.pop().unwrap_or(0);
            channels = c.model_channels * mult;
            let attention = c.attn_resolutions.contains(&res);
            dec.push(UNetBlock::new(
                b,
                &at(&format!("block{idx}")),
                (c_in, channels),
                Resample::Keep,
                attention,
                style,
            )?);
        }
    }
    Ok((dec, channels))
}
