"""The exact mixture dressed in each parameterisation is the same denoiser and has the same plan."""

import mixture
import numpy as np
import pytest

import fewstep
from fewstep import Parameterisation

X = fewstep.latents(range(6), (5,)).astype(np.float64)


def sigma_of(parameterisation, label):
    """The noise level that a network is told, by bisection."""
    low, high = (np.log(level) for level in (1e-4, 1e5))
    for _ in range(200):
        middle = (low + high) / 2
        if parameterisation.coefficients(float(np.exp(middle)))[3] < label:
            low = middle
        else:
            high = middle
    return float(np.exp(low))


def network_of(parameterisation, predict):
    """What a network would answer whose denoiser is the mixture's."""

    def network(z, label):
        sigma = sigma_of(parameterisation, float(label[0]))
        c_in = parameterisation.coefficients(sigma)[2]
        x = z / c_in
        return predict(x, mixture.numpy(x, sigma), sigma)

    return network


CASES = {
    "eps": (Parameterisation.eps(), lambda x, d, s: (x - d) / s),
    "v": (
        Parameterisation.v(),
        lambda x, d, s: ((x - d) / s - s * d) / np.sqrt(1 + s**2),
    ),
    "x0": (Parameterisation.x0(), lambda x, d, s: d),
    "flow": (Parameterisation.flow(shift=3.0), lambda x, d, s: (x - d) / s - d),
}


@pytest.mark.parametrize("name", CASES)
def test_the_same_denoiser(name):
    parameterisation, predict = CASES[name]
    denoise = parameterisation.denoiser(network_of(parameterisation, predict))
    low, high = parameterisation.sigma_range
    for sigma in np.geomspace(low * 1.01, high * 0.99, 7):
        error = np.abs(denoise(X * sigma, float(sigma)) - mixture.numpy(X * sigma, float(sigma))).max()
        # labels are single precision, as networks take them
        assert error < 2e-3, (name, sigma, error)


@pytest.mark.parametrize("name", CASES)
def test_several_levels_at_once(name):
    parameterisation, _ = CASES[name]
    denoise = parameterisation.denoiser(lambda z, label: 0.1 * z + label[:, None] * 1e-3)
    sigmas = np.array([0.1, 0.5, 1.0, 2.0, 5.0, 9.0])
    together = denoise(X, sigmas)
    alone = np.concatenate([denoise(X[k : k + 1], float(sigma)) for k, sigma in enumerate(sigmas)])
    assert np.allclose(together, alone, rtol=1e-12)


def test_ranges_and_schedules_are_the_networks_own():
    assert np.allclose(Parameterisation.eps().sigma_range, (0.0291675, 14.614642), rtol=1e-4)
    assert np.allclose(Parameterisation.flow().sigma_range, (0.001 / 0.999, 999), rtol=1e-9)
    low, high = Parameterisation.flow(shift=3.0).sigma_range
    assert np.isclose(low, 3 * 0.001 / 0.999) and np.isclose(high, 999)
    alphas = np.linspace(0.999, 0.01, 50)
    assert np.isclose(Parameterisation.eps(alphas).sigma_range[1], np.sqrt(0.99 / 0.01))
    plans = fewstep.find_plans(
        CASES["x0"][0].denoiser(lambda z, label: z * 0), shape=(5,), steps=3, progress=False, effort="low", dtype=np.float32
    )
    assert max(plans[3].sigmas) <= 14.7


def test_texts_are_those_of_model_descriptions():
    for parameterisation, _ in CASES.values():
        again = Parameterisation.from_json(parameterisation.to_json())
        assert again.coefficients(1.5) == parameterisation.coefficients(1.5)
    assert "flow" in repr(Parameterisation.flow())


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: Parameterisation.eps("cosine2"), "noise table 'cosine2' is none of"),
        (lambda: Parameterisation.eps([0.5, 0.9]), "alphas_cumprod must fall.*from 0.5 to 0.9: are these betas. Pass the cumulated product of 1 - beta"),
        (lambda: Parameterisation.eps(np.linspace(1e-4, 0.02, 1000)), "are these betas"),
        (lambda: Parameterisation.eps([0.9, 0.5, 0.5]), "alphas_cumprod"),
        (lambda: Parameterisation.flow(shift=-1), "shift"),
        (lambda: Parameterisation.flow(timestep="2t"), "2t"),
        (lambda: Parameterisation.edm(sigma_data=0), "sigma_data"),
    ],
)
def test_what_cannot_be(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_a_scheduler_is_no_table():
    class Scheduler:
        alphas_cumprod = np.linspace(0.999, 0.01, 50)

    with pytest.raises(TypeError, match="v takes a table of alphas_cumprod, not a Scheduler: pass the Scheduler's own, .alphas_cumprod"):
        Parameterisation.v(Scheduler())
    with pytest.raises(TypeError, match="a number for every timestep, not a object"):
        Parameterisation.x0(object())
    assert Parameterisation.v(Scheduler.alphas_cumprod)


@pytest.mark.parametrize("answer", [np.nan, 1e25])
def test_a_flow_says_what_its_network_is_told(answer):
    """A network of t from 0 to 1 that is told 1000 t may answer anything."""

    def network(z, t):
        return z * np.float32(answer) if t.max() > 1 else -z

    options = {"shape": (5,), "steps": 3, "progress": False, "effort": "low", "dtype": np.float32}
    with pytest.raises(FloatingPointError, match="not finite.*the network is told 1000t with t from 0 to 1.*timestep="):
        fewstep.find_plans(Parameterisation.flow(shift=3.0).denoiser(network), **options)
    assert fewstep.find_plans(Parameterisation.flow(shift=3.0, timestep="t").denoiser(network), **options)
