//! Snapshots as PyTorch 1.12 and others spell them, and state dictionaries written by torch.save.

use fewstep_io::{Dtype, Error, TensorMap, edm_pkl, tensors, torch_zip};
use serde_json::json;

use crate::testdata;

fn message(name: &str) -> String {
    edm_pkl::read(testdata("edm_pickles").join(name)).expect_err(name).to_string()
}

#[test]
fn one_snapshot_in_every_protocol_reads_the_same() {
    for protocol in 0..=5 {
        let path = testdata("edm_pickles").join(format!("protocol{protocol}.pkl"));
        let snapshot = edm_pkl::read(path).unwrap_or_else(|e| panic!("protocol {protocol}: {e}"));
        let names: Vec<&str> = snapshot.tensors.keys().map(String::as_str).collect();
        let expected = ["u", "steps", "model.enc.16x16_conv.weight", "model.enc.16x16_conv.bias"];
        assert_eq!(names, expected, "protocol {protocol}");
        let weight = &snapshot.tensors["model.enc.16x16_conv.weight"];
        assert_eq!((weight.shape.as_slice(), weight.to_f32()), (&[2, 3][..], vec![0.0, 2.0, 4.0, 1.0, 3.0, 5.0]));
        assert_eq!(snapshot.tensors["model.enc.16x16_conv.bias"].to_f32(), [4.0, 5.0]);
        assert_eq!(snapshot.tensors["u"].dtype, Dtype::F16);
        assert_eq!(snapshot.tensors["u"].to_f32(), [0.5, -1.0]);
        assert_eq!(snapshot.tensors["steps"].to_i64().unwrap(), [7], "a view into a storage");

        assert_eq!(snapshot.class_name(), "EDMPrecond");
        assert_eq!(snapshot.net.init_kwargs["use_fp16"], true);
        assert_eq!(snapshot.net.number("sigma_max"), Some(f64::INFINITY));
        let model = snapshot.model.unwrap();
        assert_eq!(model.class_name, "SongUNet");
        assert_eq!(model.init_kwargs["init_weight"], 0.577);
        assert_eq!(model.init_kwargs["channel_mult"], json!([1, 2]));
        assert_eq!(model.attributes["table"], json!([1.5, -2.0]));
        assert_eq!(snapshot.loss_fn.unwrap().number("P_mean"), Some(-1.2));
        assert_eq!(snapshot.augment_pipe, None);
        assert_eq!(snapshot.dataset_kwargs["resolution"], 16);
    }
}

#[test]
fn calls_are_refused_by_name_and_place() {
    for (file, name) in [
        ("os_system.pkl", "system"),
        ("eval.pkl", "__builtin__.eval"),
        ("getattr.pkl", "__builtin__.getattr"),
        ("hidden_call.pkl", "torch.hub.load"),
    ] {
        let error = edm_pkl::read(testdata("edm_pickles").join(file)).unwrap_err();
        assert!(matches!(error, Error::Pickle { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(name) && message.contains("at byte") && message.contains(file), "{message}");
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused_by_name() {
    for (file, reason) in [
        ("stride_past_storage.pkl", "reaches past its storage of 6 elements"),
        ("offset_past_storage.pkl", "reaches past its storage of 6 elements"),
        ("negative_stride.pkl", "strides are no tuple of sizes"),
        ("strides_missing.pkl", "2 sizes but 1 strides"),
        ("huge_shape.pkl", "out of all proportion"),
        ("expanded.pkl", "out of all proportion"),
        ("huge_storage.pkl", "declares 1152921504606846976 elements"),
        ("short_storage.pkl", "declares 7 elements"),
    ] {
        let message = message(file);
        assert!(message.contains("model.enc.16x16_conv.weight") && message.contains(reason), "{file}: {message}");
    }
}

#[test]
fn nan_weights_are_read_and_then_found() {
    let snapshot = edm_pkl::read(testdata("edm_pickles/nan_weight.pkl")).unwrap();
    let message = tensors::check_finite(&snapshot.tensors).unwrap_err().to_string();
    assert!(message.contains("model.enc.16x16_conv.weight") && message.contains("NaN at flat index 1"), "{message}");
}

#[test]
fn endless_structures_end_in_an_error() {
    assert!(message("module_is_no_module.pkl").contains("is no module"));
    assert!(message("shared_modules.pkl").contains("far more often"));
    assert!(message("nested_modules.pkl").contains("deeper than 64"));
    assert!(message("shared_lists.pkl").contains("dataset_kwargs"));
    assert!(message("shared_attributes.pkl").contains("settings have more than"));
}

#[test]
fn other_pickles_say_what_they_hold() {
    assert!(message("no_ema.pkl").contains("no `ema` entry (it has: G, D)"));
    assert!(message("ema_is_a_list.pkl").contains("is a list, not a network"));
    assert!(message("missing.pkl").contains("does not exist"));
}

fn check_state(state: &TensorMap, prefix: &str) {
    let get = |name: &str| &state[&format!("{prefix}{name}")];
    assert_eq!(get("conv.weight").shape, [2, 3]);
    assert_eq!(get("conv.weight").to_f32(), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
    assert_eq!((get("conv.half").dtype, get("conv.half").to_f32()), (Dtype::F16, vec![2.0, 3.0, 4.0, 5.0]));
    assert_eq!(get("bn.num_batches_tracked").to_i64().unwrap(), [7]);
    assert_eq!((get("mask").dtype, get("mask").to_i64().unwrap()), (Dtype::Bool, vec![1, 0]));
    assert_eq!((get("bf").dtype, get("bf").to_f32()), (Dtype::BF16, vec![0.5, -2.0]));
    assert_eq!(get("tied").to_f32(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn state_dictionaries_of_torch_save_are_read() {
    for file in ["state.zip.pth", "state.legacy.pth"] {
        let state = torch_zip::read(testdata("edm_pickles").join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(state.len(), 6, "{file}");
        assert_eq!(state.keys().next().map(String::as_str), Some("conv.weight"));
        check_state(&state, "");
    }
    let nested = torch_zip::read(testdata("edm_pickles/nested.zip.pth")).unwrap();
    assert_eq!(nested.len(), 6);
    check_state(&nested, "state_dict.");
}

#[test]
fn files_that_are_no_state_dictionary_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pth");
    std::fs::write(&path, b"#!/bin/sh").unwrap();
    assert!(torch_zip::read(&path).unwrap_err().to_string().contains("neither a zip archive nor"));
}
