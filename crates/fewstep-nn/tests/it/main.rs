//! Integration tests of fewstep-nn: agreement with the reference code first.

mod critic;
mod cuda;
mod data_parallel;
mod golden;
mod kernels;
mod mixture;
mod networks;
mod programs;
mod ranks;
mod refusals;
mod rollout;
mod samplers;
mod searches;
mod support;
mod training;
mod tunable;
