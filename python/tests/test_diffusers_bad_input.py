"""Pipelines and schedulers of diffusers that are given what cannot be, or what is easy to get wrong."""

import copy
import pickle
import subprocess
import sys
import textwrap

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from test_diffusers import QUICK, ddpm

import fewstep
from fewstep._recording import Probe
from fewstep.diffusers import PlanScheduler, find_plans


def quiet_ddpm():
    torch.manual_seed(0)
    pipe, *_ = ddpm()
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.eval()
    return pipe


def test_a_saved_pipeline_is_loaded_in_a_new_process(tmp_path):
    pipe = quiet_ddpm()
    pipe.scheduler = PlanScheduler.from_plans(fewstep.Plan.of_solver("euler", [10.0, 2.0]), pipe.scheduler)
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


@pytest.mark.parametrize("in_place", [True, False])
def test_a_sample_that_is_changed_on_the_way_counts(in_place):
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
        with pytest.raises(ValueError, match="noise alone"):
            refused.add_noise(torch.zeros(1), torch.zeros(1), torch.zeros(1))
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
        with pytest.raises(TypeError, match="a scheduler of diffusers says how its networks predict, and .* is none"):
            PlanScheduler.from_plans(plans, other)
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
