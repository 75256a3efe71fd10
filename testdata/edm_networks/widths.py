"""Makes widths.json: which widths the networks of the EDM code can have, found by running them (on PyTorch's meta device, which
checks shapes and computes nothing).

Run in a checkout of https://github.com/NVlabs/edm (with PyTorch): PYTHONPATH=. python .../widths.py
"""

import json
import pathlib

import torch
from training.networks import EDMPrecond

OUT = pathlib.Path(__file__).parent
torch.set_default_device("meta")
MULTS = [[1], [3], [1, 2], [2, 1], [1, 2, 2], [2, 2, 2], [1, 2, 3]]
ARCHS = {
    "ddpmpp": dict(model_type="SongUNet"),
    "ncsnpp": dict(
        model_type="SongUNet",
        embedding_type="fourier",
        encoder_type="residual",
        channel_mult_noise=2,
        resample_filter=[1, 3, 3, 1],
    ),
    "adm": dict(model_type="DhariwalUNet"),
}


def works(arch, channels, mult):
    """Whether a network of this width can be made and run."""
    try:
        net = EDMPrecond(
            img_resolution=4,
            img_channels=1,
            model_channels=channels,
            channel_mult=mult,
            num_blocks=1,
            attn_resolutions=[4],
            **ARCHS[arch],
        )
        return net.eval()(torch.ones([1, 1, 4, 4]), torch.ones([1])).shape == (1, 1, 4, 4)
    except (RuntimeError, ValueError, ZeroDivisionError):
        return False


found = [
    {"arch": arch, "channel_mult": mult, "channels": [c for c in range(1, 200) if works(arch, c, mult)]}
    for arch in ARCHS
    for mult in MULTS
]
lines = ",\n".join(json.dumps(one) for one in found)
(OUT / "widths.json").write_text(f"[\n{lines}\n]\n")
