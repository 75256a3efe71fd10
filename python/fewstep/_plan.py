"""Plans: samplers as data."""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import _fewstep
from ._arrays import NumpyArrays, TorchArrays, is_torch, without_gradients
from ._callback import constant, evaluate
from ._checks import is_callable, warn
from ._parameterisation import Denoiser, Parameterisation
from ._progress import log


class Plan:
    """A few-step sampler: noise levels, and the coefficients of every state and of the sample.

    Found by `find_plans`, read by `Plan.load`, or made of a public solver by `Plan.of_solver`.
    """

    def __init__(self, inner: _fewstep.Plan) -> None:
        self._inner = inner

    @classmethod
    def of_solver(cls, solver: str, sigmas: Sequence[float], last_step: bool = True) -> Plan:
        """The plan of a solver (`euler`, `heun`, `dpmpp3m`, `ipndm4`, `unipc3_bh2`, `deis_tab3`, ...) on noise levels.

        `sigmas`: standard deviations of the noise in the unit of the samples' values, largest first; the final 0 is not listed. The last
        step, from the least level to 0, is made unless `last_step` is false.

        Raises ValueError for an unknown solver, and for levels that are not positive or do not fall strictly.
        """
        return cls(_fewstep.Plan.of_solver(solver, [float(sigma) for sigma in sigmas], last_step))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """From the text of a plan file. Raises ValueError for other text."""
        return cls(_fewstep.Plan.from_json(text))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Reads a plan file; those of the command line are the same. Raises ValueError for a file that is no plan."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{os.fspath(path)!r} is not a plan: it is no text") from None
        return cls.from_json(text)

    def to_json(self) -> str:
        """The text of a plan file."""
        return self._inner.to_json()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a plan file: whole, or not at all."""
        write(Path(path), self.to_json() + "\n")

    @property
    def nfe(self) -> int:
        """Network evaluations a sample."""
        return self._inner.nfe

    @property
    def sigmas(self) -> list[float]:
        """The noise level of every evaluation, in order: standard deviations of the noise, `nfe` numbers, without the final 0."""
        return self._inner.sigmas

    @property
    def solver(self) -> str:
        """The solver, or the search that fitted the plan."""
        return self._inner.solver

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of one sample that it was made for, without N; None where the plan does not say."""
        return None if self._inner.shape is None else tuple(self._inner.shape)

    @property
    def constant(self) -> np.ndarray | None:
        """The mean output that the plan begins with in place of an evaluation, float32 `[1 or classes, *shape]`; None where it has none."""
        held = json.loads(self.to_json()).get("constant")
        if held is None:
            return None
        samples = [np.frombuffer(base64.b64decode(text), "<f4") for text in held["f32_base64"]]
        return np.stack(samples).reshape(len(samples), *held["shape"])

    @property
    def begins_with_noise_alone(self) -> bool:
        """Whether the first state is noise of its level, and nothing else."""
        return self._inner.begins_with_noise_alone

    @property
    def metadata(self) -> dict[str, Any]:
        """Where the plan comes from, and its scores, as `metadata` of its file (docs/formats.md)."""
        return json.loads(self.to_json()).get("metadata", {})

    @property
    def rollout_error(self) -> float | None:
        """Mean squared difference of a value from the teacher's sample, in squared units of the samples' values, on held-out latents.

        None where it was not measured.
        """
        return self.metadata.get("scores", {}).get("rollout_error")

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raises ValueError if the plan was made for samples of another shape than `shape`, that of one sample."""
        if self.shape is not None and self.shape != tuple(shape):
            raise ValueError(
                f"the plan was made for samples of shape {list(self.shape)}, the latents are of {list(shape)}: a plan holds for one "
                "shape, so find one for this"
            )

    def check_network(self, parameterisation: Parameterisation, *, noise_alone: bool = False) -> None:
        """Raises ValueError if the plan was found for a network of another parameterisation, or has levels that this one lacks.

        With `noise_alone` the first level may be above those that the network knows if the plan begins with noise alone, as in pipelines.
        """
        self._inner.check_network(parameterisation._inner, noise_alone)

    def sample(
        self,
        denoise: Callable[..., Any],
        latents: Any,
        *conditions: Any,
        labels: Sequence[int] | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Samples `[N, *shape]` of unit normal `latents` `[N, *shape]`, not multiplied by sigma.

        `denoise(x, sigma, *conditions, **kwargs)` is called once a noise level and returns the expected clean samples, with x and its
        answer `[N, *shape]` and sigma a Python float; no gradients are recorded. It is given `dtype` (that of the latents unless said);
        states have at least single precision. `labels` `[N]`: the class of each sample, for plans that hold a mean output for every class.

        Raises ValueError if the plan is for samples of another shape or, where `denoise` is a `Denoiser`, for a network of
        another parameterisation, or if the latents are not finite; TypeError or FloatingPointError if the denoiser's answer is not
        like its input; exceptions of the denoiser come out as they are.
        """
        is_callable("denoise(x, sigma)", denoise)
        latents = latents if is_torch(latents) else np.asarray(latents)
        if latents.ndim < 2:
            raise ValueError(f"latents must be samples [N, ...], and are of shape {list(latents.shape)}")
        shape = tuple(latents.shape[1:])
        self.check_shape(shape)
        if isinstance(denoise, Denoiser):
            self.check_network(denoise.parameterisation)
        if is_torch(latents):
            arrays: Any = TorchArrays(shape, latents.dtype if dtype is None else dtype, latents.device)
        else:
            arrays = NumpyArrays(shape, latents.dtype if dtype is None else dtype)
        if not arrays.is_finite(latents):
            raise ValueError("latents are not finite: they must be unit normal noise, not multiplied by sigma")
        run = _Run(arrays, denoise, conditions, kwargs, len(latents), labels)
        return without_gradients(arrays, lambda: self._inner.run(arrays, run, arrays.to_state(latents)))

    def export(
        self, target: str, *, nearest: bool = False, betas: str = "scaled-linear:0.00085:0.012", shift: float = 1.0
    ) -> str:
        """The plan in the form of another tool.

        Targets: `comfyui`, `k-diffusion`, `diffusers-euler`, `diffusers-edm-euler`, `diffusers-flow-euler`, `diffusers-heun`,
        `diffusers-dpmpp`, `stable-diffusion.cpp`, `diff-sampler`; `python`, `json` and `csv` hold every plan.

        The others take noise levels for solvers of their own and cannot run fitted coefficients: `nearest` then gives them the plan's
        levels, and a search for such a solver (`find_plans(..., method="oss/dpmpp2m_nolof")`) a plan that they run exactly. Levels alone
        serve a tool better where the plan holds no constant: `find_plans(..., least_squares={"constant": False})`. `betas`: the
        model's noise table for targets of diffusers; `shift`: its time shift for `diffusers-flow-euler`.

        Raises ValueError if there is no such target, or it cannot express the plan. Warns of what the tool does otherwise than the plan,
        and of what to set in it; where it does the same, what to set is logged (`logging.getLogger("fewstep")`).
        """
        text, notes, is_nearest = self._inner.export(target, nearest, betas, shift)
        lines = [line for note in notes for line in note.splitlines()]
        doubts = sorted(
            (line for line in lines if is_nearest or line.startswith("warning: ")),
            key=lambda line: not line.startswith("warning: "),  # the reason first
        )
        if doubts:
            warn("; ".join(line.removeprefix("warning: ") for line in doubts))
        for line in lines:
            if line not in doubts:
                log.info(line)
        return text

    def plot(self, ax: Any = None) -> Any:
        """Draws noise levels by evaluation on matplotlib's axes `ax`, new ones unless given, and returns them."""
        import matplotlib.pyplot as plt

        ax = ax or plt.figure(figsize=(4, 3)).add_subplot()
        ax.plot(range(1, self.nfe + 1), self.sigmas, "o-")
        ax.set(yscale="log", xlabel="evaluation", ylabel="noise level", title=f"{self.solver}, {self.nfe} evaluations")
        return ax

    def __repr__(self) -> str:
        plan = json.loads(self.to_json())
        levels = "  ".join(f"{stage['sigma']:.4g}" for stage in plan["stages"])
        lines = [f"Plan: {self.nfe} evaluations, {self.solver}", f"  noise levels   {levels}"]
        if self.shape is not None:
            lines.append(f"  samples        {' x '.join(map(str, self.shape))}")
        for name, value in plan.get("metadata", {}).get("scores", {}).items():
            lines.append(f"  {name.replace('_', ' '):<22} {value:.4g}")
        return "\n".join(lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __reduce__(self) -> Any:
        return Plan.from_json, (self.to_json(),)


class _Run:
    """The denoiser of one run of a plan."""

    def __init__(self, arrays: Any, denoise: Any, extra: Any, kwargs: Any, samples: int, labels: Any) -> None:
        self._arrays, self._denoise, self._extra, self._kwargs = arrays, denoise, extra, kwargs
        self._samples, self._labels = samples, labels

    def __call__(self, x: Any, sigma: float) -> Any:
        return evaluate(self._arrays, self._denoise, x, sigma, self._extra, **self._kwargs)

    def constant(self, values: bytes, count: int) -> Any:
        labels = None if self._labels is None else [int(label) for label in self._labels]
        if labels is not None and count > 1 and not all(0 <= label < count for label in labels):
            raise ValueError(f"the plan holds a sample for each of {count} classes, and a label is none of them")
        if labels is not None and len(labels) != self._samples:
            raise ValueError(f"there are {len(labels)} labels for {self._samples} latents")
        return constant(self._arrays, bytes(values), count, labels, self._samples)


class Plans(Mapping[int, Plan]):
    """Plans by their numbers of network evaluations, a mapping, and what it took to find them.

    `plans[6]` is the plan of 6 evaluations, a KeyError where there is none.
    """

    def __init__(self, plans: Sequence[Plan], *, evaluations: int = 0, calls: int = 0, seconds: float = 0.0) -> None:
        self._plans = {plan.nfe: plan for plan in sorted(plans, key=lambda plan: plan.nfe)}
        #: Evaluations of single samples that the search took, the teacher's among them.
        self.evaluations = evaluations
        #: Network calls on single samples in all, those of held-out latents among them.
        self.calls = calls
        #: Seconds that it took in all.
        self.seconds = seconds

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Plans:
        """Reads the plans of a folder that `save` wrote, or of the command line's run folder.

        Raises FileNotFoundError if there are none, ValueError for a file that is no plan, or two of one number of evaluations.
        """
        files = sorted(Path(folder).glob("plan-*.json")) or sorted(Path(folder).glob("steps-*/plan.json"))
        if not files:
            raise FileNotFoundError(f"there are no plans in {os.fspath(folder)!r}: neither plan-*.json nor steps-*/plan.json")
        plans, names = [], dict[int, str]()
        for file in files:
            name = file.relative_to(folder).as_posix()
            try:
                plan = Plan.load(file)
            except ValueError as error:
                raise ValueError(f"{name} in {os.fspath(folder)!r}: {error}") from None
            if plan.nfe in names:
                raise ValueError(f"{names[plan.nfe]} and {name} are both of {plan.nfe} evaluations: leave one in {os.fspath(folder)!r}")
            names[plan.nfe] = name
            plans.append(plan)
        return cls(plans)

    def __getitem__(self, nfe: int) -> Plan:
        if nfe not in self._plans:
            there_are = f"only of {', '.join(map(str, self._plans))}" if self._plans else "nor any other"
            raise KeyError(f"there is no plan of {nfe!r} evaluations, {there_are}")
        return self._plans[nfe]

    def __iter__(self) -> Iterator[int]:
        return iter(self._plans)

    def __len__(self) -> int:
        return len(self._plans)

    def save(self, folder: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Writes `plan-NNN.json` for every plan into a folder, for `load`. Plans of the same numbers of evaluations there are replaced.

        Raises FileExistsError if there are plans of other numbers, which an earlier search may have left: `load` would take both for one
        set. With `overwrite` these are removed.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        names = {f"plan-{nfe:03}.json": plan for nfe, plan in self.items()}
        others = [file for file in place.iterdir() if re.fullmatch(r"plan-\d{3,}\.json", file.name) and file.name not in names]
        if others and not overwrite:
            raise FileExistsError(
                f"{os.fspath(folder)!r} holds {', '.join(sorted(file.name for file in others))}, which are not of these plans: choose another "
                "folder, or overwrite=True, which removes them"
            )
        for name, plan in names.items():
            plan.save(place / name)
        for file in others:
            file.unlink()

    def __repr__(self) -> str:
        lines = ["evaluations  rollout error  rho = 7, Euler  noise levels"]
        for nfe, plan in self.items():
            scores = plan.metadata.get("scores", {})
            errors = [scores.get("rollout_error"), scores.get("rollout_error_baseline")]
            ours, euler = ("" if error is None else f"{error:.4g}" for error in errors)
            levels = "  ".join(f"{sigma:.3g}" for sigma in plan.sigmas)
            lines.append(f"{nfe:>11}  {ours:>13}  {euler:>14}  {levels}")
        return "\n".join(lines)


def write(path: Path, text: str) -> None:
    """Writes a file whole, or not at all."""
    if not (path.parent or Path()).is_dir():
        raise FileNotFoundError(f"there is no folder {os.fspath(path.parent)!r} to write {path.name} into")
    handle, name = tempfile.mkstemp(dir=path.parent or ".", prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
