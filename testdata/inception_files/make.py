#!/usr/bin/env python3
"""Writes the first layer of Inception-v3 in every form in which its weights are passed around.

    pip install torch safetensors && python make.py

The forms: pytorch-fid's and torch-fidelity's state dictionaries (`.pth`, zip and legacy), TorchScript archives of a module with
torchvision's names and of one with pytorch-fid's (`.pt`), and a safetensors file of another program.
"""

import pathlib

import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 32, 3, stride=2, bias=False)
        self.bn = torch.nn.BatchNorm2d(32, eps=0.001)

    def forward(self, x):
        return self.bn(self.conv(x))


class Torchvision(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.Conv2d_1a_3x3 = layer

    def forward(self, x):
        return self.Conv2d_1a_3x3(x)


class PytorchFid(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.blocks = torch.nn.ModuleList([torch.nn.Sequential(layer)])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def main():
    layer = Layer().eval()
    ramp = torch.arange(32.0)
    with torch.no_grad():
        layer.conv.weight.copy_(torch.arange(864.0).view(32, 3, 3, 3) / 1024 - 0.25)
        for tensor, value in [
            (layer.bn.weight, 1 + ramp / 64),
            (layer.bn.bias, ramp / 32),
            (layer.bn.running_mean, -ramp / 16),
            (layer.bn.running_var, 1 + ramp / 8),
        ]:
            tensor.copy_(value)
    state = Torchvision(layer).state_dict()
    torch.save(state, HERE / "zip.pth")
    torch.save(state, HERE / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, HERE / "plain.safetensors", {"format": "pt"})
    torch.jit.script(Torchvision(layer)).save(str(HERE / "torchvision.pt"))
    torch.jit.script(PytorchFid(layer)).save(str(HERE / "pytorch_fid.pt"))


if __name__ == "__main__":
    main()
