"""How a network that predicts eps, v, x0 or a velocity becomes a denoiser D(x; sigma)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from . import _fewstep
from ._arrays import is_torch, kind_problem, problem_of
from ._checks import finite, is_callable

#: Noise tables that diffusers names, with its defaults.
BETAS = {
    "linear": {"type": "linear", "start": 1e-4, "end": 0.02},
    "scaled_linear": {"type": "scaled_linear", "start": 0.00085, "end": 0.012},
    "squaredcos_cap_v2": {"type": "squaredcos_cap_v2"},
}


class Parameterisation:
    """What a network predicts and is told: `D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)` with `x = y + sigma n`.

    Make one with `eps`, `v`, `x0`, `flow` or `edm`; `denoiser(network)` dresses a network in it.
    """

    def __init__(self, inner: _fewstep.Parameterisation) -> None:
        self._inner = inner

    @classmethod
    def _on_alphas(cls, prediction: str, alphas: Any, sigma_data: float) -> Parameterisation:
        if hasattr(alphas, "alphas_cumprod"):
            kind = type(alphas).__name__
            raise TypeError(
                f"{prediction} takes a table of alphas_cumprod, not a {kind}: pass the {kind}'s own, .alphas_cumprod, or let "
                "fewstep.diffusers.parameterisation_of find all that it says"
            )
        if isinstance(alphas, str):
            if alphas not in BETAS:
                raise ValueError(f"the noise table {alphas!r} is none of {', '.join(BETAS)}: give alphas_cumprod instead")
            described = {"type": "alphas", "prediction": prediction, "alphas": BETAS[alphas]}
            return cls._described(described, sigma_data=sigma_data)
        try:
            values = [float(value) for value in (alphas.tolist() if hasattr(alphas, "tolist") else alphas)]
        except TypeError:
            raise TypeError(
                f"{prediction} takes a table of alphas_cumprod, a number for every timestep, not a {type(alphas).__name__}"
            ) from None
        if len(values) > 1 and values[0] <= values[-1] < 1:
            raise ValueError(
                f"alphas_cumprod must fall from timestep to timestep, and go from {values[0]:.4g} to {values[-1]:.4g}: are these betas? "
                "Pass the cumulated product of 1 - beta"
            )
        return cls(_fewstep.Parameterisation.on_alphas(prediction, values, finite("sigma_data", sigma_data)))

    @classmethod
    def _described(cls, described: dict[str, Any], **numbers: Any) -> Parameterisation:
        numbers = {name: finite(name, value) for name, value in numbers.items() if value is not None}
        return cls(_fewstep.Parameterisation.from_json(json.dumps(described | numbers)))

    @classmethod
    def eps(cls, alphas: str | Sequence[float] = "scaled_linear", sigma_data: float = 0.5) -> Parameterisation:
        """A network that predicts the noise (diffusers: `epsilon`) on a table of `alphas_cumprod` `[T]`, or one by its name."""
        return cls._on_alphas("eps", alphas, sigma_data)

    @classmethod
    def v(cls, alphas: str | Sequence[float] = "scaled_linear", sigma_data: float = 0.5) -> Parameterisation:
        """A network that predicts v (Salimans and Ho 2022; diffusers: `v_prediction`)."""
        return cls._on_alphas("v", alphas, sigma_data)

    @classmethod
    def x0(cls, alphas: str | Sequence[float] = "scaled_linear", sigma_data: float = 0.5) -> Parameterisation:
        """A network that predicts the clean sample (diffusers: `sample`)."""
        return cls._on_alphas("x0", alphas, sigma_data)

    @classmethod
    def flow(
        cls,
        shift: float = 1.0,
        timestep: str = "1000t",
        velocity: str = "noise_minus_data",
        t_min: float | None = None,
        t_max: float = 0.999,
        sigma_data: float = 0.5,
    ) -> Parameterisation:
        """A rectified flow: `x_t = (1 - t) y + t n`, sigma = t / (1 - t).

        `timestep` is what the network is told: 1000 t unless `t` or `1-t` is given. `velocity` is what it predicts
        (`noise_minus_data`, `data_minus_noise`); `shift` moves the range of times and the flow's own schedule.
        """
        described = {"type": "flow", "timestep": timestep, "velocity": velocity}
        return cls._described(described, shift=shift, t_min=t_min, t_max=t_max, sigma_data=sigma_data)

    @classmethod
    def edm(cls, sigma_data: float = 0.5, sigma_min: float = 0.002, sigma_max: float = 80.0) -> Parameterisation:
        """EDM's (Karras et al. 2022, Table 1)."""
        return cls._described({"type": "edm"}, sigma_data=sigma_data, sigma_min=sigma_min, sigma_max=sigma_max)

    @classmethod
    def from_json(cls, text: str) -> Parameterisation:
        """From the JSON of a model's description."""
        return cls(_fewstep.Parameterisation.from_json(text))

    def to_json(self) -> str:
        """As JSON."""
        return self._inner.to_json()

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Least and greatest noise level that samplers begin and end at."""
        return self._inner.sigma_range

    @property
    def is_flow(self) -> bool:
        """Whether it is a rectified flow."""
        return self._inner.is_flow

    def coefficients(self, sigma: float) -> tuple[float, float, float, float]:
        """`(c_skip, c_out, c_in, c_noise)` at a noise level."""
        return self._inner.coefficients([float(sigma)])[0]

    def denoiser(self, network: Callable[..., Any]) -> Denoiser:
        """`D(x; sigma)` of `network(c_in x, c_noise, *conditions)`, which is told its noise label as a vector `[N]`."""
        return Denoiser(network, self)

    def __repr__(self) -> str:
        return f"Parameterisation({self.to_json()})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parameterisation) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __reduce__(self) -> Any:
        return Parameterisation.from_json, (self.to_json(),)


class Denoiser:
    """A network in its parameterisation, callable as `denoise(x, sigma, *conditions)`; sigma is a number or a vector `[N]`."""

    @property
    def hint(self) -> str:
        """What to look at first where its answers are not finite."""
        if not self.parameterisation.is_flow:
            return ""
        told = json.loads(self.parameterisation.to_json()).get("timestep", "1000t")
        return f"the network is told {told} with t from 0 to 1, and Parameterisation.flow takes timestep= for another of t, 1-t and 1000t"

    def __init__(self, network: Callable[..., Any], parameterisation: Parameterisation) -> None:
        is_callable("network(x, label)", network)
        self.network = network
        self.parameterisation = parameterisation

    def __call__(self, x: Any, sigma: Any, *conditions: Any, **kwargs: Any) -> Any:
        return self.at(x, sigma, conditions, kwargs, None)

    def at(self, x: Any, sigma: Any, conditions: tuple[Any, ...], kwargs: Mapping[str, Any], dtype: Any) -> Any:
        """The same with the network in `dtype`, and all else in that of `x`: `c_in x` and `c_skip x` lose much in half precision."""
        sigmas = sigma.tolist() if hasattr(sigma, "tolist") else [float(sigma)]
        sigmas = sigmas if isinstance(sigmas, list) else [sigmas]
        rows = self.parameterisation._inner.coefficients(sigmas)
        count = len(x)
        rows = rows * count if len(rows) == 1 else rows
        c_skip, c_out, c_in, c_noise = (_column(x, [row[k] for row in rows], k == 3) for k in range(4))
        given = _cast(x * c_in, dtype)
        answer = self.network(given, c_noise, *conditions, **kwargs)
        problem = kind_problem(answer, given) if dtype is None else problem_of(answer, given)
        if problem is not None:
            raise TypeError(f"the network {problem}")
        answer = answer if dtype is None else _cast(answer, x.dtype)
        return (x * c_skip + answer * c_out).astype(x.dtype) if not is_torch(x) else x * c_skip + answer * c_out


def _cast(x: Any, dtype: Any) -> Any:
    return x if dtype is None else x.to(dtype) if is_torch(x) else x.astype(dtype, copy=False)


def _column(x: Any, values: list[float], flat: bool) -> Any:
    """Coefficients in the form in which they multiply samples; the label as a vector in single precision."""
    shape = (-1,) if flat else (-1, *[1] * (x.ndim - 1))
    if is_torch(x):
        import torch

        dtype = torch.float32 if flat else x.dtype
        return torch.tensor(values, dtype=dtype, device=x.device).reshape(shape)
    return np.asarray(values, np.float32 if flat else x.dtype).reshape(shape)
