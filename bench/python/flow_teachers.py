"""How far samplers of 35 evaluations, and Euler's, are from the solution of a flow's equation, on the DiT of fashion_models.py.

    python bench/python/flow_teachers.py MODEL

Mean squared difference of a value, over 32 latents, from UniPC-3 on 160 levels: half of them uniform in the flow's time, half of rho = 7.
Two minutes of two cores. Needs `pip install ./python diffusers`.
"""

import sys

import numpy as np
import torch
from fashion_models import CLASSES, FashionPipeline

import fewstep

SAMPLES = 32


def uniform(n):
    t = np.linspace(0.999, 0.001, n)
    return t / (1 - t)


def rho_7(n):
    ends = np.array([0.999 / 0.001, 0.001 / 0.999]) ** (1 / 7)
    return np.linspace(*ends, n) ** 7


def both(n):
    return np.unique(np.concatenate([uniform(n // 2), rho_7(n - n // 2)]).round(9))[::-1]


@torch.no_grad()
def main(model):
    network = FashionPipeline.load(model).network
    labels = torch.arange(SAMPLES) % CLASSES
    flow = fewstep.Parameterisation.flow()
    denoise = flow.denoiser(lambda x, t: network(x, timestep=t, class_labels=labels).sample)
    latents = fewstep.latents(range(SAMPLES), (1, 32, 32), like=torch.zeros(1))

    def samples(solver, levels):
        return fewstep.Plan.of_solver(solver, list(levels)).sample(denoise, latents)

    solution = samples("unipc3_bh2", both(160))
    for name, solver, levels in [
        ("Heun, rho = 7, 35 evaluations", "heun", rho_7(18)),
        ("DPM-Solver++ 2M, rho = 7, 35 evaluations", "dpmpp2m", rho_7(35)),
        ("Heun, uniform in time, 35 evaluations", "heun", uniform(18)),
        ("DPM-Solver++ 2M, uniform in time, 35 evaluations", "dpmpp2m", uniform(35)),
        ("Euler, uniform in time, 200 evaluations", "euler", uniform(200)),
    ]:
        print(f"{name}: {float(((samples(solver, levels) - solution) ** 2).mean()):.2g}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
