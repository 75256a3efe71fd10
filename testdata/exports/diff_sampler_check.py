"""Runs exports for diff-sampler in its own code and compares with the same plans run by plan_sampler.py. See README.md.

For every solver, on 1 to 8 noise levels, with and without a last step to 0, on a network whose outputs lie within [-1, 1] and on one whose
outputs do not:
- what is exported without a warning must give the plan's images, to IMAGES, on both networks;
- what is exported with the warning of clipping must give them on the first network, and others on the second;
- what is refused must fail in its code or give other images on the first network, with the options that the solver has on other levels.
"""

import ast
import re
import shlex
import sys
import tempfile
import warnings
from pathlib import Path

import fewstep
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "crates" / "fewstep-search" / "assets"))
from plan_sampler import load_plan, sample  # noqa: E402

SOLVERS = [
    *("euler", "heun", "dpm2", "dpmpp2m", "dpmpp2m_nolof", "dpmpp3m", "dpmpp3m_nolof"),
    *(f"ipndm{form}{order}" for form in ("", "_v") for order in (1, 2, 3, 4)),
    *(f"unipc{order}_{variant}" for order in (2, 3) for variant in ("bh1", "bh2")),
    *(f"deis_{basis}{order}" for basis in ("tab", "rhoab") for order in (2, 3, 4)),
]
SAMPLERS = {"dpm": "dpm_2", "dpmpp": "dpm_pp"}  # where the function is not called like the option
IMAGES = 1e-7  # relative to the largest value; levels are written with nine digits


def network(scale):
    def denoise(x, sigma, class_labels=None, **_):
        sigma = float(sigma)
        return scale * torch.tanh(x / (1 + sigma)) * (0.5 + 0.4 / (1 + sigma))

    return denoise


def levels(count):
    """rho = 7 between 80 and 0.002."""
    ramp = [i / max(1, count - 1) for i in range(count)]
    return [(80 ** (1 / 7) + r * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for r in ramp]


def exported(plan):
    """The options and whether they are warned of; None if the export is refused."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            return plan.export("diff-sampler"), bool(warned)
        except ValueError:
            return None


def run(text, denoise, latents):
    """What sample.py does with these options."""
    options = dict(option.removeprefix("--").split("=", 1) for option in shlex.split(text))
    name = options.pop("solver")
    steps = torch.tensor(ast.literal_eval(options.pop("t_steps")), dtype=torch.float64)
    kwargs = {key: value if key in ("variant", "deis_mode") else ast.literal_eval(value) for key, value in options.items()}
    kwargs |= {"num_steps": len(steps), "t_steps": steps, "sigma_max": float(steps[0]), "sigma_min": float(steps[-1])}
    if name == "deis":
        kwargs["coeff_list"] = solver_utils.get_deis_coeff_list(steps, kwargs["max_order"], deis_mode=kwargs["deis_mode"])
    return getattr(solvers, f"{SAMPLERS.get(name, name)}_sampler")(denoise, latents, **kwargs)


def difference(text, plan, denoise, latents):
    """Relative to the largest value of the plan's image; infinite where the tool fails."""
    try:
        theirs = run(text, denoise, latents)
    except (IndexError, UnboundLocalError, ValueError):
        return float("inf")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        path.write_text(plan.to_json())
        ours = sample(load_plan(str(path)), lambda x, sigma: denoise(x, sigma), latents)
    return float((ours - theirs).abs().max() / ours.abs().max())


def with_levels(text, count):
    written = ",".join(f"{level:.12f}" for level in levels(count))
    return re.sub(r"--num_steps=\d+ '--t_steps=[^']*'", f"--num_steps={count} '--t_steps=[{written}]'", text)


def check(solver, count, last_step, latents):
    plan = fewstep.Plan.of_solver(solver, levels(count), last_step=last_step)
    result = exported(plan)
    if result is None:
        # four levels are taken of every solver; its options stay the same
        text, _ = exported(fewstep.Plan.of_solver(solver, levels(4), last_step=last_step))
        within = difference(with_levels(text, count), plan, network(1), latents)
        return "refused", within > 1e-3, within
    text, warned = result
    within, beyond = (difference(text, plan, network(scale), latents) for scale in (1, 3))
    if warned:
        return "warned of", within < IMAGES and beyond > 1e-3, within
    return "exact", max(within, beyond) < IMAGES, max(within, beyond)


def main():
    latents = torch.linspace(-1.5, 1.5, 48, dtype=torch.float64).reshape(1, 3, 4, 4)
    failed = 0
    for solver in SOLVERS:
        for last_step in (True, False):
            for count in range(1 if last_step else 2, 9):
                what, good, found = check(solver, count, last_step, latents)
                failed += not good
                ends = "to 0" if last_step else "stops"
                print(f"{'ok  ' if good else 'FAIL'}  {solver:14} {count} levels, {ends}  {what:9}  difference {found:.1e}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    torch.set_default_dtype(torch.float64)
    import solver_utils
    import solvers

    main()
