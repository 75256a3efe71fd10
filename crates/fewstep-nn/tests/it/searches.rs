//! Networks as the searches see them.

use std::collections::BTreeMap;

use fewstep_core::denoiser::{BoundDenoiser, Levels};
use fewstep_core::observe::Silent;
use fewstep_core::plan::{Constant, Plan, Source};
use fewstep_core::space::{self, Samples, VectorSpace};
use fewstep_io::{Dtype, TensorData};
use fewstep_nn::tch::{Device, Kind, Tensor};
use fewstep_nn::teachers::{load_teacher, save_teacher, spent_on};
use fewstep_nn::tensor::Batch;
use fewstep_nn::{Model, Ranks, constant, spread};
use fewstep_search::settings::TeacherSettings;
use fewstep_search::{HeldOut, Method, Search, SearchSettings, Seeded, held_out_teacher, search_seeds, solve_teacher};

use crate::support::{lively, one_thread, seeded};

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

#[test]
fn samples_of_a_batch_are_told_apart() {
    let a = Batch(Tensor::from_slice(&[1f32, 2.0, -3.0, 4.0]).view([2, 1, 1, 2]));
    let b = Batch(Tensor::from_slice(&[0.5f32, 1.0, 1.0, 1.0]).view([2, 1, 1, 2]));
    assert_eq!((a.samples(), a.sample_dots(&b), a.sample_l1()), (2, vec![2.5, 1.0], vec![3.0, 7.0]));
    assert_eq!(values(&a.scale_samples(&[2.0, -1.0]).0), [2.0, 4.0, 3.0, -4.0]);
    assert_eq!(a.dot(&b), 3.5);
}

/// The adjoint of the network's derivative, by differences along a direction: in x and in sigma.
#[test]
fn pullbacks_match_differences() {
    one_thread();
    let model = lively(2);
    let model = model.with_batch(2);
    let network = seeded(&model, &[1, 2, 3]);
    let sigma = 0.7;
    let x = Batch(&network.latents().0 * 1.2);
    let cotangent = Batch(network.latents().0.flip([0]));
    let (d_x, d_sigma) = (&mut &network).pullback(&x, sigma, &cotangent).unwrap();
    let value = |x: &Batch, sigma: f64| network.denoised(x, sigma).unwrap().dot(&cotangent);
    let direction = Batch(network.latents().0.flip([3]));
    let h = 1e-2;
    let moved = |h: f64| Batch::combine(&[(1.0, &x), (h, &direction)]);
    let along = (value(&moved(h), sigma) - value(&moved(-h), sigma)) / (2.0 * h);
    assert!((d_x.dot(&direction) - along).abs() < 2e-3 * (1.0 + along.abs()), "{} {along}", d_x.dot(&direction));
    let in_sigma = (value(&x, sigma + h) - value(&x, sigma - h)) / (2.0 * h);
    assert!((d_sigma - in_sigma).abs() < 2e-3 * (1.0 + in_sigma.abs()), "{d_sigma} {in_sigma}");
    assert_eq!(network.evaluations(), 3 * 3 + 4 * 3);
}

#[test]
fn parts_make_no_difference() {
    one_thread();
    let model = lively(3);
    let network = seeded(&model, &[0, 1, 2, 3, 4]);
    let whole = model.denoise_in_parts(&network.latents().0, 1.0, network.conditions().0.as_ref(), 5).unwrap();
    let parts = model.denoise_in_parts(&network.latents().0, 1.0, network.conditions().0.as_ref(), 2).unwrap();
    assert!((whole - parts).abs().max().double_value(&[]) < 1e-5);
}

#[test]
fn vectors_denoised_together_are_those_denoised_apart() {
    one_thread();
    for batch in [64, 4] {
        let model = lively(3).with_batch(batch);
        let network = seeded(&model, &[0, 1, 2, 3, 4]);
        let latents = network.latents();
        let scaled = |factor: f64| Batch(&latents.0 * factor);
        let asked = [(scaled(30.0), 30.0), (scaled(1.0), 0.7), (scaled(-0.1), 0.05)];
        let together = network.denoised_together(&asked.each_ref().map(|(x, sigma)| (x, *sigma))).unwrap();
        assert_eq!((together.len(), network.evaluations()), (3, 15));
        for ((x, sigma), together) in asked.iter().zip(&together) {
            let apart = network.denoised(x, *sigma).unwrap();
            let furthest = (&apart.0 - &together.0).abs().max().double_value(&[]);
            assert!(furthest < 1e-5, "{sigma}: {furthest}");
        }
        assert!(network.denoised_together(&[]).unwrap().is_empty());
    }
}

#[test]
fn every_sample_gets_its_class_s_image() {
    let constant = Constant { sigma: 80.0, shape: vec![1, 1, 2], samples: vec![vec![1.0, 2.0], vec![-1.0, 4.0]] };
    let like = Tensor::zeros([3, 1, 1, 2], (Kind::Float, Device::Cpu));
    let labels = Tensor::from_slice(&[0f32, 1.0, 1.0, 0.0, 0.5, 0.5]).view([3, 2]);
    assert_eq!(
        values(&constant::repeated(&constant, &like, Some(&labels)).unwrap().0),
        [-1.0, 4.0, 1.0, 2.0, 0.0, 3.0]
    );
    let one = labels.narrow(0, 0, 1);
    assert_eq!(values(&constant::repeated(&constant, &like, Some(&one)).unwrap().0), [-1.0, 4.0, -1.0, 4.0, -1.0, 4.0]);
    assert_eq!(values(&constant::repeated(&constant, &like, None).unwrap().0), [0.0, 3.0, 0.0, 3.0, 0.0, 3.0]);
}

/// The search's own error is what sampling with the plan gives, constant and classes included.
#[test]
fn plans_do_in_sampling_what_the_search_says() {
    one_thread();
    for classes in [0, 3] {
        let model: Model = lively(classes).with_batch(4);
        let mut settings = SearchSettings::default();
        (settings.teacher.samples, settings.teacher.grid) = (6, 7);
        let search = Search::new(&model, &settings, &Silent).unwrap();
        let found = search.find(&"least-squares".parse::<Method>().unwrap(), &[1, 2, 3]).unwrap();
        assert_eq!(found.plans.len(), 3);
        let seeds: Vec<u64> = (0..6).map(|index| fewstep_search::SEARCH_SEEDS + index).collect();
        let fine = held_out_teacher(&Levels::from(&model.config().parameterisation), &settings.teacher).unwrap();
        let held_out = HeldOut::by(&model, &fine, &seeds, &Silent).unwrap();
        for plan in found.plans.values() {
            let constant = plan.constant.as_ref().unwrap();
            assert_eq!(constant.samples.len() as i64, classes.max(1));
            let read = Plan::from_json(&plan.to_json().unwrap()).unwrap();
            assert!(read.uses(Source::Constant));
            let error = held_out.rollout_error(&model, &read, &Silent).unwrap();
            let said = search.training_error(plan).unwrap();
            assert!((error - said).abs() < 1e-3 * said + 1e-6, "{error} {said}");
        }
    }
}

#[test]
fn a_teacher_is_read_back_as_it_was_and_only_as_its_own() {
    one_thread();
    let model = lively(0);
    let (spread, ranks) = (spread(&model), Ranks::alone());
    let settings = SearchSettings {
        teacher: TeacherSettings { samples: 2, grid: 5, ..TeacherSettings::default() },
        ..SearchSettings::default()
    };
    let seeds = search_seeds(&settings);
    let (teacher, _) = solve_teacher(&spread, &settings, &Silent).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.safetensors");
    save_teacher(&teacher, "a", 7, &path, &ranks).unwrap();
    assert_eq!(spent_on(&path).unwrap(), Some(7));
    let read = load_teacher("a", &path, &spread, &seeds).unwrap();
    assert_eq!((read.grid(), read.evaluations()), (teacher.grid(), teacher.evaluations()));
    for (a, b) in read.states().iter().zip(teacher.states()).chain([(&read.ends().image, &teacher.ends().image)]) {
        assert_eq!(values(&a.own().0), values(&b.own().0));
    }
    let error = load_teacher("b", &path, &spread, &seeds).unwrap_err().to_string();
    assert!(error.contains("another model"), "{error}");
    let error = load_teacher("a", &path, &spread, &seeds[..1]).unwrap_err().to_string();
    assert!(error.contains("and not 1 of them"), "{error}");
    let saved = fewstep_io::safetensors::read(&path).unwrap();
    for (dtype, shape, said) in [
        (Dtype::F32, vec![2, 5], "but the model's are"),
        (Dtype::I64, saved.tensors["image"].shape.clone(), "not of floats"),
    ] {
        let mut other = saved.clone();
        let bytes = vec![0; dtype.size() * shape.iter().product::<usize>()];
        other.tensors.insert("image".to_owned(), TensorData::new(dtype, shape, bytes).unwrap());
        fewstep_io::safetensors::write(&path, &other.tensors, &other.metadata).unwrap();
        let error = load_teacher("a", &path, &spread, &seeds).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    fewstep_io::safetensors::write(&path, &Default::default(), &BTreeMap::new().into_iter().collect()).unwrap();
    let error = load_teacher("a", &path, &spread, &seeds).unwrap_err().to_string();
    assert!(error.contains("holds no teacher"), "{error}");
}

/// Differences of neighbours, and a tenth of the image; linear.
#[test]
fn gradients_are_differences_of_neighbours() {
    let x = Batch(Tensor::from_slice(&[1f32, 3.0, 6.0, 2.0, 2.0, 2.0]).view([1, 1, 2, 3]));
    let seen = space::Batch::with_gradients(&x, 0.1).unwrap();
    assert_eq!(seen.0.size(), [1, 3, 2, 3]);
    let expected = [0.1, 0.3, 0.6, 0.2, 0.2, 0.2, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0, 1.0, -1.0, -4.0, 0.0, 0.0, 0.0];
    assert!(values(&seen.0).iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{:?}", values(&seen.0));
    let twice = space::Batch::with_gradients(&Batch(&x.0 * 2.0), 0.1).unwrap();
    assert_eq!(values(&twice.0), values(&(&seen.0 * 2.0)));
}

/// Samples and plans are the same to the bit, for 1 to 8 threads.
#[test]
fn results_do_not_hang_on_the_number_of_threads() {
    one_thread();
    let model = lively(3).with_batch(8);
    let mut settings = SearchSettings::default();
    settings.teacher.samples = 6;
    settings.teacher.grid = 6;
    settings.least_squares.samples = 6;
    settings.gauss_newton.samples = 6;
    settings.moments.control = 64;
    let method: Method = "least-squares+gauss-newton+moments".parse().unwrap();
    let with = |threads: i32| {
        fewstep_nn::tch::set_num_threads(threads);
        let found = Search::new(&model, &settings, &Silent).unwrap().find(&method, &[3]).unwrap();
        let plan = found.plans.into_values().next().unwrap();
        let seeds: Vec<u64> = (100..106).collect();
        let samples = Seeded::new(&model, &seeds, &Silent).unwrap().run(&plan).unwrap();
        (plan.to_json().unwrap(), values(&samples.0))
    };
    let alone = with(1);
    for threads in [2, 3, 5, 8] {
        assert!(with(threads) == alone, "{threads} threads");
    }
    fewstep_nn::tch::set_num_threads(1);
}
