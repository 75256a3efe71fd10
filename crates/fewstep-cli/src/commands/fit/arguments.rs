//! What can be typed after `fewstep fit`, and the settings that it means.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use fewstep_core::objective::Objective;
use fewstep_core::schedule::Scale;
use fewstep_core::solver::Solver;
use fewstep_nn::fit::{NoiseSharing, TuneConfig, TuneWeights};
use fewstep_nn::train::{GradientFlow, RolloutLoss, StepWeights};

use super::names::{GradientFlowName, NoiseName, ObjectiveName, ScaleName, StepWeightsName, WeightsName};
use crate::fitting::{
    CriticArgs, CriticName, FitSettings, LrSchedule, Phase1Search, Phase1Settings, Phase1Solver, Phase2Settings,
    ROLLOUT_LEARNING_RATE, SETTLING_IMAGES, TRAJECTORIES,
};
use crate::inputs::{Compute, Numbers, not_negative, positive};
use crate::runs::RunArgs;
use crate::searching::{DistanceName, SearchArgs};

/// Phase 1's search where none is named.
const SEARCH: &str = "least-squares+gauss-newton+moments";

/// Arguments of `fewstep fit`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fewstep fit --model edm-cifar10.pkl --phases 1 --steps 3,4,5,6,8,10 --out runs/plans\n  fewstep fit --model edm-cifar10.pkl --data cifar10-32x32.zip --steps 5,8 --out runs/cifar10"
)]
pub struct Args {
    /// Model: a .safetensors file, an EDM .pkl, or a built-in one (fashion-mnist, gaussian-mixture,
    /// gaussian-mixture-classes)
    #[arg(long, value_name = "FILE")]
    pub model: String,
    /// Training images, for phase 2 and for the searches `paper`, `bound` and any that ends in +data-moments: EDM zip, image
    /// folder, IDX file or folder, CIFAR-10 archive, npz of images
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Pad images with zeros to squares of this size (Fashion-MNIST: 32)
    #[arg(long, value_name = "PIXELS", requires = "data")]
    pub pad_to: Option<usize>,
    /// Use at most so many images
    #[arg(long, value_name = "N", requires = "data")]
    pub max_images: Option<usize>,
    #[command(flatten)]
    pub run: RunArgs,
    /// Numbers of steps (network evaluations an image): one search for all of them, each tuned on its own
    #[arg(long, value_name = "LIST", default_value = "5,8")]
    pub steps: Numbers,
    /// Phases to run: 1 learns the noise levels, 2 tunes the network
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub phases: Vec<u8>,
    /// How often to alternate between the phases
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub rounds: usize,

    /// Where phase 1 gets its plan: least-squares+gauss-newton+moments, another search over a teacher (local/ipndm4,
    /// reachable/euler, ...: see `fewstep compare --help`), or paper
    #[arg(long, value_name = "NAME", default_value = SEARCH, help_heading = "Phase 1")]
    pub search: Phase1Search,
    /// What the search `paper` minimises: Eq. 11, Eq. 12, or both as in the paper
    #[arg(long, value_name = "NAME", default_value = "bound", help_heading = "Phase 1")]
    pub objective: ObjectiveName,
    /// Weight of the bound in the joint objective [default: 1]
    #[arg(long, help_heading = "Phase 1")]
    pub gamma: Option<f64>,
    /// How phase 1 is solved; table needs the bound [default: table for the bound, else adam]
    #[arg(long, value_name = "NAME", help_heading = "Phase 1")]
    pub solver: Option<Phase1Solver>,
    /// Noise along the levels, in the search `paper`: independent or shared [default: independent]
    #[arg(long, value_name = "NAME", help_heading = "Phase 1")]
    pub noise: Option<NoiseName>,
    /// Scale in which adam parameterises the levels: linear (the paper's) or log [default: log]
    #[arg(long, value_name = "NAME", help_heading = "Phase 1")]
    pub parameter: Option<ScaleName>,
    /// Updates of the levels
    #[arg(long, value_name = "N", default_value_t = 400, help_heading = "Phase 1")]
    pub phase1_updates: u64,
    /// Images an update of the levels
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Phase 1")]
    pub phase1_batch: usize,
    /// Learning rate of the levels
    #[arg(long, value_name = "RATE", default_value_t = 0.02, help_heading = "Phase 1")]
    pub phase1_lr: f64,
    /// Levels of the table's grid
    #[arg(long, value_name = "N", default_value_t = 65, help_heading = "Phase 1")]
    pub grid: usize,
    /// Images of the table, each evaluated at every level
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Phase 1")]
    pub table_images: usize,

    /// What phase 2 learns: bound (the paper's, weights of Eq. 12), original (the EDM recipe), or rollout (the sampler's own
    /// states against a teacher's trajectories; needs no data)
    #[arg(long, value_name = "NAME", default_value = "bound", help_heading = "Phase 2")]
    pub weights: WeightsName,
    /// Distance from the teacher, for rollout: squared, pseudo-huber, in which no few bad images rule, or features (half in
    /// pixels, half in a network's features) [default: pseudo-huber]
    #[arg(long, value_name = "NAME", help_heading = "Phase 2")]
    pub distance: Option<DistanceName>,
    /// What each step's distance counts, for rollout: signal (as much as data stand out of the noise after it), equal, or image
    /// (nothing but the image) [default: signal]
    #[arg(long, value_name = "NAME", help_heading = "Phase 2")]
    pub step_weights: Option<StepWeightsName>,
    /// Which evaluations learn from a state's distance, for rollout: step (the newest alone) or through (all before it; up to three
    /// tenths dearer) [default: through for up to 4 evaluations, step for more]
    #[arg(long, value_name = "NAME", help_heading = "Phase 2")]
    pub gradient: Option<GradientFlowName>,
    /// Weight of denoising training images at the last level, for rollout, beside 1 for the image's distance
    #[arg(long, value_name = "W", default_value_t = 0.0, help_heading = "Phase 2")]
    pub data_weight: f64,
    /// Weight of how well a critic tells the images from what they should look like, for rollout, beside 1 for the image's
    /// distance; 0 for none. A critic is small heads on the encoder of the network as it was, which learn beside it
    /// [default: 0.3]
    #[arg(long, value_name = "W", help_heading = "Phase 2")]
    pub critic_weight: Option<f64>,
    /// What a critic tells images from: the teacher's from the same latents, or training images [default: data where --data is
    /// given, else teacher]
    #[arg(long, value_name = "NAME", help_heading = "Phase 2")]
    pub critic_of: Option<CriticName>,
    /// Feature network of the distance features, in phase 2 and in --rollout-loss, and of --ref [default: the built-in one for
    /// Fashion-MNIST]
    #[arg(long, value_name = "FILE", help_heading = "Phase 2")]
    pub features: Option<PathBuf>,
    /// Trajectories of the teacher, for rollout [default: 4096]
    #[arg(long, value_name = "N", help_heading = "Phase 2")]
    pub trajectories: Option<usize>,
    /// Weight of the last level, for bound, which Eq. 12 leaves out (0: the paper's, 1: its coefficient in the image) [default: 1]
    #[arg(long, value_name = "W", help_heading = "Phase 2")]
    pub last_weight: Option<f64>,
    /// Updates of the network at most
    #[arg(long, value_name = "N", default_value_t = 1000, help_heading = "Phase 2")]
    pub updates: u64,
    /// Images an update
    #[arg(long, value_name = "N", default_value_t = 128, help_heading = "Phase 2")]
    pub batch: usize,
    /// Images held by the graph at once [default: the batch]
    #[arg(long, value_name = "N", help_heading = "Phase 2")]
    pub microbatch: Option<usize>,
    /// Learning rate of the network [default: 1e-4, for rollout 5e-4]
    #[arg(long, value_name = "RATE", help_heading = "Phase 2")]
    pub lr: Option<f64>,
    /// Whether it stays (constant) or falls to 0 over all updates (cosine) [default: constant, for rollout cosine]
    #[arg(long, value_name = "NAME", hide_possible_values = true, help_heading = "Phase 2")]
    pub lr_schedule: Option<LrSchedule>,
    /// Half-life of the weights' moving average, in images
    #[arg(long, value_name = "N", default_value_t = 2000.0, help_heading = "Phase 2")]
    pub ema: f64,
    /// Mirror images at random
    #[arg(long, help_heading = "Phase 2")]
    pub xflip: bool,

    /// Latents held out for the rollout error
    #[arg(long, value_name = "N", default_value_t = 128, help_heading = "Judge")]
    pub held_out: usize,
    /// Noise levels of the Heun teacher (2N - 1 evaluations)
    #[arg(long, value_name = "N", default_value_t = 18, help_heading = "Judge")]
    pub teacher_steps: usize,
    /// Updates between two looks at the held-out error
    #[arg(long, value_name = "N", default_value_t = 50, help_heading = "Judge")]
    pub check_every: u64,
    /// Looks without improvement before a phase stops
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = "Judge")]
    pub patience: u64,
    /// Statistics of what the model should make (`fewstep ref`), to choose among networks on the way to the tuned one by their images'
    /// Frechet distance; not with distances of features or --no-early-stop [default for a built-in model: its own]
    #[arg(long = "ref", value_name = "FILE", requires = "features", help_heading = "Judge")]
    pub reference: Option<PathBuf>,
    /// Images of each of these networks, of seeds of their own (0: take the tuned one)
    #[arg(long, value_name = "N", default_value_t = SETTLING_IMAGES, help_heading = "Judge")]
    pub settling_images: usize,
    /// Run every phase to its end and keep its last outcome, not its best
    #[arg(long, help_heading = "Judge")]
    pub no_early_stop: bool,

    #[command(flatten)]
    pub search_args: SearchArgs,
    /// Images at once in evaluations
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub eval_batch: usize,
    /// Seed of data order and noise
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub compute: Compute,
}

impl Args {
    /// The settings, checked for contradictions.
    pub fn settings(&self) -> Result<FitSettings> {
        ensure!(self.steps.0.iter().all(|&n| n >= 2), "--steps needs numbers of at least 2");
        ensure!(self.rounds >= 1, "--rounds must be at least 1");
        ensure!(
            self.held_out >= 1 && self.teacher_steps >= 2,
            "--held-out must be at least 1 and --teacher-steps at least 2"
        );
        ensure!(self.settling_images != 1, "--settling-images must be at least 2, as a covariance needs two, or 0");
        for (name, count) in [("batch", self.batch), ("phase1-batch", self.phase1_batch)] {
            ensure!(count >= 1, "--{name} must be at least 1");
        }
        ensure!(self.microbatch != Some(0), "--microbatch must be at least 1");
        positive("phase1-lr", self.phase1_lr)?;
        self.lr.map_or(Ok(()), |rate| positive("lr", rate))?;
        for (name, value) in [
            ("ema", self.ema),
            ("gamma", self.gamma()),
            ("data-weight", self.data_weight),
            ("last-weight", self.last_weight()),
        ] {
            not_negative(name, value)?;
        }
        let default_solver =
            if self.objective == ObjectiveName::Bound { Phase1Solver::Table } else { Phase1Solver::Adam };
        let solver = self.solver.unwrap_or(default_solver);
        self.nothing_is_idle(solver)?;
        self.check_solver()?;
        let rollout = self.rollout_loss()?;
        ensure!(
            !self.xflip || self.weights != WeightsName::Rollout || rollout.looks_at_data(),
            "--xflip mirrors training images, which --weights rollout looks at with --data-weight or --critic-of data alone"
        );
        ensure!(
            solver == Phase1Solver::Adam || self.objective == ObjectiveName::Bound,
            "--solver table minimises the bound; the other objectives need --solver adam"
        );
        let paper = self.search == Phase1Search::Paper;
        let longest = self.steps.counts().into_iter().max().unwrap_or(0);
        let (phase1, searches) = (self.phase1(solver), self.phases.contains(&1));
        ensure!(
            !searches || !phase1.needs_table() || self.grid >= longest,
            "--grid must have at least as many levels as the longest --steps"
        );
        ensure!(
            !searches || paper || self.search_args.search_grid >= longest,
            "--search-grid must have at least as many levels as the longest --steps"
        );
        Ok(FitSettings {
            phase1,
            search: self.search_args.settings(self.eval_batch.max(1))?,
            phase2: self.phase2(rollout),
            held_out: self.held_out,
            teacher_steps: self.teacher_steps,
            early_stop: !self.no_early_stop,
            settling_images: self.settling_images,
            batch: self.eval_batch.max(1),
        })
    }

    /// Refuses options that say what is learned where something else is, or nothing: they would change nothing.
    fn nothing_is_idle(&self, solver: Phase1Solver) -> Result<()> {
        let rollout = self.weights == WeightsName::Rollout;
        let paper = self.search == Phase1Search::Paper;
        let adam = paper && solver == Phase1Solver::Adam;
        let joint = paper && self.objective == ObjectiveName::Joint;
        for (phase, given, option, applies, needed) in [
            (1, self.search.to_string() != SEARCH, "search", true, ""),
            (1, self.objective != ObjectiveName::Bound, "objective", paper, "--search paper"),
            (1, self.solver.is_some(), "solver", paper, "--search paper"),
            (1, self.noise.is_some(), "noise", adam, "--search paper --solver adam"),
            (1, self.parameter.is_some(), "parameter", adam, "--search paper --solver adam"),
            (1, self.gamma.is_some(), "gamma", joint, "--search paper --objective joint"),
            (2, self.weights != WeightsName::Bound, "weights", true, ""),
            (2, self.distance.is_some(), "distance", rollout, "--weights rollout"),
            (2, self.step_weights.is_some(), "step-weights", rollout, "--weights rollout"),
            (2, self.gradient.is_some(), "gradient", rollout, "--weights rollout"),
            (2, self.data_weight > 0.0, "data-weight", rollout, "--weights rollout"),
            (2, self.critic_weight.is_some_and(|weight| weight > 0.0), "critic-weight", rollout, "--weights rollout"),
            (2, self.critic_of.is_some(), "critic-of", rollout, "--weights rollout"),
            (2, self.trajectories.is_some(), "trajectories", rollout, "--weights rollout"),
            (2, self.last_weight.is_some(), "last-weight", self.weights == WeightsName::Bound, "--weights bound"),
        ] {
            ensure!(
                !given || self.phases.contains(&phase),
                "--{option} is for phase {phase}, which --phases leaves out: it changes nothing here"
            );
            ensure!(
                !given || applies,
                "--{option} is for {needed} and changes nothing here: give that, too, or leave --{option} out"
            );
        }
        Ok(())
    }

    /// Refuses a solver that cannot do what is asked for.
    fn check_solver(&self) -> Result<()> {
        let Phase1Search::Method(method) = &self.search else { return Ok(()) };
        let runs = |phase: u8| self.phases.contains(&phase);
        if runs(1) {
            method.check_evaluations(&self.steps.counts())?;
        }
        ensure!(
            method.solver != Some(Solver::Heun) || !(runs(1) && runs(2)),
            "{method}: heun evaluates twice at every level, and phase 2 tunes for plans whose levels fall; choose another solver, or \
             --phases 1"
        );
        Ok(())
    }

    fn gamma(&self) -> f64 {
        self.gamma.unwrap_or(1.0)
    }

    fn last_weight(&self) -> f64 {
        self.last_weight.unwrap_or(1.0)
    }

    fn phase1(&self, solver: Phase1Solver) -> Phase1Settings {
        Phase1Settings {
            search: self.search.clone(),
            objective: match self.objective {
                ObjectiveName::Discretization => Objective::Discretization,
                ObjectiveName::Bound => Objective::Bound,
                ObjectiveName::Joint => Objective::Joint { gamma: self.gamma() },
            },
            solver,
            noise: match self.noise.unwrap_or(NoiseName::Independent) {
                NoiseName::Independent => NoiseSharing::Independent,
                NoiseName::Shared => NoiseSharing::Shared,
            },
            parameter: match self.parameter.unwrap_or(ScaleName::Log) {
                ScaleName::Linear => Scale::Linear,
                ScaleName::Log => Scale::Log,
            },
            iterations: self.phase1_updates,
            batch: self.phase1_batch,
            learning_rate: self.phase1_lr,
            check_every: self.check_every,
            patience: self.patience,
            grid: self.grid,
            table_images: self.table_images,
            seed: self.seed,
        }
    }

    /// What phase 2 makes small after every step, where its weights are those of the rollout.
    pub fn distance(&self) -> DistanceName {
        self.distance.unwrap_or(DistanceName::PseudoHuber)
    }

    fn rollout_loss(&self) -> Result<RolloutLoss> {
        let (critic, critic_of) = CriticArgs {
            weight: ("critic-weight", self.critic_weight),
            of: ("critic-of", self.critic_of),
            data: self.data.is_some(),
        }
        .checked()?;
        Ok(RolloutLoss {
            distance: self.distance().into(),
            weights: self.step_weights.map_or_else(StepWeights::default, StepWeights::from),
            flow: self.gradient.map_or_else(GradientFlow::default, GradientFlow::from),
            data: self.data_weight,
            critic,
            critic_of,
        })
    }

    fn phase2(&self, rollout: RolloutLoss) -> Phase2Settings {
        let (learning_rate, lr_schedule) = match self.weights {
            WeightsName::Rollout => (ROLLOUT_LEARNING_RATE, LrSchedule::Cosine),
            WeightsName::Bound | WeightsName::Original => (1e-4, LrSchedule::Constant),
        };
        Phase2Settings {
            weights: match self.weights {
                WeightsName::Bound => TuneWeights::Bound { last: self.last_weight() },
                WeightsName::Original => TuneWeights::Original,
                WeightsName::Rollout => TuneWeights::Rollout(rollout),
            },
            trajectories: self.trajectories.unwrap_or(TRAJECTORIES),
            tune: TuneConfig { iterations: self.updates, check_every: self.check_every, patience: self.patience },
            batch: self.batch,
            microbatch: self.microbatch.unwrap_or(self.batch),
            learning_rate: self.lr.unwrap_or(learning_rate),
            lr_schedule: self.lr_schedule.unwrap_or(lr_schedule),
            ema_images: self.ema,
            xflip: self.xflip,
            seed: self.seed,
        }
    }
}
