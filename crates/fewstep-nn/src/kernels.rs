//! Operations of the U-Nets that libtorch has no fast kernel for on a CPU, and the memory format they work in.
//!
//! A network on a CPU computes in channels_last memory (`[N, C, H, W]` tensors whose channels lie together), where
//! oneDNN's convolutions are fastest. libtorch's group normalisation is not: `src/shim` has one that takes what stands
//! around it in the same passes. Elsewhere (a GPU, f16, f64, other memory formats) the same mathematics is done by libtorch.
//!
//! This is the only file that calls C++ of ours; its `unsafe` is at the end.

use std::sync::Once;

use tch::{Device, Kind, Tensor};

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
    /// Probability of the dropout at the end, 0 for none.
    pub dropout: f64,
}

impl NormAct<'_> {
    /// `x`: `[N, C, H, W]`; returns the same shape, kind and memory format. Differentiable in everything, once.
    ///
    /// Statistics and arithmetic are f32 also for bf16. The fused dropout draws one number from libtorch's generator and is
    /// the same for every number of threads.
    ///
    /// # Panics
    /// Where shapes do not fit, as tch's operators do.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        if shim::is_supported(x) { self.fused(x) } else { self.composed(x) }
    }

    fn fused(&self, x: &Tensor) -> Tensor {
        let row = |values: &Tensor| values.to_kind(Kind::Float).reshape([-1, x.size()[1]]);
        let (weight, bias, shift) = (row(self.weight), row(self.bias), self.shift.map(row));
        shim::norm_act(x, &NormAct { weight: &weight, bias: &bias, shift: shift.as_ref(), ..*self })
    }

    fn composed(&self, x: &Tensor) -> Tensor {
        let wide = |values: &Tensor| values.to_kind(x.kind()).reshape([-1, x.size()[1], 1, 1]);
        let shifted = self.shift.map(|shift| x + wide(shift));
        let x = shifted.as_ref().unwrap_or(x);
        let same_for_all = self.weight.dim() == 1 && self.bias.dim() == 1;
        let mut y = if same_for_all {
            let (weight, bias) = (self.weight.to_kind(x.kind()), self.bias.to_kind(x.kind()));
            x.group_norm(self.groups, Some(&weight), Some(&bias), self.eps, true)
        } else {
            x.group_norm(self.groups, None::<&Tensor>, None::<&Tensor>, self.eps, true) * wide(self.weight)
                + wide(self.bias)
        };
        if self.silu {
            y = y.silu();
        }
        if self.dropout > 0.0 { y.dropout(self.dropout, true) } else { y }
    }
}

/// `(a + b) * factor`, both `[N, C, H, W]`.
pub fn scaled_sum(a: &Tensor, b: &Tensor, factor: f64) -> Tensor {
    if shim::is_supported(a) && shim::is_supported(b) && a.kind() == b.kind() {
        return shim::scaled_sum(a, b, factor);
    }
    let sum = a + b;
    if factor == 1.0 { sum } else { sum * factor }
}

/// From now on f32 is f32 on a GPU, too, where libtorch would round the factors of convolutions to TF32.
pub(crate) fn full_precision() {
    shim::full_precision();
}

/// The same numbers in the memory format that networks compute in on the device of `x`: `[N, C, H, W]`, channels_last on
/// a CPU. Costs nothing where they are in it already.
pub fn network_format(x: &Tensor) -> Tensor {
    if x.device() != Device::Cpu || x.dim() != 4 || has_channels_last_strides(x) {
        return x.shallow_clone();
    }
    KEEP_FREED_MEMORY.call_once(shim::keep_freed_memory);
    let size = x.size();
    if size[1] == 1 {
        // The numbers lie the same way in both formats, and libtorch tells them apart by the strides alone.
        let [h, w] = [size[2], size[3]];
        return x.contiguous().as_strided(&size, [h * w, 1, w, 1], None);
    }
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// Every activation is freed soon after it was made, and the next is as large. Unless told otherwise, glibc gives large
/// blocks back to the kernel, which clears their pages each time: a tenth of a network's time on a CPU.
static KEEP_FREED_MEMORY: Once = Once::new();

fn has_channels_last_strides(x: &Tensor) -> bool {
    let (size, stride) = (x.size(), x.stride());
    stride[1] == 1 && stride[3] == size[1] && stride[2] == size[1] * size[3] && stride[0] == stride[2] * size[2]
}

/// Calls into `src/shim`.
mod shim {
    use std::ffi::{CStr, c_char, c_int, c_void};
    use std::ptr;

    use tch::Tensor;

    use super::NormAct;

    unsafe extern "C" {
        fn fewstep_is_supported(x: *const c_void) -> c_int;
        fn fewstep_norm_act(
            out: *mut *mut c_void,
            x: *const c_void,
            weight: *const c_void,
            bias: *const c_void,
            shift: *const c_void,
            groups: i64,
            eps: f64,
            silu: c_int,
            dropout: f64,
        ) -> *mut c_char;
        fn fewstep_scaled_sum(out: *mut *mut c_void, a: *const c_void, b: *const c_void, factor: f64) -> *mut c_char;
        fn fewstep_keep_freed_memory();
        fn fewstep_full_precision();
        fn fewstep_free_message(message: *mut c_char);
    }

    fn pointer(tensor: &Tensor) -> *const c_void {
        tensor.as_ptr().cast()
    }

    /// Whether the fused operations take `x`.
    pub fn is_supported(x: &Tensor) -> bool {
        // SAFETY: `as_ptr` is an at::Tensor that lives as long as `x`, and the function only reads it.
        unsafe { fewstep_is_supported(pointer(x)) != 0 }
    }

    pub fn norm_act(x: &Tensor, norm: &NormAct) -> Tensor {
        let shift = norm.shift.map_or(ptr::null(), pointer);
        let mut out = ptr::null_mut();
        // SAFETY: all pointers but `shift`, which may be null, are at::Tensors that outlive the call; `out` is written
        // where the message is null. Shapes and kinds are checked in C++, and no exception leaves it.
        let message = unsafe {
            fewstep_norm_act(
                &mut out,
                pointer(x),
                pointer(norm.weight),
                pointer(norm.bias),
                shift,
                norm.groups,
                norm.eps,
                c_int::from(norm.silu),
                norm.dropout,
            )
        };
        finish(out, message)
    }

    pub fn scaled_sum(a: &Tensor, b: &Tensor, factor: f64) -> Tensor {
        let mut out = ptr::null_mut();
        // SAFETY: as in `norm_act`.
        let message = unsafe { fewstep_scaled_sum(&mut out, pointer(a), pointer(b), factor) };
        finish(out, message)
    }

    pub fn keep_freed_memory() {
        // SAFETY: sets two parameters of the C library's allocator, which any thread may do.
        unsafe { fewstep_keep_freed_memory() }
    }

    pub fn full_precision() {
        // SAFETY: sets two entries of libtorch's global context, with values that it knows.
        unsafe { fewstep_full_precision() }
    }

    /// Takes over the result of a call; panics with its message as tch's operators do.
    fn finish(out: *mut c_void, message: *mut c_char) -> Tensor {
        if message.is_null() {
            // SAFETY: without a message, `out` is a new at::Tensor that nobody else owns, which is what tch wraps.
            return unsafe { Tensor::from_ptr(out.cast()) };
        }
        // SAFETY: a message is a C string allocated by the shim, freed once, after it was copied.
        let text = unsafe {
            let text = CStr::from_ptr(message).to_string_lossy().into_owned();
            fewstep_free_message(message);
            text
        };
        panic!("libtorch: {text}");
    }
}
