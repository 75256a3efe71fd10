"""Checks of what callers give: each raises one sentence that names the argument."""

from __future__ import annotations

import math
import operator
import os
import sys
import warnings
from typing import Any

import numpy as np

#: More of anything than a search can have.
MOST = 2**31 - 1


def whole(name: str, value: Any, least: int, most: int = MOST) -> int:
    """`value` as a whole number from `least` to `most`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a whole number, and is {value!r}")
    if not least <= number <= most:
        bound = f"at least {least}" if number < least else f"at most {most}"
        raise ValueError(f"{name} must be {bound}, and is {number}")
    return number


def finite(name: str, value: Any) -> float:
    """`value` as a finite number."""
    try:
        number = None if isinstance(value, (bool, str, bytes)) else float(value)
    except (TypeError, ValueError):
        number = None
    if number is None:
        raise TypeError(f"{name} must be a number, and is {value!r}")
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, and is {number}")
    return number


def sigma_range(given: Any) -> tuple[float, float]:
    """Least and greatest noise level."""
    try:
        low, high = (float(level) for level in given)
    except (TypeError, ValueError):
        raise ValueError(f"sigma_range must be (least, greatest), such as (0.002, 80), and is {given!r}") from None
    if not 0 < low < high < float("inf"):
        raise ValueError(f"sigma_range must be (least, greatest) with 0 < least < greatest, and is ({low:g}, {high:g})")
    return low, high


def is_callable(name: str, value: Any) -> None:
    """Refuses what cannot be called; `name` with its arguments, such as `denoise(x, sigma)`."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, and {value!r} is not")


def like_default(name: str, value: Any, default: Any) -> Any:
    """A setting in the type of its default, NumPy's numbers among them."""
    if isinstance(default, bool):
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name} must be True or False, and is {value!r}")
        return bool(value)
    if isinstance(default, int):
        return whole(name, value, 0)
    if isinstance(default, float):
        return finite(name, value)
    if isinstance(default, list) and isinstance(value, (tuple, np.ndarray)):
        value = value.tolist() if isinstance(value, np.ndarray) else list(value)
    if type(value) is not type(default):
        raise TypeError(f"{name} must be a {type(default).__name__} such as {default!r}, and is {value!r}")
    if isinstance(default, list) and default:
        return [like_default(f"{name}[{k}]", item, default[0]) for k, item in enumerate(value)]
    return value


def warn(text: str) -> None:
    """A UserWarning at the caller's own line: the first outside this package."""
    frame, level, here = sys._getframe(1), 2, os.path.dirname(__file__)
    while frame.f_back is not None and os.path.dirname(frame.f_code.co_filename) == here:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def drops_out(module: Any) -> bool:
    """Whether two calls of a torch module may give two answers, as it drops out."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(module, torch.nn.Module):
        return False
    dropouts = (part for part in module.modules() if isinstance(part, torch.nn.modules.dropout._DropoutNd))
    return any(part.training and part.p > 0 for part in dropouts)
