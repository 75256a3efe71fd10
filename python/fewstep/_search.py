"""Searches on the caller's own denoiser."""

from __future__ import annotations

import json
import operator
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from . import _fewstep
from ._arrays import NumpyArrays, TorchArrays, is_torch, without_gradients
from ._callback import Callback, Rows, hint_of, rounding_of
from ._checks import MOST, drops_out, finite, is_callable, like_default, sigma_range as checked_range, whole
from ._scorer import Scorer
from ._parameterisation import Denoiser, Parameterisation
from ._plan import Plan, Plans
from ._progress import bars

#: The default method.
METHOD = "least-squares+gauss-newton+moments"
DATA_METHOD = "least-squares+gauss-newton+data-moments"  # where there are training samples

#: Latents that rollout errors are measured on, by effort.
HELD_OUT = {"low": 6, "normal": 64, "high": 128}

#: Settings of each effort beside the defaults.
EFFORTS: dict[str, dict[str, dict[str, Any]]] = {
    "low": {
        "teacher": {"samples": 8, "grid": 13},
        "least_squares": {"samples": 8, "beam": 1},
        "sweep": {"sweeps": 0},
        "gauss_newton": {"samples": 4},
        "gits": {"samples": 12},
    },
    "normal": {},
    "high": {
        "teacher": {"samples": 128, "grid": 33},
        "least_squares": {"samples": 128, "beam": 3},
        "sweep": {"sweeps": 2, "samples": 32},
        "gauss_newton": {"samples": 64, "rounds": 2},
    },
}


def find_plans(
    denoise: Callable[..., Any],
    *,
    shape: Sequence[int],
    steps: int | Sequence[int] = (4, 6, 8),
    sigma_range: tuple[float, float] | None = None,
    parameterisation: Parameterisation | None = None,
    method: str | None = None,
    effort: str = "normal",
    conditions: Any = None,
    classes: int = 0,
    guidance: float | None = None,
    calls: int = 1,
    like: Any = None,
    device: Any = None,
    dtype: Any = None,
    batch_size: int = 64,
    sigma_per_sample: bool = False,
    images: bool | None = None,
    offload: Any = None,
    held_out: int | None = None,
    data: Any = None,
    features: Callable[[Any], Any] | None = None,
    progress: Any = True,
    **settings: Mapping[str, Any],
) -> Plans:
    """Finds a plan for every number of network evaluations, all from one teacher.

    Parameters
    ----------
    denoise
        `denoise(x, sigma)`, the expected clean sample given `x = y + sigma n` `[N, *shape]`; `denoise(x, sigma, condition)` with
        `conditions` or `classes`. Sigma is a Python float, but for `sigma_per_sample`. `Parameterisation` makes one of a network that
        predicts eps, v, x0 or a velocity.
    shape
        Shape of one sample, of any rank.
    steps
        Numbers of network evaluations; at most the noise levels that plans choose from, `teacher={"grid": ...}`: 13, 21 or 33 by effort
        (of GITS 61, `gits={"grid": ...}`).
    sigma_range
        Least and greatest noise level of the samplers, as standard deviations of the noise in the unit of the samples' values; those
        of the parameterisation unless given.
    parameterisation
        What levels the network knows; a `Denoiser` brings its own.
    method
        A method by name, such as `least-squares+gauss-newton+moments` (the default; `+data-moments` with `data`), `gits@1.15/ipndm4`,
        `oss/euler`, `karras/dpmpp3m`.
    effort
        `low`, `normal` or `high`: how many evaluations the search may take (`search_cost` says how many at most).
    conditions
        What samples are denoised under: rows (an array, a list, or a mapping of them; sample `s` has row `s mod N`), or a function of
        a list of whole numbers, one a sample.
    classes
        Number of classes of a class-conditional network, which is then given labels `[N]`, drawn evenly.
    guidance, calls
        Guidance weight within `denoise`, kept in the plan, and network calls that one evaluation takes.
    like, device, dtype
        What the network takes: an array to go by, or device and dtype. Otherwise those of a torch module's weights; torch on the CPU
        where torch is imported; NumPy where it is not.
    batch_size
        Samples in one call at most.
    sigma_per_sample
        Whether sigma may be a vector `[N]`: several noise levels are then evaluated in one call.
    images
        Whether samples are images with values in [-1, 1]; those of 1 or 3 channels unless said.
    offload
        A device, such as `"cpu"`, that keeps all states while the network is on another.
    held_out
        Latents that rollout errors are measured on, apart from the search's (6, 64 or 128 by effort); 0 for none.
    data
        Training samples `[N, *shape]` as the network denoises them, for a method with `+data-moments`: an array of either
        library, images in [-1, 1]. Of more than 10,000, that many are drawn. `+data-moments+nearest` takes a solver's plan where its
        samples are nearer to them, however far from the network's own.
    features
        What `+nearest` compares: a function of samples `[N, *shape]`, arrays as states are, to features `[N, d]` of a network that you
        trust. Without it, features of a network that nobody trained, which see less.
    progress
        True for bars of tqdm on stderr where it is installed; False for none; or an object that is told instead, with the methods
        `began(task, unit, total, done)`, `progressed(done)`, `ended()` and `note(text)`: `task`, `unit` and `text` are strings, `total`
        and `done` numbers of units. An exception that one of them raises ends the search.
    **settings
        Settings of the search's stages, such as `teacher={"grid": 33}` (`default_settings()` shows all).

    Raises
    ------
    ValueError, TypeError
        If an argument, or the denoiser's answer, is not what it must be, or a number of steps cannot be served.
    FloatingPointError
        If an answer, or what the search makes of it, is not finite.

    Exceptions of the denoiser come out as they went in; Ctrl-C ends the search.
    """
    is_callable("denoise(x, sigma)", denoise)
    if drops_out(denoise.network if isinstance(denoise, Denoiser) else denoise):
        raise ValueError("the network is in training mode, with dropout, and would give two answers to one question: call its eval() first")
    method = _method(method, METHOD if data is None else DATA_METHOD)
    wanted, shape = _steps(steps), _shape(shape)
    classes, calls, batch_size = whole("classes", classes, 0), whole("calls", calls, 1), whole("batch_size", batch_size, 1)
    guidance = None if guidance is None else finite("guidance", guidance)
    if features is not None:
        is_callable("features(x)", features)
    parameterisation = _parameterisation(denoise, parameterisation)
    arrays = _arrays(denoise, shape, like, device, dtype, offload)
    text, held_out = _settings("find_plans", effort, settings), _held_out(effort, held_out)
    are_images = (len(shape) == 3 and shape[0] in (1, 3)) if images is None else bool(images)
    of_data, nearest = _fewstep.takes(method)
    batches = _batches(arrays, shape, data, method, of_data, are_images)
    if features is not None and not nearest:
        raise ValueError(f"features= is for methods that end in +data-moments+nearest, and {method} does without")
    if conditions is not None and classes:
        raise ValueError("conditions and classes exclude each other: labels are the condition of a network with classes")
    by_seed = conditions if conditions is None or callable(conditions) else Rows(conditions)
    started = time.perf_counter()
    callback = Callback(
        denoise,
        arrays,
        conditions=by_seed,
        classes=classes,
        batch_size=batch_size,
        sigma_per_sample=sigma_per_sample,
    )
    rounding = max(arrays.rounding, rounding_of(denoise))
    described = _described(shape, sigma_range, classes, guidance, calls, rounding, are_images, hint_of(denoise))
    inner = None if parameterisation is None else parameterisation._inner
    scorer = None
    if features is not None:
        scorer = without_gradients(arrays, lambda: Scorer(features, _batches(arrays, shape, data, method, of_data, are_images) or ()))
    found = without_gradients(
        arrays,
        lambda: _fewstep.find_plans(
            callback, arrays, described, inner, wanted, method, text, held_out, batches, scorer, bars(progress)
        ),
    )
    return Plans(
        [Plan(plan) for plan in found["plans"]],
        evaluations=found["evaluations"] + found["teacher_evaluations"],
        calls=callback.evaluations * calls,
        seconds=time.perf_counter() - started,
    )


def search_cost(
    *,
    shape: Sequence[int],
    steps: int | Sequence[int] = (4, 6, 8),
    sigma_range: tuple[float, float] | None = None,
    method: str | None = None,
    effort: str = "normal",
    classes: int = 0,
    calls: int = 1,
    held_out: int | None = None,
    parameterisation: Parameterisation | None = None,
    data: Any = None,
    **others: Any,
) -> int:
    """The number of network calls on single samples that `find_plans` takes at most.

    Searches take fewer, as they drop what gains little. For the time, multiply by the seconds of one sample in a batch. The arguments
    are those of `find_plans` but for `denoise`, and the search's settings. `data` brings another method; only `+nearest` takes more on a
    flow, whose `parameterisation` it then needs. What changes no cost (`conditions`, `guidance`, `device` and the like) is ignored: under
    guidance pass `calls=2`. Raises ValueError for a method or a number of steps that there is none of, TypeError for an unknown setting.
    """
    wanted = _steps(steps)
    classes, calls = whole("classes", classes, 0), whole("calls", calls, 1)
    method = _method(method, METHOD if data is None else DATA_METHOD)
    known = _parameterisation(None, parameterisation)
    levels = (0.002, 80.0) if sigma_range is None and known is None else sigma_range
    described = _described(_shape(shape), levels, classes, None, calls, 6e-8, False, "")
    text = _settings("search_cost", effort, {name: value for name, value in others.items() if name not in _WITHOUT_COST})
    return calls * _fewstep.cost(described, known and known._inner, wanted, method, text, _held_out(effort, held_out))


#: Arguments of `find_plans` that change no cost.
_WITHOUT_COST = (
    "conditions", "guidance", "like", "device", "dtype", "batch_size", "sigma_per_sample", "images", "offload", "features", "progress",
)  # fmt: skip


def default_settings() -> dict[str, dict[str, Any]]:
    """All settings of the search's stages with their defaults, a dict of settings for each stage."""
    return json.loads(_fewstep.default_settings())


def latents(seeds: Sequence[int], shape: Sequence[int], like: Any = None) -> Any:
    """Unit normal noise `[N, *shape]` of N seeds, the same as the command line's: a NumPy array of float32, or a tensor like `like`.

    `seeds`: whole numbers from 0 to 2^64 - 1; those from `HELD_OUT_SEEDS` on are the held-out latents. Raises TypeError or ValueError for
    other seeds, ValueError for a shape that is none.
    """
    shape = _shape(shape)
    values = _fewstep.noise([whole("a seed", seed, 0, 2**64 - 1) for seed in seeds], list(shape))
    if is_torch(like):
        return TorchArrays(shape, like.dtype, like.device).samples(values, len(seeds)).to(like.dtype)
    return np.frombuffer(values, np.float32).reshape(len(seeds), *shape).copy()


def _method(given: Any, default: str) -> str:
    if given is not None and not isinstance(given, str):
        raise TypeError(f"method must be the name of one, such as {default!r}, and is {given!r}")
    return given or default


def _steps(given: Any) -> list[int]:
    """Numbers of evaluations, one of each."""
    try:
        wanted = sorted({operator.index(number) for number in (given if isinstance(given, Iterable) else [given])})
    except TypeError:
        wanted = []
    if not wanted or wanted[0] < 1 or wanted[-1] > MOST or isinstance(given, (str, bytes)):
        raise ValueError(f"steps must be numbers of evaluations of at least 1, such as [4, 6, 8], and are {given!r}")
    return wanted


def _shape(given: Any) -> tuple[int, ...]:
    try:
        shape = tuple(operator.index(size) for size in given)
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1 or max(shape) > 2**63 - 1:
        raise ValueError(f"shape must be that of one sample, such as (3, 32, 32), and is {given!r}")
    return shape


def _parameterisation(denoise: Any, given: Parameterisation | None) -> Parameterisation | None:
    if given is None and isinstance(denoise, Denoiser):
        return denoise.parameterisation
    if given is not None and not isinstance(given, Parameterisation):
        raise TypeError(f"parameterisation must be a fewstep.Parameterisation, not a {type(given).__name__}")
    return given


def _arrays(denoise: Any, shape: tuple[int, ...], like: Any, device: Any, dtype: Any, offload: Any) -> Any:
    if is_torch(like):
        return TorchArrays(shape, _or(dtype, like.dtype), _or(device, like.device), offload)
    torch = sys.modules.get("torch")
    if like is not None or torch is None or (dtype is not None and not isinstance(dtype, torch.dtype)):
        if like is not None and not isinstance(like, (np.ndarray, np.generic)):
            raise TypeError(f"like must be an array of torch or NumPy, and is a {type(like).__name__}")
        if device is not None or offload is not None:
            why = "which is not imported" if torch is None else "and the arrays are NumPy's"
            raise ValueError(f"device= and offload= are for torch, {why}")
        return NumpyArrays(shape, _or(dtype, np.float32 if like is None else like.dtype))
    module = denoise.network if isinstance(denoise, Denoiser) else denoise
    if isinstance(module, torch.nn.Module):
        weight = next(module.parameters(), None)
        if weight is not None:
            device, dtype = _or(device, weight.device), _or(dtype, weight.dtype)
    return TorchArrays(shape, _or(dtype, torch.float32), _or(device, "cpu"), offload)


def _or(given: Any, default: Any) -> Any:
    """What was given, which may be false, such as device 0, or the default."""
    return default if given is None else given


def _described(
    shape: tuple[int, ...], sigma_range: Any, classes: int, guidance: Any, calls: int, rounding: float, images: bool, hint: str
) -> dict[str, Any]:
    return {
        "shape": list(shape),
        "sigma_range": None if sigma_range is None else checked_range(sigma_range),
        "classes": classes,
        "calls": calls,
        "guidance": guidance,
        "rounding": float(rounding),
        "images": images,
        "hint": hint,
    }


def _held_out(effort: str, given: int | None) -> int:
    return HELD_OUT[effort] if given is None else whole("held_out", given, 0, 1_000_000)


def _settings(caller: str, effort: str, given: Mapping[str, Mapping[str, Any]]) -> str:
    if not isinstance(effort, str) or effort not in EFFORTS:
        raise ValueError(f"effort must be {', '.join(EFFORTS)}, and is {effort!r}")
    known = default_settings()
    merged = {stage: dict(values) for stage, values in EFFORTS[effort].items()}
    for stage, values in given.items():
        if stage not in known:
            raise TypeError(f"{caller} has no argument or stage {stage!r}; stages are {', '.join(known)}")
        if not isinstance(values, Mapping):
            raise TypeError(f"{stage} takes a dict of settings, such as {stage}={{{next(iter(known[stage]))!r}: ...}}")
        for name, value in values.items():
            if name not in known[stage]:
                raise TypeError(f"{stage} has no setting {name!r}, only {', '.join(known[stage])}")
            merged.setdefault(stage, {})[name] = like_default(f"{stage}[{name!r}]", value, known[stage][name])
    return json.dumps(merged)


def _batches(
    arrays: Any, shape: tuple[int, ...], data: Any, method: str, of_data: bool, images: bool
) -> Iterator[Any] | None:
    """Training samples as states, some at a time."""
    if data is None:
        if of_data:
            raise ValueError(f"{method} matches the moments of training samples: pass them as data=, or take +moments, the teacher's")
        return None
    if not of_data:
        raise ValueError(f"data= is for methods with +data-moments, and {method} does without")
    data = data if is_torch(data) or isinstance(data, np.ndarray) else np.asarray(data)
    if len(np.shape(data)) != 1 + len(shape) or tuple(np.shape(data)[1:]) != shape or len(data) < 2:
        raise ValueError(f"data must be two samples or more, [N, {', '.join(map(str, shape))}], and is {list(np.shape(data))}")
    chosen = np.arange(len(data))
    most = _fewstep.MOST_TRAINING_SAMPLES
    if len(chosen) > most:  # samples of one class may come one after the other
        chosen = np.sort(np.random.default_rng(0).choice(len(data), most, replace=False))
    return (_checked(arrays, data[part], part, images) for part in np.array_split(chosen, -(-len(chosen) // 64)))


def _checked(arrays: Any, samples: Any, indices: Any, images: bool) -> Any:
    """Training samples as states, if they can be what the network was trained on."""
    if not (samples.dtype.is_floating_point if is_torch(samples) else samples.dtype.kind == "f"):
        advice = ": images in 0 to 255 become that by x / 127.5 - 1" if images else ""
        raise TypeError(f"data must be floating-point samples as the network denoises them, and is {samples.dtype}{advice}")
    states = arrays.given(samples)
    if not arrays.is_finite(states):
        raise ValueError(f"data is not finite, among samples {indices[0]} to {indices[-1]}")
    size = float(abs(states).max())
    if images and size > 2:  # training images may overshoot a little where they were resized
        raise ValueError(
            f"data must be images in [-1, 1], and has a value of size {size:.4g}: scale them as the network was trained, or pass images=False"
        )
    return states
