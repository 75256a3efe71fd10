#!/usr/bin/env python3
"""Writes tiny.pt, a TorchScript archive of a convolution with batch normalisation in a submodule, label_or_none.pt, a
program whose label may be None, and average.pt, a feature network: means of quarters of images.

    pip install torch && python make.py
"""

import pathlib
import typing

import torch

model = torch.nn.Sequential()
model.block = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1, bias=False), torch.nn.BatchNorm2d(2))
with torch.no_grad():
    model.block[0].weight.copy_(torch.tensor([0.5, -2.0]).view(2, 1, 1, 1))
    model.block[1].running_mean.copy_(torch.tensor([1.0, 2.0]))
torch.jit.script(model.eval()).save(str(pathlib.Path(__file__).with_name("tiny.pt")))


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


torch.jit.script(LabelOrNone()).save(str(pathlib.Path(__file__).with_name("label_or_none.pt")))


class Average(torch.nn.Module):
    """Means of the quarters of f32 images `[N, 3, H, W]` in 0 to 255: `[N, 12]`."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images / 255, 2).flatten(1)


torch.jit.script(Average()).save(str(pathlib.Path(__file__).with_name("average.pt")))
