//! Networks: ours, the EDM code's, and feature networks.

use std::collections::BTreeMap;
use std::path::Path;

use fewstep_core::denoiser::Denoiser;
use fewstep_core::parameterisation::{Parameterisation, Prediction};
use fewstep_eval::features::{self, OpenOptions};
use fewstep_io::hash;
use fewstep_io::safetensors::Header;
use fewstep_io::tensors::Dtype;
use fewstep_nn::Model;
use fewstep_nn::checkpoint::{self, Checkpoint};
use fewstep_nn::config::{Embedding, ModelConfig, NetworkConfig, PathKind};
use fewstep_nn::tch::Device;
use fewstep_report::Format;
use serde_json::{Value, json};

use super::{Description, of_shape};
use crate::error::Result;

/// A file of ours. Loading it checks that its tensors fit its architecture and are finite.
pub fn ours(path: &Path, header: &Header) -> Result<Description> {
    let is_half = header.tensors.values().any(|(dtype, _)| *dtype == Dtype::F16);
    let Checkpoint { model, notes } = checkpoint::load(path, Device::Cpu)?;
    let description = of_model("model", &model, &notes);
    Ok(description.fact("stored as", if is_half { "f16" } else { "f32" }).fact("sha256", hash::sha256_file(path)?))
}

/// A snapshot of the EDM or EDM2 code.
pub fn snapshot(path: &Path) -> Result<Description> {
    let Checkpoint { model, notes } = checkpoint::load(path, Device::Cpu)?;
    Ok(of_model("snapshot of the EDM or EDM2 code", &model, &notes).fact("sha256", hash::sha256_file(path)?))
}

/// A network with its parameterisation, and what its file says of it.
pub fn of_model(kind: &str, model: &Model, notes: &BTreeMap<String, String>) -> Description {
    let (config, spec) = (model.config(), model.spec());
    let classes = if spec.classes == 0 { "none, unconditional".to_owned() } else { spec.classes.to_string() };
    let parameters = model.params().trainable_count();
    let (low, high) = spec.levels.sampling;
    let rounded = |sigma: f64| Format::Shortest.write((sigma * 1e6).round() / 1e6);
    let description = Description::new(kind).told("network", json!(config.network), network(config)).told(
        "parameterisation",
        json!(config.parameterisation),
        parameterisation(&config.parameterisation),
    );
    let description = of_shape(description, &spec.shape)
        .told("classes", spec.classes, classes)
        .told("parameters", parameters, Format::Integer.write(parameters as f64))
        .told("noise levels", json!([low, high]), format!("{} to {} when sampling", rounded(low), rounded(high)));
    notes.iter().fold(description, |info, (key, text)| info.fact(&key.replace('_', " "), text.as_str()))
}

fn network(config: &ModelConfig) -> String {
    let (name, channels, levels, blocks, attention) = match &config.network {
        NetworkConfig::SongUNet(song) => {
            let name = match (song.embedding_type, song.encoder_type, song.decoder_type) {
                (Embedding::Positional, PathKind::Standard, PathKind::Standard) => "DDPM++".to_owned(),
                (Embedding::Fourier, PathKind::Residual, PathKind::Standard) => "NCSN++".to_owned(),
                (embedding, encoder, decoder) => {
                    format!("SongUNet ({embedding:?} embedding, {encoder:?} encoder, {decoder:?} decoder)")
                }
            };
            (name, song.model_channels, &song.channel_mult, song.num_blocks, &song.attn_resolutions)
        }
        NetworkConfig::DhariwalUNet(adm) => {
            ("ADM".to_owned(), adm.model_channels, &adm.channel_mult, adm.num_blocks, &adm.attn_resolutions)
        }
        NetworkConfig::Edm2UNet(edm2) => {
            ("EDM2".to_owned(), edm2.model_channels, &edm2.channel_mult, edm2.num_blocks, &edm2.attn_resolutions)
        }
        NetworkConfig::GaussianMixture(mixture) => {
            return format!("mixture of {} Gaussians, an exact denoiser", mixture.components);
        }
    };
    let attention = if attention.is_empty() { "none".to_owned() } else { format!("{attention:?}") };
    let augment = if config.network.augment_dim() > 0 { ", knows augmentations" } else { "" };
    format!(
        "{name}, {channels} channels times {levels:?}, {blocks} block(s) a level, attention at {attention}{augment}"
    )
}

fn parameterisation(of: &Parameterisation) -> String {
    match of {
        Parameterisation::Edm { sigma_data, .. } => format!("EDM, sigma_data {sigma_data}"),
        Parameterisation::Vp { beta_d, beta_min, m, .. } => {
            format!("VP, beta_d {beta_d}, beta_min {beta_min}, {m} steps")
        }
        Parameterisation::Ve { sigma_min, sigma_max } => format!("VE, {sigma_min} to {sigma_max}"),
        Parameterisation::Iddpm { m, .. } => format!("iDDPM, {m} discrete noise levels"),
        Parameterisation::Alphas(network) => {
            let predicts = match network.prediction() {
                Prediction::Eps => "the noise",
                Prediction::V => "v",
                Prediction::X0 => "the image",
            };
            format!("predicts {predicts}, a table of alphas with {} noise levels", network.levels().len())
        }
        Parameterisation::Flow(flow) => format!("rectified flow, shift {}", flow.shift),
        Parameterisation::Denoiser { .. } => "none, the network answers the denoised image".to_owned(),
    }
}

/// A feature network. Opening it checks its weights.
pub fn features(path: &Path, header: &Header) -> Result<Description> {
    let network = features::open(path, &OpenOptions::default(), Device::Cpu)?;
    let mut info = Description::new("feature network").fact("architecture", network.id().name.as_str());
    for (key, text) in header.metadata.iter().filter(|(key, _)| !matches!(key.as_str(), "format" | "architecture")) {
        info = info
            .fact(&key.replace('_', " "), serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str())));
    }
    Ok(info.fact("sha256", network.id().sha256.as_str()))
}
