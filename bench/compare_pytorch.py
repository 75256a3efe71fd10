"""fewstep beside plain PyTorch (eager), the same network on the same machine, run in turn.

    python bench/compare_pytorch.py [--threads N] [--repeats R] [--quick]

Prints a table of images a second: the median over all rounds of all repeats, and how much faster fewstep is. `cargo xtask bench`
builds what this needs, puts PyTorch into an environment of its own and calls it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARAMETERS = 1_752_993

# What is timed: mode, number type, batch, dropout, rounds a run.
CASES = [
    (mode, kind, batch, dropout, rounds)
    for kind in ("f32", "bf16")
    for mode, batch, dropout, rounds in (
        ("train", 128, 0.13, 2),
        ("train", 32, 0.13, 4),
        ("train", 128, 0.0, 2),
        ("train", 32, 0.0, 4),
        ("forward", 64, 0.0, 4),
    )
]


def fewstep(case, threads):
    """One run of fewstep's side: a dictionary of lists, one entry a round."""
    program = ROOT / "target" / "release" / "examples" / "throughput"
    if not program.exists():
        sys.exit(f"{program} is missing: cargo build --release -p fewstep-nn --example throughput")
    mode, kind, batch, dropout, rounds = case
    return run([str(program), mode, kind, str(batch), str(dropout), str(threads), str(rounds)])


def pytorch(case, threads):
    """One run of PyTorch's side, in a process of its own."""
    return run([sys.executable, __file__, "--worker", json.dumps([case, threads])])


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def worker(case, threads):
    """What PyTorch does: the counterpart of crates/fewstep-nn/examples/throughput.rs."""
    import torch

    sys.path.insert(0, str(Path(__file__).parent))
    from ddpmpp import Denoiser

    mode, kind, batch, dropout, rounds = case
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net = Denoiser(dropout=dropout)
    images = torch.rand(batch, 1, 32, 32) * 2 - 1
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    average = [p.detach().clone() for p in net.parameters()]
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16")

    def update():
        sigma = (torch.randn(batch) * 1.2 - 1.2).exp()
        weight = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
        noisy = images + torch.randn_like(images) * sigma[:, None, None, None]
        with autocast:
            denoised = net(noisy, sigma)
        loss = (weight[:, None, None, None] * (denoised - images).square()).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(net.parameters()), 0.01)
        return loss.item()

    def forward():
        with torch.no_grad(), autocast:
            return net(images, torch.ones(1).expand(batch))

    net.train(mode == "train")
    step = update if mode == "train" else forward
    step()
    wall, processor = [], []
    for _ in range(rounds):
        start, start_processor = time.perf_counter(), time.process_time()
        step()
        wall.append(batch / (time.perf_counter() - start))
        processor.append(batch / (time.process_time() - start_processor))
    parameters = sum(p.numel() for p in net.parameters())
    report = {"parameters": parameters, "images_per_second": wall, "images_per_cpu_second": processor}
    print(json.dumps(report | {"version": torch.__version__}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads for both (default: all)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side, in turn (default: 3)")
    parser.add_argument("--quick", action="store_true", help="only batch 32 with dropout and the forward pass")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(*json.loads(options.worker))
    cases = [case for case in CASES if not options.quick or case[0] == "forward" or case[2:4] == (32, 0.13)]
    version = table(cases, options)
    print(f"\nImages a second, median of {options.repeats} runs in turn on {options.threads} thread(s); in brackets, for each")
    print("second of processor time, which other programs on the machine disturb less. A training step is noise, loss,")
    print("gradient, Adam and the moving average. bf16: PyTorch under autocast, fewstep with f32 weights and bf16 activations.")
    print(f"PyTorch {version} (eager), fewstep on libtorch 2.11.0, Python {platform.python_version()}, {processor_name()}.")


def table(cases, options):
    """Times and prints each case; returns PyTorch's version."""
    print(f"{'':34}{'fewstep':>18}{'PyTorch':>18}{'ratio':>16}")
    version = "?"
    for case in cases:
        sides = {"fewstep": [], "pytorch": []}
        for _ in range(options.repeats):
            sides["fewstep"].append(fewstep(case, options.threads))
            sides["pytorch"].append(pytorch(case, options.threads))
        for report in sides["fewstep"] + sides["pytorch"]:
            if report["parameters"] != PARAMETERS:
                sys.exit(f"the networks differ: {report['parameters']} parameters, not {PARAMETERS}")
        version = sides["pytorch"][0]["version"]

        def median(side, key):
            return statistics.median(value for report in sides[side] for value in report[key])

        ours, theirs = (median(side, "images_per_second") for side in sides)
        ours_cpu, theirs_cpu = (median(side, "images_per_cpu_second") for side in sides)
        mode, kind, batch, dropout, _ = case
        name = f"{mode:8}{kind:5} batch {batch:3}" + (f", dropout {dropout}" if mode == "train" else "")
        print(
            f"{name:34}{ours:8.1f} ({ours_cpu:7.1f}){theirs:8.1f} ({theirs_cpu:7.1f})"
            f"{ours / theirs:7.2f} ({ours_cpu / theirs_cpu:5.2f})",
            flush=True,
        )
    return version


def processor_name():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
