"""Searches on a callable, where the exact answer is known."""

import inspect
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import mixture
import numpy as np
import pytest

import fewstep

RANGE = (0.002, 80.0)


def find(denoise=mixture.numpy, **options):
    options = {"shape": (5,), "steps": [3, 5], "sigma_range": RANGE, "progress": False, "dtype": np.float32} | options
    return fewstep.find_plans(denoise, **options)


def test_numpy_alone_imports_no_torch():
    program = """
        import sys, mixture, fewstep
        plans = fewstep.find_plans(mixture.numpy, shape=(5,), steps=[3], sigma_range=(0.002, 80), progress=False)
        assert plans[3].sample(mixture.numpy, fewstep.latents([0, 1], (5,))).shape == (2, 5)
        assert "torch" not in sys.modules
    """
    here = Path(__file__).parent
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=here, check=True)


def test_plans_beat_euler_and_say_what_they_took():
    calls = []

    def counted(x, sigma):
        calls.append(len(x))
        return mixture.numpy(x, sigma)

    plans = find(counted)
    assert list(plans) == [3, 5] and [plan.nfe for plan in plans.values()] == [3, 5]
    for plan in plans.values():
        scores = plan.metadata["scores"]
        assert plan.rollout_error < scores["rollout_error_baseline"] / 20
    assert plans.calls == sum(calls) > plans.evaluations > 0
    assert "rollout error" in repr(plans) and "noise levels" in repr(plans[3])
    with pytest.raises(KeyError, match="no plan of 4 evaluations, only of 3, 5"):
        plans[4]


def test_rollout_error_is_measured_on_latents_of_their_own():
    plans = find(held_out=0)
    assert plans[3].rollout_error is None
    teacher = fewstep.Plan.of_solver("heun", schedule(18))
    latents = fewstep.latents(range(fewstep.HELD_OUT_SEEDS, fewstep.HELD_OUT_SEEDS + 64), (5,))
    found = find()[3]
    gap = found.sample(mixture.numpy, latents) - teacher.sample(mixture.numpy, latents)
    assert np.isclose(found.rollout_error, np.mean(gap.astype(np.float64) ** 2), rtol=1e-3)


def schedule(steps, rho=7.0):
    low, high = (level ** (1 / rho) for level in RANGE)
    return [(high + k / (steps - 1) * (low - high)) ** rho for k in range(steps)]


@pytest.mark.parametrize("method", ["karras/dpmpp3m", "gits@1.15/ipndm4", "oss/euler", "least-squares"])
def test_rivals_by_name(method):
    plan = find(method=method, steps=5)[5]
    assert plan.nfe == 5 and np.isfinite(plan.rollout_error)
    assert plan.metadata["found_by"]["method"] == method


def test_torch_gives_the_plan_of_numpy():
    torch = pytest.importorskip("torch")
    ours = find(dtype=np.float64)
    for options in ({}, {"sigma_per_sample": True, "batch_size": 48}, {"offload": "cpu"}):
        theirs = find(mixture.torch, **{"dtype": torch.float64} | options)
        for nfe in ours:
            assert np.allclose(ours[nfe].sigmas, theirs[nfe].sigmas, rtol=1e-9), options
            assert np.isclose(ours[nfe].rollout_error, theirs[nfe].rollout_error, rtol=1e-6)
    latents = torch.from_numpy(fewstep.latents(range(3), (5,)))
    same = ours[5].sample(mixture.numpy, latents.numpy())
    assert np.allclose(same, ours[5].sample(mixture.torch, latents).numpy(), atol=1e-5)


def test_images_have_moments_and_gradients_in_both_libraries():
    torch = pytest.importorskip("torch")
    mean = np.random.default_rng(0).normal(size=(3, 16, 16)).clip(-1, 1).astype(np.float32)

    def denoise(x, sigma):
        return (x * 0.05 + (torch.from_numpy(mean) if isinstance(x, torch.Tensor) else mean) * sigma**2) / (0.05 + sigma**2)

    ours = find(denoise, shape=(3, 16, 16), dtype=np.float32, steps=3)[3]
    theirs = find(denoise, shape=(3, 16, 16), dtype=torch.float32, steps=3)[3]
    assert np.allclose(ours.sigmas, theirs.sigmas, rtol=1e-3)
    assert np.isclose(ours.rollout_error, theirs.rollout_error, rtol=0.02, atol=1e-7)


def test_half_precision_networks_have_states_in_single():
    torch = pytest.importorskip("torch")
    seen = set()

    def denoise(x, sigma):
        seen.add(x.dtype)
        return mixture.torch(x.float(), sigma).to(x.dtype)

    plan = find(denoise, dtype=torch.bfloat16, steps=3)[3]
    assert seen == {torch.bfloat16}
    made = plan.sample(denoise, torch.zeros(2, 5), dtype=torch.bfloat16)
    assert made.dtype == torch.float32 and bool(made.isfinite().all())


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_only_the_network_of_a_denoiser_is_in_half_precision(library):
    if library == "torch":
        torch = pytest.importorskip("torch")
        half, single, latents = torch.float16, torch.float32, torch.from_numpy(fewstep.latents(range(3), (5,)))
    else:
        half, single, latents = np.dtype(np.float16), np.dtype(np.float32), fewstep.latents(range(3), (5,))
    seen = set()

    def network(z, label):
        seen.add(z.dtype)
        return 0 * z

    edm = fewstep.Parameterisation.edm()
    made = fewstep.Plan.of_solver("euler", [10.0]).sample(edm.denoiser(network), latents, dtype=half)
    assert seen == {half} and made.dtype == single
    assert np.allclose(np.asarray(made), 10 * edm.coefficients(10.0)[0] * np.asarray(latents), rtol=1e-6)


def test_no_gradients_are_recorded():
    torch = pytest.importorskip("torch")
    weight = torch.ones(5, requires_grad=True)

    def denoise(x, sigma):
        assert not torch.is_grad_enabled()
        return mixture.torch(x, sigma) * weight

    plan = find(denoise, dtype=torch.float32, steps=3)[3]
    assert not plan.sample(denoise, torch.zeros(2, 5)).requires_grad


def test_conditions_go_by_sample():
    shifts = np.linspace(-0.5, 0.5, 7).astype(np.float32)[:, None]

    def denoise(x, sigma, shift):
        return mixture.numpy(x - shift, sigma) + shift

    rows = find(denoise, conditions=shifts, steps=3)[3]
    called = find(denoise, conditions=lambda seeds: shifts[[seed % 7 for seed in seeds]], steps=3)[3]
    assert rows.sigmas == called.sigmas and rows.rollout_error == called.rollout_error
    mapping = find(lambda x, sigma, of: denoise(x, sigma, of["shift"]), conditions={"shift": shifts}, steps=3)[3]
    assert mapping.sigmas == rows.sigmas
    with pytest.raises(ValueError, match="one row a sample"):
        find(denoise, conditions={"a": [1], "b": [1, 2]})


def test_classes_have_a_mean_output_each():
    means = mixture.MEANS.astype(np.float32)

    def denoise(x, sigma, labels):
        return (x * 0.04 + means[labels] * sigma**2) / (0.04 + sigma**2)

    plan = find(denoise, classes=3, steps=1)[1]
    assert plan.constant.shape == (3, 5)
    latents, labels = fewstep.latents(range(4), (5,)), np.array([0, 2, 1, 0])
    assert np.abs(plan.constant - means).max() < 0.05  # the mean of D at the greatest level is that of the class
    assert np.abs(plan.sample(denoise, latents, labels, labels=labels) - means[labels]).max() < 1
    described = json.loads(plan.to_json())
    described["output"] = {"constant": 1.0}
    alone = fewstep.Plan.from_json(json.dumps(described))
    assert np.array_equal(alone.sample(denoise, latents, labels, labels=labels), plan.constant[labels])


def test_plans_are_files_of_the_command_line(tmp_path):
    plan = find(steps=3)[3]
    plan.save(tmp_path / "plan.json")
    again = fewstep.Plan.load(tmp_path / "plan.json")
    assert again == plan and hash(again) == hash(plan)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert json.loads((tmp_path / "plan.json").read_text())["nfe"] == 3
    find().save(tmp_path / "all")
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["plan-003.json", "plan-005.json"]
    euler = fewstep.Plan.of_solver("euler", [10, 1, 0.1])
    assert euler.export("comfyui").split()[-1].rstrip('"').endswith("0.0")
    with pytest.raises(ValueError, match="cannot express"):
        plan.export("comfyui")
    with pytest.warns(UserWarning, match="ComfyUI cannot express this plan"):
        assert plan.export("comfyui", nearest=True)


def test_plans_are_saved_and_loaded_together(tmp_path):
    plans = find()
    others = ["plan-0.json", "plan-12.json", "plan-003.json.bak", "notes.txt"]
    (tmp_path / "all").mkdir()
    for name in [*others, "plan-004.json", "plan-1000.json"]:  # the last two of an earlier search
        (tmp_path / "all" / name).write_text("{}")
    with pytest.raises(FileExistsError, match="holds plan-004.json, plan-1000.json, which are not of these plans"):
        plans.save(tmp_path / "all")
    assert not (tmp_path / "all" / "plan-003.json").exists()
    plans.save(tmp_path / "all", overwrite=True)
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted([*others, "plan-003.json", "plan-005.json"])
    for name in others:
        (tmp_path / "all" / name).unlink()
    assert dict(fewstep.Plans.load(tmp_path / "all")) == dict(plans)
    for nfe, plan in plans.items():  # as the command line leaves them
        (tmp_path / "run" / f"steps-{nfe:03}").mkdir(parents=True)
        plan.save(tmp_path / "run" / f"steps-{nfe:03}" / "plan.json")
    assert dict(fewstep.Plans.load(tmp_path / "run")) == dict(plans)
    with pytest.raises(FileNotFoundError, match="there are no plans in .*neither plan-.*nor steps-"):
        fewstep.Plans.load(tmp_path)
    plans[3].save(tmp_path / "all" / "plan-mine.json")
    with pytest.raises(ValueError, match="plan-003.json and plan-mine.json are both of 3 evaluations"):
        fewstep.Plans.load(tmp_path / "all")
    (tmp_path / "all" / "plan-mine.json").write_text("{}")
    with pytest.raises(ValueError, match="plan-mine.json in .*not a plan"):
        fewstep.Plans.load(tmp_path / "all")


class TestExports:
    def test_what_a_tool_does_otherwise_is_warned_of(self):
        def denoise(x, sigma):
            return x * np.float32(0.25 / (0.25 + sigma**2)) + np.float32(0.1)

        options = {"shape": (4, 8, 8), "steps": 3, "effort": "low", "held_out": 0, "guidance": 1.5}
        plan = find(denoise, **options)[3]
        assert plan.constant is not None
        with pytest.warns(UserWarning) as warned:
            plan.export("comfyui", nearest=True)
        (only,) = warned
        assert only.filename == __file__
        for part in (
            "ComfyUI cannot express this plan: its coefficients are no public solver's", "choose the sampler ", "constant sample is left out",
            'plans without one are found with least_squares={"constant": False}', "found under guidance 1.5", 'by method="oss/dpmpp2m_nolof"',
        ):  # fmt: skip
            assert part in str(only.message), part
        assert "search.least_squares" not in str(only.message) and "warning: " not in str(only.message)
        without = find(denoise, **options, least_squares={"constant": False})[3]
        with pytest.warns(UserWarning) as warned:
            without.export("diffusers-euler", nearest=True)
        assert without.constant is None and "constant" not in str(warned[0].message)
        assert "are used as they are" in str(warned[0].message)  # 80 is no level of the usual table

    def test_what_to_set_for_an_exact_export_is_logged(self, caplog, recwarn):
        with caplog.at_level("INFO", "fewstep"):
            fewstep.Plan.of_solver("euler", [10, 1]).export("comfyui")
        assert "choose the sampler euler" in caplog.text and not recwarn.list

    def test_the_targets_are_those_that_the_docstring_lists(self):
        with pytest.raises(ValueError, match="not exported to \"diffusers\": did you mean \"diffusers-") as raised:
            fewstep.Plan.of_solver("euler", [10, 1]).export("diffusers")
        known = str(raised.value).split("there are ")[1].split(", ")
        assert len(known) == 12 and all(f"`{name}`" in fewstep.Plan.export.__doc__ for name in known), known

    @pytest.mark.parametrize("target", ["comfyui", "k-diffusion", "stable-diffusion.cpp", "diff-sampler", "diffusers-euler", "diffusers-heun"])
    def test_a_fitted_plan_has_the_nearest_and_a_method_that_fits(self, target):
        with pytest.raises(ValueError, match="cannot express.*nearest=True.*found by method=") as raised:
            find(steps=3)[3].export(target)
        method = str(raised.value).split('method="')[1].split('"')[0]
        low, high = (0.03, 14.6) if target == "diffusers-heun" else RANGE  # within the noise table
        assert find(steps=3, method=method, sigma_range=(low, high), held_out=0)[3].export(target)


def test_a_picture():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    axes = fewstep.Plan.of_solver("euler", [10, 1, 0.1]).plot()
    assert len(axes.lines[0].get_xdata()) == 3


@pytest.mark.parametrize("method", ["least-squares+gauss-newton+moments", "gits/ipndm4", "oss/ipndm4"])
def test_efforts_cost_what_they_say(method):
    asked = {"shape": (4, 64, 64), "steps": [4, 6, 8], "method": method}
    costs = [fewstep.search_cost(**asked, effort=effort) for effort in ("low", "normal", "high")]
    assert costs[0] <= 2500 and costs == sorted(costs), costs


def rough(x, sigma):
    """Samples that a small random network bends: a fit drops few of its states."""
    rng = np.random.default_rng(0)
    scale = np.float32(1 / np.sqrt(0.25 + sigma**2))
    bent = np.tanh(x.reshape(len(x), -1) * scale @ rng.normal(size=(x[0].size, x[0].size)).astype(np.float32))
    return x * np.float32(0.25 / (0.25 + sigma**2)) + np.float32(0.2 * sigma) * scale * bent.reshape(x.shape)


@pytest.mark.parametrize(
    "denoise, options",
    [
        (mixture.numpy, {"effort": "low"}),
        (mixture.numpy, {"steps": [2, 3, 8]}),
        (rough, {"shape": (1, 4, 4), "steps": [2, 4, 6, 8], "effort": "low"}),
        (rough, {"shape": (1, 4, 4), "steps": [4, 6, 8]}),
        (rough, {"shape": (1, 4, 4), "steps": [3, 7, 7], "effort": "high", "held_out": 5}),
        (rough, {"shape": (4,), "steps": 5, "calls": 2, "least_squares": {"constant": False, "history": 1}}),
        (mixture.numpy, {"method": "oss/euler"}),
        (mixture.numpy, {"method": "karras/euler+gauss-newton"}),
    ],
)
def test_no_search_takes_more_calls_than_was_said(denoise, options):
    known = {"shape": (5,), "steps": [3, 5]} | options
    told = fewstep.search_cost(**known)
    took = find(denoise, **options).calls
    assert took <= told < 2 * took, (told, took)


def test_the_cost_with_training_samples_is_that_of_its_method():
    data = np.random.default_rng(0).uniform(-1, 1, size=(400, 3, 8, 8)).astype(np.float32)
    known = {"shape": (3, 8, 8), "steps": 3, "effort": "low", "data": data}
    plans = find(lambda x, sigma: x * np.float32(0.3 / (0.3 + sigma**2)), **known)
    assert plans[3].metadata["found_by"]["method"].endswith("+data-moments")
    told = fewstep.search_cost(**known)
    assert plans.calls <= told != fewstep.search_cost(**known | {"data": None})


@pytest.mark.parametrize("progress", [True, False])
def test_what_a_search_doubts_is_warned_of(progress):
    with pytest.warns(UserWarning, match="does its answer depend on its input") as warned:
        find(lambda x, sigma: x * 0 + 1, shape=(3, 8, 8), steps=2, progress=progress, held_out=0)
    assert {warning.filename for warning in warned} == {__file__}


class TestWhatCannotBe:
    """One clear sentence, of a type that fits."""

    @pytest.mark.parametrize(
        "answer, error, sentence",
        [
            (lambda x, s: x[:1], TypeError, "returned shape .1, 5. for an input of shape .64, 5."),
            (lambda x, s: x.astype(np.float64), TypeError, "returned float64 for an input of float32"),
            (lambda x, s: None, TypeError, "returned nothing"),
            (lambda x, s: x.tolist(), TypeError, "returned a list"),
            (lambda x, s: x * np.nan, FloatingPointError, "at sigma 2.51522 is not finite: check that the network knows"),
            (lambda x, s: x * np.float32(1e30), FloatingPointError, "not finite"),  # what becomes of it is not
        ],
    )
    def test_answers(self, answer, error, sentence):
        with pytest.raises(error, match=sentence):
            find(answer)

    def test_exceptions_come_out_as_they_went_in(self):
        class Mine(Exception):
            pass

        mine, calls = Mine("gone"), []

        def denoise(x, sigma):
            calls.append(1)
            if len(calls) == 30:
                raise mine
            return mixture.numpy(x, sigma)

        with pytest.raises(Mine) as raised:
            find(denoise)
        assert raised.value is mine and len(calls) == 30

    @pytest.mark.parametrize("kind", [FloatingPointError, ValueError])
    def test_exceptions_of_a_network_come_out_as_they_went_in(self, kind):
        mine, calls = kind("gone"), []

        def network(x, t):
            calls.append(1)
            if len(calls) == 30:
                raise mine
            return 0.1 * x

        denoise = fewstep.Parameterisation.flow().denoiser(network)  # which has a hint for answers that are not finite
        with pytest.raises(kind) as raised:
            find(denoise, sigma_range=None)
        assert raised.value is mine and str(mine) == "gone"
        calls[:] = [1] * 28
        with pytest.raises(kind) as raised:
            fewstep.Plan.of_solver("euler", [10.0, 1.0]).sample(denoise, np.zeros((1, 5), np.float32))
        assert raised.value is mine

    @pytest.mark.parametrize("operation", ["combine", "dot", "sample_dots", "part", "with_gradients", "features"])
    def test_operations_may_fail_anywhere(self, operation, monkeypatch):
        """Out of memory, say: the exception comes out, whichever operation raised it."""
        from fewstep._arrays import NumpyArrays

        def denoise(x, sigma):
            return x * 0.1 / (0.1 + sigma**2)

        options = {"shape": (1, 8, 8), "steps": [3], "held_out": 8, "effort": "low"}
        whole, calls = getattr(NumpyArrays, operation), []

        def counted(self, *arguments):
            calls.append(1)
            return whole(self, *arguments)

        monkeypatch.setattr(NumpyArrays, operation, counted)
        find(denoise, **options)
        total = len(calls)
        assert total > 0
        for at in sorted({1, 2, total // 3, total // 2, total - 1, total} - {0}):
            calls.clear()

            def failing(self, *arguments, at=at):
                calls.append(1)
                if len(calls) == at:
                    raise MemoryError("no memory")
                return whole(self, *arguments)

            monkeypatch.setattr(NumpyArrays, operation, failing)
            with pytest.raises(MemoryError, match="no memory"):
                find(denoise, **options)

    def test_interrupts_end_the_search(self):
        calls = []
        # Python leaves them ignored where it was started in the background so
        before = signal.signal(signal.SIGINT, signal.default_int_handler)

        def denoise(x, sigma):
            calls.append(1)
            if len(calls) == 5:
                os.kill(os.getpid(), signal.SIGINT)
            return mixture.numpy(x, sigma)

        try:
            with pytest.raises(KeyboardInterrupt):
                find(denoise)
        finally:
            signal.signal(signal.SIGINT, before)
        assert len(calls) <= 6

    @pytest.mark.parametrize(
        "options, error, sentence",
        [
            ({"sigma_range": (3, 2)}, ValueError, "0 < least < greatest"),
            ({"sigma_range": None}, ValueError, "sigma_range=.low, high. is needed"),
            ({"sigma_range": 80}, ValueError, "sigma_range must be .least, greatest., such as .0.002, 80., and is 80"),
            ({"sigma_range": (1, 2, 3)}, ValueError, "sigma_range must be .least, greatest., such as"),
            ({"shape": ()}, ValueError, "shape must be that of one sample"),
            ({"shape": 32}, ValueError, "shape must be that of one sample, such as .3, 32, 32., and is 32"),
            ({"steps": [0]}, ValueError, "steps must be numbers of evaluations"),
            ({"steps": []}, ValueError, "steps must be numbers of evaluations"),
            ({"steps": [4.5]}, ValueError, "steps must be numbers of evaluations of at least 1, such as .4, 6, 8., and are .4.5."),
            ({"steps": "4,6"}, ValueError, "steps must be numbers of evaluations of at least 1, such as .4, 6, 8., and are '4,6'"),
            ({"steps": [4, 60]}, ValueError, "no plan of 60 evaluations: .* 21 of them .* raise the setting teacher.grid"),
            ({"steps": [500], "effort": "high"}, ValueError, "no plan of 500 evaluations: .* 33 of them"),
            ({"steps": [14, 15], "effort": "low"}, ValueError, "no plan of 14 and 15 evaluations: .* 13 of them"),
            ({"steps": [123], "method": "gits/heun"}, ValueError, "no plan of 123 evaluations: .* 121 evaluations at most: .* gits.grid"),
            ({"method": "lest-squares"}, ValueError, "did you mean 'least-squares'"),
            ({"effort": "huge"}, ValueError, "effort must be low, normal, high"),
            ({"teacher": {"grd": 3}}, TypeError, "teacher has no setting 'grd', only"),
            ({"tacher": {}}, TypeError, "no argument or stage 'tacher'"),
            ({"teacher": {"grid": 1}}, ValueError, "teacher.grid must be from 2 to 1,000"),
            ({"batch_size": 0}, ValueError, "batch_size"),
            ({"classes": 2, "conditions": [1]}, ValueError, "exclude each other"),
        ],
    )
    def test_arguments(self, options, error, sentence):
        with pytest.raises(error, match=sentence):
            find(**options)

    def test_the_cost_takes_the_arguments_of_a_search(self):
        taken = {name: parameter.default for name, parameter in inspect.signature(fewstep.find_plans).parameters.items()}
        taken = {name: default for name, default in taken.items() if name not in ("denoise", "settings")}
        given = {"sigma_range": (0.01, 20.0), "conditions": [1, 2], "guidance": 3.0, "device": "cuda", "batch_size": 3, "progress": False}
        assert fewstep.search_cost(**taken | given | {"shape": (5,)}) == fewstep.search_cost(shape=(5,))
        with pytest.raises(ValueError, match="sigma_range must be .least, greatest., such as"):
            fewstep.search_cost(shape=(5,), sigma_range=80)
        with pytest.raises(TypeError, match="search_cost has no argument or stage 'tacher'"):
            fewstep.search_cost(shape=(5,), tacher={})

    @pytest.mark.parametrize("steps", [[4, 60], [4.5], "4,6", [0], []])
    def test_arguments_of_the_cost(self, steps):
        with pytest.raises(ValueError, match="no plan of 60|steps must be numbers"):
            fewstep.search_cost(shape=(5,), steps=steps)
        with pytest.raises(ValueError, match="shape must be that of one sample"):
            fewstep.search_cost(shape=32)

    def test_as_many_levels_as_are_asked_for_serve(self):
        assert list(find(steps=[4, 24], teacher={"grid": 24}, effort="low", held_out=0)) == [4, 24]
        assert list(find(steps=[60], method="karras/euler", effort="low", held_out=0)) == [60]

    def test_plans(self, tmp_path):
        plan = find(steps=3)[3]
        with pytest.raises(ValueError, match="shape .5., the latents are of .4."):
            plan.sample(mixture.numpy, np.zeros((2, 4), np.float32))
        with pytest.raises(ValueError, match="not a plan"):
            fewstep.Plan.from_json("{}")
        with pytest.raises(ValueError, match="solver"):
            fewstep.Plan.of_solver("oiler", [1.0])
        with pytest.raises(ValueError):
            fewstep.Plan.of_solver("euler", [1.0, 2.0])
        with pytest.raises(FileNotFoundError):
            fewstep.Plan.load(tmp_path / "none.json")


def filters(channels):
    """Two layers of random filters: the first of 7x7 pixels, the second in groups."""
    rng = np.random.default_rng(0)

    def layer(c_out, c_in, groups, side):
        weight = rng.normal(size=(c_out, c_in // groups, side, side)).astype(np.float32)
        return (c_out, groups, side), weight.tobytes(), rng.normal(size=c_out).astype(np.float32).tobytes()

    return [layer(4 * channels, channels, 1, 7), layer(8 * channels, 4 * channels, channels, 3)]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_features_are_the_same_in_numpy_and_torch(channels):
    torch = pytest.importorskip("torch")
    from fewstep._arrays import NumpyArrays, TorchArrays

    shape = (channels, 17, 16)
    images = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    numpy_arrays, torch_arrays = NumpyArrays(shape, np.float32), TorchArrays(shape, torch.float32, "cpu")
    for arrays in (numpy_arrays, torch_arrays):
        arrays.set_filters(filters(channels))
    for clip in (False, True):
        ours, dim = numpy_arrays.features(images, clip)
        theirs, same = torch_arrays.features(torch.from_numpy(images), clip)
        assert dim == same == 12 * channels
        np.testing.assert_allclose(np.frombuffer(ours), np.frombuffer(theirs), rtol=1e-4, atol=1e-5)


def pictures(x, sigma):
    """D(x; sigma) of pictures `[N, 1, 6, 8]`: brighter to the right or to the left, with noise of 0.2."""
    mean = np.linspace(-0.6, 0.6, 8, dtype=x.dtype)
    variance = 0.04 + sigma**2
    side = np.tanh((x * mean).sum((1, 2, 3), keepdims=True) / variance)
    return (x * 0.04 + side * mean * sigma**2) / variance


def test_moments_of_training_samples():
    random = np.random.default_rng(0)
    sides, noise = random.choice([-1, 1], (600, 1, 1, 1)), random.normal(size=(600, 1, 6, 8))
    data = (1.2 * (sides * np.linspace(-0.6, 0.6, 8) + 0.2 * noise)).astype(np.float32)  # more contrast than the network's
    options = {"shape": (1, 6, 8), "steps": [3]}
    ours = "least-squares+gauss-newton+data-moments"
    latents = fewstep.latents(range(200), (1, 6, 8))

    def contrast(**more):
        return find(pictures, **options, **more)[3].sample(pictures, latents).std()

    of_data = contrast(data=data)
    assert of_data == contrast(method=ours, data=data)
    assert 1.01 * contrast() < of_data < 1.2 * data.std()
    torch = pytest.importorskip("torch")
    assert np.isclose(contrast(method=ours, data=torch.from_numpy(data).double()), of_data, atol=1e-4)
    assert np.isclose(contrast(method=ours, data=data.tolist()), of_data, atol=1e-4)
    nearest = find(pictures, **options, method=f"{ours}+nearest", data=data, nearest={"samples": 64, "least_gain": 0})[3]
    chosen = nearest.metadata["found_by"]["nearest"]
    assert chosen["method"] == min(chosen["compared"], key=lambda name: chosen["compared"][name]["distance"])
    assert set(chosen["compared"]) == {"own", "karras/unipc2_bh2+data-moments", "karras/dpmpp2m+data-moments"}
    for message, more in [
        ("pass them as data=", {"method": ours}),
        ("data= is for methods with", {"method": "oss/euler", "data": data}),
        ("two samples or more", {"method": ours, "data": data[:1]}),
        (r"\[N, 1, 6, 8\], and is \[600, 6, 8\]", {"method": ours, "data": data[:, 0]}),
    ]:
        with pytest.raises(ValueError, match=message):
            find(pictures, **options, **more)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_plans_are_chosen_by_features_of_the_users(library):
    method = "least-squares+data-moments+nearest"
    options = {"shape": (1, 6, 8), "steps": [3], "method": method, "nearest": {"samples": 64}, "images": False}
    euler = find(pictures, shape=(1, 6, 8), steps=[3], method="karras/heun")[3]
    data = euler.sample(pictures, fewstep.latents(range(500), (1, 6, 8)))
    options["nearest"]["methods"] = ["karras/heun", "karras/euler"]
    denoise = pictures
    if library == "torch":
        torch = pytest.importorskip("torch")
        options |= {"dtype": torch.float32}

        def denoise(x, sigma):
            return torch.from_numpy(pictures(x.numpy(), sigma).astype(np.float32))

    def chosen(features):
        return find(denoise, **options, data=data, features=features)[3].metadata["found_by"]["nearest"]["method"]

    asked = []

    def features(x):
        asked.append(type(x).__module__)
        return x.reshape(len(x), -1)[:, ::5]

    assert chosen(features) == "karras/heun+data-moments"
    assert set(asked) == {library}
    with pytest.raises(ZeroDivisionError):
        chosen(lambda x: 1 / 0)
    with pytest.raises(ValueError, match=r"with \[\d+, d\], and answered"):
        chosen(lambda x: x)
    with pytest.raises(ValueError, match="features= is for methods that end in"):
        find(denoise, **options | {"method": None}, data=data, features=features)


def test_flows_are_compared_on_schedules_of_flows():
    data = np.random.default_rng(0).uniform(-1, 1, (100, 1, 6, 8)).astype(np.float32)
    method = "least-squares+data-moments+nearest"
    shared = {"shape": (1, 6, 8), "steps": [3], "effort": "low", "method": method, "nearest": {"samples": 16}}
    flow = fewstep.Parameterisation.flow()

    def compared(plans):
        return set(plans[3].metadata["found_by"]["nearest"]["compared"])

    on_any = {"own", "karras/unipc2_bh2+data-moments", "karras/dpmpp2m+data-moments"}
    assert compared(find(pictures, **shared, data=data)) == on_any
    denoise = flow.denoiser(lambda x, t: 0.1 * x)
    plans = find(denoise, **shared, data=data, sigma_range=None)
    assert compared(plans) == on_any | {"flow_trailing/unipc2_bh2+data-moments", "flow_trailing/dpmpp2m+data-moments"}
    assert fewstep.search_cost(**shared) < plans.calls <= fewstep.search_cost(**shared, parameterisation=flow)
