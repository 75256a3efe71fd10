//! Which device to compute on, in words that a user types.

use tch::{Device, Kind};

use crate::error::{Error, Result};

/// Parses `auto`, `cpu`, `cuda` or `cuda:N`.
///
/// A GPU is asked for before a network is made or a number drawn: libtorch looks for its CUDA library once, at the first call that
/// could concern it, and this opens that library.
pub fn parse_device(name: &str) -> Result<Device> {
    let cuda = |index: usize| {
        let closed = load_cuda();
        let count = tch::Cuda::device_count().max(0) as usize;
        if index < count {
            Ok(Device::Cuda(index))
        } else {
            let why = match closed {
                Some(why) => format!(" (its CUDA library cannot be opened: {why})"),
                None if count == 0 => " (without a driver, or asked for after libtorch was used)".to_owned(),
                None => String::new(),
            };
            Err(Error::Input(format!(
                "device cuda:{index} is not there: libtorch sees {count} CUDA device(s){why}; use --device cpu"
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
/// one binary serves machines with and without a GPU. Says why it cannot be opened, if so.
fn load_cuda() -> Option<&'static str> {
    #[cfg(unix)]
    {
        use std::sync::OnceLock;
        static CLOSED: OnceLock<Option<String>> = OnceLock::new();
        let closed = CLOSED.get_or_init(|| {
            if std::env::var_os("FEWSTEP_NO_CUDA").is_some() {
                return Some("FEWSTEP_NO_CUDA is set".to_owned());
            }
            let closed = cuda_library::open().err();
            crate::kernels::full_precision();
            closed
        });
        closed.as_deref()
    }
    #[cfg(not(unix))]
    None
}

#[cfg(unix)]
mod cuda_library {
    use std::ffi::{CStr, c_char, c_int, c_void};

    unsafe extern "C" {
        fn dlopen(filename: *const c_char, flags: c_int) -> *mut c_void;
        fn dlerror() -> *const c_char;
    }

    const RTLD_NOW: c_int = 2;
    const RTLD_GLOBAL: c_int = 0x100;

    /// Opens libtorch_cuda.so from the run path; where it is missing or its driver is, CUDA stays unavailable.
    pub fn open() -> Result<(), String> {
        // SAFETY: the name is a valid C string, and the library is libtorch's own, whose initialisers register kernels only;
        // after a failure dlerror returns a C string that stays until this thread's next call, or null.
        unsafe {
            if !dlopen(c"libtorch_cuda.so".as_ptr(), RTLD_NOW | RTLD_GLOBAL).is_null() {
                return Ok(());
            }
            let why = dlerror();
            if why.is_null() {
                return Err("no reason given".to_owned());
            }
            Err(CStr::from_ptr(why).to_string_lossy().into_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_is_not_there_is_an_error_that_says_why() {
        let error = parse_device("cuda:99").unwrap_err().to_string();
        assert!(
            error.contains("cuda:99 is not there: libtorch sees ") && error.contains("use --device cpu"),
            "{error}"
        );
        let closed = load_cuda();
        assert_eq!(closed.is_some(), error.contains("cannot be opened: "), "{error}");
        assert!(closed.is_none_or(|why| !why.is_empty() && error.contains(why)), "{error}");
    }
}
