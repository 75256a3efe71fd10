//! The mathematics of few-step diffusion sampling, in `f64`, without tensors and without files.
//!
//! The one idea: **a sampler is data**. Every linear ODE solver on a given noise schedule computes states that are
//! fixed linear combinations of the initial noise and the network outputs so far (Eq. 8 of the paper, generalised).
//! A [`solver`] is ordinary code run once over symbolic expressions ([`trace`]); what it leaves is a [`plan::Plan`],
//! and [`execute::execute`] is the only sampling loop there is:
//!
//! ```
//! use fewstep_core::{execute::execute, mixture::Mixture, schedule, solver::{Solver, SolverOptions}};
//!
//! let levels = schedule::karras(8, 0.002, 80.0, 7.0)?;
//! let plan = Solver::Heun.plan(&levels, &SolverOptions::default())?;
//! assert_eq!(plan.nfe(), 15);
//!
//! let data = Mixture::gaussian(vec![1.0, -1.0], 0.25)?; // D(x; sigma) is known in closed form
//! let latent = vec![0.3, -1.2]; // unit normal noise
//! let image = execute(&plan, &latent, |x, sigma| Ok::<_, std::convert::Infallible>(data.denoised(x, sigma)))?;
//! assert_eq!(image.len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The second idea: searches and objectives need sums and inner products of network outputs, never tensors as such.
//! Everything here is generic over [`space::VectorSpace`], so the same code runs on `Vec<f64>` in tests and on batches
//! of images on a GPU.
//!
//! Conventions. Noise levels are stored in sampling order, largest first. `D(x; sigma)` is the denoiser, whatever
//! the [`parameterisation`] of the network inside. States are canonical: `x = y + sigma n`. The image range and the size of a batch are the caller's.

pub mod denoiser;
pub mod execute;
pub mod group;
pub mod mixture;
pub mod noise;
pub mod objective;
pub mod observe;
pub mod optimise;
pub mod parameterisation;
pub mod plan;
pub mod scalar;
pub mod schedule;
pub mod solver;
pub mod space;
pub mod trace;

mod linear;

pub use denoiser::{Denoiser, Differentiable};
pub use execute::{ExecuteError, execute, execute_observed, execute_together, one_by_one};
pub use parameterisation::{Coefficients, Parameterisation};
pub use plan::{Combination, Plan, PlanError, Source, Stage};
pub use scalar::Scalar;
pub use schedule::{Schedule, ScheduleError};
pub use solver::{LastStep, Solver, SolverError, SolverOptions};
pub use space::VectorSpace;
pub use trace::{Expr, Trace};
