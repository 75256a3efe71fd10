//! Training and tuning of a denoiser that is no network of ours.

use std::collections::BTreeMap;

use fewstep_core::denoiser::{Denoiser, Levels, Spec};
use fewstep_core::observe::Silent;
use fewstep_core::plan::Constant;
use fewstep_core::schedule::karras;
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_core::{Coefficients, Parameterisation};
use fewstep_io::dataset;
use fewstep_nn::data::{self, Images};
use fewstep_nn::distance::Distance;
use fewstep_nn::ema::EmaConfig;
use fewstep_nn::fit::{TuneConfig, Tuner};
use fewstep_nn::params::{Builder, Origin, Params};
use fewstep_nn::tch::{self, Device, Kind, Tensor};
use fewstep_nn::tensor::{Batch, coefficients};
use fewstep_nn::train::{CacheEntry, Loss, RolloutLoss, TrainConfig, Trainer, Trajectories};
use fewstep_nn::unet::Conditions;
use fewstep_nn::{Codec, Encoder, Error, Labels, Result, TorchDenoiser, Tunable, spread};
use fewstep_search::{HeldOut, SearchSettings};

use crate::support::recipe;

const SIDE: usize = 4;

/// EDM's parameterisation of a network that answers `slope * input + bias`: two weights.
#[derive(Debug)]
struct Line {
    params: Params,
    spec: Spec,
    codec: Codec,
    parameterisation: Parameterisation,
}

impl Line {
    fn new(slope: f64, bias: f64) -> Self {
        let weights = [("slope", slope), ("bias", bias)];
        let weights = weights.map(|(name, value)| (name.to_owned(), Tensor::from_slice(&[value as f32])));
        let mut builder = Builder::new(Origin::Loaded(BTreeMap::from(weights)), Device::Cpu);
        for name in ["slope", "bias"] {
            let _ = builder.constant(name, &[1], 0.0).unwrap();
        }
        let spec = Spec {
            shape: vec![1, SIDE, SIDE],
            levels: Levels::between(0.01, 10.0),
            parameterisation: None,
            classes: 0,
            calls: 1,
            guidance: None,
            rounding: 6e-8,
            identity: "line".to_owned(),
        };
        let codec = Codec::direct(&spec.shape, Device::Cpu);
        Self { params: builder.finish().unwrap(), spec, codec, parameterisation: Parameterisation::EDM }
    }

    fn weight(&self, name: &str) -> f64 {
        self.params.get(name).unwrap().double_value(&[0])
    }
}

impl Denoiser for Line {
    type Batch = Batch;
    type Conditions = Labels;
    type Error = Error;

    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn latents(&self, seeds: &[u64]) -> Result<Batch> {
        Ok(Batch(data::latents(seeds, &self.spec.shape, Device::Cpu)?))
    }

    fn conditions(&self, _: &[u64]) -> Result<Labels> {
        Ok(Labels(None))
    }

    fn same_condition(&self, _: Option<usize>, _: usize) -> Result<Labels> {
        Ok(Labels(None))
    }

    fn constant(&self, _: &Constant, _: &Labels, _: usize) -> Result<Batch> {
        Err(Error::Input("no constant".to_owned()))
    }

    fn denoise(&self, asked: &[(&Batch, f64)], _: &Labels) -> Result<Vec<Batch>> {
        let one = |(x, sigma): &(&Batch, f64)| {
            let sigma = Tensor::from_slice(&[*sigma as f32]);
            tch::no_grad(|| self.forward(&x.0, &sigma, &Conditions::default())).map(Batch)
        };
        asked.iter().map(one).collect()
    }
}

impl TorchDenoiser for Line {
    fn device(&self) -> Device {
        Device::Cpu
    }

    fn codec(&self) -> &Codec {
        &self.codec
    }
}

impl Tunable for Line {
    fn params(&self) -> &Params {
        &self.params
    }

    fn forward(&self, x: &Tensor, sigma: &Tensor, _: &Conditions) -> Result<Tensor> {
        let of_samples = |numbers: Tensor| numbers.reshape([-1, 1, 1, 1]);
        let Coefficients { c_skip, c_out, c_in, .. } = coefficients(&self.parameterisation, sigma)?;
        let weight = |name: &str| self.params.get(name).unwrap().shallow_clone();
        let answer = weight("slope") * of_samples(c_in) * x + weight("bias");
        Ok(of_samples(c_skip) * x + of_samples(c_out) * answer)
    }

    fn parameterisation(&self) -> &Parameterisation {
        &self.parameterisation
    }

    fn description(&self) -> String {
        "a line".to_owned()
    }

    fn duplicate(&self) -> Result<Self> {
        Ok(Self::new(self.weight("slope"), self.weight("bias")))
    }

    fn encoder(&self) -> Result<Box<dyn Encoder>> {
        Err(Error::Input("a line has no encoder for a critic".to_owned()))
    }
}

fn config(loss: Loss) -> TrainConfig {
    let ema = EmaConfig { halflife_images: 1.0, rampup_ratio: None };
    TrainConfig { batch: 8, microbatch: 4, learning_rate: 0.05, augment: None, xflip: false, ema, loss, ..recipe() }
}

/// Pixels of +-0.5 are the data of standard deviation 0.5 that EDM's parameterisation has 0 for.
#[test]
fn a_denoiser_of_ones_own_is_trained() {
    let pixels = (0..16 * SIDE * SIDE).map(|i| if i * i % 7 % 2 == 0 { 64 } else { 191 }).collect();
    let images = dataset::Images::new(pixels, 1, SIDE, SIDE, None).unwrap();
    let start = Line::new(1.0, -0.7);
    let images = Images::for_model(images, &start).unwrap();
    let mut trainer = Trainer::new(start.duplicate().unwrap(), &images, config(Loss::EDM)).unwrap();
    let losses: Vec<f64> = (0..60).map(|_| trainer.step().unwrap().loss).collect();
    assert!(losses[50..].iter().sum::<f64>() < 0.7 * losses[..10].iter().sum::<f64>(), "{losses:?}");
    let trained = trainer.averaged().unwrap();
    assert!(trained.weight("slope").abs() < 0.5 && trained.weight("bias").abs() < 0.4, "{trained:?}");
    let halfway = start.interpolated(&trained, 0.5).unwrap();
    assert!((halfway.weight("bias") - 0.5 * (trained.weight("bias") - 0.7)).abs() < 1e-6);
}

/// A student of other weights comes back to its teacher's images.
#[test]
fn a_denoiser_of_ones_own_is_tuned_for_a_plan() {
    let (teacher, student) = (Line::new(0.1, 0.2), Line::new(0.4, -0.3));
    let schedule = karras(3, 0.01, 10.0, 7.0).unwrap();
    let plan = Solver::Euler.plan(&schedule, &SolverOptions::default()).unwrap();
    let settings = SearchSettings::default().teacher;
    let held_out = HeldOut::new(&spread(&teacher), &settings, &(100..108).collect::<Vec<u64>>(), &Silent).unwrap();
    let fine = Trajectories::fine(&plan, &karras(21, 0.01, 10.0, 7.0).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = CacheEntry { path: &folder.path().join("trajectories.safetensors"), key: "line" };
    let seeds: Vec<u64> = (0..32).collect();
    let trajectories = Trajectories::solve(&teacher, &plan, (Solver::Heun, &fine), &seeds, file, &Silent).unwrap();
    let tune = TuneConfig { iterations: 60, check_every: 20, patience: u64::MAX };
    let tuned = |loss: RolloutLoss| {
        let trainer = Trainer::new(student.duplicate()?, &trajectories, config(Loss::Rollout(loss)))?;
        Tuner::new(trainer).run(&plan, &held_out, tune, |_, _, _| Ok(()))
    };
    let loss = RolloutLoss::of(Distance::Squared);
    let error = |line: &Line| held_out.rollout_error(&spread(line), &plan, &Silent).unwrap();
    let (before, after) = (error(&student), error(&tuned(loss).unwrap()));
    assert!(after < 0.3 * before, "{before} to {after}");
    let criticised = tuned(RolloutLoss { critic: 0.3, ..loss }).unwrap_err().to_string();
    assert!(criticised.contains("no encoder"), "{criticised}");
}

/// The graph of a guided network's answer goes to the weights that are tuned, through both calls where it guides itself, and to none
/// of a network that guides it.
#[test]
fn a_guided_network_s_answer_has_a_graph_to_the_weights_that_are_tuned() {
    use std::rc::Rc;

    use fewstep_core::denoiser::Reference;
    use fewstep_nn::{Network, mixture};

    let open = || mixture::patterns(true, Device::Cpu).unwrap();
    let other = Rc::new(mixture::patterns(false, Device::Cpu).unwrap());
    for reference in [Reference::Unconditional, Reference::Network(Rc::clone(&other))] {
        let of_weight = |weight| Network::guided(open(), reference.clone(), weight).unwrap();
        let network = of_weight(2.5);
        let (seeds, sigma) = ([3, 4, 5], 1.5);
        let x = Batch(network.latents(&seeds).unwrap().0 * sigma);
        let labels = network.conditions(&seeds).unwrap();
        let level = Tensor::from_slice(&[sigma as f32]);
        let conditions = Conditions { class_labels: labels.0.as_ref(), ..Conditions::default() };
        let answer = |network: &Network| network.forward(&x.0, &level, &conditions).unwrap();
        let expected = network.denoise(&[(&x, sigma)], &labels).unwrap().remove(0).0;
        assert!(f64::try_from((answer(&network) - expected).abs().max()).unwrap() < 1e-6);
        // dD_w = w dD + (1 - w) dD_ref: from the slopes at w = 1 and 2 follows that at any other
        let slopes = |weight: f64| {
            let network = of_weight(weight);
            let flat = fewstep_nn::flat::FlatWeights::new(network.params());
            flat.gradient(&answer(&network).mean(Kind::Float)).unwrap()
        };
        let (one, two, found) = (slopes(1.0), slopes(2.0), slopes(2.5));
        let expected = &two * 1.5 - &one * 0.5;
        let scale = f64::try_from(expected.abs().max()).unwrap();
        assert!(f64::try_from((found - expected).abs().max()).unwrap() < 1e-4 * scale);
        let itself = matches!(reference, Reference::Unconditional);
        let moved = f64::try_from((&two - &one * 2.0).abs().max()).unwrap() > 1e-3 * scale;
        assert_eq!(moved, itself, "a network that guides has no slope of its own in this one's");
        let copy = network.duplicate().unwrap();
        assert_eq!(copy.description(), network.description());
        assert_ne!(copy.description(), Network::new(open()).description());
    }
}
