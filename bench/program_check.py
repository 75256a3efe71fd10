"""Whether a TorchScript copy of the built-in network gets the plans of the network itself.

    cargo xtask program                                      # builds fewstep, makes .bench-venv, runs this
    python bench/program_check.py target/release/fewstep     # with a Python that has torch

Takes about half an hour on two cores. `torchscript.py` makes the copy, `fewstep plan` searches on both, and every plan of the copy must have the
levels, the coefficients and the rollout error of the network's. Prints a line a plan; the exit code is 1 if one differs.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torchscript

NETWORK = "fashion-mnist"
METHODS = ["oss/ipndm4", "least-squares+gauss-newton", "least-squares+gauss-newton+moments"]
STEPS = [3, 5, 8]

LEVELS = 1e-4  # relative
COEFFICIENTS = 1e-4  # of the largest coefficient of the combination
ERROR = 1e-3  # relative


def plans(fewstep, model, method, out):
    """The plan and the rollout error of every number of evaluations."""
    steps = ",".join(map(str, STEPS))
    command = [fewstep, "plan", str(model), "--method", method, "--steps", steps, "--out", str(out), "--json"]
    if model != NETWORK:
        command.append("--trust")
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{run.stderr}")
    rows = json.loads(run.stdout)
    return {row["steps"]: (json.loads((out / row["plan"]).read_text()), row["phases"][-1]["rollout_error"]) for row in rows}


def combinations(plan):
    """The combinations of a plan, the image's last, each with its coefficients by source."""
    return [*(stage["input"] for stage in plan["stages"]), plan["output"]]


def differences(found, wanted):
    """The largest difference of levels, relative, and of coefficients, by the largest of their combination."""
    levels = max(abs(a["sigma"] / b["sigma"] - 1) for a, b in zip(found["stages"], wanted["stages"], strict=True))
    coefficients = 0.0
    for a, b in zip(combinations(found), combinations(wanted), strict=True):
        largest = max(abs(c) for c in b.values())
        off = max(abs(a.get(source, 0.0) - b.get(source, 0.0)) for source in a | b)
        coefficients = max(coefficients, off / largest)
    return levels, coefficients


def check(fewstep, program, method, folder):
    """Prints a line a plan; how many differ."""
    wanted = plans(fewstep, NETWORK, method, folder / f"network-{METHODS.index(method)}")
    found = plans(fewstep, program, method, folder / f"program-{METHODS.index(method)}")
    differ = 0
    for steps in STEPS:
        (plan, error), (wanted_plan, wanted_error) = found[steps], wanted[steps]
        levels, coefficients = differences(plan, wanted_plan)
        of_error = abs(error / wanted_error - 1)
        same = levels <= LEVELS and coefficients <= COEFFICIENTS and of_error <= ERROR
        differ += not same
        print(
            f"{'ok' if same else 'DIFFERS':9}{method:37}{steps} evaluations: levels {levels:.1e}, coefficients {coefficients:.1e}, "
            f"rollout error {wanted_error:.3e}, apart by {of_error:.1e}",
            flush=True,
        )
    return differ


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: program_check.py FEWSTEP (the built program)")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        program = folder / "model.pt"
        torchscript.copy(torchscript.BUILT_IN, program)
        differ = sum(check(sys.argv[1], program, method, folder) for method in METHODS)
    print(f"{len(METHODS) * len(STEPS) - differ} of {len(METHODS) * len(STEPS)} plans are the same")
    sys.exit(differ > 0)


if __name__ == "__main__":
    main()
