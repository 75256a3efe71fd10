"""Makes small_adm.pkl and small_adm.npz: an ADM network of fewer than 64 channels by the EDM code, and what it computes.

Run in a checkout of https://github.com/NVlabs/edm (with PyTorch and NumPy): PYTHONPATH=. python .../make.py
The source text that EDM embeds in its pickles is left out.
"""

import pathlib
import pickle
import sys

import numpy as np
import torch
from torch_utils import persistence

persistence._module_to_src = lambda module: ""

from training.networks import EDMPrecond  # noqa: E402

OUT = pathlib.Path(__file__).parent

torch.manual_seed(0)
# 8 and 16 channels: 8 // 64 = 0 attention heads, at every place that asks for attention
net = EDMPrecond(
    img_resolution=8,
    img_channels=3,
    label_dim=4,
    model_type="DhariwalUNet",
    model_channels=8,
    channel_mult=[1, 2],
    num_blocks=1,
    attn_resolutions=[8, 4],
)
for param in net.parameters():  # a fresh network ends in zeros
    param.data += torch.randn_like(param) * 0.1
net.eval().requires_grad_(False)
x = torch.randn([4, 3, 8, 8]) * 2
sigma = torch.tensor([0.05, 0.5, 2.0, 30.0])
class_labels = torch.eye(4)[[0, 3, 1, 2]]
with (OUT / "small_adm.pkl").open("wb") as file:
    pickle.dump({"ema": net}, file)
arrays = {"x": x, "sigma": sigma, "class_labels": class_labels, "denoised": net(x, sigma, class_labels)}
np.savez_compressed(OUT / "small_adm.npz", **{name: value.numpy() for name, value in arrays.items()})
print([name for name in net.state_dict() if "norm2" in name or "qkv" in name], file=sys.stderr)
