"""The denoiser within a pipeline of diffusers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ._checks import drops_out, finite
from ._parameterisation import Parameterisation
from ._recording import (
    ON_A_CALLABLE,
    TIMES,
    Recording,
    changes,
    check_arguments,
    first_of,
    guidance_of,
    network_of,
    recordings_of,
    rows_of,
    without_variance,
)
from ._scheduler import Dress, given_or_of


class PipelineDenoiser:
    """`D(x; sigma)` of a pipeline's network, with all that the pipeline passes to it and its guidance.

    Recorded from one step of `pipe` for each of `of`: prompts, class labels, or a number of samples for pipelines without conditions.
    Called as `denoiser(x, sigma, rows)` with x `[N, *shape]`, sigma a float and N rows: sample i is denoised under the condition of row
    `rows[i]`. Returns D `[N, *shape]` in the type of x.
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
        guidance_scale = None if guidance_scale is None else finite("guidance_scale", guidance_scale)
        self.count, recording, other, alone = recordings_of(pipe, self.network, of, guidance_scale, arguments)
        kind = type(pipe).__name__
        self._inputs = recording.inputs
        self._name_inputs()
        self._read_sample(kind, recording)
        self._read_time(kind, recording, other)
        self._check_conditions(kind, other)
        self._rows = {
            name: rows_of(self._inputs[name], alone.inputs.get(name), self.repeats, self.count) for name in self._conditions(self._inputs)
        }
        self._weights = guidance_of(recording, other, self.repeats, self.shape, guidance_scale)
        self._dress = Dress(self.parameterisation, noise_alone=not recording.scales_input)
        self._check_replay(kind, other)

    def _name_inputs(self) -> None:
        """Which of the inputs are the sample and its time."""
        names = list(self._inputs)
        self._sample_name = next((name for name in ("sample", "hidden_states") if name in names), names[0])
        times = [name for name in names if name.startswith("timestep")]
        if not times:
            raise ValueError(f"{type(self.network).__name__} takes no timestep, among {', '.join(names)}")
        self._time_name = times[0]

    def _conditions(self, inputs: Mapping[str, Any]) -> list[str]:
        """The names of all inputs but the sample and its time."""
        return [name for name in inputs if name not in (self._sample_name, self._time_name)]

    def _read_sample(self, kind: str, recording: Recording) -> None:
        """Number, shape and type of what the network is given."""
        given = self._inputs[self._sample_name]
        if not len(given) or len(given) % self.count or len(recording.sample) % self.count:
            raise ValueError(
                f"{kind} was asked for {self.count} samples and gives its network {len(given)}: its call must go by the number "
                "of its batch_size, prompts or labels"
            )
        self.repeats = len(given) // self.count
        self.shape = tuple(given.shape[1:])
        self.device, self.dtype = given.device, given.dtype
        self.rounding = torch.finfo(self.dtype).eps / 2  # the network's; the search's own arrays are in single precision
        if recording.sample.shape[1:] != given.shape[1:]:
            raise ValueError(
                f"{kind} gives its network more than the sample: {list(given.shape[1:])} for samples of "
                f"{list(recording.sample.shape[1:])}, as for inpainting; plans are found where the sample is all"
            )

    def _read_time(self, kind: str, recording: Recording, other: Recording) -> None:
        """What the network is told, as a multiple of the scheduler's time."""
        told = [float(torch.as_tensor(of.inputs[self._time_name]).flatten()[0]) for of in (recording, other)]
        self._time_factor, factor = (label / time for label, time in zip(told, TIMES))
        if abs(factor - self._time_factor) > 0.01 * abs(self._time_factor):  # networks may be told times in bf16
            raise ValueError(
                f"{kind} tells its network {told[0]:g} and {told[1]:g} at the scheduler's times {TIMES[0]:g} and {TIMES[1]:g}: "
                "plans are found where that is one multiple of the time"
            )

    def _check_conditions(self, kind: str, other: Recording) -> None:
        """Raises ValueError if anything but the sample and its time is not the same at another step."""
        names = self._conditions({**self._inputs, **other.inputs})
        changing = [name for name in names if changes(self._inputs.get(name), other.inputs.get(name))]
        if changing:
            raise ValueError(
                f"{kind} gives its network {', '.join(changing)}, which changes from step to step: plans are found where "
                f"the sample and its time alone do; {ON_A_CALLABLE}"
            )

    def _check_replay(self, kind: str, recording: Recording) -> None:
        """Raises ValueError if the network does not answer as it did in the pipeline's own call."""
        with torch.no_grad():
            answer = self._answer(recording.inputs[self._sample_name][: self.count], TIMES[1], range(self.count))
        wanted, answer = recording.answer.cpu().double(), answer.cpu().double()
        precision = max(1e-3, 4 * torch.finfo(recording.answer.dtype).eps)  # two calls may round differently
        if answer.shape != wanted.shape or not float((answer - wanted).norm()) <= precision * float(wanted.norm()):
            raise ValueError(f"{kind}'s call of its network cannot be replayed, as the network then answers otherwise: {ON_A_CALLABLE}")

    @property
    def scales_input(self) -> bool:
        """Whether the pipeline lets its scheduler make the network's input of the noise."""
        return not self._dress.noise_alone

    def __call__(self, x: torch.Tensor, sigma: float, rows: Sequence[int]) -> torch.Tensor:
        c_skip, c_out, c_in, c_noise = self._dress(float(sigma))
        answer = self._answer(x * c_in, c_noise, rows)
        parts = without_variance(answer, self.shape).to(x.dtype).chunk(self.repeats)
        total = sum(part * weight for part, weight in zip(parts, self._weights))
        return x * c_skip + total * c_out

    def _answer(self, given: torch.Tensor, time_of_scheduler: float, rows: Sequence[int]) -> torch.Tensor:
        """The network's answer `[repeats N, ...]` to its input `[N, ...]`."""
        given = torch.cat([given.to(self.dtype)] * self.repeats)
        inputs = dict(self._inputs)
        inputs[self._sample_name] = given
        like = torch.as_tensor(self._inputs[self._time_name])
        time = torch.tensor(time_of_scheduler * self._time_factor, dtype=torch.float32, device=self.device)
        time = time.to(like.dtype) if like.is_floating_point() else time
        inputs[self._time_name] = time.expand(len(given)) if like.dim() else time
        every = [repeat * self.count + row for repeat in range(self.repeats) for row in rows]
        for name, pick in self._rows.items():
            inputs[name] = pick(self._inputs[name], every)
        return first_of(self.network(**inputs))
