//! Inception weights from a formula, the same in every language: no file of 90 MB is needed to compare architectures.

use std::sync::OnceLock;

use fewstep_eval::features::inception::{Weights, tensor_shapes};
use fewstep_io::tensors::{TensorData, TensorMap};

/// The weights that `testdata/metrics/goldens.py` describes.
pub fn weights() -> &'static Weights {
    static WEIGHTS: OnceLock<Weights> = OnceLock::new();
    WEIGHTS.get_or_init(|| Weights::from_tensors(&tensors()).unwrap())
}

fn tensors() -> TensorMap {
    let shapes = tensor_shapes().unwrap();
    shapes
        .into_iter()
        .map(|(name, shape)| {
            let values = values(&name, &shape);
            (name, TensorData::from_f32(&shape, &values).unwrap())
        })
        .collect()
}

fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    let seed = fnv1a(name);
    let fan_in: usize = shape[1..].iter().product();
    let scale = (3.0 / fan_in as f64).sqrt() * 1.6;
    let value = |u: f64| match name {
        "fc.weight" => u * scale,
        _ if name.ends_with(".conv.weight") => u * scale,
        _ if name.ends_with(".bn.weight") => 1.0 + 0.1 * u,
        _ if name.ends_with(".running_var") => 1.0 + 0.5 * u.abs(),
        _ => 0.1 * u,
    };
    (1..=shape.iter().product::<usize>() as u64).map(|i| value(unit(seed, i)) as f32).collect()
}

/// splitmix64 as a number from -1 to 1.
fn unit(seed: u64, i: u64) -> f64 {
    let mut z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 24) * 2.0 - 1.0
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
