"""Frechet distances of diffusers' own schedulers and of our plans, in one pipeline, on the models of fashion_models.py.

    python bench/efficientnet.py lite96.pt 96
    python bench/python/fashion_table.py MODEL DATA OUT [--guidance 3] [--efforts low,normal,high] [--images 5000] [--features lite96.pt]

MODEL and DATA are folders of fashion_models.py. Every cell has as many samples of the same latents and labels, scored by
`fewstep eval` with the built-in features and statistics of Fashion-MNIST; the teacher makes 100 steps. Networks sample in bfloat16,
compiled, and are searched on in single precision. With --features, a network that nobody here trained chooses among our plans and
solvers', all drawn towards training images (`+nearest`). Cells are kept in OUT, and a second call of the same kind goes on; the table is
OUT/table.md. An hour of two cores, twice that with guidance. Needs `cargo build --release -p fewstep-cli` and `pip install ./python diffusers`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from fashion_models import CLASSES, SIZE, FashionPipeline, data

import fewstep.diffusers

BUDGETS = [4, 6, 8, 10]
TEACHER_STEPS = 100
BATCH = 50  # samples in a call of the network: larger ones leave the caches
TEACHERS_MOMENTS = "least-squares+gauss-newton+moments"  # the default
DATA_MOMENTS = "least-squares+gauss-newton+data-moments"
NEAREST = f"{DATA_MOMENTS}+nearest"
FIRST_SEED = 1_000_000  # searches draw latents of their own
FEWSTEP = os.environ.get("FEWSTEP", str(Path(__file__).parents[2] / "target/release/fewstep"))


def eps_rivals():
    """Name -> scheduler, number of steps that makes so many evaluations."""
    multistep = dict(algorithm_type="dpmsolver++", solver_order=2)
    yield "DDIM", DDIMScheduler(timestep_spacing="trailing", clip_sample=False), int
    yield "DDIM, clipped", DDIMScheduler(timestep_spacing="trailing"), int
    yield "DPM-Solver++ 2M", DPMSolverMultistepScheduler(timestep_spacing="trailing", **multistep), int
    yield "DPM-Solver++ 2M, Karras", DPMSolverMultistepScheduler(use_karras_sigmas=True, **multistep), int
    yield "UniPC", UniPCMultistepScheduler(timestep_spacing="trailing"), int
    yield "UniPC, Karras", UniPCMultistepScheduler(use_karras_sigmas=True), int


def flow_rivals():
    flow = dict(prediction_type="flow_prediction", use_flow_sigmas=True)
    yield "FlowMatchEuler", FlowMatchEulerDiscreteScheduler(), int
    yield "FlowMatchEuler, shift 3", FlowMatchEulerDiscreteScheduler(shift=3.0), int
    # so many steps take one evaluation less than asked for, as its last is one of Euler's
    yield "FlowMatchHeun", FlowMatchHeunDiscreteScheduler(), lambda evaluations: (evaluations + 1) // 2
    yield "DPM-Solver++ 2M", DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", **flow), int
    yield "UniPC", UniPCMultistepScheduler(**flow), int


def slug(name: str) -> str:
    return name.replace(" ", "-").replace(",", "")


def program(path: Path):
    """A TorchScript program of images [N, 3, H, W] in 0 to 255, as features of images [N, 1, H, W] in [-1, 1]."""
    network = torch.jit.load(path).eval()
    return lambda x: network(((x.float().clamp(-1, 1) + 1) * 127.5).round().expand(-1, 3, -1, -1))


class Table:
    def __init__(self, pipe: FashionPipeline, out: Path, guidance: float, images: int, features=None) -> None:
        self.pipe, self.out, self.guidance, self.images, self.features = pipe, out, guidance, images, features
        self.batch = BATCH if guidance == 1 else BATCH // 2  # guidance calls on each sample twice
        self.cells = out / "cells"
        self.cells.mkdir(parents=True, exist_ok=True)
        asked, file = {"guidance": guidance, "images": images}, out / "asked.json"
        if file.exists() and json.loads(file.read_text()) != asked:
            raise SystemExit(f"{out} has cells of {file.read_text()}: choose another folder for {json.dumps(asked)}")
        file.write_text(json.dumps(asked))

    def distance(self, name: str, evaluations: int, scheduler, steps: int) -> float:
        path = self.cells / f"{slug(name)}-{evaluations:03}.json"
        if not path.exists():
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "images.npz"
                np.savez(file, images=self.sample(scheduler, steps))
                answer = subprocess.run(
                    [FEWSTEP, "--json", "eval", str(file)], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                ).stdout
            path.with_suffix(".new").write_bytes(answer)
            path.with_suffix(".new").rename(path)
        value = json.loads(path.read_text())["metrics"][0]["value"]
        print(f"{name}, {evaluations} evaluations: {value:.3f}", flush=True)
        return value

    def sample(self, scheduler, steps: int) -> np.ndarray:
        """Images `[N, 1, 32, 32]` as bytes."""
        self.pipe.scheduler = scheduler
        made = []
        for first in range(0, self.images, self.batch):
            count = min(self.batch, self.images - first)
            generator = torch.Generator().manual_seed(FIRST_SEED + first)
            labels = [(first + i) % CLASSES for i in range(count)]
            latents = torch.randn(count, 1, SIZE, SIZE, generator=generator)
            with torch.autocast("cpu", torch.bfloat16):
                images = self.pipe(labels, steps, self.guidance, latents=latents).images
            made.append((255 * images).round().astype(np.uint8))
        return np.concatenate(made)[:, None]

    def plans(self, name: str, effort: str, method: str, training, scheduler):
        file = self.out / f"plans-{slug(name)}.json"
        if not file.exists():
            self.pipe.scheduler = scheduler
            labels = list(range(CLASSES))
            guidance = None if self.guidance == 1 else self.guidance
            found = fewstep.diffusers.find_plans(
                self.pipe, labels, steps=BUDGETS, guidance_scale=guidance, effort=effort, batch_size=self.batch, method=method,
                data=None if method == TEACHERS_MOMENTS else training,
                features=self.features if method == NEAREST else None,
            )
            file.write_text(json.dumps([json.loads(plan.to_json()) for plan in found.values()]))
        return [fewstep.Plan.from_json(json.dumps(plan)) for plan in json.loads(file.read_text())]


def main(model: Path, folder: Path, out: Path, guidance: float, efforts: list[str], images: int, features) -> None:
    pipe = FashionPipeline.load(model)
    pipe.set_progress_bar_config(disable=True)
    own, is_eps = pipe.scheduler, (model / "unet").is_dir()
    table = Table(pipe, out, guidance, images, features)
    training = data(folder)[0].float() / 127.5 - 1
    ours = [(f"fewstep, effort {effort}", effort, TEACHERS_MOMENTS) for effort in efforts]
    ours.append(("fewstep, data-moments", "normal", DATA_MOMENTS))
    if features is not None:
        ours.append(("fewstep, nearest", "normal", NEAREST))
    plans = {name: table.plans(name, effort, method, training, own) for name, effort, method in ours}
    rows = []
    pipe.network.to(memory_format=torch.channels_last).compile()
    for name, found in plans.items():
        scheduler = fewstep.diffusers.PlanScheduler.from_plans(found, own)
        rows.append((name, [table.distance(name, n, scheduler, n) for n in BUDGETS]))
    for name, scheduler, steps in eps_rivals() if is_eps else flow_rivals():
        rows.append((name, [table.distance(name, n, scheduler, steps(n)) for n in BUDGETS]))
    teacher = DDIMScheduler(timestep_spacing="trailing", clip_sample=False) if is_eps else own
    of_teacher = table.distance("teacher", TEACHER_STEPS, teacher, TEACHER_STEPS)
    lines = ["| | " + " | ".join(map(str, BUDGETS)) + " |", "|---" * (len(BUDGETS) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |" for name, values in rows]
    lines += [f"| teacher, {TEACHER_STEPS} | " + " | ".join([f"{of_teacher:.2f}"] * len(BUDGETS)) + " |"]
    (out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--efforts", default="low,normal,high")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--features", type=program)
    given = parser.parse_args()
    efforts = given.efforts.split(",")
    main(given.model, given.data, given.out, given.guidance, efforts, given.images, given.features)
