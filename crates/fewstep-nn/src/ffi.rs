//! Calls of the C++ in `src/shim`: all of this crate's `unsafe` but for opening libtorch's CUDA library.
#![allow(unsafe_code)] // listed in ARCHITECTURE.md

mod group;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use tch::{TchError, Tensor};

pub use self::group::{Gradients, Group, Meeting};
use crate::error::{Error, Result};
use crate::kernels::{Dropout, NormAct};
use crate::random::MaskSeed;

unsafe extern "C" {
    fn fewstep_is_supported(supported: *mut c_int, message: *mut *mut c_char, x: *const c_void) -> c_int;
    fn fewstep_norm_act(
        out: *mut *mut c_void,
        message: *mut *mut c_char,
        x: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        shift: *const c_void,
        groups: i64,
        eps: f64,
        silu: c_int,
        dropout: f64,
        seed: u64,
    ) -> c_int;
    fn fewstep_scaled_sum(
        out: *mut *mut c_void,
        message: *mut *mut c_char,
        a: *const c_void,
        b: *const c_void,
        factor: f64,
    ) -> c_int;
    fn fewstep_dropout(
        out: *mut *mut c_void,
        message: *mut *mut c_char,
        x: *const c_void,
        probability: f64,
        seed: u64,
        first: i64,
        of: i64,
    ) -> c_int;
    fn fewstep_keep_freed_memory() -> c_int;
    fn fewstep_full_precision(message: *mut *mut c_char) -> c_int;
    fn fewstep_kernels_in_use() -> *const c_char;
    fn fewstep_kernels_available(index: c_int) -> *const c_char;
    fn fewstep_free_message(message: *mut c_char);
}

fn pointer(tensor: &Tensor) -> *const c_void {
    tensor.as_ptr().cast()
}

/// Whether the fused operations take `x`.
pub fn is_supported(x: &Tensor) -> Result<bool> {
    let mut supported = 0;
    // SAFETY: `as_ptr` is an at::Tensor that lives as long as `x`, and the function only reads it; `supported` outlives the call.
    call(|message| unsafe { fewstep_is_supported(&mut supported, message, pointer(x)) })?;
    Ok(supported != 0)
}

pub fn norm_act(x: &Tensor, norm: &NormAct) -> Result<Tensor> {
    let shift = norm.shift.map_or(ptr::null(), pointer);
    let Dropout { probability, seed } = norm.dropout.unwrap_or(Dropout { probability: 0.0, seed: 0.into() });
    let seed = seed.seed.wrapping_add(seed.rows.first); // the kernel adds the place in the batch
    // SAFETY: all pointers but `shift`, which may be null, are at::Tensors that outlive the call. Shapes and kinds are checked
    // in C++, and no exception leaves it.
    tensor(|out, message| unsafe {
        fewstep_norm_act(
            out,
            message,
            pointer(x),
            pointer(norm.weight),
            pointer(norm.bias),
            shift,
            norm.groups,
            norm.eps,
            c_int::from(norm.silu),
            probability,
            seed,
        )
    })
}

pub fn scaled_sum(a: &Tensor, b: &Tensor, factor: f64) -> Result<Tensor> {
    // SAFETY: as in `norm_act`.
    tensor(|out, message| unsafe { fewstep_scaled_sum(out, message, pointer(a), pointer(b), factor) })
}

pub fn dropout(x: &Tensor, Dropout { probability, seed: MaskSeed { seed, rows } }: Dropout) -> Result<Tensor> {
    let first = rows.first as i64;
    let of = rows.of.map_or_else(|| x.size().first().copied().unwrap_or(0), |of| of as i64);
    // SAFETY: as in `norm_act`.
    tensor(|out, message| unsafe { fewstep_dropout(out, message, pointer(x), probability, seed, first, of) })
}

pub fn keep_freed_memory() -> bool {
    // SAFETY: sets two parameters of the C library's allocator, which any thread may do.
    unsafe { fewstep_keep_freed_memory() != 0 }
}

pub fn full_precision() -> Result<()> {
    // SAFETY: sets two entries of libtorch's global context, with values that it knows.
    call(|message| unsafe { fewstep_full_precision(message) })
}

pub fn in_use() -> &'static str {
    // SAFETY: a name that is compiled in.
    name(unsafe { fewstep_kernels_in_use() }).unwrap_or("unknown")
}

pub fn available(index: c_int) -> Option<&'static str> {
    // SAFETY: as in `in_use`; null after the last.
    name(unsafe { fewstep_kernels_available(index) })
}

fn name(text: *const c_char) -> Option<&'static str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the callers pass C strings that are compiled in.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}

/// Runs `function`, which returns 0 or writes a message.
fn call(function: impl FnOnce(*mut *mut c_char) -> c_int) -> Result<()> {
    let mut message = ptr::null_mut();
    if function(&mut message) == 0 {
        return Ok(());
    }
    if message.is_null() {
        return Err(failure("it failed, and there was no memory left to say why".to_owned()));
    }
    // SAFETY: a message is a C string allocated by the shim.
    Err(failure(unsafe { taken(message) }))
}

/// A string of the shim's, which is freed.
///
/// # Safety
/// `string` is one that the shim has allocated, and is not used again.
unsafe fn taken(string: *mut c_char) -> String {
    // SAFETY: as the caller promises; freed once, after it was copied.
    unsafe {
        let copied = CStr::from_ptr(string).to_string_lossy().into_owned();
        fewstep_free_message(string);
        copied
    }
}

/// The tensor that `function` makes.
fn tensor(function: impl FnOnce(*mut *mut c_void, *mut *mut c_char) -> c_int) -> Result<Tensor> {
    let mut out = ptr::null_mut();
    call(|message| function(&mut out, message))?;
    if out.is_null() {
        return Err(failure("no tensor came back".to_owned()));
    }
    // SAFETY: where the call succeeded, `out` is a new at::Tensor that nobody else owns, which is what tch wraps.
    Ok(unsafe { Tensor::from_ptr(out.cast()) })
}

/// A failure as tch's operators report theirs.
fn failure(text: String) -> Error {
    TchError::Torch(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A failure is one also where the shim had no memory for its message.
    #[test]
    fn a_failure_without_a_message_is_no_success() {
        let error = call(|_| 1).unwrap_err().to_string();
        assert!(error.contains("no memory left"), "{error}");
        assert!(tensor(|_, _| 1).is_err());
        assert!(tensor(|_, _| 0).is_err(), "a success that made nothing");
        assert!(call(|_| 0).is_ok());
    }

    /// Also where there is no GPU: it is a setting of libtorch's.
    #[test]
    fn full_precision_can_be_asked_for() {
        full_precision().unwrap();
    }

    /// A tensor that was never made: libtorch throws, and the program hears of it instead of ending.
    #[test]
    fn an_exception_arrives_as_an_error() {
        let nothing = Tensor::new();
        let text = scaled_sum(&nothing, &nothing, 1.0).unwrap_err().to_string();
        assert!(text.starts_with("libtorch: "), "{text}");
    }
}
