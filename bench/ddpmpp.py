"""The DDPM++ denoiser of Karras et al. 2022 (EDM preconditioning) in plain eager PyTorch.

The yardstick for `bench/compare_pytorch.py`: the same layers, names and shapes as fewstep's
network, written the way a PyTorch user would.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class Norm(nn.GroupNorm):
    def __init__(self, channels):
        super().__init__(min(32, channels // 4), channels, eps=1e-6)


class Block(nn.Module):
    """Residual U-Net block: two 3x3 convolutions, adaptive shift from the noise embedding, optional attention."""

    def __init__(self, c_in, c_out, emb, up=False, down=False, attention=False, dropout=0.13):
        super().__init__()
        self.up, self.down, self.attention, self.dropout = up, down, attention, dropout
        self.norm0 = Norm(c_in)
        self.conv0 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.affine = nn.Linear(emb, c_out)
        self.norm1 = Norm(c_out)
        self.conv1 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out or up or down else None
        if attention:
            self.norm2 = Norm(c_out)
            self.qkv = nn.Conv2d(c_out, 3 * c_out, 1)
            self.proj = nn.Conv2d(c_out, c_out, 1)

    def resample(self, x):
        if self.up:
            return F.interpolate(x, scale_factor=2, mode="nearest")
        return F.avg_pool2d(x, 2) if self.down else x

    def forward(self, x, emb):
        h = self.conv0(self.resample(F.silu(self.norm0(x))))
        h = F.silu(self.norm1(h + self.affine(emb)[:, :, None, None]))
        h = self.conv1(F.dropout(h, self.dropout, self.training))
        skip = self.resample(x)
        x = (h + (self.skip(skip) if self.skip is not None else skip)) * math.sqrt(0.5)
        if self.attention:
            n, c, height, width = x.shape
            q, k, v = self.qkv(self.norm2(x)).reshape(n, c, 3, height * width).unbind(2)
            w = torch.softmax(torch.einsum("ncq,nck->nqk", q, k / math.sqrt(self.proj.in_channels)), dim=2)
            a = torch.einsum("nqk,nck->ncq", w, v)
            x = (self.proj(a.reshape(n, c, height, width)) + x) * math.sqrt(0.5)
        return x


class Denoiser(nn.Module):
    """D(x; sigma): EDM preconditioning around the U-Net. x: [N, C, H, W], sigma: [N]."""

    def __init__(self, resolution=32, channels=1, model_channels=32, channel_mult=(1, 2, 2), num_blocks=2,
                 attn_resolutions=(8,), dropout=0.13, sigma_data=0.5):
        super().__init__()
        self.sigma_data, self.model_channels = sigma_data, model_channels
        emb = model_channels * 4
        self.map0, self.map1 = nn.Linear(model_channels, emb), nn.Linear(emb, emb)
        self.enc, self.dec = nn.ModuleList(), nn.ModuleList()
        c, skips = model_channels, [model_channels]
        self.enc.append(nn.Conv2d(channels, c, 3, padding=1))
        for level, mult in enumerate(channel_mult):
            attention = (resolution >> level) in attn_resolutions
            if level > 0:
                self.enc.append(Block(c, c, emb, down=True, dropout=dropout))
                skips.append(c)
            for _ in range(num_blocks):
                self.enc.append(Block(c, model_channels * mult, emb, attention=attention, dropout=dropout))
                c = model_channels * mult
                skips.append(c)
        for level in reversed(range(len(channel_mult))):
            attention = (resolution >> level) in attn_resolutions
            if level == len(channel_mult) - 1:
                self.dec.append(Block(c, c, emb, attention=True, dropout=dropout))
                self.dec.append(Block(c, c, emb, dropout=dropout))
            else:
                self.dec.append(Block(c, c, emb, up=True, dropout=dropout))
            for index in range(num_blocks + 1):
                c_out = model_channels * channel_mult[level]
                last = index == num_blocks
                block = Block(c + skips.pop(), c_out, emb, attention=attention and last, dropout=dropout)
                block.takes_skip = True
                self.dec.append(block)
                c = c_out
        self.out_norm, self.out_conv = Norm(c), nn.Conv2d(c, channels, 3, padding=1)
        freqs = 10000 ** -(torch.arange(model_channels // 2) / (model_channels // 2 - 1))
        self.register_buffer("freqs", freqs, persistent=False)

    def forward(self, x, sigma):
        s = sigma[:, None, None, None]
        total = s**2 + self.sigma_data**2
        out = self.network(x / total.sqrt(), sigma.log() / 4).float()
        return self.sigma_data**2 / total * x + s * self.sigma_data / total.sqrt() * out

    def network(self, h, noise):
        """The raw network F(c_in x; c_noise)."""
        emb = noise[:, None] * self.freqs
        emb = torch.cat([emb.sin(), emb.cos()], dim=1)
        emb = F.silu(self.map1(F.silu(self.map0(emb))))
        skips = []
        for block in self.enc:
            h = block(h, emb) if isinstance(block, Block) else block(h)
            skips.append(h)
        for block in self.dec:
            if getattr(block, "takes_skip", False):
                h = torch.cat([h, skips.pop()], dim=1)
            h = block(h, emb)
        return self.out_conv(F.silu(self.out_norm(h)))
