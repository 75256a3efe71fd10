//! Features that training differentiates are those that distances are measured in, and their gradient is theirs.

use std::path::PathBuf;

use fewstep_eval::features::{Convention, Differentiable, FeatureNetwork, Inception, SmallCnn};
use fewstep_nn::distance::{Distance, FeatureMap, Measure};
use fewstep_nn::tch::{Device, Kind, Tensor};

use crate::formula;

fn networks() -> Vec<(Box<dyn FeatureNetwork>, i64)> {
    let shipped = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fewstep/assets/features.safetensors");
    let inception = |convention| Inception::new(formula::weights(), convention, Device::Cpu).unwrap();
    vec![
        (Box::new(SmallCnn::load(&shipped, Device::Cpu).unwrap()), 1),
        (Box::new(inception(Convention::Tf1)), 3),
        (Box::new(inception(Convention::PytorchFid)), 3),
    ]
}

/// Smooth images `[N, C, 16, 16]` of whole values.
fn bytes(channels: i64) -> Tensor {
    let ramp = Tensor::arange(2 * channels * 256, (Kind::Float, Device::Cpu)).view([2, channels, 16, 16]);
    ((ramp * 0.13).sin() * 100.0 + 120.0).round()
}

#[test]
fn the_same_features_with_a_graph() {
    for (network, channels) in networks() {
        let images = bytes(channels);
        let rounded = network.features(&images.to_kind(Kind::Uint8)).unwrap();
        let seen = Differentiable(&*network).features(&(&images / 127.5 - 1.0)).unwrap();
        let error = (seen - &rounded).abs().max().double_value(&[]);
        assert!(error < 1e-4 * rounded.abs().max().double_value(&[]), "{}: {error}", network.id());
    }
}

#[test]
fn the_gradient_of_the_distance_matches_differences() {
    let (network, channels) = networks().remove(0);
    let map = Differentiable(&*network);
    let measure = Measure::new(Distance::Features, Some(&map)).unwrap();
    let target = bytes(channels) / 127.5 - 1.0;
    let image = (&target * 0.8 + 0.05).set_requires_grad(true);
    let along = (Tensor::arange(image.numel() as i64, (Kind::Float, Device::Cpu)) * 0.7).cos().view_as(&image);
    let distance = measure.of_images(&image, &target).unwrap();
    let slope = Tensor::run_backward(&[&distance], &[&image], false, false)[0].shallow_clone();
    let found = (&slope * &along).sum(Kind::Double).double_value(&[]);
    let at = |h: f64| {
        let moved = (&image + &along * h).detach();
        measure.of_images(&moved, &target).unwrap().double_value(&[])
    };
    // short, for every kink of the network on the way counts
    let expected = (at(1e-4) - at(-1e-4)) / 2e-4;
    assert!((found - expected).abs() < 3e-2 * expected.abs(), "{found} {expected}");
    assert!(Measure::new(Distance::Features, None).unwrap_err().to_string().contains("needs a feature network"));
}
