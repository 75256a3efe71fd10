"""What callers may give that cannot be, or that is easy to get wrong: each kind is refused in one sentence, or works."""

import copy
import pickle

import mixture
import numpy as np
import pytest

import fewstep
from fewstep import Parameterisation

torch = pytest.importorskip("torch")

RANGE = (0.01, 20.0)


def linear(x, sigma):
    return x * (0.25 / (0.25 + sigma**2))


def find(denoise=linear, **options):
    defaults = {"shape": (3,), "steps": [2, 3], "sigma_range": RANGE, "effort": "low", "progress": False, "dtype": np.float32}
    return fewstep.find_plans(denoise, **defaults | options)


def errors(plans):
    return [plan.rollout_error for plan in plans.values()]


LIBRARIES = {"numpy": (np.float32, lambda shape: np.ones(shape, np.float32)), "torch": (torch.float32, torch.ones)}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("per_sample", [False, True])
def test_a_callback_may_change_its_input_and_answer_in_one_buffer(library, per_sample):
    dtype, ones = LIBRARIES[library]

    def shaped(sigma):
        return sigma[:, None] if per_sample and not isinstance(sigma, float) else sigma

    def plain(x, sigma):
        return linear(x, shaped(sigma))

    def in_place(x, sigma):
        sigma = shaped(sigma)
        x *= 1 / (0.25 + sigma**2) ** 0.5
        x *= 0.25 / (0.25 + sigma**2) ** 0.5
        return x

    buffers = {}

    def in_one_buffer(x, sigma):
        buffer = buffers.setdefault(len(x), ones(tuple(x.shape)))
        buffer[:] = plain(x, sigma)
        return buffer

    options = {"dtype": dtype, "sigma_per_sample": per_sample}
    expected = find(plain, **options)
    latents = fewstep.latents(range(4), (3,), like=ones((1,)) if library == "torch" else None)
    plan = fewstep.Plan.of_solver("dpmpp3m", [20.0, 5.0, 1.0, 0.2])
    sampled = plan.sample(plain, latents)
    for denoise in (in_place, in_one_buffer):
        assert np.allclose(errors(find(denoise, **options)), errors(expected), rtol=1e-3)
        again = copy.deepcopy(latents)
        assert abs(plan.sample(denoise, again) - sampled).max() < 1e-5
        assert (again == latents).all()


@pytest.mark.parametrize(
    "answer, sentence",
    [
        (lambda x: x[:, :1], r"the network returned shape \[.*, 1, 8, 8\] for an input of shape \[.*, 3, 8, 8\]"),
        (lambda x: x.mean(0, keepdim=True), r"the network returned shape \[1, 3, 8, 8\]"),
        (lambda x: (x,), "returned a tuple, where a torch tensor was expected: take its first"),
        (lambda x: type("Output", (), {"sample": x})(), "returned a Output, where a torch tensor was expected: take its .sample"),
        (lambda x: x.numpy(), "returned a ndarray, where a torch tensor was expected"),
        (lambda x: x.to("meta"), "the network moved the answer to meta from cpu"),
        (lambda x: None, "the network returned nothing"),
    ],
)
def test_answers_of_a_network_in_a_parameterisation(answer, sentence):
    denoise = Parameterisation.eps().denoiser(lambda x, t: answer(x))
    for run in (
        lambda: find(denoise, shape=(3, 8, 8), dtype=torch.float32, sigma_range=None),
        lambda: fewstep.Plan.of_solver("euler", [10.0, 1.0]).sample(denoise, torch.zeros(2, 3, 8, 8)),
    ):
        with pytest.raises(TypeError, match=sentence):
            run()


def test_what_does_not_fit_into_memory():
    with pytest.raises(MemoryError, match="samples of shape .* do not fit into memory"):
        find(shape=(10**15,))
    with pytest.raises(MemoryError):
        fewstep.latents([1, 2], (2**62, 2))
    for stage, name in [("teacher", "samples"), ("least_squares", "samples"), ("moments", "control"), ("nearest", "samples")]:
        for run in (find, lambda **options: fewstep.search_cost(shape=(3,), **options)):
            with pytest.raises(ValueError, match=f"setting {stage}.{name} must be .* million"):
                run(**{stage: {name: 2**31 - 1}})
    with pytest.raises(ValueError, match="teacher.grid must be from 2 to 1,000, but it is 30000"):
        fewstep.search_cost(shape=(3,), teacher={"grid": 30_000})
    for run in (find, lambda **options: fewstep.search_cost(shape=(3,), **options)):
        with pytest.raises(ValueError, match="a schedule has 10000 levels at most"):
            run(steps=[2**31 - 1], method="karras/euler")


def test_plans_are_for_networks_of_one_parameterisation():
    flow = Parameterisation.flow()
    plan = find(flow.denoiser(lambda x, t: x * 0.1), sigma_range=None, steps=3, held_out=0)[3]
    assert plan.metadata["parameterisation"] == "flow"
    latents = np.zeros((1, 3), np.float32)
    plan.sample(flow.denoiser(lambda x, t: x * 0.1), latents)
    with pytest.raises(ValueError, match="found for a network of the parameterisation flow, and this one is of eps: find a plan for it"):
        plan.sample(Parameterisation.eps().denoiser(lambda x, t: x), latents)
    with pytest.raises(ValueError, match="at noise level 80, but it supports"):
        fewstep.Plan.of_solver("euler", [80.0, 1.0]).sample(Parameterisation.eps().denoiser(lambda x, t: x), latents)
    with pytest.raises(ValueError, match=r"sigma_range \(0.002, 80\) is not within the levels that the network knows, 0.029\d* to 14.61"):
        find(Parameterisation.eps().denoiser(lambda x, t: x), sigma_range=(0.002, 80))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda of: pickle.loads(pickle.dumps(of))])
def test_parameterisations_are_copied_and_compared(copied):
    for of in (Parameterisation.eps("linear"), Parameterisation.flow(shift=np.float32(3.0)), Parameterisation.edm()):
        again = copied(of)
        assert again == of and hash(again) == hash(of) and again.sigma_range == of.sigma_range
    assert Parameterisation.eps() != Parameterisation.v()
    denoise = copied(Parameterisation.eps().denoiser(linear))
    assert denoise.parameterisation == Parameterisation.eps()
    for numbers in ({"shift": float("nan")}, {"t_max": float("inf")}):
        with pytest.raises(ValueError, match=f"{next(iter(numbers))} must be finite"):
            Parameterisation.flow(**numbers)
    with pytest.raises(TypeError, match="shift must be a number, and is '3'"):
        Parameterisation.flow(shift="3")


@pytest.mark.parametrize(
    "options, error, sentence",
    [
        ({"dtype": np.int32}, TypeError, "dtype must be float16, float32 or float64, and is int32"),
        ({"dtype": np.complex64}, TypeError, "and is complex64"),
        ({"dtype": bool}, TypeError, "and is bool"),
        ({"dtype": np.longdouble}, TypeError, "dtype must be float16"),
        ({"dtype": "no"}, TypeError, "dtype must be a floating-point type, and is 'no'"),
        ({"dtype": torch.int64}, TypeError, "floating-point type of 16 bits or more, and is torch.int64"),
        ({"dtype": torch.float8_e5m2}, TypeError, "16 bits or more, and is torch.float8_e5m2"),
        ({"device": "cuda"}, ValueError, "device= and offload= are for torch, and the arrays are NumPy's"),
        ({"offload": "cpu"}, ValueError, "for torch, and the arrays are NumPy's"),
        ({"dtype": torch.float32, "device": "meta"}, ValueError, "device is 'meta', where tensors hold no numbers"),
        ({"dtype": torch.float32, "offload": "meta"}, ValueError, "offload is 'meta'"),
        ({"dtype": torch.float32, "device": "bogus"}, ValueError, "device must be a torch device such as 'cpu' or 'cuda', and is 'bogus'"),
        ({"dtype": torch.float32, "device": True}, ValueError, "and is True"),
        ({"dtype": torch.float32, "device": False}, ValueError, "and is False"),
        ({"like": [1.0]}, TypeError, "like must be an array of torch or NumPy, and is a list"),
        ({"batch_size": "8"}, TypeError, "batch_size must be a whole number, and is '8'"),
        ({"batch_size": None}, TypeError, "batch_size must be a whole number, and is None"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be a whole number"),
        ({"held_out": 2.5}, TypeError, "held_out must be a whole number"),
        ({"held_out": -1}, ValueError, "held_out must be at least 0, and is -1"),
        ({"held_out": 2**70}, ValueError, "held_out must be at most"),
        ({"steps": 2**70}, ValueError, "steps must be numbers of evaluations"),
        ({"classes": -1}, ValueError, "classes must be at least 0"),
        ({"classes": 2.5}, TypeError, "classes must be a whole number"),
        ({"calls": 0}, ValueError, "calls must be at least 1"),
        ({"calls": True}, TypeError, "calls must be a whole number, and is True"),
        ({"guidance": "3"}, TypeError, "guidance must be a number, and is '3'"),
        ({"guidance": float("nan")}, ValueError, "guidance must be finite"),
        ({"method": 3}, TypeError, "method must be the name of one, such as"),
        ({"effort": ["low"]}, ValueError, "effort must be low, normal, high"),
        ({"progress": 1}, TypeError, "progress must be True, False or an object"),
        ({"conditions": 5}, TypeError, "conditions must be rows .* or a function, and 5 is neither"),
        ({"conditions": {"a": 3}}, TypeError, "and 3 is neither"),
        ({"conditions": "abc"}, TypeError, "and 'abc' is neither"),
        ({"conditions": {1, 2}}, TypeError, "is neither"),
        ({"teacher": {"grid": "a"}}, TypeError, r"teacher\['grid'\] must be a whole number, and is 'a'"),
        ({"teacher": {"grid": float("nan")}}, TypeError, r"teacher\['grid'\] must be a whole number"),
        ({"least_squares": {"constant": 1}}, TypeError, r"least_squares\['constant'\] must be True or False, and is 1"),
        ({"least_squares": {"ridge": float("inf")}}, ValueError, r"least_squares\['ridge'\] must be finite"),
        ({"least_squares": {"error_space": 3}}, TypeError, r"\['error_space'\] must be a str such as 'both', and is 3"),
        ({"gits": {"coefficients": [1.0, "b"]}}, TypeError, r"gits\['coefficients'\]\[1\] must be a number, and is 'b'"),
    ],
)  # fmt: skip
def test_arguments(options, error, sentence):
    with pytest.raises(error, match=sentence):
        find(**options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="these devices are there")
@pytest.mark.parametrize("device", [0, "cuda", torch.device("cuda", 0)])
def test_devices_that_are_not_there(device):
    module = torch.nn.Linear(3, 3)
    single = {"dtype": torch.float32}
    for options in ({"device": device}, {"like": torch.ones(1), "device": device}, {"offload": device}, {"denoise": module, "device": device}):
        with pytest.raises(ValueError, match="(device|offload) is .*, which cannot be used here: "):
            find(**single | options)


def test_other_arguments():
    with pytest.raises(TypeError, match="denoise.x, sigma. must be callable, and None is not"):
        find(None)
    with pytest.raises(TypeError, match="network.x, label. must be callable"):
        Parameterisation.eps().denoiser(3)
    assert len(find(teacher={"grid": np.int64(9)}, steps=np.array([2, 3]), gits={"coefficients": np.array([1.1])})) == 2
    for options, error in [({"calls": 0}, ValueError), ({"held_out": -5}, ValueError), ({"classes": "2"}, TypeError)]:
        with pytest.raises(error, match=next(iter(options))):
            fewstep.search_cost(shape=(3,), **options)
    for seeds, error in [([-1], ValueError), (["1"], TypeError), ([1.5], TypeError), ([True], TypeError), ([2**64], ValueError)]:
        with pytest.raises(error, match="a seed must be"):
            fewstep.latents(seeds, (3,))
    with pytest.raises(TypeError, match="floating-point type"):
        fewstep.latents([1], (3,), like=torch.zeros(1, dtype=torch.int32))
    dropping = torch.nn.Sequential(torch.nn.Dropout(0.5))
    for denoise in (dropping, Parameterisation.eps().denoiser(dropping)):
        with pytest.raises(ValueError, match="in training mode, with dropout"):
            find(denoise, dtype=torch.float32, sigma_range=(0.1, 10))


IMAGES = {"shape": (1, 8, 8), "steps": [3], "method": "least-squares+data-moments", "held_out": 0}


@pytest.mark.parametrize(
    "change, error, sentence",
    [
        (lambda data: data * np.nan, ValueError, "data is not finite, among samples 0 to"),
        (lambda data: (127.5 * data).astype(np.uint8), TypeError, "and is uint8: images in 0 to 255 become that by x / 127.5 - 1"),
        (lambda data: data > 0, TypeError, "floating-point samples as the network denoises them, and is bool"),
        (lambda data: data.astype(object), TypeError, "and is object"),
        (lambda data: 127.5 * data + 127.5, ValueError, r"must be images in \[-1, 1\], and has a value of size 2\d\d.*or pass images=False"),
        (lambda data: data[:9], ValueError, r"the moments of \d+ features cannot be told from 9 samples"),
    ],
)
def test_training_samples(change, error, sentence):
    data = np.random.default_rng(0).uniform(-1, 1, (200, 1, 8, 8)).astype(np.float32)
    asked = []

    def denoise(x, sigma):
        asked.append(sigma)
        return linear(x, sigma)

    find(denoise, **IMAGES, data=data)
    asked.clear()
    with pytest.raises(error, match=sentence):
        find(denoise, **IMAGES, data=change(data))
    assert not asked  # it is known before the search


def test_features():
    data = np.random.default_rng(0).uniform(-1, 1, (201, 1, 8, 8)).astype(np.float32)  # in batches of 50 and 51
    options = IMAGES | {"method": "least-squares+data-moments+nearest", "data": data, "nearest": {"samples": 8}}
    for features, error, sentence in [
        (3, TypeError, "features.x. must be callable, and 3 is not"),
        (lambda x: {"a": x}, TypeError, r"features must answer with an array \[\d+, d\], and answered with a dict"),
        (lambda x: x.reshape(len(x), -1)[:, : len(x) % 7 + 1], ValueError, "features must be of one dimension, and are of 2 and of 3"),
        (lambda x: x.reshape(len(x), -1) * np.nan, FloatingPointError, "features of the training samples are not finite"),
    ]:
        with pytest.raises(error, match=sentence):
            find(**options, features=features)


def test_latents_of_a_plan():
    plan = fewstep.Plan.of_solver("euler", [10.0, 1.0])
    assert plan.sample(linear, [[1.0, 2.0, 3.0]]).shape == (1, 3)
    for latents in (None, "abc", 5, np.zeros(3), torch.zeros(3), torch.tensor(1.0)):
        with pytest.raises(ValueError, match=r"latents must be samples \[N, ...\]"):
            plan.sample(linear, latents)
    for ones in (np.ones((2, 3), np.float32), torch.ones(2, 3)):
        for bad in (np.nan, np.inf):
            ones[1, 2] = bad
            with pytest.raises(ValueError, match="latents are not finite"):
                plan.sample(linear, ones)
    with pytest.raises(TypeError, match="dtype must be one of torch's, such as torch.float32, and is 'float32'"):
        plan.sample(linear, torch.zeros(1, 3), dtype="float32")
    with pytest.raises(TypeError, match="dtype must be float16, float32 or float64"):
        plan.sample(linear, np.zeros((1, 3), int))


def test_files(tmp_path):
    plan = fewstep.Plan.of_solver("euler", [10.0, 1.0])
    with pytest.raises(FileNotFoundError, match="there is no folder '.*none' to write plan.json into"):
        plan.save(tmp_path / "none" / "plan.json")
    (tmp_path / "plan-001.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not a plan: it is no text"):
        fewstep.Plan.load(tmp_path / "plan-001.json")
    with pytest.raises(KeyError, match="no plan of 3 evaluations, nor any other"):
        fewstep.Plans([])[3]


def test_a_mixture_on_either_library_is_one():
    """The copies that protect a search do not change it."""
    options = {"shape": (5,), "steps": [3], "sigma_range": (0.002, 80)}
    one, other = find(mixture.numpy, **options), find(mixture.torch, **options | {"dtype": torch.float32})
    assert np.allclose(errors(one), errors(other), rtol=1e-2)
