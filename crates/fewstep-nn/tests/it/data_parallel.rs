//! Training by several processes: the batch and its randomness are those of one.

use fewstep_core::schedule::karras;
use fewstep_core::solver::Solver;
use fewstep_nn::augment::AugmentConfig;
use fewstep_nn::config::{ModelConfig, NetworkConfig, SongConfig};
use fewstep_nn::distance::Distance;
use fewstep_nn::tch::{Device, Tensor};
use fewstep_nn::train::{CriticOf, GradientFlow, Loss, RolloutLoss, TrainConfig, Trainer, TrajectoryDataset};
use fewstep_nn::{Model, Ranks};

use crate::ranks::together;
use crate::rollout::{euler, trajectories};
use crate::support::{one_thread, ramps, recipe, small};

/// A network that drops units and labels.
fn dropping() -> Model {
    let NetworkConfig::SongUNet(song) = small(2).config().network.clone() else { unreachable!() };
    let network = NetworkConfig::SongUNet(SongConfig { dropout: 0.2, label_dropout: 0.2, ..song });
    Model::fresh(ModelConfig { network, ..small(2).config().clone() }, 4, Device::Cpu).unwrap()
}

/// What a run has come to: its averaged weights, its weights, the last loss.
fn come_to(trainer: &mut Trainer<Model>, loss: f64) -> (Tensor, Tensor, f64) {
    let (tensors, _) = trainer.state().unwrap();
    let weights = fewstep_nn::checkpoint::tensor_from(&tensors["weights"]).unwrap();
    (trainer.average().copy(), weights, loss)
}

/// The EDM recipe with everything that draws.
fn denoising(ranks: Ranks, updates: usize) -> (Tensor, Tensor, f64) {
    one_thread();
    let model = dropping().with_ranks(ranks);
    let images = ramps(&model);
    let config = TrainConfig { augment: Some(AugmentConfig::edm(0.2)), xflip: true, ..recipe() };
    let mut trainer = Trainer::new(model, &images, config).unwrap();
    let loss = (0..updates).map(|_| trainer.step().unwrap().loss).last().unwrap();
    come_to(&mut trainer, loss)
}

/// A tuning with a critic of data, and the denoising error of data beside.
fn tuning(ranks: Ranks, updates: usize, flow: GradientFlow) -> (Tensor, Tensor, f64) {
    one_thread();
    let model = dropping().with_ranks(ranks.clone());
    let images = ramps(&model);
    let taught = trajectories(&model, &euler(3), Solver::Heun, &karras(6, 0.01, 20.0, 7.0).unwrap());
    let loss = RolloutLoss {
        flow,
        data: 0.5,
        critic: 0.5,
        critic_of: CriticOf::Data,
        ..RolloutLoss::of(Distance::PseudoHuber)
    };
    let config = TrainConfig {
        batch: 6,
        microbatch: 3,
        learning_rate: 1e-3,
        augment: None,
        loss: Loss::Rollout(loss),
        ..recipe()
    };
    let dataset = TrajectoryDataset { trajectories: &taught, images: Some(&images), features: None };
    let mut trainer = Trainer::new(model, dataset, config).unwrap();
    let loss = (0..updates).map(|_| trainer.step().unwrap().loss).last().unwrap();
    come_to(&mut trainer, loss)
}

fn relative(a: &Tensor, b: &Tensor) -> f64 {
    ((a - b).norm() / b.norm()).double_value(&[])
}

/// All processes come to the same, and to what one comes to but for the order of sums.
fn agree(sizes: &[usize], run: impl Fn(Ranks) -> (Tensor, Tensor, f64) + Sync) {
    let alone = run(Ranks::alone());
    for &size in sizes {
        let all = together(size, &run);
        for (rank, (average, weights, loss)) in all.iter().enumerate() {
            assert!(weights.equal(&all[0].1) && average.equal(&all[0].0), "process {rank} of {size}");
            let apart = [relative(average, &alone.0), relative(weights, &alone.1), (loss / alone.2 - 1.0).abs()];
            assert!(apart[..2].iter().all(|apart| *apart < 1e-6) && apart[2] < 1e-4, "{size} processes: {apart:?}");
        }
    }
}

#[test]
fn any_number_of_processes_trains_the_same_network() {
    agree(&[2, 4], |ranks| denoising(ranks, 50));
    agree(&[3], |ranks| denoising(ranks, 5)); // shares of different sizes
}

#[test]
fn any_number_of_processes_tunes_the_same_network() {
    agree(&[2, 4], |ranks| tuning(ranks, 15, GradientFlow::Step));
    agree(&[2], |ranks| tuning(ranks, 5, GradientFlow::Through));
}

/// What the first process saved is taken up by any number of them; by as many it goes on to the bit.
#[test]
fn a_run_of_several_processes_resumes_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.safetensors");
    let images = ramps(&dropping());
    drop(images);
    let run = |ranks: Ranks, save_at: Option<usize>, load: bool, updates: usize| {
        one_thread();
        let model = dropping().with_ranks(ranks.clone());
        let images = ramps(&model);
        let mut trainer = Trainer::new(model, &images, recipe()).unwrap();
        if load {
            trainer.load_state(&state).unwrap();
        }
        let mut loss = 0.0;
        for update in 0..updates {
            if save_at == Some(update) {
                trainer.save_state(&state).unwrap();
            }
            loss = trainer.step().unwrap().loss;
        }
        ranks.wait().unwrap();
        come_to(&mut trainer, loss)
    };
    let whole = together(2, |ranks| run(ranks, Some(3), false, 8));
    let resumed = together(2, |ranks| run(ranks, None, true, 5));
    assert!(resumed.iter().all(|resumed| resumed.0.equal(&whole[0].0) && resumed.1.equal(&whole[0].1)));
    let alone = run(Ranks::alone(), None, true, 5);
    assert!(relative(&alone.1, &whole[0].1) < 1e-6);
}

/// More processes than images: each needs one.
#[test]
fn a_batch_too_small_to_share_is_refused() {
    let errors = together(5, |ranks| {
        let model = small(0).with_ranks(ranks);
        let images = ramps(&model);
        let config = TrainConfig { batch: 4, microbatch: 2, ..recipe() };
        Trainer::new(model, &images, config).unwrap().step().unwrap_err().to_string()
    });
    assert!(errors.iter().all(|error| error.contains("a batch of 4 cannot be shared by 5 processes")), "{errors:?}");
}
