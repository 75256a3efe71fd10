//! What a GPU computes, against the same on the CPU: run by `cargo xtask gpu`.

use fewstep_core::schedule::karras;
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_nn::Model;
use fewstep_nn::device::parse_device;
use fewstep_nn::kernels::full_precision;
use fewstep_nn::tch::{Device, Kind, Tensor};
use fewstep_nn::train::Trainer;

use crate::support::{lively, one_thread, ramps, recipe, small, stream};

/// Asked for before a network is made: libtorch looks for its CUDA library once. Its f32 is f32, as the program has it.
fn gpu() -> Device {
    let device = parse_device("cuda", 0).expect("these tests need a GPU").device;
    full_precision().unwrap();
    device
}

/// The same weights on another device.
fn moved(model: &Model, device: Device) -> Model {
    let tensors = model.params().iter().map(|(name, param)| (name.to_owned(), param.tensor.detach().copy()));
    Model::from_tensors(model.config().clone(), tensors.collect(), device).unwrap()
}

/// `|a - b| / |b|` over all numbers.
fn relative(a: &Tensor, b: &Tensor) -> f64 {
    let double = |t: &Tensor| t.to_device(Device::Cpu).to_kind(Kind::Double);
    let (a, b) = (double(a), double(b));
    (&a - &b).norm().double_value(&[]) / b.norm().double_value(&[])
}

#[test]
#[ignore = "needs a GPU: cargo xtask gpu"]
fn cuda_networks_give_the_numbers_of_the_cpu() {
    one_thread();
    let device = gpu();
    for classes in [0, 3] {
        let model = lively(classes);
        let labels = model.one_hot(&[0, 1, 2, 0].map(|c: i64| if classes == 0 { 0 } else { c })).unwrap();
        let there_labels = labels.as_ref().map(|labels| labels.to_device(device));
        let there = moved(&model, device);
        let half = moved(&model, device).with_kind(Kind::BFloat16);
        for sigma in [0.01, 1.0, 60.0] {
            let x = stream(0).normal(&[4, 1, 8, 8], Device::Cpu) * (1.0 + sigma);
            let here = model.denoise_at(&x, sigma, labels.as_ref()).unwrap();
            let full = there.denoise_at(&x.to_device(device), sigma, there_labels.as_ref()).unwrap();
            assert!(relative(&full, &here) < 1e-5, "f32 at {sigma}: {}", relative(&full, &here));
            let rounded = half.denoise_at(&x.to_device(device), sigma, there_labels.as_ref()).unwrap();
            assert!(relative(&rounded, &here) < 3e-2, "bf16 at {sigma}: {}", relative(&rounded, &here));
        }
    }
}

#[test]
#[ignore = "needs a GPU: cargo xtask gpu"]
fn cuda_samples_are_those_of_the_cpu() {
    one_thread();
    let device = gpu();
    let model = lively(2);
    let plan =
        Solver::Ipndm { order: 4 }.plan(&karras(6, 0.01, 20.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
    let images = |model: &Model| crate::support::images(model, &plan, &[0, 1, 2, 3, 4], None, 2).to_device(Device::Cpu);
    let (here, there) = (images(&model), images(&moved(&model, device)));
    assert!(relative(&there, &here) < 1e-4, "{}", relative(&there, &here));
}

/// A network learns on a GPU as it does on a CPU, and its average stays there.
#[test]
#[ignore = "needs a GPU: cargo xtask gpu"]
fn cuda_training_learns() {
    one_thread();
    let device = gpu();
    let model = moved(&small(2), device);
    let images = ramps(&model);
    let mut trainer = Trainer::new(model, &images, recipe()).unwrap();
    let losses: Vec<f64> = (0..60).map(|_| trainer.step().unwrap().loss).collect();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    assert!(mean(&losses[50..]) < 0.75 * mean(&losses[..10]), "{losses:?}");
    assert_eq!(trainer.averaged().unwrap().device(), device);
}
