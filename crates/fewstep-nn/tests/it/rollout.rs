//! Tuning against a teacher's trajectories.

use fewstep_core::observe::{Event, Observer, Silent};
use fewstep_core::plan::{Combination, Plan, Source};
use fewstep_core::schedule::{Schedule, karras};
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_nn::Model;
use fewstep_nn::adam::AdamConfig;
use fewstep_nn::distance::{Distance, FeatureMap};
use fewstep_nn::ema::EmaConfig;
use fewstep_nn::tch::{Kind, Tensor};
use fewstep_nn::tensor::Batch;
use fewstep_nn::train::{
    CacheEntry, CriticOf, GradientFlow, Loss, RolloutLoss, StepWeights, TrainConfig, Trainer, Trajectories,
    TrajectoryDataset,
};
use fewstep_nn::unet::Conditions;
use fewstep_search::{HeldOut, Teacher};

use crate::support::{lively, one_thread, ramps, seeded};

const COUNT: u64 = 12;

pub fn euler(steps: usize) -> Plan {
    Solver::Euler.plan(&karras(steps, 0.01, 20.0, 7.0).unwrap(), &SolverOptions::default()).unwrap()
}

/// Trajectories of `solver` on `fine`, for `plan`.
pub fn trajectories(model: &Model, plan: &Plan, solver: Solver, fine: &Schedule) -> Trajectories {
    taught(model, plan, solver, fine).1
}

/// The same, with their teacher.
fn taught(model: &Model, plan: &Plan, solver: Solver, fine: &Schedule) -> (Teacher<Batch>, Trajectories) {
    let seeds: Vec<u64> = (0..COUNT).collect();
    let network = seeded(model, &seeds);
    let (grid, fine) = (Trajectories::levels(plan, fine).unwrap(), Trajectories::fine(plan, fine).unwrap());
    let denoise = |x: &Batch, sigma: f64| network.denoised(x, sigma);
    let teacher = Teacher::solve(solver, &fine, &grid, network.latents().clone(), COUNT as usize, denoise).unwrap();
    let trajectories = Trajectories::new(model, plan, &teacher, &seeds).unwrap();
    (teacher, trajectories)
}

pub fn config(distance: Distance) -> TrainConfig {
    TrainConfig {
        batch: 6,
        microbatch: 3,
        learning_rate: 2e-3,
        rampup_images: 0,
        decay_images: None,
        adam: AdamConfig::default(),
        ema: EmaConfig { halflife_images: 1.0, rampup_ratio: None },
        loss: Loss::Rollout(RolloutLoss::of(distance)),
        augment: None,
        xflip: false,
        seed: 0,
    }
}

/// A teacher that steps as the student does has nothing to teach.
#[test]
fn a_student_of_its_own_plan_has_no_loss() {
    one_thread();
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
    one_thread();
    let cases = [
        (Distance::Squared, GradientFlow::Step),
        (Distance::PseudoHuber, GradientFlow::Step),
        (Distance::Squared, GradientFlow::Through),
    ];
    for (distance, flow) in cases {
        let (model, plan) = (lively(2), euler(3));
        let fine = karras(24, 0.01, 20.0, 7.0).unwrap();
        let source = trajectories(&model, &plan, Solver::Heun, &fine);
        assert_eq!((source.len() as u64, source.steps()), (COUNT, 3));
        let seeds: Vec<u64> = (0..COUNT).collect();
        let teacher = Solver::Heun.plan(&fine, &SolverOptions::default()).unwrap();
        let held_out = HeldOut::by(&model, &teacher, &seeds, &Silent).unwrap();
        let before = held_out.rollout_error(&model, &plan, &Silent).unwrap();
        let loss = Loss::Rollout(RolloutLoss { flow, ..RolloutLoss::of(distance) });
        let mut trainer =
            Trainer::new(model, &source, TrainConfig { loss, learning_rate: 4e-3, ..config(distance) }).unwrap();
        let first = trainer.step().unwrap().loss;
        let mut last = first;
        for _ in 0..45 {
            last = trainer.step().unwrap().loss;
        }
        let after = held_out.rollout_error(&trainer.averaged().unwrap(), &plan, &Silent).unwrap();
        assert!(
            last < 0.5 * first && after < 0.6 * before,
            "{distance:?} {flow:?}: {first} to {last}, {before} to {after}"
        );
    }
}

/// The loss of all trajectories by one graph over the whole run, and the norm of its gradient.
fn by_one_graph(model: &Model, plan: &Plan, teacher: &Teacher<Batch>, weights: StepWeights) -> (f64, f64) {
    let leaves: Vec<Tensor> =
        model.params().trainable().map(|(_, leaf)| leaf.shallow_clone().set_requires_grad(true)).collect();
    let seeds: Vec<u64> = (0..COUNT).collect();
    let classes = model.classes_of(&seeds);
    let labels = model.one_hot(&classes).unwrap();
    let conditions = Conditions { class_labels: labels.as_ref(), ..Conditions::default() };
    let (mut inputs, mut outputs): (Vec<Tensor>, Vec<Tensor>) = (Vec::new(), Vec::new());
    let value = |terms: &Combination, inputs: &[Tensor], outputs: &[Tensor]| {
        let term = |(source, c)| match source {
            Source::Latent => &teacher.ends().latent.0 * c,
            Source::Input(k) => &inputs[k] * c,
            Source::Output(k) => &outputs[k] * c,
            Source::Constant => panic!("this plan holds no image"),
        };
        terms.terms().map(term).reduce(|sum, term| sum + term).unwrap()
    };
    let mut loss = Tensor::from(0.0);
    for (k, stage) in plan.stages.iter().enumerate() {
        let x = value(&stage.input, &inputs, &outputs);
        outputs.push(model.denoise(&x, &Tensor::from_slice(&[stage.sigma as f32]), &conditions).unwrap());
        inputs.push(x);
        let (state, target, sigma) = match plan.stages.get(k + 1) {
            Some(next) => {
                let place = teacher.grid().levels().iter().position(|level| *level == next.sigma).unwrap();
                (value(&next.input, &inputs, &outputs), &teacher.states()[place], next.sigma)
            }
            None => (value(&plan.output, &inputs, &outputs), &teacher.ends().image, 0.0),
        };
        let error = (state - &target.0).square().mean(Kind::Float);
        loss += error * (weights.of(sigma, model.config().parameterisation.sigma_data()) / plan.nfe() as f64);
    }
    let gradient = Tensor::run_backward(&[&loss], &leaves, false, false);
    let squares: f64 =
        gradient.iter().filter(|g| g.defined()).map(|g| g.square().sum(Kind::Double).double_value(&[])).sum();
    (loss.double_value(&[]), squares.sqrt())
}

#[test]
fn a_gradient_through_all_steps_is_that_of_one_graph() {
    one_thread();
    let fine = karras(24, 0.01, 20.0, 7.0).unwrap();
    for (classes, solver) in [(0, "ipndm3"), (3, "unipc2_bh2")] {
        let solver: Solver = solver.parse().unwrap();
        let plan = solver.plan(&karras(4, 0.01, 20.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
        let model = lively(classes);
        let (teacher, source) = taught(&model, &plan, Solver::Heun, &fine);
        let update = |weights: StepWeights, flow: GradientFlow| {
            let loss = Loss::Rollout(RolloutLoss { weights, flow, ..RolloutLoss::of(Distance::Squared) });
            let all = COUNT as usize;
            let config = TrainConfig { loss, batch: all, microbatch: all, ..config(Distance::Squared) };
            Trainer::new(model.duplicate().unwrap(), &source, config).unwrap().step().unwrap()
        };
        for weights in [StepWeights::Signal, StepWeights::Equal, StepWeights::Image] {
            let (loss, norm) = by_one_graph(&model, &plan, &teacher, weights);
            let through = update(weights, GradientFlow::Through);
            assert!((through.loss - loss).abs() < 1e-5 * loss, "{solver} {weights:?}: {through:?}, not {loss}");
            assert!((through.grad_norm - norm).abs() < 1e-4 * norm, "{solver} {weights:?}: {through:?}, not {norm}");
            let step = update(weights, GradientFlow::Step);
            assert!((step.loss - loss).abs() < 1e-5 * loss, "{solver} {weights:?}: {step:?}, not {loss}");
            assert!((step.grad_norm - norm).abs() > 1e-2 * norm, "{solver} {weights:?}: one step's graph is not all");
        }
    }
}

#[test]
fn losses_and_training_data_must_suit_each_other() {
    one_thread();
    let (model, plan) = (lively(0), euler(3));
    let source = trajectories(&model, &plan, Solver::Euler, plan.schedule.as_ref().unwrap());
    let images = ramps(&model);
    let error = |result: fewstep_nn::Result<Trainer>| result.unwrap_err().to_string();
    let denoising = TrainConfig { loss: Loss::EDM, ..config(Distance::Squared) };
    assert!(error(Trainer::new(lively(0), &source, denoising)).contains("needs images"));
    let rollout = error(Trainer::new(lively(0), &images, config(Distance::Squared)));
    assert!(rollout.contains("trajectories, not images"), "{rollout}");
    let large = TrainConfig { batch: 30, microbatch: 30, ..config(Distance::Squared) };
    assert!(error(Trainer::new(lively(0), &source, large)).contains("12 trajectories"));
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
    one_thread();
    let (model, plan) = (lively(0), euler(3));
    let source = trajectories(&model, &plan, Solver::Heun, &karras(24, 0.01, 20.0, 7.0).unwrap());
    let images = ramps(&model);
    let dataset = TrajectoryDataset { trajectories: &source, images: Some(&images), features: Some(&Quarters) };
    let all = TrainConfig { batch: COUNT as usize, microbatch: COUNT as usize, ..config(Distance::Squared) };
    let first = |dataset: TrajectoryDataset, loss: RolloutLoss| {
        let config = TrainConfig { loss: Loss::Rollout(loss), ..all.clone() };
        Trainer::new(lively(0), dataset, config).and_then(|mut trainer| Ok(trainer.step()?.loss))
    };
    let plain = RolloutLoss::of(Distance::Squared);
    let loss = |loss: RolloutLoss| first(dataset, loss).unwrap();
    // the image's part, and what data add to it
    let image = loss(RolloutLoss { weights: StepWeights::Image, ..plain });
    assert!(
        0.0 < image && image < loss(plain) && loss(plain) < loss(RolloutLoss { weights: StepWeights::Equal, ..plain })
    );
    let [once, twice] = [1.0, 2.0].map(|data| loss(RolloutLoss { data, ..plain }) - loss(plain));
    assert!(once > 0.0 && (twice - 2.0 * once).abs() < 1e-5 * once, "{once} {twice}");
    let featured = RolloutLoss { weights: StepWeights::Image, ..RolloutLoss::of(Distance::Features) };
    assert!(loss(featured) != image);
    let [once, twice] = [1.0, 2.0].map(|critic| loss(RolloutLoss { critic, ..plain }) - loss(plain));
    assert!(once > 0.0 && (twice - 2.0 * once).abs() < 1e-5 * once, "{once} {twice}");
    // what a loss needs must be there
    let bare = TrajectoryDataset::from(&source);
    let error = |loss: RolloutLoss| first(bare, loss).unwrap_err().to_string();
    assert!(error(featured).contains("needs a feature network"));
    let of_data = RolloutLoss { critic: 1.0, critic_of: CriticOf::Data, ..plain };
    for loss in [RolloutLoss { data: 1.0, ..plain }, of_data] {
        assert!(error(loss).contains("needs images beside"));
    }
    // a critic of data is not shown the teacher's images, and its weight is no weight of denoising
    let more = |critic_of: CriticOf, critic: f64, data: f64| {
        loss(RolloutLoss { critic, critic_of, data, ..plain }) - loss(plain)
    };
    let teacher = more(CriticOf::Teacher, 1.0, 0.0);
    let [data, twice] = [1.0, 2.0].map(|critic| more(CriticOf::Data, critic, 0.0));
    assert!(teacher > 0.0 && teacher != data && (twice - 2.0 * data).abs() < 1e-5 * data, "{teacher} {data} {twice}");
    assert!(more(CriticOf::Data, 1.0, 1e5) > 2.0 * data);
}

/// By default a long plan is tuned step by step and a short one through all of its evaluations, exactly as if that was asked for.
#[test]
fn how_far_gradients_go_is_a_matter_of_the_budget() {
    one_thread();
    let update = |n: usize, flow: GradientFlow| {
        let (model, plan) = (lively(0), euler(n));
        let source = trajectories(&model, &plan, Solver::Heun, &karras(24, 0.01, 20.0, 7.0).unwrap());
        let loss = Loss::Rollout(RolloutLoss { flow, ..RolloutLoss::of(Distance::Squared) });
        let mut trainer = Trainer::new(model, &source, TrainConfig { loss, ..config(Distance::Squared) }).unwrap();
        trainer.step().unwrap().grad_norm
    };
    for (n, flow, other) in
        [(4, GradientFlow::Through, GradientFlow::Step), (5, GradientFlow::Step, GradientFlow::Through)]
    {
        let usual = update(n, GradientFlow::default());
        let [same, not] = [flow, other].map(|flow| (update(n, flow) - usual).abs() / usual);
        assert!(same < 1e-5 && not > 1e-3, "{n}: {same} {not}");
    }
}

#[test]
fn a_cosine_takes_the_learning_rate_to_nothing() {
    one_thread();
    let (model, plan) = (lively(0), euler(3));
    let source = trajectories(&model, &plan, Solver::Euler, plan.schedule.as_ref().unwrap());
    let config = TrainConfig { decay_images: Some(24), ..config(Distance::Squared) };
    let mut trainer = Trainer::new(model, &source, config).unwrap();
    let rates: Vec<f64> = (0..5).map(|_| trainer.step().unwrap().learning_rate).collect();
    let half = std::f64::consts::FRAC_1_SQRT_2 / 2.0;
    for (rate, share) in rates.iter().zip([1.0, 0.5 + half, 0.5, 0.5 - half, 0.0]) {
        assert!((rate - 2e-3 * share).abs() < 1e-12, "{rates:?}");
    }
}

/// Keeps how far work was last said to be.
#[derive(Default)]
struct Told(std::cell::Cell<u64>);

impl Observer for Told {
    fn event(&self, event: Event) {
        if let Event::Progressed { done, .. } = event {
            self.0.set(done);
        }
    }
}

/// Trajectories in a file, solved in parts, are those in memory, and teach the same.
#[test]
fn trajectories_in_a_file_are_those_in_memory() {
    one_thread();
    let model = lively(3);
    let (plan, rough) = (euler(3), karras(4, 0.01, 20.0, 7.0).unwrap());
    let fine = Trajectories::fine(&plan, &rough).unwrap();
    let seeds: Vec<u64> = (0..600).collect(); // more than are solved at once
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trajectories.safetensors");
    let kept = |key| CacheEntry { path: &path, key };
    let told = Told::default();
    let solved = Trajectories::solve(&model, &plan, (Solver::Heun, &fine), &seeds, kept("a"), &told).unwrap();
    assert_eq!(told.0.get(), ((2 * fine.len() - 1) * seeds.len()) as u64);
    assert_eq!((solved.len(), solved.steps()), (600, 3));

    let network = seeded(&model, &seeds);
    let grid = Trajectories::levels(&plan, &fine).unwrap();
    let denoise = |x: &Batch, sigma: f64| network.denoised(x, sigma);
    let teacher = Teacher::solve(Solver::Heun, &fine, &grid, network.latents().clone(), 600, denoise).unwrap();
    let in_memory = Trajectories::new(&model, &plan, &teacher, &seeds).unwrap();
    let opened = Trajectories::open(&model, &plan, &seeds, kept("a")).unwrap();
    let taught = |trajectories: &Trajectories| {
        let mut trainer =
            Trainer::new(model.duplicate().unwrap(), trajectories, config(Distance::PseudoHuber)).unwrap();
        let losses: Vec<f64> = (0..4).map(|_| trainer.step().unwrap().loss).collect();
        (losses, trainer.average().copy())
    };
    let expected = taught(&in_memory);
    assert_eq!(taught(&solved), expected);
    assert_eq!(taught(&opened), expected);

    for (seeds, plan, key, word) in [
        (&seeds[..], &plan, "b", "another model, or made with other settings"),
        (&seeds[..599], &plan, "a", "other shapes"),
        (&seeds[..], &euler(4), "a", "other shapes"),
    ] {
        let error = Trajectories::open(&model, plan, seeds, kept(key)).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("remove it"), "{error}");
    }
    std::fs::write(&path, b"no trajectories").unwrap();
    assert!(Trajectories::open(&model, &plan, &seeds, kept("a")).is_err());
}
