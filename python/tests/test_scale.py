"""The program under torchrun, as docs/scale.md starts it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FEWSTEP = os.environ.get("FEWSTEP")
TORCHRUN = Path(sys.executable).parent / "torchrun"

pytestmark = pytest.mark.skipif(not FEWSTEP, reason="FEWSTEP names no built program")

SAMPLE = ["sample", "gaussian-mixture", "--seeds", "0-39", "--batch", "8", "--steps", "3"]


def torchrun(folder, args, *, processes=2):
    command = [TORCHRUN, "--no-python", "--standalone", "--nproc-per-node", str(processes), FEWSTEP, *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_processes_of_torchrun_share_the_samples(tmp_path):
    done = torchrun(tmp_path, [*SAMPLE, "--out", "shared.npz"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("40 samples") == 1
    subprocess.run([FEWSTEP, *SAMPLE, "--out", "alone.npz"], cwd=tmp_path, check=True, capture_output=True)
    shared, alone = np.load(tmp_path / "shared.npz"), np.load(tmp_path / "alone.npz")
    assert all(np.array_equal(shared[name], alone[name]) for name in alone)


def test_torchrun_shows_why_a_process_failed(tmp_path):
    done = torchrun(tmp_path, ["sample", "nowhere.safetensors", "--out", "x.npz"])
    assert done.returncode == 1
    assert "there is no model file nowhere.safetensors" in done.stderr
    # in its own summary, too, as the first failure of all
    summary = done.stderr[done.stderr.index("Root Cause") :]
    assert "nowhere.safetensors" in summary, done.stderr
