"""What a pipeline passes to its network: what is recorded and replayed, and what cannot be."""

import pytest
import torch
from diffusers import ControlNetModel, DDPMPipeline, FlowMatchEulerDiscreteScheduler, StableDiffusionControlNetPipeline
from test_diffusers import QUICK, flux, noise, stable_diffusion
from test_diffusers_bad_input import Other, quiet_ddpm

import fewstep
from fewstep.diffusers import PipelineDenoiser, PlanScheduler, find_plans


def with_controlnet():
    pipe, _, guidance, embeddings = stable_diffusion("epsilon")
    torch.manual_seed(2)
    controlnet = ControlNetModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        in_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=4,
        conditioning_embedding_out_channels=(8,),
    )
    noise(controlnet)
    parts = {name: getattr(pipe, name) for name in ("vae", "unet", "scheduler")}
    nothing = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipe = StableDiffusionControlNetPipeline(controlnet=controlnet.eval(), requires_safety_checker=False, **parts, **nothing)
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.eval()
    return pipe, guidance, embeddings | {"image": torch.rand(2, 3, 8, 8), "height": 8, "width": 8}


def test_inputs_that_go_with_the_state_are_refused():
    pipe, guidance, arguments = with_controlnet()
    sentence = "gives its network down_block_additional_residuals, mid_block_additional_residual, which changes from step to step"
    with pytest.raises(ValueError, match=sentence):
        PipelineDenoiser(pipe, arguments=arguments, **guidance)
    # without residuals it is as any other
    assert PipelineDenoiser(pipe, arguments=arguments | {"controlnet_conditioning_scale": 0.0}, **guidance).repeats == 2


@pytest.mark.parametrize("of", ["state", "time"])
def test_an_input_of_any_kind_that_changes_is_refused(of):
    class Network(torch.nn.Module):
        def forward(self, sample, timestep, added=None):
            return (sample * added["by"][0],)

    class Pipe(DDPMPipeline):
        @torch.no_grad()
        def __call__(self, batch_size=1, num_inference_steps=1):
            self.scheduler.set_timesteps(num_inference_steps)
            sample = self.scheduler.init_noise_sigma * torch.ones(batch_size, 3, 16, 16)
            for time in self.scheduler.timesteps:
                by = float(sample.mean()) if of == "state" else float(time) if of == "time" else 2.0
                answer = self.unet(sample, time, added={"by": [by]})[0]
                sample = self.scheduler.step(answer, time, sample).prev_sample

    pipe = Pipe(quiet_ddpm().unet, quiet_ddpm().scheduler)
    pipe.unet = Network()
    with pytest.raises(ValueError, match="Pipe gives its network added, which changes from step to step"):
        PipelineDenoiser(pipe)
    of = "nothing"
    assert PipelineDenoiser(pipe).count == 2


class Conditional(DDPMPipeline):
    """A pipeline whose network is given a shift of every sample by a name that its forward does not have."""

    @torch.no_grad()
    def __call__(self, batch_size=1, num_inference_steps=1):
        self.scheduler.set_timesteps(num_inference_steps)
        sample = torch.randn(batch_size, 3, 16, 16)
        for time in self.scheduler.timesteps:
            answer = self.call(sample, time, torch.arange(1.0, batch_size + 1))
            sample = self.scheduler.step(answer, time, sample).prev_sample
        return sample


def conditional(forward, call):
    network = type("Network", (torch.nn.Module,), {"forward": forward})()
    pipe = Conditional(quiet_ddpm().unet, quiet_ddpm().scheduler)
    pipe.unet = network
    pipe.call = lambda sample, time, shift: call(network, sample, time, shift)
    return pipe


def shifted(sample, shift):
    return 0.1 * sample + shift[:, None, None, None]


FORWARDS = {
    "some": lambda self, sample, timestep, **kwargs: shifted(sample, kwargs["shift"]),
    "all": lambda self, **kwargs: shifted(kwargs["sample"], kwargs["shift"]),
    "a name of its own": lambda self, sample, timestep, kwargs: shifted(sample, kwargs),
}


@pytest.mark.parametrize("kind", FORWARDS)
def test_inputs_by_any_name_are_replayed(kind):
    name = "kwargs" if kind == "a name of its own" else "shift"
    pipe = conditional(FORWARDS[kind], lambda network, sample, time, shift: network(sample=sample, timestep=time, **{name: shift}))
    denoiser = PipelineDenoiser(pipe, 3)
    x, sigma = torch.randn(2, 3, 16, 16), 2.0
    c_skip, c_out, c_in, _ = denoiser.parameterisation.coefficients(sigma)
    expected = x * c_skip + c_out * shifted(x * c_in, torch.tensor([3.0, 1.0]))
    assert torch.allclose(denoiser(x, sigma, [2, 0]), expected, atol=1e-5)


def test_inputs_without_names_are_refused():
    def forward(self, *args):
        return shifted(args[0], args[2])

    pipe = conditional(forward, lambda network, *given: network(*given))
    with pytest.raises(ValueError, match="Network is called with inputs that its forward gives no names, .* with fewstep.find_plans"):
        PipelineDenoiser(pipe)


def test_a_call_that_is_answered_otherwise_when_it_is_replayed_is_refused():
    pipe = conditional(FORWARDS["some"], lambda network, sample, time, shift: network(sample, time, shift=shift))
    calls = []

    def forward(sample, timestep, shift):
        calls.append(len(sample))
        return shifted(sample, shift) + (len(calls) > 3)  # it was recorded three times

    pipe.unet.forward = forward
    with pytest.raises(ValueError, match="Conditional's call of its network cannot be replayed"):
        PipelineDenoiser(pipe)
    assert calls == [2, 2, 1, 2]


def test_halves_of_guidance_in_two_calls_are_refused():
    pipe, _, _, arguments = flux()
    pipe.set_progress_bar_config(disable=True)
    pipe.transformer.eval()
    negative = {f"negative_{name}": arguments[name] for name in ("prompt_embeds", "pooled_prompt_embeds")}
    with pytest.raises(ValueError, match="called its network 2 times in one step, .* with both halves of guidance .* with fewstep.find_plans"):
        PipelineDenoiser(pipe, arguments=arguments | negative | {"true_cfg_scale": 2.0})


def test_a_pipeline_that_makes_another_number_of_samples_is_refused():
    pipe = quiet_ddpm()
    other = Other(pipe.unet, pipe.scheduler)
    other.given = lambda sample: sample[:1]
    with pytest.raises(ValueError, match="Other was asked for 2 samples and gives its network 1: its call must go by"):
        PipelineDenoiser(other)


def test_prompts_are_read_once():
    class Prompted(Other):
        def __call__(self, prompt, num_inference_steps=1):
            return super().__call__(len(prompt), num_inference_steps)

    pipe = quiet_ddpm()
    assert PipelineDenoiser(Prompted(pipe.unet, pipe.scheduler), (text for text in ("a", "b", "c"))).count == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_search_knows_the_rounding_of_the_network(dtype, monkeypatch):
    told = []
    whole = fewstep._fewstep.find_plans
    monkeypatch.setattr(fewstep._fewstep, "find_plans", lambda *given: told.append(given[2]["rounding"]) or whole(*given))
    pipe = quiet_ddpm()
    pipe.unet.to(dtype)

    class Cast(Other):
        def given(self, sample):
            return sample.to(dtype)

    find_plans(Cast(pipe.unet, pipe.scheduler), steps=2, progress=False, held_out=0, **QUICK)
    assert told == [torch.finfo(dtype).eps / 2]


@pytest.mark.parametrize("times, told", [(1000, 1000.0), (1, 1.0)])
def test_flows_count_their_times_as_the_scheduler_does(times, told):
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=times)
    flow = fewstep.diffusers.parameterisation_of(scheduler)
    assert flow.coefficients(1.0)[3] == pytest.approx(told / 2)
    ours = PlanScheduler.from_plans(fewstep.Plan.of_solver("euler", [999.0, 1.0]), scheduler)
    assert ours.timesteps.tolist() == pytest.approx([told, told / 2])
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler with num_train_timesteps=100 counts a flow's times"):
        fewstep.diffusers.parameterisation_of(FlowMatchEulerDiscreteScheduler(num_train_timesteps=100))
