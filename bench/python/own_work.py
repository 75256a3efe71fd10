"""What a search takes beside its network: time, and memory, on the built-in network's PyTorch twin.

    pip install ./python torch && OMP_NUM_THREADS=2 python bench/python/own_work.py [EFFORT ...]

A line an effort (default: low, normal): network calls on single samples, seconds, the part of them outside of the callback, and how much
the process's peak grew beyond the largest batch that the callback itself was run on before. A process an effort, as a peak never falls. A
few minutes of two cores.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

import fewstep

sys.path.insert(0, str(Path(__file__).parents[1]))
import torchscript  # noqa: E402

SHAPE = (1, 32, 32)
LARGEST_BATCH = 64


def peak() -> float:
    """MiB that the process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(effort: str) -> None:
    network = torchscript.built_in()
    inside = 0.0

    @torch.no_grad()
    def denoise(x, sigma):
        nonlocal inside
        started = time.perf_counter()
        answer = network(x, torch.full((len(x),), float(sigma)))
        inside += time.perf_counter() - started
        return answer

    denoise(torch.randn(LARGEST_BATCH, *SHAPE), 1.0)
    inside, before, started = 0.0, peak(), time.perf_counter()
    plans = fewstep.find_plans(
        denoise, shape=SHAPE, steps=[4, 6, 8], sigma_range=(0.002, 80), dtype=torch.float32, effort=effort,
        batch_size=LARGEST_BATCH, progress=False,
    )
    took = time.perf_counter() - started
    print(
        f"{effort}: {plans.calls} calls, {took:.1f} s, {100 * (1 - inside / took):.1f} % of them not in the network, "
        f"{peak() - before:.0f} MiB more",
        flush=True,
    )


def main(efforts: list[str]) -> None:
    if len(efforts) == 1:
        measure(*efforts)
    else:
        for effort in efforts:
            subprocess.run([sys.executable, __file__, effort], check=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["low", "normal"])
