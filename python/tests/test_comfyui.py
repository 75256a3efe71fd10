"""The nodes against a stand-in of ComfyUI's sampler interface: its conventions for eps and v models, and for flows."""

import json
import math
import os
import sys
import types

import mixture
import pytest
import torch

import fewstep
from comfyui_fewstep import NODE_CLASS_MAPPINGS
from comfyui_fewstep.nodes import levels, sampler
from fewstep._steps import Steps


class EPS:
    """Canonical states x = y + sigma n."""

    sigma_max = 80.0

    def noise_scaling(self, sigma, noise, latent_image, max_denoise):
        return noise * (math.sqrt(1 + sigma**2) if max_denoise else sigma) + latent_image

    def denoised(self, x, sigma):
        return mixture.torch(x, sigma)


class CONST:
    """States (1 - t) y + t n, sigma = t."""

    sigma_max = 1.0

    def noise_scaling(self, sigma, noise, latent_image, max_denoise):
        return sigma * noise + (1 - sigma) * latent_image

    def denoised(self, x, sigma):
        return mixture.torch(x / (1 - sigma[:, None]), sigma / (1 - sigma))


class V(EPS):
    pass


#: As ComfyUI calls it, within a model's own class.
VPrediction = type("ModelSampling", (type("V_PREDICTION", (EPS,), {}),), {})


class Wrapper:
    """What KSAMPLER hands to samplers: around the guider, which is around the model."""

    def __init__(self, sampling, latent_image):
        model = types.SimpleNamespace(model_sampling=sampling)
        self.inner_model = types.SimpleNamespace(inner_model=model)
        self.latent_image = latent_image


def run(sampling, plan, noise):
    """As ComfyUI's KSAMPLER calls a sampler."""

    class Model(Wrapper):
        def __call__(self, x, sigma, **extra):
            assert sigma.shape == (len(x),) and extra == {"seed": 1}
            return sampling.denoised(x, sigma)

    sigmas = levels(plan, sampling)
    largest = float(sampling.sigma_max)
    max_denoise = math.isclose(largest, float(sigmas[0]), rel_tol=1e-5) or float(sigmas[0]) > largest
    x = sampling.noise_scaling(float(sigmas[0]), noise, torch.zeros_like(noise), max_denoise)
    seen = []
    made = sampler(plan)(Model(sampling, torch.zeros_like(noise)), x, sigmas, extra_args={"seed": 1}, callback=lambda state: seen.append(state["i"]))
    assert seen == list(range(plan.nfe))
    return made


@pytest.mark.parametrize("kind", [EPS, V, CONST])
def test_all_coefficients_run(kind):
    plans = fewstep.find_plans(
        mixture.torch, shape=(5,), steps=[4], sigma_range=(0.002, 80), dtype=torch.float32, progress=False, effort="low"
    )
    noise = torch.from_numpy(fewstep.latents(range(4), (5,)))
    # the last begins below the greatest level, where ComfyUI's noise has another size
    for plan in (plans[4], *(fewstep.Plan.of_solver("dpmpp3m", [first, 5.0, 1.0, 0.2]) for first in (80.0, 20.0))):
        expected = plan.sample(mixture.torch, noise)
        assert torch.allclose(run(kind(), plan, noise), expected, atol=2e-4), plan


def test_a_plan_is_of_one_size():
    plans = fewstep.find_plans(
        lambda x, sigma: x * 0.25 / (0.25 + sigma**2) + 0.1, shape=(4, 8, 8), steps=[2, 3, 4], sigma_range=(0.002, 80),
        dtype=torch.float32, progress=False, effort="low", held_out=0,
    )  # fmt: skip
    assert any(plan.constant is not None for plan in plans.values())
    without = fewstep.find_plans(
        lambda x, sigma: x * 0.25 / (0.25 + sigma**2), shape=(4, 8, 8), steps=[2], sigma_range=(0.002, 80), method="oss/euler",
        dtype=torch.float32, progress=False, effort="low", held_out=0,
    )  # fmt: skip
    for plan in (*plans.values(), without[2]):
        Steps(plan, torch.zeros(1, 4, 8, 8))
        with pytest.raises(ValueError, match="for samples of shape .4, 8, 8., the latents are of .4, 16, 8."):
            Steps(plan, torch.zeros(1, 4, 16, 8))


def test_a_flow_takes_plans_of_flows():
    flow, eps = fewstep.Parameterisation.flow(), fewstep.Parameterisation.eps()
    for of, fits, other in ((flow, CONST, EPS), (eps, EPS, CONST)):
        denoise = of.denoiser(lambda x, t: 0.1 * x)
        plan = fewstep.find_plans(denoise, shape=(5,), steps=2, effort="low", dtype=torch.float32, held_out=0, progress=False)[2]
        levels(plan, fits())
        with pytest.raises(ValueError, match="found for a network of the parameterisation (flow|eps), and this model is of (eps|flow): find one on it"):
            levels(plan, other())
        with pytest.raises(ValueError, match="of the parameterisation (flow|eps), and this model is of v: find one on it"):
            levels(plan, VPrediction())
    plan = fewstep.Plan.from_json(plan.to_json().replace('"eps"', '"vp"'))  # which ComfyUI does not name
    levels(plan, EPS())
    with pytest.raises(ValueError, match="of the parameterisation vp, and this model is of flow"):
        levels(plan, CONST())


def test_levels_that_the_model_does_not_know_are_refused():
    for first in (80.0, 1e4):  # of noise alone
        levels(fewstep.Plan.of_solver("euler", [first, 79.0, 1.0]), EPS())
    plan = fewstep.Plan.of_solver("euler", [100.0, 90.0, 1.0])
    with pytest.raises(ValueError, match="the plan asks the network at noise level 90, and this model knows levels up to 80: find a plan on it"):
        levels(plan, EPS())
    described = json.loads(fewstep.Plan.of_solver("euler", [100.0, 1.0]).to_json())
    described["stages"][0]["input"]["latent"] *= 0.9
    with pytest.raises(ValueError, match="at noise level 100, and this model knows"):
        levels(fewstep.Plan.from_json(json.dumps(described)), EPS())
    levels(fewstep.Plan.of_solver("euler", [1e6, 1e3, 1.0]), CONST())  # times t = sigma / (1 + sigma)


def test_nodes(tmp_path, monkeypatch):
    plan = fewstep.Plan.of_solver("euler", [10.0, 1.0])
    path = tmp_path / "plan.json"
    plan.save(path)
    comfy = types.ModuleType("comfy")
    comfy.samplers = types.ModuleType("comfy.samplers")
    comfy.samplers.KSAMPLER = lambda function: function
    monkeypatch.setitem(sys.modules, "comfy", comfy)
    monkeypatch.setitem(sys.modules, "comfy.samplers", comfy.samplers)
    for name, node in NODE_CLASS_MAPPINGS.items():
        inputs = node.INPUT_TYPES()["required"]
        assert inputs["plan"][0] == "STRING" and hasattr(node, node.FUNCTION), name
        before = node.IS_CHANGED(*[None] * (len(inputs) - 1), str(path))
        os.utime(path, (1, 1))
        assert node.IS_CHANGED(*[None] * (len(inputs) - 1), str(path)) != before, name
        os.utime(path)
    model = types.SimpleNamespace(get_model_object=lambda name: CONST())
    (sigmas,) = NODE_CLASS_MAPPINGS["FewstepSigmas"]().sigmas(model, str(path))
    assert torch.allclose(sigmas, torch.tensor([10 / 11, 0.5, 0.0]))
    (function,) = NODE_CLASS_MAPPINGS["FewstepSampler"]().sampler(str(path))
    with pytest.raises(ValueError, match="connect the SIGMAS of the same plan"):
        function(Wrapper(EPS(), None), torch.zeros(1, 5), torch.tensor([3.0, 0.0]))
    given = torch.zeros(1, 5), levels(plan, EPS())
    with pytest.raises(ValueError, match="the latent holds an image: connect an empty latent"):
        function(Wrapper(EPS(), torch.ones(1, 5)), *given)

    class Broken(Wrapper):
        def __call__(self, x, sigma):
            return x * math.nan

    with pytest.raises(FloatingPointError, match="the model's answer at sigma 10 is not finite"):
        function(Broken(EPS(), torch.full((1, 5), 0.02)), *given)
    with pytest.raises(FileNotFoundError, match="there is no plan file"):
        NODE_CLASS_MAPPINGS["FewstepSampler"]().sampler(str(tmp_path / "none.json"))
