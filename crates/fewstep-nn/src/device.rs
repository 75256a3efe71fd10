//! Which device to compute on, in words that a user types.

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result, torch_line};

/// The device to compute on.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The device.
    pub device: Device,
    /// Why `auto` came to the CPU on a machine that has a GPU's driver: what failed. None where no GPU was to be expected, or none
    /// was wanted.
    pub gpu_failed: Option<String>,
}

/// Parses `auto`, `cpu`, `cuda` or `cuda:N`.
///
/// A GPU is asked for before a network is made or a number drawn: libtorch looks for its CUDA library once, at the first call that
/// could concern it, and this opens that library. How a GPU rounds f32 is left as it is: a program chooses that for the whole process
/// ([`kernels::full_precision`](crate::kernels::full_precision)).
///
/// # Errors
/// If the name means nothing, or names a GPU that cannot be used: why.
pub fn parse_device(name: &str, number: usize) -> Result<Choice> {
    choose(name, own_gpu(name, number), probe, driver)
}

/// The GPU of the process of this number on its machine: of those that it sees, which may be one.
fn own_gpu(name: &str, number: usize) -> usize {
    if number == 0 || !["auto", "cuda"].contains(&name) || load_cuda().is_some() {
        return 0;
    }
    let count = tch::Cuda::device_count().max(0) as usize;
    number.checked_rem(count).unwrap_or(0)
}

/// [`parse_device`], by what `probe` says of a GPU and where `driver` finds the driver of one.
fn choose(
    name: &str,
    own: usize,
    probe: impl Fn(usize) -> std::result::Result<(), Absent>,
    driver: impl Fn() -> Option<String>,
) -> Result<Choice> {
    let chosen = |device| Ok(Choice { device, gpu_failed: None });
    let cuda = |index: usize| match probe(index) {
        Ok(()) => chosen(Device::Cuda(index)),
        Err(Absent { count, why, .. }) => Err(Error::Input(format!(
            "device cuda:{index} is not there: libtorch sees {count} CUDA device(s) ({why}); use --device cpu"
        ))),
    };
    match name {
        "cpu" => chosen(Device::Cpu),
        "auto" => match (probe(own), driver()) {
            (Ok(()), _) => chosen(Device::Cuda(own)),
            (Err(Absent { unwanted: false, why, .. }), Some(sign)) => {
                Ok(Choice { device: Device::Cpu, gpu_failed: Some(format!("{why} (the driver is there: {sign})")) })
            }
            (Err(_), _) => chosen(Device::Cpu),
        },
        "cuda" => cuda(own),
        other => match other.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(index)) => cuda(index),
            _ => Err(Error::Input(format!("'{other}' is no device; use auto, cpu, cuda or cuda:N"))),
        },
    }
}

/// Why a GPU cannot be used.
#[derive(Clone, Debug, PartialEq)]
struct Absent {
    /// How many libtorch sees.
    count: usize,
    why: String,
    /// Whether the user asked for none.
    unwanted: bool,
}

/// Puts a number on the GPU and takes it back.
fn probe(index: usize) -> std::result::Result<(), Absent> {
    let unwanted = std::env::var_os(NO_CUDA).is_some();
    if let Some(why) = load_cuda() {
        let why = if unwanted { why.to_owned() } else { format!("its CUDA library cannot be opened: {why}") };
        return Err(Absent { count: 0, why, unwanted });
    }
    let count = tch::Cuda::device_count().max(0) as usize;
    if count > 0 && index >= count {
        return Err(Absent { count, why: format!("their numbers are 0 to {}", count - 1), unwanted });
    }
    let there_and_back = || {
        let number = Tensor::from(1.0f32).f_to_device(Device::Cuda(index))?;
        number.f_to_device(Device::Cpu)
    };
    there_and_back().map(|_| ()).map_err(|error| Absent { count, why: torch_line(&error), unwanted })
}

/// Where a driver of an NVIDIA GPU shows, if it does.
fn driver() -> Option<String> {
    const SIGNS: [&str; 4] = ["/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/proc/driver/nvidia/version"];
    SIGNS.into_iter().find(|sign| std::path::Path::new(sign).exists()).map(str::to_owned)
}

/// Set in the environment: no GPU is looked for.
const NO_CUDA: &str = "FEWSTEP_NO_CUDA";

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
            if std::env::var_os(NO_CUDA).is_some() {
                return Some(format!("{NO_CUDA} is set"));
            }
            cuda_library::why_closed()
        });
        closed.as_deref()
    }
    #[cfg(not(unix))]
    None
}

#[cfg(unix)]
#[allow(unsafe_code)] // listed in ARCHITECTURE.md
mod cuda_library {
    use std::ffi::{CStr, c_char, c_int, c_void};

    unsafe extern "C" {
        fn dlopen(filename: *const c_char, flags: c_int) -> *mut c_void;
        fn dlerror() -> *const c_char;
    }

    const RTLD_NOW: c_int = 2;
    const RTLD_GLOBAL: c_int = 0x100;

    /// Opens libtorch_cuda.so from the run path, or says why it stays closed: where it is missing or its driver is, CUDA stays
    /// unavailable.
    pub fn why_closed() -> Option<String> {
        // SAFETY: the name is a valid C string, and the library is libtorch's own, whose initialisers register kernels only;
        // after a failure dlerror returns a C string that stays until this thread's next call, or null.
        unsafe {
            if !dlopen(c"libtorch_cuda.so".as_ptr(), RTLD_NOW | RTLD_GLOBAL).is_null() {
                return None;
            }
            let why = dlerror();
            if why.is_null() {
                return Some("no reason given".to_owned());
            }
            Some(CStr::from_ptr(why).to_string_lossy().into_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_is_not_there_is_an_error_that_says_why() {
        let error = parse_device("cuda:99", 0).unwrap_err().to_string();
        assert!(
            error.contains("cuda:99 is not there: libtorch sees ") && error.contains("use --device cpu"),
            "{error}"
        );
        let closed = load_cuda();
        assert_eq!(closed.is_some_and(|why| !why.ends_with("is set")), error.contains("cannot be opened: "), "{error}");
        assert!(closed.is_none_or(|why| !why.is_empty() && error.contains(why)), "{error}");
        assert!(parse_device("gpu", 0).unwrap_err().to_string().contains("'gpu' is no device"));
    }

    /// What `auto` comes to on machines of every kind, and when it has something to say.
    #[test]
    fn auto_says_why_a_gpu_failed_where_one_was_to_be_expected() {
        let auto = |probed: std::result::Result<(), Absent>, driver: Option<&str>| {
            choose("auto", 0, |_| probed.clone(), || driver.map(str::to_owned)).unwrap()
        };
        let absent = |unwanted| Err(Absent { count: 0, why: "no kernel image".to_owned(), unwanted });
        let (cpu, there) = (Choice { device: Device::Cpu, gpu_failed: None }, Some("/dev/nvidiactl"));
        assert_eq!(auto(Ok(()), there), Choice { device: Device::Cuda(0), gpu_failed: None });
        assert_eq!(auto(absent(false), None), cpu);
        assert_eq!(auto(absent(true), there), cpu);
        let failed = auto(absent(false), there);
        assert_eq!(failed.device, Device::Cpu);
        let why = failed.gpu_failed.unwrap();
        assert!(why.contains("no kernel image") && why.contains("/dev/nvidiactl"), "{why}");
        // one that was asked for by name is an error, not a note
        let error = choose("cuda:1", 0, |_| absent(false), || None).unwrap_err().to_string();
        assert!(error.contains("cuda:1") && error.contains("no kernel image"), "{error}");
    }
}
