//! What can be typed after `fewstep reproduce`, and the settings that it means.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use fewstep_core::objective::Objective;
use fewstep_core::schedule::Scale;
use fewstep_nn::distance::Distance;
use fewstep_nn::fit::{NoiseSharing, TuneConfig, TuneWeights};
use fewstep_nn::train::RolloutLoss;

use super::Settings;
use super::rows::{Cell, Experiment};
use crate::fitting::{
    CriticArgs, CriticName, FitSettings, LrSchedule, Phase1Search, Phase1Settings, Phase1Solver, Phase2Settings,
    ROLLOUT_LEARNING_RATE, SETTLING_IMAGES, TRAJECTORIES,
};
use crate::gallery::SeedRanges;
use crate::inputs::{BUILT_IN, Compute, DataArgs, Numbers, not_negative, positive};
use crate::runs::RunArgs;
use crate::searching::{GaussNewtonSettings, Method, Search, SearchSettings, TeacherSettings};

/// Arguments of `fewstep reproduce`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fewstep reproduce table1 --data fashion-mnist/ --pad-to 32 --steps 8,20 --out runs/table1\n  fewstep reproduce fig2 --preset paper --model edm-ffhq-64x64-uncond-vp.pkl --data ffhq-64x64.zip \\\n      --ref ffhq-64x64.npz --features inception.safetensors --steps 6-20 --out runs/fig2"
)]
pub struct Args {
    /// Which result of the paper: fig2 (distance against steps), table1 (what each stage buys), fig3 (learned levels), fig4
    /// (the weights they induce); or objectives (what becomes of the sampler as each of its objectives is minimised)
    #[arg(value_name = "WHAT", hide_possible_values = true)]
    pub experiment: Experiment,
    /// Model: a .safetensors file, an EDM .pkl, or a built-in one
    #[arg(long, value_name = "MODEL", default_value = BUILT_IN)]
    pub model: String,
    #[command(flatten)]
    pub data: DataArgs,
    /// Statistics of the training images (`fewstep ref`); needed for all but the built-in models
    #[arg(long = "ref", value_name = "FILE")]
    pub reference: Option<PathBuf>,
    /// The feature network of the statistics; needed for all but the built-in models
    #[arg(long, value_name = "FILE")]
    pub features: Option<PathBuf>,
    /// How Inception's images are resized: tf1 (EDM, torch-fidelity) or pytorch-fid
    #[arg(long, value_name = "NAME", default_value = "tf1")]
    pub resize: String,
    /// Numbers of steps
    #[arg(long, value_name = "LIST", default_value = "8,20")]
    pub steps: Numbers,
    /// Besides the paper's methods: our plan, and our plan with rollout tuning
    #[arg(long)]
    pub ours: bool,
    /// Only these rows of fig2 or table1, beside the teacher's: baseline, stage1, stage2, original, both, ours, ours-tuned
    #[arg(long, value_name = "LIST", value_delimiter = ',', hide_possible_values = true, conflicts_with = "ours")]
    pub rows: Vec<Cell>,
    /// The search of our rows (see `fewstep compare --help`)
    #[arg(long, value_name = "NAME", default_value = "least-squares+gauss-newton+data-moments")]
    pub search: Method,
    #[command(flatten)]
    pub run: RunArgs,

    /// Scale: small (hours on two cores) or paper (its own: 50,000 updates, 50,000 images a distance)
    #[arg(long, value_name = "NAME", default_value = "small", help_heading = "Scale", hide_possible_values = true)]
    pub preset: Preset,
    /// Images a distance and seed range [default: 5000; paper: 50000]
    #[arg(long, value_name = "N", help_heading = "Scale")]
    pub images: Option<u64>,
    /// Ranges of seeds; the table shows mean and standard deviation [default: 3; paper: 1]
    #[arg(long, value_name = "N", help_heading = "Scale")]
    pub seed_ranges: Option<u64>,
    /// Updates of the levels in stage 1 [default: 400; paper: 50000]
    #[arg(long, value_name = "N", help_heading = "Scale")]
    pub phase1_updates: Option<u64>,
    /// Images an update of the levels in stage 1
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Scale")]
    pub phase1_batch: usize,
    /// Learning rate of Adam on the levels in stage 1
    #[arg(long, value_name = "RATE", default_value_t = 0.02, help_heading = "Scale")]
    pub phase1_lr: f64,
    /// Updates of the network in stage 2 [default: 1000; paper: 50000]
    #[arg(long, value_name = "N", help_heading = "Scale")]
    pub updates: Option<u64>,
    /// Images an update of the network [default: 128; paper: 512]
    #[arg(long, value_name = "N", help_heading = "Scale")]
    pub batch: Option<usize>,
    /// Images held by the graph at once [default: the batch]
    #[arg(long, value_name = "N", help_heading = "Scale")]
    pub microbatch: Option<usize>,
    /// Learning rate of the network
    #[arg(long, value_name = "RATE", default_value_t = 1e-4, help_heading = "Scale")]
    pub lr: f64,
    /// Weight of the last level in stage 2, which Eq. 12 leaves out (0: the paper's, 1: its coefficient in the image)
    #[arg(long, value_name = "W", default_value_t = 1.0, help_heading = "Scale")]
    pub last_weight: f64,
    /// Trajectories of the teacher that our tuning learns from [default: 4096; paper: 16384]
    #[arg(long, value_name = "N", help_heading = "Scale")]
    pub trajectories: Option<usize>,
    /// Learning rate of our tuning at the start; it falls to 0 along a cosine
    #[arg(long, value_name = "RATE", default_value_t = ROLLOUT_LEARNING_RATE, help_heading = "Scale")]
    pub rollout_lr: f64,
    /// Updates of our tuning [default: those of stage 2]
    #[arg(long, value_name = "N", help_heading = "Scale")]
    pub rollout_updates: Option<u64>,
    /// Evaluations with gradients an update of our tuning [default: the batch]
    #[arg(long, value_name = "N", help_heading = "Scale")]
    pub rollout_batch: Option<usize>,
    /// Weight of how well a critic tells our tuning's images from what they should look like (`fit --critic-weight`), 0 for none
    /// [default: 0.3]
    #[arg(long, value_name = "W", help_heading = "Scale")]
    pub rollout_critic: Option<f64>,
    /// What a critic tells our tuning's images from: the teacher's from the same latents, or training images [default: data]
    #[arg(long, value_name = "NAME", help_heading = "Scale")]
    pub rollout_critic_of: Option<CriticName>,
    /// Images by whose Frechet distance a network on the way to the tuned one is chosen in our tuning (0: take the tuned one)
    #[arg(long, value_name = "N", default_value_t = SETTLING_IMAGES, help_heading = "Scale")]
    pub settling_images: usize,
    /// Latents that our search looks at: all in its fits, half in its refinement
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Scale")]
    pub search_samples: usize,
    /// Weight of the bound (Eq. 12) in stage 1's objective
    #[arg(long, default_value_t = 1.0, help_heading = "Scale")]
    pub gamma: f64,
    /// Keep the best by the held-out error; otherwise, as in the paper, every stage runs to its end and its outcome stands
    #[arg(long, help_heading = "Scale")]
    pub early_stop: bool,
    /// Latents held out for the rollout error
    #[arg(long, value_name = "N", default_value_t = 128, help_heading = "Scale")]
    pub held_out: usize,
    /// Images at once in evaluations
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Scale")]
    pub eval_batch: usize,
    #[command(flatten)]
    pub compute: Compute,
}

/// Scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    Small,
    Paper,
}

impl Args {
    /// Settings of every cell.
    pub fn settings(&self) -> Result<Settings> {
        let paper = self.preset == Preset::Paper;
        let by_preset = |given: Option<u64>, small: u64, large: u64| given.unwrap_or(if paper { large } else { small });
        let seeds = SeedRanges {
            images: by_preset(self.images, 5_000, 50_000),
            ranges: by_preset(self.seed_ranges, 3, 1),
            first: 0,
        };
        ensure!(self.steps.0.iter().all(|&steps| steps >= 2), "--steps needs numbers of at least 2");
        ensure!(seeds.images >= 2, "--images must be at least 2: a covariance needs two");
        ensure!(seeds.ranges >= 1 && self.held_out >= 1, "--seed-ranges and --held-out must be at least 1");
        for (name, rate) in [("lr", self.lr), ("phase1-lr", self.phase1_lr), ("rollout-lr", self.rollout_lr)] {
            positive(name, rate)?;
        }
        not_negative("last-weight", self.last_weight)?;
        not_negative("gamma", self.gamma)?;
        let (critic, critic_of) = CriticArgs {
            weight: ("rollout-critic", self.rollout_critic),
            of: ("rollout-critic-of", self.rollout_critic_of),
            data: true,
        }
        .checked()?;
        ensure!(self.trajectories != Some(0), "--trajectories must be at least 1");
        let counts = [self.updates, self.rollout_updates, self.phase1_updates];
        ensure!(!counts.contains(&Some(0)), "--updates, --rollout-updates and --phase1-updates must be at least 1");
        let batches = [self.batch, self.rollout_batch, self.microbatch, Some(self.phase1_batch)];
        ensure!(
            !batches.contains(&Some(0)),
            "--batch, --rollout-batch, --microbatch and --phase1-batch must be at least 1"
        );
        let batch = self.batch.unwrap_or(if paper { 512 } else { 128 });
        let updates = by_preset(self.updates, 1_000, 50_000);
        let eval_batch = self.eval_batch.max(1);
        let phase2 = |updates: u64, batch: usize| Phase2Settings {
            weights: TuneWeights::Bound { last: self.last_weight },
            trajectories: 0,
            tune: TuneConfig { iterations: updates, check_every: updates.div_ceil(20).max(1), patience: 5 },
            batch,
            microbatch: self.microbatch.unwrap_or(batch),
            learning_rate: self.lr,
            lr_schedule: LrSchedule::Constant,
            ema_images: (updates * batch as u64) as f64 / 20.0,
            xflip: false,
            seed: 0,
        };
        ensure!(self.settling_images != 1, "--settling-images must be at least 2, as a covariance needs two, or 0");
        ensure!(
            self.search.search != Search::Bound,
            "--search is for searches over a teacher; the bound is what stage 1 minimises"
        );
        let least = self.search.least_latents().max(1);
        ensure!(self.search_samples >= least, "--search-samples must be at least {least} for {}", self.search);
        Ok(Settings {
            search: self.search.clone(),
            seeds,
            precision: self.compute.precision.clone(),
            fit: FitSettings {
                phase1: self.phase1(by_preset(self.phase1_updates, 400, 50_000)),
                search: self.our_search(eval_batch),
                phase2: phase2(updates, batch),
                held_out: self.held_out,
                teacher_steps: 18,
                early_stop: self.early_stop,
                settling_images: self.settling_images,
                batch: eval_batch,
            },
            rollout: Phase2Settings {
                weights: TuneWeights::Rollout(RolloutLoss {
                    critic,
                    critic_of,
                    ..RolloutLoss::of(Distance::PseudoHuber)
                }),
                trajectories: self.trajectories.unwrap_or(if paper { 16_384 } else { TRAJECTORIES }),
                learning_rate: self.rollout_lr,
                lr_schedule: LrSchedule::Cosine,
                ..phase2(self.rollout_updates.unwrap_or(updates), self.rollout_batch.unwrap_or(batch))
            },
        })
    }

    /// All latents serve in the fits, half of them in the refinement, the others judge it; a quarter says where levels might move.
    fn our_search(&self, batch: usize) -> SearchSettings {
        let (samples, defaults) = (self.search_samples, SearchSettings::default());
        SearchSettings {
            teacher: TeacherSettings { samples, ..defaults.teacher },
            fit_samples: samples,
            sweep_samples: samples.div_ceil(4),
            gauss_newton: GaussNewtonSettings { samples: samples / 2, ..defaults.gauss_newton },
            batch,
            ..defaults
        }
    }

    /// Stage 1 as the paper has it: Eq. 11 and gamma times Eq. 12, by gradient on Eq. 13's parameters.
    fn phase1(&self, iterations: u64) -> Phase1Settings {
        Phase1Settings {
            search: Phase1Search::Paper,
            objective: Objective::Joint { gamma: self.gamma },
            solver: Phase1Solver::Adam,
            noise: NoiseSharing::Independent,
            parameter: Scale::Linear,
            iterations,
            batch: self.phase1_batch,
            learning_rate: self.phase1_lr,
            check_every: iterations.div_ceil(20).max(1),
            patience: 5,
            grid: crate::fitting::TABLE_GRID,
            table_images: 256,
            seed: 0,
        }
    }
}
