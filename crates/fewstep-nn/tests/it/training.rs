//! Training, tuning and the gradient of phase 1 on a network small enough for a test.

use fewstep_core::denoiser::Shared;
use fewstep_core::objective::{ForwardNoised, Objective, loss, loss_and_gradient};
use fewstep_core::observe::Silent;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::{Scale, Schedule, karras};
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_core::space::VectorSpace;
use fewstep_nn::augment::{AUGMENT_DIM, AugmentConfig};
use fewstep_nn::config::{ModelConfig, NetworkConfig, SongConfig};
use fewstep_nn::data::Images;
use fewstep_nn::distance::Distance;
use fewstep_nn::ema::EmaConfig;
use fewstep_nn::fit::{
    Average, KeptAverages, NoiseSharing, Noised, ScheduleConfig, ScheduleOptimiser, TableConfig, TuneConfig,
    TuneWeights, Tuner, level_loss, tabulate,
};
use fewstep_nn::tch::{self, Device, Kind, Tensor};
use fewstep_nn::tensor::Batch;
use fewstep_nn::train::{Loss, RolloutLoss, TrainConfig, Trainer};
use fewstep_nn::{Model, spread};
use fewstep_search::HeldOut;

use crate::rollout::{euler, trajectories};
use crate::support::{one_thread, ramps, recipe, small, stream};

fn weights(model: &Model) -> Vec<Tensor> {
    model.params().trainable().map(|(_, tensor)| tensor.detach().copy()).collect()
}

#[test]
fn the_loss_falls_and_the_average_follows() {
    one_thread();
    for label_dim in [0, 2] {
        let model = small(label_dim);
        let images = ramps(&model);
        let mut trainer = Trainer::new(model.duplicate().unwrap(), &images, recipe()).unwrap();
        let losses: Vec<f64> = (0..60).map(|_| trainer.step().unwrap().loss).collect();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        assert!(mean(&losses[50..]) < 0.75 * mean(&losses[..10]), "{losses:?}");
        let averaged = weights(&trainer.averaged().unwrap());
        assert!(averaged.iter().zip(weights(&model)).any(|(a, b)| *a != b), "the average never moved");
    }
}

/// A learning rate beyond all reason: the loss leaves the numbers, which is said with the level, and the state before is whole.
#[test]
fn a_diverging_run_stops_at_the_update_and_names_the_level() {
    one_thread();
    let model = small(0);
    let images = ramps(&model);
    let config = TrainConfig { learning_rate: 1e30, rampup_images: 0, augment: None, ..recipe() };
    let mut trainer = Trainer::new(model, &images, config).unwrap();
    let error = (0..20).find_map(|_| trainer.step().err()).expect("weights of 1e30 leave the numbers").to_string();
    let made = trainer.images_seen() / 16;
    assert!(error.contains(&format!("at iteration {made} at the noise level ")), "{error}");
    assert!(error.contains("learning rate"), "{error}");
    assert!(trainer.step().is_err(), "nothing of the failed update was applied: it fails again");
    assert_eq!(trainer.images_seen(), 16 * made);
}

#[test]
fn a_resumed_run_equals_one_that_never_stopped() {
    one_thread();
    let model = small(0);
    let images = ramps(&model);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let start = || Trainer::new(model.duplicate().unwrap(), &images, recipe()).unwrap();

    let mut straight = start();
    for _ in 0..3 {
        straight.step().unwrap();
    }
    straight.save_state(&path).unwrap();
    let expected: Vec<_> = (0..3).map(|_| straight.step().unwrap()).collect();

    let mut resumed = start();
    resumed.load_state(&path).unwrap();
    let found: Vec<_> = (0..3).map(|_| resumed.step().unwrap()).collect();
    assert_eq!(found, expected);
    assert_eq!(weights(&resumed.averaged().unwrap()), weights(&straight.averaged().unwrap()));

    let other = TrainConfig { learning_rate: 1e-3, ..recipe() };
    let error = Trainer::new(model.duplicate().unwrap(), &images, other).unwrap().load_state(&path).unwrap_err();
    assert!(error.to_string().contains("another config"), "{error}");
}

/// Neither does what a program draws from libtorch's generator change a run, nor a run what the program draws.
#[test]
fn libtorchs_generator_is_the_programs_own() {
    one_thread();
    let images = ramps(&small(2));
    let critic = RolloutLoss { critic: 1.0, ..RolloutLoss::of(Distance::Squared) };
    let plan = euler(3);
    let fine = karras(6, 0.01, 20.0, 7.0).unwrap();
    // everything that draws: fresh weights, augmentation, dropout of units and labels, noise, a critic, phase 1, a table
    let run = |between: &dyn Fn()| {
        let NetworkConfig::SongUNet(song) = small(2).config().network.clone() else { unreachable!() };
        let network = NetworkConfig::SongUNet(SongConfig { dropout: 0.3, label_dropout: 0.3, ..song });
        let model = Model::fresh(ModelConfig { network, ..small(2).config().clone() }, 4, Device::Cpu).unwrap();
        between();
        let mut trainer = Trainer::new(model.duplicate().unwrap(), &images, recipe()).unwrap();
        let trajectories_of_plan = trajectories(&model, &plan, Solver::Heun, &fine);
        let rollout = TrainConfig { loss: Loss::Rollout(critic), ..recipe() };
        let config = TrainConfig { batch: 6, microbatch: 3, augment: None, xflip: false, ..rollout };
        let mut tuned = Trainer::new(model.duplicate().unwrap(), &trajectories_of_plan, config).unwrap();
        let learn = ScheduleConfig {
            objective: Objective::Joint { gamma: 0.5 },
            noise: NoiseSharing::Independent,
            parameter: Scale::Log,
            iterations: 2,
            batch: 4,
            learning_rate: 0.01,
            seed: 3,
        };
        let mut optimiser = ScheduleOptimiser::new(&karras(4, 0.02, 40.0, 7.0).unwrap(), learn);
        let mut numbers = Vec::new();
        for _ in 0..2 {
            between();
            numbers.push(trainer.step().unwrap().loss);
            between();
            numbers.push(tuned.step().unwrap().loss);
            between();
            numbers.push(optimiser.step(&model, &images).unwrap().loss);
        }
        between();
        let table = TableConfig { images: 6, batch: 4, seed: 1 };
        let table = tabulate(&model, &images, karras(3, 0.02, 40.0, 7.0).unwrap(), table, |_, _| between()).unwrap();
        let mut all = weights(&trainer.averaged().unwrap());
        all.extend(weights(&tuned.averaged().unwrap()));
        (numbers, all, serde_json::to_string(&table).unwrap())
    };
    let draw = || Tensor::rand([3], (Kind::Float, Device::Cpu));
    tch::manual_seed(1);
    let undisturbed = [draw(), draw()];
    tch::manual_seed(1);
    let first = draw();
    let quiet = run(&|| ());
    assert!(first.equal(&undisturbed[0]) && draw().equal(&undisturbed[1]), "a run drew from the program's generator");
    let disturbed = run(&|| {
        tch::manual_seed(7);
        let _ = draw();
    });
    assert_eq!(quiet, disturbed);
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run() {
    one_thread();
    let model = small(0);
    let images = ramps(&model);
    let config = TrainConfig { learning_rate: f64::MAX, rampup_images: 0, ..recipe() };
    let mut trainer = Trainer::new(model, &images, config).unwrap();
    let error = (0..5).find_map(|_| trainer.step().err()).expect("an infinite learning rate must diverge");
    assert!(error.to_string().contains("at iteration"), "{error}");
}

/// Weights of 1e30 leave the loss finite and its gradient beyond what can be summed: no weight moves.
#[test]
fn a_gradient_that_is_not_finite_stops_the_run() {
    one_thread();
    let model = small(0);
    let images = ramps(&model);
    let loss = Loss::Levels { sigmas: vec![0.5], weights: vec![1e30] };
    let config = TrainConfig { loss, augment: None, ..recipe() };
    let mut trainer = Trainer::new(model.duplicate().unwrap(), &images, config).unwrap();
    let error = trainer.step().unwrap_err().to_string();
    assert!(error.contains("the gradient's norm became inf at iteration 0"), "{error}");
    assert_eq!(trainer.images_seen(), 0);
    assert_eq!(weights(&trainer.averaged().unwrap()), weights(&model));
}

/// A teacher that has learned a little, and the held-out error of students that take four steps of its.
fn taught(model: &Model, images: &Images) -> (Model, Schedule, Plan, HeldOut<Shared<Batch>>) {
    let mut trainer = Trainer::new(model.duplicate().unwrap(), images, recipe()).unwrap();
    for _ in 0..80 {
        trainer.step().unwrap();
    }
    let teacher = trainer.averaged().unwrap();
    let schedule = karras(4, 0.02, 40.0, 7.0).unwrap();
    let plan = Solver::Euler.plan(&schedule, &SolverOptions::default()).unwrap();
    let held_out = HeldOut::by(&spread(&teacher), &plan, &[100, 101, 102, 103], &Silent).unwrap();
    (teacher, schedule, plan, held_out)
}

/// The held-out error decides what stands and when it ends, whatever the loss does.
#[test]
fn phase_2_stops_early_and_keeps_the_best() {
    one_thread();
    let model = small(0);
    let images = ramps(&model);
    let (teacher, schedule, plan, held_out) = taught(&model, &images);
    // a student a little off its teacher, that learns far too fast: it comes nearer to the data and not to the teacher
    let config = TrainConfig {
        augment: None,
        rampup_images: 0,
        learning_rate: 0.02,
        loss: level_loss(&schedule, TuneWeights::Bound { last: 1.0 }),
        ema: EmaConfig { halflife_images: 1.0, rampup_ratio: None },
        ..recipe()
    };
    let tune = TuneConfig { iterations: 80, check_every: 2, patience: 3 };
    let run = |patience| {
        let mut tuner = Tuner::new(Trainer::new(teacher.duplicate().unwrap(), &images, config.clone()).unwrap());
        let tuned = tuner.run(&plan, &held_out, TuneConfig { patience, ..tune }, |_, _, _| Ok(())).unwrap();
        (held_out.rollout_error(&spread(&tuned), &plan, &Silent).unwrap(), tuner.history().to_vec())
    };
    let (error, history) = run(3);
    let errors: Vec<f64> = history.iter().map(|evaluated| evaluated.rollout_error).collect();
    let best = (0..errors.len()).min_by(|&a, &b| errors[a].total_cmp(&errors[b])).unwrap();
    assert_eq!(error, errors[best]);
    assert_eq!(errors.len(), best + 1 + 3, "three evaluations without a new best end it: {errors:?}");
    // to the end: the last stands, good or bad
    let (error, history) = run(u64::MAX);
    assert_eq!(history.len(), 41);
    assert_eq!(error, history[40].rollout_error);
    assert!(error > errors[best]);
}

#[test]
fn phase_2_improves_the_held_out_error_and_resumes() {
    one_thread();
    let model = small(0);
    let images = ramps(&model);
    // The student starts from scratch and must come closer to the teacher.
    let (_, schedule, plan, held_out) = taught(&model, &images);
    let before = held_out.rollout_error(&spread(&model), &plan, &Silent).unwrap();

    let config = || TrainConfig {
        augment: None,
        loss: level_loss(&schedule, TuneWeights::Bound { last: 1.0 }),
        ema: EmaConfig { halflife_images: 50.0, rampup_ratio: None },
        ..recipe()
    };
    let tune = TuneConfig { iterations: 40, check_every: 10, patience: 4 };
    let kept = KeptAverages { halflives_images: vec![50.0, 400.0], after: vec![7, 40] };
    let start = |kept: &KeptAverages| {
        Tuner::new(Trainer::new(model.duplicate().unwrap(), &images, config()).unwrap()).keeping(kept.clone())
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("phase-2.safetensors");
    let mut saved = false;
    let mut tuner = start(&kept);
    let tuned = tuner
        .run(&plan, &held_out, tune, |tuner, _, evaluated| {
            if evaluated && !saved {
                saved = true;
                tuner.save(&path)?;
            }
            Ok(())
        })
        .unwrap();
    let after = held_out.rollout_error(&spread(&tuned), &plan, &Silent).unwrap();
    assert!(after < 0.7 * before, "{before} -> {after}");

    let mut resumed = start(&kept);
    resumed.load(&path).unwrap();
    let tuned_again = resumed.run(&plan, &held_out, tune, |_, _, _| Ok(())).unwrap();
    assert_eq!(weights(&tuned_again), weights(&tuned));
    // averages on the way and at the end, where the one of the trainer's half-life is the trainer's
    let averages = tuner.averages();
    let of: Vec<_> = averages.iter().map(|average| (average.updates, average.halflife_images)).collect();
    assert_eq!(of, [(7, 50.0), (7, 400.0), (40, 50.0), (40, 400.0)]);
    let network = |average: &Average| weights(&average.network(&model).unwrap());
    let mut to_the_end = start(&kept);
    let end = to_the_end.run(&plan, &held_out, TuneConfig { patience: u64::MAX, ..tune }, |_, _, _| Ok(())).unwrap();
    assert_eq!(network(&to_the_end.averages()[2]), weights(&end));
    let moved = |average: &Average| {
        let pairs = network(average).into_iter().zip(weights(&model));
        pairs.map(|(now, before)| (now - before).square().sum(Kind::Float).double_value(&[])).sum::<f64>()
    };
    assert!(moved(&averages[0]) > moved(&averages[1]) && moved(&averages[2]) > moved(&averages[3]));
    for (again, average) in resumed.averages().iter().zip(&averages) {
        assert_eq!(network(again), network(average));
    }
    let fewer = KeptAverages { after: vec![40], ..kept };
    let error = start(&fewer).load(&path).unwrap_err().to_string();
    assert!(error.contains("it keeps other averages"), "{error}");
}

#[test]
fn phase_1_gradient_equals_finite_differences() {
    one_thread();
    let model = small(0);
    let images = ramps(&model);
    let schedule = Schedule::new(vec![8.0, 2.0, 0.7, 0.2]).unwrap();
    for sharing in [NoiseSharing::Independent, NoiseSharing::Shared] {
        let batch = images.batch(&[0, 1, 2, 3], &model).unwrap();
        let mut noised = Noised::new(&model, batch, schedule.len(), sharing, &mut stream(3)).unwrap();
        let objective = Objective::Joint { gamma: 0.5 };
        let (_, gradient) = loss_and_gradient(objective, &schedule, &mut noised).unwrap();
        for level in 0..schedule.len() {
            let at = |factor: f64, noised: &mut Noised| {
                let mut levels = schedule.levels().to_vec();
                levels[level] *= factor;
                loss(objective, &Schedule::new(levels).unwrap(), noised).unwrap().total
            };
            let h = 2e-3; // f32 networks: balance of rounding and truncation
            let slope = (at(1.0 + h, &mut noised) - at(1.0 - h, &mut noised)) / (2.0 * h * schedule.levels()[level]);
            let scale = gradient.iter().fold(0.0f64, |m, g| m.max(g.abs()));
            assert!(
                (slope - gradient[level]).abs() < 2e-2 * scale,
                "{sharing:?}, level {level}: {slope} not {}",
                gradient[level]
            );
        }
        assert!(noised.clean().norm_squared() > 0.0);
    }
}

#[test]
fn augmentation_labels_match_what_was_done() {
    one_thread();
    let mut stream = stream(5);
    let images = stream.uniform(&[6, 3, 16, 16], Device::Cpu) * 2.0 - 1.0;
    let still = AugmentConfig { xflip: 0.0, ..AugmentConfig::edm(0.0) };
    let (same, labels) = still.apply(&images, &mut stream);
    assert_eq!(labels, Tensor::zeros([6, AUGMENT_DIM], (Kind::Float, Device::Cpu)));
    // The wavelet filter reproduces images at rest but for its own small ripple.
    let ripple = (&same - &images).square().mean(Kind::Float).double_value(&[]);
    assert!(ripple < 1e-3, "{ripple}");

    let flips = AugmentConfig { scale_std: 0.0, aniso_std: 0.0, translate_frac_std: 0.0, ..AugmentConfig::edm(1.0) };
    let (_, labels) = flips.apply(&images, &mut stream);
    for column in 0..2 {
        let values: Vec<f32> = labels.select(1, column).try_into().unwrap();
        assert!(values.iter().all(|&v| v == 0.0 || v == 1.0), "{values:?}");
    }
}
