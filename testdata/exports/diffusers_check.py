"""Runs exported plans in diffusers and compares with the same plans run by plan_sampler.py. See README.md.

For every case: the text of `fewstep export` is executed with the scheduler that a model of that kind would have; the
scheduler is stepped with outputs of an exact network (a mixture of two Gaussians in every pixel) in the form that it expects;
then
- the levels must be the plan's (for exports by --nearest: those of the plan that fewstep says is run instead), to LEVELS;
- the network must be told its noise level, to TOLD, by the timesteps alone (but for levels outside of its table);
- the images must be those of that plan, to IMAGES;
- what fewstep says to pass to a pipeline must give the scheduler the same levels and timesteps there.
"""

import json
import math
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import diffusers
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import retrieve_timesteps

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "crates" / "fewstep-search" / "assets"))
from plan_sampler import load_plan, sample  # noqa: E402

LEVELS = 2e-5  # relative; the schedulers keep levels in single precision
TOLD = 2e-5  # relative, by the scheduler's own rule for what lies between whole timesteps
IMAGES = 1e-4  # largest absolute difference; pixels are about 1

SD = "scaled-linear:0.00085:0.012"
DDPM = "linear:0.0001:0.02"


def discrete(betas, prediction="epsilon"):
    """A scheduler as such models come with, with every switch set that could get in the way."""
    name, *ends = betas.split(":")
    schedule = {"scaled-linear": "scaled_linear", "linear": "linear", "cosine": "squaredcos_cap_v2"}[name]
    ends = dict(zip(("beta_start", "beta_end"), map(float, ends)))
    return diffusers.DPMSolverMultistepScheduler(
        beta_schedule=schedule, **ends, prediction_type=prediction, use_karras_sigmas=True, timestep_spacing="leading", steps_offset=1
    )


def edm():
    return diffusers.EDMDPMSolverMultistepScheduler(sigma_data=0.7)


def flow():
    return diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True, shift_terminal=0.1)


# plan, target, what the model comes with, options, whether the plan is expressed exactly
CASES = [
    ("euler", "diffusers-euler", discrete(SD), [], True),
    ("euler", "diffusers-euler", discrete(SD, "v_prediction"), [], True),
    ("euler", "diffusers-euler", discrete(DDPM), ["--betas", DDPM], True),
    ("edm", "diffusers-euler", discrete(SD), [], True),  # two levels above the table
    ("own", "diffusers-euler", discrete(SD), [], False),
    ("edm", "diffusers-edm-euler", edm(), [], True),
    ("one", "diffusers-edm-euler", edm(), [], True),
    ("own", "diffusers-edm-euler", edm(), [], False),
    ("euler", "diffusers-flow-euler", flow(), [], True),
    ("edm", "diffusers-flow-euler", flow(), ["--shift", "3"], True),
    ("own", "diffusers-flow-euler", flow(), ["--shift", "0.7"], False),
    ("heun", "diffusers-heun", discrete(SD), [], True),
    ("heun", "diffusers-heun", discrete(DDPM, "v_prediction"), ["--betas", DDPM], True),
    ("heun", "diffusers-heun", discrete("cosine"), ["--betas", "cosine"], True),
    ("edm", "diffusers-heun", discrete(DDPM), ["--betas", DDPM], False),
    ("own", "diffusers-heun", discrete(SD), [], False),
    ("dpmpp2m", "diffusers-dpmpp", discrete(SD), [], False),
    ("dpmpp3m", "diffusers-dpmpp", discrete(SD, "v_prediction"), [], False),
    ("dpmpp2m", "diffusers-dpmpp", discrete(DDPM), ["--betas", DDPM], False),
    ("dpmpp2m", "diffusers-dpmpp", discrete("cosine"), ["--betas", "cosine"], False),
    ("own", "diffusers-dpmpp", discrete(SD), [], False),
]


def denoised(x, sigma):
    """E[y | x] for x = y + sigma n, y a mixture of N(-0.6, 0.2^2) and N(0.5, 0.1^2) in every pixel."""
    means, spreads = torch.tensor([-0.6, 0.5]), torch.tensor([0.2, 0.1])
    variances = spreads**2 + sigma**2
    offsets = x[..., None] - means
    share = torch.softmax(-(offsets**2) / (2 * variances) - variances.log() / 2, dim=-1)
    return (share * (means + spreads**2 / variances * offsets)).sum(-1)


class Discrete:
    """Networks that are told a timestep of a table; `scaled` where the state is y + sigma n, else it has unit variance.

    Between whole timesteps EulerDiscreteScheduler interpolates log sigma, HeunDiscreteScheduler sigma.
    """

    def __init__(self, scheduler, scaled):
        self.scheduler, self.scaled = scheduler, scaled
        self.linear = isinstance(scheduler, diffusers.HeunDiscreteScheduler)
        self.table = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).double().sqrt()

    def sigma(self, level):
        return level

    def start(self, sigma):
        return sigma if self.scaled else sigma / math.hypot(1, sigma)

    def told(self, timestep):
        low = min(int(timestep), len(self.table) - 2)
        ends, part = self.table[low : low + 2], float(timestep) - low
        between = torch.lerp(*ends, part) if self.linear else torch.lerp(*ends.log(), part).exp()
        return float(between)

    def output(self, x, sigma):  # x as the scheduler hands it to the network: of unit variance
        alpha = 1 / math.hypot(1, sigma)
        image = denoised(x / alpha, sigma)
        noise = (x / alpha - image) / sigma
        velocity = alpha * noise - alpha * sigma * image
        return {"epsilon": noise, "v_prediction": velocity}[self.scheduler.config.prediction_type]


class Edm:
    """Networks F of Karras et al., told log(sigma) / 4."""

    def __init__(self, scheduler):
        self.data = scheduler.config.sigma_data

    def sigma(self, level):
        return level

    def start(self, sigma):
        return sigma

    def told(self, timestep):
        return math.exp(4 * float(timestep))

    def output(self, x, sigma):
        total = math.hypot(self.data, sigma)
        image = denoised(x * total, sigma)
        return (image - self.data**2 / total**2 * x * total) / (sigma * self.data / total)


class Flow:
    """Networks of the velocity n - y at x = (1 - s) y + s n, told 1000 s."""

    def __init__(self, _scheduler):
        pass

    def sigma(self, level):
        return level / (1 - level)

    def start(self, sigma):
        return sigma / (1 + sigma)

    def told(self, timestep):
        return self.sigma(float(timestep) / 1000)

    def output(self, x, sigma):
        s = sigma / (1 + sigma)
        return (x - denoised(x / (1 - s), sigma)) / s


NETWORKS = {
    "diffusers-euler": lambda scheduler: Discrete(scheduler, True),
    "diffusers-heun": lambda scheduler: Discrete(scheduler, True),
    "diffusers-dpmpp": lambda scheduler: Discrete(scheduler, False),
    "diffusers-edm-euler": Edm,
    "diffusers-flow-euler": Flow,
}


def export(program, plan, target, options):
    run = subprocess.run([program, "export", str(plan), "--to", target, "--json", *options], capture_output=True, text=True)
    return json.loads(run.stdout) if run.returncode == 0 else run.stderr.strip()


def in_a_pipeline(names, notes):
    """What is wrong where a pipeline sets the timesteps, handed what the notes say to hand it."""
    told = re.search(r"pipe\(\.\.\., (\w+)=(\w+)\)", "\n".join(notes))
    if not told:
        return [f"nothing is said of pipelines: {notes}"]
    scheduler = names["scheduler"]
    sigmas, timesteps = scheduler.sigmas.clone(), scheduler.timesteps.clone()
    try:
        found, _ = retrieve_timesteps(scheduler, device="cpu", **{told[1]: names[told[2]]})
    except Exception as error:
        return [f"a pipeline fails: {type(error).__name__}: {error}"]
    same = torch.equal(scheduler.sigmas, sigmas) and torch.equal(found, timesteps)
    return [] if same else ["a pipeline gets other levels"]


def check(program, folder, name, target, base, options, exact):
    """What is wrong with this case, and its numbers."""
    path = HERE / "plans" / f"{name}.json"
    found = export(program, path, target, options)
    if isinstance(found, str) == exact:
        return [f"should {'' if exact else 'not '}be exact: {found}"], ""
    faults = []
    wanted = load_plan(path)
    if not exact:
        found = export(program, path, target, [*options, "--nearest"])
        path = folder / "nearest.json"
        path.write_text(json.dumps(found["nearest"]))
        again = export(program, path, target, options)
        if isinstance(again, str) or again["text"] != found["text"]:
            faults.append(f"what is run instead is not exact itself: {again}")
    plan = load_plan(path)

    names = {"scheduler": base, "device": "cpu"}
    exec(found["text"], names)
    scheduler = names["scheduler"]
    network = NETWORKS[target](scheduler)

    given = [network.sigma(float(level)) for level in scheduler.sigmas]
    if given.pop() != 0 or len(given) != len(plan["stages"]):
        return [*faults, f"{len(given)} levels for {len(plan['stages'])} evaluations"], ""
    levels = max(abs(a / stage["sigma"] - 1) for a, stage in zip(given, plan["stages"]))

    latent = torch.randn(4, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x, told = latent * network.start(plan["schedule"][0]), 0.0
    for sigma, timestep in zip(given, scheduler.timesteps):
        to_network = scheduler.scale_model_input(x, timestep) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(network.output(to_network, sigma), timestep, x).prev_sample
        if name != "edm" or target != "diffusers-euler":  # whose table ends before the plan's levels do
            told = max(told, abs(network.told(timestep) / sigma - 1))
    images = (x - sample(plan, denoised, latent)).abs().max().item()
    cost = (x - sample(wanted, denoised, latent)).square().mean().sqrt().item()

    faults += in_a_pipeline(names, found["notes"])
    for what, number, limit in (("levels", levels, LEVELS), ("told", told, TOLD), ("images", images, IMAGES)):
        if not number <= limit:
            faults.append(f"{what} differ by {number:.2e}, more than {limit:.0e}")
    numbers = f"levels {levels:.1e}, told {told:.1e}, images {images:.1e}"
    return faults, numbers if exact else f"{numbers}; from the plan itself {cost:.1e} rms"


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: diffusers_check.py FEWSTEP (the built program)")
    diffusers.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    print(f"diffusers {diffusers.__version__}, torch {torch.__version__}")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, target, base, options, exact in CASES:
            faults, numbers = check(sys.argv[1], Path(folder), name, target, base, options, exact)
            title = f"{target} {name} {base.config.get('prediction_type', '')} {' '.join(options)}".strip()
            print(f"{'FAILED' if faults else 'ok':7}{title:78}{'exact' if exact else 'nearest':9}{numbers}")
            for fault in faults:
                print(f"       {fault}")
            failed += bool(faults)
    print(f"{len(CASES) - failed} of {len(CASES)} agree")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
