"""The operations of searches and samplers on arrays of one library: torch or NumPy.

Arrays stay where they are. Sums and inner products run in the library; scalars come back, small rows of features, one sample's worth of a
mean, and values near the ends of the range of images. States have at least single precision, whatever the network computes in.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any

# (channels after it, groups, side of its filters), weights and biases of every convolution of the random features
Filters = list[tuple[tuple[int, int, int], bytes, bytes]]


def is_torch(array: Any) -> bool:
    """Whether `array` is a torch tensor, found out without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def kind_problem(d: Any, x: Any) -> str | None:
    """What is wrong with the kind, shape or device of an answer `d` to `x`, in words."""
    wanted = "a torch tensor" if is_torch(x) else "a NumPy array"
    if is_torch(d) != is_torch(x) or not (is_torch(d) or isinstance(d, np.ndarray)):
        advice = ": take its .sample" if hasattr(d, "sample") else ": take its first" if isinstance(d, (tuple, list)) and d else ""
        return f"returned {_kind(d)}, where {wanted} was expected{advice}"
    if d.shape != x.shape:
        return f"returned shape {list(d.shape)} for an input of shape {list(x.shape)}"
    if is_torch(x) and d.device != x.device:
        return f"moved the answer to {d.device} from {x.device}"
    return None


def problem_of(d: Any, x: Any) -> str | None:
    """The same, and of its type."""
    problem = kind_problem(d, x)
    if problem is None and d.dtype != x.dtype:
        return f"returned {d.dtype} for an input of {x.dtype}: cast the answer, or pass dtype="
    return problem


class NumpyArrays:
    """NumPy arrays `[N, ...]`."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = tuple(shape)
        try:
            self.dtype = np.dtype(dtype)
        except TypeError:
            raise TypeError(f"dtype must be a floating-point type, and is {dtype!r}") from None
        if self.dtype.kind != "f" or self.dtype.itemsize not in self.rounding_of:
            raise TypeError(f"dtype must be float16, float32 or float64, and is {self.dtype}")
        self.state_dtype = np.promote_types(self.dtype, np.float32)
        self._filters: list[tuple[np.ndarray, np.ndarray, int]] = []

    rounding_of = {2: 5e-4, 4: 6e-8, 8: 1.1e-16}

    @property
    def rounding(self) -> float:
        return self.rounding_of[self.dtype.itemsize]

    def samples(self, values: bytes, count: int) -> np.ndarray:
        return np.frombuffer(values, np.float32).reshape(count, *self.shape).astype(self.state_dtype)

    def combine(self, coefficients: list[float], arrays: list[np.ndarray]) -> np.ndarray:
        total = arrays[0] * coefficients[0]
        for coefficient, array in zip(coefficients[1:], arrays[1:]):
            total += array * coefficient
        return total

    def dot(self, a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sum(a * b, dtype=np.float64))

    def sample_dots(self, a: np.ndarray, b: np.ndarray) -> list[float]:
        return list(np.sum((a * b).reshape(len(a), -1), axis=1, dtype=np.float64))

    def sample_l1(self, a: np.ndarray) -> list[float]:
        return list(np.sum(np.abs(a).reshape(len(a), -1), axis=1, dtype=np.float64))

    def scale_samples(self, a: np.ndarray, factors: list[float]) -> np.ndarray:
        return a * np.asarray(factors, a.dtype).reshape(-1, *[1] * (a.ndim - 1))

    def part(self, a: np.ndarray, start: int, count: int) -> np.ndarray:
        return a[start : start + count]

    def sum_of_samples(self, a: np.ndarray) -> bytes:
        return np.sum(a, axis=0, dtype=np.float64).tobytes()

    def with_gradients(self, a: np.ndarray, weight: float) -> np.ndarray | None:
        if a.ndim != 4:
            return None
        across, down = np.zeros_like(a), np.zeros_like(a)
        across[..., :-1] = a[..., 1:] - a[..., :-1]
        down[..., :-1, :] = a[..., 1:, :] - a[..., :-1, :]
        return np.concatenate([a * a.dtype.type(weight), across, down], axis=1)

    def set_filters(self, layers: Filters) -> None:
        def read(shape: tuple[int, int, int], weight: bytes, bias: bytes) -> tuple[np.ndarray, np.ndarray, int]:
            c_out, groups, side = shape
            filters = np.frombuffer(weight, np.float32).reshape(groups, c_out // groups, -1)
            return filters, np.frombuffer(bias, np.float32).reshape(groups, 1, -1), side

        self._filters = [read(*layer) for layer in layers]

    def features(self, a: np.ndarray, clip: bool) -> tuple[bytes, int]:
        x = a.astype(np.float32)
        if clip:
            x = np.clip(x, -1, 1)
        means = []
        for index, (weight, bias, side) in enumerate(self._filters):
            if index > 0:
                height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
                x = x[:, :, :height, :width]
                x = x.reshape(*x.shape[:2], height // 2, 2, width // 2, 2).mean(axis=(3, 5))
            half = side // 2
            padded = np.pad(x, ((0, 0), (0, 0), (half, half), (half, half)), "edge" if index == 0 else "constant")
            patches = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(2, 3))  # N C H W side side
            patches = patches.reshape(len(x), len(weight), -1, *x.shape[2:], side * side)  # by groups
            rows = patches.transpose(0, 1, 3, 4, 2, 5).reshape(len(x), len(weight), x.shape[2] * x.shape[3], -1)
            answers = np.maximum(rows @ weight.transpose(0, 2, 1) + bias, 0)  # N groups HW C
            x = answers.transpose(0, 1, 3, 2).reshape(len(x), -1, *x.shape[2:])
            means.append(x.mean(axis=(2, 3)))
        rows = np.concatenate(means, axis=1).astype(np.float64)
        return rows.tobytes(), rows.shape[1]

    def clipping(self, a: np.ndarray, low: float, high: float) -> tuple[int, int, bytes]:
        size = np.abs(a).astype(np.float32).ravel()
        return size.size, int(np.sum(size >= high)), size[(size >= low) & (size < high)].tobytes()

    def given(self, values: Any) -> np.ndarray:
        """The caller's own samples as states."""
        return np.asarray(values).astype(self.state_dtype, copy=False)

    # what the callback needs

    def to_network(self, x: np.ndarray, dtype: Any) -> np.ndarray:
        return x.astype(dtype)  # a copy, which the callback may change in place

    def to_state(self, d: np.ndarray) -> np.ndarray:
        return d.astype(self.state_dtype)  # a copy, as the callback may answer in one buffer every time

    def is_finite(self, d: np.ndarray) -> bool:
        return bool(np.isfinite(d).all())

    def cat(self, arrays: list[np.ndarray]) -> np.ndarray:
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def levels(self, sigmas: list[float], counts: list[int]) -> np.ndarray:
        return np.repeat(np.asarray(sigmas, self.state_dtype), counts)

    def labels(self, classes: list[int]) -> np.ndarray:
        return np.asarray(classes, np.int64)

    def problem(self, d: Any, x: np.ndarray) -> str | None:
        """What is wrong with an answer `d` to `x`, in words."""
        return problem_of(d, x)


class TorchArrays:
    """torch tensors `[N, ...]` on one device."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, device: Any, offload: Any = None) -> None:
        import torch

        self.torch = torch
        self.shape = tuple(shape)
        if not isinstance(dtype, torch.dtype):
            raise TypeError(f"dtype must be one of torch's, such as torch.float32, and is {dtype!r}")
        if not dtype.is_floating_point or torch.finfo(dtype).bits < 16:
            raise TypeError(f"dtype must be a floating-point type of 16 bits or more, and is {dtype}")
        self.dtype = dtype
        self.state_dtype = torch.promote_types(dtype, torch.float32)
        self.device = self._device("device", device)
        self.home = self.device if offload is None else self._device("offload", offload)
        self._filters: list[tuple[Any, Any, int]] = []

    def _device(self, name: str, given: Any) -> Any:
        try:
            device = None if isinstance(given, bool) else self.torch.device(given)
        except (RuntimeError, TypeError):
            device = None
        if device is None:
            raise ValueError(f"{name} must be a torch device such as 'cpu' or 'cuda', and is {given!r}")
        if device.type == "meta":
            raise ValueError(f"{name} is 'meta', where tensors hold no numbers")
        if device.type != "cpu":
            try:
                self.torch.zeros(1, device=device)
            except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
                why = str(error).split("\n")[0].rstrip(".")
                raise ValueError(f"{name} is {given!r}, which cannot be used here: {why}") from error
        return device

    @property
    def rounding(self) -> float:
        return self.torch.finfo(self.dtype).eps / 2

    def samples(self, values: bytes, count: int) -> Any:
        array = self.torch.frombuffer(bytearray(values), dtype=self.torch.float32).reshape(count, *self.shape)
        return array.to(self.home, self.state_dtype)

    def combine(self, coefficients: list[float], arrays: list[Any]) -> Any:
        total = arrays[0] * coefficients[0]
        for coefficient, array in zip(coefficients[1:], arrays[1:]):
            total.add_(array * coefficient)  # rounded once a term, as on the command line
        return total

    def dot(self, a: Any, b: Any) -> float:
        return (a * b).sum(dtype=self._wide(a)).item()

    def _wide(self, a: Any) -> Any:
        # some devices have no double precision
        return self.torch.float32 if a.device.type == "mps" else self.torch.float64

    def _per_sample(self, values: Any) -> list[float]:
        return values.flatten(1).sum(1, dtype=self._wide(values)).tolist()

    def sample_dots(self, a: Any, b: Any) -> list[float]:
        return self._per_sample(a * b)

    def sample_l1(self, a: Any) -> list[float]:
        return self._per_sample(a.abs())

    def scale_samples(self, a: Any, factors: list[float]) -> Any:
        return a * self.torch.tensor(factors, dtype=a.dtype, device=a.device).reshape(-1, *[1] * (a.dim() - 1))

    def part(self, a: Any, start: int, count: int) -> Any:
        return a[start : start + count]

    def sum_of_samples(self, a: Any) -> bytes:
        total = a.sum(0, dtype=self._wide(a)).to("cpu").to(self.torch.float64).contiguous()
        return total.numpy().tobytes()

    def with_gradients(self, a: Any, weight: float) -> Any | None:
        if a.dim() != 4:
            return None
        across, down = self.torch.zeros_like(a), self.torch.zeros_like(a)
        across[..., :-1] = a[..., 1:] - a[..., :-1]
        down[..., :-1, :] = a[..., 1:, :] - a[..., :-1, :]
        return self.torch.cat([a * weight, across, down], 1)

    def set_filters(self, layers: Filters) -> None:
        def read(shape: tuple[int, int, int], weight: bytes, bias: bytes) -> tuple[Any, Any, int]:
            c_out, groups, side = shape

            def array(values: bytes, shape: tuple[int, ...]) -> Any:
                return self.torch.frombuffer(bytearray(values), dtype=self.torch.float32).reshape(shape).to(self.home)

            return array(weight, (c_out, -1, side, side)), array(bias, (c_out,)), groups

        self._filters = [read(*layer) for layer in layers]

    def features(self, a: Any, clip: bool) -> tuple[bytes, int]:
        functional = self.torch.nn.functional
        rows = []
        for x in a.to(self.torch.float32).split(64):
            if clip:
                x = x.clamp(-1, 1)
            means = []
            for index, (weight, bias, groups) in enumerate(self._filters):
                half = weight.shape[3] // 2
                if index == 0:
                    x = functional.pad(x, (half,) * 4, "replicate")
                else:
                    x = functional.pad(functional.avg_pool2d(x, 2), (half,) * 4)
                x = functional.conv2d(x, weight, bias, groups=groups).relu_()
                means.append(x.mean((2, 3)))
            rows.append(self.torch.cat(means, 1))
        table = self.torch.cat(rows).to("cpu", self.torch.float64)
        return table.contiguous().numpy().tobytes(), table.shape[1]

    def clipping(self, a: Any, low: float, high: float) -> tuple[int, int, bytes]:
        size = a.abs().to(self.torch.float32).flatten()
        near = size[(size >= low) & (size < high)].cpu()
        return size.numel(), int((size >= high).sum()), near.numpy().tobytes()

    def given(self, values: Any) -> Any:
        return self.torch.as_tensor(values).detach().to(self.home, self.state_dtype)

    # what the callback needs

    def to_network(self, x: Any, dtype: Any) -> Any:
        return x.to(self.device, dtype, copy=True)  # which the callback may change in place

    def to_state(self, d: Any) -> Any:
        return d.detach().to(self.home, self.state_dtype, copy=True)  # the callback may answer in one buffer every time

    def is_finite(self, d: Any) -> bool:
        return bool(self.torch.isfinite(d).all())

    def cat(self, arrays: list[Any]) -> Any:
        return arrays[0] if len(arrays) == 1 else self.torch.cat(arrays)

    def levels(self, sigmas: list[float], counts: list[int]) -> Any:
        values = self.torch.tensor(sigmas, dtype=self.state_dtype)
        return values.repeat_interleave(self.torch.tensor(counts)).to(self.device)

    def labels(self, classes: list[int]) -> Any:
        return self.torch.tensor(classes, dtype=self.torch.int64, device=self.device)

    def problem(self, d: Any, x: Any) -> str | None:
        """What is wrong with an answer `d` to `x`, in words."""
        return problem_of(d, x)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def without_gradients(arrays: Any, run: Callable[[], Any]) -> Any:
    """What `run` returns, with torch recording no gradients where arrays are its own."""
    if isinstance(arrays, TorchArrays):
        with arrays.torch.no_grad():
            return run()
    return run()
