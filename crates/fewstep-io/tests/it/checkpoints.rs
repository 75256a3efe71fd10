//! Snapshots as PyTorch 1.12 and others spell them, and state dictionaries written by torch.save.

use fewstep_io::{Dtype, Error, TensorMap, edm_pkl, safetensors, tensors, torch_zip};
use serde_json::json;

use crate::testdata;

fn message(name: &str) -> String {
    edm_pkl::read(testdata("edm_pickles").join(name)).expect_err(name).to_string()
}

#[test]
fn one_snapshot_in_every_protocol_reads_the_same() {
    let by_pickle = (0..=5).map(|protocol| format!("protocol{protocol}.pkl"));
    // as torch.save writes it, with the tensors beside the pickle
    for name in by_pickle.chain(["saved.zip.pkl", "saved.legacy.pkl"].map(str::to_owned)) {
        let path = testdata("edm_pickles").join(&name);
        let snapshot = edm_pkl::read(path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let names: Vec<&str> = snapshot.tensors.keys().map(String::as_str).collect();
        let expected = ["u", "steps", "model.enc.16x16_conv.weight", "model.enc.16x16_conv.bias"];
        assert_eq!(names, expected, "{name}");
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
    for (bytes, part) in [
        (&b"\x01\x02\x03\xff\xfe\xfd\xfc\xfb"[..], "neither a zip archive nor"),
        (b"#!/bin/sh", "is a text file, not the torch.save file"),
        (b"<!DOCTYPE html><html>", "is a web page (HTML), not the torch.save file"),
        (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "is an npz archive"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let message = torch_zip::read(&path).unwrap_err().to_string();
        assert!(message.contains(part) && message.contains("x.pth"), "{message}");
    }
}

/// Files of other kinds under the name of a snapshot or a model.
#[test]
fn files_of_other_kinds_are_called_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let examples = testdata("edm_pickles");
    let state = std::fs::read(examples.join("state.zip.pth")).unwrap();
    for (bytes, kind) in [
        (&b""[..], "an empty file"),
        (b"<html><body>Not found", "a web page (HTML)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"GGUF\x03\0\0\0", "a GGUF file"),
        (&state[..state.len() / 2], "a zip archive that is cut off"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let (pickle, tensors) = (edm_pkl::read(&path), safetensors::read(&path));
        let header = safetensors::read_header(&path);
        let errors = [pickle.unwrap_err(), tensors.unwrap_err(), header.unwrap_err()];
        for message in errors.map(|error| error.to_string()) {
            assert!(message.contains(&format!("x is {kind}")) && message.contains("needed here"), "{message}");
        }
    }
    for name in ["state.zip.pth", "state.legacy.pth"] {
        let message = safetensors::read(examples.join(name)).unwrap_err().to_string();
        assert!(message.contains("a PyTorch file of tensors (torch.save)"), "{message}");
        let message = edm_pkl::read(examples.join(name)).unwrap_err().to_string();
        assert!(message.contains("it has no `ema` entry (it has: conv.weight"), "{message}");
    }
}
