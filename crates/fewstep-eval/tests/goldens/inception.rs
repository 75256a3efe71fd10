//! Inception's features and scores, against pytorch-fid's and torch-fidelity's network with weights from a formula.

use std::path::Path;

use fewstep_eval::features::{Convention, FeatureNetwork, Inception, OpenOptions, inception, open};
use fewstep_nn::tch::Device;

use crate::{assert_close, formula, golden, tensor};

const TOLERANCE: f64 = 1e-4;

#[test]
fn pool_features_and_scores_in_both_conventions() {
    let Some(file) = golden("inception_formula_weights.npz") else { return };
    let tf1 = Inception::new(formula::weights(), Convention::Tf1, Device::Cpu).unwrap();
    let pytorch_fid = Inception::new(formula::weights(), Convention::PytorchFid, Device::Cpu).unwrap();
    for size in [32, 64] {
        let images = tensor(&file[&format!("images_{size}")]);
        let found = tf1.activations(&images).unwrap();
        assert_close(&found.features, &tensor(&file[&format!("tf1_{size}")]), TOLERANCE);
        assert_close(&found.logits.unwrap(), &tensor(&file[&format!("tf1_logits_unbiased_{size}")]), TOLERANCE);
        let found = pytorch_fid.features(&images).unwrap();
        assert_close(&found, &tensor(&file[&format!("pytorch_fid_{size}")]), TOLERANCE);
    }
}

#[test]
fn an_imported_file_is_the_same_network_under_the_same_hash() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    std::fs::write(&first, formula::weights().to_bytes().unwrap()).unwrap();
    let imported = inception::import(&first, &second).unwrap();
    assert_eq!(&imported, formula::weights());
    let network = open(&second, &OpenOptions::default(), Device::Cpu).unwrap();
    assert_eq!(network.id().name, "inception-v3-2015-12-05/tf1");
    assert_eq!(network.id().sha256, fewstep_io::hash::sha256_file(&second).unwrap());
    let other = OpenOptions { convention: Convention::PytorchFid, ..OpenOptions::default() };
    assert_ne!(open(&second, &other, Device::Cpu).unwrap().id(), network.id());
}

#[test]
fn every_form_of_file_holds_the_same_weights() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/inception_files"));
    let read = |name: &str| inception::read(&folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let plain = read("plain.safetensors");
    assert_eq!(plain.tensors().len(), 5);
    assert_eq!(plain.tensors()["Conv2d_1a_3x3.conv.weight"].to_f32()[..2], [-0.25, 1.0 / 1024.0 - 0.25]);
    assert_eq!(plain.tensors()["Conv2d_1a_3x3.bn.running_var"].to_f32()[31], 4.875);
    for name in ["zip.pth", "legacy.pth", "torchvision.pt", "pytorch_fid.pt"] {
        assert_eq!(read(name), plain, "{name}");
    }
    // One layer is no network.
    let error = inception::Inception::new(&plain, Convention::Tf1, Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("Conv2d_2a_3x3") && error.contains("incomplete"), "{error}");
}

#[test]
fn files_of_other_networks_say_which_to_use() {
    let folder = tempfile::tempdir().unwrap();
    let message = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        inception::read(&path).unwrap_err().to_string()
    };
    for error in [message("inception-2015-12-05.pkl", b"\x80\x02."), message("x.pth", b"nothing")] {
        assert!(error.contains("pt_inception-2015-12-05-6726825d.pth"), "{error}");
    }
    let missing = inception::read(&folder.path().join("none.pth")).unwrap_err().to_string();
    assert!(missing.contains("does not exist"), "{missing}");
}
