#!/usr/bin/env python3
"""Measures a few images with pytorch-fid and torch-fidelity and writes what they find to goldens.json.

    pip install torch torchvision scipy pillow pytorch-fid==0.3.0 torch-fidelity==0.4.0
    python goldens.py            # one to three minutes on two cores; no download: Inception's weights come from a formula

The images are made here where they are missing; the committed ones stay as they are, since encoders differ. Both tools then get the same files as `crates/fewstep-eval/tests/goldens/other_tools.rs`.
"""

import argparse
import json
import pathlib
import tempfile

import numpy as np
import torch
from PIL import Image

HERE = pathlib.Path(__file__).parent

# name: images, side, channels, file type, blocks a side, seed
SETS = {
    "colour_a": (12, 32, 3, "png", 8, 1),
    "colour_b": (12, 32, 3, "png", 16, 2),
    "jpeg_a": (9, 64, 3, "jpg", 8, 3),
    "jpeg_b": (11, 64, 3, "jpg", 4, 4),
    "grey_jpeg_a": (7, 128, 1, "jpg", 16, 9),
    "grey_jpeg_b": (7, 128, 1, "jpg", 32, 10),
    "grey_a": (10, 16, 1, "png", 16, 5),
    "grey_b": (10, 16, 1, "png", 8, 6),
    "large_a": (5, 512, 3, "png", 16, 7),
    "large_b": (6, 512, 3, "png", 8, 8),
}
PAIRS = [(f"{name}_a", f"{name}_b") for name in ("colour", "jpeg", "grey_jpeg", "grey", "large")]
NEIGHBOURS = 3
SPLITS = 2


def make_images():
    for name, (count, side, channels, kind, blocks, seed) in SETS.items():
        rng = np.random.default_rng(seed)
        folder = HERE / name
        if folder.exists():
            continue
        folder.mkdir()
        for i in range(count):
            shape = (blocks, blocks, channels)
            tiny = rng.integers(0, 256, shape) * rng.random() + rng.integers(0, 64, (1, 1, channels))
            pixels = np.kron(tiny.clip(0, 255), np.ones((side // blocks, side // blocks, 1))).astype(np.uint8)
            image = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
            image.save(folder / f"{i:02}.{kind}", **({"quality": 95} if kind == "jpg" else {"optimize": True}))


def formula(name, shape):
    """splitmix64 of the FNV-1a hash of the name; see formula.rs beside the test."""
    seed = np.uint64(0xCBF29CE484222325)
    with np.errstate(over="ignore"):
        for byte in name.encode():
            seed = (seed ^ np.uint64(byte)) * np.uint64(0x100000001B3)
        count = int(np.prod(shape))
        z = seed + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(40)).astype(np.float64) / 2**24 * 2 - 1
    if name.endswith(".conv.weight") or name == "fc.weight":
        u = u * np.sqrt(3 / np.prod(shape[1:])) * 1.6
    elif name.endswith(".bn.weight"):
        u = 1 + 0.1 * u
    elif name.endswith(".running_var"):
        u = 1 + 0.5 * np.abs(u)
    else:
        u = 0.1 * u
    return torch.from_numpy(u.astype(np.float32).reshape(shape))


def state_dict():
    from torchvision.models import inception_v3

    shapes = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False).state_dict()
    # The first blocks of the FID network have the shapes of torchvision's; only their pools differ.
    return {
        name: torch.tensor(0) if name.endswith("num_batches_tracked") else formula(name, tuple(value.shape))
        for name, value in shapes.items()
    }


def pytorch_fid(weights, a, b):
    from pytorch_fid import fid_score, inception

    inception.load_state_dict_from_url = lambda *_, **__: weights
    paths = [str(HERE / a), str(HERE / b)]
    return float(fid_score.calculate_fid_given_paths(paths, 4, "cpu", 2048, num_workers=0))


def torch_fidelity(weights_file, a, b):
    import torch_fidelity

    # One subset of all images: which ones a smaller subset takes is each tool's own draw.
    sizes = [SETS[name][0] for name in (a, b)]
    subset = sizes[0] if sizes[0] == sizes[1] else None
    return torch_fidelity.calculate_metrics(
        input1=str(HERE / a), input2=str(HERE / b), batch_size=4, cuda=False, cache=False, verbose=False,
        samples_shuffle=False, feature_extractor="inception-v3-compat", feature_extractor_weights_path=weights_file, isc=True, isc_splits=SPLITS, fid=True,
        kid=subset is not None, kid_subsets=1, kid_subset_size=subset or 1, prc=True,
        prc_neighborhood=NEIGHBOURS,
    )  # fmt: skip


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    make_images()
    weights = state_dict()
    found = {}
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save(weights, file.name)
        for a, b in PAIRS:
            found[f"{a} {b}"] = {
                "pytorch-fid": {"fid": pytorch_fid(weights, a, b)},
                "torch-fidelity": torch_fidelity(file.name, a, b),
            }
    (HERE / "goldens.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
