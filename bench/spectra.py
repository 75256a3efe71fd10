"""What a sampler does to images: spectra by radius, contrast and clipping of images beside a teacher's from the same seeds.

    fewstep sample MODEL --seeds 0-399 --out teacher.npz
    fewstep sample MODEL --seeds 0-399 --plan plan.json --out plan.npz
    python bench/spectra.py teacher.npz plan.npz

Needs NumPy, and takes seconds. A table of the mean of the channels, and of images in colour another of what is left of the channels
without it. A row a file: the power in rings of the Fourier transform (in cycles a side, half an octave each), divided by the
teacher's; the root mean square difference from the teacher's images, in grey levels; the spread of values and of neighbours'
differences. Last, how much of the images is black or white, in per cent.
"""

import sys

import numpy as np


def load(path):
    """Images of an npz file, [N, H, W, C], as numbers from 0 to 255."""
    with np.load(path) as arrays:
        images = arrays["images"].astype(float)
    return images.transpose(0, 2, 3, 1) if images.shape[1] in (1, 3) else images


def rings(side):
    """Edges of the rings, in cycles a side."""
    count = int(2 * np.log2(side / 2))
    return np.concatenate([[0.5], 2.0 ** (np.arange(1, count + 1) / 2)])


def spectrum(images):
    """The mean power in every ring."""
    centred = images - images.mean((1, 2), keepdims=True)
    power = (np.abs(np.fft.fft2(centred, axes=(1, 2))) ** 2).mean((0, 3))
    height, width = power.shape
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(height) * height, np.fft.fftfreq(width) * width, indexing="ij"))
    edges = rings(min(height, width))
    inside = [(low < radius) & (radius <= high) for low, high in zip(edges, edges[1:])]
    return np.array([power[ring].mean() if ring.any() else np.nan for ring in inside])


def grey(images):
    return images.mean(3, keepdims=True)


def colour(images):
    return images - grey(images)


def main(paths):
    if len(paths) < 2:
        sys.exit(__doc__)
    sets = {path: load(path) for path in paths}
    teacher = sets[paths[0]]
    for path, images in sets.items():
        if images.shape != teacher.shape:
            sys.exit(f"{path} has images {images.shape}, {paths[0]} {teacher.shape}: both need the same seeds")
    heads = [f"{edge:.3g}" for edge in rings(min(teacher.shape[1:3]))[1:]] + ["rmse", "spread", "detail", "b/w %"]
    for part in [grey, colour] if teacher.shape[3] > 1 else [grey]:
        print("".join(f"{head:>7}" for head in heads) + f"  {part.__name__}: power up to so many cycles")
        target = part(teacher)
        for path, images in sets.items():
            own = part(images)
            numbers = [*spectrum(own) / spectrum(target), np.sqrt(((own - target) ** 2).mean()), own.std()]
            numbers += [np.diff(own, axis=1).std(), 100 * ((images <= 0) | (images >= 255)).mean()]
            print("".join(f"{number:7.2f}" for number in numbers) + f"  {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
