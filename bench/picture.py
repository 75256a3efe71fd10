"""The picture of the README: images of equal seeds by the teacher, the best rival and our plan, and distances against evaluations.

    python bench/picture.py [OUT]

OUT is docs/few-steps.png unless given. Plans are searched for and images made here, in runs/picture; distances are those of
bench/results. Two minutes on two cores. Needs `cargo build --release -p fewstep-cli` and `pip install matplotlib numpy`.
"""

import csv
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FEWSTEP = os.environ.get("FEWSTEP", str(ROOT / "target/release/fewstep"))
RUNS = ROOT / "runs/picture"
EVALUATIONS = 4
SEEDS = 10
OURS = "least-squares+gauss-newton+moments"
RIVAL = "gits/ipndm4"  # the least distance of the twelve at 4 evaluations


def fewstep(*arguments):
    subprocess.run([FEWSTEP, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def images(name, *sampler):
    """Images [SEEDS, H, W] of the first seeds."""
    out = RUNS / f"{name}.npz"
    fewstep("sample", "fashion-mnist", *sampler, "--seeds", f"0-{SEEDS - 1}", "--out", out, "--overwrite")
    arrays = np.load(out)
    return arrays[arrays.files[0]].reshape(SEEDS, 32, 32)


def of_plan(name, method):
    folder = RUNS / name
    if not folder.exists():
        fewstep("plan", "fashion-mnist", "--method", method, "--steps", EVALUATIONS, "--out", folder)
    return images(name, "--plan", folder / f"steps-{EVALUATIONS:03}/plan.json")


def distances():
    """Evaluations, distances of our plans and the least of the rivals', the teacher's distance."""
    rows = []
    for run in ["two-cores", "fashion-mnist"]:  # the second has more rivals, and our plans of an earlier search
        with open(ROOT / f"bench/results/{run}/compare.csv", newline="") as file:
            rows += [(run, row["method"], int(row["nfe"]), float(row["frechet"])) for row in csv.DictReader(file)]
    ours = {nfe: distance for run, method, nfe, distance in rows if (run, method) == ("two-cores", OURS)}
    teacher = next(distance for run, method, _, distance in rows if (run, method) == ("two-cores", "teacher"))
    is_rival = lambda method: method != "teacher" and not method.startswith("least-squares")
    rivals = [min(distance for _, method, n, distance in rows if is_rival(method) and n == nfe) for nfe in ours]
    return list(ours), list(ours.values()), rivals, teacher


def main(out):
    RUNS.mkdir(parents=True, exist_ok=True)
    rows = [
        ("teacher\n35 evaluations", images("teacher", "--steps", 18)),
        (f"best rival\n{EVALUATIONS} evaluations", of_plan("rival", RIVAL)),
        (f"fewstep\n{EVALUATIONS} evaluations", of_plan("ours", OURS)),
    ]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3), width_ratios=[2.3, 1], layout="constrained")
    left.imshow(np.vstack([np.hstack(list(part)) for _, part in rows]), cmap="gray", vmin=0, vmax=255)
    left.set_yticks([16, 48, 80], [name for name, _ in rows])
    left.set_xticks([])
    left.tick_params(length=0)
    left.spines[:].set_visible(False)
    evaluations, ours, rivals, teacher = distances()
    right.plot(evaluations, rivals, "o-", color="tab:gray", label="best of 12 rivals")
    right.plot(evaluations, ours, "o-", color="tab:blue", label="fewstep")
    right.axhline(teacher, color="black", linewidth=1, linestyle=":", label="teacher, 35 evaluations")
    right.set(xlabel="network evaluations an image", ylabel="Frechet distance", ylim=(0, None), xticks=evaluations)
    right.legend(frameon=False)
    right.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs/few-steps.png")
