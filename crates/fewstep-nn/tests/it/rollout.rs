//! Tuning against a teacher's trajectories.

use fewstep_core::plan::Plan;
use fewstep_core::schedule::{Schedule, karras};
use fewstep_core::search::Teacher;
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_nn::Model;
use fewstep_nn::adam::AdamConfig;
use fewstep_nn::distance::{Distance, FeatureMap};
use fewstep_nn::ema::EmaConfig;
use fewstep_nn::fit::HeldOut;
use fewstep_nn::search::Network;
use fewstep_nn::tch::Tensor;
use fewstep_nn::tensor::Batch;
use fewstep_nn::train::{Course, Loss, RolloutLoss, StepWeights, TrainConfig, Trainer, Trajectories};

use crate::support::{alone, lively, ramps};

const COUNT: u64 = 12;

fn euler(steps: usize) -> Plan {
    Solver::Euler.plan(&karras(steps, 0.01, 20.0, 7.0).unwrap(), &SolverOptions::default()).unwrap()
}

/// Trajectories of `solver` on `fine`, for `plan`.
fn trajectories(model: &Model, plan: &Plan, solver: Solver, fine: &Schedule) -> Trajectories {
    let seeds: Vec<u64> = (0..COUNT).collect();
    let network = Network::new(model, &seeds, 5).unwrap();
    let (grid, fine) = (Trajectories::levels(plan, fine).unwrap(), Trajectories::fine(plan, fine).unwrap());
    let denoise = |x: &Batch, sigma: f64| network.denoised(x, sigma);
    let teacher = Teacher::solve(solver, &fine, &grid, network.latents().clone(), COUNT as usize, denoise).unwrap();
    Trajectories::new(model, plan, &teacher, &seeds).unwrap()
}

fn config(distance: Distance) -> TrainConfig {
    TrainConfig {
        batch: 6,
        microbatch: 3,
        learning_rate: 2e-3,
        rampup_images: 0,
        decay_images: None,
        adam: AdamConfig::default(),
        ema: EmaConfig { halflife_images: 1.0, rampup_ratio: None },
        loss: Loss::Rollout(RolloutLoss { distance, weights: StepWeights::Signal, data: 0.0 }),
        augment: None,
        xflip: false,
        seed: 0,
    }
}

/// A teacher that steps as the student does has nothing to teach.
#[test]
fn a_student_of_its_own_plan_has_no_loss() {
    let _turn = alone();
    for classes in [0, 3] {
        let (model, plan) = (lively(classes), euler(4));
        let own = trajectories(&model, &plan, Solver::Euler, plan.schedule.as_ref().unwrap());
        let mut trainer = Trainer::new(model, &own, config(Distance::Squared)).unwrap();
        let stats = trainer.step().unwrap();
        assert!(stats.loss < 1e-9 && stats.grad_norm < 1e-3, "{stats:?}");
    }
}

#[test]
fn tuning_brings_the_student_to_the_teacher() {
    let _turn = alone();
    for distance in [Distance::Squared, Distance::PseudoHuber] {
        let (model, plan) = (lively(2), euler(3));
        let fine = karras(24, 0.01, 20.0, 7.0).unwrap();
        let lessons = trajectories(&model, &plan, Solver::Heun, &fine);
        assert_eq!((lessons.len() as u64, lessons.steps()), (COUNT, 3));
        let seeds: Vec<u64> = (0..COUNT).collect();
        let teacher = Solver::Heun.plan(&fine, &SolverOptions::default()).unwrap();
        let judge = HeldOut::new(&model, &teacher, &seeds, 12).unwrap();
        let before = judge.rollout_error(&model, &plan).unwrap();
        let mut trainer = Trainer::new(model, &lessons, config(distance)).unwrap();
        let first = trainer.step().unwrap().loss;
        let mut last = first;
        for _ in 0..80 {
            last = trainer.step().unwrap().loss;
        }
        let after = judge.rollout_error(&trainer.averaged().unwrap(), &plan).unwrap();
        assert!(last < 0.5 * first && after < 0.6 * before, "{distance:?}: {first} to {last}, {before} to {after}");
    }
}

#[test]
fn losses_and_lessons_must_suit_each_other() {
    let _turn = alone();
    let (model, plan) = (lively(0), euler(3));
    let lessons = trajectories(&model, &plan, Solver::Euler, plan.schedule.as_ref().unwrap());
    let images = ramps(&model);
    let error = |result: fewstep_nn::Result<Trainer>| result.unwrap_err().to_string();
    let denoising = TrainConfig { loss: Loss::EDM, ..config(Distance::Squared) };
    assert!(error(Trainer::new(lively(0), &lessons, denoising)).contains("needs images"));
    let rollout = error(Trainer::new(lively(0), &images, config(Distance::Squared)));
    assert!(rollout.contains("trajectories, not images"), "{rollout}");
    let large = TrainConfig { batch: 30, microbatch: 30, ..config(Distance::Squared) };
    assert!(error(Trainer::new(lively(0), &lessons, large)).contains("12 trajectories"));
}

/// Means of the quarters of an image.
#[derive(Debug)]
struct Quarters;

impl FeatureMap for Quarters {
    fn features(&self, images: &Tensor) -> fewstep_nn::Result<Tensor> {
        Ok(images.adaptive_avg_pool2d([2, 2]).flatten(1, -1))
    }
}

#[test]
fn features_and_data_have_their_say() {
    let _turn = alone();
    let (model, plan) = (lively(0), euler(3));
    let lessons = trajectories(&model, &plan, Solver::Heun, &karras(24, 0.01, 20.0, 7.0).unwrap());
    let images = ramps(&model);
    let course = Course { trajectories: &lessons, images: Some(&images), features: Some(&Quarters) };
    let first = |course: Course, loss: RolloutLoss| {
        let config = TrainConfig { loss: Loss::Rollout(loss), ..config(Distance::Squared) };
        Trainer::new(lively(0), course, config).and_then(|mut trainer| Ok(trainer.step()?.loss))
    };
    let plain = RolloutLoss { distance: Distance::Squared, weights: StepWeights::Signal, data: 0.0 };
    let loss = |loss: RolloutLoss| first(course, loss).unwrap();
    // the image's part, and what data add to it
    let image = loss(RolloutLoss { weights: StepWeights::Image, ..plain });
    assert!(
        0.0 < image && image < loss(plain) && loss(plain) < loss(RolloutLoss { weights: StepWeights::Equal, ..plain })
    );
    let [once, twice] = [1.0, 2.0].map(|data| loss(RolloutLoss { data, ..plain }) - loss(plain));
    assert!(once > 0.0 && (twice - 2.0 * once).abs() < 1e-5 * once, "{once} {twice}");
    let featured = RolloutLoss { distance: Distance::Features, weights: StepWeights::Image, data: 0.0 };
    assert!(loss(featured) != image);
    // what a loss needs must be there
    let bare = Course::from(&lessons);
    let error = |loss: RolloutLoss| first(bare, loss).unwrap_err().to_string();
    assert!(error(featured).contains("needs a feature network"));
    assert!(error(RolloutLoss { data: 1.0, ..plain }).contains("needs images beside"));
}

#[test]
fn a_cosine_takes_the_learning_rate_to_nothing() {
    let _turn = alone();
    let (model, plan) = (lively(0), euler(3));
    let lessons = trajectories(&model, &plan, Solver::Euler, plan.schedule.as_ref().unwrap());
    let config = TrainConfig { decay_images: Some(24), ..config(Distance::Squared) };
    let mut trainer = Trainer::new(model, &lessons, config).unwrap();
    let rates: Vec<f64> = (0..5).map(|_| trainer.step().unwrap().learning_rate).collect();
    let half = std::f64::consts::FRAC_1_SQRT_2 / 2.0;
    for (rate, share) in rates.iter().zip([1.0, 0.5 + half, 0.5, 0.5 - half, 0.0]) {
        assert!((rate - 2e-3 * share).abs() < 1e-12, "{rates:?}");
    }
}
