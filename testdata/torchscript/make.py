#!/usr/bin/env python3
"""Writes tiny.pt, a TorchScript archive of a convolution with batch normalisation in a submodule, label_or_none.pt, a
program whose label may be None, average.pt, a feature network: means of quarters of images, on_request.pt, the same where
it is called with `return_features` and two scores where it is not, and exact denoisers of mixtures with their descriptions:
vector.pt ([24]), wide.pt ([1, 17, 33]) and latent.pt ([4, 8, 8]) with its decoder.pt.

    pip install torch && python make.py [NAME ...]

Seconds; only the files with these names, such as wide, where some are given.
"""

import json
import math
import pathlib
import sys
import typing

import torch


def save(name, module):
    if not sys.argv[1:] or name in sys.argv[1:]:
        torch.jit.script(module.eval()).save(str(pathlib.Path(__file__).with_name(f"{name}.pt")))


model = torch.nn.Sequential()
model.block = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1, bias=False), torch.nn.BatchNorm2d(2))
with torch.no_grad():
    model.block[0].weight.copy_(torch.tensor([0.5, -2.0]).view(2, 1, 1, 1))
    model.block[1].running_mean.copy_(torch.tensor([1.0, 2.0]))
save("tiny", model)


class LabelOrNone(torch.nn.Module):
    """x + class + 1, where 1 is a weight, or x where there is no label; raises for class 2."""

    def __init__(self):
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor, labels: typing.Optional[torch.Tensor], noise: torch.Tensor) -> torch.Tensor:
        if labels is None:
            return x
        if bool((labels == 2).any()):
            raise ValueError("class 2 is not known here")
        return x + labels[:, None] + self.one


save("label_or_none", LabelOrNone())


class Average(torch.nn.Module):
    """Means of the quarters of f32 images `[N, 3, H, W]` in 0 to 255: `[N, 12]`."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images / 255, 2).flatten(1)


save("average", Average())


class OnRequest(torch.nn.Module):
    """Two scores of such images, `[N, 2]`, or, where features are asked for as NVIDIA's networks are, what `Average` answers."""

    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        features = torch.nn.functional.adaptive_avg_pool2d(images / 255, 2).flatten(1)
        if return_features:
            return features
        return torch.stack([features.mean(1), features.amax(1)], 1)


save("on_request", OnRequest())


class Mixture(torch.nn.Module):
    """D(x; sigma) of three Gaussians around smooth patterns: exact, so that a good plan must have a small rollout error."""

    def __init__(self, shape):
        super().__init__()
        size = math.prod(shape)
        index, k = torch.arange(size), torch.arange(3)[:, None]
        self.register_buffer("means", 0.7 * torch.sin(0.11 * (k + 2) * index + k))  # [K, d]
        self.register_buffer("variances", torch.tensor([0.1, 0.3, 0.2]).square())  # [K]
        self.register_buffer("log_weights", torch.tensor([0.25, 0.5, 0.25]).log())  # [K]

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        y, means = x.double().flatten(1), self.means.double()
        variances = self.variances.double()
        noise = sigma.double().square()[:, None]  # [N, 1]
        total = variances + noise  # [N, K]
        squares = (y[:, None] - means).square().sum(2)
        log = self.log_weights - squares / (2 * total) - 0.5 * means.shape[1] * total.log()
        shares = log.softmax(1) / total
        answer = (shares * noise) @ means + (shares * variances).sum(1, keepdim=True) * y
        return answer.reshape(x.shape).to(x.dtype)


class Decoder(torch.nn.Module):
    """RGB pixels, twice as high and wide, of three of four channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, :3] + 0.1 * x[:, 3:]).repeat_interleave(2, 2).repeat_interleave(2, 3)


MIXTURES = {
    "vector": ([24], {}),
    "wide": ([1, 17, 33], {}),
    "latent": ([4, 8, 8], {"decoder": {"path": "decoder.pt", "scale": 1.25}}),
}
for name, (shape, more) in MIXTURES.items():
    save(name, Mixture(shape))
    levels = {"type": "denoiser", "sigma_min": 0.002, "sigma_max": 80}
    described = {"shape": shape, "parameterisation": levels, "inputs": ["x", "noise"], **more}
    pathlib.Path(__file__).with_name(f"{name}.json").write_text(json.dumps(described) + "\n")
save("decoder", Decoder())
