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

    Make one with `eps`, `v`, `x0`, `flow` or `edm`; `denoiser(network)` makes a denoiser of a network. x, y (the clean sample) and n
    (unit normal noise) are `[N, *shape]`; sigma is the standard deviation of the noise in the unit of the samples' values.
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
        """A network that predicts the noise n (diffusers: `epsilon`) on a table of alphas.

        `alphas`: `alphas_cumprod` `[T]`, one number a timestep, falling between 1 and 0; or the name of a table of 1,000 timesteps:
        `linear` (DDPM), `scaled_linear` (Stable Diffusion), `squaredcos_cap_v2` (improved DDPM). `sigma_data`: standard deviation of the
        samples' values; it changes no coefficient here.

        The network is given `x / sqrt(1 + sigma^2)` `[N, *shape]` and its timesteps `[N]`, real numbers from 0 to T - 1, and answers
        `[N, *shape]`. sigma = sqrt((1 - alphas_cumprod) / alphas_cumprod).

        Raises ValueError for an unknown name or a table that does not fall, TypeError for what is no table, such as a scheduler.
        """
        return cls._on_alphas("eps", alphas, sigma_data)

    @classmethod
    def v(cls, alphas: str | Sequence[float] = "scaled_linear", sigma_data: float = 0.5) -> Parameterisation:
        """A network that predicts `v = alpha n - alpha sigma y`, alpha = sqrt(alphas_cumprod), on a table of alphas.

        Salimans and Ho 2022; diffusers: `v_prediction`. Arguments, shapes and errors are those of `eps`.
        """
        return cls._on_alphas("v", alphas, sigma_data)

    @classmethod
    def x0(cls, alphas: str | Sequence[float] = "scaled_linear", sigma_data: float = 0.5) -> Parameterisation:
        """A network that predicts the clean sample y (diffusers: `sample`) on a table of alphas.

        Arguments, shapes and errors are those of `eps`.
        """
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
        """A rectified flow: `x_t = (1 - t) y + t n`, sigma = t / (1 - t) (Lipman et al. 2023).

        The network is given `x_t = x / (1 + sigma)` `[N, *shape]` and a vector `[N]` that says t, and answers a velocity `[N, *shape]`.
        `timestep` is what it is told: `1000t`, `t` or `1-t`, t from 0 (data) to 1 (noise). `velocity` is what it predicts:
        `noise_minus_data`, n - y, or `data_minus_noise`. `shift` s moves the range of times and the flow's own schedule, t to
        s t / (1 + (s - 1) t) (Esser et al. 2024, Eq. 23); 1 is none. `t_min`, `t_max`: least and greatest time that is sampled, after
        the shift; the shifted 1/1000 unless given, and at most 0.999. `sigma_data`: standard deviation of the samples' values; it changes
        no coefficient here.

        Raises ValueError or TypeError for an argument that is none of these.
        """
        described = {"type": "flow", "timestep": timestep, "velocity": velocity}
        return cls._described(described, shift=shift, t_min=t_min, t_max=t_max, sigma_data=sigma_data)

    @classmethod
    def edm(cls, sigma_data: float = 0.5, sigma_min: float = 0.002, sigma_max: float = 80.0) -> Parameterisation:
        """EDM's (Karras et al. 2022, Table 1).

        The network is given `x / sqrt(sigma^2 + sigma_data^2)` `[N, *shape]` and `log(sigma) / 4` `[N]`, and answers `[N, *shape]`.
        `sigma_data`: standard deviation of the samples' values. `sigma_min`, `sigma_max`: least and greatest noise level that it knows,
        in the same unit; both finite.

        Raises ValueError or TypeError for numbers that are not finite, or a range that is none.
        """
        return cls._described({"type": "edm"}, sigma_data=sigma_data, sigma_min=sigma_min, sigma_max=sigma_max)

    @classmethod
    def from_json(cls, text: str) -> Parameterisation:
        """From the JSON of a model's description (`parameterisation` in docs/formats.md).

        Raises ValueError for other text, or parameters out of their domain.
        """
        return cls(_fewstep.Parameterisation.from_json(text))

    def to_json(self) -> str:
        """As JSON."""
        return self._inner.to_json()

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Least and greatest noise level that samplers end and begin at, as standard deviations of the noise."""
        return self._inner.sigma_range

    @property
    def is_flow(self) -> bool:
        """Whether it is a rectified flow."""
        return self._inner.is_flow

    def coefficients(self, sigma: float) -> tuple[float, float, float, float]:
        """`(c_skip, c_out, c_in, c_noise)` at a noise level, four numbers; c_noise is what the network is told."""
        return self._inner.coefficients([float(sigma)])[0]

    def denoiser(self, network: Callable[..., Any]) -> Denoiser:
        """`D(x; sigma)` of `network(c_in x, c_noise, *conditions)`, which is given `[N, *shape]` and c_noise as float32 `[N]`.

        Raises TypeError if `network` cannot be called.
        """
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
    """A network in its parameterisation, callable as `denoise(x, sigma, *conditions)`.

    x is `[N, *shape]`, sigma a number or a vector `[N]`; the answer is the expected clean sample D, an array like x. Raises TypeError if
    the network's answer has another shape, type or device than its input.
    """

    @property
    def hint(self) -> str:
        """What to check first where its answers are not finite."""
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
        """D `[N, *shape]` with the network in `dtype`, and all else in that of `x`: `c_in x` and `c_skip x` lose much in half precision.

        `sigma`: a number or a vector `[N]`; `conditions` and `kwargs`: further arguments of the network.
        """
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
