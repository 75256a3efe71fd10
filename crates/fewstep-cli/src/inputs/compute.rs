//! Device, precision, threads.

use anyhow::Result;
use fewstep_nn::device::{self, Choice};
use fewstep_nn::kernels;
use fewstep_nn::tch::{Device, Kind};

use crate::{ranks, ui};

/// Where to compute.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Compute")]
pub struct DeviceArgs {
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", value_name = "NAME")]
    pub device: String,
    /// Threads for one operation [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl DeviceArgs {
    /// Applies the choice of threads, and to a GPU that f32 is f32, both for the whole process; the device.
    pub fn resolve(&self) -> Result<Device> {
        let number = ranks::local_rank().unwrap_or(0);
        let Choice { device, gpu_failed } = device::parse_device(&self.device, number)?; // first: see there
        let kind = if device.is_cuda() { "cuda" } else { "cpu" };
        ranks::join()?.check_same("kind of device", kind)?;
        if device.is_cuda() {
            kernels::full_precision()?;
        }
        if let Some(why) = gpu_failed {
            ui::note(format!("this runs on the CPU, as no GPU can be used: {why}; --device cpu leaves out this line"));
        }
        if let Some(threads) = self.threads {
            anyhow::ensure!(threads > 0, "--threads must be at least 1");
            device::set_threads(threads);
        }
        Ok(device)
    }
}

/// Where and in which precision the network runs.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Compute")]
pub struct Compute {
    #[command(flatten)]
    pub place: DeviceArgs,
    /// What the network computes in: f32, bf16 or f16
    #[arg(long, default_value = "f32", value_name = "TYPE", value_parser = ["f32", "bf16", "f16"], hide_possible_values = true)]
    pub precision: String,
}

impl Compute {
    /// Applies the choice of threads; the device and the type.
    pub fn resolve(&self) -> Result<(Device, Kind)> {
        Ok((self.place.resolve()?, device::parse_kind(&self.precision)?))
    }
}
