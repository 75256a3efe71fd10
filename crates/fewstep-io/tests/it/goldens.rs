//! The reference snapshots and arrays that lie beside the project, where they do.

use std::path::PathBuf;

use fewstep_io::{edm_pkl, npz, tensors};
use serde_json::Value;

fn goldens() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: the reference data is not at {}", folder.display());
    None
}

const NETWORKS: [&str; 6] =
    ["ddpmpp_edm", "ncsnpp_edm_cond", "ddpmpp_vp", "ncsnpp_ve", "adm_edm_cond_fp16", "adm_iddpm_cond"];

#[test]
fn all_reference_snapshots_are_read() {
    let Some(folder) = goldens() else { return };
    let meta: Value = serde_json::from_slice(&std::fs::read(folder.join("meta.json")).unwrap()).unwrap();
    for name in NETWORKS {
        let snapshot = edm_pkl::read(folder.join(format!("{name}.pkl"))).unwrap_or_else(|e| panic!("{e}"));
        let expected = &meta[name];
        assert_eq!(snapshot.class_name(), expected["precond"], "{name}");
        assert_eq!(Value::Object(snapshot.net.init_kwargs.clone()), expected["kwargs"], "{name}");
        let model = snapshot.model.as_ref().unwrap();
        assert_eq!(model.class_name, expected["kwargs"]["model_type"], "{name}");
        let is_buffer = |name: &str| name == "u" || name.ends_with("resample_filter") || name.ends_with("freqs");
        let params: usize = snapshot.tensors.iter().filter(|(name, _)| !is_buffer(name)).map(|(_, t)| t.numel()).sum();
        assert_eq!(params, expected["params"], "{name}");
        tensors::check_finite(&snapshot.tensors).unwrap();
        assert_eq!(snapshot.dataset_kwargs["resolution"], 16);
    }
}

#[test]
fn names_shapes_and_attributes_are_those_of_the_python_class() {
    let Some(folder) = goldens() else { return };
    let snapshot = edm_pkl::read(folder.join("ncsnpp_edm_cond.pkl")).unwrap();
    assert_eq!(snapshot.tensors["model.enc.16x16_conv.weight"].shape, [16, 3, 3, 3]);
    assert!(snapshot.tensors.contains_key("model.map_noise.freqs"));
    let filter = &snapshot.tensors["model.enc.8x8_down.conv0.resample_filter"];
    assert_eq!(filter.shape, [1, 1, 4, 4]);
    assert!((filter.to_f32().iter().sum::<f32>() - 1.0).abs() < 1e-6);
    assert_eq!(snapshot.net.number("sigma_data"), Some(0.5));
    assert_eq!(snapshot.net.number("sigma_max"), Some(f64::INFINITY));

    let iddpm = edm_pkl::read(folder.join("adm_iddpm_cond.pkl")).unwrap();
    let u = iddpm.tensors["u"].to_f64();
    assert_eq!(u.len(), 1001);
    assert_eq!(iddpm.net.number("sigma_max"), Some(u[0]));
    assert_eq!(iddpm.net.number("M"), Some(1000.0));
    let first = iddpm.tensors.keys().next().map(String::as_str);
    assert_eq!(first, Some("u"), "buffers of the outer module come before inner modules");
}

/// EDM2 keeps what makes pixels of samples beside the network: of a VAE's latents its name and the scale of each channel.
#[test]
fn snapshots_of_edm2_are_read() {
    let Some(folder) = goldens() else { return };
    for (name, encoder, channels) in [
        ("edm2_uncond", "StandardRGBEncoder", 3),
        ("edm2_cond", "StandardRGBEncoder", 3),
        ("edm2_latent_cond", "StabilityVAEEncoder", 4),
    ] {
        let snapshot = edm_pkl::read(folder.join(format!("{name}.pkl"))).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((snapshot.class_name(), snapshot.model.as_ref().unwrap().class_name.as_str()), ("Precond", "UNet"));
        assert_eq!(snapshot.net.init_kwargs["img_channels"], channels, "{name}");
        assert!(
            snapshot.tensors["unet.out_gain"].shape.is_empty() && snapshot.tensors.contains_key("logvar_linear.weight")
        );
        let found = snapshot.encoder.unwrap();
        assert_eq!(found.class_name, encoder, "{name}");
        let scale = found.attributes.get("scale").and_then(Value::as_array).map(Vec::len);
        assert_eq!(scale, (channels == 4).then_some(4), "{name}");
    }
}

#[test]
fn reference_arrays_are_read() {
    let Some(folder) = goldens() else { return };
    for name in NETWORKS {
        let arrays = npz::read(folder.join(format!("{name}.npz"))).unwrap();
        assert_eq!(arrays["x"].shape, [4, 3, 16, 16]);
        assert_eq!(arrays["denoised"].shape, arrays["x"].shape);
        assert_eq!(arrays["round_sigma"].shape, [4]);
        tensors::check_finite(&arrays.into_iter().filter(|(name, _)| name == "denoised").collect()).unwrap();
    }
    let distances = npz::read_some(folder.join("distances.npz"), &["features_a", "fid"]).unwrap();
    assert_eq!(distances["features_a"].shape, [400, 24]);
}
