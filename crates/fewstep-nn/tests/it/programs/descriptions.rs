//! The JSON beside a program: read back, and checked field by field.

use fewstep_core::Parameterisation;
use fewstep_nn::program::ProgramConfig;
use fewstep_nn::program::config::EXAMPLE;
use serde_json::{Value, json};

use super::config;

#[test]
fn descriptions_are_read_back() {
    let full = config(|json| {
        *json = json!({
            "shape": [4, 32, 32],
            "parameterisation": {"type": "iddpm", "c_1": 0.001, "c_2": 0.008, "m": 1000},
            "classes": 1000,
            "inputs": ["labels", "noise", "x"],
            "labels": {"form": "index", "unconditional": 1000},
            "noise_shape": "scalar",
            "input_dtype": "bf16",
            "output_channels": 8,
            "decoder": {"path": "decoder.pt", "scale": 5.5, "shift": [0.0, 0.1, 0.2, 0.3], "input_dtype": "f16"},
        });
    });
    assert_eq!(full.parameterisation, Parameterisation::IDDPM);
    assert_eq!(full.parameterisation.sigma_max(), Parameterisation::IDDPM.sigma_max());
    assert_eq!(full.parameterisation.round_sigma(3.0), Parameterisation::IDDPM.round_sigma(3.0));
    assert_eq!(full.parameterisation.discrete_levels(), Parameterisation::IDDPM.discrete_levels());
    let denoiser = config(|json| {
        json["parameterisation"] = json!({"type": "denoiser", "sigma_min": 0.01, "sigma_max": 50.0});
    });
    let open = config(|json| json["parameterisation"]["sigma_max"] = json!("inf"));
    assert_eq!(open.parameterisation.sampling_range().1, 80.0);
    for config in [full, denoiser, open, ProgramConfig::from_json(EXAMPLE).unwrap()] {
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(ProgramConfig::from_json(&text).unwrap(), config, "{text}");
    }
}

#[test]
fn every_field_is_checked() {
    let labels = json!({"form": "index"});
    for (pointer, value, says) in [
        ("/shape", json!([]), "`shape` is []"),
        ("/shape", json!([4, 0, 5]), "`shape` is [4, 0, 5]"),
        ("/shape", json!([65536, 65536]), "at most"),
        ("/shape", json!([i64::MAX, i64::MAX]), "at most"),
        ("/parameterisation", json!("edm"), "`parameterisation`"),
        ("/parameterisation/type", json!("edn"), "`denoiser`"),
        ("/parameterisation/sigma_dat", json!(0.5), "unknown field `sigma_dat`"),
        ("/parameterisation/sigma_data", json!(-1.0), "sigma_data = -1"),
        ("/parameterisation", json!({"type": "denoiser"}), "missing field `sigma_min`"),
        (
            "/parameterisation",
            json!({"type": "denoiser", "sigma_min": 1, "sigma_max": 1}),
            "sigma_max = 1, which must be above sigma_min",
        ),
        ("/parameterisation", json!({"type": "denoiser", "sigma_min": 0, "sigma_max": 1}), "sigma_min = 0"),
        (
            "/parameterisation",
            json!({"type": "denoiser", "sigma_min": 1, "sigma_max": 2, "sigma_data": 1}),
            "unknown field `sigma_data`",
        ),
        ("/classes", json!(-1), "`classes` is -1"),
        ("/classes", json!(10), "must name \"x\", \"noise\" and \"labels\""),
        ("/inputs", json!(["x"]), "must name \"x\" and \"noise\", each once"),
        ("/inputs", json!(["x", "noise", "noise"]), "`inputs` is [\"x\", \"noise\", \"noise\"]"),
        ("/inputs", json!(["x", "noise", "labels"]), "with 0 classes"),
        ("/inputs", json!(["x", "sigma"]), "unknown variant `sigma`, expected one of `x`, `noise`, `labels`"),
        ("/labels", labels, "`classes` is 0"),
        ("/noise_shape", json!("vector"), "`batch`"),
        ("/input_dtype", json!("float32"), "`f32`"),
        ("/output_channels", json!(3), "`output_channels` is 3: it must be from 4"),
        ("/output_channel", json!(8), "unknown field `output_channel`"),
        ("/decoder", json!({}), "missing field `path`"),
        ("/decoder", json!({"path": ""}), "`decoder.path` is empty"),
        ("/decoder", json!({"path": "d.pt", "scal": 1}), "unknown field `scal`"),
        ("/decoder", json!({"path": "d.pt", "scale": 0}), "`decoder.scale` is 0: it must be finite and not 0"),
        ("/decoder", json!({"path": "d.pt", "shift": [1, 2]}), "`decoder.shift` has 2 numbers"),
    ] {
        let mut json = serde_json::to_value(config(|_| ())).unwrap();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap()[name] = value;
        let error = ProgramConfig::from_json(&json.to_string()).unwrap_err().to_string();
        assert!(error.contains(says), "{json}: {error}");
    }
    let with_labels = |labels: Value| {
        let mut json = serde_json::to_value(config(|_| ())).unwrap();
        json["classes"] = json!(10);
        json["inputs"] = json!(["x", "noise", "labels"]);
        json["labels"] = labels;
        ProgramConfig::from_json(&json.to_string()).unwrap_err().to_string()
    };
    for (labels, says) in [
        (Value::Null, "`labels` is missing"),
        (json!({"form": "index", "null": 3}), "unknown field `null`"),
        (json!({"form": "soft"}), "`one_hot`"),
        (json!({"form": "one_hot", "unconditional": 10}), "`labels.unconditional` is 10"),
        (json!({"form": "index", "unconditional": "zeros"}), "is \"zeros\", but its form is index"),
        (json!({"form": "index", "unconditional": "empty"}), "Unconditional"),
    ] {
        let error = with_labels(labels);
        assert!(error.contains(says), "{error}");
    }
}
