//! Operations of the U-Nets that libtorch has no fast kernel for on a CPU, and the memory format they work in.
//!
//! A network on a CPU computes in channels_last memory (`[N, C, H, W]` tensors whose channels lie together), where
//! oneDNN's convolutions are fastest. libtorch's group normalisation is not: `src/shim` has one that takes what stands
//! around it in the same passes. Elsewhere (a GPU, f16, f64, other memory formats) the same mathematics is done by libtorch.
//!
//! This is the only file that calls C++ of ours; its `unsafe` is at the end.

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Group normalisation and what follows it: `dropout(act(group_norm(x + shift) * weight + bias))`.
#[derive(Clone, Copy, Debug)]
pub struct NormAct<'a> {
    /// How many groups the channels are in.
    pub groups: i64,
    /// Added to the variance.
    pub eps: f64,
    /// Factor on each channel, `[C]` or `[N or 1, C]`.
    pub weight: &'a Tensor,
    /// Added to each channel, like `weight`.
    pub bias: &'a Tensor,
    /// Added to each channel of the input, `[N or 1, C]`.
    pub shift: Option<&'a Tensor>,
    /// Whether SiLU follows.
    pub silu: bool,
    /// The dropout at the end, if any.
    pub dropout: Option<Dropout>,
}

/// Which numbers are set to zero, while the others are scaled up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of each.
    pub probability: f64,
    /// The same seed drops the same numbers of a tensor of the same shape, device and memory format.
    pub seed: u64,
}

impl NormAct<'_> {
    /// `x`: `[N, C, H, W]`; returns the same shape, kind and memory format. Differentiable in everything, once.
    ///
    /// Statistics and arithmetic are f32 also for bf16. The fused dropout is the same for every number of threads.
    ///
    /// # Errors
    /// Where shapes do not fit, or memory does not suffice.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if shim::is_supported(x)? { self.fused(x) } else { self.composed(x) }
    }

    fn fused(&self, x: &Tensor) -> Result<Tensor> {
        let row = |values: &Tensor| values.f_to_kind(Kind::Float)?.f_reshape([-1, x.size()[1]]);
        let (weight, bias, shift) = (row(self.weight)?, row(self.bias)?, self.shift.map(row).transpose()?);
        shim::norm_act(x, &NormAct { weight: &weight, bias: &bias, shift: shift.as_ref(), ..*self })
    }

    fn composed(&self, x: &Tensor) -> Result<Tensor> {
        let wide = |values: &Tensor| values.f_to_kind(x.kind())?.f_reshape([-1, x.size()[1], 1, 1]);
        let shifted = self.shift.map(|shift| x.f_add(&wide(shift)?)).transpose()?;
        let x = shifted.as_ref().unwrap_or(x);
        let same_for_all = self.weight.dim() == 1 && self.bias.dim() == 1;
        let mut y = if same_for_all {
            let (weight, bias) = (self.weight.f_to_kind(x.kind())?, self.bias.f_to_kind(x.kind())?);
            x.f_group_norm(self.groups, Some(&weight), Some(&bias), self.eps, true)?
        } else {
            let normed = x.f_group_norm(self.groups, None::<&Tensor>, None::<&Tensor>, self.eps, true)?;
            normed.f_mul(&wide(self.weight)?)?.f_add(&wide(self.bias)?)?
        };
        if self.silu {
            y = y.f_silu()?;
        }
        match self.dropout {
            Some(dropout) => shim::dropout(&y, dropout),
            None => Ok(y),
        }
    }
}

/// `(a + b) * factor`, both `[N, C, H, W]`.
///
/// # Errors
/// Where shapes do not fit, or memory does not suffice.
pub fn scaled_sum(a: &Tensor, b: &Tensor, factor: f64) -> Result<Tensor> {
    if shim::is_supported(a)? && shim::is_supported(b)? && a.kind() == b.kind() {
        return shim::scaled_sum(a, b, factor);
    }
    let sum = a.f_add(b)?;
    Ok(if factor == 1.0 { sum } else { sum.f_mul_scalar(factor)? })
}

/// From now on f32 is f32 on a GPU, too, where libtorch would round the factors of convolutions to TF32.
///
/// For a program to call at its start, if it wants to: it concerns the whole process, whoever else uses libtorch in it included. The
/// program `fewstep` calls it where it computes on a GPU; whoever embeds the library asks for it.
///
/// # Errors
/// If libtorch refuses.
pub fn full_precision() -> Result<()> {
    shim::full_precision()
}

/// The instruction sets that this processor has and the kernels were compiled for, best first.
pub fn instruction_sets() -> Vec<&'static str> {
    (0..).map_while(shim::available).collect()
}

/// The instruction set in use: the best, or the one that the environment variable FEWSTEP_CPU_KERNELS asks for.
pub fn instruction_set() -> &'static str {
    shim::in_use()
}

/// Lets the process keep the memory that it frees; whether the C library can be told to (glibc can).
///
/// For a program to call at its start, if it wants to: it concerns the whole process. Every activation is freed soon after it was
/// made, and the next is as large. Unless told otherwise, glibc gives large blocks back to the kernel, which clears their pages
/// each time: a tenth of a network's time on a CPU.
pub fn keep_freed_memory() -> bool {
    shim::keep_freed_memory()
}

/// The same numbers in the memory format that networks compute in on the device of `x`: `[N, C, H, W]`, channels_last on
/// a CPU. Costs nothing where they are in it already.
///
/// # Errors
/// If memory does not suffice.
pub fn network_format(x: &Tensor) -> Result<Tensor> {
    if x.device() != Device::Cpu || x.dim() != 4 || has_channels_last_strides(x) {
        return Ok(x.shallow_clone());
    }
    let size = x.size();
    if size[1] == 1 {
        // The numbers lie the same way in both formats, and libtorch tells them apart by the strides alone.
        let [h, w] = [size[2], size[3]];
        return Ok(x.f_contiguous()?.f_as_strided(&size, [h * w, 1, w, 1], None)?);
    }
    Ok(x.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?)
}

fn has_channels_last_strides(x: &Tensor) -> bool {
    let (size, stride) = (x.size(), x.stride());
    stride[1] == 1 && stride[3] == size[1] && stride[2] == size[1] * size[3] && stride[0] == stride[2] * size[2]
}

/// Calls into `src/shim`.
#[allow(unsafe_code)] // listed in ARCHITECTURE.md
mod shim {
    use std::ffi::{CStr, c_char, c_int, c_void};
    use std::ptr;

    use tch::{TchError, Tensor};

    use super::{Dropout, NormAct};
    use crate::error::{Error, Result};

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
        let Dropout { probability, seed } = norm.dropout.unwrap_or(Dropout { probability: 0.0, seed: 0 });
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

    pub fn dropout(x: &Tensor, Dropout { probability, seed }: Dropout) -> Result<Tensor> {
        // SAFETY: as in `norm_act`.
        tensor(|out, message| unsafe { fewstep_dropout(out, message, pointer(x), probability, seed) })
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
        // SAFETY: a message is a C string allocated by the shim, freed once, after it was copied.
        unsafe {
            let text = CStr::from_ptr(message).to_string_lossy().into_owned();
            fewstep_free_message(message);
            Err(failure(text))
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
}
