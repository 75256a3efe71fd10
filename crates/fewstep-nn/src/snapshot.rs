//! Networks from the pickled snapshots of the EDM and EDM2 code: constructor arguments become our description.

use std::collections::BTreeMap;
use std::path::Path;

use fewstep_core::parameterisation::Parameterisation;
use fewstep_io::edm_pkl::{self, EdmSnapshot, ModuleInfo};
use fewstep_io::tensors::TensorMap;
use serde_json::{Map, Value};

use crate::config::{ModelConfig, NetworkConfig};
use crate::error::{Error, Result};

/// Description, tensors by name and notes of a network's file.
pub type Parts = (ModelConfig, TensorMap, BTreeMap<String, String>);

/// EDM2's class of a network with its preconditioning.
const EDM2: &str = "Precond";

/// Reads a snapshot; nothing in it is executed.
pub fn read(path: &Path) -> Result<Parts> {
    let snapshot = edm_pkl::read(path)?;
    let config = describe(&snapshot).map_err(|what| Error::Checkpoint {
        path: path.display().to_string(),
        reason: format!("is not a usable snapshot of the EDM or EDM2 code: {what}"),
    })?;
    let code = if matches!(config.network, NetworkConfig::Edm2UNet(_)) { "EDM2" } else { "EDM" };
    let mut notes =
        BTreeMap::from([("source".to_owned(), format!("{code} snapshot, class {}", snapshot.class_name()))]);
    notes.extend(snapshot.encoder.as_ref().and_then(latents));
    Ok((config, snapshot.tensors, notes))
}

/// Of samples that are a VAE's latents, the note `latents of`: the VAE, and what undoes their scaling, as `latents.json` has it (docs/formats.md).
fn latents(encoder: &ModuleInfo) -> Option<(String, String)> {
    let numbers = |name: &str| -> Option<Vec<f64>> {
        let values = encoder.attributes.get(name)?.as_array()?;
        values.iter().map(Value::as_f64).collect()
    };
    let (scale, bias) = numbers("scale").zip(numbers("bias"))?;
    let vae = encoder.attributes.get("vae_name").and_then(Value::as_str).unwrap_or(&encoder.class_name);
    let short = |values: Vec<f64>| values.into_iter().map(|value| (value * 1e6).round() / 1e6).collect::<Vec<_>>();
    let shift = short(scale.iter().zip(bias).map(|(scale, bias)| -bias / scale).collect());
    let scale = short(scale.into_iter().map(f64::recip).collect());
    Some((
        "latents of".to_owned(),
        format!("{vae}; pixels = decode(x * scale + shift), scale {scale:?}, shift {shift:?}"),
    ))
}

/// The description that the constructor arguments amount to.
fn describe(snapshot: &EdmSnapshot) -> std::result::Result<ModelConfig, String> {
    let kwargs = &snapshot.net.init_kwargs;
    let number = |name: &str| snapshot.net.number(name).or_else(|| kwargs.get(name).and_then(Value::as_f64));
    let integer = |name: &str| kwargs.get(name).and_then(Value::as_i64);
    let parameterisation = of_class(snapshot.class_name(), number)?;
    parameterisation.validate().map_err(|error| error.to_string())?;
    let default_network = match parameterisation {
        _ if snapshot.class_name() == EDM2 => "Edm2UNet",
        Parameterisation::Iddpm { .. } | Parameterisation::Edm { .. } => "DhariwalUNet",
        _ => "SongUNet",
    };
    let mut network: Map<String, Value> = kwargs.clone();
    network.entry("model_type").or_insert_with(|| default_network.into());
    let network: NetworkConfig = serde_json::from_value(Value::Object(network))
        .map_err(|error| format!("its network is not one that fewstep knows: {error}"))?;
    Ok(ModelConfig {
        img_resolution: integer("img_resolution").ok_or("it does not say img_resolution")?,
        img_channels: integer("img_channels").ok_or("it does not say img_channels")?,
        label_dim: integer("label_dim").unwrap_or(0),
        use_fp16: kwargs.get("use_fp16").and_then(Value::as_bool).unwrap_or(false),
        parameterisation,
        network,
    })
}

fn of_class(class: &str, number: impl Fn(&str) -> Option<f64>) -> std::result::Result<Parameterisation, String> {
    let or = |name: &str, default: f64| number(name).unwrap_or(default);
    let count = |name: &str, default: usize| number(name).map_or(default, |value| value as usize);
    Ok(match class {
        "EDMPrecond" | EDM2 => Parameterisation::Edm {
            sigma_data: or("sigma_data", 0.5),
            sigma_min: or("sigma_min", 0.0),
            sigma_max: or("sigma_max", f64::INFINITY),
        },
        // The range of the others is stored as attributes, but follows from these.
        "VPPrecond" => Parameterisation::Vp {
            beta_d: or("beta_d", 19.9),
            beta_min: or("beta_min", 0.1),
            m: count("M", 1000),
            epsilon_t: or("epsilon_t", 1e-5),
        },
        "VEPrecond" => Parameterisation::Ve { sigma_min: or("sigma_min", 0.02), sigma_max: or("sigma_max", 100.0) },
        "iDDPMPrecond" => Parameterisation::Iddpm { c_1: or("C_1", 0.001), c_2: or("C_2", 0.008), m: count("M", 1000) },
        other => {
            return Err(format!(
                "its class is '{other}', fewstep knows EDMPrecond, VPPrecond, VEPrecond and iDDPMPrecond, and EDM2's {EDM2}"
            ));
        }
    })
}
