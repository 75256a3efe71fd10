"""What the search calls: the user's denoiser, checked, in batches that it can take."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ._arrays import is_torch
from ._parameterisation import Denoiser


class Rows:
    """Conditions by row: seed `s` has row `s mod N` of arrays, lists, or mappings of them."""

    def __init__(self, source: Any) -> None:
        self.source = source
        for leaf in _leaves(source):
            if isinstance(leaf, (str, bytes)) or not (hasattr(leaf, "__len__") and hasattr(leaf, "__getitem__")):
                raise TypeError(f"conditions must be rows (an array, a list, or a mapping of them) or a function, and {leaf!r} is neither")
        lengths = {len(leaf) for leaf in _leaves(source)}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"conditions must have one row a sample, all of one length, and have {sorted(lengths)}")
        (self.count,) = lengths

    def __call__(self, seeds: Sequence[int]) -> Any:
        return self.rows([seed % self.count for seed in seeds])

    def rows(self, rows: Sequence[int]) -> Any:
        """The conditions of these rows."""
        return _map(self.source, lambda leaf: _take(leaf, rows))


def _leaves(source: Any) -> list[Any]:
    if isinstance(source, Mapping):
        return [leaf for value in source.values() for leaf in _leaves(value)]
    return [source]


def _map(source: Any, of: Callable[[Any], Any]) -> Any:
    if isinstance(source, Mapping):
        return {name: _map(value, of) for name, value in source.items()}
    return of(source)


def _take(leaf: Any, rows: Sequence[int]) -> Any:
    if is_torch(leaf) or isinstance(leaf, np.ndarray):
        return leaf[list(rows)]
    return [leaf[row] for row in rows]


class Callback:
    """The user's `denoise(x, sigma)` or `denoise(x, sigma, condition)`.

    A condition here is a list of whole numbers, one a sample: seeds, or classes where there are `classes`.
    """

    def __init__(
        self,
        denoise: Callable[..., Any],
        arrays: Any,
        *,
        conditions: Callable[[Sequence[int]], Any] | None = None,
        classes: int = 0,
        batch_size: int = 64,
        sigma_per_sample: bool = False,
    ) -> None:
        self._denoise = denoise
        self._arrays = arrays
        self._conditions = conditions
        self._classes = classes
        self._batch_size = batch_size
        self._sigma_per_sample = sigma_per_sample
        self._known: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self.evaluations = 0

    def conditions(self, seeds: list[int], classes: list[int] | None) -> list[int]:
        return seeds if classes is None else classes

    def same_condition(self, of: int | None, samples: int) -> list[int]:
        if of is None or not self._classes:
            raise ValueError("this denoiser has no classes")
        return [of] * samples

    def constant(self, values: bytes, count: int, condition: list[int], samples: int) -> Any:
        return constant(self._arrays, values, count, condition, samples)

    def denoise(self, states: list[Any], sigmas: list[float], condition: list[int]) -> list[Any]:
        """`D(x; sigma)` of several batches, each at its level and all under the same conditions."""
        if not self._sigma_per_sample:
            return [self._parts(x, sigma, condition) for x, sigma in zip(states, sigmas)]
        counts = [len(x) for x in states]
        every = [sigma for sigma, count in zip(sigmas, counts) for _ in range(count)]
        together = self._parts(self._arrays.cat(states), every, condition * len(states))
        starts = [sum(counts[:k]) for k in range(len(counts))]
        return [self._arrays.part(together, start, count) for start, count in zip(starts, counts)]

    def _parts(self, x: Any, sigma: float | list[float], condition: list[int]) -> Any:
        outputs = []
        for start in range(0, len(x), self._batch_size):
            part = self._arrays.part(x, start, self._batch_size)
            of_part = condition[start : start + len(part)]
            level = sigma[start : start + len(part)] if isinstance(sigma, list) else sigma
            outputs.append(self._one(part, level, of_part))
        return self._arrays.cat(outputs)

    def _one(self, x: Any, sigma: float | list[float], condition: list[int]) -> Any:
        level = self._arrays.levels(sigma, [1] * len(sigma)) if isinstance(sigma, list) else sigma
        extra = self._extra(condition)
        self.evaluations += len(x)
        return evaluate(self._arrays, self._denoise, x, level, extra)

    def _extra(self, condition: list[int]) -> tuple[Any, ...]:
        if self._classes:
            return (self._arrays.labels(condition),)
        if self._conditions is None:
            return ()
        key = tuple(condition)
        if key not in self._known:
            self._known[key] = self._conditions(condition)
            if len(self._known) > 32:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return (self._known[key],)


def constant(arrays: Any, values: bytes, count: int, labels: Sequence[int] | None, samples: int) -> Any:
    """A plan's constant for each sample: the one there is, each one's class's, or the mean of all."""
    each = arrays.samples(values, count)
    if count > 1 and labels is not None:
        return each[list(labels)]
    mean = arrays.combine([1 / count] * count, [each[k : k + 1] for k in range(count)])
    return arrays.cat([mean] * samples)


def evaluate(arrays: Any, denoise: Callable[..., Any], x: Any, sigma: Any, extra: tuple[Any, ...], **kwargs: Any) -> Any:
    """`denoise(x, sigma, *extra)`, whose answer must be like `x` and finite."""
    if isinstance(denoise, Denoiser):
        given = arrays.to_network(x, arrays.state_dtype)
        answer = denoise.at(given, sigma, extra, kwargs, arrays.dtype)
    else:
        given = arrays.to_network(x, arrays.dtype)
        answer = denoise(given, sigma, *extra, **kwargs)
    problem = arrays.problem(answer, given)
    if problem is not None:
        raise TypeError(f"the denoiser {problem}")
    if not arrays.is_finite(answer):
        at = f"{sigma:.6g}" if isinstance(sigma, float) else f"{float(sigma.min()):.6g} to {float(sigma.max()):.6g}"
        hint = hint_of(denoise) or "check that the network knows this level, and that its precision holds such values"
        raise FloatingPointError(f"the denoiser's answer at sigma {at} is not finite: {hint}")
    return arrays.to_state(answer)


def hint_of(denoise: Any) -> str:
    """What a denoiser knows of its own about answers that are not finite."""
    hint = getattr(denoise, "hint", "")
    return hint if isinstance(hint, str) else ""


def rounding_of(denoise: Any) -> float:
    """The rounding of a denoiser whose network has another precision than its arrays, and says so; else 0."""
    rounding = getattr(denoise, "rounding", 0.0)
    return rounding if isinstance(rounding, float) else 0.0
