"""fewstep beside torch-fidelity: features of the same image files, with the same Inception weights, on the same threads, in turn;
and a Frechet distance of 2048 dimensions from moments.

    pip install torch torchvision scipy pillow torch-fidelity==0.4.0
    cargo build --release -p fewstep-eval --example features
    python bench/compare_torch_fidelity.py [--images 10000] [--repeats 3] [--threads N] [--batch 64]

Either side is timed inside its own process after a warm-up, from the first file read to the last feature; fewstep's time holds the
moments as well. The images are made here and the weights come from a formula, so nothing is downloaded.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIDE = 32
TARGET = 1.1


def program():
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    found = target / "release" / "examples" / "features"
    if not found.exists():
        sys.exit(f"{found} is missing: cargo build --release -p fewstep-eval --example features")
    return str(found)


def make_images(folder, count):
    """PNGs of 32x32 colour blocks, never two the same."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(count):
        blocks = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(np.kron(blocks, np.ones((SIDE // 8, SIDE // 8, 1), np.uint8))).save(folder / f"{i:05}.png")


def make_weights(path):
    import torch

    sys.path.insert(0, str(ROOT / "testdata" / "metrics"))
    from goldens import state_dict

    torch.save(state_dict(), path)


def make_moments(path, seed):
    """Moments of 4,096 vectors whose variances fall off as those of real features do."""
    import numpy as np

    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4096, 2048)) * np.arange(1, 2049) ** -0.5
    np.savez(path, mu=x.mean(0), sigma=np.cov(x, rowvar=False))


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def worker(folder, weights, batch, threads):
    """torch-fidelity's side: its own data loader and feature extractor."""
    import torch
    from torch_fidelity.utils import create_feature_extractor, extract_featuresdict_from_input_id

    torch.set_num_threads(threads)
    options = dict(input1=folder, batch_size=batch, cuda=False, verbose=False, samples_shuffle=False, cache=False)
    network = create_feature_extractor(
        "inception-v3-compat", ["2048"], cuda=False, feature_extractor_weights_path=weights, verbose=False
    )
    with torch.no_grad():
        network(torch.zeros((batch, 3, SIDE, SIDE), dtype=torch.uint8))
        start = time.perf_counter()
        found = extract_featuresdict_from_input_id(1, network, **options)["2048"]
    seconds = time.perf_counter() - start
    print(json.dumps({"images": len(found), "seconds": seconds, "sum": found.double().sum().item()}))


def frechet_worker(a, b):
    """torch-fidelity's distance, which is SciPy's square root of a matrix."""
    import numpy as np
    from torch_fidelity.metric_fid import fid_statistics_to_metric

    a, b = ({key: np.load(path)[key] for key in ("mu", "sigma")} for path in (a, b))
    start = time.perf_counter()
    found = fid_statistics_to_metric(a, b, verbose=False)["frechet_inception_distance"]
    print(json.dumps({"seconds": time.perf_counter() - start, "distance": float(found)}))


def compare(name, commands, repeats):
    """Runs both sides in turn and prints their medians."""
    reports = {side: [] for side in commands}
    for _ in range(repeats):
        for side, command in commands.items():
            reports[side].append(run(command))
    seconds = {side: statistics.median(report["seconds"] for report in found) for side, found in reports.items()}
    spread = {side: [round(report["seconds"], 1) for report in found] for side, found in reports.items()}
    ratio = seconds["fewstep"] / seconds["torch-fidelity"]
    print(f"{name:34}fewstep {seconds['fewstep']:8.2f} s   torch-fidelity {seconds['torch-fidelity']:8.2f} s   ratio {ratio:.2f}")
    print(f"{'':34}every run: {spread}", flush=True)
    return ratio, {side: found[0] for side, found in reports.items()}


def agree(found, key, tolerance):
    ours, theirs = (found[side][key] for side in ("fewstep", "torch-fidelity"))
    if abs(ours - theirs) > tolerance * abs(theirs):
        sys.exit(f"the two sides disagree: {key} is {ours} and {theirs}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side, in turn")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for either side (default: all)")
    parser.add_argument("--batch", type=int, default=64, help="images at once, torch-fidelity's default")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        folder, *rest = options.worker
        return frechet_worker(*rest) if folder == "frechet" else worker(folder, rest[0], options.batch, options.threads)
    threads = str(options.threads)
    os.environ["OMP_NUM_THREADS"] = threads
    theirs = [sys.executable, __file__, "--threads", threads, "--batch", str(options.batch), "--worker"]
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        images, weights = place / "images", str(place / "weights.pth")
        images.mkdir()
        make_images(images, options.images)
        make_weights(weights)
        ours = [program(), str(images), weights, str(options.batch), threads]
        sides = {"fewstep": ours, "torch-fidelity": [*theirs, str(images), weights]}
        ratio, found = compare(f"features of {options.images} images", sides, options.repeats)
        agree(found, "sum", 1e-4)
        moments = [str(place / "a.npz"), str(place / "b.npz")]
        for seed, path in enumerate(moments):
            make_moments(path, seed)
        sides = {"fewstep": [program(), "frechet", *moments, threads], "torch-fidelity": [*theirs, "frechet", *moments]}
        _, found = compare("Frechet distance, 2048 dimensions", sides, options.repeats)
        agree(found, "distance", 1e-6)
    print(f"{threads} thread(s), batch {options.batch}; the features' target is a ratio of {TARGET} at most")
    sys.exit(ratio > TARGET)


if __name__ == "__main__":
    main()
