"""Two class-conditional models of Fashion-MNIST as people have them in diffusers: a U-Net that predicts the noise, a DiT that predicts a flow.

    python bench/python/fashion_models.py unet DATA OUT
    python bench/python/fashion_models.py dit DATA OUT

DATA is a folder with train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz (Debian: dataset-fashion-mnist). OUT becomes a folder that
`FashionPipeline.load` reads. Training takes less than an hour of two idle cores with bfloat16 instructions; run again, it goes on from the last
checkpoint. One label in ten is dropped, so that both can be guided.
"""

from __future__ import annotations

import gzip
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    ImagePipelineOutput,
    UNet2DModel,
)
from torch.nn import functional as F

CLASSES = 10
SIZE = 32
UPDATES = {"unet": 4000, "dit": 2600}
BATCH = 128
LEARNING_RATE = 1e-3
WARM_UP = 200
EMA = 0.999
DROPPED = 0.1
SAVE_EVERY = 60.0


def unet() -> UNet2DModel:
    return UNet2DModel(
        sample_size=SIZE,
        in_channels=1,
        out_channels=1,
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=32,
        norm_num_groups=8,
        num_class_embeds=CLASSES + 1,
    )


def dit() -> DiTTransformer2DModel:
    return DiTTransformer2DModel(
        sample_size=SIZE,
        in_channels=1,
        out_channels=1,
        patch_size=4,
        num_layers=8,
        num_attention_heads=6,
        attention_head_dim=32,
        num_embeds_ada_norm=CLASSES,
    )


class FashionPipeline(DiffusionPipeline):
    """Images `[N, 32, 32]` in [0, 1] of class labels, with classifier-free guidance; any scheduler of diffusers'."""

    _optional_components = ["unet", "transformer"]

    def __init__(self, scheduler, unet=None, transformer=None):
        super().__init__()
        self.register_modules(scheduler=scheduler, unet=unet, transformer=transformer)

    @staticmethod
    def load(folder: str | Path) -> FashionPipeline:
        if (Path(folder) / "unet").is_dir():
            return FashionPipeline(DDIMScheduler(), unet=UNet2DModel.from_pretrained(Path(folder) / "unet").eval())
        network = DiTTransformer2DModel.from_pretrained(Path(folder) / "transformer").eval()
        return FashionPipeline(FlowMatchEulerDiscreteScheduler(), transformer=network)

    @property
    def network(self):
        return self.transformer if self.unet is None else self.unet

    @torch.no_grad()
    def __call__(self, labels, num_inference_steps=50, guidance_scale=1.0, latents=None, generator=None):
        network, guided = self.network, guidance_scale != 1
        classes = torch.as_tensor(labels)
        x = latents if latents is not None else torch.randn(len(classes), 1, SIZE, SIZE, generator=generator)
        if guided:
            classes = torch.cat([classes, torch.full_like(classes, CLASSES)])
        self.scheduler.set_timesteps(num_inference_steps)
        x = x * getattr(self.scheduler, "init_noise_sigma", 1.0)
        for t in self.scheduler.timesteps:
            given = torch.cat([x, x]) if guided else x
            if hasattr(self.scheduler, "scale_model_input"):
                given = self.scheduler.scale_model_input(given, t)
            # in single precision, whatever the network computes in: some schedulers give their states the type of its answer
            answer = network(given, timestep=t.expand(len(given)), class_labels=classes).sample.float()
            if guided:
                with_label, without = answer.chunk(2)
                answer = without + guidance_scale * (with_label - without)
            x = self.scheduler.step(answer, t, x).prev_sample
        return ImagePipelineOutput(images=(x[:, 0] / 2 + 0.5).clamp(0, 1).numpy())


def data(folder: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images `[60000, 1, 32, 32]` as bytes, padded with black, and labels."""
    with gzip.open(Path(folder) / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(Path(folder) / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    edge = (SIZE - 28) // 2
    return F.pad(torch.from_numpy(images.copy()), (edge,) * 4), torch.from_numpy(labels.astype(np.int64))


def loss(kind: str, network, clean, labels, alphas, generator) -> torch.Tensor:
    noise = torch.randn(clean.shape, generator=generator)
    if kind == "unet":  # the DiT drops labels itself
        labels = torch.where(torch.rand(len(labels), generator=generator) < DROPPED, CLASSES, labels)
        t = torch.randint(len(alphas), (len(clean),), generator=generator)
        alpha = alphas[t].view(-1, 1, 1, 1)
        given, wanted = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, noise
    else:
        share = torch.sigmoid(torch.randn(len(clean), generator=generator))  # as SD3 draws times
        t, share = 1000 * share, share.view(-1, 1, 1, 1)
        given, wanted = (1 - share) * clean + share * noise, noise - clean
    with torch.autocast("cpu", torch.bfloat16):
        answer = network(given, timestep=t, class_labels=labels).sample
    return F.mse_loss(answer.float(), wanted)


def train(kind: str, folder: str, out: Path) -> None:
    images, labels = data(folder)
    torch.manual_seed(0)
    network, average = (unet(), unet()) if kind == "unet" else (dit(), dit())
    average.load_state_dict(network.state_dict())
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    generator = torch.Generator().manual_seed(0)
    alphas = DDIMScheduler().alphas_cumprod
    updates, losses = 0, []
    state = out / "state.pt"
    if state.exists():
        kept = torch.load(state, weights_only=True)
        network.load_state_dict(kept["network"])
        average.load_state_dict(kept["average"])
        optimizer.load_state_dict(kept["optimizer"])
        generator.set_state(kept["generator"])
        updates = kept["updates"]
    out.mkdir(parents=True, exist_ok=True)
    network.train()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"{kind}: {parameters / 1e6:.2f}M parameters, from update {updates}", flush=True)
    saved = time.monotonic()
    while True:
        done = updates / UPDATES[kind]
        if time.monotonic() - saved > SAVE_EVERY or done >= 1:
            saved = time.monotonic()
            values = {
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "generator": generator.get_state(),
                "updates": updates,
            }
            torch.save(values, state.with_suffix(".new"))
            state.with_suffix(".new").rename(state)
            print(f"{updates} updates, {100 * done:.0f} %, loss {np.mean(losses[-200:]):.4f}", flush=True)
        if done >= 1:
            break
        rate = LEARNING_RATE * min(1, (updates + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = torch.randint(len(images), (BATCH,), generator=generator)
        clean = images[chosen].float() / 127.5 - 1
        value = loss(kind, network, clean, labels[chosen], alphas, generator)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        updates += 1
        losses.append(value.item())
        kept = min(EMA, updates / (updates + 10))
        with torch.no_grad():
            for mean, now_is in zip(average.state_dict().values(), network.state_dict().values()):
                if mean.is_floating_point():
                    mean.lerp_(now_is, 1 - kept)
    average.save_pretrained(out / ("unet" if kind == "unet" else "transformer"))


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in UPDATES:
        sys.exit(__doc__)
    train(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
