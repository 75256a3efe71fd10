"""Plans for score networks that this project did not make: galaxies of the Hyper Suprime-Cam survey, 32 and 64 pixels.

    pip install ./python torch && python bench/python/galaxies.py [OUT.md]

The networks are those of galaxygrad 0.1.9 (PyPI), fetched by pip into a folder of their own and read from there; nothing of it is kept.
They are VP score networks: x_t = exp(-t / 2) x_0 + sqrt(1 - exp(-t)) z, t in [0, 10], which is sigma = sqrt(exp(t) - 1). The table has the
rollout error (mean squared difference of a value from a Heun teacher's sample, 256 latents that no search saw) of our plans and of
public solvers on rho = 7 and on uniform log-SNR. About ten minutes of two cores.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import fewstep

PACKAGE = "galaxygrad==0.1.9"
RANGE = (0.02, float(np.sqrt(np.exp(10) - 1)))
STEPS = [4, 5, 6, 8, 10]
METHODS = [
    "least-squares+gauss-newton+moments",
    "least-squares+gauss-newton",
    "karras/euler",
    "karras/dpmpp3m",
    "karras/ipndm4",
    "log_snr/dpmpp3m",
    "log_snr/ipndm4",
    "gits/ipndm4",
    "oss/ipndm4",
]
TEACHER_STEPS = 64
HELD_OUT = 256


class Mixer(nn.Module):
    def __init__(self, hidden, patches, width=512):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm((hidden, patches)), nn.LayerNorm((patches, hidden))
        self.patch = nn.Sequential(nn.Linear(patches, width), nn.ReLU(), nn.Linear(width, patches))
        self.hidden = nn.Sequential(nn.Linear(hidden, width), nn.ReLU(), nn.Linear(width, hidden))

    def forward(self, y):
        y = y + self.patch(self.norm1(y))
        y = y.transpose(1, 2)
        y = y + self.hidden(self.norm2(y))
        return y.transpose(1, 2)


class ScoreNet(nn.Module):
    """The score at time t of `y` `[N, 1, size, size]`."""

    def __init__(self, size, patch=4, hidden=64, blocks=4):
        super().__init__()
        self.side = size // patch
        self.conv_in = nn.Conv2d(2, hidden, patch, patch)
        self.conv_out = nn.ConvTranspose2d(hidden, 1, patch, patch)
        self.blocks = nn.ModuleList(Mixer(hidden, self.side**2) for _ in range(blocks))
        self.norm = nn.LayerNorm((hidden, self.side**2))

    def forward(self, y, t):
        y = self.conv_in(torch.cat([y, torch.full_like(y, t / 10)], 1)).flatten(2)
        for block in self.blocks:
            y = block(y)
        return self.conv_out(self.norm(y).unflatten(2, (self.side, self.side)))

    def load(self, path):
        """Reads arrays in the order of the original's fields: concatenated .npy."""
        with open(path, "rb") as file:

            def array():
                return torch.from_numpy(np.load(file, allow_pickle=False).astype(np.float32))

            def linear(layer):
                layer.weight.data, layer.bias.data = array(), array().flatten()

            linear(self.conv_in)
            # the original correlates with its kernel, torch's transposed convolution with the mirrored one
            self.conv_out.weight.data = array().flip(2, 3).transpose(0, 1).contiguous()
            self.conv_out.bias.data = array().flatten()
            for block in self.blocks:
                for layer in (block.patch[0], block.patch[2], block.hidden[0], block.hidden[2]):
                    linear(layer)
                for norm in (block.norm1, block.norm2):
                    norm.weight.data, norm.bias.data = array(), array()
            self.norm.weight.data, self.norm.bias.data = array(), array()
        return self.eval().requires_grad_(False)


def denoiser(network):
    """D(x; sigma) of a VP score network."""

    def denoise(x, sigma):
        scale = (1 + sigma**2) ** 0.5
        y, t = x / scale, float(np.log1p(sigma**2))
        return scale * (y + sigma**2 / scale**2 * network(y, t))

    return denoise


def rho_7(steps):
    low, high = (level ** (1 / 7) for level in RANGE)
    return [(high + k / (steps - 1) * (low - high)) ** 7 for k in range(steps)]


def table(network, size):
    """Rollout errors, a row a method."""
    denoise, shape = denoiser(network), (1, size, size)
    latents = torch.from_numpy(fewstep.latents(range(fewstep.HELD_OUT_SEEDS, fewstep.HELD_OUT_SEEDS + HELD_OUT), shape))
    teacher = fewstep.Plan.of_solver("heun", rho_7(TEACHER_STEPS)).sample(denoise, latents)
    rows = {}
    for method in METHODS:
        plans = fewstep.find_plans(
            denoise, shape=shape, steps=STEPS, sigma_range=RANGE, method=method, dtype=torch.float32, images=False, held_out=0,
            progress=False,
        )
        errors = {nfe: float(((plan.sample(denoise, latents) - teacher) ** 2).mean()) for nfe, plan in plans.items()}
        rows[method] = errors
        print(size, method, {nfe: f"{error:.3g}" for nfe, error in errors.items()}, plans.evaluations, file=sys.stderr)
    return rows


def main():
    if len(sys.argv) > 2 or any(word.startswith("-") for word in sys.argv[1:]):
        sys.exit(__doc__)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        fetch = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, PACKAGE]
        subprocess.run(fetch, check=True)
        for size in (32, 64):
            network = ScoreNet(size).load(Path(folder) / "galaxygrad" / f"eqx_hsc_ScoreNet{size}.eqx")
            lines += [f"| HSC {size} | {' | '.join(map(str, STEPS))} |", "|---|" + "---|" * len(STEPS)]
            for method, errors in table(network, size).items():
                cells = [f"{errors[nfe]:.3g}" if nfe in errors else "" for nfe in STEPS]
                lines.append(f"| `{method}` | {' | '.join(cells)} |")
            lines.append("")
    text = "\n".join(lines)
    print(text)
    if len(sys.argv) == 2:
        Path(sys.argv[1]).write_text(text + "\n")


if __name__ == "__main__":
    main()
