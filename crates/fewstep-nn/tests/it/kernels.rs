//! The fused operations against the same mathematics done by libtorch in f64.

use std::process::Command;

use fewstep_core::noise;
use fewstep_nn::kernels::{Dropout, NormAct, instruction_set, instruction_sets, network_format, scaled_sum};
use fewstep_nn::tch::{self, Device, Kind, Tensor};

use crate::golden::assert_close;

/// Normal numbers in f64, the same in every run: how much of a gradient bf16 leaves depends on the numbers, where groups are small.
fn drawn(stream: u64, size: &[i64]) -> Tensor {
    let mut values = vec![0f32; size.iter().product::<i64>() as usize];
    noise::normal(0, stream, &mut values);
    Tensor::from_slice(&values).view(size).to_kind(Kind::Double)
}

/// One application of the normalisation; arrays in f64.
struct Case {
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    shift: Option<Tensor>,
    groups: i64,
    silu: bool,
    cotangent: Tensor,
}

impl Case {
    /// `rows`: whether weight and bias, and the shift, differ between samples (`None`: no shift).
    fn new(size: [i64; 4], groups: i64, silu: bool, own_weights: bool, own_shift: Option<bool>) -> Self {
        let [n, c, ..] = size;
        let rows = |own| if own { n } else { 1 };
        let weight = drawn(0, &[rows(own_weights), c]) + 1.0;
        Self {
            x: drawn(1, &size) * 2.0 + 0.5,
            weight: if own_weights { weight } else { weight.reshape([c]) },
            bias: drawn(2, &[rows(own_weights), c]).reshape(if own_weights { vec![n, c] } else { vec![c] }),
            shift: own_shift.map(|own| drawn(3, &[rows(own), c])),
            groups,
            silu,
            cotangent: drawn(4, &size),
        }
    }

    /// The case with its numbers rounded to `kind`, still in f64.
    fn rounded(self, kind: Kind) -> Self {
        let round = |t: &Tensor| t.to_kind(kind).to_kind(Kind::Double);
        Self { x: round(&self.x), cotangent: round(&self.cotangent), ..self }
    }

    /// Output, and the gradients of x, weight, bias and shift, of the operation on inputs of type `kind`.
    fn fused(&self, kind: Kind, dropout: Option<Dropout>) -> Vec<Tensor> {
        let leaf = |t: &Tensor| t.to_kind(Kind::Float).set_requires_grad(true);
        let x = network_format(&self.x.to_kind(kind)).unwrap().detach().set_requires_grad(true);
        let (weight, bias, shift) = (leaf(&self.weight), leaf(&self.bias), self.shift.as_ref().map(leaf));
        let norm = NormAct {
            groups: self.groups,
            eps: 1e-6,
            weight: &weight,
            bias: &bias,
            shift: shift.as_ref(),
            silu: self.silu,
            dropout,
        };
        let y = norm.forward(&x).unwrap();
        assert_eq!(y.kind(), kind);
        assert_eq!(y.stride(), x.stride(), "the memory format changed");
        let mut inputs = vec![x, weight, bias];
        inputs.extend(shift);
        outputs_and_gradients(y, &self.cotangent.to_kind(kind), &inputs)
    }

    /// The same, written out in libtorch's operations in f64; `mask` stands for the dropout.
    fn expected(&self, mask: Option<&Tensor>) -> Vec<Tensor> {
        let leaf = |t: &Tensor| t.copy().set_requires_grad(true);
        let (x, weight, bias) = (leaf(&self.x), leaf(&self.weight), leaf(&self.bias));
        let shift = self.shift.as_ref().map(leaf);
        let wide = |t: &Tensor| t.reshape([-1, self.x.size()[1], 1, 1]);
        let shifted = match &shift {
            Some(shift) => &x + wide(shift),
            None => x.shallow_clone(),
        };
        let normed = shifted.group_norm(self.groups, None::<&Tensor>, None::<&Tensor>, 1e-6, false);
        let mut y = normed * wide(&weight) + wide(&bias);
        if self.silu {
            y = y.silu();
        }
        if let Some(mask) = mask {
            y = y * mask;
        }
        let mut inputs = vec![x, weight, bias];
        inputs.extend(shift);
        outputs_and_gradients(y, &self.cotangent, &inputs)
    }
}

fn outputs_and_gradients(y: Tensor, cotangent: &Tensor, inputs: &[Tensor]) -> Vec<Tensor> {
    let grads = Tensor::run_backward(&[(&y * cotangent).sum(Kind::Double)], inputs, false, false);
    let mut all = vec![y.detach()];
    all.extend(grads);
    all.iter().map(|t| t.to_kind(Kind::Double)).collect()
}

fn compare(what: &str, found: &[Tensor], expected: &[Tensor], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let names = ["y", "grad x", "grad weight", "grad bias", "grad shift"];
    for ((found, expected), name) in found.iter().zip(expected).zip(names) {
        assert_close(&format!("{what}: {name}"), found, expected, tolerance);
    }
}

/// Sizes and groups: multiples of every vector length and none, one pixel, one sample, one group, several blocks of rows.
const SIZES: [([i64; 4], i64); 7] = [
    ([2, 32, 5, 7], 8),
    ([3, 24, 4, 4], 6),
    ([1, 12, 1, 1], 3),
    ([1, 9, 11, 13], 1),
    ([4, 96, 16, 16], 24),
    ([2, 6, 3, 3], 2),
    ([1, 130, 20, 20], 13),
];

#[test]
fn group_norm_agrees_with_libtorch_in_f32() {
    for (size, groups) in SIZES {
        for silu in [false, true] {
            for (own_weights, own_shift) in [(false, None), (false, Some(true)), (true, Some(false)), (true, None)] {
                let case = Case::new(size, groups, silu, own_weights, own_shift).rounded(Kind::Float);
                let what = format!("{size:?}, {groups} groups, silu {silu}, {own_weights}, {own_shift:?}");
                compare(&what, &case.fused(Kind::Float, None), &case.expected(None), 1e-5);
            }
        }
    }
}

#[test]
fn group_norm_agrees_with_libtorch_in_bf16() {
    for (size, groups) in SIZES {
        let case = Case::new(size, groups, true, false, Some(true)).rounded(Kind::BFloat16);
        let found = case.fused(Kind::BFloat16, None);
        let expected = case.expected(None);
        // Half a unit in the last of 8 bits. The gradient of x is rounded twice, first before the means of its group are taken
        // off, which leaves little of it where a group has few numbers. Sums over pixels are f32.
        let grad_x = if size[2] * size[3] == 1 { 2f64.powi(-5) } else { 2f64.powi(-7) };
        let tolerances = [2f64.powi(-8), grad_x, 1e-4, 1e-4, 1e-4];
        for ((found, expected), tolerance) in found.iter().zip(&expected).zip(tolerances) {
            assert_close(&format!("{size:?}"), found, expected, tolerance);
        }
    }
}

/// Numbers from 0, the same in every run.
struct Lottery(u64);

impl Lottery {
    /// One of `0..count`.
    fn draw(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % count
    }
}

/// `x` in a memory format: channels innermost, pixels innermost, every second pixel of a wider one, or some samples and channels of
/// a larger one.
fn laid_out(x: &Tensor, format: u64) -> Tensor {
    let (n, c, h, w) = x.size4().unwrap();
    match format {
        0 => network_format(x).unwrap(),
        1 => x.contiguous(),
        2 => {
            let wide = Tensor::zeros([n, c, h, 2 * w], (x.kind(), Device::Cpu));
            let view = wide.slice(3, 0, 2 * w, 2);
            view.shallow_clone().copy_(x);
            view
        }
        _ => {
            let large = network_format(&Tensor::zeros([n + 1, c + 3, h, w], (x.kind(), Device::Cpu))).unwrap();
            let view = large.narrow(0, 1, n).narrow(1, 2, c);
            view.shallow_clone().copy_(x);
            view
        }
    }
}

/// Sizes, groups, memory formats and number types at random: outputs and gradients of both operations against libtorch's, in f64.
#[test]
fn group_norm_agrees_with_libtorch_on_random_shapes_formats_and_types() {
    let mut lottery = Lottery(1);
    for round in 0..150 {
        let mut draw = |count: u64| lottery.draw(count) as i64;
        let groups = 1 + draw(9);
        let size = [1 + draw(4), groups * (1 + draw(20)), 1 + draw(12), 1 + draw(12)];
        let (kind, format) = (draw(4) as usize, draw(4) as u64);
        let (silu, own_weights, own_shift) =
            (draw(2) == 0, draw(2) == 0, [None, Some(false), Some(true)][draw(3) as usize]);
        // half precision rounds on the way, and twice where libtorch's operators stand one after another
        let (kind, tolerance) =
            [(Kind::Float, 2e-5), (Kind::Double, 1e-6), (Kind::BFloat16, 0.05), (Kind::Half, 0.02)][kind];
        let what = format!(
            "{round}: {size:?}, {groups} groups, {kind:?}, format {format}, {silu}, {own_weights}, {own_shift:?}"
        );
        let case = Case::new(size, groups, silu, own_weights, own_shift).rounded(kind);
        // the variance of one number is none: what is left there is rounding alone
        if size[1] / groups * size[2] * size[3] < 4 {
            continue;
        }
        let leaf = |t: &Tensor| t.to_kind(Kind::Float).set_requires_grad(true);
        let x = laid_out(&case.x.to_kind(kind), format).detach().set_requires_grad(true);
        let (weight, bias, shift) = (leaf(&case.weight), leaf(&case.bias), case.shift.as_ref().map(leaf));
        let norm =
            NormAct { groups, eps: 1e-6, weight: &weight, bias: &bias, shift: shift.as_ref(), silu, dropout: None };
        let mut inputs = vec![x.shallow_clone(), weight.shallow_clone(), bias.shallow_clone()];
        inputs.extend(shift.as_ref().map(Tensor::shallow_clone));
        let y = norm.forward(&x).unwrap();
        assert_eq!((y.kind(), y.size()), (kind, x.size()), "{what}");
        let found = outputs_and_gradients(y, &laid_out(&case.cotangent.to_kind(kind), format), &inputs);
        for (found, expected) in found.iter().zip(case.expected(None)) {
            // a shift of a whole group changes nothing: its gradient is what rounding leaves of numbers near 1
            let scale = expected.abs().max().double_value(&[]).max(1.0);
            let error = (found - &expected).abs().max().double_value(&[]) / scale;
            assert!(error <= tolerance, "{what}: {error:.2e} of {scale:.4}");
        }

        let b = laid_out(&drawn(9, &size).to_kind(kind), draw(4) as u64).detach().set_requires_grad(true);
        let found = outputs_and_gradients(
            scaled_sum(&x, &b, 0.7).unwrap(),
            &case.cotangent.to_kind(kind),
            &[x, b.shallow_clone()],
        );
        let of_sum = &case.cotangent * 0.7;
        let sum = (&case.x + b.detach().to_kind(Kind::Double)) * 0.7;
        for (found, expected) in found.iter().zip([&sum, &of_sum, &of_sum]) {
            assert_close(&what, found, expected, tolerance);
        }
    }
}

#[test]
fn a_mean_much_larger_than_the_deviation_costs_no_accuracy() {
    let mut case = Case::new([2, 32, 16, 16], 8, true, false, None);
    case.x = &case.x + 1000.0;
    let case = case.rounded(Kind::Float);
    // f32 itself resolves 1000 to 6e-5; a sum of squares in f32 would be off by a few per cent.
    compare("mean 1000", &case.fused(Kind::Float, None), &case.expected(None), 3e-4);
}

#[test]
fn other_kinds_and_formats_take_the_composed_path() {
    let case = Case::new([2, 12, 5, 3], 3, true, true, Some(true));
    compare("f64", &case.fused(Kind::Double, None), &case.expected(None), 1e-6);
    let case = case.rounded(Kind::Float);
    let norm = NormAct {
        groups: 3,
        eps: 1e-6,
        weight: &case.weight,
        bias: &case.bias,
        shift: case.shift.as_ref(),
        silu: true,
        dropout: None,
    };
    let y = norm.forward(&case.x.to_kind(Kind::Float)).unwrap();
    assert_close("NCHW", &y.to_kind(Kind::Double), &case.expected(None)[0], 1e-5);
}

#[test]
fn dropout_drops_its_share_and_the_gradient_knows_which() {
    // f64 is not for the fused kernels
    for kind in [Kind::Float, Kind::Double] {
        dropout_of(kind);
    }
}

fn dropout_of(kind: Kind) {
    let p = 0.3;
    let dropout = |seed: u64| Some(Dropout { probability: p, seed: seed.into() });
    let case = Case::new([8, 32, 16, 16], 8, true, false, Some(true)).rounded(Kind::Float);
    let found = case.fused(kind, dropout(1));
    let kept = found[0].not_equal(0.0).to_kind(Kind::Double);
    let share = kept.mean(Kind::Double).double_value(&[]);
    let deviation = (p * (1.0 - p) / kept.numel() as f64).sqrt();
    assert!((share - (1.0 - p)).abs() < 5.0 * deviation, "kept {share}");
    compare("dropout", &found, &case.expected(Some(&(&kept / (1.0 - p)))), 1e-5);
    // The same seed drops the same; samples, neighbours and seeds are independent: two masks agree with probability
    // p^2 + (1 - p)^2.
    assert!(case.fused(kind, dropout(1))[0].equal(&found[0]));
    let again = case.fused(kind, dropout(2))[0].not_equal(0.0).to_kind(Kind::Double);
    for (what, other) in [("seed", again), ("sample", kept.roll([1], [0])), ("pixel", kept.roll([1], [3]))] {
        let agree = 1.0 - (&kept - other).abs().mean(Kind::Double).double_value(&[]);
        assert!((agree - (p * p + (1.0 - p) * (1.0 - p))).abs() < 0.01, "another {what} agrees in {agree}");
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for size in [[1, 48, 40, 40], [5, 32, 32, 32]] {
        let case = Case::new(size, 8, true, false, Some(true));
        for kind in [Kind::Float, Kind::BFloat16] {
            let mut results = (1..=8).map(|threads| {
                tch::set_num_threads(threads);
                case.fused(kind, Some(Dropout { probability: 0.1, seed: 1.into() }))
            });
            let alone = results.next().unwrap();
            for (result, threads) in results.zip(2..) {
                for (one, several) in alone.iter().zip(&result) {
                    assert!(one.equal(several), "{size:?} {kind:?} {threads} threads");
                }
            }
        }
    }
}

/// Runs this file's comparisons with a set, in a process of its own: the set is chosen once a process.
fn agrees_with_libtorch(set: &str) {
    assert!(instruction_sets().contains(&set), "this processor lacks {set}");
    let mut tests = Command::new(std::env::current_exe().unwrap());
    tests.args(["kernels::group_norm", "kernels::scaled_sums", "kernels::dropout", "kernels::a_mean"]);
    tests.args(["kernels::the_set_in_use"]).env(ASKED_FOR, set);
    let output = tests.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("7 passed"), "{set}: {text}");
}

#[test]
fn the_baseline_agrees_with_libtorch() {
    agrees_with_libtorch("baseline");
}

#[test]
#[cfg_attr(not(has_avx2), ignore = "this processor lacks AVX2")]
fn avx2_agrees_with_libtorch() {
    agrees_with_libtorch("avx2");
}

#[test]
#[cfg_attr(not(has_avx512), ignore = "this processor lacks AVX-512")]
fn avx512_agrees_with_libtorch() {
    agrees_with_libtorch("avx512");
}

#[test]
#[cfg_attr(not(has_avx512bf16), ignore = "this processor lacks AVX-512 BF16")]
fn avx512bf16_agrees_with_libtorch() {
    agrees_with_libtorch("avx512bf16");
}

/// The variable by which a set is chosen.
const ASKED_FOR: &str = "FEWSTEP_CPU_KERNELS";

/// What is compared above is all that this processor has, as its operating system lists it: neither the kernels' own detection nor a
/// build on another processor hides a set.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn every_set_of_this_processor_is_compared() {
    let listed = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let flags: Vec<&str> = listed.lines().find(|line| line.starts_with("flags")).unwrap().split_whitespace().collect();
    let has = |needed: &[&str]| needed.iter().all(|flag| flags.contains(flag));
    let avx2 = has(&["avx2", "fma"]);
    let avx512 = avx2 && has(&["avx512f", "avx512bw", "avx512dq", "avx512vl"]);
    let bf16 = avx512 && has(&["avx512_bf16"]);
    let ignored = "built on another processor: touch crates/fewstep-nn/build.rs";
    assert_eq!([avx2, avx512, bf16], [cfg!(has_avx2), cfg!(has_avx512), cfg!(has_avx512bf16)], "{ignored}");
    let sets = [(bf16, "avx512bf16"), (avx512, "avx512"), (avx2, "avx2"), (true, "baseline")];
    let expected: Vec<&str> = sets.into_iter().filter(|(has, _)| *has).map(|(_, set)| set).collect();
    assert_eq!(instruction_sets(), expected);
}

/// What the comparisons above rest on: a set that was asked for is the one that runs.
#[test]
fn the_set_in_use_is_the_one_that_was_asked_for() {
    let expected = std::env::var(ASKED_FOR).unwrap_or_else(|_| instruction_sets()[0].to_owned());
    assert_eq!(instruction_set(), expected);
}

#[test]
fn scaled_sums_agree_with_libtorch() {
    for size in [[2, 32, 8, 8], [3, 7, 5, 1], [1, 20, 1, 1], [2, 1, 4, 4]] {
        let leaves = [5, 6].map(|stream| {
            network_format(&drawn(stream, &size).to_kind(Kind::Float)).unwrap().detach().set_requires_grad(true)
        });
        let [a, b] = &leaves;
        let y = scaled_sum(a, b, 0.7).unwrap();
        assert!(y.equal(&((a + b) * 0.7f32 as f64)), "{size:?}");
        // The gradient comes through a concatenation: a slice whose rows are not adjacent.
        let wide = Tensor::cat(&[&y, a], 1);
        let cotangent = drawn(7, &wide.size()).to_kind(Kind::Float);
        let found = Tensor::run_backward(&[(&wide * &cotangent).sum(Kind::Float)], &leaves, false, false);
        let of_sum = cotangent.narrow(1, 0, size[1]) * 0.7;
        assert_close("grad a", &found[0], &(&of_sum + cotangent.narrow(1, size[1], size[1])), 1e-6);
        assert_close("grad b", &found[1], &of_sum, 1e-6);
    }
}

#[test]
fn the_network_format_is_channels_last_also_for_one_channel() {
    for size in [[2, 3, 4, 5], [2, 1, 4, 5], [1, 4, 1, 1]] {
        let x = drawn(5, &size).to_kind(Kind::Float);
        let y = network_format(&x).unwrap();
        let [_, c, h, w] = size;
        // Strides of dimensions of size 1 matter to libtorch's choice where there are pixels to walk over.
        assert!(h * w == 1 || y.stride() == [h * w * c, 1, w * c, c], "{:?}", y.stride());
        assert!(x.equal(&y));
        assert_eq!(network_format(&y).unwrap().data_ptr(), y.data_ptr(), "converted twice");
        let (leaf, cotangent) = (x.set_requires_grad(true), drawn(6, &y.size()).to_kind(Kind::Float));
        let product = (network_format(&leaf).unwrap() * &cotangent).sum(Kind::Float);
        assert!(Tensor::run_backward(&[product], &[leaf], false, false)[0].equal(&cotangent));
    }
}

#[test]
fn a_second_derivative_is_refused() {
    let case = Case::new([2, 8, 3, 3], 2, true, false, None);
    let x = network_format(&case.x.to_kind(Kind::Float)).unwrap().detach().set_requires_grad(true);
    let (weight, bias) = (case.weight.to_kind(Kind::Float), case.bias.to_kind(Kind::Float));
    let norm = NormAct { groups: 2, eps: 1e-6, weight: &weight, bias: &bias, shift: None, silu: true, dropout: None };
    let y = norm.forward(&x).unwrap().sum(Kind::Float);
    let error = Tensor::f_run_backward(&[y], &[x], true, true).unwrap_err().to_string();
    assert!(error.contains("differentiated twice"), "{error}");
}

#[test]
fn shapes_that_do_not_fit_are_an_error_with_a_reason() {
    let (x, ones) =
        (Tensor::ones([2, 8, 3, 3], (Kind::Float, Device::Cpu)), Tensor::ones([8], (Kind::Double, Device::Cpu)));
    let norm = NormAct { groups: 3, eps: 1e-6, weight: &ones, bias: &ones, shift: None, silu: true, dropout: None };
    let error = norm.forward(&network_format(&x).unwrap()).unwrap_err().to_string();
    assert!(error.contains("8 channels cannot be split into 3 groups"), "{error}");
}
