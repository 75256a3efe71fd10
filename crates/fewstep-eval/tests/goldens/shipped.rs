//! The feature network that comes with the project.

use std::path::{Path, PathBuf};

use fewstep_eval::features::{FeatureNetwork, OpenOptions, SmallCnn, open};
use fewstep_eval::images;
use fewstep_io::{Dataset, DatasetOptions};
use fewstep_nn::tch::{Device, Kind, Tensor};

fn asset(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fewstep/assets")).join(name)
}

#[test]
fn the_fashion_mnist_features_classify_test_images_as_their_file_says() {
    let path = asset("features.safetensors");
    let network = SmallCnn::load(&path, Device::Cpu).unwrap();
    let options = DatasetOptions { pad_to: Some(32), max_size: Some(1000), ..DatasetOptions::default() };
    let test = Dataset::open_with(asset("t10k-images-idx3-ubyte.gz"), &options).unwrap().load_all().unwrap();
    let labels: Vec<i64> = test.labels.as_ref().unwrap().iter().map(|&label| i64::from(label)).collect();
    let out = network.activations(&images::tensor(&test).unwrap()).unwrap();
    assert_eq!(out.features.size(), [1000, network.config().dim()]);
    let right = out.logits.unwrap().argmax(1, false).eq_tensor(&Tensor::from_slice(&labels));
    let found = right.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
    let stated: f64 = fewstep_io::safetensors::read(&path).unwrap().metadata["test_accuracy"].parse().unwrap();
    // Three standard errors of 1,000 images.
    assert!(stated >= 0.92 && (found - stated).abs() < 0.025, "{found} {stated}");
    assert_eq!(open(&path, &OpenOptions::default(), Device::Cpu).unwrap().id(), network.id());
}
