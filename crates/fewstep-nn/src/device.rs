//! Which device to compute on, in words that a user types.

use tch::{Device, Kind};

use crate::error::{Error, Result};

/// Parses `auto`, `cpu`, `cuda` or `cuda:N`.
pub fn parse_device(name: &str) -> Result<Device> {
    let cuda = |index: usize| {
        load_cuda();
        let count = tch::Cuda::device_count().max(0) as usize;
        if index < count {
            Ok(Device::Cuda(index))
        } else {
            Err(Error::Input(format!(
                "device cuda:{index} is not there: libtorch sees {count} CUDA device(s); use --device cpu"
            )))
        }
    };
    match name {
        "cpu" => Ok(Device::Cpu),
        "auto" => Ok(cuda(0).unwrap_or(Device::Cpu)),
        "cuda" => cuda(0),
        other => match other.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(index)) => cuda(index),
            _ => Err(Error::Input(format!("'{other}' is no device; use auto, cpu, cuda or cuda:N"))),
        },
    }
}

/// Parses `f32`, `bf16` or `f16`.
pub fn parse_kind(name: &str) -> Result<Kind> {
    match name {
        "f32" => Ok(Kind::Float),
        "bf16" => Ok(Kind::BFloat16),
        "f16" => Ok(Kind::Half),
        other => Err(Error::Input(format!("'{other}' is no number type; use f32, bf16 or f16"))),
    }
}

/// Limits the threads that libtorch uses for one operation.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
}

/// libtorch's CUDA half is a library of its own, opened only when a device of its kind is asked for:
/// one binary serves machines with and without a GPU.
fn load_cuda() {
    #[cfg(unix)]
    {
        use std::sync::Once;
        static LOAD: Once = Once::new();
        LOAD.call_once(|| {
            if std::env::var_os("FEWSTEP_NO_CUDA").is_none() {
                cuda_library::open();
                crate::kernels::full_precision();
            }
        });
    }
}

#[cfg(unix)]
mod cuda_library {
    use std::ffi::{CString, c_char, c_int, c_void};

    unsafe extern "C" {
        fn dlopen(filename: *const c_char, flags: c_int) -> *mut c_void;
    }

    const RTLD_NOW: c_int = 2;
    const RTLD_GLOBAL: c_int = 0x100;

    /// Opens libtorch_cuda.so from the run path; where it is missing or its driver is, CUDA stays unavailable.
    pub fn open() {
        let Ok(name) = CString::new("libtorch_cuda.so") else { return };
        // SAFETY: `name` is a valid C string, and the library is libtorch's own, whose initialisers register kernels only.
        unsafe {
            dlopen(name.as_ptr(), RTLD_NOW | RTLD_GLOBAL);
        }
    }
}
