"""Pipelines and schedulers of diffusers that are given what cannot be, or what is easy to get wrong."""

import copy
import json
import pickle
import subprocess
import sys
import textwrap

import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, FlowMatchEulerDiscreteScheduler
from test_diffusers import QUICK, ddpm, sd3, stable_diffusion

import fewstep
from fewstep._recording import Probe
from fewstep._scheduler import Dress
from fewstep.diffusers import PipelineDenoiser, PlanScheduler, find_plans


def quiet_ddpm():
    torch.manual_seed(0)
    pipe, *_ = ddpm()
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.eval()
    return pipe


def test_a_saved_pipeline_is_loaded_in_a_new_process(tmp_path):
    pipe = quiet_ddpm()
    pipe.scheduler = PlanScheduler.from_plans(fewstep.Plan.of_solver("euler", [157.408, 2.0]), pipe.scheduler)
    pipe.save_pretrained(tmp_path)
    program = """
        import sys, fewstep.diffusers
        from diffusers import DiffusionPipeline
        pipe = DiffusionPipeline.from_pretrained(sys.argv[1])
        print(len(pipe(num_inference_steps=2).images), repr(pipe.scheduler))
    """
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(program), str(tmp_path)], capture_output=True, text=True)
    assert ran.stdout.strip() == "1 PlanScheduler(plans of 2 evaluations, eps)", ran.stderr


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda of: pickle.loads(pickle.dumps(of))])
def test_schedulers_are_copied(copied):
    pipe = quiet_ddpm()
    ours = PlanScheduler.from_plans(fewstep.Plan.of_solver("euler", [10.0, 2.0]), pipe.scheduler)
    again = copied(ours)
    again.set_timesteps(2)
    assert torch.equal(again.timesteps, ours.timesteps) and again.parameterisation == ours.parameterisation


def test_plans_of_networks_of_another_parameterisation_are_refused():
    flow = fewstep.Parameterisation.flow()
    plans = fewstep.find_plans(
        flow.denoiser(lambda x, t: 0.1 * x), shape=(3, 16, 16), steps=3, effort="low", held_out=0, progress=False
    )
    PlanScheduler.from_plans(plans, FlowMatchEulerDiscreteScheduler())
    for scheduler in (DDIMScheduler(clip_sample=False), DDIMScheduler(clip_sample=False, prediction_type="v_prediction")):
        with pytest.raises(ValueError, match="found for a network of the parameterisation flow, and this one is of (eps|v): find a plan"):
            PlanScheduler.from_plans(plans, scheduler)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("in_place", [True, False])
def test_a_sample_that_is_changed_on_the_way_counts(in_place, mode):
    with mode():
        changed_on_the_way(in_place)


def changed_on_the_way(in_place):
    scheduler = PlanScheduler.from_plans(fewstep.Plan.of_solver("euler", [10.0, 2.0, 0.5]), DDIMScheduler(clip_sample=False))
    sample = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    made = []
    for change in (0.0, 1.0):
        scheduler.set_timesteps(3)
        state = scheduler.scale_model_input(sample.clone())
        for index, timestep in enumerate(scheduler.timesteps):
            state = scheduler.scale_model_input(state, timestep)
            state = scheduler.step(0.1 * state, timestep, state, return_dict=False)[0]
            if index == 0 and in_place:
                state += change
            elif index == 0:
                state = state + change
        made.append(state)
    # D(x) is linear in x, and a shift of the state is one of the sample
    assert float((made[1] - made[0]).abs().min()) > 0.5


def test_what_else_cannot_be():
    pipe = quiet_ddpm()
    plans = find_plans(pipe, steps=2, progress=False, held_out=0, **QUICK)
    scheduler = PlanScheduler.from_plans(plans, pipe.scheduler)
    for refused in (scheduler, Probe(pipe.scheduler, 500.0)):
        for name in ("add_noise", "scale_noise"):
            with pytest.raises(ValueError, match="noise alone"):
                getattr(refused, name)(torch.zeros(1), torch.zeros(1), torch.zeros(1))
    with pytest.raises(ValueError, match=r"hands its noise .* begin at the greatest noise level, 157.\d+: sigma_range must end there"):
        find_plans(pipe, steps=2, sigma_range=(0.01, 20.0), progress=False)
    pipe.scheduler = PlanScheduler.from_plans(fewstep.Plan.of_solver("euler", [10.0, 2.0]), pipe.scheduler)
    with pytest.raises(ValueError, match=r"its plan must begin with noise alone at 157.\d+, and this one begins otherwise, at 10: find one on the pipeline"):
        pipe(num_inference_steps=2)
    pipe.scheduler = scheduler
    for options, error, sentence in [
        ({"guidance": 3.0}, TypeError, "has guidance of the pipeline's: leave out guidance=, and pass guidance_scale="),
        ({"dtype": torch.float16}, TypeError, "leave out dtype="),
        ({"conditions": [1]}, TypeError, "leave out conditions="),
        ({"arguments": {"guidance_scale": 3.0}}, ValueError, "pass guidance_scale=, not arguments="),
        ({"arguments": {"num_images_per_prompt": 2}}, ValueError, "num_images_per_prompt multiplies samples"),
        ({"arguments": [1]}, TypeError, "arguments must be a dict"),
        ({"parameterisation": "eps"}, TypeError, "parameterisation must be a fewstep.Parameterisation, and is 'eps'"),
        ({"prompts_or_labels": 0}, ValueError, "the number of samples must be at least 1, and is 0"),
        ({"prompts_or_labels": 2.5}, TypeError, "the number of samples must be a whole number"),
        ({"sigma_range": 80}, ValueError, r"sigma_range must be \(least, greatest\), such as \(0.002, 80\), and is 80"),
        ({"sigma_range": ("a", "b")}, ValueError, r"sigma_range must be \(least, greatest\), such as"),
        ({"sigma_range": (157.4,)}, ValueError, r"sigma_range must be \(least, greatest\), such as"),
        ({"least_squares": 3}, TypeError, "least_squares takes a dict of settings"),
        ({"gauss_newton": None}, TypeError, "gauss_newton takes a dict of settings"),
        ({"guidance_scale": float("nan")}, ValueError, "guidance_scale must be finite, and is nan"),
        ({"guidance_scale": "3"}, TypeError, "guidance_scale must be a number, and is '3'"),
        ({"prompts_or_labels": True}, TypeError, "the number of samples must be a whole number, and is True"),
    ]:
        with pytest.raises(error, match=sentence):
            find_plans(pipe, steps=2, progress=False, **options)
    for given in (None, "x", [3], 3):
        with pytest.raises(TypeError, match="from_plans takes a plan"):
            PlanScheduler.from_plans(given, pipe.scheduler)
    with pytest.raises(ValueError, match=r"one plan for each number of steps, and was given \[2, 2\]"):
        PlanScheduler.from_plans([plans[2], plans[2]], pipe.scheduler)
    for other in (None, "DDIM"):
        for parameterisation in (None, fewstep.Parameterisation.eps()):
            with pytest.raises(TypeError, match="a scheduler of diffusers, which has a configuration, is needed, and .* is none"):
                PlanScheduler.from_plans(plans, other, parameterisation)
    for steps in ("2", [2], 2.0):
        with pytest.raises(TypeError, match="num_inference_steps must be a whole number"):
            scheduler.set_timesteps(steps)
    scheduler.set_timesteps(2)
    with pytest.raises(ValueError, match=r"the network's answer is of shape \[1, 3, 16, 16\], and the sample is of \[2, 3, 16, 16\]"):
        scheduler.step(torch.zeros(1, 3, 16, 16), 0, torch.zeros(2, 3, 16, 16))
    next(pipe.unet.parameters()).data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="the network's answer in the pipeline is not finite"):
        find_plans(pipe, steps=2, progress=False)
    pipe.scheduler = None
    with pytest.raises(ValueError, match="DDPMPipeline has no scheduler"):
        find_plans(pipe, steps=2, progress=False)


def test_an_answer_that_is_not_finite_ends_the_pipeline():
    pipe = quiet_ddpm()
    top = fewstep.diffusers.parameterisation_of(pipe.scheduler).sigma_range[1]
    pipe.scheduler = PlanScheduler.from_plans(fewstep.Plan.of_solver("euler", [top, 2.0, 0.5]), pipe.scheduler)
    calls = []
    forward = pipe.unet.forward

    def broken(*given, **more):
        calls.append(1)
        made = forward(*given, **more)
        made.sample[-1, 0, 0, 0] = float("inf") if len(calls) == 2 else 0.0
        return made

    pipe.unet.forward = broken
    with pytest.raises(FloatingPointError, match="the network's answer in the pipeline at sigma 2 is not finite"):
        pipe(num_inference_steps=3)
    pipe.scheduler.set_timesteps(3)
    with pytest.raises(FloatingPointError, match="the sample that the network was given in the pipeline at sigma 157.* is not finite"):
        pipe.scheduler.step(torch.full((1, 3, 16, 16), torch.nan), 999, torch.full((1, 3, 16, 16), torch.nan))


def test_levels_that_the_network_does_not_know_are_refused():
    scheduler = DDIMScheduler(clip_sample=False)
    for first in (157.0, 1e9):  # of noise alone
        PlanScheduler.from_plans(fewstep.Plan.of_solver("euler", [first, 2.0]), scheduler)
    with pytest.raises(ValueError, match="at noise level 200, but it supports"):
        PlanScheduler.from_plans(fewstep.Plan.of_solver("euler", [1e9, 200.0, 2.0]), scheduler)
    with pytest.raises(ValueError, match="at noise level 0.001, but it supports"):
        PlanScheduler.from_plans(fewstep.Plan.of_solver("euler", [1e9, 0.001]), scheduler)
    described = json.loads(fewstep.Plan.of_solver("euler", [200.0, 2.0]).to_json())
    described["stages"][0]["input"]["latent"] *= 0.9
    with pytest.raises(ValueError, match="at noise level 200, but it supports"):
        PlanScheduler.from_plans(fewstep.Plan.from_json(json.dumps(described)), scheduler)


class Other(DDPMPipeline):
    """A pipeline whose call of the network tests change."""

    def told(self, time):
        return time

    def given(self, sample):
        return sample

    @torch.no_grad()
    def __call__(self, batch_size=1, num_inference_steps=1, words=None):
        assert words is None or len(words) == batch_size
        self.scheduler.set_timesteps(num_inference_steps)
        sample = torch.randn(batch_size, 3, 16, 16)
        for time in self.scheduler.timesteps:
            answer = self.unet(self.given(sample), self.told(time)).sample
            sample = self.scheduler.step(answer[:, :3], time, sample).prev_sample
        return sample


def test_networks_that_are_told_another_time():
    pipe = quiet_ddpm()
    for told in (lambda time: time, lambda time: time / 1000):
        other = Other(pipe.unet, pipe.scheduler)
        other.told = told
        assert PipelineDenoiser(other).count == 2
    other.told = lambda time: 1 - time / 1000
    with pytest.raises(ValueError, match="tells its network 0.5 and 0.75 at the scheduler's times 500 and 250"):
        PipelineDenoiser(other)


def test_networks_that_are_given_more_than_the_sample():
    pipe = quiet_ddpm()
    other = Other(pipe.unet, pipe.scheduler)
    other.given = lambda sample: torch.cat([sample, sample], 1)
    other.unet.conv_in = torch.nn.Conv2d(6, 8, 3, padding=1)
    with pytest.raises(ValueError, match=r"gives its network more than the sample: \[6, 16, 16\] for samples of \[3, 16, 16\]"):
        PipelineDenoiser(other)


def test_lists_among_arguments_go_by_sample():
    pipe = quiet_ddpm()
    other = Other(pipe.unet, pipe.scheduler)
    assert PipelineDenoiser(other, 3, arguments={"words": ["a", "b", "c"]}).count == 3


@pytest.mark.parametrize("samples", [1, 2])
def test_guidance_that_is_no_weighted_sum(samples):
    pipe, _, guidance, embeddings = stable_diffusion("epsilon")
    pipe.unet.eval()
    pipe.set_progress_bar_config(disable=True)
    arguments = {name: value[:samples] for name, value in embeddings.items()}
    assert PipelineDenoiser(pipe, arguments=arguments, **guidance).repeats == 2
    with pytest.raises(ValueError, match="guidance is no weighted sum of the network's answers, the same at all times"):
        PipelineDenoiser(pipe, arguments=arguments | {"guidance_rescale": 0.7}, **guidance)


@pytest.mark.parametrize("make", [ddpm, sd3])
def test_compiled_networks(make):
    pipe, of, guidance, arguments = make()
    pipe.set_progress_bar_config(disable=True)
    name = "unet" if make is ddpm else "transformer"
    network = getattr(pipe, name).eval()
    expected = PipelineDenoiser(pipe, of, arguments=arguments, **guidance)
    setattr(pipe, name, torch.compile(network, backend="eager"))
    found = PipelineDenoiser(pipe, of, arguments=arguments, **guidance)
    x = torch.randn(2, *expected.shape)
    with torch.no_grad():
        assert torch.allclose(found(x, 3.0, [0, 1]), expected(x, 3.0, [0, 1]), atol=1e-5)


def test_latents_are_no_images(monkeypatch):
    asked = []
    monkeypatch.setattr(fewstep.diffusers, "find_plans_on", lambda *_, **options: asked.append(options.get("images")) or fewstep.Plans([]))
    pipe = quiet_ddpm()
    find_plans(pipe)
    pipe.vqvae = torch.nn.Identity()
    find_plans(pipe)
    find_plans(pipe, images=True)
    assert asked == [None, False, True]


def test_flows_of_every_kind_begin_with_noise_alone():
    point = 0.7
    for velocity, sign in (("noise_minus_data", 1.0), ("data_minus_noise", -1.0)):
        for timestep, told in (("1000t", 1000.0), ("t", 1.0), ("1-t", 0.0)):
            flow = fewstep.Parameterisation.flow(timestep=timestep, velocity=velocity)
            c_skip, c_out, c_in, c_noise = Dress(flow, noise_alone=True)(999.0)
            state = 999.0 * torch.randn(5)
            answer = sign * (state * c_in - point)
            assert torch.allclose(state * c_skip + answer * c_out, torch.full((5,), point), atol=1e-6)
            assert c_noise == pytest.approx(told, abs=1e-12)
    with pytest.raises(ValueError, match="invert_sigmas=True counts its flow from noise to data"):
        fewstep.diffusers.parameterisation_of(FlowMatchEulerDiscreteScheduler(invert_sigmas=True))


def test_a_pipeline_in_half_precision():
    pipe = quiet_ddpm()
    plans = find_plans(pipe, steps=3, progress=False, held_out=0, **QUICK)
    ours = PlanScheduler.from_plans(plans, pipe.scheduler)
    made = []
    for dtype in (torch.float32, torch.bfloat16):
        pipe.unet.to(dtype)
        ours.set_timesteps(3)
        sample = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            for time in ours.timesteps:
                sample = ours.step(pipe.unet(sample.to(dtype), time).sample, time, sample.to(dtype)).prev_sample
        assert sample.dtype == dtype
        made.append(sample.float())
    assert float((made[1] - made[0]).abs().mean()) < 0.05 * float(made[0].abs().mean())
    assert PipelineDenoiser(pipe).dtype == torch.bfloat16
