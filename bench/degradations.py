"""What a feature network sees of images: kernel distances of images that are made worse in one way each, all by as much in pixels.

    python bench/efficientnet.py lite96.pt 96
    python bench/degradations.py DATA [FEATURES ...] [--images 2000] [--rmse 8]

DATA is a zip of PNG or JPEG images, or a folder with IDX files. FEATURES are those of `fewstep eval` (`lite96.pt@bytes`); none, or
`default`, are the built-in classifier's. Half of the images are the reference, the others are blurred, made noisy and so on, each way so
strongly that the root mean square difference is RMSE grey levels. The table has a row a network: of the kernel distances of all ways, less
that of the untouched images, the share that each way has, in per cent. Needs NumPy, Pillow and `cargo build --release -p fewstep-cli`; two to
ten minutes a network.
"""

import argparse
import gzip
import io
import json
import os
import subprocess
import tempfile
import zipfile
from pathlib import Path

import numpy as np

FEWSTEP = os.environ.get("FEWSTEP", str(Path(__file__).parents[1] / "target/release/fewstep"))


def images_of(path, count):
    """The first of the images of a shuffled data set, `[N, H, W, C]` in 0 to 255."""
    random = np.random.default_rng(0)
    if path.is_dir():
        file = next(path.rglob("train-images*"))
        raw = (gzip.open if file.suffix == ".gz" else open)(file, "rb").read()
        shape = np.frombuffer(raw[4:16], ">u4")
        images = np.frombuffer(raw[16:], np.uint8).reshape(*shape, 1)
        images = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
        return images[random.permutation(len(images))[:count]].astype(float)
    from PIL import Image

    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith((".png", ".jpg", ".jpeg")))
        names = [names[index] for index in random.permutation(len(names))[:count]]
        images = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names])
    return images.reshape(*images.shape[:3], -1).astype(float)


def radius(images):
    """Frequency in cycles a side, [H, W]."""
    height, width = images.shape[1:3]
    return np.hypot(*np.meshgrid(np.fft.fftfreq(height) * height, np.fft.fftfreq(width) * width, indexing="ij"))


def filtered(images, by):
    return np.fft.ifft2(np.fft.fft2(images, axes=(1, 2)) * by, axes=(1, 2)).real


def smooth(random, images, channels=1):
    """Noise of at most 3 cycles a side, of unit variance, [N, H, W, channels]."""
    noise = filtered(random.normal(size=(*images.shape[:3], channels)), (radius(images) <= 3)[..., None])
    return noise / noise.std()


def blur(images, strength, random):
    return filtered(images, np.exp(-((radius(images) * strength / 10) ** 2) / 2)[..., None])


def noise(images, strength, random):
    return images + strength * random.normal(size=images.shape)


def blotches(images, strength, random):
    return images + strength * smooth(random, images)


def tint(images, strength, random):
    shift = random.normal(size=(len(images), 1, 1, images.shape[3]))
    return images + strength * (shift - shift.mean(3, keepdims=True))


def contrast(images, strength, random):
    mean = images.mean((1, 2, 3), keepdims=True)
    return mean + (images - mean) * np.exp(-strength / 20)


def scrambled_detail(images, strength, random):
    """Phases of detail finer than 6 cycles a side are turned, and its power stays."""
    turns = np.fft.fft2(random.normal(size=images.shape), axes=(1, 2))
    turns = np.exp(1j * np.angle(turns) * min(strength / 20, 1))
    return filtered(images, np.where((radius(images) > 6)[..., None], turns, 1))


def warp(images, strength, random):
    count, height, width, _ = images.shape
    moved = smooth(random, images, 2) * strength / 10
    rows = np.clip(np.arange(height)[None, :, None] + moved[..., 0], 0, height - 1)
    columns = np.clip(np.arange(width)[None, None, :] + moved[..., 1], 0, width - 1)
    top, left = np.minimum(rows.astype(int), height - 2), np.minimum(columns.astype(int), width - 2)
    down, across = (rows - top)[..., None], (columns - left)[..., None]
    sample = np.arange(count)[:, None, None]
    above = images[sample, top, left] * (1 - across) + images[sample, top, left + 1] * across
    below = images[sample, top + 1, left] * (1 - across) + images[sample, top + 1, left + 1] * across
    return above * (1 - down) + below * down


WAYS = [blur, noise, blotches, tint, contrast, scrambled_detail, warp]


def bytes_of(images):
    return np.clip(np.round(images), 0, 255)


def by_as_much(way, images, rmse):
    """Images worse by `rmse` grey levels, if the way leads so far."""

    def at(strength):
        worse = bytes_of(way(images, strength, np.random.default_rng(1)))
        return worse, float(((worse - images) ** 2).mean() ** 0.5)

    low, high = 0.0, 1.0
    while at(high)[1] < rmse:
        low, high = high, 2 * high
        if high > 1000:
            return None
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle)[1] < rmse else (low, middle)
    return at(high)[0]


def save(path, images):
    np.savez(path, images=images.astype(np.uint8).transpose(0, 3, 1, 2))


def main(data, networks, count, rmse):
    images = images_of(data, 2 * count)
    reference, others = images[:count], images[count:]
    ways = {way.__name__.replace("_", " "): by_as_much(way, others, rmse) for way in WAYS if way is not tint or images.shape[3] == 3}
    ways = {"untouched": others} | {name: worse for name, worse in ways.items() if worse is not None}
    print("| network | " + " | ".join(list(ways)[1:]) + " |")
    print("|---" * len(ways) + "|")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        save(folder / "reference.npz", reference)
        for name, worse in ways.items():
            save(folder / f"{name}.npz", worse)
        for network in networks:
            features = [] if network == "default" else ["--features", network]
            statistics = folder / "statistics.npz"
            command = ["ref", "--data", folder / "reference.npz", "--keep-features", "--out", statistics, "--overwrite", *features]
            subprocess.run([FEWSTEP, *command], check=True, capture_output=True)
            distances = {}
            for name in ways:
                command = ["--json", "eval", folder / f"{name}.npz", "--ref", statistics, "--metrics", "kid", *features]
                command += ["--set", f"metrics.kid_subset_size={count}", "--set", "metrics.kid_subsets=1"]
                answer = subprocess.run([FEWSTEP, *command], check=True, capture_output=True, text=True).stdout
                distances[name] = json.loads(answer)["metrics"][0]["value"]
            floor = distances.pop("untouched")
            total = sum(value - floor for value in distances.values())
            shares = [f"{100 * (value - floor) / total:.1f}" for value in distances.values()]
            print(f"| {Path(network.split('@')[0]).name} | " + " | ".join(shares) + " |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("features", nargs="*", default=["default"])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rmse", type=float, default=8)
    given = parser.parse_args()
    main(given.data, given.features or ["default"], given.images, given.rmse)
