"""The nodes."""

from __future__ import annotations

import math
import os
from typing import Any

import torch

from fewstep import Plan
from fewstep._steps import Steps


#: Values of a latent that is empty, at most: some models' are not exactly 0.
EMPTY = 0.1


#: What plans call the parameterisations of ComfyUI's kinds of models.
PARAMETERISATIONS = {"CONST": "flow", "EDM": "edm", "V_PREDICTION": "v", "X0": "x0", "EPS": "eps"}


def parameterisation_of(model_sampling: Any) -> str | None:
    """What plans call a model's parameterisation, if that can be told; of kinds that derive from others, the first."""
    kinds = (kind.__name__ for kind in type(model_sampling).__mro__)
    return next((PARAMETERISATIONS[name] for name in kinds if name in PARAMETERISATIONS), None)


def is_flow(model_sampling: Any) -> bool:
    """Whether a model's states are `(1 - t) y + t n` and its sigma is t: ComfyUI's kind CONST."""
    return parameterisation_of(model_sampling) == "flow"


def levels(plan: Plan, model_sampling: Any) -> torch.Tensor:
    """The plan's noise levels as ComfyUI counts them for this model, with the final 0.

    Raises ValueError for a plan of a network of another parameterisation, and for levels above those that the model knows, but for a first
    that is of noise alone.
    """
    sigmas, found_for, known = plan.sigmas, plan.metadata.get("parameterisation"), parameterisation_of(model_sampling)
    is_named = known is not None and found_for in PARAMETERISATIONS.values()
    if found_for is not None and ((found_for == "flow") != (known == "flow") or (is_named and found_for != known)):
        kind = "no flow" if known is None else f"of {known}"
        raise ValueError(f"the plan was found for a network of the parameterisation {found_for}, and this model is {kind}: find one on it")
    if is_flow(model_sampling):
        sigmas = [sigma / (1 + sigma) for sigma in sigmas]
    greatest = float(model_sampling.sigma_max)
    of_images = sigmas[1:] if plan.begins_with_noise_alone else sigmas
    above = [sigma for sigma in of_images if sigma > greatest * (1 + 1e-4)]
    if above:
        raise ValueError(
            f"the plan asks the network at noise level {above[0]:.6g}, and this model knows levels up to {greatest:.6g}: find a plan on it"
        )
    return torch.tensor([*sigmas, 0.0], dtype=torch.float32)


def sampler(plan: Plan) -> Any:
    """A function of ComfyUI's sampler interface that runs every evaluation and coefficient of the plan."""

    def sample(
        model: Any, x: Any, sigmas: Any, extra_args: Any = None, callback: Any = None, disable: Any = None, **_: Any
    ) -> Any:
        # KSAMPLER's wrapper holds the guider, and that the model
        sampling = model.inner_model.inner_model.model_sampling
        image = getattr(model, "latent_image", None)
        if image is not None and float(image.abs().max()) > EMPTY:
            raise ValueError("a plan begins with noise alone, and the latent holds an image: connect an empty latent")
        expected = levels(plan, sampling)
        if len(sigmas) != len(expected) or not torch.allclose(sigmas.cpu().float(), expected, rtol=1e-3, atol=1e-5):
            raise ValueError(
                f"the sampler's plan has the noise levels {[round(float(s), 4) for s in expected]}, but was given others: connect "
                "the SIGMAS of the same plan"
            )
        flow, extra = is_flow(sampling), extra_args or {}
        ones = x.new_ones([x.shape[0]])
        steps = Steps(plan, (x / _scale_of_noise(sampling, float(sigmas[0]), flow)).float())
        while not steps.finished:
            sigma = steps.sigmas[steps.step]
            given, level = (steps.state / (1 + sigma), sigma / (1 + sigma)) if flow else (steps.state, sigma)
            denoised = model(given.to(x.dtype), level * ones, **extra)
            if not bool(torch.isfinite(denoised).all()):
                raise FloatingPointError(f"the model's answer at sigma {level:.6g} is not finite: its precision may not hold such values")
            if callback is not None:
                callback({"x": given, "i": steps.step, "sigma": level, "sigma_hat": level, "denoised": denoised})
            steps.advance(denoised.float())
        return steps.state.to(x.dtype)

    return sample


def _scale_of_noise(sampling: Any, sigma: float, flow: bool) -> float:
    """What ComfyUI has multiplied unit noise by."""
    largest = float(sampling.sigma_max)
    if not flow and (math.isclose(largest, sigma, rel_tol=1e-5) or sigma > largest):
        return math.sqrt(1 + sigma**2)
    return sigma


def _load(path: str) -> Plan:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no plan file {path!r}: give the path of a plan.json of fewstep's")
    return Plan.load(path)


def _version(path: str) -> float:
    """What changes when a file does: ComfyUI runs a node again where it differs."""
    return os.path.getmtime(path) if os.path.isfile(path) else math.nan


class FewstepSigmas:
    """The noise levels of a plan."""

    CATEGORY = "sampling/custom_sampling/schedulers"
    RETURN_TYPES = ("SIGMAS",)
    FUNCTION = "sigmas"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"model": ("MODEL",), "plan": ("STRING", {"default": "plan.json"})}}

    @classmethod
    def IS_CHANGED(cls, model: Any, plan: str) -> float:
        return _version(plan)

    def sigmas(self, model: Any, plan: str) -> tuple[torch.Tensor]:
        return (levels(_load(plan), model.get_model_object("model_sampling")),)


class FewstepSampler:
    """The sampler of a plan."""

    CATEGORY = "sampling/custom_sampling/samplers"
    RETURN_TYPES = ("SAMPLER",)
    FUNCTION = "sampler"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"plan": ("STRING", {"default": "plan.json"})}}

    @classmethod
    def IS_CHANGED(cls, plan: str) -> float:
        return _version(plan)

    def sampler(self, plan: str) -> tuple[Any]:
        from comfy.samplers import KSAMPLER

        return (KSAMPLER(sampler(_load(plan))),)


NODE_CLASS_MAPPINGS = {"FewstepSigmas": FewstepSigmas, "FewstepSampler": FewstepSampler}
NODE_DISPLAY_NAME_MAPPINGS = {"FewstepSigmas": "fewstep: sigmas of a plan", "FewstepSampler": "fewstep: sampler of a plan"}
