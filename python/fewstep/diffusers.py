"""Plans for diffusers: found on a pipeline, and run in it by `PlanScheduler`.

    plans = fewstep.diffusers.find_plans(pipe, prompts, steps=[4, 6, 8], guidance_scale=7.5)
    pipe.scheduler = fewstep.diffusers.PlanScheduler.from_plans(plans, pipe.scheduler)
    images = pipe(prompt, num_inference_steps=6, guidance_scale=7.5).images
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput

from ._parameterisation import Parameterisation
from ._plan import Plan, Plans
from ._search import find_plans as find_plans_on
from ._steps import Steps

__all__ = ["PipelineDenoiser", "PlanScheduler", "find_plans", "parameterisation_of"]


def parameterisation_of(scheduler: Any) -> Parameterisation:
    """How the networks of pipelines with this scheduler predict, by the scheduler's configuration.

    Raises ValueError for a scheduler that says neither a noise table nor flow matching.
    """
    if isinstance(scheduler, PlanScheduler):
        return scheduler.parameterisation
    config = scheduler.config
    prediction = config.get("prediction_type", "epsilon")
    flow = "FlowMatch" in type(scheduler).__name__ or prediction == "flow_prediction" or config.get("use_flow_sigmas")
    if flow:
        return Parameterisation.flow(shift=float(config.get("shift") or config.get("flow_shift") or 1.0))
    names = {"epsilon": Parameterisation.eps, "v_prediction": Parameterisation.v, "sample": Parameterisation.x0}
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if alphas is None or prediction not in names:
        raise ValueError(
            f"{type(scheduler).__name__} with prediction_type {prediction!r} has no noise table of alphas and is no flow: "
            "give parameterisation="
        )
    values = [float(value) for value in alphas]
    if values[-1] <= 2**-24:  # some schedulers write this for an alpha of 0
        values[-1] = 0.0
    return names[prediction](values)


def _warn_of_clipping(scheduler: Any) -> None:
    """Plans know the network alone, not what a scheduler makes of its answers."""
    how = [name for name in ("clip_sample", "thresholding") if scheduler.config.get(name)]
    if how:
        name = type(scheduler).__name__
        warnings.warn(
            f"{name} clips what the network predicts ({how[0]}=True), and plans do not, nor does the teacher that they are fitted to: "
            f"its samples may differ from theirs unless you set {how[0]}=False in it",
            stacklevel=3,
        )


class _Dress:
    """The coefficients of a parameterisation in pipelines.

    Pipelines that do not call `scale_model_input` hand their unit noise to the network as it is. The first state is then taken for
    noise alone, in the search as in the pipeline: `c_in = 1 / sigma`, and a flow is at t = 1.
    """

    def __init__(self, of: Parameterisation, noise_alone: bool) -> None:
        self.of, self.noise_alone = of, noise_alone
        self._top = of.sigma_range[1] * (1 - 1e-6)

    def __call__(self, sigma: float) -> tuple[float, float, float, float]:
        c_skip, c_out, c_in, c_noise = self.of.coefficients(sigma)
        if not self.noise_alone or sigma < self._top:
            return c_skip, c_out, c_in, c_noise
        if self.of.is_flow:
            return 1 / sigma, -1.0, 1 / sigma, 1000.0
        return c_skip, c_out, 1 / sigma, c_noise


class PlanScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]
    """Runs plans in unmodified pipelines: every evaluation, history and coefficient of the plan that has `num_inference_steps`.

    Parameters
    ----------
    plans
        Plans as the mappings of their files, one for each number of steps that the pipeline may ask for.
    parameterisation
        What the network predicts, as the mapping of a model description; `from_plans` takes it from another scheduler.

    The configuration holds that of the scheduler that it replaces, too: `DDIMScheduler.from_config(pipe.scheduler.config)` leads back.
    """

    order = 1
    init_noise_sigma = 1.0

    @register_to_config
    def __init__(self, plans: Sequence[Mapping[str, Any]], parameterisation: Mapping[str, Any]) -> None:
        self._plans = {plan.nfe: plan for plan in (Plan.from_json(json.dumps(mapping)) for mapping in plans)}
        if any(plan.constant is not None and len(plan.constant) > 1 for plan in self._plans.values()):
            raise ValueError("a plan holds a sample for every class, and pipelines do not tell a scheduler their labels")
        if not self._plans:
            raise ValueError("PlanScheduler needs at least one plan")
        self.parameterisation = Parameterisation.from_json(json.dumps(parameterisation))
        self._begin_index: int | None = None
        self._use(next(iter(self._plans)), None)

    @classmethod
    def from_plans(
        cls, plans: Plan | Plans | Iterable[Plan], scheduler: Any, parameterisation: Parameterisation | None = None
    ) -> PlanScheduler:
        """The scheduler of these plans, found or loaded, for pipelines that had `scheduler`.

        Warns where that clips what the network predicts, as plans do not.
        """
        if isinstance(plans, Plan):
            plans = [plans]
        elif isinstance(plans, Mapping):
            plans = plans.values()
        of = parameterisation or parameterisation_of(scheduler)
        _warn_of_clipping(scheduler)
        made = cls(plans=[json.loads(plan.to_json()) for plan in plans], parameterisation=json.loads(of.to_json()))
        made._keep_configuration(scheduler.config)
        return made

    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """From the configuration of another, which may be read from a file."""
        config = config or {}
        if "plans" not in config and "plans" not in kwargs:
            raise ValueError("the configuration holds no plans: use PlanScheduler.from_plans(plans, scheduler)")
        own = {name: value for name, value in config.items() if name in _OWN or name in _OF_DIFFUSERS}
        found = super().from_config(own, return_unused_kwargs, **kwargs)
        (found[0] if return_unused_kwargs else found)._keep_configuration(config)
        return found

    def _keep_configuration(self, config: Mapping[str, Any]) -> None:
        """Keeps the configuration of the scheduler that this one replaces.

        Schedulers that are made from it know none of our own entries. `_use_default_values` lists what they leave aside, which else
        they would print in a warning, plans and all; it is not saved.
        """
        theirs = {name: value for name, value in config.items() if not name.startswith("_") and name not in _OWN}
        defaults = [name for name in config.get("_use_default_values", ()) if name in theirs]
        self.register_to_config(**theirs, _use_default_values=[*defaults, *_OWN])

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: Any = None,
        timesteps: Any = None,
        mu: float | None = None,
    ) -> None:
        """Chooses the plan of `num_inference_steps` evaluations.

        Noise levels belong to the plan: of `sigmas` (which flow pipelines pass by themselves) the number counts alone, and `mu` is not
        used.

        Raises ValueError if there is no such plan, or if timesteps are asked for.
        """
        if timesteps is not None:
            raise ValueError("PlanScheduler has the timesteps of its plan: leave out timesteps=")
        steps = len(sigmas) if num_inference_steps is None and sigmas is not None else num_inference_steps
        if steps not in self._plans:
            known = ", ".join(map(str, sorted(self._plans)))
            raise ValueError(
                f"PlanScheduler was asked for {steps} steps and has plans of {known}: pass one of these as num_inference_steps"
            )
        self._use(steps, device)

    def _use(self, steps: int, device: Any) -> None:
        self._plan = self._plans[steps]
        self.num_inference_steps = steps
        self._dress = _Dress(self.parameterisation, noise_alone=False)
        levels = self._plan.sigmas
        labels = [self._dress(sigma)[3] for sigma in levels]
        if self.parameterisation.is_flow:  # its pipelines begin with noise alone
            labels[0] = _Dress(self.parameterisation, noise_alone=True)(levels[0])[3]
        self.timesteps = torch.tensor(labels, dtype=torch.float32, device=device)
        self.sigmas = torch.tensor([*levels, 0.0], dtype=torch.float32, device=device)
        self._steps: Steps | None = None
        self._noise: Any = None
        self._scaled: Any = None
        self._returned: Any = None

    @property
    def step_index(self) -> int:
        """The evaluation that comes next, from 0."""
        return 0 if self._steps is None else self._steps.step

    @property
    def begin_index(self) -> int | None:
        """Where the pipeline asked to begin."""
        return self._begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Pipelines that begin at the first step may say so; a plan cannot begin later."""
        if begin_index != 0:
            raise ValueError("a plan begins with its first evaluation: image-to-image pipelines cannot run it")
        self._begin_index = begin_index

    def scale_model_input(self, sample: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """The network's input: the first state from the pipeline's noise, later ones as `step` left them."""
        if self._steps is not None:
            return sample
        self._plan.check_shape(sample.shape[1:])
        state = Steps(self._plan, sample.float()).state
        self._noise, self._scaled = sample, (state * self._dress(self._plan.sigmas[0])[2]).to(sample.dtype)
        return self._scaled

    def step(
        self,
        model_output: torch.Tensor,
        timestep: Any,
        sample: torch.Tensor,
        generator: Any = None,
        return_dict: bool = True,
        **ignored: Any,
    ) -> SchedulerOutput | tuple[torch.Tensor]:
        """From the network's answer (after guidance) at this step to its input at the next, or to the sample."""
        steps = self._begin(sample) if self._steps is None else self._steps
        if steps.finished:
            raise ValueError(f"the plan has {steps.step} evaluations, and was asked for another: call set_timesteps first")
        c_skip, c_out, c_in, _ = self._dress(steps.sigmas[steps.step])
        if steps.step > 0 and sample is not self._returned:
            steps.state = sample.float() / c_in  # somebody changed it on the way
        state = steps.advance(steps.state * c_skip + model_output.float() * c_out)
        scale = 1.0 if steps.finished else self._dress(steps.sigmas[steps.step])[2]
        self._returned = (state * scale).to(sample.dtype)
        return SchedulerOutput(prev_sample=self._returned) if return_dict else (self._returned,)

    def _begin(self, sample: torch.Tensor) -> Steps:
        if self._scaled is None:
            if self._plan.uses_constant_first:
                raise ValueError(
                    "this pipeline hands its noise to the network as it is, so its plan must begin there: find one with "
                    "least_squares={'constant': False}"
                )
            self._dress = _Dress(self.parameterisation, noise_alone=True)
        self._plan.check_shape(sample.shape[1:])
        # some pipelines pass on what `scale_model_input` made of the noise, others the noise
        latent = self._noise if sample is self._scaled else sample
        self._noise = self._scaled = None
        self._steps = Steps(self._plan, latent.float())
        return self._steps

    def __len__(self) -> int:
        return self.num_inference_steps

    def __repr__(self) -> str:
        steps = ", ".join(map(str, sorted(self._plans)))
        kind = json.loads(self.parameterisation.to_json())
        return f"PlanScheduler(plans of {steps} evaluations, {kind.get('prediction', kind.get('type'))})"


#: Entries of PlanScheduler's configuration that other schedulers do not have, and those that diffusers keeps its own account by.
_OWN = ("plans", "parameterisation")
_OF_DIFFUSERS = ("_class_name", "_diffusers_version")


class _Stop(Exception):
    """Ends a pipeline once its call of the network is recorded."""


class _Probe:
    """A scheduler that lets a pipeline make one call of its network."""

    order = 1
    init_noise_sigma = 1.0

    def __init__(self, scheduler: Any, timestep: float) -> None:
        self.config = scheduler.config
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

    def scale_model_input(self, sample: Any, timestep: Any = None) -> Any:
        self.scales_input = True
        return sample

    def step(self, model_output: Any, timestep: Any, sample: Any, **_: Any) -> Any:
        self.output, self.sample = model_output.detach(), sample.detach()
        raise _Stop


class _Recording:
    """What a pipeline passed to its network in one call, and what it made of the answer."""

    def __init__(self, pipe: Any, network: Any, arguments: Mapping[str, Any], timestep: float) -> None:
        probe = _Probe(pipe.scheduler, timestep)
        calls: list[tuple[dict[str, Any], Any]] = []
        signature = inspect.signature(network.forward)

        def keep(_: Any, args: Any, kwargs: Any, output: Any) -> None:
            bound = signature.bind(*args, **kwargs).arguments
            calls.append(({name: value for name, value in bound.items() if name != "kwargs"}, _first(output).detach()))

        hook = network.register_forward_hook(keep, with_kwargs=True)
        before = pipe.scheduler
        silent = getattr(pipe, "_progress_bar_config", None)
        try:
            pipe.scheduler = probe
            pipe.set_progress_bar_config(disable=True)
            with torch.no_grad():
                pipe(**arguments)
        except _Stop:
            pass
        finally:
            hook.remove()
            pipe.scheduler = before
            pipe.set_progress_bar_config(**(silent or {}))
        if probe.output is None or len(calls) != 1:
            raise ValueError(
                f"{type(pipe).__name__} called its network {len(calls)} times in one step, and one call is what can be recorded"
            )
        (self.inputs, self.answer), self.output = calls[0], probe.output
        self.scales_input = probe.scales_input
        self.sample = next(iter(self.inputs.values()))


def _first(output: Any) -> Any:
    if isinstance(output, (tuple, list)):
        return output[0]
    return output.sample if hasattr(output, "sample") else output


def _without_variance(answer: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The first channels of images, as many as samples have: some networks learn a variance beside."""
    return answer[:, : shape[0]] if len(shape) == 3 else answer


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
        **arguments: Any,
    ) -> None:
        self.network = _network(pipe)
        if _drops_out(self.network):
            raise ValueError(f"the pipeline's {type(self.network).__name__} is in training mode, with dropout: call its eval() first")
        self.parameterisation = parameterisation or parameterisation_of(pipe.scheduler)
        _check_arguments(pipe, arguments)
        self.count, call = _call(pipe, of, guidance_scale, arguments)
        self._timestep = 500.0
        recording = _Recording(pipe, self.network, call, self._timestep)
        of_one, arguments = _one(of, arguments, self.count)
        alone = _Recording(pipe, self.network, _call(pipe, of_one, guidance_scale, arguments)[1], self._timestep)
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
        self._time_factor = float(torch.as_tensor(self._inputs[self._time_name]).flatten()[0]) / self._timestep
        self._rows = {
            name: _rows_of(value, alone.inputs.get(name), self.repeats, self.count)
            for name, value in self._inputs.items()
            if name not in (self._sample_name, self._time_name)
        }
        self._weights = _guidance(recording, self.repeats, self.count, self.shape, guidance_scale)
        self._dress = _Dress(self.parameterisation, noise_alone=not recording.scales_input)

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
        parts = _without_variance(_first(self.network(**inputs)), self.shape).to(x.dtype).chunk(self.repeats)
        total = sum(part * weight for part, weight in zip(parts, self._weights))
        return x * c_skip + total * c_out


def find_plans(
    pipe: Any,
    prompts_or_labels: Sequence[str] | Sequence[int] | int | None = None,
    *,
    steps: int | Sequence[int] = (4, 6, 8),
    guidance_scale: float | None = None,
    parameterisation: Parameterisation | None = None,
    arguments: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    effort: str = "low",
    **options: Any,
) -> Plans:
    """Finds plans for a pipeline, by what it passes to its `unet` or `transformer` in one step.

    Parameters
    ----------
    pipe
        A pipeline with weights; its scheduler says what the network predicts.
    prompts_or_labels
        Prompts or class labels that samples of the search are made for, in turn; nothing for pipelines without conditions.
    guidance_scale
        As the pipeline takes it. Plans hold for the guidance that they were found under.
    arguments
        More arguments of the pipeline's call, such as height and width, or `prompt_embeds` in place of prompts.
    effort, batch_size, options
        As `fewstep.find_plans`, whose defaults are for smaller networks.

    Warns of a scheduler that clips what the network predicts, as plans do not. Raises ValueError for a pipeline without `unet` or
    `transformer`, one whose guidance is no weighted sum of answers, and arguments that its call does not take.
    """
    denoiser = PipelineDenoiser(
        pipe, prompts_or_labels, guidance_scale=guidance_scale, parameterisation=parameterisation, **(arguments or {})
    )
    _warn_of_clipping(pipe.scheduler)
    if not denoiser.scales_input:  # the pipeline's noise is the network's first input
        options["least_squares"] = {"constant": False, **options.get("least_squares", {})}
    rows = list(range(denoiser.count))
    plans = find_plans_on(
        denoiser,
        shape=denoiser.shape,
        steps=steps,
        parameterisation=denoiser.parameterisation,
        conditions=rows,
        guidance=guidance_scale if denoiser.repeats > 1 else None,
        calls=denoiser.repeats,
        device=denoiser.device,
        dtype=torch.float32,
        batch_size=batch_size,
        effort=effort,
        **options,
    )
    return plans if denoiser.scales_input else plans.map(_from_noise_alone)


def _from_noise_alone(plan: Plan) -> Plan:
    """The plan with `sigma n` for its first state, where a search moved that coefficient a little: its later uses make up for it."""
    described = json.loads(plan.to_json())
    first = described["stages"][0]
    ratio = first["input"]["latent"] / first["sigma"]
    first["input"]["latent"] = first["sigma"]
    for combination in [stage["input"] for stage in described["stages"][1:]] + [described["output"]]:
        if "x0" in combination:
            combination["x0"] *= ratio
    return Plan.from_json(json.dumps(described))


def _network(pipe: Any) -> Any:
    for name in ("unet", "transformer"):
        network = getattr(pipe, name, None)
        if isinstance(network, torch.nn.Module):
            return network
    raise ValueError(f"{type(pipe).__name__} has no unet or transformer to find plans for")


def _drops_out(network: Any) -> bool:
    """Whether two calls of a network may give two answers."""
    dropouts = (module for module in network.modules() if isinstance(module, torch.nn.modules.dropout._DropoutNd))
    return any(module.training and module.p > 0 for module in dropouts)


def _one(of: Any, arguments: Mapping[str, Any], count: int) -> tuple[Any, dict[str, Any]]:
    """The same for the first sample alone."""
    first = {
        name: value[:1] if isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) == count else value
        for name, value in arguments.items()
    }
    if of is None and "prompt_embeds" in arguments:
        return None, first
    return (1 if of is None or isinstance(of, int) else [of][:1] if isinstance(of, str) else list(of)[:1]), first


# What pipelines call what their samples are of.
PROMPTS = ["prompt", "prompts"]
LABELS = ["class_labels", "labels", "classes", "class_ids"]


def _call(pipe: Any, of: Any, guidance_scale: float | None, arguments: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """How many samples there are, and the arguments of the pipeline's call for them."""
    known = inspect.signature(pipe.__call__).parameters
    call: dict[str, Any] = {"num_inference_steps": 1, "generator": torch.Generator().manual_seed(0), **arguments}
    if isinstance(of, str):
        of = [of]
    embeddings = arguments.get("prompt_embeds")
    if of is None and embeddings is not None:
        count = len(embeddings)
    elif of is None or isinstance(of, int):
        count = 2 if of is None else of
        if "batch_size" not in known:
            raise ValueError(f"{type(pipe).__name__} needs prompts, class labels or arguments={{'prompt_embeds': ...}}")
        call["batch_size"] = count
    else:
        items = list(of)
        count, words = len(items), bool(items) and isinstance(items[0], str)
        if not items:
            raise ValueError("there are no prompts or labels")
        name = next((name for name in (PROMPTS if words else LABELS) if name in known), None)
        if name is None:
            kind = "prompts" if words else "class labels"
            raise ValueError(
                f"{type(pipe).__name__} takes no {kind}: its arguments are {', '.join(known)}, and none is called "
                f"{' or '.join(PROMPTS if words else LABELS)}"
            )
        call[name] = items
    if guidance_scale is not None:
        if "guidance_scale" not in known:
            raise ValueError(f"{type(pipe).__name__} has no guidance_scale")
        call["guidance_scale"] = guidance_scale
    return count, {name: value for name, value in call.items() if name in known or name in arguments}


def _check_arguments(pipe: Any, given: Mapping[str, Any]) -> None:
    """Refuses what the pipeline's call does not take; where it takes anything, warns of what looks like a slip."""
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
            warnings.warn(f"the call of {kind} names no argument {name!r}, which may be lost: did you mean {near[0]!r}?", stacklevel=4)


def _rows_of(value: Any, alone: Any, repeats: int, count: int) -> Any:
    """How rows are picked from an argument of the network: by sample where its length goes with the number of samples."""
    if isinstance(value, Mapping):
        inner = {name: _rows_of(item, (alone or {}).get(name), repeats, count) for name, item in value.items()}
        return lambda given, rows: {name: inner[name](item, rows) for name, item in given.items()}
    if isinstance(value, (tuple, list)):
        others = alone if isinstance(alone, (tuple, list)) else [None] * len(value)
        picks = [_rows_of(item, other, repeats, count) for item, other in zip(value, others)]
        return lambda given, rows: type(given)(pick(item, rows) for pick, item in zip(picks, given))
    by_sample = isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) == repeats * count
    if by_sample and count > 1 and isinstance(alone, torch.Tensor):
        by_sample = len(alone) == repeats
    return (lambda given, rows: given[rows]) if by_sample else (lambda given, rows: given)


def _guidance(
    recording: _Recording, repeats: int, count: int, shape: tuple[int, ...], scale: float | None
) -> list[float]:
    """The weights in which the pipeline adds the network's answers, found from one call and checked on it."""
    answer = _without_variance(recording.answer, shape)
    table = torch.stack([part.double().flatten() for part in answer.chunk(repeats)], 1).cpu()
    wanted = recording.output[:count].double().flatten().cpu()
    tolerance = 50 * torch.finfo(answer.dtype).eps * float(table.abs().max()) * len(wanted) ** 0.5

    def rest(weights: list[float]) -> float:
        return float((table @ torch.tensor(weights, dtype=torch.float64) - wanted).norm())

    usual = [[1.0]] if repeats == 1 else []
    if repeats == 2 and scale is not None:
        usual = [[1 - scale, scale], [scale, 1 - scale]]
    fitted = torch.linalg.lstsq(table, wanted[:, None]).solution.flatten().tolist()
    for weights in [*usual, fitted]:
        if rest(weights) <= tolerance * (1 + sum(map(abs, weights))):
            return weights
    raise ValueError("the pipeline's guidance is no weighted sum of the network's answers: it cannot be replayed")
