"""PlanScheduler in real pipelines of diffusers, made offline from configurations with random weights."""

import inspect
import json
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)

import fewstep
from fewstep.diffusers import PipelineDenoiser, PlanScheduler, find_plans

STEPS = 4
# what the networks of these tests predict is nothing: any plan will do
QUICK = {"teacher": {"samples": 4, "grid": 8}, "least_squares": {"samples": 4}, "gauss_newton": {"samples": 2}}


def vae(channels=4):
    return AutoencoderKL(
        block_out_channels=(8,),
        norm_num_groups=4,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        latent_channels=channels,
        sample_size=16,
    )


def ddpm():
    unet = UNet2DModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    return DDPMPipeline(unet, DDPMScheduler(clip_sample=False)), None, {}, {}


def dit():
    transformer = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=1000,
    )
    noise(transformer)
    pipe = DiTPipeline(transformer, vae(), DDPMScheduler(clip_sample=False))
    return pipe, [3, 7, 9], {"guidance_scale": 3.0}, {}


def unet_with_text(**more):
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=4,
        **more,
    )
    return unet


def stable_diffusion(prediction_type):
    scheduler = DDPMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type=prediction_type,
        rescale_betas_zero_snr=prediction_type == "v_prediction",
        clip_sample=False,
        steps_offset=1,
    )
    pipe = StableDiffusionPipeline(
        vae=vae(),
        text_encoder=None,
        tokenizer=None,
        unet=unet_with_text(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    embeddings = {"prompt_embeds": torch.randn(2, 5, 12), "negative_prompt_embeds": torch.randn(2, 5, 12)}
    return pipe, None, {"guidance_scale": 4.0}, embeddings


def sdxl():
    unet = unet_with_text(
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=4 * 6 + 6
    )
    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1)
    pipe = StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet,
        scheduler=scheduler,
        add_watermarker=False,
    )
    embeddings = {
        "prompt_embeds": torch.randn(2, 5, 12),
        "negative_prompt_embeds": torch.randn(2, 5, 12),
        "pooled_prompt_embeds": torch.randn(2, 6),
        "negative_pooled_prompt_embeds": torch.randn(2, 6),
    }
    return pipe, None, {"guidance_scale": 5.0}, embeddings | {"height": 8, "width": 8}


def sd3():
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=12,
        caption_projection_dim=16,
        pooled_projection_dim=6,
        out_channels=4,
    )
    noise(transformer)
    pipe = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    embeddings = {
        "prompt_embeds": torch.randn(2, 5, 12),
        "negative_prompt_embeds": torch.randn(2, 5, 12),
        "pooled_prompt_embeds": torch.randn(2, 6),
        "negative_pooled_prompt_embeds": torch.randn(2, 6),
    }
    return pipe, None, {"guidance_scale": 3.5}, embeddings | {"height": 8, "width": 8}


def flux():
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=12,
        pooled_projection_dim=6,
        axes_dims_rope=[4, 4, 8],
    )
    noise(transformer)
    pipe = FluxPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
    )
    embeddings = {"prompt_embeds": torch.randn(2, 5, 12), "pooled_prompt_embeds": torch.randn(2, 6)}
    return pipe, None, {}, embeddings | {"height": 8, "width": 8}


def noise(network):
    """Weights that are 0 when new would hide a wrong condition or time."""
    with torch.no_grad():
        for weight in network.parameters():
            if float(weight.abs().max()) == 0:
                weight.normal_(std=0.05)


PIPELINES = {
    "ddpm": ddpm,
    "dit": dit,
    "sd": lambda: stable_diffusion("epsilon"),
    "sd-v": lambda: stable_diffusion("v_prediction"),
    "sdxl": sdxl,
    "sd3": sd3,
    "flux": flux,
}


@pytest.fixture(scope="module", params=list(PIPELINES))
def case(request):
    torch.manual_seed(1)
    pipe, of, guidance, arguments = PIPELINES[request.param]()
    pipe.set_progress_bar_config(disable=True)
    (pipe.unet if hasattr(pipe, "unet") else pipe.transformer).eval()
    denoiser = PipelineDenoiser(pipe, of, **guidance, arguments=arguments)
    return request.param, pipe, of, guidance, arguments, denoiser


def run(case, scheduler, latents, steps=STEPS):
    """What the unmodified pipeline makes of these latents, before any decoder."""
    name, pipe, of, guidance, arguments, denoiser = case
    before, pipe.scheduler = pipe.scheduler, scheduler
    call = dict(num_inference_steps=steps, **guidance, **arguments)
    if of is not None:
        call["class_labels"] = of
    seen = []
    step = scheduler.step

    def spy(*args, **kwargs):
        made = step(*args, **kwargs)
        seen.append(made[0] if isinstance(made, tuple) else made.prev_sample)
        return made

    scheduler.step = spy
    try:
        if name in ("ddpm", "dit"):  # these draw their own noise
            module = diffusers.pipelines.ddpm.pipeline_ddpm if name == "ddpm" else diffusers.pipelines.dit.pipeline_dit
            draw, module.randn_tensor = module.randn_tensor, lambda *_, **__: latents.clone()
            try:
                pipe(**call, output_type="np", **({"batch_size": len(latents)} if name == "ddpm" else {}))
            finally:
                module.randn_tensor = draw
        else:
            pipe(**call, latents=latents.clone(), output_type="latent")
    finally:
        del scheduler.step
        pipe.scheduler = before
    return seen[-1][: len(latents)]


def latents_of(case):
    denoiser = case[-1]
    return torch.randn(denoiser.count, *denoiser.shape, generator=torch.Generator().manual_seed(5))


def close(a, b, tolerance=1e-4):
    return float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


def test_images_are_those_of_the_plan(case):
    name, pipe, of, guidance, arguments, denoiser = case
    plans = find_plans(pipe, of, steps=[STEPS, 6], arguments=arguments, progress=False, held_out=0, **guidance, **QUICK)
    latents = latents_of(case)
    scheduler = PlanScheduler.from_plans(plans, pipe.scheduler)
    for steps in (STEPS, 6):
        assert denoiser.scales_input or plans[steps].begins_with_noise_alone
        expected = plans[steps].sample(denoiser, latents, list(range(denoiser.count)))
        assert close(run(case, scheduler, latents, steps), expected, 2e-5)


def euler_of(case):
    """diffusers' own Euler for the pipeline, and the noise levels that it has for so many steps."""
    name, pipe, *_, denoiser = case
    if denoiser.parameterisation.is_flow:
        theirs = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config)
        times = torch.linspace(1, 1 / STEPS, STEPS, dtype=torch.float64)  # what FLUX's pipeline passes
        if name == "sd3":
            theirs.set_timesteps(STEPS)
            times = theirs.sigmas[:STEPS].double()
        return theirs, [1e9, *(float(t / (1 - t)) for t in times[1:])]  # t = 1 is noise alone
    if name in ("ddpm", "dit"):
        # these pipelines pass on states that schedulers scale by themselves: DDIM, which is Euler
        theirs = DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing", clip_sample=False)
        theirs.set_timesteps(STEPS)
        alphas = theirs.alphas_cumprod[theirs.timesteps].double()
        return theirs, ((1 - alphas) / alphas).sqrt().tolist()
    theirs = EulerDiscreteScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
    theirs.set_timesteps(STEPS)
    return theirs, theirs.sigmas[:STEPS].double().tolist()


def test_euler_is_diffusers_own(case):
    theirs, sigmas = euler_of(case)
    ours = PlanScheduler.from_plans(fewstep.Plan.of_solver("euler", sigmas), case[1].scheduler)
    latents = latents_of(case)
    assert close(run(case, ours, latents), run(case, theirs, latents))


def test_saved_and_loaded_with_the_pipeline(case, tmp_path):
    name, pipe, *_ = case
    plan = fewstep.Plan.of_solver("euler", [10.0, 2.0, 0.5])
    scheduler = PlanScheduler.from_plans(plan, pipe.scheduler)
    scheduler.save_pretrained(tmp_path)
    loaded = PlanScheduler.from_pretrained(tmp_path)
    assert loaded.config.plans == scheduler.config.plans
    loaded.set_timesteps(3)
    scheduler.set_timesteps(3)
    assert torch.equal(loaded.timesteps, scheduler.timesteps)
    if name == "ddpm":
        before, pipe.scheduler = pipe.scheduler, scheduler
        pipe.save_pretrained(tmp_path / "pipe")
        pipe.scheduler = before
        again = DDPMPipeline.from_pretrained(tmp_path / "pipe")
        assert isinstance(again.scheduler, PlanScheduler)
        assert json.loads((tmp_path / "pipe" / "model_index.json").read_text())["scheduler"][1] == "PlanScheduler"


def test_what_cannot_be_is_said(case):
    _, pipe, *_ = case
    scheduler = PlanScheduler.from_plans(fewstep.Plan.of_solver("euler", [10.0, 2.0, 0.5]), pipe.scheduler)
    with pytest.raises(ValueError, match="asked for 5 steps and has plans of 3: pass one of these as num_inference_steps"):
        scheduler.set_timesteps(5)
    with pytest.raises(ValueError, match="image-to-image"):
        scheduler.set_begin_index(2)

    class Nothing:
        pass

    with pytest.raises(ValueError, match="no unet or transformer"):
        find_plans(Nothing(), ["a"])
    _, pipe, of, guidance, arguments, _ = case
    slip = {**arguments, "output_typ": "latent"}
    if "kwargs" in inspect.signature(pipe.__call__).parameters:  # those of Stable Diffusion take anything
        with pytest.warns(UserWarning, match="names no argument 'output_typ', which may be lost: did you mean 'output_type'") as warned:
            find_plans(pipe, of, steps=2, arguments=slip, progress=False, held_out=0, **guidance, **QUICK)
        assert len(warned) == 1 and warned[0].filename == __file__
    else:
        with pytest.raises(ValueError, match="takes no argument 'output_typ': did you mean 'output_type'"):
            find_plans(pipe, of, arguments=slip, **guidance)


def test_only_dropout_minds_training_mode():
    pipe, *_ = ddpm()
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.train()
    assert PipelineDenoiser(pipe).count == 2  # its dropouts drop nothing
    dropout = next(module for module in pipe.unet.modules() if isinstance(module, torch.nn.Dropout))
    dropout.p = 0.1
    with pytest.raises(ValueError, match="UNet2DModel is in training mode, with dropout: call its eval"):
        PipelineDenoiser(pipe)
    pipe.unet.eval()
    assert PipelineDenoiser(pipe).count == 2


def test_arguments_that_a_call_takes_by_any_name_are_passed_on():
    class Anything(DDPMPipeline):
        def __call__(self, batch_size=1, num_inference_steps=1, **kwargs):
            assert kwargs == {"anything": 3}
            return super().__call__(batch_size, num_inference_steps=num_inference_steps)

    pipe, *_ = ddpm()
    pipe = Anything(pipe.unet.eval(), pipe.scheduler)
    assert PipelineDenoiser(pipe, arguments={"anything": 3}).count == 2


@pytest.mark.parametrize("clips", ["clip_sample", "thresholding"])
def test_schedulers_that_clip_are_warned_of(clips):
    pipe, *_ = ddpm()
    pipe.unet.eval()
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler(**{"clip_sample": False, clips: True})
    with pytest.warns(UserWarning, match=f"DDIMScheduler clips .*you set {clips}=False in it") as warned:
        plans = find_plans(pipe, steps=2, progress=False, held_out=0, **QUICK)
    assert len(warned) == 1 and warned[0].filename == __file__
    with pytest.warns(UserWarning, match="DDIMScheduler clips") as warned:
        PlanScheduler.from_plans(plans, pipe.scheduler)
    assert len(warned) == 1 and warned[0].filename == __file__


@pytest.mark.parametrize(
    "before, names",
    [
        (
            DDIMScheduler(
                beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction", clip_sample=False
            ),
            ["beta_start", "beta_end", "beta_schedule", "prediction_type", "clip_sample"],
        ),
        (DDPMScheduler(trained_betas=[0.1, 0.2, 0.3], clip_sample=False, variance_type="learned"), ["trained_betas", "variance_type"]),
        (FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=False), ["shift", "use_dynamic_shifting"]),
    ],
    ids=["ddim", "ddpm", "flow"],
)
def test_the_scheduler_that_was_replaced_comes_back_from_the_configuration(before, names, tmp_path, caplog):
    logger = diffusers.utils.logging.get_logger("diffusers")
    logger.propagate = True  # what from_config warns of is logged
    plan = fewstep.Plan.of_solver("euler", [10.0, 0.9, 0.5])
    ours = PlanScheduler.from_plans(plan, before)
    ours.save_pretrained(tmp_path)
    loaded = PlanScheduler.from_pretrained(tmp_path)
    for scheduler in (ours, loaded, PlanScheduler.from_config(loaded.config), PlanScheduler.from_plans(plan, loaded)):
        again = type(before).from_config(scheduler.config)
        assert {name: again.config[name] for name in names} == {name: before.config[name] for name in names}
        assert "plans" not in again.config
        if hasattr(before, "alphas_cumprod"):
            assert torch.equal(again.alphas_cumprod, before.alphas_cumprod)
        scheduler.set_timesteps(3)
        assert scheduler.config.plans == ours.config.plans and torch.equal(scheduler.timesteps, ours.timesteps)
    with pytest.raises(ValueError, match="holds no plans: use PlanScheduler.from_plans"):
        PlanScheduler.from_config(before.config)
    if isinstance(before, DDIMScheduler):
        other = EulerDiscreteScheduler.from_config(loaded.config)
        assert other.config.beta_schedule == "scaled_linear"
    assert not caplog.records, caplog.text


def test_a_scheduler_is_shown_in_a_line():
    plans = [fewstep.Plan.of_solver("euler", levels) for levels in ([10.0, 2.0, 0.5], [10.0, 1.0])]
    assert repr(PlanScheduler.from_plans(plans, FlowMatchEulerDiscreteScheduler())) == "PlanScheduler(plans of 2, 3 evaluations, flow)"
    assert repr(PlanScheduler.from_plans(plans, DDIMScheduler(clip_sample=False))) == "PlanScheduler(plans of 2, 3 evaluations, eps)"


@pytest.mark.parametrize("constant", [True, False])
def test_another_size_than_the_plan_was_made_for_is_refused(constant):
    pipe, _, guidance, embeddings = stable_diffusion("epsilon")
    pipe.unet.eval()
    pipe.set_progress_bar_config(disable=True)
    settings = {**QUICK, "least_squares": {"samples": 4, "constant": constant}}
    plans = find_plans(pipe, arguments=embeddings, steps=2, progress=False, held_out=0, **guidance, **settings)
    pipe.scheduler = PlanScheduler.from_plans(plans, pipe.scheduler)
    call = dict(num_inference_steps=2, output_type="latent", **guidance, **embeddings)
    assert len(pipe(**call).images) == 2
    size = 2 * pipe.unet.config.sample_size * pipe.vae_scale_factor
    with pytest.raises(ValueError, match="for samples of shape .4, 8, 8., the latents are of .4, 16, 16.: a plan holds for one shape"):
        pipe(height=size, width=size, **call)


@pytest.mark.parametrize("kind", ["unet", "dit"])
def test_pipelines_of_others_may_call_their_classes_labels(kind, monkeypatch):
    """Those of bench/python, which call their classes `labels` and guide by a class of their own."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "bench/python"))
    import fashion_models

    torch.manual_seed(0)
    network = getattr(fashion_models, kind)().eval()
    noise(network)
    scheduler, name = (DDIMScheduler(clip_sample=False), "unet") if kind == "unet" else (FlowMatchEulerDiscreteScheduler(), "transformer")
    pipe = fashion_models.FashionPipeline(scheduler, **{name: network})
    labels = [3, 7, 9]
    denoiser = PipelineDenoiser(pipe, labels, guidance_scale=3.0)
    assert denoiser.repeats == 2
    x, sigma = torch.randn(3, 1, 32, 32), torch.tensor(1.5)
    with torch.no_grad():
        of = lambda classes: denoiser.parameterisation.denoiser(
            lambda x, t: network(x, timestep=t, class_labels=torch.as_tensor(classes)).sample
        )(x, sigma)
        expected = 3 * of(labels) - 2 * of([10] * 3)
        found = denoiser(x, sigma, [0, 1, 2])
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()

    plan = fewstep.Plan.of_solver("dpmpp2m", [denoiser.parameterisation.sigma_range[1], 4.0, 1.0, 0.3])
    pipe.scheduler = PlanScheduler.from_plans(plan, scheduler)
    pipe.set_progress_bar_config(disable=True)
    latents = latents_of((denoiser,))
    made = pipe(labels, 4, 3.0, latents=latents.clone()).images
    expected = (plan.sample(denoiser, latents, [0, 1, 2])[:, 0] / 2 + 0.5).clamp(0, 1)
    assert 0.05 < float(expected.std()) and (torch.as_tensor(made).reshape(expected.shape) - expected).abs().max() < 1e-4
    pipe.scheduler = scheduler

    class Unlabelled(fashion_models.FashionPipeline):
        def __call__(self, kinds, num_inference_steps=1):
            return super().__call__(kinds, num_inference_steps)

    with pytest.raises(ValueError, match="takes no class labels: its arguments are kinds, num_inference_steps, and none is called class_labels or"):
        PipelineDenoiser(Unlabelled(scheduler, **{name: network}), labels)
