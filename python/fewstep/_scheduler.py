"""What a scheduler of diffusers says of its pipeline's network."""

from __future__ import annotations

from typing import Any

from ._checks import warn
from ._parameterisation import Parameterisation


def parameterisation_of(scheduler: Any) -> Parameterisation:
    """How the networks of pipelines with this scheduler predict, by the scheduler's configuration.

    Raises ValueError for a scheduler that says neither a noise table nor flow matching.
    """
    own = getattr(scheduler, "parameterisation", None)
    if isinstance(own, Parameterisation):
        return own
    config = config_of(scheduler)
    prediction = config.get("prediction_type", "epsilon")
    if config.get("invert_sigmas"):
        raise ValueError(
            f"{type(scheduler).__name__} with invert_sigmas=True counts its flow from noise to data, which plans in pipelines do not know: "
            "search on a callable of its network, with fewstep.find_plans"
        )
    flow = "FlowMatch" in type(scheduler).__name__ or prediction == "flow_prediction" or config.get("use_flow_sigmas")
    if flow:
        times = config.get("num_train_timesteps", 1000)
        if times not in (1, 1000):
            raise ValueError(
                f"{type(scheduler).__name__} with num_train_timesteps={times!r} counts a flow's times up to that, and plans know those up to 1 "
                "and 1000: search on a callable of its network, with fewstep.find_plans"
            )
        shift = float(config.get("shift") or config.get("flow_shift") or 1.0)
        return Parameterisation.flow(shift=shift, timestep="t" if times == 1 else "1000t")
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


def config_of(scheduler: Any) -> Any:
    """A scheduler's configuration."""
    if not hasattr(scheduler, "config"):
        raise TypeError(f"a scheduler of diffusers, which has a configuration, is needed, and {scheduler!r} is none")
    return scheduler.config


def given_or_of(parameterisation: Any, scheduler: Any) -> Parameterisation:
    """The parameterisation that was given, or the scheduler's."""
    if parameterisation is not None and not isinstance(parameterisation, Parameterisation):
        raise TypeError(f"parameterisation must be a fewstep.Parameterisation, and is {parameterisation!r}")
    return parameterisation or parameterisation_of(scheduler)


def warn_of_clipping(scheduler: Any) -> None:
    """Plans know the network alone, not what a scheduler makes of its answers."""
    config = config_of(scheduler)
    how = [name for name in ("clip_sample", "thresholding") if config.get(name)]
    if how:
        name = type(scheduler).__name__
        warn(
            f"{name} clips what the network predicts ({how[0]}=True), and plans do not, nor does the teacher that they are fitted to: "
            f"its samples may differ from theirs unless you set {how[0]}=False in it"
        )


#: A flow's noise level at t = 1, to all digits.
_NOISE_ALONE = 1e30


class Dress:
    """The coefficients of a parameterisation in pipelines.

    Pipelines that do not call `scale_model_input` hand their unit noise to the network as it is. The first state is then taken for
    noise alone, in the search as in the pipeline: `c_in = 1 / sigma`, and a flow is at t = 1.
    """

    def __init__(self, of: Parameterisation, noise_alone: bool) -> None:
        self.of, self.noise_alone = of, noise_alone
        self.top = of.sigma_range[1] * (1 - 1e-6)

    def __call__(self, sigma: float) -> tuple[float, float, float, float]:
        c_skip, c_out, c_in, c_noise = self.of.coefficients(sigma)
        if not self.noise_alone or sigma < self.top:
            return c_skip, c_out, c_in, c_noise
        if self.of.is_flow:
            _, c_out, _, c_noise = self.of.coefficients(_NOISE_ALONE)
            return 1 / sigma, c_out, 1 / sigma, c_noise
        return c_skip, c_out, 1 / sigma, c_noise
