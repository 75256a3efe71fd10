"""fewstep: few-step samplers fitted to a pretrained diffusion or flow model.

    plans = fewstep.find_plans(denoise, shape=(3, 32, 32), steps=[4, 6, 8], sigma_range=(0.002, 80))
    samples = plans[6].sample(denoise, latents)

`denoise(x, sigma)` is any callable on torch tensors or NumPy arrays; `Parameterisation` makes one of a network that predicts eps, v,
x0 or a velocity. `fewstep.diffusers` finds plans for pipelines and runs them there.
"""

from ._fewstep import HELD_OUT_SEEDS
from ._parameterisation import Denoiser, Parameterisation
from ._plan import Plan, Plans
from ._search import default_settings, find_plans, latents, search_cost

__all__ = [
    "HELD_OUT_SEEDS",
    "Denoiser",
    "Parameterisation",
    "Plan",
    "Plans",
    "default_settings",
    "find_plans",
    "latents",
    "search_cost",
]
