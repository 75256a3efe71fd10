"""The denoiser within a pipeline of diffusers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ._checks import drops_out
from ._parameterisation import Parameterisation
from ._recording import Recording, call_of, check_arguments, first_alone, first_of, guidance_of, network_of, rows_of, without_variance
from ._scheduler import Dress, given_or_of

#: The scheduler's times at which pipelines are recorded.
_TIMES = (500.0, 250.0)


class PipelineDenoiser:
    """`D(x; sigma)` of a pipeline's network, with all that the pipeline passes to it and its guidance.

    Recorded from one step of `pipe` for each of `of`: prompts, class labels, or a number of samples for pipelines without conditions.
    Called as `denoiser(x, sigma, rows)`: sample i is denoised under the condition of row `rows[i]`.
    """

    def __init__(
        self,
        pipe: Any,
        of: Sequence[str] | Sequence[int] | int | None = None,
        *,
        guidance_scale: float | None = None,
        parameterisation: Parameterisation | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.network = network_of(pipe)
        if getattr(pipe, "scheduler", None) is None:
            raise ValueError(f"{type(pipe).__name__} has no scheduler, which says what its network predicts")
        if drops_out(self.network):
            raise ValueError(f"the pipeline's {type(self.network).__name__} is in training mode, with dropout: call its eval() first")
        self.parameterisation = given_or_of(parameterisation, pipe.scheduler)
        arguments = {} if arguments is None else arguments
        if not isinstance(arguments, Mapping):
            raise TypeError(f"arguments must be a dict of the pipeline's own, and is {arguments!r}")
        check_arguments(pipe, arguments)
        self.count, call = call_of(pipe, of, guidance_scale, arguments)
        recording = Recording(pipe, self.network, call, _TIMES[0])
        of_one, arguments = first_alone(of, arguments, self.count)
        alone = Recording(pipe, self.network, call_of(pipe, of_one, guidance_scale, arguments)[1], _TIMES[1])
        self._inputs = recording.inputs
        names = list(self._inputs)
        self._sample_name = next((name for name in ("sample", "hidden_states") if name in names), names[0])
        times = [name for name in names if name.startswith("timestep")]
        if not times:
            raise ValueError(f"{type(self.network).__name__} takes no timestep, among {', '.join(names)}")
        self._time_name = times[0]
        given = self._inputs[self._sample_name]
        self.repeats = len(given) // self.count
        self.shape = tuple(given.shape[1:])
        self.device, self.dtype = given.device, given.dtype
        if recording.sample.shape[1:] != given.shape[1:]:
            raise ValueError(
                f"{type(pipe).__name__} gives its network more than the sample: {list(given.shape[1:])} for samples of "
                f"{list(recording.sample.shape[1:])}, as for inpainting; plans are found where the sample is all"
            )
        told = [float(torch.as_tensor(of.inputs[self._time_name]).flatten()[0]) for of in (recording, alone)]
        self._time_factor, other = (label / time for label, time in zip(told, _TIMES))
        if abs(other - self._time_factor) > 0.01 * abs(self._time_factor):  # networks may be told times in bf16
            raise ValueError(
                f"{type(pipe).__name__} tells its network {told[0]:g} and {told[1]:g} at the scheduler's times {_TIMES[0]:g} and {_TIMES[1]:g}: "
                "plans are found where that is one multiple of the time"
            )
        self._rows = {
            name: rows_of(value, alone.inputs.get(name), self.repeats, self.count)
            for name, value in self._inputs.items()
            if name not in (self._sample_name, self._time_name)
        }
        self._weights = guidance_of(recording, alone, self.repeats, self.shape, guidance_scale)
        self._dress = Dress(self.parameterisation, noise_alone=not recording.scales_input)

    @property
    def scales_input(self) -> bool:
        """Whether the pipeline lets its scheduler make the network's input of the noise."""
        return not self._dress.noise_alone

    def __call__(self, x: torch.Tensor, sigma: float, rows: Sequence[int]) -> torch.Tensor:
        c_skip, c_out, c_in, c_noise = self._dress(float(sigma))
        given = torch.cat([(x * c_in).to(self.dtype)] * self.repeats)
        inputs = dict(self._inputs)
        inputs[self._sample_name] = given
        like = torch.as_tensor(self._inputs[self._time_name])
        time = torch.tensor(c_noise * self._time_factor, dtype=torch.float32, device=self.device)
        time = time.to(like.dtype) if like.is_floating_point() else time
        inputs[self._time_name] = time.expand(len(given)) if like.dim() else time
        every = [repeat * self.count + row for repeat in range(self.repeats) for row in rows]
        for name, pick in self._rows.items():
            inputs[name] = pick(self._inputs[name], every)
        parts = without_variance(first_of(self.network(**inputs)), self.shape).to(x.dtype).chunk(self.repeats)
        total = sum(part * weight for part, weight in zip(parts, self._weights))
        return x * c_skip + total * c_out
