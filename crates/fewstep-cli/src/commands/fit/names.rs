//! Choices of `fewstep fit` as they are typed.

use fewstep_nn::train::{GradientFlow, StepWeights};

/// Objectives of phase 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ObjectiveName {
    /// Eq. 11
    Discretization,
    /// Eq. 12
    Bound,
    /// Eq. 11 and gamma times Eq. 12: the paper's
    Joint,
}

/// Noise along the levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum NoiseName {
    /// Drawn afresh at every level
    Independent,
    /// The same at every level
    Shared,
}

/// Scale of Eq. 13.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ScaleName {
    /// Shares of sigma (the paper's)
    Linear,
    /// Shares of log sigma
    Log,
}

/// Weights of phase 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WeightsName {
    /// Eq. 12
    Bound,
    /// The EDM recipe
    Original,
    /// The sampler's own states against a teacher's trajectories
    Rollout,
}

/// Weights of the steps of a rollout. (Documented variants would make the help page longer.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StepWeightsName {
    Signal,
    Equal,
    Image,
}

/// How far back a rollout's gradient goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum GradientFlowName {
    Step,
    Through,
}

impl From<GradientFlowName> for GradientFlow {
    fn from(name: GradientFlowName) -> Self {
        match name {
            GradientFlowName::Step => Self::Step,
            GradientFlowName::Through => Self::Through,
        }
    }
}

impl From<StepWeightsName> for StepWeights {
    fn from(name: StepWeightsName) -> Self {
        match name {
            StepWeightsName::Signal => Self::Signal,
            StepWeightsName::Equal => Self::Equal,
            StepWeightsName::Image => Self::Image,
        }
    }
}
