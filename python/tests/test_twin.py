"""The built-in network's PyTorch twin has the plan that the command line finds on the network itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import fewstep

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("FEWSTEP", ROOT / "target" / "release" / "fewstep"))
# with half as many latents, the network's rounding alone moves a plan's levels by 1e-4
SETTINGS = {"teacher": {"samples": 16, "grid": 11}, "least_squares": {"samples": 16}, "gauss_newton": {"samples": 8}}
STEPS = [2, 4]


def test_the_memory_of_an_effort_is_measured_in_a_process_of_its_own(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench/python"))
    import own_work

    ran, measured = [], []
    monkeypatch.setattr(own_work.subprocess, "run", lambda command, check: ran.append(command[2:]))
    monkeypatch.setattr(own_work, "measure", measured.append)
    own_work.main(["low", "normal"])
    assert ran == [["low"], ["normal"]] and not measured
    own_work.main(["high"])
    assert measured == ["high"] and len(ran) == 2


def twin():
    sys.path.insert(0, str(ROOT / "bench"))
    import torchscript

    return torchscript.built_in()


def command_line(folder):
    """The plans of `fewstep plan` with the same settings."""
    given = [f"search.{stage}.{name}={value}" for stage, values in SETTINGS.items() for name, value in values.items()]
    settings = [word for setting in [*given, "held_out.samples=8"] for word in ("--set", setting)]
    steps = ",".join(map(str, STEPS))
    program = [PROGRAM, "plan", "fashion-mnist", "--steps", steps, "--out", folder, *settings]
    subprocess.run(program, check=True, capture_output=True, text=True)
    return {nfe: json.loads((folder / f"steps-{nfe:03}" / "plan.json").read_text()) for nfe in STEPS}


@pytest.mark.skipif(not PROGRAM.exists(), reason="the command line is not built")
def test_the_same_plan(tmp_path):
    network = twin()
    plans = fewstep.find_plans(
        lambda x, sigma: network(x, torch.full((len(x),), sigma)),
        shape=(1, 32, 32),
        steps=STEPS,
        sigma_range=(0.002, 80),
        dtype=torch.float32,
        held_out=8,
        progress=False,
        **SETTINGS,
    )
    for nfe, expected in command_line(tmp_path / "run").items():
        sigmas = [stage["sigma"] for stage in expected["stages"]]
        assert np.allclose(plans[nfe].sigmas, sigmas, rtol=1e-4), nfe
        scores, found = expected["metadata"]["scores"], plans[nfe].metadata["scores"]
        for name in ("rollout_error", "rollout_error_baseline"):
            assert np.isclose(found[name], scores[name], rtol=1e-4), (nfe, name, found[name], scores[name])
