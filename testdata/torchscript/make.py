#!/usr/bin/env python3
"""Writes tiny.pt, a TorchScript archive of a convolution with batch normalisation in a submodule.

    pip install torch && python make.py
"""

import pathlib

import torch

model = torch.nn.Sequential()
model.block = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1, bias=False), torch.nn.BatchNorm2d(2))
with torch.no_grad():
    model.block[0].weight.copy_(torch.tensor([0.5, -2.0]).view(2, 1, 1, 1))
    model.block[1].running_mean.copy_(torch.tensor([1.0, 2.0]))
torch.jit.script(model.eval()).save(str(pathlib.Path(__file__).with_name("tiny.pt")))
