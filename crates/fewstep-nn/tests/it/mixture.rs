//! The mixture as a network: the exact denoiser of `fewstep_core::mixture`, on tensors.

use fewstep_core::mixture::{Component, Covariance, Mixture};
use fewstep_core::schedule::karras;
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_nn::checkpoint::{self, Storage};
use fewstep_nn::tch::{Device, Kind, Tensor};
use fewstep_nn::{Model, mixture};

/// The same mixture in f64.
fn exact(model: &Model) -> Mixture {
    let values = |name: &str| {
        let tensor = model.params().get(name).unwrap().to_kind(Kind::Double);
        Vec::<f64>::try_from(tensor.reshape([-1])).unwrap()
    };
    let (means, stds, weights) = (values("model.means"), values("model.log_stds"), values("model.log_weights"));
    let dim = means.len() / stds.len();
    let component = |k: usize| Component {
        weight: weights[k].exp(),
        mean: means[k * dim..][..dim].to_vec(),
        covariance: Covariance::Isotropic((2.0 * stds[k]).exp()),
    };
    Mixture::new((0..stds.len()).map(component).collect()).unwrap()
}

fn row(x: &Tensor, n: i64) -> Vec<f64> {
    Vec::try_from(x.get(n).to_kind(Kind::Double).reshape([-1])).unwrap()
}

#[test]
fn its_denoiser_is_the_exact_one_at_every_noise_level() {
    let model = mixture::patterns(false, Device::Cpu).unwrap();
    let exact = exact(&model);
    let noise = crate::support::latents(&model, &[1, 2, 3]);
    for sigma in [0.002, 0.05, 0.4, 3.0, 80.0] {
        let x = &noise * sigma + 0.3;
        let found = model.denoise_at(&x, sigma, None).unwrap();
        for n in 0..3 {
            let expected = exact.denoised(&row(&x, n), sigma);
            let worst = row(&found, n).iter().zip(&expected).fold(0.0, |worst: f64, (a, b)| worst.max((a - b).abs()));
            assert!(worst < 2e-6 * sigma.max(1.0), "sigma {sigma}: {worst}");
        }
    }
}

#[test]
fn a_label_leaves_one_component() {
    let model = mixture::patterns(true, Device::Cpu).unwrap();
    let x = Tensor::full([2, 1, 32, 32], 0.2, (Kind::Float, Device::Cpu));
    let labels = model.one_hot(&[4, 7]).unwrap();
    let found = model.denoise_at(&x, 80.0, labels.as_ref()).unwrap();
    let means = model.params().get("model.means").unwrap();
    for (n, class) in [(0, 4), (1, 7)] {
        // where noise drowns the image, the denoiser is the class's mean
        let worst = (found.get(n).reshape([-1]) - means.get(class)).abs().max().double_value(&[]);
        assert!(worst < 1e-4, "{worst}");
    }
    let unlabelled = model.denoise_at(&x, 80.0, Some(&Tensor::zeros([2, 10], (Kind::Float, Device::Cpu)))).unwrap();
    let free = mixture::patterns(false, Device::Cpu).unwrap().denoise_at(&x, 80.0, None).unwrap();
    assert!((unlabelled - free).abs().max().double_value(&[]) < 1e-6);
}

#[test]
fn it_travels_as_any_network_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mixture.safetensors");
    let model = mixture::patterns(true, Device::Cpu).unwrap();
    checkpoint::save(&path, &model, Storage::F32, &Default::default()).unwrap();
    let read = checkpoint::load(&path, Device::Cpu).unwrap().model;
    assert_eq!(read.config(), model.config());
    let plan = Solver::Heun.plan(&karras(4, 0.002, 80.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
    let images = |model: &Model| crate::support::images(model, &plan, &[5], Some(2), 1);
    assert!(images(&model).equal(&images(&read)));
}

#[test]
fn its_samples_are_what_a_fine_sampler_makes() {
    for conditional in [false, true] {
        samples_agree(&mixture::patterns(conditional, Device::Cpu).unwrap());
    }
}

fn samples_agree(model: &Model) {
    let seeds: Vec<u64> = (0..1000).collect();
    let exact = mixture::samples(model, &seeds).unwrap().unwrap();
    let plan = Solver::Heun.plan(&karras(10, 0.002, 80.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
    let made = crate::support::images(model, &plan, &seeds, None, 500);
    let moments = |images: &Tensor| {
        let flat = images.flatten(1, -1);
        (flat.mean_dim(0, false, Kind::Double), flat.var_dim(0, true, false).to_kind(Kind::Double))
    };
    let ((mean_a, var_a), (mean_b, var_b)) = (moments(&exact), moments(&made));
    // means of 1,000 values whose deviation is about 0.4: four deviations of their difference
    let worst = (mean_a - mean_b).abs().max().double_value(&[]);
    assert!(worst < 4.0 * 0.45 * (2.0f64 / 1000.0).sqrt(), "{worst}");
    let worst = ((var_a - &var_b) / var_b).abs().max().double_value(&[]);
    // a pixel may vary by one class in ten alone, whose share among 1,000 is uncertain by 10 %
    assert!(worst < 0.45, "{worst}");
}
