"""What a pipeline of diffusers passes to its network, recorded from one step, and how rows are picked from it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import torch

from ._checks import warn, whole
from ._scheduler import config_of


class _Stop(Exception):
    """Ends a pipeline once its call of the network is recorded."""


class Probe:
    """A scheduler that lets a pipeline make one call of its network."""

    order = 1

    def __init__(self, scheduler: Any, timestep: float, noise: float = 1.0) -> None:
        self.config = config_of(scheduler)
        self.init_noise_sigma = noise
        self.timesteps = torch.tensor([timestep])
        self.num_inference_steps = 1
        self.scales_input = False
        self.output: Any = None
        self.sample: Any = None

    def set_timesteps(
        self, num_inference_steps: Any = None, device: Any = None, sigmas: Any = None, timesteps: Any = None, mu: Any = None
    ) -> None:
        self.timesteps = self.timesteps.to(device)

    def set_begin_index(self, begin_index: int = 0) -> None:
        pass

    def add_noise(self, original_samples: Any, noise: Any, timesteps: Any) -> Any:
        raise ValueError("plans begin with noise alone, and this pipeline begins with an image: find plans on its text-to-image kind")

    scale_noise = add_noise  # as flows call it

    def scale_model_input(self, sample: Any, timestep: Any = None) -> Any:
        self.scales_input = True
        return sample

    def step(self, model_output: Any, timestep: Any, sample: Any, **_: Any) -> Any:
        self.output, self.sample = model_output.detach(), sample.detach()
        raise _Stop


class Recording:
    """What a pipeline passed to its network in one call, and what it made of the answer.

    Pipelines that multiply their first noise by `init_noise_sigma` multiply it by `noise`.
    """

    def __init__(self, pipe: Any, network: Any, arguments: Mapping[str, Any], timestep: float, noise: float = 1.0) -> None:
        probe = Probe(pipe.scheduler, timestep, noise)
        calls: list[tuple[Any, Any, Any]] = []

        def keep(_: Any, args: Any, kwargs: Any, output: Any) -> None:
            calls.append((args, kwargs, first_of(output).detach()))

        hook = network.register_forward_hook(keep, with_kwargs=True)
        before = pipe.scheduler
        silent = getattr(pipe, "_progress_bar_config", None)
        show = getattr(pipe, "set_progress_bar_config", lambda **_: None)
        try:
            pipe.scheduler = probe
            show(disable=True)
            with torch.no_grad():
                pipe(**arguments)
        except _Stop:
            pass
        finally:
            hook.remove()
            pipe.scheduler = before
            show(**(silent or {}))
        if len(calls) == 1 and probe.output is None:
            raise ValueError(f"{type(pipe).__name__} does not hand its network's answer to its scheduler: {ON_A_CALLABLE}")
        if len(calls) != 1:
            raise ValueError(
                f"{type(pipe).__name__} called its network {len(calls)} times in one step, and plans are found on pipelines that call it "
                f"once, with both halves of guidance where there are two: {ON_A_CALLABLE}"
            )
        args, kwargs, self.answer = calls[0]
        self.inputs, self.output = _inputs_of(network, args, kwargs), probe.output
        self.scales_input, self.sample = probe.scales_input, probe.sample


#: The scheduler's times at which pipelines are recorded, and what their first noise is multiplied by at the second.
TIMES = (500.0, 250.0)
_OTHER_NOISE = 0.5


def recordings_of(
    pipe: Any, network: Any, of: Any, guidance_scale: float | None, arguments: Mapping[str, Any]
) -> tuple[int, Recording, Recording, Recording]:
    """How many samples there are, their recording, another at a second time and state, and one of the first sample alone at that time."""
    of = _listed(of)

    def call_for(of: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return call_of(pipe, of, guidance_scale, arguments)[1]  # with a new generator every time

    count, call = call_of(pipe, of, guidance_scale, arguments)
    recording = Recording(pipe, network, call, TIMES[0])
    other = Recording(pipe, network, call_for(of, arguments), TIMES[1], _OTHER_NOISE)
    if count == 1:
        return count, recording, other, other
    return count, recording, other, Recording(pipe, network, call_for(*first_alone(of, arguments, count)), TIMES[1])


#: What serves where a pipeline cannot be recorded.
ON_A_CALLABLE = "search on a callable that does as the pipeline, with fewstep.find_plans"


def _inputs_of(network: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """What was passed to a network by name, of its `**kwargs`, too."""
    signature = inspect.signature(getattr(network, "_orig_mod", network).forward)  # torch.compile's modules take anything
    inputs: dict[str, Any] = {}
    nameless = False
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            inputs.update(value)
        elif kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
            nameless = True
        else:
            inputs[name] = value
    if nameless or not inputs:
        raise ValueError(
            f"{type(network).__name__} is called with inputs that its forward gives no names, or with none, and only named ones can be "
            f"recorded: {ON_A_CALLABLE}"
        )
    return inputs


def changes(value: Any, other: Any) -> bool:
    """Whether an input of the network is not the same in two recordings, as well as its precision can tell."""
    if type(value) is not type(other):
        return True
    if isinstance(value, torch.Tensor):
        if value.shape != other.shape or not value.is_floating_point():
            return not torch.equal(value, other)
        if value.numel() == 0:
            return False
        tolerance = max(1e-5, 4 * torch.finfo(value.dtype).eps) * float(value.abs().max())
        return bool(((value - other).abs() > tolerance).any())
    if isinstance(value, Mapping):
        return value.keys() != other.keys() or any(changes(item, other[name]) for name, item in value.items())
    if isinstance(value, (tuple, list)):
        return len(value) != len(other) or any(map(changes, value, other))
    return isinstance(value, (bool, int, float, str)) and value != other


def first_of(output: Any) -> Any:
    """The answer itself in what a network returned."""
    if isinstance(output, (tuple, list)):
        return output[0]
    return output.sample if hasattr(output, "sample") else output


def without_variance(answer: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The first channels of images, as many as samples have: some networks learn a variance beside."""
    return answer[:, : shape[0]] if len(shape) == 3 else answer


def network_of(pipe: Any) -> Any:
    for name in ("unet", "transformer"):
        network = getattr(pipe, name, None)
        if isinstance(network, torch.nn.Module):
            return network
    raise ValueError(f"{type(pipe).__name__} has no unet or transformer to find plans for")


def first_alone(of: Any, arguments: Mapping[str, Any], count: int) -> tuple[Any, dict[str, Any]]:
    """The same for the first sample alone."""
    first = {name: value[:1] if _is_by_sample(value, count) else value for name, value in arguments.items()}
    if of is None and "prompt_embeds" in arguments:
        return None, first
    return (of[:1] if isinstance(of, list) else 1), first


def _is_by_sample(value: Any, count: int) -> bool:
    """Whether an argument of a pipeline's call has an entry a sample; lists of numbers are sizes and the like."""
    if isinstance(value, torch.Tensor):
        return value.dim() > 0 and len(value) == count
    return isinstance(value, list) and len(value) == count and all(isinstance(item, (str, torch.Generator)) for item in value)


# What pipelines call what their samples are of.
PROMPTS = ["prompt", "prompts"]
LABELS = ["class_labels", "labels", "classes", "class_ids"]


def _listed(of: Any) -> Any:
    """Prompts or labels as a list, so that they may be read more than once; a number of samples as it is."""
    return [of] if isinstance(of, str) else list(of) if isinstance(of, Iterable) else of


def call_of(pipe: Any, of: Any, guidance_scale: float | None, arguments: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """How many samples there are, and the arguments of the pipeline's call for them; `of` is as `_listed` has it."""
    known = inspect.signature(pipe.__call__).parameters
    call: dict[str, Any] = {"num_inference_steps": 1, "generator": torch.Generator().manual_seed(0), **arguments}
    embeddings = arguments.get("prompt_embeds")
    if of is None and embeddings is not None:
        count = len(embeddings)
    elif not isinstance(of, list):
        count = 2 if of is None else whole("the number of samples", of, 1)
        if "batch_size" not in known:
            raise ValueError(f"{type(pipe).__name__} needs prompts, class labels or arguments={{'prompt_embeds': ...}}")
        call["batch_size"] = count
    else:
        count, words = len(of), bool(of) and isinstance(of[0], str)
        if not of:
            raise ValueError("there are no prompts or labels")
        name = next((name for name in (PROMPTS if words else LABELS) if name in known), None)
        if name is None:
            kind = "prompts" if words else "class labels"
            raise ValueError(
                f"{type(pipe).__name__} takes no {kind}: its arguments are {', '.join(known)}, and none is called "
                f"{' or '.join(PROMPTS if words else LABELS)}"
            )
        call[name] = of
    if guidance_scale is not None:
        if "guidance_scale" not in known:
            raise ValueError(f"{type(pipe).__name__} has no guidance_scale")
        call["guidance_scale"] = guidance_scale
    return count, {name: value for name, value in call.items() if name in known or name in arguments}


def check_arguments(pipe: Any, given: Mapping[str, Any]) -> None:
    """Refuses what the pipeline's call does not take; where it takes anything, warns of what looks like a slip."""
    if "guidance_scale" in given:
        raise ValueError("guidance_scale is an argument of its own: pass guidance_scale=, not arguments={'guidance_scale': ...}")
    for name, value in given.items():
        if name.startswith("num_") and "_per_" in name and value != 1:
            raise ValueError(f"{name} multiplies samples, and plans are found on one of each prompt or label: leave it out")
    known = inspect.signature(pipe.__call__).parameters
    takes_anything = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values())
    for name in given:
        if name in known:
            continue
        kind, near = type(pipe).__name__, get_close_matches(name, known, 1, cutoff=0.8 if takes_anything else 0.6)
        if not takes_anything:
            advice = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known)}"
            raise ValueError(f"the call of {kind} takes no argument {name!r}: {advice}")
        if near:
            warn(f"the call of {kind} names no argument {name!r}, which may be lost: did you mean {near[0]!r}?")


def rows_of(value: Any, alone: Any, repeats: int, count: int) -> Any:
    """How rows are picked from an argument of the network: by sample where its length goes with the number of samples."""
    if isinstance(value, Mapping):
        inner = {name: rows_of(item, (alone or {}).get(name), repeats, count) for name, item in value.items()}
        return lambda given, rows: {name: inner[name](item, rows) for name, item in given.items()}
    if isinstance(value, (tuple, list)):
        others = alone if isinstance(alone, (tuple, list)) else [None] * len(value)
        picks = [rows_of(item, other, repeats, count) for item, other in zip(value, others)]
        return lambda given, rows: type(given)(pick(item, rows) for pick, item in zip(picks, given))
    by_sample = isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) == repeats * count
    if by_sample and count > 1 and isinstance(alone, torch.Tensor):
        by_sample = len(alone) == repeats
    return (lambda given, rows: given[rows]) if by_sample else (lambda given, rows: given)


def guidance_of(recording: Recording, other: Recording, repeats: int, shape: tuple[int, ...], scale: float | None) -> list[float]:
    """The weights in which the pipeline adds the network's answers, found from one call and checked on another, at another time."""
    usual = [[1.0]] if repeats == 1 else []
    if repeats == 2 and scale is not None:
        usual = [[1 - scale, scale], [scale, 1 - scale]]
    table, wanted = _equations(recording, repeats, shape)
    fitted = torch.linalg.lstsq(table, wanted[:, None]).solution.flatten().tolist()
    for weights in [*usual, fitted]:
        if _holds(weights, recording, repeats, shape) and _holds(weights, other, repeats, shape):
            return weights
    raise ValueError("the pipeline's guidance is no weighted sum of the network's answers, the same at all times: it cannot be replayed")


def _equations(recording: Recording, repeats: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """The network's answers, a column each, and what the pipeline made of them."""
    answer = without_variance(recording.answer, shape)
    table = torch.stack([part.cpu().double().flatten() for part in answer.chunk(repeats)], 1)
    wanted = recording.output[: len(answer) // repeats].cpu().double().flatten()
    if not (torch.isfinite(table).all() and torch.isfinite(wanted).all()):
        raise FloatingPointError(
            "the network's answer in the pipeline is not finite: check the weights, the embeddings, and that its precision holds such values"
        )
    return table, wanted


def _holds(weights: list[float], recording: Recording, repeats: int, shape: tuple[int, ...]) -> bool:
    """Whether the pipeline added its network's answers in these weights, as well as their precision can tell."""
    table, wanted = _equations(recording, repeats, shape)
    rest = float((table @ torch.tensor(weights, dtype=torch.float64) - wanted).norm())
    tolerance = 50 * torch.finfo(recording.answer.dtype).eps * float(table.abs().max()) * len(wanted) ** 0.5
    return rest <= tolerance * (1 + sum(map(abs, weights)))
