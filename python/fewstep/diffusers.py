"""Plans for diffusers: found on a pipeline, and run in it by `PlanScheduler`.

    plans = fewstep.diffusers.find_plans(pipe, prompts, steps=[4, 6, 8], guidance_scale=7.5)
    pipe.scheduler = fewstep.diffusers.PlanScheduler.from_plans(plans, pipe.scheduler)
    images = pipe(prompt, num_inference_steps=6, guidance_scale=7.5).images
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput

from ._checks import sigma_range, whole
from ._parameterisation import Parameterisation
from ._pipeline import PipelineDenoiser
from ._plan import Plan, Plans
from ._recording import without_variance
from ._scheduler import Dress, given_or_of, parameterisation_of, warn_of_clipping
from ._search import find_plans as find_plans_on
from ._steps import Steps

__all__ = ["PipelineDenoiser", "PlanScheduler", "find_plans", "parameterisation_of"]


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
        read = [Plan.from_json(json.dumps(mapping)) for mapping in plans]
        self._plans = {plan.nfe: plan for plan in read}
        if len(self._plans) < len(read):
            raise ValueError(f"PlanScheduler takes one plan for each number of steps, and was given {sorted(plan.nfe for plan in read)}")
        if any(plan.constant is not None and len(plan.constant) > 1 for plan in self._plans.values()):
            raise ValueError("a plan holds a sample for every class, and pipelines do not tell a scheduler their labels")
        if not self._plans:
            raise ValueError("PlanScheduler needs at least one plan")
        self.parameterisation = Parameterisation.from_json(json.dumps(parameterisation))
        for plan in read:
            plan.check_network(self.parameterisation, noise_alone=True)
        self._begin_index: int | None = None
        self._use(next(iter(self._plans)), None)

    @classmethod
    def from_plans(
        cls, plans: Plan | Plans | Iterable[Plan], scheduler: Any, parameterisation: Parameterisation | None = None
    ) -> PlanScheduler:
        """The scheduler of these plans, found or loaded, for pipelines that had `scheduler`.

        Warns where that clips what the network predicts, as plans do not. Raises ValueError for plans of a network of another
        parameterisation, for noise levels that it does not know, and for two plans of one number of steps.
        """
        plans = [plans] if isinstance(plans, Plan) else plans.values() if isinstance(plans, Mapping) else plans
        plans = list(plans) if isinstance(plans, Iterable) else [plans]
        if not all(isinstance(plan, Plan) for plan in plans):
            raise TypeError("from_plans takes a plan, plans of find_plans or Plans.load, or a list of plans")
        of = given_or_of(parameterisation, scheduler)
        warn_of_clipping(scheduler)
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
        steps = whole("num_inference_steps", steps, 1)
        if steps not in self._plans:
            known = ", ".join(map(str, sorted(self._plans)))
            raise ValueError(
                f"PlanScheduler was asked for {steps} steps and has plans of {known}: pass one of these as num_inference_steps"
            )
        self._use(steps, device)

    def _use(self, steps: int, device: Any) -> None:
        self._plan = self._plans[steps]
        self.num_inference_steps = steps
        self._dress = Dress(self.parameterisation, noise_alone=False)
        levels = self._plan.sigmas
        labels = [self._dress(sigma)[3] for sigma in levels]
        if self.parameterisation.is_flow:  # its pipelines begin with noise alone, but for those that call `scale_model_input`
            labels[0] = Dress(self.parameterisation, noise_alone=True)(levels[0])[3]
        self.timesteps = torch.tensor(labels, dtype=torch.float32, device=device)
        self.sigmas = torch.tensor([*levels, 0.0], dtype=torch.float32, device=device)
        self._steps: Steps | None = None
        self._noise: Any = None
        self._scaled: Any = None
        self._returned: Any = None
        self._as_returned: Any = None

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

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: Any) -> torch.Tensor:
        """Refuses what image-to-image and inpainting pipelines ask for: a plan begins with noise alone."""
        raise ValueError("a plan begins with noise alone: image-to-image and inpainting pipelines cannot run it")

    scale_noise = add_noise  # as flows call it

    def scale_model_input(self, sample: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """The network's input: the first state from the pipeline's noise, later ones as `step` left them."""
        if self._steps is not None:
            return sample
        self._plan.check_shape(sample.shape[1:])
        state = Steps(self._plan, sample.float()).state
        _, _, c_in, c_noise = self._dress(self._plan.sigmas[0])
        self.timesteps[0] = c_noise  # in place: pipelines hold views of it
        self._noise, self._scaled = sample, (state * c_in).to(sample.dtype)
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
        """From the network's answer (after guidance) at this step to its input at the next, or to the sample.

        Raises FloatingPointError if the answer is not finite.
        """
        steps = self._begin(sample) if self._steps is None else self._steps
        if steps.finished:
            raise ValueError(f"the plan has {steps.step} evaluations, and was asked for another: call set_timesteps first")
        model_output = without_variance(model_output, tuple(sample.shape[1:]))
        if model_output.shape != sample.shape:
            raise ValueError(
                f"the network's answer is of shape {list(model_output.shape)}, and the sample is of {list(sample.shape)}: they must be alike"
            )
        sigma = steps.sigmas[steps.step]
        if not bool(torch.isfinite(model_output).all()):
            whose = "the network's answer" if bool(torch.isfinite(sample).all()) else "the sample that the network was given"
            raise FloatingPointError(
                f"{whose} in the pipeline at sigma {sigma:.6g} is not finite: check the latents, the embeddings, and that the network's "
                "precision holds such values"
            )
        c_skip, c_out, c_in, _ = self._dress(sigma)
        if steps.step > 0 and (sample is not self._returned or not _unchanged(sample, self._as_returned)):
            steps.state = sample.float() / c_in  # somebody changed it on the way
        state = steps.advance(steps.state * c_skip + model_output.float() * c_out)
        scale = 1.0 if steps.finished else self._dress(steps.sigmas[steps.step])[2]
        self._returned = (state * scale).to(sample.dtype)
        self._as_returned = _account_of(self._returned)
        return SchedulerOutput(prev_sample=self._returned) if return_dict else (self._returned,)

    def _begin(self, sample: torch.Tensor) -> Steps:
        if self._scaled is None:
            self._dress = Dress(self.parameterisation, noise_alone=True)
            if self._plan.sigmas[0] < self._dress.top or not self._plan.begins_with_noise_alone:
                top = self.parameterisation.sigma_range[1]
                raise ValueError(
                    f"this pipeline hands its noise to the network as it is, so its plan must begin with noise alone at {top:.6g}, and this "
                    f"one begins otherwise, at {self._plan.sigmas[0]:.6g}: find one on the pipeline"
                )
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


def _account_of(tensor: torch.Tensor) -> Any:
    """By what `_unchanged` knows a tensor: how often it was changed in place, or a copy of one of inference mode, which does not count."""
    return tensor.clone() if tensor.is_inference() else tensor._version


def _unchanged(tensor: torch.Tensor, account: Any) -> bool:
    return torch.equal(tensor, account) if tensor.is_inference() else tensor._version == account


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

    The other arguments of `fewstep.find_plans` follow from the pipeline. Warns of a scheduler that clips what the network predicts, as
    plans do not. Raises ValueError for a pipeline without `unet` or `transformer`, one that calls it more than once a step, one that
    gives it more that changes from step to step than the sample and its time, as with a ControlNet, one whose guidance is no weighted
    sum of answers, and arguments that its call does not take.
    """
    taken = [name for name in _FROM_PIPELINE if name in options]
    if taken:
        instead = "guidance_scale=" if taken[0] == "guidance" else "arguments= for what its call takes"
        raise TypeError(f"find_plans on a pipeline has {taken[0]} of the pipeline's: leave out {taken[0]}=, and pass {instead}")
    greatest = None if options.get("sigma_range") is None else sigma_range(options["sigma_range"])[1]
    denoiser = PipelineDenoiser(
        pipe, prompts_or_labels, guidance_scale=guidance_scale, parameterisation=parameterisation, arguments=arguments
    )
    warn_of_clipping(pipe.scheduler)
    if not denoiser.scales_input:  # the pipeline's noise is the network's first input
        for stage, setting in (("least_squares", "constant"), ("gauss_newton", "first_state")):
            given = options.get(stage, {})
            options[stage] = {setting: False, **given} if isinstance(given, Mapping) else given  # the search refuses what is no dict
        top = denoiser.parameterisation.sigma_range[1]
        if greatest is not None and greatest < top * (1 - 1e-6):
            raise ValueError(
                f"this pipeline hands its noise to the network as it is, so plans begin at the greatest noise level, {top:.6g}: "
                f"sigma_range must end there, and is {options['sigma_range']!r}"
            )
    if any(getattr(pipe, name, None) is not None for name in ("vae", "vqvae")):
        options.setdefault("images", False)  # latents, of any number of channels
    rows = list(range(denoiser.count))
    return find_plans_on(
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


#: What `find_plans` knows from the pipeline.
_FROM_PIPELINE = ("guidance", "conditions", "classes", "calls", "shape", "sigma_per_sample", "like", "device", "dtype")
