"""Every block of Python in README.md and docs runs, in order, with a small network in the reader's place, unless it needs a file."""

import re
from pathlib import Path

import pytest
import torch
from test_diffusers import PIPELINES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def blocks_of(page):
    return re.findall(r"^ *```python\n(.*?)```", page.read_text(), re.S | re.M)


PAGES = [page for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))] if blocks_of(page)]


def test_pages_have_code():
    assert {page.name for page in PAGES} >= {"README.md", "python.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    pipe, labels, *_ = PIPELINES["dit"]()
    pipe.transformer.eval()
    pipe.set_progress_bar_config(disable=True)
    stable, *_ = PIPELINES["sd"]()
    unet = stable.unet.eval()
    names = {
        "torch": torch,
        "network": lambda x, sigma: x * 0.25 / (0.25 + sigma**2),
        "unet": lambda x, t: unet(x, t, encoder_hidden_states=torch.zeros(len(x), 5, 12)),
        "pipe": pipe,
        "labels": labels,
        "latents": torch.randn(4, 3, 32, 32),
    }
    for block in blocks_of(page):
        exec(block, names)  # noqa: S102: the project's own page
    assert (tmp_path / "plan.json").exists() == (page.name == "python.md")
    assert len(names["images"]) == len(labels)


def test_costs_are_those_of_the_table():
    import fewstep

    page = (DOCS / "python.md").read_text()
    rows = re.findall(r"^\| (low|normal|high) \| ([\d,]+) \| ([\d,]+) \| (\d+) \|$", page, re.M)
    assert [effort for effort, *_ in rows] == ["low", "normal", "high"]
    for effort, *numbers in rows:
        asked = {"shape": (4, 64, 64), "steps": [4, 6, 8], "effort": effort}
        cost = fewstep.search_cost(**asked)
        search = fewstep.search_cost(**asked, held_out=0)
        calls, held_out, levels = (int(text.replace(",", "")) for text in numbers)
        assert [cost, cost - search] == [calls, held_out], (effort, cost, cost - search)
        fewstep.search_cost(**asked | {"steps": levels})
        with pytest.raises(ValueError, match="no plan of"):
            fewstep.search_cost(**asked | {"steps": levels + 1})


def test_the_first_examples_say_what_they_take():
    import fewstep

    low, normal = (f"{fewstep.search_cost(shape=(3, 32, 32), effort=effort):,}" for effort in ("low", "normal"))
    guided = f"{fewstep.search_cost(shape=(4, 8, 8), effort='low', calls=2):,}"
    readme = (ROOT / "README.md").read_text()
    assert f"at most {normal} network calls on single images; {low} with" in readme and f"{guided} calls with guidance" in readme
    page = (DOCS / "python.md").read_text()
    assert f"at most {normal} network calls on single images here, or {low} with" in page
